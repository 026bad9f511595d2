"""Recognition with its classes cut over devices, and Partial FC, against the dense losses."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from facebench import tasks
from facebench.config import base
from facebench.errors import UsageError
from facebench.losses import partial_fc, sharded
from facebench.tasks import Spec, margins
from facebench.train import loop, optim, partition

SIZE, ROWS, CLASSES = 4, 8, 16


class Toy(nn.Module):
    """A published network that ends in an embedding of six numbers."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Dense(6, name="out")(image.reshape(len(image), -1))
        return {"pooled": x, "spatial": x[:, None, None], "embedding": 3.0 * x}


def task_of(axis_name=None, classes=CLASSES, **kwargs):
    spec = Spec(size=SIZE, classes=classes, axis_name=axis_name)
    return tasks.build("recognition", spec, {"features": "embedding"} | kwargs)


def place_of(devices, kind="jit"):
    shape = {"data": -1, "fsdp": 1, "model": 1}
    return partition.Partition(partition.make_mesh(shape, jax.devices()[:devices]), kind)


def batch(step=0, classes=CLASSES):
    rng = np.random.default_rng([11, step])
    mask = np.ones(ROWS, np.float32)
    mask[[2, 7]] = 0
    label = rng.permutation(classes)[:ROWS].astype(np.int32)
    label[7] = -1
    image = rng.integers(0, 256, (ROWS, SIZE, SIZE, 3), dtype=np.uint8)
    return {"image": image, "label": label, "mask": mask}


def batches(start):
    step = start
    while True:
        yield batch(step)
        step += 1


@pytest.fixture
def few(monkeypatch):
    """Classes are cut from two on."""

    def lower():
        monkeypatch.setattr(margins, "MANY", 2)

    return lower


# ------------------------------------------------------------------------- equal to the dense path


def variables_of(net):
    """Of a net, with centres as near to an embedding as a cosine can be, and late in training."""
    image = jnp.asarray(batch()["image"]) / 127.5 - 1
    made = net.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, image, train=True)
    made = jax.tree.map(np.array, made)
    x = net.apply(made, image, train=False)["embedding"]
    kernel, label = made["params"]["classifier"]["kernel"], batch()["label"]
    kernel += np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32)
    kernel[:, label[1]] = 2 * x[0]  # another's class
    kernel[:, label[4]] = x[4] + 0.3
    kernel[:, label[5]] = -x[5] + 0.3
    if "step" in made.get("margin_stats", {}):
        made["margin_stats"]["step"] = np.int32(10**6)
    return made


def computed(kwargs, devices):
    """Loss and accuracy per example, and the gradient of a weighted sum by all parameters."""
    task, example, mesh = task_of(**kwargs), batch(), place_of(devices).mesh
    net = task.module(Toy())
    variables = variables_of(net)
    rest = {k: v for k, v in variables.items() if k != "params"}
    weight = jnp.linspace(0.5, 1.5, ROWS)
    given = {name: jnp.asarray(example[name]) for name in task.module_reads}

    @jax.jit
    def run(params, example):
        def total(params):
            outputs, _ = net.apply(
                {"params": params, **rest}, example["image"] / 127.5 - 1, train=True,
                mutable=list(rest), rngs={"dropout": jax.random.key(2)}, **given,
            )  # fmt: skip
            each, scalars = task.loss(outputs, example)
            return (weight * each).sum(), (each, scalars["accuracy"], set(outputs))

        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            (_, (each, right, names)), gradient = jax.value_and_grad(total, has_aux=True)(params)
        seen.update(names)
        return each, right, gradient

    seen: set[str] = set()
    params = variables["params"]
    params = jax.device_put(params, partition.shardings(params, mesh))
    return seen, jax.device_get(run(params, place_of(devices).put_batch(example)))


CASES = [
    *({"margin": name} for name, known in margins.OPTIONS.items() if "sample_rate" in known),
    {"margin": "softmax", "learn_s": True, "smoothing": 0.1},
    {"margin": "arcface", "gradient": "straight_through", "interclass_filtering_threshold": 0.3},
    {"margin": "adaface", "interclass_filtering_threshold": 0.3, "smoothing": 0.2},
    {"margin": "combined", "m": (1.3, 0.2, 0.1)},
]
FAST = ({"margin": "arcface"}, CASES[-2])


@pytest.mark.parametrize(
    "kwargs",
    [
        pytest.param(
            k, marks=() if k in FAST else pytest.mark.slow, id="-".join(map(str, k.values()))
        )
        for k in CASES
    ],
)
def test_every_margin_is_the_same_on_both_paths(few, kwargs):
    kwargs = dict(kwargs)
    if "s" in margins.OPTIONS[kwargs["margin"]]:
        kwargs["s"] = 8.0  # all classes count
    if kwargs["margin"] == "magface":
        kwargs["norm_range"] = (2.0, 8.0)
    seen, want = computed(kwargs, 1)
    assert "cosine" in seen
    few()
    for devices in (1, 8):
        seen, got = computed(kwargs, devices)
        assert {"centres", "embedding"} <= seen
        assert "cosine" not in seen
        assert jax.tree.structure(got) == jax.tree.structure(want)
        np.testing.assert_array_equal(got[1], want[1])
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-5 * np.abs(y).max())


def parameters(**kwargs):
    net = task_of(**kwargs).module(Toy())
    image = jnp.ones((2, SIZE, SIZE, 3))
    return net.init(jax.random.key(0), image, train=False)["params"]


def test_parameters_and_predictions_do_not_tell_the_paths_apart(few):
    want = parameters()
    task = task_of()
    image = jnp.asarray(batch()["image"]) / 127.5 - 1
    embedding = task.module(Toy()).apply({"params": want}, image, train=False)
    few()
    got = parameters()
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        np.testing.assert_array_equal(x, y)
    found = task.module(Toy()).apply({"params": want}, image, train=False)
    assert set(found) == {"embedding"}
    np.testing.assert_array_equal(found["embedding"], embedding["embedding"])


def width(classes, **kwargs):
    net = task_of(classes=classes, **kwargs).module(Toy())
    image = jax.ShapeDtypeStruct((2, SIZE, SIZE, 3), np.float32)
    made = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), image)
    return made["params"]["classifier"]["kernel"].shape[1]


def test_which_classes_are_cut_depends_on_their_number_and_the_margin():
    most = sharded.MANY - 1
    assert width(most) == most
    assert width(20_001) == sharded.columns(20_001) == 20_224
    assert width(20_001, margin="adaface") == 20_224
    for kwargs in ({"centres": 2}, {"margin": "curricularface"}, {"margin": "uniface"}):
        assert width(20_001, **kwargs) == 20_001 * kwargs.get("centres", 1)
    assert width(99, sample_rate=0.5) == 104
    assert width(99, sample_rate=0.5, sample_groups=5) == 100


# --------------------------------------------------------------------------------------- the loop


def trained(folder, devices=1, kind="jit", steps=4, accumulate=1, **kwargs):
    place = place_of(devices, kind)
    task = task_of(place.axis_name, **kwargs)
    recipe = base().optim.to_dict() | {"name": "sgd", "lr": 0.003, "schedule": "constant"}
    plan = loop.Plan(steps, ROWS, accumulate=accumulate, log_every=1)
    made = loop.Programs(
        task.module(Toy()), task, optim.make(recipe, steps), plan, place, (SIZE, SIZE, 3)
    )
    state = loop.fit(made, batches=batches, seed=3, workdir=folder).state
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["accuracy"] <= 1 for line in lines)
    return jax.device_get(state.params), [line["loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("margin", ["arcface", "elastic_arcface_plus"])
def test_a_run_is_the_same_on_both_paths_and_under_pmap(few, tmp_path, margin):
    kwargs = {"margin": margin, "s": 16.0}
    if margin != "arcface":  # what is drawn depends on the device under pmap
        kwargs["sigma"] = 0.0
    params, want = trained(tmp_path / "dense", **kwargs)
    few()
    for devices, kind in ((1, "jit"), (8, "jit"), (8, "pmap")):
        got, found = trained(tmp_path / f"{kind}{devices}", devices, kind, **kwargs)
        np.testing.assert_allclose(found, want, rtol=1e-5)
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(params)):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("margin", ["cosface", pytest.param("adaface", marks=pytest.mark.slow)])
def test_partial_fc_trains_the_same_on_any_number_of_devices(tmp_path, margin):
    kwargs = {"margin": margin, "s": 16.0, "sample_rate": 0.5}
    params, want = trained(tmp_path / "one", **kwargs)
    got, found = trained(tmp_path / "eight", 8, **kwargs)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(params)):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    _, whole = trained(tmp_path / "whole", steps=1, **kwargs | {"sample_rate": 1.0})
    assert whole[0] > want[0] + 0.1  # fewer rivals cost less


def test_partial_fc_learns_what_it_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.batches", lambda start: iter(lambda: batch(0), None))
    _, found = trained(tmp_path, steps=40, margin="cosface", m=0.1, s=8.0, sample_rate=0.5)
    assert found[-1] < 0.5 * found[0]


def test_partial_fc_is_the_loss_over_the_drawn_classes():
    classes, s = 99, 16.0
    task = task_of(classes=classes, margin="cosface", m=0.2, s=s, sample_rate=0.3)
    net, example = task.module(Toy()), batch(classes=classes)

    @jax.jit
    def run(example):
        image = example["image"] / 127.5 - 1
        variables = net.init(jax.random.key(0), image, train=False)
        outputs = net.apply(variables, image, train=True, rngs={"dropout": jax.random.key(5)})
        how = {"width": 104, "classes": classes, "rate": 0.3}
        index = partial_fc.sample(example["label"], outputs["draw"], **how)
        return outputs, index, task.loss(outputs, example)

    outputs, index, (got, scalars) = run(example)
    drawn = np.unique(index)
    drawn = drawn[drawn < classes]
    assert 24 <= len(drawn) <= 40
    kernel = np.asarray(outputs["centres"], np.float64)[:, drawn]
    x = np.asarray(outputs["embedding"], np.float64)
    cosine = x @ kernel / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(kernel, axis=0)
    target = drawn == example["label"][:, None]
    logits = s * (cosine - 0.2 * target)
    want = np.log(np.exp(logits).sum(1)) - (logits * target).sum(1)
    want[7] = 0  # without a class
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    right = target[np.arange(ROWS), cosine.argmax(1)]
    np.testing.assert_array_equal(scalars["accuracy"], right)


def test_an_example_without_a_class_is_never_right():
    task = task_of(classes=99, margin="softmax", sample_rate=0.3)
    outputs = {"embedding": -jnp.ones((1, 6)), "centres": jnp.ones((6, 104))}  # all cosines are -1
    outputs["draw"] = jax.random.key(0)
    loss, scalars = jax.jit(task.loss)(outputs, {"label": jnp.asarray([-1])})
    assert float(loss[0]) == float(scalars["accuracy"][0]) == 0


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sample_rate": 0.0}, "0 < rate <= 1"),
        ({"sample_rate": 1.5}, "0 < rate <= 1"),
        ({"sample_groups": 2.0}, "whole number above 0"),
        ({"sample_rate": 0.5, "margin": "uniface"}, "'uniface' has no sample_rate"),
        ({"sample_rate": 0.5, "margin": "curricularface"}, "'curricularface' has no sample_rate"),
        ({"sample_rate": 0.5, "margin": "softmax_with_bias"}, "has no sample_rate"),
        ({"sample_rate": 0.5, "loss": "triplet"}, "'triplet' has no sample_rate"),
        ({"sample_rate": 0.5, "centres": 3}, "centres is 3: only one per class"),
        ({"sample_rate": 0.5, "smoothing": 0.1}, "smoothing is 0.1, which spreads over all"),
        ({"sample_rate": 0.5, "axis_name": "data"}, "partition='pmap'.*use partition='jit'"),
        ({"sample_rate": 0.4}, "of the 2 classes in each of sample_groups=8.*at least 0.5"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kwargs, message):
    with pytest.raises(UsageError, match=message):
        task_of(**kwargs)


def test_groups_that_do_not_fit_the_devices_are_told_of_by_the_config_s_name(tmp_path):
    with pytest.raises(UsageError, match=r"4 groups.*config.task.sample_groups\) a multiple of 8"):
        trained(tmp_path, 8, sample_rate=0.5, sample_groups=4)
