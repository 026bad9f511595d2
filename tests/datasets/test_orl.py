"""The ORL reader, on a release that the test writes, and on the real one where there is one."""

from __future__ import annotations

import hashlib
import shutil

import cv2
import numpy as np
import pytest

from facebench import plugins, workspace
from facebench.data import pipeline, source
from facebench.errors import FacebenchError

HEADER = b"P5\n92 112\n255\n"


def pixels(n, m):
    return np.random.default_rng([n, m]).integers(0, 256, (112, 92), np.uint8)


@pytest.fixture
def ws(tmp_path, repository):
    shutil.copytree(
        repository / "datasets/orl", tmp_path / "datasets/orl",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    (tmp_path / "WORKSPACE.md").write_text("a workspace of a test\n")
    return workspace.find(tmp_path, data=tmp_path / "data")


@pytest.fixture
def release(tmp_path):
    """All 400 images of random pixels, in the official layout."""
    folder = tmp_path / "att_faces"
    for n in range(1, 41):
        (folder / f"s{n}").mkdir(parents=True)
        for m in range(1, 11):
            (folder / f"s{n}/{m}.pgm").write_bytes(HEADER + pixels(n, m).tobytes())
    (folder / "README").write_text("The ORL face database\n")
    return folder


def test_every_image_arrives_unchanged(ws, release):
    dataset = source.prepare(ws, "orl", source_dir=release)
    assert dataset.label == "orl/subject-exclusive"
    seen = set()
    for split in dataset.splits.values():
        for i in range(len(split)):
            record = split.record(i)
            n, m = map(int, record["key"].removeprefix("s").split("/"))
            stored = cv2.imdecode(np.frombuffer(record["image"], np.uint8), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(stored, pixels(n, m))
            assert record["unit"] == f"s{n}"
            assert record["identity"] == n
            assert record["box"].tolist() == [-0.5, -0.5, 91.5, 111.5]
            seen.add((n, m))
    assert len(seen) == 400


def test_subjects_are_exclusive_and_chosen_by_hash(ws, release):
    dataset = source.prepare(ws, "orl", source_dir=release)
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 300,
        "test": 100,
    }
    test = set(dataset.split("test").units)
    assert not test & set(dataset.split("train").units)
    ranked = sorted(
        (f"s{n}" for n in range(1, 41)), key=lambda s: hashlib.sha256(s.encode()).digest()
    )
    assert test == set(ranked[:10])
    card = (ws.datasets / "orl/README.md").read_text()
    named = next(line for line in card.splitlines() if line.startswith("| `test`"))
    assert all(f" {subject} " in named for subject in test)


def test_the_closed_set_divides_the_images_of_everybody(ws, release):
    dataset = source.prepare(ws, "orl", "closed-set", source_dir=release)
    for name, numbers in (("train", range(1, 6)), ("test", range(6, 11))):
        split = dataset.split(name)
        assert split.keys == [f"s{n}/{m}" for n in range(1, 41) for m in numbers]
        assert split.units == [key.split("/")[0] for key in split.keys]


def test_training_batches_are_colour_crops(ws, release):
    split = source.prepare(ws, "orl", source_dir=release).split("train")
    preprocess = {"crop": "full", "size": 112}
    with pipeline.train_batches(
        split, np.arange(300), ("label",), preprocess=preprocess, augment=None, batch_size=4, seed=0
    ) as batches:
        batch = next(batches)
    for image, index in zip(batch["image"], batch["index"]):
        n, m = map(int, split.keys[index].removeprefix("s").split("/"))
        for channel in range(3):
            assert np.array_equal(image[:, 10:102, channel], pixels(n, m))
    assert batch["label"].max() < 30


def test_comments_in_a_header_are_read(ws, release):
    path = release / "s3/1.pgm"
    path.write_bytes(b"P5\n# made by a test\n92 # columns\n112\n255\n" + pixels(3, 1).tobytes())
    builder = plugins.load_file(ws.datasets / "orl/orl_dataset_builder.py")
    assert np.array_equal(builder.read_pgm(path), pixels(3, 1))
    # pixels may look like white space and comments
    tricky = np.frombuffer(b"\n#" + bytes(92 * 112 - 2), np.uint8).reshape(112, 92)
    path.write_bytes(HEADER + tricky.tobytes())
    assert np.array_equal(builder.read_pgm(path), tricky)


def broken(path, data):
    return lambda release: (release / path).write_bytes(data)


FAULTS = {
    "subject": (lambda r: shutil.rmtree(r / "s17"), "the folder s17 is missing"),
    "image": (lambda r: (r / "s9/10.pgm").unlink(), "s9/10.pgm is missing"),
    "extra image": (broken("s4/11.pgm", HEADER + bytes(10304)), "s4/11.pgm is not of the release"),
    "extra subject": (
        lambda r: shutil.copytree(r / "s1", r / "s41"),
        "s41/1.pgm is not of the release.*and 5 more",
    ),
    "truncated": (broken("s2/5.pgm", HEADER + bytes(10000)), "s2/5.pgm: 10000 bytes .* 10304"),
    "too long": (broken("s2/5.pgm", HEADER + bytes(10305)), "s2/5.pgm: 10305 bytes"),
    "header alone": (broken("s40/1.pgm", b"P5\n92"), "s40/1.pgm: the PGM header"),
    "empty": (broken("s40/1.pgm", b""), "s40/1.pgm: begins with b''"),
    "magic": (broken("s8/2.pgm", b"P2\n92 112\n255\n0 0"), "s8/2.pgm: begins with b'P2'"),
    "size": (broken("s8/2.pgm", b"P5\n112 92\n255\n" + bytes(10304)), "s8/2.pgm: 112 x 92"),
    "depth": (broken("s8/2.pgm", b"P5\n92 112\n65535\n" + bytes(20608)), "up to 65535"),
    "not the release": (lambda r: [shutil.rmtree(p) for p in r.glob("s*")], "s1 is missing.*more"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_release_is_refused_by_name(ws, release, fault):
    plant, said = FAULTS[fault]
    plant(release)
    with pytest.raises(FacebenchError, match=f"(?s){said}.*official release"):
        source.prepare(ws, "orl", source_dir=release)
    assert not source.prepared(ws, "orl")


def test_other_files_are_passed_over(ws, release):
    (release / "s5/Thumbs.db").write_bytes(b"x")
    (release / ".DS_Store").write_bytes(b"x")
    assert len(source.prepare(ws, "orl", source_dir=release).split("train")) == 300


def test_found_beside_the_data_without_being_told(ws, release, monkeypatch):
    monkeypatch.delenv("FACEBENCH_REAL_DATA", raising=False)
    with pytest.raises(FacebenchError, match="--source=FOLDER"):
        source.prepare(ws, "orl")
    (ws.data / "manual").mkdir(parents=True)
    release.rename(ws.data / "manual/orl")
    assert len(source.prepare(ws, "orl").split("test")) == 100
    assert source.verify(ws, "orl") == []


def test_the_real_release(ws, real_data, monkeypatch):
    if not (real_data / "orl").is_dir():
        pytest.skip("the ORL release is not here")
    monkeypatch.setenv("FACEBENCH_REAL_DATA", str(real_data))
    dataset = source.prepare(ws, "orl")
    for split in dataset.splits.values():
        for i in range(0, len(split), 37):
            record = split.record(i)
            stored = cv2.imdecode(np.frombuffer(record["image"], np.uint8), cv2.IMREAD_UNCHANGED)
            path = real_data / "orl" / f"{record['key']}.pgm"
            assert np.array_equal(stored, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    # frozen: what committed protocols and records of this release were made on
    assert dataset.facts["splits"]["test"]["content"].startswith("sha256:ce6612d7af222960")
    assert dataset.facts["splits"]["train"]["content"].startswith("sha256:0ed3965f7c3aee2f")
