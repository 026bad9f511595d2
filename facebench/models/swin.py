"""The Swin transformer (Liu et al., *Hierarchical Vision Transformer using Shifted Windows*, 2021).

The defaults are the backbone of SwinFace (Qin et al., 2023): Swin-T on 112 px with patches of
2 px, so that the four stages have 56, 28, 14 and 7 tokens a side, and an embedding head of two
bias-free layers with batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from facebench.errors import FacebenchError

Array = jax.Array

#: Entries of published checkpoints that the backbone has no use for: tables of whole numbers that
#: follow from the sizes, and a classifier that nothing is fed to.
TORCH_IGNORE = ("*.relative_position_index", "*.attn_mask", "head.*")

MASKED = -100.0  # what the published nets add to a logit that is masked

_trunc02 = nn.initializers.truncated_normal(0.02)


def windows(x: Array, side: int) -> Array:
    """Cuts a map into square windows.

    Args:
        x: [B, H, W, C], H and W multiples of `side`.
        side: of a window, in tokens.

    Returns:
        [B, number of windows, side * side, C], windows and their tokens row by row.
    """
    B, H, W, C = x.shape
    x = x.reshape(B, H // side, side, W // side, side, C).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(B, -1, side * side, C)


def from_windows(x: Array, height: int, width: int) -> Array:
    """The map of which `windows` made `x`: [B, height, width, C]."""
    B, _, n, C = x.shape
    side = round(n**0.5)
    x = x.reshape(B, height // side, width // side, side, side, C).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(B, height, width, C)


def relative_index(side: int) -> np.ndarray:
    """Which entry of the bias table holds for each pair of tokens of a window.

    Args:
        side: of the window.

    Returns:
        [side**2, side**2] int: (dy + side - 1) * (2 side - 1) + dx + side - 1 for query i and key
        j, with (dy, dx) the query's place minus the key's.
    """
    y, x = np.divmod(np.arange(side * side), side)
    dy, dx = y[:, None] - y, x[:, None] - x
    return (dy + side - 1) * (2 * side - 1) + dx + side - 1


def shift_mask(height: int, width: int, side: int, shift: int) -> np.ndarray:
    """What is added to attention logits so that no token sees across the border of the map.

    The map was rolled by `shift` up and to the left; a window then may hold tokens of opposite
    sides of the map.

    Returns:
        [number of windows, side**2, side**2] float32: 0, or `MASKED` between tokens of regions that
        do not touch.
    """
    rows, columns = (np.arange(n) >= n - shift for n in (height, width))
    regions = np.where(rows[:, None], 2, 0) + columns
    tiles = regions.reshape(height // side, side, width // side, side).transpose(0, 2, 1, 3)
    cut = tiles.reshape(-1, side * side)
    return np.where(cut[:, :, None] == cut[:, None], 0.0, MASKED).astype(np.float32)


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, dtype=jnp.float32, name=name)


class _WindowAttention(nn.Module):
    """Self-attention inside each window, with a learned bias for every relative place."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, mask: np.ndarray | None) -> Array:
        B, W, N, C = x.shape  # images, windows, tokens of a window, channels
        side, d = round(N**0.5), C // self.heads
        qkv = nn.Dense(3 * C, dtype=self.dtype, kernel_init=_trunc02, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(B, W, N, 3, self.heads, d), 3, 0)
        table = self.param(
            "relative_position_bias_table", _trunc02, ((2 * side - 1) ** 2, self.heads)
        )
        logits = jnp.einsum(
            "bwnhd,bwmhd->bwhnm", q * d**-0.5, k, preferred_element_type=jnp.float32
        )
        logits = logits + jnp.moveaxis(table[relative_index(side)], -1, 0)
        if mask is not None:
            logits = logits + mask[:, None]
        attention = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        x = jnp.einsum("bwhnm,bwmhd->bwnhd", attention, v).reshape(B, W, N, C)
        return nn.Dense(C, dtype=self.dtype, kernel_init=_trunc02, name="proj")(x)


class _Block(nn.Module):
    """Window attention, then an MLP, each on a normalised input and added to the stream."""

    heads: int
    window: int
    shift: int
    mlp_ratio: float
    dropout: float
    drop_path: float
    dtype: Any

    def _drop(self, x: Array, train: bool) -> Array:
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3), deterministic=not train)(x)

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        _, H, W, C = x.shape
        h, mask = _layer_norm("norm1")(x), None
        if self.shift:
            h = jnp.roll(h, (-self.shift, -self.shift), (1, 2))
            mask = shift_mask(H, W, self.window, self.shift)
        h = _WindowAttention(self.heads, self.dtype, name="attn")(windows(h, self.window), mask)
        h = jnp.roll(from_windows(h, H, W), (self.shift, self.shift), (1, 2))
        x = x + self._drop(h, train)

        def dense(width: int, name: str) -> nn.Dense:
            return nn.Dense(width, dtype=self.dtype, kernel_init=_trunc02, name=name)

        h = dense(int(C * self.mlp_ratio), "fc1")(_layer_norm("norm2")(x))
        h = dense(C, "fc2")(nn.gelu(h, approximate=False))
        return x + self._drop(h, train)


class Swin(nn.Module):
    """A Swin transformer with an embedding head.

    A stage whose map is not larger than the window is one window and is not shifted. Between stages
    2 x 2 tokens become one of twice the channels.

    Attributes:
        patch: side of a patch in pixels.
        dim: channels of the first stage.
        depths: blocks of each stage; every second one is shifted by half a window.
        heads: attention heads of each stage; they divide its channels.
        window: side of a window in tokens.
        mlp_ratio: hidden channels of the MLPs over the stage's.
        embedding: numbers of the embedding; 0 for none.
        dropout: rate of the dropout on patches and residual branches.
        drop_path: rate at which the last block's branches are dropped for an example; it rises
            linearly from 0 at the first block.
        dtype: what matrix products compute in (parameters, norms and outputs are float32).
        axis_name: the mapped axis to average the embedding head's batch statistics over.

    Raises:
        FacebenchError: sizes that do not divide.
    """

    patch: int = 2
    dim: int = 96
    depths: Sequence[int] = (2, 2, 6, 2)
    heads: Sequence[int] = (3, 6, 12, 24)
    window: int = 7
    mlp_ratio: float = 4.0
    embedding: int = 512
    dropout: float = 0.0
    drop_path: float = 0.1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def _check(self, height: int, width: int) -> None:
        if len(self.depths) != len(self.heads):
            raise FacebenchError(
                f"Swin: depths {tuple(self.depths)} name {len(self.depths)} stages, but heads "
                f"{tuple(self.heads)} name {len(self.heads)}; give one number of heads per stage"
            )
        for stage, heads in enumerate(self.heads):
            if (self.dim << stage) % heads:
                raise FacebenchError(
                    f"Swin: the {self.dim << stage} channels of stage {stage + 1} are no multiple "
                    f"of its {heads} heads; change either"
                )
        for side in (height, width):
            length, rest = divmod(side, self.patch)
            for stage in range(len(self.depths)):
                odd = stage + 1 < len(self.depths) and length % 2
                if rest or odd or (length > self.window and length % self.window):
                    raise FacebenchError(
                        f"Swin: an image of {height} x {width} px is not made of whole patches of "
                        f"{self.patch} px and whole windows of {self.window} tokens in every stage "
                        f"(stage {stage + 1} has {length} tokens a side); the defaults are for 112"
                    )
                length //= 2

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Features of a batch of images.

        Args:
            image: [B, H, W, 3] RGB in [-1, 1].
            train: whether batch statistics are of this batch, and dropout and stochastic depth are
                on (both draw from the rng ``dropout``).

        Returns:
            ``spatial`` [B, h, w, D] after the final norm (7 x 7 x 768 at the defaults), ``pooled``
            [B, D], its mean over the map, and ``embedding`` [B, embedding], float32.
        """
        B, H, W, C = image.shape
        self._check(H, W)
        p = self.patch
        x = image.astype(self.dtype).reshape(B, H // p, p, W // p, p, C).transpose(0, 1, 3, 2, 4, 5)
        x = nn.Dense(self.dim, dtype=self.dtype, kernel_init=_trunc02, name="patch_embed")(
            x.reshape(B, H // p, W // p, p * p * C)
        )
        x = _layer_norm("patch_norm")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        number, total = 0, sum(self.depths)
        for stage, (depth, heads) in enumerate(zip(self.depths, self.heads)):
            side = min(self.window, *x.shape[1:3])
            for i in range(depth):
                shifted = i % 2 and min(x.shape[1:3]) > self.window
                x = _Block(
                    heads,
                    side,
                    side // 2 if shifted else 0,
                    self.mlp_ratio,
                    self.dropout,
                    self.drop_path * number / max(total - 1, 1),
                    self.dtype,
                    name=f"stage{stage}_block{i}",
                )(x, train=train)
                number += 1
            if stage + 1 < len(self.depths):
                x = self._merge(x, stage)
        x = _layer_norm("norm")(x)
        pooled = x.mean((1, 2))
        outputs = {"pooled": pooled, "spatial": x}
        if self.embedding:
            h = pooled
            for i, width in ((0, x.shape[-1]), (2, self.embedding)):
                h = nn.Dense(width, use_bias=False, kernel_init=_trunc02, name=f"feature_{i}")(h)
                h = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    epsilon=2e-5,
                    dtype=jnp.float32,
                    axis_name=self.axis_name,
                    name=f"feature_{i + 1}",
                )(h)
            outputs["embedding"] = h
        return outputs

    def _merge(self, x: Array, stage: int) -> Array:
        """2 x 2 tokens, column by column, side by side; normalised and halved by a matrix."""
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        x = _layer_norm(f"stage{stage}_merge_norm")(jnp.concatenate(parts, axis=-1))
        return nn.Dense(
            x.shape[-1] // 2,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=_trunc02,
            name=f"stage{stage}_merge",
        )(x)


def torch_names(module: Swin) -> dict[str, tuple[str, Any]]:
    """What the published checkpoints call each variable, and how its axes are turned.

    Args:
        module: says how many blocks there are, and whether there is an embedding.

    Returns:
        Flax path to (PyTorch key, how); see `facebench.models.weights`.
    """
    names: dict[str, tuple[str, Any]] = {}

    def norm(ours: str, theirs: str) -> None:
        names[f"params/{ours}/scale"] = (f"{theirs}.weight", "same")
        names[f"params/{ours}/bias"] = (f"{theirs}.bias", "same")

    def dense(ours: str, theirs: str, how: Any = "dense", bias: bool = True) -> None:
        names[f"params/{ours}/kernel"] = (f"{theirs}.weight", how)
        if bias:
            names[f"params/{ours}/bias"] = (f"{theirs}.bias", "same")

    dense("patch_embed", "patch_embed.proj", ("patch", module.patch))
    norm("patch_norm", "patch_embed.norm")
    for stage, depth in enumerate(module.depths):
        for i in range(depth):
            ours, theirs = f"stage{stage}_block{i}", f"layers.{stage}.blocks.{i}"
            norm(f"{ours}/norm1", f"{theirs}.norm1")
            norm(f"{ours}/norm2", f"{theirs}.norm2")
            dense(f"{ours}/attn/qkv", f"{theirs}.attn.qkv")
            dense(f"{ours}/attn/proj", f"{theirs}.attn.proj")
            table = "attn/relative_position_bias_table"
            names[f"params/{ours}/{table}"] = (f"{theirs}.{table.replace('/', '.')}", "same")
            dense(f"{ours}/fc1", f"{theirs}.mlp.fc1")
            dense(f"{ours}/fc2", f"{theirs}.mlp.fc2")
        if stage + 1 < len(module.depths):
            norm(f"stage{stage}_merge_norm", f"layers.{stage}.downsample.norm")
            dense(f"stage{stage}_merge", f"layers.{stage}.downsample.reduction", bias=False)
    norm("norm", "norm")
    if module.embedding:
        for i in (0, 2):
            dense(f"feature_{i}", f"feature.{i}", bias=False)
            norm(f"feature_{i + 1}", f"feature.{i + 1}")
            for ours, theirs in (("mean", "running_mean"), ("var", "running_var")):
                path = f"batch_stats/feature_{i + 1}/{ours}"
                names[path] = (f"feature.{i + 1}.{theirs}", "same")
    return names
