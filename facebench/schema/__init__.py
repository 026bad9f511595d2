"""The JSON Schemas of what is committed, and one clear line for what does not fit them.

Each file here is one version of one kind (``record-1.json``); a change that older readers would
misread is a new version. The keywords used are those of JSON Schema 2020-12.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from facebench import digest, files
from facebench.errors import FacebenchError, nearest
from facebench.schema import fast

FOLDER = Path(__file__).parent
VERSIONS = {"attestation": 1, "protocol": 1, "record": 1, "reported": 1, "trial": 1}
SHOWN = 80  # characters of a wrong value that a message repeats


def read(path: Path, kind: str) -> dict[str, Any]:
    """Reads a JSON file and checks it against the schema of its kind.

    Args:
        path: the file.
        kind: one of `VERSIONS`.

    Raises:
        FacebenchError: not strict JSON, another kind, a later version, or a field that does not
            fit; the message names the file and the field.
    """
    value = files.read_json(path)
    check(value, kind, path)
    return value


def check(value: Any, kind: str, where: Path | str) -> None:
    """Checks a JSON value against the schema of its kind.

    Args:
        value: the parsed value.
        kind: one of `VERSIONS`.
        where: what error messages call it.

    Raises:
        FacebenchError: see `read`.
    """
    try:
        digest.canonical(value)
    except ValueError as error:
        raise FacebenchError(f"{where}: {error}") from error
    _check_version(value, kind, where)
    if _fast(kind)(value):
        return
    faults = sorted(
        _validator(kind).iter_errors(value), key=lambda e: (len(e.absolute_path), str(e.path))
    )
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise FacebenchError(f"{where}: {_explain(faults[0])}{more}")


def _check_version(value: Any, kind: str, where: Path | str) -> None:
    """Says "needs a newer facebench" before a schema of today complains about tomorrow's file."""
    expected = f"facebench/{kind}-{VERSIONS[kind]}"
    found = value.get("schema") if isinstance(value, dict) else None
    if found == expected:
        return
    match = re.fullmatch(rf"facebench/{kind}-([0-9]{{1,6}})", str(found))
    if match and int(match[1]) > VERSIONS[kind]:
        raise FacebenchError(
            f"{where}: schema {found!r} is later than {expected!r}, the latest that this "
            "facebench reads; install a newer facebench"
        )
    raise FacebenchError(
        f"{where}: not a {kind} file: its 'schema' is {_shown(found)}, expected {expected!r}"
    )


@functools.cache
def _schema(kind: str) -> dict[str, Any]:
    text = (FOLDER / f"{kind}-{VERSIONS[kind]}.json").read_text(encoding="utf-8")
    value: dict[str, Any] = json.loads(text)
    return value


@functools.cache
def _fast(kind: str) -> Callable[[Any], bool]:
    """Whether a value surely fits; see `fast`."""
    return fast.compiled(_schema(kind))


@functools.cache
def _validator(kind: str) -> Any:
    """A compiled validator; jsonschema is imported here, only where something does not fit."""
    import jsonschema

    def pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[Any]:
        if isinstance(instance, str) and not fast.pattern(pattern).search(instance):
            yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")

    strict = jsonschema.validators.extend(
        jsonschema.Draft202012Validator, validators={"pattern": pattern}
    )
    return strict(_schema(kind))


def _explain(fault: Any) -> str:
    """One line for a validation error: the field, what was found, what was expected."""
    field = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in fault.absolute_path)
    field = field.lstrip(".") or "the file"
    found, rule = fault.instance, fault.validator_value
    if fault.validator == "additionalProperties" and isinstance(found, dict):
        known = fault.schema.get("properties", {})
        extra = next(k for k in found if k not in known)
        return f"{field}: unknown field {_shown(extra)}: {nearest(extra, known)}"
    if fault.validator == "required":
        missing = next(k for k in rule if k not in found)
        return f"{field}: field {missing!r} is missing"
    if fault.validator == "enum":
        hint = nearest(found, rule) if isinstance(found, str) else f"there are: {rule}"
        return f"{field}: {_shown(found)} is not one of its values: {hint}"
    if fault.validator == "type":
        kinds = rule if isinstance(rule, str) else " or ".join(rule)
        return f"{field}: found {_shown(found)}, expected {kinds}"
    if fault.validator == "pattern":
        return f"{field}: {_shown(found)} has the wrong form, expected {rule}"
    return f"{field}: {_shown(found)} breaks {fault.validator} = {json.dumps(rule)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
