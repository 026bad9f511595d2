"""Chosen faces, and sheets of them to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from facebench.errors import FacebenchError, nearest
from facebench.synth import actions, head, people, population
from facebench.synth.drawing import render
from facebench.synth.labels import PARSE, Sample
from facebench.synth.layout import FAINT, PAPER, Row, arrange, difference, strip, write
from facebench.synth.numeric import Array, Draws
from facebench.synth.portrait import (
    FILTERS,
    MAKEUP,
    OCCLUDERS,
    Occluder,
    Parameters,
    directional_light,
    neutral_identity,
)
from facebench.synth.world import VERSION, WorldConfig, identity_vector

#: What FACS calls the action units.
FACS = {
    1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser",
    6: "cheek raiser", 7: "lid tightener", 9: "nose wrinkler", 10: "upper lip raiser",
    11: "nasolabial deepener", 12: "lip corner puller", 14: "dimpler",
    15: "lip corner depressor", 16: "lower lip depressor", 17: "chin raiser", 18: "lip pucker",
    20: "lip stretcher", 22: "lip funneler", 23: "lip tightener", 24: "lip pressor",
    25: "lips part", 26: "jaw drop", 27: "mouth stretch", 28: "lip suck", 43: "eyes closed",
}  # fmt: skip

_SKIN = np.array([0.5, 0.28, 0.19])  # of a hand, linear RGB

#: A colour per class of `PARSE`.
_COLOURS = np.array([
    (30, 30, 34), (236, 190, 160), (150, 90, 40), (200, 130, 60), (60, 120, 220), (90, 170, 250),
    (240, 150, 120), (220, 60, 90), (90, 10, 30), (250, 100, 130), (110, 80, 150),
], np.uint8)  # fmt: skip


def face(
    *,
    identity: Array | None = None,
    expression: str = "neutral",
    au: Mapping[int, float] | None = None,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    **others: object,
) -> Parameters:
    """Parameters of one chosen face, without noise.

    Args:
        identity: an identity vector; the mean person when left out.
        expression: one of `EXPRESSIONS`, at its prototype's intensities; contempt shows on the
            subject's left.
        au: intensities in [0, 1] by FACS number, on top of the expression.
        yaw: radians, positive turns the nose to the image's right.
        pitch: radians, positive lifts the nose.
        roll: radians, positive leans the face counter-clockwise in the image.
        **others: other fields of `Parameters`.

    Raises:
        FacebenchError: an unknown expression or action unit, or a number out of range.
    """
    if expression not in actions.EXPRESSIONS:
        raise FacebenchError(
            f"face: no expression {expression!r}: {nearest(expression, actions.EXPRESSIONS)}"
        )
    levels, sides = np.zeros(len(actions.ACTION_UNITS)), np.zeros(len(actions.ACTION_UNITS))
    if expression == "contempt":
        for number in actions.PROTOTYPES[expression]:
            sides[actions.INDEX[number]] = 1.0
    for number, level in {**actions.PROTOTYPES[expression], **(au or {})}.items():
        if number not in actions.INDEX:
            raise FacebenchError(
                f"face: no action unit {number!r}; there are: "
                + ", ".join(str(n) for n in actions.ACTION_UNITS)
            )
        levels[actions.INDEX[number]] = level
    known = set(Parameters.__dataclass_fields__)
    for name in others:
        if name not in known:
            raise FacebenchError(f"face: no parameter {name!r}: {nearest(name, known)}")
    fields: dict[str, object] = {
        "identity_vector": neutral_identity() if identity is None else identity,
        "au": levels,
        "sides": sides,
        "expression": actions.EXPRESSIONS.index(expression),
        "pose": np.array([yaw, pitch, roll], np.float64),
    }
    return Parameters(**{**fields, **others})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- contact sheet


def contact_sheet(
    identities: int = 6,
    columns: Sequence[str] = (
        *actions.EXPRESSIONS,
        "yaw -75",
        "yaw -40",
        "yaw 40",
        "yaw 75",
        "pitch 20",
        "light",
    ),
    size: int = 128,
    seed: int = 0,
    gap: int = 2,
    titles: bool = True,
) -> Array:
    """A picture of people in rows, and what they do in columns.

    Args:
        identities: number of rows, the first people of the world `seed`.
        columns: per column an expression, ``AU12`` (at full intensity), ``yaw 40``, ``pitch -15``
            or ``roll 10`` (degrees), or ``light`` (from the side).
        size: side of each face, pixels.
        seed: which world.
        gap: white pixels between faces.
        titles: whether to name the columns, and leave a margin; else faces alone.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        FacebenchError: a column says something else.
    """
    config = WorldConfig(size=size, seed=seed, identities=identities, per_identity=1)
    rows = []
    for r in range(identities):
        draws = Draws(VERSION, seed, "contact sheet", r)
        young, background = draws.one(), draws.uniform(16)
        vector = identity_vector(config, r)
        shown = [
            replace(_column(c, vector), background=background, age=18.0 + 55.0 * young * young)
            for c in columns
        ]
        words = tuple(columns) if titles and r == 0 else ()
        rows.append(Row("", [render(p, size).image for p in shown], words))
    if titles:
        return arrange(rows, gap)
    step = size + gap
    sheet = np.full((identities * step - gap, len(columns) * step - gap, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row.tiles):
            sheet[r * step : r * step + size, c * step : c * step + size] = tile
    return sheet


def _column(column: str, vector: Array) -> Parameters:
    words = column.split()
    if column in actions.EXPRESSIONS:
        return face(identity=vector, expression=column)
    if column.startswith("AU") and column[2:].isdigit():
        return face(identity=vector, au={int(column[2:]): 1.0})
    if column == "light":
        return face(identity=vector, light=directional_light(-1.1, 0.5, 0.6, 1.1, 0.2))
    if len(words) == 2 and words[0] in ("yaw", "pitch", "roll"):
        try:
            angle = float(words[1]) * np.pi / 180.0
        except ValueError:
            raise FacebenchError(f"contact_sheet: column {column!r} has no number") from None
        turns = dict.fromkeys(("yaw", "pitch", "roll"), 0.0) | {words[0]: angle}
        return face(identity=vector, yaw=turns["yaw"], pitch=turns["pitch"], roll=turns["roll"])
    known = [*actions.EXPRESSIONS, "light", "AU12", "yaw 40", "pitch 15", "roll 10"]
    raise FacebenchError(f"contact_sheet: unknown column {column!r}: {nearest(column, known)}")


# ------------------------------------------------------------------------------ other sheets


def _person(seed: int | None) -> Array:
    """The mean person, or the first one of a world."""
    return neutral_identity() if seed is None else identity_vector(WorldConfig(seed=seed), 0)


def au_sheet(size: int = 128, seed: int | None = None, across: int = 3) -> Array:
    """Every action unit at 0, 0.5 and 1, and the difference between the last and the first.

    Args:
        size: side of each face, pixels.
        seed: shows the first person of that world; the mean person when left out.
        across: how many action units stand side by side.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    close = {"identity": _person(seed), "camera": np.array([0.044, 0.0, -0.02, 75.0])}
    still = render(face(**close), size).image  # type: ignore[arg-type]
    blocks = []
    for number in actions.ACTION_UNITS:
        half, full = (
            render(face(**close, au={number: level}), size).image  # type: ignore[arg-type]
            for level in (0.5, 1.0)
        )
        tiles = [still, half, full, difference(still, full)]
        blocks.append(strip(tiles, (f"AU {number}", FACS[number]), gap=2))
    tall, wide = blocks[0].shape[:2]
    margin, between, letter = round(size / 6), round(size / 3), max(size / 13.0, 7.0)
    lines = -(-len(blocks) // across)
    top = margin + round(letter * 2.2)
    sheet = np.full(
        (top + margin + lines * tall, 2 * margin + across * (wide + between) - between, 3),
        PAPER, np.uint8,
    )  # fmt: skip
    for k, block in enumerate(blocks):
        y, x = top + (k % lines) * tall, margin + (k // lines) * (wide + between)
        sheet[y : y + tall, x : x + wide] = block
        if k % lines == 0:
            for c, word in enumerate(("0", "0.5", "1", "|1 - 0|")):
                write(sheet, word, x + c * (size + 2), margin + round(letter), letter, FAINT)
    return sheet


def _dots(image: Array, points: Array, visible: Array, zoom: int) -> Array:
    """The picture, `zoom` times as large, with its points: filled green seen, open red hidden."""
    side = image.shape[0] * zoom
    out = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    for (x, y), seen in zip((points + 0.5) * zoom - 0.5, visible):
        at = (round(float(x) * 16), round(float(y) * 16))
        colour = (40, 220, 90) if seen else (255, 60, 50)
        radius = max(side // 130, 2)
        cv2.circle(out, at, radius * 16, colour, -1 if seen else 1, cv2.LINE_AA, 4)
    return np.asarray(out)


def normals(made: Sample, zoom: int = 1) -> Array:
    """The bare mesh, every triangle in the colour of its normal, from `Sample.vertices`.

    Red grows to the image's right, green upwards, blue to the camera.
    """
    size = made.image.shape[0] * zoom
    f, cx, cy = (float(v) for v in made.intrinsics)
    corners = made.vertices.astype(np.float64)[_shown_triangles(made.parameters).T]  # [T, 3, 3]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(axis=1)
    seen = np.einsum("tk,tk->t", across, middle) < 0  # the camera stands at the origin
    order = np.argsort(middle[seen, 2])  # far ones first
    corners, across = corners[seen][order], across[seen][order]
    length = np.maximum(np.sqrt((across * across).sum(axis=1, keepdims=True)), 1e-12)
    colours = np.rint(127.5 + 127.5 * across / length).astype(int).tolist()
    x, y, z = corners[..., 0], corners[..., 1], corners[..., 2]
    px = np.stack([cx - f * x / z, cy + f * y / z], axis=-1)
    px = np.rint(((px + 0.5) * zoom - 0.5) * 16).astype(np.int32)
    out = np.full((size, size, 3), PAPER, np.uint8)
    for corner, colour in zip(px, colours):
        cv2.fillConvexPoly(out, corner, colour, cv2.LINE_8, 4)
    return out


def _shown_triangles(p: Parameters) -> Array:
    """The triangles [3, n] of the head and of the hair that the person wears."""
    mesh = head.build()
    style = people.become(p.identity_vector, p.age).style
    return np.asarray(mesh.triangles[:, head.drawn(style)])


def _depth(made: Sample) -> Array:
    """Near is bright; nothing is white."""
    there = made.depth > 0
    near, far = (made.depth[there].min(), made.depth[there].max()) if there.any() else (0.0, 1.0)
    grey = 235 - 205 * (made.depth - near) / max(float(far - near), 1e-6)
    grey = np.where(there, grey, 255.0).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _enlarged(image: Array, zoom: int) -> Array:
    return image.repeat(zoom, axis=0).repeat(zoom, axis=1)


def label_sheet(size: int = 192, seed: int | None = None) -> Array:
    """One face with its labels: points, parse mask, occluder mask, depth,
    normals of the bare mesh.

    Args:
        size: side of the image, pixels; it is shown twice as large.
        seed: shows the first person of that world; the mean person when left out.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    vector, zoom = _person(seed), 2
    plain = face(identity=vector, expression="happy", yaw=0.6, pitch=0.05)
    covered = replace(plain, occluders=(Occluder("glasses"), Occluder("hand", colour=_SKIN)))
    rows: list[Row] = []
    for p in (plain, covered):
        made = render(p, size)
        masks = np.array([(255, 255, 255), (60, 120, 220), (30, 40, 90), (60, 180, 140),
                          (230, 140, 60)], np.uint8)  # fmt: skip
        tiles = [
            cv2.resize(made.image, (size * zoom,) * 2, interpolation=cv2.INTER_CUBIC),
            _dots(made.image, made.points, made.visible, zoom),
            _dots(made.image, made.points98, made.visible98, zoom),
            _enlarged(_COLOURS[np.minimum(made.parse, len(PARSE) - 1)], zoom),
            _enlarged(masks[made.occluder], zoom),
            _enlarged(_depth(made), zoom),
            normals(made, zoom),
        ]
        words = ("image", "68 points", "98 points", "parse", "occluder", "depth", "normals")
        rows.append(Row("", tiles, words if not rows else ()))
    return arrange(rows, 4)


def knob_sheet(size: int = 128, seed: int | None = None) -> Array:
    """What the knobs do: rows of one face, each with one thing varied.

    Args:
        size: side of each face, pixels.
        seed: shows the first person of that world; the mean person when left out.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    still = face(identity=_person(seed))

    def shown(**fields: object) -> Array:
        return render(replace(still, **fields), size).image  # type: ignore[arg-type]

    def paint(n: int) -> Array:
        colours = ((0.45, 0.03, 0.05), (0.05, 0.07, 0.16), (0.012, 0.01, 0.01), (0.6, 0.2, 0.18))
        out = np.zeros((len(MAKEUP), 4))
        for k in range(n):
            out[k] = (*colours[k], 0.7)
        return out

    covers = {
        "glasses": Occluder("glasses"), "sunglasses": Occluder("sunglasses"),
        "mask": Occluder("mask", colour=np.array([0.55, 0.68, 0.75])),
        "hand": Occluder("hand", colour=_SKIN),
        "hand, mask": Occluder("hand", np.array([0.2, 0.8, 0.3, 0.6, 0.7, 0.4]), _SKIN),
    }  # fmt: skip
    lights = {
        "even": directional_light(0, 0.3, 1, 0.4, 0.8),
        "left": directional_light(-1.2, 0.3, 0.5, 1.1, 0.2),
        "right": directional_light(1.2, 0.3, 0.5, 1.1, 0.2),
        "above": directional_light(0, 1.2, 0.4, 1.1, 0.2),
        "below": directional_light(0, -0.9, 0.6, 1.0, 0.2),
        "dim": directional_light(0.3, 0.4, 1, 0.35, 0.12),
    }  # fmt: skip
    noise = {"noise": 12.0, "noise_key": "sheet"}
    rows = [
        Row("age", [shown(age=y) for y in (18.0, 30.0, 45.0, 60.0, 75.0, 90.0)],
             ("18", "30", "45", "60", "75", "90")),
        Row("makeup", [shown(makeup=paint(n)) for n in range(5)],
             ("none", *(f"+ {name}" for name in MAKEUP))),
        Row("occluders", [shown(), *(
            shown(occluders=(c,) if "," not in name else (covers["mask"], c))
            for name, c in covers.items())], ("none", *covers)),
        *(Row(style, [shown(style=style, style_strength=s) for s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)],
               ("0", "0.2", "0.4", "0.6", "0.8", "1") if k == 0 else ())
          for k, style in enumerate(FILTERS[1:])),
        Row("light", [shown(light=light) for light in lights.values()], tuple(lights)),
        Row("group", [render(replace(still, identity_vector=population.shifted(
            still.identity_vector, g, 6, 1.0)), size).image for g in range(6)],
            ("0", "1", "2", "3", "4", "5")),
        Row("sensor", [shown(), shown(blur=0.008), shown(blur=0.02), shown(**noise),
                        shown(jpeg=30), shown(jpeg=8)],
             ("none", "blur 0.008", "blur 0.02", "noise 12", "JPEG 30", "JPEG 8")),
    ]  # fmt: skip
    assert set(OCCLUDERS) <= set(covers)
    return arrange(rows, 3)
