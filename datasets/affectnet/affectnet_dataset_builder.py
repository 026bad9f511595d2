"""AffectNet: the release of 2017 and the later small one; expressions, valence and arousal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facebench import files
from facebench.data import releases, strata
from facebench.errors import FacebenchError
from facebench.formats import text
from facebench.schemes import EXPRESSION_ORDERS

CLASSES = EXPRESSION_ORDERS["affectnet"]
NONE, LAST = 8, 10  # the numbers of "none", and of the last of the other three
POINTS = 68
COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
IMAGES = "Manually_Annotated_Images"
LISTS = {"train": "training.csv", "test": "validation.csv"}
SETS = {"train": "train_set", "test": "val_set"}
INVALID = -2.0  # valence and arousal of images that have none

_PATH = re.compile(r"[0-9A-Za-z_-]{1,100}/[0-9A-Za-z_-]{1,200}\.[A-Za-z]{3,4}")


def affect(valence: float, arousal: float, where: str) -> np.ndarray:
    """Valence and arousal, float32 [2]: each in [-1, 1], or both -2, invalid.

    Raises:
        FacebenchError: another value; `where` names it.
    """
    if not (valence == arousal == INVALID or (abs(valence) <= 1 and abs(arousal) <= 1)):
        raise FacebenchError(
            f"{where}: found valence {valence}, arousal {arousal}, expected -1 to 1, or -2 for both"
        )
    return np.array([valence, arousal], np.float32)


def read_list(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of ``training.csv`` or ``validation.csv`` with one of the eight classes or "none".

    Boxes become edges, where the centre of the first pixel is (0, 0); points stand as in the file.

    Yields:
        `path`, `expression` (8 is "none"), `valence_arousal` [2], `box` [4], `points` [68, 2].

    Raises:
        FacebenchError: a column is missing, a value is not as it should be, or an image stands
            twice; file and line are named.
    """
    seen: dict[str, int] = {}
    for number, line in text.lines(path):
        cells = line.split(",")
        if number == 1:
            if missing := [name for name in COLUMNS if name not in cells]:
                raise FacebenchError(f"{path}: line 1: no column {missing[0]!r}")
            place = {name: cells.index(name) for name in COLUMNS}
            width = len(cells)
            continue
        if len(cells) != width:
            raise FacebenchError(f"{path}: line {number}: {len(cells)} cells, expected {width}")
        row = {name: cells[i] for name, i in place.items()}
        where = f"{path}: line {number}"
        if row["expression"] not in map(str, range(LAST + 1)):
            found = text.shown(row["expression"])
            raise FacebenchError(f"{where}: found expression {found}, expected 0 to {LAST}")
        if (expression := int(row["expression"])) > NONE:
            continue  # nobody could say which, or there is no face: boxes may be missing
        image = row["subDirectory_filePath"]
        if not _PATH.fullmatch(image):
            raise FacebenchError(f"{where}: found {text.shown(image)}, expected folder/image.jpg")
        if image in seen:
            raise FacebenchError(f"{where}: {image} stands in line {seen[image]} already")
        seen[image] = number
        valence, arousal = _numbers([row["valence"], row["arousal"]], where, "valence, arousal")
        x, y, w, h = _numbers([row[name] for name in COLUMNS[1:5]], where, "the face's box")
        if w <= 0 or h <= 0:
            raise FacebenchError(f"{where}: found a face of {w:g} x {h:g} pixels")
        points = _numbers(row["facial_landmarks"].split(";"), where, "facial_landmarks")
        if len(points) != 2 * POINTS:
            raise FacebenchError(
                f"{where}: facial_landmarks has {len(points)} numbers, expected {2 * POINTS}"
            )
        yield {
            "path": image,
            "expression": expression,
            "valence_arousal": affect(valence, arousal, where),
            "box": np.array([x - 0.5, y - 0.5, x + w - 0.5, y + h - 0.5], np.float32),
            "points": np.array(points, np.float32).reshape(POINTS, 2),
        }


def _numbers(cells: list[str], where: str, what: str) -> list[float]:
    made = []
    for cell in cells:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise FacebenchError(f"{where}: found {text.shown(cell)} in {what}, expected a number")
        made.append(value)
    return made


def read_value(path: Path) -> float:
    """The one number of an ``.npy`` file of the small release; it may stand there as text.

    Raises:
        FacebenchError: the file holds something else.
    """
    array = files.read_npy(path)
    if array.size != 1:
        raise FacebenchError(f"{path}: holds {array.size} values, expected one")
    value = array.reshape(-1)[0]
    shown = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return _numbers([shown], str(path), "its value")[0]


def read_annotation(folder: Path, stem: str) -> dict[str, Any]:
    """What the small release says of an image; points are pixels of its crop.

    Returns:
        `expression`, `valence_arousal` [2], `points` [68, 2].

    Raises:
        FacebenchError: a file is missing or holds something else.
    """
    exp, val, aro, lnd = (folder / f"{stem}_{kind}.npy" for kind in ("exp", "val", "aro", "lnd"))
    expression = read_value(exp)
    if expression not in range(len(CLASSES)):
        raise FacebenchError(
            f"{exp}: found expression {expression:g}, expected 0 to {len(CLASSES) - 1}"
        )
    points = files.read_npy(lnd)
    if points.size != 2 * POINTS or points.dtype.kind not in "iuf" or not np.isfinite(points).all():
        raise FacebenchError(
            f"{lnd}: holds {points.dtype} of shape {points.shape}, expected {2 * POINTS} numbers"
        )
    return {
        "expression": int(expression),
        "valence_arousal": affect(read_value(val), read_value(aro), str(val)),
        "points": np.array(points, np.float32).reshape(POINTS, 2),
    }


class Affectnet(tfds.core.GeneratorBasedBuilder):
    """Faces from the web, labelled by hand by one annotator each.

    Attributes:
        OFFICIAL: images of a split, by config; None where it is not checked.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="small", description="crops of the later release, 8 classes"),
        tfds.core.BuilderConfig(name="2017", description="photographs of 2017, 8 classes"),
        tfds.core.BuilderConfig(
            name="2017-affect", description="all that have valence and arousal, 8 classes and none"
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "small: train_set and val_set, each with images/N.jpg and annotations/N_exp.npy, _val.npy, "
        "_aro.npy, _lnd.npy. 2017: Manually_Annotated_Images/FOLDER/IMAGE, training.csv and "
        "validation.csv."
    )
    OFFICIAL: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "small": {"train": 287651, "test": 3999},
        "2017": {"train": 287651, "test": 4000},
        "2017-affect": {},
    }
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config.name
        names = [*CLASSES, "none"] if config == "2017-affect" else list(CLASSES)
        features: dict[str, Any] = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "expression": tfds.features.ClassLabel(names=names),
            "valence_arousal": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            "points": tfds.features.Tensor(shape=(POINTS, 2), dtype=np.float32),
        }
        if config != "small":
            features["box"] = tfds.features.Tensor(shape=(4,), dtype=np.float32)
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder, config = Path(dl_manager.manual_dir), self.builder_config.name
        made, where = {}, {}
        for split in SETS:
            if config == "small":
                where[split] = folder / SETS[split] / "images"
                if not where[split].is_dir():
                    raise FacebenchError(
                        f"{where[split]}: no such folder; see datasets/affectnet/README.md"
                    )
                stems = [p.stem for p in where[split].iterdir() if p.suffix.lower() == ".jpg"]
                stems.sort(key=strata.natural)
                n, made[split] = len(stems), self._generate_examples(folder, split, stems)
            else:
                lists = folder / "Manually_Annotated_file_lists"
                where[split] = (lists if lists.is_dir() else folder) / LISTS[split]
                n = sum(1 for _ in self._rows(where[split]))
                made[split] = self._photographs(folder, where[split])
            expected = self.OFFICIAL[config].get(split)
            releases.expect(where[split], "images of its classes", n, expected)
        return made

    def _rows(self, path: Path) -> Iterator[dict[str, Any]]:
        """The rows of a list that are of this config."""
        for row in read_list(path):
            if self.builder_config.name == "2017-affect":
                if row["valence_arousal"][0] != INVALID:
                    yield row
            elif row["expression"] < len(CLASSES):
                yield row

    def _photographs(self, folder: Path, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, row in enumerate(self._rows(path)):
            name = row.pop("path")
            key, _, _ = name.rpartition(".")
            image = releases.encoded(folder / IMAGES / name)
            # the same file in two folders is one image
            yield i, {"key": key, "unit": key.rpartition("/")[2], "image": image, **row}

    def _generate_examples(
        self, folder: Path, split: str, stems: list[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        root = folder / SETS[split]
        for i, stem in enumerate(stems):
            key = f"{split}/{stem}"
            image = releases.encoded(root / "images" / f"{stem}.jpg")
            made = read_annotation(root / "annotations", stem)
            yield i, {"key": key, "unit": key, "image": image, **made}
