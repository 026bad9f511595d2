"""Floors of action units: what every learner must beat, and a canary that must learn nothing.

facebench run --config=experiments/action_units/synthface_floors.py:ridge
facebench run --config=experiments/action_units/synthface_floors.py:random
facebench run --config=experiments/action_units/synthface_floors.py:constant
facebench run --config=experiments/action_units/synthface_floors.py:canary

`ridge` is ridge regression on grey pixels, `random` the same on the features of the trained
baseline's backbone before any training, `constant` finds every action unit in every image, `canary`
is the ridge regression on pixels with the training labels on the wrong images. With `-frames`
behind it (`:ridge-frames`) under the protocol of shares of images, with `-linked` under that of
people with habits, with `-intensity` under that of strengths, where `constant` is the mean of the
training labels.
"""

from facebench.config import base

RIDGE = {"build": "ridge", "label": "au", "threshold": 0.4}
ENTRIES = {
    "ridge": ("ridge-pixels", "floor", RIDGE),
    "random": ("convnet-s-random", "floor", {**RIDGE, "features": "spatial"}),
    "constant": ("all-positive", "floor", {"build": "all_positive"}),
    "canary": ("permuted-labels", "canary", {**RIDGE, "permuted": True}),
}


PROTOCOLS = {
    "": "action_units/synthface/subjects@2",
    "frames": "action_units/synthface/frames@1",
    "linked": "action_units/synthface/linked@1",
    "intensity": "action_unit_intensity/synthface/subjects@1",
}


MEAN = {"build": "ridge", "label": "au", "constant": True}


def get_config(arg="ridge"):
    config = base()
    name, _, budget = arg.partition("-")
    config.entry, config.kind, config.probe = ENTRIES[name]
    config.protocol = PROTOCOLS[budget]
    if budget == "intensity":
        config.probe = {k: v for k, v in ENTRIES[name][2].items() if k != "threshold"}
        if name == "constant":
            config.entry, config.probe = "mean-intensity", {**config.probe, **MEAN}
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    return config
