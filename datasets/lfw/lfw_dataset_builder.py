"""Labeled Faces in the Wild (LFW), read from its release folder, with its own pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from facebench.data import releases
from facebench.errors import FacebenchError
from facebench.formats import pairs

#: Config to its splits: the pair list of each.
VIEWS = {
    "view-2": {"test": "pairs.txt"},
    "view-1": {"train": "pairsDevTrain.txt", "test": "pairsDevTest.txt"},
}


class Lfw(tfds.core.GeneratorBasedBuilder):
    """13,233 images of 5,749 people, of which the pair lists name a part.

    Attributes:
        OFFICIAL: what the release has; a folder that has more or less is refused.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="view-2", description="pairs.txt: 10 folds, for results"),
        tfds.core.BuilderConfig(name="view-1", description="pairsDev*.txt: for development"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds lfw/NAME/NAME_0001.jpg ... and beside lfw the lists pairs.txt, "
        "pairsDevTrain.txt and pairsDevTest.txt."
    )
    OFFICIAL: ClassVar = {
        "people": 5749,
        "images": 13233,
        "pairs.txt": 6000,
        "pairsDevTrain.txt": 2200,
        "pairsDevTest.txt": 1000,
    }
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _read(self, folder: Path) -> dict[str, tuple[list[pairs.Pair], list[str]]]:
        """Per split its pairs, and the images that they name, sorted."""
        made = {}
        for split, name in VIEWS[self.builder_config.name].items():
            found = pairs.lfw(folder / name)
            releases.expect(folder / name, "pairs", len(found), self.OFFICIAL.get(name))
            made[split] = found, sorted({image for p in found for image in (p.first, p.second)})
        return made

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        root = folder / "lfw"
        if not root.is_dir():
            raise FacebenchError(f"{root}: no such folder; see datasets/lfw/README.md")
        images = {p.relative_to(root).with_suffix("").as_posix() for p in root.glob("*/*.jpg")}
        read = self._read(folder)
        for split, name in VIEWS[self.builder_config.name].items():
            pairs.check_images(read[split][0], images.__contains__, folder / name)
        people = len({name.split("/")[0] for name in images})
        releases.expect(root, "people", people, self.OFFICIAL.get("people"))
        releases.expect(root, "images", len(images), self.OFFICIAL.get("images"))
        if "train" in read:
            parts = ({name.split("/")[0] for name in read[s][1]} for s in ("train", "test"))
            if both := set.intersection(*parts):
                raise FacebenchError(
                    f"{folder}: {len(both)} people stand in pairsDevTrain.txt and in "
                    "pairsDevTest.txt; expected none"
                )
        return {split: self._generate_examples(root, names) for split, (_, names) in read.items()}

    def _generate_examples(
        self, root: Path, names: list[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, name in enumerate(names):
            person, image = name.split("/")
            unit = releases.pseudonym(person)
            yield (
                row,
                {
                    "key": f"{unit}/{image.removeprefix(f'{person}_')}",
                    "unit": unit,
                    "image": releases.encoded(root / f"{name}.jpg"),
                },
            )

    def lists(self, folder: Path) -> dict[str, Any]:
        """``view-2`` of the test split; ``view-1``, and ``view-1-train`` of the training split."""
        made = {}
        for split, (found, names) in self._read(folder).items():
            name = self.builder_config.name + ("-train" if split == "train" else "")
            rows = {image: row for row, image in enumerate(names)}
            made[name] = releases.pair_list(found, rows, split)
        return made
