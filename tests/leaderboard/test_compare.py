"""Comparisons against the two-way table written out, SciPy, and the definitions."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench.leaderboard import compare, resample
from facebench.metrics import _parts


def written_out(a, b, seeds=None, level=0.95):
    """Estimate and half-width from the table of differences (S, U), with loops."""
    d = np.asarray(a) - np.asarray(b)
    S, U = d.shape
    grand = d.mean() if seeds is None else np.mean(seeds)
    rows = d.mean(axis=1) if seeds is None else np.asarray(seeds)
    ms = U * sum((rows[s] - grand) ** 2 for s in range(S)) / (S - 1)
    inner = d - d.mean(axis=1, keepdims=True)
    columns = inner.mean(axis=0)
    mu = S * sum(columns[u] ** 2 for u in range(U)) / (U - 1)
    me = sum((inner[s, u] - columns[u]) ** 2 for s in range(S) for u in range(U))
    me /= (S - 1) * (U - 1)
    t_s, t_u = (scipy.stats.t.ppf((1 + level) / 2, df) for df in (S - 1, U - 1))
    return grand, math.sqrt((t_s**2 * ms + t_u**2 * max(mu - me, 0)) / (S * U))


def entries(rng, n=4, S=3, U=11, spread=1.0):
    values = spread * rng.normal(size=(n, 1, 1)) + rng.normal(size=(n, S, 1))
    return values + rng.normal(size=(n, 1, U)) + 0.5 * rng.normal(size=(n, S, U))


def compared(table):
    """The module on means over units."""
    scores = [[float(row.mean()) for row in entry] for entry in table]
    return compare.compare(scores, table - table.mean(axis=2, keepdims=True))


@pytest.mark.parametrize(("S", "U"), [(2, 5), (3, 11), (5, 40)])
def test_every_pair_is_that_of_the_table_written_out(S, U):
    table = entries(np.random.default_rng(S), S=S, U=U)
    found = compared(table)
    for i in range(4):
        for j in range(4):
            if i == j:
                assert found.p[i, j] == found.adjusted[i, j] == 1
                continue
            estimate, half = written_out(table[i], table[j])
            low, high = found.interval(i, j)
            assert found.estimate[i, j] == pytest.approx(estimate, abs=1e-12)
            assert (low, high) == pytest.approx((estimate - half, estimate + half), rel=1e-9)
            assert (found.p[i, j] <= compare.ALPHA) == (not low <= 0 <= high)
            assert found.p[i, j] == found.p[j, i]


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.0, 3.0, 30.0])
def test_p_is_the_smallest_level_whose_interval_leaves_out_zero(shift):
    table = entries(np.random.default_rng(9), n=2)
    table[1] += shift
    p = float(compared(table).p[0, 1])
    levels = [1.0, *compare.LEVELS]
    at = levels.index(p)
    estimate, half = written_out(*table, level=1 - p) if p < 1 else (1, 0)
    assert abs(estimate) > half
    if at + 1 < len(levels):
        estimate, half = written_out(*table, level=1 - levels[at + 1])
        assert abs(estimate) <= half


def test_without_units_it_is_the_paired_t_test_over_seeds():
    rng = np.random.default_rng(5)
    scores = (rng.normal(size=(6, 5)) + np.arange(6)[:, None]).tolist()
    found = compare.compare(scores, None)
    for i in range(6):
        for j in range(i):
            test = scipy.stats.ttest_rel(scores[i], scores[j])
            interval = test.confidence_interval(0.95)
            assert found.interval(i, j) == pytest.approx((interval.low, interval.high), rel=1e-8)
            ratio = found.p[i, j] / test.pvalue
            assert 1 <= ratio * (1 + 1e-9) < 2 ** (1 / compare.STEPS) + 1e-6


def test_seeds_that_do_not_matter_leave_the_paired_t_test_over_units():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(2, 30))
    table = np.stack([np.tile(a, (3, 1)), np.tile(b + 0.3, (3, 1))])
    interval = scipy.stats.ttest_rel(a, b + 0.3).confidence_interval(0.95)
    assert compared(table).interval(0, 1) == pytest.approx((interval.low, interval.high), rel=1e-7)


def test_one_seed_separates_nothing():
    found = compare.compare([[1.0], [50.0]], np.zeros((2, 1, 9)))
    assert found.p[0, 1] == found.adjusted[0, 1] == 1
    assert found.interval(0, 1) == (-math.inf, math.inf)


def test_equal_entries_tie_and_constant_ones_that_differ_do_not():
    found = compare.compare([[2.0, 2.0], [2.0, 2.0], [2.5, 2.5]], None)
    assert found.p[0, 1] == 1
    assert found.p[0, 2] == compare.LEVELS[-1]
    assert found.interval(2, 0) == (0.5, 0.5)
    assert found.separated().tolist() == [[False, False, True]] * 2 + [[True, True, False]]


def test_an_infinite_mean_is_behind_every_finite_one_and_ties_with_its_like():
    found = compare.compare([[1.0, 2.0], [math.inf, 1.0], [3.0, math.inf]], np.zeros((3, 2, 4)))
    assert found.separated().tolist() == [
        [False, True, True],
        [True, False, False],
        [True, False, False],
    ]
    assert np.isinf(found.estimate[1, 0])
    assert found.estimate[1, 2] == 0
    assert found.interval(1, 0) == (-math.inf, math.inf)


def test_a_comparison_does_not_depend_on_who_else_is_there_but_for_holm():
    table = entries(np.random.default_rng(12), n=5)
    many, two = compared(table), compared(table[[1, 3]])
    assert many.p[1, 3] == two.p[0, 1]
    assert many.interval(1, 3) == two.interval(0, 1)


def test_influences_of_a_mean_over_equal_units_are_the_units_means():
    rng = np.random.default_rng(1)
    loss, units = rng.uniform(size=24), np.repeat(np.arange(8), 3)
    one = np.ones(24, int)
    parts = _parts.ratio(_parts.quantised(loss), one, _parts.QUANTUM, units, "unit")
    found = compare.influences(resample.unit_sums(parts), parts.value)
    expected = loss.reshape(8, 3).mean(axis=1) - loss.mean()
    assert found == pytest.approx(expected, abs=1e-8)


def test_influences_are_the_jackknife():
    rng = np.random.default_rng(2)
    columns = rng.integers(1, 50, (9, 2))

    def value(sums):
        return sums[..., 0] ** 2 / sums[..., 1]

    full = value(columns.sum(axis=0))
    pseudo = [9 * full - 8 * value(np.delete(columns, u, 0).sum(axis=0)) for u in range(9)]
    found = compare.influences(columns, value)
    assert found == pytest.approx(np.array(pseudo) - np.mean(pseudo), rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
@settings(max_examples=100, deadline=None)
def test_holm_rejects_step_by_step(p):
    found = compare.holm(np.array(p))
    for alpha in (0.01, 0.05, 0.3, 0.9):
        # The definition: go up from the smallest until one exceeds alpha over those left.
        rejected = set()
        for k, i in enumerate(sorted(range(len(p)), key=lambda i: (p[i], i))):
            if p[i] > alpha / (len(p) - k):
                break
            rejected.add(i)
        close = [abs(found - alpha).min() < 1e-12]
        if not any(close):
            assert {i for i, q in enumerate(found) if q <= alpha} == rejected
    assert (found >= np.array(p)).all()


def symmetric(n, pairs):
    found = np.zeros((n, n), bool)
    for i, j in pairs:
        found[i, j] = found[j, i] = True
    return found


def test_ranks_count_those_that_are_told_apart():
    separated = symmetric(4, [(0, 2), (0, 3), (1, 3)])
    better = np.triu(np.ones((4, 4), bool), 1)
    assert compare.ranks(separated, better) == [(1, 2), (1, 3), (2, 4), (3, 4)]


@given(st.integers(1, 9), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_groups_never_join_what_is_told_apart(n, random):
    pairs = [(i, j) for i in range(n) for j in range(i) if random.random() < 0.4]
    separated = symmetric(n, pairs)
    found = compare.groups(separated)
    for i in range(n):
        for j in range(n):
            share = max(found[i][0], found[j][0]) <= min(found[i][1], found[j][1])
            run = separated[min(i, j) : max(i, j) + 1, min(i, j) : max(i, j) + 1]
            assert share == (not run.any())  # exactly where all between them tie as well
    first = [f for f, _ in found]
    assert first == sorted(first)
    assert {g for a, b in found for g in range(a, b + 1)} == set(range(found[-1][1] + 1))


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((0, 0), "a"), ((0, 1), "ab"), ((1, 4), "b–e"), ((25, 26), "z–aa"), ((26, 26), "aa")],
)
def test_letters(numbers, text):
    assert compare.letters(*numbers) == text
    assert compare.letters(701, 702) == "zz–aaa"
