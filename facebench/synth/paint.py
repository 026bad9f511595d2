"""What is painted on the head's sheet: maps on a fine version of its grid, drawn once.

A sample reads the four texels around its row and column. Places are taken from the landmarks of
the head at rest, so that the paint stays on the features when the head's tables change.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from facebench.synth import head
from facebench.synth.head import bump
from facebench.synth.numeric import Array, Draws, quantise, smooth

FINE_R, FINE_C = 4, 5  # texels per row and column
UNIT = 1.0 / 1024  # one step of a map: a texel's 32 maps fill one line of a cache

MAPS = (
    "x", "y", "v", "front", "ruddy", "occlusion", "socket", "oil", "blush", "freckles",
    "spots", "lips", "brow along", "brow off", "beard", "goatee", "moustache", "cloth", "crow",
    "furrow", "forehead", "fold", "marionette", "chin", "bunny", "bags", "lash", "lid", "crease",
    "face", "nose", "temple",
)  # fmt: skip
(
    X, Y, V, FRONT, RUDDY, OCCLUSION, SOCKET, OIL, BLUSH, FRECKLES, SPOTS, LIPS, BROW_ALONG,
    BROW_OFF, BEARD, GOATEE, MOUSTACHE, CLOTH, CROW, FURROW, FOREHEAD, FOLD, MARIONETTE, CHIN,
    BUNNY, BAGS, LASH, LID, CREASE, FACE, NOSE, TEMPLE,
) = range(len(MAPS))  # fmt: skip

COUNT = len(MAPS)

# which kinds of paint a texel may carry
Z_LIPS, Z_BROW, Z_BEARD, Z_LINES, Z_LASH, Z_CLOTH, Z_DETAIL = (1 << k for k in range(7))


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


def noise(shape: tuple[int, int], cell: tuple[float, float], name: str) -> Array:
    """Value noise in [-1, 1] with cells of a size in texels, mirrored about the middle column."""
    h, w = int(shape[0] / cell[0]) + 2, int(shape[1] / cell[1]) + 2
    values = Draws("map", name).uniform(h * w, -1.0, 1.0).reshape(h, w)
    y, x = np.arange(shape[0]) / cell[0], np.arange(shape[1]) / cell[1]
    r, c = y.astype(int), x.astype(int)
    fy, fx = smooth(y - r, 0.0, 1.0)[:, None], smooth(x - c, 0.0, 1.0)[None]
    top = values[r][:, c] * (1 - fx) + values[r][:, c + 1] * fx
    low = values[r + 1][:, c] * (1 - fx) + values[r + 1][:, c + 1] * fx
    made = np.asarray(top * (1 - fy) + low * fy)
    middle = head.MIDDLE * FINE_C  # the same on both sides: asymmetry is the identity's own
    made[:, : middle + 2] = made[:, 2 * middle + 4 : middle + 2 : -1]
    return made


@lru_cache(maxsize=1)
def tile() -> Array:
    """A square of 64 x 64 smooth random numbers in [-1, 1] that repeats, as [4096]."""
    raw = Draws("map", "tile").uniform(64 * 64, -1.0, 1.0).reshape(64, 64)
    return quantise(raw).reshape(-1)


def _line(d: Array, width: Array | float) -> Array:
    """A crease: dark in the middle, a little lighter on its two banks."""
    q = (d / width) ** 2
    return np.asarray(np.exp(-q) - 0.42 * np.exp(-q / 5.0))


def _at(points: Array, k: int) -> tuple[float, float]:
    return float(points[0, k]), float(points[1, k])


@lru_cache(maxsize=1)
def maps() -> tuple[Array, Array]:
    """The painted maps, int16 [texels * maps] in steps of `UNIT`, and zones, uint8 [texels]."""
    h = head.build()
    sheet = h.rest[:, : head.ROWS * head.COLUMNS].reshape(3, head.ROWS, head.COLUMNS)
    corners, weights = h.landmarks
    marks = (h.rest[:, corners] * weights).sum(axis=2)
    x, y, z = (_upsample(q) for q in sheet)
    ax = np.abs(x)
    v = _upsample(head.ROW)
    shape = v.shape
    row = np.broadcast_to(((np.arange(shape[0]) + 0.5) / FINE_R)[:, None], shape)
    column = np.abs(((np.arange(shape[1]) + 0.5) / FINE_C)[None] - head.MIDDLE)
    column = np.broadcast_to(np.minimum(column, head.COLUMNS - column), shape)
    theta = np.abs(_upsample(np.broadcast_to(np.abs(head.THETA), head.ROW.shape)))
    front = smooth(z, 0.0, 4.0)
    b = lambda *a: bump(x, y, *a) * front  # noqa: E731
    n = head.NAMED
    out: dict[str, Array] = {"x": x, "y": y, "v": v, "front": front}
    _, mouth_y = _at(marks, 62)
    corner_x, corner_y = _at(marks, 54)
    nose_y = _at(marks, 33)[1]
    wing_x = _at(marks, 35)[0]
    tip_y = _at(marks, 30)[1]
    eye_x = 0.5 * (_at(marks, 42)[0] + _at(marks, 45)[0])
    outer_x, outer_y = _at(marks, 45)
    inner_x = _at(marks, 42)[0]

    # lips
    inside = 1.0 - smooth(column, head.MOUTH_OUT - 0.9, head.MOUTH_OUT + 0.15)
    band = smooth(row, n["upper lip"] - 0.55, n["upper lip"] + 0.75)
    band = band * (1.0 - smooth(row, n["lower lip"] - 0.8, n["lower lip"] + 0.75))
    out["lips"] = band * inside

    # brows: how far along (0 inner end, 1 outer end), and above the middle line, cm
    bx, by = marks[0, 22:27], marks[1, 22:27]
    first, last = bx[0] - 0.25, bx[4] + 0.35
    middle = np.interp(ax, bx, by) + 0.25 * np.minimum(ax - bx[0], 0.0)
    middle -= 0.45 * np.maximum(ax - bx[4], 0.0)
    near = (front > 0.2) & (np.abs(y - middle) < 1.6)
    out["brow along"] = np.where(near, (ax - first) / (last - first), 9.0)
    out["brow off"] = np.where(near, y - middle, 9.0)

    # colour of the skin
    ruddy = b(4.0, -2.9, 1.8, 1.5) + 0.8 * b(0, tip_y, 1.1, 0.8) + 0.35 * b(0, -9.8, 1.5, 1.0)
    out["ruddy"] = ruddy + 0.25 * b(wing_x, nose_y + 0.7, 0.6, 0.5)
    out["blush"] = bump(x, y, 4.5, -2.6, 2.1, 1.3) * front
    out["socket"] = b(eye_x, -0.95, 1.6, 0.6) + 0.5 * b(1.7, -0.3, 0.5, 0.8)
    out["oil"] = (
        0.9 * b(0, tip_y + 0.2, 0.7, 0.7) + 0.5 * b(0, -1.0, 0.5, 1.8)
        + 0.45 * b(0, 5.0, 3.0, 1.6) + 0.5 * b(4.2, -1.9, 1.3, 0.9) + 0.35 * b(0, -9.6, 1.0, 0.8)
    )  # fmt: skip
    fine = noise(shape, (2.4, 2.4), "freckles")
    coarse = noise(shape, (6.0, 6.0), "spots")
    out["freckles"] = smooth(fine, 0.25, 0.75) * (b(0, -2.2, 5.2, 2.2) + 0.12 * front)
    where = front * smooth(theta, 0.35, 0.9) * (1 - smooth(v, 11.0, 12.0)) + 0.5 * b(0, 6, 6, 2.5)
    out["spots"] = smooth(coarse, 0.45, 0.72) * np.clip(where, 0, 1)

    # hollows that the mesh is too coarse for
    shade = 0.95 * b(0.62, nose_y + 0.22, 0.36, 0.16) + 0.22 * b(0, nose_y - 0.15, 1.3, 0.30)
    shade += 0.12 * b(0, mouth_y - 1.65, 1.7, 0.4)
    shade += 0.18 * b(wing_x + 0.42, nose_y + 0.70, 0.16, 0.45)
    shade += 0.10 * b(1.7, 0.6, 0.8, 1.0)
    middle_row = 0.5 * (n["upper mouth"] + n["lower mouth"])
    line = np.exp(-(((row - middle_row) / 2.5) ** 2))
    shade += 0.55 * line * (1 - smooth(column, head.MOUTH_OUT - 1.4, head.MOUTH_OUT + 0.2))
    shade += 0.18 * b(corner_x + 0.12, corner_y, 0.30, 0.22)
    out["occlusion"] = np.clip(shade, 0.0, 0.95)

    # beards
    line_of = np.interp(
        theta, [0, 0.2, 0.42, 0.6, 0.9, 1.2, 1.45], [9.75, 9.6, 8.8, 8.75, 8.2, 7.2, 6.3]
    )
    rough = noise(shape, (3.0, 2.0), "beard edge")
    beard = smooth(v - line_of + 0.22 * rough, -0.35, 0.55) * (1 - smooth(v, 12.3, 13.4))
    beard = beard * (1 - smooth(theta, 1.36, 1.6))
    rows = row - n["upper lip"]
    above_lip = 1.0 - smooth(rows, -0.6, 0.4)
    high = 1.0 - smooth(y + 0.12 * rough, nose_y - 0.55, nose_y - 0.15)
    wide = 1.0 - smooth(ax + 0.25 * rough, corner_x - 0.2, corner_x + 0.75)
    droop = smooth(y, corner_y - 1.0, corner_y - 0.2)
    nolips = 1.0 - smooth(out["lips"], 0.0, 0.45)
    out["moustache"] = (
        high * wide * droop * nolips * front * np.maximum(above_lip, ax > corner_x - 0.35)
    )
    out["beard"] = np.maximum(beard * nolips, out["moustache"])
    goatee = (1 - smooth(ax + 0.2 * rough, 1.6, 2.9)) * (
        1 - smooth(y, mouth_y - 1.9, mouth_y - 1.3)
    )
    out["goatee"] = np.maximum(goatee * beard * nolips, out["moustache"])

    out["cloth"] = smooth(v + 0.35 * np.cos(theta), 16.45, 16.56)

    # lines that muscles and years draw
    crow = sum(
        _line(y - outer_y - 0.05 - k * 0.36 - (ax - outer_x) * k * 0.34, 0.15)
        for k in (-1, 0, 1, 2)
    )
    ends = smooth(ax, outer_x + 0.12, outer_x + 0.5) * (
        1 - smooth(ax, outer_x + 1.1, outer_x + 1.8)
    )
    out["crow"] = crow * ends * front
    out["furrow"] = _line(ax - 0.52 - 0.10 * (y - 2.0), 0.18) * (
        smooth(y, 1.0, 1.7) * (1 - smooth(y, 2.9, 3.6)) * front
    )
    waves = y + 0.16 * np.cos(x * 0.85) + 0.10 * noise(shape, (9.0, 22.0), "waves")
    out["forehead"] = sum(
        k * _line(waves - q, 0.21) for q, k in ((3.75, 0.8), (4.5, 1.0), (5.25, 0.9), (6.0, 0.6))
    ) * ((1 - smooth(ax, 3.0, 4.9)) * front)
    span = np.array([nose_y + 0.9, nose_y + 0.1, nose_y - 0.9, corner_y + 0.2, corner_y - 0.9])
    reach = np.array(
        [wing_x + 0.42, wing_x + 0.85, corner_x - 0.25, corner_x + 0.55, corner_x + 0.75]
    )
    crease_x = np.interp(y, span[::-1], reach[::-1])
    out["fold"] = _line(ax - crease_x, 0.27) * (
        smooth(y, corner_y - 0.9, corner_y + 0.3)
        * (1 - smooth(y, nose_y + 0.3, nose_y + 1.0))
        * front
    )
    marionette = corner_x + 0.10 - 0.10 * (y - corner_y)
    out["marionette"] = _line(ax - marionette, 0.25) * (
        (1 - smooth(y, corner_y - 0.45, corner_y - 0.1))
        * smooth(y, corner_y - 2.4, corner_y - 1.2) * front
    )  # fmt: skip
    arc = -1.0 + 0.13 * (ax - eye_x) ** 2
    out["bags"] = (
        _line(y - arc + 0.02, 0.27)
        * (
            smooth(ax, inner_x - 0.1, inner_x + 0.6)
            * (1 - smooth(ax, outer_x - 0.5, outer_x + 0.4))
        )
        * front
    )
    out["chin"] = b(0, -9.4, 1.3, 0.9) * noise(shape, (3.0, 3.0), "chin")
    side = _line(ax - 0.75 - 0.30 * (y + 0.9), 0.12) + _line(ax - 0.55 - 0.3 * (y + 0.4), 0.10)
    out["bunny"] = side * bump(x * 0, y, 0, -0.4, 1, 0.75) * front
    out["temple"] = front * np.clip(
        b(outer_x + 0.6, -0.4, 1.6, 1.8) + b(eye_x, -1.3, 2.0, 0.6), 0, 1
    )

    # round the eye: the lashes' line, the lid up to its crease and a little beyond, the crease
    across = np.abs(column - 0.5 * (head.EYE_IN + head.EYE_OUT))
    half = 0.5 * (head.EYE_OUT - head.EYE_IN)
    eye = 1.0 - smooth(across, half - 0.35, half + 0.75)
    upper = np.exp(-(((row - n["upper lid"] - 0.10) / 0.70) ** 2))
    lower = np.exp(-(((row - n["lower lid"] - 0.05) / 0.60) ** 2))
    outward = 0.55 + 0.45 * smooth(column, head.EYE_IN, head.EYE_OUT - 1.0)
    out["lash"] = np.minimum(upper * outward + 0.30 * lower * outward, 1.0) * eye
    wide_eye = 1.0 - smooth(across, half - 0.5, half + 2.2)
    out["lid"] = wide_eye * (
        smooth(row, n["fold"] - 3.5, n["crease"])
        * (1 - smooth(row, n["upper lid"], n["upper lid"] + 0.6))
    )
    out["crease"] = np.exp(-(((row - n["crease"] + 0.4) / 0.55) ** 2)) * eye

    # what counts as face, and as nose
    at_v = (head.ROW.reshape(-1)[corners[:17]] * weights[:17]).sum(axis=1)
    at_t = (np.abs(head.THETA)[corners[:17] % head.COLUMNS] * weights[:17]).sum(axis=1)
    order = np.argsort(at_t[8:])
    jaw = np.interp(theta, at_t[8:][order], at_v[8:][order])
    limit = at_t[16] + 0.05
    below = np.clip((jaw - v) * 4.0, -1, 1)
    behind = np.clip((limit - theta) * 8.0, -1, 1)
    scalp = np.clip((at_v[16] - 1.2 - v) * 2.0, -1, 1)  # a bald head's skin goes all the way up
    out["face"] = np.minimum(below, np.maximum(behind, scalp))
    heights = np.array([nose_y - 0.12, nose_y + 0.25, nose_y + 0.9, tip_y + 1.0, -1.5, 0.2, 1.2])
    widths = np.array([wing_x * 0.75, wing_x + 0.38, wing_x + 0.42, wing_x - 0.1, 0.95, 0.62, 0.40])
    sides = np.interp(y, heights, widths) - ax
    out["nose"] = np.clip(
        4 * np.minimum(np.minimum(sides, 1.2 - y), y - heights[0] + 0.1 * ax), -1, 1
    ) * (front > 0.3)
    made = [out[name].reshape(-1) for name in MAPS]
    table = np.rint(np.clip(np.stack(made, 1), -31.9, 31.9) / UNIT).astype(np.int16)

    def zone(*names: str, eps: float = 0.02) -> Array:
        some = np.zeros(shape, bool)
        for name in names:
            some |= np.abs(out[name]) > eps
        wide = some.copy()  # a sample reads its neighbours, too
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                wide |= np.roll(some, (dr, dc), (0, 1))
        return wide

    zones = np.zeros(shape, np.uint8)
    zones[zone("lips")] |= Z_LIPS
    brow = (out["brow along"] > -0.25) & (out["brow along"] < 1.3) & (np.abs(out["brow off"]) < 1.0)
    zones[brow] |= Z_BROW
    zones[zone("beard")] |= Z_BEARD
    zones[zone("crow", "furrow", "forehead", "fold", "marionette", "bags", "bunny", "chin")] |= (
        Z_LINES
    )
    zones[zone("lash", "lid", "crease")] |= Z_LASH
    zones[zone("cloth")] |= Z_CLOTH
    rim = (row > n["upper lid"] - 1.2) & (row < n["lower lid"] + 1) & (across < half + 0.5)
    rim |= (np.abs(out["brow off"]) < 0.5) & (out["brow along"] > -0.1) & (out["brow along"] < 1.1)
    rim |= (row > n["upper mouth"] - 1) & (row < n["lower mouth"] + 1) & (column < head.MOUTH_OUT)
    zones[rim] |= Z_DETAIL
    return table.reshape(-1), zones.reshape(-1)
