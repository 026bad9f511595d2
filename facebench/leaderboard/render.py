"""Boards as text: Markdown that reads well raw and rendered, and a table for the terminal.

Pure functions of a `Board`; no clock, no locale, no set is printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from facebench.leaderboard.board import Board, Cell, Row
from facebench.protocol import Protocol

GENERATED = "<!-- Written by `facebench leaderboard build`. Edits are lost. -->"
WIDTH = 100  # columns of the terminal table
SPLITS = {"train": 0, "test": 2}  # others stand between them
BUDGETS = {
    "iso-step": "the same number of steps at every value",
    "iso-epoch": "the same number of epochs at every value",
}
ADAPTATIONS = {
    "frozen": "the backbone stays as it is, a head is trained on its features",
    "adapted": "the backbone is fine-tuned",
    "scratch": "the backbone is trained from its initialisation",
}
SELECTIONS = {"last-step": "the last step is scored", "dev": "the step is chosen on dev"}


# -- pieces ---------------------------------------------------------------------------------------


def number(value: float, decimals: int) -> str:
    """A number with fixed decimals; no negative zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def regime(protocol: Protocol, value: int | float) -> str:
    """A regime value for people: ``10 % of labels``, ``5 shots``, ``20 units``."""
    kind = protocol.regimes["kind"]
    if kind == "full":
        return "all labels"
    if kind == "fraction":
        return f"{100 * value:.10g} % of labels"
    noun = {"shots": "shot", "units": "unit"}[kind]
    return f"{value} {noun}" + ("" if value == 1 else "s")


def metric_name(metric: dict[str, Any]) -> str:
    """A metric with its unit and the direction that is better: ``nme (%) ↓``."""
    unit = f" ({metric['unit']})" if metric["unit"] else ""
    return f"{metric['name']}{unit} {'↑' if metric['higher_is_better'] else '↓'}"


def rank(row: Row) -> str:
    """A rank; ties are marked: ``=2``."""
    return "–" if row.rank is None else f"={row.rank}" if row.tied else str(row.rank)


def column(
    protocol: Protocol, metric: dict[str, Any], value: Any, rows: Sequence[Row]
) -> list[str]:
    """The cells of one metric at one regime value, aligned at their ``±``."""
    cells = [row.cells.get((metric["name"], value)) for row in rows]
    parts = [_parts(cell, metric["decimals"]) for cell in cells]
    left = max((len(mean) for mean, half, _ in parts if half), default=0)
    right = max((len(half) for _, half, _ in parts), default=0)
    return [
        (f"{mean:>{left}} ± {half:>{right}}" if half else mean) + _missing(protocol, cell) + remark
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


def _missing(protocol: Protocol, cell: Cell | None) -> str:
    if cell is None or len(cell.values) == len(protocol.seeds):
        return ""
    return f" ({len(cell.values)} of {len(protocol.seeds)} seeds)"


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


# -- a board --------------------------------------------------------------------------------------


def board(of: Board) -> str:
    """The Markdown page of a protocol."""
    protocol = of.protocol
    up = "../" * (protocol.id.count("/") + 1)
    values = protocol.regimes["values"]
    primary = protocol.primary
    parts = [
        GENERATED,
        f"# {protocol.title}",
        f"`{protocol.id}` · [protocol]({up}protocols/{protocol.id}.json) · "
        f"[all boards]({up}README.md)",
        f"**{metric_name(primary)}**, {_better(primary)}; mean ± half the 95 % interval over "
        f"{_count(len(protocol.seeds), 'seed')}. Ranked at {regime(protocol, values[-1])}.",
        _ranking(of, up) if of.ranked else "No record yet.",
    ]
    if of.unranked:
        parts += ["## Not ranked", _unranked(of, up)]
    rest = [m for m in protocol.metrics if not m["primary"]]
    if rest and of.ranked:
        parts.append("## The other metrics")
        for metric in rest:
            parts.append(f"**{metric_name(metric)}**, {_better(metric)}")
            columns = [column(protocol, metric, v, of.ranked) for v in values]
            entries = [row.entry for row in of.ranked]
            header = ["entry", *(regime(protocol, v) for v in values)]
            parts.append(table(header, zip(entries, *columns), range(1, len(header))).rstrip())
    parts += ["## What this is", _caption(protocol), "## Compute it again", _recipe(of)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _ranking(of: Board, up: str) -> str:
    protocol, rows = of.protocol, of.ranked
    values = protocol.regimes["values"]
    columns = [
        [rank(row) for row in rows],
        [row.entry for row in rows],
        [row.kind for row in rows],
        *(column(protocol, protocol.primary, value, rows) for value in values),
        [f"{row.parameters:,}" for row in rows],
        [row.trust for row in rows],
        [_link(row, up) for row in rows],
    ]
    names = [regime(protocol, value) for value in values]
    header = ["rank", "entry", "kind", *names, "parameters", "trust", "record"]
    return table(header, zip(*columns), [0, *range(3, 4 + len(values))])


def _unranked(of: Board, up: str) -> str:
    protocol, rows = of.protocol, of.unranked
    values = protocol.regimes["values"]
    columns = [column(protocol, protocol.primary, value, rows) for value in values]
    header = ["entry", *(regime(protocol, v) for v in values), "why it is not ranked", "record"]
    lines = zip(
        [row.entry for row in rows],
        *columns,
        [row.fault or "" for row in rows],
        [_link(row, up) for row in rows],
    )
    return table(header, lines, range(1, 1 + len(values)))


def _link(row: Row, up: str) -> str:
    name = row.record.rsplit("/", 1)[1].removesuffix(".json")
    return f"[{name}]({up}{row.record.removeprefix('leaderboards/')})"


def _better(metric: dict[str, Any]) -> str:
    return f"{'higher' if metric['higher_is_better'] else 'lower'} is better"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _caption(protocol: Protocol) -> str:
    data, regimes = protocol.dataset, protocol.regimes
    config = f" ({data['config']})" if data["config"] else ""
    order = sorted(protocol.splits, key=lambda name: (SPLITS.get(name, 1), name))
    splits = ", ".join(f"{name} {protocol.splits[name]['n']:,}" for name in order)
    seeds = ", ".join(map(str, protocol.seeds))
    metrics = "; ".join(
        f"{metric_name(m)} in [{_end(m['range'][0], '-∞')}, {_end(m['range'][1], '∞')}]"
        for m in protocol.metrics
    )
    convention = f", convention `{protocol.convention}`" if protocol.convention else ""
    lines = [
        f"**Measured**: {protocol.task.replace('_', ' ')}{convention}. {metrics}. ↓ lower is "
        "better, ↑ higher is better.",
        f"**Data**: `{data['name']}`{config} {data['version']}; samples: {splits}. "
        f"Test labels are {protocol.labels}.",
        f"**Labels used**: {', '.join(regime(protocol, v) for v in regimes['values'])}, drawn by "
        f"{regimes['by']}; {BUDGETS[regimes['budget']]}.",
        f"**Training**: {protocol.adaptation}: {ADAPTATIONS[protocol.adaptation]}; "
        f"{SELECTIONS[protocol.selection]}.",
        f"**Seeds**: {seeds}; each draws its own labels, initialisation and order. A diverged "
        "trial counts with the worst value of the metric.",
        f"**±**: half the width of Student's 95 % interval of the mean over "
        f"{_count(len(protocol.seeds), 'seed')}. It says how much the seeds move the number, not "
        "how much another test set would.",
        f"**Rank**: by the mean of {protocol.primary['name']} at "
        f"{regime(protocol, regimes['values'][-1])}. Entries share a rank (=) when the 95 % "
        "interval of their difference to the first of their group (Welch) includes 0; one seed "
        "separates nothing.",
        "**Kind**: floor: what is reached without training a network; baseline: a simple method "
        "to beat; entry: what is compared.",
        "**Trust**: re-scored: every number was computed again from the committed predictions "
        "and test labels when this page was made. Labels gated: the predictions are committed, "
        "the labels need the dataset.",
    ]
    if protocol.note:
        note = " ".join(protocol.note.split()).replace("<", "&lt;").replace("|", "\\|")
        lines.append(f"**Note**: {note}")
    return "\n".join(f"- {line}" for line in lines)


def _end(value: float | None, unbounded: str) -> str:
    return unbounded if value is None else f"{value:g}"


def _recipe(of: Board) -> str:
    rows = [*of.ranked, *of.unranked]
    lines = [f"facebench rescore {rows[0].record}"] if rows else []
    lines += ["facebench rescore --all", "facebench leaderboard check"]
    text = "```\n" + "\n".join(lines) + "\n```\n\n"
    if not of.protocol.public:
        text += (
            f"The labels come with the dataset: `facebench data prepare "
            f"{of.protocol.dataset['name']}`. "
        )
    return text + f"The digest of this protocol is `{of.protocol.digest}`."


# -- the index ------------------------------------------------------------------------------------


def index(boards: Sequence[Board]) -> str:
    """``leaderboards/README.md``: every protocol with its first row."""
    lines = []
    for of in boards:
        protocol = of.protocol
        value = protocol.regimes["values"][-1]
        score = "–"
        if of.ranked:
            score = column(protocol, protocol.primary, value, of.ranked[:1])[0]
        lines.append(
            (
                f"[{protocol.id}](boards/{protocol.id}.md)",
                metric_name(protocol.primary),
                regime(protocol, value),
                _first(of),
                score,
                str(len(of.ranked)),
                str(len(of.unranked)),
            )
        )
    header = ("board", "metric", "at", "first", "score", "ranked", "not ranked")
    parts = [
        GENERATED,
        "# Leaderboards",
        "Every ranked number here is computed from committed predictions, and can be computed "
        "again by anyone, on a CPU: `facebench leaderboard check`.",
        table(header, lines, (4, 5, 6)) if lines else "There is no protocol yet.",
        "The score is the mean ± half the 95 % interval over seeds. The page of a board says "
        "what is measured, on which data, how it is ranked, and how to compute it again.",
        "- `protocols/`: what is asked, frozen\n"
        "- `records/`: what was answered, one immutable file per entry\n"
        "- `predictions/`, `targets/`: what the numbers are computed from\n"
        "- `boards/` and this file: written by `facebench leaderboard build`",
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _first(of: Board) -> str:
    leaders = [row.entry for row in of.ranked if row.rank == 1]
    if not leaders:
        return "–"
    return leaders[0] + (f" (ties with {len(leaders) - 1})" if len(leaders) > 1 else "")


# -- the terminal ---------------------------------------------------------------------------------


def terminal(of: Board, width: int = WIDTH) -> str:
    """A board as a plain table that fits `width` columns.

    The rank, the entry and the primary metric at the largest regime value are always shown; the
    rest as far as it fits, in order of interest.
    """
    protocol, rows = of.protocol, of.ranked
    values = protocol.regimes["values"]
    scores = {
        (m["name"], v): _plain(f"{metric_name(m)}{_tag(protocol, v)}", column(protocol, m, v, rows))
        for m in protocol.metrics
        for v in values
    }
    main = protocol.primary["name"]
    head = [
        _plain("rank", [rank(row) for row in rows]),
        _plain("entry", [_cut(row.entry, 32) for row in rows], left=True),
    ]
    kind = _plain("kind", [row.kind for row in rows], left=True)
    tail = [
        _plain("parameters", [f"{row.parameters:,}" for row in rows]),
        _plain("trust", [row.trust for row in rows], left=True),
    ]
    optional: list[list[str]] = [
        *(scores[main, v] for v in reversed(values[:-1])),
        kind,
        *tail,
        *(scores[m["name"], values[-1]] for m in protocol.metrics if m["name"] != main),
    ]
    chosen = [*head, scores[main, values[-1]]]
    for extra in optional:
        if sum(len(c[0]) + 2 for c in [*chosen, extra]) - 2 <= width:
            chosen.append(extra)
    order = [*head, kind, *(scores[main, v] for v in values)]
    order += [scores[m["name"], values[-1]] for m in protocol.metrics if m["name"] != main] + tail
    shown = [c for c in order if any(c is other for other in chosen)]
    lines = [protocol.title, f"{protocol.id}, {_count(len(protocol.seeds), 'seed')}", ""]
    lines += ["  ".join(cells).rstrip() for cells in zip(*shown)]
    lines += [] if rows else ["no ranked record yet"]
    lines += [f"not ranked: {row.entry}: {row.fault}" for row in of.unranked]
    return "\n".join(_cut(line, width) for line in lines) + "\n"


def _tag(protocol: Protocol, value: int | float) -> str:
    if protocol.regimes["kind"] == "full":
        return ""
    return " " + regime(protocol, value).removesuffix(" of labels").replace(" %", "%")


def _plain(name: str, cells: list[str], left: bool = False) -> list[str]:
    width = max(map(len, [name, *cells]))
    return [c.ljust(width) if left else c.rjust(width) for c in [name, *cells]]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
