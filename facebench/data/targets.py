"""What the judge needs of the data: targets of a protocol, and the facts that freeze it."""

from __future__ import annotations

from typing import Any

import numpy as np

from facebench import digest, files
from facebench.data import subsets
from facebench.data.source import Dataset, Split, field
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.protocol import Protocol, subset_key
from facebench.workspace import Workspace


def _units(split: Split) -> np.ndarray:
    """Every sample's unit as its place among the sorted units: no name leaves the dataset."""
    return np.unique(np.array(split.units), return_inverse=True)[1].astype(np.int32)


def pairs(protocol: Protocol, n: int) -> np.ndarray:
    """The verification pairs of a recognition protocol.

    ``{"pairs": "all"}``: (i, j) with i < j, row by row.

    Args:
        protocol: its `evaluation` is read.
        n: samples of the test split.

    Returns:
        int64 [m, 2], indices into the test split.

    Raises:
        UsageError: the protocol asks for pairs that are not known.
    """
    kind = protocol.evaluation.get("pairs")
    if kind != "all":
        raise UsageError(f"protocol {protocol.id}: evaluation.pairs {kind!r}: expected 'all'")
    return np.stack(np.triu_indices(n, 1), axis=1)


def gallery(protocol: Protocol, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The probes and the gallery of a recognition protocol.

    Args:
        protocol: its `evaluation.gallery` lists test samples; all others are probes.
        n: samples of the test split.

    Returns:
        probes int64 [p], ascending, and gallery int64 [g], as listed.

    Raises:
        FacebenchError: no gallery, no probe left, an index out of range or twice.
    """
    listed = np.asarray(protocol.evaluation.get("gallery", ()), np.int64)
    where = f"protocol {protocol.id}: evaluation.gallery"
    if not len(listed):
        raise FacebenchError(f"{where} is missing or empty; list test samples by index")
    if len(wrong := listed[(listed < 0) | (listed >= n)]):
        raise FacebenchError(f"{where}: {wrong[0]} is no index into {n} test samples")
    if len(np.unique(listed)) < len(listed):
        raise FacebenchError(f"{where} lists a sample twice")
    probes = np.setdiff1d(np.arange(n), listed)
    if not len(probes):
        raise FacebenchError(f"{where} lists all {n} test samples, so no probe is left")
    return probes, listed


def _landmarks(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    return {
        "points": field(split, "points"),
        "visible": field(split, "visible").astype(bool),
        "box": field(split, "box"),
        "unit": _units(split),
    }


def _recognition(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    units = _units(split)
    i, j = pairs(protocol, len(split)).T
    probes, listed = gallery(protocol, len(split))
    mated = np.isin(units[probes], units[listed])
    return {
        "same": units[i] == units[j],
        "probe_identity": np.where(mated, units[probes], -1).astype(np.int32),
        "gallery_identity": units[listed],
    }


_TASKS = {"landmarks": _landmarks, "recognition": _recognition}


def build(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    """The test labels of a protocol, under the names that `metrics.score` knows.

    Landmarks: `points` (n, K, 2) and `box` (n, 4) in pixels, `visible` (n, K) bool, `unit` (n,).
    Recognition: `same` (m,) of the protocol's pairs, `probe_identity` (p,), -1 without a mate in
    the gallery, `gallery_identity` (g,). Units and identities are places in the sorted list of
    the split's units.

    Raises:
        UsageError: the task has no targets, or the dataset not the fields.
        FacebenchError: the protocol's evaluation does not fit the split.
    """
    if protocol.task not in _TASKS:
        raise UsageError(
            f"protocol {protocol.id}: no targets are known for task {protocol.task!r}: "
            f"{nearest(protocol.task, _TASKS)}"
        )
    return _TASKS[protocol.task](protocol, split)


def write(ws: Workspace, protocol: Protocol, dataset: Dataset) -> str:
    """Writes the targets of a protocol where the judge looks for them; their digest.

    Raises:
        FacebenchError: they are not the ones that the protocol froze; nothing is written.
    """
    arrays = build(protocol, dataset.split("test"))
    found = digest.of_arrays(arrays)
    if protocol.targets and protocol.targets != found:
        raise FacebenchError(
            f"protocol {protocol.id}: the targets made from {dataset.label} {dataset.version} are "
            f"{digest.short(found)}, the protocol froze {digest.short(protocol.targets)}; prepare "
            "the dataset that it names again, or make the next version of the protocol"
        )
    files.write_npz(ws.targets(protocol.id, protocol.public), arrays)
    return found


def facts(protocol: Protocol, dataset: Dataset) -> dict[str, Any]:
    """What a draft of a protocol takes over from its dataset when it is frozen.

    Returns:
        the values of the protocol's fields `splits` (n, keys and content of each), `subsets`
        (a digest per regime value and seed) and `targets`.

    Raises:
        FacebenchError: a subset cannot be drawn, or the targets cannot be built.
    """
    train = dataset.split("train")
    drawn = {}
    for value in protocol.regimes["values"]:
        for seed in protocol.seeds:
            chosen = subsets.draw(
                protocol.id, protocol.regimes, value, seed, train.keys, train.units
            )
            drawn[subset_key(value, seed)] = subsets.digest([train.keys[i] for i in chosen])
    splits = dataset.facts["splits"]
    return {
        "splits": {s: {k: splits[s][k] for k in ("n", "keys", "content")} for s in splits},
        "subsets": drawn,
        "targets": digest.of_arrays(build(protocol, dataset.split("test"))),
    }


def check_dataset(protocol: Protocol, dataset: Dataset) -> None:
    """Holds a prepared dataset against the one that a protocol was frozen on.

    Raises:
        FacebenchError: another dataset, config or version, a split that is missing, or a digest
            that differs; which, and what to do.
    """
    for key in ("name", "config", "version"):
        if (found := getattr(dataset, key)) != (wanted := protocol.dataset[key]):
            raise FacebenchError(
                f"protocol {protocol.id}: dataset.{key} is {wanted!r}, but {found!r} was opened; "
                f"run `facebench data prepare {protocol.dataset['name']}`"
            )
    for split, wanted in protocol.splits.items():
        found = dataset.facts["splits"].get(split, {})
        for fact in ("n", "keys", "content"):
            if found.get(fact) != wanted[fact]:
                raise FacebenchError(
                    f"protocol {protocol.id}: split {split!r} of {dataset.label} "
                    f"{dataset.version}: {fact} is {found.get(fact)}, the protocol froze "
                    f"{wanted[fact]}; remove {dataset.folder} and run `facebench data prepare "
                    f"{dataset.name}` on the official release; if it differs again, the release "
                    "or the builder is not the one that the protocol was made on"
                )
