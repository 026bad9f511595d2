"""The head at rest: a sheet of rows and columns, ears, hair that hangs; its landmarks and regions.

The sheet is one regular grid. Columns are angles around the vertical axis (0 in front), rows
follow the lines of a face: crown, hairline, brows, lid crease, both lid margins, nose base,
the edges of the lips, jaw, neck, shoulders. Between the lid margins lie rows of eyeball, between
the lips rows of mouth cavity; outside the eyes and the mouth these rows fall together. So lids
close, lips part and jaws drop by moving rows, with no hole in the mesh.

Lengths are centimetres; x to the image's right (the subject's left), y up, z to the camera. The
eyes are at height 0. Everything here is a fixed table, rounded to 2^-20 cm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from facebench.errors import FacebenchError, nearest
from facebench.schemes import SCHEMES
from facebench.synth import hair, relief
from facebench.synth.numeric import Array, quantise, smooth
from facebench.synth.relief import (
    COLUMNS,
    EYE_IN,
    EYE_OUT,
    MIDDLE,
    MOUTH_OUT,
    NAMED,
    ROW,
    ROWS,
    THETA,
    brow,
    bump,
    eyeball,
)

__all__ = [
    "COLUMNS", "EYE_IN", "EYE_OUT", "MIDDLE", "MOUTH_OUT", "NAMED", "ROW", "ROWS", "SHEET",
    "THETA", "Head", "Part", "brow", "build", "bump", "drawn", "eyeball", "joined", "place",
]  # fmt: skip

SHEET = ROWS * COLUMNS  # vertices of the sheet: the first ones of the mesh

#: `Head.kind` of each part's triangles.
KINDS = {"head": 0, "ear": 1, "curtain": 2, "bob": 2, "fringe": 4, "bun": 5}


@dataclass(frozen=True)
class Part:
    """A grid of vertices: where it starts among all vertices, its rows and columns."""

    name: str
    start: int
    rows: int
    columns: int
    closed: bool

    @property
    def span(self) -> slice:
        """Its vertices."""
        return slice(self.start, self.start + self.rows * self.columns)


@dataclass(frozen=True)
class Head:
    """The fixed tables of the mesh.

    Attributes:
        rest: [3, V] vertices at rest, cm.
        chart: [2, V] a vertex's row and column on the atlas.
        triangles: [3, T] vertex indices, counter-clockwise seen from outside.
        kind: [T] 0 head, 1 ear, 2 hair that hangs (curtain, bob), 3 its inner side (same vertices),
            4 fringe, 5 bun; what is 2 or more is hair.
        parts: the grids.
        landmarks: ([68, 3] vertices, [68, 3] weights) of the 68 points, iBUG order.
        landmarks98: the same of the 98 points, WFLW order; the pupils (96, 97) are those of eyes
            that look ahead, see `mesh.landmarks98`.
        regions: vertices by the region's name; left and right are the image's. Regions may
            overlap (the mouth holds the lips, the jaw the chin).
    """

    rest: Array
    chart: Array
    triangles: Array
    kind: Array
    parts: tuple[Part, ...]
    landmarks: tuple[Array, Array]
    landmarks98: tuple[Array, Array]
    regions: dict[str, Array] = field(default_factory=dict)


def _grid_triangles(start: int, rows: int, columns: int, closed: bool) -> Array:
    r = np.arange(rows - 1)[:, None]
    c = np.arange(columns if closed else columns - 1)[None]
    a = start + r * columns + c
    b = start + r * columns + (c + 1) % columns
    down = columns
    left = (c < columns // 2) & np.ones_like(a, bool)  # the mirror image of the right half
    lower = np.where(
        left[..., None], np.stack([a, b + down, b], -1), np.stack([a, a + down, b], -1)
    )
    upper = np.where(
        left[..., None],
        np.stack([a + down, b + down, a], -1),
        np.stack([b, a + down, b + down], -1),
    )
    return np.concatenate([lower.reshape(-1, 3), upper.reshape(-1, 3)]).T


def place(row: float, column: float) -> tuple[Array, Array]:
    """The three sheet vertices and weights of a point at a (real) row and column.

    The point lies in the triangle of the cell that holds it, so it is on the drawn surface.
    """
    r, c = int(min(np.floor(row), ROWS - 2)), int(min(np.floor(column), COLUMNS - 2))
    fr, fc = row - r, column - c
    a = r * COLUMNS + c
    if fr + fc <= 1.0:
        return np.array([a, a + COLUMNS, a + 1]), np.array([1.0 - fr - fc, fr, fc])
    return (
        np.array([a + 1, a + COLUMNS, a + COLUMNS + 1]),
        np.array([1.0 - fr, 1.0 - fc, fr + fc - 1.0]),
    )


def joined() -> Array:
    """[R, C] bool: rows that fall together with the row above, beside the eyes and the mouth."""
    away = np.abs(np.arange(COLUMNS) - MIDDLE)
    out = np.zeros((ROWS, COLUMNS), bool)
    beside = (away <= EYE_IN) | (away >= EYE_OUT)
    out[NAMED["upper lid"] + 1 : NAMED["lower lid"] + 1] = beside
    out[NAMED["upper mouth"] + 1 : NAMED["lower mouth"] + 1] = away >= MOUTH_OUT
    return out


def _find(x: float, v: float, rest: Array) -> tuple[float, float]:
    """Row and column where the sheet has place v and rest x (x >= 0)."""
    n = 26
    half = np.arange(MIDDLE, MIDDLE + n)
    row = 0.0
    column = float(MIDDLE)
    for _ in range(4):
        i = int(column)
        places = ROW[:, i] * (1 - (column - i)) + ROW[:, min(i + 1, COLUMNS - 1)] * (column - i)
        row = float(np.interp(v, places + np.arange(ROWS) * 1e-9, np.arange(ROWS)))
        r = min(int(row), ROWS - 2)
        xs = rest[0, r, half] * (1 - (row - r)) + rest[0, r + 1, half] * (row - r)
        column = float(MIDDLE + np.interp(x, np.maximum.accumulate(xs), np.arange(n)))
    return row, column


def _find_height(x: float, y: float, rest: Array) -> tuple[float, float]:
    """Row and column where the sheet at rest is at (x, y), among the rows above the eyes."""
    low, high = 4.0, 5.9
    for _ in range(26):
        v = 0.5 * (low + high)
        row, column = _find(x, v, rest)
        vertices, weights = place(row, column)
        r, c = np.divmod(vertices, COLUMNS)
        if float((rest[1, r, c] * weights).sum()) > y:
            low = v
        else:
            high = v
    return row, column


#: The contour of the lower face, from the chin to the ear: angle in degrees and place v of the
#: points 8 to 16 of the 68 (16 to 32 of the 98 by twos).
_JAW_ANGLE = (0.0, 12.0, 24.0, 36.5, 48.0, 57.0, 63.0, 66.5, 69.0)
_JAW_PLACE = (11.95, 11.92, 11.86, 11.72, 11.60, 11.30, 10.10, 8.20, 6.60)


def _anchors(rest: Array) -> tuple[dict[int, tuple[float, float]], dict[int, tuple[float, float]]]:
    """Row and column of the middle and right points of the 68 and of the 98."""
    middle = float(MIDDLE)
    few: dict[int, tuple[float, float]] = {}
    many: dict[int, tuple[float, float]] = {}
    ks = tuple(float(k) for k in range(9))
    for k in range(17):
        angle = float(relief.curve(np.array(k / 2), ks, _JAW_ANGLE)) * np.pi / 180
        column = float(np.interp(angle, THETA, np.arange(COLUMNS)))
        v = float(relief.curve(np.array(k / 2), ks, _JAW_PLACE))
        places = ROW[:, round(column)] + np.arange(ROWS) * 1e-9
        row = float(np.interp(v, places, np.arange(ROWS)))
        many[16 + k] = (row, column)
    few.update({8 + k: many[16 + 2 * k] for k in range(9)})
    line = lambda x, up: _find_height(x, float(brow(np.array(x))) + up, rest)  # noqa: E731
    few.update({22 + k: line(x, 0.06) for k, x in enumerate((1.15, 2.1, 3.15, 4.25, 5.2))})
    many.update({42 + k: line(x, u) for k, (x, u) in enumerate(
        ((1.15, 0.20), (2.1, 0.26), (3.15, 0.26), (4.25, 0.20), (5.25, 0.0)))})  # fmt: skip
    many.update({47 + k: line(x, u) for k, (x, u) in enumerate(
        ((4.2, -0.16), (3.15, -0.22), (2.1, -0.24), (1.15, -0.22)))})  # fmt: skip
    nose = [(_find(0.0, v, rest)[0], middle) for v in (5.88, 6.55, 7.15, 7.72)]
    nose += [_find(x, v, rest) for x, v in ((0.0, 8.32), (0.68, 8.26), (1.36, 8.16))]
    for k in range(4):
        few[27 + k] = many[51 + k] = nose[k]
    for k in range(3):
        few[33 + k] = many[57 + k] = nose[4 + k]
    up, low = float(NAMED["upper lid"]), float(NAMED["lower lid"])
    inner, wide = middle + EYE_IN, float(EYE_OUT - EYE_IN)
    few[42] = many[68] = (up, inner)
    few[45] = many[72] = (up, inner + wide)
    few.update({43: (up, inner + wide / 3), 44: (up, inner + 2 * wide / 3)})
    few.update({47: (low, inner + wide / 3), 46: (low, inner + 2 * wide / 3)})
    many.update({69 + k: (up, inner + (k + 1) * wide / 4) for k in range(3)})
    many.update({73 + k: (low, inner + (3 - k) * wide / 4) for k in range(3)})
    many[97] = ((up + low) / 2, inner + wide / 2)
    top, bottom = float(NAMED["upper lip"]), float(NAMED["lower lip"])
    a, b, out = float(NAMED["upper mouth"]), float(NAMED["lower mouth"]), middle + MOUTH_OUT
    mouth = [
        (top, middle), (top, middle + 2.4), (top, middle + 5.7), (a, out), (bottom, middle + 6.0),
        (bottom, middle + 3.0), (bottom, middle),
    ]  # fmt: skip
    inside = [(a, middle), (a, middle + 3.5), (a, out - 1.0), (b, middle + 3.5), (b, middle)]
    few.update({51 + k: at for k, at in enumerate(mouth)})
    many.update({79 + k: at for k, at in enumerate(mouth)})
    few.update({62 + k: at for k, at in enumerate(inside)})
    many.update({90 + k: at for k, at in enumerate(inside)})
    return few, many


def _landmarks(at: dict[int, tuple[float, float]], points: int) -> tuple[Array, Array]:
    """Vertices and weights [points, 3]; the points that `at` lacks mirror others exactly."""
    flip = SCHEMES[points].flip
    vertices, weights = np.zeros((points, 3), int), np.zeros((points, 3))
    for k in range(points):
        if k in at:
            vertices[k], weights[k] = place(*at[k])
            continue
        corner, weights[k] = place(*at[flip[k]])
        r, c = np.divmod(corner, COLUMNS)
        vertices[k] = r * COLUMNS + 2 * MIDDLE - c
    weights = quantise(weights)
    weights[:, 0] = 1.0 - weights[:, 1] - weights[:, 2]  # exact: all are multiples of 2^-20
    return vertices, weights


def _regions(rest: Array, parts: tuple[Part, ...]) -> dict[str, Array]:
    sheet = rest[:, :SHEET].reshape(3, ROWS, COLUMNS)
    x, y, z = sheet
    ax = np.abs(x)
    v, n = ROW, NAMED
    row = np.broadcast_to(np.arange(ROWS)[:, None], v.shape)
    away = np.broadcast_to(np.abs(np.arange(COLUMNS) - MIDDLE)[None], v.shape)
    at_eye = (away >= EYE_IN) & (away <= EYE_OUT)
    at_mouth = away <= MOUTH_OUT
    front = z > 1.0
    lids = (row > n["fold"]) & (row <= n["upper lid"])
    halves = {
        "brow": front & (ax > 0.8) & (ax < 5.6) & (np.abs(y - brow(ax)) < 0.45) & (v < 5.75),
        "eye": (row > n["upper lid"]) & (row < n["lower lid"]) & at_eye,
        "upper lid": lids & at_eye,
        "lower lid": (row >= n["lower lid"]) & (row <= n["under lid"]) & at_eye,
        "cheek": front & (ax > 2.0) & (y < -1.1) & (y > -7.5) & (v < 10.6) & (away > MOUTH_OUT),
    }
    upper = (row >= n["upper lip"]) & (row <= n["upper mouth"]) & at_mouth
    lower = (row >= n["lower mouth"]) & (row <= n["lower lip"]) & at_mouth
    jaw = (v > 9.9) & (v < 12.3) & (np.abs(THETA)[None] < 1.5)
    scalp = (hair_edge() - v) > 0
    whole = {
        "nose": (ax < 0.9 + 0.9 * smooth(-y, 0.5, 3.5)) & (y < 0.4) & (v < 8.35) & front,
        "upper lip": upper,
        "lower lip": lower,
        "mouth": (row >= n["upper lip"]) & (row <= n["lower lip"]) & at_mouth,
        "chin": jaw & (ax < 2.6) & (v < 12.1),
        "jaw": jaw,
        "forehead": front & ~scalp & (y > 2.9) & (v < 4.9) & (ax < 5.8),
        "neck": (v > 12.3) & (v < 16.3),
        "scalp": scalp,
        "shoulders": v >= 16.3,
    }
    out = {name: np.flatnonzero(mask.reshape(-1)) for name, mask in whole.items()}
    for name, mask in halves.items():
        out[f"left {name}"] = np.flatnonzero((mask & (x < 0)).reshape(-1))
        out[f"right {name}"] = np.flatnonzero((mask & (x > 0)).reshape(-1))
    for side, part in zip(("left", "right"), (p for p in parts if p.name == "ear")):
        out[f"{side} ear"] = np.arange(part.span.start, part.span.stop)
    out["hair"] = np.arange(parts[3].start, rest.shape[1])
    return out


_EDGE_ANGLE = (0, 16, 30, 40, 48, 55, 62, 68, 74, 79, 84, 92, 106, 125, 170)  # degrees
_EDGE_PLACE = (3.15, 3.08, 3.0, 3.3, 4.0, 4.8, 5.6, 6.2, 6.4, 5.9, 5.1, 4.9, 7.6, 10.2, 11.0)


def hair_edge() -> Array:
    """Place v of the usual hair line per column, [1, C]."""
    angles = tuple(float(a) / 180 * np.pi for a in _EDGE_ANGLE)
    return relief.curve(np.abs(THETA)[None], angles, _EDGE_PLACE)


def hair_slope() -> Array:
    """How steep the usual hair line is, per column, [1, C]: rise over run on the skin."""
    step = 0.10
    angles = tuple(float(a) / 180 * np.pi for a in _EDGE_ANGLE)
    at = lambda t: relief.curve(t, angles, _EDGE_PLACE)  # noqa: E731
    t = np.abs(THETA)[None]
    rise = (at(t + step) - at(t - step)) / (2 * step)
    return rise * (2.2 / 8.0)  # about 2.2 cm per row's place, 8 cm from the axis


@lru_cache(maxsize=1)
def build() -> Head:
    """Builds the mesh at rest, once."""
    theta = np.broadcast_to(THETA, ROW.shape)
    sheet = relief.features(relief.skull(ROW, theta))
    sheet[2] = relief.eyes(sheet)
    sheet[2] = relief.lips(sheet[2])
    same = joined()
    for r in range(1, ROWS):
        sheet[:, r, same[r]] = sheet[:, r - 1, same[r]]
    # the side of each row and column is the mirror image of the other, exactly
    right = sheet[:, :, MIDDLE:]
    sheet = np.concatenate([right[:, :, :0:-1] * np.array([-1.0, 1, 1])[:, None, None], right], 2)
    sheet[0, :, MIDDLE] = 0.0
    tables = hair.tables()
    pieces = [
        ("head", sheet, True),
        ("ear", relief.ear(-1), True),
        ("ear", relief.ear(1), True),
        ("curtain", tables["long"], False),
        ("bob", tables["bob"], False),
        ("fringe", tables["bare"], False),
        ("bun", tables["bun"], True),
    ]
    parts, points, charts, triangles, kinds = [], [], [], [], []
    start = 0
    for name, grid, closed in pieces:
        _, rows, columns = grid.shape
        parts.append(Part(name, start, rows, columns, closed))
        points.append(grid.reshape(3, -1))
        charts.append(np.stack(np.divmod(np.arange(rows * columns), columns)).astype(np.float64))
        t = _grid_triangles(start, rows, columns, closed)
        if name == "ear" and grid[0].mean() < 0:
            t = t[::-1]
        triangles.append(t)
        kinds.append(np.full(t.shape[1], KINDS[name]))
        if KINDS[name] == 2:  # seen from inside, too
            triangles.append(t[::-1])
            kinds.append(np.full(t.shape[1], 3))
        start += rows * columns
    rest = quantise(np.concatenate(points, 1))
    every, kind = np.concatenate(triangles, 1), np.concatenate(kinds)
    own = np.arange(rest.shape[1])  # the vertex that each one falls together with
    for v in np.flatnonzero(same.reshape(-1)):
        own[v] = own[v - COLUMNS]
    for part in parts:  # the crown, the middles of the ears, the ends of the bun
        for r in (0, part.rows - 1):
            row = np.arange(part.columns) + part.start + r * part.columns
            if np.abs(np.ptp(rest[:, row], axis=1)).max() < 1e-5:
                own[row] = row[0]
    a, b, c = own[every]
    real = (a != b) & (b != c) & (c != a)  # rows that fall together leave no triangles
    few, many = _anchors(sheet)
    return Head(
        rest=rest,
        chart=np.concatenate(charts, 1),
        triangles=np.ascontiguousarray(every[:, real]),
        kind=kind[real],
        parts=tuple(parts),
        landmarks=_landmarks(few, 68),
        landmarks98=_landmarks(many, 98),
        regions=_regions(rest, tuple(parts)),
    )


@lru_cache(maxsize=16)
def drawn(style: str) -> Array:
    """Numbers of the triangles that a hair style shows, rising, [n]."""
    if style not in hair.STYLES:
        raise FacebenchError(f"head.drawn: no hair style {style!r}: {nearest(style, hair.STYLES)}")
    first = build().triangles[0]
    shown = np.zeros(len(first), bool)
    for part in build().parts:
        if hair.shows(style, part.name):
            shown |= (first >= part.span.start) & (first < part.span.stop)
    return np.flatnonzero(shown)
