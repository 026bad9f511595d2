"""Networks compared with experts and with one another (after arXiv 2401.11835).

Each network has one global map per expression: the mean heat map of the class's images, moved onto
the mean face. It is held against the expert's mask of the expression on that face, and against the
maps of the other networks by normalised cross-correlation (Pearson over the places); networks are
clustered by it, and a permutation test asks whether those of one family are nearer than chance.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facebench import action_maps
from facebench.errors import FacebenchError, nearest
from facebench.interpret import measures, report
from facebench.interpret.aligned import Aligned, class_means
from facebench.interpret.opened import Opened

SCHEMA = "facebench/interpret-study-1"
EXACT = 20_000  # arrangements that are all tried; of more some are drawn
DRAWS = 9_999


@dataclass(frozen=True)
class Network:
    """A network's global maps.

    Attributes:
        name: of the trial.
        family: what the permutation test deals out.
        accuracy: on the images.
        maps: [S, S] per class; None where none is defined.
    """

    name: str
    family: str
    accuracy: float
    maps: list[np.ndarray | None]


def network(of: Opened, seen: report.Seen, aligned: Aligned, method: str, family: str) -> Network:
    """The global maps of a trial by one method.

    Raises:
        FacebenchError: the method has no meaning for this network.
    """
    if method not in seen.heat:
        why = seen.why or nearest(method, seen.heat)
        raise FacebenchError(f"{of.name}: --method={method}: {why}")
    maps = seen.fine(of.size)[method]
    label = seen.samples.label
    means = class_means(aligned, maps, label, len(of.classes))
    accuracy = float((seen.probability.argmax(1) == label).mean())
    return Network(of.name, family, accuracy, means)


def experts(of: Opened, aligned: Aligned, codebook: str) -> list[np.ndarray | None]:
    """The expert's mask [S, S] of each class on the mean face; None where it has no AU."""
    made: list[np.ndarray | None] = []
    known = action_maps.CODEBOOKS[codebook]
    for name in of.classes:
        au = known.get(name, ())
        if not au or aligned.shape is None:
            made.append(None)
            continue
        each = action_maps.maps(aligned.shape, of.size, of.size, au)
        made.append(each.max(0) >= report.MASK * each.max())
    return made


def against(
    maps: Sequence[np.ndarray | None], masks: Sequence[np.ndarray | None]
) -> dict[str, Any]:
    """IoU (of Otsu's mask) and correlation of global maps with the experts' masks, by class."""
    found: dict[str, list[float | None]] = {"iou": [], "correlation": []}
    for one, mask in zip(maps, masks):
        if one is None or mask is None or measures.constant(one[None])[0]:
            values: tuple[float | None, float | None] = None, None
        else:
            iou = measures.overlap(measures.otsu(one[None]), mask[None])["iou"][0]
            correlation = measures.pearson(one[None], mask[None].astype(float))[0]
            values = float(iou), float(correlation)
        for name, value in zip(found, values):
            found[name].append(value)
    made: dict[str, Any] = {
        name: {"mean": measures.macro(values), "per_class": values}
        for name, values in found.items()
    }
    return made | {"n": sum(value is not None for value in found["iou"])}


def similarity(networks: Sequence[Network]) -> np.ndarray:
    """Pairwise mean over the classes of the correlation of global maps: [n, n].

    Raises:
        FacebenchError: two networks have no class in common.
    """
    made = np.eye(len(networks))
    for i, j in itertools.combinations(range(len(networks)), 2):
        both = [
            (a, b) for a, b in zip(networks[i].maps, networks[j].maps)
            if a is not None and b is not None
        ]  # fmt: skip
        values = [measures.pearson(a[None], b[None])[0] for a, b in both]
        values = [v for v in values if math.isfinite(v)]
        if not values:
            raise FacebenchError(
                f"{networks[i].name} and {networks[j].name} have no class whose maps are both "
                "defined"
            )
        made[i, j] = made[j, i] = float(np.mean(values))
    return made


def dendrogram(matrix: np.ndarray) -> tuple[list[list[float]], list[int]]:
    """Average linkage of ``1 - similarity``: the merges (a, b, distance), and the leaves' order."""
    if len(matrix) < 2:
        return [], list(range(len(matrix)))
    from scipy.cluster import hierarchy
    from scipy.spatial import distance

    apart = distance.squareform(np.maximum(1 - matrix, 0), checks=False)
    links = hierarchy.linkage(apart, "average", optimal_ordering=True)
    return links[:, :3].tolist(), hierarchy.leaves_list(links).tolist()


def _arrangements(left: Counter[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every different way to deal names out to n places."""
    if n == 0:
        yield ()
        return
    for name in list(left):
        if left[name]:
            left[name] -= 1
            for rest in _arrangements(left, n - 1):
                yield (name, *rest)
            left[name] += 1


def gap(matrix: np.ndarray, families: Sequence[str] | np.ndarray) -> tuple[float, float]:
    """The mean similarity of two networks of one family, and of two families."""
    names = np.array(families)
    i, j = np.triu_indices(len(names), 1)
    same, values = names[i] == names[j], matrix[i, j]
    return float(values[same].mean()), float(values[~same].mean())


def collapsed(matrix: np.ndarray, blocks: Sequence[Hashable]) -> np.ndarray:
    """The mean similarity of networks of two blocks: [blocks, blocks], in the order of the first.

    Networks that differ in their seed alone are one observation of how their design looks at faces:
    counted one by one they would make any permutation test significant.
    """
    names = list(dict.fromkeys(blocks))
    of = np.array([names.index(block) for block in blocks])
    made = np.eye(len(names))
    for i, j in itertools.combinations(range(len(names)), 2):
        made[i, j] = made[j, i] = matrix[np.ix_(of == i, of == j)].mean()
    return made


def permutation(
    matrix: np.ndarray, families: Sequence[str], seed: int = 0
) -> tuple[dict[str, Any], list[float]] | None:
    """Whether networks of one family are more alike than if families were dealt out by chance.

    Args:
        matrix: similarities [n, n], see `collapsed`.
        families: of the rows.
        seed: of the draws, where there are too many arrangements to try all.

    Returns:
        what was found, and the difference of every arrangement; None where there is nothing to
        compare: one family only, or none with two networks.
    """
    sizes = Counter(families)
    if len(sizes) < 2 or max(sizes.values()) < 2:
        return None
    within, between = gap(matrix, families)
    observed = within - between
    count = math.factorial(len(families))
    for size in sizes.values():
        count //= math.factorial(size)
    if exact := count <= EXACT:
        ways = _arrangements(Counter(families), len(families))
        null = [np.subtract(*gap(matrix, way)) for way in ways]
    else:
        rng = np.random.default_rng(seed)
        null = [observed]  # what was found is one of the arrangements
        null += [np.subtract(*gap(matrix, rng.permutation(families))) for _ in range(DRAWS)]
    p = float(np.mean(np.array(null) >= observed - 1e-12))
    alike = math.prod(math.factorial(n) for n in Counter(sizes.values()).values())
    found = {
        "within": within,
        "between": between,
        "observed": observed,
        "p": p,
        "exact": exact,
        "arrangements": len(null),
        "least_p": max(alike / count, 0 if exact else 1 / (DRAWS + 1)),
    }
    return found, [float(value) for value in null]
