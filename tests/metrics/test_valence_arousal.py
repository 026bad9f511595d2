"""Valence and arousal against published scorers, loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import metrics
from facebench.errors import FacebenchError, UsageError

NAMES = ("ccc", "pcc", "rmse", "sagr")


def score(predicted, true, convention=None, **targets):
    return metrics.score(
        "valence_arousal", {"valence_arousal": predicted}, {"valence_arousal": true, **targets},
        convention,
    )  # fmt: skip


def test_equals_published_scorers(oracles):
    z = np.load(oracles / "metrics/valence_arousal.npz")
    result = score(z["in_pred"], z["in_gt"])
    for name in NAMES:
        known = z[f"out_{name}_biased" if name == "ccc" else f"out_{name}"]
        for k, dimension in enumerate(("valence", "arousal")):
            assert result[f"{name}_{dimension}"] == pytest.approx(known[k], abs=1e-12)
        assert result[name] == pytest.approx(known.mean(), abs=1e-12)
    unbiased = z["out_ccc_torchmetrics"]
    assert result["ccc_valence"] != pytest.approx(unbiased[0], abs=1e-6)


def one(x, y):
    """The measures of one dimension from their definitions, cell by cell."""
    n = len(x)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    cov = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / n
    var_x, var_y = (sum((a - m) ** 2 for a in v) / n for v, m in ((x, mean_x), (y, mean_y)))
    sign = sum((a > 0) - (a < 0) == (b > 0) - (b < 0) for a, b in zip(x, y))
    return {
        "ccc": 2 * cov / (var_x + var_y + (mean_x - mean_y) ** 2),
        "pcc": cov / (var_x * var_y) ** 0.5,
        "rmse": (sum((a - b) ** 2 for a, b in zip(x, y)) / n) ** 0.5,
        "sagr": sign / n,
    }


@pytest.mark.parametrize("unknown", [-2.0, np.nan])
def test_every_number_by_a_loop_and_unknown_cells_left_out(unknown):
    rng = np.random.default_rng(0)
    true = rng.uniform(-1, 1, (60, 2)).round(1)  # some are 0, whose sign is its own
    predicted = np.clip(true * 0.6 + 0.2 + rng.normal(size=(60, 2)) * 0.2, -1, 1).round(1)
    hidden = rng.random((60, 2)) < 0.3
    group = np.array(["a", "b"])[np.arange(60) % 2]
    result = score(predicted, np.where(hidden, unknown, true), group=group)
    for rows, part in ((np.ones(60, bool), None), (group == "a", 0), (group == "b", 1)):
        each = [
            one(true[rows & ~hidden[:, k], k].tolist(), predicted[rows & ~hidden[:, k], k].tolist())
            for k in (0, 1)
        ]
        for name in NAMES:
            pick = (lambda m: result[m]) if part is None else (
                lambda m, part=part: result[f"{m}_per_group"][part]
            )  # fmt: skip
            assert pick(f"{name}_valence") == pytest.approx(each[0][name]), name
            assert pick(f"{name}_arousal") == pytest.approx(each[1][name]), name
            assert pick(name) == pytest.approx((each[0][name] + each[1][name]) / 2)


def test_what_concordance_sees():
    x = np.linspace(-0.5, 0.5, 11)
    true = np.stack([x, x], 1)
    assert score(true, true)["ccc"] == pytest.approx(1)
    shifted = score(true + 0.5, true)
    assert shifted["pcc"] == pytest.approx(1)
    assert shifted["ccc"] == pytest.approx(2 * x.var() / (2 * x.var() + 0.25))
    assert score(true / 2, true)["ccc"] == pytest.approx(2 * 0.5 / 1.25)
    constant = score(true * 0 + 0.3, true)
    assert constant["ccc"] == constant["pcc"] == 0
    assert score(-true, true)["ccc"] == pytest.approx(-1)


def test_a_dimension_that_nobody_knows_has_no_number():
    true = np.array([[0.5, -2], [-0.5, -2], [0.1, -2]])
    result = score(np.clip(true, -1, 1), true)
    assert result["ccc_arousal"] is result["rmse_arousal"] is None
    assert result["ccc"] == result["ccc_valence"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        ([[0.5, 2.0]], [[0.5, 0.5]], r"predictions: .* holds a magnitude of 2; expected numbers"),
        (
            [[0.5, 0.5]],
            [[0.5, 3.0]],
            r"targets: .* holds 3, first in row 0; .* -2 or NaN where unk",
        ),
        ([[0.5, 0.5]], [[-2, np.nan]], r"targets: .* holds no known label"),
        ([[0.5]], [[0.5, 0.5]], r"has shape \(1, 1\); expected \(1, 2\)"),
        ([[0.5, np.nan]], [[0.5, 0.5]], r"predictions: array 'valence_arousal' holds NaN"),
    ],
)
def test_bad_arrays_are_named(predicted, true, message):
    with pytest.raises(FacebenchError, match=message):
        score(np.array(predicted), np.array(true))


def test_conventions():
    x = np.zeros((2, 2))
    with pytest.raises(UsageError, match=r"valence_arousal has no convention 'fold-mean'"):
        score(x, x, "fold-mean")
    with pytest.raises(FacebenchError, match=r"'group' holds float64"):
        score(x, x, group=[0.5, 1.0])
