"""Action units: what counts as there, what is unknown, and which columns are read."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import metrics, models, tasks
from facebench.errors import UsageError
from facebench.tasks import OCCURS, Spec

SPEC = Spec(size=8, action_units=(1, 4, 12, 25))


def softplus(x):
    return np.logaddexp(0, x)


def test_grade_b_is_there_and_grade_a_is_not():
    task = tasks.build("action_units", SPEC)
    grades = np.float32([[0.2, 0.4, 0.39, 1.0]])  # A, B, just below B, E
    logits = np.float32([[1.5, 1.5, 1.5, 1.5]])
    loss, scalars = task.loss({"logits": jnp.asarray(logits)}, {"au": jnp.asarray(grades)})
    expected = np.mean([softplus(1.5), softplus(-1.5), softplus(1.5), softplus(-1.5)])
    assert loss[0] == pytest.approx(expected, rel=1e-6)
    assert scalars["accuracy"][0] == 0.5
    assert OCCURS == 2 / 5  # DISFA: 2 or more of 0 to 5


@pytest.mark.parametrize("name", ["action_units", "action_unit_intensity"])
@pytest.mark.parametrize("unknown", [-1.0, 9.0, 999.0, np.nan])
def test_an_unknown_label_costs_nothing_and_pulls_nowhere(name, unknown):
    task = tasks.build(name, SPEC)
    key = "logits" if name == "action_units" else "intensity"
    au = jnp.asarray([[0.8, unknown, 0.0, unknown], [unknown] * 4], jnp.float32)
    outputs = jnp.asarray([[0.3, 0.7, -0.2, 2.0]] * 2)

    def total(value):
        loss, scalars = task.loss({key: value}, {"au": au})
        return loss.sum(), (loss, scalars)

    gradient, (loss, scalars) = jax.grad(total, has_aux=True)(outputs)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, [1, 3]], 0)
    np.testing.assert_array_equal(gradient[1], 0)
    assert loss[1] == 0
    assert all(np.isfinite(s).all() for s in scalars.values())
    known = task.loss({key: outputs[:1]}, {"au": jnp.asarray([[0.8, 0.5, 0.0, 0.5]])})[0]
    alone = tasks.build(name, SPEC, {"au": (1, 12)})
    same, _ = alone.loss({key: outputs[:1, jnp.array([0, 2])]}, {"au": au[:1]})
    assert loss[0] == pytest.approx(float(same[0]), rel=1e-6)
    assert loss[0] != pytest.approx(float(known[0]))


def test_intensity_is_the_squared_error_and_is_stored_within_its_range():
    task = tasks.build("action_unit_intensity", SPEC)
    outputs = {"intensity": jnp.asarray([[-0.5, 0.5, 1.5, 0.25]])}
    au = jnp.asarray([[0.0, 0.5, 1.0, 0.75]])
    loss, scalars = task.loss(outputs, {"au": au})
    assert loss[0] == pytest.approx((0.25 + 0 + 0.25 + 0.25) / 4)
    assert scalars["absolute_error"][0] == pytest.approx(1.5 / 4)
    np.testing.assert_array_equal(task.predict(outputs, {})["intensity"], [[0, 0.5, 1, 0.25]])


def test_the_columns_are_the_action_units_that_are_asked_for():
    task = tasks.build("action_units", SPEC, {"au": (25, 4)})
    au = jnp.asarray([[1.0, 0.0, 1.0, 1.0]])
    loss, _ = task.loss({"logits": jnp.asarray([[9.0, -9.0]])}, {"au": au})
    assert loss[0] < 1e-3
    net = task.module(models.build("convnet", {"widths": (2,), "blocks": (0,)}))
    outputs, _ = models.shapes(net, 8)
    assert outputs["logits"].shape == (2, 2)


def test_predictions_are_scored_as_they_are():
    task = tasks.build("action_units", SPEC)
    au = np.float32([[0.0, 0.4, 0.9, 0.1], [0.5, 0.3, 0.0, 1.0]])
    logits = jnp.where(jnp.asarray(au) >= OCCURS, 3.0, -3.0)
    stored = {k: np.asarray(v) for k, v in task.predict({"logits": logits}, {}).items()}
    label = (au >= OCCURS).astype(int)
    assert metrics.score("action_units", stored, {"label": label})["f1"] == 1


def test_wrong_keywords():
    for kwargs, message in (
        ({"au": (1, 2)}, r"au 2 is not labelled by the data; there are: 1, 4, 12, 25"),
        ({"au": (1, 1)}, r"au is \[1, 1\]"),
        ({"au": ()}, r"au is \[\]"),
        ({"features": "map"}, r"features is 'map'"),
        ({"aus": (1,)}, r"did you mean 'au'"),
    ):
        with pytest.raises(UsageError, match=message):
            tasks.build("action_units", SPEC, kwargs)
