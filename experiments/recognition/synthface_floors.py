"""Floors of recognition: what every learner must beat, and a canary that must know nobody.

facebench run --config=experiments/recognition/synthface_floors.py:pixels
facebench run --config=experiments/recognition/synthface_floors.py:random
facebench run --config=experiments/recognition/synthface_floors.py:constant
facebench run --config=experiments/recognition/synthface_floors.py:canary

`pixels` compares standardised grey pixels, `random` the features of the trained baseline's backbone
before any training, less their mean over the training images, `constant` gives every image the same
embedding, and `canary` one that depends on the picture and has nothing to do with the person.
"""

from facebench.config import base

RANDOM = {"build": "features", "features": "spatial", "centre": True}
ENTRIES = {
    "pixels": ("raw-pixels", "floor", {"build": "raw_pixels"}),
    "random": ("convnet-s-random", "floor", RANDOM),
    "constant": ("constant", "floor", {"build": "constant"}),
    "canary": ("random-embedding", "canary", {"build": "shuffled"}),
}


def get_config(arg="pixels"):
    config = base()
    config.entry, config.kind, config.probe = ENTRIES[arg]
    config.protocol = "recognition/synthface/fractions@2"
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    return config
