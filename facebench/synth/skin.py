"""Everything on the head's sheet: skin and its paint, brows, beard, lips, scalp, clothes."""

from __future__ import annotations

import math

from facebench.synth import paint as m
from facebench.synth import recipe as k
from facebench.synth.compiled import small
from facebench.synth.eyes import cavity, eye
from facebench.synth.numeric import Array
from facebench.synth.shade import clip, falling, highlight, mirrored, smoothstep, speckle
from facebench.synth.strands import hair, strand, unit


@small
def sharp(maps: Array, at: int, right: int, down: int, f: float, g: float) -> float:
    """A map between four texels: at place `at` and its neighbours, in parts f and g."""
    wa, wb = (1.0 - f) * (1.0 - g), f * (1.0 - g)
    wc, wd = (1.0 - f) * g, f * g
    top = maps[at] * wa + maps[at + right] * wb
    return (top + (maps[at + down] * wc + maps[at + down + right] * wd)) * m.UNIT


@small
def brow_cover(K: Array, along: float, off: float) -> float:
    """How much brow there is at a place along it and above its middle, in [0, 1]."""
    arch = 0.30 * (K[k.BROW + 2] - 0.5) * along
    half = (0.19 + 0.20 * K[k.BROW]) * (1.12 - 0.72 * smoothstep(along, 0.30, 1.05))
    half = half * (0.80 + 0.20 * smoothstep(along, -0.05, 0.15))
    cover = 1.0 - smoothstep(abs(off - arch) / half, 0.45, 1.40)
    return cover * smoothstep(along, -0.06, 0.12) * (1.0 - smoothstep(along, 0.90, 1.06))


@small
def sheet(  # type: ignore[no-untyped-def]
    K: Array, maps: Array, zones: Array, tile: Array, width: int,
    row: float, column: float, px: float, py: float,
    x: float, y: float, z: float, lost: float, open_: float, inside: float,
    tx: float, ty: float, tz: float, contact: float,
):  # fmt: skip
    """Linear RGB and the class of `labels.PARSE` of a point of the head's sheet.

    Args:
        K: the recipe.
        maps: from `paint.maps`.
        zones: from `paint.maps`.
        tile: from `paint.tile`.
        width: texels per line of the maps.
        row: place on the sheet's grid.
        column: the same.
        px: place on the head, cm.
        py: the same.
        x: unit normal, camera's axes.
        y: the same.
        z: the same.
        lost: irradiance that the head keeps from itself here.
        open_: share of the sky that is open here.
        inside: how far inside the hair's edge, rows' places.
        tx: unit vector down the sheet, camera's axes.
        ty: the same.
        tz: the same.
        contact: how much of the light a thing before the face takes, in [0, 1].
    """
    off = column - K[k.COLUMNS_]
    away = abs(off)
    side = 1 if off > 0.0 else 0
    sunk = 1.0 - contact
    # eyes and mouth first: their rows fall together elsewhere
    top, bottom = K[k.ROWS_], K[k.ROWS_ + 1]
    if top + 0.5 < row < bottom - 0.5:
        first, last = K[k.COLUMNS_ + 1], K[k.COLUMNS_ + 2]
        if first < away < last:
            depth = (row - top - 0.5) / (bottom - top - 1.0)
            across = (away - first) / (last - first)
            r, g, b = eye(K, tile, side, depth, across, px, py, x, y, z, lost, open_)
            return r * sunk, g * sunk, b * sunk, 4 + side
    lip_top, mouth_top = K[k.ROWS_ + 2], K[k.ROWS_ + 3]
    mouth_low, lip_low = K[k.ROWS_ + 4], K[k.ROWS_ + 5]
    if mouth_top + 0.25 < row < mouth_low - 0.25 and away < K[k.COLUMNS_ + 3]:
        _, level, _ = falling(K, x, y, z, lost, open_, 0.0)
        depth = (row - mouth_top) / (mouth_low - mouth_top)
        r, g, b = cavity(K, depth, px, py, level)
        return r * sunk, g * sunk, b * sunk, 8

    height = zones.shape[0] // width
    u = min(max(column * m.FINE_C - 0.5, 0.0), width - 1.001)
    v = min(max(row * m.FINE_R - 0.5, 0.0), height - 1.001)
    i, j = int(u), int(v)
    f, g_ = u - i, v - j
    at = j * width + i
    right = m.COUNT if i + 1 < width else 0
    down = width * m.COUNT if j + 1 < height else 0
    # soft maps are read at the nearest texel, the others between four
    near = (int(v + 0.5) * width + int(u + 0.5)) * m.COUNT
    zone = zones[at]
    at = at * m.COUNT
    scale = K[k.SCALE]
    fine = smoothstep(scale, 4.2, 13.0)
    streak = 0.0
    if inside > -1.2:  # strands are alike on all sides, the grid's columns are not
        streak = strand(tile, K, row, off * (0.66 + 0.0009 * away * away))
    thick = 0.0
    if K[k.STYLE] > 0.5 and inside > -1.2:
        wobble = speckle(tile, column * 0.45, row * 0.3)
        edge = 0.17 + 0.07 * wobble
        thick = smoothstep(inside + 0.17 * streak + 0.10 * wobble, -edge, 0.10 + edge)
    if thick >= 0.995 and K[k.STYLE] > 1.5:
        r, g, b = hair(K, streak, x, y, z, tx, ty, tz, lost, open_, 0.0)
        return r * sunk, g * sunk, b * sunk, 10
    cloth = sharp(maps, at + m.CLOTH, right, down, f, g_) if zone & m.Z_CLOTH else 0.0
    if cloth >= 0.995:
        weave = 1.0 + 0.10 * fine * speckle(tile, column * 9.0, row * 7.0)
        r, g, b = falling(K, x, y, z, lost, open_, 0.0)
        return (
            K[k.CLOTH_] * weave * r * sunk, K[k.CLOTH_ + 1] * weave * g * sunk,
            K[k.CLOTH_ + 2] * weave * b * sunk, 0,
        )  # fmt: skip

    # pores and grain tilt the skin a little
    pore = 0.0
    if fine > 0.02:
        level = sharp(maps, at + m.Y, right, down, f, g_)
        pore = speckle(tile, away * 4.7, level * 11.0)
        pore += 0.7 * speckle(tile, away * 10.3, level * 23.0)
        bump = 0.055 * fine * pore
        tilt = 0.055 * fine * speckle(tile, away * 4.9 + 19.0, level * 12.1 + 23.0)
        x, y, z = unit(x + bump, y + tilt, z)
    blotch = speckle(tile, away * 0.55, row * 0.42) + 0.5 * speckle(tile, away * 1.7, row * 1.3)
    front = maps[near + m.FRONT] * m.UNIT
    oil = 0.0
    dark = 0.0  # hollows and creases
    r, g, b = K[k.SKIN], K[k.SKIN + 1], K[k.SKIN + 2]
    if front > 0.0:
        oil = maps[near + m.OIL] * m.UNIT
        red = maps[near + m.RUDDY] * m.UNIT * K[k.RUDDY_] * (1.0 + 0.35 * blotch)
        r, g, b = r * (1.0 + 0.06 * red), g * (1.0 - 0.46 * red), b * (1.0 - 0.36 * red)
        if K[k.FRECKLES_] > 0.0:
            spot = sharp(maps, at + m.FRECKLES, right, down, f, g_)
            spot = min(spot * K[k.FRECKLES_] * (0.75 + 0.25 * fine), 0.75)
            r, g, b = r * (1.0 - 0.42 * spot), g * (1.0 - 0.62 * spot), b * (1.0 - 0.72 * spot)
        if K[k.SPOTS_] > 0.0:
            spot = maps[near + m.SPOTS] * m.UNIT * K[k.SPOTS_]
            r, g, b = r * (1.0 - 0.45 * spot), g * (1.0 - 0.70 * spot), b * (1.0 - 0.80 * spot)
        under = maps[near + m.SOCKET] * m.UNIT * K[k.UNDER_EYES]
        r, g, b = r * (1.0 - 0.80 * under), g * (1.0 - under), b * (1.0 - 0.72 * under)
        if K[k.MOLES + 2] > 0.0:
            mx = sharp(maps, at + m.X, right, down, f, g_)
            my = sharp(maps, at + m.Y, right, down, f, g_)
            for n in range(3):
                radius = K[k.MOLES + 3 * n + 2]
                dx, dy = mx - K[k.MOLES + 3 * n], my - K[k.MOLES + 3 * n + 1]
                d = dx * dx + dy * dy
                if d < 0.09:
                    blur = 0.3 / scale
                    d = math.sqrt(d)
                    spot = 1.0 - smoothstep(d, radius - 0.03 - blur, radius + 0.03 + blur)
                    spot = spot * min(radius / (radius + blur), 1.0) * 0.75
                    r, g, b = (
                        r * (1.0 - 0.65 * spot),
                        g * (1.0 - 0.8 * spot),
                        b * (1.0 - 0.85 * spot),
                    )
        cover = maps[near + m.BLUSH] * m.UNIT * K[k.MAKEUP_ + 15] * 0.75
        if cover > 0.0:
            r += (K[k.MAKEUP_ + 12] - r) * cover
            g += (K[k.MAKEUP_ + 13] - g) * cover
            b += (K[k.MAKEUP_ + 14] - b) * cover
        dark = sharp(maps, at + m.OCCLUSION, right, down, f, g_)
    tone = 1.0 + 0.030 * blotch + 0.035 * fine * pore
    r, g, b = r * tone, g * (tone - 0.012 * blotch), b * (tone - 0.012 * blotch)

    label = 0
    if sharp(maps, at + m.FACE, right, down, f, g_) > 0.0:
        label = 1
    if front > 0.3 and sharp(maps, at + m.NOSE, right, down, f, g_) > 0.0:
        label = 6

    if zone & m.Z_LINES:
        s = smoothstep(off, -1.2, 1.2)
        at_lines = k.LINES
        depth = 0.0
        for n in range(8):
            left, other = K[at_lines + 2 * n], K[at_lines + 2 * n + 1]
            amount = left + (other - left) * s
            if amount > 0.0:
                depth += amount * sharp(maps, at + m.CROW + n, right, down, f, g_)
        dark += depth
    if K[k.WRINKLE] > 0.15 and front > 0.2 and fine > 0.0:
        # the fine net of old skin, along the lines of the temple and the cheek
        net = maps[near + m.TEMPLE] * m.UNIT
        lines = 1.0 - abs(speckle(tile, away * 2.6 - row * 0.8, row * 2.2 + away * 0.9)) * 2.0
        dark += 0.20 * fine * (K[k.WRINKLE] - 0.15) * max(lines, 0.0) * (0.25 + net)

    gloss = 0.045 + 0.16 * oil * (0.30 + 0.90 * K[k.SHINE])
    broad = 0.040 + 0.050 * K[k.SHINE]
    lips = 0.0
    if zone & m.Z_LIPS:
        lips = sharp(maps, at + m.LIPS, right, down, f, g_)
        if lips > 0.0:
            grain = speckle(tile, column * 3.1, row * 0.35) * (0.25 + 0.75 * fine)
            middle = 0.5 * (mouth_top + mouth_low)
            inner = 1.0 - clip(abs(row - middle) / (0.5 * (lip_low - lip_top)))
            shade = (1.0 + 0.10 * grain) * (1.0 - 0.20 * inner * inner)
            lr, lg, lb = K[k.LIPS_] * shade, K[k.LIPS_ + 1] * shade, K[k.LIPS_ + 2] * shade
            cover = 0.92 * K[k.MAKEUP_ + 3]
            lr += (K[k.MAKEUP_] * shade - lr) * cover
            lg += (K[k.MAKEUP_ + 1] * shade - lg) * cover
            lb += (K[k.MAKEUP_ + 2] * shade - lb) * cover
            part = lips * (0.88 + 0.12 * K[k.MAKEUP_ + 3])
            r, g, b = r + (lr - r) * part, g + (lg - g) * part, b + (lb - b) * part
            gloss += lips * (0.10 + 0.20 * K[k.MAKEUP_ + 3]) * (1.0 + 0.8 * grain)
            if lips > 0.5:
                label = 7 if row < middle else 9
    if zone & m.Z_LASH:
        lid = sharp(maps, at + m.LID, right, down, f, g_)
        cover = lid * K[k.MAKEUP_ + 7] * 0.85
        r += (K[k.MAKEUP_ + 4] - r) * cover
        g += (K[k.MAKEUP_ + 5] - g) * cover
        b += (K[k.MAKEUP_ + 6] - b) * cover
        dark += 0.30 * sharp(maps, at + m.CREASE, right, down, f, g_)
        lash = sharp(maps, at + m.LASH, right, down, f, g_)
        liner = K[k.MAKEUP_ + 11]
        tiny = 1.0 - smoothstep(scale, 2.5, 6.0)
        cover = clip(
            (1.0 + 0.5 * tiny)
            * lash
            * (0.52 + 0.40 * K[k.LASHES] + 0.60 * liner)
            * (1.0 + 0.6 * liner)
        )
        r += (0.012 + liner * (K[k.MAKEUP_ + 8] - 0.012) - r) * cover
        g += (0.009 + liner * (K[k.MAKEUP_ + 9] - 0.009) - g) * cover
        b += (0.008 + liner * (K[k.MAKEUP_ + 10] - 0.008) - b) * cover
        gloss = gloss * (1.0 - cover)
    hairy = 0.0
    if K[k.BEARD_] > 0.0 and zone & m.Z_BEARD:
        which = m.BEARD
        if K[k.BEARD_ + 1] > 1.5:
            which = m.GOATEE if K[k.BEARD_ + 1] < 2.5 else m.MOUSTACHE
        beard = sharp(maps, at + which, right, down, f, g_)
        if beard > 0.0:
            bend = away * 6.1 + 0.5 * speckle(tile, away * 0.8, row * 0.7)
            bristle = 0.7 * speckle(tile, bend, row * 0.9) + fine * 0.6 * speckle(
                tile, away * 13.1 + 5.0, row * 2.6
            )
            if K[k.BEARD_ + 1] < 0.5:  # stubble: the roots' blue shade and dots
                dots = 0.85 + 0.30 * bristle
                part = clip(beard * (0.16 + 0.36 * K[k.BEARD_]) * dots)
            else:
                part = clip(beard * (1.02 + 0.20 * bristle) * K[k.BEARD_ + 2] * 0.97)
            tone = 0.95 + 0.40 * bristle
            hr, hg, hb = K[k.HAIR] * tone, K[k.HAIR + 1] * tone, K[k.HAIR + 2] * tone
            r, g, b = r + (hr - r) * part, g + (hg - g) * part, b + (hb - b) * part
            hairy = part
    if zone & m.Z_BROW:
        along = sharp(maps, at + m.BROW_ALONG, right, down, f, g_)
        above = sharp(maps, at + m.BROW_OFF, right, down, f, g_)
        cover = brow_cover(K, along, above)
        if cover > 0.0:
            lean = 1.6 * above * (1.2 - along)  # hairs rise at the inner end and lie down outwards
            tuft = speckle(tile, (along * 5.2 - lean) * 6.0, above * 2.4 + along * 2.0)
            tuft = tuft * (0.25 + 0.75 * fine)
            part = clip(cover * (0.66 + 0.36 * K[k.BROW + 1]) * (1.0 + 0.55 * tuft * (1.3 - cover)))
            hr = min(K[k.HAIR] * 0.72 + 0.012, 0.52 * K[k.SKIN]) * (1.0 + 0.25 * tuft)
            hg = min(K[k.HAIR + 1] * 0.72 + 0.009, 0.52 * K[k.SKIN + 1]) * (1.0 + 0.25 * tuft)
            hb = min(K[k.HAIR + 2] * 0.72 + 0.008, 0.52 * K[k.SKIN + 2]) * (1.0 + 0.25 * tuft)
            r, g, b = r + (hr - r) * part, g + (hg - g) * part, b + (hb - b) * part
            hairy = max(hairy, part)
            if cover > 0.5:
                label = 2 + side
    # light
    dim = 1.0 - min(max(dark, -0.12), 0.93)
    er, eg, eb = falling(K, x, y, z, lost + 0.35 * max(dark, 0.0) * 0.3, open_, 1.0 - 0.6 * hairy)
    gap = 1.0 - dim
    er, eg, eb = er * (1.0 - 0.88 * gap), eg * (1.0 - 0.97 * gap), eb * (1.0 - gap)
    seen = clip(eg * 1.2) * open_ * (1.0 - 0.75 * hairy) * max(1.0 - 1.5 * max(dark, 0.0), 0.0)
    shine = highlight(K, x, y, z, broad, gloss) * seen * (1.0 + 0.5 * fine * pore)
    rim = 1.0 - max(z, 0.0)
    rim = rim * rim * rim * rim
    shine += (0.012 + 0.16 * rim) * mirrored(K, x, y, z) * open_ * open_ * (0.5 - 0.4 * hairy) * dim
    r, g, b = r * er + shine, g * eg + shine, b * eb + shine
    if cloth > 0.0:
        r += (K[k.CLOTH_] * er - r) * cloth
        g += (K[k.CLOTH_ + 1] * eg - g) * cloth
        b += (K[k.CLOTH_ + 2] * eb - b) * cloth
        if cloth > 0.5:
            label = 0
    if thick > 0.0:
        hr, hg, hb = hair(K, streak, x, y, z, tx, ty, tz, lost, open_, 0.0)
        if K[k.STYLE] < 1.5:  # buzzed: the skin shines through
            thick = thick * (0.70 + 0.20 * speckle(tile, away * 8.1, row * 6.3) * fine)
        r, g, b = r + (hr - r) * thick, g + (hg - g) * thick, b + (hb - b) * thick
        if thick > 0.5:
            label = 10
    return r * sunk, g * sunk, b * sunk, label
