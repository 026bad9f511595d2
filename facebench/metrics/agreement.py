"""How far two sets of predictions of the same samples say the same; no label is read.

A metric over five seeds has a wide interval, and two models may score alike and answer
differently. The share of samples on which they agree tells a repeated run from another run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from facebench.errors import FacebenchError, UsageError, nearest

NEAR = 0.02  # landmarks agree within this part of the face's size
STEP = 0.1  # intensities, valence and arousal agree within this


def _labels(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    first, second = (x["probability"].argmax(1) for x in (a, b))
    return float((first == second).mean())


def _units(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    first, second = (x["probability"] >= 0.5 for x in (a, b))
    return float((first == second).mean())


def _intensities(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    return float((np.abs(a["intensity"] - b["intensity"]) <= STEP).mean())


def _affect(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    return float((np.abs(a["valence_arousal"] - b["valence_arousal"]) <= STEP).mean())


def _classes(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    return float((a["parse"] == b["parse"]).mean())


def _points(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    first, second = a["points"], b["points"]
    extent = first.max(1) - first.min(1)
    size = np.sqrt(np.maximum(extent[:, 0] * extent[:, 1], 1e-12))
    apart = np.sqrt(((first - second) ** 2).sum(-1))
    return float((apart <= NEAR * size[:, None]).mean())


def _matches(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    if "similarity" in a:
        first, second = (x["similarity"].argmax(1) for x in (a, b))
        return float((first == second).mean())
    first, second = (x["score"] >= np.quantile(x["score"], 0.9) for x in (a, b))
    return float((first == second).mean())


#: Task to what it means that two predictions agree.
RULES: Mapping[str, tuple[Callable[..., float], str]] = MappingProxyType(
    {
        "action_units": (_units, "decisions at 0.5 that are the same"),
        "action_unit_intensity": (_intensities, f"intensities within {STEP:g} of each other"),
        "expression": (_labels, "samples with the same most probable class"),
        "landmarks": (_points, f"points within {NEAR:.0%} of the face's size of each other"),
        "parsing": (_classes, "pixels of the same class"),
        "recognition": (_matches, "probes with the same nearest gallery image"),
        "valence_arousal": (_affect, f"valences and arousals within {STEP:g} of each other"),
    }
)


def agreement(task: str, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    """The share of samples (points, pixels, probes) on which two predictions agree, in [0, 1].

    Args:
        task: one of `RULES`; its text says what agreeing means. Recognition without a gallery
            compares which tenth of the pairs is the most similar one.
        a: predicted arrays, as the task's metrics name them.
        b: the same arrays of the other run.

    Raises:
        UsageError: no rule is known for the task.
        FacebenchError: the two hold other arrays or shapes.
    """
    if task not in RULES:
        raise UsageError(f"no rule of agreement for task {task!r}: {nearest(task, RULES)}")
    shapes = [{name: np.shape(array) for name, array in x.items()} for x in (a, b)]
    if shapes[0] != shapes[1]:
        raise FacebenchError(f"agreement: found arrays {shapes[0]} and {shapes[1]}: not the same")
    return RULES[task][0](a, b)
