"""The mesh of a face: lids and lips that never cross, gaze, pupils, sides, the camera."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from facebench import synth
from facebench.synth import actions, head, mesh, people
from facebench.synth.portrait import Parameters, neutral_identity

N = len(actions.ACTION_UNITS)


def levels(**au: float) -> np.ndarray:
    out = np.zeros(N)
    for name, value in au.items():
        out[actions.INDEX[int(name[2:])]] = value
    return out


def sheet(points: np.ndarray) -> np.ndarray:
    return points[:, : head.SHEET].reshape(3, head.ROWS, head.COLUMNS)


def someone(random: np.random.Generator, spread: float = 1.0) -> np.ndarray:
    shape = np.clip(random.normal(size=len(people.SHAPES)) * spread, -3, 3)
    return np.concatenate([shape, random.uniform(size=len(people.LOOKS))])


def test_lids_and_lips_never_cross() -> None:
    random = np.random.default_rng(1)
    n = head.NAMED
    away = np.abs(np.arange(head.COLUMNS) - head.MIDDLE)
    eye, mouth = (away > head.EYE_IN) & (away < head.EYE_OUT), away < head.MOUTH_OUT
    for k in range(120):
        au = random.uniform(size=N) * (random.uniform(size=N) < random.uniform(0.05, 0.6))
        if k % 2:
            au = np.round(au + 0.3).clip(0, 1)
        p = Parameters(
            identity_vector=someone(random),
            age=float(random.uniform(16, 90)),
            au=au,
            sides=np.round(random.uniform(-1, 1, N)),
            gaze=random.uniform(-0.5, 0.5, 2),
        )
        points, _, marks = mesh.shape(p)
        assert np.isfinite(points).all()
        y = sheet(points)[1]
        between = y[n["upper lid"] : n["lower lid"] + 1, eye]
        assert (np.diff(between, axis=0) < 1e-9).all(), au  # the eyeball's rows keep their order
        between = y[n["upper mouth"] : n["lower mouth"] + 1, mouth]
        assert (np.diff(between, axis=0) < 1e-9).all(), au
        assert 0.0 <= marks["left shut"] <= 1.0


def test_action_units_tear_nothing() -> None:
    """Rows that fall together beside the eyes and the mouth do so in every expression."""
    random = np.random.default_rng(2)
    same = head.joined()
    for _ in range(20):
        au = (random.uniform(size=N) < 0.3).astype(float)
        p = Parameters(
            identity_vector=someone(random), au=au, age=60, sides=random.uniform(-1, 1, N)
        )
        grid = sheet(mesh.shape(p)[0])
        for r in range(1, head.ROWS):
            np.testing.assert_allclose(grid[:, r, same[r]], grid[:, r - 1, same[r]], atol=1e-6)


def test_one_sided_actions_move_one_side() -> None:
    rest = mesh.shape(Parameters())[0]
    x = rest[0, : head.SHEET]
    for k, number in enumerate(actions.ACTION_UNITS):
        both, one, other = (
            np.abs(mesh.shape(Parameters(au=np.eye(N)[k], sides=s * np.eye(N)[k]))[0] - rest)
            .max(axis=0)[: head.SHEET]
            for s in (0.0, 1.0, -1.0)
        )  # fmt: skip
        assert one[x < -1.0].max() < 1e-9, number  # 1: the subject's left, the image's right
        assert other[x > 1.0].max() < 1e-9, number
        if number not in (17, 28):  # `meet` looks at both lips
            np.testing.assert_allclose(one[x > 1.0], both[x > 1.0], atol=1e-9)
        np.testing.assert_allclose(
            one, other.reshape(head.ROWS, -1)[:, ::-1].reshape(-1), atol=1e-9
        )


def test_a_wink() -> None:
    n = head.NAMED
    p = Parameters(au=levels(AU43=1), sides=levels(AU43=1))
    points, _, marks = mesh.shape(p)
    y = sheet(points)[1]
    gap = lambda side: (  # noqa: E731
        y[n["upper lid"], head.MIDDLE + side * 10] - y[n["lower lid"], head.MIDDLE + side * 10]
    )
    assert gap(1) < 0.02
    assert gap(-1) > 0.8
    assert marks["right shut"] > 0.98
    assert marks["left shut"] < 0.02


def test_lids_glide_on_the_eyeball() -> None:
    """Half-closed lids lie as far before the eyeball as open ones."""
    n = head.NAMED
    column = head.MIDDLE + 10
    for shut in (0.0, 0.5, 0.9):
        grid = sheet(mesh.shape(Parameters(au=levels(AU43=shut)))[0])
        lid, ball = grid[:, n["upper lid"], column], grid[:, n["eye first"], column]
        assert 0.03 < lid[2] - ball[2] < 0.3


def test_lids_follow_the_gaze() -> None:
    n = head.NAMED
    upper = [
        sheet(mesh.shape(Parameters(gaze=np.array([0.0, g])))[0])[
            1, n["upper lid"], head.MIDDLE + 10
        ]
        for g in (-0.4, 0.0, 0.4)
    ]
    assert upper[0] < upper[1] - 0.15
    assert upper[2] > upper[1] + 0.10


@pytest.mark.parametrize("gaze", [(0.0, 0.0), (0.35, 0.1), (-0.4, -0.15), (0.1, 0.2)])
def test_pupils_are_where_the_iris_is(gaze: tuple[float, float]) -> None:
    random = np.random.default_rng(3)
    p = Parameters(identity_vector=someone(random, 0.5), gaze=np.array(gaze), age=50.0)
    points, _, marks = mesh.shape(p)
    at = mesh.landmarks98(p, points, points)
    for k, name in ((96, "left"), (97, "right")):
        assert at[0, k] == pytest.approx(marks[f"{name} iris x"], abs=1e-6)
        assert at[1, k] == pytest.approx(marks[f"{name} iris y"], abs=1e-6)
        moved = np.array([marks[f"{name} iris x"] - marks[f"{name} x"],
                          marks[f"{name} iris y"] - marks[f"{name} y"]])  # fmt: skip
        np.testing.assert_allclose(moved, [1.2 * gaze[0], 1.2 * gaze[1] + 0.04], atol=1e-9)


def test_pupils_behind_lids_stay_between_them() -> None:
    p = Parameters(au=levels(AU43=1.0), gaze=np.array([0.2, -0.3]))
    points = mesh.shape(p)[0]
    at = mesh.landmarks98(p, points, points)
    for k, lids in ((96, range(60, 68)), (97, range(68, 76))):
        assert at[1, list(lids)].min() - 1e-6 <= at[1, k] <= at[1, list(lids)].max() + 1e-6
        assert at[0, list(lids)].min() < at[0, k] < at[0, list(lids)].max()


def test_landmarks_in_any_axes_are_those_of_the_points() -> None:
    random = np.random.default_rng(4)
    p = Parameters(identity_vector=someone(random), au=levels(AU12=0.7, AU25=0.5))
    points = mesh.shape(p)[0]
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    for read in (mesh.landmarks, lambda q: mesh.landmarks98(p, points, q)):
        np.testing.assert_allclose(read(turn @ points), turn @ read(points), atol=1e-9)


def test_a_mirrored_face_has_mirrored_landmarks() -> None:
    """Turning and looking the other way mirrors the picture of a symmetric face."""
    left = Parameters(pose=np.array([0.5, 0.1, 0.2]), gaze=np.array([0.3, 0.1]), au=levels(AU12=1))
    right = Parameters(
        pose=np.array([-0.5, 0.1, -0.2]), gaze=np.array([-0.3, 0.1]), au=levels(AU12=1)
    )
    from facebench.schemes import SCHEMES

    out = []
    for p in (left, right):
        points = mesh.shape(p)[0]
        screen = mesh.project(p, mesh.turned(p, points, mesh.follow()), 101)
        out.append((mesh.landmarks(screen), mesh.landmarks98(p, points, screen)))
    for k, scheme in ((0, 68), (1, 98)):
        flipped = out[0][k][:, list(SCHEMES[scheme].flip)] * np.array([-1, 1, 1])[:, None]
        flipped[0] += 100.0
        np.testing.assert_allclose(flipped, out[1][k], atol=1e-5)


def test_turning_is_a_rotation_of_the_head_about_a_fixed_pivot() -> None:
    p = Parameters(pose=np.array([math.pi / 2, 0.0, 0.0]))
    points = mesh.shape(p)[0]
    seen = mesh.turned(p, points)
    # a quarter turn: the old depth is the new x, the old x the new -depth
    np.testing.assert_allclose(np.diff(seen[0]), np.diff(points[2]), atol=1e-8)
    np.testing.assert_allclose(np.diff(seen[2]), -np.diff(points[0]), atol=1e-8)
    follow = mesh.follow()
    assert ((follow >= 0) & (follow <= 1)).all()
    assert (follow[head.build().regions["left eye"]] == 1).all()
    assert (follow[head.build().regions["jaw"]] == 1).all()
    lowest = np.arange(head.SHEET - head.COLUMNS, head.SHEET)
    still = mesh.turned(p, points, follow)[:, lowest] - points[:, lowest]
    assert np.ptp(still, axis=1).max() < 1e-8


def test_pinhole() -> None:
    p = Parameters(camera=np.array([0.03, 0.1, -0.05, 60.0]))
    seen = np.array([[1.0, -2.0], [3.0, 0.5], [0.0, 10.0]])
    f = 0.03 * 200 * 60
    want_x = 99.5 + 20 + f * seen[0] / (60 - seen[2])
    want_y = 99.5 - 10 - f * seen[1] / (60 - seen[2])
    got = mesh.project(p, seen, 200)
    np.testing.assert_allclose(got, [want_x, want_y, seen[2]])
    assert mesh.focal(p, 200) == pytest.approx((f, 119.5, 89.5))


def test_age_reaches_the_mesh() -> None:
    young, old = (mesh.shape(Parameters(age=a))[0] for a in (20, 80))
    assert np.abs(young - old).max() > 0.3
    assert neutral_identity().shape == (people.SIZE,)


def test_the_box_at_rest_is_blind_to_what_the_face_does() -> None:
    config = synth.WorldConfig(size=64, seed=6, identities=6, per_identity=1)
    for i in range(6):
        p = synth.parameters(config, i)
        still = replace(p, au=np.zeros(24), gaze=np.zeros(2))
        box = mesh.rest_box(p, 64)
        np.testing.assert_array_equal(box, mesh.rest_box(still, 64))
        np.testing.assert_array_equal(box, synth.render(still, 64).box)
