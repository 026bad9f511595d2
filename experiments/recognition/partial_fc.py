"""iResNet and CosFace over the two million people of WebFace42M, on all classes: no Partial FC yet.

    facebench run --config=experiments/recognition/partial_fc.py         iResNet-100
    facebench run --config=experiments/recognition/partial_fc.py:r50     iResNet-50
    facebench run --config=experiments/recognition/partial_fc.py:tiny    generated people, a minute

Partial FC (An et al., ICCVW 2021) takes in each step the classes of the batch and a drawn share of
the others. The recognition task has no such option: what runs here is its peer, the softmax over
all 2,059,906 classes, and the entries are named so. The centres and their momentum are 8.4 GB, the
cosines of 1,024 images as much again, cut over the devices by class.

Data: WebFace42M in RecordIO (42,474,557 images of 112 px), `facebench data prepare face_recordio
--source=FOLDER`. The protocol is the draft of that data card under the id below; freeze it once.

Recipe: insightface's arcface_torch for WebFace42M. SGD 0.1 on 1,024 images, down a line to 0 in 20
epochs, weight decay 5e-4, gradient clipped at 5, mirror images, half precision, CosFace with s =
64 and m = 0.4. What differs is said in experiments/recognition/arcface.py.

Cost: 829,560 steps. Run here: `tiny` alone.

Published, with a fifth of the classes in each step: TAR at FAR 1e-4 on IJB-C 97.70 %:
leaderboards/reported/partialfc-0.2-r100-webface42m.json.
"""

from facebench.config import base

EPOCHS, IMAGES, BATCH = 20, 42_474_557, 1024


def get_config(arg="r100"):
    config = base()
    config.task.margin = "cosface"
    config.task.m = 0.4
    config.task.features = "embedding"
    config.optim.name = "sgd"
    config.optim.schedule = "linear"
    config.optim.weight_decay = 5e-4
    config.optim.clip_norm = 5.0
    if arg == "tiny":
        config.entry = "cosface-tiny"
        config.protocol = "recognition/synthface/fractions@2"
        config.model = {"build": "iresnet", "variant": "tiny", "width": 16, "dim": 128}
        config.task.s = 16.0
        config.data.batch_size = 32
        config.train.steps = 400
        config.optim.lr = 0.05
        config.optim.warmup = 30
        return config
    config.entry = {"r50": "cosface-r50-webface42m", "r100": "cosface-r100-webface42m"}[arg]
    config.protocol = "recognition/face_recordio/webface42m-agedb-30@1"
    config.model = {"build": "iresnet", "variant": arg[1:]}
    config.task.s = 64.0
    config.data.batch_size = BATCH
    config.train.steps = EPOCHS * (IMAGES // BATCH)
    config.train.precision = "bfloat16"
    config.optim.lr = 0.1
    config.execution.workers = 8
    return config
