"""Protocols: frozen files that say what is asked of every entry.

A protocol fixes the dataset and its splits by digest, how many labels may be used and which
samples those are, the seeds, the metrics with their conventions, and how predictions are stored.
Its digest is of its JSON value, so the layout of the file does not matter; every trial and every
record carries it. The file of ``task/dataset/regime@version`` is
``leaderboards/protocols/task/dataset/regime@version.json``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facebench import digest, files, schema
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.workspace import Workspace

ID = re.compile(r"[a-z][a-z0-9_]*(/[a-z0-9][a-z0-9._-]*){2}@[1-9][0-9]{0,5}")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A protocol file, as read and checked.

    Attributes:
        id: ``task/dataset/regime@version``.
        title: a line for people.
        task: how predictions are scored, a name of `facebench.metrics.tasks`.
        dataset: ``name``, ``config``, ``version``.
        splits: per split ``n``, ``keys`` and ``content`` (digests).
        regimes: ``kind``, ``values`` (ascending), ``by``, ``budget``.
        seeds: the seeds of every regime value.
        subsets: digest of the sorted keys of each subset, by `subset_key`.
        adaptation: ``frozen``, ``adapted`` or ``scratch``.
        selection: ``last-step`` or ``dev``.
        preprocess: the crop that the backbone sees.
        evaluation: what is compared with what, for tasks that need it.
        convention: the named metric convention, or None for the task's default.
        metrics: dicts of ``name``, ``unit``, ``higher_is_better``, ``range``, ``primary``,
            ``decimals``; exactly one is primary.
        predictions: how each predicted array is stored: ``dtype`` and optionally ``scale``.
        targets: digest of the arrays of test labels.
        labels: ``public`` (committed) or ``gated`` (beside the data).
        note: free text.
        digest: of the whole file's value.
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

    @property
    def primary(self) -> dict[str, Any]:
        """The metric that entries are ranked by."""
        return next(m for m in self.metrics if m["primary"])

    @property
    def frozen(self) -> bool:
        """Whether every digest is filled in; a draft is not frozen and cannot be run."""
        return not any(_holes(dataclasses.asdict(self)))

    @property
    def public(self) -> bool:
        """Whether the test labels may be committed."""
        return self.labels == "public"

    @property
    def n(self) -> int:
        """How many samples the test split has."""
        return self.splits["test"]["n"]

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


def subset_key(value: int | float, seed: int) -> str:
    """The name of a subset: ``"0.1/0"`` is the fraction 0.1 (a float) drawn with seed 0."""
    return f"{value!r}/{seed}"


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
        raise UsageError(f"no protocol {protocol_id!r}: {nearest(protocol_id, names(workspace))}")
    protocol = parse(files.read_json(where), where, allow_draft)
    if protocol.id != protocol_id:
        raise FacebenchError(
            f"{where}: id is {protocol.id!r}, but the path says {protocol_id!r}; make them the same"
        )
    return protocol


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
    protocol = Protocol(**fields, digest=digest.of_json(value))
    for fault in _faults(protocol):
        raise FacebenchError(f"{where}: {fault}")
    holes = list(_holes(value))
    if holes and not allow_draft:
        raise FacebenchError(
            f"{where}: a draft: {', '.join(holes[:4])}{' ...' if len(holes) > 4 else ''} not "
            f"filled in; run: facebench protocol freeze {protocol.id}"
        )
    return protocol


def _faults(protocol: Protocol) -> Iterator[str]:
    """What a schema cannot say: how the fields fit together."""
    task = protocol.id.split("/")[0]
    if protocol.task != task:
        yield f"task is {protocol.task!r}, but the id begins with {task!r}"
    primaries = [m["name"] for m in protocol.metrics if m["primary"]]
    if len(primaries) != 1:
        yield f"metrics: exactly one must be primary, found {primaries or 'none'}"
    names = [m["name"] for m in protocol.metrics]
    for name, items in (
        ("metrics", names),
        ("seeds", protocol.seeds),
        ("regimes.values", protocol.regimes["values"]),
    ):
        if len(set(items)) != len(items):
            yield f"{name}: {items} names something twice"
    for metric in protocol.metrics:
        low, high = metric["range"]
        if low is not None and high is not None and low >= high:
            yield f"metrics: {metric['name']} has the empty range {metric['range']}"
    kind, values = protocol.regimes["kind"], protocol.regimes["values"]
    if values != sorted(values):
        yield f"regimes.values: {values} must ascend"
    if kind == "full" and values != [1.0]:
        yield f"regimes.values: kind 'full' has the one value 1.0, found {values}"
    if kind == "fraction" and values[-1] > 1:
        yield f"regimes.values: {values[-1]} is not a fraction of the labels"
    expected = {subset_key(*trial) for trial in protocol.trials()}
    if protocol.subsets and set(protocol.subsets) != expected:
        wrong = sorted(expected ^ set(protocol.subsets))
        yield f"subsets: expected one for each regime value and seed, differs at {wrong}"
    gallery, n = protocol.evaluation.get("gallery", []), protocol.splits["test"]["n"]
    if gallery and n is not None and (max(gallery) >= n or len(gallery) >= n):
        yield f"evaluation.gallery: {max(gallery)} is beyond the {n} samples of test, or no probe"
    for name, store in protocol.predictions.items():
        if "scale" in store and not np.issubdtype(store["dtype"], np.integer):
            yield f"predictions.{name}: a scale needs a whole-number type, not {store['dtype']}"


def _holes(value: Mapping[str, Any]) -> Iterator[str]:
    """The fields that freezing fills in and that are still null."""
    for split, facts in value["splits"].items():
        yield from (f"splits.{split}.{name}" for name, fact in facts.items() if fact is None)
    if not value["subsets"]:
        yield "subsets"
    else:
        yield from (f"subsets.{key}" for key, sha in value["subsets"].items() if sha is None)
    if value["targets"] is None:
        yield "targets"


def freeze(workspace: Workspace, draft_path: Path, facts: Mapping[str, Any]) -> Protocol:
    """Fills the nulls of a draft and writes it as the protocol of its id.

    Args:
        workspace: where the protocol goes.
        draft_path: the draft; often already at its place in the workspace.
        facts: ``{"splits": {split: {"n", "keys", "content"}}, "subsets": {key: digest},
            "targets": digest}``, as the data says them.

    Returns:
        The frozen protocol.

    Raises:
        FacebenchError: the draft is damaged, the facts contradict a value that is not null or
            leave one null, or another protocol stands at the place; nothing is written.
    """
    value = files.read_json(draft_path)
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


def quantise(protocol: Protocol, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns predictions into what is stored and scored.

    A whole-number type stores ``round(value * scale)`` (halves to even) and saturates at its
    ends; a float type stores the value itself, saturated at its largest finite number.

    Args:
        protocol: its ``predictions`` say the type and scale of each array.
        arrays: predicted arrays, row i for test sample (or pair) i.

    Raises:
        FacebenchError: an array is missing or unknown, or holds NaN or an infinity; the array
            and the first such row are named.
    """
    _same_names(protocol, arrays, "predicted")
    stored = {}
    for name, store in protocol.predictions.items():
        array = np.asarray(arrays[name])
        if array.dtype.kind not in "biuf" or array.ndim == 0:
            raise FacebenchError(
                f"prediction {name!r}: found {array.dtype} of shape {array.shape}, "
                "expected an array of numbers"
            )
        value = array.astype(np.float64)
        if not np.isfinite(value).all():
            first = tuple(np.argwhere(~np.isfinite(value))[0])
            raise FacebenchError(
                f"prediction {name!r}: row {first[0]} holds {value[first]}, expected finite "
                "numbers; a model that predicts none has diverged"
            )
        dtype = np.dtype(store["dtype"])
        if dtype.kind == "f":
            limit = np.finfo(dtype)
            stored[name] = np.clip(value, limit.min, limit.max).astype(dtype)
        else:
            scaled = np.rint(value * store.get("scale", 1))
            limits = np.iinfo(dtype)
            stored[name] = np.clip(scaled, limits.min, limits.max).astype(dtype)
    return stored


def dequantise(protocol: Protocol, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns stored predictions back into float64 values, the ones that are scored.

    Raises:
        FacebenchError: an array is missing, unknown, of another type than the protocol says, or
            not finite.
    """
    _same_names(protocol, stored, "stored")
    values = {}
    for name, store in protocol.predictions.items():
        array = stored[name]
        if array.dtype != np.dtype(store["dtype"]):
            raise FacebenchError(
                f"stored prediction {name!r}: found {array.dtype}, expected {store['dtype']} "
                f"as {protocol.id} says"
            )
        if not np.isfinite(array).all():
            raise FacebenchError(f"stored prediction {name!r} holds NaN or an infinity")
        values[name] = array.astype(np.float64) / store.get("scale", 1)
    return values


def _same_names(protocol: Protocol, arrays: Mapping[str, np.ndarray], what: str) -> None:
    expected = set(protocol.predictions)
    for name in sorted(expected - set(arrays)):
        raise FacebenchError(
            f"{what} array {name!r} is missing: {protocol.id} stores {', '.join(sorted(expected))}"
        )
    for name in sorted(set(arrays) - expected):
        raise FacebenchError(
            f"{what} array {name!r} is not one of {protocol.id}: {nearest(name, expected)}"
        )
