"""A small convolutional network regresses 68 landmarks of generated faces.

    facebench run --config=experiments/landmarks/synthface_convnet.py

Four trials: a tenth and all of the labels, seeds 0 and 1.
"""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = "convnet-s"
    config.kind = "baseline"
    config.protocol = "landmarks/synthface/fractions@1"
    config.model.build = "convnet"
    config.train.steps = 500
    config.data.batch_size = 64
    config.data.augment.rotation = 0.26
    config.data.augment.scale = 0.1
    config.data.augment.shift = 0.05
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2
    config.optim.lr = 2e-3
    config.optim.warmup = 50
    config.optim.weight_decay = 0.01
    config.optim.ema = 0.98
    return config
