"""Margin softmax against the reference implementations, NumPy and finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.errors import UsageError
from facebench.losses import margin as losses

HEADS = {
    "cosface_s64_m04": ("cosface", 64.0, 0.4),
    "combined_1_0_04": ("cosface", 64.0, 0.4),
    "arcface_s30_m03": ("arcface", 30.0, 0.3),
    "arcface_s64_m05": ("arcface", 64.0, 0.5),
    "combined_1_05_0": ("arcface", 64.0, 0.5),
}


@pytest.mark.parametrize("name", sorted(HEADS))
def test_logits_and_gradient_equal_arcface_torch(oracles, name):
    """Its ArcFace is straight-through: there d logit / d cos is s, ours s sin(t + m) / sin(t)."""
    margin, s, m = HEADS[name]
    vectors = np.load(oracles / f"losses/head_logits_{name}.npz")
    cosine, label = vectors["in_cos"], vectors["in_labels"].ravel().astype(np.int32)
    assert (label == -1).any()

    def logits(c):
        return losses.margin_logits(c, label, margin, m, s, guard="none")

    @jax.jit
    def run(c, cotangent):
        got, pullback = jax.vjp(logits, c)
        return got, *pullback(cotangent)

    got, gradient = run(cosine, vectors["in_cotangent"])
    np.testing.assert_allclose(got, vectors["out_logits"], rtol=1e-5, atol=2e-5)
    expected = vectors["out_grad_cos"].astype(np.float64)
    if margin == "arcface":
        rows = np.flatnonzero(label >= 0)
        theta = np.arccos(cosine[rows, label[rows]].astype(np.float64))
        expected[rows, label[rows]] *= np.sin(theta + m) / np.sin(theta)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "embedding", "margin", "m"),
    [
        ("adaface_repo_arcface_f64", "unit_embeddings", "arcface", 0.5),
        ("adaface_repo_cosface_f64", "unit_embeddings", "cosface", 0.4),
        ("curricular_repo_arcface_f64", "embeddings", "arcface", 0.5),
        ("pfc_cosface_s64_m04", "embeddings", "cosface", 0.4),
        ("pfc_arcface_s64_m05", "embeddings", "arcface", 0.5),
    ],
)
def test_loss_and_gradient_equal_reference_implementations(oracles, name, embedding, margin, m):
    vectors = np.load(oracles / f"losses/{name}.npz")
    label = vectors["in_labels"].astype(np.int32)
    guard = "none" if name.startswith("pfc") else "linear"

    def loss(e, w):
        e = e if embedding == "unit_embeddings" else unit(e)
        cosine = jnp.matmul(e, unit(w).T, precision="highest")
        logits = losses.margin_logits(cosine, label, margin, m, 64.0, guard)
        return losses.cross_entropy(logits, label)

    e, w = vectors[f"in_{embedding}"], vectors["in_weight"]

    @jax.jit
    def run(e, w):
        per_example, pullback = jax.vjp(loss, e, w)
        return per_example, pullback(jnp.full(len(label), 1 / len(label)))

    per_example, gradients = run(e, w)
    # arcface_torch reports -log(max(p, 1e-30)), but its gradient is that of the unbounded loss.
    most = -np.log(1e-30) if name.startswith("pfc") else np.inf
    np.testing.assert_allclose(np.minimum(per_example, most).mean(), vectors["out_loss"], rtol=1e-5)
    if name == "pfc_arcface_s64_m05":  # straight-through there, see the test above
        assert all(np.isfinite(g).all() for g in gradients)
        return
    for got, key in zip(gradients, (embedding, "weight")):
        want = vectors[f"out_grad_{key}"]
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max(), rtol=1e-3)


@pytest.mark.parametrize("guard", losses.GUARDS)
@pytest.mark.parametrize("m", [0.1, 0.5, 1.2])
def test_add_angle_equals_its_definition_in_float64(guard, m):
    theta = np.linspace(0.001, np.pi - 0.001, 701)
    cosine = np.cos(theta)
    past = theta + m > np.pi
    expected = np.cos(theta + m)
    slope = np.sin(theta + m) / np.sin(theta)
    if guard == "linear":
        expected = np.where(past, cosine - m * np.sin(m), expected)
        slope = np.where(past, 1.0, slope)
    with jax.enable_x64(True):
        function = jax.value_and_grad(lambda c: losses.add_angle(c, m, guard))
        got, gradient = jax.jit(jax.vmap(function))(cosine)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-9)


def test_linear_guard_never_rises_with_the_angle_and_none_does():
    theta = np.linspace(0, np.pi, 2001)
    cosine = jnp.asarray(np.cos(theta), jnp.float32)
    linear = np.asarray(losses.add_angle(cosine, 0.5))
    assert np.diff(linear).max() <= 2e-7
    jump = -np.diff(linear).min()
    np.testing.assert_allclose(jump, np.cos(0.5) + 0.5 * np.sin(0.5) - 1, atol=1e-3)
    assert np.diff(losses.add_angle(cosine, 0.5, "none")).max() > 1e-5


@pytest.mark.parametrize("margin", sorted(losses.MARGINS))
@pytest.mark.parametrize("guard", losses.GUARDS)
def test_finite_at_the_ends_and_a_little_beyond(margin, guard):
    ends = np.float32([1, -1, np.nextafter(1, 2), np.nextafter(-1, -2), 1 - 6e-8, 1e-7 - 1, 0])
    cosine = np.stack([ends, ends[::-1]], 1)
    label = np.zeros(len(ends), np.int32)

    def loss(c):
        logits = losses.margin_logits(c, label, margin, s=64.0, guard=guard)
        return losses.cross_entropy(logits, label)

    value, gradient = jax.jit(lambda c: (loss(c), jax.grad(lambda c: loss(c).sum())(c)))(cosine)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert (gradient[:2, 0] <= 0).all()  # a larger target cosine never costs more


def test_logits_by_a_loop():
    rng = np.random.default_rng(0)
    cosine, label = rng.uniform(-0.8, 0.99, (5, 7)), np.array([0, 6, 3, -1, 2])
    margins = rng.uniform(0.1, 0.5, 5)
    for margin, m in (("softmax", None), ("cosface", 0.2), ("arcface", 0.3), ("arcface", margins)):
        expected = 20 * cosine
        for i, y in enumerate(label):
            if y < 0:
                continue
            extra = 0.0 if m is None else float(np.broadcast_to(m, 5)[i])
            if margin == "arcface":
                expected[i, y] = 20 * np.cos(np.arccos(cosine[i, y]) + extra)
            else:
                expected[i, y] = 20 * (cosine[i, y] - extra)
        m = jnp.asarray(m, jnp.float32) if isinstance(m, np.ndarray) else m
        got = losses.margin_logits(jnp.asarray(cosine), jnp.asarray(label), margin, m, 20.0)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_margins_default_to_the_papers():
    cosine, label = jnp.asarray([[0.5, 0.1]]), jnp.asarray([0])
    got = [float(losses.margin_logits(cosine, label, n, s=1.0)[0, 0]) for n in losses.MARGINS]
    np.testing.assert_allclose(got, [0.5, 0.15, np.cos(np.arccos(0.5) + 0.5)], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_by_a_loop(smoothing):
    rng = np.random.default_rng(1)
    logits, label = rng.normal(0, 30, (6, 5)), np.array([0, 4, 2, -1, 5, 1], np.int32)

    def one(row, y):
        if not 0 <= y < 5:
            return 0.0
        log_p = row - row.max() - np.log(np.exp(row - row.max()).sum())
        target = np.full(5, smoothing / 5)
        target[y] += 1 - smoothing
        return -(target * log_p).sum()

    expected = [one(row, y) for row, y in zip(logits, label)]
    function = jax.value_and_grad(lambda z, y: losses.cross_entropy(z[None], y[None], smoothing)[0])
    got, gradient = jax.jit(jax.vmap(function))(logits.astype(np.float32), label)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert not np.asarray(gradient)[[3, 4]].any()
    np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-5)


def test_cross_entropy_of_huge_logits_is_finite_and_float32():
    logits = jnp.asarray([[1e30, -1e30], [3e4, 0.0]], jnp.float32)
    np.testing.assert_allclose(losses.cross_entropy(logits, jnp.asarray([0, 1])), [0.0, 3e4])
    assert losses.cross_entropy(logits.astype(jnp.bfloat16), jnp.asarray([0, 1])).dtype == "float32"


def test_the_gradient_has_no_gather_or_scatter():
    """A gather of the label's column would bring a classifier sharded over classes together."""
    cosine, label = jnp.zeros((4, 6)), jnp.zeros(4, jnp.int32)

    def loss(c):
        return losses.cross_entropy(losses.margin_logits(c, label), label).mean()

    text = jax.jit(jax.grad(loss)).lower(cosine).as_text()
    assert "gather" not in text
    assert "scatter" not in text


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"margin": "arcfac"}, "did you mean 'arcface'"),
        ({"margin": "softmax", "m": 0.5}, "has no m"),
        ({"m": -0.1}, "0 <= m < pi"),
        ({"s": 0.0}, "above 0"),
        ({"guard": "lineer"}, "did you mean 'linear'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(UsageError, match=message):
        losses.margin_logits(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32), **kwargs)


def test_bad_smoothing():
    for value in (1.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="smoothing"):
            losses.cross_entropy(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32), value)
