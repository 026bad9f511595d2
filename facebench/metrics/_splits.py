"""Several test splits scored together: the first under plain names, each other as ``NAME/SPLIT``.

Targets may hold ``split`` (n,), whole numbers from 0 on, and ``split_names`` (S,), what they are
called: rows of split 0 are those of the test split, and every other split is scored by itself.
Where the rows are of one split only (someone asks for a part of them) there is nothing to tell
apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from facebench.metrics._arrays import Arrays

#: Arrays whose first axis is not the samples', whatever its length.
NOT_ROWS = frozenset({"class_names", "au_names", "split_names", "threshold", "size", "cues"})


def each(predictions: Arrays, targets: Arrays) -> Iterator[tuple[str, np.ndarray | None]]:
    """What is put behind the metric names of each split, and its rows, bool; the first plain.

    Raises:
        FacebenchError: `targets` hold a split without a name, or names that are no names.
    """
    if "split" not in targets:
        yield "", None
        return
    split = targets.integers("split", ("n",))
    names = targets.take("split_names", ("S",))
    if names.dtype.kind != "U":
        raise targets.fault("split_names", f"holds {names.dtype}", "text")
    if split.min() < 0 or split.max() >= len(names):
        found = split.min() if split.min() < 0 else split.max()
        raise targets.fault("split", f"holds {found}", f"0 to {len(names) - 1}, a split's place")
    there = np.unique(split)
    for place in there:
        plain = place == 0 or len(there) == 1
        yield "" if plain else f"/{names[place]}", split == place


def cut(arrays: Arrays, rows: np.ndarray | None) -> Arrays:
    """The arrays of some samples; those that have no row per sample stay whole."""
    if rows is None:
        return arrays
    kept = {}
    for name, given in arrays.arrays.items():
        array = np.asarray(given)
        of_samples = name not in NOT_ROWS and array.ndim > 0 and len(array) == len(rows)
        kept[name] = array[rows] if of_samples else array
    return Arrays(kept, arrays.where)
