"""What verbs share: how one is declared, and the flags, words and numbers that several take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from facebench import workspace as workspace_lib
from facebench.errors import UsageError

Values = flags.FlagValues


@dataclass(frozen=True)
class Verb:
    """A command: what it says of itself, its flags, and the function that does it."""

    summary: str
    usage: str
    define: Callable[[Values, Sequence[str]], None]
    call: Callable[[Values, list[str]], int]


def value_of(values: Values, name: str) -> Any:
    """The value of a flag."""
    return values[name].value


def workspace(values: Values) -> workspace_lib.Workspace:
    """The workspace that the flags name, or the one that is found."""
    start = Path(value_of(values, "workspace")) if value_of(values, "workspace") else None
    data = Path(value_of(values, "data_dir")) if value_of(values, "data_dir") else None
    return workspace_lib.find(start, data)


def common(values: Values) -> None:
    """Defines the flags that every verb with a workspace has."""
    flags.DEFINE_string(
        "workspace", None, "Folder with WORKSPACE.md; default: found upwards.", values
    )
    flags.DEFINE_string(
        "data_dir", None, "Prepared datasets; default: $FACEBENCH_DATA or WORKSPACE/data.", values
    )


def expect(args: list[str], low: int, high: int, usage: str) -> list[str]:
    """The words of a command, once there are neither too few nor too many.

    Raises:
        UsageError: there are.
    """
    if not low <= len(args) <= high:
        found = f"unexpected {args[high]!r}" if len(args) > high else "too few arguments"
        raise UsageError(f"{found}; usage: facebench {usage}")
    return args
