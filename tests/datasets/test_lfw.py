"""The LFW reader, on a release of 24 people that the test writes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from facebench import files
from facebench.data import lists, source
from facebench.errors import FacebenchError

PEOPLE = [
    f"{given}_{name}"
    for given in ("Ann", "Bob", "Cy", "Dee")
    for name in ("Lee", "Moe", "Ng", "Oh", "Po", "Qi")
]
TEXTS = {
    # line 1, then (per fold) matching and other pairs; the last four people are of view 1
    "pairs.txt": "10\t1\n"
    + "".join(
        f"{PEOPLE[2 * k]}\t1\t2\n{PEOPLE[2 * k]}\t2\t{PEOPLE[2 * k + 1]}\t1\n" for k in range(10)
    ),
    "pairsDevTrain.txt": f"1\n{PEOPLE[20]}\t1\t2\n{PEOPLE[20]}\t1\t{PEOPLE[21]}\t2\n",
    "pairsDevTest.txt": f"1\n{PEOPLE[22]} 1 2\n{PEOPLE[22]} 1 {PEOPLE[23]} 2\n",
}
HAVE = {"people": 24, "images": 48, "pairs.txt": 20, "pairsDevTrain.txt": 2, "pairsDevTest.txt": 2}


def path(root, person, i):
    return root / "lfw" / person / f"{person}_{i:04d}.jpg"


@pytest.fixture
def release(tmp_path, picture, encode):
    root = tmp_path / "release"
    for n, person in enumerate(PEOPLE):
        for i in (1, 2):
            file = path(root, person, i)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(picture([n, i], 25, 25), ".jpg"))
    for name, text in TEXTS.items():
        (root / name).write_text(text)
    (root / "lfw" / "README.txt").write_text("not a face\n")
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("lfw")
    monkeypatch.setattr(source.builder(ws, "lfw"), "OFFICIAL", HAVE)
    return ws


def sha(name):
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def listed(text):
    """The pairs of a list as (person, image), by the line's number of columns."""
    rows = []
    for line in text.splitlines()[1:]:
        cells = line.split()
        cells = cells if len(cells) == 4 else [cells[0], cells[1], cells[0], cells[2]]
        rows.append(((cells[0], int(cells[1])), (cells[2], int(cells[3]))))
    return rows


def names(split, rows):
    """What the samples of a list's pairs are called."""
    return [tuple(split.keys[i] for i in row) for row in rows]


def test_view_2_has_the_images_and_the_pairs_of_the_list(ws, release):
    dataset = source.prepare(ws, "lfw", source_dir=release)
    assert (dataset.label, list(dataset.splits)) == ("lfw/view-2", ["test"])
    test = dataset.split("test")
    pairs = listed(TEXTS["pairs.txt"])
    keys = {f"{sha(p)}/{i:04d}": path(release, p, i) for pair in pairs for p, i in pair}
    assert set(test.keys) == set(keys)
    for i in range(len(test)):
        record = test.record(i)
        assert record["image"] == keys[record["key"]].read_bytes()
        assert record["unit"] == record["key"].split("/")[0]
    found = lists.read(test, "view-2")
    assert names(test, found["pairs"]) == [
        tuple(f"{sha(p)}/{i:04d}" for p, i in pair) for pair in pairs
    ]
    assert found["same"].tolist() == [a[0] == b[0] for a, b in pairs] == [True, False] * 10
    assert found["fold"].tolist() == np.repeat(range(10), 2).tolist()
    assert source.verify(ws, "lfw") == []


def test_no_name_of_a_person_gets_into_what_is_prepared(ws, release):
    folder = source.prepare(ws, "lfw", source_dir=release).folder
    arrays = files.read_npz(folder / "samples-test.npz")
    text = (folder / "facebench.json").read_text() + str(arrays["key"]) + str(arrays["unit"])
    assert not any(person in text for person in PEOPLE)


def test_view_1_is_for_development(ws, release):
    dataset = source.prepare(ws, "lfw", "view-1", release)
    train, test = dataset.split("train"), dataset.split("test")
    assert len(train) == len(test) == 4 - 1  # one image stands in both pairs
    assert not set(train.units) & set(test.units)
    for split, name, text in (
        (test, "view-1", "pairsDevTest.txt"),
        (train, "view-1-train", "pairsDevTrain.txt"),
    ):
        assert names(split, lists.read(split, name)["pairs"]) == [
            tuple(f"{sha(p)}/{i:04d}" for p, i in pair) for pair in listed(TEXTS[text])
        ]
    with pytest.raises(FacebenchError, match="'view-1-train' is of split 'train', not 'test'"):
        lists.read(test, "view-1-train")


def text(name, old, new):
    def plant(root):
        before = (root / name).read_text()
        assert old in before
        (root / name).write_text(before.replace(old, new, 1))

    return plant


FAULTS = {
    "missing image": (
        lambda r: path(r, "Ann_Ng", 2).unlink(),
        r"pairs\.txt.* 1 of 30 .*'Ann_Ng/Ann_Ng_0002' of pair 3 ",
    ),
    "missing folder": (lambda r: (r / "lfw").rename(r / "images"), "lfw: no such folder"),
    "an image too many": (
        lambda r: path(r, "Ann_Lee", 3).write_bytes(b"x"),
        "lfw: 49 images, the official release has 48",
    ),
    "a pair too few": (
        text("pairs.txt", "10\t1\n", "9\t1\n"),
        r"pairs\.txt: line 20",
    ),
    "a broken line": (
        text("pairs.txt", "Ann_Ng\t1\t2", "Ann_Ng\tone\t2"),
        r"pairs\.txt: line 4: found 'one'",
    ),
    "no list": (lambda r: (r / "pairs.txt").unlink(), r"pairs\.txt: reading failed"),
    "a damaged image": (
        lambda r: path(r, "Ann_Ng", 2).write_bytes(b"\xff\xd8\xff\xe0 cut off"),
        f"key '{sha('Ann_Ng')}/0002'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_release_is_refused_by_name(ws, release, fault):
    plant, said = FAULTS[fault]
    plant(release)
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "lfw", source_dir=release)
    assert not source.prepared(ws, "lfw")


def test_people_of_both_parts_of_view_1_are_refused(ws, release):
    text("pairsDevTest.txt", PEOPLE[23], PEOPLE[21])(release)
    with pytest.raises(FacebenchError, match="1 people stand in pairsDevTrain"):
        source.prepare(ws, "lfw", "view-1", release)


def test_the_real_numbers_are_demanded(space, release):
    ws = space("lfw")
    with pytest.raises(FacebenchError, match=r"pairs\.txt: 20 pairs, .* has 6000"):
        source.prepare(ws, "lfw", source_dir=release)
