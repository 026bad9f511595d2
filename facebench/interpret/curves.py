"""Insertion and deletion: what hiding pixels by a heat map does to the probability of a class.

Petsiuk, Das and Saenko, *RISE* (BMVC 2018): pixels are taken in the order of the map, the largest
first. ``deletion`` turns them grey, ``insertion`` brings them back into a blurred image; the area
under the probability over the share of pixels is small, or large, where the map finds what the
network uses. It is a statement on the network, no face knows of it; and pictures with grey holes
are unlike all that the network has seen, so read it beside the same areas of the Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

STEPS = 10  # parts that the pixels are taken in
GREY = 128
BLUR = 1 / 8  # standard deviation of the blur, in parts of the crop's side


def orders(maps: np.ndarray, seed: int = 0) -> np.ndarray:
    """The places of each map [n, S, S], largest first, ties by a drawn order: [n, S S]."""
    flat = np.asarray(maps, float).reshape(len(maps), -1)
    shuffled = np.random.default_rng(seed).permutation(flat.shape[1])
    return shuffled[np.argsort(-flat[:, shuffled], axis=1, kind="stable")]


def frames(image: np.ndarray, order: np.ndarray, canvas: np.ndarray) -> np.ndarray:
    """An image whose first pixels stand in the places of a canvas: [STEPS + 1, S, S, 3].

    Frame k shows ``round(k S S / STEPS)`` pixels of `image` in the given order, and else `canvas`.
    """
    pixels, start = image.reshape(-1, 3), canvas.reshape(-1, 3)
    made = np.repeat(start[None], STEPS + 1, axis=0)
    for k in range(1, STEPS + 1):
        shown = order[: round(k * len(pixels) / STEPS)]
        made[k, shown] = pixels[shown]
    return made.reshape(STEPS + 1, *image.shape)


def blurred(image: np.ndarray) -> np.ndarray:
    """A uint8 image without detail."""
    return cv2.GaussianBlur(image, (0, 0), BLUR * len(image), borderType=cv2.BORDER_REPLICATE)


def area(values: np.ndarray) -> np.ndarray:
    """The area under curves [..., STEPS + 1] from 0 to 1, by trapezoids: their mean height."""
    return (values[..., 1:] + values[..., :-1]).mean(-1) / 2


def run(
    images: np.ndarray,
    label: np.ndarray,
    maps: np.ndarray,
    probability: Callable[[np.ndarray], np.ndarray],
) -> dict[str, np.ndarray]:
    """The curves of each image.

    Args:
        images: [n, S, S, 3] uint8.
        label: [n], whose probability is followed.
        maps: [n, S, S].
        probability: of images [m, S, S, 3], [m, C].

    Returns:
        ``insertion`` and ``deletion``, each [n, STEPS + 1]: the probability once k / STEPS of the
        pixels are there, or gone.
    """
    made: dict[str, list[np.ndarray]] = {"insertion": [], "deletion": []}
    for image, c, order in zip(images, label, orders(maps)):
        there = frames(image, order, blurred(image))
        gone = frames(np.full_like(image, GREY), order, image)
        both = probability(np.concatenate([there, gone]))[:, c]
        made["insertion"].append(both[: STEPS + 1])
        made["deletion"].append(both[STEPS + 1 :])
    return {name: np.array(rows) for name, rows in made.items()}
