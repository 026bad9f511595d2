"""From covered samples to pixels: what is shaded where, and the labels at pixel centres."""

from __future__ import annotations

import numpy as np

from facebench.synth import raster
from facebench.synth.compiled import kernel, small
from facebench.synth.numeric import Array
from facebench.synth.paint import FINE_C, FINE_R, Z_DETAIL
from facebench.synth.recipe import CROWN, DOWN, SKIN
from facebench.synth.shade import clip, falling, highlight, mirrored, smoothstep
from facebench.synth.skin import sheet
from facebench.synth.strands import hair, strand, unit

GRID = 3  # samples per pixel and side; the middle one is the pixel's centre
PROP = 64  # kinds from here on are occluders
EAR, HAIR_OUT, HAIR_IN = 1, 2, 3

_NINE = GRID * GRID
_MASK = (1 << raster.BITS) - 1


# columns of the vertices' table
N_X, N_Y, N_Z, ROW, COLUMN, LOST, OPEN, INSIDE, P_X, P_Y, RED, GREEN, BLUE, NEAR, V_X, V_Y, V_Z = (
    range(17)
)

TABLE = 17


@kernel
def gather(
    normal: Array, chart: Array, lost: Array, open_: Array, inside: Array, local: Array,
    colour: Array, near: Array, seen: Array, out: Array,
) -> None:  # fmt: skip
    """What shading reads at each vertex, side by side, float64 [V, 17], into `out`."""
    n = normal.shape[1]
    for v in range(n):
        out[v, N_X], out[v, N_Y], out[v, N_Z] = normal[0, v], normal[1, v], normal[2, v]
        out[v, ROW], out[v, COLUMN] = chart[0, v], chart[1, v]
        out[v, LOST], out[v, OPEN] = lost[v], open_[v]
        out[v, INSIDE] = inside[v]
        out[v, P_X], out[v, P_Y] = local[0, v], local[1, v]
        out[v, RED], out[v, GREEN], out[v, BLUE] = colour[0, v], colour[1, v], colour[2, v]
        out[v, NEAR] = near[v]
        out[v, V_X], out[v, V_Y], out[v, V_Z] = seen[0, v], seen[1, v], seen[2, v]


@small
def mix(table: Array, a: int, b: int, c: int, w0: float, w1: float, w2: float, k: int) -> float:
    """One column of the vertices' table inside a triangle."""
    return table[a, k] * w0 + table[b, k] * w1 + table[c, k] * w2


@small
def flow(K: Array, px: float, py: float, pz: float, x: float, y: float, z: float):  # type: ignore[no-untyped-def]
    """The way that hair lies at a place with a normal: from the crown outwards, and down.

    All in the camera's axes.
    """
    dx, dy, dz = unit(px - K[CROWN], py - K[CROWN + 1], pz - K[CROWN + 2])
    dx, dy, dz = dx + 0.6 * K[DOWN], dy + 0.6 * K[DOWN + 1], dz + 0.6 * K[DOWN + 2]
    d = dx * x + dy * y + dz * z
    return unit(dx - d * x, dy - d * y, dz - d * z)


@small
def shade(  # type: ignore[no-untyped-def]
    K: Array, maps: Array, zones: Array, tile: Array, width: int, columns: int,
    fixed: Array, triangles: Array, kind: int, back: bool, table: Array, gloss: float,
    t: int, sx: int, sy: int, contact: float,
):  # fmt: skip
    """Linear RGB and the class of triangle `t` at sample (sx, sy)."""
    a, b, c = triangles[0, t], triangles[1, t], triangles[2, t]
    w0, w1, w2 = raster.place(fixed, a, b, c, sx * raster.SUB, sy * raster.SUB)
    x = mix(table, a, b, c, w0, w1, w2, N_X)
    y = mix(table, a, b, c, w0, w1, w2, N_Y)
    z = mix(table, a, b, c, w0, w1, w2, N_Z)
    if back:
        x, y, z = -x, -y, -z
    x, y, z = unit(x, y, z)
    if kind >= PROP:
        r, g, bl = falling(K, x, y, z, 0.0, 1.0, 0.25)
        rim = 1.0 - max(z, 0.0)
        top = highlight(K, x, y, z, 0.03 + 0.05 * gloss, 0.6 * gloss)
        top += (0.01 + (0.05 + 0.4 * rim * rim * rim) * gloss) * mirrored(K, x, y, z)
        return (
            mix(table, a, b, c, w0, w1, w2, RED) * r + top,
            mix(table, a, b, c, w0, w1, w2, GREEN) * g + top,
            mix(table, a, b, c, w0, w1, w2, BLUE) * bl + top,
            0,
        )
    row = mix(table, a, b, c, w0, w1, w2, ROW)
    c0, c1, c2 = table[a, COLUMN], table[b, COLUMN], table[c, COLUMN]
    if kind == 0 and max(max(c0, c1), c2) - min(min(c0, c1), c2) > 9.0:  # across the seam
        c0 = columns if c0 < 9.0 else c0
        c1 = columns if c1 < 9.0 else c1
        c2 = columns if c2 < 9.0 else c2
    column = c0 * w0 + c1 * w1 + c2 * w2
    shadow = mix(table, a, b, c, w0, w1, w2, LOST)
    sky = mix(table, a, b, c, w0, w1, w2, OPEN)
    if kind == 0:
        px = mix(table, a, b, c, w0, w1, w2, P_X)
        py = mix(table, a, b, c, w0, w1, w2, P_Y)
        deep = mix(table, a, b, c, w0, w1, w2, INSIDE)
        tx, ty, tz = 0.0, -1.0, 0.0
        if deep > -1.2:
            tx, ty, tz = flow(
                K, mix(table, a, b, c, w0, w1, w2, V_X), mix(table, a, b, c, w0, w1, w2, V_Y),
                mix(table, a, b, c, w0, w1, w2, V_Z), x, y, z,
            )  # fmt: skip
        return sheet(
            K, maps, zones, tile, width, row, column, px, py, x, y, z, shadow, sky, deep,
            tx, ty, tz, contact,
        )  # fmt: skip
    if kind == EAR:
        r, g, bl = falling(K, x, y, z, shadow, sky, 1.0)
        bowl = 0.62 + 0.38 * smoothstep(row, 1.0, 4.4)
        rim = 1.0 - max(z, 0.0)
        top = highlight(K, x, y, z, 0.04, 0.05) * clip(g) * sky
        top += 0.05 * rim * rim * rim * mirrored(K, x, y, z) * sky
        return (
            K[SKIN] * r * bowl + top,
            K[SKIN + 1] * 0.87 * g * bowl + top,
            K[SKIN + 2] * 0.86 * bl * bowl + top,
            0,
        )
    tx, ty, tz = flow(
        K, mix(table, a, b, c, w0, w1, w2, V_X), mix(table, a, b, c, w0, w1, w2, V_Y),
        mix(table, a, b, c, w0, w1, w2, V_Z), x, y, z,
    )  # fmt: skip
    inner = 1.0 if (back or kind == HAIR_IN) else 0.0
    streak = strand(tile, K, row * 1.6, column * 2.3)
    r, g, bl = hair(K, streak, x, y, z, tx, ty, tz, shadow, sky, inner)
    dim = 1.0 - 0.8 * contact
    return r * dim, g * dim, bl * dim, 10


@small
def detailed(zones: Array, width: int, row: float, column: float) -> bool:
    """Whether paint changes within a pixel here."""
    i = min(max(int(column * FINE_C), 0), width - 1)
    j = min(max(int(row * FINE_R), 0), zones.shape[0] // width - 1)
    return (zones[j * width + i] & Z_DETAIL) != 0


@kernel
def pixels(
    K: Array, maps: Array, zones: Array, tile: Array, width: int, columns: int,
    fixed: Array, triangles: Array, kind: Array, back: Array, table: Array, gloss: Array,
    best: Array, contact: Array, order: Array,
    size: int, distance: float,
    linear: Array, parse: Array, cover: Array, depth: Array,
) -> None:  # fmt: skip
    """Shades every pixel and writes the dense labels.

    Samples of one pixel that lie on one surface are shaded once, at the centre where it has it;
    where fine paint lies (lips, lids, brows, the hair's edge) at the centre and the four corners.

    Args:
        K: the recipe.
        maps: from `paint.maps`.
        zones: from `paint.maps`.
        tile: from `paint.tile`.
        width: texels per line of the maps.
        columns: of the head's sheet.
        fixed: from `raster.fix`.
        triangles: int64 [3, T].
        kind: int64 [T] as in `head.Head`; occluders from `PROP`.
        back: bool [T] whether each is the back of another.
        gloss: float64 [kinds of occluders].
        size: S.
        best: int64 [(3 S)^2] keys of `raster.rasterise`.
        contact: float64 [S, S] how much light a thing before the face takes.
        order: int64 [9] samples from the centre outwards, corners each before one edge sample.
        table: from `gather`.
        distance: of the camera, cm.
        linear: float64 [4, S, S], written: linear RGB and the share that is covered.
        parse: uint8 [S, S], written.
        cover: uint8 [S, S], written.
        depth: float32 [S, S], written.
    """
    side = size * GRID
    owner = np.empty(_NINE, np.int64)
    offset, shift_x, shift_y = np.empty(_NINE, np.int64), order % GRID, order // GRID
    for s in range(_NINE):
        offset[s] = shift_y[s] * side + shift_x[s]
    for j in range(size):
        for i in range(size):
            count = 0
            base = j * GRID * side + i * GRID
            for s in range(_NINE):
                key = best[base + offset[s]]
                owner[s] = int(key & _MASK) if key else -1
                if key:
                    count += 1
            if count == 0:
                continue
            total_r, total_g, total_b = 0.0, 0.0, 0.0
            shadow = contact[j, i]
            for s in range(_NINE):
                t = owner[s]
                if t < 0:
                    continue
                sort = kind[t]
                v = triangles[0, t]
                row, column = table[v, ROW], table[v, COLUMN]
                limit = _NINE
                if sort == 0 and detailed(zones, width, row, column):
                    # the centre alone, a corner with the edge sample after it
                    limit = s + 1 if s == 0 else min(s + 1 + (s & 1), _NINE)
                share = 1.0
                for o in range(s + 1, limit):
                    other = owner[o]
                    if other >= 0:
                        same = other == t
                        if not same and kind[other] == sort:
                            w = triangles[0, other]
                            if sort >= PROP:
                                same = (
                                    table[v, N_X] * table[w, N_X] + table[v, N_Y] * table[w, N_Y]
                                    + table[v, N_Z] * table[w, N_Z]
                                ) > 0.9 and abs(table[v, RED] - table[w, RED]) < 0.02  # fmt: skip
                            else:
                                same = (
                                    abs(table[w, ROW] - row) + abs(table[w, COLUMN] - column) < 4.5
                                )
                        if same:
                            share += 1.0
                            owner[o] = -1
                r, g, b, label = shade(
                    K, maps, zones, tile, width, columns, fixed, triangles, sort, back[t], table,
                    gloss[sort - PROP] if sort >= PROP else 0.0, t, i * GRID + shift_x[s],
                    j * GRID + shift_y[s], shadow,
                )  # fmt: skip
                total_r += share * min(max(r, 0.0), 4.0)
                total_g += share * min(max(g, 0.0), 4.0)
                total_b += share * min(max(b, 0.0), 4.0)
                if s == 0:
                    parse[j, i] = label
                    a, b_, c = triangles[0, t], triangles[1, t], triangles[2, t]
                    w0, w1, w2 = raster.place(
                        fixed, a, b_, c, (i * GRID + 1) * raster.SUB, (j * GRID + 1) * raster.SUB
                    )
                    nearness = mix(table, a, b_, c, w0, w1, w2, NEAR)
                    depth[j, i] = distance * distance / (nearness + distance)
                    if sort >= PROP:
                        cover[j, i] = sort - PROP + 1
            linear[0, j, i] = total_r * (1.0 / _NINE)
            linear[1, j, i] = total_g * (1.0 / _NINE)
            linear[2, j, i] = total_b * (1.0 / _NINE)
            linear[3, j, i] = count * (1.0 / _NINE)


@kernel
def taken(best: Array, kind: Array, size: int) -> Array:
    """The share of each pixel that occluders cover, float64 [S, S]."""
    out = np.zeros((size, size))
    side = size * GRID
    for j in range(side):
        for i in range(side):
            key = best[j * side + i]
            if key and kind[int(key & _MASK)] >= PROP:
                out[j // GRID, i // GRID] += 1.0 / _NINE
    return out
