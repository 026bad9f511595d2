"""The picture's labels against rays through its pixels; what is seen where."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from facebench import synth
from facebench.synth import (
    drawing,
    head,
    kernels,
    labels,
    mesh,
    numeric,
    raster,
    recipe,
    resolve,
    transfer,
)
from facebench.synth.portrait import OCCLUDERS

SIZE = 48


def faces(n: int, **others: object) -> list[synth.Parameters]:
    config = synth.WorldConfig(size=SIZE, seed=31, identities=n, per_identity=1, yaw=1.0)
    return [replace(synth.parameters(config, i), noise=0.0, **others) for i in range(n)]


@dataclass(frozen=True)
class Hits:
    """All crossings of rays with front faces: ray, triangle, depth, rim (how near to an edge)."""

    ray: np.ndarray
    triangle: np.ndarray
    depth: np.ndarray
    rim: np.ndarray


def cast(p: synth.Parameters, xy: np.ndarray) -> tuple[Hits, np.ndarray]:
    """Rays through places [N, 2] of the picture, in space, against every triangle in turn."""
    points, person, marks = mesh.shape(p)
    scene = drawing._scene(p, points, marks, person.style)
    f, cx, cy = mesh.focal(p, SIZE)
    d = float(p.camera[3])
    towards = np.stack([(xy[:, 0] - cx) / f, -(xy[:, 1] - cy) / f, -np.ones(len(xy))], 1)
    v = scene.seen.T - [0, 0, d]  # the camera is the origin
    out: list[tuple[np.ndarray, ...]] = []
    for t in scene.drawn:
        a, b, c = v[scene.triangles[:, t]]
        e, g = b - a, c - a
        # Moeller and Trumbore, 1997
        q = np.cross(towards, g)
        det = q @ e
        with np.errstate(divide="ignore", invalid="ignore"):
            u = (q @ -a) / det
            r = np.cross(-a, e)
            w = (towards @ r) / det
            s = (r @ g) / det
        hit = np.flatnonzero((det > 1e-12) & (u >= 0) & (w >= 0) & (u + w <= 1) & (s > 0))
        rim = np.minimum(np.minimum(u[hit], w[hit]), 1 - u[hit] - w[hit])
        out.append((hit, np.full(len(hit), t), s[hit], rim))
    ray, triangle, depth, rim = (np.concatenate(k) for k in zip(*out))
    return Hits(ray, triangle, depth, rim), scene.kind


@pytest.mark.slow
def test_depth_at_pixel_centres_is_that_of_rays() -> None:
    xy = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).reshape(-1, 2).astype(float)
    for p in faces(3):
        hits, _ = cast(p, xy)
        wanted = np.full(len(xy), np.inf)
        np.minimum.at(wanted, hits.ray, hits.depth)
        got = synth.render(p, SIZE).depth.reshape(-1)
        seen = np.isfinite(wanted)
        assert ((got > 0) != seen).mean() < 0.002  # rays that graze the outline by 1/500 px
        both = seen & (got > 0)
        off = np.abs(got - wanted)[both]
        assert np.quantile(off, 0.97) < 0.01
        assert (off > 0.3).mean() < 0.005


@pytest.mark.slow
def test_hidden_bits_are_those_of_rays() -> None:
    plate = synth.Occluder("mask")
    for p in [*faces(4), *faces(2, occluders=(plate,))]:
        s = synth.render(p, SIZE)
        points, _, _ = mesh.shape(p)
        seen = mesh.turned(p, points, mesh.follow())
        for xy, hidden, spots in (
            (s.points, s.hidden, mesh.landmarks(seen)),
            (s.points98, s.hidden98, mesh.landmarks98(p, points, seen)),
        ):
            if not np.ptp(spots):
                continue
            hits, kind = cast(p, xy.astype(float))
            own = float(p.camera[3]) - spots[2]
            # the test is on nearness, whose steps are longer than centimetres before the plane
            d = float(p.camera[3])
            before = raster.nearness(d - hits.depth, d) - raster.nearness(d - own[hits.ray], d)
            for bit, which in ((1, kind < resolve.PROP), (2, kind >= resolve.PROP)):
                mine = which[hits.triangle]
                nearest = np.full(len(xy), -np.inf)
                np.maximum.at(nearest, hits.ray[mine], before[mine])
                clear = np.abs(nearest - 0.125) > 0.03
                inner = np.ones(len(xy), bool)  # rays that cross no triangle near its edge
                np.logical_and.at(inner, hits.ray[mine], hits.rim[mine] > 1e-3)
                sure = clear & (inner | (nearest < 0.125))
                assert sure.mean() > 0.8
                agree = ((hidden & bit) > 0) == (nearest > 0.125)
                assert agree[sure].mean() > 0.995


def test_visible_points_hit_the_depth_map() -> None:
    """Where a landmark is visible, its depth is among those of the pixels around it."""
    hit = []
    for p in faces(5):
        s = synth.render(p, 256)
        points, _, _ = mesh.shape(p)
        own = float(p.camera[3]) - mesh.landmarks(mesh.turned(p, points, mesh.follow()))[2]
        for k in np.flatnonzero(s.hidden == 0):
            x, y = np.rint(s.points[k]).astype(int)
            if 1 <= x < 255 and 1 <= y < 255:
                around = s.depth[y - 1 : y + 2, x - 1 : x + 2]
                around = around[around > 0]
                low, high = around.min(initial=np.inf), around.max(initial=0)
                hit.append(low - 0.3 < own[k] < high + 0.3)
    assert len(hit) > 200
    assert np.mean(hit) > 0.98  # on the outline the surface falls a centimetre within a pixel


@dataclass(frozen=True)
class Plate:
    kind: int
    points: np.ndarray
    triangles: np.ndarray
    colour: np.ndarray
    gloss: float = 0.0
    clear: float = 0.0


def plate(corners: np.ndarray, clear: float = 0.0) -> Plate:
    triangles = np.array([[0, 0], [1, 2], [2, 3]])
    both = np.concatenate([triangles, triangles[::-1]], 1)
    return Plate(1 + OCCLUDERS.index("mask"), corners.T, both, np.full((3, 4), 0.4), 0.0, clear)


def with_props(monkeypatch: pytest.MonkeyPatch, *props: Plate) -> None:
    from facebench.synth import occluders

    monkeypatch.setattr(occluders, "build", lambda *_: props)


def test_depth_of_a_slanted_plane_has_its_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    corners = np.array([[-9.0, -9, 14], [9, -9, 22], [9, 9, 19], [-9, 9, 11]])
    with_props(monkeypatch, plate(corners))
    for distance in (40.0, 75.0):
        p = synth.face(
            yaw=0.3, occluders=(synth.Occluder("mask"),),
            camera=np.array([0.03, 0.02, -0.01, distance]),
        )  # fmt: skip
        s = synth.render(p, 64)
        q = mesh.turned(p, corners.T).T - [0, 0, distance]
        normal = np.cross(q[1] - q[0], q[3] - q[0])
        f, cx, cy = mesh.focal(p, 64)
        y, x = np.nonzero(s.occluder == 3)
        assert len(x) > 300
        towards = np.stack([(x - cx) / f, -(y - cy) / f, -np.ones(len(x))], 1)
        wanted = (normal @ q[0]) / (towards @ normal)
        np.testing.assert_allclose(s.depth[y, x], wanted, atol=2e-3)


def test_what_a_plate_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask of the occluder is the plate's outline, and points behind it say so."""
    corners = np.array([[-5.0, -10, 16], [5, -10, 16], [5, -4.5, 16], [-5, -4.5, 16]])
    bare = synth.render(synth.face(), 96)
    with_props(monkeypatch, plate(corners))
    p = synth.face(occluders=(synth.Occluder("mask"),))
    s = synth.render(p, 96)
    q = mesh.project(p, mesh.turned(p, corners.T), 96)
    y, x = np.mgrid[:96, :96]
    inside = (x > q[0, 0]) & (x < q[0, 1]) & (y > q[1, 2]) & (y < q[1, 1])
    assert np.array_equal(s.occluder == 3, inside)
    assert set(np.unique(s.occluder)) == {0, 3}
    assert (s.parse[inside] == 0).all()
    assert np.array_equal(s.parse[~inside], bare.parse[~inside])
    for xy, hidden, before in (
        (s.points, s.hidden, bare.hidden), (s.points98, s.hidden98, bare.hidden98)
    ):  # fmt: skip
        if not np.ptp(xy):  # no such scheme
            continue
        in_plate = (xy[:, 0] > q[0, 0]) & (xy[:, 0] < q[0, 1])
        in_plate &= (xy[:, 1] > q[1, 2]) & (xy[:, 1] < q[1, 1])
        assert in_plate.any()
        assert np.array_equal((hidden & labels.OCCLUDER_HIDDEN) > 0, in_plate)
        assert np.array_equal(hidden & labels.SELF_HIDDEN, before & labels.SELF_HIDDEN)


def test_a_lens_changes_the_picture_and_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    corners = np.array([[-5.0, -2, 15], [5, -2, 15], [5, 2, 15], [-5, 2, 15]])
    with_props(monkeypatch, plate(corners, clear=0.7))
    bare = synth.render(synth.face(), 96)
    s = synth.render(synth.face(occluders=(synth.Occluder("glasses"),)), 96)
    for name in ("points", "hidden", "parse", "occluder", "depth", "box"):
        assert np.array_equal(getattr(s, name), getattr(bare, name)), name
    changed = (s.image != bare.image).any(axis=2)
    q = mesh.project(synth.face(), mesh.turned(synth.face(), corners.T), 96)
    y, x = np.nonzero(changed)
    assert q[0, 0] - 1 < x.min() <= q[0, 0] + 2
    assert q[1, 1] + 1 > y.max() >= q[1, 1] - 2


def test_parse_classes_lie_on_their_features() -> None:
    s = synth.render(synth.face(expression="happy", au={25: 1.0, 26: 0.6}), 160)
    assert s.parse.dtype == np.uint8
    assert set(np.unique(s.parse)) == set(range(11))
    points = {
        "left brow": s.points[17:22], "right brow": s.points[22:27], "left eye": s.points[36:42],
        "right eye": s.points[42:48], "nose": s.points[27:36], "inner mouth": s.points[60:68],
        "upper lip": s.points[[48, 50, 51, 52, 54, 61, 62, 63]],
        "lower lip": s.points[[48, 55, 57, 59, 54, 65, 66, 67]],
    }  # fmt: skip
    for name, xy in points.items():
        y, x = np.nonzero(s.parse == labels.PARSE.index(name))
        low, high = xy.min(axis=0), xy.max(axis=0)
        slack = 0.06 * 160 if "brow" in name or name == "nose" else 3.5
        assert x.min() > low[0] - slack, name
        assert x.max() < high[0] + slack, name
        assert y.min() > low[1] - slack, name
        assert y.max() < high[1] + slack, name
        middle = (low + high) / 2
        assert np.abs(np.array([x.mean(), y.mean()]) - middle).max() < 7, name
    skin = s.parse == 1
    y, x = np.nonzero(skin)
    assert y.max() < s.points[8, 1] + 4  # no neck
    assert x.min() > s.points[0, 0] - 5  # no ears
    assert x.max() < s.points[16, 0] + 5
    assert skin[int(s.points[30, 1] + 6), int(s.points[2, 0]) + 12]


def test_parse_follows_what_is_painted() -> None:
    """Changing the colour of a part changes the picture inside its class, and only there."""
    plain = synth.face(expression="happy", light=synth.directional_light(0, 0.3, 1, 0.8, 0.4))
    base = synth.render(plain, 128)
    makeup = np.zeros((4, 4))
    makeup[0] = 0.0, 0.5, 0.0, 1.0
    made = synth.render(replace(plain, makeup=makeup), 128)
    change = np.abs(made.image.astype(int) - base.image).max(axis=2)
    lips = np.isin(base.parse, (7, 9))
    inner = lips.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(lips, step, axis)
    assert (change[inner] > 12).mean() > 0.98
    outer = lips.copy()
    for _ in range(2):
        outer |= np.roll(outer, 1, 0) | np.roll(outer, -1, 0)
        outer |= np.roll(outer, 1, 1) | np.roll(outer, -1, 1)
    assert change[~outer].max() <= 12
    assert np.array_equal(base.parse, made.parse)


def test_light_from_a_side_lights_that_side() -> None:
    for side in (-1, 1):
        for yaw in (0.0, 0.5):
            p = synth.face(yaw=yaw, light=synth.directional_light(side, 0.1, 0.4, 1.0, 0.1))
            s = synth.render(p, 96)
            left, right = (s.image[(s.parse == 1) & m].mean() for m in (
                np.arange(96)[None] < s.points[30, 0] + 0 * s.parse,
                np.arange(96)[None] >= s.points[30, 0] + 0 * s.parse,
            ))  # fmt: skip
            assert side * (right - left) > 20


def test_every_skin_is_well_exposed_under_every_light() -> None:
    lights = [
        synth.directional_light(*d, strength, even)
        for d in ((0, 0.4, 1), (1, 0.3, 0.6), (-1, 0.8, 0.3))
        for strength, even in ((0.5, 0.15), (1.2, 0.45))
    ]
    at = len(synth.SHAPES) + synth.LOOKS.index("melanin")
    for melanin, low, high in ((0.0, 120, 238), (1.0, 28, 140)):
        vector = synth.face().identity_vector.copy()
        vector[at] = melanin
        for light in lights:
            s = synth.render(synth.face(identity=vector, light=light), 64)
            level = s.image[s.parse == 1].mean()
            assert low < level < high, (melanin, level)


def test_years_draw_lines() -> None:
    def roughness(age: float) -> float:
        s = synth.render(
            synth.face(age=age, light=synth.directional_light(0, 0.5, 1, 0.9, 0.3)), 224
        )
        grey = s.image.mean(axis=2)
        bend = np.abs(grey[2:] - 2 * grey[1:-1] + grey[:-2])
        skin = s.parse == 1
        whole = skin[2:] & skin[1:-1] & skin[:-2]
        return float(bend[whole].mean())

    assert roughness(85) > 1.15 * roughness(25)


def test_a_small_picture_is_the_large_one_shrunk() -> None:
    for p in faces(3):
        small, large = synth.render(p, 48), synth.render(p, 144)
        shrunk = large.image.reshape(48, 3, 48, 3, 3).mean(axis=(1, 3))
        assert np.abs(shrunk - small.image).mean() < 5
        assert (large.parse[1::3, 1::3] == small.parse).mean() > 0.99
        inside = (large.depth[1::3, 1::3] > 0) & (small.depth > 0)
        off = np.abs(large.depth[1::3, 1::3] - small.depth)[inside]
        assert np.quantile(off, 0.98) < 0.02


def test_the_mesh_label_projects_to_the_points() -> None:
    for p in faces(2):
        s = synth.render(p, 64)
        f, cx, cy = s.intrinsics
        corner, weight = head.build().landmarks
        v = (s.vertices.astype(float)[corner] * weight[..., None]).sum(axis=1)
        mine = np.stack([cx - f * v[:, 0] / v[:, 2], cy + f * v[:, 1] / v[:, 2]], 1)
        np.testing.assert_allclose(mine, s.points, atol=5e-4)


@pytest.mark.parametrize("yaw", [-0.7, 0.9])
def test_shadows_of_a_turned_head_are_those_of_its_turned_mesh(
    yaw: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the drawing takes from the light equals what the mesh, turned first, takes."""
    taken: list[np.ndarray] = []
    dot9 = kernels.dot9

    def spy(transfer_: np.ndarray, light: np.ndarray) -> np.ndarray:
        taken.append(dot9(transfer_, light))
        return taken[-1]

    light = synth.directional_light(1.0, 0.3, 0.5, 1.0, 0.1)
    p = synth.face(yaw=yaw, light=light)
    h = head.build()
    triangles, _, back, same = drawing._tables()
    shown = drawing._drawn(mesh.shape(p)[1].style)
    shown = shown[~back[shown]]
    rest = transfer.lost(h.rest, triangles, shown, same)
    monkeypatch.setattr(kernels, "dot9", spy)
    monkeypatch.setattr(drawing, "_shadows", lambda _: (rest, np.ones(rest.shape[1])))
    synth.render(p, 32)
    turned = numeric.turn(numeric.rotation(yaw, 0.0, 0.0), h.rest)
    lost = transfer.lost(turned, triangles, shown, same)
    wanted = (lost * light[:, None]).sum(axis=0) * recipe.exposure(light)
    sheet = slice(0, head.ROWS * head.COLUMNS)
    assert np.corrcoef(taken[0][sheet], wanted[sheet])[0, 1] > 0.97  # light not turned gives 0.6
    np.testing.assert_allclose(taken[0][sheet].mean(), wanted[sheet].mean(), rtol=0.05)
