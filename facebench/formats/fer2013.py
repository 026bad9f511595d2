"""FER2013's ``fer2013.csv``: 48 x 48 grey images as text, a class and a part of the challenge."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facebench.errors import FacebenchError
from facebench.formats import text
from facebench.formats.votes import USAGES
from facebench.schemes import EXPRESSION_ORDERS

SIDE = 48
HEADER = "emotion,pixels,Usage"
LINE = 4 * SIDE * SIDE + 100  # bytes

_PIXELS = re.compile(r"[0-9]{1,3}( [0-9]{1,3})*")


class Row(NamedTuple):
    """One image.

    Attributes:
        expression: place in ``EXPRESSION_ORDERS["fer2013"]``.
        pixels: uint8 [48, 48], grey.
        usage: ``Training``, ``PublicTest`` or ``PrivateTest``.
    """

    expression: int
    pixels: np.ndarray
    usage: str


def read(path: Path) -> Iterator[Row]:
    """The rows of the file, in their order.

    Raises:
        FacebenchError: another first line, or a line that is not a class, 2,304 numbers from 0 to
            255 and a part; file and line are named.
    """
    with text.open_regular(path) as handle:
        number = 0
        while raw := handle.readline(LINE + 1):
            number += 1
            line = raw.decode("latin-1").rstrip("\r\n")
            if number == 1:
                if line != HEADER:
                    raise _at(path, 1, line, HEADER)
                continue
            if len(raw) > LINE:
                raise _at(path, number, line, f"at most {LINE} bytes")
            yield _row(path, number, line)


def _row(path: Path, number: int, line: str) -> Row:
    cells = line.split(",")
    if len(cells) != 3:
        raise _at(path, number, line, HEADER)
    emotion, pixels, usage = cells[0], cells[1].strip('"'), cells[2]
    classes = len(EXPRESSION_ORDERS["fer2013"])
    if not (len(emotion) == 1 and emotion in "0123456789"[:classes]):
        raise _at(path, number, emotion, f"a class from 0 to {classes - 1}")
    if usage not in USAGES:
        raise _at(path, number, usage, " or ".join(USAGES))
    if not _PIXELS.fullmatch(pixels):
        raise _at(path, number, pixels, "whole numbers, one space between")
    values = np.fromstring(pixels, np.int64, sep=" ")
    if len(values) != SIDE * SIDE or values.max() > 255:
        found = f"{len(values)} pixels up to {values.max()}"
        raise _at(path, number, found, f"{SIDE * SIDE} from 0 to 255")
    return Row(int(emotion), values.astype(np.uint8).reshape(SIDE, SIDE), usage)


def _at(path: Path, number: int, found: str, expected: str) -> FacebenchError:
    return FacebenchError(f"{path}: line {number}: found {text.shown(found)}, expected {expected}")
