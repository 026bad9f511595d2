"""Means over faces that were moved onto one another, and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from facebench import schemes
from facebench.interpret import measures

SIDE = 132  # of a cell of a sheet, in pixels
INK, PAPER, LINE = (40, 40, 40), (250, 250, 250), (255, 255, 255)

# Which points of the 68 are drawn as lines, and whether the line is closed.
_REGIONS = schemes.SCHEMES[68].regions
_STROKES = (
    *((_REGIONS[name], False) for name in ("jaw", "left_brow", "right_brow")),
    (tuple(range(27, 31)), False),
    (tuple(range(31, 36)), False),
    *((_REGIONS[name], True) for name in ("left_eye", "right_eye")),
    (tuple(range(48, 60)), True),
    (tuple(range(60, 68)), True),
)


def onto(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity (turn, scale, shift) that best moves points [n, K, 2] to [K, 2]: [n, 2, 3].

    Least squares in closed form: as complex numbers ``a z + b``.
    """
    z, m = (p[..., 0] + 1j * p[..., 1] for p in (points, target))
    zc, mc = z - z.mean(-1, keepdims=True), m - m.mean()
    a = (zc.conj() * mc).sum(-1) / (abs(zc) ** 2).sum(-1)
    b = m.mean() - a * z.mean(-1)
    return np.stack(
        [np.stack([a.real, -a.imag, b.real], -1), np.stack([a.imag, a.real, b.imag], -1)], -2
    )


class Aligned:
    """Faces on their mean shape.

    Args:
        points: [n, 68, 2] pixels of the crop; None leaves the crops where they are.
        n: images.
        size: side of the crop.

    Attributes:
        shape: [68, 2], the mean of the points in the crops; None without any.
    """

    def __init__(self, points: np.ndarray | None, n: int, size: int):
        self.size = size
        self.shape = None if points is None else points.mean(0)
        identity = np.repeat(np.eye(2, 3)[None], n, axis=0)
        self._moves = identity if points is None else onto(points, points.mean(0))

    def mean(self, images: np.ndarray, chosen: np.ndarray) -> np.ndarray | None:
        """The mean of some images or maps [n, S, S, ...] on the mean shape; None of nothing.

        What lies outside of a moved crop repeats its edge, as the crop itself does.
        """
        if not (rows := np.flatnonzero(chosen)).size:
            return None
        total = np.zeros((self.size, self.size, *images.shape[3:]))
        for i in rows:
            total += cv2.warpAffine(
                images[i].astype(np.float32),
                self._moves[i],
                (self.size, self.size),
                borderMode=cv2.BORDER_REPLICATE,
            )
        return total / len(rows)


def class_means(
    aligned: Aligned, maps: np.ndarray, label: np.ndarray, classes: int
) -> list[np.ndarray | None]:
    """The mean map of each class, every image counting alike; None where nothing is defined.

    Args:
        aligned: the faces.
        maps: [n, S, S], not negative.
        label: [n].
        classes: how many.
    """
    total = maps.mean((1, 2), keepdims=True)
    scaled, fine = maps / np.where(total > 0, total, 1), ~measures.constant(maps)
    return [aligned.mean(scaled, (label == c) & fine) for c in range(classes)]


def stretched(faces: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    """Mean faces [S, S, 3] in grey, all with the contrast that lets 99 % of it fill 0 to 255."""
    grey = [None if face is None else face.mean(-1) for face in faces]
    there = [face for face in grey if face is not None]
    if not there:
        return grey
    low, high = np.percentile(there, (0.5, 99.5))
    scale = 255 / max(high - low, 1)
    return [None if face is None else (face - low) * scale for face in grey]


# -- sheets ---------------------------------------------------------------------------------------


def _write(image: np.ndarray, text: str, x: int, y: int, scale: float = 0.42) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(image, text, (x, y), font, scale, INK, 1, cv2.LINE_AA)


def _drawn(shape: np.ndarray | None, size: int) -> np.ndarray:
    """The outline of a face in a cell, where no picture of one may be shown."""
    cell = np.full((SIDE, SIDE, 3), 215, np.uint8)
    if shape is not None:
        at = np.rint((shape + 0.5) * (SIDE / size) * 16 - 8).astype(np.int32)
        for points, closed in _STROKES:
            cv2.polylines(cell, [at[list(points)]], closed, (70, 70, 70), 1, cv2.LINE_AA, 4)
    return cell


def cell(
    heat: np.ndarray | None,
    face: np.ndarray | None,
    shape: np.ndarray | None,
    expert: np.ndarray | None,
    size: int,
) -> np.ndarray:
    """A heat map over a face: [SIDE, SIDE, 3] uint8.

    Args:
        heat: [S, S]; stretched to its own minimum and maximum. None: only what is below it.
        face: [S, S] grey to show below, 0 to 255; None draws an outline.
        shape: [68, 2] of the face.
        expert: [S, S] bool, whose border is drawn in white.
        size: S.
    """
    if face is None:
        below = _drawn(shape, size)
    else:
        grey = np.rint(face).clip(0, 255).astype(np.uint8)
        grey = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        below = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    made = below
    if heat is not None:
        value = measures.min_max(heat[None])[0].astype(np.float32)
        value = cv2.resize(value, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).clip(0, 1)
        levels = np.rint(value * 255).astype(np.uint8)
        colour = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
        share = (0.25 + 0.5 * value)[..., None]
        made = np.rint(below * (1 - share) + colour * share).astype(np.uint8)
    if expert is not None and expert.any():
        big = cv2.resize(expert.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        borders, _ = cv2.findContours(big, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        made = np.ascontiguousarray(made)
        cv2.drawContours(made, borders, -1, LINE, 1, cv2.LINE_AA)
    return made


def sheet(
    title: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    note: str = "",
) -> np.ndarray:
    """Cells in a table with names: [H, W, 3] uint8.

    Args:
        title: stands at the top.
        columns: names.
        rows: name and cells of each.
        note: stands below the title.
    """
    widest = max(cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0] for name, _ in rows)
    gap, left, top = 5, widest + 22, 78
    width = left + len(columns) * (SIDE + gap) + gap
    words = [(title, 0.56), (note, 0.4)]
    needed = max(
        cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] for text, scale in words
    )
    made = np.full((top + len(rows) * (SIDE + gap), max(width, needed + 24), 3), PAPER, np.uint8)
    _write(made, title, 10, 24, 0.56)
    _write(made, note, 10, 46, 0.4)
    for j, name in enumerate(columns):
        wide = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0]
        _write(made, name, left + j * (SIDE + gap) + (SIDE - wide) // 2, top - 8)
    for i, (name, cells) in enumerate(rows):
        y = top + i * (SIDE + gap)
        _write(made, name, 10, y + SIDE // 2 + 4)
        for j, one in enumerate(cells):
            x = left + j * (SIDE + gap)
            made[y : y + SIDE, x : x + SIDE] = one
    return made
