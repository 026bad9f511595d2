"""FER+, eight expressions by majority vote: a small network on 48 px grey faces, and its floors.

    facebench data prepare ferplus/majority --source=FOLDER    (datasets/ferplus/README.md)
    facebench run --config=experiments/expression/ferplus.py             convnet-48
    facebench run --config=experiments/expression/ferplus.py:ridge       floor: ridge on pixels
    facebench run --config=experiments/expression/ferplus.py:constant    floor: the largest class

The official parts: train, valid to choose the step on, test.
"""

from facebench.config import base

FLOORS = {"ridge": ("ridge-pixels", {"size": 48}), "constant": ("constant", {"constant": True})}


def get_config(arg=""):
    config = base()
    config.protocol = "expression/ferplus/majority@1"
    if arg in FLOORS:
        config.entry, options = FLOORS[arg]
        config.kind = "floor"
        config.probe = {"build": "ridge", "label": "expression", **options}
        return config
    if arg:
        raise ValueError(f"ferplus.py:{arg}: expected nothing, {' or '.join(FLOORS)}")
    config.entry = "convnet-48"
    config.kind = "baseline"
    config.model = {
        "build": "convnet",
        "widths": (16, 48, 96, 192),
        "blocks": (0, 1, 1, 1),
        "stem_stride": 1,
    }
    config.task.features = "pooled"
    config.task.dropout = 0.3
    config.task.smoothing = 0.1
    config.data.batch_size = 64
    config.data.augment.flip = 0.5
    config.data.augment.rotation = 0.2
    config.data.augment.scale = 0.1
    config.data.augment.shift = 0.06
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2
    config.data.augment.cutout = 0.3
    config.train.steps = 4000
    config.optim.lr = 2e-3
    config.optim.warmup = 200
    config.optim.weight_decay = 0.05
    config.optim.ema = 0.99
    return config
