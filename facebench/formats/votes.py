"""FER+: ten people's votes for each face, and the labels that are made of them.

Two files hold votes. ``label.csv``, one in each folder of images, has lines
``fer0000000.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0``. ``fer2013new.csv`` has a line of column
names, then for each row of ``fer2013.csv`` ``Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0``; rows
that show no face have no name. They differ where FER2013 holds an image more than once: there the
list repeats the votes of its first copy, while the folders have votes of each.

Counts are of neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, and
"NF", no face. Rules: Barsoum et al. 2016, "Training deep networks for facial expression recognition
with crowd-sourced label distribution", as their training code settles ties and unknowns.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.formats import text
from facebench.schemes import EXPRESSION_ORDERS

EMOTIONS = EXPRESSION_ORDERS["ferplus"]
COLUMNS = len(EMOTIONS) + 2  # and: unknown, no face
HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)
USAGES = ("Training", "PublicTest", "PrivateTest")
MOST = 10  # people who vote

#: How votes become a target; see `targets`.
MODES = ("majority", "plurality", "plurality-10", "probability", "multi-target")

_NAME = re.compile(r"fer[0-9]{7}\.png")
_FOLDER_LINE = re.compile(r'([^,"]*),"\(([^"]*)\)",(.*)')


class Votes(NamedTuple):
    """The votes of some faces.

    Attributes:
        names: of the images; empty for a row that has none.
        usage: of each row, one of `USAGES`; empty for the votes of a folder, which are of one.
        counts: uint8 [n, 10].
    """

    names: list[str]
    usage: list[str]
    counts: np.ndarray


def _at(path: Path, number: int, found: str, expected: str) -> FacebenchError:
    return FacebenchError(f"{path}: line {number}: found {text.shown(found)}, expected {expected}")


def _counts(path: Path, number: int, cells: list[str]) -> list[int]:
    """Ten whole numbers, together at most `MOST`."""
    if len(cells) != COLUMNS:
        raise _at(path, number, ",".join(cells), f"{COLUMNS} counts of votes")
    for cell in cells:
        if not (cell.isascii() and cell.isdigit() and len(cell) <= 2):
            raise _at(path, number, cell, f"a count of votes from 0 to {MOST}")
    made = [int(cell) for cell in cells]
    if not 0 < sum(made) <= MOST:
        raise _at(path, number, ",".join(cells), f"1 to {MOST} votes in all")
    return made


def _votes(path: Path, names: list[str], usage: list[str], counts: list[list[int]]) -> Votes:
    if not counts:
        raise FacebenchError(f"{path}: holds no votes")
    return Votes(names, usage, np.array(counts, np.uint8))


def read_folder(path: Path) -> Votes:
    """Reads the ``label.csv`` of a folder of images.

    Raises:
        FacebenchError: a line that is not of the form above, another box than the whole image, or
            a name that stands twice; file and line are named.
    """
    names, counts = [], []
    places: dict[str, int] = {}
    for number, line in text.lines(path):
        match = _FOLDER_LINE.fullmatch(line)
        if match is None:
            raise _at(path, number, line, 'NAME,"(0, 0, 48, 48)",COUNTS')
        name, box, rest = match.groups()
        if not _NAME.fullmatch(name):
            raise _at(path, number, name, "a name such as fer0000000.png")
        if box != "0, 0, 48, 48":
            raise _at(path, number, box, "the whole image, 0, 0, 48, 48")
        if name in places:
            raise FacebenchError(
                f"{path}: line {number}: {name} stands in line {places[name]} already"
            )
        places[name] = number
        names.append(name)
        counts.append(_counts(path, number, rest.split(",")))
    return _votes(path, names, [], counts)


def read_list(path: Path) -> Votes:
    """Reads ``fer2013new.csv``, row by row.

    Names ascend, but for four that the release has twice. Of these the row counts whose name is
    between those of its neighbours; the other is given no name.

    Raises:
        FacebenchError: other columns, a line that is not of the form above, or a name that stands
            twice where neither or both rows are in order; file and line are named.
    """
    names, usage, counts = [], [], []
    for number, line in text.lines(path):
        if number == 1:
            if line != HEADER:
                raise _at(path, number, line, HEADER)
            continue
        cells = line.split(",")
        if cells[0] not in USAGES:
            raise _at(path, number, cells[0], " or ".join(USAGES))
        name = cells[1].strip() if len(cells) > 1 else ""
        if name and not _NAME.fullmatch(name):
            raise _at(path, number, name, "a name such as fer0000000.png, or none")
        usage.append(cells[0])
        names.append(name)
        counts.append(_counts(path, number, cells[2:]))
    _drop_misplaced(path, names)
    return _votes(path, names, usage, counts)


def _drop_misplaced(path: Path, names: list[str]) -> None:
    """Takes the name of a row away that bears another row's."""
    named = [row for row, name in enumerate(names) if name]
    rows: dict[str, list[int]] = {}
    for place, row in enumerate(named):
        rows.setdefault(names[row], []).append(place)
    twice = {name: places for name, places in rows.items() if len(places) > 1}
    before = ["", *(names[row] for row in named)]
    after = [*before[2:], "~"]
    for name, places in twice.items():
        right = [p for p in places if before[p] < name < after[p]]
        if len(right) != 1:
            lines = " and ".join(str(named[place] + 2) for place in places)
            raise FacebenchError(f"{path}: {name} stands twice, in lines {lines}")
        for place in places:
            if place != right[0]:
                names[named[place]] = ""


def targets(counts: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """What a rule makes of votes: which faces it keeps, and their shares of the eight emotions.

    =============  ==============================================================================
    mode           target
    =============  ==============================================================================
    majority       the emotion with more than half of the votes; else the face is dropped
    probability    emotions by falling votes until they have 75 % of them or are three, in
                   proportion (FER+'s "crossentropy" trains on these shares, its "probability"
                   draws one of them anew in each epoch); dropped if they have half or less, or if
                   a tie makes them more than three
    multi-target   every emotion with 30 % or more of the votes, in proportion; dropped if they
                   have half or less
    plurality      the emotion with most votes, the first of equal ones; dropped if none has any
    plurality-10   the same of all ten columns; dropped if "unknown" or "no face" has the most
    =============  ==============================================================================

    The first three, which are FER+'s own, first take away every count of 1, and drop faces of
    which "unknown" or "no face" is what most people see, also where it stands in front of them.

    Args:
        counts: whole numbers [n, 10].
        mode: one of `MODES`.

    Returns:
        the kept rows, int32 [k], ascending; and float32 [k, 8], rows that add up to 1.

    Raises:
        UsageError: an unknown mode.
    """
    if mode not in MODES:
        raise UsageError(f"votes: no rule is named {mode!r}: {nearest(mode, MODES)}")
    votes = np.asarray(counts, np.int64)
    many = len(EMOTIONS)
    if mode == "plurality":
        made, fits = _most(votes[:, :many]), votes[:, :many].any(axis=1)
    elif mode == "plurality-10":
        made, fits = _most(votes), votes.any(axis=1)
    else:
        votes = np.where(votes > 1, votes, 0)
        total = votes.sum(axis=1)
        if mode == "majority":
            made, fits = _most(votes) * votes, np.ones(len(votes), bool)
        elif mode == "multi-target":
            made, fits = (
                np.where(10 * votes >= 3 * total[:, None], votes, 0),
                np.ones(len(votes), bool),
            )
        else:
            made, fits = _leading(votes, total)
        fits &= 2 * made.sum(axis=1) > total
    kept = np.flatnonzero(fits & (made.argmax(axis=1) < many)).astype(np.int32)
    shares = made[kept, :many].astype(np.float64)
    return kept, (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def _most(votes: np.ndarray) -> np.ndarray:
    """1 at the first of each row's largest counts, 0 elsewhere."""
    return (np.arange(votes.shape[1]) == votes.argmax(axis=1)[:, None]).astype(np.int64)


def _leading(votes: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The counts that rule ``probability`` takes, and which rows have at most three emotions.

    Equal counts are taken together. "Unknown" or "no face" ends the taking; it is itself taken only
    where no emotion was, so that the row is dropped.
    """
    many = len(EMOTIONS)
    left, made = votes.copy(), np.zeros_like(votes)
    taken, number = np.zeros(len(votes), np.int64), np.zeros(len(votes), np.int64)
    valid = np.ones(len(votes), bool)
    for _ in range(3):  # each round takes at least one
        active = valid & (4 * taken < 3 * total) & (number < 3)
        top = left.max(axis=1)
        equal = (left == top[:, None]) & active[:, None]
        emotions = equal[:, :many]
        made[:, :many] += emotions * top[:, None]
        taken += emotions.sum(axis=1) * top
        number += emotions.sum(axis=1)
        other = equal[:, many:].any(axis=1)
        alone = other & ~made[:, :many].any(axis=1)
        made[alone, many] = top[alone]
        valid &= ~other
        left[equal] = 0
    return made, number <= 3
