"""Expression by a linear layer: labels that are unknown, probabilities, the start of training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import action_maps, metrics, models, schemes, tasks
from facebench.errors import FacebenchError, UsageError
from facebench.tasks import Spec
from facebench.tasks.expression import Expression, LookingNet
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


# -- where it looks -----------------------------------------------------------------------------

FULL = Spec(size=32, points=68, classes=8, class_names=schemes.EXPRESSIONS)


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def test_a_cue_adds_one_minus_the_cosine_with_the_true_class():
    rng = np.random.default_rng(0)
    # neutral, happy, contempt, disgust; points unknown; out of the crop; label unknown, twice
    label = np.array([0, 1, 7, 5, 1, 1, -1, 255], np.int32)
    points = rng.uniform(4, 28, (8, 68, 2)).astype(np.float32)
    points[4, 9] = np.nan
    points[5] += 1000
    attention = rng.normal(size=(8, 4, 4)).astype(np.float32)
    logits = rng.normal(size=(8, 8)).astype(np.float32)
    outputs = {"logits": jnp.asarray(logits), "attention": jnp.asarray(attention)}
    batch = {"expression": jnp.asarray(label), "points": jnp.asarray(points)}
    task = tasks.build("expression", FULL, {"cue": 3.0, "cue_codebook": "emfacs"})
    assert task.fields == ("expression", "points")
    loss, scalars = jax.device_get(jax.jit(task.loss)(outputs, batch))
    plain = jax.device_get(tasks.build("expression", FULL).loss(outputs, batch)[0])
    maps = action_maps.expression_map(points[:4].astype(float), 32, 4, "emfacs")
    for i in range(8):
        if i not in (1, 2, 3):
            assert loss[i] == pytest.approx(plain[i], abs=1e-6)
            assert scalars["alignment"][i] == scalars["attention_cosine"][i] == 0
            continue
        want = cosine(attention[i], maps[i, label[i]])
        assert scalars["attention_cosine"][i] == pytest.approx(want, abs=0.02)  # float32 edges
        assert scalars["alignment"][i] == pytest.approx(1 - want, abs=0.02)
        assert loss[i] - plain[i] == pytest.approx(3 * float(scalars["alignment"][i]), abs=1e-4)


def test_attention_is_predicted_between_0_and_1():
    a = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    a[1] = 0.7
    task = tasks.build("expression", FULL, {"attention": True})
    assert task.fields == ("expression",)
    outputs = {"logits": jnp.zeros((3, 8)), "attention": jnp.asarray(a)}
    made = task.predict(outputs, {})
    assert made.keys() == {"probability", "attention"}
    for i in (0, 2):
        want = (a[i] - a[i].min()) / (a[i].max() - a[i].min())
        np.testing.assert_allclose(made["attention"][i], want, atol=1e-6)
    assert not np.asarray(made["attention"][1]).any()
    assert tasks.build("expression", FULL, {"cue": 1.0}).predict(outputs, {}).keys() == {
        "probability"
    }


@pytest.fixture(scope="module")
def looking():
    """A net with all options, its variables with a random head, and a batch of images."""
    task = tasks.build("expression", FULL, {"consistency": 2.0, "attention": True})
    net = task.module(models.build("convnet", {"widths": (4, 8), "blocks": (0, 1)}))
    image = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    variables = jax.jit(lambda k: net.init({"params": k, "dropout": k}, image, train=True))(
        jax.random.key(1)
    )
    head = variables["params"]["head"]
    head["kernel"] = jax.random.normal(jax.random.key(2), head["kernel"].shape)
    head["bias"] = jax.random.normal(jax.random.key(3), head["bias"].shape)
    return task, net, variables, image


def test_looking_changes_neither_parameters_nor_logits(looking):
    _, net, variables, image = looking
    plain = LinearNet(net.backbone, 8)
    want = plain.apply(variables, image, train=False)["logits"]
    found = net.apply(variables, image, train=False)
    assert found.keys() == {"logits", "attention"}
    np.testing.assert_array_equal(found["logits"], want)
    spatial = net.backbone.apply(
        {name: tree["backbone"] for name, tree in variables.items() if "backbone" in tree},
        image,
        train=False,
    )["spatial"]
    np.testing.assert_allclose(found["attention"], np.asarray(spatial).mean(3), atol=1e-6)


def test_consistency_compares_the_class_maps_of_both_views(looking):
    task, net, variables, image = looking

    @jax.jit
    def run(variables):
        return net.apply(variables, image, train=True, mutable=["batch_stats"])

    outputs, _ = run(variables)
    head = variables["params"]["head"]
    inside = {name: tree["backbone"] for name, tree in variables.items() if "backbone" in tree}
    views = []
    for view in (image, image[:, :, ::-1]):
        seen, _ = net.backbone.apply(inside, view, train=True, mutable=["batch_stats"])
        views.append(np.asarray(seen["spatial"]) @ np.asarray(head["kernel"]))
    expected = ((views[0] - views[1][:, :, ::-1]) ** 2).mean((1, 2, 3))
    assert expected.min() > 1e-4
    batch = {"expression": jnp.asarray([1, 2])}
    loss, scalars = task.loss(outputs, batch)
    np.testing.assert_allclose(scalars["consistency"], expected, rtol=1e-3)
    plain, _ = tasks.build("expression", FULL).loss(outputs, batch)
    np.testing.assert_allclose(loss - plain, 2 * expected, rtol=1e-3, atol=1e-5)


def test_the_class_maps_add_up_to_the_logits(looking):
    _, net, variables, image = looking
    made, _ = net.apply(variables, image, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(made["class_maps"].mean((1, 2)), made["logits"], atol=1e-4)


def test_without_options_the_task_is_what_it_was():
    task = tasks.build("expression", FULL)
    assert task.fields == Expression.reads({}) == Expression.reads({"attention": True})
    assert Expression.reads({"cue": 0.5}) == ("expression", "points")
    backbone = models.build("convnet", {"widths": (4,), "blocks": (0,)})
    assert isinstance(task.module(backbone), LinearNet)
    assert isinstance(tasks.build("expression", FULL, {"cue": 1.0}).module(backbone), LookingNet)


def test_wrong_cues():
    named = {"size": 32, "classes": 2, "points": 68}
    for spec, kwargs, kind, said in (
        (Spec(32, classes=8), {"cue": 1.0}, FacebenchError, "68 points"),
        (Spec(**named, class_names=("happy", "hapy")), {"cue": 1.0}, UsageError, "did you mean"),
        (FULL, {"cue": 1.0, "cue_codebook": "emfac"}, UsageError, "did you mean 'emfacs'"),
        (FULL, {"cue": -1.0}, UsageError, "cue is -1"),
        (FULL, {"consistency": float("nan")}, UsageError, "consistency is nan"),
        (FULL, {"consistency": 1.0, "features": "spatial"}, UsageError, "expected 'pooled'"),
    ):
        with pytest.raises(kind, match=said):
            tasks.build("expression", spec, kwargs)
    task = tasks.build("expression", FULL, {"attention": True, "cue_layer": "spatil"})
    net = task.module(models.build("convnet", {"widths": (4,), "blocks": (0,)}))
    with pytest.raises(UsageError, match="did you mean 'spatial'"):
        models.shapes(net, 32)
