"""A question to stored predictions: a metric, a convention, a part of the test samples.

Any metric that the task knows can be asked of any record, however old: nothing is trained or
predicted again. The scores come from `facebench.metrics.score`, the intervals from the same
bootstrap and the same paired comparison as on the boards; where the question is the board's own,
the answers are its numbers.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facebench import metrics
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.explain.group import Part
from facebench.explain.shelf import Shelf
from facebench.leaderboard import compare, resample, stats
from facebench.leaderboard.united import Entry, Trial
from facebench.metrics._parts import Parts
from facebench.protocol import Protocol, subset_key

_LEVEL = re.compile(r"(?P<stem>.*@(?:[a-z]+=)?)(?P<level>[0-9.]+(?:e-?[0-9]+)?)")


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of every trial.

    Attributes:
        metric: ``name``, ``unit``, ``higher_is_better``, ``range``, ``decimals``.
        convention: of the task.
        recorded: whether records hold the answer themselves.
        part: of the test samples; None for all.
    """

    metric: Mapping[str, Any]
    convention: str | None
    recorded: bool
    part: Part | None = None

    @property
    def worst(self) -> float:
        """What a diverged trial scores; infinite where the metric has no worst value."""
        up = self.metric["higher_is_better"]
        end = self.metric["range"][0 if up else 1]
        return (-math.inf if up else math.inf) if end is None else float(end)


def ask(protocol: Protocol, name: str | None, convention: str | None) -> Question:
    """Makes a question of what was typed.

    Args:
        protocol: what the trials were asked.
        name: a metric of the task; None for the protocol's primary one.
        convention: of the task; None for the protocol's own.

    Raises:
        UsageError: no such metric or convention; or the metric is no single score.
    """
    known = metrics.conventions(protocol.task)
    if convention is not None and convention not in known:
        hint = nearest(convention, known)
        raise UsageError(f"{protocol.task} has no convention {convention!r}: {hint}")
    name = protocol.primary["name"] if name is None else name
    own = next((m for m in protocol.metrics if m["name"] == name), None)
    same = convention in (None, protocol.convention)
    if own is not None:
        return Question(own, protocol.convention if same else convention, same)
    info = metrics.metric_info(protocol.task, name)
    if info["higher_is_better"] is None or "_per_" in name:
        raise UsageError(f"metric {name!r} is a list or a spread, and not a score to be compared")
    unit = "" if info["unit"] == "fraction" else info["unit"]
    asked = {
        "name": name,
        "unit": unit,
        "higher_is_better": info["higher_is_better"],
        "range": info["range"],
        "decimals": 2 if unit == "%" else 4,
    }
    return Question(asked, protocol.convention if same else convention, False)


def score(
    protocol: Protocol,
    question: Question,
    predictions: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
) -> float | None:
    """What predictions score; None where the metric has no value on these samples.

    Raises:
        UsageError: the judge does not compute the metric for these arrays.
        FacebenchError: see `facebench.metrics.score`.
    """
    name = question.metric["name"]
    found = metrics.score(
        protocol.task,
        predictions,
        targets,
        convention=question.convention,
        thresholds=_thresholds(protocol, name),
    )
    for other, value in found.items():
        if _same(name, other):
            return None if value is None else float(value)  # type: ignore[arg-type]
    single = [key for key, value in found.items() if not isinstance(value, list)]
    raise UsageError(f"{protocol.id}: no metric {name!r} of these: {nearest(name, single)}")


def parts(
    protocol: Protocol,
    question: Question,
    predictions: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
) -> Parts | None:
    """What the metric is a sum of; None where it is no sum over samples."""
    found = metrics.parts(protocol.task, question.convention, predictions, targets)
    return next((p for name, p in found.items() if _same(question.metric["name"], name)), None)


def _thresholds(protocol: Protocol, name: str) -> list[float] | None:
    """The threshold that a metric names, if it is not one of the usual ones anyway."""
    match = _LEVEL.fullmatch(name)
    if match is None or match["stem"] == "rank@":
        return None
    return [float(match["level"])]


def _same(name: str, other: str) -> bool:
    """Whether two names are of one metric: ``tar@far=0.01`` and ``tar@far=1e-2``."""
    a, b = _LEVEL.fullmatch(name), _LEVEL.fullmatch(other)
    if a is None or b is None:
        return name == other
    return a["stem"] == b["stem"] and float(a["level"]) == float(b["level"])


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the trials of an entry at one regime value score.

    Attributes:
        entry: whose.
        trials: in the order of the seeds.
        scores: one per trial; infinite where it diverged without a worst value.
        parts: per trial its parts, or its score where it diverged; None for a metric without any.
        interval: of the mean over seeds, over other test units; None where there is none.
    """

    entry: Entry
    trials: tuple[Trial, ...]
    scores: tuple[float, ...]
    parts: tuple[Parts | float, ...] | None = None
    interval: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        """Over seeds."""
        return stats.mean(self.scores)

    @property
    def half_width(self) -> float | None:
        """Half of Student's 95 % interval over seeds; None for one seed or an infinite mean."""
        return stats.half_width(self.scores) if math.isfinite(self.mean) else None

    def sums(self) -> list[tuple[np.ndarray, Parts] | float]:
        """Per trial the sums of each unit and the parts they are of; a number where constant."""
        return [
            part if isinstance(part, float) else (resample.unit_sums(part), part)
            for part in self.parts or ()
        ]


def answer(shelf: Shelf, question: Question, entry: Entry, value: int | float) -> Answer:
    """Scores an entry's trials at a regime value, from stored predictions where labels are here.

    Raises:
        MissingTargetsError: the question is not one that the records answer, and the labels are
            not here.
        FacebenchError: no trial at this value, a damaged bundle, or a subset of the test samples
            on which the metric has no value.
    """
    protocol = shelf.protocol
    asked = [subset_key(value, seed) for seed in protocol.seeds]
    trials = tuple(entry.trials[key] for key in asked if key in entry.trials)
    if not trials:
        raise FacebenchError(f"{entry.name}: no trial at {value} of {protocol.id}")
    if question.recorded and question.part is None and not shelf.labels.here:
        said = [trial.metrics[question.metric["name"]] for trial in trials]
        recorded = tuple(question.worst if s is None else float(s) for s in said)
        return Answer(entry, trials, recorded)
    scores: list[float] = []
    found: list[Parts | float | None] = []
    for trial in trials:
        predictions = shelf.predictions(trial)
        if predictions is None:
            scores.append(question.worst)
            found.append(question.worst)
            continue
        targets: Mapping[str, np.ndarray] = shelf.labels.arrays
        if question.part is not None:
            predictions, targets = question.part.cut(predictions, targets)
        number = score(protocol, question, predictions, targets)
        if number is None:
            where = f" on {question.part.name}" if question.part else ""
            raise FacebenchError(f"{question.metric['name']} has no value{where}")
        scores.append(number)
        found.append(parts(protocol, question, predictions, targets))
    kept = None if any(part is None for part in found) else tuple(p for p in found if p is not None)
    return Answer(entry, trials, tuple(scores), kept)


def with_intervals(protocol: Protocol, question: Question, answers: list[Answer]) -> list[Answer]:
    """Adds the test-sampling intervals; every entry sees the same draws, those of the board."""
    usable = [a for a in answers if _units(a) > 1 and all(map(math.isfinite, a.scores))]
    if not usable:
        return answers
    name = f"{protocol.targets}" + (f"/{question.part.name}" if question.part else "")
    drawn = resample.intervals(name, _units(usable[0]), [a.sums() for a in usable])
    found = {id(a): interval for a, interval in zip(usable, drawn, strict=True)}
    return [dataclasses.replace(a, interval=found.get(id(a))) for a in answers]


def _units(of: Answer) -> int:
    """How many units an answer is of; 0 where it has no parts."""
    for part in of.parts or ():
        if not isinstance(part, float):
            return int(part.unit.max()) + 1
    return 0


def unit_name(answers: Sequence[Answer]) -> tuple[str | None, int | None]:
    """What a unit is called and how many there are; None twice without parts."""
    for of in answers:
        for part in of.parts or ():
            if not isinstance(part, float):
                return part.of, int(part.unit.max()) + 1
    return None, None


def pairwise(answers: Sequence[Answer]) -> compare.Pairwise:
    """Compares entries as the boards do: paired by seed, and by unit where there are parts."""
    units = max(map(_units, answers))
    moved = None
    if units > 1 and all(of.parts is not None for of in answers):
        rows = []
        for of in answers:
            rows.append(
                np.stack(
                    [
                        np.zeros(units)
                        if isinstance(s, float)
                        else compare.influences(s[0], s[1].value)
                        for s in of.sums()
                    ]
                )
            )
        moved = np.stack(rows)
    return compare.compare([of.scores for of in answers], moved)
