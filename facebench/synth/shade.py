"""Colour at each sample: painted maps on the sheet, eyes, mouth cavity, light.

Maps are drawn once on a fine version of the sheet's grid; a sample reads the texel at its row and
column. Light is the irradiance of nine spherical-harmonic coefficients (Ramamoorthi and Hanrahan,
"An efficient representation for irradiance environment maps", 2001, eq. 7 to 13).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from facebench.synth import head
from facebench.synth.actions import INDEX, sheet
from facebench.synth.head import bump
from facebench.synth.numeric import Array, Draws, quantise, smooth
from facebench.synth.people import Person, hair_distance, hair_shift

FINE_R, FINE_C = 4, 5  # texels per row and column

_MAPS = (
    "lips", "brow along", "brow off", "ruddy", "occlusion", "hair", "beard", "spots", "grain",
    "strand", "socket", "moustache", "cloth", "crow", "furrow", "forehead", "fold", "lash",
    "chin", "x",
)  # fmt: skip
_M = {name: k for k, name in enumerate(_MAPS)}


def _upsample(grid: Array) -> Array:
    """Linear interpolation of a [R, C] table to the texels' centres."""
    rows = (np.arange((head.ROWS - 1) * FINE_R) + 0.5) / FINE_R
    columns = (np.arange(head.COLUMNS * FINE_C) + 0.5) / FINE_C
    closed = np.concatenate([grid, grid[:, :1]], 1)
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = (rows - r)[:, None], (columns - c)[None]
    top = closed[r][:, c] * (1 - fc) + closed[r][:, c + 1] * fc
    low = closed[r + 1][:, c] * (1 - fc) + closed[r + 1][:, c + 1] * fc
    return np.asarray(top * (1 - fr) + low * fr)


def _smooth_noise(shape: tuple[int, int], cell: tuple[int, int], name: str) -> Array:
    """Value noise in [-1, 1] of a given cell size in texels, by linear interpolation."""
    h, w = shape[0] // cell[0] + 2, shape[1] // cell[1] + 2
    values = Draws("map", name).uniform(h * w, -1.0, 1.0).reshape(h, w)
    y, x = np.arange(shape[0]) / cell[0], np.arange(shape[1]) / cell[1]
    r, c = y.astype(int), x.astype(int)
    fy, fx = smooth(y - r, 0.0, 1.0)[:, None], smooth(x - c, 0.0, 1.0)[None]
    top = values[r][:, c] * (1 - fx) + values[r][:, c + 1] * fx
    low = values[r + 1][:, c] * (1 - fx) + values[r + 1][:, c + 1] * fx
    noise = np.asarray(top * (1 - fy) + low * fy)
    middle = head.MIDDLE * FINE_C  # the same on both sides: asymmetry is the identity's own
    noise[:, :middle] = noise[:, 2 * middle - 1 : middle - 1 : -1]
    return noise


@lru_cache(maxsize=1)
def maps() -> Array:
    """The painted maps, [maps, texels]."""
    p = sheet()
    x, y, z = (_upsample(q) for q in p)
    ax = np.abs(x)
    v = _upsample(head.ROW)
    shape = v.shape
    row = np.broadcast_to(((np.arange(shape[0]) + 0.5) / FINE_R)[:, None], shape)
    column = np.abs(((np.arange(shape[1]) + 0.5) / FINE_C)[None] - head.MIDDLE)
    column = np.broadcast_to(np.minimum(column, 99.0), shape)
    front = smooth(z, 0.0, 4.0)
    b = lambda *a: bump(x, y, *a) * front  # noqa: E731
    n = head.NAMED
    out: dict[str, Array] = {"x": x}
    inside = 1.0 - smooth(column, head.MOUTH_OUT - 0.9, head.MOUTH_OUT + 0.1)
    band = smooth(row, n["upper lip"] - 0.5, n["upper lip"] + 0.7)
    band = band * (1.0 - smooth(row, n["lower lip"] - 0.6, n["lower lip"] + 0.7))
    out["lips"] = band * inside
    along = (ax - 0.95) / 4.5
    out["brow along"] = np.where(front > 0.2, along, 9.0)
    out["brow off"] = y - head.brow(ax)
    out["ruddy"] = b(4.0, -2.9, 1.7, 1.4) + 0.8 * b(0, -3.5, 1.1, 0.8) + 0.35 * b(0, -9.8, 1.5, 1.0)
    shade = 0.80 * b(0.62, -4.36, 0.34, 0.17) + 0.20 * b(0, -4.75, 1.3, 0.35)
    shade += 0.14 * b(0, -8.15, 1.7, 0.4) + 0.22 * b(1.78, -3.85, 0.16, 0.55)
    shade += 0.16 * b(1.7, 0.6, 0.8, 1.0) + 0.06 * b(3.1, 1.0, 1.7, 0.45)
    shade += 0.40 * smooth(v, 11.8, 13.0) * (1 - smooth(v, 13.5, 15.5)) * smooth(z, -3.0, 2.0)
    line = np.exp(-(((row - n["upper mouth"] - 2.5) / 2.6) ** 2))
    shade += 0.62 * line * (1 - smooth(column, 7.6, 9.3))
    out["occlusion"] = np.clip(shade, 0.0, 0.9)
    theta = _upsample(np.broadcast_to(head.THETA, head.ROW.shape))
    grid = hair_distance().reshape(head.ROW.shape)
    strand = (
        _smooth_noise(shape, (40, 2), "strand") * 0.6 + _smooth_noise(shape, (17, 1), "s") * 0.4
    )
    out["hair"] = _upsample(grid)
    out["strand"] = strand
    out["grain"] = _smooth_noise(shape, (9, 6), "grain") * 0.6 + _smooth_noise(shape, (24, 15), "g")
    turned = np.abs(theta)
    line_of = np.interp(
        turned, [0, 0.2, 0.42, 0.6, 0.9, 1.2, 1.45], [9.75, 9.6, 8.8, 8.75, 8.2, 7.2, 6.3]
    )
    beard = smooth(v - line_of + 0.25 * out["grain"], -0.25, 0.45) * (1 - smooth(v, 12.2, 13.3))
    beard = beard * (1 - smooth(turned, 1.38, 1.6))
    moustache = smooth(v, 8.12, 8.3) * (1 - smooth(ax, 2.3, 3.3)) * (1 - smooth(v, 9.1, 9.6))
    nolips = 1.0 - smooth(out["lips"], 0.0, 0.5)
    out["moustache"] = moustache * nolips * front
    out["beard"] = np.maximum(beard * nolips, out["moustache"])
    spots = _smooth_noise(shape, (3, 2), "spots")
    out["spots"] = smooth(spots, 0.45, 0.8) * (b(0, -2.5, 5.0, 2.0) + 0.3)
    out["socket"] = b(3.0, -0.85, 1.5, 0.55) + 0.4 * b(1.7, -0.3, 0.5, 0.8)
    out["cloth"] = smooth(v + 0.35 * np.cos(theta), 16.40, 16.62)
    out["crow"] = (
        sum(
            np.exp(-(((y - 0.1 - k * 0.45 - (ax - 5.1) * k * 0.25) / 0.16) ** 2))
            for k in (-1, 0, 1)
        )
        * smooth(ax, 4.75, 5.1)
        * (1 - smooth(ax, 5.7, 6.3))
        * front
    )
    out["furrow"] = np.exp(-(((ax - 0.55) / 0.13) ** 2)) * bump(x * 0, y, 0, 2.1, 1, 0.75) * front
    waves = y + 0.12 * np.cos(x * 0.8)
    out["forehead"] = sum(np.exp(-(((waves - h) / 0.18) ** 2)) for h in (3.9, 4.7, 5.5)) * (
        (1 - smooth(ax, 3.0, 4.6)) * front
    )
    crease = np.interp(y, [-7.2, -6.5, -5.6, -4.6, -3.7], [3.5, 3.35, 2.95, 2.4, 1.95])
    out["fold"] = (
        np.exp(-(((ax - crease) / 0.26) ** 2)) * smooth(y, -7.2, -6.2) * (1 - smooth(y, -4.3, -3.5))
    ) * front
    eye = 1.0 - smooth(np.abs(column - (head.EYE_IN + head.EYE_OUT) / 2), 4.2, 5.3)
    lash = np.exp(-(((row - n["upper lid"] - 0.15) / 0.75) ** 2))
    lash += 0.30 * np.exp(-(((row - n["crease"] + 0.2) / 0.55) ** 2))
    lash += 0.30 * np.exp(-(((row - n["lower lid"] - 0.1) / 0.6) ** 2))
    out["lash"] = np.minimum(lash, 1.0) * eye
    out["chin"] = b(0, -9.4, 1.3, 0.9)
    return quantise(np.stack([out[name].reshape(-1) for name in _MAPS]))


def irradiance(light: Array, n: Array) -> Array:
    """Irradiance over pi of nine coefficients at unit normals [3, N] in the camera's axes."""
    x, y, z = n
    f = [float(v) for v in light]
    return (
        0.282095 * f[0]
        + (2.0 / 3.0) * 0.488603 * (f[1] * y + f[2] * z + f[3] * x)
        + 0.25 * (
            1.092548 * (f[4] * (x * y) + f[5] * (y * z) + f[7] * (x * z))
            + 0.315392 * f[6] * (3.0 * (z * z) - 1.0)
            + 0.546274 * f[8] * (x * x - y * y)
        )
    )  # fmt: skip


def lerp(a: Array, b: Array, t: Array) -> Array:
    """Mixes colours [3, N] (or [3]) by t [N]."""
    a = a if a.ndim > 1 else a[:, None]
    b = b if b.ndim > 1 else b[:, None]
    return a + (b - a) * t


def colours(
    person: Person,
    au: Array,
    gaze: Array,
    light: Array,
    kind: Array,
    row: Array,
    column: Array,
    local: Array,
    normal: Array,
    marks: dict[str, float],
) -> Array:
    """Linear RGB of samples, [3, N].

    Args:
        person: whose face it is.
        au: [24] intensities.
        gaze: [2] how far the irises are turned, cm to the right and up.
        light: [9] spherical-harmonic coefficients of the light.
        kind: [N] 0 head, 1 ear, 2 curtain of hair, 3 its inner side.
        row: [N] place on the part's grid, from above.
        column: [N] place on the part's grid, from the left.
        local: [3, N] points of the head before it was turned, cm.
        normal: [3, N] unit normals in the camera's axes.
        marks: places of the eyes and the teeth on this face.
    """
    width = head.COLUMNS * FINE_C
    on_head = kind == 0
    texel = np.where(
        on_head,
        np.minimum(row * FINE_R, (head.ROWS - 1) * FINE_R - 1).astype(np.int64) * width
        + np.minimum(column * FINE_C, width - 1).astype(np.int64),
        0,
    )
    m = np.take(maps(), texel, axis=1, mode="clip")
    amount = {k: float(v) for k, v in zip(INDEX, au)}
    looks = person.looks
    # skin
    tone = 1.0 + 0.035 * m[_M["grain"]]
    skin = person.skin[:, None] * tone
    red = m[_M["ruddy"]] * (0.10 + 0.30 * looks["ruddiness"]) * on_head
    skin = skin * np.stack([1.0 + 0.06 * red, 1.0 - 0.42 * red, 1.0 - 0.38 * red])
    freckles = max(looks["freckles"] - 0.7, 0.0) * 1.6 * (1.0 - looks["melanin"])
    dark = freckles * m[_M["spots"]] + (0.04 + 0.20 * looks["under eyes"]) * m[_M["socket"]]
    skin = skin * (1.0 - np.minimum(dark * on_head, 0.8) * np.array([0.75, 1.0, 1.05])[:, None])
    skin = lerp(skin, person.lips, m[_M["lips"]] * on_head * 0.9)
    ear = kind == 1
    skin = skin * (1.0 - ear * np.array([0.02, 0.10, 0.10])[:, None])
    # beard, brows, hair
    stubble = max(looks["beard"] - 0.66, 0.0) * 2.9
    hairy = m[_M["strand"]]
    if stubble > 0 and on_head.any():
        full = looks["beard length"] > 0.45
        mask = m[_M["beard"]] if looks["beard length"] < 0.85 else m[_M["moustache"]]
        share = min((0.35 + stubble) if full else 0.22 + 0.4 * stubble, 0.93)
        skin = lerp(skin, person.hair * 0.9, mask * share * (0.92 + 0.16 * hairy) * on_head)
    u, off = (
        m[_M["brow along"]],
        m[_M["brow off"]] - 0.25 * (looks["brow arch"] - 0.5) * (m[_M["brow along"]]),
    )
    half = (0.17 + 0.17 * looks["brow thickness"]) * (1.15 - 0.75 * smooth(u, 0.25, 1.05))
    brow = 1.0 - smooth(np.abs(off) * (1.0 / np.maximum(half, 0.02)), 0.55, 1.35)
    brow = brow * smooth(u, -0.03, 0.10) * (1.0 - smooth(u, 0.93, 1.06)) * on_head
    strength = (0.62 + 0.36 * looks["brow darkness"]) * (0.95 + 0.12 * hairy)
    brow_colour = person.hair * 0.75 + 0.02 * person.skin
    skin = lerp(skin, np.minimum(brow_colour, 0.55 * person.skin), np.minimum(brow * strength, 1.0))
    inside = m[_M["hair"]] + hair_shift(looks, person.style) + 0.11 * hairy
    fringe = 0.0 if person.style == "bald" else 1.0
    cover = smooth(inside, -0.06, 0.22) * fringe * on_head
    if person.style == "buzzed":
        cover = cover * 0.80
    cover = np.where(kind >= 2, 1.0, cover)
    strands = np.where(kind >= 2, _strands(row, column), hairy)
    hair = person.hair[:, None] * (1.0 + 0.45 * strands)
    skin = lerp(skin, hair, cover)
    cloth = m[_M["cloth"]] * on_head
    skin = lerp(skin, person.cloth, cloth)
    # creases that muscles make, shade of hollows, lashes
    pull = min(amount[12] + amount[10] + amount[11] + 0.6 * amount[9], 1.2)
    crease = (
        0.26 * m[_M["crow"]] * (amount[6] + 0.3 * amount[7])
        + 0.40 * m[_M["furrow"]] * (amount[4] + 0.4 * amount[9])
        + 0.21 * m[_M["forehead"]] * min(amount[1] + amount[2], 1.3)
        + m[_M["fold"]] * (0.04 + 0.38 * pull)
        + 0.12 * m[_M["chin"]] * amount[17] * (1.0 + m[_M["spots"]])
    )  # fmt: skip
    hollow = m[_M["occlusion"]] + crease + m[_M["lash"]] * (0.45 + 0.5 * looks["lashes"])
    dim = 1.0 - np.minimum(hollow, 0.92) * on_head
    bowl = np.where(ear, 0.55 + 0.45 * smooth(row, 1.0, 4.2), np.where(kind == 3, 0.5, 1.0))
    glow = np.maximum(irradiance(light, normal), 0.015) * bowl
    colour = skin * (dim * glow)
    warm = 0.05 * glow * (1.0 - glow) * (1.0 - cover) * (1.0 - cloth)
    colour[0] += np.maximum(warm, 0.0) * person.skin[0]
    # a soft highlight towards the strongest light
    lx, ly, lz = float(light[3]), float(light[1]), float(light[2]) + 0.6
    length = math.sqrt(lx * lx + ly * ly + lz * lz)
    hx, hy, hz = lx / length, ly / length, lz / length + 1.0
    length = math.sqrt(hx * hx + hy * hy + hz * hz)
    cosine = np.maximum((normal[0] * hx + normal[1] * hy + normal[2] * hz) * (1.0 / length), 0.0)
    c4 = cosine * cosine * cosine * cosine
    c16 = c4 * c4 * c4 * c4
    wet = 0.03 + 0.07 * looks["shine"]
    gloss = wet * (1 - cloth) * (1 + 0.8 * m[_M["lips"]] * on_head) * c16
    gloss = np.where(
        cover > 0.5, 0.22 * c4 * (person.hair.sum() * 0.2 + 0.06) * (1 + strands), gloss
    )
    colour = colour + gloss * dim * glow
    _eyes(
        colour, person, gaze, (hx / length, hy / length), glow, on_head, row, column, local, marks
    )
    _mouth(colour, glow, on_head, row, column, local, marks)
    return colour


def _strands(row: Array, column: Array) -> Array:
    """Streaks along long hair, in [-1, 1], from a fixed table."""
    table = _streaks()
    return table[np.minimum(column * 8.0, len(table) - 1).astype(np.int64)]


@lru_cache(maxsize=1)
def _streaks() -> Array:
    return Draws("map", "streaks").uniform(25 * 8, -1.0, 1.0)


def _eyes(
    colour: Array,
    person: Person,
    gaze: Array,
    towards: tuple[float, float],
    glow: Array,
    on_head: Array,
    row: Array,
    column: Array,
    local: Array,
    marks: dict[str, float],
) -> None:
    n = head.NAMED
    off = column - head.MIDDLE
    away = np.abs(off)
    eye = np.flatnonzero(
        on_head
        & (row > n["upper lid"] + 0.55)
        & (row < n["lower lid"] - 0.45)
        & (away > head.EYE_IN)
        & (away < head.EYE_OUT)
    )
    if not len(eye):
        return
    side = np.where(off[eye] < 0, -1.0, 1.0)
    px = np.where(side < 0, marks["left x"], marks["right x"])
    py = np.where(side < 0, marks["left y"], marks["right y"])
    x, y = local[0, eye] - px, local[1, eye] - py
    dx, dy = x - float(gaze[0]), y - float(gaze[1]) - 0.04
    r = np.sqrt(dx * dx + dy * dy)
    depth = row[eye] - n["upper lid"]
    lit = np.minimum(0.35 + 0.65 * glow[eye], 1.2)
    white = np.array([0.66, 0.62, 0.59])[:, None] * np.ones_like(r)
    corner = smooth(np.abs(away[eye] - (head.EYE_IN + head.EYE_OUT) / 2), 2.6, 4.4)
    white = white * (1.0 - np.array([0.12, 0.42, 0.42])[:, None] * corner)
    iris = (
        person.iris[:, None]
        * (1.0 + 1.1 * smooth(r, 0.2, 0.42))
        * (1.0 - 0.75 * smooth(r, 0.43, 0.6))
    )
    both = lerp(iris, white, smooth(r, 0.52, 0.64))
    both = both * (smooth(r, 0.17, 0.25) * 0.97 + 0.03)
    both = both * (0.42 + 0.58 * smooth(depth, 0.6, 2.6)) * lit
    gx, gy = dx - 0.7 * towards[0], dy - 0.05 - 0.6 * towards[1]  # the light, mirrored
    spark = 1.0 - smooth(np.sqrt(gx * gx + gy * gy), 0.08, 0.17)
    both = both + 0.85 * spark * np.minimum(glow[eye], 1.0)
    colour[:, eye] = both


def _mouth(
    colour: Array,
    glow: Array,
    on_head: Array,
    row: Array,
    column: Array,
    local: Array,
    marks: dict[str, float],
) -> None:
    n = head.NAMED
    inside = np.flatnonzero(
        on_head
        & (row > n["upper mouth"] + 0.25)
        & (row < n["lower mouth"] - 0.25)
        & (np.abs(column - head.MIDDLE) < head.MOUTH_OUT)
    )
    if not len(inside):
        return
    x, y = local[0, inside] - marks["mouth x"], local[1, inside]
    f = (row[inside] - n["upper mouth"]) * (1.0 / (n["lower mouth"] - n["upper mouth"]))
    edge = smooth(f, 0.05, 0.22) * (1 - smooth(f, 0.80, 0.97))
    cavity = np.array([0.085, 0.022, 0.02])[:, None] * np.ones_like(x)
    tongue_y = marks["lower teeth"] + 0.25 - 0.12 * (x * x)
    tongue = (1.0 - smooth(np.abs(x), 1.1, 1.7)) * (1.0 - smooth(y - tongue_y, -0.35, 0.25))
    out = lerp(cavity, np.array([0.36, 0.13, 0.12]), tongue * 0.8)
    arch = 0.07 * (x * x)
    gap = (
        1.0
        - 0.22 * (1.0 - smooth(np.abs(np.abs(x) - 0.42), 0.0, 0.10))
        - 0.35 * (1.0 - smooth(np.abs(x), 0.0, 0.05)) * 0.5
    )
    gap = gap * (1.0 - 0.65 * smooth(np.abs(x), 1.1, 2.2))
    tooth = np.array([0.70, 0.65, 0.56])[:, None] * gap
    upper = smooth(y - (marks["upper teeth"] + arch), -0.05, 0.06) * (
        1 - smooth(np.abs(x), 1.9, 2.4)
    )
    lower = (1.0 - smooth(y - (marks["lower teeth"] - arch), -0.06, 0.05)) * (
        1 - smooth(np.abs(x), 1.5, 2.1)
    )
    out = lerp(out, tooth * 0.85, lower)
    out = lerp(out, tooth, upper)
    colour[:, inside] = out * (0.25 + 0.75 * edge) * np.minimum(0.2 + 0.8 * glow[inside], 1.1)
