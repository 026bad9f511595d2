"""What strata are, read from the fields of a dataset."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import files
from facebench.data import source, strata
from facebench.errors import FacebenchError, UsageError

ROWS = np.array([0, 2, 3, 5])


@pytest.fixture
def split(tmp_path):
    """Six samples with a field of every kind; there are no pictures."""
    arrays = {
        "key": np.array([f"k{i}" for i in range(6)]),
        "unit": np.array(list("aabbcc")),
        "digest": np.zeros((6, 32), np.uint8),
        "expression": np.array([2, 0, 1, 1, 0, 2]),
        "valence_arousal": np.array(
            [[-1, -1], [0, 0], [1, 1], [-0.2, 0.19], [0.2, 0.6], [-0.61, 0.99]], np.float32
        ),
        "attributes": np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1]]),
        "au": np.array(
            [[0.7, -1], [0.1, 0.2], [0.69, 0.7], [np.nan, 1], [0, 0], [1, 0.71]], np.float32
        ),
    }
    files.write_npz(tmp_path / "samples-train.npz", arrays)
    (tmp_path / "expression.labels.txt").write_text("calm\nbright eyed\nstern\n")
    return source.Split(tmp_path, "toy/one", "train", 6)


def of(split, rows=ROWS, **rule):
    return strata.of_split(split, rule, rows)


def test_classes_and_attributes(split):
    assert of(split, field="expression", rule="class") == [2, 1, 1, 2]
    assert of(split, field="unit", rule="attribute") == ["a", "b", "b", "c"]
    both = of(split, field="attributes", rule="attribute", columns=[0, 2])
    assert both == [(1, 1), (1, 0), (1, 0), (1, 1)]


def test_the_grid_has_five_cells_of_two_fifths_each_way(split):
    cells = of(split, np.arange(6), field="valence_arousal", rule="grid-5x5")
    # edges at -0.6, -0.2, 0.2, 0.6; a float32 of 0.6 lies above the edge, of -0.2 below it
    assert cells == [(0, 0), (2, 2), (4, 4), (1, 2), (3, 4), (0, 4)]
    split.samples["valence_arousal"][3] = [-2, 0]
    with pytest.raises(FacebenchError, match=r"of 'k3' is not in \[-1, 1\]"):
        of(split, field="valence_arousal", rule="grid-5x5")
    split.samples["valence_arousal"][3] = [np.nan, 0]
    with pytest.raises(FacebenchError, match="'k3'"):
        of(split, field="valence_arousal", rule="grid-5x5")


def test_labels_are_there_from_the_threshold_on(split):
    labels = of(split, np.arange(6), field="au", rule="multilabel", threshold=0.7)
    assert labels.tolist() == [[1, 0], [0, 0], [0, 1], [0, 1], [0, 0], [1, 1]]
    assert labels.dtype == np.int64
    given = strata.of_split(split, {"field": "au", "rule": "multilabel"}, ROWS, 0.7)
    assert given.tolist() == labels[ROWS].tolist()
    flags = of(split, field="attributes", rule="multilabel")
    assert flags.tolist() == [[1, 0, 1], [1, 1, 0], [1, 0, 0], [1, 0, 1]]
    one_of = of(split, field="expression", rule="multilabel")
    assert one_of.tolist() == [[0, 1], [1, 0], [1, 0], [0, 1]]  # classes 1 and 2 are there


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"field": "expresion", "rule": "class"}, "did you mean 'expression'"),
        ({"field": "au", "rule": "class"}, "expected one class per sample"),
        ({"field": "au", "rule": "multilabel"}, "need strata.threshold"),
        ({"field": "au", "rule": "attribute", "columns": [0]}, "expected whole numbers"),
        ({"field": "attributes", "rule": "attribute"}, "strata.columns"),
        ({"field": "attributes", "rule": "attribute", "columns": [3]}, "no column 3, there are 3"),
        ({"field": "expression", "rule": "grid-5x5"}, r"expected \(valence, arousal\)"),
        ({"field": "valence_arousal", "rule": "class"}, "expected one class per sample"),
    ],
)
def test_what_does_not_fit_is_named(split, rule, said, monkeypatch):
    monkeypatch.setattr(source.Split, "record", lambda self, i: dict(self.samples))
    with pytest.raises(FacebenchError, match=said) as caught:
        of(split, **rule)
    assert "toy/one" in str(caught.value)


def test_names_of_classes(split):
    assert strata.class_names(split, "expression") == ["calm", "bright eyed", "stern"]
    with pytest.raises(UsageError, match=r"no names of classes .*ClassLabel"):
        strata.class_names(split, "unit")


def test_numbers_in_keys_are_read_as_numbers():
    keys = ["a2", "a10", "a1b", "a", "a02", "10", "9", "a1", "é1", "a1b3", "a1b20"]
    assert sorted(keys, key=strata.natural) == [
        *("9", "10", "a", "a1", "a1b", "a1b3", "a1b20", "a02", "a2", "a10", "é1"),
    ]
