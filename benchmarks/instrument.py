"""Is the generated world an instrument: neither trivial nor impossible, and do its knobs act?

    python benchmarks/instrument.py                                  the whole study
    python benchmarks/instrument.py --quick                          a first look
    python benchmarks/instrument.py --tasks=landmarks --knobs=none --size=112 --out=study.md

For every task: a floor that does not look at the picture, a linear probe on pixels, the suite's
small network trained by the suite's loop, and what a reader of the parameters would get. Then what
the knobs of the world do to such networks. Training and test people are never the same, and the
judge computes every number. Writes Markdown to ``--out`` and the same numbers, per seed, as JSON
beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from study import knobs, tracks
from study.knobs import Lab, Scale, Table
from study.worlds import say

from facebench import files, metrics, synth
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.leaderboard import stats

DIGITS = {"%": 2, "intensity": 4}


def scale_of(options: argparse.Namespace) -> Scale:
    """How large the study is: minutes, or a first look."""
    quick = options.quick
    return Scale(
        size=options.size,
        train=(60, 8) if quick else (400, 8),
        test=(25, 6) if quick else (100, 6),
        habits=(30, 15) if quick else (80, 35),
        groups=(48, 8) if quick else (240, 10),
        steps=100 if quick else 800,
        batch_size=32,
        seeds=tuple(range(options.seeds or (2 if quick else 3))),
        world=options.world,
    )


def task_table(names: list[str], lab: Lab) -> Table:
    """Floor, linear probe, network and upper bound of each task."""
    rows: list[list[Any]] = []
    for name in names:
        track = tracks.TRACKS[name]
        say(f"== task: {name}")
        train, test = lab.train(), lab.test()
        floors = [track.score(test, track.floor(train, test, seed)) for seed in lab.scale.seeds]
        linear = track.score(test, track.read(track.linear(train), test))
        networks = [track.score(test, track.read(reader, test)) for reader in lab.readers(track)]
        known = track.score(test, track.known(test))
        for metric in track.metrics:
            found = [floor[metric] for floor in floors]
            rows.append(
                [
                    name, _named(name, metric), found if len(set(found)) > 1 else found[0],
                    linear[metric], [n[metric] for n in networks], known[metric],
                ]
            )  # fmt: skip
            shown = " | ".join(_cell(cell) for cell in rows[-1][2:])
            say(f"   {metric}: {shown}")
        if name == "expression":
            actions = track.score(test, track.from_actions(train, test))
            rows.append([name, "accuracy from true action units", "", "", "", actions["accuracy"]])
    return Table(
        "Tasks",
        ["task", "metric", "floor", "linear on pixels", "network", "parameters known"],
        rows,
        "Floors: "
        + "; ".join(f"{n}: {tracks.TRACKS[n].floor_name}" for n in names)
        + ". Linear: on "
        + "whitened principal components of 32 px grey pictures, penalty chosen on held-out "
        "training people: "
        + "; ".join(f"{n}: {tracks.TRACKS[n].linear_name}" for n in names)
        + ". Whole pictures for landmarks and parsing, those aligned by five true points for the "
        "others. Parameters known: the numbers that the picture was drawn from, scored against its "
        "labels; below 1 (above 0 for errors) only where a label says something else.",
    )


def _named(task: str, metric: str) -> str:
    info = metrics.metric_info(task, metric)
    unit = f" ({info['unit']})" if info["unit"] != "fraction" else ""
    return f"{metric}{unit} {'↑' if info['higher_is_better'] else '↓'}"


def _cell(value: Any) -> str:
    if isinstance(value, list):
        half = stats.half_width(value)
        text = _cell(stats.mean(value))
        return text if half is None else f"{text} ± {_cell(half)}"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"
    return str(value)


def markdown(table: Table) -> str:
    """An aligned table with its title and notes."""
    rows = [table.header, *([_cell(value) for value in row] for row in table.rows)]
    numbers = [
        all(isinstance(r[k], int | float | list) or r[k] in ("", "-") for r in table.rows)
        for k in range(len(table.header))
    ]
    widths = [max(len(row[k]) for row in rows) for k in range(len(table.header))]

    def line(row: list[str]) -> str:
        cells = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numbers))
        return "| " + " | ".join(cells) + " |"

    ruler = (
        "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numbers)) + "|"
    )
    text = [f"## {table.title}", "", line(rows[0]), ruler, *map(line, rows[1:]), ""]
    return "\n".join([*text, *([table.notes, ""] if table.notes else [])])


def main(words: list[str]) -> int:
    """Runs the study; see the top of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tasks", default=",".join(tracks.TRACKS), help="names, or none")
    parser.add_argument("--knobs", default=",".join(knobs.KNOBS), help="names, or none")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures, px")
    parser.add_argument("--seeds", type=int, default=0, help="how many training seeds")
    parser.add_argument("--world", type=int, default=7000, help="seed of the worlds")
    parser.add_argument("--quick", action="store_true", help="few faces, few steps")
    parser.add_argument("--out", type=Path, default=Path("runs/instrument.md"), help="FILE.md")
    options = parser.parse_args(words)
    chosen: list[list[str]] = []
    for flag, known in ((options.tasks, tracks.TRACKS), (options.knobs, knobs.KNOBS)):
        names = [name for name in flag.split(",") if name not in ("", "none")]
        for name in names:
            if name not in known:
                raise UsageError(f"no study is named {name!r}: {nearest(name, known)}")
        chosen.append(names)
    for name in chosen[1]:
        knobs.require(name)
    begun, scale = time.monotonic(), scale_of(options)
    lab = Lab(scale)
    tables = [task_table(chosen[0], lab)] if chosen[0] else []
    for name in chosen[1]:
        tables += knobs.run(name, lab)
    seconds = time.monotonic() - begun
    command = shlex.join(["python", "benchmarks/instrument.py", *words])
    n = len(scale.seeds)
    facts = (
        f"`{command}`: {seconds / 60:.1f} minutes on {platform.machine()}, {jax.device_count()} "
        f"{jax.devices()[0].device_kind} device(s), jax {jax.__version__}, numpy "
        f"{np.__version__}.\n\nsynth {synth.VERSION}, worlds from seed {scale.world}, {scale.size} "
        f"px; training {scale.train[0]} people x {scale.train[1]} pictures, test {scale.test[0]} "
        f"others x {scale.test[1]}; networks: {scale.steps} steps of {scale.batch_size}, seeds "
        f"{', '.join(map(str, scale.seeds))}. x ± y: mean and Student's t 95 % half-width over "
        f"these {n} training seeds, on one world."
    )
    text = "\n".join(
        ["# The generated world as an instrument", "", facts, "", *map(markdown, tables)]
    )
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(options.out, text.rstrip() + "\n")
    value = {
        "command": command, "seconds": round(seconds, 1), "scale": vars(scale),
        "tables": [vars(table) for table in tables],
    }  # fmt: skip
    files.write_text(options.out.with_suffix(".json"), json.dumps(value, indent=1) + "\n")
    say(f"wrote {options.out} and {options.out.with_suffix('.json')}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (UsageError, FacebenchError) as error:
        sys.exit(f"instrument: {error}")
