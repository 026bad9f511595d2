"""Learners: linear maps of pixels in closed form, and the suite's small network in its loop."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from facebench import models, tasks
from facebench.config import base
from facebench.probes.closed_form import standardised_pixels
from facebench.tasks import Spec
from facebench.train import loop, optim, partition

from .worlds import mirrored

Predictions = dict[str, np.ndarray]


# ---- pixels ----------------------------------------------------------------------------------


class Pixels:
    """Grey pixels, standardised per image, on their whitened principal components, and a 1.

    Args:
        image: uint8 [n, S, S, 3], the pictures that the components are of.
        side: pixels per side that the pictures are averaged to.
        components: at most so many, and at most a quarter of the pictures.
    """

    def __init__(self, image: np.ndarray, side: int = 32, components: int = 200) -> None:
        self.side = min(side, image.shape[1])
        x = standardised_pixels(image, self.side)
        self.mean = x.mean(axis=0)
        x -= self.mean
        variance, basis = np.linalg.eigh(x.T @ x / len(x))
        k = min(components, len(x) // 4, len(variance))
        self.basis = basis[:, -k:] / np.sqrt(np.maximum(variance[-k:], 1e-9))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """[n, components + 1] float64."""
        x = (standardised_pixels(image, self.side) - self.mean) @ self.basis
        return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """The weights [d, m] that minimise mean |x w - y|^2 + penalty |w|^2; the last is free."""
    free = np.ones(x.shape[1])
    free[-1] = 0
    return np.linalg.solve(x.T @ x / len(x) + penalty * np.diag(free), x.T @ y / len(x))


def logistic(x: np.ndarray, y: np.ndarray, penalty: float, exclusive: bool) -> np.ndarray:
    """The weights [d, m] of a logistic regression with an l2 penalty, by L-BFGS.

    Args:
        x: [n, d], the last column 1 (its weights are free).
        y: [n, m] of 0 and 1.
        penalty: times the squared weights, beside the mean loss.
        exclusive: one of the m classes (softmax) or m answers (a sigmoid each).
    """
    shape = (x.shape[1], y.shape[1])
    free = np.ones((shape[0], 1))
    free[-1] = 0

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(shape)
        z = x @ w
        if exclusive:
            top = z.max(axis=1, keepdims=True)
            total = np.log(np.exp(z - top).sum(axis=1, keepdims=True)) + top
            value, p = float((total[:, 0] - (z * y).sum(axis=1)).mean()), np.exp(z - total)
        else:
            value = float((np.logaddexp(0, z) - z * y).sum(axis=1).mean())
            p = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
        gradient = x.T @ (p - y) / len(x) + 2 * penalty * free * w
        return value + penalty * float((free * w * w).sum()), gradient.ravel()

    found = minimize(
        loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200}
    )
    return found.x.reshape(shape)


def probabilities(z: np.ndarray, exclusive: bool) -> np.ndarray:
    """Softmax of rows, or a sigmoid of each."""
    if exclusive:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))


# ---- the network -----------------------------------------------------------------------------


@functools.cache
def _place() -> partition.Partition:
    return partition.Partition(partition.make_mesh({"data": -1, "fsdp": 1, "model": 1}))


class Network:
    """The suite's small convolutional network on one task; compiled once for all its seeds.

    Args:
        task: a name of `facebench.tasks`.
        spec: what the data tells the task.
        kwargs: the task's keywords.
        model: fields of the network.
        recipe: of the optimiser, over the defaults of `facebench.config`.
        steps: updates.
        batch_size: pictures per update.
    """

    def __init__(
        self,
        task: str,
        spec: Spec,
        kwargs: Mapping[str, Any],
        model: Mapping[str, Any],
        recipe: Mapping[str, Any],
        steps: int,
        batch_size: int,
    ) -> None:
        self.task = tasks.build(task, spec, kwargs)
        values = base().optim.to_dict() | dict(recipe)
        plan = loop.Plan(
            steps,
            batch_size,
            ema=values["ema"],
            log_every=max(steps // 4, 1),
            checkpoint_every=steps,
        )
        module = self.task.module(models.build("convnet", model))
        self.parameters = models.parameter_count(models.shapes(module, spec.size)[1]["params"])
        self.programs = loop.Programs(
            module, self.task, optim.make(values, steps), plan, _place(), (spec.size,) * 2 + (3,)
        )

    def fit(
        self, arrays: Mapping[str, np.ndarray], seed: int, title: str
    ) -> Callable[[np.ndarray], Predictions]:
        """Trains on pictures and labels; gives the function that predicts pictures.

        Args:
            arrays: ``image`` uint8 [n, S, S, 3] and the fields of the task.
            seed: of the weights, of the order and of the mirror.
            title: stands before progress lines.
        """
        with tempfile.TemporaryDirectory() as folder:
            fitted = loop.fit(
                self.programs,
                batches=lambda start: self._batches(arrays, seed, start),
                seed=seed,
                workdir=Path(folder),
                title=f"{title}  ",
            )
        variables = fitted.state.variables()
        return lambda image: loop.predict(self.programs, variables, _prediction_batches(image))

    def _batches(
        self, arrays: Mapping[str, np.ndarray], seed: int, start: int
    ) -> Iterator[dict[str, np.ndarray]]:
        size, n = self.programs.plan.batch_size, len(arrays["image"])
        mask = np.ones(size, np.float32)
        step = start
        while True:
            places = np.arange(step * size, (step + 1) * size)
            rows = np.concatenate(
                [
                    np.random.default_rng((seed, 1, epoch)).permutation(n)[
                        places[places // n == epoch] % n
                    ]
                    for epoch in np.unique(places // n)
                ]
            )
            batch = {name: value[rows] for name, value in arrays.items()}
            mirror = np.random.default_rng((seed, 2, step)).random(size) < 0.5
            yield mirrored(batch, mirror) | {"mask": mask}
            step += 1


def _prediction_batches(image: np.ndarray, size: int = 128) -> Iterator[dict[str, np.ndarray]]:
    identity = np.tile(np.eye(2, 3, dtype=np.float32), (size, 1, 1))
    for start in range(0, len(image), size):
        part = image[start : start + size]
        mask = (np.arange(size) < len(part)).astype(np.float32)
        padding = np.zeros((size - len(part), *part.shape[1:]), part.dtype)
        yield {"image": np.concatenate([part, padding]), "mask": mask, "to_image": identity}
