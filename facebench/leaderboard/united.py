"""Entries: the records of one entry under one protocol, united trial by trial.

Seeds may be added later, or a part may come first: each time a record is added, none is changed.
The trials are united by what was asked (`trial_id`). Where two records answer the same question
differently, nothing tells which is right, and the build stops and names both.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from facebench.errors import FacebenchError
from facebench.protocol import Protocol, adaptation, subset_key

if TYPE_CHECKING:
    from facebench.leaderboard.derived import Evidence

#: From the least to the most that was done to believe a row's numbers; computed, never claimed.
#: `attestation` says what the last two mean. What is merely reported is in no row.
TRUST = (
    "-",
    "labels gated",
    "labels gated, re-run",
    "labels gated, independent",
    "re-scored",
    "re-run",
    "independent",
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of an entry.

    Attributes:
        id: what was asked.
        value: the regime value.
        seed: the seed.
        status: ``ok`` or ``diverged``.
        metrics: name to score; None where it diverged and the metric has no worst value.
        parameters: how many numbers the model learnt or was given.
        record: the path of the record that it was first read from.
        row: its place in that record and its bundle.
    """

    id: str
    value: int | float
    seed: int
    status: str
    metrics: Mapping[str, float | None]
    parameters: int
    record: str
    row: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is ranked, with all its trials under one protocol.

    Attributes:
        name: of the entry.
        kind: ``floor``, ``baseline`` or ``entry``.
        records: the paths of its records, sorted.
        values: what each of those records says, by path; only what a bundle is found by.
        digests: SHA-256 of each record and bundle, in the order of `records`.
        trials: by `subset_key`, in the protocol's order.
        trust: the least of its records.
        fault: why it is not ranked, missing trials apart, or None.
        adaptation: ``frozen``, ``adapted`` or ``scratch``, by its config; None without backbone.
    """

    name: str
    kind: str
    records: tuple[str, ...]
    values: Mapping[str, Mapping[str, Any]]
    digests: list[list[str | None]]
    trials: Mapping[str, Trial]
    trust: str
    fault: str | None
    adaptation: str | None = None

    def scores(self, metric: Mapping[str, Any], value: int | float) -> list[float]:
        """One score per trial at a regime value; infinitely bad where a diverged one has none."""
        bad = -math.inf if metric["higher_is_better"] else math.inf
        found = [
            t.metrics[metric["name"]]
            for t in self.trials.values()
            if t.value == value and metric["name"] in t.metrics
        ]
        return [bad if score is None else float(score) for score in found]

    def missing(self, protocol: Protocol) -> list[str]:
        """The `subset_key` of each trial that the protocol asks for and that is not here."""
        asked = [subset_key(*trial) for trial in protocol.trials()]
        return [key for key in asked if key not in self.trials]


def unite(protocol: Protocol, records: Sequence[Evidence]) -> list[Entry]:
    """Unites records entry by entry; those made under another protocol file stay apart.

    Raises:
        FacebenchError: two records of an entry disagree on a trial, on the config or the kind.
    """
    together: dict[tuple[str, str], list[Evidence]] = {}
    for item in records:
        key = item.value["entry"], item.value["protocol"]["digest"]
        together.setdefault(key, []).append(item)
    return [_one(protocol, name, items) for (name, _), items in together.items()]


def _one(protocol: Protocol, name: str, items: Sequence[Evidence]) -> Entry:
    kind, config = items[0].value["kind"], items[0].value["config"]["digest"]
    trials: dict[str, Trial] = {}
    claims: dict[str, tuple[str, Any]] = {}
    for item in items:
        if item.value["kind"] != kind:
            _conflict(name, items[0].path, item.path, f"kind {kind!r} and {item.value['kind']!r}")
        if item.value["config"]["digest"] != config:
            _conflict(name, items[0].path, item.path, "trials of two configs")
        for row, said in enumerate(item.value["trials"]):
            key = subset_key(said["regime"]["value"], said["seed"])
            claim = (said["trial_id"], said["status"], said["subset_digest"], said["metrics"])
            if key not in trials:
                claims[key] = item.path, claim
                trials[key] = Trial(
                    id=said["trial_id"],
                    value=said["regime"]["value"],
                    seed=said["seed"],
                    status=said["status"],
                    metrics=said["metrics"],
                    parameters=said["parameters"],
                    record=item.path,
                    row=row,
                )
            elif claims[key][0] != item.path and claims[key][1] != claim:
                other = claims[key][1][0] != claim[0]
                what = "of two configs" if other else "with different claims"
                _conflict(name, claims[key][0], item.path, f"trial {key} {what}")
    order = {subset_key(*asked): i for i, asked in enumerate(protocol.trials())}
    faults = [item for item in items if item.fault is not None]
    return Entry(
        name=name,
        kind=kind,
        records=tuple(item.path for item in items),
        values={item.path: {"predictions": item.value["predictions"]} for item in items},
        digests=[[item.file, item.bundle] for item in items],
        trials=dict(sorted(trials.items(), key=lambda kv: (order.get(kv[0], len(order)), kv[0]))),
        trust=faults[0].trust if faults else min((item.trust for item in items), key=_level),
        fault=faults[0].fault if faults else None,
        adaptation=adaptation.of_config(items[0].value["config"]["semantic"]),
    )


def _level(trust: str) -> int:
    """The place of a trust on the ladder."""
    return TRUST.index(trust) if trust in TRUST else -1


def _conflict(name: str, first: str, second: str, what: str) -> None:
    raise FacebenchError(
        f"{first} and {second}: two records of {name} hold {what}; nothing tells which is right: "
        "retract one of them, or give the other entry another name"
    )
