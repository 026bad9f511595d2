"""Checkpoints in PyTorch's two layouts, written instruction by instruction, without PyTorch."""

from __future__ import annotations

import io
import math
import struct
import types
import zipfile

import pytest

TYPES = {
    "f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "bf16": "BFloat16Storage",
    "i8": "LongStorage", "i4": "IntStorage", "i2": "ShortStorage", "i1": "CharStorage",
    "u1": "ByteStorage", "b1": "BoolStorage",
}  # fmt: skip


class Raw:
    """Instructions as they are, that leave one value on the stack."""

    def __init__(self, code):
        self.code = code


class Call:
    """A name, called with arguments."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments


def name(dotted):
    module, symbol = dotted.rsplit(".", 1)
    return Raw(b"c" + module.encode() + b"\n" + symbol.encode() + b"\n")


def pid(claim):
    """A persistent id."""
    return Raw(code_of(claim) + b"Q")


def code_of(value):
    """The instructions (protocol 2) that leave a value on the stack."""
    match value:
        case Raw(code=code):
            return code
        case Call(name=of, arguments=arguments):
            return name(of).code + code_of(arguments) + b"R"
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            data = value.encode()
            return b"X" + struct.pack("<I", len(data)) + data
        case tuple():
            return b"(" + b"".join(map(code_of, value)) + b"t"
        case list():
            return b"](" + b"".join(map(code_of, value)) + b"e"
        case dict():
            items = b"".join(code_of(k) + code_of(v) for k, v in value.items())
            return b"}(" + items + b"u"
    raise TypeError(value)


def pickled(value):
    return b"\x80\x02" + code_of(value) + b"."


def tensor(key, kind, numel, shape, strides=None, offset=0, *, view=(), **changes):
    """A tensor of a storage, as `torch.save` writes it; `view` is () since version 1.6."""
    if strides is None:
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    claim = ("storage", name(f"torch.{TYPES[kind]}"), key, "cpu", numel, *view)
    claim = changes.get("claim", claim)
    hooks = Call("collections.OrderedDict")
    return Call(
        changes.get("maker", "torch._utils._rebuild_tensor_v2"),
        pid(claim),
        offset,
        tuple(shape),
        tuple(strides),
        False,
        hooks,
        *changes.get("further", ()),
    )


def zipped(
    value, storages, *, order=b"little", extra=(), root="archive", method=zipfile.ZIP_STORED
):
    """Bytes of a checkpoint of version 1.6 or later: a zip archive of a pickle and storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        data = value if isinstance(value, bytes) else pickled(value)
        archive.writestr(f"{root}/data.pkl", data)
        if order is not None:
            archive.writestr(f"{root}/byteorder", order)
        for key, content in storages.items():
            archive.writestr(f"{root}/data/{key}", content)
        archive.writestr(f"{root}/version", b"3\n")
        for member, content in extra:
            archive.writestr(member, content)
    return buffer.getvalue()


def legacy(value, storages, *, magic=0x1950A86A20F9469CFC6C, version=1001, little=True, order=None):
    """Bytes of a checkpoint from before: pickles in a row, then storages after their lengths.

    Args:
        value: what there is.
        storages: key to (numbers, bytes).
    """
    machine = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    parts = [pickled(magic), pickled(version), pickled(machine)]
    parts.append(value if isinstance(value, bytes) else pickled(value))
    parts.append(pickled(list(storages) if order is None else order))
    parts += [struct.pack("<q", numel) + data for numel, data in storages.values()]
    return b"".join(parts)


@pytest.fixture(scope="session")
def torch_files():
    """The writers above."""
    return types.SimpleNamespace(
        Call=Call, Raw=Raw, legacy=legacy, name=name, pickled=pickled, pid=pid, tensor=tensor,
        zipped=zipped,
    )  # fmt: skip
