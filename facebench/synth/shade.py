"""Light on a sample: irradiance with the head's own shadow, highlights, noise.

Irradiance of nine spherical-harmonic coefficients is Ramamoorthi and Hanrahan, "An efficient
representation for irradiance environment maps", 2001, eq. 7 to 13; what the head keeps from
itself comes from `facebench.synth.transfer`.
"""

from __future__ import annotations

import math

from facebench.synth.compiled import small
from facebench.synth.numeric import Array
from facebench.synth.recipe import HALF, LIGHT, STRENGTH


@small
def smoothstep(x: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, and 3t^2 - 2t^3 between."""
    t = min(max((x - low) * (1.0 / (high - low)), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@small
def clip(x: float) -> float:
    """The nearest number in [0, 1]."""
    return min(max(x, 0.0), 1.0)


@small
def speckle(tile: Array, u: float, v: float) -> float:
    """Value noise in [-1, 1] from the repeating tile, one cell per unit."""
    a, b = math.floor(u), math.floor(v)
    f, g = u - a, v - b
    f, g = f * f * (3.0 - 2.0 * f), g * g * (3.0 - 2.0 * g)
    i, j = int(a) & 63, int(b) & 63
    k, m = (i + 1) & 63, (j + 1) & 63
    top = tile[j * 64 + i] * (1.0 - f) + tile[j * 64 + k] * f
    low = tile[m * 64 + i] * (1.0 - f) + tile[m * 64 + k] * f
    return top * (1.0 - g) + low * g


@small
def irradiance(K: Array, x: float, y: float, z: float) -> float:
    """Irradiance over pi of the light that K starts with at a unit normal, camera's axes."""
    return (
        0.282095 * K[LIGHT + 0]
        + 0.32573533 * (K[LIGHT + 1] * y + K[LIGHT + 2] * z + K[LIGHT + 3] * x)
        + 0.273137 * (K[LIGHT + 4] * (x * y) + K[LIGHT + 5] * (y * z) + K[LIGHT + 7] * (x * z))
        + 0.078848 * K[LIGHT + 6] * (3.0 * (z * z) - 1.0)
        + 0.1365685 * K[LIGHT + 8] * (x * x - y * y)
    )


@small
def floor_of(x: float, k: float) -> float:
    """A soft max(x, 0); `k` is how soft."""
    return 0.5 * (x + math.sqrt(x * x + k * k))


@small
def falling(K: Array, x: float, y: float, z: float, lost: float, open_: float, deep: float):  # type: ignore[no-untyped-def]
    """Light that reaches a surface, for red, green and blue.

    Light wanders under skin, red the farthest: shadows lose less of it and the edge of light is
    softer and warmer (Jensen et al., "A practical model for subsurface light transport", 2001,
    is what this imitates by widening the cosine lobe per colour).

    Args:
        K: the recipe.
        x: unit normal, camera's axes.
        y: the same.
        z: the same.
        lost: irradiance that the head keeps from itself here.
        open_: share of the sky that is open here, in [0, 1].
        deep: how much light wanders under the surface: 1 skin, 0 cloth.
    """
    even = 0.282095 * K[LIGHT]
    e = irradiance(K, x, y, z) - even
    shade = min(max(lost, -0.2), 0.85 * floor_of(even + e, 0.1))
    r = floor_of(even + e * (1.0 - 0.10 * deep) - shade * (1.0 - 0.30 * deep), 0.04 + 0.11 * deep)
    g = floor_of(even + e - shade * (1.0 - 0.10 * deep), 0.04 + 0.05 * deep)
    b = floor_of(even + e - shade, 0.04 + 0.04 * deep)
    # hollows fill with light that the surface throws on itself, redder for skin
    dark = 1.0 - open_
    r = r * (1.0 - 0.30 * dark * (1.0 - 0.45 * deep))
    g = g * (1.0 - 0.34 * dark * (1.0 - 0.10 * deep))
    b = b * (1.0 - 0.36 * dark)
    return r, g, b


@small
def highlight(K: Array, x: float, y: float, z: float, broad: float, tight: float) -> float:
    """Light mirrored towards the viewer: a broad and a tight lobe about the strongest light."""
    c = x * K[HALF] + y * K[HALF + 1] + z * K[HALF + 2]
    if c <= 0.0:
        return 0.0
    c2 = c * c
    c4 = c2 * c2
    c8 = c4 * c4
    c32 = c8 * c8 * c8 * c8
    return K[STRENGTH] * (broad * c8 * c2 + tight * c32 * c8)


@small
def mirrored(K: Array, x: float, y: float, z: float) -> float:
    """The blurred surroundings seen in a mirror at a unit normal, viewed along -z."""
    a = 2.0 * z
    return max(irradiance(K, a * x, a * y, a * z - 1.0), 0.0)
