"""The generated world: what a sample depends on, what the knobs do, and whether labels fit."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from facebench import synth
from facebench.errors import FacebenchError
from facebench.synth import expressions, manifest, people, population, world

DIGEST = "sha256:861f35470aa112eb1c2350023bf7c4bab31fbd7861beef0b0a20f5503802e742"


def same(a: object, b: object) -> bool:
    """Equality of samples, parameters and what is in them."""
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)
        )
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(np.array_equal(a, b))  # type: ignore[arg-type]


def within(count: float, n: int, p: float) -> bool:
    """Whether a binomial count is within 4.5 standard deviations; the seeds are fixed."""
    return abs(count - n * p) <= 4.5 * math.sqrt(n * p * (1 - p)) + 1e-9


@lru_cache(maxsize=64)
def drawn(n: int = 800, **knobs: Any) -> list[synth.Parameters]:
    """What n samples show."""
    config = synth.WorldConfig(**{"seed": 11, "identities": n, "per_identity": 1, **knobs})
    return [synth.parameters(config, i) for i in range(n)]


# ------------------------------------------------------------------------------- determinism


def test_digest() -> None:
    assert synth.manifest_digest(64) == DIGEST


def test_digest_without_vector_units() -> None:
    """The bytes do not depend on vector instructions, the hash seed or how many threads run."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # type: ignore[index]
    code = "from facebench import synth; print(synth.manifest_digest(8))"
    env = dict(
        os.environ, NPY_DISABLE_CPU_FEATURES=" ".join(found), PYTHONHASHSEED="7",
        OMP_NUM_THREADS="1",
    )  # fmt: skip
    plain = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert plain.stdout.split() == [synth.manifest_digest(8)]


def test_the_manifest_holds_everything() -> None:
    shown = [p for p, _ in manifest.manifest(64)]
    assert {o.kind for p in shown for o in p.occluders} == set(synth.OCCLUDERS)
    assert {p.style for p in shown} == set(synth.FILTERS)
    assert {p.expression for p in shown} == set(range(8))
    assert len({p.group for p in shown}) > 2
    assert any(p.expression != p.expression_label for p in shown)
    for found in (
        max(p.jpeg for p in shown), max(p.blur for p in shown),
        max(p.makeup[:, 3].min() for p in shown), max(abs(p.pose[0]) for p in shown) > 1.4,
        max(p.age for p in shown) > 80, max(np.abs(p.sides).max() for p in shown) == 1,
    ):  # fmt: skip
        assert found
    assert synth.manifest_digest(2) != synth.manifest_digest(3)


def test_order_of_generation_does_not_matter() -> None:
    config = synth.WorldConfig(size=32, seed=3, identities=10, per_identity=3)
    forward = [synth.sample(config, i) for i in (4, 5, 29)]
    backward = [synth.sample(config, i) for i in (29, 5, 4)][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward))
    assert not same(forward[0], forward[1])


def test_a_sample_does_not_depend_on_how_many_there_are() -> None:
    small = synth.WorldConfig(size=32, seed=9, identities=5, per_identity=2)
    large = replace(small, identities=500)
    assert same(synth.sample(small, 7), synth.sample(large, 7))
    other = synth.parameters(replace(small, seed=10), 7)
    assert not np.array_equal(other.identity_vector, synth.parameters(small, 7).identity_vector)


def test_size_changes_no_face() -> None:
    config = synth.WorldConfig(seed=9, occlusion=0.5, style="any")
    assert all(
        same(synth.parameters(config, i), synth.parameters(replace(config, size=224), i))
        for i in range(40)
    )


def test_an_identity_has_one_vector() -> None:
    config = synth.WorldConfig(size=32, seed=4, identities=3, per_identity=4, first_identity=50)
    shown = [synth.parameters(config, i) for i in range(12)]
    assert [p.identity for p in shown] == [50] * 4 + [51] * 4 + [52] * 4
    for k in range(3):
        images = shown[4 * k : 4 * k + 4]
        assert all(np.array_equal(p.identity_vector, images[0].identity_vector) for p in images)
        assert len({p.pose.tobytes() for p in images}) == 4
        assert {p.age for p in images} == {images[0].age}
    assert not np.array_equal(shown[0].identity_vector, shown[4].identity_vector)
    assert np.array_equal(synth.identity_vector(config, 51), shown[4].identity_vector)
    other = replace(config, first_identity=51, per_identity=1)
    assert np.array_equal(synth.parameters(other, 0).identity_vector, shown[4].identity_vector)


# ------------------------------------------------------------------------------------- knobs

#: Knob and value -> the fields of `Parameters` that may change.
TURNED: tuple[tuple[dict[str, Any], set[str]], ...] = (
    ({"yaw": 1.5}, {"pose"}),
    ({"pitch": 0.9}, {"pose"}),
    ({"roll": 3.0}, {"pose"}),
    ({"pose": "frontal"}, {"pose"}),
    ({"gaze": 0.0}, {"gaze"}),
    ({"scale_jitter": 0.4}, {"camera"}),
    ({"shift_jitter": 0.2}, {"camera"}),
    ({"distance_jitter": 0.5}, {"camera"}),
    ({"expressive": 0.1}, {"expression", "expression_label", "au", "sides"}),
    ({"classes": 8}, {"expression", "expression_label", "au", "sides"}),
    ({"class_weights": (0, 1, 0, 0, 0, 0, 1)}, {"expression", "expression_label", "au", "sides"}),
    ({"class_imbalance": 1.0}, {"expression", "expression_label", "au", "sides"}),
    ({"label_noise": 0.5}, {"expression_label"}),
    ({"extras": 3.0}, {"au", "sides"}),
    ({"asymmetry": 0.9}, {"sides"}),
    ({"identity_au": 0.7}, {"expression", "expression_label", "au", "sides"}),
    ({"occlusion": 1.0}, {"occluders"}),
    ({"occlusion": 1.0, "occluders": (1, 0, 0, 0)}, {"occluders"}),
    ({"glasses": 1.0}, {"occluders"}),
    ({"makeup": 1.0}, {"makeup"}),
    ({"age": (50.0, 60.0)}, {"age"}),
    ({"age_span": 30.0}, {"age"}),
    ({"groups": 5}, {"group", "identity_vector"}),
    ({"lighting": 0.0}, {"light"}),
    ({"blur": 0.05}, {"blur"}),
    ({"noise": 20.0}, {"noise"}),
    ({"jpeg": 1.0}, {"jpeg"}),
    ({"style": "sketch"}, {"style"}),
    ({"style_strength": 0.1}, {"style_strength"}),
)


@pytest.mark.parametrize(("knobs", "about"), TURNED, ids=lambda v: "-".join(sorted(v)))
def test_a_knob_changes_only_what_it_is_about(knobs: dict[str, Any], about: set[str]) -> None:
    plain, turned = drawn(60), drawn(60, **knobs)
    names = [f.name for f in dataclasses.fields(synth.Parameters)]
    changed = {
        name
        for a, b in zip(plain, turned)
        for name in names
        if not same(getattr(a, name), getattr(b, name))
    }
    assert changed == about


def test_every_knob_is_turned_above() -> None:
    others = {"size", "seed", "identities", "per_identity", "first_identity", "group_weights",
              "group_imbalance", "group_strength", "style_rate"}  # fmt: skip
    known = {f.name for f in dataclasses.fields(synth.WorldConfig)}
    assert {name for knobs, _ in TURNED for name in knobs} == known - others


def test_poses_follow_their_law() -> None:
    for pose, law in (("uniform", lambda x: x), ("frontal", math.sqrt)):
        turns = np.abs([p.pose for p in drawn(yaw=1.5, pitch=0.4, roll=0.2, pose=pose)])
        for axis, limit in enumerate((1.5, 0.4, 0.2)):
            assert turns[:, axis].max() <= limit
            for part in (0.1, 0.25, 0.5, 0.9):
                below = (turns[:, axis] < part * limit).sum()
                assert within(below, len(turns), law(part)), (pose, axis, part)
    left = sum(p.pose[0] < 0 for p in drawn(yaw=1.5, pitch=0.4, roll=0.2, pose="frontal"))
    assert within(left, 800, 0.5)


def test_cameras_stay_within_their_jitter() -> None:
    shown = np.stack([p.camera for p in drawn(scale_jitter=0.2, shift_jitter=0.05)])
    assert 0.18 < np.abs(shown[:, 0] / 0.0365 - 1).max() <= 0.2001
    assert 0.045 < np.abs(shown[:, 1:3]).max() <= 0.05
    assert 0.13 < np.abs(shown[:, 3] / 75 - 1).max() <= 0.1501


def test_classes_turn_up_by_their_weights() -> None:
    tail = [0.5**k for k in range(8)]
    for knobs, weights in (
        ({"expressive": 0.6}, [0.4] + [0.1] * 6),
        ({"classes": 8, "expressive": 0.875}, [0.125] * 8),
        ({"class_weights": (0.0, 3.0, 0, 0, 1.0, 0, 0)}, [0, 0.75, 0, 0, 0.25, 0, 0]),
        ({"classes": 8, "expressive": 0.875, "class_imbalance": 1.0},
         [w / sum(tail) for w in tail]),
    ):  # fmt: skip
        config = synth.WorldConfig.of(**knobs)
        np.testing.assert_allclose(world.class_weights(config), weights, atol=1e-12)
        counts = np.bincount([p.expression for p in drawn(**knobs)], minlength=len(weights))
        assert all(within(c, 800, w) for c, w in zip(counts, weights)), knobs


def test_label_noise_replaces_labels_evenly_and_shows_the_same() -> None:
    shown = drawn(2500, label_noise=0.3, expressive=0.0)
    assert {p.expression for p in shown} == {0}
    counts = np.bincount([p.expression_label for p in shown], minlength=7)
    assert within(counts[0], 2500, 0.7)
    assert all(within(c, 2500, 0.05) for c in counts[1:])
    assert all(p.expression == p.expression_label for p in drawn())
    wrong = drawn(300, label_noise=1.0, classes=8)
    assert all(p.expression != p.expression_label for p in wrong)
    assert {p.expression_label for p in wrong} == set(range(8))


# --------------------------------------------------------------------- identity and actions


def presence(strength: float, people_: int, each: int) -> np.ndarray:
    """Which units act, [people, images, 24], of neutral faces."""
    config = synth.WorldConfig(
        seed=5, identities=people_, per_identity=each, identity_au=strength, expressive=0.0
    )
    shown = [synth.parameters(config, i).au > 0 for i in range(len(config))]
    return np.array(shown).reshape(people_, each, 24)


def test_identity_au_leaves_the_rate_of_every_unit() -> None:
    rates = [expressions.RATES[au] for au in synth.ACTION_UNITS]
    for strength in (0.0, 0.5, 1.0):
        found = presence(strength, 800, 1)[:, 0].sum(axis=0)
        for count, rate, au in zip(found, rates, synth.ACTION_UNITS):
            assert within(count, 800, rate), (strength, au)


def test_identity_au_is_the_correlation_of_two_images_of_a_person() -> None:
    """Both show the habit with probability s^2, else they are independent: covariance s^2 p q."""
    rates = np.array([expressions.RATES[au] for au in synth.ACTION_UNITS])
    for strength in (0.0, 0.6, 1.0):
        pairs = presence(strength, 500, 2)
        both = (pairs[:, 0] & pairs[:, 1]).sum(axis=0)
        joint = strength**2 * rates + (1 - strength**2) * rates**2
        assert all(within(c, 500, p) for c, p in zip(both, joint)), strength
    fixed = presence(1.0, 40, 5)
    assert (fixed == fixed[:, :1]).all()  # the person explains which units act ...
    assert len({row.tobytes() for row in fixed[:, 0]}) > 15  # ... and people differ


def test_identity_au_at_its_full_strength_keeps_intensities_free() -> None:
    config = synth.WorldConfig(seed=5, identities=1, per_identity=20, identity_au=1.0, classes=8)
    shown = [synth.parameters(config, i) for i in range(20)]
    assert len({p.expression for p in shown}) == 1
    assert len({p.au.tobytes() for p in shown}) > 15 or not shown[0].au.any()


# ---------------------------------------------------------------- what covers, paints, ages


def test_occluders_turn_up_by_rate_and_weight() -> None:
    shown = drawn(800, occlusion=0.4, occluders=(0.0, 1.0, 2.0, 1.0), glasses=0.0)
    kinds = [o.kind for p in shown for o in p.occluders]
    assert within(len(kinds), 800, 0.4)
    for kind, share in (("sunglasses", 0.25), ("mask", 0.5), ("hand", 0.25)):
        assert within(kinds.count(kind), len(kinds), share)
    assert "glasses" not in kinds
    assert not any(p.occluders for p in drawn(glasses=0.0))
    forms = np.stack([o.form for p in shown for o in p.occluders])
    assert forms.min() < 0.01
    assert forms.max() > 0.99


def test_glasses_belong_to_people() -> None:
    config = synth.WorldConfig(seed=2, identities=300, per_identity=2, glasses=0.3, occlusion=0.2)
    shown = [synth.parameters(config, i) for i in range(len(config))]
    wears = [any(o.kind == "glasses" for o in p.occluders) for p in shown]
    dark = [any(o.kind == "sunglasses" for o in p.occluders) for p in shown]
    pairs = list(zip(range(0, 600, 2), range(1, 600, 2)))
    free = [(a, b) for a, b in pairs if not dark[a] and not dark[b]]
    assert all(wears[a] == wears[b] for a, b in free)
    assert within(sum(wears[a] for a, _ in free), len(free), 0.3)
    assert not any(w and d for w, d in zip(wears, dark))
    for a, b in free:
        if wears[a]:
            assert np.array_equal(shown[a].occluders[-1].form, shown[b].occluders[-1].form)


def test_makeup_has_layers_at_their_rates() -> None:
    layers = np.stack([p.makeup[:, 3] > 0 for p in drawn(800, makeup=0.5)])
    assert within(layers[:, 0].sum(), 800, 0.45)
    assert all(within(layers[:, k].sum(), 800, 0.3) for k in (1, 2, 3))
    assert not np.stack([p.makeup for p in drawn(makeup=0.0)]).any()


def test_ages_fill_the_range_and_one_person_spans_what_is_asked() -> None:
    ages = np.array([p.age for p in drawn(age=(20.0, 60.0))])
    assert (ages.min() >= 20) & (ages.max() <= 60)
    assert all(within((ages < 20 + 40 * q).sum(), 800, q) for q in (0.25, 0.5, 0.75))
    config = synth.WorldConfig(seed=3, identities=40, per_identity=30, age=(20, 60), age_span=10)
    spans = np.array([synth.parameters(config, i).age for i in range(1200)]).reshape(40, 30)
    assert (spans.min() >= 20) & (spans.max() <= 60)
    assert (np.ptp(spans, axis=1) <= 10).all()
    assert np.ptp(spans, axis=1).min() > 6


def test_sensor_and_style_rates() -> None:
    shown = drawn(jpeg=0.25, blur=0.02, style="any", style_rate=0.6, noise=4.0)
    squeezed = [p.jpeg for p in shown if p.jpeg]
    assert within(len(squeezed), 800, 0.25)
    assert (min(squeezed), max(squeezed)) == (30, 95)
    assert within(sum(p.blur < 0.005 for p in shown), 800, 0.25)
    assert max(p.blur for p in shown) <= 0.02
    assert (min(p.noise for p in shown) >= 1.6) & (max(p.noise for p in shown) <= 5.2)
    styles = [p.style for p in shown]
    assert within(styles.count("none"), 800, 0.4)
    assert all(within(styles.count(name), 800, 0.2) for name in synth.FILTERS[1:])
    assert {p.style for p in drawn(style="cartoon")} == {"cartoon"}
    assert len({p.noise_key for p in shown}) == len(shown)


# ------------------------------------------------------------------------------------ groups


def test_groups_turn_up_by_weight_and_belong_to_people() -> None:
    counts = np.bincount([p.group for p in drawn(groups=4, group_imbalance=0.5)], minlength=4)
    line = np.array([1, 0.75, 0.75**2, 0.75**3])
    assert all(within(c, 800, w) for c, w in zip(counts, line / line.sum()))
    counts = np.bincount([p.group for p in drawn(groups=3, group_weights=(1, 0, 3))], minlength=3)
    assert counts[1] == 0
    assert within(counts[0], 800, 0.25)
    config = synth.WorldConfig(seed=8, identities=30, per_identity=3, groups=4)
    for i in range(90):
        p = synth.parameters(config, i)
        assert p.group == synth.group(config, p.identity)


def test_groups_shift_looks_by_their_strength() -> None:
    k = len(people.SHAPES) + people.LOOKS.index("melanin")
    nose = people.SHAPES.index("nose width")
    for p in drawn(groups=5):
        assert p.group / 5 <= p.identity_vector[k] <= (p.group + 1) / 5
    # at strength s a look stands s of the way between the person's own and the group's
    free, half, full = (drawn(200, groups=5, group_strength=s) for s in (0.0, 0.5, 1.0))
    for a, b, c in zip(free, half, full):
        assert a.group == b.group == c.group
        middle = (a.identity_vector + c.identity_vector) / 2
        np.testing.assert_allclose(b.identity_vector, middle, atol=1e-9)
    shift = {}
    for a, c in zip(free, full):
        shift.setdefault(c.group, []).append(c.identity_vector[nose] - a.identity_vector[nose])
    assert all(np.ptp(v) < 1e-9 for v in shift.values())
    assert len({round(v[0], 6) for v in shift.values()}) == 5
    plain = drawn(200)
    assert all(np.array_equal(a.identity_vector, b.identity_vector) for a, b in zip(plain, free))


def test_groups_shift_what_there_is() -> None:
    assert set(population.GROUP_LOOKS) < set(people.LOOKS)
    assert set(population.GROUP_SHAPES) < set(people.SHAPES)


def test_shares() -> None:
    assert population.shares((), 3, 0.0).tolist() == [1, 1, 1]
    assert population.shares((2.0, 4.0), 2, 1.0).tolist() == [2, 2]


# ------------------------------------------------------------------------- labels and pictures


def test_types_of_a_sample() -> None:
    s = synth.sample(synth.WorldConfig(size=40, seed=1), 0)
    assert (s.image.shape, s.image.dtype) == ((40, 40, 3), np.uint8)
    assert (s.points.shape, s.points.dtype) == ((68, 2), np.float32)
    assert (s.visible.shape, s.visible.dtype) == ((68,), np.bool_)
    assert (s.points98.shape, s.visible98.shape) == ((98, 2), (98,))
    assert (s.au.shape, s.au.dtype) == ((len(synth.ACTION_UNITS),), np.float32)
    assert s.pose.dtype == s.light.dtype == s.box.dtype == np.float32
    assert len(synth.ACTION_UNITS) == 24


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
    frontal = synth.render(synth.face(), 128)
    assert frontal.visible[2:15].all()  # hair may hang before the ends of the jaw
    assert frontal.visible[17:].all()


def test_pitch_and_roll_turn_the_way_they_say() -> None:
    plain = synth.render(synth.face(), 128).points
    up = synth.render(synth.face(pitch=0.3), 128).points
    assert up[30, 1] - up[27, 1] < plain[30, 1] - plain[27, 1]  # the nose is foreshortened
    tilted = synth.render(synth.face(roll=0.3), 128).points
    assert tilted[45, 1] < tilted[36, 1] - 5  # the image's right eye goes up


FLIP = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]  # fmt: skip
PARSE_FLIP = np.array([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10])


def mirrors(a: synth.Sample, b: synth.Sample) -> None:
    """Whether two samples of 128 px are mirror images, as far as hair strands and pixels allow."""
    np.testing.assert_allclose(a.points[FLIP] * [-1, 1] + [127, 0], b.points, atol=2e-3)
    assert (a.visible[FLIP] == b.visible).mean() > 0.97
    assert (PARSE_FLIP[a.parse[:, ::-1]] == b.parse).mean() > 0.985
    both = (a.depth[:, ::-1] > 0) & (b.depth > 0)
    assert both.sum() > 0.99 * (b.depth > 0).sum()
    assert np.abs(a.depth[:, ::-1] - b.depth)[both].mean() < 0.05
    difference = np.abs(a.image[:, ::-1].astype(int) - b.image)[both]
    assert difference.mean() < 6


def test_a_symmetric_face_is_its_own_mirror_image() -> None:
    for expression in ("neutral", "surprise", "happy"):
        s = synth.render(synth.face(expression=expression), 128)
        mirrors(s, s)


def test_a_turned_face_is_the_mirror_image_of_the_other_turn() -> None:
    a = synth.render(synth.face(yaw=0.4, pitch=0.1, roll=0.2), 128)
    b = synth.render(synth.face(yaw=-0.4, pitch=0.1, roll=-0.2), 128)
    mirrors(a, b)


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
        ({"yaw": 1.6}, ["yaw", "1.6", "1.5708"]),
        ({"identities": 0}, ["identities", "0"]),
        ({"seed": True}, ["seed", "True"]),
        ({"noise": "2"}, ["noise", "'2'"]),
        ({"identites": 5}, ["identites", "identities"]),
        ({"pose": "frontl"}, ["pose", "frontl", "frontal"]),
        ({"style": "scetch"}, ["style", "scetch", "sketch"]),
        ({"classes": 6}, ["classes", "6"]),
        ({"class_weights": (1.0, 2.0)}, ["class_weights", "0 or 7"]),
        ({"class_weights": (0.0,) * 7}, ["class_weights", "above 0"]),
        ({"class_weights": (1, 1, 1, 1, 1, 1, -1)}, ["class_weights[6]", "-1"]),
        ({"occluders": 3}, ["occluders", "3", "4 numbers"]),
        ({"age": (50, 20)}, ["age", "50", "20"]),
        ({"age": (20, 30), "age_span": 11}, ["age_span", "11"]),
        ({"age": (10, 30)}, ["age[0]", "10", "16"]),
        ({"occlusion": 1.5}, ["occlusion", "1.5"]),
        ({"groups": 0}, ["groups", "0"]),
    ],
)
def test_bad_knobs_are_refused_by_name(knobs: dict[str, object], words: list[str]) -> None:
    with pytest.raises(FacebenchError) as error:
        synth.WorldConfig.of(**knobs)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_extreme_knobs_are_drawable() -> None:
    config = synth.WorldConfig(
        seed=1, identities=300, per_identity=1, yaw=math.pi / 2, pitch=1.0, roll=math.pi, gaze=0.2,
        scale_jitter=0.5, shift_jitter=0.3, distance_jitter=0.5, extras=3.0, asymmetry=1.0,
        noise=38.0, blur=0.05, jpeg=1.0, age=(16, 90), age_span=74, groups=64,
    )  # fmt: skip
    for i in range(300):
        synth.parameters(config, i)


def test_bad_parameters_are_refused_by_name() -> None:
    good = synth.face()
    with pytest.raises(FacebenchError, match=r"au\[3\].*nan"):
        replace(good, au=np.where(np.arange(24) == 3, np.nan, 0.0))
    with pytest.raises(FacebenchError, match=r"pose.*\(2,\).*\(3,\)"):
        replace(good, pose=np.zeros(2))
    with pytest.raises(FacebenchError, match=r"camera\[0\]"):
        replace(good, camera=np.zeros(4))
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
    with pytest.raises(FacebenchError, match=r"identity.*-1"):
        synth.identity_vector(synth.WorldConfig(), -1)
