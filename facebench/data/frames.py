"""Coded videos as samples: which image, or which frame of a video, each line of codes is about.

Codes are about frames counted from 1. Images of frames are numbered by their names (the last number
in it, with any zeros before), and not everybody counts from 1: the images of BP4D and BP4D+ as
released, and what ME-GraphAU makes of DISFA, begin with 0, so that frame 1 is image 0; ``ffmpeg``
begins with 1. Whether any image of a release has the number 0 decides for all of it: then frame f
is image f - 1, else image f. Where no image 0 was kept, a file ``first.txt`` beside the folders of
images says ``0`` or ``1``. Videos need no such rule.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from facebench import files
from facebench.data import releases
from facebench.errors import FacebenchError

if TYPE_CHECKING:
    from facebench.formats.action_units import Coding, Table

QUALITY = 95  # of the JPEG that a frame of a video becomes
FIRST = "first.txt"
VIDEOS = (".avi", ".mp4")

_LAST_NUMBER = re.compile(r"([0-9]{1,9})[^0-9]*$")

#: (session, frame) to its box [4] and five points [5, 2], pixels; zeros where there are none.
Places = Callable[[str, int], tuple[np.ndarray, np.ndarray]]


def features(of: Any, units: int) -> dict[str, Any]:
    """What `samples` gives of a frame, as a TFDS builder declares it.

    Args:
        of: the module `tensorflow_datasets.features`, which the builder has imported.
        units: how many action units.
    """
    return {
        "key": of.Text(),
        "unit": of.Text(),
        "image": of.Image(shape=(None, None, 3)),
        "au": of.Tensor(shape=(units,), dtype=np.float32),
        "frame": of.Scalar(dtype=np.int32),
        "fold": of.Scalar(dtype=np.int32),
        "box": of.Tensor(shape=(4,), dtype=np.float32),
        "five_points": of.Tensor(shape=(5, 2), dtype=np.float32),
    }


class Source(Protocol):
    """Where the images of frames come from."""

    def missing(self, coding: Coding) -> str:
        """What is not there of a session's frames, as far as can be said in advance; or ``""``."""

    def read(self, coding: Coding) -> Iterator[bytes]:
        """The encoded image of each of its frames, in their order."""


class Images:
    """A folder of images for each session, ``ROOT/F001/T1/2440.jpg``.

    Attributes:
        root: the folder of the sessions' folders.
        first: the number of the image of frame 1: 0 or 1.
    """

    def __init__(self, root: Path, sessions: Iterable[str]) -> None:
        """Finds out from which number on the images count.

        Args:
            root: the folder of the sessions' folders.
            sessions: all of the release.

        Raises:
            FacebenchError: a session has no folder, or `FIRST` says neither 0 nor 1.
        """
        self.root = root
        said = root / FIRST
        if said.is_file():
            token = files.read_bytes(said, 64).strip()
            if token not in (b"0", b"1"):
                raise FacebenchError(
                    f"{said}: found {token[:20]!r}, expected 0 or 1: the number of the image of "
                    "frame 1"
                )
            self.first = int(token)
        else:
            self.first = 0 if any(0 in self._numbered(session) for session in sessions) else 1

    def _numbered(self, session: str) -> dict[int, str]:
        """The images of a session by their numbers.

        Raises:
            FacebenchError: no such folder, an image without a number, two of the same.
        """
        folder = self.root / session
        made: dict[int, str] = {}
        with files.explained(folder, "reading"):
            names = [entry.name for entry in os.scandir(folder)]
        for name in names:
            if name.startswith(".") or not name.lower().endswith(releases.SUFFIXES):
                continue
            found = _LAST_NUMBER.search(name.rpartition(".")[0])
            if found is None:
                raise FacebenchError(f"{folder / name}: no number of a frame in its name")
            number = int(found[1])
            if number in made:
                raise FacebenchError(
                    f"{folder}: {made[number]} and {name} have the same number; expected one "
                    "image of each frame"
                )
            made[number] = name
        return made

    def missing(self, coding: Coding) -> str:
        """What is not there of a session's images; or ``""``."""
        there = self._numbered(coding.session)
        lost = [f for f in coding.frames.tolist() if f - 1 + self.first not in there]
        if not lost:
            return ""
        return (
            f"{self.root / coding.session}: {len(lost)} of {len(coding.frames)} coded frames have "
            f"no image, the first of them frame {lost[0]} (image {lost[0] - 1 + self.first}, for "
            f"images count from {self.first} here)"
        )

    def read(self, coding: Coding) -> Iterator[bytes]:
        """The bytes of the image of each frame, unchanged."""
        there = self._numbered(coding.session)
        for number in coding.frames.tolist():
            yield releases.encoded(self.root / coding.session / there[number - 1 + self.first])


class Videos:
    """A video for each session; frame 1 is its first.

    Frames become JPEG of quality `QUALITY`: what is stored depends on the version of OpenCV and its
    decoder. Images that are taken out once and kept are the surer release.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        """Keeps the paths.

        Args:
            paths: of the video of each session.
        """
        self.paths = paths

    def missing(self, coding: Coding) -> str:
        """Whether there is a video; how long it is shows when it is read."""
        path = self.paths[coding.session]
        return "" if path.is_file() else f"{path}: no such video"

    def read(self, coding: Coding) -> Iterator[bytes]:
        """Each frame as JPEG; what lies between is decoded and dropped.

        Raises:
            FacebenchError: no video, or one that ends before the last of the frames.
        """
        path = self.paths[coding.session]
        with files.regular(path) as file:  # a playlist by another name would open other files
            head = file.read(12)
        if (head[:4], head[8:12]) != (b"RIFF", b"AVI ") and head[4:8] != b"ftyp":
            raise FacebenchError(f"{path}: begins with {head!r}, expected an AVI or MP4 video")
        video = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
        try:
            at = 0
            for wanted in coding.frames.tolist():
                while at < wanted and video.grab():
                    at += 1
                there, image = video.retrieve() if at == wanted else (False, None)
                if not there or image is None:
                    raise FacebenchError(
                        f"{path}: frame {wanted} cannot be read: the video ends after frame {at}, "
                        f"but codes go on to frame {coding.frames[-1]}; get that video again, or "
                        "list the frames that it lacks in left_out.csv"
                    )
                done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                if not done:
                    raise FacebenchError(f"{path}: frame {wanted} cannot be stored as JPEG")
                yield data.tobytes()
        finally:
            video.release()


def source(
    root: Path,
    folders: Sequence[str],
    sessions: Sequence[str],
    videos: Callable[[str], Sequence[Path]],
) -> Source:
    """Where the frames of a release are: images, if there are any, else videos.

    Args:
        root: of the release.
        folders: names that the folder of images may have; the first that is there is taken.
        sessions: all of the release.
        videos: the paths that the video of a session may have, without suffix.

    Raises:
        FacebenchError: there is neither, or a session has no folder.
    """
    for name in folders:
        if (root / name).is_dir():
            return Images(root / name, sessions)
    paths = {}
    for session in sessions:
        known = [stem.with_name(stem.name + end) for stem in videos(session) for end in VIDEOS]
        paths[session] = next((path for path in known if path.is_file()), known[0])
    if not any(path.is_file() for path in paths.values()):
        raise FacebenchError(
            f"{root}: neither images nor videos of the frames: no folder "
            f"{' nor '.join(folders)}, and no {next(iter(paths.values()))}"
        )
    return Videos(paths)


def listed(boxes: Table | None, points: Table | None) -> Places | None:
    """The boxes and points that a user put beside a release, `action_units.beside`.

    Args:
        boxes: four numbers of each frame, x0, y0, x1, y1.
        points: ten numbers of each frame, x1, y1, ..., x5, y5.

    Returns:
        None where there is neither; else what raises a `FacebenchError` for a frame that a table
        lacks.
    """
    if boxes is None and points is None:
        return None

    def numbers(table: Table | None, size: int, session: str, frame: int) -> np.ndarray:
        if table is None:
            return np.zeros(size, np.float32)
        if (row := table.row(session, frame)) is None:
            raise FacebenchError(
                f"{table.path}: no line for frame {frame} of {session}; add it, or list the frame "
                "in left_out.csv"
            )
        return row

    def places(session: str, frame: int) -> tuple[np.ndarray, np.ndarray]:
        five = numbers(points, 10, session, frame).reshape(5, 2)
        return numbers(boxes, 4, session, frame), five

    return places


def nowhere(session: str, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """`Places` where nothing is known: no crop by a box or by points can be made."""
    del session, frame
    return np.zeros(4, np.float32), np.zeros((5, 2), np.float32)


def kept(
    codings: Iterable[Coding], left_out: Collection[tuple[str, int]], every: int, where: object
) -> list[Coding]:
    """Leaves out the frames that a user listed, and then keeps every so many.

    Frame 1 is kept and every `every`-th from it, by number, so what is left out or not coded moves
    no other frame.

    Args:
        codings: of all sessions.
        left_out: (session, frame), `action_units.left_out`.
        every: of so many frames one is kept.
        where: what an error message calls the release.

    Raises:
        FacebenchError: a frame is listed that is not coded, or a session has no frame left.
    """
    made, out = [], set(left_out)
    for coding in codings:
        here = [(coding.session, f) in out for f in coding.frames.tolist()]
        out -= {(coding.session, f) for f in coding.frames[here].tolist()}
        left = coding.rows(~np.array(here, bool) & ((coding.frames - 1) % every == 0))
        if len(left.frames):
            made.append(left)
    if out:
        session, frame = min(out)
        raise FacebenchError(
            f"{where}: left_out.csv: frame {frame} of {session} is not coded; {len(out)} such "
            "lines; a session is written as in `F001/T1` or `SN001`"
        )
    if not made:
        raise FacebenchError(f"{where}: no frame is left")
    return made


def check(codings: Sequence[Coding], frames: Source, places: Places) -> None:
    """Checks that every coded frame has its image, and its box and points where there are any.

    Raises:
        FacebenchError: what is missing first, and in how many sessions.
    """
    faults = [fault for coding in codings if (fault := frames.missing(coding))]
    if faults:
        more = f"; and so {len(faults) - 1} other sessions" if len(faults) > 1 else ""
        raise FacebenchError(
            f"{faults[0]}{more}; get them, or list the frames to leave out in left_out.csv"
        )
    for coding in codings:
        for frame in coding.frames.tolist():
            places(coding.session, frame)


def samples(
    codings: Sequence[Coding],
    frames: Source,
    places: Places,
    subjects: Collection[str],
    parts: Mapping[str, int],
    top: int,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The samples of some subjects, session after session; one image is in memory at a time.

    Args:
        codings: of all sessions.
        frames: their images.
        places: their boxes and points.
        subjects: whose samples are made.
        parts: the part of each subject, stored as `fold`.
        top: the code that becomes 1: 1 for occurrence, 5 for grades, so that grade B is 0.4.

    Yields:
        a row number and the sample.
    """
    row = 0
    for coding in codings:
        if coding.subject not in subjects:
            continue
        known = coding.codes >= 0
        au = np.where(known, coding.codes / top, -1).astype(np.float32)
        images = frames.read(coding)
        for frame, values, image in zip(coding.frames.tolist(), au, images, strict=True):
            box, five = places(coding.session, frame)
            yield (
                row,
                {
                    "key": f"{coding.session}/{frame}",
                    "unit": coding.subject,
                    "image": image,
                    "au": values,
                    "frame": frame,
                    "fold": parts[coding.subject],
                    "box": box,
                    "five_points": five,
                },
            )
            row += 1
