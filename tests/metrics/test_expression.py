"""Expression metrics against scikit-learn's numbers, loops and cases counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench import metrics
from facebench.errors import FacebenchError, UsageError
from facebench.schemes import EXPRESSION_ORDERS


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
    assert result["weighted_f1"] == pytest.approx(float(z["out_f1_weighted"]), abs=1e-12)
    assert result["kappa"] == pytest.approx(float(z["out_kappa"]), abs=1e-12)


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
    recalls, precisions, f1s = [], [], []
    for c in range(classes):
        tp = sum(p == c and t == c for p, t in zip(predicted, label))
        shown, said = sum(t == c for t in label), sum(p == c for p in predicted)
        recalls.append(tp / shown if shown else None)
        precision = tp / said if said else 0
        precisions.append(precision if said else None)
        recall = tp / shown if shown else 0
        both = precision + recall
        f1s.append((2 * precision * recall / both if both else 0) if shown or said else None)
    assert result["recall_per_class"] == pytest.approx(recalls)
    assert result["precision_per_class"] == pytest.approx(precisions)
    assert result["f1_per_class"] == pytest.approx(f1s)
    chance = sum(p == t for p in predicted for t in label) / n**2
    kappa = (right / n - chance) / (1 - chance) if chance < 1 else 0
    assert result["kappa"] == pytest.approx(kappa, abs=1e-12)
    assert result["weighted_f1"] == pytest.approx(np.mean([f1s[t] for t in label]))
    assert result["uar"] == pytest.approx(np.mean([r for r in recalls if r is not None]))
    assert result["macro_f1"] == pytest.approx(np.mean([f for f in f1s if f is not None]))


def test_a_class_without_samples_by_hand():
    # Labels 0 0 1; class 2 is predicted once without being shown, class 3 is neither.
    result = score(one_hot([0, 2, 1], 4), [0, 0, 1])
    assert result["recall_per_class"] == [0.5, 1.0, None, None]
    assert result["uar"] == 0.75
    assert result["f1_per_class"] == [pytest.approx(2 / 3), 1.0, 0.0, None]
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert result["precision_per_class"] == [1.0, 1.0, 0.0, None]
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
        for metric in ("accuracy", "uar", "macro_f1", "weighted_f1", "kappa"):
            assert result[f"{metric}_per_group"][k] == alone[metric]


def test_the_order_of_rows_and_the_names_of_classes_change_nothing():
    rng = np.random.default_rng(1)
    probability, label = rng.random((50, 5)), rng.integers(0, 5, 50)
    before = score(probability, label)
    order, renamed = rng.permutation(50), rng.permutation(5)
    after = score(probability[order][:, renamed], np.argsort(renamed)[label[order]])
    for name in ("accuracy", "uar", "macro_f1"):
        assert after[name] == pytest.approx(before[name])


def test_kappa_of_a_constant_is_nothing():
    assert score(one_hot([1, 1, 1], 3), [1, 1, 1])["kappa"] == 0
    assert score(one_hot([1, 1, 1, 1], 3), [1, 1, 0, 2])["kappa"] == 0
    assert score(one_hot([0, 1], 2), [1, 0])["kappa"] == -1


def test_classes_are_joined_by_name_whatever_their_order():
    """The same faces in the numbering of every data set with the same classes."""
    rng = np.random.default_rng(3)
    orders = [EXPRESSION_ORDERS[name] for name in ("raf_db", "fer2013", "sfew")]
    spoken = rng.choice(orders[0], 200)  # what the faces show
    by_name = {name: rng.random(200) for name in orders[0]}

    def arrays(order):
        label = np.array([order.index(name) for name in spoken])
        return np.stack([by_name[name] for name in order], 1), label

    plain = score(*arrays(orders[0]))
    for ours in orders:
        for theirs in orders:
            predictions = {"probability": arrays(ours)[0], "class_names": list(ours)}
            targets = {"label": arrays(theirs)[1], "class_names": list(theirs)}
            targets["distribution"] = one_hot(targets["label"], 7)
            predictions["probability"] /= predictions["probability"].sum(1, keepdims=True)
            found = metrics.score("expression", predictions, targets)
            parts = metrics.parts("expression", None, predictions, targets)
            assert found["accuracy"] == plain["accuracy"]
            assert found["uar"] == pytest.approx(plain["uar"], abs=1e-12)
            picked = [by_name[name][i] for i, name in enumerate(spoken)]
            share = np.array(picked) / np.sum(list(by_name.values()), axis=0)
            assert found["cross_entropy"] == pytest.approx(-np.log(share).mean(), rel=1e-4)
            for name, part in parts.items():
                total = part.value(part.columns.sum(axis=0))
                assert total == pytest.approx(found[name], abs=1e-8), name
            if ours != theirs:  # what joining by number would have said
                del predictions["class_names"]
                assert metrics.score("expression", predictions, targets)["accuracy"] < 0.3


def test_class_names_must_be_those_of_the_labels():
    probability, label = one_hot([0, 1, 2], 3), [0, 1, 2]
    names = ["neutral", "happy", "sad"]
    predictions = {"probability": probability, "class_names": names}
    right = metrics.score("expression", predictions, {"label": label, "class_names": names})
    assert right["accuracy"] == 1
    for other, message in (
        (
            ["neutral", "happyy", "sad"],
            r"predictions: array 'class_names' holds 'happy'; expected the names that targets has: "
            r"did you mean 'happyy'",
        ),
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
    "labels": (lambda p, t: (p, {}), r"targets: array 'label' is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named(case):
    make, message = BAD[case]
    probability, label = make(one_hot([0, 1, 2], 3), [0, 1, 2])
    targets = label if isinstance(label, dict) else {"label": label}
    with pytest.raises(FacebenchError, match=message):
        metrics.score("expression", {"probability": probability}, targets)


def test_conventions_and_thresholds():
    arrays = {"probability": one_hot([0, 1], 2)}, {"label": [0, 1]}
    with pytest.raises(UsageError, match=r"expression has no convention 'poled'.*'pooled'"):
        metrics.score("expression", *arrays, "poled")
    with pytest.raises(UsageError, match=r"expression is scored without thresholds"):
        metrics.score("expression", *arrays, thresholds=[0.5])
    with pytest.raises(FacebenchError, match=r"'group' holds float64"):
        score(*[a for d in arrays for a in d.values()], group=[0.5, 1.0])


# ---- distributions ---------------------------------------------------------------------------

MEASURES = (
    "kl_divergence", "cross_entropy", "jensen_shannon", "chebyshev", "cosine", "intersection",
)  # fmt: skip


def test_distributions_by_a_loop():
    rng = np.random.default_rng(5)
    predicted = rng.dirichlet(np.full(8, 2.0), 40)
    assert predicted.min() > 1e-6  # below which a share counts as this
    votes = rng.multinomial(10, rng.dirichlet(np.full(8, 0.3)), 40) / 10  # mostly zeros
    group = np.arange(40) % 3
    targets = {"distribution": votes, "group": group}
    result = metrics.score("expression", {"probability": predicted}, targets)
    found = {name: [] for name in MEASURES}
    for p, d in zip(predicted.tolist(), votes.tolist()):
        kl = sum(b * math.log(b / a) for a, b in zip(p, d) if b)
        entropy = -sum(b * math.log(b) for b in d if b)
        middle = [(a + b) / 2 for a, b in zip(p, d)]
        bits = [
            sum(a * math.log2(a / m) for a, m in zip(one, middle) if a) for one in (p, d)
        ]  # fmt: skip
        length = math.hypot(*p) * math.hypot(*d)
        for name, value in zip(
            MEASURES,
            (
                kl, kl + entropy, sum(bits) / 2, max(abs(a - b) for a, b in zip(p, d)),
                sum(a * b for a, b in zip(p, d)) / length, sum(min(a, b) for a, b in zip(p, d)),
            ),
        ):  # fmt: skip
            found[name].append(value)
    for name in MEASURES:
        assert result[name] == pytest.approx(np.mean(found[name]), rel=1e-9), name
        by_group = [np.mean(np.array(found[name])[group == g]) for g in range(3)]
        assert result[f"{name}_per_group"] == pytest.approx(by_group, rel=1e-9)
    assert set(result) == {*MEASURES, *(f"{name}_per_group" for name in MEASURES)}


def test_the_ends_of_every_measure():
    corner, other = np.eye(3)[[0, 0]], np.eye(3)[[1, 2]]
    same = metrics.score("expression", {"probability": corner}, {"distribution": corner})
    apart = metrics.score("expression", {"probability": corner}, {"distribution": other})
    ends = {
        "kl_divergence": (0, np.log(1e6)), "cross_entropy": (0, np.log(1e6)),
        "jensen_shannon": (0, 1), "chebyshev": (0, 1), "cosine": (1, 0), "intersection": (1, 0),
    }  # fmt: skip
    for name, (near, far) in ends.items():
        assert same[name] == pytest.approx(near, abs=3e-6), name
        assert apart[name] == pytest.approx(far, abs=3e-6), name
        assert same[name] >= 0


def test_labels_and_distributions_together():
    """Of the real votes: the majority's label and its distribution, both scored."""
    rng = np.random.default_rng(6)
    votes = rng.dirichlet(np.ones(4), 30)
    label = votes.argmax(1)
    both = {"label": label, "distribution": votes}
    result = metrics.score("expression", {"probability": votes}, both)
    assert result["accuracy"] == result["cosine"] == pytest.approx(1)
    assert result["kl_divergence"] == pytest.approx(0, abs=1e-9)
    rounded = np.rint(votes * 255) / 255  # as one byte stores them
    near = metrics.score("expression", {"probability": rounded}, both)
    assert near["intersection"] > 0.99


@pytest.mark.parametrize(
    ("probability", "distribution", "message"),
    [
        ([[0.5, 0.5]], [[5, 5]], r"targets: array 'distribution' holds 5; .*divide votes by"),
        ([[0.5, 0.5]], [[0.5, 0.4]], r"targets: array 'distribution' sums to 0.9 in row 0"),
        ([[0.5, 0.5]], [[0.5, 0.3, 0.2]], r"'distribution' has shape \(1, 3\); expected \(1, 2\)"),
        ([[0.9, 0.9]], [[0.5, 0.5]], r"predictions: array 'probability' sums to 1.8 in row 0"),
        ([[0.5, 0.5]], [[np.nan, 0.5]], r"'distribution' holds NaN"),
    ],
)
def test_bad_distributions_are_named(probability, distribution, message):
    with pytest.raises(FacebenchError, match=message):
        metrics.score(
            "expression",
            {"probability": np.array(probability)},
            {"distribution": np.array(distribution)},
        )


def test_real_votes(oracles):
    """A classifier that says the share of votes is right, and one that says the mean is a floor."""
    z = np.load(oracles / "metrics/ferplus_targets_test.npz")
    distribution = z["out_crossentropy_target"]
    floor = np.tile(distribution.mean(0), (len(distribution), 1))
    targets = {"distribution": distribution}
    right = metrics.score("expression", {"probability": distribution}, targets)
    chance = metrics.score("expression", {"probability": floor}, targets)
    assert right["intersection"] == pytest.approx(1, abs=1e-6)
    share = distribution.mean(0, dtype=np.float64)
    assert chance["cross_entropy"] == pytest.approx(-(share * np.log(share)).sum(), rel=1e-4)
    assert chance["kl_divergence"] > 1 > right["kl_divergence"]
