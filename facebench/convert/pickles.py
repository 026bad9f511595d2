"""The pickles of PyTorch checkpoints, read by a machine that can only build containers.

A pickle is a program for a small stack machine, and Python's own lets the program import and call
whatever it names. Here the machine is another: it knows the two dozen instructions that checkpoints
consist of, it imports nothing, and the names of a list are all that it knows. A tensor becomes a
note of where its numbers lie, checked against the storage that it claims to be a part of.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pickletools
from collections.abc import Collection, Iterator
from typing import Any

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
#: Names that make something: containers, and tensors out of storages.
_MAKERS = frozenset(
    (
        "collections.OrderedDict",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
    )
)
#: Names that stand beside the weights in ordinary checkpoints; what they make is left out.
_INERT = frozenset(
    (
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
            raise ValueError(f"a tensor has offset, shape and strides {_shown(numbers)}")
        if len(self.shape) != len(self.strides) or len(self.shape) > 32:
            raise ValueError(f"a tensor has {len(self.shape)} sizes, {len(self.strides)} strides")
        count = math.prod(self.shape)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        if count and last >= self.storage.numel:
            raise ValueError(
                f"a tensor of shape {_shown(self.shape)} reaches number {last} of a storage of "
                f"{self.storage.numel}"
            )
        if count > self.storage.numel:
            raise ValueError(
                f"a tensor of shape {_shown(self.shape)} repeats the {self.storage.numel} numbers "
                "of its storage (was it expanded? save a .contiguous() copy)"
            )


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name that the program mentions; never what it names."""

    name: str


class _Inert:
    """Something of which nothing is kept."""


INERT = _Inert()
_MARK = object()


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
    machine = _Machine(frozenset(inert))
    for name, argument in _instructions(stream):
        if name == "STOP":
            if len(machine.stack) != 1:
                raise ValueError("the pickle ends with more or less than one value")
            return Pickled(machine.stack[0], machine.storages)
        try:
            machine.step(name, argument)
        except (IndexError, KeyError, TypeError) as error:
            said = str(error) or "nothing there"
            raise ValueError(f"the pickle is broken at {name}: {said}") from error
    raise ValueError("the pickle has no end")


def _instructions(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    begun = stream.tell()
    for opcode, argument, place in pickletools.genops(stream):
        if (place or 0) - begun > MAX_PICKLE:
            raise ValueError(f"the pickle has more than {MAX_PICKLE} bytes")
        yield opcode.name, argument


class _Machine:
    """The stack, the memory, and what each instruction does to them."""

    def __init__(self, inert: frozenset[str]) -> None:
        self.stack: list[Any] = []
        self.storages: dict[str, Storage] = {}
        self._memory: dict[int, Any] = {}
        self._inert = _INERT | inert

    def step(self, name: str, argument: Any) -> None:
        """Does one instruction."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument)
            case "BINBYTES" | "SHORT_BINBYTES":
                stack.append(argument)
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(name[-1]))))
            case "TUPLE":
                stack.append(tuple(self._to_mark()))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND" | "APPENDS":
                items = self._pop(1) if name == "APPEND" else self._to_mark()
                if self._top((list, _Inert)) is not INERT:
                    stack[-1].extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM" | "SETITEMS":
                self._set(self._pop(2) if name == "SETITEM" else self._to_mark())
            case "EMPTY_SET":
                stack.append(INERT)
            case "ADDITEMS":
                self._to_mark()
                self._top(_Inert)
            case "BINPUT" | "LONG_BINPUT":
                self._memory[argument] = stack[-1]
            case "MEMOIZE":
                self._memory[len(self._memory)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memory[argument])
            case "GLOBAL":
                stack.append(self._global(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                stack.append(self._global(".".join(map(str, self._pop(2)))))
            case "REDUCE" | "NEWOBJ":
                maker, arguments = self._pop(2)
                stack.append(self._make(maker, arguments))
            case "BUILD":  # the attributes of an OrderedDict, or of what is left out
                self._pop(1)
                self._top((dict, _Inert))
            case "BINPERSID":
                stack.append(self._storage(*self._pop(1)))
            case _:
                raise ValueError(f"the pickle has the instruction {name}, which no checkpoint has")

    def _pop(self, n: int) -> list[Any]:
        taken = self.stack[-n:]
        if len(taken) < n or any(value is _MARK for value in taken):
            raise IndexError
        del self.stack[-n:]
        return taken

    def _to_mark(self) -> list[Any]:
        taken = []
        while (value := self.stack.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]

    def _top(self, kind: Any) -> Any:
        top = self.stack[-1]
        if not isinstance(top, kind):
            raise TypeError(f"not on a {type(top).__name__}")
        return top

    def _set(self, items: list[Any]) -> None:
        target = self._top((dict, _Inert))
        if target is INERT:
            return
        if len(items) % 2:
            raise TypeError("a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            target[_key(key)] = value

    def _global(self, name: str) -> _Global:
        if name in STORAGES or name in _MAKERS or name in self._inert:
            return _Global(name)
        raise ValueError(
            f"it names {name[:80]!r}, which is not on the list of what a checkpoint may name"
        )

    def _make(self, maker: Any, arguments: Any) -> Any:
        if not isinstance(maker, (_Global, _Inert)) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no name")
        if isinstance(maker, _Inert) or maker.name in self._inert:
            return INERT
        match maker.name, arguments:
            case "collections.OrderedDict", ():
                return {}
            case "collections.OrderedDict", (list(pairs),):
                return {_key(key): value for key, value in pairs}
            case "torch.Size", (tuple(sizes),):
                return sizes
            case "torch._utils._rebuild_parameter", (Tensor() as tensor, _, _):
                return tensor
            case "torch._utils._rebuild_tensor_v2", (
                Storage() as storage, offset, tuple(shape), tuple(strides), _, _, *further
            ):  # fmt: skip
                if any(further):
                    raise ValueError("a tensor is a conjugate or negative view; save a .clone()")
                return Tensor(storage, offset, shape, strides)
        raise TypeError(f"{maker.name} with unexpected arguments")

    def _storage(self, claim: Any) -> Storage:
        match claim:
            case ("storage", _Global(name), str(key), _, int(numel)) | (
                "storage", _Global(name), str(key), _, int(numel), None
            ) if name in STORAGES and 0 <= numel < LARGEST:  # fmt: skip
                storage = Storage(key, STORAGES[name], numel)
                if self.storages.setdefault(key, storage) != storage:
                    raise ValueError(f"storage {key[:80]!r} is claimed in two sizes or types")
                return storage
        raise ValueError(f"a tensor's storage is {_shown(claim)}, expected its type, key and size")


def _key(value: Any) -> Any:
    """A key of a dict: text or a number, or something that is left out."""
    if not isinstance(value, (str, int, float, _Global, _Inert)):
        raise TypeError(f"a {type(value).__name__} as a key")
    return value


def _shown(value: Any) -> str:
    return str(value)[:80] if isinstance(value, tuple) else f"a {type(value).__name__}"
