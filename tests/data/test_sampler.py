"""Batches of several images of each unit."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from facebench import config
from facebench.data import pipeline
from facebench.data.sampler import UnitSampler
from facebench.errors import UsageError

UNITS = ["a"] * 5 + ["b"] * 3 + ["c"] * 1 + ["d"] * 4 + ["e"] * 7
CROP = {"crop": "full", "size": 8}


def steps(sampler, rows, count, start=0):
    return np.array([[sampler((start + t) * rows + r) for r in range(rows)] for t in range(count)])


def test_a_batch_holds_as_many_of_each_unit():
    sampler = UnitSampler(UNITS, 9, 3, seed=1)
    for batch in steps(sampler, 9, 40):
        units = collections.Counter(UNITS[i] for i in batch)
        assert len(units) == 3
        assert set(units.values()) == {3}
        for unit in set(units) - {"c"}:  # different images, where there are as many
            assert len({i for i in batch if UNITS[i] == unit}) == 3
        # every third row is of the same unit
        assert all(UNITS[batch[r]] == UNITS[batch[r % 3]] for r in range(9))


def test_units_take_turns_and_all_samples_come_up():
    sampler = UnitSampler(UNITS, 4, 2, seed=2)  # 2 of the 5 units in a batch, 2 batches an epoch
    batches = steps(sampler, 4, 200)
    for epoch in batches.reshape(100, 8):
        assert set(collections.Counter(UNITS[i] for i in epoch).values()) == {2}
    times = collections.Counter(UNITS[i] for i in batches.ravel())
    assert min(times.values()) > 120  # of 160
    assert set(batches.ravel().tolist()) == set(range(len(UNITS)))
    orders = {tuple(UNITS[i] for i in epoch) for epoch in batches.reshape(100, 8)}
    assert len(orders) > 20


def test_it_follows_from_seed_and_place_alone():
    whole = steps(UnitSampler(UNITS, 6, 3, seed=3), 6, 30)
    late = UnitSampler(UNITS, 6, 3, seed=3)
    np.testing.assert_array_equal(steps(late, 6, 10, start=20), whole[20:])
    np.testing.assert_array_equal(steps(late, 6, 30), whole)
    assert (steps(UnitSampler(UNITS, 6, 3, seed=4), 6, 30) != whole).any()


@pytest.mark.parametrize(
    ("rows", "images", "message"),
    [(8, 3, "divisor of the batch size 8"), (8, 1, "needs 8 units, but the subset has 5")],
)
def test_what_cannot_be_drawn_is_refused(rows, images, message):
    with pytest.raises(UsageError, match=message):
        UnitSampler(UNITS, rows, images, seed=0)


@pytest.fixture(scope="module")
def split(tiny):
    return tiny.split("train")


def train(split, count, **changed):
    options = {
        "preprocess": CROP, "augment": {"flip": 0.5}, "batch_size": 8, "seed": 5,
        "images_per_unit": 4,
    } | changed  # fmt: skip
    with pipeline.train_batches(split, np.arange(24), ("label",), **options) as batches:
        return [next(batches) for _ in range(count)]


def same(some, others):
    return all(np.array_equal(a[k], b[k]) for a, b in zip(some, others, strict=True) for k in a)


def test_the_pipeline_draws_them(split):
    whole = train(split, 6)
    for batch in whole:
        assert set(collections.Counter(batch["label"].tolist()).values()) == {4}
        units = [split.units[i] for i in batch["index"]]
        assert [units.index(u) for u in units] == [r % 2 for r in range(8)]
    assert same(whole[2:], train(split, 4, start_step=2, threads=0))
    assert not same(whole, train(split, 6, seed=6))
    for p in (0, 1):
        part = train(split, 6, process_index=p, process_count=2)
        assert same([{k: v[p::2] for k, v in batch.items()} for batch in whole], part)


@pytest.mark.slow
def test_workers_do_not_matter(split):
    assert same(train(split, 5), train(split, 5, workers=2))


def test_without_it_a_config_is_what_it_was():
    made = config.base()
    made.entry, made.protocol = "net", "recognition/synthface/x@1"
    assert "images_per_unit" not in config.finish(made).semantic["data"]
    made.data.images_per_unit = 4
    found = config.finish(made)
    assert found.semantic["data"]["images_per_unit"] == 4
    assert config.restore(found.semantic).digest == found.digest
    made.data.images_per_unit = 65
    with pytest.raises(UsageError, match="images_per_unit"):
        config.finish(made)
