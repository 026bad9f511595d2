"""The board of a protocol as one object of numbers, from which everything is rendered.

A row is an entry: its records under one protocol, united. Rows are ordered by the primary metric at
the largest regime value; what the order is worth is said by the rank interval and the group of each
row, from paired comparisons (`compare`). Rows that lack trials stand apart, unranked, nothing is
imputed; so do rows without evidence and retracted records. Trust is computed here, from what is
committed: a record has no field for it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from facebench.leaderboard import attestation, compare, curve, derived, retraction, stats
from facebench.leaderboard.derived import GATED, RESCORED
from facebench.leaderboard.united import Entry, Trial, unite
from facebench.protocol import Protocol
from facebench.workspace import Workspace

__all__ = ["GATED", "RESCORED", "Board", "Cell", "Comparison", "Retracted", "Row", "assemble"]

FEW_UNITS = 30  # fewer than these, and a percentile interval is too narrow to be left unsaid


@dataclasses.dataclass(frozen=True)
class Cell:
    """One metric at one regime value, over seeds.

    Attributes:
        values: one per seed, in the protocol's order; infinite where a trial diverged and the
            metric has no worst value.
        diverged: how many of them are of diverged trials.
    """

    values: tuple[float, ...]
    diverged: int = 0

    @functools.cached_property
    def mean(self) -> float:
        """The mean over seeds."""
        return stats.mean(self.values)

    @functools.cached_property
    def half_width(self) -> float | None:
        """Half the 95 % interval of the mean; None for one seed or an infinite mean."""
        return stats.half_width(self.values) if math.isfinite(self.mean) else None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row less another row, by the primary metric at the largest regime value.

    Attributes:
        estimate: the difference of the means over seeds; None if one is infinite.
        low: lower end of its 95 % interval, for this pair alone; None for minus infinity.
        high: upper end; None for infinity.
        p: two-sided, of this pair alone.
        adjusted: after Holm, over all pairs of ranked rows.
        tie: whether the two are not told apart after correction.
    """

    estimate: float | None
    low: float | None
    high: float | None
    p: float
    adjusted: float
    tie: bool


@dataclasses.dataclass(frozen=True)
class Row:
    """One entry on the board.

    Attributes:
        entry: its name.
        kind: ``floor``, ``baseline`` or ``entry``.
        records: paths of its records, relative to the workspace, with forward slashes.
        cells: by (metric name, regime value); only what the records hold.
        parameters: the most that a trial at the largest regime value has.
        trust: how far the numbers can be recomputed from what is committed.
        trials: in the protocol's order.
        missing: the ``value/seed`` of trials that the protocol asks for and that are not there.
        fault: why the row is not ranked, or None.
        rank: the best and the worst rank it may have; None if it is not ranked.
        group: letters; rows that share one are not told apart.
        sampling: interval of the primary metric at the largest regime value over other test units.
        area: of the primary metric's curve over the regime values, per seed; None for one value.
        first: this row less the first one; None for the first.
        above: this row less the one above it; None for the first.
        adaptation: what its config does with the backbone; None where there is none.
    """

    entry: str
    kind: str
    records: tuple[str, ...]
    cells: Mapping[tuple[str, int | float], Cell]
    parameters: int
    trust: str
    trials: tuple[Trial, ...] = ()
    missing: tuple[str, ...] = ()
    fault: str | None = None
    rank: tuple[int, int] | None = None
    group: str = ""
    sampling: tuple[float, float] | None = None
    area: Cell | None = None
    first: Comparison | None = None
    above: Comparison | None = None
    adaptation: str | None = None

    @property
    def top(self) -> bool:
        """Whether no other row is told apart as better."""
        return self.rank is not None and self.rank[0] == 1


@dataclasses.dataclass(frozen=True)
class Retracted:
    """A record that no longer counts.

    Attributes:
        entry: whose it was.
        record: its path.
        cell: the primary metric at the largest regime value that it holds, as it was claimed.
        value: that regime value.
        reason: one of `retraction.REASONS`.
        note: what happened.
        by: who retracted it.
    """

    entry: str
    record: str
    cell: Cell | None
    value: int | float
    reason: str
    note: str
    by: str


@dataclasses.dataclass(frozen=True)
class Board:
    """The rows of one protocol, and how they were compared.

    Attributes:
        protocol: what was asked.
        ranked: in the order of their scores.
        incomplete: rows that lack trials and nothing else, by name.
        unranked: the other rows, by name.
        retracted: records that no longer count, by entry and path.
        unit: what is drawn for the test-sampling intervals; None where there are none.
        units: how many there are.
        draws: how often they are drawn.
        later: the id of a later version of this protocol, or None.
        derived: what is kept in the protocol's derived file; None without a record.
    """

    protocol: Protocol
    ranked: tuple[Row, ...]
    incomplete: tuple[Row, ...] = ()
    unranked: tuple[Row, ...] = ()
    retracted: tuple[Retracted, ...] = ()
    unit: str | None = None
    units: int | None = None
    draws: int | None = None
    later: str | None = None
    derived: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False)


def assemble(
    workspace: Workspace,
    protocol: Protocol,
    *,
    retractions: Mapping[str, Mapping[str, str]] | None = None,
    later: str | None = None,
    fresh: bool = False,
) -> Board:
    """Reads the records of a protocol, unites, scores, compares and ranks them.

    Args:
        workspace: where the records stand.
        protocol: whose.
        retractions: by record id; read from the workspace if not given.
        later: the id of the protocol's latest version, if that is another one.
        fresh: whether to compute everything, believing no derived result.

    Raises:
        FacebenchError: a record is damaged, or two records of one entry contradict each other.
    """
    retractions = retraction.load(workspace) if retractions is None else retractions
    labels = derived.Labels(workspace, protocol)
    known = {} if fresh else derived.load(workspace, protocol, labels)
    records = derived.evidence(workspace, protocol, labels, known, retractions)
    standing = [item for item in records if item.value["record_id"] not in retractions]
    standing = attestation.raised(workspace, protocol, standing)
    sound: list[Entry] = []
    incomplete, unranked = [], []
    for entry in unite(protocol, standing):
        missing = entry.missing(protocol)
        if entry.fault is not None:
            unranked.append(_row(protocol, entry, fault=entry.fault))
        elif missing:
            shown = ", ".join(missing[:4]) + (" ..." if len(missing) > 4 else "")
            incomplete.append(
                _row(protocol, entry, fault=f"missing {shown}", missing=tuple(missing))
            )
        else:
            sound.append(entry)
    sign = -1 if protocol.primary["higher_is_better"] else 1
    value = protocol.regimes["values"][-1]
    mean = {e.name: stats.mean(e.scores(protocol.primary, value)) for e in sound}
    sound.sort(key=lambda entry: (sign * mean[entry.name], entry.name))
    statistics = known.get("statistics", {}) | {"entries": known.get("entries", {})}
    stale = statistics.get("of") != derived.inputs(sound)
    if stale or (labels.here and not statistics["labels"]):
        statistics = derived.statistics(workspace, protocol, labels, sound)
    return Board(
        protocol=protocol,
        ranked=tuple(
            _ranked(protocol, entry, statistics["entries"][entry.name]) for entry in sound
        ),
        incomplete=_by_name(incomplete),
        unranked=_by_name(unranked),
        retracted=tuple(
            _retracted(protocol, item, retractions[item.value["record_id"]])
            for item in records
            if item.value["record_id"] in retractions
        ),
        unit=statistics["unit"],
        units=statistics["units"],
        draws=statistics["draws"],
        later=later,
        derived=derived.compose(protocol, labels, records, statistics) if records else None,
    )


def _by_name(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (row.entry, row.records)))


def _row(protocol: Protocol, entry: Entry, **more: Any) -> Row:
    cells = {}
    for metric in protocol.metrics:
        for value in protocol.regimes["values"]:
            if scores := entry.scores(metric, value):
                diverged = sum(
                    t.value == value and t.status == "diverged" for t in entry.trials.values()
                )
                cells[metric["name"], value] = Cell(tuple(scores), diverged)
    largest = max(t.value for t in entry.trials.values())
    return Row(
        entry=entry.name,
        kind=entry.kind,
        records=entry.records,
        cells=cells,
        parameters=max(t.parameters for t in entry.trials.values() if t.value == largest),
        trust=entry.trust,
        trials=tuple(entry.trials.values()),
        adaptation=entry.adaptation,
        **more,
    )


def _ranked(protocol: Protocol, entry: Entry, found: Mapping[str, Any]) -> Row:
    row = _row(protocol, entry)
    return dataclasses.replace(
        row,
        rank=(found["rank"][0], found["rank"][1]),
        group=compare.letters(*found["groups"]),
        sampling=(found["sampling"][0], found["sampling"][1]) if found["sampling"] else None,
        area=_area(protocol, row),
        first=Comparison(**found["first"]) if found["first"] else None,
        above=Comparison(**found["above"]) if found["above"] else None,
    )


def _area(protocol: Protocol, row: Row) -> Cell | None:
    """The area under each seed's curve, in the unit of the primary metric."""
    values, name = protocol.regimes["values"], protocol.primary["name"]
    if len(values) < 2:
        return None
    curves = zip(*(row.cells[name, value].values for value in values), strict=True)
    diverged = max(row.cells[name, value].diverged for value in values)
    return Cell(tuple(curve.area(values, scores) for scores in curves), diverged)


def _retracted(protocol: Protocol, item: derived.Evidence, why: Mapping[str, str]) -> Retracted:
    values = {trial["regime"]["value"] for trial in item.value["trials"]}
    scores = [
        trial["metrics"].get(protocol.primary["name"])
        for trial in item.value["trials"]
        if trial["regime"]["value"] == max(values)
    ]
    known = tuple(float(score) for score in scores if score is not None)
    return Retracted(
        entry=item.value["entry"],
        record=item.path,
        cell=Cell(known) if known else None,
        value=max(values),
        reason=why["reason"],
        note=why["note"],
        by=why["by"],
    )
