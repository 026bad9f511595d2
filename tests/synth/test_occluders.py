"""Occluders fit: found by brute force on many people and expressions, not by how they are built."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from facebench.errors import FacebenchError
from facebench.synth import actions, facemask, hand, head, mesh, occluders, people, tubes
from facebench.synth.numeric import Draws
from facebench.synth.portrait import OCCLUDERS, Occluder, Parameters

SHEET = head.ROWS * head.COLUMNS
PEOPLE = 30
LIPS_AND_CHIN = [*range(6, 11), *range(48, 68)]


@lru_cache(maxsize=PEOPLE + 8)
def posed(i: int) -> tuple[np.ndarray, np.ndarray, dict[str, float], Parameters]:
    """Points, landmarks [3, 68], marks of a random person; a wide jaw, a face of emotion, any."""
    draws = Draws("tests", "occluders", i)
    vector = people.draw(draws)
    au = draws.uniform(24) * (draws.uniform(24) < 0.4)
    if i % 4 == 0:
        au = np.zeros(24)
        au[[actions.INDEX[k] for k in (25, 27)]] = 1.0
    elif i % 4 == 1:
        au = np.zeros(24)
        for k in list(actions.PROTOTYPES.values())[i % 8]:
            au[actions.INDEX[k]] = 1.0
    p = Parameters(identity_vector=vector, au=au)
    points, _, marks = mesh.shape(p)
    return points, mesh.landmarks(points), marks, p


def thing(kind: str, i: int) -> Occluder:
    return occluders.draw(Draws("tests", kind, i), kind, np.array([0.5, 0.3, 0.2]))


def over(prop_triangles: np.ndarray, at: np.ndarray, last: bool = True) -> np.ndarray:
    """Depth of the last (or first) of triangles [3, 3, T] above points at (x, y); NaN for none."""
    a, b, c = prop_triangles[:, 0], prop_triangles[:, 1], prop_triangles[:, 2]
    x, y = at[0][:, None], at[1][:, None]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
    area = np.where(np.abs(area) < 1e-12, np.nan, area)
    v = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area
    w = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area
    z = a[2] + v * (b[2] - a[2]) + w * (c[2] - a[2])
    inside = (v >= 0) & (w >= 0) & (v + w <= 1)
    found = np.where(inside, z, -np.inf if last else np.inf)
    found = found.max(axis=1) if last else found.min(axis=1)
    return np.where(np.isfinite(found), found, np.nan)


def front(points: np.ndarray) -> np.ndarray:
    sheet = points[:, :SHEET]
    return sheet[:, sheet[2] > 3.0]


def faces(prop: occluders.Prop) -> np.ndarray:
    return prop.points[:, prop.triangles]


@pytest.mark.parametrize("kind", OCCLUDERS)
@pytest.mark.parametrize("i", range(4))
def test_meshes_are_sound(kind: str, i: int) -> None:
    points, _, marks, _ = posed(i)
    props = occluders.build(thing(kind, i), points, marks)
    assert sum(p.triangles.shape[1] for p in props) <= 800
    for prop in props:
        n = prop.points.shape[1]
        assert prop.kind == 1 + OCCLUDERS.index(kind)
        assert prop.points.shape == prop.colour.shape == (3, n)
        assert np.isfinite(prop.points).all()
        assert prop.colour.min() >= 0.0
        assert prop.colour.max() <= 1.0
        assert sorted(set(prop.triangles.ravel().tolist())) == list(range(n))
        assert prop.clear == 0.0 or (kind == "glasses" and 0.85 <= prop.clear <= 0.93)
        # neighbours agree on the way round: no edge is walked twice in one direction
        t = prop.triangles
        edges = np.concatenate([t[[0, 1]], t[[1, 2]], t[[2, 0]]], axis=1).T
        assert len(np.unique(edges, axis=0)) == len(edges)


@pytest.mark.parametrize("kind", OCCLUDERS)
def test_triangles_turn_outwards(kind: str) -> None:
    points, _, marks, _ = posed(2)
    for k, prop in enumerate(occluders.build(thing(kind, 2), points, marks)):
        p = faces(prop)
        if kind == "mask" and k == 0:  # a sheet: its first half looks away from the head's axis
            normal = np.cross((p[:, 1] - p[:, 0]).T, (p[:, 2] - p[:, 0]).T)
            half = prop.triangles.shape[1] // 2
            out = (normal * (p.mean(axis=1) * np.array([[1], [0.3], [1]])).T).sum(axis=1)
            assert (out[:half] > 0).mean() > 0.85
            np.testing.assert_allclose(normal[half:].sum(axis=0), -normal[:half].sum(axis=0))
        elif prop.clear or (kind == "sunglasses" and k == 1):  # lenses: both sides
            volume = np.einsum("it,it->t", p[:, 0], np.cross(p[:, 1].T, p[:, 2].T).T).sum()
            assert abs(volume) < 1e-6
        else:  # tubes: the volume inside is positive, also piece by piece
            volume = np.einsum("it,it->t", p[:, 0] - p.mean(axis=(1, 2))[:, None], np.cross(
                (p[:, 1] - p.mean(axis=(1, 2))[:, None]).T,
                (p[:, 2] - p.mean(axis=(1, 2))[:, None]).T,
            ).T)  # fmt: skip
            assert volume.sum() > 0


@pytest.mark.parametrize("i", range(PEOPLE))
def test_nothing_pokes_through_a_mask(i: int) -> None:
    points, marks68, marks, _ = posed(i)
    form = Draws("tests", "form", i).uniform(6)
    shell = occluders.build(Occluder("mask", form), points, marks)[0]
    p = faces(shell)[:, :, : shell.triangles.shape[1] // 2]
    above = over(p, marks68[:, LIPS_AND_CHIN])
    assert (above > marks68[2, LIPS_AND_CHIN]).all()  # NaN, not covered, fails, too
    skin = front(points)
    above = over(p, skin)
    covered = ~np.isnan(above)
    assert covered.sum() > 300
    assert (above > skin[2])[covered].all()
    assert np.isnan(over(p, marks68[:, 36:48])).all()  # the eyes stay free


@pytest.mark.parametrize("i", range(PEOPLE))
@pytest.mark.parametrize("kind", ["glasses", "sunglasses"])
def test_lenses_stand_before_the_eyes_and_temples_reach_the_ears(kind: str, i: int) -> None:
    points, marks68, marks, _ = posed(i)
    frame, lenses = occluders.build(thing(kind, i), points, marks)
    eyes = marks68[:, 36:48]
    gap = over(faces(lenses), eyes) - eyes[2]
    assert (gap > 0.4).all()
    assert (gap < 3.0).all()
    everything = np.concatenate([faces(frame), faces(lenses)], axis=2)
    skin = front(points)
    above = over(everything, skin)
    assert (above > skin[2])[~np.isnan(above)].all()
    for part, side in zip([q for q in head.build().parts if q.name == "ear"], (-1, 1)):
        ear = points[:, part.start : part.start + part.rows * part.columns]
        mine = frame.points[:, np.sign(frame.points[0]) == side]
        behind = mine[:, mine[2] < ear[2].max() - 0.5]
        assert behind.shape[1] > 0
        assert ear[1].min() < behind[1].mean() < ear[1].max()
        distance = np.linalg.norm(behind[:, :, None] - ear[:, None], axis=0).min(axis=1)
        assert distance.max() < 1.5


def test_glasses_stay_when_brows_move() -> None:
    rest = None
    for level in (0.0, 1.0):
        au = np.zeros(24)
        au[[actions.INDEX[k] for k in (1, 2, 4)]] = level
        points, _, marks = mesh.shape(Parameters(au=au))
        found = occluders.build(Occluder("glasses"), points, marks)[0].points
        if rest is not None:
            assert np.abs(found - rest).max() < 0.15
        rest = found


def test_glasses_follow_the_eyes() -> None:
    k = people.SHAPES.index("eye distance")
    middles, eyes = [], []
    for amount in (-2.0, 2.0):
        p = Parameters()
        vector = p.identity_vector.copy()
        vector[k] = amount
        points, _, marks = mesh.shape(Parameters(identity_vector=vector))
        lenses = occluders.build(Occluder("glasses"), points, marks)[1]
        right = lenses.points[0] > 0
        middles.append(lenses.points[0, right].mean())
        eyes.append(marks["right x"])
    assert middles[1] - middles[0] == pytest.approx(eyes[1] - eyes[0], rel=0.35)


@pytest.mark.parametrize("i", range(PEOPLE))
def test_a_hand_lies_before_the_face_and_touches_it(i: int) -> None:
    points, _, marks, _ = posed(i)
    (made,) = occluders.build(thing("hand", i), points, marks)
    skin = points[:, :SHEET]
    skin = skin[:, (skin[2] > 3.0) & (skin[1] > -16.0)]
    below = over(faces(made), skin, last=False)
    covered = ~np.isnan(below)
    assert covered.sum() > 50
    gap = (below - skin[2])[covered]
    assert (gap > 0.0).all()
    assert gap.min() < 1.2


def test_the_covered_place_moves_with_the_form() -> None:
    points, marks68, marks, _ = posed(3)
    skin = front(points)
    middles = {}
    for x in (0.1, 0.9):
        for y in (0.05, 0.95):
            form = np.array([x, y, 0.3 if x < 0.5 else 0.7, 0.2, 0.3, 0.2])
            (made,) = occluders.build(Occluder("hand", form), points, marks)
            on = ~np.isnan(over(faces(made), skin))
            fingers = made.points[:, -5 * 57 :]
            middles[x, y] = (skin[:2, on].mean(axis=1), fingers[:2].mean(axis=1))
    for y in (0.05, 0.95):
        assert middles[0.9, y][1][0] - middles[0.1, y][1][0] > 5.0
    for x in (0.1, 0.9):
        assert middles[x, 0.95][1][1] - middles[x, 0.05][1][1] > 6.0
    high, low = (
        occluders.build(Occluder("mask", np.array([v, 0.5, 0.5, 0.5, 0, 0])), points, marks)[0]
        for v in (1.0, 0.0)
    )
    tip = marks68[:, 30:31]
    assert over(faces(high), tip)[0] > tip[2, 0]
    assert np.isnan(over(faces(low), tip)[0])


def test_any_region_can_be_covered_by_a_hand() -> None:
    points, marks68, marks, _ = posed(7)
    wanted = {
        "forehead": marks68[:, 27] + np.array([0.0, 5.0, 0.0]), "left eye": marks68[:, 37],
        "right eye": marks68[:, 44], "nose": marks68[:, 30], "left cheek": marks68[:, 2] * 0.7,
        "mouth": marks68[:, 62], "chin": marks68[:, 8],
    }  # fmt: skip
    hidden = dict.fromkeys(wanted, 0)
    for i in range(60):
        form = Draws("tests", "reach", i).uniform(6)
        (made,) = occluders.build(Occluder("hand", form), points, marks)
        for name, at in wanted.items():
            hidden[name] += int(not np.isnan(over(faces(made), at[:, None])[0]))
    assert min(hidden.values()) >= 4, hidden


def test_a_right_hand_mirrors_a_left_one() -> None:
    points, _, marks = mesh.shape(Parameters())
    left, right = (
        occluders.build(Occluder("hand", np.array([x, 0.4, a, 0.3, 0.5, 0.4])), points, marks)[0]
        for x, a in ((0.3, 0.2), (0.7, 0.8))
    )
    a = left.points * np.array([[-1.0], [1.0], [1.0]])
    far = np.abs(a[:, :, None] - right.points[:, None]).max(axis=0).min(axis=1)
    assert far.max() < 0.25


def test_masks_and_glasses_are_symmetric_on_a_symmetric_face() -> None:
    points, _, marks = mesh.shape(Parameters())
    for kind in ("glasses", "sunglasses", "mask"):
        for prop in occluders.build(Occluder(kind), points, marks):
            mirrored = prop.points * np.array([[-1.0], [1.0], [1.0]])
            far = np.abs(mirrored[:, :, None] - prop.points[:, None]).max(axis=0).min(axis=1)
            assert far.max() < 1e-6


def test_reach_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    x, y, z = rng.uniform(-7, 7, 400), rng.uniform(-9, 1, 400), rng.uniform(0.3, 9, 400)
    edges = facemask._tables()[3]
    heights = np.broadcast_to(np.array([0.0, -2.0, -5.0, -8.0])[:, None], (4, len(edges))).copy()
    out = np.empty(heights.shape)
    facemask._reach(x, y, z, edges, heights, out)
    q, r = x / (np.abs(x) + z), np.hypot(x, z)
    for i in range(4):
        for j in range(len(edges)):
            on = (q >= edges[max(j - 1, 0)]) & (q < edges[min(j + 1, len(edges) - 1)])
            on &= (y <= heights[max(i - 1, 0), 0]) & (y > heights[min(i + 1, 3), 0])
            if on.any():
                assert out[i, j] == pytest.approx(r[on].max(), rel=1e-12)


def test_the_hand_s_map_lies_before_the_face_and_is_not_steep() -> None:
    points = posed(5)[0]
    smooth, plain = hand.envelope(points)
    skin = points[:, :SHEET]
    near = skin[:, (skin[2] > 0.0) & (np.abs(skin[0]) < 11.0) & (skin[1] < 12.0) & (skin[1] > -35)]
    for x, y, z in near[:, ::7].T:
        assert hand.depth(smooth, x, y) >= z
        assert hand.nearest(plain, x, y) >= z
    assert np.abs(np.diff(smooth, axis=0)).max() < 1.5


def test_beside_equals_a_loop() -> None:
    points = posed(6)[0]
    nodes = np.array([[0.0, 0.0], [0.5, -4.0], [1.0, 2.5]])
    for side in (-1, 1):
        found = tubes.beside(points, nodes, side)
        for k in range(2):
            near = np.abs(points[1:, :SHEET] - nodes[1:, k : k + 1]).max(axis=0) < 0.9
            assert found[k] == (side * points[0, :SHEET])[near].max()


@pytest.mark.parametrize("kind", OCCLUDERS)
def test_drawing_is_repeatable_and_varied(kind: str) -> None:
    skin = np.array([0.5, 0.3, 0.2])
    a = [occluders.draw(Draws("d", i), kind, skin) for i in range(40)]
    b = occluders.draw(Draws("d", 3), kind, skin)
    np.testing.assert_array_equal(a[3].form, b.form)
    np.testing.assert_array_equal(a[3].colour, b.colour)
    assert np.stack([o.form for o in a]).std(axis=0).min() > 0.05
    if kind == "hand":
        assert all((o.colour == skin).all() for o in a)
    else:
        assert len({tuple(o.colour) for o in a}) > 20


def test_bad_arguments_are_named() -> None:
    points, _, marks, _ = posed(0)
    with pytest.raises(FacebenchError, match=r"occluders\.build\.occluder"):
        occluders.build("mask", points, marks)  # type: ignore[arg-type]
    with pytest.raises(FacebenchError, match=r"occluders\.build\.points"):
        occluders.build(Occluder("mask"), points[:, :50], marks)
    left = {k: v for k, v in marks.items() if k != "right y"}
    with pytest.raises(FacebenchError, match="right y"):
        occluders.build(Occluder("glasses"), points, left)
    with pytest.raises(FacebenchError, match="did you mean 'mask'"):
        occluders.draw(Draws("d"), "masc", np.zeros(3))
    with pytest.raises(FacebenchError, match=r"occluders\.draw\.skin"):
        occluders.draw(Draws("d"), "hand", np.array([0.5, np.nan, 0.5]))
