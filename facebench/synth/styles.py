"""Ways of drawing a photograph: pencil sketch, posterised print, cartoon.

All sizes are parts of the picture's side, so a face looks alike at 64 and at 224 px. Everything is
exact arithmetic (see `facebench.synth.numeric`): whole numbers where sums are taken, tables for
what is not plus, minus, times, divide or a square root.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from facebench.errors import FacebenchError, nearest
from facebench.synth import sensor
from facebench.synth.numeric import Array, Draws, quantise
from facebench.synth.portrait import FILTERS, check

_PAPER = (252.0, 249.0, 242.0)  # RGB of drawing paper
_PENCIL = (44.0, 43.0, 48.0)
_TILE = 128  # cells of the paper's grain


@njit(cache=True, error_model="numpy")
def _ramp(x: float, low: float, high: float) -> float:
    t = min(max((x - low) * (1.0 / (high - low)), 0.0), 1.0)
    return float(t * t * (3.0 - 2.0 * t))


@njit(cache=True, error_model="numpy")
def _light(image: Array, out: Array) -> None:
    """Luminance (BT.601) of uint8 [H, W, 3] as float64 [H, W]."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            r, g, b = np.int64(image[i, j, 0]), np.int64(image[i, j, 1]), np.int64(image[i, j, 2])
            out[i, j] = float(306 * r + 601 * g + 117 * b) * (1.0 / 1024.0)


@njit(cache=True, error_model="numpy")
def _quadrants(image: Array, r: int, out: Array) -> None:
    """Smooths areas and keeps their edges: a Kuwahara filter with soft choice, [H, W, 3].

    Each pixel takes the means of the four squares of side r + 1 that meet in it, weighed by the
    inverse square of their variance (Kuwahara et al., 1976; the soft choice after Papari et al.,
    "Artistic edge and corner enhancing smoothing", 2007). Sums are whole numbers.
    """
    height, width = image.shape[0], image.shape[1]
    sums = np.zeros((height + 2 * r + 1, width + 2 * r + 1, 5), np.int64)
    line = np.zeros(5, np.int64)
    for i in range(height + 2 * r):
        line[:] = 0
        a = min(max(i - r, 0), height - 1)
        for j in range(width + 2 * r):
            b = min(max(j - r, 0), width - 1)
            red, green, blue = (
                np.int64(image[a, b, 0]), np.int64(image[a, b, 1]), np.int64(image[a, b, 2])
            )  # fmt: skip
            y = (306 * red + 601 * green + 117 * blue + 512) >> 10
            line[0] += red
            line[1] += green
            line[2] += blue
            line[3] += y
            line[4] += y * y
            for k in range(5):
                sums[i + 1, j + 1, k] = sums[i, j + 1, k] + line[k]
    n = (r + 1) * (r + 1)
    mean = np.zeros(3)
    for i in range(height):
        for j in range(width):
            total = 0.0
            mean[:] = 0.0
            for q in range(4):
                top, left = i + (q // 2) * r, j + (q % 2) * r
                end, right = top + r + 1, left + r + 1
                y = (
                    sums[end, right, 3]
                    - sums[top, right, 3]
                    - sums[end, left, 3]
                    + sums[top, left, 3]
                )
                yy = (
                    sums[end, right, 4]
                    - sums[top, right, 4]
                    - sums[end, left, 4]
                    + sums[top, left, 4]
                )
                spread = float(n * yy - y * y) * (1.0 / float(n * n)) + 2.0
                w = 1.0 / (spread * spread)
                total += w
                for k in range(3):
                    part = sums[end, right, k] - sums[top, right, k]
                    mean[k] += w * float(part - sums[end, left, k] + sums[top, left, k])
            scale = 1.0 / (total * float(n))
            for k in range(3):
                out[i, j, k] = mean[k] * scale


@njit(cache=True, error_model="numpy")
def _stairs(x: float, steps: float, soft: float) -> float:
    """Puts x in [0, 1] on levels, with ramps `soft` wide (parts of a step) on both sides."""
    place = min(max(x, 0.0), 1.0) * steps
    k = np.floor(place)
    return (k + _ramp(place - k, 0.5 - soft, 0.5 + soft)) * (1.0 / steps)


@njit(cache=True, error_model="numpy")
def _recolour(rgb: Array, steps: float, soft: float, vivid: float, out: Array) -> None:
    """Puts the luminance of each pixel on levels and keeps its hue, [H, W, 3]."""
    for i in range(rgb.shape[0]):
        for j in range(rgb.shape[1]):
            r, g, b = rgb[i, j, 0], rgb[i, j, 1], rgb[i, j, 2]
            y = 0.299 * r + 0.587 * g + 0.114 * b
            new = 255.0 * _stairs(y * (1.0 / 255.0), steps, soft)
            new = 10.0 + new * (245.0 / 255.0)
            scale = new / max(y, 1.0) * vivid
            # colour away from grey; what would leave the range is drawn back, hue kept
            away = max(max(r - y, g - y), b - y) * scale
            below = max(max(y - r, y - g), y - b) * scale
            fit = 1.0
            if away > 255.0 - new:
                fit = (255.0 - new) / away
            if below * fit > new:
                fit = new / below
            scale = scale * fit
            out[i, j, 0] = new + (r - y) * scale
            out[i, j, 1] = new + (g - y) * scale
            out[i, j, 2] = new + (b - y) * scale


@njit(cache=True, error_model="numpy")
def _outline(fine: Array, coarse: Array, gain: float, ink: Array, out: Array) -> None:
    """Draws dark lines where `fine` is darker than `coarse` [H, W], into `out` [H, W, 3]."""
    for i in range(fine.shape[0]):
        for j in range(fine.shape[1]):
            d = (coarse[i, j] - fine[i, j]) * (gain / (coarse[i, j] + 24.0))
            line = 0.92 * _ramp(d, 0.035, 0.11)
            for k in range(3):
                out[i, j, k] += line * (ink[k] - out[i, j, k])


@lru_cache(maxsize=1)
def _grain() -> Array:
    """The paper's tooth, [128, 128] in [-1, 1], periodic: noise smoothed a little."""
    raw = Draws("styles", "paper").uniform(_TILE * _TILE, -1.0, 1.0).reshape(_TILE, _TILE)
    wide = sum(np.roll(raw, s, axis) for s in (-1, 1) for axis in (0, 1))
    return quantise((raw * 2 + wide) / 4.0)


@njit(cache=True, error_model="numpy")
def _read(table: Array, x: float, y: float) -> float:
    """The paper's grain at a real place."""
    i, j = np.floor(y), np.floor(x)
    f, g = y - i, x - j
    a, b = int(i) & (_TILE - 1), int(j) & (_TILE - 1)
    c, d = (a + 1) & (_TILE - 1), (b + 1) & (_TILE - 1)
    top = table[a, b] * (1.0 - g) + table[a, d] * g
    return float(top * (1.0 - f) + (table[c, b] * (1.0 - g) + table[c, d] * g) * f)


@njit(cache=True, error_model="numpy")
def _stroke(along: float, across: float, thick: float, grain: Array) -> float:
    """Parallel strokes one unit apart, in [0, 1]; a hand wavers and lifts the pencil."""
    wave = across + 0.35 * _read(grain, along * 0.06 + 17.3, across * 0.11)
    k = np.floor(wave)
    d = abs(wave - k - 0.5) * 2.0
    press = 0.8 + 0.45 * _read(grain, along * 0.35, k * 7.31)
    return float((1.0 - _ramp(d, thick, thick + 0.55)) * min(max(press, 0.0), 1.0))


@njit(cache=True, error_model="numpy")
def _pencil(
    light: Array, fine: Array, coarse: Array, wide: Array, grain: Array, out: Array
) -> None:
    """Lines, three layers of strokes and the paper's grain, [H, W, 3] in grey levels."""
    height, width = light.shape
    pitch = min(30.0 / float(height), 0.40)  # strokes per pixel; finer ones would alias
    tooth = 110.0 / float(height)
    for i in range(height):
        for j in range(width):
            y, x = float(i) + 0.5, float(j) + 0.5
            grainy = _read(grain, x * tooth, y * tooth)
            # lines: darker than what is around (thin), and the classic dodge of a blurred negative
            d = (coarse[i, j] - fine[i, j]) / (coarse[i, j] + 16.0)
            line = _ramp(d, 0.008, 0.085)
            dodge = min(fine[i, j] / (wide[i, j] + 4.0), 1.0)
            line = max(line, 1.0 - dodge * dodge)
            tone = fine[i, j] * (1.0 / 255.0)
            u, v = (x + y) * 0.7071067811865476 * pitch, (x - y) * 0.7071067811865476 * pitch
            a, b = (x + 0.45 * y) * 0.912 * pitch, (y - 0.45 * x) * 0.912 * pitch
            hatch = 0.40 * (1.0 - _ramp(tone, 0.36, 0.72))
            if hatch > 0.0:
                hatch = hatch * _stroke(v, u, 0.15, grain)
            cross = 0.62 * (1.0 - _ramp(tone, 0.20, 0.46))
            if cross > hatch:
                hatch = max(hatch, cross * _stroke(u, v, 0.18, grain))
            deep = 1.0 - _ramp(tone, 0.06, 0.30)
            if 0.82 * deep > hatch:
                hatch = max(hatch, 0.82 * deep * _stroke(a, b, 0.35, grain))
            smear = 0.34 * (1.0 - _ramp(tone, 0.10, 0.80)) + 0.28 * deep
            dark = 1.0 - (1.0 - 0.92 * line) * (1.0 - hatch) * (1.0 - smear)
            dark = dark * (1.0 + 0.22 * grainy) + 0.012 * grainy
            dark = min(max(dark, 0.0), 1.0)
            for k in range(3):
                out[i, j, k] = _PAPER[k] + dark * (_PENCIL[k] - _PAPER[k])


@njit(cache=True, error_model="numpy")
def _blend(image: Array, full: Array, strength: float, out: Array) -> None:
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            for k in range(3):
                a = float(image[i, j, k])
                x = a + strength * (min(max(full[i, j, k], 0.0), 255.0) - a)
                out[i, j, k] = np.uint8(int(np.floor(x + 0.5)))


def _blurred(light: Array, sigma: float) -> Array:
    out = np.empty((1, *light.shape))
    sensor.convolve(light[None], sensor.gaussian(sigma), out)
    return out[0]


def _sketch(image: Array) -> Array:
    size = image.shape[0]
    light = np.empty((size, size))
    _light(image, light)
    out = np.empty(image.shape)
    fine = _blurred(light, 0.0045 * size)
    coarse = _blurred(light, 0.0115 * size)
    wide = _blurred(light, 0.022 * size)
    _pencil(light, fine, coarse, wide, _grain(), out)
    return out


def _posterise(image: Array) -> Array:
    size = image.shape[0]
    flat, out = np.empty(image.shape), np.empty(image.shape)
    _quadrants(image, int(size * 0.006 + 0.5), flat)
    _recolour(flat, 5.0, 0.08, 1.1, out)
    return out


def _cartoon(image: Array) -> Array:
    size = image.shape[0]
    flat, out, light = np.empty(image.shape), np.empty(image.shape), np.empty((size, size))
    _quadrants(image, max(1, int(size * 0.0185 + 0.5)), flat)
    _recolour(flat, 8.0, 0.16, 1.3, out)
    _light(image, light)
    _outline(
        _blurred(light, 0.0065 * size), _blurred(light, 0.0125 * size), 1.0,
        np.array([22.0, 16.0, 20.0]), out,
    )  # fmt: skip
    return out


_FULL = {"sketch": _sketch, "posterise": _posterise, "cartoon": _cartoon}


def apply(image: Array, style: str, strength: float) -> Array:
    """Draws a picture in a style.

    Args:
        image: uint8 [S, S, 3] RGB.
        style: one of `portrait.FILTERS`: "none"; "sketch", pencil lines and hatching on paper;
            "posterise", few levels of luminance with the hue kept; "cartoon", flat colours and
            dark outlines.
        strength: 0 (the picture itself) to 1 (the full style); between, both are blended.

    Returns:
        uint8 [S, S, 3].

    Raises:
        FacebenchError: a wrong shape or dtype, an unknown style, a strength out of [0, 1].
    """
    sensor.square("styles.apply", "image", image, np.uint8, True)
    if style not in FILTERS:
        raise FacebenchError(
            f"styles.apply.style: no style {style!r}: {nearest(str(style), FILTERS)}"
        )
    check("styles.apply", "strength", strength, 0, 1, False)
    if style == "none" or strength == 0.0:
        return image.copy()
    image = np.ascontiguousarray(image)
    out = np.empty_like(image)
    _blend(image, _FULL[style](image), float(strength), out)
    return out
