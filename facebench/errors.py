"""Errors that name the thing, what was found, what was expected and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FacebenchError(Exception):
    """A fault the user can mend; its message is all that a command prints (exit code 1)."""


class UsageError(FacebenchError):
    """A wrong flag, name or argument (exit code 2)."""


def nearest(name: str, names: Iterable[str], n: int = 3) -> str:
    """Says which of `names` a mistyped `name` may have meant, or lists what there is.

    Args:
        name: what was typed.
        names: what would have been right.
        n: how many close names to show at most.

    Returns:
        A sentence that ends an error message, such as ``did you mean 'wflw'?``.
    """
    known = sorted(set(names))
    close = difflib.get_close_matches(name, known, n=n, cutoff=0.55)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    if not known:
        return "there are none"
    return "there are: " + ", ".join(known)
