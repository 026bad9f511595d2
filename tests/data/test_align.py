"""Alignment by five points against published values, an SVD and the reference's crops."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench.data import align, pipeline, source, transforms
from facebench.errors import FacebenchError, UsageError

FACE = np.array([[30, 40], [70, 42], [50, 62], [35, 80], [66, 81]], float)
CROP = {"crop": "five_points", "size": 112}


def umeyama(source, target):
    """Umeyama's own way: the SVD of the covariance, its sign put right."""
    z, w = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(w.T @ z / len(z))
    sign = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ np.diag(sign) @ vt
    scale = (s * sign).sum() / z.var(0).sum()
    shift = target.mean(0) - scale * turn @ source.mean(0)
    return np.column_stack([scale * turn, shift])


def test_published_matrices():
    expected = [[0.971517, 0.015743, 6.295714], [-0.015743, 0.971517, 13.428539]]
    np.testing.assert_allclose(align.similarity(FACE), expected, atol=5e-7)
    np.testing.assert_allclose(align.similarity(align.TEMPLATE), np.eye(2, 3), atol=1e-12)
    mirrored = FACE * [-1, 1]
    expected = [[0.157993, 0.025574, 62.397366], [-0.025574, 0.157993, 60.979405]]
    np.testing.assert_allclose(align.similarity(mirrored), expected, atol=5e-7)


def test_matrices_and_crops_equal_the_reference(oracles):
    """Its matrices were computed in float32; given the same matrix the crops are the same."""
    vectors = np.load(oracles / "models/align_5pt_112.npz")
    np.testing.assert_allclose(align.TEMPLATE, vectors["in_template"], rtol=1e-7)
    made = np.stack([align.similarity(points) for points in vectors["in_landmarks"]])
    np.testing.assert_allclose(made, vectors["out_M"], rtol=1e-6, atol=3e-5)
    image = np.ascontiguousarray(vectors["in_image_bgr"][..., ::-1])
    for points, matrix, expected in zip(
        vectors["in_landmarks"], vectors["out_M"], vectors["out_warped_rgb"], strict=False
    ):
        crop, _ = transforms.warp(image, None, matrix, 112, "five_points")
        assert np.array_equal(crop, expected)
        difference = np.abs(align.warp(image, points).astype(int) - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-500, 500), min_size=10, max_size=10))
def test_any_points_equal_umeyamas_solution(values):
    points = np.array(values).reshape(5, 2)
    expected = None
    if points.var(0).sum() > 1e-3:
        expected = umeyama(points, align.TEMPLATE)
    try:
        found = align.similarity(points)
    except FacebenchError:
        # in one place, or so unlike a face that the crop would be a single spot of the template
        assert expected is None or (
            np.linalg.det(expected[:, :2]) * points.var(0).sum()
            < 2e-6 * align.TEMPLATE.var(0).sum()
        )
        return
    assert np.linalg.det(found[:, :2]) > 0
    if expected is not None:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_other_sizes():
    np.testing.assert_array_equal(align.template(224), align.TEMPLATE * 2)
    np.testing.assert_allclose(align.template(128), np.add(align.TEMPLATE, [8, 0]))
    np.testing.assert_allclose(align.template(256), np.add(align.TEMPLATE, [8, 0]) * 2)
    for size in (100, 0, -112, 112.0, True, "112"):
        with pytest.raises(UsageError, match="multiple of 112 or 128"):
            align.template(size)
    with pytest.raises(ValueError, match="read-only"):
        align.TEMPLATE[0] = 0


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (np.full((5, 2), 7.0), "in one place"),
        (np.full((5, 2), 1e6) + np.arange(10).reshape(5, 2) * 1e-9, "in one place"),
        (np.full((5, 2), np.nan), "five finite points"),
        (FACE[:4], "five finite points"),
        (np.where(np.eye(5, 2) > 0, np.inf, FACE), "five finite points"),
    ],
)
def test_points_that_give_no_alignment_are_refused(points, said):
    with pytest.raises(FacebenchError, match=said):
        align.similarity(points)


def test_points_without_a_best_turn_are_refused():
    w = (align.TEMPLATE - align.TEMPLATE.mean(0)) @ [1, 1j]
    z = np.conj(w) * np.array([1, -1, 1, -1, 1])  # then made orthogonal to w
    z = z - z.mean()
    z = z - w * (np.conj(w) * z).sum() / (abs(w) ** 2).sum()
    with pytest.raises(FacebenchError, match="do not lie like those of a face"):
        align.similarity(np.stack([z.real, z.imag], 1))


def test_five_of_68():
    points = np.random.default_rng(0).uniform(0, 100, (3, 68, 2))
    five = align.five_points(points)
    assert five.shape == (3, 5, 2)
    np.testing.assert_allclose(five[:, 0], (points[:, 36] + points[:, 39]) / 2)
    np.testing.assert_allclose(five[:, 1], (points[:, 42] + points[:, 45]) / 2)
    np.testing.assert_array_equal(five[:, 2:], points[:, [30, 48, 54]])
    with pytest.raises(FacebenchError, match="made of 68"):
        align.five_points(points[:, :29])


def test_points_land_on_the_template():
    """A spot drawn at each point is found where the template says, black beyond the image."""
    image = np.full((200, 240, 3), 255, np.uint8)
    for x, y in (FACE + 60).astype(int):
        cv2.circle(image, (int(x), int(y)), 3, (0, 0, 0), -1)
    crop = align.warp(image, FACE + 60)
    moved = transforms.apply(align.similarity(FACE + 60), FACE + 60)
    for x, y in moved:
        window = 255.0 - crop[int(y) - 7 : int(y) + 8, int(x) - 7 : int(x) + 8, 0]
        rows, columns = np.mgrid[int(y) - 7 : int(y) + 8, int(x) - 7 : int(x) + 8]
        centre = [(window * columns).sum() / window.sum(), (window * rows).sum() / window.sum()]
        np.testing.assert_allclose(centre, [x, y], atol=0.1)
    corner = align.warp(image, FACE - 40)  # half of the face is outside
    assert (corner[0, 0] == 0).all()
    assert corner.max() == 255


# ------------------------------------------------------------------------------- in the pipeline


def test_the_crop_is_checked():
    transforms.check_preprocess(CROP)
    with pytest.raises(UsageError, match="multiple of 112 or 128"):
        transforms.check_preprocess({**CROP, "size": 64})
    with pytest.raises(UsageError, match="unknown key 'margin'"):
        transforms.check_preprocess({**CROP, "margin": 0.1})
    matrix = transforms.crop_matrix(CROP, 0, 0, FACE)
    np.testing.assert_array_equal(matrix, align.similarity(FACE))
    with pytest.raises(ValueError, match="in one place"):
        transforms.crop_matrix(CROP, 0, 0, FACE * 0)
    with pytest.raises(ValueError, match="needs the field 'five_points'"):
        transforms.crop_matrix(CROP, 0, 0)


@pytest.fixture
def aligned(ws):
    """A tiny dataset that has the field `five_points`; in sample 3 of test they are one."""
    path = ws.root / "datasets/tiny/tiny_dataset_builder.py"
    text = path.read_text().replace(
        '"points": points,',
        '"points": points, "five_points": points * (i != 3 or split != "test"),',
    )
    shape = "tfds.features.Tensor(shape=(5, 2), dtype=np.float32),"
    path.write_text(text.replace(f'"points": {shape}', f'"points": {shape} "five_points": {shape}'))
    return source.prepare(ws, "tiny")


def test_batches_hold_aligned_crops(aligned):
    split = aligned.split("train")
    with pipeline.predict_batches(split, preprocess=CROP, batch_size=4) as batches:
        batch = next(batches)
    options = {"preprocess": CROP, "augment": None, "batch_size": 4, "seed": 0}
    with pipeline.train_batches(split, np.arange(24), ("points",), **options) as batches:
        trained = next(batches)
    for some in (batch, trained):
        for row, index in enumerate(some["index"]):
            record = split.record(int(index))
            image = transforms.decode(record["image"])
            expected = align.warp(image, record["five_points"])
            assert np.array_equal(some["image"][row], expected)
            assert (expected == 0).all(axis=2).any()  # beyond the image
    there = transforms.apply(batch["to_image"][0].astype(float), align.TEMPLATE)
    again = transforms.apply(align.similarity(split.record(0)["five_points"]), there)
    np.testing.assert_allclose(again, align.TEMPLATE, atol=1e-3)


def test_a_face_without_alignment_is_named(aligned):
    with (
        pipeline.predict_batches(aligned.split("test"), preprocess=CROP, batch_size=10) as batches,
        pytest.raises(FacebenchError, match=r"key 'test/003': five points in one place"),
    ):
        next(batches)


def test_a_dataset_without_five_points_is_refused(tiny):
    with pytest.raises(UsageError, match="five_points"):
        pipeline.predict_batches(tiny.split("test"), preprocess=CROP, batch_size=2)
