"""Reading and writing files so that a fault never costs what was already there.

Writes are atomic (temporary file in the same folder, fsync, rename). JSON is read strictly: no
duplicate keys, no NaN. Array files (``.npz``) are written with pinned metadata, so equal arrays
give equal bytes, and read without pickle, with a limit on what they unpack to. Only regular files
are read, up to a size: a pipe would keep a reader waiting, a device has no end.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from facebench.errors import FacebenchError

SPARE = 1 << 20  # bytes of free disk to ask for beside what is to be written
MAX_UNPACKED = 4 << 30  # bytes; a bundle that claims more is refused before it is unpacked
MAX_JSON = 64 << 20  # bytes of a JSON file
MAX_MEMBERS = 10_000  # of an array file
ARRAY_KINDS = "biufSU"  # truth values, whole numbers, floats, text


@contextlib.contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turns an operating-system error about `path` into one line that says the remedy."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again",
            errno.EDQUOT: "the disk quota is used up; free some space and run it again",
            errno.EROFS: "the file system is read-only; choose another folder",
            errno.EACCES: "permission denied; check the folder's owner and mode",
            errno.ENOENT: "no such file or folder",
            errno.EISDIR: "it is a folder",
        }.get(error.errno or 0, error.strerror or str(error))
        raise FacebenchError(f"{path}: {doing} failed: {remedy}") from error


def require_room(folder: Path, size: int, doing: str) -> None:
    """Refuses to begin what a nearly full disk would break off half-way.

    Raises:
        FacebenchError: less than `size` bytes and a little more are free where `folder` stands.
    """
    if shutil.disk_usage(folder).free < size + SPARE:
        raise FacebenchError(
            f"{folder}: {doing} failed: the disk is full; free some space and run the same command "
            "again: what is finished is kept"
        )


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing: readers see the old bytes or the new, never a part.

    Raises:
        FacebenchError: the disk is full, the folder is read-only, and the like; `path` is as
            it was before.
    """
    with explained(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: Path, text: str) -> None:
    """`write_atomic` for text, as UTF-8 with the line ends it has."""
    write_atomic(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON value for people and diffs: sorted keys, two spaces, a final newline."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


@contextlib.contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """Opens a regular file for reading; what goes wrong while it is read is explained, too.

    Raises:
        FacebenchError: missing, unreadable, or a folder, pipe or device.
    """
    with explained(path, "reading"):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            mode = os.fstat(handle).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            if not stat.S_ISREG(mode):
                raise FacebenchError(f"{path}: reading failed: it is no regular file")
            yield file


def read_bytes(path: Path, limit: int) -> bytes:
    """Reads a whole regular file.

    Args:
        path: the file.
        limit: bytes that it may have at most.

    Raises:
        FacebenchError: missing, unreadable, a folder, pipe or device, or larger than `limit`.
    """
    with regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= limit else b""
    if max(len(data), size) > limit:
        raise FacebenchError(f"{path}: larger than {limit} bytes, the most that such a file has")
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice[:80]!r} stands twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is larger than a float64 can hold")
    return value


def _exact(text: str) -> int:
    if len(text) > 17 or abs(int(text)) >= 1 << 53:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise ValueError(f"{shown} is larger than a JSON number holds exactly (2^53)")
    return int(text)


def read_json(path: Path) -> Any:
    """Reads strict JSON.

    Raises:
        FacebenchError: the file is missing, truncated, not UTF-8, larger than `MAX_JSON`, or
            holds duplicate keys, NaN or a number that a float64 cannot hold.
    """
    data = read_bytes(path, MAX_JSON)
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_exact,
        )
    except (ValueError, RecursionError) as error:
        raise FacebenchError(f"{path}: not valid JSON: {error}") from error


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Packs arrays into ``.npz`` bytes that depend on the arrays alone.

    Members are sorted by name, dated 1980, deflated at one level, little-endian, C order.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
            member = io.BytesIO()
            npy.write_array(member, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as ``.npz``, atomically and with pinned bytes."""
    write_atomic(path, npz_bytes(arrays))


def read_npz(path: Path, max_bytes: int = MAX_UNPACKED) -> dict[str, np.ndarray]:
    """Reads the arrays of an ``.npz`` without running anything that is in it.

    Args:
        path: the file.
        max_bytes: how much it may unpack to, all members together.

    Raises:
        FacebenchError: missing, truncated, not a zip of ``.npy`` members, a pickle inside, or
            larger than `max_bytes` once unpacked.
    """
    return unpack(read_bytes(path, max_bytes + SPARE), path, max_bytes)


def unpack(data: bytes, where: Path | str, max_bytes: int = MAX_UNPACKED) -> dict[str, np.ndarray]:
    """`read_npz` for bytes that are here already.

    Args:
        data: of an ``.npz`` file.
        where: what error messages call it.
        max_bytes: see `read_npz`.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise ValueError(f"holds {len(members)} members, at most {MAX_MEMBERS}")
            if sum(member.file_size for member in members) > max_bytes:
                raise ValueError(f"unpacks to more than {max_bytes} bytes")
            for member in members:
                name = _array_name(member)
                if name in arrays:
                    raise ValueError(f"member {member.filename[:80]!r} stands twice")
                with archive.open(member) as file:
                    content = file.read(member.file_size + 1)
                if len(content) != member.file_size:
                    raise ValueError(f"member {member.filename[:80]!r} is not as long as it says")
                arrays[name] = _plain_array(name, content)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FacebenchError(
            f"{where}: not a readable .npz of plain arrays: {_line(error)}; "
            "write it with numpy.savez"
        ) from error
    except Exception as error:  # zlib.error and what else a broken stream may raise
        raise FacebenchError(f"{where}: damaged .npz: {_line(error)}; write it again") from error
    return arrays


def read_npy(path: Path, max_bytes: int = SPARE) -> np.ndarray:
    """Reads one plain array, as `read_npz` reads many.

    Raises:
        FacebenchError: missing, truncated, no ``.npy``, a pickle, or larger than `max_bytes`.
    """
    data = read_bytes(path, max_bytes)
    try:
        return _plain_array(path.name, data)
    except (ValueError, EOFError) as error:
        raise FacebenchError(
            f"{path}: not a readable .npy of plain values: {_line(error)}"
        ) from error
    except Exception as error:  # what else a broken header may raise
        raise FacebenchError(f"{path}: damaged .npy: {_line(error)}") from error


def _array_name(member: zipfile.ZipInfo) -> str:
    """The name of an array by its member, which is no path and packed as `npz_bytes` packs."""
    name = member.filename.removesuffix(".npy")
    if name in (member.filename, "") or not name.isprintable() or {*"/\\:"} & {*name}:
        raise ValueError(f"member {member.filename[:80]!r} is not a plain array name")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"member {member.filename[:80]!r} is neither stored nor deflated")
    return name


def _plain_array(name: str, content: bytes) -> np.ndarray:
    """Reads one ``.npy``; its header is held against its length before anything is set aside."""
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array {name[:80]!r} is .npy version {version}, expected (1, 0)")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = header(stream)
    if dtype.hasobject:
        raise ValueError(f"array {name[:80]!r} holds Python objects: allow_pickle is not given")
    if dtype.kind not in ARRAY_KINDS or dtype.itemsize == 0:
        raise ValueError(
            f"array {name[:80]!r} has type {str(dtype)[:80]}, expected numbers or text"
        )
    if (
        min(shape, default=0) < 0
        or math.prod(shape) * dtype.itemsize != len(content) - stream.tell()
    ):
        raise ValueError(f"array {name[:80]!r} is not as long as its shape {str(shape)[:80]} says")
    stream.seek(0)
    return npy.read_array(stream, allow_pickle=False)


def _line(error: Exception) -> str:
    """An error as one line of moderate length."""
    return " ".join(str(error).split())[:200] or type(error).__name__
