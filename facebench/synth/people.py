"""Who a face is: the identity vector, the shape it gives the mesh, the colours it stands for.

The first part of the vector are weights of smooth shape modes in standard deviations (all but the
last two are mirror-symmetric); the rest are looks in [0, 1], from melanin to hair style.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from facebench.synth import head
from facebench.synth.head import bump
from facebench.synth.numeric import Array, Draws, quantise, smooth

#: Names of the shape modes, in the order of the identity vector.
SHAPES = (
    "width", "length", "jaw width", "chin length", "chin forward", "cheekbones", "cheek fullness",
    "forehead", "brow ridge", "brow height", "nose length", "nose width", "nose height",
    "nose hump", "eye size", "eye distance", "eye tilt", "mouth width", "lip fullness",
    "lip forward", "neck", "ear size", "asymmetry of the jaw", "asymmetry of the nose",
)  # fmt: skip

#: Names of the looks, in the order in which they follow the shape modes.
LOOKS = (
    "melanin", "undertone", "ruddiness", "freckles", "lip colour", "brow thickness",
    "brow darkness", "brow arch", "hair style", "hairline", "hair volume", "hair darkness",
    "hair redness", "grey", "beard", "beard length", "eye hue", "eye lightness", "lashes",
    "under eyes", "cloth hue", "cloth lightness", "shine", "hair parting",
)  # fmt: skip

SIZE = len(SHAPES) + len(LOOKS)
STYLES = ("bald", "buzzed", "short", "full", "long")
_STYLE_EDGES = (0.07, 0.17, 0.50, 0.68)


def _modes() -> list[Array]:
    x, y, z = head.build().rest
    side = np.sign(x)
    front = smooth(z, 0.0, 4.0)
    skull = smooth(y, -16.0, -11.5)  # the neck and shoulders stay
    lower = smooth(-y, 1.0, 9.0) * smooth(y, -15.0, -11.5)
    zero = np.zeros_like(x)
    top, low = smooth(-y, 6.8, 6.0), smooth(-y, 6.0, 6.8)
    eye = bump(x, y, 3.1, 0.1, 1.9, 1.1) * front
    b = lambda *a: bump(x, y, *a) * front  # noqa: E731
    ear = np.concatenate(
        [np.full(p.rows * p.columns, float(p.name == "ear")) for p in head.build().parts]
    )
    made = {
        "width": (0.040 * x * skull, zero, zero),
        "length": (zero, 0.045 * (y + 0.5) * skull * smooth(-y, -1.0, 3.0), zero),
        "jaw width": (0.065 * x * lower, zero, zero),
        "chin length": (zero, -0.45 * bump(x, y, 0, -10.8, 3.2, 2.2) * smooth(z, -2, 3), zero),
        "chin forward": (zero, zero, 0.45 * bump(x, y, 0, -10.2, 2.6, 2.4) * front),
        "cheekbones": (0.18 * side * b(5.6, -2.0, 2.2, 1.6), zero, 0.22 * b(4.4, -2.2, 1.9, 1.2)),
        "cheek fullness": (
            0.26 * side * bump(x, y, 5.4, -6.0, 2.0, 2.6) * smooth(z, -2, 3),
            zero,
            0.28 * b(3.9, -5.6, 1.7, 2.2),
        ),
        "forehead": (zero, 0.07 * np.maximum(y - 3.0, 0), 0.30 * b(0, 6.0, 5.0, 2.5)),
        "brow ridge": (zero, zero, 0.24 * b(2.3, 1.9, 2.4, 0.9)),
        "brow height": (zero, 0.24 * b(2.9, 2.5, 2.9, 1.0), zero),
        "nose length": (zero, -0.34 * b(0.5, -4.2, 2.0, 1.3), zero),
        "nose width": (
            0.24 * side * np.minimum(np.abs(x), 1.2) * b(0.8, -3.9, 1.3, 1.1),
            zero,
            zero,
        ),
        "nose height": (zero, zero, 0.34 * b(0, -3.2, 1.0, 1.7)),
        "nose hump": (zero, zero, 0.17 * b(0, -0.9, 0.8, 1.1)),
        "eye size": (0.09 * side * (np.abs(x) - 3.1) * eye, 0.13 * y * eye, zero),
        "eye distance": (0.17 * side * b(3.1, 0.4, 2.2, 1.8), zero, zero),
        "eye tilt": (zero, 0.10 * (np.abs(x) - 3.1) * b(3.1, 0.5, 2.4, 1.6), zero),
        "mouth width": (0.10 * x * b(0, -6.4, 3.4, 1.6), zero, zero),
        "lip fullness": (
            zero,
            0.20 * (y + 6.42) * b(0, -6.5, 2.6, 1.3),
            0.10 * b(0, -6.0, 1.8, 0.6) * top + 0.12 * b(0, -7.0, 1.7, 0.6) * low,
        ),
        "lip forward": (zero, zero, 0.28 * b(0, -6.4, 2.2, 1.6)),
        "neck": (0.09 * x * smooth(-y, 10.5, 13) * (1 - smooth(-y, 15.5, 18)), zero, zero),
        "ear size": (ear * side * 0.12, ear * 0.10 * (y + 1.0), ear * 0.08 * z),
        "asymmetry of the jaw": (0.12 * bump(x, y, 0, -10, 5, 3.5) * smooth(z, -2, 3), zero, zero),
        "asymmetry of the nose": (0.08 * b(0, -3.2, 1.2, 2.0), zero, zero),
    }
    return [np.stack(made[name]) for name in SHAPES]


@lru_cache(maxsize=1)
def _tables() -> tuple[Array, Array, Array]:
    modes = quantise(np.stack(_modes()))
    curtain = head.build().parts[-1]
    modes[:, :, curtain.start :] *= 0.5
    normal = quantise(np.stack(normals(head.build().rest)))
    return modes, normal, hair_distance()


def hair_distance() -> Array:
    """How far inside the hair's edge each vertex of the sheet is, in rows' places v; < 0: skin."""
    theta = np.abs(head.THETA)
    edge = np.interp(
        theta,
        np.array([0, 20, 38, 50, 60, 70, 76, 83, 91, 102, 114, 130, 180]) / 180 * np.pi,
        np.array([2.95, 2.85, 2.8, 3.15, 4.0, 5.2, 6.2, 6.1, 4.9, 4.9, 8.4, 9.6, 9.9]),
    )
    return quantise((edge[None] - head.ROW).reshape(-1))


def normals(points: Array) -> tuple[Array, Array, Array]:
    """Unit vectors that stand outwards on the surface at each vertex of points [3, V]."""
    out = [np.empty(points.shape[1]) for _ in range(3)]
    up, low = head.NAMED["upper lid"], head.NAMED["lower lid"]
    a, b = head.NAMED["upper mouth"], head.NAMED["lower mouth"]
    for part in head.build().parts:
        span = slice(part.start, part.start + part.rows * part.columns)
        g = points[:, span].reshape(3, part.rows, part.columns)
        if part.closed:
            g = np.concatenate([g, g[:, :, :1]], 2)
        d = g[:, 1:, 1:] - g[:, :-1, :-1]
        e = g[:, :-1, 1:] - g[:, 1:, :-1]
        face = (d[1] * e[2] - d[2] * e[1], d[2] * e[0] - d[0] * e[2], d[0] * e[1] - d[1] * e[0])
        total = []
        for f in face:
            n = np.zeros((part.rows, f.shape[1] + 1))
            n[:-1, :-1] += f
            n[:-1, 1:] += f
            n[1:, :-1] += f
            n[1:, 1:] += f
            if part.closed:
                n[:, 0] += n[:, -1]
                n = n[:, :-1]
            if part.name == "head":  # rows that fall together share their normals
                m = head.MIDDLE
                for first, last, inner, outer in (
                    (up, low, head.EYE_IN, head.EYE_OUT),
                    (a, b, -1, head.MOUTH_OUT),
                ):
                    joined = n[first] + n[last]
                    outside = np.abs(np.arange(part.columns) - m)
                    outside = (outside <= inner) | (outside >= outer)
                    n[first : last + 1, outside] = joined[outside]
            total.append(n)
        length = np.sqrt(total[0] * total[0] + total[1] * total[1] + total[2] * total[2])
        inverse = -1.0 if part.name == "ear" and part.start == head.build().parts[1].start else 1.0
        inverse = inverse / np.maximum(length, 1e-9)
        for k in range(3):
            out[k][span] = (total[k] * inverse).reshape(-1)
    return out[0], out[1], out[2]


@dataclass(frozen=True)
class Person:
    """What an identity vector stands for.

    Attributes:
        rest: [3, V] the mesh of this identity, cm, without expression.
        looks: the looks by name, in [0, 1].
        style: name of the hair style.
        skin, lips, hair, beard, iris, cloth: linear RGB, [3].
    """

    rest: Array
    looks: dict[str, float]
    style: str
    skin: Array
    lips: Array
    hair: Array
    iris: Array
    cloth: Array


def draw(draws: Draws) -> Array:
    """Draws an identity vector, float64 [SIZE]."""
    shape = draws.bell(len(SHAPES)) * 1.2
    return np.concatenate([shape, draws.uniform(len(LOOKS))])


def _between(t: float, *colours: tuple[float, float, float]) -> Array:
    """A colour on the line through `colours` at t in [0, 1]."""
    place = min(max(t, 0.0), 1.0) * (len(colours) - 1)
    k = min(int(place), len(colours) - 2)
    f = place - k
    return np.array([a * (1 - f) + b * f for a, b in zip(colours[k], colours[k + 1])])


def hair_colour(darkness: float, redness: float, grey: float) -> Array:
    """Linear RGB of hair."""
    dark = darkness
    base = _between(
        dark, (0.50, 0.34, 0.16), (0.20, 0.105, 0.045), (0.05, 0.028, 0.016), (0.014, 0.011, 0.010)
    )
    red = _between(
        dark, (0.50, 0.20, 0.06), (0.24, 0.07, 0.022), (0.06, 0.022, 0.012), (0.014, 0.011, 0.010)
    )
    r = min(max((redness - 0.75) * 4.0, 0.0), 1.0)
    g = min(max((grey - 0.82) * 5.5, 0.0), 1.0)
    mixed = base * (1 - r) + red * r
    return np.asarray(mixed * (1 - g) + np.array([0.36, 0.35, 0.34]) * g)


def become(vector: Array) -> Person:
    """The person that an identity vector describes (cached by value)."""
    return _become(np.asarray(vector, np.float64).tobytes())


@lru_cache(maxsize=64)
def _become(data: bytes) -> Person:
    vector = np.frombuffer(data, np.float64)
    modes, normal, distance = _tables()
    rest = head.build().rest.copy()
    for weight, mode in zip(vector, modes):
        if weight != 0.0:
            rest += float(weight) * mode
    looks = {name: float(v) for name, v in zip(LOOKS, vector[len(SHAPES) :])}
    style = STYLES[sum(looks["hair style"] >= e for e in _STYLE_EDGES)]
    thick = {"bald": 0.0, "buzzed": 0.18, "short": 0.75, "full": 1.25, "long": 0.95}[style]
    if thick:
        thick *= 0.8 + 0.5 * looks["hair volume"]
        inside = distance + hair_shift(looks, style)
        sheet = head.ROWS * head.COLUMNS
        amount = thick * smooth(inside, 0.05, 1.3 if style != "full" else 0.9)
        rest[:, :sheet] += normal[:, :sheet] * amount
    melanin = looks["melanin"]
    skin = _between(
        melanin * (0.6 + 0.4 * melanin),
        (0.70, 0.46, 0.36),
        (0.62, 0.37, 0.255),
        (0.46, 0.25, 0.155),
        (0.27, 0.13, 0.075),
        (0.10, 0.046, 0.028),
    )
    warm = (looks["undertone"] - 0.5) * 0.14
    skin = skin * np.array([1.0 + 0.3 * warm, 1.0 + 0.5 * warm, 1.0 - warm])
    lip = looks["lip colour"]
    lips = skin * np.array([0.86 - 0.08 * lip, 0.58 - 0.16 * lip, 0.62 - 0.14 * lip])
    dark = 1.0 - (1.0 - looks["hair darkness"]) * (1.0 - 0.85 * melanin)
    hair = hair_colour(dark, looks["hair redness"], looks["grey"])
    hue = looks["eye hue"] * (1.0 - 0.8 * melanin)
    iris = _between(
        hue,
        (0.045, 0.02, 0.01),
        (0.12, 0.055, 0.02),
        (0.12, 0.12, 0.05),
        (0.13, 0.22, 0.30),
        (0.10, 0.24, 0.42),
    )
    iris = iris * (0.7 + 0.7 * looks["eye lightness"])
    cloth = _between(
        looks["cloth hue"],
        (0.03, 0.04, 0.07),
        (0.05, 0.14, 0.30),
        (0.05, 0.22, 0.14),
        (0.45, 0.43, 0.40),
        (0.38, 0.06, 0.05),
        (0.24, 0.10, 0.22),
        (0.5, 0.34, 0.1),
    )
    cloth = cloth * (0.5 + 1.0 * looks["cloth lightness"])
    return Person(quantise(rest, 24), looks, style, skin, lips, hair, iris, cloth)


def hair_shift(looks: dict[str, float], style: str) -> float:
    """How far this person's hair reaches beyond the usual edge, in rows' places."""
    reach = {"bald": 0.0, "buzzed": -0.1, "short": -0.1, "full": 0.25, "long": 0.05}[style]
    return reach + 0.5 * (0.5 - looks["hairline"])
