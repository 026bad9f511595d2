"""Hair: strands with highlights across them."""

from __future__ import annotations

import math

from facebench.synth.compiled import kernel, small
from facebench.synth.numeric import Array
from facebench.synth.recipe import HAIR, HALF, LIGHT, SCALE, STRENGTH
from facebench.synth.shade import clip, floor_of, irradiance, smoothstep, speckle


@kernel
def strand(tile: Array, K: Array, row: float, column: float) -> float:
    """Streaks along hair, in [-1, 1]: locks, and strands where pixels are small enough."""
    locks = speckle(
        tile, column * 0.95 + 0.35 * speckle(tile, row * 0.21, column * 0.3), row * 0.05
    )
    fine = smoothstep(K[SCALE], 3.0, 11.0)
    out = 0.46 * locks
    if fine > 0.0:  # what is thinner than a pixel would only flicker
        out += 0.40 * fine * speckle(tile, column * 4.3 + 7.0, row * 0.11 + 3.0)
    if fine > 0.2:
        out += 0.35 * fine * speckle(tile, column * 11.0 + 1.5, row * 0.23)
    return min(max(out, -1.0), 1.0)


@kernel
def hair(  # type: ignore[no-untyped-def]
    K: Array, streak: float, x: float, y: float, z: float, tx: float, ty: float, tz: float,
    lost: float, open_: float, inner: float,
):  # fmt: skip
    """Linear RGB of hair.

    Two highlights lie across the strands, one of the light's colour and one of the hair's, shifted
    apart (Kajiya and Kay, "Rendering fur with three dimensional textures", 1989; two of them, as
    Marschner et al., "Light scattering from human hair fibers", 2003, found).

    Args:
        K: the recipe.
        streak: from `strand`.
        x: unit normal, camera's axes.
        y: the same.
        z: the same.
        tx: unit vector along the strands, camera's axes.
        ty: the same.
        tz: the same.
        lost: irradiance that the head keeps from itself here.
        open_: share of the sky that is open here.
        inner: 1 on the inner side of hair, 0 outside.
    """
    e = irradiance(K, x, y, z)
    even = 0.282095 * K[LIGHT]
    e = 0.62 * e + 0.38 * (even + 0.25 * K[LIGHT + 1])
    e = floor_of(e, 0.08)
    e = (e - 0.8 * min(max(lost, 0.0), 0.55 * e)) * (0.55 + 0.45 * open_) * (1.0 - 0.55 * inner)
    shift = 0.10 * streak
    sx, sy, sz = tx + (shift + 0.06) * x, ty + (shift + 0.06) * y, tz + (shift + 0.06) * z
    d = sx * K[HALF] + sy * K[HALF + 1] + sz * K[HALF + 2]
    s1 = max(1.0 - d * d, 0.0)
    sx, sy, sz = tx + (shift - 0.14) * x, ty + (shift - 0.14) * y, tz + (shift - 0.14) * z
    d = sx * K[HALF] + sy * K[HALF + 1] + sz * K[HALF + 2]
    s2 = max(1.0 - d * d, 0.0)
    s1 = s1 * s1 * s1 * s1
    s1 = s1 * s1 * s1 * s1  # sine^32
    s2 = s2 * s2 * s2 * s2  # sine^8
    lit = K[STRENGTH] * clip(0.25 + 0.9 * (x * K[HALF] + y * K[HALF + 1] + z * K[HALF + 2]))
    lit = lit * clip(e * 1.4) * (0.60 + 0.28 * streak) * (0.4 + 0.6 * open_)
    edge = 1.0 - max(z, 0.0)
    edge = edge * edge * edge * 0.07 * max(e, 0.0)
    tone = 1.0 + 0.32 * streak
    white = 0.052 * s1 * lit
    own = 0.55 * s2 * lit
    r = K[HAIR] * (tone * e + own) + white + edge * (0.05 + K[HAIR])
    g = K[HAIR + 1] * (tone * e + own) + white * 0.96 + edge * (0.05 + K[HAIR + 1])
    b = K[HAIR + 2] * (tone * e + own) + white * 0.92 + edge * (0.05 + K[HAIR + 2])
    return max(r, 0.0), max(g, 0.0), max(b, 0.0)


@small
def unit(x: float, y: float, z: float):  # type: ignore[no-untyped-def]
    """A vector of length 1."""
    inverse = 1.0 / max(math.sqrt(x * x + y * y + z * z), 1e-9)
    return x * inverse, y * inverse, z * inverse
