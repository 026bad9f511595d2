"""The head at rest: symmetry, orientation, regions, landmarks, what a hair style shows."""

from __future__ import annotations

import numpy as np
import pytest

from facebench.errors import FacebenchError
from facebench.schemes import SCHEMES
from facebench.synth import hair, head

BUILD = head.build()
REST = BUILD.rest
GRID = REST[:, : head.SHEET].reshape(3, head.ROWS, head.COLUMNS)
MIRROR = np.array([-1.0, 1.0, 1.0])[:, None]


def landmarks(points: int) -> np.ndarray:
    vertices, weights = BUILD.landmarks if points == 68 else BUILD.landmarks98
    return (REST[:, vertices] * weights).sum(axis=2)


def distance(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each of `points` [3, n] to the nearest of `others` [3, m]."""
    out = [np.sqrt(((others - p[:, None]) ** 2).sum(axis=0).min()) for p in points.T]
    return np.array(out)


def test_size() -> None:
    assert REST.shape[1] < 8000
    assert max(len(head.drawn(s)) for s in hair.STYLES) < 15000
    assert np.isfinite(REST).all()
    assert np.array_equal(REST, np.round(REST * 2**20) / 2**20)
    assert BUILD.chart.shape == (2, REST.shape[1])
    assert sum(p.rows * p.columns for p in BUILD.parts) == REST.shape[1]


def test_mirror_symmetry_at_rest() -> None:
    np.testing.assert_array_equal(GRID[:, :, ::-1] * MIRROR[..., None], GRID)
    for part in BUILD.parts[1:]:
        own = REST[:, part.span]
        whole = REST[:, BUILD.parts[1].start : BUILD.parts[2].span.stop]
        others = whole if part.name == "ear" else own
        assert distance(own[:, ::7] * MIRROR, others).max() < 1e-9


def test_measures_of_an_adult() -> None:
    x, y, z = landmarks(68)
    assert 11.0 < y[[36, 45]].mean() - y[8] < 12.3  # eyes to chin
    assert 8.4 < x[45] - x[36] < 9.6  # between the outer corners
    assert 2.6 < x[42] - x[39] < 3.6  # between the inner corners
    assert 4.4 < x[54] - x[48] < 5.8  # mouth
    assert 13.4 < GRID[0, head.NAMED["upper lid"]].max() * 2 < 15.5  # width beside the eyes
    assert 1.5 < GRID[2].max() - z[33] < 2.6  # the nose before its base
    tip = np.argmax(GRID[2, :, head.MIDDLE])
    assert -5.0 < GRID[1, tip, head.MIDDLE] < -3.2
    # nasolabial angle, between the columella and the upper lip
    base = np.array([y[33], z[33]])
    nose = GRID[1:, tip + 4, head.MIDDLE] - base
    lip = np.array([y[51], z[51]]) - base
    cosine = nose @ lip / np.linalg.norm(nose) / np.linalg.norm(lip)
    assert 92.0 < np.degrees(np.arccos(cosine)) < 108.0


def test_no_triangle_falls_together_and_edges_match() -> None:
    a, b, c = (REST[:, t] for t in BUILD.triangles)
    area = np.linalg.norm(np.cross((b - a).T, (c - a).T), axis=1) / 2
    row, column = np.divmod(BUILD.triangles, head.COLUMNS)
    lips = (row >= head.NAMED["upper lip"]) & (row <= head.NAMED["lower lip"])
    cavity = (row >= head.NAMED["mouth first"]) & (row <= head.NAMED["mouth last"])
    corner = lips & (np.abs(column - head.MIDDLE) == head.MOUTH_OUT)
    closed = (cavity | corner).any(axis=0) & (BUILD.kind == 0)
    assert area[~closed].min() > 1e-7  # but in the closed mouth and its corners
    # every edge of the sheet has one neighbour on each side, but at the lower rim
    own = np.arange(REST.shape[1])
    for v in np.flatnonzero(head.joined().reshape(-1)):
        own[v] = own[v - head.COLUMNS]
    own[: head.COLUMNS] = 0
    t = own[BUILD.triangles[:, BUILD.kind == 0]]
    edges = np.concatenate([t[[0, 1]], t[[1, 2]], t[[2, 0]]], 1)
    key, back = edges[0] * 10**6 + edges[1], edges[1] * 10**6 + edges[0]
    assert len(np.unique(key)) == len(key)
    alone = edges[:, ~np.isin(key, back)]
    assert (alone >= head.SHEET - head.COLUMNS).all()
    assert alone.shape[1] == head.COLUMNS


def first_hit(origin: np.ndarray, towards: np.ndarray, triangles: np.ndarray) -> float:
    """How the nearest triangle that a ray meets faces it (> 0: its outside), by brute force."""
    a, b, c = (REST[:, t].T for t in triangles)
    e, f = b - a, c - a
    h = np.cross(towards[None], f)
    det = (e * h).sum(1)
    det = np.where(np.abs(det) < 1e-12, np.inf, det)
    s = origin - a
    u = (s * h).sum(1) / det
    q = np.cross(s, e)
    v, t = (q @ towards) / det, (f * q).sum(1) / det
    t = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), t, np.inf)
    same = np.flatnonzero(t < t.min() + 1e-6)  # hair has two sides in one place
    facing = -(np.cross(e[same], f[same]) @ towards)
    return float(facing.max()) if np.isfinite(t.min()) else np.nan


@pytest.mark.parametrize("style", ["bald", "bob", "long"])
def test_triangles_face_outwards(style: str) -> None:
    """Rays from all sides towards the head meet the outside of a triangle first."""
    random = np.random.default_rng(0)
    triangles = BUILD.triangles[:, head.drawn(style)]
    for _ in range(60):
        out = random.normal(size=3) * [1, 0.7, 1]
        out /= np.linalg.norm(out)
        aim = random.uniform([-5, -9, -5], [5, 8, 5])
        facing = first_hit(aim + 80 * out, -out, triangles)
        assert facing > 0


def test_rows_that_fall_together() -> None:
    same = head.joined()
    for r in range(1, head.ROWS):
        np.testing.assert_array_equal(GRID[:, r, same[r]], GRID[:, r - 1, same[r]])
    n = head.NAMED
    eye = slice(head.MIDDLE + head.EYE_IN + 1, head.MIDDLE + head.EYE_OUT)
    assert (GRID[1, n["upper lid"], eye] > GRID[1, n["lower lid"], eye]).all()
    lids = GRID[2, [n["upper lid"], n["lower lid"]], eye]
    balls = GRID[2, [n["eye first"], n["eye last"]], eye]
    assert (lids > balls + 0.05).all()  # lids have thickness


def test_regions() -> None:
    r = BUILD.regions
    halves = ("brow", "eye", "upper lid", "lower lid", "cheek", "ear")
    whole = (
        "nose", "upper lip", "lower lip", "mouth", "chin", "jaw", "forehead", "neck", "scalp",
        "hair", "shoulders",
    )  # fmt: skip
    assert set(r) == {f"{s} {h}" for s in ("left", "right") for h in halves} | set(whole)
    centre = {k: REST[:, v].mean(axis=1) for k, v in r.items()}
    for name, v in r.items():
        assert len(v) > 8, name
        assert len(np.unique(v)) == len(v), name
        assert (v >= 0).all()
        assert (v < REST.shape[1]).all()
    for h in halves:
        left, right = REST[:, r[f"left {h}"]], REST[:, r[f"right {h}"]]
        assert (left[0] < 0).all()
        assert left.shape == right.shape
        assert distance(left * MIRROR, right).max() < 1e-9
    for k in whole:
        assert abs(centre[k][0]) < 1e-9
    order = ["forehead", "left brow", "left upper lid", "left eye", "left lower lid",
             "left cheek", "upper lip", "lower lip", "chin", "neck", "shoulders"]  # fmt: skip
    heights = [centre[k][1] for k in order]
    assert heights == sorted(heights, reverse=True)
    assert set(r["upper lip"]) | set(r["lower lip"]) < set(r["mouth"])
    assert set(r["chin"]) < set(r["jaw"])
    for first, second in (
        ("left eye", "left upper lid"),
        ("upper lip", "lower lip"),
        ("nose", "mouth"),
    ):
        assert not set(r[first]) & set(r[second])
    few = landmarks(68).T
    for points, name in (
        (range(36, 42), "left eye"), (range(17, 22), "left brow"), (range(48, 68), "mouth"),
        (range(27, 36), "nose"), (range(4, 13), "jaw"),
    ):  # fmt: skip
        mean = few[list(points)].mean(axis=0)
        assert np.linalg.norm(mean - centre[name]) < 1.6, name


@pytest.mark.parametrize("points", [68, 98])
def test_landmarks(points: int) -> None:
    vertices, weights = BUILD.landmarks if points == 68 else BUILD.landmarks98
    assert vertices.shape == weights.shape == (points, 3)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    assert (vertices < head.SHEET).all()
    at = landmarks(points)
    flipped = at[:, list(SCHEMES[points].flip)] * MIRROR
    np.testing.assert_allclose(flipped, at, atol=1e-9)
    # each point lies in a triangle that is drawn (or on one's edge, where rows fall together)
    drawn = {tuple(sorted(t)) for t in BUILD.triangles.T.tolist()}
    inside = [tuple(sorted(v)) in drawn for v in vertices.tolist()]
    for k in np.flatnonzero(~np.array(inside)):
        assert np.isclose(weights[k].max(), 1.0)


def test_landmarks_are_in_order() -> None:
    few, many = landmarks(68), landmarks(98)
    assert (np.diff(few[0, :17]) > 0).all()
    assert (np.diff(many[0, :33]) > -0.02).all()  # nearly upright before the ear
    assert (np.diff(few[1, 8:17]) > 0).all()
    assert (np.diff(few[0, 17:27]) > 0).all()
    assert (np.diff(many[0, 33:38]) > 0).all()  # upper edge, from outside to inside
    assert (np.diff(many[0, 38:42]) < 0).all()  # lower edge, from inside to outside
    assert many[1, 34:37].min() > many[1, 38:41].max() - 0.3
    assert (many[1, [36, 35, 34]] > many[1, [39, 40, 41]] + 0.2).all()
    assert (np.diff(many[1, 51:55]) < 0).all()
    assert (np.diff(many[0, 55:60]) > 0).all()
    assert (np.diff(many[0, 60:65]) > 0).all()
    assert (np.diff(many[0, 65:68]) < 0).all()
    assert (np.diff(many[0, 68:73]) > 0).all()
    assert many[1, 69:72].min() > many[1, 73:76].max()
    assert (np.diff(many[0, 76:83]) > 0).all()
    assert (np.diff(many[0, 83:88]) < 0).all()
    assert many[1, [78, 80]].min() > many[1, 79]  # Cupid's bow
    assert (np.diff(many[0, 88:93]) > 0).all()
    assert (np.diff(many[0, 93:96]) < 0).all()


def test_the_two_schemes_agree() -> None:
    few, many = landmarks(68), landmarks(98)
    pairs = {k: 2 * k for k in range(17)}
    pairs |= {27 + k: 51 + k for k in range(9)} | {48 + k: 76 + k for k in range(20)}
    pairs |= {36: 60, 39: 64, 42: 68, 45: 72}
    np.testing.assert_array_equal(few[:, list(pairs)], many[:, list(pairs.values())])


def test_drawn() -> None:
    kind = BUILD.kind
    shown = {s: set(np.unique(kind[head.drawn(s)]).tolist()) for s in hair.STYLES}
    assert shown["bald"] == shown["buzzed"] == shown["curly"] == {0, 1}
    assert shown["long"] == shown["bob"] == {0, 1, 2, 3, 4}
    assert shown["tied"] == {0, 1, 5}
    assert not set(head.drawn("long")) >= set(head.drawn("bob"))
    for s in hair.STYLES:
        assert (np.diff(head.drawn(s)) > 0).all()
    with pytest.raises(FacebenchError, match="curly"):
        head.drawn("curley")
