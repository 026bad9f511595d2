"""ArcFace (Deng et al., CVPR 2019): an iResNet and an additive angular margin, on MS1MV3.

    facebench run --config=experiments/recognition/arcface.py          iResNet-50
    facebench run --config=experiments/recognition/arcface.py:r100     iResNet-100
    facebench run --config=experiments/recognition/arcface.py:tiny     generated people, a minute

Data: MS1MV3 as insightface packs it (5,179,510 images of 93,431 people, 112 px), `facebench data
prepare face_recordio --source=FOLDER`. The protocol is the draft of that data card under the id
below; freeze it once.

Recipe: insightface's arcface_torch for one machine of 8 GPUs. SGD 0.1 on 1,024 images, down a line
to 0 in 20 epochs, weight decay 5e-4, gradient clipped at 5, mirror images, half precision, s = 64,
m = 0.5 with its straight-through gradient. Different here: the gradient's norm is clipped over all
parameters, there over the backbone's; norms and biases do not decay; bfloat16 for float16.

Cost: 101,160 steps. Run here: `tiny` alone.

Published: TAR at FAR 1e-4 on IJB-C 96.37 % (R50) and 96.85 % (R100):
leaderboards/reported/arcface-r50-ms1mv3.json and arcface-r100-ms1mv3.json. IJB-C is another
protocol (datasets/ijb/README.md), which the verification sets beside the training set do not
replace.
"""

from facebench.config import base

EPOCHS, IMAGES, BATCH = 20, 5_179_510, 1024


def get_config(arg="r50"):
    config = base()
    config.task.margin = "arcface"
    config.task.m = 0.5
    config.task.guard = "none"
    config.task.gradient = "straight_through"
    config.task.features = "embedding"
    config.optim.name = "sgd"
    config.optim.schedule = "linear"
    config.optim.weight_decay = 5e-4
    config.optim.clip_norm = 5.0
    if arg == "tiny":
        config.entry = "arcface-tiny"
        config.protocol = "recognition/synthface/fractions@2"
        config.model = {"build": "iresnet", "variant": "tiny", "width": 16, "dim": 128}
        config.task.s = 16.0
        config.data.batch_size = 32
        config.train.steps = 400
        config.optim.lr = 0.05
        config.optim.warmup = 30
        return config
    config.entry = {"r50": "arcface-r50-ms1mv3", "r100": "arcface-r100-ms1mv3"}[arg]
    config.protocol = "recognition/face_recordio/ms1mv3-agedb-30@1"
    config.model = {"build": "iresnet", "variant": arg[1:]}
    config.task.s = 64.0
    config.data.batch_size = BATCH
    config.train.steps = EPOCHS * (IMAGES // BATCH)
    config.train.precision = "bfloat16"
    config.optim.lr = 0.1
    config.execution.workers = 8
    return config
