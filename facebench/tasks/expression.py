"""Expression: one class per image, by a linear layer and a softmax.

What a network looks at is the mean over the channels of a feature map: its attention. Three options
are about it, and without them nothing of this is computed:

* ``cue``: attention is pulled to where the action units of the true class show on the face
  (`facebench.action_maps`, `facebench.losses.attention.alignment`).
* ``consistency``: the class maps of an image and of its mirror image are made to agree
  (`facebench.losses.attention.flip_consistency`).
* ``attention``: it is predicted too, so that the judge can say how well it is placed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from facebench import action_maps, models
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.losses import attention as looks
from facebench.losses import margin as losses
from facebench.tasks import Spec, Task
from facebench.tasks.linear import LinearNet

Array = jax.Array


class Expression(Task):
    """One of C expressions per face.

    Batches hold ``expression`` [B] whole numbers in 0..C-1, another one where it is unknown, and
    with `cue` ``points`` [B, 68, 2] in pixels of the crop, not finite where they are unknown;
    predictions are ``probability`` [B, C].
    """

    fields: tuple[str, ...] = ("expression",)

    def __init__(
        self,
        spec: Spec,
        features: str = "pooled",
        dropout: float = 0.0,
        smoothing: float = 0.0,
        cue: float = 0.0,
        cue_codebook: str = "corrected",
        cue_layer: str = "spatial",
        consistency: float = 0.0,
        attention: bool = False,
    ) -> None:
        """Checks and keeps the configuration.

        Args:
            spec: `classes` (at least 2) is needed: here the number of expressions; with `cue` also
                `points` (68) and `class_names`.
            features: ``pooled``, ``spatial`` or ``both``, see `facebench.models.features`.
            dropout: rate of the dropout on the features.
            smoothing: label smoothing.
            cue: weight of the alignment of the attention with the action units of the true class.
                An example costs no alignment if its class has none (neutral), its points are
                unknown or all of its units are outside of the crop.
            cue_codebook: which action units a class has, a name of `action_maps.CODEBOOKS`.
            cue_layer: the attention's feature map: an output [B, h, h, D] of the backbone.
            consistency: weight of the flip consistency. While training, the backbone then sees
                every batch twice, the second time mirrored.
            attention: whether ``attention`` [B, h, w] is predicted, see `predict`.

        Raises:
            UsageError: unknown features or codebook, a smoothing outside [0, 1), a negative weight,
                a class that the codebook does not have, a consistency of other features.
            FacebenchError: fewer than 2 classes, or no 68 points where there is a cue.
        """
        super().__init__(spec)
        spec.require("expression", size=1, classes=2)
        if features not in models.FEATURES:
            raise UsageError(f"features is {features!r}: {nearest(features, models.FEATURES)}")
        losses.check(smoothing=smoothing)
        for field, value in (("cue", cue), ("consistency", consistency)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"{field} is {value}, expected a weight of at least 0")
        if consistency and features != "pooled":
            raise UsageError(
                f"consistency compares class maps, the linear layer at each position of the map; "
                f"features is {features!r}, expected 'pooled'"
            )
        self.features = features
        self.dropout = dropout
        self.cue = cue
        self.cue_layer = cue_layer
        self.consistency = consistency
        self.attention = attention
        self._smoothing = smoothing
        self._codes = action_maps.codes(cue_codebook, spec.class_names if cue else ())
        if cue:
            self.fields = ("expression", "points")
            if spec.points != 68 or len(spec.class_names) != spec.classes:
                raise FacebenchError(
                    f"task 'expression': cue needs 68 points and the names of {spec.classes} "
                    f"classes, found {spec.points} points and {len(spec.class_names)} names"
                )

    @classmethod
    def reads(cls, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """``points`` too where there is a cue."""
        return (*cls.fields, "points") if kwargs.get("cue") else cls.fields

    def module(self, backbone: nn.Module) -> nn.Module:
        """The backbone and the head, `facebench.tasks.linear.LinearNet` or `LookingNet`."""
        if not (self.cue or self.consistency or self.attention):
            return LinearNet(
                backbone, self.spec.classes, features=self.features, dropout=self.dropout
            )
        return LookingNet(
            backbone,
            self.spec.classes,
            features=self.features,
            dropout=self.dropout,
            layer=self.cue_layer,
            twice=self.consistency > 0,
        )

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Softmax cross-entropy, 0 where the label is unknown, and what the options add.

        Logs ``accuracy``; with `cue` ``alignment`` and ``attention_cosine``, which count 0 for an
        example without a map; with `consistency` ``consistency``.
        """
        logits, label = outputs["logits"], batch["expression"]
        correct = jnp.argmax(logits, axis=1).astype(label.dtype) == label
        loss = losses.cross_entropy(logits, label, self._smoothing)
        scalars = {"accuracy": correct.astype(jnp.float32)}
        if self.cue:
            target, valid = self._target(label, batch["points"], outputs["attention"].shape[1])
            cost, cosine = looks.alignment(outputs["attention"], target, valid)
            scalars |= {"alignment": cost, "attention_cosine": cosine}
            loss = loss + self.cue * cost
        if self.consistency:
            apart = looks.flip_consistency(outputs["class_maps"], outputs["mirrored_maps"])
            scalars["consistency"] = apart
            loss = loss + self.consistency * apart
        return loss, scalars

    def _target(self, label: Array, points: Array, grid: int) -> tuple[Array, Array]:
        """Where the units of each label show, [B, g, g], and which examples [B] have any."""
        union = sorted({number for units in self._codes for number in units})
        has = np.array([[number in units for number in union] for units in self._codes], np.float32)
        known = (label >= 0) & (label < len(has))
        each = action_maps.maps(points, self.spec.size, grid, union, jnp)
        chosen = jnp.asarray(has)[jnp.where(known, label, 0)]
        target = (each * chosen[:, :, None, None]).max(1, initial=0)
        return target, known & (target.max((1, 2)) > 0)

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``probability`` [B, C] float32; where it is asked for, ``attention`` [B, h, w].

        Each attention is scaled from its own smallest and largest number to [0, 1]; one that is the
        same everywhere becomes zeros.
        """
        made = {"probability": jax.nn.softmax(outputs["logits"].astype(jnp.float32))}
        if self.attention:
            a = outputs["attention"]
            low, high = a.min((1, 2), keepdims=True), a.max((1, 2), keepdims=True)
            made["attention"] = (a - low) / jnp.where(high > low, high - low, 1)
        return made


class LookingNet(nn.Module):
    """A backbone and a linear layer, with what it looks at.

    Its parameters, and its logits, are those of `facebench.tasks.linear.LinearNet`.

    Attributes:
        backbone: gives the features.
        outputs: how many numbers.
        features: what the layer reads, see `facebench.models.features`.
        dropout: rate of the dropout on the features, while training.
        layer: the output [B, h, h, D] of the backbone whose mean over channels is the attention.
        twice: whether, while training, the class maps of the images and of their mirror images are
            given: the linear layer on each position of ``spatial``.
    """

    backbone: nn.Module
    outputs: int
    features: str = "pooled"
    dropout: float = 0.0
    layer: str = "spatial"
    twice: bool = False

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """``logits`` [B, outputs], ``attention`` [B, h, h], float32, and, where they are asked for,
        ``class_maps`` and ``mirrored_maps`` [B, h, w, outputs], from image [B, S, S, 3] in [-1, 1].

        Raises:
            UsageError: the backbone has no such layer, or it is no square map; ``spatial`` has not
                the channels of ``pooled``, and class maps are asked for.
        """
        seen = self.backbone(image, train=train)
        maps = {name: x.shape for name, x in seen.items() if x.ndim == 4}
        if self.layer not in maps:
            raise UsageError(f"cue_layer is {self.layer!r}: {nearest(self.layer, maps)}")
        if maps[self.layer][1] != maps[self.layer][2]:
            raise UsageError(
                f"cue_layer {self.layer!r} is a map of {maps[self.layer][1:3]}, expected a square"
            )
        h, w, depth = maps["spatial"][1:]
        head = nn.Dense(self.outputs, kernel_init=nn.initializers.zeros_init(), name="head")
        x = models.features({**seen, "spatial": seen["spatial"] / (h * w)}, self.features)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        made = {"logits": head(x), "attention": looks.attention(seen[self.layer])}
        if self.twice and train:
            if x.shape[1] != depth:
                raise UsageError(
                    f"consistency: 'spatial' has {depth} channels and 'pooled' {x.shape[1]}; the "
                    "linear layer cannot read both"
                )
            mirrored = self.backbone(image[:, :, ::-1], train=train)
            made["class_maps"] = head(seen["spatial"])
            made["mirrored_maps"] = head(mirrored["spatial"])
        return made
