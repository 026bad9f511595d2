"""Retractions: a record is never removed; a file beside it says that it does not count, and why.

``leaderboards/retractions/<first 12 digits of the record's id>.json``::

    {"schema": "facebench/retraction-1", "record": "sha256:...", "reason": "bug",
     "note": "trained on 12 test images", "by": "the authors"}
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from facebench import digest, files
from facebench.errors import FacebenchError, nearest
from facebench.workspace import Workspace

SCHEMA = "facebench/retraction-1"
REASONS = ("bug", "leakage", "licence", "consent", "fabricated", "superseded")
FIELDS = ("schema", "record", "reason", "note", "by")
LIMIT = 2000  # characters of a note


def folder(workspace: Workspace) -> Path:
    """Where retractions stand."""
    return workspace.leaderboards / "retractions"


def load(workspace: Workspace) -> dict[str, dict[str, str]]:
    """The retractions of a workspace by the id of their record.

    Raises:
        FacebenchError: one is damaged or does not stand at the name of its record.
    """
    found = {}
    for path in sorted(folder(workspace).glob("*.json")):
        value = read(path)
        found[value["record"]] = value
    return found


def read(path: Path) -> dict[str, str]:
    """Reads and checks one retraction.

    Raises:
        FacebenchError: not strict JSON, another schema, a field that is missing, unknown or of
            the wrong form, or a wrong file name.
    """
    value: Any = files.read_json(path)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else None
        raise FacebenchError(f"{path}: schema is {found!r}, expected {SCHEMA!r}")
    for name in FIELDS:
        if not isinstance(value.get(name), str):
            raise FacebenchError(f"{path}: {name}: found {value.get(name)!r}, expected text")
    for name in sorted(value):
        if name not in FIELDS:
            raise FacebenchError(f"{path}: unknown field {name!r}: {nearest(name, FIELDS)}")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", value["record"]):
        raise FacebenchError(
            f"{path}: record: {value['record'][:80]!r}, expected the record_id of a record, "
            "sha256: and 64 digits"
        )
    if value["reason"] not in REASONS:
        raise FacebenchError(
            f"{path}: reason {value['reason'][:80]!r}: {nearest(value['reason'], REASONS)}"
        )
    for name in ("note", "by"):
        if len(value[name]) > LIMIT:
            raise FacebenchError(f"{path}: {name}: {len(value[name])} characters, at most {LIMIT}")
    expected = f"{digest.short(value['record'])}.json"
    if path.name != expected:
        raise FacebenchError(f"{path}: it retracts a record whose file is {expected}; rename it")
    return value
