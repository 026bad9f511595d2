"""Parts give the metric they are parts of, and no other metric has any."""

import numpy as np
import pytest

from facebench import metrics
from facebench.errors import FacebenchError
from facebench.metrics import _parts


def faces(n=30, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 60, (n, 68, 2))
    points[:, 36], points[:, 45] = (20, 30), (44, 30)
    targets = {
        "points": points,
        "visible": rng.random((n, 68)) < 0.7,
        "unit": rng.integers(10, 17, n),
    }
    targets["visible"][3] = False
    noise = rng.uniform(0.5, 6, (n, 1, 1))
    return {"points": points + noise * rng.normal(size=points.shape)}, targets


def test_landmark_parts_add_up_to_the_scores():
    predictions, targets = faces()
    scores = metrics.score("landmarks", predictions, targets)
    parts = metrics.parts("landmarks", None, predictions, targets)
    assert set(parts) == {
        name for name, value in scores.items() if isinstance(value, float) and "legacy" not in name
    }
    for name, part in parts.items():
        assert part.columns.dtype == np.int64
        found = part.value(part.columns.sum(axis=0))
        assert found == pytest.approx(scores[name], abs=1e-7), name
        assert part.of == "unit"
        assert (part.unit == np.unique(targets["unit"], return_inverse=True)[1]).all()


def test_parts_of_some_samples_are_the_scores_of_those_samples():
    predictions, targets = faces()
    parts = metrics.parts("landmarks", "68-inter-pupil", predictions, targets)
    rows = np.array([1, 1, 4, 8, 20])
    again = metrics.score(
        "landmarks",
        {"points": predictions["points"][rows]},
        {name: array[rows] for name, array in targets.items()},
        "68-inter-pupil",
    )
    for name, part in parts.items():
        assert part.value(part.columns[rows].sum(axis=0)) == pytest.approx(again[name], abs=1e-7)


def test_without_units_every_sample_is_one():
    predictions, targets = faces(5)
    del targets["unit"]
    part = metrics.parts("landmarks", None, predictions, targets)["nme"]
    assert part.of == "sample"
    assert part.unit.tolist() == [0, 1, 2, 3, 4]


def test_units_may_be_text_and_nothing_else():
    predictions, targets = faces(4)
    targets["unit"] = np.array(["b", "a", "b", "c"])
    part = metrics.parts("landmarks", None, predictions, targets)["nme"]
    assert part.unit.tolist() == [1, 0, 1, 2]
    targets["unit"] = np.array([0.5, 1, 2, 3])
    with pytest.raises(FacebenchError, match="'unit' holds float64"):
        metrics.parts("landmarks", None, predictions, targets)


def test_rank_has_parts_by_identity_and_rates_read_off_pairs_have_none():
    rng = np.random.default_rng(4)
    identity = np.array([3, 3, 5, 5, 5, 9, -1])
    targets = {
        "probe_identity": identity,
        "gallery_identity": np.array([3, 5, 9, 11, 12, 13]),
        "same": rng.random(40) < 0.5,
    }
    predictions = {"similarity": rng.normal(size=(7, 6)), "score": rng.normal(size=40)}
    scores = metrics.score("recognition", predictions, targets)
    parts = metrics.parts("recognition", "pooled", predictions, targets)
    assert set(parts) == {"rank@1", "rank@5", "rank@10", "rank@20"}
    for name, part in parts.items():
        assert part.of == "identity"
        assert part.unit.tolist() == [0, 0, 1, 1, 1, 2]  # the probe without a mate is not scored
        assert part.value(part.columns.sum(axis=0)) == scores[name]
    pairs = {"score": predictions["score"]}
    assert metrics.parts("recognition", None, pairs, {"same": targets["same"]}) == {}


def test_a_task_without_parts_has_none(monkeypatch):
    monkeypatch.delattr("facebench.metrics.landmarks.parts")
    assert metrics.parts("landmarks", None, *faces(4)) == {}


def test_losses_are_rounded_to_the_quantum_and_bounded():
    found = _parts.quantised(np.array([1.5e-9, 2.6e-9, 0.25, 1e30, -1e30]))
    assert found.tolist() == [2, 3, 250_000_000, 10**14, -(10**14)]


# ---- the other tasks -------------------------------------------------------------------------


def expression(rng, n=60):
    label = rng.integers(0, 5, n)
    probability = rng.dirichlet(np.ones(6), n)  # nobody shows the sixth class
    targets = {"label": label, "distribution": rng.dirichlet(np.ones(6), n)}
    return {"probability": probability}, targets


def action_units(rng, n=60):
    label = rng.choice([0, 1, -1, 9], (n, 4), p=[0.5, 0.3, 0.1, 0.1])
    label[:, 3] = 9  # never known
    predictions = {"probability": rng.random((n, 4)), "threshold": rng.random(4)}
    return predictions, {"label": label, "fold": rng.integers(0, 3, n)}


def intensities(rng, n=60):
    true = rng.integers(0, 6, (n, 3)).astype(float)
    true[:, 2] = 2  # constant
    true[:, 0] = np.where(rng.random(n) < 0.3, -1, true[:, 0])
    predicted = (0.5 * true + rng.normal(size=(n, 3))).round(4)
    return {"intensity": predicted}, {"intensity": true, "fold": rng.integers(0, 3, n)}


def affect(rng, n=60):
    true = rng.uniform(-1, 1, (n, 2)).round(6)
    predicted = np.clip(0.5 * true + 0.3 * rng.normal(size=(n, 2)), -1, 1).round(6)
    true[rng.random((n, 2)) < 0.2] = -2
    true[:25, 1] = -2
    return {"valence_arousal": predicted}, {"valence_arousal": true}


def masks(rng, n=60):
    true = rng.choice([0, 1, 2, 4, 255], (n, 4, 4))
    predicted = np.where(rng.random((n, 4, 4)) < 0.6, true % 5, rng.integers(0, 5, (n, 4, 4)))
    return {"parse": predicted}, {"parse": true, "class_names": list("abcdef")}


EXPRESSION = {
    "accuracy", "uar", "macro_f1", "weighted_f1", "kappa", "kl_divergence", "cross_entropy",
    "jensen_shannon", "chebyshev", "cosine", "intersection",
}  # fmt: skip
OCCURRENCE = {"f1", "accuracy", "f1_all_positive", "f1_chosen"}
INTENSITY = {"mae", "mse", "icc_1_1", "icc_2_1", "icc_3_1", "ccc", "pcc"}
AFFECT = {
    f"{name}{of}" for name in ("ccc", "pcc", "rmse", "sagr") for of in ("", "_valence", "_arousal")
}
CASES = [
    ("expression", "pooled", expression, EXPRESSION),
    ("action_units", "pooled", action_units, OCCURRENCE),
    ("action_units", "fold-mean", action_units, OCCURRENCE),
    ("action_unit_intensity", "pooled", intensities, INTENSITY),
    ("action_unit_intensity", "fold-mean", intensities, INTENSITY),
    ("valence_arousal", "pooled", affect, AFFECT),
    ("parsing", "pooled", masks, {"f1", "miou", "pixel_accuracy"}),
]


@pytest.mark.parametrize(("task", "convention", "make", "names"), CASES)
def test_parts_of_any_units_are_the_scores_of_those_samples(task, convention, make, names):
    rng = np.random.default_rng(3)
    predictions, targets = make(rng)
    targets["unit"] = np.arange(60) // 5
    parts = metrics.parts(task, convention, predictions, targets)
    assert set(parts) == names
    for draw in range(8):
        # All, some of them several times, and so few that folds, units and classes are missing.
        drawn = np.arange(12) if draw == 0 else rng.integers(0, 12, 12 if draw < 5 else 1)
        rows = np.concatenate([np.flatnonzero(targets["unit"] == u) for u in drawn])
        again = metrics.score(
            task,
            {k: a[rows] if len(a) == 60 else a for k, a in predictions.items()},
            {k: a[rows] if len(a) == 60 else a for k, a in targets.items()},
            convention,
        )
        for name, part in parts.items():
            assert part.columns.dtype == np.int64
            assert (part.unit == targets["unit"]).all()
            assert part.of == "unit"
            total = part.columns[rows].sum(axis=0)
            expected = 0.0 if again[name] is None else again[name]  # nothing known was drawn
            assert part.value(total) == pytest.approx(expected, abs=1e-6), (name, draw)
            both = part.value(np.stack([total, total * 3]))
            assert both.shape == (2,)
            if name not in ("icc_1_1", "icc_2_1"):  # which know how many images there are
                assert both[1] == pytest.approx(both[0], abs=1e-12)


def test_a_draw_of_nothing_known_has_a_number():
    label = np.full((4, 2), -1)
    label[0] = 1, 0
    targets = {"label": label, "unit": np.arange(4)}
    parts = metrics.parts("action_units", None, {"probability": np.full((4, 2), 0.9)}, targets)
    assert parts["f1"].value(parts["f1"].columns[1:].sum(axis=0)) == 0
    assert parts["f1"].value(parts["f1"].columns.sum(axis=0)) == 0.5


@pytest.mark.parametrize("seed", [0, 1])
def test_a_constant_is_no_correlation_wherever_it_lies(seed):
    rng = np.random.default_rng(seed)
    true = np.repeat([[0.1], [0.7]], 20, axis=0)  # each unit is constant, all together are not
    predicted = rng.random((40, 1)).round(4)
    targets = {"intensity": true, "unit": np.repeat([0, 1], 20)}
    parts = metrics.parts("action_unit_intensity", None, {"intensity": predicted}, targets)
    for name in ("pcc", "icc_3_1"):
        for times in (1, 9_999_991):  # so many that sums of squares are no longer exact
            assert parts[name].value(parts[name].columns[:20].sum(axis=0) * times) == 0
        assert parts[name].value(parts[name].columns.sum(axis=0)) != 0
