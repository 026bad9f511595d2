"""What shading needs to know about one picture, as a row of numbers for the compiled loops."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np

from facebench.synth import head
from facebench.synth.actions import INDEX
from facebench.synth.numeric import Array
from facebench.synth.people import Person
from facebench.synth.portrait import Parameters

# name of each block of numbers and how many it has; the constants below say where it starts
_BLOCKS = {
    "light": 9, "towards": 3, "half": 3, "strength": 1, "scale": 1, "tint": 3,
    "skin": 3, "lips": 3, "hair": 3, "iris": 3, "cloth": 3,
    "melanin": 1, "ruddy": 1, "freckles": 1, "spots": 1, "brow": 3, "beard": 3, "lashes": 1,
    "under eyes": 1, "shine": 1, "wrinkle": 1, "style": 1, "moles": 9,
    "lines": 16, "makeup": 16, "irises": 4, "eyes": 4, "mouth": 3, "rows": 7, "columns": 4,
    "sink": 1, "crown": 3, "down": 3,
}  # fmt: skip
(
    LIGHT, TOWARDS, HALF, STRENGTH, SCALE, TINT, SKIN, LIPS_, HAIR, IRIS, CLOTH_, MELANIN, RUDDY_,
    FRECKLES_, SPOTS_, BROW, BEARD_, LASHES, UNDER_EYES, SHINE, WRINKLE, STYLE, MOLES, LINES,
    MAKEUP_, IRISES, EYES, MOUTH, ROWS_, COLUMNS_, SINK, CROWN, DOWN, LENGTH,
) = accumulate([0, *_BLOCKS.values()])  # fmt: skip

BALD, BUZZED, HAIRY = 0.0, 1.0, 2.0  # values at STYLE

#: Rows at ROWS_, in this order.
_ROWS = (
    "upper lid", "lower lid", "upper lip", "upper mouth", "lower mouth", "lower lip", "crease",
)  # fmt: skip


def _share(v: float) -> float:
    return min(max(v, 0.0), 1.0)


def exposure(light: Array) -> float:
    """What a camera would multiply the light by: full for even light, half way back for others.

    It is taken from the light that falls on a plane towards the camera and on its four
    neighbours.
    """
    f = [float(v) for v in light]
    base = 0.282095 * f[0] + (2.0 / 3.0) * 0.488603 * (0.8 * f[2] + 0.25 * f[1])
    side = (2.0 / 3.0) * 0.488603 * math.sqrt(f[3] * f[3] + f[1] * f[1])
    level = max(base + 0.25 * side, 0.05)
    return 0.98 / (0.28 + 0.72 * level)


def lines(p: Parameters, wrinkle: float) -> Array:
    """How deep each kind of crease is, left and right in the image, [8, 2].

    Crow's feet, furrow, forehead, nasolabial fold, marionette line, chin, nose, bags.
    """
    a = {k: float(v) for k, v in zip(INDEX, p.au)}
    side = {k: float(v) for k, v in zip(INDEX, p.sides)}
    out = np.zeros((8, 2))
    for s in (0, 1):
        sign = 1.0 if s else -1.0  # the subject's left is the image's right
        amount = {k: v * (1.0 + min(side[k] * sign, 0.0)) for k, v in a.items()}
        pull = amount[12] + amount[10] + amount[11] + 0.6 * amount[9]
        deep = 0.55 + 0.75 * wrinkle  # the same action folds an old skin deeper
        out[0, s] = deep * 0.55 * _share(amount[6] + 0.35 * amount[7] + 0.3 * amount[12])
        out[1, s] = deep * 0.75 * _share(amount[4] + 0.45 * amount[9])
        out[2, s] = deep * 0.55 * _share(0.75 * (amount[1] + amount[2]))
        out[3, s] = deep * 0.55 * min(pull, 1.3)
        out[4, s] = deep * 0.40 * _share(amount[15] + 0.4 * amount[14])
        out[5, s] = 0.30 * _share(amount[17])
        out[6, s] = deep * 0.8 * _share(amount[9])
        out[7, s] = deep * 0.35 * _share(amount[6] + 0.5 * amount[7])
    years = np.array([0.34, 0.26, 0.34, 0.44, 0.40, 0.06, 0.05, 0.40]) * wrinkle
    years = years + np.array([0.0, 0.0, 0.0, 0.07, 0.0, 0.0, 0.0, 0.05])
    return np.asarray(out + years[:, None])


def pack(
    p: Parameters, person: Person, marks: dict[str, float], size: int, exposed: float,
    crown: Array, down: Array,
) -> Array:  # fmt: skip
    """The row of numbers that the loops read.

    Args:
        p: what the picture shows.
        person: who it shows.
        marks: places of the eyes and the teeth on this face.
        size: side of the image, px.
        exposed: from `exposure`.
        crown: [3] where hair grows from, cm, camera's axes.
        down: [3] unit vector down the head, camera's axes.
    """
    k = np.zeros(LENGTH)
    looks = person.looks
    light = p.light * exposed
    k[LIGHT : LIGHT + 9] = light
    x, y, z = float(light[3]), float(light[1]), float(light[2])
    strength = math.sqrt(x * x + y * y + z * z)
    x, y, z = (x / strength, y / strength, z / strength) if strength > 1e-6 else (0.0, 0.4, 0.9)
    k[TOWARDS : TOWARDS + 3] = x, y, z
    hz = z + 1.15  # towards the viewer, who is at +z; never opposite
    length = max(math.sqrt(x * x + y * y + hz * hz), 1e-6)
    k[HALF : HALF + 3] = x / length, y / length, hz / length
    k[STRENGTH] = min(strength / 1.535, 2.0)
    k[SCALE] = float(p.camera[0]) * size
    k[TINT : TINT + 3] = p.tint
    for at, colour in (
        (SKIN, person.skin), (LIPS_, person.lips), (HAIR, person.hair), (IRIS, person.iris),
        (CLOTH_, person.cloth),
    ):  # fmt: skip
        k[at : at + 3] = colour
    age = float(p.age)
    early = looks.get("wrinkling", 0.5)
    wrinkle = _share((age - 27.0 + 14.0 * (early - 0.5)) / 55.0)
    pale = 1.0 - 0.35 * looks["melanin"]
    k[MELANIN] = looks["melanin"]
    k[RUDDY_] = 0.10 + 0.32 * looks["ruddiness"] + 0.06 * wrinkle
    k[FRECKLES_] = max(looks["freckles"] - 0.66, 0.0) * 2.0 * (1.0 - looks["melanin"])
    k[SPOTS_] = 0.30 * _share((age - 48.0) / 35.0) * (1.0 - 0.6 * looks["melanin"])
    k[BROW : BROW + 3] = looks["brow thickness"], looks["brow darkness"], looks["brow arch"]
    beard = _share((looks["beard"] - 0.66) * 2.95)
    long = looks["beard length"]
    k[BEARD_] = beard
    # stubble, full beard, goatee or moustache by the look of length
    k[BEARD_ + 1] = 0.0 if long <= 0.45 else (1.0 if long < 0.74 else (2.0 if long < 0.87 else 3.0))
    k[BEARD_ + 2] = _share(0.45 + 0.55 * beard)
    k[LASHES] = looks["lashes"]
    k[UNDER_EYES] = (0.05 + 0.22 * looks["under eyes"] + 0.10 * wrinkle) * pale
    k[SHINE] = looks["shine"] * (1.0 - 0.35 * wrinkle)
    k[WRINKLE] = wrinkle
    k[STYLE] = {"bald": BALD, "buzzed": BUZZED}.get(person.style, HAIRY)
    if looks["freckles"] > 0.55:
        for m in range(3):  # x, y, radius in cm; the places come from looks, so a person keeps them
            u = looks["freckles"] * (137.31 + 71.7 * m) + looks["lip colour"] * (53.7 + 11.3 * m)
            w = looks["freckles"] * (91.17 + 37.1 * m) + looks["undertone"] * (67.9 + 23.9 * m)
            u, w = u - math.floor(u), w - math.floor(w)
            size_of = 0.05 + 0.07 * abs(u - w)
            k[MOLES + 3 * m : MOLES + 3 * m + 3] = (u - 0.5) * 11.0, 1.0 - 10.5 * w, size_of
    k[LINES : LINES + 16] = lines(p, wrinkle).reshape(-1)
    k[MAKEUP_ : MAKEUP_ + 16] = p.makeup.reshape(-1)
    for s, name in enumerate(("left", "right")):
        x, y = marks[f"{name} x"], marks[f"{name} y"]
        k[EYES + 2 * s : EYES + 2 * s + 2] = x, y
        k[IRISES + 2 * s] = marks.get(f"{name} iris x", x + 1.2 * float(p.gaze[0]))
        k[IRISES + 2 * s + 1] = marks.get(f"{name} iris y", y + 1.2 * float(p.gaze[1]) + 0.04)
    k[MOUTH : MOUTH + 3] = marks["mouth x"], marks["upper teeth"], marks["lower teeth"]
    k[ROWS_ : ROWS_ + 7] = [head.NAMED[name] for name in _ROWS]
    k[COLUMNS_ : COLUMNS_ + 4] = head.MIDDLE, head.EYE_IN, head.EYE_OUT, head.MOUTH_OUT
    k[SINK] = wrinkle
    k[CROWN : CROWN + 3], k[DOWN : DOWN + 3] = crown, down
    return k
