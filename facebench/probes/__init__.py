"""Fit-once predictors: floors, and heads on frozen features. NumPy, no training loop, no JAX.

A probe takes the batches that a task takes and gives the predictions that the task gives, under the
same keys, so that it is scored by the same protocol:

    class Probe:
        def fit(self, batches) -> None:      # an iterable of dicts of NumPy arrays, one epoch
        def predict(self, batch) -> dict:    # [B, ...] arrays by name
        @property
        def parameters(self) -> int:         # how many numbers it learnt

A batch holds ``image``, or in its place ``features`` [B, F] float32, those of a frozen backbone
(``config.probe.features``). In a training batch a row whose ``mask`` is 0 is padding and is left
out; `predict` answers every row. A config names a probe by a name of `BUILT_IN`,
``package.module:Class`` or ``folder/file.py:Class``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facebench import plugins

Batch = Mapping[str, np.ndarray]

BUILT_IN = {
    "all_positive": "facebench.probes.ridge:AllPositive",
    "constant": "facebench.probes.ridge:Constant",
    "features": "facebench.probes.closed_form:Features",
    "logistic": "facebench.probes.logistic:Logistic",
    "ridge": "facebench.probes.ridge:Ridge",
    "shuffled": "facebench.probes.ridge:Shuffled",
    "raw_pixels": "facebench.probes.closed_form:RawPixels",
    "pca": "facebench.probes.closed_form:PCA",
    "mean_shape": "facebench.probes.closed_form:MeanShape",
}


class Probe(Protocol):
    """What every probe does."""

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learns from one pass over the training batches."""

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """Predictions for every row of a batch, by name."""

    @property
    def parameters(self) -> int:
        """How many numbers it learnt from the training batches."""


def build(name: str, kwargs: Mapping[str, Any] | None = None, root: Path | None = None) -> Probe:
    """The probe that a config names.

    Raises:
        UsageError: an unknown name or keyword; the nearest are given.
    """
    return plugins.build(plugins.resolve(name, "probe", BUILT_IN, root), "probe", kwargs or {})
