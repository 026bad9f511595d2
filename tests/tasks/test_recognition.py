"""The embedding head, the classifier, and the loss through both."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models, tasks
from facebench.losses.sharded import unit
from facebench.tasks import Spec
from facebench.tasks.recognition import CosineClassifier

TINY = {"widths": (4,), "blocks": (1,)}


@pytest.fixture(scope="module")
def net():
    task = tasks.build("recognition", Spec(size=8, classes=3), {"dim": 6})
    module = task.module(models.build("convnet", TINY))
    image = jax.random.uniform(jax.random.key(0), (6, 8, 8, 3), minval=-1)
    init = jax.jit(lambda k, x: module.init(k, x, train=False))
    return task, module, init(jax.random.key(1), image), image


def test_names_and_number_of_parameters(net):
    _, _, variables, _ = net
    head = {k: v for k, v in variables["params"].items() if k != "backbone"}
    assert jax.tree.map(jnp.shape, head) == {
        "embedding": {"kernel": (4 * 4 * 4, 6)},  # no bias
        "embedding_norm": {"bias": (6,)},  # no scale
        "classifier": {"kernel": (6, 3)},
    }


def test_cosines_are_made_for_training_only(net):
    _, module, variables, image = net
    infer = jax.jit(lambda v, x: module.apply(v, x, train=False))(variables, image)
    assert set(infer) == {"embedding"}
    train, _ = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, image
    )
    assert set(train) == {"embedding", "cosine"}
    e = np.asarray(train["embedding"], np.float64)
    np.testing.assert_allclose(e.mean(0), 0, atol=1e-5)  # batch norm without scale, bias at 0
    np.testing.assert_allclose(e.std(0), 1, atol=1e-2)
    w = np.asarray(variables["params"]["classifier"]["kernel"], np.float64)
    cosine = e @ w / np.linalg.norm(e, axis=1)[:, None] / np.linalg.norm(w, axis=0)
    np.testing.assert_allclose(train["cosine"], cosine, atol=1e-6)


@pytest.mark.parametrize("where", ["spec", "backbone"])
def test_axis_name_reaches_the_norm_of_the_head(net, where):
    _, module, variables, image = net
    spec = Spec(size=8, classes=3, axis_name="data" if where == "spec" else None)
    backbone = models.build("convnet", TINY | {"axis_name": "data"})
    split = tasks.build("recognition", spec, {"dim": 6}).module(backbone)
    whole, stats = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, image
    )
    got, split_stats = jax.jit(
        jax.vmap(
            lambda x: split.apply(variables, x, train=True, mutable=["batch_stats"]),
            axis_name="data",
        )
    )(image.reshape(2, 3, 8, 8, 3))
    np.testing.assert_allclose(got["cosine"].reshape(6, 3), whole["cosine"], rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(split_stats), jax.tree.leaves(stats)):
        np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_other_norms_have_no_batch_statistics(norm):
    task = tasks.build("recognition", Spec(size=16, classes=3), {"norm": norm})
    vit = models.build("vit", {"depth": 1, "dim": 8, "heads": 2})
    _, variables = models.shapes(task.module(vit), 16)
    assert set(variables) == {"params"}
    assert ("embedding_norm" in variables["params"]) == (norm == "layer")


def test_classifier_gives_the_loss_and_gradients_of_partial_fc(oracles):
    """arcface_torch on one shard, CosFace; two rows have a cosine of exactly 1 and -1."""
    vectors = np.load(oracles / "losses/pfc_cosface_s64_m04.npz")
    label = vectors["in_labels"].astype(np.int32)
    task = tasks.build(
        "recognition", Spec(size=8, classes=60), {"margin": "cosface", "m": 0.4, "s": 64.0}
    )

    def loss(embedding, kernel):
        cosine = CosineClassifier(60).apply({"params": {"kernel": kernel}}, embedding)
        return task.loss({"cosine": cosine}, {"label": label})[0]

    @jax.jit
    def run(embedding, kernel):
        value, pullback = jax.vjp(loss, embedding, kernel)
        return value, *pullback(jnp.full(24, 1 / 24))

    value, by_embedding, by_kernel = run(vectors["in_embeddings"], vectors["in_weight"].T)
    np.testing.assert_allclose(
        np.minimum(value, -np.log(1e-30)).mean(), vectors["out_loss"], rtol=1e-5
    )
    want = vectors["out_grad_embeddings"]
    np.testing.assert_allclose(by_embedding, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())
    want = vectors["out_grad_weight"].T
    np.testing.assert_allclose(by_kernel, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


def test_accuracy_is_without_the_margin_and_the_loss_with_it():
    task = tasks.build("recognition", Spec(size=8, classes=2), {"m": 0.5, "s": 10.0})
    batch = {"label": jnp.asarray([0, 1], jnp.int32)}
    value, scalars = task.loss({"cosine": jnp.asarray([[0.6, 0.5], [0.6, 0.5]])}, batch)
    np.testing.assert_array_equal(scalars["accuracy"], [1, 0])
    own = np.cos(np.arccos([0.6, 0.5]) + 0.5)
    expected = np.log1p(np.exp(10 * (np.array([0.5, 0.6]) - own)))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_predicted_embeddings_have_length_one(net):
    task, *_ = net
    x = np.random.default_rng(0).normal(0, 5, (4, 6)).astype(np.float32)
    got = task.predict({"embedding": jnp.asarray(x)}, {})["embedding"]
    np.testing.assert_allclose(got, x / np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-5)


def test_a_unit_vector_has_a_finite_gradient_at_zero():
    gradient = jax.grad(lambda x: unit(x).sum())(jnp.zeros((2, 3)))
    assert np.isfinite(gradient).all()
    assert not np.asarray(unit(jnp.zeros((2, 3)))).any()


def test_a_ready_embedding_at_its_centre_has_finite_gradients():
    kernel = jnp.asarray([[1.0, -1.0], [0.0, 0.0]])
    task = tasks.build("recognition", Spec(size=8, classes=2))
    batch = {"label": jnp.asarray([0, 1], jnp.int32)}

    def loss(embedding, kernel):
        cosine = CosineClassifier(2).apply({"params": {"kernel": kernel}}, embedding)
        return task.loss({"cosine": cosine}, batch)[0].sum()

    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(
        jnp.asarray([[2.0, 0.0], [3.0, 0.0]]), kernel
    )
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)
