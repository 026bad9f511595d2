"""FER+: the faces of FER2013 with ten people's votes each; and FER2013 with its own labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from facebench.data import releases, transforms
from facebench.errors import FacebenchError
from facebench.formats import fer2013, votes
from facebench.schemes import EXPRESSION_ORDERS

#: Split to its folder and to what ``fer2013.csv`` calls it.
SPLITS = {
    "train": ("FER2013Train", "Training"),
    "dev": ("FER2013Valid", "PublicTest"),
    "test": ("FER2013Test", "PrivateTest"),
}
#: Config to the rule of training labels and that of the others, see `votes.targets`.
RULES = {
    "majority": ("majority", "majority"),
    "majority-csv": ("majority", "majority"),
    "probability": ("probability", "majority"),
    "multi-target": ("multi-target", "majority"),
    "plurality": ("plurality", "plurality"),
    "plurality-10": ("plurality-10", "plurality-10"),
    "probability-all": ("probability", "probability"),
    "multi-target-all": ("multi-target", "multi-target"),
}
REMEDY = "see datasets/ferplus/README.md"


def png(pixels: np.ndarray) -> bytes:
    """A grey image without loss."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def unit(pixels: np.ndarray) -> str:
    """Copies of one image are one unit."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


class Ferplus(tfds.core.GeneratorBasedBuilder):
    """35,710 grey faces, 48 x 48 pixels.

    Attributes:
        OFFICIAL: votes of each folder, and rows of each part of ``fer2013.csv``.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        *(
            tfds.core.BuilderConfig(name=name, description=f"{train} to train, {test} to test")
            for name, (train, test) in RULES.items()
        ),
        tfds.core.BuilderConfig(name="fer2013", description="FER2013's own labels"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds data/FER2013Train, FER2013Valid and FER2013Test, each with FER+'s "
        "label.csv and its images; or, in the place of images, fer2013.csv and fer2013new.csv."
    )
    OFFICIAL: ClassVar[Mapping[str, int]] = {
        "FER2013Train": 28558,
        "FER2013Valid": 3579,
        "FER2013Test": 3573,
        "Training": 28709,
        "PublicTest": 3589,
        "PrivateTest": 3589,
    }
    generated = False

    @property
    def _plain(self) -> bool:
        return self.builder_config.name == "fer2013"

    def _info(self) -> tfds.core.DatasetInfo:
        names = EXPRESSION_ORDERS["fer2013" if self._plain else "ferplus"]
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(
                shape=(fer2013.SIDE, fer2013.SIDE, 1), encoding_format="png"
            ),
            "expression": tfds.features.ClassLabel(names=list(names)),
        }
        if not self._plain:
            features |= {
                "distribution": tfds.features.Tensor(shape=(len(names),), dtype=np.float32),
                "votes": tfds.features.Tensor(shape=(votes.COLUMNS,), dtype=np.uint8),
            }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        if self._plain:
            self._check_rows(folder)
            return {split: self._own(folder, usage) for split, (_, usage) in SPLITS.items()}
        base = folder / "data" if (folder / "data" / "FER2013Train").is_dir() else folder
        listed = None
        if self.builder_config.name == "majority-csv" or (folder / "fer2013.csv").is_file():
            listed = votes.read_list(folder / "fer2013new.csv")
        if (folder / "fer2013.csv").is_file():
            self._check_rows(folder)
        return {split: self._generate_examples(folder, base, split, listed) for split in SPLITS}

    # -- images ----------------------------------------------------------------------------------

    def _check_rows(self, folder: Path) -> None:
        path = folder / "fer2013.csv"
        there = dict.fromkeys(votes.USAGES, 0)
        for row in fer2013.read(path):
            there[row.usage] += 1
        for usage, n in there.items():
            releases.expect(path, f"rows of {usage}", n, self.OFFICIAL.get(usage))

    def _images(
        self, folder: Path, base: Path, split: str, listed: votes.Votes | None, names: list[str]
    ) -> Iterator[tuple[str, bytes, np.ndarray]]:
        """Name, encoded image and pixels of the images of a split, in the order of their names."""
        where, usage = SPLITS[split]
        table = folder / "fer2013.csv"
        if listed is None or not table.is_file():
            for name in names:
                path = base / where / name
                data = releases.encoded(path)
                try:
                    pixels = transforms.decode(data, colour=False)
                except ValueError as error:
                    raise FacebenchError(f"{path}: {error}; {REMEDY}") from error
                if pixels.shape != (fer2013.SIDE, fer2013.SIDE) or pixels.dtype != np.uint8:
                    raise FacebenchError(
                        f"{path}: {pixels.dtype} of shape {pixels.shape}, expected grey, 48 x 48 "
                        f"pixels; {REMEDY}"
                    )
                yield name, data if data[:4] == b"\x89PNG" else png(pixels), pixels
            return
        wanted = set(names)
        for i, row in enumerate(fer2013.read(table)):
            if i >= len(listed.names) or listed.usage[i] != row.usage:
                raise FacebenchError(
                    f"{table}: line {i + 2} is of {row.usage!r}, but that of fer2013new.csv is "
                    f"not; the two belong together row by row; {REMEDY}"
                )
            if row.usage == usage and listed.names[i] in wanted:
                wanted.remove(listed.names[i])
                yield listed.names[i], png(row.pixels), row.pixels
        if wanted:
            raise FacebenchError(
                f"{folder / 'fer2013new.csv'}: {len(wanted)} names of {where} are not of its "
                f"{usage} rows, such as {min(wanted)}; {REMEDY}"
            )

    def _own(self, folder: Path, usage: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, row in enumerate(fer2013.read(folder / "fer2013.csv")):
            if row.usage == usage:
                yield (
                    i,
                    {
                        "key": f"row{i:05d}",
                        "unit": unit(row.pixels),
                        "image": png(row.pixels),
                        "expression": row.expression,
                    },
                )

    # -- votes -----------------------------------------------------------------------------------

    def _counts(
        self, base: Path, split: str, listed: votes.Votes | None
    ) -> tuple[list[str], np.ndarray]:
        """The names of the images of a split, ascending, and their votes [n, 10]."""
        where, usage = SPLITS[split]
        if self.builder_config.name == "majority-csv":
            assert listed is not None
            rows = [i for i, name in enumerate(listed.names) if name and listed.usage[i] == usage]
            names, counts = [listed.names[i] for i in rows], listed.counts[rows]
            path = base.parent / "fer2013new.csv"
        else:
            path = base / where / "label.csv"
            names, _, counts = votes.read_folder(path)
        releases.expect(path, f"votes of {where}", len(names), self.OFFICIAL.get(where))
        order = sorted(range(len(names)), key=names.__getitem__)
        return [names[i] for i in order], counts[order]

    def _generate_examples(
        self, folder: Path, base: Path, split: str, listed: votes.Votes | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        names, counts = self._counts(base, split, listed)
        rule = RULES[self.builder_config.name][split != "train"]
        kept, shares = votes.targets(counts, rule)
        places = {names[row]: (row, share) for row, share in zip(kept.tolist(), shares)}
        images = self._images(folder, base, split, listed, list(places))
        for name, data, pixels in images:
            row, share = places[name]
            yield (
                row,
                {
                    "key": name.removesuffix(".png"),
                    "unit": unit(pixels),
                    "image": data,
                    "expression": int(share.argmax()),
                    "distribution": share,
                    "votes": counts[row],
                },
            )
