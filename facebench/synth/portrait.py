"""Everything that a picture of a face shows, before it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from facebench.errors import FacebenchError
from facebench.synth import actions, people
from facebench.synth.numeric import Array


def check(owner: str, name: str, value: object, low: float, high: float, whole: bool) -> None:
    """Refuses a number that is of the wrong kind, NaN or out of [low, high], by its name."""
    kind = "a whole number" if whole else "a number"
    wrong = isinstance(value, bool) or not isinstance(
        value, (int, np.integer) if whole else (int, float, np.integer, np.floating)
    )
    if wrong or not low <= value <= high:  # type: ignore[operator]
        raise FacebenchError(
            f"{owner}.{name}: found {value!r}, expected {kind} in [{low:g}, {high:g}]"
        )


def neutral_identity() -> Array:
    """The mean shape with middling looks (short brown hair, no beard)."""
    vector = np.zeros(people.SIZE)
    vector[len(people.SHAPES) :] = 0.5
    for name, value in {"melanin": 0.25, "hair style": 0.3, "beard": 0.0, "eye hue": 0.3}.items():
        vector[len(people.SHAPES) + people.LOOKS.index(name)] = value
    return vector


def directional_light(x: float, y: float, z: float, strength: float, ambient: float) -> Array:
    """The nine coefficients of an even light and one from the direction (x, y, z)."""
    length = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / length, y / length, z / length
    basis = np.array([
        0.282095, 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
        0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y),
    ])  # fmt: skip
    out = basis * strength * math.pi
    out[0] += ambient / 0.282095
    return out


def even_light() -> Array:
    """Soft light from the front and a little above."""
    return directional_light(0.0, 0.45, 1.0, 0.95, 0.32)


@dataclass(frozen=True)
class Parameters:
    """Everything that a picture shows, before it is drawn.

    Attributes:
        identity: number of the person.
        identity_vector: float64 [people.SIZE], see `people.SHAPES` and `people.LOOKS`.
        au: float64 [24] intensities in [0, 1], in the order of `ACTION_UNITS`.
        expression: index into `EXPRESSIONS`.
        pose: float64 [3] yaw, pitch, roll, radians; positive turns the nose to the image's right,
            lifts it, and leans the face counter-clockwise in the image.
        light: float64 [9] spherical-harmonic coefficients, order 1, y, z, x, xy, yz, 3z2-1, xz,
            x2-y2, axes x right, y up, z to the camera.
        tint: float64 [3] colour of the light.
        gaze: float64 [2] shift of the irises, cm to the image's right and up.
        camera: float64 [3] scale (parts of the image per cm), shift right, shift down (parts of
            the image).
        background: float64 [16] in [0, 1], what the background is made from.
        noise: standard deviation of the sensor's noise, grey levels.
        noise_key: names the noise.
    """

    identity: int = 0
    identity_vector: Array = field(default_factory=neutral_identity)
    au: Array = field(default_factory=lambda: np.zeros(len(actions.ACTION_UNITS)))
    expression: int = 0
    pose: Array = field(default_factory=lambda: np.zeros(3))
    light: Array = field(default_factory=even_light)
    tint: Array = field(default_factory=lambda: np.ones(3))
    gaze: Array = field(default_factory=lambda: np.zeros(2))
    camera: Array = field(default_factory=lambda: np.array([0.0345, 0.0, 0.0]))
    background: Array = field(default_factory=lambda: np.full(16, 0.5))
    noise: float = 0.0
    noise_key: str = ""

    def __post_init__(self) -> None:
        shapes = {
            "identity_vector": (people.SIZE, -6.0, 6.0),
            "au": (len(actions.ACTION_UNITS), 0.0, 1.0),
            "pose": (3, -math.pi, math.pi), "light": (9, -20.0, 20.0), "tint": (3, 0.0, 4.0),
            "gaze": (2, -1.0, 1.0), "camera": (3, -1.0, 1.0), "background": (16, 0.0, 1.0),
        }  # fmt: skip
        for name, (n, low, high) in shapes.items():
            value = np.asarray(getattr(self, name), np.float64)
            if value.shape != (n,):
                raise FacebenchError(
                    f"Parameters.{name}: found shape {value.shape}, expected ({n},)"
                )
            bad = ~((value >= low) & (value <= high))
            if bad.any():
                k = int(np.flatnonzero(bad)[0])
                raise FacebenchError(
                    f"Parameters.{name}[{k}]: found {value[k]}, expected a number in "
                    f"[{low:g}, {high:g}]"
                )
            object.__setattr__(self, name, value)
        if not self.camera[0] > 0.002:
            raise FacebenchError(
                f"Parameters.camera[0] (scale): found {self.camera[0]}, expected more than 0.002"
            )
        check("Parameters", "expression", self.expression, 0, len(actions.EXPRESSIONS) - 1, True)
        check("Parameters", "noise", self.noise, 0, 50, False)
