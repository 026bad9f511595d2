"""The graph head against a loop over nodes, and that it learns what it is for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.tasks import graph


def by_loop(nodes, k):
    """Row by row, in float64."""
    out = np.zeros((*nodes.shape[:2], nodes.shape[1]))
    for b, x in enumerate(nodes.astype(np.float64)):
        for i in range(len(x)):
            nearest = sorted(range(len(x)), key=lambda j: -(x[i] @ x[j]))[:k]
            out[b, i, nearest] = 1 / k
    return out


@pytest.mark.parametrize("k", [1, 3, 5])
def test_each_node_looks_at_the_k_with_the_largest_products(k):
    nodes = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    got = graph.nearest_nodes(nodes, k)
    np.testing.assert_allclose(got, by_loop(nodes, k), rtol=1e-6)
    assert not np.asarray(jax.grad(lambda x: graph.nearest_nodes(x, k).sum())(nodes)).any()


def test_of_equal_products_none_is_left_out():
    same = jnp.ones((1, 4, 2))
    np.testing.assert_allclose(graph.nearest_nodes(same, 2), np.full((1, 4, 4), 0.25))


@pytest.fixture(scope="module")
def head():
    module = graph.GraphHead(outputs=3, width=4, neighbours=2)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2, 3, 8)), jnp.float32)
    variables = module.init(jax.random.key(0), x, train=True)
    return module, variables, x


def norm(x, stats, params, axis):
    shape = [1] * x.ndim
    shape[axis] = -1
    mean, var, scale, bias = (
        np.asarray(v, np.float64).reshape(shape)
        for v in (stats["mean"], stats["var"], params["scale"], params["bias"])
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def test_the_head_step_by_step(head):
    """In eval mode, with batch statistics that are not 0 and 1, and in float64."""
    module, variables, x = head
    rng = np.random.default_rng(2)
    stats = jax.tree.map(lambda v: rng.uniform(0.5, 1.5, v.shape), variables["batch_stats"])
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["params"])
    got = module.apply({"params": p, "batch_stats": stats}, x, train=False)

    def relu(v):
        return np.maximum(v, 0)

    y = np.asarray(x, np.float64).reshape(5, 6, 8) @ p["shared"]["linear"]["kernel"]
    y = relu(norm(y, stats["shared"]["norm"], p["shared"]["norm"], -1))
    y = y @ p["own"]["linear"]["kernel"]
    y = relu(norm(y, stats["own"]["norm"], p["own"]["norm"], -1))
    nodes = np.stack([y[:, :, 4 * a : 4 * a + 4].mean(1) for a in range(3)], axis=1)
    looked = by_loop(nodes, 2) @ (nodes @ p["others"]["kernel"] + p["others"]["bias"])
    looked = looked + nodes @ p["itself"]["kernel"] + p["itself"]["bias"]
    nodes = relu(nodes + norm(looked, stats["norm"], p["norm"], 1))
    vectors = relu(p["vectors"])
    wanted = [
        [
            node @ vector / max(np.linalg.norm(node) * np.linalg.norm(vector), 1e-24)
            for node, vector in zip(of, vectors)
        ]
        for of in nodes
    ]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)
    assert ((np.asarray(got) >= 0) & (np.asarray(got) <= 1 + 1e-6)).all()


def test_a_dead_node_is_finite(head):
    module, variables, x = head
    params = dict(variables["params"]) | {"vectors": -jnp.ones((3, 4))}

    def total(params, x):
        out = module.apply(
            {"params": params, "batch_stats": variables["batch_stats"]}, x, train=False
        )
        return out.sum(), out

    (_, out), gradient = jax.value_and_grad(total, has_aux=True)(params, x)
    np.testing.assert_array_equal(out, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
