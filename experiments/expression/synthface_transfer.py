"""What a backbone that was trained on something else gives to expressions after a few faces each.

    facebench run --config=experiments/expression/synthface_transfer.py:ARGUMENT

`frozen_action_units`, `frozen_identity`: ridge regression on the features of the backbone as it is.
`adapted_action_units`, `adapted_identity`: trained further, ten times slower than its new head.
`scratch`: a baseline of the adapted ones, trained from its initialisation, all at one rate.
`random`, `pixels`: floors of the frozen ones, a backbone that was never trained and no backbone.

Twelve trials each: 1, 5, 10 and 25 faces of each expression, seeds 0 to 2. The backbone is that of
the boards' `convnet-s`, and its weights are those of two trials of theirs (docs/weights.md):

    facebench run --config=experiments/recognition/synthface_convnet.py --regime=1.0 --seed=0
    facebench run --config=experiments/action_units/synthface_convnet.py --regime=60 --seed=0
    facebench convert --output=weights --trial=runs/PROTOCOL/convnet-s/1.0-s0-...
    facebench convert --output=weights --trial=runs/PROTOCOL/convnet-s/60-s0-...
"""

from facebench.config import base

WEIGHTS = {
    "action_units": "weights/convnet-s-action_units-e321c213b4b6.safetensors",
    "identity": "weights/convnet-s-recognition-f3fa09e29cd0.safetensors",
}
FLOORS = {"random": ("convnet-s-random", {"features": "spatial"}), "pixels": ("ridge-pixels", {})}
ARGUMENTS = [*(f"{how}_{what}" for how in ("frozen", "adapted") for what in WEIGHTS), "scratch"]


def get_config(arg="adapted_action_units"):
    if arg not in ARGUMENTS and arg not in FLOORS:
        raise ValueError(
            f"synthface_transfer.py:{arg}: expected one of {', '.join([*ARGUMENTS, *FLOORS])}"
        )
    config = base()
    how, _, what = arg.partition("_")
    config.model = {
        "build": "convnet",
        "widths": (32, 64, 128),
        "blocks": (0, 1, 1),
        "stem_stride": 4,
    }
    if what:
        config.model.weights = WEIGHTS[what]
    ridge = {"build": "ridge", "label": "expression", "classes": 8}
    if how == "frozen" or arg in FLOORS:
        config.protocol = "expression/synthface/shots-frozen@1"
        config.entry, options = f"convnet-s-{what.replace('_', '-')}", {"features": "spatial"}
        if arg in FLOORS:
            config.kind = "floor"
            config.entry, options = FLOORS[arg]
        config.probe = ridge | options
        return config
    config.protocol = "expression/synthface/shots-adapted@1"
    config.task.features = "spatial"
    config.data.batch_size = 32
    config.data.augment.rotation = 0.1
    config.data.augment.scale = 0.05
    config.data.augment.shift = 0.03
    config.train.steps = 200
    config.optim.warmup = 20
    config.optim.weight_decay = 0.01
    config.optim.ema = 0.9
    config.optim.lr = 4e-3
    if how == "scratch":
        config.entry = "convnet-s-scratch"
        config.kind = "baseline"
        return config
    config.entry = f"convnet-s-{what.replace('_', '-')}"
    config.optim.lr = 4e-4
    config.optim.head_lr_factor = 10.0
    return config
