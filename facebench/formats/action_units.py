"""The codes of action unit sets, frame by frame, and the lists that a user puts beside a release.

A session is one coded video: ``F001/T1`` of BP4D, ``SN001`` of DISFA. The coders counted frames
from 1, so frame 1 is the first of the video; images of the releases may be counted from 0
(`facebench.data.frames` finds out). A code is 0 or 1, or a grade 0 to 5, or unknown.

BP4D and BP4D+ have one ``F001_T1.csv`` for each session: a line of column names, a name of the
column of frames and then the numbers of action units, and lines of a frame and its codes, 9 where
nobody could tell. Their grades stand in a file for each action unit, ``AU06/F001_T1_AU06.csv``,
lines ``frame,grade``. DISFA has ``SN001/SN001_au1.txt``, lines ``frame,grade``, for each of twelve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facebench.errors import FacebenchError
from facebench.formats import text

UNKNOWN = -1  # a code that nobody could tell; 9 in the files
OCCURRENCE = {"0": 0, "1": 1, "9": UNKNOWN}
GRADES = {str(grade): grade for grade in range(6)}
MOST = 1 << 22  # lines of a list, or of a file of codes


@dataclass(frozen=True)
class Coding:
    """The codes of one session.

    Attributes:
        session: its name; the subject, or ``subject/task``.
        frames: int64 [n], ascending, counted from 1.
        codes: int8 [n, A]; `UNKNOWN` where nobody could tell.
    """

    session: str
    frames: np.ndarray
    codes: np.ndarray

    @property
    def subject(self) -> str:
        """Whom it shows."""
        return self.session.partition("/")[0]

    def rows(self, keep: np.ndarray) -> Coding:
        """Some of its frames, by a mask [n]."""
        return Coding(self.session, self.frames[keep], self.codes[keep])


def fault(path: Path, number: int, found: str, expected: str) -> FacebenchError:
    """What is wrong with a line."""
    return FacebenchError(f"{path}: line {number}: found {text.shown(found)}, expected {expected}")


def frame(path: Path, number: int, token: str) -> int:
    """The number of a frame, counted from 1.

    Raises:
        FacebenchError: it is none.
    """
    token = token.strip()
    if not (token.isascii() and token.isdigit() and len(token) < 10 and int(token)):
        raise fault(path, number, token, "the number of a frame, counted from 1")
    return int(token)


def _code(path: Path, number: int, token: str, known: Mapping[str, int], au: int) -> int:
    found = known.get(token.strip())
    if found is None:
        expected = f"a code of action unit {au}: {', '.join(known)}"
        raise fault(path, number, token, expected)
    return found


def _ascending(path: Path, number: int, frames: Sequence[int]) -> None:
    if len(frames) > 1 and frames[-1] <= frames[-2]:
        raise fault(path, number, str(frames[-1]), f"a frame after {frames[-2]}: each stands once")
    if len(frames) > MOST:
        raise FacebenchError(f"{path}: more than {MOST} lines; is it the right file?")


def _made(
    path: Path, session: str, frames: list[int], codes: list[list[int]], columns: int
) -> Coding:
    if not frames:
        raise FacebenchError(f"{path}: no frame is coded; get that file of the release again")
    table = np.array(codes, np.int8).reshape(len(frames), columns)
    return Coding(session, np.array(frames, np.int64), table)


def occurrence(path: Path, session: str, au: Sequence[int]) -> Coding:
    """Reads the occurrence of action units in a session of BP4D or BP4D+.

    Columns are found by their names, so that the 99 columns of BP4D and the 35 of BP4D+ are read
    alike.

    Args:
        path: ``AU_OCC/F001_T1.csv``.
        session: what to call it.
        au: numbers of the action units to read, in this order.

    Raises:
        FacebenchError: unreadable; an action unit without a column; a line with another number of
            cells; a code that is not 0, 1 or 9; frames that do not ascend.
    """
    places: list[int] = []
    width = 0
    frames: list[int] = []
    codes: list[list[int]] = []
    for number, line in text.lines(path):
        cells = line.split(",")
        if not places:
            width, heads = len(cells), [cell.strip() for cell in cells[1:]]
            for unit in au:
                if heads.count(str(unit)) != 1:
                    raise FacebenchError(
                        f"{path}: line 1: {heads.count(str(unit))} columns of action unit {unit}, "
                        "expected one; line 1 has the numbers of the action units"
                    )
                places.append(1 + heads.index(str(unit)))
            continue
        if len(cells) != width:
            raise fault(path, number, line, f"{width} cells, as line 1 has")
        frames.append(frame(path, number, cells[0]))
        _ascending(path, number, frames)
        codes.append(
            [_code(path, number, cells[p], OCCURRENCE, a) for p, a in zip(places, au, strict=True)]
        )
    return _made(path, session, frames, codes, len(au))


def grades(paths: Mapping[int, Path], session: str, unknown: bool) -> Coding:
    """Reads the grades of a session, a file of lines ``frame,grade`` for each action unit.

    A line of column names, whose first cell is no number above 0, is passed over.

    Args:
        paths: action unit to its file, in the order of the columns.
        session: what to call it.
        unknown: whether 9 stands for a grade that nobody could tell.

    Raises:
        FacebenchError: unreadable; a line that is not of that form; a grade that is not 0 to 5;
            files that do not code the same frames.
    """
    known = {**GRADES, "9": UNKNOWN} if unknown else GRADES
    columns = {au: _grades(path, au, known) for au, path in paths.items()}
    first, start = next(iter(paths.items()))
    frames = columns[first][0]
    for au, path in paths.items():
        if (found := columns[au][0]) != frames:
            here, there = sorted(set(found) - set(frames)), sorted(set(frames) - set(found))
            which = f"codes frame {here[0]}, which" if here else f"lacks frame {there[0]}, which"
            verb = "does not" if here else "codes"
            raise FacebenchError(
                f"{path}: {len(found)} frames, and {which} {start.name} {verb} ({len(frames)} "
                "frames); get both files of the release again"
            )
    codes = [list(row) for row in zip(*(columns[au][1] for au in paths), strict=True)]
    return _made(start, session, list(frames), codes, len(paths))


def _grades(path: Path, au: int, known: Mapping[str, int]) -> tuple[list[int], list[int]]:
    frames: list[int] = []
    codes: list[int] = []
    for number, line in text.lines(path):
        cells = line.split(",")
        if len(cells) != 2:
            raise fault(path, number, line, "`frame,grade`")
        head = cells[0].strip()
        if number == 1 and not (head.isascii() and head.isdigit() and head.strip("0")):
            continue
        frames.append(frame(path, number, cells[0]))
        _ascending(path, number, frames)
        codes.append(_code(path, number, cells[1], known, au))
    return frames, codes


# ------------------------------------------------------------- what a user puts beside a release


@dataclass(frozen=True)
class Table:
    """Numbers of frames, such as boxes.

    Attributes:
        path: the file.
        values: float32 [n, c].
        place: (session, frame) to its row.
    """

    path: Path
    values: np.ndarray
    place: Mapping[tuple[str, int], int]

    def row(self, session: str, frame: int) -> np.ndarray | None:
        """The numbers of a frame, float32 [c]; None if it has none."""
        at = self.place.get((session, frame))
        return None if at is None else self.values[at]


def table(path: Path, columns: Sequence[str]) -> Table:
    """Reads a list of frames: a line ``session,frame,COLUMN,...``, then one line for each.

    Raises:
        FacebenchError: unreadable; other columns; a line with another number of cells; a number
            that is not finite; a frame that stands twice.
    """
    values: list[list[float]] = []
    place: dict[tuple[str, int], int] = {}
    for number, cells in _listed(path, columns):
        where = cells[0], frame(path, number, cells[1])
        if where in place:
            raise FacebenchError(f"{path}: line {number}: frame {where[1]} of {where[0]} again")
        try:
            row = [float(cell) for cell in cells[2:]]
        except ValueError:
            row = [math.nan]
        if not all(abs(value) < 1e6 for value in row):
            raise fault(path, number, ",".join(cells), f"{len(columns)} numbers, in pixels")
        place[where] = len(values)
        values.append(row)
    return Table(path, np.array(values, np.float32).reshape(-1, len(columns)), place)


def frames_of(path: Path) -> set[tuple[str, int]]:
    """Reads a list of frames ``session,frame`` without further columns.

    Raises:
        FacebenchError: as `table`.
    """
    return {(cells[0], frame(path, number, cells[1])) for number, cells in _listed(path, ())}


BOX = ("x0", "y0", "x1", "y1")
FIVE = tuple(f"{axis}{i}" for i in range(1, 6) for axis in "xy")


def beside(root: Path) -> tuple[Table | None, Table | None]:
    """The boxes and the five points that a user put beside a release; None where there are none.

    ``boxes.csv`` has the columns ``session,frame,x0,y0,x1,y1``, ``points.csv`` has
    ``session,frame,x1,y1,...,x5,y5``: pixels of the image, the centre of its top-left pixel being
    (0, 0).

    Raises:
        FacebenchError: as `table`.
    """
    boxes, points = root / "boxes.csv", root / "points.csv"
    return (
        table(boxes, BOX) if boxes.is_file() else None,
        table(points, FIVE) if points.is_file() else None,
    )


def left_out(root: Path) -> set[tuple[str, int]]:
    """The frames that a user wants left out of a release, (session, frame): ``left_out.csv``.

    Raises:
        FacebenchError: as `table`.
    """
    path = root / "left_out.csv"
    return frames_of(path) if path.is_file() else set()


def _listed(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line behind the line of column names, which is checked."""
    expected = ["session", "frame", *columns]
    for number, line in text.lines(path):
        cells = [cell.strip() for cell in line.split(",")]
        if number == 1:
            if cells != expected:
                raise fault(path, number, line, f"the columns `{','.join(expected)}`")
            continue
        if len(cells) != len(expected):
            raise fault(path, number, line, f"{len(expected)} cells")
        if number > MOST:
            raise FacebenchError(f"{path}: more than {MOST} lines; is it the right file?")
        yield number, cells
