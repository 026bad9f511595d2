"""The judge: arrays of predictions and targets in, named numbers out. NumPy, float64, no JAX.

One module per task, imported when it is first asked for. `score` is the only way by which a
number reaches a board; names of tasks, conventions, arrays and metrics are public and stable.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from facebench.errors import FacebenchError, UsageError, nearest

if TYPE_CHECKING:
    from facebench.metrics._arrays import Value
    from facebench.metrics._parts import Parts

#: Task name to the module that scores it. Such a module holds ``score``, ``CONVENTIONS``,
#: ``METRICS`` and ``AXES``, and may hold ``parts`` and ``RULES``.
TASKS: Mapping[str, str] = MappingProxyType(
    {
        "action_unit_intensity": "facebench.metrics.action_unit_intensity",
        "action_units": "facebench.metrics.action_units",
        "expression": "facebench.metrics.expression",
        "landmarks": "facebench.metrics.landmarks",
        "parsing": "facebench.metrics.parsing",
        "recognition": "facebench.metrics.recognition",
        "valence_arousal": "facebench.metrics.valence_arousal",
    }
)

_NAME = re.compile(
    r"(?P<stem>[a-z][a-z0-9_]*?)"
    r"(?:(?P<at>@(?:[a-z]+=)?)(?P<level>[0-9.]+(?:e-?[0-9]+)?))?"
    r"(?::(?P<rule>[a-z]+))?(?:_per_(?P<axis>[a-z]+))?(?P<split>/[a-z][a-z0-9_]*)?"
)


def tasks() -> list[str]:
    """The names of the tasks that can be scored."""
    return sorted(TASKS)


def conventions(task: str) -> list[str]:
    """The names of a task's conventions.

    Raises:
        UsageError: no such task.
    """
    return list(_module(task).CONVENTIONS)


def score(
    task: str,
    predictions: Mapping[str, Any],
    targets: Mapping[str, Any],
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
    *,
    where: tuple[str, str] = ("predictions", "targets"),
) -> dict[str, Value]:
    """Scores predictions against targets.

    Args:
        task: one of `tasks`.
        predictions: array name to array, as the task's module says.
        targets: likewise; arrays that the task does not read are left alone.
        convention: one of `conventions`; without it the task's plain one (``K-inter-ocular``,
            ``pooled``, and ``fold-mean`` for action units with folds).
        thresholds: where curves are read; per cent for landmarks, false accept rates for
            recognition; the other tasks have none. Without it the convention's usual ones.
        where: what messages call `predictions` and `targets`, such as their files.

    Returns:
        Metric name to a finite number, or None where the metric has no value on this input; where
        `targets` hold several test splits (``split``, ``split_names``) those after the first as
        ``NAME/SPLIT``;
        lists only under ``*_per_*`` (of rows under ``confusion_per_class``). Landmark metrics are
        in per cent, errors of intensities, valence and arousal in their unit, divergences in nats,
        confusions are counts, all others fractions.

    Raises:
        FacebenchError: an array is missing, of the wrong shape or type, empty, not finite, or
            does not fit the others; the message names the array, what was found and expected.
        UsageError: a wrong task, convention or threshold; the nearest names are given.
    """
    module = _module(task)
    import numpy as np  # here, so that names and conventions can be listed without it

    from facebench.metrics import _splits
    from facebench.metrics._arrays import Arrays

    predicted, true = Arrays(predictions, where[0]), Arrays(targets, where[1])
    found: dict[str, Value] = {}
    for suffix, rows in _splits.each(predicted, true):
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            part = module.score(
                _splits.cut(predicted, rows), _splits.cut(true, rows), convention, thresholds
            )
        found |= {f"{name}{suffix}": value for name, value in part.items()}
    for name, value in found.items():
        for number in _numbers(value):
            if not math.isfinite(number):
                raise FacebenchError(
                    f"{where[0]}: metric {name!r} is {number}; expected a finite number: values "
                    "in the arrays are too large or too small for float64 arithmetic"
                )
    return found


# -- parts: for intervals over other test samples ------------------------------------------------


def parts(
    task: str,
    convention: str | None,
    predictions: Mapping[str, Any],
    targets: Mapping[str, Any],
    *,
    where: tuple[str, str] = ("predictions", "targets"),
) -> dict[str, Parts]:
    """What the metrics of a task are made of that are functions of sums over samples.

    Args:
        task: one of `tasks`.
        convention: one of `conventions`, or None for the task's plain one.
        predictions: as for `score`.
        targets: as for `score`; ``unit`` says which samples belong together.
        where: as for `score`.

    Returns:
        Metric name to its parts. A metric that is not there has no interval over samples: it is
        no such function, or its task's module has no ``parts(predictions, targets, convention)``.

    Raises:
        FacebenchError: see `score`.
        UsageError: see `score`.
    """
    module = _module(task)
    if not hasattr(module, "parts"):
        return {}
    from facebench.metrics import _splits
    from facebench.metrics._arrays import Arrays

    predicted, true = Arrays(predictions, where[0]), Arrays(targets, where[1])
    found: dict[str, Parts] = {}
    for suffix, rows in _splits.each(predicted, true):
        part = module.parts(_splits.cut(predicted, rows), _splits.cut(true, rows), convention)
        found |= {f"{name}{suffix}": value for name, value in part.items()}
    return found


# -- end of parts ---------------------------------------------------------------------------------


def metric_info(task: str, name: str) -> dict[str, Any]:
    """What a metric's name means.

    Args:
        task: one of `tasks`.
        name: as `score` returns it: ``nme``, ``fr@10``, ``tar@far=1e-3``, ``eer_per_group``,
            ``uar/test_occluded``.

    Returns:
        ``unit`` (``%``, ``fraction``, ``nats``, ``intensity``, ``intensity^2``, ``ratio``,
        ``count``, or ``scale``: of the labels, such as valence from -1 to 1),
        ``higher_is_better`` (None for a spread, a check or a table),
        ``range`` [low, high or None] and ``meaning``, one line.

    Raises:
        UsageError: no such task or metric; the nearest names are given.
    """
    module = _module(task)
    match = _NAME.fullmatch(name)
    head = (match["stem"] + (match["at"] or "")) if match else name
    rules = getattr(module, "RULES", {}).get(head, ())
    if (
        match is None
        or head not in module.METRICS
        or match["axis"] not in (None, *module.AXES)
        or match["rule"] not in (None, *rules)
    ):
        forms = [key + "T" if key.endswith(("@", "=")) else key for key in module.METRICS]
        typed = head + ("T" if match["level"] else "") if match else name
        raise UsageError(f"{task} has no metric {name!r}: {nearest(typed, forms)}")
    unit, higher_is_better, limits, meaning = module.METRICS[head]
    return {
        "unit": unit,
        "higher_is_better": higher_is_better,
        "range": list(limits),
        "meaning": meaning,
    }


def _numbers(value: Value) -> Iterator[float]:
    if isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif value is not None:
        yield value


def _module(task: str) -> ModuleType:
    if task not in TASKS:
        raise UsageError(f"no task is named {task!r}: {nearest(task, TASKS)}")
    return importlib.import_module(TASKS[task])
