"""The generated world: what sample `i` of a configuration shows."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass

import numpy as np

from facebench.errors import FacebenchError, nearest
from facebench.synth import actions, people
from facebench.synth.drawing import render
from facebench.synth.labels import Sample
from facebench.synth.numeric import Array, Draws, quantise
from facebench.synth.portrait import Parameters, check, directional_light

#: Changes whenever a pixel or a label of any sample does.
VERSION = "2.0.0"


@dataclass(frozen=True)
class WorldConfig:
    """A world of faces: how many, how large, how varied.

    Attributes:
        size: side of the images, pixels, 16 to 1024.
        seed: names the world; another seed is another population.
        identities: how many people there are.
        per_identity: images of each; sample i shows identity first_identity + i // per_identity.
        first_identity: number of the first identity.
        yaw, pitch, roll: largest turn of the head either way, radians (up to 1.0).
        expressive: how often a face shows one of the six emotions, in [0, 1].
        extras: scales how often other action units join in, in [0, 3].
        lighting: 0 for even light, 1 for light from any side.
        noise: standard deviation of the sensor's noise, grey levels.
    """

    size: int = 64
    seed: int = 0
    identities: int = 100
    per_identity: int = 2
    first_identity: int = 0
    yaw: float = math.pi / 4
    pitch: float = math.pi / 9
    roll: float = math.pi / 9
    expressive: float = 0.75
    extras: float = 1.0
    lighting: float = 1.0
    noise: float = 2.0

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "size": (16, 1024), "seed": (0, 2**63 - 1), "identities": (1, 10**9),
            "per_identity": (1, 10**9), "first_identity": (0, 10**12), "yaw": (0, 1),
            "pitch": (0, 1), "roll": (0, math.pi), "expressive": (0, 1), "extras": (0, 3),
            "lighting": (0, 1), "noise": (0, 50),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            whole = name in ("size", "seed", "identities", "per_identity", "first_identity")
            check("WorldConfig", name, value, low, high, whole)

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


def identity_vector(config: WorldConfig, identity: int) -> Array:
    """The vector of one person: it depends on (VERSION, seed, identity) only."""
    return people.draw(Draws(VERSION, config.seed, "identity", identity))


def parameters(config: WorldConfig, i: int) -> Parameters:
    """Draws what sample `i` shows; it depends on (VERSION, seed, i) and the knobs only.

    Raises:
        FacebenchError: there is no such sample.
    """
    check("synth.parameters", "i", i, 0, len(config) - 1, True)
    identity = config.first_identity + int(i) // config.per_identity
    draws = Draws(VERSION, config.seed, "sample", int(i))
    yaw, pitch, roll = (
        draws.one(-limit, limit) for limit in (config.yaw, config.pitch, config.roll)
    )
    weights = np.full(len(actions.EXPRESSIONS), config.expressive / 7.0)
    weights[0] = 1.0 - config.expressive
    expression = draws.pick(weights)
    au = np.zeros(len(actions.ACTION_UNITS))
    strength = draws.one(0.55, 1.15)
    jitter = draws.uniform(len(au), 0.75, 1.25)
    chance = draws.uniform(len(au))
    level = draws.uniform(len(au), 0.15, 0.8)
    for number, mean in actions.PROTOTYPES[actions.EXPRESSIONS[expression]].items():
        k = actions.INDEX[number]
        au[k] = min(mean * strength * float(jitter[k]), 1.0)
    for number, often in actions.EXTRAS.items():
        k = actions.INDEX[number]
        if au[k] == 0.0 and chance[k] < often * config.extras:
            au[k] = level[k]
    side = config.lighting
    light = directional_light(
        draws.one(-1.3, 1.3) * side, draws.one(-0.25, 1.1) * side + 0.2 * (1 - side), 1.0,
        draws.one(0.65, 1.15), draws.one(0.18, 0.42),
    )  # fmt: skip
    light = light + directional_light(
        draws.one(-1.0, 1.0), draws.one(-0.5, 0.8), 0.3, 0.35 * draws.one() * side, 0.0
    )
    warm = draws.one(-1.0, 1.0)
    return Parameters(
        identity=identity,
        identity_vector=identity_vector(config, identity),
        au=quantise(au),
        expression=expression,
        pose=quantise(np.array([yaw, pitch, roll])),
        light=quantise(light),
        tint=np.array([1.0 + 0.07 * warm, 1.0, 1.0 - 0.09 * warm]),
        gaze=quantise(draws.bell(2) * np.array([0.13, 0.05])),
        camera=quantise(
            np.array(
                [draws.one(0.0330, 0.0405), draws.one(-0.04, 0.04), draws.one(-0.04, 0.035), 75.0]
            )
        ),
        background=draws.uniform(16),
        noise=config.noise * draws.one(0.4, 1.3),
        noise_key=f"{VERSION}/{config.seed}/noise/{int(i)}",
    )


def sample(config: WorldConfig, i: int) -> Sample:
    """Sample `i` of a world: it depends on (VERSION, seed, i) and the knobs only."""
    return render(parameters(config, i), config.size)


def manifest_digest(n: int = 64) -> str:
    """The digest of the pixels and points of the first `n` samples of a fixed small world."""
    config = WorldConfig(size=48, seed=20240229, identities=max(n, 1), per_identity=1)
    hasher = hashlib.sha256(f"facebench.synth {VERSION} {n}\n".encode())
    for i in range(n):
        s = sample(config, i)
        hasher.update(s.image.tobytes())
        hasher.update(s.points.astype("<f4").tobytes())
        hasher.update(np.packbits(s.visible).tobytes())
    return "sha256:" + hasher.hexdigest()
