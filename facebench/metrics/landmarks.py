"""Landmarks: normalised mean error, failure rate, area under the error curve; all in per cent.

Predictions hold ``points`` (n, K, 2): x, y in pixels of the original image. Targets hold
``points`` (n, K, 2) and may hold ``visible`` (n, K) and ``box`` (n, 4) as x0, y0, x1, y1.

For image i with true points g, predicted points p and a length d_i, the error is
``e_i = mean_k |p_k - g_k| / d_i``; the corpus value is the plain mean of e_i over images, so every
image counts the same. A convention names K and d: ``98-inter-ocular``. Lengths:

* ``inter-ocular``: between the outer eye corners; ``inter-pupil``: between the pupils, which for
  68 points are the means of the six points of each eye, for 19 the eye centres.
* ``box``: ``sqrt(w h)``, ``diagonal``: ``sqrt(w^2 + h^2)``, of the targets' ``box`` where they
  hold one, else of the tight box of the true points. A data set that publishes one number per
  face as its box size s is scored by the box (0, 0, s, s).
* ``tight-box``, ``tight-diagonal``: of the tight box of the true points, always.

Sources: Sagonas et al. 2016, "300 faces in-the-wild challenge: database and results", section 4
(error and curve); Wu et al. 2018, "Look at boundary", section 4 (FR and AUC at 10 % on WFLW);
Zhu et al. 2016, "Unconstrained face alignment via cascaded compositional learning" (AFLW-19,
box and diagonal).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from facebench.errors import UsageError, nearest
from facebench.metrics._arrays import Arrays, Value, levels, plain
from facebench.metrics._parts import QUANTUM, Parts, quantised, ratio, units
from facebench.schemes import SCHEMES, Normaliser

#: Convention name to (number of points, normaliser).
CONVENTIONS: Mapping[str, tuple[int, Normaliser]] = MappingProxyType(
    {
        f"{scheme.name}-{name}": (scheme.points, normaliser)
        for scheme in SCHEMES.values()
        for name, normaliser in scheme.normalisers.items()
    }
)

#: The thresholds that are reported when none are asked for, by number of points, in per cent.
THRESHOLDS: Mapping[int, tuple[float, ...]] = MappingProxyType(
    {68: (8, 10), 98: (10,), 29: (10,), 19: (7, 10), 106: (8, 10)}
)

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool, tuple[float, float | None], str]] = MappingProxyType(
    {
        "nme": ("%", False, (0, None), "normalised mean error, mean over images"),
        "nme_visible": ("%", False, (0, None), "the same over the visible points of each image"),
        "fr@": ("%", False, (0, 100), "images with an error above the threshold"),
        "auc@": ("%", True, (0, 100), "exact area under the error curve up to the threshold"),
        "auc_legacy@": ("%", True, (0, None), "that area by Simpson's rule on the 0.0001 grid"),
    }
)
AXES = ("point",)

_GRID = 1e-4  # step of the legacy curve


def normaliser_length(
    true: np.ndarray, normaliser: Normaliser, box: np.ndarray | None = None
) -> np.ndarray:
    """The length d that each image's error is divided by.

    Args:
        true: (n, K, 2) true points, px.
        normaliser: which length.
        box: (n, 4) x0, y0, x1, y1 px, used by ``box`` and ``diagonal`` unless they are tight.

    Returns:
        (n,) lengths in px; 0 where the points or the box have collapsed.
    """
    true = np.asarray(true, np.float64)
    if normaliser.kind == "points":
        span = true[:, normaliser.left].mean(axis=1) - true[:, normaliser.right].mean(axis=1)
        return np.hypot(span[:, 0], span[:, 1])
    if box is None or normaliser.tight:
        side = true.max(axis=1) - true.min(axis=1)
    else:
        box = np.asarray(box, np.float64)
        side = box[:, 2:] - box[:, :2]
    if normaliser.kind == "box":
        return np.sqrt(side[:, 0] * side[:, 1])
    return np.hypot(side[:, 0], side[:, 1])


def point_errors(predicted: np.ndarray, true: np.ndarray, length: np.ndarray) -> np.ndarray:
    """(n, K) distances between predicted and true points, each over its image's length."""
    offset = np.asarray(predicted, np.float64) - np.asarray(true, np.float64)
    return np.hypot(offset[..., 0], offset[..., 1]) / np.asarray(length, np.float64)[:, None]


def normalized_mean_error(
    predicted: np.ndarray, true: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """(n,) errors e_i, as fractions of the length: mean over points of `point_errors`."""
    return point_errors(predicted, true, length).mean(axis=1)


def failure_rate(error: np.ndarray, threshold: float) -> float:
    """The share of images whose error is strictly above `threshold` (1 - CED), in [0, 1]."""
    return float(np.count_nonzero(np.asarray(error) > threshold) / len(error))


def ced(error: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The cumulative error distribution: the share of images with an error <= each of `at`."""
    return np.searchsorted(np.sort(error), at, side="right") / len(error)


def area_under_ced(error: np.ndarray, threshold: float) -> float:
    """Exact area under the CED from 0 to `threshold`, over `threshold`, in [0, 1].

    The CED is a staircase, so the integral is ``mean_i max(0, 1 - e_i / threshold)``.
    """
    return float(np.maximum(0.0, 1.0 - np.asarray(error, np.float64) / threshold).mean())


def area_under_ced_legacy(error: np.ndarray, threshold: float) -> float:
    """The area as most released scorers compute it, kept to compare with published tables.

    The CED is read on ``numpy.arange(0, t + 1e-4, 1e-4)`` and integrated by Simpson's rule; the
    sum is divided by t. That grid ends at t for t = .08 and .10, but by rounding one node past it
    for t = .05 and .07, which inflates those areas by up to 0.2 points and may exceed 1. An even
    number of nodes is closed by the parabola through the last three (Cartwright 2017, the rule
    of SciPy from 1.11; older versions averaged two rules and differ by up to 3e-5).
    """
    grid = np.arange(0, threshold + _GRID, _GRID)
    y = ced(error, grid)
    if len(y) < 3:
        total = 0.5 * float(y.sum())
    else:
        odd = y if len(y) % 2 else y[:-1]
        total = (odd[0] + 4 * odd[1:-1:2].sum() + 2 * odd[2:-1:2].sum() + odd[-1]) / 3
        if len(y) % 2 == 0:
            total += (5 * y[-1] + 8 * y[-2] - y[-3]) / 12
    return float(total * _GRID / threshold)


def score(
    predictions: Arrays,
    targets: Arrays,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores predicted points; see the module's text for the arrays and `METRICS` for the names.

    Args:
        predictions: ``points`` (n, K, 2).
        targets: ``points`` (n, K, 2); optional ``visible`` (n, K), ``box`` (n, 4).
        convention: a key of `CONVENTIONS`; without it ``K-inter-ocular``.
        thresholds: per cent, in (0, 100], for ``fr@``, ``auc@`` and ``auc_legacy@``; without
            them those of `THRESHOLDS`.

    Returns:
        ``nme``, with ``visible`` also ``nme_visible`` (over the images that show a point; None if
        none does), ``fr@t``, ``auc@t`` and ``auc_legacy@t`` per threshold, ``nme_per_point``.

    Raises:
        FacebenchError: an array is missing, malformed, not finite or has no length to divide by.
        UsageError: no such convention, or one of another number of points.
    """
    errors = _errors(predictions, targets, convention)
    n, K = errors.shape
    limits = levels(thresholds, THRESHOLDS[K], 100, "per cent, above 0 and up to 100")
    per_image = errors.mean(axis=1)
    result: dict[str, Value] = {"nme": 100 * float(per_image.mean())}
    if "visible" in targets:
        visible = targets.flags("visible", (n, K), f"as 'points' of {targets.where}")
        count = visible.sum(axis=1)
        shown = count > 0
        if shown.any():
            means = (errors * visible).sum(axis=1)[shown] / count[shown]
            result["nme_visible"] = 100 * float(means.mean())
        else:
            result["nme_visible"] = None
    for limit in limits:
        t = limit / 100
        name = plain(limit)
        result[f"fr@{name}"] = 100 * failure_rate(per_image, t)
        result[f"auc@{name}"] = 100 * area_under_ced(per_image, t)
        result[f"auc_legacy@{name}"] = 100 * area_under_ced_legacy(per_image, t)
    result["nme_per_point"] = [100 * float(e) for e in errors.mean(axis=0)]
    return result


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What the metrics are made of that are means over images, at the usual thresholds.

    ``auc_legacy@`` reads the curve on a grid and is left out.
    """
    errors = _errors(predictions, targets, convention)
    n, K = errors.shape
    unit, of = units(targets, n)
    per_image, one = errors.mean(axis=1), np.ones(n, np.int64)
    result = {"nme": ratio(quantised(per_image), one, 100 * QUANTUM, unit, of)}
    if "visible" in targets:
        visible = targets.flags("visible", (n, K), f"as 'points' of {targets.where}")
        count = visible.sum(axis=1)
        means = (errors * visible).sum(axis=1) / np.maximum(count, 1)
        result["nme_visible"] = ratio(quantised(means), count > 0, 100 * QUANTUM, unit, of)
    for limit in THRESHOLDS[K]:
        t = limit / 100
        name = plain(limit)
        result[f"fr@{name}"] = ratio(per_image > t, one, 100, unit, of)
        gain = quantised(np.maximum(0.0, 1.0 - per_image / t))
        result[f"auc@{name}"] = ratio(gain, one, 100 * QUANTUM, unit, of)
    return result


def _errors(predictions: Arrays, targets: Arrays, convention: str | None) -> np.ndarray:
    """(n, K) errors of all points, once the arrays are right."""
    true = targets.numbers("points", ("n", "K", 2))
    n, K, _ = true.shape
    normaliser = _normaliser(convention, K, targets)
    predicted = predictions.numbers("points", (n, K, 2), f"as 'points' of {targets.where}")
    box = None
    if "box" in targets and normaliser.kind != "points" and not normaliser.tight:
        box = targets.numbers("box", (n, 4), "x0, y0, x1, y1 of each image")
        flat = ~(box[:, 2:] > box[:, :2]).all(axis=1)
        if flat.any():
            row = int(np.argmax(flat))
            raise targets.fault("box", f"has no area in row {row}", "x0 < x1 and y0 < y1")
    length = normaliser_length(true, normaliser, box)
    if not (length > 0).all():
        row = int(np.argmin(length > 0))
        raise targets.fault(
            "points",
            f"gives no length to divide by in row {row}",
            f"points that are apart for {convention or f'{K}-inter-ocular'}",
        )
    return point_errors(predicted, true, length)


def _normaliser(convention: str | None, K: int, targets: Arrays) -> Normaliser:
    if K not in SCHEMES:
        known = ", ".join(str(k) for k in sorted(SCHEMES))
        raise targets.fault("points", f"holds {K} points per image", f"one of {known}")
    if convention is None:
        convention = f"{K}-inter-ocular"
    if convention not in CONVENTIONS:
        raise UsageError(
            f"landmarks have no convention {convention!r}: {nearest(convention, CONVENTIONS)}"
        )
    points, normaliser = CONVENTIONS[convention]
    if points != K:
        same = f"{K}-{convention.split('-', 1)[1]}"
        raise UsageError(
            f"convention {convention!r} is for {points} points, array 'points' of "
            f"{targets.where} holds {K}; did you mean {same!r}?"
        )
    return normaliser
