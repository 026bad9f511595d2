"""A board as a LaTeX table for a paper: booktabs, plain columns.

The best score is bold; what is not told apart from being the best (the top group) is underlined.
"""

from __future__ import annotations

from collections.abc import Sequence

from facebench.leaderboard.board import Board, Cell
from facebench.leaderboard.pieces import count, number, plural, rank, regime

GENERATED = "% Written by `facebench leaderboard build`. Edits are lost."
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "∞": r"$\infty$",
    "−": r"$-$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
}


def escape(text: str) -> str:
    """Text whose every character LaTeX prints as it is."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def board(of: Board) -> str:
    """The LaTeX table of a protocol, to be input; it needs the package booktabs."""
    protocol, primary = of.protocol, of.protocol.primary
    values, decimals = protocol.regimes["values"], primary["decimals"]
    header = ["rank", "entry", *(regime(protocol, value) for value in values)]
    if of.units:
        header.append("test sampling")
    lines = []
    for i, row in enumerate(of.ranked):
        cells = [
            _cell(row.cells[primary["name"], value], decimals, i == 0, row.top)
            if value == values[-1]
            else _cell(row.cells[primary["name"], value], decimals, False, False)
            for value in values
        ]
        line = [escape(rank(row)), escape(row.entry), *cells]
        if of.units:
            ends = row.sampling
            line.append(
                f"[{_signed(ends[0], decimals)}, {_signed(ends[1], decimals)}]" if ends else "--"
            )
        lines.append(line)
    unit = f" ({primary['unit']})" if primary["unit"] else ""
    arrow = "↑" if primary["higher_is_better"] else "↓"
    said = (
        f"{protocol.title}. {primary['name']}{unit} {arrow}, mean ± half the 95 % interval over "
        f"{count(len(protocol.seeds), 'seed')}. Bold: best; underlined: no entry is told "
        f"apart as better, at {regime(protocol, values[-1])}."
    )
    if of.units:
        said += (
            f" Test sampling: 95 % bootstrap interval over the {of.units} test "
            f"{plural(of.unit or 'unit')}."
        )
    columns = "rl" + "r" * (len(header) - 2)
    text = [
        GENERATED,
        f"% {protocol.id}, {protocol.digest}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escape(said)}}}",
        f"  \\label{{tab:{protocol.id.replace('_', '-')}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {_joined([escape(name) for name in header])}",
        r"    \midrule",
        *(f"    {_joined(line)}" for line in lines),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(text) + "\n"


def _joined(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell, decimals: int, best: bool, tied: bool) -> str:
    half = cell.half_width
    if half is None and not cell.values:
        return "--"
    mean = cell.mean
    if mean in (float("inf"), float("-inf")):
        return escape(f"{cell.diverged} of {len(cell.values)} diverged")
    text = _signed(mean, decimals)
    text = f"\\textbf{{{text}}}" if best else f"\\underline{{{text}}}" if tied else text
    return text if half is None else f"{text} $\\pm$ {number(half, decimals)}"


def _signed(value: float, decimals: int) -> str:
    text = number(value, decimals)
    return f"$-${text[1:]}" if text.startswith("-") else text
