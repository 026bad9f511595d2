"""A tiny dataset with a builder of its own, in a workspace of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from facebench import workspace
from facebench.data import source

TINY = """
import cv2
import numpy as np
import tensorflow_datasets as tfds

from facebench.errors import FacebenchError

SIZES = {"train": (24, 6), "test": (10, 3)}  # samples, units


def sample(split, i):
    rng = np.random.default_rng([split == "test", i])
    height, width = 40 + i % 3, 48 - i % 5
    image = cv2.resize(rng.integers(0, 256, (7, 7, 3), np.uint8), (width, height))
    points = rng.uniform(8, 32, (5, 2)).astype(np.float32)
    return {
        "key": f"{split}/{i:03d}",
        "unit": f"person {i % SIZES[split][1]}",
        "image": cv2.imencode(".png", image)[1].tobytes(),
        "points": points,
        "visible": rng.random(5) < 0.8,
        "box": np.float32([6, 5, 36, 33]),
        "au": rng.random(3).astype(np.float32),
        "identity": i % SIZES[split][1],
    }


class Tiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=n) for n in ("five", "torn", "twice", "fails")]
    generated = True

    def _info(self):
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "points": tfds.features.Tensor(shape=(5, 2), dtype=np.float32),
            "visible": tfds.features.Tensor(shape=(5,), dtype=np.bool_),
            "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "au": tfds.features.Tensor(shape=(3,), dtype=np.float32),
            "identity": tfds.features.Scalar(dtype=np.int32),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        for i in range(SIZES[split][0]):
            made = sample(split, i)
            if i == 3 and self.builder_config.name == "torn":
                made["image"] = made["image"][:-40]
            if i == 3 and self.builder_config.name == "twice":
                made["key"] = f"{split}/000"
            if i == 3 and self.builder_config.name == "fails":
                raise FacebenchError("sheet.csv: line 3: found 'x', expected a number")
            yield i, made
"""


def make_workspace(folder: Path) -> workspace.Workspace:
    """A workspace that holds the tiny dataset's builder and nothing prepared."""
    (folder / "datasets/tiny").mkdir(parents=True)
    (folder / "WORKSPACE.md").write_text("a workspace of a test\n")
    (folder / "datasets/tiny/tiny_dataset_builder.py").write_text(TINY)
    return workspace.find(folder, data=folder / "data")


@pytest.fixture
def ws(tmp_path):
    return make_workspace(tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The tiny dataset, prepared; not to be changed."""
    return source.prepare(make_workspace(tmp_path_factory.mktemp("tiny")), "tiny")
