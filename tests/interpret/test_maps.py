"""Heat maps against brute force and closed forms, and of networks whose place is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from facebench import action_maps
from facebench.errors import FacebenchError, UsageError
from facebench.interpret import layers, maps, measures


class Patches(nn.Module):
    """What is brighter, and what is darker than grey in each patch of 4 px, over 3 channels."""

    @nn.compact
    def __call__(self, image, *, train: bool):
        b, h, w, _ = image.shape
        mean = image.reshape(b, h // 4, 4, w // 4, 4, 3).mean((2, 4))
        return nn.relu(nn.Dense(6, use_bias=False, name="sides")(mean))


class Planted(nn.Module):
    """A linear layer on the flattened patches, or on their mean."""

    pooled: bool = False

    @nn.compact
    def __call__(self, image, *, train: bool):
        x = Patches(name="backbone")(image, train=train)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        read = x.mean((1, 2)) if self.pooled else x.reshape(len(x), -1)
        return {"logits": nn.Dense(2, name="head")(read)}


def images(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise whose mouth is bright in class 1 and dark in class 0, and whose eyes are either."""
    rng = np.random.default_rng(seed)
    made = rng.integers(60, 196, (n, 32, 32, 3))
    label = np.arange(n) % 2
    made[:, 22:27, 11:21] += np.where(label == 1, 55, -55)[:, None, None, None]
    made[:, 10:15, 4:28] += 55 * rng.choice([-1, 1], n)[:, None, None, None]
    return made.astype(np.uint8), label


def weights(pooled: bool = False, seed: int | None = None) -> dict:
    """Variables of `Planted`: its head fitted on images, or drawn."""
    sides = np.concatenate([np.eye(3), -np.eye(3)], 1).astype(np.float32)
    if seed is not None:
        rng = np.random.default_rng(seed)
        kernel, bias = rng.normal(size=(6 if pooled else 384, 2)), np.zeros(2)
    else:
        pixels, label = images(1500, seed=1)
        bright = pixels.astype(float) / 127.5 - 1
        mean = bright.reshape(1500, 8, 4, 8, 4, 3).mean((2, 4))
        x = np.maximum(mean @ sides, 0)
        x = x.mean((1, 2)) if pooled else x.reshape(1500, -1)
        x = np.concatenate([x, np.ones((1500, 1))], 1)
        gram = x.T @ x + 1.0 * np.eye(x.shape[1])
        fitted = np.linalg.solve(gram, x.T @ np.eye(2)[label])
        kernel, bias = fitted[:-1], fitted[-1]
    return {
        "params": {
            "backbone": {"sides": {"kernel": jnp.asarray(sides)}},
            "head": {
                "kernel": jnp.asarray(kernel, jnp.float32),
                "bias": jnp.asarray(bias, jnp.float32),
            },
        }
    }


@pytest.fixture(scope="module")
def flat():
    module, variables = Planted(), weights()
    found = layers.find(module, variables, 32)
    return module, maps.Programs(module, found)


@pytest.fixture(scope="module")
def mean():
    module = Planted(pooled=True)
    found = layers.find(module, weights(pooled=True), 32)
    return module, maps.Programs(module, found)


def feature(image: np.ndarray) -> np.ndarray:
    """The planted network's map, [n, 8, 8, 6], by NumPy."""
    patch = (image / 127.5 - 1).reshape(len(image), 8, 4, 8, 4, 3).mean((2, 4))
    return np.maximum(np.concatenate([patch, -patch], -1), 0)


def test_layers_are_found_once_and_named():
    found = layers.find(Planted(), weights(), 32)
    assert [(x.name, x.grid, x.channels) for x in found] == [
        ("backbone/sides", (8, 8), 6),
        ("backbone", (8, 8), 6),  # and not again as the dropout that is off
    ]
    assert [x.name for x in layers.chosen(found, ["*/sides"])] == ["backbone/sides"]
    with pytest.raises(UsageError, match="did you mean 'backbone/sides'"):
        layers.chosen(found, ["backbone/sidse"])


class Tokens(nn.Module):
    """What transformers return: a class token before 2 x 3 or 4 x 4 patches; and a dict."""

    @nn.compact
    def __call__(self, image, *, train: bool):
        x = nn.Dense(5, name="embed")(image[:, :4, :4].reshape(-1, 16, 3))
        x = nn.LayerNorm(name="twice")(jnp.concatenate([x[:, :1], x], 1))
        same = nn.LayerNorm(name="odd")(x[:, :7])  # 7 = 1 + 6 is no square
        inner = Both(name="both")(x)
        return {"logits": inner["pooled"] + 0 * same.sum((1, 2))[:, None]}


class Both(nn.Module):
    @nn.compact
    def __call__(self, x):
        norm = nn.LayerNorm(name="norm")
        x = norm(norm(x))
        return {"pooled": x[:, 1:].mean(1), "grid": x[:, 1:].reshape(-1, 4, 4, 5)}


def shapes(module: nn.Module):
    """The shapes of a module's variables: all that is needed to find its maps."""
    image = jnp.zeros((1, 8, 8, 3))
    return jax.eval_shape(lambda key: module.init(key, image, train=False), jax.random.key(0))


def test_tokens_calls_and_keys():
    found = {x.name: x for x in layers.find(Tokens(), shapes(Tokens()), 8)}
    assert set(found) == {"embed", "twice", "both/norm", "both/norm@2", "both:grid"}
    assert (found["embed"].skip, found["twice"].skip) == (0, 1)
    x = jnp.arange(2 * 17 * 5.0).reshape(2, 17, 5)
    np.testing.assert_array_equal(found["twice"].as_map(x)[1, 2, 3], x[1, 1 + 2 * 4 + 3])


def test_no_map_is_an_error():
    class Flat(nn.Module):
        @nn.compact
        def __call__(self, image, *, train: bool):
            return {"logits": nn.Dense(2)(image.mean((1, 2)))}

    with pytest.raises(FacebenchError, match="no submodule returns a map"):
        layers.find(Flat(), shapes(Flat()), 8)


def test_interception_changes_no_output(flat):
    module, programs = flat
    image, variables = jnp.asarray(images(4)[0] / 127.5 - 1, jnp.float32), weights()
    plain = module.apply(variables, image, train=False)["logits"]
    zeros = {x.at: jnp.zeros((4, *x.shape)) for x in programs.layers}
    moved, read = layers.moved(module, variables, image, zeros)
    np.testing.assert_array_equal(moved["logits"], plain)
    assert set(read) == {"backbone", "backbone/sides"}
    ones = zeros | {"backbone": jnp.ones((4, 8, 8, 6))}
    assert not np.allclose(layers.moved(module, variables, image, ones)[0]["logits"], plain)


def test_cam_of_a_linear_head_is_brute_force(flat, mean):
    image, label = images(6)
    F = feature(image)
    for (_, programs), pooled in ((flat, False), (mean, True)):
        variables = weights(pooled)
        W = np.asarray(variables["params"]["head"]["kernel"])
        b = np.asarray(variables["params"]["head"]["bias"])
        found = programs.explain(variables, image, label)
        for n in range(6):
            for i in range(8):
                for j in range(8):
                    row = W if pooled else W.reshape(8, 8, 6, 2)[i, j]
                    cell = F[n, i, j] @ row[:, label[n]] / (64 if pooled else 1)
                    assert found["heat"]["backbone"]["cam"][n, i, j] == pytest.approx(
                        cell, abs=1e-5
                    )
        total = found["heat"]["backbone"]["cam"].sum((1, 2)) + b[label]
        np.testing.assert_allclose(total, found["scores"][np.arange(6), label], atol=1e-5)


def test_gradcam_of_a_mean_and_a_linear_layer_is_its_cam(mean):
    _, programs = mean
    image, label = images(6)
    heat = programs.explain(weights(True), image, label)["heat"]["backbone"]
    np.testing.assert_allclose(heat["gradcam"], np.maximum(heat["cam"], 0), atol=1e-6)


def test_heat_against_loops():
    rng = np.random.default_rng(0)
    F, G = rng.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    F = np.abs(F)
    found = maps.heat(jnp.asarray(F), jnp.asarray(G))
    for n in range(2):
        cam, layer, plus = np.zeros((3, 4)), np.zeros((3, 4)), np.zeros((3, 4))
        for d in range(5):
            f, g = F[n, :, :, d], G[n, :, :, d]
            alpha = g**2 / (2 * g**2 + f.sum() * g**3)
            cam += g.mean() * f
            plus += (alpha * np.maximum(g, 0)).sum() * f
            layer += np.maximum(g, 0) * f
        np.testing.assert_allclose(found["gradcam"][n], np.maximum(cam, 0), atol=1e-5)
        np.testing.assert_allclose(found["gradcam++"][n], np.maximum(plus, 0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["layercam"][n], layer, atol=1e-5)
        np.testing.assert_allclose(found["attention"][n], F[n].mean(-1), atol=1e-6)
    nothing = maps.heat(jnp.asarray(F), jnp.zeros_like(G))
    assert all(np.isfinite(m).all() for m in nothing.values())


def test_only_an_affine_end_has_a_cam(flat):
    """What comes after the ReLU is linear; before it, it is not."""
    _, programs = flat
    image, variables = images(2)[0], weights()
    before, after = programs.layers
    assert programs.affine(variables, image, after, 1.0) < maps.NOT_AFFINE["float32"]
    assert programs.affine(variables, image, before, 1.0) > 0.05


def test_patches_look_where_they_stand(flat):
    _, programs = flat
    rows, columns = programs.field(weights(), images(32)[0], programs.layers[1])
    np.testing.assert_allclose(rows, np.arange(8) * 4 + 1.5, atol=1e-4)
    np.testing.assert_allclose(columns, np.arange(8) * 4 + 1.5, atol=1e-4)


class Strided(nn.Module):
    """A 3 x 3 convolution of stride 4, padded by 1: cell i looks at pixels 4 i - 1 to 4 i + 1."""

    @nn.compact
    def __call__(self, image, *, train: bool):
        x = nn.Conv(4, (3, 3), 4, ((1, 1), (1, 1)), kernel_init=nn.initializers.ones, name="conv")(
            image
        )
        return {"logits": nn.Dense(2)(x.mean((1, 2)))}


def test_a_padded_stride_looks_aside():
    image = images(32)[0]
    start = jax.jit(lambda key: Strided().init(key, jnp.zeros((1, 32, 32, 3)), train=False))
    variables = start(jax.random.key(0))
    programs = maps.Programs(Strided(), layers.find(Strided(), variables, 32))
    rows, columns = programs.field(variables, image, programs.layers[0])
    expected = np.arange(8) * 4.0
    expected[0] = 0.5  # its upper row is padding
    np.testing.assert_allclose(rows, expected, atol=1e-4)
    np.testing.assert_allclose(columns, expected, atol=1e-4)


def scored(programs, variables, face) -> dict[str, float]:
    """How maps compare with the AUs of the mouth, on average."""
    image, label = images(40, seed=3)
    heat = programs.explain(variables, image, label)["heat"]["backbone"]
    where = np.repeat(action_maps.maps(face, 32, 32, (26,)), 40, axis=0)
    found = {}
    for method in ("cam", "layercam"):
        fine = measures.resample(measures.positive(heat[method]), 32)
        found[method] = float(np.nanmean(measures.cosine(fine, where)))
        found[f"{method} pointing"] = float(np.nanmean(measures.pointing(fine, where >= 0.5)))
    return found


def test_a_network_that_reads_the_mouth_is_found_out(flat, face):
    """Fitted on images whose mouth alone tells the class; drawn weights look everywhere."""
    _, programs = flat
    fitted = scored(programs, weights(), face)
    assert min(fitted["cam"], fitted["layercam"]) > 0.6
    assert min(fitted["cam pointing"], fitted["layercam pointing"]) > 0.95
    for seed in range(3):
        drawn = scored(programs, weights(seed=seed), face)
        assert max(drawn["cam"], drawn["layercam"]) < 0.5
        assert max(drawn["cam pointing"], drawn["layercam pointing"]) < 0.7


def test_scores_are_asked_for_by_name(flat):
    module, programs = flat
    other = maps.Programs(module, programs.layers, output="logit")
    with pytest.raises(FacebenchError, match="did you mean 'logits'"):
        other.explain(weights(), *images(2))
