"""Identities over several devices in the loop: equal losses, and checkpoints that move."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from flax import linen as nn

from facebench.losses import margin, partial_fc, sharded
from facebench.train import loop, partition

STEPS, SIZE, DIM = 6, 16, 16


class Net(nn.Module):
    """Batch norm, an embedding and the class centres."""

    classes: int
    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image, *, train: bool):
        x = nn.Conv(8, (3, 3), strides=4, name="stem")(image)
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x)
        outputs = {"embedding": nn.Dense(DIM, name="embedding")(nn.relu(x).mean((1, 2)))}
        centres = partial_fc.Centres(self.classes, self.rate, name="classifier")
        if train or self.is_initializing():
            outputs |= centres(DIM)
        return outputs


class Identities:
    """ArcFace over all classes or a drawn share."""

    def __init__(self, classes, rate):
        self.classes, self.rate = classes, rate

    def loss(self, outputs, batch):
        found = partial_fc.softmax(
            outputs,
            batch["label"],
            lambda own: margin.add_angle(own, 0.3),
            classes=self.classes,
            s=16.0,
            rate=self.rate,
        )
        return found.loss, {"accuracy": (found.own > found.rival).astype(jnp.float32)}

    def predict(self, outputs, batch):
        return {"embedding": outputs["embedding"]}

    def after_step(self, state):
        return state


def batches(classes):
    def from_step(step):
        while True:
            rng = np.random.default_rng(step)
            mask = np.ones(SIZE, np.float32)
            mask[-1] = 0
            yield {
                "image": rng.integers(0, 256, (SIZE, 12, 12, 3)).astype(np.uint8),
                "mask": mask,
                "label": rng.integers(0, classes, SIZE).astype(np.int32),
            }
            step += 1

    return from_step


def run(folder, classes=50, rate=1.0, devices=8, kind="jit", steps=STEPS, accumulate=1, **mesh):
    shape = {"data": -1, "fsdp": 1, "model": 1} | mesh
    place = partition.Partition(partition.make_mesh(shape, jax.devices()[:devices]), kind)
    programs = loop.Programs(
        module=Net(classes, rate, place.axis_name),
        task=Identities(classes, rate),
        optimizer=toys.optimizer(STEPS, lr=0.01, momentum=0.9),
        plan=loop.Plan(steps, SIZE, accumulate=accumulate, log_every=1),
        partition=place,
        image_shape=(12, 12, 3),
    )
    fitted = loop.fit(programs, batches=batches(classes), seed=1, workdir=folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return fitted.state, [line["loss"] for line in lines]


MANY = 20_001  # has padding columns, and divides over eight devices with them


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The run on one device, for some numbers of classes and rates."""
    kept = {}

    def get(classes, rate):
        if (classes, rate) not in kept:
            folder = tmp_path_factory.mktemp("one")
            kept[classes, rate] = run(folder, classes, rate, devices=1)
        return kept[classes, rate]

    return get


@pytest.mark.parametrize(
    ("classes", "rate", "mesh"),
    [
        (50, 1.0, {}),
        (50, 0.5, {"model": 2}),
        (MANY, 1.0, {"model": 2, "fsdp": 2}),
        (MANY, 0.1, {}),
    ],
)
def test_losses_and_centres_do_not_depend_on_the_devices(tmp_path, one, classes, rate, mesh):
    state, losses = run(tmp_path, classes, rate, **mesh)
    want, expected = one(classes, rate)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    kernel = state.params["classifier"]["kernel"]
    width = sharded.columns(classes, 8 if rate < 1 else 1)
    assert kernel.shape == (DIM, width)
    parts = 8 if width % 8 == 0 else 1
    assert kernel.addressable_shards[0].data.shape == (DIM, width // parts)
    got, expected = np.asarray(kernel), np.asarray(want.params["classifier"]["kernel"])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-6)
    assert not got[:, classes:].any()


def test_the_rate_changes_the_losses(one):
    assert np.abs(np.subtract(one(MANY, 1.0)[1], one(MANY, 0.1)[1])).min() > 0.1


@pytest.mark.parametrize(("devices", "mesh"), [(1, {}), (2, {}), (4, {"model": 2})])
def test_a_run_goes_on_from_another_number_of_devices(tmp_path, one, devices, mesh):
    run(tmp_path, MANY, 0.1, devices=8, steps=3)
    state, losses = run(tmp_path, MANY, 0.1, devices=devices, **mesh)
    assert len(losses) == STEPS
    np.testing.assert_allclose(losses, one(MANY, 0.1)[1], rtol=2e-5)
    kernel = state.params["classifier"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (DIM, kernel.shape[1] // devices)


@pytest.mark.slow
def test_accumulated_parts_over_eight_devices_equal_those_on_one(tmp_path):
    _, whole = run(tmp_path / "one", 50, 0.5, devices=1, accumulate=2)
    _, parts = run(tmp_path / "eight", 50, 0.5, accumulate=2)
    np.testing.assert_allclose(parts, whole, rtol=2e-5)


def test_pmap_computes_all_classes_on_every_device(tmp_path, one):
    _, losses = run(tmp_path, 50, 1.0, kind="pmap")
    np.testing.assert_allclose(losses, one(50, 1.0)[1], rtol=2e-5)


def test_momentum_and_decay_move_classes_that_were_not_drawn(tmp_path):
    before, _ = run(tmp_path / "a", MANY, 0.1, devices=1, steps=1)
    after, _ = run(tmp_path / "b", MANY, 0.1, devices=1, steps=3)
    old, new = (np.asarray(s.params["classifier"]["kernel"])[:, :MANY] for s in (before, after))
    assert (old != new).any(0).all()


def test_large_centres_that_divide_over_nothing_are_told_of():
    mesh = partition.make_mesh({"data": 7, "fsdp": 1, "model": 1}, jax.devices()[:7])
    name, shape = "params/classifier/kernel", (512, 93_440)
    with pytest.warns(UserWarning, match=r"divides over none .*data=7.*every device holds all"):
        assert partition.spec_of(name, shape, mesh) == partition.P(None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partition.spec_of(name, (512, 50), mesh)
        partition.spec_of("params/other/kernel", shape, mesh)
        assert partition.spec_of(name, (512, 93_443), mesh) == partition.P(None, partition.AXES)
