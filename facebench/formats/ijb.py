"""The meta files of IJB-B and IJB-C in the form that insightface gave them.

In ``meta``: ``ijbc_face_tid_mid.txt`` has ``file template media`` for each face;
``ijbc_name_5pts_score.txt`` has ``file x1 y1 ... x5 y5 score`` in the same order, which is checked
here; ``ijbc_template_pair_label.txt`` has ``template template 0|1`` (15,658,489 lines);
``ijbc_1N_gallery_G1.csv`` and the like have a line of column names, then TEMPLATE_ID, SUBJECT_ID,
FILENAME and more columns, several lines for a template. Points are those of the loose crops, as
they stand in the file.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.formats import text

KINDS = ("ijbb", "ijbc")


@dataclasses.dataclass(frozen=True)
class Ijb:
    """Faces, templates and the pairs of templates to compare.

    Attributes:
        names: of the n images, such as ``1.jpg``.
        template: int64 [n].
        media: int64 [n]; a still has its own.
        points: float64 [n, 5, 2], (x, y) in pixels of the loose crop.
        score: float64 [n], of the face detector.
        pairs: int32 [m, 2], templates.
        same: bool [m].
    """

    names: list[str]
    template: np.ndarray
    media: np.ndarray
    points: np.ndarray
    score: np.ndarray
    pairs: np.ndarray
    same: np.ndarray


@dataclasses.dataclass(frozen=True)
class Search:
    """A gallery or the probes of identification, line by line.

    Attributes:
        template: int64 [n]; has several lines if it has several images.
        subject: int64 [n].
        names: of the n images.
    """

    template: np.ndarray
    subject: np.ndarray
    names: list[str]


def read(folder: Path | str, kind: str) -> Ijb:
    """Reads the verification protocol.

    Args:
        folder: ``meta`` of the release.
        kind: ``ijbb`` or ``ijbc``, with which the files' names begin.

    Raises:
        UsageError: an unknown kind.
        FacebenchError: a file is missing; a line that is not as it should be, by its number; a
            point or score that is not finite; points in another order than the faces; a pair of
            a template that has no face.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no IJB set {kind!r}: {nearest(kind, KINDS)}")
    faces = Path(folder) / f"{kind}_face_tid_mid.txt"
    names, template, media = _faces(faces)
    points, score = _points(Path(folder) / f"{kind}_name_5pts_score.txt", names, faces)
    path = Path(folder) / f"{kind}_template_pair_label.txt"
    pairs, same = read_pairs(path)
    _check_templates(path, pairs, template, faces)
    return Ijb(names, template, media, points, score, pairs, same)


def _token_fault(path: Path, number: int, found: str, expected: str) -> FacebenchError:
    return FacebenchError(f"{path}: line {number}: found {text.shown(found)}, expected {expected}")


def _name(path: Path, number: int, token: str) -> str:
    if not token.isprintable() or {*"\\\0"} & {*token} or {"", ".", ".."} & {*token.split("/")}:
        raise _token_fault(path, number, token, "a file of the release")
    return token


def _whole(path: Path, number: int, token: str) -> int:
    if not (token.isascii() and token.isdigit() and len(token) < 10):
        raise _token_fault(path, number, token, "a whole number of at most 9 digits")
    return int(token)


def _faces(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    names, rows = [], []
    for number, line in text.lines(path):
        tokens = line.split()
        if len(tokens) != 3:
            raise _token_fault(path, number, line, "`file template media`")
        names.append(_name(path, number, tokens[0]))
        rows.append((_whole(path, number, tokens[1]), _whole(path, number, tokens[2])))
    if not rows:
        raise FacebenchError(f"{path}: is empty, expected `file template media` for each face")
    table = np.array(rows, np.int64)
    return names, table[:, 0].copy(), table[:, 1].copy()


def _points(path: Path, names: list[str], faces: Path) -> tuple[np.ndarray, np.ndarray]:
    table = np.empty((len(names), 11))
    count = 0
    for number, line in text.lines(path):
        tokens = line.split()
        if len(tokens) != 12:
            raise _token_fault(path, number, line, "`file x1 y1 ... x5 y5 score`, 12 columns")
        if count == len(names):
            raise FacebenchError(f"{path}: more lines than the {count} of {faces.name}")
        if tokens[0] != names[count]:
            raise _token_fault(
                path,
                number,
                tokens[0],
                f"{text.shown(names[count])} as in that line of {faces.name}",
            )
        try:
            table[count] = tokens[1:]
        except ValueError:
            raise _token_fault(path, number, line, "11 numbers after the file") from None
        if not math.isfinite(table[count].sum()):
            raise _token_fault(path, number, line, "finite numbers")
        count += 1
    if count != len(names):
        raise FacebenchError(f"{path}: {count} lines, {faces.name} has {len(names)}")
    return table[:, :10].reshape(-1, 5, 2), table[:, 10].copy()


def read_pairs(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the list of pairs of templates, ``template template 0|1``.

    Returns:
        int32 [m, 2] and bool [m].

    Raises:
        FacebenchError: a line that is not so, by its number.
    """
    path = Path(path)
    count = text.count_lines(path)
    pairs, same, done = np.empty((count, 2), np.int32), np.empty(count, bool), 0
    for rows in text.whole_numbers(path, 3):
        wrong = (rows[:, 2] > 1) | (rows[:, :2] >= 1 << 31).any(axis=1)
        if wrong.any():
            at = int(wrong.argmax())
            found = " ".join(str(v) for v in rows[at])
            raise _token_fault(path, done + at + 1, found, "two templates below 2^31, then 0 or 1")
        if done + len(rows) > count:
            raise FacebenchError(f"{path}: it became longer while it was read; read it again")
        pairs[done : done + len(rows)] = rows[:, :2]
        same[done : done + len(rows)] = rows[:, 2] == 1
        done += len(rows)
    if not done:
        raise FacebenchError(f"{path}: is empty, expected `template template 0|1` for each pair")
    return pairs[:done], same[:done]


def _check_templates(path: Path, pairs: np.ndarray, template: np.ndarray, faces: Path) -> None:
    """Every template of a pair has a face."""
    known = np.unique(template)
    for begin in range(0, len(pairs), 1 << 20):
        block = pairs[begin : begin + (1 << 20)]
        place = np.minimum(np.searchsorted(known, block), len(known) - 1)
        if (strange := known[place] != block).any():
            row, column = np.argwhere(strange)[0]
            raise _token_fault(
                path, begin + row + 1, str(block[row, column]), f"a template of {faces.name}"
            )


def search(path: Path | str) -> Search:
    """Reads a gallery or the probes of identification (``..._1N_....csv``).

    Raises:
        FacebenchError: no line of column names that begins with TEMPLATE_ID, SUBJECT_ID, FILENAME;
            a line without them; a template of two subjects.
    """
    path = Path(path)
    names, rows = [], []
    subjects: dict[int, int] = {}
    for number, line in text.lines(path):
        cells = [cell.strip().strip('"') for cell in line.split(",")]
        if number == 1:
            if [cell.upper() for cell in cells[:3]] != ["TEMPLATE_ID", "SUBJECT_ID", "FILENAME"]:
                raise _token_fault(path, 1, line, "columns TEMPLATE_ID,SUBJECT_ID,FILENAME,...")
            continue
        if len(cells) < 3:
            raise _token_fault(path, number, line, "template, subject, file, ...")
        template, subject = _whole(path, number, cells[0]), _whole(path, number, cells[1])
        if subjects.setdefault(template, subject) != subject:
            raise _token_fault(
                path,
                number,
                cells[1],
                f"subject {subjects[template]}, which template {template} shows above",
            )
        names.append(_name(path, number, cells[2]))
        rows.append((template, subject))
    if not rows:
        raise FacebenchError(f"{path}: has no line below the names of its columns")
    table = np.array(rows, np.int64)
    return Search(table[:, 0].copy(), table[:, 1].copy(), names)
