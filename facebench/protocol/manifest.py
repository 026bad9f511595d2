"""Manifests: which samples each subset of a protocol holds, ``leaderboards/subsets/ID.json``.

The protocol has the digest of every subset; the manifest names the keys behind it, so that anyone
can train on them with any framework. It is believed for its digests alone. Where the labels are
gated it holds no keys, only how many samples, units and classes each subset has::

    {"schema": "facebench/subsets-1", "protocol": ID, "subsets": {"0.1/0": DIGEST, ...},
     "counts": {DIGEST: {"samples": 20, "units": 7, "classes": {"happy": 3, ...}}, ...},
     "keys": {DIGEST: [KEY, ...], ...} or null}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facebench import digest, files
from facebench.errors import FacebenchError
from facebench.protocol import Protocol
from facebench.workspace import Workspace

SCHEMA = "facebench/subsets-1"


def place(workspace: Workspace, protocol_id: str) -> Path:
    """Where the manifest of a protocol stands."""
    return workspace.leaderboards / "subsets" / f"{protocol_id}.json"


def write(
    workspace: Workspace,
    of: Protocol,
    keys: Mapping[str, Sequence[str]],
    counts: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Writes the manifest of a frozen protocol.

    Args:
        workspace: the workspace.
        of: the protocol.
        keys: of each subset, by `subset_key`.
        counts: of each subset, by `subset_key`: ``samples``, ``units`` and ``classes``.

    Raises:
        FacebenchError: the keys are not those that the protocol froze; nothing is written.
    """
    where = place(workspace, of.id)
    value = {
        "schema": SCHEMA,
        "protocol": of.id,
        "subsets": dict(of.subsets),
        "counts": {sha: dict(counts[name]) for name, sha in of.subsets.items()},
        "keys": {sha: sorted(keys[name]) for name, sha in of.subsets.items()}
        if of.public
        else None,
    }
    _check(value, of, where)
    files.write_json(where, value)
    return where


def read(workspace: Workspace, of: Protocol) -> dict[str, Any] | None:
    """Reads the manifest of a protocol and holds it against the protocol's digests.

    Returns:
        its value, or None where there is none.

    Raises:
        FacebenchError: damaged, of a later schema, or its keys are not those of the digests.
    """
    where = place(workspace, of.id)
    if not where.is_file():
        return None
    value = files.read_json(where)
    _check(value, of, where)
    return value


def _check(value: Any, of: Protocol, where: Path) -> None:
    again = f"make it again: facebench protocol freeze {of.id}"
    found = value.get("schema") if isinstance(value, dict) else None
    if found != SCHEMA:
        later = re.fullmatch(r"facebench/subsets-([0-9]{1,6})", str(found))
        if later and int(later[1]) > 1:
            raise FacebenchError(
                f"{where}: schema {found!r} is later than {SCHEMA!r}, the latest that this "
                "facebench reads; install a newer facebench"
            )
        raise FacebenchError(f"{where}: not a manifest: its 'schema' is {found!r}; {again}")
    if set(value) != {"schema", "protocol", "subsets", "counts", "keys"}:
        raise FacebenchError(f"{where}: its fields are {', '.join(sorted(value))}; {again}")
    if value["protocol"] != of.id or value["subsets"] != of.subsets:
        raise FacebenchError(f"{where}: not the subsets that {of.id} froze; {again}")
    shas = set(of.subsets.values())
    for name in ("counts", "keys"):
        if value[name] is None and name == "keys":
            continue
        if not isinstance(value[name], dict) or set(value[name]) != shas:
            raise FacebenchError(f"{where}: {name}: expected one for each subset; {again}")
    for sha, one in value["counts"].items():
        if not _counts(one):
            raise FacebenchError(
                f"{where}: counts of {digest.short(sha)}: expected whole numbers 'samples', "
                f"'units' and 'classes' of them; {again}"
            )
    if of.public != (value["keys"] is not None):
        said = "are gated: no key may stand here" if value["keys"] else "are public: keys missing"
        raise FacebenchError(f"{where}: keys: the labels of {of.id} {said}; {again}")
    for sha, keys in (value["keys"] or {}).items():
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise FacebenchError(f"{where}: keys of {digest.short(sha)}: no list of texts; {again}")
        if digest.of_lines(sorted(keys)) != sha:
            raise FacebenchError(
                f"{where}: the {len(keys)} keys of {digest.short(sha)} are not those of the "
                f"digest; {again}"
            )
        if len(keys) != value["counts"][sha]["samples"]:
            raise FacebenchError(
                f"{where}: counts of {digest.short(sha)}: {len(keys)} keys; {again}"
            )


def _counts(one: Any) -> bool:
    if not isinstance(one, dict) or set(one) != {"samples", "units", "classes"}:
        return False
    if not isinstance(one["classes"], dict):
        return False
    numbers = [one["samples"], one["units"], *one["classes"].values()]
    return all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers)
