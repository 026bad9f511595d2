"""The input pipeline: batches of decoded, warped, augmented images and their labels (grain).

A training batch is a function of (seed, step), and nothing else: a resumed run slices the data at
its step, and neither threads, worker processes nor hosts change a batch. The random numbers of a
sample are keyed by (seed, its position in the endless shuffled sequence of epochs), and are drawn
before the sequence is divided over hosts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from facebench import schemes
from facebench.data import sampler, transforms
from facebench.data.source import Split, field
from facebench.errors import FacebenchError, UsageError

_MIRRORED = (*schemes.PARSE_FLIP, *range(len(schemes.PARSE_FLIP), 256))  # of a class of `parse`

_ENDLESS = 1 << 48  # samples
CACHE_BYTES = 1 << 29  # decoded images kept in memory, all workers of a pipeline together


class Batches:
    """An iterator over batches, dicts of NumPy arrays; close it, or use it in a ``with``.

    Attributes:
        length: how many batches there are, None if they never end.
    """

    def __init__(self, start: Callable[[], Any], length: int | None, what: str):
        self._start, self._what = start, what
        self._batches: Any = None
        self.length = length

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch.

        Raises:
            FacebenchError: a sample cannot be read or decoded; dataset and key are named.
        """
        try:
            if self._batches is None:
                self._batches = self._start()
            return next(self._batches)
        except (FacebenchError, StopIteration):
            self.close()
            raise
        except Exception as error:
            self.close()
            raise FacebenchError(
                f"{self._what}: the input pipeline failed: {type(error).__name__}: {error}"
            ) from error

    def close(self) -> None:
        """Stops threads and workers; the iterator is empty from then on."""
        batches, self._batches = self._batches, iter(())
        if hasattr(batches, "close"):
            batches.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Reader:
    """Decoded samples of a split, kept in memory up to a limit."""

    def __init__(self, split: Split, fields: Sequence[str], cache_bytes: int):
        self.split, self.fields, self.cache_bytes = split, tuple(fields), cache_bytes
        self.__setstate__(self.__getstate__())

    def __getstate__(self) -> dict[str, Any]:
        return {"split": self.split, "fields": self.fields, "cache_bytes": self.cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._kept: dict[int, dict[str, Any]] = {}
        self._room = self.cache_bytes
        cv2.setNumThreads(0)  # grain's threads are enough; OpenCV's own would contend with them

    def __call__(self, index: int) -> dict[str, Any]:
        """`image`, uint8 [H, W, 3], and the fields of a sample; not to be changed in place."""
        if (sample := self._kept.get(index)) is not None:
            return sample
        record = self.split.record(index) if self.fields else {"image": self.split.image(index)}
        try:
            sample = {"image": transforms.decode(record["image"])}
            for name in self.fields:
                value = record[name]
                if isinstance(value, bytes):  # a map of labels, kept as an image
                    value = transforms.decode(value, colour=False)
                sample[name] = value
        except ValueError as error:
            raise _bad_sample(self.split, self.split.keys[index], error) from error
        size = sample["image"].nbytes
        if size <= self._room:  # a lost race between threads costs a few bytes of the limit
            self._room -= size
            self._kept[index] = sample
        return sample


def _bad_sample(split: Split, key: str, error: Exception) -> FacebenchError:
    name = split.label.partition("/")[0]
    return FacebenchError(
        f"dataset {split.label}: split {split.name!r}, key {key!r}: {error}; `facebench data "
        f"verify {name}` finds all such samples; remove {split.folder} and run `facebench data "
        f"prepare {name}` again"
    )


def _check(
    split: Split, preprocess: Mapping[str, Any], fields: Sequence[str], given: Collection[str] = ()
) -> list[str]:
    """Checks what a pipeline is asked for; the fields it has to read."""
    transforms.check_preprocess(preprocess)
    needed = [name for name in fields if name not in given]
    if preprocess["crop"] != "full":
        needed.append(preprocess["crop"])
    for name in needed:
        field(split, name, [0])  # an unknown field is an error here, with the nearest names
    return sorted(set(needed))


def _crop(reader: _Reader, index: int, preprocess: Mapping[str, Any]) -> tuple[dict, np.ndarray]:
    sample = reader(index)
    height, width = sample["image"].shape[:2]
    try:
        return sample, transforms.crop_matrix(
            preprocess, height, width, sample.get(preprocess["crop"])
        )
    except ValueError as error:
        raise _bad_sample(reader.split, reader.split.keys[index], error) from error


def _train_sample(
    position: int,
    rng: np.random.Generator,
    *,
    reader: _Reader,
    indices: np.ndarray,
    given: Mapping[str, np.ndarray],
    fields: tuple[str, ...],
    preprocess: Mapping[str, Any],
    augment: transforms.Augment,
    flip_permutation: np.ndarray | None,
) -> dict[str, Any]:
    """One training sample: a crop, its labels, its index in the split."""
    index = int(indices[position])
    sample, matrix = _crop(reader, index, preprocess)
    size = preprocess["size"]
    random, mirrored = transforms.random_matrix(augment, size, rng)
    matrix = transforms.compose(random, matrix)
    image, points = transforms.warp(
        sample["image"], sample.get("points"), matrix, size, preprocess["crop"]
    )
    made: dict[str, Any] = {
        "image": transforms.photometric(image, augment, rng),
        "mask": np.float32(1),
        "index": np.int32(index),
    }
    for name in fields:
        if name in given:
            value = np.asarray(given[name][position])
        elif name == "parse":
            value = transforms.warp_labels(np.asarray(sample[name]), matrix, size)
            value = np.asarray(_MIRRORED)[value] if mirrored else value
        else:
            value = np.asarray(points if name == "points" else sample[name])
        if name in ("points", "visible") and mirrored:
            value = value[flip_permutation]
        made[name] = value.astype(np.float32 if value.dtype.kind in "fb" else np.int32)
    return made


def train_batches(
    split: Split,
    indices: np.ndarray,
    fields: Sequence[str],
    *,
    preprocess: Mapping[str, Any],
    augment: Mapping[str, Any] | None,
    flip_permutation: Sequence[int] | None = None,
    given: Mapping[str, np.ndarray] | None = None,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    threads: int = 2,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    cache_bytes: int = CACHE_BYTES,
    images_per_unit: int = 0,
) -> Batches:
    """Endless training batches; batch `i` of what is returned is that of step ``start_step + i``.

    The subset is shuffled anew in every epoch, and epochs follow one another without a gap, so a
    batch may lie across two of them and may be larger than the subset.

    Args:
        split: the training split.
        indices: of the samples that may be used, [n].
        fields: labels to give: names of the dataset's fields (`points` are moved with the image;
            `points` and `visible` are permuted when it is mirrored; `parse` too, with 255 where
            the crop is outside of the image), and `label`, the index of the sample's unit among
            the sorted units of the subset.
        preprocess: the protocol's crop.
        augment: see `transforms.Augment`; None for none.
        flip_permutation: point i of a mirror image is point ``flip_permutation[i]`` of the
            original; needed if images are mirrored and points are given.
        given: labels that are not read from the dataset but stand here, row i for ``indices[i]``.
        batch_size: over all hosts.
        seed: of the trial.
        start_step: steps to leave out.
        threads: that prepare batches ahead, in each worker; 0 for none.
        workers: processes; 0 prepares batches in this one.
        process_index: which host this is; it gets rows ``process_index::process_count``.
        process_count: how many hosts share a batch.
        cache_bytes: decoded images kept in memory.
        images_per_unit: so many samples of each of ``batch_size / images_per_unit`` units make a
            batch, see `facebench.data.sampler`; 0: units are not looked at.

    Returns:
        batches of ``B = batch_size / process_count``: `image` uint8 [B, S, S, 3], `mask` float32
        [B] of ones, `index` int32 [B] into the split, and the fields, float32 or int32: `points`
        [B, K, 2] in crop pixels, `visible` [B, K], `label` [B], ...

    Raises:
        UsageError: an unknown field, crop or augmentation; a batch size that does not divide.
        FacebenchError: the subset is empty. When iterated: a sample cannot be read.
    """
    given = dict(given or {})
    if "label" in fields:
        units = np.array(split.units)[np.asarray(indices, np.int64)]
        given.setdefault("label", np.unique(units, return_inverse=True)[1].astype(np.int32))
    needed = _check(split, preprocess, fields, given)
    drawn = transforms.Augment.of(augment)
    indices = np.asarray(indices, np.int64)
    if not len(indices):
        raise FacebenchError(f"dataset {split.label}: the training subset is empty")
    if batch_size < 1 or batch_size % process_count:
        raise UsageError(
            f"batch_size: found {batch_size}, expected a positive multiple of the "
            f"{process_count} hosts"
        )
    if drawn.flip and {"points", "visible"} & set(fields) and flip_permutation is None:
        raise UsageError("augment.flip: mirrored points need the scheme's flip permutation")
    make = functools.partial(
        _train_sample,
        reader=_Reader(split, needed, cache_bytes // max(workers, 1)),
        indices=indices,
        given=given,
        fields=tuple(fields),
        preprocess=dict(preprocess),
        augment=drawn,
        flip_permutation=None if flip_permutation is None else np.asarray(flip_permutation),
    )
    order, draws = np.random.SeedSequence(seed).generate_state(2).tolist()
    several = None
    if images_per_unit:
        of_unit = [split.units[i] for i in indices]
        several = sampler.UnitSampler(of_unit, batch_size, images_per_unit, order)

    def start() -> Any:
        import grain

        if several is None:
            sequence = grain.MapDataset.range(len(indices)).shuffle(seed=order).repeat()
        else:
            sequence = grain.MapDataset.range(_ENDLESS).map(several)
        sequence = sequence.random_map(make, seed=draws)[process_index::process_count]
        sequence = sequence.batch(batch_size // process_count)[start_step:]
        return _iterate(sequence, threads, workers)

    return Batches(start, None, f"dataset {split.label}")


def _predict_sample(
    position: int, *, reader: _Reader, indices: np.ndarray, preprocess: Mapping[str, Any]
) -> dict[str, Any]:
    """One sample to predict; beyond the last, the last again with mask 0."""
    index = int(indices[min(position, len(indices) - 1)])
    sample, matrix = _crop(reader, index, preprocess)
    image, _ = transforms.warp(
        sample["image"], None, matrix, preprocess["size"], preprocess["crop"]
    )
    return {
        "image": image,
        "mask": np.float32(position < len(indices)),
        "index": np.int32(index),
        "to_image": transforms.invert(matrix).astype(np.float32),
    }


def predict_batches(
    split: Split,
    *,
    preprocess: Mapping[str, Any],
    batch_size: int,
    indices: np.ndarray | None = None,
    threads: int = 2,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """All samples of a split, or some, once and in order, without their labels.

    The last batch is filled by repeating the last sample with mask 0; every host gets as many
    batches as the others.

    Args:
        split: what to predict.
        preprocess: the protocol's crop.
        batch_size: over all hosts.
        indices: of the samples, [n]; None for all.
        threads: as in `train_batches`.
        workers: as in `train_batches`.
        process_index: which host this is; it gets rows ``process_index::process_count``.
        process_count: how many hosts share a batch.

    Returns:
        batches of ``B = batch_size / process_count``: `image` uint8 [B, S, S, 3], `mask` float32
        [B], `index` int32 [B] into the split, `to_image` float32 [B, 2, 3] from crop to original
        pixels.

    Raises:
        UsageError: an unknown crop; a batch size that does not divide.
        FacebenchError: there is nothing to predict. When iterated: a sample cannot be read.
    """
    needed = _check(split, preprocess, ())
    indices = np.arange(len(split)) if indices is None else np.asarray(indices, np.int64)
    if not len(indices):
        raise FacebenchError(f"dataset {split.label}: no sample to predict")
    if batch_size < 1 or batch_size % process_count:
        raise UsageError(
            f"batch_size: found {batch_size}, expected a positive multiple of the "
            f"{process_count} hosts"
        )
    batches = -(-len(indices) // batch_size)
    make = functools.partial(
        _predict_sample,
        reader=_Reader(split, needed, 0),
        indices=indices,
        preprocess=dict(preprocess),
    )

    def start() -> Any:
        import grain

        sequence = grain.MapDataset.range(batches * batch_size).map(make)
        sequence = sequence[process_index::process_count].batch(batch_size // process_count)
        return _iterate(sequence, threads, workers)

    return Batches(start, batches, f"dataset {split.label}")


def _iterate(sequence: Any, threads: int, workers: int) -> Any:
    """Starts reading batches, `threads` at a time, in this process or in others."""
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # outside of app.run, as in tests and notebooks
        flags.FLAGS.mark_as_parsed()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    batches = sequence.to_iter_dataset(options)
    if workers:
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        )
    return iter(batches)
