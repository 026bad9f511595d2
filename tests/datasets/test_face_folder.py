"""Image-per-identity folders."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from facebench.data import source
from facebench.errors import FacebenchError

NAMES = ["10", "2", "1", "100", "20", "b", "a", "11", "3", "21", "12"]
ORDER = ["1", "2", "3", "10", "11", "12", "20", "21", "100", "a", "b"]


def sha(name):
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.fixture
def root(tmp_path, picture, encode):
    made = tmp_path / "faces"
    for n, name in enumerate(NAMES):
        (made / name).mkdir(parents=True)
        for i, file in enumerate(("9.png", "10.jpg", "Thumbs.db")):
            (made / name / file).write_bytes(encode(picture([n, i], 20 + n, 24), ".png"))
    (made / ".cache").mkdir()
    (made / "list.txt").write_text("not an image\n")
    return made


@pytest.fixture
def ws(space):
    return space("face_folder")


def test_everybody_in_the_order_of_numbers(ws, root):
    train = source.prepare(ws, "face_folder", "all", root).split("train")
    assert len(train) == 22
    assert train.units == [sha(name)[:16] for name in ORDER for _ in range(2)]
    assert source.field(train, "identity").tolist() == np.repeat(range(11), 2).tolist()
    for i in range(22):
        name, file = ORDER[i // 2], ("9.png", "10.jpg")[i % 2]
        record = train.record(i)
        assert record["key"] == f"{sha(name)[:16]}/{sha(file)[:16]}"
        assert record["image"] == (root / name / file).read_bytes()


def test_a_tenth_is_held_out_by_hash(ws, root):
    dataset = source.prepare(ws, "face_folder", source_dir=root)
    assert dataset.config == "held-out"
    people = {
        s: {int(i) for i in source.field(dataset.split(s), "identity")} for s in dataset.splits
    }
    first = sorted(NAMES, key=sha)[:2]  # 11 / 10, rounded up
    assert people["test"] == {ORDER.index(name) for name in first}
    assert people["train"] == set(range(11)) - people["test"]


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda r: (r / "lost.JPG").write_bytes(b"x"), r"lost\.JPG: an image outside"),
        (lambda r: (r / "3/more").mkdir(), "more: a folder in the folder"),
        (lambda r: (r / "empty").mkdir(), r"empty: no image \("),
        (lambda r: (r / "3/9.png").write_bytes(b"GIF89a"), f"key '{sha('3')[:16]}/"),
    ],
)
def test_what_is_out_of_place_is_refused(ws, root, plant, said):
    plant(root)
    with pytest.raises(FacebenchError, match=said):
        source.prepare(ws, "face_folder", "all", root)
