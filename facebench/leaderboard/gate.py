"""The append-only gate: what a git revision has committed as evidence is still there, unchanged.

Records, predictions, attestations and retractions are added and never changed; so are the protocol,
the subsets and the labels of a protocol that a record of that revision cites. One thing may go: the
predictions of records that were retracted for a licence or withdrawn consent.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from facebench.errors import FacebenchError
from facebench.leaderboard import record, retraction, store
from facebench.workspace import Workspace

ALWAYS = ("records", "predictions", "attestations", "retractions")
CITED = {"protocols": ".json", "subsets": ".json", "targets": ".npz"}
TAKEN_DOWN = ("licence", "consent")


def against(workspace: Workspace, revision: str) -> list[str]:
    """What was changed, renamed or deleted since a git revision and must not be, a line each.

    Args:
        workspace: in a git work tree; what is on disk is compared, committed or not.
        revision: a commit, branch or tag, such as ``origin/main``.

    Raises:
        FacebenchError: there is no git, no repository, or no such revision here.
    """
    old = _tree(workspace, revision)
    frozen = [name for name in old if _frozen(name, old)]
    here = {name: workspace.leaderboards / name for name in frozen}
    lines, plain = {}, {}
    for name, path in here.items():
        if path.is_symlink() or not path.is_file():
            lines[name] = "is a link now" if path.is_symlink() else "was deleted or renamed"
        elif path.resolve() != workspace.leaderboards.resolve() / name:
            lines[name] = "stands behind a link now"
        else:
            plain[name] = path
    for name, found in zip(plain, _hashes(workspace, list(plain.values())), strict=True):
        if found != old[name]:
            lines[name] = "was changed"
    gone = _taken_down(workspace) if any(n.startswith("predictions/") for n in lines) else set()
    return [
        f"{here[name]}: {what} since {revision}; committed evidence is only added to: "
        f"git checkout {revision} -- {_relative(here[name])}"
        for name, what in sorted(lines.items())
        if not (here[name] in gone and not here[name].exists())
    ]


def _frozen(name: str, old: dict[str, str]) -> bool:
    """Whether a file below ``leaderboards/`` of the revision may not change any more."""
    folder, _, inner = name.partition("/")
    if folder in ALWAYS:
        return True
    if folder not in CITED or not inner.endswith(CITED[folder]):
        return False
    cited = f"records/{inner.removesuffix(CITED[folder])}/"
    return any(other.startswith(cited) for other in old)


def _tree(workspace: Workspace, revision: str) -> dict[str, str]:
    """The files below ``leaderboards/`` in a revision and the ids of their contents."""
    _git(workspace, "rev-parse", "--is-inside-work-tree")
    if revision.startswith("-"):
        raise FacebenchError(f"--against={revision}: not a revision")
    try:
        commit = _git(workspace, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except FacebenchError as error:
        raise FacebenchError(
            f"--against={revision}: no such revision in {workspace.root}; fetch it first: "
            "git fetch origin"
        ) from error
    listed = _git(workspace, "ls-tree", "-r", "-z", commit.strip(), "--", "leaderboards")
    tree = {}
    for line in filter(None, listed.split("\0")):
        facts, _, name = line.partition("\t")
        tree[name.removeprefix("leaderboards/")] = facts.split()[2]
    return tree


def _hashes(workspace: Workspace, paths: list[Path]) -> Iterator[str]:
    """What git would call the contents of files, in their order."""
    if not paths:
        return iter(())
    names = "".join(f"{path}\n" for path in paths)
    return iter(_git(workspace, "hash-object", "--no-filters", "--stdin-paths", feed=names).split())


def _taken_down(workspace: Workspace) -> set[Path]:
    """The bundles that may be gone: all their records are retracted for `TAKEN_DOWN`."""
    retracted = retraction.load(workspace)
    gone: set[Path] = set()
    needed: set[Path] = set()
    for path in record.paths(workspace):
        value = record.read(workspace, path)
        why = retracted.get(value["record_id"], {}).get("reason")
        content = value["predictions"]["content_digest"]
        mine = gone if why in TAKEN_DOWN else needed
        mine.update({store.place(workspace, content), store.pointer(workspace, content)})
    return gone - needed


def _relative(path: Path) -> str:
    return os.path.relpath(path)


def _git(workspace: Workspace, *words: str, feed: str | None = None) -> str:
    """What git prints; in a workspace that is part of another repository, by its own paths."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(workspace.root), *words],
            input=os.fsencode(feed or ""),
            capture_output=True,
            env=kept | {"LC_ALL": "C"},
            check=False,
        )
    except OSError as error:
        raise FacebenchError(
            f"--against compares with a git revision, and git cannot be run: {error.strerror}; "
            "install git, or leave --against out"
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise FacebenchError(
            f"{workspace.root}: --against compares with a git revision, and git says: "
            f"{said[0] if said else 'it failed'}"
        )
    return done.stdout.decode(errors="surrogateescape")
