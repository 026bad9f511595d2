"""The BP4D reader, on a release of all 41 people with 2 of the 8 tasks and 6 coded frames each."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from facebench import catalogue, files, metrics, protocol
from facebench.data import pipeline, source, subsets, targets
from facebench.data.transforms import decode
from facebench.errors import FacebenchError, UsageError

PEOPLE = [f"F{i:03d}" for i in range(1, 24)] + [f"M{i:03d}" for i in range(1, 19)]
P1 = [f"F{i:03d}" for i in (1, 2, 8, 9, 10, 16, 18, 23)]
P1 += [f"M{i:03d}" for i in (1, 4, 7, 8, 12, 14)]
AU = [1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24]
GRADED = [6, 10, 12, 14, 17]
TASKS = ("T1", "T5")
FRAMES = range(1, 7)


def code(person, task, frame, au, top=1):
    """0 to `top`, or 9."""
    found = (PEOPLE.index(person) * 7 + int(task[1]) * 3 + frame * 5 + au) % (top + 2)
    return 9 if found > top else found


def colour(person, task, frame):
    """That no other frame has."""
    return PEOPLE.index(person) * 5, int(task[1]), frame * 10


@pytest.fixture(scope="module")
def made(tmp_path_factory, encode):
    """Images count from 0, as released: frame 1 is image 0. Zeros before numbers are mixed."""
    root = tmp_path_factory.mktemp("bp4d")
    for person in PEOPLE:
        for task in TASKS:
            rows = ["0," + ",".join(map(str, range(1, 100)))]
            for f in FRAMES:
                codes = [code(person, task, f, au) if au in AU else 9 for au in range(1, 100)]
                rows.append(f"{f}," + ",".join(map(str, codes)))
            write(root / f"AUCoding/AU_OCC/{person}_{task}.csv", rows)
            for au in GRADED:
                rows = [f"{f},{code(person, task, f, au, 5)}" for f in FRAMES]
                write(root / f"AUCoding/AU_INT/AU{au:02d}/{person}_{task}_AU{au:02d}.csv", rows)
            folder = root / "2D+3D" / person / task
            folder.mkdir(parents=True)
            for f in FRAMES:
                image = np.full((6, 5, 3), colour(person, task, f), np.uint8)
                name = f"{f - 1:04d}.png" if task == "T1" else f"{f - 1:02d}.png"
                (folder / name).write_bytes(encode(image))
            (folder / "0001.mtl").write_text("a texture, not an image\n")
    return root


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\r\n" for row in rows))


@pytest.fixture
def release(made, tmp_path):
    return shutil.copytree(made, tmp_path / "release")


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("bp4d")
    cls = source.builder(ws, "bp4d")
    monkeypatch.setattr(cls, "TASKS", TASKS)
    monkeypatch.setattr(cls, "OFFICIAL", len(PEOPLE) * len(TASKS) * len(FRAMES))
    return ws


def expected(person, task, frame, au=AU, top=1):
    codes = np.array([code(person, task, frame, unit, top) for unit in au], np.float64)
    return np.where(codes == 9, -1, codes / top).astype(np.float32)


def parts(key):
    person, task, frame = key.split("/")
    return person, task, int(frame)


def test_every_frame_has_its_own_codes_and_image(ws, made):
    dataset = source.prepare(ws, "bp4d", source_dir=made)
    assert dataset.label == "bp4d/p1"
    seen = []
    for name, split in dataset.splits.items():
        for i in range(len(split)):
            record = split.record(i)
            person, task, frame = parts(record["key"])
            assert (person in P1) == (name == "test")
            assert (record["unit"], record["frame"]) == (person, frame)
            assert np.array_equal(record["au"], expected(person, task, frame))
            # codes count from 1, images from 0: a shift by one would show the next frame
            assert decode(record["image"])[0, 0].tolist() == list(colour(person, task, frame))
            assert not record["box"].any()
            assert not record["five_points"].any()
            seen.append(record["key"])
    assert sorted(seen) == sorted(f"{p}/{t}/{f}" for p in PEOPLE for t in TASKS for f in FRAMES)
    assert set(source.field(dataset.split("test"), "fold")) == {1}
    assert set(source.field(dataset.split("train"), "fold")) == {2, 3}
    assert json.loads((dataset.folder / "metadata.json").read_text())["au"] == AU
    assert source.verify(ws, "bp4d") == []


def test_grades_are_fifths_and_frames_are_strided_by_number(ws, made):
    dataset = source.prepare(ws, "bp4d", "p3-intensity-every-5", made)
    for split in dataset.splits.values():
        for i in range(len(split)):
            person, task, frame = parts(split.keys[i])
            assert np.array_equal(
                source.field(split, "au")[i], expected(person, task, frame, GRADED, 5)
            )
        assert set(source.field(split, "frame")) == {1, 6}
    assert dataset.split("test").units[0] == "F004"
    assert json.loads((dataset.folder / "metadata.json").read_text())["au"] == GRADED


def test_the_published_split_with_a_dev_part(ws, made):
    dataset = source.prepare(ws, "bp4d", "opengraphau-every-25", made)
    counts = {name: len(split) for name, split in dataset.splits.items()}
    assert counts == {"train": 22 * 2, "dev": 6 * 2, "test": 13 * 2}


def test_images_from_1_keep_their_numbers(ws, release):
    for folder in (release / "2D+3D").glob("*/*"):
        for image in sorted(folder.glob("*.png"), key=lambda p: -int(p.stem)):
            image.rename(folder / f"frame_{int(image.stem) + 1}.png")
    (release / "2D+3D").rename(release / "frames")
    test = source.prepare(ws, "bp4d", "p1-every-25", release).split("test")
    for i in range(len(test)):
        pixel = decode(test.record(i)["image"])[0, 0].tolist()
        assert pixel == list(colour(*parts(test.keys[i])))


def test_where_no_image_0_was_kept_it_is_said(ws, release):
    """Images count from 0, but those of frame 1 are not there and not wanted."""
    listed = ["session,frame"]
    for folder in (release / "2D+3D").glob("*/*"):
        sorted(folder.glob("*.png"))[0].unlink()
        listed.append(f"{folder.parent.name}/{folder.name},1")
    write(release / "left_out.csv", listed)
    with pytest.raises(FacebenchError, match=r"1 of 1 .*frame 6 \(image 6, .* count from 1 here"):
        source.prepare(ws, "bp4d", "p2-every-5", release)
    write(release / "2D+3D/first.txt", ["2"])
    with pytest.raises(FacebenchError, match=r"first\.txt: found b'2', expected 0 or 1"):
        source.prepare(ws, "bp4d", "p2-every-5", release)
    write(release / "2D+3D/first.txt", ["0"])
    test = source.prepare(ws, "bp4d", "p2-every-5", release).split("test")
    assert set(source.field(test, "frame")) == {6}
    for i in range(len(test)):
        pixel = decode(test.record(i)["image"])[0, 0].tolist()
        assert pixel == list(colour(*parts(test.keys[i])))


def listed(release, name, columns, value, skip=()):
    rows = [f"session,frame,{columns}"]
    for person in PEOPLE:
        for task in TASKS:
            for f in FRAMES:
                if (person, task, f) not in skip:
                    rows.append(f"{person}/{task},{f}," + ",".join(map(str, value(person, f))))
    write(release / name, rows)


def box(person, f):
    return f, PEOPLE.index(person), f + 3, PEOPLE.index(person) + 4


def five(person, f):
    return 1, f, 4, f, 2.5, 3 + f, 1, 5 + f, 4, 5 + f


FIVE = "x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"


def test_boxes_and_points_beside_the_release(ws, release):
    listed(release, "boxes.csv", "x0,y0,x1,y1", box)
    listed(release, "points.csv", FIVE, five)
    dataset = source.prepare(ws, "bp4d", "p1-every-5", release)
    test = dataset.split("test")
    for i in range(len(test)):
        person, _, frame = parts(test.keys[i])
        record = test.record(i)
        assert record["box"].tolist() == list(box(person, frame))
        assert record["five_points"].ravel().tolist() == list(five(person, frame))
    for preprocess in (
        {"crop": "five_points", "size": 112},
        {"crop": "box", "size": 16, "margin": 0.05},
    ):
        with pipeline.predict_batches(
            test, preprocess=preprocess, batch_size=4, indices=[0, 3]
        ) as batches:
            assert next(batches)["image"].shape[1:3] == (preprocess["size"],) * 2


def test_without_boxes_no_crop_is_made_by_them(ws, made):
    test = source.prepare(ws, "bp4d", "p1-every-25", made).split("test")
    for crop, said in (("box", "the box .* is empty"), ("five_points", "five points in one place")):
        preprocess = {"crop": crop, "size": 112}
        with (
            pipeline.predict_batches(test, preprocess=preprocess, batch_size=2) as batches,
            pytest.raises(FacebenchError, match=f"key 'F001/T1/1': {said}"),
        ):
            next(batches)


def image(release, person, task, f):
    return release / f"2D+3D/{person}/{task}/{f - 1:04d}.png"


def text(name, old, new):
    def plant(release):
        path = release / name
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new, 1))

    return plant


FAULTS = {
    "missing frame": (
        lambda r: [image(r, "F003", "T1", f).unlink() for f in (2, 3)],
        r"F003/T1: 2 of 6 coded frames .*frame 2 \(image 1, .* from 0 here\); .*left_out\.csv",
    ),
    "frames missing in several sessions": (
        lambda r: [image(r, p, "T1", 2).unlink() for p in ("F003", "M004")],
        "F003/T1: 1 of 6 .*and so 1 other sessions",
    ),
    "missing folder": (
        lambda r: shutil.rmtree(r / "2D+3D/M002/T5"),
        "M002/T5: reading failed: no such file",
    ),
    "no frames at all": (
        lambda r: shutil.rmtree(r / "2D+3D"),
        "neither images nor videos .*no folder frames nor 2D.*F001_T1.avi",
    ),
    "two images of a frame": (
        lambda r: shutil.copy(
            image(r, "F001", "T1", 3), image(r, "F001", "T1", 3).parent / "2.png"
        ),
        "F001/T1: .* and .* have the same number",
    ),
    "an image without a number": (
        lambda r: shutil.copy(image(r, "F001", "T1", 3), r / "2D+3D/F001/T1/face.png"),
        "face.png: no number of a frame in its name",
    ),
    "a damaged image": (
        lambda r: image(r, "M018", "T1", 6).write_bytes(b"\x89PNG cut off"),
        "key 'M018/T1/6'",
    ),
    "a task without codes": (
        lambda r: (r / "AUCoding/AU_OCC/F001_T5.csv").unlink(),
        r"F001_T5\.csv: reading failed: no such file",
    ),
    "a wrong column": (
        text("AUCoding/AU_OCC/M001_T1.csv", ",24,", ",240,"),
        r"M001_T1\.csv: line 1: 0 columns of action unit 24",
    ),
    "an unknown code": (
        text("AUCoding/AU_OCC/M001_T1.csv", "\n2,", "\n2,5,"),
        r"M001_T1\.csv: line 3: .*100 cells",
    ),
    "a file of codes cut off": (
        lambda r: write(
            r / "AUCoding/AU_OCC/M001_T1.csv",
            (r / "AUCoding/AU_OCC/M001_T1.csv").read_text().splitlines()[:-1],
        ),
        "AU_OCC: 491 coded frames, the official release has 492",
    ),
    "a box too few": (
        lambda r: listed(r, "boxes.csv", "x0,y0,x1,y1", box, skip={("F002", "T5", 4)}),
        r"boxes\.csv: no line for frame 4 of F002/T5; add it, or list",
    ),
    "other columns": (
        lambda r: listed(r, "boxes.csv", "x,y,w,h", box),
        r"boxes\.csv: line 1: .*expected the columns `session,frame,x0,y0,x1,y1`",
    ),
    "a frame that is not coded is left out": (
        lambda r: write(r / "left_out.csv", ["session,frame", "F001_T1,3"]),
        r"left_out\.csv: frame 3 of F001_T1 is not coded; 1 such lines; .*`F001/T1`",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_release_is_refused_by_name(ws, release, fault):
    plant, said = FAULTS[fault]
    plant(release)
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "bp4d", source_dir=release)
    assert not source.prepared(ws, "bp4d")


def test_one_config_is_named_for_each_takes_much_room(ws, release):
    with pytest.raises(UsageError, match=r"bp4d has 24 configurations.*prepare bp4d/CONFIG"):
        catalogue.prepare(ws, "bp4d", release)


def test_a_missing_file_of_grades_is_refused(ws, release):
    (release / "AUCoding/AU_INT/AU12/F001_T1_AU12.csv").unlink()
    with pytest.raises(FacebenchError, match=r"AU12/F001_T1_AU12\.csv: reading failed"):
        source.prepare(ws, "bp4d", "p1-intensity", release)


def test_frames_are_left_out_by_name(ws, release):
    image(release, "F001", "T1", 2).unlink()
    write(release / "left_out.csv", ["session,frame", "F001/T1,2"])
    dataset = source.prepare(ws, "bp4d", source_dir=release)
    assert len(dataset.split("test")) == 14 * 2 * 6 - 1
    assert "F001/T1/2" not in dataset.split("test").keys


def test_the_real_numbers_are_demanded(space, made, monkeypatch):
    ws = space("bp4d")
    monkeypatch.setattr(source.builder(ws, "bp4d"), "TASKS", TASKS)
    with pytest.raises(FacebenchError, match="492 coded frames, the official release has 146847"):
        source.prepare(ws, "bp4d", source_dir=made)


# --------------------------------------------------------------------------------------- videos


@pytest.fixture(scope="module")
def filmed(made, tmp_path_factory):
    """The same codes, and a video of a frame more than is coded for each session."""
    root = tmp_path_factory.mktemp("filmed")
    shutil.copytree(made / "AUCoding", root / "AUCoding")
    (root / "videos").mkdir()
    for k, person in enumerate(PEOPLE):
        short = f"2{person[0]}{person[2:]}"
        # three ways to name a video, all of them in use
        film(root / "videos" / (f"{person}_T1.avi" if k % 2 else f"{short}_T1.avi"), 7)
        film(root / "videos" / f"{short}_09.avi", 7)  # as released: task 5
    return root


def film(path, count):
    """Frame f, counted from 1, has the grey level 20 f."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (32, 24))
    assert writer.isOpened()
    for f in range(1, count + 1):
        writer.write(np.full((24, 32, 3), 20 * f, np.uint8))
    writer.release()


def test_frames_of_videos_count_from_1(ws, filmed):
    test = source.prepare(ws, "bp4d", "p1", filmed).split("test")
    assert len(test) == 14 * 2 * 6
    for i in range(0, len(test), 5):
        record = test.record(i)
        assert abs(decode(record["image"]).mean() - 20 * record["frame"]) < 4


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (
            lambda v: film(v / "F002_T1.avi", 5),
            r"F002_T1\.avi: frame 6 cannot be read: the video ends after frame 5, but codes go on",
        ),
        (lambda v: (v / "F002_T1.avi").unlink(), r"videos.F002_T1\.avi: no such video"),
        (
            lambda v: (v / "F002_T1.avi").write_bytes(b"#EXTM3U\n/etc/passwd\n"),
            "F002_T1.avi: begins with b'#EXTM3U.*expected an AVI or MP4 video",
        ),
        (
            lambda v: (v / "F002_T1.avi").write_bytes(b"RIFF\0\0\0\0AVI " + bytes(99)),
            "F002_T1.avi: frame 1 cannot be read: the video ends after frame 0",
        ),
    ],
)
def test_a_broken_video_is_refused(ws, filmed, tmp_path, plant, said):
    root = shutil.copytree(filmed, tmp_path / "release")
    plant(root / "videos")
    with pytest.raises(FacebenchError, match=said):
        source.prepare(ws, "bp4d", "p1", root)


# ------------------------------------------------------------------------------------- protocols


def f1(label, probability):
    """Mean over action units of F1 at 0.5 where the label is known."""
    each = []
    for a in range(len(AU)):
        known = label[:, a] >= 0
        true, said = label[known, a] == 1, probability[known, a] >= 0.5
        each.append(2 * (true & said).sum() / (true.sum() + said.sum()))
    return np.mean(each)


def test_the_drafts_of_the_card_and_three_parts_together(ws, release, tmp_path, monkeypatch):
    """Every part's draft fits, dev is of other people, and the card's program joins the parts."""
    listed(release, "points.csv", FIVE, five)
    card = (ws.datasets / "bp4d/README.md").read_text()
    value = json.loads(card.partition("```json\n")[2].partition("```")[0])
    rng, parts_of = np.random.default_rng(0), []
    for part, n in (("p1", 168), ("p2", 168), ("p3", 156)):
        draft = protocol.parse(
            json.loads(json.dumps(value).replace("p1", part)), "the card", allow_draft=True
        )
        assert draft.id == f"action_units/bp4d/{part}@1"
        dataset = source.prepare(ws, "bp4d", part, release)
        facts = targets.facts(draft, dataset)  # what freezing fills in
        assert facts["splits"]["test"]["n"] == n
        train, dev = subsets.carve(draft, dataset.split("train"))
        units = dataset.split("train").units
        assert len(dev)
        assert not {units[i] for i in train} & {units[i] for i in dev}
        arrays = targets.build(draft, dataset.split("test"))
        codes = [[code(*parts(key), au) for au in AU] for key in dataset.split("test").keys]
        assert np.array_equal(arrays["label"], np.where(np.array(codes) == 9, -1, codes))
        guess = rng.integers(0, 65536, arrays["label"].shape).astype(np.uint16)
        files.write_npz(tmp_path / f"runs/{part}.npz", {"probability": guess})
        files.write_npz(tmp_path / f"data/targets/{draft.id}.npz", arrays)
        parts_of.append((arrays["label"], guess / 65535))
    monkeypatch.chdir(tmp_path)
    program = card.partition("```python\n")[2].partition("```")[0]
    exec(compile(program, "the card", "exec"), {})
    made = [files.read_npz(tmp_path / f"{name}.npz") for name in ("predictions", "targets")]
    assert len(np.unique(made[1]["unit"])) == len(PEOPLE)
    mean = metrics.score("action_units", *made, "fold-mean")
    pooled = metrics.score("action_units", *made, "pooled")
    each = [f1(label, probability) for label, probability in parts_of]
    assert mean["f1_per_fold"] == pytest.approx(each)
    assert mean["f1"] == pytest.approx(np.mean(each))
    assert pooled["f1"] == pytest.approx(f1(*map(np.concatenate, zip(*parts_of, strict=True))))
    assert abs(pooled["f1"] - mean["f1"]) > 1e-6
