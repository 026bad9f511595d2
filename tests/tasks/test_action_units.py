"""Action units: what counts as there, what is unknown, and which columns are read."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import metrics, models, tasks
from facebench.errors import FacebenchError, UsageError
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


PEOPLE = Spec(size=8, action_units=(1, 4, 12, 25), identities=3)
BATCH = {
    "au": jnp.asarray([[0.8, -1.0, 0.0, 0.1], [0.0, 0.5, 0.9, 0.0]], jnp.float32),
    "identity": jnp.asarray([2, 0], jnp.int32),
    "positive_rate": jnp.tile(jnp.asarray([0.5, 0.2, 0.1, 0.4], jnp.float32), (2, 1)),
}
LOGITS = jnp.asarray([[0.3, 0.7, -0.2, 2.0], [-1.0, 0.4, 0.0, 0.5]])


def test_what_is_read_follows_from_the_keywords():
    for kwargs, fields in (
        ({}, ("au",)),
        ({"loss": "asymmetric"}, ("au",)),
        ({"weights": "inverse"}, ("au", "positive_rate")),
        ({"adversary": 0.0}, ("au", "identity")),
        ({"adversary": 1.0, "weights": "inverse"}, ("au", "positive_rate", "identity")),
    ):
        task = tasks.build("action_units", PEOPLE, kwargs)
        assert task.fields == type(task).reads(kwargs) == fields
    assert tasks.build("action_units", SPEC).fields == ("au",)


def test_weights_and_the_other_losses_reach_the_loss():
    """Against the pure functions; the weights are of the chosen action units, in their order."""
    from facebench.losses import action_units as losses

    there = np.asarray(BATCH["au"]) >= 0.4
    known = np.asarray(BATCH["au"]) >= 0
    logs = losses.of_logits(LOGITS)
    weight = losses.inverse_weights(BATCH["positive_rate"][0])
    for kwargs, wanted in (
        ({"weights": "inverse"}, losses.cross_entropy(*logs, there, known, weight)),
        ({"loss": "asymmetric"}, losses.asymmetric(*logs, there, known)),
        (
            {"loss": "asymmetric", "weights": "inverse", "dice": 0.5},
            losses.asymmetric(*logs, there, known, weight)
            + 0.5 * losses.dice(logs[0], there, known, weight),
        ),
    ):
        got, _ = tasks.build("action_units", SPEC, kwargs).loss({"logits": LOGITS}, BATCH)
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    two = tasks.build("action_units", SPEC, {"au": (25, 4), "weights": "inverse"})
    got, _ = two.loss({"logits": LOGITS[:, [3, 1]]}, BATCH)
    cost = np.logaddexp(0, np.where(there, -LOGITS, LOGITS))
    weight = np.array([0, 4 / 3, 0, 2 / 3])  # of rates .2 and .4
    np.testing.assert_allclose(got, (weight * cost * known).sum(1) / known[:, [1, 3]].sum(1), 1e-5)


@pytest.fixture(scope="module")
def net():
    return models.build("convnet", {"widths": (4,), "blocks": (0,)})


def trained_on(net, kwargs, seed=0):
    """The gradient of a task's loss, the scalars it logs, and the parameters."""
    task = tasks.build("action_units", PEOPLE, kwargs)
    module = task.module(net)
    image = jax.random.normal(jax.random.key(seed), (2, 8, 8, 3))
    variables = module.init(jax.random.key(seed), image, train=True)
    params = variables.pop("params")
    # The heads start at zero, where nothing comes back through them.
    params = {
        name: tree if name == "backbone" else jax.tree.map(lambda x: x + 0.1, tree)
        for name, tree in params.items()
    }
    params["backbone"] = jax.tree.map(lambda x: x, params["backbone"])
    if "identity" in params:
        kernel = params["identity"]["kernel"]
        params["identity"]["kernel"] = jax.random.normal(jax.random.key(7), kernel.shape)

    def loss(params):
        outputs, _ = module.apply(
            {"params": params, **variables}, image, train=True, mutable=list(variables)
        )
        cost, scalars = task.loss(outputs, BATCH)
        return cost.mean(), scalars

    gradient, scalars = jax.grad(loss, has_aux=True)(params)
    return gradient, scalars, params


def test_the_adversary_turns_its_gradient_and_nothing_else(net):
    plain, _, params = trained_on(net, {})
    assert set(params) == {"backbone", "head"}
    watching, scalars, watched = trained_on(net, {"adversary": 0.0})
    assert set(watched) == {"backbone", "head", "identity"}
    assert set(scalars) == {"accuracy", "identity_loss", "identity_accuracy"}
    against, _, _ = trained_on(net, {"adversary": 0.5})
    helping, _, _ = trained_on(net, {"adversary": -0.5})
    for name in ("backbone", "head"):  # who only watches moves nothing
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), plain[name], watching[name]
        )
    for one in (against, helping):  # the identity head itself learns all the same
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7),
            one["identity"],
            watching["identity"],
        )
    turned = jax.tree.map(lambda a, b: a - b, against["backbone"], plain["backbone"])
    given = jax.tree.map(lambda a, b: a - b, helping["backbone"], plain["backbone"])
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(turned)) > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -b, atol=1e-6), turned, given)


def test_a_graph_predicts_its_cosines_and_is_scored_at_half(net):
    task = tasks.build("action_units", PEOPLE, {"head": "graph", "neighbours": 2})
    outputs, variables = models.shapes(task.module(net), 8)
    assert set(outputs) == {"probability"}
    assert set(variables["params"]) == {"backbone", "head"}
    cosine = jnp.asarray([[0.9, 0.2, 0.6, 0.1], [0.0, 1.0, 0.4, 0.3]])
    loss, scalars = task.loss({"probability": cosine}, BATCH)
    first = -(np.log(0.9) + np.log(1 - 0.6) + np.log(1 - 0.1)) / 3
    assert loss[0] == pytest.approx(first, rel=1e-5)
    np.testing.assert_allclose(scalars["accuracy"], [2 / 3, 3 / 4], rtol=1e-6)
    np.testing.assert_array_equal(task.predict({"probability": cosine}, {})["probability"], cosine)


def test_wrong_keywords_of_losses_and_heads():
    for kwargs, message in (
        ({"loss": "bcee"}, r"loss is 'bcee': did you mean 'bce'"),
        ({"weights": "invers"}, r"did you mean 'inverse'"),
        ({"head": "grph"}, r"did you mean 'graph'"),
        ({"dice": -1.0}, r"dice is -1.0"),
        ({"head": "graph", "neighbours": 5}, r"neighbours is 5, expected 1 to 4"),
        ({"identity_loss": "softmx"}, r"did you mean 'softmax'"),
    ):
        with pytest.raises(UsageError, match=message):
            tasks.build("action_units", PEOPLE, kwargs)
    with pytest.raises(FacebenchError, match=r"identities is 0, expected at least 2"):
        tasks.build("action_units", SPEC, {"adversary": 1.0})


def test_a_conditional_identity_head_reads_the_known_labels_while_training():
    """The head's columns after the features are those of the labels: 1 there, -1 not, 0 unknown."""
    spec = Spec(size=8, action_units=(1, 2, 4), identities=5, occurs=0.4)
    options = {"au": (4, 1), "adversary": 1.0, "conditional": True}
    task = tasks.build("action_units", spec, options)
    assert task.module_reads == ("au",)
    module = task.module(models.build("convnet", {"widths": (4,), "blocks": (0,)}))
    image = jax.random.normal(jax.random.key(0), (3, 8, 8, 3))
    variables = module.init(jax.random.key(1), image, train=True)
    kernel = jax.random.normal(jax.random.key(2), variables["params"]["identity"]["kernel"].shape)
    head = {"kernel": kernel, "bias": jnp.zeros(5)}
    variables = variables | {"params": variables["params"] | {"identity": head}}
    au = jnp.array([[0.4, 0.9, 0.1], [-1.0, 0.0, 0.9], [9.0, 0.0, jnp.nan]])
    more = {"train": True, "mutable": ["batch_stats"]}
    given = module.apply(variables, image, au=au, **more)[0]["identity"]
    plain = module.apply(variables, image, **more)[0]["identity"]  # nothing is known
    shown = np.array([[-1, 1], [1, 0], [0, 0]])  # of units 4 and 1
    np.testing.assert_allclose(given - plain, shown @ np.asarray(kernel[-2:]), atol=1e-5)
    with pytest.raises(UsageError, match="conditional is about the adversary"):
        tasks.build("action_units", spec, {"conditional": True})
