"""Reads a pickle without running anything that the pickle names.

A pickle is a program for a small machine with a stack, and Python's own lets the program import and
call whatever it names. Here the machine is another. It imports nothing: a name is compared with the
names of a `Format`, by its spelling, and what a known name makes is the format's own doing. Of the
instructions it knows those of None, truth values, numbers, text, bytes, tuples and lists, and those
that a format asks for; every other name or instruction ends the reading.

Memory is bounded by the file: lengths are compared with what is left of it before anything is made,
the memo is a table of references, and the number of instructions is limited. Instructions are
those of Python's own `pickletools`, protocols 0 to 5, those of Python 2 included.
"""

from __future__ import annotations

import codecs
import dataclasses
import io
import pickletools
import re
import struct
from collections.abc import Callable, Collection, Mapping
from typing import Any

STEPS = 4_000_000  # instructions; an image takes about 30 at most, a tensor about 40


@dataclasses.dataclass(frozen=True)
class Format:
    """What one kind of pickle may consist of, beside plain values.

    Attributes:
        kind: what messages call it.
        names: what it may name, ``module.name``, and what is made where it is called: a function of
            the pickle's arguments; None for what is not called.
        build: given something and its state (BUILD), puts the state in; raises TypeError.
        largest: bytes that it may have.
        text: what becomes of the byte strings that Python 2 calls text.
        also: further instructions, by name, of those that make no plain values.
        persistent: makes what stands for an object that is kept elsewhere (BINPERSID).

    What it makes raises ValueError with a sentence, or TypeError where the pickle is damaged.
    """

    kind: str
    names: Mapping[str, Callable[..., Any] | None]
    build: Callable[[Any, Any], None]
    largest: int
    text: Callable[[bytes], Any] = bytes
    also: Collection[str] = ()
    persistent: Callable[[Any], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Name:
    """A name that the pickle mentions; never what it names."""

    name: str
    make: Callable[..., Any] | None = dataclasses.field(repr=False)


class Inert:
    """Something of which nothing is kept, whatever is done with it."""

    def make(self, *arguments: Any) -> Inert:
        """Itself, where it is called."""
        return self

    def extend(self, items: list[Any]) -> None:
        """Drops the items."""


INERT = Inert()


def run(stream: io.BytesIO, form: Format) -> Any:
    """Reads one pickle, from where the stream stands.

    Args:
        stream: the bytes; left after the pickle's last.
        form: what may stand in it.

    Returns:
        None, bool, int, float, str, bytes, tuples, lists (dicts where the format has them), and
        what the format makes; `Name` for names that were not called.

    Raises:
        ValueError: a name or an instruction that the format does not have, too long, cut off or
            broken; the place is named.
    """
    machine = _Machine(stream, form)
    try:
        return machine.run()
    except (ValueError, LookupError, TypeError, OverflowError, struct.error) as error:
        said = "" if isinstance(error, ValueError) else f"it is broken at {machine.named()}: "
        said += " ".join(str(error).split())[:500]
        raise ValueError(f"byte {machine.begin} of the pickle: {said}") from error


def expect(value: Any, *kinds: type) -> Any:
    """The value, where it is of one of the kinds; otherwise a TypeError that says what it is."""
    if not isinstance(value, kinds):
        raise TypeError(f"a {type(value).__name__} where a {kinds[0].__name__} was expected")
    return value


def key(value: Any) -> Any:
    """The value, where it may be the key of a dict: text, a number, or what is left out."""
    if not isinstance(value, (str, int, float, Name, Inert)):
        raise TypeError(f"a {type(value).__name__} as a key")
    return value


class _Machine:
    """The stack machine. Attributes: `begin`, where the present instruction (`code`) stands."""

    def __init__(self, stream: io.BytesIO, form: Format):
        self.stream, self.form, self.begin, self.code = stream, form, stream.tell(), b""
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        instructions = {
            code: _INSTRUCTIONS[name]
            for code, name in _NAMES.items()
            if name in _INSTRUCTIONS and (name not in _BEYOND or name in self.form.also)
        }
        end = self.begin + self.form.largest
        for _ in range(STEPS):
            self.begin = self.stream.tell()
            if self.begin > end:
                raise ValueError(f"it has more than {self.form.largest} bytes")
            self.code = self.take(1)
            if self.code == b".":
                if len(self.stack) != 1 or self.marks:
                    raise ValueError("it ends with more or less than one value")
                return self.stack[0]
            if (instruction := instructions.get(self.code)) is None:
                means = _BEYOND.get(self.named(), "unknown")
                raise ValueError(
                    f"the instruction {self.named()} ({means}), which no {self.form.kind} has"
                )
            instruction(self)
        raise ValueError(f"more than {STEPS} instructions")

    def named(self) -> str:
        return _NAMES.get(self.code, repr(self.code))

    # ------------------------------------------------------------------------- reading the file

    def take(self, size: int) -> bytes:
        if size < 0:
            raise ValueError(f"a length of {size}")
        if len(taken := self.stream.read(size)) < size:
            raise ValueError(f"it is cut off: {size} bytes were to follow, found {len(taken)}")
        return taken

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def sized(self, layout: str) -> bytes:
        return self.take(self.number(layout))

    def line(self) -> bytes:
        if not (taken := self.stream.readline()).endswith(b"\n"):
            raise ValueError("it is cut off: a line has no end")
        return taken[:-1]

    def integer(self) -> int | bool:
        line = self.line()
        return line == b"01" if line in (b"00", b"01") else _decimal(line)

    def quoted(self) -> bytes:
        line = self.line().strip()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise ValueError("a text without its quotes")
        return codecs.escape_decode(line[1:-1])[0]

    # ------------------------------------------------------------------------------- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def top(self, *kinds: type) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise IndexError("the stack is empty")
        return expect(self.stack[-1], *kinds) if kinds else self.stack[-1]

    def pop(self) -> Any:
        self.top()
        return self.stack.pop()

    def popped(self, size: int | None = None) -> list[Any]:
        """The uppermost values, or all above the last mark."""
        if size is not None:
            return [self.pop() for _ in range(size)][::-1]
        if not self.marks:
            raise IndexError("there is no mark on the stack")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def drop(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def get(self, place: int) -> None:
        if place not in self.memo:
            raise IndexError(f"memo {place} was never set")
        self.push(self.memo[place])

    def put(self, place: int) -> None:
        self.memo[place] = self.top()

    # --------------------------------------------------------------------- containers and names

    def extend(self, values: list[Any]) -> None:
        self.top(list, Inert).extend(values)

    def set(self, values: list[Any]) -> None:
        if isinstance(made := self.top(dict, Inert), Inert):
            return
        if len(values) % 2:
            raise TypeError("a key without a value")
        for at, value in zip(values[::2], values[1::2]):
            made[key(at)] = value

    def name(self, module: Any, name: Any) -> None:
        full = f"{expect(module, str)}.{expect(name, str)}"
        if full not in self.form.names:
            raise ValueError(
                f"it names {full[:80]!r}, which is not on the list of what a {self.form.kind} may "
                "name"
            )
        self.push(Name(full, self.form.names[full]))

    def call(self) -> None:
        function, arguments = self.popped(2)
        if expect(function, Name, Inert).make is None:
            raise TypeError(f"{function.name} is called")
        self.push(function.make(*expect(arguments, tuple)))

    def build(self) -> None:
        state = self.pop()
        self.form.build(self.top(), state)

    def persistent(self) -> None:
        assert self.form.persistent is not None, "the format asks for BINPERSID"
        self.push(self.form.persistent(self.pop()))

    def protocol(self) -> None:
        if (version := self.number("<B")) > 5:
            raise ValueError(f"pickle protocol {version}, at most 5 is known")


def _decimal(line: bytes) -> int:
    if not re.fullmatch(rb"-?\d{1,40}", line):
        raise ValueError(f"{line[:40]!r} is no whole number")
    return int(line)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


_NAMES = {op.code.encode("latin-1"): op.name for op in pickletools.opcodes}
_INSTRUCTIONS: dict[str, Callable[[_Machine], Any]] = {
    "PROTO": _Machine.protocol,
    "FRAME": lambda m: m.number("<Q"),  # a hint of how much to read ahead
    "MARK": lambda m: m.marks.append(len(m.stack)),
    "POP": _Machine.drop,
    "POP_MARK": _Machine.popped,
    "DUP": lambda m: m.push(m.top()),
    "NONE": lambda m: m.push(None),
    "NEWTRUE": lambda m: m.push(True),
    "NEWFALSE": lambda m: m.push(False),
    "INT": lambda m: m.push(m.integer()),
    "BININT": lambda m: m.push(m.number("<i")),
    "BININT1": lambda m: m.push(m.number("<B")),
    "BININT2": lambda m: m.push(m.number("<H")),
    "LONG": lambda m: m.push(_decimal(m.line().removesuffix(b"L"))),
    "LONG1": lambda m: m.push(int.from_bytes(m.sized("<B"), "little", signed=True)),
    "LONG4": lambda m: m.push(int.from_bytes(m.sized("<i"), "little", signed=True)),
    "FLOAT": lambda m: m.push(float(m.line())),
    "BINFLOAT": lambda m: m.push(m.number(">d")),
    "STRING": lambda m: m.push(m.form.text(m.quoted())),
    "BINSTRING": lambda m: m.push(m.form.text(m.sized("<i"))),
    "SHORT_BINSTRING": lambda m: m.push(m.form.text(m.sized("<B"))),
    "BINBYTES": lambda m: m.push(m.sized("<I")),
    "SHORT_BINBYTES": lambda m: m.push(m.sized("<B")),
    "BINBYTES8": lambda m: m.push(m.sized("<Q")),
    "BYTEARRAY8": lambda m: m.push(m.sized("<Q")),
    "UNICODE": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    "BINUNICODE": lambda m: m.push(_text(m.sized("<I"))),
    "SHORT_BINUNICODE": lambda m: m.push(_text(m.sized("<B"))),
    "BINUNICODE8": lambda m: m.push(_text(m.sized("<Q"))),
    "EMPTY_LIST": lambda m: m.push([]),
    "LIST": lambda m: m.push(m.popped()),
    "APPEND": lambda m: m.extend(m.popped(1)),
    "APPENDS": lambda m: m.extend(m.popped()),
    "EMPTY_TUPLE": lambda m: m.push(()),
    "TUPLE": lambda m: m.push(tuple(m.popped())),
    "TUPLE1": lambda m: m.push(tuple(m.popped(1))),
    "TUPLE2": lambda m: m.push(tuple(m.popped(2))),
    "TUPLE3": lambda m: m.push(tuple(m.popped(3))),
    "GET": lambda m: m.get(_decimal(m.line())),
    "BINGET": lambda m: m.get(m.number("<B")),
    "LONG_BINGET": lambda m: m.get(m.number("<I")),
    "PUT": lambda m: m.put(_decimal(m.line())),
    "BINPUT": lambda m: m.put(m.number("<B")),
    "LONG_BINPUT": lambda m: m.put(m.number("<I")),
    "MEMOIZE": lambda m: m.put(len(m.memo)),
    "GLOBAL": lambda m: m.name(_text(m.line()), _text(m.line())),
    "STACK_GLOBAL": lambda m: m.name(*m.popped(2)),
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
    # Those that follow are of `_BEYOND`.
    "EMPTY_DICT": lambda m: m.push({}),
    "SETITEM": lambda m: m.set(m.popped(2)),
    "SETITEMS": lambda m: m.set(m.popped()),
    "EMPTY_SET": lambda m: m.push(INERT),
    "ADDITEMS": lambda m: (m.popped(), m.top(Inert)),
    "NEWOBJ": _Machine.call,
    "BINPERSID": _Machine.persistent,
}
_BEYOND = {  # what makes no plain values, and is refused unless the format asks for it
    **dict.fromkeys(("PERSID", "BINPERSID"), "an object kept elsewhere"),
    **dict.fromkeys(("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"), "an object of a class"),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), "an extension"),
    **dict.fromkeys(("DICT", "EMPTY_DICT", "SETITEM", "SETITEMS"), "a dict"),
    **dict.fromkeys(("EMPTY_SET", "ADDITEMS", "FROZENSET"), "a set"),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), "a buffer kept elsewhere"),
}
