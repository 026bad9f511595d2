"""Builds the boards: a pure function of the committed protocols, records, predictions, labels."""

from __future__ import annotations

from facebench import files, protocol
from facebench.leaderboard import board, render
from facebench.workspace import Workspace


def build(workspace: Workspace) -> dict[str, bytes]:
    """Makes the index and every board, in memory.

    No clock, locale, environment variable or order of a folder has a say: the same committed
    files give the same bytes.

    Returns:
        The bytes of each file by its path in the workspace, with forward slashes, sorted.

    Raises:
        FacebenchError: a protocol, record or label file is damaged.
    """
    boards = []
    for name in protocol.names(workspace):
        of = protocol.load(workspace, name, allow_draft=True)
        if of.frozen:
            boards.append(board.assemble(workspace, of))
    made = {f"leaderboards/boards/{of.protocol.id}.md": render.board(of) for of in boards}
    made["leaderboards/README.md"] = render.index(boards)
    return {name: made[name].encode() for name in sorted(made)}


def write(workspace: Workspace) -> list[str]:
    """Writes what `build` makes and takes away generated boards that it no longer makes.

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
        if path.read_bytes().startswith(render.GENERATED.encode()):
            path.unlink()
    return list(made)


def superfluous(workspace: Workspace, made: dict[str, bytes]) -> list[str]:
    """The files among the boards that the build does not make, sorted."""
    found = (workspace.leaderboards / "boards").rglob("*")
    names = (p.relative_to(workspace.root).as_posix() for p in found if p.is_file())
    return sorted(name for name in names if name not in made)


def board_text(workspace: Workspace, protocol_id: str, width: int = render.WIDTH) -> str:
    """The board of a protocol as a table for the terminal.

    Raises:
        UsageError: no such protocol.
        FacebenchError: a record of it is damaged.
    """
    of = board.assemble(workspace, protocol.load(workspace, protocol_id))
    return render.terminal(of, width)
