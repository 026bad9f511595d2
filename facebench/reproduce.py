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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import config as configs
from facebench import digest, files, plan
from facebench import protocol as protocols
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.leaderboard import record as records
from facebench.leaderboard import stats, trial
from facebench.metrics import agreement
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
    """

    key: str
    bitwise: bool
    weights: bool | None
    metrics: tuple[Metric, ...]
    agreement: float | None
    floor: float | None
    differences: tuple[str, ...]
    rule: str

    @property
    def passed(self) -> bool:
        """Whether the trial is reproduced by its rule; equal bytes always do."""
        if self.bitwise or self.rule == "bitwise":
            return self.bitwise
        if not all(metric.inside for metric in self.metrics):
            return False
        return self.floor is None or (self.agreement is not None and self.agreement >= self.floor)


def reproduce(
    ws: Workspace,
    path: Path,
    keys: Sequence[str] = (),
    rule: str = "auto",
    overrides: Sequence[str] = (),
) -> list[Outcome]:
    """Runs trials of a record again, in a folder of their own that is removed afterwards.

    Args:
        ws: the workspace of the record; its data is prepared if it is not.
        path: the record.
        keys: which trials, as ``VALUE/SEED`` (``0.1/0``); the first one when left out.
        rule: ``bitwise``, ``statistical``, or ``auto``: bitwise where the environment is the
            recorded one, else statistical.
        overrides: changes of the config, ``optim.lr=2e-3``: to see that the check has teeth.

    Raises:
        UsageError: no such trial, rule or config key.
        FacebenchError: the record, its protocol or data is damaged or not what it was.
    """
    if rule not in RULES:
        raise UsageError(f"--rule={rule}: {nearest(rule, RULES)}")
    record = records.read(ws, path)
    protocol = protocols.load(ws, record["protocol"]["id"])
    if faults := records.faults(protocol, record):
        raise FacebenchError(f"{path}: {faults[0]}")
    bundle = records.read_bundle(ws, record)
    rows = {subset_key(t["regime"]["value"], t["seed"]): t for t in record["trials"]}
    chosen = list(keys) or list(rows)[:1]
    for key in chosen:
        if key not in rows:
            raise UsageError(f"--trial={key}: {path.name} has {', '.join(rows)}")
    config = configs.restore(record["config"]["semantic"], overrides)

    from facebench.experiment import Experiment

    outcomes = []
    with files.explained(ws.runs, "running again"):
        ws.runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".reproduce-", dir=ws.runs) as folder:
            experiment = Experiment(ws, config, protocol)
            for key in chosen:
                row, at = rows[key], list(rows).index(key)
                job = plan.Job(row["regime"]["value"], row["seed"], Path(folder) / str(at), "to do")
                experiment.check(job)
                again = experiment.trial(job, f"{key}  ")
                stored = {name: array[at] for name, array in bundle.items()}
                fresh = trial.predictions(job.folder, again) if again["status"] == "ok" else None
                outcomes.append(_compare(protocol, record, row, stored, again, fresh, rule))
    return outcomes


def _compare(
    protocol: Protocol,
    record: Mapping[str, Any],
    row: Mapping[str, Any],
    stored: Mapping[str, np.ndarray],
    again: Mapping[str, Any],
    fresh: Mapping[str, np.ndarray] | None,
    rule: str,
) -> Outcome:
    environment = record["environments"][row["environment"]]
    differences = tuple(trial.staleness(environment, again["environment"]))
    claimed = row["status"] == "ok"
    if fresh is None or not claimed:
        same, share = fresh is None and not claimed, None
    else:
        same = digest.of_arrays(fresh) == digest.of_arrays(stored)
        values = (protocols.dequantise(protocol, x) for x in (stored, fresh))
        share = agreement.agreement(protocol.task, *values)
    statistical = getattr(protocol, "tolerance", {}).get("statistical", {})
    return Outcome(
        key=subset_key(row["regime"]["value"], row["seed"]),
        bitwise=same,
        weights=None if row["weights"] is None else row["weights"] == again["model"]["weights"],
        metrics=tuple(_metric(protocol, record, row, again, m) for m in protocol.metrics),
        agreement=share,
        floor=statistical.get("agreement"),
        differences=differences,
        rule=("statistical" if differences else "bitwise") if rule == "auto" else rule,
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
    low, high = prediction_interval(seeds)
    return Metric(name, row["metrics"][name], (again["metrics"] or {}).get(name), low, high)


def prediction_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Where one more draw is expected: mean +- t(n - 1) s sqrt(1 + 1/n).

    The whole line for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return -math.inf, math.inf
    t = stats.t_quantile((1 + level) / 2, n - 1)
    half = t * stats.std(values) * math.sqrt(1 + 1 / n)
    half += 1e-9 * max(1.0, abs(stats.mean(values)))  # seeds that are all alike
    return stats.mean(values) - half, stats.mean(values) + half


def text(protocol: Protocol, outcomes: Sequence[Outcome]) -> str:
    """The outcomes as lines for a person."""
    lines = []
    what = agreement.RULES[protocol.task][1] if protocol.task in agreement.RULES else ""
    for outcome in outcomes:
        verdict = "REPRODUCED" if outcome.passed else "NOT REPRODUCED"
        how = "bit by bit" if outcome.bitwise else f"by the {outcome.rule} rule"
        lines.append(f"{verdict} {outcome.key} {how}")
        for metric in outcome.metrics:
            decimals = protocol.metric(metric.name)["decimals"] + 2
            old, new = (
                "undefined" if v is None else f"{v:.{decimals}f}"
                for v in (metric.recorded, metric.again)
            )
            mark = "" if metric.inside else "  OUTSIDE"
            span = f"[{metric.low:.{decimals}f}, {metric.high:.{decimals}f}]"
            lines.append(f"  {metric.name:<12} recorded {old}  again {new}  expected {span}{mark}")
        if outcome.agreement is not None:
            floor = "the protocol has no floor"
            if outcome.floor is not None:
                floor = f"floor {outcome.floor:.4f}"
            lines.append(f"  agreement    {outcome.agreement:.4f} of {what}; {floor}")
        if outcome.weights is not None:
            lines.append(f"  weights      {'the same' if outcome.weights else 'differ'}")
        lines += [f"  environment  {line}" for line in outcome.differences]
    passed = sum(outcome.passed for outcome in outcomes)
    lines.append(f"{len(outcomes)} trials run again, {passed} reproduced")
    return "\n".join(lines)
