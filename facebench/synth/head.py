"""The head at rest: a sheet of rows and columns, ears, a curtain of hair; its landmarks.

The sheet is one regular grid. Columns are angles around the vertical axis (0 in front), rows
follow the lines of a face: crown, hairline, brows, lid crease, both lid margins, nose base,
the edges of the lips, jaw, neck, shoulders. Between the lid margins lie rows of eyeball, between
the lips rows of mouth cavity; outside the eyes and the mouth these rows fall together. So lids
close, lips part and jaws drop by moving rows, with no hole in the mesh.

Lengths are centimetres; x to the image's right (the subject's left), y up, z to the camera. The
eyes are at height 0. Everything here is a fixed table, rounded to 2^-20 cm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from facebench.synth import relief
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
    "COLUMNS", "EYE_IN", "EYE_OUT", "MIDDLE", "MOUTH_OUT", "NAMED", "ROW", "ROWS", "THETA",
    "Head", "Part", "brow", "build", "bump", "eyeball", "place",
]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A grid of vertices: where it starts among all vertices, its rows and columns."""

    name: str
    start: int
    rows: int
    columns: int
    closed: bool


@dataclass(frozen=True)
class Head:
    """The fixed tables of the mesh.

    Attributes:
        rest: [3, V] vertices at rest, cm.
        chart: [2, V] a vertex's row and column on the atlas.
        triangles: [3, T] vertex indices, counter-clockwise seen from outside.
        kind: [T] 0 head, 1 ear, 2 curtain of hair, 3 the curtain's inner side.
        parts: the grids.
        landmarks: ([68, 3] vertices, [68, 3] weights) of the 68 points, iBUG order.
    """

    rest: Array
    chart: Array
    triangles: Array
    kind: Array
    parts: tuple[Part, ...]
    landmarks: tuple[Array, Array]


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


def _find(x: float, v: float, rest: Array) -> tuple[float, float]:
    """Row and column where the sheet has place v and rest x (x >= 0)."""
    half = np.arange(MIDDLE, COLUMNS)
    row = 0.0
    column = float(MIDDLE)
    for _ in range(6):
        i = int(column)
        places = ROW[:, i] * (1 - (column - i)) + ROW[:, min(i + 1, COLUMNS - 1)] * (column - i)
        row = float(np.interp(v, places + np.arange(ROWS) * 1e-9, np.arange(ROWS)))
        r = min(int(row), ROWS - 2)
        xs = rest[0, r, half] * (1 - (row - r)) + rest[0, r + 1, half] * (row - r)
        column = float(MIDDLE + np.interp(x, xs[:22], np.arange(22)))
    return row, column


def _find_height(x: float, y: float, rest: Array) -> tuple[float, float]:
    """Row and column where the sheet at rest is at (x, y), among the rows above the eyes."""
    low, high = 4.0, 5.9
    for _ in range(40):
        v = 0.5 * (low + high)
        row, column = _find(x, v, rest)
        vertices, weights = place(row, column)
        r, c = np.divmod(vertices, COLUMNS)
        if float((rest[1, r, c] * weights).sum()) > y:
            low = v
        else:
            high = v
    return row, column


def _landmarks(rest: Array) -> tuple[Array, Array]:
    """The 68 points, iBUG order: index 0 to 16 jaw, 17 to 26 brows, 27 to 35 nose, eyes, mouth."""
    middle = float(MIDDLE)
    at: dict[int, tuple[float, float]] = {}  # points of the subject's left (image right), middle
    jaw = float(NAMED["jaw"])
    angles = np.array([0.0, 14, 27, 40, 50, 58, 63.5, 67, 69]) * np.pi / 180
    row_of = np.array([11.95, 11.95, 11.93, 11.85, 11.55, 10.9, 9.7, 8.1, 6.6])
    columns = np.interp(angles, THETA, np.arange(COLUMNS))
    for k in range(9):
        v = row_of[k]
        places = ROW[:, round(columns[k])]
        row = float(np.interp(v, places + np.arange(ROWS) * 1e-9, np.arange(ROWS)))
        at[8 + k] = (jaw if k < 2 else row, float(columns[k]))
    for k, x in enumerate((1.15, 2.15, 3.2, 4.3, 5.25)):
        at[22 + k] = _find_height(x, float(brow(np.array(x))), rest)
    for k, v in enumerate((5.85, 6.4, 6.95, 7.48)):
        at[27 + k] = (_find(0.0, v, rest)[0], middle)
    for k, (x, v) in enumerate([(0.0, 8.0), (0.68, 7.97), (1.3, 7.92)]):
        at[33 + k] = _find(x, v, rest)
    up, low = float(NAMED["upper lid"]), float(NAMED["lower lid"])
    at[42], at[45] = (up, middle + EYE_IN), (up, middle + EYE_OUT)
    third = (EYE_OUT - EYE_IN) / 3.0
    at[43], at[44] = (up, middle + EYE_IN + third), (up, middle + EYE_IN + 2 * third)
    at[47], at[46] = (low, middle + EYE_IN + third), (low, middle + EYE_IN + 2 * third)
    top, bottom = float(NAMED["upper lip"]), float(NAMED["lower lip"])
    a, b = float(NAMED["upper mouth"]), float(NAMED["lower mouth"])
    out = middle + MOUTH_OUT
    at[51], at[57] = (top, middle), (bottom, middle)
    at[52], at[53], at[54] = (top, middle + 2.0), (top, middle + 5.5), (a, out)
    at[55], at[56] = (bottom, middle + 6.0), (bottom, middle + 3.0)
    at[62], at[66] = (a, middle), (b, middle)
    at[63], at[64], at[65] = (a, middle + 3.5), (a, out - 1.0), (b, middle + 3.5)
    for k in list(at):
        row, column = at[k]
        at.setdefault(_FLIP[k], (row, 2 * middle - column))
    placed = [place(*at[k]) for k in range(68)]
    mirrored = [k for k in range(68) if at[k][1] < middle]
    for k in mirrored:  # the same point of the same triangle, mirrored: exact symmetry
        vertices, weights = placed[_FLIP[k]]
        r, c = np.divmod(vertices, COLUMNS)
        placed[k] = (r * COLUMNS + 2 * MIDDLE - c, weights)
    return np.stack([p[0] for p in placed]), quantise(np.stack([p[1] for p in placed]))


_FLIP = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]  # fmt: skip


@lru_cache(maxsize=1)
def build() -> Head:
    """Builds the mesh at rest, once."""
    theta = np.broadcast_to(THETA, ROW.shape)
    sheet = relief.features(relief.skull(ROW, theta))
    x, y, z = sheet
    up, low = NAMED["upper lid"], NAMED["lower lid"]
    lids = slice(NAMED["fold"] - 6, NAMED["under lid"] + 6)
    dx, dy = np.abs(x[lids]) - relief.EYE_X, y[lids]
    ball = relief.EYE_CENTRE_Z + eyeball(dx, dy) - 0.20 * dx - 0.03 * dx * dx
    near = 1.0 - smooth((dx / 1.9) ** 2 + (dy / 1.2) ** 2, 0.55, 1.75)
    lid = z[lids] * (1 - near) + (ball + relief.LID) * near
    away = np.abs(np.arange(COLUMNS) - MIDDLE)
    eye = np.zeros(lid.shape, bool)
    eye[up + 1 - lids.start : low - lids.start, (away > EYE_IN) & (away < EYE_OUT)] = True
    z[lids] = np.where(eye, ball, lid)
    first, last = NAMED["mouth first"], NAMED["mouth last"]
    inside = smooth(MOUTH_OUT - np.abs(np.arange(COLUMNS) - MIDDLE), 0.0, 2.0)
    for k, back in zip(range(first, last + 1), (0.6, 1.6, 1.6, 0.6)):
        z[k] -= back * inside
    # the side of each row and column is the mirror image of the other, exactly
    right = sheet[:, :, MIDDLE:]
    sheet = np.concatenate([right[:, :, :0:-1] * np.array([-1.0, 1, 1])[:, None, None], right], 2)
    sheet[0, :, MIDDLE] = 0.0
    pieces = [
        ("head", sheet, True),
        ("ear", relief.ear(-1), True),
        ("ear", relief.ear(1), True),
        ("curtain", relief.curtain(), False),
    ]
    parts, points, charts, triangles, kinds = [], [], [], [], []
    start = 0
    for name, grid, closed in pieces:
        _, rows, columns = grid.shape
        parts.append(Part(name, start, rows, columns, closed))
        points.append(grid.reshape(3, -1))
        r, c = np.divmod(np.arange(rows * columns), columns)
        charts.append(np.stack([r, c]).astype(np.float64))
        t = _grid_triangles(start, rows, columns, closed)
        if name == "ear" and grid[0].mean() < 0:
            t = t[::-1]
        triangles.append(t)
        kinds.append(np.full(t.shape[1], ("head", "ear", "curtain").index(name)))
        if name == "curtain":  # seen from inside, too
            triangles.append(t[::-1])
            kinds.append(np.full(t.shape[1], 3))
        start += rows * columns
    rest = quantise(np.concatenate(points, 1))
    return Head(
        rest=rest,
        chart=np.concatenate(charts, 1),
        triangles=np.concatenate(triangles, 1),
        kind=np.concatenate(kinds),
        parts=tuple(parts),
        landmarks=_landmarks(sheet),
    )
