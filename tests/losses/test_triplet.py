"""Mining and the triplet loss against TensorFlow Addons and a loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.errors import UsageError
from facebench.losses import triplet

NAMES = {"squared_l2": "squared-L2", "l2": "L2", "angular": "angular"}


@pytest.mark.parametrize("distance", triplet.DISTANCES)
@pytest.mark.parametrize("mining", ["semi_hard", "hard"])
def test_equals_tensorflow_addons(oracles, mining, distance):
    vectors = np.load(oracles / "losses/triplet.npz")
    label = vectors["in_labels"].astype(np.int32)

    for margin in (0.2, 1.0):

        def loss(e, margin=margin):
            return triplet.triplet(e, label, margin=margin, mining=mining, distance=distance).mean()

        value, gradient = jax.jit(jax.value_and_grad(loss))(vectors["in_embeddings"])
        name = f"{mining.replace('_', '')}_{NAMES[distance]}_m{margin}"
        np.testing.assert_allclose(value, vectors[f"out_{name}"], rtol=2e-6)
        want = vectors[f"out_grad_{name}"]
        np.testing.assert_allclose(gradient, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


def problem(seed=0, people=5, rows=17):
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(rows, 6)).astype(np.float32)
    label = rng.integers(0, people, rows).astype(np.int32)
    label[0] = people  # alone: no positive
    return e / np.linalg.norm(e, axis=1, keepdims=True), label


def by_loop(e, label, valid, mining, margin):
    """The mean over triplets, in float64."""
    e = e.astype(np.float64)
    d = ((e[:, None] - e[None]) ** 2).sum(-1)
    costs = []
    rows = np.flatnonzero(valid)
    for a in rows:
        positives = [p for p in rows if p != a and label[p] == label[a]]
        others = sorted(d[a, n] for n in rows if label[n] != label[a])
        if not positives or not others:
            continue
        if mining == "hard":
            costs.append(max(d[a, p] for p in positives) - others[0] + margin)
            continue
        for p in positives:
            outside = [x for x in others if x > d[a, p]]
            costs.append(d[a, p] - (outside[0] if outside else others[-1]) + margin)
    return np.maximum(costs, 0).mean() if costs else 0.0


@pytest.mark.parametrize("mining", ["semi_hard", "hard"])
def test_by_a_loop_and_padding_changes_nothing(mining):
    e, label = problem()
    valid = np.ones(len(label), np.float32)
    valid[[3, 9, 16]] = 0

    @jax.jit
    def run(e, label, valid):
        def loss(e):
            cost = triplet.triplet(e, label, valid, margin=0.3, mining=mining)
            return (valid * cost).sum() / valid.sum(), cost  # as a training step means

        return jax.value_and_grad(loss, has_aux=True)(e)

    for mask in (np.ones_like(valid), valid):
        (mean, cost), gradient = run(e, label, mask)
        np.testing.assert_allclose(mean, by_loop(e, label, mask, mining, 0.3), rtol=1e-5)
        assert cost[0] == 0  # nobody else shows this person
    # other contents of padded rows, and none of them at all
    changed, other = e.copy(), label.copy()
    changed[valid == 0], other[valid == 0] = 7.0, label[1]
    (again, costs), gradients = run(changed, other, valid)
    np.testing.assert_allclose(again, mean, rtol=1e-6)
    np.testing.assert_array_equal(costs[valid == 0], 0)
    np.testing.assert_array_equal(gradients[valid == 0], 0)
    kept = valid > 0
    np.testing.assert_allclose(gradients[kept], gradient[kept], atol=1e-6)
    (short, _), _ = run(e[kept], label[kept], valid[kept])
    np.testing.assert_allclose(short, mean, rtol=1e-6)


@pytest.mark.slow
def test_an_anchor_without_a_positive_is_left_out():
    """TensorFlow Addons gives the first two margin - d(a, n) under hard mining."""
    e = jnp.asarray([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [5.0, 0.1]])
    label = jnp.asarray([0, 1, 2, 2])
    got = triplet.triplet(e, label, margin=1.0, mining="hard")
    np.testing.assert_array_equal(got, [0, 0, 0, 0])
    for one in (jnp.zeros(4, jnp.int32), jnp.arange(4)):  # one person, or four
        for mining in ("semi_hard", "hard"):
            np.testing.assert_array_equal(triplet.triplet(e, one, mining=mining), 0)


def test_random_triplets_are_uniform_over_negatives():
    e = np.zeros((5, 1), np.float32)
    e[:, 0] = [0.0, 0.0, 1.0, 2.0, 3.0]  # 0 and 1 are one person; distances 1, 4, 9
    label = jnp.asarray([0, 0, 1, 2, 3])

    @jax.jit
    @jax.vmap
    def run(seed):
        return triplet.triplet(jnp.asarray(e), label, margin=10.0, mining="random", seed=seed)

    draws = run(jax.random.bits(jax.random.key(0), (3000, 5), jnp.uint32))
    # of 5 examples 2 are anchors: each one's cost is scaled by 5 / 2
    cost, times = np.unique(np.round(np.asarray(draws)[:, 0] * 2 / 5, 4), return_counts=True)
    np.testing.assert_allclose(cost, [1, 6, 9])
    assert (np.abs(times / 3000 - 1 / 3) < 0.04).all()
    assert np.corrcoef(np.asarray(draws)[:, :2].T)[0, 1] < 0.1
    np.testing.assert_array_equal(draws[:, 2:], 0)


@pytest.mark.slow
def test_semi_hard_negatives_are_further_than_the_positive_and_hard_ones_the_nearest():
    e = jnp.asarray([[0.0], [1.0], [0.5], [1.5], [3.0]])
    label = jnp.asarray([0, 0, 1, 2, 3])
    scale = 5 / 2
    semi = triplet.triplet(e, label, margin=3.0)
    np.testing.assert_allclose(semi[0] / scale, 1.0 - 1.5**2 + 3.0, rtol=1e-5)
    hard = triplet.triplet(e, label, margin=3.0, mining="hard")
    np.testing.assert_allclose(hard[0] / scale, 1.0 - 0.5**2 + 3.0, rtol=1e-5)


def test_a_semi_hard_negative_is_strictly_further():
    e = jnp.asarray(
        [[0.0], [1.0], [-1.0], [2.0]]
    )  # from the first: 1 to its like, 1 and 4 to others
    got = triplet.triplet(e, jnp.asarray([0, 0, 1, 2]), margin=4.0)
    np.testing.assert_allclose(got[0] / (4 / 2), 1.0 - 4.0 + 4.0)


@pytest.mark.parametrize("distance", triplet.DISTANCES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_finite_where_images_coincide(distance, dtype):
    zero = 1e-2 if dtype == "float16" else 0.0  # 1 / 1e-6 is beyond float16
    e = jnp.asarray([[1.0, 0], [1, 0], [1, 0], [0, zero], [-1, 0], [-1, 0]], dtype)
    label = jnp.asarray([0, 0, 1, 1, 2, 2])
    for mining in ("semi_hard", "hard"):

        def loss(e, mining=mining):
            return triplet.triplet(e, label, mining=mining, distance=distance).sum()

        value, gradient = jax.value_and_grad(loss)(e)
        assert np.isfinite(value)
        assert np.isfinite(gradient.astype(jnp.float32)).all()


def test_bad_arguments():
    e, label = jnp.zeros((2, 2)), jnp.zeros(2, jnp.int32)
    for kwargs, message in (
        ({"mining": "semihard"}, "did you mean 'semi_hard'"),
        ({"distance": "l2_squared"}, "did you mean 'squared_l2'"),
        ({"margin": 0.0}, "above 0"),
        ({"mining": "random"}, "seed"),
    ):
        with pytest.raises(UsageError, match=message):
            triplet.triplet(e, label, **kwargs)
