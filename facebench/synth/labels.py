"""What is known about a picture: every label, exact."""

from __future__ import annotations

from dataclasses import dataclass

from facebench import schemes
from facebench.synth.numeric import Array
from facebench.synth.portrait import Parameters

PARSE = schemes.PARSE

SELF_HIDDEN, OCCLUDER_HIDDEN = 1, 2  # bits of `Sample.hidden`


@dataclass(frozen=True)
class Sample:
    """A picture with its labels.

    Attributes:
        image: uint8 [S, S, 3] RGB.
        parameters: everything that the picture was drawn from.
        points: float32 [68, 2] (x, y) px, iBUG order; the centre of the top-left pixel is (0, 0).
        hidden: uint8 [68] what lies before each point: bit 1 the head or its hair, bit 2 an
            occluder (lenses that one sees through are none).
        points98: float32 [98, 2] the same in WFLW's order.
        hidden98: uint8 [98].
        box: float32 [4] x0, y0, x1, y1: the tight box of all 68 points.
        parse: uint8 [S, S] the class of `PARSE` at the centre of each pixel; ears, neck, clothes
            and occluders are background, as in LaPa.
        occluder: uint8 [S, S] 1 + index into `OCCLUDERS` of what covers the head at the centre of
            the pixel, 0 where nothing does (the parts of a hand beside the head count, too).
        depth: float32 [S, S] distance from the camera's plane at the centre of the pixel, cm; 0
            where nothing is drawn. Occluders count as surface.
        vertices: float32 [V, 3] the head's mesh in the camera's axes (x right, y up, z to the
            camera, origin at the camera), cm.
        intrinsics: float32 [3] focal length in px, and the principal point (x, y), px.
    """

    image: Array
    parameters: Parameters
    points: Array
    hidden: Array
    points98: Array
    hidden98: Array
    box: Array
    parse: Array
    occluder: Array
    depth: Array
    vertices: Array
    intrinsics: Array

    @property
    def visible(self) -> Array:
        """[68] bool: nothing lies before the point."""
        return self.hidden == 0

    @property
    def visible98(self) -> Array:
        """[98] bool."""
        return self.hidden98 == 0

    @property
    def identity(self) -> int:
        """Number of the person."""
        return self.parameters.identity

    @property
    def identity_vector(self) -> Array:
        """float64 [people.SIZE]."""
        return self.parameters.identity_vector

    @property
    def au(self) -> Array:
        """float32 [24] intensities in [0, 1], in the order of `ACTION_UNITS`."""
        return self.parameters.au.astype("float32")

    @property
    def expression(self) -> int:
        """What the label says: an index into `EXPRESSIONS`."""
        return self.parameters.expression_label

    @property
    def pose(self) -> Array:
        """float32 [3] yaw, pitch, roll, radians."""
        return self.parameters.pose.astype("float32")

    @property
    def light(self) -> Array:
        """float32 [9] spherical-harmonic coefficients."""
        return self.parameters.light.astype("float32")

    @property
    def age(self) -> float:
        """Years."""
        return self.parameters.age
