"""The AffectNet reader, on tiny releases of both kinds."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import schemes
from facebench.data import source
from facebench.errors import FacebenchError

OWN = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt"]
HEAD = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    "expression,valence,arousal"
)
# name, class, valence, arousal; 8 none, 9 uncertain, 10 no face
TRAIN = [
    ("100/aa01", 0, 0.0, 0.1), ("100/aa02", 1, 0.9, -0.25), ("2/aa03", 8, 0.5, 0.5),
    ("2/aa04", 9, -2, -2), ("2/aa05", 10, -2, -2), ("2/aa06", 7, -1, 1), ("3/aa01", 6, -0.5, 0.5),
    ("3/aa07", 3, -2, -2),
]  # fmt: skip
TEST = [("5/bb01", 2, -0.5, 0), ("5/bb02", 5, 0.25, 0.75)]
HAVE = {"small": {"train": 3, "test": 2}, "2017": {"train": 5, "test": 2}, "2017-affect": {}}
SMALL = {"train_set": [("10", 3), ("2", 0), ("1", 7)], "val_set": [("1", 1), ("0", 6)]}


def landmarks(name):
    return np.random.default_rng(list(name.encode())).uniform(0, 30, (68, 2)).round(2)


def row(name, expression, valence, arousal):
    box = "NULL,NULL,NULL,NULL,NULL"
    if expression < 9:
        points = ";".join(str(v) for v in landmarks(name).ravel())
        box = f"3,4,20,22,{points}"
    return f"{name}.jpg,{box},{expression},{valence},{arousal}\n"


@pytest.fixture
def old(tmp_path, picture, encode):
    """The release of 2017."""
    root = tmp_path / "old"
    for file, rows in (("training.csv", TRAIN), ("validation.csv", TEST)):
        for i, (name, *_) in enumerate(rows):
            path = root / f"Manually_Annotated_Images/{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(picture(i, 32, 36), ".jpg"))
        (root / file).write_text(HEAD + "\n" + "".join(row(*r) for r in rows))
    return root


@pytest.fixture
def small(tmp_path, picture, encode):
    """The later one; its numbers stand as text in some files."""
    root = tmp_path / "small"
    for part, rows in SMALL.items():
        for folder in ("images", "annotations"):
            (root / part / folder).mkdir(parents=True)
        for i, (name, label) in enumerate(rows):
            (root / part / f"images/{name}.jpg").write_bytes(encode(picture(i, 24, 24), ".jpg"))
            text = (lambda v: np.array(str(v))) if i else np.array
            at = root / part / "annotations"
            np.save(at / f"{name}_exp.npy", text(label))
            np.save(at / f"{name}_val.npy", text(-0.5))
            np.save(at / f"{name}_aro.npy", text(0.25 * i))
            np.save(at / f"{name}_lnd.npy", landmarks(name).ravel())
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("affectnet")
    monkeypatch.setattr(source.builder(ws, "affectnet"), "OFFICIAL", HAVE)
    return ws


def names(dataset):
    return (dataset.folder / "expression.labels.txt").read_text().split()


def test_eight_classes_of_2017(ws, old):
    dataset = source.prepare(ws, "affectnet", "2017", old)
    assert names(dataset) == OWN == list(schemes.EXPRESSION_ORDERS["affectnet"])
    for split, rows in (("train", TRAIN), ("test", TEST)):
        kept = [r for r in rows if r[1] < 8]
        made = dataset.split(split)
        assert made.keys == [r[0] for r in kept]
        assert made.units == [r[0].split("/")[1] for r in kept]
        assert source.field(made, "expression").tolist() == [r[1] for r in kept]
        affect = np.float32([r[2:] for r in kept])
        assert np.array_equal(source.field(made, "valence_arousal"), affect)
        for i, (name, *_) in enumerate(kept):
            record = made.record(i)
            assert record["box"].tolist() == [2.5, 3.5, 22.5, 25.5]  # 20 x 22 pixels from (3, 4)
            assert np.array_equal(record["points"], np.float32(landmarks(name)))
            path = old / f"Manually_Annotated_Images/{name}.jpg"
            assert record["image"] == path.read_bytes()
    train = dataset.split("train")
    assert train.units[0] == train.units[3]  # one file in two folders


def test_all_that_have_valence_and_arousal(ws, old):
    lists = old / "Manually_Annotated_file_lists"
    lists.mkdir()
    for file in ("training.csv", "validation.csv"):
        (old / file).rename(lists / file)
    dataset = source.prepare(ws, "affectnet", "2017-affect", old)
    assert names(dataset) == [*OWN, "none"]
    assert dataset.split("train").keys == [r[0] for r in TRAIN if r[2] != -2]
    assert (source.field(dataset.split("train"), "valence_arousal") > -2).all()


def test_the_small_release(ws, small):
    dataset = source.prepare(ws, "affectnet", source_dir=small)
    assert dataset.label == "affectnet/small"
    for split, part in (("train", "train_set"), ("test", "val_set")):
        rows = sorted(SMALL[part], key=lambda r: int(r[0]))
        made = dataset.split(split)
        assert made.keys == [f"{split}/{name}" for name, _ in rows]
        assert source.field(made, "expression").tolist() == [label for _, label in rows]
        for i, (name, label) in enumerate(rows):
            record = made.record(i)
            place = SMALL[part].index((name, label))
            assert record["valence_arousal"].tolist() == [-0.5, 0.25 * place]
            assert np.array_equal(record["points"], np.float32(landmarks(name)))
            assert record["image"] == (small / part / f"images/{name}.jpg").read_bytes()


def change(file, old, new):
    def plant(root):
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return plant


T = "training.csv"
OLD_FAULTS = {
    "a column": (change(T, "arousal", "Arousal"), "line 1: no column 'arousal'"),
    "cut off": (change(T, ",0,0.0,0.1\n", "\n"), "line 2: 6 cells, expected 9"),
    "class 11": (change(T, ",0,0.0,0.1\n", ",11,0,0\n"), "line 2: found expression '11'"),
    "a path": (change(T, "100/aa01", "../aa01"), r"line 2: found '\.\./aa01"),
    "deeper": (change(T, "100/aa01", "1/2/aa01"), "line 2: .*folder/image.jpg"),
    "twice": (change(T, "2/aa03", "100/aa01"), "line 4: 100/aa01.jpg stands in line 2"),
    "valence": (change(T, ",0.0,0.1", ",1.5,0.1"), "line 2: found valence 1.5, arousal 0.1"),
    "half invalid": (change(T, ",0.0,0.1", ",-2,0.1"), "line 2: found valence -2.0"),
    "no number": (change(T, ",0.0,0.1", ",nan,0.1"), "line 2: found 'nan' in valence"),
    "no box": (
        change(T, ",3,4,20,22,", ",NULL,4,20,22,"),
        "line 2: found 'NULL' in the face's box",
    ),
    "empty box": (change(T, ",3,4,20,22,", ",3,4,0,22,"), "line 2: found a face of 0 x 22"),
    "points": (change(T, ";", ";0;"), "line 2: facial_landmarks has 137 numbers, expected 136"),
    "a line too few": (
        change("validation.csv", row(*TEST[1]), ""),
        "validation.csv: 1 images of its classes, .* has 2",
    ),
    "no image": (
        lambda r: (r / "Manually_Annotated_Images/2/aa06.jpg").unlink(),
        "aa06.jpg: reading failed",
    ),
}


@pytest.mark.parametrize("fault", OLD_FAULTS)
def test_a_broken_release_of_2017_is_refused_by_line(ws, old, fault):
    plant, said = OLD_FAULTS[fault]
    plant(old)
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "affectnet", "2017", old)
    assert not source.prepared(ws, "affectnet", "2017")


A = "train_set/annotations"


def saved(name, value, **options):
    return lambda root: np.save(root / A / name, value, **options)


SMALL_FAULTS = {
    "class 8": (saved("2_exp.npy", np.array(8)), "2_exp.npy: found expression 8"),
    "half a class": (saved("2_exp.npy", np.array("1.5")), "2_exp.npy: found expression 1.5"),
    "no number": (saved("2_val.npy", np.array("high")), "2_val.npy: found 'high'"),
    "out of range": (saved("2_aro.npy", np.array(3.0)), "2_val.npy: found valence -0.5, arousal 3"),
    "two values": (saved("2_val.npy", np.zeros(2)), "2_val.npy: holds 2 values"),
    "points": (saved("2_lnd.npy", np.zeros(130)), r"2_lnd.npy: .*\(130,\), expected 136"),
    "a pickle": (
        saved("2_val.npy", np.array([{}], object), allow_pickle=True),
        "2_val.npy: not a readable .npy.*allow_pickle",
    ),
    "truncated": (lambda r: (r / A / "2_exp.npy").write_bytes(b"\x93NUMPY"), "2_exp.npy: "),
    "no .npy": (lambda r: (r / A / "2_exp.npy").write_text("1"), "2_exp.npy: not a readable"),
    "missing": (lambda r: (r / A / "2_lnd.npy").unlink(), "2_lnd.npy: reading failed"),
    "an image too few": (
        lambda r: (r / "val_set/images/0.jpg").unlink(),
        "val_set/images: 1 images of its classes, .* has 2",
    ),
    "no folder": (lambda r: (r / "val_set").rename(r / "val"), "val_set/images: no such folder"),
}


@pytest.mark.parametrize("fault", SMALL_FAULTS)
def test_a_broken_small_release_is_refused_by_name(ws, small, fault):
    plant, said = SMALL_FAULTS[fault]
    plant(small)
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "affectnet", source_dir=small)
    assert not source.prepared(ws, "affectnet")


def test_the_real_numbers_are_demanded(space, old, small):
    ws = space("affectnet")
    with pytest.raises(FacebenchError, match=r"5 images .* has 287651"):
        source.prepare(ws, "affectnet", "2017", old)
    with pytest.raises(FacebenchError, match=r"3 images .* has 287651"):
        source.prepare(ws, "affectnet", "small", small)
