"""The Swin transformer against its definition, written token by token in NumPy."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from facebench import models
from facebench.errors import FacebenchError
from facebench.models.swin import (
    Swin,
    from_windows,
    relative_index,
    shift_mask,
    torch_names,
    windows,
)

TINY = {"patch": 2, "dim": 6, "depths": (2, 2), "heads": (2, 3), "window": 4, "embedding": 5}
ERF = np.vectorize(math.erf)


def state_of(net, size, seed=0):
    """Random entries in the published layouts: what `torch_names` says, undone."""
    rng = np.random.default_rng(seed)
    shapes = traverse_util.flatten_dict(models.shapes(net, size)[1], sep="/")
    assert shapes.keys() == torch_names(net).keys()
    state, variables = {}, {}
    for path, (key, how) in torch_names(net).items():
        ours = rng.normal(size=shapes[path].shape).astype(np.float32)
        if "kernel" in path:
            ours /= math.sqrt(len(ours))
        elif path.endswith(("var", "scale")):
            ours = np.exp(0.3 * ours)
        variables[path] = ours
        if how == "dense":
            state[key] = ours.T
        elif how == ("patch", net.patch):
            p = net.patch
            state[key] = ours.reshape(p, p, 3, -1).transpose(3, 2, 0, 1)
        else:
            assert how == "same"
            state[key] = ours
    state = {key: value.astype(np.float64) for key, value in state.items()}
    return state, traverse_util.unflatten_dict(variables, sep="/")


def layer_norm(x, state, name, eps=1e-5):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)


def attend(x, state, name, heads, side, shift):
    """Every token looks at those it shares a window with, one pair at a time.

    A window of a shifted block is cut where the map ends: its tokens see each other only on one
    side of the cut.
    """
    H, W, C = x.shape
    d = C // heads
    q, k, v = (t.reshape(H, W, heads, d) for t in np.split(linear(x, state, f"{name}.qkv"), 3, -1))
    table = state[f"{name}.relative_position_bias_table"]

    def cell(place, length):
        """(window, whether behind the end of the map), for a row or a column."""
        moved = (place - shift) % length
        return moved // side, moved // side == length // side - 1 and place < shift

    out = np.zeros((H, W, heads, d))
    for y in range(H):
        for x_ in range(W):
            here = (cell(y, H), cell(x_, W))
            seen = [(r, c) for r in range(H) for c in range(W) if (cell(r, H), cell(c, W)) == here]
            for h in range(heads):
                logits = []
                for r, c in seen:
                    # Places inside the window, so that both sides of a cut count as neighbours.
                    dy = (y - shift) % H - (r - shift) % H
                    dx = (x_ - shift) % W - (c - shift) % W
                    bias = table[(dy + side - 1) * (2 * side - 1) + dx + side - 1, h]
                    logits.append(q[y, x_, h] @ k[r, c, h] / math.sqrt(d) + bias)
                weights = np.exp(np.array(logits) - max(logits))
                weights /= weights.sum()
                out[y, x_, h] = sum(w * v[r, c, h] for w, (r, c) in zip(weights, seen))
    return linear(out.reshape(H, W, C), state, f"{name}.proj")


def reference(net, state, image):
    """The forward pass of one image [H, W, 3], in float64."""
    p = net.patch
    H, W = image.shape[0] // p, image.shape[1] // p
    x = np.zeros((H, W, net.dim))
    kernel, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    for y in range(H):
        for c in range(W):
            patch = image[y * p : y * p + p, c * p : c * p + p]
            x[y, c] = np.einsum("oiyx,yxi->o", kernel, patch) + bias
    x = layer_norm(x, state, "patch_embed.norm")
    for stage, (depth, heads) in enumerate(zip(net.depths, net.heads)):
        for i in range(depth):
            name = f"layers.{stage}.blocks.{i}"
            side = min(net.window, *x.shape[:2])
            shift = side // 2 if i % 2 and min(x.shape[:2]) > net.window else 0
            x = x + attend(
                layer_norm(x, state, f"{name}.norm1"), state, f"{name}.attn", heads, side, shift
            )
            h = linear(layer_norm(x, state, f"{name}.norm2"), state, f"{name}.mlp.fc1")
            h = 0.5 * h * (1 + ERF(h / math.sqrt(2)))
            x = x + linear(h, state, f"{name}.mlp.fc2")
        if stage + 1 < len(net.depths):
            merged = np.zeros((x.shape[0] // 2, x.shape[1] // 2, 4 * x.shape[2]))
            for y in range(merged.shape[0]):
                for c in range(merged.shape[1]):
                    merged[y, c] = np.concatenate(
                        [x[2 * y, 2 * c], x[2 * y + 1, 2 * c], x[2 * y, 2 * c + 1],
                         x[2 * y + 1, 2 * c + 1]]
                    )  # fmt: skip
            name = f"layers.{stage}.downsample"
            x = linear(layer_norm(merged, state, f"{name}.norm"), state, f"{name}.reduction")
    x = layer_norm(x, state, "norm")
    h = x.mean((0, 1))
    for i in (0, 2):
        h = linear(h, state, f"feature.{i}")
        n = f"feature.{i + 1}"
        h = (h - state[f"{n}.running_mean"]) / np.sqrt(state[f"{n}.running_var"] + 2e-5)
        h = h * state[f"{n}.weight"] + state[f"{n}.bias"]
    return x, h


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 32)])
def test_equals_the_definition(height, width):
    net = Swin(**TINY)
    state, variables = state_of(net, 16)
    image = np.random.default_rng(1).uniform(-1, 1, (2, height, width, 3))
    got = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, jnp.asarray(image))
    for i in range(2):
        spatial, embedding = reference(net, state, image[i])
        np.testing.assert_allclose(got["spatial"][i], spatial, atol=2e-5)
        np.testing.assert_allclose(got["pooled"][i], spatial.mean((0, 1)), atol=2e-5)
        np.testing.assert_allclose(got["embedding"][i], embedding, atol=2e-5 * abs(embedding).max())


def test_numbers_of_the_published_net():
    """SwinFace's backbone: 28,895,226 parameters and 202 entries, with a classifier of 512.

    The classifier, `head`, is fed nothing and is not here. Its entries, the index tables of 12
    blocks and the masks of the 5 that are shifted are entries all the same.
    """
    net = Swin()
    outputs, variables = models.shapes(net, 112)
    head = 768 * 512 + 512
    assert models.parameter_count(variables["params"]) == 28_895_226 - head == 28_501_498
    assert {k: v.shape for k, v in outputs.items()} == {
        "pooled": (2, 768), "spatial": (2, 7, 7, 768), "embedding": (2, 512),
    }  # fmt: skip
    names = torch_names(net)
    assert names.keys() == traverse_util.flatten_dict(variables, sep="/").keys()
    keys = [key for key, _ in names.values()]
    counters = sum(key.endswith("running_mean") for key in keys)
    assert len(set(keys)) + counters + 12 + 5 + 2 == 202


def test_windows_and_back():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    cut = windows(x, 2)
    assert cut.shape == (2, 6, 4, 3)
    np.testing.assert_array_equal(cut[1, 4], x[1, 2:4, 2:4].reshape(4, 3))
    np.testing.assert_array_equal(from_windows(cut, 4, 6), x)


def test_relative_index_is_one_to_one_with_the_difference():
    index = relative_index(3)
    found = {}
    for i in range(9):
        for j in range(9):
            found.setdefault(int(index[i, j]), set()).add((i // 3 - j // 3, i % 3 - j % 3))
    assert sorted(found) == list(range(25))
    assert all(len(differences) == 1 for differences in found.values())
    assert found[0] == {(-2, -2)}
    assert found[1] == {(-2, -1)}  # the second counts columns


def test_mask_hides_only_the_other_side_of_the_map():
    mask = shift_mask(8, 8, 4, 2)
    assert mask.shape == (4, 16, 16)
    assert not mask[0].any()
    rows = np.arange(16) // 4 < 2
    np.testing.assert_array_equal(mask[2] == 0, rows[:, None] == rows)  # the lower left window
    assert (mask[3] == 0).sum() == 4 * 4 * 4


def test_examples_are_independent_and_bfloat16_is_near():
    net = Swin(**TINY, dtype=jnp.bfloat16)
    models.check_backbone(net, 16)
    _, variables = state_of(net, 16)
    image = jax.random.uniform(jax.random.key(0), (3, 16, 16, 3), minval=-1)
    run = jax.jit(lambda x: net.apply(variables, x, train=False))
    got, other = run(image), run(image.at[1].set(0.5))
    exact = jax.jit(lambda x: Swin(**TINY).apply(variables, x, train=False))(image)
    for key in got:
        np.testing.assert_array_equal(got[key][::2], other[key][::2])
        assert np.abs(got[key][1] - other[key][1]).max() > 1e-2
        assert 0 < np.abs(got[key] - exact[key]).max() < 0.2 * np.abs(exact[key]).max()


def test_stochastic_depth_drops_branches_of_the_last_block_of_single_examples():
    small = {"patch": 4, "dim": 4, "depths": (2,), "heads": (1,), "window": 4, "embedding": 0}
    net = Swin(**small, drop_path=0.5)
    _, variables = state_of(net, 16)
    image = jnp.tile(
        jax.random.uniform(jax.random.key(0), (1, 16, 16, 3), minval=-1), (64, 1, 1, 1)
    )
    got = jax.jit(lambda k: net.apply(variables, image, train=True, rngs={"dropout": k})["pooled"])(
        jax.random.key(1)
    )
    kinds, counts = np.unique(np.round(np.asarray(got), 4), axis=0, return_counts=True)
    assert len(kinds) == 4  # attention dropped or not, MLP dropped or not; the first block never
    assert counts.min() >= 6  # binomial(64, 1/4): 16 +- 3.5


def test_without_an_embedding():
    net = Swin(**{**TINY, "embedding": 0})
    outputs, variables = models.shapes(net, 16)
    assert set(outputs) == {"pooled", "spatial"}
    assert "batch_stats" not in variables
    assert torch_names(net).keys() == traverse_util.flatten_dict(variables, sep="/").keys()


@pytest.mark.parametrize(
    ("kwargs", "size", "message"),
    [
        ({}, 100, "whole windows of 7"),
        ({}, 111, "whole patches of 2"),
        ({"depths": (2, 2)}, 112, "give one number of heads"),
        ({"heads": (5, 6, 12, 24)}, 112, "96 channels of stage 1"),
        (TINY, 12, "stage 1 has 6 tokens"),
        ({**TINY, "window": 3}, 6, "stage 1 has 3 tokens"),
    ],
)
def test_sizes_that_do_not_divide(kwargs, size, message):
    with pytest.raises(FacebenchError, match=message):
        models.check_backbone(Swin(**kwargs), size)
