"""Heat maps of a class from the maps inside a network and the gradients of the class's score.

With F [h, w, D] a map, s the score (logit) of the class and G = ds/dF:

* ``cam``: sum over d of F G, where s is an affine function of F. Position by position it is what
  the place adds to the score; of a mean and a linear layer it is the class activation map of Zhou
  et al. (CVPR 2016) divided by h w. It may be negative.
* ``gradcam``: ReLU of the sum over d of F times the mean of G over the map (Selvaraju et al., ICCV
  2017).
* ``gradcam++``: ReLU of the sum over d of F times the sum over the map of a ReLU(G), with
  a = G^2 / (2 G^2 + G^3 sum over the map of F) (Chattopadhay et al., WACV 2018, equation 19, for
  the score exp(s), whose factor exp(s) is left out: it scales the whole map).
* ``layercam``: ReLU of the sum over d of F ReLU(G) (Jiang et al., TIP 2021).
* ``attention``: the mean over d of F, whatever the class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from facebench.errors import FacebenchError, nearest
from facebench.interpret import layers as lib
from facebench.interpret.layers import Layer
from facebench.interpret.measures import Centres
from facebench.interpret.measures import centres as tiled
from facebench.train.step import normalize

Array = jax.Array

#: What a heat map may be called, in the order in which they are shown.
METHODS = ("cam", "gradcam", "gradcam++", "layercam", "attention")

PROBES = 8  # rows and columns that `Programs.field` looks at

TINY = 1e-30  # keeps 0 / 0 from becoming NaN


def heat(features: Array, gradients: Array) -> dict[str, Array]:
    """Every heat map of `METHODS` from a map and its gradients.

    Args:
        features: [B, h, w, D] float32.
        gradients: of the score with respect to them, [B, h, w, D] float32.

    Returns:
        [B, h, w] by name; ``cam`` means something only where the score is affine in the map.
    """
    mean = gradients.mean((1, 2), keepdims=True)
    total = features.sum((1, 2), keepdims=True)
    square = gradients**2
    below = 2 * square + square * gradients * total
    alpha = jnp.where(jnp.abs(below) > TINY, square / jnp.where(below == 0, 1, below), 0)
    weight = (alpha * jax.nn.relu(gradients)).sum((1, 2), keepdims=True)
    return {
        "cam": (features * gradients).sum(-1),
        "gradcam": jax.nn.relu((features * mean).sum(-1)),
        "gradcam++": jax.nn.relu((features * weight).sum(-1)),
        "layercam": jax.nn.relu((features * jax.nn.relu(gradients)).sum(-1)),
        "attention": features.mean(-1),
    }


class Programs:
    """What is computed of a network, compiled once each.

    Args:
        module: called as ``module(image, train=False)``, returns a dict.
        layers: which maps are read.
        output: the key of the class scores [B, C] in that dict.

    Attributes:
        layers: as given.
    """

    def __init__(self, module: nn.Module, layers: Sequence[Layer], output: str = "logits") -> None:
        self.layers = tuple(layers)
        self._module, self._output = module, output
        self._explain = jax.jit(self._explained)
        self._forward = jax.jit(self._moved)
        self._look_back = jax.jit(jax.grad(self._read))

    def _scores(self, outputs: Mapping[str, Array]) -> Array:
        if self._output not in outputs or outputs[self._output].ndim != 2:
            found = {k: list(v.shape) for k, v in outputs.items() if hasattr(v, "shape")}
            raise FacebenchError(
                f"{type(self._module).__name__} returns no scores {self._output!r} [B, C]: "
                f"{nearest(self._output, found)}"
            )
        return outputs[self._output].astype(jnp.float32)

    def _zeros(self, rows: int) -> dict[str, Array]:
        return {layer.at: jnp.zeros((rows, *layer.shape), jnp.float32) for layer in self.layers}

    def _explained(self, variables: Any, image: Array, label: Array) -> dict[str, Any]:
        def score(deltas: Mapping[str, Array]) -> tuple[Array, Any]:
            outputs, read = lib.moved(self._module, variables, normalize(image), deltas)
            scores = self._scores(outputs)
            # A sum over the batch: no example's score depends on another's map in eval mode.
            return jnp.take_along_axis(scores, label[:, None], 1).sum(), (scores, read)

        grads, (scores, read) = jax.grad(score, has_aux=True)(self._zeros(len(image)))
        found: dict[str, Any] = {"scores": scores, "heat": {}, "slope": {}, "peak": {}}
        for layer in self.layers:
            features, gradients = (layer.as_map(tree[layer.at]) for tree in (read, grads))
            found["heat"][layer.name] = heat(features, gradients)
            found["slope"][layer.name] = jnp.abs(gradients).max()
            found["peak"][layer.name] = jnp.abs(features).max()
        return found

    def _moved(self, variables: Any, image: Array, deltas: Mapping[str, Array]) -> Array:
        return self._scores(lib.moved(self._module, variables, normalize(image), deltas)[0])

    def explain(self, variables: Any, image: np.ndarray, label: np.ndarray) -> dict[str, Any]:
        """Scores and heat maps of a batch.

        Args:
            variables: of the module.
            image: [B, S, S, 3] uint8.
            label: [B], the class whose score is followed back.

        Returns:
            ``scores`` [B, C]; ``heat``, by layer and then by method [B, h, w]; and by layer the
            largest absolute gradient ``slope`` and value ``peak``.
        """
        return jax.device_get(self._explain(variables, image, np.asarray(label, np.int32)))

    def scores(self, variables: Any, image: np.ndarray) -> np.ndarray:
        """The scores [B, C] of images [B, S, S, 3] uint8."""
        return np.asarray(self._forward(variables, image, {}))

    def _read(self, image: Array, variables: Any, weights: Mapping[str, Array]) -> Array:
        zeros = self._zeros(len(image))
        _, read = lib.moved(self._module, variables, image, zeros)
        parts = [layer.as_map(read[layer.at]) * weights[layer.at] for layer in self.layers]
        return sum((part.sum() for part in parts), jnp.zeros(()))

    def field(self, variables: Any, image: np.ndarray, layer: Layer) -> Centres:
        """Where the rows and the columns of a map look: the middle of what moves their features.

        Of `PROBES` rows at most the features are added up with random signs, and followed back to
        the pixels; the middle is the mean place, weighted by the squared gradient (the effective
        receptive field of Luo et al., NeurIPS 2016). Rows between them are interpolated. It
        differs from a tiling by what padding and strides do: a 3 x 3 convolution of stride 2 that
        pads both sides by 1 looks at the upper left of each of its cells.

        Args:
            variables: of the module.
            image: [B, S, S, 3] uint8; B at least twice `PROBES`. Each image serves one row or
                column.
            layer: whose map.

        Returns:
            ascending places of the rows [h] and of the columns [w], pixels of the crop; those of
            ``cells`` where no order can be seen.
        """
        rng, (h, w) = np.random.default_rng(0), layer.grid
        signs = rng.choice(np.array([-1, 1], np.float32), (len(image), h, w, layer.channels))
        half = len(image) // 2
        probes = [np.linspace(0, n - 1, min(n, PROBES)).round().astype(int) for n in (h, w)]
        turn = [probes[k][np.arange(half) % len(probes[k])] for k in (0, 1)]
        on = np.zeros((len(image), h, w, 1), np.float32)
        for i in range(half):
            on[i, turn[0][i]] = 1
            on[half + i, :, turn[1][i]] = 1
        weights = {x.at: np.zeros((1, *x.grid, x.channels), np.float32) for x in self.layers}
        seen = self._look_back(
            normalize(jnp.asarray(image)), variables, weights | {layer.at: signs * on}
        )
        energy = np.asarray(seen, np.float64)[: 2 * half] ** 2
        place, made = np.arange(energy.shape[1]), []
        for k, n in enumerate((h, w)):
            mine = energy[k * half : (k + 1) * half].sum((3, 2 - k))
            total = mine.sum(1)
            if not (total > 0).all():
                return tiled((h, w), energy.shape[1])
            middle = (mine * place).sum(1) / total
            known = [middle[turn[k] == i].mean() for i in probes[k]]
            if (np.diff(known) <= 0).any():
                return tiled((h, w), energy.shape[1])
            made.append(np.interp(np.arange(n), probes[k], known))
        return made[0], made[1]

    def affine(self, variables: Any, image: np.ndarray, layer: Layer, peak: float) -> float:
        """How far the scores are from an affine function of a map; 0 where they are one.

        Two random moves of the map as large as its largest value are made alone and together.

        Args:
            variables: of the module.
            image: [B, S, S, 3] uint8; two of them are enough.
            layer: whose map.
            peak: its largest absolute value.

        Returns:
            the largest difference between the sum of the changes and the change of the sum, over
            the largest change.
        """
        rng = np.random.default_rng(0)
        shape = (len(image), *layer.shape)
        one, two = rng.uniform(-peak, peak, (2, *shape)).astype(np.float32)

        def at(delta: np.ndarray) -> np.ndarray:
            scores = self._forward(variables, image, {layer.at: delta})
            return np.asarray(scores, np.float64)

        rest = at(np.zeros(shape, np.float32))
        changes = [at(delta) - rest for delta in (one, two, one + two)]
        largest = max(float(np.abs(change).max()) for change in changes)
        if largest == 0:
            return float("inf")  # nothing follows from it: there is no map to make
        return float(np.abs(changes[0] + changes[1] - changes[2]).max()) / largest


#: From here on the scores do not count as an affine function of a map (float32; bfloat16).
NOT_AFFINE: Mapping[str, float] = {"float32": 1e-3, "bfloat16": 5e-2}


def follow(scores: Callable[[np.ndarray], np.ndarray], rows: int) -> Callable[..., np.ndarray]:
    """`scores` for any number of images, `rows` at a time, the last ones filled up."""

    def of(images: np.ndarray) -> np.ndarray:
        made = []
        for first in range(0, len(images), rows):
            part = images[first : first + rows]
            filled = part[np.minimum(np.arange(rows), len(part) - 1)]
            made.append(scores(filled)[: len(part)])
        return np.concatenate(made)

    return of
