"""The maps inside a Flax module: found, read and moved from outside; the module is not edited.

Every call of a submodule is intercepted. What it returns is a map where it is [B, h, w, D], or
tokens [B, N, D] of a square or of a grid that another map has, perhaps after a class token. An
array that is handed on unchanged (dropout that is off, a block that ends in its last child) is one
layer, however many modules return it. What runs inside Flax's own lifted transforms (``nn.scan``,
``nn.remat`` and so on) is not seen: only what they return is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.train.partition import leaf_name

Array = jax.Array

_BATCH = 3  # of the pass that only looks at shapes; windows and heads seldom come in threes


@dataclass(frozen=True)
class Layer:
    """One map inside a module.

    Attributes:
        name: path of the submodule that returns it, ``backbone/stage1_block1``; ``path:key`` for
            one array of several, ``path@2`` for the second call of one submodule.
        at: the first submodule that returns the very same array, by which it is read and moved.
        kind: class of the submodule.
        grid: (h, w).
        channels: D.
        shape: of the array, without the batch.
        skip: tokens that stand before the patches.
    """

    name: str
    at: str
    kind: str
    grid: tuple[int, int]
    channels: int
    shape: tuple[int, ...]
    skip: int

    @property
    def depth(self) -> int:
        """How deep in the module it is: 1 for what the whole backbone returns."""
        return self.name.count("/") + 1

    def as_map(self, x: Array) -> Array:
        """The array [B, ...] as a map [B, h, w, D] float32, without a class token."""
        tokens = x.reshape(x.shape[0], -1, self.channels)[:, self.skip :]
        return tokens.reshape(x.shape[0], *self.grid, self.channels).astype(jnp.float32)


def _grid(shape: Sequence[int], known: Collection[tuple[int, int]]) -> tuple[Any, int] | None:
    """(grid, leading tokens) of an output [B, ...], or None where it is no map."""
    if len(shape) == 4:
        h, w = shape[1:3]
        return ((h, w), 0) if min(h, w) > 1 else None
    if len(shape) != 3:
        return None
    for skip in (0, 1):
        patches = shape[1] - skip
        for h, w in known:
            if patches == h * w:
                return (h, w), skip
        side = math.isqrt(max(patches, 0))
        if side > 1 and side * side == patches:
            return (side, side), skip
    return None


def intercepted(visit: Callable[[str, str, Any], Any]) -> Any:
    """A context in which every array that a submodule returns goes through `visit`.

    Args:
        visit: called as ``visit(name, kind, array)``, returns what is handed on.
    """
    calls: Counter[str] = Counter()

    def intercept(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        out = next_fun(*args, **kwargs)
        if context.method_name != "__call__" or not context.module.path:
            return out
        path = "/".join(context.module.path)
        calls[path] += 1
        name = path if calls[path] == 1 else f"{path}@{calls[path]}"
        leaves, tree = jax.tree_util.tree_flatten_with_path(out)
        kind = type(context.module).__name__
        visited = [
            visit(f"{name}:{leaf_name(key)}" if key else name, kind, leaf) for key, leaf in leaves
        ]
        return jax.tree_util.tree_unflatten(tree, visited)

    return nn.intercept_methods(intercept)


def find(module: nn.Module, variables: Any, size: int) -> list[Layer]:
    """Every map inside a module, in the order in which it is computed; nothing is computed.

    Args:
        module: called as ``module(image, train=False)``.
        variables: of the module.
        size: side of the image in pixels.

    Raises:
        FacebenchError: there is no map in it.
    """
    seen: list[tuple[str, str, Any]] = []

    def visit(name: str, kind: str, x: Any) -> Any:
        if (
            hasattr(x, "dtype")
            and jnp.issubdtype(x.dtype, jnp.floating)
            and x.shape[:1] == (_BATCH,)
        ):
            seen.append((name, kind, x))
        return x

    def look(variables: Any, image: Array) -> None:
        with intercepted(visit):
            module.apply(variables, image, train=False)

    image = jax.ShapeDtypeStruct((_BATCH, size, size, 3), jnp.float32)
    jax.eval_shape(look, variables, image)
    known = list(dict.fromkeys(x.shape[1:3] for _, _, x in seen[::-1] if len(x.shape) == 4))
    first: dict[int, Layer] = {}
    for name, kind, x in seen:
        if (found := _grid(x.shape, known)) is None:
            continue
        layer = Layer(name, name, kind, found[0], x.shape[-1], tuple(x.shape[1:]), found[1])
        earlier = first.get(id(x))  # `seen` keeps the arrays alive, so that ids tell them apart
        if earlier is None:
            first[id(x)] = layer
        elif ":" not in name and layer.depth < earlier.depth:
            first[id(x)] = Layer(name, earlier.at, kind, *_rest(earlier))
    if not first:
        raise FacebenchError(
            f"{type(module).__name__}: no submodule returns a map [B, h, w, D] or tokens of a "
            "square; there is nothing to look at"
        )
    return list(first.values())


def _rest(layer: Layer) -> tuple[Any, ...]:
    return layer.grid, layer.channels, layer.shape, layer.skip


def chosen(layers: Sequence[Layer], patterns: Sequence[str] = ()) -> list[Layer]:
    """The layers that patterns name; without any the parts of the backbone, not what is in them.

    Args:
        layers: of `find`.
        patterns: ``backbone/stage*``, ``*/norm``.

    Raises:
        UsageError: a pattern fits none.
    """
    if not patterns:
        return [layer for layer in layers if layer.depth <= 2] or list(layers)
    for pattern in patterns:
        if not any(fnmatchcase(layer.name, pattern) for layer in layers):
            names = [layer.name for layer in layers]
            raise UsageError(f"no layer is named {pattern!r}: {nearest(pattern, names)}")
    return [x for x in layers if any(fnmatchcase(x.name, pattern) for pattern in patterns)]


def moved(
    module: nn.Module,
    variables: Any,
    image: Array,
    deltas: Mapping[str, Array],
) -> tuple[Any, dict[str, Array]]:
    """The outputs of a module where something is added to maps inside it.

    Args:
        module: called as ``module(image, train=False)``.
        variables: of the module.
        image: [B, S, S, 3] in [-1, 1].
        deltas: what is added, by `Layer.at`; zeros change nothing, and the gradient with respect
            to them is the gradient with respect to the map.

    Returns:
        the outputs, and the moved maps by `Layer.at`.
    """
    read: dict[str, Array] = {}

    def visit(name: str, kind: str, x: Any) -> Any:
        if name not in deltas:
            return x
        read[name] = x + deltas[name].astype(x.dtype)
        return read[name]

    with intercepted(visit):
        outputs = module.apply(variables, image, train=False)
    return outputs, read
