"""Floors of expression: what every learner must beat, and a canary that must learn nothing.

facebench run --config=experiments/expression/synthface_floors.py:ridge
facebench run --config=experiments/expression/synthface_floors.py:random
facebench run --config=experiments/expression/synthface_floors.py:constant
facebench run --config=experiments/expression/synthface_floors.py:canary

`ridge` is ridge regression on grey pixels, `random` the same on the features of the trained
baseline's backbone before any training, `constant` the share of each class in training, `canary`
the ridge regression on pixels with the training labels on the wrong images.
"""

from facebench.config import base

ENTRIES = {
    "ridge": ("ridge-pixels", "floor", {}),
    "random": ("convnet-s-random", "floor", {"features": "spatial"}),
    "constant": ("constant", "floor", {"constant": True}),
    "canary": ("permuted-labels", "canary", {"permuted": True}),
}


def get_config(arg="ridge"):
    config = base()
    config.entry, config.kind, options = ENTRIES[arg]
    config.protocol = "expression/synthface/fractions@2"
    config.probe = {"build": "ridge", "label": "expression", **options}
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    return config
