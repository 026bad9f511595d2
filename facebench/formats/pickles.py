"""Plain values and NumPy arrays out of a pickle, read by the machine of `facebench.unpickle`."""

from __future__ import annotations

import io
import math
import re
from reprlib import repr as shown  # bounded, whatever stands in it
from typing import Any

import numpy as np

from facebench import unpickle
from facebench.errors import FacebenchError
from facebench.unpickle import Name, expect

_CODE = re.compile(r"[<>|=]?([biuf][1248]|\?)")


class _Type:
    """A NumPy type."""

    def __init__(self, code: str):
        self.dtype = np.dtype(code)


class _Array:
    """A NumPy array, whose content follows by BUILD."""

    array: np.ndarray | None = None

    def fill(self, shape: Any, kind: Any, fortran: Any, content: Any) -> _Array:
        dtype, content = expect(kind, _Type).dtype, expect(content, bytes)
        if (
            len(expect(shape, tuple)) > 32
            or not all(type(n) is int and 0 <= n <= 1 << 40 for n in shape)
            or math.prod(shape) * dtype.itemsize != len(content)
        ):
            raise ValueError("an array is not as long as its shape says")
        order = "F" if fortran else "C"
        self.array = np.frombuffer(content, dtype).reshape(shape, order=order)  # type: ignore
        return self


def load(data: bytes, where: object) -> Any:
    """Reads a pickle of plain values and arrays.

    Args:
        data: the pickle.
        where: what error messages call it.

    Returns:
        None, bool, int, float, str, bytes, tuple, list, or read-only NumPy arrays of numbers, which
        are found down to the entries of lists in a list.

    Raises:
        FacebenchError: it names something that no array consists of, has an instruction that makes
            no plain value, is cut off or broken; the place is named.
    """
    room = 2 * len(data) + 4096  # bytes that texts may become when they are encoded

    def encode(text: Any, codec: Any) -> bytes:
        nonlocal room
        if codec not in ("latin1", "latin-1", b"latin1"):
            raise ValueError("text is encoded in an unusual way, expected latin1")
        room -= len(expect(text, str))
        if room < 0:
            raise ValueError("the same text is encoded again and again")
        return text.encode("latin-1")

    names = {**_NAMES, "_codecs.encode": encode}
    try:
        form = unpickle.Format("verification set", names, _build, len(data))
        return _plain(unpickle.run(io.BytesIO(data), form), 2)
    except ValueError as error:
        raise FacebenchError(
            f"{where}: {error}; get it again, and open this one with no other program"
        ) from error


def _plain(value: Any, levels: int) -> Any:
    """A value as the caller sees it, down to some levels of lists and tuples."""
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(v, levels - 1) for v in value]) if levels else value
    if isinstance(value, _Array) and value.array is not None:
        return value.array
    if isinstance(value, (Name, _Type, _Array)):
        raise ValueError("a type, a function or an array without content stands where data should")
    return value


# ---------------------------------------------------------------------------- what is made by names


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if expect(kind, Name).name != "numpy.ndarray" or shape != (0,):
        raise ValueError("an array is made in an unusual way")
    return _Array()


def _type(code: Any, align: Any = False, copy: Any = False) -> _Type:
    text = code.decode("latin-1") if isinstance(code, bytes) else code
    if not isinstance(text, str) or not _CODE.fullmatch(text):
        raise ValueError(f"arrays of type {shown(text)}, expected numbers")
    return _Type(text)


def _scalar(kind: Any, content: Any) -> Any:
    dtype = expect(kind, _Type).dtype
    if len(expect(content, bytes)) != dtype.itemsize:
        raise ValueError("a number is not as long as its type says")
    return np.frombuffer(content, dtype)[0].item()


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any) -> _Array:
    return _Array().fill(shape, kind, order == "F", content)


def _build(made: Any, state: Any) -> None:
    if isinstance(expect(made, _Array, _Type), _Array):
        _, shape, kind, fortran, content = expect(state, tuple)
        made.fill(shape, kind, fortran, content)
    else:
        _, order, *rest = expect(state, tuple)
        order = order.decode("latin-1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "=") or any(part is not None for part in rest[:3]):
            raise ValueError("arrays of a compound type, expected numbers")
        made.dtype = made.dtype.newbyteorder(order)


_NAMES = {
    **{
        f"numpy.{core}.{name}": make
        for core in ("core", "_core")
        for name, make in (
            ("multiarray._reconstruct", _reconstruct),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _frombuffer),
        )
    },
    "numpy.ndarray": None,
    "numpy.dtype": _type,
}
