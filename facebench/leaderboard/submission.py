"""Submissions: the finished trials of an entry become a record.

Trials that are finished first may be submitted alone (`partial`), the others later, in a record of
their own; no trial stands in two. Which seeds there are is the protocol's choice, and a row that
lacks a trial is shown as incomplete and never ranked, so leaving out a bad or a failed seed gains
nothing. A diverged trial is finished: it counts as the worst score.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import digest, files, protocol, schema
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.leaderboard import judge, record, retraction, store, trial
from facebench.protocol import Protocol, adaptation, subset_key
from facebench.workspace import Workspace

ABSOLUTE = re.compile(r"/[^/]|~|[A-Za-z]:[\\/]|\\\\|file:")

Found = tuple[Path, dict[str, Any]]  # a trial's folder and what its file says


@dataclasses.dataclass(frozen=True)
class Held:
    """A trial that a record has.

    Attributes:
        path: of the record.
        value: of the record.
        row: the trial's place in it.
    """

    path: Path
    value: Mapping[str, Any]
    row: int

    @property
    def said(self) -> Mapping[str, Any]:
        """The trial, as the record has it."""
        trial: Mapping[str, Any] = self.value["trials"][self.row]
        return trial


def submit(
    workspace: Workspace,
    protocol_id: str,
    entry: str,
    config: str | None = None,
    note: str = "",
    partial: bool = False,
) -> tuple[Path, bool]:
    """Folds an entry's trials and writes the record: its bundle first, then the record.

    Every trial is scored again from its stored predictions. Diverged trials count: they keep
    their place, with zeros for predictions and the worst value of each metric.

    Args:
        workspace: where.
        protocol_id: under which protocol.
        entry: whose trials.
        config: the first digits of a config digest, where there are trials of several configs.
        note: a remark that becomes part of the record.
        partial: whether trials may be missing that no record has.

    Returns:
        The path of the record, and whether it is new (False: records have all of it already).

    Raises:
        FacebenchError: trials are missing, superfluous, of several configs, or do not score what
            they say; or a record has one of them with other content, which is never replaced. The
            trials are named.
    """
    of = protocol.load(workspace, protocol_id)
    targets = judge.load_targets(workspace, of)
    held = holding(workspace, of, entry)
    trials = _in_order(of, entry, _of_one_config(workspace, of, entry, config))
    config_digest = next(iter(trials.values()))[1]["config"]["digest"]
    expected = [subset_key(*asked) for asked in of.trials()]
    lacking = [key for key in expected if key not in trials and key not in held]
    if lacking and not partial:
        shown = ", ".join(_marked(workspace, of, entry, config_digest, lacking))
        raise FacebenchError(
            f"{entry}: {len(lacking)} of the {len(expected)} trials of {of.id} are not finished "
            f"(regime value/seed): {shown}; run the experiment again, it skips what is finished, "
            "or submit the others with --partial: the row is then incomplete and not ranked"
        )
    scored = [(key, *found, *_scored(of, found, targets)) for key, found in trials.items()]
    kinds = sorted({value["kind"] for _, _, value, _, _ in scored})
    if len(kinds) > 1:
        raise FacebenchError(f"{entry}: its trials say different kinds: {', '.join(kinds)}")
    semantic = scored[0][2]["config"]["semantic"]
    if fault := adaptation.fault(of, kinds[0], semantic):
        raise FacebenchError(f"{entry} under {of.id}: {fault}")
    _same_entry(entry, of, held, kinds[0], config_digest)
    bundles: dict[Path, dict[str, np.ndarray]] = {}
    for key, folder, value, stored, _ in scored:
        if key in held and (line := _differs(workspace, held[key], value, stored, bundles)):
            raise FacebenchError(
                f"{folder / 'trial.json'}: trial {key} already has a record, {held[key].path}, "
                f"with other content ({line}); records are never changed: give the new entry "
                "another name"
            )
    new = [item for item in scored if item[0] not in held]
    if not new:
        return min(item.path for item in held.values()), False
    made, bundle = _fold(of, entry, note, new)
    store.write(workspace, made["predictions"]["content_digest"], bundle, entry)
    path = record.place(workspace, made)
    files.write_json(path, made)
    return path, True


def holding(workspace: Workspace, of: Protocol, entry: str) -> dict[str, Held]:
    """The trials of an entry that its records have, by `subset_key`; retracted records have none.

    Raises:
        FacebenchError: a record or retraction is damaged, or two records have the same trial.
    """
    retracted = retraction.load(workspace)
    held: dict[str, Held] = {}
    for path in record.paths(workspace, of.id, entry):
        value = record.read(workspace, path)
        if value["protocol"]["digest"] != of.digest or value["record_id"] in retracted:
            continue
        for row, said in enumerate(value["trials"]):
            key = subset_key(said["regime"]["value"], said["seed"])
            if key in held:
                raise FacebenchError(
                    f"{held[key].path} and {path}: both have trial {key} of {entry}; retract one"
                )
            held[key] = Held(path, value, row)
    return held


def missing(workspace: Workspace, of: Protocol, entry: str) -> list[str]:
    """The trials that the protocol asks for and no record of the entry has, failed ones marked."""
    held = holding(workspace, of, entry)
    if not held:
        return [subset_key(*asked) for asked in of.trials()]
    config_digest = next(iter(held.values())).value["config"]["digest"]
    keys = [key for asked in of.trials() if (key := subset_key(*asked)) not in held]
    return _marked(workspace, of, entry, config_digest, keys)


def _marked(
    workspace: Workspace, of: Protocol, entry: str, config_digest: str, keys: Sequence[str]
) -> list[str]:
    """Keys of trials; those that were started and failed say so."""
    marked = []
    for value, seed in of.trials():
        if (key := subset_key(value, seed)) not in keys:
            continue
        asked = trial.asked(of, entry, config_digest, value, seed)
        folder = trial.directory(workspace, of.id, entry, value, seed, asked)
        failed = not trial.finished(folder) and (folder / "failure.txt").is_file()
        marked.append(f"{key} (failed)" if failed else key)
    return marked


def _scored(
    of: Protocol, found: Found, targets: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray] | None, Mapping[str, float | None]]:
    """The stored predictions of a trial and what they score; None and the worst if it diverged."""
    folder, value = found
    stored = trial.predictions(folder, value) if value["status"] == "ok" else None
    scores: Mapping[str, float | None] = (
        judge.worst(of) if stored is None else judge.score(of, stored, targets)
    )
    if lines := judge.differences(value["metrics"], scores):
        raise FacebenchError(f"{folder / 'trial.json'}: {lines[0]}; run the trial again")
    return stored, scores


def _same_entry(
    entry: str, of: Protocol, held: Mapping[str, Held], kind: str, config_digest: str
) -> None:
    """Refuses to add trials of another config or kind to an entry: seeds are not picked so."""
    for item in held.values():
        for name, said, now in (
            ("config", digest.short(item.value["config"]["digest"]), digest.short(config_digest)),
            ("kind", item.value["kind"], kind),
        ):
            if said != now:
                raise FacebenchError(
                    f"{item.path}: {entry} already has a record under {of.id}, with {name} {said}, "
                    f"and these trials have {now}; records are never changed: give the new entry "
                    "another name"
                )


def _differs(
    workspace: Workspace,
    held: Held,
    value: Mapping[str, Any],
    stored: Mapping[str, np.ndarray] | None,
    bundles: dict[Path, dict[str, np.ndarray]],
) -> str | None:
    """How a trial differs from what a record has, apart from how long it took and where."""
    said = held.said
    for name in ("trial_id", "status"):
        if said[name] != value[name]:
            return f"{name} {said[name]} and {value[name]}"
    if lines := judge.differences(said["metrics"], value["metrics"]):
        return lines[0]
    if stored is None:
        return None
    if held.path not in bundles:
        bundles[held.path] = record.read_bundle(workspace, held.value)
    old = {name: array[held.row] for name, array in bundles[held.path].items()}
    return None if digest.of_arrays(old) == digest.of_arrays(stored) else "other predictions"


def _fold(
    of: Protocol,
    entry: str,
    note: str,
    trials: Sequence[tuple[str, Path, dict[str, Any], Any, Mapping[str, float | None]]],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record and the arrays of its bundle, each of shape (trials, ...)."""
    environments: list[dict[str, Any]] = []
    rows = []
    for _, _, value, _, scores in trials:
        if value["environment"] not in environments:
            environments.append(value["environment"])
        rows.append(
            {
                "trial_id": value["trial_id"],
                "regime": value["regime"],
                "seed": value["seed"],
                "subset_digest": value["subset_digest"],
                "status": value["status"],
                "metrics": dict(scores),
                "time": value["time"],
                **value["model"],
                "environment": environments.index(value["environment"]),
            }
        )
    bundle = _stack(of, [stored for _, _, _, stored, _ in trials])
    first = trials[0][2]
    semantic = first["config"]["semantic"]
    made = {
        "schema": "facebench/record-1",
        "protocol": {"id": of.id, "digest": of.digest},
        "entry": entry,
        "kind": first["kind"],
        "config": {"digest": digest.of_json(semantic), "semantic": semantic},
        "trials": rows,
        "predictions": {"content_digest": digest.of_arrays(bundle), "n": of.n},
        "environments": environments,
        "note": note,
    }
    made["record_id"] = digest.of_json(made)
    schema.check(made, "record", f"the record of {entry}")
    for name in _private(made):
        raise FacebenchError(
            f"the record of {entry}: {name} is a path of this machine, and records are public; "
            "name the file relative to the workspace"
        )
    return made, bundle


def _of_one_config(
    workspace: Workspace, of: Protocol, entry: str, config: str | None
) -> list[Found]:
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


def _in_order(of: Protocol, entry: str, trials: list[Found]) -> dict[str, Found]:
    """The trials by `subset_key`, in the protocol's order, none that it does not ask for."""
    by_key: dict[str, Found] = {}
    for directory, value in trials:
        key = subset_key(value["regime"]["value"], value["seed"])
        if key in by_key:
            raise FacebenchError(f"{directory}: the same trial as {by_key[key][0]}; delete one")
        by_key[key] = directory, value
    expected = {subset_key(*asked): asked for asked in of.trials()}
    if extra := sorted(set(by_key) - set(expected)):
        raise FacebenchError(
            f"{by_key[extra[0]][0]}: {of.id} does not ask for {extra[0]}; a record holds only "
            "what the protocol asks for: delete the trial"
        )
    ordered = {key: by_key[key] for key in expected if key in by_key}
    for key, (directory, value) in ordered.items():
        config_digest = value["config"]["digest"]
        for fault in record.trial_faults(of, entry, config_digest, value, *expected[key]):
            raise FacebenchError(f"{directory / 'trial.json'}: {fault}")
    return ordered


def _stack(of: Protocol, predictions: list[dict[str, np.ndarray] | None]) -> dict[str, np.ndarray]:
    """Stacks stored arrays over trials; zeros for a trial that has none."""
    shapes = next((p for p in predictions if p is not None), None)
    bundle = {}
    for name, how in of.predictions.items():
        blank = np.zeros(0, how["dtype"]) if shapes is None else np.zeros_like(shapes[name])
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
