"""The residual network against a NumPy forward pass written from the paper's picture."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models
from facebench.errors import FacebenchError
from facebench.models.convnet import ConvNet

TINY = {"widths": (2, 3), "blocks": (1, 2)}


@pytest.fixture(scope="module")
def tiny():
    """A tiny network with every variable random, and five images of an odd side."""
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(-1, 1, (6, 7, 7, 3)), jnp.float32)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        value = np.exp(0.2 * noise) if "var" in jax.tree_util.keystr(path) else 0.4 * noise
        return jnp.asarray(value, jnp.float32)

    _, shapes = models.shapes(ConvNet(**TINY), 7)
    return jax.tree_util.tree_map_with_path(draw, shapes), image


def convolve(x, kernel, stride):
    """Output i is centred on input i * stride; zeros outside."""
    B, H, W, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((B, -(-H // stride), -(-W // stride), kernel.shape[-1]))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            window = padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            out[:, i, j] = np.einsum("bijc,ijcd->bd", window, kernel)
    return out


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(net, variables, image, train, seed=0):
    """(outputs, updated collections)."""
    rngs = {"dropout": jax.random.key(seed)}
    return net.apply(variables, image, train=train, rngs=rngs, mutable=["batch_stats"])


class Reference:
    """The forward pass in float64; `batch` collects each batch norm's statistics."""

    def __init__(self, variables, train):
        variables = jax.tree.map(lambda a: np.asarray(a, np.float64), variables)
        self.params, self.stats, self.train = variables["params"], variables["batch_stats"], train
        self.batch = {}

    def act(self, x, *path):
        p, s = self.params, self.stats
        for key in (*path, "norm"):
            p, s = p[key], s[key]
        mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if self.train else (s["mean"], s["var"])
        self.batch[path] = (s, mean, var)
        return np.maximum((x - mean) / np.sqrt(var + 1e-5) * p["scale"] + p["bias"], 0)

    def block(self, x, name, stride):
        p = self.params[name]
        h = self.act(x, name, "act1")
        y = h[:, ::stride, ::stride] @ p["shortcut"]["kernel"] if "shortcut" in p else x
        h = self.act(convolve(h, p["conv1"]["kernel"], stride), name, "act2")
        return y + convolve(h, p["conv2"]["kernel"], 1)

    def __call__(self, image):
        x = convolve(np.asarray(image, np.float64), self.params["stem"]["kernel"], 2)
        x = self.block(x, "stage1_block1", 1)
        x = self.block(x, "stage2_block1", 2)
        x = self.block(x, "stage2_block2", 1)
        return self.act(x, "act")


@pytest.mark.parametrize("train", [False, True])
def test_forward_and_statistics_equal_numpy(tiny, train):
    variables, image = tiny
    got, updated = run(ConvNet(**TINY), variables, image, train)
    reference = Reference(variables, train)
    want = reference(image)
    assert got["spatial"].shape == (6, 2, 2, 3)
    np.testing.assert_allclose(got["spatial"], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["pooled"], want.mean((1, 2)), rtol=1e-4, atol=1e-5)
    for path, (old, mean, var) in reference.batch.items():
        new = updated["batch_stats"]
        for key in (*path, "norm"):
            new = new[key]
        if train:
            old = {"mean": 0.9 * old["mean"] + 0.1 * mean, "var": 0.9 * old["var"] + 0.1 * var}
        np.testing.assert_allclose(new["mean"], old["mean"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(new["var"], old["var"], rtol=1e-4, atol=1e-5)


def test_axis_name_makes_the_statistics_those_of_the_whole_batch(tiny):
    variables, image = tiny

    whole, stats = run(ConvNet(**TINY), variables, image, True)
    net = ConvNet(**TINY, axis_name="data")
    shards = image.reshape(3, 2, *image.shape[1:])
    split, split_stats = jax.jit(
        jax.vmap(
            lambda x: net.apply(variables, x, train=True, mutable=["batch_stats"]),
            axis_name="data",
        )
    )(shards)
    np.testing.assert_allclose(
        split["pooled"].reshape(whole["pooled"].shape), whole["pooled"], rtol=1e-4, atol=1e-5
    )
    for a, b in zip(jax.tree.leaves(split_stats), jax.tree.leaves(stats)):
        for shard in a:
            np.testing.assert_allclose(shard, b, rtol=1e-4, atol=1e-6)


def test_an_example_in_eval_mode_does_not_see_the_others(tiny):
    variables, image = tiny
    before = run(ConvNet(**TINY), variables, image, False)[0]
    after = run(ConvNet(**TINY), variables, image.at[3].set(100.0), False)[0]
    others = np.array([0, 1, 2, 4, 5])
    for key in before:
        np.testing.assert_array_equal(before[key][others], after[key][others])
        assert np.abs(before[key][3] - after[key][3]).max() > 0.1


@pytest.mark.parametrize(
    ("size", "kwargs", "side"),
    [
        (64, {}, 4),
        (112, {}, 7),
        (50, {}, 4),
        (64, {"stem_stride": 1}, 8),
        (64, {"blocks": (0, 1, 1, 1)}, 4),
        (32, {"widths": (8,), "blocks": (2,)}, 16),
    ],
)
def test_shapes_and_number_of_parameters(size, kwargs, side):
    net = ConvNet(**kwargs)
    outputs, variables = models.shapes(net, size)
    D = net.widths[-1]
    assert outputs["spatial"].shape == (2, side, side, D)
    assert outputs["pooled"].shape == (2, D)
    expected, width_in = 27 * net.widths[0] + 2 * D, net.widths[0]
    for stage, (width, count) in enumerate(zip(net.widths, net.blocks)):
        for block in range(count):
            expected += 2 * width_in + 9 * width_in * width + 2 * width + 9 * width * width
            if width_in != width or (stage > 0 and block == 0):
                expected += width_in * width
            width_in = width
    assert models.parameter_count(variables["params"]) == expected


def test_the_default_size_is_what_the_readme_can_promise():
    _, variables = models.shapes(ConvNet(), 64)
    assert models.parameter_count(variables["params"]) == 307_088


def test_bfloat16_keeps_parameters_and_outputs_float32(tiny):
    variables, image = tiny
    net = ConvNet(**TINY, dtype=jnp.bfloat16)
    models.check_backbone(net, 16)
    half = run(net, variables, image, False)[0]["spatial"]
    full = run(ConvNet(**TINY), variables, image, False)[0]["spatial"]
    gap = np.abs(half - full).max()
    assert 0 < gap < 0.05 * np.abs(full).max()


def test_dropout_is_on_while_training_only(tiny):
    variables, image = tiny
    net = ConvNet(**TINY, dropout=0.5)

    def spatial(seed, train):
        return np.asarray(run(net, variables, image, train, seed)[0]["spatial"])

    np.testing.assert_array_equal(spatial(0, False), spatial(1, False))
    dropped = spatial(0, True)
    assert np.abs(dropped - spatial(1, True)).max() > 0
    plain = np.asarray(run(ConvNet(**TINY), variables, image, True)[0]["spatial"])
    kept = dropped != 0
    assert 0.2 < kept.sum() / (plain != 0).sum() < 0.8
    np.testing.assert_allclose(dropped[kept], 2 * plain[kept], rtol=1e-5)


def test_stages_must_match():
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    for kwargs in ({"widths": (4, 8), "blocks": (1,)}, {"widths": (4, 8), "blocks": (1, 0)}):
        net = ConvNet(**kwargs)
        with pytest.raises(FacebenchError, match="stage"):
            jax.eval_shape(
                lambda k, x, net=net: net.init(k, x, train=False), jax.random.key(0), image
            )
