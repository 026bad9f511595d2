"""Floors of action units: what every learner must beat, and a canary that must learn nothing.

facebench run --config=experiments/action_units/synthface_floors.py:ridge
facebench run --config=experiments/action_units/synthface_floors.py:constant
facebench run --config=experiments/action_units/synthface_floors.py:canary

`ridge` is ridge regression on grey pixels, `constant` the mean of each action unit in training,
`canary` the ridge regression with the training labels on the wrong images.
"""

from facebench.config import base

ENTRIES = {
    "ridge": ("ridge-pixels", "floor", {}),
    "constant": ("constant", "floor", {"constant": True}),
    "canary": ("permuted-labels", "canary", {"permuted": True}),
}


def get_config(arg="ridge"):
    config = base()
    config.entry, config.kind, options = ENTRIES[arg]
    config.protocol = "action_units/synthface/subjects@1"
    config.probe = {"build": "ridge", "label": "au", **options}
    return config
