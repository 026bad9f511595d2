"""Few-shot subsets: which training samples a regime may use.

Samples (or units: subjects, identities, videos) are ranked by SHA-256 of the protocol's id, the
draw and their key, and the first are taken. So a subset depends neither on the order of files nor
on a library's random numbers, and a smaller one lies within every larger one. The id that salts
the draw has its ``@version``: another version draws anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from facebench import digest as digests
from facebench.data import strata as strata_of
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.protocol import Protocol, draw_of, subset_key

if TYPE_CHECKING:
    from facebench.data.source import Dataset, Split

KINDS = ("full", "fraction", "shots", "units", "zero")


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
    strata: Sequence[Hashable] | np.ndarray | None = None,
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
    zero       -          nothing
    =========  =========  ==================================================================

    ``ceil`` is of the decimal number as written: 0.07 of 100 is 7. Strata of classes are groups:
    each is drawn from by itself, so samples of other classes change nothing. Labels that stand
    together (a 2-D `strata`) make no groups: `value` counts all samples or units, and their order
    keeps every label's share (`strata.balanced_order`).

    ``frames`` of the regimes, ``{"fraction": f}`` or ``{"count": m}``, keeps of every drawn unit
    m = ceil(f * n) or m of its n samples: numbers ``floor((2 j + 1) n / 2 m)``, j from 0, in the
    order of their keys, numbers in them read as numbers.

    Args:
        protocol_id: the name that salts the draw, ``task/dataset/regime@version``.
        regimes: the protocol's regimes: `kind`, `by` and `frames` are read.
        value: the fraction in (0, 1], or the number of shots or units; 0 of kind ``zero``.
        seed: which repeat.
        keys: of every training sample; they differ from one another.
        units: of every training sample.
        strata: a class or attribute of every training sample; or int64 [n, A] of 0 and 1, labels
            that may stand together; or None. Classes that are drawn by unit must not divide one.

    Returns:
        indices into `keys`, ascending, int64; empty for kind ``zero`` alone.

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
    strata = [None] * len(keys) if strata is None else strata
    if not len(keys) == len(units) == len(strata):
        raise FacebenchError(
            f"{what}: {len(keys)} keys, {len(units)} units and {len(strata)} strata; "
            "expected one of each per sample"
        )
    if len(set(keys)) < len(keys):
        seen: set[str] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise FacebenchError(f"{what}: the key {twice!r} stands twice; prepare the dataset again")
    if not len(keys):
        raise FacebenchError(f"{what}: the training split is empty; prepare the dataset again")
    if kind == "zero":
        if value != 0:
            raise UsageError(f"{what}: kind 'zero' has the one value 0")
        return np.zeros(0, np.int64)
    names, code = _codes(units)  # units as whole numbers
    if kind == "full":
        chosen = np.ones(len(keys), bool)
    elif kind == "units" or (kind == "fraction" and by == "unit"):
        chosen = _units(what, kind, value, f"{protocol_id}\n{seed}\n", names, code, strata)[code]
    else:
        groups: Sequence[Hashable] | np.ndarray = strata
        if kind == "shots" and by == "unit":
            if isinstance(strata, np.ndarray) and strata.ndim == 2:
                raise UsageError(f"{what}: shots of every unit are not balanced over labels")
            groups = list(zip(units, strata))
        ranks = _ranks(f"{protocol_id}\n{seed}\n", keys)
        chosen = _take(what, kind, value, "samples", ranks, groups, np.ones(len(keys), np.int64))
    indices = np.flatnonzero(chosen)
    return _frames(what, regimes["frames"], indices, keys, code) if "frames" in regimes else indices


def _codes(items: Iterable[Hashable]) -> tuple[list[Any], np.ndarray]:
    """The different items, and every item as its place among them."""
    places: dict[Hashable, int] = {}
    code = np.fromiter((places.setdefault(item, len(places)) for item in items), np.int64)
    return list(places), code


def _ranks(salt: str, items: Sequence[str]) -> np.ndarray:
    """The SHA-256 of each item behind the salt, uint64 [n, 4], the first word counting most."""
    start = salt.encode()
    found = b"".join([hashlib.sha256(start + item.encode()).digest() for item in items])
    return np.frombuffer(found, ">u8").reshape(-1, 4).astype(np.uint64)


def _units(
    what: str,
    kind: str,
    value: float,
    salt: str,
    names: list[str],
    code: np.ndarray,
    strata: Sequence[Hashable] | np.ndarray,
) -> np.ndarray:
    """Which units are taken, bool [units]."""
    ranks, sizes = _ranks(salt, names), np.bincount(code)
    if isinstance(strata, np.ndarray) and strata.ndim == 2:
        counts = np.stack([np.bincount(code, column) for column in strata.T], 1).astype(np.int64)
        return _take(what, kind, value, "units", ranks, counts, sizes)
    kinds, group = _codes(strata)
    home = np.zeros(len(names), np.int64)
    home[code] = group
    if (divided := home[code] != group).any():
        unit = min(names[i] for i in np.unique(code[divided]))
        raise FacebenchError(
            f"{what}: unit {unit!r} lies in more than one stratum; draw by sample, or balance the "
            "classes over units: strata.rule 'multilabel'"
        )
    return _take(what, kind, value, "units", ranks, [kinds[i] for i in home], sizes)


def _take(
    what: str,
    kind: str,
    value: float,
    things: str,
    ranks: np.ndarray,
    strata: Sequence[Hashable] | np.ndarray,
    sizes: np.ndarray,
) -> np.ndarray:
    """Which items are taken, bool [n]: the first of each group, or of the balanced order."""
    taken = np.zeros(len(ranks), bool)
    if isinstance(strata, np.ndarray) and strata.ndim == 2:
        n = _count(what, kind, value, things, lambda: "", len(ranks))
        taken[strata_of.balanced_order(strata, sizes, ranks)[:n]] = True
        return taken
    names, group = _codes(strata)
    there = np.bincount(group)
    wanted = np.zeros(len(names), np.int64)
    for n in np.unique(there):  # the smallest group first: it is the one that may be too small
        same = np.flatnonzero(there == n)
        wanted[same] = _count(what, kind, value, things, _smallest(names, same), int(n))
    order = np.lexsort((*(ranks[:, i] for i in (3, 2, 1, 0)), group))
    first = np.cumsum(there) - there
    place = np.arange(len(order)) - first[group[order]]
    taken[order[place < wanted[group[order]]]] = True
    return taken


def _smallest(names: list[Any], same: np.ndarray) -> Callable[[], str]:
    def where() -> str:
        parts = min(
            (name if isinstance(name, tuple) else (name,) for name in (names[i] for i in same)),
            key=str,
        )
        return "".join(f" of {part}" for part in parts if part is not None)

    return where


def _count(
    what: str, kind: str, value: float, things: str, where: Callable[[], str], n: int
) -> int:
    """How many of a group's `n` samples or units are taken."""
    if kind == "fraction":
        fraction = Fraction(str(value))
        if fraction <= 0:
            raise FacebenchError(
                f"{what}: the subset is empty; there are {n} {things}{where()}; the smallest "
                f"useful fraction is {float(f'{1 / n:.3g}')}"
            )
        if fraction > 1:
            raise UsageError(f"{what}: expected a fraction in (0, 1]")
        return -(-fraction.numerator * n // fraction.denominator)
    if value != int(value):
        raise UsageError(f"{what}: expected a whole number of {kind}")
    if value < 1:
        raise FacebenchError(
            f"{what}: the subset is empty; there are {n} {things}{where()}; the smallest useful "
            "value is 1"
        )
    if value > n:
        raise FacebenchError(
            f"{what}: asks for more than there is: {n} {things}{where()}; the largest value is {n}"
        )
    return int(value)


def _frames(
    what: str,
    frames: Mapping[str, Any],
    indices: np.ndarray,
    keys: Sequence[str],
    code: np.ndarray,
) -> np.ndarray:
    """Of every unit among the chosen samples, some at equal strides."""
    members: dict[int, list[int]] = {}
    for i in indices.tolist():
        members.setdefault(int(code[i]), []).append(i)
    kept: list[int] = []
    for rows in members.values():
        n = len(rows)
        m = int(frames.get("count", 0)) or _count(what, "fraction", frames["fraction"], "", str, n)
        if m > n:
            raise FacebenchError(
                f"{what}: regimes.frames.count {m}: a unit has {n} samples; ask for fewer, or for "
                "a fraction of them"
            )
        rows.sort(key=lambda i: strata_of.natural(keys[i]))
        kept += [rows[(2 * j + 1) * n // (2 * m)] for j in range(m)]
    return np.array(sorted(kept), np.int64)


# ------------------------------------------------------------------------- of a protocol's data


def classes(protocol: Protocol, split: Split) -> tuple[list[str], np.ndarray]:
    """The classes of an expression protocol.

    Args:
        protocol: its ``evaluation.classes`` chooses class names, in its order; without it all of
            the dataset's count, in the dataset's order.
        split: of its dataset.

    Returns:
        the names, and int32 [all classes of the dataset]: the place of each among them, -1 for
        one that is left out.

    Raises:
        UsageError: the dataset has no such class; the nearest are given.
    """
    known = strata_of.class_names(split, "expression")
    wanted = protocol.evaluation.get("classes") or known
    lookup = np.full(len(known), -1, np.int32)
    for place, name in enumerate(wanted):
        if name not in known:
            raise UsageError(
                f"protocol {protocol.id}: evaluation.classes: dataset {split.label} has no class "
                f"{name!r}: {nearest(name, known)}"
            )
        lookup[known.index(name)] = place
    return list(wanted), lookup


def used(protocol: Protocol, split: Split) -> np.ndarray:
    """The samples of a split that count, int64, ascending.

    All, or those of the classes that do, or of the test split those that the protocol's list of
    pairs compares.

    Raises:
        FacebenchError: none is left.
    """
    from facebench.data import lists

    if split.name == "test" and (name := lists.asked(protocol)):
        return lists.used(split, name)
    if "classes" not in protocol.evaluation:
        return np.arange(len(split))
    from facebench.data.source import field

    _, lookup = classes(protocol, split)
    rows = np.flatnonzero(lookup[field(split, "expression")] >= 0)
    if not len(rows):
        raise FacebenchError(
            f"protocol {protocol.id}: split {split.name!r} of {split.label} has no sample of "
            f"{', '.join(protocol.evaluation['classes'])}"
        )
    return rows


def carve(protocol: Protocol, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Divides the training split into what subsets are drawn from and what selection may look at.

    ``dev`` of a protocol takes ceil(fraction * units) units out of train, the first by SHA-256 of
    the protocol's id, the word ``dev`` and the unit.

    Args:
        protocol: its `dev` and `evaluation` are read.
        split: the training split.

    Returns:
        indices to draw from and indices of dev, both int64 and ascending; the second is empty
        without `dev`.

    Raises:
        FacebenchError: no unit is left to train on.
    """
    rows = used(protocol, split)
    if protocol.dev is None:
        return rows, np.zeros(0, np.int64)
    names, code = _codes([split.units[i] for i in rows])
    what = f"protocol {protocol.id}: dev"
    fraction = protocol.dev["fraction"]
    ranks = _ranks(f"{protocol.id}\ndev\n", names)
    groups = np.zeros(len(names), np.int64)
    taken = _take(what, "fraction", fraction, "units", ranks, groups, np.bincount(code))[code]
    if taken.all():
        raise FacebenchError(
            f"{what}: takes all {len(names)} units of {split.label} and leaves none to train on; "
            "use a smaller dev.fraction"
        )
    return rows[~taken], rows[taken]


def dev(protocol: Protocol, dataset: Dataset) -> np.ndarray:
    """The samples of train that selection may look at, held against the protocol's digest.

    Raises:
        FacebenchError: they are not the frozen ones.
    """
    train = dataset.split("train")
    _, rows = carve(protocol, train)
    if protocol.dev is not None:
        _held(
            protocol, dataset, "dev", digest([train.keys[i] for i in rows]), protocol.dev["digest"]
        )
    return rows


def drawn(protocol: Protocol, dataset: Dataset, value: float, seed: int) -> np.ndarray:
    """The subset of a protocol's regime value and seed, held against nothing: `of_protocol` is.

    Returns:
        indices into the training split, ascending.
    """
    if protocol.regimes["kind"] == "zero":
        return np.zeros(0, np.int64)
    train = dataset.split("train")
    rows, _ = carve(protocol, train)
    rule = protocol.regimes.get("strata")
    groups = None
    if rule is not None:
        groups = strata_of.of_split(train, rule, rows, protocol.evaluation.get("threshold"))
    found = draw(
        protocol.id,
        protocol.regimes,
        value,
        draw_of(protocol.regimes, seed),
        [train.keys[i] for i in rows],
        [train.units[i] for i in rows],
        groups,
    )
    return rows[found]


def of_protocol(
    protocol: Protocol, dataset: Dataset, value: float, seed: int
) -> tuple[np.ndarray, str]:
    """The subset of a protocol's trial, held against the digest that the protocol froze.

    Returns:
        indices into the training split, ascending, and the subset's digest.

    Raises:
        FacebenchError: the subset is not the frozen one, or cannot be drawn.
    """
    indices = drawn(protocol, dataset, value, seed)
    keys = dataset.split("train").keys if len(indices) else []
    found, name = digest([keys[i] for i in indices]), subset_key(value, seed)
    _held(protocol, dataset, f"subset {name}", found, protocol.subsets.get(name))
    return indices, found


def _held(protocol: Protocol, dataset: Dataset, what: str, found: str, frozen: str | None) -> None:
    if frozen is not None and frozen != found:
        raise FacebenchError(
            f"protocol {protocol.id}: {what} is {digests.short(found)}, "
            f"the protocol froze {digests.short(frozen)}: the keys of {dataset.label} are not "
            "those it was frozen on; prepare the version that it names"
        )
