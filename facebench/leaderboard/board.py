"""The board of a protocol as a table of numbers, from which every rendering is made.

A row is a record. Rows are ranked by the primary metric at the largest regime value; rows that
the seeds cannot tell from the leader of their group share its rank. Rows that lack something are
kept apart, unranked, and nothing is imputed. Trust is computed here, from what is committed:
a record has no field for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from facebench.errors import FacebenchError
from facebench.leaderboard import judge, record, stats
from facebench.protocol import Protocol
from facebench.workspace import Workspace

ALPHA = 1 - stats.LEVEL
RESCORED, GATED = "re-scored", "labels gated"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One metric at one regime value, over seeds.

    Attributes:
        values: one per seed, in the record's order; infinite where a trial diverged and the
            metric has no worst value.
        diverged: how many of them are of diverged trials.
    """

    values: tuple[float, ...]
    diverged: int

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return stats.mean(self.values)

    @property
    def half_width(self) -> float | None:
        """Half the 95 % interval of the mean; None for one seed or an infinite mean."""
        return stats.half_width(self.values) if math.isfinite(self.mean) else None


@dataclasses.dataclass(frozen=True)
class Row:
    """One record on the board.

    Attributes:
        entry: its name.
        kind: ``floor``, ``baseline`` or ``entry``.
        record: path of the record, relative to the workspace, with forward slashes.
        cells: by (metric name, regime value); only what the record holds.
        parameters: the most that a trial at the largest regime value has.
        trust: how far the numbers can be recomputed from what is committed.
        fault: why the row is not ranked, or None.
        rank: its place; None if it is not ranked.
        tied: whether others share the rank.
    """

    entry: str
    kind: str
    record: str
    cells: Mapping[tuple[str, int | float], Cell]
    parameters: int
    trust: str
    fault: str | None = None
    rank: int | None = None
    tied: bool = False


@dataclasses.dataclass(frozen=True)
class Board:
    """The rows of one protocol: ranked ones in their order, then the others by name."""

    protocol: Protocol
    ranked: tuple[Row, ...]
    unranked: tuple[Row, ...]


def assemble(workspace: Workspace, protocol: Protocol) -> Board:
    """Reads the records of a protocol, scores them again, and ranks them.

    Raises:
        FacebenchError: a record is damaged, or two records of one entry stand side by side.
    """
    targets = None
    if protocol.public and workspace.targets(protocol.id, True).is_file():
        targets = judge.load_targets(workspace, protocol)
    rows = []
    seen: dict[tuple[str, str], Any] = {}
    for path in record.paths(workspace, protocol.id):
        value = record.read(workspace, path)
        key = value["entry"], value["protocol"]["digest"]
        if key in seen:
            raise FacebenchError(
                f"{path}: {value['entry']} has another record under the same protocol, "
                f"{seen[key]}: one of them must go, and nothing tells which"
            )
        seen[key] = path
        trust, fault = _trust(workspace, protocol, value, targets)
        rows.append(
            Row(
                entry=value["entry"],
                kind=value["kind"],
                record=path.relative_to(workspace.root).as_posix(),
                cells=_cells(protocol, value),
                parameters=_parameters(value),
                trust=trust,
                fault=fault,
            )
        )
    return Board(
        protocol=protocol,
        ranked=_rank(protocol, [row for row in rows if row.fault is None]),
        unranked=tuple(
            sorted(
                (row for row in rows if row.fault is not None), key=lambda r: (r.entry, r.record)
            )
        ),
    )


def _trust(
    workspace: Workspace,
    protocol: Protocol,
    value: Mapping[str, Any],
    targets: Mapping[str, np.ndarray] | None,
) -> tuple[str, str | None]:
    """What a row's numbers rest on, and why it is not ranked if it is not."""
    if value["protocol"]["digest"] != protocol.digest:
        return "-", "made under another version of the protocol file"
    if faults := record.faults(protocol, value):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return "-", f"incomplete: {faults[0]}{more}"
    try:
        bundle = record.read_bundle(workspace, value)
    except FacebenchError:
        return "-", "its predictions are missing or damaged"
    if not protocol.public:
        return GATED, None
    if targets is None:
        return "-", "the test labels are missing"
    if record.rescore_arrays(protocol, value, bundle, targets):
        return "-", "its predictions do not score what it says"
    return RESCORED, None


def _cells(protocol: Protocol, value: Mapping[str, Any]) -> dict[tuple[str, int | float], Cell]:
    cells = {}
    for metric in protocol.metrics:
        bad = -math.inf if metric["higher_is_better"] else math.inf
        for regime_value in protocol.regimes["values"]:
            trials = [
                t
                for t in value["trials"]
                if t["regime"]["value"] == regime_value and metric["name"] in t["metrics"]
            ]
            if trials:
                scores = [t["metrics"][metric["name"]] for t in trials]
                cells[metric["name"], regime_value] = Cell(
                    values=tuple(bad if s is None else float(s) for s in scores),
                    diverged=sum(t["status"] == "diverged" for t in trials),
                )
    return cells


def _parameters(value: Mapping[str, Any]) -> int:
    largest = max(t["regime"]["value"] for t in value["trials"])
    return max(t["parameters"] for t in value["trials"] if t["regime"]["value"] == largest)


def _rank(protocol: Protocol, rows: list[Row]) -> tuple[Row, ...]:
    """Sorts complete rows and gives ranks; ties share the rank of their group's leader."""
    metric = protocol.primary
    sign = -1 if metric["higher_is_better"] else 1
    key = metric["name"], protocol.regimes["values"][-1]
    ordered = sorted(rows, key=lambda row: (sign * row.cells[key].mean, row.entry))
    ranks: list[int] = []
    leader = 0
    for i, row in enumerate(ordered):
        if i and not _tie(ordered[leader].cells[key], row.cells[key]):
            leader = i
        ranks.append(leader + 1)
    return tuple(
        dataclasses.replace(row, rank=rank, tied=ranks.count(rank) > 1)
        for row, rank in zip(ordered, ranks, strict=True)
    )


def _tie(a: Cell, b: Cell) -> bool:
    """Whether the 95 % interval of the difference of two means includes 0."""
    if not (math.isfinite(a.mean) and math.isfinite(b.mean)):
        return a.mean == b.mean
    return stats.welch(a.values, b.values).p >= ALPHA
