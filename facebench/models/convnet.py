"""A small residual convolutional backbone: the one that trains in minutes on a laptop's CPU.

Pre-activation residual blocks (He et al., *Identity Mappings in Deep Residual Networks*, ECCV 2016,
figure 1b) without a max-pool, and with narrow stages, because face crops of 48 to 112 pixels are
small. Only dense 3x3 convolutions and matrix products are used: depthwise convolutions and 1x1
convolutions are what XLA is slow at on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench.errors import FacebenchError

Array = jax.Array

_he_normal = nn.initializers.he_normal()


def _conv3x3(width: int, stride: int, dtype: Any, name: str) -> nn.Conv:
    """A 3x3 convolution without bias whose output i is centred on input pixel i * stride.

    Flax's ``SAME`` would pad an even side by (0, 1) at stride 2 and shift the features by a pixel
    from what other frameworks compute; the padding is therefore written out.
    """
    return nn.Conv(
        width,
        (3, 3),
        strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        use_bias=False,
        dtype=dtype,
        kernel_init=_he_normal,
        name=name,
    )


class _BatchNormRelu(nn.Module):
    """Batch norm in float32 (momentum .9, epsilon 1e-5), ReLU, then back to the compute dtype."""

    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=jnp.float32,
            axis_name=self.axis_name,
            name="norm",
        )(x)
        return nn.relu(x).astype(self.dtype)


class _Block(nn.Module):
    """``x + conv(relu(bn(conv(relu(bn(x))))))``; the shortcut is projected where the shape changes.

    The projection takes every `stride`-th pixel of the activated input and is a matrix product.
    """

    width: int
    stride: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        h = _BatchNormRelu(self.dtype, self.axis_name, name="act1")(x, train=train)
        shortcut = x
        if self.stride > 1 or x.shape[-1] != self.width:
            shortcut = nn.Dense(
                self.width,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=_he_normal,
                name="shortcut",
            )(h[:, :: self.stride, :: self.stride])
        h = _conv3x3(self.width, self.stride, self.dtype, "conv1")(h)
        h = _BatchNormRelu(self.dtype, self.axis_name, name="act2")(h, train=train)
        h = _conv3x3(self.width, 1, self.dtype, "conv2")(h)
        return shortcut + h


class ConvNet(nn.Module):
    """A pre-activation residual network.

    A stem convolution, then one stage per entry of `widths`; the first block of every stage but the
    first halves the map. At the defaults a 64 px crop becomes 32, 16, 8 and then 4 x 4 features.

    Attributes:
        widths: channels of each stage.
        blocks: residual blocks of each stage; 0 is allowed in the first, which then is the stem.
        stem_stride: stride of the first convolution.
        dropout: rate of the dropout on the final map, while training.
        dtype: what convolutions compute in (parameters, batch norm and outputs are float32).
        axis_name: the mapped axis to average batch statistics over (under ``pmap``); under ``jit``
            None, where the batch norm already sees the global batch.

    Raises:
        FacebenchError: `widths` and `blocks` differ in length, or a later stage has no block.
    """

    widths: Sequence[int] = (16, 32, 64, 128)
    blocks: Sequence[int] = (1, 1, 1, 1)
    stem_stride: int = 2
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Features of a batch of images.

        Args:
            image: [B, H, W, 3] in [-1, 1].
            train: whether batch statistics are of this batch and dropout is on
                (dropout draws from the rng ``dropout``).

        Returns:
            ``spatial`` [B, h, w, D] float32, non-negative, and ``pooled`` [B, D], its mean over
            the map, with D = ``widths[-1]`` and h = ceil(H / (stem_stride * 2**(stages - 1))).
        """
        if len(self.widths) != len(self.blocks):
            raise FacebenchError(
                f"ConvNet: widths {tuple(self.widths)} name {len(self.widths)} stages, but blocks "
                f"{tuple(self.blocks)} name {len(self.blocks)}; give one number of blocks per width"
            )
        if min(self.blocks[1:], default=1) < 1:
            raise FacebenchError(
                f"ConvNet: blocks {tuple(self.blocks)}: only the first stage may have none"
            )
        x = _conv3x3(self.widths[0], self.stem_stride, self.dtype, "stem")(image.astype(self.dtype))
        for stage, (width, count) in enumerate(zip(self.widths, self.blocks)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                x = _Block(width, stride, self.dtype, self.axis_name, name=name)(x, train=train)
        x = _BatchNormRelu(jnp.float32, self.axis_name, name="act")(x, train=train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {"pooled": x.mean((1, 2)), "spatial": x}
