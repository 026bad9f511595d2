"""The generated world: what a sample depends on, and whether its labels are what is drawn."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from facebench import synth
from facebench.errors import FacebenchError
from facebench.synth import head
from facebench.synth import mesh as drawing

DIGEST = "sha256:9a492eae61384fb2058cc2caa02b81ab972050d16093856450ab2158d37e2dfa"


def equal(a: synth.Sample, b: synth.Sample) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in synth.Sample.__annotations__
    )


def test_digest() -> None:
    assert synth.manifest_digest(64) == DIGEST


def test_digest_without_vector_units() -> None:
    """The bytes do not depend on which vector instructions NumPy finds, nor on the hash seed."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # type: ignore[index]
    code = "from facebench import synth; print(synth.manifest_digest(8))"
    env = dict(os.environ, NPY_DISABLE_CPU_FEATURES=" ".join(found), PYTHONHASHSEED="7")
    plain = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert plain.stdout.split() == [synth.manifest_digest(8)]


def test_order_of_generation_does_not_matter() -> None:
    config = synth.WorldConfig(size=32, seed=3, identities=10, per_identity=3)
    forward = [synth.sample(config, i) for i in (4, 5, 29)]
    backward = [synth.sample(config, i) for i in (29, 5, 4)][::-1]
    assert all(equal(a, b) for a, b in zip(forward, backward))
    assert not equal(forward[0], forward[1])


def test_helper_processes_make_the_same_samples_in_order() -> None:
    config = synth.WorldConfig(size=24, seed=3, identities=40, per_identity=1)
    made = list(synth.samples(config, workers=2))
    assert [s.identity for s in made] == list(range(40))
    assert all(equal(made[i], synth.sample(config, i)) for i in (0, 15, 16, 17, 39))
    wanted = [s.identity for s in synth.samples(config, [7, 3], workers=0)]
    assert wanted == [7, 3]


def test_a_sample_does_not_depend_on_how_many_there_are() -> None:
    small = synth.WorldConfig(size=32, seed=9, identities=5, per_identity=2)
    large = replace(small, identities=500)
    assert equal(synth.sample(small, 7), synth.sample(large, 7))
    other = synth.sample(replace(small, seed=10), 7)
    assert not np.array_equal(other.identity_vector, synth.sample(small, 7).identity_vector)


def test_an_identity_has_one_vector() -> None:
    config = synth.WorldConfig(size=32, seed=4, identities=3, per_identity=4, first_identity=50)
    drawn = [synth.parameters(config, i) for i in range(12)]
    assert [p.identity for p in drawn] == [50] * 4 + [51] * 4 + [52] * 4
    for k in range(3):
        same = drawn[4 * k : 4 * k + 4]
        assert all(np.array_equal(p.identity_vector, same[0].identity_vector) for p in same)
        assert len({p.pose.tobytes() for p in same}) == 4
    assert not np.array_equal(drawn[0].identity_vector, drawn[4].identity_vector)


def test_ranges_and_types() -> None:
    config = synth.WorldConfig(size=40, seed=1, identities=60, per_identity=1, yaw=0.3, pitch=0.1)
    seen = [synth.parameters(config, i) for i in range(60)]
    pose = np.stack([p.pose for p in seen])
    assert np.abs(pose).max(axis=0)[0] <= 0.3
    assert np.abs(pose).max(axis=0)[1] <= 0.1
    assert np.abs(pose).max(axis=0)[0] > 0.2
    assert len({p.expression for p in seen}) == 7
    s = synth.sample(config, 0)
    assert (s.image.shape, s.image.dtype) == ((40, 40, 3), np.uint8)
    assert (s.points.shape, s.points.dtype) == ((68, 2), np.float32)
    assert (s.visible.shape, s.visible.dtype) == ((68,), np.bool_)
    assert (s.au.shape, s.au.dtype) == ((len(synth.ACTION_UNITS),), np.float32)
    assert s.pose.dtype == s.light.dtype == s.box.dtype == np.float32
    assert len(synth.ACTION_UNITS) == 24


def brute_force(p: synth.Parameters, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Per landmark, in cm: distance to the drawn surface along the ray, and what lies before it."""
    points, person, _ = drawing.shape(p)
    _, screen = drawing.project(p, points, size)
    mesh = head.build()
    triangles = mesh.triangles[:, : None if person.style == "long" else (mesh.kind < 2).sum()]
    q = drawing.landmarks(screen)
    a, b, c = (screen[:, triangles[k]] for k in range(3))
    area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
    on, before = np.full(68, np.inf), np.zeros(68)
    for k in range(68):
        x, y, z = q[:, k]
        with np.errstate(divide="ignore", invalid="ignore"):
            u = ((b[0] - x) * (c[1] - y) - (c[0] - x) * (b[1] - y)) / area
            v = ((c[0] - x) * (a[1] - y) - (a[0] - x) * (c[1] - y)) / area
            w = 1 - u - v
            inside = (np.abs(area) > 1e-7) & (np.minimum(np.minimum(u, v), w) >= -1e-6)
        u, v, w = u[inside], v[inside], w[inside]
        depth = u * a[2, inside] + v * b[2, inside] + w * c[2, inside]
        on[k] = np.abs(depth - z).min(initial=np.inf)
        facing = depth[area[inside] < 0]
        before[k] = (facing - z).max(initial=0.0)
    return on, before


def test_landmarks_lie_on_the_drawn_surface_and_visibility_is_by_depth() -> None:
    config = synth.WorldConfig(size=64, seed=21, identities=40, per_identity=1)
    for i in range(40):
        p = synth.parameters(config, i)
        s = synth.render(p, 64)
        on, before = brute_force(p, 64)
        assert on.max() < 1e-4
        clear = np.abs(before - 0.125) > 0.02  # away from the tolerance itself
        assert np.array_equal(s.visible[clear], before[clear] < 0.125)
        assert np.array_equal(s.box, [*s.points.min(axis=0), *s.points.max(axis=0)])


def test_visible_landmarks_are_in_the_picture_of_the_face() -> None:
    """Where a landmark is visible, the pixel is not the background's."""
    blue = np.zeros(16)
    blue[[2, 5]] = 1.0
    config = synth.WorldConfig(size=96, seed=2, identities=20, per_identity=1)
    for i in range(20):
        p = replace(synth.parameters(config, i), background=blue, noise=0.0)
        s = synth.render(p, 96)
        empty = synth.render(replace(p, camera=np.array([0.0025, 0.9, 0.9])), 96).image
        differs = (s.image != empty).any(axis=2)
        xy = np.rint(s.points[s.visible]).astype(int)
        near = [differs[y - 1 : y + 2, x - 1 : x + 2].any() for x, y in xy]
        assert all(near)


@pytest.mark.parametrize("side", [-1, 1])
def test_the_far_side_is_hidden_when_the_head_turns(side: int) -> None:
    s = synth.render(synth.face(yaw=side * np.pi / 4), 128)
    far = range(0, 6) if side < 0 else range(11, 17)
    near = range(11, 17) if side < 0 else range(0, 6)
    assert not s.visible[list(far)].any()
    assert s.visible[list(near)].all()
    # the nose points where the head turns: its tip leaves the middle of the face on that side
    middle = s.points[[27, 8], 0].mean()
    assert side * (s.points[30, 0] - middle) > 0
    assert synth.render(synth.face(), 128).visible.all()


def test_pitch_and_roll_turn_the_way_they_say() -> None:
    plain = synth.render(synth.face(), 128).points
    up = synth.render(synth.face(pitch=0.3), 128).points
    assert up[30, 1] - up[27, 1] < plain[30, 1] - plain[27, 1]  # the nose is foreshortened
    tilted = synth.render(synth.face(roll=0.3), 128).points
    assert tilted[45, 1] < tilted[36, 1] - 5  # the image's right eye goes up


def test_a_symmetric_face_is_its_own_mirror_image() -> None:
    flip = [
        *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
        45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
        54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
    ]  # fmt: skip
    for expression in ("neutral", "surprise", "happy"):
        s = synth.render(synth.face(expression=expression), 128)
        mirrored = s.points[flip] * [-1, 1] + [127, 0]
        np.testing.assert_allclose(mirrored, s.points, atol=2e-3)
        assert np.array_equal(s.visible[flip], s.visible)
        difference = np.abs(s.image.astype(int) - s.image[:, ::-1])
        assert difference.mean() < 0.1
        assert (difference > 2).mean() < 0.005
    # a turned face's mirror image is the face turned the other way
    a = synth.render(synth.face(yaw=0.4, pitch=0.1, roll=0.2), 128)
    b = synth.render(synth.face(yaw=-0.4, pitch=0.1, roll=-0.2), 128)
    np.testing.assert_allclose(a.points[flip] * [-1, 1] + [127, 0], b.points, atol=2e-3)
    difference = np.abs(a.image.astype(int) - b.image[:, ::-1])
    assert difference.mean() < 0.3


def test_points_scale_with_the_size() -> None:
    p = synth.parameters(synth.WorldConfig(seed=5), 3)
    small, large = synth.render(p, 64), synth.render(p, 192)
    np.testing.assert_allclose((small.points + 0.5) * 3 - 0.5, large.points, atol=5e-3)
    assert np.array_equal(small.visible, large.visible)
    shrunk = large.image.reshape(64, 3, 64, 3, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small.image).mean() < 6


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"size": -64}, ["size", "-64"]),
        ({"size": 64.5}, ["size", "64.5", "whole"]),
        ({"yaw": float("nan")}, ["yaw", "nan"]),
        ({"identities": 0}, ["identities", "0"]),
        ({"seed": True}, ["seed", "True"]),
        ({"noise": "2"}, ["noise", "'2'"]),
        ({"identites": 5}, ["identites", "identities"]),
    ],
)
def test_bad_knobs_are_refused_by_name(knobs: dict[str, object], words: list[str]) -> None:
    with pytest.raises(FacebenchError) as error:
        synth.WorldConfig.of(**knobs)
    assert all(word in str(error.value) for word in words)


def test_bad_parameters_are_refused_by_name() -> None:
    good = synth.face()
    with pytest.raises(FacebenchError, match=r"au\[3\].*nan"):
        replace(good, au=np.where(np.arange(24) == 3, np.nan, 0.0))
    with pytest.raises(FacebenchError, match=r"pose.*\(2,\).*\(3,\)"):
        replace(good, pose=np.zeros(2))
    with pytest.raises(FacebenchError, match=r"camera\[0\]"):
        replace(good, camera=np.zeros(3))
    with pytest.raises(FacebenchError, match="size"):
        synth.render(good, 0)
    with pytest.raises(FacebenchError, match="action unit 3"):
        synth.face(au={3: 1.0})
    with pytest.raises(FacebenchError, match="happy"):
        synth.face(expression="hapiness")
    with pytest.raises(FacebenchError, match=r"\[0, 9\]"):
        synth.sample(synth.WorldConfig(identities=5, per_identity=2), 10)
    with pytest.raises(FacebenchError, match=r"no parameter 'gase'.*gaze"):
        synth.face(gase=np.zeros(2))


def test_contact_sheet() -> None:
    sheet = synth.contact_sheet(2, ("neutral", "AU27", "yaw -30"), size=32, gap=2)
    assert sheet.shape == (66, 100, 3)
    assert (sheet[32:34] == 255).all()
    alone = synth.contact_sheet(1, ("neutral",), size=32)
    assert np.array_equal(sheet[:32, :32], alone)
    with pytest.raises(FacebenchError, match="surprise"):
        synth.contact_sheet(1, ("suprise",))
