"""Image-per-expression folders."""

from __future__ import annotations

import hashlib

import pytest

from facebench import plugins, schemes
from facebench.data import source
from facebench.errors import FacebenchError

CLASSES = {"Happiness": "happy", "angry": "anger", "neutral": "neutral", "Fearful": "fear"}


def sha(path):
    return hashlib.sha256(path.encode()).hexdigest()


@pytest.fixture
def root(tmp_path, picture, encode):
    made = tmp_path / "faces"
    for part in ("train", "val", "test"):
        for k, name in enumerate(CLASSES):
            (made / part / name).mkdir(parents=True)
            for i in (10, 2, 1):
                data = encode(picture([k, i], 20, 24), ".png")
                (made / part / name / f"{part}{i}.png").write_bytes(data)
            (made / part / name / "Thumbs.db").write_bytes(b"x")
    (made / "train/.cache").mkdir()
    (made / "train/list.txt").write_text("not an image\n")
    return made


@pytest.fixture
def ws(space):
    return space("expression_folder")


def test_folders_are_classes_by_name(ws, root):
    dataset = source.prepare(ws, "expression_folder", source_dir=root)
    assert list(dataset.splits) == ["dev", "test", "train"]
    for split, part in (("train", "train"), ("dev", "val"), ("test", "test")):
        made = dataset.split(split)
        expected = [
            (f"{folder}/{part}{i}.png", name)
            for folder, name in sorted(CLASSES.items())
            for i in (1, 2, 10)
        ]
        assert made.keys == made.units == [sha(path)[:16] for path, _ in expected]
        for i, (path, name) in enumerate(expected):
            record = made.record(i)
            assert schemes.EXPRESSIONS[record["expression"]] == name
            assert record["image"] == (root / part / path).read_bytes()


def test_without_val(ws, root):
    (root / "val").rename(root / "other")
    made = source.prepare(ws, "expression_folder", "given-no-val", root)
    assert set(made.splits) == {"train", "test"}
    with pytest.raises(FacebenchError, match=r"val: no such folder; configs: given "):
        source.prepare(ws, "expression_folder", "given", root)


def test_a_tenth_is_held_out_by_hash(ws, root):
    made = source.prepare(ws, "expression_folder", "held-out", root / "train")
    paths = sorted((f"{f}/train{i}.png" for f in CLASSES for i in (1, 2, 10)), key=sha)
    assert set(made.split("test").keys) == {sha(path)[:16] for path in paths[:2]}  # 12 / 10
    assert set(made.split("train").keys) == {sha(path)[:16] for path in paths[2:]}


FAULTS = {
    "a number": (lambda r: (r / "angry").rename(r / "6"), "6: no expression has that name.*rename"),
    "a typo": (lambda r: (r / "angry").rename(r / "agner"), "agner: .*did you mean 'anger'"),
    "two of one": (lambda r: (r / "Fearful").rename(r / "Anger"), "Anger and angry are both 'ang"),
    "an image outside": (lambda r: (r / "a.jpg").write_bytes(b"x"), "a.jpg: an image outside"),
    "a folder inside": (lambda r: (r / "angry/more").mkdir(), "more: a folder in the folder"),
    "no image": (
        lambda r: [path.unlink() for path in (r / "angry").glob("*.png")],
        r"angry: no image \(.jpg",
    ),
    "damaged": (lambda r: (r / "angry/train1.png").write_bytes(b"x"), sha("angry/train1.png")[:16]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_folders_are_refused_by_path(ws, root, fault):
    plant, said = FAULTS[fault]
    plant(root / "train")
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "expression_folder", source_dir=root)


def test_an_empty_folder(ws, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none/list.txt").write_text("not an image\n")
    with pytest.raises(FacebenchError, match="none: no folder of an expression"):
        source.prepare(ws, "expression_folder", "held-out", tmp_path / "none")


def test_every_class_may_be_written_in_two_ways_at_most_once(ws):
    builder = plugins.load_file(
        ws.datasets / "expression_folder/expression_folder_dataset_builder.py"
    )
    assert set(builder.NAMES.values()) == set(schemes.EXPRESSIONS)
    assert all(name in schemes.EXPRESSIONS for name in builder.ALSO)
    assert len(builder.NAMES) == len(schemes.EXPRESSIONS) + sum(map(len, builder.ALSO.values()))
