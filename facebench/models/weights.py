"""Weights of a published PyTorch net, put into the Flax module that has the same architecture.

A family of backbones says in ``torch_names(module)`` which entry of the published state dict each
of its variables is, and how its axes are turned: a mapping from Flax path, such as
``params/layer1_0/conv1/kernel``, to (PyTorch key, how), with `how` one of

=========================  ==========================================================
``"same"``                 the array as it is
``"conv"``                 a convolution, grouped or not: OIHW to HWIO
``"dense"``                a matrix: [out, in] to [in, out]
``("flattened", C)``       a matrix that reads a flattened map of C channels: its columns
                           come in C, H, W order there and in H, W, C order here
``("patch", p)``           a convolution with kernel and stride p as the matrix product
                           that it is: OIHW to [p * p * I, O]; p = 1 is a 1 x 1 one
=========================  ==========================================================

Everything is checked by name and by shape: a net that is loaded in part is worse than none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from facebench.errors import FacebenchError, nearest

#: What wrappers put before every key of a state dict.
PREFIXES = ("module.", "model.", "features.module.", "backbone.")

Names = Mapping[str, tuple[str, Any]]


def import_torch(
    module: Any,
    state: Mapping[str, np.ndarray],
    size: int,
    names: Names | None = None,
    ignore: Collection[str] = (),
) -> dict[str, Any]:
    """The variables of a module, from the state dict of the same net in PyTorch.

    Args:
        module: an unbound Flax backbone.
        state: PyTorch keys to arrays. Prefixes of `PREFIXES` that all keys carry are taken off;
            ``num_batches_tracked`` is not needed.
        size: side of the image in pixels that the module is for.
        names: the table described above; by default ``torch_names(module)`` of the file that
            defines the module's class.
        ignore: patterns (as of `fnmatch`) of keys that the module has no use for, with or without
            the prefix, such as ``head.*``.

    Returns:
        ``{"params": ..., "batch_stats": ...}``, nested dicts of float32 NumPy arrays, as
        ``module.init`` would give it (``batch_stats`` only where the module has some).

    Raises:
        FacebenchError: entries are missing, left over, of another shape, no numbers or not finite;
            each is named. Or the table does not cover the module's variables.
    """
    who = f"weights of {type(module).__name__} for {size} px"
    if names is None:
        names = _names_of(module)
    wanted = _shapes(module, size)
    if odd := sorted(wanted.keys() ^ names.keys()):
        raise FacebenchError(
            f"{who}: torch_names and the module's variables differ in {_some(odd)}; the table has "
            "to name each variable once"
        )
    entries = _entries(state, ignore)
    keys = {key for key, _ in names.values()}
    missing = sorted(keys - entries.keys())
    unused = sorted(entries.keys() - keys)
    faults = []
    if missing:
        faults.append(f"missing: {_some(missing, unused)}")
    if unused:
        faults.append(f"left over: {_some(unused)}")
    variables: dict[str, Any] = {}
    for path, (key, how) in names.items():
        if key not in entries:
            continue
        array = np.asarray(entries[key])
        fault, value = _turned(array, how, wanted[path])
        if fault:
            faults.append(f"{key}: {fault} ({path})")
            continue
        *branches, leaf = path.split("/")
        node = variables
        for branch in branches:
            node = node.setdefault(branch, {})
        node[leaf] = value
    if faults:
        shown = "\n  ".join(faults[:12] + ([f"and {len(faults) - 12} more"] * (len(faults) > 12)))
        advice = "build the module with the sizes of the published net"
        if unused and not missing:
            advice += ", or name what it has no use for, e.g. ignore=" + repr(
                (f"{unused[0].split('.')[0]}*",)
            )
        raise FacebenchError(f"{who} do not fit:\n  {shown}\n{advice}")
    return variables


def conv_names(ours: str, theirs: str) -> dict[str, tuple[str, Any]]:
    """The line of a table for a convolution without bias; `ours` is its path below ``params``."""
    return {f"params/{ours}/kernel": (f"{theirs}.weight", "conv")}


def dense_names(
    ours: str, theirs: str, how: Any = "dense", bias: bool = True
) -> dict[str, tuple[str, Any]]:
    """The lines of a table for a matrix, read as `how`, and its bias."""
    names = {f"params/{ours}/kernel": (f"{theirs}.weight", how)}
    if bias:
        names[f"params/{ours}/bias"] = (f"{theirs}.bias", "same")
    return names


def norm_names(
    ours: str, theirs: str, affine: bool = True, statistics: bool = True
) -> dict[str, tuple[str, Any]]:
    """The lines of a table for a norm: scale and bias where it is affine, running statistics."""
    names: dict[str, tuple[str, Any]] = {}
    if affine:
        names[f"params/{ours}/scale"] = (f"{theirs}.weight", "same")
        names[f"params/{ours}/bias"] = (f"{theirs}.bias", "same")
    if statistics:
        names[f"batch_stats/{ours}/mean"] = (f"{theirs}.running_mean", "same")
        names[f"batch_stats/{ours}/var"] = (f"{theirs}.running_var", "same")
    return names


def strip_prefixes(keys: Iterable[str]) -> dict[str, str]:
    """Maps each key to what is left once the prefixes that all keys carry are taken off."""
    short = {key: key for key in keys}
    while short:
        common = [p for p in PREFIXES if all(s.startswith(p) for s in short.values())]
        if not common:
            break
        short = {key: s.removeprefix(common[0]) for key, s in short.items()}
    return short


def _names_of(module: Any) -> Names:
    """The table of the file that defines the module's class."""
    home = sys.modules[type(module).__module__]
    table: Callable[[Any], Names] | None = getattr(home, "torch_names", None)
    if table is None:
        raise FacebenchError(
            f"{home.__name__} has no torch_names(module): it says nothing of what the variables of "
            f"{type(module).__name__} are called in PyTorch; write it, or give names="
        )
    return table(module)


def _shapes(module: Any, size: int) -> dict[str, tuple[int, ...]]:
    """Flax path to shape of all variables; nothing is computed."""
    from facebench import models  # Here, so that tables can be read without starting JAX.

    _, variables = models.shapes(module, size)
    found: dict[str, tuple[int, ...]] = {}

    def walk(node: Any, path: str) -> None:
        for name, child in node.items():
            here = f"{path}/{name}" if path else name
            if isinstance(child, Mapping):
                walk(child, here)
            else:
                found[here] = tuple(child.shape)

    walk(variables, "")
    return found


def _entries(state: Mapping[str, np.ndarray], ignore: Collection[str]) -> dict[str, np.ndarray]:
    """The entries that count, by their keys without prefixes."""

    def used(key: str) -> bool:
        if key.rsplit(".", 1)[-1] == "num_batches_tracked":
            return False
        return not any(fnmatchcase(key, pattern) for pattern in ignore)

    short = strip_prefixes(key for key in state if used(key))
    return {s: state[key] for key, s in short.items() if used(s)}


def _turned(array: np.ndarray, how: Any, shape: tuple[int, ...]) -> tuple[str, np.ndarray | None]:
    """(what is wrong with an entry or "", the entry in the layout of the module)."""
    if array.dtype.kind not in "fiu":
        return f"holds {array.dtype}, expected numbers", None
    kind, *rest = how if isinstance(how, tuple) else (how,)
    before: tuple[int, ...] = shape
    order: tuple[int, ...] = tuple(range(len(shape)))
    inner: tuple[int, ...] | None = None  # The axes that are turned, where `before` has fewer.
    if kind == "conv":
        h, w, i, o = shape
        before, order = (o, i, h, w), (2, 3, 1, 0)
    elif kind == "dense":
        before, order = shape[::-1], (1, 0)
    elif kind == "flattened":
        channels = rest[0]
        before, order = shape[::-1], (2, 1, 0)
        inner = (shape[1], channels, shape[0] // channels)
    elif kind == "patch":
        p, channels = rest[0], shape[0] // rest[0] ** 2
        before, order = (shape[1], channels, p, p), (2, 3, 1, 0)
    elif kind != "same":
        known = ("same", "conv", "dense", "flattened", "patch")
        raise FacebenchError(f"torch_names: no way of turning {how!r}: {nearest(str(kind), known)}")
    if array.shape != before:
        return f"has shape {list(array.shape)}, expected {list(before)}", None
    value = array.astype(np.float32)
    if not np.isfinite(value).all():
        return "holds NaN or infinite numbers", None
    value = value.reshape(inner or before).transpose(order)
    return "", np.ascontiguousarray(value.reshape(shape))


def _some(names: list[str], others: Collection[str] = (), n: int = 6) -> str:
    """The first names of a list, how many there are, and what the first may be called instead."""
    text = ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
    if others and "did you mean" in (hint := nearest(names[0], others)):
        text += f" ({names[0]}: {hint})"
    return text
