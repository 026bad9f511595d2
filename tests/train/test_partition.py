"""The same run on 1 and 8 devices, replicated, cut over fsdp, and under pmap."""

import json

import jax
import numpy as np
import pytest
import toys
from jax.sharding import PartitionSpec as P

from facebench.errors import UsageError
from facebench.train import loop, partition

STEPS = 12


def make(kind="jit", devices=8, **mesh):
    shape = {"data": -1, "fsdp": 1, "model": 1} | mesh
    return partition.Partition(partition.make_mesh(shape, jax.devices()[:devices]), kind)


def programs(place, net, **plan):
    return loop.Programs(
        module=net,
        task=toys.Regression(),
        optimizer=toys.optimizer(STEPS),
        plan=loop.Plan(STEPS, 32, log_every=1, checkpoint_every=100, **plan),
        partition=place,
        image_shape=(12, 12, 3),
    )


def run(tmp_path, place, net, **plan):
    made = programs(place, net, **plan)
    fitted = loop.fit(made, batches=toys.batches, seed=3, workdir=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    return jax.device_get(fitted.state), [line["loss"] for line in lines]


def close(a, b, tolerance=2e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=tolerance)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return run(tmp_path_factory.mktemp("one"), make(devices=1), toys.Net())


@pytest.mark.parametrize("mesh", [{}, {"fsdp": 4}, {"fsdp": 8, "data": 1}, {"model": 2}])
def test_eight_devices_equal_one_with_batch_norm_and_dropout(tmp_path, one, mesh):
    state, losses = run(tmp_path, make(**mesh), toys.Net())
    assert len(losses) == STEPS
    assert losses[-1] != losses[0]
    np.testing.assert_allclose(losses, one[1], rtol=1e-5)
    close(state.params, one[0].params)
    close(state.collections, one[0].collections)


def test_accumulated_parts_are_spread_over_devices(tmp_path):
    # Without batch norm and dropout, four parts add up to one batch, on one device or eight.
    net = toys.Net(dropout=0.0, norm=False)
    whole, losses = run(tmp_path / "a", make(devices=1), net)
    for i, place in enumerate([make(devices=1), make()]):
        parts, again = run(tmp_path / f"b{i}", place, net, accumulate=4)
        np.testing.assert_allclose(again, losses, rtol=1e-5)
        close(parts.params, whole.params)


@pytest.mark.parametrize("devices", [1, 8])
def test_pmap_equals_jit_with_synchronised_batch_norm(tmp_path, devices):
    jit, losses = run(tmp_path / "jit", make(), toys.Net(dropout=0.0))
    net = toys.Net(dropout=0.0, axis_name=partition.PMAP_AXIS)
    pmap, again = run(tmp_path / "pmap", make("pmap", devices), net)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    close(pmap.params, jit.params)
    close(pmap.collections, jit.collections)


def test_batch_norm_without_the_axis_would_differ_under_pmap(tmp_path):
    # The comparison above has power: local statistics give other losses.
    _, losses = run(tmp_path / "jit", make(), toys.Net(dropout=0.0))
    _, local = run(tmp_path / "pmap", make("pmap"), toys.Net(dropout=0.0))
    assert np.abs(np.subtract(local, losses)).max() > 1e-3


@pytest.mark.parametrize("kind", ["jit", "pmap"])
def test_predictions_drop_padding_and_ignore_the_batch_size(tmp_path, one, kind):
    place, net = make(kind), toys.Net()
    made = programs(place, net)
    images = toys.batch(99, 41)["image"]

    def padded(size):
        for start in range(0, 41, size):
            part = images[start : start + size]
            mask = np.zeros(size, np.float32)
            mask[: len(part)] = 1
            filled = np.zeros((size, *part.shape[1:]), np.uint8)
            filled[: len(part)] = part
            yield {"image": filled, "mask": mask}

    variables = jax.device_put(one[0].variables(), place._replicated)
    want = net.apply(one[0].variables(), images / np.float32(127.5) - 1, train=False)["y"]
    for size in (8, 16, 48):
        got = loop.predict(made, variables, padded(size))["y"]
        assert got.shape == (41, 4)
        np.testing.assert_allclose(got, want, atol=2e-5)


def test_rules_cut_the_classifier_by_class_and_large_arrays_over_fsdp():
    mesh = make(model=2, fsdp=2).mesh
    assert partition.spec_of("params/classifier/kernel", (64, 1000), mesh) == P(
        None, partition.AXES
    )
    assert partition.spec_of("params/classifier/kernel", (63, 1001), mesh) == P(None, None)
    assert partition.spec_of("params/dense/kernel", (64, 1000), mesh) == P(None, "fsdp")
    assert partition.spec_of("params/dense/kernel", (1000, 64), mesh) == P("fsdp", None)
    assert partition.spec_of("params/dense/bias", (1000,), mesh) == P(None)


def test_fsdp_holds_a_part_per_device():
    place = make(fsdp=8, data=1)
    key = jax.random.key(0)
    state = place.init(lambda key: {"w": jax.random.normal(key, (256, 2048))}, key)(key)
    assert state["w"].addressable_shards[0].data.shape == (256, 256)


@pytest.mark.parametrize(
    ("shape", "devices"),
    [({"data": 3, "fsdp": 1, "model": 1}, 8), ({"data": -1, "fsdp": 3, "model": 1}, 8)],
)
def test_a_mesh_that_does_not_fit_is_refused(shape, devices):
    with pytest.raises(UsageError, match=r"does not fit 8 devices"):
        partition.make_mesh(shape, jax.devices()[:devices])


def test_a_batch_that_does_not_divide_is_refused_with_sizes_that_do():
    with pytest.raises(UsageError, match=r"is 30, which does not divide over 8 devices; use 24 or"):
        make().check_batch(30, 1, "config.data.batch_size")


def test_pmap_on_a_cut_mesh_is_refused():
    with pytest.raises(UsageError, match="plain data parallelism"):
        make("pmap", fsdp=2)
