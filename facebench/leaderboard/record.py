"""Records: the trials of one entry under one protocol, folded into one committed file.

A record is named by its content and never changed. Beside it stands one bundle with the stored
predictions of all its trials; every metric in the record can be computed again from the bundle
and the protocol's test labels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facebench import digest, files, protocol, schema
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.leaderboard import judge, trial
from facebench.protocol import Protocol, subset_key
from facebench.workspace import Workspace

BUNDLE_LIMIT = 1 << 30  # bytes that one bundle may unpack to
ABSOLUTE = re.compile(r"/[^/]|~|[A-Za-z]:[\\/]|\\\\|file:")


def fold(
    workspace: Workspace, of: Protocol, entry: str, config: str | None = None, note: str = ""
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Folds the finished trials of an entry into a record and its bundle; writes nothing.

    Every trial is scored again from its stored predictions. Diverged trials count: they keep
    their place, with zeros for predictions and the worst value of each metric.

    Args:
        workspace: where the trials stand.
        of: the protocol.
        entry: whose trials.
        config: the first digits of a config digest, where there are trials of several configs.
        note: a remark that becomes part of the record.

    Returns:
        The record and the arrays of its bundle, each of shape (trials, ...).

    Raises:
        FacebenchError: trials are missing, superfluous, of several configs, or do not score what
            they say; the trials are named.
    """
    targets = judge.load_targets(workspace, of)
    chosen = _in_order(of, entry, _of_one_config(workspace, of, entry, config))
    kinds = sorted({t["kind"] for _, t in chosen})
    if len(kinds) > 1:
        raise FacebenchError(f"{entry}: its trials say different kinds: {', '.join(kinds)}")
    environments: list[dict[str, Any]] = []
    rows, predictions = [], []
    for directory, value in chosen:
        stored = trial.predictions(directory, value) if value["status"] == "ok" else None
        scores = judge.worst(of) if stored is None else judge.score(of, stored, targets)
        if lines := judge.differences(value["metrics"], scores):
            raise FacebenchError(f"{directory / 'trial.json'}: {lines[0]}; run the trial again")
        if value["environment"] not in environments:
            environments.append(value["environment"])
        predictions.append(stored)
        rows.append(
            {
                "trial_id": value["trial_id"],
                "regime": value["regime"],
                "seed": value["seed"],
                "subset_digest": value["subset_digest"],
                "status": value["status"],
                "metrics": scores,
                "time": value["time"],
                **value["model"],
                "environment": environments.index(value["environment"]),
            }
        )
    bundle = _stack(of, predictions)
    semantic = chosen[0][1]["config"]["semantic"]
    record = {
        "schema": "facebench/record-1",
        "protocol": {"id": of.id, "digest": of.digest},
        "entry": entry,
        "kind": kinds[0],
        "config": {"digest": digest.of_json(semantic), "semantic": semantic},
        "trials": rows,
        "predictions": {"content_digest": digest.of_arrays(bundle), "n": of.n},
        "environments": environments,
        "note": note,
    }
    record["record_id"] = digest.of_json(record)
    schema.check(record, "record", f"the record of {entry}")
    for name in _private(record):
        raise FacebenchError(
            f"the record of {entry}: {name} is a path of this machine, and records are public; "
            "name the file relative to the workspace"
        )
    return record, bundle


def _of_one_config(
    workspace: Workspace, of: Protocol, entry: str, config: str | None
) -> list[tuple[Path, dict[str, Any]]]:
    """The trials of an entry under this protocol that share one config."""
    found = trial.listing(workspace, of.id, entry)
    if not found:
        known = [p.name for p in (workspace.runs / of.id).glob("*") if p.is_dir()]
        raise FacebenchError(
            f"{entry}: no finished trials under {of.id}: {nearest(entry, known)}; "
            "make them with: facebench run"
        )
    current = [(d, t) for d, t in found if t["protocol"]["digest"] == of.digest]
    if not current:
        raise FacebenchError(
            f"{entry}: its {len(found)} trials were made under another version of the file of "
            f"{of.id}; run them again, or restore the file"
        )
    configs: dict[str, dict[str, Any]] = {}
    for _, value in current:
        configs.setdefault(value["config"]["digest"], value["config"]["semantic"])
    if config is not None:
        prefix = config.removeprefix(digest.PREFIX)
        configs = {k: v for k, v in configs.items() if digest.short(k, 64).startswith(prefix)}
    if len(configs) != 1:
        first = next(iter(configs.values()), {})
        listed = "; ".join(
            f"{digest.short(name)}: {sum(t['config']['digest'] == name for _, t in current)} trials"
            + "".join(f", {line}" for line in trial.staleness(first, semantic)[:5])
            for name, semantic in sorted(configs.items(), key=lambda item: item[1] is not first)
        )
        raise UsageError(
            f"{entry}: expected the trials of one config under {of.id}, found {len(configs)}"
            + (f" that begin with {config!r}" if config else "")
            + (f": {listed}; choose one: --trials=DIGITS" if listed else "")
        )
    (chosen,) = configs
    return [(d, t) for d, t in current if t["config"]["digest"] == chosen]


def _in_order(
    of: Protocol, entry: str, trials: list[tuple[Path, dict[str, Any]]]
) -> list[tuple[Path, dict[str, Any]]]:
    """The trials in the protocol's order, none missing, none too many."""
    by_key: dict[str, tuple[Path, dict[str, Any]]] = {}
    for directory, value in trials:
        key = subset_key(value["regime"]["value"], value["seed"])
        if key in by_key:
            raise FacebenchError(f"{directory}: the same trial as {by_key[key][0]}; delete one")
        by_key[key] = directory, value
    expected = [subset_key(*asked) for asked in of.trials()]
    if missing := [key for key in expected if key not in by_key]:
        raise FacebenchError(
            f"{entry}: {len(missing)} of the {len(expected)} trials of {of.id} are not finished "
            f"(regime value/seed): {', '.join(missing)}; run the experiment again, it skips "
            "what is finished"
        )
    if extra := sorted(set(by_key) - set(expected)):
        raise FacebenchError(
            f"{by_key[extra[0]][0]}: {of.id} does not ask for {extra[0]}; a record holds exactly "
            "what the protocol asks for: delete the trial"
        )
    ordered = [by_key[key] for key in expected]
    for (directory, value), (regime_value, seed) in zip(ordered, of.trials(), strict=True):
        faults = _trial_faults(of, entry, value["config"]["digest"], value, regime_value, seed)
        for fault in faults:
            raise FacebenchError(f"{directory / 'trial.json'}: {fault}")
    return ordered


def _trial_faults(
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


def _stack(of: Protocol, predictions: list[dict[str, np.ndarray] | None]) -> dict[str, np.ndarray]:
    """Stacks stored arrays over trials; zeros for a trial that has none."""
    shapes = next((p for p in predictions if p is not None), None)
    bundle = {}
    for name, store in of.predictions.items():
        blank = np.zeros(0, store["dtype"]) if shapes is None else np.zeros_like(shapes[name])
        bundle[name] = np.stack([blank if p is None else p[name] for p in predictions])
    return bundle


def _private(value: Any, name: str = "") -> Iterator[str]:
    """The names of the strings that are paths of one machine."""
    if isinstance(value, dict):
        for key in value:
            yield from _private(value[key], f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _private(item, f"{name}[{i}]")
    elif isinstance(value, str) and ABSOLUTE.match(value):
        yield name


def place(workspace: Workspace, record: Mapping[str, Any]) -> Path:
    """Where a record stands, by what it says."""
    leaf = f"{digest.short(record['record_id'])}.json"
    return workspace.records / record["protocol"]["id"] / record["entry"] / leaf


def bundle_place(workspace: Workspace, record: Mapping[str, Any]) -> Path:
    """Where the bundle of a record stands."""
    name = digest.short(record["predictions"]["content_digest"])
    return workspace.predictions / name[:2] / f"{name}.npz"


def submit(
    workspace: Workspace, protocol_id: str, entry: str, config: str | None = None, note: str = ""
) -> tuple[Path, bool]:
    """Folds an entry's trials and writes the record: its bundle first, then the record.

    Args:
        workspace: where.
        protocol_id: under which protocol.
        entry: whose trials.
        config: see `fold`.
        note: see `fold`.

    Returns:
        The path of the record, and whether it is new (False: the same is already there).

    Raises:
        FacebenchError: see `fold`; or the entry has another record under this protocol, which
            is never replaced.
    """
    record, bundle = fold(workspace, protocol.load(workspace, protocol_id), entry, config, note)
    path, bundle_path = place(workspace, record), bundle_place(workspace, record)
    for other in paths(workspace, protocol_id, entry):
        existing = read(workspace, other)
        if existing["protocol"]["digest"] != record["protocol"]["digest"]:
            continue
        if _claim(existing) == _claim(record):
            return other, False
        raise FacebenchError(
            f"{other}: {entry} already has a record under {protocol_id}, with other content; "
            "records are never changed: give the new entry another name"
        )
    if bundle_path.is_file():
        _read_arrays(bundle_path, record)
    else:
        files.write_npz(bundle_path, bundle)
    files.write_json(path, record)
    return path, True


def _claim(record: Mapping[str, Any]) -> Any:
    """What a record claims, apart from how long it took and where."""
    trials = [(t["trial_id"], t["status"], t["metrics"]) for t in record["trials"]]
    return record["kind"], record["config"], record["predictions"], trials


def paths(workspace: Workspace, protocol_id: str = "*/*/*", entry: str = "*") -> list[Path]:
    """The record files of a workspace, sorted; of one protocol or entry if given."""
    return sorted(workspace.records.glob(f"{protocol_id}/{entry}/*.json"))


def read(workspace: Workspace, path: Path) -> dict[str, Any]:
    """Reads a record and checks all that needs no other file.

    Raises:
        FacebenchError: damaged, of a later schema, its id is not that of its content, or it
            stands where another record belongs.
    """
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


def faults(of: Protocol, record: Mapping[str, Any]) -> list[str]:
    """What a record says otherwise than its protocol, one line each."""
    if record["protocol"]["digest"] != of.digest:
        return [
            f"made under {of.id} with digest {digest.short(record['protocol']['digest'])}, but "
            f"its file has {digest.short(of.digest)}: a protocol with records must not change; "
            "restore the file and give the changed one the next version after the @"
        ]
    lines = []
    if record["predictions"]["n"] != of.n:
        lines.append(f"predictions.n is {record['predictions']['n']}, expected {of.n}")
    expected = {subset_key(*asked): asked for asked in of.trials()}
    seen = Counter(subset_key(t["regime"]["value"], t["seed"]) for t in record["trials"])
    lines += [f"trial {key} stands {n} times" for key, n in sorted(seen.items()) if n > 1]
    lines += [f"trial {key} is missing" for key in expected if key not in seen]
    for row in record["trials"]:
        key = subset_key(row["regime"]["value"], row["seed"])
        if key not in expected:
            lines.append(f"trial {key} is not one of the protocol")
            continue
        found = _trial_faults(of, record["entry"], record["config"]["digest"], row, *expected[key])
        lines += [f"trial {key}: {fault}" for fault in found]
    return lines


def read_bundle(workspace: Workspace, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Reads the bundle of a record and holds it against the record's digest.

    Raises:
        FacebenchError: missing, damaged, or other arrays than the record names.
    """
    return _read_arrays(bundle_place(workspace, record), record)


def _read_arrays(path: Path, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    bundle = files.read_npz(path, BUNDLE_LIMIT)
    found, expected = digest.of_arrays(bundle), record["predictions"]["content_digest"]
    if found != expected:
        raise FacebenchError(
            f"{path}: not the predictions of {record['entry']}: digest {digest.short(found)}, "
            f"expected {digest.short(expected)}; restore the file"
        )
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
