"""Several test splits scored together must score as each alone."""

import numpy as np
import pytest

from facebench import metrics
from facebench.errors import FacebenchError

RNG = np.random.default_rng(5)
N, C = 90, 4
SPLIT = np.repeat([0, 2, 1], [40, 20, 30])  # not in the order of their numbers
NAMES = np.array(["test", "test_dark", "test_far"])


@pytest.fixture
def expression():
    probability = RNG.dirichlet(np.ones(C), N)
    label = RNG.integers(0, C, N)
    return {"probability": probability}, {"label": label, "unit": RNG.integers(0, 9, N)}


def rows_of(arrays, rows):
    return {name: array[rows] for name, array in arrays.items()}


def test_each_split_scores_as_if_it_were_alone(expression):
    predictions, targets = expression
    together = metrics.score(
        "expression", predictions, targets | {"split": SPLIT, "split_names": NAMES}
    )
    expected = {}
    for place, suffix in ((0, ""), (1, "/test_dark"), (2, "/test_far")):
        rows = place == SPLIT
        alone = metrics.score("expression", rows_of(predictions, rows), rows_of(targets, rows))
        expected |= {f"{name}{suffix}": value for name, value in alone.items()}
    assert together == expected
    assert together["accuracy"] != together["accuracy/test_far"]


def test_parts_are_of_each_split(expression):
    predictions, targets = expression
    found = metrics.parts(
        "expression", None, predictions, targets | {"split": SPLIT, "split_names": NAMES}
    )
    scores = metrics.score(
        "expression", predictions, targets | {"split": SPLIT, "split_names": NAMES}
    )
    for name in ("uar", "uar/test_dark", "macro_f1/test_far"):
        part = found[name]
        assert len(part.unit) == ({"": 0, "test_dark": 1, "test_far": 2}[
            name.partition("/")[2]
        ] == SPLIT).sum()  # fmt: skip
        assert float(part.value(part.columns.sum(axis=0))) == pytest.approx(scores[name], abs=1e-12)


def test_what_has_no_row_per_sample_stays_whole():
    """As many action units as images: their thresholds and names are not cut."""
    probability = RNG.random((6, 6))
    label = RNG.integers(0, 2, (6, 6))
    names = np.array([f"AU{i}" for i in range(6)])
    split = np.array([0, 0, 0, 1, 1, 1])
    found = metrics.score(
        "action_units",
        {"probability": probability, "au_names": names},
        {"label": label, "au_names": names, "split": split, "split_names": NAMES[:2]},
    )
    alone = metrics.score("action_units", {"probability": probability[:3]}, {"label": label[:3]})
    assert found["accuracy"] == alone["accuracy"]
    assert len(found["accuracy_per_au/test_dark"]) == 6


def test_rows_of_one_split_have_plain_names(expression):
    predictions, targets = expression
    rows = SPLIT == 2
    cut = rows_of(targets, rows) | {"split": SPLIT[rows], "split_names": NAMES}
    found = metrics.score("expression", rows_of(predictions, rows), cut)
    assert found == metrics.score("expression", rows_of(predictions, rows), rows_of(targets, rows))


@pytest.mark.parametrize(
    ("split", "names", "message"),
    [
        (SPLIT + 1, NAMES, "'split' holds 3; expected 0 to 2"),
        (SPLIT - 1, NAMES, "'split' holds -1"),
        (SPLIT, np.arange(3), "'split_names' holds int64; expected text"),
    ],
)
def test_malformed(expression, split, names, message):
    predictions, targets = expression
    with pytest.raises(FacebenchError, match=message):
        metrics.score("expression", predictions, targets | {"split": split, "split_names": names})


def test_the_name_of_a_split_changes_nothing_that_a_metric_means():
    plain = metrics.metric_info("expression", "uar")
    assert metrics.metric_info("expression", "uar/test_dark") == plain
