"""Scoring anybody's predictions: two array files in, one flat dict of metrics out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from facebench import files, metrics

if TYPE_CHECKING:
    from facebench.metrics._arrays import Value


def score_files(
    task: str,
    predictions: Path,
    targets: Path,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores an ``.npz`` of predictions against an ``.npz`` of targets, from any framework.

    The files are read without pickle, so nothing in them is run. `facebench.metrics.score` does
    the rest: it is the same judge that scores trials.

    Args:
        task: one of `facebench.metrics.tasks`.
        predictions: an ``.npz`` with the task's prediction arrays.
        targets: an ``.npz`` with its target arrays.
        convention: one of `facebench.metrics.conventions`, or None for the plain one.
        thresholds: where curves are read, or None for the usual places.

    Returns:
        A dict that JSON can say: finite numbers, lists under ``*_per_*``, and null (None) for a
        metric that has no value on this input, so that a script finds every name every time.

    Raises:
        FacebenchError: a file cannot be read, or an array in it cannot be scored; the message
            names the file and the array.
        UsageError: a wrong task, convention or threshold.
    """
    metrics.conventions(task)  # a mistyped task is told before any file is read
    return metrics.score(
        task,
        files.read_npz(predictions),
        files.read_npz(targets),
        convention,
        thresholds,
        where=(str(predictions), str(targets)),
    )


if __name__ == "__main__":
    import sys

    from facebench.cli import main

    sys.exit(main(["score", *sys.argv[1:]]))
