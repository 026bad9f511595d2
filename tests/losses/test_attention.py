"""Losses on attention against NumPy, a closed form of the gradient, and loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.losses import attention as losses

RNG = np.random.default_rng(0)
MAP = RNG.random((1, 4, 4)).astype(np.float32)


@jax.jit
@jax.value_and_grad
def align_first(a, h):
    return losses.alignment(a, h, jnp.asarray([True]))[0][0]


def test_attention_is_the_mean_over_channels():
    features = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    found = losses.attention(jnp.asarray(features))
    np.testing.assert_allclose(found, features.mean(3), rtol=1e-5, atol=1e-6)


def test_alignment_and_its_gradient_in_closed_form():
    """d (1 - cos) / d a = (cos a / |a| - h / |h|) / |a|, and none for an example without a map."""
    a, h = RNG.normal(size=(4, 3, 3)), RNG.random((4, 3, 3))
    valid = np.array([True, True, False, True])
    weight = np.array([1.0, -2.0, 5.0, 0.5])
    expected, slope = np.zeros(4), np.zeros_like(a)
    for i in np.flatnonzero(valid):
        la, lh = np.linalg.norm(a[i]), np.linalg.norm(h[i])
        expected[i] = (a[i] * h[i]).sum() / (la * lh)
        slope[i] = weight[i] * (expected[i] * a[i] / la - h[i] / lh) / la

    @jax.jit
    def run(a, h):
        (loss, cosine), pullback = jax.vjp(lambda *x: losses.alignment(*x, valid), a, h)
        return loss, cosine, *pullback((jnp.asarray(weight, jnp.float32), jnp.zeros(4)))

    loss, cosine, by_a, by_h = run(*(jnp.asarray(x, jnp.float32) for x in (a, h)))
    np.testing.assert_allclose(cosine, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss, np.where(valid, 1 - expected, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_a, slope, rtol=1e-4, atol=1e-6)
    assert not np.asarray(by_h).any()


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6])
def test_an_attention_without_length_has_a_bounded_gradient(scale):
    value, slope = align_first(jnp.full((1, 4, 4), scale, jnp.float32), MAP)
    assert 0.9 < value <= 1
    assert np.linalg.norm(slope) <= 1.01 / losses.EPS


def test_length_does_not_count_and_direction_does():
    assert align_first(3 * MAP, 7 * MAP)[0] == pytest.approx(0, abs=1e-6)
    assert align_first(-MAP, MAP)[0] == pytest.approx(2, abs=1e-6)


def test_flip_consistency_by_loops():
    maps, mirrored = RNG.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    found = losses.flip_consistency(jnp.asarray(maps), jnp.asarray(mirrored))
    for i in range(2):
        total = sum(
            (float(maps[i, y, x, c]) - float(mirrored[i, y, 3 - x, c])) ** 2
            for y in range(3)
            for x in range(4)
            for c in range(5)
        )
        assert found[i] == pytest.approx(total / 60, rel=1e-5)
    assert not np.asarray(losses.flip_consistency(maps, maps[:, :, ::-1])).any()
