"""Logistic regression on frozen features (or pixels), by convex optimisation in float64.

One softmax over the classes of an expression, or one sigmoid for each action unit, with an L2
penalty on the weights and none on the biases (Hastie, Tibshirani and Friedman, *The Elements of
Statistical Learning*, 2009, section 4.4). The problem has one solution, which L-BFGS finds from
zero, so nothing is drawn. The penalty is chosen by cross-validation inside the training subset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.probes import Batch
from facebench.probes.closed_form import _check_size, inputs, training

#: Penalties that are tried, where rows have a mean squared length of 1 and losses are means.
PENALTIES = tuple(4.0**k for k in range(-8, 2))

#: The penalty where there is nothing to choose one by: a class with a single image.
ALONE = 4.0**-3

FOLDS = 5  # at most
PRECISE, ROUGH = 1e-7, 1e-4  # largest entry of the gradient: of an answer, and of a comparison
ITERATIONS = 5000

#: What each label is answered with: the name of the prediction.
ANSWERS: Mapping[str, str] = MappingProxyType({"au": "probability", "expression": "probability"})

Loss = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def softmax_loss(
    score: np.ndarray, y: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy of rows, and its gradient.

    Args:
        score: [n, C].
        y: [n, C], rows with a single 1.
        known: [n, C], the same in a row: whether it counts.

    Returns:
        [n, 1] losses and [n, C] gradients by `score`.
    """
    shifted = score - score.max(1, keepdims=True)
    total = np.log(np.exp(shifted).sum(1, keepdims=True))
    kept = known[:, :1]
    loss = (total - (shifted * y).sum(1, keepdims=True)) * kept
    return loss, (np.exp(shifted - total) - y) * kept


def sigmoid_loss(
    score: np.ndarray, y: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Binary cross-entropy of every entry, [n, A], and its gradient, [n, A]; see `softmax_loss`."""
    loss = np.maximum(score, 0) - score * y + np.log1p(np.exp(-np.abs(score)))
    return loss * known, (0.5 * (1 + np.tanh(0.5 * score)) - y) * known


def solve(
    x: np.ndarray,
    y: np.ndarray,
    known: np.ndarray,
    penalty: float,
    loss: Loss,
    start: np.ndarray | None = None,
    tolerance: float = PRECISE,
) -> np.ndarray:
    """The weights of least mean loss plus ``penalty / 2`` times their squared length.

    Args:
        x: [n, D] features.
        y: [n, K] targets, 0 or 1.
        known: [n, K], 1 where a target counts, else 0; each column is a mean over its known rows.
        penalty: greater than 0.
        loss: `softmax_loss` or `sigmoid_loss`.
        start: [D + 1, K] to begin from; zeros by default.
        tolerance: largest entry of the gradient at the end.

    Returns:
        [D + 1, K], the bias last.

    Raises:
        FacebenchError: the gradient is not small after `ITERATIONS` steps.
    """
    from scipy import optimize

    d, k = x.shape[1], y.shape[1]
    share = 1.0 / np.maximum(known.sum(0), 1.0)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(d + 1, k)
        each, slope = loss(x @ w[:-1] + w[-1], y, known)
        slope = slope * share
        value = (each * share[: each.shape[1]]).sum() + penalty / 2 * (w[:-1] ** 2).sum()
        grad = np.vstack([x.T @ slope + penalty * w[:-1], slope.sum(0)])
        return float(value), grad.ravel()

    first = np.zeros((d + 1, k)) if start is None else start
    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "maxcor": 20, "ftol": 0.0}
    found = optimize.minimize(
        objective, first.ravel(), jac=True, method="L-BFGS-B", options=options | {"gtol": tolerance}
    )
    slope = float(np.abs(found.jac).max())
    if slope > 10 * tolerance:  # it stops where rounding lets the value fall no further
        raise FacebenchError(
            f"probe 'logistic': no solution after {found.nit} steps at penalty {penalty:g}: the "
            f"gradient is {slope:.2g} still; are the features finite and of like sizes?"
        )
    return np.asarray(found.x.reshape(d + 1, k))


def folds(y: np.ndarray, stratified: bool) -> np.ndarray:
    """The fold of each row, [n], at most `FOLDS`; as alike as can be in every class.

    Args:
        y: [n, K] targets.
        stratified: by class, one to a row; else rows are dealt out in turn.

    Returns:
        Whole numbers from 0 on; all 0 where a class would be left without an example.
    """
    n = len(y)
    label = y.argmax(1) if stratified else np.zeros(n, int)
    count = min(FOLDS, int(np.bincount(label)[np.unique(label)].min()))
    if count < 2:
        return np.zeros(n, int)
    place = np.empty(n, int)
    for value in np.unique(label):
        rows = np.flatnonzero(label == value)
        place[rows] = np.arange(len(rows)) % count
    return place


def choose(
    x: np.ndarray,
    y: np.ndarray,
    known: np.ndarray,
    fold: np.ndarray,
    loss: Loss,
    penalties: Sequence[float] = PENALTIES,
) -> float:
    """The penalty of least loss on held-out folds; of equals the largest.

    From the largest on downwards, each fit beginning with the one before, until two in a row are
    worse than the best.

    Args:
        x: [n, D] features.
        y: [n, K] targets, 0 or 1.
        known: [n, K], 1 where a target counts, else 0.
        fold: of `folds`.
        loss: `softmax_loss` or `sigmoid_loss`.
        penalties: to try.
    """
    if not fold.any():
        return ALONE
    best, at, worse = np.inf, ALONE, 0
    starts: dict[int, np.ndarray] = {}
    for penalty in sorted(penalties, reverse=True):
        total = 0.0
        for out in range(int(fold.max()) + 1):
            rows, rest = fold == out, fold != out
            fitted = _fit(x[rest], y[rest], known[rest], penalty, loss, starts.get(out), ROUGH)
            starts[out] = fitted
            total += float(loss(x[rows] @ fitted[:-1] + fitted[-1], y[rows], known[rows])[0].sum())
        if total < best:
            best, at, worse = total, penalty, 0
        else:
            worse += 1
        if worse == 2:
            break
    return at


def _fit(
    x: np.ndarray,
    y: np.ndarray,
    known: np.ndarray,
    penalty: float,
    loss: Loss,
    start: np.ndarray | None = None,
    tolerance: float = PRECISE,
) -> np.ndarray:
    """`solve`; sigmoids that saw one answer only give it by its share, and never for certain."""
    if loss is softmax_loss:
        return solve(x, y, known, penalty, loss, start, tolerance)
    positive, rows = (y * known).sum(0), known.sum(0)
    both = (positive > 0) & (positive < rows)
    out = np.zeros((x.shape[1] + 1, y.shape[1]))
    out[-1] = np.log((positive + 1) / (rows - positive + 1))
    if both.any():
        begin = None if start is None else start[:, both]
        out[:, both] = solve(x, y[:, both], known[:, both], penalty, loss, begin, tolerance)
    return out


class Logistic:
    """Logistic regression from frozen features, or grey pixels, to labels.

    Args:
        label: ``expression`` (a softmax) or ``au`` (a sigmoid each).
        size: side to average crops to by area; None keeps the crop's pixels.
        classes: of ``expression``; as many as are seen when left out. One that no training image
            shows gets probability 0.
        threshold: of ``au``: intensities from it on are there; one outside [0, 1] is unknown, and
            counts neither way.
        penalty: of the weights, where rows have a mean squared length of 1; 0 chooses one of
            `PENALTIES` by `FOLDS` folds of the training images, or takes `ALONE` where a class has
            one image only.

    Attributes:
        chosen: the penalty that was fitted with.
    """

    def __init__(
        self,
        label: str,
        size: int | None = 32,
        classes: int = 0,
        threshold: float = 0.4,
        penalty: float = 0.0,
    ) -> None:
        if label not in ANSWERS:
            raise UsageError(f"probe 'logistic': label {label!r}: {nearest(label, ANSWERS)}")
        if not 0 <= penalty < np.inf:
            raise UsageError(f"probe 'logistic': penalty is {penalty}, expected 0 or more")
        _check_size("logistic", size)
        self.label, self.size, self.classes = label, size, classes
        self.threshold, self.penalty = threshold, penalty
        self.chosen = 0.0
        self.weights: np.ndarray | None = None
        self.bias = np.empty(0)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learns from the pixels (or features) and the labels of one pass.

        Raises:
            FacebenchError: fewer than two training images, or a label that is not there.
        """
        x, labels = training(batches, self.label, "logistic", self.size)
        y, known = self._targets(labels)
        loss: Loss = softmax_loss if self.label == "expression" else sigmoid_loss
        mean = x.mean(0)
        scale = float(np.sqrt(((x - mean) ** 2).sum(1).mean())) or 1.0
        z = (x - mean) / scale
        # The solution lies in the span of the rows: with few of them that is a small space.
        axes = np.linalg.svd(z, full_matrices=False)[2].T if len(z) < z.shape[1] else None
        z = z if axes is None else z @ axes
        classes = y.shape[1]
        seen = np.flatnonzero(y.any(0)) if self.label == "expression" else np.arange(classes)
        y, known = y[:, seen], known[:, seen]
        self.chosen = self.penalty or choose(
            z, y, known, folds(y, self.label == "expression"), loss
        )
        fitted = _fit(z, y, known, self.chosen, loss)
        weights = (fitted[:-1] if axes is None else axes @ fitted[:-1]) / scale
        self.weights = np.zeros((x.shape[1], classes))
        self.weights[:, seen] = weights
        self.bias = np.full(classes, -np.inf)
        self.bias[seen] = fitted[-1] - mean @ weights

    def _targets(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[n, K] targets, 0 or 1, and which of them are known, 0 or 1."""
        if self.label == "expression":
            classes = self.classes or int(y.max()) + 1
            target = (y[:, None] == np.arange(classes)).astype(np.float64)
            if missed := int((target.sum(1) == 0).sum()):
                raise FacebenchError(
                    f"probe 'logistic': {missed} of {len(y)} training images have a label outside "
                    f"0..{classes - 1}"
                )
            return target, np.ones_like(target)
        known = (y >= 0) & (y <= 1)
        return ((y >= self.threshold) & known).astype(np.float64), known.astype(np.float64)

    @property
    def parameters(self) -> int:
        """The weights and the bias."""
        return 0 if self.weights is None else int(self.weights.size + self.bias.size)

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"probability": [B, C]} float32.

        Raises:
            FacebenchError: not fitted.
        """
        if self.weights is None:
            raise FacebenchError("probe 'logistic' is asked to predict before fit(batches)")
        score = inputs(batch, "logistic", self.size) @ self.weights + self.bias
        if self.label == "au":
            answer = 0.5 * (1 + np.tanh(0.5 * score))
        else:
            answer = np.exp(score - score.max(1, keepdims=True))
            answer = answer / answer.sum(1, keepdims=True)
        return {"probability": answer.astype(np.float32)}
