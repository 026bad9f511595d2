"""Expression metrics against scikit-learn's numbers, loops and cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench import metrics
from facebench.errors import FacebenchError, UsageError


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def one_hot(predicted, classes):
    return np.eye(classes)[np.asarray(predicted)]


def score(probability, label, **targets):
    return metrics.score(
        "expression", {"probability": probability}, {"label": label, **targets}, "pooled"
    )


def test_equals_scikit_learn(oracles):
    z = np.load(oracles / "metrics/expression_cls.npz")
    result = score(softmax(z["in_scores"]), z["in_label"])
    assert result["accuracy"] == pytest.approx(float(z["out_acc_war"]), abs=1e-12)
    assert result["uar"] == pytest.approx(float(z["out_uar"]), abs=1e-12)
    assert result["macro_f1"] == pytest.approx(float(z["out_f1_macro"]), abs=1e-12)
    np.testing.assert_array_equal(result["confusion_per_class"], z["out_confusion"])
    shown = z["out_confusion"].sum(1)
    weighted = np.dot(result["f1_per_class"], shown) / shown.sum()
    assert weighted == pytest.approx(float(z["out_f1_weighted"]), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_every_number_by_a_loop(seed, classes, n):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    probability = rng.integers(0, 3, (n, classes)) / 4  # many ties
    result = score(probability, label)
    predicted = [max(range(classes), key=lambda c, row=row: (row[c], -c)) for row in probability]
    right = sum(p == t for p, t in zip(predicted, label))
    assert result["accuracy"] == pytest.approx(right / n)
    recalls, f1s = [], []
    for c in range(classes):
        tp = sum(p == c and t == c for p, t in zip(predicted, label))
        shown, said = sum(t == c for t in label), sum(p == c for p in predicted)
        recalls.append(tp / shown if shown else None)
        precision = tp / said if said else 0
        recall = tp / shown if shown else 0
        both = precision + recall
        f1s.append((2 * precision * recall / both if both else 0) if shown or said else None)
    assert result["recall_per_class"] == pytest.approx(recalls)
    assert result["f1_per_class"] == pytest.approx(f1s)
    assert result["uar"] == pytest.approx(np.mean([r for r in recalls if r is not None]))
    assert result["macro_f1"] == pytest.approx(np.mean([f for f in f1s if f is not None]))


def test_a_class_without_samples_by_hand():
    # Labels 0 0 1; class 2 is predicted once without being shown, class 3 is neither.
    result = score(one_hot([0, 2, 1], 4), [0, 0, 1])
    assert result["recall_per_class"] == [0.5, 1.0, None, None]
    assert result["uar"] == 0.75
    assert result["f1_per_class"] == [pytest.approx(2 / 3), 1.0, 0.0, None]
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert result["confusion_per_class"] == [[1, 0, 1, 0], [0, 1, 0, 0], [0] * 4, [0] * 4]


def test_a_tie_goes_to_the_first_class():
    assert score(np.full((4, 4), 0.25), [0, 0, 1, 3])["accuracy"] == 0.5


def test_groups_are_scored_apart():
    rng = np.random.default_rng(0)
    probability, label = rng.random((40, 3)), rng.integers(0, 3, 40)
    group = rng.choice(["b", "a", "c"], 40)
    result = score(probability, label, group=group)
    for k, name in enumerate("abc"):
        rows = group == name
        alone = score(probability[rows], label[rows])
        for metric in ("accuracy", "uar", "macro_f1"):
            assert result[f"{metric}_per_group"][k] == alone[metric]


def test_the_order_of_rows_and_the_names_of_classes_change_nothing():
    rng = np.random.default_rng(1)
    probability, label = rng.random((50, 5)), rng.integers(0, 5, 50)
    before = score(probability, label)
    order, renamed = rng.permutation(50), rng.permutation(5)
    after = score(probability[order][:, renamed], np.argsort(renamed)[label[order]])
    for name in ("accuracy", "uar", "macro_f1"):
        assert after[name] == pytest.approx(before[name])


def test_class_names_must_agree():
    probability, label = one_hot([0, 1, 2], 3), [0, 1, 2]
    names = ["neutral", "happy", "sad"]
    predictions = {"probability": probability, "class_names": names}
    right = metrics.score("expression", predictions, {"label": label, "class_names": names})
    assert right["accuracy"] == 1
    for other, message in (
        (["neutral", "sad", "happy"], r"predictions: array 'class_names' calls column 1 'happy'"),
        (["neutral", "sad", "sad"], r"targets: array 'class_names' holds 'sad' twice"),
        (["neutral", "sad"], r"targets: array 'class_names' has shape \(2,\); expected \(3,\)"),
    ):
        with pytest.raises(FacebenchError, match=message):
            metrics.score("expression", predictions, {"label": label, "class_names": other})


BAD = {
    "nan": (lambda p, t: (np.where(p > 0.99, np.nan, p), t), r"'probability'.*NaN.*row 0"),
    "logits": (lambda p, t: (p - 1, t), r"'probability' holds -1; .*take a softmax first"),
    "above one": (lambda p, t: (p * 1.5, t), r"'probability' holds 1\.5; expected prob"),
    "rows": (lambda p, t: (p[:2], t), r"predictions.*\(2, 3\).*\(3, C\).*'label'"),
    "negative": (lambda p, t: (p, [0, -1, 2]), r"targets.*'label' holds -1; expected 0 to 2"),
    "too large": (lambda p, t: (p, [0, 3, 2]), r"targets.*'label' holds 3; expected 0 to 2"),
    "floats": (lambda p, t: (p, [0.0, 1.0, 2.0]), r"'label' holds float64; expected whole"),
    "empty": (lambda p, t: (p[:0], np.zeros(0, int)), r"'label' is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named(case):
    make, message = BAD[case]
    with pytest.raises(FacebenchError, match=message):
        score(*make(one_hot([0, 1, 2], 3), [0, 1, 2]))


def test_conventions_and_thresholds():
    arrays = {"probability": one_hot([0, 1], 2)}, {"label": [0, 1]}
    with pytest.raises(UsageError, match=r"expression has no convention 'poled'.*'pooled'"):
        metrics.score("expression", *arrays, "poled")
    with pytest.raises(UsageError, match=r"expression is scored without thresholds"):
        metrics.score("expression", *arrays, thresholds=[0.5])
    with pytest.raises(FacebenchError, match=r"'group' holds float64"):
        score(*[a for d in arrays for a in d.values()], group=[0.5, 1.0])
