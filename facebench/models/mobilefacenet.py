"""MobileFaceNet (Chen et al., CCBR 2018), as insightface trains it: ``mbf`` and ``mbf_large``.

Inverted residuals with PReLU; the map ends in a global depthwise convolution, a learnt weighted
mean per channel, instead of an average.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench import models
from facebench.models import layers, weights

Array = jax.Array


class Plan(NamedTuple):
    """Sizes of a net.

    Attributes:
        blocks: residual blocks before each halving and after the last; a single first one is a
            grouped convolution.
        scale: channels over 64 (64 is the paper's width of the first stages).
    """

    blocks: tuple[int, int, int, int]
    scale: int


VARIANTS = {"mbf": Plan((1, 4, 6, 2), 2), "mbf_large": Plan((2, 8, 12, 4), 4)}
TAIL = 512


class _ConvNorm(nn.Module):
    """Convolution, norm and, unless `linear`, PReLU."""

    width: int
    kernel: int
    stride: int
    groups: int
    linear: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        if self.kernel == 1:
            x = layers.conv1x1(
                x, self.width, 1, dtype=self.dtype, init=layers.he_fan_out, name="conv"
            )
        else:
            x = layers.conv(
                self.width,
                self.kernel,
                self.stride,
                dtype=self.dtype,
                init=layers.he_fan_out,
                name="conv",
                groups=self.groups,
            )(x)
        x = layers.batch_norm(train, self.axis_name, name="bn", dtype=self.dtype)(x)
        return x if self.linear else layers.PReLU(name="prelu")(x)


class _Bottleneck(nn.Module):
    """1 x 1 up to `middle` channels, 3 x 3 depthwise, 1 x 1 down; added to x where `residual`."""

    width: int
    middle: int
    stride: int
    residual: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        def part(width: int, kernel: int, stride: int, groups: int, linear: bool, name: str) -> Any:
            return _ConvNorm(
                width, kernel, stride, groups, linear, self.dtype, self.axis_name, name=name
            )

        h = part(self.middle, 1, 1, 1, False, "up")(x, train=train)
        h = part(self.middle, 3, self.stride, self.middle, False, "depthwise")(h, train=train)
        h = part(self.width, 1, 1, 1, True, "down")(h, train=train)
        return x + h if self.residual else h


class MobileFaceNet(nn.Module):
    """A MobileFaceNet.

    Attributes:
        variant: a name of `VARIANTS`.
        dim: size of the embedding.
        dtype: what convolutions compute in. Parameters, statistics of the norms, the tail after
            the map and the outputs are float32.
        axis_name: the mapped axis to average batch statistics over (under ``pmap``).

    Raises:
        UsageError: an unknown `variant`.
    """

    variant: str = "mbf"
    dim: int = 512
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Features of a batch of images.

        Args:
            image: [B, H, W, 3] in [-1, 1]. Published weights are for 112 x 112; a side need not be
                a multiple of 16, a map's side is halved and rounded up.
            train: whether batch statistics are of this batch.

        Returns:
            ``spatial`` [B, H / 16, W / 16, 512]; ``pooled``, its mean over the map; ``embedding``
            [B, dim], not normalised. All float32.
        """
        x = image.astype(self.dtype)
        for name, kind, sizes in _plan(self):
            block: Any = _ConvNorm if kind == "conv" else _Bottleneck
            x = block(*sizes, self.dtype, self.axis_name, name=name)(x, train=train)
        tail = _ConvNorm(TAIL, 1, 1, 1, False, jnp.float32, self.axis_name, name="tail")
        x = tail(x.astype(jnp.float32), train=train)
        # The kernel is as large as the map, so this convolution is a weighted sum.
        kernel = self.param("global_kernel", layers.he_fan_out, (*x.shape[1:3], 1, TAIL))
        e = jnp.einsum("bhwc,hwc->bc", x, kernel[:, :, 0])
        e = layers.batch_norm(train, self.axis_name, name="global_bn")(e)
        e = nn.Dense(self.dim, use_bias=False, kernel_init=layers.he_fan_out, name="fc")(e)
        e = layers.batch_norm(train, self.axis_name, name="features")(e)
        return {"pooled": x.mean((1, 2)), "spatial": x, "embedding": e}


def _plan(module: MobileFaceNet) -> list[tuple[str, str, tuple[Any, ...]]]:
    """(name, ``conv`` or ``bottleneck``, sizes) of each block before the tail."""
    blocks, scale = models.variant("MobileFaceNet", module.variant, VARIANTS)
    low, high = 64 * scale, 128 * scale
    plan: list[tuple[str, str, tuple[Any, ...]]] = [("layer0", "conv", (low, 3, 2, 1, False))]

    def residual(index: int, count: int, width: int, middle: int) -> None:
        for i in range(count):
            plan.append((f"layer{index}_{i}", "bottleneck", (width, middle, 1, True)))

    if blocks[0] == 1:  # 64 groups, whatever the width: not depthwise.
        plan.append(("layer1", "conv", (low, 3, 1, 64, False)))
    else:
        residual(1, blocks[0], low, 128)
    for k, (width, halving, middle) in enumerate(
        ((low, 128, 128), (high, 256, 256), (high, 512, 256))
    ):
        plan.append((f"layer{2 * k + 2}", "bottleneck", (width, halving, 2, False)))
        residual(2 * k + 3, blocks[k + 1], width, middle)
    return plan


def torch_names(module: MobileFaceNet) -> dict[str, tuple[str, Any]]:
    """What each variable is called in insightface's state dict; see `weights`."""
    names: dict[str, tuple[str, Any]] = {}

    def part(ours: str, theirs: str, pointwise: bool, linear: bool) -> None:
        how = ("patch", 1) if pointwise else "conv"
        names.update(weights.dense_names(f"{ours}/conv", f"{theirs}.layers.0", how, bias=False))
        names.update(weights.norm_names(f"{ours}/bn", f"{theirs}.layers.1"))
        if not linear:
            names[f"params/{ours}/prelu/slope"] = (f"{theirs}.layers.2.weight", "same")

    for name, kind, _ in _plan(module):
        theirs = "layers." + name.removeprefix("layer").replace("_", ".layers.")
        if kind == "conv":
            part(name, theirs, pointwise=False, linear=False)
        else:
            part(f"{name}/up", f"{theirs}.layers.0", pointwise=True, linear=False)
            part(f"{name}/depthwise", f"{theirs}.layers.1", pointwise=False, linear=False)
            part(f"{name}/down", f"{theirs}.layers.2", pointwise=True, linear=True)
    part("tail", "conv_sep", pointwise=True, linear=False)
    names["params/global_kernel"] = ("features.layers.0.layers.0.weight", "conv")
    names |= weights.norm_names("global_bn", "features.layers.0.layers.1")
    names |= weights.dense_names("fc", "features.layers.2", bias=False)
    return names | weights.norm_names("features", "features.layers.3")
