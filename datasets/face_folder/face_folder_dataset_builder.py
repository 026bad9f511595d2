"""Faces in one folder per identity: ROOT/IDENTITY/IMAGE."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facebench.data import releases, strata
from facebench.errors import FacebenchError

HELD_OUT = 10  # one identity in this many


def identities(root: Path) -> list[str]:
    """The folders of identities; numbers in names are read as numbers, so 2 comes before 10.

    Raises:
        FacebenchError: there is none, or an image stands outside of them.
    """
    names = []
    for entry in os.scandir(root):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            names.append(entry.name)
        elif entry.name.lower().endswith(releases.SUFFIXES):
            raise FacebenchError(
                f"{entry.path}: an image outside of an identity's folder, expected "
                "FOLDER/IDENTITY/IMAGE"
            )
    if not names:
        raise FacebenchError(f"{root}: no folder of an identity, expected FOLDER/IDENTITY/IMAGE")
    return sorted(names, key=strata.natural)


def images(folder: Path) -> list[str]:
    """The images of an identity, in the same order; other files are passed over.

    Raises:
        FacebenchError: there is none, or a folder in the folder.
    """
    names = []
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            raise FacebenchError(
                f"{entry.path}: a folder in the folder of an identity, expected "
                "FOLDER/IDENTITY/IMAGE"
            )
        if entry.name.lower().endswith(releases.SUFFIXES):
            names.append(entry.name)
    if not names:
        raise FacebenchError(
            f"{folder}: no image ({' '.join(releases.SUFFIXES)}); remove the folder, or get its "
            "images"
        )
    return sorted(names, key=strata.natural)


def held_out(names: list[str]) -> set[str]:
    """The test identities: a tenth, rounded up, those with the smallest SHA-256 of their names."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return set(ranked[: -(-len(names) // HELD_OUT)])


class FaceFolder(tfds.core.GeneratorBasedBuilder):
    """Images of people, one folder for each."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="held-out", description="a tenth of the people are test"),
        tfds.core.BuilderConfig(name="all", description="everybody is train"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The folder holds a folder of images for each identity."
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "identity": tfds.features.Scalar(dtype=np.int32),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root = Path(dl_manager.manual_dir)
        names = identities(root)
        numbers = {name: number for number, name in enumerate(names)}
        if self.builder_config.name == "all":
            return {"train": self._generate_examples(root, numbers)}
        if len(names) < 3:
            raise FacebenchError(f"{root}: {len(names)} identities, expected 3 to divide them")
        test = held_out(names)
        parts = {
            "train": [name for name in names if name not in test],
            "test": [name for name in names if name in test],
        }
        return {
            split: self._generate_examples(root, {name: numbers[name] for name in part})
            for split, part in parts.items()
        }

    def _generate_examples(
        self, root: Path, numbers: dict[str, int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        row = 0
        for name, number in numbers.items():
            unit = releases.pseudonym(name)
            for image in images(root / name):
                yield (
                    row,
                    {
                        "key": f"{unit}/{releases.pseudonym(image)}",
                        "unit": unit,
                        "image": releases.encoded(root / name / image),
                        "identity": number,
                    },
                )
                row += 1
