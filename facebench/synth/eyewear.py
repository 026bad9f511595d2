"""Glasses and sunglasses: rims, bridge, temples and lenses fitted to a posed face."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from facebench.synth import head, tubes
from facebench.synth.numeric import Array, quantise
from facebench.synth.tubes import Prop

FRAMES = ("round", "square", "cat-eye", "half-rim")
_POINTS = 20  # of a lens's outline
_HEIGHT = (0.93, 0.74, 0.74, 0.62)  # of a lens over its width
_SECTION = np.array([[0.0, 0.5], [1.0, 0.5], [1.0, -0.5], [0.0, -0.5]])  # outwards, to the front


@lru_cache(maxsize=1)
def _outlines() -> Array:
    """[4, 2, 20] outlines, counter-clockwise from the temple's side, within [-1, 1]."""
    t = np.arange(_POINTS) * (2 * np.pi / _POINTS)
    c, s = np.cos(t), np.sin(t)
    out = []
    for power in (2.0, 4.5, 3.0, 3.4):
        r = (np.abs(c) ** power + np.abs(s) ** power) ** (-1.0 / power)
        out.append(np.stack([r * c, r * s]))
    out[1][0] *= 1.0 - 0.07 * (out[1][1] < 0) * np.abs(out[1][1])
    lift = np.exp(-(((t - 0.62) / 0.42) ** 2)) + np.exp(-(((t - 0.62 - 2 * np.pi) / 0.42) ** 2))
    out[2] = out[2] + lift * np.array([[0.16], [0.36]])
    out[2][1] *= np.where(out[2][1] < 0, 0.93, 1.0)
    out[3][0] *= 1.0 - 0.14 * (out[3][1] < 0) * np.abs(out[3][1])
    return quantise(np.stack(out))


@lru_cache(maxsize=1)
def _near() -> Array:
    """Vertices of the sheet that glasses may touch: round the eyes, brows and nose."""
    n = head.ROWS * head.COLUMNS
    x, y, z = head.build().rest[:, :n]
    return np.flatnonzero((np.abs(x) < 6.2) & (y > -4.5) & (y < 3.0) & (z > 4.0))


def _bend(x: Array, y: Array) -> Array:
    """How far a frame, wrapped and tilted, lies before its middle at offsets from that."""
    return 0.10 * y - 0.016 * (x * x)


def build(
    kind: int, form: Array, colour: Array, points: Array, marks: dict[str, float]
) -> tuple[Prop, ...]:
    """Glasses (kind 1) or sunglasses (kind 2); see `occluders` for `form`."""
    dark = kind == 2
    which = min(int(float(form[0]) * 4.0), 3)
    size, thick, low = float(form[1]), float(form[2]), float(form[4])
    middle = 0.5 * (marks["left x"] + marks["right x"])
    level = 0.5 * (marks["left y"] + marks["right y"])
    apart = 0.5 * (marks["right x"] - marks["left x"])
    lean = (marks["right y"] - marks["left y"]) / (2.0 * apart)
    half = apart * ((0.70 if dark else 0.655) + 0.17 * size)
    high = half * (_HEIGHT[which] + (0.08 if dark and which != 0 else 0.0))
    gap = apart * (0.23 + 0.09 * float(form[3]))
    centre = max(gap + half, 0.97 * apart)
    rim = (0.10 if not dark else 0.16) + 0.28 * thick * (0.75 if which == 0 else 1.0)
    cy = level - 0.05 - 0.75 * low
    near = points[:, _near()]
    x, y, z = near[0] - middle, near[1] - cy, near[2]
    dx, dy = (np.abs(x) - centre) / (half + rim), y / (high + rim)
    dx, dy = dx * dx, dy * dy
    under = (dx * dx + dy * dy <= 1.0) | ((np.abs(x) < gap + 0.1) & (np.abs(y - 0.3 * high) < 0.45))
    front = float((z - _bend(x, y))[under].max()) + 0.16
    outline = _outlines()[which]
    # parts that are thin: the lower half of a half-rim
    strong = np.where(outline[1] < -0.15, 0.16, 1.0) if which == 3 else np.ones(_POINTS)
    if which == 2:
        strong = 0.75 + 0.75 * np.maximum(outline[1], 0.0)
    pieces: list[tuple[Array, Array]] = []
    lenses: list[tuple[Array, Array]] = []

    def place(px: Array, py: Array, pz: Array) -> Array:
        return np.stack([middle + px, cy + py + lean * px, front + _bend(px, py) + pz])

    for side in (-1, 1):
        ring = tubes.tube(_POINTS, 4, closed=True)
        wide = (outline[0] * half)[:, None] + _SECTION[:, 0] * (rim * strong * outline[0])[:, None]
        tall = (outline[1] * high)[:, None] + _SECTION[:, 0] * (rim * strong * outline[1])[:, None]
        deep = _SECTION[:, 1] * (0.12 + 0.16 * np.minimum(strong, 1.0))[:, None]
        p = place(side * (centre + wide).reshape(-1), tall.reshape(-1), deep.reshape(-1))
        pieces.append((p, ring if side > 0 else ring[::-1]))
        # the lens: outline, half way, middle; a little domed; from both sides
        px = np.concatenate([outline[0], 0.55 * outline[0], [0.0]]) * (half * 1.01)
        py = np.concatenate([outline[1], 0.55 * outline[1], [0.0]]) * (high * 1.01)
        dome = np.repeat([0.0, 0.10, 0.14], [_POINTS, _POINTS, 1])
        p = place(side * (centre + px), py, dome)
        fan = tubes.tube(2, _POINTS, last=True)
        fan = fan if side > 0 else fan[::-1]
        lenses.append(
            (np.concatenate([p, p], axis=1), np.concatenate([fan, fan[::-1] + p.shape[1]], axis=1))
        )
        pieces.append(
            _temple(side, points, place(*_corner(side, centre + half, rim, high)), rim, dark)
        )
    pieces.append(_bridge(near, middle, gap, high, rim, place))
    p, triangles = tubes.join(pieces)
    frame = Prop(kind, p, triangles, np.repeat(colour[:, None], p.shape[1], axis=1), 0.55, 0.0)
    p, triangles = tubes.join(lenses)
    if dark:  # darker above than below
        tint = np.array([0.016, 0.015, 0.014]) + 0.05 * float(form[5]) * np.array([1.0, 0.75, 0.5])
        up = np.minimum(np.maximum((cy - p[1]) / (2.0 * high) + 0.5, 0.0), 1.0)
        return frame, Prop(kind, p, triangles, tint[:, None] * (0.5 + 1.2 * up), 0.9, 0.0)
    glass = np.repeat(np.array([0.80, 0.86, 0.88])[:, None], p.shape[1], axis=1)
    return frame, Prop(kind, p, triangles, glass, 1.0, 0.93 - 0.08 * float(form[5]))


def _corner(side: int, out: float, rim: float, high: float) -> tuple[Array, Array, Array]:
    """The rim's end and the hinge, as offsets from the frame's middle."""
    x = side * np.array([out - 0.1, out + rim + 0.15])
    return x, np.full(2, 0.42 * high), np.array([0.0, -0.25])


def _temple(side: int, points: Array, hinge: Array, rim: float, dark: bool) -> tuple[Array, Array]:
    """The arm from the hinge [3, 2] over the ear and down behind it."""
    ear = tubes.ear(points, side)
    tall = ear.top - ear.bottom
    root_y, root_z = ear.top - 0.17 * tall, ear.front - 0.35
    end, corner = hinge[:, 0], hinge[:, 1]
    t = np.array([0.04, 0.36, 0.68, 1.0])
    y = np.concatenate([corner[1] + (root_y - corner[1]) * t, [root_y - 0.1, root_y - 0.42 * tall]])
    back = ear.back + 0.25 * (ear.front - ear.back)
    z = np.concatenate([corner[2] - 0.2 + (root_z - corner[2] + 0.2) * t, [back, back - 0.5]])
    straight = corner[0] * side + (ear.inner + 0.15 - corner[0] * side) * t
    nodes = np.stack([np.zeros(6), y, z])
    clear = np.minimum(tubes.beside(points, nodes, side) + 0.10, ear.inner + 1.15)
    x = np.concatenate([straight, [ear.inner + 0.1, ear.inner]])
    x = side * np.maximum(x, clear)
    x[0] = corner[0] if side * x[0] < side * corner[0] else x[0]
    path = np.concatenate([np.stack([end, corner], axis=1), np.stack([x, y, z])], axis=1)
    tallness = np.array([0.5, 0.5, 0.48, 0.40, 0.34, 0.30, 0.28, 0.22]) * (
        0.5 + 0.9 * rim + 0.3 * dark
    )
    n = path.shape[1]
    # around the way back: upwards, then outwards (mirrored for the image's left)
    ring = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]]) * 0.5
    p = np.repeat(path, 4, axis=1)
    across = np.repeat(np.full(n, 0.16), 4) * np.tile(ring[:, 0], n)
    p[1] += np.repeat(tallness, 4) * np.tile(ring[:, 1], n)
    front = np.repeat(np.arange(n) < 2, 4)
    p[2] += np.where(front, across, 0.0)
    p[0] += side * np.where(front, 0.4, 1.0) * across
    tips = np.stack([path[:, 0], path[:, -1] + np.array([0.0, -0.1, -0.05])], axis=1)
    triangles = tubes.tube(n, 4, first=True, last=True)
    return np.concatenate([p, tips], axis=1), triangles if side > 0 else triangles[::-1]


def _bridge(
    near: Array, middle: float, gap: float, high: float, rim: float,
    place: Callable[[Array, Array, Array], Array],
) -> tuple[Array, Array]:  # fmt: skip
    """The piece over the nose: seven rings of four."""
    u = (np.arange(7) - 3.0) / 3.0
    x = u * (gap + 0.05)
    y = 0.34 * high + 0.22 * (1.0 - u * u)
    path = place(x, y, 0.10 * (1.0 - u * u))
    on = (np.abs(near[0] - middle) < gap) & (np.abs(near[1] - float(path[1, 3])) < 0.5)
    if on.any():
        need = float(near[2, on].max()) + 0.12 - float(path[2, 3])
        path[2] += max(need, 0.0) * (1.0 - u * u)
    ring = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]) * 0.5  # up, front
    p = np.repeat(path, 4, axis=1)
    p[1] += np.tile(ring[:, 0], 7) * (0.14 + 0.7 * rim)
    p[2] += np.tile(ring[:, 1], 7) * 0.22
    return p, tubes.tube(7, 4)
