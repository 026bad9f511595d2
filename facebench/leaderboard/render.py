"""A board as Markdown that reads well raw and rendered.

Pure functions of a `Board`; no clock, no locale, no set is printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from facebench.leaderboard import curve
from facebench.leaderboard.board import FEW_UNITS, Board, Comparison
from facebench.leaderboard.pieces import (
    GENERATED,
    better,
    cells_of,
    column,
    count,
    interval,
    kind,
    metric_name,
    normalised,
    number,
    p_value,
    plain,
    plural,
    rank,
    regime,
    table,
)

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


def board(of: Board) -> str:
    """The Markdown page of a protocol."""
    protocol = of.protocol
    up = "../" * (protocol.id.count("/") + 1)
    values = protocol.regimes["values"]
    primary = protocol.primary
    links = " · ".join(
        f"[{kind}]({up}exports/{protocol.id}.{ending})"
        for kind, ending in (("CSV", "csv"), ("LaTeX", "tex"), ("JSON", "json"))
    )
    parts = [
        GENERATED,
        f"# {protocol.title}",
        f"`{protocol.id}` · [protocol]({up}protocols/{protocol.id}.json) · {links} · "
        f"[all boards]({up}README.md)",
    ]
    if of.later:
        name = of.later.rsplit("/", 1)[1]
        parts.append(
            f"**Superseded** by [{of.later}]({name}.md). Its records stay as they are; new "
            "entries belong there."
        )
    parts.append(
        f"**{metric_name(primary)}**, {better(primary)}; mean ± half the 95 % interval over "
        f"{count(len(protocol.seeds), 'seed')}. Ranked at {regime(protocol, values[-1])}."
    )
    if of.ranked:
        parts += [_ranking(of, up), _legend(of)]
    else:
        parts.append("No record yet." if of.derived is None else "No complete record yet.")
    if len(of.ranked) > 1:
        parts += ["## Compared", _compared(of)]
    parts += _apart(of, up)
    if of.ranked:
        parts += _further(of)
    rest = [m for m in protocol.metrics if not m["primary"]]
    if rest and of.ranked:
        parts.append("## The other metrics")
        for metric in rest:
            parts.append(f"**{metric_name(metric)}**, {better(metric)}")
            columns = [column(protocol, metric, v, of.ranked) for v in values]
            entries = [row.entry for row in of.ranked]
            header = ["entry", *(regime(protocol, v) for v in values)]
            parts.append(table(header, zip(entries, *columns), range(1, len(header))))
    parts += ["## What this is", _caption(of), "## Compute it again", _recipe(of)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _further(of: Board) -> list[str]:
    """The primary metric on the test split and on each further one, at the largest regime value."""
    protocol, name = of.protocol, of.protocol.primary["name"]
    shown = [m for m in protocol.metrics if m["name"].partition("/")[0] == name]
    if len(shown) == 1:
        return []
    value = protocol.regimes["values"][-1]
    columns = [column(protocol, metric, value, of.ranked) for metric in shown]
    titles = [(m["name"].partition("/")[2] or "test").replace("_", " ") for m in shown]
    rows = zip((row.entry for row in of.ranked), *columns)
    return [
        "## Test splits",
        f"**{metric_name(protocol.primary)}** at {regime(protocol, value)}, on each test split.",
        table(["entry", *titles], rows, range(1, len(titles) + 1)),
    ]


def _ranking(of: Board, up: str) -> str:
    protocol, rows = of.protocol, of.ranked
    values, decimals = protocol.regimes["values"], protocol.primary["decimals"]
    shown: list[tuple[str, bool, Iterable[str]]] = [
        ("rank", True, [rank(row) for row in rows]),
        ("group", False, [row.group for row in rows]),
        ("entry", False, [f"**{row.entry}**" if row.top else row.entry for row in rows]),
        ("kind", False, [kind(protocol, row) for row in rows]),
    ]
    for value in values:
        cells = column(protocol, protocol.primary, value, rows)
        shown.append((regime(protocol, value), True, cells))
    if of.units:
        cells = [interval(row.sampling, decimals) for row in rows]
        shown.append(("test sampling", True, cells))
    if len(values) > 1:
        shown.append(("curve", True, cells_of([row.area for row in rows], decimals)))
    for title, found in normalised(of):
        shown.append((title, True, ["–" if x is None else number(x, 3) for x in found]))
    shown += [
        ("parameters", True, [f"{row.parameters:,}" for row in rows]),
        ("trust", False, [row.trust for row in rows]),
        ("record", False, [_links(row.records, up) for row in rows]),
    ]
    right = [i for i, (_, flush, _) in enumerate(shown) if flush]
    return table([name for name, _, _ in shown], zip(*(cells for _, _, cells in shown)), right)


def _legend(of: Board) -> str:
    primary = of.protocol.primary["name"]
    lines = [
        "**Bold**: the top group: no entry is told apart as better. **rank**: the ranks an entry "
        "may have. **group**: entries that share a letter are not told apart."
    ]
    if of.units:
        lines.append(
            f"**test sampling**: 95 % interval of {primary} over other test "
            f"{plural(of.unit or 'unit')} than these {of.units:,}, for the models as trained."
            + (
                f" {of.units} are few: such an interval covers less than it says."
                if of.units < FEW_UNITS
                else ""
            )
        )
    if len(of.protocol.regimes["values"]) > 1:
        lines.append(f"**curve**: the mean height of {primary} over the logarithm of the labels.")
    return " ".join(lines)


def _compared(of: Board) -> str:
    decimals = of.protocol.primary["decimals"]
    header = ["entry", "less the first", "95 % interval", "p", "", "less the one above"]
    header += ["95 % interval", "p", ""]
    lines = []
    for row in of.ranked[1:]:
        line = [row.entry]
        for pair in (row.first, row.above):
            line += _pair(pair, decimals)
        lines.append(line)
    note = (
        f"Differences of {of.protocol.primary['name']} at the largest regime value, paired by "
        "seed" + (f" and by test {of.unit}" if of.units else "") + ". The interval is of the pair "
        f"alone; p is corrected by Holm over the {count(math.comb(len(of.ranked), 2), 'pair')} of "
        "this board."
    )
    return note + "\n\n" + table(header, lines, [1, 2, 3, 5, 6, 7])


def _pair(pair: Comparison | None, decimals: int) -> list[str]:
    if pair is None:
        return ["–"] * 3 + [""]
    estimate = "–" if pair.estimate is None else number(pair.estimate, decimals)
    ends = interval((pair.low, pair.high), decimals)
    return [estimate, ends, p_value(pair.adjusted), "tie" if pair.tie else "differs"]


def _apart(of: Board, up: str) -> list[str]:
    """The blocks of what is not ranked."""
    protocol, primary = of.protocol, of.protocol.primary
    values = protocol.regimes["values"]
    asked = len(protocol.trials())
    names = [regime(protocol, v) for v in values]
    parts = []
    for title, rows, extra in (
        ("## Incomplete", of.incomplete, True),
        ("## Not ranked", of.unranked, False),
    ):
        if not rows:
            continue
        columns = [column(protocol, primary, value, rows) for value in values]
        header = ["entry", *names, "why it is not ranked", "record"]
        why = [row.fault or "" for row in rows]
        if extra:
            header.insert(1, "trials")
            columns.insert(0, [f"{asked - len(row.missing)}/{asked}" for row in rows])
            header[-2] = "what is missing"
            why = [text.removeprefix("missing ") for text in why]
        links = [_links(row.records, up) for row in rows]
        lines = zip([row.entry for row in rows], *columns, why, links)
        parts += [title, table(header, lines, range(1, len(header) - 2))]
        if extra:
            parts.append("Shown as they are: not ranked, not averaged, nothing filled in.")
    if of.retracted:
        lines = zip(
            [f"~~{row.entry}~~" for row in of.retracted],
            [
                f"~~{cells_of([row.cell], primary['decimals'])[0]}~~ at "
                f"{regime(protocol, row.value)}"
                for row in of.retracted
            ],
            [row.reason for row in of.retracted],
            [plain(row.note) for row in of.retracted],
            [plain(row.by) for row in of.retracted],
            [_links([row.record], up) for row in of.retracted],
        )
        header = ["entry", metric_name(primary), "reason", "what happened", "by", "record"]
        parts += ["## Retracted", table(header, lines, [])]
    return parts


def _links(records: Sequence[str], up: str) -> str:
    return " ".join(
        f"[{path.rsplit('/', 1)[1].removesuffix('.json')}]"
        f"({up}{path.removeprefix('leaderboards/')})"
        for path in records
    )


def _caption(of: Board) -> str:
    protocol = of.protocol
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
        f"{count(len(protocol.seeds), 'seed')}. It says how much the seeds move the number, not "
        "how much another test set would.",
        _sampling(of),
        _rule(of),
        "**Kind**: floor: what is reached without training a network; baseline: a simple method "
        "to beat; entry: what is compared; canary: it knows nothing and must not beat chance, or "
        "`facebench leaderboard check` fails." + _frozen(of),
        "**Trust**: re-scored: every number was computed again from the committed predictions "
        "and test labels, of exactly the files that stand here now; `facebench leaderboard check` "
        "does it once more. Labels gated: the predictions are committed, the labels need the "
        "dataset.",
    ]
    if curve.normalised(protocol.primary, 0.0) is not None:
        chance, reference = protocol.primary["chance"], protocol.primary["reference"]
        lines.append(
            f"**Normalised**: 0 is chance ({chance:g}), 1 the reference ({reference:g}); both "
            "are frozen in the protocol, so no entry moves another's number."
        )
    if protocol.note:
        lines.append(f"**Note**: {plain(protocol.note)}")
    return "\n".join(f"- {line}" for line in lines)


def _frozen(of: Board) -> str:
    rows = (*of.ranked, *of.incomplete, *of.unranked)
    if of.protocol.adaptation == "frozen" or not any(row.adaptation == "frozen" for row in rows):
        return ""
    return " Frozen: the backbone is read and not trained; a closed form is fitted on its features."


def _sampling(of: Board) -> str:
    name = of.protocol.primary["name"]
    if not of.units:
        return (
            f"**Test sampling**: no interval: {name} is not known as a function of sums over "
            "samples here, or there is nothing to score."
        )
    what = plural(of.unit or "unit")
    return (
        f"**Test sampling**: a bootstrap over the {of.units:,} test {what} "
        f"({of.draws:,} draws, percentiles by index) of the mean over seeds at the largest regime "
        "value."
        + (
            " The labels name no unit that samples share, so every sample counts as its own."
            if of.unit == "sample"
            else ""
        )
    )


def _rule(of: Board) -> str:
    protocol = of.protocol
    seeds = (
        "One seed separates nothing."
        if len(protocol.seeds) == 1
        else f"Seeds and test {plural(of.unit or 'unit')} each add their own variance, with their "
        "own Student quantile."
        if of.units
        else "Only the seeds vary in this comparison; the test set is taken as it is."
    )
    return (
        f"**Rank**: ordered by the mean of {protocol.primary['name']} at "
        f"{regime(protocol, protocol.regimes['values'][-1])}. Every pair of entries is compared, "
        f"paired by seed{' and test ' + of.unit if of.units and of.unit else ''}, and corrected by "
        f"Holm at 5 %. {seeds} An entry's rank lies between 1 + the number told apart as better "
        "and n − the number told apart as worse."
    )


def _end(value: float | None, unbounded: str) -> str:
    return unbounded if value is None else f"{value:g}"


def _recipe(of: Board) -> str:
    rows = [*of.ranked, *of.incomplete, *of.unranked]
    lines = [f"facebench rescore {rows[0].records[0]}"] if rows else []
    lines += ["facebench rescore --all", "facebench leaderboard check"]
    text = "```\n" + "\n".join(lines) + "\n```\n\n"
    if not of.protocol.public:
        text += (
            f"The labels come with the dataset: `facebench data prepare "
            f"{of.protocol.dataset['name']}`. "
        )
    return text + f"The digest of this protocol is `{of.protocol.digest}`."
