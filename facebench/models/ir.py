"""The IR and IR-SE residual nets, in the two layouts that published weights come in.

They are ArcFace's residual net with another shortcut (every second pixel, as it is, where the
channels stay the same) and, in IR-SE, squeeze-and-excitation at the end of each block (Hu et al.,
CVPR 2018). The layouts are no variants of each other's weights: ``adaface`` (Kim et al., CVPR 2022)
has a norm between the block's convolutions and no scale and bias in the last norm; ``evolve``
(face.evoLVe, also of pSp and SGF) has no norm there, and a full last norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench import models
from facebench.errors import UsageError, nearest
from facebench.models import layers, weights

Array = jax.Array

#: Blocks of the four stages, by name. What one code base calls 100 the other calls 101.
VARIANTS = {
    "tiny": (1, 1, 1, 1),
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 14, 3),
    "101": (3, 13, 30, 3),
}
DIALECTS = ("adaface", "evolve")
CHANNELS = ("rgb", "bgr")
SE_REDUCTION = 16
_INITS = {"adaface": layers.he_fan_out, "evolve": layers.torch_default}


class _SqueezeExcite(nn.Module):
    """x times a gate per channel, sigmoid(fc2(relu(fc1(mean of x))))."""

    kernel_init: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]

        def dense(width: int, name: str) -> nn.Dense:
            return nn.Dense(
                width, use_bias=False, dtype=self.dtype, kernel_init=self.kernel_init, name=name
            )

        gate = x.mean((1, 2))  # Summed in float32, whatever the dtype.
        gate = dense(width, "fc2")(nn.relu(dense(width // SE_REDUCTION, "fc1")(gate)))
        return x * jax.nn.sigmoid(gate)[:, None, None]


class _Block(nn.Module):
    """The residual block; the shortcut is a 1 x 1 convolution where the channels change."""

    width: int
    stride: int
    se: bool
    middle_norm: bool
    kernel_init: Any
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        def norm(name: str) -> nn.BatchNorm:
            return layers.batch_norm(train, self.axis_name, name=name, dtype=self.dtype)

        def conv(stride: int, name: str) -> nn.Conv:
            return layers.conv(
                self.width, 3, stride, dtype=self.dtype, init=self.kernel_init, name=name
            )

        h = conv(1, "conv1")(norm("bn1")(x))
        if self.middle_norm:
            h = norm("bn2")(h)
        h = layers.PReLU(name="prelu")(h)
        h = norm("bn3")(conv(self.stride, "conv2")(h))
        if self.se:
            h = _SqueezeExcite(self.kernel_init, self.dtype, name="se")(h)
        if x.shape[-1] == self.width:
            return h + x[:, :: self.stride, :: self.stride]
        x = layers.conv1x1(
            x,
            self.width,
            self.stride,
            dtype=self.dtype,
            init=self.kernel_init,
            name="shortcut_conv",
        )
        return h + norm("shortcut_bn")(x)


def blocks_of(counts: Sequence[int]) -> list[tuple[int, int]]:
    """(stage, stride) of each block, for so many blocks per stage."""
    return [(s, 1 if i else 2) for s, count in enumerate(counts) for i in range(count)]


def trunk(
    x: Array,
    blocks: Sequence[tuple[int, int]],
    *,
    width: int,
    dialect: str,
    se: bool,
    dtype: Any,
    axis_name: str | None,
    train: bool,
) -> Array:
    """The stem and the blocks, as submodules of the module whose compact method calls this.

    Args:
        x: [B, H, W, 3] in `dtype`.
        blocks: of `blocks_of`; without the last stage for a map of twice the side.
        width: channels of the first stage.
        dialect: see `IR`, as for the rest.
        se: see `IR`.
        dtype: see `IR`.
        axis_name: see `IR`.
        train: whether batch statistics are of this batch.

    Returns:
        [B, h, w, C], the last block's sum, before any norm.
    """
    init = _INITS[dialect]
    x = layers.conv(width, 3, 1, dtype=dtype, init=init, name="stem_conv")(x)
    norm = layers.batch_norm(train, axis_name, name="stem_bn", dtype=dtype)
    x = layers.PReLU(name="stem_prelu")(norm(x))
    for i, (stage, stride) in enumerate(blocks):
        x = _Block(
            width * 2**stage,
            stride,
            se,
            dialect == "adaface",
            init,
            dtype,
            axis_name,
            name=f"block{i}",
        )(x, train=train)
    return x


class IR(nn.Module):
    """An IR or IR-SE net.

    Attributes:
        variant: a name of `VARIANTS`.
        dialect: ``adaface`` or ``evolve``.
        se: whether blocks end in squeeze-and-excitation.
        channels: ``rgb``, or ``bgr`` for weights that were trained on images in that order (those
            of AdaFace's authors): the channels of the image are then turned round first.
        width: channels of the first stage; each later one has twice as many.
        dim: size of the embedding.
        dropout: rate of the dropout before the embedding's matrix, while training.
        dtype: what convolutions compute in. Parameters, statistics of the norms, the embedding's
            matrix and the outputs are float32.
        axis_name: the mapped axis to average batch statistics over (under ``pmap``).

    Raises:
        UsageError: an unknown `variant`, `dialect` or `channels`.
    """

    variant: str = "18"
    dialect: str = "adaface"
    se: bool = False
    channels: str = "rgb"
    width: int = 64
    dim: int = 512
    dropout: float = 0.4
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Features of a batch of images.

        Args:
            image: [B, H, W, 3] RGB in [-1, 1]. Published weights are for 112 x 112; a side need not
                be a multiple of 16, a map's side is halved and rounded up.
            train: whether batch statistics are of this batch and dropout is on (it draws from the
                rng ``dropout``).

        Returns:
            ``spatial`` [B, H / 16, W / 16, 8 * width], after the last norm of the map; ``pooled``,
            its mean over the map; ``embedding`` [B, dim], not normalised: its length is the quality
            that AdaFace reads. All float32.
        """
        for field, names in (("dialect", DIALECTS), ("channels", CHANNELS)):
            value = getattr(self, field)
            if value not in names:
                raise UsageError(f"IR: {field} is {value!r}: {nearest(value, names)}")
        adaface = self.dialect == "adaface"
        x = image.astype(self.dtype)
        if self.channels == "bgr":
            x = x[..., ::-1]
        x = trunk(
            x,
            _blocks(self),
            width=self.width,
            dialect=self.dialect,
            se=self.se,
            dtype=self.dtype,
            axis_name=self.axis_name,
            train=train,
        )
        x = layers.batch_norm(train, self.axis_name, name="bn")(x)
        flat = x.reshape(x.shape[0], -1)
        flat = nn.Dropout(self.dropout, deterministic=not train)(flat)
        e = nn.Dense(self.dim, kernel_init=_INITS[self.dialect], name="fc")(flat)
        norm = layers.batch_norm(train, self.axis_name, name="features", affine=not adaface)
        return {"pooled": x.mean((1, 2)), "spatial": x, "embedding": norm(e)}


def _blocks(module: IR) -> list[tuple[int, int]]:
    return blocks_of(models.variant("IR", module.variant, VARIANTS))


def torch_names(module: IR) -> dict[str, tuple[str, Any]]:
    """What each variable is called in the state dict of the module's dialect; see `weights`."""
    adaface = module.dialect == "adaface"
    inner = ("bn1", "conv1", *(["bn2"] if adaface else []), "prelu", "conv2", "bn3")
    names = weights.conv_names("stem_conv", "input_layer.0")
    names |= weights.norm_names("stem_bn", "input_layer.1")
    names["params/stem_prelu/slope"] = ("input_layer.2.weight", "same")
    before = 0
    for i, (stage, _) in enumerate(_blocks(module)):
        ours, theirs = f"block{i}", f"body.{i}.res_layer"
        for k, part in enumerate(inner):
            if part == "prelu":
                names[f"params/{ours}/prelu/slope"] = (f"{theirs}.{k}.weight", "same")
            else:
                piece = weights.norm_names if part.startswith("bn") else weights.conv_names
                names |= piece(f"{ours}/{part}", f"{theirs}.{k}")
        if module.se:
            se = f"{theirs}.se_block" if adaface else f"{theirs}.{len(inner)}"
            for part in ("fc1", "fc2"):
                names |= weights.dense_names(
                    f"{ours}/se/{part}", f"{se}.{part}", ("patch", 1), bias=False
                )
        if stage != before:
            shortcut = f"body.{i}.shortcut_layer"
            names |= weights.dense_names(
                f"{ours}/shortcut_conv", f"{shortcut}.0", ("patch", 1), bias=False
            )
            names |= weights.norm_names(f"{ours}/shortcut_bn", f"{shortcut}.1")
        before = stage
    names |= weights.norm_names("bn", "output_layer.0")
    names |= weights.dense_names("fc", "output_layer.3", ("flattened", 8 * module.width))
    return names | weights.norm_names("features", "output_layer.4", affine=not adaface)
