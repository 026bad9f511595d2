"""The generated world as a dataset: faces drawn by `facebench.synth`, with exact labels."""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facebench import synth
from facebench.synth import records, stream
from facebench.synth.progress import Progress

HERE = Path(__file__).parent
SIZES = (64, 112, 224)

World = synth.WorldConfig | synth.ClipConfig


class SynthConfig(tfds.core.BuilderConfig):
    """One configuration: a world per split, of different people.

    Attributes:
        worlds: split name -> its world.
        dense: the dense labels that it stores.
    """

    def __init__(
        self, worlds: dict[str, World], dense: tuple[str, ...] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.worlds = worlds
        self.dense = dense

    @property
    def moving(self) -> bool:
        """Whether its examples are frames of clips."""
        return isinstance(next(iter(self.worlds.values())), synth.ClipConfig)


def _worlds(size: int, seed: int, splits: dict[str, tuple[int, int]], **knobs: Any) -> dict:
    """Worlds of (identities, images of each) per split: other seeds, other numbers of people."""
    out, first = {}, 0
    for k, (name, (identities, each)) in enumerate(splits.items()):
        out[name] = synth.WorldConfig(
            size=size, seed=seed + k, identities=identities, per_identity=each,
            first_identity=first, **knobs,
        )  # fmt: skip
        first += identities
    return out


def _robust(worlds: dict[str, Any]) -> dict[str, Any]:
    """Adds the test world with everything covered, and with everything drawn in a style."""
    test = worlds["test"]
    return {
        **worlds,
        "test_occluded": dataclasses.replace(test, occlusion=1.0),
        "test_style": dataclasses.replace(test, style="any", style_rate=1.0, style_strength=0.8),
    }


def _landmarks(size: int) -> dict[str, Any]:
    people = {"train": (1000, 2), "dev": (100, 2), "test": (200, 2)}
    return _robust(_worlds(size, 1000, people))


def _recognition(size: int) -> dict[str, Any]:
    people = {"train": (100, 20), "dev": (10, 10), "test": (40, 10)}
    worlds = _worlds(
        size, 2000, people, yaw=5 * math.pi / 12, age_span=10.0, groups=4, group_strength=0.7,
        occlusion=0.05, blur=0.006, jpeg=0.3,
    )  # fmt: skip
    worlds["train"] = dataclasses.replace(worlds["train"], group_imbalance=0.6)
    return worlds


def _recognition_degraded(size: int) -> dict[str, Any]:
    """The faces of `_recognition`, image by image, through a camera that is bad to a random degree.

    Each image draws its own blur, noise and compression, in all splits.
    """
    return {
        name: dataclasses.replace(world, blur=0.05, noise=8.0, jpeg=0.5)
        for name, world in _recognition(size).items()
    }


def _expression(size: int) -> dict[str, Any]:
    people = {"train": (1000, 4), "dev": (100, 4), "test": (200, 4)}
    return _robust(_worlds(size, 3000, people, classes=8, expressive=0.875, extras=0.35))


def _expression_hard(size: int) -> dict[str, Any]:
    """The faces of `_expression`, and its test faces covered and turned away."""
    worlds = _expression(size)
    hard = dataclasses.replace(worlds["test"], occlusion=1.0, yaw=5 * math.pi / 12)
    return {**worlds, "test_hard": hard}


def _action_units(size: int) -> dict[str, Any]:
    people = {"train": (60, 64), "dev": (10, 40), "test": (20, 40)}
    worlds = _robust(_worlds(size, 4000, people, classes=8, expressive=0.5, extras=1.5))
    worlds["train_linked"] = dataclasses.replace(worlds["train"], identity_au=0.8)
    return worlds


def _action_units_linked(size: int) -> dict[str, Any]:
    """The faces of `_action_units`, where who a training face is tells what it does."""
    worlds = _action_units(size)
    del worlds["train_linked"]
    return {**worlds, "train": dataclasses.replace(worlds["train"], identity_au=0.9)}


def _parsing(size: int) -> dict[str, Any]:
    people = {"train": (500, 2), "dev": (50, 2), "test": (100, 2)}
    return _worlds(size, 5000, people, occlusion=0.1)


def _clips(size: int) -> dict[str, Any]:
    people = {"train": (100, 3), "dev": (10, 3), "test": (20, 3)}
    worlds = _worlds(size, 6000, people, classes=8, expressive=0.875, yaw=math.pi / 6)
    return {name: synth.ClipConfig(world, frames=16) for name, world in worlds.items()}


def _unlabelled(size: int) -> dict[str, Any]:
    return _worlds(
        size, 7000, {"train": (5000, 4)}, yaw=math.pi / 2, pose="frontal", classes=8,
        age=(16.0, 90.0), age_span=10.0, occlusion=0.1, blur=0.008, jpeg=0.3, style="any",
        style_rate=0.05,
    )  # fmt: skip


#: Task -> (its worlds, the dense labels it stores, what its data are).
TASKS = {
    "landmarks": (_landmarks, (), "Two images per person, poses up to 45 degrees."),
    "recognition": (_recognition, (), "Many images of fewer people, poses up to 75 degrees."),
    "recognition_degraded": (
        _recognition_degraded, (), "The faces of recognition, from sharp to hardly to be seen."
    ),
    "expression": (_expression, (), "Eight expressions, evenly."),
    "expression_hard": (_expression_hard, (), "The faces of expression; covered and turned away."),
    "action_units_linked": (
        _action_units_linked, (), "In training, people show action units of their own."
    ),
    "action_units": (_action_units, (), "Many images of few people, many action units."),
    "parsing": (_parsing, records.DENSE, "Parse mask, occluder mask and depth."),
    "clips": (_clips, (), "Clips of 16 frames with events; one example per frame."),
    "unlabelled": (_unlabelled, (), "Everything that varies, for pretraining."),
}  # fmt: skip


def _features(config: SynthConfig) -> dict[str, Any]:
    world = next(iter(config.worlds.values()))
    size = (world.world if isinstance(world, synth.ClipConfig) else world).size

    def numbers(*shape: int, of: Any = np.float32) -> Any:
        return tfds.features.Tensor(shape=shape, dtype=of)

    whole = tfds.features.Scalar(dtype=np.int64)
    faces = tfds.features.ClassLabel(names=list(synth.EXPRESSIONS))
    out = {
        "key": tfds.features.Text(),
        "unit": tfds.features.Text(),
        "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
        "points": numbers(68, 2),
        "visible": numbers(68, of=np.bool_),
        "hidden": numbers(68, of=np.uint8),
        "points98": numbers(98, 2),
        "visible98": numbers(98, of=np.bool_),
        "box": numbers(4),
        "rest_box": numbers(4),
        "identity": whole,
        "group": whole,
        "age": tfds.features.Scalar(dtype=np.float32),
        "au": numbers(len(synth.ACTION_UNITS)),
        "sides": numbers(len(synth.ACTION_UNITS)),
        "expression": faces,
        "shown": faces,
        "pose": numbers(3),
        "gaze": numbers(2),
        "light": numbers(9),
        "camera": numbers(4),
        "intrinsics": numbers(3),
        "attributes": numbers(len(synth.ATTRIBUTES), of=np.bool_),
        "makeup": numbers(len(synth.MAKEUP), 4),
        "occluder_share": numbers(len(synth.OCCLUDERS)),
        "style": tfds.features.ClassLabel(names=list(synth.FILTERS)),
        "quality": numbers(3),
    }
    for name in config.dense:
        kind = np.uint16 if name == "depth" else np.uint8
        out[name] = tfds.features.Image(
            shape=(size, size, 1), dtype=kind, encoding_format="png", use_colormap=False
        )
    if config.moving:
        out |= {"clip": whole, "frame": whole, "emotion": faces}
        out |= {"events": tfds.features.Text(), "blinks": tfds.features.Text()}
    return out


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds synthface; nothing is downloaded.

    What is made is kept in chunks beside the folder of the preparation until all of it is there, so
    a preparation that was killed goes on where it was.
    """

    generated = True  # so that a run may prepare it by itself

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar = {
        "2.0.0": "A deeper world: occluders, age, makeup, styles, 98 points, dense labels, clips.",
        "1.0.0": "First world.",
    }
    BUILDER_CONFIGS: ClassVar = [
        SynthConfig(
            name=f"{task}-{size}",
            description=f"{size} px. {about}",
            worlds=worlds(size),
            dense=dense,
        )
        for task, (worlds, dense, about) in TASKS.items()
        for size in SIZES
    ]
    name = "synthface"
    pkg_dir_path = HERE

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            metadata=tfds.core.MetadataDict(
                au=list(synth.ACTION_UNITS), attributes=list(synth.ATTRIBUTES)
            ),
            disable_shuffling=True,  # samples stay in the order they are drawn in
            description="Parametric faces rendered by facebench.synth, with exact labels.",
            features=tfds.features.FeaturesDict(_features(self.builder_config)),
            citation=(HERE / "CITATIONS.bib").read_text(encoding="utf-8"),
        )

    def _chunks(self) -> Path:
        """The folder of the chunks, named by everything that they depend on.

        `facebench data prepare` clears its work folder, ``.preparing-...``, when it starts; the
        chunks stand beside it. Those of another version of the world, or of its code, are removed.
        """
        config, root = self.builder_config, Path(self._data_dir_root)
        if root.name.startswith(".preparing-"):
            root = root.parent
        mark = stream.fingerprint(
            synth.VERSION, config.name, config.dense, sorted(config.worlds.items())
        )
        stem = f".making-{self.name}-{config.name}-"
        folder = root / f"{stem}{self.VERSION}-{mark}"
        for other in root.glob(f"{stem}*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        return folder

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Makes the dataset, showing how far it is."""
        done = Path(self.data_dir).exists()
        tfds.disable_progress_bar()  # ours tells more
        super().download_and_prepare(**kwargs)
        if not done:
            self._progress.close()
            shutil.rmtree(self._chunks(), ignore_errors=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # nothing to download
        worlds = self.builder_config.worlds
        unit = "clips" if self.builder_config.moving else "images"
        title = f"{self.name}/{self.builder_config.name}"
        self._progress = Progress(title, sum(map(len, worlds.values())), unit)
        return {name: self._generate_examples(name) for name in worlds}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        world, prefix = config.worlds[split], f"{config.name}/{split}"
        make = records.of_clip if config.moving else records.of_sample
        made = stream.kept(
            functools.partial(make, world, config.dense), len(world), self._chunks() / split,
            chunk=8 if config.moving else 64, note=self._progress.step,
        )  # fmt: skip
        for i, examples in enumerate(made):
            for fields in examples:
                key = f"{prefix}/{i:06d}"
                if config.moving:
                    key += f"/{fields['frame']:03d}"
                yield key, {"key": key, **fields}
