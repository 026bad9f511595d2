"""Maps of action units against loops, OpenCV's ellipses, and turned, scaled and mirrored faces."""

from __future__ import annotations

import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import action_maps, schemes
from facebench.errors import UsageError

TWO = [au for au in action_maps.AUS if au not in (4, 17, 23, 24, 26, 27)]  # with two ellipses


def arc(n, x, y, rx, ry, start, stop):
    t = np.radians(np.linspace(start, stop, n))
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], 1)


def face(size=256.0):
    """A symmetric, level face that fills four fifths of its crop: 68 points."""
    left_eye = arc(6, -46, -40, 22, 9, 180, 480)[[0, 1, 2, 3, 4, 5]]
    right_eye = (left_eye * [-1, 1])[[3, 2, 1, 0, 5, 4]]
    left_brow = arc(5, -46, -62, 34, 12, 190, 340)
    right_brow = (left_brow * [-1, 1])[::-1]
    outer = np.concatenate([arc(7, 0, 50, 38, 10, 180, 360), arc(5, 0, 50, 32, 18, 30, 150)])
    inner = np.concatenate([arc(5, 0, 50, 28, 2, 180, 360), arc(3, 0, 50, 16, 5, 45, 135)])
    nose = np.stack([np.zeros(4), np.linspace(-38, 12, 4)], 1)
    wings = arc(5, 0, 18, 20, 8, 160, 20)
    jaw = arc(17, 0, -20, 102, 122, 180, 0)
    made = np.concatenate(
        [jaw, left_brow, right_brow, nose, wings, left_eye, right_eye, outer, inner]
    )
    assert made.shape == (68, 2)
    width, height = made.max(0) - made.min(0)
    made = made * (0.8 * 256 / math.sqrt(width * height)) * (size / 256)
    return made + (size - 1) / 2


def test_the_codebooks():
    sets = action_maps.CODEBOOKS
    for book in sets.values():
        assert tuple(book) == schemes.EXPRESSIONS
        assert book["neutral"] == ()
        assert {au for units in book.values() for au in units} <= set(action_maps.AUS)
    # One name of the published code is of the upper lid, where its figure says the upper lip.
    assert set(sets["corrected"]["disgust"]) - set(sets["paper_code"]["disgust"]) == {10}
    assert set(sets["paper_code"]["disgust"]) - set(sets["corrected"]["disgust"]) == {5}
    assert action_maps.codes("emfacs", ["anger", "happy"]) == ((4, 5, 7, 23), (6, 12))
    assert set(action_maps.AUS) <= set(schemes.AU_NAMES)


def published(au, p, size):
    """(x, y, semi-axes) as the published code gives them to cv2.ellipse, for crops of 256 px."""
    x, y = p.T
    w = h = size
    boxes = {
        "left eye": (x[36], x[39], y[38], y[41]),
        "right eye": (x[42], x[45], y[44], y[47]),
        "mouth": (x[48], x[54], y[51], y[57]),
        "chin": (x[59], x[8], y[59], y[8]),
    }

    def box(name, more=0):
        x0, x1, y0, y1 = boxes[name]
        a, b = max(int((x1 - x0) / 2), 0) or 5, max(int((y1 - y0) / 2 + more), 0) or 5
        return (x0 + x1) / 2, (y0 + y1) / 2, a, b

    def discs(*places):
        return [(a, b, 20, 20) for a, b in places]

    corners = discs(p[48], p[54])
    if au in (1, 2):
        return [(*p[i], w / 8, h / 10) for i in ((20, 23) if au == 1 else (18, 25))]
    if au == 4:
        a, b = int((x[24] - x[19]) / 2), max(int((y[24] - y[19]) / 2), 0)
        return [((x[19] + x[24]) / 2, (y[19] + y[24]) / 2, a, b or 10)]
    if au in (5, 7, 43):
        return [box(f"{side} eye", 0 if au == 5 else 10) for side in ("left", "right")]
    if au == 6:
        return [(x[i], y[i] + h / 6, w / 10, h / 10) for i in (41, 46)]
    return {
        9: discs((x[31], y[29]), (x[35], y[29])),
        10: discs((x[48], y[50]), (x[54], y[52])),
        12: corners,
        14: discs((x[48] - 20, y[48]), (x[54] + 20, y[54])),
        15: corners,
        16: discs(p[59], p[55]),
        17: [box("chin")],
        20: discs((p[48] + p[6]) / 2, (p[50] + p[10]) / 2),
        25: [(*p[i], 25, 10) for i in (51, 57)],
    }.get(au) or [box("mouth")]


@pytest.mark.parametrize("turn", [0.0, 0.15])
def test_the_paper_variant_is_what_opencv_draws_of_the_published_rule(turn):
    middle = np.array([127.5, 127.5])
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = (face() - middle) @ rotation.T + middle
    drawn = action_maps.maps(points, 256, 256, action_maps.AUS, variant="paper") > 0.5
    for k, au in enumerate(action_maps.AUS):
        canvas = np.zeros((256, 256))
        for x, y, a, b in published(au, points, 256):
            place, axes = (round(float(x)), round(float(y))), (round(float(a)), round(float(b)))
            cv2.ellipse(canvas, place, axes, 0, 0, 360, 1, cv2.FILLED)
        there = canvas > 0
        share = (there & drawn[k]).sum() / (there | drawn[k]).sum()
        assert share > 0.8, (au, share)  # OpenCV draws whole pixels, and wider by half of one


def test_a_level_face_that_fills_its_crop_differs_from_the_paper_where_it_is_repaired():
    points, aus = face(), action_maps.AUS
    ours, _ = action_maps.ellipses(points, 256, aus)
    theirs, _ = action_maps.ellipses(points, 256, aus, variant="paper")
    changed = [au for au, a, b in zip(aus, ours, theirs) if not np.allclose(a, b, atol=0.01)]
    assert changed == [17, 20]


def test_lowered_brows_keep_a_height_on_a_face_that_is_not_level():
    middle = np.array([127.5, 127.5])
    turn = np.array([[math.cos(0.05), -math.sin(0.05)], [math.sin(0.05), math.cos(0.05)]])
    points = (face() - middle) @ turn.T + middle
    ours, theirs = (
        action_maps.ellipses(points, 256, (4,), variant=v)[0][0, 0, 3] for v in action_maps.VARIANTS
    )
    assert ours == pytest.approx(10, abs=1e-6)
    assert theirs < 5  # half the difference of the two heights


def test_mirrored_turned_and_scaled_faces_have_mirrored_turned_and_scaled_maps():
    rng = np.random.default_rng(0)
    size, aus = 64, action_maps.AUS
    points = face(size) + rng.normal(size=(68, 2))
    maps = action_maps.maps(points, size, 16, aus)
    mirrored = (points * [-1, 1] + [size - 1, 0])[list(schemes.SCHEMES[68].flip)]
    np.testing.assert_allclose(action_maps.maps(mirrored, size, 16, aus), maps[:, :, ::-1])
    turned = np.stack([size - 1 - points[:, 1], points[:, 0]], 1)  # by a quarter, clockwise
    again = action_maps.maps(turned, size, 16, aus)
    np.testing.assert_allclose(again, np.rot90(maps, -1, (1, 2)), atol=0.03)
    larger = (points + 0.5) * 3 - 0.5
    np.testing.assert_allclose(action_maps.maps(larger, 3 * size, 16, aus), maps, atol=0.03)


def test_cells_hold_shares_of_their_area():
    points = face(64) + np.random.default_rng(1).normal(size=(68, 2))
    coarse, fine = (action_maps.maps(points, 64, g, action_maps.AUS) for g in (8, 24))
    assert coarse.min() == 0
    assert coarse.max() <= 1
    # 48 samples on a side, both times
    blocks = fine.reshape(-1, 8, 3, 8, 3).mean((2, 4))
    np.testing.assert_allclose(coarse, blocks, atol=1e-12)
    ellipses, _ = action_maps.ellipses(points, 64, action_maps.AUS)
    for k, au in enumerate(action_maps.AUS):
        x, y, a, b = ellipses[k, 0]
        if au not in TWO and min(x - a, y - b) > 0 and max(x + a, y + b) < 63:
            area = coarse[k].sum() * (64 / 8) ** 2
            assert area == pytest.approx(math.pi * a * b, rel=0.08, abs=2), au


@pytest.mark.parametrize("au", [4, 12, 25])
def test_a_map_by_loops(au):
    size, grid = 60, 6
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    points = (face(size) - 30) @ turn.T + 30
    ellipses, axis = action_maps.ellipses(points, size, (au,))
    np.testing.assert_allclose(axis, [0.8, 0.6], atol=1e-12)
    found = action_maps.maps(points, size, grid, (au,))[0]
    for i in range(grid):
        for j in range(grid):
            inside = 0
            for s in range(8):
                for t in range(8):
                    row = (i + (s + 0.5) / 8) * 10 - 0.5
                    column = (j + (t + 0.5) / 8) * 10 - 0.5
                    u, v = 0.8 * column + 0.6 * row, 0.8 * row - 0.6 * column
                    inside += any(
                        math.hypot((u - x) / a, (v - y) / b) <= 1 for x, y, a, b in ellipses[0]
                    )
            assert found[i, j] == pytest.approx(inside / 64, abs=1 / 64)


def test_what_cannot_be_drawn_is_zeros_and_spoils_nothing_else():
    good = face(64)
    points = np.stack([good] * 6)
    points[1, 5] = np.nan
    points[2, 67, 1] = np.inf
    points[3] = 7  # all in one place
    points[4, 36:48] = 30  # no direction between the eyes
    points[5] += 500  # out of the crop
    assert action_maps.valid(points).tolist() == [True, False, False, False, False, True]
    each = action_maps.maps(points, 64, 8, action_maps.AUS)
    classes = action_maps.expression_map(points, 64, 8)
    assert not each[1:].any()
    assert not classes[1:].any()
    assert (each[0].max((1, 2)) > 0).all()


def test_a_unit_that_is_half_outside_is_cut_off():
    points = face(64)
    whole = action_maps.maps(points, 64, 32, (1,))[0]
    brows = action_maps.maps(points - [0, 12], 64, 32, (1,))[0]
    np.testing.assert_allclose(brows[:26], whole[6:], atol=1e-12)
    assert 0 < brows.sum() < whole.sum()


@pytest.mark.parametrize("codebook", action_maps.CODEBOOKS)
def test_a_class_is_the_maximum_over_its_units(codebook):
    points = np.stack([face(64), face(64) + 3])
    maps = action_maps.maps(points, 64, 8, action_maps.AUS)
    names = ("anger", "neutral", "contempt", "disgust")
    classes = action_maps.expression_map(points, 64, 8, codebook, names=names)
    assert classes.shape == (2, 4, 8, 8)
    for c, name in enumerate(names):
        units = action_maps.CODEBOOKS[codebook][name]
        if not units:
            assert not classes[:, c].any()
            continue
        expected = np.max([maps[:, action_maps.AUS.index(au)] for au in units], axis=0)
        expected = expected / expected.max((1, 2), keepdims=True)
        np.testing.assert_allclose(classes[:, c], expected)


def test_jax_draws_the_same():
    points = face(64) + np.random.default_rng(2).normal(size=(3, 68, 2))
    points[1, 0] = np.nan

    @jax.jit
    def drawn(p):
        one = action_maps.maps(p, 64, 8, action_maps.AUS, jnp)
        return one, action_maps.expression_map(p, 64, 8, xp=jnp), action_maps.valid(p, jnp)

    *maps, valid = drawn(jnp.asarray(points, jnp.float32))
    assert valid.tolist() == [True, False, True]
    expected = (
        action_maps.maps(points, 64, 8, action_maps.AUS),
        action_maps.expression_map(points, 64, 8),
    )
    for found, want in zip(maps, expected):
        np.testing.assert_allclose(found, want, atol=0.06)  # a sample on an edge, of 36
        assert np.abs(found - want).mean() < 1e-3


def test_wrong_names():
    points = face(64)
    for call, said in (
        (lambda: action_maps.codes("corected"), "did you mean 'corrected'"),
        (lambda: action_maps.codes("emfacs", ["hapy"]), "no class 'hapy': did you mean 'happy'"),
        (lambda: action_maps.maps(points, 64, 8, (11,)), "AU 11"),
        (lambda: action_maps.maps(points, 64, 8, (1,), variant="code"), "variant"),
    ):
        with pytest.raises(UsageError, match=said):
            call()
