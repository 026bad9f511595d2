"""The DISFA reader, on a release of all 27 people with 6 frames each."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
import scipy.io

from facebench import protocol
from facebench.data import source, subsets, targets
from facebench.data.transforms import decode
from facebench.errors import FacebenchError

NUMBERS = [*range(1, 14), *range(16, 19), 21, *range(23, 33)]
PEOPLE = [f"SN{i:03d}" for i in NUMBERS]
P1 = [f"SN{i:03d}" for i in (1, 2, 9, 10, 16, 26, 27, 30, 32)]
AU = [1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26]
EIGHT = [1, 2, 4, 6, 9, 12, 25, 26]
FRAMES = range(1, 7)


def grade(person, frame, au):
    return (int(person[2:]) + 2 * frame + au) % 6


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """The codes alone."""
    root = tmp_path_factory.mktemp("disfa")
    for person in PEOPLE:
        for au in AU:
            rows = [f"{f},{grade(person, f, au)}" for f in FRAMES]
            write(root / f"ActionUnit_Labels/{person}/{person}_au{au}.txt", rows)
    return root


@pytest.fixture
def release(coded, tmp_path, encode):
    """Frames as `ffmpeg` takes them out: from 00001.png on, grey level 20 f."""
    root = shutil.copytree(coded, tmp_path / "release")
    for person in PEOPLE:
        folder = root / "frames" / person
        folder.mkdir(parents=True)
        for f in FRAMES:
            image = np.full((6, 5, 3), 20 * f, np.uint8)
            (folder / f"LeftVideo{person}_comp_{f:05d}.png").write_bytes(encode(image))
    return root


def points(person, frame):
    """66 points of a frame; the corners of the eyes and the mouth, and the nose, as on a face."""
    made = np.random.default_rng([int(person[2:]), frame]).uniform(10, 40, (66, 2))
    made[[36, 39, 42, 45, 30, 48, 54]] = [
        (14, 20), (18, 20), (26, 20), (30, 20), (22, 26), (17, 32), (27, 32),
    ]  # fmt: skip
    return made + frame


def film(path, count):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 48))
    assert writer.isOpened()
    for f in range(1, count + 1):
        writer.write(np.full((48, 64, 3), 20 * f, np.uint8))
    writer.release()


@pytest.fixture
def filmed(coded, tmp_path):
    """The left videos and the points; those of SN031 count from 1 and lack frame 4."""
    root = shutil.copytree(coded, tmp_path / "release")
    for person in PEOPLE:
        film(root / f"Video_LeftCamera/LeftVideo{person}_comp.avi", 6)
        folder = root / f"Landmark_Points/{person}/tmp_frame_lm"
        folder.mkdir(parents=True)
        for f in FRAMES:
            name = f"l0{f:04d}_lm.mat" if person == "SN031" else f"{person}_{f - 1:04d}_lm.mat"
            if (person, f) != ("SN031", 4):
                scipy.io.savemat(folder / name, {"pts": points(person, f)})
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("disfa")
    monkeypatch.setattr(source.builder(ws, "disfa"), "OFFICIAL", len(PEOPLE) * len(FRAMES))
    return ws


def of(key):
    person, frame = key.split("/")
    return person, int(frame)


def test_every_frame_has_its_grades_as_fifths(ws, release):
    dataset = source.prepare(ws, "disfa", source_dir=release)
    assert dataset.label == "disfa/p1"
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 108,
        "test": 54,
    }
    for name, split in dataset.splits.items():
        for i in range(len(split)):
            record = split.record(i)
            person, frame = of(record["key"])
            assert (person in P1) == (name == "test")
            assert (record["unit"], record["frame"]) == (person, frame)
            assert (record["fold"] == 1) == (name == "test")
            grades = np.array([grade(person, frame, au) for au in AU])
            assert np.array_equal(record["au"], np.float32(grades / 5))
            assert decode(record["image"])[0, 0, 0] == 20 * frame
    assert json.loads((dataset.folder / "metadata.json").read_text())["au"] == AU
    assert source.verify(ws, "disfa") == []


def test_images_from_0_are_the_frame_before(ws, release):
    for folder in (release / "frames").iterdir():
        for image in sorted(folder.iterdir()):  # as ME-GraphAU names them
            image.rename(folder / f"{int(image.stem[-5:]) - 1}.png")
    test = source.prepare(ws, "disfa", "p2-every-5", release).split("test")
    assert test.keys[:2] == ["SN006/1", "SN006/6"]
    for i in range(len(test)):
        assert decode(test.record(i)["image"])[0, 0, 0] == 20 * of(test.keys[i])[1]


def test_occurrence_is_from_grade_2_or_from_grade_1_by_name(ws, release):
    dataset = source.prepare(ws, "disfa", source_dir=release)
    test = dataset.split("test")
    card = (ws.datasets / "disfa/README.md").read_text()
    value = json.loads(card.partition("```json\n")[2].partition("```")[0])
    draft = protocol.parse(value, "the card", allow_draft=True)
    assert (draft.id, draft.evaluation["au"]) == ("action_units/disfa/p1@1", EIGHT)
    variants = {
        row.split("`")[1]: row for row in card.splitlines() if row.startswith("| there from")
    }
    grades = np.array([[grade(*of(key), au) for au in EIGHT] for key in test.keys])
    for name, lowest in (("action_units/disfa/p1@1", 2), ("action_units/disfa/p1-from-1@1", 1)):
        threshold = json.loads("{" + variants[name].split("`")[3] + "}")["threshold"]
        evaluation = value["evaluation"] | {"threshold": threshold}
        made = protocol.parse(
            value | {"id": name, "evaluation": evaluation}, "the card", allow_draft=True
        )
        label = targets.build(made, test)["label"]
        assert np.array_equal(label, grades >= lowest)
    assert draft.evaluation["threshold"] == 0.4
    train, dev = subsets.carve(draft, dataset.split("train"))
    units = dataset.split("train").units
    assert not {units[i] for i in train} & {units[i] for i in dev}


def test_videos_give_frames_and_landmarks_give_boxes(ws, filmed):
    dataset = source.prepare(ws, "disfa", "p2", filmed)
    for split in dataset.splits.values():
        for i in range(len(split)):
            record = split.record(i)
            person, frame = of(record["key"])
            assert abs(decode(record["image"]).mean() - 20 * frame) < 4
            found = points(person, 3 if (person, frame) == ("SN031", 4) else frame)
            box = (*found.min(axis=0), *found.max(axis=0))
            assert record["box"] == pytest.approx(box, abs=1e-5)
            five = [(found[36] + found[39]) / 2, (found[42] + found[45]) / 2, *found[[30, 48, 54]]]
            assert record["five_points"] == pytest.approx(np.array(five), abs=1e-5)


def test_opengraphau_has_a_dev_part_of_four_people(ws, release):
    dataset = source.prepare(ws, "disfa", "opengraphau-every-20", release)
    assert {s: sorted(set(split.units)) for s, split in dataset.splits.items() if s == "dev"} == {
        "dev": ["SN006", "SN012", "SN021", "SN031"]
    }
    assert {s: len(split) for s, split in dataset.splits.items()} == {
        "train": 14, "dev": 4, "test": 9,
    }  # fmt: skip


def label(root, person, au):
    return root / f"ActionUnit_Labels/{person}/{person}_au{au}.txt"


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (
            lambda r: (r / "frames/SN009/LeftVideoSN009_comp_00004.png").unlink(),
            r"SN009: 1 of 6 coded frames .*frame 4 \(image 4, .* from 1 here\)",
        ),
        (
            lambda r: write(label(r, "SN010", 9), [f"{f},0" for f in range(1, 6)]),
            r"SN010_au9\.txt: 5 frames, and lacks frame 6, which SN010_au1\.txt codes",
        ),
        (
            lambda r: [write(label(r, "SN010", a), [f"{f},0" for f in range(1, 6)]) for a in AU],
            "ActionUnit_Labels: 161 coded frames, the official release has 162",
        ),
        (
            lambda r: write(label(r, "SN010", 9), [f"{f},{f}" for f in FRAMES]),
            r"SN010_au9\.txt: line 6: found '6', expected a code of action unit 9: 0, 1, 2, 3,",
        ),
        (
            lambda r: write(label(r, "SN010", 9), [f"{f} 0" for f in FRAMES]),
            r"SN010_au9\.txt: line 1: found '1 0', expected `frame,grade`",
        ),
        (lambda r: label(r, "SN010", 9).unlink(), r"SN010_au9\.txt: reading failed: no such file"),
    ],
)
def test_a_broken_release_is_refused_by_name(ws, release, plant, said):
    plant(release)
    with pytest.raises(FacebenchError, match=said):
        source.prepare(ws, "disfa", source_dir=release)
    assert not source.prepared(ws, "disfa")


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (
            lambda r: film(r / "Video_LeftCamera/LeftVideoSN010_comp.avi", 5),
            "LeftVideoSN010_comp.avi: frame 6 cannot be read: the video ends after frame 5",
        ),
        (
            lambda r: [
                (r / f"Landmark_Points/SN031/tmp_frame_lm/l0000{f}_lm.mat").unlink() for f in (3, 5)
            ],
            "SN031.tmp_frame_lm: no points of frame 4, nor of the one before",
        ),
        (
            lambda r: scipy.io.savemat(
                r / "Landmark_Points/SN002/tmp_frame_lm/SN002_0001_lm.mat",
                {"pts": np.ones((49, 2))},
            ),
            r"SN002_0001_lm\.mat: the variable 'pts' has 98 numbers; expected 66 points",
        ),
    ],
)
def test_a_broken_video_release_is_refused(ws, filmed, plant, said):
    plant(filmed)
    with pytest.raises(FacebenchError, match=said):
        source.prepare(ws, "disfa", source_dir=filmed)
