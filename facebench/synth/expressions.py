"""Emotions as distributions of action-unit combinations, and the units that join in by chance.

An emotion is one of a few variants: its core units always act, its optional ones with a
probability. The combinations are those that FACS Investigator's Guide and EMFACS list for each
emotion (Ekman, Friesen and Hager 2002, table 11-1; Friesen and Ekman 1983). Other units join at
rates like those of spontaneous faces: where DISFA reports one (intensity of 2 and more; Mavadati
et al. 2013), it is DISFA's.

Which units join together follows from shared random numbers: unit `a` acts where a number u_a,
uniform in [0, 1), is below its rate. Linked units share their number with a stated probability,
so every unit keeps its rate exactly while pairs occur together more or less often than chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from facebench.synth.actions import ACTION_UNITS, EXPRESSIONS, INDEX
from facebench.synth.numeric import Array, Draws

#: Intensity that a core unit of an emotion has at least (FACS grade B stands at 0.4).
CORE = 0.35

#: How often extras join an emotion, against how often they join a neutral face.
BESIDE = 0.5


@dataclass(frozen=True)
class Variant:
    """One way to show an emotion.

    Attributes:
        weight: its share among the variants of the emotion.
        core: FACS number -> mean intensity; these always act.
        optional: FACS number -> (probability, mean intensity).
        one_sided: whether it shows on one side of the face only.
    """

    weight: float
    core: dict[int, float]
    optional: dict[int, tuple[float, float]] = field(default_factory=dict)
    one_sided: bool = False


VARIANTS: dict[str, tuple[Variant, ...]] = {
    "neutral": (Variant(1.0, {}),),
    "happy": (
        Variant(0.55, {6: 0.65, 12: 0.75, 25: 0.55}, {26: (0.25, 0.35), 7: (0.2, 0.4)}),
        Variant(0.25, {6: 0.55, 12: 0.70}, {14: (0.15, 0.3)}),
        Variant(0.20, {6: 0.80, 12: 0.90, 25: 0.80, 26: 0.55}, {7: (0.4, 0.5)}),
    ),
    "sad": (
        Variant(0.50, {1: 0.80, 4: 0.60, 15: 0.75}, {17: (0.5, 0.5), 11: (0.2, 0.4)}),
        Variant(0.25, {1: 0.75, 4: 0.55, 11: 0.50, 15: 0.60}, {17: (0.4, 0.45)}),
        Variant(0.25, {1: 0.60, 4: 0.45, 6: 0.45, 15: 0.80, 17: 0.60}, {43: (0.2, 0.4)}),
    ),
    "surprise": (
        Variant(0.55, {1: 0.80, 2: 0.85, 5: 0.50, 25: 0.55, 26: 0.70}),
        Variant(0.30, {1: 0.90, 2: 0.95, 5: 0.75, 25: 0.60, 27: 0.75}),
        Variant(0.15, {1: 0.75, 2: 0.80, 25: 0.50, 26: 0.65}),
    ),
    "fear": (
        Variant(0.50, {1: 0.80, 2: 0.60, 4: 0.60, 5: 0.85, 20: 0.70, 25: 0.55}, {26: (0.4, 0.4)}),
        Variant(0.30, {1: 0.80, 2: 0.60, 4: 0.60, 5: 0.80, 20: 0.60, 25: 0.60, 26: 0.50}),
        Variant(0.20, {1: 0.75, 2: 0.55, 4: 0.65, 5: 0.80, 7: 0.50, 20: 0.75, 25: 0.60}),
    ),
    "disgust": (
        Variant(0.40, {9: 0.90, 15: 0.50, 16: 0.50}, {25: (0.5, 0.35), 4: (0.4, 0.4)}),
        Variant(0.30, {9: 0.85, 10: 0.50, 17: 0.55}, {7: (0.4, 0.4), 4: (0.4, 0.4)}),
        Variant(0.30, {4: 0.45, 10: 0.80, 17: 0.60}, {9: (0.4, 0.5), 15: (0.3, 0.4)}),
    ),
    "anger": (
        Variant(0.40, {4: 0.90, 5: 0.55, 7: 0.65, 23: 0.75}, {17: (0.3, 0.4)}),
        Variant(0.35, {4: 0.90, 5: 0.50, 7: 0.65, 24: 0.75}, {17: (0.4, 0.45)}),
        Variant(0.25, {4: 0.95, 5: 0.60, 7: 0.60, 10: 0.55, 25: 0.65}, {26: (0.5, 0.4)}),
    ),
    "contempt": (
        Variant(0.65, {12: 0.65, 14: 0.75}, one_sided=True),
        Variant(0.35, {14: 0.85}, {10: (0.3, 0.35)}, one_sided=True),
    ),
}

#: How often each unit joins a neutral face.
RATES = {
    1: 0.050, 2: 0.043, 4: 0.152, 5: 0.020, 6: 0.079, 7: 0.080, 9: 0.042, 10: 0.040, 11: 0.020,
    12: 0.129, 14: 0.070, 15: 0.060, 16: 0.020, 17: 0.090, 18: 0.025, 20: 0.035, 22: 0.015,
    23: 0.040, 24: 0.045, 25: 0.277, 26: 0.088, 27: 0.012, 28: 0.012, 43: 0.030,
}  # fmt: skip

#: (unit, the unit it follows, +1 together or -1 apart, share of the faces where it follows),
#: in the order in which they apply. Shares of 1 and -1 keep units apart that no face can join.
LINKS = (
    (2, 1, 1, 0.6), (6, 12, 1, 0.6), (15, 12, -1, 0.7), (17, 15, 1, 0.5), (26, 25, 1, 0.6),
    (27, 25, 1, 1.0), (24, 25, -1, 1.0), (23, 24, 1, 0.5), (5, 43, -1, 1.0), (20, 18, -1, 1.0),
)  # fmt: skip

#: Pairs of which an extra does not join an emotion that has the other.
CONFLICTS = (
    (24, 25), (24, 26), (24, 27), (28, 25), (28, 26), (28, 27), (28, 24), (28, 12), (28, 20),
    (22, 24), (22, 12), (18, 12), (18, 20), (18, 25), (23, 27), (26, 27), (5, 43), (15, 12),
    (16, 24), (17, 27), (18, 27), (20, 24), (12, 24), (9, 1), (4, 2), (43, 1), (43, 2),
)  # fmt: skip

#: Units that one side of a face can show alone.
SIDED = (2, 6, 7, 9, 10, 11, 12, 14, 15, 20, 43)

_N = len(ACTION_UNITS)
_SIDED = np.array([float(au in SIDED) for au in ACTION_UNITS])
_RATES = np.array([RATES[au] for au in ACTION_UNITS])


_WEIGHTS = {name: np.array([v.weight for v in ways]) for name, ways in VARIANTS.items()}


def _conflicts() -> Array:
    table = np.zeros((_N, _N), bool)
    for a, b in CONFLICTS:
        table[INDEX[a], INDEX[b]] = table[INDEX[b], INDEX[a]] = True
    return table


_CONFLICTS = _conflicts()


@dataclass(frozen=True)
class Pattern:
    """Which units a face shows, without how strongly.

    Attributes:
        expression: index into `EXPRESSIONS`.
        mean: float64 [24] mean intensity of the units of the emotion, 0 for the others.
        core: bool [24] which of them are core units.
        extra: bool [24] which units join by chance.
        side: 0, or the side that a one-sided variant shows on (1 the subject's left).
    """

    expression: int
    mean: Array
    core: Array
    extra: Array
    side: float


def linked(own: Array, follow: Array, rates: Array) -> Array:
    """Uniform numbers [24] that share what `LINKS` says.

    Args:
        own: [24] independent uniform numbers, one per unit.
        follow: [24] independent uniform numbers that decide whether a unit follows.
        rates: [24] rates, which place lip suck beside the units that exclude it.

    Returns:
        [24] numbers, each uniform in [0, 1) by itself.
    """
    u = own.copy()
    for unit, leader, sign, share in LINKS:
        k, j = INDEX[unit], INDEX[leader]
        if follow[k] < share:
            u[k] = u[j] if sign > 0 else 1.0 - u[j]
    # Lip suck (28) takes the stretch below that of the lip pressor (24) on the number of the
    # parted lips (25), so that no two of the three act at once.
    gap = 1.0 - u[INDEX[25]] - float(rates[INDEX[24]])
    u[INDEX[28]] = gap if gap >= 0.0 else gap + 1.0
    return u


def pattern(weights: Array, extras: float, emotion: Draws, joining: Draws) -> Pattern:
    """Draws which units act.

    Args:
        weights: [classes] how often each expression turns up, in proportion.
        extras: scales the rates of the extras.
        emotion: stream that decides on the expression, its variant and its optional units.
        joining: stream that decides on the extras.
    """
    expression = emotion.pick(weights)
    variants = VARIANTS[EXPRESSIONS[expression]]
    variant = variants[emotion.pick(_WEIGHTS[EXPRESSIONS[expression]])]
    coins = emotion.uniform(_N)
    mean, core = np.zeros(_N), np.zeros(_N, bool)
    for unit, level in variant.core.items():
        mean[INDEX[unit]], core[INDEX[unit]] = level, True
    for unit, (chance, level) in variant.optional.items():
        if coins[INDEX[unit]] < chance:
            mean[INDEX[unit]] = level
    side = (1.0 if emotion.one() < 0.5 else -1.0) if variant.one_sided else 0.0
    rates = np.minimum(_RATES * (extras * (BESIDE if expression else 1.0)), 1.0)
    extra = linked(joining.uniform(_N), joining.uniform(_N), rates) < rates
    shown = mean > 0.0
    extra &= ~shown & ~_CONFLICTS[shown].any(axis=0)
    return Pattern(expression, mean, core, extra, side)


def intensities(shown: Pattern, asymmetry: float, draws: Draws) -> tuple[Array, Array]:
    """Draws how strongly the units of a pattern act, and how one-sidedly.

    A core unit's intensity is its mean times the face's strength (0.6 to 1.15) times its own
    jitter (0.8 to 1.2), within [CORE, 1]; an extra's is uniform in [0.2, 0.9).

    Args:
        shown: which units act.
        asymmetry: share of the extras that one side shows alone; the two sides of all other
            units of `SIDED` differ by up to this much.
        draws: the stream.

    Returns:
        au [24] in [0, 1] and sides [24] in [-1, 1], as in `Parameters`.
    """
    strength = draws.one(0.6, 1.15)
    level = shown.mean * strength * draws.uniform(_N, 0.8, 1.2)
    level = np.where(shown.core, np.maximum(level, CORE), level)
    au = np.where(shown.extra, draws.uniform(_N, 0.2, 0.9), np.minimum(level, 1.0))
    uneven = draws.uniform(_N, -1.0, 1.0) * asymmetry
    alone, coin = draws.uniform(_N), draws.uniform(_N)
    sides = np.where(shown.extra & (alone < asymmetry), np.where(coin < 0.5, 1.0, -1.0), uneven)
    sides = np.where(au > 0.0, sides * _SIDED, 0.0)
    if shown.side:
        sides = np.where(shown.mean > 0.0, shown.side, sides)
    return au, sides
