"""What the builders of recognition sets share: reading images of a release, naming its samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facebench import files
from facebench.data import align, transforms
from facebench.errors import FacebenchError

IMAGE = 64 << 20  # bytes that an encoded image may have
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def pseudonym(name: str) -> str:
    """A stable name that shows no person's: the first 16 digits of a SHA-256.

    Keys and units stand in manifests and messages; folders of faces are named after people. Whoever
    has the release finds the name again, so it hides nothing from them.
    """
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def encoded(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        FacebenchError: missing, unreadable, larger than an image is.
    """
    return files.read_bytes(path, IMAGE)


def decoded(data: bytes, where: object) -> np.ndarray:
    """The pixels of an encoded image, uint8 [H, W, 3] RGB.

    Raises:
        FacebenchError: no image; `where` names it.
    """
    try:
        return transforms.decode(data)
    except ValueError as error:
        raise FacebenchError(f"{where}: {error}; get that file of the release again") from error


def aligned(path: Path, points: np.ndarray, where: object, size: int = 112) -> bytes:
    """The crop by five points as PNG.

    Args:
        path: the image.
        points: [5, 2], pixels.
        where: what an error message calls the points, such as their file and line.
        size: of the crop, see `align.template`.

    Raises:
        FacebenchError: the image is missing or damaged, or the points give no crop.
    """
    image = decoded(encoded(path), path)
    try:
        crop = align.warp(image, points, size)
    except FacebenchError as error:
        raise FacebenchError(f"{where}: {error}") from error
    return cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[1].tobytes()


def paired(
    prefix: str, images: Sequence[bytes], same: np.ndarray, where: object, size: int
) -> Iterator[dict[str, Any]]:
    """The samples of a verification set that is a sequence of pairs without names.

    The two images of a matching pair are one unit; every other image is its own, since the set does
    not say whom it shows.

    Args:
        prefix: of keys and units.
        images: encoded, [2 m]; pair i are 2 i and 2 i + 1.
        same: bool [m].
        where: what an error message calls the set.
        size: that every image has.

    Raises:
        FacebenchError: an image is damaged or of another size.
    """
    for i, data in enumerate(images):
        shape = decoded(data, f"{where}: image {i} (of pair {i // 2})").shape
        if shape[:2] != (size, size):
            raise FacebenchError(
                f"{where}: image {i} (of pair {i // 2}) has {shape[1]} x {shape[0]} pixels, "
                f"expected {size} x {size}"
            )
        own = f"{prefix}/{i:06d}"
        unit = f"{prefix}/{i - i % 2:06d}" if same[i // 2] else own
        yield {"key": own, "unit": unit, "image": data}


def bin_list(same: np.ndarray, first: int = 0) -> dict[str, Any]:
    """The list (`facebench.data.lists`) of a set that `paired` gave: ten contiguous folds.

    Args:
        same: bool [m].
        first: row of its first image in the split.
    """
    m = len(same)
    sizes = np.full(10, m // 10) + (np.arange(10) < m % 10)  # the first ones have one pair more
    return {
        "pairs": first + np.arange(2 * m, dtype=np.int32).reshape(m, 2),
        "same": np.asarray(same, bool),
        "fold": np.repeat(np.arange(10, dtype=np.int8), sizes),
    }


def pair_list(pairs: Sequence[Any], rows: Mapping[str, int], split: str = "test") -> dict[str, Any]:
    """A list (`facebench.data.lists`) of pairs with `first`, `second`, `same` and `fold`.

    Args:
        pairs: as the readers of `facebench.formats.pairs` give them.
        rows: image name to its row in the split.
        split: that the rows are of.
    """
    return {
        "split": split,
        "pairs": np.array([(rows[p.first], rows[p.second]) for p in pairs], np.int32),
        "same": np.array([p.same for p in pairs], bool),
        "fold": np.array([p.fold for p in pairs], np.int8),
    }


def expect(where: object, what: str, found: int, expected: int | None) -> None:
    """Refuses a release that has more or fewer things than it should.

    Raises:
        FacebenchError: the numbers differ.
    """
    if expected is not None and found != expected:
        raise FacebenchError(
            f"{where}: {found} {what}, the official release has {expected}; unpack it again"
        )
