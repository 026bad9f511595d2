"""Floors: what a face benchmark must beat. Raw pixels, eigenfaces and the mean shape.

`PCA` reads the features of a frozen backbone where a batch has them, `Features` compares them. All
compute in float64 and give the float32 arrays that a trained task would give.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from facebench.errors import FacebenchError
from facebench.probes import Batch

#: ITU-R BT.601 luma.
_LUMA = np.array([0.299, 0.587, 0.114])


def _field(batch: Batch, name: str, probe: str) -> np.ndarray:
    if name not in batch:
        raise FacebenchError(
            f"probe {probe!r}: the batch has no {name!r}, only {sorted(batch)}; "
            "is this probe meant for the task?"
        )
    return np.asarray(batch[name])


def _kept(batch: Batch, rows: int) -> np.ndarray:
    """Which rows of a batch are no padding."""
    return np.asarray(batch["mask"]) > 0 if "mask" in batch else np.ones(rows, bool)


def _unit_rows(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1.0)


def area_matrix(source: int, target: int) -> np.ndarray:
    """Weights that average a row of `source` pixels to `target` by overlap of their areas.

    Returns:
        [target, source] float64, rows summing to 1.
    """
    edges = np.linspace(0.0, source, target + 1)
    left = np.maximum(edges[:-1, None], np.arange(source))
    right = np.minimum(edges[1:, None], np.arange(source) + 1)
    return np.maximum(right - left, 0.0) * (target / source)


def standardised_pixels(image: np.ndarray, size: int | None) -> np.ndarray:
    """Grey pixels of each image, with its own mean and deviation taken out.

    The dot product of two such rows, over the number of pixels, is their correlation: brightness
    and contrast play no part.

    Args:
        image: [B, H, W, 3] or [B, H, W], any range.
        size: side to average the image to by area, or None to keep its pixels.

    Returns:
        [B, P] float64 of mean 0 and standard deviation 1; zeros for a flat image.

    Raises:
        FacebenchError: another shape.
    """
    x = np.asarray(image, np.float64)
    if x.ndim == 4 and x.shape[-1] == 3:
        x = x @ _LUMA
    if x.ndim != 3:
        raise FacebenchError(
            f"image has shape {list(np.shape(image))}, expected [B, H, W, 3] or [B, H, W]"
        )
    if size is not None:
        rows, columns = (area_matrix(side, size) for side in x.shape[1:])
        x = rows @ x @ columns.T
    x = x.reshape(len(x), x.shape[1] * x.shape[2])
    round_off = 1e-12 * np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    x = x - x.mean(axis=1, keepdims=True)
    deviation = x.std(axis=1, keepdims=True)
    flat = deviation <= round_off
    return np.where(flat, 0.0, x / np.where(flat, 1.0, deviation))


def inputs(batch: Batch, probe: str, size: int | None) -> np.ndarray:
    """What a probe reads of a batch: the features of a frozen backbone, or else pixels.

    Args:
        batch: with ``features`` [B, F], which are taken as they are, or ``image``.
        probe: what error messages call it.
        size: of `standardised_pixels`.

    Returns:
        [B, D] float64.

    Raises:
        FacebenchError: neither is there, or not in this shape.
    """
    if "features" not in batch:
        return standardised_pixels(_field(batch, "image", probe), size)
    x = np.asarray(batch["features"], np.float64)
    if x.ndim != 2:
        raise FacebenchError(f"probe {probe!r}: features have shape {list(x.shape)}, not [B, F]")
    return x


def training(
    batches: Iterable[Batch], label: str, probe: str, size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """What `inputs` gives of all images of one pass, [n, P], and their labels [n, ...].

    Raises:
        FacebenchError: fewer than two training images, or a label that is not there.
    """
    rows, labels = [], []
    for batch in batches:
        x = inputs(batch, probe, size)
        kept = _kept(batch, len(x))
        rows.append(x[kept])
        labels.append(_field(batch, label, probe)[kept])
    if sum(map(len, rows)) < 2:
        raise FacebenchError(f"probe {probe!r}: fewer than two training images to fit on")
    return np.concatenate(rows), np.concatenate(labels)


def _check_size(probe: str, size: int | None) -> None:
    if size is not None and size < 1:
        raise FacebenchError(f"probe {probe!r}: size is {size}, expected at least 1 px, or None")


class RawPixels:
    """Recognition floor: the standardised grey pixels are the embedding; their cosine compares.

    Args:
        size: side to average crops to by area; None keeps the crop's pixels.
    """

    def __init__(self, size: int | None = None) -> None:
        _check_size("raw_pixels", size)
        self.size = size

    parameters = 0

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learns nothing; the batches are not read."""

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"embedding": [B, P] float32 of length 1}, zeros for a flat image."""
        x = standardised_pixels(_field(batch, "image", "raw_pixels"), self.size)
        return {"embedding": _unit_rows(x).astype(np.float32)}


class Features:
    """Recognition on a frozen backbone: its features are the embedding; their cosine compares.

    Args:
        centre: take the mean over the training images out first. Features that cannot be negative
            all point the same way without it, but it needs training images.
    """

    def __init__(self, centre: bool = False) -> None:
        self.centre = centre
        self.mean: np.ndarray | None = None

    def fit(self, batches: Iterable[Batch]) -> None:
        """Means ``features`` [B, F] over all batches; without `centre` they are not read.

        Raises:
            FacebenchError: `centre`, and there is no training image.
        """
        if not self.centre:
            return
        total: np.ndarray | float = 0.0
        n = 0
        for batch in batches:
            x = np.asarray(_field(batch, "features", "features"), np.float64)
            kept = _kept(batch, len(x))
            total, n = total + x[kept].sum(axis=0), n + int(kept.sum())
        if not n:
            raise FacebenchError(
                "probe 'features': there is no training image to take the mean of; set "
                "config.probe.centre=False"
            )
        self.mean = np.asarray(total) / n

    @property
    def parameters(self) -> int:
        """The mean, where it is taken out."""
        return 0 if self.mean is None else int(self.mean.size)

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"embedding": [B, F] float32 of length 1}.

        Raises:
            FacebenchError: `centre`, and not fitted.
        """
        x = np.asarray(_field(batch, "features", "features"), np.float64)
        if self.centre:
            if self.mean is None:
                raise FacebenchError("probe 'features' is asked to predict before fit(batches)")
            x = x - self.mean
        return {"embedding": _unit_rows(x).astype(np.float32)}


class PCA:
    """Recognition floor: eigenfaces (Turk and Pentland, *Eigenfaces for Recognition*, 1991).

    The embedding is the projection of the standardised grey pixels on the principal components of
    the training crops. Directions are the right singular vectors of the centred data, largest
    variance first, each with its largest entry positive, so that the result is one.

    Args:
        components: how many; below the number of training crops and at most their pixels.
        size: side to average crops to by area; None keeps the crop's pixels.
        whiten: divide each projection by its standard deviation over the training crops.
        skip: leading components to leave out (the first ones of faces are mostly light).

    Attributes:
        mean: [P] the mean training face.
        basis: [components, P] orthonormal rows.
        deviation: [components] standard deviations (population) along them.
    """

    def __init__(
        self,
        components: int = 50,
        size: int | None = None,
        whiten: bool = False,
        skip: int = 0,
    ) -> None:
        if components < 1:
            raise FacebenchError(f"probe 'pca': components is {components}, expected at least 1")
        if skip < 0:
            raise FacebenchError(f"probe 'pca': skip is {skip}, expected 0 or more")
        _check_size("pca", size)
        self.components = components
        self.size = size
        self.whiten = whiten
        self.skip = skip
        self.mean: np.ndarray | None = None
        self.basis = np.empty((0, 0))
        self.deviation = np.empty(0)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Finds the mean and the components of ``image``, or of ``features``, over all batches.

        Raises:
            FacebenchError: no batch, or fewer directions in the data than `skip + components`.
        """
        rows = []
        for batch in batches:
            x = inputs(batch, "pca", self.size)
            rows.append(x[_kept(batch, len(x))])
        if not sum(map(len, rows)):
            raise FacebenchError("probe 'pca': there is no training image to fit on")
        x = np.concatenate(rows)
        n, pixels = x.shape
        wanted, limit = self.skip + self.components, min(n - 1, pixels)
        if wanted > limit:
            raise FacebenchError(
                f"probe 'pca': {self.components} components after skipping {self.skip} are asked "
                f"of {n} training images of {pixels} pixels, which have at most {limit} "
                "directions; ask for fewer components or more images"
            )
        self.mean = x.mean(axis=0)
        _, singular, basis = np.linalg.svd(x - self.mean, full_matrices=False)
        rank = int(np.count_nonzero(singular > singular[0] * max(n, pixels) * np.finfo(float).eps))
        if wanted > rank:
            raise FacebenchError(
                f"probe 'pca': {wanted} directions are asked of {n} training images that vary in "
                f"only {rank} (repeated images?); ask for fewer components"
            )
        basis = basis[self.skip : wanted]
        largest = np.abs(basis).argmax(axis=1)
        self.basis = basis * np.sign(np.take_along_axis(basis, largest[:, None], axis=1))
        self.deviation = singular[self.skip : wanted] / np.sqrt(n)

    @property
    def parameters(self) -> int:
        """The mean and the components, and their deviations where they are used."""
        pixels = 0 if self.mean is None else self.mean.size
        return int(pixels + self.basis.size + (self.deviation.size if self.whiten else 0))

    def project(self, image: np.ndarray) -> np.ndarray:
        """[B, components] float64 coordinates of images in the basis, whitened if configured.

        Raises:
            FacebenchError: not fitted, or images of another size than the training crops.
        """
        return self._project(standardised_pixels(image, self.size))

    def _project(self, x: np.ndarray) -> np.ndarray:
        if self.mean is None:
            raise FacebenchError("probe 'pca' is asked to predict before fit(batches)")
        if x.shape[1] != len(self.mean):
            raise FacebenchError(
                f"probe 'pca' was fitted on images of {len(self.mean)} pixels, "
                f"this one has {x.shape[1]}"
            )
        x = (x - self.mean) @ self.basis.T
        return x / self.deviation if self.whiten else x

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"embedding": [B, components] float32 of length 1}."""
        x = self._project(inputs(batch, "pca", self.size))
        return {"embedding": _unit_rows(x).astype(np.float32)}


class MeanShape:
    """Landmark floor: the mean training shape in the crop, whatever the image shows.

    Attributes:
        shape: [K, 2] float64, crop pixels.
    """

    def __init__(self) -> None:
        self.shape: np.ndarray | None = None

    def fit(self, batches: Iterable[Batch]) -> None:
        """Means ``points`` [B, K, 2] over the training crops, each point where it is ``visible``.

        Raises:
            FacebenchError: no training shape, or a point that is visible in none.
        """
        total: np.ndarray | float = 0.0
        weight: np.ndarray | float = 0.0
        for batch in batches:
            points = _field(batch, "points", "mean_shape").astype(np.float64)
            visible = np.asarray(batch.get("visible", np.ones(points.shape[:2])), np.float64)
            visible = visible * _kept(batch, len(points))[:, None]
            seen = visible[..., None] > 0
            total = total + (np.where(seen, points, 0.0) * visible[..., None]).sum(axis=0)
            weight = weight + visible.sum(axis=0)
        weight = np.asarray(weight)
        if not weight.any():
            raise FacebenchError("probe 'mean_shape': there is no training shape to fit on")
        never = np.flatnonzero(weight == 0)
        if len(never):
            raise FacebenchError(
                f"probe 'mean_shape': points {never.tolist()} are visible in no training image"
            )
        self.shape = np.asarray(total) / weight[:, None]

    @property
    def parameters(self) -> int:
        """Two coordinates of every point."""
        return 0 if self.shape is None else int(self.shape.size)

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """{"points": [B, K, 2] float32}, in original pixels by ``to_image`` [B, 2, 3].

        Raises:
            FacebenchError: not fitted.
        """
        if self.shape is None:
            raise FacebenchError("probe 'mean_shape' is asked to predict before fit(batches)")
        matrix = _field(batch, "to_image", "mean_shape").astype(np.float64)
        points = np.einsum("kj,bij->bki", self.shape, matrix[:, :, :2]) + matrix[:, None, :, 2]
        return {"points": points.astype(np.float32)}
