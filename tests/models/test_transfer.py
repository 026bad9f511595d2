"""TransFER: the two drops against their law and a loop, and what each option means."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from facebench import models
from facebench.errors import FacebenchError, UsageError
from facebench.models import ir, layers
from facebench.models.transfer import TransFER
from facebench.models.vit import _Block

TINY = {
    "stem": "conv", "widths": (8, 16), "blocks": (0, 1), "stem_stride": 2, "reduction": 4,
    "dim": 16, "depth": 1, "heads": 4, "mlp_ratio": 2.0,
}  # fmt: skip


def chi_squared(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def test_drops_follow_their_law():
    """20,000 examples lose nothing (0.4), or one of four slices (0.15 each)."""
    x = jnp.ones((200, 3, 4, 2))
    keys = jax.random.split(jax.random.key(0), 100)
    got = np.asarray(jax.vmap(lambda k: layers.drop_one(x, 0.6, k, axis=2))(keys))
    got = got.reshape(-1, 3, 4, 2)
    np.testing.assert_array_equal(got, np.broadcast_to(got[:, :1, :, :1], got.shape))
    kept = got[:, 0, :, 0]
    assert set(np.unique(kept)) == {0.0, 1.0}  # nothing is scaled
    lost = (1 - kept).astype(int)
    assert set(lost.sum(1)) == {0, 1}
    counts = np.array([(lost.sum(1) == 0).sum(), *lost.sum(0)])
    expected = np.array([0.4, 0.15, 0.15, 0.15, 0.15]) * 20_000
    assert chi_squared(counts, expected) < 18.5  # 4 degrees of freedom, p = 0.001
    # Neighbours in a batch do not share their fate: of 19,900 pairs 36 % are both hit.
    both = (lost.sum(1)[1:] * lost.sum(1)[:-1]).reshape(-1).mean()
    assert abs(both - 0.36) < 0.02


def test_what_is_dropped_equals_a_loop_over_examples():
    x = np.random.default_rng(0).normal(size=(64, 2, 3, 5)).astype(np.float32)
    key = jax.random.key(7)
    hit, which = jax.random.split(key)
    hits = np.asarray(jax.random.bernoulli(hit, 0.5, (64, 1)))[:, 0]
    slices = np.asarray(jax.random.randint(which, (64, 1), 0, 3))[:, 0]
    want = x.copy()
    for b in range(64):
        if hits[b]:
            want[b, :, slices[b]] = 0
    np.testing.assert_array_equal(layers.drop_one(jnp.asarray(x), 0.5, key, axis=2), want)
    np.testing.assert_array_equal(layers.drop_one(jnp.asarray(x), 0.0, key, axis=2), x)


def test_a_block_loses_the_output_of_one_head(drawn):
    """With rate 1 each example is as if one head's rows of the projection were zero."""
    x = np.random.default_rng(0).normal(size=(6, 5, 12)).astype(np.float32)
    plain = _Block(3, 2.0, 0.0, 0.0, jnp.float32)
    dropping = _Block(3, 2.0, 0.0, 0.0, jnp.float32, 1.0)
    params = drawn(plain, x)["params"]
    predict = jax.jit(lambda p: plain.apply({"params": p}, x, train=False))
    rngs = {"dropout": jax.random.key(3)}
    got = jax.jit(lambda p: dropping.apply({"params": p}, x, train=True, rngs=rngs))(params)
    gaps = []
    for head in range(3):
        kernel = params["proj"]["kernel"].copy()
        kernel[4 * head : 4 * head + 4] = 0
        without = predict({**params, "proj": {**params["proj"], "kernel": kernel}})
        gaps.append(np.abs(without - got).max((1, 2)))
    gaps = np.sort(gaps, axis=0), np.argmin(gaps, axis=0)  # [head, example], [example]
    assert (gaps[0][0] < 1e-5).all()
    assert (gaps[0][1] > 1e-3).all()
    assert len(set(gaps[1])) > 1  # not the same head in every example


@pytest.fixture(scope="module")
def tiny(drawn):
    """A tiny net that always drops, with its compiled programs.

    The first predicts, and gives what the encoder was given beside what the stem gave.
    """
    net = TransFER(**TINY, attention_drop=1.0, head_drop=1.0)
    image = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 3)).astype(np.float32)
    variables = drawn(net, image)

    @jax.jit
    def predict(image):
        seen = {}

        def spy(call, args, kwargs, context):
            value = call(*args, **kwargs)
            if context.method_name == "__call__":
                seen[context.module.name] = args, value
            return value

        with nn.intercept_methods(spy):
            out = net.apply(variables, image, train=False)
        return out, seen["stem"][1]["spatial"], seen["encoder"][0][0]

    @jax.jit
    def train(params, key):
        def loss(p):
            given = {**variables, "params": p}
            rngs = {"dropout": key}
            out, _ = net.apply(given, image, train=True, mutable=["batch_stats"], rngs=rngs)
            return (out["pooled"] * jnp.arange(16.0)).sum()

        return jax.value_and_grad(loss)(params)

    return image, variables, predict, train


def test_nothing_is_dropped_in_prediction(tiny):
    """It asks for no key, and is the very program of a net without drops."""
    image, variables, _, _ = tiny

    def program(**drops):
        net = TransFER(**TINY, **drops)
        return str(jax.make_jaxpr(lambda v, x: net.apply(v, x, train=False))(variables, image))

    always = program(attention_drop=1.0, head_drop=1.0)
    assert always == program(attention_drop=0.0, head_drop=0.0)
    assert "random" not in always


@pytest.mark.parametrize("drop", ["attention_drop", "head_drop"])
def test_each_drop_is_in_the_training(tiny, drop):
    image, variables, _, _ = tiny

    def program(**drops):
        net = TransFER(**TINY | {"attention_drop": 0.0, "head_drop": 0.0} | drops)
        given = {"train": True, "mutable": ["batch_stats"]}
        return str(
            jax.make_jaxpr(lambda key: net.apply(variables, image, rngs={"dropout": key}, **given))(
                jax.random.key(0)
            )
        )

    assert "random" not in program()
    assert "random" in program(**{drop: 0.5})


def test_training_depends_on_the_key_and_gradients_are_finite(tiny):
    _, variables, _, train = tiny
    one, grads = train(variables["params"], jax.random.key(0))
    assert float(one) == float(train(variables["params"], jax.random.key(0))[0])
    assert float(one) != float(train(variables["params"], jax.random.key(1))[0])
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


def test_examples_are_independent(tiny):
    image, _, predict, _ = tiny
    changed = image.copy()
    changed[1] = 0.25
    out, other = predict(image)[0], predict(changed)[0]
    for key in ("pooled", "spatial"):
        np.testing.assert_array_equal(out[key][::2], other[key][::2])
        assert not np.array_equal(out[key][1], other[key][1])


def test_the_largest_attention_weighs_each_position(tiny):
    """Against a loop over positions and maps, between the net's own stem and encoder."""
    image, variables, predict, _ = tiny
    features, given = map(np.asarray, predict(image)[1:])
    want = np.zeros_like(features)
    for b, y, x in np.ndindex(features.shape[:3]):
        opinions = []
        for i in range(2):
            p = variables["params"][f"attention{i + 1}"]
            stats = variables["batch_stats"][f"attention{i + 1}"]

            def norm(value, name, p=p, stats=stats):
                value = (value - stats[name]["mean"]) / np.sqrt(stats[name]["var"] + 1e-5)
                return value * p[name]["scale"] + p[name]["bias"]

            hidden = np.maximum(norm(features[b, y, x] @ p["conv1"]["kernel"], "bn1"), 0)
            value = norm(hidden @ p["conv2"]["kernel"], "bn2")[0]
            opinions.append(1 / (1 + np.exp(-value)))
        want[b, y, x] = max(opinions) * features[b, y, x]
    np.testing.assert_allclose(given, want, atol=1e-5)


def test_sizes_and_parameters_at_full_scale():
    outputs, variables = models.shapes(TransFER(), 112)
    assert outputs["pooled"].shape == (2, 768)
    assert outputs["spatial"].shape == (2, 14, 14, 768)
    counts = {k: models.parameter_count(v) for k, v in variables["params"].items()}
    D, hidden = 768, 2304
    block = 4 * D + (D + 1) * 3 * D + (D + 1) * D + (D + 1) * hidden + (hidden + 1) * D
    assert counts["encoder"] == 257 * D + D + 197 * D + 8 * block + 2 * D
    assert counts["attention1"] == counts["attention2"] == 256 * 16 + 2 * 16 + 16 + 2
    whole = models.shapes(ir.IR("50", "evolve"), 112)[1]
    lower = {k for k in whole["params"] if k.startswith("stem")} | {f"block{i}" for i in range(21)}
    for collection in ("params", "batch_stats"):  # the stem's variables are IR-50's, by name
        kept = {k: v for k, v in whole[collection].items() if k in lower}
        assert jax.tree.map(jnp.shape, variables[collection]["stem"]) == jax.tree.map(
            jnp.shape, kept
        )


@pytest.mark.parametrize(
    ("fields", "maps"),
    [
        ({"attentions": 3}, 3),
        ({"attentions": 0}, 0),
        ({"attentions": 1, "attention_drop": 0.0}, 1),
        ({"attention_drop": 0.0, "head_drop": 0.0}, 2),
    ],
)
def test_parts_of_each_ablation(fields, maps):
    outputs, variables = models.shapes(TransFER(**TINY | fields), 16)
    assert outputs["spatial"].shape == (2, 4, 4, 16)
    assert set(variables["params"]) == {"stem", "encoder"} | {
        f"attention{i + 1}" for i in range(maps)
    }


def test_bfloat16_keeps_the_contract_and_wrong_values_are_told():
    models.check_backbone(TransFER(**TINY, dtype=jnp.bfloat16), 16)
    for fields, error, message in [
        ({"stem": "ir-50"}, UsageError, "did you mean 'ir50'"),
        ({"head_drop": 1.5}, UsageError, r"head_drop is 1.5; it must lie in \[0, 1\]"),
        ({"attentions": 1}, FacebenchError, "take 2 maps, or attention_drop 0"),
        ({"heads": 3}, FacebenchError, "no multiple of heads"),
    ]:
        with pytest.raises(error, match=message):
            models.check_backbone(TransFER(**TINY | fields), 16)
