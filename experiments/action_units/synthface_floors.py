"""Floors of action units: what every learner must beat, and a canary that must learn nothing.

facebench run --config=experiments/action_units/synthface_floors.py:ridge
facebench run --config=experiments/action_units/synthface_floors.py:random
facebench run --config=experiments/action_units/synthface_floors.py:constant
facebench run --config=experiments/action_units/synthface_floors.py:canary

`ridge` is ridge regression on grey pixels, `random` the same on the features of the trained
baseline's backbone before any training, `constant` finds every action unit in every image, `canary`
is the ridge regression on pixels with the training labels on the wrong images.
"""

from facebench.config import base

RIDGE = {"build": "ridge", "label": "au", "threshold": 0.4}
ENTRIES = {
    "ridge": ("ridge-pixels", "floor", RIDGE),
    "random": ("convnet-s-random", "floor", {**RIDGE, "features": "spatial"}),
    "constant": ("all-positive", "floor", {"build": "all_positive"}),
    "canary": ("permuted-labels", "canary", {**RIDGE, "permuted": True}),
}


def get_config(arg="ridge"):
    config = base()
    config.entry, config.kind, config.probe = ENTRIES[arg]
    config.protocol = "action_units/synthface/subjects@1"
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    return config
