"""Layers that several nets share; those of convolutional nets as PyTorch computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Array = jax.Array


def flat(initializer: Callable[..., Any], fan: str = "") -> Callable[..., Array]:
    """An initialiser that draws a vector and gives it the shape: the same numbers, sooner.

    XLA takes seconds to compile a random draw of four axes for a CPU, and a tenth of one for a
    vector of as many numbers; a net of 100 convolutions has 100 to compile.

    Args:
        initializer: ``(key, shape, dtype) -> array``, each number drawn independently and alike.
        fan: ``fan_in`` or ``fan_out`` where it draws for a fan of 1 what is to be divided by the
            root of this fan of the true shape.
    """

    def draw(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        size = math.prod(shape)
        drawn = initializer(key, (size,), dtype).reshape(shape)
        if not fan:
            return drawn
        return drawn / math.sqrt(size / shape[-1 if fan == "fan_in" else -2])

    return draw


def _uniform(key: Any, shape: Sequence[int], dtype: Any) -> Array:
    return jax.random.uniform(key, tuple(shape), dtype, -1.0, 1.0)


#: He et al., ICCV 2015, with the fan of the output.
he_fan_out = flat(nn.initializers.normal(math.sqrt(2)), "fan_out")
#: PyTorch's default for matrices and convolutions: uniform in +- 1 / sqrt(fan_in).
torch_default = flat(_uniform, "fan_in")


def conv(
    width: int, kernel: int, stride: int, *, dtype: Any, init: Any, name: str, groups: int = 1
) -> nn.Conv:
    """A convolution without bias whose output i is centred on input pixel i * stride.

    The padding is written out: Flax's ``SAME`` pads an even side by (0, 1) at stride 2, and so
    shifts the features by a pixel.
    """
    pad = kernel // 2
    return nn.Conv(
        width,
        (kernel, kernel),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=init,
        name=name,
    )


def conv1x1(x: Array, width: int, stride: int, *, dtype: Any, init: Any, name: str) -> Array:
    """A 1 x 1 convolution without bias: a matrix product on every `stride`-th pixel."""
    dense = nn.Dense(width, use_bias=False, dtype=dtype, kernel_init=init, name=name)
    return dense(x[:, ::stride, ::stride])


def batch_norm(
    train: bool,
    axis_name: str | None,
    *,
    name: str,
    dtype: Any = jnp.float32,
    epsilon: float = 1e-5,
    affine: bool = True,
) -> nn.BatchNorm:
    """Batch norm; statistics and normalisation in float32, the result in `dtype`.

    Momentum .9 is PyTorch's .1. The running variance is of the biased batch variance; PyTorch's is
    n / (n - 1) times that, for n numbers per channel.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=epsilon,
        dtype=dtype,
        use_scale=affine,
        use_bias=affine,
        axis_name=axis_name,
        name=name,
    )


def drop_one(x: Array, rate: float, key: Any, axis: int) -> Array:
    """Zeroes, in some examples, one of the slices along an axis.

    An example is hit with probability `rate`, whatever happens to the others; which slice it loses
    is drawn evenly. What is left is not scaled up (Xue et al., TransFER, ICCV 2021, section 3.1).

    Args:
        x: [B, ...] in any dtype, which is kept.
        rate: in [0, 1].
        key: of the draw.
        axis: not the first.
    """
    examples, slices = x.shape[0], x.shape[axis]
    hit, which = jax.random.split(key)
    lost = jax.random.randint(which, (examples, 1), 0, slices) == jnp.arange(slices)
    lost &= jax.random.bernoulli(hit, rate, (examples, 1))
    shape = [1] * x.ndim
    shape[0], shape[axis] = lost.shape
    return jnp.where(lost.reshape(shape), jnp.zeros((), x.dtype), x)


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), one slope per channel (He et al., ICCV 2015)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., C] in any dtype, which is kept."""
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],))
        return jnp.where(x >= 0, x, slope.astype(x.dtype) * x)
