"""Losses on the error of landmark coordinates.

A point loss here is an elementwise function of an error e = prediction - target, in whatever unit
the caller measures (its parameters are in that unit too). `points_loss` applies one to points and
means over the visible ones of each example. All are even in e and have gradient 0 at e = 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from facebench import plugins
from facebench.errors import UsageError, nearest

Array = jax.Array


def _size(error: Array) -> Array:
    """|e| with slope 0 at e = 0; jnp.abs has slope 1 there, and would push a perfect point off."""
    return error * jnp.sign(error)


def l1(error: Array) -> Array:
    """|e|."""
    return _size(error)


def l2(error: Array) -> Array:
    """e^2 (no factor 1/2)."""
    return jnp.square(error)


def smooth_l1(error: Array, beta: float = 1.0) -> Array:
    """e^2 / (2 beta) where |e| < beta, else |e| - beta / 2 (Girshick, *Fast R-CNN*, ICCV 2015).

    Args:
        error: any shape.
        beta: where the parabola meets the lines, > 0; in the unit of `error`.

    Raises:
        UsageError: `beta` is not positive.
    """
    _positive("smooth_l1", beta=beta)
    size = _size(error)
    return jnp.where(size < beta, 0.5 * jnp.square(error) / beta, size - 0.5 * beta)


def wing(error: Array, w: float = 10.0, epsilon: float = 2.0) -> Array:
    """Wing loss: w ln(1 + |e| / epsilon) where |e| < w, else |e| - C, continuous at w.

    Feng et al., *Wing Loss for Robust Facial Landmark Localisation with Convolutional Neural
    Networks*, CVPR 2018, section 4, with C = w - w ln(1 + w / epsilon). The slope is w / epsilon
    beside zero and 1 beyond w. The paper measures e per coordinate in pixels of a 256 px crop. It
    scales with its unit: wing(a e; a w, a epsilon) = a wing(e; w, epsilon).

    Args:
        error: any shape.
        w: where the logarithm ends, > 0; in the unit of `error`.
        epsilon: its curvature, > 0; in the unit of `error`.

    Raises:
        UsageError: a parameter is not positive.
    """
    _positive("wing", w=w, epsilon=epsilon)
    size = _size(error)
    constant = w - w * math.log1p(w / epsilon)
    return jnp.where(size < w, w * jnp.log1p(size / epsilon), size - constant)


def _positive(loss: str, **parameters: float) -> None:
    for name, value in parameters.items():
        if not value > 0:
            raise UsageError(f"loss {loss!r}: {name} is {value}, expected a number above 0")


#: The point losses by name.
LOSSES: dict[str, Callable[..., Array]] = {f.__name__: f for f in (l1, l2, smooth_l1, wing)}


def point_loss(name: str, **parameters: float) -> Callable[[Array], Array]:
    """The point loss of this name with its parameters filled in.

    Raises:
        UsageError: there is none, it has no such parameter (the nearest are given), or a parameter
            is not positive.
    """
    if name not in LOSSES:
        raise UsageError(f"loss is {name!r}: {nearest(name, LOSSES)}")
    known = plugins.parameters(LOSSES[name])[1:]
    for parameter in parameters:
        if parameter not in known:
            raise UsageError(f"loss {name!r} takes no {parameter!r}: {nearest(parameter, known)}")
    _positive(name, **parameters)
    return functools.partial(LOSSES[name], **parameters)


def masked_mean(value: Array, weight: Array) -> Array:
    """Weighted mean over the points of each example.

    Args:
        value: [B, K], finite.
        weight: [B, K], not negative.

    Returns:
        [B]; 0, with gradient 0, where all weights are 0.
    """
    total = weight.sum(axis=1)
    some = total > 0
    return jnp.where(some, (value * weight).sum(axis=1) / jnp.where(some, total, 1.0), 0.0)


def points_loss(
    points: Array, target: Array, visible: Array, loss: str = "l1", **parameters: float
) -> Array:
    """A point loss per coordinate, averaged over the visible points of each example.

    Args:
        points: [B, K, 2], predicted.
        target: [B, K, 2], in the same unit; where `visible` is 0 it may be anything, NaN included.
        visible: [B, K] weights, not negative (0 or 1 as a rule).
        loss: a name of `LOSSES`.
        **parameters: of that loss, in the unit of the points.

    Returns:
        [B] float32: mean over the two coordinates, then weighted mean over points; 0 without any
        visible point.

    Raises:
        UsageError: an unknown loss or parameter.
    """
    function = point_loss(loss, **parameters)
    visible = visible.astype(jnp.float32)
    seen = visible[..., None] > 0
    error = jnp.where(seen, points.astype(jnp.float32) - target, 0.0)
    return masked_mean(function(error).mean(axis=-1), visible)
