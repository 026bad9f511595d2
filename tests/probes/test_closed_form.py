"""Floors against eigen-decompositions, correlations and loops."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import probes
from facebench.errors import FacebenchError, UsageError
from facebench.probes import closed_form
from facebench.probes.closed_form import PCA, MeanShape, RawPixels


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)


def batches(images, size=8, **arrays):
    """As the pipeline gives them: the last batch is padded with garbage whose mask is 0."""
    out = []
    for start in range(0, len(images), size):
        part = {"image": images, **arrays}
        part = {k: v[start : start + size] for k, v in part.items()}
        n = len(part["image"])
        part = {
            k: np.concatenate([v, np.full((size - n, *v.shape[1:]), 77, v.dtype)])
            for k, v in part.items()
        }
        out.append({**part, "mask": (np.arange(size) < n).astype(np.float32)})
    return out


def grey(images):
    return images.astype(float) @ [0.299, 0.587, 0.114]


def test_names():
    assert isinstance(probes.build("raw_pixels"), RawPixels)
    assert probes.build("pca", {"components": 3}).components == 3
    assert isinstance(probes.build("mean_shape"), MeanShape)
    with pytest.raises(UsageError, match="did you mean 'pca'"):
        probes.build("pcaa")
    with pytest.raises(UsageError, match="did you mean 'components'"):
        probes.build("pca", {"component": 3})


def test_cosine_of_raw_pixels_is_the_correlation_of_the_images(images):
    probe = RawPixels()
    probe.fit([])
    e = probe.predict({"image": images})["embedding"]
    assert (e.shape, e.dtype) == ((20, 30), np.float32)
    np.testing.assert_allclose(e @ e.T, np.corrcoef(grey(images).reshape(20, -1)), atol=1e-5)


def test_brightness_and_contrast_play_no_part(images):
    dark = (images.astype(float) * 0.3 + 12) / 127.5 - 1
    a, b = (RawPixels().predict({"image": x})["embedding"] for x in (images, dark))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_flat_image_is_zero_and_changes_no_other(images):
    alone = RawPixels().predict({"image": images[1:]})["embedding"]
    images[0] = 200
    e = RawPixels().predict({"image": images})["embedding"]
    assert not e[0].any()
    np.testing.assert_array_equal(e[1:], alone)


@pytest.mark.parametrize(("source", "target"), [(6, 3), (6, 4), (5, 5), (7, 1), (3, 5)])
def test_resizing_averages_by_area(source, target):
    """By a loop on a grid fine enough to divide into source and target pixels."""
    row = np.random.default_rng(0).normal(size=source)
    fine = np.repeat(row, target)  # source * target cells
    expected = fine.reshape(target, source).mean(axis=1)
    np.testing.assert_allclose(closed_form.area_matrix(source, target) @ row, expected)


def test_resized_pixels(images):
    e = RawPixels(size=2).predict({"image": images[..., 0][:, :, :4]})["embedding"]
    blocks = images[..., 0][:, :, :4].astype(float).reshape(20, 2, 3, 2, 2).mean((2, 4))
    blocks = blocks.reshape(20, 4)
    blocks -= blocks.mean(1, keepdims=True)
    np.testing.assert_allclose(e, blocks / np.linalg.norm(blocks, axis=1)[:, None], atol=1e-6)


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("whiten", [False, True])
def test_pca_equals_the_eigenvectors_of_the_covariance(images, whiten, skip):
    probe = PCA(components=4, whiten=whiten, skip=skip)
    probe.fit(iter(batches(images)))
    x = grey(images).reshape(20, -1)
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    value, vector = np.linalg.eigh(np.cov(x.T, bias=True))
    value, vector = value[::-1][skip : skip + 4], vector[:, ::-1].T[skip : skip + 4]
    vector *= np.sign(vector[np.arange(4), np.abs(vector).argmax(1)])[:, None]
    np.testing.assert_allclose(probe.basis, vector, atol=1e-9)
    np.testing.assert_allclose(probe.deviation, np.sqrt(value), atol=1e-9)
    projected = (x - x.mean(0)) @ vector.T
    if whiten:
        projected /= np.sqrt(value)
        np.testing.assert_allclose(np.cov(probe.project(images).T, bias=True), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(probe.project(images), projected, atol=1e-9)
    e = probe.predict({"image": images})["embedding"]
    assert e.dtype == np.float32
    expected = projected / np.linalg.norm(projected, axis=1)[:, None]
    np.testing.assert_allclose(e, expected, atol=1e-6)


def test_all_components_reconstruct_the_training_images(images):
    probe = PCA(components=19)
    probe.fit(batches(images))
    x = closed_form.standardised_pixels(images, None)
    np.testing.assert_allclose(probe.project(images) @ probe.basis + probe.mean, x, atol=1e-9)
    np.testing.assert_allclose(probe.basis @ probe.basis.T, np.eye(19), atol=1e-12)


def test_pca_does_not_depend_on_the_order_or_the_batches(images):
    a, b = PCA(components=5), PCA(components=5)
    a.fit(batches(images))
    b.fit(batches(images[::-1], size=3))
    np.testing.assert_allclose(a.basis, b.basis, atol=1e-9)


def test_pca_says_what_it_cannot_do(images):
    with pytest.raises(FacebenchError, match="at most 19"):
        PCA(components=20).fit(batches(images))
    with pytest.raises(FacebenchError, match="at most 4 directions"):
        PCA(components=5, size=2).fit(batches(images))
    with pytest.raises(FacebenchError, match="repeated images"):
        PCA(components=5).fit([{"image": images[[0, 1, 0, 1, 2, 2, 1]]}])
    with pytest.raises(FacebenchError, match="no training image"):
        PCA().fit([])
    with pytest.raises(FacebenchError, match="before fit"):
        PCA().predict({"image": images})
    with pytest.raises(FacebenchError, match="no 'image'"):
        PCA().fit([{"points": images}])
    with pytest.raises(FacebenchError, match="components is 0"):
        PCA(components=0)
    with pytest.raises(FacebenchError, match="size is 0"):
        RawPixels(size=0)
    probe = PCA(components=2)
    probe.fit(batches(images))
    with pytest.raises(FacebenchError, match="30 pixels, this one has 25"):
        probe.predict({"image": images[:, :5]})


def test_mean_shape_by_a_loop_over_visible_points(images):
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 6, (20, 3, 2)).astype(np.float32)
    visible = (rng.uniform(size=(20, 3)) > 0.4).astype(np.float32)
    points[visible == 0] = np.nan
    probe = MeanShape()
    probe.fit(iter(batches(images, points=points, visible=visible)))
    for k in range(3):
        seen = [points[i, k].astype(float) for i in range(20) if visible[i, k]]
        np.testing.assert_allclose(probe.shape[k], np.mean(seen, axis=0), rtol=1e-12)
    matrix = rng.normal(size=(2, 2, 3)).astype(np.float32)
    got = probe.predict({"image": images[:2], "to_image": matrix})["points"]
    assert (got.shape, got.dtype) == ((2, 3, 2), np.float32)
    for b in range(2):
        for k in range(3):
            expected = matrix[b].astype(float) @ [*probe.shape[k], 1.0]
            np.testing.assert_allclose(got[b, k], expected, rtol=1e-6, atol=1e-6)


def test_mean_shape_without_visibility_or_mask(images):
    points = np.random.default_rng(1).uniform(0, 6, (20, 3, 2))
    probe = MeanShape()
    probe.fit([{"points": points[:7]}, {"points": points[7:]}])
    np.testing.assert_allclose(probe.shape, points.mean(0))


def test_mean_shape_says_what_it_cannot_do():
    points, to_image = np.ones((2, 3, 2)), np.ones((2, 2, 3))
    with pytest.raises(FacebenchError, match=r"points \[1\] are visible in no"):
        MeanShape().fit([{"points": points, "visible": np.array([[1, 0, 1], [0, 0, 1]])}])
    for nothing in ([], [{"points": points, "mask": np.zeros(2)}]):
        with pytest.raises(FacebenchError, match="no training shape"):
            MeanShape().fit(nothing)
    with pytest.raises(FacebenchError, match="before fit"):
        MeanShape().predict({"to_image": to_image})
    probe = MeanShape()
    probe.fit([{"points": points}])
    with pytest.raises(FacebenchError, match="no 'to_image'"):
        probe.predict({"image": points})


def test_features_are_compared_by_cosine_less_their_mean_if_asked():
    rng = np.random.Generator(np.random.Philox(31))
    train, new = rng.uniform(size=(20, 6)), rng.uniform(size=(4, 6))
    plain, centred = (probes.build("features", {"centre": c}) for c in (False, True))
    plain.fit([])  # there is nothing to learn
    batches = [{"features": train[:12]}, {"features": train[12:], "mask": np.r_[[1.0] * 6, 0, 0]}]
    centred.fit(batches)
    mean = train[:18].mean(0)
    for probe, shift in ((plain, 0 * mean), (centred, mean)):
        expected = (new - shift) / np.linalg.norm(new - shift, axis=1)[:, None]
        found = probe.predict({"features": new})["embedding"]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert found.dtype == np.float32
    assert (plain.parameters, centred.parameters) == (0, 6)
    with pytest.raises(FacebenchError, match="no training image to take the mean of"):
        probes.build("features", {"centre": True}).fit([])
    with pytest.raises(FacebenchError, match=r"has no 'features', only \['image'\]"):
        plain.predict({"image": new})


def test_pca_finds_the_components_of_features():
    rng = np.random.Generator(np.random.Philox(32))
    train, new = rng.normal(size=(30, 5)), rng.normal(size=(4, 5))
    probe = probes.build("pca", {"components": 5})
    probe.fit([{"features": train}])
    # all directions are kept: cosines of the centred features
    centred = new - train.mean(0)
    centred /= np.linalg.norm(centred, axis=1)[:, None]
    found = probe.predict({"features": new})["embedding"].astype(np.float64)
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, atol=1e-6)
