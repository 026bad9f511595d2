"""A small network with batch norm and dropout, a task, and endless batches."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from facebench import config
from facebench.train import optim


class Net(nn.Module):
    """Convolution, batch norm, dropout, a wide layer (large enough for fsdp), an output layer."""

    dropout: float = 0.2
    norm: bool = True
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image, *, train: bool) -> dict[str, Any]:
        x = nn.Conv(8, (3, 3), strides=2, name="stem")(image)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x)
        x = nn.relu(x).mean((1, 2))
        x = nn.relu(nn.Dense(2048, name="wide")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {"y": nn.Dense(4, name="out")(x)}


class Regression:
    """Least squares; logs the size of the outputs."""

    def loss(self, outputs, batch):
        return ((outputs["y"] - batch["t"]) ** 2).mean(-1), {"size": jnp.abs(outputs["y"]).mean(-1)}

    def predict(self, outputs, batch):
        return {"y": outputs["y"]}

    def after_step(self, state):
        return state


def batch(step: int, size: int = 32) -> dict[str, np.ndarray]:
    """The batch of a step."""
    rng = np.random.default_rng(step)
    return {
        "image": rng.integers(0, 256, (size, 12, 12, 3)).astype(np.uint8),
        "mask": np.ones(size, np.float32),
        "t": rng.normal(size=(size, 4)).astype(np.float32),
    }


def batches(start: int):
    """Batches from a step on."""
    step = start
    while True:
        yield batch(step)
        step += 1


def recipe(**changes) -> dict[str, Any]:
    """The default recipe under SGD, with changes."""
    base = config.base().optim.to_dict()
    return base | {"name": "sgd", "lr": 0.05, "warmup": 3, "weight_decay": 1e-4} | changes


def optimizer(steps: int = 12, **changes):
    """The optimiser of `recipe`."""
    return optim.make(recipe(**changes), steps)
