"""Few-shot subsets: which training samples a regime may use.

Samples (or units: subjects, identities, videos) are ranked by SHA-256 of the protocol's name, the
seed and their key, and the first are taken. So a subset depends neither on the order of files nor
on a library's random numbers, and a smaller one lies within every larger one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from facebench import digest as digests
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.protocol import Protocol, subset_key

if TYPE_CHECKING:
    from facebench.data.source import Dataset

KINDS = ("full", "fraction", "shots", "units")


def digest(keys: Sequence[str]) -> str:
    """The digest of a subset: of its keys in sorted order, one per line."""
    return digests.of_lines(sorted(keys))


def draw(
    protocol_id: str,
    regimes: Mapping[str, Any],
    value: float,
    seed: int,
    keys: Sequence[str],
    units: Sequence[str],
    strata: Sequence[Any] | None = None,
) -> np.ndarray:
    """Draws the subset of one regime value and one seed.

    =========  =========  ==================================================================
    kind       by         what is taken
    =========  =========  ==================================================================
    full       -          every sample
    fraction   sample     ceil(value * n) samples, per stratum if there are strata
    fraction   unit       every sample of ceil(value * n) units, per stratum
    shots      sample     `value` samples, per stratum
    shots      unit       `value` samples of every unit (per stratum in it)
    units      -          every sample of `value` units, per stratum
    =========  =========  ==================================================================

    ``ceil`` is of the decimal number as written: 0.07 of 100 is 7.

    Args:
        protocol_id: the name that salts the draw, ``task/dataset/regime@version``.
        regimes: the protocol's regimes: `kind` and `by` are read.
        value: the fraction in (0, 1], or the number of shots or units.
        seed: which repeat.
        keys: of every training sample; they differ from one another.
        units: of every training sample.
        strata: a class or attribute of every training sample, or None. Strata that are drawn by
            unit must not divide a unit.

    Returns:
        indices into `keys`, ascending, int64; never empty.

    Raises:
        UsageError: an unknown kind, or a value that its kind does not know.
        FacebenchError: the subset would be empty or more is asked for than there is; keys repeat;
            a unit lies in two strata.
    """
    kind, by = regimes.get("kind"), regimes.get("by", "sample")
    what = f"protocol {protocol_id}: {kind} {value}"
    if kind not in KINDS:
        raise UsageError(
            f"protocol {protocol_id}: regimes.kind {kind!r}: {nearest(f'{kind}', KINDS)}"
        )
    if by not in ("sample", "unit"):
        raise UsageError(f"protocol {protocol_id}: regimes.by {by!r}: expected 'sample' or 'unit'")
    strata = [None] * len(keys) if strata is None else list(strata)
    if not len(keys) == len(units) == len(strata):
        raise FacebenchError(
            f"{what}: {len(keys)} keys, {len(units)} units and {len(strata)} strata; "
            "expected one of each per sample"
        )
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if list(keys).count(key) > 1)
        raise FacebenchError(f"{what}: the key {twice!r} stands twice; prepare the dataset again")
    if not len(keys):
        raise FacebenchError(f"{what}: the training split is empty; prepare the dataset again")
    if kind == "full":
        return np.arange(len(keys))

    by_unit = kind == "units" or (kind == "fraction" and by == "unit")
    items = list(units) if by_unit else list(keys)
    groups: list[tuple] = [(stratum,) for stratum in strata]
    if kind == "shots" and by == "unit":
        groups = list(zip(units, strata))
    members: dict[tuple, set[str]] = {}  # group -> the samples or units in it
    for item, group in zip(items, groups):
        members.setdefault(group, set()).add(item)
    if by_unit and sum(map(len, members.values())) > len(set(items)):
        home: dict[str, tuple] = {}
        split = next(i for i, group in zip(items, groups) if home.setdefault(i, group) != group)
        raise FacebenchError(
            f"{what}: unit {split!r} lies in more than one stratum; draw by sample"
        )

    taken: set[str] = set()
    for group, candidates in members.items():
        n = _count(what, kind, value, by_unit, group, len(candidates))
        ranked = sorted(candidates, key=lambda item: (_rank(protocol_id, seed, item), item))
        taken.update(ranked[:n])
    return np.array([i for i, item in enumerate(items) if item in taken], np.int64)


def _rank(protocol_id: str, seed: int, item: str) -> bytes:
    return hashlib.sha256(f"{protocol_id}\n{seed}\n{item}".encode()).digest()


def _count(what: str, kind: str, value: float, by_unit: bool, group: tuple, n: int) -> int:
    """How many of a group's `n` samples or units are taken."""
    things = "units" if by_unit else "samples"
    where = "".join(f" of {part}" for part in group if part is not None)
    if kind == "fraction":
        fraction = Fraction(str(value))
        if fraction <= 0:
            raise FacebenchError(
                f"{what}: the subset is empty; there are {n} {things}{where}; the smallest useful "
                f"fraction is {float(f'{1 / n:.3g}')}"
            )
        if fraction > 1:
            raise UsageError(f"{what}: expected a fraction in (0, 1]")
        return -(-fraction.numerator * n // fraction.denominator)
    if value != int(value):
        raise UsageError(f"{what}: expected a whole number of {kind}")
    if value < 1:
        raise FacebenchError(
            f"{what}: the subset is empty; there are {n} {things}{where}; the smallest useful "
            "value is 1"
        )
    if value > n:
        raise FacebenchError(
            f"{what}: asks for more than there is: {n} {things}{where}; the largest value is {n}"
        )
    return int(value)


def of_protocol(
    protocol: Protocol, dataset: Dataset, value: float, seed: int
) -> tuple[np.ndarray, str]:
    """The subset of a protocol's trial, held against the digest that the protocol froze.

    Returns:
        indices into the training split, ascending, and the subset's digest.

    Raises:
        FacebenchError: the subset is not the frozen one, or cannot be drawn.
    """
    train = dataset.split("train")
    indices = draw(protocol.id, protocol.regimes, value, seed, train.keys, train.units)
    found = digest([train.keys[i] for i in indices])
    frozen = protocol.subsets.get(subset_key(value, seed))
    if frozen is not None and frozen != found:
        raise FacebenchError(
            f"protocol {protocol.id}: subset {subset_key(value, seed)} is {digests.short(found)}, "
            f"the protocol froze {digests.short(frozen)}: the keys of {dataset.label} are not "
            "those it was frozen on; prepare the version that it names"
        )
    return indices, found
