"""How the fields of a protocol fit together: what a schema cannot say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from facebench.errors import nearest

if TYPE_CHECKING:
    from facebench.protocol import Protocol

# Fields of `evaluation` by the tasks that read them; True: the task needs it.
EVALUATION = {
    "recognition": {
        **{"pairs": False, "gallery": False, "digest": False, "group": False},
        **{"flip": False, "pooling": False},
    },
    "expression": {"classes": False, "cues": False, "also": False},
    "action_units": {"au": True, "threshold": True, "also": False},
    "action_unit_intensity": {"au": True, "also": False},
    "landmarks": {"also": False},
    "parsing": {"also": False},
    "valence_arousal": {"also": False},
}


def subset_key(value: int | float, seed: int) -> str:
    """The name of a subset: ``"0.1/0"`` is the fraction 0.1 (a float) of seed 0."""
    return f"{value!r}/{seed}"


def draw_of(regimes: Mapping[str, Any], seed: int) -> int:
    """Which draw of the data a seed trains on: ``seed // repeats``, or the seed itself.

    With ``repeats`` of S, seeds 0 ... S - 1 share draw 0 and differ in initialisation and order
    alone, and so on: R draws with S seeds in each are the seeds 0 ... R * S - 1.
    """
    return seed // regimes.get("repeats", 1)


def faults(of: Protocol) -> Iterator[str]:
    """What contradicts itself, one line each, every line naming its field."""
    task = of.id.split("/")[0]
    if of.task != task:
        yield f"task is {of.task!r}, but the id begins with {task!r}"
    for name, items in (
        ("metrics", [m["name"] for m in of.metrics]),
        ("seeds", of.seeds),
        ("regimes.values", of.regimes["values"]),
    ):
        if twice := [item for item, n in Counter(items).items() if n > 1]:
            yield f"{name}: {items} names something twice: {twice[0]}"
    yield from _metrics(of)
    yield from _regimes(of)
    expected = {subset_key(*trial) for trial in of.trials()}
    if of.subsets and set(of.subsets) != expected:
        wrong = sorted(expected ^ set(of.subsets))
        yield f"subsets: expected one for each regime value and seed, differs at {wrong[:8]}"
    yield from _selection(of)
    yield from _evaluation(of)
    for name, store in of.predictions.items():
        if "scale" in store and not np.issubdtype(store["dtype"], np.integer):
            yield f"predictions.{name}: a scale needs a whole-number type, not {store['dtype']}"


def _metrics(of: Protocol) -> Iterator[str]:
    primaries = [m["name"] for m in of.metrics if m["primary"]]
    if len(primaries) != 1:
        yield f"metrics: exactly one must be primary, found {primaries or 'none'}"
    for metric in of.metrics:
        name, (low, high) = metric["name"], metric["range"]
        if low is not None and high is not None and low >= high:
            yield f"metrics: {name} has the empty range {metric['range']}"
        for field in ("chance", "reference"):
            value = metric.get(field)
            if value is None:
                continue
            if (low is not None and value < low) or (high is not None and value > high):
                yield f"metrics: {name}: {field} {value} lies outside the range {metric['range']}"
        chance, reference = metric.get("chance"), metric.get("reference")
        if reference is None:
            continue
        if chance is None:
            yield f"metrics: {name} has a reference and no chance; a score is normalised by both"
        elif (reference > chance) != metric["higher_is_better"] or reference == chance:
            yield f"metrics: {name}: the reference {reference} is not better than chance, {chance}"
    if of.reference_entry and not any("reference" in m for m in of.metrics if m["primary"]):
        yield (
            f"reference_entry is {of.reference_entry!r}, but the primary metric has no "
            "'reference': say what it scores"
        )


def _regimes(of: Protocol) -> Iterator[str]:
    kind, values, by = (of.regimes[name] for name in ("kind", "values", "by"))
    if values != sorted(values):
        yield f"regimes.values: {values} must ascend"
    if kind == "full" and values != [1.0]:
        yield f"regimes.values: kind 'full' has the one value 1.0, found {values}"
    if kind == "zero" and values != [0]:
        yield f"regimes.values: kind 'zero' has the one value 0, found {values}"
    if kind != "zero" and "train" not in of.splits:
        yield f"splits.train is missing: kind {kind!r} draws from it; only kind 'zero' needs none"
    if kind == "zero" and of.dev is not None:
        yield "dev: kind 'zero' trains on nothing that it could be carved from"
    if kind != "zero" and values[0] <= 0:
        yield f"regimes.values: {values[0]} labels are none; that is kind 'zero'"
    if kind == "fraction" and values[-1] > 1:
        yield f"regimes.values: {values[-1]} is not a fraction of the labels"
    whole = kind in ("full", "units") or (kind == "fraction" and by == "unit")
    if "frames" in of.regimes and not whole:
        yield f"regimes.frames: kind {kind!r} by {by!r} draws no whole units to take samples of"
    strata = of.regimes.get("strata")
    if strata:
        if kind in ("full", "zero"):
            yield f"regimes.strata: kind {kind!r} draws nothing that could be stratified"
        if strata["rule"] == "multilabel" and kind == "shots" and by == "unit":
            yield "regimes.strata: shots of every unit are not balanced over several labels"
        for field, rule in (("threshold", "multilabel"), ("columns", "attribute")):
            if field in strata and strata["rule"] != rule:
                yield f"regimes.strata.{field} belongs to rule {rule!r}, not {strata['rule']!r}"
    repeats = of.regimes.get("repeats", 1)
    uneven = {
        draw: n
        for draw, n in Counter(draw_of(of.regimes, seed) for seed in of.seeds).items()
        if n != repeats
    }
    if uneven and len(set(of.seeds)) == len(of.seeds):
        draw, n = min(uneven.items())
        first = draw * repeats
        yield (
            f"regimes.repeats is {repeats}, but draw {draw} has {n} seeds; "
            f"expected all of {first} to {first + repeats - 1} in seeds"
        )


def _selection(of: Protocol) -> Iterator[str]:
    there = of.dev is not None or "dev" in of.splits
    remedy = "but there is no dev split; carve one from train: the field 'dev'"
    if of.selection == "dev" and not there:
        yield f"selection is 'dev', {remedy}"
    if "threshold" in of.predictions and not there:
        yield f"predictions.threshold is chosen on dev, {remedy}"
    if "threshold" in of.predictions and of.regimes["kind"] == "zero":
        yield "predictions.threshold is chosen by labels of dev; kind 'zero' may use none"
    if of.tuning and of.tuning["select_on"] == "dev" and not there:
        yield f"tuning.select_on is 'dev', {remedy}"
    if of.dev is not None and "dev" in of.splits:
        yield "dev: the dataset has a split 'dev' already; leave out one of the two"


def _evaluation(of: Protocol) -> Iterator[str]:
    gallery, n = of.evaluation.get("gallery", []), of.splits["test"]["n"]
    if gallery == "subset":
        gallery = []
        whole = of.regimes["kind"] == "full" or (
            of.regimes["kind"] == "shots" and of.regimes["by"] == "unit"
        )
        if not whole or of.dev is not None:
            yield (
                "evaluation.gallery 'subset': every subset must hold every person: regimes.kind "
                "'full', or 'shots' by 'unit', and no dev that is carved out"
            )
    if of.task == "recognition":
        yield from _comparisons(of.evaluation)
    if gallery and n is not None and (max(gallery) >= n or len(gallery) >= n):
        yield f"evaluation.gallery: {max(gallery)} is beyond the {n} samples of test, or no probe"
    for name in of.evaluation.get("also", ()):
        if name in ("train", "dev", "test"):
            yield f"evaluation.also: {name!r} is no further test split"
        elif name not in of.splits:
            yield f"evaluation.also: there is no split {name!r}: {nearest(name, of.splits)}"
    further = {m["name"].partition("/")[2] for m in of.metrics} - {""}
    for name in sorted(further - set(of.evaluation.get("also", ()))):
        yield f"metrics: {name!r} behind the / is not in evaluation.also"
    if "cues" in of.evaluation and "attention" not in of.predictions:
        yield "predictions.attention is missing: evaluation.cues compares it with action units"
    known = EVALUATION.get(of.task, {})
    for field in of.evaluation:
        if field not in known:
            said = f"it has {', '.join(known)}" if known else "it has none"
            yield f"evaluation.{field} means nothing to task {of.task!r}: {said}"
    for field, needed in known.items():
        if needed and field not in of.evaluation:
            yield f"evaluation.{field} is missing; task {of.task!r} needs it"
    for split, facts in of.splits.items():
        if "used" not in facts:
            continue
        listed = split == "test" and of.evaluation.get("pairs", "").startswith("list:")
        if "classes" not in of.evaluation and not listed:
            yield (
                f"splits.{split}.used: every sample counts without evaluation.classes or a list "
                "of pairs; remove it"
            )
        elif None not in (facts["used"], facts["n"]) and facts["used"] > facts["n"]:
            yield f"splits.{split}.used: {facts['used']} of {facts['n']} samples"
    why = {"classes": "evaluation.classes", "digest": "a list of pairs"}
    for field, what in why.items():
        for name in of.tested if field == "classes" else ("test",):
            if field in of.evaluation and "used" not in of.splits.get(name, {"used": None}):
                yield f"splits.{name}.used is missing: {what} may leave samples out; set it null"


def _comparisons(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """How the parts of a recognition protocol's evaluation fit together."""
    pairs = evaluation.get("pairs", "")
    listed = pairs.startswith("list:")
    if listed and "gallery" in evaluation:
        yield "evaluation.gallery: a list of pairs has none; make two protocols"
    if listed != ("digest" in evaluation):
        yield "evaluation.digest is that of a list of pairs; set it null, or leave out both"
    if "group" in evaluation and pairs != "all":
        yield "evaluation.group goes with pairs 'all'; a list says the groups of its pairs itself"
    if "pooling" in evaluation and not listed:
        yield "evaluation.pooling is of the templates of a list of pairs; there is none"


def holes(value: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a protocol file that freezing fills in and that are still null."""
    for split, known in value["splits"].items():
        yield from (f"splits.{split}.{name}" for name, fact in known.items() if fact is None)
    if not value["subsets"]:
        yield "subsets"
    else:
        yield from (f"subsets.{key}" for key, sha in value["subsets"].items() if sha is None)
    if value["targets"] is None:
        yield "targets"
    for name in ("dev", "evaluation", "preprocess"):
        part = value.get(name) or {}
        if "digest" in part and part["digest"] is None:
            yield f"{name}.digest"
