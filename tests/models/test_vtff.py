"""VTFF: the patterns and the fusion against loops over pixels, and what each option means."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models
from facebench.errors import FacebenchError, UsageError
from facebench.models import vtff
from facebench.models.vtff import VTFF, SelectiveFusion, local_binary_patterns

TINY = {
    "widths": (8, 16), "blocks": (0, 1), "stem": "small",
    "dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0,
}  # fmt: skip


def normalized(levels):
    return jnp.asarray(levels, jnp.float32) / 127.5 - 1.0


def patterns_by_loop(levels):
    """The rule on one image of bytes [H, W, 3], pixel by pixel."""
    H, W = levels.shape[:2]
    grey = np.empty((H, W), int)
    for y in range(H):
        for x in range(W):
            r, g, b = map(int, levels[y, x])
            grey[y, x] = (299 * r + 587 * g + 114 * b + 500) // 1000
    code = np.zeros((H, W), int)
    clockwise = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    for y in range(H):
        for x in range(W):
            for bit, (dy, dx) in enumerate(clockwise):
                at = grey[min(max(y + dy, 0), H - 1), min(max(x + dx, 0), W - 1)]
                code[y, x] += 2**bit if at >= grey[y, x] else 0
    return code


@pytest.mark.parametrize("levels", [256, 3])
def test_patterns_equal_a_loop_over_pixels(levels):
    """With 3 levels most neighbours tie."""
    images = np.random.default_rng(levels).integers(0, levels, (3, 9, 7, 3), np.uint8)
    got = jax.jit(local_binary_patterns)(normalized(images))
    assert got.dtype == jnp.int32
    for image, code in zip(images, np.asarray(got)):
        np.testing.assert_array_equal(code, patterns_by_loop(image))


def test_every_byte_survives_the_normalisation():
    """Grey r is level r itself, so a ramp of all levels has the same code all along."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :, None], 3, axis=3)
    code = np.asarray(local_binary_patterns(normalized(ramp)))[0, 0]
    above = sum(2**k for k, (dy, dx) in enumerate(vtff.NEIGHBOURS) if dy and not dx)  # ties
    right = sum(2**k for k, (_, dx) in enumerate(vtff.NEIGHBOURS) if dx > 0)
    left = 255 - above - right
    assert (code[1:-1] == above + right).all()
    assert code[0] == 255  # beyond the border is a tie
    assert code[-1] == above + right
    falling = np.asarray(local_binary_patterns(normalized(ramp[:, :, ::-1])))[0, 0]
    assert (falling[1:-1] == above + left).all()


def test_patterns_do_not_see_brightness():
    image = np.random.default_rng(0).integers(0, 120, (1, 8, 8, 1), np.uint8).repeat(3, axis=3)
    brighter = 2 * image + 7
    np.testing.assert_array_equal(
        local_binary_patterns(normalized(image)), local_binary_patterns(normalized(brighter))
    )


def fusion_by_loop(variables, first, second, norms):
    """The weighted mean of one position and channel after the other, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
    B, h, w, C = first.shape
    u = first @ p["first"]["kernel"] + second @ p["second"]["kernel"]

    def context(x, name):
        hidden = np.maximum(norms(x @ p[f"{name}_conv1"]["kernel"], f"{name}_bn1"), 0)
        return norms(hidden @ p[f"{name}_conv2"]["kernel"], f"{name}_bn2")

    out = np.empty_like(first)
    everywhere = context(u.mean((1, 2)), "global")
    local = context(u, "local")
    for b in range(B):
        for y in range(h):
            for x in range(w):
                for c in range(C):
                    weight = 1 / (1 + np.exp(-everywhere[b, c] - local[b, y, x, 0]))
                    out[b, y, x, c] = weight * first[b, y, x, c] + (1 - weight) * second[b, y, x, c]
    return out


def test_fusion_equals_a_loop_over_positions_and_channels(drawn):
    first, second = np.random.default_rng(0).normal(size=(2, 2, 3, 2, 16))
    net = SelectiveFusion(reduction=4)
    variables = drawn(net, first, second)
    assert variables["params"]["global_conv1"]["kernel"].shape == (16, 4)
    assert variables["params"]["local_conv2"]["kernel"].shape == (4, 1)

    def running(x, name):
        p, stats = variables["params"][name], variables["batch_stats"][name]
        return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * p["scale"] + p["bias"]

    fuse = jax.jit(lambda *maps: net.apply(variables, *maps, train=False))
    want = fusion_by_loop(variables, first, second, running)
    np.testing.assert_allclose(fuse(first, second), want, atol=1e-5)
    low, high = np.minimum(first, second), np.maximum(first, second)
    assert ((want >= low) & (want <= high)).all()  # the weights sum to 1
    np.testing.assert_allclose(fuse(first, first), first, atol=1e-6)


def encoder_size(words, inner, D, depth, ratio):
    block = 4 * D + (D + 1) * 3 * D + (D + 1) * D + (D + 1) * int(ratio * D)
    block += (int(ratio * D) + 1) * D
    return (inner + 1) * D + D + (words + 1) * D + depth * block + 2 * D


def resnet_size(widths, blocks, channels, kernel):
    size = kernel**2 * channels * widths[0] + 2 * widths[0]
    before = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks)):
        for block in range(count):
            size += 9 * before * width + 9 * width**2 + 4 * width
            if before != width or (stage and not block):
                size += before * width + 2 * width
            before = width
    return size


def test_branches_are_resnet_18s():
    rgb = resnet_size((64, 128, 256, 512), (2, 2, 2, 2), 3, 7)
    assert rgb == 11_176_512  # torchvision's resnet18 is 11,689,512 with its 1000 classes
    outputs, variables = models.shapes(VTFF(), 224)
    assert outputs["spatial"].shape == (2, 7, 7, 768)
    counts = {k: models.parameter_count(v) for k, v in variables["params"].items()}
    fusion = 2 * 512**2 + (512 * 64 + 2 * 64) * 2 + 64 * 512 + 2 * 512 + 64 + 2
    assert counts == {
        "rgb": rgb,
        "lbp": rgb - 2 * 49 * 64,
        "fusion": fusion,
        "encoder": encoder_size(49, 512, 768, 8, 3),
    }


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"branches": "rgb"}, {"rgb", "encoder"}),
        ({"branches": "lbp", "fusion": "concat"}, {"lbp", "encoder"}),
        ({"fusion": "sum"}, {"rgb", "lbp", "encoder"}),
        ({"fusion": "concat"}, {"rgb", "lbp", "encoder"}),
        ({}, {"rgb", "lbp", "encoder", "fusion"}),
    ],
)
def test_parts_of_each_ablation(fields, parts):
    net = VTFF(**TINY | fields)
    outputs, variables = models.shapes(net, 24)
    assert outputs["pooled"].shape == (2, 16)
    assert outputs["spatial"].shape == (2, 3, 3, 16)
    assert set(variables["params"]) == parts
    inner = 32 if fields == {"fusion": "concat"} else 16
    found = models.parameter_count(variables["params"]["encoder"])
    assert found == encoder_size(9, inner, 16, 1, 2)


@pytest.fixture(scope="module")
def tiny(drawn):
    """A tiny net with its compiled programs."""
    net = VTFF(**TINY)
    image = normalized(np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8))
    variables = drawn(net, image)
    predict = jax.jit(lambda v, x: net.apply(v, x, train=False))

    @jax.jit
    def gradients(params):
        def loss(p):
            given = {**variables, "params": p}
            out, _ = net.apply(given, image, train=True, mutable=["batch_stats"])
            return (out["pooled"] * jnp.arange(16.0)).sum()

        return jax.grad(loss)(params)

    return image, variables, predict, gradients


def test_examples_are_independent(tiny):
    image, variables, predict, _ = tiny
    out = predict(variables, image)
    other = predict(variables, image.at[1].set(0.25))
    for key in ("pooled", "spatial"):
        np.testing.assert_array_equal(out[key][::2], other[key][::2])
        assert not np.array_equal(out[key][1], other[key][1])


def test_each_branch_reads_what_it_says(tiny):
    """Twice the brightness leaves the patterns as they are: only the other branch can tell."""
    _, variables, predict, _ = tiny
    levels = np.random.default_rng(1).integers(0, 120, (3, 24, 24, 1), np.uint8).repeat(3, axis=3)
    one, two = normalized(levels), normalized(2 * levels + 1)
    gap = np.abs(predict(variables, one)["pooled"] - predict(variables, two)["pooled"]).max()
    assert gap > 1e-3
    blind = {**variables["params"], "rgb": jax.tree.map(jnp.zeros_like, variables["params"]["rgb"])}
    blind = {**variables, "params": blind}
    np.testing.assert_array_equal(predict(blind, one)["pooled"], predict(blind, two)["pooled"])
    other = np.abs(predict(blind, one)["pooled"] - predict(blind, one[::-1])["pooled"]).max()
    assert other > 1e-3


def test_gradients_are_finite_and_reach_every_parameter(tiny):
    _, variables, _, gradients = tiny
    found = jax.tree_util.tree_leaves_with_path(gradients(variables["params"]))
    for path, leaf in found:
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


def test_bfloat16_keeps_the_contract_and_wrong_names_are_told():
    models.check_backbone(VTFF(**TINY, dtype=jnp.bfloat16), 24)
    for fields, message in [
        ({"branches": "rbg"}, "did you mean 'rgb'"),
        ({"fusion": "selectiv"}, "did you mean 'selective'"),
        ({"stem": "smal"}, "did you mean 'small'"),
        ({"position": "sincos"}, "did you mean 'sincos2d'"),
    ]:
        with pytest.raises(UsageError, match=message):
            models.check_backbone(VTFF(**TINY | fields), 24)
    with pytest.raises(FacebenchError, match="one number of blocks per width"):
        models.check_backbone(VTFF(**TINY | {"blocks": (1,)}), 24)
    with pytest.raises(FacebenchError, match="only the first stage may have none"):
        models.check_backbone(VTFF(**TINY | {"blocks": (1, 0)}), 24)
    with pytest.raises(FacebenchError, match="no multiple of heads"):
        models.check_backbone(VTFF(**TINY | {"heads": 3}), 24)
