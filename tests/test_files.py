import errno
import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from facebench import files
from facebench.errors import FacebenchError


def listing(folder):
    return sorted(p.name for p in folder.iterdir())


def test_write_is_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "b.txt"
    files.write_text(path, "één\n")
    assert path.read_bytes() == "één\n".encode()
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert listing(path.parent) == ["b.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EIO, "rror")])
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, call, number, said):
    path = tmp_path / "f"
    files.write_atomic(path, b"old")

    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(FacebenchError, match=rf"f: writing failed: .*{said}"):
        files.write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["f"]


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    files.write_atomic(path, b"old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["f"]


def test_a_full_disk_for_real(tmp_path):
    """A file size limit of the operating system stands in for a full disk."""
    script = (
        "import resource, signal, sys, pathlib\n"
        "from facebench import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "files.write_atomic(pathlib.Path(sys.argv[1]), bytes(5000))\n"
    )
    path = tmp_path / "f"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "FacebenchError" in done.stderr
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["f"]


def test_json_is_for_people_and_reads_back(tmp_path):
    path = tmp_path / "v.json"
    files.write_json(path, {"b": [1, 2.5], "a": "é"})
    assert path.read_text(encoding="utf-8") == (
        '{\n  "a": "é",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    )
    assert files.read_json(path) == {"a": "é", "b": [1, 2.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    assert files.read_json(path)["a"] == "é"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1', "Expecting"),
        (b'{"a": 1, "a": 2}', "key 'a' stands twice"),
        (b'{"x": {"a": 1, "b": 2, "b": 2}}', "key 'b' stands twice"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"[1e400]", "larger than a float64"),
        (b"[9007199254740992]", "2\\^53"),
        (b'"\xff"', "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_json_is_read_strictly(tmp_path, data, message):
    path = tmp_path / "v.json"
    path.write_bytes(data)
    with pytest.raises(FacebenchError, match=rf"v\.json: not valid JSON: .*{message}") as error:
        files.read_json(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_said(tmp_path):
    with pytest.raises(FacebenchError, match=r"gone\.json: reading failed: no such file"):
        files.read_json(tmp_path / "gone.json")
    with pytest.raises(FacebenchError, match="it is a folder"):
        files.read_npz(tmp_path)


ARRAYS = {
    "points": np.arange(12, dtype=np.int16).reshape(2, 3, 2),
    "flag": np.array([True, False]),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 3), np.float32),
}


def test_npz_reads_back_here_and_with_numpy(tmp_path):
    path = tmp_path / "a.npz"
    files.write_npz(path, ARRAYS)
    with np.load(path) as theirs:
        for found in (files.read_npz(path), dict(theirs)):
            assert found.keys() == ARRAYS.keys()
            for name, array in ARRAYS.items():
                assert found[name].dtype == array.dtype
                assert found[name].shape == array.shape
                assert np.array_equal(found[name], array)


def test_npz_bytes_depend_on_the_arrays_alone():
    reordered = dict(reversed(ARRAYS.items()))
    swapped = ARRAYS | {"points": np.asfortranarray(ARRAYS["points"]).astype(">i2")}
    assert files.npz_bytes(ARRAYS) == files.npz_bytes(reordered) == files.npz_bytes(swapped)


def test_numpys_own_npz_is_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **ARRAYS)
    assert files.read_npz(tmp_path / "a.npz").keys() == ARRAYS.keys()


def bad_npz(kind: str) -> bytes:
    good = files.npz_bytes(ARRAYS)
    buffer = io.BytesIO()
    if kind == "empty":
        return b""
    if kind == "truncated":
        return good[: len(good) // 2]
    if kind == "flipped":
        at = good.index(b"points.npy") + 60
        return good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
    if kind == "text":
        return b"not a zip"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "traversal":
            archive.writestr("../a.npy", b"x")
        elif kind == "no npy":
            archive.writestr("a.txt", b"x")
        elif kind == "huge header":
            header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }\n"
            head = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
            archive.writestr("a.npy", head + bytes(64))
        elif kind == "code in header":
            header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (exit(),), }\n"
            head = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
            archive.writestr("a.npy", head)
        elif kind == "bomb":
            archive.writestr("a.npy", bytes(8 << 20))
    if kind == "pickle":
        np.savez(buffer, a=np.array([{}], dtype=object))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "truncated",
        "flipped",
        "text",
        "traversal",
        "no npy",
        "huge header",
        "code in header",
        "bomb",
        "pickle",
    ],
)
def test_a_bad_npz_is_one_clear_line(tmp_path, kind):
    path = tmp_path / "a.npz"
    path.write_bytes(bad_npz(kind))
    with pytest.raises(FacebenchError, match=r"a\.npz: ") as error:
        files.read_npz(path, max_bytes=1 << 20)
    assert "\n" not in str(error.value)
    assert listing(tmp_path) == ["a.npz"]


def test_a_member_that_lies_about_its_size(tmp_path):
    """The directory of the zip says 100 bytes, the stream holds 8 MiB."""
    data = bytearray(bad_npz("bomb"))
    true = (8 << 20).to_bytes(4, "little")
    while (at := data.find(true)) >= 0:
        data[at : at + 4] = (100).to_bytes(4, "little")
    path = tmp_path / "a.npz"
    path.write_bytes(bytes(data))
    with pytest.raises(FacebenchError, match=r"a\.npz: "):
        files.read_npz(path, max_bytes=1 << 20)
