"""The bootstrap over units: how far a number moves with other test people.

Units (subjects, identities, videos) are drawn with replacement, as many as there are, and a metric
is computed again from the sums of what was drawn (Efron and Tibshirani 1993, "An introduction to
the bootstrap", chapters 6 and 13; units instead of samples, since the frames of a video are not
independent: Davison and Hinkley 1997, section 3.8). Nothing here depends on a library's idea of a
random number: the raw words of Philox 4x64-10 (Salmon et al. 2011, SC'11), a stream that NumPy
keeps frozen, become indices by whole-number arithmetic, and sums are whole numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from facebench.leaderboard.stats import LEVEL
from facebench.metrics._parts import Parts

DRAWS = 10_000
_BLOCK = 1 << 20  # indices that are held at once
_CELLS = 1 << 23  # sums that are held at once
_EXACT = 1 << 53  # whole numbers below this are exact in float64


def indices(name: str, below: int, count: int) -> Iterator[np.ndarray]:
    """Whole numbers in [0, below), each as likely as the others, in blocks.

    A 32-bit word w becomes the high half of ``w * below``; words whose low half is under
    ``2^32 mod below`` are passed over, which leaves equally many for every number (Lemire 2019,
    ACM Trans. Model. Comput. Simul. 29). The low half of a raw 64-bit word comes before its high
    half.

    Args:
        name: names the stream: the same name gives the same numbers, for ever.
        below: 1 ... 2^31.
        count: how many.
    """
    key = hashlib.sha256(f"facebench/resample-1\n{name}\n{below}".encode()).digest()
    words = [int.from_bytes(key[i : i + 8], "little") for i in (0, 8)]
    source = np.random.Philox(key=np.array(words, np.uint64))
    half, skip = np.uint64((1 << 32) - 1), np.uint64((1 << 32) % below)
    while count > 0:
        raw = source.random_raw((min(count, _BLOCK) + 1) // 2)
        word = np.empty(2 * len(raw), np.uint64)
        word[0::2], word[1::2] = raw & half, raw >> np.uint64(32)
        product = word * np.uint64(below)
        kept = (product >> np.uint64(32))[(product & half) >= skip][:count].astype(np.int64)
        count -= len(kept)
        yield kept


def counts(name: str, units: int, draws: int = DRAWS, width: int = 1) -> Iterator[np.ndarray]:
    """How often each unit is in each draw, in blocks of draws, int64 (some draws, units).

    Args:
        name: names the stream.
        units: how many units there are, and how many are drawn each time.
        draws: how many times.
        width: how many columns the counts will be multiplied with; blocks are no larger than what
            that makes of them. The counts do not depend on it.
    """
    rows = max(1, min(_BLOCK // units, _CELLS // max(width, 1)))
    waiting = np.empty(0, np.int64)
    for block in indices(name, units, units * draws):
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= rows * units or (draws and len(waiting) == draws * units):
            n = min(rows, draws)
            taken, waiting = waiting[: n * units], waiting[n * units :]
            cell = taken + np.repeat(np.arange(n) * units, units)
            yield np.bincount(cell, minlength=n * units).reshape(n, units)
            draws -= n


def unit_sums(parts: Parts) -> np.ndarray:
    """The columns of a metric's parts added up within units, int64 (U, c)."""
    result = np.zeros((int(parts.unit.max()) + 1, parts.columns.shape[1]), np.int64)
    order = np.argsort(parts.unit, kind="stable")
    unit = parts.unit[order]
    first = np.flatnonzero(np.append(True, unit[1:] != unit[:-1]))
    result[unit[first]] = np.add.reduceat(parts.columns[order], first, axis=0)
    return result


def sums(count: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``count @ columns`` in whole numbers, int64 (draws, m).

    In float64 where no sum can reach 2^53: then it is exact in every order of addition, and many
    times faster than a product of integers.

    Args:
        count: int64 (draws, U), each row adding up to U.
        columns: int64 (U, m).

    Raises:
        ValueError: a sum could leave 64 bits.
    """
    bound = len(columns) * int(np.abs(columns).max(initial=0))
    if bound < _EXACT:
        return (count.astype(np.float64) @ columns.astype(np.float64)).astype(np.int64)
    if bound >= 1 << 63:
        raise ValueError(f"sums up to {bound} do not fit 64 bits")
    return count @ columns


def percentile_interval(estimates: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of bootstrap estimates, by index: no interpolation.

    Of B sorted estimates those at k and B - 1 - k, counted from 0, with k = floor(B (1 - level)/2).
    """
    ordered = np.sort(estimates)
    k = int(len(ordered) * round((1 - level) / 2, 12))
    return float(ordered[k]), float(ordered[len(ordered) - 1 - k])


def intervals(
    name: str,
    units: int,
    entries: Sequence[Sequence[tuple[np.ndarray, Parts] | float]],
    draws: int = DRAWS,
) -> list[tuple[float, float]]:
    """Test-sampling intervals of the mean over seeds, for entries scored on the same samples.

    Every entry sees the same draws, and within an entry every seed does.

    Args:
        name: names the stream.
        units: how many there are.
        entries: per entry and seed the sums of each unit, int64 (units, c), and the parts they are
            of; or a number, for a score that is the same whatever is drawn.
        draws: how many resamples.

    Returns:
        An interval per entry.
    """
    tables = [seed[0] for seeds in entries for seed in seeds if not isinstance(seed, float)]
    table = np.concatenate(tables, axis=1) if tables else np.zeros((units, 0), np.int64)
    estimates = np.empty((len(entries), draws))
    start = 0
    for count in counts(name, units, draws, table.shape[1]):
        drawn = sums(count, table)
        stop, column = start + len(count), 0
        for estimate, seeds in zip(estimates, entries, strict=True):
            total = np.zeros(len(count))
            for seed in seeds:
                if isinstance(seed, float):
                    total += seed
                    continue
                width = seed[0].shape[1]
                total += seed[1].value(drawn[:, column : column + width])
                column += width
            estimate[start:stop] = total / len(seeds)
        start = stop
    return [percentile_interval(estimate) for estimate in estimates]
