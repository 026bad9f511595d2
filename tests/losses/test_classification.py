"""Classification losses against loops, limits and their gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.losses import classification as losses


def test_binary_cross_entropy_by_a_loop():
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(5, 7)), rng.integers(0, 2, (5, 7)).astype(float)
    known = rng.random((5, 7)) < 0.6
    known[3] = False
    label[~known] = np.nan
    found = losses.binary_cross_entropy(*map(jnp.asarray, (logits, label, known)))
    for b in range(5):
        costs = []
        for a in np.flatnonzero(known[b]):
            p = 1 / (1 + np.exp(-logits[b, a]))
            costs.append(-(label[b, a] * np.log(p) + (1 - label[b, a]) * np.log(1 - p)))
        assert found[b] == pytest.approx(np.mean(costs) if costs else 0.0, rel=1e-5)


def test_binary_cross_entropy_is_finite_and_pulls_by_p_minus_y():
    logits = jnp.asarray([[-1e4, -30.0, 0.0, 30.0, 1e4]])
    label, known = jnp.asarray([[1.0, 0, 1, 0, 1]]), jnp.ones((1, 5))
    value, gradient = jax.value_and_grad(
        lambda x: losses.binary_cross_entropy(x, label, known).sum()
    )(logits)
    assert value == pytest.approx((1e4 + 0 + np.log(2) + 30 + 0) / 5, rel=1e-5)
    probability = np.array([0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(gradient[0], (probability - label[0]) / 5, atol=1e-6)


def test_squared_error():
    value = jnp.asarray([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    target = jnp.asarray([[0.0, jnp.nan, 5.0], [jnp.nan] * 3])
    known = jnp.asarray([[1, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(losses.squared_error(value, target, known), [2.5, 0])
    gradient = jax.grad(lambda v: losses.squared_error(v, target, known).sum())(value)
    np.testing.assert_allclose(gradient, [[1, 0, -2], [0, 0, 0]])


def test_pixel_cross_entropy_by_a_loop():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(3, 2, 5, 4)).astype(np.float32)
    label = rng.integers(-1, 6, (3, 2, 5))  # -1, 4 and 5 are no classes
    label[2] = 9
    found, gradient = jax.value_and_grad(
        lambda z: losses.pixel_cross_entropy(z, jnp.asarray(label)).sum()
    )(jnp.asarray(logits))
    total = 0.0
    for b in range(3):
        known = (label[b] >= 0) & (label[b] < 4)
        costs = [np.log(np.exp(z).sum()) - z[y] for z, y in zip(logits[b][known], label[b][known])]
        total += np.mean(costs) if costs else 0.0
        np.testing.assert_array_equal(gradient[b][~known], 0)
        for place in zip(*np.nonzero(known)):
            p = np.exp(logits[b][place]) / np.exp(logits[b][place]).sum()
            pull = (p - np.eye(4)[label[b][place]]) / known.sum()
            np.testing.assert_allclose(gradient[b][place], pull, atol=1e-6)
    assert found == pytest.approx(total, rel=1e-5)


def test_bytes_are_labels_too():
    logits = jnp.zeros((1, 1, 2, 3))
    label = jnp.asarray([[[255, 1]]], jnp.uint8)
    assert losses.pixel_cross_entropy(logits, label)[0] == pytest.approx(np.log(3))
