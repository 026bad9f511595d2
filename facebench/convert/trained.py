"""A finished trial's backbone as a file of weights: the very ones that predicted.

Nothing is trained or predicted, and no data is opened: the trial's last checkpoint (or, where the
step was chosen on dev, what was kept of that step) is read and held against the digest that the
trial has of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facebench import digest, files, models, tensors
from facebench import protocol as protocols
from facebench.errors import FacebenchError
from facebench.leaderboard import trial
from facebench.models import stored
from facebench.workspace import Workspace

BACKBONE = "backbone"  # under this name tasks keep it


def convert(ws: Workspace, folder: Path, output: Path, licence: str = "") -> tuple[Path, dict]:
    """Makes a file of weights from a trial.

    The header's ``source`` is the digest that names the trial, and ``trial`` says which it is:
    protocol, entry, regime value, seed, and the digest of all its weights, its head's included.

    Args:
        ws: the workspace.
        folder: of the trial, with ``trial.json`` and ``checkpoints``.
        output: a file ``*.safetensors``, or a folder, in which the file is named by entry, task
            and the first digits of the digest of the weights.
        licence: the terms of the weights; the protocol's licence by default.

    Returns:
        The file, and its header; see `facebench.models.stored`.

    Raises:
        FacebenchError: the trial is not finished, diverged or trained no backbone; its checkpoint
            is gone or holds other weights than the trial says.
    """
    if not trial.finished(folder):
        raise FacebenchError(
            f"{folder}: no finished trial: there is no trial.json; name the folder of one, "
            f"{ws.relative(ws.runs)}/TASK/DATASET/REGIME@VERSION/ENTRY/VALUE-sSEED-DIGITS"
        )
    said = trial.read(folder)
    semantic, id_ = said["config"]["semantic"], said["protocol"]["id"]
    if "probe" in semantic:
        raise FacebenchError(
            f"{folder}: its probe ({semantic['probe'].get('build')}) trained no backbone, so there "
            "is nothing to store"
        )
    if said["status"] != "ok":
        raise FacebenchError(f"{folder}: the trial diverged: its weights predict nothing")
    of = protocols.load(ws, id_)
    weights = variables(folder, said)
    inside = {name: tree[BACKBONE] for name, tree in weights.items() if BACKBONE in tree}
    if "params" not in inside:
        raise FacebenchError(
            f"{folder}: its module keeps no {BACKBONE!r}, only {sorted(weights['params'])}"
        )
    fields = {k: v for k, v in semantic["model"].items() if k not in ("build", "weights")}
    name, size = semantic["model"]["build"], of.preprocess["size"]
    module = models.build(name, fields, ws.root)
    header = stored.describe(
        module,
        name,
        size,
        inside,
        source=said["trial_id"],
        key=BACKBONE,
        licence=licence or of.licence or "",
        trial={
            "protocol": id_,
            "entry": said["entry"],
            "value": said["regime"]["value"],
            "seed": said["seed"],
            "weights": said["model"]["weights"],
        },
    )
    if output.suffix != tensors.SUFFIX:
        short = digest.short(header["weights"])
        output = output / f"{said['entry']}-{of.task}-{short}{tensors.SUFFIX}"
    stored.write(output, header, inside)
    return output, header


def variables(folder: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that a trial predicted with, as NumPy arrays, held against its digest.

    Args:
        folder: of a finished training.
        said: its ``trial.json``.

    Raises:
        FacebenchError: the checkpoint is gone, damaged or holds other weights.
    """
    import jax

    from facebench.train import checkpoint

    step, state = checkpoint.read(folder / "checkpoints")
    found = {"params": state["ema"] or state["params"], **state["collections"]}
    if "step" in said["model"]:  # chosen on dev
        path = folder / "selected.npz"
        kept = files.read_npz(path)
        step = int(kept.pop("step"))
        leaves, tree = jax.tree.flatten(found)
        if len(kept) != len(leaves):
            raise FacebenchError(f"{path}: holds {len(kept)} arrays, the model has {len(leaves)}")
        found = jax.tree.unflatten(tree, [kept[str(i)] for i in range(len(leaves))])
    if (weights := checkpoint.params_digest(found)) != said["model"]["weights"]:
        raise FacebenchError(
            f"{folder}: what is kept of step {step} has the digest {weights}, the trial predicted "
            f"with {said['model']['weights']}; run the trial again in an empty folder"
        )
    return found
