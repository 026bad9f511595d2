"""The screened search against the whole matrix, and what is read from it against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench import metrics
from facebench.errors import FacebenchError, UsageError
from facebench.metrics import _identification, _search
from facebench.metrics._arrays import Arrays, Rows

SIZES = st.sampled_from([((256, 4096), 8192), ((3, 5), 7), ((1, 1), 2), ((4, 1000), 4)])


def score(predictions, targets, convention=None, thresholds=None):
    return metrics.score("recognition", predictions, targets, convention, thresholds)


def rows(seed, n, d, kinds):
    """Vectors of few directions, of which some differ by less than float32 can tell."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(kinds, d))
    noise = 10.0 ** -rng.integers(0, 16, (n, 1)) * rng.normal(size=(n, d))
    return (centre[rng.integers(0, kinds, n)] + noise) * rng.uniform(0.1, 9, (n, 1))


def cosines(probe, gallery):
    named = Arrays({}, "arrays")
    return _search.Cosines(Rows(named, "probe", probe), Rows(named, "gallery", gallery))


def whole(probe, gallery):
    a = probe.astype(np.float64) / np.linalg.norm(probe.astype(np.float64), axis=1)[:, None]
    b = gallery.astype(np.float64) / np.linalg.norm(gallery.astype(np.float64), axis=1)[:, None]
    return np.round(a @ b.T, 12)


@given(
    st.integers(0, 10_000), st.integers(1, 14), st.integers(1, 40), st.integers(1, 6),
    st.integers(1, 9), st.integers(0, 60), SIZES, st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_a_screened_search_finds_what_the_matrix_holds(
    seed, p, g, kinds, depth, highest, sizes, dtype
):
    rng = np.random.default_rng(seed)
    probe, gallery = rows(seed, p, 8, kinds).astype(dtype), rows(seed + 1, g, 8, kinds)
    gallery[: min(g, p) : 2] = probe[: min(g, p) : 2]  # cosines of exactly 1
    who, held = rng.integers(-1, 4, p), rng.integers(-1, 4, g)
    kept = np.flatnonzero(rng.random(g) < 0.8) if seed % 2 else None
    if kept is not None and not len(kept):
        kept = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_search, "TILE", sizes[0])
        patch.setattr(_search, "CHUNK", sizes[1])
        similarity = cosines(probe, gallery.astype(dtype))
        found = _search.search(similarity, who, held, depth, highest, kept)
    matrix = whole(probe, gallery.astype(dtype))
    own = (who[:, None] == held) & (who[:, None] >= 0)
    if kept is not None:
        matrix, own = matrix[:, kept], own[:, kept]
    others = np.where(own, -np.inf, matrix)
    best = -np.sort(-others, axis=1)[:, :depth]
    best = np.pad(best, [(0, 0), (0, depth - best.shape[1])], constant_values=-np.inf)
    assert (found.best == best).all()
    assert (found.mates == own.sum(axis=1)).all()
    assert (found.mate == np.where(own, matrix, -np.inf).max(axis=1)).all()
    every = -np.sort(-others[others > -np.inf])
    assert (found.highest == every[:highest]).all()


def test_the_slack_covers_the_error_of_float32():
    rng = np.random.default_rng(0)
    for d in (2, 64, 512, 4000):
        probe, gallery = rng.normal(size=(20, d)), rng.lognormal(0, 3, (50, d))
        for dtype, scale in ((np.float64, 1), (np.float32, 1), (np.float32, 1e-20)):
            similarity = cosines(probe, (scale * gallery).astype(dtype))
            similarity.probes(np.arange(20))
            similarity.gallery(np.arange(50))
            off = np.abs(similarity.screen(slice(0, 20)) - similarity.table(np.arange(20)))
            assert off.max() < similarity.slack < 3e-4


def test_a_search_of_equal_vectors_stays_exact():
    # Every row ties with every mate, so that screening decides nothing.
    row = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
    predictions = {"probe": np.repeat(row, 30, axis=0), "gallery": np.repeat(row, 500, axis=0) * 3}
    targets = {"probe_identity": np.arange(30), "gallery_identity": np.arange(500) % 250}
    result = score(predictions, targets)
    assert [result[f"rank@{k}"] for k in (1, 5, 10, 20)] == [0, 0, 0, 0]


def test_a_rank_deeper_than_the_search_is_refused():
    found = _search.search(_search.Matrix(np.eye(3)), np.arange(3), np.arange(3), 1)
    assert _identification.rank_k(found, 1) == 1
    with pytest.raises(ValueError, match="rank 2 of a search 1 deep"):
        _identification.rank_k(found, 2)


# ---- definitions -----------------------------------------------------------------------------


def people(seed=0, p=40, g=30, decimals=1):
    rng = np.random.default_rng(seed)
    similarity = rng.normal(size=(p, g)).round(decimals)
    return similarity, rng.integers(-1, 8, p), rng.integers(-1, 6, g)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("far", [0.01, 0.2, 0.5, 1])
def test_detection_and_identification_by_loops(seed, far):
    similarity, who, held = people(seed)
    result = score({"similarity": similarity}, {"probe_identity": who, "gallery_identity": held},
                   None, [far])  # fmt: skip
    mated, unmated = [], []
    for row, identity in zip(similarity.tolist(), who, strict=True):
        own = [v for v, i in zip(row, held, strict=True) if i == identity >= 0]
        rest = [v for v, i in zip(row, held, strict=True) if not i == identity >= 0]
        (mated.append((max(own), max(rest))) if own else unmated.append(max(rest)))
    alarms = round(len(unmated) * far)
    ordered = sorted(unmated, reverse=True)
    threshold = ordered[alarms - 1] if alarms else ordered[0] + 1e-5
    expected = np.mean([m > o and m >= threshold for m, o in mated])
    (name,) = (name for name in result if name.startswith("dir@"))
    assert result[name] == expected
    assert float(name.split("=")[1]) == far


def test_galleries_are_searched_apart_and_averaged():
    similarity, who, held = people(3)
    sets = np.arange(30) % 2
    targets = {"probe_identity": who, "gallery_identity": held}
    both = score({"similarity": similarity}, targets | {"gallery_set": sets})
    apart = [
        score(
            {"similarity": similarity[:, sets == s]},
            {"probe_identity": who, "gallery_identity": held[sets == s]},
        )
        for s in (0, 1)
    ]
    assert set(both) == set(apart[0])
    for name, value in both.items():
        assert value == pytest.approx((apart[0][name] + apart[1][name]) / 2), name
    assert both != score({"similarity": similarity}, targets)
    assert metrics.parts("recognition", None, {"similarity": similarity},
                         targets | {"gallery_set": sets}) == {}  # fmt: skip
    with pytest.raises(FacebenchError, match="'gallery_set' holds float64"):
        score({"similarity": similarity}, targets | {"gallery_set": sets / 2})


@pytest.mark.parametrize("decimals", [1, 9])
def test_the_legacy_search_by_loops(decimals):
    rng = np.random.default_rng(5)
    similarity, held = rng.normal(size=(50, 20)).round(decimals), rng.permutation(20)
    who = rng.integers(0, 20, 50)
    rates = [0.01, 0.3, 1]
    result = score({"similarity": similarity}, {"probe_identity": who, "gallery_identity": held},
                   "ijb-legacy", rates)  # fmt: skip
    own = who[:, None] == held
    false = sorted(similarity[~own].tolist(), reverse=True)
    for rate in rates:
        threshold = false[math.ceil(50 * rate) - 1]
        assert result[f"tpir_legacy@fpir={rate:g}"] == np.mean(similarity[own] > threshold)
    twice = {"probe_identity": who, "gallery_identity": np.append(held[1:], held[1])}
    with pytest.raises(FacebenchError, match="mates in the gallery for row"):
        score({"similarity": similarity}, twice, "ijb-legacy")


# ---- distractors -----------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [2, 60])
def test_distractors_by_loops(kinds):
    probe, distractor = rows(1, 60, 16, kinds), rows(2, 300, 16, kinds)
    distractor[:5] = probe[:5]
    who = np.random.default_rng(0).integers(-1, 12, 60)
    rates = [1e-4, 1e-2, 0.3]
    result = score({"probe": probe, "distractor": distractor}, {"probe_identity": who}, None, rates)
    own, other = whole(probe, probe), whole(probe, distractor)
    mates = [(i, j) for i in range(60) for j in range(60) if i != j and who[i] == who[j] >= 0]
    for k in (1, 5, 10, 20):
        hits = [(other[j] >= own[i, j]).sum() < k for i, j in mates]
        assert result[f"rank@{k}"] == np.mean(hits)
    for rate in rates:
        allowed = int(rate * other.size + 1e-9)
        threshold = np.sort(other, axis=None)[::-1][allowed]
        found = result[f"tar@far={rate:.0e}".replace("e-0", "e-")]
        assert found == np.mean([own[i, j] > threshold for i, j in mates])
    assert (result["genuine_pairs"], result["impostor_pairs"]) == (len(mates), other.size)


def test_distractors_that_cannot_be_scored():
    probe = np.eye(4)
    given = {"probe": probe, "distractor": probe}
    with pytest.raises(FacebenchError, match="'probe_identity' names nobody twice"):
        score(given, {"probe_identity": [0, 1, 2, -1]})
    with pytest.raises(FacebenchError, match="both 'distractor' and 'gallery'"):
        score(given | {"gallery": probe}, {"probe_identity": [0, 0, 1, 1]})
    everyone = score(given, {"probe_identity": [0, 0, 1, 1]}, None, [1])
    assert everyone["tar@far=1e0"] == 1


def test_a_rate_that_would_keep_most_scores_is_refused(monkeypatch):
    monkeypatch.setattr(_identification, "MOST_HIGHEST", 7)
    given = {"probe": np.eye(4), "distractor": np.eye(4)}
    with pytest.raises(UsageError, match="9 of 16 scores would lie above it; at most 7"):
        score(given, {"probe_identity": [0, 0, 1, 1]}, None, [0.5])


def test_a_mapped_gallery_is_searched_alike_and_its_faults_are_named(tmp_path):
    probe, gallery = rows(1, 30, 16, 9), rows(2, 200, 16, 9).astype(np.float32)
    targets = {
        "probe_identity": np.arange(30) % 9,
        "gallery_identity": np.arange(200) % 9,
        "gallery_set": np.arange(200) % 2,
    }
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    given = {"probe": probe, "gallery": gallery}
    assert score(given | {"gallery": mapped}, targets) == score(given, targets)
    for value, message in ((np.nan, "holds NaN or infinity"), (0, "has only zeros")):
        gallery[133] = value
        with pytest.raises(FacebenchError, match=f"'gallery' {message}.* in row 133"):
            score({"probe": probe, "gallery": gallery}, targets)
