"""Real-world Affective Faces (RAF-DB): basic and compound expressions, aligned or original."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facebench.data import releases
from facebench.errors import FacebenchError
from facebench.formats import text
from facebench.schemes import EXPRESSION_ORDERS

#: Classes of the compound part by number, from 1.
COMPOUND = (
    "happily surprised",
    "happily disgusted",
    "sadly fearful",
    "sadly angry",
    "sadly surprised",
    "sadly disgusted",
    "fearfully angry",
    "fearfully surprised",
    "angrily surprised",
    "angrily disgusted",
    "disgustedly surprised",
)
CLASSES = {"basic": EXPRESSION_ORDERS["raf_db"], "compound": COMPOUND}
GENDERS = ("male", "female", "unsure")
GROUPS = ("Caucasian", "African-American", "Asian")
AGES = ("0-3", "4-19", "20-39", "40-69", "70+")
LIST = "EmoLabel/list_patition_label.txt"  # so spelled

_NAME = re.compile(r"(train|test)_[0-9]{1,8}\.jpg")


def read_list(path: Path, classes: int) -> dict[str, int]:
    """Reads ``train_00001.jpg 5``, one line for each image.

    Returns:
        name to class, from 0, in the order of the file.

    Raises:
        FacebenchError: another form, a class that is not 1 to `classes`, a name that stands twice;
            file and line are named.
    """
    made: dict[str, int] = {}
    for number, line in text.lines(path):
        tokens = line.split()
        at = f"{path}: line {number}: found"
        if len(tokens) != 2 or not _NAME.fullmatch(tokens[0]):
            raise FacebenchError(f"{at} {text.shown(line)}, expected `train_00001.jpg 5`")
        name, label = tokens
        if not (label.isascii() and label.isdigit() and 1 <= int(label[:9]) <= classes):
            raise FacebenchError(f"{at} class {text.shown(label)}, expected 1 to {classes}")
        if name in made:
            raise FacebenchError(f"{at} {name} a second time")
        made[name] = int(label) - 1
    return made


def read_manual(path: Path) -> dict[str, Any]:
    """Reads a file of manual annotation: five lines ``x y``, then gender, race and age.

    Returns:
        `five_points` float32 [5, 2], pixels of the original image as they stand in the file, and
        `gender`, `group` and `age`, places in `GENDERS`, `GROUPS` and `AGES`.

    Raises:
        FacebenchError: a line is missing or is not as it should be; file and line are named.
    """
    lines = [line for _, line in text.lines(path)]
    if len(lines) != 8:
        raise FacebenchError(f"{path}: {len(lines)} lines, expected 5 points and 3 attributes")
    points = []
    for number, line in enumerate(lines[:5], 1):
        try:
            point = [float(token) for token in line.split()]
        except ValueError:
            point = []
        if len(point) != 2 or not all(map(math.isfinite, point)):
            raise FacebenchError(
                f"{path}: line {number}: found {text.shown(line)}, expected a point `x y`"
            )
        points.append(point)
    made: dict[str, Any] = {"five_points": np.array(points, np.float32)}
    for number, (name, names) in enumerate(
        (("gender", GENDERS), ("group", GROUPS), ("age", AGES)), 6
    ):
        value = lines[number - 1].strip()
        if value not in map(str, range(len(names))):
            raise FacebenchError(
                f"{path}: line {number}: found {name} {text.shown(value)}, expected 0 to "
                f"{len(names) - 1}"
            )
        made[name] = int(value)
    return made


class RafDb(tfds.core.GeneratorBasedBuilder):
    """15,339 images of seven basic expressions; fewer of eleven compound ones.

    Attributes:
        OFFICIAL: images of each split of a part; None where it is not checked.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="basic-aligned", description="7 classes, 100 x 100"),
        tfds.core.BuilderConfig(
            name="basic-original", description="7 classes, photographs, five points, groups"
        ),
        tfds.core.BuilderConfig(name="compound-aligned", description="11 classes, 100 x 100"),
        tfds.core.BuilderConfig(name="compound-original", description="11 classes, photographs"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds basic/EmoLabel/list_patition_label.txt, "
        "basic/Image/aligned/train_00001_aligned.jpg ..., basic/Image/original/train_00001.jpg ... "
        "and basic/Annotation/manual/train_00001_manu_attri.txt ...; or the same of compound."
    )
    OFFICIAL: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "basic": {"train": 12271, "test": 3068},
        "compound": {},
    }
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        part, kind = self.builder_config.name.split("-")
        features: dict[str, Any] = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "expression": tfds.features.ClassLabel(names=list(CLASSES[part])),
        }
        if (part, kind) == ("basic", "original"):
            features |= {
                "five_points": tfds.features.Tensor(shape=(5, 2), dtype=np.float32),
                "gender": tfds.features.ClassLabel(names=list(GENDERS)),
                "group": tfds.features.ClassLabel(names=list(GROUPS)),
                "age": tfds.features.ClassLabel(names=list(AGES)),
            }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        part = self.builder_config.name.split("-")[0]
        folder = Path(dl_manager.manual_dir)
        root = folder / part if (folder / part).is_dir() else folder
        labels = read_list(root / LIST, len(CLASSES[part]))
        splits = {}
        for split in ("train", "test"):
            names = sorted(name for name in labels if name.startswith(split))
            expected = self.OFFICIAL[part].get(split)
            releases.expect(root / LIST, f"images of {split}", len(names), expected)
            splits[split] = self._generate_examples(root, {name: labels[name] for name in names})
        return splits

    def _generate_examples(
        self, root: Path, labels: dict[str, int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        part, kind = self.builder_config.name.split("-")
        for row, (name, label) in enumerate(labels.items()):
            stem = name.removesuffix(".jpg")
            file = f"aligned/{stem}_aligned.jpg" if kind == "aligned" else f"original/{name}"
            made = {
                "key": stem,
                "unit": stem,  # the release does not say who is shown
                "image": releases.encoded(root / "Image" / file),
                "expression": label,
            }
            if (part, kind) == ("basic", "original"):
                made |= read_manual(root / "Annotation/manual" / f"{stem}_manu_attri.txt")
            yield row, made
