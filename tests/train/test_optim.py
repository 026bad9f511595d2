"""Recipes against hand-written updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from facebench.train import optim, step
from facebench.train.state import State

W = np.array([[1.0, -2.0], [0.5, 3.0]])
B = np.array([0.3, -0.1])
GRADS = [(0.1 * W - 0.2, B * 0 + 0.4), (W * 0 + 0.3, B - 1)]


def updates(**changes):
    """Parameters after each of two updates with known gradients."""
    tx = optim.make(toys.recipe(warmup=0, schedule="constant", lr=0.1) | changes, 10)
    params = {"w": jnp.array(W), "b": jnp.array(B)}
    state, seen = tx.init(params), []
    for w, b in GRADS:
        change, state = tx.update({"w": jnp.array(w), "b": jnp.array(b)}, state, params)
        params = optax.apply_updates(params, change)
        seen.append((np.asarray(params["w"]), np.asarray(params["b"])))
    return seen


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_momentum_on_the_decayed_gradient(nesterov):
    got = updates(momentum=0.8, weight_decay=0.01, nesterov=nesterov)
    w, b, mw, mb = W, B, 0.0, 0.0
    for (gw, gb), (have_w, have_b) in zip(GRADS, got):
        gw = gw + 0.01 * w  # biases are not decayed
        mw, mb = 0.8 * mw + gw, 0.8 * mb + gb
        w = w - 0.1 * (gw + 0.8 * mw if nesterov else mw)
        b = b - 0.1 * (gb + 0.8 * mb if nesterov else mb)
        np.testing.assert_allclose(have_w, w, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(have_b, b, rtol=1e-6, atol=1e-7)


def test_adamw_decays_apart_from_the_gradient():
    got = updates(name="adamw", b1=0.7, b2=0.9, eps=1e-8, weight_decay=0.05)
    for part, index, decay in ((W, 0, 0.05), (B, 1, 0.0)):
        p, m, v = part, 0.0, 0.0
        for t, grads in enumerate(GRADS, 1):
            g = grads[index]
            m, v = 0.7 * m + 0.3 * g, 0.9 * v + 0.1 * g * g
            p = p - 0.1 * (m / (1 - 0.7**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8) + decay * p)
            np.testing.assert_allclose(got[t - 1][index], p, rtol=1e-5)


def test_lars_scales_matrices_by_the_trust_ratio():
    got = updates(name="lars", momentum=0.5, weight_decay=0.01)
    w, b, vw, vb = W, B, 0.0, 0.0
    for (gw, gb), (have_w, have_b) in zip(GRADS, got):
        gw = gw + 0.01 * w
        vw = 0.5 * vw + 0.1 * 0.001 * np.linalg.norm(w) / np.linalg.norm(gw) * gw
        vb = 0.5 * vb + 0.1 * gb
        w, b = w - vw, b - vb
        np.testing.assert_allclose(have_w, w, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(have_b, b, rtol=1e-6, atol=1e-7)


def test_adagrad_follows_its_formula():
    w, b, sw, sb = W, B, 0.1, 0.1
    for (have_w, have_b), (gw, gb) in zip(updates(name="adagrad", weight_decay=0.01), GRADS):
        gw = gw + 0.01 * w  # decay is of matrices alone
        sw, sb = sw + gw**2, sb + gb**2
        w, b = w - 0.1 * gw / np.sqrt(sw), b - 0.1 * gb / np.sqrt(sb)
        np.testing.assert_allclose(have_w, w, rtol=1e-5)
        np.testing.assert_allclose(have_b, b, rtol=1e-5)


def test_the_global_norm_is_clipped():
    ((w, b), _) = updates(momentum=0.0, weight_decay=0.0, clip_norm=0.5)
    gw, gb = GRADS[0]
    norm = np.sqrt((gw**2).sum() + (gb**2).sum())
    np.testing.assert_allclose(w, W - 0.1 * gw * 0.5 / norm, rtol=1e-6)
    np.testing.assert_allclose(b, B - 0.1 * gb * 0.5 / norm, rtol=1e-6)


def test_schedules_follow_their_formulas():
    cosine = optim.schedule(toys.recipe(lr=0.2, warmup=10, final_lr=0.1, schedule="cosine"), 110)
    for t in (0, 3, 10, 35, 60, 110):
        want = (
            0.2 * t / 10
            if t < 10
            else 0.2 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * (t - 10) / 100)))
        )
        assert float(cosine(t)) == pytest.approx(want, abs=1e-7)
    line = optim.schedule(toys.recipe(lr=0.2, warmup=10, final_lr=0.1, schedule="linear"), 110)
    values = [float(line(t)) for t in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(values, [0, 0.1, 0.2, 0.11, 0.02], rtol=1e-6)
    steps = optim.schedule(
        toys.recipe(lr=0.2, warmup=5, schedule="steps", milestones=(0.5, 0.75), gamma=0.1), 100
    )
    values = [float(steps(t)) for t in (0, 5, 49, 50, 74, 75, 99)]
    np.testing.assert_allclose(values, [0, 0.2, 0.2, 0.02, 0.02, 0.002, 0.002], rtol=1e-6)


def test_layer_decay_ranks_layers_from_stem_to_head():
    tree = {
        "backbone": {
            "patch": {"kernel": 0.0},
            "block_0": {"attention": {"kernel": 0.0}},
            "block_1": {"mlp": {"dense_1": {"kernel": 0.0}}},
            "block_10": {"mlp": {"kernel": 0.0}},
            "norm": {"scale": 0.0},
        },
        "head": {"kernel": 0.0},
    }
    scales = optim.layer_scales(tree, 0.5)
    assert scales["backbone"]["patch"]["kernel"] == 0.5**4
    assert scales["backbone"]["block_0"]["attention"]["kernel"] == 0.5**3
    assert scales["backbone"]["block_1"]["mlp"]["dense_1"]["kernel"] == 0.5**2
    assert scales["backbone"]["block_10"]["mlp"]["kernel"] == 0.5
    assert scales["backbone"]["norm"]["scale"] == 0.5
    assert scales["head"]["kernel"] == 1.0


def test_layer_decay_knows_the_built_in_backbones():
    from facebench.models.convnet import ConvNet
    from facebench.models.iresnet import IResNet
    from facebench.models.swin import Swin
    from facebench.models.vit import ViT

    def scales(net):
        image = jnp.zeros((1, 32, 32, 3))
        params = jax.eval_shape(lambda k: net.init(k, image, train=False), jax.random.key(0))
        found = optim.layer_scales({"backbone": params["params"], "head": {"w": 0.0}}, 0.5)
        return {k: set(jax.tree.leaves(v)) for k, v in found["backbone"].items()}

    conv = scales(ConvNet(widths=(4, 8), blocks=(1, 2)))
    assert conv["stem"] == {0.5**4}
    assert conv["stage1_block1"] == {0.5**3}
    assert conv["stage2_block1"] == {0.5**2}
    assert conv["stage2_block2"] == {0.5}
    assert conv["act"] == {0.5}
    deep = scales(IResNet(blocks=(1, 2, 1, 1), width=4, dim=4))
    assert deep["stem_conv"] == deep["stem_bn"] == deep["stem_prelu"] == {0.5**6}
    places = [deep[f"layer{name}"] for name in ("1_0", "2_0", "2_1", "3_0", "4_0")]
    assert places == [{0.5**5}, {0.5**4}, {0.5**3}, {0.5**2}, {0.5}]
    assert deep["bn2"] == deep["fc"] == deep["features"] == {0.5}
    swin = scales(Swin(patch=4, dim=4, depths=(1, 2), heads=(1, 2), window=4, embedding=3))
    assert swin["patch_embed"] == swin["patch_norm"] == {0.5**4}
    assert swin["stage0_block0"] == swin["stage0_merge"] == swin["stage0_merge_norm"] == {0.5**3}
    assert (swin["stage1_block0"], swin["stage1_block1"]) == ({0.5**2}, {0.5})
    assert swin["norm"] == swin["feature_0"] == {0.5}
    vit = scales(ViT(patch=8, dim=8, depth=3, heads=2))
    blocks = sorted(k for k in vit if "block" in k)
    assert [vit[k] for k in blocks] == [{0.5**3}, {0.5**2}, {0.5}]
    assert {v for k in set(vit) - set(blocks) for v in vit[k]} == {0.5**4, 0.5}


def test_the_head_learns_at_a_rate_of_its_own():
    params = {"backbone": {"stem": jnp.ones(2), "block_0": jnp.ones(2)}, "head": jnp.ones(2)}
    grads = jax.tree.map(lambda p: 0.5 * p, params)

    def change(**recipe):
        plain = {"momentum": 0.0, "weight_decay": 0.0, "warmup": 0, "schedule": "constant"}
        tx = optim.make(toys.recipe(**plain, lr=0.1, **recipe), 10)
        return jax.tree.map(lambda u: float(u[0]), tx.update(grads, tx.init(params), params)[0])

    faster = change(head_lr_factor=10.0)
    assert faster["backbone"] == pytest.approx({"stem": -0.05, "block_0": -0.05})
    assert faster["head"] == pytest.approx(-0.5)
    both = change(head_lr_factor=4.0, layer_decay=0.5)
    assert both["backbone"] == pytest.approx({"stem": -0.0125, "block_0": -0.025})
    assert both["head"] == pytest.approx(-0.2)


def test_averaged_weights_and_masked_examples():
    """EMA is its recursion; a masked example changes no number."""
    net, task = toys.Net(dropout=0.0, norm=False), toys.Regression()
    tx = toys.optimizer(10, momentum=0.0, weight_decay=0.0, warmup=0, schedule="constant", lr=0.1)
    variables = net.init(jax.random.key(0), jnp.zeros((1, 12, 12, 3)), train=False)
    p = variables["params"]
    state = State(jnp.zeros((), jnp.int32), p, {}, p, tx.init(p))
    full = toys.batch(0, 8)
    padded = {k: np.concatenate([v, v * 0 + 7]) for k, v in full.items()}
    padded["mask"][8:] = 0
    train = jax.jit(step.make_train_step(net, task, tx, ema=0.75))
    a, ma = train(state, full, jax.random.key(1))
    b, mb = train(state, padded, jax.random.key(1))
    assert float(ma["loss"]) == pytest.approx(float(mb["loss"]), rel=1e-6)
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params)):
        np.testing.assert_allclose(x, y, atol=1e-6)

    def loss(params):
        y = net.apply({"params": params}, full["image"] / np.float32(127.5) - 1, train=False)["y"]
        return ((y - full["t"]) ** 2).mean()

    value, grads = jax.value_and_grad(loss)(p)
    assert float(ma["loss"]) == pytest.approx(float(value), rel=1e-5)
    for new, ema, old, g in zip(*map(jax.tree.leaves, (a.params, a.ema, p, grads))):
        np.testing.assert_allclose(new, old - 0.1 * g, atol=1e-6)
        np.testing.assert_allclose(ema, 0.75 * old + 0.25 * np.asarray(new), atol=1e-6)
