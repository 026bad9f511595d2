"""How groups differ, against loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import metrics
from facebench.metrics import _fairness


def score(predictions, targets, convention=None, thresholds=None):
    return metrics.score("recognition", predictions, targets, convention, thresholds)


def pairs(seed=0, n=400):
    rng = np.random.default_rng(seed)
    same, group = rng.random(n) < 0.5, rng.choice(["a", "b", "c"], n)
    values = rng.normal(size=n) + 2 * same + 0.7 * (group == "b")
    return values.round(2), same, group


@pytest.mark.parametrize("convention", ["pooled", "pooled-nearest"])
@pytest.mark.parametrize("far", [0.02, 0.1])
def test_rates_at_one_threshold_by_loops(convention, far):
    values, same, group = pairs()
    result = score({"score": values}, {"same": same, "group": group}, convention, [far])
    impostors = np.sort(values[~same])
    # The lowest threshold, among the scores, above which at most `far` of all impostors lie.
    threshold = min(t for t in impostors if np.mean(impostors > t) <= far)
    name = f"{far:.0e}".replace("e-0", "e-")
    fmr, fnmr = [], []
    for g in "abc":
        fmr.append(np.mean(values[(group == g) & ~same] > threshold))
        fnmr.append(np.mean(values[(group == g) & same] <= threshold))
    assert result[f"fmr@far={name}_per_group"] == pytest.approx(fmr, abs=1e-12)
    assert result[f"fnmr@far={name}_per_group"] == pytest.approx(fnmr, abs=1e-12)
    assert fmr[1] > far > min(fmr)  # the group with higher scores pays for it
    assert result[f"fmr_ratio@far={name}"] == pytest.approx(max(fmr) / min(fmr))
    assert result[f"fnmr_ratio@far={name}"] == pytest.approx(max(fnmr) / min(fnmr))
    apart = [max(abs(x - y) for x in r for y in r) for r in (fmr, fnmr)]
    assert result[f"fdr@far={name}"] == pytest.approx(1 - sum(apart) / 2)


def test_closed_forms():
    equal = _fairness.of_accuracies([0.9, 0.9])
    assert equal == {
        "accuracy_group_mean": 0.9,
        "accuracy_group_std": 0,
        "accuracy_group_std_sample": 0,
        "accuracy_error_ratio": 1,
    }
    found = _fairness.of_accuracies([0.98, 0.96, 0.94, 0.92])
    assert found["accuracy_group_std"] == pytest.approx(np.sqrt(5) / 100)
    assert found["accuracy_group_std_sample"] == pytest.approx(np.sqrt(20 / 3) / 100)
    assert found["accuracy_error_ratio"] == pytest.approx(4)
    assert _fairness.of_accuracies([1.0, 0.5])["accuracy_error_ratio"] is None


def test_folds_within_groups_and_one_threshold_for_all():
    rng = np.random.default_rng(2)
    same, group = np.arange(200) % 2 == 0, np.repeat([1, 2], 100)
    values = np.tanh(rng.normal(size=200) / 2 + same - 0.5 * (group == 2))
    targets = {"same": same, "group": group}
    result = score({"score": values}, targets, "insightface-10fold", [0.1])
    own = result["accuracy_per_group"]
    for i in (0, 1):
        rows = group == i + 1
        alone = score({"score": values[rows]}, {"same": same[rows]}, "insightface-10fold")
        assert own[i] == alone["accuracy"]
    assert result["accuracy_group_mean"] == pytest.approx(np.mean(own))
    assert result["accuracy_group_std"] == pytest.approx(np.std(own))
    assert len(result["fmr@far=1e-1_per_group"]) == 2
    assert result["fmr@far=1e-1_per_group"][0] > result["fmr@far=1e-1_per_group"][1]


def test_groups_without_pairs_of_a_kind_have_no_rate():
    targets = {"same": [1, 1, 0, 0, 1, 0], "group": ["a", "a", "b", "b", "c", "c"]}
    result = score({"score": [0.9, 0.2, 0.3, 0.1, 0.8, 0.0]}, targets, None, [0.5])
    assert result["fmr@far=5e-1_per_group"] == [None, 0.5, 0]
    assert result["fnmr@far=5e-1_per_group"] == [0, None, 0]
    assert result["fmr_ratio@far=5e-1"] is None
    assert result["fdr@far=5e-1"] == 1 - 0.25
    alike = score({"score": [0.9, 0.2]}, {"same": [1, 1], "group": [0, 1]}, None, [0.5])
    assert alike["fmr@far=5e-1_per_group"] == [None, None]
    assert alike["fdr@far=5e-1"] is None


def test_a_pair_of_two_groups_counts_for_the_threshold_and_for_no_group():
    values, same, group = pairs(5)
    number = np.unique(group, return_inverse=True)[1] - 1  # the first group is -1 now
    result = score({"score": values}, {"same": same, "group": number}, None, [0.05])
    whole = score({"score": values}, {"same": same, "group": group}, None, [0.05])
    for name, value in whole.items():
        if name.endswith("_per_group"):
            assert result[name] == value[1:], name
    assert result["tar@far=5e-2"] == whole["tar@far=5e-2"]
    nobody = score({"score": values}, {"same": same, "group": np.full(400, -1)}, None, [0.05])
    assert nobody["fmr@far=5e-2_per_group"] == []
    assert nobody["fdr@far=5e-2"] is None
