"""Which samples a batch holds where a loss compares them with one another: several of a unit."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from facebench.errors import UsageError


@functools.lru_cache(maxsize=8)
def _order(seed: int, epoch: int, units: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(units)


class UnitSampler:
    """Batches of `images` samples of each of ``batch_size / images`` different units.

    Units are shuffled anew in every epoch and taken in turn; those too few for the last batch of an
    epoch are left for the next. Of a unit, different samples are drawn, and again in another order
    where it has fewer than `images`. What stands at a place of the endless sequence of batches
    follows from the seed and that place alone.

    Row r of a batch is of its unit ``r % (batch_size / images)``, so that a batch which is cut into
    parts by every n-th row keeps the images of a unit together where n divides the units.

    Args:
        units: the unit of each sample of the subset, [n].
        batch_size: over all hosts.
        images: of each unit in a batch.
        seed: of the order.

    Raises:
        UsageError: a batch does not divide, or the subset has fewer units than a batch.
    """

    def __init__(self, units: Sequence[str], batch_size: int, images: int, seed: int):
        if images < 1 or batch_size % images:
            raise UsageError(
                f"data.images_per_unit: found {images}, expected a divisor of the batch size "
                f"{batch_size}"
            )
        place = np.unique(np.asarray(units), return_inverse=True)[1].ravel()
        order = np.argsort(place, kind="stable")
        self._samples = np.split(order, np.cumsum(np.bincount(place))[:-1])
        self._rows, self._images, self._seed = batch_size, images, seed
        self._units = batch_size // images
        if self._units > len(self._samples):
            raise UsageError(
                f"data.images_per_unit: a batch of {batch_size} with {images} images of each unit "
                f"needs {self._units} units, but the subset has {len(self._samples)}; raise "
                f"images_per_unit or lower batch_size"
            )

    def __call__(self, element: int) -> int:
        """The position in the subset of a place in the sequence: row `e % B` of step `e // B`."""
        step, row = divmod(int(element), self._rows)
        image, place = divmod(row, self._units)
        epoch, batch = divmod(step, len(self._samples) // self._units)
        unit = int(_order(self._seed, epoch, len(self._samples))[batch * self._units + place])
        samples = self._samples[unit]
        rng = np.random.default_rng([self._seed, epoch, unit + 1])
        return int(rng.permutation(samples)[image % len(samples)])
