"""The CK+ reader, on a release that the test writes."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import plugins, schemes
from facebench.data import source, targets
from facebench.errors import FacebenchError

# The subjects of the ten folds as a published list has them ("10-fold, ID ascending, step 10").
FOLDS = """
    5 35 54 64 74 84 94 106 116 130 147 501
    10 37 55 65 75 85 95 107 117 131 148 502
    11 42 56 66 76 86 96 108 119 132 149 503
    14 44 57 67 77 87 97 109 122 133 151 504
    22 45 58 68 78 88 98 110 124 134 154 505
    26 46 59 69 79 89 99 111 125 135 155 506
    28 50 60 70 80 90 100 112 126 136 156 895
    29 51 61 71 81 91 101 113 127 137 157 999
    32 52 62 72 82 92 102 114 128 138 158
    34 53 63 73 83 93 105 115 129 139 160
"""
# subject and sequence to: images, class of the apex (None: not labelled)
SEQUENCES = {
    **{(f"S{n:03d}", "001"): (4, 1 + n % 7) for n in range(1, 13)},
    ("S003", "002"): (6, 5),
    ("S004", "002"): (5, None),
}
AUS = {("S001", "001"): [(1, 3), (12, 0), (25, 5), (39, 2)], ("S004", "002"): [(4, 1)]}
HAVE = {"sequences": 13, "subjects": 12}


def points(subject, n):
    return np.random.default_rng([int(subject[1:]), n]).uniform(5, 30, (68, 2)).round(3)


@pytest.fixture
def release(tmp_path, picture, encode):
    root = tmp_path / "ck"
    for (subject, name), (n, label) in SEQUENCES.items():
        at = f"{subject}/{name}"
        for folder in ("cohn-kanade-images", "Emotion", "FACS", "Landmarks"):
            (root / folder / at).mkdir(parents=True)
        (root / "cohn-kanade-images" / at / ".DS_Store").write_bytes(b"x")
        for i in range(1, n + 1):
            stem = f"{subject}_{name}_{i:08d}"
            image = encode(picture([int(subject[1:]), i], 36, 40))
            (root / "cohn-kanade-images" / at / f"{stem}.png").write_bytes(image)
            text = "".join(f"   {x:.7e}   {y:.7e}\n" for x, y in points(subject, i))
            (root / "Landmarks" / at / f"{stem}_landmarks.txt").write_text(text)
        if label is not None:
            text = f"   {label:.7e}\n"
            (root / "Emotion" / at / f"{stem}_emotion.txt").write_text(text)
        if (subject, name) in AUS:
            text = "".join(f"   {u:.7e}   {v:.7e}\n" for u, v in AUS[subject, name])
            (root / "FACS" / at / f"{stem}_facs.txt").write_text(text + "\n")
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("ck_plus")
    monkeypatch.setattr(source.builder(ws, "ck_plus"), "OFFICIAL", HAVE)
    return ws


@pytest.fixture
def builder(ws):
    return plugins.load_file(ws.datasets / "ck_plus/ck_plus_dataset_builder.py")


def test_folds_are_the_published_ones(builder):
    folds = [[f"S{int(n):03d}" for n in line.split()] for line in FOLDS.strip().splitlines()]
    everybody = [subject for fold in folds for subject in fold]
    assert len(everybody) == len(set(everybody)) == 118
    made = builder.fold_of(everybody * 2)
    assert [sorted(s for s in made if made[s] == k) for k in range(1, 11)] == folds


def test_every_subject_is_test_in_one_fold(ws, release):
    seen = []
    for fold in range(1, 11):
        dataset = source.prepare(ws, "ck_plus", f"apex-fold{fold}", release)
        test = set(dataset.split("test").units)
        assert not test & set(dataset.split("train").units)
        assert sum(map(len, dataset.splits.values())) == 13
        seen += sorted(test)
    assert sorted(seen) == [f"S{n:03d}" for n in range(1, 13)]
    assert test == {"S010"}  # the last; of 12 subjects, folds 1 and 2 have two


@pytest.mark.parametrize("rule", ["apex", "last3", "last3-neutral"])
def test_frames_and_classes(ws, release, rule):
    dataset = source.prepare(ws, "ck_plus", f"{rule}-fold1", release)
    names = (dataset.folder / "expression.labels.txt").read_text().split()
    own = ["neutral", "anger", "contempt", "disgust", "fear", "happy", "sad", "surprise"]
    assert list(schemes.EXPRESSION_ORDERS["ck_plus"]) == own
    assert names == (own if rule == "last3-neutral" else own[1:])
    found = {}
    for split in dataset.splits.values():
        for i in range(len(split)):
            record = split.record(i)
            subject, name, n = record["key"].split("/")
            found[subject, name, int(n)] = names[record["expression"]]
            stem = f"{subject}/{name}/{subject}_{name}_{int(n):08d}"
            path = release / f"cohn-kanade-images/{stem}.png"
            assert record["image"] == path.read_bytes()
            assert record["unit"] == subject
            there = np.float32(points(subject, int(n)))
            assert np.array_equal(record["points"], there)
            assert record["box"].tolist() == [*there.min(axis=0), *there.max(axis=0)]
    expected = {}
    for (subject, name), (n, label) in SEQUENCES.items():
        if label is None:
            continue
        for i in range(n if rule == "apex" else n - 2, n + 1):
            expected[subject, name, i] = own[label]
        if rule == "last3-neutral":
            expected[subject, name, 1] = "neutral"
    assert found == expected


def test_action_units(ws, release, builder):
    dataset = source.prepare(ws, "ck_plus", "facs-fold1", release)
    assert {s: split.keys for s, split in dataset.splits.items()} == {
        "train": ["S004/002/5"], "test": ["S001/001/4"],
    }  # fmt: skip
    record = dataset.split("test").record(0)
    assert tuple(schemes.AU_NAMES) == builder.AUS
    place = {unit: i for i, unit in enumerate(builder.AUS)}
    occurs, strength = np.zeros(len(place)), np.zeros(len(place))
    occurs[[place[1], place[12], place[25]]] = 1  # 39 is none of the suite's
    strength[[place[1], place[12], place[25]]] = 3, -1, 5
    assert record["au"].tolist() == occurs.tolist()
    assert record["intensity"].tolist() == strength.tolist()

    class Asked:
        id, task = "action_units/ck_plus/x@1", "action_units"
        evaluation = {"au": [25, 4, 1], "threshold": 0.5}  # noqa: RUF012

    assert targets.build(Asked, dataset.split("test"))["label"].tolist() == [[1, 0, 1]]


def at(kind, subject="S003", name="002", n=6):
    end = {"Emotion": "_emotion.txt", "FACS": "_facs.txt", "Landmarks": "_landmarks.txt"}
    stem = f"{subject}_{name}_{n:08d}{end.get(kind, '.png')}"
    return f"{kind}/{subject}/{name}/{stem}"


def text(path, content):
    return lambda root: (root / path).write_text(content)


def gone(path):
    return lambda root: (root / path).unlink()


I = "cohn-kanade-images"  # noqa: E741
FAULTS = {
    "class 0": (text(at("Emotion"), "0"), r"emotion.txt: found \[0.0\], expected one number, 1"),
    "class 8": (text(at("Emotion"), "8"), r"emotion.txt: found \[8.0\]"),
    "no number": (text(at("Emotion"), "happy"), "emotion.txt: line 1: found 'happy'"),
    "two numbers": (text(at("Emotion"), "1\n2\n"), r"emotion.txt: found \[1.0, 2.0\]"),
    "empty": (text(at("Emotion"), ""), r"emotion.txt: found \[\]"),
    "two files": (text(at("Emotion", n=5), "1"), "S003/002: holds S003_002_00000005_em.*one file"),
    "of another": (
        lambda r: (r / at("Emotion")).rename(r / "Emotion/S003/002/S004_002_00000006_emotion.txt"),
        "S003/002: holds S004_002_00000006_emotion.txt, expected one file S003_002_",
    ),
    "no apex": (gone(at(I)), "002: frame 6, which .* labels, is missing"),
    "a strange image": (text(f"{I}/S003/002/S003_002_7.png", "x"), "S003_002_7.png: expected S003"),
    "too short": (
        lambda r: [(r / at(I, n=i)).unlink() for i in (1, 2, 3, 4)],
        "002: 2 frames up to the apex, expected at least 4",
    ),
    "no points": (gone(at("Landmarks")), "00000006_landmarks.txt: reading failed"),
    "67 points": (text(at("Landmarks"), "1 2\n" * 67), "67 points, expected 68"),
    "a point": (text(at("Landmarks"), "1 2\n1 nan\n"), "landmarks.txt: line 2: found '1 nan'"),
    "a label too few": (gone(at("Emotion")), "Emotion: 12 labels, .* has 13"),
    "no sequence": (
        lambda r: (r / f"{I}/S003/002").rename(r / f"{I}/S003/02"),
        "S003/002: no such folder, but .* labels a frame of it",
    ),
    "no labels": (lambda r: (r / "Emotion").rename(r / "E"), "Emotion: no such folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_release_is_refused_by_name(ws, release, fault):
    plant, said = FAULTS[fault]
    plant(release)
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "ck_plus", "last3-neutral-fold1", release)
    assert not source.prepared(ws, "ck_plus", "last3-neutral-fold1")


@pytest.mark.parametrize("line", ["12", "12 6", "12.5 1", "0 1", "12 1 1", "12 -1", "x 1"])
def test_a_broken_action_unit_is_refused_by_line(ws, release, line):
    (release / at("FACS", "S001", "001", 4)).write_text(f"1 2\n{line}\n")
    with pytest.raises(FacebenchError, match=r"facs\.txt: line 2: found"):
        source.prepare(ws, "ck_plus", "facs-fold1", release)


def test_the_real_numbers_are_demanded(space, release):
    with pytest.raises(FacebenchError, match=r"13 labels, .* has 327"):
        source.prepare(space("ck_plus"), "ck_plus", "apex-fold1", release)
