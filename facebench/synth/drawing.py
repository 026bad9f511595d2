"""Drawing a face from its parameters, with its labels."""

from __future__ import annotations

import numpy as np

from facebench.synth import head, people, raster, shade
from facebench.synth import mesh as mesh_lib
from facebench.synth.labels import Sample
from facebench.synth.numeric import Array, Draws, quantise
from facebench.synth.portrait import Parameters, check

_SUPER = 2  # samples per pixel and side

_BEFORE = 0.125  # cm by which the surface must lie before a landmark to hide it
_AIM = (0.0, -2.6, 5.0)  # the point of the head that the camera looks at, cm


def render(p: Parameters, size: int) -> Sample:
    """Draws the face that `p` describes, with its labels.

    Args:
        p: what the picture shows.
        size: side of the image, pixels.
    """
    check("synth.render", "size", size, 16, 1024, True)
    size = int(size)
    points, person, marks = mesh_lib.shape(p)
    seen = mesh_lib.turned(p, points, mesh_lib.follow())
    screen = mesh_lib.project(p, seen, size)
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
    marks_px = mesh_lib.landmarks(screen)
    spots = mesh_lib.landmarks(samples)
    hidden = raster.covered(front, samples, triangles, spots, _BEFORE)
    image = _paint(p, person, marks, points, seen, triangles, kind, where, owner, weights, size)
    xy = quantise(marks_px[:2].T, 12).astype(np.float32)
    box = np.concatenate([xy.min(axis=0), xy.max(axis=0)])
    zero = np.zeros((size, size))
    return Sample(  # the dense labels and the 98 points are still to come
        image=image,
        parameters=p,
        points=xy,
        hidden=hidden.astype(np.uint8),
        points98=np.zeros((98, 2), np.float32),
        hidden98=np.zeros(98, np.uint8),
        box=box,
        parse=zero.astype(np.uint8),
        occluder=zero.astype(np.uint8),
        depth=zero.astype(np.float32),
        vertices=(seen - np.array([0.0, 0.0, p.camera[3]])[:, None]).T.astype(np.float32),
        intrinsics=np.array(mesh_lib.focal(p, size), np.float32),
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
        shade.colours(person, p.au, 1.2 * p.gaze, p.light, part, row, column, local, n, marks)
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
