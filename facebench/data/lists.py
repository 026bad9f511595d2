"""Lists of comparisons that a dataset brings along: what its official protocol compares.

A builder that has some gives them by a method, called once its samples are written::

    def lists(self, folder: Path) -> dict[str, dict]:
        return {"view-2": {"split": "test", "pairs": rows, "same": same, "fold": fold}}

`folder` is the official release. Of each list `pairs` [m, 2] and `same` [m] (bool) are needed;
`fold` [m] (whole numbers) and `group` [m] (whole numbers or text) may be there. `pairs` are rows of
the split, in the order of generation. Where the list compares templates (sets of images of one
person), `template` and `media` [n], whole numbers, say for every sample of the split which template
it belongs to and which still or video it is from, `weight` [n] may say how much it counts, and
`pairs` are numbers of templates.

A list is stored as ``list-NAME.npz`` beside the samples; ``facebench.json`` has its digest under
``lists``: ``{NAME: {"split", "n", "digest"}}``. A protocol asks for it by ``evaluation.pairs``,
``"list:NAME"``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facebench import digest, files
from facebench.errors import FacebenchError, UsageError, nearest

if TYPE_CHECKING:
    from facebench.data.source import Split
    from facebench.protocol import Protocol

PREFIX = "list:"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PAIR, _SAMPLE = ("pairs", "same", "fold", "group"), ("template", "media", "weight")


def asked(protocol: Protocol) -> str | None:
    """The list that a protocol's ``evaluation.pairs`` names; None if it names none."""
    kind = protocol.evaluation.get("pairs", "")
    return kind.removeprefix(PREFIX) if kind.startswith(PREFIX) else None


def write(folder: Path, label: str, given: Mapping[str, Mapping[str, Any]], n: Mapping) -> dict:
    """Checks the lists of a builder and writes them beside its samples.

    Args:
        folder: of the prepared files.
        label: of the dataset, for messages.
        given: what ``lists`` of the builder gave.
        n: samples of every split.

    Returns:
        the entry ``lists`` of ``facebench.json``.

    Raises:
        FacebenchError: a list does not fit the samples.
    """
    facts = {}
    for name, one in given.items():
        where = f"dataset {label}: list {name!r}"
        if not NAME.fullmatch(name):
            raise FacebenchError(f"{where}: expected a name of a-z, 0-9, '.', '_' and '-'")
        arrays = {field: np.asarray(value) for field, value in one.items() if field != "split"}
        split = one.get("split", "test")
        if split not in n:
            raise FacebenchError(f"{where}: no split {split!r}: {nearest(str(split), n)}")
        _check(where, arrays, n[split])
        files.write_npz(folder / f"list-{name}.npz", arrays)
        sha = digest.of_arrays(arrays)
        facts[name] = {"split": split, "n": len(arrays["same"]), "digest": sha}
    return facts


def _check(where: str, arrays: dict[str, np.ndarray], n: int) -> None:
    known = (*_PAIR, *_SAMPLE)
    for name in arrays:
        if name not in known:
            raise FacebenchError(f"{where}: unknown array {name!r}: {nearest(name, known)}")
    needed = ("pairs", "same") + (("template", "media") if {*_SAMPLE} & {*arrays} else ())
    for name in needed:
        if name not in arrays:
            raise FacebenchError(f"{where}: array {name!r} is missing")
    m = len(arrays["same"]) if arrays["same"].ndim else 0
    kinds = {"same": "b", "weight": "f", "group": "iuU"}
    for name, array in arrays.items():
        shape = (m, 2) if name == "pairs" else (m,) if name in _PAIR else (n,)
        if array.shape != shape or not m:
            raise FacebenchError(
                f"{where}: array {name!r} has shape {list(array.shape)}, expected {list(shape)}"
            )
        if array.dtype.kind not in kinds.get(name, "iu"):
            raise FacebenchError(f"{where}: array {name!r} holds {array.dtype}")
    if "weight" in arrays and not (np.isfinite(arrays["weight"]) & (arrays["weight"] >= 0)).all():
        raise FacebenchError(f"{where}: array 'weight' holds NaN, infinity or a negative number")
    rows, template = arrays["pairs"], arrays.get("template")
    if template is not None:
        unknown = ~np.isin(rows, template)
        if unknown.any():
            at = int(np.argmax(unknown.any(axis=1)))
            raise FacebenchError(
                f"{where}: pair {at} is of templates {rows[at].tolist()}, of which "
                f"{rows[at][unknown[at]][0]} has no image"
            )
    elif rows.min() < 0 or rows.max() >= n:
        raise FacebenchError(f"{where}: pairs name row {rows.max()} of {n} samples")
    if (twice := rows[:, 0] == rows[:, 1]).any():
        raise FacebenchError(f"{where}: pair {int(np.argmax(twice))} compares one with itself")


def read(split: Split, name: str) -> dict[str, np.ndarray]:
    """A list of a prepared dataset: its arrays, not to be changed.

    Raises:
        UsageError: the dataset has no such list; the nearest are given.
        FacebenchError: it is of another split, or damaged.
    """
    return _read(Path(split.folder), split.label, split.name, name)


@functools.lru_cache(maxsize=4)
def _read(folder: Path, label: str, split: str, name: str) -> dict[str, np.ndarray]:
    known = files.read_json(folder / "facebench.json").get("lists", {})
    if name not in known:
        raise UsageError(f"dataset {label} has no list {name!r}: {nearest(name, known)}")
    if known[name]["split"] != split:
        raise FacebenchError(
            f"dataset {label}: list {name!r} is of split {known[name]['split']!r}, not {split!r}"
        )
    path = folder / f"list-{name}.npz"
    arrays = files.read_npz(path)
    if (found := digest.of_arrays(arrays)) != known[name]["digest"]:
        raise FacebenchError(
            f"{path}: its digest is {digest.short(found)}, facebench.json says "
            f"{digest.short(known[name]['digest'])}; remove {folder} and run "
            f"`facebench data prepare {label}` again"
        )
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def used(split: Split, name: str) -> np.ndarray:
    """The rows of a split that a list compares, int64, ascending."""
    found = read(split, name)
    if "template" in found:
        return np.flatnonzero(np.isin(found["template"], found["pairs"]))
    return np.unique(found["pairs"]).astype(np.int64)


def pairs(split: Split, name: str) -> np.ndarray:
    """The pairs of a list, int64 [m, 2], as places among `used` rows or `templates`."""
    found = read(split, name)
    if "template" in found:
        return np.searchsorted(np.unique(found["template"][used(split, name)]), found["pairs"])
    return np.searchsorted(used(split, name), found["pairs"])


def templates(split: Split, name: str) -> dict[str, np.ndarray] | None:
    """`template`, `media` and `weight` of the `used` rows; None for a list of images.

    `template` is a place among the sorted templates, `weight` is 1 where the list has none.
    """
    found = read(split, name)
    if "template" not in found:
        return None
    rows = used(split, name)
    return {
        "template": np.unique(found["template"][rows], return_inverse=True)[1],
        "media": found["media"][rows],
        "weight": found.get("weight", np.ones(len(split)))[rows].astype(np.float64),
    }
