"""``leaderboards/README.md``: every protocol with its first row, and how to read the files."""

from __future__ import annotations

from collections.abc import Sequence

from facebench.leaderboard.board import Board
from facebench.leaderboard.pieces import GENERATED, column, metric_name, regime, table

#: In this order; what is never compared stands in tables of its own.
ADAPTATIONS = {
    "frozen": ("Frozen", "The backbone stays as it is; a head is trained on its features."),
    "adapted": ("Adapted", "The backbone is fine-tuned."),
    "scratch": ("From scratch", "The backbone is trained from its initialisation."),
}


def index(boards: Sequence[Board]) -> str:
    """The front page: protocols by adaptation, superseded ones at the end."""
    parts = [
        GENERATED,
        "# Leaderboards",
        "Every ranked number here is computed from committed predictions, and can be computed "
        "again by anyone, on a CPU: `facebench leaderboard check`.",
    ]
    current = [of for of in boards if of.later is None]
    for adaptation, (title, meaning) in ADAPTATIONS.items():
        chosen = [of for of in current if of.protocol.adaptation == adaptation]
        if chosen:
            parts += [f"## {title}", meaning, _table(chosen)]
    if not boards:
        parts.append("There is no protocol yet.")
    if old := [of for of in boards if of.later is not None]:
        lines = [(_link(of.protocol.id), _link(of.later or ""), str(len(of.ranked))) for of in old]
        parts += [
            "## Superseded",
            "A fault in a protocol is mended in its next version; the old board stays as it was.",
            table(("board", "superseded by", "ranked"), lines, [2]),
        ]
    parts += [
        "The score is the mean ± half the 95 % interval over seeds. The first is the entry with "
        "the best mean; with how many others it shares the top group, from which no other entry is "
        "told apart as better, stands behind it. The page of a board says what is measured, on "
        "which data, how it is ranked, and how to compute it again.",
        "- `protocols/`: what is asked, frozen\n"
        "- `records/`: what was answered; immutable, added and never changed\n"
        "- `retractions/`: which records no longer count, and why\n"
        "- `predictions/`, `targets/`: what the numbers are computed from\n"
        "- `reported/`: numbers published elsewhere, without predictions; never ranked: "
        "`boards/reported.md`\n"
        "- `derived/`: what scoring again, resampling and comparing gave, for exactly these files\n"
        "- `boards/`, `exports/`, `derived/` and this file: written by "
        "`facebench leaderboard build`",
        "## What is believed when",
        "- `facebench leaderboard build` reads every protocol, record, bundle and label file. A "
        "result in `derived/` is believed if it names the SHA-256 of the files as they are now, "
        "and the version of the code; any other is computed.\n"
        "- `facebench leaderboard check` believes nothing in `derived/`: it scores every record "
        "from its predictions, draws and compares again, and fails where that gives anything else, "
        "or where a page is not what the build makes.\n"
        "- Where the test labels are gated, only who has the dataset can check; the boards say "
        "`labels gated`.\n"
        "- No record says anything about its own trust or rank. **Trust** is computed: "
        "`re-scored`: the numbers follow from the predictions; `re-run`: two trials or more were "
        "run again and came out the same by the protocol's rule (`attestations/`); `independent`: "
        "on another kind of machine than the recorded one. Who ran them, no file can tell.",
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _table(boards: Sequence[Board]) -> str:
    lines = []
    for of in boards:
        protocol = of.protocol
        value = protocol.regimes["values"][-1]
        score = "–"
        if of.ranked:
            score = column(protocol, protocol.primary, value, of.ranked[:1])[0]
        lines.append(
            (
                _link(protocol.id),
                metric_name(protocol.primary),
                regime(protocol, value),
                _first(of),
                score,
                str(len(of.ranked)),
                str(len(of.incomplete) + len(of.unranked)),
            )
        )
    header = ("board", "metric", "at", "first", "score", "ranked", "not ranked")
    return table(header, lines, (4, 5, 6))


def _link(protocol_id: str) -> str:
    return f"[{protocol_id}](boards/{protocol_id}.md)"


def _first(of: Board) -> str:
    if not of.ranked:
        return "–"
    others = sum(row.top for row in of.ranked[1:])
    return of.ranked[0].entry + (f" (top group with {others} more)" if others else "")
