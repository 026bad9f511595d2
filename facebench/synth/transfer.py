"""Precomputed radiance transfer: which light the head keeps from itself.

Light at a vertex is the sum over nine coefficients of light times transfer, where the transfer is
the projection of visibility times cosine on the spherical harmonics (Sloan, Kautz and Snyder,
"Precomputed radiance transfer for real-time rendering in dynamic, low-frequency lighting
environments", 2002, section 4.1). What is stored is the part that is lost: the integral over the
directions that the head itself blocks. The unshadowed part is known in closed form and follows the
normals of the face as it moves; the lost part is taken from the head at rest.

Visibility comes from one orthographic depth buffer for each of a fixed set of directions, drawn
by the rasteriser of the pictures.
"""

from __future__ import annotations

import math

import numpy as np

from facebench.synth import head, kernels, raster
from facebench.synth.compiled import kernel
from facebench.synth.numeric import Array, quantise

DIRECTIONS = 300
_CELL = 0.30  # cm per sample of the depth buffers
_SLACK = 0.22  # cm by which a surface must lie before a vertex to shade it
_LIFT = 0.12  # cm by which vertices are lifted off their surface


def directions(n: int) -> Array:
    """`n` directions spread evenly over the sphere, [3, n]: a spherical Fibonacci lattice."""
    k = np.arange(n) + 0.5
    y = 1.0 - 2.0 * k / n
    r = np.sqrt(1.0 - y * y)
    phi = k * (math.pi * (3.0 - math.sqrt(5.0)))
    return quantise(np.stack([r * np.cos(phi), y, r * np.sin(phi)]), 30)


def basis(d: Array) -> Array:
    """The nine real spherical harmonics at unit directions [3, N], in `Parameters.light`'s order.

    Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps", 2001,
    eq. 3.
    """
    x, y, z = d
    return np.stack([
        0.282095 + 0 * x, 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y,
        1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y),
    ])  # fmt: skip


@kernel
def _blocked(
    points: Array, lifted: Array, normal: Array, triangles: Array, drawn: Array,
    frames: Array, basis: Array, cell: float, slack: float,
) -> Array:  # fmt: skip
    """The transfer that is lost, [9, V], as the mean over directions of cosine times basis."""
    n, count = points.shape[1], frames.shape[0]
    out = np.zeros((9, n))
    reach = 0.0
    for v in range(n):
        d = points[0, v] * points[0, v] + points[1, v] * points[1, v] + points[2, v] * points[2, v]
        reach = max(reach, d)
    reach = math.sqrt(reach) + 1.0
    size = int(2.0 * reach / cell) + 2
    best = np.zeros(size * size, np.int64)
    x, y, w = np.empty(n), np.empty(n), np.empty(n)
    inverse = 1.0 / cell
    for k in range(count):
        f = frames[k]
        for v in range(n):
            a, b, c = points[0, v], points[1, v], points[2, v]
            x[v] = (f[0, 0] * a + f[0, 1] * b + f[0, 2] * c + reach) * inverse
            y[v] = (reach - (f[1, 0] * a + f[1, 1] * b + f[1, 2] * c)) * inverse
            w[v] = f[2, 0] * a + f[2, 1] * b + f[2, 2] * c
        fixed = raster.fix(x, y, w)
        front = raster.facing(fixed, triangles, drawn)
        best[:] = 0
        raster.rasterise(fixed, triangles, front, best, size)
        for v in range(n):
            cosine = f[2, 0] * normal[0, v] + f[2, 1] * normal[1, v] + f[2, 2] * normal[2, v]
            if cosine <= 0.0:
                continue
            a, b, c = lifted[0, v], lifted[1, v], lifted[2, v]
            i = int((f[0, 0] * a + f[0, 1] * b + f[0, 2] * c + reach) * inverse + 0.5)
            j = int((reach - (f[1, 0] * a + f[1, 1] * b + f[1, 2] * c)) * inverse + 0.5)
            # a surface seen at a slant rises within a cell of the buffer
            rise = min(math.sqrt(max(1.0 - cosine * cosine, 0.0)) / cosine, 8.0)
            near = f[2, 0] * a + f[2, 1] * b + f[2, 2] * c + slack + 1.6 * cell * rise
            i, j = min(max(i, 1), size - 2), min(max(j, 1), size - 2)
            # a soft edge: the share of five samples that block
            share = 0
            for s in range(5):
                di = 1 if s == 1 else (-1 if s == 2 else 0)
                dj = 1 if s == 3 else (-1 if s == 4 else 0)
                key = best[(j + dj) * size + i + di]
                if key:
                    above = float((key >> raster.BITS) - (1 << 30)) * (1.0 / raster.DEPTH)
                    if above > near:
                        share += 1
            if share:
                amount = cosine * float(share) * 0.2
                for m in range(9):
                    out[m, v] += amount * basis[m, k]
    scale = 4.0 / float(count)  # 4 pi / count directions, over the pi of irradiance
    for v in range(n):
        for m in range(9):
            out[m, v] = out[m, v] * scale
    return out


def lost(
    points: Array, triangles: Array, drawn: Array, same: Array,
    count: int | None = None, cell: float = _CELL, slack: float = _SLACK, lift: float = _LIFT,
) -> Array:  # fmt: skip
    """The transfer that a shape loses to its own shadow, [9, V], over pi.

    Args:
        points: [3, V] cm.
        triangles: int64 [3, T], counter-clockwise seen from outside.
        drawn: int64 [n] which of them are there.
        same: int64 [V] for each vertex one that stands for all at its place.
        count: number of directions; `DIRECTIONS` when left out.
        cell: cm per sample of the depth buffers.
        slack: cm by which something must lie before a vertex to shade it.
        lift: cm by which vertices are lifted off the surface.
    """
    count = DIRECTIONS if count is None else count
    normal = kernels.normals(points, triangles, drawn, same)
    d = directions(count)
    # any frame whose third axis is the direction; the one that tilts least
    up = np.where(np.abs(d[1]) > 0.9, 0.0, 1.0)
    helper = np.stack([1.0 - up, up, 0 * up])
    right = np.stack([
        helper[1] * d[2] - helper[2] * d[1], helper[2] * d[0] - helper[0] * d[2],
        helper[0] * d[1] - helper[1] * d[0],
    ])  # fmt: skip
    right = right / np.sqrt(right[0] * right[0] + right[1] * right[1] + right[2] * right[2])
    above = np.stack([
        d[1] * right[2] - d[2] * right[1], d[2] * right[0] - d[0] * right[2],
        d[0] * right[1] - d[1] * right[0],
    ])  # fmt: skip
    frames = np.ascontiguousarray(np.stack([right, above, d], 0).transpose(2, 0, 1))
    lifted = points + lift * normal
    return quantise(
        _blocked(points, lifted, normal, triangles, drawn, frames, quantise(basis(d)), cell, slack)
    )


def turned(light: Array, matrix: Array) -> Array:
    """Coefficients of light in axes that are turned: where the head is, given where the camera is.

    The first order turns as a vector, the second as a symmetric quadratic form without trace.

    Args:
        light: [9].
        matrix: [3, 3], takes directions of the new axes to directions of the old.
    """
    f = [float(v) for v in light]
    m = [[float(v) for v in row] for row in matrix]
    vector = (f[3], f[1], f[2])
    out = [sum(m[i][j] * vector[i] for i in range(3)) for j in range(3)]
    # value(d) = d^T q d for unit d; 3zz - 1 is 2zz - xx - yy
    a, b, c = 1.092548, 0.315392, 0.546274
    q = [
        [c * f[8] - b * f[6], 0.5 * a * f[4], 0.5 * a * f[7]],
        [0.5 * a * f[4], -c * f[8] - b * f[6], 0.5 * a * f[5]],
        [0.5 * a * f[7], 0.5 * a * f[5], 2.0 * b * f[6]],
    ]
    mq = [[sum(m[k][i] * q[k][j] for k in range(3)) for j in range(3)] for i in range(3)]
    r = [[sum(mq[i][k] * m[k][j] for k in range(3)) for j in range(3)] for i in range(3)]
    return np.array([
        f[0], out[1], out[2], out[0], 2.0 * r[0][1] / a, 2.0 * r[1][2] / a, 0.5 * r[2][2] / b,
        2.0 * r[0][2] / a, 0.5 * (r[0][0] - r[1][1]) / c,
    ])  # fmt: skip


def twins(triangles: Array) -> Array:
    """[T] bool: the triangles that are the back of an earlier one, on the same three vertices."""
    corners = np.sort(triangles, axis=0)
    order = np.lexsort((np.arange(corners.shape[1]), corners[2], corners[1], corners[0]))
    again = np.zeros(corners.shape[1], bool)
    again[order[1:]] = (corners[:, order[1:]] == corners[:, order[:-1]]).all(axis=0)
    return again


def joined(rest: Array) -> Array:
    """[V] for each vertex the first one at its place at rest."""
    order = np.lexsort((np.arange(rest.shape[1]), rest[2], rest[1], rest[0]))
    new = np.ones(rest.shape[1], bool)
    new[1:] = (rest[:, order[1:]] != rest[:, order[:-1]]).any(axis=0)
    start = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
    out = np.empty(rest.shape[1], np.int64)
    out[order] = order[start]
    return out


def head_loss(drawn: Array) -> tuple[Array, Array]:
    """The head's lost transfer [9, V] and its open share of the sky [V], for the drawn triangles.

    The raw numbers are spread a little over neighbours, since the depth buffers are coarse.

    Args:
        drawn: int64 [n] numbers of the triangles.
    """
    h = head.build()
    front = drawn[~twins(h.triangles)[drawn]]
    same = joined(h.rest)
    triangles = np.ascontiguousarray(h.triangles, np.int64)
    raw = lost(h.rest, triangles, front, same)
    edge = np.concatenate([triangles[[0, 1]][:, front], triangles[[1, 2]][:, front]], 1)
    edge = np.concatenate([edge, triangles[[2, 0]][:, front]], 1)
    edge = same[edge]
    count = np.bincount(edge[0], minlength=len(same)) + np.bincount(edge[1], minlength=len(same))
    for _ in range(2):
        near = np.stack([
            np.bincount(edge[0], row[edge[1]], len(same))
            + np.bincount(edge[1], row[edge[0]], len(same))
            for row in raw
        ])  # fmt: skip
        raw = np.where(count > 0, 0.5 * raw + 0.5 * near / np.maximum(count, 1), raw)
        raw = raw[:, same]
    out = quantise(raw)
    # an even sky of radiance 1 gives irradiance over pi 1 where nothing is lost
    sky = quantise(np.clip(1.0 - out[0] / 0.282095, 0.0, 1.0))
    # hair that hangs is worn in other places than where it is at rest: only its colour is its own
    loose = np.zeros(len(same), bool)
    loose[triangles[:, h.kind >= 2]] = True
    out[:, loose] *= 0.5
    sky[loose] = np.maximum(sky[loose], 0.75)
    fringe = np.zeros(len(same), bool)
    fringe[triangles[:, h.kind >= 4]] = True
    out[:, fringe] = 0.0
    return out, sky
