"""JSON as text for diffs: the outer levels take a line per item, what is inside stands on it."""

from __future__ import annotations

import json
from typing import Any

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False).encode


def dumps(value: Any, depth: int) -> str:
    """Encodes a JSON value with sorted keys and a final newline.

    Args:
        value: without NaN or infinities.
        depth: how many levels are broken into lines.
    """
    return _text(value, depth, "") + "\n"


def _text(value: Any, depth: int, indent: str) -> str:
    if depth == 0 or not value or not isinstance(value, dict | list):
        return _encode(value)
    inner = indent + "  "
    if isinstance(value, dict):
        lines = [
            f"{inner}{_encode(key)}: {_text(value[key], depth - 1, inner)}" for key in sorted(value)
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    lines = [inner + _text(item, depth - 1, inner) for item in value]
    return "[\n" + ",\n".join(lines) + f"\n{indent}]"
