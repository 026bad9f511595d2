"""The rasteriser against a loop over triangles and samples; the numbers under it."""

from __future__ import annotations

import math

import numpy as np

from facebench.synth import numeric, raster


def test_nearest_triangle_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    n, vertices, count = 24, 60, 40
    x, y = rng.uniform(-5, 29, (2, vertices))
    z = rng.uniform(-5, 5, vertices)
    x[:10], y[:10] = np.rint(x[:10]), np.rint(y[:10])  # some corners exactly on samples
    triangles = rng.integers(0, vertices, (3, count))
    X, Y, Z = raster.fix(x, y, z)
    where, owner, weights = raster.rasterise(raster.facing(X, Y, Z, triangles), n)
    best: dict[int, tuple[int, int]] = {}
    for t in range(count):
        p = [(int(X[v]), int(Y[v]), int(Z[v])) for v in triangles[:, t]]
        cross = lambda a, b, c: (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])  # noqa: E731
        if cross(*p) >= 0:
            continue
        for j in range(n):
            for i in range(n):
                q = (i * raster.SUB, j * raster.SUB)
                e = [-cross(p[1], p[2], q), -cross(p[2], p[0], q), -cross(p[0], p[1], q)]
                if min(e) >= 0:
                    depth = sum(a * b[2] for a, b in zip(e, p)) / sum(e)
                    best[j * n + i] = max(best.get(j * n + i, (-(10**9), 0)), (round(depth), t))
    assert sorted(best) == where.tolist()
    assert [best[k][1] for k in where.tolist()] == owner.tolist()
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    corner = triangles[:, owner]
    np.testing.assert_allclose((weights * X[corner]).sum(axis=0) / raster.SUB, where % n, atol=1e-9)
    np.testing.assert_allclose(
        (weights * Y[corner]).sum(axis=0) / raster.SUB, where // n, atol=1e-9
    )


def test_nothing_in_view() -> None:
    X, Y, Z = raster.fix(np.array([50.0, 60, 50]), np.array([50.0, 50, 60]), np.zeros(3))
    front = raster.facing(X, Y, Z, np.array([[0], [2], [1]]))
    assert len(front.number) == 1
    assert len(raster.rasterise(front, 8)[0]) == 0


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
