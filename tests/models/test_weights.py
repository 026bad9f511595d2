"""Import of PyTorch weights: layouts against explicit loops, and everything that may not fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from facebench.errors import FacebenchError
from facebench.models import weights

rng = np.random.default_rng(0)


class Net(nn.Module):
    """One layer of each layout, on 4 px images of 3 channels."""

    @nn.compact
    def __call__(self, image, *, train):
        B = image.shape[0]
        conv = nn.Conv(6, (3, 3), padding="VALID", feature_group_count=3, use_bias=False)
        x = conv(image)
        x = nn.BatchNorm(use_running_average=True, name="bn")(x)
        flat = nn.Dense(5, use_bias=False, name="flat")(x.reshape(B, -1))
        patches = image.reshape(B, 2, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(B, 4, 12)
        patches = nn.Dense(7, name="patch")(patches)
        return {
            "pooled": nn.Dense(2, name="dense")(flat),
            "spatial": patches.reshape(B, 2, 2, 7),
        }


def torch_names(module):
    return {
        **weights.conv_names("Conv_0", "conv"),
        **weights.norm_names("bn", "bn"),
        **weights.dense_names("flat", "flat", ("flattened", 6), bias=False),
        **weights.dense_names("patch", "patch", ("patch", 2)),
        **weights.dense_names("dense", "dense"),
    }


SHAPES = {
    "conv.weight": (6, 1, 3, 3),
    "bn.weight": (6,),
    "bn.bias": (6,),
    "bn.running_mean": (6,),
    "bn.running_var": (6,),
    "flat.weight": (5, 24),
    "patch.weight": (7, 3, 2, 2),
    "patch.bias": (7,),
    "dense.weight": (2, 5),
    "dense.bias": (2,),
}


@pytest.fixture
def state():
    drawn = {k: rng.uniform(0.5, 1.5, s).astype(np.float32) for k, s in SHAPES.items()}
    return {**drawn, "bn.num_batches_tracked": np.array(3)}


def loops(state, image):
    """The net in PyTorch's order of axes, written out for one image [3, 4, 4]."""
    maps = np.zeros((6, 2, 2))
    for o in range(6):
        for y in range(2):
            for x in range(2):
                window = image[o // 2, y : y + 3, x : x + 3]
                maps[o, y, x] = (window * state["conv.weight"][o, 0]).sum()
        scale = state["bn.weight"][o] / np.sqrt(state["bn.running_var"][o] + 1e-5)
        maps[o] = (maps[o] - state["bn.running_mean"][o]) * scale + state["bn.bias"][o]
    flat = state["flat.weight"] @ maps.ravel()
    patches = np.zeros((2, 2, 7))
    for y in range(2):
        for x in range(2):
            window = image[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            patches[y, x] = (state["patch.weight"] * window).sum((1, 2, 3)) + state["patch.bias"]
    return state["dense.weight"] @ flat + state["dense.bias"], patches


def test_layouts_compute_what_pytorch_computes(state):
    image = rng.normal(size=(2, 3, 4, 4)).astype(np.float32)
    variables = weights.import_torch(Net(), state, 4)
    assert set(variables) == {"params", "batch_stats"}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    out = Net().apply(variables, jnp.asarray(np.moveaxis(image, 1, 3)), train=False)
    for i in range(2):
        pooled, spatial = loops(state, image[i])
        np.testing.assert_allclose(out["pooled"][i], pooled, rtol=1e-4)
        np.testing.assert_allclose(out["spatial"][i], spatial, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["module.", "model.", "features.module.", "module.backbone."])
def test_prefixes_that_all_keys_carry_are_taken_off(state, prefix):
    carried = {prefix + k: v for k, v in state.items()}
    got, want = (weights.import_torch(Net(), s, 4) for s in (carried, state))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    carried["head.kernel"] = np.zeros((3, 3))  # As Lightning's checkpoints have it.
    got = weights.import_torch(Net(), carried, 4, ignore=("head.*",))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    with pytest.raises(FacebenchError, match=r"left over"):
        weights.import_torch(Net(), carried, 4)


def test_what_is_not_needed_is_named_with_or_without_the_prefix(state):
    carried = {f"model.{k}": v for k, v in (state | {"head.w": np.zeros(3)}).items()}
    with pytest.raises(FacebenchError, match=r"(?s)left over: head\.w.*ignore=\('head\*',\)"):
        weights.import_torch(Net(), carried, 4)
    for pattern in ("head*", "model.head.w"):
        assert weights.import_torch(Net(), carried, 4, ignore=(pattern,))


def test_half_and_double_precision_become_float32(state):
    state["dense.bias"] = state["dense.bias"].astype(np.float16)
    state["bn.bias"] = state["bn.bias"].astype(np.float64)
    variables = weights.import_torch(Net(), state, 4)
    assert variables["params"]["dense"]["bias"].dtype == np.float32
    np.testing.assert_array_equal(variables["params"]["dense"]["bias"], state["dense.bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense.bias": None}, r"missing: dense\.bias"),
        ({"dense.bias": None, "dense.bia": np.zeros(2)}, r"did you mean 'dense\.bia'"),
        ({"dense.weight": np.zeros((5, 2))}, r"dense\.weight: has shape \[5, 2\], expected \[2, 5"),
        ({"conv.weight": np.zeros((3, 1, 3, 3))}, r"\[3, 1, 3, 3\], expected \[6, 1, 3, 3\]"),
        ({"flat.weight": np.zeros((5, 54))}, r"flat\.weight.*expected \[5, 24\]"),
        ({"patch.weight": np.zeros((7, 12))}, r"expected \[7, 3, 2, 2\]"),
        ({"bn.bias": np.full(6, np.nan)}, r"bn\.bias: holds NaN"),
        ({"bn.bias": np.array(list("abcdef"))}, r"bn\.bias: holds <U1, expected numbers"),
        ({"bn.bias": np.array([None] * 6)}, r"bn\.bias: holds object"),
    ],
)
def test_what_does_not_fit_is_named(state, change, message):
    state |= change
    state = {k: v for k, v in state.items() if v is not None}
    with pytest.raises(FacebenchError, match=message):
        weights.import_torch(Net(), state, 4)


def test_an_empty_state_dict_misses_everything():
    with pytest.raises(FacebenchError, match=r"missing: bn\.bias.* and 4 more"):
        weights.import_torch(Net(), {}, 4)


def test_a_table_has_to_name_each_variable(state):
    table = torch_names(None)
    del table["params/dense/bias"]
    table["params/dens/bias"] = ("dense.bias", "same")
    with pytest.raises(FacebenchError, match="params/dens/bias, params/dense/bias"):
        weights.import_torch(Net(), state, 4, names=table)
    table = torch_names(None) | {"params/dense/bias": ("dense.bias", "sam")}
    with pytest.raises(FacebenchError, match="did you mean 'same'"):
        weights.import_torch(Net(), state, 4, names=table)


def test_a_family_without_a_table_says_so(state):
    from facebench.models.convnet import ConvNet

    with pytest.raises(FacebenchError, match=r"convnet has no torch_names"):
        weights.import_torch(ConvNet(), state, 32)
