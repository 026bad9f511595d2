"""Digests: of JSON values in canonical form (RFC 8785), of arrays by content, of bytes and files.

Every digest is written ``sha256:`` and 64 hexadecimal digits. A digest of arrays is of their
names, types, shapes and little-endian bytes, so it does not depend on the file that holds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785

PREFIX = "sha256:"


def canonical(value: Any) -> bytes:
    """Encodes a JSON value in the one canonical form of RFC 8785.

    Raises:
        ValueError: the value holds NaN, an infinity or something JSON cannot say, or is nested
            too deeply.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError(f"not a JSON value: {error}") from error


def of_bytes(data: bytes) -> str:
    """The digest of a byte string."""
    return PREFIX + hashlib.sha256(data).hexdigest()


def of_json(value: Any) -> str:
    """The digest of a JSON value, whatever the order of its keys or the layout of its file."""
    return of_bytes(canonical(value))


def of_file(path: Path) -> str:
    """The digest of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()


def of_lines(lines: Iterable[str]) -> str:
    """The digest of lines of text, in their order; every line is ended by one newline."""
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update(line.encode() + b"\n")
    return PREFIX + hasher.hexdigest()


def of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """The digest of named arrays: names, types, shapes and values, not their container.

    Raises:
        ValueError: an array holds Python objects.
    """
    hasher = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        if array.dtype.hasobject:
            raise ValueError(f"array {name!r} holds Python objects, which have no digest")
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        hasher.update(canonical([name, array.dtype.str, list(array.shape)]) + b"\n")
        hasher.update(array.tobytes())
    return PREFIX + hasher.hexdigest()


def short(digest: str, n: int = 12) -> str:
    """The first `n` hexadecimal digits of a digest, for file names and messages."""
    return digest.removeprefix(PREFIX)[:n]


def named_in(name: str, digest: str) -> bool:
    """Whether a file's name says what is in it: ``NAME-0123456789ab.SUFFIX``, see `short`."""
    return Path(name).stem.endswith(f"-{short(digest)}")
