"""The protocols of AgeDB and the points of DISFA: what they need of MATLAB level 5 files.

A file is 128 bytes of header, then elements: type, size, content, zeros up to a multiple of 8. An
array is an element of elements: flags, dimensions, name, then what it holds. (MathWorks, "MAT-File
Format", 2019.) SciPy's reader is faster, but a damaged file brings it down with the whole process;
this one knows no more than these files need, and takes no size from the file that its bytes do
not bear out.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facebench import files
from facebench.errors import FacebenchError

LARGEST = 64 << 20  # bytes of a protocol's file, and of what it unpacks to
DEPTH = 32  # arrays in arrays

_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _TEXT = 1, 2, 4  # classes of arrays; numbers are 6 to 15
_NUMBERS = {
    **{1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4"},
    **{7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"},
}
_TEXTS = {1: "ascii", 2: "ascii", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}


class _BadError(ValueError):
    """What is wrong with a file, without its name."""


class _Cell(NamedTuple):
    """A cell array; `values` column by column."""

    shape: tuple[int, ...]
    values: list[Any]


def _element(data: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """Type, begin and end of the content of the element at a place, and where the next begins."""
    if at + 8 > end:
        raise _BadError(f"an element at byte {at} is cut off")
    kind, size = struct.unpack_from("<II", data, at)
    if kind >> 16:  # a small element: size and content within the tag's eight bytes
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise _BadError(f"a small element at byte {at} says it has {size} bytes, at most 4 fit")
        return kind, at + 4, at + 4 + size, at + 8
    start = at + 8
    if size > end - start:
        raise _BadError(f"an element at byte {at} says {size} bytes, {end - start} are there")
    padding = 0 if kind == _COMPRESSED else -size % 8
    return kind, start, start + size, min(start + size + padding, end)


def _unpacked(content: bytes, room: int) -> bytes:
    """A compressed element."""
    unpacker = zlib.decompressobj()
    try:
        made = unpacker.decompress(content, room + 1)
    except zlib.error as error:
        raise _BadError(f"a compressed element cannot be unpacked: {error}") from error
    if len(made) > room:
        raise _BadError(f"unpacks to more than {LARGEST} bytes")
    if not unpacker.eof:
        raise _BadError("a compressed element is cut off")
    return made


def _variable(data: bytes, wanted: str) -> Any:
    """The value of a variable.

    Raises:
        _BadError: no such variable, or no such file.
    """
    if len(data) < 128 or data[124:128] != b"\x00\x01IM":
        raise _BadError("no little-endian MATLAB level 5 file (save it with -v7, not -v7.3)")
    at, room = 128, LARGEST
    while at < len(data):
        kind, start, end, at = _element(data, at, len(data))
        body = data[start:end]
        if kind == _COMPRESSED:
            whole = _unpacked(body, room)
            room -= len(whole)
            kind, start, end, _ = _element(whole, 0, len(whole))
            body = whole[start:end]
        if kind == _MATRIX:
            name, value = _array(body, 0, len(body), 0, wanted)
            if name == wanted:
                return value
    raise _BadError(f"there is no variable {wanted!r}")


def _array(
    data: bytes, at: int, end: int, depth: int, wanted: str | None = None
) -> tuple[str, Any]:
    """Name and value of the array whose elements lie from `at` to `end`; None for other classes.

    A variable of another name than `wanted` is not read any further.
    """
    if at == end:
        return "", None
    if depth > DEPTH:
        raise _BadError(f"arrays lie in arrays more than {DEPTH} deep")
    begin = at
    flags, first, last, at = _element(data, at, end)
    dims, low, high, at = _element(data, at, end)
    if flags != 6 or last - first != 8 or dims != 5 or (high - low) % 4 or high - low < 8:
        raise _BadError(f"the array at byte {begin} has no flags and dimensions")
    shape = struct.unpack_from(f"<{(high - low) // 4}i", data, low)
    if min(shape) < 0 or math.prod(shape) > end - begin:
        raise _BadError(f"the array at byte {begin} is said to be {shape[:4]}, unlike its size")
    _, low, high, at = _element(data, at, end)
    name = data[low:high].decode("latin-1")
    kind = data[first]
    if wanted not in (None, name):
        return name, None
    if kind == _CELL:
        values, at = _arrays(data, at, end, depth, math.prod(shape))
        return name, _Cell(shape, values)
    if kind == _STRUCT:
        _, low, high, at = _element(data, at, end)
        width = int.from_bytes(data[low:high], "little")
        _, low, high, at = _element(data, at, end)
        if math.prod(shape) != 1 or width < 1 or (high - low) % width:
            raise _BadError(f"the struct at byte {begin}: expected one with names of its fields")
        values, at = _arrays(data, at, end, depth, (high - low) // width)
        return name, values
    if kind != _TEXT and not 6 <= kind <= 15:
        return name, None
    stored, low, high, at = _element(data, at, end)
    try:
        if kind == _TEXT:
            return name, data[low:high].decode(_TEXTS[stored])
        values = np.frombuffer(data[low:high], _NUMBERS[stored]).tolist()
    except (KeyError, ValueError) as error:
        raise _BadError(f"the array at byte {begin} cannot be read: {error}") from error
    if len(values) != math.prod(shape):
        raise _BadError(f"the array at byte {begin} has {len(values)} numbers, not {shape[:4]}")
    return name, values


def _arrays(data: bytes, at: int, end: int, depth: int, count: int) -> tuple[list[Any], int]:
    """So many arrays, one after the other."""
    values = []
    for _ in range(count):
        kind, low, high, following = _element(data, at, end)
        if kind != _MATRIX:
            raise _BadError(f"an element of type {kind} at byte {at}, expected an array")
        values.append(_array(data, low, high, depth + 1)[1])
        at = following
    return values, at


def splits(path: Path, folds: int) -> Iterator[tuple[list[str], list[float]]]:
    """Reads the variable `splits` of a protocol of AgeDB.

    Args:
        path: the ``.mat`` file.
        folds: how many it has.

    Yields:
        of each fold the names of its images, pair by pair, and the labels of its pairs.

    Raises:
        FacebenchError: not such a file.
    """
    where = ""
    try:
        cell = _variable(files.read_bytes(path, LARGEST), "splits")
        if not isinstance(cell, _Cell) or len(cell.values) != folds:
            raise _BadError(f"the variable 'splits' is no cell array of {folds}")
        for fold, split in enumerate(cell.values):
            where = f"split {fold + 1}: "
            images, labels = split[:2] if isinstance(split, list) and len(split) > 1 else (None, [])
            if (
                not isinstance(images, _Cell)
                or images.shape[0] != 2
                or not isinstance(labels, list)
                or not all(isinstance(label, (int, float)) for label in labels)
            ):
                raise _BadError("expected a struct of a 2 x n cell array of images, and n labels")
            if not all(isinstance(i, list) and i and isinstance(i[0], str) for i in images.values):
                raise _BadError("an image is no struct that begins with its name")
            yield [image[0] for image in images.values], labels
    except _BadError as error:
        raise FacebenchError(
            f"{path}: {where}{error}; expected a protocol of AgeDB, as released"
        ) from error


def points(path: Path, name: str, count: int) -> np.ndarray:
    """Reads a variable of points, such as `pts` of DISFA.

    Args:
        path: the ``.mat`` file.
        name: of the variable.
        count: how many points it has.

    Returns:
        float64 [count, 2], (x, y) as they stand in the file.

    Raises:
        FacebenchError: not such a file, another number of points, a number that is not finite.
    """
    try:
        values = _variable(files.read_bytes(path, LARGEST), name)
        if not isinstance(values, list) or len(values) != 2 * count:
            found = len(values) if isinstance(values, list) else "no"
            raise _BadError(f"the variable {name!r} has {found} numbers")
        made = np.array(values, np.float64)
        if made.shape != (2 * count,) or not np.isfinite(made).all():
            raise _BadError(f"the variable {name!r} holds what is no finite number")
    except (_BadError, TypeError, ValueError) as error:
        raise FacebenchError(f"{path}: {error}; expected {count} points (x, y)") from error
    return made.reshape(2, count).T  # column by column: all x, then all y
