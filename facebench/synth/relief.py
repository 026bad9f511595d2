"""The surface of the head at rest: rows and columns of the sheet, skull, features.

Lengths are centimetres; x to the image's right (the subject's left), y up, z to the camera. The
eyes are at height 0. These are fixed tables: whoever uses them rounds them to 2^-20 cm.
"""

from __future__ import annotations

import numpy as np

from facebench.synth.numeric import Array, smooth

# v (a row's place), heights in front, at the side and at the back; half width; depths in front
# and at the back; squareness of the cross-section.
_PROFILE = np.array(
    [
        # v     Yfront  Yside   Yback   W      Zfront  Zback   n
        [0.0, 12.0, 12.0, 12.0, 0.0, -0.6, -0.6, 2.0],
        [1.0, 11.3, 11.3, 11.2, 3.9, 4.0, -5.4, 2.0],
        [2.0, 9.5, 9.6, 9.2, 6.1, 7.2, -8.9, 2.1],
        [3.0, 6.9, 7.1, 6.2, 7.2, 8.7, -10.2, 2.25],
        [4.0, 4.4, 4.6, 3.0, 7.45, 9.45, -10.6, 2.35],
        [5.0, 2.1, 2.3, 0.2, 7.35, 9.7, -10.3, 2.4],
        [6.0, 0.0, 0.1, -2.2, 7.25, 9.3, -9.6, 2.38],
        [7.0, -2.4, -1.7, -4.3, 7.2, 9.35, -8.6, 2.35],
        [8.0, -4.4, -3.1, -5.9, 7.0, 9.5, -7.7, 2.32],
        [9.0, -6.4, -4.3, -7.0, 6.7, 9.6, -7.1, 2.3],
        [10.0, -8.4, -5.6, -7.8, 6.4, 9.3, -6.7, 2.25],
        [11.0, -10.2, -6.7, -8.4, 6.1, 9.1, -6.4, 2.2],
        [12.0, -11.4, -7.6, -8.9, 5.75, 8.0, -6.2, 2.15],
        [13.0, -11.7, -8.7, -9.3, 5.2, 5.4, -6.1, 2.0],
        [14.0, -12.2, -10.2, -10.2, 4.9, 3.6, -6.1, 2.0],
        [15.0, -14.2, -12.6, -12.2, 5.0, 3.2, -6.6, 2.0],
        [16.0, -16.4, -15.2, -14.4, 6.0, 3.5, -7.4, 2.0],
        [17.0, -18.2, -16.6, -16.0, 13.0, 4.6, -8.6, 2.1],
        [18.0, -23.0, -19.4, -19.0, 19.5, 7.0, -9.8, 2.3],
        [19.0, -34.0, -32.0, -30.0, 21.0, 8.5, -10.0, 2.4],
    ]
)

_STEP = 2.65 * np.pi / 180.0
_HALF = np.concatenate(
    [
        np.arange(18) * _STEP,
        np.array([50, 55, 60.5, 67, 74, 82, 91, 102, 116, 132, 150]) / 180 * np.pi,
    ]
)
THETA = np.concatenate([-_HALF[:0:-1], _HALF])  # open at the back; the last column joins the first
COLUMNS = len(THETA)
MIDDLE = COLUMNS // 2
EYE_IN, EYE_OUT = 5, 14  # columns of the eye's corners, from the middle
MOUTH_OUT = 9  # column of the mouth's corner, from the middle

EYE_X, EYE_RX, EYE_RY, EYE_RZ = 3.1, 2.0, 1.45, 1.25  # the eyeball's visible ellipsoid, cm
LID = 0.14  # thickness of the lids, cm
EYE_CENTRE_Z = 7.28  # depth of the eyes' middle, cm
BROW = (2.05, 2.12, 2.42, 2.58, 2.20, 1.75)  # heights along the brows, cm


def _row_places() -> tuple[Array, dict[str, int]]:
    """The place v of every row and column, [R, C], and the index of the named rows."""
    theta = np.abs(THETA)
    rows: list[Array] = []
    names: dict[str, int] = {}

    def add(v: float | Array, name: str = "") -> None:
        if name:
            names[name] = len(rows)
        rows.append(np.broadcast_to(np.asarray(v, np.float64), theta.shape).copy())

    for v in (0.0, 0.3, 0.65, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0, 3.35, 3.7, 4.0, 4.25, 4.45, 4.6):
        add(v)
    for v in (4.72, 4.82, 4.92, 5.02, 5.14, 5.28):
        add(v)
    inner, outer = _HALF[EYE_IN], _HALF[EYE_OUT]
    e = (theta - inner) / (outer - inner)  # 0 at the inner corner, 1 at the outer
    t = np.clip(e, 0.0, 1.0)
    opening = 4.0 * t * (1.0 - t)
    tilt = -0.06 * (smooth(theta, inner, outer) - 0.5) * (1.0 - smooth(theta, 0.8, 1.3))
    upper = 0.285 * opening**0.62 * (1.06 - 0.16 * t)
    lower = 0.20 * opening**0.8 * (0.88 + 0.25 * t)
    wide = 1.0 - smooth(np.abs(e - 0.5), 0.35, 0.95)
    fold = 6 + tilt - upper - 0.14 * wide - 0.10
    add(5.28 + (fold - 5.28) * 0.35)
    add(5.28 + (fold - 5.28) * 0.68)
    add(fold, "fold")
    add(6 + tilt - upper - 0.09 * wide - 0.03, "crease")
    add(6 + tilt - upper - 0.045 * wide - 0.012)
    add(6 + tilt - upper, "upper lid")
    for k in (0.04, 0.25, 0.5, 0.75, 0.96):
        add(6 + tilt - upper * (1 - k) + lower * k)
    names["eye first"], names["eye last"] = names["upper lid"] + 1, names["upper lid"] + 5
    add(6 + tilt + lower, "lower lid")
    add(6 + tilt + lower + 0.06 * wide + 0.012)
    add(6 + tilt + lower + 0.13 * wide + 0.05, "under lid")
    for v in (6.42, 6.56, 6.72, 6.88, 7.02, 7.15, 7.28, 7.40, 7.51, 7.61, 7.71, 7.80, 7.89, 7.97):
        add(v)
    add(8.06, "nose base")
    add(8.18)
    add(8.32)
    corner = _HALF[MOUTH_OUT]
    m = np.clip(theta / corner, 0.0, 1.0)
    shape = 1.0 - m * m
    bow = 0.05 * (1.0 - smooth(m, 0.0, 0.22)) * 0.7
    beyond = smooth(theta, corner, corner + 0.5)
    top = 0.375 * shape**0.75 - bow + 0.14 * beyond
    low = 0.53 * shape**0.7 + 0.16 * beyond
    line = 9 + 0.17 * m * m * (1.0 - 0.5 * beyond)
    add(line - top - 0.13 - 0.03 * beyond)
    add(line - top, "upper lip")
    add(line - top * 0.72)
    add(line - top * 0.45)
    add(line - top * 0.2)
    add(line - top * 0.05)
    add(line, "upper mouth")
    for _ in range(4):
        add(line)
    names["mouth first"], names["mouth last"] = names["upper mouth"] + 1, names["upper mouth"] + 4
    add(line, "lower mouth")
    add(line + low * 0.05)
    add(line + low * 0.2)
    add(line + low * 0.45)
    add(line + low * 0.72)
    add(line + low, "lower lip")
    add(line + low + 0.12)
    for v in (9.86, 10.05, 10.25, 10.5, 10.75, 11.0, 11.25, 11.5, 11.75):
        add(v)
    add(11.95, "jaw")
    for v in (
        12.15,
        12.4,
        12.7,
        13.0,
        13.4,
        13.8,
        14.3,
        15.0,
        15.5,
        15.8,
        16.05,
        16.2,
        16.35,
        16.5,
        16.65,
        16.85,
        17.1,
        17.5,
        18.1,
        19,
    ):
        add(v)
    places = np.stack(rows)
    return np.maximum.accumulate(places, axis=0), names


ROW, NAMED = _row_places()
ROWS = len(ROW)


def _cubic(x: Array, values: Array) -> Array:
    """Catmull-Rom interpolation of `values` at the integers, at real places x."""
    i = np.clip(np.floor(x).astype(int), 0, len(values) - 2)
    t = x - i
    p = np.concatenate([[2 * values[0] - values[1]], values, [2 * values[-1] - values[-2]]])
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )


def skull(v: Array, theta: Array) -> Array:
    """The plain head without features: points [3, ...] at rows' places `v` and angles `theta`."""
    yf, ys, yb, w, zf, zb, n = (_cubic(v, _PROFILE[:, k]) for k in range(1, 8))
    s, c = np.sin(theta), np.cos(theta)
    side, front, back = s * s, np.maximum(c, 0) ** 2, np.minimum(c, 0) ** 2
    y = yf * front + ys * side + yb * back
    r = (np.abs(s) ** n + np.abs(c) ** n) ** (-1.0 / n)
    x = np.maximum(w, 0) * s * r
    centre = -0.6
    z = centre + np.where(c > 0, zf - centre, -(zb - centre)) * c * r
    return np.stack([x, y, z])


def bump(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """A bell of height 1 at (+-cx, cy), on both sides alike."""
    return np.exp(-(((np.abs(x) - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)


def _nose(x: Array, y: Array) -> Array:
    """How far the nose stands out, cm."""
    ys = np.array([-6.0, -5.0, -4.75, -4.5, -4.2, -3.9, -3.5, -3.1, -2.2, -1.0, 0.3, 1.2, 2.2])
    height = np.array([0.0, 0.0, 0.06, 0.35, 1.15, 1.85, 2.25, 2.1, 1.62, 1.1, 0.62, 0.35, 0.0])
    width = np.array([0.6, 0.6, 0.62, 0.7, 0.84, 0.96, 1.0, 0.94, 0.84, 0.8, 0.82, 1.05, 1.3])
    h, w = np.interp(y, ys, height), np.interp(y, ys, width)
    q = np.abs(x) / w
    ridge = h * np.exp(-0.75 * q * q - 0.12 * q**4)
    ala = 0.82 * bump(x, y, 1.34, -3.9, 0.42, 0.50) + 0.22 * bump(x, y, 1.2, -3.3, 0.6, 0.7)
    tip = 0.26 * bump(x, y, 0.0, -3.62, 0.6, 0.48) - 0.10 * bump(x, y, 0.85, -3.4, 0.28, 0.4)
    return ridge + ala + tip


def features(p: Array) -> Array:
    """Adds brow ridge, sockets, nose, cheeks, lips and chin to plain front points [3, ...]."""
    x, y, z = p
    front = smooth(z, 0.0, 4.5)
    d = 0.22 * bump(x, y, 2.4, 1.9, 2.6, 1.0) + 0.08 * bump(x, y, 0.0, 1.9, 1.2, 0.8)
    d -= 0.62 * bump(x, y, 3.0, 0.1, 1.9, 1.35) + 0.28 * bump(x, y, 1.5, 0.3, 0.75, 0.9)
    d += 0.45 * bump(x, y, 4.0, -2.5, 2.1, 1.3)
    d -= 0.35 * bump(x, y, 4.2, -5.6, 1.5, 1.8)
    d += 0.35 * bump(x, y, 0.0, -6.0, 2.6, 2.2)
    d += 0.30 * bump(x, y, 0.0, -5.95, 2.1, 0.5) + 0.42 * bump(x, y, 0.0, -7.0, 1.8, 0.5)
    d -= 0.34 * bump(x, y, 0.0, -6.42, 1.9, 0.20)
    d -= 0.12 * bump(x, y, 0.0, -5.1, 0.35, 0.55) - 0.06 * bump(x, y, 0.62, -5.2, 0.3, 0.6)
    d -= 0.22 * bump(x, y, 2.75, -6.5, 0.55, 0.6)
    d -= 0.42 * bump(x, y, 0.0, -8.1, 2.2, 0.5)
    d += 0.60 * bump(x, y, 0.0, -9.7, 1.7, 1.2)
    d -= 0.20 * bump(x, y, 2.3, -4.9, 0.6, 0.9)
    d -= 0.25 * bump(x, y, 6.2, 1.8, 1.4, 1.8)
    return np.stack([x, y, z + front * (d + _nose(x, y))])


def eyeball(x: Array, y: Array) -> Array:
    """Depth of the eye's surface before its centre plane, cm, at offsets from the eye's middle."""
    inside = 1.0 - (x * (1 / EYE_RX)) * (x * (1 / EYE_RX)) - (y * (1 / EYE_RY)) * (y * (1 / EYE_RY))
    return EYE_RZ * np.sqrt(np.maximum(inside, 0.02))


def brow(x: Array) -> Array:
    """Height of the middle of the brows at rest, cm, at distances |x| from the middle."""
    return np.interp((x - 0.95) / 4.5, [-0.2, 0, 0.35, 0.65, 1.0, 1.3], BROW)


def ear(side: int) -> Array:
    """One ear as a disc of 8 rings and 16 spokes, [3, 8, 16]."""
    r = np.array([0.0, 0.2, 0.4, 0.55, 0.7, 0.82, 0.93, 1.0])[:, None]
    phi = (np.arange(16) * (2 * np.pi / 16))[None]
    a, b = r * np.cos(phi), r * np.sin(phi)  # backwards, up
    b_wide = 1.0 + 0.18 * b
    depth, up = 1.55 * a * b_wide, 3.05 * b
    out = 0.15 + 0.62 * (a + 1.0) + 0.15 * b
    rim = 0.28 * np.exp(-(((r - 0.82) / 0.13) ** 2)) * smooth(a + 0.5 * b, -0.7, 0.2)
    bowl = -0.45 * np.exp(-((a + 0.15) ** 2 + (b + 0.1) ** 2) / 0.2)
    edge = -0.5 * smooth(r, 0.86, 1.0)
    x = 6.8 + np.broadcast_to(out + rim + bowl + edge, depth.shape)
    z = -0.9 - depth - 0.28 * up
    return np.stack([side * x, -1.0 + up - 0.1 * depth, z])


def curtain() -> Array:
    """Long hair behind the ears, from the crown's sides to the shoulders, [3, 16, 25]."""
    theta = np.linspace(1.12, 2 * np.pi - 1.12, 25)[None]
    y = np.linspace(7.5, -17.5, 16)[:, None]
    drop = (7.5 - y) / 25.0
    s, c = np.sin(theta), np.cos(theta)
    wave = 0.25 * np.sin(9 * theta + 6 * drop) * drop
    width = 7.9 + 1.5 * np.sin(np.minimum(drop * 3.2, 2.2)) - 0.6 * smooth(drop, 0.75, 1.0) + wave
    depth = np.where(c > 0, 7.0, 11.5 - 2.5 * smooth(drop, 0.3, 0.8)) + wave
    return np.stack([width * s, y + 0 * s, -0.9 + depth * c])
