"""RFW, on a release of four groups that the test writes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facebench.data import align, lists, source
from facebench.errors import FacebenchError

GROUPS = ("African", "Asian", "Caucasian", "Indian")


@pytest.fixture
def release(tmp_path, picture, encode):
    """Ten folds of two pairs in each group; persons m.0a0 to m.0a9 with two images each."""
    root = tmp_path / "RFW"
    for g, group in enumerate(GROUPS):
        data, texts = root / "test/data" / group, root / "test/txts" / group
        texts.mkdir(parents=True)
        pairs, points = "", ""
        for k in range(10):
            person, other = f"m.0a{k}", f"m.0a{(k + 1) % 10}"
            pairs += f"{person}\t1\t2\n{person}\t1\t{other}\t2\n"
            (data / person).mkdir(parents=True)
            for i in (1, 2):
                name = f"{person}_{i:04d}.jpg"
                (data / person / name).write_bytes(encode(picture([g, k, i], 130, 130)))
                where = " ".join(map(str, np.add(align.TEMPLATE, [k, g]).ravel()))
                points += f"/media/{group}/{person}/{name} {k} {where}\n"
        (texts / f"{group}_pairs.txt").write_text(pairs)
        (texts / f"{group}_lmk.txt").write_text(points)
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("rfw")
    monkeypatch.setattr(source.builder(ws, "rfw"), "OFFICIAL", 20)
    return ws


def test_groups_crops_and_pairs(ws, release, picture):
    test = source.prepare(ws, "rfw", source_dir=release).split("test")
    assert len(test) == 80
    assert source.field(test, "group").tolist() == np.repeat(range(4), 20).tolist()
    assert len(set(test.units)) == 40
    assert not any("m.0a" in key for key in test.keys)
    for row in (0, 27, 79):
        g, k, i = row // 20, row % 20 // 2, row % 2 + 1
        crop = cv2.imdecode(np.frombuffer(test.record(row)["image"], np.uint8), cv2.IMREAD_COLOR)
        seen = picture([g, k, i], 130, 130)[g : g + 112, k : k + 112]
        assert np.array_equal(crop[..., ::-1], seen)
        assert test.keys[row].endswith(f"/{i:04d}")
    found = lists.read(test, "groups")
    assert found["group"].tolist() == np.repeat(GROUPS, 20).tolist()
    assert found["fold"].tolist() == np.repeat(range(10), 2).tolist() * 4
    assert found["same"].tolist() == [True, False] * 40
    assert found["pairs"][22].tolist() == [20 + 2, 20 + 3]  # Asian, person 1: images 1 and 2
    assert found["pairs"][23].tolist() == [20 + 2, 20 + 5]  # with image 2 of person 2
    units = np.array(test.units)[found["pairs"]]
    assert ((units[:, 0] == units[:, 1]) == found["same"]).all()


def test_broken_releases_are_refused(ws, release):
    def refused(said):
        with pytest.raises(FacebenchError, match=said):
            source.prepare(ws, "rfw", source_dir=release)

    lines = release / "test/txts/Asian/Asian_lmk.txt"
    kept = lines.read_text()
    rows = kept.splitlines()
    for text, said in (
        ("\n".join([*rows[:6], rows[6][:-9] + " x", *rows[7:]]), r"Asian_lmk\.txt: line 7: found"),
        ("\n".join(rows[:2] + rows[3:]), r"no points of m.0a1/m.0a1_0001, which .*Asian_pairs"),
        ("\n".join([rows[0], *rows]), r"line 2: m.0a0/m.0a0_0001 stands in line 1"),
        (
            "\n".join([" ".join([*rows[0].split()[:2], *["5"] * 10]), *rows[1:]]),
            r"Asian_lmk\.txt: line 1: .*five points",
        ),
    ):
        lines.write_text(text)
        refused(said)
    lines.write_text(kept)
    (release / "test/data/Indian/m.0a3/m.0a3_0002.jpg").unlink()
    refused(r"Indian_pairs\.txt: 1 of 20 images are missing, .*m.0a3_0002' of pair 6")


def test_the_real_numbers_are_demanded(space, release):
    with pytest.raises(FacebenchError, match="20 pairs, the official release has 6000"):
        source.prepare(space("rfw"), "rfw", source_dir=release)
