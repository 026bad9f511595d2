"""Decoding, cropping, warping and augmentation of images and their points (NumPy and OpenCV).

Coordinates: (x, y) in pixels, the centre of the top-left pixel is (0, 0). A `W` x `H` image
therefore covers [-0.5, W - 0.5] x [-0.5, H - 0.5], and so does the box of a whole image. Every
geometric step is a 2x3 affine that takes original to crop coordinates; they are multiplied into
one matrix, which moves the pixels (one interpolation) and the points alike.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from facebench.data import align
from facebench.errors import FacebenchError, UsageError, nearest

CROPS = {
    "box": ("size", "margin"),  # a square about the box's centre
    "rest_box": ("size", "margin"),  # the same about the box of the face at rest
    "full": ("size",),  # the whole image, its aspect kept, its edge repeated to make it square
    "five_points": ("size",),  # five points brought to the places recognition networks expect
}


def decode(data: bytes, colour: bool = True) -> np.ndarray:
    """Decodes an encoded image (JPEG, PNG, ...); a stored rotation (EXIF) is not applied.

    Args:
        data: the encoded bytes.
        colour: give RGB, whatever is stored; else the channels and depth that are stored.

    Returns:
        uint8 [H, W, 3] in RGB order, grey images repeated over the channels; with
        ``colour=False`` what the file holds, [H, W] or [H, W, C] (C in OpenCV's order).

    Raises:
        ValueError: the data is empty, truncated or no image; the message says which.
    """
    if not data:
        raise ValueError("the image is empty (0 bytes)")
    # A JPEG scan holds no marker; some decoders fill what is cut off with grey and stay silent.
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise ValueError(f"the JPEG image is cut off after {len(data)} bytes")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION if colour else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"the image cannot be decoded: {error.err}") from error
    if image is None:
        raise ValueError(f"{len(data)} bytes that are truncated, damaged or no known image format")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image) if colour else image


# --------------------------------------------------------------------------------- affine maps


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The 2x3 affine that applies `inner`, then `outer`."""
    product = outer[:, :2] @ inner
    product[:, 2] += outer[:, 2]
    return product


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a 2x3 affine, float64.

    Raises:
        ValueError: the matrix flattens the plane.
    """
    (a, b, x), (c, d, y) = np.asarray(matrix, np.float64).tolist()
    det = a * d - b * c
    if det == 0 or not math.isfinite(det):
        raise ValueError(f"the affine matrix has determinant {det} and no inverse")
    a, b, c, d = d / det, -b / det, -c / det, a / det
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Moves points [..., 2] by a 2x3 affine, in float64."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def check_preprocess(preprocess: Mapping[str, Any]) -> None:
    """Checks the `preprocess` of a protocol.

    Raises:
        UsageError: an unknown crop or key, a size that is no positive integer, a bad margin.
    """
    crop = preprocess.get("crop")
    if crop not in CROPS:
        raise UsageError(f"preprocess.crop: no crop is named {crop!r}: {nearest(str(crop), CROPS)}")
    for key in preprocess:
        if key not in ("crop", *CROPS[crop]):
            raise UsageError(f"preprocess: unknown key {key!r}: {nearest(key, CROPS[crop])}")
    size = preprocess.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UsageError(f"preprocess.size: found {size!r}, expected the crop's side in pixels")
    if crop == "five_points":
        align.template(size)
    margin = preprocess.get("margin", 0.0)
    if not isinstance(margin, (int, float)) or not -0.5 < margin < math.inf:
        raise UsageError(
            f"preprocess.margin: found {margin!r}, expected the part of the box's longer side that "
            "is added on each side, above -0.5"
        )


def crop_matrix(
    preprocess: Mapping[str, Any],
    height: int,
    width: int,
    box: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """The map from original to crop coordinates, exact to the half pixel.

    The crop is a square of side ``s = max(w, h) * (1 + 2 * margin)`` about the centre c of the
    box (crops ``box`` and ``rest_box``, each named after its field) or of the image (crop
    ``full``, no margin). Edges go to edges,
    ``[c - s/2, c + s/2] -> [-1/2, S - 1/2]``, so ``x' = (x - c + s/2) * S / s - 1/2``.
    Crop ``five_points`` is the similarity of `align.similarity`.

    Args:
        preprocess: ``{"crop": "box", "size": S, "margin": m}`` or ``{"crop": "full", "size": S}``,
            or ``{"crop": "five_points", "size": S}``.
        height: of the original image, pixels.
        width: of the original image, pixels.
        box: (x0, y0, x1, y1) in pixels, or the five points [5, 2]; not needed by crop ``full``.

    Returns:
        float64 [2, 3].

    Raises:
        ValueError: a crop by a box without a box, or the box is empty or not finite; five points
            that give no alignment.
    """
    size = preprocess["size"]
    crop = preprocess["crop"]
    if crop == "full":
        x0, y0, x1, y1 = -0.5, -0.5, width - 0.5, height - 0.5
    elif box is None:
        raise ValueError(f"crop {crop!r} needs the field {crop!r}, which the dataset does not have")
    elif crop == "five_points":
        try:
            return align.similarity(np.asarray(box), size)
        except FacebenchError as error:
            raise ValueError(str(error)) from error
    else:
        x0, y0, x1, y1 = (float(v) for v in box)
    side = max(x1 - x0, y1 - y0) * (1 + 2 * preprocess.get("margin", 0.0))
    if not (x1 > x0 and y1 > y0 and math.isfinite(side)):
        raise ValueError(f"the box {[x0, y0, x1, y1]} is empty; expected x0 < x1 and y0 < y1")
    scale = size / side
    return np.array(
        [
            [scale, 0, (side / 2 - (x0 + x1) / 2) * scale - 0.5],
            [0, scale, (side / 2 - (y0 + y1) / 2) * scale - 0.5],
        ]
    )


def warp(
    image: np.ndarray,
    points: np.ndarray | None,
    matrix: np.ndarray,
    size: int,
    crop: str = "box",
) -> tuple[np.ndarray, np.ndarray | None]:
    """Moves an image and its points by one matrix.

    Bilinear interpolation; what lies outside the image repeats its edge. Crop ``five_points`` is
    as published: black outside of the image, and nothing else is done. Other crops: where it is
    smaller than the original by a factor of 2 or more, the image is first averaged over blocks
    of whole pixels (f = the integer part of the factor), whose centres stand at
    ``(x + 1/2) / f - 1/2``, so fine texture does not alias and nothing shifts.

    Args:
        image: uint8 [H, W, 3].
        points: [K, 2] in original pixels, or None.
        matrix: [2, 3], original to crop coordinates.
        size: S, the crop's side in pixels.
        crop: by which rule, see `CROPS`.

    Returns:
        the crop, uint8 [S, S, 3], and the points in crop pixels, float64 [K, 2].
    """
    pixels, published = matrix, crop == "five_points"
    factor = int(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]) ** -0.5 + 1e-9)
    if factor >= 2 and not published:
        image = _shrink(image, factor)
        # from block coordinates back to the original's, then to the crop
        centre = (factor - 1) / 2
        pixels = compose(matrix, np.array([[factor, 0, centre], [0, factor, centre]], float))
    # Four channels have a vector path in OpenCV that three have not: less than half the time.
    made = cv2.warpAffine(
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA),
        invert(pixels),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,  # the matrix is from crop to original
        borderMode=cv2.BORDER_CONSTANT if published else cv2.BORDER_REPLICATE,
        borderValue=0,
    )
    made = cv2.cvtColor(made, cv2.COLOR_RGBA2RGB)
    return made, None if points is None else apply(matrix, points)


def warp_labels(labels: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Moves a map of class numbers as `warp` moves its image: the nearest pixel's class.

    Args:
        labels: uint8 [H, W].
        matrix: [2, 3], original to crop coordinates.
        size: S, the crop's side in pixels.

    Returns:
        uint8 [S, S], 255 (unknown) where the crop is outside of the original.
    """
    return cv2.warpAffine(
        labels,
        invert(matrix),
        (size, size),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=255,
    )


def _shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over `factor` x `factor` blocks; the last ones are filled by repeating the edge."""
    height, width = image.shape[:2]
    down, right = -height % factor, -width % factor
    if down or right:
        image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE)
    blocks = ((width + right) // factor, (height + down) // factor)
    return cv2.resize(image, blocks, interpolation=cv2.INTER_AREA)


# -------------------------------------------------------------------------------- augmentation


@dataclasses.dataclass(frozen=True)
class Augment:
    """Random augmentation of a training crop; every default leaves it as it is.

    Attributes:
        rotation: largest angle about the crop's centre, radians, either way.
        scale: the crop is enlarged or reduced by a factor of at most 1 + scale, log-uniform.
        shift: largest shift along x and along y, as a part of the crop's side.
        flip: probability of a left-right mirror image.
        brightness: factor in [1 - brightness, 1 + brightness].
        contrast: factor in [1 - contrast, 1 + contrast] about the image's mean luma.
        saturation: factor in [1 - saturation, 1 + saturation] about each pixel's luma.
        grey: probability of a grey image.
        blur: largest standard deviation of a Gaussian blur, crop pixels, uniform from 0.
        cutout: largest side of a mid-grey square, as a part of the crop's side, uniform from 0.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    cutout: float = 0.0

    @classmethod
    def of(cls, values: Mapping[str, Any] | None) -> Augment:
        """Reads the `augment` of a config.

        Raises:
            UsageError: an unknown name or a value out of its range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name, value in (values or {}).items():
            if name not in known:
                raise UsageError(f"augment: unknown name {name!r}: {nearest(name, known)}")
            top = {"rotation": math.pi, "scale": 9.0, "blur": 100.0}.get(name, 1.0)
            if (
                not isinstance(value, (int, float))
                or isinstance(value, bool)
                or not 0 <= value <= top
            ):
                raise UsageError(f"augment.{name}: found {value!r}, expected 0 to {top:.4g}")
        return cls(**(values or {}))


def random_matrix(augment: Augment, size: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Draws the geometric part of an augmentation, within crop coordinates.

    Rotation and scale about the crop's centre ((S - 1) / 2, (S - 1) / 2), then the shift, then
    the mirror image ``x -> S - 1 - x``.

    Returns:
        float64 [2, 3] from crop to augmented crop, and whether it mirrors.
    """
    angle = rng.uniform(-augment.rotation, augment.rotation) if augment.rotation else 0.0
    log = math.log1p(augment.scale)
    scale = math.exp(rng.uniform(-log, log)) if log else 1.0
    x, y = rng.uniform(-augment.shift, augment.shift, 2) * size if augment.shift else (0.0, 0.0)
    mirrored = bool(augment.flip) and rng.random() < augment.flip
    centre = (size - 1) / 2
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    matrix = np.array(
        [
            [a, -b, centre + x - (a - b) * centre],
            [b, a, centre + y - (a + b) * centre],
        ]
    )
    return (compose(flip_matrix(size), matrix) if mirrored else matrix), mirrored


def flip_matrix(size: int) -> np.ndarray:
    """The mirror image of a crop: ``x -> S - 1 - x``; float64 [2, 3]."""
    return np.array([[-1.0, 0.0, size - 1.0], [0.0, 1.0, 0.0]])


_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def photometric(image: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Draws and applies the photometric part of an augmentation.

    Brightness, contrast, saturation and grey are one affine map of the colours,
    ``b * (c * S x + (1 - c) * mean)`` with ``S = s I + (1 - s) 1 luma^T``, rounded once.

    Args:
        image: uint8 [S, S, 3], RGB; may be changed in place.
        augment: what to draw.
        rng: the sample's own generator.

    Returns:
        uint8 [S, S, 3].
    """
    size = image.shape[0]

    def factor(spread: float) -> float:
        return rng.uniform(1 - spread, 1 + spread) if spread else 1.0

    b, c, s = factor(augment.brightness), factor(augment.contrast), factor(augment.saturation)
    if augment.grey and rng.random() < augment.grey:
        s = 0.0
    if (b, c, s) != (1.0, 1.0, 1.0):
        colour = np.empty((3, 4))
        colour[:, :3] = b * c * (s * np.eye(3) + (1 - s) * _LUMA)
        colour[:, 3] = b * (1 - c) * np.dot(cv2.mean(image)[:3], _LUMA)
        image = cv2.transform(image, colour)
    if augment.blur and (sigma := rng.uniform(0, augment.blur)) > 0.1:
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    if augment.cutout:
        side = rng.uniform(0, augment.cutout) * size
        x, y = rng.uniform(0, size, 2)
        rows = slice(max(round(y - side / 2), 0), max(round(y + side / 2), 0))
        image[rows, max(round(x - side / 2), 0) : max(round(x + side / 2), 0)] = 128
    return image
