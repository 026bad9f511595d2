"""The machine that reads pickles: its limits, and that a format gets what it asks for alone."""

from __future__ import annotations

import io
import pickle
import pickletools

import pytest

from facebench import unpickle
from facebench.convert import pickles as checkpoints

PLAIN = unpickle.Format(
    "list", {"os.name": None, "a.pair": lambda a, b: [a, b]}, lambda m, s: None, 200
)


def run(data, **changes):
    form = unpickle.Format(**{**vars(PLAIN), **changes})
    return unpickle.run(io.BytesIO(data), form)


def test_every_instruction_is_known_or_refused():
    names = {op.name for op in pickletools.opcodes} - {"STOP"}
    assert {*unpickle._INSTRUCTIONS, *unpickle._BEYOND} == names
    assert {*unpickle._INSTRUCTIONS} & {*unpickle._BEYOND} == {*checkpoints._ALSO}


@pytest.mark.parametrize("op", pickletools.opcodes, ids=lambda op: op.name)
def test_what_is_beyond_plain_values_is_refused_unless_asked_for(op):
    if op.name not in unpickle._BEYOND:
        return
    said = f"byte 1 of the pickle: the instruction {op.name} .*, which no list has"
    with pytest.raises(ValueError, match=said):
        run(b"N" + op.code.encode("latin-1") + b".", also={*checkpoints._ALSO} - {op.name})


def test_pickles_in_a_row():
    stream = io.BytesIO(b"before" + pickle.dumps([1, "a"]) + pickle.dumps(2) + b"after")
    stream.seek(6)
    assert [unpickle.run(stream, PLAIN) for _ in range(2)] == [[1, "a"], 2]
    assert stream.read() == b"after"


def test_names_are_the_formats():
    assert run(b"ca\npair\nK\1K\2\x86R.") == [1, 2]
    assert run(b"cos\nname\n.") == unpickle.Name("os.name", None)
    for data, said in [
        (b"cos\nnames\n.", "byte 0 of the pickle: it names 'os.names', .* a list may name"),
        (b"cos\nname\n)R.", "broken at REDUCE: os.name is called"),
        (b"ca\npair\nK\1\x85R.", "byte 11 of the pickle: it is broken at REDUCE: .*missing"),
        (b"ca\npair\nK\1R.", "broken at REDUCE: a int where a tuple was expected"),
        (b"]K\1\x93.", "broken at STACK_GLOBAL: a list where a str was expected"),
    ]:
        with pytest.raises(ValueError, match=said):
            run(data)


def test_limits(monkeypatch):
    assert run(b"N" + b"0N" * 99 + b".") is None
    with pytest.raises(ValueError, match="it has more than 100 bytes"):
        run(b"N" + b"0N" * 99 + b".", largest=100)
    monkeypatch.setattr(unpickle, "STEPS", 100)
    with pytest.raises(ValueError, match="more than 100 instructions"):
        run(b"N" + b"0N" * 99 + b".")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "byte 0 .*cut off: 1 bytes were to follow, found 0"),
        (b"I1", "a line has no end"),
        (b"IxL\n.", "b'xL' is no whole number"),
        (b"I" + b"1" * 41 + b"\n.", "is no whole number"),
        (b"S'a\n.", "without its quotes"),
        (b"\x80\x06N.", "protocol 6"),
        (b"N(0K\1.", "more or less than one value"),
        (b"N(.", "more or less than one value"),
        (b"N(R.", "broken at REDUCE: the stack is empty"),
        (b"Nt.", "broken at TUPLE: there is no mark"),
        (b"h\x05.", "broken at BINGET: memo 5 was never set"),
        (b"\x8e" + b"\xff" * 8 + b".", "broken at BINBYTES8"),
        (b"\x8b\xff\xff\xff\xff.", "a length of -1"),
        (b"\xff.", r"the instruction b'\\xff' \(unknown\)"),
    ],
)
def test_what_is_broken_is_named(data, said):
    with pytest.raises(ValueError, match=said):
        run(data)


def test_integers_as_text_and_truth_values():
    assert repr(run(b"(I1\nI01\nI00\nI-1\nL7L\nI10\nt.")) == "(1, True, False, -1, 7, 10)"


def test_nothing_is_kept_of_what_is_inert():
    inert = {"names": {"a.b": unpickle.INERT.make}, "also": checkpoints._ALSO}
    assert run(b"ca\nb\n)RK\1a(K\1e]]s(Nu)R.", **inert) is unpickle.INERT
    for data, said in [(b"}]]s.", "a list as a key"), (b"}(Nu.", "a key without a value")]:
        with pytest.raises(ValueError, match=said):
            run(data, **inert)
