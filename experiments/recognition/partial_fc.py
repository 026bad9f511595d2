"""Partial FC: iResNet and CosFace over the two million people of WebFace42M.

    facebench run --config=experiments/recognition/partial_fc.py         iResNet-100
    facebench run --config=experiments/recognition/partial_fc.py:r50     iResNet-50
    facebench run --config=experiments/recognition/partial_fc.py:tiny    generated people, a minute

In each step the softmax is over the people of the batch and a drawn share of all others (An et
al., ICCVW 2021): a fifth of the 2,059,906 here, half of the few of `tiny`. The centres and momentum
are 8.4 GB, cut over all devices by class; cosines are made block by block, so the share saves work
and not memory (benchmarks/classifier_memory.md). What is drawn follows from the seed and the step,
on any number of devices. Centres that are not drawn still move by momentum and weight decay.

Data: WebFace42M in RecordIO (42,474,557 images of 112 px), `facebench data prepare face_recordio
--source=FOLDER`. The protocol is the draft of that data card under the id below; freeze it once.

Recipe: insightface's arcface_torch for WebFace42M. SGD 0.1 on 1,024 images, down a line to 0 in 20
epochs, weight decay 5e-4, gradient clipped at 5, mirror images, half precision, CosFace with s =
64 and m = 0.4. What differs is said in experiments/recognition/arcface.py.

Cost: 829,560 steps. Run here: `tiny` alone.

Published: TAR at FAR 1e-4 on IJB-C 97.70 %:
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
        config.entry = "partial-fc-tiny"
        config.task.sample_rate = 0.5
        config.protocol = "recognition/synthface/fractions@2"
        config.model = {"build": "iresnet", "variant": "tiny", "width": 16, "dim": 128}
        config.task.s = 16.0
        config.data.batch_size = 32
        config.train.steps = 400
        config.optim.lr = 0.05
        config.optim.warmup = 30
        return config
    config.entry = {"r50": "partial-fc-r50-webface42m", "r100": "partial-fc-r100-webface42m"}[arg]
    config.protocol = "recognition/face_recordio/webface42m-agedb-30@1"
    config.model = {"build": "iresnet", "variant": arg[1:]}
    config.task.s = 64.0
    config.task.sample_rate = 0.2
    config.data.batch_size = BATCH
    config.train.steps = EPOCHS * (IMAGES // BATCH)
    config.train.precision = "bfloat16"
    config.optim.lr = 0.1
    config.execution.workers = 8
    return config
