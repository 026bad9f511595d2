"""Weights of published nets without the files: each entry is drawn from its own name."""

from __future__ import annotations

import functools
import zlib

import jax
import numpy as np
import pytest
from flax import traverse_util

from facebench import models


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An entry of a state dict, as the README of the oracle files has the rule."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    n = rng.standard_normal(shape)
    scale = np.sqrt(1 / np.prod(shape[1:], dtype=float))
    if leaf == "running_mean":
        n *= 0.1
    elif leaf == "bias":
        n *= 0.05
    elif leaf != "weight":
        n *= 0.02
    elif len(shape) == 4:
        n *= np.sqrt(2) * scale
    elif len(shape) != 1:
        n *= scale
    elif ".bn3." in name:
        n = 0.2 + 0.02 * n
    elif "prelu" in name:
        n = 0.25 + 0.05 * n
    else:
        n = 1 + 0.1 * n
    return n.astype(np.float32)


def torch_shape(shape, how):
    """The shape in PyTorch of a variable."""
    kind, *rest = how if isinstance(how, tuple) else (how,)
    if kind == "conv":
        return (shape[3], shape[2], *shape[:2])
    if kind == "patch":
        return (shape[1], shape[0] // rest[0] ** 2, rest[0], rest[0])
    return shape if kind == "same" else shape[::-1]


class Published:
    """A net beside what is published of it."""

    def __init__(self, net, names, size=112):
        self.net, self.names, self.size = net, names, size
        outputs, variables = models.shapes(net, size)
        self.outputs = outputs
        self.variables = traverse_util.flatten_dict(variables, sep="/")

    def count(self):
        """Parameters as PyTorch counts them: without running statistics, with what is frozen."""
        theirs = {path: key for path, (key, _) in self.names.items() if ".running_" not in key}
        return sum(self.variables[path].size for path in theirs)

    def keys(self):
        """Entries of the state dict; each norm with statistics has a num_batches_tracked too."""
        keys = [key for key, _ in self.names.values()]
        assert len(set(keys)) == len(keys)
        assert set(self.names) == set(self.variables)
        return len(keys) + sum(key.endswith("running_mean") for key in keys)

    def state(self):
        """A state dict by the rule."""
        return {
            key: draw(key, torch_shape(self.variables[path].shape, how))
            for path, (key, how) in self.names.items()
        }


@pytest.fixture(scope="session")
def published():
    return Published


@pytest.fixture(scope="session")
def evaluate():
    """Outputs in eval mode for images in PyTorch's order of axes."""

    def run(net, variables, nchw):
        apply = jax.jit(lambda v, x: net.apply(v, x, train=False))
        return jax.tree.map(np.asarray, apply(variables, np.moveaxis(nchw, 1, 3)))

    return run


@pytest.fixture(scope="session")
def near():
    """Asserts that two arrays differ by at most `rel` of the largest entry."""

    def check(got, want, rel=1e-5):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=rel * np.abs(want).max())

    return check


@pytest.fixture(scope="session")
def drawn():
    """Variables of a net that are not those of an initialisation, nor compiled like one."""

    def make(net, *inputs, seed=0):
        rng = np.random.default_rng(seed)

        def one(path, leaf):
            n, name = rng.normal(size=leaf.shape), jax.tree_util.keystr(path)
            if "kernel" in name:
                n /= np.sqrt(np.prod(leaf.shape[:-1]))
            elif "var" in name:
                n = np.exp(0.3 * n)
            else:
                n = 0.2 * n + ("scale" in name)
            return n.astype(np.float32)

        init = functools.partial(net.init, train=False)
        return jax.tree_util.tree_map_with_path(
            one, jax.eval_shape(init, jax.random.key(0), *inputs)
        )

    return make
