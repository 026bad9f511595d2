"""The surface of the head at rest: rows and columns of the sheet, skull, features, ears.

Lengths are centimetres; x to the image's right (the subject's left), y up, z to the camera. The
eyes are at height 0. These are fixed tables: whoever uses them rounds them to 2^-20 cm. The
measures (bizygomatic width 14, eyes to chin 11.5, pupils 6.2 apart, nose 2 cm before the face) are
of the size that anthropometry reports for adults; the shape between them is modelled by hand.
"""

from __future__ import annotations

import numpy as np

from facebench.synth.numeric import Array, smooth

AXIS_Z = -0.6  # the axis around which the columns stand

# A row's place v is its number here; heights in front, at the side and at the back, cm.
_HEIGHT = np.array([
    [11.8, 11.8, 11.8], [11.15, 11.15, 11.1], [9.5, 9.5, 9.4], [7.0, 7.1, 6.6],
    [4.4, 4.6, 3.7], [2.1, 2.3, 1.2], [0.0, 0.1, -1.0], [-2.4, -1.7, -3.0],
    [-4.4, -3.1, -4.7], [-6.4, -4.3, -6.2], [-8.4, -5.5, -7.5], [-10.2, -6.5, -8.6],
    [-11.5, -7.5, -9.4], [-12.0, -8.9, -10.2], [-12.9, -10.6, -11.2], [-14.6, -12.8, -12.8],
    [-16.6, -15.2, -14.6], [-18.4, -16.7, -16.2], [-23.0, -19.6, -19.2], [-34.0, -32.0, -30.0],
])  # fmt: skip

# Distance from the axis, cm, per row at these angles from the front, degrees.
_ANGLES = np.array([0.0, 16, 33, 50, 70, 90, 110, 135, 160, 180])
_RADIUS = np.array(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [4.1, 4.05, 3.95, 3.8, 3.65, 3.65, 3.85, 4.4, 4.85, 5.0],
        [7.1, 7.05, 6.8, 6.4, 6.1, 6.05, 6.4, 7.4, 8.3, 8.6],
        [8.85, 8.8, 8.45, 7.85, 7.35, 7.3, 7.7, 8.65, 9.5, 9.7],
        [9.6, 9.5, 9.05, 8.2, 7.5, 7.5, 8.05, 9.05, 9.9, 10.1],
        [9.9, 9.8, 9.2, 8.1, 7.3, 7.4, 8.0, 8.95, 9.75, 9.95],
        [9.55, 9.6, 9.15, 8.2, 7.35, 7.25, 7.75, 8.65, 9.35, 9.55],
        [9.6, 9.55, 9.05, 8.3, 7.5, 7.15, 7.4, 8.1, 8.7, 8.9],
        [9.85, 9.65, 8.9, 8.0, 7.3, 7.0, 7.0, 7.5, 8.05, 8.2],
        [10.05, 9.7, 8.7, 7.65, 6.95, 6.65, 6.45, 6.7, 7.1, 7.25],
        [9.85, 9.4, 8.3, 7.25, 6.6, 6.35, 5.95, 6.0, 6.35, 6.5],
        [9.75, 9.15, 7.85, 6.85, 6.3, 6.15, 5.55, 5.55, 5.85, 6.0],
        [8.7, 8.25, 7.15, 6.4, 6.0, 5.8, 5.2, 5.25, 5.55, 5.7],
        [6.6, 6.4, 5.9, 5.5, 5.3, 5.15, 5.0, 5.1, 5.4, 5.55],
        [4.7, 4.8, 4.95, 5.0, 4.95, 4.95, 4.95, 5.15, 5.4, 5.55],
        [4.3, 4.5, 4.8, 5.0, 5.1, 5.15, 5.2, 5.4, 5.7, 5.8],
        [4.4, 4.7, 5.3, 6.0, 6.5, 6.7, 6.6, 6.4, 6.4, 6.5],
        [5.4, 5.8, 7.0, 9.0, 11.6, 12.9, 11.6, 9.2, 8.0, 7.8],
        [7.6, 8.1, 9.9, 12.9, 16.8, 18.6, 16.8, 12.6, 9.8, 9.4],
        [9.0, 9.6, 11.6, 14.6, 18.4, 20.2, 18.4, 13.6, 10.4, 9.9],
    ]
)

#: Angles of the columns on one side, degrees: dense over nose, eyes and mouth.
_HALF = np.array([
    0, 1.5, 3.0, 4.5, 6.1, 7.9, 9.8, 11.7, 13.6, 15.6, 17.6, 19.7, 21.9, 24.2, 26.7, 29.5, 32.4,
    35.4, 38.6, 42, 45.7, 49.7, 54, 58.7, 64, 70, 76.5, 83, 90, 98, 108, 120, 135, 152, 170,
]) / 180 * np.pi  # fmt: skip
THETA = np.concatenate([-_HALF[:0:-1], _HALF])  # open at the back; the last column joins the first
COLUMNS = len(THETA)
MIDDLE = COLUMNS // 2
EYE_IN, EYE_OUT = 6, 15  # columns of the eye's corners, from the middle
MOUTH_OUT = 9  # column of the mouth's corner, from the middle

EYE_X, EYE_RX, EYE_RY, EYE_RZ = 3.1, 1.95, 1.40, 1.30  # the eyeball's visible ellipsoid, cm
LID = 0.15  # thickness of the lids, cm
EYE_CENTRE_Z = 7.02  # depth of the eyes' middle, cm
BROW = (1.80, 1.95, 2.32, 2.50, 2.15, 1.72)  # heights along the brows, cm


def curve(x: Array, xs: tuple[float, ...], ys: tuple[float, ...]) -> Array:
    """A smooth curve through points, without overshoot (Fritsch and Carlson, 1980); flat beyond."""
    a, b = np.array(xs, np.float64), np.array(ys, np.float64)
    h = np.diff(a)
    d = np.diff(b) / h
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    same = d[1:] * d[:-1] > 0
    safe = np.where(same, d[1:] * d[:-1], 1.0)
    m = np.where(same, (w1 + w2) * safe / (w1 * d[1:] + w2 * d[:-1] + np.where(same, 0, 1)), 0.0)
    m = np.concatenate([[0.0], m, [0.0]])
    x = np.clip(x, a[0], a[-1])
    i = np.clip(np.searchsorted(a, x, "right") - 1, 0, len(a) - 2)
    t = (x - a[i]) / h[i]
    s = 1.0 - t
    return np.asarray(
        b[i] * (1 + 2 * t) * s * s
        + h[i] * m[i] * t * s * s
        + b[i + 1] * t * t * (3 - 2 * t)
        - h[i] * m[i + 1] * t * t * s
    )


def _row_places() -> tuple[Array, dict[str, int]]:
    """The place v of every row and column, [R, C], and the index of the named rows."""
    theta = np.abs(THETA)
    rows: list[Array] = []
    names: dict[str, int] = {}

    def add(v: float | Array, name: str = "") -> None:
        if name:
            names[name] = len(rows)
        rows.append(np.broadcast_to(np.asarray(v, np.float64), theta.shape).copy())

    for v in (0.0, 0.45, 0.9, 1.4, 1.9, 2.4, 2.85, 3.25, 3.6, 3.95, 4.25, 4.5, 4.66):
        add(v)
    for v in (4.8, 4.92, 5.04, 5.16, 5.30):
        add(v)
    inner, outer = _HALF[EYE_IN], _HALF[EYE_OUT]
    e = (theta - inner) / (outer - inner)  # 0 at the inner corner, 1 at the outer
    t = np.clip(e, 0.0, 1.0)
    opening = 4.0 * t * (1.0 - t)
    tilt = -0.07 * (smooth(theta, inner, outer) - 0.5) * (1.0 - smooth(theta, 0.7, 1.3))
    upper = 0.285 * opening**0.60 * (1.08 - 0.20 * t)
    lower = 0.185 * opening**0.85 * (0.86 + 0.30 * t)
    wide = 1.0 - smooth(np.abs(e - 0.5), 0.35, 0.95)
    away = 1.0 - wide  # beside the eyes the rows spread out
    fold = 6 + tilt - upper - 0.13 * wide - 0.12 - 0.14 * away
    add(5.30 + (fold - 5.30) * 0.36)
    add(5.30 + (fold - 5.30) * 0.70)
    add(fold, "fold")
    add(6 + tilt - upper - 0.085 * wide - 0.05 - 0.11 * away, "crease")
    add(6 + tilt - upper - 0.040 * wide - 0.018 - 0.06 * away)
    add(6 + tilt - upper, "upper lid")
    for k in (0.04, 0.25, 0.5, 0.75, 0.96):
        add(6 + tilt - upper * (1 - k) + lower * k)
    names["eye first"], names["eye last"] = names["upper lid"] + 1, names["upper lid"] + 5
    add(6 + tilt + lower, "lower lid")
    add(6 + tilt + lower + 0.045 * wide + 0.018 + 0.09 * away)
    add(6 + tilt + lower + 0.12 * wide + 0.06 + 0.19 * away, "under lid")
    for v in (6.42, 6.56, 6.72, 6.88, 7.03, 7.17, 7.30, 7.42, 7.53, 7.63, 7.73, 7.82, 7.91, 7.99):
        add(v)
    add(8.07, "nose base")
    corner = _HALF[MOUTH_OUT]
    m = np.clip(theta / corner, 0.0, 1.0)
    shape = 1.0 - m * m
    bow = 0.06 * (1.0 - smooth(m, 0.0, 0.28))
    beyond = smooth(theta, corner, corner + 0.5)
    top = 0.36 * shape**0.80 - bow + 0.42 * beyond
    low = 0.47 * shape**0.72 + 0.40 * beyond
    line = 9.05 + 0.10 * m * m * (1.0 - 0.5 * beyond) + 0.03 * (1.0 - smooth(m, 0.0, 0.3))
    spread = lambda at, even: at + (even - at) * beyond  # noqa: E731  even beside the mouth
    for k in (0.2, 0.4, 0.6, 0.8, 1.0):
        add(8.07 + (line - top - 0.10 - 8.07) * k)
    add(line - top, "upper lip")
    for k, even in ((0.74, 0.8), (0.47, 0.6), (0.22, 0.4), (0.06, 0.2)):
        add(line - top * spread(k, even))
    add(line, "upper mouth")
    for _ in range(4):
        add(line)
    names["mouth first"], names["mouth last"] = names["upper mouth"] + 1, names["upper mouth"] + 4
    add(line, "lower mouth")
    for k, even in ((0.06, 0.2), (0.22, 0.4), (0.47, 0.6), (0.74, 0.8)):
        add(line + low * spread(k, even))
    add(line + low, "lower lip")
    for k in (0.0, 0.25, 0.5, 0.75, 1.0):
        add((line + low + 0.10) * (1 - k) + 10.24 * k)
    for v in (10.48, 10.74, 11.0, 11.25, 11.5, 11.75):
        add(v)
    add(11.97, "jaw")
    for v in (12.2, 12.5, 12.9, 13.4, 14.1, 14.9, 15.7, 16.2, 16.5, 16.75, 17.1):
        add(v)
    for v in (17.6, 18.2, 19.0):
        add(v)
    places = np.stack(rows)
    return np.maximum.accumulate(places, axis=0), names


ROW, NAMED = _row_places()
ROWS = len(ROW)


def _cubic(x: Array, values: Array) -> Array:
    """Catmull-Rom interpolation along the first axis of `values`, at real places x."""
    i = np.clip(np.floor(x).astype(int), 0, len(values) - 2)
    t = (x - i)[(...,) + (None,) * (values.ndim - 1)]
    p = np.concatenate([2 * values[:1] - values[1:2], values, 2 * values[-1:] - values[-2:-1]])
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )


def _around(knots: Array, theta: Array) -> Array:
    """A cubic spline through knots [..., 10] at `_ANGLES`, level in front and behind, at theta.

    `theta` [...] holds one angle per set of knots, radians, 0 to pi.
    """
    a = _ANGLES / 180 * np.pi
    h = np.diff(a)
    n = len(a)
    system, right = np.zeros((n, n)), np.zeros((n, n))
    for q in range(n):  # clamped spline: slopes m solve system @ m = right @ knots
        if q in (0, n - 1):
            system[q, q] = 1.0
            continue
        system[q, q - 1], system[q, q + 1] = h[q], h[q - 1]
        system[q, q] = 2 * (h[q - 1] + h[q])
        right[q, q - 1] = -3 * h[q] / h[q - 1]
        right[q, q + 1] = 3 * h[q - 1] / h[q]
        right[q, q] = -right[q, q - 1] - right[q, q + 1]
    slopes = knots @ np.linalg.solve(system, right).T
    i = np.clip(np.searchsorted(a, theta, "right") - 1, 0, n - 2)
    pick = lambda t, k: np.take_along_axis(t, k[..., None], -1)[..., 0]  # noqa: E731
    t = (theta - a[i]) / h[i]
    s = 1.0 - t
    return np.asarray(
        pick(knots, i) * (1 + 2 * t) * s * s
        + pick(slopes, i) * h[i] * t * s * s
        + pick(knots, i + 1) * t * t * (3 - 2 * t)
        - pick(slopes, i + 1) * h[i] * t * t * s
    )


def skull(v: Array, theta: Array) -> Array:
    """The plain head without features: points [3, ...] at rows' places `v` and angles `theta`."""
    yf, ys, yb = np.moveaxis(_cubic(v, _HEIGHT), -1, 0)
    s, c = np.sin(theta), np.cos(theta)
    side, front, back = s * s, np.maximum(c, 0) ** 2, np.minimum(c, 0) ** 2
    r = np.maximum(_around(_cubic(v, _RADIUS), np.abs(theta)), 0.0)
    return np.stack([r * s, yf * front + ys * side + yb * back, AXIS_Z + r * c])


def bump(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """A bell of height 1 at (+-cx, cy), on both sides alike."""
    return np.exp(-(((np.abs(x) - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)


def ridge(x: Array, y: Array, a: tuple[float, float], b: tuple[float, float], r: float) -> Array:
    """A rounded ridge of height 1 and radius `r` along the line a-b, on both sides alike."""
    px, py = np.abs(x) - a[0], y - a[1]
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    qx, qy = px - t * dx, py - t * dy
    return np.exp(-(qx * qx + qy * qy) / (r * r))


def _nose(x: Array, y: Array) -> Array:
    """How far the nose stands out, cm."""
    ys = (-5.25, -5.0, -4.75, -4.5, -4.2, -3.85, -3.4, -2.8, -1.8, -0.8, 0.2, 1.1, 2.2)
    height = curve(
        y, ys, (0.0, 0.02, 0.22, 0.95, 1.72, 2.08, 2.05, 1.78, 1.32, 0.92, 0.52, 0.30, 0.0)
    )
    width = curve(
        y, ys, (0.62, 0.62, 0.58, 0.64, 0.86, 1.02, 1.05, 0.98, 0.88, 0.80, 0.78, 1.0, 1.3)
    )
    q = np.abs(x) / width
    out = height * np.exp(-0.62 * q * q - 0.16 * q**4)
    out += 0.80 * np.exp(-(((np.abs(x) - 1.22) / 0.50) ** 2) - np.abs((y + 4.02) / 0.62) ** 2.6)
    out += 0.26 * bump(x, y, 1.05, -3.2, 0.6, 0.6)
    out += 0.18 * bump(x, y, 0.0, -3.72, 0.62, 0.50)
    out -= 0.13 * bump(x, y, 0.86, -3.55, 0.20, 0.40)
    out -= 0.16 * ridge(x, y, (1.62, -3.3), (1.80, -4.3), 0.16)
    return np.asarray(out - 0.28 * bump(x, y, 0.62, -4.62, 0.26, 0.14))


def features(p: Array) -> Array:
    """Adds brow ridge, sockets, nose, cheeks, chin, jaw and throat to a plain head [3, ...]."""
    x, y, z = p
    side = np.sign(x)
    front = smooth(z, 0.0, 4.0)
    b = lambda *a: bump(x, y, *a)  # noqa: E731
    d = 0.20 * b(2.5, 1.85, 2.2, 0.75) + 0.06 * b(0.0, 1.7, 1.0, 0.7) - 0.10 * b(0, 3.6, 3.5, 1.0)
    d += 0.12 * b(2.4, 5.4, 1.6, 1.3)
    d -= 0.78 * b(2.95, 0.10, 1.75, 1.15) + 0.30 * b(1.50, 0.30, 0.55, 0.80)
    d += 0.50 * b(4.5, -2.2, 1.9, 1.15) + 0.20 * b(3.1, -3.3, 1.4, 1.0)
    d -= 0.28 * b(4.7, -5.5, 1.6, 1.8)
    d += 0.22 * b(0.0, -6.2, 2.3, 1.9)
    d -= 0.13 * ridge(x, y, (1.95, -4.2), (2.9, -5.9), 0.42)
    d -= 0.14 * b(0.0, -5.45, 0.30, 0.55) - 0.08 * b(0.52, -5.45, 0.24, 0.6)
    d -= 0.13 * b(2.85, -6.65, 0.55, 0.65)
    d -= 0.50 * b(0.0, -8.15, 2.0, 0.62)
    d += 0.62 * b(0.0, -9.9, 1.6, 1.15) - 0.05 * b(0.0, -10.1, 0.25, 0.7)
    d -= 0.12 * b(2.9, -9.2, 0.8, 1.6)
    d *= smooth(y, -12.6, -11.4)
    out = 0.09 * ridge(z, y, (1.0, -1.7), (4.4, -2.0), 1.7) - 0.20 * bump(z, y, 4.4, 2.4, 1.6, 1.7)
    out += 0.22 * ridge(z, y, (1.6, -4.6), (0.4, -7.0), 1.2) * smooth(y, -9.0, -7.4)
    out -= 0.08 * bump(z, y, 3.7, -5.2, 1.4, 1.8)
    lateral = smooth(np.abs(x), 3.5, 5.5) * smooth(z, -1.4, 0.0)
    throat = 0.35 * np.exp(-((x / 0.75) ** 2) - ((y + 14.0) / 0.8) ** 2) * smooth(z, 1.0, 3.0)
    cord = ridge(x, y, (5.2, -8.6), (1.0, -17.2), 0.75) * smooth(z, -3.5, -1.5)
    cord = 0.22 * cord * smooth(-y, 8.8, 11.5) * smooth(y, -16.6, -13.5)
    bone = 0.14 * ridge(x, y, (1.2, -17.9), (9.5, -16.6), 0.5) * smooth(z, -1.0, 1.5)
    pit = 0.2 * np.exp(-((x / 0.8) ** 2) - ((y + 17.7) / 0.8) ** 2) * smooth(z, 1.0, 3.0)
    x = x + side * (out * lateral + 0.5 * cord)
    return np.stack(
        [
            x,
            y - front * 0.30 * bump(x, y, 0.0, -4.05, 0.55, 0.42),
            z + front * (d + _nose(x, y)) + throat + 0.7 * cord + bone - pit,
        ]
    )


#: How far the lips stand out along their height: share of the height from the skin's edge to the
#: margin, and cm.
_LIP_AT = (0.0, 0.26, 0.53, 0.78, 0.94, 1.0)
_UPPER_LIP = (0.05, 0.20, 0.31, 0.30, 0.16, 0.02)
_LOWER_LIP = (0.04, 0.26, 0.42, 0.40, 0.20, 0.02)


def lips(z: Array) -> Array:
    """Rounds the lips on the sheet's depths [R, C] and opens the pocket of the mouth behind."""
    z = z.copy()
    column = np.abs(np.arange(COLUMNS) - MIDDLE)
    m = np.minimum(column / MOUTH_OUT, 1.0)
    full = (1.0 - m * m) ** 0.6
    tubercle = 1.0 + 0.16 * np.exp(-((m / 0.2) ** 2))
    pout = 1.0 - 0.10 * np.exp(-((m / 0.16) ** 2)) + 0.06 * np.exp(-(((m - 0.35) / 0.2) ** 2))
    for k in range(6):
        z[NAMED["upper lip"] + k] += _UPPER_LIP[k] * full * tubercle
        z[NAMED["lower lip"] - k] += _LOWER_LIP[k] * full * pout
    z[NAMED["upper lip"]] += 0.04 * np.exp(-(((m - 0.22) / 0.12) ** 2))
    z[NAMED["upper mouth"]] -= 0.10 * np.exp(-(((m - 0.92) / 0.14) ** 2)) * (m < 1)
    z[NAMED["lower mouth"]] = z[NAMED["upper mouth"]]
    inside = smooth(MOUTH_OUT - column, 0.0, 2.5)
    for k, back in enumerate((0.7, 1.7, 1.7, 0.7)):
        z[NAMED["mouth first"] + k] = z[NAMED["upper mouth"]] - back * inside
    return z


def eyes(sheet: Array) -> Array:
    """Lays lids and eyeballs into the sheet [3, R, C]; returns its new depths [R, C]."""
    x, y, z = sheet
    z = z.copy()
    up, low = NAMED["upper lid"], NAMED["lower lid"]
    rows = slice(NAMED["fold"] - 5, NAMED["under lid"] + 6)
    dx, dy = np.abs(x[rows]) - EYE_X, y[rows]
    ball = EYE_CENTRE_Z + eyeball(dx, dy) - 0.30 * dx - 0.04 * dx * dx
    near = 1.0 - smooth((dx / 1.85) ** 2 + (dy / 1.05) ** 2, 0.50, 1.85)
    near = near * (z[rows] > 2.0)
    lid = z[rows] * (1 - near) + (ball + LID) * near
    hood = 0.12 * np.exp(-(((dx - 0.2) / 1.6) ** 2) - ((dy - 1.05) / 0.28) ** 2)
    bag = 0.05 * np.exp(-(((dx + 0.1) / 1.3) ** 2) - ((dy + 0.62) / 0.18) ** 2)
    groove = 0.07 * np.exp(-((dx / 1.5) ** 2) - ((dy - 0.80) / 0.13) ** 2)
    away = np.abs(np.arange(COLUMNS) - MIDDLE)
    eye = np.zeros(lid.shape, bool)
    eye[up + 1 - rows.start : low - rows.start, (away > EYE_IN) & (away < EYE_OUT)] = True
    corner = 0.06 * np.exp(-(((dx + 1.32) / 0.22) ** 2))  # the tear corner
    z[rows] = np.where(eye, ball + corner, lid + (hood + bag - groove) * (z[rows] > 2.0))
    return z


def eyeball(x: Array, y: Array) -> Array:
    """Depth of the eye's surface before its centre plane, cm, at offsets from the eye's middle."""
    inside = 1.0 - (x * (1 / EYE_RX)) * (x * (1 / EYE_RX)) - (y * (1 / EYE_RY)) * (y * (1 / EYE_RY))
    return EYE_RZ * np.sqrt(np.maximum(inside, 0.02))


def brow(x: Array) -> Array:
    """Height of the middle of the brows at rest, cm, at distances |x| from the middle."""
    return curve((x - 0.95) / 4.5, (-0.2, 0.0, 0.35, 0.65, 1.0, 1.3), BROW)


_RINGS = (0.0, 0.2, 0.36, 0.5, 0.6, 0.7, 0.79, 0.87, 0.94, 1.0)
_SPOKES = 20


def ear(side: int) -> Array:
    """One ear as a disc of 10 rings and 20 spokes, [3, 10, 20]: bowl, antihelix, helix, lobe."""
    r = np.array(_RINGS)[:, None]
    phi = (np.arange(_SPOKES) * (2 * np.pi / _SPOKES))[None]
    a, b = r * np.cos(phi), r * np.sin(phi)  # backwards, up
    low = smooth(-b, 0.1, 1.0)
    depth = (1.62 + 0.14 * b) * a * (1.0 - 0.20 * low) - 0.30 * low
    up = 3.1 * b
    angle = np.broadcast_to(np.arctan2(np.sin(phi), np.cos(phi)), a.shape)  # 0 backwards, pi front
    rim = smooth(np.cos(angle - 0.85), -0.70, 0.1)  # the helix: front, top, back
    inner = smooth(np.cos(angle - 0.25), -0.35, 0.5)  # the antihelix
    out = 0.14 + 0.46 * (a + 1.0) + 0.14 * b
    out = out + 0.34 * rim * np.exp(-(((r - 0.88) / 0.085) ** 2))
    out -= 0.10 * rim * np.exp(-(((r - 0.74) / 0.08) ** 2))
    out += 0.26 * inner * np.exp(-(((r - 0.60) / 0.11) ** 2))
    out -= 0.26 * np.exp(-((a + 0.22) ** 2 + (b + 0.16) ** 2) / 0.11)
    out -= 0.08 * np.exp(-((a - 0.05) ** 2 + (b - 0.55) ** 2) / 0.05)
    out += 0.32 * np.exp(-(((a + 0.72) / 0.20) ** 2 + ((b + 0.18) / 0.20) ** 2))
    out += 0.22 * np.exp(-((a / 0.6) ** 2 + ((b + 0.82) / 0.22) ** 2))
    out -= 0.55 * smooth(r, 0.90, 1.0) * (0.5 + 0.5 * rim)
    x = 7.0 + np.broadcast_to(out, depth.shape)
    z = -0.95 - depth - 0.30 * up
    return np.stack([side * x, -1.35 + up - 0.08 * depth, z])
