"""insightface's .bin sets, on files that the test pickles."""

from __future__ import annotations

import lzma
import os
import pickle

import numpy as np
import pytest

from facebench.data import lists, source
from facebench.errors import FacebenchError, UsageError

SAME = [True, False] * 12  # 24 pairs: folds of 3, 3, 3, 3, 2, 2, ...


@pytest.fixture
def ws(space, monkeypatch):
    ws = space("verification_bin")
    monkeypatch.setattr(source.builder(ws, "verification_bin"), "OFFICIAL", {"lfw": 24})
    return ws


@pytest.fixture
def images(picture, encode):
    return [encode(picture(i), (".jpg", ".png")[i % 2]) for i in range(48)]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "bins"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    "kept", ["bytes", "arrays", "packed"], ids=["bytes", "arrays of bytes", "xz"]
)
def test_images_and_pairs_arrive(ws, folder, images, kept):
    given = [np.frombuffer(i, np.uint8) for i in images] if kept == "arrays" else images
    data = pickle.dumps((given, SAME), protocol=2 if kept == "bytes" else 4)
    if kept == "packed":
        (folder / "lfw.xz").write_bytes(lzma.compress(data))
    else:
        (folder / "lfw.bin").write_bytes(data)
    dataset = source.prepare(ws, "verification_bin", "lfw", folder)
    test = dataset.split("test")
    assert [test.record(i)["image"] for i in range(48)] == images
    assert test.keys == [f"lfw/{i:06d}" for i in range(48)]
    # a matching pair is one unit, all other images are their own
    assert test.units[:4] == ["lfw/000000", "lfw/000000", "lfw/000002", "lfw/000003"]
    found = lists.read(test, "lfw")
    assert found["pairs"].tolist() == [[2 * i, 2 * i + 1] for i in range(24)]
    assert found["same"].tolist() == SAME
    assert np.bincount(found["fold"]).tolist() == [3, 3, 3, 3, 2, 2, 2, 2, 2, 2]
    assert (np.diff(found["fold"]) >= 0).all()


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


def test_broken_files_are_refused(ws, folder, images, picture, encode):
    file = folder / "lfw.bin"

    def refused(value, said):
        file.write_bytes(pickle.dumps(value))
        with pytest.raises(FacebenchError, match=said):
            source.prepare(ws, "verification_bin", "lfw", folder)

    refused((images[:20], SAME[:10]), r"lfw\.bin: 10 pairs, .* has 24")
    refused((images[:-1], SAME), r"47 images for 24 pairs")
    refused((images, [True] * 3 + SAME[3:]), "fold 0 of 10 has not both")
    refused((images, Evil()), r"lfw\.bin.*(posix|system)")
    wide = [*images[:7], encode(picture(7, 112, 96)), *images[8:]]
    refused((wide, SAME), r"image 7 \(of pair 3\) has 96 x 112 pixels, expected 112 x 112")
    refused(([*images[:5], images[5][:-40], *images[6:]], SAME), r"image 5 \(of pair 2\)")
    file.rename(folder / "calfw.bin")
    with pytest.raises(FacebenchError, match=r"lfw\.bin: reading failed"):
        source.prepare(ws, "verification_bin", "lfw", folder)
    with pytest.raises(UsageError, match="'agedb_30'"):
        source.prepare(ws, "verification_bin", "agedb30", folder)
