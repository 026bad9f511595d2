"""Which step of a training is reported, where the protocol has it chosen on dev.

Ten steps at equal distances, the last one among them, are candidates. At each of them dev is
predicted, and the judge scores that as it would score test; the best by the primary metric is
reported, of equals the earlier one. Test is predicted once, after the choice.
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
        stored = protocols.quantise(self._protocol, self._predict(variables))
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
