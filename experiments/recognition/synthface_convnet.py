"""A small convolutional network with a margin softmax tells generated people apart.

facebench run --config=experiments/recognition/synthface_convnet.py

Six trials: a tenth and all of the labels, seeds 0 to 2.
"""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = "convnet-s"
    config.kind = "baseline"
    config.protocol = "recognition/synthface/fractions@2"
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    config.task.margin = "cosface"
    config.task.m = 0.2
    config.task.s = 16.0
    config.data.batch_size = 32
    config.data.augment.rotation = 0.1
    config.data.augment.scale = 0.05
    config.data.augment.shift = 0.03
    config.train.steps = 400
    config.optim.lr = 5e-3
    config.optim.warmup = 30
    config.optim.weight_decay = 0.01
    config.optim.ema = 0.9
    return config
