"""Batches: what is in them, and what they depend on."""

from __future__ import annotations

import collections
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from facebench import schemes
from facebench.data import pipeline, source, transforms
from facebench.errors import FacebenchError, UsageError

FLIP = [1, 0, 2, 4, 3]
CROP = {"crop": "box", "size": 32, "margin": 0.1}
AUGMENT = {
    "rotation": 0.3, "scale": 0.2, "shift": 0.1, "flip": 0.5, "brightness": 0.3, "contrast": 0.3,
    "saturation": 0.3, "grey": 0.2, "blur": 1.0, "cutout": 0.3,
}  # fmt: skip
EVEN = np.arange(0, 24, 2)  # the subset of most tests: half of the split


def train(split, steps, indices=EVEN, fields=("points", "visible", "label"), **changed):
    """The first batches."""
    options = {
        "preprocess": CROP, "augment": AUGMENT, "flip_permutation": FLIP, "batch_size": 8,
        "seed": 5,
    } | changed  # fmt: skip
    with pipeline.train_batches(split, indices, fields, **options) as batches:
        return [next(batches) for _ in range(steps)]


def same(some, others):
    return len(some) == len(others) and all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
        for a, b in zip(some, others)
    )


@pytest.fixture(scope="module")
def split(tiny):
    return tiny.split("train")


# -------------------------------------------------------------------------------- what is in it


def test_shapes_and_types(split):
    batch = train(split, 1, fields=("points", "visible", "label", "au", "identity"))[0]
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "image": ((8, 32, 32, 3), "uint8"),
        "mask": ((8,), "float32"),
        "index": ((8,), "int32"),
        "points": ((8, 5, 2), "float32"),
        "visible": ((8, 5), "float32"),
        "label": ((8,), "int32"),
        "au": ((8, 3), "float32"),
        "identity": ((8,), "int32"),
    }
    assert (batch["mask"] == 1).all()
    assert set(batch["index"].tolist()) <= set(EVEN.tolist())


def test_without_augmentation_it_is_the_crop(split):
    for batch in train(split, 3, augment=None, fields=("points", "visible", "identity")):
        for row, index in enumerate(batch["index"]):
            record = split.record(int(index))
            image = cv2.imdecode(np.frombuffer(record["image"], np.uint8), 1)[..., ::-1].copy()
            # box (6, 5, 36, 33): side 30 and 10 % more on each side is 36, about (21, 19)
            matrix = np.array([[32 / 36, 0, -3 * 32 / 36 - 0.5], [0, 32 / 36, -32 / 36 - 0.5]])
            crop, points = transforms.warp(image, record["points"], matrix, 32)
            assert np.array_equal(batch["image"][row], crop)
            assert np.allclose(batch["points"][row], points, atol=1e-5)
            assert np.array_equal(batch["visible"][row], record["visible"])
            assert batch["identity"][row] == record["identity"]


def test_mirror_images_rename_points(split):
    for plain, mirrored in zip(
        train(split, 3, augment=None), train(split, 3, augment={"flip": 1.0})
    ):
        assert np.array_equal(plain["index"], mirrored["index"])
        # the same bilinear weights from the other side: equal up to rounding
        assert np.abs(plain["image"][:, :, ::-1] - mirrored["image"].astype(int)).max() <= 1
        points = plain["points"][:, FLIP]
        points[..., 0] = 31 - points[..., 0]
        assert np.allclose(mirrored["points"], points, atol=1e-4)
        assert np.array_equal(mirrored["visible"], plain["visible"][:, FLIP])


def test_labels_are_places_among_the_subset_units(split):
    subset = np.array([1, 2, 5, 7, 8, 11, 13])
    units = sorted({split.units[i] for i in subset})
    assert units == ["person 1", "person 2", "person 5"]
    for batch in train(split, 3, indices=subset):
        expected = [units.index(split.units[i]) for i in batch["index"]]
        assert batch["label"].tolist() == expected


def test_epochs_hold_every_sample_once_in_changing_order(split):
    seen = np.concatenate([batch["index"] for batch in train(split, 6)])
    epochs = seen.reshape(4, 12)
    assert all(sorted(epoch) == EVEN.tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_batch_may_be_larger_than_the_subset(split):
    batch = train(split, 1, indices=[4, 9, 20], batch_size=16)[0]
    assert np.array_equal(np.sort(batch["index"][:15].reshape(5, 3)), [[4, 9, 20]] * 5)
    twice = [batch["image"][row] for row in range(15) if batch["index"][row] == 9]
    assert not np.array_equal(twice[0], twice[1])  # augmented anew in every epoch
    assert train(split, 2, indices=[4])[1]["index"].tolist() == [4] * 8


# ------------------------------------------------------------------------- what it depends on


def test_seed_and_step_alone(split):
    full = train(split, 6)
    assert same(full, train(split, 6))
    assert not same(full, train(split, 6, seed=6))
    assert same(full, train(split, 6, threads=0))
    assert same(full, train(split, 6, threads=5))
    assert same(full, train(split, 6, cache_bytes=0))
    assert same(full, train(split, 6, cache_bytes=20_000))  # some kept, some not


def test_seeds_do_not_share_epochs(split):
    """Epoch 1 of seed 0 must not be epoch 0 of seed 1."""
    orders = []
    for seed in range(4):
        seen = np.concatenate(
            [batch["index"] for batch in train(split, 3, seed=seed, batch_size=12)]
        )
        orders += [tuple(epoch) for epoch in seen.reshape(3, 12)]
    assert len(set(orders)) == 12


@pytest.mark.slow
def test_workers_do_not_matter(split):
    full = train(split, 7)
    assert same(full, train(split, 7, workers=2))
    assert same(full[3:], train(split, 4, workers=2, start_step=3, threads=1))


def test_a_resumed_run_sees_the_tail(split):
    full = train(split, 9)
    for start in (1, 2, 5):
        assert same(full[start:], train(split, 9 - start, start_step=start))


def test_hosts_divide_each_batch(split):
    whole = train(split, 5)
    for hosts in (2, 4):
        parts = [train(split, 5, process_index=p, process_count=hosts) for p in range(hosts)]
        for step, batch in enumerate(whole):
            for name, array in batch.items():
                together = np.empty_like(array)
                for p in range(hosts):
                    together[p::hosts] = parts[p][step][name]
                assert np.array_equal(together, array), name


# ---------------------------------------------------------------------------------- prediction


def predict(split, **options):
    options = {"preprocess": CROP, "batch_size": 4} | options
    with pipeline.predict_batches(split, **options) as batches:
        made = list(batches)
        assert len(made) == batches.length
    return made


def test_every_sample_once_and_no_label(split):
    batches = predict(split, batch_size=7)
    assert len(batches) == 4
    assert all(b.keys() == {"image", "mask", "index", "to_image"} for b in batches)
    index, mask = (np.concatenate([b[k] for b in batches]) for k in ("index", "mask"))
    assert mask.tolist() == [1.0] * 24 + [0.0] * 4
    assert index.tolist() == [*range(24), 23, 23, 23, 23]
    assert batches[0]["image"].dtype == np.uint8
    assert batches[0]["to_image"].dtype == np.float32


def test_to_image_undoes_the_crop(split):
    for batch in predict(split, indices=np.array([3, 17, 8])):
        for row in range(3):
            points = split.record(int(batch["index"][row]))["points"].astype(float)
            matrix = transforms.crop_matrix(CROP, 0, 0, [6, 5, 36, 33])
            crop = transforms.apply(matrix, points)
            back = transforms.apply(batch["to_image"][row].astype(float), crop)
            assert np.abs(back - points).max() < 1e-4


@pytest.mark.slow
def test_prediction_depends_on_nothing_else(split):
    whole = predict(split, batch_size=10)
    assert same(whole, predict(split, batch_size=10, workers=2))
    assert same(whole, predict(split, batch_size=10, threads=0))
    parts = [predict(split, batch_size=10, process_index=p, process_count=2) for p in (0, 1)]
    for name in whole[0]:
        for step, batch in enumerate(whole):
            together = np.empty_like(batch[name])
            together[0::2], together[1::2] = parts[0][step][name], parts[1][step][name]
            assert np.array_equal(together, batch[name])


# -------------------------------------------------------------------------------------- faults


class Torn(source.Split):
    """A split one of whose images is cut off, or has an empty box."""

    fault = "image"

    def record(self, i):
        record = super().record(i)
        if i == 6:
            record["image" if self.fault == "image" else "box"] = (
                record["image"][:300] if self.fault == "image" else np.float32([5, 5, 5, 9])
            )
        return record


class Boxless(Torn):
    fault = "box"


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(("kind", "said"), [(Torn, "truncated"), (Boxless, "box .* is empty")])
def test_a_bad_sample_is_named(split, threads, kind, said):
    bad = kind(split.folder, split.label, split.name, len(split))
    message = f"dataset tiny/five: split 'train', key 'train/006': .*{said}.*data verify tiny"
    with pytest.raises(FacebenchError, match=message):
        train(bad, 2, threads=threads)
    with pytest.raises(FacebenchError, match=message):
        predict(bad, threads=threads)
    assert train(bad, 2, indices=[1, 2, 3], threads=threads)  # the others are fine


@pytest.mark.slow
def test_damaged_files_are_named_through_workers(ws):
    split = source.prepare(ws, "tiny").split("train")
    shard = next(split.folder.glob("tiny-train*"))
    data = bytearray(shard.read_bytes())
    start = data.index(b"\x89PNG") + 300
    data[start : start + 100] = bytes(100)
    shard.write_bytes(bytes(data))
    with pytest.raises(FacebenchError, match=r"dataset tiny/five: .* damaged: .*train/000"):
        train(split, 4, workers=1)


def test_bad_requests_are_usage_errors(split):
    with pytest.raises(UsageError, match="'points'"):
        train(split, 1, fields=("pionts",))
    with pytest.raises(UsageError, match="'rotation'"):
        train(split, 1, augment={"rotatoin": 0.1})
    with pytest.raises(UsageError, match="'margin'"):
        train(split, 1, preprocess={**CROP, "margins": 1})
    with pytest.raises(UsageError, match="flip permutation"):
        train(split, 1, flip_permutation=None)
    with pytest.raises(UsageError, match="multiple of the 3 hosts"):
        train(split, 1, process_count=3)
    with pytest.raises(UsageError, match="batch_size: found 0"):
        predict(split, batch_size=0)
    with pytest.raises(FacebenchError, match="subset is empty"):
        train(split, 1, indices=[])
    with pytest.raises(FacebenchError, match="no sample to predict"):
        predict(split, indices=np.array([], int))


def test_a_closed_iterator_is_empty(split):
    batches = pipeline.train_batches(
        split, EVEN, (), preprocess=CROP, augment=None, batch_size=4, seed=0
    )
    next(batches)
    batches.close()
    batches.close()
    assert list(batches) == []


def test_importing_needs_no_jax():
    code = (
        "import sys; sys.modules['jax'] = None\n"
        "from facebench.data import contents, pipeline, source, subsets, targets, transforms\n"
        "print(sorted({'grain', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


# --------------------------------------------------------------------- another way to the answer


def test_points_follow_the_pixels_through_everything(split, tmp_path):
    """A spot drawn at a landmark is found at the point that the batch gives."""

    class Spots(source.Split):
        def record(self, i):
            x, y = 18.4 + i % 5, 17.7 + i % 3
            rows, columns = np.mgrid[:44, :48]
            grey = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
            image = np.repeat(np.rint(grey)[..., None], 3, axis=2).astype(np.uint8)
            return super().record(i) | {
                "image": cv2.imencode(".png", image)[1].tobytes(),
                "points": np.full((5, 2), [x, y], np.float32),
            }

    spots = Spots(split.folder, split.label, split.name, len(split))
    augment = {"rotation": 0.5, "scale": 0.2, "shift": 0.1, "flip": 0.5}
    seen = collections.Counter()
    for batch in train(spots, 12, augment=augment):
        rows, columns = np.mgrid[:32, :32]
        for image, points in zip(batch["image"].astype(float)[..., 0], batch["points"]):
            assert (points == points[0]).all()
            found = np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()
            assert np.abs(found - points[0]).max() < 0.05
            seen[tuple(points[0])] += 1
    assert len(seen) == 96


def test_environment_is_as_it_was():
    """Reading batches marks absl's flags as parsed only where nothing has parsed them."""
    code = (
        "from absl import app, flags\n"
        "from facebench.data import pipeline\n"
        "flags.DEFINE_integer('n', 1, '')\n"
        "def main(argv):\n"
        "    import grain\n"
        "    it = pipeline._iterate(grain.MapDataset.range(4).batch(2), 0, 0)\n"
        "    print(next(it).tolist(), flags.FLAGS.n)\n"
        "app.run(main)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, "--n=7"], capture_output=True, text=True, env=dict(os.environ)
    )
    assert out.stdout == "[0, 1] 7\n"


def test_labels_that_are_given_follow_their_samples(split):
    """Row i is for the i-th sample of the subset, in whatever order it is seen."""
    given = {"au": np.arange(12.0)[:, None] * [1.0, -1.0], "expression": np.arange(12) + 100}
    made = train(split, 3, fields=("au", "expression"), given=given)
    for batch in made:
        place = np.searchsorted(EVEN, batch["index"])
        np.testing.assert_array_equal(batch["expression"], place + 100)
        np.testing.assert_array_equal(batch["au"], place[:, None] * np.array([1.0, -1.0]))
        assert (batch["au"].dtype, batch["expression"].dtype) == (np.float32, np.int32)


def test_class_maps_move_with_the_picture():
    """By hand: a shift by whole pixels, a mirror image, and what comes from outside."""
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    shifted = transforms.warp_labels(labels, np.array([[1.0, 0, 2], [0, 1, -1]]), 8)
    np.testing.assert_array_equal(shifted[:7, 2:], labels[1:, :6])
    assert (shifted[7] == 255).all()
    assert (shifted[:, :2] == 255).all()
    mirrored = transforms.warp_labels(labels, np.array([[-1.0, 0, 7], [0, 1, 0]]), 8)
    np.testing.assert_array_equal(mirrored, labels[:, ::-1])


def test_left_is_right_in_a_mirror():
    names = [*schemes.PARSE]
    for number, name in enumerate(names):
        swapped = {"left": "right", "right": "left"}.get(name.split()[0], name.split()[0])
        other = " ".join([swapped, *name.split()[1:]])
        assert names[schemes.PARSE_FLIP[number]] == other
    assert [pipeline._MIRRORED[k] for k in (11, 200, 255)] == [11, 200, 255]
