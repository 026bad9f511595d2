"""Canaries: entries that know nothing (constant or permuted answers) and must stay at chance.

One that scores better says that the labels leak into what is predicted from, that the metric pays
for an empty answer, or that the protocol's ``chance`` is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facebench import metrics
from facebench.leaderboard import compare, judge, record, resample, stats
from facebench.protocol import Protocol, dequantise
from facebench.workspace import Workspace

KIND = "canary"
LEVEL = 0.999  # of the interval that must reach chance


def alarms(
    workspace: Workspace, of: Protocol, records: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[str]]:
    """Looks at the canaries of a protocol by every metric that states its chance.

    Args:
        workspace: where the bundles and labels stand.
        of: the protocol.
        records: of the protocol, retracted ones left out.

    Returns:
        What is wrong and what could not be judged, one line each.

    Raises:
        FacebenchError: a bundle or the labels are damaged.
    """
    wrong, open_ = [], []
    stated = [metric for metric in of.metrics if "chance" in metric]
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for value in records:
        if value["kind"] == KIND and stated:
            entries.setdefault(value["entry"], []).append(value)
    for entry, values in sorted(entries.items()):
        cells = _cells(workspace, of, values)
        for (name, at), seeds in cells.items():
            metric = of.metric(name)
            if "chance" not in metric:
                continue
            title = f"protocol {of.id}: canary {entry}: {name} at {at!r}"
            found = interval([score for score, _ in seeds], [moved for _, moved in seeds])
            if found is None:
                open_.append(f"{title}: not judged: one seed, and no test units to vary")
                continue
            low, high = found
            chance = metric["chance"]
            slack = judge.TOLERANCE * max(1.0, abs(chance))
            better = low > chance + slack if metric["higher_is_better"] else high < chance - slack
            if better:
                wrong.append(
                    f"{title}: [{low:.6g}, {high:.6g}] is better than chance {chance}, which an "
                    "answer that knows nothing must not be: labels leak, or chance is wrong"
                )
    return wrong, open_


def interval(
    scores: Sequence[float], moved: Sequence[np.ndarray | None]
) -> tuple[float, float] | None:
    """The interval of the mean over other seeds and other test units; see `compare`.

    Args:
        scores: one per seed.
        moved: `compare.influences` (U,) per seed, or None where the metric has no parts.

    Returns:
        Its ends; None where neither seeds nor units vary.
    """
    centre, variance = stats.mean(scores), 0.0
    upper = (1 + LEVEL) / 2
    if len(scores) > 1:
        t = stats.t_quantile(upper, len(scores) - 1)
        variance += t**2 * stats.std(scores) ** 2 / len(scores)
    known = [array for array in moved if array is not None]
    units = len(known[0]) if len(known) == len(moved) else 0
    if units > 1:
        together = np.mean(known, axis=0)
        t = stats.t_quantile(upper, units - 1)
        variance += t**2 * math.fsum(together**2) / (units * (units - 1))
    if len(scores) < 2 and units < 2:
        return None
    return centre - math.sqrt(variance), centre + math.sqrt(variance)


def _cells(
    workspace: Workspace, of: Protocol, values: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, int | float], list[tuple[float, np.ndarray | None]]]:
    """Per metric and regime value the score of each seed and how each test unit moves it."""
    try:
        labels: dict[str, np.ndarray] | None = judge.load_targets(workspace, of)
    except judge.MissingTargetsError:
        labels = None
    cells: dict[tuple[str, int | float], list[tuple[float, np.ndarray | None]]] = {}
    for value in values:
        bundle = record.read_bundle(workspace, value) if labels is not None else {}
        for i, row in enumerate(value["trials"]):
            if row["status"] != "ok":
                continue  # it has the worst score
            parts: Mapping[str, Any] = {}
            if labels is not None:
                stored = {name: array[i] for name, array in bundle.items()}
                parts = metrics.parts(of.task, of.convention, dequantise(of, stored), labels)
            for name, score in row["metrics"].items():
                moved = None
                if name in parts:
                    sums = resample.unit_sums(parts[name])
                    moved = compare.influences(sums, parts[name].value) if len(sums) > 1 else None
                if score is not None:
                    at = row["regime"]["value"]
                    cells.setdefault((name, at), []).append((float(score), moved))
    return cells
