"""The RAF-DB reader, on a release that the test writes."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import plugins, schemes
from facebench.data import source
from facebench.errors import FacebenchError

# name to class, counted from 1
BASIC = {f"train_{n:05d}": 1 + n % 7 for n in range(1, 9)} | {
    f"test_{n:04d}": 1 + n % 7 for n in range(1, 4)
}
COMPOUND = {f"train_{n:04d}": n for n in range(1, 12)} | {"test_0001": 11, "test_0002": 1}
# RAF-DB's own README: "1: Surprise 2: Fear 3: Disgust 4: Happiness 5: Sadness 6: Anger 7: Neutral"
OWN = ["surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"]
HAVE = {"basic": {"train": 8, "test": 3}, "compound": {}}


def points(stem):
    return np.random.default_rng(list(stem.encode())).uniform(0, 60, (5, 2)).round(2)


@pytest.fixture
def release(tmp_path, picture, encode):
    root = tmp_path / "raf"
    for part, labels in (("basic", BASIC), ("compound", COMPOUND)):
        for folder in ("EmoLabel", "Image/aligned", "Image/original", "Annotation/manual"):
            (root / part / folder).mkdir(parents=True)
        rows = [f"{stem}.jpg {label}\n" for stem, label in reversed(labels.items())]
        (root / part / "EmoLabel/list_patition_label.txt").write_text("".join(rows))
        for i, stem in enumerate(labels):
            at = root / part / "Image"
            (at / f"aligned/{stem}_aligned.jpg").write_bytes(encode(picture(i, 20, 20), ".jpg"))
            (at / f"original/{stem}.jpg").write_bytes(encode(picture(i, 30, 40), ".jpg"))
            text = "".join(f"{x}\t{y}\n" for x, y in points(stem)) + f"{i % 3}\n{i % 2}\n{i % 5}\n"
            (root / part / f"Annotation/manual/{stem}_manu_attri.txt").write_text(text)
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("raf_db")
    monkeypatch.setattr(source.builder(ws, "raf_db"), "OFFICIAL", HAVE)
    return ws


def names(dataset):
    return (dataset.folder / "expression.labels.txt").read_text().split("\n")[:-1]


@pytest.mark.parametrize("config", ["basic-aligned", "basic-original"])
def test_basic(ws, release, config):
    dataset = source.prepare(ws, "raf_db", config, release)
    assert names(dataset) == OWN == list(schemes.EXPRESSION_ORDERS["raf_db"])
    kind = config.split("-")[1]
    end = "_aligned.jpg" if kind == "aligned" else ".jpg"
    for name, split in dataset.splits.items():
        assert split.keys == sorted(stem for stem in BASIC if stem.startswith(name))
        assert split.units == split.keys
        for i, stem in enumerate(split.keys):
            record = split.record(i)
            assert record["expression"] == BASIC[stem] - 1
            path = release / f"basic/Image/{kind}/{stem}{end}"
            assert record["image"] == path.read_bytes()
            if kind == "original":
                place = list(BASIC).index(stem)
                assert np.array_equal(record["five_points"], np.float32(points(stem)))
                assert (record["gender"], record["group"]) == (place % 3, place % 2)
                assert record["age"] == place % 5
    assert source.verify(ws, "raf_db", config) == []


@pytest.mark.parametrize("config", ["compound-aligned", "compound-original"])
def test_compound(ws, release, config):
    dataset = source.prepare(ws, "raf_db", config, release)
    train = dataset.split("train")
    assert source.field(train, "expression").tolist() == list(range(11))
    found = names(dataset)
    assert (found[0], found[3], found[10]) == (
        "happily surprised", "sadly angry", "disgustedly surprised",
    )  # fmt: skip
    assert len(dataset.split("test")) == 2


def test_the_folder_of_one_part_will_do(ws, release):
    assert len(source.prepare(ws, "raf_db", source_dir=release / "basic").split("train")) == 8


def change(path, old, new):
    def plant(root):
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new, 1))

    return plant


LIST = "basic/EmoLabel/list_patition_label.txt"
MANUAL = "basic/Annotation/manual/train_00002_manu_attri.txt"
FAULTS = {
    "class 0": (change(LIST, "test_0003.jpg 4", "test_0003.jpg 0"), "line 1: .*class '0'"),
    "class 8": (change(LIST, "test_0003.jpg 4", "test_0003.jpg 8"), "line 1: .*expected 1 to 7"),
    "no class": (change(LIST, "test_0003.jpg 4", "test_0003.jpg"), "line 1: found 'test_0003"),
    "a path": (change(LIST, "test_0003", "../test_0003"), "line 1: found '../test"),
    "twice": (change(LIST, "test_0003", "test_0002"), "line 2: found test_0002.jpg a second"),
    "one too few": (change(LIST, "test_0003.jpg 4\n", ""), "2 images of test, .* release has 3"),
    "no list": (lambda r: (r / LIST).unlink(), "list_patition_label.txt: reading failed"),
    "no image": (
        lambda r: (r / "basic/Image/original/test_0001.jpg").unlink(),
        "test_0001.jpg: reading failed",
    ),
    "a point": (change(MANUAL, "\t", " a "), "train_00002_manu_attri.txt: line 1: .*`x y`"),
    "no number": (change(MANUAL, f"{points('train_00002')[0, 0]}\t", "nan\t"), "line 1: found"),
    "lines": (change(MANUAL, "\n", " ", ), "7 lines, expected 5 points and 3 attributes"),
    "gender": (change(MANUAL, "\n1\n1\n1\n", "\n3\n1\n1\n"), "line 6: found gender '3'"),
    "age": (change(MANUAL, "\n1\n1\n1\n", "\n1\n1\n-1\n"), "line 8: found age '-1'"),
    "no annotation": (lambda r: (r / MANUAL).unlink(), "train_00002_manu_attri.txt: reading"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_release_is_refused_by_name(ws, release, fault):
    plant, said = FAULTS[fault]
    plant(release)
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "raf_db", "basic-original", release)
    assert not source.prepared(ws, "raf_db", "basic-original")


def test_the_real_numbers_are_demanded(space, release):
    with pytest.raises(FacebenchError, match=r"8 images of train, .* has 12271"):
        source.prepare(space("raf_db"), "raf_db", source_dir=release)


def test_groups_are_those_of_the_annotation(ws):
    builder = plugins.load_file(ws.datasets / "raf_db/raf_db_dataset_builder.py")
    assert builder.GROUPS == ("Caucasian", "African-American", "Asian")
    assert len(builder.COMPOUND) == len(set(builder.COMPOUND)) == 11
