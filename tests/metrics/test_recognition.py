"""Recognition metrics against reference evaluators, published values, loops and symmetries."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench import metrics
from facebench.errors import FacebenchError, UsageError
from facebench.metrics import _pairs, _search, _verification

CASES = ["all_separable", "cfp_7000", "lfw_easy", "lfw_hard", "odd_1003_shuffled"]
FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def score(predictions, targets, convention=None, thresholds=None):
    return metrics.score("recognition", predictions, targets, convention, thresholds)


def pairs(n=60, seed=0, decimals=None):
    """Scores of n pairs, a third of them genuine, with many ties if rounded."""
    rng = np.random.default_rng(seed)
    same = rng.random(n) < 0.34
    same[:2] = True, False
    values = rng.normal(0, 1, n) + same
    return (values if decimals is None else values.round(decimals)), same


def flat(result):
    """Metrics with lists spread out, for approximate comparison."""
    spread = {}
    for name, value in result.items():
        for i, number in enumerate(value if isinstance(value, list) else [value]):
            spread[f"{name}[{i}]"] = number
    return spread


# ---- the reference evaluators ----------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_equals_insightface(oracles, name):
    z = np.load(oracles / "metrics" / f"verif_{name}.npz")
    targets = {"same": z["in_issame"]}
    result = score({"embedding": z["in_embeddings"]}, targets, "insightface-10fold")
    assert result["accuracy_per_fold"] == pytest.approx(z["out_acc_folds"], abs=1e-12)
    for key, out in (
        ("accuracy", "acc_mean"),
        ("accuracy_std", "acc_std"),
        ("val@far=1e-3", "val"),
        ("val_std@far=1e-3", "val_std"),
        ("far@far=1e-3", "far"),
    ):
        assert result[key] == pytest.approx(float(z[f"out_{out}"]), abs=1e-12), key
    embedding = z["in_embeddings"].astype(np.float64)
    cosine = (embedding[::2] * embedding[1::2]).sum(axis=1)
    from_scores = score({"score": cosine}, targets, "insightface-10fold")
    assert from_scores["accuracy_per_fold"] == result["accuracy_per_fold"]
    assert from_scores["val@far=1e-3"] == result["val@far=1e-3"]


@pytest.mark.parametrize("name", CASES)
def test_the_held_out_curves_equal_insightfaces(oracles, name):
    z = np.load(oracles / "metrics" / f"verif_{name}.npz")
    distance = _verification.pair_squared_distances(z["in_embeddings"])
    fold = _verification.contiguous_folds(len(distance))
    found = _verification.cross_validate(lambda f: distance, z["in_issame"], fold, [1e-3])
    assert found.tar.mean(axis=0) == pytest.approx(z["out_tpr"], abs=1e-12)
    assert found.far.mean(axis=0) == pytest.approx(z["out_fpr"], abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_equals_facenet(oracles, name):
    z = np.load(oracles / "metrics" / f"verif_{name}.npz")
    for convention, tag in (
        ("facenet-lfw", "dm0_sm0"),
        ("facenet-lfw", "dm0_sm1"),  # a common shift changes no difference of embeddings
        ("facenet-lfw-angle", "dm1_sm0"),
        ("facenet-lfw-angle-centred", "dm1_sm1"),
    ):
        result = score({"embedding": z["in_embeddings"]}, {"same": z["in_issame"]}, convention)
        assert result["accuracy_per_fold"] == pytest.approx(z[f"out_facenet_acc_{tag}"], abs=1e-12)
        found = [result[f"{key}@far=1e-3"] for key in ("val", "val_std", "far")]
        assert found == pytest.approx(z[f"out_facenet_val_{tag}"], abs=1e-12)
        if convention == "facenet-lfw":
            assert result["auc"] == pytest.approx(float(z["out_facenet_auc"]), abs=1e-12)
            assert result["eer"] == pytest.approx(float(z["out_facenet_eer"]), abs=1e-10)


def test_equals_the_ijb_table_on_tied_scores(oracles):
    z = np.load(oracles / "metrics" / "roc_ties.npz")
    result = score({"score": z["in_score"]}, {"same": z["in_label"]}, "pooled-nearest", FARS)
    tar = [value for name, value in result.items() if name.startswith("tar@")]
    assert tar == pytest.approx(z["out_tar"], abs=1e-12)
    assert result["auc"] == pytest.approx(float(z["out_auc"]), abs=1e-12)
    conservative = score({"score": z["in_score"]}, {"same": z["in_label"]}, None, FARS)
    assert conservative["tar@far=1e-1"] < result["tar@far=1e-1"]  # the nearest FAR was above .1


def test_equals_the_ijb_tables_of_one_to_one_and_one_to_many(oracles):
    z = np.load(oracles / "metrics" / "ijb_style.npz")
    targets = {
        "same": z["in_label"],
        "probe_identity": z["in_probe_ids"],
        "gallery_identity": z["in_gallery_ids"],
    }
    predictions = {
        "score": z["out_scores_N1D1F1"],
        "probe": z["out_1n_probe_feats"],
        "gallery": z["out_1n_gallery_feats"],
    }
    result = score(predictions, targets, "pooled-nearest", FARS)
    tar = [value for name, value in result.items() if name.startswith("tar@")]
    assert tar == pytest.approx(z["out_tar_N1D1F1"], abs=1e-12)
    assert result["auc"] == pytest.approx(float(z["out_auc_N1D1F1"]), abs=1e-12)
    mated = int(z["out_1n_mated"])
    ranks = [result[f"rank@{k}"] for k in (1, 5, 10)]
    assert ranks == list(z["out_1n_top1_5_10_counts"] / mated)
    fpirs = list(z["in_1n_fpirs"])
    result = score(predictions, targets, None, fpirs)
    tpirs = [result[f"tpir@fpir={f:g}"] for f in fpirs]
    assert tpirs == pytest.approx(z["out_1n_tpirs"], abs=1e-12)


def test_published_golden_values():
    rng = np.random.RandomState(0)
    n, d = 200, 16
    same = np.array(([True] * 10 + [False] * 10) * 10)
    base, noise = rng.randn(n, d), rng.randn(n, d)
    both = np.stack([base, np.where(same[:, None], base + 1.2 * noise, noise)], axis=1)
    embedding = (both / np.linalg.norm(both, axis=2, keepdims=True)).reshape(2 * n, d)
    result = score({"embedding": embedding}, {"same": same}, "insightface-10fold", [0.05])
    assert result["accuracy"] == pytest.approx(0.93)
    assert result["accuracy_std"] == pytest.approx(0.055678, abs=1e-6)
    assert result["val@far=5e-2"] == pytest.approx(0.91)
    assert result["val_std@far=5e-2"] == pytest.approx(0.09434, abs=1e-5)
    distance = _verification.pair_squared_distances(embedding)
    fold = _verification.contiguous_folds(n)
    found = _verification.cross_validate(lambda f: distance, same, fold, [])
    assert found.threshold == pytest.approx([1.12] * 8 + [1.09, 1.12])
    result = score({"embedding": embedding}, {"same": same}, None, (0.01, 0.05, 0.1))
    assert result["eer"] == pytest.approx(0.08)
    tar = [result[f"tar@far={far}"] for far in ("1e-2", "5e-2", "1e-1")]
    assert tar == pytest.approx([0.69, 0.90, 0.92])


# ---- loops -----------------------------------------------------------------------------------


def vertices(values, same):
    """The ROC as exact (FAR, TAR) per distinct threshold, from accept-none to accept-all."""
    genuine, impostor = values[same].tolist(), values[~same].tolist()
    points = [(Fraction(0), Fraction(0))]
    for t in sorted(set(values.tolist()), reverse=True):
        far = Fraction(sum(v >= t for v in impostor), len(impostor))
        points.append((far, Fraction(sum(v >= t for v in genuine), len(genuine))))
    return points


@given(
    st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([None, 1, 0]), st.sampled_from(
        [0.004, 0.05, 0.1, 1 / 3, 0.5, 0.999, 1.0]
    )
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_pooled_numbers_by_loops(seed, n, decimals, far):
    values, same = pairs(n, seed=seed, decimals=decimals)
    result = score({"score": values}, {"same": same}, thresholds=[far])
    curve = vertices(values, same)
    wins = sum(
        Fraction(1) if g > i else Fraction(g == i, 2)
        for g in values[same].tolist()
        for i in values[~same].tolist()
    )
    assert result["auc"] == pytest.approx(float(wins / (same.sum() * (~same).sum())), abs=1e-12)
    trapezoid = sum((f1 - f0) * (t0 + t1) / 2 for (f0, t0), (f1, t1) in pairwise(curve))
    assert result["auc"] == pytest.approx(float(trapezoid), abs=1e-12)
    for (f0, t0), (f1, t1) in pairwise(curve):
        if f1 + t1 >= 1:
            step = (1 - f0 - t0) / (f1 + t1 - f0 - t0)
            assert result["eer"] == pytest.approx(float(f0 + step * (f1 - f0)), abs=1e-12)
            break
    (name,) = (name for name in result if name.startswith("tar@"))
    assert float(name.split("=")[1]) == far
    assert result[name] == float(max(t for f, t in curve if float(f) <= far))
    ng, ni = int(same.sum()), int((~same).sum())
    best = max(t * ng + (1 - f) * ni for f, t in curve) / n
    assert result["accuracy_best_threshold"] == pytest.approx(float(best), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(10, 80), st.sampled_from([None, 1]), st.booleans())
@settings(max_examples=12, deadline=None)
def test_ten_folds_by_loops(seed, n, decimals, own_folds):
    rng = np.random.default_rng(seed)
    values, same = pairs(n, seed=seed, decimals=decimals)
    values = np.tanh(values / 2)
    targets = {"same": same}
    if own_folds:
        fold = rng.integers(0, 4, n)
        fold[:4] = [0, 1, 2, 3]
        targets["fold"] = fold * 7 - 3
    else:
        fold = np.concatenate([np.full(len(c), f) for f, c in enumerate(np.array_split(same, 10))])
    result = score({"score": values}, targets, "insightface-10fold", [0.2])
    d = 2 - 2 * values
    accuracies, vals = [], []
    for f in range(fold.max() + 1):
        train, test = fold != f, fold == f
        grid = np.arange(0, 4, 0.01)
        right = [np.mean((d[train] < t) == same[train]) for t in grid]
        accuracies.append(np.mean((d[test] < grid[int(np.argmax(right))]) == same[test]))
        if (train & ~same).any() and (test & same).any():
            grid = np.arange(0, 4, 0.001)
            far = np.array([np.mean(d[train & ~same] < t) for t in grid])
            t = np.interp(0.2, far, grid) if far.max() >= 0.2 else 0.0
            vals.append(np.mean(d[test & same] < t))
    assert result["accuracy_per_fold"] == pytest.approx(accuracies, abs=1e-12)
    assert result["accuracy_std"] == pytest.approx(np.std(accuracies), abs=1e-12)
    if len(vals) == fold.max() + 1:
        assert result["val@far=2e-1"] == pytest.approx(np.mean(vals), abs=1e-12)
    else:
        assert result["val@far=2e-1"] is None


@given(
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.integers(1, 15),
    st.sampled_from([None, 1, 0]),
    st.sampled_from([(512, 4096), (3, 4)]),
)
@settings(max_examples=80, deadline=None)
def test_identification_by_loops(seed, p, g, decimals, tile):
    rng = np.random.default_rng(seed)
    similarity = rng.normal(size=(p, g))
    similarity = similarity if decimals is None else similarity.round(decimals)
    probe_identity, gallery_identity = rng.integers(-1, 6, p), rng.integers(-1, 6, g)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_search, "TILE", tile)
        result = score(
            {"similarity": similarity},
            {"probe_identity": probe_identity, "gallery_identity": gallery_identity},
            thresholds=(0.3, 1),
        )
    ranks, mated, unmated = [], [], []
    for row, identity in zip(similarity, probe_identity, strict=True):
        own = [v for v, i in zip(row, gallery_identity, strict=True) if i == identity >= 0]
        others = [v for v, i in zip(row, gallery_identity, strict=True) if not i == identity >= 0]
        if own:
            order = sorted([(v, False) for v in others] + [(v, True) for v in own],
                           key=lambda entry: (-entry[0], entry[1]))  # fmt: skip
            ranks.append([is_mate for _, is_mate in order].index(True) + 1)
            mated.append((max(own), max(others, default=-math.inf)))
        else:
            unmated.append(max(others))
    for k in (1, 5):
        expected = np.mean([rank <= k for rank in ranks]) if ranks else None
        assert result[f"rank@{k}"] == expected
    if not unmated:
        assert not any(name.startswith("tpir") for name in result)
        return
    for fpir in (0.3, 1):
        threshold = sorted(unmated, reverse=True)[max(int(len(unmated) * fpir) - 1, 0)]
        hits = [mate > other and mate > threshold for mate, other in mated]
        assert result[f"tpir@fpir={fpir:g}"] == (np.mean(hits) if mated else None)


# ---- symmetries and closed forms -------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from(list(_pairs.CONVENTIONS)), st.floats(0.1, 9))
@settings(max_examples=40, deadline=None)
def test_order_rotation_and_length_change_nothing(seed, convention, scale):
    rng = np.random.default_rng(seed)
    same = rng.random(50) < 0.5
    same[:2] = True, False
    embedding = rng.normal(size=(50, 2, 6))
    embedding[:, 1] += 1.5 * same[:, None] * embedding[:, 0]
    embedding /= np.linalg.norm(embedding, axis=2, keepdims=True)
    fold = np.arange(50) % 5
    targets = {"same": same, "fold": fold}
    before = flat(score({"embedding": embedding.reshape(100, 6)}, targets, convention))
    order = rng.permutation(50)
    shuffled = {"same": same[order], "fold": fold[order]}
    after = flat(score({"embedding": embedding[order].reshape(100, 6)}, shuffled, convention))
    assert after == pytest.approx(before, abs=1e-9)
    swapped = flat(score({"embedding": embedding[:, ::-1].reshape(100, 6)}, targets, convention))
    assert swapped == pytest.approx(before, abs=1e-9)
    if convention.startswith("pooled"):
        turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        longer = (scale * embedding @ turn).reshape(100, 6)
        assert flat(score({"embedding": longer}, targets, convention)) == pytest.approx(
            before, abs=1e-9
        )


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_monotone_map_of_the_scores_changes_nothing(seed):
    values, same = pairs(40, seed=seed, decimals=1)
    before = score({"score": values}, {"same": same})
    assert score({"score": np.exp(values)}, {"same": same}) == before
    # Negated scores and exchanged labels are the same ROC seen from its other corner.
    mirrored = score({"score": -values}, {"same": ~same})
    assert mirrored["auc"] == pytest.approx(before["auc"], abs=1e-12)
    assert mirrored["eer"] == pytest.approx(before["eer"], abs=1e-12)


def test_perfect_reversed_and_constant_scores():
    same = np.array([True] * 5 + [False] * 5)
    perfect = score({"score": same.astype(float)}, {"same": same})
    assert (perfect["auc"], perfect["eer"], perfect["tar@far=1e-4"]) == (1, 0, 1)
    reverse = score({"score": ~same * 1.0}, {"same": same})
    assert (reverse["auc"], reverse["eer"], reverse["tar@far=1e-1"]) == (0, 1, 0)
    constant = score({"score": np.ones(10)}, {"same": same})
    assert (constant["auc"], constant["eer"], constant["tar@far=1e-1"]) == (0.5, 0.5, 0)
    assert constant["accuracy_best_threshold"] == 0.5


@pytest.mark.parametrize("ni", [7, 100, 1000])
def test_a_false_accept_rate_is_compared_as_written(ni):
    # .29 * 100 is 28.999..., yet 29 of 100 is a FAR of .29; a hair below, it is not.
    ranked = _verification.Ranked(np.arange(ni) - 0.5, np.arange(ni) * 1.0)
    for k in range(1, ni):
        assert _verification.tar_at_far(ranked, k / ni) == pytest.approx(k / ni, abs=1e-12)
        less = _verification.tar_at_far(ranked, math.nextafter(k / ni, 0))
        assert less == pytest.approx((k - 1) / ni, abs=1e-12)


def nearest_on_the_whole_curve(ranked, far):
    """scikit-learn's curve of all scores, less what lies in straight runs; the nearest vertex."""
    genuine, impostor = ranked.genuine, ranked.impostor
    values = np.unique(np.concatenate([genuine, impostor]))[::-1]
    fp = len(impostor) - np.searchsorted(impostor, values, side="left")
    tp = len(genuine) - np.searchsorted(genuine, values, side="left")
    if len(values) > 2:
        bend = (np.diff(fp, 2) != 0) | (np.diff(tp, 2) != 0)
        keep = np.concatenate([[True], bend, [True]])
        fp, tp = fp[keep], tp[keep]
    fp, tp = np.append(fp[::-1], 0), np.append(tp[::-1], 0)
    return tp[np.argmin(np.abs(fp / len(impostor) - far))] / len(genuine)


@given(
    st.integers(0, 10_000), st.sampled_from([1, 2, 30, 3000]), st.sampled_from([3, 700, 20_000]),
    st.sampled_from([None, 3, 1]), st.sampled_from([0, 1, 9]), st.sampled_from([1, 64]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_nearest_rate_is_found_without_the_whole_curve(seed, ng, ni, decimals, apart, width):
    rng = np.random.default_rng(seed)
    genuine, impostor = rng.normal(apart, 1, ng), rng.normal(size=ni)
    if decimals is not None:
        genuine, impostor = genuine.round(decimals), impostor.round(decimals)
    ranked = _verification.Ranked(np.sort(genuine), np.sort(impostor))
    for far in (1e-6, 1e-3, 0.0123, 0.1, 0.35, 0.5, 0.77, 0.999, 1.0):
        found = _verification.tar_at_nearest_far(ranked, far, width)
        assert found == nearest_on_the_whole_curve(ranked, far), far


def test_a_distance_on_the_grid_is_not_below_it():
    same = np.arange(40) % 2 == 0
    distance = np.where(same, 1.0, 3.0)
    fold = _verification.contiguous_folds(40)
    found = _verification.cross_validate(lambda f: distance, same, fold, [])
    assert found.threshold == pytest.approx([1.01] * 10)
    assert found.accuracy == pytest.approx([1.0] * 10)


def test_a_target_that_no_threshold_reaches_accepts_nobody():
    # Opposite impostors lie at distance 4, past the grid, so no threshold reaches a FAR of .001.
    same = np.arange(40) % 2 == 0
    result = score({"score": np.where(same, 1.0, -1.0)}, {"same": same}, "facenet-lfw")
    assert (result["val@far=1e-3"], result["far@far=1e-3"]) == (0, 0)
    assert (result["accuracy"], result["eer"]) == (1, 0)
    lost = score({"score": np.full(40, -1.0)}, {"same": same}, "facenet-lfw")
    assert lost["eer"] is None  # the mean curve ends before FAR = 1 - TAR


def test_equal_cosines_tie_however_they_are_summed():
    # Permuting the coordinates of both vectors changes rounding, not the cosine.
    rng = np.random.default_rng(0)
    base = rng.normal(size=(2, 333))
    embedding = np.concatenate([base[:, rng.permutation(333)] for _ in range(40)])
    same = np.arange(40) % 2
    result = score({"embedding": embedding}, {"same": same})
    assert (result["auc"], result["eer"], result["tar@far=1e-1"]) == (0.5, 0.5, 0)
    gallery = np.stack([rng.permutation(base[0]) for _ in range(40)])
    result = score(
        {"probe": np.ones((40, 333)), "gallery": gallery},
        {"probe_identity": np.arange(40), "gallery_identity": np.arange(40)},
    )
    assert (result["rank@1"], result["rank@5"]) == (0, 0)


def test_constant_embeddings_are_never_identified():
    rng = np.random.default_rng(0)
    row = rng.normal(size=(1, 128)).astype(np.float32)
    predictions = {"probe": np.repeat(row, 20, axis=0), "gallery": np.repeat(row, 10, axis=0) * 3}
    targets = {"probe_identity": np.arange(20) % 10, "gallery_identity": np.arange(10)}
    result = score(predictions, targets)
    assert (result["rank@1"], result["rank@5"]) == (0, 0)


def test_a_probe_finds_any_of_its_identitys_rows():
    targets = {"probe_identity": [4, 4, 9], "gallery_identity": [4, 1, 4, -1]}
    similarity = [[0.1, 0.5, 0.9, 0.2], [0.5, 0.9, 0.1, 0.8], [0.0, 0.3, 0.0, 0.4]]
    result = score({"similarity": similarity}, targets)
    # The third probe has no mate; its best score, .4, is the threshold.
    assert result["rank@1"] == 0.5
    assert result["rank@5"] == 1
    assert result["tpir@fpir=0.01"] == 0.5
    assert score({"similarity": np.array(similarity) / [[1], [1], [0.3]]}, targets)[
        "tpir@fpir=0.01"
    ] == 0  # fmt: skip


def test_pairs_and_identification_land_in_one_dict():
    values, same = pairs()
    targets = {"same": same, "probe_identity": [0, 1], "gallery_identity": [1, 0]}
    result = score({"score": values, "similarity": [[0.0, 1], [1, 0]]}, targets)
    assert result["rank@1"] == 1
    assert set(score({"score": values}, {"same": same})) < set(result)
    assert not any(name.startswith("tpir") for name in result)  # every probe has its mate


def test_groups_are_scored_alone_in_sorted_order():
    values, same = pairs(90)
    group = np.array(["b", "a", "c"] * 30)
    same[group == "c"] = True
    result = score({"score": values}, {"same": same, "group": group})
    for index, name in enumerate("ab"):
        rows = group == name
        alone = score({"score": values[rows]}, {"same": same[rows]})
        for metric, value in alone.items():
            assert result[f"{metric}_per_group"][index] == value
    assert result["eer_per_group"][2] is None  # a group of genuine pairs only


def test_groups_of_embeddings_keep_their_pairs_together():
    rng = np.random.default_rng(3)
    embedding = rng.normal(size=(120, 5))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    same, group = rng.random(60) < 0.5, np.arange(60) % 2
    odd = embedding.reshape(60, 2, 5)[1::2].reshape(60, 5)
    for convention in ("pooled", "insightface-10fold"):
        result = score({"embedding": embedding}, {"same": same, "group": group}, convention)
        alone = score({"embedding": odd}, {"same": same[1::2]}, convention)
        for name in ("eer", "auc") if convention == "pooled" else ("accuracy",):
            assert result[f"{name}_per_group"][1] == alone[name]
    assert len(result["accuracy_per_fold"]) == 10


def test_what_has_no_value_is_none():
    result = score({"score": [0.1, 0.2]}, {"same": [True, True]})
    assert result["accuracy_best_threshold"] == 1
    assert {name for name, value in result.items() if value is None} == {
        "eer", "auc", "tar@far=1e-1", "tar@far=1e-2", "tar@far=1e-3", "tar@far=1e-4",
    }  # fmt: skip
    one_class = score({"score": np.ones(20)}, {"same": np.ones(20)}, "facenet-lfw")
    assert one_class["accuracy"] == 1
    assert one_class["val@far=1e-3"] is one_class["auc"] is one_class["eer"] is None
    strangers = score(
        {"similarity": np.eye(3)}, {"probe_identity": [-1] * 3, "gallery_identity": [1, 2, 3]}
    )
    ranks = [f"rank@{k}" for k in (1, 5, 10, 20)]
    rates = ["tpir@fpir=0.01", "tpir@fpir=0.1", "dir@far=1e-2", "dir@far=1e-1"]
    assert strangers == dict.fromkeys([*ranks, *rates])


# ---- bad input -------------------------------------------------------------------------------

GOOD = np.linspace(0, 1, 12)
SAME = np.arange(12) % 2
E2 = np.tile([[0.6, 0.8]], (24, 1))
WHO = {"probe_identity": [0, 1], "gallery_identity": [0, 1, 2]}
BAD = {
    "nothing": ({"points": GOOD}, {}, r"predictions: found points; expected pairs.*'similarity'"),
    "both": ({"score": GOOD, "embedding": E2}, {"same": SAME}, r"both 'embedding' and 'score'"),
    "no scores": ({}, {"same": SAME}, r"predictions: neither 'embedding' nor 'score'"),
    "no same": ({"score": GOOD}, {"some": SAME}, r"targets: array 'same' is missing.*'some'"),
    "lengths": ({"score": GOOD[:9]}, {"same": SAME}, r"'score' has shape \(9,\); expected \(12,\)"),
    "odd rows": (
        {"embedding": E2[:23]},
        {"same": SAME},
        r"\(23, 2\); expected \(24, d\).*two rows",
    ),
    "nan": ({"score": GOOD * np.nan}, {"same": SAME}, r"'score' holds NaN.*row 0"),
    "inf": (
        {"embedding": E2 + np.array([0, np.inf])},
        {"same": SAME},
        r"'embedding' holds NaN or inf",
    ),
    "zero row": ({"embedding": E2 * 0}, {"same": SAME}, r"'embedding' has only zeros in row 0"),
    "labels": ({"score": GOOD}, {"same": SAME * 2}, r"targets: array 'same'.*0 and 1"),
    "group": ({"score": GOOD}, {"same": SAME, "group": ["a"]}, r"'group' has shape \(1,\)"),
    "group of reals": ({"score": GOOD}, {"same": SAME, "group": GOOD}, r"'group' holds float64"),
    "fold": ({"score": GOOD}, {"same": SAME, "fold": GOOD}, r"'fold' holds float64.*whole"),
    "empty": ({"score": []}, {"same": []}, r"'same' is empty"),
    "matrix": ({"similarity": np.eye(2)}, WHO, r"'similarity' has shape \(2, 2\).*\(2, 3\)"),
    "no gallery": ({"probe": E2[:2]}, WHO, r"array 'gallery' is missing"),
    "no probe": ({"gallery": E2[:3]}, WHO, r"array 'probe' is missing"),
    "widths": ({"probe": E2[:2], "gallery": E2[:3, :1]}, WHO, r"'gallery'.*\(3, 1\).*\(3, 2\)"),
    "two ways": ({"probe": E2[:2], "similarity": E2}, WHO, r"both 'probe' and 'similarity'"),
    "identity": (
        {"similarity": np.zeros((2, 3))},
        {**WHO, "probe_identity": [0, -100]},
        r"targets: array 'probe_identity' holds -100; expected identities from 0, or -1",
    ),
    "missing half": ({"similarity": np.eye(2)}, {}, r"targets: array 'probe_identity' is missing"),
    "half scored": ({"score": GOOD}, {"same": SAME, **WHO}, r"neither 'gallery' nor 'similarity'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named(case):
    predictions, targets, message = BAD[case]
    with pytest.raises(FacebenchError, match=message):
        score(predictions, targets)


def test_what_a_convention_needs_is_named():
    with pytest.raises(FacebenchError, match=r"'embedding' has length 2 in row 0.*L2-normalise"):
        score({"embedding": 2 * E2}, {"same": SAME}, "insightface-10fold")
    with pytest.raises(FacebenchError, match=r"'score' cannot be centred; give 'embedding'"):
        score({"score": GOOD}, {"same": SAME}, "facenet-lfw-angle-centred")
    with pytest.raises(FacebenchError, match=r"9 pairs cannot be split into ten folds"):
        score({"score": GOOD[:9]}, {"same": SAME[:9]}, "insightface-10fold")
    with pytest.raises(FacebenchError, match=r"'fold' names one fold, 3"):
        score({"score": GOOD}, {"same": SAME, "fold": [3] * 12}, "insightface-10fold")
    with pytest.raises(UsageError, match=r"no convention 'insightface'.*'insightface-10fold'"):
        score({"score": GOOD}, {"same": SAME}, "insightface")
    with pytest.raises(UsageError, match=r"threshold 10: expected a false accept rate"):
        score({"score": GOOD}, {"same": SAME}, thresholds=[10])
