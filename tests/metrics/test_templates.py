"""Templates and videos against the field's evaluators, published values and plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import metrics
from facebench.errors import FacebenchError, UsageError
from facebench.metrics import _templates
from facebench.metrics._arrays import Arrays

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def score(predictions, targets, convention=None, thresholds=None):
    return metrics.score("recognition", predictions, targets, convention, thresholds)


@pytest.fixture(scope="module")
def ijb(oracles):
    with np.load(oracles / "metrics" / "ijb_style.npz") as file:
        return dict(file)


def arrays(z, flip=True):
    predictions = {"embedding": z["in_feats"], "detector_score": z["in_det_scores"]}
    if flip:
        predictions["embedding_flipped"] = z["in_feats_flip"]
    targets = {
        "template": z["in_templates"],
        "media": z["in_medias"],
        "pairs": np.stack([z["in_p1"], z["in_p2"]], axis=1),
        "same": z["in_label"],
    }
    return predictions, targets


def tars(result):
    return [v for k, v in result.items() if k.startswith("tar@") and "conservative" not in k]


# ---- the field's evaluators ------------------------------------------------------------------


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("pooling", ["n0d0", "n0d1", "n1d0", "n1d1"])
def test_equals_the_ijb_tables(ijb, pooling, flip):
    result = score(*arrays(ijb, bool(flip)), f"ijb-{pooling}", FARS)
    name = f"{pooling.upper()}F{flip}"
    assert tars(result) == pytest.approx(ijb[f"out_tar_{name}"], abs=1e-12)
    assert result["auc"] == pytest.approx(float(ijb[f"out_auc_{name}"]), abs=1e-12)
    same = ijb["in_label"]
    assert result["genuine_pairs"] == same.sum()
    assert result["impostor_pairs"] == len(same) - same.sum()
    assert result | score(*arrays(ijb, bool(flip)), f"ijb-{pooling}") == result  # the usual FARs


def test_templates_and_scores_equal_the_published_code(ijb):
    pooling = _templates.Pooling(norm=True, detector=True)
    predictions, targets = arrays(ijb)
    found = _templates.pool(Arrays(predictions, "p"), Arrays(targets, "t"), pooling)
    assert (found.names == ijb["out_unique_templates"]).all()
    # The published code adds the flipped image's vector in float32, this in float64.
    assert found.vectors == pytest.approx(ijb["out_template_feats_N1D1F1"], abs=1e-7)
    rows = found.rows(targets["pairs"], Arrays(targets, "t"), "pairs")
    scores = _templates.pair_scores(found.vectors, rows[:, 0], rows[:, 1])
    assert scores == pytest.approx(ijb["out_scores_N1D1F1"], abs=1e-7)
    scores = _templates.pair_scores(ijb["out_template_feats_N1D1F1"], rows[:, 0], rows[:, 1])
    assert scores == pytest.approx(ijb["out_scores_N1D1F1"], abs=1e-11)


def test_conservative_never_reads_above_its_rate(ijb):
    predictions, targets = arrays(ijb)
    result = score(predictions, targets, "ijb-n1d1", FARS)
    plain = score({"score": ijb["out_scores_N1D1F1"]}, {"same": ijb["in_label"]}, None, FARS)
    for name, value in plain.items():
        if name.startswith("tar@"):
            assert result[f"{name}:conservative"] == value
    info = metrics.metric_info("recognition", "tar@far=1e-4:conservative")
    assert info["higher_is_better"]
    with pytest.raises(UsageError, match="no metric"):
        metrics.metric_info("recognition", "tar@far=1e-4:hopeful")
    with pytest.raises(UsageError, match="no metric"):
        metrics.metric_info("recognition", "val@far=1e-4:conservative")


def searched(z, probes=slice(None)):
    return {
        "template": z["in_templates"],
        "media": z["in_medias"],
        "probe_template": z["in_probe_templates"][probes],
        "probe_identity": z["in_probe_ids"][probes],
        "gallery_template": z["in_gallery_templates"],
        "gallery_identity": z["in_gallery_ids"],
    }


def test_equals_the_open_set_search_of_templates(ijb):
    result = score(arrays(ijb)[0], searched(ijb), "ijb-n1d1", list(ijb["in_1n_fpirs"]))
    found = [result[f"tpir@fpir={f:g}"] for f in ijb["in_1n_fpirs"]]
    assert found == pytest.approx(ijb["out_1n_tpirs"], abs=1e-12)
    ranks = [result[f"rank@{k}"] for k in (1, 5, 10)]
    assert ranks == list(ijb["out_1n_top1_5_10_counts"] / ijb["out_1n_mated"])


def test_equals_the_legacy_search(ijb):
    mated = np.isin(ijb["in_probe_ids"], ijb["in_gallery_ids"])
    result = score(arrays(ijb)[0], searched(ijb, mated), "ijb-legacy")
    far, recall, _ = np.split(ijb["out_ijb1n_far_pr_th"], 3, axis=1)
    found = [result[f"tpir_legacy@fpir={f:g}"] for f in far[:, 0]]
    assert found == pytest.approx(recall[:, 0], abs=1e-10)  # which was printed
    ranks = [result[f"rank@{k}"] for k in (1, 5, 10)]
    assert ranks == pytest.approx(ijb["out_ijb1n_top1_5_10"], abs=1e-12)
    assert not any(name.startswith(("tpir@", "dir@")) for name in result)
    with pytest.raises(FacebenchError, match="has 0 mates in the gallery for row"):
        score(arrays(ijb)[0], searched(ijb), "ijb-legacy")


def test_pooled_vectors_of_the_published_example():
    predictions = {
        "embedding": np.array([[1, 0], [3, 0], [0, 2], [0, 1]], np.float32),
        "detector_score": [1, 0.5, 1, 0.2],
    }
    targets = {"template": [5] * 4, "media": [7, 7, 8, 9]}
    for pooling, expected in (
        ((True, True), (1.25, 2.2)),
        ((True, False), (2, 3)),
        ((False, True), (0.75, 1.2)),
        ((False, False), (1, 2)),
    ):
        found = _templates.pool(
            Arrays(predictions, "p"), Arrays(targets, "t"), _templates.Pooling(*pooling)
        )
        assert found.vectors[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-12)


# ---- loops -----------------------------------------------------------------------------------


def collection(seed=0, n=90, d=6):
    rng = np.random.default_rng(seed)
    template = rng.integers(3, 25, n) * 7 - 30
    predictions = {
        "embedding": rng.normal(size=(n, d)).astype(np.float32),
        "embedding_flipped": rng.normal(size=(n, d)),
        "detector_score": rng.random(n),
    }
    names = np.unique(template)
    targets = {
        "template": template,
        "media": rng.integers(0, 4, n).astype(str),
        "pairs": rng.choice(names, (70, 2)),
        "same": rng.random(70) < 0.4,
    }
    return predictions, targets


def by_loops(predictions, targets, norm, detector):
    rows = predictions["embedding"].astype(np.float64) + predictions["embedding_flipped"]
    if not norm:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if detector:
        rows = rows * predictions["detector_score"][:, None]
    pooled = {}
    for t in np.unique(targets["template"]):
        own = targets["template"] == t
        total = sum(
            rows[own & (targets["media"] == m)].mean(axis=0)
            for m in np.unique(targets["media"][own])
        )
        pooled[t] = total / np.linalg.norm(total)
    return np.array([pooled[a] @ pooled[b] for a, b in targets["pairs"]])


@pytest.mark.parametrize("rows", [256, 7])
@pytest.mark.parametrize("sparse", [24, 0])
@pytest.mark.parametrize("strip", [1 << 23, 30])
def test_pooling_and_pairs_by_loops(monkeypatch, rows, sparse, strip):
    monkeypatch.setattr(_templates, "_ROWS", rows)  # a template spans several blocks
    monkeypatch.setattr(_templates, "_SPARSE", sparse)
    monkeypatch.setattr(_templates, "_STRIP", strip)
    predictions, targets = collection()
    for norm in (False, True):
        for detector in (False, True):
            expected = by_loops(predictions, targets, norm, detector)
            pooling = _templates.Pooling(norm, detector)
            found = _templates.pool(Arrays(predictions, "p"), Arrays(targets, "t"), pooling)
            rows = found.rows(targets["pairs"], Arrays(targets, "t"), "pairs")
            for order in (slice(None), slice(None, None, -1)):
                first, second = rows[:, order].T
                scores = _templates.pair_scores(found.vectors, first, second)
                assert scores == pytest.approx(expected, abs=2e-12)
                assert (scores == np.round(scores, 12)).all()


def test_strips_need_not_be_square(monkeypatch):
    monkeypatch.setattr(_templates, "_STRIP", 64)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = rng.integers(0, 9, 300), rng.integers(9, 50, 300)
    for a, b in ((first, second), (second, first)):
        found = _templates.pair_scores(vectors, a, b)
        assert found == pytest.approx((vectors[a] * vectors[b]).sum(axis=1), abs=1e-11)


def test_lengths_may_be_given_apart():
    predictions, targets = collection()
    expected = score(predictions, targets, "ijb-n1d1")
    apart = dict(predictions)
    for name, norm in (("embedding", "norm"), ("embedding_flipped", "norm_flipped")):
        rows = predictions[name].astype(np.float64)
        apart[norm] = np.linalg.norm(rows, axis=1)
        apart[name] = rows / apart[norm][:, None]
    assert score(apart, targets, "ijb-n1d1") == expected
    with pytest.raises(FacebenchError, match=r"'norm' and 'norm_flipped' one is missing"):
        score({k: v for k, v in apart.items() if k != "norm"}, targets, "ijb-n1d1")
    with pytest.raises(FacebenchError, match=r"'embedding' has length .* in row \d+; expected 1"):
        score(apart | {"embedding": predictions["embedding"]}, targets, "ijb-n1d1")


def test_order_of_rows_and_names_of_templates_change_nothing():
    predictions, targets = collection(3)
    expected = score(predictions, targets)
    order = np.random.default_rng(0).permutation(len(targets["template"]))
    moved = {name: value[order] for name, value in predictions.items()}
    renamed = {
        "template": targets["template"][order] * 10**12,  # too far apart for a table
        "media": targets["media"][order],
        "pairs": targets["pairs"] * 10**12,
        "same": targets["same"],
    }
    assert score(moved, renamed) == expected


def test_a_memory_mapped_collection_scores_alike(tmp_path):
    predictions, targets = collection(4)
    for name, value in predictions.items():
        np.save(tmp_path / f"{name}.npy", value)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in predictions}
    assert score(mapped, targets) == score(predictions, targets)


# ---- videos ----------------------------------------------------------------------------------


def videos(seed=0):
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(200, 5)) + 3 * np.repeat(rng.normal(size=(20, 5)), 10, axis=0)
    pairs = rng.integers(0, 40, (60, 2))
    targets = {
        "template": np.arange(200) // 5,
        "media": np.arange(200) % 2,  # not read
        "pairs": pairs,
        "same": pairs[:, 0] // 2 == pairs[:, 1] // 2,
        "fold": np.arange(60) % 5,
    }
    return {"embedding": embedding}, targets


def test_videos_by_loops():
    predictions, targets = videos()
    frames = predictions["embedding"].reshape(40, 5, 5)
    unit = frames / np.linalg.norm(frames, axis=2, keepdims=True)
    mean = frames.mean(axis=1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    every = [(unit[a] @ unit[b].T).mean() for a, b in targets["pairs"]]
    of_means = [mean[a] @ mean[b] for a, b in targets["pairs"]]
    for convention, values in (("video-frames-10fold", every), ("video-mean-10fold", of_means)):
        rest = {name: targets[name] for name in ("same", "fold")}
        expected = score({"score": np.round(values, 12)}, rest, "insightface-10fold")
        assert score(predictions, targets, convention) == expected


# ---- bad input -------------------------------------------------------------------------------


def without(arrays, name):
    return {k: v for k, v in arrays.items() if k != name}


def changed(arrays, name, row, value):
    array = np.array(arrays[name])
    array[row] = value
    return arrays | {name: array}


P, T = collection()
BAD = {
    "no detector": (without(P, "detector_score"), T, r"'detector_score' is missing.*ijb-n1d0"),
    "nan": (changed(P, "embedding", 17, np.nan), T, r"'embedding' holds NaN or infinity.*row 17"),
    "inf flipped": (changed(P, "embedding_flipped", 4, np.inf), T, r"'embedding_flipped'.*row 4"),
    "rows": (P | {"embedding": P["embedding"][:50]}, T, r"'embedding' has shape \(50, 6\)"),
    "unknown": (P, changed(T, "pairs", (9, 1), 4), r"'pairs' names 4 in row 9.*'template'"),
    "far away": (P, changed(T, "pairs", (9, 1), 2**40), r"'pairs' names 1099511627776 in row 9"),
    "no pairs": (P, without(T, "pairs"), r"expected 'pairs' \(m, 2\).*'probe_template'"),
    "media": (P, T | {"media": np.zeros(90)}, r"'media' holds float64"),
    "opposite": (
        {**P, "embedding_flipped": -P["embedding"]}, T, r"length 0 for template -9",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_templates_are_named(case):
    predictions, targets, message = BAD[case]
    with pytest.raises(FacebenchError, match=message):
        score(predictions, targets)


def test_a_zero_row_has_no_direction_where_lengths_are_taken_off():
    predictions = changed(P, "embedding", 6, -P["embedding_flipped"][6])
    predictions["embedding_flipped"] = predictions["embedding_flipped"].astype(np.float32)
    assert score(predictions, T, "ijb-n1d0")
    with pytest.raises(FacebenchError, match=r"'embedding' has only zeros in row 6"):
        score(predictions, T, "ijb-n0d0")


def test_conventions_of_images_and_of_templates_are_told_apart():
    with pytest.raises(UsageError, match=r"'pooled' is of pairs of images; take one of ijb-n1d1"):
        score(P, T, "pooled")
    with pytest.raises(UsageError, match=r"holds no array 'template'.*'pooled-nearest'"):
        score({"score": np.ones(3)}, {"same": [1, 0, 1]}, "ijb-n1d1")
