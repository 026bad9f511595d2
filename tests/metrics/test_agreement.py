"""When two predictions say the same."""

from __future__ import annotations

import numpy as np
import pytest

from facebench.errors import FacebenchError, UsageError
from facebench.metrics.agreement import agreement


def test_classes_and_decisions():
    a = {"probability": np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])}
    b = {"probability": np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.5, 0.5]])}
    assert agreement("expression", a, b) == 0.75  # a tie goes to the first class
    assert agreement("action_units", a, b) == 5 / 8
    parse = {"parse": np.array([[[0, 1], [2, 2]]])}
    assert agreement("parsing", parse, {"parse": np.array([[[0, 1], [2, 3]]])}) == 0.75
    near = {"intensity": np.array([[0.1, 0.5, 0.9]])}
    assert agreement("action_unit_intensity", near, {"intensity": near["intensity"] + 0.05}) == 1
    assert agreement("action_unit_intensity", near, {"intensity": near["intensity"] + 0.2}) == 0


def test_points_near_each_other():
    """A face of 100 x 100 px: 2 px is near, more is not."""
    a = np.array([[[0.0, 0.0], [100.0, 0.0], [100.0, 100.0], [0.0, 100.0]]])
    b = a + np.array([[[1.9, 0.0], [0.0, 2.1], [1.5, 1.5], [0.0, 0.0]]])
    assert agreement("landmarks", {"points": a}, {"points": b}) == 0.5
    assert agreement("landmarks", {"points": 3 * a}, {"points": 3 * b}) == 0.5


def test_recognition_with_and_without_a_gallery():
    a = {"score": np.zeros(3), "similarity": np.array([[0.1, 0.9], [0.8, 0.2]])}
    b = {"score": np.ones(3), "similarity": np.array([[0.2, 0.4], [0.3, 0.6]])}
    assert agreement("recognition", a, b) == 0.5
    ranks = np.arange(100.0)
    assert agreement("recognition", {"score": ranks}, {"score": 2 * ranks + 5}) == 1.0
    assert agreement("recognition", {"score": ranks}, {"score": -ranks}) == pytest.approx(0.8)


def test_what_cannot_be_compared():
    with pytest.raises(UsageError, match="expression"):
        agreement("expresion", {}, {})
    with pytest.raises(FacebenchError, match="not the same"):
        agreement("parsing", {"parse": np.zeros((1, 2, 2))}, {"parse": np.zeros((1, 2, 3))})
