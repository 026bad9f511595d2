"""Tasks: what is predicted from a backbone's features. One file per task.

A task is a head, a loss and what is stored. It subclasses `Task` and gives three methods:

    class Yaw(Task):
        fields = ("yaw",)                  # what of the dataset the loss reads

        def __init__(self, spec: Spec, scale: float = 1.0):     # keywords: config.task
            super().__init__(spec)
            self.scale = scale

        def module(self, backbone):        # Flax module(image, *, train) -> dict of outputs
            return YawNet(backbone)

        def loss(self, outputs, batch):    # per example [B] float32, and scalars to log, each [B]
            error = outputs["yaw"] - batch["yaw"]
            return self.scale * error**2, {"absolute_error": abs(error)}

        def predict(self, outputs, batch): # what is stored and scored, each [B, ...]
            return {"yaw": outputs["yaw"]}

Everything is per example: the loop means over the examples whose ``mask`` is 1, and a padded
example must change no other example's number (in eval mode, where batch norm is frozen). `loss` and
`predict` are traced by JAX: pure functions of their arguments, no branching on array values.
`predict` gets no labels: its batch holds ``image``, ``mask``, ``index`` and ``to_image``.

Labels are the dataset's fields of that name, but for those that follow from the subset:
``identity`` [B], the sample's unit as its place among the training units, and ``positive_rate``
[B, A], in every row the share of the known training labels that say the action unit is there.

A head computes in float32 and reads the backbone through `facebench.models.features`. If it has
batch norm it hands `Spec.axis_name` on, so that the statistics mean the same under ``pmap``. A
config names a task by a name of `BUILT_IN`, ``package.module:Class`` or ``folder/file.py:Class``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facebench import plugins
from facebench.errors import FacebenchError

if TYPE_CHECKING:  # The table of names below, and `scores`, are used without starting JAX.
    import jax
    from flax import linen as nn

BUILT_IN = {
    "action_unit_intensity": "facebench.tasks.action_units:ActionUnitIntensity",
    "action_units": "facebench.tasks.action_units:ActionUnits",
    "expression": "facebench.tasks.expression:Expression",
    "landmarks": "facebench.tasks.landmarks:Landmarks",
    "parsing": "facebench.tasks.parsing:Parsing",
    "recognition": "facebench.tasks.recognition:Recognition",
    "valence_arousal": "facebench.tasks.valence_arousal:ValenceArousal",
}


#: FACS grade B: the intensity from which an action unit counts as there, where no protocol says it.
OCCURS = 0.4


@dataclasses.dataclass(frozen=True)
class Spec:
    """What the data and the run tell a task.

    Attributes:
        size: side of the crop in pixels.
        points: number of landmarks K; 0 where there are none.
        classes: number of classes C: training identities, expressions, or classes of the parse
            mask with the background; 0 where there are none.
        class_names: of the classes, in their order, where the dataset names them.
        axis_name: the mapped axis to average batch statistics over (under ``pmap``), or None.
        action_units: FACS numbers of the action units that are labelled, in their order.
        occurs: intensity in [0, 1] from which an action unit counts as there.
        identities: number of training units, where the task reads `identity`; else 0.
    """

    size: int
    points: int = 0
    classes: int = 0
    class_names: tuple[str, ...] = ()
    axis_name: str | None = None
    action_units: tuple[int, ...] = ()
    occurs: float = OCCURS
    identities: int = 0

    def require(self, task: str, **least: int) -> None:
        """Refuses a spec whose fields are below what a task needs.

        Raises:
            FacebenchError: names the task, the field, what was found and what was expected.
        """
        for field, value in least.items():
            found = getattr(self, field)
            if found < value:
                raise FacebenchError(
                    f"task {task!r}: {field} is {found}, expected at least {value}; "
                    f"does this dataset carry what the task learns from?"
                )


class Task:
    """Base of all tasks; the page above is its contract.

    Attributes:
        fields: what the loss reads of a training batch, beside ``image`` and ``mask``; where that
            depends on the keywords, `reads` says it before there is a task, and the task itself.
        module_reads: which of these (or ``mask``) the module too is called with while training, by
            keyword: for statistics that a loss carries from batch to batch. Seldom needed.
        spec: what the data and the run tell.
    """

    fields: tuple[str, ...] = ()
    module_reads: tuple[str, ...] = ()

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    @classmethod
    def reads(cls, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """The `fields` of the task that these keywords make."""
        return cls.fields

    def module(self, backbone: nn.Module) -> nn.Module:
        """The network to train: the backbone, as submodule ``backbone``, and the task's head."""
        raise NotImplementedError(f"{type(self).__name__} defines no module(backbone)")

    def loss(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss per example [B] float32, and per-example scalars [B] to log, by name."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss(outputs, batch)")

    def predict(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """What is stored and scored of each example, [B, ...] by name; sees no labels."""
        raise NotImplementedError(f"{type(self).__name__} defines no predict(outputs, batch)")

    def after_step(self, state: Any) -> Any:
        """The training state after the optimizer's update; by default as it is."""
        return state


def build(
    name: str, spec: Spec, kwargs: Mapping[str, Any] | None = None, root: Path | None = None
) -> Task:
    """The task that a config names.

    Args:
        name: a name of `BUILT_IN`, ``package.module:Class`` or ``folder/file.py:Class``.
        spec: what the data and the run tell.
        kwargs: the task's keywords.
        root: the folder that paths of files start from.

    Raises:
        UsageError: an unknown name or keyword; the nearest are given.
    """
    target = plugins.resolve(name, "task", BUILT_IN, root)
    return plugins.build(target, "task", kwargs or {}, spec)
