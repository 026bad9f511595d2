"""What is behind a face: a studio wall, a gradient, lights out of focus, a room, leaves."""

from __future__ import annotations

import math

import numpy as np

from facebench.synth.compiled import kernel
from facebench.synth.numeric import Array
from facebench.synth.shade import smoothstep, speckle

#: Families and the share of `Parameters.background[15]` that each takes.
FAMILIES = (("studio", 0.20), ("gradient", 0.20), ("bokeh", 0.20), ("room", 0.22), ("leaves", 0.18))

_THINGS = 14  # lights or blocks at most


def scene(b: Array) -> Array:
    """The numbers that `behind` reads: family, colours, places of lights or blocks.

    Args:
        b: float64 [16] in [0, 1], `Parameters.background`.
    """
    out = np.zeros(12 + 7 * _THINGS)
    edge, family = 0.0, len(FAMILIES) - 1
    for k, (_, share) in enumerate(FAMILIES):
        edge += share
        if float(b[15]) < edge:
            family = k
            break
    grey = 0.25 + 0.6 * float(b[6])
    level = 0.30 + 0.60 * float(b[14])

    def colour(k: int, bright: float) -> list[float]:
        c = [0.02 + 0.60 * float(v) * float(v) for v in b[k : k + 3]]
        mean = (c[0] + c[1] + c[2]) / 3.0
        return [bright * (v * (1 - grey) + mean * grey) for v in c]

    first, second = colour(0, level * 1.3), colour(3, level * 1.1)
    if family == 4:  # leaves are green to brown
        first = [0.35 * first[0] + 0.03, 0.40 * first[1] + 0.06, 0.30 * first[2] + 0.02]
        second = [0.6 * second[0] + 0.17, 0.5 * second[1] + 0.19, 0.5 * second[2] + 0.10]
    out[0] = family
    out[1:4], out[4:7] = first, second
    out[7:10] = b[7], b[8], b[9]
    out[10] = 0.02 + 0.05 * float(b[10])  # how far out of focus
    out[11] = float(b[11])
    for n in range(_THINGS):  # places from fractions of sums: fixed, spread, cheap
        u = float(b[7]) * 7.13 + float(b[9]) * 3.7 + 0.618034 * n
        v = float(b[8]) * 5.71 + float(b[10]) * 2.9 + 0.754878 * n
        w = float(b[11]) * 9.37 + float(b[12]) * 4.1 + 0.569840 * n
        u, v, w = u - math.floor(u), v - math.floor(v), w - math.floor(w)
        at = 12 + 7 * n
        mix = float(b[13]) * 3.3 + 0.38 * n
        mix = mix - math.floor(mix)
        if family == 2:
            glow = 0.25 + 0.9 * w * w
            warm = [1.0, 0.72 + 0.2 * mix, 0.35 + 0.6 * mix]
            tint = [0.6 * warm[c] + 1.2 * second[c] for c in range(3)]
            out[at : at + 7] = u, v, 0.03 + 0.07 * w * mix, glow, *[glow * q for q in tint]
        else:
            tone = 0.45 + 1.1 * mix
            base = first if n % 2 else second
            wide, high = 0.05 + 0.20 * w, 0.06 + 0.28 * mix
            out[at : at + 7] = u * 1.2 - 0.1, v, wide, high, *[min(tone * q, 1.2) for q in base]
    return out


@kernel
def behind(q: Array, tile: Array, linear: Array, size: int) -> None:
    """Adds the backdrop where the face leaves pixels open.

    Args:
        q: from `scene`.
        tile: from `paint.tile`.
        linear: float64 [4, S, S] linear RGB and covered share; the first three are written to.
        size: S.
    """
    family = int(q[0])
    step = 1.0 / size
    # lights and blocks are laid down once on a coarse grid when the picture is large
    for j in range(size):
        y = (j + 0.5) * step
        for i in range(size):
            left = 1.0 - linear[3, j, i]
            if left <= 0.0:
                continue
            x = (i + 0.5) * step
            dx, dy = x - q[7], y - 0.7 * q[8]
            far = dx * dx + dy * dy
            t = 0.5
            if family == 0:
                t = 1.0 / (1.0 + 2.2 * far)
            elif family == 1:
                t = 0.5 + (q[7] - 0.5) * (x - 0.5) * 2.0 + (q[8] - 0.5) * (y - 0.5) * 2.4
                ex, ey = x - q[9], y - q[11]
                t += 0.35 / (1.0 + 9.0 * (ex * ex + ey * ey)) - 0.15
            elif family == 2:
                t = 0.25 + 0.5 * y
            elif family == 3:
                wall = smoothstep(x, q[7] - q[10], q[7] + q[10])
                t = 0.25 + 0.5 * wall + 0.2 * (0.5 - y)
            else:
                u, v = x * 4.5 + 9.0 * q[7], y * 4.5 + 9.0 * q[8]
                t = 0.5 + 0.42 * speckle(tile, u, v)
                t += 0.30 * speckle(tile, u * 2.7 + 5.0, v * 2.7)
                t += 0.16 * speckle(tile, u * 6.1, v * 6.1 + 13.0)
                t = smoothstep(t, 0.12, 1.0)
            t = min(max(t, 0.0), 1.0)
            if family == 0:
                dim = 0.45 + 0.55 * t
                r, g, b = q[1] * dim, q[2] * dim, q[3] * dim
            else:
                r, g, b = (
                    q[1] + (q[4] - q[1]) * t,
                    q[2] + (q[5] - q[2]) * t,
                    q[3] + (q[6] - q[3]) * t,
                )
            if family == 2:
                r, g, b = 0.35 * r, 0.35 * g, 0.35 * b
                for n in range(_THINGS):
                    at = 12 + 7 * n
                    ex, ey = x - q[at], y - q[at + 1]
                    d = ex * ex + ey * ey
                    radius = q[at + 2]
                    if d < 1.7 * radius * radius:
                        d = math.sqrt(d) / radius
                        a = (1.0 - smoothstep(d, 0.78, 1.12)) * (0.55 + 0.45 * d) * 0.55
                        r, g, b = r + a * q[at + 4], g + a * q[at + 5], b + a * q[at + 6]
            elif family == 3:
                for n in range(6):
                    at = 12 + 7 * n
                    ex, ey = abs(x - q[at]) - q[at + 2], abs(y - q[at + 1]) - q[at + 3]
                    if ex < q[10] and ey < q[10]:
                        a = 1.0 - smoothstep(ex, -q[10], q[10])
                        a = 0.9 * a * (1.0 - smoothstep(ey, -q[10], q[10]))
                        r += (q[at + 4] - r) * a
                        g += (q[at + 5] - g) * a
                        b += (q[at + 6] - b) * a
            linear[0, j, i] += left * r
            linear[1, j, i] += left * g
            linear[2, j, i] += left * b
