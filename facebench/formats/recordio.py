"""RecordIO (DMLC): the ``.rec`` and ``.idx`` files of face training sets, without MXNet.

A file is a sequence of records, each of one part or several. A part is, little-endian,

    u32 magic 0xCED7230A | u32 kind << 29 | length | payload | zeros up to a multiple of 4

kind 0: a whole record, 1: its first part, 2: a middle one, 3: the last. A writer cuts a record
wherever the magic stands in it at a multiple of 4, and leaves it out: a reader puts those four
bytes back between the parts (dmlc-core, ``include/dmlc/recordio.h``, ``src/recordio.cc``).

A record is ``u32 flag, f32 label, u64 id, u64 id2``, then `flag` float32 labels, which replace
`label` if there are any, then the encoded image (MXNet, ``python/mxnet/recordio.py``). The
``.idx`` file has a line ``key offset`` for each record.

Labels are float32: from 2^24 = 16,777,216 on they do not hold every whole number. The number of
an identity must be below; key ranges, which need not be, are compared as float32.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facebench import files
from facebench.errors import FacebenchError
from facebench.formats import text

MAGIC = struct.pack("<I", 0xCED7230A)
EXACT = 1 << 24  # whole numbers below it are float32 numbers
RECORD = 64 << 20  # bytes that a record may have; a face crop has some thousand

_HEAD = struct.Struct("<4sI")
_IMAGE = struct.Struct("<IfQQ")
_TWO = struct.Struct("<2f")
_KINDS = ("whole", "first", "middle", "last")


class Header(NamedTuple):
    """What stands before the image in a record.

    Attributes:
        flag: how many labels there are in a list; 0: one label, in the header itself.
        label: float32 [max(flag, 1)].
        id: number of the record, as a rule its key.
        id2: second number.
    """

    flag: int
    label: np.ndarray
    id: int
    id2: int


class Records:
    """A ``.rec`` file, opened for reading at any place; use it in a ``with``.

    Args:
        path: the file.
        limit: bytes that a record may have.

    Raises:
        FacebenchError: missing, unreadable, no regular file.
    """

    def __init__(self, path: Path | str, limit: int = RECORD):
        self.path, self.limit = Path(path), limit
        self._file = text.open_regular(self.path)
        self._handle = self._file.fileno()
        self.size = os.fstat(self._handle).st_size

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _bytes(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._handle, length, offset)
        except OSError:
            with files.explained(self.path, "reading"):
                raise

    def _fault(self, offset: int, what: str) -> FacebenchError:
        return FacebenchError(f"{self.path}: offset {offset}: {what}")

    def _part(self, offset: int, head: bytes) -> tuple[int, int]:
        """Kind and length of the part that begins at `offset` with `head`."""
        if len(head) < _HEAD.size:
            raise self._fault(
                offset,
                f"truncated: the file ends after {len(head)} of the 8 bytes before a part; "
                "get it again",
            )
        magic, word = _HEAD.unpack_from(head)
        if magic != MAGIC:
            raise self._fault(
                offset,
                f"bad magic {magic.hex()}, expected {MAGIC.hex()}: no record begins here, or this "
                "is no RecordIO file",
            )
        kind, length = word >> 29, word & (1 << 29) - 1
        left = self.size - offset - _HEAD.size
        if kind > 3:
            raise self._fault(offset, f"a part of kind {kind}, expected 0 to 3")
        if length + -length % 4 > left:
            raise self._fault(
                offset,
                f"truncated part: it says {length} bytes, filled up to a multiple of 4, and the "
                f"file has {left} left; get it again",
            )
        return kind, length

    def payload(self, offset: int) -> tuple[bytes, int]:
        """The bytes of the record at an offset, its parts joined, and where the next one begins.

        Raises:
            FacebenchError: bad magic, truncated, parts in a wrong order, larger than the limit.
        """
        begin, total = offset, 0
        parts: list[bytes] = []
        while True:
            kind, length = self._part(offset, self._bytes(offset, _HEAD.size))
            if (kind in (0, 1)) == bool(parts):
                expected = "a middle or last one" if parts else "a whole record or its first part"
                raise self._fault(
                    offset,
                    f"the {_KINDS[kind]} part of a record, expected {expected}"
                    + (f" after the part before it (record at {begin})" if parts else ""),
                )
            total += length + len(MAGIC) * bool(parts)
            if total > self.limit:
                raise self._fault(
                    begin, f"a record of more than {self.limit} bytes, larger than a face image is"
                )
            data = self._bytes(offset + _HEAD.size, length)
            if len(data) < length:
                raise self._fault(offset, "truncated part: the file became shorter while read")
            parts.append(data)
            offset += _HEAD.size + length + -length % 4
            if kind in (0, 3):
                return MAGIC.join(parts), offset
            if offset >= self.size:
                raise self._fault(
                    begin, "truncated: the file ends before the record's last part; get it again"
                )

    def read(self, offset: int) -> tuple[Header, bytes]:
        """Header and image of the record at an offset.

        Raises:
            FacebenchError: as `payload`, and a record shorter than its header says.
        """
        return self._split(self.payload(offset)[0], offset)

    def _split(self, data: bytes, offset: int) -> tuple[Header, bytes]:
        if len(data) < _IMAGE.size:
            raise self._fault(
                offset, f"a record of {len(data)} bytes, expected a header of {_IMAGE.size} first"
            )
        flag, label, number, second = _IMAGE.unpack_from(data)
        if _IMAGE.size + 4 * flag > len(data):
            raise self._fault(
                offset,
                f"a record that says it has {flag} labels, and is only {len(data)} bytes long",
            )
        end = _IMAGE.size + 4 * flag
        labels = np.frombuffer(data[_IMAGE.size : end], "<f4") if flag else np.array([label])
        return Header(flag, labels.astype(np.float32), number, second), data[end:]

    def brief(self, offset: int) -> tuple[int, tuple[float, ...], int, bool, int]:
        """What a record is, without reading its image.

        Returns:
            flag, its first two labels (or one), id, whether an image follows, and where the next
            record begins.

        Raises:
            FacebenchError: as `read`.
        """
        start = self._bytes(offset, 64)
        kind, length = self._part(offset, start)
        if kind == 0 and length >= _IMAGE.size:
            flag, label, number, _ = _IMAGE.unpack_from(start, _HEAD.size)
            if flag == 0 or (flag > 1 and _IMAGE.size + 4 * flag <= length):
                labels = _TWO.unpack_from(start, _HEAD.size + _IMAGE.size) if flag else (label,)
                has_image = length > _IMAGE.size + 4 * flag
                return flag, labels, number, has_image, offset + _HEAD.size + length + -length % 4
        data, following = self.payload(offset)
        header, image = self._split(data, offset)
        labels = tuple(header.label[:2].tolist())
        return header.flag, labels, header.id, bool(image), following


def index(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Reads an ``.idx`` file.

    Returns:
        keys and byte offsets, int64 [n] each, in the order of the offsets.

    Raises:
        FacebenchError: a line that is not two whole numbers, a key or an offset that stands twice,
            no line at all.
    """
    path = Path(path)
    blocks = list(text.whole_numbers(path, 2))
    if not blocks:
        raise FacebenchError(f"{path}: is empty, expected a line `key offset` for each record")
    table = np.concatenate(blocks)
    for column, name in ((0, "key"), (1, "offset")):
        order = np.argsort(table[:, column], kind="stable")
        values = table[order, column]
        if (twice := np.flatnonzero(values[1:] == values[:-1])).size:
            at = twice[0]
            raise FacebenchError(
                f"{path}: {name} {values[at]} stands twice, in lines {order[at] + 1} and "
                f"{order[at + 1] + 1}; expected every {name} once"
            )
    return table[order, 0], table[order, 1]


def _walk(
    records: Records, idx: Path | str | None, step: Callable[[int], tuple[Any, int]]
) -> Iterator[tuple[int | None, int, Any]]:
    """Key (None without an index), offset and ``step(offset)[0]`` of every record, in file order.

    `step` says beside its result where the next record begins.
    """
    if idx is None:
        offset = 0
        while offset < records.size:
            result, following = step(offset)
            yield None, offset, result
            offset = following
        return
    keys, offsets = index(idx)
    for key, offset in zip(keys.tolist(), offsets.tolist(), strict=True):
        if offset >= records.size:
            raise FacebenchError(
                f"{idx}: key {key} points to offset {offset}, outside of {records.path}, which has "
                f"{records.size} bytes; are the two files of one release?"
            )
        try:
            result, _ = step(offset)
        except FacebenchError as error:
            raise FacebenchError(f"{idx}: key {key}: {error}") from error
        yield key, offset, result


def read(
    path: Path | str, index: Path | str | None = None, limit: int = RECORD
) -> Iterator[tuple[int, Header, bytes]]:
    """Reads a ``.rec`` file from its begin to its end, one record in memory at a time.

    Args:
        path: the ``.rec`` file.
        index: its ``.idx``: only the records that it names, still in the order of the file.
        limit: bytes that a record may have.

    Yields:
        key (without an index, the `id` of the record's header), header, and the encoded image,
        which is empty for the records that describe others.

    Raises:
        FacebenchError: bad magic, a truncated part, parts in a wrong order, an index that points
            outside of the file or not at a record; file and offset are named.
    """

    def step(offset: int) -> tuple[tuple[Header, bytes], int]:
        data, following = records.payload(offset)
        return records._split(data, offset), following

    with Records(path, limit) as records:
        for key, _, (header, image) in _walk(records, index, step):
            yield header.id if key is None else key, header, image


def _exact(label: float) -> bool:
    return 0 <= label < EXACT and label == int(label)


def _where(rec: Path | str, key: int, offset: int) -> str:
    return f"{rec}: record {key} at offset {offset}"


def identity(label: float, where: str) -> int:
    """The number of the identity that an image's record names: its label, or the first of them.

    Args:
        label: of the record, ``header.label[0]``.
        where: what an error message calls it.

    Raises:
        FacebenchError: not a whole number from 0 to 2^24 - 1, so perhaps not the one meant.
    """
    if _exact(label):
        return int(label)
    if label >= EXACT:
        why = "float32 labels do not hold every whole number from 2^24 = 16777216 on"
    else:
        why = "expected a whole number that is not negative"
    raise FacebenchError(f"{where}: label {label:.9g} is no identity: {why}")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the images of a training set are and whom they show.

    Attributes:
        kind: ``identity``: record 0 says which keys are images and which are identities, as
            insightface's sets have it; ``sequential``: every record is an image.
        keys: int64 [n], ascending.
        offsets: int64 [n], bytes, for `Records.read`.
        identity: int32 [n], from the images' own labels.
    """

    kind: str
    keys: np.ndarray
    offsets: np.ndarray
    identity: np.ndarray


def identity_layout(rec: Path | str, idx: Path | str | None = None) -> Layout:
    """Reads the headers of all records: which are images, and of which identity.

    Identities come from the images' labels. What record 0 and the identities' records say of key
    ranges is compared with them, as float32, which is how it was stored.

    Args:
        rec: the ``.rec`` file.
        idx: its ``.idx``; without one the ids in the records' headers are the keys.

    Raises:
        FacebenchError: as `read`; no record; a key that stands twice or is missing; a label that
            is no whole number below 2^24; key ranges that the images contradict.
    """
    keys, offsets, labels = array("q"), array("q"), array("i")
    zero: tuple[float, ...] | None = None
    ranges: list[tuple[int, tuple[float, ...]]] = []
    with Records(rec) as records:

        def step(offset: int) -> tuple[Any, int]:
            *found, following = records.brief(offset)
            return found, following

        for named, offset, (flag, label, number, has_image) in _walk(records, idx, step):
            key = number if named is None else named
            if key >= 1 << 63:
                raise FacebenchError(
                    f"{rec}: record at offset {offset}: its id {key} is no key; give the .idx"
                )
            keys.append(key)
            offsets.append(offset)
            if has_image:
                exact = _exact(label[0])
                labels.append(
                    int(label[0]) if exact else identity(label[0], _where(rec, key, offset))
                )
                continue
            labels.append(-1)
            if flag == 0:
                raise FacebenchError(f"{_where(rec, key, offset)}: there is no image in it")
            if key == 0:
                zero = label
            else:
                ranges.append((key, label))
    order = np.argsort(np.array(keys, np.int64), kind="stable")
    keyed, place, whom = (np.array(a)[order] for a in (keys, offsets, labels))
    is_image = whom >= 0
    if not is_image.any():
        raise FacebenchError(f"{rec}: there is no image in it; is the file complete?")
    if (twice := np.flatnonzero(keyed[1:] == keyed[:-1])).size:
        raise FacebenchError(
            f"{rec}: two records have the id {keyed[twice[0]]}, at offsets {place[twice[0]]} and "
            f"{place[twice[0] + 1]}; give the .idx, which says their keys"
        )
    layout = Layout(
        "sequential" if zero is None else "identity",
        keyed[is_image],
        place[is_image],
        whom[is_image],
    )
    if zero is not None:
        _check_ranges(idx or rec, layout, zero, ranges)
    elif ranges:
        raise FacebenchError(
            f"{idx or rec}: record {ranges[0][0]} describes other records, and there is no record "
            "0 that says which; is the file complete?"
        )
    return layout


def _check_ranges(
    where: Path | str,
    layout: Layout,
    zero: tuple[float, ...],
    ranges: list[tuple[int, tuple[float, ...]]],
) -> None:
    """Holds record 0 and the records of identities against the images that were found."""
    images, identities = len(layout.keys), len(ranges)
    if len(zero) < 2:
        raise FacebenchError(f"{where}: record 0 has one label, expected two")
    if zero != (np.float32(images + 1), np.float32(images + identities + 1)):
        raise FacebenchError(
            f"{where}: record 0 says images have the keys 1 to {zero[0]:.0f} - 1, identities the "
            f"ones from there to {zero[1]:.0f} - 1; found {images} images and {identities} "
            "identities: some are missing or too many"
        )
    if (missing := np.flatnonzero(layout.keys != np.arange(1, images + 1))).size:
        raise FacebenchError(
            f"{where}: there is no image with key {missing[0] + 1}; expected 1 to {images}"
        )
    changes = np.concatenate([[0], np.cumsum(np.diff(layout.identity) != 0)])
    for key, label in ranges:
        if len(label) < 2:
            raise FacebenchError(f"{where}: record {key} has one label, expected a range of keys")
        first, end = label
        if not (1 <= first <= end <= np.float32(images + 1) and (first % 1, end % 1) == (0, 0)):
            raise FacebenchError(
                f"{where}: record {key} names the images {first:.9g} to {end:.9g} - 1, expected a "
                f"range within 1 to {images}"
            )
        a, b = int(first) - 1, int(end) - 2
        if end < EXACT and b > a and changes[a] != changes[b]:
            raise FacebenchError(
                f"{where}: record {key} says images {a + 1} to {b + 1} show one identity, but "
                "their labels differ; are the two files of one release?"
            )
