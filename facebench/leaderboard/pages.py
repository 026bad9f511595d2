"""Builds the boards: a pure function of the committed protocols, records, predictions, labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from facebench import files, protocol
from facebench.errors import FacebenchError
from facebench.leaderboard import (
    board,
    derived,
    export,
    front,
    latex,
    render,
    reported,
    retraction,
    terminal,
)
from facebench.leaderboard.board import Board
from facebench.leaderboard.pieces import GENERATED
from facebench.workspace import Workspace

FOLDERS = ("boards", "derived", "exports")  # below leaderboards/, written by the build alone


def build(workspace: Workspace) -> dict[str, bytes]:
    """Makes the front page, every board, its exports and its derived results, in memory.

    No clock, locale, environment variable or order of a folder has a say: the same committed
    files give the same bytes. Derived results that fit the files are believed, see `derived`.

    Returns:
        The bytes of each file by its path in the workspace, with forward slashes, sorted.

    Raises:
        FacebenchError: a protocol, record, retraction or label file is damaged.
    """
    boards = assemble(workspace)
    made = {
        "leaderboards/README.md": front.index(boards),
        "leaderboards/exports/README.md": export.readme(),
        "leaderboards/exports/index.json": export.index(boards),
    }
    for of in boards:
        name = of.protocol.id
        made[f"leaderboards/boards/{name}.md"] = render.board(of)
        made[f"leaderboards/exports/{name}.csv"] = export.long(of)
        made[f"leaderboards/exports/{name}.tex"] = latex.board(of)
        made[f"leaderboards/exports/{name}.json"] = export.api(of)
        if of.derived is not None:
            made[f"leaderboards/derived/{name}.json"] = derived.text(of.derived)
    if text := reported.page(workspace):
        made[reported.PAGE] = text
    return {name: made[name].encode() for name in sorted(made)}


def assemble(workspace: Workspace) -> list[Board]:
    """The boards of all frozen protocols, by protocol id, later versions after earlier ones.

    Raises:
        FacebenchError: see `build`; or a retraction names no record.
    """
    retractions = retraction.load(workspace)
    loaded = [
        protocol.load(workspace, name, allow_draft=True) for name in protocol.names(workspace)
    ]
    frozen = sorted((of for of in loaded if of.frozen), key=lambda of: _version(of.id))
    latest = {_version(of.id)[0]: of.id for of in frozen}
    boards = []
    for of in frozen:
        last = latest[_version(of.id)[0]]
        later = last if last != of.id else None
        boards.append(board.assemble(workspace, of, retractions=retractions, later=later))
    _all_used(workspace, retractions, boards)
    return boards


def _version(protocol_id: str) -> tuple[str, int]:
    name, _, version = protocol_id.partition("@")
    return name, int(version)


def _all_used(
    workspace: Workspace, retractions: Mapping[str, Mapping[str, str]], boards: list[Board]
) -> None:
    retracted = {row.record.rsplit("/", 1)[1] for of in boards for row in of.retracted}
    for value in retractions.values():
        name = f"{value['record'].removeprefix('sha256:')[:12]}.json"
        if name not in retracted:
            raise FacebenchError(
                f"{retraction.folder(workspace) / name}: it retracts a record that is not here; "
                "records are never removed: restore the record, or remove the retraction"
            )


def write(workspace: Workspace) -> list[str]:
    """Writes what `build` makes and takes away generated files that it no longer makes.

    Returns:
        The paths of all files of the build, in the workspace.
    """
    made = build(workspace)
    for name, data in made.items():
        path = workspace.root / name
        if not path.is_file() or path.read_bytes() != data:
            files.write_atomic(path, data)
    for name in superfluous(workspace, made):
        path = workspace.root / name
        if _generated(path):
            path.unlink()
    return list(made)


def _generated(path: Path) -> bool:
    """Whether a file that is no longer made looks as if the build had written it."""
    with open(path, "rb") as file:
        start = file.read(200)
    marks = (GENERATED, latex.GENERATED, ",".join(export.COLUMNS))
    return start.startswith(tuple(mark.encode() for mark in marks)) or (
        path.suffix == ".json" and start.startswith(b"{\n  ") and b'": ' in start
    )


def superfluous(workspace: Workspace, made: Mapping[str, bytes]) -> list[str]:
    """The files in the generated folders that the build does not make, sorted."""
    names = (
        path.relative_to(workspace.root).as_posix()
        for folder in FOLDERS
        for path in (workspace.leaderboards / folder).rglob("*")
        if path.is_file()
    )
    return sorted(name for name in names if name not in made)


def board_text(workspace: Workspace, protocol_id: str, width: int = terminal.WIDTH) -> str:
    """The board of a protocol as a table for the terminal.

    Raises:
        UsageError: no such protocol.
        FacebenchError: a record of it is damaged.
    """
    versions = [name for name in protocol.names(workspace) if _same(name, protocol_id)]
    last = max(versions, key=_version, default=protocol_id)
    later = last if _same(last, protocol_id) and last != protocol_id else None
    of = board.assemble(workspace, protocol.load(workspace, protocol_id), later=later)
    return terminal.terminal(of, width)


def _same(name: str, protocol_id: str) -> bool:
    return name.partition("@")[0] == protocol_id.partition("@")[0]


def derived_differences(workspace: Workspace, protocol_id: str) -> list[str]:
    """Computes the derived results of a protocol again, believing none; says what differs.

    Where the labels are not on this machine nothing can be said, and nothing is.

    Raises:
        FacebenchError: a record, its protocol or the labels are damaged.
    """
    of = protocol.load(workspace, protocol_id)
    labels = derived.Labels(workspace, of)
    if not labels.here:
        return []
    again = board.assemble(workspace, of, fresh=True).derived
    path = derived.place(workspace, protocol_id)
    if again is None or not path.is_file():
        return []  # the build says whether it is missing
    lines = derived.differences(files.read_json(path), again)
    lines.sort(key=lambda line: not line.startswith("records"))  # the cause before its effects
    remedy = "remove it and run: facebench leaderboard build"
    return [f"{path}: {line}; {remedy}" for line in lines[:3]]
