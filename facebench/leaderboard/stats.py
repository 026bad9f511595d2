"""Statistics over seeds, in plain Python: the same digits everywhere, and no import to wait for.

Three seeds are not many: Student's t interval covers what it says for them, a percentile
bootstrap over three seeds covers 74 % where it says 95 %.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

LEVEL = 0.95


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; the sum is exact, so the order of the values does not matter."""
    return math.fsum(values) / len(values)


def std(values: Sequence[float]) -> float:
    """The sample standard deviation (n - 1 in the denominator), for n >= 2."""
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def half_width(values: Sequence[float], level: float = LEVEL) -> float | None:
    """Half the width of Student's t interval for the mean, t(n - 1) s / sqrt(n).

    Args:
        values: one number per seed.
        level: how often such intervals shall cover the true mean.

    Returns:
        The half-width, or None for a single value, which has no interval.
    """
    n = len(values)
    if n < 2:
        return None
    return t_quantile((1 + level) / 2, n - 1) * std(values) / math.sqrt(n)


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of two means with unequal variances (Welch, Biometrika 34, 1947).

    Attributes:
        estimate: mean of the first minus mean of the second.
        error: its standard error.
        df: degrees of freedom after Welch and Satterthwaite; None where a side has one value.
    """

    estimate: float
    error: float
    df: float | None

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval of the difference; the whole line where a side has one value."""
        if self.df is None:
            return -math.inf, math.inf
        half = t_quantile((1 + level) / 2, self.df) * self.error if self.error else 0.0
        return self.estimate - half, self.estimate + half

    @property
    def p(self) -> float:
        """The two-sided p-value of no difference; below 1 - level exactly if 0 is outside."""
        if self.df is None or self.estimate == 0:
            return 1.0
        if self.error == 0:
            return 0.0
        return t_tails(self.estimate / self.error, self.df)


def welch(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Compares the means of two samples whose variances may differ.

    Args:
        a: the values of one side.
        b: the values of the other side; not paired with `a`.
    """
    estimate = mean(a) - mean(b)
    if min(len(a), len(b)) < 2:
        return Difference(estimate, math.inf, None)
    va, vb = std(a) ** 2 / len(a), std(b) ** 2 / len(b)
    if va + vb == 0:
        return Difference(estimate, 0.0, float(len(a) + len(b) - 2))
    wa, wb = va / (va + vb), vb / (va + vb)
    df = 1 / (wa**2 / (len(a) - 1) + wb**2 / (len(b) - 1))
    return Difference(estimate, math.sqrt(va + vb), df)


def t_tails(t: float, df: float) -> float:
    """The probability that Student's t with `df` degrees of freedom is beyond -|t| or |t|.

    It is the regularised incomplete beta function I_x(df / 2, 1 / 2) at x = df / (df + t^2)
    (Abramowitz and Stegun 26.7.1).
    """
    x = df / (df + t * t)
    return _beta(df / 2, 0.5, x, t * t / (df + t * t))


@functools.lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """The value that Student's t with `df` >= 1 degrees of freedom stays below with chance `p`.

    Bisection on `t_tails`, rounded to 12 digits: the last bits of exp and log differ between
    machines, a printed table must not.

    Args:
        p: between 0.5 and 1, exclusive.
        df: degrees of freedom, any number >= 1.
    """
    if not (0.5 < p < 1 and df >= 1):
        raise ValueError(f"expected 0.5 < p < 1 and df >= 1, found p = {p}, df = {df}")
    tails = 2 * (1 - p)
    low, high = 0.0, 2.0
    while t_tails(high, df) > tails:
        low, high = high, 2 * high
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if t_tails(middle, df) > tails:
            low = middle
        else:
            high = middle
    return float(f"{(low + high) / 2:.12g}")


def _beta(a: float, b: float, x: float, y: float) -> float:
    """I_x(a, b), with y = 1 - x given apart so that it keeps its digits near x = 1."""
    if x <= 0:
        return 0.0
    if y <= 0:
        return 1.0
    front = math.exp(
        math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        + a * (math.log(x) if x < 0.5 else math.log1p(-y))
        + b * (math.log(y) if y < 0.5 else math.log1p(-x))
    )
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, y) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22).

    Evaluated from the front by the modified method of Lentz (Thompson and Barnett, J. Comput.
    Phys. 64, 1986, section II).
    """
    tiny = 1e-300
    value = c = 1.0
    d = 0.0
    for k in range(1, 10_000):
        m = k // 2
        if k % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / ((1 + term * d) or tiny)
        c = (1 + term / c) or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return 1 / value
