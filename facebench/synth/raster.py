"""Drawing triangles: which triangle is in front at every sample, by exact integer arithmetic.

Corners are rounded to 1/256 of a sample and nearness to 2^-10 cm, so coverage and the depth test
are integer comparisons (Pineda, "A parallel algorithm for polygon rasterization", 1988) and come
out the same on every machine. A tie goes to the triangle with the higher number.

Nearness is D^2 / (D - z) - D for a point z before the plane that the camera looks at, D from it:
it equals z near that plane, grows with it, and is linear across a triangle in perspective.
"""

from __future__ import annotations

import math

import numpy as np

from facebench.synth.compiled import kernel, small
from facebench.synth.numeric import Array

SUB = 256  # steps per sample
DEPTH = 1024  # steps per centimetre
BITS = 20  # of a key are the triangle's number
_BIAS = 1 << 30  # keeps keys positive; 0 means that nothing is there
_FAR = 1 << 28  # the largest place in steps; what lies beyond it is left out


def nearness(z: Array, distance: float) -> Array:
    """What the depth test compares, cm: larger is nearer.

    Args:
        z: cm before the plane that the camera looks at.
        distance: of that plane from the camera, cm.
    """
    out = np.maximum(distance - z, 1.0)
    return np.asarray(distance * distance / out - distance)


@kernel
def fix(x: Array, y: Array, w: Array) -> Array:
    """Rounds places (samples) and nearness (cm) to whole steps, int64 [3, V]."""
    n = x.shape[0]
    out = np.empty((3, n), np.int64)
    for i in range(n):
        out[0, i] = math.floor(min(max(x[i] * SUB, -2.0 * _FAR), 2.0 * _FAR) + 0.5)
        out[1, i] = math.floor(min(max(y[i] * SUB, -2.0 * _FAR), 2.0 * _FAR) + 0.5)
        out[2, i] = math.floor(w[i] * DEPTH + 0.5)
    return out


@kernel
def facing(fixed: Array, triangles: Array, drawn: Array) -> Array:
    """Places in `drawn` of the triangles that face the camera.

    Args:
        fixed: int64 [3, V] from `fix`, y downwards.
        triangles: int64 [3, T] vertices, counter-clockwise as seen from outside.
        drawn: int64 [n] which of them are drawn at all.
    """
    out = np.empty(drawn.shape[0], np.int64)
    count = 0
    x, y = fixed[0], fixed[1]
    for k in range(drawn.shape[0]):
        t = drawn[k]
        a, b, c = triangles[0, t], triangles[1, t], triangles[2, t]
        turn = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a])
        if turn < 0:
            largest = max(
                max(max(abs(x[a]), abs(x[b])), abs(x[c])), max(max(abs(y[a]), abs(y[b])), abs(y[c]))
            )
            if largest < _FAR:
                out[count] = t
                count += 1
    return out[:count]


@kernel
def rasterise(fixed: Array, triangles: Array, front: Array, best: Array, size: int) -> None:
    """Finds the nearest front-facing triangle at each sample of a square grid.

    Args:
        fixed: int64 [3, V] from `fix`; sample (i, j) is at (i, j) * SUB.
        triangles: int64 [3, T].
        front: int64 [F] from `facing`.
        best: int64 [size * size] keys so far, 0 where nothing is; it is written to. A key is the
            biased nearness above `BITS` bits of the triangle's number.
        size: samples per side.
    """
    X, Y, W = fixed[0], fixed[1], fixed[2]
    for k in range(front.shape[0]):
        t = front[k]
        v0, v1, v2 = triangles[0, t], triangles[1, t], triangles[2, t]
        x0, x1, x2 = X[v0], X[v1], X[v2]
        y0, y1, y2 = Y[v0], Y[v1], Y[v2]
        low_x = max((min(min(x0, x1), x2) + (SUB - 1)) // SUB, 0)
        high_x = min(max(max(x0, x1), x2) // SUB, size - 1)
        if low_x > high_x:
            continue
        low_y = max((min(min(y0, y1), y2) + (SUB - 1)) // SUB, 0)
        high_y = min(max(max(y0, y1), y2) // SUB, size - 1)
        if low_y > high_y:
            continue
        # edge k lies opposite corner k: a_k x + b_k y + c_k, positive inside
        a0, b0 = y2 - y1, x1 - x2
        a1, b1 = y0 - y2, x2 - x0
        a2, b2 = y1 - y0, x0 - x1
        px, py = low_x * SUB, low_y * SUB
        e0 = a0 * (px - x1) + b0 * (py - y1)
        e1 = a1 * (px - x2) + b1 * (py - y2)
        e2 = a2 * (px - x0) + b2 * (py - y0)
        inverse = 1.0 / float(e0 + e1 + e2)
        w0, w1, w2 = float(W[v0]) * inverse, float(W[v1]) * inverse, float(W[v2]) * inverse
        a0, a1, a2 = a0 * SUB, a1 * SUB, a2 * SUB
        b0, b1, b2 = b0 * SUB, b1 * SUB, b2 * SUB
        for j in range(low_y, high_y + 1):
            f0, f1, f2 = e0, e1, e2
            base = j * size
            for i in range(low_x, high_x + 1):
                if (f0 | f1 | f2) >= 0:  # no sign bit set
                    near = float(f0) * w0 + float(f1) * w1 + float(f2) * w2
                    key = ((math.floor(near + 0.5) + _BIAS) << BITS) | t
                    if key > best[base + i]:
                        best[base + i] = key
                f0 += a0
                f1 += a1
                f2 += a2
            e0 += b0
            e1 += b1
            e2 += b2


@small
def place(fixed: Array, v0: int, v1: int, v2: int, px: int, py: int) -> tuple[float, float, float]:
    """The barycentric coordinates of a point, given in steps, in a triangle that faces us."""
    X, Y = fixed[0], fixed[1]
    e0 = (Y[v2] - Y[v1]) * (px - X[v1]) + (X[v1] - X[v2]) * (py - Y[v1])
    e1 = (Y[v0] - Y[v2]) * (px - X[v2]) + (X[v2] - X[v0]) * (py - Y[v2])
    e2 = (Y[v1] - Y[v0]) * (px - X[v0]) + (X[v0] - X[v1]) * (py - Y[v0])
    inverse = 1.0 / float(e0 + e1 + e2)
    return float(e0) * inverse, float(e1) * inverse, float(e2) * inverse


_CELLS = 24  # per side of the grid in which points wait for triangles


@kernel
def covered(
    screen: Array, fixed: Array, triangles: Array, front: Array, bit: Array, points: Array,
    slack: float,
) -> Array:  # fmt: skip
    """What lies before points: the bits of the triangles nearer than they are by `slack`.

    A grid finds the few triangles to look at; these are tested unrounded, since a point on the
    edge of a steep triangle would otherwise hide behind its own triangle.

    Args:
        screen: float64 [3, V] unrounded x, y (samples) and nearness (cm).
        fixed: int64 [3, V] the same from `fix`.
        triangles: int64 [3, T].
        front: int64 [F] from `facing`.
        bit: uint8 [T] what each triangle counts as.
        points: float64 [3, K] x, y and nearness.
        slack: cm by which a triangle must be nearer to count.

    Returns:
        uint8 [K].
    """
    n = points.shape[1]
    hidden = np.zeros(n, np.uint8)
    if n == 0:
        return hidden
    low_x, high_x, low_y, high_y = points[0, 0], points[0, 0], points[1, 0], points[1, 0]
    for k in range(n):
        low_x, high_x = min(low_x, points[0, k]), max(high_x, points[0, k])
        low_y, high_y = min(low_y, points[1, k]), max(high_y, points[1, k])
    step_x = _CELLS / max(high_x - low_x, 1e-6)
    step_y = _CELLS / max(high_y - low_y, 1e-6)
    first = np.full(_CELLS * _CELLS, -1, np.int64)
    after = np.full(n, -1, np.int64)
    for k in range(n):
        i = min(int((points[0, k] - low_x) * step_x), _CELLS - 1)
        j = min(int((points[1, k] - low_y) * step_y), _CELLS - 1)
        after[k] = first[j * _CELLS + i]
        first[j * _CELLS + i] = k
    margin = 1.0
    unit = 1.0 / SUB
    X, Y = fixed[0], fixed[1]
    for f in range(front.shape[0]):
        t = front[f]
        v0, v1, v2 = triangles[0, t], triangles[1, t], triangles[2, t]
        left = float(min(min(X[v0], X[v1]), X[v2])) * unit - margin
        right = float(max(max(X[v0], X[v1]), X[v2])) * unit + margin
        top = float(min(min(Y[v0], Y[v1]), Y[v2])) * unit - margin
        bottom = float(max(max(Y[v0], Y[v1]), Y[v2])) * unit + margin
        if right < low_x or left > high_x or bottom < low_y or top > high_y:
            continue
        i0 = int(max((left - low_x) * step_x, 0.0))
        i1 = int(min((right - low_x) * step_x, _CELLS - 1.0))
        j0 = int(max((top - low_y) * step_y, 0.0))
        j1 = int(min((bottom - low_y) * step_y, _CELLS - 1.0))
        for j in range(j0, j1 + 1):
            for i in range(i0, i1 + 1):
                k = first[j * _CELLS + i]
                while k >= 0:
                    x, y = points[0, k], points[1, k]
                    if left <= x <= right and top <= y <= bottom:
                        x0, x1, x2 = screen[0, v0], screen[0, v1], screen[0, v2]
                        y0, y1, y2 = screen[1, v0], screen[1, v1], screen[1, v2]
                        e0 = (y2 - y1) * (x - x1) + (x1 - x2) * (y - y1)
                        e1 = (y0 - y2) * (x - x2) + (x2 - x0) * (y - y2)
                        e2 = (y1 - y0) * (x - x0) + (x0 - x1) * (y - y0)
                        if e0 >= 0.0 and e1 >= 0.0 and e2 >= 0.0:
                            near = e0 * screen[2, v0] + e1 * screen[2, v1] + e2 * screen[2, v2]
                            near = near / max(e0 + e1 + e2, 1e-9)
                            if near > points[2, k] + slack:
                                hidden[k] |= bit[t]
                    k = after[k]
    return hidden
