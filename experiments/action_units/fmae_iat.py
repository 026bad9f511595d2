"""FMAE-IAT (Ning et al., 2024): action units from features that are driven to forget the person.

    facebench run --config=experiments/action_units/fmae_iat.py            ViT-L, lambda 2
    facebench run --config=experiments/action_units/fmae_iat.py:b          ViT-B
    facebench run --config=experiments/action_units/fmae_iat.py:plain      FMAE: ViT-L, no adversary
    facebench run --config=experiments/action_units/fmae_iat.py:tiny       generated people, no IAT
    facebench run --config=experiments/action_units/fmae_iat.py:tiny-iat   and with it
    facebench run --config=experiments/action_units/fmae_iat.py:tiny-multi the gradient not turned
    facebench run --config=experiments/action_units/fmae_iat.py:tiny-given the head given the labels

Data: BP4D, `facebench data prepare bp4d --source=FOLDER`, tested on its part p1. The protocol is
the draft of that data card, with loose crops, `{"crop": "box", "margin": 0.05, "size": 224}`.
It starts from a masked autoencoder of faces: `facebench convert` the authors' checkpoint, and name
the file by `--config.model.weights=FILE`.

Recipe: the authors'. AdamW with betas 0.9 and 0.999, decay 0.05, lr 5e-4 for 256 images (2e-4
without the adversary), that falls by 0.65 per layer, 3 of 30 epochs of warm-up (2 of 20), half a
cosine to 1e-6, stochastic depth 0.1, batches of 64, the mean of the patch tokens and then a norm,
no weights in the loss. The adversary is one linear layer on these features, a yes or no per
person, and its gradient comes back times -2. Different: their random augmentation (m9) is light,
contrast, saturation, turns and shifts here, and their erasing a grey square.

`tiny` is a small convolutional network on generated people who have habits in training: who it is
tells nine times in ten what the face does. It has the asymmetric loss and weights, by which a short
training says yes at all, its lambda is 0.1 (from 0.3 on it forgets the face, too), and all read the
map. `tiny-multi` is the control that learns the person as a second task. `tiny-given` is not in the
paper: its identity head is given the action units' labels, so that only what else tells the person
is driven out.
`--config.task.adversary=L` sets another lambda; 0 watches and does nothing. How well people are
read from what a finished trial trained says

    python benchmarks/identity_probe.py runs/PROTOCOL/ENTRY/TRIAL

Cost: 45,090 steps. Run here: `tiny` alone.

Published: F1 67.1 % on BP4D, 66.6 % without the adversary, epoch and threshold chosen on the test
parts (leaderboards/reported/fmae-iat-vit-l.json, fmae-vit-l.json); identities read from the
features, 83 % before and 28 % after.
"""

from facebench.config import base

FRAMES, BATCH = 96_216, 64  # of parts p2 and p3, as the authors count them
TINY = {"tiny": None, "tiny-iat": 0.1, "tiny-multi": -0.1, "tiny-given": 0.1}
SIZES = {"b": (768, 12, 12), "l": (1024, 24, 16)}


def get_config(arg=""):
    config = base()
    config.task.features = "pooled"
    config.optim.name = "adamw"
    if arg in TINY:
        config.entry = f"fmae-{arg}" if arg != "tiny" else "fmae-tiny"
        config.kind = "baseline"
        config.protocol = "action_units/synthface/linked@1"
        config.model = {
            "build": "convnet",
            "widths": (32, 64, 128),
            "blocks": (0, 1, 1),
            "stem_stride": 4,
        }
        config.task = {"features": "spatial", "loss": "asymmetric", "weights": "inverse"}
        if TINY[arg] is not None:
            config.task.adversary = TINY[arg]
        if arg == "tiny-given":
            config.task.conditional = True
        config.data.batch_size = 32
        config.train.steps = 1000
        config.optim.lr = 4e-3
        config.optim.warmup = 30
        config.optim.weight_decay = 0.01
        config.optim.ema = 0.9
        return config
    size, _, plain = arg.partition("-")
    if size == "plain":
        size, plain = "l", "plain"
    if (size or "l") not in SIZES or plain not in ("", "plain"):
        raise ValueError(f"fmae_iat.py:{arg}: expected l, b, plain, b-plain, {', '.join(TINY)}")
    dim, depth, heads = SIZES[size or "l"]
    config.entry = f"fmae{'' if plain else '-iat'}-vit-{size or 'l'}"
    config.protocol = "action_units/bp4d/p1@1"
    config.model = {
        "build": "vit",
        "patch": 16,
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "pool": "fc_norm",
        "drop_path": 0.1,
        "weights": "",
    }
    epochs, warmup, lr = (20, 2, 2e-4) if plain else (30, 3, 5e-4)
    if not plain:
        config.task.adversary = 2.0
    config.data.batch_size = BATCH
    config.data.augment.brightness = 0.4
    config.data.augment.contrast = 0.4
    config.data.augment.saturation = 0.4
    config.data.augment.rotation = 0.2
    config.data.augment.shift = 0.05
    config.data.augment.cutout = 0.3
    config.train.steps = epochs * (FRAMES // BATCH)
    config.train.precision = "bfloat16"
    config.optim.lr = lr * BATCH / 256
    config.optim.final_lr = 1e-6 / config.optim.lr
    config.optim.warmup = warmup * (FRAMES // BATCH)
    config.optim.weight_decay = 0.05
    config.optim.layer_decay = 0.65
    config.execution.workers = 8
    return config
