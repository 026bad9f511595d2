"""Reports as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facebench.interpret.layers import Layer

# Column, what it reads of a row, digits.
COLUMNS = (
    ("cosine", "cosine", 3),
    ("correl.", "correlation", 3),
    ("IoU Otsu", "iou_otsu", 3),
    ("IoU top", "iou_top", 3),
    ("precis.", "precision_top", 3),
    ("recall", "recall_top", 3),
    ("pointing", "pointing", 3),
    ("energy", "energy", 3),
)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows as lines; the first `left` columns to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def layers(found: Sequence[Layer], profile: Sequence[Layer]) -> str:
    """Every layer that can be named; those of the profile are marked."""
    rows = [["layer", "is a", "map", "channels", ""]]
    rows += [
        [
            *(layer.name, layer.kind, f"{layer.grid[0]} x {layer.grid[1]}", str(layer.channels)),
            "profile" if layer in profile else "",
        ]
        for layer in found
    ]
    return "\n".join(
        [*aligned(rows, 2), "", f"{len(found)} maps; name one by --layer, some by --profile=A*,B"]
    )


def report(value: Mapping[str, Any], name: str) -> str:
    """A trial's report."""
    layer = value["layer"]
    lines = [
        f"{value['trial']['protocol']['id']}  {name}",
        f"{value['split']}: {value['images']} images, accuracy {value['accuracy']:.3f}; class maps "
        f"of {layer['name']}, {layer['grid'][0]} x {layer['grid'][1]}",
        "",
    ]
    lines += _table(value) if value["points"] else [
        "The dataset has no 68 landmarks, so there are no AU maps to compare with."
    ]  # fmt: skip
    if value["points"]:
        lines += ["", *_pointing(value), "", *_profile(value)]
    if value["curves"]:
        lines += ["", *_curves(value)]
    return "\n".join([*lines, *(f"\n{note}" for note in value["notes"])])


def _row(name: str, of: Mapping[str, Any]) -> list[str]:
    numbers = [_number(of[key]["mean"], digits) for _, key, digits in COLUMNS]
    cosine = of["class_mean"]["cosine"]["mean"] if "class_mean" in of else None
    return [name, *numbers, _number(cosine), str(of["undefined"])]


def _table(value: Mapping[str, Any]) -> list[str]:
    rows = [["against AU maps", *(title for title, *_ in COLUMNS), "class mean", "undefined"]]
    rows += [_row(name, of) for name, of in value["methods"].items()]
    first = len(rows)
    names = {"gaussian": "= Gaussian on the face", "mean AU map": "= mean AU map of the class"}
    rows += [_row(names[name], of) for name, of in value["baselines"].items()]
    lines = aligned(rows)
    rule = "-" * max(map(len, lines))
    some = next(iter(value["methods"].values()))
    area = _number(some["area"]["mean"])
    lines = [lines[0], rule, *lines[1:first], rule, *lines[first:]]
    return [
        *lines,
        f"{some['n']} images have AU maps ({value['conventions']['codebook']} codebook), which "
        f"cover {area} of the crop:",
        "precision, pointing and energy of a map that knows nothing. Lines with = look at no",
        "network; `class mean` is the cosine of the mean map of the other images of the class.",
    ]  # fmt: skip


def _pointing(value: Mapping[str, Any]) -> list[str]:
    of = {**value["methods"], **value["baselines"]}
    units = list(next(iter(value["methods"].values()))["pointing_per_au"])
    rows = [["maximum inside AU", *units]]
    for name, found in of.items():
        hits = found["pointing_per_au"]
        rows.append(
            [("= " if name in value["baselines"] else "") + name]
            + [_number(hits[unit]["hits"], 2) for unit in units]
        )
    return aligned(rows)


def _profile(value: Mapping[str, Any]) -> list[str]:
    gaussian = value["baselines"]["gaussian"]["cosine"]["mean"]
    rows = [["attention by layer", "map", "channels", "cosine", "min-max", "undefined", ""]]
    for one in value["profile"]:
        mean = one["cosine"]["mean"]
        bar = "" if mean is None else "#" * round(30 * mean)
        rows.append(
            [
                *(one["layer"], f"{one['grid'][0]} x {one['grid'][1]}", str(one["channels"])),
                *(_number(mean), _number(one["cosine_minmax"]["mean"])),
                *(str(one["undefined"]), bar),
            ]
        )
    lines = aligned([[*row[:6]] for row in rows])
    shown = [f"{line}  {row[6]}".rstrip() for line, row in zip(lines, rows)]
    return [*shown, f"= Gaussian on the face: {_number(gaussian)}"]


def _curves(value: Mapping[str, Any]) -> list[str]:
    curves = value["curves"]
    rows = [["probability of the class", "insertion", "deletion", "undefined"]]
    for name, of in curves.items():
        if isinstance(of, Mapping):
            shown = f"= {name}" if name in value["baselines"] else name
            areas = [_number(of[kind]["auc"]) for kind in ("insertion", "deletion")]
            rows.append([shown, *areas, str(of["undefined"])])
    return [
        *aligned(rows),
        "area under it while pixels come back (more is better) or go (less is), "
        f"{curves['images']} images",
    ]


def study(value: Mapping[str, Any]) -> str:
    """A study's report."""
    names = [one["name"] for one in value["networks"]]
    rows = [["network", "family", "accuracy", "IoU", "correl.", "Gaussian IoU", "classes"]]
    expert = value["expert"]
    for one in expert["networks"]:
        rows.append(
            [
                *(one["name"], one["family"], _number(one["accuracy"])),
                *(_number(one["iou"]["mean"]), _number(one["correlation"]["mean"])),
                *(_number(expert["gaussian"]["iou"]["mean"]), str(one["n"])),
            ]
        )
    lines = [
        f"{value['protocol']}  {value['split']}: {value['images']} images, {value['method']}",
        "",
        "one map per network and expression, on the mean face, against the expert's mask",
        *aligned(rows, 2),
        "",
        "similarity of networks: normalised cross-correlation, mean over classes",
        *aligned(
            [["", *(f"[{i + 1}]" for i in range(len(names)))]]
            + [
                [f"[{i + 1}] {names[i]}", *(_number(x, 2) for x in row)]
                for i, row in enumerate(value["similarity"])
            ]
        ),
    ]
    test = value["permutation"]
    if test is None:
        lines += ["", "no permutation test: it needs two families, one of them with two designs"]
    else:
        ways = f"all {test['arrangements']}" if test["exact"] else f"{test['arrangements']} drawn"
        lines += [
            "",
            f"{test['designs']} designs (seeds of one are averaged): same family "
            f"{_number(test['within'])}, other family {_number(test['between'])}, "
            f"difference {_number(test['observed'])}",
            f"p = {test['p']:.4g}: share of {ways} ways to deal out the "
            "families with a difference as large",
        ]
        if test["least_p"] > 0.05:
            lines.append(f"with so few designs p cannot be below {test['least_p']:.3g}: no answer")
    return "\n".join(lines)


def together(rows: Sequence[tuple[str, Mapping[str, Any]]], matrix: Any, method: str) -> str:
    """Several trials side by side, and how alike their heat maps of the same images are."""
    shown = [["network", "accuracy", "cosine", "correl.", "IoU Otsu", "pointing", "insertion"]]
    for name, value in rows:
        of = value["methods"].get(method)
        if of is None:
            shown.append([name, _number(value["accuracy"]), *"-----"])
            continue
        curve = (value["curves"] or {}).get(method)
        shown.append(
            [name, _number(value["accuracy"])]
            + [_number(of[k]["mean"]) for k in ("cosine", "correlation", "iou_otsu", "pointing")]
            + [_number(curve["insertion"]["auc"]) if curve else "-"]
        )
    table = [["", *(f"[{i + 1}]" for i in range(len(rows)))]]
    table += [
        [f"[{i + 1}] {name}", *(_number(x, 2) for x in matrix[i])]
        for i, (name, _) in enumerate(rows)
    ]
    return "\n".join(
        [f"by {method}", *aligned(shown), "", "correlation image by image, mean", *aligned(table)]
    )
