"""Drawing triangles: which triangle is in front at every sample, by exact integer arithmetic.

Corners are rounded to 1/256 of a sample and depths to 2^-10 cm, so coverage and the depth test
are integer comparisons (Pineda, "A parallel algorithm for polygon rasterization", 1988) and come
out the same on every machine. A tie goes to the triangle with the higher number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facebench.synth.numeric import Array

SUB = 256  # steps per sample
DEPTH = 1024  # steps per centimetre
_BITS = 20  # of a key are the triangle's number


def fix(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Rounds screen places (samples) and depths (cm, larger is nearer) to whole steps."""
    return (
        np.rint(x * SUB),
        np.rint(y * SUB),
        np.rint(z * DEPTH),
    )


@dataclass(frozen=True)
class Facing:
    """The triangles that face the camera: their numbers [F] and corners' places, [3, F] each."""

    number: Array
    x: Array
    y: Array
    z: Array


def facing(x: Array, y: Array, z: Array, triangles: Array) -> Facing:
    """Finds the triangles that face the camera.

    Args:
        x: [V] places from `fix`.
        y: [V] places from `fix`, downwards.
        z: [V] depths from `fix`.
        triangles: [3, T] vertices, counter-clockwise as seen from outside.
    """
    ax, ay = x.take(triangles, mode="clip"), y.take(triangles, mode="clip")
    turn = (ax[1] - ax[0]) * (ay[2] - ay[0]) - (ax[2] - ax[0]) * (ay[1] - ay[0])
    number = np.flatnonzero(turn < 0)
    corner = triangles.take(number, axis=1, mode="clip")
    return Facing(
        number,
        ax.take(number, axis=1, mode="clip"),
        ay.take(number, axis=1, mode="clip"),
        z.take(corner, mode="clip"),
    )


def _least(t: Array) -> Array:
    return np.minimum(np.minimum(t[0], t[1]), t[2])


def _most(t: Array) -> Array:
    return np.maximum(np.maximum(t[0], t[1]), t[2])


def _repeat(count: Array) -> tuple[Array, Array]:
    """For counts n0, n1, ...: which count each of their sum belongs to, and its place there."""
    owner = np.repeat(np.arange(len(count)), count)
    start = np.cumsum(count) - count
    return owner, (np.arange(len(owner)) - start[owner]).astype(np.float64)


def rasterise(front: Facing, size: int) -> tuple[Array, Array, Array]:
    """Finds the nearest front-facing triangle at each sample of a square grid.

    Args:
        front: the triangles; sample (i, j) is at (i, j) * SUB.
        size: samples per side.

    Returns:
        sample: [N] numbers (row * size + column) of the samples that a triangle covers, rising.
        triangle: [N] the triangle there.
        weights: [3, N] its barycentric coordinates there, float64.
    """
    number, tx, ty, tz = front.number, front.x, front.y, front.z
    first_x, last_x = np.ceil(_least(tx) * (1 / SUB)), np.floor(_most(tx) * (1 / SUB))
    first_y, last_y = np.ceil(_least(ty) * (1 / SUB)), np.floor(_most(ty) * (1 / SUB))
    first_x, last_x = np.maximum(first_x, 0.0), np.minimum(last_x, size - 1.0)
    first_y, last_y = np.maximum(first_y, 0.0), np.minimum(last_y, size - 1.0)
    keep = np.flatnonzero((last_x >= first_x) & (last_y >= first_y))
    if len(keep) == 0:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros((3, 0))
    number = number[keep]
    tx, ty, tz = (t.take(keep, axis=1, mode="clip") for t in (tx, ty, tz))
    x0, y0, x1 = first_x[keep], first_y[keep], last_x[keep]
    # edge k lies opposite corner k: e_k(p) = a_k px + b_k py + c_k, positive inside; whole
    # numbers below 2^53, so float64 holds them exactly
    i, j = [1, 2, 0], [2, 0, 1]
    a = ty[j] - ty[i]
    b = tx[i] - tx[j]
    c = b * (y0 * SUB - ty[i]) - a * tx[i]  # at the left end of the triangle's first line
    a, b = a * SUB, b * SUB
    # lines of samples that the triangles touch, and where each edge cuts them
    owner, line = _repeat((last_y[keep] - y0 + 1).astype(np.int64))
    q, left, right = [], x0.take(owner), x1.take(owner)
    for k in range(3):
        e = b[k].take(owner) * line + c[k].take(owner)
        slope = a[k].take(owner)
        cut = -e / np.where(slope == 0.0, 1.0, slope)
        left = np.maximum(left, np.where(slope > 0.0, np.ceil(cut), 0.0))
        right = np.minimum(right, np.where(slope < 0.0, np.floor(cut), size))
        right[(slope == 0.0) & (e < 0.0)] = -1.0
        q.append(e)
    count = np.maximum(right - left + 1, 0.0).astype(np.int64)
    lines, step = _repeat(count)
    px = left.take(lines) + step
    owner_of = owner.take(lines)
    weights = np.stack([a[k].take(owner_of) * px + q[k].take(lines) for k in range(3)])
    weights = weights * (1.0 / (weights[0] + weights[1] + weights[2]))
    where = ((y0.take(owner) + line).take(lines) * size + px).astype(np.int64)
    owner = owner_of
    depth = weights[0] * tz[0].take(owner) + weights[1] * tz[1].take(owner)
    depth = depth + weights[2] * tz[2].take(owner)
    key = ((np.rint(depth).astype(np.int64) + (1 << 30)) << _BITS) | number[owner]
    best = np.zeros(size * size, np.int64)
    np.maximum.at(best, where, key)
    won = np.flatnonzero(best[where] == key)
    won = won[np.argsort(where[won], kind="stable")]
    return where[won], number[owner[won]], weights[:, won]


def covered(front: Facing, screen: Array, triangles: Array, points: Array, slack: float) -> Array:
    """Which points have a front-facing triangle before them, nearer by more than `slack`.

    The rounded corners find the few triangles to look at; these are tested unrounded, since a
    point on the edge of a steep triangle would otherwise hide behind its own triangle.

    Args:
        front: the triangles that face the camera.
        screen: [3, V] unrounded x, y (samples) and depth (cm).
        triangles: [3, T].
        points: [3, K] x, y and depth.
        slack: cm by which a triangle must be nearer to count.

    Returns:
        [K] bool.
    """
    tx, ty, tz = front.x, front.y, front.z
    qx, qy, qz = points[0] * SUB, points[1] * SUB, points[2] * DEPTH
    near = np.flatnonzero(
        (_most(tz) > qz.min())
        & (_most(tx) >= qx.min())
        & (_least(tx) <= qx.max())
        & (_most(ty) >= qy.min())
        & (_least(ty) <= qy.max())
    )
    tx, ty = (t.take(near, axis=1, mode="clip") for t in (tx, ty))
    box = [
        t.astype(np.float32) for t in (_least(tx) - 1, _most(tx) + 1, _least(ty) - 1, _most(ty) + 1)
    ]
    qx, qy = qx.astype(np.float32)[:, None], qy.astype(np.float32)[:, None]
    inside = (box[0] <= qx) & (box[1] >= qx) & (box[2] <= qy) & (box[3] >= qy)
    k, t = np.divmod(np.flatnonzero(inside), max(len(near), 1))
    corner = triangles[:, front.number[near[t]]]
    tx, ty, tz = (v.take(corner) for v in screen)
    i, j = [1, 2, 0], [2, 0, 1]
    e = (ty[j] - ty[i]) * (points[0][k] - tx[i]) + (tx[i] - tx[j]) * (points[1][k] - ty[i])
    total = np.maximum(e[0] + e[1] + e[2], 1e-9)
    depth = (e[0] * tz[0] + e[1] * tz[1] + e[2] * tz[2]) / total
    before = (e[0] >= 0) & (e[1] >= 0) & (e[2] >= 0) & (depth > points[2][k] + slack)
    hidden = np.zeros(points.shape[1], bool)
    hidden[k[before]] = True
    return hidden
