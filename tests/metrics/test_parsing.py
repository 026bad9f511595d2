"""Parsing metrics against a reference scorer, loops and masks counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench import metrics
from facebench.errors import FacebenchError, UsageError
from facebench.metrics import parsing


def score(predicted, true, **targets):
    return metrics.score("parsing", {"parse": predicted}, {"parse": true, **targets})


@pytest.mark.parametrize("name", ["lapa11", "celebm19", "absent_class"])
def test_equals_farl(oracles, name):
    z = np.load(oracles / f"metrics/parsing_f1_{name}.npz")
    result = score(z["in_pred"], z["in_label"])
    peer = z["out_f1"]
    known = ~np.isnan(peer)
    found = np.array(result["f1_per_class"], float)
    np.testing.assert_allclose(found, peer, atol=1e-12)
    assert result["f1"] == pytest.approx(peer[1:][known[1:]].mean(), abs=1e-12)
    if known.all():
        assert result["f1"] == pytest.approx(float(z["out_fg_mean"]), abs=1e-12)
    hist = z["out_hist"].astype(float)
    assert result["pixel_accuracy"] == pytest.approx(np.trace(hist) / hist.sum())
    with np.errstate(invalid="ignore"):
        iou = np.diag(hist) / (hist.sum(0) + hist.sum(1) - np.diag(hist))
    assert result["miou"] == pytest.approx(np.nanmean(iou))


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_every_number_by_a_loop(seed, n, classes):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, (n, 3, 4)).astype(np.uint8)
    predicted = np.where(rng.random(true.shape) < 0.5, true, rng.integers(0, classes, true.shape))
    true[rng.random(true.shape) < 0.2] = parsing.IGNORED
    true[0, 0, 0] = 1
    result = score(predicted, true, class_names=[f"c{k}" for k in range(classes)])
    cells = [(p, t) for p, t in zip(predicted.ravel(), true.ravel()) if t != 255]
    f1, iou = [], []
    for c in range(classes):
        tp = sum(p == c and t == c for p, t in cells)
        wrong = sum((p == c) != (t == c) for p, t in cells)
        f1.append(2 * tp / (2 * tp + wrong) if tp + wrong else None)
        iou.append(tp / (tp + wrong) if tp + wrong else None)
    assert result["f1_per_class"] == pytest.approx(f1)
    assert result["iou_per_class"] == pytest.approx(iou)
    assert result["f1"] == pytest.approx(np.mean([f for f in f1[1:] if f is not None]))
    assert result["miou"] == pytest.approx(np.mean([i for i in iou if i is not None]))
    assert result["pixel_accuracy"] == pytest.approx(np.mean([p == t for p, t in cells]))


def test_one_table_is_not_the_mean_over_images():
    true = np.zeros((2, 1, 4), np.uint8)
    true[0, 0, :] = 1
    true[1, 0, 0] = 1
    predicted = true.copy()
    predicted[1, 0, 0] = 0  # F1 per image: 1 and 0; of one table: 2 * 4 / (4 + 5)
    assert score(predicted, true)["f1"] == pytest.approx(8 / 9)


def test_large_stacks_are_counted_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 4, (2, 9, 8, 8)).astype(np.uint8)
    whole = score(predicted, true)
    monkeypatch.setattr("facebench.metrics._arrays.BLOCK", 128)
    assert score(predicted, true) == whole


def test_a_face_without_foreground_has_no_f1():
    nothing = np.zeros((1, 2, 2), np.uint8)
    result = score(nothing, nothing)
    assert result["f1"] is None
    assert result["miou"] == result["pixel_accuracy"] == 1


BAD = {
    "floats": (lambda p, t: (p * 1.0, t, {}), r"predictions.*'parse' holds float64"),
    "ignored is no prediction": (lambda p, t: (p + 254, t, {}), r"predictions.*'parse' holds 255"),
    "negative": (lambda p, t: (p.astype(int) - 1, t, {}), r"predictions.*'parse' holds -1"),
    "shape": (lambda p, t: (p[:, :1], t, {}), r"\(2, 1, 2\).*\(2, 2, 2\).*as 'parse' of targets"),
    "names": (lambda p, t: (p, t, {"class_names": ["a", "b"]}), r"holds 2; expected 0 to 1, by"),
    "only ignored": (lambda p, t: (p, t * 0 + 255, {}), r"targets.*holds 255 alone"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named(case):
    make, message = BAD[case]
    true = np.array([[[0, 1], [1, 2]], [[0, 0], [1, 1]]], np.uint8)
    predicted = np.minimum(true, 1)
    predicted, true, targets = make(predicted, true)
    with pytest.raises(FacebenchError, match=message):
        score(predicted, true, **targets)


def test_conventions_and_thresholds():
    mask = {"parse": np.ones((1, 2, 2), np.uint8)}
    with pytest.raises(UsageError, match=r"parsing has no convention 'lapa'"):
        metrics.score("parsing", mask, mask, "lapa")
    with pytest.raises(UsageError, match=r"parsing is scored without thresholds"):
        metrics.score("parsing", mask, mask, thresholds=[1])
