"""Inception-ResNet v1 against its definition, written with sums over shifted maps in NumPy."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from facebench import models
from facebench.errors import FacebenchError
from facebench.models.inception_resnet import InceptionResNet, torch_names

SHORT = {"repeats": (1, 2, 1), "embedding": 7}


def state_of(net, size, seed=0):
    """Random entries in the published layouts: what `torch_names` says, undone."""
    rng = np.random.default_rng(seed)
    shapes = traverse_util.flatten_dict(models.shapes(net, size)[1], sep="/")
    assert shapes.keys() == torch_names(net).keys()
    state, variables = {}, {}
    for path, (key, how) in torch_names(net).items():
        ours = rng.normal(size=shapes[path].shape).astype(np.float32)
        if "kernel" in path:
            ours *= math.sqrt(2 / math.prod(ours.shape[:-1]))
        elif path.endswith(("var", "scale")):
            ours = np.exp(0.2 * ours)
        else:
            ours *= 0.1
        variables[path] = ours
        state[key] = {"conv": lambda a: a.transpose(3, 2, 0, 1), "dense": np.transpose,
                      "same": lambda a: a}[how](ours)  # fmt: skip
    return state, traverse_util.unflatten_dict(variables, sep="/")


class Reference:
    """The forward pass of images [B, 3, H, W], in float64, from a state dict's published keys."""

    def __init__(self, state):
        self.state = {key: value.astype(np.float64) for key, value in state.items()}

    def conv(self, x, name, stride=1, pad=(0, 0)):
        kernel = self.state[f"{name}.weight"]
        _, _, h, w = kernel.shape
        x = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
        rows, columns = (x.shape[2] - h) // stride + 1, (x.shape[3] - w) // stride + 1
        out = np.zeros((len(x), len(kernel), rows, columns))
        for i in range(h):
            for j in range(w):
                part = x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
                part = part[:, :, :rows, :columns]
                out += np.einsum("oi,bihw->bohw", kernel[:, :, i, j], part)
        return out

    def norm(self, x, name):
        s, shape = self.state, (1, -1) + (1,) * (x.ndim - 2)
        scale = s[f"{name}.weight"] / np.sqrt(s[f"{name}.running_var"] + 1e-3)
        shift = s[f"{name}.bias"] - s[f"{name}.running_mean"] * scale
        return x * scale.reshape(shape) + shift.reshape(shape)

    def unit(self, x, name, stride=1, pad=(0, 0)):
        x = self.norm(self.conv(x, f"{name}.conv", stride, pad), f"{name}.bn")
        return np.maximum(x, 0)

    def pool(self, x):
        rows, columns = (x.shape[2] - 3) // 2 + 1, (x.shape[3] - 3) // 2 + 1
        out = np.empty((*x.shape[:2], rows, columns))
        for y in range(rows):
            for c in range(columns):
                out[:, :, y, c] = x[:, :, 2 * y : 2 * y + 3, 2 * c : 2 * c + 3].max((2, 3))
        return out

    def block(self, x, name, scale, relu=True):
        u = self.unit
        if name.startswith("repeat_1"):
            branches = [
                u(x, f"{name}.branch0"),
                u(u(x, f"{name}.branch1.0"), f"{name}.branch1.1", pad=(1, 1)),
                u(
                    u(u(x, f"{name}.branch2.0"), f"{name}.branch2.1", pad=(1, 1)),
                    f"{name}.branch2.2",
                    pad=(1, 1),
                ),
            ]
        else:
            reach = 3 if name.startswith("repeat_2") else 1
            h = u(u(x, f"{name}.branch1.0"), f"{name}.branch1.1", pad=(0, reach))
            h = u(h, f"{name}.branch1.2", pad=(reach, 0))
            branches = [u(x, f"{name}.branch0"), h]
        h = self.conv(np.concatenate(branches, 1), f"{name}.conv2d")
        h += self.state[f"{name}.conv2d.bias"].reshape(1, -1, 1, 1)
        x = x + scale * h
        return np.maximum(x, 0) if relu else x

    def __call__(self, x, repeats):
        u = self.unit
        x = u(u(u(x, "conv2d_1a", 2), "conv2d_2a"), "conv2d_2b", pad=(1, 1))
        x = u(u(u(self.pool(x), "conv2d_3b"), "conv2d_4a"), "conv2d_4b", 2)
        for i in range(repeats[0]):
            x = self.block(x, f"repeat_1.{i}", 0.17)
        h = u(u(x, "mixed_6a.branch1.0"), "mixed_6a.branch1.1", pad=(1, 1))
        h = u(h, "mixed_6a.branch1.2", 2)
        x = np.concatenate([u(x, "mixed_6a.branch0", 2), h, self.pool(x)], 1)
        for i in range(repeats[1]):
            x = self.block(x, f"repeat_2.{i}", 0.10)
        parts = [u(u(x, f"mixed_7a.branch{i}.0"), f"mixed_7a.branch{i}.1", 2) for i in (0, 1)]
        h = u(u(x, "mixed_7a.branch2.0"), "mixed_7a.branch2.1", pad=(1, 1))
        x = np.concatenate([*parts, u(h, "mixed_7a.branch2.2", 2), self.pool(x)], 1)
        for i in range(repeats[2]):
            x = self.block(x, f"repeat_3.{i}", 0.20)
        x = self.block(x, "block8", 1.0, relu=False)
        h = x.mean((2, 3)) @ self.state["last_linear.weight"].T
        return x, self.norm(h, "last_bn")


@pytest.mark.slow
def test_equals_the_definition():
    side, net = 112, InceptionResNet(**SHORT)
    state, variables = state_of(net, side)
    image = np.random.default_rng(1).uniform(-1, 1, (2, 3, side, side))
    spatial, embedding = Reference(state)(image, net.repeats)
    got = jax.jit(lambda v, x: net.apply(v, x, train=False))(
        variables, jnp.asarray(image.transpose(0, 2, 3, 1))
    )
    np.testing.assert_allclose(
        got["spatial"], spatial.transpose(0, 2, 3, 1), atol=1e-5 * np.abs(spatial).max()
    )
    np.testing.assert_allclose(got["pooled"], got["spatial"].mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(got["embedding"], embedding, atol=1e-5 * np.abs(embedding).max())
    assert np.abs(np.linalg.norm(got["embedding"], axis=1) - 1).min() > 0.1  # not of unit length


def test_numbers_of_the_published_net():
    """23,482,624 parameters and 714 entries, without a classifier."""
    net = InceptionResNet()
    outputs, variables = models.shapes(net, 160)
    assert models.parameter_count(variables["params"]) == 23_482_624
    names = torch_names(net)
    assert names.keys() == traverse_util.flatten_dict(variables, sep="/").keys()
    keys = [key for key, _ in names.values()]
    assert len(set(keys)) + sum(key.endswith("running_mean") for key in keys) == 714
    assert {k: v.shape for k, v in outputs.items()} == {
        "pooled": (2, 1792), "spatial": (2, 3, 3, 1792), "embedding": (2, 512),
    }  # fmt: skip


@pytest.mark.parametrize(("size", "side"), [(75, 1), (112, 2), (160, 3), (299, 8)])
def test_the_map_of_every_size(size, side):
    outputs = models.check_backbone(InceptionResNet(repeats=(0, 0, 0)), size)
    assert outputs["spatial"].shape == (2, side, side, 1792)


def test_images_that_are_too_small():
    with pytest.raises(FacebenchError, match="74 x 74 px is too small"):
        models.check_backbone(InceptionResNet(), 74)


@pytest.mark.slow
def test_training_uses_batch_statistics_and_dropout():
    net = InceptionResNet(repeats=(0, 0, 0), embedding=4)
    _, variables = state_of(net, 75)
    image = jax.random.uniform(jax.random.key(0), (4, 75, 75, 3), minval=-1)

    @jax.jit
    def run(key):
        return net.apply(
            variables, image, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )

    (first, stats), (second, _) = run(jax.random.key(0)), run(jax.random.key(1))
    np.testing.assert_array_equal(first["pooled"], second["pooled"])
    assert np.abs(first["embedding"] - second["embedding"]).max() > 1e-2
    before = variables["batch_stats"]["conv2d_1a"]["bn"]["mean"]
    raw = jax.lax.conv_general_dilated(
        image, variables["params"]["conv2d_1a"]["conv"]["kernel"], (2, 2), "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    want = 0.995 * before + 0.005 * raw.mean((0, 1, 2))
    after = stats["batch_stats"]["conv2d_1a"]["bn"]["mean"]
    np.testing.assert_allclose(after, want, atol=1e-6)


def test_without_an_embedding_in_bfloat16():
    net = InceptionResNet(embedding=0, dtype=jnp.bfloat16)
    outputs = models.check_backbone(net, 96)
    assert set(outputs) == {"pooled", "spatial"}
    _, variables = models.shapes(net, 96)
    assert torch_names(net).keys() == traverse_util.flatten_dict(variables, sep="/").keys()
