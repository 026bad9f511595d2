"""The mesh of one face: expression on the person's shape, the head's turn, the camera's view."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from facebench.synth import actions, head, people
from facebench.synth.numeric import Array, quantise, rotation, smooth, turn
from facebench.synth.portrait import Parameters

_AIM = (0.0, -2.6, 5.0)  # the point of the head that the camera looks at, cm
EYE_RADIUS = 1.2  # cm that the iris moves per radian of gaze
IRIS_RISE = 0.04  # cm from the middle between the eye's corners up to the iris that looks ahead


@lru_cache(maxsize=1)
def follow() -> Array:
    """How much of the head's turn each vertex follows: the neck partly, the shoulders not."""
    build = head.build()
    out = np.ones(build.rest.shape[1])
    out[: head.SHEET] = 1.0 - smooth(head.ROW.reshape(-1), 13.2, 16.6)
    curtain = build.parts[3].span
    out[curtain] = smooth(build.rest[1, curtain], -19.0, -9.0)
    return quantise(out)


def shape(p: Parameters) -> tuple[Array, people.Person, dict[str, float]]:
    """The mesh of a face with its expression, before the head is turned.

    Returns:
        [3, V] points, cm; the person; marks, the places that shading needs, cm: the middle of each
        eye ("left x", "left y", "right x", "right y"), of its iris after gaze ("left iris x", ...),
        how far its lids are closed ("left shut", 0 to 1), the mouth's middle ("mouth x"), the
        edges of the teeth ("upper teeth", "lower teeth": heights).
    """
    person = people.become(p.identity_vector, p.age)
    points = person.rest.copy()
    actions.displace(points, p.au, p.sides)
    columns, middle = head.COLUMNS, head.MIDDLE
    marks: dict[str, float] = {}
    for lids in actions.lid_patches():
        name = "left" if lids.side < 0 else "right"
        x, y = eye_middle(person, lids.side)
        marks[f"{name} x"], marks[f"{name} y"] = x, y
        marks[f"{name} iris x"] = x + EYE_RADIUS * float(p.gaze[0])
        marks[f"{name} iris y"] = y + EYE_RADIUS * float(p.gaze[1]) + IRIS_RISE
        au = actions.sided(p.au, p.sides, lids.side)
        closure = actions.lid_closure(au, float(p.gaze[1]))
        marks[f"{name} shut"] = min(max(closure[0] + closure[1], 0.0), 1.0)
        lids.close(points, (x, y - 0.02), closure)
    lip = head.NAMED["upper mouth"] * columns + middle
    chin = head.NAMED["jaw"] * columns + middle
    marks["mouth x"] = float(person.rest[0, lip])
    marks["upper teeth"] = float(person.rest[1, lip]) - 0.30
    dropped = 0.0
    for k in (actions.INDEX[26], actions.INDEX[27]):
        span, moved = actions.fields()[k]
        dropped += float(p.au[k]) * float(moved[1, chin - span.start])
    marks["lower teeth"] = float(person.rest[1, lip]) - 0.50 + 0.85 * dropped
    return points, person, marks


def eye_middle(person: people.Person, side: int) -> tuple[float, float]:
    """The middle between an eye's corners at rest, cm; -1 is the image's left eye."""
    corner = head.NAMED["upper lid"] * head.COLUMNS + head.MIDDLE
    a, b = corner + side * head.EYE_IN, corner + side * head.EYE_OUT
    rest = person.rest
    return 0.5 * float(rest[0, a] + rest[0, b]), 0.5 * float(rest[1, a] + rest[1, b])


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


def _read(screen: Array, vertices: Array, weights: Array) -> Array:
    out = screen[:, vertices[:, 0]] * weights[:, 0]
    out = out + screen[:, vertices[:, 1]] * weights[:, 1]
    return np.asarray(out + screen[:, vertices[:, 2]] * weights[:, 2])


def landmarks(screen: Array) -> Array:
    """The 68 points of projected vertices [3, V]: [3, 68]."""
    return _read(screen, *head.build().landmarks)


def rest_box(p: Parameters, size: int) -> Array:
    """The tight box of the 68 points of the same head at rest: float32 [4], x0, y0, x1, y1, px.

    Pose, person and camera place it; no action unit does, so a crop by it tells no label of them.
    """
    rest = replace(p, au=np.zeros(len(p.au)), gaze=np.zeros(2))
    points, _, _ = shape(rest)
    xy = project(p, landmarks(turned(p, points, follow())), size)[:2]
    return quantise(np.concatenate([xy.min(axis=1), xy.max(axis=1)]), 12).astype(np.float32)


def landmarks98(p: Parameters, points: Array, screen: Array) -> Array:
    """The 98 points of projected vertices, WFLW order: [3, 98].

    Args:
        p: whose face; the pupils depend on the gaze.
        points: [3, V] of `shape`, cm.
        screen: [3, V] the same vertices in any other axes (seen, on the screen, samples).
    """
    vertices, weights = head.build().landmarks98
    vertices, weights = vertices.copy(), weights.copy()
    vertices[96:], weights[96:] = pupils(p, points)
    return _read(screen, vertices, weights)


def pupils(p: Parameters, points: Array) -> tuple[Array, Array]:
    """Vertices and weights, [2, 3] each, of the left and right pupil on the drawn surface.

    A pupil is the point of the eyeball's mesh where the iris has its middle after gaze; behind a
    lid it is held at the lid's margin.
    """
    person = people.become(p.identity_vector, p.age)
    vertices, weights = np.zeros((2, 3), np.int64), np.zeros((2, 3))
    up, low = head.NAMED["upper lid"], head.NAMED["lower lid"]
    first, last = head.EYE_IN, head.EYE_OUT
    grid = points[:2, : head.SHEET].reshape(2, head.ROWS, head.COLUMNS)[:, up : low + 1]
    for k, side in enumerate((-1, 1)):
        ex, ey = eye_middle(person, side)
        x = (ex + EYE_RADIUS * float(p.gaze[0])) * side
        y = ey + EYE_RADIUS * float(p.gaze[1]) + IRIS_RISE
        gx = grid[0][:, head.MIDDLE + side * np.arange(first, last + 1)] * side
        gy = grid[1][:, head.MIDDLE + side * np.arange(first, last + 1)]
        row, column = _cell(gx, gy, x, y)
        corner, weights[k] = head.place(up + row, float(head.MIDDLE + first + column))
        r, c = np.divmod(corner, head.COLUMNS)
        vertices[k] = r * head.COLUMNS + (c if side > 0 else 2 * head.MIDDLE - c)
    return vertices, weights


def _cell(gx: Array, gy: Array, x: float, y: float) -> tuple[float, float]:
    """Row and column of a small grid where the point (x, y) lies; the nearest inside if none.

    Rows lead down, columns to the right. The place is that of the triangles of `head.place`.
    """
    row, column = 0.0, 0.0
    for _ in range(5):  # row and column in turn, each by a line through the other
        c = min(int(column), gx.shape[1] - 2)
        fc = column - c
        line = gy[:, c] * (1.0 - fc) + gy[:, c + 1] * fc
        row = _along(-line, -y)
        r = min(int(row), gx.shape[0] - 2)
        fr = row - r
        across = gx[r] * (1.0 - fr) + gx[r + 1] * fr
        column = _along(across, x)
    r, c = min(int(row), gx.shape[0] - 2), min(int(column), gx.shape[1] - 2)
    # exact in the triangle that holds the point
    for lower in (False, True) if row - r + column - c <= 1.0 else (True, False):
        i, j = (r + 1, c + 1) if lower else (r, c)
        rx, ry = gx[r if lower else r + 1, j] - gx[i, j], gy[r if lower else r + 1, j] - gy[i, j]
        cx, cy = gx[i, c if lower else c + 1] - gx[i, j], gy[i, c if lower else c + 1] - gy[i, j]
        area = float(rx * cy - ry * cx)
        if -1e-9 < area < 1e-9:
            continue
        px, py = x - float(gx[i, j]), y - float(gy[i, j])
        fr, fc = float(px * cy - py * cx) / area, float(rx * py - ry * px) / area
        if fr >= 0.0 and fc >= 0.0 and fr + fc <= 1.0:
            return (r + 1 - fr, c + 1 - fc) if lower else (r + fr, c + fc)
    return row, column


def _along(values: Array, x: float) -> float:
    """Real place of x among rising values, held between the ends."""
    n = len(values)
    k = int(np.searchsorted(values, x, "right")) - 1
    if k < 0:
        return 0.0
    if k >= n - 1:
        return float(n - 1)
    a, b = float(values[k]), float(values[k + 1])
    return k + (x - a) / (b - a)
