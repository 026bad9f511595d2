"""A small workspace of its own: blobs for faces, people that differ in colour, two protocols."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from facebench import cli

BUILDER = '''
"""Blobs with 19 points; people differ in colour."""

import cv2
import numpy as np
import tensorflow_datasets as tfds

from facebench.schemes import SCHEMES

SPLITS = {"train": (12, 4), "dev": (2, 4), "test": (5, 4)}


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds toyfaces."""

    generated = True
    name = "toyfaces"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="small", description="")]
    pkg_dir_path = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            disable_shuffling=True,
            features=tfds.features.FeaturesDict({
                "key": tfds.features.Text(),
                "unit": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
                "points": tfds.features.Tensor(shape=(19, 2), dtype=np.float32),
                "visible": tfds.features.Tensor(shape=(19,), dtype=np.bool_),
                "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            }),
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in SPLITS}

    def _generate_examples(self, split):
        people, each = SPLITS[split]
        angle = np.linspace(0, 2 * np.pi, 19, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle)], 1)
        mirror = SCHEMES[19].flip
        ring = (ring + ring[list(mirror)] * [-1, 1]) / 2 + [0, 0.1]  # as symmetric as a face
        y, x = np.mgrid[:32, :32]
        for person in range(people):
            unit = f"{split}-{person:02d}"
            own = np.random.Generator(np.random.Philox(key=[sum(map(ord, unit)), person]))
            colour = own.uniform(60, 255, 3)
            for i in range(each):
                cx, cy, r = own.uniform([12, 12, 5], [20, 20, 9])
                blob = np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / (2 * (r / 2) ** 2)))
                image = (blob[..., None] * colour).astype(np.uint8)
                key = f"{unit}/{i}"
                yield key, {
                    "key": key,
                    "unit": unit,
                    "image": cv2.imencode(".png", image[..., ::-1])[1].tobytes(),
                    "points": (ring * r + [cx, cy]).astype(np.float32),
                    "visible": np.ones(19, bool),
                    "box": np.array([0, 0, 31, 31], np.float32),
                }
'''

NET = '''
"""The smallest backbone there is."""

from flax import linen as nn


class Net(nn.Module):
    width: int = 8

    @nn.compact
    def __call__(self, image, *, train: bool):
        x = nn.relu(nn.Conv(self.width, (3, 3), strides=4)(image))
        return {"pooled": x.mean((1, 2)), "spatial": x}
'''

EXPERIMENT = '''
"""The smallest backbone on {task}."""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = arg or "net"
    config.protocol = "{task}/toyfaces/few@1"
    config.model = {{"build": "models/net.py:Net", "width": 8}}
    config.data.batch_size = 16
    config.train.steps = 12
    config.execution.log_every = 2
    config.execution.checkpoint_every = 4
    config.execution.tensorboard = False
    return config
'''


def _protocol(task: str, metrics: list, **rest) -> dict:
    empty = {"n": None, "keys": None, "content": None}
    return {
        "schema": "facebench/protocol-1",
        "id": f"{task}/toyfaces/few@1",
        "title": f"Blobs: {task}",
        "task": task,
        "dataset": {"name": "toyfaces", "config": "small", "version": "1.0.0"},
        "splits": {"train": empty, "dev": empty, "test": empty},
        "regimes": {"kind": "fraction", "values": [0.5, 1.0], "by": "unit", "budget": "iso-step"},
        "seeds": [0, 1],
        "subsets": None,
        "adaptation": "scratch",
        "selection": "last-step",
        "preprocess": {"crop": "box", "size": 32, "margin": 0.0},
        "evaluation": {},
        "convention": None,
        "metrics": [
            {
                **{"name": name, "unit": unit, "higher_is_better": up, "range": bounds},
                **{"primary": i == 0, "decimals": 3},
            }
            for i, (name, unit, up, bounds) in enumerate(metrics)
        ],
        "targets": None,
        "labels": "public",
        "note": "",
    } | rest


PROTOCOLS = [
    _protocol(
        "landmarks",
        [("nme", "%", False, [0, None])],
        convention="19-diagonal",
        predictions={"points": {"dtype": "int16", "scale": 256}},
    ),
    _protocol(
        "recognition",
        [("rank@1", "", True, [0, 1]), ("eer", "", False, [0, 1])],
        convention="pooled",
        evaluation={"pairs": "all"},
        predictions={
            "score": {"dtype": "int16", "scale": 32767},
            "similarity": {"dtype": "int16", "scale": 32767},
        },
    ),
]


@pytest.fixture(scope="session")
def frozen(tmp_path_factory) -> Path:
    """The workspace with its data prepared and its protocols frozen; not to be changed."""
    root = tmp_path_factory.mktemp("workspace")
    (root / "WORKSPACE.md").write_text("# toy\n")
    for path, text in {
        "datasets/toyfaces/toyfaces_dataset_builder.py": BUILDER,
        "models/net.py": NET,
        "experiments/landmarks.py": EXPERIMENT.format(task="landmarks"),
        "experiments/recognition.py": EXPERIMENT.format(task="recognition"),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for value in PROTOCOLS:
        file = root / "leaderboards/protocols" / f"{value['id']}.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(value))
        assert cli.main(["protocol", "freeze", value["id"], f"--workspace={root}"]) == 0
    return root


@pytest.fixture
def space(frozen, tmp_path, monkeypatch) -> Path:
    """A copy of the workspace to work in; it is the current folder."""
    root = tmp_path / "space"
    shutil.copytree(frozen, root)
    monkeypatch.chdir(root)
    monkeypatch.delenv("FACEBENCH_DATA", raising=False)
    monkeypatch.delenv("FACEBENCH_WORKSPACE", raising=False)
    return root
