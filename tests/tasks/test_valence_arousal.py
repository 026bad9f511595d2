"""Valence and arousal: what is unknown, which loss, and that predictions are scored as they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import metrics, tasks
from facebench.errors import UsageError
from facebench.tasks import Spec

SPEC = Spec(size=8)


def test_the_squared_error_of_the_tanh():
    task = tasks.build("valence_arousal", SPEC)
    logits = jnp.asarray([[0.5, -0.5], [2.0, 0.0]])
    true = jnp.asarray([[0.0, -0.5], [1.0, 0.25]])
    loss, scalars = task.loss({"logits": logits}, {"valence_arousal": true})
    error = np.tanh(logits) - true
    np.testing.assert_allclose(loss, np.square(error).mean(1), rtol=1e-6)
    np.testing.assert_allclose(scalars["absolute_error"], np.abs(error).mean(1), rtol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "ccc"])
@pytest.mark.parametrize("unknown", [-2.0, np.nan])
def test_an_unknown_label_costs_nothing_and_pulls_nowhere(loss, unknown):
    task = tasks.build("valence_arousal", SPEC, {"loss": loss})
    true = jnp.asarray([[0.8, unknown], [unknown] * 2, [-0.2, 0.4], [0.1, -0.9]], jnp.float32)
    logits = jnp.asarray([[0.3, 0.7], [-0.2, 2.0], [0.1, 0.2], [-0.4, 0.5]])

    def total(logits):
        value, scalars = task.loss({"logits": logits}, {"valence_arousal": true})
        return value.sum(), (value, scalars)

    gradient, (value, scalars) = jax.grad(total, has_aux=True)(logits)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient) == 0).tolist() == [[False, True], [True, True]] + [[False] * 2] * 2
    assert value[1] == 0
    assert all(np.isfinite(s).all() for s in scalars.values())


def test_the_concordance_loss_is_one_minus_the_score_of_the_batch():
    task = tasks.build("valence_arousal", SPEC, {"loss": "ccc"})
    rng = np.random.default_rng(1)
    true = rng.uniform(-1, 1, (12, 2)).astype(np.float32)
    outputs = {"logits": jnp.asarray(true * 0.7 + rng.normal(size=(12, 2)) * 0.3)}
    mask = jnp.asarray(np.arange(12) < 9, jnp.float32)
    batch = {"valence_arousal": jnp.asarray(true), "mask": mask}
    loss, _ = task.loss(outputs, batch)
    stored = {k: np.asarray(v)[:9] for k, v in task.predict(outputs, {}).items()}
    ccc = metrics.score("valence_arousal", stored, {"valence_arousal": true[:9]})["ccc"]
    assert float((loss * mask).sum() / 9) == pytest.approx(1 - ccc, rel=1e-5)
    plain, _ = tasks.build("valence_arousal", SPEC).loss(outputs, batch)
    assert plain[0] != pytest.approx(float(loss[0]))


def test_wrong_keywords():
    for kwargs, message in (
        ({"loss": "cc"}, r"loss is 'cc': did you mean 'ccc'"),
        ({"features": "map"}, r"features is 'map'"),
    ):
        with pytest.raises(UsageError, match=message):
            tasks.build("valence_arousal", SPEC, kwargs)
