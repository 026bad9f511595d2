"""The backbone of an experiment: built as its config says, and read where it is frozen.

Its weights are the stored ones that the config names, or else those of the trial's seed. Frozen, it
turns images into features in eval mode, by one compiled program; a probe that is given features
never sees a pixel. A training of the same config and seed starts from the very same weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from facebench import digest, models, plugins
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.models import stored
from facebench.train import checkpoint
from facebench.train.partition import Partition
from facebench.train.step import normalize

Batch = Mapping[str, np.ndarray]


def build(
    model: Mapping[str, Any], precision: str, size: int, axis_name: str | None, root: Path
) -> nn.Module:
    """The backbone that a config names.

    Args:
        model: ``config.model``.
        precision: ``config.train.precision``.
        size: side of the crop in pixels.
        axis_name: the mapped axis of the batch, under ``pmap``.
        root: the folder that paths of files start from.

    Raises:
        UsageError: a name or keyword, or the backbone cannot compute so.
        FacebenchError: it does not keep the contract of `facebench.models`.
    """
    kwargs = dict(model)
    name = kwargs.pop("build")
    kwargs.pop("weights", None)  # where its variables come from, no field of it
    target = plugins.resolve(name, "model", models.BUILT_IN, root)
    takes = plugins.parameters(target)
    for reserved in ("dtype", "axis_name"):
        if reserved in kwargs:
            raise UsageError(
                f"config.model.{reserved} is set by the run; choose precision by "
                "config.train.precision"
            )
    if "dtype" in takes:
        kwargs["dtype"] = jnp.dtype(precision)
    elif precision != "float32":
        raise UsageError(f"model {name} has no field 'dtype': it cannot compute in bfloat16")
    if "axis_name" in takes:
        kwargs["axis_name"] = axis_name
    backbone = models.build(name, kwargs, root)
    models.check_backbone(backbone, size)
    if axis_name and "axis_name" not in takes:
        _, variables = models.shapes(backbone, size)
        if "batch_stats" in variables:
            raise UsageError(
                f"model {name} has batch norm and no field 'axis_name' to hand to it: under "
                "config.execution.partition='pmap' each device would use its own statistics, "
                "and the results would differ; add the field, or use 'jit'"
            )
    return backbone


@dataclasses.dataclass(frozen=True)
class Weights:
    """A backbone's variables, and what they were when it was made.

    Attributes:
        variables: as ``module.apply`` takes them.
        digest: of them, batch statistics included.
    """

    variables: Any
    digest: str

    @property
    def parameters(self) -> int:
        """How many parameters there are."""
        return models.parameter_count(self.variables["params"])

    def untouched(self) -> str:
        """The digest, held against what the variables are now: frozen means frozen.

        Raises:
            FacebenchError: they are others.
        """
        if (after := checkpoint.params_digest(self.variables)) != self.digest:
            raise FacebenchError(
                f"the frozen backbone changed while its features were read: {self.digest} before, "
                f"{after} after; nothing of this trial is kept"
            )
        return self.digest


def stored_weights(path: Path, backbone: nn.Module, size: int) -> Weights:
    """The weights that ``config.model.weights`` names, as arrays of this process.

    The name of the file is part of a trial's identity, and so it must tell the weights.

    Args:
        path: a file of `facebench.models.stored`.
        backbone: the unbound backbone that gets them.
        size: side of the crop in pixels.

    Raises:
        FacebenchError: there is no such file, it was changed, it is of another backbone, or its
            name does not end in the digest of its weights.
    """
    if not path.is_file():
        raise FacebenchError(
            f"config.model.weights: {path}: no such file; it is looked for from the workspace's "
            "folder on. A trial's backbone becomes one by `facebench convert --trial=FOLDER "
            "--output=weights`, a published checkpoint by `facebench convert CHECKPOINT ...`"
        )
    found = stored.load(path, backbone, size)
    if not digest.named_in(path.name, found.header["weights"]):
        short = digest.short(found.header["weights"])
        raise FacebenchError(
            f"config.model.weights: {path}: its name must end in the digest of its weights, so "
            f"that a trial names what it read: rename it to NAME-{short}{path.suffix}"
        )
    return Weights(found.variables, found.header["weights"])


class _Alone(nn.Module):
    """A backbone under the name that tasks give it: parameters are drawn by their names."""

    backbone: nn.Module

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> Any:
        return self.backbone(image, train=train)


class Frozen:
    """A backbone that is read and never trained; trials that differ in seed share its programs.

    Args:
        backbone: a Flax module of the contract of `facebench.models`.
        which: what is read of it, see `facebench.models.features`.
        size: side of the crop in pixels.
        batch_size: images at a time, rounded up to what the devices share evenly.
        partition: where it is computed.
        weights: a file of `facebench.models.stored`; None for those that a seed draws.

    Attributes:
        rows: images at a time.

    Raises:
        UsageError: `which` is none of `facebench.models.FEATURES`.
        FacebenchError: see `stored_weights`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        which: str,
        size: int,
        batch_size: int,
        partition: Partition,
        weights: Path | None = None,
    ):
        if which not in models.FEATURES:
            raise UsageError(
                f"config.probe.features is {which!r}: {nearest(str(which), models.FEATURES)}"
            )
        unit = partition.batch_parts
        self.rows = -(-batch_size // unit) * unit
        self._partition = partition
        self._stored = None if weights is None else self._placed(weights, backbone, size)

        def create(key: jax.Array) -> Any:
            image = jnp.zeros((2, size, size, 3), jnp.float32)
            parameters, dropout = jax.random.split(key)  # as facebench.train.state.create
            rngs = {"params": parameters, "dropout": dropout}
            made = _Alone(backbone).init(rngs, image, train=True)
            return {name: tree["backbone"] for name, tree in made.items()}

        def look(variables: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
            outputs: Any = backbone.apply(variables, normalize(batch["image"]), train=False)
            return models.features(outputs, which)

        self._init = partition.init(create, jax.random.key(0))
        self._look = partition.predict_step(look)

    def _placed(self, path: Path, backbone: nn.Module, size: int) -> Weights:
        found = stored_weights(path, backbone, size)
        shapes = jax.eval_shape(lambda: found.variables)
        lie = self._partition.state_shardings(shapes)
        return Weights(jax.tree.map(jax.device_put, found.variables, lie), found.digest)

    def initial(self, seed: int) -> Weights:
        """The backbone's variables: the stored ones, or those that a seed draws."""
        if self._stored is not None:
            return self._stored
        variables = self._init(jax.random.key(seed))
        return Weights(variables, checkpoint.params_digest(variables))

    def read(self, variables: Any, batches: Iterator[Batch]) -> Iterator[dict[str, np.ndarray]]:
        """The batches with ``features`` [B, F] float32 in the place of ``image``.

        Args:
            variables: of the backbone.
            batches: of `rows` images at most; a smaller one is padded, which changes no other row.
        """
        for batch in batches:
            image = np.asarray(batch["image"])
            padded = image[np.minimum(np.arange(self.rows), len(image) - 1)]
            found = self._look(variables, self._partition.put_batch({"image": padded}))
            rest = {name: value for name, value in batch.items() if name != "image"}
            yield rest | {"features": np.asarray(jax.device_get(found))[: len(image)]}
