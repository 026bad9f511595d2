"""Where action units show on a face: maps of filled ellipses, drawn from 68 landmarks.

An expression is a set of action units (a codebook), and a unit has one or two ellipses whose places
and sizes follow from the landmarks; so a label and 68 points say where the evidence for the label
is. The rule is that of Belharbi et al., "Guided interpretable facial expression recognition via
spatial action unit cues", FG 2024, as its published code draws it, with what follows repaired:

* Its sizes are pixels of a crop of 256 (``20 px``), or parts of the crop. Here they are parts of
  the face: 256 px are F = 1.25 sqrt(w h), of the tight box w x h of the points; a face whose points
  span four fifths of its crop has F equal to the crop's side.
* Its ellipses are level. Here they turn with the line between the eyes.
* AU 4 lies between the brows 19 and 24 with half their level distance as its height, which is
  nothing on a level face; here the height is what it falls back to, 10 px, at least.
* AU 17 lies between the chin and the left end of the lower lip, point 59; here below all of it.
* The right eye's height is between points that do not mirror the left eye's.
* AU 20 has the point 50, of the upper lip, where its other side has the corner of the mouth; 54.
* ``disgust`` has AU 5, the upper lid raiser, where its figure says 10, the upper lip raiser.

``variant="paper"`` draws the ellipses as published (in parts of the crop: 256 px are its side), and
codebook ``paper_code`` has the published sets. The published maps are softened by a blur; here a
cell holds the share of its area that is inside of an ellipse, so that coarse and fine maps agree.

Everything is a pure function of arrays, for NumPy and, with ``xp=jax.numpy``, under ``jit``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from facebench import schemes
from facebench.errors import UsageError, nearest

#: The action units that have ellipses, by FACS number.
AUS: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 20, 23, 24, 25, 26, 27, 43)

VARIANTS = ("corrected", "paper")

_GUIDED = {
    "neutral": (),
    "happy": (6, 12, 25),
    "sad": (1, 4, 6, 15, 17),
    "surprise": (1, 2, 5, 26, 27),
    "fear": (1, 2, 4, 5, 20, 25, 26, 27),
    "disgust": (9, 10, 16, 17, 25, 26),
    "anger": (4, 5, 7, 10, 17, 23, 24, 25, 26),
    "contempt": (12, 14),
}

#: Codebook -> expression of `schemes.EXPRESSIONS` -> FACS numbers. ``corrected``: the figure of
#: Belharbi et al., with EMFACS's contempt, which they leave out; ``paper_code``: the sets of their
#: code; ``emfacs``: the prototypes that EMFACS lists (of contempt, both sides of the face).
CODEBOOKS: Mapping[str, Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "corrected": MappingProxyType(_GUIDED),
        "paper_code": MappingProxyType(
            {**_GUIDED, "disgust": (5, 9, 16, 17, 25, 26), "contempt": ()}
        ),
        "emfacs": MappingProxyType(
            {
                "neutral": (),
                "happy": (6, 12),
                "sad": (1, 4, 15),
                "surprise": (1, 2, 5, 26),
                "fear": (1, 2, 4, 5, 20, 26),
                "disgust": (9, 15, 16),
                "anger": (4, 5, 7, 23),
                "contempt": (12, 14),
            }
        ),
    }
)

_SAMPLES = 48  # points per side, at least, at which the maps look whether they are inside


def codes(codebook: str, names: Sequence[str] = schemes.EXPRESSIONS) -> tuple[tuple[int, ...], ...]:
    """The action units of each class.

    Args:
        codebook: a name of `CODEBOOKS`.
        names: of the classes, all of them of `schemes.EXPRESSIONS`.

    Raises:
        UsageError: an unknown codebook or class; the nearest names are given.
    """
    if codebook not in CODEBOOKS:
        raise UsageError(f"no codebook is named {codebook!r}: {nearest(codebook, CODEBOOKS)}")
    sets = CODEBOOKS[codebook]
    for name in names:
        if name not in sets:
            raise UsageError(
                f"codebook {codebook!r} has no class {name!r}: {nearest(str(name), sets)}"
            )
    return tuple(sets[name] for name in names)


def valid(points: Any, xp: Any = np) -> Any:
    """Which faces [...] can be drawn: all numbers finite, two eyes apart, a box with an area.

    Args:
        points: [..., 68, 2].
        xp: numpy or jax.numpy.
    """
    return _frame(points, xp)[2]


def ellipses(
    points: Any, size: float, au: Sequence[int], xp: Any = np, variant: str = "corrected"
) -> tuple[Any, Any]:
    """The ellipses of some action units.

    Args:
        points: [..., 68, 2], (x, y) in pixels of the crop.
        size: S, the crop's side in pixels (read by variant ``paper`` alone).
        au: FACS numbers, all of them of `AUS`.
        xp: numpy or jax.numpy.
        variant: ``corrected`` or ``paper``, see the module's text.

    Returns:
        [..., A, 2, 4]: of each of the two ellipses of a unit (the same twice, where it has one)
        the centre and the two semi-axes, (x, y, a, b), all along the axes of the second result;
        and [..., 2], the direction of the first of these axes. All of it means nothing where the
        points are not `valid`.

    Raises:
        UsageError: a unit that has no ellipse, an unknown variant.
    """
    if variant not in VARIANTS:
        raise UsageError(f"no variant is named {variant!r}: {nearest(variant, VARIANTS)}")
    for number in au:
        if number not in AUS:
            raise UsageError(f"no ellipse is known for AU {number}; those known: {AUS}")
    axis, unit, _ = _frame(points, xp)
    paper = variant == "paper"
    if paper:  # its whole pixels are left out: a length below one of them counts as none
        axis = xp.stack([xp.ones_like(unit), xp.zeros_like(unit)], -1)
        unit = xp.full_like(unit, size)
    across = xp.stack([-axis[..., 1], axis[..., 0]], -1)
    known = xp.where(xp.isfinite(points), points, 0)
    px = unit[..., None, None] / 256
    table = [(_PAPER if paper else _ELLIPSES)[number] for number in au]
    twice = [(drawn[0], drawn[-1]) for drawn in table]

    def column(name: str) -> np.ndarray:  # [A, 2, 2]
        return np.array([[getattr(e, name) for e in drawn] for drawn in twice])

    made = []
    for k, (place, extent, along) in enumerate((("x", "wide", axis), ("y", "high", across))):
        t = (known * along[..., None, :]).sum(-1)
        where, span = t[..., column(place)], t[..., column(extent)]
        half = (span[..., 1] - span[..., 0]) / 2
        if k:
            half = half + px * xp.asarray(column("more"), t.dtype)
        least = px * xp.asarray(column("least")[..., k], t.dtype)
        half = xp.where(half < px, least, half) if paper else xp.maximum(half, least)
        made += [where.mean(-1) + px * xp.asarray(column("shift")[..., k], t.dtype), half]
    x, a, y, b = made
    return xp.stack([x, y, a, b], -1), axis


def maps(
    points: Any,
    size: float,
    grid: int,
    au: Sequence[int],
    xp: Any = np,
    variant: str = "corrected",
) -> Any:
    """Where action units show.

    Args:
        points: [..., 68, 2], (x, y) in pixels of the crop, the centre of its top-left pixel being
            (0, 0).
        size: S, the crop's side in pixels.
        grid: g, cells on a side of the maps; cell (i, j) covers rows i S/g - 1/2 to
            (i + 1) S/g - 1/2 of the crop, and so the columns.
        au: FACS numbers, all of them of `AUS`.
        xp: numpy or jax.numpy.
        variant: see `ellipses`.

    Returns:
        [..., A, g, g]: the share of the cell, in [0, 1], that is inside one of the unit's ellipses.
        Zeros where a unit is outside of the crop, and everywhere where the points are not `valid`.

    Raises:
        UsageError: see `ellipses`.
    """
    drawn, axis = ellipses(points, size, au, xp, variant)
    good = valid(points, xp)[..., None, None]
    parts = max(2, -(-_SAMPLES // grid))
    place = (np.arange(grid * parts) + 0.5) * (size / (grid * parts)) - 0.5
    place = xp.asarray(place, drawn.dtype)
    cos, sin = axis[..., 0, None, None], axis[..., 1, None, None]
    x = cos * place[None, :] + sin * place[:, None]  # of the samples, along the face's axes
    y = cos * place[:, None] - sin * place[None, :]
    x, y = x[..., None, :, :], y[..., None, :, :]
    made = []
    step = 1 if xp is np else max(1, len(au))  # NumPy would hold all of them at once
    for first in range(0, len(au), step):
        e = xp.moveaxis(drawn[..., first : first + step, :, :], (-2, -1), (0, 1))[..., None, None]
        one, two = (((x - k[0]) / k[2]) ** 2 + ((y - k[1]) / k[3]) ** 2 <= 1 for k in e)
        inside = (one | two) & good[..., None, :, :]
        cells = inside.reshape(*inside.shape[:-2], grid, parts, grid, parts)
        made.append(cells.astype(drawn.dtype).mean((-3, -1)))
    return xp.concatenate(made, -3)


def expression_map(
    points: Any,
    size: float,
    grid: int,
    codebook: str = "corrected",
    xp: Any = np,
    names: Sequence[str] = schemes.EXPRESSIONS,
    variant: str = "corrected",
) -> Any:
    """Where each class shows: the maximum over its action units, scaled to a maximum of 1.

    Args:
        points: [..., 68, 2], see `maps`.
        size: see `maps`.
        grid: see `maps`.
        codebook: a name of `CODEBOOKS`.
        xp: numpy or jax.numpy.
        names: of the classes, in their order.
        variant: see `ellipses`.

    Returns:
        [..., C, g, g] in [0, 1]; zeros for a class without units (neutral), without one inside of
        the crop, and where the points are not `valid`.

    Raises:
        UsageError: an unknown codebook, class or variant.
    """
    sets = codes(codebook, names)
    union = sorted({number for chosen in sets for number in chosen})
    if not union:
        return xp.zeros((*points.shape[:-2], len(sets), grid, grid), points.dtype)
    each = maps(points, size, grid, union, xp, variant)
    blank = xp.zeros_like(each[..., 0, :, :])
    made = []
    for chosen in sets:
        columns = [union.index(number) for number in chosen]
        made.append(
            xp.stack([each[..., k, :, :] for k in columns], -3).max(-3) if columns else blank
        )
    drawn = xp.stack(made, -3)
    most = drawn.max((-2, -1), keepdims=True)
    return drawn / xp.where(most > 0, most, 1)


# -- from points to ellipses -----------------------------------------------------------------------


def _frame(points: Any, xp: Any) -> tuple[Any, Any, Any]:
    """The direction [..., 2] from the left to the right eye, F [...], and whether there are both.

    Where there are not, the direction is level and F is 1.
    """
    finite = xp.isfinite(points).all((-2, -1))
    known = xp.where(finite[..., None, None], points, 0)
    apart = known[..., 42:48, :].mean(-2) - known[..., 36:42, :].mean(-2)
    length = xp.sqrt((apart * apart).sum(-1))
    good = finite & (length > 0)
    axis = xp.where(good[..., None], apart, xp.asarray([1.0, 0.0], apart.dtype))
    axis = axis / xp.where(good, length, 1)[..., None]
    across = xp.stack([-axis[..., 1], axis[..., 0]], -1)
    x = (known * axis[..., None, :]).sum(-1)
    y = (known * across[..., None, :]).sum(-1)
    area = (x.max(-1) - x.min(-1)) * (y.max(-1) - y.min(-1))
    good = good & (area > 0)
    return axis, 1.25 * xp.sqrt(xp.where(good, area, 0.64)), good


class _Ellipse(NamedTuple):
    """One ellipse, along the face's axes; lengths are pixels of which F has 256.

    Attributes:
        x: two points; the centre is in the middle of their x.
        y: two points, for its y.
        wide: two points; half of what the second is right of the first is the first semi-axis.
        high: two points, for the second one, downwards.
        shift: added to the centre.
        more: added to the second semi-axis.
        least: the semi-axes where the points give none, or less.
    """

    x: tuple[int, int]
    y: tuple[int, int]
    wide: tuple[int, int] = (0, 0)
    high: tuple[int, int] = (0, 0)
    shift: tuple[float, float] = (0, 0)
    more: float = 0
    least: tuple[float, float] = (20, 20)


def _at(point: int, y: int | None = None, **kwargs: Any) -> _Ellipse:
    y = point if y is None else y
    return _Ellipse((point, point), (y, y), **kwargs)


def _within(left: int, right: int, top: int, bottom: int, more: float = 0) -> _Ellipse:
    wide, high = (left, right), (top, bottom)
    return _Ellipse(wide, high, wide, high, more=more, least=(5, 5))


_BROW, _CHEEK, _BELOW = (256 / 8, 256 / 10), (256 / 10, 256 / 10), (0, 256 / 6)
_EYE, _MOUTH = _within(36, 39, 38, 41), _within(48, 54, 51, 57)
_FROWN = _Ellipse((19, 24), (19, 24), wide=(19, 24), least=(10, 10))
_CHIN = _Ellipse((57, 8), (57, 8), wide=(59, 55), high=(57, 8), least=(5, 5))

_ELLIPSES: dict[int, tuple[_Ellipse, ...]] = {
    1: (_at(20, least=_BROW), _at(23, least=_BROW)),
    2: (_at(18, least=_BROW), _at(25, least=_BROW)),
    4: (_FROWN,),
    5: (_EYE, _within(42, 45, 43, 46)),
    6: (_at(41, shift=_BELOW, least=_CHEEK), _at(46, shift=_BELOW, least=_CHEEK)),
    7: (_EYE._replace(more=10), _within(42, 45, 43, 46, more=10)),
    9: (_at(31, 29), _at(35, 29)),
    10: (_at(48, 50), _at(54, 52)),
    12: (_at(48), _at(54)),
    14: (_at(48, shift=(-20, 0)), _at(54, shift=(20, 0))),
    15: (_at(48), _at(54)),
    16: (_at(59), _at(55)),
    17: (_CHIN,),
    20: (_Ellipse((48, 6), (48, 6)), _Ellipse((54, 10), (54, 10))),
    23: (_MOUTH,),
    24: (_MOUTH,),
    25: (_at(51, least=(25, 10)), _at(57, least=(25, 10))),
    26: (_MOUTH,),
    27: (_MOUTH,),
}
_ELLIPSES[43] = _ELLIPSES[7]

_PAPER = _ELLIPSES | {
    4: (_FROWN._replace(high=(19, 24)),),
    5: (_EYE, _within(42, 45, 44, 47)),
    7: (_EYE._replace(more=10), _within(42, 45, 44, 47, more=10)),
    17: (_within(59, 8, 59, 8),),
    20: (_Ellipse((48, 6), (48, 6)), _Ellipse((50, 10), (50, 10))),
}
_PAPER[43] = _PAPER[7]
