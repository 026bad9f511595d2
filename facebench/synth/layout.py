"""Tiles and words on paper: how sheets are set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from facebench.synth.numeric import Array

INK, FAINT, PAPER = (38, 38, 42), (120, 120, 126), (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_DUPLEX


@dataclass(frozen=True)
class Row:
    """A row of tiles with a word before it and a word under or over each of them."""

    title: str
    tiles: Sequence[Array]
    words: Sequence[str] = ()


def write(sheet: Array, words: str, x: int, y: int, height: float, colour: Sequence[int]) -> None:
    """Writes text whose capitals are `height` px high, its baseline's left end at (x, y)."""
    scale = height / 21.0
    cv2.putText(sheet, words, (x, y), _FONT, scale, tuple(colour), 1, cv2.LINE_AA)


def text_width(words: str, height: float) -> int:
    """How wide words are, px."""
    return int(cv2.getTextSize(words, _FONT, height / 21.0, 1)[0][0])


def _fitted(words: str, height: float, width: int) -> float:
    """The height at which a text is no wider than `width`, at most `height`."""
    wide = text_width(words, height)
    return height if wide <= width else height * width / wide


def arrange(rows: Sequence[Row], gap: int, title: str = "") -> Array:
    """Puts rows of equal square tiles on paper; words stand over the tiles.

    Rows without words stand close to the one above, under its words.
    """
    size = rows[0].tiles[0].shape[0]
    columns = max(len(row.tiles) for row in rows)
    letter = max(size / 13.0, 7.0)
    margin = round(max(size / 8.0, 8.0))
    left = margin + (
        max(text_width(row.title, letter) for row in rows) + round(letter)
        if any(row.title for row in rows)
        else 0
    )
    line = round(letter * 2.1)
    top = margin + (round(letter * 2.6) if title else 0)
    height = top + sum(size + gap + (line if row.words else 0) for row in rows) - gap + margin
    width = left + columns * (size + gap) - gap + margin
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    if title:
        write(sheet, title, left, margin + round(letter * 1.1), letter * 1.25, INK)
    y = top
    for row in rows:
        if row.words:
            y += line
        for c, tile in enumerate(row.tiles):
            x = left + c * (size + gap)
            sheet[y : y + size, x : x + size] = tile
            if c < len(row.words):
                tall = _fitted(row.words[c], letter, size)
                write(sheet, row.words[c], x, y - round(letter * 0.6), tall, INK)
        if row.title:
            write(sheet, row.title, margin, y + round((size + letter) / 2), letter, INK)
        y += size + gap
    return sheet


def strip(tiles: Sequence[Array], words: Sequence[str], gap: int) -> Array:
    """Tiles in a row under a number and a name."""
    size = tiles[0].shape[0]
    letter = max(size / 13.0, 7.0)
    line, below = round(letter * 2.2), round(letter * 0.8)
    out = np.full((line + size + below, len(tiles) * (size + gap) - gap, 3), PAPER, np.uint8)
    write(out, words[0], 0, line - round(letter * 0.7), letter * 1.1, INK)
    x = text_width("AU 88", letter * 1.1) + round(letter)
    write(out, words[1], x, line - round(letter * 0.7), letter * 1.1, FAINT)
    for k, tile in enumerate(tiles):
        x = k * (size + gap)
        out[line : line + size, x : x + size] = tile
        cv2.rectangle(out, (x, line), (x + size - 1, line + size - 1), (205, 205, 210), 1)
    return out


def difference(a: Array, b: Array, gain: float = 3.0) -> Array:
    """Where two pictures differ: white where they do not, darker the more they do."""
    d = np.abs(a.astype(np.int16) - b).max(axis=2)
    grey = 255 - np.minimum(d * gain, 255.0)
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
