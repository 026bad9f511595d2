"""Every measure against a loop over pixels, and what is undefined."""

from __future__ import annotations

import numpy as np
import pytest

from facebench.interpret import curves, measures


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(5, 6, 6))
    maps[1] = np.round(maps[1])  # many equal values
    maps[2] = np.maximum(maps[2], 0)
    masks = rng.random((5, 6, 6)) < 0.3
    return maps, masks


def test_cosine_and_correlation(pair):
    maps, masks = pair
    other = masks + 0.25
    for i in range(5):
        a, b = maps[i].ravel(), other[i].ravel()
        assert measures.cosine(maps, other)[i] == pytest.approx(
            sum(a * b) / np.sqrt(sum(a * a) * sum(b * b))
        )
        assert measures.pearson(maps, other)[i] == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_otsu_tries_every_split(pair):
    maps, _ = pair
    for one, mask in zip(maps, measures.otsu(maps)):
        best, chosen = -1.0, None
        for t in np.unique(one)[:-1]:
            low, high = one[one <= t], one[one > t]
            between = low.size * high.size * (low.mean() - high.mean()) ** 2
            if between > best + 1e-12:
                best, chosen = between, t
        np.testing.assert_array_equal(mask, one > chosen)


def test_the_largest_share(pair):
    maps, _ = pair
    for one, mask in zip(maps, measures.top(maps, 0.25)):
        ninth = sorted(one.ravel())[-9]
        np.testing.assert_array_equal(mask, one >= ninth)
    sparse = np.zeros((1, 6, 6))
    sparse[0, 2, 3] = 1
    assert measures.top(sparse, 0.25).sum() == 1  # zeros tie for the rest: they are not taken


def test_overlap_pointing_and_energy(pair):
    maps, masks = pair
    binary = measures.otsu(maps)
    found = measures.overlap(binary, masks)
    for i in range(5):
        tp = sum(bool(a and b) for a, b in zip(binary[i].flat, masks[i].flat))
        either = sum(bool(a or b) for a, b in zip(binary[i].flat, masks[i].flat))
        assert found["iou"][i] == pytest.approx(tp / either)
        assert found["precision"][i] == pytest.approx(tp / binary[i].sum())
        assert found["recall"][i] == pytest.approx(tp / masks[i].sum())
        most = [k for k, v in enumerate(maps[i].flat) if v == maps[i].max()]
        hit = sum(masks[i].flat[k] for k in most) / len(most)
        assert measures.pointing(maps, masks)[i] == pytest.approx(hit)
        inside = sum(max(v, 0) for v, m in zip(maps[i].flat, masks[i].flat) if m)
        total = sum(max(v, 0) for v in maps[i].flat)
        assert measures.energy(maps, masks)[i] == pytest.approx(inside / total)


def test_equal_maxima_share_a_hit():
    maps, masks = np.zeros((1, 2, 2)), np.zeros((1, 2, 2), bool)
    maps[0, 0], masks[0, 0, 1] = 3, True
    assert measures.pointing(maps, masks)[0] == 0.5


def test_what_is_constant_or_empty_is_undefined(pair):
    maps, masks = pair
    flat = maps.copy()
    flat[0], flat[1], flat[2, 0, 0] = 0, 7 + 1e-9 * maps[1], np.nan
    assert measures.constant(flat).tolist() == [True, True, True, False, False]
    for value in (
        measures.cosine(flat, maps),
        measures.pearson(flat, maps),
        measures.pointing(flat, masks),
        measures.energy(flat, masks),
        measures.overlap(measures.otsu(flat), masks)["iou"],
        measures.overlap(measures.top(flat, 0.2), masks)["iou"],
    ):
        assert np.isnan(value).tolist() == [True, True, True, False, False]
    nothing = np.zeros_like(masks)
    assert np.isnan(measures.pointing(maps, nothing)).all()
    assert np.isnan(measures.energy(maps, nothing)).all()
    assert np.isnan(measures.energy(-np.abs(maps), masks)).all()  # nothing positive


def test_how_a_map_is_scaled_changes_its_cosine():
    """The same map, shifted: its correlation stays, its cosine does not."""
    maps = np.arange(16.0).reshape(1, 4, 4)
    mask = np.zeros((1, 4, 4))
    mask[0, 3, 3] = 1
    cosines = [measures.cosine(m, mask)[0] for m in (maps, maps + 10, measures.min_max(maps + 10))]
    assert cosines[0] == pytest.approx(cosines[2])
    assert cosines[1] < cosines[0] - 0.05
    assert measures.pearson(maps + 10, mask) == pytest.approx(measures.pearson(maps, mask))
    np.testing.assert_array_equal(measures.shifted(maps + 10), maps + 10)
    assert measures.shifted(maps - 3).min() == 0


def test_resampling_against_a_loop():
    rng = np.random.default_rng(1)
    maps = rng.random((2, 3, 4))
    for placement in ("cells", "corners"):
        fine = measures.resample(maps, 8, measures.centres((3, 4), 8, placement))
        for y in range(8):
            for x in range(8):
                if placement == "cells":
                    at = [np.clip((v + 0.5) * k / 8 - 0.5, 0, k - 1) for v, k in ((y, 3), (x, 4))]
                else:
                    at = [v * (k - 1) / 7 for v, k in ((y, 3), (x, 4))]
                (i, j), (p, q) = [int(v) for v in at], [v - int(v) for v in at]
                k, m = min(i + 1, 2), min(j + 1, 3)
                value = (1 - p) * ((1 - q) * maps[1, i, j] + q * maps[1, i, m])
                value += p * ((1 - q) * maps[1, k, j] + q * maps[1, k, m])
                assert fine[1, y, x] == pytest.approx(value)
    np.testing.assert_allclose(measures.resample(maps[:, :, :3], 3), maps[:, :, :3])


def test_means_by_class_and_of_the_others():
    label = np.array([0, 0, 1, 0, 3])
    values = np.array([1.0, 3.0, np.nan, np.nan, 5.0])
    means = measures.of_class(values, label, 4)
    assert means == [2.0, None, None, 5.0]
    assert measures.macro(means) == 3.5
    assert measures.macro([None]) is None
    maps = np.random.default_rng(0).random((5, 2, 2))
    scaled = maps / maps.mean((1, 2), keepdims=True)
    others = measures.others_mean(maps, label)
    np.testing.assert_allclose(others[0], (scaled[1] + scaled[3]) / 2)
    assert not others[2].any()  # the only one of its class


def test_a_gaussian_stands_where_it_is_asked_to():
    made = measures.gaussian(np.array([[3.0, 5.0]]), np.array([2.0]), 8, 8)[0]
    assert np.unravel_index(made.argmax(), made.shape) == (5, 3)
    assert made[5, 5] == pytest.approx(np.exp(-0.5))


# -- insertion and deletion ------------------------------------------------------------------------


def test_curves_of_a_network_that_counts_pixels():
    """The probability is the share of white pixels: a map that knows them is the best there is."""
    white = np.zeros((1, 10, 10), bool)
    white[0, :4, :5] = True
    image = np.where(white[..., None], 255, curves.GREY).astype(np.uint8).repeat(3, -1)

    def probability(shown: np.ndarray) -> np.ndarray:
        share = (shown[..., 0] == 255).mean((1, 2))
        return np.stack([1 - share, share], 1)

    label, expected = np.array([1]), np.array([0, 0.1, *[0.2] * 9])
    found = curves.run(image, label, white.astype(float), probability)
    np.testing.assert_allclose(found["deletion"][0], 0.2 - expected)
    inverse = curves.run(image, label, -white.astype(float), probability)
    assert curves.area(inverse["deletion"])[0] > curves.area(found["deletion"])[0] + 0.1
    assert curves.area(found["insertion"])[0] > curves.area(inverse["insertion"])[0]
    assert curves.area(np.array([[1.0] * 11]))[0] == pytest.approx(1)
    assert curves.area(np.array([[0.0] * 10 + [1.0]]))[0] == pytest.approx(0.05)


def test_the_ends_of_a_curve_are_the_canvas_and_the_image():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
    order = curves.orders(rng.random((1, 7, 7)))[0]
    made = curves.frames(image, order, np.zeros_like(image))
    assert len(made) == curves.STEPS + 1
    assert not made[0].any()
    np.testing.assert_array_equal(made[-1], image)
    assert sorted(order.tolist()) == list(range(49))
    tied = curves.orders(np.zeros((1, 7, 7)))[0]
    assert tied.tolist() != list(range(49))  # not from the top left corner down
