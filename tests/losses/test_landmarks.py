"""Point losses against mmpose's and STAR's, and against loops."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.errors import UsageError
from facebench.losses import landmarks as losses


@pytest.mark.parametrize(
    ("name", "w", "epsilon"), [("wing_w10_e2", 10.0, 2.0), ("wing_w5_e05", 5.0, 0.5)]
)
def test_wing_equals_mmpose(oracles, name, w, epsilon):
    """mmpose sums over K points and 2 coordinates, then means over the batch."""
    vectors = np.load(oracles / "losses/wing.npz")
    target = jnp.asarray(vectors["in_gt"])
    B, K, _ = target.shape

    def loss(points):
        per_example = losses.points_loss(
            points, target, jnp.ones((B, K)), "wing", w=w, epsilon=epsilon
        )
        return 2 * K * per_example.mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(vectors["in_pred"]))
    np.testing.assert_allclose(value, vectors[f"out_mmpose_{name}"], rtol=1e-5)
    np.testing.assert_allclose(gradient, vectors[f"out_grad_mmpose_{name}"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("wing", lambda d: losses.wing(d, w=0.01, epsilon=2.0)),
        ("smoothl1", lambda d: losses.smooth_l1(d, beta=0.01)),
    ],
)
def test_point_losses_of_distances_equal_star(oracles, name, loss):
    """STAR takes them of the distance of a point, with pixels x / 128 - 1, and means over all.

    Its wing lets no gradient through below a distance of .001, where the formula has one.
    """
    vectors = np.load(oracles / "losses/wing.npz")
    target = jnp.asarray(vectors["in_gt"])

    def mean(points):
        distance = jnp.sqrt(jnp.square((points - target) / 128).sum(-1))
        return loss(distance).mean()

    points = jnp.asarray(vectors["in_pred"])
    value, gradient = jax.jit(jax.value_and_grad(mean))(points)
    np.testing.assert_allclose(value, vectors[f"out_star_{name}"], rtol=1e-5)
    want = vectors[f"out_grad_star_{name}"]  # with respect to the scaled points
    distance = np.linalg.norm((vectors["in_pred"] - vectors["in_gt"]) / 128, axis=-1)
    compared = distance > (0.001 if name == "wing" else 0.0)
    assert (~compared).sum() == (8 if name == "wing" else 0)
    np.testing.assert_allclose(128 * gradient[compared], want[compared], rtol=1e-3, atol=1e-7)
    assert not want[~compared].any()


def scalar(name, e, w=10.0, epsilon=2.0, beta=1.0):
    a = abs(e)
    if name == "l1":
        return a
    if name == "l2":
        return a * a
    if name == "smooth_l1":
        return a * a / (2 * beta) if a < beta else a - beta / 2
    return w * math.log(1 + a / epsilon) if a < w else a - (w - w * math.log(1 + w / epsilon))


PARAMETERS = {"l1": {}, "l2": {}, "smooth_l1": {"beta": 0.7}, "wing": {"w": 1.5, "epsilon": 0.3}}


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_values_and_slopes_by_a_loop(name):
    errors = np.r_[-3.0, -0.4, -1e-3, 1e-4, 0.5, 1.4999, 1.5001, 12.0]
    kwargs = PARAMETERS[name]
    function = losses.point_loss(name, **kwargs)
    run = jax.jit(jax.vmap(jax.value_and_grad(function)))
    got, slope = run(np.append(errors, 0).astype(np.float32))
    assert (got[-1], slope[-1]) == (0.0, 0.0)
    got, slope = got[:-1], slope[:-1]
    np.testing.assert_allclose(got, [scalar(name, e, **kwargs) for e in errors], rtol=2e-5)
    h = 1e-6
    finite = [
        (scalar(name, e + h, **kwargs) - scalar(name, e - h, **kwargs)) / (2 * h) for e in errors
    ]
    np.testing.assert_allclose(slope, finite, rtol=1e-3, atol=1e-5)


def test_wing_and_smooth_l1_are_continuous_and_scale_with_the_unit():
    for f in (lambda e: losses.wing(e, 0.1, 0.02), lambda e: losses.smooth_l1(e, 0.1)):
        np.testing.assert_allclose(f(jnp.float32(0.09999999)), f(jnp.float32(0.1)), rtol=1e-5)
    e = jnp.linspace(-1, 1, 21)
    np.testing.assert_allclose(
        losses.wing(128 * e, 10.0, 2.0), 128 * losses.wing(e, 10 / 128, 2 / 128), rtol=1e-5
    )


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_points_loss_by_a_loop_over_visible_points(name):
    rng = np.random.default_rng(0)
    points, target = rng.normal(0, 2, (2, 4, 5, 2)).astype(np.float32)
    weight = rng.choice([0.0, 1.0, 0.5], (4, 5)).astype(np.float32)
    weight[2] = 0
    kwargs = PARAMETERS[name]
    expected = []
    for i in range(4):
        total = sum(
            weight[i, k] * (scalar(name, ex, **kwargs) + scalar(name, ey, **kwargs)) / 2
            for k, (ex, ey) in enumerate(points[i].astype(float) - target[i])
        )
        expected.append(total / weight[i].sum() if weight[i].sum() else 0.0)
    got = losses.points_loss(points, target, jnp.asarray(weight), name, **kwargs)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_what_is_not_visible_is_never_read(name):
    rng = np.random.default_rng(1)
    points, target = rng.normal(size=(2, 3, 4, 2)).astype(np.float32)
    visible = np.ones((3, 4), np.float32)
    visible[1] = visible[0, 2] = 0

    def loss(p, t):
        return losses.points_loss(p, t, jnp.asarray(visible), name).sum()

    run = jax.jit(jax.value_and_grad(loss))
    value, gradient = run(points, target)
    assert not np.asarray(gradient)[visible == 0].any()
    assert np.abs(np.asarray(gradient)[visible > 0]).min() > 0
    target[visible == 0] = np.nan
    other, other_gradient = run(points, target)
    assert float(value) == float(other)
    np.testing.assert_array_equal(gradient, other_gradient)


def test_masked_mean_without_weight_is_zero_with_zero_gradient():
    value, weight = jnp.ones((2, 3)), jnp.asarray([[0.0, 0, 0], [0, 2, 0]])
    np.testing.assert_array_equal(losses.masked_mean(value, weight), [0, 1])
    gradient = jax.grad(lambda v: losses.masked_mean(v, weight).sum())(value)
    np.testing.assert_array_equal(gradient, [[0, 0, 0], [0, 1, 0]])


def test_bad_arguments():
    with pytest.raises(UsageError, match="did you mean 'wing'"):
        losses.point_loss("wings")
    with pytest.raises(UsageError, match="takes no 'omega'"):
        losses.point_loss("wing", omega=1.0)
    with pytest.raises(UsageError, match="takes no 'beta'"):
        losses.point_loss("l1", beta=1.0)
    for name, parameter in (("wing", "w"), ("wing", "epsilon"), ("smooth_l1", "beta")):
        with pytest.raises(UsageError, match=parameter):
            losses.point_loss(name, **{parameter: 0.0})
        with pytest.raises(UsageError, match=parameter):
            losses.LOSSES[name](jnp.zeros(3), **{parameter: -1.0})
