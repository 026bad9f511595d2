"""How well a linear map reads who is seen from the features that finished trials trained.

    python benchmarks/identity_probe.py runs/TASK/DATASET/REGIME@VERSION/ENTRY/TRIAL ...

Nothing is trained but the map, `facebench.probes.identity`: it learns people on half of their
images and names them on the other half. `--split=train` (the default) asks about the people and
images of the trial's own subset; where these people have habits, their action units tell who they
are, too. `--split=dev` asks about the strangers of dev, who have none. Prints one JSON line per
trial; with `--untrained` also a line for the same network as its seed drew it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from facebench import config, models, plan, selection, workspace
from facebench import protocol as protocols
from facebench.convert import trained
from facebench.data import pipeline, subsets
from facebench.errors import FacebenchError
from facebench.experiment import Experiment
from facebench.leaderboard import trial
from facebench.probes import identity
from facebench.train.step import normalize


def read(module: Any, variables: Any, batches: pipeline.Batches, which: str) -> np.ndarray:
    """[n, F] features of the backbone of a module with these variables."""
    import jax

    @jax.jit
    def look(image: jax.Array) -> jax.Array:
        outputs = module.apply(
            variables, normalize(image), method=lambda m, x: m.backbone(x, train=False)
        )
        return models.features(outputs, which)

    with batches:
        return np.concatenate([np.asarray(look(b["image"]))[b["mask"] > 0] for b in batches])


def probe(folder: Path, which: str, split: str, untrained: bool) -> list[dict[str, Any]]:
    """What is said of one trial, and of its network before training.

    Raises:
        FacebenchError: no finished training, or its checkpoint is gone or another one.
    """
    import jax

    ws, said = workspace.find(folder), trial.read(folder)
    of = protocols.load(ws, said["protocol"]["id"])
    semantic = said["config"]["semantic"]
    if "probe" in semantic or said["status"] != "ok":
        raise FacebenchError(f"{folder}: an identity probe is of a training that did not diverge")
    experiment = Experiment(ws, config.restore(semantic), of)
    job = plan.Job(said["regime"]["value"], said["seed"], folder, "done")
    module, variables = experiment.module(job), trained.variables(folder, said)
    if split == "dev":
        part, rows, _ = selection.dev(of, experiment.dataset)
    else:
        part = experiment.dataset.split("train")
        rows, _ = subsets.of_protocol(of, experiment.dataset, job.value, job.seed)
    weights = {"trained": variables}
    if untrained:
        key, dropout = jax.random.split(jax.random.key(job.seed))
        image = np.zeros((2, of.preprocess["size"], of.preprocess["size"], 3), np.float32)
        weights["untrained"] = module.init({"params": key, "dropout": dropout}, image, train=True)
    lines = []
    for state, values in weights.items():
        batches = pipeline.predict_batches(
            part, preprocess=of.preprocess, batch_size=64, indices=rows
        )
        found = identity.accuracy(
            read(module, values, batches, which),
            np.array([part.units[i] for i in rows]),
            [part.keys[i] for i in rows],
        )
        about = {"entry": said["entry"], "value": job.value, "seed": job.seed, "weights": state}
        lines.append({**about, "features": which, "split": split, **found})
    return lines


def main(argv: list[str] | None = None) -> int:
    """Probes the trials that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("trials", nargs="+", type=Path, help="folders of finished trials")
    parser.add_argument("--features", choices=models.FEATURES, default="pooled")
    parser.add_argument("--split", choices=("train", "dev"), default="train")
    parser.add_argument("--untrained", action="store_true")
    options = parser.parse_args(argv)
    try:
        for folder in options.trials:
            for line in probe(folder, options.features, options.split, options.untrained):
                print(json.dumps(line), flush=True)
    except FacebenchError as error:
        print(f"identity_probe: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
