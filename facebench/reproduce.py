"""Runs trials of a record again and says whether what comes out is what was claimed.

Two rules. ``bitwise``: the same stored predictions, byte for byte; a fair demand on the same kind
of machine with the same packages. ``statistical``: every metric lies within the interval in which
another seed would be expected, and the predictions agree with the recorded ones at least as often
as the protocol's floor says. Predictions are compared, no label is opened but by the judge.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import config as configs
from facebench import digest, files, plan
from facebench import protocol as protocols
from facebench.data import source
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.leaderboard import attestation, stats, trial
from facebench.leaderboard import record as records
from facebench.metrics import agreement
from facebench.models import stored
from facebench.protocol import Protocol, subset_key
from facebench.workspace import Workspace

RULES = ("auto", "bitwise", "statistical")
LEVEL = 0.99  # of the interval for one more draw


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric of a trial, as recorded and as it came out again.

    Attributes:
        low, high: where another seed is expected; infinite where the record has one seed.
    """

    name: str
    recorded: float | None
    again: float | None
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the value is where another seed would be expected."""
        if self.recorded is None or self.again is None:
            return self.recorded is self.again
        return self.low <= self.again <= self.high


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What running one trial again gave.

    Attributes:
        key: regime value and seed, ``0.1/0``.
        bitwise: whether the stored predictions are the recorded ones, byte for byte.
        weights: whether the trained weights are; None where a trial has none.
        metrics: of the protocol.
        agreement: share of samples on which the predictions agree; None if one side diverged.
        floor: the least share that the protocol takes for the same; None if it has none.
        differences: how the environment differs from the recorded one, line by line.
        rule: ``bitwise`` or ``statistical``, the one that was applied.
        seconds: recorded and now, of all the trial's work.
    """

    key: str
    bitwise: bool
    weights: bool | None
    metrics: tuple[Metric, ...]
    agreement: float | None
    floor: float | None
    differences: tuple[str, ...]
    rule: str
    seconds: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Whether the trial is reproduced by its rule; equal bytes always do."""
        if self.bitwise or self.rule == "bitwise":
            return self.bitwise
        if not all(metric.inside for metric in self.metrics):
            return False
        return self.floor is None or (self.agreement is not None and self.agreement >= self.floor)


@dataclasses.dataclass(frozen=True)
class Failed:
    """A trial that could not be run again: its key and the reason, one line."""

    key: str
    reason: str
    passed = False


@dataclasses.dataclass(frozen=True)
class Claim:
    """A record with all that is needed to run its trials again.

    Attributes:
        path: of its file.
        value: what it says.
        protocol: its protocol, which it was made under.
        rows: its trials by regime value and seed, ``0.1/0``.
        bundle: stored predictions; row i of each array is of trial i.
        config: its experiment.
    """

    path: Path
    value: Mapping[str, Any]
    protocol: Protocol
    rows: Mapping[str, Mapping[str, Any]]
    bundle: Mapping[str, np.ndarray]
    config: configs.Config

    def stored(self, key: str) -> dict[str, np.ndarray]:
        """The recorded predictions of a trial."""
        at = list(self.rows).index(key)
        return {name: array[at] for name, array in self.bundle.items()}

    def chosen(self, keys: Sequence[str]) -> list[str]:
        """The trials that are asked for, each once; the first one when none is.

        Raises:
            UsageError: the record has no such trial.
        """
        for key in keys:
            if key not in self.rows:
                raise UsageError(
                    f"--trial={key}: {self.path.name} has VALUE/SEED {', '.join(self.rows)}"
                )
        return list(dict.fromkeys(keys)) or list(self.rows)[:1]

    def job(self, key: str, folder: Path) -> plan.Job:
        """A trial to be made in a folder."""
        row = self.rows[key]
        return plan.Job(row["regime"]["value"], row["seed"], folder, "to do")


def claim(ws: Workspace, path: Path, overrides: Sequence[str] = ()) -> Claim:
    """Reads a record, its predictions and its experiment.

    Args:
        ws: the workspace of the record.
        path: the record.
        overrides: changes of the config, ``optim.lr=2e-3``.

    Raises:
        UsageError: an override names no key.
        FacebenchError: the record, its protocol or predictions are damaged, or its config would
            mean something else in this release.
    """
    value = records.read(ws, path)
    protocol = protocols.load(ws, value["protocol"]["id"])
    if faults := records.faults(protocol, value):
        raise FacebenchError(f"{path}: {faults[0]}")
    return Claim(
        path=path,
        value=value,
        protocol=protocol,
        rows={subset_key(t["regime"]["value"], t["seed"]): t for t in value["trials"]},
        bundle=records.read_bundle(ws, value),
        config=configs.restore(value["config"]["semantic"], overrides),
    )


def require_data(ws: Workspace, protocol: Protocol) -> None:
    """Refuses to begin without the prepared dataset, and says how to have it.

    Nothing is prepared here: it may take long, and a newer builder makes another dataset.

    Raises:
        FacebenchError: it is not there.
    """
    wanted = protocol.dataset
    name, config, version = (wanted[key] for key in ("name", "config", "version"))
    if source.prepared(ws, name, config, version):
        return
    where = f"{ws.relative(ws.data)}: dataset {name}/{config} {version} is not prepared here"
    if name not in source.names(ws):
        raise FacebenchError(f"{where}, and the workspace has no builder datasets/{name}")
    if (made := str(source.builder(ws, name).VERSION)) != version:
        raise FacebenchError(
            f"{where}, and this release's builder makes {made}: prepare it with the release of the "
            "record, and name the folder by --data_dir; `facebench rescore` needs no data"
        )
    more = "" if source.generated(ws, name) else f" --source=FOLDER (see datasets/{name}/README.md)"
    raise FacebenchError(f"{where}; run: facebench data prepare {name}/{config}{more}")


def require_weights(ws: Workspace, of: Claim, keys: Sequence[str]) -> None:
    """Refuses to begin without the stored weights that the record's backbone began with.

    Raises:
        FacebenchError: the file is not there, or it holds others.
    """
    name, recorded = (
        semantic.get("model", {}).get("weights")
        for semantic in (of.config.semantic, of.value["config"]["semantic"])
    )
    if not name or name != recorded:  # others are asked for by --with
        return
    path, wanted = ws.root / name, {of.rows[key]["initial_weights"] for key in keys}
    said = ", ".join(sorted(wanted))
    if not path.is_file():
        raise FacebenchError(
            f"{ws.relative(path)}: no such file, and the record begins with its weights ({said}); "
            "put it there, or make it again as docs/weights.md says. `facebench rescore` needs none"
        )
    found = stored.read(path).header["weights"]
    if {found} != wanted:
        raise FacebenchError(
            f"{ws.relative(path)}: holds the weights {found}, and the record begins with {said}: "
            "what comes out would be another result; get the file that the record was made with"
        )


def reproduce(
    ws: Workspace,
    path: Path,
    keys: Sequence[str] = (),
    rule: str = "auto",
    overrides: Sequence[str] = (),
    attest: bool = False,
) -> list[Outcome | Failed]:
    """Runs trials of a record again, in a folder of their own that is removed afterwards.

    Args:
        ws: the workspace of the record.
        path: the record.
        keys: which trials, as ``VALUE/SEED`` (``0.1/0``); the first one when left out.
        rule: ``bitwise``, ``statistical``, or ``auto``: bitwise where the environment is the
            recorded one, else statistical.
        overrides: changes of the config, ``optim.lr=2e-3``: to see that the check has teeth.
        attest: write an attestation of each trial that is reproduced.

    Raises:
        UsageError: no such trial, rule or config key; an attestation of a changed config.
        FacebenchError: the record, its protocol or data is damaged or not what it was; or its
            protocol's rule does not let a trial be attested.
        Interrupted: a signal; nothing is kept.
    """
    if rule not in RULES:
        raise UsageError(f"--rule={rule}: {nearest(rule, RULES)}")
    if attest and overrides:
        raise UsageError("--attest is of the record as it is: leave out --with")
    of = claim(ws, path, overrides)
    chosen = of.chosen(keys)
    require_data(ws, of.protocol)
    require_weights(ws, of, chosen)

    from facebench.experiment import Experiment
    from facebench.train.loop import Interrupted

    outcomes: list[Outcome | Failed] = []
    with files.explained(ws.runs, "running again"):
        ws.runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".reproduce-", dir=ws.runs) as folder:
            experiment = Experiment(ws, of.config, of.protocol)
            for i, key in enumerate(chosen, 1):
                title = f"[{i}/{len(chosen)}] {key}  "
                said = sum(of.rows[key]["time"].values())
                print(f"{title}runs again; it took {said:.0f} s when it was recorded", flush=True)
                job = of.job(key, Path(folder) / str(i))
                experiment.check(job)
                begun = time.monotonic()
                try:
                    again = experiment.trial(job, title)
                except (FacebenchError, Interrupted, OSError):
                    raise
                except Exception as error:  # of this trial: the others are still tried
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
                    outcomes.append(Failed(key, reason))
                    continue
                fresh = trial.predictions(job.folder, again) if again["status"] == "ok" else None
                outcome = compare(of, key, again, fresh, rule, time.monotonic() - begun)
                outcomes.append(outcome)
                if attest and outcome.passed:
                    place = attestation.attest(ws, of.protocol, path, key, again, fresh)
                    print(f"{title}attested: {ws.relative(place)}", flush=True)
    return outcomes


def compare(
    of: Claim,
    key: str,
    again: Mapping[str, Any],
    fresh: Mapping[str, np.ndarray] | None,
    rule: str,
    seconds: float = 0.0,
) -> Outcome:
    """Holds a trial that was run again against the recorded one.

    Args:
        of: the record.
        key: which of its trials.
        again: the new trial, as ``trial.json`` holds it.
        fresh: its stored predictions; None where it diverged.
        rule: one of `RULES`.
        seconds: how long it took.
    """
    protocol, row = of.protocol, of.rows[key]
    environment = of.value["environments"][row["environment"]]
    differences = tuple(trial.staleness(environment, again["environment"]))
    claimed = row["status"] == "ok"
    if fresh is None or not claimed:
        same, share = fresh is None and not claimed, None
    else:
        stored = of.stored(key)
        same = digest.of_arrays(fresh) == digest.of_arrays(stored)
        values = (protocols.dequantise(protocol, x) for x in (stored, fresh))
        share = agreement.agreement(protocol.task, *values)
    statistical = (protocol.tolerance or {}).get("statistical") or {}
    return Outcome(
        key=key,
        bitwise=same,
        weights=None if row["weights"] is None else row["weights"] == again["model"]["weights"],
        metrics=tuple(_metric(protocol, of.value, row, again, m) for m in protocol.metrics),
        agreement=share,
        floor=statistical.get("agreement"),
        differences=differences,
        rule=("statistical" if differences else "bitwise") if rule == "auto" else rule,
        seconds=(sum(row["time"].values()), seconds),
    )


def _metric(
    protocol: Protocol,
    record: Mapping[str, Any],
    row: Mapping[str, Any],
    again: Mapping[str, Any],
    metric: Mapping[str, Any],
) -> Metric:
    name = metric["name"]
    seeds = [
        t["metrics"][name]
        for t in record["trials"]
        if t["regime"]["value"] == row["regime"]["value"] and t["metrics"][name] is not None
    ]
    low, high = stats.prediction_interval(seeds, LEVEL)
    return Metric(name, row["metrics"][name], (again["metrics"] or {}).get(name), low, high)


def text(protocol: Protocol, outcomes: Sequence[Outcome | Failed]) -> str:
    """The outcomes as lines for a person."""
    lines = []
    what = agreement.RULES[protocol.task][1] if protocol.task in agreement.RULES else ""
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            lines.append(f"FAILED {outcome.key}: {outcome.reason}")
            continue
        verdict = "REPRODUCED" if outcome.passed else "NOT REPRODUCED"
        how = "bit by bit" if outcome.bitwise else f"by the {outcome.rule} rule"
        lines.append(f"{verdict} {outcome.key} {how}")
        lines += [_metric_line(protocol, metric) for metric in outcome.metrics]
        if outcome.agreement is not None:
            floor = "the protocol has no floor: --measure suggests one"
            if outcome.floor is not None:
                floor = f"floor {outcome.floor:.4f}"
                floor += "" if outcome.agreement >= outcome.floor else "  BELOW"
            lines.append(f"  agreement    {outcome.agreement:.4f} of {what}")
            lines.append(f"               {floor}")
        if outcome.weights is not None:
            lines.append(f"  weights      {'the same' if outcome.weights else 'differ'}")
        lines += [f"  environment  {line}" for line in outcome.differences]
    passed = sum(outcome.passed for outcome in outcomes)
    run = [outcome.seconds for outcome in outcomes if isinstance(outcome, Outcome)]
    before, now = (sum(column) for column in zip(*run)) if run else (0.0, 0.0)
    lines.append(
        f"{len(outcomes)} trials run again, {passed} reproduced; {now:.0f} s in all, "
        f"{before:.0f} s when they were recorded"
    )
    return "\n".join(lines)


def _metric_line(protocol: Protocol, metric: Metric) -> str:
    decimals = protocol.metric(metric.name)["decimals"] + 2
    old, new = (
        "undefined" if v is None else f"{v:.{decimals}f}" for v in (metric.recorded, metric.again)
    )
    expected = "one seed says nothing of others"
    if math.isfinite(metric.low):
        expected = f"expected [{metric.low:.{decimals}f}, {metric.high:.{decimals}f}]"
    mark = "" if metric.inside else "  OUTSIDE"
    return f"  {metric.name:<12} recorded {old}  again {new}  {expected}{mark}"
