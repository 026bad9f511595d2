"""From linear light to grey levels: contact shadows, lenses, the tone curve."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from facebench.synth import raster
from facebench.synth.compiled import kernel
from facebench.synth.numeric import Array, quantise
from facebench.synth.recipe import LIGHT
from facebench.synth.resolve import GRID
from facebench.synth.shade import highlight, mirrored
from facebench.synth.strands import unit

_STEPS = 4096  # of the tone curve per unit of light
_TOP = 4.0


@lru_cache(maxsize=1)
def curve() -> Array:
    """Grey levels 0 to 255 of light from 0 to 4 in steps of 1 / 4096.

    Straight up to a knee, then a shoulder that rolls off towards white, and a short toe; then the
    transfer of sRGB (IEC 61966-2-1).
    """
    x = np.arange(int(_STEPS * _TOP) + 2) / _STEPS
    knee = 0.42
    t = np.maximum(x - knee, 0.0) / (1.0 - knee)
    y = np.minimum(x, knee) + (1.0 - knee) * t / (1.0 + t**1.7) ** (1 / 1.7)
    y = y * (0.90 + 0.10 * np.minimum(y / 0.06, 1.0))
    y = np.clip(y, 0.0, 1.0)
    shown = np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)
    return quantise(255.0 * shown)


@kernel
def develop(linear: Array, tint: Array, table: Array) -> Array:
    """Grey levels [3, S, S] of linear light by the tone curve, between its steps linearly."""
    size = linear.shape[1]
    out = np.empty((3, size, size))
    last = table.shape[0] - 2
    for c in range(3):
        for j in range(size):
            for i in range(size):
                x = max(linear[c, j, i], 0.0) * _STEPS * tint[c]
                k = int(min(x, float(last)))
                f = min(x - k, 1.0)
                out[c, j, i] = table[k] + (table[k + 1] - table[k]) * f
    return out


@kernel
def rounded(grey: Array) -> Array:
    """Grey levels [3, S, S] as a picture, uint8 [S, S, 3]."""
    size = grey.shape[1]
    out = np.empty((size, size, 3), np.uint8)
    for j in range(size):
        for i in range(size):
            for c in range(3):
                out[j, i, c] = int(min(max(grey[c, j, i], 0.0), 255.0) + 0.5)
    return out


@kernel
def softened(share: Array, radius: int, right: int, down: int) -> Array:
    """A box blur of side 2 radius + 1, twice, moved by whole pixels; outside is 0."""
    size = share.shape[0]
    a = np.zeros((size, size))
    for j in range(size):
        for i in range(size):
            y, x = j - down, i - right
            if 0 <= y < size and 0 <= x < size:
                a[j, i] = share[y, x]
    b = np.zeros((size, size))
    scale = 1.0 / (2 * radius + 1)
    for turn in range(4):
        for j in range(size):
            total = 0.0
            for i in range(-radius, size):
                if i + radius < size:
                    total += a[j, i + radius] if turn % 2 == 0 else a[i + radius, j]
                if i - radius - 1 >= 0:
                    total -= a[j, i - radius - 1] if turn % 2 == 0 else a[i - radius - 1, j]
                if i >= 0:
                    if turn % 2 == 0:
                        b[j, i] = total * scale
                    else:
                        b[i, j] = total * scale
        a, b = b, a
    return a


@kernel
def lenses(
    K: Array, triangles: Array, normal: Array, colour: Array, shine: Array,
    passes: Array, best: Array, clear: Array, linear: Array, size: int,
) -> None:  # fmt: skip
    """Lays clear sheets over the picture: they dim by their colour and mirror the surroundings.

    Args:
        K: the recipe.
        triangles: int64 [3, T].
        normal: float64 [3, V].
        colour: float64 [3, V].
        shine: float64 [T] how glossy.
        passes: float64 [T] the share of light that passes.
        best: keys of what is opaque.
        clear: keys of the sheets.
        linear: float64 [4, S, S], written to.
        size: S.
    """
    side = size * GRID
    mask = (1 << raster.BITS) - 1
    share = 1.0 / (GRID * GRID)
    for j in range(size):
        for i in range(size):
            count, t = 0, -1
            for s in range(GRID * GRID):
                at = (j * GRID + s // GRID) * side + i * GRID + s % GRID
                if clear[at] and (clear[at] >> raster.BITS) > (best[at] >> raster.BITS):
                    count += 1
                    t = int(clear[at] & mask)
            if count == 0:
                continue
            a, b, c = triangles[0, t], triangles[1, t], triangles[2, t]
            # lenses are flat enough for one normal and colour per triangle
            x, y, z = unit(
                normal[0, a] + normal[0, b] + normal[0, c],
                normal[1, a] + normal[1, b] + normal[1, c],
                normal[2, a] + normal[2, b] + normal[2, c],
            )
            if z < 0.0:
                x, y, z = -x, -y, -z
            rim = 1.0 - min(max(z, 0.0), 1.0)
            back = (0.035 + 0.5 * rim * rim * rim * rim) * (0.4 + 0.6 * shine[t])
            top = back * mirrored(K, x, y, z) + 0.35 * shine[t] * highlight(K, x, y, z, 0.06, 0.5)
            for n in range(3):
                hue = colour[n, a]
                kept = passes[t] * (0.55 + 0.45 * hue)
                own = (1.0 - passes[t]) * hue * 0.5 * max(0.282095 * K[LIGHT], 0.0)
                old = linear[n, j, i]
                new = old * kept + own + top
                linear[n, j, i] = old + (new - old) * (count * share)
