"""Light and its shadows against integrals; the same bytes without the compiler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import facebench.synth
from facebench.synth import compiled, numeric, shade, transfer

HOME = Path(facebench.synth.__file__).parent


def radiance(light: np.ndarray, d: np.ndarray) -> np.ndarray:
    return light @ transfer.basis(d)


def sphere_points(n: int) -> np.ndarray:
    """Directions of a fine midpoint rule over the sphere, and nothing of ours."""
    z = (np.arange(n) + 0.5) / n * 2 - 1
    phi = (np.arange(2 * n) + 0.5) / (2 * n) * 2 * np.pi
    z, phi = (v.reshape(-1) for v in np.meshgrid(z, phi))
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(phi), r * np.sin(phi), z])


def test_irradiance_equals_the_integral_over_the_sphere() -> None:
    rng = np.random.default_rng(0)
    d = sphere_points(400)
    for _ in range(5):
        light, n = rng.normal(size=9), rng.normal(size=3)
        n /= np.linalg.norm(n)
        cosine = np.maximum(n @ d, 0)
        integral = (radiance(light, d) * cosine).mean() * 4 * np.pi / np.pi
        assert abs(shade.irradiance(light, *n) - integral) < 2e-3


def test_turned_light_is_the_light_in_turned_directions() -> None:
    rng = np.random.default_rng(1)
    d = rng.normal(size=(3, 50))
    d /= np.linalg.norm(d, axis=0)
    for angles in ((0.7, -0.4, 0.9), (-1.4, 0.2, 0.1)):
        m = numeric.rotation(*angles)
        light = rng.normal(size=9)
        there = transfer.turned(light, m)
        np.testing.assert_allclose(radiance(there, d), radiance(light, m @ d), atol=1e-5)
        back = transfer.turned(there, m.T)
        np.testing.assert_allclose(back, light, atol=1e-5)


def wedge(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """A floor in the plane y = 0 and a wall that rises at `angle` from the line x = 0."""
    n, length = 21, 40.0
    s = np.linspace(0, length, n)
    z = np.linspace(-length, length, n)
    s, z = np.meshgrid(s, z, indexing="ij")
    floor = np.stack([s, 0 * s, z])
    wall = np.stack([s * np.cos(angle), s * np.sin(angle), z])
    a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).reshape(-1)
    one = np.concatenate([np.stack([a, a + 1, a + n]), np.stack([a + 1, a + n + 1, a + n])], 1)
    points = np.concatenate([floor.reshape(3, -1), wall.reshape(3, -1)], 1)
    return points, np.concatenate([one, one + n * n], 1)  # the wall is seen from behind


@pytest.mark.parametrize("degrees", [60, 90, 120])
def test_shadow_of_a_wedge_has_its_closed_form(degrees: int) -> None:
    """Near the edge a wall at angle a takes (1 + cos a) / 2 of an even sky from the floor."""
    angle = np.deg2rad(degrees)
    points, triangles = wedge(angle)
    same = np.arange(points.shape[1])
    every = np.arange(triangles.shape[1])
    lost = transfer.lost(points, triangles, every, same, count=400, cell=0.25, slack=0.1, lift=0.05)
    near = np.flatnonzero((points[1] == 0) & (points[0] == 2.0) & (np.abs(points[2]) < 9))
    assert len(near) > 1
    share = lost[0, near] / 0.282095
    np.testing.assert_allclose(share, 0.5 * (1 + np.cos(angle)), atol=0.045)


def test_shadow_of_a_ball_on_a_plane_against_chance() -> None:
    """All nine coefficients, against rays in random directions."""
    g = np.linspace(-12, 12, 25)
    x, z = (v.reshape(-1) for v in np.meshgrid(g, g))
    plane = np.stack([x, np.full_like(x, -3.0), z])
    a = (np.arange(24)[:, None] * 25 + np.arange(24)).reshape(-1)
    floor = np.concatenate([np.stack([a, a + 25, a + 1]), np.stack([a + 1, a + 25, a + 26])], 1)
    t, p = np.meshgrid(np.linspace(0, np.pi, 25), np.arange(48) / 48 * 2 * np.pi, indexing="ij")
    ball = 3 * np.stack([np.sin(t) * np.cos(p), np.cos(t), np.sin(t) * np.sin(p)]).reshape(3, -1)
    r, c = (v.reshape(-1) for v in np.meshgrid(np.arange(24), np.arange(48), indexing="ij"))
    b, d = r * 48 + c, r * 48 + (c + 1) % 48
    round_ = np.concatenate([np.stack([b, d, b + 48]), np.stack([d, d + 48, b + 48])], 1)
    points = np.concatenate([plane, ball], 1)
    triangles = np.concatenate([floor, round_ + 625], 1)
    lost = transfer.lost(
        points, triangles, np.arange(triangles.shape[1]), transfer.joined(points),
        count=600, cell=0.12, slack=0.1, lift=0.02,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    rays = rng.normal(size=(3, 200000))
    rays /= np.linalg.norm(rays, axis=0)
    for at in ((4.0, 0.0), (3.0, 3.0), (-6.0, 2.0)):
        k = int(np.flatnonzero((x == at[0]) & (z == at[1]))[0])
        o = plane[:, k]
        along = rays.T @ o
        hit = (along < 0) & (along * along - (o @ o - 9) > 0)
        weight = np.where(hit, np.maximum(rays[1], 0), 0.0)
        wanted = (transfer.basis(rays) * weight).mean(axis=1) * 4
        np.testing.assert_allclose(lost[:, k], wanted, atol=0.02)
        assert abs(wanted[0]) > 0.01


def test_every_compiled_file_takes_part_in_the_name_of_the_folder() -> None:
    for path in HOME.glob("*.py"):
        if re.search(r"^@(kernel|small)$", path.read_text(), re.M):
            assert path.name in compiled.FILES
    assert all((HOME / name).exists() for name in compiled.FILES)


def digest(**environment: str) -> str:
    code = (
        "import hashlib; from facebench import synth\n"
        "from facebench.synth import transfer; transfer.DIRECTIONS = 24\n"
        "p = synth.parameters(synth.WorldConfig(seed=3), 5)\n"
        "h = hashlib.sha256()\n"
        "for size in (16, 20):\n"
        "    s = synth.render(p, size)\n"
        "    for name in ('image', 'points', 'hidden', 'points98', 'hidden98', 'parse', 'depth',\n"
        "                 'occluder', 'vertices'):\n"
        "        h.update(getattr(s, name).tobytes())\n"
        "print(h.hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ, **environment), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.slow
def test_the_same_bytes_without_the_compiler_and_for_any_processor(tmp_path: Path) -> None:
    usual = digest()
    assert len(usual) == 64
    assert digest(NUMBA_DISABLE_JIT="1") == usual
    plain = digest(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(tmp_path))
    assert plain == usual


def test_the_world_is_imported_without_the_compiler() -> None:
    code = "import sys, facebench.synth; print('numba' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False"]
