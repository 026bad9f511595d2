"""Drawing a face from its parameters, with its labels."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from facebench.synth import head, people
from facebench.synth import mesh as mesh_lib
from facebench.synth.labels import OCCLUDER_HIDDEN, SELF_HIDDEN, Sample
from facebench.synth.numeric import Array, quantise, rotation
from facebench.synth.portrait import Parameters, check

_BEFORE = 0.125  # cm by which a surface must lie before a landmark to hide it
_ORDER = np.array([4, 0, 1, 2, 5, 8, 7, 6, 3])  # samples of a pixel, see `resolve.pixels`
_CONTACT = 0.55  # how much of the light the contact shadow of an occluder takes
_CROWN = np.array([[0.0], [10.5], [-3.0]])  # where hair grows from, cm
_PROP = 64  # `resolve.PROP`


_buffers = threading.local()


def _buffer(name: str, shape: tuple[int, ...], kind: type) -> Array:
    """An array of zeros that the thread keeps from picture to picture: fresh pages are slow."""
    kept: Array | None = getattr(_buffers, name, None)
    if kept is None or kept.shape != shape:
        kept = np.zeros(shape, kind)
        setattr(_buffers, name, kept)
    else:
        kept.fill(0)
    return kept


@dataclass(frozen=True)
class _Scene:
    """The head and what is before it, as one set of triangles."""

    local: Array  # [3, V] cm in the head's axes
    seen: Array  # [3, V] cm in the camera's
    triangles: Array  # int64 [3, T]
    drawn: Array  # int64 [n] opaque triangles
    clear: Array  # int64 [m] triangles of lenses
    solid: Array  # int64 [k] both, without those that are the back of another
    bit: Array  # uint8 [T] what of `Sample.hidden` each triangle sets
    kind: Array  # int64 [T] as in `Head`; occluders from 64
    back: Array  # bool [T] the back of another triangle
    same: Array  # int64 [V]
    chart: Array  # float64 [2, V]
    colour: Array  # float64 [3, V]
    gloss: Array  # float64 [kinds of occluders]
    shine: Array  # float64 [T]
    passes: Array  # float64 [T]


@lru_cache(maxsize=1)
def _tables() -> tuple[Array, Array, Array, Array]:
    from facebench.synth import transfer

    h = head.build()
    return (
        np.ascontiguousarray(h.triangles, np.int64),
        h.kind.astype(np.int64),
        transfer.twins(h.triangles),
        transfer.joined(h.rest),
    )


@lru_cache(maxsize=16)
def _drawn(style: str) -> Array:
    """The head's triangles that a hair style shows."""
    shown = getattr(head, "drawn", None)
    if shown is not None:
        return np.asarray(shown(style), np.int64)
    kind = head.build().kind
    return np.arange(len(kind) if style == "long" else int(np.searchsorted(kind, 2)))


@lru_cache(maxsize=16)
def _solid(style: str) -> Array:
    """The same without those that are the back of another triangle."""
    drawn = _drawn(style)
    return np.asarray(drawn[~_tables()[2][drawn]])


@lru_cache(maxsize=4)
def _own_bit(count: int) -> Array:
    return np.full(count, SELF_HIDDEN, np.uint8)


@lru_cache(maxsize=16)
def _shadows(style: str) -> tuple[Array, Array]:
    """What the head with a hair style keeps of its light, see `transfer.head_loss`."""
    from facebench.synth import transfer

    return transfer.head_loss(_drawn(style))


@lru_cache(maxsize=4)
def _empty(shape: tuple[int, ...]) -> Array:
    out = np.zeros(shape)
    out.setflags(write=False)
    return out


def _scene(p: Parameters, points: Array, marks: dict[str, float], style: str) -> _Scene:
    triangles, kind, back, same = _tables()
    seen = mesh_lib.turned(p, points, mesh_lib.follow())
    h = head.build()
    n = points.shape[1]
    if not p.occluders:
        zero = _empty((triangles.shape[1],))
        return _Scene(
            points, seen, triangles, _drawn(style), np.zeros(0, np.int64), _solid(style),
            _own_bit(len(kind)), kind, back, same,
            h.chart, _empty((3, n)), _empty((1,)), zero, zero,
        )  # fmt: skip
    from facebench.synth import occluders, transfer

    props: list[Any] = []
    for occluder in p.occluders:
        props.extend(occluders.build(occluder, points, marks))
    parts = [points, *(q.points for q in props)]
    local = np.concatenate(parts, 1)
    added = np.concatenate([q.points for q in props], 1)
    seen = np.concatenate([seen, mesh_lib.turned(p, added)], 1)
    starts = np.cumsum([q.shape[1] for q in parts])
    new = [np.asarray(q.triangles, np.int64) + s for q, s in zip(props, starts)]
    count = [t.shape[1] for t in new]
    owner = np.repeat(np.arange(len(props)), count)
    clear = np.array([float(q.clear) for q in props])
    number = triangles.shape[1] + np.arange(len(owner))
    lens = clear[owner] > 0.0
    total = sum(q.points.shape[1] for q in props)
    joined = np.concatenate(new, 1)
    fresh = np.arange(n, n + total)
    shine = np.array([float(q.gloss) for q in props])
    head_zero = np.zeros(triangles.shape[1])
    again = transfer.twins(joined)
    bit = np.full(len(owner), OCCLUDER_HIDDEN, np.uint8)
    return _Scene(
        local=local,
        seen=seen,
        triangles=np.ascontiguousarray(np.concatenate([triangles, joined], 1)),
        drawn=np.concatenate([_drawn(style), number[~lens]]),
        clear=number[lens],
        solid=np.concatenate([_solid(style), number[~again]]),
        bit=np.concatenate([_own_bit(len(kind)), bit]),
        kind=np.concatenate([kind, np.array([_PROP - 1 + int(q.kind) for q in props])[owner]]),
        back=np.concatenate([back, again]),
        same=np.concatenate([same, fresh]),
        chart=np.concatenate([h.chart, np.zeros((2, total))], 1),
        colour=np.concatenate([np.zeros((3, n)), *(q.colour for q in props)], 1),
        gloss=np.array([max([float(q.gloss) for q in props if q.kind == k + 1 and q.clear == 0.0],
                            default=0.0) for k in range(8)]),
        shine=np.concatenate([head_zero, shine[owner]]),
        passes=np.concatenate([head_zero, clear[owner]]),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _edge() -> Array:
    return people.hair_distance()


def _hair(person: people.Person, count: int) -> Array:
    """How far inside the hair's edge each vertex is, in rows' places, [count]."""
    inside = getattr(people, "hair_inside", None)
    if inside is not None:
        edge = np.asarray(inside(person))
    else:
        edge = _edge() + people.hair_shift(person.looks, person.style)
    out = np.full(count, -9.0)
    out[: len(edge)] = edge
    return out


def _padded(x: Array, count: int, value: float) -> Array:
    return x if len(x) == count else np.concatenate([x, np.full(count - len(x), value)])


def render(p: Parameters, size: int) -> Sample:
    """Draws the face that `p` describes, with its labels.

    Args:
        p: what the picture shows.
        size: side of the image, 16 to 1024 pixels.

    Raises:
        FacebenchError: `size` is out of range.
    """
    check("synth.render", "size", size, 16, 1024, True)
    # the compiler starts with the first picture, not with the import of the world
    from facebench.synth import kernels, raster, resolve

    size = int(size)
    grid, side, middle = resolve.GRID, resolve.GRID * size, resolve.GRID // 2
    distance = float(p.camera[3])
    points, person, marks = mesh_lib.shape(p)
    scene = _scene(p, points, marks, person.style)
    head_count = points.shape[1]
    screen = mesh_lib.project(p, scene.seen, size)
    near = raster.nearness(scene.seen[2], distance)
    samples = np.stack([screen[0] * grid + middle, screen[1] * grid + middle, near])
    fixed = raster.fix(samples[0], samples[1], samples[2])
    front = raster.facing(fixed, scene.triangles, scene.drawn)
    best = _buffer("best", (side * side,), np.int64)
    raster.rasterise(fixed, scene.triangles, front, best, side)
    normal = kernels.normals(scene.seen, scene.triangles, scene.solid, scene.same)

    xy, hidden, hidden98, xy98 = _points(p, scene, samples, fixed, front, size, head_count)
    linear, parse, cover, depth = _pixels(
        p, person, marks, scene, samples, fixed, front, best, normal, size, head_count
    )
    image = _finish(p, linear, size)
    return Sample(
        image=image,
        parameters=p,
        points=xy,
        hidden=hidden,
        points98=xy98,
        hidden98=hidden98,
        box=np.concatenate([xy.min(axis=0), xy.max(axis=0)]),
        parse=parse,
        occluder=cover,
        depth=depth,
        vertices=(scene.seen[:, :head_count] - np.array([0.0, 0.0, distance])[:, None])
        .T.astype(np.float32),
        intrinsics=np.array(mesh_lib.focal(p, size), np.float32),
    )  # fmt: skip


def _points(
    p: Parameters, scene: _Scene, samples: Array, fixed: Array, front: Array, size: int, n: int
) -> tuple[Array, Array, Array, Array]:
    from facebench.synth import raster, resolve

    grid, middle = resolve.GRID, resolve.GRID // 2
    seen = scene.seen[:, :n]
    spots = np.concatenate(
        [mesh_lib.landmarks(seen), mesh_lib.landmarks98(p, scene.local[:, :n], seen)], 1
    )
    places = mesh_lib.project(p, spots, size)
    near = raster.nearness(spots[2], float(p.camera[3]))
    spots = np.stack([places[0] * grid + middle, places[1] * grid + middle, near])
    hidden = raster.covered(samples, fixed, scene.triangles, front, scene.bit, spots, _BEFORE)
    xy = quantise(places[:2].T, 12).astype(np.float32)
    return np.ascontiguousarray(xy[:68]), hidden[:68], hidden[68:], np.ascontiguousarray(xy[68:])


def _pixels(
    p: Parameters, person: people.Person, marks: dict[str, float], scene: _Scene, samples: Array,
    fixed: Array, front: Array, best: Array, normal: Array, size: int, n: int,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    from facebench.synth import backdrop, film, kernels, paint, raster, recipe, resolve, transfer

    maps, zones = paint.maps()
    exposed = recipe.exposure(p.light)
    loss, sky = _shadows(person.style)
    matrix = rotation(float(p.pose[0]), float(p.pose[1]), float(p.pose[2]))
    crown = mesh_lib.turned(p, _CROWN)[:, 0]
    K = recipe.pack(p, person, marks, size, exposed, crown, -matrix[:, 1])
    count = samples.shape[1]
    lost = _padded(kernels.dot9(loss, transfer.turned(p.light * exposed, matrix)), count, 0.0)
    contact = _empty((size, size))
    if len(scene.drawn) > len(_drawn(person.style)):
        share = resolve.taken(best, scene.kind, size)
        radius = max(math.floor(0.30 * K[recipe.SCALE] + 0.5), 1)
        right = math.floor(-0.35 * K[recipe.SCALE] * K[recipe.TOWARDS] + 0.5)
        above = max(float(K[recipe.TOWARDS + 1]), 0.0)
        down = math.floor(0.35 * K[recipe.SCALE] * above + 0.5)
        contact = film.softened(share, radius, right, down) * _CONTACT
    linear = _buffer("linear", (4, size, size), np.float64)
    parse, cover = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    depth = np.zeros((size, size), np.float32)
    width = head.COLUMNS * paint.FINE_C
    table = _buffer("table", (count, resolve.TABLE), np.float64)
    resolve.gather(
        normal, scene.chart, lost, _padded(sky, count, 1.0), _hair(person, count), scene.local,
        scene.colour, samples[2], scene.seen, table,
    )  # fmt: skip
    resolve.pixels(
        K, maps, zones, paint.tile(), width, head.COLUMNS, fixed, scene.triangles, scene.kind,
        scene.back, table, scene.gloss, best, contact, _ORDER, size,
        float(p.camera[3]), linear, parse, cover, depth,
    )  # fmt: skip
    backdrop.behind(backdrop.scene(p.background), paint.tile(), linear, size)
    if len(scene.clear):
        clear = _buffer("clear", best.shape, np.int64)
        glass = raster.facing(fixed, scene.triangles, scene.clear)
        raster.rasterise(fixed, scene.triangles, glass, clear, size * resolve.GRID)
        film.lenses(
            K, scene.triangles, normal, scene.colour, scene.shine, scene.passes, best,
            clear, linear, size,
        )  # fmt: skip
    return linear, parse, cover, depth


def _finish(p: Parameters, linear: Array, size: int) -> Array:
    """From light to the picture that is stored: lens, tone, way of drawing, sensor, file."""
    from facebench.synth import film

    light = linear[:3]
    if p.blur > 0:
        from facebench.synth import sensor

        light = sensor.blur(light, float(p.blur) * size)
    grey = film.develop(np.ascontiguousarray(light), p.tint, film.curve())
    image = None
    if p.style != "none" and p.style_strength > 0:
        from facebench.synth import styles

        image = styles.apply(film.rounded(grey), p.style, float(p.style_strength))
        grey = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float64)
    if p.noise > 0:
        from facebench.synth import sensor

        grey, image = sensor.noise(grey, float(p.noise), p.noise_key), None
    if image is None:
        image = film.rounded(grey)
    if p.jpeg:
        from facebench.synth import sensor

        image = sensor.jpeg(image, int(p.jpeg))
    return np.asarray(image)
