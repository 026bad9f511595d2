"""Training sets as insightface packs them: train.rec, train.idx, property, .bin files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facebench import files
from facebench.data import releases
from facebench.errors import FacebenchError
from facebench.formats import bins, recordio

EVERY = 1000  # images between two that are decoded to see their size


def read_property(path: Path) -> tuple[int, int, int | None]:
    """Reads the file ``property``: ``identities,height,width``, then perhaps the number of images.

    Returns:
        number of identities, side of the images in pixels, number of images (None: not said).

    Raises:
        FacebenchError: missing, or not of that form.
    """
    lines = files.read_bytes(path, 1 << 16).decode("utf-8", "replace").splitlines()
    parts = [part.strip() for part in lines[0].split(",")] if lines else []
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts):
        found = lines[0][:60] if lines else ""
        raise FacebenchError(
            f"{path}: line 1: found {found!r}, expected identities,height,width such as "
            "85742,112,112"
        )
    identities, height, width = map(int, parts)
    if height != width:
        raise FacebenchError(f"{path}: line 1: {height} x {width} pixels, expected a square")
    count = lines[1].strip() if len(lines) > 1 else ""
    return identities, height, int(count) if count.isascii() and count.isdigit() else None


class FaceRecordio(tfds.core.GeneratorBasedBuilder):
    """Aligned faces with the number of their identity, and the verification sets beside them."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="faces", description="train.rec, and every .bin as test")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds train.rec, train.idx and property, as insightface packs its training "
        "sets, and may hold verification sets such as lfw.bin."
    )
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
        folder = Path(dl_manager.manual_dir)
        rec, idx = folder / "train.rec", folder / "train.idx"
        identities, size, images = read_property(folder / "property")
        layout = recordio.identity_layout(rec, idx if idx.is_file() else None)
        said = f"{folder / 'property'} says"
        if images is not None and images != len(layout.keys):
            raise FacebenchError(f"{rec}: {len(layout.keys)} images, {said} {images}")
        if (beyond := np.flatnonzero(layout.identity >= identities)).size:
            raise FacebenchError(
                f"{rec}: record {layout.keys[beyond[0]]}: identity {layout.identity[beyond[0]]}, "
                f"{said} {identities} identities, 0 to {identities - 1}"
            )
        self._same: dict[str, np.ndarray] = {}
        made = {"train": self._generate_examples(rec, layout, size, said)}
        if sets := sorted(folder.glob("*.bin")):
            made["test"] = self._pairs(sets, size)
        return made

    def _generate_examples(
        self, rec: Path, layout: recordio.Layout, size: int, said: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        with recordio.Records(rec) as records:
            for row in range(len(layout.keys)):
                key, identity = int(layout.keys[row]), int(layout.identity[row])
                _, image = records.read(int(layout.offsets[row]))
                if row % EVERY == 0:
                    shape = releases.decoded(image, f"{rec}: record {key}").shape
                    if shape != (size, size, 3):
                        raise FacebenchError(
                            f"{rec}: record {key}: {shape[1]} x {shape[0]} pixels, {said} {size}"
                        )
                yield (
                    row,
                    {
                        "key": f"{key:09d}",
                        "unit": f"{identity:08d}",
                        "image": image,
                        "identity": identity,
                    },
                )

    def _pairs(self, sets: list[Path], size: int) -> Iterator[tuple[int, dict[str, Any]]]:
        row = 0
        for path in sets:
            images, same = bins.read(path)
            self._same[path.stem] = same
            for sample in releases.paired(path.stem, images, same, path, size):
                yield row, sample | {"identity": -1}
                row += 1

    def lists(self, folder: Path) -> dict[str, Any]:
        """The pairs of every ``.bin``, under its name."""
        del folder  # what is needed was read with the images
        made, first = {}, 0
        for name, same in self._same.items():
            made[name.lower()] = releases.bin_list(same, first)
            first += 2 * len(same)
        return made
