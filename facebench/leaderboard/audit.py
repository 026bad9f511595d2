"""Checks all that is committed: what a reviewer would have to believe is computed instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facebench import protocol
from facebench.errors import FacebenchError
from facebench.leaderboard import (
    attestation,
    canary,
    gate,
    judge,
    pages,
    record,
    reported,
    retraction,
    store,
)
from facebench.protocol import Protocol, manifest, subset_key
from facebench.workspace import Workspace


@dataclasses.dataclass
class Report:
    """What a check found.

    Attributes:
        problems: what is wrong, one line each.
        notices: what could not be checked here, and why.
        checked: how many records were scored again and found equal.
    """

    problems: list[str] = dataclasses.field(default_factory=list)
    notices: list[str] = dataclasses.field(default_factory=list)
    checked: int = 0

    def once(self, line: str) -> None:
        """Adds a problem that may have been found before."""
        if line not in self.problems:
            self.problems.append(line)


@dataclasses.dataclass
class _Seen:
    """What the records are and what belongs to them.

    Attributes:
        values: of the records that could be read and are not retracted, by protocol id.
        kept: the files of their predictions, retracted ones with them.
        unreachable: ids of protocols with a record whose evidence is out of reach.
    """

    values: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    kept: set[Path] = dataclasses.field(default_factory=set)
    unreachable: set[str] = dataclasses.field(default_factory=set)


def check(workspace: Workspace, against: str | None = None) -> Report:
    """Checks protocols, records, predictions, labels and boards of a workspace.

    Schemas, digests, names; every record scored again where the labels are here; attestations,
    subsets and canaries computed again; boards built again and compared byte by byte. One fault
    does not hide another. Nothing is written.

    Args:
        workspace: the workspace.
        against: a git revision whose evidence must still be there; see `gate`.

    Raises:
        FacebenchError: there is no such revision.
    """
    report = Report()
    if against is not None:
        report.problems += gate.against(workspace, against)
    protocols = _protocols(workspace, report)
    seen = _records(workspace, protocols, report)
    _attestations(workspace, protocols, seen, report)
    _canaries(workspace, protocols, seen, report)
    _strays(workspace, protocols, seen.kept, report)
    report.problems += reported.faults(workspace)
    _derived(workspace, protocols, seen, report)
    _boards(workspace, report)
    report.problems = [_plain(line) for line in report.problems]
    report.notices = [_plain(line) for line in report.notices]
    return report


def _plain(line: str) -> str:
    """A line without what could move a terminal's cursor, such as a hostile file name's."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _protocols(workspace: Workspace, report: Report) -> dict[str, Protocol | None]:
    """The frozen protocols by id; None for a damaged one."""
    found: dict[str, Protocol | None] = {}
    for name in protocol.names(workspace):
        try:
            of = protocol.load(workspace, name, allow_draft=True)
            if not of.frozen:
                report.notices.append(f"protocol {name} is a draft: it has no board yet")
                continue
            found[name] = of
            report.problems += [f"protocol {name}: {line}" for line in judge.misfits(of)]
            judge.load_targets(workspace, of)
        except judge.MissingTargetsError as error:
            lines = report.problems if of.public else report.notices
            lines.append(str(error))
        except FacebenchError as error:
            found[name] = None
            report.problems.append(str(error))
    for frozen in found.values():
        try:
            if frozen is not None:
                manifest.read(workspace, frozen)
        except FacebenchError as error:
            report.problems.append(str(error))
    return found


def _records(workspace: Workspace, protocols: dict[str, Protocol | None], report: Report) -> _Seen:
    """Scores every record again."""
    seen = _Seen()
    retracted = _retracted(workspace, report)
    for path in record.paths(workspace):
        try:
            value = record.read(workspace, path)
            name = value["protocol"]["id"]
            content = value["predictions"]["content_digest"]
            seen.kept.add(record.bundle_place(workspace, value))
            if value["record_id"] in retracted:
                report.notices.append(f"{path}: not scored again: it is retracted")
                continue
            if name in protocols and protocols[name] is None:
                report.notices.append(f"{path}: not checked: its protocol is damaged")
                continue
            seen.values.setdefault(name, []).append(value)
            differences = record.rescore(workspace, path)
            report.problems += [f"{path}: {line}" for line in differences]
            report.checked += not differences
        except judge.MissingTargetsError:
            report.notices.append(f"{path}: not scored again: the test labels are not here")
        except store.UnreachableError as error:
            seen.unreachable.add(name)
            lines = report.problems if store.gone(workspace, content) else report.notices
            lines.append(f"{path}: not scored again: {error}")
        except FacebenchError as error:
            report.problems.append(str(error))
    _incomplete(protocols, seen, report)
    return seen


def _incomplete(protocols: dict[str, Protocol | None], seen: _Seen, report: Report) -> None:
    """Says which entries lack trials: they stand on their board unranked."""
    for name, values in sorted(seen.values.items()):
        of = protocols.get(name)
        here: dict[str, set[str]] = {}
        for value in values:
            if of is not None and value["protocol"]["digest"] == of.digest:
                keys = {subset_key(t["regime"]["value"], t["seed"]) for t in value["trials"]}
                here.setdefault(value["entry"], set()).update(keys)
        for entry, keys in sorted(here.items()):
            asked = [subset_key(*trial) for trial in of.trials()] if of else []
            if lacking := [key for key in asked if key not in keys]:
                report.notices.append(
                    f"{name}: {entry} is incomplete and not ranked: {len(asked) - len(lacking)} of "
                    f"{len(asked)} trials, missing {', '.join(lacking)}"
                )


def _retracted(workspace: Workspace, report: Report) -> set[str]:
    """The ids of the records that no longer count."""
    try:
        return set(retraction.load(workspace))
    except FacebenchError as error:
        report.problems.append(str(error))
        return set()


def _attestations(
    workspace: Workspace,
    protocols: Mapping[str, Protocol | None],
    seen: _Seen,
    report: Report,
) -> None:
    """Computes again what attestations claim."""
    known = {value["record_id"]: value for values in seen.values.values() for value in values}
    named = {path.name for path in record.paths(workspace)}
    for path in attestation.paths(workspace):
        try:
            value = attestation.read(workspace, path)
            if value["predictions"] is not None:
                seen.kept.add(store.kept(workspace, value["predictions"]))
            claimed = known.get(value["record"])
            of = protocols.get(claimed["protocol"]["id"]) if claimed else None
            if f"{path.parent.name}.json" not in named:
                report.problems.append(f"{path}: it attests a record that is not here; remove it")
                continue
            if claimed is None or of is None:
                report.notices.append(f"{path}: not checked: its record is retracted or damaged")
                continue
            lines = attestation.faults(workspace, of, claimed, value)
            report.problems += [f"{path}: contradicts its record: {line}" for line in lines]
        except store.UnreachableError as error:
            report.notices.append(f"{path}: not checked: {error}")
        except FacebenchError as error:
            report.problems.append(str(error))


def _canaries(
    workspace: Workspace,
    protocols: Mapping[str, Protocol | None],
    seen: _Seen,
    report: Report,
) -> None:
    """Looks whether what knows nothing stays at chance."""
    for name, values in sorted(seen.values.items()):
        of = protocols.get(name)
        if of is None:
            continue
        mine = [value for value in values if value["protocol"]["digest"] == of.digest]
        try:
            wrong, unknown = canary.alarms(workspace, of, mine)
            report.problems += wrong
            report.notices += unknown
        except store.UnreachableError as error:
            report.notices.append(f"protocol {name}: canaries not checked: {error}")
        except FacebenchError as error:
            report.once(str(error))


def _strays(
    workspace: Workspace,
    protocols: dict[str, Protocol | None],
    kept: set[Path],
    report: Report,
) -> None:
    """Files that belong to nothing, and links: evidence is plain files."""
    records = set(record.paths(workspace))
    known = {workspace.protocols / f"{name}.json" for name in protocol.names(workspace)}
    targets = {workspace.targets(name, True) for name in protocols}
    subsets = {manifest.place(workspace, name) for name in protocols}
    retractions = set(retraction.folder(workspace).glob("*.json"))
    attestations = set(attestation.paths(workspace))
    for folder, mine, what in (
        (workspace.protocols, known, "is not at TASK/DATASET/REGIME@V.json"),
        (workspace.records, records, "is not at PROTOCOL/ENTRY/DIGEST.json"),
        (workspace.predictions, kept, "belongs to no record"),
        (workspace.leaderboards / "targets", targets, "belongs to no protocol"),
        (workspace.leaderboards / "subsets", subsets, "belongs to no protocol"),
        (retraction.folder(workspace), retractions, "is not at RECORD.json"),
        (attestation.folder(workspace), attestations, "is not at RECORD/DIGEST.json"),
    ):
        for path in sorted(p for p in (folder, *folder.rglob("*")) if _is_file(p)):
            if path not in mine:
                report.problems.append(f"{path}: {what}; remove it")
            elif path.is_symlink():
                report.once(f"{path}: a symbolic link; put the file itself there")
        for path in sorted(mine):
            if path.exists() and not path.is_file():
                report.once(f"{path}: no regular file; put the file itself there")


def _is_file(path: Path) -> bool:
    return path.is_symlink() or (path.exists() and not path.is_dir())


def _derived(
    workspace: Workspace,
    protocols: dict[str, Protocol | None],
    seen: _Seen,
    report: Report,
) -> None:
    """Computes what the build believes: intervals, comparisons, verdicts."""
    for name, of in protocols.items():
        if of is None:
            continue
        if name in seen.unreachable:
            report.notices.append(f"protocol {name}: not compared again: evidence unreachable")
            continue
        try:
            report.problems += pages.derived_differences(workspace, name)
        except FacebenchError as error:
            report.once(str(error))


def _boards(workspace: Workspace, report: Report) -> None:
    try:
        built = pages.build(workspace)
    except FacebenchError as error:
        report.once(str(error))
        return
    report.problems += _differing(workspace, built)


def _differing(workspace: Workspace, made: dict[str, bytes]) -> Iterator[str]:
    """The committed pages that are not what the build makes, with the first line that differs."""
    remedy = "run: facebench leaderboard build"
    for name, built in made.items():
        path = workspace.root / name
        if not path.is_file():
            yield f"{path}: missing; {remedy}"
            continue
        committed = path.read_bytes()
        if committed == built:
            continue
        old, new = committed.split(b"\n"), built.split(b"\n")
        pairs = zip(old, new)
        line = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(old), len(new)))
        yield f"{path}:{line + 1}: not what the records say; {remedy}"
    for name in pages.superfluous(workspace, made):
        yield f"{workspace.root / name}: belongs to no protocol; remove it"
