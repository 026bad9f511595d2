"""Everything that a picture of a face shows, before it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facebench.errors import FacebenchError, nearest
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


def vector(
    owner: str, name: str, value: object, shape: tuple[int, ...], low: Any, high: Any
) -> Array:
    """An array as float64; refuses another shape, and numbers that are NaN or out of [low, high].

    Raises:
        FacebenchError: it names the owner, the field and the place in it.
    """
    try:
        out = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise FacebenchError(f"{owner}.{name}: found {value!r}, expected {shape} numbers") from None
    if out.shape != shape:
        raise FacebenchError(f"{owner}.{name}: found shape {out.shape}, expected {shape}")
    bad = ~((out >= low) & (out <= high))
    if bad.any():
        low, high = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
        k = tuple(int(i[0]) for i in np.nonzero(bad))
        raise FacebenchError(
            f"{owner}.{name}[{', '.join(map(str, k))}]: found {out[k]}, expected a number in "
            f"[{low[k]:g}, {high[k]:g}]"
        )
    out.setflags(write=False)
    return out


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


#: What may cover a face, in the order of the values of `Sample.occluder` (from 1).
OCCLUDERS = ("glasses", "sunglasses", "mask", "hand")

#: What may be painted on a face: the rows of `Parameters.makeup`.
MAKEUP = ("lips", "eye shadow", "eyeliner", "blush")

#: Ways of drawing, `Parameters.style`.
FILTERS = ("none", "sketch", "posterise", "cartoon")


@dataclass(frozen=True)
class Occluder:
    """Something before the face.

    Attributes:
        kind: one of `OCCLUDERS`.
        form: float64 [6] in [0, 1]: shape and place, see `facebench.synth.occluders`.
        colour: float64 [3] in [0, 1], linear RGB.
    """

    kind: str
    form: Array = field(default_factory=lambda: np.full(6, 0.5))
    colour: Array = field(default_factory=lambda: np.array([0.02, 0.02, 0.025]))

    def __post_init__(self) -> None:
        if self.kind not in OCCLUDERS:
            raise FacebenchError(
                f"Occluder.kind: no occluder {self.kind!r}: {nearest(str(self.kind), OCCLUDERS)}"
            )
        for name, n in (("form", 6), ("colour", 3)):
            object.__setattr__(
                self, name, vector("Occluder", name, getattr(self, name), (n,), 0.0, 1.0)
            )


@dataclass(frozen=True)
class Parameters:
    """Everything that a picture shows, before it is drawn.

    Attributes:
        identity: number of the person.
        identity_vector: float64 [people.SIZE], see `people.SHAPES` and `people.LOOKS`.
        group: number of the person's appearance group.
        age: years, 16 to 90; wrinkles, sagging and grey follow it.
        au: float64 [24] intensities in [0, 1], in the order of `ACTION_UNITS`.
        sides: float64 [24] in [-1, 1], how one-sided each action unit is: 0 both sides alike, 1
            the subject's left only, -1 the right only.
        expression: index into `EXPRESSIONS`: the emotion that is shown.
        expression_label: index into `EXPRESSIONS`: the emotion that the label says; another one
            only where the world has label noise. The shown one when left out.
        gaze: float64 [2] yaw and pitch of both eyes against the head, radians.
        pose: float64 [3] yaw, pitch, roll, radians; positive turns the nose to the image's right,
            lifts it, and leans the face counter-clockwise in the image.
        camera: float64 [4] scale (parts of the image per cm at the face), shift right, shift down
            (parts of the image), distance to the face (cm).
        light: float64 [9] spherical-harmonic coefficients, order 1, y, z, x, xy, yz, 3z2-1, xz,
            x2-y2, axes x right, y up, z to the camera.
        tint: float64 [3] colour of the light.
        makeup: float64 [4, 4] linear RGB and opacity of each layer of `MAKEUP`, in [0, 1].
        occluders: what covers the face.
        background: float64 [16] in [0, 1], what the background is made from.
        style: a way of drawing, one of `FILTERS`.
        style_strength: how much of it, in [0, 1]; 0 leaves the photograph.
        blur: standard deviation of the lens's blur, parts of the image's side.
        noise: standard deviation of the sensor's noise, grey levels.
        jpeg: quality of lossy compression, 5 to 100; 0 leaves it out.
        noise_key: names the noise.
    """

    identity: int = 0
    identity_vector: Array = field(default_factory=neutral_identity)
    group: int = 0
    age: float = 30.0
    au: Array = field(default_factory=lambda: np.zeros(len(actions.ACTION_UNITS)))
    sides: Array = field(default_factory=lambda: np.zeros(len(actions.ACTION_UNITS)))
    expression: int = 0
    expression_label: int = -1
    gaze: Array = field(default_factory=lambda: np.zeros(2))
    pose: Array = field(default_factory=lambda: np.zeros(3))
    camera: Array = field(default_factory=lambda: np.array([0.0345, 0.0, 0.0, 75.0]))
    light: Array = field(default_factory=even_light)
    tint: Array = field(default_factory=lambda: np.ones(3))
    makeup: Array = field(default_factory=lambda: np.zeros((4, 4)))
    occluders: tuple[Occluder, ...] = ()
    background: Array = field(default_factory=lambda: np.full(16, 0.5))
    style: str = "none"
    style_strength: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    noise_key: str = ""

    def __post_init__(self) -> None:
        n = len(actions.ACTION_UNITS)
        limits = {
            "identity_vector": ((people.SIZE,), -6.0, 6.0), "au": ((n,), 0.0, 1.0),
            "sides": ((n,), -1.0, 1.0), "gaze": ((2,), -0.7, 0.7),
            "pose": ((3,), -math.pi, math.pi), "light": ((9,), -20.0, 20.0),
            "tint": ((3,), 0.0, 4.0),
            "makeup": ((4, 4), 0.0, 1.0), "background": ((16,), 0.0, 1.0),
            "camera": ((4,), np.array([0.002, -1.0, -1.0, 25.0]), np.array([0.5, 1.0, 1.0, 1e4])),
        }  # fmt: skip
        for name, (shape, low, high) in limits.items():
            value = vector("Parameters", name, getattr(self, name), shape, low, high)
            object.__setattr__(self, name, value)
        last = len(actions.EXPRESSIONS) - 1
        check("Parameters", "expression", self.expression, 0, last, True)
        if isinstance(self.expression_label, int) and self.expression_label == -1:
            object.__setattr__(self, "expression_label", self.expression)
        check("Parameters", "expression_label", self.expression_label, 0, last, True)
        check("Parameters", "identity", self.identity, 0, 2**62, True)
        check("Parameters", "group", self.group, 0, 2**31, True)
        check("Parameters", "age", self.age, 16, 90, False)
        check("Parameters", "style_strength", self.style_strength, 0, 1, False)
        check("Parameters", "blur", self.blur, 0, 0.1, False)
        check("Parameters", "noise", self.noise, 0, 50, False)
        check("Parameters", "jpeg", self.jpeg, 5 if self.jpeg else 0, 100, True)
        if self.style not in FILTERS:
            raise FacebenchError(
                f"Parameters.style: no style {self.style!r}: {nearest(str(self.style), FILTERS)}"
            )
        for k, occluder in enumerate(self.occluders):
            if not isinstance(occluder, Occluder):
                raise FacebenchError(
                    f"Parameters.occluders[{k}]: found {occluder!r}, expected an Occluder"
                )
