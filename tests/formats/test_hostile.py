"""Damaged files: every reader answers with one line and little memory, whatever was changed."""

from __future__ import annotations

import lzma
import pickle
import random
import struct
import tracemalloc

import numpy as np
import pytest
import scipy.io

from facebench.errors import FacebenchError
from facebench.formats import action_units, bins, ijb, matlab, pairs, recordio

JPEG = b"\xff\xd8\xff\xe0"
ROUNDS = 150


def rec_file(folder):
    data = b""
    for k in range(1, 7):
        content = struct.pack("<IfQQ", k % 3, k // 2, k, 0) + struct.pack("<2f", k, 1)[: k % 3 * 4]
        content += JPEG + bytes(range(k * 9))
        kinds = (0,) if k % 2 else (1, 2, 3)
        for kind in kinds:
            part = content if kind < 2 else b"more"
            data += struct.pack("<II", 0xCED7230A, kind << 29 | len(part)) + part
            data += bytes(-len(part) % 4)
    path = folder / "train.rec"
    path.write_bytes(data)
    return path


def idx_file(folder):
    rec_file(folder)
    path = folder / "train.idx"
    path.write_text("1\t0\n2\t40\n3\t1000\n")
    return path


def bin_file(protocol):
    def make(folder):
        images = [JPEG + bytes([i] * 20) for i in range(8)]
        images = images if protocol % 2 else [np.frombuffer(i, np.uint8) for i in images]
        path = folder / "lfw.bin"
        path.write_bytes(pickle.dumps((images, [True, False] * 2), protocol))
        return path

    return make


def xz_file(folder):
    path = folder / "lfw.xz"
    path.write_bytes(lzma.compress(bin_file(4)(folder).read_bytes()))
    return path


def mat_file(packed):
    def make(folder):
        splits = np.empty((10, 1), object)
        for f in range(10):
            images = np.empty((2, 2), object)
            images[:] = [[{"name": f"a_{f}"}, {"name": "b"}], [{"name": "c"}, {"name": "d"}]]
            splits[f, 0] = {"pairs": images, "labels": np.array([[1.0, -1.0]])}
        scipy.io.savemat(folder / "a.mat", {"splits": splits}, do_compression=packed)
        return folder / "a.mat"

    return make


def points_file(folder):
    scipy.io.savemat(folder / "a.mat", {"pts": np.arange(132.0).reshape(66, 2)})
    return folder / "a.mat"


def text_file(text):
    def make(folder):
        path = folder / "a.txt"
        path.write_text(text)
        return path

    return make


def meta_files(folder):
    faces = [f"{i}.jpg {i} {i + 9}" for i in range(1, 9)]
    (folder / "ijbb_face_tid_mid.txt").write_text("\n".join(faces) + "\n")
    points = [f"{i}.jpg " + " ".join(["1.5"] * 11) for i in range(1, 9)]
    (folder / "ijbb_name_5pts_score.txt").write_text("\n".join(points) + "\n")
    path = folder / "ijbb_template_pair_label.txt"
    path.write_text("1 2 0\n3 4 1\n5 8 0\n" * 9)
    return path


LFW = "2\t2\n" + "A\t1\t2\nB\t1\t2\nA\t1\tB\t1\nB\t1\tA\t2\n" * 2
CODES = "0," + ",".join(map(str, range(1, 30))) + "\n"
CODES += "".join(
    f"{i}," + ",".join("019"[(i + k) % 3] for k in range(29)) + "\n" for i in (3, 4, 9)
)
CALFW = "".join(f"A_{i}.jpg {int(i < 20)}\n" for i in range(40))
READERS = {
    "rec": (rec_file, lambda path: list(recordio.read(path))),
    "layout": (rec_file, recordio.identity_layout),
    "idx": (idx_file, lambda path: list(recordio.read(path.with_suffix(".rec"), path))),
    **{f"bin {p}": (bin_file(p), bins.read) for p in range(6)},
    "xz": (xz_file, bins.read),
    "mat": (mat_file(False), pairs.agedb),
    "packed mat": (mat_file(True), pairs.agedb),
    "lfw": (text_file(LFW), pairs.lfw),
    "people": (text_file("2\n1\nA\t2\n2\nB\t1\nC\t4\n"), pairs.people),
    "calfw": (text_file(CALFW), lambda path: pairs.two_lines(path, "calfw")),
    "ytf": (
        text_file("".join(f"{i}, 1, A/1, {'AB'[i % 2]}/2, {1 - i % 2}\n" for i in range(1, 11))),
        pairs.ytf,
    ),
    "ijb": (meta_files, lambda path: ijb.read(path.parent, "ijbb")),
    "occurrence": (
        text_file(CODES),
        lambda path: action_units.occurrence(path, "F001/T1", range(1, 30)),
    ),
    "grades": (
        text_file("".join(f"{i},{i % 6}\n" for i in range(1, 40))),
        lambda path: action_units.grades({1: path}, "SN001", unknown=False),
    ),
    "boxes": (
        text_file("session,frame,x0\n" + "".join(f"SN001,{i},{i}.5\n" for i in range(1, 20))),
        lambda path: action_units.table(path, ("x0",)),
    ),
    "points": (points_file, lambda path: matlab.points(path, "pts", 66)),
    "search": (text_file("TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,2,a.png\n3,4,b\n"), ijb.search),
}


def damaged(data, rng):
    """Some bytes changed, left out, doubled, or the end cut off."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data))
        what = rng.randrange(6)
        if what == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[at] = rng.choice((0, 9, 10, 32, 48, 57, 127, 128, 255))
        elif what == 2:
            data[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"))
        elif what == 3:
            del data[at : at + rng.randrange(1, 9)]
        elif what == 4:
            data[at:at] = data[at : at + rng.randrange(1, 40)]
        else:
            data[at:] = b""
        data = data or bytearray(b"\0")
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
def test_damage_is_answered_with_one_line(name, tmp_path):
    make, read = READERS[name]
    path = make(tmp_path)
    data = path.read_bytes()
    if name not in ("layout", "idx"):
        read(path)  # undamaged it is read
    rng = random.Random(name)
    said: list[str] = []
    tracemalloc.start()
    try:
        for _ in range(ROUNDS):
            path.write_bytes(damaged(data, rng))
            tracemalloc.reset_peak()
            try:
                read(path)
            except FacebenchError as error:
                said.append(str(error))
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert len(said) > ROUNDS // 10
    assert not [line for line in said if "\n" in line or len(line) > 1000]
