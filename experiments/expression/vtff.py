"""VTFF (Ma et al., 2021): an RGB and an LBP branch, fused by attention, on RAF-DB.

    facebench run --config=experiments/expression/vtff.py             two ResNet-18, 8 blocks of 768
    facebench run --config=experiments/expression/vtff.py:tiny        generated faces
    facebench run --config=experiments/expression/vtff.py:tiny-rgb    the RGB branch alone
    facebench run --config=experiments/expression/vtff.py:tiny-lbp    the LBP branch alone
    facebench run --config=experiments/expression/vtff.py:tiny-sum    the branches' sum

Data: RAF-DB's basic part, datasets/raf_db/README.md. The protocol is the draft of that data card
under the id below; freeze it once. The paper's images have 224 px; write 224 as the draft's
preprocess.size for maps of 7 x 7.

Recipe: no code was released, and what is known here of the paper is its structure. So the training
is that of experiments/expression/transfer.py, whose transformer has the same size. Without a file
of stored weights in config.model.weights this starts from nothing, as a baseline.

Cost: 7,669 steps. Run here: `tiny` and its ablations alone.

Published: 88.14 % on RAF-DB, 88.81 % on FERPlus, 61.85 % on AffectNet-7 (arXiv 2103.16854).
"""

from facebench.config import base

EPOCHS, IMAGES, BATCH = 40, 12_271, 64
ABLATIONS = {
    "tiny": {},
    "tiny-rgb": {"branches": "rgb"},
    "tiny-lbp": {"branches": "lbp"},
    "tiny-sum": {"fusion": "sum"},
}


def get_config(arg=""):
    config = base()
    if arg in ABLATIONS:
        config.entry = f"vtff-{arg}"
        config.protocol = "expression/synthface/hard@1"
        config.model = {
            "build": "vtff",
            "stem": "small",
            "widths": (32, 64, 128),
            "blocks": (0, 1, 1),
            "dim": 128,
            "depth": 2,
            "heads": 8,
            "mlp_ratio": 2.0,
            "position": "sincos2d",
            **ABLATIONS[arg],
        }
        config.data.batch_size = 32
        config.data.augment.rotation = 0.1
        config.data.augment.scale = 0.05
        config.data.augment.shift = 0.03
        config.train.steps = 1500
        config.optim.lr = 1e-3
        config.optim.warmup = 100
        config.optim.weight_decay = 0.05
        config.optim.clip_norm = 1.0
        config.optim.ema = 0.9
        return config
    if arg:
        raise ValueError(f"vtff.py:{arg}: expected nothing or one of {', '.join(ABLATIONS)}")
    config.entry = "vtff-r18"
    config.kind = "baseline"
    config.protocol = "expression/raf_db/basic@1"
    config.model = {"build": "vtff"}
    config.data.batch_size = BATCH
    config.data.augment.shift = 0.06
    config.data.augment.cutout = 0.6
    config.train.steps = EPOCHS * IMAGES // BATCH
    config.train.precision = "bfloat16"
    config.optim.name = "sgd"
    config.optim.lr = 0.01
    config.optim.schedule = "steps"
    config.optim.milestones = (15 / 40, 30 / 40)
    config.optim.weight_decay = 1e-4
    return config
