"""Safetensors files: what is read, what is refused, equal bytes for equal contents."""

from __future__ import annotations

import json
import random
import struct

import numpy as np
import pytest

from facebench import tensors
from facebench.errors import FacebenchError


def raw(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(kind, shape, start, end):
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def read(tmp_path, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    return tensors.read(path)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("I64", "<i8"), ("U8", "u1"), ("BOOL", "?")],
)
def test_types_of_numbers(tmp_path, kind, dtype):
    numbers = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    data = numbers.tobytes()
    arrays, text = read(tmp_path, raw({"w": entry(kind, [2, 3], 0, len(data))}, data))
    assert arrays["w"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(arrays["w"], numbers)
    assert text == {}


def test_bfloat16_becomes_float32(tmp_path):
    arrays, _ = read(tmp_path, raw({"w": entry("BF16", [3], 0, 6)}, b"\x80\x3f\x20\xc0\x49\x40"))
    assert arrays["w"].dtype == np.float32
    assert arrays["w"].tolist() == [1.0, -2.5, 3.140625]


def test_what_is_written_is_read_and_the_bytes_follow_from_it(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "b": rng.normal(size=(2, 3)).astype(np.float32),
        "a": np.zeros((0, 4), np.float16),
        "c": np.asfortranarray(rng.normal(size=(3, 4))),
        "scalar": np.float32(2.0).reshape(()),
    }
    for name, order in (("one", list(arrays)), ("two", sorted(arrays))):
        tensors.write(tmp_path / name, {k: arrays[k] for k in order}, {"text": "ü"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    back, text = tensors.read(tmp_path / "one")
    assert text == {"text": "ü"}
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (back[name].shape, back[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(back[name], array)


def test_big_endian_arrays_are_written_little(tmp_path):
    tensors.write(tmp_path / "a", {"w": np.array([1, 2], ">f4")}, {})
    np.testing.assert_array_equal(tensors.read(tmp_path / "a")[0]["w"], [1, 2])


GOOD = {"w": entry("F32", [2], 0, 8)}
TWICE = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}'  # fmt: skip # noqa: E501


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (b"\2\0\0", "3 bytes"),
        (raw(GOOD, bytes(8), length=1 << 62), "header claims"),
        (raw(GOOD, bytes(8), length=17 << 20), "at most"),
        (raw(GOOD, length=4000), "are there"),
        (raw(b"{"), "not a readable"),
        (raw(b"[" * 100_000), "not a readable"),
        (raw(b"\xff\xfe{}"), "not a readable"),
        (raw(b"[]"), "not a readable"),
        (raw(TWICE, bytes(8)), "'w' stands twice"),
        (raw(GOOD, bytes(7)), "not a readable"),
        (raw(GOOD, bytes(9)), "not a readable"),
        (raw({"w": entry("F32", [3], 0, 8)}, bytes(8)), "not a readable"),
        (raw({"w": entry("F32", [2], 4, 12)}, bytes(8)), "not a readable"),
        (raw({"w": entry("F32", [2], 0, 1 << 60)}, bytes(8)), "not a readable"),
        (raw({"w": entry("F32", [1 << 40, 1 << 40], 0, 8)}, bytes(8)), "not a readable"),
        (raw({"w": entry("F32", [-2], 0, 8)}, bytes(8)), "not a readable"),
        (raw({"w": entry("F99", [2], 0, 8)}, bytes(8)), "not a readable"),
        (raw({"w": entry("C64", [1], 0, 8)}, bytes(8)), "type C64"),
        (raw({**GOOD, "v": entry("F32", [2], 0, 8)}, bytes(8)), "not a readable"),
        (raw({**GOOD, "v": entry("F32", [2], 4, 12)}, bytes(12)), "not a readable"),
        (raw({**GOOD, "v": entry("F32", [1], 12, 16)}, bytes(16)), "not a readable"),
    ],
)
def test_files_that_lie(tmp_path, data, said):
    with pytest.raises(FacebenchError, match=said) as caught:
        read(tmp_path, data)
    assert "a.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_changed_bytes_are_read_or_refused(tmp_path):
    whole = raw({"w": entry("F32", [2], 0, 8), "v": entry("F16", [1, 1], 8, 10)}, bytes(10))
    rng, refused = random.Random(0), 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[rng.randrange(len(whole) - 10)] = rng.randrange(256)
        try:
            arrays, _ = read(tmp_path, bytes(changed))
        except FacebenchError:
            refused += 1
        else:
            assert sum(a.size for a in arrays.values()) <= 10
    assert 100 < refused < 300


def test_no_file_and_no_regular_file(tmp_path):
    with pytest.raises(FacebenchError, match="no such file"):
        tensors.read(tmp_path / "absent")
    with pytest.raises(FacebenchError, match="folder"):
        tensors.read(tmp_path)


def test_looks_like():
    assert tensors.looks_like(raw(GOOD, bytes(8)))
    assert not tensors.looks_like(b"PK\3\4" + bytes(20))
    assert not tensors.looks_like(b"\x80\x02}q\0.")
