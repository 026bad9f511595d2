"""The face transformer against insightface's, and what dropping tokens does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models
from facebench.errors import FacebenchError, UsageError
from facebench.models import weights
from facebench.models.face_vit import FaceViT, torch_names

SMALL = {"sizes": (16, 2, 4), "dim": 8, "drop_path": 0.0}


@pytest.fixture(scope="module")
def small(published):
    net = FaceViT(**SMALL)
    return net, weights.import_torch(net, published(net, torch_names(net), 40).state(), 40)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("t", 19_137_792),
        ("s", 76_023_296),
        ("b", 113_833_472),
        ("l", 255_684_352),
        ("h", 756_393_984),
    ],
)
def test_sizes_are_the_published_ones(published, variant, parameters):
    net = FaceViT(variant)
    found = published(net, torch_names(net))
    assert found.count() == parameters
    assert found.outputs["spatial"].shape[1:3] == (12, 12)


def test_equals_the_published_net(oracles, evaluate, near):
    from safetensors.numpy import load_file

    vectors = np.load(oracles / "models/arcface_vit_tiny.npz")
    net = FaceViT(sizes=(96, 2, 4), dim=64)
    state = load_file(oracles / "models/arcface_vit_tiny.safetensors")
    assert len(state) == 40
    variables = weights.import_torch(net, state, 112)
    got = evaluate(net, variables, vectors["in_x"])
    near(got["embedding"], vectors["out"])
    # The last 4 rows and columns are not read.
    cut = vectors["in_x"].copy()
    cut[:, :, 108:] = cut[:, :, :, 108:] = 9.0
    np.testing.assert_array_equal(evaluate(net, variables, cut)["embedding"], got["embedding"])
    half = net.clone(dtype=jnp.bfloat16)
    models.check_backbone(half, 112)
    gap = np.abs(evaluate(half, variables, vectors["in_x"])["embedding"] - vectors["out"]).max()
    assert 0 < gap < 0.05 * np.abs(vectors["out"]).max()


def test_dropped_tokens_are_not_seen_and_come_back_at_their_places(small):
    net, variables = small
    net = net.clone(mask_ratio=0.3)  # int(16 * .7) = 11 of 16 tokens stay.
    image = jax.random.uniform(jax.random.key(0), (3, 40, 40, 3), minval=-1)

    @jax.jit
    def run(image, variables=variables):
        rngs = {"dropout": jax.random.key(5)}
        out, _ = net.apply(variables, image, train=True, mutable=["batch_stats"], rngs=rngs)
        return out["spatial"].reshape(3, 16, 16)

    got = run(image)
    token = variables["params"]["token_of_masked"][0, 0]
    masked = np.asarray((got == token).all(-1))
    np.testing.assert_array_equal(masked.sum(1), [5, 5, 5])
    assert len({tuple(row) for row in masked}) > 1  # drawn for each example
    # A change in a dropped patch changes nothing. One in a kept patch changes what comes out, and
    # without attention that is its own place alone.
    apart = jax.tree_util.tree_map_with_path(
        lambda path, v: 0 * v if "proj" in str(path) else v, variables
    )
    alone = run(image, apart)
    for place in range(16):
        y, x = 9 * (place // 4), 9 * (place % 4)
        other = image.at[0, y : y + 9, x : x + 9].add(0.5)
        moved = np.abs(run(other) - got).max(-1)
        assert moved[1:].max() == 0
        assert (moved[0].max() > 1e-3) != masked[0, place]
        changed = np.flatnonzero(np.abs(run(other, apart) - alone).max(-1)[0])
        assert changed.tolist() == ([] if masked[0, place] else [place])
    eval_mode = jax.jit(lambda x: net.apply(variables, x, train=False))(image)["spatial"]
    assert not (eval_mode.reshape(3, 16, 16) == token).all(-1).any()


def test_an_example_does_not_see_the_others(small, evaluate):
    net, variables = small
    x = np.random.default_rng(0).normal(size=(3, 3, 40, 40)).astype(np.float32)
    other = x.copy()
    other[1] = 0
    got, changed = evaluate(net, variables, x), evaluate(net, variables, other)
    for key in ("pooled", "spatial", "embedding"):
        np.testing.assert_array_equal(got[key][::2], changed[key][::2])
        assert np.abs(got[key][1] - changed[key][1]).max() > 1e-3


def test_bad_sizes_and_names():
    with pytest.raises(FacebenchError, match="smaller than a patch of 9"):
        models.check_backbone(FaceViT(**SMALL), 8)
    with pytest.raises(FacebenchError, match="no multiple of 3 heads"):
        models.check_backbone(FaceViT(sizes=(16, 2, 3)), 40)
    with pytest.raises(FacebenchError, match="channels, blocks, heads"):
        models.check_backbone(FaceViT(sizes=(16, 2)), 40)
    with pytest.raises(FacebenchError, match=r"mask_ratio is 1\.5"):
        models.check_backbone(FaceViT(**SMALL, mask_ratio=1.5), 40)
    with pytest.raises(UsageError, match="variant is 'x'"):
        models.check_backbone(FaceViT("x"), 40)
