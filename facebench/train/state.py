"""The training state: a pytree of arrays, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from facebench.errors import FacebenchError


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
    given: Mapping[str, Any] | None = None,
) -> State:
    """Initialises a state; a pure function of its arguments, so it can be jitted or only shaped.

    Args:
        module: takes ``(image, train=...)``.
        optimizer: any optax transformation.
        image: [B, H, W, 3] float, values unused.
        key: a JAX random key.
        ema: whether to keep averaged parameters.
        given: variables to begin with in the place of drawn ones: part of the module's tree,
            ``{"params": {"backbone": ...}}``. Averages and the optimiser begin with them, too.

    Raises:
        FacebenchError: the module has no variable of such a name, or of another shape.
    """
    parameters_key, dropout_key = jax.random.split(key)
    variables = module.init({"params": parameters_key, "dropout": dropout_key}, image, train=True)
    if given is not None:
        variables = _put(variables, given, "")
    collections: Mapping[str, Any] = {k: v for k, v in variables.items() if k != "params"}
    params = variables["params"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=dict(collections),
        ema=jax.tree.map(jnp.copy, params) if ema else {},
        opt_state=optimizer.init(params),
    )


def _put(tree: Any, given: Any, path: str) -> Any:
    """`tree` with the leaves of `given` in the place of its own."""
    if not isinstance(given, Mapping):
        if jnp.shape(tree) != jnp.shape(given):
            raise FacebenchError(
                f"variable {path} is to begin as an array {jnp.shape(given)}, but the module has "
                f"{jnp.shape(tree)} there"
            )
        return jnp.asarray(given, tree.dtype)
    if not isinstance(tree, Mapping) or given.keys() - tree.keys():
        there = sorted(tree) if isinstance(tree, Mapping) else "an array"
        raise FacebenchError(
            f"variables {path or 'of the module'}: {sorted(given)} are to be begun with, but the "
            f"module has {there}"
        )
    return {
        name: _put(child, given[name], f"{path}/{name}".lstrip("/")) if name in given else child
        for name, child in tree.items()
    }
