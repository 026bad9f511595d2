"""A small convolutional network finds twelve action units of generated faces.

facebench run --config=experiments/action_units/synthface_convnet.py

Six trials: the faces of 10 and of all 60 people, seeds 0 to 2.
"""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = "convnet-s"
    config.kind = "baseline"
    config.protocol = "action_units/synthface/subjects@1"
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    config.data.batch_size = 32
    config.data.augment.flip = 0.5
    config.data.augment.rotation = 0.1
    config.data.augment.scale = 0.05
    config.data.augment.shift = 0.03
    config.train.steps = 1000
    config.optim.lr = 4e-3
    config.optim.warmup = 30
    config.optim.weight_decay = 0.01
    config.optim.ema = 0.9
    return config
