"""Chosen faces and contact sheets of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from facebench.errors import FacebenchError, nearest
from facebench.synth import actions
from facebench.synth.drawing import render
from facebench.synth.numeric import Array, Draws
from facebench.synth.portrait import Parameters, directional_light, neutral_identity
from facebench.synth.world import VERSION, WorldConfig, identity_vector


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
        expression: one of `EXPRESSIONS`, at its prototype's intensities.
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
    levels = np.zeros(len(actions.ACTION_UNITS))
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
    return Parameters(
        identity_vector=neutral_identity() if identity is None else identity,
        au=levels,
        expression=actions.EXPRESSIONS.index(expression),
        pose=np.array([yaw, pitch, roll], np.float64),
        **others,  # type: ignore[arg-type]
    )


def contact_sheet(
    identities: int = 6,
    columns: Sequence[str] = (
        *actions.EXPRESSIONS,
        "yaw -40",
        "yaw 40",
        "light",
    ),
    size: int = 128,
    seed: int = 0,
    gap: int = 2,
) -> Array:
    """A picture of people in rows, and what they do in columns.

    Args:
        identities: number of rows, the first people of the world `seed`.
        columns: per column an expression, ``AU12`` (at full intensity), ``yaw 40``, ``pitch -15``
            or ``roll 10`` (degrees), or ``light`` (from the side).
        size: side of each face, pixels.
        seed: which world.
        gap: white pixels between faces.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        FacebenchError: a column says something else.
    """
    config = WorldConfig(size=size, seed=seed, identities=identities, per_identity=1)
    step = size + gap
    sheet = np.full((identities * step - gap, len(columns) * step - gap, 3), 255, np.uint8)
    for r in range(identities):
        vector = identity_vector(config, r)
        draws = Draws(VERSION, seed, "contact sheet", r)
        background = draws.uniform(16)
        for c, column in enumerate(columns):
            p = replace(
                _column(column, vector),
                background=background,
                gaze=np.zeros(2),
            )
            sheet[r * step : r * step + size, c * step : c * step + size] = render(p, size).image
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
