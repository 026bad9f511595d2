"""Paired comparisons: which entries of a board are told apart, and which are not.

Two entries under one protocol share their seeds (with them the subsets) and their test units. Of
metric m, seed s and test unit u the difference is taken first, so what makes a seed or a face hard
for both drops out. What is left varies twice: another seed, another set of people. With S seeds, U
units and the mean squares of the two-way table of differences (seeds MS, units MU, residual ME; for
a metric that is no mean over units, of its jackknife pseudo-values, as Dorfman, Berbaum and Metz
1992 do for readers and cases), the mean difference has the variance A + B with

    A = MS / (S U)                  seeds, S - 1 degrees of freedom
    B = max(MU - ME, 0) / (S U)     units, U - 1 degrees of freedom

(Hillis 2007, Statistics in Medicine 26, table 1). Few seeds are the trouble: a bootstrap over three
covers 74 % where it says 95 %, and one t with joined degrees of freedom (Satterthwaite) errs in up
to 12 % of cases at two seeds. So each part keeps its own Student quantile,

    half-width = sqrt(t(S - 1)^2 A + t(U - 1)^2 B),

which errs in at most the stated share of cases (Banerjee 1961, for independent variances): at five
seeds and more it is nearly as narrow as the joined one, at two it is wide, because two say little.
A p-value is the smallest level of `LEVELS` at which that interval leaves out 0. Where there are no
units (a metric without parts, see `facebench.metrics.parts`) B is 0: the comparison is over seeds
alone, on the test set as it is. One seed separates nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from facebench.leaderboard.stats import LEVEL, mean, t_bound

ALPHA = round(1 - LEVEL, 12)
STEPS = 16  # levels per halving
#: The levels at which a comparison is read, descending from just under 1; ALPHA is one of them.
LEVELS = tuple(ALPHA * 2 ** (-k / STEPS) for k in range(-4 * STEPS - 5, 36 * STEPS))


@dataclasses.dataclass(frozen=True)
class Pairwise:
    """All ordered pairs of n entries, first minus second.

    Attributes:
        estimate: (n, n) differences of the means over seeds.
        seeds: (n, n) A, the variance that the seeds bring.
        units: (n, n) B, the variance that the test units bring.
        df: degrees of freedom of A and of B; 0 where there is nothing to compare.
        p: (n, n) two-sided, of each pair alone.
        adjusted: (n, n) after Holm, over all pairs of the n entries.
    """

    estimate: np.ndarray
    seeds: np.ndarray
    units: np.ndarray
    df: tuple[int, int]
    p: np.ndarray
    adjusted: np.ndarray

    def separated(self) -> np.ndarray:
        """(n, n) bool: which pairs are told apart after correction."""
        return self.adjusted < ALPHA * (1 + 1e-12)

    def interval(self, i: int, j: int) -> tuple[float, float]:
        """The 95 % interval of one difference, for this pair alone; the whole line for one seed."""
        estimate = float(self.estimate[i, j])
        if not self.df[0] or not math.isfinite(estimate):
            return -math.inf, math.inf
        variance = t_bound(ALPHA, self.df[0]) ** 2 * float(self.seeds[i, j])
        if self.df[1]:
            variance += t_bound(ALPHA, self.df[1]) ** 2 * float(self.units[i, j])
        return estimate - math.sqrt(variance), estimate + math.sqrt(variance)


def influences(columns: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """How each unit moves a metric: its jackknife pseudo-values less their mean, (U,).

    For a mean over equally large units these are the units' own means less the mean.

    Args:
        columns: int64 (U, c), sums within units; U >= 2.
        value: of `facebench.metrics._parts.Parts`.
    """
    total = columns.sum(axis=0)
    left_out = value(total - columns)
    moved = (len(columns) - 1) * (float(value(total)) - left_out)
    return moved - moved.mean()


def compare(scores: Sequence[Sequence[float]], moved: np.ndarray | None) -> Pairwise:
    """Compares every pair of entries.

    Args:
        scores: per entry one score per seed, the same seeds in the same order; infinite where a
            trial diverged. An infinite mean is behind every finite one.
        moved: `influences` (n, S, U) of every entry and seed on the same units; rows of entries
            with an infinite mean are not read. None: over seeds alone.
    """
    n, S = len(scores), len(scores[0])
    means = np.array([mean(row) for row in scores])
    finite = np.isfinite(means)
    with np.errstate(invalid="ignore"):
        estimate = np.where(means[:, None] == means, 0.0, means[:, None] - means)
    seeds, units = np.zeros((n, n)), np.zeros((n, n))
    U = 0 if moved is None else moved.shape[2]
    df = (S - 1, max(U - 1, 0))
    if S > 1:
        table = np.where(finite[:, None], np.array(scores, np.float64), 0.0)
        for i in range(n):
            delta = table[i] - table
            off = delta - delta.sum(axis=1, keepdims=True) / S
            seeds[i] = (off * off).sum(axis=1) / ((S - 1) * S)
            if moved is not None and U > 1:
                units[i, i:] = units[i:, i] = _unit_variance(moved[i] - moved[i:])
    p = np.ones((n, n))
    if S > 1:
        upper = np.triu_indices(n, 1)
        p[upper] = _levels(estimate[upper] ** 2, seeds[upper], units[upper], df)
        p = np.minimum(p, p.T)
    p = np.where(finite[:, None] & finite, p, np.where(finite[:, None] == finite, 1.0, 0.0))
    adjusted = np.ones((n, n))
    upper = np.triu_indices(n, 1)
    adjusted[upper] = holm(p[upper])
    return Pairwise(estimate, seeds, units, df, p, np.minimum(adjusted, adjusted.T))


def _unit_variance(difference: np.ndarray) -> np.ndarray:
    """B of pairs, from the differences (pairs, S, U) of their influences."""
    _, S, U = difference.shape
    of_units = difference.sum(axis=1)
    ss_units = (of_units * of_units).sum(axis=1) / S
    ss_all = (difference * difference).sum(axis=2).sum(axis=1)
    residual = np.maximum(ss_all - ss_units, 0.0) / (S - 1)
    return np.maximum(ss_units - residual, 0.0) / ((U - 1) * S * U)


def _levels(
    square: np.ndarray, seeds: np.ndarray, units: np.ndarray, df: tuple[int, int]
) -> np.ndarray:
    """The smallest level of each pair at which the squared difference exceeds the squared width."""
    of_seeds = _bounds(df[0])
    of_units = _bounds(df[1]) if df[1] else np.zeros_like(of_seeds)
    low = np.zeros(len(square), np.int64)  # levels that are passed
    high = np.full(len(square), len(LEVELS))
    while (low < high).any():
        middle = np.minimum((low + high) // 2, len(LEVELS) - 1)
        passed = square > of_seeds[middle] * seeds + of_units[middle] * units
        open_ = low < high
        low = np.where(open_ & passed, middle + 1, low)
        high = np.where(open_ & ~passed, middle, high)
    return np.concatenate([[1.0], np.array(LEVELS)])[low]


@functools.lru_cache(maxsize=256)
def _bounds(df: int) -> np.ndarray:
    """Squared Student quantiles of `LEVELS`."""
    return np.array([t_bound(level, df) ** 2 for level in LEVELS])


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values that keep the chance of any false claim under the level.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6:
    the k-th smallest of m, from 0, is multiplied by m - k; a larger p is never adjusted to less.

    Args:
        p: (m,).
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    scaled = np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0)
    result = np.empty(len(p))
    result[order] = np.maximum.accumulate(scaled)
    return result


def ranks(separated: np.ndarray, better: np.ndarray) -> list[tuple[int, int]]:
    """The best and the worst rank that an entry may have, given which pairs are told apart.

    With Holm's correction all intervals together hold the true ranks in 95 % of cases (Mogstad,
    Romano, Shaikh and Wilhelm 2024, Rev. Econ. Stud. 91).

    Args:
        separated: (n, n) bool, symmetric.
        better: (n, n) bool, whether the row's score is better than the column's.
    """
    n = len(separated)
    above = (separated & better.T).sum(axis=1)
    below = (separated & better).sum(axis=1)
    return [(1 + int(a), n - int(b)) for a, b in zip(above, below, strict=True)]


def groups(separated: np.ndarray) -> list[tuple[int, int]]:
    """Groups of neighbours that are not told apart: the longest runs without a separated pair.

    Entries that share a group are not told apart. The other way round it need not hold: a tied pair
    with an entry between them that is told apart from one of them may share none.

    Args:
        separated: (n, n) bool, symmetric, entries in the order of their scores.

    Returns:
        For each entry the first and the last of its groups, which are numbered from 0 in their
        order; it belongs to those between them as well.
    """
    n = len(separated)
    runs: list[tuple[int, int]] = []
    start = 0
    for stop in range(1, n + 1):
        if stop == n or separated[stop, start:stop].any():
            runs.append((start, stop))
            if stop < n:
                start += int(np.flatnonzero(separated[stop, start:stop])[-1]) + 1
    mine = [[g for g, (a, b) in enumerate(runs) if a <= i < b] for i in range(n)]
    return [(found[0], found[-1]) for found in mine]


def letters(first: int, last: int) -> str:
    """The groups of an entry as letters: ``a``, ``ab``, ``a–d``; after z comes aa."""
    names = []
    for number in (first, last):
        name, number = "", number + 1
        while number:
            number, digit = divmod(number - 1, 26)
            name = chr(ord("a") + digit) + name
        names.append(name)
    if last <= first + 1 and last < 26:
        return "".join(names[: last - first + 1])
    return names[0] if first == last else "–".join(names)
