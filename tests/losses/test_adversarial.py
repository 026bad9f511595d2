"""The gradient reversal, and what a head that names people loses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.errors import UsageError
from facebench.losses import adversarial


@pytest.mark.parametrize("scale", [2.0, 0.5, 0.0, -1.0])
def test_forward_is_the_identity_and_the_gradient_comes_back_times_minus_scale(scale):
    x = jnp.asarray([[1.0, -2.0], [0.5, 3.0]])
    weight = jnp.asarray([[3.0, 1.0], [-1.0, 2.0]])

    @jax.jit
    def loss(x):
        return (weight * adversarial.gradient_reversal(x, scale) ** 2).sum()

    np.testing.assert_array_equal(adversarial.gradient_reversal(x, scale), x)
    value, gradient = jax.value_and_grad(loss)(x)
    assert value == (weight * x**2).sum()
    np.testing.assert_allclose(gradient, -scale * 2 * weight * x, rtol=1e-6)


def test_the_head_learns_and_the_features_unlearn():
    """One step down the gradient: less loss by the head's own change, more by the features'."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 5)).astype(np.float32)
    who = jnp.asarray(np.arange(12) % 3)
    params = {
        "features": rng.normal(size=(5, 4)).astype(np.float32),
        "head": rng.normal(size=(4, 3)).astype(np.float32),
    }

    def loss(params):
        features = adversarial.gradient_reversal(x @ params["features"], 1.5)
        return adversarial.identity_loss(features @ params["head"], who, "softmax").mean()

    before, gradient = jax.value_and_grad(loss)(params)
    stepped = {k: params[k] - 1e-3 * gradient[k] for k in params}
    assert loss(params | {"head": stepped["head"]}) < before
    assert loss(params | {"features": stepped["features"]}) > before


def test_identity_losses_by_hand():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [3.0, 0.0, 0.0]])
    who = np.array([0, 2, -1, 3])  # the last two are not among the three
    bce = adversarial.identity_loss(logits, who)
    p = 1 / (1 + np.exp(-logits))
    first = -(np.log(p[0, 0]) + np.log(1 - p[0, 1]) + np.log(1 - p[0, 2])) / 3
    np.testing.assert_allclose(bce, [first, np.log(2), 0, 0], rtol=1e-6)
    softmax = adversarial.identity_loss(logits, who, "softmax")
    first = np.log(np.exp(logits[0]).sum()) - 2.0
    np.testing.assert_allclose(softmax, [first, np.log(3), 0, 0], rtol=1e-6)
    with pytest.raises(UsageError, match=r"identity_loss is 'softmx': did you mean 'softmax'"):
        adversarial.identity_loss(logits, who, "softmx")
