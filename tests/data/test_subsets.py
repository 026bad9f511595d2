"""Subsets: what is taken, and what it does not depend on."""

from __future__ import annotations

import hashlib
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench.data import subsets
from facebench.errors import FacebenchError, UsageError

ID = "landmarks/tiny/fractions@1"


def world(n, units):
    """Keys and units of `n` samples; the first `units` of them have a unit each."""
    return [f"k{i}" for i in range(n)], [f"u{i % units}" for i in range(n)]


def take(kind, by, value, keys, units, seed=0, strata=None, protocol=ID):
    regimes = {"kind": kind, "by": by, "values": [value]}
    return subsets.draw(protocol, regimes, value, seed, keys, units, strata)


def names(kind, by, value, keys, units, **kwargs):
    return {keys[i] for i in take(kind, by, value, keys, units, **kwargs)}


def test_the_rule_is_the_hash():
    keys, units = world(50, 7)
    ranked = sorted(keys, key=lambda k: hashlib.sha256(f"{ID}\n3\n{k}".encode()).hexdigest())
    assert names("fraction", "sample", 0.1, keys, units, seed=3) == set(ranked[:5])
    assert names("shots", "sample", 8, keys, units, seed=3) == set(ranked[:8])
    first = sorted(set(units), key=lambda u: hashlib.sha256(f"{ID}\n3\n{u}".encode()).hexdigest())
    expected = {k for k, u in zip(keys, units) if u in first[:2]}
    assert names("units", "unit", 2, keys, units, seed=3) == expected


def test_indices_ascend_and_full_is_everything():
    keys, units = world(40, 4)
    for kind, by, value in (
        ("full", "sample", 1.0),
        ("fraction", "unit", 0.5),
        ("shots", "unit", 3),
    ):
        indices = take(kind, by, value, keys, units)
        assert indices.dtype == np.int64
        assert (np.diff(indices) > 0).all()
    assert take("full", "sample", 1.0, keys, units).tolist() == list(range(40))


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 300), hundredths=st.integers(1, 100), seed=st.integers(0, 5))
def test_fractions_count_exactly(n, hundredths, seed):
    keys, units = world(n, 1 + n // 3)
    value = float(f"0.{hundredths:02d}") if hundredths < 100 else 1.0
    expected = math.ceil(Fraction(hundredths, 100) * n)
    assert len(take("fraction", "sample", value, keys, units, seed)) == expected
    chosen = {units[i] for i in take("fraction", "unit", value, keys, units, seed)}
    assert len(chosen) == math.ceil(Fraction(hundredths, 100) * len(set(units)))


def test_the_number_is_taken_as_written():
    keys, units = world(100, 10)
    assert math.ceil(0.07 * 100) == 8  # what binary arithmetic would have made of it
    assert len(take("fraction", "sample", 0.07, keys, units)) == 7


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.sampled_from(
        [
            ("fraction", "sample"),
            ("fraction", "unit"),
            ("shots", "sample"),
            ("shots", "unit"),
            ("units", "unit"),
        ]
    ),
)
def test_smaller_lies_within_larger_in_any_order(data, how):
    kind, by = how
    keys, units = world(60, 6)
    if kind == "fraction":
        values = data.draw(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=4))
    else:
        top = {"shots sample": 60, "shots unit": 10, "units unit": 6}[f"{kind} {by}"]
        values = data.draw(st.lists(st.integers(1, top), min_size=2, max_size=4))
    seed = data.draw(st.integers(0, 3))
    chosen = [names(kind, by, v, keys, units, seed=seed) for v in sorted(values)]
    assert all(small <= large for small, large in itertools.pairwise(chosen))

    order = data.draw(st.permutations(range(60)))
    shuffled = [keys[i] for i in order], [units[i] for i in order]
    assert names(kind, by, max(values), *shuffled, seed=seed) == chosen[-1]


@settings(max_examples=40, deadline=None)
@given(extra=st.integers(1, 40), value=st.floats(0.05, 1.0), shots=st.integers(1, 5))
def test_samples_of_other_groups_change_nothing(extra, value, shots):
    keys, units = world(40, 8)
    strata = [f"class {i % 3}" for i in range(40)]
    more = keys + [f"new{i}" for i in range(extra)], units + ["newcomer"] * extra
    more_strata = [*strata, *["class 9"] * extra]

    before = names("fraction", "sample", value, keys, units, strata=strata)
    after = names("fraction", "sample", value, *more, strata=more_strata)
    assert {k for k in after if not k.startswith("new")} == before

    before = names("shots", "sample", shots, keys, units, strata=strata)
    if extra >= shots:
        after = names("shots", "sample", shots, *more, strata=more_strata)
        assert {k for k in after if not k.startswith("new")} == before
        before = names("shots", "unit", shots, keys, units)
        after = names("shots", "unit", shots, *more)
        assert {k for k in after if not k.startswith("new")} == before


def test_strata_and_units_get_their_share():
    keys, units = world(90, 9)
    strata = ["rare" if i % 9 == 0 else "common" for i in range(90)]  # unit u0 is rare
    chosen = take("fraction", "sample", 0.11, keys, units, strata=strata)
    counts = {s: sum(strata[i] == s for i in chosen) for s in ("rare", "common")}
    assert counts == {"rare": 2, "common": 9}  # ceil(1.1) and ceil(8.8)
    each = take("shots", "unit", 4, keys, units)
    assert {u: sum(units[i] == u for i in each) for u in units} == dict.fromkeys(units, 4)
    whole = {units[i] for i in take("units", "unit", 1, keys, units, strata=strata)}
    assert len(whole) == 2
    assert "u0" in whole
    assert len(take("units", "unit", 1, keys, units, strata=strata)) == 20


def test_units_are_whole():
    keys, units = world(55, 6)
    chosen = set(take("fraction", "unit", 0.4, keys, units).tolist())
    for unit in set(units):
        members = {i for i in range(55) if units[i] == unit}
        assert members <= chosen or not members & chosen


def test_seeds_and_protocols_draw_anew():
    keys, units = world(200, 20)
    base = names("fraction", "sample", 0.5, keys, units)
    other_seed = names("fraction", "sample", 0.5, keys, units, seed=1)
    other_version = names("fraction", "sample", 0.5, keys, units, protocol=ID[:-1] + "2")
    for other in (other_seed, other_version):
        assert 25 < len(base & other) < 75  # 50 expected of independent halves


def test_digest_knows_no_order():
    assert subsets.digest(["b", "a"]) == subsets.digest(["a", "b"])
    assert subsets.digest(["a", "b"]) == "sha256:" + hashlib.sha256(b"a\nb\n").hexdigest()
    assert subsets.digest(["a"]) != subsets.digest(["a", "b"])


@pytest.mark.parametrize(
    ("kind", "by", "value", "said"),
    [
        (
            "fraction",
            "sample",
            0.0,
            "empty; there are 20 samples; the smallest useful fraction is 0.05",
        ),
        ("fraction", "unit", 0.0, "empty; there are 4 units; the smallest useful fraction is 0.25"),
        ("shots", "sample", 0, "empty; there are 20 samples; the smallest useful value is 1"),
        ("shots", "unit", 6, "more than there is: 5 samples of u0; the largest value is 5"),
        ("units", "unit", 5, "more than there is: 4 units; the largest value is 4"),
    ],
)
def test_what_cannot_be_drawn_says_what_could(kind, by, value, said):
    with pytest.raises(FacebenchError, match=said) as caught:
        take(kind, by, value, *world(20, 4))
    assert ID in str(caught.value)


def test_bad_input_is_named():
    keys, units = world(6, 2)
    with pytest.raises(UsageError, match="'fraction'"):
        take("fractions", "sample", 0.5, keys, units)
    with pytest.raises(UsageError, match="by 'video'"):
        take("fraction", "video", 0.5, keys, units)
    with pytest.raises(UsageError, match=r"\(0, 1\]"):
        take("fraction", "sample", 1.5, keys, units)
    with pytest.raises(UsageError, match="whole number"):
        take("shots", "sample", 1.5, keys, units)
    with pytest.raises(FacebenchError, match="'k1' stands twice"):
        take("full", "sample", 1.0, ["k0", "k1", "k1"], ["u"] * 3)
    with pytest.raises(FacebenchError, match="3 keys, 2 units"):
        take("full", "sample", 1.0, ["a", "b", "c"], ["u"] * 2)
    with pytest.raises(FacebenchError, match="empty"):
        take("full", "sample", 1.0, [], [])
    with pytest.raises(FacebenchError, match="unit 'u0' lies in more than one stratum"):
        take("units", "unit", 1, keys, units, strata=list("aabbaa"))
