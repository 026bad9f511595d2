"""The losses of recognition by name: options, what is added, statistics of the whole batch."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from facebench import tasks
from facebench.config import base
from facebench.errors import FacebenchError, UsageError
from facebench.losses import margin as losses
from facebench.losses import quality, triplet
from facebench.tasks import Spec, margins
from facebench.train import checkpoint, loop, optim, partition
from facebench.train import state as state_lib

SIZE, ROWS, CLASSES = 4, 8, 3


class Toy(nn.Module):
    """A published network that ends in an embedding of six numbers."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Dense(6, name="out")(image.reshape(len(image), -1))
        return {"pooled": x, "spatial": x[:, None, None], "embedding": 3.0 * x}


def task_of(axis_name=None, **kwargs):
    spec = Spec(size=SIZE, classes=CLASSES, axis_name=axis_name)
    return tasks.build("recognition", spec, {"features": "embedding"} | kwargs)


def batch(step, masked=(2, 7)):
    rng = np.random.default_rng([11, step])
    mask = np.ones(ROWS, np.float32)
    mask[list(masked)] = 0
    return {
        "image": rng.integers(0, 256, (ROWS, SIZE, SIZE, 3), dtype=np.uint8),
        "label": np.arange(ROWS, dtype=np.int32) % CLASSES,
        "mask": mask,
    }


def batches(start):
    step = start
    while True:
        yield batch(step)
        step += 1


def programs(kind="jit", devices=1, accumulate=1, steps=4, **kwargs):
    place = partition.Partition(
        partition.make_mesh({"data": -1, "fsdp": 1, "model": 1}, jax.devices()[:devices]), kind
    )
    task = task_of(place.axis_name, **kwargs)
    recipe = base().optim.to_dict() | {"name": "sgd", "lr": 0.01, "schedule": "constant"}
    plan = loop.Plan(steps, ROWS, accumulate=accumulate, log_every=10, checkpoint_every=2)
    net = task.module(Toy())
    made = loop.Programs(net, task, optim.make(recipe, steps), plan, place, (SIZE, SIZE, 3))
    return made, net


# ------------------------------------------------------------------------------------- options


def test_every_margin_has_checked_defaults():
    for margin, known in margins.OPTIONS.items():
        assert margins.options(margin, {}) == known
    assert margins.options("triplet", {}) == margins.TRIPLET
    assert margins.options("arcface", {"m": 0.3, "guard": None})["m"] == 0.3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"margin": "arcfaec"}, "did you mean 'arcface'"),
        ({"margin": "adafce"}, "did you mean 'adaface'"),
        ({"margin": "cosface", "guard": "linear"}, "'cosface' has no guard.*it reads centres, "),
        ({"margin": "arcface", "h": 0.3}, "'arcface' has no h"),
        ({"margin": "softmax", "m": 0.5}, "'softmax' has no m"),
        ({"margin": "uniface", "smoothing": 0.1}, "'uniface' has no smoothing"),
        ({"margin": "softmax_with_bias", "s": 3.0}, "has no s"),
        ({"margin": "sphereface", "m": 3.5}, "m is 3.5, expected a whole number"),
        ({"margin": "combined", "m": 0.5}, "m1, m2, m3"),
        ({"margin": "arcface", "gradient": "straigth_through"}, "did you mean 'straight_through'"),
        ({"margin": "magface", "guard": "esay"}, "did you mean 'easy'"),
        ({"margin": "magface", "norm_range": (10.0, 3.0)}, "low < high"),
        ({"margin": "adaface", "t_alpha": 1.5}, r"in \[0, 1\]"),
        ({"margin": "elastic_arcface", "sigma": -1.0}, "0 or above"),
        ({"centres": 0}, "whole number above 0"),
        ({"m": 4.0}, "0 <= m < pi"),
        ({"s": "64"}, "above 0"),
        ({"interclass_filtering_threshold": 1.2}, "below 1"),
        ({"loss": "triplte"}, "did you mean 'triplet'"),
        ({"loss": "triplet", "margin": "arcface"}, "'triplet' has no margin"),
        ({"loss": "triplet", "s": 30.0}, "'triplet' has no s"),
        ({"loss": "triplet", "mining": "semi-hard"}, "did you mean 'semi_hard'"),
        ({"mining": "hard"}, "'arcface' has no mining"),
        ({"dim": 8}, "has no dim"),
        ({"norm": "batch"}, "has no norm"),
        ({"dropout": 0.1}, "has no dropout"),
        ({"marginn": "arcface"}, "did you mean 'margin'"),
    ],
)
def test_what_cannot_be_meant_is_refused(kwargs, message):
    with pytest.raises(UsageError, match=message):
        task_of(**kwargs)


# ----------------------------------------------------------------------------- what is added


def shapes(**kwargs):
    module = task_of(**kwargs).module(Toy())
    image = jnp.zeros((2, SIZE, SIZE, 3))
    init = functools.partial(module.init, train=True)
    made = jax.eval_shape(init, {"params": jax.random.key(0), "dropout": jax.random.key(1)}, image)
    made["params"].pop("backbone")
    return jax.tree.map(lambda x: x.shape, made)


def test_a_backbone_with_its_own_embedding_gets_a_classifier_alone():
    assert shapes() == {"params": {"classifier": {"kernel": (6, CLASSES)}}}
    assert shapes(centres=4) == {"params": {"classifier": {"kernel": (6, 4 * CLASSES)}}}
    assert shapes(loss="triplet") == {"params": {}}


def test_what_a_margin_learns_and_keeps_beside_the_classifier():
    kernel = {"kernel": (6, CLASSES)}
    assert shapes(margin="uniface")["params"] == {"classifier": kernel, "bias": ()}
    assert shapes(margin="softmax", learn_s=True)["params"] == {"classifier": kernel, "scale": ()}
    with_bias = {"classifier": kernel | {"bias": (CLASSES,)}}
    assert shapes(margin="softmax_with_bias") == {"params": with_bias}
    sums = dict.fromkeys(quality.Moments._fields, ())
    for margin in ("adaface", "curricularface"):
        kept = shapes(margin=margin)["margin_stats"]
        assert kept == {"running": {"mean": (), "std": (), "sums": sums}}
    assert shapes(margin="sphereface")["margin_stats"] == {"step": ()}


def test_learnt_numbers_start_where_they_should():
    module = task_of(margin="uniface").module(Toy())
    variables = module.init(jax.random.key(0), jnp.zeros((2, SIZE, SIZE, 3)), train=False)
    assert float(variables["params"]["bias"]) == pytest.approx(math.log(10 * CLASSES))
    module = task_of(margin="softmax", learn_s=True, s=10.0).module(Toy())
    image = jnp.ones((2, SIZE, SIZE, 3))
    variables = module.init(jax.random.key(0), image, train=False)
    assert float(variables["params"]["scale"]) == 10.0
    variables["params"]["scale"] = jnp.float32(-3.0)
    assert float(module.apply(variables, image, train=True)["scale"]) == pytest.approx(0.01)


def test_a_backbone_without_an_embedding_is_named():
    class Bare(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            return {"pooled": image.mean((1, 2)), "spatial": image}

    module = task_of().module(Bare())
    with pytest.raises(FacebenchError, match=r"Bare returns .*pooled.*; use one of"):
        module.init(jax.random.key(0), jnp.zeros((2, SIZE, SIZE, 3)), train=True)


# ------------------------------------------------------------------------------ the whole step

NAMES = [
    *({"margin": name} for name in margins.OPTIONS),
    {"margin": "softmax", "learn_s": True},
    {"margin": "arcface", "centres": 3, "gradient": "straight_through"},
    {"margin": "curricularface", "interclass_filtering_threshold": 0.4, "smoothing": 0.1},
    *({"loss": "triplet", "mining": mining} for mining in triplet.MININGS),
]


@pytest.mark.parametrize("kwargs", NAMES, ids=lambda k: "-".join(map(str, k.values())))
def test_every_loss_makes_a_step(kwargs):
    """Finite, moving every parameter, and keeping the state's form."""
    made, _ = programs(**kwargs)
    state = made.init(jax.random.key(0))
    before = jax.tree.map(np.asarray, state)
    after, metrics = made.train_step(state, made.partition.put_batch(batch(0)), jax.random.key(1))
    assert np.isfinite(metrics["loss"])
    assert metrics["loss"] > 0
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(before.params), jax.tree.leaves(after.params)
    ):
        assert np.isfinite(new).all(), path
        assert not np.array_equal(old, new), path
    if kwargs.get("margin") == "sphereface":
        assert int(after.collections["margin_stats"]["step"]) == 1
    embedding = made.predict_step(after.variables(), made.partition.put_batch(batch(0)))
    assert set(embedding) == {"embedding", "norm"}


def expected(net, state, example, margin, t_alpha):
    """Running mean and spread after a step, by NumPy from the rows whose mask is 1."""
    image = example["image"].astype(np.float32) / 127.5 - 1
    outputs, _ = net.apply(
        state.variables(), image, train=True, label=jnp.asarray(example["label"]),
        mask=jnp.asarray(example["mask"]), mutable=["margin_stats"],
    )  # fmt: skip
    if margin == "adaface":
        x = np.clip(np.linalg.norm(np.asarray(outputs["embedding"], np.float64), axis=1), 1e-3, 100)
    else:
        x = np.asarray(losses.own_cosine(outputs["cosine"], jnp.asarray(example["label"])))
    x = x[example["mask"] > 0].astype(np.float64)
    kept = jax.device_get(state.collections["margin_stats"]["running"])
    return (
        (1 - t_alpha) * kept["mean"] + t_alpha * x.mean(),
        (1 - t_alpha) * kept["std"] + t_alpha * x.std(ddof=1),
    )


PLACES = [("jit", 1, 1), ("jit", 1, 2), ("jit", 8, 1), ("pmap", 8, 1)]


@pytest.mark.parametrize(
    ("margin", "places"),
    [
        ("adaface", PLACES[:2]),
        pytest.param("adaface", PLACES, marks=pytest.mark.slow),
        pytest.param("curricularface", PLACES, marks=pytest.mark.slow),
    ],
)
def test_statistics_are_those_of_the_global_batch(margin, places):
    """On one device, in two parts, and with one example per device, two of them padded."""
    found = []
    for kind, devices, accumulate in places:
        made, net = programs(kind, devices, accumulate, margin=margin, t_alpha=0.3)
        state, values = made.init(jax.random.key(0)), []
        for step in range(2):
            here = jax.device_get(state)
            if kind == "jit" and devices == 1:
                want = expected(net, here, batch(step), margin, 0.3)
            state, metrics = made.train_step(
                state, made.partition.put_batch(batch(step)), jax.random.key(1)
            )
            kept = jax.device_get(state.collections["margin_stats"]["running"])
            assert all(v == 0 for v in kept["sums"].values())
            if kind == "jit" and devices == 1:
                np.testing.assert_allclose((kept["mean"], kept["std"]), want, rtol=1e-5)
            values += [kept["mean"], kept["std"], float(metrics["loss"])]
        found.append(values)
    for elsewhere in found[2:]:
        np.testing.assert_allclose(elsewhere, found[0], rtol=1e-5)
    # parts: what the first step leaves is the same; its loss has seen a part's own blend
    np.testing.assert_allclose(found[1][:2], found[0][:2], rtol=1e-5)


@pytest.mark.parametrize("mining", ["semi_hard", pytest.param("hard", marks=pytest.mark.slow)])
def test_triplets_are_mined_in_the_global_batch(mining):
    """With one example per device, where alone none would have a positive."""
    found = []
    for kind, devices in (("jit", 1), ("jit", 8), ("pmap", 8)):
        made, _ = programs(kind, devices, loss="triplet", mining=mining)
        state = made.init(jax.random.key(0))
        state, metrics = made.train_step(
            state, made.partition.put_batch(batch(0)), jax.random.key(1)
        )
        found.append([float(metrics["loss"]), *map(np.asarray, jax.tree.leaves(state.params))])
    assert found[0][0] > 0
    for other in found[1:]:
        for a, b in zip(found[0], other):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_elastic_plus_deals_margins_out_over_all_devices():
    rng = np.random.default_rng(4)
    cosine = jnp.asarray(rng.uniform(-0.5, 0.9, (ROWS, CLASSES)), jnp.float32)
    normal = jnp.asarray(rng.normal(size=ROWS), jnp.float32)
    label, mask = jnp.arange(ROWS) % CLASSES, jnp.asarray(batch(0)["mask"])
    chosen = margins.options("elastic_arcface_plus", {})

    def loss(axis_name, cosine, normal, label, mask):
        outputs = {"cosine": cosine, "normal": normal}
        return margins.margin_loss("elastic_arcface_plus", chosen, outputs, label, mask, axis_name)

    whole = loss(None, cosine, normal, label, mask)
    alone = [x[:, None] for x in (cosine, normal, label, mask)]
    split = jax.vmap(functools.partial(loss, "data"), axis_name="data")(*alone)
    np.testing.assert_allclose(split.ravel(), whole, rtol=1e-6)
    plain = margins.margin_loss(
        "elastic_arcface", {**chosen}, {"cosine": cosine, "normal": normal}, label, mask, None
    )
    assert not np.allclose(plain, whole)


def test_statistics_are_saved_and_restored(tmp_path):
    """A run that stopped half way ends in the same bits."""
    made, _ = programs(steps=4, margin="adaface")
    whole = loop.fit(made, batches=batches, seed=3, workdir=tmp_path / "whole").state
    half, _ = programs(steps=2, margin="adaface")
    loop.fit(half, batches=batches, seed=3, workdir=tmp_path / "half")
    again = loop.fit(made, batches=batches, seed=3, workdir=tmp_path / "half").state
    assert checkpoint.params_digest(again) == checkpoint.params_digest(whole)
    mean = float(whole.collections["margin_stats"]["running"]["mean"])
    assert mean != quality.FIRST_MEAN


def test_initialising_counts_nothing():
    _, net = programs(margin="adaface")
    image = jnp.ones((2, SIZE, SIZE, 3))
    state = state_lib.create(net, optim.make(base().optim.to_dict(), 4), image, jax.random.key(0))
    kept = state.collections["margin_stats"]["running"]
    assert (float(kept["mean"]), float(kept["std"])) == (20.0, 100.0)
    assert all(float(v) == 0 for v in kept["sums"].values())


def test_curricularface_asks_for_labels():
    module = task_of(margin="curricularface").module(Toy())
    image = jnp.ones((2, SIZE, SIZE, 3))
    variables = module.init(jax.random.key(0), image, train=True)
    with pytest.raises(FacebenchError, match="labels"):
        module.apply(variables, image, train=True, mutable=["margin_stats"])
