"""What `explain` found, for a terminal of 80 to 100 columns; plain text, the same for a pipe."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from facebench import digest
from facebench.leaderboard.pieces import count, interval, metric_name, number, p_value, plural
from facebench.leaderboard.pieces import regime as regime_name
from facebench.protocol import Protocol

WIDTH = 96  # columns
FIELD = 14  # of a name at the left
SHOWN = 5  # units at either end
MOST = 20  # parts of the test samples
NO_SUMS = "the judge keeps no sums over samples of this metric"
SEEDS_ALONE = "paired by seed alone, on these test samples: says nothing of others"


def grid(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), indent: int = 2) -> list[str]:
    """Rows of cells as lines: columns two spaces apart, on the right unless in `left`."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        (
            " " * indent
            + "  ".join(
                c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))
            )
        ).rstrip()
        for row in rows
    ]


def field(name: str, text: str, width: int = WIDTH) -> list[str]:
    """A name at the left and its text, wrapped; words are never cut."""
    lines = textwrap.wrap(text, width - FIELD - 2, break_long_words=False, break_on_hyphens=False)
    lines = lines or [""]
    first = f"  {name:<{FIELD - 2}}  {lines[0]}".rstrip()
    return [first, *(" " * (FIELD + 2) + line for line in lines[1:])]


def score(found: Mapping[str, Any], decimals: int) -> str:
    """A mean with half its interval: ``7.44 ± 1.86``."""
    if found["mean"] is None:
        return f"{found['diverged']} of {len(found['seeds'])} diverged"
    half = found["half_width"]
    text = number(found["mean"], decimals)
    return text if half is None else f"{text} ± {number(half, decimals)}"


def cell(protocol: Protocol, found: Mapping[str, Any]) -> str:
    """One entry's number and what is behind it."""
    decimals = found["metric"]["decimals"]
    value = found["regime"]["value"]
    name, title = metric_name(dict(found["metric"])), regime_name(protocol, value)
    lines = [f"{found['entry']}  {name}  {title}", found["protocol"]["id"], protocol.title, ""]
    lines += list(_number(found, decimals))
    lines += ["", "trials", *_trials(found, decimals)]
    lines += _compared(found, decimals)
    lines += _worst(found, decimals)
    if found["groups"]:
        lines += ["", f"by {found['groups']['field']}", *_groups(found["groups"], found["metric"])]
    lines += ["", "made", *_made(found)]
    lines += ["", "experiment, as changes of facebench.config.base()"]
    for config in found["config"]:
        lines += [f"  {line}" for line in _config(config["overrides"])]
    lines += ["", "files, digests", *_files(found)]
    lines += ["", "again"]
    for step in found["commands"]:
        lines += [f"  # {step['what']}", f"  {step['command']}"]
    return "\n".join(lines)


def _number(found: Mapping[str, Any], decimals: int) -> Iterator[str]:
    one, board = found["score"], found["board"]
    n = len(one["seeds"])
    yield from field("score", f"{score(one, decimals)}, the mean of {count(n, 'seed')}")
    over = "one seed says nothing of others"
    if one["half_width"] is not None:
        ends = interval((one["low"], one["high"]), decimals)
        over = f"{ends}, Student's 95 % interval of the mean"
    yield from field("over seeds", over)
    if sampling := found["sampling"]:
        ends = interval((sampling["low"], sampling["high"]), decimals)
        drawn = f"{sampling['units']} {plural(sampling['unit'])}, {sampling['draws']:,} draws"
        yield from field("test samples", f"{ends}, 95 % bootstrap interval over {drawn}")
    elif not found["labels_here"]:
        yield from field("test samples", "the labels are not here: only what is recorded is shown")
    else:
        yield from field("test samples", f"no interval: {NO_SUMS}")
    if not found["recorded"]:
        how = f", convention {found['convention']}" if found["convention"] else ""
        yield from field("computed", f"now, from stored predictions{how}; records do not hold it")
    elif found["labels_here"]:
        wrong = [t["seed"] for t in found["trials"] if not _agrees(t)]
        said = "the recorded scores are what the predictions score"
        yield from field("recomputed", f"DIFFERS for seeds {wrong}" if wrong else said)
    if board["rank"]:
        low, high = board["rank"]
        place = str(low) if low == high else f"{low} to {high}"
        where = f"{place} of {board['entries']}, group {board['group']}, by {board['by']}"
        yield from field("board rank", f"{where}; {board['trust']}; kind {found['kind']}")
    else:
        yield from field("board rank", f"not ranked: {board['fault']}")


def _agrees(trial: Mapping[str, Any]) -> bool:
    recorded, now = trial["recorded"], trial["score"]
    if recorded is None or now is None:
        return recorded is now
    return abs(recorded - now) <= 1e-9 * max(1.0, abs(now))


def _trials(found: Mapping[str, Any], decimals: int) -> list[str]:
    head = ["seed", found["metric"]["name"], "seconds", "parameters", "trial", "subset", "weights"]
    rows = [head]
    for trial in found["trials"]:
        shown = "-" if trial["score"] is None else number(trial["score"], decimals + 1)
        if trial["status"] != "ok":
            shown = f"{trial['status']} {shown}"
        weights = digest.short(trial["weights"]) if trial["weights"] else "-"
        rows.append(
            [
                str(trial["seed"]),
                shown,
                f"{sum(trial['time'].values()):.1f}",
                f"{trial['parameters']:,}",
                digest.short(trial["trial_id"]),
                digest.short(trial["subset_digest"]),
                weights,
            ]
        )
    return grid(rows, left=(4, 5, 6))


def _compared(found: Mapping[str, Any], decimals: int) -> list[str]:
    others = found["compared"]
    if not others:
        return []
    rows = [["", "this less that", "95 % interval", "p (Holm)", ""]]
    for other in others:
        estimate = other["estimate"]
        rows.append(
            [
                other["entry"],
                "-" if estimate is None else number(estimate, decimals),
                interval((other["low"], other["high"]), decimals),
                p_value(other["adjusted"]),
                other["verdict"],
            ]
        )
    n = len(others) + 1
    how = "paired by seed and test unit" if found["sampling"] else SEEDS_ALONE
    family = f"p is corrected by Holm over {count(n * (n - 1) // 2, 'pair')}"
    return ["", f"compared, {how}; {family}", *grid(rows, left=(0, 4))]


def _worst(found: Mapping[str, Any], decimals: int) -> list[str]:
    worst = found["worst"]
    if worst is None:
        return []
    lines: list[str] = []
    if units := worst["units"]:
        many = len(units) > 2 * SHOWN
        named = [(f"worst {plural(worst['of'])}", units[:SHOWN] if many else units)]
        if many:
            middle = number(units[len(units) // 2]["score"], decimals)
            named += [("best", units[-SHOWN:][::-1])]
        for title, some in named:
            text = "   ".join(f"{u['unit']}: {number(u['score'], decimals)}" for u in some)
            lines += field(title, text)
        if many:
            lines += field("median", f"{middle} of {len(units)} {plural(worst['of'])}")
    for title, items in worst["lists"].items():
        text = "   ".join(f"{item['name']}: {number(item['score'], decimals)}" for item in items)
        lines += [f"  {title}", *textwrap.wrap(text, WIDTH - 4, initial_indent="    ",
                                               subsequent_indent="    ")]  # fmt: skip
    return ["", "where (mean over seeds)", *lines] if lines else []


def _groups(groups: Mapping[str, Any], metric: Mapping[str, Any]) -> list[str]:
    """A line per part and two columns per entry; of many parts the worst of the first entry."""
    decimals, parts = metric["decimals"], groups["parts"]
    names = [e["entry"] for e in next((p["entries"] for p in parts if p["entries"]), [])]
    more = []
    if len(parts) > MOST:
        sign = 1 if metric["higher_is_better"] else -1
        known = [p for p in parts if p["entries"] and p["entries"][0]["mean"] is not None]
        known.sort(key=lambda p: sign * p["entries"][0]["mean"])
        more.append(f"  the worst {min(MOST, len(known))} of {len(parts)} parts; --json has all")
        parts = known[:MOST]
    rows = [["", "samples", *(h for n in names for h in (n, "test sampling"))]]
    for part in parts:
        cells = ["", ""] * len(names)
        if part["fault"]:
            cells = ["undefined", *cells[1:]]
        for i, entry in enumerate(part["entries"]):
            cells[2 * i : 2 * i + 2] = [
                score(entry, decimals),
                interval(entry["sampling"], decimals),
            ]
        rows.append([part["part"], f"{part['samples']:,}", *cells])
    lines, hidden = grid(rows), 0
    while len(names) - hidden > 1 and max(map(len, lines)) > WIDTH:
        hidden += 1
        lines = grid([row[: len(row) - 2 * hidden] for row in rows])
    if hidden:
        more.append(f"  {hidden} more {'entry' if hidden == 1 else 'entries'}; --json has all")
    return lines + more


def _made(found: Mapping[str, Any]) -> Iterator[str]:
    cost = found["cost"]
    seconds = ", ".join(f"{n.removesuffix('_s')} {s:.1f} s" for n, s in cost["seconds"].items())
    yield from field("cost", f"{seconds} a trial (mean); {cost['parameters']:,} parameters")
    for one in found["environments"]:
        packages = ", ".join(f"{name} {version}" for name, version in one["packages"].items())
        where = f"{one['devices']} x {one['device']}, {one['platform']}, Python {one['python']}"
        yield from field("environment", f"{where}, facebench {one['facebench']}; {packages}")


def _config(overrides: Mapping[str, Any]) -> Iterator[str]:
    for path, value in overrides.items():
        yield from textwrap.wrap(
            f"config.{path} = {value!r}", WIDTH - 2, subsequent_indent="    ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def _files(found: Mapping[str, Any]) -> Iterator[str]:
    paths, digests = found["files"], found["digests"]
    rows: list[tuple[str, str, str | None]] = [
        ("protocol", paths["protocol"], digests["protocol"]),
    ]
    for kind in ("records", "predictions"):
        known = [*digests[kind], *[None] * len(paths[kind])]
        rows += [
            (kind if kind == "predictions" else "record", path, sha)
            for path, sha in zip(paths[kind], known)
        ]
    rows.append(("targets", paths["targets"] or "gated: with the dataset", digests["targets"]))
    rows.append(("subsets", paths["subsets"] or "no manifest; digests in the protocol", None))
    for name, path, sha in rows:
        yield f"  {name:<{FIELD - 2}}  {path}"
        if sha:
            yield f"  {'':<{FIELD - 2}}  {sha}"


def table(protocol: Protocol, found: Mapping[str, Any]) -> str:
    """A question's answers from every entry of a protocol."""
    decimals, values = found["metric"]["decimals"], protocol.regimes["values"]
    title = metric_name(dict(found["metric"]))
    convention = f", convention {found['convention']}" if found["convention"] else ""
    source = "as recorded" if found["recorded"] else "computed now from stored predictions"
    lines = [f"{title}{convention}: {source}", found["protocol"]["id"], protocol.title, ""]
    rows = [["rank", "", "entry", *(regime_name(protocol, v) for v in values), "test sampling"]]
    for row in found["rows"]:
        low, high = row["rank"]
        rank = str(low) if low == high else f"{low}-{high}"
        scores = [score(one, decimals) for one in row["scores"]]
        rows.append([rank, row["group"], row["entry"], *scores,
                     interval(row["sampling"], decimals)])  # fmt: skip
    while len(rows[0]) > 5 and max(map(len, grid(rows))) > WIDTH:
        rows = [[*row[:3], *row[4:]] for row in rows]
    lines += grid(rows, left=(1, 2), indent=0) if found["rows"] else ["no ranked record yet"]
    lines += [f"left out: {name}: {fault}" for name, fault in found["left_out"].items()]
    at = regime_name(protocol, found["regime"]["value"])
    lines += ["", f"± is half of Student's 95 % interval over {count(found['seeds'], 'seed')}."]
    if found["unit"]:
        drawn = f"{found['units']} {plural(found['unit'])}, {found['draws']:,} draws"
        lines.append(f"Test sampling: 95 % bootstrap interval at {at} over {drawn}.")
    else:
        lines.append(f"No test-sampling interval: {NO_SUMS}.")
    how = "paired by seed and test unit" if found["unit"] else SEEDS_ALONE
    lines.append(f"Ranks and groups at {at}, Holm over all pairs; {how}.")
    if found["groups"]:
        lines += [
            "",
            f"by {found['groups']['field']}, at {at}",
            *_groups(found["groups"], found["metric"]),
        ]
    return "\n".join(lines)


def as_json(found: Mapping[str, Any]) -> str:
    """The same for programs."""
    return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False)
