"""What things before a face are made of: tubes, and the face's surface as they meet it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit

from facebench.synth import head
from facebench.synth.numeric import Array


@dataclass(frozen=True)
class Prop:
    """A mesh before the face; it turns with the head.

    Attributes:
        kind: 1 + index into `portrait.OCCLUDERS`.
        points: float64 [3, n] cm, in the head's axes.
        triangles: [3, t] vertex indices, counter-clockwise seen from outside; a sheet that is
            seen from both sides has its points twice, once for each side.
        colour: float64 [3, n] linear RGB albedo.
        gloss: 0 matt to 1 shiny.
        clear: 0 opaque, else the share of the light that passes; what is clear hides nothing.
    """

    kind: int
    points: Array
    triangles: Array
    colour: Array
    gloss: float
    clear: float


@lru_cache(maxsize=32)
def tube(
    rings: int, sides: int, closed: bool = False, first: bool = False, last: bool = False
) -> Array:
    """Triangles [3, t] of rings of vertices, ring by ring, then the tips of its ends.

    Along the tube, seen from behind, the vertices of a ring go round clockwise: from an axis a to
    an axis b where a x b points forwards.

    Args:
        rings: number of rings.
        sides: vertices of each.
        closed: the last ring joins the first.
        first: a tip closes the beginning: vertex rings * sides.
        last: a tip closes the end: the vertex after that.
    """
    i = np.arange(rings if closed else rings - 1)[:, None]
    j = np.arange(sides)[None]
    a, b = i * sides + j, i * sides + (j + 1) % sides
    c, d = (i + 1) % rings * sides + j, (i + 1) % rings * sides + (j + 1) % sides
    out = [np.stack([a, b, c]).reshape(3, -1), np.stack([b, d, c]).reshape(3, -1)]
    j, after, tip = np.arange(sides), (np.arange(sides) + 1) % sides, rings * sides
    if first:
        out.append(np.stack([after, j, np.full(sides, tip)]))
        tip += 1
    if last:
        start = (rings - 1) * sides
        out.append(np.stack([start + j, start + after, np.full(sides, tip)]))
    made = np.concatenate(out, axis=1)
    made.setflags(write=False)
    return made


@lru_cache(maxsize=8)
def sheet(rows: int, columns: int, both: bool) -> Array:
    """Triangles [3, t] of a grid whose rows go down and columns right, seen from the front.

    With `both`, the vertices come twice: the second time for the back.
    """
    r, c = np.arange(rows - 1)[:, None], np.arange(columns - 1)[None]
    a, b = r * columns + c, r * columns + c + 1
    d, e = a + columns, b + columns
    mirror = np.broadcast_to(c >= (columns - 1) // 2, a.shape)  # each half mirrors the other
    one = np.where(mirror, np.stack([a, d, b]), np.stack([a, d, e]))
    two = np.where(mirror, np.stack([b, d, e]), np.stack([a, e, b]))
    front = np.concatenate([one.reshape(3, -1), two.reshape(3, -1)], axis=1)
    made = np.concatenate([front, front[::-1] + rows * columns], axis=1) if both else front
    made.setflags(write=False)
    return made


def join(pieces: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """One mesh of several: points [3, n] and triangles [3, t] of each."""
    starts = [0]
    for points, _ in pieces:
        starts.append(starts[-1] + points.shape[1])
    return (
        np.concatenate([points for points, _ in pieces], axis=1),
        np.concatenate([t + start for (_, t), start in zip(pieces, starts)], axis=1),
    )


@lru_cache(maxsize=1)
def _sides() -> tuple[Array, Array]:
    """Vertices of the sheet at the head's sides, left and right: what lies under a temple."""
    x, y, z = head.build().rest[:, : head.ROWS * head.COLUMNS]
    near = (y > -13.0) & (y < 5.0) & (z > -5.0) & (z < 8.0)
    return np.flatnonzero(near & (x < -3.5)), np.flatnonzero(near & (x > 3.5))


@njit(cache=True, error_model="numpy")
def _beside(points: Array, among: Array, nodes: Array, side: float, out: Array) -> None:
    reach = 0.9
    for k in range(nodes.shape[1]):
        out[k] = -1e9
    for i in among:
        x, y, z = side * points[0, i], points[1, i], points[2, i]
        for k in range(nodes.shape[1]):
            if abs(y - nodes[1, k]) < reach and abs(z - nodes[2, k]) < reach:
                out[k] = max(out[k], x)


def beside(points: Array, nodes: Array, side: int) -> Array:
    """How far out (side * x, cm) the head's sheet reaches near nodes [3, n]; -1e9: nowhere near."""
    out = np.empty(nodes.shape[1])
    _beside(points, _sides()[(side + 1) // 2], nodes, float(side), out)
    return out


@lru_cache(maxsize=1)
def _ears() -> tuple[Array, Array]:
    mesh = head.build()
    ear = np.unique(mesh.triangles[:, mesh.kind == 1])
    left = mesh.rest[0, ear] < 0
    return ear[left], ear[~left]


@dataclass(frozen=True)
class Ear:
    """Where an ear is, cm: its inner edge (as a distance from the head's middle plane), top, ..."""

    inner: float
    top: float
    bottom: float
    front: float
    back: float


def ear(points: Array, side: int) -> Ear:
    """The ear on the image's left (-1) or right (1) of posed points [3, V]."""
    p = points[:, _ears()[(side + 1) // 2]]
    return Ear(
        float((side * p[0]).min()),
        float(p[1].max()),
        float(p[1].min()),
        float(p[2].max()),
        float(p[2].min()),
    )


def landmarks(points: Array) -> Array:
    """The 68 points of posed vertices [3, V] in the head's axes: [3, 68]."""
    vertices, weights = head.build().landmarks
    p = points[:, vertices.T]
    out = p[:, 0] * weights[:, 0] + p[:, 1] * weights[:, 1]
    return np.asarray(out + p[:, 2] * weights[:, 2])
