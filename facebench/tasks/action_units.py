"""Action units: which are there (a sigmoid each), and how strong (regression), by a linear layer.

Both read ``au`` [B, A], the intensity of each action unit on a scale where the FACS grades A to E
stand at 0.2, 0.4, 0.6, 0.8 and 1; a number outside [0, 1] (-1 and 9 are customary) is unknown.
Occurrence means grade B or more, intensity >= 0.4 unless `Spec.occurs` says otherwise: the rule by
which DISFA's grades 0 to 5 are made binary (2 or more). Labels that are binary already read the
same: 0, 1, and unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from facebench import models
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.losses import action_units as losses
from facebench.losses import adversarial
from facebench.losses.classification import binary_cross_entropy, squared_error
from facebench.losses.landmarks import masked_mean
from facebench.tasks import Spec, Task
from facebench.tasks.graph import GraphHead
from facebench.tasks.linear import LinearNet

Array = jax.Array


class _ActionUnitTask(Task):
    fields: tuple[str, ...] = ("au",)
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

    def module(self, backbone: nn.Module) -> nn.Module:
        """The backbone and the head, `facebench.tasks.linear.LinearNet`."""
        return LinearNet(backbone, len(self.au), self._key, self.features, self.dropout)

    def _labels(self, batch: Mapping[str, Array]) -> tuple[Array, Array]:
        """Intensities [B, A] of the chosen action units, and which of them are known."""
        au = batch["au"][:, self._columns].astype(jnp.float32)
        return au, (au >= 0) & (au <= 1)  # NaN is unknown, too


class ActionUnitNet(nn.Module):
    """A backbone, a head of action units, and a linear head that says who is seen.

    Attributes:
        backbone: gives the features.
        outputs: how many action units.
        features: what the linear layers read, as in `facebench.tasks.linear.LinearNet`.
        dropout: rate of the dropout on what the linear head of action units reads.
        graph: whether action units are found by `facebench.tasks.graph.GraphHead`, of the map.
        neighbours: of the graph.
        nodes: features of its nodes.
        identities: how many people the identity head knows, which reads the same features; 0 for
            no such head.
        reversal: what the gradient of the identity head is multiplied with, and turned, on its way
            into the features.
        axis_name: the mapped axis to average batch statistics over, or None.
        columns: of the labels that the identity head is given, too; None for none of them.
        occurs: intensity from which such a label counts as there.
    """

    backbone: nn.Module
    outputs: int
    features: str = "spatial"
    dropout: float = 0.0
    graph: bool = False
    neighbours: int = 4
    nodes: int = 0
    identities: int = 0
    reversal: float = 0.0
    axis_name: str | None = None
    columns: tuple[int, ...] | None = None
    occurs: float = 0.0

    @nn.compact
    def __call__(self, image: Array, *, train: bool, au: Array | None = None) -> dict[str, Array]:
        """From image [B, S, S, 3]: ``logits``, or ``probability`` of a graph, [B, A]; ``identity``.

        ``identity`` is the logits of the people, [B, identities], where there are any. With
        `columns` their head reads, while training, these columns of the labels `au` [B, ...] too.
        """
        outputs = self.backbone(image, train=train)
        h, w = outputs["spatial"].shape[1:3]
        x = models.features({**outputs, "spatial": outputs["spatial"] / (h * w)}, self.features)
        zeros, made = nn.initializers.zeros_init(), {}
        if self.identities:
            turned = adversarial.gradient_reversal(x, self.reversal)
            if self.columns is not None:
                shown = jnp.zeros((x.shape[0], self.outputs), x.dtype)  # nothing is known
                if au is not None:
                    label = au[:, np.array(self.columns)]
                    sign = jnp.where(label >= self.occurs, 1.0, -1.0)
                    shown = jnp.where((label >= 0) & (label <= 1), sign, 0.0).astype(x.dtype)
                turned = jnp.concatenate([turned, shown], axis=1)
            made["identity"] = nn.Dense(self.identities, kernel_init=zeros, name="identity")(turned)
        if self.graph:
            head = GraphHead(self.outputs, self.nodes, self.neighbours, self.axis_name, name="head")
            return made | {"probability": head(outputs["spatial"], train=train)}
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return made | {"logits": nn.Dense(self.outputs, kernel_init=zeros, name="head")(x)}


class ActionUnits(_ActionUnitTask):
    """Whether each action unit is there; predictions are ``probability`` [B, A].

    With `adversary` the batches hold ``identity`` [B] too, and a linear head learns from the same
    features who is seen; its gradient is turned round on the way into them, so that they are driven
    to forget the person (identity adversarial training, Ning et al. 2024).
    """

    _name = "action_units"
    _key = "logits"

    def __init__(
        self,
        spec: Spec,
        au: Sequence[int] | None = None,
        features: str = "spatial",
        dropout: float = 0.0,
        loss: str = "bce",
        weights: str = "none",
        dice: float = 0.0,
        head: str = "linear",
        neighbours: int = 4,
        nodes: int = 0,
        adversary: float | None = None,
        identity_loss: str = "bce",
        conditional: bool = False,
    ) -> None:
        """Checks and keeps the configuration.

        Args:
            spec: `action_units` is needed; for an adversary `identities`.
            au: FACS numbers of the action units to predict, in that order; all by default.
            features: ``spatial`` (an action unit is a change at a place), ``pooled`` or ``both``;
                the identity head reads the same.
            dropout: rate of the dropout on the features.
            loss: ``bce``, or ``asymmetric``, `facebench.losses.action_units.asymmetric`.
            weights: ``none``, or ``inverse`` to how often an action unit is there in the training
                labels, `facebench.losses.action_units.inverse_weights`.
            dice: how much of `facebench.losses.action_units.dice` is added.
            head: ``linear``, or ``graph``, `facebench.tasks.graph.GraphHead` on the map.
            neighbours: of the graph.
            nodes: features of its nodes; 0 for a quarter of the map's.
            adversary: None for no identity head. Else how much of its gradient is turned against
                the features: 0 only watches how well the person can be read, and a negative number
                has the features help with it, as a second task. Nothing bounds how wrong the
                identity head can be made: where ``identity_loss`` rises above what a guess costs,
                the number is too large.
            identity_loss: ``bce`` or ``softmax``, `facebench.losses.adversarial.identity_loss`.
            conditional: whether the identity head is given the action units' labels beside the
                features (1 there, -1 not, 0 unknown). Where people have habits, action units tell
                who they are; so only what else tells it is driven out. Not in the paper.

        Raises:
            UsageError: unknown names, an action unit that the data does not label, numbers out of
                their range.
            FacebenchError: the data has no action units, or `spec` lacks what the keywords need.
        """
        super().__init__(spec, au, features, dropout)
        _one_of("loss", loss, ("bce", "asymmetric"))
        _one_of("weights", weights, ("none", "inverse"))
        _one_of("head", head, ("linear", "graph"))
        _one_of("identity_loss", identity_loss, adversarial.IDENTITY_LOSSES)
        if not dice >= 0:
            raise UsageError(f"dice is {dice}, expected a number from 0 on")
        if head == "graph" and not 1 <= neighbours <= len(self.au):
            raise UsageError(f"neighbours is {neighbours}, expected 1 to {len(self.au)}")
        if nodes < 0:
            raise UsageError(f"nodes is {nodes}, expected a number of features from 1 on, or 0")
        if adversary is not None:
            spec.require(self._name, identities=2)
        elif conditional:
            raise UsageError("conditional is about the adversary, and there is none: set both")
        self.module_reads = ("au",) if conditional else ()
        self.fields = self.reads({"weights": weights, "adversary": adversary})
        self._weights = weights == "inverse"
        self._loss, self._dice, self._graph = loss, dice, head == "graph"
        self._neighbours, self._nodes, self._adversary = neighbours, nodes, adversary
        self._identity_loss = identity_loss

    @classmethod
    def reads(cls, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """``au``; for weights ``positive_rate``, for an adversary ``identity``."""
        rate = ("positive_rate",) if kwargs.get("weights", "none") != "none" else ()
        return (*cls.fields, *rate, *(("identity",) if kwargs.get("adversary") is not None else ()))

    def module(self, backbone: nn.Module) -> nn.Module:
        """The backbone and its heads: `LinearNet`, or `ActionUnitNet` where there is more."""
        if self._adversary is None and not self._graph:
            return super().module(backbone)
        return ActionUnitNet(
            backbone,
            len(self.au),
            self.features,
            self.dropout,
            self._graph,
            self._neighbours,
            self._nodes,
            self.spec.identities if self._adversary is not None else 0,
            float(self._adversary or 0.0),
            self.spec.axis_name,
            tuple(self._columns.tolist()) if self.module_reads else None,
            self.spec.occurs,
        )

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """The loss over the known action units, and that of the identity head.

        Logs ``accuracy`` over the known action units at 0.5; with an identity head
        ``identity_loss``, which is part of the loss, and ``identity_accuracy``.
        """
        au, known = self._labels(batch)
        there = au >= self.spec.occurs
        said = outputs["probability"] >= 0.5 if self._graph else outputs["logits"] >= 0
        right = (said == there).astype(jnp.float32)
        loss = self._cost(outputs, there, known, batch)
        scalars = {"accuracy": masked_mean(right, known.astype(jnp.float32))}
        if self._adversary is None:
            return loss, scalars
        who = batch["identity"]
        wrong = adversarial.identity_loss(outputs["identity"], who, self._identity_loss)
        found = jnp.argmax(outputs["identity"], axis=1).astype(who.dtype) == who
        scalars |= {"identity_loss": wrong, "identity_accuracy": found.astype(jnp.float32)}
        return loss + wrong, scalars

    def _cost(
        self,
        outputs: Mapping[str, Array],
        there: Array,
        known: Array,
        batch: Mapping[str, Array],
    ) -> Array:
        if not (self._graph or self._dice or self._weights) and self._loss == "bce":
            return binary_cross_entropy(outputs["logits"], there, known)
        weight = None
        if self._weights:
            weight = losses.inverse_weights(batch["positive_rate"][:, self._columns])
        if self._graph:
            log_there, log_not = losses.of_probability(outputs["probability"])
        else:
            log_there, log_not = losses.of_logits(outputs["logits"])
        main = losses.asymmetric if self._loss == "asymmetric" else losses.cross_entropy
        cost = main(log_there, log_not, there, known, weight)
        if self._dice:
            cost = cost + self._dice * losses.dice(log_there, there, known, weight)
        return cost

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``probability`` [B, A] float32."""
        if self._graph:
            return {"probability": jnp.clip(outputs["probability"], 0.0, 1.0)}
        return {"probability": jax.nn.sigmoid(outputs["logits"].astype(jnp.float32))}


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name} is {value!r}: {nearest(value, known)}")


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
        loss = squared_error(outputs["intensity"], au, known)
        return loss, {"absolute_error": masked_mean(error, known.astype(jnp.float32))}

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``intensity`` [B, A] float32: the output of the linear layer, cut to [0, 1]."""
        return {"intensity": jnp.clip(outputs["intensity"].astype(jnp.float32), 0.0, 1.0)}
