"""AdaFace, MagFace, CurricularFace, ElasticFace against the released code and by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.losses import margin as losses
from facebench.losses import quality
from facebench.losses.margin import cross_entropy, own_cosine


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def cosines(e, w):
    return jnp.matmul(unit(e), unit(w).T, precision="highest")


def same_value_and_gradient(vectors, loss, embedding="embeddings"):
    """The mean of loss(e, w), and its gradient, are what the file holds."""
    e, w = vectors[f"in_{embedding}"], vectors["in_weight"]
    value, gradients = jax.jit(jax.value_and_grad(lambda e, w: loss(e, w).mean(), (0, 1)))(e, w)
    np.testing.assert_allclose(value, vectors["out_loss"], rtol=2e-6)
    for got, key in zip(gradients, (embedding, "weight")):
        if f"out_grad_{key}" in vectors:
            want = vectors[f"out_grad_{key}"]
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=5e-6 * np.abs(want).max())


# -------------------------------------------------------------------------------- statistics


def blended(x, weight, mean, std, t_alpha):
    found = quality.moments(jnp.asarray(x), jnp.asarray(weight), mean)
    return [float(v) for v in quality.blend(mean, std, found, t_alpha)]


def test_running_statistics_by_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(1000.0, 0.1, 64).astype(np.float32)  # a small spread far from 0
    weight = np.ones(64, np.float32)
    weight[40:] = 0
    x[50] = np.nan  # a padded row may hold anything
    kept = x[:40].astype(np.float64)
    mean, std = blended(x, weight, 999.0, 3.0, 0.25)
    np.testing.assert_allclose(mean, 0.75 * 999.0 + 0.25 * kept.mean(), rtol=1e-7)
    np.testing.assert_allclose(std, 0.75 * 3.0 + 0.25 * kept.std(ddof=1), rtol=1e-5)


def test_one_example_moves_the_mean_and_none_moves_nothing():
    np.testing.assert_allclose(blended([5.0], [1.0], 3.0, 2.0, 0.5), [4.0, 2.0])
    np.testing.assert_allclose(blended([5.0], [0.0], 3.0, 2.0, 0.5), [3.0, 2.0])


def test_statistics_are_those_of_all_devices():
    """One example on each: alone, none of them has a spread."""
    x = np.random.default_rng(1).uniform(5, 50, 8).astype(np.float32)
    weight = np.float32([1, 1, 1, 0, 1, 1, 1, 1])

    def one(x, weight):
        return quality.blend(20.0, 100.0, quality.moments(x, weight, 20.0, "data"), 0.5)

    got = jax.vmap(one, axis_name="data")(x[:, None], weight[:, None])
    kept = x[weight > 0].astype(np.float64)
    np.testing.assert_allclose(got[0], np.full(8, 10 + kept.mean() / 2), rtol=1e-6)
    np.testing.assert_allclose(got[1], np.full(8, 50 + kept.std(ddof=1) / 2), rtol=1e-6)


# ----------------------------------------------------------------------------------- AdaFace


@pytest.mark.parametrize(("name", "t_alpha"), [("adaface", 0.01), ("adaface_ta1", 1.0)])
def test_adaface_equals_its_authors(oracles, name, t_alpha):
    vectors = np.load(oracles / f"losses/adaface_repo_{name}_f64.npz")
    label = vectors["in_labels"].astype(np.int32)
    norm = jnp.clip(vectors["in_norms"].ravel(), *quality.NORMS)
    before = (float(vectors["in_batch_mean"]), float(vectors["in_batch_std"]))
    assert before == (quality.FIRST_MEAN, quality.FIRST_STD)
    mean, std = blended(norm, np.ones(len(norm), np.float32), *before, t_alpha)
    np.testing.assert_allclose(mean, vectors["out_batch_mean"][0], rtol=1e-6)
    np.testing.assert_allclose(std, vectors["out_batch_std"][0], rtol=1e-6)

    def logits(e, w):
        cosine = jnp.matmul(e, unit(w).T, precision="highest")
        return quality.adaface_logits(cosine, label, norm, mean, std)

    e, w = vectors["in_unit_embeddings"], vectors["in_weight"]
    np.testing.assert_allclose(logits(e, w), vectors["out_logits"], rtol=1e-5, atol=2e-5)
    same_value_and_gradient(
        vectors, lambda e, w: cross_entropy(logits(e, w), label), "unit_embeddings"
    )


def test_adaface_target_by_quality():
    """At z = -1 it is ArcFace, at 0 CosFace; m = .4 and a cosine of .6."""
    for z, target in ((-1, 0.241102), (0, 0.2), (0.5, 0.146975), (1, 0.064171)):
        norm = jnp.asarray([20.0 + z * 10 / 0.333])
        got = quality.adaface_logits(
            jnp.asarray([[0.6, 0.0]]), jnp.zeros(1, jnp.int32), norm, 20.0, 10.0 - 1e-3, s=1.0
        )
        assert float(got[0, 0]) == pytest.approx(target, abs=2e-6)


def test_adaface_norms_are_cut_and_detached():
    x = jnp.asarray([[300.0, 400.0], [0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(quality.adaface_norm(x), [100.0, 1e-3, 5.0], rtol=1e-6)
    assert not np.asarray(jax.grad(lambda x: quality.adaface_norm(x).sum())(x)).any()


# ----------------------------------------------------------------------------------- MagFace


@pytest.mark.parametrize("easy", [0, 1])
def test_magface_equals_its_authors(oracles, easy):
    vectors = np.load(oracles / f"losses/magface_easy{easy}.npz")
    label = vectors["in_labels"].astype(np.int32)
    guard = {} if easy else {"guard": "linear"}

    def loss(e, w):
        norm = quality.length(e)
        logits = quality.magface_logits(cosines(e, w), label, norm, **guard)
        return cross_entropy(logits, label) + 35.0 * quality.magface_regulariser(norm)

    same_value_and_gradient(vectors, loss)
    norm = jnp.clip(quality.length(vectors["in_embeddings"]), 10.0, 110.0)
    np.testing.assert_allclose(norm, vectors["out_x_norm"].ravel(), rtol=1e-6)
    mean = quality.magface_regulariser(norm).mean()
    np.testing.assert_allclose(mean, vectors["out_loss_g"], rtol=1e-6)


def test_magface_by_norm():
    norm = jnp.asarray([10.0, 60.0, 110.0, 3.0, 500.0])
    margin = quality.magface_margin(norm)
    np.testing.assert_allclose(margin, [0.45, 0.625, 0.8, 0.45, 0.8], rtol=1e-6)
    target = losses.add_angle(jnp.full(3, 0.6), margin[:3], "easy")
    np.testing.assert_allclose(target, [0.192296, 0.018500, -0.155861], atol=2e-6)
    cost = quality.magface_regulariser(norm)
    np.testing.assert_allclose(cost[:3], [0.100826, 0.021625, 0.018182], atol=1e-6)
    outside = jax.grad(lambda n: quality.magface_regulariser(n).sum())(norm[3:])
    np.testing.assert_array_equal(outside, [0, 0])


def test_length_has_a_finite_gradient_at_zero():
    x = jnp.asarray([[0.0, 0.0], [3.0, 4.0]])
    value, pullback = jax.vjp(quality.length, x)
    np.testing.assert_allclose(value, [1e-6, 5.0])
    np.testing.assert_allclose(pullback(jnp.ones(2))[0], [[0, 0], [0.6, 0.8]], rtol=1e-6)


# ---------------------------------------------------------------------------- CurricularFace


def test_curricularface_equals_its_authors(oracles):
    vectors = np.load(oracles / "losses/curricular_repo_curricularface_f64.npz")
    label = vectors["in_labels"].astype(np.int32)
    cosine, before = cosines(vectors["in_embeddings"], vectors["in_weight"]), 0.05
    found = quality.moments(own_cosine(cosine, label), jnp.ones(len(label)), before)
    t = quality.blend_mean(before, found, 0.01)
    np.testing.assert_allclose(t, vectors["out_t"][0], rtol=1e-6)
    logits = quality.curricular_logits(cosine, label, t)
    np.testing.assert_allclose(logits, vectors["out_logits"], rtol=1e-5, atol=2e-5)
    assert (np.asarray(logits) != np.asarray(losses.margin_logits(cosine, label))).any()

    def loss(e, w):
        return cross_entropy(quality.curricular_logits(cosines(e, w), label, t), label)

    same_value_and_gradient(vectors, loss)


def test_curricularface_by_hand():
    cosine = jnp.asarray([[0.6, 0.2, 0.1], [0.6, 0.2, 0.1]])
    got = quality.curricular_logits(cosine, jnp.asarray([0, -1]), 0.3, s=1.0)
    own = np.cos(np.arccos(0.6) + 0.5)  # .143: the second class is hard, the third is not
    np.testing.assert_allclose(got, [[own, 0.2 * 0.5, 0.1], [0.6, 0.2, 0.1]], rtol=1e-5)


# ------------------------------------------------------------------------------- ElasticFace


@pytest.mark.parametrize("base", ["arc", "cos"])
def test_elasticface_equals_its_authors(oracles, base):
    for plus in (False, True):
        vectors = np.load(oracles / f"losses/elasticface_{base}{'_plus' * plus}.npz")
        label = vectors["in_labels"].astype(np.int32)
        margin = jnp.asarray(vectors["in_margins"].ravel())
        if plus:  # as released: looked up by the order, not by its inverse
            own = own_cosine(cosines(vectors["in_embeddings"], vectors["in_weight"]), label)
            released = jnp.sort(margin)[jnp.argsort(-own)]
            ours = quality.hardest_first(margin, own, jnp.ones(len(own)))
            assert not np.array_equal(released, ours)
            margin = released

        def loss(e, w, label=label, margin=margin):
            logits = losses.margin_logits(cosines(e, w), label, f"{base}face", margin, 64.0, "none")
            return cross_entropy(logits, label)

        same_value_and_gradient(vectors, loss)


def test_elastic_margins_by_difficulty():
    margin, own = jnp.asarray([0.4, 0.1, 0.3, 0.2, 9.0]), jnp.asarray([0.5, -0.2, 0.9, 0.1, 0.0])
    got = quality.hardest_first(margin, own, jnp.asarray([1.0, 1, 1, 1, 0]))
    np.testing.assert_allclose(got[:4], [0.2, 0.4, 0.1, 0.3])
    # as released: the largest goes to the easiest of all
    released = jnp.sort(margin[:4])[jnp.argsort(-own[:4])]
    np.testing.assert_allclose(released, [0.3, 0.1, 0.4, 0.2])
    # padding hands nothing out: the same without the last row
    without = quality.hardest_first(margin[:4], own[:4], jnp.ones(4))
    np.testing.assert_array_equal(got[:4], without)


def test_elastic_margins_are_drawn_about_their_mean():
    normal = jax.random.normal(jax.random.key(0), (4000,))
    margin = np.asarray(quality.elastic_margins(normal, 0.35, 0.05))
    assert abs(margin.mean() - 0.35) < 0.003
    assert abs(margin.std() - 0.05) < 0.002


# --------------------------------------------------------------------------- where it is hard

HEADS = {
    "adaface": lambda c, y, x: quality.adaface_logits(c, y, quality.adaface_norm(x), 2.0, 1.0),
    "magface": lambda c, y, x: quality.magface_logits(c, y, quality.length(x)),
    "magface-linear": lambda c, y, x: quality.magface_logits(
        c, y, quality.length(x), guard="linear"
    ),
    "curricularface": lambda c, y, x: quality.curricular_logits(c, y, 0.2),
    "sphereface": lambda c, y, x: losses.sphereface_logits(c, y, quality.length(x)),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", sorted(HEADS))
def test_finite_for_embeddings_on_their_centres(name, dtype):
    """Cosines of exactly 1 and -1; in the wider types an embedding of length 0 too."""
    zero = 1e-2 if dtype == "float16" else 0.0  # 1 / 1e-6 is beyond float16
    x = jnp.asarray([[2.0, 0.0], [-3.0, 0.0], [zero, 0.0], [1.0, 1e-3]], dtype)
    w, label = jnp.asarray([[1.0, 0.0], [-1.0, 0.0]]), jnp.zeros(4, jnp.int32)

    def loss(x, w):
        e = x.astype(jnp.float32)
        e = e * jax.lax.rsqrt(jnp.maximum((e**2).sum(1, keepdims=True), 1e-12))
        logits = HEADS[name](jnp.matmul(e, w, precision="highest"), label, x)
        assert logits.dtype == jnp.float32
        return cross_entropy(logits, label)

    value, pullback = jax.vjp(loss, x, w)
    assert np.isfinite(value).all()
    for gradient in pullback(jnp.ones(4)):
        assert np.isfinite(gradient.astype(jnp.float32)).all()
