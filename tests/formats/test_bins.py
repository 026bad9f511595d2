"""Verification sets: pickles of every protocol and of Python 2, and pickles that want to run."""

from __future__ import annotations

import fractions
import lzma
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench import unpickle
from facebench.errors import FacebenchError
from facebench.formats import bins, pickles

JPEG = b"\xff\xd8\xff\xe0"
PNG = b"\x89PNG\r\n\x1a\n"
IMAGES = [JPEG + bytes(range(256)), PNG + b"'\n\\\"", JPEG + b"x" * 300, JPEG, PNG, JPEG + b"\0"]
SAME = [True, False, True]


def save(folder, data):
    path = folder / "set.bin"
    path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data))
    return path


# ----------------------------------------------------------------------------- what may be written


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        tuple(IMAGES),
        [np.frombuffer(i, np.uint8) for i in IMAGES],
        [np.frombuffer(i, np.uint8).copy() for i in IMAGES],
        [np.frombuffer(i, np.uint8)[:, None] for i in IMAGES],
    ],
    ids=["bytes", "tuple", "read-only", "arrays", "columns"],
)
@pytest.mark.parametrize(
    "same",
    [
        SAME,
        tuple(SAME),
        [np.bool_(s) for s in SAME],
        np.array(SAME),
        np.array(SAME, int),
        [1, 0, 1],
    ],
    ids=["bools", "tuple", "scalars", "array", "integers", "ones"],
)
def test_every_protocol(tmp_path, protocol, images, same):
    path = save(tmp_path, pickle.dumps((images, same), protocol=protocol))
    found, matching = bins.read(path)
    assert found == IMAGES
    assert all(type(image) is bytes for image in found)
    assert matching.dtype == bool
    assert matching.tolist() == SAME


def python2_array(content):
    """An array of bytes as Python 2's NumPy writes it, protocol 2; texts are byte strings."""
    size = struct.pack("<i", len(content))
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\0\x85U\1b\x87R"
        b"(K\1" + b"J" + size + b"\x85" + b"cnumpy\ndtype\nU\2u1K\0K\1\x87R"
        b"(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb" + b"\x89T" + size + content + b"tb"
    )


def python2(images):
    return b"\x80\2]q\0(" + b"".join(images) + b"e](\x88\x89\x88e\x86."


def test_python_2_arrays(tmp_path):
    data = python2([python2_array(i) for i in IMAGES])
    expected = pickle.loads(data, encoding="bytes")  # the bytes above are what Python says they are
    assert [image.tobytes() for image in expected[0]] == IMAGES
    found, same = bins.read(save(tmp_path, data))
    assert (found, same.tolist()) == (IMAGES, SAME)


def test_python_2_byte_strings(tmp_path):
    data = python2([b"T" + struct.pack("<i", len(i)) + i for i in IMAGES])
    assert pickle.loads(data, encoding="bytes")[0] == IMAGES
    assert bins.read(save(tmp_path, data))[0] == IMAGES


def test_python_2_text_protocol(tmp_path):
    def quoted(image):
        return b"S" + repr(image)[1:].encode() + b"\n"

    data = b"((lp0\n" + b"".join(quoted(i) + b"p1\na" for i in IMAGES)
    data += b"(lp2\nI01\naI00\naI1\natp3\n."
    assert pickle.loads(data, encoding="bytes")[0] == IMAGES
    found, same = bins.read(save(tmp_path, data))
    assert (found, same.tolist()) == (IMAGES, SAME)


plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**80), 2**80), st.floats(allow_nan=False),
        st.text(max_size=5), st.binary(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(plain, st.integers(1, 5))
def test_plain_values_are_those_that_python_reads(value, protocol):
    def listed(v):
        return [listed(w) for w in v] if isinstance(v, (list, tuple)) else v

    data = pickle.dumps(value, protocol=protocol)
    if protocol < 3 and b"__builtin__\nbytes" in data:
        with pytest.raises(FacebenchError, match=r"'__builtin__.bytes'"):  # an empty byte string
            pickles.load(data, "set.bin")
        return
    assert listed(pickles.load(data, "set.bin")) == listed(value)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["?", "u1", "<i2", ">i4", "<u8", "<f4", ">f8"]),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 5),
)
def test_arrays_are_those_that_python_reads(code, shape, fortran, protocol):
    array = np.arange(np.prod(shape)).reshape(shape, order="F" if fortran else "C").astype(code)
    if array.size == 0 and protocol < 3:
        return
    found = pickles.load(pickle.dumps(array, protocol=protocol), "a")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_packed_sets(tmp_path):
    data = pickle.dumps((IMAGES, SAME))
    assert bins.read(save(tmp_path, lzma.compress(data)))[0] == IMAGES
    half = len(data) // 2
    streams = lzma.compress(data[:half]) + bytes(4) + lzma.compress(data[half:])
    assert bins.read(save(tmp_path, streams))[0] == IMAGES


def test_folds_without_both():
    same = np.array([True, False] * 6)
    assert bins.folds_without_both(same, 6) == []
    assert bins.folds_without_both(np.sort(same), 6) == [0, 1, 2, 3, 4, 5]
    # 13 pairs in 10 folds: 2, 2, 2, then ones
    same = np.array([1, 0, 1, 0, 1, 1, *[1, 0, 1, 0, 1, 0, 1]], bool)
    assert bins.folds_without_both(same) == [2, 3, 4, 5, 6, 7, 8, 9]


# --------------------------------------------------------------------------------------- refusals


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Calls(os.system, "touch ran"), "posix.system"),
        (Calls(eval, "open('ran', 'w')"), "builtins.eval|__builtin__.eval"),
        (Calls(getattr, "x", "load"), "builtins.getattr|__builtin__.getattr"),
        (Calls(np.load, "ran"), r"numpy(.lib)?[^']*.load"),
        (Calls(np.zeros, 10**12), r"numpy[^']*.zeros"),
        (Calls(bytearray, 10**12), r"builtins.bytearray|__builtin__.bytearray"),
        ({"a": 1}, "a dict"),
        ({1, 2}, "a set|set"),
        (fractions.Fraction(1, 3), r"fractions\.Fraction"),
        (ValueError("x"), r"(builtins|exceptions).ValueError"),
    ],
    ids=range(10),
)
def test_what_a_pickle_names_is_refused_by_its_name(tmp_path, monkeypatch, protocol, call, name):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(([JPEG, JPEG, call], [True]), protocol=protocol)
    with pytest.raises(FacebenchError, match=rf"set.bin: byte [0-9]+ of the pickle: .*({name})"):
        bins.read(save(tmp_path, data))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"(S'touch ran'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch ran\x85R.",
        b"(cnumpy\nndarray\nK\x05o.",
        b"cnumpy\nndarray\nK\x05\x85\x81.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\1btR.",
        b"\x80\x02\x82\x01.",
        b"Pname\n.",
        b"\x97.",
        b"c_codecs\nencode\n(V" + b"ab" * 4 + b"\nVhex\ntR.",
        b"cnumpy\ndtype\n(U\2O8K\0K\1tR.",
        b"cnumpy\ndtype\n(U\6V99999K\0K\1tR.",
    ],
)
def test_instructions_that_make_objects_are_refused(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FacebenchError, match="of the pickle") as error:
        bins.read(save(tmp_path, data))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_bombs_stay_small(tmp_path):
    """Each would ask for much more if lengths and memo numbers were believed."""
    huge = struct.pack("<Q", 1 << 40)
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\0"
    again = b"c_codecs\nencode\nh\0V" + b"latin1\n\x86R"
    for data, said in [
        (b"\x8e" + huge + b"abc.", "cut off: 1099511627776 bytes were to follow, found 4"),
        (b"\x96" + huge + b".", "cut off"),
        (b"T\xff\xff\xff\x7f.", "cut off"),
        (b"T\xff\xff\xff\xff.", "a length of -1"),
        (text + again * 200 + b".", "the same text is encoded again and again"),
        (b"\x80\x02K\1r\xff\xff\xff\xff" + b".", "holds a int"),
        (b"(" * 5000 + b"t" * 5000 + b".", "holds a list of 1"),
        (b"]2a.", "holds a list of 1"),  # a list within itself
        (b"N" * (unpickle.STEPS + 1) + b".", f"more than {unpickle.STEPS} instructions"),
    ]:
        with pytest.raises(FacebenchError, match=said):
            bins.read(save(tmp_path, data))


def test_expansion_is_bounded(tmp_path):
    path = save(tmp_path, lzma.compress(bytes(1 << 26)))
    assert path.stat().st_size < 20_000
    tracemalloc.start()
    try:
        with pytest.raises(FacebenchError, match="unpacks to more than 1048576 bytes"):
            bins.read(path, limit=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20  # 8 of them are the unpacker's own
    finally:
        tracemalloc.stop()
    path = save(tmp_path, pickle.dumps((IMAGES, SAME)))
    with pytest.raises(FacebenchError, match="larger than 100 bytes"):
        bins.read(path, limit=100)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((IMAGES[:5], SAME), "5 images for 3 pairs, expected 6"),
        ((IMAGES, SAME, 1), "holds a list of 3"),
        (pickle.dumps(JPEG), "holds a bytes"),
        ((IMAGES, []), "its second part is a list of 0"),
        ((IMAGES, None), "its second part is a NoneType"),
        ((IMAGES, np.ones((3, 1), bool)), r"its second part is an array of bool of shape \(3, 1\)"),
        ((IMAGES, [True, 2, False]), "whether pair 1 matches is a int"),
        ((IMAGES, [True, "no", False]), "whether pair 1 matches is a str"),
        ((JPEG, SAME), "its first part is a bytes"),
        (([*IMAGES[:4], b"GIF", JPEG], SAME), "image 4 begins with b'GIF' and is no JPEG"),
        (([*IMAGES[:4], "x", JPEG], SAME), "image 4 is a str"),
        (
            ([*IMAGES[:4], np.zeros((2, 2, 3), np.uint8), JPEG], SAME),
            "image 4 is an array of uint8",
        ),
        (([*IMAGES[:4], np.zeros(4), JPEG], SAME), "image 4 is an array of float64"),
        (([*IMAGES[:4], [JPEG], JPEG], SAME), "image 4 is a list of 1"),
    ],
)
def test_other_content_is_refused_by_its_place(tmp_path, value, said):
    with pytest.raises(FacebenchError, match=f"set.bin: {said}"):
        bins.read(save(tmp_path, value))


def test_cut_files_are_refused(tmp_path):
    data = pickle.dumps((IMAGES, SAME))
    for cut in (0, 1, 20, len(data) - 1):
        with pytest.raises(FacebenchError, match="cut off"):
            bins.read(save(tmp_path, data[:cut]))
    with pytest.raises(FacebenchError, match="damaged xz file: it is cut off"):
        bins.read(save(tmp_path, lzma.compress(data)[:-9]))
