"""Drawing a face from its parameters, with its labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from facebench.synth import actions, head, people, raster, shade
from facebench.synth.numeric import Array, Draws, quantise, rotation, smooth, turn
from facebench.synth.portrait import Parameters, check

_SUPER = 2  # samples per pixel and side
_CAMERA = 75.0  # cm from the camera to the middle of the face
_BEFORE = 0.125  # cm by which the surface must lie before a landmark to hide it
_AIM = (0.0, -2.6, 5.0)  # the point of the head that the camera looks at, cm


@dataclass(frozen=True)
class Sample:
    """A picture with its labels.

    Attributes:
        image: uint8 [S, S, 3] RGB.
        identity: number of the person.
        au: float32 [24] intensities in [0, 1].
        expression: index into `EXPRESSIONS`.
        pose: float32 [3] yaw, pitch, roll, radians.
        light: float32 [9] spherical-harmonic coefficients.
        points: float32 [68, 2] (x, y) px; the centre of the top-left pixel is (0, 0).
        visible: bool [68] nothing of the head or its hair lies before the point.
        box: float32 [4] x0, y0, x1, y1: the tight box of all 68 points.
        identity_vector: float64 [people.SIZE].
    """

    image: Array
    identity: int
    au: Array
    expression: int
    pose: Array
    light: Array
    points: Array
    visible: Array
    box: Array
    identity_vector: Array


@lru_cache(maxsize=1)
def _follow() -> Array:
    """How much of the head's turn each vertex follows: the neck partly, the shoulders not."""
    v = head.ROW.reshape(-1)
    sheet = 1.0 - smooth(v, 13.2, 16.6)
    parts = head.build().parts
    curtain = head.build().rest[1, parts[-1].start :]
    ears = np.ones(sum(p.rows * p.columns for p in parts[1:-1]))
    return quantise(np.concatenate([sheet, ears, smooth(curtain, -19.0, -9.0)]))


def shape(p: Parameters) -> tuple[Array, people.Person, dict[str, float]]:
    """The mesh of a face with its expression, before the head is turned.

    Returns:
        [3, V] points, cm; the person; the places of eyes and teeth that shading needs.
    """
    person = people.become(p.identity_vector)
    points = person.rest.copy()
    for amount, (span, moved) in zip(p.au, actions.fields()):
        if amount:
            points[:, span] += float(amount) * moved
    columns, middle = head.COLUMNS, head.MIDDLE
    upper, lower = actions.lid_closure(p.au)
    marks: dict[str, float] = {}
    for side, index, down, raised in actions.lid_patches():
        name = "left" if side < 0 else "right"
        corner = head.NAMED["upper lid"] * columns + middle
        a, b = corner + side * head.EYE_IN, corner + side * head.EYE_OUT
        rest = person.rest
        marks[f"{name} x"] = ex = 0.5 * float(rest[0, a] + rest[0, b])
        marks[f"{name} y"] = 0.5 * float(rest[1, a] + rest[1, b])
        ey = marks[f"{name} y"] - 0.02
        scale = 1.0 + 0.13 * float(p.identity_vector[people.SHAPES.index("eye size")])
        before = head.eyeball(points[0, index] - ex, points[1, index] - ey)
        points[1, index] += (upper * down + lower * raised) * scale
        after = head.eyeball(points[0, index] - ex, points[1, index] - ey)
        points[2, index] += after - before
    lip = head.NAMED["upper mouth"] * columns + middle
    chin = head.NAMED["jaw"] * columns + middle
    marks["mouth x"] = float(person.rest[0, lip])
    marks["upper teeth"] = float(person.rest[1, lip]) - 0.34
    jaw = [actions.INDEX[26], actions.INDEX[27]]
    dropped = 0.0
    for k in jaw:
        span, moved = actions.fields()[k]
        dropped += float(p.au[k]) * float(moved[1, chin - span.start])
    marks["lower teeth"] = float(person.rest[1, lip]) - 0.52 + 0.85 * dropped
    return points, person, marks


def project(p: Parameters, points: Array, size: int) -> tuple[Array, Array]:
    """Turns the head and looks at it.

    Returns:
        [3, V] points in the camera's axes, cm; [3, V] x, y in px and nearness in cm.
    """
    matrix = rotation(float(p.pose[0]), float(p.pose[1]), float(p.pose[2]))
    pivot = np.array([0.0, -6.0, -1.0])[:, None]
    turned = turn(matrix, points - pivot) + pivot
    follow = _follow()
    turned = points + (turned - points) * follow
    aim = np.array(_AIM)[:, None]
    middle = turn(matrix, aim - pivot) + pivot
    seen = quantise(turned - middle, 30)
    scale = float(p.camera[0]) * size * _CAMERA
    over = scale / np.maximum(_CAMERA - seen[2], 5.0)
    x = (size - 1) * 0.5 + float(p.camera[1]) * size + seen[0] * over
    y = (size - 1) * 0.5 + float(p.camera[2]) * size - seen[1] * over
    return seen, np.stack([x, y, seen[2]])


def landmarks(screen: Array) -> Array:
    """The 68 points of projected vertices [3, V]: [3, 68]."""
    vertices, weights = head.build().landmarks
    out = screen[:, vertices[:, 0]] * weights[:, 0]
    out = out + screen[:, vertices[:, 1]] * weights[:, 1]
    return np.asarray(out + screen[:, vertices[:, 2]] * weights[:, 2])


def render(p: Parameters, size: int) -> Sample:
    """Draws the face that `p` describes, with its labels.

    Args:
        p: what the picture shows.
        size: side of the image, pixels.
    """
    check("synth.render", "size", size, 16, 1024, True)
    size = int(size)
    points, person, marks = shape(p)
    seen, screen = project(p, points, size)
    mesh = head.build()
    triangles, kind = mesh.triangles, mesh.kind
    if person.style != "long":  # the curtain comes last
        n = int(np.searchsorted(kind, 2))
        triangles, kind = triangles[:, :n], kind[:n]
    side = size * _SUPER
    shift = (_SUPER - 1) * 0.5
    samples = np.stack([screen[0] * _SUPER + shift, screen[1] * _SUPER + shift, screen[2]])
    fx, fy, fz = raster.fix(samples[0], samples[1], samples[2])
    front = raster.facing(fx, fy, fz, triangles)
    where, owner, weights = raster.rasterise(front, side)
    marks_px = landmarks(screen)
    spots = landmarks(samples)
    hidden = raster.covered(front, samples, triangles, spots, _BEFORE)
    image = _paint(p, person, marks, points, seen, triangles, kind, where, owner, weights, size)
    xy = quantise(marks_px[:2].T, 12).astype(np.float32)
    box = np.concatenate([xy.min(axis=0), xy.max(axis=0)])
    return Sample(
        image=image,
        identity=p.identity,
        au=p.au.astype(np.float32),
        expression=int(p.expression),
        pose=p.pose.astype(np.float32),
        light=p.light.astype(np.float32),
        points=xy,
        visible=~hidden,
        box=box,
        identity_vector=p.identity_vector,
    )


def _paint(
    p: Parameters, person: people.Person, marks: dict[str, float], points: Array, seen: Array,
    triangles: Array, kind: Array, where: Array, owner: Array, weights: Array, size: int,
) -> Array:  # fmt: skip
    mesh = head.build()
    corner = triangles.take(owner, axis=1)
    normals = people.normals(seen)

    def blend(t: Array) -> Array:
        out = t.take(corner[0]) * weights[0] + t.take(corner[1]) * weights[1]
        return np.asarray(out + t.take(corner[2]) * weights[2])

    n = np.stack([blend(v) for v in normals])
    n[:, kind[owner] == 3] *= -1.0
    n = n * (1.0 / np.maximum(np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]), 1e-9))
    part = kind[owner]
    row = blend(mesh.chart[0])
    c0, c1, c2 = (mesh.chart[1][corner[k]] for k in range(3))
    last = float(head.COLUMNS - 1)
    seam = (part == 0) & (
        np.maximum(np.maximum(c0, c1), c2) - np.minimum(np.minimum(c0, c1), c2) > 9
    )
    c0, c1, c2 = (np.where(seam & (c < 9), last + 1.0, c) for c in (c0, c1, c2))
    column = c0 * weights[0] + c1 * weights[1] + c2 * weights[2]
    local = np.stack([blend(points[0]), blend(points[1])])
    colour = (
        shade.colours(person, p.au, p.gaze, p.light, part, row, column, local, n, marks)
        * p.tint[:, None]
    )
    side = size * _SUPER
    canvas = np.zeros((4, side * side))
    canvas[:3, where] = np.minimum(np.maximum(colour, 0.0), 1.5)
    canvas[3, where] = 1.0
    cells = canvas.reshape(4, size, _SUPER, size, _SUPER)
    total = (
        cells[:, :, 0, :, 0] + cells[:, :, 0, :, 1] + cells[:, :, 1, :, 0] + cells[:, :, 1, :, 1]
    )
    total = total * 0.25
    linear = total[:3] + _background(p.background, size) * (1.0 - total[3])
    linear = np.maximum(linear, 0.0)
    shown = np.sqrt(np.minimum(linear * (1.0 + 0.25 * linear) * (1.0 / (1.0 + 0.25)), 1.0))
    grey = quantise(shown * 255.0, 16)
    if p.noise > 0:
        noise = Draws(p.noise_key).noise(3 * size * size).reshape(3, size, size)
        grey = grey + float(p.noise) * noise
    return (
        np.rint(np.minimum(np.maximum(grey, 0.0), 255.0)).astype(np.uint8).transpose(1, 2, 0).copy()
    )


def _background(b: Array, size: int) -> Array:
    """A soft backdrop of two colours, a slope and two blurred patches, linear RGB [3, S, S]."""
    t = (np.arange(size) + 0.5) * (1.0 / size)
    x, y = t[None, :], t[:, None]
    first = b[0:3] * 0.55 + 0.03
    second = b[3:6] * 0.55 + 0.03
    mean = 0.3 + 0.6 * b[6]
    first = first * (1 - mean) + first.mean() * mean
    second = second * (1 - mean) + second.mean() * mean
    slope = 0.5 + (b[7] - 0.5) * (x - 0.5) * 1.6 + (b[8] - 0.5) * (y - 0.5) * 1.6
    for k in (9, 12):
        rx = (x - b[k]) * (1.0 / (0.12 + 0.3 * b[k + 2]))
        ry = (y - b[k + 1]) * (1.0 / (0.12 + 0.3 * b[15]))
        patch = 1.0 / (1.0 + (rx * rx + ry * ry) * (rx * rx + ry * ry))
        slope = slope + (0.5 if k == 9 else -0.5) * patch
    slope = np.minimum(np.maximum(slope, 0.0), 1.0)
    return np.asarray(first[:, None, None] * (1 - slope) + second[:, None, None] * slope)
