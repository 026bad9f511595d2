"""How predictions are stored: as the numbers that a protocol says, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from facebench.errors import FacebenchError, nearest

if TYPE_CHECKING:
    from facebench.protocol import Protocol


def quantise(protocol: Protocol, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns predictions into what is stored and scored.

    A whole-number type stores ``round(value * scale)`` (halves to even) and saturates at its
    ends; a float type stores the value itself, saturated at its largest finite number.

    Args:
        protocol: its ``predictions`` say the type and scale of each array.
        arrays: predicted arrays, row i for test sample (or pair) i.

    Raises:
        FacebenchError: an array is missing or unknown, or holds NaN or an infinity; the array
            and the first such row are named.
    """
    _same_names(protocol, arrays, "predicted")
    stored = {}
    for name, store in protocol.predictions.items():
        array = np.asarray(arrays[name])
        if array.dtype.kind not in "biuf" or array.ndim == 0:
            raise FacebenchError(
                f"prediction {name!r}: found {array.dtype} of shape {array.shape}, "
                "expected an array of numbers"
            )
        value = array.astype(np.float64)
        if not np.isfinite(value).all():
            first = tuple(np.argwhere(~np.isfinite(value))[0])
            raise FacebenchError(
                f"prediction {name!r}: row {first[0]} holds {value[first]}, expected finite "
                "numbers; a model that predicts none has diverged"
            )
        dtype = np.dtype(store["dtype"])
        if dtype.kind == "f":
            limit = np.finfo(dtype)
            stored[name] = np.clip(value, limit.min, limit.max).astype(dtype)
        else:
            scaled = np.rint(value * store.get("scale", 1))
            limits = np.iinfo(dtype)
            stored[name] = np.clip(scaled, limits.min, limits.max).astype(dtype)
    return stored


def dequantise(protocol: Protocol, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns stored predictions back into float64 values, the ones that are scored.

    Raises:
        FacebenchError: an array is missing, unknown, of another type than the protocol says, or
            not finite.
    """
    _same_names(protocol, stored, "stored")
    values = {}
    for name, store in protocol.predictions.items():
        array = stored[name]
        if array.dtype != np.dtype(store["dtype"]):
            raise FacebenchError(
                f"stored prediction {name!r}: found {array.dtype}, expected {store['dtype']} "
                f"as {protocol.id} says"
            )
        if not np.isfinite(array).all():
            raise FacebenchError(f"stored prediction {name!r} holds NaN or an infinity")
        values[name] = array.astype(np.float64) / store.get("scale", 1)
    return values


def _same_names(protocol: Protocol, arrays: Mapping[str, np.ndarray], what: str) -> None:
    expected = set(protocol.predictions)
    for name in sorted(expected - set(arrays)):
        raise FacebenchError(
            f"{what} array {name!r} is missing: {protocol.id} stores {', '.join(sorted(expected))}"
        )
    for name in sorted(set(arrays) - expected):
        raise FacebenchError(
            f"{what} array {name!r} is not one of {protocol.id}: {nearest(name, expected)}"
        )
