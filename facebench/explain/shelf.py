"""What stands behind a board: a protocol, its labels, its entries and their stored predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facebench import digest
from facebench import protocol as protocols
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.leaderboard import board, derived, record, retraction
from facebench.leaderboard.united import Entry, Trial, unite
from facebench.protocol import Protocol
from facebench.workspace import Workspace

RECORD = re.compile(r"(sha256:)?[0-9a-f]{6,64}")


class Shelf:
    """A protocol's evidence, read once.

    Args:
        ws: the workspace.
        protocol_id: whose.

    Attributes:
        protocol: what was asked.
        labels: the test labels, read when they are first needed.
        board: rows, ranks and trust.
        entries: by name; those with a fault too, retracted records not.
        records: what each record says, by its path in the workspace.
    """

    def __init__(self, ws: Workspace, protocol_id: str) -> None:
        self.ws = ws
        self.protocol: Protocol = protocols.load(ws, protocol_id)
        self.labels = derived.Labels(ws, self.protocol)
        self.retractions = retraction.load(ws)
        self.board = board.assemble(ws, self.protocol, retractions=self.retractions)
        known = derived.load(ws, self.protocol, self.labels)
        self._evidence = derived.evidence(ws, self.protocol, self.labels, known, self.retractions)
        self.records: dict[str, dict[str, Any]] = {item.path: item.value for item in self._evidence}
        standing = [
            item
            for item in self._evidence
            if item.value["record_id"] not in self.retractions
            and item.value["protocol"]["digest"] == self.protocol.digest
        ]
        self.entries: dict[str, Entry] = {e.name: e for e in unite(self.protocol, standing)}
        self._bundles: dict[str, dict[str, np.ndarray]] = {}

    def entry(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            FacebenchError: its records are all retracted, or of another protocol file.
            UsageError: there is none.
        """
        if name in self.entries:
            return self.entries[name]
        for path, value in self.records.items():
            if value["entry"] != name:
                continue
            if why := self.retractions.get(value["record_id"]):
                raise FacebenchError(f"{path}: retracted ({why['reason']}): {why['note']}")
            raise FacebenchError(f"{path}: made under another file of {self.protocol.id}")
        raise UsageError(f"{self.protocol.id} has no entry {name!r}: {nearest(name, self.entries)}")

    def alone(self, path: str) -> Entry:
        """The entry as one of its records tells it, retracted or not."""
        item = next(item for item in self._evidence if item.path == path)
        if item.value["protocol"]["digest"] != self.protocol.digest:
            raise FacebenchError(f"{path}: made under another file of {self.protocol.id}")
        return unite(self.protocol, [item])[0]

    def predictions(self, trial: Trial) -> dict[str, np.ndarray] | None:
        """The stored predictions of a trial as they are scored; None where it diverged.

        Raises:
            FacebenchError: the bundle is missing, damaged or another one.
        """
        if trial.status != "ok":
            return None
        if trial.record not in self._bundles:
            value = self.records[trial.record]
            self._bundles[trial.record] = record.read_bundle(self.ws, value)
        bundle = self._bundles[trial.record]
        stored = {name: array[trial.row] for name, array in bundle.items()}
        return protocols.dequantise(self.protocol, stored)

    def row(self, name: str) -> board.Row | None:
        """The row of an entry on the board; None where its records are all retracted."""
        rows = (*self.board.ranked, *self.board.incomplete, *self.board.unranked)
        return next((row for row in rows if row.entry == name), None)

    def said(self, trial: Trial) -> Mapping[str, Any]:
        """A trial as its record states it."""
        return self.records[trial.record]["trials"][trial.row]

    def shown(self, path: str) -> str:
        """A path in the workspace as commands take it from the current folder."""
        return self.ws.relative(self.ws.root / path)


def find_protocol(ws: Workspace, name: str) -> str:
    """The id of a protocol; without ``@VERSION`` that of its latest version.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    known = protocols.names(ws)
    if name in known:
        return name
    versions = [other for other in known if other.rpartition("@")[0] == name]
    if versions:
        return max(versions, key=lambda other: int(other.rpartition("@")[2]))
    raise UsageError(f"no protocol {name!r}: {nearest(name, known)}")


def find_record(ws: Workspace, name: str) -> Path | None:
    """The record of a path or of the first six or more digits of its id; None if it is neither.

    Raises:
        FacebenchError: the file is no record of this workspace.
        UsageError: no record, or several, begin with these digits.
    """
    if name.endswith(".json"):
        path = Path(name)
        if not path.is_file() and (ws.root / name).is_file():
            path = ws.root / name
        record.read(ws, path)
        return path.resolve()
    if not RECORD.fullmatch(name):
        return None
    digits = name.removeprefix(digest.PREFIX)[:12]
    found = [path for path in record.paths(ws) if path.stem.startswith(digits)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(ws.relative(path) for path in found)
        raise UsageError(f"{name}: several records begin so: {listed}")
    ids = [path.stem for path in record.paths(ws)]
    raise UsageError(f"no record begins with {digits}: {nearest(digits, ids)}")


def find_value(protocol: Protocol, text: str) -> int | float:
    """A regime value as people write it: ``0.1``, ``10%``, ``5``, ``full``.

    Raises:
        UsageError: the protocol has no such value.
    """
    values, word = protocol.regimes["values"], text.strip().lower()
    if word in ("full", "all"):
        return values[-1]
    try:
        number = float(word.rstrip("%")) / (100 if word.endswith("%") else 1)
    except ValueError:
        number = float("nan")
    for value in values:
        if abs(value - number) <= 1e-12 * max(1.0, abs(value)):
            return value
    raise UsageError(
        f"{protocol.id} has no regime value {text!r}: there are {', '.join(map(str, values))}"
    )


def is_value(text: str) -> bool:
    """Whether an argument is meant as a regime value and not as a metric."""
    return bool(re.fullmatch(r"[0-9.]+(e-?[0-9]+)?%?|full|all", text.strip().lower()))
