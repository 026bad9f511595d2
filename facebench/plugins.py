"""Plug-ins are import paths: ``package.module:Symbol``, ``folder/file.py:Symbol`` or a short name.

There is no registry: a short name is a line of a table, a new file needs no table at all.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from facebench.errors import FacebenchError, UsageError, nearest


def load_file(path: Path, name: str | None = None) -> ModuleType:
    """Imports a Python file by path, once per path.

    Raises:
        FacebenchError: the file is missing or fails while it is imported.
    """
    path = path.resolve()
    if not path.is_file():
        raise FacebenchError(f"{path}: no such file")
    name = name or f"facebench_file_{path.stem}_{zlib.crc32(bytes(path)):08x}"
    if (module := sys.modules.get(name)) is not None and module.__file__ == str(path):
        return module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FacebenchError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (FacebenchError, KeyboardInterrupt, SystemExit)):
            raise
        raise FacebenchError(f"{path}: {type(error).__name__} on import: {error}") from error
    return module


def resolve(what: str, kind: str, short_names: Mapping[str, str], root: Path | None = None) -> Any:
    """The class or function that a name in a config stands for.

    Args:
        what: ``"vit"``, ``"my_lab.nets:Net"`` or ``"models/net.py:Net"``.
        kind: ``model``, ``task``, ... for messages.
        short_names: the built-in names and the import paths they stand for.
        root: the folder that paths of files start from.

    Raises:
        UsageError: no such short name, module or symbol; the nearest names are given.
    """
    if ":" not in what:
        if what not in short_names:
            raise UsageError(
                f"no {kind} is named {what!r}: {nearest(what, short_names)} "
                f"(or give an import path, 'package.module:Symbol')"
            )
        what = short_names[what]
    where, symbol = what.rsplit(":", 1)
    if where.endswith(".py"):
        module = load_file((root or Path.cwd()) / where)
    elif not all(part.isidentifier() for part in where.split(".")):
        raise UsageError(f"{kind} {what!r}: {where!r} names no module; write package.module:Symbol")
    else:
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name and not f"{where}.".startswith(f"{error.name}."):
                raise
            raise UsageError(f"{kind} {what!r}: no module {where!r} can be imported") from error
    if not hasattr(module, symbol):
        names = [n for n in vars(module) if not n.startswith("_")]
        raise UsageError(f"{kind} {what!r}: {where} has no {symbol!r}; {nearest(symbol, names)}")
    return getattr(module, symbol)


def parameters(target: Any) -> list[str]:
    """The keyword names that a class or function takes (a Flax module's fields)."""
    hidden = {"self", "parent", "name"}
    return [
        p.name
        for p in inspect.signature(target).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in hidden
    ]


def build(target: Any, kind: str, kwargs: Mapping[str, Any], *args: Any) -> Any:
    """Calls `target(*args, **kwargs)` once every keyword is known to it.

    Raises:
        UsageError: a keyword that `target` does not take; the nearest names are given.
    """
    known = parameters(target)
    for key in kwargs:
        if key not in known:
            raise UsageError(
                f"{kind} {target.__name__} takes no {key!r}: {nearest(key, known[len(args) :])}"
            )
    return target(*args, **kwargs)
