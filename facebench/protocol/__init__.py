"""Protocols: frozen files that say what is asked of every entry.

A protocol fixes the dataset and its splits by digest, how many labels may be used and which
samples those are, the seeds, the metrics with their conventions, and how predictions are stored.
Its digest is of its JSON value, so the layout of the file does not matter; every trial and every
record carries it. The file of ``task/dataset/regime@version`` is
``leaderboards/protocols/task/dataset/regime@version.json``.

`rules` says how the fields fit together, `stored` how predictions are kept, `edit` drafts and
bumps, `manifest` lists the subsets, `page` shows a protocol to people.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facebench import digest, files, schema
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.protocol import rules
from facebench.protocol.rules import draw_of, subset_key
from facebench.protocol.stored import dequantise, quantise
from facebench.workspace import Workspace

__all__ = [
    "ID",
    "Protocol",
    "check_cited",
    "citing",
    "dequantise",
    "draw_of",
    "freeze",
    "load",
    "names",
    "parse",
    "path",
    "quantise",
    "read",
    "subset_key",
]

MAX_FILE = 64 << 20  # bytes; a protocol file that is larger is none
ID = re.compile(r"[a-z][a-z0-9_]*(/[a-z0-9][a-z0-9._-]*){2}@[1-9][0-9]{0,5}")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A protocol file, as read and checked.

    Attributes:
        id: ``task/dataset/regime@version``.
        title: a line for people.
        task: how predictions are scored, a name of `facebench.metrics.tasks`.
        dataset: ``name``, ``config``, ``version``.
        splits: per split ``n``, ``keys`` and ``content`` (digests); ``used`` where
            `evaluation` leaves samples out.
        regimes: ``kind``, ``values`` (ascending), ``by``, ``budget``; optionally ``steps``,
            ``strata``, ``frames``, ``repeats``.
        seeds: the seeds of every regime value; `draw_of` says which draw a seed trains on.
        subsets: digest of the sorted keys of each subset, by `subset_key`.
        adaptation: ``frozen``, ``adapted`` or ``scratch``.
        selection: ``last-step`` or ``dev``.
        preprocess: the crop that the backbone sees: ``crop``, ``size``, ``margin``.
        evaluation: what is compared with what, for tasks that need it.
        convention: the named metric convention, or None for the task's default.
        metrics: dicts of ``name``, ``unit``, ``higher_is_better``, ``range``, ``primary``,
            ``decimals``; exactly one is primary.
        predictions: how each predicted array is stored: ``dtype`` and optionally ``scale``.
        targets: digest of the arrays of test labels.
        labels: ``public`` (committed) or ``gated`` (beside the data).
        note: free text.
        digest: of the whole file's value.
        crops: digest of the first test crops, ``preprocess.digest`` of the file; None if the
            protocol does not hold them.
        dev: units taken out of train for selection: ``from``, ``rule``, ``fraction``, ``digest``.
        head: what is put on the features.
        tuning: ``space``, ``trials``, ``select_on``.
        licence: of the labels.
        cluster: what is independent in the test split, ``unit`` or ``sample``.
        tolerance: ``exact`` and optionally ``statistical``.
        reference_entry: whose scores are the ``reference`` of the metrics.
        holes: the fields that freezing fills in and that are still null.
    """

    id: str
    title: str
    task: str
    dataset: dict[str, Any]
    splits: dict[str, dict[str, Any]]
    regimes: dict[str, Any]
    seeds: list[int]
    subsets: dict[str, str | None]
    adaptation: str
    selection: str
    preprocess: dict[str, Any]
    evaluation: dict[str, Any]
    convention: str | None
    metrics: list[dict[str, Any]]
    predictions: dict[str, dict[str, Any]]
    targets: str | None
    labels: str
    note: str
    digest: str
    crops: str | None = None
    dev: dict[str, Any] | None = None
    head: str | None = None
    tuning: dict[str, Any] | None = None
    licence: str | None = None
    cluster: str | None = None
    tolerance: dict[str, Any] | None = None
    reference_entry: str | None = None
    holes: tuple[str, ...] = ()

    @property
    def primary(self) -> dict[str, Any]:
        """The metric that entries are ranked by."""
        return next(m for m in self.metrics if m["primary"])

    @property
    def frozen(self) -> bool:
        """Whether every digest is filled in; a draft is not frozen and cannot be run."""
        return not self.holes

    @property
    def public(self) -> bool:
        """Whether the test labels may be committed."""
        return self.labels == "public"

    @property
    def n(self) -> int:
        """How many test samples are predicted and scored, those of further splits included."""
        tested = (self.splits[name] for name in self.tested)
        return sum(facts.get("used") or facts["n"] for facts in tested)

    @property
    def tested(self) -> tuple[str, ...]:
        """The test splits, in the order of their predictions: ``test``, then `evaluation.also`."""
        return ("test", *self.evaluation.get("also", ()))

    def metric(self, name: str) -> dict[str, Any]:
        """The metric of a name.

        Raises:
            UsageError: the protocol has no such metric.
        """
        for metric in self.metrics:
            if metric["name"] == name:
                return metric
        names = [m["name"] for m in self.metrics]
        raise UsageError(f"{self.id} has no metric {name!r}: {nearest(name, names)}")

    def trials(self) -> list[tuple[int | float, int]]:
        """Every (regime value, seed) that is asked for, values ascending, then seeds."""
        return [(value, seed) for value in self.regimes["values"] for seed in self.seeds]


def names(workspace: Workspace) -> list[str]:
    """The ids of the protocol files of a workspace, sorted."""
    root = workspace.protocols
    ids = (p.relative_to(root).with_suffix("").as_posix() for p in root.glob("*/*/*.json"))
    return sorted(i for i in ids if ID.fullmatch(i))


def path(workspace: Workspace, protocol_id: str) -> Path:
    """Where the file of a protocol stands.

    Raises:
        UsageError: not of the form ``task/dataset/regime@version``.
    """
    if not ID.fullmatch(protocol_id):
        raise UsageError(
            f"{protocol_id!r} is not a protocol, expected task/dataset/regime@version: "
            f"{nearest(protocol_id, names(workspace))}"
        )
    return workspace.protocols / f"{protocol_id}.json"


def load(workspace: Workspace, protocol_id: str, allow_draft: bool = False) -> Protocol:
    """Reads and checks the protocol of an id.

    Args:
        workspace: where to look.
        protocol_id: ``task/dataset/regime@version``.
        allow_draft: also read a file whose digests are not all filled in.

    Raises:
        UsageError: there is no such protocol; the nearest names are given.
        FacebenchError: the file is damaged, contradicts itself, or is a draft.
    """
    where = path(workspace, protocol_id)
    if not where.is_file():
        raise UsageError(
            f"no protocol {protocol_id!r}: {nearest(protocol_id, names(workspace))}"
            f"{_draft(workspace, protocol_id)}"
        )
    protocol = parse(read(where), where, allow_draft)
    if protocol.id != protocol_id:
        raise FacebenchError(
            f"{where}: id is {protocol.id!r}, but the path says {protocol_id!r}; make them the same"
        )
    return protocol


def _draft(workspace: Workspace, protocol_id: str) -> str:
    """Says how to come to a protocol that does not exist, if its dataset's card has a draft."""
    card = workspace.datasets / protocol_id.split("/")[1] / "README.md"
    try:
        there = '"schema": "facebench/protocol-1"' in card.read_text(encoding="utf-8")
    except OSError:
        return ""
    if not there:
        return ""
    return (
        f" {workspace.relative(card)} has a draft: save it as "
        f"{workspace.relative(path(workspace, protocol_id))} with that id, prepare the dataset as "
        f"the card says, then `facebench protocol freeze {protocol_id}`"
    )


def read(where: Path) -> Any:
    """The JSON value of a protocol file, unchecked.

    Raises:
        FacebenchError: not strict JSON, or larger than any protocol.
    """
    with files.explained(where, "reading"):
        size = where.stat().st_size
    if size > MAX_FILE:
        raise FacebenchError(f"{where}: {size} bytes, a protocol has {MAX_FILE} at most")
    return files.read_json(where)


def parse(value: dict[str, Any], where: Path | str, allow_draft: bool = False) -> Protocol:
    """Makes a `Protocol` of a file's value.

    Args:
        value: the parsed JSON.
        where: what error messages call it.
        allow_draft: also take a value whose digests are not all filled in.

    Raises:
        FacebenchError: a field does not fit the schema or the other fields.
    """
    schema.check(value, "protocol", where)
    fields = {k: v for k, v in value.items() if k != "schema"}
    kind = value["regimes"]["kind"]
    number = float if kind in ("full", "fraction") else int
    for regime_value in value["regimes"]["values"]:
        if number(regime_value) != regime_value:
            raise FacebenchError(f"{where}: regimes.values: {regime_value} is no whole number")
    fields["regimes"] = value["regimes"] | {"values": [*map(number, value["regimes"]["values"])]}
    fields["seeds"] = [int(seed) for seed in value["seeds"]]
    fields["subsets"] = value["subsets"] or {}
    fields["preprocess"] = {k: v for k, v in value["preprocess"].items() if k != "digest"}
    holes = tuple(rules.holes(value))
    protocol = Protocol(
        **fields,
        digest=digest.of_json(value),
        crops=value["preprocess"].get("digest"),
        holes=holes,
    )
    for fault in rules.faults(protocol):
        raise FacebenchError(f"{where}: {fault}")
    if holes and not allow_draft:
        raise FacebenchError(
            f"{where}: a draft: {', '.join(holes[:4])}{' ...' if len(holes) > 4 else ''} not "
            f"filled in; run: facebench protocol freeze {protocol.id}"
        )
    return protocol


def citing(workspace: Workspace, protocol_id: str) -> list[Path]:
    """The record files that cite a protocol, sorted; they stand in the folder of its id."""
    return sorted(workspace.records.glob(f"{protocol_id}/*/*.json"))


def check_cited(workspace: Workspace, protocol_id: str) -> None:
    """Refuses a protocol file that is not the one its records were made under.

    Raises:
        FacebenchError: a record cites another digest; what to do.
    """
    where = path(workspace, protocol_id)
    cited = citing(workspace, protocol_id)
    if not cited:
        return
    found = digest.of_json(read(where))
    for file in cited:
        claimed = schema.read(file, "record")["protocol"]["digest"]
        if claimed != found:
            raise FacebenchError(
                f"{where}: {len(cited)} records cite this protocol, and {workspace.relative(file)} "
                f"was made under digest {digest.short(claimed)}, not {digest.short(found)}: a "
                f"cited protocol is frozen; restore the file (git checkout), and make the changed "
                f"one with: facebench protocol bump {protocol_id}"
            )


def freeze(workspace: Workspace, draft_path: Path, facts: Mapping[str, Any]) -> Protocol:
    """Fills the nulls of a draft and writes it as the protocol of its id.

    Args:
        workspace: where the protocol goes.
        draft_path: the draft; often already at its place in the workspace.
        facts: ``{"splits": {split: {"n", "keys", "content"}}, "subsets": {key: digest},
            "targets": digest}``, and ``dev``, ``list`` and ``crops`` (digests) where the draft
            has them, as the data says them.

    Returns:
        The frozen protocol.

    Raises:
        FacebenchError: the draft is damaged, the facts contradict a value that is not null or
            leave one null, or another protocol stands at the place; nothing is written.
    """
    value = read(draft_path)
    parse(value, draft_path, allow_draft=True)
    frozen = dict(value)
    frozen["splits"] = {
        split: {
            name: _fill(draft_path, f"splits.{split}.{name}", old, known.get(name))
            for name, old in kept.items()
        }
        for split, kept in value["splits"].items()
        for known in [facts["splits"].get(split, {})]
    }
    frozen["subsets"] = {
        key: _fill(draft_path, f"subsets.{key}", (value["subsets"] or {}).get(key), sha)
        for key, sha in ((value["subsets"] or {}) | dict(facts["subsets"])).items()
    }
    frozen["targets"] = _fill(draft_path, "targets", value["targets"], facts["targets"])
    for name, fact in (("dev", "dev"), ("evaluation", "list"), ("preprocess", "crops")):
        part = value.get(name) or {}
        if "digest" in part:
            sha = _fill(draft_path, f"{name}.digest", part["digest"], facts.get(fact))
            frozen[name] = part | {"digest": sha}
    protocol = parse(frozen, draft_path)
    place = path(workspace, protocol.id)
    if place.is_file() and place.resolve() != draft_path.resolve():
        if load(workspace, protocol.id, allow_draft=True).digest != protocol.digest:
            raise FacebenchError(
                f"{place}: another protocol already has this id; it is frozen: "
                "give the draft the next version after the @"
            )
        return protocol
    if frozen != value or not place.is_file():
        files.write_json(place, frozen)
    return protocol


def _fill(where: Path, field: str, old: Any, new: Any) -> Any:
    if old is None:
        return new
    if new is not None and new != old:
        raise FacebenchError(
            f"{where}: {field} is frozen as {old}, but the data says {new}; restore the data, "
            "or make a new version of the protocol"
        )
    return old
