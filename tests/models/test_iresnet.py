"""iResNet against insightface's net: outputs, one training step, sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models
from facebench.errors import FacebenchError, UsageError
from facebench.models import weights
from facebench.models.iresnet import IResNet, torch_names


@pytest.fixture(scope="module")
def tiny(published):
    net = IResNet("tiny", dim=64)
    state = published(net, torch_names(net)).state()
    return net, weights.import_torch(net, state, 112)


@pytest.fixture(scope="module")
def small(published):
    """A narrow net for images of 33 to 48 px."""
    net = IResNet("tiny", width=4, dim=8, dropout=0.5)
    state = published(net, torch_names(net), 48).state()
    return net, weights.import_torch(net, state, 48)


@pytest.mark.parametrize(
    ("variant", "parameters", "keys"),
    [
        ("18", 24_025_600, 187),
        ("34", 34_139_328, 331),
        ("50", 43_590_848, 475),
        ("100", 65_156_160, 925),
        ("200", 118_833_920, 1807),
    ],
)
def test_sizes_are_the_published_ones(published, variant, parameters, keys):
    net = IResNet(variant)
    found = published(net, torch_names(net))
    assert (found.count(), found.keys()) == (parameters, keys)
    assert found.outputs["embedding"].shape == (2, 512)
    assert found.outputs["spatial"].shape == (2, 7, 7, 512)


@pytest.mark.parametrize(
    ("file", "variant", "dim"),
    [
        ("iresnet18", "18", 512),
        ("iresnet_tiny1111_f64", "tiny", 64),
        pytest.param("iresnet50", "50", 512, marks=pytest.mark.slow),
    ],
)
def test_equals_the_published_net(oracles, published, evaluate, near, file, variant, dim):
    vectors = np.load(oracles / f"models/{file}.npz")
    net = IResNet(variant, dim=dim)
    state = published(net, torch_names(net)).state()
    got = evaluate(net, weights.import_torch(net, state, 112), vectors["in_x"])
    near(got["embedding"], vectors["out"])


def test_the_shipped_weights_are_those_of_the_rule(oracles, published):
    from safetensors.numpy import load_file

    net = IResNet("tiny", dim=64)
    state = published(net, torch_names(net)).state()
    shipped = load_file(oracles / "models/iresnet_tiny1111_f64.safetensors")
    assert len(shipped) == published(net, torch_names(net)).keys() == 115
    for key, array in state.items():
        np.testing.assert_array_equal(array, shipped[key])


@pytest.mark.slow
def test_a_training_step_equals_the_published_net(oracles, tiny, near):
    vectors = np.load(oracles / "models/iresnet_tiny_trainstep.npz")
    net, variables = tiny
    image = jnp.asarray(np.moveaxis(vectors["in_x"], 1, 3))

    @jax.jit
    def step(variables):
        def loss(params):
            outputs, changed = net.apply(
                {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
            )
            e = outputs["embedding"]
            return (e * vectors["in_cotangent"]).mean(), (e, changed["batch_stats"])

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    (loss, (e, after)), grads = step(variables)
    near(e, vectors["out"], 2e-5)
    np.testing.assert_allclose(loss, vectors["out_loss"], rtol=1e-5)
    near(grads["features"]["bias"], vectors["out_grad_features_bias"])
    near(grads["stem_prelu"]["slope"], vectors["out_grad_prelu"], 1e-4)
    near(grads["stem_conv"]["kernel"].transpose(3, 2, 0, 1), vectors["out_grad_conv1"], 1e-4)
    # A constant before a norm has no gradient.
    np.testing.assert_allclose(grads["fc"]["bias"], vectors["out_grad_fc_bias"], atol=1e-6)

    before = variables["batch_stats"]
    near(after["stem_bn"]["mean"], vectors["out_bn1_running_mean"])
    near(after["layer4_0"]["bn3"]["mean"], vectors["out_layer4_0_bn3_running_mean"])
    near(after["features"]["norm"]["mean"], vectors["out_features_running_mean"])
    # PyTorch's running variance is of n / (n - 1) times the variance that the batch is divided by.
    for new, old, n, want in (
        (after["stem_bn"], before["stem_bn"], 4 * 112 * 112, "out_bn1_running_var"),
        (after["features"]["norm"], before["features"]["norm"], 4, "out_features_running_var"),
    ):
        added = new["var"] - 0.9 * old["var"]
        near(0.9 * old["var"] + added * n / (n - 1), vectors[want])
    np.testing.assert_array_equal(after["features"]["scale"], before["features"]["scale"])


def test_the_scale_of_the_last_norm_is_no_parameter():
    _, variables = models.shapes(IResNet("tiny"), 32)
    assert set(variables["params"]["features"]) == {"bias"}
    assert variables["batch_stats"]["features"]["scale"].shape == (512,)


def test_an_example_does_not_see_the_others(tiny):
    net, variables = tiny
    image = jax.random.uniform(jax.random.key(0), (3, 112, 112, 3), minval=-1)
    run = jax.jit(lambda x: net.apply(variables, x, train=False))
    got, other = run(image), run(image.at[1].set(0.0))
    for key in ("pooled", "spatial", "embedding"):
        np.testing.assert_array_equal(got[key][::2], other[key][::2])
        assert np.abs(got[key][1] - other[key][1]).max() > 1e-3


def test_an_odd_size_rounds_maps_up_and_dropout_only_trains(small, evaluate):
    net, variables = small
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 47, 33)).astype(np.float32)
    out = evaluate(net, variables, x)
    assert out["spatial"].shape == (2, 3, 3, 32)
    np.testing.assert_allclose(out["pooled"], out["spatial"].mean((1, 2)), atol=1e-5)
    without = evaluate(net.clone(dropout=0.0), variables, x)["embedding"]
    np.testing.assert_array_equal(out["embedding"], without)
    train = jax.jit(
        lambda seed: net.apply(
            variables,
            np.moveaxis(x, 1, 3),
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(seed)},
        )[0]["embedding"]
    )
    a, b, c = (train(seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


def test_bfloat16_is_near_and_returns_float32(tiny, evaluate):
    net, variables = tiny
    half = net.clone(dtype=jnp.bfloat16)
    models.check_backbone(half, 112)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 112, 112)).astype(np.float32)
    full, got = (evaluate(n, variables, x)["embedding"] for n in (net, half))
    gap = np.abs(got - full).max() / np.abs(full).max()
    assert 0 < gap < 0.05


@pytest.mark.slow
def test_statistics_are_of_all_devices_under_pmap(small):
    net, variables = small
    alone, net = net.clone(dropout=0.0), net.clone(dropout=0.0, axis_name="d")
    image = jax.random.uniform(jax.random.key(0), (4, 47, 33, 3), minval=-1)

    def run(net, x):
        return net.apply(variables, x, train=True, mutable=["batch_stats"])

    want, after = jax.jit(lambda x: run(alone, x))(image)
    got, changed = jax.pmap(lambda x: run(net, x), axis_name="d")(image.reshape(2, 2, 47, 33, 3))
    np.testing.assert_allclose(got["embedding"].reshape(4, 8), want["embedding"], atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-4),
        changed["batch_stats"],
        after["batch_stats"],
    )


def test_wrong_names_and_blocks():
    with pytest.raises(UsageError, match="did you mean '100'"):
        models.check_backbone(models.build("iresnet", {"variant": "1000"}), 32)
    with pytest.raises(FacebenchError, match="four numbers"):
        models.check_backbone(IResNet(blocks=(1, 2, 3)), 32)
    assert models.check_backbone(IResNet(blocks=(1, 1, 1, 1), width=8), 32)["pooled"].shape[1] == 64
