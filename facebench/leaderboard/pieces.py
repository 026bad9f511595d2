"""The pieces that renderings share: numbers, names and tables as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from facebench.leaderboard import curve
from facebench.leaderboard.board import Board, Cell, Row
from facebench.protocol import Protocol

GENERATED = "<!-- Written by `facebench leaderboard build`. Edits are lost. -->"


def number(value: float, decimals: int) -> str:
    """A number with fixed decimals; no negative zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def regime(protocol: Protocol, value: int | float) -> str:
    """A regime value for people: ``10 % of labels``, ``5 shots``, ``20 units``."""
    kind = protocol.regimes["kind"]
    if kind in ("full", "zero"):
        return "all labels" if kind == "full" else "no labels"
    if kind == "fraction":
        return f"{100 * value:.10g} % of labels"
    noun = {"shots": "shot", "units": "unit"}[kind]
    return f"{value} {noun}" + ("" if value == 1 else "s")


def kind(protocol: Protocol, row: Row) -> str:
    """A row's kind; what is done with its backbone too, where it is not what the protocol asks."""
    apart = row.adaptation not in (None, protocol.adaptation)
    return f"{row.kind}, {row.adaptation}" if apart else row.kind


def metric_name(metric: dict[str, Any]) -> str:
    """A metric with its unit and the direction that is better: ``nme (%) ↓``."""
    unit = f" ({metric['unit']})" if metric["unit"] else ""
    return f"{metric['name']}{unit} {'↑' if metric['higher_is_better'] else '↓'}"


def rank(row: Row) -> str:
    """The ranks that a row may have: ``2``, or ``1–3`` where others are not told apart from it."""
    if row.rank is None:
        return "–"
    best, worst = row.rank
    return str(best) if best == worst else f"{best}–{worst}"


def interval(ends: tuple[float | None, float | None] | None, decimals: int) -> str:
    """An interval: ``[6.90, 8.12]``; ``–`` where there is none."""
    if ends is None or ends[0] is None or ends[1] is None:
        return "–"
    return f"[{number(ends[0], decimals)}, {number(ends[1], decimals)}]"


def p_value(p: float) -> str:
    """A p-value with two digits: ``0.012``, ``< 0.0001``; rounded up, so it never claims more."""
    if p < 0.0001:
        return "< 0.0001"
    digits = 2 if p >= 0.1 else 3 if p >= 0.01 else 4
    scale = 10**digits
    return f"{min(math.ceil(p * scale - 1e-9) / scale, 1):.{digits}f}"


def column(
    protocol: Protocol, metric: dict[str, Any], value: Any, rows: Sequence[Row]
) -> list[str]:
    """The cells of one metric at one regime value, aligned at their ``±``."""
    cells = [row.cells.get((metric["name"], value)) for row in rows]
    return cells_of(cells, metric["decimals"], len(protocol.seeds))


def cells_of(cells: Sequence[Cell | None], decimals: int, seeds: int | None = None) -> list[str]:
    """Cells as text, aligned at their ``±``.

    Args:
        cells: of one column.
        decimals: of the metric.
        seeds: how many there should be; where there are fewer the cell says so.
    """
    parts = [_parts(cell, decimals) for cell in cells]
    left = max((len(mean) for mean, half, _ in parts if half), default=0)
    right = max((len(half) for _, half, _ in parts), default=0)
    return [
        (f"{mean:>{left}} ± {half:>{right}}" if half else mean)
        + (
            f" ({len(cell.values)} of {seeds} seeds)"
            if cell and seeds and len(cell.values) != seeds
            else ""
        )
        + remark
        for cell, (mean, half, remark) in zip(cells, parts, strict=True)
    ]


def _parts(cell: Cell | None, decimals: int) -> tuple[str, str, str]:
    if cell is None:
        return "–", "", ""
    of = f"{cell.diverged} of {len(cell.values)} diverged" if cell.diverged else ""
    if not math.isfinite(cell.mean):
        return of, "", ""
    half = cell.half_width
    return (
        number(cell.mean, decimals),
        "" if half is None else number(half, decimals),
        f" ({of})" if of else "",
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int]) -> str:
    """A Markdown table whose columns are aligned in the source as well.

    Args:
        header: the names of the columns.
        rows: the cells.
        right: the positions of the columns that are aligned on the right.
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]
    flush = set(right)
    ruler = ["-" * (w - 1) + ":" if i in flush else "-" * w for i, w in enumerate(widths)]
    padded = [
        [c.rjust(w) if i in flush else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], ruler, *padded[1:]]) + "\n"


def plain(text: str) -> str:
    """Free text as one line that neither ends a table cell nor begins an element."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")


def better(metric: Mapping[str, Any]) -> str:
    """Which direction is better, in words."""
    return f"{'higher' if metric['higher_is_better'] else 'lower'} is better"


def count(n: int, noun: str) -> str:
    """A number of things: ``1 seed``, ``5 seeds``."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def plural(noun: str) -> str:
    """The plural of what a unit is called."""
    return noun[:-1] + "ies" if noun.endswith("y") else noun + "s"


def normalised(of: Board) -> list[tuple[str, list[float | None]]]:
    """The columns of scores normalised by frozen chance and reference, where there are these."""
    protocol, rows = of.protocol, of.ranked
    metric, last = protocol.primary, protocol.regimes["values"][-1]
    if curve.normalised(metric, 0.0) is None:
        return []
    means = [row.cells[metric["name"], last].mean for row in rows]
    columns = [("normalised", [curve.normalised(metric, mean) for mean in means])]
    if len(protocol.regimes["values"]) > 1:
        areas = [row.area.mean if row.area else math.inf for row in rows]
        columns.append(("normalised curve", [curve.normalised(metric, mean) for mean in areas]))
    return columns
