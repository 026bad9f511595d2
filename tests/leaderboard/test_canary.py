"""Answers that know nothing must stay at chance; the interval is compared with scipy's."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from facebench import files, leaderboard
from facebench.leaderboard import canary, judge


def frozen(toy, chance, metric="nme", **more):
    draft = toy.landmark_draft() | {"seeds": [0, 1, 2, 3, 4]} | more
    for one in draft["metrics"]:
        if one["name"] == metric:
            one["chance"] = chance
    return toy.freeze(draft, toy.landmark_targets())


def found(toy):
    leaderboard.write(toy.space)
    report = leaderboard.check(toy.space)
    return [line for line in report.problems if "canary" in line], report.notices


def test_the_interval_over_seeds_alone_is_students():
    scores = [0.2, 0.25, 0.22, 0.3]
    low, high = canary.interval(scores, [None] * 4)
    expected = scipy_stats.t.interval(0.999, 3, np.mean(scores), scipy_stats.sem(scores))
    assert (low, high) == pytest.approx(expected, rel=1e-6)


def test_the_interval_over_units_alone_is_students():
    """One seed and a mean over units: the pseudo-values are the units' own numbers."""
    units = np.random.default_rng(0).normal(size=25)
    low, high = canary.interval([units.mean()], [units - units.mean()])
    expected = scipy_stats.t.interval(0.999, 24, units.mean(), scipy_stats.sem(units))
    assert (low, high) == pytest.approx(expected, rel=1e-6)


def test_nothing_that_varies_is_no_interval():
    assert canary.interval([0.5], [None]) is None
    assert canary.interval([0.5], [np.zeros(1)]) is None


def test_a_canary_that_is_better_than_chance_is_named(toy):
    of = frozen(toy, chance=120.0)
    toy.record(of, "constant", 8.0, kind="canary")
    assert 50 < judge.score(of, *stored_and_labels(toy, of))["nme"] < 100
    wrong, _ = found(toy)
    assert [line.partition(": [")[0] for line in wrong] == [
        f"protocol {of.id}: canary constant: nme at {value}" for value in (0.1, 1.0)
    ]
    assert all("is better than chance 120.0" in line for line in wrong)


def stored_and_labels(toy, of):
    from facebench.leaderboard import trial

    folder, value = trial.listing(toy.space, of.id, "constant")[0]
    return trial.predictions(folder, value), judge.load_targets(toy.space, of)


def test_what_is_worse_than_chance_is_quiet(toy):
    of = frozen(toy, chance=5.0)
    toy.record(of, "constant", 8.0, kind="canary")
    assert found(toy) == ([], [])


def test_an_interval_that_reaches_chance_is_quiet(toy):
    """Better than chance by less than what other seeds and faces would change."""
    of = frozen(toy, chance=120.0, regimes=toy.landmark_draft()["regimes"] | {"values": [1.0]})
    path = toy.record(of, "constant", 8.0, kind="canary")
    rows = files.read_json(path)["trials"]
    mean = sum(row["metrics"]["nme"] for row in rows) / len(rows)
    near = type(toy)(toy.root.parent / "near")
    of = frozen(near, round(mean * 1.001, 6), regimes={**of.regimes})
    near.record(of, "constant", 8.0, kind="canary")
    assert found(near)[0] == []


@pytest.mark.parametrize(("chance", "cries"), [(10.0, True), (100.0, False)])
def test_higher_may_be_better(toy, chance, cries):
    of = frozen(toy, chance=chance, metric="auc@10")
    toy.record(of, "constant", 0.2, kind="canary")
    assert bool(found(toy)[0]) == cries


def test_only_canaries_are_canaries(toy):
    of = frozen(toy, chance=120.0)
    toy.record(of, "floor", 8.0, kind="floor")
    toy.record(of, "net", 1.0)
    assert found(toy) == ([], [])


def test_a_protocol_without_chance_says_nothing(toy, landmarks):
    toy.record(landmarks, "constant", 0.01, kind="canary")
    assert found(toy) == ([], [])


def test_a_diverged_canary_is_not_above_chance(toy):
    of = frozen(toy, chance=60.0)
    toy.record(of, "constant", 90.0, kind="canary", diverged=("0.1/0", "1.0/0"))
    assert found(toy)[0] == []
