"""Does a margin that follows image quality help where quality varies? Five losses, one recipe.

    facebench run --config=experiments/recognition/synthface_degraded.py:softmax
    facebench run --config=experiments/recognition/synthface_degraded.py:cosface
    facebench run --config=experiments/recognition/synthface_degraded.py:arcface
    facebench run --config=experiments/recognition/synthface_degraded.py:adaface
    facebench run --config=experiments/recognition/synthface_degraded.py:magface

and what every learner must beat: `pixels`, `random` (the network untrained), `constant`, `canary`.

The faces of `recognition/synthface/fractions@2`, image by image, blurred, noisy and compressed to
a random degree, in train and in test. Three trials each, seeds 0 to 2. Network, batches, steps,
scale and optimiser are the same. Margins are the papers', but for CosFace's, which is the
baseline's on these faces. AdaFace's statistics follow in 100 steps and not in 500, of the 400 that
there are. Embeddings of 128 numbers are half as long as those of 512: MagFace's lengths are
halved, and the weight of its regulariser follows them and s.
"""

from facebench.config import base

LOSSES = {
    "softmax": {},
    "cosface": {"m": 0.2},
    "arcface": {"m": 0.5},
    "adaface": {"m": 0.4, "h": 0.333, "t_alpha": 0.05},
    "magface": {"norm_range": (5.0, 55.0), "margin_range": (0.45, 0.8), "lambda_g": 35 / 2 / 4},
}
FLOORS = {
    "pixels": ("raw-pixels", "floor", {"build": "raw_pixels"}),
    "random": (
        "convnet-s-random",
        "floor",
        {"build": "features", "features": "spatial", "centre": True},
    ),
    "constant": ("constant", "floor", {"build": "constant"}),
    "canary": ("random-embedding", "canary", {"build": "shuffled"}),
}


def get_config(arg="adaface"):
    if arg not in (*LOSSES, *FLOORS):
        raise ValueError(f"synthface_degraded.py:{arg}: expected {', '.join((*LOSSES, *FLOORS))}")
    config = base()
    config.protocol = "recognition/synthface/degraded@1"
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    if arg in FLOORS:
        config.entry, config.kind, config.probe = FLOORS[arg]
        return config
    config.entry = f"{arg}-convnet-s"
    config.task = {"margin": arg, "s": 16.0, **LOSSES[arg]}
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
