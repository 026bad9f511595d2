"""The BP4D+ reader, on a release of all 140 people with one of the four coded tasks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facebench import protocol
from facebench.data import source, targets
from facebench.data.transforms import decode
from facebench.errors import FacebenchError
from facebench.formats import folds

PEOPLE = [f"F{i:03d}" for i in range(1, 83)] + [f"M{i:03d}" for i in range(1, 59)]
AU = [1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24]
# the first 27 columns as in the release, then the rest; the column of frames is named 1
COLUMNS = [1, 2, 4, 5, 6, 7, 9, 10, *range(11, 21), *range(22, 25), *range(27, 40), 99]
FRAMES = (1204, 1205)


def code(person, frame, au):
    return (0, 1, 9)[(PEOPLE.index(person) + frame + au) % 3]


@pytest.fixture(scope="module")
def release(tmp_path_factory, encode):
    """Images of the whole video, from 0 on, are cut down to those of coded frames, and image 0."""
    root = tmp_path_factory.mktemp("plus")
    (root / "AUCoding/AU_OCC").mkdir(parents=True)
    for person in PEOPLE:
        rows = ["1," + ",".join(map(str, COLUMNS))]
        rows += [f"{f}," + ",".join(str(code(person, f, au)) for au in COLUMNS) for f in FRAMES]
        (root / f"AUCoding/AU_OCC/{person}_T6.csv").write_text("\n".join(rows) + "\n")
        folder = root / "2D+3D" / person / "T6"
        folder.mkdir(parents=True)
        for f in FRAMES:
            image = np.full((4, 4, 3), f - 1200, np.uint8)
            (folder / f"{f - 1}.png").write_bytes(encode(image))
    (root / "2D+3D/M058/T6/0000.png").write_bytes(encode(np.zeros((4, 4, 3), np.uint8)))
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("bp4d_plus")
    monkeypatch.setattr(source.builder(ws, "bp4d_plus"), "TASKS", ("T6",))
    return ws


def test_columns_go_by_name_and_people_by_the_published_parts(ws, release):
    # the twelve are not where they are in BP4D's files; these are the published places
    assert [1 + COLUMNS.index(au) for au in AU] == [1, 2, 3, 5, 6, 8, 10, 12, 13, 15, 20, 21]
    dataset = source.prepare(ws, "bp4d_plus", "f2", release)
    assert tuple(sorted(set(dataset.split("test").units))) == folds.PARTS["bp4d_plus"]["f2"]
    assert {s: len(split) for s, split in dataset.splits.items()} == {"train": 210, "test": 70}
    for split in dataset.splits.values():
        codes = np.array(
            [[code(k.split("/")[0], int(k.split("/")[2]), au) for au in AU] for k in split.keys]
        )
        assert np.array_equal(source.field(split, "au"), np.where(codes == 9, -1, codes))
        for i in range(0, len(split), 7):
            record = split.record(i)
            assert decode(record["image"])[0, 0, 0] == record["frame"] - 1200
    card = (ws.datasets / "bp4d_plus/README.md").read_text()
    value = json.loads(card.partition("```json\n")[2].partition("```")[0].replace("f1@1", "f2@1"))
    value["dataset"]["config"] = "f2"
    label = targets.build(
        protocol.parse(value, "the card", allow_draft=True), dataset.split("test")
    )["label"]
    assert set(np.unique(label)) == {-1, 0, 1}


def test_a_missing_task_is_refused(space, release):
    ws = space("bp4d_plus")
    with pytest.raises(FacebenchError, match=r"F001_T1\.csv: reading failed: no such file"):
        source.prepare(ws, "bp4d_plus", "f1", release)
