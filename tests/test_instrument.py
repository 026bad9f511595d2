"""The parts of `benchmarks/instrument.py` that could be wrong without looking so."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from facebench import synth
from facebench.schemes import SCHEMES


@pytest.fixture(scope="module")
def study(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    try:
        import instrument
        from study import knobs, learn, tracks, worlds
    finally:
        sys.path.pop(0)
    return dataclasses.make_dataclass(
        "Study", ["instrument", "knobs", "learn", "tracks", "worlds"]
    )(instrument, knobs, learn, tracks, worlds)


@pytest.fixture(scope="module")
def faces(study):
    return study.worlds.draw("test", size=24, seed=5, identities=4, per_identity=3, noise=0.0)


def test_the_mirror_swaps_left_and_right_and_is_its_own_inverse(study, faces):
    parse = np.arange(len(synth.PARSE), dtype=np.uint8).reshape(1, 1, -1).repeat(12, 0)
    arrays = {"image": faces.image, "points": faces.points, "parse": parse, "au": faces.au}
    rows = np.arange(12) % 2 == 0
    once = study.worlds.mirrored(arrays, rows)
    for name, value in study.worlds.mirrored(once, rows).items():
        np.testing.assert_allclose(value, arrays[name], atol=1e-5)
    np.testing.assert_array_equal(once["image"][1], faces.image[1])
    np.testing.assert_array_equal(once["image"][0], faces.image[0, :, ::-1])
    eye = list(SCHEMES[68].regions["left_eye"])
    other = list(SCHEMES[68].regions["right_eye"])
    moved, before = once["points"][0][eye].mean(0), faces.points[0][other].mean(0)
    np.testing.assert_allclose(moved, [23 - before[0], before[1]], atol=1e-4)
    names = [synth.PARSE[c] for c in once["parse"][0, 0]]
    assert names[::-1] == [
        n.replace("left", "?").replace("right", "left").replace("?", "right") for n in synth.PARSE
    ]


def test_alignment_brings_the_anchors_to_the_template(study, faces):
    template = study.worlds.TEMPLATE
    points = np.zeros((1, 68, 2), np.float32)
    for place, rows in zip(template, study.worlds.ANCHORS):
        points[:, list(rows)] = (place.real * 23, place.imag * 23)
    one = dataclasses.replace(faces.only([0]), points=points)  # it lies there already
    np.testing.assert_array_equal(one.aligned, one.image)
    rolled = np.roll(one.image, (-2, 3), axis=(1, 2))
    shifted = dataclasses.replace(one, points=points + np.float32((3, -2)), image=rolled)
    np.testing.assert_array_equal(shifted.aligned[0, 4:20, 4:20], one.image[0, 4:20, 4:20])


def test_linear_fits_are_the_minima_they_say(study):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(60, 3)), np.ones((60, 1))], axis=1)
    y = np.eye(3)[rng.integers(0, 3, 60)]

    def ridge(w):
        return ((x @ w - y) ** 2).sum(1).mean() + 0.3 * (w[:-1] ** 2).sum()

    def logistic(w, exclusive):
        p = study.learn.probabilities(x @ w, exclusive)
        losses = y * np.log(p) if exclusive else y * np.log(p) + (1 - y) * np.log(1 - p)
        return -losses.sum(1).mean() + 0.3 * (w[:-1] ** 2).sum()

    for cost, w in (
        (ridge, study.learn.ridge(x, y, 0.3)),
        (lambda w: logistic(w, True), study.learn.logistic(x, y, 0.3, True)),
        (lambda w: logistic(w, False), study.learn.logistic(x, y, 0.3, False)),
    ):
        for _ in range(20):
            assert cost(w) <= cost(w + 0.01 * rng.normal(size=w.shape))


def test_whoever_knows_the_parameters_makes_no_mistake_but_the_labels(study, faces):
    for track in study.tracks.TRACKS.values():
        if track.name == "parsing" and not faces.parse.any():
            continue
        found = track.score(faces, track.known(faces))
        for metric in track.metrics:
            if metric in ("macro_f1", "f1", "auc", "icc_3_1"):
                continue  # a class that is not shown here scores nothing
            assert found[metric] == (0 if metric in ("eer", "nme", "fr@10", "mae") else 1)
    noisy = dataclasses.replace(faces, expression=(faces.expression + np.arange(12) % 2) % 8)
    track = study.tracks.TRACKS["expression"]
    assert track.score(noisy, track.known(noisy))["accuracy"] == 0.5


def test_a_table_is_aligned_and_shows_intervals(study):
    table = study.knobs.Table("T", ["a", "b"], [["x", [1.0, 3.0]], ["long", 0.5]], "Note.")
    lines = study.instrument.markdown(table).splitlines()
    assert lines[0] == "## T"
    assert len({len(line) for line in lines[2:6]}) == 1
    assert "2.000 ± 12.71" in lines[4]  # t(1) at 97.5 % is 12.706, s / sqrt(2) = 1


def test_wrong_names_and_missing_knobs_are_told(study, monkeypatch):
    with pytest.raises(Exception, match=r"no study is named 'landmark'.*'landmarks'"):
        study.instrument.main(["--tasks=landmark"])
    monkeypatch.setitem(study.knobs.NEEDS, "style", ("hue",))
    with pytest.raises(SystemExit, match=r"study 'style' needs the knob 'hue'"):
        study.instrument.main(["--tasks=none", "--knobs=style"])
