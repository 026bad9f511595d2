"""A small convolutional network with a margin softmax tells generated people apart.

facebench run --config=experiments/recognition/synthface_convnet.py

Four trials: a tenth and all of the training people, seeds 0 and 1.
"""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = "convnet-s"
    config.kind = "baseline"
    config.protocol = "recognition/synthface/fractions@1"
    config.model.build = "convnet"
    config.task.margin = "cosface"
    config.task.m = 0.2
    config.task.s = 16.0
    config.train.steps = 400
    config.data.batch_size = 64
    config.data.augment.rotation = 0.14
    config.data.augment.scale = 0.05
    config.data.augment.shift = 0.03
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2
    config.optim.lr = 2e-3
    config.optim.warmup = 50
    config.optim.weight_decay = 0.05
    config.optim.ema = 0.98
    return config
