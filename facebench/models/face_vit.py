"""The vision transformer for aligned 112 px faces that insightface trains.

Unlike `vit` it has no class token, ReLU6 in its MLP, no bias on query, key and value, and an
embedding head that reads all tokens at their places. Patches of 9 px cover 108 px: the last 4 rows
and columns of the image are not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench import models
from facebench.errors import FacebenchError
from facebench.models import layers, weights

Array = jax.Array


class Sizes(NamedTuple):
    """Channels, blocks and attention heads."""

    width: int
    depth: int
    heads: int


VARIANTS = {
    "t": Sizes(256, 12, 8),
    "s": Sizes(512, 12, 8),
    "b": Sizes(512, 24, 8),
    "l": Sizes(768, 24, 8),
    "h": Sizes(1024, 48, 8),
}

_normal02 = nn.initializers.normal(0.02)
_truncated02 = layers.flat(nn.initializers.truncated_normal(0.02))


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, dtype=jnp.float32, name=name)


class _Block(nn.Module):
    """Self-attention, then an MLP, each on a normalised input and added to the residual stream."""

    heads: int
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        B, N, D = x.shape

        def dense(width: int, name: str, bias: bool = True) -> nn.Dense:
            return nn.Dense(
                width, use_bias=bias, dtype=self.dtype, kernel_init=_truncated02, name=name
            )

        def drop(h: Array) -> Array:  # The whole branch of an example: stochastic depth.
            return nn.Dropout(self.drop_path, broadcast_dims=(1, 2), deterministic=not train)(h)

        h = dense(3 * D, "qkv", bias=False)(_layer_norm("norm1")(x))
        q, k, v = jnp.moveaxis(h.reshape(B, N, 3, self.heads, D // self.heads), 2, 0)
        h = jax.nn.dot_product_attention(q, k, v)  # softmax in float32, whatever the dtype
        x = x + drop(dense(D, "proj")(h.reshape(B, N, D)))

        h = nn.relu6(dense(4 * D, "fc1")(_layer_norm("norm2")(x)))
        return x + drop(dense(D, "fc2")(h))


class FaceViT(nn.Module):
    """A vision transformer for faces.

    Attributes:
        variant: a name of `VARIANTS`.
        sizes: (channels, blocks, heads), instead of the variant's.
        patch: side of a patch in pixels.
        dim: size of the embedding.
        drop_path: rate at which the last block's branches are dropped for an example (stochastic
            depth); it rises linearly from 0 at the first block. The published ``dp005`` nets
            have .05.
        mask_ratio: share of the tokens that are left out of the blocks while training, drawn for
            each example; a learnt token takes their places afterwards. The published ``mask_005``
            nets were trained with .1.
        dtype: what matrix products of the blocks compute in. Parameters, norms, the embedding's
            matrices and the outputs are float32.
        axis_name: the mapped axis to average batch statistics over (under ``pmap``).

    Raises:
        UsageError: an unknown `variant`.
        FacebenchError: sizes that do not divide, an image smaller than a patch, or a mask ratio
            outside [0, 1).
    """

    variant: str = "t"
    sizes: Sequence[int] | None = None
    patch: int = 9
    dim: int = 512
    drop_path: float = 0.1
    mask_ratio: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Features of a batch of images.

        Args:
            image: [B, H, W, 3] in [-1, 1]. What is left of a side over whole patches is not read.
            train: whether batch statistics are of this batch, and branches and tokens are dropped
                (both draw from the rng ``dropout``).

        Returns:
            ``spatial`` [B, H / patch, W / patch, D], after the final norm; ``pooled``, its mean
            over the map; ``embedding`` [B, dim], not normalised. All float32.
        """
        D, depth, heads = _sizes(self)
        B, H, W, C = image.shape
        p, h, w = self.patch, H // self.patch, W // self.patch
        if not h * w:
            raise FacebenchError(
                f"FaceViT: an image of {H} x {W} px is smaller than a patch of {p} px; choose a "
                "smaller patch"
            )
        if not 0 <= self.mask_ratio < 1:
            raise FacebenchError(f"FaceViT: mask_ratio is {self.mask_ratio}, expected 0 <= r < 1")
        N = h * w

        # A convolution of stride p with a p x p kernel, as the matrix product that it is.
        x = image[:, : h * p, : w * p].astype(self.dtype)
        x = x.reshape(B, h, p, w, p, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, N, p * p * C)
        x = nn.Dense(D, dtype=self.dtype, kernel_init=layers.torch_default, name="embed")(x)
        x = x + self.param("position", _truncated02, (1, N, D)).astype(x.dtype)

        token = self.param("token_of_masked", _normal02, (1, 1, D))
        kept = int(N * (1 - self.mask_ratio))
        if dropping := train and kept < N:
            noise = jax.random.uniform(self.make_rng("dropout"), (B, N))
            order = jnp.argsort(noise, axis=1)
            x = jnp.take_along_axis(x, order[:, :kept, None], axis=1)
        for i in range(depth):
            drop_path = self.drop_path * i / max(depth - 1, 1)
            x = _Block(heads, drop_path, self.dtype, name=f"block{i}")(x, train=train)
        x = _layer_norm("norm")(x)
        if dropping:
            x = jnp.concatenate([x, jnp.broadcast_to(token, (B, N - kept, D))], axis=1)
            x = jnp.take_along_axis(x, jnp.argsort(order, axis=1)[..., None], axis=1)

        def dense(width: int, name: str) -> nn.Dense:
            return nn.Dense(width, use_bias=False, kernel_init=_truncated02, name=name)

        def norm(name: str) -> nn.BatchNorm:
            return layers.batch_norm(train, self.axis_name, name=name, epsilon=2e-5)

        e = norm("head_bn1")(dense(D, "head_fc1")(x.reshape(B, N * D)))
        e = norm("head_bn2")(dense(self.dim, "head_fc2")(e))
        return {"pooled": x.mean(1), "spatial": x.reshape(B, h, w, D), "embedding": e}


def _sizes(module: FaceViT) -> Sizes:
    """Channels, blocks and heads of a net."""
    if module.sizes is None:
        return models.variant("FaceViT", module.variant, VARIANTS)
    if len(module.sizes) != 3:
        raise FacebenchError(
            f"FaceViT: sizes is {tuple(module.sizes)}, expected (channels, blocks, heads)"
        )
    sizes = Sizes(*module.sizes)
    if sizes.width % sizes.heads:
        raise FacebenchError(
            f"FaceViT: {sizes.width} channels are no multiple of {sizes.heads} heads; change either"
        )
    return sizes


def torch_names(module: FaceViT) -> dict[str, tuple[str, Any]]:
    """What each variable is called in insightface's state dict; see `weights`."""
    names = weights.dense_names("embed", "patch_embed.proj", ("patch", module.patch))
    names["params/position"] = ("pos_embed", "same")
    names["params/token_of_masked"] = ("mask_token", "same")
    for i in range(_sizes(module).depth):
        ours, theirs = f"block{i}", f"blocks.{i}"
        for part in ("norm1", "norm2"):
            names |= weights.norm_names(f"{ours}/{part}", f"{theirs}.{part}", statistics=False)
        names |= weights.dense_names(f"{ours}/qkv", f"{theirs}.attn.qkv", bias=False)
        names |= weights.dense_names(f"{ours}/proj", f"{theirs}.attn.proj")
        for part in ("fc1", "fc2"):
            names |= weights.dense_names(f"{ours}/{part}", f"{theirs}.mlp.{part}")
    names |= weights.norm_names("norm", "norm", statistics=False)
    names |= weights.dense_names("head_fc1", "feature.0", bias=False)
    names |= weights.norm_names("head_bn1", "feature.1")
    names |= weights.dense_names("head_fc2", "feature.2", bias=False)
    return names | weights.norm_names("head_bn2", "feature.3")
