"""How unequally a verifier treats groups of people, at one threshold for all of them.

A group's own threshold hides what happens in use, where everybody meets the same one. At the
threshold that all impostor pairs together allow for a false accept rate X (the lowest with
FMR <= X, accepting what lies strictly above), of G groups:

* ``fmr@far=X_per_group``, ``fnmr@far=X_per_group``: impostor pairs accepted, genuine ones rejected.
* ``fmr_ratio@far=X``, ``fnmr_ratio@far=X``: the largest over the smallest; None where that is 0.
* ``fdr@far=X`` = 1 - (max |FMR_a - FMR_b| + max |FNMR_a - FNMR_b|) / 2, over pairs of groups. It is
  near 1 at low rates whatever happens: read it with the ratios.

And of the accuracies of folds within each group, each with its own thresholds:
``accuracy_group_mean``, ``accuracy_group_std`` over groups (population: divided by G),
``accuracy_group_std_sample`` (by G - 1; papers on RFW use either) and ``accuracy_error_ratio``, the
largest error over the smallest.

A pair of whole-number group -1 is of two groups: it counts for the threshold and for no group.

Sources: Wang et al. 2019, "Racial faces in the wild" (RFW); Pereira and Marcel 2021, "Fairness in
biometrics: a figure of merit to assess biometric verification systems" (FDR, alpha 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facebench.metrics._arrays import Value, mean_of, scientific
from facebench.metrics._verification import rank_pairs, threshold_at_far


def at_one_threshold(
    score: np.ndarray, same: np.ndarray, group: np.ndarray, fars: Sequence[float]
) -> dict[str, Value]:
    """Rates of groups at thresholds of all pairs.

    Args:
        score: (n,) higher means more alike.
        same: (n,) bool.
        group: (n,) of each pair; -1: of two groups.
        fars: false accept rates.

    Returns:
        Metrics as the module's text names them; of groups in sorted order, None for a group
        without pairs of the kind.
    """
    kept = ~of_two(group)
    place = np.unique(group[kept], return_inverse=True)[1]
    groups = int(place.max(initial=-1)) + 1
    count = [np.bincount(place[same[kept] == kind], minlength=groups) for kind in (False, True)]
    ranked = rank_pairs(score, same)
    result: dict[str, Value] = {}
    for far in fars:
        threshold, name = threshold_at_far(ranked, far), scientific(far)
        rates: list[list[float | None]] = [[None for _ in count[0]] for _ in range(2)]
        if threshold is not None:
            missed = (score > threshold) != same
            wrong = [
                np.bincount(place[(missed & (same == kind))[kept]], minlength=groups)
                for kind in (False, True)
            ]
            rates = [
                [float(w / c) if c else None for w, c in zip(*pair, strict=True)]
                for pair in zip(wrong, count, strict=True)
            ]
        fmr, fnmr = ([r for r in side if r is not None] for side in rates)
        both = len(fmr) > 1 and len(fnmr) > 1
        result[f"fmr@far={name}_per_group"] = rates[0]
        result[f"fnmr@far={name}_per_group"] = rates[1]
        result[f"fmr_ratio@far={name}"] = _ratio(fmr)
        result[f"fnmr_ratio@far={name}"] = _ratio(fnmr)
        spread = [max(side) - min(side) for side in (fmr, fnmr)] if both else []
        result[f"fdr@far={name}"] = 1 - sum(spread) / 2 if both else None
    return result


def of_accuracies(accuracy: Sequence[float | None]) -> dict[str, Value]:
    """Spreads of the accuracies of groups; see the module's text."""
    known = [a for a in accuracy if a is not None]
    several = len(known) > 1
    return {
        "accuracy_group_mean": mean_of(known),
        "accuracy_group_std": float(np.std(known)) if known else None,
        "accuracy_group_std_sample": float(np.std(known, ddof=1)) if several else None,
        "accuracy_error_ratio": _ratio([1 - a for a in known]),
    }


def of_two(group: np.ndarray) -> np.ndarray:
    """(n,) bool, which pairs are of two groups: those of whole-number group -1."""
    return group == -1 if group.dtype.kind in "iu" else np.zeros(len(group), bool)


def _ratio(values: Sequence[float]) -> float | None:
    """The largest over the smallest; None of fewer than two, or where the smallest is 0."""
    if len(values) < 2 or not min(values):
        return None
    return max(values) / min(values)
