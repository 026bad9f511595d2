"""What the loss is worth: one backbone and one recipe, trained by the field's losses.

facebench run --config=experiments/recognition/synthface_losses.py:softmax
facebench run --config=experiments/recognition/synthface_losses.py:arcface
facebench run --config=experiments/recognition/synthface_losses.py:adaface
facebench run --config=experiments/recognition/synthface_losses.py:triplet_semi_hard
facebench run --config=experiments/recognition/synthface_losses.py:triplet_random

Everything but the loss is that of the board's `convnet-s` (synthface_convnet.py), which is trained
by CosFace: data, augmentation, steps, optimiser. Margins and scales were set once, not searched.
The two triplet losses differ in nothing but how a triplet's negative is chosen; their batches hold
four images of each of eight people. Six trials each: a tenth and all of the people, seeds 0 to 2.
"""

from facebench.config import base

LOSSES = {
    "softmax": {"margin": "softmax", "s": 16.0},
    "arcface": {"margin": "arcface", "m": 0.2, "s": 16.0},
    "adaface": {"margin": "adaface", "m": 0.2, "s": 16.0},
    "triplet_semi_hard": {"loss": "triplet", "mining": "semi_hard"},
    "triplet_random": {"loss": "triplet", "mining": "random"},
}


def get_config(arg="arcface"):
    if arg not in LOSSES:
        raise ValueError(f"synthface_losses.py:{arg}: expected one of {', '.join(LOSSES)}")
    config = base()
    config.entry = f"convnet-s-{arg.replace('_', '-')}"
    config.kind = "baseline"
    config.protocol = "recognition/synthface/fractions@2"
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    config.task = LOSSES[arg]
    config.data.batch_size = 32
    if arg.startswith("triplet"):
        config.data.images_per_unit = 4
    config.data.augment.rotation = 0.1
    config.data.augment.scale = 0.05
    config.data.augment.shift = 0.03
    config.train.steps = 400
    config.optim.lr = 5e-3
    config.optim.warmup = 30
    config.optim.weight_decay = 0.01
    config.optim.ema = 0.9
    return config
