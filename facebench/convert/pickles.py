"""The pickles of PyTorch checkpoints, read by the machine of `facebench.unpickle`.

A tensor becomes a note of where its numbers lie, checked against the storage that it claims to be a
part of. The names below are all that a checkpoint may mention.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Collection
from reprlib import repr as shown  # bounded, whatever stands in it
from typing import Any

from facebench import unpickle
from facebench.unpickle import INERT, Inert, Name, expect

LARGEST = 1 << 48  # no count, size or offset in a checkpoint is larger
MAX_PICKLE = 16 << 20  # bytes; a checkpoint's has about 200 for a tensor, and no numbers

#: Storages by the name PyTorch gives their class, and the type of number in each.
STORAGES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
#: Names that stand beside the weights in ordinary checkpoints; what they make is left out.
_INERT = (
    "_codecs.encode",
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "torch.device",
    *(f"{m}.{n}" for m in ("__builtin__", "builtins") for n in ("dict", "list", "set")),
    *(f"torch.{name}" for name in ("bfloat16", "bool", "float16", "float32", "float64")),
    *(f"torch.{name}" for name in ("int16", "int32", "int64", "int8", "uint8")),
)


def item_size(kind: str) -> int:
    """Bytes of a number of a type of `STORAGES`."""
    return {"bfloat16": 2, "?": 1}.get(kind) or int(kind[1])


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers of one type, by the key under which the file has it."""

    key: str
    kind: str
    numel: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where the numbers of a tensor lie in its storage; offset and strides in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.strides)
        if not all(type(n) is int and 0 <= n < LARGEST for n in numbers):
            raise ValueError(f"a tensor has offset, shape and strides {shown(numbers)}")
        if len(self.shape) != len(self.strides) or len(self.shape) > 32:
            raise ValueError(f"a tensor has {len(self.shape)} sizes, {len(self.strides)} strides")
        count = math.prod(self.shape)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        if count and last >= self.storage.numel:
            raise ValueError(
                f"a tensor of shape {shown(self.shape)} reaches number {last} of a storage of "
                f"{self.storage.numel}"
            )
        if count > self.storage.numel:
            raise ValueError(
                f"a tensor of shape {shown(self.shape)} repeats the {self.storage.numel} numbers "
                "of its storage (was it expanded? save a .contiguous() copy)"
            )


@dataclasses.dataclass(frozen=True)
class Pickled:
    """What a pickle holds.

    Attributes:
        value: dicts, lists, tuples and plain values, with `Tensor` for tensors, `Storage` for bare
            storages, and `INERT` for what is left out.
        storages: every storage that is mentioned, by key.
    """

    value: Any
    storages: dict[str, Storage]


def run(stream: io.BytesIO, inert: Collection[str] = ()) -> Pickled:
    """Runs one pickle, from where the stream stands.

    Args:
        stream: the bytes; left after the pickle's last.
        inert: further names, ``module.name``, that may stand in it; what they make is left out.

    Raises:
        ValueError: it is broken, names something that is not on the list, or does what no
            checkpoint does.
    """
    storages: dict[str, Storage] = {}

    def storage(claim: Any) -> Storage:
        match claim:
            case ("storage", Name(name), str(key), _, int(numel)) | (
                "storage", Name(name), str(key), _, int(numel), None
            ) if name in STORAGES and 0 <= numel < LARGEST:  # fmt: skip
                made = Storage(key, STORAGES[name], numel)
                if storages.setdefault(key, made) != made:
                    raise ValueError(f"storage {key[:80]!r} is claimed in two sizes or types")
                return made
        raise ValueError(f"a tensor's storage is {shown(claim)}, expected its type, key and size")

    form = unpickle.Format(
        kind="checkpoint",
        names={**_NAMES, **dict.fromkeys(inert, INERT.make)},
        build=lambda made, state: expect(made, dict, Inert),  # attributes are dropped
        largest=MAX_PICKLE,
        text=lambda content: content.decode("latin-1"),
        also=_ALSO,
        persistent=storage,
    )
    return Pickled(unpickle.run(stream, form), storages)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return {unpickle.key(key): value for key, value in expect(pairs, list, tuple)}


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, trained: Any, hooks: Any, *further: Any
) -> Tensor:
    if any(further):
        raise ValueError("a tensor is a conjugate or negative view; save a .clone()")
    return Tensor(expect(storage, Storage), offset, expect(shape, tuple), expect(strides, tuple))


_ALSO = ("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "NEWOBJ", "BINPERSID")
_NAMES = {
    **dict.fromkeys(STORAGES),
    **dict.fromkeys(_INERT, INERT.make),
    "collections.OrderedDict": _ordered,
    "torch.Size": lambda sizes: expect(sizes, tuple),
    "torch._utils._rebuild_parameter": lambda tensor, trained, hooks: expect(tensor, Tensor),
    "torch._utils._rebuild_tensor_v2": _tensor,
}
