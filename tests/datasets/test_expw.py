"""The ExpW reader, on a release that the test writes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from facebench import schemes
from facebench.data import pipeline, source
from facebench.errors import FacebenchError

# "0" "angry" "1" "disgust" "2" "fear" "3" "happy" "4" "sad" "5" "surprise" "6" "neutral"
OWN = ["anger", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
PHOTOS = [f"{word}_actor_{n}.jpg" for word in ("angry", "glad", "sad") for n in range(4)]
LINES = [
    # image, face, top, left, right, bottom, confidence, class
    *(f"{name} 0 4 6 22 20 {50 + i}.5 {i % 7}" for i, name in enumerate(PHOTOS)),
    f"{PHOTOS[1]} 1 0 12 20 8 60.25 6",
]


def sha(name):
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.fixture
def release(tmp_path, picture, encode):
    root = tmp_path / "expw"
    (root / "image/origin").mkdir(parents=True)
    (root / "label").mkdir()
    for i, name in enumerate(PHOTOS):
        (root / "image/origin" / name).write_bytes(encode(picture(i, 24, 30), ".jpg"))
    (root / "label/label.lst").write_text("\n".join(LINES) + "\n")
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("expw")
    monkeypatch.setattr(source.builder(ws, "expw"), "OFFICIAL", 13)
    return ws


def test_faces_boxes_and_classes(ws, release):
    dataset = source.prepare(ws, "expw", "all", release)
    train = dataset.split("train")
    assert (dataset.folder / "expression.labels.txt").read_text().split() == OWN
    assert list(schemes.EXPRESSION_ORDERS["expw"]) == OWN
    assert len(train) == 13
    for i in range(13):
        record = train.record(i)
        unit, number = record["key"].split("/")
        name = next(name for name in PHOTOS if sha(name)[:16] == unit)
        line = next(line.split() for line in LINES if line.startswith(f"{name} {number} "))
        assert record["unit"] == unit
        assert record["image"] == (release / "image/origin" / name).read_bytes()
        top, left, right, bottom = map(int, line[2:6])
        assert record["box"].tolist() == [left - 0.5, top - 0.5, right - 0.5, bottom - 0.5]
        assert record["confidence"] == float(line[6])
        assert record["expression"] == int(line[7])


def test_the_crop_by_the_box_is_the_face(ws, release, picture, encode):
    """A box of 16 x 16 pixels fills a crop of 16 x 16 exactly, none of its neighbours."""
    name = PHOTOS[0]
    image = picture(99, 24, 30)
    (release / "image/origin" / name).write_bytes(encode(image))
    train = source.prepare(ws, "expw", "all", release).split("train")
    row = train.keys.index(f"{sha(name)[:16]}/0")
    with pipeline.predict_batches(
        train, preprocess={"crop": "box", "size": 16, "margin": 0.0}, batch_size=1,
        indices=np.array([row]), threads=0,
    ) as batches:  # fmt: skip
        made = next(batches)["image"][0]
    assert np.array_equal(made, image[4:20, 6:22])


def test_a_tenth_of_the_photographs_is_held_out_by_hash(ws, release):
    dataset = source.prepare(ws, "expw", source_dir=release)
    first = sorted(PHOTOS, key=sha)[:2]  # 12 / 10, rounded up
    test = set(dataset.split("test").units)
    assert test == {sha(name)[:16] for name in first}
    assert not test & set(dataset.split("train").units)
    assert sum(map(len, dataset.splits.values())) == 13
    assert not any(name[:-4] in key for name in PHOTOS for key in dataset.split("train").keys)


def test_a_line_that_stands_twice_counts_once(ws, release):
    (release / "label/label.lst").write_text("\n".join([*LINES, LINES[3]]) + "\n")
    assert len(source.prepare(ws, "expw", "all", release).split("train")) == 13


FAULTS = {
    "another label": (LINES[3][:-1] + "5", "line 14: face 0 of .* stands otherwise in line 4"),
    "left right top bottom": ("a.jpg 0 6 22 4 20 1 0", "line 14: found '6 22 4 20', .*top left"),
    "an empty box": ("a.jpg 0 4 6 22 4 1 0", "line 14: .*top < bottom"),
    "a class": ("a.jpg 0 4 6 22 20 1 7", "line 14: found '7', expected a class from 0 to 6"),
    "a path": ("../a.jpg 0 4 6 22 20 1 0", "line 14: found '../a.jpg', .*without slashes"),
    "hidden": (".. 0 4 6 22 20 1 0", r"line 14: found '\.\.'"),
    "a column": ("a.jpg 0 4 6 22 20 1", "line 14: found 'a.jpg.*image_name"),
    "half a pixel": ("a.jpg 0 4.5 6 22 20 1 0", "line 14: found '4.5'"),
    "far away": ("a.jpg 0 4 6 22 9999999 1 0", "line 14: found '9999999'"),
    "confidence": ("a.jpg 0 4 6 22 20 inf 0", "line 14: found 'inf'"),
    "no photograph": ("a.jpg 0 4 6 22 20 1 0", r"a\.jpg: reading failed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_release_is_refused_by_line(ws, release, fault, monkeypatch):
    monkeypatch.setattr(source.builder(ws, "expw"), "OFFICIAL", None)
    line, said = FAULTS[fault]
    (release / "label/label.lst").write_text("\n".join([*LINES, line]) + "\n")
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "expw", "all", release)


def test_the_real_number_is_demanded(space, release):
    with pytest.raises(FacebenchError, match=r"13 faces, .* has 91793"):
        source.prepare(space("expw"), "expw", source_dir=release)
