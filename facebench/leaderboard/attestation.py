"""Attestations: somebody ran a trial of a record again, and it came out the same by a rule.

``leaderboards/attestations/RECORD/DIGEST.json``, named by the first 12 digits of the record's id
and of its own digest, so a second run of the same trial stands beside the first. What it claims is
computed again as far as that is possible: under the ``bitwise`` rule the arrays have the recorded
digest; under the ``statistical`` one the new predictions are kept as a bundle is (`store`), and
their scores and their agreement with the recorded ones follow. Equal bytes may be copied, and who
ran something no file can tell: an attestation is worth what its signer in the history is worth.

Of `NEEDED` trials or all there are, each attested, a record is ``re-run``; if those runs were on
another kind of machine (platform or device) than the recorded ones it is ``independent``, of the
machine and not of the people. A second record with the same config is not counted: its author may
be the first one's. A statistical attestation needs a floor of agreement in the protocol, because
an interval over two or three seeds lets nearly everything pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import digest, files, schema
from facebench.errors import FacebenchError
from facebench.leaderboard import judge, record, stats, store
from facebench.leaderboard.derived import GATED, RESCORED, Evidence
from facebench.metrics import agreement
from facebench.protocol import Protocol, dequantise, subset_key
from facebench.workspace import Workspace

SCHEMA = "facebench/attestation-1"
NEEDED = 2  # trials of a record that must be attested
LEVEL = 0.99  # of the interval for one more draw
RERUN, INDEPENDENT = "re-run", "independent"


def folder(workspace: Workspace) -> Path:
    """Where attestations stand."""
    return workspace.leaderboards / "attestations"


def paths(workspace: Workspace, record_id: str = "") -> list[Path]:
    """The attestations of a record, or all, sorted."""
    inner = digest.short(record_id) if record_id else "*"
    return sorted(folder(workspace).glob(f"{inner}/*.json"))


def read(workspace: Workspace, path: Path) -> dict[str, Any]:
    """Reads an attestation and checks all that needs no other file.

    Raises:
        FacebenchError: damaged, of a later schema, or not at the name of its record and content.
    """
    store.require_plain(workspace, path)
    value = schema.read(path, "attestation")
    expected = place(workspace, value)
    if path.absolute() != expected.absolute():
        raise FacebenchError(
            f"{path}: by its content it belongs at {expected}: it was changed or misplaced; "
            "restore it"
        )
    return value


def place(workspace: Workspace, value: Mapping[str, Any]) -> Path:
    """Where an attestation stands, by what it says."""
    leaf = f"{digest.short(digest.of_json(value))}.json"
    return folder(workspace) / digest.short(value["record"]) / leaf


def attest(
    workspace: Workspace,
    of: Protocol,
    path: Path,
    key: str,
    again: Mapping[str, Any],
    fresh: Mapping[str, np.ndarray] | None,
) -> Path:
    """Writes an attestation that a trial of a record was run again and came out the same.

    Args:
        workspace: the workspace of the record.
        of: its protocol.
        path: the record.
        key: of the trial, ``0.1/0``.
        again: the trial that was made again, as in ``trial.json``.
        fresh: its stored predictions; None if it diverged.

    Returns:
        The attestation's file; the same again if it was there.

    Raises:
        FacebenchError: no such trial, or it did not come out the same; nothing is written.
    """
    claimed = record.read(workspace, path)
    at = _row(claimed, key)
    if at is None:
        raise FacebenchError(f"{path}: it has no trial {key}")
    stored = _stored(workspace, claimed, at)
    row = claimed["trials"][at]
    recorded, predictions = digest.of_arrays(stored), None
    share = None
    if fresh is not None:
        predictions = digest.of_arrays(fresh)
        if row["status"] == "ok":
            share = _agreement(of, stored, fresh)
    same = predictions == recorded if row["status"] == "ok" else fresh is None
    value = {
        "schema": SCHEMA,
        "record": claimed["record_id"],
        "trial": key,
        "trial_id": again["trial_id"],
        "rule": "bitwise" if same else "statistical",
        "metrics": dict(again["metrics"]),
        "agreement": share,
        "recorded": recorded,
        "predictions": predictions,
        "weights": again["model"]["weights"],
        "environment": dict(again["environment"]),
    }
    schema.check(value, "attestation", f"the attestation of {key}")
    if lines := contradictions(of, claimed, value):
        raise FacebenchError(f"{path}: trial {key} is not attested: {lines[0]}")
    if value["rule"] == "statistical" and fresh is not None and predictions is not None:
        store.write(workspace, predictions, dict(fresh), f"{claimed['entry']} {key}, run again")
    where = place(workspace, value)
    if not where.is_file():
        files.write_json(where, value)
    return where


def _row(claimed: Mapping[str, Any], key: str) -> int | None:
    keys = [subset_key(t["regime"]["value"], t["seed"]) for t in claimed["trials"]]
    return keys.index(key) if key in keys else None


def _stored(workspace: Workspace, claimed: Mapping[str, Any], at: int) -> dict[str, np.ndarray]:
    return {k: array[at] for k, array in record.read_bundle(workspace, claimed).items()}


def _agreement(
    of: Protocol, stored: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray]
) -> float:
    a, b = (dequantise(of, arrays) for arrays in (stored, fresh))
    return float(agreement.agreement(of.task, a, b))


def contradictions(of: Protocol, claimed: Mapping[str, Any], value: Mapping[str, Any]) -> list[str]:
    """What an attestation says otherwise than its record and protocol; no arrays are read."""
    at = _row(claimed, value["trial"])
    if at is None or claimed["record_id"] != value["record"]:
        return [f"its record has no trial {value['trial']}"]
    row = claimed["trials"][at]
    if row["trial_id"] != value["trial_id"]:
        return ["another question was answered: its trial_id is not the recorded one"]
    if set(value["metrics"]) != set(row["metrics"]):
        return [f"its metrics are {', '.join(sorted(value['metrics']))}"]
    if (row["status"] == "ok") != (value["predictions"] is not None):
        return [f"the recorded trial is {row['status']}, and it came out otherwise"]
    if value["rule"] == "bitwise":
        if value["predictions"] not in (None, value["recorded"]):
            return ["the predictions are not the recorded ones, byte for byte"]
        if value["agreement"] not in (None, 1):
            return [f"equal predictions that agree in {value['agreement']}"]
        return judge.differences(row["metrics"], value["metrics"])
    lines = []
    floor = ((of.tolerance or {}).get("statistical") or {}).get("agreement")
    if floor is None:
        lines.append(
            f"{of.id} states no floor of agreement (tolerance.statistical), without which only "
            "equal bytes are the same"
        )
    elif value["agreement"] is None or value["agreement"] < floor:
        lines.append(f"agreement {value['agreement']}, but the protocol's floor is {floor}")
    for name, found in value["metrics"].items():
        seeds = [
            t["metrics"][name]
            for t in claimed["trials"]
            if t["regime"]["value"] == row["regime"]["value"] and t["metrics"][name] is not None
        ]
        low, high = stats.prediction_interval(seeds, LEVEL)
        if (row["metrics"][name] is None) != (found is None) or (
            found is not None and not low <= found <= high
        ):
            lines.append(f"{name} {found} lies outside [{low:.6g}, {high:.6g}] of the record")
    return lines


def faults(
    workspace: Workspace, of: Protocol, claimed: Mapping[str, Any], value: Mapping[str, Any]
) -> list[str]:
    """`contradictions`, and what the arrays say otherwise, computed again.

    Raises:
        UnreachableError: the arrays are kept in a store that cannot be read from here.
        FacebenchError: they are missing or damaged.
    """
    lines = contradictions(of, claimed, value)
    at = _row(claimed, value["trial"])
    if lines or at is None:
        return lines
    stored = _stored(workspace, claimed, at)
    if digest.of_arrays(stored) != value["recorded"]:
        return ["its digest of the recorded predictions is not theirs"]
    if value["rule"] == "bitwise" or value["predictions"] is None:
        return []
    fresh = store.read(workspace, value["predictions"], f"{claimed['entry']}, run again")
    share = _agreement(of, stored, fresh)
    if abs(share - (value["agreement"] or 0.0)) > judge.TOLERANCE:
        lines.append(f"agreement {value['agreement']}, computed again {share}")
    if workspace.targets(of.id, of.public).is_file():
        scores = judge.score(of, fresh, judge.load_targets(workspace, of))
        lines += judge.differences(value["metrics"], scores)
    return lines


def raised(workspace: Workspace, of: Protocol, records: Sequence[Evidence]) -> list[Evidence]:
    """Records with the trust that their attestations give them.

    An attestation that contradicts its record counts for nothing; `audit` names it.

    Raises:
        FacebenchError: an attestation is damaged.
    """
    result = []
    for item in records:
        found = paths(workspace, item.value["record_id"])
        if not found or item.trust not in (RESCORED, GATED):
            result.append(item)
            continue
        values = [read(workspace, path) for path in found]
        level = _level(of, item.value, values)
        if level:
            trust = level if item.trust == RESCORED else f"{GATED}, {level}"
            item = dataclasses.replace(item, trust=trust)
        result.append(item)
    return result


def _level(
    of: Protocol, claimed: Mapping[str, Any], values: Sequence[Mapping[str, Any]]
) -> str | None:
    anywhere, elsewhere = set(), set()
    for value in values:
        at = _row(claimed, value["trial"])
        if at is None or contradictions(of, claimed, value):
            continue
        anywhere.add(at)
        recorded = claimed["environments"][claimed["trials"][at]["environment"]]
        if any(value["environment"][k] != recorded[k] for k in ("platform", "device")):
            elsewhere.add(at)
    needed = min(NEEDED, len(claimed["trials"]))
    if len(elsewhere) >= needed:
        return INDEPENDENT
    return RERUN if len(anywhere) >= needed else None
