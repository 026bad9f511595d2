"""Blur, noise and JPEG against SciPy, statistics and OpenCV's coder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

import facebench
from facebench.errors import FacebenchError
from facebench.synth import drawing, sensor
from facebench.synth.portrait import Parameters

ROOT = Path(facebench.__file__).parents[1]


def face(size: int) -> np.ndarray:
    """A drawn face with a little texture."""
    image = drawing.render(Parameters(), size).image
    rough = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image + rough, 0, 255).astype(np.uint8)


def coded(image: np.ndarray, quality: int) -> np.ndarray:
    """The picture after OpenCV's JPEG coder and decoder."""
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.7, 4.0])
def test_blur_is_a_gaussian_with_repeated_edges(sigma: float) -> None:
    image = np.random.default_rng(1).uniform(0, 1, (3, 21, 21))
    r = len(sensor.gaussian(sigma)) - 1
    want = scipy.ndimage.gaussian_filter(image, (0, sigma, sigma), mode="nearest", radius=(0, r, r))
    np.testing.assert_allclose(sensor.blur(image, sigma), want, atol=1e-5)
    uncut = cv2.GaussianBlur(
        image.transpose(1, 2, 0), (61, 61), sigma, borderType=cv2.BORDER_REPLICATE
    )
    np.testing.assert_allclose(sensor.blur(image, sigma), uncut.transpose(2, 0, 1), atol=2e-3)


@given(st.floats(0.01, 30.0))
@settings(max_examples=40, deadline=None)
def test_kernels_lie_on_the_grid_and_sum_to_one(sigma: float) -> None:
    half = sensor.gaussian(sigma)
    assert half[0] + 2 * half[1:].sum() == 1.0
    np.testing.assert_array_equal(half * 2**20, np.rint(half * 2**20))
    r = np.arange(len(half))
    want = np.exp(-0.5 * (r / sigma) ** 2)
    want /= 2 * want.sum() - want[0]
    np.testing.assert_allclose(half[1:], want[1:], rtol=0, atol=2.0**-21)
    assert abs(half[0] - want[0]) <= len(half) * 2.0**-20


def test_no_blur_and_no_noise_change_nothing() -> None:
    image = np.random.default_rng(2).uniform(0, 255, (3, 9, 9))
    for out in (sensor.blur(image, 0.0), sensor.noise(image, 0.0, "k")):
        np.testing.assert_array_equal(out, image)
        assert out is not image
    flat = np.full((3, 12, 12), 0.375)
    np.testing.assert_allclose(sensor.blur(flat, 2.0), flat, rtol=0, atol=1e-15)


def test_noise_has_its_strength_at_mid_grey_and_mean_zero() -> None:
    grey = np.full((3, 256, 256), 127.5)
    n = sensor.noise(grey, 6.0, "statistics") - grey
    assert n.std() == pytest.approx(6.0, rel=0.01)
    assert abs(n.mean()) < 0.1
    for axis in (1, 2):  # neighbours, on every edge, too
        a, b = np.take(n, range(255), axis), np.take(n, range(1, 256), axis)
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(0.3, abs=0.02)
    assert np.corrcoef(n[0].ravel(), n[2].ravel())[0, 1] == pytest.approx(0.2, abs=0.02)
    far = np.corrcoef(n[0, :, :-5].ravel(), n[0, :, 5:].ravel())[0, 1]
    assert abs(far) < 0.02
    assert n[:, 0].std() == pytest.approx(6.0, rel=0.06)


def test_shadows_are_noisier_by_the_documented_law() -> None:
    levels = np.array([5.0, 60.0, 127.5, 230.0])
    grey = np.repeat(np.repeat(levels, 64)[None, None], 256, 1).repeat(3, 0)
    n = sensor.noise(grey, 4.0, "law") - grey
    found = [n[:, :, 64 * k : 64 * k + 64].std() for k in range(4)]
    want = 4.0 * np.sqrt(0.8 + 0.2 * (167.5 / (levels + 40.0)) ** 2)
    np.testing.assert_allclose(found, want, rtol=0.03)


def test_noise_follows_its_key_alone() -> None:
    grey = np.full((3, 16, 16), 100.0)
    a, b, c = (sensor.noise(grey, 3.0, key) for key in ("a", "a", "b"))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1.0


@pytest.mark.parametrize("quality", [5, 20, 49, 50, 75, 90, 100])
@pytest.mark.parametrize("size", [64, 101, 112])
def test_jpeg_equals_a_real_coder(size: int, quality: int) -> None:
    image = face(size)
    ours, theirs = sensor.jpeg(image, quality), coded(image, quality)
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.mean() < 0.5
    assert np.quantile(difference, 0.99) <= 5
    lost = np.abs(theirs.astype(int) - image).mean()
    assert lost > 2 * difference.mean()  # the loss itself is the larger part by far


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 9, 16, 17, 23, 40])
def test_jpeg_of_smooth_pictures_of_any_size(size: int) -> None:
    means = []
    for seed in range(30):  # one level of one coefficient may differ, where it is a tie
        small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        image = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
        quality = (8, 30, 50, 80, 95)[seed % 5]
        difference = np.abs(sensor.jpeg(image, quality).astype(int) - coded(image, quality))
        means.append(difference.mean())
    assert np.median(means) < 0.2
    assert np.mean(means) < 1.0


def test_quantisers_of_quality_50_are_the_standard_s() -> None:
    tables = sensor.quantisers(50)
    assert tables[0, 0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61]
    assert tables[1, :, 0].tolist() == [17, 18, 24, 47, 99, 99, 99, 99]
    assert (sensor.quantisers(100) == 1).all()
    assert sensor.quantisers(10)[0, 0, 0] == 80


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: sensor.blur(np.zeros((3, 4, 5)), 1.0), "sensor.blur.linear"),
        (lambda: sensor.blur(np.zeros((3, 4, 4), np.float32), 1.0), "sensor.blur.linear"),
        (lambda: sensor.blur(np.zeros((3, 4, 4)), -1.0), "sensor.blur.sigma_px"),
        (lambda: sensor.blur(np.zeros((3, 4, 4)), float("nan")), "sensor.blur.sigma_px"),
        (lambda: sensor.noise(np.zeros((1, 4, 4)), 1.0, "k"), "sensor.noise.grey"),
        (lambda: sensor.noise(np.zeros((3, 4, 4)), 51.0, "k"), "sensor.noise.strength"),
        (lambda: sensor.noise(np.zeros((3, 4, 4)), 1.0, 7), "sensor.noise.key"),
        (lambda: sensor.jpeg(np.zeros((4, 4, 3)), 50), "sensor.jpeg.image"),
        (lambda: sensor.jpeg(np.zeros((4, 4, 3), np.uint8), 4), "sensor.jpeg.quality"),
        (lambda: sensor.jpeg(np.zeros((4, 4, 3), np.uint8), 50.5), "sensor.jpeg.quality"),
        (lambda: sensor.jpeg([1], 50), "sensor.jpeg.image"),
    ],
)
def test_bad_arguments_are_named(call: object, named: str) -> None:
    with pytest.raises(FacebenchError, match=named):
        call()  # type: ignore[operator]


PROGRAM = """
import hashlib, numpy as np
from facebench.synth import hand, mesh, occluders, sensor, styles
from facebench.synth.portrait import OCCLUDERS, Occluder, Parameters
h = hashlib.sha256()
g = (np.arange(3 * 18 * 18).reshape(3, 18, 18) * 37 % 251).astype(float)
i = np.ascontiguousarray(g.transpose(1, 2, 0)).astype(np.uint8)
for a in (sensor.blur(g, 1.3), sensor.noise(g, 4.0, 'k'), sensor.jpeg(i, 40),
          *(styles.apply(i, s, 0.8) for s in ('sketch', 'posterise', 'cartoon'))):
    h.update(np.ascontiguousarray(a).tobytes())
points, _, marks = mesh.shape(Parameters())
for kind in OCCLUDERS:
    for prop in occluders.build(Occluder(kind), points, marks):
        h.update(np.ascontiguousarray(prop.points).tobytes())
        h.update(np.ascontiguousarray(prop.colour).tobytes())
print(h.hexdigest())
"""


def digest(**environment: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_same_bytes_without_the_compiler_and_for_a_plain_processor(tmp_path: Path) -> None:
    compiled = digest()
    assert len(compiled) == 2 * hashlib.sha256().digest_size
    assert digest(NUMBA_DISABLE_JIT="1") == compiled
    assert digest(NUMBA_CPU_NAME="generic", NUMBA_CACHE_DIR=str(tmp_path)) == compiled
