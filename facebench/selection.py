"""What is chosen on dev, where the protocol says so: the step that is reported, and thresholds.

Ten steps at equal distances, the last one among them, are candidates. At each of them dev is
predicted, and the judge scores that as it would score test; the best by the primary metric is
reported, of equals the earlier one. Test is predicted once, after the choice.

A protocol that stores ``threshold`` wants one per action unit, from which its probability counts as
a yes: that with the largest F1 on dev, for the very weights that predict test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from facebench import files
from facebench import protocol as protocols
from facebench.data import source, subsets, targets
from facebench.errors import FacebenchError
from facebench.leaderboard import judge
from facebench.protocol import Protocol
from facebench.train.state import State

CANDIDATES = 10


def candidates(steps: int) -> tuple[int, ...]:
    """The steps that may be chosen, ascending, the last one of a training among them."""
    return tuple(sorted({-(-steps * i // CANDIDATES) for i in range(1, CANDIDATES + 1)}))


def dev(
    protocol: Protocol, dataset: source.Dataset
) -> tuple[source.Split, np.ndarray, dict[str, np.ndarray]]:
    """What a step is chosen on: a split, which samples of it, and their labels.

    Raises:
        FacebenchError: units that were taken out of train are not the frozen ones.
    """
    if protocol.dev is None:
        split = dataset.split("dev")
        return split, subsets.used(protocol, split), targets.build(protocol, split)
    split, rows = dataset.split("train"), subsets.dev(protocol, dataset)
    places = np.searchsorted(subsets.used(protocol, split), rows)
    labels = targets.build(protocol, split)
    return split, rows, {name: array[places] for name, array in labels.items()}


def with_thresholds(
    protocol: Protocol,
    dataset: source.Dataset,
    outputs: Mapping[str, np.ndarray],
    predict: Callable[[source.Split, np.ndarray], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Predictions of test with the thresholds that dev chooses, where the protocol stores them.

    Args:
        protocol: stores them where its ``predictions`` has ``threshold``.
        dataset: the data.
        outputs: what is predicted of test, by name.
        predict: what the same weights predict of some samples of a split; called only if needed.
    """
    if "threshold" not in protocol.predictions:
        return dict(outputs)
    split, rows, labels = dev(protocol, dataset)
    found = thresholds(protocol, predict(split, rows)["probability"], labels["label"])
    return {**outputs, "threshold": found}


def thresholds(protocol: Protocol, probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The threshold of each action unit with the largest F1 on dev.

    Each probability that is predicted of dev may be one, and 0.5; all are as the protocol stores
    them, so that what is chosen is what is scored. Of equals the nearest to 0.5 counts. Without a
    positive on dev it is 0.5.

    Args:
        protocol: says how ``probability`` and ``threshold`` are stored.
        probability: [n, A] of dev.
        label: [n, A] of dev: 1 there, 0 not; anything else is unknown.

    Returns:
        [A] float64 in [0, 1].
    """
    chosen = np.full(label.shape[1], 0.5)
    for a, true in enumerate(label.T):
        known = (true == 0) | (true == 1)
        there = true[known] == 1
        if not there.any():
            continue
        predicted = probability[known, a]
        candidates = np.unique(np.append(predicted, 0.5).astype(np.float64))
        arrays = {"probability": predicted, "threshold": candidates}
        values = protocols.dequantise(protocol, protocols.quantise(protocol, arrays))
        # How many are said, and how many of these rightly, from each candidate on.
        order = np.argsort(values["probability"])
        above = np.searchsorted(values["probability"][order], values["threshold"])
        hits = np.append(np.cumsum(there[order][::-1])[::-1], 0)[above]
        f1 = 2 * hits / (len(order) - above + there.sum())
        best = np.flatnonzero(f1 == f1.max())
        chosen[a] = candidates[best[np.argmin(np.abs(candidates[best] - 0.5))]]
    return chosen


class Choice:
    """The best candidate so far, on disk: a run that was killed goes on with it.

    Args:
        folder: of the trial; gets ``selection.json`` and ``selected.npz``.
        protocol: whose primary metric counts.
        labels: of dev, as the judge takes them.
        steps: of the whole training.
        predict: what the module predicts of dev with some variables, by name.

    Attributes:
        candidates: the steps that may be chosen.
        scores: of those that were looked at, by step.
    """

    def __init__(
        self,
        folder: Path,
        protocol: Protocol,
        labels: Mapping[str, np.ndarray],
        steps: int,
        predict: Callable[[Any], Mapping[str, np.ndarray]],
    ):
        self.candidates = candidates(steps)
        self._predict = predict
        self._scores_file, self._best_file = folder / "selection.json", folder / "selected.npz"
        self._protocol, self._labels = protocol, labels
        self.scores: dict[int, float] = {}
        if self._scores_file.is_file():
            self.scores = {int(k): v for k, v in files.read_json(self._scores_file).items()}

    @property
    def step(self) -> int:
        """The candidate with the best score, of equals the earlier one."""
        sign = -1 if self._protocol.primary["higher_is_better"] else 1
        return min(self.scores, key=lambda step: (sign * self.scores[step], step))

    def look(self, step: int, state: State) -> None:
        """Scores what a state predicts of dev; keeps its variables if they are the best so far."""
        variables = state.variables()
        predicted = dict(self._predict(variables))
        if "threshold" in self._protocol.predictions:
            label = self._labels["label"]
            predicted["threshold"] = thresholds(self._protocol, predicted["probability"], label)
        stored = protocols.quantise(self._protocol, predicted)
        metric = self._protocol.primary["name"]
        # Later ones are of a run that was killed before it saved them: it comes to them again.
        self.scores = {s: v for s, v in self.scores.items() if s < step}
        self.scores[step] = judge.score(self._protocol, stored, self._labels, [metric])[metric]
        if self.step == step:
            leaves = jax.tree.leaves(jax.device_get(variables))
            arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}
            files.write_npz(self._best_file, arrays | {"step": np.asarray(step)})
        files.write_json(self._scores_file, {str(s): v for s, v in self.scores.items()})

    def variables(self, like: Any) -> Any:
        """The variables of the best candidate, where those of `like` lie.

        Raises:
            FacebenchError: they are not those of the candidate with the best score.
        """
        kept = files.read_npz(self._best_file)
        if int(kept["step"]) != self.step:
            raise FacebenchError(
                f"{self._best_file}: holds step {int(kept['step'])}, but {self._scores_file.name} "
                f"chooses {self.step}; remove {self._best_file.parent} and run the trial again"
            )

        leaves, tree = jax.tree.flatten(like)
        best = [jax.device_put(kept[str(i)], leaf.sharding) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(tree, best)
