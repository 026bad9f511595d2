"""IR and IR-SE: published sizes, and their two dialects against a net that is proven elsewhere."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models
from facebench.errors import UsageError
from facebench.models import ir, iresnet, layers, weights
from facebench.models.ir import IR, torch_names


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({"variant": "18"}, 24_020_352),
        ({"variant": "34"}, 34_134_080),
        ({"variant": "50"}, 43_585_600),
        ({"variant": "101"}, 65_150_912),
        ({"variant": "50", "se": True}, 43_808_320),
        ({"variant": "50", "dialect": "evolve"}, 43_574_976),
        ({"variant": "101", "dialect": "evolve"}, 65_129_792),
        ({"variant": "50", "dialect": "evolve", "se": True}, 43_797_696),
        ({"variant": "101", "dialect": "evolve", "se": True}, 65_502_016),
    ],
)
def test_sizes_are_the_published_ones(published, fields, parameters):
    net = IR(**fields)
    found = published(net, torch_names(net))
    assert found.keys()  # the table names each variable once
    assert found.count() == parameters


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({"se": True}, ["res_layer.3.weight", "res_layer.5.running_var", "res_layer.se_block.fc1"]),
        ({"se": True, "dialect": "evolve"}, ["res_layer.2.weight", "res_layer.5.fc2.weight"]),
        ({}, ["shortcut_layer.0.weight", "shortcut_layer.1.running_mean"]),
    ],
)
def test_keys_of_the_dialects(fields, keys):
    found = " ".join(key for key, _ in torch_names(IR(**fields)).values())
    for key in keys:
        assert f"body.2.{key}" in found
    assert ("output_layer.4.weight" in found) == (fields.get("dialect") == "evolve")
    assert "body.0.shortcut_layer" not in found


BN_IDENTITY = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1 - 1e-5}


def set_norm(state, key, width):
    for leaf, value in BN_IDENTITY.items():
        state[f"{key}.{leaf}"] = np.full(width, value, np.float32)


@pytest.fixture(scope="module")
def twins(published):
    """An iResNet whose first shortcut does nothing but skip pixels, and the same net in IR's keys.

    Its norms between the convolutions do nothing either where `dialect` has none there.
    """

    def make(dialect):
        net = iresnet.IResNet("tiny", width=16, dim=32)
        state = published(net, iresnet.torch_names(net), 48).state()
        state["layer1.0.downsample.0.weight"] = np.eye(16, dtype=np.float32)[..., None, None]
        set_norm(state, "layer1.0.downsample.1", 16)
        if dialect == "adaface":
            for leaf in ("weight", "bias"):
                state[f"features.{leaf}"] = np.full(32, BN_IDENTITY[leaf], np.float32)
        else:
            for stage in range(4):
                set_norm(state, f"layer{stage + 1}.0.bn2", 16 * 2**stage)
        stem = {"conv1": "0", "bn1": "1", "prelu": "2"}
        parts = ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")
        if dialect == "evolve":
            parts = tuple(p for p in parts if p != "bn2")
        tail = {"bn2": "0", "fc": "3", "features": "4"}
        renamed = {}
        for key, value in state.items():
            first, rest = key.split(".", 1)
            if first in stem:
                renamed[f"input_layer.{stem[first]}.{rest}"] = value
            elif first in tail:
                renamed[f"output_layer.{tail[first]}.{rest}"] = value
            else:
                body = f"body.{int(first[-1]) - 1}"
                _, part, rest = rest.split(".", 2)
                if part in parts:
                    renamed[f"{body}.res_layer.{parts.index(part)}.{rest}"] = value
                elif part == "downsample" and body != "body.0":
                    renamed[f"{body}.shortcut_layer.{rest}"] = value
        if dialect == "adaface":
            renamed = {k: v for k, v in renamed.items() if not k.startswith("output_layer.4.w")}
            renamed.pop("output_layer.4.bias")
        return net, weights.import_torch(net, state, 48), renamed

    return make


@pytest.mark.parametrize("dialect", ir.DIALECTS)
def test_each_dialect_equals_the_iresnet_that_it_is_a_case_of(twins, evaluate, near, dialect):
    twin, variables, renamed = twins(dialect)
    net = IR("tiny", dialect, width=16, dim=32)
    x = np.random.default_rng(0).normal(size=(2, 3, 48, 48)).astype(np.float32)
    want = evaluate(twin, variables, x)
    got = evaluate(net, weights.import_torch(net, renamed, 48), x)
    for key in ("spatial", "embedding"):
        near(got[key], want[key], 2e-5)


def test_channels_can_be_turned_round(twins, evaluate):
    _, _, renamed = twins("adaface")
    net = IR("tiny", width=16, dim=32)
    variables = weights.import_torch(net, renamed, 48)
    x = np.random.default_rng(0).normal(size=(2, 3, 48, 48)).astype(np.float32)
    want = evaluate(net, variables, x[:, ::-1])["embedding"]
    got = evaluate(net.clone(channels="bgr"), variables, x)["embedding"]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert np.abs(got - evaluate(net, variables, x)["embedding"]).max() > 1e-2


def test_squeeze_and_excitation_gates_each_channel():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 5, 32))
    w1, w2 = rng.normal(size=(32, 2)), rng.normal(size=(2, 32))
    params = {"fc1": {"kernel": jnp.asarray(w1)}, "fc2": {"kernel": jnp.asarray(w2)}}
    got = ir._SqueezeExcite(layers.he_fan_out, jnp.float32).apply(
        {"params": params}, jnp.asarray(x)
    )
    for b in range(2):
        hidden = np.maximum(x[b].mean((0, 1)) @ w1, 0)
        np.testing.assert_allclose(got[b], x[b] / (1 + np.exp(-hidden @ w2)), rtol=1e-5, atol=1e-5)


def test_the_gate_is_in_the_net(published, evaluate):
    net = IR("tiny", se=True, width=16, dim=8)
    state = published(net, torch_names(net), 32).state()
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    got = evaluate(net, weights.import_torch(net, state, 32), x)["embedding"]
    # A gate whose fc2 is zero is one half: as if the norm before it were halved, in a net without.
    halved = {k: v for k, v in state.items() if "se_block" not in k}
    for i in range(4):
        for leaf in ("weight", "bias"):
            halved[f"body.{i}.res_layer.5.{leaf}"] = state[f"body.{i}.res_layer.5.{leaf}"] / 2
    plain = net.clone(se=False)
    want = evaluate(plain, weights.import_torch(plain, halved, 32), x)["embedding"]
    state |= {k: 0 * v for k, v in state.items() if k.endswith("fc2.weight")}
    half = evaluate(net, weights.import_torch(net, state, 32), x)["embedding"]
    np.testing.assert_allclose(half, want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert np.abs(got - want).max() > 1e-3 * np.abs(want).max()


def test_bfloat16_returns_float32_and_wrong_names():
    models.check_backbone(IR("tiny", se=True, width=16, dtype=jnp.bfloat16), 32)
    with pytest.raises(UsageError, match="did you mean 'adaface'"):
        models.check_backbone(IR(dialect="adafase"), 32)
    with pytest.raises(UsageError, match="did you mean 'bgr'"):
        models.check_backbone(IR(channels="bgrr"), 32)
    with pytest.raises(UsageError, match="did you mean '101'"):
        models.check_backbone(IR("1011"), 32)
