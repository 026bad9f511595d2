"""A record's experiment as an experiment file: what it changes of `facebench.config.base`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facebench import config as configs
from facebench import digest
from facebench.leaderboard import trial


def overrides(semantic: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What a config says otherwise than `base`, as (``optim.lr``, value).

    First what it is called and asked, then the sections by name.
    """
    known = configs.base().to_dict()
    first = [key for key in ("entry", "kind", "protocol") if key in semantic]
    ordered = {key: semantic[key] for key in [*first, *sorted(set(semantic) - set(first))]}
    return _within("", ordered, known)


def _within(path: str, value: Mapping[str, Any], known: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = []
    for key, inner in value.items():
        name, default = f"{path}.{key}" if path else key, known.get(key)
        if isinstance(inner, Mapping) and isinstance(default, Mapping):
            found += _within(name, inner, default)
        elif _plain(inner) != _plain(default):
            found.append((name, inner))
    return found


def _plain(value: Any) -> Any:
    """Tuples as the lists that JSON knows, down to the leaves."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs between two configs, ``optim.lr 0.001 -> 0.002``, as `trial.staleness` says it.

    A default that only one of the two has, since the other reads no such key, is left out.
    """
    known = _plain(configs.base().to_dict())
    idle = {*trial.staleness(known, {}), *trial.staleness({}, known)}
    return [line for line in trial.staleness(a, b) if line not in idle]


def lines(semantic: Mapping[str, Any]) -> list[str]:
    """`overrides` as lines of Python."""
    return [f"config.{path} = {value!r}" for path, value in overrides(semantic)]


def experiment(semantic: Mapping[str, Any], record: str) -> str:
    """An experiment file that asks what a record answers, to the same config digest.

    Args:
        semantic: the record's config.
        record: its id.
    """
    body = "\n".join(f"    {line}" for line in lines(semantic))
    return (
        f'"""{semantic["entry"]} under {semantic["protocol"]}, as record {digest.short(record)} '
        'has it."""\n\n'
        "from facebench.config import base\n\n\n"
        f'def get_config(arg=""):\n    config = base()\n{body}\n    return config\n'
    )
