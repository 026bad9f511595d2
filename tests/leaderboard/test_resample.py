"""The resampler against Philox written out, brute force and closed forms."""

import hashlib
import itertools

import numpy as np
import pytest

from facebench.leaderboard import resample
from facebench.metrics import _parts

MASK = (1 << 64) - 1
FROZEN = [702, 643, 300, 830, 980, 688, 584, 765]


def philox(key: list[int], counter: int) -> list[int]:
    """Four words of Philox 4x64-10, after Salmon et al. 2011, with Python's integers."""
    x = [counter & MASK, 0, 0, 0]
    k = list(key)
    for round_ in range(10):
        if round_:
            k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
        a, b = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(b >> 64) ^ x[1] ^ k[0], b & MASK, (a >> 64) ^ x[3] ^ k[1], a & MASK]
    return x


def expected_indices(name: str, below: int, count: int) -> list[int]:
    digest = hashlib.sha256(f"facebench/resample-1\n{name}\n{below}".encode()).digest()
    key = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")]
    found: list[int] = []
    for counter in itertools.count(1):  # NumPy counts up before it draws
        for word in philox(key, counter):
            for half in (word & 0xFFFFFFFF, word >> 32):
                if (half * below) % (1 << 32) >= (1 << 32) % below:
                    found.append((half * below) >> 32)
        if len(found) >= count:
            return found[:count]
    raise AssertionError


@pytest.mark.parametrize("below", [1, 2, 7, 200, 3_000_000_000])
def test_indices_are_those_of_philox_written_out(below):
    found = np.concatenate(list(resample.indices("a board", below, 99)))
    assert found.tolist() == expected_indices("a board", below, 99)


def test_the_stream_is_frozen():
    found = np.concatenate(list(resample.indices("frozen", 1000, 8)))
    assert found.tolist() == FROZEN


def test_blocks_do_not_change_what_is_drawn(monkeypatch):
    whole = np.concatenate(list(resample.counts("x", 7, 50)))
    for block in (1, 8, 22, 100):
        monkeypatch.setattr(resample, "_BLOCK", block)
        again = np.concatenate(list(resample.counts("x", 7, 50)))
        assert (again == whole).all()


def test_every_unit_is_as_likely_as_the_others():
    draws, units = 20_000, 6
    total = np.concatenate(list(resample.counts("fair", units, draws))).sum(axis=0)
    # Each total is binomial(120000, 1/6): standard deviation 129.
    assert abs(total - draws).max() < 5 * np.sqrt(draws * units * (1 / 6) * (5 / 6))
    assert total.sum() == draws * units


def test_a_word_that_would_favour_some_numbers_is_passed_over(monkeypatch):
    # Below 3 * 2^30, a quarter of all words must go: w = 0 maps to 0 with low half 0 < 2^30.
    below = 3 << 30

    class Words:
        def __init__(self, key):
            self.left = iter([0, 1 << 32 | 5, 7])

        def random_raw(self, n):
            return np.array([next(self.left) for _ in range(n)], np.uint64)

    monkeypatch.setattr(np.random, "Philox", Words)
    found = np.concatenate(list(resample.indices("x", below, 3)))
    expected = [w * below >> 32 for w in (0, 0, 5, 1, 7) if w * below % 2**32 >= 2**30]
    assert found.tolist() == expected[:3]


def test_sums_are_those_of_python_integers_at_any_size():
    rng = np.random.default_rng(3)
    count = next(resample.counts("s", 9, 20))
    for high in (10, 1 << 40, 1 << 58):
        columns = rng.integers(-high, high, (9, 4))
        expected = [
            [sum(int(c) * int(x) for c, x in zip(line, column)) for column in columns.T]
            for line in count
        ]
        assert resample.sums(count, columns).tolist() == expected
    with pytest.raises(ValueError, match="64 bits"):
        resample.sums(count, np.full((9, 1), 1 << 60))


def test_sums_do_not_depend_on_the_order_of_the_units():
    rng = np.random.default_rng(4)
    count, columns = next(resample.counts("s", 40, 30)), rng.integers(0, 1 << 45, (40, 2))
    order = rng.permutation(40)
    again = resample.sums(count[:, order], columns[order])
    assert (resample.sums(count, columns) == again).all()


def test_the_interval_is_read_by_index():
    values = np.random.default_rng(0).permutation(10_000).astype(float)
    assert resample.percentile_interval(values) == (250.0, 9749.0)
    assert resample.percentile_interval(np.array([3.0, 1.0, 2.0])) == (1.0, 3.0)


def parts(values, units):
    one = np.ones(len(values), int)
    return _parts.ratio(_parts.quantised(values), one, _parts.QUANTUM, np.array(units), "unit")


def test_intervals_are_those_of_a_loop_over_draws():
    rng = np.random.default_rng(8)
    units = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6])
    samples = rng.normal(size=(2, 3, 21))
    entries = [
        [(resample.unit_sums(parts(v, units)), parts(v, units)) for v in seeds] for seeds in samples
    ]
    found = resample.intervals("loop", 6, entries, draws=400)
    picks = np.concatenate(list(resample.indices("loop", 6, 2400))).reshape(400, 6)
    for interval, seeds in zip(found, samples):
        means = []
        for draw in picks:
            rows = np.concatenate([np.flatnonzero(units == u) for u in draw])
            means.append(np.mean([seed[rows].mean() for seed in seeds]))
        means.sort()
        assert interval == pytest.approx((means[10], means[389]), abs=1e-9)


def test_a_constant_score_takes_part_in_the_mean_and_is_moved_by_nothing():
    units = np.arange(5)
    p = parts(np.arange(5.0), units)
    sums = resample.unit_sums(p)
    ((low, high),) = resample.intervals("c", 5, [[(sums, p), (sums, p)]], draws=200)
    ((a, b),) = resample.intervals("c", 5, [[(sums, p), 10.0]], draws=200)
    assert (a, b) == pytest.approx(((low + 10) / 2, (high + 10) / 2), abs=1e-12)
    assert resample.intervals("c", 5, [[4.0, 6.0]], draws=200) == [(5.0, 5.0)]


def test_counts_do_not_depend_on_the_width_of_what_they_multiply(monkeypatch):
    plain = np.concatenate(list(resample.counts("a", 7, 50)))
    monkeypatch.setattr(resample, "_CELLS", 40)
    blocks = list(resample.counts("a", 7, 50, width=3))
    assert len(blocks) == 4
    assert (np.concatenate(blocks) == plain).all()
    assert (np.concatenate(list(resample.counts("a", 7, 50, width=999))) == plain).all()


def test_sums_of_units_by_a_loop():
    rng = np.random.default_rng(0)
    columns, unit = rng.integers(-9, 9, (40, 3)), rng.permutation(np.arange(40) % 7)
    found = resample.unit_sums(_parts.Parts(columns, lambda sums: sums[..., 0], unit, "unit"))
    assert (found == [columns[unit == u].sum(axis=0) for u in range(7)]).all()
