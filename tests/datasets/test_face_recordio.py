"""RecordIO training sets, on folders that the test writes byte by byte."""

from __future__ import annotations

import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from facebench import plugins
from facebench.data import lists, source
from facebench.errors import FacebenchError
from facebench.formats import recordio

LABELS = [0, 0, 1, 1, 1, 3]  # identity 2 of 4 has no image


def record(flag, labels, number, body=b""):
    label = 0.0 if flag else labels
    data = struct.pack("<IfQQ", flag, label, number, 0)
    data += struct.pack(f"<{flag}f", *labels) if flag else b""
    data += body
    return struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4)


def write(folder, parts):
    """Writes records (key, bytes) and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    data, lines = b"", ""
    for key, part in parts:
        lines += f"{key}\t{len(data)}\n"
        data += part
    (folder / "train.rec").write_bytes(data)
    (folder / "train.idx").write_text(lines)


def identity_layout(images):
    """Images 1 to n, a record for each identity, record 0 last."""
    n, parts = len(images), []
    for i, (image, label) in enumerate(zip(images, LABELS), 1):
        parts.append((i, record(0, float(label), i, image)))
    people = sorted(set(LABELS))
    for k, label in enumerate(people):
        mine = [i + 1 for i, other in enumerate(LABELS) if other == label]
        key = n + 1 + k
        parts.append((key, record(2, (float(mine[0]), float(mine[-1] + 1)), key)))
    parts.append((0, record(2, (float(n + 1), float(n + 1 + len(people))), 0)))
    return parts


@pytest.fixture
def images(picture, encode):
    return [encode(picture(i), ".jpg") for i in range(len(LABELS))]


@pytest.fixture
def folder(tmp_path, images, picture, encode):
    made = tmp_path / "set"
    write(made, identity_layout(images))
    (made / "property").write_text("4,112,112\n")
    for name, first in (("lfw", 100), ("agedb_30", 200)):
        pairs = [encode(picture(first + i)) for i in range(40)]
        (made / f"{name}.bin").write_bytes(pickle.dumps((pairs, [True, False] * 10)))
    return made


@pytest.fixture
def ws(space):
    return space("face_recordio")


def test_images_labels_and_the_sets_beside_them(ws, folder, images):
    dataset = source.prepare(ws, "face_recordio", source_dir=folder)
    train, test = dataset.split("train"), dataset.split("test")
    assert [train.record(i)["image"] for i in range(6)] == images
    assert [train.image(i) for i in range(6)] == images
    assert train.keys == [f"{i:09d}" for i in range(1, 7)]
    assert train.units == [f"{label:08d}" for label in LABELS]
    assert source.field(train, "identity").tolist() == LABELS
    assert test.keys[0] == "agedb_30/000000"
    assert test.keys[40] == "lfw/000000"
    assert sorted(dataset.facts["lists"]) == ["agedb_30", "lfw"]
    found = lists.read(test, "lfw")
    assert found["pairs"].tolist() == [[40 + 2 * i, 41 + 2 * i] for i in range(20)]
    assert found["same"].tolist() == [True, False] * 10
    assert lists.used(test, "lfw").tolist() == list(range(40, 80))
    assert lists.pairs(test, "lfw")[3].tolist() == [6, 7]
    assert source.verify(ws, "face_recordio") == []


def test_the_sequential_layout_without_index_or_sets(ws, folder, images):
    parts = [(i, record(0, float(label), i, images[i])) for i, label in enumerate(LABELS)]
    write(folder, parts)
    for name in ("train.idx", "lfw.bin", "agedb_30.bin"):
        (folder / name).unlink()
    (folder / "property").write_text("4,112,112\n6\nshuffled\n")
    dataset = source.prepare(ws, "face_recordio", source_dir=folder)
    assert list(dataset.splits) == ["train"]
    assert "lists" not in dataset.facts
    assert dataset.split("train").keys == [f"{i:09d}" for i in range(6)]


def test_broken_sets_are_refused(ws, folder, images):
    def refused(said):
        with pytest.raises(FacebenchError, match=said):
            source.prepare(ws, "face_recordio", source_dir=folder)

    prop = folder / "property"
    for text, said in {
        "": r"property: line 1: found ''",
        "four,112,112": r"property: line 1: found 'four,112,112', expected identities",
        "4,112": r"property: line 1",
        "4,112,96": r"property: line 1: 112 x 96 pixels",
        "3,112,112": r"record 6: identity 3, .*property says 3 identities, 0 to 2",
        "4,112,112\n7": r"train\.rec: 6 images, .*property says 7",
        "4,96,96": r"record 1: 112 x 112 pixels, .*property says 96",
    }.items():
        prop.write_text(text)
        refused(said)
    prop.unlink()
    refused("property: reading failed")
    prop.write_text("4,112,112")
    rec = folder / "train.rec"
    whole = rec.read_bytes()
    rec.write_bytes(whole[:-30])
    refused(r"train\.rec.*(truncated|offset)")
    rec.write_bytes(whole)
    write(folder, [(0, record(0, 2.0**24, 0, images[0]))])
    refused("label 16777216 is no identity")


def test_one_image_is_in_memory_at_a_time(ws, tmp_path):
    body, n = bytes(20_000), 1500  # 30 MB
    with (tmp_path / "big.rec").open("wb") as file:
        for i in range(n):
            file.write(record(0, float(i), i, body))
    module = plugins.load_file(ws.datasets / "face_recordio/face_recordio_dataset_builder.py")
    module.EVERY = 1 << 30
    rec = tmp_path / "big.rec"
    tracemalloc.start()
    try:
        layout = recordio.identity_layout(rec)
        layout.keys[0] += n  # a multiple of EVERY is decoded, and this is no image
        made = module.FaceRecordio._generate_examples(None, rec, layout, 112, "")
        module.releases.decoded, kept = (
            (lambda *_: np.empty((112, 112, 3))),
            (module.releases.decoded),
        )
        try:
            assert sum(len(sample["image"]) for _, sample in made) == n * len(body)
        finally:
            module.releases.decoded = kept
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
