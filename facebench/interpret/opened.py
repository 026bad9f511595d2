"""A finished trial, opened again: its network, its weights, and the samples to look at."""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from facebench import config as configs
from facebench import plan, selection
from facebench import protocol as protocols
from facebench.convert import trained
from facebench.data import pipeline, source, subsets, targets, transforms
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.experiment import Experiment
from facebench.interpret import layers as layer_lib
from facebench.leaderboard import trial
from facebench.protocol import Protocol
from facebench.workspace import Workspace

TASKS = ("expression",)


def find(name: str) -> Path:
    """The folder of a trial: itself, or ``.../ENTRY/VALUE/SEED``.

    Raises:
        UsageError: there is none, or several were made of one value and seed.
    """
    path = Path(name)
    if trial.finished(path):
        return path
    entry = path.parent.parent
    there = sorted(p.parent for p in entry.glob("*/trial.json")) if path.name.isdigit() else []
    if re.fullmatch(r"[0-9.]+", path.parent.name):
        found = [p for p in there if _same(p.name, path.parent.name, path.name)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(p) for p in found)
            raise UsageError(f"--trial={name}: several trials have that value and seed: {names}")
    if there:
        known = ", ".join(p.name for p in there)
        raise UsageError(f"--trial={name}: no such trial; {entry} has {known}")
    near = [str(p.parent) for p in sorted(path.glob("**/trial.json"))[:20]]
    near = near or [str(p.parent) for p in sorted(path.parent.glob("*/trial.json"))]
    raise UsageError(f"--trial={name}: no finished trial there; {nearest(name, near)}")


def _same(folder: str, value: str, seed: str) -> bool:
    match = re.fullmatch(r"([0-9.e+-]+)-s(\d+)-[0-9a-f]+", folder)
    if match is None:
        return False
    try:
        return (float(match[1]), int(match[2])) == (float(value), int(seed))
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images to look at.

    Attributes:
        images: [n, S, S, 3] uint8.
        label: [n] int, the place of the class in `Opened.classes`.
        points: [n, 68, 2] pixels of the crop; None where the dataset has no 68 points.
        rows: [n], places in the split.
    """

    images: np.ndarray
    label: np.ndarray
    points: np.ndarray | None
    rows: np.ndarray


class Opened:
    """A finished trial with its network.

    Args:
        ws: the workspace.
        folder: of the trial.

    Attributes:
        value: what ``trial.json`` says.
        module: the backbone with the task's head.
        variables: that it predicted with; their digest is the one in ``trial.json``.
        classes: names, in the order of the scores.

    Raises:
        FacebenchError: no weights (a closed-form probe, a checkpoint that is gone), another task,
            other data than the trial was made on.
    """

    def __init__(self, ws: Workspace, folder: Path):
        self.folder, self.value = folder, trial.read(folder)
        said = self.value
        self.protocol: Protocol = protocols.load(ws, said["protocol"]["id"])
        if self.protocol.digest != said["protocol"]["digest"]:
            raise FacebenchError(f"{folder}: its protocol {self.protocol.id} changed since")
        if self.protocol.task not in TASKS:
            raise FacebenchError(
                f"{folder}: a trial of task {self.protocol.task!r}; heat maps are of a class, and "
                f"the tasks with classes are: {', '.join(TASKS)}"
            )
        semantic = said["config"]["semantic"]
        if "probe" in semantic:
            raise FacebenchError(
                f"{folder}: probe {semantic['probe']['build']!r} is a closed-form fit, whose "
                "weights are not kept; heat maps are of trained networks"
            )
        if said["status"] != "ok":
            raise FacebenchError(f"{folder}: the training diverged; there is nothing to look at")
        experiment = Experiment(ws, configs.restore(semantic), self.protocol)
        job = plan.Job(said["regime"]["value"], said["seed"], folder, "done")
        self.dataset = experiment.dataset
        self.module, self.variables = experiment.module(job), trained.variables(folder, said)
        self.weights = said["model"]["weights"]
        self.size: int = self.protocol.preprocess["size"]
        self.classes, _ = subsets.classes(self.protocol, self.dataset.split("test"))
        self.generated = source.generated(ws, self.protocol.dataset["name"])

    @property
    def name(self) -> str:
        """``ENTRY VALUE/SEED``, as people call it."""
        regime = self.value["regime"]["value"]
        return f"{self.value['entry']} {protocols.subset_key(regime, self.value['seed'])}"

    @property
    def family(self) -> str:
        """The backbone's name in the config."""
        return str(self.value["config"]["semantic"]["model"]["build"])

    @property
    def precision(self) -> str:
        """What the backbone computes in."""
        return str(self.value["config"]["semantic"]["train"]["precision"])

    @cached_property
    def layers(self) -> list[layer_lib.Layer]:
        """Every map inside the network."""
        return layer_lib.find(self.module, self.variables, self.size)

    def samples(self, split: str = "test", limit: int = 0, batch_size: int = 64) -> Samples:
        """Images of a split with their labels and points, in the crop of the protocol.

        Args:
            split: a test split of the protocol, ``dev`` or ``train``.
            limit: the first so many; 0 for all.
            batch_size: read at a time.

        Raises:
            UsageError: another split.
        """
        splits = (*self.protocol.tested, "dev", "train")
        if split not in splits:
            raise UsageError(f"--split={split}: {nearest(split, splits)}")
        if split == "dev":
            of, rows, labels = selection.dev(self.protocol, self.dataset)
        else:
            of = self.dataset.split(split)
            rows, labels = subsets.used(self.protocol, of), targets.build(self.protocol, of)
        label = labels["label"]
        known = (label >= 0) & (label < len(self.classes))
        rows, label = rows[known][: limit or None], label[known][: limit or None]
        if not len(rows):
            raise FacebenchError(f"{of.label}: split {split!r} has no sample with a class")
        images, moves = [], []
        batches = pipeline.predict_batches(
            of, preprocess=self.protocol.preprocess, batch_size=batch_size, indices=rows
        )
        with batches:
            for batch in batches:
                kept = batch["mask"] > 0
                images.append(batch["image"][kept])
                moves.append(batch["to_image"][kept])
        points = self._points(of, rows)
        if points is not None:
            inverse = [transforms.invert(m) for m in np.concatenate(moves).astype(np.float64)]
            points = np.stack([transforms.apply(m, p) for m, p in zip(inverse, points)])
        return Samples(np.concatenate(images), label.astype(np.int64), points, rows)

    def _points(self, split: source.Split, rows: np.ndarray) -> np.ndarray | None:
        try:
            points = source.field(split, "points", rows).astype(np.float64)
        except UsageError:
            return None
        return points if points.shape[1:] == (68, 2) else None
