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


# ---- loops -----------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([-1, 9]))
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


def test_icc_is_the_analysis_of_variance():
    rng = np.random.default_rng(2)
    x = rng.normal(size=30)
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
        assert result["icc_3_1"] == result["pcc"] == 0
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
    "placeholder": (lambda p, t: (p, np.where(t, 999, t), {}), r"'label' holds 999"),
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
    with pytest.raises(FacebenchError, match=r"'intensity' holds NaN"):
        intensity(label * np.nan, label)
    with pytest.raises(FacebenchError, match=r"'au_names' calls column 0 'AU2'; expected 'AU1'"):
        metrics.score(
            "action_units",
            {"probability": label * 1.0, "au_names": ["AU2", "AU1"]},
            {"label": label, "au_names": ["AU1", "AU2"]},
        )
