"""What a camera does to light: blur of the lens, noise of the sensor, loss of a JPEG.

Everything here is exact arithmetic (see `facebench.synth.numeric`): sums run in a fixed order, and
the tables are rounded, so that the bytes are the same on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from facebench.errors import FacebenchError
from facebench.synth.numeric import Array, Draws, quantise
from facebench.synth.portrait import check

_REACH = 3.5  # standard deviations after which a Gaussian is cut
_READ = 0.2  # part of the noise's variance at mid grey that comes from reading the sensor out
_DARK = 40.0  # grey levels that keep the read noise of black finite


def square(owner: str, name: str, value: object, dtype: type, channels_last: bool) -> Array:
    """Refuses what is no square picture of three channels (and of this dtype)."""
    wanted = "[S, S, 3]" if channels_last else "[3, S, S]"
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        found = getattr(value, "dtype", type(value).__name__)
        raise FacebenchError(
            f"{owner}.{name}: found {found}, expected {wanted} of {np.dtype(dtype)}"
        )
    shape = value.shape if channels_last else value.shape[1:] + value.shape[:1]
    if len(shape) != 3 or shape[2] != 3 or shape[0] != shape[1] or shape[0] == 0:
        raise FacebenchError(f"{owner}.{name}: found shape {value.shape}, expected {wanted}")
    return value


@lru_cache(maxsize=256)
def gaussian(sigma: float) -> Array:
    """One half of a Gaussian kernel, [r + 1] from its middle outwards; the whole one sums to 1.

    The weights are multiples of 2^-20; the middle takes what rounding leaves.

    Args:
        sigma: standard deviation, pixels.
    """
    r = max(1, int(np.ceil(_REACH * sigma)))
    half = np.exp(-0.5 * (np.arange(r + 1) / sigma) ** 2)
    half = quantise(half / (2.0 * half.sum() - half[0]))
    half[0] = 1.0 - 2.0 * float(half[1:].sum())
    half.setflags(write=False)
    return half


@njit(cache=True, error_model="numpy")
def convolve(image: Array, half: Array, out: Array) -> None:
    """`image` [N, H, W] with a symmetric kernel along both axes, edges repeated, into `out`."""
    n, height, width = image.shape
    r = half.shape[0] - 1
    line = np.empty(width + 2 * r)
    rows = np.empty((height, width))
    for k in range(n):
        for i in range(height):
            for j in range(r):
                line[j] = image[k, i, 0]
                line[width + r + j] = image[k, i, width - 1]
            for j in range(width):
                line[r + j] = image[k, i, j]
            for j in range(width):
                rows[i, j] = half[0] * line[r + j]
            for d in range(1, r + 1):
                h = half[d]
                for j in range(width):
                    rows[i, j] += h * (line[r + j - d] + line[r + j + d])
        for i in range(height):
            for j in range(width):
                out[k, i, j] = half[0] * rows[i, j]
            for d in range(1, r + 1):
                h = half[d]
                above, below = max(i - d, 0), min(i + d, height - 1)
                for j in range(width):
                    out[k, i, j] += h * (rows[above, j] + rows[below, j])


def blur(linear: Array, sigma_px: float) -> Array:
    """Blurs a picture as a lens out of focus does: a Gaussian, edges repeated.

    Args:
        linear: [3, S, S] float64.
        sigma_px: standard deviation of the Gaussian, pixels, 0 (nothing) to 128.

    Returns:
        [3, S, S] float64.

    Raises:
        FacebenchError: a wrong shape or dtype, or a sigma out of its range.
    """
    square("sensor.blur", "linear", linear, np.float64, False)
    check("sensor.blur", "sigma_px", sigma_px, 0, 128, False)
    out = linear.copy()
    if sigma_px > 0.0:
        convolve(np.ascontiguousarray(linear), gaussian(float(sigma_px)), out)
    return out


@njit(cache=True, error_model="numpy")
def _add_noise(grey: Array, words: Array, strength: float, out: Array) -> None:
    """Adds noise to `grey` [3, S, S]; `words` are uint32, one for each raw sensor value."""
    _, height, width = grey.shape
    wide = width + 2
    plane = (height + 2) * wide
    raw = np.empty(4 * plane, np.int64)
    for i in range(4 * plane):  # a sum of four bytes is bell-shaped: mean 510, variance 21845
        w = np.int64(words[i])
        raw[i] = (w & 255) + ((w >> 8) & 255) + ((w >> 16) & 255) + (w >> 24) - 510
    # own value twice, the one shared by the channels once; six parts itself, one each neighbour
    scale = strength / np.sqrt(21845.0 * 5.0 * 40.0)
    mixed = np.empty(plane, np.int64)
    top = (127.5 + _DARK) * (127.5 + _DARK)
    for k in range(3):
        for i in range(plane):
            mixed[i] = 2 * raw[(k + 1) * plane + i] + raw[i]
        for i in range(height):
            for j in range(width):
                at = (i + 1) * wide + j + 1
                around = mixed[at - 1] + mixed[at + 1] + mixed[at - wide] + mixed[at + wide]
                level = min(max(grey[k, i, j], 0.0), 255.0) + _DARK
                gain = np.sqrt((1.0 - _READ) + _READ * top / (level * level))
                out[k, i, j] = grey[k, i, j] + float(6 * mixed[at] + around) * (scale * gain)


def noise(grey: Array, strength: float, key: str) -> Array:
    """Adds the noise of a sensor, of mean 0.

    A sensor counts photons (variance in proportion to the light: shot noise) and adds the same
    read noise everywhere (Foi et al., "Practical Poissonian-Gaussian noise modeling", 2008). After
    a square-root tone curve the first is the same at all grey levels and the second falls with
    the level, so shadows are noisier. Neighbours (0.3) and channels (0.2) are correlated a little,
    as interpolating the colour filter's mosaic leaves them.

    Args:
        grey: [3, S, S] float64, grey levels 0 to 255.
        strength: standard deviation at mid grey (127.5), grey levels, 0 to 50.
        key: names the noise; equal keys give equal noise.

    Returns:
        [3, S, S] float64, neither rounded nor clipped.

    Raises:
        FacebenchError: a wrong shape or dtype, a strength out of its range, a key that is no text.
    """
    square("sensor.noise", "grey", grey, np.float64, False)
    check("sensor.noise", "strength", strength, 0, 50, False)
    if not isinstance(key, str):
        raise FacebenchError(f"sensor.noise.key: found {key!r}, expected a text")
    out = grey.copy()
    if strength > 0.0:
        n = 4 * (grey.shape[1] + 2) * (grey.shape[2] + 2)
        words = Draws(key).words((n + 1) // 2).astype("<u8", copy=False).view("<u4")
        _add_noise(np.ascontiguousarray(grey), words, float(strength), out)
    return out


# Annex K of the JPEG standard (ITU-T T.81, 1992), tables K.1 and K.2: luminance, chrominance.
_QUANTISERS = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
], np.int64).reshape(2, 8, 8)  # fmt: skip


@lru_cache(maxsize=128)
def quantisers(quality: int) -> Array:
    """The tables of a quality as the Independent JPEG Group scales them: [2, 8, 8] float64."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    out = np.clip((_QUANTISERS * scale + 50) // 100, 1, 255).astype(np.float64)
    out.setflags(write=False)
    return out


@lru_cache(maxsize=1)
def _cosines() -> Array:
    """The 8-point DCT-II, [frequency, place]."""
    k, i = np.arange(8)[:, None], np.arange(8)[None]
    out = 0.5 * np.cos((2 * i + 1) * k * np.pi / 16)
    out[0] *= np.sqrt(0.5)
    return quantise(out, 24)


@njit(cache=True, error_model="numpy")
def _there(source: Array, dct: Array, out: Array) -> None:
    """out[k] = dct @ source[:, k]: each column's DCT becomes a row; even and odd halves."""
    for k in range(8):
        s0, d0 = source[0, k] + source[7, k], source[0, k] - source[7, k]
        s1, d1 = source[1, k] + source[6, k], source[1, k] - source[6, k]
        s2, d2 = source[2, k] + source[5, k], source[2, k] - source[5, k]
        s3, d3 = source[3, k] + source[4, k], source[3, k] - source[4, k]
        for f in range(0, 8, 2):
            out[k, f] = ((dct[f, 0] * s0 + dct[f, 1] * s1) + dct[f, 2] * s2) + dct[f, 3] * s3
        for f in range(1, 8, 2):
            out[k, f] = ((dct[f, 0] * d0 + dct[f, 1] * d1) + dct[f, 2] * d2) + dct[f, 3] * d3


@njit(cache=True, error_model="numpy")
def _back(source: Array, dct: Array, out: Array) -> None:
    """out[k] = dct.T @ source[:, k]: the inverse of `_there`."""
    for k in range(8):
        c0, c1, c2, c3 = source[0, k], source[1, k], source[2, k], source[3, k]
        c4, c5, c6, c7 = source[4, k], source[5, k], source[6, k], source[7, k]
        for i in range(4):
            even = ((dct[0, i] * c0 + dct[2, i] * c2) + dct[4, i] * c4) + dct[6, i] * c6
            odd = ((dct[1, i] * c1 + dct[3, i] * c3) + dct[5, i] * c5) + dct[7, i] * c7
            out[k, i], out[k, 7 - i] = even + odd, even - odd


@njit(cache=True, error_model="numpy")
def _squeeze(plane: Array, table: Array, dct: Array) -> None:
    """Quantises the DCT of each 8 x 8 block of `plane` (whole numbers 0 to 255), in place."""
    a, b, step = np.empty((8, 8)), np.empty((8, 8)), 1.0 / table
    for top in range(0, plane.shape[0], 8):
        for left in range(0, plane.shape[1], 8):
            for i in range(8):
                for j in range(8):
                    a[i, j] = float(plane[top + i, left + j]) - 128.0
            _there(a, dct, b)
            _there(b, dct, a)
            for i in range(8):
                for j in range(8):
                    size = np.floor(abs(a[i, j]) * step[i, j] + 0.5) * table[i, j]
                    a[i, j] = size if a[i, j] >= 0.0 else -size
            _back(a, dct, b)
            _back(b, dct, a)
            for i in range(8):
                for j in range(8):
                    level = np.floor(a[i, j] + 128.5)
                    plane[top + i, left + j] = int(min(max(level, 0.0), 255.0))


@njit(cache=True, error_model="numpy")
def _upsample(small: Array, height: int, width: int) -> Array:
    """Twice as many rows and columns: nearest 3/4, next 1/4, each way, inside `height`, `width`.

    The two columns of a pair round up and down in turn, as decoders do.
    """
    out = np.empty((2 * height, 2 * width), np.int64)
    if width <= 2:  # decoders repeat what is this narrow
        for i in range(2 * height):
            for j in range(2 * width):
                out[i, j] = small[i // 2, j // 2]
        return out
    line = np.empty(width, np.int64)
    for i in range(2 * height):
        near = i // 2
        far = min(max(near - 1 if i % 2 == 0 else near + 1, 0), height - 1)
        for j in range(width):
            line[j] = 3 * small[near, j] + small[far, j]
        for j in range(width):
            before, after = line[max(j - 1, 0)], line[min(j + 1, width - 1)]
            out[i, 2 * j] = (3 * line[j] + before + 8) >> 4
            out[i, 2 * j + 1] = (3 * line[j] + after + 7) >> 4
    return out


@njit(cache=True, error_model="numpy")
def _byte(x: int) -> int:
    return min(max(x, 0), 255)


@njit(cache=True, error_model="numpy")
def _jpeg(image: Array, tables: Array, dct: Array, out: Array) -> None:
    """What coding and decoding does to `image` [H, W, 3]; colours are turned in steps of 2^-16."""
    height, width = image.shape[0], image.shape[1]
    rows, columns = (height + 15) // 16 * 16, (width + 15) // 16 * 16
    y = np.empty((rows, columns), np.int64)
    full = np.empty((2, rows, columns), np.int64)
    for i in range(rows):
        for j in range(columns):
            r = np.int64(image[min(i, height - 1), min(j, width - 1), 0])
            g = np.int64(image[min(i, height - 1), min(j, width - 1), 1])
            b = np.int64(image[min(i, height - 1), min(j, width - 1), 2])
            y[i, j] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
            full[0, i, j] = (-11059 * r - 21709 * g + 32768 * b + 8421375) >> 16
            full[1, i, j] = (32768 * r - 27439 * g - 5329 * b + 8421375) >> 16
    _squeeze(y, tables[0], dct)
    h2, w2 = (height + 1) // 2, (width + 1) // 2
    half = np.empty((rows // 2, columns // 2), np.int64)
    chroma = np.empty((2, 2 * h2, 2 * w2), np.int64)
    for k in range(2):
        for i in range(rows // 2):
            for j in range(columns // 2):
                a = 2 * min(i, h2 - 1)  # below the picture coders repeat rows of halved chroma
                four = full[k, a, 2 * j] + full[k, a, 2 * j + 1]
                four += full[k, a + 1, 2 * j] + full[k, a + 1, 2 * j + 1]
                half[i, j] = (four + 1 + (j & 1)) >> 2
        _squeeze(half, tables[1], dct)
        chroma[k] = _upsample(half, h2, w2)
    for i in range(height):
        for j in range(width):
            cb, cr = chroma[0, i, j] - 128, chroma[1, i, j] - 128
            out[i, j, 0] = _byte(y[i, j] + ((91881 * cr + 32768) >> 16))
            out[i, j, 1] = _byte(y[i, j] + ((-22554 * cb - 46802 * cr + 32768) >> 16))
            out[i, j, 2] = _byte(y[i, j] + ((116130 * cb + 32768) >> 16))


def jpeg(image: Array, quality: int) -> Array:
    """What a baseline JPEG of this quality does to a picture (ITU-T T.81; JFIF 1.02).

    YCbCr (BT.601, full range), chroma at half the rows and columns, the standard's example
    quantisers scaled by the Independent JPEG Group's rule, and back with smooth chroma. Entropy
    coding loses nothing and is left out.

    Args:
        image: uint8 [S, S, 3] RGB, any size.
        quality: 5 to 100.

    Returns:
        uint8 [S, S, 3].

    Raises:
        FacebenchError: a wrong shape or dtype, or a quality out of its range.
    """
    square("sensor.jpeg", "image", image, np.uint8, True)
    check("sensor.jpeg", "quality", quality, 5, 100, True)
    out = np.empty_like(image, order="C")
    _jpeg(np.ascontiguousarray(image), quantisers(int(quality)), _cosines(), out)
    return out
