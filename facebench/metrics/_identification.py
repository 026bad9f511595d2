"""Who is this: probes against a gallery, in the definitions that papers use, named apart.

``rank@k``: mated probes with a mate among the k best gallery rows; ties count against the probe.
Then three answers to how many probes of the gallery's people are found when strangers may come:

* ``tpir@fpir=X``, open set (NIST; IJB's two galleries searched apart). The threshold is the highest
  score of the unmated probe at place int(n X), from 1 and at least the first, of the n unmated
  ones, sorted descending. Found: the mate is strictly above it and above every other row.
* ``dir@far=X``, as of PFE and AdaFace. n X is rounded to a whole number k; the threshold is the
  k-th of the same scores, or 1e-5 above the first where k is 0. Found: the mate is at least the
  threshold, and at rank 1.
* ``tpir_legacy@fpir=X``, insightface's older reading, for galleries put together and probes that
  all have one mate. The threshold is the ceil(p X)-th highest score of all p probes with all rows
  that are not their mates. Found: the mate is strictly above it, at whatever rank.

With ``gallery_set`` (g,) the gallery consists of several (IJB's G1 and G2), which are searched
apart; each number is the mean over them. The legacy reading puts them together.

Distractors (MegaFace): ``probe`` and ``distractor``. Each photo of a person is the one mate in the
gallery once, every other photo of that person searches it: ``rank@k`` is the share of these
searches in which the mate is strictly above the k-th best distractor; ``tar@far=`` compares the
mates' scores with those of all probes and distractors.

Sources: Grother et al., FRVT 1:N, section on open-set accuracy; Phillips et al. 2011, "Evaluation
methods in face recognition"; Shi and Jain 2019, "Probabilistic face embeddings";
Kemelmacher-Shlizerman et al. 2016, "The MegaFace benchmark".
"""

from __future__ import annotations

import math

import numpy as np

from facebench.errors import FacebenchError, UsageError
from facebench.metrics._arrays import Arrays, Rows, Value, levels, mean_of, plain, scientific
from facebench.metrics._search import Cosines, Matrix, Search, Similarity, search
from facebench.metrics._templates import Templates
from facebench.metrics._verification import DECIMALS, allowed_impostors

FPIRS = (0.01, 0.1)
DISTRACTOR_FARS = (1e-6, 1e-5)
RANKS = (1, 5, 10, 20)
MOST_HIGHEST = 1 << 24  # scores that a threshold over all pairs may need

_ASKED = "a false positive rate, above 0 and up to 1"


def rank_k(result: Search, k: int) -> float | None:
    """The share of mated probes with a mate among the k best gallery rows, ties pessimistic.

    A constant similarity scores 0 unless k reaches past every row of another identity. None if
    no probe has a mate.

    Raises:
        ValueError: the search kept fewer than k other rows.
    """
    if result.best.shape[1] < k:
        raise ValueError(f"rank {k} of a search {result.best.shape[1]} deep")
    if not result.mated.any():
        return None
    return float((result.position[result.mated] <= k).mean())


def tpir_at_fpir(result: Search, fpir: float) -> float | None:
    """``tpir@fpir=``; see the module's text. None without mated or without unmated probes."""
    unmated = np.sort(result.other[~result.mated])[::-1]
    if not len(unmated) or not result.mated.any():
        return None
    threshold = unmated[max(int(len(unmated) * fpir) - 1, 0)]
    mate, other = result.mate[result.mated], result.other[result.mated]
    return float(((mate > other) & (mate > threshold)).mean())


def dir_at_far(result: Search, far: float) -> float | None:
    """``dir@far=``; see the module's text. None without mated or without unmated probes."""
    unmated = np.sort(result.other[~result.mated])[::-1]
    if not len(unmated) or not result.mated.any():
        return None
    alarms = int(np.round(len(unmated) * far))
    threshold = unmated[alarms - 1] if alarms else unmated[0] + 1e-5
    mate, other = result.mate[result.mated], result.other[result.mated]
    return float(((mate > other) & (mate >= threshold)).mean())


def legacy_tpir_at_fpir(result: Search, fpir: float) -> float | None:
    """``tpir_legacy@fpir=``; see the module's text. None where there are too few other rows."""
    place = math.ceil(len(result.mate) * fpir)
    if place > len(result.highest):
        return None
    return float((result.mate > result.highest[place - 1]).mean())


def score_searches(
    predictions: Arrays,
    targets: Arrays,
    thresholds: list[float] | None,
    templates: Templates | None = None,
    legacy: bool = False,
) -> dict[str, Value]:
    """Scores identification by a gallery.

    Args:
        predictions: ``probe`` and ``gallery``, or ``similarity``; of templates nothing more.
        targets: ``probe_identity`` and ``gallery_identity``, optional ``gallery_set``; of templates
            ``probe_template`` (p,) and ``gallery_template`` (g,) as well.
        thresholds: false positive rates in (0, 1].
        templates: pooled ones, if they are searched.
        legacy: insightface's older reading.

    Raises:
        FacebenchError: an array is missing or malformed; a probe without exactly one mate in the
            legacy reading.
        UsageError: a threshold out of range.
    """
    rates = levels(thresholds, FPIRS, 1, _ASKED)
    similarity, probe_identity, gallery_identity = given(predictions, targets, templates)
    g = len(gallery_identity)
    result: dict[str, Value] = {}
    if legacy:
        p = len(probe_identity)
        need = max(math.ceil(p * rate) for rate in rates)
        found = search(similarity, probe_identity, gallery_identity, RANKS[-1], need)
        if (found.mates != 1).any():
            row = int(np.argmax(found.mates != 1))
            raise targets.fault(
                "probe_identity",
                f"has {found.mates[row]} mates in the gallery for row {row}",
                "one for every probe, as 'ijb-legacy' defines; the open-set numbers are those of "
                "the other conventions",
            )
        result |= {f"rank@{k}": rank_k(found, k) for k in RANKS}
        for rate in rates:
            result[f"tpir_legacy@fpir={plain(rate)}"] = legacy_tpir_at_fpir(found, rate)
        return result
    parts: list[np.ndarray | None] = [None]
    if "gallery_set" in targets:
        sets = targets.take("gallery_set", (g,), "as 'gallery_identity'")
        if sets.dtype.kind not in "iuSU":
            raise targets.fault("gallery_set", f"holds {sets.dtype}", "whole numbers or text")
        parts = [np.flatnonzero(sets == name) for name in np.unique(sets)]
    every = [
        search(similarity, probe_identity, gallery_identity, RANKS[-1], rows=rows) for rows in parts
    ]
    result |= {f"rank@{k}": mean_of(rank_k(found, k) for found in every) for k in RANKS}
    if not all(found.mated.all() for found in every):
        for rate in rates:
            result[f"tpir@fpir={plain(rate)}"] = mean_of(tpir_at_fpir(f, rate) for f in every)
        for rate in rates:
            result[f"dir@far={scientific(rate)}"] = mean_of(dir_at_far(f, rate) for f in every)
    return result


def score_distractors(
    predictions: Arrays, targets: Arrays, thresholds: list[float] | None
) -> dict[str, Value]:
    """Scores probes against distractors, each photo being the mate once.

    Args:
        predictions: ``probe`` (p, d) and ``distractor`` (g, d).
        targets: ``probe_identity`` (p,), -1 for none.
        thresholds: false accept rates in (0, 1], over all p g pairs.

    Raises:
        FacebenchError: an array is missing or malformed, or no identity has two photos.
        UsageError: a threshold out of range, or so high that too many scores stay above it.
    """
    rates = levels(thresholds, DISTRACTOR_FARS, 1, "a false accept rate, above 0 and up to 1")
    identity = _identities(targets, "probe_identity", "p")
    p = len(identity)
    like = f"as 'probe_identity' of {targets.where}"
    probe = Rows(predictions, "probe", predictions.vectors("probe", (p, "d"), like))
    width = probe.array.shape[1]
    distractor = predictions.vectors("distractor", ("g", width), "as 'probe'")
    impostors = p * len(distractor)
    allowed = {rate: allowed_impostors(impostors, rate) for rate in rates}
    keep = max(allowed.values()) + 1
    if min(keep, impostors) > MOST_HIGHEST:
        raise UsageError(
            f"threshold {max(rates):g}: {keep} of {impostors} scores would lie above it; at most "
            f"{MOST_HIGHEST} are kept: ask for a lower rate"
        )
    similarity = Cosines(probe, Rows(predictions, "distractor", distractor))
    none = np.full(len(distractor), -1)
    found = search(similarity, identity, none, RANKS[-1], keep)
    threshold = np.array(
        [found.highest[a] if a < len(found.highest) else -np.inf for a in allowed.values()]
    )
    searches, ranked, accepted = 0, np.zeros(len(RANKS), np.int64), np.zeros(len(rates), np.int64)
    deep = np.stack([found.best[:, k - 1] for k in RANKS], axis=1)
    for rows in _people(identity):
        part, length = probe.take(rows)
        unit = part / length[:, None]
        for start in range(0, len(rows), 512):
            value = np.round(unit[start : start + 512] @ unit.T, DECIMALS)  # of probes and mates
            own = np.arange(len(value))
            value[own, start + own] = -np.inf
            at = rows[start : start + 512]
            for i in range(len(RANKS)):
                ranked[i] += np.count_nonzero(value > deep[at, i][:, None])
            for i, bound in enumerate(threshold):
                accepted[i] += np.count_nonzero(value > bound)
        searches += len(rows) * (len(rows) - 1)
    if not searches:
        raise targets.fault("probe_identity", "names nobody twice", "two photos of some person")
    result: dict[str, Value] = {
        f"rank@{k}": int(n) / searches for k, n in zip(RANKS, ranked, strict=True)
    }
    for rate, n in zip(rates, accepted, strict=True):
        result[f"tar@far={scientific(rate)}"] = int(n) / searches
    return result | {"genuine_pairs": float(searches), "impostor_pairs": float(impostors)}


def _people(identity: np.ndarray) -> list[np.ndarray]:
    """The rows of each identity that has several."""
    order = np.argsort(identity, kind="stable")
    order = order[identity[order] >= 0]
    cuts = np.flatnonzero(np.diff(identity[order])) + 1
    return [rows for rows in np.split(order, cuts) if len(rows) > 1]


def _identities(targets: Arrays, name: str, letter: str) -> np.ndarray:
    identity = targets.integers(name, (letter,))
    if (low := int(identity.min())) < -1:
        raise targets.fault(name, f"holds {low}", "identities from 0, or -1 for none")
    return identity


def given(
    predictions: Arrays, targets: Arrays, templates: Templates | None = None
) -> tuple[Similarity, np.ndarray, np.ndarray]:
    """What is compared, and the identities (p,) and (g,).

    Raises:
        FacebenchError: see `score_searches`.
    """
    probe_identity = _identities(targets, "probe_identity", "p")
    gallery_identity = _identities(targets, "gallery_identity", "g")
    p, g = len(probe_identity), len(gallery_identity)
    if templates is not None:
        sides = []
        for name, n in (("probe_template", p), ("gallery_template", g)):
            ids = targets.integers(name, (n,), f"as '{name.split('_')[0]}_identity'")
            pooled = templates.vectors[templates.rows(ids, targets, name)]
            sides.append(Rows(predictions, "embedding", pooled))
        return Cosines(*sides), probe_identity, gallery_identity
    first = "probe" if "probe" in predictions else "gallery"
    if one_of(predictions, first, "similarity", "how alike probes and gallery are") == "similarity":
        matrix = predictions.numbers(
            "similarity", (p, g), f"probes x gallery of {targets.where}", True
        )
        return Matrix(matrix), probe_identity, gallery_identity
    like = f"of {targets.where}"
    probe = predictions.vectors("probe", (p, "d"), f"as 'probe_identity' {like}")
    gallery = predictions.vectors(
        "gallery", (g, probe.shape[1]), f"as 'gallery_identity' {like} and 'probe'"
    )
    sides = [Rows(predictions, "probe", probe), Rows(predictions, "gallery", gallery)]
    return Cosines(*sides), probe_identity, gallery_identity


def one_of(source: Arrays, first: str, second: str, what: str) -> str:
    """Which of two arrays is given.

    Raises:
        FacebenchError: both are, or neither.
    """
    if first in source and second in source:
        raise FacebenchError(
            f"{source.where}: both {first!r} and {second!r} are given; expected one of them, "
            f"since each alone says {what}"
        )
    if first not in source and second not in source:
        raise FacebenchError(
            f"{source.where}: neither {first!r} nor {second!r} is given; expected one of them, "
            f"to say {what}; found {', '.join(sorted(source.arrays)) or 'no arrays'}"
        )
    return first if first in source else second
