"""Fields of displacement that make one head differ from another: identity modes and age.

Each field is a table [3, V] in cm: what one standard deviation of a shape mode adds, or what the
full effect of a sign of age does. Apart from the last ones (asymmetries) they are mirror-symmetric.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from facebench.synth import head
from facebench.synth.head import bump
from facebench.synth.numeric import Array, quantise, smooth
from facebench.synth.relief import ridge

#: Names of the shape modes, in the order of the identity vector.
SHAPES = (
    "softness", "width", "length", "depth", "jaw width", "jaw angle", "chin length", "chin width",
    "chin forward", "cheekbones", "cheek fullness", "temples", "forehead height",
    "forehead slope", "brow ridge", "brow height", "nose length", "nose width", "nose height",
    "nose hump", "nose tip", "nose root", "eye size", "eye distance", "eye tilt", "eye depth",
    "mouth width", "mouth height", "upper lip", "lower lip", "lip forward", "neck", "ear size",
    "ear angle", "asymmetry of the jaw", "asymmetry of the nose", "asymmetry of the eyes",
)  # fmt: skip

#: Signs of age; the first is reached before 30, the others grow to the end.
AGES = ("growth", "sagging", "hollows", "eye bags", "lids", "lips", "nose and ears", "neck")


_Field = tuple[Array | float, Array | float, Array | float]


def _frame() -> tuple[Array, ...]:
    rest = head.build().rest
    x, y, z = rest
    ear = np.zeros(x.shape)
    for part in head.build().parts:
        if part.name == "ear":
            ear[part.span] = 1.0
    return x, y, z, np.sign(x), ear


def _shapes() -> dict[str, _Field]:
    x, y, z, side, ear = _frame()
    ax = np.abs(x)
    front = smooth(z, 0.0, 4.0)
    flank = smooth(z, -3.0, 2.5)
    skull = smooth(y, -16.0, -11.5)  # the neck and shoulders stay
    lower = smooth(-y, 1.5, 8.5) * smooth(y, -14.5, -11.5) * smooth(z, -3.5, 1.5)
    chin = smooth(y, -13.4, -11.2)
    upper_lip, lower_lip = smooth(y, -6.9, -6.3), smooth(-y, 6.3, 6.9)
    b = lambda *a: bump(x, y, *a) * front  # noqa: E731
    eye = b(3.1, 0.1, 2.0, 1.25)
    nose = b(0.4, -3.6, 1.5, 1.3)
    return {
        "softness": (  # what tells most women's faces from most men's
            -0.030 * x * lower - 0.03 * x * smooth(-y, 10.5, 13) * (1 - smooth(-y, 15.5, 18))
            - 0.14 * side * bump(x, y, 2.4, -10.6, 1.5, 1.5) * flank
            - 0.10 * side * np.minimum(ax, 1.2) * b(0.8, -3.9, 1.3, 1.15)
            + 0.05 * side * (ax - 3.1) * eye
            - 0.10 * side * bump(z, y, 1.0, -6.6, 2.4, 1.7) * smooth(ax, 3.0, 5.0) * (1 - ear),
            0.10 * y * eye + 0.13 * b(2.9, 2.3, 2.9, 0.95)
            + 0.20 * bump(x, y, 0, -10.8, 3.4, 2.4) * smooth(z, -2, 3)
            + 0.12 * b(0.5, -4.2, 2.0, 1.4)
            + 0.07 * (y + 6.55) * b(0, -6.55, 2.6, 1.2),
            -0.22 * b(2.3, 1.8, 2.4, 0.8) - 0.14 * b(0, -3.0, 1.0, 1.9)
            + 0.12 * b(0, 5.0, 4.0, 2.0) + 0.10 * b(0, -6.55, 2.0, 0.8)
            + 0.14 * b(4.2, -2.6, 1.8, 1.3) - 0.10 * b(0, -10.3, 2.6, 2.0) * chin,
        ),
        "width": (0.044 * x * skull, 0.0, 0.0),
        "length": (0.0, 0.050 * (y + 0.5) * skull * smooth(-y, -2.0, 2.5), 0.0),
        "depth": (0.0, 0.0, 0.030 * (z + 1.0) * skull * smooth(y, -9.0, -3.0)),
        "jaw width": (0.085 * x * lower, 0.0, 0.0),
        "jaw angle": (
            0.22 * side * bump(z, y, 1.0, -6.6, 2.4, 1.7) * smooth(ax, 3.0, 5.0) * (1 - ear),
            -0.50 * bump(z, y, 1.4, -6.9, 2.6, 1.8) * smooth(ax, 3.0, 5.0) * (1 - ear),
            0.0,
        ),
        "chin length": (0.0, -0.50 * bump(x, y, 0, -10.8, 3.4, 2.4) * smooth(z, -2, 3), 0.0),
        "chin width": (
            0.22 * side * bump(x, y, 2.3, -10.2, 1.9, 2.0) * flank,
            -0.10 * b(2.4, -10.6, 1.5, 1.5),
            0.12 * b(2.0, -9.9, 1.4, 1.5),
        ),
        "chin forward": (0.0, 0.0, 0.50 * b(0, -10.3, 2.6, 2.3) * chin),
        "cheekbones": (0.17 * side * b(5.4, -2.0, 2.2, 1.7), 0.0, 0.24 * b(4.4, -2.2, 1.9, 1.3)),
        "cheek fullness": (
            0.30 * side * bump(x, y, 5.2, -5.8, 2.4, 2.8) * flank * (1 - ear),
            0.0,
            0.34 * b(3.9, -5.6, 1.7, 2.1),
        ),
        "temples": (0.24 * side * bump(z, y, 4.0, 3.2, 2.6, 2.4) * smooth(ax, 3.0, 5.5), 0.0, 0.0),
        "forehead height": (0.0, 0.075 * np.maximum(y - 2.6, 0) * (1 - ear), 0.0),
        "forehead slope": (0.0, 0.0, 0.36 * b(0, 6.4, 5.0, 2.4) - 0.08 * b(0, 2.0, 4, 1)),
        "brow ridge": (0.0, -0.06 * b(2.3, 1.8, 2.4, 0.8), 0.27 * b(2.3, 1.8, 2.4, 0.8)),
        "brow height": (0.0, 0.30 * b(2.9, 2.3, 2.9, 0.95), 0.0),
        "nose length": (0.0, -0.36 * b(0.5, -4.1, 2.0, 1.25), 0.05 * nose),
        "nose width": (
            0.30 * side * np.minimum(ax, 1.2) * b(0.8, -3.9, 1.3, 1.15), 0.0, 0.0
        ),
        "nose height": (0.0, 0.0, 0.36 * b(0, -3.3, 1.0, 1.9)),
        "nose hump": (0.0, 0.0, 0.20 * b(0, -1.3, 0.8, 1.0)),
        "nose tip": (0.0, 0.30 * b(0, -4.0, 0.85, 0.8), 0.06 * b(0, -4.0, 0.85, 0.8)),
        "nose root": (0.10 * side * b(0.7, 0.2, 0.6, 1.0), 0.0, 0.20 * b(0, 0.2, 0.9, 1.1)),
        "eye size": (0.11 * side * (ax - 3.1) * eye, 0.16 * y * eye, 0.0),
        "eye distance": (0.19 * side * b(3.1, 0.4, 2.3, 1.9), 0.0, 0.0),
        "eye tilt": (0.0, 0.12 * (ax - 3.1) * b(3.1, 0.5, 2.4, 1.6), 0.0),
        "eye depth": (0.0, 0.0, -0.22 * b(2.9, 0.2, 2.3, 1.5)),
        "mouth width": (0.12 * x * b(0, -6.5, 3.6, 1.7), 0.0, 0.0),
        "mouth height": (0.0, 0.19 * b(0, -6.6, 3.6, 1.9), 0.0),
        "upper lip": (
            0.0,
            0.19 * (y + 6.55) * b(0, -6.2, 2.8, 1.2) * upper_lip,
            0.16 * b(0, -6.2, 2.0, 0.5) * upper_lip,
        ),
        "lower lip": (
            0.0,
            0.18 * (y + 6.55) * b(0, -7.0, 2.6, 1.3) * lower_lip,
            0.16 * b(0, -7.0, 1.9, 0.6) * lower_lip,
        ),
        "lip forward": (0.0, 0.0, 0.30 * b(0, -6.5, 2.3, 1.7)),
        "neck": (0.10 * x * smooth(-y, 10.5, 13) * (1 - smooth(-y, 15.5, 18)), 0.0, 0.0),
        "ear size": (ear * side * 0.10, ear * 0.10 * (y + 1.0), ear * 0.09 * (z + 0.2)),
        "ear angle": (ear * side * 0.17 * np.maximum(-z, 0.0), 0.0, ear * 0.06 * (z + 0.2)),
        "asymmetry of the jaw": (0.13 * bump(x, y, 0, -10, 5, 3.5) * smooth(z, -2, 3), 0.0, 0.0),
        "asymmetry of the nose": (0.09 * b(0, -3.2, 1.2, 2.0), 0.0, 0.0),
        "asymmetry of the eyes": (
            0.0, 0.07 * side * smooth(ax, 0.5, 2.0) * b(3.2, 1.0, 2.4, 2), 0.0
        ),
    }  # fmt: skip


def _ages() -> dict[str, _Field]:
    x, y, z, side, ear = _frame()
    ax = np.abs(x)
    front = smooth(z, 0.0, 4.0)
    b = lambda *a: bump(x, y, *a) * front  # noqa: E731
    fold = ridge(x, y, (2.1, -4.4), (3.25, -6.6), 0.52) * front
    beside = ridge(x, y, (3.2, -4.5), (4.2, -7.4), 1.0) * front
    puppet = ridge(x, y, (3.0, -7.2), (2.9, -9.0), 0.75) * front
    jowl = bump(x, y, 4.0, -9.5, 1.3, 1.2) * smooth(z, -1, 3) * smooth(y, -13.0, -11.0)
    return {
        "growth": (  # what a face of 16 still lacks
            0.10 * x * smooth(-y, 5.0, 9.0) * smooth(y, -14, -11.5) * smooth(z, -3, 1.5) * 0.6
            - 0.20 * side * b(4.8, -5.4, 1.9, 2.0),
            -0.35 * smooth(-y, 4.0, 10.5) * smooth(y, -13.4, -11.2) * smooth(z, -2, 3),
            0.20 * b(0, -3.3, 1.0, 1.7) + 0.16 * b(2.3, 1.8, 2.4, 0.9)
            - 0.22 * b(3.8, -5.2, 1.6, 1.8) + 0.20 * b(0, -10.2, 2.2, 1.8),
        ),
        "sagging": (
            0.50 * side * jowl - 0.22 * side * b(5.0, -4.4, 1.4, 1.6),
            -0.75 * jowl - 0.30 * beside - 0.36 * b(3.8, 2.0, 2.4, 0.9)
            - 0.16 * b(2.9, -6.7, 1.2, 0.9),
            0.38 * jowl + 0.36 * beside - 0.36 * fold - 0.24 * puppet
            - 0.12 * bump(x, y, 2.7, -10.6, 0.5, 0.9) * front,
        ),
        "hollows": (
            -0.34 * side * bump(z, y, 3.9, 2.8, 2.0, 2.0) * smooth(ax, 3.5, 5.5)
            - 0.30 * side * b(5.2, -5.2, 1.6, 1.5),
            0.0,
            -0.30 * b(4.0, -4.9, 1.3, 1.4) - 0.16 * b(2.5, 1.25, 1.6, 0.45),
        ),
        "eye bags": (
            0.0,
            -0.10 * b(3.1, -1.3, 1.5, 0.5),
            0.30 * b(3.0, -1.15, 1.25, 0.34)
            - 0.26 * ridge(x, y, (1.7, -1.1), (3.9, -2.0), 0.42) * front,
        ),
        "lids": (
            0.0,
            -0.30 * b(3.5, 1.15, 1.4, 0.42) - 0.12 * b(4.6, 0.2, 0.7, 0.5),
            0.20 * b(3.6, 1.05, 1.2, 0.36),
        ),
        "lips": (
            0.05 * -x * b(0, -6.6, 2.6, 1.0),
            -0.24 * (y + 6.55) * b(0, -6.55, 2.6, 1.2),
            -0.26 * b(0, -6.55, 2.2, 0.85),
        ),
        "nose and ears": (
            ear * side * 0.12 + 0.10 * side * np.minimum(ax, 1.2) * b(0.8, -3.9, 1.2, 1.0),
            -0.42 * b(0, -4.2, 1.0, 1.1) + ear * (0.13 * (y + 1.0) - 0.12),
            0.14 * b(0, -4.0, 1.0, 1.0),
        ),
        "neck": (
            0.0,
            0.0,
            0.34 * ridge(x, y, (0.75, -12.3), (0.85, -15.5), 0.65)
            * smooth(z, 0.5, 3.0),
        ),
    }  # fmt: skip


def _stack(made: dict[str, _Field], names: tuple[str, ...]) -> Array:
    build = head.build()
    n = build.rest.shape[1]
    out = np.stack([np.stack([np.broadcast_to(t, (n,)) for t in made[k]]) for k in names])
    for part in build.parts:
        if part.name in ("curtain", "bob"):  # hair that hangs follows the head less
            out[:, :, part.span] *= np.array([1.0, 0.6, 0.6])[:, None]
    same = head.joined().reshape(-1)
    for r in range(1, head.ROWS):  # rows that fall together stay together
        span = np.flatnonzero(same[r * head.COLUMNS : (r + 1) * head.COLUMNS]) + r * head.COLUMNS
        out[:, :, span] = out[:, :, span - head.COLUMNS]
    return quantise(out)


@lru_cache(maxsize=1)
def shapes() -> Array:
    """The shape modes, [len(SHAPES), 3, V] cm per standard deviation."""
    return _stack(_shapes(), SHAPES)


@lru_cache(maxsize=1)
def ages() -> Array:
    """The signs of age, [len(AGES), 3, V] cm at their full extent."""
    return _stack(_ages(), AGES)


@lru_cache(maxsize=1)
def _fields() -> tuple[Array, Array, Array, Array]:
    """Per shape mode and sign of age the vertices from the first to the last that it moves.

    Returns:
        the first [K], one past the last [K], where their displacements begin [K], and those of
        all, one after the other, [3, sum].
    """
    starts, stops, kept = [], [], []
    for field in (*shapes(), *ages()):
        moved = np.flatnonzero(np.abs(field).max(axis=0))
        starts.append(int(moved[0]))
        stops.append(int(moved[-1]) + 1)
        kept.append(field[:, starts[-1] : stops[-1]])
    length = np.array(stops) - np.array(starts)
    return np.array(starts), np.array(stops), np.cumsum(length) - length, np.concatenate(kept, 1)


def rest_shape(weights: Array, age: float, wrinkling: float) -> Array:
    """The bare head of an identity at an age, [3, V] cm, without hair on the scalp.

    Args:
        weights: [len(SHAPES)] standard deviations.
        age: years.
        wrinkling: see `extent`.
    """
    from facebench.synth.kernels import accumulate

    rest = head.build().rest.copy()
    levels = np.concatenate([weights, list(extent(age, wrinkling).values())])
    accumulate(rest, levels, *_fields())
    _keep_lips(rest)
    return rest


def _keep_lips(rest: Array) -> None:
    """Holds the red of the lips at 1 to 2 mm at least, in place, whatever the modes add up to."""
    n, grid = head.NAMED, rest[:, : head.SHEET].reshape(3, head.ROWS, head.COLUMNS)
    away = np.abs(np.arange(head.COLUMNS) - head.MIDDLE) * (1.0 / head.MOUTH_OUT)
    least = 0.18 * np.maximum(1.0 - away * away, 0.0)
    for k in range(5):
        share = least * ((5 - k) * 0.2)
        up, low = n["upper lip"] + k, n["lower lip"] - k
        grid[1, up] = np.maximum(grid[1, up], grid[1, n["upper mouth"]] + share)
        grid[1, low] = np.minimum(grid[1, low], grid[1, n["lower mouth"]] - share)


def extent(age: float, wrinkling: float) -> dict[str, float]:
    """How far each sign of age has come at an age in years.

    Args:
        age: years.
        wrinkling: in [0, 1], how early age shows; half of it is the middling person.
    """

    def rise(first: float, last: float) -> float:
        t = min(max((felt - first) / (last - first), 0.0), 1.0)
        return 0.5 * t + 0.5 * t * t * (3.0 - 2.0 * t)

    felt = age + (wrinkling - 0.5) * 0.3 * max(age - 25.0, 0.0)
    young = min(max((27.0 - age) / 11.0, 0.0), 1.0)
    return {
        "growth": -young * young,
        "sagging": rise(30, 88),
        "hollows": 0.9 * rise(42, 92),
        "eye bags": rise(30, 80),
        "lids": rise(34, 88),
        "lips": rise(28, 90),
        "nose and ears": rise(26, 95),
        "neck": rise(45, 88),
    }
