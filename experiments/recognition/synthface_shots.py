"""Telling generated people apart after 2, 5, 10 and 20 images of each training person.

    facebench run --config=experiments/recognition/synthface_shots.py             a small network
    facebench run --config=experiments/recognition/synthface_shots.py:pixels      floor: raw pixels
    facebench run --config=experiments/recognition/synthface_shots.py:random      floor: not trained
    facebench run --config=experiments/recognition/synthface_shots.py:constant    floor: chance
    facebench run --config=experiments/recognition/synthface_shots.py:canary      must know nobody

Twelve trials each: four numbers of images, seeds 0 to 2. All 100 training people are there at every
number, so this is depth; how many people there are is the axis of the protocol by fractions.
"""

from facebench.config import base

PROBES = {
    "pixels": ("raw-pixels", "floor", {"build": "raw_pixels"}),
    "random": (
        "convnet-s-random",
        "floor",
        {"build": "features", "features": "spatial", "centre": True},
    ),
    "constant": ("constant", "floor", {"build": "constant"}),
    "canary": ("random-embedding", "canary", {"build": "shuffled"}),
}


def get_config(arg=""):
    if arg and arg not in PROBES:
        raise ValueError(f"synthface_shots.py:{arg}: expected nothing or {', '.join(PROBES)}")
    config = base()
    config.protocol = "recognition/synthface/shots@1"
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    if arg:
        config.entry, config.kind, config.probe = PROBES[arg]
        return config
    config.entry = "convnet-s"
    config.kind = "baseline"
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
