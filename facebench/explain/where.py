"""Where an entry is worst: unit by unit, group by group, by class, action unit or region."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from facebench import metrics, schemes
from facebench.explain.question import Answer, Question
from facebench.explain.shelf import Shelf
from facebench.leaderboard import resample, stats
from facebench.metrics._parts import Parts

#: Per task the list that says most, where the metric in question has none of its own.
LISTS = {
    "action_unit_intensity": "mae_per_au",
    "action_units": "f1_per_au",
    "expression": "recall_per_class",
    "landmarks": "nme_per_point",
    "parsing": "f1_per_class",
}


def units(shelf: Shelf, of: Answer) -> list[dict[str, Any]]:
    """Every unit with its score, the mean over seeds.

    Returns:
        ``unit`` (its number in the labels), ``samples``, ``score``; in the order of the units.
        Empty for a metric that is no sum over samples.
    """
    known = [part for part in of.parts or () if not isinstance(part, float)]
    if not known or len(known) < len(of.trials):
        return []
    rows = np.stack([_per_unit(part) for part in known])
    names = _names(shelf.labels.arrays, known[0])
    samples = np.bincount(known[0].unit)
    return [
        {"unit": name, "samples": int(n), "score": stats.mean(scores)}
        for name, n, scores in zip(names, samples, rows.T.tolist(), strict=True)
    ]


def _per_unit(part: Parts) -> np.ndarray:
    return np.asarray(part.value(resample.unit_sums(part)), np.float64)


def _names(targets: Mapping[str, np.ndarray], part: Parts) -> list[int | str]:
    """What the labels call the units of a metric's parts."""
    count = int(part.unit.max()) + 1
    candidates = {"unit": targets.get("unit")}
    if "probe_identity" in targets:
        mated = np.isin(targets["probe_identity"], targets["gallery_identity"])
        candidates["identity"] = targets["probe_identity"][mated & (targets["probe_identity"] >= 0)]
    names = candidates.get(part.of)
    if names is not None and len(np.unique(names)) == count:
        return [name.item() for name in np.unique(names)]
    return list(range(count))


def worst(found: list[dict[str, Any]], question: Question) -> list[dict[str, Any]]:
    """Items with a ``score``, the worst first; of equal ones in the order they came in."""
    sign = -1 if not question.metric["higher_is_better"] else 1
    return sorted(found, key=lambda item: sign * item["score"])


def lists(shelf: Shelf, question: Question, of: Answer) -> dict[str, list[dict[str, Any]]]:
    """The task's lists: what each is of, to its items with ``name`` and ``score``.

    Landmarks are joined to the regions of the face. Groups stand under ``group`` where the labels
    have one. Scores are means over the seeds that have one.
    """
    protocol = shelf.protocol
    plain, _, split = question.metric["name"].partition("/")
    stem, tables = plain.partition("@")[0], []
    for trial in of.trials:
        predictions = shelf.predictions(trial)
        if predictions is not None:
            targets = shelf.labels.arrays
            if question.part is not None:
                predictions, targets = question.part.cut(predictions, targets)
            table = metrics.score(
                protocol.task, predictions, targets, convention=question.convention
            )
            named = [(name.partition("/"), value) for name, value in table.items()]
            tables.append({name: value for (name, _, of), value in named if of == split})
    if not tables:
        return {}
    own = [name for name in tables[0] if name.startswith(f"{stem}_per_")]
    usual = LISTS.get(protocol.task)
    wanted = [name for name in own if not name.startswith("confusion")]
    if not any(not name.endswith("_per_group") for name in wanted) and usual in tables[0]:
        wanted.append(usual)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in wanted:
        metric, _, axis = name.rpartition("_per_")
        items = _items(shelf, axis, np.array([_numbers(table[name]) for table in tables]))
        if axis == "point":
            axis = "region"
        found[f"{metric} by {axis}"] = items
    return found


def _numbers(values: Any) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _items(shelf: Shelf, axis: str, rows: np.ndarray) -> list[dict[str, Any]]:
    """Means over seeds (the rows), named."""
    protocol, targets = shelf.protocol, shelf.labels.arrays
    count = rows.shape[1]
    names: list[Any] = [str(i) for i in range(count)]
    if axis == "point":
        regions = schemes.SCHEMES[count].regions
        rows = np.stack([rows[:, list(points)].mean(axis=1) for points in regions.values()], axis=1)
        names = list(regions)
    elif axis == "class":
        if len(protocol.evaluation.get("classes", ())) == count:
            names = list(protocol.evaluation["classes"])
        elif "class_names" in targets:
            names = targets["class_names"].astype(str).tolist()
        elif protocol.task == "parsing" and count <= len(schemes.PARSE):
            names = list(schemes.PARSE[:count])
    elif axis == "au" and len(protocol.evaluation.get("au", ())) == count:
        numbers = protocol.evaluation["au"]
        names = [f"AU{n} {schemes.AU_NAMES[n]}" if n in schemes.AU_NAMES else f"AU{n}"
                 for n in numbers]  # fmt: skip
    elif axis == "group" and len(np.unique(targets["group"])) == count:
        names = [str(name) for name in np.unique(targets["group"])]
    items = []
    for name, column in zip(names, rows.T.tolist(), strict=True):
        known = [value for value in column if not math.isnan(value)]
        if known:
            items.append({"name": str(name), "score": stats.mean(known)})
    return items
