"""How a heat map compares with a mask; NumPy, float64, one number per image, NaN where undefined.

Maps are [n, g, g]. A map that is constant says nothing of any place: it has no cosine, no threshold
and no maximum, and is undefined in all measures. So is an image whose mask is empty.
"""

from __future__ import annotations

import numpy as np

#: A map is constant where its values span less than this part of the largest absolute one.
FLAT = 1e-6

#: How cells of a coarse map lie on the crop: they tile it, as patches do; each row and column
#: stands at the middle of what it sees (`maps.Programs.field`); or the middles of the corner cells
#: lie in the corners of the crop (``align_corners`` of PyTorch).
PLACEMENTS = ("cells", "field", "corners")

Centres = tuple[np.ndarray, np.ndarray]  # of rows and of columns, in pixels of the crop


def centres(grid: tuple[int, int], size: int, placement: str = "cells") -> Centres:
    """Where the rows and columns of a map stand on a crop, by ``cells`` or ``corners``."""
    if placement == "corners":
        rows, columns = (np.arange(n) * ((size - 1) / max(n - 1, 1)) for n in grid)
    else:
        rows, columns = ((np.arange(n) + 0.5) * (size / n) - 0.5 for n in grid)
    return rows, columns


def _weights(at: np.ndarray, size: int) -> np.ndarray:
    """Linear interpolation from ascending places to 0 .. size - 1, as a matrix [size, cells]."""
    one = np.eye(len(at))
    return np.stack([np.interp(np.arange(size), at, row) for row in one], axis=1)


def resample(maps: np.ndarray, size: int, at: Centres | None = None) -> np.ndarray:
    """Bilinear interpolation of maps [n, h, w] to [n, size, size]; beyond the last cells constant.

    Args:
        maps: as computed.
        size: the crop's side.
        at: see `centres`; None for ``cells``.
    """
    grid = (maps.shape[1], maps.shape[2])
    rows, columns = (_weights(place, size) for place in at or centres(grid, size))
    return np.einsum("yi,nij,xj->nyx", rows, np.asarray(maps, float), columns, optimize=True)


def constant(maps: np.ndarray) -> np.ndarray:
    """Which maps [n, ...] are constant, or not finite: bool [n]."""
    flat = np.asarray(maps, float).reshape(len(maps), -1)
    with np.errstate(invalid="ignore"):
        span, most = np.ptp(flat, axis=1), np.abs(flat).max(axis=1)
    return ~(span > FLAT * most) | ~np.isfinite(span)


def positive(maps: np.ndarray) -> np.ndarray:
    """Values below 0 become 0: what speaks against the class is left out."""
    return np.maximum(maps, 0)


def shifted(maps: np.ndarray) -> np.ndarray:
    """Each map less its minimum, where that is negative."""
    return maps - np.minimum(maps.min((1, 2), keepdims=True), 0)


def min_max(maps: np.ndarray) -> np.ndarray:
    """Each map stretched to [0, 1]; zeros where it is constant."""
    low = maps.min((1, 2), keepdims=True)
    span = maps.max((1, 2), keepdims=True) - low
    return (maps - low) / np.where(span > 0, span, 1)


def _either(*maps: np.ndarray) -> np.ndarray:
    """The images [n] of which nothing can be said."""
    return np.logical_or.reduce([constant(m) for m in maps])


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``<a, b> / (|a| |b|)`` of each pair of maps; NaN where one is constant."""
    undefined = _either(a, b)
    x, y = (np.asarray(m, float).reshape(len(m), -1) for m in (a, b))
    below = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.where(undefined, np.nan, (x * y).sum(1) / np.where(undefined, 1, below))


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The correlation over the places of each pair of maps (their normalised cross-correlation)."""
    x, y = (np.asarray(m, float) for m in (a, b))
    found = cosine(x - x.mean((1, 2), keepdims=True), y - y.mean((1, 2), keepdims=True))
    return np.where(_either(a, b), np.nan, found)


def otsu(maps: np.ndarray) -> np.ndarray:
    """Otsu's mask of each map: the split of its values with the largest variance between parts.

    Every split between two different values is tried, there are no bins (Otsu, IEEE SMC 1979).

    Returns:
        bool [n, g, g]: above the threshold; nothing of a constant map.
    """
    flat = np.asarray(maps, float).reshape(len(maps), -1)
    values = np.sort(flat, axis=1)
    n = values.shape[1]
    below = np.arange(1, n)
    sums = np.cumsum(values - values[:, :1], axis=1)
    left = sums[:, :-1] / below
    right = (sums[:, -1:] - sums[:, :-1]) / (n - below)
    between = below * (n - below) * (right - left) ** 2
    between = np.where(values[:, 1:] > values[:, :-1], between, -1)
    threshold = np.take_along_axis(values, between.argmax(axis=1)[:, None], axis=1)
    mask = (flat > threshold) & ~constant(maps)[:, None]
    return mask.reshape(maps.shape)


def top(maps: np.ndarray, share: float) -> np.ndarray:
    """The mask of the largest values, `share` of the places.

    More where values tie, fewer where they tie with the smallest: what a map says nothing of is no
    part of its mask.
    """
    flat = np.asarray(maps, float).reshape(len(maps), -1)
    k = max(1, round(share * flat.shape[1]))
    threshold = np.partition(flat, -k, axis=1)[:, -k]
    mask = (flat >= threshold[:, None]) & (flat > flat.min(axis=1, keepdims=True))
    return (mask & ~constant(maps)[:, None]).reshape(maps.shape)


def overlap(found: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """``iou``, ``precision`` and ``recall`` of masks [n, g, g]; NaN where one is empty."""
    both, a, b = ((m.reshape(len(m), -1)).sum(1).astype(float) for m in (found & mask, found, mask))
    undefined = (a == 0) | (b == 0)
    one = np.where(undefined, 1, 0)
    return {
        name: np.where(undefined, np.nan, both / (below + one))
        for name, below in (("iou", a + b - both), ("precision", a), ("recall", b))
    }


def pointing(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Whether the maximum lies in the mask: the share of equal maxima that do."""
    flat = np.asarray(maps, float).reshape(len(maps), -1)
    inside = mask.reshape(len(mask), -1)
    best = flat == flat.max(axis=1, keepdims=True)
    undefined = constant(maps) | ~inside.any(axis=1)
    hits = (best & inside).sum(1) / np.maximum(best.sum(1), 1)
    return np.where(undefined, np.nan, hits)


def energy(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """How much of the positive part of a map lies in the mask; the mask's area is chance."""
    kept = positive(np.asarray(maps, float))
    total = kept.sum((1, 2))
    undefined = constant(maps) | (total <= 0) | ~mask.any((1, 2))
    return np.where(undefined, np.nan, (kept * mask).sum((1, 2)) / np.where(undefined, 1, total))


def gaussian(centre: np.ndarray, sigma: np.ndarray, size: int, grid: int) -> np.ndarray:
    """A round Gaussian per image: [n, g, g].

    Args:
        centre: [n, 2], (x, y) in pixels of the crop.
        sigma: [n], pixels.
        size: the crop's side in pixels.
        grid: cells on a side of the result.
    """
    at = (np.arange(grid) + 0.5) * (size / grid) - 0.5
    far = (at[None, None, :] - centre[:, 0, None, None]) ** 2
    far = far + (at[None, :, None] - centre[:, 1, None, None]) ** 2
    return np.exp(-far / (2 * np.asarray(sigma)[:, None, None] ** 2))


def of_class(values: np.ndarray, label: np.ndarray, classes: int) -> list[float | None]:
    """The mean of the defined values of each class; None for one without any."""
    means: list[float | None] = []
    for c in range(classes):
        mine = values[(label == c) & np.isfinite(values)]
        means.append(float(mine.mean()) if len(mine) else None)
    return means


def macro(means: list[float | None]) -> float | None:
    """The mean over the classes that have a value."""
    there = [m for m in means if m is not None]
    return sum(there) / len(there) if there else None


def others_mean(maps: np.ndarray, label: np.ndarray) -> np.ndarray:
    """For each image the mean map of the other images of its class, each scaled to a mean of 1.

    What is known of an image by its class alone. A class of one image has zeros.

    Args:
        maps: [n, h, w], not negative.
        label: [n].
    """
    total = np.asarray(maps, float).mean((1, 2), keepdims=True)
    scaled = maps / np.where(total > 0, total, 1)
    made = np.zeros_like(scaled)
    for c in np.unique(label):
        mine = label == c
        if (n := mine.sum()) > 1:
            made[mine] = (scaled[mine].sum(0) - scaled[mine]) / (n - 1)
    return made
