"""From a cell of a board to all that is behind it, and to the commands that make it again.

`cell` explains one entry at one regime value, `table` asks a question of every entry of a
protocol; `text` prints both. `shelf` is what they read, `question` what is asked of stored
predictions, `group` the part of the samples, `where` the worst units, classes and regions,
`recipe` the experiment.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

from facebench import digest
from facebench import protocol as protocols
from facebench.errors import FacebenchError
from facebench.explain import group, recipe, where
from facebench.explain.question import (
    Answer,
    Question,
    answer,
    pairwise,
    unit_name,
    with_intervals,
)
from facebench.explain.shelf import Shelf
from facebench.leaderboard import record as records
from facebench.leaderboard import resample, stats
from facebench.leaderboard.united import Entry
from facebench.protocol import manifest, subset_key

SCHEMA = "facebench/explain-1"


def cell(
    shelf: Shelf,
    entry: Entry,
    question: Question,
    value: int | float,
    field: str | None = None,
) -> dict[str, Any]:
    """What there is to know of one entry's number, as a JSON value.

    Args:
        shelf: the protocol.
        entry: whose number.
        question: which metric, by which convention.
        value: the regime value.
        field: divides the test samples, see `group.split`; None for no division.

    Returns:
        ``protocol``, ``entry``, ``kind``, ``metric``, ``convention``, ``value``, ``score`` (mean,
        half-width, low, high), ``sampling``, ``trials``, ``board`` (rank, group, trust, fault),
        ``compared``, ``worst``, ``groups``, ``cost``, ``environments``, ``config``, ``files``,
        ``digests``, ``commands``.

    Raises:
        FacebenchError: see `answer`.
    """
    (mine,) = with_intervals(shelf.protocol, question, [answer(shelf, question, entry, value)])
    of, metric = shelf.protocol, question.metric
    return {
        "schema": SCHEMA,
        "protocol": {"id": of.id, "title": of.title, "digest": of.digest},
        "entry": entry.name,
        "kind": entry.kind,
        "metric": {k: metric[k] for k in ("name", "unit", "higher_is_better", "decimals")},
        "convention": question.convention,
        "recorded": question.recorded,
        "regime": {"kind": of.regimes["kind"], "value": value},
        "score": _score(mine),
        "sampling": _sampling(mine),
        "labels_here": shelf.labels.here,
        "trials": [_trial(shelf, question, mine, i) for i in range(len(mine.trials))],
        "board": _standing(shelf, entry),
        "compared": _compared(shelf, question, entry, value),
        "worst": _worst(shelf, question, mine),
        "groups": _groups(shelf, question, [entry], value, field),
        "cost": _cost(shelf, mine),
        "environments": _environments(shelf, mine),
        "config": _config(shelf, mine),
        "files": _files(shelf, entry),
        "digests": _digests(shelf, mine),
        "commands": commands(shelf, mine, question, value),
    }


def table(
    shelf: Shelf, question: Question, value: int | float | None, field: str | None = None
) -> dict[str, Any]:
    """A question asked of every entry of a protocol, computed from stored predictions.

    Args:
        shelf: the protocol.
        question: which metric, by which convention.
        value: the regime value that is compared; None for the largest.
        field: divides the test samples; None for no division.

    Returns:
        ``rows`` in their order (``entry``, ``kind``, ``scores`` by regime value, ``sampling``,
        ``rank``, ``group``), ``left_out`` (entry to reason), ``unit``, ``units``, ``draws``,
        ``groups``.

    Raises:
        FacebenchError: see `answer`.
    """
    of, metric = shelf.protocol, question.metric
    value = of.regimes["values"][-1] if value is None else value
    complete = _complete(shelf)
    answers = [answer(shelf, question, entry, value) for entry in complete]
    answers = _ordered(question, with_intervals(of, question, answers))
    unit, units = unit_name(answers)
    ranks = _ranks(question, answers)
    rows = []
    for i, mine in enumerate(answers):
        others = [v for v in of.regimes["values"] if v != value]
        scores = {value: mine} | {v: answer(shelf, question, mine.entry, v) for v in others}
        rows.append(
            {
                "entry": mine.entry.name,
                "kind": mine.entry.kind,
                "scores": [
                    {"value": v, **_score(scores[v])} for v in of.regimes["values"]
                ],
                "sampling": _pair(mine.interval),
                "rank": list(ranks[i][0]),
                "group": ranks[i][1],
            }
        )  # fmt: skip
    board = shelf.board
    return {
        "schema": SCHEMA,
        "protocol": {"id": of.id, "title": of.title, "digest": of.digest},
        "metric": {k: metric[k] for k in ("name", "unit", "higher_is_better", "decimals")},
        "convention": question.convention,
        "recorded": question.recorded,
        "regime": {"kind": of.regimes["kind"], "value": value},
        "seeds": len(of.seeds),
        "rows": rows,
        "left_out": {row.entry: row.fault for row in (*board.incomplete, *board.unranked)},
        "unit": unit,
        "units": units,
        "draws": resample.DRAWS if unit else None,
        "groups": _groups(shelf, question, [a.entry for a in answers], value, field),
    }


def _complete(shelf: Shelf) -> list[Entry]:
    """The ranked entries, in the order of the board."""
    return [shelf.entries[row.entry] for row in shelf.board.ranked]


def _ordered(question: Question, answers: Sequence[Answer]) -> list[Answer]:
    sign = -1 if question.metric["higher_is_better"] else 1
    return sorted(answers, key=lambda a: (sign * a.mean, a.entry.name))


def _ranks(question: Question, answers: Sequence[Answer]) -> list[tuple[tuple[int, int], str]]:
    from facebench.leaderboard import compare

    if not answers:
        return []
    pairs = pairwise(answers)
    separated = pairs.separated()
    up = question.metric["higher_is_better"]
    better = pairs.estimate > 0 if up else pairs.estimate < 0
    letters = [compare.letters(*found) for found in compare.groups(separated)]
    return list(zip(compare.ranks(separated, better), letters, strict=True))


def _score(of: Answer) -> dict[str, Any]:
    mean, half = of.mean, of.half_width
    finite = math.isfinite(mean)
    return {
        "mean": mean if finite else None,
        "half_width": half,
        "low": None if half is None else mean - half,
        "high": None if half is None else mean + half,
        "seeds": [s if math.isfinite(s) else None for s in of.scores],
        "diverged": sum(t.status != "ok" for t in of.trials),
    }


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [_digits(x) for x in interval]


def _digits(value: float) -> float:
    """Nine digits, as the boards keep: what may differ between machines is far behind them."""
    return float(f"{value:.9g}")


def _sampling(of: Answer) -> dict[str, Any] | None:
    if of.interval is None:
        return None
    unit, units = unit_name([of])
    low, high = of.interval
    ends = {"low": _digits(low), "high": _digits(high)}
    return ends | {"unit": unit, "units": units, "draws": resample.DRAWS}


def _trial(shelf: Shelf, question: Question, of: Answer, i: int) -> dict[str, Any]:
    """A trial with what it scored when it was recorded and what its predictions score now."""
    trial, now = of.trials[i], of.scores[i]
    said = shelf.said(trial)
    return {
        "seed": trial.seed,
        "status": trial.status,
        "recorded": trial.metrics[question.metric["name"]] if question.recorded else None,
        "score": now if math.isfinite(now) else None,
        "parameters": trial.parameters,
        "time": dict(said["time"]),
        "trial_id": trial.id,
        "subset_digest": said["subset_digest"],
        "weights": said["weights"],
        "environment": said["environment"],
        "record": trial.record,
    }


def _standing(shelf: Shelf, entry: Entry) -> dict[str, Any]:
    row = shelf.row(entry.name)
    if row is None:
        return {"rank": None, "group": None, "trust": "-", "fault": "retracted"}
    return {
        "rank": list(row.rank) if row.rank else None,
        "group": row.group or None,
        "entries": len(shelf.board.ranked),
        "by": f"{shelf.protocol.primary['name']} at {shelf.protocol.regimes['values'][-1]}",
        "trust": row.trust,
        "fault": row.fault,
    }


def _compared(
    shelf: Shelf, question: Question, entry: Entry, value: int | float
) -> list[dict[str, Any]] | None:
    """This entry less each other ranked one; None where it is not ranked itself."""
    complete = _complete(shelf)
    if entry not in complete:
        return None
    answers = _ordered(question, [answer(shelf, question, other, value) for other in complete])
    me = next(i for i, other in enumerate(answers) if other.entry == entry)
    pairs = pairwise(answers)
    separated, up = pairs.separated(), question.metric["higher_is_better"]
    found = []
    for i, other in enumerate(answers):
        if i == me:
            continue
        low, high = pairs.interval(me, i)
        estimate = float(pairs.estimate[me, i])
        verdict = "better" if (estimate > 0) == up else "worse"
        found.append(
            {
                "entry": other.entry.name,
                "estimate": _digits(estimate) if math.isfinite(estimate) else None,
                "low": _digits(low) if math.isfinite(low) else None,
                "high": _digits(high) if math.isfinite(high) else None,
                "p": _digits(float(pairs.p[me, i])),
                "adjusted": _digits(float(pairs.adjusted[me, i])),
                "verdict": verdict if separated[me, i] else "tie",
            }
        )
    return found


def _worst(shelf: Shelf, question: Question, of: Answer) -> dict[str, Any] | None:
    if not shelf.labels.here:
        return None
    found = where.units(shelf, of)
    unit, _ = unit_name([of])
    return {"of": unit, "units": where.worst(found, question),
            "lists": where.lists(shelf, question, of)}  # fmt: skip


def _groups(
    shelf: Shelf,
    question: Question,
    entries: Sequence[Entry],
    value: int | float,
    field: str | None,
) -> dict[str, Any] | None:
    """The question asked of each part of the test samples."""
    if field is None:
        return None
    import dataclasses

    name, divided = group.split(shelf.protocol, shelf.labels.arrays, field)
    rows = []
    for part in divided:
        asked = dataclasses.replace(question, part=part)
        try:
            answers = [answer(shelf, asked, entry, value) for entry in entries]
        except FacebenchError as error:
            rows.append({"part": part.name, "samples": part.n, "fault": str(error), "entries": []})
            continue
        answers = with_intervals(shelf.protocol, asked, answers)
        of = [{"entry": a.entry.name, **_score(a), "sampling": _pair(a.interval)} for a in answers]
        rows.append({"part": part.name, "samples": part.n, "fault": None, "entries": of})
    return {"field": name, "parts": rows}


def _cost(shelf: Shelf, of: Answer) -> dict[str, Any]:
    """Means over seeds of the seconds, and the parameters."""
    times = [shelf.said(trial)["time"] for trial in of.trials]
    names = list(dict.fromkeys(name for time in times for name in sorted(time)))
    means = {n: round(stats.mean([float(t.get(n, 0)) for t in times]), 3) for n in names}
    return {"seconds": means, "parameters": max(trial.parameters for trial in of.trials)}


def _environments(shelf: Shelf, of: Answer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for trial in of.trials:
        one = shelf.records[trial.record]["environments"][shelf.said(trial)["environment"]]
        if one not in found:
            found.append(one)
    return found


def _config(shelf: Shelf, of: Answer) -> list[dict[str, Any]]:
    """Per record that the trials stand in, its experiment; the same is said once."""
    found: list[dict[str, Any]] = []
    for path in dict.fromkeys(trial.record for trial in of.trials):
        config = shelf.records[path]["config"]
        one = {"digest": config["digest"], "overrides": dict(recipe.overrides(config["semantic"]))}
        if one not in found:
            found.append(one)
    return found


def _files(shelf: Shelf, entry: Entry) -> dict[str, Any]:
    """Paths in the workspace; of the labels None where they are gated."""
    ws, of = shelf.ws, shelf.protocol

    def inside(path: Any) -> str:
        return path.relative_to(ws.root).as_posix()

    bundles = [inside(records.bundle_place(ws, shelf.records[path])) for path in entry.records]
    subsets = manifest.place(ws, of.id)
    return {
        "records": list(entry.records),
        "predictions": bundles,
        "protocol": inside(protocols.path(ws, of.id)),
        "subsets": inside(subsets) if subsets.is_file() else None,
        "targets": inside(ws.targets(of.id, True)) if of.public else None,
    }


def _digests(shelf: Shelf, of: Answer) -> dict[str, Any]:
    paths = dict.fromkeys(trial.record for trial in of.trials)
    return {
        "protocol": shelf.protocol.digest,
        "targets": shelf.protocol.targets,
        "records": [shelf.records[path]["record_id"] for path in paths],
        "predictions": [shelf.records[p]["predictions"]["content_digest"] for p in paths],
    }


def commands(
    shelf: Shelf, of: Answer, question: Question, value: int | float
) -> list[dict[str, str]]:
    """What to type, as ``what`` and ``command``: to recompute, to train again, to run anew."""
    first = of.trials[0]
    path = shlex.quote(shelf.shown(first.record))
    key = subset_key(value, first.seed)
    more = [p for p in dict.fromkeys(t.record for t in of.trials) if p != first.record]
    every = " ".join([path, *(shlex.quote(shelf.shown(other)) for other in more)])
    file = f"{of.entry.name}.py"
    number = digest.short(shelf.records[first.record]["record_id"])
    return [
        {"what": "recompute every number", "command": f"facebench rescore {every}"},
        {"what": "train it again", "command": f"facebench reproduce {number} --trial={key}"},
        {"what": "its experiment", "command": f"facebench explain {number} --experiment > {file}"},
        {"what": "run it anew", "command": f"facebench run --config={file} --regime={value}"},
    ]
