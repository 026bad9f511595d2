"""What a workspace holds, and getting it ready: lists, prepared data, protocols."""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facebench import files, metrics, models, probes, tasks
from facebench import protocol as protocols
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.protocol import Protocol, edit, manifest, page
from facebench.workspace import Workspace

KINDS = ("datasets", "experiments", "models", "probes", "protocols", "tasks")


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0].rstrip(".") if (text or "").strip() else ""


def _about(path: Path, symbol: str | None = None) -> str:
    """The first line of a file's or a class's docstring, read without importing it."""
    try:
        tree = ast.parse(path.read_text())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return "(cannot be read)"
    if symbol is None:
        return _first_line(ast.get_docstring(tree))
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == symbol:
            return _first_line(ast.get_docstring(node))
    return ""


def _built_in(table: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = []
    for name, where in sorted(table.items()):
        module, symbol = where.split(":")
        found = importlib.util.find_spec(module)
        about = _about(Path(found.origin), symbol) if found and found.origin else ""
        rows.append({"name": name, "path": where, "about": about})
    return rows


def _datasets(ws: Workspace) -> list[dict[str, Any]]:
    from facebench.data import source

    rows = []
    for name in source.names(ws):
        state = {}
        for mark in sorted(ws.data.glob(f"{name}/*/*/facebench.json")):
            facts = files.read_json(mark)
            counts = {split: values["n"] for split, values in facts["splits"].items()}
            state[f"{facts['config']} {facts['version']}"] = counts
        about = _about(ws.datasets / name / f"{name}_dataset_builder.py")
        rows.append({"name": name, "about": about, "prepared": state})
    return rows


def _protocols(ws: Workspace) -> list[dict[str, Any]]:
    rows = []
    for name in protocols.names(ws):
        one = protocols.load(ws, name, allow_draft=True)
        entries = sorted({p.parent.name for p in (ws.records / name).glob("*/*.json")})
        rows.append({"name": name, "about": one.title, "entries": entries})
    return rows


_MANY = 4  # configurations that are still made all at once


def listing(ws: Workspace, kind: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """What there is, by kind.

    Args:
        ws: the workspace.
        kind: one of `KINDS`, or None for all.

    Raises:
        UsageError: another kind.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"cannot list {kind!r}: {nearest(kind, KINDS)}")

    def experiments() -> list[dict[str, Any]]:
        return [
            {"name": path.relative_to(ws.root).as_posix(), "about": _about(path)}
            for path in sorted(ws.experiments.glob("**/*.py"))
        ]

    def judged() -> list[dict[str, Any]]:
        return [{"name": t, "conventions": metrics.conventions(t)} for t in metrics.tasks()]

    makers = {
        "datasets": lambda: _datasets(ws),
        "experiments": experiments,
        "models": lambda: _built_in(models.BUILT_IN),
        "probes": lambda: _built_in(probes.BUILT_IN),
        "protocols": lambda: _protocols(ws),
        "tasks": lambda: _built_in(tasks.BUILT_IN) if kind is None else _task_rows(judged()),
    }
    return {name: makers[name]() for name in KINDS if kind in (None, name)}


def _task_rows(judged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = {row["name"]: row for row in _built_in(tasks.BUILT_IN)}
    return [known.get(row["name"], {"name": row["name"]}) | row for row in judged]


def text(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """A listing for people."""
    blocks = []
    for kind, rows in found.items():
        width = max((len(row["name"]) for row in rows), default=0)
        lines = [kind]
        for row in rows:
            lines.append(f"  {row['name']:<{width}}  {row.get('about', '')}".rstrip())
            for config, counts in row.get("prepared", {}).items():
                sizes = ", ".join(f"{n} {split}" for split, n in counts.items())
                lines.append(f"  {'':<{width}}  prepared: {config} ({sizes})")
            if "prepared" in row and not row["prepared"]:
                lines.append(f"  {'':<{width}}  not prepared")
            if row.get("conventions"):
                lines.append(f"  {'':<{width}}  conventions: {', '.join(row['conventions'])}")
            if row.get("entries"):
                lines.append(f"  {'':<{width}}  entries: {', '.join(row['entries'])}")
        blocks.append("\n".join(lines if rows else [*lines, "  (none)"]))
    return "\n\n".join(blocks)


def _configs(ws: Workspace, name: str) -> tuple[str, list[str]]:
    from facebench.data import source

    name, _, config = name.partition("/")
    known = source.configs(ws, name)
    if config and config not in known:
        raise UsageError(f"dataset {name} has no config {config!r}: {nearest(config, known)}")
    return name, [config] if config else known


def prepare(ws: Workspace, name: str, source_dir: Path | None) -> int:
    """Builds a dataset (``NAME`` or ``NAME/CONFIG``) and says what it has.

    The test labels of protocols on it are written where the judge looks for them.
    """
    from facebench.data import source, targets

    name, configs = _configs(ws, name)
    if len(configs) > _MANY:
        raise UsageError(
            f"dataset {name} has {len(configs)} configurations, of which each takes time and room; "
            f"name one: facebench data prepare {name}/CONFIG with CONFIG of {', '.join(configs)}"
        )
    for config in configs:
        dataset = source.prepare(ws, name, config, source_dir)
        sizes = ", ".join(f"{split} {len(s)}" for split, s in dataset.splits.items())
        print(f"{dataset.label} {dataset.version}: {sizes}  ({ws.relative(dataset.folder)})")
        for protocol_id in protocols.names(ws):
            one = protocols.load(ws, protocol_id, allow_draft=True)
            wanted = {"name": name, "config": config, "version": dataset.version}
            place = ws.targets(protocol_id, one.public)
            if one.targets and one.dataset == wanted and not place.is_file():
                targets.check_dataset(one, dataset)
                targets.write(ws, one, dataset)
                print(f"  wrote the test labels of {protocol_id}: {ws.relative(place)}")
    return 0


def verify(ws: Workspace, name: str, source_dir: Path | None) -> int:
    """Reads a prepared dataset again and says what differs from its digests."""
    from facebench.data import source

    name, configs = _configs(ws, name)
    wrong = 0
    for config in configs:
        if len(configs) > 1 and not source.prepared(ws, name, config):
            print(f"{name}/{config}: not prepared")
            continue
        lines = source.verify(ws, name, config)
        wrong += len(lines)
        print(f"{name}/{config}: {'as it was built' if not lines else 'DIFFERS'}")
        for line in lines:
            print(f"  {line}")
    return 1 if wrong else 0


def freeze(ws: Workspace, protocol_id: str) -> int:
    """Fills the nulls of a drafted protocol from its dataset; writes its targets and manifest."""
    from facebench.data import source, targets
    from facebench.leaderboard import judge

    draft = protocols.load(ws, protocol_id, allow_draft=True)
    protocols.check_cited(ws, protocol_id)
    if faults := judge.misfits(draft):
        raise FacebenchError(f"{protocols.path(ws, protocol_id)}: {'; '.join(faults)}")
    path = protocols.path(ws, protocol_id)
    name, config, version = (draft.dataset[part] for part in ("name", "config", "version"))
    if source.prepared(ws, name, config, version):
        dataset = source.open(ws, name, config, version)
    elif (dataset := source.prepare(ws, name, config)).version != version:
        raise FacebenchError(
            f"{path}: dataset.version is {version!r}, but the builder of {name} makes "
            f"{dataset.version!r}; name that version in the draft"
        )
    value = files.read_json(path)
    if value["evaluation"].get("pairs") == "all" and not value["evaluation"].get("gallery"):
        units = dataset.split("test").units  # the gallery: the first sample of each unit
        value["evaluation"]["gallery"] = sorted(
            {unit: i for i, unit in reversed([*enumerate(units)])}.values()
        )
        files.write_json(path, value)
        draft = protocols.load(ws, protocol_id, allow_draft=True)
    facts = targets.facts(draft, dataset)
    frozen = protocols.freeze(ws, path, facts)
    targets.write(ws, frozen, dataset)
    listed = manifest.write(ws, frozen, facts["keys"], facts["counts"])
    print(f"{frozen.id}: frozen, digest {frozen.digest}")
    print(f"targets: {ws.relative(ws.targets(frozen.id, frozen.public))}")
    print(f"subsets: {ws.relative(listed)}")
    return 0


def _splits(ws: Workspace) -> edit.Splits:
    """What the prepared data says of a draft's splits."""

    def known(draft: Protocol) -> dict[str, Any] | None:
        from facebench.data import source

        wanted = draft.dataset
        if not source.prepared(ws, wanted["name"], wanted["config"], wanted["version"]):
            return None
        return source.open(ws, wanted["name"], wanted["config"], wanted["version"]).facts["splits"]

    return known


def _drafted(ws: Workspace, draft: Protocol) -> None:
    print(f"wrote the draft {ws.relative(protocols.path(ws, draft.id))}")
    print(f"to be filled in: {', '.join(draft.holes)}")
    print(f"next: look it over, then facebench protocol freeze {draft.id}")


def new(ws: Workspace, source_id: str, protocol_id: str, changes: Sequence[str]) -> int:
    """Drafts a protocol from another one."""
    _drafted(ws, edit.new(ws, source_id, protocol_id, changes, _splits(ws)))
    return 0


def bump(ws: Workspace, protocol_id: str, changes: Sequence[str]) -> int:
    """Drafts the next version of a protocol and prints what differs."""
    draft, lines = edit.bump(ws, protocol_id, changes, _splits(ws))
    print("\n".join(lines))
    _drafted(ws, draft)
    return 0


def show(ws: Workspace, protocol_id: str, as_json: bool) -> int:
    """Prints a protocol for people, or as JSON."""
    facts = page.facts(ws, protocol_id)
    print(json.dumps(facts, indent=2) if as_json else page.text(facts))
    return 0
