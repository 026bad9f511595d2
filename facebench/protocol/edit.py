"""Drafting protocol files: from another protocol, or as the next version of one.

A draft is a file with nulls where the data will say a digest or a count; freezing fills them and
changes nothing else. What is drafted from is never written.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from facebench import digest, files
from facebench.errors import UsageError, nearest
from facebench.protocol import Protocol, citing, load, names, parse, path, read
from facebench.workspace import Workspace


def draft_of(value: Mapping[str, Any], protocol_id: str, changes: Sequence[str]) -> dict[str, Any]:
    """A protocol's value as a draft under another id: what the data says is null again.

    Args:
        value: of the protocol to start from.
        protocol_id: of the draft; its first part is the task.
        changes: ``field=value`` or ``field.part=value``; the value is JSON, or else a text;
            ``field=`` with nothing removes it. Items of lists go by number.

    Raises:
        UsageError: a change that names nothing.
    """
    made = copy.deepcopy(dict(value)) | {"id": protocol_id, "task": protocol_id.split("/")[0]}
    for facts in made["splits"].values():
        facts.update(dict.fromkeys(facts))
    made["subsets"] = made["targets"] = made["preprocess"]["digest"] = None
    if isinstance(made["evaluation"].get("gallery"), list):
        del made["evaluation"]["gallery"]  # positions in another test split
    if "dev" in made:
        made["dev"]["digest"] = None
    for change in changes:
        _apply(made, change)
    splits = made["splits"] if isinstance(made.get("splits"), dict) else {}
    if isinstance(made.get("dev"), dict):
        made["dev"].setdefault("digest", None)
        splits.pop("dev", None)  # one of the two
    evaluation = made["evaluation"] if isinstance(made.get("evaluation"), dict) else {}
    listed = str(evaluation.get("pairs", "")).startswith("list:")
    evaluation.pop("digest", None)
    if listed:
        evaluation["digest"] = None
    also = evaluation.get("also", ())
    for name in ("test", *(also if isinstance(also, list) else ())):
        facts = splits.setdefault(name, {"n": None, "keys": None, "content": None})
        if isinstance(facts, dict):
            facts.pop("used", None)
            if "classes" in evaluation or (listed and name == "test"):
                facts["used"] = None
    return made


def _apply(made: dict[str, Any], change: str) -> None:
    field, equals, text = change.partition("=")
    if not equals or not field:
        raise UsageError(f"--set={change}: expected FIELD=VALUE, such as --set=seeds=[0,1,2]")
    *outer, last = field.split(".")
    inner: Any = made
    for i, part in enumerate(outer):
        if isinstance(inner, dict):
            inner = inner.setdefault(part, {})
        else:
            inner = _item(inner, part, change, ".".join(outer[:i]))
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = text
    if isinstance(inner, list):
        _item(inner, last, change, ".".join(outer))
        inner[int(last)] = value
    elif not isinstance(inner, dict):
        raise UsageError(f"--set={change}: {'.'.join(outer)} is {inner!r}, it has no parts")
    elif text == "":
        if last not in inner:
            raise UsageError(f"--set={change}: there is no {field!r}: {nearest(last, inner)}")
        del inner[last]
    else:
        inner[last] = value


def _item(inner: Any, part: str, change: str, where: str) -> Any:
    if not isinstance(inner, list):
        raise UsageError(f"--set={change}: {where} is {inner!r}, it has no parts")
    if not part.isdecimal() or int(part) >= len(inner):
        raise UsageError(f"--set={change}: {where} has items 0 to {len(inner) - 1}, not {part!r}")
    return inner[int(part)]


Splits = Callable[[Protocol], Mapping[str, Mapping[str, Any]] | None]


def new(
    workspace: Workspace,
    source_id: str,
    protocol_id: str,
    changes: Sequence[str] = (),
    splits: Splits = lambda draft: None,
) -> Protocol:
    """Writes a draft that starts from another protocol.

    Args:
        workspace: the workspace.
        source_id: the protocol to copy.
        protocol_id: of the draft.
        changes: see `draft_of`.
        splits: what the data says of the splits of a draft, None where it is not here.

    Returns:
        the draft.

    Raises:
        UsageError: a name or change that is wrong, or the id is taken.
        FacebenchError: what would be written is no protocol; nothing is written.
    """
    load(workspace, source_id, allow_draft=True)
    place = path(workspace, protocol_id)
    if place.exists():
        last = latest(workspace, protocol_id)
        raise UsageError(
            f"{protocol_id} is there already; choose another name, or make the next version: "
            f"facebench protocol bump {last}"
        )
    value = draft_of(read(path(workspace, source_id)), protocol_id, changes)
    draft = parse(value, f"the draft of {protocol_id}", allow_draft=True)
    if draft.id != protocol_id:
        raise UsageError(f"--set cannot change the id; it is --id={protocol_id}")
    if (known := splits(draft)) is not None:
        old = value["splits"]
        value["splits"] = {
            name: {fact: facts[fact] for fact in ("n", "keys", "content")}
            | ({"used": None} if "used" in old.get(name, {}) else {})
            for name, facts in known.items()
            if not (name == "dev" and value.get("dev"))
        }
        draft = parse(value, f"the draft of {protocol_id}", allow_draft=True)
    files.write_json(place, value)
    return draft


def latest(workspace: Workspace, protocol_id: str) -> str:
    """The latest version of a protocol that there is, by number; the id itself if none."""
    name = protocol_id.partition("@")[0]
    versions = [int(i.partition("@")[2]) for i in names(workspace) if i.partition("@")[0] == name]
    return f"{name}@{max(versions)}" if versions else protocol_id


def bump(
    workspace: Workspace,
    protocol_id: str,
    changes: Sequence[str] = (),
    splits: Splits = lambda draft: None,
) -> tuple[Protocol, list[str]]:
    """Writes the next version of a protocol as a draft; the old one stays as it is.

    Args:
        workspace: the workspace.
        protocol_id: the latest version.
        changes: see `draft_of`.
        splits: see `new`.

    Returns:
        the draft, and one line per field in which it differs from the old version.

    Raises:
        UsageError: there is a later version, or the protocol is a draft itself.
        FacebenchError: what would be written is no protocol; nothing is written.
    """
    old = load(workspace, protocol_id, allow_draft=True)
    if (last := latest(workspace, protocol_id)) != protocol_id:
        raise UsageError(f"{protocol_id} is not the latest version; bump {last}")
    if not old.frozen and not citing(workspace, protocol_id):
        raise UsageError(
            f"{protocol_id} is a draft that nothing was made under: edit "
            f"{workspace.relative(path(workspace, protocol_id))} itself"
        )
    name, _, version = protocol_id.partition("@")
    draft = new(workspace, protocol_id, f"{name}@{int(version) + 1}", changes, splits)
    before, after = (read(path(workspace, i)) for i in (protocol_id, draft.id))
    return draft, list(differences(before, after))


def differences(before: Any, after: Any, name: str = "") -> Iterator[str]:
    """One line for each field in which two protocol files differ, in the order of their names."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            field = f"{name}.{key}" if name else key
            if key not in after:
                yield f"{field}: {_shown(before[key])} -> (removed)"
            elif key not in before:
                yield f"{field}: (new) -> {_shown(after[key])}"
            else:
                yield from differences(before[key], after[key], field)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (old, new_) in enumerate(zip(before, after)):
            yield from differences(old, new_, f"{name}[{i}]")
    elif before != after:
        yield f"{name}: {_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if digest.PREFIX in text and isinstance(value, str):
        return digest.short(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
