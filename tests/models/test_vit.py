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
from facebench.models import weights
from facebench.models.vit import ViT, _Block, sincos2d, torch_names

TIMM_TINY = {
    "patch": 16, "dim": 48, "depth": 2, "heads": 3, "pool": "class", "position": "learned",
}  # fmt: skip


def initialise(net, image):
    return jax.jit(lambda k, x: net.init(k, x, train=False))(jax.random.key(1), image)


def run_eval(net, variables, image):
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
    got = run_eval(net, {"params": params}, image)
    tokens = vectors["out_tokens"]
    np.testing.assert_allclose(got["pooled"], tokens[:, 0], atol=1e-5)
    np.testing.assert_allclose(got["spatial"].reshape(2, 16, 48), tokens[:, 1:], atol=1e-5)
    logits = got["pooled"] @ weights["head.weight"].T + weights["head.bias"]
    np.testing.assert_allclose(logits, vectors["out"], atol=1e-5)


def test_the_table_of_names_reads_timm(timm):
    _, state, params = timm
    got = weights.import_torch(ViT(**TIMM_TINY), state, 64, ignore=("head.*",))
    assert set(got) == {"params"}
    jax.tree.map(np.testing.assert_array_equal, got["params"], params)


@pytest.mark.slow
def test_equals_timm_at_its_real_size(oracles, published, evaluate, near):
    vectors = np.load(oracles / "models/timm_vit_small_patch16_224.npz")
    net = ViT(patch=16, dim=384, depth=12, heads=6, pool="class")
    found = published(net, torch_names(net), 224)
    assert (found.count(), found.keys()) == (21_665_664, 150)
    got = evaluate(net, weights.import_torch(net, found.state(), 224), vectors["in_x"])
    near(got["pooled"], vectors["out"])


def test_norm_of_the_mean_equals_a_fine_tuned_masked_autoencoder(oracles, evaluate, near):
    vectors = np.load(oracles / "models/fmae_vit_tiny_gap.npz")
    state = read_safetensors(oracles / "models/fmae_vit_tiny_gap.safetensors")
    net = ViT(**TIMM_TINY | {"pool": "fc_norm"})
    variables = weights.import_torch(net, state, 64, ignore=("head.*",))
    got = evaluate(net, variables, vectors["in_x"])
    near(got["pooled"], vectors["out_pooled"])
    assert got["spatial"].shape == (2, 4, 4, 48)
    near(got["pooled"] @ state["head.weight"].T + state["head.bias"], vectors["out"])


def test_reads_a_masked_autoencoder(oracles, near):
    """Its encoder sees the kept patches alone, so the imported parts are put together here."""
    vectors = np.load(oracles / "models/mae_tiny64_np0.npz")
    state = read_safetensors(oracles / "models/mae_tiny64_np0.safetensors")
    decoder = ("decoder_*", "mask_token")
    net = ViT(**TIMM_TINY)
    params = weights.import_torch(net, state, 64, ignore=decoder)["params"]
    fixed = ViT(**TIMM_TINY | {"position": "sincos2d"})
    again = weights.import_torch(fixed, state, 64, ignore=(*decoder, "pos_embed"))["params"]
    near(params.pop("position")[0, 1:], sincos2d(4, 4, 48))
    jax.tree.map(np.testing.assert_array_equal, params, again)

    image = np.moveaxis(vectors["in_x"], 1, 3).reshape(2, 4, 16, 4, 16, 3)
    tokens = image.transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 768) @ params["embed"]["kernel"]
    tokens = tokens + params["embed"]["bias"] + sincos2d(4, 4, 48)
    kept = np.argsort(vectors["in_noise"], axis=1)[:, :4]
    first = np.broadcast_to(params["class_token"], (2, 1, 48))
    x = np.concatenate([first, np.take_along_axis(tokens, kept[..., None], axis=1)], axis=1)
    x = jnp.asarray(x, jnp.float32)
    for i in range(2):
        block = _Block(3, 4.0, 0.0, 0.0, jnp.float32)
        x = block.apply({"params": params[f"block{i + 1}"]}, x, train=False)
    x = np.asarray(x)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    near(x * params["norm"]["scale"] + params["norm"]["bias"], vectors["out_latent"])


def test_bfloat16_is_near_and_returns_float32(timm):
    vectors, _, params = timm
    net = ViT(**TIMM_TINY, dtype=jnp.bfloat16)
    models.check_backbone(net, 64)
    image = jnp.asarray(vectors["in_x"].transpose(0, 2, 3, 1))
    got = run_eval(net, {"params": params}, image)["pooled"]
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
    out = run_eval(net, variables, image)
    assert out["spatial"].shape == (3, 2, 3, 8)
    np.testing.assert_allclose(out["pooled"], out["spatial"].mean((1, 2)), atol=1e-6)
    other = run_eval(net, variables, image.at[1].set(9.0))
    for key in out:
        np.testing.assert_array_equal(out[key][::2], other[key][::2])
        assert np.abs(out[key][1] - other[key][1]).max() > 1e-3


def test_position_tells_equal_patches_apart():
    net = ViT(patch=4, dim=8, depth=1, heads=2, position="sincos2d")
    image = jnp.full((1, 8, 8, 3), 0.3)
    variables = initialise(net, image)
    patches = run_eval(net, variables, image)["spatial"].reshape(4, 8)
    gaps = np.linalg.norm(patches[:, None] - patches, axis=-1)
    assert gaps[np.triu_indices(4, 1)].min() > 1e-2


def test_drop_path_drops_whole_branches_and_keeps_the_mean():
    x = jax.random.normal(jax.random.key(0), (64, 3, 8))
    full = _Block(2, 2.0, 0.0, 0.0, jnp.float32)
    variables = initialise(full, x)
    variables["params"]["fc2"]["kernel"] *= 0.0  # the attention branch alone
    branch = run_eval(full, variables, x) - x
    dropping = _Block(2, 2.0, 0.0, 0.25, jnp.float32)
    rngs = {"dropout": jax.random.key(2)}
    got = jax.jit(lambda v, x: dropping.apply(v, x, train=True, rngs=rngs) - x)(variables, x)
    kept = np.abs(got).max((1, 2)) > 0
    assert 36 <= kept.sum() <= 60  # binomial(64, 3/4): 48 +- 3.5
    np.testing.assert_allclose(got[kept], branch[kept] / 0.75, atol=1e-5)
    np.testing.assert_array_equal(run_eval(dropping, variables, x) - x, branch)


def test_bad_sizes_and_names():
    with pytest.raises(FacebenchError, match="whole patches of 8"):
        models.check_backbone(ViT(), 60)
    with pytest.raises(FacebenchError, match="multiple of heads"):
        models.check_backbone(ViT(heads=5), 64)
    with pytest.raises(UsageError, match="did you mean 'class'"):
        models.check_backbone(ViT(pool="clas"), 64)
    with pytest.raises(UsageError, match="did you mean 'sincos2d'"):
        models.check_backbone(ViT(position="sincos"), 64)
