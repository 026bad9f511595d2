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
    "combined_1_05_0": ("combined", 64.0, (1, 0.5, 0)),
    "combined_arc_filter04": ("arcface", 64.0, 0.5),
}


@pytest.mark.parametrize("gradient", losses.GRADIENTS)
@pytest.mark.parametrize("name", sorted(HEADS))
def test_logits_and_gradient_equal_arcface_torch(oracles, name, gradient):
    """Its ArcFace is straight-through: d logit / d cos is s; the true one s sin(t + m) / sin(t)."""
    margin, s, m = HEADS[name]
    threshold = 0.4 if name.endswith("filter04") else None
    vectors = np.load(oracles / f"losses/head_logits_{name}.npz")
    cosine, label = vectors["in_cos"], vectors["in_labels"].ravel().astype(np.int32)
    assert (label == -1).any()

    def logits(c):
        return losses.margin_logits(c, label, margin, m, s, "none", gradient, threshold)

    @jax.jit
    def run(c, cotangent):
        got, pullback = jax.vjp(logits, c)
        return got, *pullback(cotangent)

    got, by_cosine = run(cosine, vectors["in_cotangent"])
    np.testing.assert_allclose(got, vectors["out_logits"], rtol=1e-5, atol=2e-5)
    expected = vectors["out_grad_cos"].astype(np.float64)
    if margin != "cosface" and gradient == "true":
        m = m if margin == "arcface" else m[1]
        rows = np.flatnonzero(label >= 0)
        theta = np.arccos(cosine[rows, label[rows]].astype(np.float64))
        expected[rows, label[rows]] *= np.sin(theta + m) / np.sin(theta)
    np.testing.assert_allclose(by_cosine, expected, rtol=1e-4, atol=1e-4)


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
        ("pfc_arcface_s30_m03", "embeddings", "arcface", 0.3),
        ("pfc_combined_1_05_0", "embeddings", "combined", (1.0, 0.5, 0.0)),
        ("pfc_combined_1_0_04", "embeddings", "combined", (1.0, 0.0, 0.4)),
        ("pfc_combined_arc_filter04", "embeddings", "arcface", 0.5),
    ],
)
def test_loss_and_gradient_equal_reference_implementations(oracles, name, embedding, margin, m):
    vectors = np.load(oracles / f"losses/{name}.npz")
    label = vectors["in_labels"].astype(np.int32)
    published = name.startswith("pfc")
    guard, gradient = ("none", "straight_through") if published else ("linear", "true")
    s = 30.0 if "s30" in name else 64.0
    threshold = 0.4 if name.endswith("filter04") else None

    def loss(e, w):
        e = e if embedding == "unit_embeddings" else unit(e)
        cosine = jnp.matmul(e, unit(w).T, precision="highest")
        logits = losses.margin_logits(cosine, label, margin, m, s, guard, gradient, threshold)
        return losses.cross_entropy(logits, label)

    e, w = vectors[f"in_{embedding}"], vectors["in_weight"]

    @jax.jit
    def run(e, w):
        per_example, pullback = jax.vjp(loss, e, w)
        return per_example, pullback(jnp.full(len(label), 1 / len(label)))

    per_example, gradients = run(e, w)
    # arcface_torch reports -log(max(p, 1e-30)), but its gradient is that of the unbounded loss.
    most = -np.log(1e-30) if published else np.inf
    np.testing.assert_allclose(np.minimum(per_example, most).mean(), vectors["out_loss"], rtol=1e-5)
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
    if guard == "easy":
        expected, slope = np.where(cosine > 0, [expected, slope], [cosine, np.ones_like(cosine)])
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
        logits = losses.margin_logits(c, label, margin, s=64.0, guard=guard)  # combined: m1 = 1
        return losses.cross_entropy(logits, label)

    value, gradient = jax.jit(lambda c: (loss(c), jax.grad(lambda c: loss(c).sum())(c)))(cosine)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    if margin != "combined":  # unguarded, so that it falls again near 180 degrees
        assert (gradient[:2, 0] <= 0).all()  # a larger target cosine never costs more


def test_logits_by_a_loop():
    rng = np.random.default_rng(0)
    cosine, label = rng.uniform(-0.8, 0.99, (5, 7)), np.array([0, 6, 3, -1, 2])
    margins = rng.uniform(0.1, 0.5, 5)
    for margin, m in (
        ("softmax", None),
        ("cosface", 0.2),
        ("arcface", 0.3),
        ("arcface", margins),
        ("combined", (1.2, 0.3, 0.1)),
        ("combined", (1.0, 0.3, 0.2)),
    ):
        expected = 20 * cosine
        for i, y in enumerate(label):
            if y < 0:
                continue
            if margin == "combined":
                expected[i, y] = 20 * (np.cos(m[0] * np.arccos(cosine[i, y]) + m[1]) - m[2])
                continue
            extra = 0.0 if m is None else float(np.broadcast_to(m, 5)[i])
            if margin == "arcface":
                expected[i, y] = 20 * np.cos(np.arccos(cosine[i, y]) + extra)
            else:
                expected[i, y] = 20 * (cosine[i, y] - extra)
        m = jnp.asarray(m, jnp.float32) if isinstance(m, np.ndarray) else m
        guard = "none" if margin == "combined" else "linear"
        got = losses.margin_logits(jnp.asarray(cosine), jnp.asarray(label), margin, m, 20.0, guard)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_margins_default_to_the_papers():
    cosine, label = jnp.asarray([[0.5, 0.1]]), jnp.asarray([0])
    got = [float(losses.margin_logits(cosine, label, n, s=1.0)[0, 0]) for n in losses.MARGINS]
    theta = np.arccos(0.5)
    expected = [0.5, 0.15, np.cos(theta + 0.5), np.cos(theta + 0.3) - 0.2]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def one(margin, cosine, s, **kwargs):
    """The loss of one example whose class is the first."""
    label = jnp.zeros(1, jnp.int32)
    logits = losses.margin_logits(jnp.asarray([cosine]), label, margin, s=s, **kwargs)
    return float(losses.cross_entropy(logits, label)[0])


def test_published_values():
    """Computed beside the reference implementations."""
    cosine = [0.6, 0.1, -0.2]
    for s, margin, m, value in (
        (4, "softmax", None, 0.162202),
        (4, "arcface", 0.5, 0.739811),
        (4, "cosface", 0.4, 0.627123),
        (64, "arcface", 0.5, 0.0618126),
        (64, "cosface", 0.4, 0.00166018),
        (64, "combined", (1, 0.3, 0.2), 0.0907190),
    ):
        np.testing.assert_allclose(one(margin, cosine, s, m=m), value, rtol=2e-5, atol=5e-7)
    assert losses.add_angle(jnp.asarray(0.6), 0.5) == pytest.approx(0.143009, abs=1e-6)
    # what others call the hard guard is `linear`
    assert losses.add_angle(jnp.asarray(-0.95), 0.5) == pytest.approx(-1.189713, abs=1e-6)
    assert losses.add_angle(jnp.asarray(-0.95), 0.5, "none") == pytest.approx(-0.983404, abs=1e-6)
    assert losses.sphere_angle(jnp.asarray(0.6)) == pytest.approx(-1.1568, abs=1e-6)
    label = jnp.zeros(1, jnp.int32)
    got = losses.unified_loss(jnp.asarray([cosine]), label, 0.5, 0.4, 4.0)
    np.testing.assert_allclose(got, [1.439760], rtol=1e-5)


def test_true_gradient_of_arcface_is_larger_than_one():
    """s sin(t + m) / sin(t): 79.2 at a cosine of .6, 742 at .999, negative past 180 degrees."""
    for cosine, slope in ((0.6, 79.2), (0.999, 742.0)):
        logit = lambda c: 64 * losses.add_angle(c, 0.5, "none")  # noqa: E731
        np.testing.assert_allclose(jax.grad(logit)(cosine), slope, rtol=1e-3)
    assert jax.grad(lambda c: losses.add_angle(c, 0.5, "none"))(-0.99) < 0


def test_combined_is_not_what_arcface_torch_makes_of_it():
    """There (1, .3, .2) is CosFace with .2 alone: a logit of 25.6 at s = 64."""
    cosine, label = jnp.asarray([[0.6, 0.1]]), jnp.zeros(1, jnp.int32)
    ours = losses.margin_logits(cosine, label, "combined", (1, 0.3, 0.2), 64.0, "none")[0, 0]
    theirs = losses.margin_logits(cosine, label, "cosface", 0.2, 64.0)[0, 0]
    assert float(theirs) == pytest.approx(25.6, rel=1e-5)
    assert float(ours) == pytest.approx(64 * 0.136786, rel=1e-5)


@pytest.mark.parametrize(("m1", "m2"), [(1.35, 0.0), (2.0, 0.0), (1.1, 0.3)])
def test_multiply_angle_equals_its_definition_in_float64(m1, m2):
    theta = np.linspace(0.01, np.pi - 0.01, 301)
    with jax.enable_x64(True):
        function = jax.value_and_grad(lambda c: losses.multiply_angle(c, m1, m2))
        got, gradient = jax.jit(jax.vmap(function))(np.cos(theta))
    np.testing.assert_allclose(got, np.cos(m1 * theta + m2), atol=1e-10)
    slope = m1 * np.sin(m1 * theta + m2) / np.sin(theta)
    np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-7)
    ends = jnp.float32([1, -1, np.nextafter(1, 2), 1 - 6e-8])
    slopes = jax.vmap(jax.grad(lambda c: losses.multiply_angle(c, m1, m2)))(ends)
    assert np.isfinite(slopes).all()
    assert np.abs(slopes).max() <= 3163 * m1


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_sphere_angle_equals_its_definition_and_falls(m):
    theta = np.linspace(0.001, np.pi - 0.001, 701)
    k = np.floor(m * theta / np.pi)
    with jax.enable_x64(True):
        function = jax.value_and_grad(lambda c: losses.sphere_angle(c, m))
        got, gradient = jax.jit(jax.vmap(function))(np.cos(theta))
    np.testing.assert_allclose(got, (-1) ** k * np.cos(m * theta) - 2 * k, atol=1e-10)
    assert (np.diff(got) < 0).all()
    assert np.abs(gradient).max() <= m * m + 1e-9


def test_sphereface_by_a_loop():
    rng = np.random.default_rng(5)
    cosine, norm, label = rng.uniform(-0.9, 0.9, (4, 5)), rng.uniform(1, 9, 4), [0, 4, -1, 2]
    for damping in (5.0, 1000.0):
        expected = norm[:, None] * cosine
        for i, y in enumerate(label):
            if y >= 0:
                theta = np.arccos(cosine[i, y])
                k = np.floor(4 * theta / np.pi)
                psi = (-1) ** k * np.cos(4 * theta) - 2 * k
                expected[i, y] = norm[i] * (damping * cosine[i, y] + psi) / (1 + damping)
        got = losses.sphereface_logits(*map(jnp.asarray, (cosine, label, norm)), 4, damping)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    for step, value in ((0, 1000.0), (100, 1000 / 13), (10**6, 5.0)):
        np.testing.assert_allclose(losses.sphereface_damping(step), value, rtol=1e-6)


def test_unified_loss_by_a_loop_and_its_gradient():
    rng = np.random.default_rng(6)
    cosine, label = rng.uniform(-1, 1, (5, 4)), np.array([0, 3, 2, -1, 1], np.int32)
    expected = np.zeros(5)
    for i in range(5):
        for j in range(4):
            if j == label[i]:
                expected[i] += np.logaddexp(0, -(30 * (cosine[i, j] - 0.3) - 2.0))
            else:
                expected[i] += 0.5 * np.logaddexp(0, 30 * cosine[i, j] - 2.0)

    def loss(c, b):
        return losses.unified_loss(c, jnp.asarray(label), b, 0.3, 30.0, 0.5)

    got = loss(jnp.asarray(cosine, jnp.float32), 2.0)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    by_cosine, by_bias = jax.grad(lambda c, b: loss(c, b).sum(), (0, 1))(jnp.ones((5, 4)), 2.0)
    assert np.abs(by_cosine).max() <= 30.0
    assert float(by_bias) < 0  # all cosines are 1: a larger bias costs less


def test_the_filter_takes_value_and_gradient_of_near_classes_away():
    cosine, label = jnp.asarray([[0.9, 0.5, 0.3], [0.5, 0.9, 0.41]]), jnp.asarray([0, -1])
    got, pullback = jax.vjp(lambda c: losses.filtered(c, label, 0.4), cosine)
    np.testing.assert_allclose(got, [[0.9, 0, 0.3], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(pullback(jnp.ones((2, 3)))[0], [[1, 0, 1], [0, 0, 0]])


def test_the_best_centre_of_each_class():
    cosine = jnp.asarray([[0.1, 0.4, -0.5, -0.9, 0.2, 0.0]])
    got, pullback = jax.vjp(lambda c: losses.best_centre(c, 2), cosine)
    np.testing.assert_allclose(got, [[0.4, -0.5, 0.2]], rtol=1e-6)
    np.testing.assert_array_equal(pullback(jnp.ones((1, 3)))[0], [[0, 1, 1, 0, 1, 0]])


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
        ({"gradient": "straight"}, "did you mean 'straight_through'"),
        ({"margin": "combined", "m": 0.5}, "m1, m2, m3"),
        ({"margin": "combined", "m": (0.9, 0.1, 0.1), "guard": "none"}, "m1 >= 1"),
        ({"margin": "combined", "m": (1.2, 0.1, 0.1)}, "only 'none'"),
        ({"threshold": 1.5}, "0 < threshold < 1"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(UsageError, match=message):
        losses.margin_logits(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32), **kwargs)


def test_bad_smoothing():
    for value in (1.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="smoothing"):
            losses.cross_entropy(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32), value)
