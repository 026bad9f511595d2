"""Styles: ends and middle of their strength, what each must keep, the parts by brute force."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench.errors import FacebenchError
from facebench.synth import drawing, styles
from facebench.synth.portrait import FILTERS, Parameters

DRAWN = FILTERS[1:]
BACKGROUND = np.array([0.7, 0.7, 0.75, 0.55, 0.6, 0.6, 0.9, 0.9, 0.2, *[0.5] * 6, 0.1])


@pytest.fixture(scope="module")
def faces() -> dict[int, np.ndarray]:
    p = Parameters(background=BACKGROUND)
    return {size: drawing.render(p, size).image for size in (64, 112, 224)}


def luminance(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("style", FILTERS)
def test_strength_zero_is_the_picture(faces: dict[int, np.ndarray], style: str) -> None:
    image = faces[64]
    out = styles.apply(image, style, 0.0)
    np.testing.assert_array_equal(out, image)
    assert out is not image


@pytest.mark.parametrize("style", DRAWN)
@pytest.mark.parametrize("strength", [0.25, 0.5, 0.9])
def test_strength_blends(faces: dict[int, np.ndarray], style: str, strength: float) -> None:
    image = faces[64].astype(float)
    full = styles.apply(faces[64], style, 1.0).astype(float)
    found = styles.apply(faces[64], style, strength).astype(float)
    assert np.abs(found - (image + strength * (full - image))).max() <= 1.0
    assert np.abs(full - image).mean() > 4.0


@pytest.mark.parametrize("style", DRAWN)
def test_alike_at_all_sizes(faces: dict[int, np.ndarray], style: str) -> None:
    small = [
        cv2.resize(styles.apply(image, style, 1.0), (32, 32), interpolation=cv2.INTER_AREA)
        for image in faces.values()
    ]
    plain = cv2.resize(faces[224], (32, 32), interpolation=cv2.INTER_AREA)
    between = max(np.abs(a.astype(float) - b).mean() for a in small for b in small)
    assert between < 9.0
    assert between < 0.8 * np.abs(small[2].astype(float) - plain).mean()


def test_a_sketch_is_dark_lines_on_paper(faces: dict[int, np.ndarray]) -> None:
    image = faces[112]
    out = styles.apply(image, "sketch", 1.0).astype(int)
    assert np.ptp(out, axis=2).max() <= 12  # pencil has no colour
    light = luminance(image)
    gy, gx = np.gradient(light)
    edge = np.hypot(gx, gy)
    y = luminance(out)
    skin = light > np.quantile(light, 0.5)
    assert y[skin & (edge < 1.0)].mean() > y[edge > 15.0].mean() + 30
    white = styles.apply(np.full((64, 64, 3), 255, np.uint8), "sketch", 1.0)
    assert white.min() > 225
    black = styles.apply(np.zeros((64, 64, 3), np.uint8), "sketch", 1.0)
    assert luminance(black).mean() < 110


def test_a_sketch_hatches_darker_tones_more() -> None:
    means = [
        luminance(styles.apply(np.full((96, 96, 3), v, np.uint8), "sketch", 1.0)).mean()
        for v in (10, 60, 110, 160, 220)
    ]
    assert (np.diff(means) > 3).all()


def test_posterise_has_few_levels_and_keeps_hue(faces: dict[int, np.ndarray]) -> None:
    out = styles.apply(faces[224], "posterise", 1.0)
    y = luminance(out)
    levels = 10 + 245 * np.arange(6) / 5
    near = np.abs(y[..., None] - levels).min(axis=2)
    assert (near < 3.0).mean() > 0.85
    before = luminance(faces[224])
    assert (np.abs(before[..., None] - levels).min(axis=2) < 3.0).mean() < 0.4
    hue = [cv2.cvtColor(i, cv2.COLOR_RGB2HSV).astype(int) for i in (faces[224], out)]
    sure = (hue[0][..., 1] > 60) & (hue[1][..., 1] > 60)
    turn = np.abs((hue[0][..., 0] - hue[1][..., 0] + 90) % 180 - 90)[sure]
    assert np.quantile(turn, 0.95) <= 6


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.sampled_from(DRAWN[1:]))
@settings(max_examples=60, deadline=None)
def test_flat_colours_stay_flat_with_their_hue(r: int, g: int, b: int, style: str) -> None:
    image = np.broadcast_to(np.array([r, g, b], np.uint8), (20, 20, 3)).copy()
    out = styles.apply(image, style, 1.0)
    assert (out == out[0, 0]).all()
    before, after = (v.astype(float) - luminance(v) for v in (image[0, 0], out[0, 0]))
    lengths = np.linalg.norm(before) * np.linalg.norm(after)
    if min(np.linalg.norm(before), np.linalg.norm(after)) > 12:
        assert float(before @ after) > 0.99 * lengths


def test_a_cartoon_is_flatter_with_dark_outlines(faces: dict[int, np.ndarray]) -> None:
    image = faces[112]
    out = styles.apply(image, "cartoon", 1.0)

    def flat(x: np.ndarray) -> float:
        gy, gx = np.gradient(luminance(x))
        return float((np.hypot(gx, gy) < 0.4).mean())

    assert flat(out) > flat(image) + 0.1
    light = luminance(image)
    line = cv2.GaussianBlur(light, (0, 0), 2.0) - light > 12
    assert line.sum() > 30
    assert luminance(out)[line].mean() < light[line].mean() - 15


def test_quadrants_equal_a_loop() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    r = 2
    found = np.empty(image.shape)
    styles._quadrants(image, r, found)
    wide = np.pad(image.astype(int), ((r, r), (r, r), (0, 0)), mode="edge")
    y = (306 * wide[..., 0] + 601 * wide[..., 1] + 117 * wide[..., 2] + 512) >> 10
    for i in range(9):
        for j in range(9):
            total, mean = 0.0, np.zeros(3)
            for a in (0, r):
                for b in (0, r):
                    part = (slice(i + a, i + a + r + 1), slice(j + b, j + b + r + 1))
                    w = 1.0 / (y[part].var() + 2.0) ** 2
                    total += w
                    mean += w * wide[part].reshape(-1, 3).mean(axis=0)
            np.testing.assert_allclose(found[i, j], mean / total, rtol=1e-9)


def test_edges_survive_the_smoothing_of_areas() -> None:
    image = np.full((24, 24, 3), 40, np.uint8)
    image[:, 12:] = 200
    out = np.empty(image.shape)
    styles._quadrants(image, 3, out)
    np.testing.assert_allclose(out, image, atol=1.0)


@pytest.mark.parametrize("size", [16, 17, 65])
@pytest.mark.parametrize("style", DRAWN)
def test_any_size_and_any_memory_order(size: int, style: str) -> None:
    image = np.random.default_rng(3).integers(0, 256, (size, size, 3), dtype=np.uint8)
    out = styles.apply(image, style, 1.0)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(styles.apply(np.asfortranarray(image), style, 1.0), out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.zeros((4, 4)), "none", 1.0), "styles.apply.image"),
        ((np.zeros((4, 5, 3), np.uint8), "sketch", 1.0), "styles.apply.image"),
        ((np.zeros((4, 4, 3), np.uint8), "sketsh", 1.0), "did you mean 'sketch'"),
        ((np.zeros((4, 4, 3), np.uint8), "cartoon", 1.5), "styles.apply.strength"),
        ((np.zeros((4, 4, 3), np.uint8), "none", float("nan")), "styles.apply.strength"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, said: str) -> None:
    with pytest.raises(FacebenchError, match=said):
        styles.apply(*arguments)
