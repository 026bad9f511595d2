"""Two entries of one protocol side by side: what differs, where, and why it may.

The comparison is the board's, paired by seed and test unit, of this pair alone. Beside it stand the
samples that each wins, the units that move it most, how often the predictions agree (of the same
seed, and of other seeds of the same entry for a measure), and what is not the same in config and
environment.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from facebench.errors import UsageError
from facebench.explain import recipe, where
from facebench.explain import shelf as shelves
from facebench.explain.question import (
    Answer,
    Question,
    answer,
    ask,
    pairwise,
    unit_name,
    with_intervals,
)
from facebench.explain.shelf import Shelf
from facebench.explain.text import NO_SUMS, SEEDS_ALONE, WIDTH, field, grid, score
from facebench.leaderboard import record, stats, trial
from facebench.leaderboard.pieces import (
    count,
    interval,
    metric_name,
    number,
    p_value,
    plural,
    regime,
)
from facebench.leaderboard.united import Entry
from facebench.metrics import agreement
from facebench.protocol import Protocol
from facebench.workspace import Workspace

SCHEMA = "facebench/diff-1"
SHOWN = 4  # units on either side


def records(ws: Workspace, a: str, b: str) -> tuple[Shelf, list[Entry]]:
    """The entries that two records tell of, and their protocol.

    Args:
        ws: the workspace.
        a: the file of a record, or the first digits of its id.
        b: another one.

    Raises:
        UsageError: not a record, the same one twice, or records of two protocols.
    """
    paths = []
    for name in (a, b):
        path = shelves.find_record(ws, name)
        if path is None:
            raise UsageError(
                f"{name}: expected a record's file or the first six digits of its id; for entries: "
                "facebench diff PROTOCOL ENTRY_A ENTRY_B"
            )
        paths.append(path)
    if paths[0] == paths[1]:
        raise UsageError(f"{ws.relative(paths[0])} twice: there is nothing to compare")
    of = [record.read(ws, path)["protocol"]["id"] for path in paths]
    if of[0] != of[1]:
        raise UsageError(
            f"{a} is of {of[0]} and {b} is of {of[1]}: only records of one protocol can be compared"
        )
    shelf = Shelf(ws, of[0])
    return shelf, [shelf.alone(path.relative_to(ws.root).as_posix()) for path in paths]


def compare(
    shelf: Shelf, a: Entry, b: Entry, question: Question, value: int | float | None = None
) -> dict[str, Any]:
    """What differs between two entries, as a JSON value; differences are A less B.

    Args:
        shelf: their protocol.
        a: an entry.
        b: another one, or the same as another record tells it.
        question: which metric is looked at sample by sample.
        value: the regime value; the largest that both have when left out.

    Returns:
        ``a``, ``b`` (entry, records, score at the value), ``metrics`` (per metric and regime
        value the scores and the difference), ``samples`` (won, lost, tied), ``units``,
        ``agreement``, ``config``, ``environment``.

    Raises:
        UsageError: they share no trial at this value.
        FacebenchError: see `answer`.
    """
    of = shelf.protocol
    shared = [v for v in of.regimes["values"] if _common(shelf, a, b, v)]
    if not shared or (value is not None and value not in shared):
        where_ = f" at {value}" if value is not None else ""
        raise UsageError(f"{a.name} and {b.name} share no trial of {of.id}{where_}")
    value = shared[-1] if value is None else value
    sides = _answers(shelf, question, a, b, value)
    asked = [ask(of, metric["name"], None) for metric in of.metrics]
    if all(question.metric["name"] != q.metric["name"] for q in asked) or not question.recorded:
        asked = [question, *asked]
    return {
        "schema": SCHEMA,
        "protocol": {"id": of.id, "title": of.title, "digest": of.digest},
        "metric": {k: question.metric[k] for k in ("name", "unit", "higher_is_better", "decimals")},
        "convention": question.convention,
        "regime": {"kind": of.regimes["kind"], "value": value},
        "a": {"entry": a.name, "records": list(a.records)},
        "b": {"entry": b.name, "records": list(b.records)},
        "metrics": [
            _row(shelf, q, v, _answers(shelf, q, a, b, v)) for q in asked for v in shared
        ],
        "labels_here": shelf.labels.here,
        "samples": _samples(question, sides),
        "units": _units(shelf, question, sides),
        "agreement": _agreement(shelf, sides),
        "config": _lines(shelf, sides, "config"),
        "environment": _lines(shelf, sides, "environment"),
    }  # fmt: skip


def _common(shelf: Shelf, a: Entry, b: Entry, value: int | float) -> list[int]:
    """The seeds that both have at a regime value."""
    seeds = [{t.seed for t in e.trials.values() if t.value == value} for e in (a, b)]
    return [seed for seed in shelf.protocol.seeds if seed in seeds[0] & seeds[1]]


def _answers(
    shelf: Shelf, question: Question, a: Entry, b: Entry, value: int | float
) -> list[Answer]:
    """Both entries' answers on the seeds that they share."""
    seeds = _common(shelf, a, b, value)
    found = []
    for entry in (a, b):
        one = answer(shelf, question, entry, value)
        kept = [i for i, t in enumerate(one.trials) if t.seed in seeds]
        found.append(
            Answer(
                entry,
                tuple(one.trials[i] for i in kept),
                tuple(one.scores[i] for i in kept),
                None if one.parts is None else tuple(one.parts[i] for i in kept),
            )
        )
    return with_intervals(shelf.protocol, question, found)


def _row(
    shelf: Shelf, question: Question, value: int | float, sides: Sequence[Answer]
) -> dict[str, Any]:
    """One metric at one regime value: both scores, and A less B."""
    pairs = pairwise(sides)
    low, high = pairs.interval(0, 1)
    up, estimate = question.metric["higher_is_better"], float(pairs.estimate[0, 1])
    told = bool(pairs.separated()[0, 1])
    better = ("a" if (estimate > 0) == up else "b") if told else None
    return {
        "metric": {k: question.metric[k] for k in ("name", "unit", "higher_is_better", "decimals")},
        "value": value,
        "a": _score(sides[0]),
        "b": _score(sides[1]),
        "estimate": _finite(estimate),
        "low": _finite(low),
        "high": _finite(high),
        "p": _finite(float(pairs.p[0, 1])),
        "better": better,
        "unit": unit_name(sides)[0],
    }


def _score(of: Answer) -> dict[str, Any]:
    return {
        "mean": _finite(of.mean),
        "half_width": of.half_width,
        "seeds": [_finite(s) for s in of.scores],
        "diverged": sum(t.status != "ok" for t in of.trials),
    }


def _finite(value: float) -> float | None:
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _samples(question: Question, sides: Sequence[Answer]) -> dict[str, Any] | None:
    """Per seed how many samples A wins, loses and ties; None without a score per sample.

    A sample counts where the metric is a ratio of two sums and both have it in the denominator.
    """
    up, rows = question.metric["higher_is_better"], []
    for first, second, of in zip(sides[0].parts or (), sides[1].parts or (), sides[0].trials):
        if isinstance(first, float) or isinstance(second, float) or first.columns.shape[1] != 2:
            continue
        both = (first.columns[:, 1] > 0) & (second.columns[:, 1] > 0)
        a, b = (part.columns[both, 0] for part in (first, second))  # whole numbers: ties are exact
        if not up:
            a, b = b, a
        won, lost = int((a > b).sum()), int((a < b).sum())
        rows.append({"seed": of.seed, "won": won, "lost": lost, "tied": len(a) - won - lost})
    return {"seeds": rows} if rows else None


def _units(shelf: Shelf, question: Question, sides: Sequence[Answer]) -> list[dict[str, Any]]:
    """Units with both scores and A less B, those first where A is better by most."""
    if not shelf.labels.here:
        return []
    first, second = (where.units(shelf, of) for of in sides)
    sign = -1 if question.metric["higher_is_better"] else 1
    rows = [
        {"unit": x["unit"], "samples": x["samples"], "a": x["score"], "b": y["score"],
         "estimate": x["score"] - y["score"]}
        for x, y in zip(first, second, strict=bool(first and second))
    ]  # fmt: skip
    return sorted(rows, key=lambda row: sign * row["estimate"])


def _agreement(shelf: Shelf, sides: Sequence[Answer]) -> dict[str, Any] | None:
    """How often predictions agree: A with B at the same seed, and each with its other seeds."""
    task = shelf.protocol.task
    if task not in agreement.RULES:
        return None
    known = [[shelf.predictions(t) for t in of.trials] for of in sides]
    between = [
        agreement.agreement(task, x, y)
        for x, y in zip(*known, strict=True)
        if x is not None and y is not None
    ]
    within = [
        [
            agreement.agreement(task, x, y)
            for x, y in itertools.combinations(mine, 2)
            if x is not None and y is not None
        ]
        for mine in known
    ]
    means = [stats.mean(shares) if shares else None for shares in (between, *within)]
    names = ("between", "a_seeds", "b_seeds")
    return {"of": agreement.RULES[task][1], **dict(zip(names, means, strict=True))}


def _lines(shelf: Shelf, sides: Sequence[Answer], what: str) -> list[str]:
    """How B's config or environment differs from A's, ``optim.lr 0.001 -> 0.002``."""
    trials = [of.trials[0] for of in sides]
    said = [shelf.records[first.record] for first in trials]
    if what == "config":
        return recipe.differences(*(value["config"]["semantic"] for value in said))
    places = [shelf.said(first)["environment"] for first in trials]
    return trial.staleness(*(v["environments"][at] for v, at in zip(said, places, strict=True)))


def text(protocol: Protocol, found: Mapping[str, Any]) -> str:
    """What `compare` found, as lines for a person."""
    a, b = (_name(found, side) for side in "ab")
    decimals, value = found["metric"]["decimals"], found["regime"]["value"]
    lines = [f"A  {a}", f"B  {b}", found["protocol"]["id"], protocol.title, ""]
    rows = [["", "", "A", "B", "A less B", "95 % interval", "p", ""]]
    for row in found["metrics"]:
        d = row["metric"]["decimals"]
        rows.append(
            [
                metric_name(dict(row["metric"])),
                "" if protocol.regimes["kind"] == "full" else regime(protocol, row["value"]),
                score(row["a"], d),
                score(row["b"], d),
                "-" if row["estimate"] is None else number(row["estimate"], d),
                interval((row["low"], row["high"]), d),
                p_value(row["p"]) + ("" if row["unit"] else "*"),
                {"a": "A better", "b": "B better", None: "tie"}[row["better"]],
            ]
        )
    if max(map(len, grid(rows))) > WIDTH:  # the regime may go into the first column
        rows = [[f"{row[0]} {_short(row[1])}".rstrip(), *row[2:]] for row in rows]
        lines += grid(rows, left=(0, 6))
    else:
        lines += grid(rows, left=(0, 1, 7))
    n = len(found["metrics"][0]["a"]["seeds"])
    lines.append(f"  {count(n, 'seed')}; paired by seed and test unit; p of this pair alone")
    if any(row["unit"] is None for row in found["metrics"]):
        lines.append(f"  * {SEEDS_ALONE}")
    title = f"{metric_name(dict(found['metric']))}, {regime(protocol, value)}"
    lines += ["", f"sample by sample: {title}"]
    if found["samples"] is None:
        lines.append(f"  {NO_SUMS if found['labels_here'] else 'the labels are not here'}")
    else:
        table = [["seed", "A wins", "B wins", "tied"]]
        table += [
            [str(r["seed"]), *(f"{r[k]:,}" for k in ("won", "lost", "tied"))]
            for r in found["samples"]["seeds"]
        ]
        lines += grid(table, left=())
    lines += _unit_lines(found, decimals)
    if (shares := found["agreement"]) and shares["between"] is not None:
        own = [
            f"{name} with its own other seeds {shares[key]:.4f}"
            for name, key in (("A", "a_seeds"), ("B", "b_seeds"))
            if shares[key] is not None
        ]
        lines += ["", f"agreement: {shares['of']}"]
        lines += [f"  {line}" for line in [f"A with B, seed by seed {shares['between']:.4f}", *own]]
    for what, title in (("config", "config, A -> B"), ("environment", "environment, A -> B")):
        same = [f"the same {what}"]
        lines += ["", title, *(f"  {_cut(line)}" for line in found[what] or same)]
    return "\n".join(lines)


def _name(found: Mapping[str, Any], side: str) -> str:
    from pathlib import PurePosixPath

    paths = [PurePosixPath(path).stem for path in found[side]["records"]]
    return f"{found[side]['entry']}  ({', '.join(paths)})"


def _short(text: str) -> str:
    return text.removesuffix(" of labels").replace(" %", "%")


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH - 2 else line[: WIDTH - 3] + "…"


def _unit_lines(found: Mapping[str, Any], decimals: int) -> list[str]:
    rows = found["units"]
    if not rows:
        return []
    unit = next((row["unit"] for row in found["metrics"] if row["unit"]), "unit")

    def said(some: Sequence[Mapping[str, Any]]) -> str:
        return "   ".join(f"{r['unit']}: {number(r['estimate'], decimals)}" for r in some)

    many = len(rows) > 2 * SHOWN
    sign = 1 if found["metric"]["higher_is_better"] else -1
    ahead = [r for r in rows if sign * r["estimate"] > 0]
    behind = [r for r in rows[::-1] if sign * r["estimate"] < 0]
    lines = [f"  A is better on {len(ahead)} of {len(rows)} {plural(unit)}, B on {len(behind)}"]
    for name, some in (("A by most", ahead), ("B by most", behind)):
        if some:
            lines += field(name, said(some[: SHOWN if many else len(some)]))
    return lines
