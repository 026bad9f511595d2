"""The task contract: names, specs, and what both built-in tasks owe to a backbone and a loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models, tasks
from facebench.errors import FacebenchError, UsageError
from facebench.tasks import Spec, Task
from facebench.tasks.recognition import CosineClassifier

SPECS = {
    "action_unit_intensity": Spec(size=16, action_units=(1, 4, 12)),
    "action_units": Spec(size=16, action_units=(1, 4, 12)),
    "expression": Spec(size=16, classes=3),
    "landmarks": Spec(size=16, points=5),
    "parsing": Spec(size=16, classes=3),
    "recognition": Spec(size=16, classes=3),
    "valence_arousal": Spec(size=16),
}
PREDICTIONS = {
    "action_unit_intensity": {"intensity": (4, 3)},
    "action_units": {"probability": (4, 3)},
    "expression": {"probability": (4, 3)},
    "landmarks": {"points": (4, 5, 2)},
    "parsing": {"parse": (4, 16, 16)},
    "recognition": {"embedding": (4, 128), "norm": (4,)},
    "valence_arousal": {"valence_arousal": (4, 2)},
}
IN_EVERY_BACKBONE = ("pooled", "spatial", "both")  # features: some have an embedding too
BACKBONES = {
    "convnet": {"widths": (4,), "blocks": (1,)},
    "vit": {"patch": 8, "dim": 8, "depth": 1, "heads": 2},
    "swin": {"patch": 2, "dim": 4, "depths": (1, 1), "heads": (1, 1), "window": 4, "embedding": 0},
}  # those that can be made small enough for images of 16 px


def batch_of(name, n, seed=0):
    rng = np.random.default_rng(seed)
    batch = {
        "image": rng.uniform(-1, 1, (n, 16, 16, 3)).astype(np.float32),
        "to_image": rng.normal(size=(n, 2, 3)).astype(np.float32),
    }
    if name == "landmarks":
        batch["points"] = rng.uniform(0, 15, (n, 5, 2)).astype(np.float32)
        batch["visible"] = (rng.uniform(size=(n, 5)) > 0.3).astype(np.float32)
    elif name == "expression":
        batch["expression"] = rng.integers(0, 3, n).astype(np.int32)
    elif name == "parsing":
        batch["parse"] = rng.integers(0, 3, (n, 16, 16)).astype(np.int32)
    elif name == "valence_arousal":
        batch["valence_arousal"] = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    elif name.startswith("action_unit"):
        batch["au"] = rng.uniform(0, 1, (n, 3)).astype(np.float32)
    else:
        batch["label"] = rng.integers(0, 3, n).astype(np.int32)
    return batch


def variables_of(net, seed=0):
    """Random variables without compiling an initialiser."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        value = np.exp(0.2 * noise) if "var" in jax.tree_util.keystr(path) else 0.4 * noise
        return value.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, models.shapes(net, 16)[1])


@pytest.mark.parametrize("name", sorted(tasks.BUILT_IN))
@pytest.mark.parametrize("backbone", sorted(BACKBONES))
@pytest.mark.parametrize("features", IN_EVERY_BACKBONE)
def test_shapes_of_every_task_on_every_backbone(name, backbone, features):
    kwargs = {"features": features} if name != "parsing" else {}
    task = tasks.build(name, SPECS[name], kwargs)
    net = task.module(models.build(backbone, BACKBONES[backbone]))
    outputs, variables = models.shapes(net, 16, batch=4)
    assert "backbone" in variables["params"]
    batch = jax.tree.map(jnp.asarray, batch_of(name, 4))

    def use(outputs):
        loss, scalars = task.loss(outputs, batch)
        return loss, scalars, task.predict(outputs, batch)

    loss, scalars, predictions = jax.eval_shape(use, outputs)
    assert (loss.shape, loss.dtype) == ((4,), jnp.float32)
    assert scalars
    assert all((s.shape, s.dtype) == ((4,), jnp.float32) for s in scalars.values())
    assert {k: v.shape for k, v in predictions.items()} == PREDICTIONS[name]
    dtype = jnp.uint8 if name == "parsing" else jnp.float32
    assert all(v.dtype == dtype for v in predictions.values())


@pytest.mark.parametrize("name", sorted(tasks.BUILT_IN))
def test_init_in_either_mode_makes_the_same_variables(name):
    net = tasks.build(name, SPECS[name]).module(models.build("convnet", BACKBONES["convnet"]))
    image = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    train, infer = (
        jax.eval_shape(lambda k, x, t=t: net.init(k, x, train=t), jax.random.key(0), image)
        for t in (True, False)
    )
    assert jax.tree.map(jnp.shape, train) == jax.tree.map(jnp.shape, infer)


@pytest.mark.parametrize("name", sorted(tasks.BUILT_IN))
def test_a_padded_example_changes_no_other_in_eval_mode(name):
    """Image and labels of example 2 are replaced, as padding would be."""
    task = tasks.build(name, SPECS[name])
    net = task.module(models.build("convnet", BACKBONES["convnet"]))
    batch, padding = batch_of(name, 4), batch_of(name, 4, seed=1)
    other = {k: np.where(np.arange(4).reshape(-1, *[1] * (v.ndim - 1)) == 2, padding[k], v)
             for k, v in batch.items()}  # fmt: skip
    variables = variables_of(net)

    @jax.jit
    def run(batch):
        outputs = net.apply(variables, batch["image"], train=False)
        if name == "recognition":  # eval mode has no cosines: take them of the embedding
            centres = {"params": variables["params"]["classifier"]}
            cosine = CosineClassifier(3).apply(centres, outputs["embedding"])
            outputs = {**outputs, "cosine": cosine}
        return (*task.loss(outputs, batch), task.predict(outputs, batch))

    rest = np.array([0, 1, 3])
    before, after = run(batch), run(other)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
        np.testing.assert_array_equal(a[rest], b[rest])
    assert before[0][2] != after[0][2]


@pytest.mark.parametrize("name", sorted(tasks.BUILT_IN))
def test_gradients_reach_every_parameter_and_are_float32_in_bfloat16(name):
    task = tasks.build(name, SPECS[name])
    backbone = models.build("convnet", BACKBONES["convnet"] | {"dtype": jnp.bfloat16})
    net = task.module(backbone)
    batch, variables = batch_of(name, 8), variables_of(net)

    @jax.jit
    def gradient(params, stats):
        def loss(params):
            variables = {"params": params, "batch_stats": stats}
            outputs, _ = net.apply(variables, batch["image"], train=True, mutable=["batch_stats"])
            return task.loss(outputs, batch)[0].mean()

        return jax.grad(loss)(params)

    gradients = gradient(variables["params"], variables["batch_stats"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        where = jax.tree_util.keystr(path)
        assert leaf.dtype == jnp.float32, where
        assert np.isfinite(leaf).all(), where
        assert np.abs(leaf).max() > 0, where


def test_a_task_of_ones_own_in_a_file(tmp_path):
    (tmp_path / "yaw.py").write_text(
        "from facebench.tasks import Task\n"
        "class Yaw(Task):\n"
        "    def __init__(self, spec, scale=1.0):\n"
        "        super().__init__(spec)\n"
        "        self.scale = scale\n"
    )
    task = tasks.build("yaw.py:Yaw", Spec(size=8), {"scale": 2.0}, tmp_path)
    assert (task.scale, task.spec.size) == (2.0, 8)
    assert task.after_step("state") == "state"
    with pytest.raises(NotImplementedError, match=r"Yaw defines no loss"):
        task.loss({}, {})
    with pytest.raises(UsageError, match="did you mean 'scale'"):
        tasks.build("yaw.py:Yaw", Spec(size=8), {"scal": 2.0}, tmp_path)


def test_bad_names_and_specs():
    with pytest.raises(UsageError, match="did you mean 'landmarks'"):
        tasks.build("landmark", Spec(size=8))
    with pytest.raises(FacebenchError, match=r"'landmarks': points is 0, expected at least 1"):
        tasks.build("landmarks", Spec(size=8))
    with pytest.raises(FacebenchError, match=r"'action_units': the data labels no action units"):
        tasks.build("action_units", Spec(size=8))
    with pytest.raises(FacebenchError, match=r"'expression': classes is 0, expected at least 2"):
        tasks.build("expression", Spec(size=8))
    with pytest.raises(FacebenchError, match=r"'recognition': classes is 1, expected at least 2"):
        tasks.build("recognition", Spec(size=8, classes=1))
    for kwargs in ({"features": "pool"}, {"loss": "wings"}, {"loss": "l1", "w": 1.0}, {"w": -1.0}):
        with pytest.raises(UsageError):
            tasks.build("landmarks", Spec(size=8, points=1), kwargs)
    for kwargs in ({"margin": "arc"}, {"norm": "batc"}, {"guard": "non"}, {"smoothing": 1.0}):
        with pytest.raises(UsageError):
            tasks.build("recognition", Spec(size=8, classes=2), kwargs)


class Recording(dict):
    """A batch that remembers what was read of it."""

    def __init__(self, batch):
        super().__init__(batch)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("name", sorted(tasks.BUILT_IN))
def test_fields_are_what_the_loss_reads_and_predict_reads_no_label(name):
    task = tasks.build(name, SPECS[name])
    outputs = {
        "points": jnp.zeros((4, 5, 2)),
        "logits": jnp.zeros((4, 16, 16, 3) if name == "parsing" else (4, 3)),
        "intensity": jnp.zeros((4, 3)),
        "embedding": jnp.ones((4, 6)),
        "cosine": jnp.zeros((4, 3)),
    }
    if name == "valence_arousal":
        outputs = {"logits": jnp.zeros((4, 2))}
    batch = Recording(batch_of(name, 4))
    task.loss(outputs, batch)
    assert batch.read == set(task.fields)
    batch = Recording(batch_of(name, 4))
    task.predict(outputs, batch)
    assert batch.read <= {"to_image"}


def test_the_base_class_has_four_methods_and_no_more():
    methods = [m for m, v in vars(Task).items() if callable(v) and not m.startswith("_")]
    assert methods == ["module", "loss", "predict", "after_step"]
