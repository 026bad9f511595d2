"""The vision transformer (Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021).

Pre-norm blocks with exact GELU and LayerNorm epsilon 1e-6, as the original and timm have it: with
``pool="class"`` and ``position="learned"`` the parameters of a timm ViT fit one to one (the query,
key and value projections are packed in that order, heads inside each).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.models import layers, weights

Array = jax.Array

POOLS = ("mean", "class", "fc_norm")
POSITIONS = ("learned", "sincos2d")

_xavier = nn.initializers.xavier_uniform()
_normal02 = nn.initializers.normal(0.02)


def sincos2d(height: int, width: int, dim: int, temperature: float = 10000.0) -> np.ndarray:
    """Fixed sine-cosine position embedding of a grid (He et al., MAE, CVPR 2022, appendix A.1).

    Args:
        height: rows of the grid.
        width: columns of the grid.
        dim: channels, a multiple of 4.
        temperature: wavelengths run from 2 pi to 2 pi times this.

    Returns:
        [height * width, dim] float64, row-major. The first half of the channels encodes x, the
        second y; each half is all sines, then all cosines.

    Raises:
        FacebenchError: `dim` is not a multiple of 4.
    """
    if dim % 4:
        raise FacebenchError(
            f"position embedding sincos2d: dim is {dim}, expected a multiple of 4; "
            "change dim or use position='learned'"
        )
    frequency = temperature ** (-np.arange(dim // 4) / (dim // 4))
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    angles = [np.outer(a.ravel(), frequency) for a in (x, y)]
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1)


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, dtype=jnp.float32, name=name)


class _Block(nn.Module):
    """Self-attention, then an MLP, each on a normalised input and added to the residual stream."""

    heads: int
    mlp_ratio: float
    dropout: float
    drop_path: float
    dtype: Any
    head_drop: float = 0.0  # at which an example loses one head's output, see `layers.drop_one`

    def _drop(self, x: Array, train: bool) -> Array:
        """Dropout of elements, then of the whole branch of an example (stochastic depth)."""
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dropout(self.drop_path, broadcast_dims=(1, 2), deterministic=not train)(x)

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        B, N, D = x.shape

        def dense(width: int, name: str) -> nn.Dense:
            return nn.Dense(width, dtype=self.dtype, kernel_init=_xavier, name=name)

        h = dense(3 * D, "qkv")(_layer_norm("norm1")(x))
        q, k, v = jnp.moveaxis(h.reshape(B, N, 3, self.heads, D // self.heads), 2, 0)
        h = jax.nn.dot_product_attention(q, k, v)  # softmax in float32, whatever the dtype
        if train and self.head_drop:
            h = layers.drop_one(h, self.head_drop, self.make_rng("dropout"), axis=2)
        x = x + self._drop(dense(D, "proj")(h.reshape(B, N, D)), train)

        h = dense(int(D * self.mlp_ratio), "fc1")(_layer_norm("norm2")(x))
        h = dense(D, "fc2")(nn.gelu(h, approximate=False))
        return x + self._drop(h, train)


class MapEncoder(nn.Module):
    """The transformer over the positions of a feature map: a hybrid net's upper part.

    A linear layer makes a token of each position; a class token is put first.

    Attributes:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads; divides `dim`.
        mlp_ratio: hidden channels of the MLP over `dim`.
        dropout: rate of the dropout on the tokens and on every residual branch, while training.
        head_drop: probability at which, in each block, an example loses the output of one head,
            while training.
        position: as of `ViT`. Learned ones begin near zero and suit long runs and stored weights;
            with fixed ones a short run can tell places apart from its first step.
        dtype: what matrix products compute in (parameters, norms and outputs are float32).

    Raises:
        UsageError: an unknown `position`.
        FacebenchError: `heads` does not divide `dim`.
    """

    dim: int
    depth: int
    heads: int
    mlp_ratio: float
    dropout: float = 0.0
    head_drop: float = 0.0
    position: str = "learned"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> dict[str, Array]:
        """``pooled`` [B, dim] (the class token) and ``spatial`` [B, h, w, dim] from [B, h, w, C].

        Both are float32 and after the final norm. Random drops draw from the rng ``dropout``.
        """
        if self.dim % self.heads:
            raise FacebenchError(
                f"transformer: dim {self.dim} is no multiple of heads {self.heads}; change either"
            )
        if self.position not in POSITIONS:
            raise UsageError(
                f"transformer: position is {self.position!r}; {nearest(self.position, POSITIONS)}"
            )
        B, h, w, C = x.shape
        x = nn.Dense(self.dim, dtype=self.dtype, kernel_init=_xavier, name="embed")(
            x.reshape(B, h * w, C)
        )
        token = self.param("class_token", _normal02, (1, 1, self.dim))
        x = jnp.concatenate([jnp.broadcast_to(token, (B, 1, self.dim)).astype(x.dtype), x], 1)
        if self.position == "learned":
            position = self.param("position", _normal02, (1, h * w + 1, self.dim))
        else:
            fixed = jnp.asarray(sincos2d(h, w, self.dim), jnp.float32)
            position = jnp.pad(fixed, ((1, 0), (0, 0)))
        x = x + position.astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for i in range(self.depth):
            x = _Block(
                self.heads,
                self.mlp_ratio,
                self.dropout,
                0.0,
                self.dtype,
                self.head_drop,
                name=f"block{i + 1}",
            )(x, train=train)
        x = _layer_norm("norm")(x)
        return {"pooled": x[:, 0], "spatial": x[:, 1:].reshape(B, h, w, self.dim)}


class ViT(nn.Module):
    """A vision transformer of any size.

    Attributes:
        patch: side of a patch in pixels.
        dim: channels.
        depth: number of blocks.
        heads: attention heads; divides `dim`.
        mlp_ratio: hidden channels of the MLP over `dim`.
        pool: ``mean``: `pooled` is the mean of the patch tokens; ``class``: a class token is put
            first and `pooled` is what became of it; ``fc_norm``: a class token is put first, and
            `pooled` is the norm of the mean of the patch tokens (instead of the mean of normed
            ones), as nets fine-tuned from masked autoencoders have it.
        position: ``learned``, or ``sincos2d``: fixed, `sincos2d` (zeros for the class token).
        dropout: rate of the dropout on the embedded patches and on every residual branch.
        drop_path: rate at which the last block's branches are dropped for an example (stochastic
            depth, Huang et al., ECCV 2016); it rises linearly from 0 at the first block.
        dtype: what matrix products compute in (parameters, norms and outputs are float32).

    Raises:
        UsageError: an unknown `pool` or `position`.
        FacebenchError: sizes that do not divide.
    """

    patch: int = 8
    dim: int = 64
    depth: int = 4
    heads: int = 4
    mlp_ratio: float = 4.0
    pool: str = "mean"
    position: str = "learned"
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: Any = jnp.float32

    def _check(self, height: int, width: int) -> None:
        for field, names in (("pool", POOLS), ("position", POSITIONS)):
            value = getattr(self, field)
            if value not in names:
                raise UsageError(f"ViT: {field} is {value!r}; {nearest(value, names)}")
        if self.dim % self.heads:
            raise FacebenchError(
                f"ViT: dim {self.dim} is no multiple of heads {self.heads}; change either"
            )
        if height % self.patch or width % self.patch:
            raise FacebenchError(
                f"ViT: an image of {height} x {width} px is not made of whole patches of "
                f"{self.patch} px; choose a patch that divides the crop size"
            )

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Features of a batch of images.

        Args:
            image: [B, H, W, 3] in [-1, 1], H and W multiples of `patch`.
            train: whether dropout and stochastic depth are on (both draw from the rng ``dropout``).

        Returns:
            ``pooled`` [B, dim] and ``spatial`` [B, H / patch, W / patch, dim], float32, both after
            the final norm (with ``fc_norm``, of the mean and of each token).
        """
        B, H, W, C = image.shape
        self._check(H, W)
        p, h, w = self.patch, H // self.patch, W // self.patch

        # A convolution of stride p with a p x p kernel, as the matrix product that it is.
        x = image.astype(self.dtype).reshape(B, h, p, w, p, C).transpose(0, 1, 3, 2, 4, 5)
        x = nn.Dense(self.dim, dtype=self.dtype, kernel_init=_xavier, name="embed")(
            x.reshape(B, h * w, p * p * C)
        )
        extra = 0 if self.pool == "mean" else 1
        if extra:
            token = self.param("class_token", _normal02, (1, 1, self.dim))
            x = jnp.concatenate([jnp.broadcast_to(token, (B, 1, self.dim)).astype(x.dtype), x], 1)
        if self.position == "learned":
            position = self.param("position", _normal02, (1, h * w + extra, self.dim))
        else:
            position = jnp.pad(
                jnp.asarray(sincos2d(h, w, self.dim), jnp.float32), ((extra, 0), (0, 0))
            )
        x = x + position.astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for i in range(self.depth):
            drop_path = self.drop_path * i / max(self.depth - 1, 1)
            x = _Block(
                self.heads,
                self.mlp_ratio,
                self.dropout,
                drop_path,
                self.dtype,
                name=f"block{i + 1}",
            )(x, train=train)
        norm = _layer_norm("norm")
        last, x = x, norm(x)
        patches = x[:, extra:]
        if self.pool == "fc_norm":
            pooled = norm(last[:, extra:].astype(jnp.float32).mean(1))
        else:
            pooled = x[:, 0] if extra else patches.mean(1)
        return {"pooled": pooled, "spatial": patches.reshape(B, h, w, self.dim)}


def torch_names(module: ViT) -> dict[str, tuple[str, Any]]:
    """What each variable is called in timm's and MAE's state dicts; see `weights`.

    With ``position="sincos2d"`` nothing is read of ``pos_embed``: a checkpoint holds it all the
    same, and may have trained it further.
    """
    names = weights.dense_names("embed", "patch_embed.proj", ("patch", module.patch))
    if module.pool != "mean":
        names["params/class_token"] = ("cls_token", "same")
    if module.position == "learned":
        names["params/position"] = ("pos_embed", "same")
    for i in range(module.depth):
        ours, theirs = f"block{i + 1}", f"blocks.{i}"
        for part in ("norm1", "norm2"):
            names |= weights.norm_names(f"{ours}/{part}", f"{theirs}.{part}", statistics=False)
        for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            names |= weights.dense_names(f"{ours}/{part.split('.')[1]}", f"{theirs}.{part}")
    norm = "fc_norm" if module.pool == "fc_norm" else "norm"
    return names | weights.norm_names("norm", norm, statistics=False)
