"""Initialisers against Flax's, which draw with all axes."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import linen as nn

from facebench.models import layers

scaling = nn.initializers.variance_scaling


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (5, 7), (3, 3, 1, 6)])
@pytest.mark.parametrize(
    ("ours", "flax"),
    [
        (layers.flat(nn.initializers.normal(0.1)), nn.initializers.normal(0.1)),
        (
            layers.flat(nn.initializers.truncated_normal(0.02)),
            nn.initializers.truncated_normal(0.02),
        ),
        (layers.he_fan_out, scaling(2.0, "fan_out", "normal")),
        (layers.torch_default, scaling(1 / 3, "fan_in", "uniform")),
    ],
)
def test_initialisers_draw_the_numbers_of_flax(ours, flax, shape):
    key = jax.random.key(3)
    np.testing.assert_allclose(ours(key, shape), flax(key, shape), rtol=1e-6)
