"""How long `facebench leaderboard build` takes, and how much memory, on generated records.

    python benchmarks/board_speed.py [--records=10000] [--protocols=100] [--dir=FOLDER]

Makes a workspace of landmark protocols with real digests, bundles and scores, then builds it in
fresh processes: cold (no derived results), warm (nothing changed), and after one record was added.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from facebench import digest, files, protocol
from facebench.leaderboard import judge, record, trial
from facebench.workspace import Workspace

SAMPLES, UNITS, SEEDS, VALUES = 24, 12, (0, 1, 2), (0.1, 1.0)
BUILD = """
import resource, sys, time
start = time.perf_counter()
from facebench import leaderboard, workspace
from pathlib import Path
made = leaderboard.write(workspace.find(Path(sys.argv[1])))
seconds, cpu = time.perf_counter() - start, time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{seconds:.2f} s ({cpu:.2f} s of CPU), {peak:.0f} MB, {len(made)} files")
"""


def sha(text: str) -> str:
    return digest.of_bytes(text.encode())


def draft(name: str) -> dict:
    def metric(name: str, up: bool, high: int | None, primary: bool = False) -> dict:
        return {
            "name": name,
            "unit": "%",
            "higher_is_better": up,
            "range": [0, high],
            "primary": primary,
            "decimals": 2,
        }

    return {
        "schema": "facebench/protocol-1",
        "id": name,
        "title": f"Generated records, {name}",
        "task": "landmarks",
        "dataset": {"name": "speed", "config": None, "version": "1.0.0"},
        "splits": {
            "train": {"n": 100, "keys": sha("train"), "content": sha("train!")},
            "test": {"n": SAMPLES, "keys": sha("test"), "content": sha("test!")},
        },
        "regimes": {
            "kind": "fraction",
            "values": list(VALUES),
            "by": "sample",
            "budget": "iso-step",
        },
        "seeds": list(SEEDS),
        "subsets": {protocol.subset_key(v, s): sha(f"{v}/{s}") for v in VALUES for s in SEEDS},
        "adaptation": "scratch",
        "selection": "last-step",
        "preprocess": {"crop": "box", "size": 64},
        "evaluation": {},
        "convention": "19-diagonal",
        "metrics": [
            metric("nme", False, None, True),
            metric("fr@10", False, 100),
            metric("auc@10", True, 100),
        ],
        "predictions": {"points": {"dtype": "int16", "scale": 256}},
        "targets": None,
        "labels": "public",
        "note": "",
    }


def write(path: Path, data: bytes) -> None:
    """Without the safety of `files`: a benchmark's input may be lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def make_protocol(space: Workspace, name: str, rng: np.random.Generator) -> protocol.Protocol:
    targets = {
        "points": rng.uniform(10, 54, (SAMPLES, 19, 2)),
        "unit": np.repeat(np.arange(UNITS), SAMPLES // UNITS),
    }
    value = draft(name) | {"targets": digest.of_arrays(targets)}
    write(space.protocols / f"{name}.json", json.dumps(value, indent=2).encode())
    write(space.targets(name, True), files.npz_bytes(targets))
    return protocol.load(space, name)


def make_record(
    space: Workspace, of: protocol.Protocol, entry: str, noise: float, rng: np.random.Generator
) -> None:
    targets = judge.load_targets(space, of)
    semantic = {"model": {"build": entry, "width": 64}, "optim": {"lr": 0.001, "decay": 0.05}}
    config = digest.of_json(semantic)
    bundle, rows = [], []
    for value, seed in of.trials():
        off = noise * (1 + 0.05 * rng.normal()) * rng.normal(size=targets["points"].shape)
        stored = protocol.quantise(of, {"points": targets["points"] + off / value**0.25})
        bundle.append(stored["points"])
        rows.append(
            {
                "trial_id": trial.asked(of, entry, config, value, seed),
                "regime": {"kind": "fraction", "value": value},
                "seed": seed,
                "subset_digest": of.subsets[protocol.subset_key(value, seed)],
                "status": "ok",
                "metrics": judge.score(of, stored, targets),
                "time": {"train_s": 60.0, "predict_s": 1.0},
                "parameters": 1_000_000,
                "weights": sha(f"{entry}{value}{seed}"),
                "environment": 0,
            }
        )
    arrays = {"points": np.stack(bundle)}
    value = {
        "schema": "facebench/record-1",
        "protocol": {"id": of.id, "digest": of.digest},
        "entry": entry,
        "kind": "entry",
        "config": {"digest": config, "semantic": semantic},
        "trials": rows,
        "predictions": {"content_digest": digest.of_arrays(arrays), "n": of.n},
        "environments": [trial.environment("cpu", 1)],
        "note": "",
    }
    value["record_id"] = digest.of_json(value)
    text = json.dumps(value, indent=2, sort_keys=True)
    write(record.place(space, value), text.encode())
    write(record.bundle_place(space, value), files.npz_bytes(arrays))


def build(root: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(root)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--records", type=int, default=10_000)
    flags.add_argument("--protocols", type=int, default=100)
    flags.add_argument("--dir", type=Path, help="keep the workspace here; use it if it is there")
    asked = flags.parse_args()
    root = asked.dir or Path(tempfile.mkdtemp(prefix="board-speed-"))
    space = Workspace(root=root.resolve(), data=(root / "data").resolve())
    try:
        if not (root / "WORKSPACE.md").is_file():
            rng, start = np.random.default_rng(0), time.perf_counter()
            each = asked.records // asked.protocols
            for i in range(asked.protocols):
                of = make_protocol(space, f"landmarks/speed/p{i:03}@1", rng)
                for k in range(each):
                    make_record(space, of, f"net-{k:03}", 0.5 * 1.03**k, rng)
            write(root / "WORKSPACE.md", b"generated records\n")
            print(
                f"generated {each * asked.protocols} records: {time.perf_counter() - start:.0f} s"
            )
        shutil.rmtree(space.leaderboards / "derived", ignore_errors=True)
        print(f"cold:       {build(root)}", flush=True)
        print(f"warm:       {build(root)}", flush=True)
        first = protocol.load(space, protocol.names(space)[0])
        before = set(space.records.rglob("*.json")) | set(space.predictions.rglob("*.npz"))
        make_record(space, first, "net-new", 0.7, np.random.default_rng(1))
        print(f"one added:  {build(root)}", flush=True)
        after = set(space.records.rglob("*.json")) | set(space.predictions.rglob("*.npz"))
        for path in after - before:
            path.unlink()
    finally:
        if asked.dir is None:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
