"""IJB-B and IJB-C as loose crops with insightface's meta files, aligned to 112 px."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facebench.data import releases
from facebench.errors import FacebenchError
from facebench.formats import ijb

SIZE = 112


class Ijb(tfds.core.GeneratorBasedBuilder):
    """Faces of templates: sets of stills and video frames of one person.

    Attributes:
        OFFICIAL: faces and pairs of a set; a release that has more or fewer is refused.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="ijbb", description="IJB-B"),
        tfds.core.BuilderConfig(name="ijbc", description="IJB-C"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds loose_crop/1.jpg ... and meta/ijbc_face_tid_mid.txt, "
        "ijbc_name_5pts_score.txt and ijbc_template_pair_label.txt (or ijbb_...)."
    )
    OFFICIAL: ClassVar = {"ijbb": (227_630, 8_010_270), "ijbc": (469_375, 15_658_489)}
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder, kind = Path(dl_manager.manual_dir), self.builder_config.name
        self._meta = meta = ijb.read(folder / "meta", kind)
        faces, pairs = self.OFFICIAL.get(kind, (None, None))
        releases.expect(folder / "meta", "faces", len(meta.names), faces)
        releases.expect(folder / "meta", "pairs", len(meta.same), pairs)
        root = folder / "loose_crop"
        there = {entry.name for entry in os.scandir(root)} if root.is_dir() else set()
        if missing := [i for i, name in enumerate(meta.names) if name not in there]:
            raise FacebenchError(
                f"{root}: {len(missing)} of {len(meta.names)} images are missing, the first is "
                f"{meta.names[missing[0]]} of line {missing[0] + 1} of {kind}_face_tid_mid.txt; "
                "unpack the release again"
            )
        return {"test": self._generate_examples(root, f"{kind}_name_5pts_score.txt")}

    def _generate_examples(self, root: Path, points: str) -> Iterator[tuple[int, dict[str, Any]]]:
        meta = self._meta
        for row, name in enumerate(meta.names):
            where = f"{points}: line {row + 1} ({name})"
            yield (
                row,
                {
                    "key": name,
                    "unit": f"template-{int(meta.template[row]):06d}",
                    "image": releases.aligned(root / name, meta.points[row], where, SIZE),
                },
            )

    def lists(self, folder: Path) -> dict[str, Any]:
        """``1-1``: the pairs of templates, weighed by the scores of the face detector."""
        del folder  # what is needed was read with the images
        meta = self._meta
        return {
            "1-1": {
                "pairs": meta.pairs,
                "same": meta.same,
                "template": meta.template.astype(np.int32),
                "media": meta.media.astype(np.int32),
                "weight": meta.score.astype(np.float32),
            }
        }
