"""Recognition: are two faces one person (pairs), and who is this (identification).

Pairs of images. Predictions hold ``embedding`` (2n, d), pair i being rows 2i and 2i+1, or ``score``
(n,), higher meaning more alike; targets hold ``same`` (n,), and may hold ``fold`` (n,) and
``group`` (n,). Conventions, which say how pairs are scored:

* ``pooled``: all pairs on one ROC of the cosines or scores. ``eer``, ``auc``, ``tar@far=``
  (conservative: the highest TAR with FAR <= the target) and ``accuracy_best_threshold``, whose
  threshold is chosen on the scored pairs themselves: an optimistic number, and named so.
* ``pooled-nearest``: the same with ``tar@far=`` read where FAR is nearest to the target, as in
  published IJB tables.
* ``insightface-10fold``: ten contiguous folds (or ``fold``), threshold from the other nine,
  squared distances of unit embeddings or 2 - 2 score.
* ``facenet-lfw``: the same, with FaceNet's ``auc`` and ``eer`` of the mean held-out curve;
  ``facenet-lfw-angle``: on angles over pi; ``facenet-lfw-angle-centred``: on angles after
  subtracting the mean embedding of the other folds.

Templates, many images of a person as one. Predictions hold ``embedding`` (N, d) of images, and may
hold ``embedding_flipped`` (N, d), ``norm`` (N,), ``norm_flipped`` (N,) and ``detector_score`` (N,);
targets hold ``template`` (N,), may hold ``media`` (N,), and hold ``pairs`` (m, 2) of template
numbers with ``same`` (m,) (optional ``fold``, ``group``), or ``probe_template`` (p,) and
``gallery_template`` (g,) with the identities below, or both. How they are pooled:
`facebench.metrics._templates`.

* ``ijb-n1d1`` (the plain one), ``ijb-n1d0``, ``ijb-n0d1``, ``ijb-n0d0``: lengths kept (N1) or not,
  weighted by the detector's score (D1) or not. ``tar@far=`` is nearest, as published;
  ``tar@far=X:conservative`` has FAR <= X. ``ijb-legacy`` and ``ijb-legacy-n1d0`` ... pool alike and
  read 1:N as insightface's older code; ``ijb-legacy`` is for images too.
* ``video-frames-10fold``: folds as above on the mean of all cosines of a frame of one video and a
  frame of the other (YTF); ``video-mean-10fold``: on the cosine of mean features.

Identification. Predictions hold ``probe`` (p, d) and ``gallery`` (g, d), compared by cosine, or
``similarity`` (p, g), or are templates; targets hold ``probe_identity`` (p,) and
``gallery_identity`` (g,), -1 for none, and may hold ``gallery_set`` (g,). Several gallery rows may
share an identity. Or predictions hold ``probe`` and ``distractor`` (g, d), and targets
``probe_identity``. Definitions: `facebench.metrics._identification`.

Whatever is there is scored into one flat dict. With ``group``, every number of the convention is
also computed within each group, with that group's own thresholds, as ``NAME_per_group`` in the
sorted order of the group values; and at one threshold for all: `facebench.metrics._fairness`.

A metric that has no value on an input (no impostor pair, no mated probe) is None.
``tpir@fpir=`` and ``dir@far=`` stand only where the targets hold unmated probes. A false accept
rate below 1 over ``impostor_pairs`` still has a conservative value, that of a threshold which no
impostor passes; below about 10 over it any value is a matter of luck.

Sources: Huang et al. 2007, "Labeled faces in the wild"; Schroff et al. 2015, "FaceNet", section 4;
Deng et al. 2019, "ArcFace", section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.metrics import _pairs
from facebench.metrics._arrays import Arrays, Value
from facebench.metrics._identification import RANKS, given, score_distractors, score_searches
from facebench.metrics._parts import Parts, ratio
from facebench.metrics._search import search
from facebench.metrics._templates import pool

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool | None, tuple[float, float | None], str]] = MappingProxyType(
    {
        "eer": ("fraction", False, (0, 1), "equal error rate"),
        "auc": ("fraction", True, (0, 1), "area under the ROC"),
        "tar@far=": ("fraction", True, (0, 1), "true accepts at this false accept rate"),
        "accuracy_best_threshold": (
            "fraction",
            True,
            (0, 1),
            "accuracy at the threshold that is best on the scored pairs (optimistic)",
        ),
        "accuracy": ("fraction", True, (0, 1), "mean accuracy of held-out folds"),
        "accuracy_std": (
            "fraction",
            None,
            (0, 0.5),
            "population standard deviation of that accuracy over folds",
        ),
        "val@far=": ("fraction", True, (0, 1), "mean true accepts of held-out folds"),
        "val_std@far=": (
            "fraction",
            None,
            (0, 0.5),
            "population standard deviation of those true accepts over folds",
        ),
        "far@far=": (
            "fraction",
            None,
            (0, 1),
            "mean false accepts of held-out folds at the threshold for this target",
        ),
        "rank@": ("fraction", True, (0, 1), "mated probes with a mate among the k best rows"),
        "tpir@fpir=": (
            "fraction",
            True,
            (0, 1),
            "mated probes found at rank 1 above the threshold for this rate of unmated probes",
        ),
        "tpir_legacy@fpir=": (
            "fraction",
            True,
            (0, 1),
            "probes whose mate is above this many false scores per probe, at whatever rank",
        ),
        "dir@far=": (
            "fraction",
            True,
            (0, 1),
            "mated probes found at rank 1, from the threshold for this rate of unmated probes up",
        ),
        "genuine_pairs": ("count", None, (0, None), "pairs of one person"),
        "impostor_pairs": ("count", None, (0, None), "pairs of two people"),
        "fmr@far=": ("fraction", False, (0, 1), "false matches at the threshold of all pairs"),
        "fnmr@far=": ("fraction", False, (0, 1), "false non-matches at the threshold of all pairs"),
        "fmr_ratio@far=": ("ratio", False, (1, None), "largest over smallest FMR of groups"),
        "fnmr_ratio@far=": ("ratio", False, (1, None), "largest over smallest FNMR of groups"),
        "fdr@far=": ("fraction", True, (0, 1), "fairness discrepancy rate, alpha 0.5"),
        "accuracy_group_mean": ("fraction", True, (0, 1), "mean over groups of their accuracies"),
        "accuracy_group_std": (
            "fraction",
            False,
            (0, 0.5),
            "population standard deviation of accuracies over groups",
        ),
        "accuracy_group_std_sample": (
            "fraction",
            False,
            (0, 1),
            "sample standard deviation of accuracies over groups",
        ),
        "accuracy_error_ratio": (
            "ratio",
            False,
            (1, None),
            "largest over smallest error of groups",
        ),
    }
)
AXES = ("fold", "group")
#: What may stand behind a metric's level: ``tar@far=1e-4:conservative``.
RULES: Mapping[str, tuple[str, ...]] = MappingProxyType({"tar@far=": ("conservative",)})

CONVENTIONS = (*_pairs.CONVENTIONS, *_pairs.TEMPLATE_CONVENTIONS)
_SEARCHED = ("probe", "gallery", "similarity", "distractor")


def score(
    predictions: Arrays,
    targets: Arrays,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores pairs, identification or both; see the module's text for arrays and conventions.

    Args:
        predictions: ``embedding`` or ``score``, and / or ``probe`` and ``gallery`` (or
            ``distractor``), or ``similarity``.
        targets: ``same`` and / or ``probe_identity`` and ``gallery_identity``; ``template``.
        convention: one of `CONVENTIONS`; without it ``pooled``, and ``ijb-n1d1`` of templates.
        thresholds: rates in (0, 1]: FAR for pairs, FPIR for identification; without them
            1e-1 ... 1e-4 (pooled), 1e-3 (ten folds), 1e-6 ... 1e-1 (IJB), 0.01 and 0.1 (FPIR).

    Returns:
        Metric name to a fraction, a count or a ratio, None where it has no value, lists under
        ``*_per_*``.

    Raises:
        FacebenchError: an array is missing, malformed, not finite or without its counterpart.
        UsageError: no such convention, or a threshold out of range.
    """
    pooled = "template" in targets
    if convention is None:
        convention = "ijb-n1d1" if pooled else "pooled"
    if convention not in CONVENTIONS:
        raise UsageError(
            f"recognition has no convention {convention!r}: {nearest(convention, CONVENTIONS)}"
        )
    thresholds = None if thresholds is None else list(thresholds)
    legacy = convention.startswith("ijb-legacy")
    if pooled:
        return _score_templates(predictions, targets, convention, thresholds, legacy)
    by_pair = any(name in predictions for name in ("embedding", "score")) or "same" in targets
    searched = any(name in predictions for name in _SEARCHED) or any(
        name in targets for name in ("probe_identity", "gallery_identity")
    )
    if not by_pair and not searched:
        raise FacebenchError(
            f"{predictions.where}: found {', '.join(sorted(predictions.arrays)) or 'no arrays'}; "
            "expected pairs ('embedding' or 'score') or identification ('probe' and 'gallery', "
            "or 'similarity')"
        )
    if "distractor" in predictions:
        for other in ("gallery", "similarity", "embedding", "score"):
            if other in predictions:
                raise FacebenchError(
                    f"{predictions.where}: both 'distractor' and {other!r} are given, and share "
                    "names of metrics; score them one after the other"
                )
        return score_distractors(predictions, targets, thresholds)
    result: dict[str, Value] = {}
    if by_pair:
        if convention not in _pairs.CONVENTIONS:
            raise UsageError(
                f"convention {convention!r} pools templates, and {targets.where} holds no array "
                "'template'; for pairs of images take 'pooled-nearest' or 'insightface-10fold'"
            )
        pairs = _pairs.of_images(predictions, targets)
        result |= _pairs.score_pairs(pairs, targets, _pairs.CONVENTIONS[convention], thresholds)
    if searched:
        result |= score_searches(predictions, targets, thresholds, legacy=legacy)
    return result


def _score_templates(
    predictions: Arrays,
    targets: Arrays,
    convention: str,
    thresholds: list[float] | None,
    legacy: bool,
) -> dict[str, Value]:
    if convention not in _pairs.TEMPLATE_CONVENTIONS:
        raise UsageError(
            f"{targets.where} holds 'template', and convention {convention!r} is of pairs of "
            f"images; take one of {', '.join(_pairs.TEMPLATE_CONVENTIONS)}"
        )
    if "pairs" not in targets and "probe_template" not in targets:
        raise FacebenchError(
            f"{targets.where}: found {', '.join(sorted(targets.arrays))}; expected 'pairs' (m, 2) "
            "and 'same' (m,), or 'probe_template' and 'gallery_template', to say what is compared"
        )
    pooling, evaluate = _pairs.TEMPLATE_CONVENTIONS[convention]
    templates = pool(predictions, targets, pooling)
    result: dict[str, Value] = {}
    if "pairs" in targets:
        pairs = _pairs.of_templates(templates, targets, predictions.where)
        result |= _pairs.score_pairs(pairs, targets, evaluate, thresholds)
    if "probe_template" in targets:
        result |= score_searches(predictions, targets, thresholds, templates, legacy)
    return result


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What ``rank@`` is made of: probes, which belong to identities.

    A threshold that is read off all pairs or all unmated probes is no function of sums over
    samples, and a pair belongs to two people: ``eer``, ``auc``, ``tar@far=``, ``tpir@fpir=`` and
    the accuracies of folds have no parts. Nor has ``rank@`` of templates, of several galleries
    and of distractors.
    """
    del convention  # the ranks of images in one gallery are the same in all
    other = ("template", "gallery_set")
    if "probe_identity" not in targets or any(name in targets for name in other):
        return {}
    if "distractor" in predictions:
        return {}
    similarity, probe_identity, gallery_identity = given(predictions, targets)
    found = search(similarity, probe_identity, gallery_identity, RANKS[-1])
    unit = np.unique(probe_identity[found.mated], return_inverse=True)[1].astype(np.int64)
    if not len(unit):
        return {}
    position, one = found.position[found.mated], np.ones(len(unit), np.int64)
    return {f"rank@{k}": ratio(position <= k, one, 1, unit, "identity") for k in RANKS}
