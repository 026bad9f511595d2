"""Ridge regression against brute force and scikit-like algebra; canaries that know nothing."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import probes
from facebench.errors import FacebenchError, UsageError
from facebench.probes import ridge


def rng(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key))


def normal_equations(x: np.ndarray, y: np.ndarray, strength: float) -> tuple:
    """The primal solution with a free bias, by solving the normal equations."""
    n, d = x.shape
    a = np.concatenate([x, np.ones((n, 1))], 1)
    penalty = np.eye(d + 1) * strength
    penalty[d, d] = 0.0
    solved = np.linalg.solve(a.T @ a + penalty, a.T @ y)
    return solved[:d], solved[d]


def strength(x: np.ndarray, penalty: float) -> float:
    centred = x - x.mean(0)
    return penalty * (centred**2).sum() / len(x)


@pytest.mark.parametrize(("n", "d"), [(12, 30), (40, 7)])
def test_it_solves_the_normal_equations(n: int, d: int) -> None:
    x, y = rng(1).normal(size=(n, d)), rng(2).normal(size=(n, 3)) + 5
    weights, bias, penalty, _ = ridge.solve(x, y, [0.3])
    expected, offset = normal_equations(x, y, strength(x, penalty))
    np.testing.assert_allclose(weights, expected, atol=1e-10)
    np.testing.assert_allclose(bias, offset, atol=1e-10)


def test_the_leave_one_out_error_is_that_of_leaving_one_out() -> None:
    """By brute force: each sample is predicted by a fit of the others with the same strength."""
    x, truth = rng(3).normal(size=(15, 6)), rng(4).normal(size=(6, 2))
    y = x @ truth + rng(5).normal(size=(15, 2))
    for penalty in (0.01, 1.0):
        *_, error = ridge.solve(x, y, [penalty])
        residuals = []
        for i in range(15):
            rest = np.delete(np.arange(15), i)
            weights, bias = normal_equations(x[rest], y[rest], strength(x, penalty))
            residuals.append(y[i] - x[i] @ weights - bias)
        assert error == pytest.approx(np.mean(np.square(residuals)), rel=1e-9)


def test_the_penalty_with_the_least_error_is_chosen() -> None:
    x = rng(6).normal(size=(60, 20))
    noise = rng(7).normal(size=(60, 1))
    errors = {p: ridge.solve(x, noise, [p])[3] for p in ridge.PENALTIES}
    _, _, chosen, error = ridge.solve(x, noise)
    assert error == min(errors.values())
    assert chosen == min(errors, key=lambda p: (errors[p], -p))
    clean = x @ rng(8).normal(size=(20, 1))
    assert ridge.solve(x, clean)[2] == min(ridge.PENALTIES)


def batches(n: int, key: int) -> list[dict[str, np.ndarray]]:
    """Pictures whose left half is brighter for class 1; a point that follows the brightness."""
    draws = rng(key)
    label = draws.integers(0, 2, n).astype(np.int32)
    image = draws.normal(100, 10, (n, 8, 8, 3))
    image[label == 1, :, :4] += 60
    image[label == 0, :, 4:] += 60
    matrix = np.broadcast_to(np.array([[2.0, 0, 1], [0, 2, 3]], np.float32), (n, 2, 3))
    points = np.stack([label * 4.0, np.full(n, 2.0)], 1)[:, None].astype(np.float32)
    whole = {
        **{"image": image.astype(np.uint8), "expression": label, "points": points},
        **{"au": np.stack([label, 1 - label], 1).astype(np.float32), "to_image": matrix},
        "mask": np.ones(n, np.float32),
    }
    return [{k: v[i : i + 16] for k, v in whole.items()} for i in range(0, n, 16)]


def test_it_learns_each_label() -> None:
    train, (test, *_) = batches(160, 9), batches(16, 10)
    seen = probes.build("ridge", {"label": "expression", "size": None})
    seen.fit(train)
    answer = seen.predict(test)["probability"]
    assert answer.shape == (16, 2)
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-6)
    assert (answer.argmax(1) == test["expression"]).all()
    assert seen.parameters == 64 * 2 + 2
    units = probes.build("ridge", {"label": "au", "size": 4})
    units.fit(train)
    assert ((units.predict(test)["intensity"] > 0.5) == (test["au"] > 0.5)).all()
    points = probes.build("ridge", {"label": "points"})
    points.fit(train)
    expected = test["points"] * 2 + [1, 3]
    assert np.abs(points.predict(test)["points"] - expected).max() < 2.5


def test_a_constant_says_the_mean_and_a_permutation_nothing() -> None:
    train, (test, *_) = batches(160, 11), batches(16, 12)
    floor = probes.build("ridge", {"label": "au", "constant": True})
    floor.fit(train)
    mean = np.concatenate([b["au"] for b in train]).mean(0)
    np.testing.assert_allclose(floor.predict(test)["intensity"], np.tile(mean, (16, 1)), 1e-6)
    assert floor.parameters == 2
    canary = probes.build("ridge", {"label": "expression", "size": None, "permuted": True})
    canary.fit(train)
    rest = batches(800, 13)
    right = [canary.predict(b)["probability"].argmax(1) == b["expression"] for b in rest]
    assert abs(np.concatenate(right).mean() - 0.5) < 0.35  # some 0.5, where learning gives 1.0


def test_recognition_floors_tell_nobody_apart() -> None:
    (batch, *_) = batches(16, 14)
    same = probes.build("constant").predict(batch)["embedding"]
    assert (same == same[0]).all()
    shuffled = probes.build("shuffled", {"dimensions": 32}).predict(batch)["embedding"]
    np.testing.assert_allclose(np.linalg.norm(shuffled, axis=1), 1, atol=1e-6)
    again = probes.build("shuffled", {"dimensions": 32}).predict(batch)["embedding"]
    np.testing.assert_array_equal(shuffled, again)
    cosines = (shuffled @ shuffled.T)[~np.eye(16, dtype=bool)]
    assert abs(cosines.mean()) < 0.1
    assert cosines.std() == pytest.approx(32**-0.5, rel=0.3)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(UsageError, match="expression"):
        probes.build("ridge", {"label": "expresion"})
    with pytest.raises(FacebenchError, match="before fit"):
        probes.build("ridge", {"label": "au"}).predict(batches(16, 1)[0])
    with pytest.raises(FacebenchError, match="fewer than two"):
        probes.build("ridge", {"label": "au"}).fit([])


def test_it_reads_frozen_features_as_they_are() -> None:
    """The same fit as on the features, by the normal equations; no pixel is asked for."""
    x, truth = rng(21).normal(size=(50, 9)), rng(22).normal(size=(9, 4))
    y = 0.5 + 0.1 * x @ truth
    probe = probes.build("ridge", {"label": "au"})
    probe.fit([{"features": x, "au": np.clip(y, 0, 1), "mask": np.ones(50)}])
    weights, bias, *_ = ridge.solve(x, np.clip(y, 0, 1))
    new = rng(23).normal(size=(5, 9))
    found = probe.predict({"features": new})["intensity"]
    np.testing.assert_allclose(found, np.clip(new @ weights + bias, 0, 1), atol=1e-6)
    with pytest.raises(FacebenchError, match="not \\[B, F\\]"):
        probe.predict({"features": new[:, None]})


def test_padded_rows_are_not_learnt_from() -> None:
    x, au = rng(24).normal(size=(30, 5)), rng(25).uniform(size=(30, 2))
    whole, padded = (probes.build("ridge", {"label": "au"}) for _ in range(2))
    whole.fit([{"features": x, "au": au}])
    extra = {"features": np.vstack([x, 99 * x[:3]]), "au": np.vstack([au, 1 - au[:3]])}
    padded.fit([extra | {"mask": np.r_[np.ones(30), np.zeros(3)]}])
    assert np.array_equal(whole.weights, padded.weights)


def test_action_units_are_there_from_a_threshold_on() -> None:
    x, au = rng(26).normal(size=(40, 3)), rng(27).uniform(size=(40, 2))
    probe, binary = (probes.build("ridge", {"label": "au", "threshold": t}) for t in (0.4, None))
    probe.fit([{"features": x, "au": au}])
    binary.fit([{"features": x, "au": (au >= 0.4).astype(float)}])
    assert np.array_equal(probe.weights, binary.weights)
    with pytest.raises(FacebenchError, match=r"1 of 40 training images .* unknown"):
        probe.fit([{"features": x, "au": np.where(np.arange(40)[:, None] == 7, np.nan, au)}])
    with pytest.raises(UsageError, match="threshold belongs to label 'au'"):
        probes.build("ridge", {"label": "points", "threshold": 0.4})


def test_finding_everything_scores_the_f1_of_the_shares() -> None:
    from facebench import metrics

    probe = probes.build("all_positive")
    with pytest.raises(FacebenchError, match="no training image"):
        probe.fit([])
    image = np.zeros((40, 8, 8, 3), np.uint8)
    probe.fit([{"image": image, "au": np.zeros((40, 2))}])
    there = np.stack([np.arange(40) < 10, np.arange(40) < 30], 1).astype(np.int8)
    found = probe.predict({"image": image})
    assert probe.parameters == 0
    scores = metrics.score("action_units", found, {"label": there})
    shares = np.array([0.25, 0.75])
    assert scores["f1"] == pytest.approx((2 * shares / (1 + shares)).mean())
    assert scores["auc"] == pytest.approx(0.5)
