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
    assert set(parts) == {"rank@1", "rank@5"}
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
