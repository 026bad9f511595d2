"""The judge: opens a protocol's test labels and scores stored predictions with them.

The one place where a number is computed that a board shows. It reads what was stored (quantised
as the protocol says), never what a model had in memory, so a score can be had again by anyone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from facebench import digest, files, metrics
from facebench.errors import FacebenchError, nearest
from facebench.protocol import Protocol, dequantise
from facebench.workspace import Workspace

_RATE = re.compile(r"@(?:far|fpir)=([0-9.e-]+)")

TOLERANCE = 1e-9  # a metric computed again may differ by this much, relative to max(1, |value|)


class MissingTargetsError(FacebenchError):
    """The test labels are not on this machine."""


def load_targets(workspace: Workspace, protocol: Protocol) -> dict[str, np.ndarray]:
    """Reads the test labels of a protocol and holds them against its digest.

    Raises:
        MissingTargetsError: they are not here; the message says how to get them.
        FacebenchError: the file is damaged or holds other labels than the protocol names.
    """
    path = workspace.targets(protocol.id, protocol.public)
    if not path.is_file():
        raise MissingTargetsError(
            f"{path}: the test labels of {protocol.id} are not here; make them with: "
            f"facebench data prepare {protocol.dataset['name']}"
        )
    targets = files.read_npz(path)
    found = digest.of_arrays(targets)
    if found != protocol.targets:
        raise FacebenchError(
            f"{path}: other labels than {protocol.id} names: digest {digest.short(found)}, "
            f"expected {digest.short(protocol.targets or 'none')}; restore the file, or delete it "
            f"and run: facebench data prepare {protocol.dataset['name']}"
        )
    return targets


def score(
    protocol: Protocol,
    stored: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    names: Collection[str] | None = None,
) -> dict[str, float]:
    """Scores stored predictions by the metrics of a protocol.

    Args:
        protocol: says the task, the convention, how predictions are stored and which metrics.
        stored: arrays as `facebench.protocol.quantise` made them.
        targets: the labels, as `load_targets` read them.
        names: of the protocol's metrics, those that are wanted; None for all.

    Returns:
        Each of these metrics, in the protocol's order, and no other.

    Raises:
        FacebenchError: an array is missing, misnamed, of a wrong type or shape, or a metric
            does not exist, is not a finite number or lies outside its range.
    """
    values = metrics.score(
        protocol.task,
        dequantise(protocol, stored),
        dict(targets),
        convention=protocol.convention,
        thresholds=_rates(protocol),
    )
    scores = {}
    for metric in protocol.metrics:
        name = metric["name"]
        if names is not None and name not in names:
            continue
        value = values.get(name)
        if not isinstance(value, int | float):
            numbers = [k for k, v in values.items() if isinstance(v, int | float)]
            raise FacebenchError(
                f"{protocol.id}: metric {name!r} is {'no' if name in values else 'not a'} number "
                f"of these predictions: {nearest(name, numbers)}"
            )
        scores[name] = float(value)
        if not in_range(metric, scores[name]):
            raise FacebenchError(
                f"{protocol.id}: metric {name!r} is {scores[name]}, outside its range "
                f"{metric['range']}"
            )
    return scores


def _rates(protocol: Protocol) -> list[float] | None:
    """The false accept and false positive rates that the metrics of a protocol name; None if none.

    So a protocol may ask for a rate that its convention does not give unasked, such as IJB's 1e-6.
    """
    named = (_RATE.search(metric["name"]) for metric in protocol.metrics)
    return sorted({float(found[1]) for found in named if found}) or None


def score_file(
    protocol: Protocol, path: Path, targets: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """`score` for a file of stored predictions; faults name the file."""
    stored = files.read_npz(path)
    try:
        return score(protocol, stored, targets)
    except FacebenchError as error:
        raise FacebenchError(f"{path}: {error}") from error


def misfits(protocol: Protocol) -> list[str]:
    """What a protocol says of its metrics otherwise than the judge does, one line each."""
    lines = []
    conventions = metrics.conventions(protocol.task)
    if protocol.convention is not None and protocol.convention not in conventions:
        hint = nearest(protocol.convention, conventions)
        lines.append(f"no convention {protocol.convention!r}: {hint}")
    for metric in protocol.metrics:
        try:
            known = metrics.metric_info(protocol.task, metric["name"])
        except FacebenchError as error:
            lines.append(str(error))
            continue
        for field in ("higher_is_better", "range"):
            if metric[field] != known[field] and known[field] is not None:
                lines.append(
                    f"metric {metric['name']}: {field} is {metric[field]}, expected {known[field]}"
                )
        if metric["primary"] and known["higher_is_better"] is None:
            lines.append(f"metric {metric['name']}: nothing is ranked by it; it cannot be primary")
    return lines


def in_range(metric: Mapping, value: float) -> bool:
    """Whether a value is a finite number inside the closed range of its metric."""
    low, high = metric["range"]
    return (
        math.isfinite(value)
        and (low is None or value >= low - TOLERANCE)
        and (high is None or value <= high + TOLERANCE)
    )


def worst(protocol: Protocol) -> dict[str, float | None]:
    """What a diverged trial scores: the worst end of each range, None where there is no end."""
    return {
        metric["name"]: metric["range"][0 if metric["higher_is_better"] else 1]
        for metric in protocol.metrics
    }


def differences(
    claimed: Mapping[str, float | None], found: Mapping[str, float | None]
) -> list[str]:
    """One line for each metric that is not the same within `TOLERANCE`."""
    lines = []
    for name in sorted(set(claimed) | set(found)):
        a, b = claimed.get(name, "absent"), found.get(name, "absent")
        if isinstance(a, int | float) and isinstance(b, int | float):
            if abs(a - b) <= TOLERANCE * max(1.0, abs(b)):
                continue
        elif a == b:
            continue
        lines.append(f"{name}: recorded {a!r}, its predictions score {b!r}")
    return lines
