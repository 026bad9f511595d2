"""The mesh of one face: expression on the person's shape, the head's turn, the camera's view."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from facebench.synth import actions, head, people
from facebench.synth.numeric import Array, quantise, rotation, smooth, turn
from facebench.synth.portrait import Parameters

_AIM = (0.0, -2.6, 5.0)  # the point of the head that the camera looks at, cm


@lru_cache(maxsize=1)
def follow() -> Array:
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


def turned(p: Parameters, points: Array, follow: Array | float = 1.0) -> Array:
    """Turns the head: points [3, N] of the head to the camera's axes, cm.

    The origin is the point that the camera looks at; x right, y up, z to the camera, which stands
    at (0, 0, camera distance).

    Args:
        p: whose pose.
        points: [3, N] cm, in the head's axes.
        follow: [N] how much of the turn each point takes part in; all of it when left out.
    """
    matrix = rotation(float(p.pose[0]), float(p.pose[1]), float(p.pose[2]))
    pivot = np.array([0.0, -6.0, -1.0])[:, None]
    there = turn(matrix, points - pivot) + pivot
    aim = np.array(_AIM)[:, None]
    middle = turn(matrix, aim - pivot) + pivot
    return quantise(points + (there - points) * follow - middle, 30)


def focal(p: Parameters, size: int) -> tuple[float, float, float]:
    """Focal length and the principal point (x, y), px."""
    f = float(p.camera[0]) * size * float(p.camera[3])
    middle = (size - 1) * 0.5
    return f, middle + float(p.camera[1]) * size, middle + float(p.camera[2]) * size


def project(p: Parameters, seen: Array, size: int) -> Array:
    """Where points [3, N] in the camera's axes are seen: [3, N] x, y in px, nearness in cm."""
    f, cx, cy = focal(p, size)
    over = f / np.maximum(float(p.camera[3]) - seen[2], 5.0)
    return np.stack([cx + seen[0] * over, cy - seen[1] * over, seen[2]])


def landmarks(screen: Array) -> Array:
    """The 68 points of projected vertices [3, V]: [3, 68]."""
    vertices, weights = head.build().landmarks
    out = screen[:, vertices[:, 0]] * weights[:, 0]
    out = out + screen[:, vertices[:, 1]] * weights[:, 1]
    return np.asarray(out + screen[:, vertices[:, 2]] * weights[:, 2])
