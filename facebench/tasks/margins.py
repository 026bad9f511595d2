"""The losses that recognition learns by: what each reads, its defaults, and how it is computed.

A config names one by ``task.loss`` and ``task.margin``; `OPTIONS` says which keywords each reads,
with the values of its paper or its authors' code. `margin_loss` and `triplet_loss` compute it from
what the network returned: cosines, and what else it had to add to them.

Where `cut` says so, the network returns its centres instead, and `cut_loss` computes the same loss
without an array of all cosines, its classes cut over the devices (`facebench.losses.sharded`): from
`MANY` classes on, and under Partial FC. Which of the two it is depends on the config and on the
number of classes, never on the devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from facebench.errors import UsageError, nearest
from facebench.losses import margin as losses
from facebench.losses import partial_fc, quality, sharded, triplet

Array = jax.Array

#: From so many classes on, they are cut over the devices.
MANY = sharded.MANY

_SCALE: dict[str, Any] = {"s": 64.0, "centres": 1}
_ALL = {**_SCALE, "smoothing": 0.0, "interclass_filtering_threshold": None}
_SOFTMAX = {**_ALL, "sample_rate": 1.0, "sample_groups": 8}
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
    "curricularface": {**_ALL, "m": 0.5, "t_alpha": 0.01},
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
    "sample_rate": (lambda v: _number(v) and 0 < v <= 1, "a share of the classes, 0 < rate <= 1"),
    "sample_groups": (_whole, "a whole number above 0"),
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
    if margin == "uniface":
        m, s, weight = chosen["m"], chosen["s"], chosen["negative_weight"]
        return losses.unified_loss(cosine, label, outputs["bias"], m, s, weight)
    s = _scale(margin, chosen, outputs)
    logits = _logits(margin, chosen, outputs, cosine, label, mask, axis_name, s)
    loss = losses.cross_entropy(logits, label, chosen["smoothing"])
    return _regularised(margin, chosen, outputs, loss)


def _scale(margin: str, chosen: Mapping[str, Any], outputs: Mapping[str, Array]) -> Any:
    """What cosines are multiplied by: a number, or [B] under SphereFace."""
    if margin == "sphereface":
        return quality.length(outputs["embedding"])
    return outputs.get("scale", chosen["s"])


def _regularised(
    margin: str, chosen: Mapping[str, Any], outputs: Mapping[str, Array], loss: Array
) -> Array:
    """The loss [B] with MagFace's term of the embedding's length."""
    if margin != "magface":
        return loss
    norm, at = quality.length(outputs["embedding"]), chosen["norm_range"]
    return loss + chosen["lambda_g"] * quality.magface_regulariser(norm, at)


def _logits(
    margin: str,
    chosen: Mapping[str, Any],
    outputs: Mapping[str, Array],
    cosine: Array,
    label: Array,
    mask: Array,
    axis_name: str | None,
    s: Any,
) -> Array:
    """[B, C] from cosine [B, C]; the own class's do not depend on the others'."""
    m: Any = chosen.get("m")
    threshold = chosen["interclass_filtering_threshold"]
    if margin in losses.MARGINS:
        kept = {k: chosen[k] for k in ("guard", "gradient") if k in chosen}
        return losses.margin_logits(cosine, label, margin, m, s, threshold=threshold, **kept)
    if threshold is not None:
        cosine = losses.filtered(cosine, label, threshold)
    if margin == "sphereface":
        damping = losses.sphereface_damping(outputs["step"])
        return losses.sphereface_logits(cosine, label, s, m, damping)
    if margin == "adaface":
        norm = quality.adaface_norm(outputs["embedding"])
        mean, std = outputs["norm_mean"], outputs["norm_std"]
        return quality.adaface_logits(cosine, label, norm, mean, std, m, chosen["h"], s)
    if margin == "magface":
        norm, at = quality.length(outputs["embedding"]), chosen["norm_range"]
        return quality.magface_logits(
            cosine, label, norm, s, chosen["guard"], at, chosen["margin_range"]
        )
    if margin == "curricularface":
        return quality.curricular_logits(cosine, label, outputs["t"], m, s)
    margins = quality.elastic_margins(outputs["normal"], m, chosen["sigma"])
    if margin.endswith("_plus"):
        own = losses.own_cosine(cosine, label)
        everywhere = (_gather(x, axis_name) for x in (margins, own, mask))
        margins = _mine(quality.hardest_first(*everywhere), len(label), axis_name)
    base, guard = margin.split("_")[1], chosen.get("guard", "linear")
    return losses.margin_logits(cosine, label, base, margins, s, guard=guard)


# -- classes that are cut over the devices ---------------------------------------------------------


def cut(chosen: Mapping[str, Any], classes: int) -> bool:
    """Whether so many classes are cut over the devices, for a margin's `options`.

    Not under softmax with a bias, UniFace and CurricularFace, nor with several centres per class.
    """
    if "sample_rate" not in chosen or chosen["centres"] > 1:
        return False
    return chosen["sample_rate"] < 1 or classes >= MANY


def check_sample(chosen: Mapping[str, Any], classes: int, axis_name: str | None) -> None:
    """Refuses to draw classes where that cannot be done or would mean something else.

    Args:
        chosen: of `options`.
        classes: C.
        axis_name: the mapped axis of the run, see `facebench.tasks.Spec`.

    Raises:
        UsageError: with several centres, with smoothing, under ``pmap``, or none to draw.
    """
    rate = chosen.get("sample_rate", 1.0)
    if rate == 1:
        return
    who = f"sample_rate is {rate}, but "
    if chosen["centres"] > 1:
        raise UsageError(f"{who}centres is {chosen['centres']}: only one per class can be drawn")
    if chosen["smoothing"]:
        raise UsageError(
            f"{who}smoothing is {chosen['smoothing']}, which spreads over all classes, drawn or "
            "not; set one of the two back"
        )
    if axis_name is not None:
        raise UsageError(
            f"{who}under config.execution.partition='pmap' a device sees only its own labels, and "
            "each would draw other classes; use partition='jit', or sample_rate 1"
        )
    groups = chosen["sample_groups"]
    each = sharded.columns(classes, groups) // groups
    if int(rate * each) < 1:
        raise UsageError(
            f"{who}of the {each} classes in each of sample_groups={groups} that share is none; "
            f"take a rate of at least {math.ceil(1000 / each) / 1000:g}, or fewer groups"
        )


def cut_loss(
    margin: str,
    chosen: Mapping[str, Any],
    outputs: Mapping[str, Array],
    label: Array,
    mask: Array,
    axis_name: str | None,
    classes: int,
) -> tuple[Array, Array]:
    """`margin_loss` where `cut` says so, and which examples are classified correctly.

    Args:
        margin: a name of `OPTIONS`.
        chosen: of `options`.
        outputs: what `partial_fc.Centres` gave, ``embedding`` [B, d], and what `RecognitionNet`
            added.
        label: [B].
        mask: [B], 0 for a padded example.
        axis_name: the mapped axis that holds the rest of the batch.
        classes: C.

    Returns:
        the loss [B] float32, and [B] bool: no other class (of those drawn) has a higher cosine.
    """

    def own_margin(own: Array) -> Array:
        """The margin on a column that is everybody's own class, before the scale."""
        first, one = jnp.zeros_like(label), jnp.ones_like(own) if margin == "sphereface" else 1.0
        own = own[:, None]
        return _logits(margin, chosen, outputs, own, first, mask, axis_name, one)[:, 0]

    threshold = chosen["interclass_filtering_threshold"]
    filters = threshold is not None
    found = partial_fc.softmax(
        outputs,
        label,
        own_margin,
        classes=classes,
        s=_scale(margin, chosen, outputs),
        rate=chosen["sample_rate"],
        groups=chosen["sample_groups"],
        smoothing=chosen["smoothing"],
        others=_OTHERS[margin == "adaface", filters],
        context=(jnp.float32(threshold),) if filters else (),
    )
    correct = (found.own > found.rival) & (label >= 0) & (label < classes)
    return _regularised(margin, chosen, outputs, found.loss), correct


def _without_near(cosine: Array, _: Array, threshold: Array) -> Array:
    """`losses.filtered`, of cosines to other classes."""
    return jnp.where(cosine > threshold, 0.0, cosine)


def _off_the_ends(cosine: Array, *_: Array) -> Array:
    return quality.adaface_cosine(cosine)


def _both(cosine: Array, own: Array, threshold: Array) -> Array:
    return quality.adaface_cosine(_without_near(cosine, own, threshold))


#: What becomes of cosines to other classes: (under AdaFace?, filtered?).
_OTHERS: dict[tuple[bool, bool], Callable[..., Array] | None] = {
    (False, False): None,
    (False, True): _without_near,
    (True, False): _off_the_ends,
    (True, True): _both,
}
