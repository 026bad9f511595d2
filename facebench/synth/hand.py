"""A hand before the face: palm, forearm and five fingers of rings, laid on a posed mesh."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from facebench.synth import head, tubes
from facebench.synth.numeric import Array, quantise, sin_cos
from facebench.synth.tubes import Prop

# Rings of forearm and palm, cm from the palm's middle towards the fingers: where, half width,
# half thickness, shift to the thumb's side, sleeve or skin.
_ARM = np.array([
    [-30.0, 4.6, 3.6, 0.0, 1.0], [-20.0, 4.4, 3.5, 0.0, 1.0], [-11.6, 4.0, 3.1, 0.0, 1.0],
    [-12.0, 2.95, 2.3, 0.0, 1.0], [-11.5, 2.75, 2.1, 0.0, 0.0], [-7.6, 2.55, 1.85, 0.0, 0.0],
    [-5.2, 2.65, 1.75, 0.05, 0.0], [-3.0, 3.45, 1.75, 0.25, 0.0], [-0.5, 3.95, 1.60, 0.15, 0.0],
    [2.2, 4.10, 1.35, 0.0, 0.0], [4.2, 3.70, 1.10, -0.05, 0.0],
])  # fmt: skip
_ARM_SIDES = 12
# Fingers from the thumb: where they begin (towards fingers, towards the thumb), how they point
# (closed, and how much more when spread; parts of a right angle to the thumb), length, radius.
_FINGERS = np.array([
    [-2.6, 2.35, 0.40, 0.20, 7.5, 1.16], [3.2, 2.85, 0.015, 0.11, 8.2, 0.99],
    [3.6, 0.95, 0.0, 0.03, 8.9, 1.02], [3.3, -0.95, -0.012, -0.055, 8.3, 0.98],
    [2.5, -2.7, -0.035, -0.15, 6.8, 0.86],
])  # fmt: skip
_ALONG = np.array([0.0, 0.20, 0.36, 0.53, 0.68, 0.83, 0.955])  # rings of a finger
_RADIUS = np.array([0.92, 1.04, 0.95, 1.0, 0.88, 0.90, 0.66])
_ARCH = np.array([0.0, 0.25, 0.65, 1.0, 0.85, 0.45, 0.05])
_SIDES = 8
_RINGS = len(_ALONG)
_CELL = 0.8  # side of a cell of the face's depth map, cm
_LEFT, _BOTTOM, _NX, _NY = -12.0, -36.4, 31, 63
_FALL = 0.9  # how steeply things follow the face backwards


@lru_cache(maxsize=2)
def _circle(n: int) -> Array:
    t = np.arange(n) * (2 * np.pi / n)
    return quantise(np.stack([np.cos(t), np.sin(t)]))


@lru_cache(maxsize=1)
def _oval() -> Array:
    """The palm's cross-section, [2, 12]: flatter than an ellipse."""
    c, s = _circle(_ARM_SIDES)
    r = (np.abs(c) ** 2.6 + np.abs(s) ** 2.6) ** (-1 / 2.6)
    return quantise(np.stack([r * c, r * s]))


@lru_cache(maxsize=1)
def _triangles() -> Array:
    arm = tubes.tube(len(_ARM), _ARM_SIDES, first=True, last=True)
    finger = tubes.tube(_RINGS, _SIDES, last=True)
    start = len(_ARM) * _ARM_SIDES + 2
    step = _RINGS * _SIDES + 1
    return np.concatenate([arm, *(finger + start + k * step for k in range(5))], axis=1)


@njit(cache=True, error_model="numpy")
def _raise(x: Array, y: Array, z: Array, low: Array, out: Array) -> None:
    ny, nx = out.shape
    for i in range(ny):
        for j in range(nx):
            low[i, j] = -1e3
    for k in range(x.shape[0]):
        i = int(np.floor((y[k] - _BOTTOM) / _CELL + 0.5))
        j = int(np.floor((x[k] - _LEFT) / _CELL + 0.5))
        if 0 <= i < ny and 0 <= j < nx and z[k] > 0.0:
            low[i, j] = max(low[i, j], z[k])
    wide = np.empty((ny, nx))  # a place between cells must lie below each of them
    for i in range(ny):
        for j in range(nx):
            best = -1e3
            for a in range(max(i - 1, 0), min(i + 2, ny)):
                for b in range(max(j - 1, 0), min(j + 2, nx)):
                    best = max(best, low[a, b])
            wide[i, j] = best
    step, slant = _FALL * _CELL, _FALL * _CELL * 1.4142135623730951
    for i in range(ny):
        for j in range(nx):
            out[i, j] = wide[i, j]
    for i in range(ny):
        for j in range(nx):
            if i > 0:
                out[i, j] = max(out[i, j], out[i - 1, j] - step)
                if j > 0:
                    out[i, j] = max(out[i, j], out[i - 1, j - 1] - slant)
                if j < nx - 1:
                    out[i, j] = max(out[i, j], out[i - 1, j + 1] - slant)
            if j > 0:
                out[i, j] = max(out[i, j], out[i, j - 1] - step)
    for i in range(ny - 1, -1, -1):
        for j in range(nx - 1, -1, -1):
            if i < ny - 1:
                out[i, j] = max(out[i, j], out[i + 1, j] - step)
                if j > 0:
                    out[i, j] = max(out[i, j], out[i + 1, j - 1] - slant)
                if j < nx - 1:
                    out[i, j] = max(out[i, j], out[i + 1, j + 1] - slant)
            if j < nx - 1:
                out[i, j] = max(out[i, j], out[i, j + 1] - step)
    for i in range(ny):  # rounder, but nowhere below the face
        for j in range(nx):
            up, down = max(i - 1, 0), min(i + 1, ny - 1)
            back, on = max(j - 1, 0), min(j + 1, nx - 1)
            cross = (out[up, j] + out[down, j]) + (out[i, back] + out[i, on])
            wide[i, j] = max(wide[i, j], 0.5 * out[i, j] + 0.125 * cross)
    for i in range(ny):
        for j in range(nx):
            out[i, j] = wide[i, j]


def envelope(points: Array) -> tuple[Array, Array]:
    """Depth maps of the face from the front, which `depth` and `nearest` read.

    Args:
        points: [3, V] posed points, cm, in the head's axes.

    Returns:
        [63, 31] a smooth one, nowhere behind the face and nowhere steep; [63, 31] the greatest
        depth (z, cm) in each cell, -1000 where there is nothing.
    """
    n = head.ROWS * head.COLUMNS
    low, out = np.empty((_NY, _NX)), np.empty((_NY, _NX))
    _raise(points[0, :n], points[1, :n], points[2, :n], low, out)
    return out, low


@njit(cache=True, error_model="numpy")
def nearest(cells: Array, x: float, y: float) -> float:
    """The greatest depth of the four cells around (x, y), cm."""
    i, j = int(np.floor((y - _BOTTOM) / _CELL)), int(np.floor((x - _LEFT) / _CELL))
    best = -1e3
    for a in range(max(i, 0), min(i + 2, _NY)):
        for b in range(max(j, 0), min(j + 2, _NX)):
            best = max(best, cells[a, b])
    return float(best)


@njit(cache=True, error_model="numpy")
def depth(cells: Array, x: float, y: float) -> float:
    """The depth of an envelope at (x, y), cm; beyond its edges as at the edge."""
    u = min(max((x - _LEFT) / _CELL, 0.0), _NX - 1.001)
    v = min(max((y - _BOTTOM) / _CELL, 0.0), _NY - 1.001)
    i, j = int(v), int(u)
    f, g = v - i, u - j
    top = cells[i, j] * (1.0 - g) + cells[i, j + 1] * g
    return float(top * (1.0 - f) + (cells[i + 1, j] * (1.0 - g) + cells[i + 1, j + 1] * g) * f)


@njit(cache=True, error_model="numpy")
def _lay(
    cells: Array, low: Array, at: Array, way: Array, thumb: float, scale: float, bent: float,
    turns: Array, arm: Array, fingers: Array, along: Array, swell: Array, arch: Array,
    oval: Array, circle: Array, out: Array, light: Array,
) -> None:  # fmt: skip
    """Lays the hand on the face: points `out` [3, n], and how light each is, `light` [n].

    `cells` and `low` are the maps of `envelope`; `at` [2] is the palm's middle, `way` [2] where
    the fingers point, `thumb` 1 where the thumb is to the left of that and -1 to the right,
    `turns` [5, 2] the sine and cosine of each finger's turn to the thumb. What faces the skin is
    darker. The rest are the tables above.
    """
    dx, dy = way[0], way[1]
    lx, ly = -dy, dx  # to the left of the way
    far = 3.0 * scale
    gu = depth(cells, at[0] + far * dx, at[1] + far * dy)
    gu = (gu - depth(cells, at[0] - far * dx, at[1] - far * dy)) / (2.0 * far)
    gv = depth(cells, at[0] + far * lx, at[1] + far * ly)
    gv = (gv - depth(cells, at[0] - far * lx, at[1] - far * ly)) / (2.0 * far)
    gu, gv = min(max(gu, -0.65), 0.40), min(max(gv, -0.5), 0.5)
    touch = -1e9
    for i in range(-3, 4):
        for j in range(-4, 5):
            u, v = 1.45 * i * scale, 0.95 * j * scale
            z = depth(cells, at[0] + u * dx + v * lx, at[1] + u * dy + v * ly)
            touch = max(touch, z - gu * u - gv * v)
    touch += 0.12
    m, sides = 0, oval.shape[1]
    before = 0.0
    for i in range(arm.shape[0] - 1, -1, -1):  # from the fingers to the sleeve
        u, wide, thick = arm[i, 0] * scale, arm[i, 1] * scale, arm[i, 2] * scale
        mid = thumb * arm[i, 3] * scale
        slope = gv if arm[i, 0] > -6.0 else gv * 0.5
        z = touch + gu * u + thick
        if arm[i, 0] < -5.5:  # the forearm comes towards the camera
            back = -5.2 * scale
            z = touch + gu * back + thick + (0.22 + 0.3 * max(-gu, -0.2)) * (back - u)
        sag = min(0.6 * (arm[i, 0] + 12.0), 0.0) * abs(dx) * scale  # an elbow hangs
        sleeve = arm[i, 1] > 3.5 and arm[i, 0] < -11.0
        for j in range(-2, 3):
            for k in range(-1, 2):
                if k == 0 or arm[i, 0] < -4.0:
                    a, v = u + (4.0 if sleeve else 1.6) * k * scale, mid + 0.5 * j * wide
                    below = depth(cells, at[0] + a * dx + v * lx, at[1] + a * dy + v * ly + sag)
                    z = max(z, below + thick - slope * v + (0.4 if sleeve else 0.0))
        if arm[i, 0] < -7.0:
            z = max(z, before - 0.1)
        before = z
        for k in range(sides):
            v, h = mid + wide * oval[0, k], thick * oval[1, k]
            m = i * sides + k
            out[0, m] = at[0] + u * dx + v * lx
            out[1, m] = at[1] + u * dy + v * ly + sag
            out[2, m] = z + slope * v + h
            light[m] = 0.80 + 0.20 * oval[1, k]
    m = arm.shape[0] * sides
    for k in range(3):
        out[k, m] = 0.5 * (out[k, 0] + out[k, sides // 2])
    light[m] = 0.6
    m += 1
    u = (arm[arm.shape[0] - 1, 0] + 0.7) * scale
    out[0, m], out[1, m] = at[0] + u * dx, at[1] + u * dy
    out[2, m] = touch + gu * u + 0.9 * scale
    light[m] = 0.8
    m += 1
    sides = circle.shape[1]
    for f in range(5):
        u0, v0 = fingers[f, 0] * scale, thumb * fingers[f, 1] * scale
        s, c = thumb * turns[f, 0], turns[f, 1]
        ex, ey = c * dx + s * lx, c * dy + s * ly
        length = fingers[f, 4] * scale * (1.0 - 0.22 * bent)
        bx, by = at[0] + u0 * dx + v0 * lx, at[1] + u0 * dy + v0 * ly
        rings = along.shape[0]
        zs = np.empty(rings)
        for i in range(rings):
            x, y = bx + along[i] * length * ex, by + along[i] * length * ey
            r = fingers[f, 5] * swell[i] * scale
            z = -1e9
            for j in range(-1, 2):
                z = max(z, depth(cells, x - j * r * ey, y + j * r * ex))
            z += r + 0.04 + arch[i] * bent * (1.5 if f > 0 else 0.7) * scale
            palm = touch + gu * (u0 + c * along[i] * length) + gv * (v0 + s * along[i] * length)
            if f > 0 and i < 3:
                z = max(z, palm + (1.05 if i < 2 else 0.9) * scale)
            if f == 0 and i < 2:
                z = max(z, palm + 1.25 * scale)
            if i > 0:
                z = max(z, zs[i - 1] - 0.8 * (along[i] - along[i - 1]) * length)
            zs[i] = z
        for i in range(rings):
            a, b = max(i - 1, 0), min(i + 1, rings - 1)
            run = (along[b] - along[a]) * length
            rise = zs[b] - zs[a]
            norm = 1.0 / np.sqrt(run * run + rise * rise)
            st, ct = rise * norm, run * norm
            x, y = bx + along[i] * length * ex, by + along[i] * length * ey
            r = fingers[f, 5] * swell[i] * scale
            for k in range(sides):
                v, h = r * circle[0, k], r * circle[1, k]
                out[0, m] = x - v * ey - h * st * ex
                out[1, m] = y + v * ex - h * st * ey
                out[2, m] = zs[i] + h * ct
                light[m] = 0.74 + 0.26 * circle[1, k]
                m += 1
        tip = length * 1.0
        out[0, m], out[1, m] = bx + tip * ex, by + tip * ey
        out[2, m] = zs[rings - 1] + 0.75 * (zs[rings - 1] - zs[rings - 2]) * 0.4
        out[2, m] = max(out[2, m], depth(cells, out[0, m], out[1, m]) + 0.1)
        light[m] = 0.85
        m += 1
    gap = 1e9  # what is left between the hand and the face is taken away
    for k in range(m):
        gap = min(gap, out[2, k] - nearest(low, out[0, k], out[1, k]))
    sides = oval.shape[1]
    for k in range((arm.shape[0] - 1) * sides):
        x, y = 0.5 * (out[0, k] + out[0, k + sides]), 0.5 * (out[1, k] + out[1, k + sides])
        gap = min(gap, 0.5 * (out[2, k] + out[2, k + sides]) - nearest(low, x, y))
    for k in range(m):
        out[2, k] -= min(max(gap - 0.08, 0.0), 2.0)


def build(kind: int, form: Array, colour: Array, points: Array) -> tuple[Prop, ...]:
    """A hand (see `occluders` for `form`) on posed points [3, V]."""
    marks = tubes.landmarks(points)
    wide = 0.5 * float(marks[0, 15] - marks[0, 1])
    middle = 0.5 * float(marks[0, 15] + marks[0, 1])
    chin, brow = float(marks[1, 8]), 0.5 * float(marks[1, 19] + marks[1, 24])
    x = middle + (2.0 * float(form[0]) - 1.0) * 0.8 * wide
    y = chin + (brow + 4.0 - chin) * float(form[1])
    angle = (2.0 * float(form[2]) - 1.0) * 1.75
    s, c = sin_cos(angle)
    way = np.array([-s, c])  # a forearm from the right points to the left
    thumb = 1.0 if float(form[2]) < 0.5 else -1.0
    scale = 0.84 + 0.24 * float(form[4])
    spread, bent = float(form[3]), float(form[5])
    turns = np.array([sin_cos(1.5707963267948966 * (f[2] + f[3] * spread)) for f in _FINGERS])
    # the place that is asked for lies under the knuckles, not under the palm's middle
    at = np.array([x - 2.8 * scale * way[0], y - 2.8 * scale * way[1]])
    n = len(_ARM) * _ARM_SIDES + 2 + 5 * (_RINGS * _SIDES + 1)
    p, light = np.empty((3, n)), np.empty(n)
    _lay(
        *envelope(points), at, way, thumb, scale, bent, turns, _ARM, _FINGERS,
        _ALONG, _RADIUS, _ARCH, _oval(), _circle(_SIDES), p, light,
    )  # fmt: skip
    albedo = _skin(colour, float(form[4]), light)
    return (Prop(kind, p, _triangles(), albedo, 0.12, 0.0),)


@lru_cache(maxsize=1)
def _paint() -> tuple[Array, Array, Array]:
    """For each vertex: sleeve (0 or 1), redness (knuckles, tips), nail."""
    n = len(_ARM) * _ARM_SIDES
    step = _RINGS * _SIDES + 1
    sleeve, red, nail = (np.zeros(n + 2 + 5 * step) for _ in range(3))
    sleeve[:n] = np.repeat(_ARM[:, 4], _ARM_SIDES)
    sleeve[n] = 1.0
    up = _circle(_SIDES)[1]
    for f in range(5):
        start = n + 2 + f * step
        for ring, much in ((1, 0.5), (3, 0.8), (5, 0.5), (6, 0.6)):
            red[start + ring * _SIDES : start + (ring + 1) * _SIDES] = much
        red[start + step - 1] = 0.6
        nail[start + 6 * _SIDES : start + 7 * _SIDES] = up > 0.6
    return sleeve, red, nail


def _skin(colour: Array, hue: float, light: Array) -> Array:
    sleeve, red, nail = _paint()
    tone = np.array([1.0, 0.90, 0.88])
    skin = colour[:, None] * (1.0 + (tone[:, None] - 1.0) * red)
    nails = colour * 0.8 + np.array([0.16, 0.11, 0.10])
    skin = skin * (1.0 - nail) + nails[:, None] * nail
    cloth = np.array([0.05, 0.07, 0.12]) + hue * np.array([0.25, 0.22, 0.17])
    return np.asarray((skin * (1.0 - sleeve) + cloth[:, None] * sleeve) * light)
