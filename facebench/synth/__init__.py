"""The generated world: parametric faces, rendered on the CPU, with exact labels.

    config = synth.WorldConfig(size=64, seed=1, identities=1000, per_identity=2)
    sample = synth.sample(config, 12)                  # image and labels; depends on
                                                       # (VERSION, seed, 12) and the knobs only
    smile = synth.face(au={12: 1.0, 6: 0.7})           # parameters of one chosen face
    picture = synth.render(smile, 256).image

`parameters` draws what a sample shows, `render` draws the picture; the two know nothing of each
other. The bytes are the same on every machine: float64 with operations that IEEE 754 fixes to the
last bit, coverage and depth by integers, one rounding at the end.
"""

from facebench.synth.actions import ACTION_UNITS, EXPRESSIONS, PROTOTYPES
from facebench.synth.drawing import render
from facebench.synth.labels import PARSE, Sample
from facebench.synth.people import LOOKS, SHAPES
from facebench.synth.portrait import (
    FILTERS,
    MAKEUP,
    OCCLUDERS,
    Occluder,
    Parameters,
    directional_light,
)
from facebench.synth.sheet import contact_sheet, face
from facebench.synth.stream import samples
from facebench.synth.world import (
    VERSION,
    WorldConfig,
    identity_vector,
    manifest_digest,
    parameters,
    sample,
)

__all__ = [
    "ACTION_UNITS",
    "EXPRESSIONS",
    "FILTERS",
    "LOOKS",
    "MAKEUP",
    "OCCLUDERS",
    "PARSE",
    "PROTOTYPES",
    "SHAPES",
    "VERSION",
    "Occluder",
    "Parameters",
    "Sample",
    "WorldConfig",
    "contact_sheet",
    "directional_light",
    "face",
    "identity_vector",
    "manifest_digest",
    "parameters",
    "render",
    "sample",
    "samples",
]
