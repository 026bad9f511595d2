"""Action unit metrics against published scorers, closed forms and loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench import metrics
from facebench.errors import FacebenchError, UsageError
from facebench.metrics import action_units


def score(probability, label, convention=None, **targets):
    return metrics.score(
        "action_units", {"probability": probability}, {"label": label, **targets}, convention
    )


def intensity(predicted, true, convention=None, **targets):
    return metrics.score(
        "action_unit_intensity", {"intensity": predicted}, {"intensity": true, **targets},
        convention,
    )  # fmt: skip


# ---- published scorers -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bp4d12", "disfa8_missing9", "rare_au"])
def test_f1_accuracy_and_auc_equal_published_scorers(oracles, name):
    z = np.load(oracles / f"metrics/au_{name}.npz")
    result = score(z["in_prob"], z["in_labels"].astype(int))
    for peer in ("megraphau_f1", "fmae_f1_at_0p5"):
        assert result["f1_per_au"] == pytest.approx(z[f"out_{peer}"], abs=1e-12)
    assert result["f1"] == pytest.approx(float(z["out_megraphau_f1_mean"]), abs=1e-12)
    assert result["accuracy_per_au"] == pytest.approx(z["out_megraphau_acc"], abs=1e-12)
    assert result["auc_per_au"] == pytest.approx(z["out_fmae_auc"], abs=1e-12)
    assert result["auc"] == pytest.approx(float(z["out_fmae_auc_mean"]), abs=1e-12)
    best = score(z["in_prob"], z["in_labels"].astype(int), "legacy-best-on-test")
    assert best["legacy_f1_best_on_test"] == pytest.approx(float(z["out_fmae_best_mean_f1"]))
    assert best["legacy_threshold"] == pytest.approx(float(z["out_fmae_best_threshold"]))
    missing = score(z["in_prob"], z["in_labels_missing9"].astype(int))
    assert missing["f1_per_au"] == pytest.approx(z["out_jaanet_f1"], abs=1e-12)
    assert missing["accuracy_per_au"] == pytest.approx(z["out_jaanet_acc"], abs=1e-12)


def test_intensity_equals_published_scorers(oracles):
    z = np.load(oracles / "metrics/au_intensity.npz")
    result = intensity(z["in_pred"], z["in_gt"])
    assert result["icc_3_1_per_au"] == pytest.approx(z["out_icc"][:, 2], abs=1e-12)
    assert result["icc_3_1_per_au"] == pytest.approx(z["out_icc_libreface"], abs=1e-12)
    assert result["icc_3_1_per_au"][0] == pytest.approx(z["out_pingouin_au0"][2], abs=1e-12)
    assert result["pcc_per_au"] == pytest.approx(z["out_pcc"], abs=1e-12)
    assert result["mse_per_au"] == pytest.approx(z["out_mse"], rel=1e-5)  # theirs in float32
    assert result["mae_per_au"] == pytest.approx(z["out_mae"], rel=1e-5)
    assert result["icc_3_1"] == pytest.approx(np.mean(z["out_icc"][:, 2]))
    for k, name in enumerate(("icc_1_1", "icc_2_1")):
        assert result[f"{name}_per_au"] == pytest.approx(z["out_icc"][:, k], abs=1e-12)
        assert result[f"{name}_per_au"][0] == pytest.approx(z["out_pingouin_au0"][k], abs=1e-12)
    assert result["ccc_per_au"] == pytest.approx(z["out_ccc_biased"], abs=1e-6)  # in float32
    # unbiased moments, as some libraries take them, are another number
    assert result["ccc_per_au"] != pytest.approx(z["out_ccc_torchmetrics"], abs=1e-6)


# ---- loops -----------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([-1, 9, 999]))
@settings(max_examples=60, deadline=None)
def test_every_number_by_a_loop(seed, n, unknown):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, unknown], (n, 3), p=[0.5, 0.3, 0.2])
    label[0, 0] = 1  # no known label at all is refused
    probability = rng.integers(0, 5, (n, 3)) / 4  # 0.5 is among them, and many ties
    result = score(probability, label)
    for a in range(3):
        rows = [i for i in range(n) if label[i, a] in (0, 1)]
        if not rows:
            expected = (None, None, None)
        else:
            said = {i: probability[i, a] >= 0.5 for i in rows}
            tp = sum(said[i] and label[i, a] == 1 for i in rows)
            wrong = sum(said[i] != (label[i, a] == 1) for i in rows)
            f1 = 2 * tp / (2 * tp + wrong) if 2 * tp + wrong else 0.0
            pairs = [
                (p > q) + (p == q) / 2
                for p in (probability[i, a] for i in rows if label[i, a] == 1)
                for q in (probability[j, a] for j in rows if label[j, a] == 0)
            ]
            expected = (f1, np.mean(pairs) if pairs else None, 1 - wrong / len(rows))
        for name, value in zip(("f1", "auc", "accuracy"), expected):
            assert result[f"{name}_per_au"][a] == pytest.approx(value), name


def test_folds_are_averaged_after_action_units_and_pooling_differs():
    rng = np.random.default_rng(0)
    label = (rng.random((90, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(int)
    probability = np.clip(0.4 * label + rng.random((90, 4)) * 0.6, 0, 1)
    fold = np.repeat([7, 3, 5], 30)
    result = score(probability, label, fold=fold)
    alone = [score(probability[fold == f], label[fold == f]) for f in (3, 5, 7)]
    for name in ("f1", "auc", "accuracy"):
        values = [part[name] for part in alone]
        assert result[f"{name}_per_fold"] == pytest.approx(values)
        assert result[name] == pytest.approx(np.mean(values))
    assert result["f1_per_au"][1] == pytest.approx(np.mean([p["f1_per_au"][1] for p in alone]))
    pooled = score(probability, label, "pooled", fold=fold)
    assert pooled == score(probability, label)
    assert pooled["f1"] != pytest.approx(result["f1"], abs=1e-3)
    assert "f1_per_fold" not in pooled


def test_an_action_unit_that_a_fold_does_not_know_is_left_out_of_that_fold():
    label = np.array([[1, 1], [0, 1], [1, -1], [0, 9]])
    probability = np.array([[0.9, 0.9], [0.1, 0.2], [0.2, 0.4], [0.3, 0.4]])
    result = score(probability, label, fold=[0, 0, 1, 1])
    # fold 0: F1 of 1 and 2/3; fold 1: 0 for the first, nothing for the second
    assert result["f1_per_fold"] == pytest.approx([5 / 6, 0])
    assert result["f1_per_au"] == pytest.approx([0.5, 2 / 3])
    assert result["auc_per_au"] == [pytest.approx(0.5), None]


def test_all_positive_is_the_floor_it_says():
    rng = np.random.default_rng(1)
    label = rng.choice([0, 1, 9, -1], (200, 3), p=[0.6, 0.3, 0.05, 0.05])
    floor = action_units.all_positive_f1(label)
    assert score(np.ones((200, 3)), label)["f1_per_au"] == pytest.approx(floor)
    assert action_units.all_positive_f1(np.array([[9], [-1]])) == [None]
    # published base rates of DISFA: a mean of 18.7
    rates = np.array([4.97, 4.31, 15.24, 7.89, 4.18, 12.88, 27.71, 8.82]) / 100
    label = np.arange(10_000)[:, None] < rates * 10_000
    assert np.mean(action_units.all_positive_f1(label)) == pytest.approx(0.187, abs=5e-4)


def test_the_floor_stands_beside_f1_in_each_convention():
    rng = np.random.default_rng(4)
    label = rng.choice([0, 1, 9], (60, 3), p=[0.6, 0.3, 0.1])
    probability, fold = rng.random((60, 3)), rng.integers(0, 3, 60)
    result = score(probability, label, fold=fold)
    floors = [np.mean(action_units.all_positive_f1(label[fold == f])) for f in range(3)]
    assert result["f1_all_positive_per_fold"] == pytest.approx(floors)
    assert result["f1_all_positive"] == pytest.approx(np.mean(floors))
    pooled = score(probability, label, "pooled", fold=fold)
    assert pooled["f1_all_positive_per_au"] == pytest.approx(action_units.all_positive_f1(label))
    assert pooled["f1_all_positive"] != pytest.approx(np.mean(floors), abs=1e-4)
    everything = score(np.ones((60, 3)), label, fold=fold)
    assert everything["f1"] == everything["f1_all_positive"] == result["f1_all_positive"]


def test_each_action_unit_at_its_own_threshold():
    label = np.array([[1, 0], [1, 1], [0, 1], [0, 9]])
    probability = np.array([[0.3, 0.8], [0.2, 0.9], [0.1, 0.7], [0.4, 0.1]])
    predictions = {"probability": probability, "threshold": np.array([0.2, 0.9])}
    result = metrics.score("action_units", predictions, {"label": label})
    assert result["f1_chosen_per_au"] == pytest.approx([4 / 5, 2 / 3])  # equal to it is there
    assert result["f1_chosen"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert result["f1_per_au"] == pytest.approx([0, 4 / 5])
    assert "f1_chosen" not in score(probability, label)
    half = metrics.score(
        "action_units",
        {"probability": probability, "threshold": np.full(2, 0.5)},
        {"label": label, "fold": [0, 1, 0, 1]},
    )
    for axis in ("", "_per_au", "_per_fold"):
        assert half[f"f1_chosen{axis}"] == half[f"f1{axis}"]
    for wrong, message in (
        ([0.5], r"'threshold' has shape \(1,\); expected \(2,\)"),
        ([0.5, 1.5], r"'threshold' holds 1.5"),
    ):
        with pytest.raises(FacebenchError, match=message):
            metrics.score(
                "action_units", {"probability": probability, "threshold": wrong}, {"label": label}
            )


def test_the_legacy_figure_is_the_best_common_threshold_of_each_fold():
    rng = np.random.default_rng(5)
    label = rng.choice([0, 1, -1], (80, 3), p=[0.5, 0.3, 0.2])
    probability = np.round(np.clip(0.3 * label + rng.random((80, 3)) * 0.7, 0, 1), 2)
    fold = rng.integers(0, 2, 80)
    fold[0], label[0] = 2, 9  # a fold of which nothing is known

    def at(threshold, rows):
        cells = [
            score((probability[rows][:, [a]] >= threshold) * 1.0, label[rows][:, [a]])["f1"]
            for a in range(3)
        ]
        return np.mean(cells)

    found = score(probability, label, "legacy-best-on-test", fold=fold)
    grid = [k / 100 for k in range(1, 100)]
    for f in (0, 1):
        table = [at(t, fold == f) for t in grid]
        assert found["legacy_f1_best_on_test_per_fold"][f] == pytest.approx(max(table))
        assert found["legacy_threshold_per_fold"][f] == grid[int(np.argmax(table))]
    assert found["legacy_f1_best_on_test_per_fold"][2] is None
    best = found["legacy_f1_best_on_test_per_fold"][:2]
    assert found["legacy_f1_best_on_test"] == pytest.approx(np.mean(best))
    assert np.mean(found["legacy_f1_best_on_test_per_au"]) == pytest.approx(np.mean(best))
    assert found["legacy_f1_best_on_test"] > score(probability, label, fold=fold)["f1"]
    # It ranks nothing: no direction, no parts, and F1 by its own name is not among its numbers.
    assert "f1" not in found
    for name in found:
        assert metrics.metric_info("action_units", name)["higher_is_better"] is None
    arrays = {"probability": probability}, {"label": label}
    assert metrics.parts("action_units", "legacy-best-on-test", *arrays) == {}


def test_action_units_are_joined_by_name():
    """Numbers as text sort in another way than numbers do: AU1, AU12, AU2, AU4."""
    rng = np.random.default_rng(6)
    label, probability = rng.integers(0, 2, (30, 4)), rng.random((30, 4))
    threshold, true = rng.random(4), rng.random((30, 4))
    names = ["AU1", "AU2", "AU4", "AU12"]
    order = np.argsort(names)
    assert order.tolist() == [0, 3, 1, 2]
    mine = {"au_names": [names[k] for k in order]}
    for task, predictions, targets in (
        ("action_units", {"probability": probability, "threshold": threshold}, {"label": label}),
        ("action_unit_intensity", {"intensity": probability}, {"intensity": true}),
    ):
        moved = {name: array[..., order] for name, array in predictions.items()}
        named = targets | {"au_names": names}
        plain = metrics.score(task, predictions, targets)
        assert metrics.score(task, moved | mine, named) == plain
        assert metrics.score(task, moved, targets) != plain
        for name, part in metrics.parts(task, None, moved | mine, named).items():
            total = part.columns.sum(axis=0)
            assert part.value(total) == pytest.approx(plain[name], abs=1e-4), name


def intraclass(pair):
    """ICC(1,1), ICC(2,1) and ICC(3,1) of ratings (n, k) from the table of mean squares."""
    n, k = pair.shape
    grand, rows, raters = pair.mean(), pair.mean(1), pair.mean(0)
    bms = k * ((rows - grand) ** 2).sum() / (n - 1)
    wms = ((pair - rows[:, None]) ** 2).sum() / (n * (k - 1))
    jms = n * ((raters - grand) ** 2).sum() / (k - 1)
    ems = ((pair - rows[:, None] - raters + grand) ** 2).sum() / ((n - 1) * (k - 1))
    return (
        (bms - wms) / (bms + (k - 1) * wms),
        (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n),
        (bms - ems) / (bms + (k - 1) * ems),
    )


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_correlations_are_the_table_of_mean_squares(n):
    rng = np.random.default_rng(n)
    x = rng.uniform(0, 5, n)
    y = 0.8 * x + rng.normal(size=n) * 0.5 + 1
    result = intensity(y[:, None], x[:, None])
    for name, value in zip(("icc_1_1", "icc_2_1", "icc_3_1"), intraclass(np.stack([x, y], 1))):
        assert result[name] == pytest.approx(value), name
    concordance = 2 * np.cov(x, y, bias=True)[0, 1]
    concordance /= x.var() + y.var() + (x.mean() - y.mean()) ** 2
    assert result["ccc"] == pytest.approx(concordance)
    assert abs(result["ccc"]) < abs(result["pcc"])  # it sees the bias


def test_icc_of_two_swapped_images_is_nothing():
    x = np.array([[0.0], [1.0]])
    result = intensity(x[::-1], x)
    assert (result["icc_2_1"], result["icc_3_1"], result["ccc"]) == (0, -1, -1)


@pytest.mark.parametrize("unknown", [-1, 9, 999, np.nan])
def test_an_unknown_intensity_leaves_its_cell_out(unknown):
    rng = np.random.default_rng(7)
    true, predicted = rng.integers(0, 6, (50, 3)).astype(float), rng.uniform(0, 5, (50, 3))
    hidden = rng.random((50, 3)) < 0.3
    hidden[:, 2] = True
    labels = np.where(hidden, unknown, true)
    fold = np.arange(50) % 2
    result = intensity(predicted, labels, "pooled", fold=fold)
    for name in ("icc_3_1", "ccc", "mae", "mse", "pcc"):
        alone = [
            intensity(predicted[~h][:, [a]], true[~h][:, [a]])[name]
            for a, h in enumerate(hidden.T[:2])
        ]
        assert result[f"{name}_per_au"][:2] == pytest.approx(alone), name
        assert result[f"{name}_per_au"][2] is None
        assert result[name] == pytest.approx(np.mean(alone))
    for convention in ("pooled", "fold-mean"):
        arrays = {"intensity": predicted}, {"intensity": labels, "fold": fold}
        whole = metrics.score("action_unit_intensity", *arrays, convention)
        for name, part in metrics.parts("action_unit_intensity", convention, *arrays).items():
            total = part.value(part.columns.sum(axis=0))
            assert total == pytest.approx(whole[name], abs=1e-4), name


def test_intensities_outside_the_scale_are_refused():
    x = np.array([[0.0, 5.0], [1.0, 2.0]])
    for wrong, message in (
        (x + 1, r"'intensity' holds 6, first in row 0; expected numbers from 0 to 5; -1, 9, 999"),
        (x - 0.5, r"'intensity' holds -0.5, first in row 0"),
        (x + np.inf, r"'intensity' holds inf"),
        (x * 0 - 1, r"'intensity' holds no known label"),
    ):
        with pytest.raises(FacebenchError, match=message):
            intensity(x, wrong)


def test_icc_is_the_analysis_of_variance():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 5, 30)
    y = 0.7 * x + rng.normal(size=30) * 0.4 + 3
    pair = np.stack([x, y], 1)
    between = 2 * ((pair.mean(1) - pair.mean()) ** 2).sum() / 29
    rest = pair - pair.mean(1, keepdims=True) - pair.mean(0) + pair.mean()
    error = (rest**2).sum() / 29
    result = intensity(y[:, None], x[:, None])
    assert result["icc_3_1"] == pytest.approx((between - error) / (between + error))
    assert result["pcc"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert result["mae"] == pytest.approx(np.abs(x - y).mean())
    assert result["mse"] == pytest.approx(((x - y) ** 2).mean())
    # consistency: a bias is not seen by it, a mirror image is
    assert intensity(y[:, None] + 5, x[:, None])["icc_3_1"] == pytest.approx(result["icc_3_1"])
    assert intensity(-x[:, None], x[:, None])["icc_3_1"] == pytest.approx(-1)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3])
def test_a_constant_has_no_correlation(constant):
    x = np.linspace(0, 1, 7)[:, None]
    for pair in ((np.full((7, 1), constant), x), (x, np.full((7, 1), constant))):
        result = intensity(*pair)
        assert result["icc_3_1"] == result["pcc"] == result["ccc"] == 0
        assert result["icc_1_1"] == result["icc_2_1"] == 0
        assert result["mae"] > 0


def test_intensity_folds():
    rng = np.random.default_rng(3)
    x, y, fold = rng.random((40, 2)), rng.random((40, 2)), np.arange(40) % 2
    result = intensity(y, x, fold=fold)
    parts = [intensity(y[fold == f], x[fold == f])["mae"] for f in (0, 1)]
    assert result["mae_per_fold"] == pytest.approx(parts)
    assert intensity(y, x, "pooled", fold=fold) == intensity(y, x)


# ---- bad input -------------------------------------------------------------------------------


BAD = {
    "label": (lambda p, t: (p, t + 1, {}), r"targets.*'label' holds 2; expected 1 there"),
    "unknown": (lambda p, t: (p, t * 0 - 1, {}), r"targets.*'label' holds no 0 or 1"),
    "grade": (lambda p, t: (p, np.where(t, 3, t), {}), r"'label' holds 3"),
    "floats": (lambda p, t: (p, t * 1.0, {}), r"'label' holds float64"),
    "logits": (lambda p, t: (p * 3, t, {}), r"'probability' holds 3;.*take a sigmoid first"),
    "nan": (lambda p, t: (p * np.nan, t, {}), r"'probability' holds NaN"),
    "columns": (lambda p, t: (p[:, :1], t, {}), r"'probability' has shape \(4, 1\).*\(4, 2\)"),
    "fold": (lambda p, t: (p, t, {"fold": [0, 1]}), r"'fold' has shape \(2,\)"),
    "names": (lambda p, t: (p, t, {"au_names": ["AU1", "AU1"]}), r"'au_names' holds 'AU1' twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named(case):
    make, message = BAD[case]
    label = np.array([[0, 1], [1, 0], [1, 1], [0, 0]])
    probability, label, targets = make(label * 1.0, label)
    with pytest.raises(FacebenchError, match=message):
        score(probability, label, **targets)


def test_conventions():
    label = np.array([[0, 1], [1, 0]])
    with pytest.raises(FacebenchError, match=r"targets: array 'fold' is missing"):
        score(label * 1.0, label, "fold-mean")
    with pytest.raises(UsageError, match=r"action_units has no convention 'fold'.*'fold-mean'"):
        score(label * 1.0, label, "fold")
    with pytest.raises(UsageError, match=r"action_unit_intensity has no convention 'pool'"):
        intensity(label * 1.0, label, "pool")
    with pytest.raises(FacebenchError, match=r"predictions: array 'intensity' holds NaN"):
        intensity(label * np.nan, label)
    with pytest.raises(UsageError, match=r"no convention 'legacy-best-on-test'"):
        intensity(label * 1.0, label, "legacy-best-on-test")
    with pytest.raises(UsageError, match=r"without thresholds"):
        metrics.score(
            "action_units", {"probability": label * 1.0}, {"label": label}, "legacy-best-on-test",
            [0.3],
        )  # fmt: skip
    with pytest.raises(FacebenchError, match=r"'au_names' holds 'AU3'; expected the names that"):
        metrics.score(
            "action_units",
            {"probability": label * 1.0, "au_names": ["AU3", "AU1"]},
            {"label": label, "au_names": ["AU1", "AU2"]},
        )
