"""A surgical-type mask: a shell over the lower face of a posed mesh, with folds and ear loops.

The face is looked at from an axis down the middle of the head: every vertex has a direction and a
distance from that axis. The mask is a grid of directions and heights. Each of its points takes the
greatest distance of all vertices in the cells around it, so that no vertex lies outside; then the
cloth is pulled taut over the hollows, between nose and chin and from cheek to cheek.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from facebench.synth import head, tubes
from facebench.synth.numeric import Array, quantise, smooth
from facebench.synth.tubes import Prop

_ANGLES = np.array([0.0, 4.5, 9.5, 15.5, 22.5, 31.0, 41.0, 52.0, 63.0])
_DOWN = np.array([0.0, 0.07, 0.17, 0.30, 0.335, 0.50, 0.535, 0.70, 0.735, 0.90, 1.0, 1.0])
_PLEAT = np.array([0.0, 0.0, 0.15, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.35, 0.0, 0.0])
_AXIS_Z = 0.0


@lru_cache(maxsize=1)
def _tables() -> tuple[Array, Array, Array, Array]:
    """Angles' absolute values (degrees), sines, cosines and rational directions of the columns."""
    angle = np.concatenate([-_ANGLES[:0:-1], _ANGLES])
    s, c = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    s, c = quantise(s), quantise(c)
    return np.abs(angle), s, c, s / (np.abs(s) + c)


@njit(cache=True, error_model="numpy")
def _reach(x: Array, y: Array, z: Array, edges: Array, heights: Array, out: Array) -> None:
    """The greatest distance from the axis of the vertices in the cells around each grid point.

    `edges` [C] are rational directions, `heights` [R, C] fall from row to row.
    """
    rows, columns = out.shape
    for i in range(rows):
        for j in range(columns):
            out[i, j] = -1.0
    for k in range(x.shape[0]):
        if z[k] <= 0.2:
            continue
        q = x[k] / (abs(x[k]) + z[k])
        if q < edges[0] or q > edges[columns - 1]:
            continue
        j = 0
        while j < columns - 2 and q >= edges[j + 1]:
            j += 1
        f = (q - edges[j]) / (edges[j + 1] - edges[j])
        first = j - 1 if j > 0 and q == edges[j] else j  # on the line between two cells
        if y[k] > heights[0, j] * (1.0 - f) + heights[0, j + 1] * f:
            continue
        for i in range(rows - 1):
            if y[k] > heights[i + 1, j] * (1.0 - f) + heights[i + 1, j + 1] * f:
                r = np.sqrt(x[k] * x[k] + z[k] * z[k])
                for a in range(i, i + 2):
                    for b in range(first, j + 2):
                        out[a, b] = max(out[a, b], r)
                break
    for j in range(columns):  # a cell without vertices takes what is above it
        for i in range(1, rows):
            if out[i, j] < 0.0:
                out[i, j] = out[i - 1, j]
        for i in range(rows - 2, -1, -1):
            if out[i, j] < 0.0:
                out[i, j] = out[i + 1, j]


@njit(cache=True, error_model="numpy")
def _pull(reach: Array, heights: Array, angle: Array, taut: Array, loose: float) -> None:
    """Pulls the cloth taut, in place: straight over hollows in a column, rounder along rows."""
    rows, columns = reach.shape
    for j in range(columns):
        for i in range(1, rows - 1):
            best = reach[i, j]
            for a in range(i):
                for b in range(i + 1, rows):
                    f = (heights[a, j] - heights[i, j]) / max(heights[a, j] - heights[b, j], 1e-6)
                    best = max(best, reach[a, j] * (1.0 - f) + reach[b, j] * f)
            reach[i, j] += taut[j] * (best - reach[i, j])
    for _ in range(10):
        for k in range(columns - 2):  # from both ends in turn, so that both sides are alike
            for j in (1 + k, columns - 2 - k):
                f = (angle[j] - angle[j - 1]) / (angle[j + 1] - angle[j - 1])
                for i in range(rows):
                    chord = reach[i, j - 1] * (1.0 - f) + reach[i, j + 1] * f
                    if chord > reach[i, j]:
                        reach[i, j] += loose * (chord - reach[i, j])


def build(kind: int, form: Array, colour: Array, points: Array) -> tuple[Prop, ...]:
    """A mask (see `occluders` for `form`) over posed points [3, V]."""
    high, full, fold, tight = (float(v) for v in form[:4])
    away, s, c, edges = _tables()
    n = head.ROWS * head.COLUMNS
    marks = tubes.landmarks(points)
    jaw = head.NAMED["jaw"] * head.COLUMNS + head.MIDDLE
    chin = float(points[1, jaw - 7 : jaw + 8].min())
    middle = float(0.5 * (marks[0, 28] + marks[0, 8]))
    base, bridge = float(marks[1, 33]) + 0.1, float(marks[1, 27]) - 0.35
    peak = base + (bridge - base) * high
    side_top = base + 0.4 + (peak - base) * 0.42
    corner = 0.25 * float(marks[1, 2] + marks[1, 3] + marks[1, 13] + marks[1, 14]) + 0.3
    side_low = min(corner, side_top - 3.2)
    out = smooth(away, 2.0, 46.0)
    top = peak + (side_top - peak) * out
    low = np.minimum(_jawline(marks, middle, edges) - 0.35, side_low)
    low[np.abs(away) < 12.0] = np.minimum(low[np.abs(away) < 12.0], chin - 0.4)
    heights = top + (low - top) * _DOWN[:, None]
    wrap = 2.3 * (1.0 - smooth(away, 22.0, 46.0)) + 0.12
    heights[-1] -= 0.12 + 0.02 * wrap
    sheet = points[:, :n]
    reach = np.empty(heights.shape)
    _reach(sheet[0] - middle, sheet[1], sheet[2] - _AXIS_Z, edges, heights, reach)
    signed = np.where(s < 0, -away, away)
    taut = 1.0 - 0.8 * smooth(away, 30.0, 63.0)
    _pull(reach[:-1], heights[:-1], signed, taut, 0.2 + 0.6 * (1.0 - tight))
    t = _DOWN[:, None]
    puff = (
        (0.25 + 0.75 * full)
        * (1.0 - tight * 0.5)
        * 4.0
        * t
        * (1.0 - t)
        * (1.0 - smooth(away, 18.0, 63.0))
    )
    pleat = (0.05 + 0.30 * fold) * _PLEAT[:, None] * (1.0 - 0.75 * smooth(away, 40.0, 63.0))
    reach += 0.13 + 0.75 * puff + pleat
    reach[-1] = reach[-2] - wrap
    grid = np.stack([middle + reach * s, heights, _AXIS_Z + reach * c])
    shell = grid.reshape(3, -1)
    shade = np.where(_PLEAT == 0.0, 0.86, 1.0)
    shade[:2] = 0.93
    shade[-3:] = 0.93
    shades = np.repeat(shade, len(away))
    cloth = _print(colour, form, grid).reshape(3, -1) * shades
    triangles = tubes.sheet(len(_DOWN), len(away), True)
    p = np.concatenate([shell, shell], axis=1)
    body = Prop(kind, p, triangles, np.concatenate([cloth, cloth * 0.8], axis=1), 0.05, 0.0)
    pieces = []
    for side in (-1, 1):
        column = 0 if side < 0 else len(away) - 1
        pieces.append(_loops(points, side, grid[:, 1, column], grid[:, -3, column]))
    p, triangles = tubes.join(pieces)
    pale = np.repeat((0.5 + 0.5 * colour)[:, None] * 0.8, p.shape[1], axis=1)
    return body, Prop(kind, p, triangles, pale, 0.05, 0.0)


def _jawline(marks: Array, middle: float, edges: Array) -> Array:
    """Height of the jaw's line in the columns' directions, the lower of the two sides, [C]."""
    half = len(edges) // 2
    out = [0.0] * len(edges)
    for side in (1, -1):
        jaw = marks[:, 8::side][:, :9].tolist()  # from the chin to the ear
        places = [
            side * (x - middle) / (abs(x - middle) + max(z, 1.0)) for x, z in zip(jaw[0], jaw[2])
        ]
        k = 0
        for j in range(half + 1):
            q = float(edges[half + j])
            while k < 7 and places[k + 1] < q:
                k += 1
            f = min(max((q - places[k]) / max(places[k + 1] - places[k], 1e-6), 0.0), 1.0)
            out[half + side * j] = jaw[1][k] * (1.0 - f) + jaw[1][k + 1] * f
    return np.array([min(a, b) for a, b in zip(out, out[::-1])])


def _print(colour: Array, form: Array, grid: Array) -> Array:
    """The cloth's colour at each point of the grid: plain, with a border, or with stripes."""
    plain = np.broadcast_to(colour[:, None, None], grid.shape).copy()
    which = float(form[4])
    if which > 0.75:
        other = np.minimum(colour * 0.4 + 0.35 * float(form[5]), 1.0)[:, None, None]
        if which > 0.88:
            plain[:, :, 1::2] = other
        else:
            plain[:, :2] = other
            plain[:, -3:] = other
    return plain


def _loops(points: Array, side: int, above: Array, below: Array) -> tuple[Array, Array]:
    """Elastics from two corners of the mask over and under the ear, five rings of three each."""
    ear = tubes.ear(points, side)
    tall = ear.top - ear.bottom
    t = np.array([0.0, 0.34, 0.67, 1.0, 1.0])
    start = np.stack([above, below])
    end_y = np.array([ear.top - 0.20 * tall, ear.bottom + 0.16 * tall])
    end_z = np.array([ear.front - 0.1, ear.front - 0.75])
    y = start[:, 1:2] + (end_y[:, None] - start[:, 1:2]) * t
    z = start[:, 2:] + (end_z[:, None] - start[:, 2:]) * t
    x = start[:, :1] * side + (ear.inner + 0.05 - start[:, :1] * side) * t
    y[:, 4] += np.array([-0.05, 0.12]) * tall
    z[:, 4] = 0.6 * ear.back + 0.4 * ear.front
    path = np.stack([x, y, z]).reshape(3, -1)
    skin = np.minimum(tubes.beside(points, path, side) + 0.06, ear.inner + 1.1)
    path[0] = np.maximum(path[0], np.where(np.tile(t, 2) > 0.0, skin, -1e9))
    ring = np.array([[1.0, 0.0], [-0.5, -0.8660254], [-0.5, 0.8660254]]) * 0.12  # outwards, up
    p = path[:, :, None] + np.stack([ring[:, 0], ring[:, 1], np.zeros(3)])[:, None]
    p[0] *= side
    one = tubes.tube(5, 3)
    triangles = np.concatenate([one, one + 15], axis=1)
    return p.reshape(3, -1), triangles if side > 0 else triangles[::-1]
