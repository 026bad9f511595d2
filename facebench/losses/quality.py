"""Margins that follow an example: AdaFace, MagFace, CurricularFace, ElasticFace.

- AdaFace: Kim et al., CVPR 2022: the norm of the embedding stands for the image's quality and says
  whether hard or easy examples get the larger margin;
- MagFace: Meng et al., CVPR 2021: a margin that grows with the norm, and a regulariser of it;
- CurricularFace: Huang et al., CVPR 2020: hard negatives count more as training goes on;
- ElasticFace: Boutros et al., CVPRW 2022: a margin drawn anew for every example and step.

All compute in float32 on cosines [B, C], labels [B] and norms [B], and give logits [B, C] for
`facebench.losses.margin.cross_entropy`; a label outside 0..C-1 marks no class. What the first and
the third know of earlier batches is a handful of numbers, which the caller keeps: `Moments` gathers
them over the examples that count, on all devices, and `blend` and `blend_mean` carry them on.

Where this differs from the released implementations, on purpose:

- AdaFace: the spread of fewer than two norms is undefined and leaves the running one as it was;
  there it becomes NaN for good. The statistics are those of the global batch; there each device
  has its own.
- MagFace, CurricularFace and ElasticFace's angular form: gradients are finite at cos = +-1.
- ElasticFace's "plus": the largest margin goes to the example furthest from its class, as the
  paper says; there margins are looked up by the order itself, not by its inverse, and land on other
  examples.
- CurricularFace: a hard negative is told by the cosine with the margin before its guard, as there,
  and by nothing else; the released easy-margin branch cannot run and has no counterpart.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from facebench.losses.margin import add_angle, own_cosine, with_own

Array = jax.Array

#: The smallest distance of AdaFace's angles from 0 and pi, and of its cosines from +-1.
_MARGIN_OF_ANGLES = 1e-3

#: AdaFace: what norms are cut to, and the mean and spread of norms to start from.
NORMS, FIRST_MEAN, FIRST_STD = (1e-3, 100.0), 20.0, 100.0


class Moments(NamedTuple):
    """Sums over the examples that count: how many, of (x - centre), of (x - centre)^2."""

    n: Array
    total: Array
    square: Array


def length(x: Array) -> Array:
    """[B] float32 length of x [B, d]; at the zero vector 1e-6, with gradient 0."""
    x = x.astype(jnp.float32)
    return jnp.sqrt(jnp.maximum(jnp.square(x).sum(axis=-1), 1e-12))


def moments(
    x: Array, weight: Array, centre: Array | float, axis_name: str | None = None
) -> Moments:
    """The sums of x [B], over all devices of a mapped axis; no gradient passes.

    Args:
        x: [B].
        weight: [B], 1 for an example that counts, 0 for a padded one.
        centre: taken off x, near its mean: then the spread loses no digits.
        axis_name: the mapped axis, None outside of one.
    """
    x = jax.lax.stop_gradient(x.astype(jnp.float32)) - centre
    x = jnp.where(weight > 0, x, 0.0)
    sums = Moments(weight.sum(), (weight * x).sum(), (weight * x * x).sum())
    return jax.lax.psum(sums, axis_name) if axis_name else sums


def blend_mean(mean: Array | float, found: Moments, t_alpha: float) -> Array:
    """(1 - t_alpha) mean + t_alpha (mean of the batch); as it was where no example counts.

    Args:
        mean: what went before, and the centre that `found` was taken about.
        found: of the batch.
        t_alpha: weight of the batch, in [0, 1].
    """
    return mean + t_alpha * found.total / jnp.maximum(found.n, 1.0)


def blend(
    mean: Array | float, std: Array | float, found: Moments, t_alpha: float
) -> tuple[Array, Array]:
    """The running mean and spread with a batch blended in.

    The spread of the batch is the unbiased one. With fewer than two examples there is none, and
    the running one stays.

    Returns:
        (mean, std).
    """
    n = found.n
    variance = (found.square - found.total**2 / jnp.maximum(n, 1.0)) / jnp.maximum(n - 1.0, 1.0)
    spread = jnp.where(n >= 2, jnp.sqrt(jnp.maximum(variance, 0.0)), std)
    return blend_mean(mean, found, t_alpha), (1.0 - t_alpha) * std + t_alpha * spread


def adaface_norm(x: Array) -> Array:
    """The norm of x [B, d] as AdaFace takes it: cut to [.001, 100], without gradient."""
    return jax.lax.stop_gradient(jnp.clip(length(x), *NORMS))


def adaface_cosine(cosine: Array) -> Array:
    """Cosines in float32, kept .001 from +-1, as all of AdaFace's are; the gradient beyond is 0."""
    edge = 1.0 - _MARGIN_OF_ANGLES
    return jnp.clip(cosine.astype(jnp.float32), -edge, edge)


def adaface_logits(
    cosine: Array,
    label: Array,
    norm: Array,
    mean: Array | float,
    std: Array | float,
    m: float = 0.4,
    h: float = 0.333,
    s: float = 64.0,
) -> Array:
    """AdaFace: s (cos(theta_y - m z) - (m + m z)) with z = clip(h (norm - mean) / (std + .001)).

    Kim et al., CVPR 2022, section 3.3; z is in [-1, 1]. At z = -1 it is ArcFace's margin,
    at 0 CosFace's; at 1 it is an angle that is taken off and twice the cosine. As released, all
    cosines are kept .001 from +-1 and theta_y - m z within [.001, pi - .001]; beyond, the gradient
    is 0; within it is the true one, at most 23 s.

    Args:
        cosine: [B, C].
        label: [B].
        norm: [B], of `adaface_norm`; no gradient passes through z.
        mean: running mean of norms, this batch included.
        std: running spread of norms, this batch included.
        m: the margin.
        h: how many spreads make z = 1 (the inverse).
        s: the scale.
    """
    cosine = adaface_cosine(cosine)
    z = jax.lax.stop_gradient(jnp.clip(h * (norm - mean) / (std + 1e-3), -1.0, 1.0))
    angle = jnp.arccos(own_cosine(cosine, label)) - m * z
    angle = jnp.clip(angle, _MARGIN_OF_ANGLES, jnp.pi - _MARGIN_OF_ANGLES)
    return with_own(cosine, label, jnp.cos(angle) - (m + m * z), s)


def magface_margin(
    norm: Array,
    norm_range: tuple[float, float] = (10.0, 110.0),
    margin_range: tuple[float, float] = (0.45, 0.8),
) -> Array:
    """The margin in radians: grows linearly with the norm within its range, constant outside."""
    low, high = norm_range
    slope = (margin_range[1] - margin_range[0]) / (high - low)
    return margin_range[0] + slope * (jnp.clip(norm, low, high) - low)


def magface_logits(
    cosine: Array,
    label: Array,
    norm: Array,
    s: float = 64.0,
    guard: str = "easy",
    norm_range: tuple[float, float] = (10.0, 110.0),
    margin_range: tuple[float, float] = (0.45, 0.8),
) -> Array:
    """MagFace: ArcFace with `magface_margin` of the norm, which gets its gradient through it.

    Meng et al., CVPR 2021, section 3.2; released with the ``easy`` margin.

    Args:
        cosine: [B, C].
        label: [B].
        norm: |x|, [B], of `length`.
        s: the scale.
        guard: see `facebench.losses.margin.add_angle`.
        norm_range: the norms between which the margin grows.
        margin_range: the margins at these, radians.
    """
    cosine = cosine.astype(jnp.float32)
    own = add_angle(
        own_cosine(cosine, label), magface_margin(norm, norm_range, margin_range), guard
    )
    return with_own(cosine, label, own, s)


def magface_regulariser(norm: Array, norm_range: tuple[float, float] = (10.0, 110.0)) -> Array:
    """[B]: a / high^2 + 1 / a of the norm a, cut to its range (low, high); falls up to high.

    Meng et al., CVPR 2021, section 3.2. Weighted by lambda_g and added to the loss; the paper's
    bound for norms to converge is lambda_g >= s K high^2 low^2 / (high^2 - low^2) with K the slope
    of the margin: 22.6 for the defaults.
    """
    a = jnp.clip(norm, *norm_range)
    return a / norm_range[1] ** 2 + 1.0 / a


def curricular_logits(
    cosine: Array, label: Array, t: Array | float, m: float = 0.5, s: float = 64.0
) -> Array:
    """CurricularFace: ArcFace's target, and hard negatives weighted by themselves.

    Huang et al., CVPR 2020, section 3.2: a negative with cos(theta_j) > cos(theta_y + m) becomes
    cos(theta_j) (t + cos(theta_j)). The target has the ``linear`` guard of `add_angle`. The
    gradient is the true one; which negatives are hard, and t, have none.

    Args:
        cosine: [B, C].
        label: [B]; without a class nothing is changed.
        t: running mean of the targets' cosines, this batch included; starts at 0, `blend_mean`
            carries it on with t_alpha = .01.
        m: the angle, radians.
        s: the scale.
    """
    cosine = cosine.astype(jnp.float32)
    own = own_cosine(cosine, label)
    there = (label >= 0) & (label < cosine.shape[1])
    hard = (cosine > add_angle(own, m, "none")[:, None]) & there[:, None]
    weighed = jnp.where(hard, cosine * (jax.lax.stop_gradient(t) + cosine), cosine)
    return with_own(weighed, label, add_angle(own, m, "linear"), s)


def elastic_margins(normal: Array, m: float, sigma: float) -> Array:
    """[B] margins m + sigma * normal, as ElasticFace draws them: not cut, may fall below 0.

    Args:
        normal: [B] draws from the standard normal distribution.
        m: their mean.
        sigma: their spread.
    """
    return m + sigma * normal


def hardest_first(margin: Array, own: Array, weight: Array) -> Array:
    """ElasticFace+: hands margins out by difficulty, the largest to the lowest own cosine.

    Boutros et al., CVPRW 2022.

    Args:
        margin: [N], one drawn for each example of the global batch.
        own: [N] cosines with the own class.
        weight: [N], 0 for a padded example: neither it nor its draw is dealt to any other.

    Returns:
        [N] margins; the same numbers in another order, among those that count. No gradient passes.
    """
    margin, own = jax.lax.stop_gradient((margin, own))
    counts = weight > 0
    ascending = jnp.sort(jnp.where(counts, margin, jnp.inf))
    rank = jnp.argsort(jnp.argsort(jnp.where(counts, -own, jnp.inf)))
    return jnp.where(counts, ascending[rank], margin)
