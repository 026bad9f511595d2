"""Verification sets in insightface's `.bin` files: aligned pairs of 112 px."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from facebench.data import releases
from facebench.errors import FacebenchError
from facebench.formats import bins

SIZE = 112
#: Set to what it holds.
SETS = {
    "lfw": "LFW, view 2",
    "cfp_ff": "CFP, frontal to frontal",
    "cfp_fp": "CFP, frontal to profile",
    "agedb_30": "AgeDB, 30 years apart",
    "calfw": "cross-age LFW",
    "cplfw": "cross-pose LFW",
    "vgg2_fp": "VGGFace2, frontal to profile",
}


class VerificationBin(tfds.core.GeneratorBasedBuilder):
    """Pairs of faces without names; a config for each file.

    Attributes:
        OFFICIAL: pairs of a set; a file that has more or fewer is refused.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=about) for name, about in SETS.items()
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds lfw.bin, cfp_fp.bin, agedb_30.bin, ...; name the one to prepare: "
        "facebench data prepare verification_bin/lfw --source=FOLDER."
    )
    OFFICIAL: ClassVar = {
        **dict.fromkeys(("lfw", "agedb_30", "calfw", "cplfw"), 6000),
        **dict.fromkeys(("cfp_ff", "cfp_fp"), 7000),
    }
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(SIZE, SIZE, 3)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        name = self.builder_config.name
        path = Path(dl_manager.manual_dir) / f"{name}.bin"
        if not path.is_file() and (packed := path.with_suffix(".xz")).is_file():
            path = packed
        images, self._same = bins.read(path)
        releases.expect(path, "pairs", len(self._same), self.OFFICIAL.get(name))
        if wrong := bins.folds_without_both(self._same):
            raise FacebenchError(
                f"{path}: fold {wrong[0]} of 10 has not both matching and other pairs, so no "
                "threshold can be held against it; the pairs are not in the order of the release"
            )
        return {"test": self._generate_examples(name, images, path)}

    def _generate_examples(
        self, name: str, images: list[bytes], path: Path
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(releases.paired(name, images, self._same, path, SIZE))

    def lists(self, folder: Path) -> dict[str, Any]:
        """All pairs, in ten contiguous folds, under the config's name."""
        del folder  # what is needed was read with the images
        return {self.builder_config.name: releases.bin_list(self._same)}
