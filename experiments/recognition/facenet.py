"""FaceNet (Schroff et al., CVPR 2015): semi-hard triplets, here on CASIA-WebFace.

    facebench run --config=experiments/recognition/facenet.py          Inception-ResNet-v1, 160 px
    facebench run --config=experiments/recognition/facenet.py:tiny     generated people, a minute

Data: CASIA-WebFace as insightface packs it (490,623 images of 10,572 people, 112 px, with
`lfw.bin`), `facebench data prepare face_recordio --source=FOLDER`. The protocol is the draft of
that data card under the id below with `"size": 160`, `"pairs": "list:lfw"` and `"convention":
"facenet-lfw"`; freeze it once. Faces are so enlarged from aligned crops of 112 px; the public code
cuts its own of 182 px.

Recipe: the public FaceNet code's for triplets. 45 people and 40 images of each in a draw, alpha
0.2 on squared distances of unit vectors of 128 numbers, AdaGrad 0.1, averaged weights (0.9999), no
decay. There 1,800 images are embedded, triplets chosen among them and trained on 90 images at a
time, 1,000 times an epoch; here a batch is the draw, and costs as many images as 20 of those. Its
negatives are any within the margin; these are semi-hard, as the paper has them. Mirror images and
shifts are its options. 1,800 images of 160 px do not fit one device: `--config.optim.accumulate=5`
mines within each of 5 parts of 9 people.

`tiny` is the same loss, batches of 8 people and 4 images, on a small convolutional network:
Inception-ResNet needs 75 px, the protocol has 64.

Cost: 25,000 steps. Run here: `tiny` alone.

Published: LFW 99.63 % by the paper's own network on 200 million private images
(leaderboards/reported/facenet.json); 0.9905 and 0.9965 by this network trained as a classifier on
CASIA-WebFace and VGGFace2 (facenet-irv1-casia.json, facenet-irv1-vggface2.json).
"""

from facebench.config import base

EPOCHS, EPOCH_SIZE, PEOPLE, EACH = 500, 1000 * 90, 45, 40


def get_config(arg=""):
    config = base()
    config.task.loss = "triplet"
    config.task.mining = "semi_hard"
    config.task.distance = "squared_l2"
    config.task.m = 0.2
    config.optim.name = "adagrad"
    config.optim.schedule = "constant"
    if arg == "tiny":
        config.entry = "facenet-tiny"
        config.protocol = "recognition/synthface/fractions@2"
        config.model = {
            "build": "convnet",
            "widths": (32, 64, 128),
            "blocks": (0, 1, 1),
            "stem_stride": 4,
        }
        config.data.batch_size = 32
        config.data.images_per_unit = 4
        config.data.augment.shift = 0.03
        config.train.steps = 400
        config.optim.lr = 0.02
        config.optim.ema = 0.9
        return config
    if arg:
        raise ValueError(f"facenet.py:{arg}: expected nothing or 'tiny'")
    config.entry = "facenet-irv1-casia"
    config.protocol = "recognition/face_recordio/casia-lfw-160@1"
    config.model = {"build": "inception_resnet", "embedding": 128, "dropout": 0.0}
    config.task.features = "embedding"
    config.data.batch_size = PEOPLE * EACH
    config.data.images_per_unit = EACH
    config.data.augment.shift = (182 / 160 - 1) / 2
    config.train.steps = EPOCHS * EPOCH_SIZE // (PEOPLE * EACH)
    config.train.precision = "bfloat16"
    config.optim.lr = 0.1
    config.optim.ema = 0.9999
    config.execution.workers = 8
    return config
