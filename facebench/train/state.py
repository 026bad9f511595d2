"""The training state: a pytree of arrays, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn


@flax.struct.dataclass
class State:
    """All that a run needs to go on, and all that a checkpoint holds.

    Attributes:
        step: int32 scalar, the number of updates made.
        params: trainable parameters.
        collections: the module's other collections (``batch_stats``, ...).
        ema: averaged parameters, or ``{}`` where no averaging is asked for.
        opt_state: the optimiser's state.
    """

    step: jax.Array
    params: Any
    collections: Any
    ema: Any
    opt_state: Any

    @property
    def predicting(self) -> Any:
        """The parameters that predict: the averaged ones where there are any."""
        return self.ema or self.params

    def variables(self) -> dict[str, Any]:
        """What ``module.apply`` takes in order to predict."""
        return {"params": self.predicting, **self.collections}


def create(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    image: jax.Array,
    key: jax.Array,
    *,
    ema: bool = False,
) -> State:
    """Initialises a state; a pure function of its arguments, so it can be jitted or only shaped.

    Args:
        module: takes ``(image, train=...)``.
        optimizer: any optax transformation.
        image: [B, H, W, 3] float, values unused.
        key: a JAX random key.
        ema: whether to keep averaged parameters.
    """
    parameters_key, dropout_key = jax.random.split(key)
    variables = module.init({"params": parameters_key, "dropout": dropout_key}, image, train=True)
    collections: Mapping[str, Any] = {k: v for k, v in variables.items() if k != "params"}
    params = variables["params"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=dict(collections),
        ema=jax.tree.map(jnp.copy, params) if ema else {},
        opt_state=optimizer.init(params),
    )
