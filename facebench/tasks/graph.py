"""A head whose action units look at one another: a node for each, and a graph among them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array


def nearest_nodes(nodes: Array, neighbours: int) -> Array:
    """The graph of nodes: each with the K that have the largest dot products with it.

    A node is most often one of its own K. Of equal products none is left out, so a node may have
    more than K. Rows are divided as Kipf and Welling 2017 do, by the roots of both degrees, where a
    degree is how many a node looks at.

    Args:
        nodes: [B, A, d].
        neighbours: K, from 1 to A.

    Returns:
        [B, A, A] float32, row i the weights that node i looks at others with; no gradient.
    """
    nodes = jax.lax.stop_gradient(nodes)
    products = jnp.einsum("bid,bjd->bij", nodes, nodes)
    least = jax.lax.top_k(products, neighbours)[0][..., -1:]
    edges = (products >= least).astype(jnp.float32)
    root = jax.lax.rsqrt(edges.sum(axis=-1))
    return root[:, :, None] * edges * root[:, None, :]


class _Linear(nn.Module):
    """ReLU(batch norm(linear)) of [B, N, d]; with `copies` that many of them, [B, N, copies, w]."""

    width: int
    copies: int = 1
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        # Copies lie side by side, and a batch norm follows, which would take a bias out again.
        init = nn.initializers.normal((2.0 / self.width) ** 0.5)
        x = nn.Dense(self.width * self.copies, use_bias=False, kernel_init=init, name="linear")(x)
        x = _norm(-1, self.axis_name, train)(x)
        return nn.relu(x).reshape(*x.shape[:-1], *([self.copies] * (self.copies > 1)), self.width)


def _norm(axis: int, axis_name: str | None, train: bool) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        axis=axis,
        axis_name=axis_name,
        name="norm",
    )


class GraphHead(nn.Module):
    """Action units from a map of features, by a graph that is drawn anew for every face.

    A shared linear layer, then one per action unit, whose mean over the map is its node; each node
    takes in those that are nearest to it, ReLU(x + norm(G V x + U x)); and an action unit is there
    as much as the cosine of its node with its own learnt vector says, both without their negative
    parts. This is the first stage of ME-GraphAU (Luo et al. 2022, *Learning Multi-dimensional Edge
    Feature-based AU Relation Graph for Facial Action Unit Recognition*); its second, with features
    of edges, is not here.

    Attributes:
        outputs: number of action units A.
        width: features of a node; 0 for a quarter of the map's, as the authors have it on ResNet.
        neighbours: how many nodes each takes in, itself most often among them.
        axis_name: the mapped axis to average batch statistics over, or None.
    """

    outputs: int
    width: int = 0
    neighbours: int = 4
    axis_name: str | None = None

    @nn.compact
    def __call__(self, spatial: Array, *, train: bool) -> Array:
        """Cosines in [0, 1], [B, A] float32, from a map [B, h, w, D]."""
        B, h, w, D = spatial.shape
        width = self.width or max(D // 4, 1)
        x = spatial.astype(jnp.float32).reshape(B, h * w, D)
        x = _Linear(width, axis_name=self.axis_name, name="shared")(x, train=train)
        x = _Linear(width, self.outputs, self.axis_name, name="own")(x, train=train)
        nodes = x.mean(axis=1)  # [B, A, width]

        graph = nearest_nodes(nodes, self.neighbours)
        init = nn.initializers.normal((2.0 / width) ** 0.5)
        looked = graph @ nn.Dense(width, kernel_init=init, name="others")(nodes)
        looked = looked + nn.Dense(width, kernel_init=init, name="itself")(nodes)
        norm = _norm(1, self.axis_name, train)  # of each node, over examples and features
        nodes = nn.relu(nodes + norm(looked))
        vectors = self.param(
            "vectors", nn.initializers.xavier_uniform(), (self.outputs, width), jnp.float32
        )
        return (_unit(nodes) * _unit(nn.relu(vectors))).sum(axis=-1)


def _unit(x: Array) -> Array:
    """Rows of length 1; a row of zeros stays one, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis=-1, keepdims=True), 1e-24))
