"""Hair that hangs or stands off the scalp: a curtain, a fringe and a bun, as grids of vertices.

Every mesh holds all of them; a person's style and looks say where they are. What a style does not
use is not drawn; a fringe that is not worn lies under the scalp. Lengths are centimetres, axes as
in `relief`. Fixed tables at start-up; `worn` mixes them with float64 sums and products alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from facebench.synth import relief
from facebench.synth.numeric import Array, quantise, smooth

#: Hair styles, in the order of the look "hair style".
STYLES = ("bald", "buzzed", "short", "full", "long", "bob", "tied", "curly")
STYLE_EDGES = (0.07, 0.16, 0.40, 0.54, 0.70, 0.82, 0.91)

#: Thickness of the hair on the scalp per style, cm.
THICK = {
    "bald": 0.0, "buzzed": 0.16, "short": 0.75, "full": 1.45, "long": 0.50, "bob": 0.50,
    "tied": 0.38, "curly": 2.1,
}  # fmt: skip

#: How far the hair reaches beyond the usual edge per style, in rows' places.
REACH = {
    "bald": 0.0, "buzzed": -0.1, "short": -0.1, "full": 0.15, "long": 0.05, "bob": 0.05,
    "tied": 0.0, "curly": 0.10,
}  # fmt: skip

#: Rows and columns of the grids.
CURTAIN, BOB, FRINGE, BUN = (15, 33), (10, 33), (7, 25), (8, 14)
_SHOWN = {"long": ("curtain",), "bob": ("bob",), "tied": ("bun",)}


def shows(style: str, part: str) -> bool:
    """Whether a style draws a part of the mesh, by the part's name."""
    if part in ("head", "ear"):
        return True
    if part == "fringe":
        return style in ("short", "full", "long", "bob")
    return part in _SHOWN.get(style, ())


@lru_cache(maxsize=1)
def _scalp_table() -> Array:
    """Distance of the plain head from the axis at 129 heights (-20 to 12) and 49 angles."""
    v, angles = np.linspace(0.0, 16.0, 129), np.linspace(0.0, np.pi, 49)
    heights = np.linspace(-20.0, 12.0, 129)
    p = relief.skull(np.repeat(v, 49), np.tile(angles, 129)).reshape(3, 129, 49)
    r = np.sqrt(p[0] ** 2 + (p[2] - relief.AXIS_Z) ** 2)
    return np.stack([np.interp(-heights, -p[1, :, k], r[:, k]) for k in range(49)], 1)


def _scalp(theta: Array, y: Array) -> Array:
    """Distance of the plain head from the axis at angles and heights, the same shape."""
    table = _scalp_table()
    i, j = (np.clip(y, -20, 12) + 20.0) * 4.0, np.clip(np.abs(theta), 0, np.pi) * (48 / np.pi)
    i, j = np.broadcast_arrays(i, j)
    a, b = np.minimum(i.astype(int), 127), np.minimum(j.astype(int), 47)
    fi, fj = i - a, j - b
    top = table[a, b] * (1 - fj) + table[a, b + 1] * fj
    return np.asarray(top * (1 - fi) + (table[a + 1, b] * (1 - fj) + table[a + 1, b + 1] * fj) * fi)


def _curtain(end: float, bob: bool) -> tuple[Array, Array]:
    """Hair that hangs from the crown over the sides and the back to height `end`, [3, R, C].

    Beside it what it gains per cm of the scalp's hair, out of which it comes little by little.
    """
    rows, columns = BOB if bob else CURTAIN
    first = np.pi * 48 / 180
    theta = np.linspace(first, 2 * np.pi - first, columns)[None]
    t = np.linspace(0.0, 1.0, rows)[:, None]
    y = 10.6 + (end - 10.6) * t + 0 * theta
    behind = 0.5 - 0.5 * np.cos(2 * np.pi * (theta - first) / (2 * np.pi - 2 * first))
    y = y + (-0.2 if bob else -1.2) * behind * smooth(t, 0.4, 1.0)
    k = np.minimum(np.arange(columns), columns - 1 - np.arange(columns))
    y = y + (0.26 * np.cos(2.4 * k) + 0.16 * np.cos(1.1 * k + 1.0)) * smooth(t, 0.6, 1.0)
    half = np.pi - np.minimum(theta, 2 * np.pi - theta)
    if bob:
        keep = relief.curve(y, (-9.0, -5.0, -1.0, 2.0, 5.0), (0.82, 0.80, 0.80, 0.86, 1.0))
    else:
        keep = relief.curve(y, (-13.0, -8.0, -3.0, 1.0, 5.0), (0.60, 0.68, 0.78, 0.86, 1.0))
    angle = np.pi - half * keep
    radius = _scalp(angle, y)
    for h in (2.0, 0.0, -2.0):  # below its widest place the hair hangs
        radius = np.maximum(radius, _scalp(angle, np.maximum(y, h)) * (y < 2.0))
    beside = np.exp(-(((angle - 1.75) / 0.55) ** 2)) * np.exp(-(((y + 1.2) / 3.4) ** 2))
    off = 0.64 * smooth(-y, -9.2, -2.0) - 0.06 + 0.80 * beside
    if bob:
        off += 0.85 * smooth(-y, -3.0, 3.5) - 0.45 * smooth(-y, 5.5, 9.0)
    else:
        off += 0.35 * smooth(-y, 0.0, 6.0)
    wide = 1.3 + 1.3 * smooth(y, 1.0, 5.0)  # the front edge lies on the face before the ear
    edge = np.exp(-((k / wide) ** 2))
    lies = 1.0 - 0.92 * edge * smooth(y, -11.0, -5.0)
    off = off * lies
    r = radius + off
    s = np.where(theta > np.pi, -1.0, 1.0)
    x, z = r * np.sin(angle) * s, relief.AXIS_Z + r * np.cos(angle)
    _, rise = _rising(angle, np.maximum(y, 1.0))
    rise[0] *= s
    rise = (
        rise
        * lies
        * relief.curve(y, (0.0, 2.0, 5.0, 7.5, 9.0, 10.6), (0.60, 0.60, 0.76, 0.93, 0.95, 0.92))
    )
    if not bob:  # behind the shoulders
        fall = smooth(-y, 8.0, 16.5)
        z = z - fall * np.maximum(z + 9.6, 0.0) - 1.4 * smooth(-y, 13.0, 19.0)
        x = x * (1.0 + 0.06 * fall)
    return np.stack([x, y, z]), rise


def _rising(theta: Array, y: Array) -> tuple[Array, Array]:
    """Points of the plain head at angles and heights and its unit normals, [3, ...] each."""
    e = 0.05
    r = _scalp(theta, y)
    up = (_scalp(theta, y + e) - _scalp(theta, y - e)) / (2 * e)
    round_ = (_scalp(theta + e, y) - _scalp(theta - e, y)) / (2 * e)
    sin, cos = np.sin(theta), np.cos(theta)
    p = np.stack([r * sin, y, relief.AXIS_Z + r * cos])
    n = np.stack([r * sin - round_ * cos, -r * up, r * cos + round_ * sin])
    return p, n / np.sqrt((n * n).sum(axis=0))


def _fringe_places(end: float) -> tuple[Array, Array, Array, Array]:
    """Angles, heights, shares of the way down and places across in [0, 1] of a fringe, [R, C].

    It begins high on the scalp, where it lies within the scalp's hair and nobody sees its edge.
    """
    rows, columns = FRINGE
    theta = (np.linspace(-58, 58, columns) / 180 * np.pi)[None] + np.zeros((rows, 1))
    t = np.linspace(0.0, 1.0, rows)[:, None] + np.zeros((1, columns))
    u = np.abs(theta) / (np.pi * 58 / 180)
    lock = 0.16 * np.cos(13.0 * np.abs(theta) + 0.6)
    k = np.abs(np.arange(columns) - columns // 2)
    lock = lock + 0.14 * np.cos(2.2 * k + 2.0) + 0.09 * np.cos(1.3 * k + 2.4)
    top = 10.0 - 1.2 * u * u
    y = top + (end - 0.9 * u**2.5 - top + lock * smooth(t, 0.3, 1.0)) * t**1.35
    return theta, y, t, u


def _fringe(end: float, inset: float) -> Array:
    """Hair over the forehead down to height `end` in the middle, [3, R, C]."""
    theta, y, t, u = _fringe_places(end)
    p, n = _rising(np.abs(theta), y)
    s = np.where(theta < 0.0, -1.0, 1.0)
    p[0], n[0] = p[0] * s, n[0] * s
    off = relief.curve(t, (0.0, 0.15, 0.3, 0.6, 0.85, 1.0), (-0.10, -0.06, 0.02, 0.36, 0.45, 0.34))
    off = off * (1.0 + 0.10 * np.cos(23.0 * theta + 2.0 * t))
    p = p + n * (off * (1.0 - 0.9 * u**3) - 0.08 * u**4)
    p[0] = p[0] - inset * np.sin(theta)
    p[2] = p[2] - inset * np.cos(theta)
    return p


def _swept() -> Array:
    """What a fringe combed to one side differs from a straight one, [3, R, C] (odd in x)."""
    rows, columns = FRINGE
    s = np.sin(np.linspace(-58, 58, columns) / 180 * np.pi)[None] + np.zeros((rows, 1))
    t = np.linspace(0.0, 1.0, rows)[:, None]
    return np.stack([0.9 * t * (1.0 - s * s), 0.9 * s * t, 0 * s])


def _bun() -> Array:
    rows, columns = BUN
    a = np.linspace(0.0, np.pi, rows)[:, None]
    phi = (np.arange(columns) * (2 * np.pi / columns))[None] - np.pi
    r = np.sin(a) * (1.0 + 0.05 * np.cos(4 * phi + 3 * a))
    return np.stack([
        3.0 * r * np.sin(phi), 12.2 + 2.4 * np.cos(a) + 0 * phi, -5.4 + 2.8 * r * np.cos(phi)
    ])  # fmt: skip


def _mirrored(grid: Array, closed: bool) -> Array:
    """Makes the left half the exact mirror image of the right one."""
    grid = grid.copy()
    c = grid.shape[2]
    for k in range(c // 2 + 1):
        other = (c - k) % c if closed else c - 1 - k
        if other == k:
            grid[0, :, k] = 0.0
        else:
            grid[:, :, k] = grid[:, :, other] * np.array([-1.0, 1.0, 1.0])[:, None]
    return grid


@lru_cache(maxsize=1)
def tables() -> dict[str, Array]:
    """Grids by name, [3, R, C] cm.

    "long" and "bob" are curtains, "wave" and "out" ("bob wave", "bob out") what waves and volume
    add to them, "long over" and "bob over" what a cm of hair below adds; "fringe", "short fringe"
    and "bare" (not worn) are fringes, "swept" and "over" what combing to a side and a cm of hair
    below add to them; "bun" is the bun.
    """
    (long, long_rise), (bob, bob_rise) = _curtain(-19.0, False), _curtain(-9.0, True)
    made = {
        "long": long,
        "bob": bob,
        "long over": long_rise,
        "bob over": bob_rise,
        "fringe": _fringe(2.95, 0.0),
        "short fringe": _fringe(5.0, 0.0),
        "bare": _fringe(7.4, 1.9),
        "bun": _bun(),
        "swept": _swept(),
    }
    theta, y, t, u = _fringe_places(2.95)
    _, n = _rising(np.abs(theta), y)
    n[0] = n[0] * np.where(theta < 0.0, -1.0, 1.0)
    over = relief.curve(t, (0.0, 0.25, 0.5, 0.75, 1.0), (0.97, 0.93, 0.72, 0.36, 0.12))
    made["over"] = n * over * (1.0 - 0.16 * u**3)
    for name, grid, tide in (("", long, 1.0), ("bob ", bob, 0.45)):
        _, rows, columns = grid.shape
        t = np.linspace(0.0, 1.0, rows)[:, None]
        phase = np.minimum(np.arange(columns), columns - 1 - np.arange(columns))[None]
        wave = np.sin(phase + 11.0 * t) * smooth(t, 0.25, 0.8) + 0.5 * np.sin(17 * t + phase)
        flat = np.sqrt(grid[0] ** 2 + (grid[2] - relief.AXIS_Z) ** 2)
        out = np.stack([grid[0] / flat, 0 * flat, (grid[2] - relief.AXIS_Z) / flat])
        made[f"{name}wave"] = out * wave * tide
        made[f"{name}out"] = out * smooth(t, 0.15, 0.5)
    return {k: quantise(v if k == "swept" else _mirrored(v, k == "bun")) for k, v in made.items()}


def thickness(style: str, looks: dict[str, float]) -> float:
    """Thickness of the hair on the scalp, cm."""
    return THICK[style] * (0.75 + 0.5 * looks["hair volume"])


def worn(style: str, looks: dict[str, float]) -> dict[str, Array]:
    """Where the grids "curtain", "bob", "fringe" and "bun" are, [3, R, C] each, cm."""
    grid = tables()
    volume, wave = (
        0.7 * (looks["hair volume"] - 0.4),
        0.40 * looks["hair wave"] * looks["hair wave"],
    )
    f = fringe_worn(style, looks)
    fringe = grid["bare"]
    if f > 0.0:
        fringe = grid["short fringe"] * (1.0 - f) + grid["fringe"] * f
        fringe = fringe + grid["over"] * thickness(style, looks)
    thick = thickness(style, looks)
    return {
        "curtain": grid["long"]
        + grid["long over"] * thick
        + grid["out"] * volume
        + grid["wave"] * wave,
        "bob": grid["bob"]
        + grid["bob over"] * thick
        + grid["bob out"] * volume
        + grid["bob wave"] * wave,
        "fringe": fringe + grid["swept"] * (1.6 * f * (looks["hair parting"] - 0.5)),
        "bun": grid["bun"],
    }


def fringe_worn(style: str, looks: dict[str, float]) -> float:
    """How long a fringe is, in (0, 1]; 0: there is none."""
    if looks["fringe"] < 0.6 or not shows(style, "fringe"):
        return 0.0
    return 0.15 + 0.85 * min((looks["fringe"] - 0.6) * 2.5, 1.0)


@lru_cache(maxsize=1)
def grain() -> Array:
    """Locks of curly hair on the scalp, [R * C] in [-1, 1], alike on both sides."""
    theta, v = np.abs(relief.THETA)[None], relief.ROW
    a = np.sin(7.0 * theta + 3.1 * v) * np.sin(5.0 * v + 1.3 * theta)
    b = np.sin(13.0 * theta - 2.0 * v) * np.sin(8.0 * v)
    return quantise(((0.6 * a + 0.4 * b) * np.minimum(v, 1.0)).reshape(-1))


@lru_cache(maxsize=1)
def tufts() -> Array:
    """Loose locks of short hair on the scalp, [R * C] in [-1, 1]."""
    theta, v = np.abs(relief.THETA)[None], relief.ROW
    a = np.sin(9.0 * theta + 1.7 * v) + np.sin(17.0 * theta - 2.6 * v + 1.0)
    return quantise((0.5 * a * np.minimum(v, 1.0)).reshape(-1))
