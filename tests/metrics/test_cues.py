"""Attention cosine against loops, and what may not count."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import action_maps, metrics, schemes
from facebench.errors import FacebenchError
from facebench.metrics import _cues

SIZE = 64
RNG = np.random.default_rng(0)


def case(n=24, classes=8, side=8, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % classes
    predictions = {
        "probability": np.eye(classes)[label],
        "attention": rng.random((n, side, side)),
    }
    targets = {
        "label": label,
        "points": rng.uniform(4, 60, (n, 68, 2)),
        "size": np.int32(SIZE),
        "unit": rng.integers(0, 5, n),
    }
    return predictions, targets


def interpolated(image, y, x):
    """Linear between the centres of cells, constant beyond the outermost ones."""
    h, w = image.shape
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    i, j = min(int(y), h - 2), min(int(x), w - 2)
    top = image[i, j] * (1 - (x - j)) + image[i, j + 1] * (x - j)
    bottom = image[i + 1, j] * (1 - (x - j)) + image[i + 1, j + 1] * (x - j)
    return top * (1 - (y - i)) + bottom * (y - i)


@pytest.mark.parametrize("side", [2, 7, 8])
def test_every_number_by_a_loop(side):
    predictions, targets = case(side=side)
    targets["points"][3] = np.nan  # a face without points
    targets["points"][4] += 500  # a face outside of its crop
    result = metrics.score("expression", predictions, targets)
    found = {name: [] for name in schemes.EXPRESSIONS}
    for i, label in enumerate(targets["label"]):
        name = schemes.EXPRESSIONS[label]
        drawn = action_maps.expression_map(targets["points"][i], SIZE, 28)[label]
        if name == "neutral" or i in (3, 4):
            assert not drawn.any()
            continue
        large = np.array(
            [
                [
                    interpolated(
                        predictions["attention"][i],
                        (r + 0.5) / 28 * side - 0.5,
                        (c + 0.5) / 28 * side - 0.5,
                    )
                    for c in range(28)
                ]
                for r in range(28)
            ]
        )
        lengths = np.linalg.norm(large) * np.linalg.norm(drawn)
        found[name].append((large * drawn).sum() / lengths)
    means = [np.mean(found[name]) if found[name] else None for name in schemes.EXPRESSIONS]
    assert means[0] is None
    assert result["attention_cosine_per_class"] == pytest.approx(means)
    assert result["attention_cosine"] == pytest.approx(np.mean(means[1:]))


def test_looking_at_the_map_is_one_and_nowhere_is_zero():
    predictions, targets = case()
    maps = action_maps.expression_map(targets["points"], SIZE, 28)
    predictions["attention"] = maps[np.arange(24), targets["label"]]
    assert metrics.score("expression", predictions, targets)["attention_cosine"] == pytest.approx(1)
    predictions["attention"] = np.zeros((24, 28, 28))
    assert metrics.score("expression", predictions, targets)["attention_cosine"] == 0


def test_a_finer_attention_is_averaged():
    """A smooth attention costs the same at every resolution."""
    predictions, targets = case()
    found = []
    for side in (14, 28, 90):
        y, x = (np.mgrid[:side, :side] + 0.5) / side
        spot = np.exp(-((x - 0.4) ** 2 + (y - 0.6) ** 2) / 0.1)
        predictions["attention"] = np.tile(spot, (24, 1, 1))
        found.append(metrics.score("expression", predictions, targets)["attention_cosine"])
    np.testing.assert_allclose(found, found[1], atol=0.005)
    flat = _cues._on_grid(np.full((1, 60, 90), 0.25))
    np.testing.assert_allclose(flat, np.full((1, 28, 28), 0.25))


def test_its_parts_are_the_score_of_all_and_of_some():
    predictions, targets = case()
    targets["points"][5] = np.nan
    part = metrics.parts("expression", None, predictions, targets)["attention_cosine"]
    whole = metrics.score("expression", predictions, targets)["attention_cosine"]
    assert part.value(part.columns.sum(axis=0)) == pytest.approx(whole, abs=1e-8)
    assert part.of == "unit"
    rows = np.array([1, 1, 2, 6, 14])
    some = {
        name: array[rows] if np.ndim(array) and len(array) == 24 else array
        for name, array in targets.items()
    }
    again = metrics.score(
        "expression", {name: array[rows] for name, array in predictions.items()}, some
    )
    assert part.value(part.columns[rows].sum(axis=0)) == pytest.approx(
        again["attention_cosine"], abs=1e-8
    )


def test_the_targets_say_which_units_a_class_has():
    predictions, targets = case(classes=3)
    targets["cues"] = np.array([[4, 0], [0, 0], [25, 12]], np.uint8)
    result = metrics.score("expression", predictions, targets)
    rows = targets["label"] == 2
    drawn = action_maps.maps(targets["points"][rows], SIZE, 28, (12, 25)).max(1)
    attention = _cues._on_grid(predictions["attention"][rows])
    cosines = (drawn * attention).sum((1, 2)) / np.sqrt(
        (drawn**2).sum((1, 2)) * (attention**2).sum((1, 2))
    )
    each = result["attention_cosine_per_class"]
    assert each[1] is None
    assert each[2] == pytest.approx(cosines.mean())
    assert result["attention_cosine"] == pytest.approx((each[0] + each[2]) / 2)


def test_it_is_asked_for_by_points_and_attention_together():
    predictions, targets = case()
    plain = metrics.score("expression", *({k: v} for k, v in [*predictions.items()][:1]), targets)
    assert "attention_cosine" not in plain
    del targets["points"]
    assert "attention_cosine" not in metrics.score("expression", predictions, targets)
    assert metrics.metric_info("expression", "attention_cosine_per_class")["range"] == [0, 1]


def test_nobody_counts():
    predictions, targets = case()
    targets["points"][:] = np.nan
    assert metrics.score("expression", predictions, targets)["attention_cosine"] is None


BAD = {
    "rows": ("predictions", "attention", lambda a: a[:-1], r"'attention' has shape \(23, 8, 8\)"),
    "range": ("predictions", "attention", lambda a: a * 255, "'attention' holds"),
    "nan": ("predictions", "attention", lambda a: a * np.nan, "'attention' holds NaN"),
    "points": ("targets", "points", lambda p: p[:, :5], r"'points' has shape \(24, 5, 2\)"),
    "text": ("targets", "points", lambda p: p.astype(str), "'points' holds <U"),
    "far": ("targets", "points", lambda p: p * 1e9, "pixels of the crop"),
    "size": ("targets", "size", lambda s: s * 0, "'size' is 0"),
    "sizes": ("targets", "size", lambda s: np.array([s]), "'size' has shape"),
    "cues": ("targets", "cues", lambda c: np.full((8, 1), 3), "'cues' holds 3"),
    "classes": ("targets", "cues", lambda c: np.full((7, 1), 4), "'cues' has shape"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_broken_array_is_named(fault):
    predictions, targets = case()
    where, name, change, said = BAD[fault]
    arrays = predictions if where == "predictions" else targets
    arrays[name] = change(arrays.get(name))
    with pytest.raises(FacebenchError, match=said):
        metrics.score("expression", predictions, targets)
