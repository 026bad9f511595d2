"""Coordinate regression: units, origin, mapping back to the image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench import models, tasks
from facebench.losses import landmarks as losses
from facebench.tasks import Spec
from facebench.tasks.landmarks import LandmarkNet, apply_affine


def head_output(bias, size):
    """What the net returns for a head whose kernel is zero and whose bias is given."""
    net = LandmarkNet(models.build("convnet", {"widths": (2,), "blocks": (0,)}), 2, size)
    _, shapes = models.shapes(net, size)
    variables = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    variables["params"]["head"]["bias"] = jnp.asarray(bias, jnp.float32)
    return net.apply(variables, jnp.zeros((1, size, size, 3)), train=False)["points"][0]


def test_minus_one_and_one_are_the_centres_of_the_first_and_last_pixel():
    got = head_output([-1, 1, 0, 0.5], 8)
    np.testing.assert_allclose(got, [[0, 7], [3.5, 5.25]], atol=1e-6)


@pytest.mark.parametrize("loss", sorted(losses.LOSSES))
def test_the_loss_does_not_depend_on_the_size_of_the_crop(loss):
    rng = np.random.default_rng(0)
    points, target = rng.uniform(0, 1, (2, 3, 4, 2)).astype(np.float32)
    visible = np.ones((3, 4), np.float32)
    got = []
    for size in (32, 256):
        task = tasks.build("landmarks", Spec(size=size, points=4), {"loss": loss})
        scale = size - 1
        batch = {"points": jnp.asarray(target * scale), "visible": jnp.asarray(visible)}
        value, scalars = task.loss({"points": jnp.asarray(points * scale)}, batch)
        got.append(value)
        distance = np.linalg.norm((points - target) * scale, axis=-1).mean(1)
        np.testing.assert_allclose(scalars["pixel_error"], distance, rtol=1e-5)
    np.testing.assert_allclose(got[0], got[1], rtol=1e-4)


def test_wing_is_the_papers_in_pixels_of_a_crop_of_257():
    """Half a crop side is 128 px there, so w = 10 px and epsilon = 2 px."""
    rng = np.random.default_rng(0)
    points, target = rng.uniform(0, 256, (2, 3, 4, 2)).astype(np.float32)
    task = tasks.build("landmarks", Spec(size=257, points=4), {"loss": "wing"})
    batch = {"points": jnp.asarray(target), "visible": jnp.ones((3, 4))}
    value, _ = task.loss({"points": jnp.asarray(points)}, batch)
    error = np.abs(points.astype(float) - target)
    wing = np.where(error < 10, 10 * np.log1p(error / 2), error - 10 + 10 * np.log1p(5))
    np.testing.assert_allclose(128 * value, wing.mean((1, 2)), rtol=1e-5)


def test_parameters_of_the_loss_are_used():
    task = tasks.build("landmarks", Spec(size=3, points=1), {"loss": "smooth_l1", "beta": 0.5})
    batch = {"points": jnp.zeros((1, 1, 2)), "visible": jnp.ones((1, 1))}
    value, _ = task.loss({"points": jnp.asarray([[[0.25, 2.0]]])}, batch)
    np.testing.assert_allclose(value, [(0.25**2 / 2 / 0.5 + 1.75) / 2])


def test_invisible_points_may_be_nan():
    task = tasks.build("landmarks", Spec(size=9, points=2))
    target = jnp.asarray([[[1.0, 2.0], [jnp.nan, jnp.nan]], [[jnp.nan] * 2] * 2])
    batch = {"points": target, "visible": jnp.asarray([[1.0, 0.0], [0.0, 0.0]])}
    value, scalars = task.loss({"points": jnp.asarray([[[4.0, 6.0], [0, 0]]] * 2)}, batch)
    assert np.isfinite(value).all()
    assert value[1] == 0
    np.testing.assert_allclose(scalars["pixel_error"], [5.0, 0.0])


def test_predictions_are_in_the_original_image():
    rng = np.random.default_rng(0)
    points, matrix = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 2, 3))
    task = tasks.build("landmarks", Spec(size=9, points=5))
    got = task.predict(
        {"points": jnp.asarray(points, jnp.float32)},
        {"to_image": jnp.asarray(matrix, jnp.float32)},
    )["points"]
    for b in range(3):
        for k in range(5):
            expected = matrix[b] @ [*points[b, k], 1.0]
            np.testing.assert_allclose(got[b, k], expected, rtol=1e-5, atol=1e-6)


def test_the_map_to_a_large_image_is_exact_to_float32():
    points = jnp.asarray([[[63.3, 0.7]]], jnp.float32)
    matrix = jnp.asarray([[[61.7, 0.01, 4021.0], [-0.01, 61.7, 17.0]]], jnp.float32)
    exact = [61.7 * 63.3 + 0.01 * 0.7 + 4021, -0.01 * 63.3 + 61.7 * 0.7 + 17]
    np.testing.assert_allclose(apply_affine(matrix, points)[0, 0], exact, rtol=3e-7)
    assert apply_affine(matrix, points).dtype == jnp.float32


def test_number_of_parameters_of_the_head():
    backbone = {"widths": (4, 8), "blocks": (0, 1)}
    for features, width in (("pooled", 8), ("spatial", 4 * 4 * 8), ("both", 8 + 4 * 4 * 8)):
        task = tasks.build("landmarks", Spec(size=16, points=5), {"features": features})
        _, variables = models.shapes(task.module(models.build("convnet", backbone)), 16)
        assert models.parameter_count(variables["params"]["head"]) == (width + 1) * 10


def test_training_starts_at_the_centre_of_the_crop():
    task = tasks.build("landmarks", Spec(size=8, points=3))
    net = task.module(models.build("convnet", {"widths": (2,), "blocks": (0,)}))
    image = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    outputs, _ = jax.jit(lambda k, x: net.init_with_output(k, x, train=False))(
        jax.random.key(1), image
    )
    np.testing.assert_array_equal(outputs["points"], np.full((2, 3, 2), 3.5))


def test_equal_weights_at_all_positions_are_the_pooled_head():
    rng = np.random.default_rng(0)
    kwargs = {"widths": (3,), "blocks": (0,)}
    image = jnp.asarray(rng.uniform(-1, 1, (2, 8, 8, 3)), jnp.float32)
    kernel = rng.normal(size=(3, 4)).astype(np.float32)
    got = {}
    for features, copies in (("pooled", 1), ("spatial", 4 * 4)):
        task = tasks.build("landmarks", Spec(size=8, points=2), {"features": features})
        net = task.module(models.build("convnet", kwargs))
        _, shapes = models.shapes(net, 8)
        draw = np.random.default_rng(1)
        backbone = jax.tree.map(
            lambda s, draw=draw: np.abs(draw.normal(size=s.shape)).astype(np.float32),
            {k: v.get("backbone") for k, v in shapes.items()},
        )
        variables = {k: {"backbone": v} for k, v in backbone.items()}
        variables["params"]["head"] = {
            "kernel": np.tile(kernel, (copies, 1)),
            "bias": np.zeros(4, np.float32),
        }
        got[features] = net.apply(variables, image, train=False)["points"]
    assert np.ptp(got["pooled"]) > 1
    np.testing.assert_allclose(got["spatial"], got["pooled"], rtol=1e-4, atol=1e-4)
