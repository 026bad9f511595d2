"""One update and one prediction, as pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from facebench.train.state import State

Batch = Mapping[str, jax.Array]


class Task(Protocol):
    """What the loop asks of a task (or of a pretraining objective)."""

    def loss(
        self, outputs: Mapping[str, jax.Array], batch: Batch
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Per-example losses [B] and per-example scalars [B] to log."""

    def predict(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        """Per-example predictions [B, ...]."""

    def after_step(self, state: State) -> State:
        """What follows an update: teachers, queues, centres."""


def normalize(image: jax.Array) -> jax.Array:
    """RGB bytes [B, H, W, 3] to float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def make_train_step(
    module: nn.Module,
    task: Task,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema: float = 0.0,
    axis_name: str | None = None,
) -> Callable[[State, Batch, jax.Array], tuple[State, dict[str, jax.Array]]]:
    """Builds ``train_step(state, batch, key) -> (state, metrics)``.

    The loss is the mean over the examples whose ``mask`` is 1, over all devices and accumulated
    parts. Randomness is ``fold_in(key, step)`` and nothing else.

    Args:
        module: called as ``module(image, train=True)``, returns a dict of outputs; and with the
            batch's fields that the task's ``module_reads`` names, where it has any, by keyword.
        task: gives the loss of these outputs.
        optimizer: an optax transformation.
        accumulate: the batch is cut into so many parts and their gradients are added; batch norm
            sees one part at a time.
        ema: decay of the averaged weights; 0 for none.
        axis_name: the axis to sum over under ``pmap``; None under ``jit``.
    """
    module_reads: tuple[str, ...] = getattr(task, "module_reads", ())

    def total(x: Any) -> Any:
        return jax.lax.psum(x, axis_name) if axis_name else x

    def train_step(
        state: State, batch: Batch, key: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        key = jax.random.fold_in(key, state.step)
        if axis_name:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        count = total(batch["mask"].sum())

        def gradients(collections: Any, part: Batch, key: jax.Array) -> tuple[Any, Any, Any]:
            given: Any = {name: part[name] for name in module_reads}

            def loss(params: Any) -> tuple[jax.Array, Any]:
                outputs, changed = module.apply(
                    {"params": params, **collections},
                    normalize(part["image"]),
                    train=True,
                    mutable=list(collections),
                    rngs={"dropout": key},
                    **given,
                )
                losses, scalars = task.loss(outputs, part)
                logged = {"loss": losses, **scalars}
                sums = {
                    name: (part["mask"] * value).sum() / count for name, value in logged.items()
                }
                return sums["loss"], ({**collections, **changed}, sums)

            (_, (collections, sums)), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
            return grads, collections, sums

        if accumulate == 1:
            grads, collections, sums = gradients(state.collections, batch, key)
        else:
            # Rows are dealt out so that each device holds its share of every part.
            parts = jax.tree.map(
                lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), dict(batch)
            )

            def body(carry: Any, xs: Any) -> Any:
                grads, collections = carry
                part, index = xs
                more, collections, sums = gradients(
                    collections, part, jax.random.fold_in(key, index)
                )
                return (jax.tree.map(jnp.add, grads, more), collections), sums

            zeros = jax.tree.map(jnp.zeros_like, state.params)
            (grads, collections), sums = jax.lax.scan(
                body, (zeros, state.collections), (parts, jnp.arange(accumulate))
            )
            sums = jax.tree.map(lambda x: x.sum(0), sums)

        grads, metrics = total(grads), total(sums)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averaged = state.ema
        if ema:
            averaged = jax.tree.map(lambda old, new: ema * old + (1 - ema) * new, averaged, params)
        metrics["grad_norm"] = optax.tree.norm(grads)
        metrics["update_norm"] = optax.tree.norm(updates)
        metrics["param_norm"] = optax.tree.norm(params)
        state = State(state.step + 1, params, collections, averaged, opt_state)
        return task.after_step(state), metrics

    return train_step


def make_predict_step(
    module: nn.Module, task: Task
) -> Callable[[Any, Batch], dict[str, jax.Array]]:
    """Builds ``predict_step(variables, batch) -> predictions``; the batch holds no label."""

    def predict_step(variables: Any, batch: Batch) -> dict[str, jax.Array]:
        outputs: Any = module.apply(variables, normalize(batch["image"]), train=False)
        return task.predict(outputs, batch)

    return predict_step
