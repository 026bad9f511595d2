"""The backbone contract: names, shapes, what a head reads."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from facebench import models
from facebench.errors import FacebenchError, UsageError


class Net(nn.Module):
    """A backbone that can be told to break the contract."""

    outputs: tuple[tuple[str, tuple[int, ...], str], ...] = (
        ("pooled", (2, 5), "float32"),
        ("spatial", (2, 3, 4, 6), "float32"),
    )
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, image, *, train: bool):
        self.param("w", nn.initializers.zeros_init(), (3,), jnp.dtype(self.param_dtype))
        return {name: jnp.zeros(shape, dtype) for name, shape, dtype in self.outputs}


class NoTrain(nn.Module):
    @nn.compact
    def __call__(self, image):
        return {}


class Tuple(nn.Module):
    @nn.compact
    def __call__(self, image, *, train: bool):
        return image.mean((1, 2)), image


SIZES = {"inception_resnet": (96, 160), "swin": (112, 224)}  # px, of nets that take few sizes


@pytest.mark.parametrize("name", sorted(models.BUILT_IN))
@pytest.mark.parametrize("which", [0, 1])
def test_built_in_backbones_keep_the_contract(name, which):
    size = SIZES.get(name, (64, 112))[which]
    outputs = models.check_backbone(models.build(name), size)
    assert outputs["pooled"].shape[0] == outputs["spatial"].shape[0] == 2


def test_build_fills_fields_and_names_what_is_mistyped():
    assert models.build("vit", {"depth": 2}).depth == 2
    with pytest.raises(UsageError, match="did you mean 'convnet'"):
        models.build("convnett")
    with pytest.raises(UsageError, match="did you mean 'depth'"):
        models.build("vit", {"dept": 2})


def test_a_backbone_in_a_file_of_ones_own(tmp_path):
    (tmp_path / "net.py").write_text(
        "import flax.linen as nn\n"
        "class Net(nn.Module):\n"
        "    width: int = 8\n"
        "    @nn.compact\n"
        "    def __call__(self, image, *, train):\n"
        "        x = nn.Conv(self.width, (4, 4), strides=(4, 4))(image)\n"
        "        return {'pooled': x.mean((1, 2)), 'spatial': x}\n"
    )
    outputs = models.check_backbone(models.build("net.py:Net", {"width": 3}, tmp_path), 16)
    assert outputs["pooled"].shape == (2, 3)
    assert outputs["spatial"].shape == (2, 4, 4, 3)


def test_pooled_and_spatial_may_differ_in_width():
    assert set(models.check_backbone(Net(), 8)) == {"pooled", "spatial"}


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ((("pooled", (2, 5), "float32"),), "no 'spatial'"),
        ((("spatial", (2, 1, 1, 5), "float32"),), "no 'pooled'"),
        ((("pooled", (2, 5, 1), "float32"), ("spatial", (2, 1, 1, 5), "float32")), r"\[2, 5, 1\]"),
        ((("pooled", (1, 5), "float32"), ("spatial", (2, 1, 1, 5), "float32")), "batch of 2"),
        ((("pooled", (2, 5), "float32"), ("spatial", (2, 5), "float32")), r"\[B, h, w, D\]"),
        ((("pooled", (2, 5), "bfloat16"), ("spatial", (2, 1, 1, 5), "float32")), "bfloat16"),
    ],
)
def test_check_backbone_names_what_is_wrong(outputs, message):
    with pytest.raises(FacebenchError, match=message):
        models.check_backbone(Net(outputs=outputs), 8)


def test_check_backbone_names_parameters_that_are_not_float32():
    with pytest.raises(FacebenchError, match=r"'w'.*bfloat16"):
        models.check_backbone(Net(param_dtype="bfloat16"), 8)


def test_check_backbone_names_a_call_that_fails():
    with pytest.raises(FacebenchError, match=r"NoTrain.*train"):
        models.check_backbone(NoTrain(), 8)
    with pytest.raises(FacebenchError, match="returns a tuple"):
        models.check_backbone(Tuple(), 8)


def test_features_flatten_the_map_row_by_row():
    rng = np.random.default_rng(0)
    pooled, spatial = rng.normal(size=(2, 3)), rng.normal(size=(2, 2, 4, 5))
    outputs = {"pooled": jnp.asarray(pooled), "spatial": jnp.asarray(spatial)}
    flat = models.features(outputs, "spatial")
    assert flat.shape == (2, 40)
    assert flat[1, (1 * 4 + 2) * 5 + 3] == np.float32(spatial[1, 1, 2, 3])
    both = models.features(outputs, "both")
    np.testing.assert_array_equal(both[:, :3], models.features(outputs, "pooled"))
    np.testing.assert_array_equal(both[:, 3:], flat)
    with pytest.raises(UsageError, match="did you mean 'spatial'"):
        models.features(outputs, "spatal")


def test_an_embedding_is_read_of_a_net_that_has_one():
    outputs = {"pooled": jnp.ones((2, 3)), "spatial": jnp.ones((2, 1, 1, 3))}
    embedding = jnp.arange(8.0).reshape(2, 4)
    got = models.features({**outputs, "embedding": embedding}, "embedding")
    np.testing.assert_array_equal(got, embedding)
    with pytest.raises(UsageError, match=r"returns only \['pooled', 'spatial'\]"):
        models.features(outputs, "embedding")


def test_features_are_float32_for_a_backbone_in_another_dtype():
    outputs = {"pooled": jnp.ones((1, 2), jnp.bfloat16), "spatial": jnp.ones((1, 1, 1, 2))}
    assert models.features(outputs, "pooled").dtype == jnp.float32


def test_parameter_count_of_arrays_and_of_shapes():
    tree = {"a": jnp.zeros((2, 3)), "b": {"c": jax.ShapeDtypeStruct((5,), jnp.float32)}}
    assert models.parameter_count(tree) == 11


def test_tables_of_names_and_scores_start_no_jax():
    code = (
        "import sys, facebench.models, facebench.tasks, facebench.tasks.scores, facebench.probes;"
        "import facebench.probes.closed_form;"
        "print([m for m in ('jax', 'flax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
