"""Strata: what a subset keeps the shares of, and the order that keeps many labels in balance."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import files
from facebench.data.source import Split, field
from facebench.errors import FacebenchError, UsageError, nearest

GRID = 5  # cells of valence and of arousal, each over [-1, 1]
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, odd: its multiples spread evenly
POOL = 64  # candidates that are compared for each place
SORTED = 100_000  # places filled by comparison; beyond, the even spread alone is exact enough


def class_names(split: Split, name: str) -> list[str]:
    """The names of the classes of a field, in the dataset's order.

    They are read from the file ``NAME.labels.txt`` that TFDS writes for a ``ClassLabel``.

    Raises:
        UsageError: the field is no ``ClassLabel``.
    """
    path = Path(split.folder) / f"{name}.labels.txt"
    if not path.is_file():
        raise UsageError(
            f"dataset {split.label}: field {name!r} has no names of classes ({path.name} is not "
            "there); its builder declares it as tfds.features.ClassLabel(names=...)"
        )
    with files.explained(path, "reading"):
        return path.read_text(encoding="utf-8").split("\n")[:-1]


def of_split(
    split: Split,
    rule: Mapping[str, Any],
    rows: np.ndarray,
    threshold: float | None = None,
) -> list[Any] | np.ndarray:
    """The strata of some samples of a split.

    ===========  =============================================================================
    rule         strata
    ===========  =============================================================================
    class        the value of the field, a whole number or a text
    attribute    the values of `columns` of the field together
    grid-5x5     5 x 5 cells of (valence, arousal), each in [-1, 1]
    multilabel   labels that may stand together: the columns of the field, there from
                 `threshold` on (unknown counts as not there); or the classes of one value
    ===========  =============================================================================

    Args:
        split: where the field is.
        rule: the protocol's ``regimes.strata``.
        rows: of the samples, [n].
        threshold: of a multi-label field, where `rule` has none.

    Returns:
        one stratum per sample; of rule ``multilabel`` an array int64 [n, A] of 0 and 1.

    Raises:
        UsageError: the dataset has no such field.
        FacebenchError: its values do not fit the rule.
    """
    name, how = rule["field"], rule["rule"]
    values = np.asarray(field(split, name))[rows]
    where = f"dataset {split.label}: field {name!r} as strata of rule {how!r}"
    shape = f"found {values.dtype} of shape {values.shape}"
    if how == "multilabel" and values.ndim == 2:
        return _labels(values, rule.get("threshold", threshold), where)
    if how in ("class", "multilabel"):
        if values.ndim != 1 or values.dtype.kind not in "biuSU":
            raise FacebenchError(f"{where}: {shape}, expected one class per sample")
        if how == "class":
            return values.tolist()
        return (values[:, None] == np.unique(values)).astype(np.int64)
    if how == "grid-5x5":
        if values.shape[1:] != (2,) or values.dtype.kind != "f":
            raise FacebenchError(f"{where}: {shape}, expected (valence, arousal) per sample")
        off = ~(np.abs(values) <= 1).all(axis=1)
        if off.any():
            i = int(np.argmax(off))
            key = split.keys[int(rows[i])]
            raise FacebenchError(f"{where}: {values[i].tolist()} of {key!r} is not in [-1, 1]")
        cells = np.minimum((values.astype(np.float64) + 1) * (GRID / 2), GRID - 1).astype(int)
        return list(map(tuple, cells.tolist()))
    columns = rule.get("columns")
    if values.ndim == 1 and columns is None and values.dtype.kind in "biuSU":
        return values.tolist()
    if values.ndim != 2 or columns is None or values.dtype.kind not in "biu":
        raise FacebenchError(
            f"{where}: {shape}, expected whole numbers, and strata.columns where there are several"
        )
    if max(columns) >= values.shape[1]:
        raise FacebenchError(f"{where}: no column {max(columns)}, there are {values.shape[1]}")
    return list(map(tuple, values[:, columns].tolist()))


def _labels(values: np.ndarray, threshold: float | None, where: str) -> np.ndarray:
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    if values.dtype.kind not in "iuf":
        raise FacebenchError(f"{where}: found {values.dtype}, expected numbers")
    if threshold is None:
        known = (values == 0) | (values == 1) | (values == -1) | (values == 9)
        if not known.all():
            raise FacebenchError(f"{where}: values other than 0 and 1 need strata.threshold")
        return (values == 1).astype(np.int64)
    # In the type of the field: 0.7 of a float32 is the float32 that is nearest to 0.7.
    return (values >= np.asarray(threshold).astype(values.dtype)).astype(np.int64)


def balanced_order(counts: np.ndarray, sizes: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """An order of items in which every beginning has each label's share of the whole.

    First the items are sorted by which labels they have more of than the whole, the rarest label
    deciding first and the hash last, and every item gets the place ``i * GOLDEN mod 2^64``: the
    first m of these places are spread evenly over any run of the sorted list (Weyl's sequence),
    so a rare label has its share at every size. Then the first places are filled one by one: of
    `POOL` candidates in that order the one is taken that leaves the least
    ``sum over labels of deviation^2 / (T (N - T))``. Integers throughout: the order depends on
    the items alone, not on the order they come in, nor on rounding.

    Greedy by rarest label: Sechidis et al. 2011, "On the stratification of multi-label data";
    here one order serves all sizes, so that smaller subsets lie within larger ones.

    Args:
        counts: int64 [n, A]: how many samples of the item have each label.
        sizes: int64 [n]: how many samples the item has, at least 1.
        ranks: uint64 [n, k]: the hash of the item, its words in falling weight; all differ.

    Returns:
        int64 [n]: the items in their order.
    """
    total, whole = int(sizes.sum()), counts.sum(axis=0)
    mixed = np.flatnonzero((whole > 0) & (whole < total))  # the others have the same share always
    rarest = mixed[np.argsort(np.minimum(whole, total - whole)[mixed], kind="stable")]
    x, whole = counts[:, rarest], whole[rarest]
    surplus = x * total - sizes[:, None] * whole  # the deviation an item adds, times `total`
    pattern = np.packbits(surplus > 0, axis=1)
    words = [ranks[:, i] for i in reversed(range(ranks.shape[1]))]
    listed = np.lexsort((*words, *(pattern[:, i] for i in reversed(range(pattern.shape[1])))))
    phase = np.bitwise_xor.reduce(ranks[:, 0])  # of the draw, whatever the items' order
    base = listed[np.argsort(np.arange(len(sizes), dtype=np.uint64) * np.uint64(GOLDEN) + phase)]
    scale = [(1 << 30) // math.isqrt(t * (total - t)) for t in whole.tolist()]
    return _greedy(base, surplus, np.array(scale, np.int64))


def _greedy(base: np.ndarray, surplus: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The base order with each of the first places given to the best of the next candidates."""
    n = len(base)
    if not len(scale):
        return base
    held = base[:POOL].copy()  # candidates, and beside them what each would add
    adds = surplus[held]
    following = len(held)
    deviation = np.zeros(len(scale), np.int64)
    order = []
    for _ in range(min(n, SORTED)):
        off = ((deviation + adds) * scale) >> 24  # 128 is a sample of a label of half of all
        cost = (off * off).sum(axis=1)
        # Of equal ones the first in the base order: `held` keeps it.
        i = int(cost.argmin())
        order.append(held[i])
        deviation = deviation + adds[i]
        held[i:-1], adds[i:-1] = held[i + 1 :].copy(), adds[i + 1 :].copy()
        if following < n:
            held[-1], adds[-1] = base[following], surplus[base[following]]
            following += 1
        else:
            held, adds = held[:-1], adds[:-1]
    return np.concatenate([np.array(order, np.int64), held, base[following:]])


def natural(key: str) -> tuple:
    """A sort key by which frame 2 comes before frame 10; different texts never compare equal."""
    parts = re.split("([0-9]+)", key)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), key


def known_column(names: Sequence[Any], wanted: Any, what: str) -> int:
    """The place of a name among names.

    Raises:
        UsageError: it is not one of them; the nearest are given.
    """
    if wanted not in names:
        raise UsageError(f"{what}: no {wanted!r}: {nearest(str(wanted), map(str, names))}")
    return list(names).index(wanted)
