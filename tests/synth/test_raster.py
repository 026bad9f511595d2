"""The rasteriser against loops over triangles, samples and points; the numbers under it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facebench.synth import numeric, raster


def drawn(x: np.ndarray, y: np.ndarray, w: np.ndarray, triangles: np.ndarray, n: int) -> tuple:
    fixed = raster.fix(x, y, w)
    every = np.arange(triangles.shape[1])
    front = raster.facing(fixed, triangles, every)
    best = np.zeros(n * n, np.int64)
    raster.rasterise(fixed, triangles, front, best, n)
    return fixed, front, best


def cross(a: tuple, b: tuple, c: tuple) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])


@pytest.mark.parametrize("seed", range(4))
def test_nearest_triangle_equals_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, vertices, count = 24, 60, 40
    x, y = rng.uniform(-5, 29, (2, vertices))
    z = rng.uniform(-5, 5, vertices)
    x[:20], y[:20] = np.rint(x[:20]), np.rint(y[:20])  # some corners exactly on samples
    triangles = rng.integers(0, vertices, (3, count))
    fixed, front, key = drawn(x, y, z, triangles, n)
    X, Y, Z = fixed.tolist()
    best: dict[int, tuple[int, int]] = {}
    facing = []
    for t in range(count):
        p = [(X[v], Y[v], Z[v]) for v in triangles[:, t]]
        if cross(*p) >= 0:
            continue
        facing.append(t)
        for j in range(n):
            for i in range(n):
                q = (i * raster.SUB, j * raster.SUB)
                e = [-cross(p[1], p[2], q), -cross(p[2], p[0], q), -cross(p[0], p[1], q)]
                if min(e) >= 0:
                    depth = sum(a * b[2] for a, b in zip(e, p)) / sum(e)
                    found = (math.floor(depth + 0.5), t)
                    best[j * n + i] = max(best.get(j * n + i, found), found)
    assert front.tolist() == facing
    assert np.flatnonzero(key).tolist() == sorted(best)
    mask = (1 << raster.BITS) - 1
    for at, (depth, t) in best.items():
        assert key[at] & mask == t
        assert abs(int(key[at] >> raster.BITS) - (1 << 30) - depth) <= 1  # a half may round apart
        w = raster.place(fixed, *triangles[:, t], at % n * raster.SUB, at // n * raster.SUB)
        assert min(w) >= 0
        corner = triangles[:, t]
        assert abs(np.dot(w, fixed[0][corner]) / raster.SUB - at % n) < 1e-9
        assert abs(np.dot(w, fixed[1][corner]) / raster.SUB - at // n) < 1e-9


def test_shared_edges_leave_no_gap_and_sheets_keep_their_order() -> None:
    """A grid of triangles covers a rectangle wholly; of two, the nearer one is seen."""
    n, cells = 40, 7
    g = np.linspace(3.3, 33.7, cells + 1)
    x, y = (v.reshape(-1) for v in np.meshgrid(g, g))
    x = np.concatenate([x + 0.37 * np.sin(7 * y), x])
    y = np.concatenate([y, y])
    w = np.concatenate([np.full((cells + 1) ** 2, 1.0), np.full((cells + 1) ** 2, 0.5)])
    a = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).reshape(-1)
    one = np.concatenate([
        np.stack([a, a + cells + 1, a + 1]), np.stack([a + 1, a + cells + 1, a + cells + 2])
    ], 1)  # fmt: skip
    both = np.concatenate([one, one + (cells + 1) ** 2], 1)
    _, front, key = drawn(x, y, w, both, n)
    assert len(front) == both.shape[1]
    inside = key.reshape(n, n)[5:32, 5:32]
    assert (inside > 0).all()
    assert ((inside & ((1 << raster.BITS) - 1)) < one.shape[1]).all()


def test_nothing_in_view_and_far_out_of_view() -> None:
    x, y = np.array([50.0, 60, 50]), np.array([50.0, 50, 60])
    _, front, key = drawn(x, y, np.zeros(3), np.array([[0], [2], [1]]), 8)
    assert len(front) == 1
    assert not key.any()
    _, front, key = drawn(x * 1e300, y * 1e300, np.zeros(3), np.array([[0], [2], [1]]), 8)
    assert len(front) == 0


def test_points_behind_triangles_equal_a_loop() -> None:
    rng = np.random.default_rng(5)
    vertices, count, points = 90, 60, 40
    screen = np.stack([*rng.uniform(0, 30, (2, vertices)), rng.uniform(-3, 3, vertices)])
    triangles = rng.integers(0, vertices, (3, count))
    bit = rng.integers(1, 3, count).astype(np.uint8)
    spots = np.stack([*rng.uniform(2, 28, (2, points)), rng.uniform(-3, 3, points)])
    fixed = raster.fix(*screen)
    front = raster.facing(fixed, triangles, np.arange(count))
    got = raster.covered(screen, fixed, triangles, front, bit, spots, 0.25)
    wanted = np.zeros(points, np.uint8)
    for t in front:
        p = screen[:, triangles[:, t]]
        edges = np.stack([p[:2, 1] - p[:2, 0], p[:2, 2] - p[:2, 0]], 1)
        for k in range(points):
            u, v = np.linalg.solve(edges, spots[:2, k] - p[:2, 0])
            if min(u, v, 1 - u - v) >= 0:
                depth = p[2, 0] + u * (p[2, 1] - p[2, 0]) + v * (p[2, 2] - p[2, 0])
                if depth > spots[2, k] + 0.25:
                    wanted[k] |= bit[t]
    assert np.array_equal(got, wanted)
    assert set(got.tolist()) == {0, 1, 2, 3}


def test_nearness_is_linear_across_a_plane_in_perspective() -> None:
    """Between two points of a line in space, nearness goes in proportion to the place seen."""
    d = 60.0
    a, b = np.array([-4.0, 1.0, 9.0]), np.array([5.0, 2.0, -14.0])
    t = np.linspace(0, 1, 9)
    p = a[:, None] * (1 - t) + b[:, None] * t
    seen = p[0] / (d - p[2])
    share = (seen - seen[0]) / (seen[-1] - seen[0])
    near = raster.nearness(p[2], d)
    np.testing.assert_allclose(near, near[0] + (near[-1] - near[0]) * share, atol=1e-9)
    assert raster.nearness(np.array([0.0]), d)[0] == 0.0
    np.testing.assert_allclose(d * d / (near + d), d - p[2])


def test_sine_and_cosine() -> None:
    for angle in np.linspace(-2 * math.pi, 2 * math.pi, 101):
        s, c = numeric.sin_cos(float(angle))
        assert abs(s - math.sin(angle)) < 1e-12
        assert abs(c - math.cos(angle)) < 1e-12


def test_rotations_turn() -> None:
    for angles in ((0.4, 0, 0), (0, 0.3, 0), (0, 0, 0.2), (0.5, -0.3, 0.6)):
        r = numeric.rotation(*angles)
        np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
        assert abs(np.linalg.det(r) - 1) < 1e-12
    assert numeric.rotation(0.4, 0, 0)[0, 2] > 0  # the nose (z) goes to the image's right
    assert numeric.rotation(0, 0.4, 0)[1, 2] > 0  # the nose goes up
    assert numeric.rotation(0, 0, 0.4)[1, 0] > 0  # the right side goes up


def test_draws_are_frozen_and_well_spread() -> None:
    a = numeric.Draws("a", 1)
    assert [hex(w) for w in a.words(2).tolist()] == ["0xa7ec25fadab995b8", "0x47c25bcc68da17e9"]
    u = numeric.Draws("u").uniform(20000)
    assert 0 <= u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01
    assert abs(u.var() - 1 / 12) < 0.003
    for x in (numeric.Draws("b").bell(20000), numeric.Draws("n").noise(20001)):
        assert abs(x.mean()) < 0.03
        assert abs(x.var() - 1) < 0.05
    assert not np.array_equal(numeric.Draws("a", 12).words(4), numeric.Draws("a1", 2).words(4))
    counts = np.bincount([numeric.Draws("p", i).pick(np.array([1.0, 0, 3])) for i in range(800)])
    assert counts[1] == 0
    assert 0.2 < counts[0] / 800 < 0.3
