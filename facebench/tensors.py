"""Safetensors files: named arrays and a little text in one file, with nothing in it that could run.

The only place that knows the library. Files are read without trust: the header has a limit, no name
may stand twice, every array lies inside the file, and no byte is shared or unused.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from facebench import files
from facebench.errors import FacebenchError

SUFFIX = ".safetensors"
MAX_HEADER = 16 << 20  # bytes; a header has about 100 for an array

#: Types of numbers that are read; bfloat16, which NumPy has not, comes out as float32.
TYPES = ("BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "F32", "F64", "BF16")


def looks_like(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a safetensors file."""
    return len(head) >= 9 and head[8:9] == b"{" and head[4:8] == b"\0\0\0\0"


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads the arrays of a file, and the text that stands beside them.

    Args:
        path: the file.

    Returns:
        (name to array, name to text).

    Raises:
        FacebenchError: missing, truncated, a header that is too long or does not fit the data, or
            a type that is not of `TYPES`.
    """
    _check_header(path)
    arrays: dict[str, np.ndarray] = {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = dict(file.metadata() or {})
            for name in sorted(file.keys()):
                kind = file.get_slice(name).get_dtype()
                if kind not in TYPES:
                    raise ValueError(
                        f"array {name[:80]!r} has type {kind}, expected one of {TYPES}"
                    )
                array = file.get_tensor(name)
                arrays[name] = array.astype(np.float32) if kind == "BF16" else array
    except (safetensors.SafetensorError, ValueError, OSError, TypeError) as error:
        raise _unreadable(path, error) from error
    return arrays, text


def write(path: Path, arrays: Mapping[str, np.ndarray], text: Mapping[str, str]) -> None:
    """Writes arrays and at most one text, atomically; equal contents give equal bytes.

    Raises:
        FacebenchError: the disk is full, and the like.
    """
    assert len(text) <= 1, "the library keeps no order among several"
    plain = {
        name: np.ascontiguousarray(a, a.dtype.newbyteorder("<")).reshape(a.shape)
        for name, a in arrays.items()
    }
    files.write_atomic(path, safetensors_numpy.save(plain, dict(text)))


def _check_header(path: Path) -> None:
    """Refuses what the library would take: names that stand twice, very long headers."""
    try:
        with files.regular(path) as file:
            head = file.read(8)
            if len(head) < 8:
                raise ValueError(f"has {len(head)} bytes, a header alone has more")
            (length,) = struct.unpack("<Q", head)
            if length > MAX_HEADER:
                raise ValueError(f"the header claims {length} bytes, at most {MAX_HEADER} are read")
            header = file.read(length)
        if len(header) < length:
            raise ValueError(f"the header claims {length} bytes, {len(header)} are there")
        json.loads(header.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"name {twice[:80]!r} stands twice in the header")
    return value


def _unreadable(path: Path, error: Exception) -> FacebenchError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return FacebenchError(
        f"{path}: not a readable safetensors file: {said}; get it again, or write it with "
        "safetensors.torch.save_file(model.state_dict(), ...)"
    )
