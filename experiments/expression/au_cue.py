"""Guided interpretable expression recognition (Belharbi et al., FG 2024): attention by AU cues.

    facebench run --config=experiments/expression/au_cue.py               IR-50 on AffectNet
    facebench run --config=experiments/expression/au_cue.py:paper         the published code's units
    facebench run --config=experiments/expression/au_cue.py:tiny          generated faces, a minute
    facebench run --config=experiments/expression/au_cue.py:tiny-plain    the same without cues

Data: AffectNet, `facebench data prepare affectnet/small --source=FOLDER`. The protocol is the draft
of that data card under the id below, with "size": 112, "cues": "corrected" in its evaluation,
`attention` (uint8, scale 255) in its predictions and `attention_cosine` among its metrics; freeze
it once. The backbone starts from face recognition: IR-50 on MS1MV2, converted as docs/weights.md
says.

Recipe: cross-entropy and 9 times (1 - cosine) of the mean over the channels of the last map, 7 x 7,
and the map of the action units of the true class; SGD 0.002, times 0.9 every 4 of 20 epochs, weight
decay 5e-4, 224 images, mirror images, shifts. Different: the authors' backbone is an ImageNet
ResNet-50 at 224 px; ellipses and sets of units are repaired (`facebench.action_maps`); `paper` has
the sets of the authors' code, on the same ellipses.

`tiny` is a small network from scratch with a map of 8 x 8. Expected on seeds 0 to 2, without and
with cues: accuracy 0.45 to 0.47 and 0.57 to 0.59, cosine 0.43 to 0.46 and 0.72 to 0.73. What such
cosines are worth there: a spot in the middle of every crop has 0.41, the mean map of each test
face's true class 0.64 on 8 x 8 cells, and the true map itself 0.88.

Cost: 25,340 steps; `tiny` a minute on two cores. Run here: `tiny` alone.

Published, AffectNet-7, without and with cues: accuracy 60.88 and 62.37 %, cosine 0.57 and 0.85.
"""

from facebench.config import base

EPOCHS, IMAGES, BATCH = 20, 283_901, 224


def get_config(arg=""):
    config = base()
    config.task.attention = True
    config.data.augment.flip = 0.5
    if arg in ("tiny", "tiny-plain"):
        config.entry = "au-cue-tiny"
        config.protocol = "expression/synthface/cues@1"
        config.model = {
            "build": "convnet",
            "widths": (32, 64),
            "blocks": (0, 2),
            "stem_stride": 4,
        }
        config.task.features = "spatial"
        config.task.cue = 9.0
        config.data.batch_size = 32
        config.data.augment.rotation = 0.1
        config.data.augment.scale = 0.05
        config.data.augment.shift = 0.03
        config.train.steps = 1000
        config.optim.lr = 4e-3
        config.optim.warmup = 30
        config.optim.weight_decay = 0.01
        config.optim.ema = 0.9
        if arg == "tiny-plain":
            config.entry = "au-cue-tiny-plain"
            config.task.cue = 0.0
        return config
    if arg not in ("", "paper"):
        raise ValueError(f"au_cue.py:{arg}: expected nothing, 'paper', 'tiny' or 'tiny-plain'")
    config.entry = "au-cue-ir50"
    config.protocol = "expression/affectnet/seven-cues@1"
    config.model = {
        "build": "ir",
        "variant": "50",
        "channels": "bgr",
        "weights": "weights/adaface-ir50-ms1mv2.safetensors",
    }
    config.task.features = "pooled"
    config.task.cue = 9.0
    if arg == "paper":
        config.entry = "au-cue-ir50-paper-code"
        config.task.cue_codebook = "paper_code"
    config.data.batch_size = BATCH
    config.data.augment.shift = 0.0625
    config.train.steps = EPOCHS * (IMAGES // BATCH)
    config.train.precision = "bfloat16"
    config.optim.name = "sgd"
    config.optim.lr = 2e-3
    config.optim.schedule = "steps"
    config.optim.milestones = (0.2, 0.4, 0.6, 0.8)
    config.optim.gamma = 0.9
    config.optim.weight_decay = 5e-4
    config.execution.workers = 8
    return config
