"""Derived results: what scoring again and resampling gave, kept beside the records.

``leaderboards/derived/PROTOCOL.json`` is generated and committed. It is a pure function of the
protocol, the records, their bundles and the test labels, and says of which bytes: a record's line
holds the SHA-256 of its file and of its bundle, and the whole file the digests of the protocol and
the labels and the version of this code. `leaderboard build` believes a line only while all of
these fit what is on disk, and computes the others; so a changed file is never shown with old
results. That the results are what those bytes give is what `leaderboard check` finds out: it
believes no line, and computes everything again. Of a protocol whose labels are gated, a machine
without the labels can only believe the lines; the board says `labels gated`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import files, metrics
from facebench.errors import FacebenchError
from facebench.leaderboard import compare, jsontext, judge, record, resample, store
from facebench.leaderboard.united import Entry
from facebench.metrics._parts import Parts
from facebench.protocol import Protocol, dequantise, subset_key
from facebench.workspace import Workspace

#: Goes up with every change of the scoring or the statistics that can change a derived number.
VERSION = 2
SCHEMA = "facebench/derived-1"
TOLERANCE = 1e-6  # by which a derived number may differ when it is computed again, relative
RESCORED, GATED = "re-scored", "labels gated"
UNREACHABLE, RETRACTED = "evidence unreachable", "retracted"


def place(workspace: Workspace, protocol_id: str) -> Path:
    """Where the derived results of a protocol stand."""
    return workspace.leaderboards / "derived" / f"{protocol_id}.json"


def text(value: Mapping[str, Any]) -> str:
    """A derived file: one line per record and per entry."""
    return jsontext.dumps(value, 2)


class Labels:
    """The test labels of a protocol, read when they are first needed."""

    def __init__(self, workspace: Workspace, protocol: Protocol) -> None:
        self._workspace, self._protocol = workspace, protocol
        self.path = workspace.targets(protocol.id, protocol.public)
        self.here = self.path.is_file()
        self.file = _sha(self.path) if protocol.public and self.here else None
        self._arrays: dict[str, np.ndarray] | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The labels, held against the protocol's digest."""
        if self._arrays is None:
            self._arrays = judge.load_targets(self._workspace, self._protocol)
        return self._arrays


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A record and what is known of it.

    Attributes:
        path: of its file, relative to the workspace, with forward slashes.
        value: what it says.
        file: SHA-256 of its file.
        bundle: SHA-256 of what git keeps of its bundle (`store`), None where that is missing.
        scored: whether its metrics were computed again, where its evidence could be had.
        trust: how far its numbers can be recomputed from what is committed.
        fault: why it is not ranked, missing trials apart, or None.
    """

    path: str
    value: dict[str, Any]
    file: str
    bundle: str | None
    scored: bool
    trust: str
    fault: str | None

    @property
    def line(self) -> dict[str, Any]:
        """What the derived file keeps of it."""
        names = ("file", "bundle", "scored", "trust", "fault")
        return {name: getattr(self, name) for name in names}


def load(workspace: Workspace, protocol: Protocol, labels: Labels) -> dict[str, Any]:
    """The committed results, as far as they are of this code, protocol and labels; else nothing.

    A file that cannot be read counts as missing: the build writes it anew.
    """
    try:
        value = json.loads(files.read_bytes(place(workspace, protocol.id), files.MAX_JSON))
    except (FacebenchError, ValueError, RecursionError):
        return {}
    if not isinstance(value, dict) or any(
        value.get(name) != expected for name, expected in _header(protocol, labels).items()
    ):
        return {}
    return value if _whole(value) else {}


_LINE = {"file": str, "bundle": str | None, "scored": bool, "trust": str, "fault": str | None}
_STATISTICS = {
    "of": str,
    "labels": bool,
    "unit": str | None,
    "units": int | None,
    "draws": int | None,
}
_ENTRY = {"sampling": list | None, "rank": list, "groups": list}
_PAIR = {
    "estimate": float | None,
    "low": float | None,
    "high": float | None,
    "p": float,
    "adjusted": float,
    "tie": bool,
}


def _whole(value: Mapping[str, Any]) -> bool:
    """Whether a derived file has the form that this code writes."""
    records, entries = value.get("records"), value.get("entries")
    if not isinstance(records, dict) or not isinstance(entries, dict):
        return False
    if not _has(value.get("statistics"), _STATISTICS):
        return False
    return all(_has(line, _LINE) for line in records.values()) and all(
        isinstance(entry, dict)
        and _has({name: entry.get(name) for name in _ENTRY}, _ENTRY)
        and all(len(entry[name]) == 2 for name in _ENTRY if entry[name] is not None)
        and entry.keys() == {*_ENTRY, "first", "above"}
        and all(entry[name] is None or _has(entry[name], _PAIR) for name in ("first", "above"))
        for entry in entries.values()
    )


def _has(value: Any, fields: Mapping[str, Any]) -> bool:
    """Whether an object has these fields of these types and no other."""
    return (
        isinstance(value, dict)
        and value.keys() == fields.keys()
        and all(isinstance(value[name], kind) for name, kind in fields.items())
    )


def _header(protocol: Protocol, labels: Labels) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "protocol": {"id": protocol.id, "digest": protocol.digest},
        "labels": {"arrays": protocol.targets, "file": labels.file},
    }


def evidence(
    workspace: Workspace,
    protocol: Protocol,
    labels: Labels,
    known: Mapping[str, Any],
    retracted: Mapping[str, Any],
) -> list[Evidence]:
    """Every record of a protocol, in the order of their paths.

    Args:
        workspace: where.
        protocol: whose records.
        labels: its test labels.
        known: what `load` gave; lines whose digests fit are believed.
        retracted: by record id; such records are read and not scored.

    Raises:
        FacebenchError: a record is damaged.
    """
    lines = known.get("records", {})
    found = []
    for path in record.paths(workspace, protocol.id):
        name = path.relative_to(workspace.root).as_posix()
        data = files.read_bytes(path, files.MAX_JSON)
        file = hashlib.sha256(data).hexdigest()
        line = lines.get(name)
        if line and line["file"] == file:
            value = json.loads(data)  # these very bytes have been checked
            bundle = _sha(record.bundle_place(workspace, value))
            gone = store.gone(workspace, value["predictions"]["content_digest"])
            known_state = (value["record_id"] in retracted) == (line["fault"] == RETRACTED)
            scored = line["scored"] or not labels.here
            if bundle == line["bundle"] and scored and known_state and not gone:
                found.append(Evidence(name, value, **line))
                continue
        value = record.read(workspace, path)
        bundle = _sha(record.bundle_place(workspace, value))
        if value["record_id"] in retracted:
            verdict: tuple[bool, str, str | None] = (True, "-", RETRACTED)
        else:
            verdict = _verdict(workspace, protocol, value, labels)
        found.append(Evidence(name, value, file, bundle, *verdict))
    return found


def _verdict(
    workspace: Workspace, protocol: Protocol, value: Mapping[str, Any], labels: Labels
) -> tuple[bool, str, str | None]:
    """Whether a record was scored again, what its numbers rest on, and what is wrong with it."""
    if value["protocol"]["digest"] != protocol.digest:
        return True, "-", "made under another version of the protocol file"
    if faults := record.faults(protocol, value):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return True, "-", f"not as the protocol asks: {faults[0]}{more}"
    try:
        bundle = record.read_bundle(workspace, value)
    except store.UnreachableError:
        return False, "-", UNREACHABLE
    except FacebenchError:
        return True, "-", "its predictions are missing or damaged"
    if not labels.here:
        fault = "the test labels are missing" if protocol.public else None
        return False, "-" if fault else GATED, fault
    if record.rescore_arrays(protocol, value, bundle, labels.arrays):
        return True, "-", "its predictions do not score what it says"
    return True, RESCORED if protocol.public else GATED, None


def statistics(
    workspace: Workspace, protocol: Protocol, labels: Labels, entries: Sequence[Entry]
) -> dict[str, Any]:
    """Intervals, comparisons and ranks of complete entries, at the largest regime value.

    Args:
        workspace: where the bundles stand.
        protocol: whose entries.
        labels: its test labels; where they are not here the comparison is over seeds alone.
        entries: complete and sound ones, in the order of their scores, the best first.

    Returns:
        ``of`` (a digest of the files that go in), ``labels`` (whether they were here), ``unit``,
        ``units`` and ``draws`` (of the bootstrap; None without one), and per entry ``sampling``,
        ``rank``, ``groups``, ``first``, ``above``.
    """
    value, primary = protocol.regimes["values"][-1], protocol.primary
    scores = [entry.scores(primary, value) for entry in entries]
    sampled: list[list[tuple[np.ndarray, Parts] | float]] | None = None
    if labels.here and entries:
        sampled = _parts(workspace, protocol, labels, entries, scores)
    moved, units, of = None, 0, None
    first = next((s for row in sampled or [] for s in row if not isinstance(s, float)), None)
    if sampled and first:
        units, of = len(first[0]), first[1].of
        moved = np.stack([_influences(row, units) for row in sampled]) if units > 1 else None
    intervals: dict[str, tuple[float, float]] = {}
    if sampled and units:
        finite = [i for i, row in enumerate(scores) if all(map(math.isfinite, row))]
        drawn = resample.intervals(f"{protocol.targets}", units, [sampled[i] for i in finite])
        intervals = {entries[i].name: pair for i, pair in zip(finite, drawn, strict=True)}
    result: dict[str, Any] = {
        "of": inputs(entries),
        "labels": labels.here,
        "unit": of,
        "units": units or None,
        "draws": resample.DRAWS if units else None,
        "entries": {},
    }
    if not entries:
        return result
    pairs = compare.compare(scores, moved)
    separated = pairs.separated()
    better = pairs.estimate > 0 if primary["higher_is_better"] else pairs.estimate < 0
    ranks, groups = compare.ranks(separated, better), compare.groups(separated)
    for i, entry in enumerate(entries):
        interval = intervals.get(entry.name)
        result["entries"][entry.name] = {
            "sampling": [_rounded(x) for x in interval] if interval else None,
            "rank": list(ranks[i]),
            "groups": list(groups[i]),
            "first": _pair(pairs, i, 0) if i else None,
            "above": _pair(pairs, i, i - 1) if i else None,
        }
    return result


def _parts(
    workspace: Workspace,
    protocol: Protocol,
    labels: Labels,
    entries: Sequence[Entry],
    scores: Sequence[Sequence[float]],
) -> list[list[tuple[np.ndarray, Parts] | float]] | None:
    """Per entry and seed the sums of each unit; of a diverged trial its score, which is constant.

    None where the primary metric is no function of sums over samples.
    """
    value, name = protocol.regimes["values"][-1], protocol.primary["name"]
    result = []
    for entry, row in zip(entries, scores, strict=True):
        bundles: dict[str, dict[str, np.ndarray]] = {}
        seeds: list[tuple[np.ndarray, Parts] | float] = []
        for seed, score in zip(protocol.seeds, row, strict=True):
            trial = entry.trials[subset_key(value, seed)]
            if trial.status != "ok":
                seeds.append(float(score))
                continue
            if trial.record not in bundles:
                content = entry.values[trial.record]["predictions"]["content_digest"]
                bundles[trial.record] = store.read(workspace, content, entry.name)
            stored = {k: array[trial.row] for k, array in bundles[trial.record].items()}
            found = metrics.parts(
                protocol.task, protocol.convention, dequantise(protocol, stored), labels.arrays
            )
            if name not in found:
                return None
            seeds.append((resample.unit_sums(found[name]), found[name]))
        result.append(seeds)
    return result


def _influences(row: Sequence[tuple[np.ndarray, Parts] | float], units: int) -> np.ndarray:
    """`compare.influences` per seed, (S, units); a constant score is moved by no unit."""
    return np.stack(
        [
            np.zeros(units) if isinstance(s, float) else compare.influences(s[0], s[1].value)
            for s in row
        ]
    )


def inputs(entries: Sequence[Entry]) -> str:
    """A digest of the files that the statistics of entries depend on, beside the header's."""
    said = [[entry.name, entry.digests] for entry in sorted(entries, key=lambda e: e.name)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _pair(pairs: compare.Pairwise, i: int, j: int) -> dict[str, Any]:
    low, high = pairs.interval(i, j)
    return {
        "estimate": _rounded(float(pairs.estimate[i, j])),
        "low": _rounded(low),
        "high": _rounded(high),
        "p": _rounded(float(pairs.p[i, j])),
        "adjusted": _rounded(float(pairs.adjusted[i, j])),
        "tie": not bool(pairs.separated()[i, j]),
    }


def _rounded(value: float) -> float | None:
    """Nine digits: what may differ between machines is far behind them. None for an infinity."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def compose(
    protocol: Protocol,
    labels: Labels,
    records: Sequence[Evidence],
    statistics: Mapping[str, Any],
) -> dict[str, Any]:
    """The value of a derived file."""
    return {
        **_header(protocol, labels),
        "records": {item.path: item.line for item in records},
        "statistics": {k: v for k, v in statistics.items() if k != "entries"},
        "entries": statistics["entries"],
    }


def differences(committed: Any, again: Any, name: str = "") -> list[str]:
    """What two derived values do not share; numbers may differ by `TOLERANCE`."""
    if isinstance(committed, dict) and isinstance(again, dict):
        lines = []
        for key in sorted(committed.keys() | again.keys()):
            where = f"{name}[{key}]" if name else key
            if key in committed and key in again:
                lines += differences(committed[key], again[key], where)
            else:
                lines.append(f"{where}: {'missing' if key in again else 'superfluous'}")
        return lines
    if isinstance(committed, list) and isinstance(again, list) and len(committed) == len(again):
        pairs = enumerate(zip(committed, again))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{name}[{i}]")]
    numbers = isinstance(committed, float) and isinstance(again, float | int)
    if numbers and math.isclose(committed, again, rel_tol=TOLERANCE, abs_tol=TOLERANCE**2):
        return []
    return [] if committed == again else [f"{name}: {committed!r}, computed again: {again!r}"]


def _sha(path: Path) -> str | None:
    """The SHA-256 of a regular file; None where there is none."""
    hasher = hashlib.sha256()
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            while data := file.read(1 << 16):
                hasher.update(data)
    except OSError:
        return None
    return hasher.hexdigest()
