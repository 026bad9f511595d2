"""Plots as SVG, by hand: equal numbers give equal bytes, and no library is needed to read them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

INK, GREY, GRID = "#222222", "#8a8a8a", "#e4e4e4"
# Distinct for the colour-blind (Okabe and Ito), darkest first.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#000000")


def _text(
    x: float, y: float, text: str, size: float = 12, anchor: str = "start", **more: Any
) -> str:
    rest = "".join(f' {k.replace("_", "-")}="{escape(str(v))}"' for k, v in more.items())
    fill = "" if "fill" in more else f' fill="{INK}"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"{fill}{rest}>'
        f"{escape(text)}</text>"
    )


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, width: float = 1) -> str:
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"/>'
    )


def _path(points: Sequence[tuple[float, float]], colour: str, width: float, dash: str = "") -> str:
    d = " ".join(f"{'ML'[i > 0]}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
        f'stroke-linejoin="round"{dashed}/>'
    )


def _box(x: float, y: float, width: float, height: float, fill: str, more: str = "") -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{fill}"{more}/>'
    )


def _page(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
            _text(16, 26, title, 15, font_weight="bold"),
            *parts,
            "</svg>\n",
        ]
    )


def _axis(left: float, right: float, top: float, bottom: float, low: float, high: float) -> list:
    """Horizontal lines at five heights, with their numbers."""
    parts = []
    for i in range(5):
        value = low + (high - low) * i / 4
        y = bottom - (bottom - top) * i / 4
        parts += [_line(left, y, right, y, GRID), _text(left - 6, y + 4, f"{value:.2g}", 11, "end")]
    return parts


def _spread(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Label positions near `places` that keep `least` between them, in the same order."""
    order = np.argsort(places, kind="stable")
    made = np.array(places, float)
    for before, after in itertools.pairwise(order):
        made[after] = max(made[after], made[before] + least)
    if len(order) and (over := made[order[-1]] - high) > 0:
        made[order[-1]] -= over
        for after, before in zip(order[::-1], order[-2::-1]):
            made[before] = min(made[before], made[after] - least)
    return np.maximum(made, low).tolist()


def profile(
    title: str,
    layers: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    mean: Sequence[float | None],
    levels: Mapping[str, float],
) -> str:
    """A number by layer: a line per class, their mean, and baselines as dashed levels."""
    step = max(46.0, min(110.0, 620 / max(len(layers) - 1, 1)))
    left, top, bottom = 66.0, 56.0, 300.0
    right = left + step * max(len(layers) - 1, 1)
    names = [name.removeprefix("backbone/") or name for name in layers]
    foot = bottom + 26 + 5.2 * max(map(len, names))
    values = [
        v for line in (*lines.values(), mean, list(levels.values())) for v in line if v is not None
    ]
    high = max(0.1, np.ceil(max(values, default=1) * 10) / 10)

    def y(value: float) -> float:
        return bottom - (bottom - top) * max(value, 0) / high

    def at(line: Sequence[float | None]) -> list[tuple[float, float]]:
        return [(left + step * i, y(v)) for i, v in enumerate(line) if v is not None]

    parts = _axis(left, right, top, bottom, 0, high)
    parts.append(
        _text(16, 46, "cosine of the channel mean with the AU map of the true class", 11, fill=GREY)
    )
    for i, name in enumerate(names):
        x = left + step * i
        parts += [_line(x, bottom, x, bottom + 4, GREY)]
        parts.append(
            _text(
                x + 4,
                bottom + 16,
                name,
                10.5,
                "end",
                transform=f"rotate(-40 {x + 4:.1f} {bottom + 16:.1f})",
            )
        )
    ends: list[tuple[str, str, float, str]] = []
    for name, value in levels.items():
        parts.append(_path([(left, y(value)), (right, y(value))], GREY, 1.5, "5 4"))
        ends.append((name, GREY, y(value), "normal"))
    for i, (name, line) in enumerate(lines.items()):
        colour, points = COLOURS[i % len(COLOURS)], at(line)
        parts.append(_path(points, colour, 1.4))
        if points:
            ends.append((name, colour, points[-1][1], "normal"))
    points = at(mean)
    parts.append(_path(points, INK, 3))
    parts += [f'<circle cx="{x:.1f}" cy="{v:.1f}" r="3.4" fill="{INK}"/>' for x, v in points]
    if points:
        ends.append(("mean", INK, points[-1][1], "bold"))
    places = _spread([end[2] for end in ends], 14, top, foot)
    for (name, colour, near, weight), place in zip(ends, places):
        parts.append(_line(right + 4, near, right + 14, place, colour))
        parts.append(_text(right + 18, place + 4, name, 11.5, fill=colour, font_weight=weight))
    return _page(right + 170, max(foot, bottom + 40), title, parts)


def curves(title: str, of: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Insertion and deletion side by side: a line per method, by the share of pixels."""
    left, top, bottom, width, gap = 60.0, 76.0, 320.0, 300.0, 70.0
    values = [v for kinds in of.values() for line in kinds.values() for v in line]
    high = max(0.1, np.ceil(max(values, default=1) * 10) / 10)
    parts = [_text(16, 46, "mean probability of the true class", 11, fill=GREY)]
    for k, (kind, foot) in enumerate(
        (("insertion", "share of pixels brought back"), ("deletion", "share of pixels hidden"))
    ):
        x0 = left + k * (width + gap)
        parts += _axis(x0, x0 + width, top, bottom, 0, high)
        parts += [_text(x0, top - 10, kind, 12.5, font_weight="bold")]
        parts += [_text(x0 + width / 2, bottom + 34, foot, 11, "middle", fill=GREY)]
        for i in range(5):
            parts.append(_text(x0 + width * i / 4, bottom + 17, f"{i / 4:g}", 11, "middle"))
        for i, (name, kinds) in enumerate(of.items()):
            line = kinds[kind]
            points = [
                (x0 + width * j / (len(line) - 1), bottom - (bottom - top) * v / high)
                for j, v in enumerate(line)
            ]
            plain = name == "gaussian"
            parts.append(
                _path(points, GREY if plain else COLOURS[i % len(COLOURS)], 2, "5 4" * plain)
            )
    x = left + 2 * width + gap + 22
    for i, name in enumerate(of):
        plain, y = name == "gaussian", top + 12 + 20 * i
        colour = GREY if plain else COLOURS[i % len(COLOURS)]
        parts += [_path([(x, y), (x + 22, y)], colour, 2.5, "5 4" * plain)]
        parts += [_text(x + 28, y + 4, "Gaussian on the face" if plain else name, 11.5)]
    return _page(x + 170, bottom + 50, title, parts)


def _shade(value: float) -> str:
    """White at 0 to dark blue at 1, to dark red at -1."""
    value = float(np.clip(value, -1, 1))
    end = np.array([8, 69, 130]) if value >= 0 else np.array([150, 30, 30])
    red, green, blue = np.rint(255 + (end - 255) * abs(value)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def similarity(
    title: str,
    names: Sequence[str],
    families: Sequence[str],
    matrix: np.ndarray,
    links: Sequence[Sequence[float]],
    order: Sequence[int],
) -> str:
    """A matrix of similarities in the order of its dendrogram, which stands to its left.

    Args:
        title: of the plot.
        names: of the networks.
        families: of the networks, shown by colour.
        matrix: [n, n] in [-1, 1].
        links: of `study.dendrogram`: (a, b, distance) per merge; n + i is merge i.
        order: of the leaves.
    """
    n, cell = len(names), 46.0
    known = list(dict.fromkeys(families))
    wide = 7.2 * max(map(len, names)) + 18
    tree, top = 150.0, 84.0
    x0 = 24 + tree + wide
    parts = [
        _text(
            16,
            46,
            "normalised cross-correlation of global maps; tree: average linkage of 1 - similarity",
            11,
            fill=GREY,
        )
    ]
    place = {leaf: top + cell * (i + 0.5) for i, leaf in enumerate(order)}
    for i, a in enumerate(order):
        colour = COLOURS[known.index(families[a]) % len(COLOURS)]
        parts.append(_text(x0 - 8, place[a] + 4, names[a], 12, "end", fill=colour))
        parts.append(_text(x0 + cell * (i + 0.5), top - 8, f"[{order.index(a) + 1}]", 11, "middle"))
        for j, b in enumerate(order):
            value = float(matrix[a, b])
            x, y = x0 + cell * j, top + cell * i
            parts.append(_box(x, y, cell, cell, _shade(value), ' stroke="white"'))
            dark = abs(value) > 0.55
            parts.append(
                _text(
                    x + cell / 2,
                    y + cell / 2 + 4,
                    f"{value:.2f}",
                    11,
                    "middle",
                    fill="white" if dark else INK,
                )
            )
    far = max((link[2] for link in links), default=0.0) or 1.0
    root = 24 + tree
    nodes = {leaf: (root, y) for leaf, y in place.items()}
    for i, (one, two, distance) in enumerate(links):
        x = root - (tree - 10) * distance / far
        (xa, ya), (xb, yb) = nodes[int(one)], nodes[int(two)]
        parts.append(_path([(xa, ya), (x, ya), (x, yb), (xb, yb)], INK, 1.4))
        nodes[n + i] = (x, (ya + yb) / 2)
    foot = top + cell * n
    parts += [_line(root - (tree - 10), foot + 8, root, foot + 8, GREY)]
    parts += [_text(root - (tree - 10), foot + 22, f"{far:.2g}", 10.5, "middle", fill=GREY)]
    parts += [_text(root, foot + 22, "0", 10.5, "middle", fill=GREY)]
    right = float(x0)
    for i, family in enumerate(known):
        parts.append(_box(right, foot + 12, 11, 11, COLOURS[i % len(COLOURS)]))
        parts.append(_text(right + 16, foot + 22, family, 11.5))
        right += 34 + 7 * len(family)
    return _page(max(x0 + cell * n + 24, right), foot + 40, title, parts)


def permutation(title: str, null: Sequence[float], observed: float, p: float, how: str) -> str:
    """The differences of all arrangements as bars, and the one that was found."""
    left, top, bottom, width = 60.0, 64.0, 260.0, 460.0
    low, high = min(*null, observed), max(*null, observed)
    pad = 0.04 * ((high - low) or 1)
    edges = np.linspace(low - pad, high + pad, min(40, max(8, len(set(null)))) + 1)
    counts = np.histogram(null, edges)[0] / len(null)
    most = float(counts.max()) or 1.0

    def x(value: float) -> float:
        return left + width * (value - edges[0]) / (edges[-1] - edges[0])

    parts = _axis(left, left + width, top, bottom, 0, most)
    for count, a, b in zip(counts, edges, edges[1:]):
        height = (bottom - top) * count / most
        if height:
            parts.append(_box(x(a) + 0.5, bottom - height, x(b) - x(a) - 1, height, "#56b4e9"))
    parts.append(_line(x(observed), top - 4, x(observed), bottom, COLOURS[1], 2.5))
    anchor = "end" if observed > (low + high) / 2 else "start"
    parts.append(
        _text(
            x(observed) + (-7 if anchor == "end" else 7),
            top + 6,
            f"found: {observed:.3f}, p = {p:.3g}",
            12,
            anchor,
            fill=COLOURS[1],
        )
    )
    for i in range(5):
        value = edges[0] + (edges[-1] - edges[0]) * i / 4
        parts.append(_text(x(value), bottom + 17, f"{value:.2f}", 11, "middle"))
    parts.append(
        _text(
            left + width / 2,
            bottom + 36,
            "similarity within families less between them",
            11,
            "middle",
            fill=GREY,
        )
    )
    parts.append(_text(16, 46, f"share of {len(null)} arrangements ({how})", 11, fill=GREY))
    return _page(left + width + 24, bottom + 50, title, parts)
