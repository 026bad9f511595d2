"""The head of every task that predicts a few numbers per image: one linear layer."""

from __future__ import annotations

import jax
from flax import linen as nn

from facebench import models

Array = jax.Array


class LinearNet(nn.Module):
    """A backbone and a linear layer.

    As in `facebench.tasks.landmarks`, a map enters the layer divided by its number of positions,
    and the layer starts at zero: all classes are then equally likely.

    Attributes:
        backbone: gives the features.
        outputs: how many numbers.
        key: what the output is called.
        features: what the layer reads, see `facebench.models.features`.
        dropout: rate of the dropout on the features, while training.
    """

    backbone: nn.Module
    outputs: int
    key: str = "logits"
    features: str = "pooled"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """{key: [B, outputs] float32} from image [B, S, S, 3] in [-1, 1]."""
        outputs = self.backbone(image, train=train)
        h, w = outputs["spatial"].shape[1:3]
        x = models.features({**outputs, "spatial": outputs["spatial"] / (h * w)}, self.features)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return {
            self.key: nn.Dense(self.outputs, kernel_init=nn.initializers.zeros_init(), name="head")(
                x
            )
        }
