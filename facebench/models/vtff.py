"""VTFF: two convolutional branches, fused by attention, and a transformer over the result.

Ma, Sun and Li, *Facial Expression Recognition with Visual Transformers and Attentional Selective
Fusion*, IEEE Transactions on Affective Computing 2021 (arXiv 2103.16854). One ResNet-18 reads the
image, a second one its local binary patterns, whose codes do not change with the brightness; each
position of the fused map is a word to the transformer.

The authors released no code. The sizes of the transformer and the reduction of the fusion are those
of the count of VTFF's operations in the repository of APViT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.models import layers, vit

Array = jax.Array

BRANCHES = ("both", "rgb", "lbp")
FUSIONS = ("selective", "sum", "concat")
STEMS = ("imagenet", "small")

#: The neighbours of a pixel as (row, column) steps: clockwise from the top left, bit 0 first.
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def local_binary_patterns(image: Array) -> Array:
    """The plain code of the eight neighbours of each pixel (Ojala et al., TPAMI 2002), exactly.

    The image becomes bytes again and then grey as a grey file has it,
    (299 R + 587 G + 114 B) / 1000 rounded to whole levels, halves up. Bit k is 1 where neighbour k
    of `NEIGHBOURS` is at least as bright as the pixel: a tie counts as brighter. Beyond the border
    the edge is repeated. All of it is done in whole numbers, so no processor and no compiler moves
    a code; no gradient passes.

    Args:
        image: [B, H, W, 3] RGB in [-1, 1].

    Returns:
        int32 [B, H, W] in 0..255.
    """
    levels = jnp.round((image.astype(jnp.float32) + 1.0) * 127.5).astype(jnp.int32)
    grey = (levels * jnp.array([299, 587, 114])).sum(-1) + 500
    grey = grey // 1000
    height, width = grey.shape[1:]
    padded = jnp.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    code = jnp.zeros_like(grey)
    for k, (down, right) in enumerate(NEIGHBOURS):
        neighbour = padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        code += (neighbour >= grey).astype(jnp.int32) << k
    return code


class _Block(nn.Module):
    """ResNet's basic block (He et al., CVPR 2016)."""

    width: int
    stride: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        def norm(name: str) -> nn.BatchNorm:
            return layers.batch_norm(train, self.axis_name, name=name, dtype=self.dtype)

        def conv(stride: int, name: str) -> nn.Conv:
            return layers.conv(
                self.width, 3, stride, dtype=self.dtype, init=layers.he_fan_out, name=name
            )

        h = nn.relu(norm("bn1")(conv(self.stride, "conv1")(x)))
        h = norm("bn2")(conv(1, "conv2")(h))
        if self.stride > 1 or x.shape[-1] != self.width:
            x = layers.conv1x1(
                x,
                self.width,
                self.stride,
                dtype=self.dtype,
                init=layers.he_fan_out,
                name="shortcut_conv",
            )
            x = norm("shortcut_bn")(x)
        return nn.relu(x + h)


class _Branch(nn.Module):
    """A residual net without its pooling: [B, H, W, any] to [B, h, w, widths[-1]]."""

    widths: Sequence[int]
    blocks: Sequence[int]
    stem: str
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        small = self.stem == "small"
        stride = 4 if small else 2
        init = layers.he_fan_out
        x = layers.conv(self.widths[0], 7, stride, dtype=self.dtype, init=init, name="stem_conv")(x)
        norm = layers.batch_norm(train, self.axis_name, name="stem_bn", dtype=self.dtype)
        x = nn.relu(norm(x))
        if not small:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, (width, count) in enumerate(zip(self.widths, self.blocks)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                x = _Block(width, stride, self.dtype, self.axis_name, name=name)(x, train=train)
        return x


class SelectiveFusion(nn.Module):
    """Attentional selective fusion: a weighted mean of two maps, position by position.

    u is the sum of a 1 x 1 convolution of each map. Its global context (of the mean of u over the
    positions, one number per channel) and its local context (one number per position) are added,
    and w = sigmoid(global + local) is the weight of the first map, 1 - w that of the second. A
    context is 1 x 1 convolution, norm, ReLU, 1 x 1 convolution, norm, as in Dai et al.,
    *Attentional Feature Fusion*, WACV 2021: with one more sigmoid on each, w could not fall below
    a half.

    Attributes:
        reduction: the hidden channels of a context are as many times fewer.
        dtype: what the convolutions compute in.
        axis_name: the mapped axis to average batch statistics over (under ``pmap``).
    """

    reduction: int = 8
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, first: Array, second: Array, *, train: bool) -> Array:
        """[B, h, w, C] from two of that shape."""
        width = first.shape[-1]

        def conv1x1(x: Array, width: int, name: str) -> Array:
            return layers.conv1x1(x, width, 1, dtype=self.dtype, init=layers.he_fan_out, name=name)

        def context(x: Array, outputs: int, name: str) -> Array:
            def norm(place: str) -> nn.BatchNorm:
                return layers.batch_norm(train, self.axis_name, name=f"{name}_bn{place}")

            hidden = conv1x1(x, max(width // self.reduction, 1), f"{name}_conv1")
            hidden = nn.relu(norm("1")(hidden)).astype(self.dtype)
            return norm("2")(conv1x1(hidden, outputs, f"{name}_conv2"))

        u = conv1x1(first, width, "first") + conv1x1(second, width, "second")
        everywhere = context(u.mean((1, 2), keepdims=True), width, "global")
        weight = jax.nn.sigmoid(everywhere + context(u, 1, "local")).astype(self.dtype)
        return weight * first + (1 - weight) * second


class VTFF(nn.Module):
    """Two residual branches, their fusion, a transformer encoder.

    Attributes:
        branches: ``both``, ``rgb`` or ``lbp``: what the transformer is given. One branch is half
            the convolutions, and nothing is fused.
        fusion: of both branches: ``selective``; ``sum`` of the maps; ``concat`` of their channels.
        widths: channels of a branch's stages; each stage but the first halves the map.
        blocks: residual blocks of each stage; 0 is allowed in the first, which then is the stem.
        stem: ``imagenet``: 7 x 7 of stride 2 and a max-pool of stride 2; ``small``: 7 x 7 of
            stride 4, for the same map with less to do.
        reduction: of `SelectiveFusion`.
        dim: channels of a word.
        depth: blocks of the transformer.
        heads: attention heads; divides `dim`.
        mlp_ratio: hidden channels of the MLP over `dim`.
        position: ``learned`` or ``sincos2d``, see `facebench.models.vit.MapEncoder`.
        dropout: rate of the dropout in the transformer, while training.
        dtype: what products compute in. Parameters, norms' statistics and outputs are float32.
        axis_name: the mapped axis to average batch statistics over (under ``pmap``).

    Raises:
        UsageError: an unknown `branches`, `fusion`, `stem` or `position`.
        FacebenchError: `widths` and `blocks` differ in length; sizes that do not divide.
    """

    branches: str = "both"
    fusion: str = "selective"
    widths: Sequence[int] = (64, 128, 256, 512)
    blocks: Sequence[int] = (2, 2, 2, 2)
    stem: str = "imagenet"
    reduction: int = 8
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
            train: whether batch statistics are of this batch and dropout is on (it draws from the
                rng ``dropout``).

        Returns:
            ``pooled`` [B, dim], the class token; ``spatial`` [B, h, w, dim], the words. Both are
            float32 and after the transformer's last norm.
        """
        for field, names in (("branches", BRANCHES), ("fusion", FUSIONS), ("stem", STEMS)):
            value = getattr(self, field)
            if value not in names:
                raise UsageError(f"VTFF: {field} is {value!r}: {nearest(value, names)}")
        if len(self.widths) != len(self.blocks):
            raise FacebenchError(
                f"VTFF: widths {tuple(self.widths)} name {len(self.widths)} stages, but blocks "
                f"{tuple(self.blocks)} name {len(self.blocks)}; give one number of blocks per width"
            )

        if min(self.blocks[1:], default=1) < 1:
            raise FacebenchError(
                f"VTFF: blocks {tuple(self.blocks)}: only the first stage may have none"
            )

        def branch(name: str) -> Array:
            seen = image.astype(self.dtype)
            if name == "lbp":
                codes = local_binary_patterns(image)[..., None]
                seen = (codes / 127.5 - 1.0).astype(self.dtype)
            net = _Branch(
                self.widths, self.blocks, self.stem, self.dtype, self.axis_name, name=name
            )
            return net(seen, train=train)

        if self.branches != "both":
            fused = branch(self.branches)
        elif self.fusion == "selective":
            fuse = SelectiveFusion(self.reduction, self.dtype, self.axis_name, name="fusion")
            fused = fuse(branch("rgb"), branch("lbp"), train=train)
        elif self.fusion == "sum":
            fused = branch("rgb") + branch("lbp")
        else:
            fused = jnp.concatenate([branch("rgb"), branch("lbp")], axis=-1)
        encoder = vit.MapEncoder(
            self.dim,
            self.depth,
            self.heads,
            self.mlp_ratio,
            self.dropout,
            position=self.position,
            dtype=self.dtype,
            name="encoder",
        )
        return encoder(fused, train=train)
