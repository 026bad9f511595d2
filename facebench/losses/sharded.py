"""Margin softmax over millions of classes, cut over devices.

Each device holds a part of the class centres, sees the embeddings of the whole batch and reduces
its own classes; what travels is the embeddings [B, d], a few numbers per example, and back the
gradient of the embeddings. Neither the centres nor their gradient are ever gathered (An et al.,
*Partial FC: Training 10 Million Identities on a Single Machine*, ICCVW 2021; *Killing Two Birds
with One Stone*, CVPR 2022).

Classes lie over all devices of the mesh, not over its axis ``model`` alone: a device then needs its
share of C and its share of the batch at once, and the backbone is data-parallel over all of them.
Over ``model`` alone the devices along that axis would compute the same backbone twice.

Cosines are made block by block of classes, once for the normaliser and again for the gradient
(which needs the finished normaliser), so that no [B, C / devices] array stands in memory; this
costs one more product of the three that a step needs, and saves several arrays of that size.

The loss of an example is log(exp(t) + sum_j exp(n_j)) - t, computed as softplus(log-sum-exp(n) - t)
with t = s margin(own cosine) and n_j = s others(cosine_j) over the other classes. The margin is a
plain function of one number per example, on the whole batch, outside of everything sharded.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from facebench.errors import UsageError

Array = jax.Array

#: Mesh axes that cut a batch, and those that may cut the classes: the first that divide are used.
BATCH = ("data", "fsdp")
CLASS_AXES = (("data", "fsdp", "model"), ("model",))

#: From this many classes on, the number of columns is rounded up to a multiple of `MULTIPLE`.
MANY, MULTIPLE = 2**14, 256

#: Cosines [B, block] made at a time, and the least classes, if the caller does not say: 4 MiB of
#: float32 stay in a processor's cache; far narrower products would waste an accelerator.
BLOCK, NARROWEST = 2**20, 4096

_LEAST = -1e30  # below every logit; finite, since inf - inf is not a number


class Softmax(NamedTuple):
    """What `margin_softmax` returns, each [B] float32.

    Attributes:
        loss: the cross-entropy in nats; 0 for an example without a class.
        own: cosine to the own class, without margin; 0 for an example without a class.
        rival: the largest cosine to another class (to another sampled one, under Partial FC).
            ``own > rival`` is a correct classification.
    """

    loss: Array
    own: Array
    rival: Array


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What the reduction is compiled for."""

    mesh: Mesh | AbstractMesh | None
    axes: tuple[str, ...]  # that cut the classes
    classes: int
    block: int
    others: Callable[..., Array]  # (cosine [B, c], own [B], *context) -> [B, c]

    @property
    def whole(self) -> bool:
        """Whether a device sees the whole batch: where the batch's axes also cut the classes."""
        return bool(set(BATCH) & set(self.axes))

    @property
    def rows(self) -> P:
        """Where per-example numbers lie inside the reduction."""
        return P() if self.whole else P(BATCH)

    def gather(self, x: Array) -> Array:
        return lax.all_gather(x, BATCH, tiled=True) if self.whole and x.ndim else x

    def first(self, width: int) -> Array | int:
        """The global index of this device's first column."""
        return lax.axis_index(self.axes) * width if self.axes else 0


def columns(classes: int, groups: int = 1) -> int:
    """How many columns a kernel for so many classes has: a number of C and of nothing else.

    JAX cuts an axis only into equal parts. So that a checkpoint does not depend on the number of
    devices, the padding does not either: from 16384 classes on C is rounded up to a multiple of
    256 (at most 1.6 % more), which divides over 2, 4, ... 256 devices. Padding columns take no
    part in any softmax; they start at 0 (`centres`) and stay there.

    Args:
        classes: C.
        groups: of `partial_fc.sample`; the result is a multiple of it too.
    """
    multiple = math.lcm(MULTIPLE, groups) if classes >= MANY else groups
    return -(-classes // multiple) * multiple


def centres(classes: int) -> Callable[..., Array]:
    """An initialiser of [d, columns] kernels: normal of deviation .01, and 0 beyond `classes`.

    Large ones are drawn row by row: a generator's working memory is several times what it draws.
    """
    normal = jax.nn.initializers.normal(0.01)

    def init(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        if shape[1] < MANY:
            drawn = normal(key, shape, dtype)
        else:
            keys = jax.random.split(key, shape[0])
            drawn = lax.map(lambda key: normal(key, shape[1:], dtype), keys)
        return jnp.where(jnp.arange(shape[1]) < classes, drawn, 0)

    return init


def unit(x: Array, axis: int = -1) -> Array:
    """Unit vectors x / |x| in float32; one shorter than 1e-6 is divided by 1e-6: finite at 0."""
    x = x.astype(jnp.float32)
    squared = jnp.square(x).sum(axis=axis, keepdims=True)
    return x * lax.rsqrt(jnp.maximum(squared, 1e-12))


def class_axes(width: int, mesh: Mesh | AbstractMesh | None) -> tuple[str, ...]:
    """The mesh axes that cut `width` columns: all if they divide it, else ``model``, else none."""
    if mesh is None:
        return ()
    for axes in CLASS_AXES:
        parts = math.prod(mesh.shape[name] for name in axes)
        if parts > 1 and width % parts == 0:
            return axes
    return ()


def ambient(mesh: Mesh | AbstractMesh | None) -> Mesh | AbstractMesh | None:
    """The given mesh, or the one in whose context JAX traces.

    None where that is one device, or where the caller's program is one device's already (`pmap`).
    """
    mesh = mesh if mesh is not None else jax.sharding.get_abstract_mesh()
    several = not mesh.empty and mesh.size > 1 and set(CLASS_AXES[0]) <= set(mesh.axis_names)
    return mesh if several and not mesh.are_all_axes_manual else None


def check_groups(
    groups: int, width: int, mesh: Mesh | AbstractMesh | None, axes: tuple[str, ...]
) -> None:
    """Refuses groups of columns that do not fit the columns, or the devices that hold them."""
    shards = math.prod(mesh.shape[a] for a in axes) if mesh is not None else 1
    if width % groups or groups % shards:
        raise UsageError(
            f"{groups} groups of classes: expected a number that divides the {width} columns and "
            f"is a multiple of the {shards} devices that hold them; make the kernel with "
            "columns(classes, groups), and groups (config.task.sample_groups) a multiple of "
            f"{shards}"
        )


def margin_softmax(
    embedding: Array,
    kernel: Array,
    label: Array,
    margin: Callable[[Array], Array],
    *,
    s: Array | float,
    classes: int | None = None,
    others: Callable[..., Array] | None = None,
    context: tuple[Array, ...] = (),
    smoothing: float = 0.0,
    index: Array | None = None,
    block: int | None = None,
    mesh: Mesh | AbstractMesh | None = None,
) -> Softmax:
    """Margin softmax on cosines, per example, with the classes cut over the devices.

    Value and gradient are those of the same computation on one device up to float32 rounding. To be
    called inside ``jit``; one device's part is a program without collectives.

    Args:
        embedding: [B, d], any length; B divides over the mesh's ``data`` and ``fsdp``.
        kernel: [d, columns] centres, any length.
        label: [B] integer in 0..C-1; an example with another label costs 0, with gradient 0.
        margin: own cosines [B] float32 -> [B], differentiable; it may close over any arrays of the
            whole batch (norms, drawn margins).
        s: the scale, a number or an array of shape () or [B], which gets its gradient.
        classes: C, at most the number of columns (the default); columns beyond it are padding.
        others: what becomes of cosines to other classes: ``others(cosine [B, c], own [B],
            *context) -> [B, c]``, elementwise over classes and differentiated by the first argument
            only (filtering, CurricularFace). By default nothing. A function of the module level,
            not a new one per step, and without arrays in its closure.
        context: for `others`: scalars and arrays [B], without gradient.
        smoothing: label smoothing e in [0, 1), see `margin.cross_entropy`.
        index: the columns that take part, as `partial_fc.sample` draws them; None for all.
        block: columns whose cosines are made at a time; by default 2^20 / B and at least 4096.
        mesh: the devices; by default those of the context (`jax.sharding.use_abstract_mesh`).

    Raises:
        UsageError: sizes that do not fit, a smoothing outside [0, 1) or with sampling.
    """
    batch, width = label.shape[0], kernel.shape[1]
    classes = width if classes is None else classes
    if not 2 <= classes <= width:
        raise UsageError(f"classes is {classes}, expected 2..{width}, the columns of the kernel")
    if not 0.0 <= smoothing < 1.0 or (smoothing and index is not None):
        raise UsageError(
            f"smoothing is {smoothing}: expected 0 <= smoothing < 1, and 0 where classes are "
            "sampled, since it spreads over all of them"
        )
    mesh = ambient(mesh)
    axes = class_axes(width, mesh)
    if index is not None:
        check_groups(index.shape[0], width, mesh, axes)
    size = block or max(BLOCK // batch, NARROWEST)
    plan = _Plan(mesh, axes, classes, size, others or _unchanged)
    scale = jnp.broadcast_to(jnp.asarray(s, jnp.float32), (batch,))
    own, normaliser, total, rival = _reduce(
        plan, unit(embedding), kernel, scale, label, index, context
    )
    target = scale * margin(own)
    loss = jax.nn.softplus(normaliser - target)
    if smoothing:  # Of (1 - e) on the own class and e / C on every class, itself included.
        loss += smoothing * (target - (target + total) / classes)
    known = (label >= 0) & (label < classes)
    return Softmax(jnp.where(known, loss, 0.0), own, lax.stop_gradient(rival))


def _unchanged(cosine: Array, *_: Array) -> Array:
    return cosine


# -- the reduction over classes --------------------------------------------------------------------


class _Blocks:
    """This device's columns, or its sampled ones, block by block."""

    def __init__(self, plan: _Plan, kernel: Array, index: Array | None):
        self.plan, self.kernel = plan, kernel
        self.first = plan.first(kernel.shape[1])
        self.index = None if index is None else index.reshape(-1)
        self.n = kernel.shape[1] if self.index is None else self.index.size
        self.size = min(plan.block, self.n)
        self.count = -(-self.n // self.size)

    def run(self, body: Callable[[Any, Any], Any], carry: Any) -> Any:
        """``body(i, carry)`` for every block."""
        return body(0, carry) if self.count == 1 else lax.fori_loop(0, self.count, body, carry)

    def _place(self, i: Any) -> tuple[Any, Array]:
        """The start of block i and its local columns; the last block reaches back to be full."""
        start = jnp.minimum(i * self.size, self.n - self.size)
        if self.index is None:
            return start, start + jnp.arange(self.size)
        return start, lax.dynamic_slice_in_dim(self.index, start, self.size) - self.first

    def take(self, i: Any) -> tuple[Array, Array, Array]:
        """Block i: centres [d, c], their classes [c], and which are real and not yet seen [c]."""
        start, local = self._place(i)
        if self.index is None:
            w = lax.dynamic_slice_in_dim(self.kernel, start, self.size, 1)
        else:
            w = jnp.take(self.kernel, local, axis=1, mode="clip")
        real = (start + jnp.arange(self.size) >= i * self.size) & (local < self.kernel.shape[1])
        column = self.first + local
        return w, column, real & (column < self.plan.classes)

    def add(self, i: Any, into: Array, part: Array) -> Array:
        """Adds block i's part [d, c] into [d, columns], in place inside a loop."""
        start, local = self._place(i)
        if self.index is not None:
            return into.at[:, local].add(part, mode="drop")
        if self.count > 1:
            part = part + lax.dynamic_slice_in_dim(into, start, self.size, 1)
        return lax.dynamic_update_slice_in_dim(into, part, start, 1)


def _cosine(unit_embedding: Array, w: Array) -> Array:
    return jnp.matmul(unit_embedding, unit(w, axis=0), precision=lax.Precision.HIGHEST)


def _mapped(plan: _Plan, body: Callable[..., Any], rows: int, context: Any, outs: Any) -> Any:
    """`body` on every device; it gets what `_reduce` gets, and `rows` arrays of one per row."""
    if plan.mesh is None:
        return body
    spread = jax.tree.map(lambda x: P(BATCH) if x.ndim else P(), context)
    cut = (P(BATCH), P(None, plan.axes), P(BATCH), P(BATCH), P(plan.axes), spread)
    ins = (*cut, *(plan.rows,) * rows)
    # The gradient is written out below, so nothing is differentiated through these collectives.
    return jax.shard_map(body, mesh=plan.mesh, in_specs=ins, out_specs=outs, check_vma=False)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _reduce(
    plan: _Plan,
    embedding: Array,
    kernel: Array,
    scale: Array,
    label: Array,
    index: Any,
    context: Any,
) -> tuple[Array, Array, Array, Array]:
    """Own cosine, and of the other classes' logits the log-sum-exp, the sum and the best cosine."""

    def body(
        embedding: Array, kernel: Array, scale: Array, label: Array, index: Any, context: Any
    ) -> Any:
        rows = (embedding, scale, label, *context)
        embedding, scale, label, *context = map(plan.gather, rows)
        blocks = _Blocks(plan, kernel, index)
        local = label - blocks.first
        here = (label >= 0) & (label < plan.classes) & (local >= 0) & (local < kernel.shape[1])
        w = jnp.take(
            kernel, jnp.where(here, local, 0), axis=1, mode="clip"
        )  # [d, B], of this device only
        own = jnp.where(here, (embedding * unit(w, axis=0).T).sum(1), 0.0)
        own = lax.psum(own, plan.axes) if plan.axes else own

        def visit(i: Any, carry: Any) -> Any:
            top, mass, total, rival = carry
            w, column, real = blocks.take(i)
            cosine = _cosine(embedding, w)
            logits = scale[:, None] * plan.others(cosine, own, *context)
            other = real & (column != label[:, None])
            rival = jnp.maximum(rival, jnp.where(other, cosine, -jnp.inf).max(1))
            higher = jnp.maximum(top, jnp.where(other, logits, _LEAST).max(1))
            terms = jnp.where(other, jnp.exp(logits - higher[:, None]), 0.0).sum(1)
            mass = mass * jnp.exp(top - higher) + terms
            return higher, mass, total + jnp.where(other, logits, 0.0).sum(1), rival

        zero = jnp.zeros_like(own)
        start = (zero + _LEAST, zero, zero, zero - jnp.inf)
        top, mass, total, rival = blocks.run(visit, start)
        if plan.axes:
            highest = lax.pmax(top, plan.axes)
            mass, total = lax.psum((mass * jnp.exp(top - highest), total), plan.axes)
            top, rival = highest, lax.pmax(rival, plan.axes)
        return own, top + jnp.log(mass), total, rival

    mapped = _mapped(plan, body, 0, context, plan.rows)
    return mapped(embedding, kernel, scale, label, index, context)


def _reduce_forward(plan: _Plan, *given: Any) -> tuple[Any, Any]:
    out = _reduce(plan, *given)
    return out, (given, out)


def _reduce_backward(plan: _Plan, kept: Any, cotangents: Any) -> tuple[Any, ...]:
    given, (own, normaliser, _, _) = kept

    def body(
        embedding: Array, kernel: Array, scale: Array, label: Array, index: Any, context: Any,
        *rows: Array,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        own, normaliser, g_own, g_normaliser, g_total = (r[:, None] for r in rows)
        mine = (embedding, scale, label, *context)
        embedding, scale, label, *context = map(plan.gather, mine)
        blocks = _Blocks(plan, kernel, index)

        def visit(i: Any, carry: Any) -> Any:
            d_embedding, d_kernel, d_scale = carry
            w, column, real = blocks.take(i)
            cosine, to_inputs = jax.vjp(_cosine, embedding, w)
            made, to_cosine = jax.vjp(lambda c: plan.others(c, own[:, 0], *context), cosine)
            target = column == label[:, None]
            d_logits = g_normaliser * jnp.exp(scale[:, None] * made - normaliser) + g_total
            d_logits = jnp.where(real & ~target, d_logits, 0.0)
            (d_cosine,) = to_cosine(scale[:, None] * d_logits)
            d_cosine = jnp.where(real & target, g_own, d_cosine)
            more, d_w = to_inputs(d_cosine)
            d_scale += (d_logits * made).sum(1)
            return d_embedding + more, blocks.add(i, d_kernel, d_w), d_scale

        start = (jnp.zeros_like(embedding), jnp.zeros_like(kernel), jnp.zeros_like(scale))
        d_embedding, d_kernel, d_scale = blocks.run(visit, start)
        if plan.whole:
            d_embedding = lax.psum_scatter(d_embedding, BATCH, scatter_dimension=0, tiled=True)
        elif plan.mesh is not None:
            d_kernel = lax.psum(d_kernel, BATCH)
        if "model" in plan.axes:
            d_embedding = lax.psum(d_embedding, "model")
        return d_embedding, d_kernel, lax.psum(d_scale, plan.axes) if plan.axes else d_scale

    outs = (P(BATCH), P(None, plan.axes), plan.rows)
    mapped = _mapped(plan, body, 5, given[5], outs)
    gradients = mapped(*given, own, normaliser, *cotangents[:3])
    return *gradients, None, None, None


_reduce.defvjp(_reduce_forward, _reduce_backward)
