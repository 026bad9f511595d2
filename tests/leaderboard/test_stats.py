import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench.leaderboard import stats


@pytest.mark.parametrize("df", [1, 1.3, 2, 2.7, 4, 9, 29.5, 200, 1e4])
@pytest.mark.parametrize("p", [0.51, 0.6, 0.9, 0.975, 0.995, 0.9999])
def test_t_quantile_is_scipys(df, p):
    assert stats.t_quantile(p, df) == pytest.approx(scipy.stats.t.ppf(p, df), rel=1e-9)


@pytest.mark.parametrize("df", [1, 1.3, 2, 4.5, 30, 1000])
@pytest.mark.parametrize("t", [0, 1e-6, 0.3, 1, 2.5, 12.7, 300])
def test_t_tails_are_scipys(df, t):
    expected = 2 * scipy.stats.t.sf(t, df)
    assert stats.t_tails(t, df) == pytest.approx(expected, rel=1e-10)
    assert stats.t_tails(-t, df) == stats.t_tails(t, df)


def test_t_quantile_in_closed_form():
    # One degree of freedom is the Cauchy distribution, two have an algebraic quantile.
    for p in (0.6, 0.9, 0.975):
        assert stats.t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-11)
        closed = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
        assert stats.t_quantile(p, 2) == pytest.approx(closed, rel=1e-11)


@pytest.mark.parametrize(("p", "df"), [(0.5, 3), (1.0, 3), (0.2, 3), (0.9, 0.5), (0.9, math.nan)])
def test_t_quantile_refuses_what_it_does_not_do(p, df):
    with pytest.raises(ValueError, match="expected"):
        stats.t_quantile(p, df)


numbers = st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), min_size=2, max_size=8)


@given(numbers)
@settings(max_examples=50, deadline=None)
def test_interval_is_scipys(values):
    assert stats.mean(values) == pytest.approx(np.mean(values), abs=1e-9)
    assert stats.std(values) == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    half = stats.half_width(values)
    if error < 1e-9:
        assert half == pytest.approx(0, abs=1e-6)
    else:
        low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert half == pytest.approx((high - low) / 2, rel=1e-9)


def test_one_value_has_no_interval():
    assert stats.half_width([3.0]) is None


def test_the_mean_does_not_depend_on_the_order():
    values = [1e16, 1.0, -1e16, 1.0]
    assert stats.mean(values) == stats.mean(values[::-1]) == 0.5


@pytest.mark.parametrize("n", [3, 5, 7])
@pytest.mark.parametrize("value", [0.1, 8 / 9, 26 / 30])
def test_equal_values_have_that_mean_and_no_spread(value, n):
    assert stats.mean([value] * n) == value
    assert stats.half_width([value] * n) == 0.0


@pytest.mark.parametrize("df", [1, 2, 11, 39.5, 2999])
def test_the_bound_of_very_small_tails(df):
    for tails in (0.993, 0.3, 1e-4, 1e-9):
        expected = scipy.stats.t.isf(tails / 2, df)
        assert stats.t_bound(tails, df) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_covers_95_percent_and_a_bootstrap_does_not(n):
    rng = np.random.default_rng(2026)
    runs = 8000
    samples = rng.normal(10.0, 2.0, (runs, n))
    covered = sum(abs(stats.mean(s) - 10.0) <= stats.half_width(s) for s in samples.tolist())
    assert covered / runs == pytest.approx(0.95, abs=0.01)
    picks = rng.integers(0, n, (400, n))
    low, high = np.quantile(samples[:, picks].mean(-1), [0.025, 0.975], axis=1)
    assert np.mean((low <= 10.0) & (high >= 10.0)) < 0.88
