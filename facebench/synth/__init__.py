"""The generated world: parametric faces, rendered on the CPU, with exact labels.

    config = synth.WorldConfig(size=64, seed=1, identities=1000, per_identity=2)
    sample = synth.sample(config, 12)                  # image and labels; depends on
                                                       # (VERSION, seed, 12) and the knobs only
    smile = synth.face(au={12: 1.0, 6: 0.7})           # parameters of one chosen face
    picture = synth.render(smile, 256).image
    clip = synth.clip(synth.ClipConfig(config), 3)     # parameters of the frames, and the events

`parameters` draws what a sample shows, `render` draws the picture; the two know nothing of each
other. The bytes are the same on every machine: float64 with operations that IEEE 754 fixes to the
last bit, coverage and depth by integers, one rounding at the end.

``python -m facebench.synth --help`` draws sheets to look at.
"""

from facebench.synth.actions import ACTION_UNITS, EXPRESSIONS, PROTOTYPES
from facebench.synth.attributes import ATTRIBUTES, attributes
from facebench.synth.clips import Clip, ClipConfig, clip
from facebench.synth.drawing import render
from facebench.synth.events import Event
from facebench.synth.labels import PARSE, Sample
from facebench.synth.manifest import manifest_digest
from facebench.synth.people import LOOKS, SHAPES
from facebench.synth.portrait import (
    FILTERS,
    MAKEUP,
    OCCLUDERS,
    Occluder,
    Parameters,
    directional_light,
)
from facebench.synth.sheet import au_sheet, contact_sheet, face, knob_sheet, label_sheet
from facebench.synth.stream import samples
from facebench.synth.world import (
    VERSION,
    WorldConfig,
    group,
    identity_vector,
    parameters,
    sample,
)

__all__ = [
    "ACTION_UNITS",
    "ATTRIBUTES",
    "EXPRESSIONS",
    "FILTERS",
    "LOOKS",
    "MAKEUP",
    "OCCLUDERS",
    "PARSE",
    "PROTOTYPES",
    "SHAPES",
    "VERSION",
    "Clip",
    "ClipConfig",
    "Event",
    "Occluder",
    "Parameters",
    "Sample",
    "WorldConfig",
    "attributes",
    "au_sheet",
    "clip",
    "contact_sheet",
    "directional_light",
    "face",
    "group",
    "identity_vector",
    "knob_sheet",
    "label_sheet",
    "manifest_digest",
    "parameters",
    "render",
    "sample",
    "samples",
]
