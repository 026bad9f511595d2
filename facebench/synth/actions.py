"""Facial actions: 24 action units as fields of displacement, expressions as sets of them.

Where each action unit acts and which way follows Ekman and Friesen's Facial Action Coding System;
the sets are EMFACS-like prototypes. An intensity is a number in [0, 1]; the FACS grades A to E
stand at 0.2, 0.4, 0.6, 0.8 and 1.0. Displacements add up, with two exceptions: what all action
units ask of the lids is summed and bounded, and the lids glide on the eyeball; and lips that would
cross are pressed against each other instead (`meet`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from facebench import schemes
from facebench.synth import head
from facebench.synth.head import bump
from facebench.synth.numeric import Array, quantise, smooth
from facebench.synth.relief import ridge

#: The action units of this world, by FACS number, in the order of `Parameters.au`.
ACTION_UNITS = (
    1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 28, 43,
)  # fmt: skip
INDEX = {au: k for k, au in enumerate(ACTION_UNITS)}

#: Neutral, six basic emotions and contempt, in the order of `Parameters.expression`.
EXPRESSIONS = schemes.EXPRESSIONS

#: Action units of each expression with their mean intensity (EMFACS, with what the field adds).
PROTOTYPES: dict[str, dict[int, float]] = {
    "neutral": {},
    "happy": {6: 0.75, 12: 0.9, 25: 0.6},
    "sad": {1: 0.9, 4: 0.55, 15: 0.9, 17: 0.5, 43: 0.15},
    "surprise": {1: 0.9, 2: 0.95, 5: 0.8, 25: 0.6, 26: 0.9},
    "fear": {1: 0.95, 2: 0.5, 4: 0.6, 5: 0.95, 20: 0.9, 25: 0.75, 26: 0.35},
    "disgust": {4: 0.45, 7: 0.45, 9: 1.0, 10: 0.8, 17: 0.35, 25: 0.2},
    "anger": {4: 1.0, 5: 0.6, 7: 0.55, 10: 0.2, 23: 0.8, 24: 0.5},
    "contempt": {12: 0.75, 14: 0.9},  # on one side
}

#: `Parameters.sides` of the action units that an expression shows on one side only.
ONE_SIDED: dict[str, dict[int, float]] = {"contempt": {12: 1.0, 14: 1.0}}

#: Other action units and how often each turns up on its own.
EXTRAS = {
    1: 0.06, 2: 0.05, 4: 0.08, 5: 0.03, 6: 0.06, 7: 0.05, 9: 0.02, 10: 0.04, 11: 0.03, 12: 0.08,
    14: 0.06, 15: 0.04, 16: 0.03, 17: 0.06, 18: 0.03, 20: 0.03, 22: 0.02, 23: 0.03, 24: 0.04,
    25: 0.12, 26: 0.06, 27: 0.02, 28: 0.02, 43: 0.04,
}  # fmt: skip

#: How far each action unit closes the upper lid and raises the lower one (1: shut).
_UPPER_LID = {5: -0.50, 6: 0.14, 7: 0.26, 9: 0.20, 12: 0.05, 43: 1.0}
_LOWER_LID = {5: -0.12, 6: 0.30, 7: 0.42, 9: 0.26, 12: 0.10, 43: 0.0}
_LINE = -6.58  # height of the line between the lips, cm


def _smooth_mouth(field: Array) -> Array:
    """Lets the mouth's rows follow the two lips in proportion; beside it both move as one."""
    first, last = head.NAMED["upper mouth"], head.NAMED["lower mouth"]
    away = np.abs(np.arange(head.COLUMNS) - head.MIDDLE)
    beside = away >= head.MOUTH_OUT
    mean = 0.5 * (field[:, first] + field[:, last])
    for row in (first, last):
        field[:, row] = np.where(beside, mean, field[:, row])
    for row in range(first + 1, last):
        f = (row - first) / (last - first)
        field[:, row] = (1 - f) * field[:, first] + f * field[:, last]
    corner = away == head.MOUTH_OUT  # where the lips' rows meet in one point
    for row in range(head.NAMED["upper lip"], head.NAMED["lower lip"] + 1):
        field[:, row, corner] = mean[:, corner]
    up, low = head.NAMED["upper lid"], head.NAMED["lower lid"]
    same = head.joined()
    for row in range(up + 1, low + 1):
        field[:, row, same[row]] = field[:, up, same[row]]
    return field


def jaw_weight() -> Array:
    """How much each vertex of the sheet follows the jaw, [R, C], in [0, 1]."""
    theta = np.abs(np.broadcast_to(head.THETA, head.ROW.shape))
    column = np.abs(np.arange(head.COLUMNS) - head.MIDDLE)[None]
    lateral = 1.0 - smooth(theta, 0.35, 1.55)
    corner = smooth(np.minimum(column / head.MOUTH_OUT, 1.0), 0.35, 1.0)
    at_line = 0.44 * corner * lateral
    v = head.ROW
    above = at_line * smooth(v, 7.2, 9.1)
    full = lateral * (1.0 - corner) + corner * at_line
    grow = smooth(v, 9.1, 10.6)
    below = full * (1 - grow) + lateral * grow
    below = below * (1.0 - smooth(v, 12.1, 15.6))
    rows = np.arange(head.ROWS)[:, None]
    weight = np.where(rows <= head.NAMED["upper mouth"], above, below)
    return _smooth_mouth(weight[None])[0]


def _jaw(angle: float) -> Array:
    """The displacement of a jaw that turns about the hinge before the ears, [3, R, C].

    The hinge itself slides forward and down as the mouth opens.
    """
    p = sheet()
    s, c = np.sin(angle), np.cos(angle)
    y, z = p[1] + 1.5, p[2] - 0.5
    w = jaw_weight()
    return np.stack([0 * w, w * (c * y - s * z - y - 0.8 * s), w * (s * y + c * z - z + 4.6 * s)])


def sheet() -> Array:
    """The head's sheet at rest, [3, R, C]."""
    return head.build().rest[:, : head.SHEET].reshape(3, head.ROWS, head.COLUMNS)


def _fields() -> dict[int, Array]:
    p = sheet()
    x, y, z = p
    side, ax = np.sign(x), np.abs(x)
    rows = np.broadcast_to(np.arange(head.ROWS)[:, None], x.shape)
    top = (rows <= head.NAMED["upper mouth"]).astype(np.float64)
    low = (rows >= head.NAMED["lower mouth"]).astype(np.float64)
    front = smooth(z, 0.0, 4.0)
    lips = bump(x, y, 0.0, _LINE, 2.9, 1.9) * front
    b = lambda *a: bump(x, y, *a) * front  # noqa: E731

    def move(dx: Array | float = 0.0, dy: Array | float = 0.0, dz: Array | float = 0.0) -> Array:
        zero = np.zeros_like(x)
        return np.stack([side * (dx + zero), dy + zero, dz + zero])

    corner, wide = b(2.6, -6.6, 1.35, 1.3), b(2.9, -6.4, 2.0, 1.8)
    inner, outer = b(1.2, 2.3, 1.7, 1.5), b(4.5, 2.3, 1.6, 1.5)
    apple = b(4.0, -2.7, 1.7, 1.25)
    thin_top, thin_low = top * lips * (y - _LINE), low * lips * (y - _LINE)
    furrow = ridge(x, y, (1.9, -4.3), (3.3, -6.0), 0.40) * front  # nasolabial
    upper, lower = top * b(0.0, -6.1, 1.9, 0.85), low * b(0.0, -7.1, 1.9, 1.0)
    out: dict[int, Array] = {
        1: move(
            -0.06 * inner, 0.95 * inner + 0.20 * b(0.9, 4.6, 1.7, 1.5), 0.06 * b(1.0, 3.8, 1.2, 0.6)
        ),
        2: move(0.05 * outer, 0.92 * outer + 0.22 * b(4.4, 4.2, 1.7, 1.5), 0.0),
        4: move(
            -0.46 * b(1.5, 2.1, 1.2, 1.1),
            -0.70 * b(1.5, 2.2, 1.8, 1.15) - 0.30 * b(3.4, 2.3, 1.6, 1.0),
            0.16 * b(0.9, 1.9, 0.7, 0.8) - 0.12 * bump(x, y, 0.0, 2.0, 0.3, 0.8) * front,
        ),
        5: move(0.0, 0.05 * b(3.1, 1.2, 1.6, 0.6)),
        6: move(
            -0.14 * b(5.2, -0.6, 1.2, 1.2),
            0.62 * apple + 0.14 * b(3.4, -1.2, 1.6, 0.5) - 0.16 * b(4.8, 1.7, 1.1, 0.8),
            0.46 * b(4.0, -2.2, 1.5, 1.0) + 0.10 * b(3.2, -0.95, 1.4, 0.3),
        ),
        7: move(-0.05 * b(4.6, 0.0, 0.9, 0.9), 0.12 * b(3.1, -1.1, 1.7, 0.5),
                0.10 * b(3.1, -0.9, 1.3, 0.28)),
        9: move(
            -0.18 * b(1.5, 2.0, 1.2, 1.0) + 0.14 * b(1.4, -4.0, 0.6, 0.7),
            0.52 * b(1.35, -4.0, 0.8, 0.95) + 0.20 * b(0.0, -3.9, 0.8, 0.8)
            - 0.46 * b(1.0, 2.0, 1.5, 1.0)
            + 0.46 * top * b(1.3, -5.9, 1.5, 0.8)
            + 0.34 * b(2.4, -1.9, 1.2, 1.1),
            0.20 * b(0.8, -0.5, 0.7, 0.8) + 0.26 * b(2.4, -1.5, 1.0, 0.8)
            + 0.16 * b(2.9, -4.0, 0.9, 1.0) - 0.16 * furrow,
        ),
        10: move(
            0.08 * b(2.0, -5.5, 1.0, 1.0),
            top * (0.42 * b(0.0, -6.1, 1.2, 0.8) + 0.62 * b(1.5, -6.0, 1.1, 0.8))
            + 0.30 * b(2.2, -4.5, 1.0, 1.0) + 0.14 * b(1.4, -4.2, 0.6, 0.6),
            0.20 * top * b(1.2, -6.0, 1.3, 0.7) + 0.26 * b(2.8, -4.1, 0.9, 0.9) - 0.20 * furrow,
        ),
        11: move(
            0.06 * b(2.3, -4.8, 0.8, 0.9),
            0.36 * b(2.2, -5.0, 1.0, 0.9) + 0.16 * top * b(1.8, -6.0, 0.9, 0.6),
            0.32 * b(3.1, -4.1, 0.9, 1.0) - 0.34 * furrow,
        ),
        12: move(
            0.85 * corner + 0.28 * wide,
            0.74 * b(2.65, -6.6, 1.15, 1.3)
            + 0.20 * wide
            + 0.10 * top * b(0.0, -6.1, 2.0, 0.8)
            - 0.10 * low * b(0.0, -7.1, 1.4, 0.8)
            + 0.36 * b(3.9, -3.6, 1.5, 1.3),
            -0.52 * corner
            - 0.16 * b(0.0, -6.6, 2.0, 1.1)
            + 0.48 * b(3.9, -3.4, 1.3, 1.2)
            - 0.24 * furrow,
        ),
        14: move(
            0.62 * b(2.6, -6.6, 1.0, 0.9),
            0.12 * corner,
            -0.75 * b(2.85, -6.6, 0.75, 0.8) + 0.45 * b(3.9, -6.5, 0.75, 1.3),
        ),
        15: move(
            0.12 * corner,
            -0.95 * b(2.65, -6.8, 1.05, 1.1) + 0.10 * top * b(0, -6.4, 1.0, 0.6),
            -0.14 * corner + 0.16 * b(3.0, -8.3, 0.8, 0.7),
        ),
        16: move(
            0.0,
            -0.75 * low * b(0.8, -7.0, 1.5, 1.0),
            0.16 * low * b(0.8, -7.3, 1.4, 0.6) - 0.10 * b(0.0, -8.3, 1.5, 0.5),
        ),
        17: move(
            0.0,
            0.65 * b(0.0, -9.2, 1.9, 1.2)
            + 0.46 * low * b(0.0, -7.1, 1.9, 0.9)
            + 0.36 * top * b(0.0, -6.3, 1.5, 0.8)
            - 0.14 * corner,
            0.30 * b(0.0, -9.3, 1.4, 0.9) + 0.26 * low * b(0.0, -7.3, 1.5, 0.5)
            - 0.12 * b(0.0, -8.3, 1.5, 0.35),
        ),
        18: move(
            -0.62 * lips * ax,
            0.12 * top * b(0.0, -6.1, 1.2, 0.6) - 0.12 * low * b(0.0, -7.1, 1.2, 0.6),
            1.00 * b(0.0, _LINE, 1.9, 1.25) - 0.2 * b(3.4, -6.6, 0.9, 1.2),
        ),
        20: move(
            0.85 * wide + 0.15 * corner,
            -0.26 * corner - 0.18 * low * b(1.6, -7.3, 1.6, 0.8),
            -0.44 * corner - 0.14 * b(0.0, -6.6, 2.0, 0.9),
        ),
        22: move(
            -0.26 * lips * ax,
            0.42 * upper - 0.55 * lower,
            0.95 * b(0.0, _LINE, 1.9, 1.3) + 0.12 * (upper + lower),
        ),
        23: move(
            -0.10 * lips * ax, -0.55 * (thin_top + thin_low), 0.10 * b(0.0, -6.6, 2.2, 0.5)
        ),
        24: move(
            -0.03 * lips * ax,
            -0.62 * (thin_top + thin_low) + 0.10 * b(0.0, -9.0, 1.6, 0.9),
            -0.24 * b(0.0, _LINE, 2.4, 0.6) + 0.18 * b(0.0, -8.3, 1.6, 0.6)
            + 0.14 * top * b(0.0, -5.6, 1.6, 0.4),
        ),
        25: move(0.0, 0.20 * upper - 0.72 * lower, 0.0),
        26: _jaw(0.19) + move(0.0, 0.42 * low * b(0.0, -7.0, 2.1, 1.0) - 0.14 * upper, 0.0),
        27: _jaw(0.34) + move(-0.34 * corner, 0.14 * upper - 0.20 * lower),
        28: move(0.0, -0.86 * (thin_top + thin_low), -0.62 * b(0.0, _LINE, 2.3, 0.62)),
        43: move(0.0, -0.14 * b(3.1, 1.5, 1.7, 0.6)),
    }  # fmt: skip
    return {au: _smooth_mouth(field) for au, field in out.items()}


@lru_cache(maxsize=1)
def fields() -> list[tuple[slice, Array]]:
    """For every action unit: the span of vertices that move and their displacement [3, n], cm."""
    made = _fields()
    out = []
    for au in ACTION_UNITS:
        flat = quantise(made[au].reshape(3, -1))
        flat[:, np.abs(flat).max(axis=0) < 2e-3] = 0.0
        moved = np.flatnonzero(np.abs(flat).max(axis=0))
        span = slice(int(moved[0]), int(moved[-1]) + 1)
        out.append((span, np.ascontiguousarray(flat[:, span])))
    return out


@lru_cache(maxsize=1)
def right_half() -> Array:
    """How much each vertex of the sheet belongs to the image's right half, [R * C], in [0, 1].

    The two halves overlap over 2 cm, so one-sided actions leave no crease in the middle.
    """
    return quantise(smooth(sheet()[0].reshape(-1), -1.0, 1.0))


def sided(au: Array, sides: Array, side: int) -> Array:
    """Intensities [24] on one side: -1 the image's left (subject's right), 1 the other."""
    return np.asarray(au * (1.0 - np.maximum(-side * sides, 0.0)))


def displace(points: Array, au: Array, sides: Array) -> None:
    """Adds the displacement of the action units to points [3, V] of a head, in place.

    Args:
        points: [3, V] cm.
        au: [24] intensities in [0, 1].
        sides: [24] in [-1, 1]: 0 both sides alike, 1 the subject's left (image right) only.
    """
    left, right = sided(au, sides, -1), sided(au, sides, 1)
    for k, (span, moved) in enumerate(fields()):
        a, b = float(left[k]), float(right[k])
        if a == b:
            if a:
                points[:, span] += a * moved
        else:
            points[:, span] += (a + (b - a) * right_half()[span]) * moved
    meet(points)


def meet(points: Array) -> None:
    """Presses lips that would cross against each other, in place, points [3, V]."""
    a, b = head.NAMED["upper mouth"], head.NAMED["lower mouth"]
    out = head.MOUTH_OUT - 1
    columns = slice(head.MIDDLE - out, head.MIDDLE + out + 1)
    grid = points[:, : head.SHEET].reshape(3, head.ROWS, head.COLUMNS)[:, :, columns]
    over = np.maximum(grid[1, b] - grid[1, a], 0.0)
    if not over.any():
        return
    # each lip gives way by half; the rows behind it give way less and less
    for k, share in enumerate(_GIVE):
        grid[1, a - k] += over * (0.5 * share)
        grid[1, b + k] -= over * (0.5 * share)
    pressed = np.minimum(over * 8.0, 1.0)
    level = (grid[2, a] + grid[2, b]) * 0.5
    for r, own in ((a, grid[2, a].copy()), (b, grid[2, b].copy())):
        grid[2, r] += pressed * (level - own)
    for r in range(a + 1, b):
        f = (r - a) * (1.0 / (b - a))
        grid[1, r] = grid[1, a] * (1.0 - f) + grid[1, b] * f


_GIVE = (1.0, 0.94, 0.80, 0.60, 0.40, 0.22, 0.10, 0.03)


def lid_closure(au: Array, look: float = 0.0) -> tuple[float, float]:
    """How far the upper lid comes down and the lower up, as parts of the opening.

    Their sum is at most 0.99, so the lids never cross.

    Args:
        au: [24] intensities in [0, 1].
        look: pitch of the gaze, radians; the lids follow the eye.
    """
    upper = sum(w * float(au[INDEX[k]]) for k, w in _UPPER_LID.items()) - 0.70 * look
    lower = sum(w * float(au[INDEX[k]]) for k, w in _LOWER_LID.items()) + 0.30 * look
    lower = max(min(lower, 0.6) * max(1.0 - max(upper, 0.0), 0.0), -0.3)
    lower += 0.06 * float(au[INDEX[43]])
    upper = max(min(upper, 0.99 - max(lower, 0.0)), -0.75)
    return upper, lower


@dataclass(frozen=True)
class Lids:
    """The vertices of the lids and the eyeball of one eye.

    Attributes:
        side: -1 the image's left eye, 1 the right.
        index: [n] vertices of the lids, then of the eyeball.
        above: [n] the margin of the upper lid in the vertex's column.
        below: [n] the margin of the lower lid.
        upper: [m] how much each of the lids' vertices goes with the upper margin, in [0, 1].
        lower: [m] with the lower margin.
        between: [n - m] where each of the eyeball's vertices is from margin to margin, in [0, 1].
    """

    side: int
    index: Array
    above: Array
    below: Array
    upper: Array
    lower: Array
    between: Array

    def close(self, points: Array, eye: tuple[float, float], closure: tuple[float, float]) -> None:
        """Moves the lids of a head's points [3, V], in place; they glide on the eyeball.

        Args:
            points: [3, V] cm.
            eye: x and y of the eye's middle, cm.
            closure: what `lid_closure` returns.
        """
        index, m = self.index, len(self.upper)
        lids, ball = index[:m], index[m:]
        x, y = points[0, index] - eye[0], points[1, index] - eye[1]
        gap = points[1, self.above[:m]] - points[1, self.below[:m]]
        points[1, lids] += (closure[1] * self.lower - closure[0] * self.upper) * gap
        top, low = points[1, self.above[m:]], points[1, self.below[m:]]
        points[1, ball] = top + (low - top) * self.between
        points[2, index] += head.eyeball(x, points[1, index] - eye[1]) - head.eyeball(x, y)


@lru_cache(maxsize=1)
def lid_patches() -> tuple[Lids, Lids]:
    """The lids of the image's left and right eye."""
    first, last = head.NAMED["fold"] - 2, head.NAMED["under lid"] + 2
    up, low = head.NAMED["upper lid"], head.NAMED["lower lid"]
    y = sheet()[1]
    out = []
    for side in (-1, 1):
        lids, balls, upper, lower, between = [], [], [], [], []
        for c in np.arange(head.EYE_IN + 1, head.EYE_OUT) * side + head.MIDDLE:
            for r in range(first, last + 1):
                if up < r < low:
                    balls.append((r, c))
                    between.append((y[up, c] - y[r, c]) / (y[up, c] - y[low, c]))
                    continue
                lids.append((r, c))
                upper.append(((r - first) / (up - first)) ** 1.2 if r <= up else 0.0)
                lower.append((1.0 - (r - low) / (last + 1 - low)) ** 1.2 if r >= low else 0.0)
        row, column = np.array(lids + balls).T
        index, above, below = (r * head.COLUMNS + column for r in (row, up, low))
        shares = (quantise(np.array(t)) for t in (upper, lower, between))
        out.append(Lids(side, index, above, below, *shares))
    return out[0], out[1]
