"""Loops over vertices: normals, light at vertices, sums of fields."""

from __future__ import annotations

import math

import numpy as np

from facebench.synth.compiled import kernel
from facebench.synth.numeric import Array


@kernel
def normals(points: Array, triangles: Array, drawn: Array, same: Array) -> Array:
    """Unit vectors that stand outwards on the surface at each vertex, [3, V].

    Args:
        points: [3, V].
        triangles: int64 [3, T], counter-clockwise seen from outside.
        drawn: int64 [n] the triangles that count; each adds its normal times its area.
        same: int64 [V] for each vertex one that stands for all that share its place.
    """
    n = points.shape[1]
    out = np.zeros((3, n))
    px, py, pz = points[0], points[1], points[2]
    for k in range(drawn.shape[0]):
        t = drawn[k]
        a, b, c = triangles[0, t], triangles[1, t], triangles[2, t]
        ux, uy, uz = px[b] - px[a], py[b] - py[a], pz[b] - pz[a]
        vx, vy, vz = px[c] - px[a], py[c] - py[a], pz[c] - pz[a]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (same[a], same[b], same[c]):
            out[0, v] += nx
            out[1, v] += ny
            out[2, v] += nz
    for v in range(n):
        if same[v] == v:
            x, y, z = out[0, v], out[1, v], out[2, v]
            inverse = 1.0 / max(math.sqrt(x * x + y * y + z * z), 1e-9)
            out[0, v], out[1, v], out[2, v] = x * inverse, y * inverse, z * inverse
    for v in range(n):
        s = same[v]
        if s != v:
            out[0, v], out[1, v], out[2, v] = out[0, s], out[1, s], out[2, s]
    return out


@kernel
def accumulate(
    points: Array, weights: Array, starts: Array, stops: Array, offsets: Array, moved: Array
) -> None:
    """Adds weighted fields of displacement to points [3, V], in order.

    Args:
        points: float64 [3, V]; it is written to.
        weights: float64 [K] how much of each field.
        starts: int64 [K] the first vertex that field k moves.
        stops: int64 [K] one past the last.
        offsets: int64 [K] where its displacements begin in `moved`.
        moved: float64 [3, sum of (stop - start)] all displacements, one after the other.
    """
    for k in range(weights.shape[0]):
        w = weights[k]
        if w != 0.0:
            shift = offsets[k] - starts[k]
            for axis in range(3):
                for v in range(starts[k], stops[k]):
                    points[axis, v] += w * moved[axis, v + shift]


@kernel
def dot9(transfer: Array, light: Array) -> Array:
    """The sum over nine coefficients at each vertex: transfer [9, V], light [9] -> [V]."""
    n = transfer.shape[1]
    out = np.empty(n)
    for v in range(n):
        total = 0.0
        for k in range(9):
            total += transfer[k, v] * light[k]
        out[v] = total
    return out
