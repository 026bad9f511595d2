"""What may stand before a face: glasses, sunglasses, a mask, a hand.

Each is a mesh fitted to the posed face, so it sits right on every identity and with every
expression. The six numbers of `Occluder.form`, all in [0, 1], mean:

glasses, sunglasses (colour: the frame)
    0  frame: round, square, cat-eye, half-rim, a quarter of the range each
    1  size of the lenses
    2  thickness of the rims
    3  width of the bridge
    4  how far down the nose they sit
    5  glasses: how much light the lenses keep (they pass 0.93 to 0.85); sunglasses: how brown
       their lenses are (black to brown)

mask (colour: the cloth)
    0  where it ends above: 0 under the nose, 1 high on the bridge
    1  fullness, how far the cloth stands out
    2  depth of the folds
    3  tightness, how closely the cloth follows the face
    4  print: plain below 0.75, a border to 0.88, stripes above
    5  lightness of the print's other colour

hand (colour: the skin)
    0  place of the knuckles across the face, from the image's left to its right
    1  and up it, from the chin to above the brows
    2  where the forearm comes from: 0 the image's left, 0.5 below, 1 the right; a forearm from
       the image's left is the subject's right hand
    3  spread of the fingers
    4  size; the lightness of the sleeve follows it
    5  how bent the fingers are
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from facebench.errors import FacebenchError, nearest
from facebench.synth import head
from facebench.synth.numeric import Array, Draws
from facebench.synth.portrait import OCCLUDERS, Occluder, vector

if TYPE_CHECKING:
    from facebench.synth.tubes import Prop

_MARKS = ("left x", "left y", "right x", "right y")

# Linear RGB.
_FRAMES: tuple[tuple[float, float, float], ...] = (
    (0.012, 0.012, 0.014), (0.012, 0.012, 0.014), (0.09, 0.035, 0.012), (0.045, 0.05, 0.06),
    (0.35, 0.24, 0.10), (0.42, 0.42, 0.43), (0.20, 0.015, 0.02), (0.02, 0.04, 0.15),
)  # fmt: skip
_CLOTHS: tuple[tuple[float, float, float], ...] = (
    (0.34, 0.57, 0.76), (0.34, 0.57, 0.76), (0.80, 0.81, 0.82), (0.80, 0.81, 0.82),
    (0.016, 0.016, 0.018), (0.02, 0.04, 0.12), (0.42, 0.12, 0.14), (0.20, 0.36, 0.24),
    (0.55, 0.36, 0.42), (0.16, 0.16, 0.17),
)  # fmt: skip


def build(occluder: Occluder, points: Array, marks: dict[str, float]) -> tuple[Prop, ...]:
    """The meshes of one thing before a face.

    Args:
        occluder: what, with its form.
        points: [3, V] posed points of `mesh.shape`, cm, in the head's axes.
        marks: places of `mesh.shape`; those of the eyes are needed.

    Returns:
        One or two meshes: frame and lenses, shell and ear loops, a hand.

    Raises:
        FacebenchError: no `Occluder`, points that are not this head's, a mark that is missing.
    """
    if not isinstance(occluder, Occluder):
        raise FacebenchError(f"occluders.build.occluder: found {occluder!r}, expected an Occluder")
    wanted = (3, head.build().rest.shape[1])
    if not isinstance(points, np.ndarray) or points.shape != wanted:
        found = getattr(points, "shape", type(points).__name__)
        raise FacebenchError(f"occluders.build.points: found {found}, expected {wanted}")
    for name in _MARKS:
        if name not in marks:
            raise FacebenchError(f"occluders.build.marks: no mark {name!r}")
    from facebench.synth import eyewear, facemask, hand  # compiled: only for who draws

    kind = 1 + OCCLUDERS.index(occluder.kind)
    if occluder.kind == "mask":
        return facemask.build(kind, occluder.form, occluder.colour, points)
    if occluder.kind == "hand":
        return hand.build(kind, occluder.form, occluder.colour, points)
    return eyewear.build(kind, occluder.form, occluder.colour, points, marks)


def draw(draws: Draws, kind: str, skin: Array) -> Occluder:
    """Draws an occluder that people are seen with.

    Args:
        draws: where chance comes from; nine numbers are taken, whatever the kind.
        kind: one of `OCCLUDERS`.
        skin: [3] linear RGB of the person, in [0, 1]: the colour of a hand.

    Raises:
        FacebenchError: an unknown kind, a skin that is no colour.
    """
    if kind not in OCCLUDERS:
        raise FacebenchError(
            f"occluders.draw.kind: no occluder {kind!r}: {nearest(str(kind), OCCLUDERS)}"
        )
    skin = vector("occluders.draw", "skin", skin, (3,), 0.0, 1.0)
    u = draws.uniform(9)
    form = u[:6].copy()
    if kind == "hand":
        form[3] = 0.7 * u[3]
        form[5] = 0.8 * u[5]
        if u[1] > 0.6:  # nobody holds the brow with a forearm from straight below the nose
            form[2] = 0.5 + (u[2] - 0.5) * 0.7 + (0.15 if u[2] >= 0.5 else -0.15)
        return Occluder(kind, form, skin)
    shade = 0.8 + 0.4 * float(u[7])
    if kind == "mask":
        low = u[8] < 0.12  # a few wear it under the nose
        form[0] = 0.1 * u[0] if low else 0.55 + 0.45 * u[0]
        table = _CLOTHS
    else:
        form[1], form[2] = 0.1 + 0.8 * u[1], u[2] * u[2]
        form[4] = 0.6 * u[4] * u[4]
        table = _FRAMES
    colour = np.array(table[min(int(u[6] * len(table)), len(table) - 1)]) * shade
    return Occluder(kind, form, np.minimum(colour, 1.0))
