"""Losses of action units against the reference implementation, closed forms and masked labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.losses import action_units as losses
from facebench.losses import classification

KNOWN = np.ones((20, 12), np.float32)


@pytest.mark.parametrize("name", ["wa", "wa_weighted"])
def test_asymmetric_is_the_reference(oracles, name):
    """Value, and the gradient of probabilities, in which the focus is a constant."""
    vectors = np.load(oracles / "losses/au_asymmetric.npz")
    weight = vectors["in_weight"] if name == "wa_weighted" else None

    def loss(p):
        logs = losses.of_probability(p)
        return losses.asymmetric(*logs, vectors["in_labels"], KNOWN, weight).mean()

    value, gradient = jax.value_and_grad(loss)(vectors["in_prob"])
    np.testing.assert_allclose(value, vectors[f"out_{name}"], rtol=2e-6)
    wanted = vectors[f"out_grad_{name}"]
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


def problem(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(6, 4)) * 3
    return x, 1 / (1 + np.exp(-x)), rng.random((6, 4)) < 0.4, rng.random((6, 4)) < 0.7


def by_hand(kind, p, y, w):
    """One cell's cost in float64."""
    if kind == "dice":
        return w * (1 - (2 * y * p + 1) / (y + p * p + 1))
    absent = (p if kind == "asymmetric" else 1) * np.log(1 - p)
    return -w * (np.log(p) if y else absent)


def ours(kind, x, there, known, weight):
    there_log, not_log = losses.of_logits(x)
    if kind == "dice":
        return losses.dice(there_log, there, known, weight)
    return getattr(losses, kind)(there_log, not_log, there, known, weight)


@pytest.mark.parametrize("kind", ["cross_entropy", "asymmetric", "dice"])
def test_by_a_loop_over_what_is_known(kind):
    x, p, there, known = problem()
    known[2] = False  # nothing of this one is known
    weight = np.array([0.2, 1.4, 0.9, 1.5])
    got = ours(kind, x.astype(np.float32), there, known, weight)
    for i in range(len(x)):
        cells = [by_hand(kind, p[i, a], there[i, a], weight[a]) for a in range(4) if known[i, a]]
        assert got[i] == pytest.approx(np.mean(cells) if cells else 0.0, rel=1e-5)


@pytest.mark.parametrize("kind", ["cross_entropy", "asymmetric", "dice"])
def test_an_unknown_label_pulls_nowhere(kind):
    x, _, there, known = problem(1)
    x = x.astype(np.float32)
    x[0, 0], known[0, 0] = 1e4, False

    def loss(x):
        return ours(kind, x, there, known, None).sum()

    gradient = jax.grad(loss)(x)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(np.asarray(gradient)[~known], 0)
    assert (np.asarray(gradient)[known] != 0).all()


def test_without_weights_it_is_the_cross_entropy_of_logits():
    x, _, there, known = problem(2)
    plain = classification.binary_cross_entropy(x, there, known)
    np.testing.assert_allclose(ours("cross_entropy", x, there, known, None), plain, rtol=1e-6)


def test_a_sure_absence_costs_nothing_and_a_wrong_claim_keeps_its_pull():
    x = jnp.asarray([[-20.0], [30.0]])
    logs = losses.of_logits(x)
    no, known = jnp.zeros((2, 1)), jnp.ones((2, 1))
    cost = losses.asymmetric(*logs, no, known)
    np.testing.assert_allclose(cost, [0.0, 30.0], atol=1e-6)
    gradient = jax.grad(lambda x: losses.asymmetric(*losses.of_logits(x), no, known).sum())(x)
    np.testing.assert_allclose(gradient[1], 1.0, rtol=1e-6)
    np.testing.assert_allclose(losses.dice(logs[0], no, known), [0.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(losses.dice(logs[0], 1 - no, known), [0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize(("there", "wrong"), [([[1, 0]], True), ([[0, 1]], False)])
def test_probabilities_of_0_and_1_are_finite(there, wrong):
    def loss(p):
        logs = losses.of_probability(p)
        return losses.cross_entropy(*logs, np.array(there), np.ones((1, 2))).sum()

    value, gradient = jax.value_and_grad(loss)(jnp.asarray([[0.0, 1.0]]))
    assert np.isfinite(gradient).all()
    assert value == pytest.approx(-np.log(losses.LEAST) if wrong else 0.0, abs=1e-5)


def test_weights_are_inverse_rates_with_a_mean_of_one():
    rate = np.array([0.5, 0.25, 0.05, 0.2])
    weight = losses.inverse_weights(rate)
    np.testing.assert_allclose(weight, 4 * (1 / rate) / (1 / rate).sum(), rtol=1e-6)
    np.testing.assert_allclose(weight.mean(), 1, rtol=1e-6)
    # BP4D's rates, and the weights that the authors of ME-GraphAU ship for the fold that tests P3
    # (the rates are of all folds, so that the two agree to some percent only).
    rate = np.array([21.2, 17.1, 20.2, 45.6, 54.5, 58.6, 55.7, 46.5, 16.7, 34.4, 16.4, 14.9]) / 100
    shipped = [1.343, 1.690, 1.248, 0.561, 0.433, 0.436, 0.457, 0.541, 1.408, 0.723, 1.493, 1.667]
    np.testing.assert_allclose(losses.inverse_weights(rate), shipped, rtol=0.15)


def test_what_never_occurs_weighs_one():
    got = losses.inverse_weights(np.array([[0.5, 0.0, 0.25], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(got, [[2 / 3, 1, 4 / 3], [1, 1, 1]], rtol=1e-6)
