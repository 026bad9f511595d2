"""Inception-ResNet v1, the network of FaceNet's public weights.

Szegedy et al., *Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning*
(AAAI 2017), with the changes of the public FaceNet training code: residual branches scaled by 0.17,
0.10 and 0.20, a last block without activation, and a bottleneck of 512 with batch norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench.errors import FacebenchError

Array = jax.Array

#: Entries of published checkpoints that the backbone has no use for.
TORCH_IGNORE = ("logits.*",)

SMALLEST = 75  # px; below, the last reduction has no whole 3 x 3 window

_xavier = nn.initializers.xavier_uniform()

# A convolution: name, channels, kernel, stride, whether the border is padded.
_STEM = (
    ("conv2d_1a", 32, (3, 3), 2, False),
    ("conv2d_2a", 32, (3, 3), 1, False),
    ("conv2d_2b", 64, (3, 3), 1, True),
    ("maxpool_3a", 0, (3, 3), 2, False),
    ("conv2d_3b", 80, (1, 1), 1, False),
    ("conv2d_4a", 192, (3, 3), 1, False),
    ("conv2d_4b", 256, (3, 3), 2, False),
)
# A block: its branches, each a chain of (channels, kernel); the kernel is padded.
_BLOCK35 = (
    ((32, (1, 1)),),
    ((32, (1, 1)), (32, (3, 3))),
    ((32, (1, 1)), (32, (3, 3)), (32, (3, 3))),
)
_BLOCK17 = (((128, (1, 1)),), ((128, (1, 1)), (128, (1, 7)), (128, (7, 1))))
_BLOCK8 = (((192, (1, 1)),), ((192, (1, 1)), (192, (1, 3)), (192, (3, 1))))
# A reduction: likewise; the last convolution of a branch has stride 2 and no padding, and a 3 x 3
# max-pool of stride 2 is the branch after the last.
_MIXED6A = (((384, (3, 3)),), ((192, (1, 1)), (192, (3, 3)), (256, (3, 3))))
_MIXED7A = (
    ((256, (1, 1)), (384, (3, 3))),
    ((256, (1, 1)), (256, (3, 3))),
    ((256, (1, 1)), (256, (3, 3)), (256, (3, 3))),
)
# Stages of residual blocks: branches, scale of the residual, the reduction that follows.
_STAGES = (
    ("repeat_1", _BLOCK35, 0.17, "mixed_6a", _MIXED6A),
    ("repeat_2", _BLOCK17, 0.10, "mixed_7a", _MIXED7A),
    ("repeat_3", _BLOCK8, 0.20, "", ()),
)


def _names(branches: Sequence[Sequence[Any]]) -> Iterator[tuple[int, int, str]]:
    """(branch, place in it, name) of every convolution; a branch of one has no number."""
    for i, branch in enumerate(branches):
        for j in range(len(branch)):
            yield i, j, f"branch{i}_{j}" if len(branch) > 1 else f"branch{i}"


def _batch_norm(axis_name: str | None, train: bool, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.995,
        epsilon=1e-3,
        dtype=jnp.float32,
        axis_name=axis_name,
        name=name,
    )


class _Conv(nn.Module):
    """Convolution without bias, batch norm in float32, ReLU."""

    width: int
    kernel: tuple[int, int]
    stride: int
    padded: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        x = nn.Conv(
            self.width,
            self.kernel,
            strides=(self.stride, self.stride),
            padding=tuple((k // 2, k // 2) if self.padded else (0, 0) for k in self.kernel),
            use_bias=False,
            dtype=self.dtype,
            kernel_init=_xavier,
            name="conv",
        )(x)
        return nn.relu(_batch_norm(self.axis_name, train, "bn")(x)).astype(self.dtype)


class _Branches(nn.Module):
    """Chains of convolutions on one input; their outputs are put side by side."""

    branches: Sequence[Sequence[tuple[int, tuple[int, int]]]]
    reduces: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        outputs: list[Array] = []
        for i, j, name in _names(self.branches):
            width, kernel = self.branches[i][j]
            halves = self.reduces and j == len(self.branches[i]) - 1
            conv = _Conv(
                width, kernel, 1 + halves, not halves, self.dtype, self.axis_name, name=name
            )
            if j == 0:
                outputs.append(x)
            outputs[i] = conv(outputs[i], train=train)
        if self.reduces:
            outputs.append(nn.max_pool(x, (3, 3), (2, 2)))
        return jnp.concatenate(outputs, axis=-1)


class _Residual(nn.Module):
    """``x + scale * conv1x1(branches(x))``, then ReLU where `activates`."""

    branches: Sequence[Sequence[tuple[int, tuple[int, int]]]]
    scale: float
    activates: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        h = _Branches(self.branches, False, self.dtype, self.axis_name, name="branches")(
            x, train=train
        )
        h = nn.Conv(x.shape[-1], (1, 1), dtype=self.dtype, kernel_init=_xavier, name="conv2d")(h)
        x = x + self.scale * h
        return nn.relu(x) if self.activates else x


class InceptionResNet(nn.Module):
    """Inception-ResNet v1 as FaceNet has it; made for 160 px, works from 75 px on.

    Attributes:
        repeats: residual blocks of the three stages; the last stage has one more, without ReLU.
        embedding: numbers of the embedding; 0 for none.
        dropout: rate of the dropout on the pooled features.
        dtype: what convolutions compute in (parameters, batch norm and outputs are float32).
        axis_name: the mapped axis to average batch statistics over (under ``pmap``).

    Raises:
        FacebenchError: the image is smaller than 75 px.
    """

    repeats: Sequence[int] = (5, 10, 5)
    embedding: int = 512
    dropout: float = 0.6
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Features of a batch of images.

        Args:
            image: [B, H, W, 3] RGB in [-1, 1], both sides at least 75.
            train: whether batch statistics are of this batch and dropout is on
                (dropout draws from the rng ``dropout``).

        Returns:
            ``spatial`` [B, h, w, 1792] (3 x 3 at 160 px), ``pooled`` [B, 1792], its mean over the
            map, and ``embedding`` [B, embedding] after the last batch norm. The published net
            divides its embedding by its length; here it is as long as it comes.
        """
        if min(image.shape[1:3]) < SMALLEST:
            raise FacebenchError(
                f"InceptionResNet: an image of {image.shape[1]} x {image.shape[2]} px is too small "
                f"(it needs {SMALLEST} and was made for 160); choose a protocol with larger crops"
            )
        common = (self.dtype, self.axis_name)
        x = image.astype(self.dtype)
        for name, width, kernel, stride, padded in _STEM:
            if width:
                x = _Conv(width, kernel, stride, padded, *common, name=name)(x, train=train)
            else:
                x = nn.max_pool(x, kernel, (stride, stride))
        for (name, branches, scale, reduction, reduced), count in zip(_STAGES, self.repeats):
            for i in range(count):
                block = _Residual(branches, scale, True, *common, name=f"{name}_{i}")
                x = block(x, train=train)
            if reduction:
                x = _Branches(reduced, True, *common, name=reduction)(x, train=train)
        x = _Residual(_BLOCK8, 1.0, False, *common, name="block8")(x, train=train)
        x = x.astype(jnp.float32)
        pooled = x.mean((1, 2))
        outputs = {"pooled": pooled, "spatial": x}
        if self.embedding:
            h = nn.Dropout(self.dropout, deterministic=not train)(pooled)
            h = nn.Dense(self.embedding, use_bias=False, kernel_init=_xavier, name="last_linear")(h)
            outputs["embedding"] = _batch_norm(self.axis_name, train, "last_bn")(h)
        return outputs


def torch_names(module: InceptionResNet) -> dict[str, tuple[str, Any]]:
    """What facenet-pytorch calls each variable, and how its axes are turned.

    Args:
        module: says how many blocks there are, and whether there is an embedding.

    Returns:
        Flax path to (PyTorch key, how); see `facebench.models.weights`.
    """
    names: dict[str, tuple[str, Any]] = {}

    def norm(ours: str, theirs: str) -> None:
        for kind, leaf, key in (
            ("params", "scale", "weight"),
            ("params", "bias", "bias"),
            ("batch_stats", "mean", "running_mean"),
            ("batch_stats", "var", "running_var"),
        ):
            names[f"{kind}/{ours}/{leaf}"] = (f"{theirs}.{key}", "same")

    def conv(ours: str, theirs: str) -> None:
        names[f"params/{ours}/conv/kernel"] = (f"{theirs}.conv.weight", "conv")
        norm(f"{ours}/bn", f"{theirs}.bn")

    def branched(ours: str, theirs: str, branches: Sequence[Any]) -> None:
        for _, _, name in _names(branches):
            conv(f"{ours}/{name}", f"{theirs}.{name.replace('_', '.')}")

    def residual(ours: str, theirs: str, branches: Sequence[Any]) -> None:
        branched(f"{ours}/branches", theirs, branches)
        names[f"params/{ours}/conv2d/kernel"] = (f"{theirs}.conv2d.weight", "conv")
        names[f"params/{ours}/conv2d/bias"] = (f"{theirs}.conv2d.bias", "same")

    for name, width, *_ in _STEM:
        if width:
            conv(name, name)
    for (name, branches, _, reduction, reduced), count in zip(_STAGES, module.repeats):
        for i in range(count):
            residual(f"{name}_{i}", f"{name}.{i}", branches)
        if reduction:
            branched(reduction, reduction, reduced)
    residual("block8", "block8", _BLOCK8)
    if module.embedding:
        names["params/last_linear/kernel"] = ("last_linear.weight", "dense")
        norm("last_bn", "last_bn")
    return names
