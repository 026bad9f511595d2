"""Face verification and identification on AT&T / ORL, trained on 30 people, tested on 10 others.

    facebench run --config=experiments/recognition/orl.py           a small network
    facebench run --config=experiments/recognition/orl.py:pixels    floor: raw pixels
    facebench run --config=experiments/recognition/orl.py:pca       floor: eigenfaces

The release is read from --source of `facebench data prepare orl`, or $FACEBENCH_REAL_DATA/orl.
"""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.protocol = "recognition/orl/subject-exclusive@1"
    if arg == "pixels":
        config.entry, config.kind = "raw-pixels", "floor"
        config.probe.build = "raw_pixels"
        return config
    if arg == "pca":
        config.entry, config.kind = "eigenfaces", "floor"
        config.probe = {"build": "pca", "components": 100}
        return config
    if arg:
        raise ValueError(f"orl.py:{arg}: expected nothing, 'pixels' or 'pca'")
    config.entry = "convnet-s"
    config.kind = "baseline"
    config.model.build = "convnet"
    config.task.margin = "cosface"
    config.task.m = 0.2
    config.task.s = 16.0
    config.data.batch_size = 64
    config.data.augment.rotation = 0.14
    config.data.augment.scale = 0.08
    config.data.augment.shift = 0.04
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2
    config.train.steps = 200
    config.optim.lr = 2e-3
    config.optim.warmup = 50
    config.optim.weight_decay = 0.05
    config.optim.ema = 0.98
    return config
