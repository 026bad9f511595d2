"""Margin softmax losses on cosines: NormFace, CosFace, ArcFace.

All compute on the cosine of the angle theta between a unit embedding and each unit class centre, in
float32, and scale by s before the cross-entropy:

- ``softmax``, s cos(theta): Wang et al., *NormFace*, ACM MM 2017, with a fixed scale;
- ``cosface``, s (cos(theta_y) - m): Wang et al., *CosFace*, CVPR 2018, equation 4;
- ``arcface``, s cos(theta_y + m): Deng et al., *ArcFace*, CVPR 2019, equation 3.

The target is found by comparing class indices with the label, never by a gather: its transpose, a
scatter, is what makes a compiler gather a classifier that is sharded over classes.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from facebench.errors import UsageError, nearest

Array = jax.Array

#: The margins by name, with the margin m of its paper (NormFace has none).
MARGINS = {"softmax": 0.0, "cosface": 0.35, "arcface": 0.5}

#: What ArcFace does past theta + m = pi.
GUARDS = ("linear", "none")

#: Below this 1 - cos^2 the slope of the sine is taken as zero (see `add_angle`).
_FLAT = 1e-7


def check(
    margin: str = "softmax",
    m: Array | float | None = None,
    s: float = 1.0,
    smoothing: float = 0.0,
) -> None:
    """Refuses what `margin_logits` and `cross_entropy` cannot compute with.

    Raises:
        UsageError: an unknown margin, an m for ``softmax`` or out of range, a scale that is not
            positive, a smoothing outside [0, 1).
    """
    if margin not in MARGINS:
        raise UsageError(f"margin is {margin!r}: {nearest(margin, MARGINS)}")
    if isinstance(m, (int, float)):
        if margin == "softmax" and m != 0:
            raise UsageError(f"margin 'softmax' has no m, found m={m}; use 'cosface' or 'arcface'")
        if not 0.0 <= m < math.pi:
            raise UsageError(f"margin m is {m}, expected 0 <= m < pi")
    if not s > 0:
        raise UsageError(f"scale s is {s}, expected a number above 0")
    if not 0.0 <= smoothing < 1.0:
        raise UsageError(f"label smoothing is {smoothing}, expected 0 <= smoothing < 1")


def is_target(label: Array, classes: int) -> Array:
    """[B, classes] bool, true where the column is the example's label; a label outside has none."""
    return label[:, None] == jnp.arange(classes, dtype=label.dtype)


def add_angle(cosine: Array, m: Array | float, guard: str = "linear") -> Array:
    """cos(theta + m) from cos(theta), with its true gradient sin(theta + m) / sin(theta).

    That gradient is unbounded at cos = +-1, where rounding also takes a cosine beyond 1. Where
    1 - cos^2 < 1e-7 (theta within .018 degrees of 0 or 180) the sine is held constant in the
    gradient, which is then cos(m): finite, and of the right sign for m < pi / 2.

    Past theta + m = pi, cos(theta + m) would rise again and push an example further from its class.

    Args:
        cosine: cos(theta), any shape.
        m: the angle to add, radians, in [0, pi); a number or an array that broadcasts.
        guard: what to do past theta + m = pi: ``linear``: cos(theta) - m sin(m) there, as ArcFace's
            authors first released it (slope 1; at the seam the function jumps down by
            cos(m) + m sin(m) - 1, .117 at m = .5, so that it never rises with theta);
            ``none``: the cosine as it stands, as in arcface_torch.

    Returns:
        An array of the broadcast shape.

    Raises:
        UsageError: an unknown guard.
    """
    if guard not in GUARDS:
        raise UsageError(f"guard is {guard!r}: {nearest(guard, GUARDS)}")
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
    return jnp.where(cosine > -jnp.cos(m), added, cosine - m * jnp.sin(m))


def margin_logits(
    cosine: Array,
    label: Array,
    margin: str = "arcface",
    m: Array | float | None = None,
    s: float = 64.0,
    guard: str = "linear",
) -> Array:
    """Scaled cosines with a margin on the target class.

    Args:
        cosine: [B, C] in [-1, 1]; computed on in float32.
        label: [B] integer in 0..C-1; one outside marks no class (all cosines are merely scaled).
        margin: ``softmax``, ``cosface`` or ``arcface``.
        m: the margin, a cosine (``cosface``) or radians (``arcface``), one number or one per
            example [B]; the paper's by default (.35, .5).
        s: the scale; the papers' 64 suits about 1e4 classes and more.
        guard: of ``arcface``, see `add_angle`.

    Returns:
        [B, C] float32 logits.

    Raises:
        UsageError: an unknown margin or guard, or a margin m for ``softmax``.
    """
    check(margin, m, s)
    m = MARGINS[margin] if m is None else m
    cosine = cosine.astype(jnp.float32)
    if margin == "softmax":
        return s * cosine
    target = is_target(label, cosine.shape[1])
    own = jnp.sum(jnp.where(target, cosine, 0.0), axis=1)  # [B]
    own = own - m if margin == "cosface" else add_angle(own, m, guard)
    return s * jnp.where(target, own[:, None], cosine)


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
