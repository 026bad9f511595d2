"""Geometry against brute force and against where a drawn spot really lands."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench.data import transforms
from facebench.data.transforms import Augment
from facebench.errors import UsageError

BOX = {"crop": "box", "size": 64, "margin": 0.2}


def spot(height, width, x, y, sigma):
    """An image of one Gaussian spot, its centre at (x, y) with pixel centres at whole numbers."""
    rows, columns = np.mgrid[:height, :width]
    grey = 20 + 220 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(grey)[..., None], 3, axis=2).astype(np.uint8)


def centroid(image):
    """The centre of mass of what is brighter than the ground."""
    weight = np.clip(image[..., 0].astype(float) - 24, 0, None)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def bilinear(image, matrix, size):
    """The warp by its definition: every crop pixel looks up its place in the image."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    height, width = image.shape[:2]
    crop = np.empty((size, size, 3))
    for y in range(size):
        for x in range(size):
            sx, sy, _ = inverse @ [x, y, 1]
            x0, y0 = int(np.floor(sx)), int(np.floor(sy))
            fx, fy = sx - x0, sy - y0
            value = 0.0
            for dy, wy in ((0, 1 - fy), (1, fy)):
                for dx, wx in ((0, 1 - fx), (1, fx)):
                    pixel = image[min(max(y0 + dy, 0), height - 1), min(max(x0 + dx, 0), width - 1)]
                    value = value + wy * wx * pixel.astype(float)
            crop[y, x] = value
    return crop


def similarity(angle, scale, x, y):
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[a, -b, x], [b, a, y]])


# ------------------------------------------------------------------------------- affine maps


def test_maps_compose_and_invert():
    rng = np.random.default_rng(0)
    for _ in range(20):
        outer, inner = rng.normal(size=(2, 2, 3))
        points = rng.normal(size=(7, 2))
        expected = np.array(
            [outer[:, :2] @ (inner[:, :2] @ p + inner[:, 2]) + outer[:, 2] for p in points]
        )
        assert np.allclose(transforms.apply(transforms.compose(outer, inner), points), expected)
        back = transforms.apply(transforms.invert(inner), transforms.apply(inner, points))
        assert np.allclose(back, points, atol=1e-9)
    with pytest.raises(ValueError, match="no inverse"):
        transforms.invert(np.array([[1.0, 2, 0], [2, 4, 0]]))


def test_crop_takes_edges_to_edges():
    # a 30 x 20 box about (25, 40), 20 % more on each side: side 42, from (4, 19) to (46, 61)
    matrix = transforms.crop_matrix(BOX, 100, 100, [10, 30, 40, 50])
    corners = transforms.apply(matrix, [[4, 19], [46, 61], [25, 40]])
    assert np.allclose(corners, [[-0.5, -0.5], [63.5, 63.5], [31.5, 31.5]])


def test_full_keeps_the_aspect_and_centres_the_image():
    matrix = transforms.crop_matrix({"crop": "full", "size": 56}, 112, 92)
    corners = transforms.apply(matrix, [[-0.5, -0.5], [91.5, 111.5]])
    assert np.allclose(corners, [[4.5, -0.5], [50.5, 55.5]])  # 46 of 56 columns, 5 free each side
    whole = {"crop": "box", "size": 56, "margin": 0.0}
    assert np.allclose(matrix, transforms.crop_matrix(whole, 112, 92, [-0.5, -0.5, 91.5, 111.5]))


def test_full_repeats_the_edge():
    image = np.random.default_rng(1).integers(0, 256, (64, 40, 3), np.uint8)
    crop, _ = transforms.warp(
        image, None, transforms.crop_matrix({"crop": "full", "size": 64}, 64, 40), 64
    )
    assert np.array_equal(crop[:, 12:52], image)
    assert (crop[:, :12] == image[:, :1]).all()
    assert (crop[:, 52:] == image[:, -1:]).all()


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 5, 2, 9], [0, 0, np.nan, 4], [0, 0, np.inf, 4]])
def test_empty_boxes_are_refused(box):
    with pytest.raises(ValueError, match="box"):
        transforms.crop_matrix(BOX, 50, 50, box)


def test_missing_box_is_refused():
    with pytest.raises(ValueError, match="field 'box'"):
        transforms.crop_matrix(BOX, 50, 50, None)


@pytest.mark.parametrize(
    ("preprocess", "said"),
    [
        ({"crop": "boks", "size": 64}, "'box'"),
        ({"size": 64}, "None"),
        ({"crop": "box", "size": 64, "margn": 0.1}, "'margin'"),
        ({"crop": "full", "size": 64, "margin": 0.1}, "margin"),
        ({"crop": "full"}, "size"),
        ({"crop": "full", "size": 6.5}, "size"),
        ({"crop": "full", "size": True}, "size"),
        ({"crop": "box", "size": 64, "margin": -0.5}, "margin"),
        ({"crop": "box", "size": 64, "margin": "wide"}, "margin"),
    ],
)
def test_bad_preprocess_is_named(preprocess, said):
    with pytest.raises(UsageError, match=said):
        transforms.check_preprocess(preprocess)


# -------------------------------------------------------------------------------------- warp


def test_identity_is_exact():
    rng = np.random.default_rng(2)
    for size in (1, 17, 64):
        image = rng.integers(0, 256, (size, size, 3), np.uint8)
        points = rng.uniform(0, size, (5, 2))
        crop, moved = transforms.warp(image, points, np.eye(2, 3), size)
        assert np.array_equal(crop, image)
        assert np.array_equal(moved, points)


def test_warp_is_bilinear_lookup():
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (23, 31, 3), np.uint8)
    for angle, scale in ((0.0, 1.0), (0.4, 1.7), (-2.0, 0.6), (3.0, 3.3)):
        matrix = similarity(angle, scale, *rng.uniform(0, 12, 2))
        crop, _ = transforms.warp(image, None, matrix, 20)
        assert np.abs(crop - bilinear(image, matrix, 20)).max() < 1.01


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(70, 130),
    y=st.floats(70, 110),
    scale=st.floats(0.13, 2.2),
    angle=st.floats(-3.1, 3.1),
    flip=st.booleans(),
)
def test_pixels_and_points_move_together(x, y, scale, angle, flip):
    image = spot(180, 200, x, y, sigma=2.5 / min(scale, 1))
    matrix = similarity(angle, scale, 0, 0)
    matrix[:, 2] += 32 - transforms.apply(matrix, [x, y]) + [0.37, -0.21]
    if flip:
        matrix = transforms.compose(transforms.flip_matrix(64), matrix)
    crop, points = transforms.warp(image, np.array([[x, y]]), matrix, 64)
    assert np.abs(centroid(crop) - points[0]).max() < 0.03


def crop_error(matrix_of):
    """How far a spot lands from its point when the crop is a quarter of the original."""
    image = spot(240, 240, 121.3, 118.8, sigma=8)
    matrix = matrix_of({"crop": "full", "size": 60}, 240, 240)
    crop, points = transforms.warp(image, np.array([[121.3, 118.8]]), matrix, 60)
    # where the point must be by the definition of a pixel: its share of the image's extent
    expected = (np.array([121.3, 118.8]) + 0.5) / 240 * 60 - 0.5
    return np.abs(centroid(crop) - expected).max(), np.abs(points[0] - expected).max()


def test_a_planted_half_pixel_bug_is_seen():
    assert max(crop_error(transforms.crop_matrix)) < 0.02

    def corner_is_origin(preprocess, height, width):
        return np.array([[60 / width, 0, 0], [0, 60 / height, 0.0]])

    assert min(crop_error(corner_is_origin)) > 0.3


def test_a_planted_shift_in_the_pixels_alone_is_seen(monkeypatch):
    true = transforms._shrink

    def shifted(image, factor):
        return true(np.roll(image, factor // 2, axis=1), factor)

    monkeypatch.setattr(transforms, "_shrink", shifted)
    assert crop_error(transforms.crop_matrix)[0] > 0.4


def test_points_come_back():
    rng = np.random.default_rng(4)
    for _ in range(50):
        matrix = similarity(rng.uniform(-3, 3), rng.uniform(0.05, 5), *rng.uniform(-200, 200, 2))
        points = rng.uniform(-50, 500, (68, 2))
        stored = transforms.apply(matrix, points).astype(np.float32).astype(np.float64)
        back = transforms.apply(transforms.invert(matrix), stored)
        assert np.abs(back - points).max() < 1e-3 / min(abs(matrix[0, :2]).max(), 1)
        exact = transforms.apply(transforms.invert(matrix), transforms.apply(matrix, points))
        assert np.abs(exact - points).max() < 1e-4


def test_fine_texture_does_not_alias():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # the finest there is; its mean is 127.5
    matrix = transforms.crop_matrix({"crop": "full", "size": 60}, 256, 256)
    crop, _ = transforms.warp(stripes, None, matrix, 60)
    assert np.abs(crop.astype(float) - 127.5).max() < 1.01
    plain = cv2.warpAffine(stripes, matrix, (60, 60), flags=cv2.INTER_LINEAR)
    assert plain.astype(float).std() > 30  # what would have been


def test_shrinking_means_over_blocks():
    image = np.random.default_rng(5).integers(0, 256, (13, 10, 3), np.uint8)
    padded = np.pad(image, ((0, 2), (0, 0), (0, 0)), mode="edge").astype(float)
    expected = padded.reshape(3, 5, 2, 5, 3).mean(axis=(1, 3))
    assert np.abs(transforms._shrink(image, 5) - expected).max() <= 0.5 + 1e-6


# ------------------------------------------------------------------------------ augmentation


def test_flip_is_its_own_inverse():
    image = np.random.default_rng(6).integers(0, 256, (33, 33, 3), np.uint8)
    points = np.array([[0.0, 0], [32, 5], [7.25, 30]])
    flip = transforms.flip_matrix(33)
    crop, moved = transforms.warp(image, points, flip, 33)
    assert np.array_equal(crop, image[:, ::-1])
    assert np.allclose(moved, [[32, 0], [0, 5], [24.75, 30]])
    again, back = transforms.warp(crop, moved, flip, 33)
    assert np.array_equal(again, image)
    assert np.array_equal(back, points)


def test_random_matrices_stay_in_their_ranges():
    augment = Augment(rotation=0.5, scale=0.25, shift=0.1, flip=0.5)
    rng = np.random.default_rng(7)
    seen = []
    for _ in range(2000):
        matrix, mirrored = transforms.random_matrix(augment, 65, rng)
        if mirrored:
            matrix = transforms.compose(transforms.flip_matrix(65), matrix)
        scale = np.hypot(matrix[0, 0], matrix[1, 0])
        angle = np.arctan2(matrix[1, 0], matrix[0, 0])
        assert np.allclose(matrix[:, :2], similarity(angle, scale, 0, 0)[:, :2])
        shift = transforms.apply(matrix, [32.0, 32.0]) - 32  # the centre moves by the shift alone
        seen.append((angle, np.log(scale), *shift, mirrored))
    low, high = np.min(seen, axis=0), np.max(seen, axis=0)
    limits = np.array([0.5, np.log(1.25), 6.5, 6.5])
    assert (np.abs([low[:4], high[:4]]) <= limits + 1e-9).all()
    assert (high[:4] > 0.98 * limits).all()
    assert (low[:4] < -0.98 * limits).all()
    assert 0.45 < np.mean(seen, axis=0)[4] < 0.55


def test_nothing_is_drawn_by_default():
    rng = np.random.default_rng(8)
    state = rng.bit_generator.state
    matrix, mirrored = transforms.random_matrix(Augment(), 48, rng)
    image = np.full((48, 48, 3), 9, np.uint8)
    assert transforms.photometric(image, Augment(), rng) is image
    assert np.array_equal(matrix, np.eye(2, 3))
    assert not mirrored
    assert rng.bit_generator.state == state


class Draws:
    """A generator that gives chosen numbers."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def uniform(self, low, high, n=None):
        return self.numbers.pop(0)

    def random(self):
        return self.numbers.pop(0)


def test_colours_by_the_formula():  # to the nearest grey level, OpenCV's coefficients have 10 bits
    image = np.random.default_rng(9).integers(60, 160, (8, 8, 3), np.uint8)
    x = image.astype(float)
    luma = x @ [0.299, 0.587, 0.114]

    brighter = transforms.photometric(image.copy(), Augment(brightness=0.3), Draws(1.2))
    assert np.abs(brighter - 1.2 * x).max() < 0.6
    stretched = transforms.photometric(image.copy(), Augment(contrast=0.5), Draws(1.5))
    expected = luma.mean() + 1.5 * (x - luma.mean())
    assert np.abs(stretched - np.clip(expected, 0, 255)).max() < 0.6
    faded = transforms.photometric(image.copy(), Augment(saturation=0.5), Draws(0.5))
    assert np.abs(faded - (0.5 * x + 0.5 * luma[..., None])).max() < 0.6
    grey = transforms.photometric(image.copy(), Augment(grey=0.5), Draws(0.4))
    assert np.abs(grey - luma[..., None]).max() < 0.6
    kept = transforms.photometric(image.copy(), Augment(grey=0.5), Draws(0.6))
    assert np.array_equal(kept, image)


def test_blur_keeps_the_place_and_widens():
    image = spot(41, 41, 20, 20, sigma=2)
    blurred = transforms.photometric(image.copy(), Augment(blur=3), Draws(2.5))
    assert np.abs(centroid(blurred) - 20).max() < 1e-6
    assert blurred.max() < image.max()


def test_cutout_is_a_grey_square():
    image = np.zeros((40, 40, 3), np.uint8)
    cut = transforms.photometric(image.copy(), Augment(cutout=0.5), Draws(0.25, (12.0, 20.0)))
    expected = image.copy()
    expected[15:25, 7:17] = 128
    assert np.array_equal(cut, expected)
    corner = transforms.photometric(image.copy(), Augment(cutout=0.5), Draws(0.5, (0.0, 39.9)))
    assert (corner[30:, :10] == 128).all()
    assert (corner != 0).any(axis=2).sum() == 100


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rotate": 0.1}, "'rotation'"),
        ({"rotation": 30}, "rotation"),
        ({"flip": 1.5}, "flip"),
        ({"grey": -0.1}, "grey"),
        ({"blur": "much"}, "blur"),
        ({"flip": True}, "flip"),
    ],
)
def test_bad_augmentations_are_named(values, said):
    with pytest.raises(UsageError, match=said):
        Augment.of(values)


# -------------------------------------------------------------------------------------- decode


def encode(image, kind, *flags):
    return cv2.imencode(kind, image, flags)[1].tobytes()


def test_decode_gives_rgb():
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 0] = 200
    assert np.array_equal(transforms.decode(encode(red[..., ::-1], ".png")), red)
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert np.array_equal(transforms.decode(encode(grey, ".png")), np.dstack([grey] * 3))
    assert np.array_equal(transforms.decode(encode(grey, ".png"), colour=False), grey)


def test_decode_leaves_the_stored_orientation():
    image = np.zeros((8, 16, 3), np.uint8)
    jpeg = encode(image, ".jpg")
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6
    exif = b"Exif\0\0" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (16, 8, 3)
    assert transforms.decode(turned).shape == (8, 16, 3)


@pytest.mark.parametrize("kind", [".png", ".jpg"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.8, 0.999])
def test_cut_off_images_are_refused(kind, part):
    image = np.random.default_rng(10).integers(0, 256, (50, 60, 3), np.uint8)
    data = encode(image, kind)
    with pytest.raises(ValueError, match=r"cut off|truncated|empty"):
        transforms.decode(data[: int(len(data) * part)])


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match="no known image"):
        transforms.decode(b"<html>404 not found</html>")


def test_decoded_jpeg_with_a_tail_is_read():
    data = encode(np.full((9, 9, 3), 77, np.uint8), ".jpg")
    assert transforms.decode(data + b"\0" * 100).shape == (9, 9, 3)
