"""Who lives in a world: appearance groups, and what a person brings to every image.

A group is a way to look, the same in every world: a stretch of melanin, and its own tendencies of
hair, eyes and a few shape modes. Groups have numbers, not names: they stand for no people.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from facebench.synth import occluders, people
from facebench.synth.numeric import Array, Draws, quantise
from facebench.synth.portrait import Occluder

#: Looks that a group shifts, and how far its people spread around the group's place.
GROUP_LOOKS = {
    "undertone": 0.5, "hair darkness": 0.4, "hair redness": 0.5, "hair wave": 0.4, "eye hue": 0.4,
    "eye lightness": 0.6, "freckles": 0.5,
}  # fmt: skip

#: Shape modes that a group shifts, by at most this many standard deviations.
GROUP_SHAPES = {
    "nose width": 1.2, "nose height": 1.2, "upper lip": 1.2, "lower lip": 1.2,
    "eye tilt": 1.3, "cheekbones": 1.0, "brow ridge": 0.9, "jaw width": 0.8,
}  # fmt: skip


@dataclass(frozen=True)
class Inhabitant:
    """What all images of one person share.

    Attributes:
        group: number of the appearance group.
        vector: float64 [people.SIZE] identity vector.
        age: place of the youngest image in the age range, in [0, 1).
        glasses: number in [0, 1) that decides whether the person wears glasses.
        frame: the glasses that the person wears or would wear.
        taste: float64 [8] in [0, 1): the person's colours and amounts of makeup.
    """

    group: int
    vector: Array
    age: float
    glasses: float
    frame: Occluder
    taste: Array


def shares(weights: tuple[float, ...], n: int, imbalance: float) -> Array:
    """Weights of `n` groups: those given, each (1 - imbalance / 2) times down the line."""
    out = np.array(weights or (1.0,) * n, np.float64)
    ratio, factor = 1.0 - 0.5 * imbalance, 1.0
    for k in range(n):
        out[k] *= factor
        factor *= ratio
    return out


@lru_cache(maxsize=64)
def _tendencies(group: int) -> tuple[dict[str, float], dict[str, float]]:
    draws = Draws("facebench.synth", "appearance group", group)
    looks = {name: draws.one() for name in GROUP_LOOKS}
    shapes = {name: draws.one(-1.0, 1.0) * most for name, most in GROUP_SHAPES.items()}
    return looks, shapes


def shifted(vector: Array, group: int, groups: int, strength: float) -> Array:
    """Moves an identity vector towards the looks of its group.

    Melanin moves into the group's stretch [group / groups, (group + 1) / groups), so even groups
    fill the whole range evenly. Every other look is drawn to the group's place, with what is left
    of its spread; shape modes are shifted.

    Args:
        vector: float64 [people.SIZE].
        group: its number.
        groups: how many there are.
        strength: 0 leaves the vector as it is, 1 shifts it fully.
    """
    if groups == 1 or strength == 0.0:
        return vector
    out = vector.copy()
    looks, shapes = _tendencies(group)
    first = len(people.SHAPES)
    k = first + people.LOOKS.index("melanin")
    out[k] += strength * ((group + vector[k]) / groups - vector[k])
    for name, spread in GROUP_LOOKS.items():
        if name in people.LOOKS:
            k = first + people.LOOKS.index(name)
            place = looks[name] * (1.0 - spread) + vector[k] * spread
            out[k] += strength * (place - vector[k])
    for name, shift in shapes.items():
        if name in people.SHAPES:
            out[people.SHAPES.index(name)] += strength * shift
    return out


def inhabitant(
    name: tuple[str | int, ...], groups: int, weights: tuple[float, ...], imbalance: float,
    strength: float,
) -> Inhabitant:  # fmt: skip
    """Draws a person.

    Args:
        name: parts of the name of the person's streams: version, seed, ..., number.
        groups: how many appearance groups there are.
        weights: of the groups; even when empty.
        imbalance: of the groups, see `shares`.
        strength: of the groups.
    """
    group = 0
    if groups > 1:
        group = Draws(*name, "group").pick(shares(weights, groups, imbalance))
    vector = shifted(people.draw(Draws(*name)), group, groups, strength)
    vector = quantise(vector, 40)
    vector.setflags(write=False)
    habits = Draws(*name, "habits")
    age, glasses, taste = habits.one(), habits.one(), habits.uniform(8)
    frame = occluders.draw(Draws(*name, "glasses"), "glasses", np.zeros(3))
    return Inhabitant(group, vector, age, glasses, frame, taste)


#: Linear RGB of lipsticks, eye shadows and blushes.
_LIPSTICKS = (
    (0.45, 0.03, 0.05), (0.30, 0.02, 0.06), (0.55, 0.12, 0.12), (0.42, 0.10, 0.16),
    (0.18, 0.02, 0.05), (0.60, 0.18, 0.10),
)  # fmt: skip
_SHADOWS = (
    (0.10, 0.05, 0.03), (0.05, 0.07, 0.16), (0.16, 0.06, 0.18), (0.05, 0.14, 0.10),
    (0.30, 0.18, 0.08), (0.04, 0.04, 0.05),
)  # fmt: skip
_BLUSHES = ((0.60, 0.20, 0.18), (0.55, 0.16, 0.22), (0.62, 0.28, 0.18))


def makeup(taste: Array, draws: Draws) -> Array:
    """The layers of `MAKEUP` on one image: float64 [4, 4], linear RGB and opacity.

    Lips are painted nine times in ten, each of the other layers six times in ten.

    Args:
        taste: of the person, `Inhabitant.taste`: colours, and how much.
        draws: of the image: which layers today, and a little more or less.
    """
    layers = np.zeros((4, 4))
    today, more = draws.uniform(4), draws.uniform(4, 0.7, 1.0)
    palettes = (_LIPSTICKS, _SHADOWS, ((0.012, 0.010, 0.010),), _BLUSHES)
    most = (0.9, 0.65, 0.9, 0.5)
    for k, palette in enumerate(palettes):
        if today[k] < (0.9 if k == 0 else 0.6):
            layers[k, :3] = palette[int(taste[k] * len(palette))]
            layers[k, 3] = most[k] * (0.45 + 0.55 * float(taste[4 + k])) * float(more[k])
    return layers
