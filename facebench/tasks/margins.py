"""The losses that recognition learns by: what each reads, its defaults, and how it is computed.

A config names one by ``task.loss`` and ``task.margin``; `OPTIONS` says which keywords each reads,
with the values of its paper or its authors' code. `margin_loss` and `triplet_loss` compute it from
what the network returned: cosines, and what else it had to add to them.

AdaFace and CurricularFace know something of earlier batches. The network keeps it in the collection
``margin_stats``, so that it is carried, saved and restored like batch statistics. A step uses the
running numbers with its own batch blended in, as published. What the next step starts from is made
after the update, by `fold`, from sums over the whole global batch: the examples whose mask is 1, of
all devices and all accumulated parts. (With accumulation the blend that a part uses has seen that
part only.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench.errors import UsageError, nearest
from facebench.losses import margin as losses
from facebench.losses import quality, triplet

Array = jax.Array

#: The collection that running statistics live in.
STATS = "margin_stats"

_SCALE: dict[str, Any] = {"s": 64.0, "centres": 1}
_SOFTMAX = {**_SCALE, "smoothing": 0.0, "interclass_filtering_threshold": None}
_ANGLE = {**_SOFTMAX, "m": 0.5}
_COSINE = {**_SOFTMAX, "m": 0.35}

#: What each margin reads, with its defaults.
OPTIONS: dict[str, dict[str, Any]] = {
    "softmax_with_bias": {"smoothing": 0.0},
    "softmax": {**_SOFTMAX, "learn_s": False},
    "sphereface": {k: v for k, v in _SOFTMAX.items() if k != "s"} | {"m": 4},
    "cosface": _COSINE,
    "arcface": {**_ANGLE, "guard": "linear", "gradient": "true"},
    "combined": {**_SOFTMAX, "m": (1.0, 0.3, 0.2), "guard": "none", "gradient": "true"},
    "adaface": {**_SOFTMAX, "m": 0.4, "h": 0.333, "t_alpha": 0.01},
    "magface": {
        **(_SOFTMAX | {"guard": "easy", "lambda_g": 35.0}),
        **{"norm_range": (10.0, 110.0), "margin_range": (0.45, 0.8)},
    },
    "curricularface": {**_ANGLE, "t_alpha": 0.01},
    "elastic_arcface": {**_ANGLE, "sigma": 0.05, "guard": "none"},
    "elastic_arcface_plus": {**_ANGLE, "sigma": 0.0175, "guard": "none"},
    "elastic_cosface": {**_COSINE, "sigma": 0.05},
    "elastic_cosface_plus": {**_COSINE, "sigma": 0.02},
    "uniface": {**_SCALE, "m": 0.4, "negative_weight": 1.0},
}

#: What the triplet loss reads.
TRIPLET: dict[str, Any] = {"m": 0.2, "mining": "semi_hard", "distance": "squared_l2"}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _range(most: float) -> Callable[[Any], bool]:
    def inside(value: Any) -> bool:
        two = isinstance(value, Sequence) and len(value) == 2 and all(map(_number, value))
        return two and 0 < value[0] < value[1] < most

    return inside


#: What a value must be, and how to say so. The m of `combined` and of SphereFace are others.
_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "m": (lambda v: _number(v) and 0 <= v < math.pi, "0 <= m < pi"),
    "s": (lambda v: _number(v) and 0 < v < math.inf, "a number above 0"),
    "h": (lambda v: _number(v) and 0 < v < math.inf, "a number above 0"),
    "negative_weight": (lambda v: _number(v) and 0 < v < math.inf, "a number above 0"),
    "sigma": (lambda v: _number(v) and 0 <= v < math.inf, "a number, 0 or above"),
    "lambda_g": (lambda v: _number(v) and 0 <= v < math.inf, "a number, 0 or above"),
    "t_alpha": (lambda v: _number(v) and 0 <= v <= 1, "a number in [0, 1]"),
    "smoothing": (lambda v: _number(v) and 0 <= v < 1, "0 <= smoothing < 1"),
    "interclass_filtering_threshold": (
        lambda v: v is None or (_number(v) and 0 < v < 1),
        "a cosine above 0 and below 1",
    ),
    "centres": (_whole, "a whole number above 0"),
    "learn_s": (lambda v: isinstance(v, bool), "True or False"),
    "norm_range": (_range(math.inf), "(low, high) with 0 < low < high"),
    "margin_range": (_range(math.pi), "(low, high) with 0 < low < high < pi"),
}


def options(margin: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A margin's options: what was given, else its defaults.

    Args:
        margin: a name of `OPTIONS`, or ``triplet`` for that loss.
        given: keywords of the task; None stands for one that was not given.

    Raises:
        UsageError: an unknown margin; an option that it does not read, or out of its range.
    """
    if margin != "triplet" and margin not in OPTIONS:
        raise UsageError(f"margin is {margin!r}: {nearest(str(margin), OPTIONS)}")
    who = "loss 'triplet'" if margin == "triplet" else f"margin {margin!r}"
    known = TRIPLET if margin == "triplet" else OPTIONS[margin]
    chosen = dict(known)
    for name, value in given.items():
        if value is None:
            continue
        if name not in known:
            raise UsageError(
                f"{who} has no {name}, found {name}={value!r}; it reads {', '.join(sorted(known))}"
            )
        chosen[name] = value
    for name, value in chosen.items():
        if name == "m" and margin == "combined":
            continue
        right, said = _EXPECTED.get(name, (lambda _: True, ""))
        if name == "m" and margin == "sphereface":
            right, said = _EXPECTED["centres"]
        if not right(value):
            raise UsageError(f"{who}: {name} is {value!r}, expected {said}")
    if margin == "triplet":
        triplet.check(chosen["mining"], chosen["distance"], chosen["m"])
    elif margin in losses.MARGINS:
        losses.check(margin, **{k: v for k, v in chosen.items() if k in ("m", "guard", "gradient")})
    elif "guard" in chosen and chosen["guard"] not in losses.GUARDS:
        raise UsageError(f"guard is {chosen['guard']!r}: {nearest(chosen['guard'], losses.GUARDS)}")
    return chosen


def reads(margin: str) -> tuple[str, ...]:
    """What of a training batch the network has to see, for its statistics."""
    return {"adaface": ("mask",), "curricularface": ("label", "mask")}.get(margin, ())


class Running(nn.Module):
    """A running mean and spread of one number per example, in the collection `STATS`.

    Attributes:
        mean: to start from.
        std: to start from.
        t_alpha: weight of a batch.
        axis_name: the mapped axis to sum over.
    """

    mean: float
    std: float
    t_alpha: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, weight: Array | None) -> tuple[Array, Array]:
        """The mean and spread with the batch x [B] blended in; its sums wait for `fold`."""
        first = self.is_initializing()
        mean = self.variable(STATS, "mean", lambda: jnp.float32(self.mean))
        std = self.variable(STATS, "std", lambda: jnp.float32(self.std))
        zero = jnp.zeros((), jnp.float32)
        sums = self.variable(STATS, "sums", lambda: dict.fromkeys(quality.Moments._fields, zero))
        weight = jnp.ones(len(x), jnp.float32) if weight is None else weight
        found = quality.moments(x, weight, mean.value, None if first else self.axis_name)
        if not first:
            sums.value = {k: sums.value[k] + v for k, v in found._asdict().items()}
        return quality.blend(mean.value, std.value, found, self.t_alpha)


def fold(stats: Any, margin: str, t_alpha: float, step: Array) -> Any:
    """The collection `STATS` after an update: the batch's sums blended in, and taken back to 0.

    Args:
        stats: the collection, with sums over all parts of the batch.
        margin: which it belongs to.
        t_alpha: weight of the batch.
        step: the number of updates made.
    """
    if margin == "sphereface":
        return {**stats, "step": jnp.asarray(step, jnp.int32)}
    kept = stats["running"]
    sums = quality.Moments(**kept["sums"])
    mean, std = quality.blend(kept["mean"], kept["std"], sums, t_alpha)
    zeros = {k: jnp.zeros_like(v) for k, v in kept["sums"].items()}
    return {**stats, "running": {"mean": mean, "std": std, "sums": zeros}}


def triplet_loss(
    chosen: Mapping[str, Any],
    embedding: Array,
    label: Array,
    valid: Array,
    seed: Array | None,
    axis_name: str | None,
) -> Array:
    """The loss of each anchor [B], mined in the global batch.

    Args:
        chosen: of `options`.
        embedding: [B, d].
        label: [B].
        valid: [B], 0 for a padded example.
        seed: [B] uint32 for random triplets.
        axis_name: the mapped axis that holds the rest of the batch.
    """
    cost = triplet.triplet(
        *(_gather(x, axis_name) for x in (embedding, label, valid)),
        margin=chosen["m"],
        mining=chosen["mining"],
        distance=chosen["distance"],
        seed=None if seed is None else _gather(seed, axis_name),
    )
    # The mean over the global batch is over all valid anchors, as the scale of `triplet` takes it.
    return _mine(cost, len(label), axis_name)


def _gather(x: Array, axis_name: str | None) -> Array:
    """[N, ...] of all devices from this one's [B, ...]."""
    return jax.lax.all_gather(x, axis_name, tiled=True) if axis_name else x


def _mine(x: Array, rows: int, axis_name: str | None) -> Array:
    """This device's rows of [N, ...]."""
    if not axis_name:
        return x
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(axis_name) * rows, rows)


def margin_loss(
    margin: str,
    chosen: Mapping[str, Any],
    outputs: Mapping[str, Array],
    label: Array,
    mask: Array,
    axis_name: str | None,
) -> Array:
    """The loss of each example [B] float32.

    Args:
        margin: a name of `OPTIONS`.
        chosen: of `options`.
        outputs: ``cosine`` [B, C], ``embedding`` [B, d], and what `RecognitionNet` added.
        label: [B].
        mask: [B], 0 for a padded example.
        axis_name: the mapped axis that holds the rest of the batch.
    """
    cosine = outputs["cosine"]
    if margin == "softmax_with_bias":
        return losses.cross_entropy(cosine, label, chosen["smoothing"])
    m: Any = chosen.get("m")
    s: Any = chosen.get("s")
    if margin == "uniface":
        weight = chosen["negative_weight"]
        return losses.unified_loss(cosine, label, outputs["bias"], m, s, weight)
    threshold = chosen["interclass_filtering_threshold"]
    extra: Array | float = 0.0
    if margin in losses.MARGINS:
        kept = {k: chosen[k] for k in ("guard", "gradient") if k in chosen}
        s = outputs.get("scale", s)
        logits = losses.margin_logits(cosine, label, margin, m, s, threshold=threshold, **kept)
        return losses.cross_entropy(logits, label, chosen["smoothing"])
    if threshold is not None:
        cosine = losses.filtered(cosine, label, threshold)
    if margin == "sphereface":
        norm = quality.length(outputs["embedding"])
        damping = losses.sphereface_damping(outputs["step"])
        logits = losses.sphereface_logits(cosine, label, norm, m, damping)
    elif margin == "adaface":
        norm = quality.adaface_norm(outputs["embedding"])
        mean, std = outputs["norm_mean"], outputs["norm_std"]
        logits = quality.adaface_logits(cosine, label, norm, mean, std, m, chosen["h"], s)
    elif margin == "magface":
        norm, at = quality.length(outputs["embedding"]), chosen["norm_range"]
        logits = quality.magface_logits(
            cosine, label, norm, s, chosen["guard"], at, chosen["margin_range"]
        )
        extra = chosen["lambda_g"] * quality.magface_regulariser(norm, at)
    elif margin == "curricularface":
        logits = quality.curricular_logits(cosine, label, outputs["t"], m, s)
    else:
        margins = quality.elastic_margins(outputs["normal"], m, chosen["sigma"])
        if margin.endswith("_plus"):
            own = losses.own_cosine(cosine, label)
            everywhere = (_gather(x, axis_name) for x in (margins, own, mask))
            margins = _mine(quality.hardest_first(*everywhere), len(label), axis_name)
        base = margin.split("_")[1]
        logits = losses.margin_logits(
            cosine, label, base, margins, s, guard=chosen.get("guard", "linear")
        )
    return losses.cross_entropy(logits, label, chosen["smoothing"]) + extra
