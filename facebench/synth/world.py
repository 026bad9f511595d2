"""The generated world: what sample `i` of a configuration shows.

What a person brings depends on (VERSION, seed, identity) and the knobs, what an image shows on
(VERSION, seed, i), its person and the knobs. Every factor has a stream of random numbers of its
own, so turning a knob changes what it is about and nothing else: the faces of a world with
`occlusion=1` are those of the same world without it, covered.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from facebench.errors import FacebenchError, nearest
from facebench.synth import expressions, occluders, people, population
from facebench.synth.drawing import render
from facebench.synth.labels import Sample
from facebench.synth.numeric import Array, Draws, quantise
from facebench.synth.portrait import (
    FILTERS,
    OCCLUDERS,
    Occluder,
    Parameters,
    check,
    directional_light,
)

#: Changes whenever a pixel or a label of any sample does.
VERSION = "2.0.0"

#: How poses are spread over their ranges.
POSES = ("uniform", "frontal")

_WHOLE = ("size", "seed", "identities", "per_identity", "first_identity", "classes", "groups")
_LIMITS: dict[str, tuple[float, float]] = {
    "size": (16, 1024), "seed": (0, 2**63 - 1), "identities": (1, 10**9),
    "per_identity": (1, 10**9), "first_identity": (0, 10**12), "yaw": (0, math.pi / 2),
    "pitch": (0, 1), "roll": (0, math.pi), "gaze": (0, 0.2), "scale_jitter": (0, 0.5),
    "shift_jitter": (0, 0.3), "distance_jitter": (0, 0.5), "expressive": (0, 1), "classes": (7, 8),
    "class_imbalance": (0, 1), "label_noise": (0, 1), "extras": (0, 3), "asymmetry": (0, 1),
    "identity_au": (0, 1), "occlusion": (0, 1), "glasses": (0, 1), "makeup": (0, 1),
    "age_span": (0, 74), "groups": (1, 64), "group_imbalance": (0, 1), "group_strength": (0, 1),
    "lighting": (0, 1), "blur": (0, 0.05), "noise": (0, 38), "jpeg": (0, 1), "style_rate": (0, 1),
    "style_strength": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class WorldConfig:
    """A world of faces: how many, how large, how varied. Shares and rates are in [0, 1].

    Attributes:
        size: side of the images, pixels, 16 to 1024.
        seed: names the world; another seed is another population.
        identities: how many people there are.
        per_identity: images of each; sample i shows identity first_identity + i // per_identity.
        first_identity: number of the first identity.
        yaw: largest turn of the head either way, radians, up to pi / 2.
        pitch: largest nod either way, radians, up to 1.
        roll: largest lean either way, radians, up to pi.
        pose: ``uniform`` over those ranges, or ``frontal``: the square of a uniform number times
            the range, so that half of the faces are within a quarter of it.
        gaze: standard deviation of the eyes' yaw, radians; their pitch has two fifths of it.
        scale_jitter: largest change of the face's size in the image, as a part of it.
        shift_jitter: largest shift of the face either way, parts of the image's side.
        distance_jitter: largest change of the camera's distance, as a part of 75 cm.
        expressive: share of the faces that show an emotion; the emotions share it evenly.
        classes: 7 expressions, or 8 with contempt.
        class_weights: how often each expression turns up, in proportion; replaces `expressive`.
        class_imbalance: each expression is (1 - class_imbalance / 2) times as frequent as the
            weights above say it is against the one before it: 0 leaves the weights, 1 halves down
            the line.
        label_noise: share of the faces whose expression label is another class, drawn evenly.
        extras: scales how often single action units join in, in [0, 3]; see `expressions.RATES`.
        asymmetry: how one-sided action units are; see `expressions.intensities`.
        identity_au: share of the images that show their person's own habitual set of action units
            (emotion and extras), where the others show a fresh one. The habits of people are drawn
            as the fresh sets are, so the law of an image's action units is the same at every
            value; only how far the person explains them grows, from nothing at 0 to which units
            act (though not how strongly) at 1.
        occlusion: share of the faces that something covers, besides glasses.
        occluders: how often each of `OCCLUDERS` is what covers, in proportion.
        glasses: share of the people who wear glasses; sunglasses take their place.
        makeup: share of the images with makeup.
        age: youngest and oldest, years, within [16, 90].
        age_span: years over which the images of one person spread.
        groups: number of appearance groups; see `population`.
        group_weights: how often each group turns up, in proportion; even when empty.
        group_imbalance: each group is (1 - group_imbalance / 2) times as frequent as its weight
            says against the one before.
        group_strength: how far a group shifts its people's looks.
        lighting: 0 for even light, 1 for light from any side.
        blur: largest standard deviation of the lens's blur, parts of the image's side; that of an
            image is uniform below it.
        noise: standard deviation of the sensor's noise, grey levels; that of an image is 0.4 to
            1.3 times as much.
        jpeg: share of the images that are compressed, with a quality of 30 to 95.
        style: the way of drawing, one of `FILTERS`, or ``any`` of them.
        style_rate: share of the images that are drawn that way.
        style_strength: how much of it.
    """

    size: int = 64
    seed: int = 0
    identities: int = 100
    per_identity: int = 2
    first_identity: int = 0
    yaw: float = math.pi / 4
    pitch: float = math.pi / 9
    roll: float = math.pi / 9
    pose: str = "uniform"
    gaze: float = 0.13
    scale_jitter: float = 0.1
    shift_jitter: float = 0.04
    distance_jitter: float = 0.15
    expressive: float = 0.75
    classes: int = 7
    class_weights: tuple[float, ...] = ()
    class_imbalance: float = 0.0
    label_noise: float = 0.0
    extras: float = 1.0
    asymmetry: float = 0.15
    identity_au: float = 0.0
    occlusion: float = 0.0
    occluders: tuple[float, ...] = (0.0, 1.0, 1.0, 1.0)
    glasses: float = 0.15
    makeup: float = 0.2
    age: tuple[float, ...] = (18.0, 75.0)
    age_span: float = 0.0
    groups: int = 1
    group_weights: tuple[float, ...] = ()
    group_imbalance: float = 0.0
    group_strength: float = 1.0
    lighting: float = 1.0
    blur: float = 0.0
    noise: float = 2.0
    jpeg: float = 0.0
    style: str = "none"
    style_rate: float = 1.0
    style_strength: float = 0.8

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            check("WorldConfig", name, getattr(self, name), low, high, name in _WHOLE)
        for name, known in (("pose", POSES), ("style", (*FILTERS, "any"))):
            if (value := getattr(self, name)) not in known:
                raise FacebenchError(
                    f"WorldConfig.{name}: found {value!r}: {nearest(str(value), known)}"
                )
        self._weights("class_weights", (0, self.classes))
        self._weights("group_weights", (0, self.groups))
        self._weights("occluders", (len(OCCLUDERS),))
        low, high = self._numbers("age", (2,), 16, 90)
        if low > high or self.age_span > high - low:
            raise FacebenchError(
                f"WorldConfig.age: found ({low:g}, {high:g}) and age_span={self.age_span:g}, "
                "expected the youngest first and no larger a span than between them"
            )

    def _numbers(self, name: str, counts: tuple[int, ...], low: float, high: float) -> Any:
        value = getattr(self, name)
        if not isinstance(value, (tuple, list)) or len(value) not in counts:
            expected = " or ".join(map(str, counts))
            raise FacebenchError(
                f"WorldConfig.{name}: found {value!r}, expected {expected} numbers"
            )
        for k, number in enumerate(value):
            check("WorldConfig", f"{name}[{k}]", number, low, high, False)
        object.__setattr__(self, name, tuple(float(number) for number in value))
        return getattr(self, name)

    def _weights(self, name: str, counts: tuple[int, ...]) -> None:
        value = self._numbers(name, counts, 0, 1e9)
        if value and not sum(value) > 0:
            raise FacebenchError(f"WorldConfig.{name}: found {value!r}, expected one above 0")

    @classmethod
    def of(cls, **knobs: object) -> WorldConfig:
        """A configuration from names and values.

        Raises:
            FacebenchError: a knob is unknown (the nearest is named) or out of range.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in knobs:
            if name not in known:
                raise FacebenchError(f"WorldConfig has no knob {name!r}: {nearest(name, known)}")
        return cls(**knobs)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.identities * self.per_identity


@lru_cache(maxsize=64)
def class_weights(config: WorldConfig) -> Array:
    """How often each expression turns up: float64 [classes], sums to 1."""
    emotions = config.classes - 1
    even = (1.0 - config.expressive, *(config.expressive / emotions,) * emotions)
    weights = population.shares(
        config.class_weights or even, config.classes, config.class_imbalance
    )
    total = 0.0
    for weight in weights.tolist():
        total += weight
    weights = weights / total
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=256)
def _inhabitant(
    seed: int, identity: int, groups: int, weights: tuple[float, ...], imbalance: float,
    strength: float,
) -> population.Inhabitant:  # fmt: skip
    name = (VERSION, seed, "identity", identity)
    return population.inhabitant(name, groups, weights, imbalance, strength)


def _person(config: WorldConfig, identity: int) -> population.Inhabitant:
    return _inhabitant(
        config.seed, int(identity), config.groups, config.group_weights,
        config.group_imbalance, config.group_strength,
    )  # fmt: skip


def identity_vector(config: WorldConfig, identity: int) -> Array:
    """The vector of one person; depends on (VERSION, seed, identity) and the groups only."""
    check("synth.identity_vector", "identity", identity, 0, 2**62, True)
    return _person(config, identity).vector


def group(config: WorldConfig, identity: int) -> int:
    """The appearance group of one person; depends on (VERSION, seed, identity) and the groups."""
    check("synth.group", "identity", identity, 0, 2**62, True)
    return _person(config, identity).group


def _pattern(config: WorldConfig, i: int, identity: int) -> expressions.Pattern:
    """Which action units sample `i` shows."""
    about: tuple[str | int, ...] = ("sample", i)
    own = config.identity_au
    if own and Draws(VERSION, config.seed, "sample", i, "habit").one() < own:
        about = ("identity", identity)
    return expressions.pattern(
        class_weights(config), config.extras,
        Draws(VERSION, config.seed, *about, "expression"),
        Draws(VERSION, config.seed, *about, "extras"),
    )  # fmt: skip


def _label(config: WorldConfig, i: int, shown: int) -> int:
    if not config.label_noise:
        return shown
    draws = Draws(VERSION, config.seed, "sample", i, "label")
    if draws.one() >= config.label_noise:
        return shown
    return (shown + 1 + int(draws.one() * (config.classes - 1))) % config.classes


def _turn(config: WorldConfig, draws: Draws) -> Array:
    u = draws.uniform(3, -1.0, 1.0)
    if config.pose == "frontal":
        u = u * np.abs(u)
    return quantise(u * np.array([config.yaw, config.pitch, config.roll]))


def _light(config: WorldConfig, draws: Draws) -> tuple[Array, Array]:
    side = config.lighting
    x, y, key, even, fill_x, fill_y, fill, warm = draws.uniform(8).tolist()
    light = directional_light(
        (2.6 * x - 1.3) * side,
        (1.35 * y - 0.25) * side + 0.2 * (1.0 - side),
        1.0,
        0.65 + 0.5 * key,
        0.18 + 0.24 * even,
    )
    light = light + directional_light(
        2.0 * fill_x - 1.0, 1.3 * fill_y - 0.5, 0.3, 0.35 * fill * side, 0.0
    )
    warm = 2.0 * warm - 1.0
    return quantise(light), quantise(np.array([1.0 + 0.07 * warm, 1.0, 1.0 - 0.09 * warm]))


def _covers(config: WorldConfig, i: int, person: population.Inhabitant) -> tuple[Occluder, ...]:
    out = []
    if config.occlusion:
        draws = Draws(VERSION, config.seed, "sample", i, "occlusion")
        if draws.one() < config.occlusion:
            kind = OCCLUDERS[draws.pick(np.array(config.occluders))]
            skin = people.become(person.vector).skin
            out.append(occluders.draw(draws, kind, skin))
    if person.glasses < config.glasses and not any("glasses" in o.kind for o in out):
        out.append(person.frame)
    return tuple(out)


def _makeup(config: WorldConfig, i: int, person: population.Inhabitant) -> Array:
    if config.makeup:
        draws = Draws(VERSION, config.seed, "sample", i, "makeup")
        if draws.one() < config.makeup:
            return quantise(population.makeup(person.taste, draws))
    return np.zeros((4, 4))


def _on_grid(x: float) -> float:
    return float(quantise(np.array(x)))


def parameters(config: WorldConfig, i: int) -> Parameters:
    """Draws what sample `i` shows; it depends on (VERSION, seed, i) and the knobs only.

    Raises:
        FacebenchError: there is no such sample.
    """
    check("synth.parameters", "i", i, 0, len(config) - 1, True)
    i = int(i)
    identity = config.first_identity + i // config.per_identity
    person = _person(config, identity)

    def stream(factor: str) -> Draws:
        return Draws(VERSION, config.seed, "sample", i, factor)

    shown = _pattern(config, i, identity)
    au, sides = expressions.intensities(shown, config.asymmetry, stream("intensities"))
    light, tint = _light(config, stream("light"))
    frame = stream("camera").uniform(4, -1.0, 1.0)
    noise, blur, squeezed, quality = stream("sensor").uniform(4).tolist()
    young, old = config.age
    years = config.age_span
    age = young + person.age * (old - young - years)
    style = "none"
    if config.style != "none" and config.style_rate:
        draws = stream("style")
        if draws.one() < config.style_rate:
            style = config.style
            if style == "any":
                style = FILTERS[1 + int(draws.one() * (len(FILTERS) - 1))]
    return Parameters(
        identity=identity,
        identity_vector=person.vector,
        group=person.group,
        age=_on_grid(age + (stream("age").one() * years if years else 0.0)),
        au=quantise(au),
        sides=quantise(sides),
        expression=shown.expression,
        expression_label=_label(config, i, shown.expression),
        pose=_turn(config, stream("pose")),
        light=light,
        tint=tint,
        gaze=quantise(stream("gaze").bell(2) * np.array([config.gaze, 0.4 * config.gaze])),
        camera=quantise(
            np.array([
                0.0365 * (1.0 + config.scale_jitter * float(frame[0])),
                config.shift_jitter * float(frame[1]),
                config.shift_jitter * float(frame[2]),
                75.0 * (1.0 + config.distance_jitter * float(frame[3])),
            ])
        ),
        makeup=_makeup(config, i, person),
        occluders=_covers(config, i, person),
        background=stream("background").uniform(16),
        style=style,
        style_strength=config.style_strength,
        blur=_on_grid(config.blur * blur),
        noise=config.noise * (0.4 + 0.9 * noise),
        jpeg=30 + int(quality * 66.0) if squeezed < config.jpeg else 0,
        noise_key=f"{VERSION}/{config.seed}/noise/{i}",
    )  # fmt: skip


def sample(config: WorldConfig, i: int) -> Sample:
    """Sample `i` of a world: it depends on (VERSION, seed, i) and the knobs only."""
    return render(parameters(config, i), config.size)
