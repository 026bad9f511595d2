"""A small convolutional network finds twelve action units of generated faces, or how strong.

facebench run --config=experiments/action_units/synthface_convnet.py
facebench run --config=experiments/action_units/synthface_convnet.py:frames
facebench run --config=experiments/action_units/synthface_convnet.py:intensity

By 5, 20 and 60 people; by 1, 10 and 100 % of the images of all; strengths, by people again. Nine
trials each, seeds 0 to 2. The loss of the first two is asymmetric and weighs each action unit by
how rare it is in the training labels: by plain cross-entropy a training this short says no to all.
"""

from facebench.config import base

PROTOCOLS = {
    "": "action_units/synthface/subjects@2",
    "frames": "action_units/synthface/frames@1",
    "intensity": "action_unit_intensity/synthface/subjects@1",
}


def get_config(arg=""):
    config = base()
    config.entry = "convnet-s"
    config.kind = "baseline"
    config.protocol = PROTOCOLS[arg]
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    if arg != "intensity":
        config.task.loss = "asymmetric"
        config.task.weights = "inverse"
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
