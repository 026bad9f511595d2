"""TransFER: attention maps and attention heads, of which some are dropped while training.

Xue, Wang and Guo, *TransFER: Learning Relation-aware Facial Expression Representations with
Transformers*, ICCV 2021. A convolutional stem gives a map; several small nets each say where to
look, and the largest of their opinions weighs each position; a transformer relates the positions.
Dropping one opinion (multi-attention dropping, MAD) forces the others to look elsewhere; dropping
one head (multi-head self-attention dropping, MSAD) does so for relations. Nothing is dropped, and
nothing scaled, when the net predicts.

Sizes, the norms in the attention nets and the order of drops are those of the authors' code
(github.com/youqingxiaozhua/APViT, folder Paddle). There the map is projected and then weighed;
here, as in the paper, it is weighed first. Their queries, keys and values have no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.models import convnet, ir, layers, vit

Array = jax.Array

STEMS = ("ir50", "conv")


class _IRStem(nn.Module):
    """IR-50 up to its third stage, in the layout of face.evoLVe, whose weights the authors took.

    The map has an eighth of the image's side, 14 x 14 of 112 x 112, and 256 channels.
    """

    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> Array:
        return ir.trunk(
            image.astype(self.dtype),
            ir.blocks_of(ir.VARIANTS["50"][:3]),
            width=64,
            dialect="evolve",
            se=False,
            dtype=self.dtype,
            axis_name=self.axis_name,
            train=train,
        )


class _LANet(nn.Module):
    """Where to look: [B, h, w, 1] in (0, 1), by two 1 x 1 convolutions."""

    reduction: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        def norm(name: str) -> nn.BatchNorm:
            return layers.batch_norm(train, self.axis_name, name=name)

        def dense(width: int, name: str) -> nn.Dense:
            return nn.Dense(
                width,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=layers.torch_default,
                name=name,
            )

        hidden = norm("bn1")(dense(max(x.shape[-1] // self.reduction, 1), "conv1")(x))
        hidden = nn.relu(hidden).astype(self.dtype)
        return jax.nn.sigmoid(norm("bn2")(dense(1, "conv2")(hidden)))


class TransFER(nn.Module):
    """A stem, parallel attention maps, a transformer encoder.

    Attributes:
        stem: ``ir50`` or ``conv``: a `facebench.models.convnet.ConvNet` of `widths`, `blocks` and
            `stem_stride`.
        widths: channels of the stages of a ``conv`` stem.
        blocks: residual blocks of each of its stages.
        stem_stride: stride of its first convolution.
        attentions: how many attention maps there are; 0: the map is not weighed.
        attention_drop: p1, the probability at which an image loses one of its attention maps
            (MAD), while training; 0: off.
        head_drop: p2, the probability at which an image loses one head of a block (MSAD), in each
            block anew, while training; 0: off.
        reduction: the hidden channels of an attention net are as many times fewer.
        dim: channels of a token.
        depth: blocks of the transformer.
        heads: attention heads; divides `dim`.
        mlp_ratio: hidden channels of the MLP over `dim`.
        position: ``learned`` or ``sincos2d``, see `facebench.models.vit.MapEncoder`.
        dropout: rate of the dropout in the transformer, while training.
        dtype: what products compute in. Parameters, norms' statistics and outputs are float32.
        axis_name: the mapped axis to average batch statistics over (under ``pmap``).

    Raises:
        UsageError: an unknown `stem` or `position`, or a drop outside [0, 1].
        FacebenchError: maps are dropped where there are not two; sizes that do not divide.
    """

    stem: str = "ir50"
    widths: Sequence[int] = (32, 64, 128)
    blocks: Sequence[int] = (1, 1, 1)
    stem_stride: int = 2
    attentions: int = 2
    attention_drop: float = 0.6
    head_drop: float = 0.3
    reduction: int = 16
    dim: int = 768
    depth: int = 8
    heads: int = 8
    mlp_ratio: float = 3.0
    position: str = "learned"
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Features of a batch of images.

        Args:
            image: [B, H, W, 3] in [-1, 1].
            train: whether batch statistics are of this batch, and maps and heads are dropped (the
                drops draw from the rng ``dropout``).

        Returns:
            ``pooled`` [B, dim], the class token; ``spatial`` [B, h, w, dim], the other tokens. Both
            are float32 and after the transformer's last norm.
        """
        self._check()
        if self.stem == "ir50":
            x = _IRStem(self.dtype, self.axis_name, name="stem")(image, train=train)
        else:
            net = convnet.ConvNet(
                self.widths,
                self.blocks,
                self.stem_stride,
                dtype=self.dtype,
                axis_name=self.axis_name,
                name="stem",
            )
            x = net(image, train=train)["spatial"].astype(self.dtype)
        if self.attentions:
            maps = [
                _LANet(self.reduction, self.dtype, self.axis_name, name=f"attention{i + 1}")(
                    x, train=train
                )
                for i in range(self.attentions)
            ]
            each = jnp.concatenate(maps, axis=-1)
            if train and self.attention_drop:
                key = self.make_rng("dropout")
                each = layers.drop_one(each, self.attention_drop, key, axis=3)
            x = x * each.max(-1, keepdims=True).astype(self.dtype)
        encoder = vit.MapEncoder(
            self.dim,
            self.depth,
            self.heads,
            self.mlp_ratio,
            self.dropout,
            self.head_drop,
            position=self.position,
            dtype=self.dtype,
            name="encoder",
        )
        return encoder(x, train=train)

    def _check(self) -> None:
        if self.stem not in STEMS:
            raise UsageError(f"TransFER: stem is {self.stem!r}: {nearest(self.stem, STEMS)}")
        for field in ("attention_drop", "head_drop"):
            rate = getattr(self, field)
            if not 0 <= rate <= 1:
                raise UsageError(f"TransFER: {field} is {rate}; it must lie in [0, 1]")
        if self.attention_drop and self.attentions == 1:
            raise FacebenchError(
                f"TransFER: attention_drop is {self.attention_drop} and attentions is 1: an image "
                "would lose all of itself with its only map; take 2 maps, or attention_drop 0"
            )
