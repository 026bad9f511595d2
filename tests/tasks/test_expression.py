"""Expression by a linear layer: labels that are unknown, probabilities, the start of training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import metrics, models, tasks
from facebench.errors import UsageError
from facebench.tasks import Spec
from facebench.tasks.linear import LinearNet


def test_the_loss_is_minus_the_log_of_the_predicted_probability():
    task = tasks.build("expression", Spec(size=8, classes=7))
    logits = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
    label = np.array([0, 6, 3, -1, 255, 2], np.int32)
    outputs = {"logits": jnp.asarray(logits)}
    loss, scalars = task.loss(outputs, {"expression": jnp.asarray(label)})
    probability = np.asarray(task.predict(outputs, {})["probability"])
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-6)
    for i, y in enumerate(label):
        expected = -np.log(probability[i, y]) if 0 <= y < 7 else 0.0
        assert loss[i] == pytest.approx(expected, rel=1e-5)
        assert scalars["accuracy"][i] == (logits[i].argmax() == y)


def test_predictions_are_scored_as_they_are():
    task = tasks.build("expression", Spec(size=8, classes=3))
    logits = jnp.asarray([[30.0, -30, 0], [0, 1, 0], [0, 0, 2]])
    stored = {k: np.asarray(v) for k, v in task.predict({"logits": logits}, {}).items()}
    assert metrics.score("expression", stored, {"label": np.array([0, 1, 1])})["uar"] == 0.75


def test_smoothing_costs_a_sure_answer():
    plain, smooth = (
        tasks.build("expression", Spec(size=8, classes=3), {"smoothing": s}) for s in (0.0, 0.1)
    )
    outputs, batch = {"logits": jnp.asarray([[20.0, 0, 0]])}, {"expression": jnp.asarray([0])}
    assert plain.loss(outputs, batch)[0][0] == pytest.approx(0, abs=1e-6)
    assert smooth.loss(outputs, batch)[0][0] == pytest.approx(0.1 * 2 / 3 * 20, rel=1e-4)


@pytest.mark.parametrize("features", ["pooled", "spatial", "both"])
def test_training_starts_at_equal_chances_and_reads_the_features_it_says(features):
    backbone = models.build("convnet", {"widths": (4, 8), "blocks": (0, 1)})
    net = LinearNet(backbone, 3, features=features)
    image = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    outputs, variables = net.init_with_output(jax.random.key(1), image, train=False)
    np.testing.assert_array_equal(outputs["logits"], 0)
    width = {"pooled": 8, "spatial": 4 * 4 * 8, "both": 8 + 4 * 4 * 8}[features]
    assert models.parameter_count(variables["params"]["head"]) == (width + 1) * 3


def test_equal_weights_on_the_map_are_the_layer_on_the_mean():
    backbone = models.build("convnet", {"widths": (4,), "blocks": (0,)})
    image = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (4, 3))
    found = []
    for features, head in (("pooled", kernel), ("spatial", jnp.tile(kernel, (16, 1)))):
        net = LinearNet(backbone, 3, features=features)
        variables = net.init(jax.random.key(2), image, train=False)
        variables["params"]["head"]["kernel"] = head
        found.append(net.apply(variables, image, train=False)["logits"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_wrong_keywords():
    for kwargs in ({"features": "pool"}, {"smoothing": 1.0}, {"smooting": 0.1}):
        with pytest.raises(UsageError):
            tasks.build("expression", Spec(size=8, classes=3), kwargs)
