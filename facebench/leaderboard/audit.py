"""Checks all that is committed: what a reviewer would have to believe is computed instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from facebench import protocol
from facebench.errors import FacebenchError
from facebench.leaderboard import judge, pages, record, reported, retraction
from facebench.protocol import Protocol
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


def check(workspace: Workspace) -> Report:
    """Checks protocols, records, predictions, labels and boards of a workspace.

    Schemas, digests, names; every record scored again where the labels are here; boards built
    again and compared byte by byte. One fault does not hide another. Nothing is written.
    """
    report = Report()
    protocols = _protocols(workspace, report)
    bundles = _records(workspace, protocols, report)
    _strays(workspace, protocols, bundles, report)
    report.problems += reported.faults(workspace)
    _derived(workspace, protocols, report)
    _boards(workspace, report)
    return report


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
    return found


def _records(
    workspace: Workspace, protocols: dict[str, Protocol | None], report: Report
) -> set[Path]:
    """Scores every record again; returns the bundles that belong to one."""
    bundles = set()
    retracted = _retracted(workspace, report)
    for path in record.paths(workspace):
        try:
            value = record.read(workspace, path)
            bundles.add(record.bundle_place(workspace, value))
            if value["record_id"] in retracted:
                report.notices.append(f"{path}: not scored again: it is retracted")
                continue
            if value["protocol"]["id"] in protocols and protocols[value["protocol"]["id"]] is None:
                report.notices.append(f"{path}: not checked: its protocol is damaged")
                continue
            differences = record.rescore(workspace, path)
            report.problems += [f"{path}: {line}" for line in differences]
            report.checked += not differences
        except judge.MissingTargetsError:
            report.notices.append(f"{path}: not scored again: the test labels are not here")
        except FacebenchError as error:
            report.problems.append(str(error))
    return bundles


def _retracted(workspace: Workspace, report: Report) -> set[str]:
    """The ids of the records that no longer count."""
    try:
        return set(retraction.load(workspace))
    except FacebenchError as error:
        report.problems.append(str(error))
        return set()


def _strays(
    workspace: Workspace,
    protocols: dict[str, Protocol | None],
    bundles: set[Path],
    report: Report,
) -> None:
    """Files that belong to nothing."""
    records = set(record.paths(workspace))
    known = {workspace.protocols / f"{name}.json" for name in protocol.names(workspace)}
    targets = {workspace.targets(name, True) for name in protocols}
    retractions = set(retraction.folder(workspace).glob("*.json"))
    for folder, mine, what in (
        (workspace.protocols, known, "is not at TASK/DATASET/REGIME@V.json"),
        (workspace.records, records, "is not at PROTOCOL/ENTRY/DIGEST.json"),
        (workspace.predictions, bundles, "belongs to no record"),
        (workspace.leaderboards / "targets", targets, "belongs to no protocol"),
        (retraction.folder(workspace), retractions, "is not at RECORD.json"),
    ):
        for path in sorted(p for p in folder.rglob("*") if p.is_file() or p.is_symlink()):
            if path not in mine:
                report.problems.append(f"{path}: {what}; remove it")


def _derived(workspace: Workspace, protocols: dict[str, Protocol | None], report: Report) -> None:
    """Computes what the build believes: intervals, comparisons, verdicts."""
    for name, of in protocols.items():
        if of is None:
            continue
        try:
            report.problems += pages.derived_differences(workspace, name)
        except FacebenchError as error:
            if str(error) not in report.problems:
                report.problems.append(str(error))


def _boards(workspace: Workspace, report: Report) -> None:
    try:
        built = pages.build(workspace)
    except FacebenchError as error:
        if str(error) not in report.problems:
            report.problems.append(str(error))
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
