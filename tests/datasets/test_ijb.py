"""IJB in insightface's form, on a set of 12 faces that the test writes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facebench.data import align, lists, source
from facebench.errors import FacebenchError

TEMPLATE = [11, 11, 11, 7, 7, 5, 5, 3, 3, 3, 2, 2]
MEDIA = [1, 1, 2, 3, 4, 5, 5, 6, 7, 7, 8, 9]
PAIRS = [(11, 7, 1), (11, 5, 0), (3, 5, 1), (3, 7, 0)]  # template 2 is compared with nobody


@pytest.fixture
def release(tmp_path, picture, encode):
    root = tmp_path / "IJBC"
    (root / "loose_crop").mkdir(parents=True)
    (root / "meta").mkdir()
    faces, points = "", ""
    for i in range(12):
        name = f"{i + 1}.jpg"
        # the face stands i px to the right of and 20 px below where a crop would have it
        (root / "loose_crop" / name).write_bytes(encode(picture(i, 150, 140)))
        faces += f"{name} {TEMPLATE[i]} {MEDIA[i]}\n"
        where = " ".join(f"{v:.4f}" for v in np.add(align.TEMPLATE, [i, 20]).ravel())
        points += f"{name} {where} {0.5 + i / 25:.3f}\n"
    (root / "meta/ijbc_face_tid_mid.txt").write_text(faces)
    (root / "meta/ijbc_name_5pts_score.txt").write_text(points)
    (root / "meta/ijbc_template_pair_label.txt").write_text(
        "".join(f"{a} {b} {same}\n" for a, b, same in PAIRS)
    )
    return root


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("ijb")
    monkeypatch.setattr(source.builder(ws, "ijb"), "OFFICIAL", {"ijbc": (12, 4)})
    return ws


def test_crops_templates_and_pairs(ws, release, picture):
    test = source.prepare(ws, "ijb", "ijbc", release).split("test")
    assert test.keys == [f"{i}.jpg" for i in range(1, 13)]
    assert test.units[0] == test.units[2] == "template-000011"
    for i in range(12):
        crop = cv2.imdecode(np.frombuffer(test.record(i)["image"], np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(crop[..., ::-1], picture(i, 150, 140)[20:132, i : i + 112])
    found = lists.read(test, "1-1")
    assert found["pairs"].tolist() == [[a, b] for a, b, _ in PAIRS]
    assert found["same"].tolist() == [True, False, True, False]
    assert lists.used(test, "1-1").tolist() == list(range(10))
    # of the templates 3, 5, 7, 11 that are compared
    assert lists.pairs(test, "1-1").tolist() == [[3, 2], [3, 1], [0, 1], [0, 2]]
    templates = lists.templates(test, "1-1")
    assert templates["template"].tolist() == [3, 3, 3, 2, 2, 1, 1, 0, 0, 0]
    assert templates["media"].tolist() == MEDIA[:10]
    assert np.allclose(templates["weight"], [0.5 + i / 25 for i in range(10)], atol=1e-6)


def test_broken_releases_are_refused(ws, release):
    def refused(said):
        with pytest.raises(FacebenchError, match=said):
            source.prepare(ws, "ijb", "ijbc", release)

    points = release / "meta/ijbc_name_5pts_score.txt"
    kept = points.read_text()
    lines = kept.splitlines()
    one = lines[4].split()
    points.write_text("\n".join([*lines[:4], " ".join([one[0], *["9"] * 10, one[11]]), *lines[5:]]))
    refused(r"ijbc_name_5pts_score\.txt: line 5 \(5\.jpg\): .*five points")
    points.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    refused("order|line 1")
    points.write_text(kept)
    (release / "loose_crop/9.jpg").unlink()
    refused(r"loose_crop: 1 of 12 images are missing, the first is 9\.jpg of line 9")


def test_the_real_numbers_are_demanded(space, release):
    with pytest.raises(FacebenchError, match="12 faces, the official release has 469375"):
        source.prepare(space("ijb"), "ijb", "ijbc", release)
