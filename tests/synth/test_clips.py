"""Clips: whether the events explain the frames, and what a frame depends on."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from facebench import synth
from facebench.errors import FacebenchError
from facebench.synth import clips, events
from facebench.synth.numeric import Draws

CONFIG = synth.ClipConfig.of(seed=4, identities=40, per_identity=2, classes=8, frames=24, yaw=0.5)


def level(e: synth.Event, k: int) -> float:
    """The ramps 3t^2 - 2t^3, written down anew."""
    up = np.clip((k - e.onset) / (e.apex_start - e.onset), 0, 1)
    down = np.clip((e.offset - k) / (e.offset - e.apex_end), 0, 1)
    t = min(up, down)
    return float(np.polyval([-2, 3, 0, 0], t))


def made(n: int = 60) -> list[synth.Clip]:
    return [synth.clip(CONFIG, i) for i in range(n)]


def test_events_reproduce_the_trajectories() -> None:
    for clip in made(30):
        for k, p in enumerate(clip.frames):
            au = np.zeros(24)
            for e in (*clip.events, *clip.blinks):
                for number, most in e.au:
                    j = synth.ACTION_UNITS.index(number)
                    au[j] = max(au[j], most * level(e, k))
            np.testing.assert_allclose(p.au, au, atol=2e-6)


def test_events_are_ordered_apart_and_within_the_clip() -> None:
    counts = set()
    for clip in made():
        counts.add(len(clip.events))
        ends = 0.0
        for e in clip.events:
            assert ends <= e.onset < e.apex_start <= e.apex_end < e.offset <= 23
            assert all(t == int(t) for t in (e.onset, e.apex_start, e.apex_end, e.offset))
            assert [n for n, _ in e.au] == sorted(n for n, _ in e.au)
            ends = e.offset
        for a, b in zip(clip.blinks, clip.blinks[1:]):
            assert a.offset < b.onset
    assert counts == {0, 1, 2, 3, 4}


def test_frames_start_and_end_still_and_reach_every_apex() -> None:
    for clip in made():
        quiet = [p.au for p in clip.frames]
        lids = synth.ACTION_UNITS.index(43)
        for e in clip.events:
            at = int(e.apex_start)
            for number, most in e.au:
                if number != 43:
                    assert quiet[at][synth.ACTION_UNITS.index(number)] == pytest.approx(most, 1e-5)
        assert not np.delete(quiet[0], lids).any()
        assert not np.delete(quiet[-1], lids).any()


def test_what_does_not_move_is_the_same_in_all_frames() -> None:
    moving = {"au", "sides", "expression", "expression_label", "pose", "gaze", "noise_key"}
    for clip in made(8):
        first = clip.frames[0]
        for p in clip.frames[1:]:
            for field in dataclasses.fields(p):
                if field.name not in moving:
                    a, b = getattr(first, field.name), getattr(p, field.name)
                    assert a is b or np.array_equal(a, b), field.name
        assert len({p.noise_key for p in clip.frames}) == 24


def test_head_and_gaze_move_smoothly() -> None:
    still = replace(CONFIG, motion=0.0, gaze=0.0)
    turns = []
    for i in range(12):
        pose = np.stack([p.pose for p in synth.clip(CONFIG, i).frames])
        turns.append(np.abs(np.diff(pose, axis=0)).max())
        assert np.abs(np.diff(pose, 2, axis=0)).max() < 0.03
        frozen = synth.clip(still, i).frames
        assert len({p.pose.tobytes() for p in frozen}) == 1
        assert len({p.gaze.tobytes() for p in frozen}) == 1
        # a fixation holds the eyes: most frames look where the one before looked
        gaze = np.stack([p.gaze for p in synth.clip(CONFIG, i).frames])
        assert (np.diff(gaze, axis=0) == 0).all(axis=1).mean() > 0.5
    assert 0.001 < np.median(turns) < 0.05


def test_knobs_leave_alone_what_they_are_not_about() -> None:
    for i in range(10):
        plain = synth.clip(CONFIG, i)
        for knobs, about in (
            ({"motion": 0.2}, {"pose"}),
            ({"gaze": 0.2}, {"gaze"}),
            ({"blink": 0.0}, {"au", "sides"}),
        ):
            other = synth.clip(replace(CONFIG, **knobs), i)
            assert other.events == plain.events
            changed = {
                f.name
                for a, b in zip(plain.frames, other.frames)
                for f in dataclasses.fields(a)
                if f.name != "occluders"
                and not np.array_equal(getattr(a, f.name), getattr(b, f.name))
            }
            assert changed <= about


def test_a_frame_depends_on_seed_clip_and_place_only() -> None:
    again = {i: synth.clip(CONFIG, i) for i in (7, 3)}
    larger = replace(CONFIG, world=replace(CONFIG.world, identities=400, size=32))
    for i in (3, 7):
        one, other = again[i], synth.clip(larger, i)
        assert one.events == other.events
        assert one.blinks == other.blinks
        for a, b in zip(one.frames, other.frames):
            assert np.array_equal(a.au, b.au)
            assert np.array_equal(a.pose, b.pose)
            assert a.noise_key == b.noise_key
    seed = replace(CONFIG, world=replace(CONFIG.world, seed=5))
    assert synth.clip(seed, 3).events != again[3].events


def test_the_label_is_the_longest_emotion() -> None:
    seen = set()
    for clip in made():
        emotional = [e for e in clip.events if e.name in synth.EXPRESSIONS]
        if not emotional:
            assert clip.expression == 0
        else:
            longest = max(e.apex_end - e.apex_start for e in emotional)
            first = next(e for e in emotional if e.apex_end - e.apex_start == longest)
            assert synth.EXPRESSIONS[clip.expression] == first.name
            k = int(first.apex_start)
            assert clip.frames[k].expression == clip.expression
        assert clip.expression_label == clip.expression
        seen.add(clip.expression)
        for k, p in enumerate(clip.frames):
            active = [e for e in emotional if level(e, k) >= 0.5]
            assert p.expression == (active[0].expression if active else 0)
    assert len(seen) == 8


def test_label_noise_reaches_the_clip() -> None:
    noisy = replace(CONFIG, world=replace(CONFIG.world, label_noise=1.0))
    for i in range(20):
        a, b = synth.clip(CONFIG, i), synth.clip(noisy, i)
        assert a.events == b.events
        assert b.expression == a.expression
        assert b.expression_label != a.expression
        assert 0 <= b.expression_label < 8


def test_blinks_are_spaced_log_normally() -> None:
    """Kolmogorov's distance to the law, whose tails the table cuts at 1/128."""
    config = synth.ClipConfig(frames=100_000, fps=25.0, sequence=0.0)
    found = clips._blinks(config, Draws("blinks"))
    gaps = np.sort([(b.onset - a.offset) / 25.0 for a, b in itertools.pairwise(found)])
    law = NormalDist(math.log(3.2), 0.65)
    cumulative = np.array([law.cdf(math.log(g)) for g in gaps])
    n = len(gaps)
    assert n > 800
    distance = np.abs(cumulative - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.63 / math.sqrt(n) + 1 / 128
    lengths = np.array([b.offset - b.onset for b in found]) / 25.0
    assert lengths.min() >= 0.2399
    assert lengths.max() <= 0.4001
    faster = clips._blinks(replace(config, blink=2.0), Draws("blinks"))
    assert 1.6 < len(faster) / n < 2.1
    assert clips._blinks(replace(config, blink=0.0), Draws("blinks")) == ()


def test_wait_rises_through_the_quantiles() -> None:
    waits = [clips.wait(u) for u in np.linspace(0, 1 - 2**-53, 200)]
    assert all(a < b for a, b in itertools.pairwise(waits))
    assert clips.wait(0.5) == pytest.approx(3.2, abs=1e-6)


def test_pictures_of_a_clip() -> None:
    config = synth.ClipConfig.of(size=32, frames=5, sequence=0.0, expressive=1.0, blink=0.0)
    pictures = clips.frames(config, 1)
    assert len(pictures) == 5
    assert all(s.image.shape == (32, 32, 3) for s in pictures)
    assert not np.array_equal(pictures[0].image, pictures[2].image)


def test_events_as_json() -> None:
    for clip in made(10):
        read = json.loads(events.as_json(clip.events))
        assert len(read) == len(clip.events)
        for a, b in zip(read, clip.events):
            au = tuple((n, level) for n, level in a.pop("au"))
            assert synth.Event(au=au, **a) == b


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"frames": 3}, ["frames", "3"]),
        ({"frames": 16, "events": (2, 6)}, ["frames", "16", "19", "6"]),
        ({"events": (3, 2)}, ["events", "fewest"]),
        ({"events": (1, 2)}, ["events[0]", "1"]),
        ({"events": 4}, ["events", "4"]),
        ({"fps": float("nan")}, ["fps", "nan"]),
        ({"sequense": 1.0}, ["sequense", "sequence"]),
        ({"yaw": 9.0}, ["yaw", "9"]),
        ({"world": 3}, ["world"]),
    ],
)
def test_bad_knobs_are_refused_by_name(knobs: dict[str, object], words: list[str]) -> None:
    with pytest.raises(FacebenchError) as error:
        synth.ClipConfig.of(**knobs)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_bad_events_are_refused_by_name() -> None:
    with pytest.raises(FacebenchError, match="ascending"):
        synth.Event("AU12", ((12, 1.0),), 0.0, 3.0, 2.0, 4.0, 5.0)
    with pytest.raises(FacebenchError, match="action unit 3"):
        synth.Event("AU3", ((3, 1.0),), 0.0, 1.0, 2.0, 4.0, 5.0)
    with pytest.raises(FacebenchError, match=r"au\[12\].*1\.5"):
        synth.Event("AU12", ((12, 1.5),), 0.0, 1.0, 2.0, 4.0, 5.0)
    with pytest.raises(FacebenchError, match=r"\[0, 79\]"):
        synth.clip(CONFIG, 80)
