"""Face parsing: one class per pixel, by a light decoder on the backbone's map."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench.errors import UsageError
from facebench.losses import classification as losses
from facebench.losses.landmarks import masked_mean
from facebench.tasks import Spec, Task

Array = jax.Array


class ParsingNet(nn.Module):
    """A backbone and a decoder: the map is doubled and convolved up to half the crop's size.

    Classes are then told apart by a linear layer at each place, and its logits are brought to the
    crop's size bilinearly: the full resolution, which costs most, is interpolated.

    Attributes:
        backbone: gives the map; one of stride 4 to 8 suits small crops.
        classes: number of classes C, the background included.
        size: side of the crop S in pixels.
        width: channels of the decoder.
    """

    backbone: nn.Module
    classes: int
    size: int
    width: int = 48

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """{"logits": [B, S, S, C] float32} from image [B, S, S, 3] in [-1, 1]."""
        x = self.backbone(image, train=train)["spatial"]
        x = nn.relu(self._convolution(x, "decode"))
        half = -(-self.size // 2)
        stage = 0
        while max(x.shape[1:3]) < half:
            h, w = (min(2 * side, half) for side in x.shape[1:3])
            x = jax.image.resize(x, (x.shape[0], h, w, x.shape[3]), "bilinear")
            stage += 1
            x = nn.relu(self._convolution(x, f"decode{stage}"))
        x = nn.Dense(self.classes, name="head")(x)
        shape = (x.shape[0], self.size, self.size, self.classes)
        return {"logits": jax.image.resize(x, shape, "bilinear")}

    def _convolution(self, x: Array, name: str) -> Array:
        return nn.Conv(self.width, (3, 3), kernel_init=nn.initializers.he_normal(), name=name)(x)


class Parsing(Task):
    """The class of every pixel of the crop.

    Batches hold ``parse`` [B, S, S] whole numbers, of the crop: 0 is the background, and a number
    outside 0..C-1 (255, say) marks a pixel without label. Predictions are ``parse`` [B, S, S]
    uint8, of the crop.
    """

    fields = ("parse",)

    def __init__(self, spec: Spec, width: int = 48) -> None:
        """Checks and keeps the configuration.

        Args:
            spec: `size` and `classes` (at least 2, the background included) are needed.
            width: channels of the decoder.

        Raises:
            UsageError: `width` is below 1, or there are more classes than a byte can name.
            FacebenchError: fewer than 2 classes.
        """
        super().__init__(spec)
        spec.require("parsing", size=2, classes=2)
        if width < 1:
            raise UsageError(f"width is {width}, expected at least 1")
        if spec.classes > 255:
            raise UsageError(f"task 'parsing': {spec.classes} classes, expected at most 255")
        self.width = width

    def module(self, backbone: nn.Module) -> ParsingNet:
        """The backbone and the decoder, `ParsingNet`."""
        return ParsingNet(backbone, self.spec.classes, self.spec.size, self.width)

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Softmax cross-entropy, mean over labelled pixels; logs ``pixel_accuracy`` over them."""
        logits, label = outputs["logits"], batch["parse"].astype(jnp.int32)
        right = (jnp.argmax(logits, axis=-1) == label).astype(jnp.float32)
        known = ((label >= 0) & (label < self.spec.classes)).astype(jnp.float32)
        rows = (label.shape[0], -1)
        accuracy = masked_mean(right.reshape(rows), known.reshape(rows))
        return losses.pixel_cross_entropy(logits, label), {"pixel_accuracy": accuracy}

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``parse`` [B, S, S] uint8, the most probable class; of equal ones the first."""
        return {"parse": jnp.argmax(outputs["logits"], axis=-1).astype(jnp.uint8)}
