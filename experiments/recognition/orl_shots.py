"""Which of 40 known people is it: AT&T / ORL from 1, 3 and 5 images of each.

    facebench run --config=experiments/recognition/orl_shots.py           a small network
    facebench run --config=experiments/recognition/orl_shots.py:pixels    floor: raw pixels
    facebench run --config=experiments/recognition/orl_shots.py:pca       floor: eigenfaces

Fifteen trials each: three numbers of shots, seeds 0 to 4. The release is read from --source of
`facebench data prepare orl/closed-set`, or $FACEBENCH_REAL_DATA/orl.
"""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.protocol = "recognition/orl/shots@1"
    if arg == "pixels":
        config.entry, config.kind = "raw-pixels", "floor"
        config.probe.build = "raw_pixels"
        return config
    if arg == "pca":
        config.entry, config.kind = "eigenfaces", "floor"
        config.probe = {"build": "pca", "components": 30}  # of the 40 images at one shot
        return config
    if arg:
        raise ValueError(f"orl_shots.py:{arg}: expected nothing, 'pixels' or 'pca'")
    config.entry = "convnet-s"
    config.kind = "baseline"
    config.model.build = "convnet"
    config.task.margin = "cosface"
    config.task.m = 0.2
    config.task.s = 16.0
    config.data.batch_size = 40
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
