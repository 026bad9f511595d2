"""The generated world as a dataset: faces drawn by `facebench.synth`, with exact labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from facebench import synth

HERE = Path(__file__).parent


def _encode(image: np.ndarray) -> bytes:
    ok, data = cv2.imencode(".png", image[:, :, ::-1])
    if not ok:
        raise RuntimeError("OpenCV could not write a PNG")
    return data.tobytes()


def _example(sample: synth.Sample, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "unit": f"id-{sample.identity:05d}",
        "image": _encode(sample.image),
        "points": sample.points,
        "visible": sample.visible,
        "box": sample.box,
        "identity": sample.identity,
        "au": sample.au,
        "expression": sample.expression,
        "pose": sample.pose,
        "light": sample.light,
    }


class SynthConfig(tfds.core.BuilderConfig):
    """One configuration: a world per split, of different people."""

    def __init__(self, worlds: dict[str, synth.WorldConfig], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.worlds = worlds


def _worlds(size: int, seed: int, **splits: tuple[int, int]) -> dict[str, synth.WorldConfig]:
    """Worlds of (identities, images of each) per split: other seeds, other numbers of people."""
    out, first = {}, 0
    for k, (name, (identities, each)) in enumerate(splits.items()):
        out[name] = synth.WorldConfig(
            size=size, seed=seed + k, identities=identities, per_identity=each, first_identity=first
        )
        first += identities
    return out


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds synthface; nothing is downloaded."""

    generated = True  # so that a run may prepare it by itself

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First world."}
    BUILDER_CONFIGS: ClassVar = [
        SynthConfig(
            name="landmarks-64",
            description="64 px, two images per identity, all poses, lights and expressions.",
            worlds=_worlds(64, 1000, train=(1000, 2), dev=(100, 2), test=(200, 2)),
        ),
        SynthConfig(
            name="recognition-64",
            description="64 px, many images of fewer identities.",
            worlds=_worlds(64, 2000, train=(100, 20), dev=(10, 10), test=(20, 8)),
        ),
    ]
    name = "synthface"
    pkg_dir_path = HERE

    def _info(self) -> tfds.core.DatasetInfo:
        size = next(iter(self.builder_config.worlds.values())).size
        return tfds.core.DatasetInfo(
            builder=self,
            disable_shuffling=True,  # samples stay in the order they are drawn in
            description="Parametric faces rendered by facebench.synth, with exact labels.",
            features=tfds.features.FeaturesDict(
                {
                    "key": tfds.features.Text(),
                    "unit": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "points": tfds.features.Tensor(shape=(68, 2), dtype=np.float32),
                    "visible": tfds.features.Tensor(shape=(68,), dtype=np.bool_),
                    "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "identity": tfds.features.Scalar(dtype=np.int64),
                    "au": tfds.features.Tensor(shape=(len(synth.ACTION_UNITS),), dtype=np.float32),
                    "expression": tfds.features.ClassLabel(names=list(synth.EXPRESSIONS)),
                    "pose": tfds.features.Tensor(shape=(3,), dtype=np.float32),
                    "light": tfds.features.Tensor(shape=(9,), dtype=np.float32),
                }
            ),
            citation=(HERE / "CITATIONS.bib").read_text(encoding="utf-8"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # nothing to download
        return {name: self._generate_examples(name) for name in self.builder_config.worlds}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        prefix = f"{self.builder_config.name}/{split}"
        for i, sample in enumerate(synth.samples(self.builder_config.worlds[split])):
            key = f"{prefix}/{i:06d}"
            yield key, _example(sample, key)
