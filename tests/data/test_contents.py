"""The small fields of many samples: kept in blocks, whatever the number."""

from __future__ import annotations

import numpy as np
import pytest

from facebench.data import contents
from facebench.errors import FacebenchError


def column(values):
    made = contents._Column()
    for value in values:
        made.add(np.asarray(value))
    return made.stacked()


@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 2500])
def test_blocks_are_the_stack_of_all(n):
    rows = np.random.default_rng(0).normal(size=(n, 3))
    assert np.array_equal(column(rows), rows)
    names = [f"key {10 ** (i % 9)}" for i in range(n)]  # texts of different lengths
    found = column(names)
    assert found.tolist() == names
    assert found.dtype == np.array(names).dtype


@pytest.mark.parametrize("at", [0, 5, 1024, 1500])
def test_a_field_of_different_shapes_or_too_large_is_dropped(at):
    for odd in (np.zeros(4), np.zeros((3, 1)), np.zeros(10_000)):
        values = [np.zeros(3) for _ in range(2000)]
        values[at] = odd
        assert column(values) is None
    assert column([np.zeros(10_000)] * 3) is None


class Keys:
    """As much of a split as is read."""

    label, name = "x/y", "train"

    def __init__(self, keys):
        self.keys = keys

    def __len__(self):
        return len(self.keys)

    def record(self, i):
        return {"key": self.keys[i], "unit": "u", "image": np.zeros(1, np.uint8)}


def test_keys_that_repeat_far_apart_are_found():
    keys = [f"{i:05d}" for i in range(1500)]
    assert contents.samples(Keys(keys))["key"].tolist() == keys
    with pytest.raises(FacebenchError, match="x/y: split 'train', key '00007' stands twice"):
        contents.samples(Keys([*keys, "00007"]))
    with pytest.raises(FacebenchError, match="longer than 1024 characters"):
        contents.samples(Keys(["k" * 1025]))
