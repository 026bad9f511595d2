"""Landmark metrics against reference scorers, closed forms, loops and symmetries."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import simpson

from facebench import metrics
from facebench.errors import FacebenchError, UsageError
from facebench.metrics import landmarks
from facebench.schemes import SCHEMES

PEER = {"inter-ocular": "ocular", "inter-pupil": "pupil", "box": "box", "diagonal": "diag"}


def faces(points=68, n=7, seed=0, noise=2.0):
    """Random points spread like a face, and predictions near them."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(20, 200, (n, points, 2))
    return true + rng.normal(0, noise, true.shape), true


def score(predicted, true, convention=None, thresholds=None, **targets):
    return metrics.score(
        "landmarks", {"points": predicted}, {"points": true, **targets}, convention, thresholds
    )


# ---- the reference scorers -------------------------------------------------------------------


@pytest.mark.parametrize("name", PEER)
@pytest.mark.parametrize("points", [68, 98, 29, 19])
def test_equals_the_reference_scorers(oracles, points, name):
    z = np.load(oracles / "metrics" / f"landmarks_{points}.npz")
    tag = PEER[name]
    box = z["in_box_y1x1y2x2"][:, [1, 0, 3, 2]]
    normaliser = SCHEMES[points].normalisers[name]
    length = landmarks.normaliser_length(z["in_gt"], normaliser, box)
    error = landmarks.normalized_mean_error(z["in_pred"], z["in_gt"], length)
    peer = z[f"out_nme_per_image_{tag}"]  # computed in float32
    assert error == pytest.approx(peer, rel=1e-6)
    result = score(z["in_pred"], z["in_gt"], f"{points}-{name}", (5, 7, 8, 10), box=box)
    assert result["nme"] == pytest.approx(100 * float(z[f"out_farl_nme_{tag}"]), abs=1e-5)
    for t in (5, 7, 8, 10):
        for scorer in ("farl", "pipnet"):
            area, failures = z[f"out_{scorer}_auc_fr_{tag}_{t / 100}"]
            assert result[f"auc_legacy@{t}"] == pytest.approx(100 * area, abs=1e-10)
            end = z[f"out_xaxis_len_last_{tag}_{t / 100}"][1]  # they read FR at the grid's end
            assert landmarks.failure_rate(error, end) == pytest.approx(failures, abs=1e-12)
        rounded = z[f"out_star_auc_fr_{tag}_{t / 100}"]
        assert result[f"auc_legacy@{t}"] == pytest.approx(100 * rounded[0], abs=1e-4)


@pytest.mark.parametrize("points", [68, 98, 29, 19])
def test_equals_hrnet_whose_19_points_are_divided_by_one_number_per_face(oracles, points):
    z = np.load(oracles / "metrics" / f"landmarks_{points}.npz")
    name = "inter-ocular" if points != 19 else "box"
    size = z["in_box_size"].astype(np.float64)
    square = np.stack([0 * size, 0 * size, size, size], axis=1)
    length = landmarks.normaliser_length(z["in_gt"], SCHEMES[points].normalisers[name], square)
    error = landmarks.normalized_mean_error(z["in_pred"], z["in_gt"], length)
    assert error == pytest.approx(z["out_hrnet_nme"], rel=2e-6)


def test_the_tight_box_is_the_oracles_box(oracles):
    # The oracle's boxes are the tight boxes of its points, so leaving them out changes nothing.
    z = np.load(oracles / "metrics" / "landmarks_68.npz")
    box = z["in_box_y1x1y2x2"][:, [1, 0, 3, 2]]
    given_box = score(z["in_pred"], z["in_gt"], "68-box", box=box)
    assert score(z["in_pred"], z["in_gt"], "68-box")["nme"] == pytest.approx(given_box["nme"])
    shrunk = np.concatenate([box[:, :2], (box[:, :2] + box[:, 2:]) / 2], axis=1)
    halved = score(z["in_pred"], z["in_gt"], "68-box", box=shrunk)
    assert halved["nme"] == pytest.approx(2 * given_box["nme"], rel=1e-6)
    tight = score(z["in_pred"], z["in_gt"], "68-tight-box", box=shrunk)
    assert tight["nme"] == pytest.approx(given_box["nme"], rel=1e-6)
    length = landmarks.normaliser_length(
        z["in_gt"], SCHEMES[68].normalisers["tight-diagonal"], shrunk
    )
    assert length == pytest.approx(np.hypot(*(box[:, 2:] - box[:, :2]).T), rel=1e-6)


# ---- closed forms ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "length"),
    [("inter-ocular", 80), ("inter-pupil", 50), ("box", 60), ("diagonal", math.hypot(90, 40))],
)
def test_a_constant_offset_gives_its_length_over_the_normaliser(name, length):
    true = np.zeros((1, 68, 2))
    true[0, 0], true[0, 16] = (0, 0), (90, 40)  # the tight box is 90 x 40
    true[0, 17:] = (45, 20)
    true[0, 36:42], true[0, 42:48] = (20, 20), (70, 20)
    true[0, 36, 0], true[0, 45, 0] = 5, 85  # outer corners; the eyes' means are kept at 50 apart
    true[0, 37, 0], true[0, 42, 0] = 35, 55
    true[0, 1:16] = (1, 1)
    result = score(true + np.array([3, 4]), true, f"68-{name}")
    assert result["nme"] == pytest.approx(100 * 5 / length)
    assert result["nme_per_point"] == pytest.approx([100 * 5 / length] * 68)


def test_every_number_by_a_loop():
    rng = np.random.default_rng(1)
    predicted, true = faces(98, 9, seed=1)
    visible = rng.random((9, 98)) < 0.6
    visible[4] = False  # an image that shows nothing is left out of nme_visible
    result = score(predicted, true, "98-inter-pupil", (2.5, 10), visible=visible)
    errors, shown, per_point = [], [], np.zeros(98)
    for i in range(9):
        d = math.dist(true[i, 96], true[i, 97])
        e = [math.dist(predicted[i, k], true[i, k]) / d for k in range(98)]
        errors.append(sum(e) / 98)
        per_point += np.array(e) / 9
        seen = [e[k] for k in range(98) if visible[i, k]]
        shown += [sum(seen) / len(seen)] if seen else []
    assert result["nme"] == pytest.approx(100 * sum(errors) / 9, rel=1e-12)
    assert result["nme_visible"] == pytest.approx(100 * sum(shown) / 8, rel=1e-12)
    assert result["nme_per_point"] == pytest.approx(100 * per_point, rel=1e-12)
    for t in (0.025, 0.10):
        failures = sum(e > t for e in errors) / 9
        assert result[f"fr@{100 * t:g}"] == pytest.approx(100 * failures)
        area = 0.0  # of the staircase, step by step
        edges = sorted([0.0, t, *(e for e in errors if e < t)])
        for low, high in pairwise(edges):
            area += (high - low) * sum(e <= low for e in errors) / 9
        assert result[f"auc@{100 * t:g}"] == pytest.approx(100 * area / t, abs=1e-9)


def test_an_error_that_equals_the_threshold_is_no_failure():
    assert landmarks.failure_rate(np.array([0.08, 0.25, 0.5]), 0.25) == pytest.approx(1 / 3)
    at = landmarks.ced(np.array([0.08, 0.25, 0.5]), np.array([0.0, 0.25, 0.3, 0.5]))
    assert at == pytest.approx([0, 2 / 3, 2 / 3, 1])


@given(
    st.lists(st.floats(0, 0.3), min_size=1, max_size=20),
    st.sampled_from([0.0001, 0.0002, 0.01, 0.05, 0.07, 0.08, 0.1, 0.25]),
)
@settings(max_examples=60, deadline=None)
def test_the_legacy_area_is_scipys_simpson_on_the_legacy_grid(errors, t):
    x = np.arange(0, t + 1e-4, 1e-4)
    y = [np.mean(np.array(errors) <= node) for node in x]
    expected = simpson(y, x=x) / t
    assert landmarks.area_under_ced_legacy(errors, t) == pytest.approx(expected, abs=1e-9)


def test_the_legacy_area_exceeds_one_where_its_grid_does():
    # arange(0, .05 + 1e-4, 1e-4) has a node at .0501: perfect predictions score 100.2 %.
    _, true = faces()
    result = score(true, true, thresholds=(5, 8))
    assert result["auc@5"] == result["auc@8"] == 100
    assert result["auc_legacy@5"] == pytest.approx(100.2)
    assert result["auc_legacy@8"] == pytest.approx(100)


# ---- symmetries ------------------------------------------------------------------------------


def numbers(result):
    return [v for v in result.values() if not isinstance(v, list)]


@given(
    st.integers(0, 1000),
    st.sampled_from(sorted(landmarks.CONVENTIONS)),
    st.floats(0.05, 50),
    st.floats(0, 6.3),
)
@settings(max_examples=40, deadline=None)
def test_scale_shift_flip_and_order_change_nothing(seed, convention, scale, angle):
    points, normaliser = landmarks.CONVENTIONS[convention]
    predicted, true = faces(points, 5, seed)
    limits = (0.5, 1, 2)
    before = score(predicted, true, convention, limits)
    order = np.random.default_rng(seed).permutation(5)
    assert numbers(score(predicted[order], true[order], convention, limits)) == pytest.approx(
        numbers(before), abs=1e-9
    )
    moved = [scale * p + [31.5, -7.25] for p in (predicted, true)]
    assert score(*moved, convention, limits)["nme"] == pytest.approx(before["nme"], rel=1e-9)
    flip = list(SCHEMES[points].flip)
    mirrored = [p[:, flip] * [-1, 1] + [223, 0] for p in (predicted, true)]
    after = score(*mirrored, convention, limits)
    assert after["nme"] == pytest.approx(before["nme"], rel=1e-9)
    per_point = np.array(before["nme_per_point"])[flip]
    assert after["nme_per_point"] == pytest.approx(per_point, rel=1e-9)
    if normaliser.kind == "points":  # a rotation keeps distances between points, not boxes
        c, s = math.cos(angle), math.sin(angle)
        turned = [p @ np.array([[c, s], [-s, c]]) for p in (predicted, true)]
        assert score(*turned, convention)["nme"] == pytest.approx(before["nme"], rel=1e-9)


@given(st.integers(0, 1000), st.floats(0.5, 99.5))
@settings(max_examples=40, deadline=None)
def test_failures_fall_and_areas_rise_with_the_threshold(seed, limit):
    predicted, true = faces(29, 12, seed, noise=30)
    result = score(predicted, true, thresholds=(limit, limit + 0.5))
    low, high = (landmarks.plain(x) for x in (limit, limit + 0.5))
    assert result[f"fr@{high}"] <= result[f"fr@{low}"]
    assert result[f"auc@{high}"] >= result[f"auc@{low}"] - 1e-12
    assert result[f"auc@{low}"] <= 100 - result[f"fr@{low}"] + 1e-9


# ---- conventions and bad input ---------------------------------------------------------------


@pytest.mark.parametrize("points", sorted(SCHEMES))
def test_without_a_convention_it_is_inter_ocular(points):
    predicted, true = faces(points)
    assert score(predicted, true) == score(predicted, true, f"{points}-inter-ocular")


def test_the_default_thresholds_and_the_names():
    predicted, true = faces(19)
    assert list(score(predicted, true, "19-diagonal")) == [
        "nme", "fr@7", "auc@7", "auc_legacy@7", "fr@10", "auc@10", "auc_legacy@10", "nme_per_point",
    ]  # fmt: skip
    assert "fr@2.5" in score(predicted, true, "19-diagonal", [2.5, 2.50])


def test_points_nobody_shows_have_no_visible_error():
    predicted, true = faces()
    result = score(predicted, true, visible=np.zeros((7, 68), np.uint8))
    assert result["nme_visible"] is None
    assert result["nme"] > 0


def test_integers_are_points_too():
    true = np.arange(68 * 2, dtype=np.int16).reshape(1, 68, 2)
    shifted = (true + 1).astype(np.uint8)
    expected = 100 * math.sqrt(2) / math.dist((72, 73), (90, 91))
    assert score(shifted, true)["nme"] == pytest.approx(expected)


def _nan(array):
    array = array.copy()
    array[3, 5, 1] = np.nan
    return array


BAD = {
    "nan prediction": (lambda p, t: (_nan(p), t, {}), r"predictions.*'points'.*NaN.*row 3"),
    "nan target": (lambda p, t: (p, _nan(t), {}), r"targets.*'points'.*NaN.*row 3"),
    "fewer rows": (lambda p, t: (p[:5], t, {}), r"predictions.*'points'.*\(5, 68, 2\).*\(7, 68"),
    "other K": (lambda p, t: (p[:, :50], t, {}), r"predictions.*\(7, 50, 2\).*\(7, 68, 2\)"),
    "flat": (lambda p, t: (p, t.reshape(7, -1), {}), r"targets.*\(7, 136\).*\(n, K, 2\)"),
    "unknown K": (lambda p, t: (p[:, :5], t[:, :5], {}), r"targets.*5 points.*19, 29, 68, 98"),
    "empty": (lambda p, t: (p[:0], t[:0], {}), r"targets.*'points' is empty"),
    "text": (lambda p, t: (p.astype(str), t, {}), r"predictions.*'points' holds <U"),
    "booleans": (lambda p, t: (p > 0, t, {}), r"predictions.*'points' holds bool"),
    "ragged": (lambda p, t: ([[1, 2], [3]], t, {}), r"predictions.*'points' is not an array"),
    "visible rows": (lambda p, t: (p, t, {"visible": np.ones((6, 68))}), r"'visible'.*\(7, 68\)"),
    "visible value": (lambda p, t: (p, t, {"visible": np.full((7, 68), 2)}), r"'visible'.*0 and 1"),
    "collapsed": (lambda p, t: (p, t * 0, {}), r"targets.*'points'.*no length.*row 0"),
    "huge": (lambda p, t: (p * 1e305, t * 1e-3, {}), r"metric 'nme' is inf"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named(case):
    make, message = BAD[case]
    predicted, true, targets = make(*faces())
    with pytest.raises(FacebenchError, match=message):
        score(predicted, true, **targets)


def test_a_box_without_area_is_named_where_it_is_used():
    predicted, true = faces()
    box = np.tile([0.0, 0, 10, 10], (7, 1))
    box[2, 3] = 0
    with pytest.raises(FacebenchError, match=r"targets: array 'box' has no area in row 2"):
        score(predicted, true, "68-diagonal", box=box)
    assert score(predicted, true, "68-inter-pupil", box=box)["nme"] > 0


def test_a_missing_array_and_a_convention_of_other_points():
    predicted, true = faces()
    with pytest.raises(FacebenchError, match=r"predictions: array 'points' is missing.*'point'"):
        metrics.score("landmarks", {"point": predicted}, {"points": true})
    with pytest.raises(UsageError, match=r"'98-box' is for 98 points.*holds 68.*'68-box'"):
        score(predicted, true, "98-box")
    with pytest.raises(UsageError, match=r"no convention '68-interocular'.*'68-inter-ocular'"):
        score(predicted, true, "68-interocular")


@pytest.mark.parametrize("limit", [0, -1, 101, math.nan, math.inf, "ten"])
def test_a_threshold_out_of_range_is_named(limit):
    with pytest.raises(UsageError, match=r"threshold.*per cent"):
        score(*faces(), thresholds=[limit])
