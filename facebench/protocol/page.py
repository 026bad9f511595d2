"""A protocol for people: what is asked, of which data, with which labels, and who answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from facebench import digest
from facebench.protocol import (
    Protocol,
    citing,
    draw_of,
    load,
    manifest,
    path,
    read,
    subset_key,
)
from facebench.workspace import Workspace

SHOWN = 12  # classes of a subset that a line names


def facts(workspace: Workspace, protocol_id: str) -> dict[str, Any]:
    """What there is to know of a protocol, as a JSON value.

    Returns:
        ``protocol``, the file as it stands; ``digest``, null for a draft; ``missing``, the fields
        of a draft to be filled in; ``subsets``: per regime value and seed its ``value``, ``seed``,
        ``draw``, ``digest`` and, where there is a manifest, ``samples``, ``units``, ``classes``;
        ``manifest`` and ``records``, paths from the workspace.

    Raises:
        UsageError: no such protocol.
        FacebenchError: the file or its manifest is damaged.
    """
    of = load(workspace, protocol_id, allow_draft=True)
    listed = manifest.read(workspace, of) if of.frozen else None
    where = manifest.place(workspace, of.id)
    return {
        "protocol": read(path(workspace, protocol_id)),
        "digest": of.digest if of.frozen else None,
        "missing": list(of.holes),
        "subsets": list(_subsets(of, listed)),
        "manifest": where.relative_to(workspace.root).as_posix() if listed else None,
        "records": [
            file.relative_to(workspace.root).as_posix() for file in citing(workspace, of.id)
        ],
    }


def _subsets(of: Protocol, listed: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    for value, seed in of.trials():
        sha = of.subsets.get(subset_key(value, seed))
        counts = listed["counts"][sha] if listed and sha else {}
        draw = draw_of(of.regimes, seed)
        yield {"value": value, "seed": seed, "draw": draw, "digest": sha, **counts}


def text(found: Mapping[str, Any]) -> str:
    """The page of what `facts` found."""
    of = found["protocol"]
    lines = [f"{of['id']}: {of['title']}", ""]
    if found["missing"]:
        lines += [f"A DRAFT, not filled in: {', '.join(found['missing'])}", ""]
    lines += [f"{name:<12} {value}" for name, value in _rows(of) if value]
    for split, known in sorted(of["splits"].items()):
        used = f", {known['used']} of them used" if known.get("used") else ""
        n = "?" if known["n"] is None else known["n"]
        lines.append(f"{'split':<12} {split}: {n} samples{used}  keys {_short(known['keys'])}")
    lines += ["", "metrics"]
    for metric in of["metrics"]:
        better = "higher" if metric["higher_is_better"] else "lower"
        rest = "".join(
            f", {name} {metric[name]}" for name in ("chance", "reference") if name in metric
        )
        mark = "*" if metric["primary"] else " "
        unit = f" {metric['unit']}" if metric["unit"] else ""
        lines.append(f"  {mark} {metric['name']}{unit}: {better} is better{rest}")
    lines += ["", f"subsets ({of['regimes']['kind']})"]
    lines += _table(found)
    if not found["manifest"]:
        lines.append("  not counted: no manifest; facebench protocol freeze writes it")
    lines += ["", f"digest       {found['digest'] or '(none: a draft)'}"]
    lines.append(f"targets      {of['targets'] or '(none)'}")
    lines.append(f"manifest     {found['manifest'] or '(none)'}")
    records = found["records"]
    lines.append(f"records      {'none cite it' if not records else len(records)}")
    lines += [f"  {record}" for record in records]
    if of["note"]:
        lines += ["", of["note"]]
    return "\n".join(lines)


def _rows(of: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    data, regimes = of["dataset"], of["regimes"]
    yield "task", of["task"] + (f", convention {of['convention']}" if of["convention"] else "")
    yield "dataset", f"{data['name']}/{data['config']} {data['version']}"
    yield "labels", of["labels"] + (f", {of['licence']}" if of.get("licence") else "")
    yield "input", ", ".join(f"{k} {v}" for k, v in of["preprocess"].items() if k != "digest")
    asked = {k: v for k, v in of["evaluation"].items() if k not in ("digest", "gallery")}
    if gallery := of["evaluation"].get("gallery"):
        asked["gallery"] = gallery if isinstance(gallery, str) else f"of {len(gallery)} samples"
    yield "evaluation", "; ".join(f"{name} {_said(value)}" for name, value in asked.items())
    drawn = f"{regimes['kind']} {_said(regimes['values'])} by {regimes['by']}"
    if regimes.get("strata"):
        drawn += f", {regimes['strata']['rule']} strata of {regimes['strata']['field']}"
    if regimes.get("frames"):
        drawn += ", frames: " + ", ".join(f"{k} {v}" for k, v in regimes["frames"].items())
    yield "labels used", drawn
    yield "budget", regimes["budget"] + (f": {regimes['steps']}" if regimes.get("steps") else "")
    repeats = f", {regimes['repeats']} for each draw" if "repeats" in regimes else ""
    yield "seeds", _said(of["seeds"]) + repeats
    yield "adaptation", of["adaptation"] + (f", head {of['head']}" if of.get("head") else "")
    carved = of.get("dev")
    share = f", carved out of train: {carved['fraction']} of its units" if carved else ""
    yield "selection", of["selection"] + share
    if tuning := of.get("tuning"):
        space = ", ".join(f"{name} {value}" for name, value in sorted(tuning["space"].items()))
        yield "tuning", f"{tuning['trials']} trials of {space}, selected on {tuning['select_on']}"
    yield "cluster", of.get("cluster", "")
    if tolerance := of.get("tolerance"):
        again = tolerance.get("statistical")
        more = f"; run again: {again['agreement']} agreement" if again else ""
        yield "tolerance", f"{tolerance['exact']}{more}"
    yield "reference", of.get("reference_entry", "")


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(sha: str | None) -> str:
    return digest.short(sha) if sha else "(to be filled in)"


def _table(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {'value':>8}  {'seed':>4}  {'samples':>8}  {'units':>6}  digest"
    last = None
    for row in found["subsets"]:
        counts = f"{row.get('samples', '-'):>8}  {row.get('units', '-'):>6}"
        yield f"  {row['value']:>8}  {row['seed']:>4}  {counts}  {_short(row['digest'])}"
        if (classes := row.get("classes")) and classes != last:
            named = [f"{name} {n}" for name, n in classes.items()]
            more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
            yield f"  {'':>14}  {', '.join(named[:SHOWN])}{more}"
            last = classes
