"""PyTorch's own checkpoints, ``.pt``, ``.pth``, ``.ckpt``, read without PyTorch and without trust.

Two layouts are in use. Since version 1.6 (2020) a checkpoint is a zip archive: ``NAME/data.pkl``
says what there is, and every storage is a member ``NAME/data/KEY``, uncompressed. Before, it was
five pickles in a row (a magic number, the version, the machine, what there is, the order of the
storages), then the storages, each after its length. Nothing is unpacked to disk.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from facebench import files
from facebench.convert import pickles
from facebench.convert.pickles import Storage, Tensor
from facebench.errors import FacebenchError

MAGIC = 0x1950A86A20F9469CFC6C  # what the older layout begins with
LEGACY = 1001  # its version
ZIP, PICKLE = b"PK\x03\x04", b"\x80"

Choose = Callable[[Any], Mapping[str, Tensor]]


def looks_like(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a checkpoint of either layout."""
    return head.startswith((ZIP, PICKLE))


def read(path: Path, choose: Choose, inert: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Reads some tensors of a checkpoint.

    Args:
        path: the file.
        choose: given what the checkpoint holds (see `pickles.run`), the tensors to read, by name.
            Nothing else of the file is read.
        inert: further names that its pickle may mention; what they make is left out.

    Returns:
        Name to array, read-only; tensors that share a storage share memory. bfloat16 comes out as
        float32.

    Raises:
        FacebenchError: truncated, compressed, inconsistent, or it names something that is not on
            the list; the message says which.
    """
    try:
        with files.regular(path) as file:
            head = file.read(4)
            file.seek(0)
            open_ = _zipped if head == ZIP else _legacy
            return open_(file, choose, inert)
    except (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise FacebenchError(f"{path}: not read: {said}; {_remedy(said)}") from error


def _remedy(said: str) -> str:
    if "not on the list" not in said:
        return "get it again, or save it again with PyTorch: torch.save(model.state_dict(), ...)"
    remedy = "where you trust it, save the weights alone: torch.save(model.state_dict(), ...)"
    if "'torch." not in said:
        remedy += "; or name it with --inert=, and nothing of it is run or kept"
    return remedy


# -- since 1.6 ------------------------------------------------------------------------------------


def _zipped(file: BinaryIO, choose: Choose, inert: Collection[str]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        content = _members(archive, os.fstat(file.fileno()).st_size)
        order = content("byteorder", 16) or b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"byteorder is {order!r}, expected little or big")
        pickled = content("data.pkl", pickles.MAX_PICKLE) or b""
        chosen = choose(pickles.run(io.BytesIO(pickled), inert).value)

        def fetch(storage: Storage) -> np.ndarray:
            size = storage.numel * pickles.item_size(storage.kind)
            data = content(f"data/{storage.key}", size)
            if data is None or len(data) != size:
                found = "is not in the file" if data is None else f"has {len(data)} bytes"
                raise ValueError(f"storage {storage.key[:80]!r} {found}, its tensors claim {size}")
            return _numbers(data, storage.kind, "<" if order == b"little" else ">")

        return _tensors(chosen, fetch)


def _members(archive: zipfile.ZipFile, size: int) -> Callable[[str, int], bytes | None]:
    """Checks an archive as a whole.

    Args:
        archive: the checkpoint.
        size: bytes of its file.

    Returns:
        Gives the bytes of a member, by its name below ``NAME/`` and the most that it may have; None
        where there is no such member.
    """
    infos = archive.infolist()
    paths = [info.filename.split("/") for info in infos]
    roots = [path[0] for path in paths if path[1:] == ["data.pkl"]]
    if any(path[1:] == ["constants.pkl"] for path in paths):
        raise ValueError("it is a compiled model (TorchScript), not its weights")
    if len(roots) != 1:
        raise ValueError(f"the archive has {len(roots)} members NAME/data.pkl, expected one")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        if name in members:
            raise ValueError(f"member {name[:80]!r} stands twice in the archive")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"member {name[:80]!r} is compressed, which PyTorch never does")
        members[name] = info
    if (claimed := sum(info.file_size for info in infos)) > size:
        raise ValueError(f"its members claim {claimed} bytes, the file has {size}")

    def content(name: str, most: int) -> bytes | None:
        member = members.get(f"{roots[0]}/{name}")
        if member is None:
            return None
        if member.file_size > most:
            raise ValueError(f"{name[:80]} has {member.file_size} bytes, expected {most} at most")
        with archive.open(member) as stream:
            data = stream.read(member.file_size + 1)
        if len(data) != member.file_size:
            raise ValueError(f"{name[:80]} has {len(data)} bytes of {member.file_size}")
        return data

    return content


# -- before ---------------------------------------------------------------------------------------


def _legacy(file: BinaryIO, choose: Choose, inert: Collection[str]) -> dict[str, np.ndarray]:
    stream = io.BytesIO(file.read(2 * pickles.MAX_PICKLE))
    if pickles.run(stream).value != MAGIC:
        raise ValueError("a pickle that is no PyTorch checkpoint")
    if (version := pickles.run(stream).value) != LEGACY:
        raise ValueError(f"layout {version!r}, expected {LEGACY}")
    machine = pickles.run(stream).value
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    held = pickles.run(stream, inert)
    chosen = choose(held.value)
    order = pickles.run(stream).value
    if not isinstance(order, list) or not all(isinstance(key, str) for key in order):
        raise ValueError("the list of its storages is none")
    size_of = held.storages
    places: dict[str, int] = {}
    place, end = stream.tell(), os.fstat(file.fileno()).st_size
    for key in order:
        file.seek(place)
        head = file.read(8)
        numel = struct.unpack("<q", head)[0] if len(head) == 8 else -1
        if key not in size_of or key in places:
            raise ValueError(f"storage {key[:80]!r} is listed twice, or no tensor is a part of it")
        if numel != size_of[key].numel:
            raise ValueError(
                f"storage {key[:80]} has {numel} numbers, its tensors claim {size_of[key].numel}"
            )
        places[key] = place + 8
        place += 8 + numel * pickles.item_size(size_of[key].kind)
        if place > end:
            raise ValueError(f"storage {key[:80]} reaches beyond the end: the file is truncated")

    def fetch(storage: Storage) -> np.ndarray:
        if storage.key not in places:
            raise ValueError(f"storage {storage.key[:80]} is not in the file")
        file.seek(places[storage.key])
        return _numbers(
            file.read(storage.numel * pickles.item_size(storage.kind)), storage.kind, "<"
        )

    return _tensors(chosen, fetch)


# -- both -----------------------------------------------------------------------------------------


def _numbers(data: bytes, kind: str, order: Literal["<", ">"]) -> np.ndarray:
    """A storage's bytes as numbers; bfloat16 is the upper half of a float32."""
    if kind == "bfloat16":
        return (np.frombuffer(data, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(kind).newbyteorder(order))


def _tensors(
    chosen: Mapping[str, Tensor], fetch: Callable[[Storage], np.ndarray]
) -> dict[str, np.ndarray]:
    """The chosen tensors as views of their storages, each of which is read once."""
    storages: dict[str, np.ndarray] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in chosen.items():
        key = tensor.storage.key
        if key not in storages:
            storages[key] = fetch(tensor.storage)
        flat = storages[key]
        arrays[name] = np.lib.stride_tricks.as_strided(
            flat[tensor.offset :],
            tensor.shape,
            [stride * flat.itemsize for stride in tensor.strides],
            writeable=False,
        )
    return arrays
