"""How arrays lie on devices: one mesh, a short list of rules, and two ways to run one step.

The mesh has the axes ``data``, ``fsdp`` and ``model``. A batch is cut over ``data`` and ``fsdp``;
parameters are replicated, but for those that a rule cuts and, where ``fsdp`` is larger than 1,
large arrays, which are cut along their largest axis that divides.

``jit`` compiles one program over the whole mesh: batch statistics and losses are those of the
global batch. ``pmap`` runs one program per device, which sees its part of the batch; the step
then sums over the axis ``data`` by name, and batch norm does so through its ``axis_name``.
"""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from facebench.errors import UsageError

AXES = ("data", "fsdp", "model")
PMAP_AXIS = "data"

# Parameter names (regular expressions on "a/b/c") and how their axes lie on the mesh: the first
# that divides. The class weights of recognition are [features, classes]: they are cut by class, and
# over all devices, since each computes its classes for the whole batch. Over `model` alone the
# devices along that axis would repeat one another's work in the rest of the network.
RULES: tuple[tuple[str, tuple[P, ...]], ...] = (
    (r"(^|/)classifier/kernel$", (P(None, AXES), P(None, "model"))),
)

# Below this many elements an array is not worth cutting over `fsdp`.
FSDP_MIN_SIZE = 2**14

# From this many elements on, an array that no rule could cut is told of: 64 MiB of float32.
TELL_SIZE = 2**24


def make_mesh(shape: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of the devices there are.

    Args:
        shape: size of each axis; one of them may be -1 and takes what is left.
        devices: default all.

    Raises:
        UsageError: the sizes do not multiply to the number of devices.
    """
    devices = list(devices if devices is not None else jax.devices())
    sizes = [int(shape[axis]) for axis in AXES]
    said = ", ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes))
    free = [i for i, size in enumerate(sizes) if size == -1]
    fixed = int(np.prod([size for size in sizes if size != -1]))
    if len(free) == 1 and fixed > 0 and len(devices) % fixed == 0:
        sizes[free[0]] = len(devices) // fixed
    if any(size < 1 for size in sizes) or int(np.prod(sizes)) != len(devices):
        raise UsageError(
            f"config.execution.mesh ({said}) does not fit {len(devices)} devices: the sizes must "
            "multiply to that number, and one of them may be -1"
        )
    return jax.make_mesh(
        tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
    )


def leaf_name(path: Any) -> str:
    """A leaf's name in a tree, as rules see it: ``params/backbone/stem/kernel``."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def _parts(axis: Any, mesh: Mesh) -> int:
    names = (axis,) if isinstance(axis, str) else axis or ()
    return math.prod(mesh.shape[name] for name in names)


def spec_of(name: str, shape: Sequence[int], mesh: Mesh) -> P:
    """Where an array of this name and shape lies.

    A rule's array whose size divides in none of the rule's ways is replicated; a large one with a
    warning.
    """
    axes: list[Any] = [None] * len(shape)
    ways = next((w for pattern, w in RULES if re.search(pattern, name)), ())
    ways = tuple(way for way in ways if len(way) == len(shape))
    for way in ways:
        parts = [_parts(axis, mesh) for axis in way]
        if max(parts) > 1 and all(size % n == 0 for size, n in zip(shape, parts)):
            axes = list(way)
            break
    fsdp = mesh.shape["fsdp"]
    used = any("fsdp" in ((axis,) if isinstance(axis, str) else axis or ()) for axis in axes)
    if fsdp > 1 and not used and math.prod(shape) >= FSDP_MIN_SIZE:
        whole = [i for i, size in enumerate(shape) if axes[i] is None and size % fsdp == 0]
        if whole:
            axes[max(whole, key=lambda i: (shape[i], i))] = "fsdp"
    held = math.prod(shape) // math.prod(_parts(axis, mesh) for axis in axes)
    if ways and mesh.size > 1 and held == math.prod(shape) >= TELL_SIZE:
        warnings.warn(
            f"{name} {tuple(shape)} divides over none of the mesh's axes "
            f"({', '.join(f'{axis}={mesh.shape[axis]}' for axis in AXES)}): every device holds all "
            "of it; use a number of devices that divides it",
            stacklevel=2,
        )
    return P(*axes)


def shardings(tree: Any, mesh: Mesh) -> Any:
    """A NamedSharding for every array (or shape) of a tree, by the rules."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, spec_of(leaf_name(path), leaf.shape, mesh)), tree
    )


@dataclasses.dataclass(frozen=True)
class Partition:
    """One way to run a step on a mesh: ``jit`` or ``pmap``.

    Attributes:
        mesh: the devices.
        kind: ``"jit"`` or ``"pmap"``.
    """

    mesh: Mesh
    kind: str = "jit"

    def __post_init__(self) -> None:
        if self.kind == "pmap" and self.mesh.shape["data"] != self.mesh.size:
            raise UsageError(
                "config.execution.partition='pmap' is plain data parallelism: set "
                "config.execution.mesh.fsdp and .model to 1, or use partition='jit'"
            )

    @property
    def axis_name(self) -> str | None:
        """The axis that a step sums over by name: None under ``jit``, where sums are global."""
        return PMAP_AXIS if self.kind == "pmap" else None

    @property
    def batch_parts(self) -> int:
        """Into how many parts a batch is cut."""
        return self.mesh.shape["data"] * self.mesh.shape["fsdp"]

    def check_batch(self, size: int, accumulate: int, what: str) -> None:
        """Refuses a batch that does not divide over the devices.

        Raises:
            UsageError: it names the size, the devices, and the nearest sizes that divide.
        """
        unit = self.batch_parts * accumulate
        if size % unit:
            near = sorted({max(size // unit, 1) * unit, (size // unit + 1) * unit})
            parts = f" in {accumulate} accumulated parts" if accumulate > 1 else ""
            raise UsageError(
                f"{what} is {size}, which does not divide over {self.batch_parts} devices{parts}; "
                f"use {' or '.join(map(str, near))}"
            )

    @property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    def init(self, create: Callable[[jax.Array], Any], key: jax.Array) -> Callable[..., Any]:
        """Compiles ``create(key)`` so that its arrays are made where they belong."""
        shapes = jax.eval_shape(create, key)
        # On the CPU nearly all of the time goes into optimising code that runs once.
        options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        return jax.jit(create, out_shardings=self.state_shardings(shapes), compiler_options=options)

    def state_shardings(self, state: Any) -> Any:
        """Where a state's arrays lie (under ``pmap``: replicated)."""
        if self.kind == "pmap":
            return jax.tree.map(lambda _: self._replicated, state)
        return shardings(state, self.mesh)

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Puts this process's part of a batch [B, ...] on its devices."""
        spec = NamedSharding(self.mesh, P(("data", "fsdp")))
        return {
            name: jax.make_array_from_process_local_data(spec, value)
            for name, value in batch.items()
        }

    def train_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles ``step(state, batch, key) -> (state, metrics)``; the old state is given up.

        Under ``jit`` the step is traced in the context of the mesh, where a part of it that is
        written per device (``jax.shard_map``) finds it.
        """
        if self.kind == "jit":

            def placed(*args: Any) -> Any:
                with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
                    return step(*args)

            return jax.jit(placed, donate_argnums=0)
        return self._pmapped(step, (None, 0, None), (None, None))

    def predict_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles ``step(variables, batch) -> outputs``."""
        if self.kind == "jit":
            return jax.jit(step, out_shardings=self._replicated)
        return self._pmapped(step, (None, 0), 0)

    def _pmapped(self, step: Callable[..., Any], ins: Any, outs: Any) -> Callable[..., Any]:
        """`step` under pmap, with whole batches outside and [devices, B / devices] inside."""
        parts = self.mesh.size
        mapped = jax.pmap(
            step, PMAP_AXIS, in_axes=ins, out_axes=outs, devices=list(self.mesh.devices.flat)
        )

        def cut(x: jax.Array) -> jax.Array:
            return x.reshape(parts, x.shape[0] // parts, *x.shape[1:])

        def call(*args: Any) -> Any:
            args = tuple(jax.tree.map(cut, a) if axis == 0 else a for a, axis in zip(args, ins))
            result = mapped(*args)
            if outs == 0:
                return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), result)
            return result

        return call
