"""Partial FC: in each step, the classes of the batch and a drawn share of the others.

An et al., *Partial FC: Training 10 Million Identities on a Single Machine*, ICCVW 2021. The softmax
over the drawn classes is `sharded.margin_softmax`'s; here is the draw, and the layer that holds the
centres in a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from facebench.errors import UsageError
from facebench.losses import sharded

Array = jax.Array


class Centres(nn.Module):
    """The class centres as a layer; what it returns is for `softmax`.

    Its parameter ``kernel`` [d, columns] lies cut over the devices if the layer is named
    ``classifier``, by the rules of the partition. It computes nothing itself, since a module sees
    no labels.

    Attributes:
        classes: C.
        rate: share of the classes that take part in a step; 1 for all.
        groups: see `sample`.
    """

    classes: int
    rate: float = 1.0
    groups: int = 8

    @nn.compact
    def __call__(self, dim: int) -> dict[str, Array]:
        """For embeddings of size `dim`: ``centres`` and, with a rate below 1, the key ``draw``.

        The key is the step's for dropout, a function of (seed, step) and the same on every device.
        """
        width = sharded.columns(self.classes, self.groups if self.rate < 1.0 else 1)
        kernel = self.param("kernel", sharded.centres(self.classes), (dim, width))
        return {"centres": kernel} | ({"draw": self.make_rng("dropout")} if self.rate < 1 else {})


def softmax(
    outputs: Mapping[str, Array],
    label: Array,
    margin: Callable[[Array], Array],
    *,
    classes: int,
    s: Array | float,
    rate: float = 1.0,
    groups: int = 8,
    **more: Any,
) -> sharded.Softmax:
    """The margin softmax of a network's outputs, over all classes or a drawn share of them.

    Args:
        outputs: ``embedding`` [B, d] and what `Centres` returned.
        label: [B] integer in 0..C-1.
        margin: see `sharded.margin_softmax`, which also takes `more`.
        classes: C.
        s: the scale, as there.
        rate: share of the classes, as in `Centres`.
        groups: as in `Centres`.
        **more: other arguments of `sharded.margin_softmax`.

    Raises:
        UsageError: what `sample` and `sharded.margin_softmax` refuse.
    """
    kernel, index = outputs["centres"], None
    if rate < 1.0:
        index = sample(
            label,
            outputs["draw"],
            width=kernel.shape[1],
            classes=classes,
            rate=rate,
            groups=groups,
            mesh=more.get("mesh"),
        )
    return sharded.margin_softmax(
        outputs["embedding"], kernel, label, margin, s=s, classes=classes, index=index, **more
    )


def sample(
    label: Array,
    key: Array,
    *,
    width: int,
    classes: int | None = None,
    rate: float,
    groups: int = 8,
    mesh: Mesh | AbstractMesh | None = None,
) -> Array:
    """Draws the columns that take part in a step: all of the batch's classes, and others.

    Partial FC draws per device. Here columns are cut into `groups` equal runs, each of which draws
    by itself from ``fold_in(key, group)``; a device holds one run or several. So the draw is a
    function of the key and the labels, on any number of devices that divides `groups`.

    In a group of G columns, int(rate G) are kept: the batch's classes and the others with the
    largest uniform draws; where the batch's classes are more than that, they alone.

    A column that was not drawn has gradient 0, which is not to stand still: momentum and weight
    decay move it, as they do in arcface_torch. `sharded.Softmax.rival` is over drawn columns.

    Args:
        label: [B] integer, the whole batch; one outside 0..C-1 has no class.
        key: a JAX random key, the step's.
        width: columns of the kernel.
        classes: C; columns beyond it are never drawn.
        rate: share of the classes to keep, in (0, 1].
        groups: the larger, the more devices can share the work; it changes the draw.
        mesh: as for `sharded.margin_softmax`.

    Returns:
        [groups, k] int32 columns, ascending in each group, k = max(int(rate G), B) or G; entries
        equal to `width` are empty. For `sharded.margin_softmax`'s `index`.

    Raises:
        UsageError: a rate outside (0, 1], groups that do not fit.
    """
    if not 0.0 < rate <= 1.0:
        raise UsageError(f"rate is {rate}: expected 0 < rate <= 1, the share of classes to keep")
    classes = width if classes is None else classes
    mesh = sharded.ambient(mesh)
    axes = sharded.class_axes(width, mesh)
    sharded.check_groups(groups, width, mesh, axes)
    size = width // groups
    quota = int(rate * size)
    most = min(size, max(quota, label.shape[0]))
    mine = groups // (math.prod(mesh.shape[a] for a in axes) if mesh is not None else 1)

    def draw(group: Array, label: Array, key: Array) -> Array:
        column = group * size + jnp.arange(size)
        local = jnp.where((label >= 0) & (label < classes), label - group * size, size)
        local = jnp.where(local < 0, size, local)  # a negative index would count from the end
        positive = jnp.zeros(size, bool).at[local].set(True, mode="drop")
        score = jax.random.uniform(jax.random.fold_in(key, group), (size,))
        score = jnp.where(positive, 2.0, jnp.where(column < classes, score, -1.0))
        best, found = lax.top_k(score, most)
        kept = (best >= 0) & (jnp.arange(most) < jnp.maximum(quota, positive.sum()))
        return jnp.sort(jnp.where(kept, column[found], width).astype(jnp.int32))

    def body(label: Array, key: Array) -> Array:
        if mesh is not None:
            label = lax.all_gather(label, sharded.BATCH, tiled=True)
        first = lax.axis_index(axes) * mine if axes else 0
        return jax.vmap(draw, (0, None, None))(first + jnp.arange(mine), label, key)

    if mesh is None:
        return body(label, key)
    ins = (P(sharded.BATCH), P())
    return jax.shard_map(body, mesh=mesh, in_specs=ins, out_specs=P(axes), check_vma=False)(
        label, key
    )
