"""Alignment of a face by five points: the crop that recognition networks are trained on.

Points are (x, y) in pixels, pixel centres at whole numbers, in the order: eye on the image's
left, eye on its right, nose, mouth corner on its left, mouth corner on its right. Template and
rule of sizes: insightface (``python-package/insightface/utils/face_align.py``).
"""

from __future__ import annotations

import cv2
import numpy as np

from facebench.errors import FacebenchError, UsageError

#: Where the five points stand in a crop of 112 x 112 pixels, float64 [5, 2].
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
TEMPLATE.setflags(write=False)


def template(size: int = 112) -> np.ndarray:
    """Where the five points stand in a square crop.

    Multiples of 112 px scale the template. Multiples of 128 px scale that of 112 px by size / 128
    and shift it by 8 px of the 128 to the right, not down.

    Returns:
        float64 [5, 2].

    Raises:
        UsageError: another size.
    """
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        if size % 112 == 0:
            return TEMPLATE * (size / 112)
        if size % 128 == 0:
            return np.add(TEMPLATE, (8.0, 0.0)) * (size / 128)
    raise UsageError(
        f"a crop by five points is a multiple of 112 or 128 pixels wide, found {size!r}"
    )


def five_points(points: np.ndarray) -> np.ndarray:
    """The five points of a face with the 68 of 300-W.

    An eye is the middle of its two corners, not of its six points.

    Args:
        points: [..., 68, 2].

    Returns:
        float64 [..., 5, 2].
    """
    points = np.asarray(points, np.float64)
    if points.shape[-2:] != (68, 2):
        raise FacebenchError(f"five points are made of 68, found an array of {points.shape}")
    first = points[..., [36, 42, 30, 48, 54], :]
    return (first + points[..., [39, 45, 30, 48, 54], :]) / 2


def similarity(points: np.ndarray, size: int = 112) -> np.ndarray:
    """The similarity (turn, scale, shift; no mirror) that brings five points next to the template.

    Least squares (Umeyama 1991, without reflections). In the plane, with points as complex
    numbers about their means, ``w = a z`` has the solution ``a = sum(conj(z) w) / sum(|z|^2)``.

    Args:
        points: [5, 2], pixels.
        size: of the crop, see `template`.

    Returns:
        float64 [2, 3], from image to crop.

    Raises:
        UsageError: another size.
        FacebenchError: not five finite points, points in one place, or points that no turn
            brings nearer to the template.
    """
    source, target = np.asarray(points, np.float64), template(size)
    if source.shape != (5, 2) or not np.isfinite(source).all():
        raise FacebenchError(f"a face is aligned by five finite points, found {source.tolist()}")
    z, w = source @ [1, 1j], target @ [1, 1j]
    centre, middle = z.mean(), w.mean()
    z, w = z - centre, w - middle
    spread = float((abs(z) ** 2).sum())
    if spread <= 1e-12 * max(1.0, abs(centre) ** 2):
        raise FacebenchError(f"five points in one place give no alignment, found {source.tolist()}")
    a = (np.conj(z) * w).sum() / spread
    if not np.isfinite(a) or abs(a) ** 2 * spread <= 1e-6 * (abs(w) ** 2).sum():
        raise FacebenchError(
            f"the five points {source.tolist()} do not lie like those of a face: no turn brings "
            "them nearer to the template"
        )
    shift = middle - a * centre
    return np.array([[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]])


def warp(image: np.ndarray, points: np.ndarray, size: int = 112) -> np.ndarray:
    """The crop that recognition networks are trained on: bilinear, black outside of the image.

    Args:
        image: uint8 [H, W, 3] or [H, W].
        points: [5, 2], pixels of the image.
        size: of the crop, see `template`.

    Returns:
        uint8 [size, size, 3] or [size, size].

    Raises:
        As `similarity`.
    """
    return cv2.warpAffine(image, similarity(points, size), (size, size), borderValue=0)
