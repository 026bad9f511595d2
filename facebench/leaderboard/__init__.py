"""The judging wing: stored predictions in, records and boards out. Needs no accelerator.

``judge`` scores stored predictions, ``trial``, ``record`` and ``store`` keep them, ``submission``
makes one of the other, ``attestation`` says what was run again, ``stats`` how sure, ``board``
ranks, ``render`` writes, ``pages`` does it for a workspace; ``audit`` doubts all of it, and
``gate`` sees to it that nothing is taken back.
The functions here load those modules when they are called, so that importing this costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facebench.leaderboard.audit import Report
    from facebench.workspace import Workspace


def submit(
    workspace: Workspace,
    protocol: str,
    entry: str,
    config: str | None = None,
    note: str = "",
    partial: bool = False,
) -> tuple[Path, bool]:
    """Folds an entry's trials into a record; see `submission.submit`."""
    from facebench.leaderboard import submission

    return submission.submit(workspace, protocol, entry, config, note, partial)


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


def check(workspace: Workspace, against: str | None = None) -> Report:
    """Checks all that is committed; see `audit.check`."""
    from facebench.leaderboard import audit

    return audit.check(workspace, against)


def missing(workspace: Workspace, protocol: str, entry: str) -> list[str]:
    """The trials that no record of an entry has; see `submission.missing`."""
    from facebench import protocol as protocols
    from facebench.leaderboard import submission

    return submission.missing(workspace, protocols.load(workspace, protocol), entry)


def board_text(workspace: Workspace, protocol_id: str, width: int = 100) -> str:
    """A board for the terminal; see `build.board_text`."""
    from facebench.leaderboard import pages

    return pages.board_text(workspace, protocol_id, width)
