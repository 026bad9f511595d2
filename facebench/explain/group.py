"""Parts of the test samples: by an array of the labels, or by a file with a value per sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from facebench import files
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.metrics._splits import NOT_ROWS
from facebench.protocol import Protocol

MANY = 12  # distinct numbers beyond which a field of fractions is cut into quarters
LIMIT = 1 << 30  # bytes of a file of values

#: What stands in a row of each array, for the tasks whose rows are not the test samples.
_PAIRS = ("score", "same", "fold", "group")
_PROBES = ("similarity", "probe", "probe_identity")


@dataclasses.dataclass(frozen=True)
class Part:
    """Some of the test samples.

    Attributes:
        name: ``group = 3``.
        n: how many samples.
        rows: which rows are kept, bool, of each array that has such rows; an array that is not
            named stays whole, one that is named None is left out.
    """

    name: str
    n: int
    rows: Mapping[str, np.ndarray | None]

    def cut(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Predictions and labels of these samples alone."""
        first, second = ({}, {})  # type: tuple[dict, dict]
        for source, kept in ((predictions, first), (targets, second)):
            for name, array in source.items():
                rows = self.rows.get(name, ...)
                if rows is not None:
                    kept[name] = array if rows is ... else array[rows]
        return first, second


def split(
    protocol: Protocol, targets: Mapping[str, np.ndarray], field: str
) -> tuple[str, list[Part]]:
    """Divides the test samples by the values of a field.

    Args:
        protocol: whose samples.
        targets: its labels.
        field: an array of `targets`, or the path of an ``.npy`` file with one value per test
            sample (of recognition also per pair or per probe).

    Returns:
        What the field is called and its parts, in the order of their values. Text and whole
        numbers make a part per value, and so do fractions of up to `MANY` values; more are cut
        into quarters. Of an array of true and false per sample the parts are ``all`` and ``some``
        (such as visible points).

    Raises:
        UsageError: no such array.
        FacebenchError: the file cannot be read, or its values do not fit the samples.
    """
    name, values = _values(targets, field)
    where = f"--group={field}"
    if values.ndim == 2 and values.dtype == bool:
        values = np.where(values.all(axis=1), "all", np.where(values.any(axis=1), "some", "none"))
    if values.ndim != 1 or values.dtype.kind not in "biufSU":
        raise FacebenchError(
            f"{where}: found {values.dtype} of shape {values.shape}; expected one number or text "
            "per test sample"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise FacebenchError(f"{where}: holds NaN or infinity, first in row {row}")
    labels, of = _labelled(values)
    return name, [_part(protocol, targets, where, name, s, of == i) for i, s in enumerate(labels)]


def _values(targets: Mapping[str, np.ndarray], field: str) -> tuple[str, np.ndarray]:
    if field in targets:
        return field, np.asarray(targets[field])
    path = Path(field)
    if path.suffix != ".npy":
        raise UsageError(
            f"--group={field}: the labels have no such array ({nearest(field, targets)}); or give "
            "the path of an .npy file with one value per test sample"
        )
    with files.explained(path, "reading"):
        size = path.stat().st_size
        if size > LIMIT:
            raise FacebenchError(f"{path}: {size} bytes; expected one value per test sample")
        try:
            return path.stem, np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FacebenchError(f"{path}: not a readable .npy of plain values: {error}") from error


def _labelled(values: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names of the parts, and which part each row belongs to."""
    known, of = np.unique(values, return_inverse=True)
    if values.dtype.kind == "f" and len(known) > MANY:
        ordered = np.sort(values)
        cuts = np.unique(ordered[[len(values) * k // 4 for k in range(1, 4)]])
        of = np.searchsorted(cuts, values, side="right")
        ends = [ordered[0], *cuts, ordered[-1]]
        closing = [")"] * (len(cuts)) + ["]"]
        names = [f"[{ends[i]:.4g}, {ends[i + 1]:.4g}{end}" for i, end in enumerate(closing)]
        present = np.unique(of)
        return [names[i] for i in present], np.searchsorted(present, of)
    text = known.astype(str) if known.dtype.kind != "S" else np.char.decode(known, "latin-1")
    return [str(item) for item in text], of


def _part(
    protocol: Protocol,
    targets: Mapping[str, np.ndarray],
    where: str,
    field: str,
    label: str,
    rows: np.ndarray,
) -> Part:
    name, n = f"{field} = {label}", int(rows.sum())
    if "probe_identity" not in targets and "same" not in targets:
        if len(rows) != protocol.n:
            raise FacebenchError(
                f"{where}: {len(rows)} values; expected one for each of {protocol.n} test samples"
            )
        arrays = [*protocol.predictions, *targets]
        return Part(name, n, {array: rows for array in arrays if array not in NOT_ROWS})
    sizes = {"pair": len(targets.get("same", ())), "probe": len(targets.get("probe_identity", ()))}
    everything: dict[str, np.ndarray | None] = dict.fromkeys((*_PAIRS, *_PROBES))
    everything |= dict.fromkeys(("gallery", "gallery_identity", "unit"))
    gallery = protocol.evaluation.get("gallery", ())
    if len(rows) == protocol.n and protocol.evaluation.get("pairs") == "all":
        i, j = np.triu_indices(protocol.n, 1)
        probes = np.setdiff1d(np.arange(protocol.n), [] if gallery == "subset" else gallery)
        kept = {"pair": rows[i] & rows[j], "probe": rows[probes]}
    else:
        kept = {kind: rows for kind, size in sizes.items() if size == len(rows)}
        if not kept:
            raise FacebenchError(
                f"{where}: {len(rows)} values; expected one for each of the {protocol.n} test "
                f"samples, {sizes['pair']} pairs or {sizes['probe']} probes"
            )
    if "pair" in kept and len(kept["pair"]) == sizes["pair"] and kept["pair"].any():
        everything |= dict.fromkeys(_PAIRS, kept["pair"])
    if "probe" in kept and len(kept["probe"]) == sizes["probe"] and kept["probe"].any():
        everything |= dict.fromkeys(_PROBES, kept["probe"])
        del everything["gallery"], everything["gallery_identity"]
    return Part(name, n, everything)
