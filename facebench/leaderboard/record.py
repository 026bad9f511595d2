"""Records: trials of one entry under one protocol, folded into one committed file.

A record is named by its content and never changed. To it belongs one bundle with the stored
predictions of all its trials; every metric in the record can be computed again from the bundle
and the protocol's test labels. `submission` makes records, this reads and doubts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facebench import digest, protocol, schema
from facebench.errors import FacebenchError
from facebench.leaderboard import judge, store, trial
from facebench.protocol import Protocol, adaptation, subset_key
from facebench.workspace import Workspace


def place(workspace: Workspace, record: Mapping[str, Any]) -> Path:
    """Where a record stands, by what it says."""
    leaf = f"{digest.short(record['record_id'])}.json"
    return workspace.records / record["protocol"]["id"] / record["entry"] / leaf


def bundle_place(workspace: Workspace, record: Mapping[str, Any]) -> Path:
    """Where git keeps the bundle of a record, or the pointer to it; see `store`."""
    return store.kept(workspace, record["predictions"]["content_digest"])


def paths(workspace: Workspace, protocol_id: str = "*/*/*", entry: str = "*") -> list[Path]:
    """The record files of a workspace, sorted; of one protocol or entry if given."""
    return sorted(workspace.records.glob(f"{protocol_id}/{entry}/*.json"))


def read(workspace: Workspace, path: Path) -> dict[str, Any]:
    """Reads a record and checks all that needs no other file.

    Raises:
        FacebenchError: damaged, of a later schema, its id is not that of its content, or it
            stands where another record belongs.
    """
    store.require_plain(workspace, path)
    record = schema.read(path, "record")
    claimed = record["record_id"]
    found = digest.of_json({k: v for k, v in record.items() if k != "record_id"})
    if found != claimed:
        raise FacebenchError(
            f"{path}: record_id is {digest.short(claimed)}, but its content has "
            f"{digest.short(found)}: the record was changed; restore it"
        )
    if digest.of_json(record["config"]["semantic"]) != record["config"]["digest"]:
        raise FacebenchError(f"{path}: config.digest is not that of the semantic config")
    expected = place(workspace, record)
    if path.resolve() != expected.resolve():
        raise FacebenchError(f"{path}: by its content it belongs at {expected}; move it there")
    for row in record["trials"]:
        if row["environment"] >= len(record["environments"]):
            raise FacebenchError(f"{path}: trials: no environment {row['environment']}")
    return record


def trial_faults(
    of: Protocol,
    entry: str,
    config_digest: str,
    value: Mapping[str, Any],
    regime_value: int | float,
    seed: int,
) -> Iterator[str]:
    """What a trial says otherwise than its protocol."""
    if value["regime"]["kind"] != of.regimes["kind"]:
        yield f"regime.kind is {value['regime']['kind']!r}, expected {of.regimes['kind']!r}"
    if value["trial_id"] != trial.asked(of, entry, config_digest, regime_value, seed):
        yield (
            f"trial_id {digest.short(value['trial_id'])} does not follow from protocol, entry, "
            "config, data, regime and seed"
        )
    if value["subset_digest"] != of.subsets[subset_key(regime_value, seed)]:
        yield f"subset_digest {digest.short(value['subset_digest'])} is not the protocol's subset"
    names = [m["name"] for m in of.metrics]
    if set(value["metrics"]) != set(names):
        yield f"metrics are {sorted(value['metrics'])}, expected {sorted(names)}"
        return
    for metric in of.metrics:
        score = value["metrics"][metric["name"]]
        if value["status"] == "ok" and (score is None or not judge.in_range(metric, score)):
            yield f"metric {metric['name']} is {score}, outside its range {metric['range']}"


def faults(of: Protocol, record: Mapping[str, Any]) -> list[str]:
    """What a record says otherwise than its protocol, one line each.

    That it lacks trials is no fault of a record: other records of the entry may have them.
    """
    if record["protocol"]["digest"] != of.digest:
        return [
            f"made under {of.id} with digest {digest.short(record['protocol']['digest'])}, but "
            f"its file has {digest.short(of.digest)}: a protocol with records must not change; "
            "restore the file and give the changed one the next version after the @"
        ]
    lines = []
    if wrong := adaptation.fault(of, record["kind"], record["config"]["semantic"]):
        lines.append(f"adaptation: {wrong}")
    if record["predictions"]["n"] != of.n:
        lines.append(f"predictions.n is {record['predictions']['n']}, expected {of.n}")
    expected = {subset_key(*asked): asked for asked in of.trials()}
    seen = Counter(subset_key(t["regime"]["value"], t["seed"]) for t in record["trials"])
    lines += [f"trial {key} stands {n} times" for key, n in sorted(seen.items()) if n > 1]
    for row in record["trials"]:
        key = subset_key(row["regime"]["value"], row["seed"])
        if key not in expected:
            lines.append(f"trial {key} is not one of the protocol")
            continue
        found = trial_faults(of, record["entry"], record["config"]["digest"], row, *expected[key])
        lines += [f"trial {key}: {fault}" for fault in found]
        if wrong := trial.initial_fault(record["config"]["semantic"], row.get("initial_weights")):
            lines.append(f"trial {key}: {wrong}")
    return lines


def read_bundle(workspace: Workspace, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Reads the bundle of a record and holds it against the record's digest.

    Raises:
        UnreachableError: it is kept in a store that cannot be read from here.
        FacebenchError: missing, damaged, or other arrays than the record names.
    """
    bundle = store.read(workspace, record["predictions"]["content_digest"], record["entry"])
    path = bundle_place(workspace, record)
    for name, array in bundle.items():
        if len(array.shape) < 1 or len(array) != len(record["trials"]):
            raise FacebenchError(
                f"{path}: array {name!r} has shape {array.shape}, expected one row for each of "
                f"the {len(record['trials'])} trials"
            )
    return bundle


def rescore(workspace: Workspace, path: Path) -> list[str]:
    """Computes every metric of a record again, from its bundle and the test labels.

    Args:
        workspace: the workspace that the record is part of.
        path: the record's file.

    Returns:
        One line for each thing that is not as the record says; empty if all is.

    Raises:
        MissingTargetsError: the test labels are not on this machine.
        UnreachableError: its bundle is kept in a store that cannot be read from here.
        FacebenchError: the record, its protocol, bundle or labels cannot be read or are not the
            ones that were recorded.
    """
    record = read(workspace, path)
    of = protocol.load(workspace, record["protocol"]["id"])
    lines = faults(of, record)
    if record["protocol"]["digest"] != of.digest:
        raise FacebenchError(f"{path}: {lines[0]}")
    return lines + rescore_arrays(
        of, record, read_bundle(workspace, record), judge.load_targets(workspace, of)
    )


def rescore_arrays(
    of: Protocol,
    record: Mapping[str, Any],
    bundle: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
) -> list[str]:
    """`rescore` for what has been read already; one line for each metric that differs."""
    lines = []
    for i, row in enumerate(record["trials"]):
        key = subset_key(row["regime"]["value"], row["seed"])
        stored = {name: array[i] for name, array in bundle.items()}
        if row["status"] == "ok":
            try:
                scores: Mapping[str, float | None] = judge.score(of, stored, targets)
            except FacebenchError as error:
                lines.append(f"trial {key}: {error}")
                continue
        else:
            scores = judge.worst(of)
            if any(array.any() for array in stored.values()):
                lines.append(f"trial {key}: diverged, but its predictions are not zeros")
        lines += [f"trial {key}: {line}" for line in judge.differences(row["metrics"], scores)]
    return lines
