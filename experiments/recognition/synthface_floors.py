"""Floors of recognition: what every learner must beat, and a canary that must know nobody.

facebench run --config=experiments/recognition/synthface_floors.py:pixels
facebench run --config=experiments/recognition/synthface_floors.py:constant
facebench run --config=experiments/recognition/synthface_floors.py:canary

`pixels` compares standardised grey pixels, `constant` gives every image the same embedding, and
`canary` one that depends on the picture and has nothing to do with the person.
"""

from facebench.config import base

ENTRIES = {
    "pixels": ("raw-pixels", "floor", "raw_pixels"),
    "constant": ("constant", "floor", "constant"),
    "canary": ("random-embedding", "canary", "shuffled"),
}


def get_config(arg="pixels"):
    config = base()
    config.entry, config.kind, config.probe.build = ENTRIES[arg]
    config.protocol = "recognition/synthface/fractions@2"
    return config
