"""Optimisers and schedules from a recipe: SGD, AdamW, AdaGrad, LARS; warm-up, then a way down."""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping
from typing import Any

import jax
import optax


def schedule(recipe: Mapping[str, Any], steps: int) -> optax.Schedule:
    """The learning rate at each step.

    Linear warm-up from 0 over ``warmup`` steps, then constant, a line or half a cosine down to
    ``final_lr * lr`` (Loshchilov and Hutter 2017, without restarts), or a factor ``gamma`` at each
    of the ``milestones``, given as fractions of `steps`.

    Args:
        recipe: ``config.optim``.
        steps: how many updates the run makes.
    """
    lr, warmup = float(recipe["lr"]), int(recipe["warmup"])
    rest = max(steps - warmup, 1)
    if recipe["schedule"] == "constant":
        after = optax.constant_schedule(lr)
    elif recipe["schedule"] == "linear":
        after = optax.linear_schedule(lr, lr * float(recipe["final_lr"]), rest)
    elif recipe["schedule"] == "cosine":
        after = optax.cosine_decay_schedule(lr, rest, alpha=float(recipe["final_lr"]))
    else:
        drops = {max(round(m * steps) - warmup, 0): recipe["gamma"] for m in recipe["milestones"]}
        after = optax.piecewise_constant_schedule(lr, drops)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup), after], [warmup])


def decayed(params: Any) -> Any:
    """The mask of weight decay: arrays of two or more axes; not biases, norms and scalars."""
    return jax.tree.map(lambda p: p.ndim >= 2, params)


def layer_scales(params: Any, decay: float, head: float = 1.0) -> Any:
    """Learning-rate factors that fall by `decay` per layer from the head down to the stem.

    A layer is named by the numbers in a parameter's path below ``backbone``: ``stage2_block1`` is
    (2, 1), ``block_10`` is (10,); layers are ranked by them. ``stage2_merge`` belongs to the last
    block of its stage. Of what has no number, the stem, patch and position embeddings and tokens
    belong to the first layer, the rest (a final norm) to the last (Clark et al. 2020, ELECTRA,
    section 3.1, as used for fine-tuning by BEiT and MAE).

    Args:
        params: of a module with a submodule ``backbone``.
        decay: factor from one layer to the one below it.
        head: factor of everything outside the backbone.

    Returns:
        A tree like `params` of Python floats.
    """
    first, last = (-1,), (1 << 30,)

    def layer(path: Any) -> tuple[int, ...] | None:
        names = [str(getattr(key, "key", key)) for key in path]
        if "backbone" not in names:
            return None
        inside = names[names.index("backbone") + 1 :]
        for name in inside:
            if re.match(r"(block|stage|layer)", name) and (numbers := re.findall(r"\d+", name)):
                return (*map(int, numbers), *(last if "_merge" in name else ()))
        return first if re.match(r"stem|patch|pos|embed|cls|class|token", inside[0]) else last

    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    blocks = sorted({n for n in map(layer, paths) if n and n != first and n[-1] != last[0]})

    def scale(path: Any, _: Any) -> float:
        numbers = layer(path)
        if numbers is None:
            return head
        return decay ** (len(blocks) + 1 - bisect.bisect(blocks, numbers))

    return jax.tree_util.tree_map_with_path(scale, params)


def make(recipe: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
    """Builds the optimiser of a recipe.

    In order: clip the global gradient norm, precondition (SGD momentum, Adam, AdaGrad or LARS),
    decay weights decoupled from the gradient for AdamW and added to the gradient for the others,
    scale by layer, scale by the schedule.

    Args:
        recipe: ``config.optim``.
        steps: how many updates the run makes.
    """
    lr = schedule(recipe, steps)
    decay = float(recipe["weight_decay"])
    parts: list[optax.GradientTransformation] = []
    if recipe["clip_norm"]:
        parts.append(optax.clip_by_global_norm(float(recipe["clip_norm"])))
    momentum, nesterov = float(recipe["momentum"]), bool(recipe["nesterov"])
    if recipe["name"] == "adamw":
        parts.append(optax.scale_by_adam(recipe["b1"], recipe["b2"], recipe["eps"]))
        parts.append(optax.add_decayed_weights(decay, decayed))
    elif recipe["name"] == "sgd":
        parts.append(optax.add_decayed_weights(decay, decayed))
        parts.append(optax.trace(momentum, nesterov))
    elif recipe["name"] == "adagrad":  # squares summed from 0.1, as TensorFlow does
        parts.append(optax.add_decayed_weights(decay, decayed))
        parts.append(optax.scale_by_rss(0.1, recipe["eps"]))
    else:
        parts.append(optax.add_decayed_weights(decay, decayed))
        parts.append(optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), decayed))
    factor, head = float(recipe["layer_decay"]), float(recipe.get("head_lr_factor", 1.0))
    if (factor, head) != (1.0, 1.0):
        parts.append(
            optax.stateless(
                lambda updates, params: jax.tree.map(
                    lambda u, s: u * s, updates, layer_scales(params, factor, head)
                )
            )
        )
    parts.append(optax.scale_by_learning_rate(lr))
    if (
        recipe["name"] == "lars"
    ):  # momentum after the learning rate, as You et al. 2017, algorithm 1
        parts.append(optax.trace(momentum, nesterov))
    return optax.chain(*parts)
