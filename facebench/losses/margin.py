"""Margin softmax losses on cosines: NormFace, CosFace, ArcFace, combined, SphereFace, UniFace.

All compute on the cosine of the angle theta between a unit embedding and each unit class centre, in
float32, and scale by s before the cross-entropy:

- ``softmax``, s cos(theta): Wang et al., *NormFace*, ACM MM 2017;
- ``cosface``, s (cos(theta_y) - m): Wang et al., *CosFace*, CVPR 2018, equation 4;
- ``arcface``, s cos(theta_y + m): Deng et al., *ArcFace*, CVPR 2019, equation 3;
- ``combined``, s (cos(m1 theta_y + m2) - m3): the same paper, equation 4;
- SphereFace (`sphereface_logits`), UniFace (`unified_loss`), sub-centres (`best_centre`);
- margins that follow an example's quality or difficulty are in `facebench.losses.quality`.

The target is found by comparing class indices with the label, never by a gather: its transpose, a
scatter, is what makes a compiler gather a classifier that is sharded over classes.

Where this differs from the released implementations, on purpose:

- the gradient of an added angle is the true one, sin(theta + m) / sin(theta), unless
  ``gradient="straight_through"`` asks for arcface_torch's, which is 1;
- it is finite at cos = +-1, where those with a true gradient give infinity or NaN;
- ``combined`` means all of m1, m2, m3; arcface_torch drops m1 and m2 as soon as m3 > 0;
- `cross_entropy` is not bounded: arcface_torch reports -log(max(p, 1e-30)), at most 69.08, beside
  the gradient of the unbounded loss; here a stuck run shows how badly it is stuck;
- `unified_loss` is softplus everywhere; UniFace's code clamps its exponents to +-s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from facebench.errors import UsageError, nearest

Array = jax.Array

#: The margins of `margin_logits`, with the margin m of each paper (NormFace has none).
MARGINS: dict[str, Any] = {
    "softmax": 0.0,
    "cosface": 0.35,
    "arcface": 0.5,
    "combined": (1.0, 0.3, 0.2),
}

#: What is done where adding an angle would go wrong, see `add_angle`.
GUARDS = ("linear", "none", "easy")

#: The derivative of an angular margin: its own, or 1.
GRADIENTS = ("true", "straight_through")

#: Below this 1 - cos^2 the slope of the sine is taken as zero (see `add_angle`).
_FLAT = 1e-7


def _named(field: str, value: Any, names: Sequence[str]) -> None:
    if value not in names:
        raise UsageError(f"{field} is {value!r}: {nearest(str(value), names)}")


def check(
    margin: str = "softmax",
    m: Any = None,
    s: Array | float = 1.0,
    smoothing: float = 0.0,
    guard: str = "linear",
    gradient: str = "true",
    threshold: float | None = None,
) -> None:
    """Refuses what `margin_logits` and `cross_entropy` cannot compute with.

    Raises:
        UsageError: an unknown margin, guard or gradient; an m for ``softmax``, out of range, or not
            three numbers for ``combined``; a guard of an angle that is multiplied; a scale that is
            not positive; a smoothing outside [0, 1); a threshold outside (0, 1).
    """
    _named("margin", margin, tuple(MARGINS))
    _named("guard", guard, GUARDS)
    _named("gradient", gradient, GRADIENTS)
    if margin == "combined":
        m1, m2, m3 = _three(m)
        if m1 < 1 or not 0.0 <= m2 < math.pi or m3 < 0:
            raise UsageError(f"margin m is {(m1, m2, m3)}, expected m1 >= 1, 0 <= m2 < pi, m3 >= 0")
        if m1 != 1 and guard != "none":
            raise UsageError(f"guard is {guard!r}, but m1 theta + m2 with m1={m1} has only 'none'")
    elif isinstance(m, (int, float)):
        if margin == "softmax" and m != 0:
            raise UsageError(f"margin 'softmax' has no m, found m={m}; use 'cosface' or 'arcface'")
        if not 0.0 <= m < math.pi:
            raise UsageError(f"margin m is {m}, expected 0 <= m < pi")
    if isinstance(s, (int, float)) and not s > 0:
        raise UsageError(f"scale s is {s}, expected a number above 0")
    if not 0.0 <= smoothing < 1.0:
        raise UsageError(f"label smoothing is {smoothing}, expected 0 <= smoothing < 1")
    if threshold is not None and not 0.0 < threshold < 1.0:
        raise UsageError(f"threshold is {threshold}, a cosine with 0 < threshold < 1 was expected")


def _three(m: Any) -> tuple[float, float, float]:
    values = MARGINS["combined"] if m is None else m
    if not isinstance(values, Sequence) or len(values) != 3:
        raise UsageError(f"margin m is {m!r}, expected (m1, m2, m3) for margin 'combined'")
    m1, m2, m3 = (float(value) for value in values)
    return m1, m2, m3


def is_target(label: Array, classes: int) -> Array:
    """[B, classes] bool, true where the column is the example's label; a label outside has none."""
    return label[:, None] == jnp.arange(classes, dtype=label.dtype)


def own_cosine(cosine: Array, label: Array) -> Array:
    """[B] the label's column of cosine [B, C]; 0 where the label is outside 0..C-1."""
    return jnp.sum(jnp.where(is_target(label, cosine.shape[1]), cosine, 0.0), axis=1)


def best_centre(cosine: Array, centres: int) -> Array:
    """Sub-centre ArcFace (Deng et al., ECCV 2020, section 3.2): the nearest of a class's K centres.

    Args:
        cosine: [B, C K]; columns c K .. c K + K - 1 are of class c.
        centres: K.

    Returns:
        [B, C], the largest of each class's K; the gradient reaches that one alone.
    """
    return cosine.reshape(len(cosine), -1, centres).max(axis=2)


def add_angle(cosine: Array, m: Array | float, guard: str = "linear") -> Array:
    """cos(theta + m) from cos(theta), with its true gradient sin(theta + m) / sin(theta).

    That gradient is unbounded at cos = +-1, where rounding also takes a cosine beyond 1. Where
    1 - cos^2 < 1e-7 (theta within .018 degrees of 0 or 180) the sine is held constant in the
    gradient, which is then cos(m): finite, and of the right sign for m < pi / 2.

    Past theta + m = pi, cos(theta + m) would rise again and push an example further from its class.

    Args:
        cosine: cos(theta), any shape.
        m: the angle to add, radians, in [0, pi); a number or an array that broadcasts, which gets
            its gradient too.
        guard: what to do past theta + m = pi: ``linear``: cos(theta) - m sin(m) there, as ArcFace's
            authors first released it and as others call the hard margin (slope 1; at the seam the
            function jumps down by cos(m) + m sin(m) - 1, .117 at m = .5, so that it never rises
            with theta); ``none``: the cosine as it stands, as in arcface_torch. ``easy``: the
            margin is added only where cos(theta) > 0, and cos(theta) is left as it is elsewhere.

    Returns:
        An array of the broadcast shape.

    Raises:
        UsageError: an unknown guard.
    """
    _named("guard", guard, GUARDS)
    squared = (1.0 - cosine) * (1.0 + cosine)  # Exact near +-1, where 1 - cosine**2 is not.
    steep = squared > _FLAT
    sine = jnp.where(
        steep,
        jnp.sqrt(jnp.where(steep, squared, 1.0)),
        jnp.sqrt(jnp.maximum(jax.lax.stop_gradient(squared), 0.0)),
    )
    added = cosine * jnp.cos(m) - sine * jnp.sin(m)
    if guard == "none":
        return added
    if guard == "easy":
        return jnp.where(cosine > 0, added, cosine)
    return jnp.where(cosine > -jnp.cos(m), added, cosine - m * jnp.sin(m))


def _linear(at: Array, value: Array, slope: Array | float) -> Array:
    """`value`, with `slope` as its derivative by `at`."""
    at_rest = jax.lax.stop_gradient((at, value, slope))
    return at_rest[1] + at_rest[2] * (at - at_rest[0])


def multiply_angle(cosine: Array, m1: float, m2: float = 0.0) -> Array:
    """cos(m1 theta + m2) from cos(theta), for any m1.

    The gradient is m1 sin(m1 theta + m2) / sin(theta) with sin(theta) taken as at least 3.2e-4, so
    at most 3162 m1: unbounded in the formula, unless m1 is a whole number and m2 = 0.
    """
    sine = jnp.sqrt(jnp.maximum((1.0 - cosine) * (1.0 + cosine), 0.0))
    angle = m1 * jnp.arctan2(sine, cosine) + m2
    slope = m1 * jnp.sin(angle) / jnp.maximum(sine, math.sqrt(_FLAT))
    return _linear(cosine, jnp.cos(angle), slope)


def sphere_angle(cosine: Array, m: int = 4) -> Array:
    """psi(theta) = (-1)^k cos(m theta) - 2k with k = floor(m theta / pi).

    Liu et al., *SphereFace*, CVPR 2017, equation 7: cos(m theta) carried on downwards, so that it
    falls from 1 to 1 - 2m over theta in [0, pi]. cos(m theta) is a polynomial of cos(theta), whose
    true gradient is at most m^2 everywhere.
    """
    before, now = jnp.ones_like(cosine), cosine
    for _ in range(m - 1):
        before, now = now, 2.0 * cosine * now - before
    turns = jnp.asarray([math.cos(math.pi * k / m) for k in range(1, m)], cosine.dtype)
    k = jnp.sum(cosine[..., None] <= turns, axis=-1)
    return jnp.where(k % 2 == 0, now, -now) - 2.0 * k


def margin_cosine(
    own: Array,
    margin: str = "arcface",
    m: Any = None,
    guard: str = "linear",
    gradient: str = "true",
) -> Array:
    """What a margin makes of the cosine with the example's own class.

    Args:
        own: cos(theta_y), any shape.
        margin: a name of `MARGINS`.
        m: as in `margin_logits`.
        guard: of ``arcface`` and ``combined``, see `add_angle`.
        gradient: ``true``, or ``straight_through``: the derivative is 1, as in arcface_torch.
    """
    check(margin, m, guard=guard, gradient=gradient)
    m = MARGINS[margin] if m is None else m
    if margin == "softmax":
        return own
    if margin == "cosface":
        return own - m
    if margin == "arcface":
        made = add_angle(own, m, guard)
    else:
        m1, m2, m3 = _three(m)
        made = (add_angle(own, m2, guard) if m1 == 1 else multiply_angle(own, m1, m2)) - m3
    return made if gradient == "true" else _linear(own, made, 1.0)


def with_own(cosine: Array, label: Array, own: Array, s: Array | float) -> Array:
    """Logits [B, C]: s times cosine [B, C] with `own` [B] in the label's column."""
    return s * jnp.where(is_target(label, cosine.shape[1]), own[:, None], cosine)


def filtered(cosine: Array, label: Array, threshold: float) -> Array:
    """Cosine [B, C] with those of other classes that exceed `threshold` set to 0, gradient too.

    So arcface_torch keeps centres that are suspiciously near, of the same person under two labels,
    from being pushed away; their zero stays in the softmax's sum.
    """
    near = (cosine > threshold) & ~is_target(label, cosine.shape[1])
    return jnp.where(near, 0.0, cosine)


def margin_logits(
    cosine: Array,
    label: Array,
    margin: str = "arcface",
    m: Any = None,
    s: Array | float = 64.0,
    guard: str = "linear",
    gradient: str = "true",
    threshold: float | None = None,
) -> Array:
    """Scaled cosines with a margin on the target class.

    Args:
        cosine: [B, C] in [-1, 1]; computed on in float32.
        label: [B] integer in 0..C-1; one outside marks no class (all cosines are merely scaled).
        margin: ``softmax``, ``cosface``, ``arcface`` or ``combined``.
        m: the margin, a cosine (``cosface``), radians (``arcface``), one number or one per
            example [B], or three numbers (``combined``); the paper's by default.
        s: the scale; the papers' 64 suits about 1e4 classes and more.
        guard: of ``arcface`` and ``combined``, see `add_angle`.
        gradient: ``true`` or ``straight_through``, see `margin_cosine`.
        threshold: cosines of other classes above it are set to 0, see `filtered`; None for no such
            filter.

    Returns:
        [B, C] float32 logits.

    Raises:
        UsageError: an unknown margin, guard or gradient, or a margin m for ``softmax``.
    """
    check(margin, m, s, guard=guard, gradient=gradient, threshold=threshold)
    cosine = cosine.astype(jnp.float32)
    if threshold is not None:
        cosine = filtered(cosine, label, threshold)
    if margin == "softmax":
        return s * cosine
    own = margin_cosine(own_cosine(cosine, label), margin, m, guard, gradient)
    return with_own(cosine, label, own, s)


def sphereface_logits(
    cosine: Array, label: Array, norm: Array, m: int = 4, damping: Array | float = 5.0
) -> Array:
    """SphereFace (Liu et al., CVPR 2017, equation 7): the length of the embedding is the scale.

    The target is |x| (damping cos(theta) + psi(theta)) / (1 + damping), the others |x| cos(theta);
    psi is `sphere_angle`. Training starts with a large damping, see `sphereface_damping`.

    Args:
        cosine: [B, C].
        label: [B].
        norm: |x|, [B]; it gets its gradient.
        m: the factor of the angle, a whole number above 0.
        damping: lambda, not negative; the paper ends at 5.

    Returns:
        [B, C] float32 logits.
    """
    cosine, norm = cosine.astype(jnp.float32), norm.astype(jnp.float32)
    own = own_cosine(cosine, label)
    own = own + (sphere_angle(own, m) - own) / (1.0 + damping)
    return with_own(cosine, label, own, norm[:, None])


def sphereface_damping(step: Array | int) -> Array:
    """max(5, 1000 / (1 + .12 step)), the damping in the authors' training of `step` updates."""
    return jnp.maximum(5.0, 1000.0 / (1.0 + 0.12 * jnp.asarray(step, jnp.float32)))


def unified_loss(
    cosine: Array,
    label: Array,
    bias: Array | float,
    m: float = 0.4,
    s: float = 64.0,
    negative_weight: float = 1.0,
) -> Array:
    """UniFace: one threshold between all cosines of a class and all others.

    softplus(-(s (cos(theta_y) - m) - b)) + l * sum over j != y of softplus(s cos(theta_j) - b)
    (Zhou et al., *UniFace: Unified Cross-Entropy Loss*, ICCV 2023).

    Args:
        cosine: [B, C]; computed on in float32.
        label: [B]; an example with a label outside has no first term.
        bias: b, one learnt number that all classes share; starts at ln(10 C).
        m: the margin, a cosine.
        s: the scale.
        negative_weight: l, of the other classes.

    Returns:
        [B] float32, in nats; its gradient is bounded by s in every cosine.
    """
    cosine = cosine.astype(jnp.float32)
    target = is_target(label, cosine.shape[1])
    same = jnp.where(target, jax.nn.softplus(bias - s * (cosine - m)), 0.0)
    others = jnp.where(target, 0.0, jax.nn.softplus(s * cosine - bias))
    return same.sum(axis=1) + negative_weight * others.sum(axis=1)


def cross_entropy(logits: Array, label: Array, smoothing: float = 0.0) -> Array:
    """Softmax cross-entropy per example, in float32, without a gather.

    With smoothing e the target distribution is (1 - e) on the label plus e / C on every class
    (Szegedy et al., *Rethinking the Inception Architecture*, CVPR 2016, section 7).

    Args:
        logits: [B, C].
        label: [B] integer; an example with a label outside 0..C-1 costs 0, with gradient 0.
        smoothing: e in [0, 1).

    Returns:
        [B] float32, in nats.

    Raises:
        UsageError: `smoothing` outside [0, 1).
    """
    check(smoothing=smoothing)
    logits = logits.astype(jnp.float32)
    classes = logits.shape[1]
    normaliser = jax.nn.logsumexp(logits, axis=1)
    own = jnp.sum(jnp.where(is_target(label, classes), logits, 0.0), axis=1)
    loss = normaliser - (1.0 - smoothing) * own - smoothing * logits.mean(axis=1)
    return jnp.where((label >= 0) & (label < classes), loss, 0.0)
