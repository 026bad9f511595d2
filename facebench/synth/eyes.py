"""Eyes between the lids, and the mouth between the lips."""

from __future__ import annotations

import math

from facebench.synth.compiled import kernel
from facebench.synth.numeric import Array
from facebench.synth.recipe import (
    EYES,
    HALF,
    IRIS,
    IRISES,
    LASHES,
    MAKEUP_,
    MOUTH,
    SCALE,
    SINK,
)
from facebench.synth.shade import clip, falling, mirrored, smoothstep, speckle

_IRIS = 0.60  # radius, cm
_PUPIL = 0.20


@kernel
def eye(  # type: ignore[no-untyped-def]
    K: Array, tile: Array, side: int, depth: float, across: float, px: float, py: float,
    x: float, y: float, z: float, lost: float, open_: float,
):  # fmt: skip
    """Linear RGB of an eye.

    Args:
        K: the recipe.
        tile: from `paint.tile`.
        side: 0 the image's left, 1 its right.
        depth: 0 at the upper lid's margin, 1 at the lower one's.
        across: 0 at the inner corner, 1 at the outer one.
        px: place on the head, cm.
        py: the same.
        x: unit normal, camera's axes.
        y: the same.
        z: the same.
        lost: irradiance that the head keeps from itself here.
        open_: share of the sky that is open here.
    """
    blur = 0.22 / max(K[SCALE], 1.0)  # cm, a quarter of a pixel: samples do the rest
    tiny = 1.0 - smoothstep(K[SCALE], 2.5, 6.0)  # eyes of a few pixels keep their contrast
    ex, ey = px - K[EYES + 2 * side], py - K[EYES + 2 * side + 1]
    dx, dy = px - K[IRISES + 2 * side], py - K[IRISES + 2 * side + 1]
    r = math.sqrt(dx * dx + dy * dy)
    red, green, blue = falling(K, x, y, z, 0.6 * lost, 0.5 + 0.5 * open_, 0.3)
    # the white: warmer and redder towards the corners, with a few vessels, yellower with years
    corner = smoothstep(abs(across - 0.5), 0.22, 0.5)
    vein = max(speckle(tile, ex * 5.0 + 11.0, ey * 13.0 + 5.0) - 0.35, 0.0) * corner
    r_, g_, b_ = 0.53, 0.495, 0.47
    old = K[SINK]
    g_ = g_ * (1.0 - 0.20 * corner - 0.20 * vein - 0.04 * old)
    b_ = b_ * (1.0 - 0.22 * corner - 0.20 * vein - 0.14 * old)
    inner = 1.0 - smoothstep(across, 0.02, 0.11)  # the caruncle
    r_, g_, b_ = r_ - 0.10 * inner, g_ - 0.27 * inner, b_ - 0.26 * inner
    round_ = 1.0 - 0.30 * smoothstep(abs(ex), 0.4, 1.5)
    r_, g_, b_ = r_ * round_, g_ * round_, b_ * round_
    limbus = smoothstep(r, _IRIS - 0.05 - blur, _IRIS + 0.05 + blur)
    if limbus < 1.0:
        # spokes: noise over the angle, by the direction without an arc tangent
        ux, uy = dx / max(r, 1e-4), dy / max(r, 1e-4)
        spoke = speckle(tile, ux * 7.0 + 31.0, uy * 7.0 + 17.0)
        spoke += 0.6 * speckle(tile, ux * 15.0 + 3.0, uy * 15.0 + r * 4.0)
        spoke = spoke * smoothstep(K[SCALE], 4.0, 12.0)
        ring = smoothstep(r, 0.20, 0.36)
        tone = 0.78 + 0.50 * ring + 0.26 * spoke
        tone = tone * (1.0 - 0.78 * smoothstep(r, _IRIS - 0.20, _IRIS - 0.01))
        warm = (1.0 - smoothstep(r, 0.22, 0.38)) * 0.5
        # light gathers opposite to where it comes from
        gather = 1.0 - 1.1 * (dx * K[HALF] + dy * K[HALF + 1])
        tone = tone * max(gather, 0.3) * (0.85 - 0.2 * tiny)
        ir = K[IRIS] * tone * (1.0 + 0.5 * warm) + 0.004
        ig = K[IRIS + 1] * tone * (1.0 + 0.1 * warm) + 0.004
        ib = K[IRIS + 2] * tone * (1.0 - 0.5 * warm) + 0.004
        pupil = smoothstep(r, _PUPIL - 0.02 - 0.7 * blur, _PUPIL + 0.02 + 0.7 * blur)
        ir, ig, ib = ir * pupil + 0.003, ig * pupil + 0.003, ib * pupil + 0.003
        r_, g_, b_ = ir + (r_ - ir) * limbus, ig + (g_ - ig) * limbus, ib + (b_ - ib) * limbus
    # the lid and its lashes shade the eye
    lid = 0.30 + 0.70 * smoothstep(depth, 0.0, 0.48 + 0.15 * tiny)
    lid = lid * (0.72 + 0.28 * (1.0 - smoothstep(depth, 0.86, 1.0)))
    r_, g_, b_ = r_ * red * lid, g_ * green * lid, b_ * blue * lid
    # the lashes' own line on the margin, darker with liner
    liner = K[MAKEUP_ + 4 * 2 + 3]
    lash = (1.0 - smoothstep(depth, 0.03 + 0.08 * tiny, 0.15 + 0.12 * tiny)) * clip(
        0.55 + 0.35 * K[LASHES] + 0.4 * liner
    )
    rim = smoothstep(depth, 0.93, 1.0)
    r_ = r_ * (1.0 - 0.92 * lash) + 0.20 * rim * red
    g_ = g_ * (1.0 - 0.94 * lash) + 0.09 * rim * green
    b_ = b_ * (1.0 - 0.94 * lash) + 0.08 * rim * blue
    # the tear film: the surroundings, and the light as a spark on the cornea
    wet = 0.035 * mirrored(K, x, y, z) * (1.0 - lash)
    gx, gy = dx - 0.62 * K[HALF], dy - 0.13 - 0.50 * K[HALF + 1]
    distance = math.sqrt(gx * gx + gy * gy)
    size = max(0.07, 1.0 * blur)
    spark = 1.0 - smoothstep(distance, size - 0.4 * blur - 0.02, size + blur + 0.05)
    spark = (
        spark
        * clip(green * 1.3)
        * smoothstep(depth, 0.10, 0.25)
        * min(0.0049 / ((size + 0.5 * blur) * (size + 0.5 * blur)), 1.0)
    )
    wet = wet + 1.05 * spark
    return r_ + wet, g_ + wet, b_ + wet


@kernel
def cavity(  # type: ignore[no-untyped-def]
    K: Array, depth: float, px: float, py: float, level: float
):
    """Linear RGB between the lips: teeth, tongue and the dark behind.

    Args:
        K: the recipe.
        depth: 0 at the upper lip's inner edge, 1 at the lower one's.
        px: place on the head, cm.
        py: the same.
        level: how much light reaches the lips.
    """
    blur = 0.30 / max(K[SCALE], 1.0)
    x, y = px - K[MOUTH], py
    ax = abs(x)
    r, g, b = 0.060, 0.016, 0.014
    bottom = K[MOUTH + 2]
    tongue = bottom + 0.30 - 0.13 * x * x
    t = (1.0 - smoothstep(ax, 1.0, 1.75)) * (1.0 - smoothstep(y - tongue, -0.40, 0.22))
    groove = 1.0 - 0.25 * (1.0 - smoothstep(ax, 0.0, 0.14))
    t = t * 0.9
    r = r + (0.40 * groove - r) * t
    g = g + (0.135 * groove - g) * t
    b = b + (0.125 * groove - b) * t
    arch = 0.06 * x * x
    # gaps between teeth: two broad ones in the middle, then narrower
    q = ax / 0.43 if ax < 0.86 else 2.0 + (ax - 0.86) / 0.36
    near = abs(q - math.floor(q + 0.5))
    gap = 1.0 - 0.30 * (1.0 - smoothstep(near, 0.02, 0.10 + blur * 1.2)) / (1.0 + 6.0 * blur)
    gap = gap * (1.0 - 0.72 * smoothstep(ax, 0.9, 2.2))
    bite = 0.035 * (1.0 - 2.0 * near) * (1.0 if ax > 0.06 else 0.0)
    under = bottom - arch
    lower = (1.0 - smoothstep(y - under, -0.05 - blur, 0.04 + blur)) * (
        1.0 - smoothstep(ax, 1.5, 2.0)
    )
    shade = 0.72 * gap * (1.0 - 0.35 * smoothstep(y - under, -0.8, 0.0))
    r = r + (0.66 * shade - r) * lower
    g = g + (0.60 * shade - g) * lower
    b = b + (0.49 * shade - b) * lower
    edge = K[MOUTH + 1] + arch + bite
    upper = smoothstep(y - edge, -0.04 - blur, 0.04 + blur) * (1.0 - smoothstep(ax, 1.9, 2.35))
    gum = smoothstep(y - edge, 0.85, 1.05)
    r = r + ((0.74 * (1 - gum) + 0.45 * gum) * gap - r) * upper
    g = g + ((0.69 * (1 - gum) + 0.17 * gum) * gap - g) * upper
    b = b + ((0.58 * (1 - gum) + 0.17 * gum) * gap - b) * upper
    dim = 0.42 + 0.58 * smoothstep(depth, 0.02, 0.30) * (1.0 - 0.6 * smoothstep(depth, 0.75, 1.0))
    dim = dim * min(0.12 + 0.80 * level, 1.15)
    wet = 0.05 * upper * level * (1.0 - smoothstep(abs(y - edge - 0.35), 0.03, 0.16)) * gap
    return r * dim + wet, g * dim + wet, b * dim + wet
