"""Racial Faces in-the-Wild (RFW): four groups of people, aligned to 112 px by five points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facebench.data import releases
from facebench.errors import FacebenchError
from facebench.formats import pairs, text

SIZE = 112
GROUPS = ("African", "Asian", "Caucasian", "Indian")


def read_points(path: Path) -> dict[str, tuple[int, np.ndarray]]:
    """Reads ``{Group}_lmk.txt``: ``path label x1 y1 ... x5 y5``.

    Returns:
        ``person/image`` without suffix, the end of the path, to line and points [5, 2].

    Raises:
        FacebenchError: a line that is not of that form, or an image that stands twice.
    """
    made: dict[str, tuple[int, np.ndarray]] = {}
    for number, line in text.lines(path):
        tokens = line.split()
        try:
            values = [float(token) for token in tokens[2:]]
        except ValueError:
            values = []
        name = "/".join(Path(tokens[0]).with_suffix("").parts[-2:])
        if len(values) != 10 or not all(map(math.isfinite, values)) or name.count("/") != 1:
            raise FacebenchError(
                f"{path}: line {number}: found {text.shown(line)}, expected "
                "`person/image.jpg label x1 y1 ... x5 y5`"
            )
        if name in made:
            raise FacebenchError(f"{path}: line {number}: {name} stands in line {made[name][0]}")
        made[name] = number, np.array(values).reshape(5, 2)
    return made


class Rfw(tfds.core.GeneratorBasedBuilder):
    """The images that the pairs of the four groups name.

    Attributes:
        OFFICIAL: pairs of each group; a release that has more or fewer is refused.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="test", description="the test set: 6,000 pairs per group")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds test/data/GROUP/PERSON/PERSON_0001.jpg and "
        "test/txts/GROUP/GROUP_pairs.txt and GROUP_lmk.txt for African, Asian, Caucasian, Indian."
    )
    OFFICIAL: ClassVar[int | None] = 6000
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
            "group": tfds.features.ClassLabel(names=list(GROUPS)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir) / "test"
        self._pairs: dict[str, list[pairs.Pair]] = {}
        self._rows: dict[tuple[str, str], int] = {}
        points = {}
        for group in GROUPS:
            listed = folder / "txts" / group / f"{group}_pairs.txt"
            found = self._pairs[group] = pairs.rfw(listed)
            releases.expect(listed, "pairs", len(found), self.OFFICIAL)
            images = folder / "data" / group
            pairs.check_images(found, lambda n, at=images: (at / f"{n}.jpg").is_file(), listed)
            lines = listed.with_name(f"{group}_lmk.txt")
            points[group] = known = read_points(lines)
            for name in sorted({name for p in found for name in (p.first, p.second)}):
                if name not in known:
                    raise FacebenchError(f"{lines}: no points of {name}, which {listed} names")
                self._rows[group, name] = len(self._rows)
        return {"test": self._generate_examples(folder, points)}

    def _generate_examples(
        self, folder: Path, points: dict[str, dict[str, tuple[int, np.ndarray]]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for (group, name), row in self._rows.items():
            line, five = points[group][name]
            person, image = name.split("/")
            unit = f"{group}/{releases.pseudonym(person)}"
            path = folder / "data" / group / f"{name}.jpg"
            yield (
                row,
                {
                    "key": f"{unit}/{image.rpartition('_')[2]}",
                    "unit": unit,
                    "image": releases.aligned(path, five, f"{group}_lmk.txt: line {line}", SIZE),
                    "group": group,
                },
            )

    def lists(self, folder: Path) -> dict[str, Any]:
        """``groups``: the pairs of the four groups one after the other, each in ten folds."""
        del folder  # what is needed was read with the images
        parts = []
        for group, found in self._pairs.items():
            rows = {name: row for (of, name), row in self._rows.items() if of == group}
            part = releases.pair_list(found, rows)
            parts.append(part | {"group": np.full(len(found), group)})
        fields = ("pairs", "same", "fold", "group")
        return {"groups": {f: np.concatenate([part[f] for part in parts]) for f in fields}}
