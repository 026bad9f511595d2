"""Pair lists: which images a verification set compares, in which fold, and whether they match.

Every reader gives `Pair`s in the order of evaluation, folds one after the other, images without
their suffix. Sources of the layouts: LFW's README and FaceNet's ``pairs.txt``; CFP's Readme;
CALFW, CPLFW, AgeDB and RFW as FaceX-Zoo's ``pairs_parser.py`` reads them; SLLFW's and YTF's pages.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.formats import matlab
from facebench.formats.text import lines, shown

FOLDS = 10
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


class Pair(NamedTuple):
    """Two images to compare.

    Attributes:
        fold: from 0.
        first: name of an image without its suffix, such as ``Ann_Lee/Ann_Lee_0001``.
        second: of the other.
        same: whether they show one person.
    """

    fold: int
    first: str
    second: str
    same: bool


class Person(NamedTuple):
    """A line of LFW's ``people.txt``: fold (from 0), name, number of images."""

    fold: int
    name: str
    images: int


def _at(path: Path, number: int, found: str, expected: str) -> FacebenchError:
    return FacebenchError(f"{path}: line {number}: found {shown(found)}, expected {expected}")


def _sound(token: str) -> bool:
    """Whether a token may be part of a file's name."""
    bad = token in ("", ".", "..") or {*"/\\"} & {*token}
    return not bad and len(token) <= 200 and token.isprintable()


def _name(path: Path, number: int, token: str) -> str:
    """A token that is going to be part of a file's name."""
    if not _sound(token):
        raise _at(path, number, token, "a name without slashes")
    return token


def _image(path: Path, number: int, token: str, parts: int | None = None) -> str:
    """A relative path of an image, without its suffix."""
    stem, suffix = posixpath.splitext(token)
    names = (stem if suffix.lower() in SUFFIXES else token).split("/")
    if parts is not None and len(names) != parts:
        raise _at(path, number, token, "/".join(["folder"] * (parts - 1) + ["image"]))
    return "/".join(_name(path, number, name) for name in names)


def _whole(path: Path, number: int, token: str, least: int = 0, most: int = 10**6) -> int:
    if not (token.isascii() and token.isdigit() and len(token) < 8 and least <= int(token) <= most):
        raise _at(path, number, token, f"a whole number from {least} to {most}")
    return int(token)


def _tokens(line: str) -> list[str]:
    """Columns: divided by tabs if there are any (a name may have spaces then), else by spaces."""
    return [t.strip() for t in line.strip().split("\t")] if "\t" in line.strip() else line.split()


def _named_pair(path: Path, number: int, line: str, same: bool | None = None) -> Pair:
    """``name i j`` or ``name1 i name2 j``, as LFW and RFW write them; the fold is left at 0."""
    tokens = _tokens(line)
    expected = {True: "`name i j`", False: "`name1 i name2 j`", None: "3 or 4 columns"}[same]
    if len(tokens) not in (3, 4) or same not in (None, len(tokens) == 3):
        raise _at(path, number, line, f"{expected} here")
    if len(tokens) == 3:
        tokens.insert(2, tokens[0])
    elif tokens[0] == tokens[2]:
        raise _at(path, number, line, "two different people in 4 columns")
    images = [
        f"{_name(path, number, name)}/{name}_{_whole(path, number, i, 1, 9999):04d}"
        for name, i in (tokens[:2], tokens[2:])
    ]
    return Pair(0, images[0], images[1], tokens[0] == tokens[2])


def _folded(path: Path, pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs in `FOLDS` contiguous folds of one size."""
    if not pairs or len(pairs) % FOLDS:
        raise FacebenchError(
            f"{path}: {len(pairs)} pairs, expected a multiple of {FOLDS}, the number of folds"
        )
    size = len(pairs) // FOLDS
    return [pair._replace(fold=i // size) for i, pair in enumerate(pairs)]


def lfw(path: Path | str) -> list[Pair]:
    """Reads ``pairs.txt``, ``pairsDevTrain.txt`` or ``pairsDevTest.txt`` of LFW.

    Line 1 holds the number of folds (none: 1) and that of matching pairs in each; every fold has
    as many lines ``name i j``, then as many ``name1 i name2 j``. Columns are divided by tabs or
    spaces; a name with spaces is only possible between tabs.

    Raises:
        FacebenchError: a line that is not as it should be at its place, fewer or more lines than
            line 1 says; file and line are named.
    """
    path = Path(path)
    rows = lines(path)
    number, line = next(rows, (1, ""))
    counts = _tokens(line)
    if len(counts) not in (1, 2):
        raise _at(path, number, line, "`folds pairs` or `pairs`")
    folds = _whole(path, number, counts[0], 1, 1000) if len(counts) == 2 else 1
    size = _whole(path, number, counts[-1], 1)
    pairs: list[Pair] = []
    for number, line in rows:
        fold, place = divmod(len(pairs), 2 * size)
        if fold == folds:
            raise _at(path, number, line, f"the end of the file after {folds} x 2 x {size} pairs")
        pairs.append(_named_pair(path, number, line, place < size)._replace(fold=fold))
    if len(pairs) != folds * 2 * size:
        raise FacebenchError(
            f"{path}: {len(pairs)} pairs, expected {folds} x 2 x {size} as line 1 says"
        )
    return pairs


def people(path: Path | str) -> list[Person]:
    """Reads ``people.txt``, ``peopleDevTrain.txt`` or ``peopleDevTest.txt`` of LFW.

    Line 1 of ``people.txt`` is the number of folds, each of which begins with its number of
    people; that of the other two is the number of people. People stand as ``name images``.

    Raises:
        FacebenchError: as `lfw`.
    """
    path = Path(path)
    rows = list(lines(path))
    counts = [(number, line) for number, line in rows if len(_tokens(line)) == 1]
    if not rows or not counts or counts[0][0] != rows[0][0]:
        raise _at(path, 1, rows[0][1] if rows else "", "a number of folds or of people")
    heads = counts[1:] or counts
    if counts[1:] and _whole(path, 1, rows[0][1].strip(), 1, 1000) != len(heads):
        raise FacebenchError(
            f"{path}: {len(heads)} folds begin, expected {rows[0][1].strip()} as line 1 says"
        )
    found: list[Person] = []
    for fold, (at, line) in enumerate(heads):
        end = heads[fold + 1][0] if fold + 1 < len(heads) else rows[-1][0] + 1
        size = _whole(path, at, line.strip(), 1)
        if end - at - 1 != size:
            raise FacebenchError(f"{path}: line {at} says {size} people, {end - at - 1} follow")
        for number, row in rows[at : end - 1]:
            tokens = _tokens(row)
            if len(tokens) != 2:
                raise _at(path, number, row, "`name images`")
            name = _name(path, number, tokens[0])
            found.append(Person(fold, name, _whole(path, number, tokens[1], 1, 9999)))
    names = Counter(person.name for person in found)
    if len(names) != len(found):
        raise FacebenchError(f"{path}: {shown(names.most_common(1)[0][0])} stands twice")
    return found


def rfw(path: Path | str) -> list[Pair]:
    """Reads ``{Race}_pairs.txt`` of RFW: LFW's columns without line 1, ten contiguous folds.

    Raises:
        FacebenchError: a line that has not 3 or 4 columns, pairs that do not make ten folds.
    """
    path = Path(path)
    return _folded(path, [_named_pair(path, number, line) for number, line in lines(path)])


def two_lines(path: Path | str, kind: str) -> list[Pair]:
    """Reads a list that has two lines for each pair, without a header.

    ``calfw`` and ``cplfw``: lines ``image label``, first all matching pairs (a label other than
    0), then as many others (0). A tenth of each, 300 and 300, makes a fold, as everybody
    evaluates them; in the file's own order a fold would have one class. ``sllfw``: lines
    ``name/image``, matching where the names are equal, ten contiguous folds.

    Args:
        path: the file.
        kind: ``calfw``, ``cplfw`` or ``sllfw``.

    Raises:
        UsageError: an unknown kind.
        FacebenchError: a line that is not as it should be, an odd number of lines, two labels in
            one pair, pairs in another order, pairs that do not make ten folds.
    """
    path = Path(path)
    if kind not in ("calfw", "cplfw", "sllfw"):
        raise UsageError(
            f"no list of pairs is named {kind!r}: {nearest(kind, ('calfw', 'cplfw', 'sllfw'))}"
        )
    rows = list(lines(path))
    if len(rows) % 2:
        raise FacebenchError(f"{path}: {len(rows)} lines, expected two for each pair")
    pairs = []
    for (one, first), (two, second) in zip(rows[::2], rows[1::2], strict=True):
        if kind == "sllfw":
            a, b = _image(path, one, first.strip(), 2), _image(path, two, second.strip(), 2)
            pairs.append(Pair(0, a, b, a.split("/")[0] == b.split("/")[0]))
            continue
        (a, label), (b, other) = _labelled(path, one, first), _labelled(path, two, second)
        if label != other:
            raise _at(path, two, second, f"the label {label} of the pair's first line")
        pairs.append(Pair(0, a, b, label != 0))
    if kind == "sllfw":
        return _folded(path, pairs)
    half = len(pairs) // 2
    if not half or half % FOLDS or [p.same for p in pairs] != [True] * half + [False] * half:
        same = sum(p.same for p in pairs)
        raise FacebenchError(
            f"{path}: {same} matching and {len(pairs) - same} other pairs, expected first the "
            f"matching ones, then as many others, each a multiple of {FOLDS}"
        )
    size = half // FOLDS
    return [
        pair._replace(fold=fold)
        for fold in range(FOLDS)
        for start in (fold * size, half + fold * size)
        for pair in pairs[start : start + size]
    ]


def _labelled(path: Path, number: int, line: str) -> tuple[str, int]:
    tokens = _tokens(line)
    if len(tokens) != 2:
        raise _at(path, number, line, "`image label`")
    return _image(path, number, tokens[0], 1), _whole(path, number, tokens[1])


def cfp(folder: Path | str, kind: str) -> list[Pair]:
    """Reads the pairs of CFP (frontal and profile views of celebrities).

    ``Protocol/Pair_list_F.txt`` and ``Pair_list_P.txt`` number the images (from 1, with paths as
    seen from ``Protocol``); ``Protocol/Split/{FF,FP}/{01..10}/same.txt`` and ``diff.txt`` have
    lines ``a,b``. In ``FP`` a is of the frontal list and b of the profile list.

    Args:
        folder: of the release, the one that holds ``Protocol`` and ``Data``.
        kind: ``FF`` or ``FP``.

    Returns:
        pairs whose names are paths from `folder`, such as ``Data/Images/001/frontal/01``; of each
        fold the matching ones first.

    Raises:
        UsageError: an unknown kind.
        FacebenchError: a file is missing or broken, a number that no image has, folds of
            different sizes.
    """
    if kind not in ("FF", "FP"):
        raise UsageError(f"CFP has no pairs {kind!r}: {nearest(kind, ('FF', 'FP'))}")
    protocol = Path(folder) / "Protocol"
    frontal = _numbered(protocol / "Pair_list_F.txt")
    other = frontal if kind == "FF" else _numbered(protocol / "Pair_list_P.txt")
    pairs: list[Pair] = []
    size = None
    for fold in range(FOLDS):
        for name in ("same", "diff"):
            path = protocol / "Split" / kind / f"{fold + 1:02d}" / f"{name}.txt"
            before = len(pairs)
            for number, line in lines(path):
                tokens = [t.strip() for t in line.split(",")]
                if len(tokens) != 2:
                    raise _at(path, number, line, "`a,b`")
                a = frontal[_whole(path, number, tokens[0], 1, len(frontal)) - 1]
                b = other[_whole(path, number, tokens[1], 1, len(other)) - 1]
                pairs.append(Pair(fold, a, b, name == "same"))
            size = size or len(pairs) - before
            if len(pairs) - before != size or not size:
                raise FacebenchError(
                    f"{path}: {len(pairs) - before} pairs, expected {size or 350} as in fold 1"
                )
    return pairs


def _numbered(path: Path) -> list[str]:
    """The images of a list of CFP, as paths from the folder of the release."""
    images: list[str] = []
    for number, line in lines(path):
        tokens = line.split(maxsplit=1)
        if len(tokens) != 2 or tokens[0] != str(len(images) + 1):
            raise _at(path, number, line, f"`{len(images) + 1} path`")
        image = _image_from(path, number, tokens[1].strip())
        images.append(image)
    if not images:
        raise FacebenchError(f"{path}: is empty, expected a line `number path` for each image")
    return images


def _image_from(path: Path, number: int, token: str) -> str:
    """A path as seen from ``Protocol``, seen from the folder of the release."""
    seen = posixpath.normpath(posixpath.join("Protocol", token.replace("\\", "/")))
    if seen.startswith(("../", "/")):
        raise _at(path, number, token, "a path within the release")
    return _image(path, number, seen)


def ytf(path: Path | str) -> list[Pair]:
    """Reads the splits of YTF, pairs of videos: ``fold, number, name/video, name/video, label``.

    A first line of column names is passed over.

    Raises:
        FacebenchError: a line that is not so, a label other than 0 and 1, folds that are not 1
            to 10 in this order or not of one size.
    """
    path = Path(path)
    pairs: list[Pair] = []
    for number, line in lines(path):
        tokens = [t.strip() for t in line.split(",")]
        if number == 1 and not tokens[0].isdigit():
            continue
        if len(tokens) != 5:
            raise _at(path, number, line, "`fold, number, name/video, name/video, label`")
        fold = _whole(path, number, tokens[0], 1, FOLDS) - 1
        same = _whole(path, number, tokens[4], 0, 1) == 1
        a, b = (_image(path, number, t, 2) for t in tokens[2:4])
        if same != (a.split("/")[0] == b.split("/")[0]):
            raise _at(path, number, line, "label 1 where the names are equal, else 0")
        pairs.append(Pair(fold, a, b, same))
    folded = _folded(path, pairs)
    for pair, expected in zip(pairs, folded, strict=True):
        if pair.fold != expected.fold:
            raise FacebenchError(
                f"{path}: fold {pair.fold + 1} where fold {expected.fold + 1} was expected: folds "
                f"follow one another, {len(pairs) // FOLDS} pairs in each"
            )
    return folded


def agedb(path: Path | str) -> list[Pair]:
    """Reads a protocol of AgeDB, such as ``04_FINAL_protocol_30_years.mat``.

    Its variable `splits` holds ten structs, each of a 2 x n cell array of images (a struct with
    the image's name first) and n labels, 1 or -1.

    Returns:
        pairs whose names are those of ``03_Protocol_Images``, without suffix.

    Raises:
        FacebenchError: no readable MATLAB file, or not of this layout; the place is named.
    """
    path = Path(path)
    pairs = []
    for fold, (images, labels) in enumerate(matlab.splits(path, FOLDS)):
        where = f"{path}: split {fold + 1}"
        if len(images) != 2 * len(labels) or not labels:
            raise FacebenchError(
                f"{where}: {len(images)} images and {len(labels)} labels, expected twice as many"
            )
        for i, label in enumerate(labels):
            if label not in (1, -1):
                raise FacebenchError(f"{where}: label {label:.9g}, expected 1 or -1")
            a, b = images[2 * i : 2 * i + 2]
            for name in (a, b):
                if not _sound(name):
                    raise FacebenchError(
                        f"{where}, pair {i + 1}: found {shown(name)}, expected the name of an image"
                    )
            pairs.append(Pair(fold, a, b, label == 1))
    return pairs


def check_images(
    pairs: Iterable[Pair], exists: Callable[[str], bool], where: Path | str = "the pair list"
) -> None:
    """Refuses pairs with images that are not there.

    Args:
        pairs: to check.
        exists: whether there is an image of this name; asked once for each.
        where: the file that lists them, for the message.

    Raises:
        FacebenchError: which are missing: how many, and the first by name, pair and fold.
    """
    known: dict[str, bool] = {}
    first = None
    for i, pair in enumerate(pairs):
        for name in (pair.first, pair.second):
            if name not in known:
                known[name] = bool(exists(name))
                if not known[name] and first is None:
                    first = f"{shown(name)} of pair {i + 1} (fold {pair.fold + 1})"
    if first is not None:
        missing = len(known) - sum(known.values())
        raise FacebenchError(
            f"{where}: {missing} of {len(known)} images are missing, the first is {first}; unpack "
            "the official release again"
        )
