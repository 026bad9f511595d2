"""Scoring anybody's predictions: two array files in, one flat dict of metrics out.

Either may be a folder of ``NAME.npy`` files instead of an ``.npz``. They are then mapped and read
in blocks, so that a collection larger than the memory can be scored.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib import format as npy

from facebench import files, metrics
from facebench.errors import FacebenchError

if TYPE_CHECKING:
    from facebench.metrics._arrays import Value


def score_files(
    task: str,
    predictions: Path,
    targets: Path,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores an ``.npz`` (or folder) of predictions against one of targets, from any framework.

    The files are read without pickle, so nothing in them is run. `facebench.metrics.score` does
    the rest: it is the same judge that scores trials.

    Args:
        task: one of `facebench.metrics.tasks`.
        predictions: an ``.npz``, or a folder of ``.npy`` files, with the task's prediction arrays.
        targets: likewise with its target arrays.
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
        _arrays(predictions),
        _arrays(targets),
        convention,
        thresholds,
        where=(str(predictions), str(targets)),
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``, or those of a folder, mapped and not yet read."""
    if not path.is_dir():
        return files.read_npz(path)
    arrays: dict[str, np.ndarray] = {}
    with files.explained(path, "reading"):
        found = sorted(path.glob("*.npy"))
    if not found or len(found) > files.MAX_MEMBERS:
        raise FacebenchError(
            f"{path}: holds {len(found)} .npy files; expected 1 to {files.MAX_MEMBERS}, one per "
            "array, named as the array and written with numpy.save"
        )
    for file in found:
        if not file.is_file():
            raise FacebenchError(f"{file}: reading failed: it is no regular file")
        try:
            with files.explained(file, "reading"):
                array = npy.open_memmap(file, mode="r")
        except (ValueError, TypeError, EOFError, OverflowError, SyntaxError) as error:
            line = " ".join(str(error).split())[:200]
            raise FacebenchError(
                f"{file}: not a readable .npy of a plain array: {line}; write it with numpy.save"
            ) from error
        if array.dtype.kind not in files.ARRAY_KINDS:
            raise FacebenchError(f"{file}: holds {array.dtype}; expected numbers or text")
        arrays[file.stem] = array
    return arrays


if __name__ == "__main__":
    import sys

    from facebench.cli import main

    sys.exit(main(["score", *sys.argv[1:]]))
