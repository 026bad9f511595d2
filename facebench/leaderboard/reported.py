"""Reported numbers: published without predictions, so shown with their source and never ranked.

One file per system stands in ``leaderboards/reported``. Beyond its schema a number must fit its
metric: name, direction, range, a stated convention where the metric means nothing without one,
and no sign that it was printed in another unit or in another row.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from facebench import metrics, schema
from facebench.errors import FacebenchError, nearest
from facebench.leaderboard import render
from facebench.workspace import Workspace

PAGE = "leaderboards/boards/reported.md"

#: Task to how people call it, in the order of the page.
TASKS: Mapping[str, str] = MappingProxyType(
    {
        "recognition": "Recognition",
        "expression": "Expression",
        "dynamic_expression": "Expression in video",
        "action_units": "Action units",
        "landmarks": "Landmarks",
    }
)

_SHARE = (True, "0", "1")
_PLAIN = frozenset({"ccc", "rmse", "icc_3_1"})  # correlations and label units: never in per cent

#: Task to the heads of its metrics' names: (higher is better, lowest, highest) as fractions.
#: Pairs for verification are balanced, so half of them right is chance; an error of more than
#: half the normaliser is no published landmark result.
METRICS: Mapping[str, Mapping[str, tuple[bool, str, str]]] = MappingProxyType(
    {
        "recognition": {"accuracy": (True, "0.5", "1"), "tar@far=": _SHARE, "rank@": _SHARE},
        "expression": {
            "accuracy": _SHARE,
            "uar": _SHARE,
            "ccc": (True, "-1", "1"),
            "rmse": (False, "0", "2"),
        },
        "dynamic_expression": {"war": _SHARE, "uar": _SHARE},
        "action_units": {"f1": _SHARE, "icc_3_1": (True, "-1", "1")},
        "landmarks": {
            "nme": (False, "0", "0.5"),
            "fr@": (False, "0", "1"),
            "auc@": _SHARE,
            "auc_legacy@": _SHARE,
        },
    }
)

#: Task to the conventions of published numbers that the suite's metrics do not have.
CONVENTIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "recognition": {
            "facex-zoo-10fold": "ten folds, threshold by TPR - FPR, one view of each image",
            "lfw-unrestricted": "ten folds of LFW or YTF, unrestricted with outside data",
            "all-to-all": "all pairs of all images",
        },
        "expression": {
            "own-realigned": "faces detected and aligned again, not the official aligned images",
            "fer2013-test-both": "public and private test part of FER2013 taken together",
        },
        "dynamic_expression": {"5-fold-mean": "mean over the five official folds"},
        "action_units": {
            "3-fold": "three folds of subjects, mean over action units and folds, threshold 0.5",
            "3-fold-swept": "three folds of subjects, the best of 99 thresholds on the test fold",
            "4-fold-swept": "four folds of subjects, the best of 99 thresholds on the test fold",
        },
        "landmarks": {
            "19-box-size": "19 points, the box size stored with the lists of HRNet",
        },
    }
)

SELECTED = MappingProxyType(
    {
        "last": "the last epoch",
        "dev": "an epoch chosen on data held out of training",
        "test epoch": "the epoch that is best on the test data: optimistic",
        "test epoch and threshold": "epoch and threshold that are best on the test data: "
        "optimistic",
        "unknown": "the source does not say",
    }
)
EVIDENCE = MappingProxyType(
    {
        "paper": "the paper or its abstract",
        "repository": "tables of the system's own repository",
        "log": "logs in the system's own repository",
        "third-party transcription": "somebody else's table or listing",
    }
)

_LEVEL = re.compile(r"(?P<head>[^@]*(?:@(?:[a-z]+=)?)?)(?P<level>.*)")
_MARKUP = re.compile(r"([\\`*_\[\]<>|~])")
_SPECIAL = ("full", "zero")


@dataclasses.dataclass(frozen=True)
class Reported:
    """One published number.

    Attributes:
        system: id of the system.
        name: the system for people.
        year: of the publication, or None.
        link: of the paper, else of the code, or None.
        task: see `TASKS`.
        dataset: id such as ``raf-db``.
        subset: part of the test set; None: all of it.
        metric: name such as ``tar@far=1e-4``.
        value: the decimals as they were printed.
        unit: ``%`` or nothing.
        higher_is_better: the metric's direction.
        regime: labels used, such as ``full`` or ``10 %``.
        convention: see `CONVENTIONS`; None: the source does not say.
        selected_on: see `SELECTED`.
        where: the public source.
        evidence: see `EVIDENCE`.
        note: a remark, or nothing.
    """

    system: str
    name: str
    year: int | None
    link: str | None
    task: str
    dataset: str
    subset: str | None
    metric: str
    value: str
    unit: str
    higher_is_better: bool
    regime: str
    convention: str | None
    selected_on: str
    where: str
    evidence: str
    note: str

    @property
    def label(self) -> str:
        """The number as printed, with its unit."""
        return f"{self.value} %" if self.unit else self.value

    @property
    def fraction(self) -> Decimal:
        """The number, exact, per cents as fractions."""
        return Decimal(self.value) / (100 if self.unit else 1)

    @property
    def key(self) -> tuple[str, ...]:
        """What no two numbers share."""
        parts = (self.system, self.task, self.dataset, self.subset, self.metric, self.regime)
        return tuple(part or "" for part in (*parts, self.convention))

    @property
    def order(self) -> tuple[Any, ...]:
        """Where the number stands; its value has no say, so that no order looks like a rank."""
        at = _level(self.metric)
        return (
            list(TASKS).index(self.task),
            self.dataset,
            at[0],
            at[1],
            self.convention or "",
            self.year or 0,
            self.system,
            _labels(self.regime),
            self.subset or "",
            self.key,
        )


def folder(workspace: Workspace) -> Path:
    """Where the files stand, at ``SYSTEM.json``."""
    return workspace.leaderboards / "reported"


def paths(workspace: Workspace) -> list[Path]:
    """The files of reported numbers, sorted by name."""
    return sorted(folder(workspace).glob("*.json"))


def read_file(path: Path) -> list[Reported]:
    """Reads the numbers of one system.

    Raises:
        FacebenchError: damaged, of a later schema, under another system's name, or a number does
            not fit its metric; the message names the file and the field.
    """
    if path.is_symlink():
        raise FacebenchError(f"{path}: is a link; put the file itself there")
    value = schema.read(path, "reported")
    if value["system"] != path.stem:
        raise FacebenchError(
            f"{path}: system: found {value['system']!r}, expected {path.stem!r}, the name of the "
            "file; rename one of them"
        )
    of = {
        "system": value["system"],
        "name": value["name"],
        "year": value["year"],
        "link": value["paper"]["url"] or value["code"],
    }
    numbers: list[Reported] = []
    seen: dict[tuple[str, ...], int] = {}
    for i, result in enumerate(value["results"]):
        flat = {k: v for k, v in result.items() if k != "source"}
        number = Reported(**of, **flat, **result["source"])
        for field, fault in _misfits(number):
            raise FacebenchError(f"{path}: results[{i}].{field}: {fault}")
        if number.key in seen:
            raise FacebenchError(
                f"{path}: results[{i}]: the same system, task, dataset, subset, metric, regime and "
                f"convention as results[{seen[number.key]}]; keep one, or name another system"
            )
        seen[number.key] = i
        numbers.append(number)
    for i, fault in _worse_than_with_fewer_labels(numbers):
        raise FacebenchError(f"{path}: results[{i}].value: {fault}")
    return numbers


def read(workspace: Workspace) -> list[Reported]:
    """Reads all reported numbers.

    Returns:
        The numbers by task, dataset, metric, convention, year and system; never by value.

    Raises:
        FacebenchError: see `read_file`.
    """
    found = [number for path in paths(workspace) for number in read_file(path)]
    return sorted(found, key=lambda number: number.order)


def rows(workspace: Workspace, task: str, dataset: str) -> list[Reported]:
    """The reported numbers of one dataset, for the foot of its boards; see `read`."""
    return [n for n in read(workspace) if (n.task, n.dataset) == (task, dataset)]


def faults(workspace: Workspace) -> list[str]:
    """What is wrong with the files of reported numbers, one line each; one hides no other."""
    lines = []
    known = set(paths(workspace))
    for path in sorted(folder(workspace).rglob("*")):
        if path in known:
            try:
                read_file(path)
            except FacebenchError as error:
                lines.append(str(error))
        elif path.is_symlink() or not path.is_dir():
            lines.append(f"{path}: is not at SYSTEM.json; remove it")
    return lines


# -- what a schema cannot check -------------------------------------------------------------------


def _misfits(of: Reported) -> Iterator[tuple[str, str]]:
    """The field that is wrong with a number, and how."""
    heads = METRICS[of.task]
    head, _ = _level(of.metric)
    if head not in heads:
        forms = [key + "T" if key.endswith(("@", "=")) else key for key in heads]
        yield "metric", f"{of.task} has no metric {of.metric!r}: {nearest(of.metric, forms)}"
        return
    higher, low, high = heads[head]
    if of.higher_is_better != higher:
        better = "higher" if higher else "lower"
        yield "higher_is_better", f"found {of.higher_is_better}, but {better} {head} is better"
    if of.unit and head in _PLAIN:
        yield "unit", f"found '%', but {head} is a plain number"
    if not Decimal(low) <= of.fraction <= Decimal(high):
        factor = 100 if of.unit else 1
        span = f"[{Decimal(low) * factor:f}, {Decimal(high) * factor:f}]"
        yield "value", f"{of.label} is outside the range {span} of {head}; check unit and decimals"
    elif of.unit and not of.note and abs(of.fraction) < Decimal("0.01" if higher else "0.0005"):
        yield (
            "value",
            f"{of.label} looks like a fraction with the unit of a per cent; correct the unit, or "
            "say in 'note' why it is right",
        )
    yield from _convention_misfits(of)


def _convention_misfits(of: Reported) -> Iterator[tuple[str, str]]:
    known = conventions(of.task)
    if of.convention is not None and of.convention not in known:
        yield (
            "convention",
            f"{of.task} has no convention {of.convention!r}: {nearest(of.convention, known)}",
        )
    if of.convention is None and of.task == "landmarks":
        yield (
            "convention",
            "is null, but a landmark error means nothing without what it is divided by; "
            f"name one of: {', '.join(known)}",
        )


def conventions(task: str) -> list[str]:
    """The conventions that a reported number may name: the suite's and the published ones."""
    own = metrics.conventions(task) if task in metrics.TASKS else []
    return [*own, *CONVENTIONS[task]]


def _worse_than_with_fewer_labels(numbers: Sequence[Reported]) -> Iterator[tuple[int, str]]:
    """Numbers that fall behind the same system's with fewer labels and do not say why."""
    for i, number in enumerate(numbers):
        for other in numbers:
            same = number.key[:5] == other.key[:5] and number.key[6:] == other.key[6:]
            here, there = _labels(number.regime), _labels(other.regime)
            if not same or number.note or here[0] != there[0] or here[1] <= there[1]:
                continue
            sign = 1 if number.higher_is_better else -1
            if sign * number.fraction < sign * other.fraction:
                yield (
                    i,
                    f"{number.label} with {number.regime} of the labels is worse than "
                    f"{other.label} with {other.regime}; correct it, or say in 'note' why",
                )
                return


def _level(metric: str) -> tuple[str, Decimal]:
    """The head of a metric's name, up to the level, and the level as a number."""
    match = _LEVEL.fullmatch(metric)
    assert match is not None  # the pattern takes any name
    return match["head"], Decimal(match["level"] or 0)


def _labels(regime: str) -> tuple[str, Decimal]:
    """A regime as a kind and an amount; amounts of one kind can be compared."""
    if regime in _SPECIAL:
        return "%", Decimal(100 if regime == "full" else 0)
    amount, kind = regime.split(" ", 1)
    return kind, Decimal(amount)


# -- the page -------------------------------------------------------------------------------------


def page(workspace: Workspace) -> str:
    """The Markdown page of all reported numbers; empty if there are none.

    Numbers of different metrics or conventions never share a table.
    """
    numbers = read(workspace)
    if not numbers:
        return ""
    systems = len({n.system for n in numbers})
    parts = [
        render.GENERATED,
        "# Reported numbers: not ranked",
        "[all boards](../README.md)",
        f"{len(numbers):,} published numbers of {systems:,} systems, copied digit by digit from "
        "the source that stands beside each. **No predictions belong to them, so nobody can "
        "compute them again here, and none of them is ranked.** Rows are in the order of years "
        "and names; the order says nothing about which is better.",
        "A number without % is a fraction of one, or a plain number. Numbers of one table share "
        "metric and convention; they still differ in crops, training data and in what chose the "
        "epoch.",
        _legend(numbers),
    ]
    for task, title in TASKS.items():
        mine = [n for n in numbers if n.task == task]
        if mine:
            parts.append(f"## {title}")
        for dataset in sorted({n.dataset for n in mine}):
            parts.append(f"### {title}: {dataset}")
            parts += _tables([n for n in mine if n.dataset == dataset])
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _legend(numbers: Iterable[Reported]) -> str:
    found = list(numbers)
    lines = ["**Epoch chosen on**"]
    lines += [f"- {k}: {v}" for k, v in SELECTED.items() if any(n.selected_on == k for n in found)]
    lines += ["", "**Read from**"]
    lines += [f"- {k}: {v}" for k, v in EVIDENCE.items() if any(n.evidence == k for n in found)]
    return "\n".join(lines)


def _tables(numbers: Sequence[Reported]) -> Iterator[str]:
    """One table per metric and convention, with a column per part of the test set."""
    groups: dict[tuple[str, str | None], list[Reported]] = {}
    for number in numbers:
        groups.setdefault((number.metric, number.convention), []).append(number)
    for (metric, convention), mine in groups.items():
        better = "↑ higher" if mine[0].higher_is_better else "↓ lower"
        stated = _convention(mine[0].task, convention)
        yield f"**{metric}**, {better} is better. Convention: {stated}"
        yield _table(mine)


def _convention(task: str, name: str | None) -> str:
    if name is None:
        return "not stated, so rows may differ in it."
    meaning = CONVENTIONS[task].get(name)
    return f"`{name}`" + (f": {_text(meaning)}." if meaning else ".")


def _table(numbers: Sequence[Reported]) -> str:
    subsets = sorted({n.subset or "" for n in numbers})
    lines: dict[tuple[Any, ...], dict[str, Reported]] = {}
    for n in numbers:
        line = (n.system, n.regime, n.selected_on, n.where, n.evidence, n.note)
        lines.setdefault(line, {})[n.subset or ""] = n
    regimes = {n.regime for n in numbers} != {"full"}
    noted = any(n.note for n in numbers)
    header = [
        "reported, not ranked",
        "year",
        *(["labels"] if regimes else []),
        *(subset or "test" for subset in subsets),
        "epoch chosen on",
        "read from",
        "source",
        *(["note"] if noted else []),
    ]
    cells = []
    for found in lines.values():
        n = next(iter(found.values()))
        cells.append(
            [
                f"[{_text(n.name)}]({n.link})" if n.link else _text(n.name),
                str(n.year or "–"),
                *([n.regime] if regimes else []),
                *(f"<sub>{found[s].label}</sub>" if s in found else "–" for s in subsets),
                n.selected_on,
                n.evidence,
                f"`{n.where}`",
                *([_text(n.note) or "–"] if noted else []),
            ]
        )
    first = 3 if regimes else 2
    return render.table(header, cells, range(first, first + len(subsets)))


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", text).replace("&", "&amp;")
