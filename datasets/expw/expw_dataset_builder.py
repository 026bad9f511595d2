"""Expression in-the-Wild (ExpW): several faces in a photograph, each with a box and a class."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from facebench.data import releases
from facebench.errors import FacebenchError
from facebench.formats import text
from facebench.schemes import EXPRESSION_ORDERS

CLASSES = EXPRESSION_ORDERS["expw"]
HELD_OUT = 10  # one photograph in this many
LIST, IMAGES = "label/label.lst", "image/origin"
COLUMNS = "image_name face_id top left right bottom confidence label"

_NAME = re.compile(r"[^/\\\s.][^/\\\s]{0,199}")


class Face(NamedTuple):
    """A line of the list.

    Attributes:
        image: name of the photograph.
        number: of the face in it.
        box: x0, y0, x1, y1: the edges, where the centre of the first pixel is (0, 0).
        confidence: of the face detector.
        expression: place in `CLASSES`.
    """

    image: str
    number: int
    box: tuple[float, float, float, float]
    confidence: float
    expression: int


def read_list(path: Path) -> list[Face]:
    """Reads ``label.lst``; a line that stands twice counts once.

    The four numbers of a box are **top, left, right, bottom**, in this order. The face is columns
    left to right - 1 and rows top to bottom - 1, so its edges are half a pixel further up and left.

    Raises:
        FacebenchError: a line that is not of that form, a box without extent, or a second line of
            one face that says something else; file and line are named.
    """
    made: dict[tuple[str, int], tuple[int, Face]] = {}
    for number, line in text.lines(path):
        face = _face(path, number, line)
        first, known = made.setdefault((face.image, face.number), (number, face))
        if known != face:
            raise FacebenchError(
                f"{path}: line {number}: face {face.number} of {face.image} stands otherwise in "
                f"line {first}"
            )
    return [face for _, face in made.values()]


def _face(path: Path, number: int, line: str) -> Face:
    def fault(found: str, expected: str) -> FacebenchError:
        return FacebenchError(
            f"{path}: line {number}: found {text.shown(found)}, expected {expected}"
        )

    tokens = line.split()
    if len(tokens) != 8:
        raise fault(line, f"`{COLUMNS}`")
    if not _NAME.fullmatch(tokens[0]) or not tokens[0].isprintable():
        raise fault(tokens[0], "the name of an image, without slashes")
    for token in tokens[1:6]:
        if not re.fullmatch("-?[0-9]{1,6}", token, re.ASCII):
            raise fault(token, "a whole number of at most 6 digits")
    try:
        confidence = float(tokens[6])
    except ValueError:
        confidence = math.nan
    if not math.isfinite(confidence):
        raise fault(tokens[6], "the detector's confidence, a number")
    if tokens[7] not in map(str, range(len(CLASSES))):
        raise fault(tokens[7], f"a class from 0 to {len(CLASSES) - 1}")
    top, left, right, bottom = map(int, tokens[2:6])
    if right <= left or bottom <= top:
        raise fault(" ".join(tokens[2:6]), "top left right bottom, with top < bottom, left < right")
    box = left - 0.5, top - 0.5, right - 0.5, bottom - 0.5
    return Face(tokens[0], int(tokens[1]), box, confidence, int(tokens[7]))


def held_out(images: Sequence[str]) -> set[str]:
    """The test photographs: a tenth, rounded up, those with the smallest SHA-256 of their names."""
    ranked = sorted(images, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return set(ranked[: -(-len(images) // HELD_OUT)])


class Expw(tfds.core.GeneratorBasedBuilder):
    """91,793 faces of photographs from the web.

    Attributes:
        OFFICIAL: faces in the list; another number is refused.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(
            name="held-out", description="a tenth of the photographs are test, by hash"
        ),
        tfds.core.BuilderConfig(name="all", description="everything is train"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder holds label/label.lst and image/origin/NAME.jpg."
    OFFICIAL: ClassVar[int | None] = 91793
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "confidence": tfds.features.Scalar(dtype=np.float32),
            "expression": tfds.features.ClassLabel(names=list(CLASSES)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        faces = read_list(folder / LIST)
        releases.expect(folder / LIST, "faces", len(faces), self.OFFICIAL)
        faces.sort(key=lambda face: (face.image, face.number))
        if self.builder_config.name == "all":
            return {"train": self._generate_examples(folder, faces)}
        test = held_out(sorted({face.image for face in faces}))
        parts: dict[str, list[Face]] = {"train": [], "test": []}
        for face in faces:
            parts["test" if face.image in test else "train"].append(face)
        return {name: self._generate_examples(folder, part) for name, part in parts.items()}

    def _generate_examples(
        self, folder: Path, faces: list[Face]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, face in enumerate(faces):
            unit = releases.pseudonym(face.image)
            yield (
                row,
                {
                    "key": f"{unit}/{face.number}",
                    "unit": unit,
                    "image": releases.encoded(folder / IMAGES / face.image),
                    "box": np.array(face.box, np.float32),
                    "confidence": face.confidence,
                    "expression": face.expression,
                },
            )
