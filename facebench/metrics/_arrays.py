"""Arrays that come from outside, checked before anything is computed from them."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from facebench.errors import FacebenchError, UsageError, nearest

BLOCK = 1 << 21  # elements that a chunked computation holds at once
SMALL = 8  # times fewer where they are read again at once, so that a core's cache holds them

#: What a metric may be: a number, None (undefined on this input), a list of these, or a table.
Value = float | list[Any] | None


class Arrays:
    """Named arrays and what messages call them.

    Args:
        arrays: name to array.
        where: ``predictions``, ``targets`` or the name of the file they came from.
    """

    def __init__(self, arrays: Mapping[str, Any], where: str) -> None:
        self.arrays = arrays
        self.where = where

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def fault(self, name: str, found: str, expected: str) -> FacebenchError:
        """An error about one array."""
        return FacebenchError(f"{self.where}: array {name!r} {found}; expected {expected}")

    def take(self, name: str, shape: Sequence[int | str], like: str = "") -> np.ndarray:
        """The array `name`, once its shape is right and it holds something.

        Args:
            name: the array.
            shape: a size, or a letter that stands for any size from 1, per axis.
            like: where the sizes come from, for the message.

        Raises:
            FacebenchError: missing, of another shape, empty or not numbers or text.
        """
        if name not in self.arrays:
            raise FacebenchError(
                f"{self.where}: array {name!r} is missing: {nearest(name, self.arrays)}"
            )
        try:
            array = np.asarray(self.arrays[name])
        except ValueError as error:  # a ragged list
            raise self.fault(name, f"is not an array ({error})", "equal rows") from error
        expected = "(" + ", ".join(str(s) for s in shape) + ("," if len(shape) == 1 else "") + ")"
        right = array.ndim == len(shape) and all(
            isinstance(want, str) or want == size
            for want, size in zip(shape, array.shape, strict=True)
        )
        if not right:
            because = f" ({like})" if like else ""
            raise self.fault(name, f"has shape {array.shape}", f"{expected}{because}")
        if array.size == 0:
            raise self.fault(name, f"is empty (shape {array.shape})", "at least one row")
        if array.dtype.kind not in "biufSU":
            raise self.fault(name, f"holds {array.dtype}", "plain numbers")
        return array

    def numbers(
        self, name: str, shape: Sequence[int | str], like: str = "", keep: bool = False
    ) -> np.ndarray:
        """Finite real numbers as float64, or in their own type if `keep` (large arrays).

        Raises:
            FacebenchError: as `take`; not real numbers; NaN or infinity, with the first row.
        """
        array = self.take(name, shape, like)
        if array.dtype.kind not in "iuf":
            raise self.fault(name, f"holds {array.dtype}", "real numbers")
        if array.dtype.kind == "f":
            for start, stop in blocks(array.shape[0], array.size // array.shape[0]):
                finite = np.isfinite(array[start:stop])
                if not finite.all():
                    bad = ~finite.reshape(finite.shape[0], -1).all(axis=1)
                    row = start + int(np.argmax(bad))
                    raise self.fault(
                        name, f"holds NaN or infinity, first in row {row}", "finite numbers"
                    )
        return array if keep else array.astype(np.float64)

    def flags(self, name: str, shape: Sequence[int | str], like: str = "") -> np.ndarray:
        """Booleans, or numbers that are all 0 or 1, as bool.

        Raises:
            FacebenchError: as `take`; another value.
        """
        array = self.take(name, shape, like)
        if array.dtype.kind in "SU" or not ((array == 0) | (array == 1)).all():
            raise self.fault(name, f"holds {array.dtype} other than 0 and 1", "true or false")
        return array.astype(bool)

    def shares(
        self, name: str, shape: Sequence[int | str], like: str = "", make: str = "a sigmoid"
    ) -> np.ndarray:
        """Probabilities as float64; up to 1e-6 outside [0, 1], as averaging leaves them, is let be.

        Args:
            name: the array.
            shape: see `take`.
            like: see `take`.
            make: what turns logits into them, for the message.

        Raises:
            FacebenchError: as `numbers`; a number outside [0, 1], such as a logit.
        """
        array = self.numbers(name, shape, like)
        low, high = float(array.min()), float(array.max())
        if low < -1e-6 or high > 1 + 1e-6:
            raise self.fault(
                name,
                f"holds {low if low < -1e-6 else high:.4g}",
                f"probabilities in [0, 1] (of logits take {make} first)",
            )
        return array

    def partly(
        self,
        name: str,
        shape: Sequence[int | str],
        unknown: Sequence[float],
        limits: tuple[float, float],
        like: str = "",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels of which some are unknown: numbers as float64, 0 where unknown, and what is known.

        Args:
            name: the array.
            shape: see `take`.
            unknown: numbers that stand for an unknown label, as NaN always does.
            limits: lowest and highest known number.
            like: see `take`.

        Raises:
            FacebenchError: as `take`; not real numbers, a known one outside the limits, with its
                first row, or none that is known.
        """
        array = self.take(name, shape, like)
        if array.dtype.kind not in "iuf":
            raise self.fault(name, f"holds {array.dtype}", "real numbers")
        array = array.astype(np.float64)
        known = ~(np.isnan(array) | np.isin(array, unknown))
        codes = ", ".join(f"{code:g}" for code in unknown)
        expected = f"numbers from {limits[0]:g} to {limits[1]:g}; {codes} or NaN where unknown"
        odd = known & ~((array >= limits[0]) & (array <= limits[1]))
        if odd.any():
            row = int(np.argmax(odd.reshape(len(odd), -1).any(axis=1)))
            found = array[row][odd[row]].flat[0]
            raise self.fault(name, f"holds {found:g}, first in row {row}", expected)
        if not known.any():
            raise self.fault(name, "holds no known label", expected)
        return np.where(known, array, 0.0), known

    def integers(self, name: str, shape: Sequence[int | str], like: str = "") -> np.ndarray:
        """Whole numbers as int64.

        Raises:
            FacebenchError: as `take`; not whole numbers.
        """
        array = self.take(name, shape, like)
        if array.dtype.kind not in "iu":
            raise self.fault(name, f"holds {array.dtype}", "whole numbers")
        return array.astype(np.int64, copy=False)

    def vectors(self, name: str, shape: Sequence[int | str], like: str = "") -> np.ndarray:
        """Rows of real numbers in their own type, unread: `unit_rows` looks at them.

        Raises:
            FacebenchError: as `take`; not real numbers.
        """
        array = self.take(name, shape, like)
        if array.dtype.kind not in "iuf":
            raise self.fault(name, f"holds {array.dtype}", "real numbers")
        return array


def blocks(rows: int, width: int) -> Iterable[tuple[int, int]]:
    """Row ranges that cover `rows` rows of `width` elements, each about `BLOCK` elements."""
    step = max(1, BLOCK // max(1, width))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


def levels(
    values: Iterable[float] | None, default: Sequence[float], most: float, what: str
) -> list[float]:
    """The thresholds that are asked for, or the default ones, each once, in their order.

    Raises:
        UsageError: one is not a number above 0 and up to `most`.
    """
    chosen: list[float] = []
    for value in default if values is None else values:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 < number <= most:
            raise UsageError(f"threshold {value!r}: expected {what}")
        if number not in chosen:
            chosen.append(number)
    return chosen


def pick_convention(
    task: str, convention: str | None, known: Sequence[str], thresholds: Iterable[float] | None
) -> str:
    """The convention of a task that reads no curve; the first one when none is asked for.

    Raises:
        UsageError: there is no such convention, or thresholds are given.
    """
    if thresholds is not None:
        raise UsageError(f"{task} is scored without thresholds; leave them out")
    if convention is None:
        return known[0]
    if convention not in known:
        raise UsageError(f"{task} has no convention {convention!r}: {nearest(convention, known)}")
    return convention


def column_names(predictions: Arrays, targets: Arrays, name: str, columns: int) -> None:
    """Checks the optional names of columns: as many as columns, each once, in one order.

    Raises:
        FacebenchError: another number of names, a name that stands twice, or predictions whose
            columns are named in another order than those of the targets.
    """
    found = _named(predictions, targets, name, columns)
    if len(found) == 2:
        for k, (a, b) in enumerate(zip(*found, strict=True)):
            if a != b:
                raise predictions.fault(
                    name,
                    f"calls column {k} {a!r}",
                    f"{b!r}, as {targets.where}; put the columns in that order",
                )


def column_order(
    predictions: Arrays, targets: Arrays, name: str, columns: int
) -> np.ndarray | None:
    """Which column of the predictions answers each column of the targets, by their names.

    Args:
        predictions: may hold the names of its columns.
        targets: likewise.
        name: the array of names.
        columns: how many there are.

    Returns:
        (columns,) column numbers of the predictions, in the order of the targets; None where the
        columns are in that order already, or not both are named.

    Raises:
        FacebenchError: another number of names, a name that stands twice, or one that the targets
            do not have, with the nearest that they have.
    """
    found = _named(predictions, targets, name, columns)
    if len(found) < 2 or found[0] == found[1]:
        return None
    ours, theirs = found
    for one in ours:
        if one not in theirs:
            hint = nearest(one, theirs)
            raise predictions.fault(
                name, f"holds {one!r}", f"the names that {targets.where} has: {hint}"
            )
    return np.array([ours.index(one) for one in theirs])


def _named(predictions: Arrays, targets: Arrays, name: str, columns: int) -> list[list[str]]:
    """The names of columns that there are, first those of the predictions, each list checked."""
    found = []
    for source in (predictions, targets):
        if name in source:
            names = source.take(name, (columns,), "one per column").astype(str).tolist()
            for k, one in enumerate(names):
                if one in names[:k]:
                    raise source.fault(name, f"holds {one!r} twice", "each name once")
            found.append(names)
    return found


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of the values that there are; None if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def plain(value: float) -> str:
    """The shortest exact decimal form: ``8``, ``7.5``, ``0.01``."""
    number = Decimal(repr(float(value))).normalize()
    return format(number, "f")


def scientific(value: float) -> str:
    """The shortest exact scientific form: ``1e-3``, ``2.5e-2``."""
    number = Decimal(repr(float(value))).normalize().as_tuple()
    digits = "".join(str(d) for d in number.digits)
    exponent = int(number.exponent) + len(digits) - 1
    return digits[0] + ("." + digits[1:] if digits[1:] else "") + f"e{exponent}"


def unit_rows(
    source: Arrays, name: str, array: np.ndarray, numbers: np.ndarray | None = None
) -> np.ndarray:
    """The length of every row, in float64, read block by block.

    Args:
        source: what holds the array.
        name: the array.
        array: (n, d), or some rows of it.
        numbers: (n,) which rows, for the message; None for all.

    Raises:
        FacebenchError: a row is NaN, infinite or too long, or only zeros and has no direction.
    """
    length = np.empty(array.shape[0])
    for start, stop in blocks(len(array), SMALL * array.shape[1]):
        part = array[start:stop].astype(np.float64)
        release(array)
        found = np.sqrt(np.einsum("ij,ij->i", part, part))
        right = np.isfinite(found) & (found > 0)
        if not right.all():
            row = int(np.argmin(right))
            at = start + row if numbers is None else int(numbers[start + row])
            raise no_direction(source, name, part[row : row + 1], at)
        length[start:stop] = found
    return length


class Rows:
    """Vectors (n, d) and their lengths, each found when it is first asked for.

    Args:
        source: what holds the array.
        name: the array.
        array: as `Arrays.vectors` gives it.
    """

    def __init__(self, source: Arrays, name: str, array: np.ndarray) -> None:
        self.array = array
        self._source, self._name = source, name
        self._length = np.full(len(array), np.nan)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some rows, ascending, in their own type and held in memory, and their lengths.

        Raises:
            FacebenchError: see `unit_rows`.
        """
        whole = rows[-1] - rows[0] + 1 == len(rows)
        part = self.array[rows[0] : rows[-1] + 1] if whole else self.array[rows]
        if mapped(part):
            part = part.copy()
        release(self.array)
        length = self._length[rows]
        if np.isnan(length).any():
            length = self._length[rows] = unit_rows(self._source, self._name, part, rows)
        return part, length


def no_direction(source: Arrays, name: str, part: np.ndarray, row: int) -> FacebenchError:
    """The error about a row of an array that is no vector.

    Args:
        source: what holds the array.
        name: the array.
        part: (1, d) float64, the row: NaN or infinite, only zeros, or too long for float64.
        row: its number.
    """
    if not np.isfinite(part).all():
        return source.fault(name, f"holds NaN or infinity, first in row {row}", "finite numbers")
    if not part.any():
        return source.fault(name, f"has only zeros in row {row}", "a direction in every row")
    return source.fault(name, f"has a length beyond float64 in row {row}", "smaller values")


def release(array: np.ndarray) -> None:
    """Lets go of the memory of a read-only memory-mapped array; what is read again comes back.

    Nothing happens to any other array. So a pass over a file that is larger than the memory
    holds one block of it.
    """
    base = mapped(array)
    if base is not None and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


def mapped(array: np.ndarray) -> mmap.mmap | None:
    """The read-only file that an array is mapped from; None if it is in memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode != "r":
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
