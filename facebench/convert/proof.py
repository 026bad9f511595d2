"""Whether a backbone returns what the original model returned, on inputs of the user.

An example is an ``.npz`` with

- ``input`` [n, 3, S, S] or [n, S, S, 3] float: what was fed to the original model, after its own
  normalisation;
- ``output``: what it returned: the ``embedding`` where the backbone has one, else ``pooled``; and
  further outputs under the backbone's own names, maps as [n, C, h, w] or [n, h, w, C].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import files, models
from facebench.errors import FacebenchError, nearest

TOLERANCE = 1e-4
BATCH = 8  # images at a time


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far an output is from the original model's.

    Attributes:
        output: its name.
        images: how many were compared.
        absolute: the largest absolute difference.
        relative: that, over the root mean square of what the original model returned.
    """

    output: str
    images: int
    absolute: float
    relative: float


def compare(
    module: Any, variables: Mapping[str, Any], size: int, path: Path
) -> tuple[Difference, ...]:
    """Runs a backbone in eval mode on an example, in float32.

    Args:
        module: the backbone.
        variables: its variables.
        size: side of the images in pixels.
        path: the example.

    Raises:
        FacebenchError: an array is missing, has another shape than the backbone's, is not finite or
            all zero.
    """
    arrays = files.read_npz(path)
    image = _images(path, arrays, size)
    known = models.check_backbone(module, size)
    wanted = {}
    for name, array in arrays.items():
        if name == "input":
            continue
        output = ("embedding" if "embedding" in known else "pooled") if name == "output" else name
        if output not in known:
            raise FacebenchError(
                f"{path}: {name} is no output of {type(module).__name__}: {nearest(name, known)}"
            )
        wanted[output] = _expected(path, name, array, (len(image), *known[output].shape[1:]))
    if not wanted:
        raise FacebenchError(
            f"{path}: no array 'output'; store what the original model returned for 'input'"
        )
    got = _run(module, variables, image)
    return tuple(
        _difference(name, got[name], expected) for name, expected in sorted(wanted.items())
    )


def require_equal(differences: Sequence[Difference], tolerance: float, path: Path) -> None:
    """Refuses outputs that differ.

    Raises:
        FacebenchError: a relative difference is larger than `tolerance`; nothing was written.
    """
    wrong = [d for d in differences if not d.relative <= tolerance]
    if wrong:
        said = ", ".join(
            f"{d.output} by {d.absolute:.3g} ({d.relative:.3g} relative)" for d in wrong
        )
        raise FacebenchError(
            f"{path}: the outputs differ: {said}, tolerance {tolerance:g} relative; nothing was "
            "written. Was the original model in eval mode, and is 'input' what it was fed (colour "
            "order, normalisation)? Do the fields of --model say the same net?"
        )


def _images(path: Path, arrays: Mapping[str, np.ndarray], size: int) -> np.ndarray:
    image = arrays.get("input")
    if image is None:
        raise FacebenchError(f"{path}: no array 'input', only: {', '.join(sorted(arrays))}")
    if image.dtype.kind == "f" and image.ndim == 4 and len(image):
        if image.shape[1:] == (3, size, size):
            image = image.transpose(0, 2, 3, 1)
        if image.shape[1:] == (size, size, 3) and np.isfinite(image).all():
            return np.ascontiguousarray(image, np.float32)
    raise FacebenchError(
        f"{path}: input is {image.dtype} {list(image.shape)}, expected finite floats "
        f"[n, 3, {size}, {size}] or [n, {size}, {size}, 3]; another size is given by --size="
    )


def _expected(path: Path, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.ndim == 4 and array.shape != shape:
        array = array.transpose(0, 2, 3, 1)
    if array.shape != shape or array.dtype.kind != "f":
        raise FacebenchError(
            f"{path}: {name} is {array.dtype} {list(array.shape)}, expected floats {list(shape)}"
        )
    if not np.isfinite(array).all() or not array.any():
        raise FacebenchError(f"{path}: {name} is not finite, or all zero: it proves nothing")
    return array.astype(np.float64)


def _run(module: Any, variables: Mapping[str, Any], image: np.ndarray) -> dict[str, np.ndarray]:
    import jax

    look = jax.jit(lambda v, x: module.apply(v, x, train=False))
    rows: list[dict[str, np.ndarray]] = []
    with jax.default_matmul_precision("highest"):
        for start in range(0, len(image), BATCH):
            rows.append(jax.device_get(look(variables, image[start : start + BATCH])))
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _difference(name: str, got: np.ndarray, expected: np.ndarray) -> Difference:
    absolute = float(np.abs(got - expected).max())
    rms = float(np.sqrt(np.mean(expected**2)))
    return Difference(name, len(expected), absolute, absolute / rms)
