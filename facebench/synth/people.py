"""Who a face is: the identity vector, the shape it gives the mesh, the colours it stands for.

The first part of the vector are weights of smooth shape modes in standard deviations (all but the
last three are mirror-symmetric, see `modes`); the rest are looks in [0, 1], from melanin to hair
style. Age comes beside the vector: it moves the shape, greys the hair and lifts its line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from facebench.synth import hair as hair_lib
from facebench.synth import head, modes
from facebench.synth.modes import SHAPES
from facebench.synth.numeric import Array, Draws, quantise, smooth

#: Names of the looks, in the order in which they follow the shape modes.
LOOKS = (
    "melanin", "undertone", "ruddiness", "freckles", "lip colour", "brow thickness",
    "brow darkness", "brow arch", "hair style", "hairline", "hair volume", "hair darkness",
    "hair redness", "grey", "beard", "beard length", "eye hue", "eye lightness", "lashes",
    "under eyes", "cloth hue", "cloth lightness", "shine", "hair parting", "fringe",
    "wrinkling", "hair wave",
)  # fmt: skip

SIZE = len(SHAPES) + len(LOOKS)
STYLES = hair_lib.STYLES


@lru_cache(maxsize=1)
def _tables() -> tuple[Array, Array, Array]:
    """Unit normals of the sheet at rest, where hair grows thick on it, and `hair_distance`."""
    sheet = head.build().rest[:, : head.SHEET]
    normal = quantise(np.stack(normals(head.build().rest)))[:, : head.SHEET]
    normal[:, : head.COLUMNS] = np.array([0.0, 1.0, 0.0])[:, None]  # the crown is one point
    top = 0.62 + 0.38 * smooth(sheet[1], 2.0, 9.0)
    return normal, quantise(top), hair_distance()


def hair_distance() -> Array:
    """How far inside the hair's edge each vertex of the sheet is; < 0: skin.

    In rows' places v (about 2.2 cm), square to the edge.
    """
    slope = head.hair_slope()
    inside = head.hair_edge() - head.ROW
    near = 1.0 - smooth(inside, 0.2, 2.2)
    inside = inside / np.sqrt(1.0 + slope * slope * near)
    return quantise(inside.reshape(-1))


@lru_cache(maxsize=1)
def _seams() -> list[tuple[int, int, Array]]:
    """Rows that fall together, beside the eyes and the mouth: first row, last row, columns."""
    n, same = head.NAMED, head.joined()
    pairs = ((n["upper lid"], n["lower lid"]), (n["upper mouth"], n["lower mouth"]))
    return [(a, b, np.flatnonzero(same[a + 1])) for a, b in pairs]


def normals(points: Array) -> tuple[Array, Array, Array]:
    """Unit vectors that stand outwards on the surface at each vertex of points [3, V]."""
    out = [np.empty(points.shape[1]) for _ in range(3)]
    for part in head.build().parts:
        span = part.span
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
                for first, last, outside in _seams():
                    n[first : last + 1, outside] = (n[first] + n[last])[outside]
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
        rest: [3, V] the mesh of this identity at this age, cm, without expression.
        looks: the looks by name, in [0, 1]; age has changed "grey" and "hairline".
        style: name of the hair style.
        skin, lips, hair, iris, cloth: linear RGB, [3].
        age: years.
    """

    rest: Array
    looks: dict[str, float]
    style: str
    skin: Array
    lips: Array
    hair: Array
    iris: Array
    cloth: Array
    age: float


def draw(draws: Draws) -> Array:
    """Draws an identity vector, float64 [SIZE].

    Shape modes are independent. Two looks lean on the mode "softness", as they do among people:
    soft faces seldom have a beard and more often have long hair.
    """
    shape = draws.bell(len(SHAPES))
    looks = draws.uniform(len(LOOKS))
    soft = float(shape[SHAPES.index("softness")]) > 0.0
    beard, style = LOOKS.index("beard"), LOOKS.index("hair style")
    if soft:
        looks[beard] *= 0.66
        looks[style] = 0.13 + 0.87 * looks[style]
    elif looks[style] >= 0.54:
        looks[style] = looks[style] if looks[style] >= 0.85 else looks[style] - 0.36
    # a fringe is worn from 0.6 on: by one person in four of those whose hair allows it
    fringe = LOOKS.index("fringe")
    u = float(looks[fringe])
    looks[fringe] = u * 0.8 if u < 0.75 else 0.6 + (u - 0.75) * 1.6
    return np.concatenate([shape, looks])


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
    g = min(max(grey, 0.0), 1.0)
    mixed = base * (1 - r) + red * r
    return np.asarray(mixed * (1 - g) + np.array([0.46, 0.45, 0.44]) * g)


def become(vector: Array, age: float = 30.0) -> Person:
    """The person that an identity vector describes, at an age in years (cached by value)."""
    return _become(np.asarray(vector, np.float64).tobytes(), float(age))


def _aged(looks: dict[str, float], age: float) -> dict[str, float]:
    """The looks as age changes them: hair greys and recedes, lips pale, eyes sink."""
    out = dict(looks)
    years = min(max((age - 28.0) * (1.0 / 50.0), 0.0), 1.0)
    early = 0.55 + 0.45 * looks["grey"]
    turned = float(smooth(np.array(years * early * 1.6), 0.15, 1.3))
    out["grey"] = turned * turned
    out["hairline"] = min(looks["hairline"] + 0.55 * years * looks["hairline"], 1.4)
    out["lip colour"] = looks["lip colour"] * (1.0 - 0.5 * years)
    out["under eyes"] = min(looks["under eyes"] + 0.35 * years, 1.0)
    return out


@lru_cache(maxsize=64)
def _become(data: bytes, age: float) -> Person:
    vector = np.frombuffer(data, np.float64)
    normal, top, distance = _tables()
    born = {name: float(v) for name, v in zip(LOOKS, vector[len(SHAPES) :])}
    rest = modes.rest_shape(vector[: len(SHAPES)], age, born["wrinkling"])
    style = STYLES[sum(born["hair style"] >= e for e in hair_lib.STYLE_EDGES)]
    looks = _aged(born, age)
    sheet = head.SHEET
    thick = hair_lib.thickness(style, looks)
    if thick:
        inside = distance + hair_shift(looks, style)
        amount = thick * smooth(inside, 0.0, 1.05 if style == "curly" else 1.5)
        if style == "curly":
            amount = amount * (1.0 + 0.16 * hair_lib.grain())
        elif style != "tied":
            amount = amount * top * (1.0 + 0.12 * looks["hair wave"] * hair_lib.tufts())
        rest[:, :sheet] += normal * amount
    grids = hair_lib.worn(style, looks)
    usual = head.build().rest
    for part in head.build().parts[3:]:
        rest[:, part.span] += grids[part.name].reshape(3, -1) - usual[:, part.span]
    melanin = looks["melanin"]
    skin = _between(
        melanin * (0.6 + 0.4 * melanin),
        (0.74, 0.452, 0.335),
        (0.657, 0.362, 0.228),
        (0.49, 0.246, 0.136),
        (0.288, 0.127, 0.065),
        (0.122, 0.051, 0.028),
    )
    warm = (looks["undertone"] - 0.5) * 0.14
    skin = skin * np.array([1.0 + 0.3 * warm, 1.0 + 0.5 * warm, 1.0 - warm])
    lip = looks["lip colour"]
    lips = skin * np.array([0.92 - 0.08 * lip, 0.56 - 0.18 * lip, 0.64 - 0.15 * lip])
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
    return Person(quantise(rest, 24), looks, style, skin, lips, hair, iris, cloth, age)


def hair_shift(looks: dict[str, float], style: str) -> float:
    """How far this person's hair reaches beyond the usual edge, in rows' places."""
    return hair_lib.REACH[style] + 0.5 * (0.5 - looks["hairline"])
