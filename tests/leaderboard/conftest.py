"""A small workspace with two protocols whose trials are made of true labels and noise."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from facebench import digest, files, leaderboard, protocol
from facebench.leaderboard import judge, record, trial
from facebench.protocol import manifest
from facebench.workspace import Workspace

LANDMARKS = "landmarks/toy/fractions@1"
RECOGNITION = "recognition/toy/full@1"


def sha(text: str) -> str:
    return digest.of_bytes(text.encode())


def metric(name, unit, up, span, primary=False, decimals=2):
    return {
        "name": name,
        "unit": unit,
        "higher_is_better": up,
        "range": span,
        "primary": primary,
        "decimals": decimals,
    }


def landmark_draft() -> dict:
    return {
        "schema": "facebench/protocol-1",
        "id": LANDMARKS,
        "title": "Landmarks on toy faces, 10 % and 100 % of the labels",
        "task": "landmarks",
        "dataset": {"name": "toy", "config": "landmarks-64", "version": "1.0.0"},
        "splits": {
            "train": {"n": None, "keys": None, "content": None},
            "test": {"n": None, "keys": None, "content": None},
        },
        "regimes": {
            "kind": "fraction",
            "values": [0.1, 1.0],
            "by": "sample",
            "budget": "iso-step",
        },
        "seeds": [0, 1],
        "subsets": None,
        "adaptation": "scratch",
        "selection": "last-step",
        "preprocess": {"crop": "box", "size": 64, "margin": 0.2},
        "evaluation": {},
        "convention": "68-inter-ocular",
        "metrics": [
            metric("nme", "%", False, [0, None], primary=True),
            metric("fr@10", "%", False, [0, 100], decimals=1),
            metric("auc@10", "%", True, [0, 100], decimals=1),
        ],
        "predictions": {"points": {"dtype": "int16", "scale": 256}},
        "targets": None,
        "labels": "public",
        "note": "",
    }


def recognition_draft() -> dict:
    return landmark_draft() | {
        "id": RECOGNITION,
        "title": "Recognition of toy subjects",
        "task": "recognition",
        "regimes": {"kind": "full", "values": [1.0], "by": "unit", "budget": "iso-step"},
        "seeds": [0, 1, 2],
        "evaluation": {"pairs": "all", "gallery": [0, 4, 8]},
        "convention": "pooled",
        "metrics": [
            metric("rank@1", "", True, [0, 1], primary=True, decimals=3),
            metric("eer", "", False, [0, 1], decimals=3),
        ],
        "predictions": {
            "score": {"dtype": "int16", "scale": 32767},
            "similarity": {"dtype": "int16", "scale": 32767},
        },
        "labels": "gated",
    }


def landmark_targets(n: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    points = rng.uniform(4, 60, (n, 68, 2))
    points[:, 36], points[:, 45] = (20, 30), (44, 30)  # outer eye corners, 24 px apart
    box = np.tile([2.0, 2.0, 62.0, 62.0], (n, 1))
    return {"points": points, "visible": np.ones((n, 68), bool), "box": box, "unit": np.arange(n)}


def recognition_targets() -> dict[str, np.ndarray]:
    identity = np.repeat([0, 1, 2], 4)
    i, j = np.triu_indices(12, 1)
    gallery = np.array([0, 4, 8])
    probe = np.setdiff1d(np.arange(12), gallery)
    return {
        "same": identity[i] == identity[j],
        "probe_identity": identity[probe],
        "gallery_identity": identity[gallery],
    }


class Toy:
    """A workspace in a temporary folder."""

    landmark_draft = staticmethod(landmark_draft)
    landmark_targets = staticmethod(landmark_targets)
    recognition_draft = staticmethod(recognition_draft)
    recognition_targets = staticmethod(recognition_targets)

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        (root / "WORKSPACE.md").write_text("a toy\n", encoding="utf-8")
        self.space = Workspace(root=root.resolve(), data=(root / "data").resolve())
        self.root = self.space.root

    def freeze(self, draft: dict, targets: dict[str, np.ndarray], n: int = 12):
        where = self.space.protocols / f"{draft['id']}.json"
        files.write_json(where, draft)
        files.write_npz(self.space.targets(draft["id"], draft["labels"] == "public"), targets)
        kind, values = draft["regimes"]["kind"], draft["regimes"]["values"]
        keys = [protocol.subset_key(v, s) for v in values for s in draft["seeds"]]
        facts = {
            "splits": {
                name: {"n": size, "keys": sha(name), "content": sha(name + "!")}
                for name, size in (("train", 40), ("test", n))
            },
            "subsets": {key: sha(kind + key) for key in keys},
            "targets": digest.of_arrays(targets),
        }
        return protocol.freeze(self.space, where, facts)

    def freeze_listed(self, draft: dict):
        """A protocol whose subsets are real lists of keys, with their manifest."""
        targets = landmark_targets()
        where = self.space.protocols / f"{draft['id']}.json"
        files.write_json(where, draft)
        files.write_npz(self.space.targets(draft["id"], True), targets)
        keys = {
            protocol.subset_key(value, seed): [f"p{i}/{seed}" for i in range(int(40 * value))]
            for value in draft["regimes"]["values"]
            for seed in draft["seeds"]
        }
        facts = {
            "splits": {
                name: {"n": size, "keys": sha(name), "content": sha(name + "!")}
                for name, size in (("train", 40), ("test", 12))
            },
            "subsets": {name: digest.of_lines(sorted(one)) for name, one in keys.items()},
            "targets": digest.of_arrays(targets),
            "crops": sha("crops"),
        }
        of = protocol.freeze(self.space, where, facts)
        counts = {
            name: {"samples": len(one), "units": len(one), "classes": {}}
            for name, one in keys.items()
        }
        manifest.write(self.space, of, keys, counts)
        return of

    def predict(self, of, noise: float, seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        targets = judge.load_targets(self.space, of)
        if of.task == "landmarks":
            true = targets["points"]
            return {"points": true + noise * rng.normal(size=true.shape)}
        wanted = targets["probe_identity"][:, None] == targets["gallery_identity"]
        return {
            "score": 0.5 * targets["same"] + noise * rng.normal(size=len(targets["same"])),
            "similarity": 0.5 * wanted + noise * rng.normal(size=wanted.shape),
        }

    def run(
        self,
        of,
        entry: str,
        noise: float,
        *,
        kind="entry",
        config=None,
        skip=(),
        diverged=(),
        draw: int = 0,
    ) -> list[Path]:
        """Writes the trials of an entry; less noise with more labels.

        Entries of one `draw` err in the same directions, so that the least difference shows.
        """
        folders = []
        semantic = {"model": {"width": 8}, "optim": {"lr": 0.001}} | (config or {})
        for i, (value, seed) in enumerate(of.trials()):
            key = protocol.subset_key(value, seed)
            if key in skip:
                continue
            stored = metrics = None
            if key not in diverged:
                arrays = self.predict(of, noise / value**0.25, 100 * seed + i + 10_000 * draw)
                stored = protocol.quantise(of, arrays)
                targets = judge.load_targets(self.space, of)
                metrics = judge.score(of, stored, targets)
            composed = trial.compose(
                of,
                entry,
                kind,
                {"semantic": semantic, "execution": {"workers": 2, "log_dir": "/home/me/logs"}},
                value,
                seed,
                stored=stored,
                metrics=metrics,
                time={"train_s": 1.5 + i, "predict_s": 0.25},
                parameters=1234567,
                environment=trial.environment("cpu", 1),
                weights=sha(f"{entry}/{key}"),
            )
            folder = trial.directory(self.space, of.id, entry, value, seed, composed["trial_id"])
            if stored is not None:
                files.write_npz(folder / "predictions.npz", stored)
            trial.write(folder, composed)
            folders.append(folder)
        return folders

    def record(self, of, entry: str, noise: float, **kwargs) -> Path:
        self.run(of, entry, noise, **kwargs)
        return leaderboard.submit(self.space, of.id, entry)[0]

    def rehash(self, path: Path, change) -> Path:
        """Changes a record and makes its id and place fit again, as a forger would."""
        value = copy.deepcopy(json.loads(path.read_text()))
        path.unlink()
        change(value)
        value["record_id"] = digest.of_json({k: v for k, v in value.items() if k != "record_id"})
        new = record.place(self.space, value)
        files.write_json(new, value)
        return new

    def rebundle(self, path: Path, change) -> Path:
        """Changes the predictions of a record and makes all digests fit again."""
        value = json.loads(path.read_text())
        old = record.bundle_place(self.space, value)
        arrays = files.read_npz(old)
        change(arrays)
        old.unlink()
        value["predictions"]["content_digest"] = digest.of_arrays(arrays)
        files.write_npz(record.bundle_place(self.space, value), arrays)
        return self.rehash(path, lambda v: v.update(predictions=value["predictions"]))

    def part(self, path: Path, keep) -> Path:
        """Leaves only some trials in a record, as if no others had been made when it was."""

        def only(arrays):
            arrays.update({name: array[list(keep)] for name, array in arrays.items()})

        def rows(value):
            value["trials"] = [value["trials"][i] for i in keep]

        return self.rehash(self.rebundle(path, only), rows)

    def snapshot(self) -> dict[str, bytes]:
        """Every file of the workspace, to see that nothing else was touched."""
        found = sorted(p for p in self.root.rglob("*") if p.is_file())
        return {p.relative_to(self.root).as_posix(): p.read_bytes() for p in found}


@pytest.fixture(scope="session")
def workspace() -> type[Toy]:
    """`Toy`, for fixtures of a wider scope than one test."""
    return Toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path / "space")


@pytest.fixture
def landmarks(toy: Toy):
    return toy.freeze(landmark_draft(), landmark_targets())


@pytest.fixture
def recognition(toy: Toy):
    return toy.freeze(recognition_draft(), recognition_targets())


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `full` copies."""
    toy = Toy(tmp_path_factory.mktemp("full") / "space")
    landmarks = toy.freeze(landmark_draft(), landmark_targets())
    recognition = toy.freeze(recognition_draft(), recognition_targets())
    toy.record(landmarks, "mean-shape", 8.0, kind="floor")
    toy.record(landmarks, "small-net", 1.0)
    toy.record(landmarks, "other-net", 1.06, draw=1)
    toy.record(recognition, "pixels", 0.3, kind="floor")
    toy.record(recognition, "net", 0.05)
    leaderboard.write(toy.space)
    return toy.root


@pytest.fixture
def full(template: Path, tmp_path: Path) -> Toy:
    """Two protocols, five entries, boards written; everything is in order."""
    shutil.copytree(template, tmp_path / "space")
    return Toy(tmp_path / "space")
