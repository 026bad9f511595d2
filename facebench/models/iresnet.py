"""The improved residual net of ArcFace (Deng et al., CVPR 2019, section 3.1), 18 to 200 layers.

The layout is that of insightface's PyTorch training code, parameter for parameter. Each stage
begins with stride 2, the first too; a block is norm, convolution, norm, PReLU, convolution with the
stride, norm, and nothing follows the sum. The embedding is norm, flatten, dropout, a matrix, norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench import models
from facebench.errors import FacebenchError
from facebench.models import layers, weights

Array = jax.Array

#: Blocks of the four stages, by name.
VARIANTS = {
    "tiny": (1, 1, 1, 1),
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 14, 3),
    "100": (3, 13, 30, 3),
    "200": (6, 26, 60, 6),
}

_normal01 = layers.flat(nn.initializers.normal(0.1))


class _Block(nn.Module):
    """The residual block; where the stride is 2 the shortcut is a 1 x 1 convolution and a norm."""

    width: int
    stride: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        def norm(name: str) -> nn.BatchNorm:
            return layers.batch_norm(train, self.axis_name, name=name, dtype=self.dtype)

        def conv(stride: int, name: str) -> nn.Conv:
            return layers.conv(self.width, 3, stride, dtype=self.dtype, init=_normal01, name=name)

        h = conv(1, "conv1")(norm("bn1")(x))
        h = layers.PReLU(name="prelu")(norm("bn2")(h))
        h = norm("bn3")(conv(self.stride, "conv2")(h))
        if self.stride > 1:
            x = layers.conv1x1(
                x, self.width, self.stride, dtype=self.dtype, init=_normal01, name="shortcut_conv"
            )
            x = norm("shortcut_bn")(x)
        return h + x


class _FixedScaleNorm(nn.Module):
    """Batch norm with a learnt bias and a scale that is not learnt: 1 unless weights say else.

    The scale is kept with the running statistics, so that no optimiser sees it.
    """

    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        width = (x.shape[-1],)
        scale = self.variable("batch_stats", "scale", jnp.ones, width)
        bias = self.param("bias", nn.initializers.zeros_init(), width)
        norm = layers.batch_norm(train, self.axis_name, name="norm", affine=False)
        return norm(x) * scale.value + bias


class IResNet(nn.Module):
    """An iResNet.

    The parameter counts that are published (24,025,600 for 18 layers at 112 px) contain the fixed
    scale of the embedding's norm, `dim` numbers that are no parameters here.

    Attributes:
        variant: a name of `VARIANTS`.
        blocks: blocks of the four stages, instead of the variant's.
        width: channels of the first stage; each later one has twice as many.
        dim: size of the embedding.
        dropout: rate of the dropout before the embedding's matrix, while training.
        dtype: what convolutions compute in. Parameters, statistics of the norms, the embedding's
            matrix and the outputs are float32.
        axis_name: the mapped axis to average batch statistics over (under ``pmap``).

    Raises:
        UsageError: an unknown `variant`.
        FacebenchError: `blocks` is not four numbers of at least 1.
    """

    variant: str = "18"
    blocks: Sequence[int] | None = None
    width: int = 64
    dim: int = 512
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Features of a batch of images.

        Args:
            image: [B, H, W, 3] in [-1, 1]. Published weights are for 112 x 112; a side need not be
                a multiple of 16, a map's side is halved and rounded up.
            train: whether batch statistics are of this batch and dropout is on (it draws from the
                rng ``dropout``).

        Returns:
            ``spatial`` [B, H / 16, W / 16, 8 * width], after the last norm; ``pooled``, its mean
            over the map; ``embedding`` [B, dim], not normalised. All float32.
        """
        x = layers.conv(self.width, 3, 1, dtype=self.dtype, init=_normal01, name="stem_conv")(
            image.astype(self.dtype)
        )
        norm = layers.batch_norm(train, self.axis_name, name="stem_bn", dtype=self.dtype)
        x = layers.PReLU(name="stem_prelu")(norm(x))
        for stage, count in enumerate(stages(self)):
            for i in range(count):
                x = _Block(
                    self.width * 2**stage,
                    1 if i else 2,
                    self.dtype,
                    self.axis_name,
                    name=f"layer{stage + 1}_{i}",
                )(x, train=train)
        x = layers.batch_norm(train, self.axis_name, name="bn2")(x)
        flat = x.reshape(x.shape[0], -1)
        flat = nn.Dropout(self.dropout, deterministic=not train)(flat)
        e = nn.Dense(self.dim, kernel_init=layers.torch_default, name="fc")(flat)
        e = _FixedScaleNorm(self.axis_name, name="features")(e, train=train)
        return {"pooled": x.mean((1, 2)), "spatial": x, "embedding": e}


def stages(module: IResNet) -> tuple[int, ...]:
    """Blocks of each stage of a net."""
    if module.blocks is None:
        return models.variant("IResNet", module.variant, VARIANTS)
    blocks = tuple(module.blocks)
    if len(blocks) != 4 or min(blocks) < 1:
        raise FacebenchError(
            f"IResNet: blocks is {blocks}, expected four numbers of at least 1, as in "
            f"{VARIANTS['18']}"
        )
    return blocks


def torch_names(module: IResNet) -> dict[str, tuple[str, Any]]:
    """What each variable is called in insightface's state dict; see `weights`."""
    names = weights.conv_names("stem_conv", "conv1")
    names |= weights.norm_names("stem_bn", "bn1")
    names["params/stem_prelu/slope"] = ("prelu.weight", "same")
    for stage, count in enumerate(stages(module)):
        for i in range(count):
            ours, theirs = f"layer{stage + 1}_{i}", f"layer{stage + 1}.{i}"
            for part in ("bn1", "bn2", "bn3"):
                names |= weights.norm_names(f"{ours}/{part}", f"{theirs}.{part}")
            for part in ("conv1", "conv2"):
                names |= weights.conv_names(f"{ours}/{part}", f"{theirs}.{part}")
            names[f"params/{ours}/prelu/slope"] = (f"{theirs}.prelu.weight", "same")
            if i == 0:
                names |= weights.dense_names(
                    f"{ours}/shortcut_conv", f"{theirs}.downsample.0", ("patch", 1), bias=False
                )
                names |= weights.norm_names(f"{ours}/shortcut_bn", f"{theirs}.downsample.1")
    names |= weights.norm_names("bn2", "bn2")
    names |= weights.dense_names("fc", "fc", ("flattened", 8 * module.width))
    names["params/features/bias"] = ("features.bias", "same")
    names["batch_stats/features/scale"] = ("features.weight", "same")
    names["batch_stats/features/norm/mean"] = ("features.running_mean", "same")
    names["batch_stats/features/norm/var"] = ("features.running_var", "same")
    return names
