"""SwinFace's recogniser (Qin et al., 2023): Swin-T and CosFace on MS1MV2, before its other tasks.

    facebench run --config=experiments/recognition/swinface.py         Swin-T, patches of 2 px
    facebench run --config=experiments/recognition/swinface.py:tiny    generated people, a minute

Data: MS1MV2 as insightface packs it (5,822,653 images of 85,742 people, 112 px), `facebench data
prepare face_recordio --source=FOLDER`. The protocol is the draft of that data card under the id
below; freeze it once.

Recipe: the authors' first stage. AdamW 5e-4 on 512 images, 5 of 40 epochs of warm-up, half a
cosine down to a hundredth, weight decay 0.05, CosFace with s = 64 and m = 0.4, mirror images, half
precision. The second stage (expression, age and 40 attributes beside it) is not here. Different:
bfloat16 for float16, warm-up from 0 and not from 5e-7, and norms and biases do not decay.

`tiny` has three stages of one or two blocks and windows of 8 tokens, which divide 64 px.

Cost: 454,880 steps. Run here: `tiny` alone.

Published, for this stage: AgeDB-30 97.85 %, LFW 99.80 %, TAR at FAR 1e-4 on IJB-C 95.75 %
(leaderboards/reported/swin-t-ms1mv2.json); with all tasks 98.15, 99.87 and 96.73 %
(swinface.json).
"""

from facebench.config import base

EPOCHS, WARMUP, IMAGES, BATCH = 40, 5, 5_822_653, 512


def get_config(arg=""):
    config = base()
    config.task.margin = "cosface"
    config.task.m = 0.4
    config.task.features = "embedding"
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.05
    config.optim.final_lr = 0.01
    if arg == "tiny":
        config.entry = "swinface-tiny"
        config.protocol = "recognition/synthface/fractions@2"
        config.model = {
            "build": "swin",
            "patch": 4,
            "dim": 32,
            "depths": (2, 2, 1),
            "heads": (1, 2, 4),
            "window": 8,
            "embedding": 128,
        }
        config.task.s = 16.0
        config.data.batch_size = 32
        config.train.steps = 400
        config.optim.lr = 2e-3
        config.optim.warmup = 50
        return config
    if arg:
        raise ValueError(f"swinface.py:{arg}: expected nothing or 'tiny'")
    config.entry = "swin-t-ms1mv2"
    config.protocol = "recognition/face_recordio/ms1mv2-agedb-30@1"
    config.model = {"build": "swin"}
    config.task.s = 64.0
    config.data.batch_size = BATCH
    config.train.steps = EPOCHS * (IMAGES // BATCH)
    config.train.precision = "bfloat16"
    config.optim.lr = 5e-4
    config.optim.warmup = WARMUP * (IMAGES // BATCH)
    config.execution.workers = 8
    return config
