"""What the judge needs of the data: targets of a protocol, and the facts that freeze it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import action_maps, digest, files
from facebench.data import comparisons, lists, strata, subsets
from facebench.data.source import Dataset, Split, field, places
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.protocol import Protocol, subset_key
from facebench.workspace import Workspace

CROPS = 64  # of the test split, that a protocol may hold the digest of


def _units(split: Split) -> np.ndarray:
    return places(split.units)


def _landmarks(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    return {
        "points": field(split, "points"),
        "visible": field(split, "visible").astype(bool),
        "box": field(split, "box"),
        "unit": _units(split),
    }


def _people(split: Split, rows: np.ndarray) -> dict[str, np.ndarray]:
    """`unit`, and `group` where the dataset has it, of some samples."""
    made = {"unit": places([split.units[i] for i in rows])}
    if "group" in split.samples:
        group = split.samples["group"][rows]
        made["group"] = group if group.dtype.kind in "iu" else places(group)
    return made


def _expression(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    rows = subsets.used(protocol, split)
    names, lookup = subsets.classes(protocol, split)
    made = {"label": lookup[field(split, "expression")[rows]], **_people(split, rows)}
    return made | (_cues(protocol, split, rows, names) if "cues" in protocol.evaluation else {})


def _cues(
    protocol: Protocol, split: Split, rows: np.ndarray, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """What an attention is compared with: `points` and `size` of the crops, and `cues`.

    Points are moved into the crop and rounded to 1/16 px, which hides what processors round in
    different ways.

    Raises:
        UsageError: a class that the codebook does not have, or a dataset without points.
        FacebenchError: not 68 points.
    """
    from facebench.data import pipeline, transforms

    where = f"protocol {protocol.id}: evaluation.cues"
    points = field(split, "points")[rows]
    if points.shape[1:] != (68, 2):
        raise FacebenchError(
            f"{where}: field 'points' of {split.label} has shape {list(points.shape[1:])} per "
            "sample, expected [68, 2]"
        )
    try:
        codes = action_maps.codes(protocol.evaluation["cues"], names)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    moved = []
    with pipeline.predict_batches(
        split, preprocess=protocol.preprocess, batch_size=min(len(rows), 128), indices=rows
    ) as batches:
        for batch in batches:
            moved += [transforms.invert(matrix) for matrix in batch["to_image"]]
    inside = np.stack([transforms.apply(*pair) for pair in zip(moved, points, strict=False)])
    cues = np.zeros((len(names), max(1, *map(len, codes))), np.uint8)
    for row, units in zip(cues, codes, strict=True):
        row[: len(units)] = units
    return {
        "points": (np.rint(inside * 16) / 16).astype(np.float32),
        "size": np.array(protocol.preprocess["size"], np.int32),
        "cues": cues,
    }


def au_columns(protocol: Protocol, split: Split) -> list[int]:
    """The columns of the field `au` that hold the action units of a protocol, in its order.

    Which action unit a column holds is said by the dataset: its builder gives TFDS
    ``metadata=tfds.core.MetadataDict(au=[1, 2, 4, ...])``. Where it does not, ``evaluation.au``
    must name every column.

    Raises:
        FacebenchError: the dataset does not say it, and the numbers differ.
        UsageError: the dataset has no such action unit.
    """
    wanted, columns = protocol.evaluation["au"], field(split, "au", [0]).shape[1]
    where = f"protocol {protocol.id}: evaluation.au"
    path = Path(split.folder) / "metadata.json"
    known = files.read_json(path).get("au") if path.is_file() else None
    if known is None:
        if len(wanted) != columns:
            raise FacebenchError(
                f"{where} names {len(wanted)} action units, but the field 'au' of {split.label} "
                f"has {columns} columns and does not say which; name all, or let its builder give "
                "metadata=tfds.core.MetadataDict(au=[...])"
            )
        return list(range(columns))
    if len(known) != columns:
        raise FacebenchError(f"{path}: 'au' names {len(known)} of {columns} columns")
    return [strata.known_column(known, au, where) for au in wanted]


def positive_rate(au: np.ndarray, threshold: float) -> np.ndarray:
    """The share of an action unit's known labels that say it is there.

    Args:
        au: [n, A] intensities; one outside [0, 1], or NaN, is unknown.
        threshold: the intensity from which an action unit is there.

    Returns:
        [A] float32 in [0, 1]; 0 where no label is known.
    """
    known = (au >= 0) & (au <= 1)
    there = known & (au >= np.asarray(threshold).astype(au.dtype))
    return (there.sum(axis=0) / np.maximum(known.sum(axis=0), 1)).astype(np.float32)


def _intensities(protocol: Protocol, split: Split) -> np.ndarray:
    """(n, A) intensities; what is unknown is NaN or negative."""
    values = field(split, "au")[:, au_columns(protocol, split)]
    if values.dtype.kind != "f":
        raise FacebenchError(
            f"protocol {protocol.id}: field 'au' of {split.label} holds {values.dtype}, expected "
            "intensities in [0, 1]"
        )
    if (high := values > 1).any():
        i = int(np.argmax(high.any(axis=1)))
        raise FacebenchError(
            f"protocol {protocol.id}: field 'au' of {split.label}, key {split.keys[i]!r}: "
            f"{values[i].max()}, expected intensities in [0, 1]"
        )
    return values


def _action_units(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    values = _intensities(protocol, split)
    # In the type of the field: the float32 nearest to 0.7 is not below a threshold of 0.7.
    occurs = values >= np.asarray(protocol.evaluation["threshold"]).astype(values.dtype)
    label = np.where(values >= 0, occurs, -1).astype(np.int8)
    return {"label": label, **_people(split, np.arange(len(split)))}


def _action_unit_intensity(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    values = _intensities(protocol, split)
    intensity = np.where(values >= 0, values, values.dtype.type(-1))
    return {"intensity": intensity, **_people(split, np.arange(len(split)))}


def _valence_arousal(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    values = field(split, "valence_arousal")
    where = f"protocol {protocol.id}: field 'valence_arousal' of {split.label}"
    if values.shape[1:] != (2,) or values.dtype.kind != "f":
        raise FacebenchError(
            f"{where} holds {values.dtype} of shape {values.shape}, expected (valence, arousal) "
            "per sample"
        )
    unknown = np.isnan(values) | (values == -2)
    if (wrong := ~unknown & ~(np.abs(values) <= 1)).any():
        i = int(np.argmax(wrong.any(axis=1)))
        raise FacebenchError(
            f"{where}, key {split.keys[i]!r}: {values[i][wrong[i]][0]}, expected a number from -1 "
            "to 1, or -2 where it is unknown"
        )
    known = np.where(unknown, values.dtype.type(-2), values)
    return {"valence_arousal": known, **_people(split, np.arange(len(split)))}


def _parsing(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    field(split, "parse", [0])  # an unknown field is an error here, with the nearest names
    masks = [split.record(i)["parse"] for i in range(len(split))]
    if isinstance(masks[0], bytes):
        from facebench.data import transforms

        masks = [transforms.decode(mask, colour=False) for mask in masks]
    masks = [np.asarray(mask).reshape(np.shape(mask)[:2]) for mask in masks]
    if len(shapes := sorted({mask.shape for mask in masks})) > 1:
        raise FacebenchError(
            f"protocol {protocol.id}: the masks of {split.label} have different sizes: "
            f"{shapes[0]} and {shapes[-1]}; expected one size"
        )
    return {"parse": np.stack(masks), **_people(split, np.arange(len(split)))}


_TASKS = {
    "action_unit_intensity": _action_unit_intensity,
    "action_units": _action_units,
    "expression": _expression,
    "landmarks": _landmarks,
    "parsing": _parsing,
    "recognition": comparisons.labels,
    "valence_arousal": _valence_arousal,
}


def build(protocol: Protocol, split: Split) -> dict[str, np.ndarray]:
    """The test labels of a protocol, under the names that `metrics.score` knows.

    Landmarks: `points` (n, K, 2) and `box` (n, 4) in pixels, `visible` (n, K) bool, `unit` (n,).
    Recognition: `same` (m,) of the protocol's pairs, with `fold` and `group` (m,) where its list
    has them or ``evaluation.group`` names a field (-1 for a pair of two groups); `probe_identity`
    (p,), -1 without a mate in the gallery, and `gallery_identity` (g,); with a `cluster` in the
    protocol also `unit` (n,) of all test samples. Expression: `label` (n,) int32, the class's
    place among those that count (`subsets.classes`); samples of others are left out
    (`subsets.used`); with ``evaluation.cues`` also `points` (n, 68, 2) float32 and `size` () of
    the crops, and `cues` (C, K): the action units of each class, 0 in places left over. Action
    units: `label` (n, A) int8 of the units of ``evaluation.au``: 1 from ``evaluation.threshold``
    on, -1 where the intensity is NaN or negative. Their intensities: `intensity` (n, A) in [0, 1],
    -1 where unknown. Valence and arousal: `valence_arousal` (n, 2) in [-1, 1], -2 where unknown.
    Parsing: `parse` (n, H, W). These five have `unit` (n,), and `group` (n,) where the dataset has
    that field.
    Units and identities are places in the sorted list of the units.

    Raises:
        UsageError: the task has no targets, or the dataset not the fields.
        FacebenchError: the protocol's evaluation does not fit the split.
    """
    if protocol.task not in _TASKS:
        raise UsageError(
            f"protocol {protocol.id}: no targets are known for task {protocol.task!r}: "
            f"{nearest(protocol.task, _TASKS)}"
        )
    return _TASKS[protocol.task](protocol, split)


def of_dataset(protocol: Protocol, dataset: Dataset) -> dict[str, np.ndarray]:
    """The test labels of all test splits of a protocol, one after the other.

    With ``evaluation.also`` there are also `split` (n,) int8, the place of each sample's split in
    `split_names`; units are then numbered over all splits.

    Raises:
        UsageError: see `build`.
        FacebenchError: see `build`.
    """
    splits = [dataset.split(name) for name in protocol.tested]
    made = [build(protocol, split) for split in splits]
    if len(splits) == 1:
        return made[0]
    rows = [subsets.used(protocol, split) for split in splits]
    arrays = {
        name: array if name in ("size", "cues") else np.concatenate([part[name] for part in made])
        for name, array in made[0].items()
    }
    units = [split.units[i] for split, kept in zip(splits, rows, strict=True) for i in kept]
    place = np.repeat(np.arange(len(splits), dtype=np.int8), [len(kept) for kept in rows])
    return arrays | {
        "unit": places(units),
        "split": place,
        "split_names": np.array(protocol.tested),
    }


def write(ws: Workspace, protocol: Protocol, dataset: Dataset) -> str:
    """Writes the targets of a protocol where the judge looks for them; their digest.

    Raises:
        FacebenchError: they are not the ones that the protocol froze; nothing is written.
    """
    arrays = of_dataset(protocol, dataset)
    found = digest.of_arrays(arrays)
    if protocol.targets and protocol.targets != found:
        raise FacebenchError(
            f"protocol {protocol.id}: the targets made from {dataset.label} {dataset.version} are "
            f"{digest.short(found)}, the protocol froze {digest.short(protocol.targets)}; prepare "
            "the dataset that it names again, or make the next version of the protocol"
        )
    files.write_npz(ws.targets(protocol.id, protocol.public), arrays)
    return found


def crops(protocol: Protocol, dataset: Dataset) -> str:
    """The digest of the first 64 test images as a backbone sees them, uint8 [64, S, S, 3].

    It notices another decoder, crop or interpolation before anything is trained.
    """
    from facebench.data import pipeline

    test = dataset.split("test")
    rows = subsets.used(protocol, test)[:CROPS]
    with pipeline.predict_batches(
        test, preprocess=protocol.preprocess, batch_size=len(rows), indices=rows, threads=0
    ) as batches:
        return digest.of_arrays({"image": next(batches)["image"]})


def facts(protocol: Protocol, dataset: Dataset) -> dict[str, Any]:
    """What a draft of a protocol takes over from its dataset when it is frozen.

    Returns:
        the values of the protocol's fields `splits` (n, keys, content and used of each),
        `subsets` (a digest per regime value and seed), `targets`, `crops`, with a list of pairs its
        digest, `list`, and with a dev that is carved out of train its digest, `dev`; and for the
        manifest `keys` and `counts` of each subset.

    Raises:
        FacebenchError: a subset cannot be drawn, or the targets cannot be built.
    """
    splits = {}
    for name, known in dataset.facts["splits"].items():
        splits[name] = {fact: known[fact] for fact in ("n", "keys", "content")}
        if "used" in protocol.splits.get(name, {}):
            splits[name]["used"] = len(subsets.used(protocol, dataset.split(name)))
    keys: dict[str, list[str]] = {}
    counts: dict[str, dict[str, Any]] = {}
    for value in protocol.regimes["values"]:
        for seed in protocol.seeds:
            rows = subsets.drawn(protocol, dataset, value, seed)
            name = subset_key(value, seed)
            keys[name], counts[name] = [], {"samples": 0, "units": 0, "classes": {}}
            if len(rows):
                train = dataset.split("train")
                keys[name] = [train.keys[i] for i in rows]
                counts[name] = count(protocol, train, rows)
    made = {
        "splits": splits,
        "subsets": {name: subsets.digest(chosen) for name, chosen in keys.items()},
        "targets": digest.of_arrays(of_dataset(protocol, dataset)),
        "crops": crops(protocol, dataset),
        "keys": keys,
        "counts": counts,
    }
    if asked := lists.asked(protocol):
        made["list"] = dataset.facts["lists"][asked]["digest"]
    if protocol.dev is not None:
        train = dataset.split("train")
        _, held = subsets.carve(protocol, train)
        made["dev"] = subsets.digest([train.keys[i] for i in held])
    return made


def count(protocol: Protocol, split: Split, rows: np.ndarray) -> dict[str, Any]:
    """What a subset holds: `samples`, `units`, and `classes`: how many samples of each.

    Classes are those of an expression protocol, or else its strata; of labels that may stand
    together, how many samples have each.
    """
    classes: dict[str, int] = {}
    rule = protocol.regimes.get("strata")
    if protocol.task == "expression":
        names, lookup = subsets.classes(protocol, split)
        there = np.bincount(lookup[field(split, "expression")[rows]], minlength=len(names))
        classes = dict(zip(names, there.tolist(), strict=True))
    elif rule is not None and len(rows):
        found = strata.of_split(split, rule, rows, protocol.evaluation.get("threshold"))
        if isinstance(found, np.ndarray):
            classes = {f"{rule['field']}[{i}]": int(n) for i, n in enumerate(found.sum(axis=0))}
        else:
            for stratum in found:
                classes[str(stratum)] = classes.get(str(stratum), 0) + 1
    units = len({split.units[i] for i in rows})
    return {"samples": len(rows), "units": units, "classes": dict(sorted(classes.items()))}


def check_dataset(protocol: Protocol, dataset: Dataset) -> None:
    """Holds a prepared dataset against the one that a protocol was frozen on.

    Raises:
        FacebenchError: another dataset, config or version, a split that is missing, or a digest
            that differs; which, and what to do.
    """
    for key in ("name", "config", "version"):
        if (found := getattr(dataset, key)) != (wanted := protocol.dataset[key]):
            raise FacebenchError(
                f"protocol {protocol.id}: dataset.{key} is {wanted!r}, but {found!r} was opened; "
                f"run `facebench data prepare {protocol.dataset['name']}`"
            )
    for split, wanted in protocol.splits.items():
        found = dataset.facts["splits"].get(split, {})
        for fact in ("n", "keys", "content"):
            if found.get(fact) != wanted[fact]:
                raise FacebenchError(
                    f"protocol {protocol.id}: split {split!r} of {dataset.label} "
                    f"{dataset.version}: {fact} is {found.get(fact)}, the protocol froze "
                    f"{wanted[fact]}; remove {dataset.folder} and run `facebench data prepare "
                    f"{dataset.name}` on the official release; if it differs again, the release "
                    "or the builder is not the one that the protocol was made on"
                )
    if name := lists.asked(protocol):
        wanted = protocol.evaluation.get("digest")
        listed = dataset.facts.get("lists", {}).get(name, {}).get("digest")
        if listed != wanted:
            raise FacebenchError(
                f"protocol {protocol.id}: list {name!r} of {dataset.label} {dataset.version} is "
                f"{digest.short(listed or 'missing')}, the protocol froze "
                f"{digest.short(wanted or 'none')}; remove {dataset.folder} and run `facebench "
                f"data prepare {dataset.name}` on the official release"
            )
    if protocol.crops is not None and (found := crops(protocol, dataset)) != protocol.crops:
        import cv2

        raise FacebenchError(
            f"protocol {protocol.id}: preprocess: the first {CROPS} test crops are "
            f"{digest.short(found)}, the protocol froze {digest.short(protocol.crops)}: the data "
            f"is the same, so decoding or warping drifted (OpenCV is {cv2.__version__} here); "
            "install the versions of requirements.lock"
        )
