"""Subsets: what is taken, and what it does not depend on."""

from __future__ import annotations

import hashlib
import itertools
import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench import files
from facebench.data import strata, subsets
from facebench.errors import FacebenchError, UsageError

ID = "landmarks/tiny/fractions@1"
GOLDEN = {
    "fraction": "sha256:a56b033522213992c74bb25fc42c42c879d1c7da2cb049fd3f293495e2d41dd2",
    "shots": "sha256:e0c2971619e0ac6ace8cca5572c0bf57593df3af952807afeb308dced377b4c7",
    "units": "sha256:155c7d134158069d85e865495b409e0135c074a16230a1b63b6acce62f54031a",
}


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


# ------------------------------------------------------------------ against the plain definition


def plainly(kind, by, value, keys, units, seed, strata):
    """The rule, said the slow way: for each group sort by hash, take the first."""

    def rank(item):
        return hashlib.sha256(f"{ID}\n{seed}\n{item}".encode()).hexdigest()

    whole = kind == "units" or (kind == "fraction" and by == "unit")
    chosen = set()
    group_of = [(s, u if kind == "shots" and by == "unit" else "") for s, u in zip(strata, units)]
    for group in set(group_of):
        rows = [i for i in range(len(keys)) if group_of[i] == group]
        items = sorted({units[i] if whole else keys[i] for i in rows}, key=rank)
        n = math.ceil(Fraction(str(value)) * len(items)) if kind == "fraction" else value
        first = set(items[:n])
        chosen |= {keys[i] for i in rows if (units[i] if whole else keys[i]) in first}
    return chosen


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_kind_is_its_plain_definition(data):
    kind, by = data.draw(
        st.sampled_from(
            [
                ("fraction", "sample"),
                ("fraction", "unit"),
                ("shots", "sample"),
                ("shots", "unit"),
                ("units", "unit"),
            ]
        )
    )
    per_unit = data.draw(st.lists(st.integers(3, 8), min_size=6, max_size=12))
    units = [f"u{u}" for u, n in enumerate(per_unit) for _ in range(n)]
    keys = [f"k{i}" for i in range(len(units))]
    whole = kind == "units" or (kind == "fraction" and by == "unit")
    if whole:  # three classes of units
        strata = [int(unit[1:]) % 3 for unit in units]
    else:
        strata = [0] * len(units) if by == "unit" else [i % 3 for i in range(len(units))]
    value = data.draw(st.floats(0.01, 1) if kind == "fraction" else st.integers(1, 2))
    seed = data.draw(st.integers(0, 9))
    found = names(kind, by, value, keys, units, seed=seed, strata=strata)
    assert found == plainly(kind, by, value, keys, units, seed, strata)


def test_draws_that_have_landed_stay_as_they_are(repository):
    """Subsets of the first protocols, drawn from their keys alone."""
    of = files.read_json(repository / "leaderboards/protocols/landmarks/synthface/fractions@1.json")
    keys = [f"landmarks-64/train/{i:06d}" for i in range(2000)]
    for name, frozen in of["subsets"].items():
        value, seed = name.split("/")
        found = subsets.draw(of["id"], of["regimes"], float(value), int(seed), keys, keys)
        assert subsets.digest([keys[i] for i in found]) == frozen


def test_zero_is_nothing():
    assert take("zero", "sample", 0, *world(5, 2)).tolist() == []
    with pytest.raises(UsageError, match="one value 0"):
        take("zero", "sample", 1, *world(5, 2))
    assert subsets.digest([]) == "sha256:" + hashlib.sha256(b"").hexdigest()


# ---------------------------------------------------------------------------------------- frames


def frames(value, how, keys, units, seed=0, kind="units"):
    regimes = {"kind": kind, "by": "unit", "values": [value], "frames": how}
    return {keys[i] for i in subsets.draw(ID, regimes, value, seed, keys, units)}


def videos(lengths):
    units = [f"v{v}" for v, n in enumerate(lengths) for _ in range(n)]
    return [f"v{v}/frame{i}" for v, n in enumerate(lengths) for i in range(n)], units


def test_frames_lie_at_equal_strides_in_the_order_of_their_numbers():
    keys, units = videos([12, 12])
    # 3 of 12: the middles of the three thirds; frame 10 comes after frame 2
    assert frames(1.0, {"count": 3}, keys, units, kind="full") == {
        f"v{v}/frame{i}" for v in (0, 1) for i in (2, 6, 10)
    }
    assert frames(1.0, {"fraction": 0.07}, keys, units, kind="full") == {"v0/frame6", "v1/frame6"}
    assert frames(1.0, {"fraction": 1.0}, keys, units, kind="full") == set(keys)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_frames_of_few_subjects_lie_within_those_of_more(data):
    lengths = data.draw(st.lists(st.integers(4, 30), min_size=2, max_size=8))
    keys, units = videos(lengths)
    how = data.draw(
        st.one_of(
            st.builds(lambda f: {"fraction": f}, st.floats(0.01, 1)),
            st.builds(lambda m: {"count": m}, st.integers(1, 4)),
        )
    )
    seed = data.draw(st.integers(0, 3))
    chosen = [frames(k, how, keys, units, seed) for k in range(1, len(lengths) + 1)]
    assert all(small < large for small, large in itertools.pairwise(chosen))
    of_one = next(iter(chosen[0])).split("/")[0]
    length = lengths[int(of_one[1:])]
    m = how.get("count") or math.ceil(Fraction(str(how["fraction"])) * length)
    assert len(chosen[0]) == m
    gaps = np.diff([-0.5 * length / m, *sorted(int(k.split("frame")[1]) for k in chosen[0])])
    assert (np.abs(gaps - length / m) <= 1).all()  # as even as whole numbers allow
    order = data.draw(st.permutations(range(len(keys))))
    assert frames(1, how, [keys[i] for i in order], [units[i] for i in order], seed) == chosen[0]


def test_more_frames_than_there_are():
    with pytest.raises(FacebenchError, match=r"regimes.frames.count 5: a unit has 4 samples"):
        frames(1.0, {"count": 5}, *videos([4, 9]), kind="full")


# ---------------------------------------------------------------------- labels that stand together


def occurrences(n, shares, seed=0, common=0.5):
    """Labels that depend on one another, as action units do: [n, A] of 0 and 1."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 1))
    value = common * shared + math.sqrt(1 - common**2) * rng.normal(size=(n, len(shares)))
    return (value < [NormalDist().inv_cdf(p) for p in shares]).astype(np.int64)


SHARES = (0.003, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7)


@pytest.mark.parametrize("value", [0.002, 0.01, 0.05, 0.1, 0.37, 0.9])
def test_every_label_has_its_share_at_every_size(value):
    n = 5000
    labels = occurrences(n, SHARES)
    keys = [f"k{i}" for i in range(n)]
    for seed in range(3):
        chosen = take("fraction", "sample", value, keys, keys, seed=seed, strata=labels)
        m = math.ceil(Fraction(str(value)) * n)
        assert len(chosen) == m
        off = labels[chosen].sum(axis=0) - m * labels.mean(axis=0)
        assert np.abs(off).max() < 2.5  # in samples; drawn by hash alone: 10 and more
        assert np.abs(off).mean() < 0.8


def test_drawing_by_hash_alone_is_worse():
    n = 5000
    labels = occurrences(n, SHARES)
    keys = [f"k{i}" for i in range(n)]
    m = n // 10
    expected = m * labels.mean(axis=0)
    balanced = take("fraction", "sample", 0.1, keys, keys, strata=labels)
    plain = take("fraction", "sample", 0.1, keys, keys)
    error = [np.abs(labels[rows].sum(axis=0) - expected).mean() for rows in (balanced, plain)]
    assert error[0] < 0.2 * error[1]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_balanced_subsets_are_nested_in_any_order_and_of_exact_size(data):
    n = data.draw(st.integers(20, 120))
    a = data.draw(st.integers(1, 9))
    labels = occurrences(n, np.linspace(0.05, 0.6, a), seed=data.draw(st.integers(0, 99)))
    by = data.draw(st.sampled_from(["sample", "unit"]))
    keys, units = world(n, 10)
    kind = "fraction" if by == "sample" else data.draw(st.sampled_from(["fraction", "units"]))
    if kind == "fraction":
        values = sorted(data.draw(st.lists(st.floats(0.02, 1), min_size=2, max_size=4)))
    else:
        values = sorted(data.draw(st.lists(st.integers(1, 10), min_size=2, max_size=4)))
    chosen = [names(kind, by, v, keys, units, strata=labels) for v in values]
    assert all(small <= large for small, large in itertools.pairwise(chosen))
    counted = [len(c if by == "sample" else {units[int(k[1:])] for k in c}) for c in chosen]
    whole = n if by == "sample" else 10
    assert counted == [
        v if kind == "units" else math.ceil(Fraction(str(v)) * whole) for v in values
    ]
    order = np.array(data.draw(st.permutations(range(n))))
    shuffled = [keys[i] for i in order], [units[i] for i in order]
    again = names(kind, by, values[0], *shuffled, strata=labels[order])
    assert again == chosen[0]


def test_few_units_are_chosen_to_balance_their_labels():
    """Against every possible choice: the balanced units are among the best tenth."""
    rng = np.random.default_rng(4)
    people, each = 14, 20
    habits = rng.uniform(0, 0.8, (people, 4))  # how often a person shows each label
    keys, units = world(people * each, people)
    who = np.array([int(u[1:]) for u in units])
    labels = (rng.random((len(keys), 4)) < habits[who]).astype(np.int64)
    totals = np.stack([labels[who == p].sum(axis=0) for p in range(people)])

    def cost(choice):
        share = totals[list(choice)].sum(axis=0) / (each * len(choice))
        p = labels.mean(axis=0)
        return (((share - p) ** 2) / (p * (1 - p))).sum()

    every = sorted(cost(c) for c in itertools.combinations(range(people), 4))
    for seed in range(3):
        chosen = take("units", "unit", 4, keys, units, seed=seed, strata=labels)
        assert len(chosen) == 4 * each
        assert cost(set(who[chosen].tolist())) <= every[len(every) // 10]


def test_balanced_draws_keep_their_bytes():
    """Under every NumPy and on every machine: the digest of one draw of each kind."""
    labels = np.array([[(i * 7 + j * j) % (3 + 2 * j) == 0 for j in range(6)] for i in range(400)])
    keys, units = world(400, 40)
    found = {
        kind: subsets.digest(names(kind, by, value, keys, units, strata=labels.astype(np.int64)))
        for kind, by, value in (
            ("fraction", "sample", 0.1),
            ("shots", "sample", 25),
            ("units", "unit", 9),
        )
    }
    assert found == GOLDEN


def plain_order(counts, sizes, names):
    """`balanced_order` with Python's whole numbers, one item at a time."""
    n, total = len(names), sum(sizes)
    hashes = [hashlib.sha256(name.encode()).digest() for name in names]
    whole = [sum(column) for column in zip(*counts)]
    labels = [a for a in range(len(whole)) if 0 < whole[a] < total]
    labels.sort(key=lambda a: min(whole[a], total - whole[a]))
    add = [[row[a] * total - size * whole[a] for a in labels] for row, size in zip(counts, sizes)]
    listed = sorted(range(n), key=lambda i: ([v > 0 for v in add[i]], hashes[i]))
    phase = 0
    for value in hashes:
        phase ^= int.from_bytes(value[:8], "big")
    places = sorted(range(n), key=lambda i: (i * strata.GOLDEN + phase) % 2**64)
    left = [listed[i] for i in places]
    order, state = [], [0] * len(labels)
    scale = [2**30 // math.isqrt(whole[a] * (total - whole[a])) for a in labels]

    def cost(i, state):
        off = ((s + v) * k // 2**24 for s, v, k in zip(state, add[i], scale))
        return sum(value**2 for value in off)

    while left:
        costs = [cost(i, state) for i in left[: strata.POOL]]
        best = left.pop(costs.index(min(costs)))
        order.append(best)
        state = [s + v for s, v in zip(state, add[best])]
    return order


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(2, 150),
    a=st.integers(1, 11),
    seed=st.integers(0, 999),
    size=st.sampled_from([1, 30, 40_000]),
)
def test_the_balanced_order_is_its_plain_definition(n, a, seed, size):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, size + 1, n)
    counts = rng.integers(0, sizes[:, None] + 1, (n, a)) * (rng.random((n, a)) < rng.random(a))
    names_ = [f"item {i}" for i in range(n)]
    words = b"".join(hashlib.sha256(name.encode()).digest() for name in names_)
    ranks = np.frombuffer(words, ">u8").reshape(n, 4).astype(np.uint64)
    found = strata.balanced_order(counts.astype(np.int64), sizes, ranks).tolist()
    assert found == plain_order(counts.tolist(), sizes.tolist(), names_)


def test_labels_of_every_unit_are_not_balanced():
    keys, units = world(20, 4)
    with pytest.raises(UsageError, match="shots of every unit"):
        take("shots", "unit", 2, keys, units, strata=np.ones((20, 2), np.int64))


def test_labels_that_all_or_none_have_are_no_matter():
    keys, units = world(30, 5)
    flat = np.stack([np.ones(30, np.int64), np.zeros(30, np.int64)], axis=1)
    assert len(take("fraction", "sample", 0.2, keys, units, strata=flat)) == 6


@pytest.mark.slow
def test_a_million_keys():
    n = 1_000_000
    keys = [f"set/{i:07d}" for i in range(n)]
    units = [f"u{i % 9973}" for i in range(n)]
    chosen = take("fraction", "sample", 0.01, keys, units, strata=[i % 7 for i in range(n)])
    assert np.bincount(chosen % 7).tolist() == [
        math.ceil(len(range(c, n, 7)) / 100) for c in range(7)
    ]
    labels = occurrences(n, SHARES)
    chosen = take("fraction", "sample", 0.02, keys, units, strata=labels)
    assert np.abs(labels[chosen].sum(axis=0) - 20_000 * labels.mean(axis=0)).max() < 5
