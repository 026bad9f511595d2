"""AdaFace (Kim et al., CVPR 2022): a margin that follows the quality of the image, on MS1MV2.

    facebench run --config=experiments/recognition/adaface.py          IR-101
    facebench run --config=experiments/recognition/adaface.py:tiny     generated people, a minute

Data: MS1MV2 as insightface packs it (5,822,653 images of 85,742 people, 112 px), `facebench data
prepare face_recordio --source=FOLDER`. The protocol is the draft of that data card under the id
below; freeze it once. The authors leave out people with fewer than 5 images, which no protocol
here can say: all are trained on.

Recipe: SGD 0.1 on 512 images, a tenth of it at 12, 20 and 24 of 26 epochs, weight decay 5e-4 but
on norms, s = 64, m = 0.4, h = 0.333, a batch weighs 0.01 in the statistics of lengths, dropout
0.4.

Augmentation is only near. The authors do three things to an image, each with probability 0.2: cut
a part out and leave it in its place on black, jitter brightness, contrast and saturation by 0.5,
shrink and enlarge again by a factor of up to 5. Here colours are jittered in every image by a
fifth of that, and every image is blurred, by up to 1 px; parts are not cut out. Mirror images are
the same.

Cost: 295,672 steps. Run here: `tiny` alone. What it does with bad images is asked of
experiments/recognition/synthface_degraded.py.

Published: AgeDB-30 98.05 %, LFW 99.82 %, CFP-FP 98.49 %:
leaderboards/reported/adaface-r100-ms1mv2.json.
"""

from facebench.config import base

EPOCHS, IMAGES, BATCH = 26, 5_822_653, 512


def get_config(arg=""):
    config = base()
    config.task.margin = "adaface"
    config.task.m = 0.4
    config.task.h = 0.333
    config.task.t_alpha = 0.01
    config.task.features = "embedding"
    config.optim.name = "sgd"
    config.optim.schedule = "steps"
    config.optim.milestones = (12 / 26, 20 / 26, 24 / 26)
    config.optim.gamma = 0.1
    config.optim.weight_decay = 5e-4
    if arg == "tiny":
        config.entry = "adaface-tiny"
        config.protocol = "recognition/synthface/fractions@2"
        config.model = {"build": "ir", "variant": "tiny", "width": 16, "dim": 128}
        config.task.s = 16.0
        config.data.batch_size = 32
        config.train.steps = 400
        config.optim.lr = 0.05
        config.optim.warmup = 30
        return config
    if arg:
        raise ValueError(f"adaface.py:{arg}: expected nothing or 'tiny'")
    config.entry = "adaface-r101-ms1mv2"
    config.protocol = "recognition/face_recordio/ms1mv2-agedb-30@1"
    config.model = {"build": "ir", "variant": "101", "dialect": "adaface", "dropout": 0.4}
    config.task.s = 64.0
    config.data.batch_size = BATCH
    config.data.augment.brightness = 0.1
    config.data.augment.contrast = 0.1
    config.data.augment.saturation = 0.1
    config.data.augment.blur = 1.0
    config.train.steps = EPOCHS * (IMAGES // BATCH)
    config.train.precision = "bfloat16"
    config.optim.lr = 0.1
    config.execution.workers = 8
    return config
