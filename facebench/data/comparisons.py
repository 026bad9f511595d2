"""Who is compared with whom in a recognition protocol: pairs, templates, a gallery, and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facebench import files
from facebench.data import lists, subsets
from facebench.data.source import Split, field, places
from facebench.errors import FacebenchError, UsageError
from facebench.protocol import Protocol


def pairs(protocol: Protocol, split: Split) -> np.ndarray:
    """The verification pairs of a recognition protocol.

    ``{"pairs": "all"}``: (i, j) with i < j, row by row. ``{"pairs": "list:NAME"}``: those of a list
    that the dataset brings along (`facebench.data.lists`), in its order.

    Args:
        protocol: its `evaluation` is read.
        split: the test split.

    Returns:
        int64 [m, 2], places among the samples that count (`subsets.used`); of a list of templates
        places among its templates.

    Raises:
        UsageError: the protocol asks for pairs that are not known.
    """
    kind = protocol.evaluation.get("pairs")
    if name := lists.asked(protocol):
        return lists.pairs(split, name)
    if kind != "all":
        raise UsageError(
            f"protocol {protocol.id}: evaluation.pairs {kind!r}: expected 'all' or 'list:NAME'"
        )
    return np.stack(np.triu_indices(len(split), 1), axis=1)


def templates(protocol: Protocol, split: Split) -> dict[str, np.ndarray] | None:
    """`template`, `media` and `weight` of the samples that count; None where images are compared.

    See `facebench.data.lists.templates`.
    """
    name = lists.asked(protocol)
    return lists.templates(split, name) if name else None


def gallery(protocol: Protocol, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The probes and the gallery of a recognition protocol.

    Args:
        protocol: its `evaluation.gallery` lists test samples; all others are probes.
        n: samples of the test split.

    Returns:
        probes int64 [p], ascending, and gallery int64 [g], as listed.

    Raises:
        FacebenchError: no gallery, no probe left, an index out of range or twice.
    """
    listed = np.asarray(protocol.evaluation.get("gallery", ()), np.int64)
    where = f"protocol {protocol.id}: evaluation.gallery"
    if not len(listed):
        raise FacebenchError(f"{where} is missing or empty; list test samples by index")
    if len(wrong := listed[(listed < 0) | (listed >= n)]):
        raise FacebenchError(f"{where}: {wrong[0]} is no index into {n} test samples")
    if len(np.unique(listed)) < len(listed):
        raise FacebenchError(f"{where} lists a sample twice")
    probes = np.setdiff1d(np.arange(n), listed)
    if not len(probes):
        raise FacebenchError(f"{where} lists all {n} test samples, so no probe is left")
    return probes, listed


def enrolled(protocol: Protocol) -> bool:
    """Whether the gallery is what was trained on: ``evaluation.gallery`` is ``"subset"``."""
    return protocol.evaluation.get("gallery") == "subset"


def people(protocol: Protocol, split: Split) -> tuple[int, np.ndarray]:
    """The people of a closed set, and who each test sample shows.

    Args:
        protocol: whose gallery is the subset that was trained on.
        split: the test split; its dataset's training split holds the people.

    Returns:
        how many people the training split has, and int32 [n]: the place of each test sample's
        person among their sorted names.

    Raises:
        FacebenchError: a test person is not in the training split.
    """
    path = Path(split.folder) / "samples-train.npz"
    known = np.unique(files.read_npz(path)["unit"])
    units = np.array(split.units)
    if not (there := np.isin(units, known)).all():
        unit = str(units[~there][0])
        raise FacebenchError(
            f"protocol {protocol.id}: evaluation.gallery 'subset': test unit {unit!r} of "
            f"{split.label} is not in its training split, so nobody can find it"
        )
    return len(known), np.searchsorted(known, units).astype(np.int32)


def labels(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    """The test labels of a recognition protocol, see `facebench.data.targets.build`."""
    rows = subsets.used(protocol, split)
    units = places([split.units[i] for i in rows])
    made: dict[str, np.ndarray] = {}
    if name := lists.asked(protocol):
        listed = lists.read(split, name)
        made = {array: listed[array] for array in ("same", "fold", "group") if array in listed}
    elif "pairs" in protocol.evaluation:
        i, j = pairs(protocol, split).T
        made["same"] = units[i] == units[j]
        if "group" in protocol.evaluation:
            made["group"] = _pair_groups(protocol, split, i, j)
    if enrolled(protocol):
        known, probes = people(protocol, split)
        made |= {"probe_identity": probes, "gallery_identity": np.arange(known, dtype=np.int32)}
    elif "gallery" in protocol.evaluation or not made:
        chosen, listed_rows = gallery(protocol, len(split))
        mated = np.isin(units[chosen], units[listed_rows])
        made["probe_identity"] = np.where(mated, units[chosen], -1).astype(np.int32)
        made["gallery_identity"] = units[listed_rows]
    # Of every sample that counts: pair k is of samples pairs(...)[k], so it follows for pairs too.
    return made | ({"unit": units} if protocol.cluster else {})


def _pair_groups(protocol: Protocol, split: Split, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The group of both samples of each pair, -1 where they are of two."""
    group = field(split, protocol.evaluation["group"])
    if group.ndim != 1 or group.dtype.kind not in "iu" or group.min() < 0 or group.max() > 32767:
        raise FacebenchError(
            f"protocol {protocol.id}: evaluation.group: field {protocol.evaluation['group']!r} of "
            f"{split.label} holds {group.dtype} of shape {group.shape}, expected a whole number "
            "from 0 to 32767 per sample"
        )
    return np.where(group[i] == group[j], group[i], -1).astype(np.int16)
