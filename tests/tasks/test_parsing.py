"""Parsing: sizes of the decoder, pixels without label, and a mask that it can learn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facebench import models, tasks
from facebench.errors import UsageError
from facebench.tasks import Spec


@pytest.mark.parametrize("size", [7, 16, 33, 48])
@pytest.mark.parametrize("backbone", [{"stem_stride": 1}, {"stem_stride": 4}])
def test_the_mask_has_the_size_of_the_crop(size, backbone):
    task = tasks.build("parsing", Spec(size=size, classes=5), {"width": 4})
    net = task.module(models.build("convnet", {"widths": (2, 4), "blocks": (0, 1)} | backbone))
    outputs, _ = models.shapes(net, size)
    assert outputs["logits"].shape == (2, size, size, 5)
    assert outputs["logits"].dtype == jnp.float32


def test_loss_and_accuracy_by_a_loop():
    rng = np.random.default_rng(0)
    task = tasks.build("parsing", Spec(size=4, classes=3))
    logits = rng.normal(size=(3, 4, 4, 3)).astype(np.float32)
    label = rng.integers(0, 3, (3, 4, 4))
    label[0, 1], label[1] = 255, -1
    loss, scalars = task.loss({"logits": jnp.asarray(logits)}, {"parse": jnp.asarray(label)})
    for b in (0, 2):
        costs, right = [], []
        for z, y in zip(logits[b].reshape(-1, 3), label[b].ravel()):
            if 0 <= y < 3:
                costs.append(np.log(np.exp(z).sum()) - z[y])
                right.append(z.argmax() == y)
        assert loss[b] == pytest.approx(np.mean(costs), rel=1e-5)
        assert scalars["pixel_accuracy"][b] == pytest.approx(np.mean(right), rel=1e-6)
    assert loss[1] == scalars["pixel_accuracy"][1] == 0


def test_predictions_are_bytes_and_a_tie_goes_to_the_first():
    task = tasks.build("parsing", Spec(size=2, classes=3))
    logits = jnp.asarray([[[[0.0, 1, 1], [2, 1, 1]], [[0, 0, 0], [0, 0, 1]]]])
    mask = task.predict({"logits": logits}, {})["parse"]
    assert mask.dtype == jnp.uint8
    np.testing.assert_array_equal(mask, [[[1, 0], [0, 2]]])


def test_it_learns_where_a_bright_square_is():
    """A few dozen steps on squares at random places; the mask follows the square."""
    rng = np.random.default_rng(1)
    size, task = 16, tasks.build("parsing", Spec(size=16, classes=2), {"width": 8})
    net = task.module(models.build("convnet", {"widths": (8,), "blocks": (1,)}))
    corner = rng.integers(0, 10, (48, 2))
    place = np.arange(size)
    inside = (place >= corner[:, :1]) & (place < corner[:, :1] + 6)
    across = (place >= corner[:, 1:]) & (place < corner[:, 1:] + 6)
    mask = (inside[:, :, None] & across[:, None]).astype(np.int32)
    image = np.repeat(2.0 * mask[..., None] - 1, 3, axis=-1).astype(np.float32)
    variables = net.init(jax.random.key(0), image[:2], train=False)
    stats = variables["batch_stats"]
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        def loss(params):
            outputs, _ = net.apply(
                {"params": params, "batch_stats": stats}, image[:32], train=True,
                mutable=["batch_stats"],
            )  # fmt: skip
            return task.loss(outputs, {"parse": jnp.asarray(mask[:32])})[0].mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    params, state = variables["params"], optimizer.init(variables["params"])
    for _ in range(60):
        params, state = step(params, state)
    outputs, _ = net.apply(
        {"params": params, "batch_stats": stats}, image[32:], train=True, mutable=["batch_stats"]
    )
    found = np.asarray(task.predict(outputs, {})["parse"])
    overlap = (found & mask[32:]).sum() / (found | mask[32:]).sum()
    assert overlap > 0.8


def test_wrong_keywords():
    with pytest.raises(UsageError, match="width is 0"):
        tasks.build("parsing", Spec(size=8, classes=3), {"width": 0})
    with pytest.raises(UsageError, match="at most 255"):
        tasks.build("parsing", Spec(size=8, classes=256))
