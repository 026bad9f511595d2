"""The FER+ reader, on releases that the test writes in both layouts."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from facebench import schemes, workspace
from facebench.data import source, targets
from facebench.errors import FacebenchError
from facebench.formats import fer2013, votes

FOLDERS = {"train": "FER2013Train", "dev": "FER2013Valid", "test": "FER2013Test"}
USAGE = dict(zip(FOLDERS, votes.USAGES))

# row of the table: split, whether it shows a face, its votes in the folder, and those of the list
ROWS = [
    ("train", (8, 2), None),
    ("train", (0, 0, 0, 0, 0, 0, 0, 0, 0, 10), "no face"),
    ("train", (3, 0, 0, 3, 2, 2), None),  # no majority
    ("train", (5, 3, 0, 0, 0, 0, 0, 0, 2), None),  # half: no majority, but two emotions
    ("train", (0, 0, 0, 0, 0, 0, 0, 10), (0, 9, 0, 0, 0, 0, 0, 1)),  # the list says something else
    ("train", (0, 1, 0, 0, 0, 0, 0, 0, 9), None),
    ("dev", (0, 0, 0, 0, 0, 10), None),
    ("dev", (5, 5), None),
    ("test", (0, 0, 7, 3), None),
    ("test", (0, 0, 0, 6, 4), None),
    ("test", (4, 3, 3), None),
]
EMOTION = [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3]  # FER2013's own
NAMED = [row for row, (_, _, other) in enumerate(ROWS) if other != "no face"]
NAME = {row: f"fer{place:07d}.png" for place, row in enumerate(NAMED)}
HAVE = {
    "FER2013Train": 5, "FER2013Valid": 2, "FER2013Test": 3,
    "Training": 6, "PublicTest": 2, "PrivateTest": 3,
}  # fmt: skip


def pixels(row):
    return np.random.default_rng(0 if row == 8 else row).integers(0, 256, (48, 48), np.uint8)


def full(counts):
    return [*counts, *[0] * (10 - len(counts))]


def line(row, which=0):
    counts = full(ROWS[row][2] if which and isinstance(ROWS[row][2], tuple) else ROWS[row][1])
    return ",".join(map(str, counts))


def write_folders(root):
    for split, folder in FOLDERS.items():
        (root / folder).mkdir(parents=True)
        rows = [row for row in NAMED if ROWS[row][0] == split]
        text = "".join(f'{NAME[row]},"(0, 0, 48, 48)",{line(row)}\n' for row in rows)
        (root / folder / "label.csv").write_text(text)


def write_lists(root):
    rows = [f"{USAGE[ROWS[r][0]]},{NAME.get(r, '')},{line(r, 1)}" for r in range(len(ROWS))]
    (root / "fer2013new.csv").write_text("\n".join([votes.HEADER, *rows]) + "\n")
    rows = [
        f"{EMOTION[r]},{' '.join(map(str, pixels(r).ravel()))},{USAGE[ROWS[r][0]]}"
        for r in range(len(ROWS))
    ]
    (root / "fer2013.csv").write_text("\n".join([fer2013.HEADER, *rows]) + "\n")


@pytest.fixture
def images(tmp_path):
    """The layout with images in the folders."""
    root = tmp_path / "images"
    write_folders(root)
    for row in NAMED:
        path = root / FOLDERS[ROWS[row][0]] / NAME[row]
        cv2.imwrite(str(path), pixels(row))
    return root


@pytest.fixture
def table(tmp_path):
    """The layout of FER+'s repository with FER2013's table beside it."""
    root = tmp_path / "table"
    write_folders(root / "data")
    write_lists(root)
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("ferplus")
    monkeypatch.setattr(source.builder(ws, "ferplus"), "OFFICIAL", HAVE)
    return ws


def there(dataset):
    """Split to its keys and the names of their classes."""
    names = (dataset.folder / "expression.labels.txt").read_text().split()
    return {
        name: [(key, names[c]) for key, c in zip(split.keys, source.field(split, "expression"))]
        for name, split in dataset.splits.items()
    }


def key(row):
    return NAME[row].removesuffix(".png")


MAJORITY = {
    "train": [(key(0), "neutral"), (key(4), "contempt")],
    "dev": [(key(6), "disgust")],
    "test": [(key(8), "surprise"), (key(9), "sad")],
}


@pytest.mark.parametrize("layout", ["images", "table"])
def test_majority_in_both_layouts(ws, layout, request):
    dataset = source.prepare(ws, "ferplus", source_dir=request.getfixturevalue(layout))
    assert dataset.label == "ferplus/majority"
    assert there(dataset) == MAJORITY
    for split in dataset.splits.values():
        for i in range(len(split)):
            record = split.record(i)
            row = next(r for r in NAMED if key(r) == record["key"])
            stored = cv2.imdecode(np.frombuffer(record["image"], np.uint8), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(stored, pixels(row))
            assert record["unit"] == hashlib.sha256(pixels(row).tobytes()).hexdigest()[:16]
            assert record["votes"].tolist() == full(ROWS[row][1])
            assert record["distribution"].argmax() == record["expression"]
    # row 8 of the test part is a copy of row 0 of the training part
    assert dataset.split("test").units[0] == dataset.split("train").units[0]


def test_both_layouts_give_one_content(ws, images, table, tmp_path):
    first = source.prepare(ws, "ferplus", source_dir=images)
    again = workspace.find(ws.root, data=tmp_path / "other")
    second = source.prepare(again, "ferplus", source_dir=table)
    assert first.facts["splits"] == second.facts["splits"]


def test_votes_of_the_list_are_a_config_of_their_own(ws, table):
    made = there(source.prepare(ws, "ferplus", "majority-csv", table))
    assert made == MAJORITY | {"train": [(key(0), "neutral"), (key(4), "happy")]}


VARIANTS = {
    "plurality": ([0, 2, 3, 4, 5], [6, 7], [8, 9, 10]),
    "plurality-10": ([0, 2, 3, 4], [6, 7], [8, 9, 10]),
    "probability": ([0, 3, 4], [6], [8, 9]),
    "multi-target": ([0, 2, 3, 4], [6], [8, 9]),
    "probability-all": ([0, 3, 4], [6, 7], [8, 9, 10]),
    "multi-target-all": ([0, 2, 3, 4], [6, 7], [8, 9, 10]),
}


@pytest.mark.parametrize("config", VARIANTS)
def test_variants_keep_other_faces(ws, images, config):
    dataset = source.prepare(ws, "ferplus", config, images)
    found = {name: split.keys for name, split in dataset.splits.items()}
    assert found == {s: [key(r) for r in rows] for s, rows in zip(FOLDERS, VARIANTS[config])}
    train = dataset.split("train")
    shares = source.field(train, "distribution")[train.keys.index(key(3))]
    expected = {"plurality": [1, 0], "multi": [5 / 8, 3 / 8], "probability": [5 / 8, 3 / 8]}
    assert shares[:2].tolist() == np.float32(expected[config.split("-")[0]]).tolist()


def test_fer2013_has_its_own_classes_and_all_rows(ws, table):
    dataset = source.prepare(ws, "ferplus", "fer2013", table)
    names = schemes.EXPRESSION_ORDERS["fer2013"]
    assert there(dataset) == {
        split: [
            (f"row{row:05d}", names[EMOTION[row]])
            for row in range(len(ROWS))
            if ROWS[row][0] == split
        ]
        for split in FOLDERS
    }
    assert names[:2] == ("anger", "disgust")  # not FER+'s order


def test_labels_reach_the_judge_by_name(ws, images):
    dataset = source.prepare(ws, "ferplus", source_dir=images)
    chosen = ["sad", "surprise"]

    class Asked:
        id, task, evaluation = "expression/ferplus/x@1", "expression", {"classes": chosen}

    made = targets.build(Asked, dataset.split("test"))
    assert [chosen[i] for i in made["label"]] == ["surprise", "sad"]


def swap(path, old, new):
    def plant(root):
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new, 1))

    return plant


def small(root):
    cv2.imwrite(str(root / "FER2013Test" / NAME[8]), np.zeros((40, 48), np.uint8))


IMAGE_FAULTS = {
    "no image": (lambda r: (r / "FER2013Test" / NAME[8]).unlink(), f"{NAME[8]}: reading failed"),
    "another size": (small, rf"{NAME[8]}: uint8 of shape \(40, 48\)"),
    "damaged": (
        lambda r: (r / "FER2013Test" / NAME[8]).write_bytes(b"\x89PNG"),
        f"{NAME[8]}: 4 bytes that are truncated",
    ),
    "no votes": (lambda r: (r / "FER2013Valid/label.csv").unlink(), r"label\.csv: reading failed"),
    "a face too few": (
        swap("FER2013Train/label.csv", f'{NAME[0]},"(0, 0, 48, 48)",{line(0)}\n', ""),
        "4 votes of FER2013Train, the official release has 5",
    ),
    "a broken line": (swap("FER2013Test/label.csv", ",7,", ",x,"), "line 1: found 'x'"),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_a_broken_release_is_refused_by_name(ws, images, fault):
    plant, said = IMAGE_FAULTS[fault]
    plant(images)
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "ferplus", source_dir=images)
    assert not source.prepared(ws, "ferplus")


TABLE_FAULTS = {
    "rows of another part": (
        swap("fer2013new.csv", "Training,fer0000000", "PublicTest,fer0000000"),
        r"fer2013\.csv: line 2 is of 'Training', but that of fer2013new\.csv is not",
    ),
    "a name of another part": (
        swap("data/FER2013Test/label.csv", NAME[8], NAME[0]),
        "1 names of FER2013Test are not of its PrivateTest rows, such as fer0000000",
    ),
    "no list": (lambda r: (r / "fer2013new.csv").unlink(), r"fer2013new\.csv: reading failed"),
    "a row too few": (
        lambda r: (r / "fer2013.csv").write_text(
            "\n".join((r / "fer2013.csv").read_text().splitlines()[:-1])
        ),
        r"fer2013\.csv: 2 rows of PrivateTest, the official release has 3",
    ),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_table_that_does_not_fit_is_refused(ws, table, fault):
    plant, said = TABLE_FAULTS[fault]
    plant(table)
    with pytest.raises(FacebenchError, match=f"(?s){said}"):
        source.prepare(ws, "ferplus", source_dir=table)


def test_the_real_numbers_are_demanded(space, images):
    with pytest.raises(FacebenchError, match=r"5 votes of FER2013Train, .* has 28558"):
        source.prepare(space("ferplus"), "ferplus", source_dir=images)
