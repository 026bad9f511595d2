"""Moving faces: clips whose action units rise, hold and fall, with the ordered events behind them.

A clip has a person, a light, a background and a camera, all of them still, and over them: events
of the face, blinks, small turns of the head, shifts of the gaze. Frame k depends on (VERSION, seed,
i, k) and the knobs only; each of these has a stream of random numbers of its own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from facebench.errors import FacebenchError, nearest
from facebench.synth import actions, expressions
from facebench.synth.drawing import render
from facebench.synth.events import Event, trajectory
from facebench.synth.labels import Sample
from facebench.synth.numeric import Array, Draws, quantise
from facebench.synth.portrait import Parameters, check
from facebench.synth.world import VERSION, WorldConfig, parameters

#: From this level of its event on, a frame shows the event's emotion.
SHOWN = 0.5

#: Sets of action units that an event without emotion may be, with their intensities.
GESTURES: tuple[dict[int, float], ...] = (
    {1: 0.8, 2: 0.8}, {4: 0.8}, {5: 0.8}, {6: 0.7, 7: 0.5}, {9: 0.8}, {10: 0.7, 25: 0.4},
    {12: 0.8}, {14: 0.8}, {15: 0.7, 17: 0.5}, {17: 0.8}, {18: 0.8}, {20: 0.8}, {22: 0.7, 25: 0.6},
    {24: 0.8}, {25: 0.7, 26: 0.6}, {25: 0.7, 27: 0.8}, {28: 0.8}, {43: 1.0},
)  # fmt: skip

_SHORTEST = 3  # frames from an event's onset to its offset


@dataclass(frozen=True)
class Clip:
    """A moving face.

    Attributes:
        frames: what each frame shows.
        events: what the face does, in order; they do not overlap.
        blinks: when the eyes shut, in order; they are not among the events.
        expression: index into `EXPRESSIONS`: the emotion of the event that is longest at its apex
            among those that show one, neutral if none does.
        expression_label: what the label says; another one only where the world has label noise.
        fps: frames per second.
    """

    frames: tuple[Parameters, ...]
    events: tuple[Event, ...]
    blinks: tuple[Event, ...]
    expression: int
    expression_label: int
    fps: float


@dataclass(frozen=True)
class ClipConfig:
    """A world of clips.

    Attributes:
        world: whom clip i shows, and how: what `parameters(world, i)` says of everything that does
            not move. Its `expressive` and class knobs say which emotion an emotional clip shows.
        frames: per clip, 4 to 100,000.
        fps: frames per second, 1 to 240.
        sequence: share of the clips that are a sequence of events; the others show one emotion
            (or stay neutral, as often as the world says).
        events: fewest and most events of a sequence, within [2, 6]; each takes 3 frames or more.
        emotional: share of the events of a sequence that show an emotion.
        blink: blinks, as a part of the usual rate; 0 for none, at most 4.
        motion: standard deviation of the head's turns about the clip's pose, radians, up to 0.3.
        gaze: standard deviation of the gaze's shifts, radians, up to 0.2.
    """

    world: WorldConfig = dataclasses.field(default_factory=WorldConfig)
    frames: int = 16
    fps: float = 12.5
    sequence: float = 0.35
    events: tuple[int, ...] = (2, 4)
    emotional: float = 0.4
    blink: float = 1.0
    motion: float = 0.04
    gaze: float = 0.08

    def __post_init__(self) -> None:
        if not isinstance(self.world, WorldConfig):
            raise FacebenchError(f"ClipConfig.world: found {self.world!r}, expected a WorldConfig")
        for name, low, high, whole in (
            ("frames", 4, 100_000, True), ("fps", 1, 240, False), ("sequence", 0, 1, False),
            ("emotional", 0, 1, False), ("blink", 0, 4, False), ("motion", 0, 0.3, False),
            ("gaze", 0, 0.2, False),
        ):  # fmt: skip
            check("ClipConfig", name, getattr(self, name), low, high, whole)
        if not isinstance(self.events, (tuple, list)) or len(self.events) != 2:
            raise FacebenchError(f"ClipConfig.events: found {self.events!r}, expected two numbers")
        object.__setattr__(self, "events", tuple(self.events))
        for k, number in enumerate(self.events):
            check("ClipConfig", f"events[{k}]", number, 2, 6, True)
        if self.events[0] > self.events[1]:
            raise FacebenchError(
                f"ClipConfig.events: found {self.events!r}, expected the fewest first"
            )
        needed = _SHORTEST * self.events[1] + 1
        if self.sequence and self.frames < needed:
            raise FacebenchError(
                f"ClipConfig.frames: found {self.frames}, expected {needed} or more for "
                f"{self.events[1]} events"
            )

    @classmethod
    def of(cls, **knobs: object) -> ClipConfig:
        """A configuration from names and values; knobs of `WorldConfig` go to the world.

        Raises:
            FacebenchError: a knob is unknown (the nearest is named) or out of range.
        """
        own = {f.name for f in dataclasses.fields(cls)} - {"world"}
        worldly = {f.name for f in dataclasses.fields(WorldConfig)} - own
        for name in knobs:
            if name not in own | worldly:
                raise FacebenchError(
                    f"ClipConfig has no knob {name!r}: {nearest(name, own | worldly)}"
                )
        return cls(
            world=WorldConfig.of(**{k: v for k, v in knobs.items() if k in worldly}),
            **{k: v for k, v in knobs.items() if k in own},  # type: ignore[arg-type]
        )

    def __len__(self) -> int:
        return len(self.world)


@lru_cache(maxsize=1)
def _spacing() -> Array:
    """Quantiles k / 64 of the time from one blink to the next, seconds, [65].

    A log-normal law of median 3.2 s whose logarithm has a standard deviation of 0.65, cut at the
    quantiles 1/128 and 127/128; between the quantiles it is taken as uniform.
    """
    law = NormalDist()
    places = [min(max(k / 64.0, 1.0 / 128.0), 127.0 / 128.0) for k in range(65)]
    return quantise(np.array([3.2 * np.exp(0.65 * law.inv_cdf(p)) for p in places]))


def wait(u: float) -> float:
    """The time from one blink to the next, seconds, for a uniform number in [0, 1)."""
    table = _spacing()
    k = int(u * 64.0)
    f = u * 64.0 - k
    return float(table[k]) * (1.0 - f) + float(table[k + 1]) * f


def _blinks(config: ClipConfig, draws: Draws) -> tuple[Event, ...]:
    """Blinks of 0.24 to 0.40 s, of which the lids take a third to fall."""
    if not config.blink:
        return ()
    out: list[Event] = []
    per_second = config.fps
    time = -draws.one() * wait(draws.one()) / config.blink  # the clip starts somewhere between
    while True:
        time += wait(draws.one()) / config.blink
        start = time * per_second
        if start >= config.frames:
            return tuple(out)
        length = max(draws.one(0.24, 0.40) * per_second, 2.0)
        parts = quantise(start + length * np.array([0.0, 0.3, 0.4, 1.0]), 10).tolist()
        out.append(Event("blink", ((43, 1.0),), 0.0, *parts))
        time += length / per_second


def _au_set(au: Array) -> tuple[tuple[int, float], ...]:
    return tuple(
        (number, float(quantise(au[k])))
        for k, number in enumerate(actions.ACTION_UNITS)
        if au[k] > 0.0
    )


def _emotion(expression: int, draws: Draws) -> tuple[str, tuple[tuple[int, float], ...], float]:
    only = np.zeros(len(actions.EXPRESSIONS))
    only[expression] = 1.0
    shown = expressions.pattern(only, 0.0, draws, draws)
    au, _ = expressions.intensities(shown, 0.0, draws)
    return actions.EXPRESSIONS[expression], _au_set(au), shown.side


def _gesture(draws: Draws) -> tuple[str, tuple[tuple[int, float], ...], float]:
    chosen = GESTURES[int(draws.one() * len(GESTURES))]
    au = np.zeros(len(actions.ACTION_UNITS))
    for number, level in chosen.items():
        au[actions.INDEX[number]] = min(level * draws.one(0.7, 1.2), 1.0)
    alone = all(number in expressions.SIDED for number in chosen) and draws.one() < 0.25
    side = (1.0 if draws.one() < 0.5 else -1.0) if alone else 0.0
    return "AU" + "+".join(map(str, chosen)), _au_set(au), side


def _cut(frames: int, n: int, draws: Draws) -> list[tuple[int, int]]:
    """Shares out frames 0 .. frames - 1 among `n` events: their first and last frames."""
    spare = frames - 1 - _SHORTEST * n
    marks = sorted(int(u * (spare + 1)) for u in draws.uniform(2 * n).tolist())
    out = []
    for k in range(n):
        first = marks[2 * k] + _SHORTEST * k
        out.append((first, marks[2 * k + 1] + _SHORTEST * (k + 1)))
    return out


def _times(first: int, last: int, draws: Draws) -> tuple[float, float, float, float]:
    """Onset, apex start, apex end and offset within [first, last]: whole frames."""
    spare = last - first - _SHORTEST
    a, b = sorted(int(u * (spare + 1)) for u in draws.uniform(2, 0.0, 0.8).tolist())
    return float(first), float(first + 1 + a), float(first + 2 + b), float(last)


def _events(config: ClipConfig, i: int, base: Parameters) -> tuple[Event, ...]:
    draws = Draws(VERSION, config.world.seed, "clip", i, "events")
    if draws.one() >= config.sequence:
        if not base.expression:
            return ()
        what = _emotion(base.expression, draws)
        first = int(draws.one() * 0.25 * (config.frames - 1 - _SHORTEST))
        last = config.frames - 1 - int(draws.one() * 0.15 * (config.frames - 1 - _SHORTEST))
        return (Event(*what, *_times(first, last, draws)),)
    low, high = config.events
    n = low + int(draws.one() * (high - low + 1))
    out = []
    for first, last in _cut(config.frames, n, draws):
        if draws.one() < config.emotional:
            classes = config.world.classes
            what = _emotion(1 + int(draws.one() * (classes - 1)), draws)
        else:
            what = _gesture(draws)
        out.append(Event(*what, *_times(first, last, draws)))
    return tuple(out)


class _Path:
    """A smooth path through bell-shaped values that stand `every` frames apart."""

    def __init__(self, draws: Draws, n: int, frames: int, every: float, sd: Array) -> None:
        self._every = every
        count = int(frames / every) + 2
        self._values = draws.bell(n * count).reshape(count, n) * sd

    def at(self, frame: int) -> Array:
        place = frame / self._every
        k = int(place)
        t = place - k
        f = t * t * (3.0 - 2.0 * t)
        return np.asarray(self._values[k] * (1.0 - f) + self._values[k + 1] * f)


def _gazes(config: ClipConfig, draws: Draws) -> Array:
    """The shift of the gaze per frame, [frames, 2] radians: fixations with quick turns between.

    A fixation lasts 0.4 to 1.6 s; a turn takes 0.06 s, so at most frame rates it is a jump.
    """
    sd = np.array([config.gaze, 0.4 * config.gaze])
    turn = 0.06 * config.fps
    out = np.zeros((config.frames, 2))
    at, here, start = 0, draws.bell(2) * sd, 0.0
    end = start + draws.one(0.0, 1.6) * config.fps
    there = draws.bell(2) * sd
    while at < config.frames:
        if at < end:
            out[at] = here
        elif at < end + turn:
            t = (at - end) / turn
            f = t * t * (3.0 - 2.0 * t)
            out[at] = here * (1.0 - f) + there * f
        else:
            here, there = there, draws.bell(2) * sd
            end = end + turn + draws.one(0.4, 1.6) * config.fps
            continue
        at += 1
    return out


def clip(config: ClipConfig, i: int) -> Clip:
    """Clip `i`: it depends on (VERSION, seed, i) and the knobs only.

    Raises:
        FacebenchError: there is no such clip.
    """
    check("synth.clip", "i", i, 0, len(config) - 1, True)
    i = int(i)
    base = parameters(config.world, i)

    def stream(factor: str) -> Draws:
        return Draws(VERSION, config.world.seed, "clip", i, factor)

    events = _events(config, i, base)
    blinks = _blinks(config, stream("blinks"))
    sd = config.motion * np.array([1.0, 0.7, 0.5])
    motion = _Path(stream("motion"), 3, config.frames, max(0.6 * config.fps, 1.0), sd)
    gazes = _gazes(config, stream("gaze"))
    frames = []
    for k in range(config.frames):
        au, sides = trajectory((*events, *blinks), k)
        shown = [e.expression for e in events if e.expression and e.level(k) >= SHOWN]
        frames.append(
            replace(
                base,
                au=quantise(au),
                sides=sides,
                expression=shown[0] if shown else 0,
                expression_label=shown[0] if shown else 0,
                pose=quantise(base.pose + motion.at(k)),
                gaze=quantise(np.minimum(np.maximum(base.gaze + gazes[k], -0.7), 0.7)),
                noise_key=f"{VERSION}/{config.world.seed}/clip noise/{i}/{k}",
            )
        )
    emotional = [e for e in events if e.expression]
    longest = max(emotional, key=lambda e: e.apex_end - e.apex_start, default=None)
    expression = longest.expression if longest else 0
    label = expression
    if base.expression_label != base.expression:  # the noise of the world, as a step of classes
        step = base.expression_label - base.expression
        label = (expression + step) % config.world.classes
    return Clip(tuple(frames), events, blinks, expression, label, config.fps)


def frames(config: ClipConfig, i: int) -> list[Sample]:
    """The pictures of clip `i` with their labels."""
    return [render(p, config.world.size) for p in clip(config, i).frames]
