"""Interpreting trials: what is computed, and the files that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import files, pictures
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.interpret import aligned, maps, measures, opened, plots, report, study, text
from facebench.interpret import layers as layer_lib
from facebench.workspace import Workspace


def show_layers(ws: Workspace, name: str, profile: Sequence[str]) -> str:
    """Every map inside a trial's network, as a table."""
    of = opened.Opened(ws, opened.find(name))
    return text.layers(of.layers, layer_lib.chosen(of.layers, profile))


def one(
    ws: Workspace, name: str, options: report.Options, out: Path | None = None
) -> tuple[dict[str, Any], Path, report.Seen, opened.Opened]:
    """Interprets a trial and writes its report and figures.

    Args:
        ws: the workspace.
        name: see `opened.find`.
        options: what is asked for.
        out: a folder; ``interpret`` in the trial's when left out.

    Returns:
        the report, the folder, the heat maps and the trial.
    """
    options.check()
    of = opened.Opened(ws, opened.find(name))
    seen = report.look(of, options)
    where = report.expected(of, seen.samples, options.codebook)
    value = report.describe(of, seen, where, options)
    folder = out or of.folder / ("interpret" + f"-{options.split}" * (options.split != "test"))
    files.write_json(folder / "interpret.json", value)
    files.write_atomic(folder / "heatmaps.png", pictures.png(_heatmaps(of, seen, where, options)))
    if value["points"]:
        files.write_text(folder / "profile.svg", _profile(of, value))
    if value["curves"]:
        of_method = {k: v for k, v in value["curves"].items() if isinstance(v, dict)}
        lines = {
            method: {kind: one["curve"] for kind, one in found.items() if kind != "undefined"}
            for method, found in of_method.items()
        }
        files.write_text(
            folder / "curves.svg", plots.curves(f"Insertion, deletion: {of.name}", lines)
        )
    return value, folder, seen, of


def _profile(of: opened.Opened, value: dict[str, Any]) -> str:
    layers = [one["layer"] for one in value["profile"]]
    lines = {
        one["name"]: [layer["cosine"]["per_class"][c] for layer in value["profile"]]
        for c, one in enumerate(value["classes"])
        if one["au"]
    }
    means = [layer["cosine"]["mean"] for layer in value["profile"]]
    levels = {"Gaussian": value["baselines"]["gaussian"]["cosine"]["mean"]}
    known = {name: level for name, level in levels.items() if level is not None}
    return plots.profile(f"Attention by layer: {of.name}", layers, lines, means, known)


class _Sheet:
    """Cells on the mean face of each class."""

    def __init__(self, of: opened.Opened, samples: opened.Samples, codebook: str):
        n, self.size, self.classes = len(samples.label), of.size, of.classes
        self.label = samples.label
        self.on = aligned.Aligned(samples.points, n, of.size)
        # Whoever is photographed did not agree to be in a report; generated people have no say.
        self.faces: list[np.ndarray | None] = [None] * len(of.classes)
        if of.generated:
            mine = [self.label == c for c in range(len(of.classes))]
            self.faces = aligned.stretched([self.on.mean(samples.images, c) for c in mine])
        self.experts = study.experts(of, self.on, codebook)

    def row(self, maps: Sequence[np.ndarray | None], outlined: bool = True) -> list[np.ndarray]:
        """A cell per class."""
        return [
            aligned.cell(one, face, self.on.shape, expert if outlined else None, self.size)
            for one, face, expert in zip(maps, self.faces, self.experts)
        ]

    @property
    def title(self) -> list[str]:
        """Names of the columns, with the number of images."""
        return [f"{name} ({(self.label == c).sum()})" for c, name in enumerate(self.classes)]


_NOTE = "mean over the images of a class, each colour scale its own; white: the mask of the AUs"


def _heatmaps(
    of: opened.Opened, seen: report.Seen, where: report.Expected, options: report.Options
) -> np.ndarray:
    sheet = _Sheet(of, seen.samples, options.codebook)
    classes = len(of.classes)
    rows = [("mean face", sheet.row([None] * classes, outlined=False))]
    fine = seen.fine(of.size)
    if seen.samples.points is not None:
        fine = {"AU map": where.maps, **fine, "Gaussian": where.gaussian}
    for method, m in fine.items():
        means = aligned.class_means(sheet.on, m, sheet.label, classes)
        rows.append((method, sheet.row(means)))
    title = f"{of.name}, {options.split}: maps of {seen.layer.name}"
    return aligned.sheet(title, sheet.title, rows, _NOTE)


# -- several trials -------------------------------------------------------------------------------


def _same_question(trials: Sequence[opened.Opened]) -> None:
    ids = {of.protocol.id for of in trials}
    if len(ids) > 1:
        raise FacebenchError(
            f"--trials: of different protocols, {', '.join(sorted(ids))}; networks are compared on "
            "the same images"
        )


def _check_method(method: str) -> None:
    if method not in maps.METHODS:
        raise UsageError(f"--method={method}: {nearest(method, maps.METHODS)}")


def several(
    ws: Workspace, names: Sequence[str], options: report.Options, method: str
) -> tuple[str, list[Path]]:
    """Interprets trials one after the other, and compares their maps image by image.

    Returns:
        a table, and the folders that were written.
    """
    _check_method(method)
    _same_question([opened.Opened(ws, opened.find(name)) for name in names])
    rows, folders, fine = [], [], []
    for name in names:
        value, folder, seen, of = one(ws, name, options)
        rows.append((of.name, value))
        folders.append(folder)
        fine.append(seen.fine(of.size).get(method))
    matrix: list[list[float | None]] = []
    for a in fine:
        matrix.append([])
        for b in fine:
            both = np.array([]) if a is None or b is None else measures.pearson(a, b)
            both = both[np.isfinite(both)]
            matrix[-1].append(float(both.mean()) if len(both) else None)
    return text.together(rows, matrix, method), folders


def compared(
    ws: Workspace,
    names: Sequence[str],
    options: report.Options,
    method: str,
    families: Sequence[str] = (),
    out: Path | None = None,
) -> tuple[dict[str, Any], Path]:
    """The study of several networks: against experts, and against one another.

    Args:
        ws: the workspace.
        names: of the trials, see `opened.find`.
        options: what is asked for.
        method: of `maps.METHODS`.
        families: one for each trial; the names of the backbones when left out.
        out: a folder; ``runs/interpret/study`` when left out.

    Returns:
        the report and the folder.

    Raises:
        UsageError: fewer than two trials, or another number of families.
        FacebenchError: trials of different protocols; a method without meaning for one of them.
    """
    options.check()
    _check_method(method)
    if len(names) < 2:
        raise UsageError("--study needs two trials or more: --trials=A,B,...")
    if families and len(families) != len(names):
        raise UsageError(f"--families names {len(families)}, --trials {len(names)}")
    trials = [opened.Opened(ws, opened.find(name)) for name in names]
    _same_question(trials)
    first = trials[0]
    samples = first.samples(options.split, options.limit, report.ROWS)
    sheet = _Sheet(first, samples, options.codebook)
    networks = []
    for k, of in enumerate(trials):
        seen = report.look(of, options, samples)
        family = families[k] if families else of.family
        networks.append(study.network(of, seen, sheet.on, method, family))
        print(f"[{k + 1}/{len(trials)}] {of.name}: {method} of {seen.layer.name}", flush=True)
    where = report.expected(first, samples, options.codebook)
    gaussian = aligned.class_means(sheet.on, where.gaussian, samples.label, len(first.classes))
    matrix = study.similarity(networks)
    links, order = study.dendrogram(matrix)
    kinds = [one.family for one in networks]
    designs = [of.value["config"]["digest"] for of in trials]
    blocks = list(zip(designs, kinds))
    between = study.collapsed(matrix, blocks)
    tested = study.permutation(between, [family for _, family in dict.fromkeys(blocks)])
    value = {
        "schema": study.SCHEMA,
        "protocol": first.protocol.id,
        "split": options.split,
        "images": len(samples.label),
        "method": method,
        "classes": list(first.classes),
        "networks": [
            {"name": of.name, "trial_id": of.value["trial_id"], "weights": of.weights}
            for of in trials
        ],
        "expert": {
            "codebook": options.codebook,
            "mask": f"AU map of the mean face >= {report.MASK}",
            "binarised": "Otsu, exact",
            "networks": [
                {"name": one.name, "family": one.family, "accuracy": one.accuracy}
                | study.against(one.maps, sheet.experts)
                for one in networks
            ],
            "gaussian": study.against(gaussian, sheet.experts),
        },
        "similarity": matrix.tolist(),
        "links": links,
        "order": order,
        "permutation": tested[0] | {"designs": len(between)} if tested else None,
    }
    folder = out or ws.runs / "interpret" / "study"
    files.write_json(folder / "study.json", value)
    rows = [("experts (AUs)", sheet.row([None] * len(first.classes)))]
    rows += [(one.name, sheet.row(one.maps)) for one in networks]
    rows += [("Gaussian", sheet.row(gaussian))]
    picture = aligned.sheet(
        f"Global maps by {method}, {first.protocol.id}", sheet.title, rows, _NOTE
    )
    files.write_atomic(folder / "maps.png", pictures.png(picture))
    called = [one.name for one in networks]
    plot = plots.similarity("Networks by what they look at", called, kinds, matrix, links, order)
    files.write_text(folder / "similarity.svg", plot)
    if tested:
        found, null = tested
        how = "all there are" if found["exact"] else "drawn"
        plot = plots.permutation(
            "Are families nearer than chance?", null, found["observed"], found["p"], how
        )
        files.write_text(folder / "permutation.svg", plot)
    return value, folder
