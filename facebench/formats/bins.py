"""insightface's verification sets: ``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin``, ...

A pickle of (images, matching): 2N encoded images, of which 2i and 2i + 1 are pair i, and N truth
values (``recognition/arcface_mxnet/common/build_eval_pack.py``); ``.xz`` variants are the same,
packed. A pickle can run anything when it is opened: `pickles` reads it without.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np

from facebench import files
from facebench.errors import FacebenchError
from facebench.formats import pickles

LARGEST = 1 << 30  # bytes of a set, unpacked; cfp_fp.bin, the largest usual one, has 0.1 GB
_XZ = b"\xfd7zXZ\x00"
_UNPACKER = 256 << 20  # bytes that the unpacker itself may need
_BEGINS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF")  # JPEG, PNG, BMP, WebP


def read(path: Path | str, limit: int = LARGEST) -> tuple[list[bytes], np.ndarray]:
    """Reads a verification set.

    Args:
        path: a ``.bin``, or the same packed with xz.
        limit: bytes that it may have, unpacked.

    Returns:
        the encoded images [2N], pair i in places 2i and 2i + 1; whether pairs match, bool [N].

    Raises:
        FacebenchError: too large; a pickle that names anything but arrays, or is broken; not 2N
            images for N truth values; something that is no encoded image, by its number.
    """
    path = Path(path)
    data = files.read_bytes(path, limit)
    if data.startswith(_XZ):
        data = _unpacked(data, path, limit)
    value = pickles.load(data, path)
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise FacebenchError(
            f"{path}: holds {_what(value)}, expected two lists: images, and whether pairs match"
        )
    images, matching = value
    same = _truths(matching, path)
    if not isinstance(images, (list, tuple)):
        raise FacebenchError(
            f"{path}: its first part is {_what(images)}, expected a list of images"
        )
    if len(images) != 2 * len(same):
        raise FacebenchError(
            f"{path}: {len(images)} images for {len(same)} pairs, expected {2 * len(same)}, two "
            "for each"
        )
    return [_image(image, i, path) for i, image in enumerate(images)], same


def _unpacked(data: bytes, path: Path, limit: int) -> bytes:
    """The content of an xz file, one stream or several, up to a limit."""
    parts, room = [], limit
    while data:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_UNPACKER)
        try:
            parts.append(stream.decompress(data, room + 1))
        except (lzma.LZMAError, MemoryError) as error:
            raise FacebenchError(f"{path}: damaged xz file: {error}; get it again") from error
        room -= len(parts[-1])
        if room < 0:
            raise FacebenchError(
                f"{path}: unpacks to more than {limit} bytes, the most that such a file has"
            )
        if not stream.eof:
            raise FacebenchError(f"{path}: damaged xz file: it is cut off; get it again")
        data = stream.unused_data.lstrip(b"\x00")
    return b"".join(parts)


def _what(value: Any) -> str:
    """Says what a value is, without its content."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return f"a {type(value).__name__}"


def _truths(value: Any, path: Path) -> np.ndarray:
    entries = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
    if not isinstance(entries, (list, tuple)) or not entries:
        raise FacebenchError(
            f"{path}: its second part is {_what(value)}, expected a truth value for each pair"
        )
    for i, entry in enumerate(entries):
        if not isinstance(entry, (bool, int, float)) or entry not in (0, 1):
            raise FacebenchError(
                f"{path}: whether pair {i} matches is {_what(entry)}, expected true or false"
            )
    return np.array(entries, bool)


def _image(value: Any, i: int, path: Path) -> bytes:
    """An encoded image, kept as bytes or as an array of bytes."""
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and max(value.shape) == value.size:
        value = value.tobytes()
    if not isinstance(value, bytes):
        raise FacebenchError(f"{path}: image {i} is {_what(value)}, expected an encoded image")
    if not value.startswith(_BEGINS):
        raise FacebenchError(
            f"{path}: image {i} begins with {value[:8]!r} and is no JPEG, PNG, BMP or WebP"
        )
    return value


def folds_without_both(same: np.ndarray, folds: int = 10) -> list[int]:
    """Which contiguous folds lack matching or other pairs, and so cannot be evaluated.

    Args:
        same: bool [N], in the order of the file.
        folds: how many; the first N % folds of them have one pair more.

    Returns:
        the numbers of such folds, from 0.
    """
    parts = np.array_split(np.asarray(same, bool), folds)
    return [i for i, part in enumerate(parts) if part.all() or not part.any()]
