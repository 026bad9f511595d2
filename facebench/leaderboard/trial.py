"""Trials: one entry at one regime value and one seed, under ``runs/``, before it is recorded.

A trial is named by what was asked: protocol, entry, semantic config, data, regime, seed. Not by
the machine, the code or the time, so the same question is never asked twice by accident. Its
folder is finished when ``trial.json`` is there, which is written last.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import facebench
from facebench import digest, files, schema
from facebench.errors import FacebenchError, UsageError
from facebench.leaderboard import judge
from facebench.protocol import Protocol, subset_key
from facebench.workspace import ENTRY, Workspace

PACKAGES = ("flax", "grain", "jax", "jaxlib", "numpy", "opencv-python-headless", "optax", "scipy")
PLATFORMS = ("linux-x86_64", "linux-aarch64", "darwin-arm64", "darwin-x86_64", "windows-amd64")


def trial_id(
    protocol_digest: str,
    entry: str,
    config_digest: str,
    content_digests: Mapping[str, str],
    regime: Mapping[str, Any],
    seed: int,
) -> str:
    """The digest that names a trial.

    Args:
        protocol_digest: of the protocol it runs under.
        entry: what is ranked.
        config_digest: `digest.of_json` of the config's semantic half, which holds neither the
            regime nor the seed: the protocol lists those.
        content_digests: of each split of the data, see `content_digests`.
        regime: ``{"kind", "value"}``.
        seed: of the subset, the initialisation and the order of the samples.
    """
    return digest.of_json(
        {
            "schema": "facebench/trial-1",
            "protocol": protocol_digest,
            "entry": entry,
            "config": config_digest,
            "content": dict(content_digests),
            "regime": {"kind": regime["kind"], "value": regime["value"]},
            "seed": seed,
        }
    )


def content_digests(protocol: Protocol) -> dict[str, str]:
    """The content digest of each split that a protocol was frozen on."""
    return {split: facts["content"] for split, facts in protocol.splits.items()}


def asked(protocol: Protocol, entry: str, config_digest: str, value: int | float, seed: int) -> str:
    """The `trial_id` of one regime value and seed of a protocol."""
    regime = {"kind": protocol.regimes["kind"], "value": value}
    contents = content_digests(protocol)
    return trial_id(protocol.digest, entry, config_digest, contents, regime, seed)


def folder(workspace: Workspace, protocol_id: str, entry: str) -> Path:
    """Where the trials of an entry under a protocol stand.

    Raises:
        UsageError: the entry's name cannot be a folder's.
    """
    if not ENTRY.fullmatch(entry):
        raise UsageError(
            f"entry {entry!r}: expected lower-case letters, digits, '.', '_' and '-', beginning "
            "with a letter or digit, 64 at most"
        )
    return workspace.runs / protocol_id / entry


def directory(
    workspace: Workspace, protocol_id: str, entry: str, value: int | float, seed: int, name: str
) -> Path:
    """The folder of one trial, ``<value>-s<seed>-<first 8 digits of its id>``."""
    leaf = f"{value!r}-s{seed}-{digest.short(name, 8)}"
    return folder(workspace, protocol_id, entry) / leaf


def finished(directory: Path) -> bool:
    """Whether a trial's folder is complete."""
    return (directory / "trial.json").is_file()


def read(directory: Path) -> dict[str, Any]:
    """Reads and checks a finished trial.

    Raises:
        FacebenchError: ``trial.json`` is missing, damaged, or its ids do not follow from it.
    """
    path = directory / "trial.json"
    value = schema.read(path, "trial")
    _check(value, path)
    return value


def write(directory: Path, value: dict[str, Any]) -> None:
    """Writes ``trial.json``, after which the trial is finished.

    Raises:
        FacebenchError: a field does not fit, or ``predictions.npz`` is not in the folder yet or
            holds other arrays than ``value`` says; nothing is written.
    """
    path = directory / "trial.json"
    schema.check(value, "trial", path)
    _check(value, path)
    if value["status"] == "ok":
        predictions(directory, value)
    files.write_json(path, value)


def predictions(directory: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    """The stored arrays of a trial that did not diverge, held against its digest."""
    path = directory / "predictions.npz"
    stored = files.read_npz(path)
    found, expected = digest.of_arrays(stored), value["predictions"]["content_digest"]
    if found != expected:
        raise FacebenchError(
            f"{path}: not the predictions of this trial: digest {digest.short(found)}, expected "
            f"{digest.short(expected or 'none')}; delete {directory} and run the trial again"
        )
    return stored


def _check(value: Mapping[str, Any], path: Path) -> None:
    found = digest.of_json(value["config"]["semantic"])
    if found != value["config"]["digest"]:
        raise FacebenchError(
            f"{path}: config.digest is {digest.short(value['config']['digest'])}, but the "
            f"semantic config has {digest.short(found)}"
        )
    semantic, initial = value["config"]["semantic"], value["model"].get("initial_weights")
    if fault := initial_fault(semantic, initial):
        raise FacebenchError(f"{path}: model.{fault}")
    status, content = value["status"], value["predictions"]["content_digest"]
    if (status == "ok") != (content is not None):
        raise FacebenchError(
            f"{path}: status {status!r} does not go with predictions.content_digest {content!r}: "
            "it is null for a diverged trial, else a digest"
        )


def initial_fault(semantic: Mapping[str, Any], initial: str | None) -> str | None:
    """Why the weights that a backbone began with are not those of its config; None if they are.

    Args:
        semantic: the semantic half of the config; ``model.weights`` names a file.
        initial: digest of the weights that were read, None where there were none.
    """
    model = semantic.get("model")
    name = model.get("weights") if isinstance(model, Mapping) else None
    if bool(name) != (initial is not None):
        return (
            f"initial_weights is {initial!r}, but config.model.weights is {name!r}: the one is the "
            "digest of what the other names"
        )
    if name and initial and not digest.named_in(str(name), initial):
        return (
            f"initial_weights is {digest.short(initial)}, but config.model.weights is {name!r}, "
            "whose name must end in that"
        )
    return None


def compose(
    protocol: Protocol,
    entry: str,
    kind: str,
    config: Mapping[str, Any],
    value: int | float,
    seed: int,
    *,
    stored: Mapping[str, Any] | None,
    metrics: Mapping[str, float | None] | None,
    time: Mapping[str, float],
    parameters: int,
    environment: Mapping[str, Any],
    weights: str | None = None,
    step: int | None = None,
    initial_weights: str | None = None,
) -> dict[str, Any]:
    """Puts together the value of ``trial.json`` with all ids and digests in place.

    Args:
        protocol: what was asked.
        entry: what is ranked.
        kind: ``floor`` (no network is trained), ``baseline`` or ``entry``.
        config: ``{"semantic": {...}, "execution": {...}}``.
        value: the regime value.
        seed: the seed.
        stored: the arrays of ``predictions.npz``; None if the trial diverged.
        metrics: the judge's scores of that file; None if the trial diverged.
        time: ``train_s``, ``predict_s`` and, if known, ``compile_s``, in seconds.
        parameters: how many numbers the model learnt or was given.
        environment: see `environment`.
        weights: digest of the parameters after training, by which a re-run can be compared.
        step: of the training that is reported, where it was chosen on dev; else the last one is.
        initial_weights: digest of the stored weights that the backbone began with, if it did.
    """
    ok = stored is not None and metrics is not None
    config_digest = digest.of_json(config["semantic"])
    return {
        "schema": "facebench/trial-1",
        "trial_id": asked(protocol, entry, config_digest, value, seed),
        "protocol": {"id": protocol.id, "digest": protocol.digest},
        "entry": entry,
        "kind": kind,
        "config": {
            "digest": config_digest,
            "semantic": config["semantic"],
            "execution": config["execution"],
        },
        "regime": {"kind": protocol.regimes["kind"], "value": value},
        "seed": seed,
        "subset_digest": protocol.subsets[subset_key(value, seed)],
        "status": "ok" if ok else "diverged",
        "metrics": dict(metrics) if metrics is not None and ok else judge.worst(protocol),
        "predictions": {
            "content_digest": digest.of_arrays(stored) if stored is not None and ok else None,
            "n": protocol.n,
        },
        "time": dict(time),
        "model": {"parameters": parameters, "weights": weights}
        | ({} if step is None else {"step": step})
        | ({} if initial_weights is None else {"initial_weights": initial_weights}),
        "environment": dict(environment),
    }


def environment(device: str, devices: int) -> dict[str, Any]:
    """What a trial ran on, in kinds; nothing that tells the machine or its user.

    Args:
        device: the kind of accelerator, such as ``cpu`` or ``NVIDIA H200``.
        devices: how many of them.
    """
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    system = f"{platform.system()}-{platform.machine()}".lower()
    return {
        "facebench": facebench.__version__,
        "python": platform.python_version(),
        "platform": system if system in PLATFORMS else "other",
        "device": re.sub(r"[^A-Za-z0-9 .()_+-]", "-", device)[:48],
        "devices": devices,
        "packages": versions,
    }


def listing(
    workspace: Workspace, protocol_id: str, entry: str
) -> list[tuple[Path, dict[str, Any]]]:
    """The finished trials of an entry under a protocol, by folder name.

    Raises:
        FacebenchError: one of them is damaged.
    """
    root = folder(workspace, protocol_id, entry)
    return [(p.parent, read(p.parent)) for p in sorted(root.glob("*/trial.json"))]


def staleness(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two semantic configs, as lines ``optim.lr 0.001 -> 0.002``."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    lines = []
    for name in sorted(before.keys() | after.keys()):
        a, b = before.get(name, "(absent)"), after.get(name, "(absent)")
        if a != b:
            lines.append(f"{name} {a} -> {b}")
    return lines


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The dotted names of a nested dict and their values as JSON."""
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from _leaves(value[key], f"{name}.{key}" if name else str(key))
    elif name:
        yield name, digest.canonical(value).decode()
