"""Faces in one folder per expression: ROOT/SPLIT/CLASS/IMAGE, or ROOT/CLASS/IMAGE."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from facebench.data import releases, strata
from facebench.errors import FacebenchError, nearest
from facebench.schemes import EXPRESSIONS

HELD_OUT = 10  # one image in this many
SPLITS = {"train": "train", "dev": "val", "test": "test"}

#: What folders may be called, beside the names of `EXPRESSIONS`; capitals do not count.
ALSO = {
    "anger": ("angry",),
    "contempt": ("contemptuous",),
    "disgust": ("disgusted",),
    "fear": ("fearful", "afraid"),
    "happy": ("happiness",),
    "sad": ("sadness",),
    "surprise": ("surprised",),
}
NAMES = {name: name for name in EXPRESSIONS} | {
    other: name for name, others in ALSO.items() for other in others
}


def classes(root: Path) -> dict[str, str]:
    """The folders of a folder, by the expression that each is named after.

    Raises:
        FacebenchError: a folder has another name, two are of one expression, there is none, or an
            image stands outside of them.
    """
    made: dict[str, str] = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            if entry.name.lower().endswith(releases.SUFFIXES):
                raise FacebenchError(f"{entry.path}: an image outside of a folder of an expression")
            continue
        name = NAMES.get(entry.name.lower())
        if name is None:
            raise FacebenchError(
                f"{entry.path}: no expression has that name: {nearest(entry.name.lower(), NAMES)}; "
                "numbers mean something else in every set, so rename the folder"
            )
        if name in made:
            raise FacebenchError(f"{root}: {made[name]} and {entry.name} are both {name!r}")
        made[name] = entry.name
    if not made:
        raise FacebenchError(f"{root}: no folder of an expression, such as {root}/happy")
    return made


def images(root: Path) -> list[tuple[str, str]]:
    """Class and path of every image under a folder of classes, by class and natural order.

    Raises:
        FacebenchError: see `classes`; a class without an image, or with a folder in it.
    """
    made = []
    for name, folder in classes(root).items():
        files = []
        for entry in os.scandir(root / folder):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                raise FacebenchError(f"{entry.path}: a folder in the folder of an expression")
            if entry.name.lower().endswith(releases.SUFFIXES):
                files.append(entry.name)
        if not files:
            raise FacebenchError(f"{root / folder}: no image ({' '.join(releases.SUFFIXES)})")
        made += [(name, f"{folder}/{file}") for file in sorted(files, key=strata.natural)]
    return made


def held_out(paths: list[str]) -> set[str]:
    """The test images: a tenth, rounded up, those with the smallest SHA-256 of their paths."""
    ranked = sorted(paths, key=lambda path: hashlib.sha256(path.encode()).hexdigest())
    return set(ranked[: -(-len(paths) // HELD_OUT)])


class ExpressionFolder(tfds.core.GeneratorBasedBuilder):
    """Images of faces, one folder for each expression."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="given", description="train, val and test"),
        tfds.core.BuilderConfig(name="given-no-val", description="train and test"),
        tfds.core.BuilderConfig(name="held-out", description="a tenth of the images are test"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds train/happy/IMAGE ..., val and test alike; or happy/IMAGE ..."
    )
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "expression": tfds.features.ClassLabel(names=list(EXPRESSIONS)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root, config = Path(dl_manager.manual_dir), self.builder_config.name
        if config == "held-out":
            found = images(root)
            test = held_out([path for _, path in found])
            if len(test) == len(found):
                raise FacebenchError(f"{root}: {len(found)} image, expected 2 to divide them")
            parts = {
                "train": [item for item in found if item[1] not in test],
                "test": [item for item in found if item[1] in test],
            }
            return {split: self._generate_examples(root, part) for split, part in parts.items()}
        made = {}
        for split, folder in SPLITS.items():
            if split == "dev" and config == "given-no-val":
                continue
            if not (root / folder).is_dir():
                raise FacebenchError(
                    f"{root / folder}: no such folder; configs: given (train, val, test), "
                    "given-no-val (train, test), held-out (none of them)"
                )
            made[split] = self._generate_examples(root / folder, images(root / folder))
        return made

    def _generate_examples(
        self, root: Path, items: list[tuple[str, str]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, (name, path) in enumerate(items):
            key = releases.pseudonym(path)
            image = releases.encoded(root / path)
            yield row, {"key": key, "unit": key, "image": image, "expression": name}
