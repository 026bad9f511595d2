"""What a prepared dataset holds: the small fields of its samples, and digests of every one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from facebench import digest
from facebench.errors import FacebenchError

if TYPE_CHECKING:
    from facebench.data.source import Split

SMALL = 4096  # bytes; a field larger than this per sample is read from the records alone
BLOCK = 1024  # samples that are kept one by one before they are stacked


class _Column:
    """A field of all samples, kept in blocks: single arrays of millions would need ten times that.

    A field whose values differ in shape, or are large, is dropped.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._open: list[np.ndarray] = []
        self._shape: tuple[int, ...] | None = None
        self._dropped = False

    def add(self, value: np.ndarray) -> None:
        if self._shape is None:
            self._shape = value.shape
        if self._dropped or value.shape != self._shape or value.nbytes > SMALL:
            self._dropped, self._blocks, self._open = True, [], []
            return
        self._open.append(value)
        if len(self._open) == BLOCK:
            self._blocks.append(np.stack(self._open))
            self._open = []

    def stacked(self) -> np.ndarray | None:
        """[n, ...], or None for a field that was dropped."""
        if self._dropped:
            return None
        return np.concatenate([*self._blocks, *([np.stack(self._open)] if self._open else [])])


def samples(split: Split) -> dict[str, np.ndarray]:
    """The small fields of every sample of a split, and `digest`, uint8 [n, 32], of all of it."""
    if not len(split):
        raise FacebenchError(f"dataset {split.label}: split {split.name!r} is empty")
    columns: dict[str, _Column] = {"digest": _Column()}
    where = f"dataset {split.label}: split {split.name!r}, key"
    for i in range(len(split)):
        record = split.record(i)
        for name in ("key", "unit", "image"):
            if name not in record:
                raise FacebenchError(
                    f"dataset {split.label}: its builder gives no {name!r}, which every dataset has"
                )
        try:
            content = {name: _content(value) for name, value in record.items()}
        except ValueError as error:
            raise FacebenchError(
                f"{where} {record['key']!r}: {error}; mend that image of the release and prepare "
                "it again"
            ) from error
        found = digest.of_arrays(content).removeprefix(digest.PREFIX)
        columns["digest"].add(np.frombuffer(bytes.fromhex(found), np.uint8))
        for name, value in content.items():
            if not isinstance(record[name], bytes):
                columns.setdefault(name, _Column()).add(value)
    made = {name: column.stacked() for name, column in columns.items()}
    kept = {name: array for name, array in made.items() if array is not None}
    if "key" not in kept:
        raise FacebenchError(f"{where}: one is longer than {SMALL // 4} characters")
    ordered = np.sort(kept["key"])
    if (twice := ordered[1:] == ordered[:-1]).any():
        key = str(ordered[1:][twice][0])
        raise FacebenchError(f"{where} {key!r} stands twice; the keys of samples must differ")
    return kept


def _content(value: Any) -> np.ndarray:
    """What a field of a record says: the pixels of an image, else the value itself."""
    from facebench.data import transforms

    return transforms.decode(value, colour=False) if isinstance(value, bytes) else np.asarray(value)


def facts(samples: dict[str, np.ndarray]) -> dict[str, Any]:
    """The entry of a split in ``facebench.json``."""
    return {
        "n": len(samples["key"]),
        "keys": digest.of_lines(samples["key"].tolist()),
        "content": digest.of_lines(row.tobytes().hex() for row in samples["digest"]),
    }


def differences(split: Split, said: Mapping[str, Any]) -> list[str]:
    """Reads every sample of a split again and says what differs from what was built.

    Args:
        split: to read.
        said: its entry in ``facebench.json``.

    Returns:
        one line per difference.
    """
    lines = []
    now, then = samples(split), split.samples
    for i in np.flatnonzero((now["digest"] != then["digest"]).any(axis=1)):
        lines.append(f"split {split.name!r}, key {split.keys[i]!r}: the content differs")
    for name in sorted({*now, *then} - {"digest"}):
        if name not in now or name not in then or not np.array_equal(now[name], then[name]):
            lines.append(
                f"split {split.name!r}: field {name!r} of samples-{split.name}.npz is not that of "
                "the records"
            )
    for name, value in facts(now).items():
        if said.get(name) != value:
            lines.append(
                f"split {split.name!r}: {name} is {value}, facebench.json says {said.get(name)}"
            )
    return lines
