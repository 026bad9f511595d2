"""Ridge regression on pixels or frozen features, and the floors and canaries made of it.

The closed form of least squares with an L2 penalty on standardised grey pixels, or on the features
of a frozen backbone as they are; the penalty is the one with the least leave-one-out error, which
the same decomposition gives for nothing (Hastie, Tibshirani and Friedman, *The Elements of
Statistical Learning*, 2009, section 7.10, eq. 7.64).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.probes import Batch
from facebench.probes.closed_form import _check_size, _field, inputs, training

#: Penalties that are tried, in units of the mean squared length of the centred rows.
PENALTIES = tuple(4.0**k for k in range(-6, 5))

#: What each label is answered with: the name of the prediction.
ANSWERS: Mapping[str, str] = MappingProxyType(
    {"au": "probability", "expression": "probability", "points": "points"}
)


def solve(x: np.ndarray, y: np.ndarray, penalties: Iterable[float] = PENALTIES) -> tuple:
    """Ridge weights with the penalty of least leave-one-out error.

    Args:
        x: [n, D] features, n >= 2.
        y: [n, K] targets.
        penalties: each is multiplied by the mean squared length of the centred rows of `x`; of
            equal errors the largest penalty wins.

    Returns:
        weights [D, K], bias [K], the penalty [multiple], its leave-one-out mean squared error.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, d = x.shape
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, target = x - mean_x, y - mean_y
    # The smaller of the two products: over samples (dual) or over features (primal).
    values, vectors = np.linalg.eigh(x @ x.T if n <= d else x.T @ x)
    values = np.maximum(values, 0.0)
    scale = max(float(values.sum()) / n, 1e-12)
    rows = vectors * np.sqrt(values) if n <= d else x @ vectors
    projected = rows.T @ target
    best: tuple[float, float, np.ndarray] | None = None
    for penalty in sorted(penalties, reverse=True):
        answer = projected / (values + penalty * scale)[:, None]
        hat = (rows * rows) @ (1.0 / (values + penalty * scale)) + 1.0 / n  # the bias: 1/n each
        residual = (target - rows @ answer) / (1.0 - hat)[:, None]
        error = float((residual * residual).mean())
        if best is None or error < best[1]:
            best = penalty, error, answer
    assert best is not None
    if n <= d:  # from the samples' side to the features': x^T U (values + penalty)^-1 U^T y
        dual = target - rows @ best[2]
        weights = x.T @ dual / (best[0] * scale)
    else:
        weights = vectors @ best[2]
    return weights, mean_y - mean_x @ weights, best[0], best[1]


class Ridge:
    """Ridge regression from grey pixels, or frozen features, to labels.

    Args:
        label: ``points`` (landmarks), ``expression`` (one number per class) or ``au``.
        size: side to average crops to by area; None keeps the crop's pixels.
        classes: of ``expression``; as many as are seen when left out.
        constant: see no pixel: every image gets the mean of the training labels. A floor.
        permuted: a canary: labels go to the wrong images, by a permutation that depends on their
            number alone. What it scores above chance, the protocol gives away.
        threshold: of ``au``: intensities from it on count as 1, others as 0; None fits the
            intensities themselves.
    """

    def __init__(
        self,
        label: str,
        size: int | None = 32,
        classes: int = 0,
        constant: bool = False,
        permuted: bool = False,
        threshold: float | None = None,
    ) -> None:
        if threshold is not None and label != "au":
            raise UsageError(f"probe 'ridge': threshold belongs to label 'au', not to {label!r}")
        if label not in ANSWERS:
            raise UsageError(f"probe 'ridge': label {label!r}: {nearest(label, ANSWERS)}")
        _check_size("ridge", size)
        self.label, self.size, self.classes = label, size, classes
        self.constant, self.permuted, self.threshold = constant, permuted, threshold
        self.weights: np.ndarray | None = None
        self.bias = np.empty(0)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learns from the pixels (or features) and the labels of one pass.

        Raises:
            FacebenchError: fewer than two training images, or a label that is not there.
        """
        x, labels = training(batches, self.label, "ridge", self.size)
        y = self._targets(labels)
        if self.permuted:
            draws = np.random.Generator(np.random.Philox(key=len(y)))
            y = y[np.argsort(draws.random(len(y)), kind="stable")]
        if self.constant:
            self.weights, self.bias = np.zeros((x.shape[1], 0)), y.mean(0)
            return
        self.weights, self.bias, *_ = solve(x, y)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        if self.label == "expression":
            classes = self.classes or int(y.max()) + 1
            return (y[:, None] == np.arange(classes)).astype(np.float64)
        if self.label == "au":
            if unknown := int((~((y >= 0) & (y <= 1))).any(axis=1).sum()):
                raise FacebenchError(
                    f"probe 'ridge': {unknown} of {len(y)} training images have an action unit of "
                    "unknown intensity; least squares needs all of them"
                )
            return (y if self.threshold is None else y >= self.threshold).astype(np.float64)
        return y.reshape(len(y), -1).astype(np.float64)

    @property
    def parameters(self) -> int:
        """The weights and the bias."""
        return 0 if self.weights is None else int(self.weights.size + self.bias.size)

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"points": [B, K, 2]} in original pixels, {"probability": [B, C]} or, of ``au`` without
        a threshold, {"intensity": [B, A]}; float32.

        Raises:
            FacebenchError: not fitted.
        """
        if self.weights is None:
            raise FacebenchError("probe 'ridge' is asked to predict before fit(batches)")
        x = inputs(batch, "ridge", self.size)
        y = np.broadcast_to(self.bias, (len(x), len(self.bias)))
        if self.weights.shape[1]:
            y = x @ self.weights + self.bias
        if self.label == "points":
            points = y.reshape(len(y), -1, 2)
            matrix = _field(batch, "to_image", "ridge").astype(np.float64)
            y = np.einsum("bkj,bij->bki", points, matrix[:, :, :2]) + matrix[:, None, :, 2]
        elif self.label == "expression":
            y = np.clip(y, 0.0, 1.0) + 1e-6
            y = y / y.sum(1, keepdims=True)
        else:
            y = np.clip(y, 0.0, 1.0)
        name = ANSWERS[self.label]
        if self.label == "au" and self.threshold is None:
            name = "intensity"
        return {name: np.asarray(y).astype(np.float32)}


class AllPositive:
    """The floor of action units: every one of them is found in every image.

    It looks for nothing, and still its F1 is 2 p / (1 + p) where a share p of the images has it.
    """

    def __init__(self) -> None:
        self.units: int | None = None

    def fit(self, batches: Iterable[Batch]) -> None:
        """Counts the action units of ``au`` [B, A].

        Raises:
            FacebenchError: there is no training image.
        """
        for batch in batches:
            self.units = _field(batch, "au", "all_positive").shape[1]
        if self.units is None:
            raise FacebenchError("probe 'all_positive': there is no training image to fit on")

    @property
    def parameters(self) -> int:
        """None is learnt."""
        return 0

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"probability": [B, A] float32}, all 1.

        Raises:
            FacebenchError: not fitted.
        """
        if self.units is None:
            raise FacebenchError("probe 'all_positive' is asked to predict before fit(batches)")
        rows = len(batch["features" if "features" in batch else "image"])
        return {"probability": np.ones((rows, self.units), np.float32)}


class Constant:
    """The floor of recognition: every image gets the same embedding, so nothing is told apart."""

    parameters = 0

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learns nothing; the batches are not read."""

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"embedding": [B, 2] float32}, (1, 0) for every image."""
        rows = len(_field(batch, "image", "constant"))
        return {"embedding": np.tile(np.array([[1.0, 0.0]], np.float32), (rows, 1))}


class Shuffled:
    """The canary of recognition: an embedding that has nothing to do with who is shown.

    A direction drawn from the bytes of the crop: the same picture gets the same one, another
    picture of the same person an independent one.

    Args:
        dimensions: of the embedding.
    """

    parameters = 0

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learns nothing; the batches are not read."""

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"embedding": [B, dimensions] float32 of length 1}."""
        import hashlib

        out = []
        for image in _field(batch, "image", "shuffled"):
            key = int.from_bytes(hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()[:8])
            out.append(np.random.Generator(np.random.Philox(key=key)).normal(size=self.dimensions))
        x = np.stack(out)
        return {"embedding": (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)}
