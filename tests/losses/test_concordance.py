"""The concordance loss against the coefficient itself, its gradient, and other devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.losses.concordance import one_minus_ccc
from facebench.metrics import _moments as moments

ROWS = 16


def case(seed=0, hidden=0.3):
    rng = np.random.default_rng(seed)
    target = rng.uniform(-1, 1, (ROWS, 2))
    value = np.tanh(target * 0.5 + 0.3 + rng.normal(size=(ROWS, 2)) * 0.4)
    known = rng.random((ROWS, 2)) >= hidden
    mask = (np.arange(ROWS) < 13).astype(np.float32)
    target[~known] = np.nan
    target[13:], value[13:] = 7.0, -5.0  # padding
    arrays = (x.astype(np.float32) for x in (value, target, known, mask))
    return tuple(map(jnp.asarray, arrays))


def expected(value, target, known, mask):
    """1 - CCC by the judge's code, the mean over columns."""
    rows = [np.asarray(known[:, k] * mask) > 0 for k in (0, 1)]
    value, target = np.asarray(value, np.float64), np.asarray(target, np.float64)
    found = [moments.agreement(value[r, k], target[r, k], ("ccc",)) for k, r in enumerate(rows)]
    return 1 - np.mean([one["ccc"] for one in found])


def mean(value, target, known, mask):
    loss = one_minus_ccc(value, target, known, mask)
    return (mask * loss).sum() / mask.sum(), loss


pulled = jax.jit(jax.value_and_grad(mean, has_aux=True))  # one program for all tests


@pytest.mark.parametrize("seed", range(3))
def test_its_mean_over_examples_is_one_minus_the_coefficient(seed):
    arrays = case(seed)
    (total, loss), _ = pulled(*arrays)
    assert (loss.shape, loss.dtype) == ((ROWS,), jnp.float32)
    np.testing.assert_array_equal(loss[13:], 0)
    assert float(total) == pytest.approx(expected(*arrays), rel=1e-5)


def test_its_gradient_is_that_of_the_coefficient():
    value, target, known, mask = case(4)
    gradient = np.asarray(pulled(value, target, known, mask)[1])
    np.testing.assert_array_equal(gradient[np.asarray(known * mask[:, None]) == 0], 0)
    assert np.abs(gradient).max() > 0
    step = 1e-4
    for i, k in ((0, 0), (3, 1), (7, 0), (12, 1)):
        moved = [np.asarray(value, np.float64) for _ in range(2)]
        moved[0][i, k] += step
        moved[1][i, k] -= step
        up, down = (expected(v, target, known, mask) for v in moved)
        assert gradient[i, k] == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-6)


def test_what_is_unknown_or_constant_costs_nothing():
    value, target, known, mask = case(5)
    alone = np.array(known)
    alone[:, 1] = 0
    twice = [np.asarray(x)[:, [0, 0]] for x in (value, target, known)]
    (total, _), _ = pulled(value, target, alone, mask)
    assert float(total) == pytest.approx(expected(*twice, mask), rel=1e-5)
    for arrays in (
        (value, target, np.zeros_like(known), mask),
        (np.zeros_like(value), np.zeros_like(target), np.ones_like(known), mask),
    ):
        (total, _), gradient = pulled(*arrays)
        assert total == 0
        np.testing.assert_array_equal(gradient, 0)


def test_devices_share_the_statistics_of_the_batch():
    """As the step does it: the gradients of what each device sums are added up."""
    arrays = case(6)
    count = arrays[-1].sum()

    def local(value, *rest):
        loss = one_minus_ccc(value, *rest, axis_name="data")
        return (rest[-1] * loss).sum() / count

    def step(*part):
        # One parameter that every device holds: a shift of all predictions.
        def of(shift):
            return local(part[0] + shift, *part[1:])

        loss, gradient = jax.value_and_grad(of)(jnp.float32(0.1))
        return jax.lax.psum(loss, "data"), jax.lax.psum(gradient, "data")

    parts = [x.reshape(4, ROWS // 4, *x.shape[1:]) for x in arrays]
    loss, gradient = jax.pmap(step, axis_name="data", devices=jax.devices()[:4])(*parts)
    (total, _), pull = pulled(arrays[0] + np.float32(0.1), *arrays[1:])
    np.testing.assert_allclose(loss, np.full(4, total), rtol=1e-5)
    np.testing.assert_allclose(gradient, np.full(4, pull.sum()), rtol=1e-4)
