"""Logistic regression against Newton's method and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import probes
from facebench.errors import FacebenchError, UsageError
from facebench.probes import logistic


def rng(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def newton(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Softmax weights [D + 1, C] by damped Newton steps on the whole Hessian, bias last."""
    n, c = y.shape
    rows = np.hstack([x, np.ones((n, 1))])
    d = rows.shape[1]
    ridge = np.diag(np.tile(np.r_[np.ones(d - 1), 0.0], c)) * penalty
    w = np.zeros((c, d))
    for _ in range(20):
        p = np.exp(rows @ w.T - (rows @ w.T).max(1, keepdims=True))
        p = p / p.sum(1, keepdims=True)
        slope = ((p - y).T @ rows / n).ravel() + ridge @ w.ravel()
        hessian = ridge.copy()
        for a in range(c):
            for b in range(c):
                weight = p[:, a] * ((a == b) - p[:, b]) / n
                hessian[a * d : a * d + d, b * d : b * d + d] += rows.T @ (weight[:, None] * rows)
        w = w - (np.linalg.pinv(hessian) @ slope).reshape(c, d)
    return w.T


@pytest.mark.parametrize("shape", [(60, 4, 3), (9, 14, 3)])
def test_a_softmax_is_the_one_of_newtons_method(shape: tuple[int, int, int]) -> None:
    """With more images than features, and with fewer, where the probe works in their span."""
    n, d, c = shape
    x, label = rng(1).normal(2, 3, (n, d)), np.arange(n) % c
    x[np.arange(n), label] += 2
    probe = probes.build("logistic", {"label": "expression", "penalty": 0.02})
    probe.fit([{"features": x, "expression": label}])
    scale = np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())
    z = (x - x.mean(0)) / scale
    w = newton(z, np.eye(c)[label], 0.02)
    new = rng(2).normal(2, 3, (9, d))
    score = (new - x.mean(0)) / scale @ w[:-1] + w[-1]
    expected = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    found = probe.predict({"features": new})["probability"]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert probe.parameters == (d + 1) * c


def test_sigmoids_are_apart_and_pass_over_what_is_unknown() -> None:
    """Each is a softmax of two classes over its known images; half its penalty, twice its slope."""
    x = rng(3).normal(size=(40, 5))
    au = (x[:, :2] + 0.5 * rng(4).normal(size=(40, 2)) > 0).astype(np.float64)
    au[:7, 0] = -1
    au[3:9, 1] = np.nan
    w = logistic.solve(
        x, np.nan_to_num(au) > 0, ((au >= 0) & (au <= 1)) * 1.0, 0.1, logistic.sigmoid_loss
    )
    for j, known in enumerate((np.arange(40) >= 7, ~np.isin(np.arange(40), range(3, 9)))):
        two = newton(x[known], np.eye(2)[au[known, j].astype(int)], 0.2)
        np.testing.assert_allclose(w[:, j], two[:, 1] - two[:, 0], atol=1e-5)
    probe = probes.build("logistic", {"label": "au", "threshold": 0.4})
    probe.fit([{"features": x, "au": np.where(au == 1, 0.4, au)}])
    found = probe.predict({"features": x})["probability"]
    known = (au >= 0) & (au <= 1)
    assert ((found > 0.5) == (au == 1))[known].mean() > 0.8


def test_an_action_unit_that_no_image_shows_is_answered_by_its_share() -> None:
    x = rng(5).normal(size=(8, 3))
    au = np.stack([np.zeros(8), np.ones(8), x[:, 0] > 0], 1).astype(np.float64)
    probe = probes.build("logistic", {"label": "au"})
    probe.fit([{"features": x, "au": au}])
    found = probe.predict({"features": rng(6).normal(size=(4, 3))})["probability"]
    np.testing.assert_allclose(found[:, :2], [[0.1, 0.9]] * 4, atol=1e-6)  # (0 + 1) / (8 + 2)
    assert np.ptp(found[:, 2]) > 0.05


@pytest.mark.parametrize("shots", [1, 2, 5, 10, 25])
def test_few_shots_of_every_class(shots: int) -> None:
    """From one image of each class on, better with more; the penalty is one that can be chosen."""
    means = rng(7).normal(size=(8, 40))
    label = np.tile(np.arange(8), shots)
    x = means[label] + rng(8).normal(size=(8 * shots, 40)) * 1.5
    there = np.tile(np.arange(8), 50)
    new = means[there] + rng(9).normal(size=(400, 40)) * 1.5
    probe = probes.build("logistic", {"label": "expression", "classes": 9})
    probe.fit([{"features": x[i::2], "expression": label[i::2]} for i in range(2)])
    found = probe.predict({"features": new})["probability"]
    assert (found[:, 8] == 0).all()  # no image of it was seen
    assert np.isfinite(found).all()
    right = (found.argmax(1) == there).mean()
    assert right > {1: 0.5, 2: 0.6, 5: 0.8, 10: 0.85, 25: 0.9}[shots]
    assert probe.chosen == logistic.ALONE if shots == 1 else probe.chosen in logistic.PENALTIES
    again = probes.build("logistic", {"label": "expression", "classes": 9})
    again.fit([{"features": x[i::2], "expression": label[i::2]} for i in range(2)])
    assert np.array_equal(again.predict({"features": new})["probability"], found)


def test_the_chosen_penalty_has_the_least_loss_on_the_folds() -> None:
    x, label = rng(10).normal(size=(50, 6)), np.arange(50) % 3
    x[:, 0] += label
    y = np.eye(3)[label]
    known, fold = np.ones_like(y), logistic.folds(y, True)
    assert np.bincount(fold).tolist() == [12, 11, 9, 9, 9]
    assert all((np.bincount(label[fold == f], minlength=3) >= 3).all() for f in range(5))

    def held_out(penalty: float) -> float:
        total = 0.0
        for out in range(5):
            w = newton(x[fold != out], y[fold != out], penalty)
            score = x[fold == out] @ w[:-1] + w[-1]
            p = np.exp(score) / np.exp(score).sum(1, keepdims=True)
            total -= float((y[fold == out] * np.log(p)).sum())
        return total

    losses = {penalty: held_out(penalty) for penalty in (0.004, 0.06, 1.0)}
    found = logistic.choose(x, y, known, fold, logistic.softmax_loss, tuple(losses))
    assert found == min(losses, key=losses.__getitem__)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(UsageError, match="expression"):
        probes.build("logistic", {"label": "expresion"})
    with pytest.raises(UsageError, match="penalty is -1"):
        probes.build("logistic", {"label": "au", "penalty": -1})
    probe = probes.build("logistic", {"label": "expression", "classes": 2})
    with pytest.raises(FacebenchError, match="before fit"):
        probe.predict({"features": np.zeros((1, 2))})
    with pytest.raises(FacebenchError, match="fewer than two"):
        probe.fit([])
    with pytest.raises(FacebenchError, match=r"1 of 3 training images .* outside 0\.\.1"):
        probe.fit([{"features": np.zeros((3, 2)), "expression": np.array([0, 1, 2])}])
