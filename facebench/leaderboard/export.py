"""Boards for programs: CSV with one line per score, and JSON with stable keys.

The keys of the JSON files are those of `TOP`, `ROW`, `SCORE`, `PAIR` and `RETRACTED`; none is
renamed or given another meaning within one ``schema``. ``exports/README.md`` is written from them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from facebench import digest
from facebench.leaderboard import curve, jsontext, stats
from facebench.leaderboard.board import Board, Cell, Comparison, Retracted, Row
from facebench.leaderboard.pieces import GENERATED, table
from facebench.leaderboard.united import Trial

SCHEMA, INDEX = "facebench/board-1", "facebench/boards-1"

COLUMNS: Mapping[str, str] = {
    "protocol": "its id",
    "entry": "what is ranked",
    "kind": "floor, baseline or entry",
    "status": "ranked, incomplete or unranked",
    "regime": "kind of the regime: full, fraction, shots, units or zero",
    "value": "regime value",
    "seed": "seed of the trial",
    "trial": "first 12 digits of the trial's id",
    "record": "first 12 digits of its record's id",
    "outcome": "ok or diverged",
    "metric": "its name",
    "unit": "of the metric; empty for a fraction",
    "score": "empty where the trial diverged and the metric has no worst value",
}
TOP: Mapping[str, str] = {
    "schema": f"`{SCHEMA}`",
    "protocol": "id, digest, title, task, adaptation, dataset, labels of the protocol",
    "superseded_by": "the id of a later version, or null",
    "regimes": "kind and values, ascending",
    "seeds": "the seeds of every regime value",
    "metrics": "as the protocol states them; one is primary",
    "level": "of all intervals",
    "sampling": "unit, units and draws of the bootstrap over test units, or null",
    "ranked": "rows in their order",
    "incomplete": "rows that lack trials, by name; never ranked",
    "unranked": "rows with a fault, by name",
    "retracted": "records that no longer count",
}
ROW: Mapping[str, str] = {
    "entry": "its name",
    "kind": "floor, baseline or entry",
    "adaptation": "frozen, adapted or scratch, or null without a backbone",
    "records": "paths in the workspace",
    "trust": "-, labels gated, re-scored, re-run or independent",
    "parameters": "at the largest regime value",
    "rank": "[best, worst] that it may have, or null",
    "group": "letters; rows that share one are not told apart",
    "top": "whether no other row is told apart as better",
    "scores": "per metric and regime value",
    "sampling": "[low, high] of the primary metric at the largest value, over other units, or null",
    "curve": "mean and half_width of the area under the curve over log(value), or null",
    "normalised": "the primary mean at the largest value, 0 chance and 1 reference, or null",
    "normalised_curve": "the same of the curve, or null",
    "first": "this row less the first one, or null",
    "above": "this row less the one above it, or null",
    "missing": "value/seed of missing trials",
    "fault": "why it is not ranked, or null",
}
SCORE: Mapping[str, str] = {
    "metric": "its name",
    "value": "regime value",
    "mean": "over seeds; null where a trial diverged and the metric has no worst value",
    "half_width": "of Student's interval of the mean over seeds, or null",
    "seeds": "one score per seed, in the order of `seeds`; null as above",
    "diverged": "how many of them are of diverged trials",
}
PAIR: Mapping[str, str] = {
    "estimate": "difference of the means, or null",
    "low": "lower end of its interval, for this pair alone; null: unbounded",
    "high": "upper end; null: unbounded",
    "p": "two-sided, of this pair alone",
    "adjusted": "after Holm, over all pairs of the board",
    "tie": "whether the two are not told apart",
}
RETRACTED: Mapping[str, str] = {
    "entry": "whose it was",
    "record": "its path",
    "reason": "bug, leakage, licence, consent, fabricated or superseded",
    "note": "what happened",
    "by": "who retracted it",
}


def long(of: Board) -> str:
    """CSV: one line per entry, regime value, seed and metric."""
    protocol = of.protocol
    units = {m["name"]: m["unit"] for m in protocol.metrics}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    kind = protocol.regimes["kind"]
    for status, rows in (
        ("ranked", of.ranked),
        ("incomplete", of.incomplete),
        ("unranked", of.unranked),
    ):
        for row in rows:
            head = (protocol.id, row.entry, row.kind, status, kind)
            for trial in row.trials:
                said = (*head, *_said(trial))
                for name, unit in units.items():
                    if name in trial.metrics:
                        score = trial.metrics[name]
                        writer.writerow((*said, name, unit, "" if score is None else score))
    return buffer.getvalue()


def _said(trial: Trial) -> tuple[Any, ...]:
    record = trial.record.rsplit("/", 1)[1].removesuffix(".json")
    return trial.value, trial.seed, digest.short(trial.id), record, trial.status


def api(of: Board) -> str:
    """JSON: all that a board shows, as numbers."""
    protocol = of.protocol
    sampling = {"unit": of.unit, "units": of.units, "draws": of.draws} if of.units else None
    said = ("id", "digest", "title", "task", "adaptation", "dataset", "labels")
    value = {
        "schema": SCHEMA,
        "protocol": {name: getattr(protocol, name) for name in said},
        "superseded_by": of.later,
        "regimes": {name: protocol.regimes[name] for name in ("kind", "values")},
        "seeds": protocol.seeds,
        "metrics": protocol.metrics,
        "level": stats.LEVEL,
        "sampling": sampling,
        "ranked": [_row(of, row) for row in of.ranked],
        "incomplete": [_row(of, row) for row in of.incomplete],
        "unranked": [_row(of, row) for row in of.unranked],
        "retracted": [_retracted(row) for row in of.retracted],
    }
    return jsontext.dumps(value, 2)


def _row(of: Board, row: Row) -> dict[str, Any]:
    metric, last = of.protocol.primary, of.protocol.regimes["values"][-1]
    cell = row.cells.get((metric["name"], last)) if row.rank else None
    return {
        "entry": row.entry,
        "kind": row.kind,
        "adaptation": row.adaptation,
        "records": list(row.records),
        "trust": row.trust,
        "parameters": row.parameters,
        "rank": list(row.rank) if row.rank else None,
        "group": row.group,
        "top": row.top,
        "scores": [_score(name, value, cell) for (name, value), cell in row.cells.items()],
        "sampling": list(row.sampling) if row.sampling else None,
        "curve": {"mean": _finite(row.area.mean), "half_width": row.area.half_width}
        if row.area
        else None,
        "normalised": curve.normalised(metric, cell.mean) if cell else None,
        "normalised_curve": curve.normalised(metric, row.area.mean) if row.area else None,
        "first": _pair(row.first),
        "above": _pair(row.above),
        "missing": list(row.missing),
        "fault": row.fault,
    }


def _score(name: str, value: int | float, cell: Cell) -> dict[str, Any]:
    return {
        "metric": name,
        "value": value,
        "mean": _finite(cell.mean),
        "half_width": cell.half_width,
        "seeds": [_finite(score) for score in cell.values],
        "diverged": cell.diverged,
    }


def _pair(pair: Comparison | None) -> dict[str, Any] | None:
    return None if pair is None else {name: getattr(pair, name) for name in PAIR}


def _retracted(row: Retracted) -> dict[str, str]:
    return {name: getattr(row, name) for name in RETRACTED}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def index(boards: Sequence[Board]) -> str:
    """``exports/index.json``: where the files of every board stand, relative to it."""
    listed = [
        {
            "protocol": of.protocol.id,
            "digest": of.protocol.digest,
            "title": of.protocol.title,
            "adaptation": of.protocol.adaptation,
            "superseded_by": of.later,
            "ranked": len(of.ranked),
            "first": of.ranked[0].entry if of.ranked else None,
            "json": f"{of.protocol.id}.json",
            "csv": f"{of.protocol.id}.csv",
            "tex": f"{of.protocol.id}.tex",
        }
        for of in boards
    ]
    return jsontext.dumps({"schema": INDEX, "boards": listed}, 2)


def readme() -> str:
    """``exports/README.md``: what the files hold."""
    parts = [
        GENERATED,
        "# Exports",
        "The same boards as in `../boards/`, for programs and papers. `index.json` lists them. All "
        "are written by `facebench leaderboard build` from one table, and are a pure function of "
        "the committed records. Within one `schema` no key is renamed or given another meaning; "
        "keys may be added.",
        "## `PROTOCOL.csv`: one line per entry, regime value, seed and metric",
        _described(COLUMNS, "column"),
        "## `PROTOCOL.tex`: a table for a paper",
        "It needs the package `booktabs`. The best score is bold; the other scores of the top "
        "group, than which no entry is told apart as better, are underlined.",
        "## `PROTOCOL.json`: everything",
        _described(TOP),
        "Each of `ranked`, `incomplete` and `unranked`:",
        _described(ROW),
        "Each of `scores`:",
        _described(SCORE),
        "`first` and `above`, of the primary metric at the largest regime value:",
        _described(PAIR),
        "Each of `retracted`:",
        _described(RETRACTED),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _described(keys: Mapping[str, str], head: str = "key") -> str:
    return table((head, "meaning"), [(f"`{name}`", said) for name, said in keys.items()], [])
