"""Action units: which are there (a sigmoid each), and how strong (regression), by a linear layer.

Both read ``au`` [B, A], the intensity of each action unit on a scale where the FACS grades A to E
stand at 0.2, 0.4, 0.6, 0.8 and 1; a number outside [0, 1] (-1 and 9 are customary) is unknown.
Occurrence means grade B or more, intensity >= 0.4 unless `Spec.occurs` says otherwise: the rule by
which DISFA's grades 0 to 5 are made binary (2 or more). Labels that are binary already read the
same: 0, 1, and unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from facebench import models
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.losses import classification as losses
from facebench.losses.landmarks import masked_mean
from facebench.tasks import Spec, Task
from facebench.tasks.linear import LinearNet

Array = jax.Array


class _ActionUnitTask(Task):
    fields = ("au",)
    _name = ""
    _key = ""

    def __init__(
        self,
        spec: Spec,
        au: Sequence[int] | None = None,
        features: str = "spatial",
        dropout: float = 0.0,
    ) -> None:
        """Checks and keeps the configuration.

        Args:
            spec: `action_units` is needed: the FACS number of each column of ``au``.
            au: FACS numbers of the action units to predict, in that order; all by default.
            features: ``spatial`` (an action unit is a change at a place), ``pooled`` or ``both``.
            dropout: rate of the dropout on the features.

        Raises:
            UsageError: unknown features, or an action unit that the data does not label.
            FacebenchError: the data has no action units.
        """
        super().__init__(spec)
        spec.require(self._name, size=1)
        if not spec.action_units:
            raise FacebenchError(f"task {self._name!r}: the data labels no action units")
        if features not in models.FEATURES:
            raise UsageError(f"features is {features!r}: {nearest(features, models.FEATURES)}")
        self.au = spec.action_units if au is None else tuple(au)
        for number in self.au:
            if number not in spec.action_units:
                known = ", ".join(map(str, spec.action_units))
                raise UsageError(f"au {number} is not labelled by the data; there are: {known}")
        if not self.au or len(set(self.au)) < len(self.au):
            raise UsageError(f"au is {list(self.au)}, expected FACS numbers, each once")
        self._columns = np.array([spec.action_units.index(number) for number in self.au])
        self.features = features
        self.dropout = dropout

    def module(self, backbone: nn.Module) -> LinearNet:
        """The backbone and the head, `facebench.tasks.linear.LinearNet`."""
        return LinearNet(backbone, len(self.au), self._key, self.features, self.dropout)

    def _labels(self, batch: Mapping[str, Array]) -> tuple[Array, Array]:
        """Intensities [B, A] of the chosen action units, and which of them are known."""
        au = batch["au"][:, self._columns].astype(jnp.float32)
        return au, (au >= 0) & (au <= 1)  # NaN is unknown, too


class ActionUnits(_ActionUnitTask):
    """Whether each action unit is there; predictions are ``probability`` [B, A]."""

    _name = "action_units"
    _key = "logits"

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Binary cross-entropy, mean over the known action units; logs ``accuracy`` over them."""
        au, known = self._labels(batch)
        there = au >= self.spec.occurs
        right = ((outputs["logits"] >= 0) == there).astype(jnp.float32)
        loss = losses.binary_cross_entropy(outputs["logits"], there, known)
        return loss, {"accuracy": masked_mean(right, known.astype(jnp.float32))}

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``probability`` [B, A] float32."""
        return {"probability": jax.nn.sigmoid(outputs["logits"].astype(jnp.float32))}


class ActionUnitIntensity(_ActionUnitTask):
    """How strong each action unit is; predictions are ``intensity`` [B, A] in [0, 1]."""

    _name = "action_unit_intensity"
    _key = "intensity"

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Squared error, mean over the known action units; logs ``absolute_error``."""
        au, known = self._labels(batch)
        error = jnp.where(known, jnp.abs(jax.lax.stop_gradient(outputs["intensity"]) - au), 0.0)
        loss = losses.squared_error(outputs["intensity"], au, known)
        return loss, {"absolute_error": masked_mean(error, known.astype(jnp.float32))}

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``intensity`` [B, A] float32: the output of the linear layer, cut to [0, 1]."""
        return {"intensity": jnp.clip(outputs["intensity"].astype(jnp.float32), 0.0, 1.0)}
