"""A board as a table for the terminal."""

from __future__ import annotations

from facebench.leaderboard.board import Board
from facebench.leaderboard.pieces import (
    column,
    count,
    interval,
    kind,
    metric_name,
    rank,
    regime,
)
from facebench.protocol import Protocol

WIDTH = 100  # columns


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
        _plain("group", [row.group for row in rows], left=True),
        _plain("entry", [_cut(row.entry, 32) for row in rows], left=True),
    ]
    kinds = _plain("kind", [kind(protocol, row) for row in rows], left=True)
    decimals = protocol.primary["decimals"]
    tail = [
        *(
            [_plain("test sampling", [interval(r.sampling, decimals) for r in rows])]
            if of.units
            else []
        ),
        _plain("parameters", [f"{row.parameters:,}" for row in rows]),
        _plain("trust", [row.trust for row in rows], left=True),
    ]
    optional: list[list[str]] = [
        *(scores[main, v] for v in reversed(values[:-1])),
        kinds,
        *tail,
        *(scores[m["name"], values[-1]] for m in protocol.metrics if m["name"] != main),
    ]
    chosen = [*head, scores[main, values[-1]]]
    for extra in optional:
        if sum(len(c[0]) + 2 for c in [*chosen, extra]) - 2 <= width:
            chosen.append(extra)
    order = [*head, kinds, *(scores[main, v] for v in values)]
    order += [scores[m["name"], values[-1]] for m in protocol.metrics if m["name"] != main] + tail
    shown = [c for c in order if any(c is other for other in chosen)]
    lines = [protocol.title, f"{protocol.id}, {count(len(protocol.seeds), 'seed')}", ""]
    lines += ["  ".join(cells).rstrip() for cells in zip(*shown)]
    lines += [] if rows else ["no ranked record yet"]
    if len(rows) > 1:
        lines += ["", "entries that share a letter are not told apart"]
    lines += [f"incomplete: {row.entry}: {row.fault}" for row in of.incomplete]
    lines += [f"not ranked: {row.entry}: {row.fault}" for row in of.unranked]
    lines += [f"retracted: {row.entry}: {row.reason}: {_line(row.note)}" for row in of.retracted]
    lines += [f"superseded by {of.later}"] if of.later else []
    return "\n".join(_cut(line, width) for line in lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())


def _tag(protocol: Protocol, value: int | float) -> str:
    if protocol.regimes["kind"] == "full":
        return ""
    return " " + regime(protocol, value).removesuffix(" of labels").replace(" %", "%")


def _plain(name: str, cells: list[str], left: bool = False) -> list[str]:
    width = max(map(len, [name, *cells]))
    return [c.ljust(width) if left else c.rjust(width) for c in [name, *cells]]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
