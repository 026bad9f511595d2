"""The transformer against timm's, and against what each option means."""

from __future__ import annotations

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models
from facebench.errors import FacebenchError, UsageError
from facebench.models.vit import ViT, _Block, sincos2d

TIMM_TINY = {
    "patch": 16, "dim": 48, "depth": 2, "heads": 3, "pool": "class", "position": "learned",
}  # fmt: skip


def initialise(net, image):
    return jax.jit(lambda k, x: net.init(k, x, train=False))(jax.random.key(1), image)


def evaluate(net, variables, image):
    return jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, image)


def read_safetensors(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    data = raw[8 + length :]
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32"
            start, end = entry["data_offsets"]
            arrays[name] = np.frombuffer(data[start:end], "<f4").reshape(entry["shape"])
    return arrays


def from_timm(weights, depth):
    """timm's names and layouts to ours: torch has (out, in) and OIHW, images there are NCHW."""

    def linear(name):
        return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}

    def norm(name):
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    patch = weights["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
    params = {
        "embed": {
            "kernel": patch.reshape(-1, patch.shape[-1]),
            "bias": weights["patch_embed.proj.bias"],
        },
        "class_token": weights["cls_token"],
        "position": weights["pos_embed"],
        "norm": norm("norm"),
    }
    for i in range(depth):
        params[f"block{i + 1}"] = {
            "norm1": norm(f"blocks.{i}.norm1"),
            "qkv": linear(f"blocks.{i}.attn.qkv"),
            "proj": linear(f"blocks.{i}.attn.proj"),
            "norm2": norm(f"blocks.{i}.norm2"),
            "fc1": linear(f"blocks.{i}.mlp.fc1"),
            "fc2": linear(f"blocks.{i}.mlp.fc2"),
        }
    return params


@pytest.fixture(scope="module")
def timm(oracles):
    vectors = np.load(oracles / "models/timm_vit_tiny64.npz")
    weights = read_safetensors(oracles / "models/timm_vit_tiny64.safetensors")
    return vectors, weights, from_timm(weights, 2)


def test_equals_timm(timm):
    vectors, weights, params = timm
    net = ViT(**TIMM_TINY)
    _, variables = models.shapes(net, 64)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, variables["params"])
    image = jnp.asarray(vectors["in_x"].transpose(0, 2, 3, 1))
    got = evaluate(net, {"params": params}, image)
    tokens = vectors["out_tokens"]
    np.testing.assert_allclose(got["pooled"], tokens[:, 0], atol=1e-5)
    np.testing.assert_allclose(got["spatial"].reshape(2, 16, 48), tokens[:, 1:], atol=1e-5)
    logits = got["pooled"] @ weights["head.weight"].T + weights["head.bias"]
    np.testing.assert_allclose(logits, vectors["out"], atol=1e-5)


def test_bfloat16_is_near_and_returns_float32(timm):
    vectors, _, params = timm
    net = ViT(**TIMM_TINY, dtype=jnp.bfloat16)
    models.check_backbone(net, 64)
    image = jnp.asarray(vectors["in_x"].transpose(0, 2, 3, 1))
    got = evaluate(net, {"params": params}, image)["pooled"]
    gap = np.abs(got - vectors["out_tokens"][:, 0]).max()
    assert 0 < gap < 0.1


def test_sincos_equals_the_mae_code(oracles):
    vectors = np.load(oracles / "models/sincos_pos_embed.npz")
    np.testing.assert_allclose(sincos2d(4, 4, 48), vectors["out_48_4"], atol=1e-12)
    np.testing.assert_allclose(sincos2d(14, 14, 384), vectors["out_384_14_cls"][1:], atol=1e-12)
    assert not vectors["out_384_14_cls"][0].any()


def test_sincos_on_a_grid_that_is_not_square():
    e = sincos2d(2, 3, 8).reshape(2, 3, 8)
    np.testing.assert_array_equal(e[0, :, :4], e[1, :, :4])  # x only
    np.testing.assert_array_equal(e[:, 0, 4:], e[:, 2, 4:])  # y only
    np.testing.assert_allclose(e[1, 2, :4], np.r_[np.sin([2, 0.02]), np.cos([2, 0.02])])
    with pytest.raises(FacebenchError, match="multiple of 4"):
        sincos2d(2, 2, 6)


@pytest.mark.parametrize(
    ("kwargs", "size", "position"),
    [
        ({}, 64, 64 * 64),
        ({"pool": "class"}, 64, 65 * 64 + 64),
        ({"position": "sincos2d"}, 64, 0),
        ({"pool": "class", "position": "sincos2d"}, 64, 64),
        ({"patch": 16, "dim": 192, "depth": 12, "heads": 3}, 112, 49 * 192),
    ],
)
def test_shapes_and_number_of_parameters(kwargs, size, position):
    net = ViT(**kwargs)
    outputs, variables = models.shapes(net, size)
    D, side = net.dim, size // net.patch
    assert outputs["pooled"].shape == (2, D)
    assert outputs["spatial"].shape == (2, side, side, D)
    block = 4 * D + (D + 1) * 3 * D + (D + 1) * D + (D + 1) * 4 * D + (4 * D + 1) * D
    embed = (3 * net.patch**2 + 1) * D
    expected = embed + position + net.depth * block + 2 * D
    assert models.parameter_count(variables["params"]) == expected


@pytest.mark.parametrize("position", ["learned", "sincos2d"])
def test_mean_pool_is_the_mean_of_the_map_and_examples_are_independent(position):
    net = ViT(patch=4, dim=8, depth=1, heads=2, position=position)
    image = jax.random.uniform(jax.random.key(0), (3, 8, 12, 3), minval=-1)
    variables = initialise(net, image)
    out = evaluate(net, variables, image)
    assert out["spatial"].shape == (3, 2, 3, 8)
    np.testing.assert_allclose(out["pooled"], out["spatial"].mean((1, 2)), atol=1e-6)
    other = evaluate(net, variables, image.at[1].set(9.0))
    for key in out:
        np.testing.assert_array_equal(out[key][::2], other[key][::2])
        assert np.abs(out[key][1] - other[key][1]).max() > 1e-3


def test_position_tells_equal_patches_apart():
    net = ViT(patch=4, dim=8, depth=1, heads=2, position="sincos2d")
    image = jnp.full((1, 8, 8, 3), 0.3)
    variables = initialise(net, image)
    patches = evaluate(net, variables, image)["spatial"].reshape(4, 8)
    gaps = np.linalg.norm(patches[:, None] - patches, axis=-1)
    assert gaps[np.triu_indices(4, 1)].min() > 1e-2


def test_drop_path_drops_whole_branches_and_keeps_the_mean():
    x = jax.random.normal(jax.random.key(0), (64, 3, 8))
    full = _Block(2, 2.0, 0.0, 0.0, jnp.float32)
    variables = initialise(full, x)
    variables["params"]["fc2"]["kernel"] *= 0.0  # the attention branch alone
    branch = evaluate(full, variables, x) - x
    dropping = _Block(2, 2.0, 0.0, 0.25, jnp.float32)
    rngs = {"dropout": jax.random.key(2)}
    got = jax.jit(lambda v, x: dropping.apply(v, x, train=True, rngs=rngs) - x)(variables, x)
    kept = np.abs(got).max((1, 2)) > 0
    assert 36 <= kept.sum() <= 60  # binomial(64, 3/4): 48 +- 3.5
    np.testing.assert_allclose(got[kept], branch[kept] / 0.75, atol=1e-5)
    np.testing.assert_array_equal(evaluate(dropping, variables, x) - x, branch)


def test_bad_sizes_and_names():
    with pytest.raises(FacebenchError, match="whole patches of 8"):
        models.check_backbone(ViT(), 60)
    with pytest.raises(FacebenchError, match="multiple of heads"):
        models.check_backbone(ViT(heads=5), 64)
    with pytest.raises(UsageError, match="did you mean 'class'"):
        models.check_backbone(ViT(pool="clas"), 64)
    with pytest.raises(UsageError, match="did you mean 'sincos2d'"):
        models.check_backbone(ViT(position="sincos"), 64)
