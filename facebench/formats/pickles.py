"""Plain data out of a pickle, without running anything that the pickle names.

A pickle is a program for a small machine with a stack. This one knows the instructions that make
None, truth values, numbers, text, bytes, tuples, lists and NumPy arrays, and no other. What a
pickle names is never looked up: the names below are recognised by their spelling, everything else
is refused. Memory is bounded by the file: content is not copied, a memo is a table of references,
and the number of instructions is limited.

Instructions as in Python's own `pickletools`; protocols 0 to 5, those of Python 2 included, whose
texts are kept as bytes.
"""

from __future__ import annotations

import codecs
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from facebench.errors import FacebenchError

STEPS = 4_000_000  # instructions; an image takes about 30 at most

#: What a pickle may name, and what is meant by it.
KNOWN = {
    **{
        f"numpy.{core}.{name}": name.split(".")[1]
        for core in ("core", "_core")
        for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
    },
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
}
_CODE = re.compile(r"[<>|=]?([biuf][1248]|\?)")


class _Name:
    """A name that a pickle may use."""

    def __init__(self, meaning: str):
        self.meaning = meaning


class _Type:
    """A NumPy type."""

    def __init__(self, code: str):
        self.dtype = np.dtype(code)


class _Array:
    """A NumPy array, whose content follows by BUILD."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None


class _FaultError(Exception):
    """What is wrong with a pickle, without the name of its file."""


def load(data: bytes, where: object) -> Any:
    """Reads a pickle of plain data.

    Args:
        data: the pickle.
        where: what error messages call it.

    Returns:
        None, bool, int, float, str, bytes, tuple, list, or NumPy arrays of numbers, which share
        the bytes of the pickle.

    Raises:
        FacebenchError: it names something that is not in `KNOWN`, has an instruction that makes
            no plain data, is cut off or broken; the place is named.
    """
    machine = _Machine(data)
    try:
        return _plain(machine.run())
    except _FaultError as error:
        raise FacebenchError(f"{where}: byte {machine.begin} of the pickle: {error}") from error
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error) as error:
        found = " ".join(str(error).split())[:120]
        raise FacebenchError(
            f"{where}: byte {machine.begin} of the pickle: it is damaged: "
            f"{type(error).__name__}: {found}"
        ) from error


def _plain(value: Any) -> Any:
    """A value as the caller sees it, down to the lists' and tuples' own entries."""
    if isinstance(value, _Array):
        if value.array is None:
            raise _FaultError("an array has no content")
        return value.array
    if isinstance(value, (_Name, _Type)):
        raise _FaultError("a type or function stands where data was expected")
    if isinstance(value, (list, tuple)):
        made = [
            _plain(v) if not isinstance(v, (list, tuple)) else [_one(w) for w in v] for v in value
        ]
        return tuple(made) if isinstance(value, tuple) else made
    return value


def _one(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else _plain(value)


class _Machine:
    """The stack machine. Attributes: `begin`, where the present instruction stands."""

    def __init__(self, data: bytes):
        self.data, self.at, self.begin = data, 0, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.room = 2 * len(data) + 4096  # bytes that texts may become when they are encoded

    # ------------------------------------------------------------------------- reading the file

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise _FaultError(f"it is cut off: {size} bytes were to follow, found {self.left()}")
        self.at += size
        return self.data[self.at - size : self.at]

    def left(self) -> int:
        return len(self.data) - self.at

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise _FaultError("it is cut off: a line has no end")
        begin, self.at = self.at, end + 1
        return self.data[begin:end]

    # ------------------------------------------------------------------------------- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _FaultError("the stack is empty")
        return self.stack.pop()

    def top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _FaultError("the stack is empty")
        return self.stack[-1]

    def popped(self) -> list[Any]:
        """What stands above the last mark."""
        if not self.marks:
            raise _FaultError("there is no mark on the stack")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def run(self) -> Any:
        for _ in range(STEPS):
            self.begin = self.at
            code = self.take(1)
            if code == b".":
                return self.pop()
            if (instruction := _INSTRUCTIONS.get(code)) is None:
                raise _FaultError(
                    f"instruction {code!r} ({_REFUSED.get(code, 'unknown')}) is refused: it does "
                    "not make plain data"
                )
            instruction(self)
        raise _FaultError(f"more than {STEPS} instructions")

    # ------------------------------------------------------------------------ named instructions

    def named(self, module: bytes | str, name: bytes | str) -> None:
        words = [
            w.decode("utf-8", "replace") if isinstance(w, bytes) else w for w in (module, name)
        ]
        full = ".".join(words)
        if full not in KNOWN:
            raise _FaultError(
                f"it names {full[:120]!r}, which is not allowed: only NumPy arrays of numbers, "
                "bytes and plain lists are; do not open this file with another program"
            )
        self.push(_Name(KNOWN[full]))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise _FaultError("a name that is no text")
        self.named(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _FaultError("it calls what is no function")
        try:
            made = getattr(self, f"call_{function.meaning}")(*arguments)
        except (TypeError, AttributeError) as error:
            raise _FaultError(f"{function.meaning} is called with wrong arguments") from error
        self.push(made)

    def call__reconstruct(self, kind: Any, shape: Any, code: Any) -> _Array:
        if not isinstance(kind, _Name) or kind.meaning != "ndarray" or shape != (0,):
            raise _FaultError("an array is made in an unusual way")
        return _Array()

    def call_dtype(self, code: Any, align: Any = False, copy: Any = False) -> _Type:
        text = code.decode("latin-1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or not _CODE.fullmatch(text):
            raise _FaultError(f"arrays of type {str(text)[:40]!r}, expected numbers")
        return _Type(text)

    def call_scalar(self, kind: Any, content: Any) -> Any:
        if not isinstance(kind, _Type) or not isinstance(content, bytes):
            raise _FaultError("a number is made in an unusual way")
        if len(content) != kind.dtype.itemsize:
            raise _FaultError("a number is not as long as its type says")
        return np.frombuffer(content, kind.dtype)[0].item()

    def call__frombuffer(self, content: Any, kind: Any, shape: Any, order: Any) -> _Array:
        made = _Array()
        self.fill(made, shape, kind, order == "F", content)
        return made

    def call_encode(self, text: Any, codec: Any) -> bytes:
        if not isinstance(text, str) or codec not in ("latin1", "latin-1", b"latin1"):
            raise _FaultError("text is encoded in an unusual way, expected latin1")
        self.room -= len(text)
        if self.room < 0:
            raise _FaultError("the same text is encoded again and again")
        return text.encode("latin-1")

    def build(self) -> None:
        state, made = self.pop(), self.top()
        if isinstance(made, _Type):
            if not (isinstance(state, tuple) and len(state) >= 2):
                raise _FaultError("a type is made in an unusual way")
            order: Any = state[1].decode("latin-1") if isinstance(state[1], bytes) else state[1]
            if order not in ("<", ">", "|", "=") or state[2:5] != (None,) * len(state[2:5]):
                raise _FaultError("arrays of a compound type, expected numbers")
            made.dtype = made.dtype.newbyteorder(order)
        elif isinstance(made, _Array):
            if not (isinstance(state, tuple) and len(state) == 5):
                raise _FaultError("an array is made in an unusual way")
            self.fill(made, state[1], state[2], bool(state[3]), state[4])
        else:
            raise _FaultError(
                f"the state of a {type(made).__name__} is set, expected that of an array"
            )

    def fill(self, made: _Array, shape: Any, kind: Any, fortran: bool, content: Any) -> None:
        if not isinstance(kind, _Type) or not isinstance(content, bytes):
            raise _FaultError("an array that does not hold numbers")
        if (
            not isinstance(shape, tuple)
            or len(shape) > 32
            or not all(type(n) is int and 0 <= n <= 1 << 40 for n in shape)
            or math.prod(shape) * kind.dtype.itemsize != len(content)
        ):
            raise _FaultError("an array is not as long as its shape says")
        array = np.frombuffer(content, kind.dtype)
        made.array = array.reshape(shape, order="F" if fortran else "C")

    # ----------------------------------------------------------------------- other instructions

    def append(self) -> None:
        value, made = self.pop(), self.top()
        if not isinstance(made, list):
            raise _FaultError("something is appended to what is no list")
        made.append(value)

    def appends(self) -> None:
        values, made = self.popped(), self.top()
        if not isinstance(made, list):
            raise _FaultError("something is appended to what is no list")
        made.extend(values)

    def pop_one(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def drop(self) -> None:
        self.popped()

    def instance(self) -> None:
        self.named(self.line(), self.line())
        raise _FaultError("an object of a class is made, which is no plain data")

    def tuple_of(self, size: int) -> None:
        values = [self.pop() for _ in range(size)]
        self.push(tuple(reversed(values)))

    def text_integer(self) -> None:
        line = self.line()
        self.push(line == b"01" if line in (b"00", b"01") else _decimal(line))

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise _FaultError(f"memo {key} was never set")
        self.push(self.memo[key])

    def put(self, key: int) -> None:
        self.memo[key] = self.top()

    def quoted(self) -> None:
        line = self.line().strip()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise _FaultError("a text without its quotes")
        self.push(codecs.escape_decode(line[1:-1])[0])

    def frame(self) -> None:
        self.number("<Q")  # a hint of how much to read ahead

    def protocol(self) -> None:
        if (version := self.number("<B")) > 5:
            raise _FaultError(f"pickle protocol {version}, at most 5 is known")


def _decimal(line: bytes) -> int:
    if not re.fullmatch(rb"-?\d{1,40}", line):
        raise _FaultError(f"{line[:40]!r} is no whole number")
    return int(line)


def _bytes(layout: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.take(_size(m.number(layout))))


def _text(layout: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.take(_size(m.number(layout))).decode("utf-8", "surrogatepass"))


def _long(layout: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(int.from_bytes(m.take(_size(m.number(layout))), "little", signed=True))


def _size(size: int) -> int:
    if size < 0:
        raise _FaultError(f"a length of {size}")
    return size


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"0": _Machine.pop_one,
    b"1": _Machine.drop,
    b"2": lambda m: m.push(m.top()),
    b"F": lambda m: m.push(float(m.line())),
    b"G": lambda m: m.push(m.number(">d")),
    b"I": _Machine.text_integer,
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"L": lambda m: m.push(_decimal(m.line().removesuffix(b"L"))),
    b"\x8a": _long("<B"),
    b"\x8b": _long("<i"),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"i": _Machine.instance,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
    b"c": lambda m: m.named(m.line(), m.line()),
    b"\x93": _Machine.stack_global,
    b"S": _Machine.quoted,
    b"T": _bytes("<i"),
    b"U": _bytes("<B"),
    b"B": _bytes("<I"),
    b"C": _bytes("<B"),
    b"\x8e": _bytes("<Q"),
    b"\x96": _bytes("<Q"),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"X": _text("<I"),
    b"\x8c": _text("<B"),
    b"\x8d": _text("<Q"),
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.popped()),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.popped())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"g": lambda m: m.get(_decimal(m.line())),
    b"h": lambda m: m.get(m.number("<B")),
    b"j": lambda m: m.get(m.number("<I")),
    b"p": lambda m: m.put(_decimal(m.line())),
    b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"\x80": _Machine.protocol,
    b"\x95": _Machine.frame,
}
_REFUSED = {
    **dict.fromkeys([b"P", b"Q"], "an object kept elsewhere"),
    **dict.fromkeys([b"o", b"\x81", b"\x92"], "an object of a class"),
    **dict.fromkeys([b"\x82", b"\x83", b"\x84"], "an extension"),
    **dict.fromkeys([b"d", b"}", b"s", b"u"], "a dict"),
    **dict.fromkeys([b"\x8f", b"\x90", b"\x91"], "a set"),
    **dict.fromkeys([b"\x97", b"\x98"], "a buffer kept elsewhere"),
}
