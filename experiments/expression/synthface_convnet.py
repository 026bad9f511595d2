"""A small convolutional network names the expression of generated faces.

facebench run --config=experiments/expression/synthface_convnet.py
facebench run --config=experiments/expression/synthface_convnet.py:hard

1, 10 and 100 % of the labels, nine trials; then all of them, tested on covered and turned faces,
too, three trials. Seeds 0 to 2.
"""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = "convnet-s"
    config.kind = "baseline"
    config.protocol = f"expression/synthface/{'hard@1' if arg == 'hard' else 'fractions@2'}"
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    config.task.features = "spatial"
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
