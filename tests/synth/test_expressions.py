"""Which action units act: rates, links and variants against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from facebench.synth import actions, expressions
from facebench.synth.numeric import Draws

N = 6000
NEUTRAL = np.array([1.0, 0, 0, 0, 0, 0, 0, 0])


def within(count: float, n: int, p: float) -> bool:
    """Whether a binomial count is within 4.5 standard deviations; the seeds are fixed."""
    return abs(count - n * p) <= 4.5 * np.sqrt(n * p * (1 - p)) + 1e-9


@pytest.fixture(scope="module")
def extras() -> np.ndarray:
    """Which units join N neutral faces, [N, 24]."""
    return np.stack([
        expressions.pattern(NEUTRAL, 1.0, Draws("e", i), Draws("x", i)).extra for i in range(N)
    ])  # fmt: skip


def test_every_unit_joins_at_its_rate(extras: np.ndarray) -> None:
    for unit, rate in expressions.RATES.items():
        assert within(extras[:, actions.INDEX[unit]].sum(), N, rate), unit


@pytest.mark.parametrize(("unit", "leader", "sign", "share"), expressions.LINKS)
def test_linked_units_occur_together_as_often_as_the_link_says(
    extras: np.ndarray, unit: int, leader: int, sign: int, share: float
) -> None:
    p, q = expressions.RATES[unit], expressions.RATES[leader]
    linked = min(p, q) if sign > 0 else max(p + q - 1.0, 0.0)
    joint = share * linked + (1.0 - share) * p * q
    both = extras[:, actions.INDEX[unit]] & extras[:, actions.INDEX[leader]]
    assert within(both.sum(), N, joint)


def test_no_face_does_what_no_face_can(extras: np.ndarray) -> None:
    for a, b in ((24, 25), (24, 27), (28, 25), (28, 24), (5, 43), (18, 20)):
        assert not (extras[:, actions.INDEX[a]] & extras[:, actions.INDEX[b]]).any()
    assert (extras[:, actions.INDEX[27]] <= extras[:, actions.INDEX[25]]).all()


def test_linked_numbers_are_uniform_each() -> None:
    rates = np.array([expressions.RATES[au] for au in actions.ACTION_UNITS])
    drawn = np.stack([
        expressions.linked(Draws("a", i).uniform(24), Draws("b", i).uniform(24), rates)
        for i in range(2000)
    ])  # fmt: skip
    assert drawn.min() >= 0.0
    assert drawn.max() <= 1.0
    for k in range(24):
        counts = np.histogram(drawn[:, k], 10, (0, 1))[0]
        assert all(within(c, 2000, 0.1) for c in counts), actions.ACTION_UNITS[k]


def test_variants_turn_up_by_their_weights_with_all_core_units() -> None:
    for name, variants in expressions.VARIANTS.items():
        assert sum(v.weight for v in variants) == pytest.approx(1.0)
        cores = [frozenset(v.core) for v in variants]
        assert len(set(cores)) == len(cores)
        only = np.array([float(e == name) for e in actions.EXPRESSIONS])
        seen = dict.fromkeys(cores, 0)
        options: dict[tuple[frozenset[int], int], int] = {}
        for i in range(400):
            shown = expressions.pattern(only, 1.0, Draws("v", i), Draws("w", i))
            assert actions.EXPRESSIONS[shown.expression] == name
            found = frozenset(np.array(actions.ACTION_UNITS)[shown.core].tolist())
            seen[found] += 1
            for unit in np.array(actions.ACTION_UNITS)[(shown.mean > 0) & ~shown.core].tolist():
                options[found, unit] = options.get((found, unit), 0) + 1
            au, _ = expressions.intensities(shown, 0.2, Draws("i", i))
            assert (au[shown.core] >= expressions.CORE).all()
            assert ((au > 0) == ((shown.mean > 0) | shown.extra)).all()
            assert au.max(initial=0.0) <= 1.0
            assert not (shown.extra & (shown.mean > 0)).any()
        for variant, core in zip(variants, cores):
            assert within(seen[core], 400, variant.weight)
            for unit, (chance, _) in variant.optional.items():
                assert within(options.get((core, unit), 0), seen[core], chance)


def test_extras_join_an_emotion_less_often_and_never_against_it() -> None:
    happy = np.array([0, 1.0, 0, 0, 0, 0, 0, 0])
    drawn = [expressions.pattern(happy, 1.0, Draws("h", i), Draws("j", i)) for i in range(3000)]
    count = sum(bool(p.extra[actions.INDEX[4]]) for p in drawn)
    assert within(count, 3000, expressions.RATES[4] * expressions.BESIDE)
    assert not any(p.extra[actions.INDEX[24]] for p in drawn)  # lips cannot press while smiling
    assert not any(p.extra[actions.INDEX[15]] for p in drawn)


def test_contempt_is_on_one_side_and_most_else_on_both() -> None:
    sides = set()
    for i in range(60):
        only = np.array([0, 0, 0, 0, 0, 0, 0, 1.0])
        shown = expressions.pattern(only, 0.0, Draws("c", i), Draws("d", i))
        au, side = expressions.intensities(shown, 0.0, Draws("k", i))
        assert set(side[au > 0].tolist()) in ({1.0}, {-1.0})
        assert not side[au == 0].any()
        sides.add(shown.side)
    assert sides == {1.0, -1.0}
    smile = np.array([0, 1.0, 0, 0, 0, 0, 0, 0])
    shown = expressions.pattern(smile, 0.0, Draws("c", 0), Draws("d", 0))
    assert not expressions.intensities(shown, 0.0, Draws("k", 0))[1].any()
    _, uneven = expressions.intensities(shown, 0.2, Draws("k", 0))
    assert 0 < np.abs(uneven).max() <= 0.2


def test_one_sided_extras_at_their_rate() -> None:
    alone = total = 0
    for i in range(2500):
        shown = expressions.pattern(NEUTRAL, 3.0, Draws("e", i), Draws("x", i))
        au, side = expressions.intensities(shown, 0.3, Draws("s", i))
        sided = np.array([n in expressions.SIDED for n in actions.ACTION_UNITS])
        total += int((shown.extra & sided).sum())
        alone += int((np.abs(side) == 1.0).sum())
        assert not side[~sided].any()
        assert not side[au == 0].any()
    assert within(alone, total, 0.3)
