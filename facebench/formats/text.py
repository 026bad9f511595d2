"""Text files line by line, and columns of whole numbers at the speed of the disk."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from facebench import files
from facebench.errors import FacebenchError

LINE = 4096  # bytes that a line of a list has at most
DIGITS = 18  # of a whole number; every such number fits into 64 bits
CHUNK = 1 << 18  # bytes of a block of numbers: what NumPy makes of it stays in the cache

_ENDS, _GAPS = re.compile(rb"[ \t]*\r?\n[ \t]*"), re.compile(rb"[ \t]+")


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file to be read, without a buffer's delay.

    Raises:
        FacebenchError: missing, unreadable, a folder, a pipe or a device.
    """
    with files.explained(path, "reading"):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            os.close(handle)
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            raise FacebenchError(f"{path}: reading failed: it is no regular file")
        return os.fdopen(handle, "rb")


def shown(text: str) -> str:
    """A token of a file as an error message shows it."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""The lines of a text file with their numbers from 1; blank lines may only stand at the end.

    Args:
        path: UTF-8 text, lines ended by ``\n`` or ``\r\n``.

    Raises:
        FacebenchError: unreadable, not UTF-8, a line longer than `LINE`, a blank line before
            others.
    """
    blank = 0
    with open_regular(path) as file:
        number = 0
        while raw := file.readline(LINE + 1):
            number += 1
            if len(raw) > LINE:
                raise FacebenchError(
                    f"{path}: line {number} is longer than {LINE} bytes; is it the right file?"
                )
            try:
                line = raw.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise FacebenchError(
                    f"{path}: line {number} is no UTF-8 text (byte {error.start}); is it the right "
                    "file?"
                ) from error
            if not line.strip():
                blank = blank or number
                continue
            if blank:
                raise FacebenchError(
                    f"{path}: line {blank} is blank, but line {number} is not; expected one entry "
                    "in each line"
                )
            yield number, line


def count_lines(path: Path) -> int:
    """How many lines a file has; the last need not be ended."""
    count, last = 0, b"\n"
    with open_regular(path) as file:
        while block := file.read(CHUNK):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


def whole_numbers(path: Path, columns: int) -> Iterator[np.ndarray]:
    """Reads lines of whole numbers, divided by spaces or tabs, block after block.

    Args:
        path: the file.
        columns: numbers in each line.

    Yields:
        int64 [k, columns], in the order of the file; numbers are not negative.

    Raises:
        FacebenchError: a line with more, fewer or other than `columns` whole numbers of at most
            18 digits; it is named with its number.
    """
    done, rest = 0, b""
    with open_regular(path) as file:
        while True:
            block = file.read(CHUNK)
            cut = block.rfind(b"\n") + 1
            text = rest + block[:cut] if cut else b""
            rest = block[cut:] if cut else rest + block
            if not block:
                text, rest = (rest + b"\n" if rest else b""), b""
            if text:
                numbers = _numbers(text, columns)
                if numbers is None:
                    raise _bad_line(path, text, columns, done)
                done += len(numbers)
                yield numbers
            if len(rest) > LINE:
                raise FacebenchError(
                    f"{path}: line {done + 1} is longer than {LINE} bytes, expected {columns} "
                    "whole numbers"
                )
            if not block:
                return


def _numbers(text: bytes, columns: int) -> np.ndarray | None:
    """The numbers of whole lines, int64 [k, columns]; None if a line is not as it should be."""
    numbers = _regular(text, columns)
    if numbers is None:  # perhaps several spaces, spaces at an end, or \r\n
        text = _ENDS.sub(b"\n", text.lstrip(b" \t"))
        numbers = _regular(_GAPS.sub(b" ", text), columns)
    return numbers


def _regular(text: bytes, columns: int) -> np.ndarray | None:
    """`_numbers` of lines with one space or tab between numbers and nothing else."""
    data = np.frombuffer(text, np.uint8)
    value = data - np.uint8(48)  # wraps round: only digits are below 10
    stops = np.flatnonzero(value > 9)
    length = np.diff(stops, prepend=-1) - 1
    if len(stops) % columns or length.min() < 1 or (longest := int(length.max())) > DIGITS:
        return None
    after = data[stops].reshape(-1, columns)
    if (after[:, -1] != 10).any() or not ((after[:, :-1] == 32) | (after[:, :-1] == 9)).all():
        return None
    value = np.concatenate([np.zeros(longest, np.uint8), value])  # no place is before the first
    place = stops + longest
    number = np.zeros(len(stops), np.int64)
    for k in range(longest):  # the last digits of all numbers, then those before them
        place -= 1
        digit = value[place]
        digit *= length > k
        number += digit.astype(np.int32 if k < 9 else np.int64) * 10**k
    return number.reshape(-1, columns)


def _bad_line(path: Path, text: bytes, columns: int, done: int) -> FacebenchError:
    """Names the first of some lines that is not `columns` whole numbers."""
    for number, line in enumerate(text.split(b"\n")[:-1], done + 1):
        tokens = line.removesuffix(b"\r").replace(b"\t", b" ").split(b" ")
        tokens = [token for token in tokens if token]
        wrong = [t for t in tokens if not t.isdigit() or len(t) > DIGITS]
        if len(tokens) != columns or wrong:
            found = shown((wrong[0] if wrong else line).decode("latin-1"))
            return FacebenchError(
                f"{path}: line {number}: found {found}, expected {columns} whole numbers of at "
                f"most {DIGITS} digits, divided by spaces or tabs"
            )
    raise AssertionError("every line is right")
