"""MobileFaceNet against insightface's net."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models
from facebench.errors import UsageError
from facebench.models import weights
from facebench.models.mobilefacenet import MobileFaceNet, torch_names


@pytest.mark.parametrize(
    ("variant", "parameters", "keys"), [("mbf", 2_059_520, 333), ("mbf_large", 6_314_880, None)]
)
def test_sizes_are_the_published_ones(published, variant, parameters, keys):
    net = MobileFaceNet(variant)
    found = published(net, torch_names(net))
    assert found.count() == parameters
    assert keys in (None, found.keys())


def test_the_second_convolution_is_grouped_and_not_depthwise(published):
    found = published(MobileFaceNet(), torch_names(MobileFaceNet()))
    assert found.variables["params/layer1/conv/kernel"].shape == (3, 3, 2, 128)


def test_equals_the_published_net(oracles, evaluate, near):
    from safetensors.numpy import load_file

    vectors = np.load(oracles / "models/mobilefacenet_f128.npz")
    net = MobileFaceNet(dim=128)
    state = load_file(oracles / "models/mobilefacenet_f128.safetensors")
    got = evaluate(net, weights.import_torch(net, state, 112), vectors["in_x"])
    near(got["embedding"], vectors["out"], 2e-5)
    np.testing.assert_allclose(got["pooled"], got["spatial"].mean((1, 2)), rtol=1e-4)


def test_an_odd_size_bfloat16_and_a_wrong_name():
    net = MobileFaceNet(dtype=jnp.bfloat16, dim=16)
    assert models.check_backbone(net, 47)["spatial"].shape == (2, 3, 3, 512)
    with pytest.raises(UsageError, match="did you mean 'mbf_large'"):
        models.check_backbone(MobileFaceNet("mbf_larg"), 112)
