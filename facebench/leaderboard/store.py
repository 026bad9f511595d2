"""Where stored predictions are kept: in git up to a size, larger ones in a content store.

A bundle is named by the digest of its arrays. Up to `LIMIT` bytes it stands at
``leaderboards/predictions/AA/DIGEST.npz``, with the first 12 digits for a name. A larger one goes
to ``$FACEBENCH_STORE``, a folder or any URL that fsspec knows, at ``AA/DIGEST.npz`` with all 64
digits, and git keeps a pointer beside the other bundles, ``AA/DIGEST.json``::

    {"schema": "facebench/pointer-1", "content_digest": "sha256:...", "bytes": 7654321}

A record says the same either way. What is read is held against its digest, so neither the store nor
the way to it needs to be trusted, and half an object never counts. Nothing is overwritten.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from facebench import digest, files
from facebench.errors import FacebenchError
from facebench.workspace import Workspace

VARIABLE = "FACEBENCH_STORE"
SCHEMA = "facebench/pointer-1"
LIMIT = 5_000_000  # bytes of a bundle that git keeps itself
OBJECT_LIMIT = 1 << 30  # bytes of a bundle anywhere
UNPACKED_LIMIT = 1 << 30  # bytes that one bundle may unpack to

_T = TypeVar("_T")


class UnreachableError(FacebenchError):
    """The evidence is kept in a store that cannot be read from here."""


def place(workspace: Workspace, content: str) -> Path:
    """Where git keeps the bundle of a content digest, if it is small."""
    name = digest.short(content)
    return workspace.predictions / name[:2] / f"{name}.npz"


def pointer(workspace: Workspace, content: str) -> Path:
    """Where git keeps the pointer to the bundle of a content digest, if that is large."""
    return place(workspace, content).with_suffix(".json")


def kept(workspace: Workspace, content: str) -> Path:
    """The file that git keeps: the pointer where there is one and no bundle, else the bundle."""
    bundle, other = place(workspace, content), pointer(workspace, content)
    return other if other.is_file() and not bundle.is_file() else bundle


def require_plain(workspace: Workspace, path: Path) -> None:
    """Refuses a committed file that is, or lies behind, a symbolic link below ``leaderboards/``.

    Raises:
        FacebenchError: a link, or a path that leaves the folder.
    """
    base = workspace.leaderboards  # realpath: unlike Path.resolve it survives a link to itself
    found, real = Path(os.path.realpath(path)), Path(os.path.realpath(base))
    lexical = path.absolute()
    inside = found.is_relative_to(real)
    if lexical.is_relative_to(base):
        inside = found == real / lexical.relative_to(base) and not path.is_symlink()
    if not inside:
        raise FacebenchError(
            f"{path}: a symbolic link, or a path out of {base}; put the file itself there"
        )


def read(workspace: Workspace, content: str, whose: str) -> dict[str, np.ndarray]:
    """Reads the bundle of a content digest, wherever it is kept, and holds it against the digest.

    Args:
        workspace: the workspace.
        content: the digest.
        whose: what error messages call it.

    Raises:
        UnreachableError: it is kept in a store that is not named or does not answer.
        FacebenchError: missing, damaged, too large, or other arrays than the digest names.
    """
    where: Path | str
    where = kept(workspace, content)
    require_plain(workspace, where)
    if where.suffix == ".json":
        data, where = _fetch(where, content)
    else:
        data = files.read_bytes(where, OBJECT_LIMIT)
    return _checked(data, where, content, whose)


def _checked(data: bytes, where: Path | str, content: str, whose: str) -> dict[str, np.ndarray]:
    arrays = files.unpack(data, where, UNPACKED_LIMIT)
    found = digest.of_arrays(arrays)
    if found != content:
        raise FacebenchError(
            f"{where}: not the predictions of {whose}: digest {digest.short(found)}, "
            f"expected {digest.short(content)}; restore the file"
        )
    return arrays


def write(workspace: Workspace, content: str, arrays: dict[str, np.ndarray], whose: str) -> Path:
    """Keeps a bundle: in git if it is small, else in the store with a pointer in git.

    Args:
        workspace: the workspace.
        content: `digest.of_arrays` of the arrays.
        arrays: of the bundle.
        whose: what error messages call it.

    Returns:
        The file that git keeps.

    Raises:
        FacebenchError: something else stands at its place, which is not overwritten; it is too
            large for git and no store is named, or the store cannot be written.
    """
    if kept(workspace, content).is_file():
        read(workspace, content, whose)
        return kept(workspace, content)
    data = files.npz_bytes(arrays)
    if len(data) <= LIMIT:
        files.write_atomic(place(workspace, content), data)
        return place(workspace, content)
    if len(data) > OBJECT_LIMIT:
        raise FacebenchError(
            f"the predictions of {whose}: {len(data)} bytes, at most {OBJECT_LIMIT}; store fewer "
            "digits: predictions.dtype of the protocol"
        )
    root = _root(f"the predictions of {whose} are {len(data)} bytes, and git keeps {LIMIT} at most")
    _put(root, _name(content), data, lambda found, where: _checked(found, where, content, whose))
    value = {"schema": SCHEMA, "content_digest": content, "bytes": len(data)}
    files.write_json(pointer(workspace, content), value)
    return pointer(workspace, content)


def gone(workspace: Workspace, content: str) -> bool:
    """Whether a bundle is kept in a store that is named here and does not have it.

    Without a named store nothing can be said, and the answer is no.
    """
    where = kept(workspace, content)
    if where.suffix != ".json" or not os.environ.get(VARIABLE):
        return False
    try:
        return _size(os.environ[VARIABLE], _name(content)) != _pointer(where, content)
    except UnreachableError:
        return True


def _pointer(path: Path, content: str) -> int:
    """How many bytes a pointer says."""
    value = files.read_json(path)
    size = value.get("bytes") if isinstance(value, dict) else None
    expected = {"schema": SCHEMA, "content_digest": content, "bytes": size}
    if value != expected or type(size) is not int or not 0 < size <= OBJECT_LIMIT:
        raise FacebenchError(
            f"{path}: not a pointer to {digest.short(content)}: expected schema {SCHEMA!r}, that "
            f"content_digest and bytes up to {OBJECT_LIMIT}; restore the file"
        )
    return size


def _fetch(path: Path, content: str) -> tuple[bytes, str]:
    size = _pointer(path, content)
    root = _root(f"{path}: evidence unreachable: it is kept in a store", UnreachableError)
    where = f"{_shown(root).rstrip('/')}/{_name(content)}"
    if _local(root):
        file = Path(root).expanduser() / _name(content)
        if not file.is_file():
            raise UnreachableError(f"{where}: evidence unreachable: the store does not have it")
        data = files.read_bytes(file, OBJECT_LIMIT)
    else:
        data = _remote(root, lambda fs, base: _read(fs, f"{base}/{_name(content)}", size + 1))
    if len(data) != size:
        raise FacebenchError(
            f"{where}: half an object or another one: its pointer says {size} bytes, found "
            f"{'more' if len(data) > size else len(data)}; remove it and submit again"
        )
    return data, where


def _name(content: str) -> str:
    full = digest.short(content, 64)
    return f"{full[:2]}/{full}.npz"


def _root(why: str, kind: type[FacebenchError] = FacebenchError) -> str:
    root = os.environ.get(VARIABLE)
    if not root:
        raise kind(f"{why}; set {VARIABLE} to its folder or URL")
    return root


def _local(root: str) -> bool:
    """Whether a store is a folder, which needs no library."""
    return "://" not in root and "::" not in root


def _size(root: str, name: str) -> int | None:
    """The size of an object; None where there is none."""
    if _local(root):
        file = Path(root).expanduser() / name
        return file.stat().st_size if file.is_file() else None

    def ask(fs: Any, base: str) -> int | None:
        found = f"{base}/{name}"
        return fs.info(found)["size"] if fs.exists(found) else None

    return _remote(root, ask)


def _put(root: str, name: str, data: bytes, check: Callable[[bytes, str], Any]) -> None:
    """Writes an object that is not there yet; what is there already must be the same."""
    where = f"{_shown(root).rstrip('/')}/{name}"
    if _size(root, name) is not None:
        if _local(root):
            found = files.read_bytes(Path(root).expanduser() / name, OBJECT_LIMIT)
        else:
            found = _remote(root, lambda fs, base: _read(fs, f"{base}/{name}", OBJECT_LIMIT))
        try:
            check(found, where)
        except FacebenchError as error:
            raise FacebenchError(
                f"{error}; nothing in a store is overwritten: remove the object, if it was left "
                "by a copy that broke off"
            ) from error
        return
    if _local(root):
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise FacebenchError(f"{folder}: {VARIABLE} names no folder; make it first")
        files.require_room(folder, len(data), "keeping the predictions")
        files.write_atomic(folder / name, data)
        return

    def send(fs: Any, base: str) -> None:
        # Under a name that nobody reads until all of it is there.
        part = f"{base}/{name}.{secrets.token_hex(4)}.part"
        fs.makedirs(part.rpartition("/")[0], exist_ok=True)
        with fs.open(part, "wb") as file:
            file.write(data)
        fs.mv(part, f"{base}/{name}")

    _remote(root, send)


def _read(fs: Any, path: str, most: int) -> bytes:
    with fs.open(path, "rb") as file:
        data: bytes = file.read(most)
    return data


def _remote(root: str, do: Callable[[Any, str], _T]) -> _T:
    """Does something with the file system of a URL; what goes wrong becomes one line."""
    try:
        import fsspec
    except ImportError as error:
        raise UnreachableError(
            f"{VARIABLE}={_shown(root)}: a URL needs the package fsspec; run: pip install fsspec"
        ) from error
    try:
        fs, base = fsspec.core.url_to_fs(root)
    except ImportError as error:
        raise UnreachableError(
            f"{VARIABLE}={_shown(root)}: a package for this kind of URL is not installed: "
            f"{_line(error)}"
        ) from error
    except ValueError as error:
        raise UnreachableError(f"{VARIABLE}={_shown(root)}: {_line(error)}") from error
    try:
        fs.invalidate_cache()
        return do(fs, base.rstrip("/"))
    except FacebenchError:
        raise
    except Exception as error:  # of any client library
        raise UnreachableError(
            f"{_shown(root)}: evidence unreachable: {type(error).__name__}: {_line(error)}"
        ) from error


def _line(error: Exception) -> str:
    return _shown(" ".join(str(error).split()))[:300]


def _shown(url: str) -> str:
    """A URL without the user and password that it may hold."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", url)
