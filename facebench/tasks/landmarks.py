"""Landmarks by coordinate regression: one linear layer from features to 2K numbers."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench import models
from facebench.errors import UsageError, nearest
from facebench.losses import landmarks as losses
from facebench.tasks import Spec, Task

Array = jax.Array

#: Parameters of the losses in normalised units, where the crop is [-1, 1]: the Wing paper's 10 and
#: 2 px of a 256 px crop, and a smooth L1 that is linear beyond .64 px of a 128 px crop.
_DEFAULTS = {"wing": {"w": 10 / 128, "epsilon": 2 / 128}, "smooth_l1": {"beta": 0.01}}


class LandmarkNet(nn.Module):
    """A backbone and a linear layer to coordinates.

    The map enters the layer divided by its number of positions: equal weights at all positions are
    then the same layer on the pooled features, and learn at the same rate. The layer starts at
    zero, that is with all points at the centre of the crop. Without these two, a few hundred steps
    of Adam end at nearly twice the error.

    Attributes:
        backbone: gives the features.
        points: number of points K.
        size: side of the crop in pixels.
        features: what the layer reads, see `facebench.models.features`.
        dropout: rate of the dropout on the features, while training.
    """

    backbone: nn.Module
    points: int
    size: int
    features: str = "spatial"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """{"points": [B, K, 2] float32, pixels of the crop} from image [B, S, S, 3] in [-1, 1]."""
        outputs = self.backbone(image, train=train)
        h, w = outputs["spatial"].shape[1:3]
        x = models.features({**outputs, "spatial": outputs["spatial"] / (h * w)}, self.features)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        head = nn.Dense(2 * self.points, kernel_init=nn.initializers.zeros_init(), name="head")
        x = head(x).reshape(-1, self.points, 2)
        return {"points": (x + 1.0) * ((self.size - 1) / 2)}


class Landmarks(Task):
    """K points of a face by coordinate regression.

    The network works in coordinates where the centres of the crop's first and last pixel are -1 and
    1, and the loss is measured in them, so that a learning rate suits every crop size.

    Batches hold ``points`` [B, K, 2] in crop pixels and ``visible`` [B, K]; predictions are
    ``points`` [B, K, 2] in pixels of the original image.
    """

    fields = ("points", "visible")

    def __init__(
        self,
        spec: Spec,
        features: str = "spatial",
        loss: str = "l1",
        dropout: float = 0.0,
        w: float | None = None,
        epsilon: float | None = None,
        beta: float | None = None,
    ) -> None:
        """Checks and keeps the configuration.

        Args:
            spec: `size` and `points` are needed.
            features: ``spatial`` (the map, flattened: it keeps where things are, and regresses
                better), ``pooled`` or ``both``.
            loss: ``l1``, ``l2``, ``smooth_l1`` or ``wing``, see `facebench.losses.landmarks`.
            dropout: rate of the dropout on the features.
            w: of ``wing``, in half crop sides; 10 / 128 by default.
            epsilon: of ``wing``, in half crop sides; 2 / 128 by default.
            beta: of ``smooth_l1``, in half crop sides; .01 by default.

        Raises:
            UsageError: an unknown loss, features or a parameter that the loss does not have.
            FacebenchError: the data has no points, or the crop is below 2 px.
        """
        super().__init__(spec)
        spec.require("landmarks", size=2, points=1)
        if features not in models.FEATURES:
            raise UsageError(f"features is {features!r}: {nearest(features, models.FEATURES)}")
        given = {"w": w, "epsilon": epsilon, "beta": beta}
        parameters = _DEFAULTS.get(loss, {}) | {k: v for k, v in given.items() if v is not None}
        losses.point_loss(loss, **parameters)
        self.features = features
        self.dropout = dropout
        self._loss = loss
        self._parameters = parameters

    def module(self, backbone: nn.Module) -> LandmarkNet:
        """The backbone and the head, `LandmarkNet`."""
        return LandmarkNet(
            backbone, self.spec.points, self.spec.size, self.features, dropout=self.dropout
        )

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """The point loss in normalised units, and ``pixel_error``, the mean distance in crop px.

        Both are over the visible points of an example, and 0 where there are none.
        """
        scale = 2.0 / (self.spec.size - 1)
        points, target, visible = outputs["points"], batch["points"], batch["visible"]
        loss = losses.points_loss(
            points * scale, target * scale, visible, self._loss, **self._parameters
        )
        gap = jnp.where(visible[..., None] > 0, points - target, 0.0)
        distance = jnp.sqrt(jnp.square(jax.lax.stop_gradient(gap)).sum(-1))
        return loss, {"pixel_error": losses.masked_mean(distance, visible)}

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """Points in the original image, by ``to_image`` [B, 2, 3] (crop px to image px)."""
        return {"points": apply_affine(batch["to_image"], outputs["points"])}


def apply_affine(matrix: Array, points: Array) -> Array:
    """Points moved by one 2 x 3 matrix per example, in float32.

    Written as sums of products: a matrix product would be rounded to TF32 or bfloat16 by default on
    accelerators, which is pixels in a large image.

    Args:
        matrix: [B, 2, 3], (x', y') = matrix @ (x, y, 1).
        points: [B, K, 2].

    Returns:
        [B, K, 2] float32.
    """
    a = matrix.astype(jnp.float32)[:, None]  # [B, 1, 2, 3]
    p = points.astype(jnp.float32)
    return a[..., 0] * p[..., :1] + a[..., 1] * p[..., 1:] + a[..., 2]
