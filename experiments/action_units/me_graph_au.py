"""ME-GraphAU (Luo et al., IJCAI 2022), first stage: a node per action unit, a graph per face.

    facebench run --config=experiments/action_units/me_graph_au.py             Swin-T
    facebench run --config=experiments/action_units/me_graph_au.py:tiny        generated people
    facebench run --config=experiments/action_units/me_graph_au.py:tiny-linear its loss, no graph

Data: BP4D, `facebench data prepare bp4d --source=FOLDER`, tested on its part p1. The protocol is
the draft of that data card; freeze it once. It starts from weights of ImageNet: `facebench convert`
them, and name the file by `--config.model.weights=FILE`.

Recipe: the authors'. AdamW 1e-4 with betas 0.9 and 0.999, decay 5e-4, batches of 64, 20 epochs,
half a cosine, mirror images and shifts of 256 to 224 px, the asymmetric loss with weights inverse
to how often an action unit is there, 4 neighbours, nodes of half the channels. Their second stage
(features of edges, a gated graph network and a loss of four kinds of edge, lambda 0.05) is not
here. Different: bfloat16 for float32.

`tiny` is the head, its loss and its weights on a small convolutional network.

Cost: 30,060 steps. Run here: `tiny` alone.

Published, with the second stage: F1 65.6 % on BP4D (leaderboards/reported/me-graphau-swin-t.json).
"""

from facebench.config import base

FRAMES, BATCH, EPOCHS = 96_216, 64, 20  # frames of parts p2 and p3, as the authors count them


def get_config(arg=""):
    config = base()
    config.task.head = "linear" if arg == "tiny-linear" else "graph"
    config.task.loss = "asymmetric"
    config.task.weights = "inverse"
    config.optim.name = "adamw"
    if arg in ("tiny", "tiny-linear"):
        config.entry = "me-graphau-tiny" if arg == "tiny" else "asymmetric-tiny"
        config.kind = "baseline"
        config.protocol = "action_units/synthface/subjects@2"
        config.model = {
            "build": "convnet",
            "widths": (32, 64, 128),
            "blocks": (0, 1, 1),
            "stem_stride": 4,
        }
        config.data.batch_size = 32
        config.train.steps = 1000
        config.optim.lr = 4e-3
        config.optim.warmup = 30
        config.optim.weight_decay = 0.01
        config.optim.ema = 0.9
        return config
    if arg:
        raise ValueError(f"me_graph_au.py:{arg}: expected nothing, 'tiny' or 'tiny-linear'")
    config.entry = "me-graphau-swin-t-stage1"
    config.protocol = "action_units/bp4d/p1@1"
    config.model = {"build": "swin", "patch": 4, "embedding": 0, "weights": ""}
    config.task.neighbours = 4
    config.task.nodes = 384
    config.data.batch_size = BATCH
    config.data.augment.shift = 0.07
    config.train.steps = EPOCHS * (FRAMES // BATCH)
    config.train.precision = "bfloat16"
    config.optim.lr = 1e-4
    config.optim.weight_decay = 5e-4
    config.execution.workers = 8
    return config
