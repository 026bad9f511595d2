"""Facial actions: 24 action units as fields of displacement, expressions as sets of them.

Where each action unit acts and which way follows Ekman and Friesen's Facial Action Coding System;
the sets are EMFACS-like prototypes. An intensity is a number in [0, 1]; the FACS grades A to E
stand at 0.2, 0.4, 0.6, 0.8 and 1.0. Displacements add up; lids are the exception: what all action
units ask of them is summed and bounded, and they glide on the eyeball.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from facebench import schemes
from facebench.synth import head
from facebench.synth.head import bump
from facebench.synth.numeric import Array, quantise, smooth

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
    "happy": {6: 0.7, 12: 0.8, 25: 0.6},
    "sad": {1: 0.8, 4: 0.6, 15: 0.8, 17: 0.4},
    "surprise": {1: 0.8, 2: 0.9, 5: 0.7, 25: 0.5, 26: 0.8},
    "fear": {1: 0.8, 2: 0.6, 4: 0.6, 5: 0.8, 20: 0.7, 25: 0.6, 26: 0.3},
    "disgust": {4: 0.4, 7: 0.4, 9: 0.9, 10: 0.7, 17: 0.4, 25: 0.2},
    "anger": {4: 0.9, 5: 0.5, 7: 0.6, 23: 0.7, 24: 0.4},
    "contempt": {12: 0.7, 14: 0.8},  # on one side
}

#: Other action units and how often each turns up on its own.
EXTRAS = {
    1: 0.06, 2: 0.05, 4: 0.08, 5: 0.03, 6: 0.06, 7: 0.05, 9: 0.02, 10: 0.04, 11: 0.03, 12: 0.08,
    14: 0.06, 15: 0.04, 16: 0.03, 17: 0.06, 18: 0.03, 20: 0.03, 22: 0.02, 23: 0.03, 24: 0.04,
    25: 0.12, 26: 0.06, 27: 0.02, 28: 0.02, 43: 0.04,
}  # fmt: skip

#: How far each action unit closes the upper lid and raises the lower one (1: shut).
_UPPER_LID = {5: -0.42, 6: 0.10, 7: 0.22, 9: 0.16, 12: 0.04, 43: 1.0}
_LOWER_LID = {5: -0.08, 6: 0.30, 7: 0.42, 9: 0.25, 12: 0.08, 43: 0.0}


def _smooth_mouth(field: Array) -> Array:
    """Lets the rows of the mouth cavity follow the two lips, in proportion."""
    first, last = head.NAMED["upper mouth"], head.NAMED["lower mouth"]
    for row in range(first + 1, last):
        f = (row - first) / (last - first)
        field[:, row] = (1 - f) * field[:, first] + f * field[:, last]
    return field


def jaw_weight() -> Array:
    """How much each vertex of the sheet follows the jaw, [R, C], in [0, 1]."""
    theta = np.abs(np.broadcast_to(head.THETA, head.ROW.shape))
    column = np.abs(np.arange(head.COLUMNS) - head.MIDDLE)[None]
    lateral = 1.0 - smooth(theta, 0.45, 1.5)
    corner = smooth(np.minimum(column / head.MOUTH_OUT, 1.0), 0.35, 1.0)
    at_line = 0.46 * corner * lateral
    v = head.ROW
    above = at_line * smooth(v, 7.2, 9.1)
    full = lateral * (1.0 - corner) + corner * at_line
    grow = smooth(v, 9.1, 10.4)
    below = full * (1 - grow) + lateral * grow
    below = below * (1.0 - smooth(v, 12.0, 15.0))
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
    return np.stack([0 * w, w * (c * y - s * z - y - 0.8 * s), w * (s * y + c * z - z + 3.5 * s)])


def sheet() -> Array:
    """The head's sheet at rest, [3, R, C]."""
    return head.build().rest[:, : head.ROWS * head.COLUMNS].reshape(3, head.ROWS, head.COLUMNS)


def _fields() -> dict[int, Array]:
    p = sheet()
    x, y, z = p
    side = np.sign(x)
    rows = np.broadcast_to(np.arange(head.ROWS)[:, None], x.shape)
    top = (rows <= head.NAMED["upper mouth"]).astype(np.float64)
    low = (rows >= head.NAMED["lower mouth"]).astype(np.float64)
    front = smooth(z, 0.0, 4.0)
    lips = bump(x, y, 0.0, -6.5, 2.9, 2.0)
    b = lambda *a: bump(x, y, *a) * front  # noqa: E731

    def move(dx: Array | float = 0.0, dy: Array | float = 0.0, dz: Array | float = 0.0) -> Array:
        zero = np.zeros_like(x)
        return np.stack([side * (dx + zero), dy + zero, dz + zero])

    corner, wide = b(2.6, -6.45, 1.35, 1.35), b(2.8, -6.3, 2.0, 1.8)
    inner, outer = b(1.2, 2.6, 1.7, 1.7), b(4.4, 2.6, 1.8, 1.7)
    thin_top, thin_low = top * lips * (y + 6.42), low * lips * (y + 6.42)
    out: dict[int, Array] = {
        1: move(-0.05 * inner, 0.85 * inner + 0.15 * b(1.0, 4.6, 1.8, 1.5)),
        2: move(0.05 * outer, 0.85 * outer + 0.15 * b(4.4, 4.4, 1.8, 1.5)),
        4: move(
            -0.38 * b(1.5, 2.3, 1.3, 1.2),
            -0.62 * b(1.8, 2.4, 1.9, 1.3),
            0.10 * b(0.7, 2.0, 0.8, 0.9),
        ),
        5: move(0.0, 0.05 * b(3.1, 1.2, 1.6, 0.7)),
        6: move(
            -0.10 * b(5.2, -0.6, 1.2, 1.2),
            0.55 * b(4.0, -2.2, 1.8, 1.3),
            0.38 * b(3.9, -1.9, 1.5, 1.0),
        ),
        7: move(-0.04 * b(4.6, 0.0, 0.9, 0.9), 0.10 * b(3.1, -1.0, 1.7, 0.6)),
        9: move(
            -0.16 * b(1.5, 2.2, 1.2, 1.0) + 0.12 * b(1.4, -3.8, 0.6, 0.7),
            0.42 * b(1.3, -3.6, 0.9, 1.0)
            - 0.38 * b(1.0, 2.2, 1.5, 1.0)
            + 0.35 * top * b(1.3, -5.6, 1.5, 0.9)
            + 0.25 * b(2.4, -1.6, 1.2, 1.0),
            0.16 * b(0.9, -0.6, 0.7, 0.8) + 0.2 * b(2.4, -1.4, 1.0, 0.8),
        ),
        10: move(
            0.06 * b(2.0, -5.3, 1.0, 1.0),
            top * (0.62 * b(1.2, -5.9, 1.3, 0.9)) + 0.25 * b(2.2, -4.4, 1.0, 1.0),
            0.15 * top * b(1.2, -5.6, 1.3, 0.8) + 0.18 * b(2.6, -4.0, 1.0, 0.9),
        ),
        11: move(
            0.05 * b(2.3, -4.6, 0.8, 0.9),
            0.28 * b(2.1, -4.9, 1.0, 0.9),
            0.22 * b(3.0, -4.0, 0.9, 0.9) - 0.18 * b(2.0, -5.2, 0.6, 0.7),
        ),
        12: move(
            0.80 * corner + 0.25 * wide,
            0.62 * corner
            + 0.22 * wide
            + 0.14 * b(0.0, -6.4, 1.8, 1.2)
            + 0.30 * b(3.9, -3.4, 1.5, 1.3),
            -0.40 * corner - 0.12 * b(0.0, -6.3, 2.0, 1.2) + 0.36 * b(3.7, -3.1, 1.3, 1.2),
        ),
        14: move(
            0.38 * b(2.6, -6.45, 0.9, 0.9),
            0.06 * corner,
            -0.55 * b(2.8, -6.4, 0.65, 0.7) + 0.25 * b(3.7, -6.2, 0.7, 1.2),
        ),
        15: move(0.10 * corner, -0.85 * b(2.65, -6.6, 1.05, 1.15), -0.10 * corner),
        16: move(0.0, -0.65 * low * b(0.9, -6.9, 1.5, 1.0), 0.12 * low * b(0.8, -7.3, 1.4, 0.7)),
        17: move(
            0.0,
            0.55 * b(0.0, -9.0, 1.9, 1.3)
            + 0.42 * low * b(0.0, -7.0, 1.9, 0.9)
            + 0.30 * top * b(0.0, -6.2, 1.5, 0.8)
            - 0.10 * corner,
            0.22 * b(0.0, -9.3, 1.4, 0.9) + 0.15 * low * b(0.0, -7.3, 1.5, 0.6),
        ),
        18: move(-0.62 * lips * np.abs(x) * front, 0.0, 0.75 * b(0.0, -6.5, 1.7, 1.3)),
        20: move(
            0.72 * wide + 0.1 * corner,
            -0.18 * corner - 0.12 * low * b(1.6, -7.2, 1.6, 0.8),
            -0.30 * corner - 0.10 * b(0.0, -6.5, 2.0, 0.9),
        ),
        22: move(
            -0.22 * lips * np.abs(x) * front,
            0.30 * top * b(0.0, -6.0, 1.6, 0.8) - 0.42 * low * b(0.0, -7.0, 1.6, 0.9),
            0.75 * b(0.0, -6.5, 1.8, 1.4),
        ),
        23: move(-0.07 * lips * np.abs(x) * front, -0.42 * (thin_top + thin_low), -0.04 * lips),
        24: move(
            0.0,
            -0.50 * (thin_top + thin_low),
            -0.16 * b(0.0, -6.5, 2.4, 0.8) + 0.10 * b(0.0, -8.4, 1.6, 0.7),
        ),
        25: move(
            0.0, 0.22 * top * b(0.0, -6.2, 1.9, 0.9) - 0.60 * low * b(0.0, -7.0, 1.9, 1.2), 0.0
        ),
        26: _jaw(0.17),
        27: _jaw(0.32) + move(-0.25 * corner, 0.12 * top * b(0.0, -6.0, 1.9, 0.9)),
        28: move(0.0, -0.72 * (thin_top + thin_low), -0.42 * b(0.0, -6.5, 2.2, 0.75)),
        43: move(0.0, -0.12 * b(3.1, 1.4, 1.7, 0.7)),
    }
    return {au: _smooth_mouth(field) for au, field in out.items()}


@lru_cache(maxsize=1)
def fields() -> list[tuple[slice, Array]]:
    """For every action unit: the span of vertices that move and their displacement [3, n], cm."""
    made = _fields()
    out = []
    for au in ACTION_UNITS:
        flat = quantise(made[au].reshape(3, -1))
        flat[:, np.abs(flat).max(axis=0) < 1e-3] = 0.0
        moved = np.flatnonzero(np.abs(flat).max(axis=0))
        span = slice(int(moved[0]), int(moved[-1]) + 1)
        out.append((span, np.ascontiguousarray(flat[:, span])))
    return out


def lid_closure(au: Array) -> tuple[float, float]:
    """How far the upper lid comes down and the lower up, as parts of the opening, sum <= 0.985."""
    upper = sum(w * float(au[INDEX[k]]) for k, w in _UPPER_LID.items())
    lower = sum(w * float(au[INDEX[k]]) for k, w in _LOWER_LID.items())
    lower = min(lower, 0.6) * max(1.0 - max(upper, 0.0), 0.0) + 0.06 * float(au[INDEX[43]])
    upper = min(upper, 0.985 - max(lower, 0.0))
    return upper, lower


@lru_cache(maxsize=1)
def lid_patches() -> list[tuple[int, Array, Array, Array]]:
    """For each eye: side, vertices [n], how much each follows the upper and the lower lid [n].

    1 is the way from one lid's margin to the other's, per column; the eyeball's rows between the
    margins follow in proportion.
    """
    first, last = head.NAMED["fold"] - 2, head.NAMED["under lid"] + 2
    up, low = head.NAMED["upper lid"], head.NAMED["lower lid"]
    p = sheet()
    out = []
    for side in (-1, 1):
        columns = np.arange(head.EYE_IN + 1, head.EYE_OUT) * side + head.MIDDLE
        index, upper, lower = [], [], []
        for c in columns:
            gap = p[1, up, c] - p[1, low, c]
            for r in range(first, last + 1):
                if r <= up:
                    weight = ((r - first + 0.0) / (up - first)) ** 1.2
                    f, g = weight, 0.0
                elif r >= low:
                    f, g = 0.0, (1.0 - (r - low) / (last + 1 - low)) ** 1.2
                else:
                    t = (p[1, up, c] - p[1, r, c]) / gap
                    f, g = 1.0 - t, t
                index.append(r * head.COLUMNS + c)
                upper.append(-f * gap)
                lower.append(g * gap)
        out.append((side, np.array(index), quantise(np.array(upper)), quantise(np.array(lower))))
    return out
