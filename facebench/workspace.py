"""The workspace: the nearest folder with a WORKSPACE.md, and the folders it holds.

The repository is the reference workspace; a lab may have its own. Datasets and experiments
belong to a workspace and are loaded by path, never installed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from facebench.errors import FacebenchError

MARK = "WORKSPACE.md"

# The name of an entry: it is the name of folders too.
ENTRY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Workspace:
    """The folders of a workspace.

    Attributes:
        root: the folder that holds WORKSPACE.md, absolute.
        data: prepared datasets; git-ignored; ``$FACEBENCH_DATA`` or ``root/data``.
    """

    root: Path
    data: Path

    @property
    def datasets(self) -> Path:
        """One folder per dataset: builder, data card, citation."""
        return self.root / "datasets"

    @property
    def experiments(self) -> Path:
        """One small config file per experiment."""
        return self.root / "experiments"

    @property
    def leaderboards(self) -> Path:
        """Protocols, records, predictions, and the boards made of them."""
        return self.root / "leaderboards"

    @property
    def protocols(self) -> Path:
        """Protocol files, at ``TASK/DATASET/REGIME@V.json``."""
        return self.leaderboards / "protocols"

    @property
    def records(self) -> Path:
        """Committed records, at ``TASK/DATASET/REGIME@V/ENTRY/DIGEST.json``."""
        return self.leaderboards / "records"

    @property
    def predictions(self) -> Path:
        """Committed prediction bundles, at ``AA/DIGEST.npz``."""
        return self.leaderboards / "predictions"

    @property
    def runs(self) -> Path:
        """Trials: working files, git-ignored."""
        return self.root / "runs"

    def targets(self, protocol_id: str, public: bool) -> Path:
        """Where a protocol's test labels stand: committed if public, else beside the data."""
        base = self.leaderboards if public else self.data
        return base / "targets" / f"{protocol_id}.npz"

    def relative(self, path: Path) -> str:
        """A path as shown to people: relative to the current folder when it lies below it."""
        try:
            return str(path.resolve().relative_to(Path.cwd()))
        except ValueError:
            return str(path)


def find(start: Path | None = None, data: Path | None = None) -> Workspace:
    """Finds the workspace of a folder.

    Args:
        start: where to look, upwards; default ``$FACEBENCH_WORKSPACE``, then the current folder.
        data: the folder of prepared datasets; default ``$FACEBENCH_DATA``, then ``root/data``.

    Raises:
        FacebenchError: no folder upwards of `start` holds a WORKSPACE.md.
    """
    start = (start or Path(os.environ.get("FACEBENCH_WORKSPACE") or Path.cwd())).resolve()
    for folder in (start, *start.parents):
        if (folder / MARK).is_file():
            data = data or Path(os.environ.get("FACEBENCH_DATA") or folder / "data")
            return Workspace(root=folder, data=data.resolve())
    raise FacebenchError(
        f"{start}: no workspace here: neither this folder nor one above it holds a {MARK}; "
        "change to the repository, or give --workspace=FOLDER"
    )
