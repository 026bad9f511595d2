"""The judging wing: stored predictions in, records and boards out. Needs no accelerator.

``judge`` scores stored predictions, ``trial`` and ``record`` keep them, ``stats`` says how sure,
``board`` ranks, ``render`` writes, ``pages`` does it for a workspace, ``audit`` doubts all of it.
The functions here load those modules when they are called, so that importing this costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facebench.leaderboard.audit import Report
    from facebench.workspace import Workspace


def submit(
    workspace: Workspace, protocol: str, entry: str, config: str | None = None, note: str = ""
) -> tuple[Path, bool]:
    """Folds an entry's trials into a record; see `record.submit`."""
    from facebench.leaderboard import record

    return record.submit(workspace, protocol, entry, config, note)


def rescore(workspace: Workspace, path: Path) -> list[str]:
    """Computes a record's metrics again and says what differs; see `record.rescore`."""
    from facebench.leaderboard import record

    return record.rescore(workspace, path)


def record_paths(workspace: Workspace) -> list[Path]:
    """Every record file of a workspace, sorted."""
    from facebench.leaderboard import record

    return record.paths(workspace)


def build(workspace: Workspace) -> dict[str, bytes]:
    """Makes every board in memory; see `pages.build`."""
    from facebench.leaderboard import pages

    return pages.build(workspace)


def write(workspace: Workspace) -> list[str]:
    """Makes every board and writes it; see `build.write`."""
    from facebench.leaderboard import pages

    return pages.write(workspace)


def check(workspace: Workspace) -> Report:
    """Checks all that is committed; see `audit.check`."""
    from facebench.leaderboard import audit

    return audit.check(workspace)


def board_text(workspace: Workspace, protocol_id: str, width: int = 100) -> str:
    """A board for the terminal; see `build.board_text`."""
    from facebench.leaderboard import pages

    return pages.board_text(workspace, protocol_id, width)
