"""Everything that is said of one trial: heat maps, how they compare, and beside what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facebench import action_maps, schemes
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.interpret import curves, measures
from facebench.interpret import layers as layer_lib
from facebench.interpret import maps as map_lib
from facebench.interpret.layers import Layer
from facebench.interpret.opened import Opened, Samples

SCHEMA = "facebench/interpret-1"
ROWS = 32  # images at a time
GAUSSIAN = 0.25  # standard deviation of the face-centred Gaussian, in sides of the points' box
MASK = 0.5  # from which value on an AU map, whose maximum is 1, counts as the mask


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for, and by which conventions.

    Attributes:
        split: which samples.
        limit: the first so many; 0 for all.
        layer: name of the map that classes are followed back to; "" for the last that counts.
        profile: patterns of the layers whose attention is measured; none for the usual ones.
        codebook: of `action_maps.CODEBOOKS`.
        placement: of `measures.PLACEMENTS`.
        top: share of the crop in the top-k mask.
        curves: images of insertion and deletion; 0 leaves them out.
    """

    split: str = "test"
    limit: int = 0
    layer: str = ""
    profile: tuple[str, ...] = ()
    codebook: str = "corrected"
    placement: str = "cells"
    top: float = 0.2
    curves: int = 64

    def check(self) -> None:
        """Refuses what cannot be, before anything is computed.

        Raises:
            UsageError: names the flag.
        """
        for flag, value, known in (
            ("codebook", self.codebook, action_maps.CODEBOOKS),
            ("placement", self.placement, measures.PLACEMENTS),
        ):
            if value not in known:
                raise UsageError(f"--{flag}={value}: {nearest(value, known)}")
        if not 0 < self.top < 1:
            raise UsageError(f"--top={self.top}: expected a share of the crop between 0 and 1")
        for flag, number in (("limit", self.limit), ("curves", self.curves)):
            if number < 0:
                raise UsageError(f"--{flag}={number}: expected 0 or more")


@dataclasses.dataclass
class Seen:
    """A network's heat maps of some samples.

    Attributes:
        samples: the images.
        probability: [n, C].
        layer: that the class's score was followed back to.
        heat: [n, h, w] of that layer, by method; without ``cam`` where it has no meaning.
        attention: [n, h, w] of each profile layer, by its name.
        places: of the rows and columns of each layer on the crop, see `measures.centres`.
        off: (x, y), how far what the layer's cells see lies from its tiles, mean, in pixels.
        not_affine: how far the scores are from an affine function of the layer.
        why: the reason why there is no ``cam``; "" where there is.
    """

    samples: Samples
    probability: np.ndarray
    layer: Layer
    heat: dict[str, np.ndarray]
    attention: dict[str, np.ndarray]
    places: dict[str, measures.Centres]
    off: tuple[float, float]
    not_affine: float
    why: str

    def fine(self, size: int) -> dict[str, np.ndarray]:
        """Every method's maps as they are compared, on the pixels of the crop."""
        at = self.places[self.layer.name]
        return {k: measures.resample(shown(k, m), size, at) for k, m in self.heat.items()}


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities [n, C] of scores [n, C]."""
    raised = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def look(of: Opened, options: Options, samples: Samples | None = None) -> Seen:
    """The heat maps of a trial's network.

    Args:
        of: the trial.
        options: what is asked for.
        samples: to look at; those of the options when left out.

    Raises:
        UsageError: no layer of that name.
        FacebenchError: no layer counts.
    """
    samples = of.samples(options.split, options.limit, ROWS) if samples is None else samples
    profile = layer_lib.chosen(of.layers, options.profile)
    asked = layer_lib.chosen(of.layers, [options.layer]) if options.layer else []
    if len(asked) > 1:
        names = ", ".join(layer.name for layer in asked)
        raise UsageError(f"--layer={options.layer}: expected one layer, it fits {names}")
    read = list(dict.fromkeys([*profile, *asked]))
    programs = map_lib.Programs(of.module, read)
    found: list[dict[str, Any]] = []
    for first in range(0, len(samples.images), ROWS):
        at = np.minimum(np.arange(first, first + ROWS), len(samples.images) - 1)
        kept = min(ROWS, len(samples.images) - first)
        part = programs.explain(of.variables, samples.images[at], samples.label[at])
        part["heat"] = {
            name: {method: m[:kept] for method, m in heat.items()}
            for name, heat in part["heat"].items()
        }
        found.append(part | {"scores": part["scores"][:kept]})
    layer = asked[0] if asked else _last(read, found[0]["slope"])
    heat = {
        method: np.concatenate([part["heat"][layer.name][method] for part in found])
        for method in map_lib.METHODS
    }
    peak = float(found[0]["peak"][layer.name])
    off = programs.affine(of.variables, samples.images[:2], layer, peak)
    at = np.arange(ROWS) % len(samples.images)
    probed = read if options.placement == "field" else [layer]
    fields = {x.name: programs.field(of.variables, samples.images[at], x) for x in probed}
    places = {x.name: measures.centres(x.grid, of.size, options.placement) for x in read}
    tiles = measures.centres(layer.grid, of.size)
    shift = [float((a - b).mean()) for a, b in zip(fields[layer.name], tiles)]
    if options.placement == "field":
        places |= fields
    why = ""
    if not off < map_lib.NOT_AFFINE[of.precision]:
        heat.pop("cam")
        why = (
            f"no CAM: the scores are no affine function of {layer.name} (off by {off:.2g} of their "
            "change), so the map is not followed by a mean or flattening and one linear layer"
        )
    attention = {
        one.name: np.concatenate([part["heat"][one.name]["attention"] for part in found])
        for one in profile
    }
    scores = np.concatenate([part["scores"] for part in found])
    return Seen(
        samples, softmax(scores), layer, heat, attention, places, (shift[1], shift[0]), off, why
    )


def _last(read: Sequence[Layer], slope: Mapping[str, Any]) -> Layer:
    """The last layer that the score of a class depends on."""
    for layer in reversed(read):
        if slope[layer.name] > 0:
            return layer
    raise FacebenchError(
        "no score changes with any of the layers: is the head untrained? name one by --layer"
    )


@dataclasses.dataclass(frozen=True)
class Expected:
    """Where the class of each image should show.

    Attributes:
        grid: cells on a side.
        classes: the AUs of each class; () where it has none.
        maps: [n, g, g], zeros where the class has no AU or the points cannot be drawn.
        units: [n, g, g] bool masks by AU, of the images `rows` whose class has it.
        rows: by AU.
        gaussian: [n, g, g].
    """

    grid: int
    classes: tuple[tuple[int, ...], ...]
    maps: np.ndarray
    units: dict[int, np.ndarray]
    rows: dict[int, np.ndarray]
    gaussian: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """The places [n, g, g] where the class shows."""
        return np.asarray(self.maps >= MASK)


def expected(of: Opened, samples: Samples, codebook: str) -> Expected:
    """AU maps of the true class of each image, on a grid of the crop's pixels."""
    size, n = of.size, len(samples.label)
    known = [name for name in of.classes if name in schemes.EXPRESSIONS]
    sets = dict(zip(known, action_maps.codes(codebook, known)))
    units = tuple(tuple(sets.get(name, ())) for name in of.classes)
    maps = np.zeros((n, size, size), np.float32)
    masks: dict[int, list[np.ndarray]] = {}
    rows: dict[int, list[np.ndarray]] = {}
    if samples.points is None:
        centre = np.full((n, 2), (size - 1) / 2)
        spread = np.full(n, GAUSSIAN * size)
    else:
        low, high = samples.points.min(1), samples.points.max(1)
        centre, spread = (low + high) / 2, GAUSSIAN * (high - low).max(1)
        for c, au in enumerate(units):
            mine = np.flatnonzero(samples.label == c)
            for part in np.array_split(mine, -(-len(mine) // 64) or 1):
                if not au or not len(part):
                    continue
                each = action_maps.maps(samples.points[part], size, size, au)
                most = each.max((1, 2, 3), keepdims=True)
                each = each / np.where(most > 0, most, 1)
                maps[part] = each.max(1)
                for k, number in enumerate(au):
                    masks.setdefault(number, []).append(each[:, k] >= MASK)
                    rows.setdefault(number, []).append(part)
    return Expected(
        grid=size,
        classes=units,
        maps=maps,
        units={au: np.concatenate(parts) for au, parts in sorted(masks.items())},
        rows={au: np.concatenate(parts) for au, parts in rows.items()},
        gaussian=measures.gaussian(centre, spread, size, size).astype(np.float32),
    )


def compare(
    maps: np.ndarray, where: Expected, label: np.ndarray, top: float
) -> tuple[dict[str, Any], np.ndarray]:
    """A method's maps held against the AU maps.

    Args:
        maps: [n, g, g], not negative.
        where: the AU maps.
        label: [n].
        top: share of the crop in the top-k mask.

    Returns:
        the measures, each ``{mean, per_class}``, ``pointing_per_au``, ``undefined`` and the number
        of images that have an AU map ``n``; and the cosine of each image.
    """
    classes = len(where.classes)
    there = np.asarray(where.maps.any((1, 2)))
    mask = where.mask & there[:, None, None]
    values = {
        "cosine": measures.cosine(maps, where.maps),
        "cosine_minmax": measures.cosine(measures.min_max(maps), where.maps),
        "correlation": measures.pearson(maps, where.maps),
        "pointing": measures.pointing(maps, mask),
        "energy": measures.energy(maps, mask),
        "area": np.where(there, mask.mean((1, 2)), np.nan),
    }
    for name, binary in (("otsu", measures.otsu(maps)), ("top", measures.top(maps, top))):
        found = measures.overlap(binary, mask)
        values |= {f"{key}_{name}": value for key, value in found.items()}
    made: dict[str, Any] = {"n": int(there.sum())}
    made["undefined"] = int((measures.constant(maps) & there).sum())
    for name, value in values.items():
        per_class = measures.of_class(np.where(there, value, np.nan), label, classes)
        made[name] = {"mean": measures.macro(per_class), "per_class": per_class}
    made["pointing_per_au"] = {}
    for au, masks in where.units.items():
        hits = measures.pointing(maps[where.rows[au]], masks)
        hits = hits[np.isfinite(hits)]
        mean = float(hits.mean()) if len(hits) else None
        made["pointing_per_au"][str(au)] = {"hits": mean, "n": len(hits)}
    return made, np.where(there, values["cosine"], np.nan)


def shown(method: str, maps: np.ndarray) -> np.ndarray:
    """Maps as they are compared: shifted above 0 for attention, else their positive part."""
    return measures.shifted(maps) if method == "attention" else measures.positive(maps)


def describe(of: Opened, seen: Seen, where: Expected, options: Options) -> dict[str, Any]:
    """The whole report of a trial, as a JSON value.

    Args:
        of: the trial.
        seen: its heat maps.
        where: the AU maps of the same samples.
        options: what was asked for.
    """
    label = seen.samples.label
    fine = seen.fine(where.grid)
    rows: dict[str, Any] = {}
    for method, maps in fine.items():
        rows[method], _ = compare(maps, where, label, options.top)
        mean = measures.others_mean(maps, label)
        rows[method]["class_mean"], _ = compare(mean, where, label, options.top)
    baselines = {
        "gaussian": compare(where.gaussian, where, label, options.top)[0],
        "mean AU map": compare(measures.others_mean(where.maps, label), where, label, options.top)[
            0
        ],
    }
    profile = []
    for layer in layer_lib.chosen(of.layers, options.profile):
        maps = measures.resample(
            measures.shifted(seen.attention[layer.name]), where.grid, seen.places[layer.name]
        )
        full, _ = compare(maps, where, label, options.top)
        profile.append(
            {"layer": layer.name, "kind": layer.kind, "grid": list(layer.grid)}
            | {"channels": layer.channels}
            | {k: full[k] for k in ("cosine", "cosine_minmax", "correlation", "undefined", "n")}
        )
    right = seen.probability.argmax(1) == label
    value = of.value
    return {
        "schema": SCHEMA,
        "trial": {
            "trial_id": value["trial_id"],
            "entry": value["entry"],
            "protocol": value["protocol"],
            "regime": value["regime"],
            "seed": value["seed"],
            "weights": of.weights,
        },
        "split": options.split,
        "images": len(label),
        "accuracy": float(right.mean()),
        "classes": [
            {"name": name, "au": list(where.classes[c]), "images": int((label == c).sum())}
            for c, name in enumerate(of.classes)
        ],
        "points": seen.samples.points is not None,
        "layer": {"name": seen.layer.name, "grid": list(seen.layer.grid)}
        | {"not_affine": seen.not_affine if np.isfinite(seen.not_affine) else None}
        | {"off": list(seen.off)},
        "conventions": {
            "class": "the true one, whatever is predicted",
            "codebook": options.codebook,
            "grid": where.grid,
            "placement": options.placement,
            "mask": f"AU map >= {MASK}",
            "binarised": f"otsu: exact, per image; top: the largest {options.top:g} of the places",
            "compared": "positive part; attention: less its minimum where that is negative",
            "constant": f"a span below {measures.FLAT:g} of the largest value: undefined",
            "gaussian": f"{GAUSSIAN:g} of the longer side of the points' box",
            "means": "over images of a class, then over classes with an AU map",
        },
        "methods": rows,
        "baselines": baselines,
        "profile": profile,
        "curves": _curves(of, seen, where, fine, options),
        "notes": [seen.why] * bool(seen.why) + _displaced(of, seen, options),
    }


def _displaced(of: Opened, seen: Seen, options: Options) -> list[str]:
    """A warning where maps are drawn far from what they are about."""
    x, y = seen.off
    cell = of.size / max(seen.layer.grid)
    if options.placement == "field" or max(abs(x), abs(y)) < cell / 4:
        return []
    words = [
        f"{abs(v):.1f} px {names[v > 0]}"
        for v, names in ((y, ("above", "below")), (x, ("left of", "right of")))
        if abs(v) >= 0.5
    ]
    return [
        f"{seen.layer.name}: what its cells of {cell:g} px see lies on average {', '.join(words)} "
        "where they are drawn; --placement=field draws them there"
    ]


def _curves(
    of: Opened,
    seen: Seen,
    where: Expected,
    fine: Mapping[str, np.ndarray],
    options: Options,
) -> dict[str, Any] | None:
    """Insertion and deletion of the first images, by every method and by the Gaussian."""
    n = min(options.curves, len(seen.samples.label))
    if not n:
        return None
    programs = map_lib.Programs(of.module, [])
    whole = map_lib.follow(lambda images: programs.scores(of.variables, images), 2 * ROWS)
    made: dict[str, Any] = {"images": n, "steps": curves.STEPS}
    fine = {name: maps[:n] for name, maps in fine.items()}
    for name, maps in {**fine, "gaussian": where.gaussian[:n]}.items():
        there = ~measures.constant(maps)
        if not there.any():
            made[name] = None
            continue
        found = curves.run(
            seen.samples.images[:n][there],
            seen.samples.label[:n][there],
            maps[there],
            lambda images: softmax(whole(images)),
        )
        made[name] = {
            kind: {"auc": float(curves.area(rows).mean()), "curve": rows.mean(0).tolist()}
            for kind, rows in found.items()
        } | {"undefined": int((~there).sum())}
    return made
