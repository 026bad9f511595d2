"""What an experiment would do: its trials, which of them are done, and why one is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facebench import digest
from facebench.config import Config
from facebench.errors import UsageError
from facebench.leaderboard import trial
from facebench.protocol import Protocol, adaptation
from facebench.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class Job:
    """One trial to be had.

    Attributes:
        value: the regime value.
        seed: the seed.
        folder: where the trial stands or will stand.
        state: ``done``, ``to do``, ``interrupted`` or ``failed``.
        why: what a person wants to know about that state.
    """

    value: int | float
    seed: int
    folder: Path
    state: str
    why: str = ""


def jobs(
    ws: Workspace,
    config: Config,
    protocol: Protocol,
    values: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Job]:
    """The trials of an experiment, with what is known of each; writes nothing.

    Raises:
        UsageError: a regime value or seed that the protocol does not have, or an experiment that
            does not do with its backbone what the protocol asks for.
    """
    semantic = config.semantic
    if fault := adaptation.fault(protocol, semantic["kind"], semantic):
        raise UsageError(f"{semantic['entry']} under {protocol.id}: {fault}")
    for flag, asked, there in (
        ("regime", values, protocol.regimes["values"]),
        ("seed", seeds, protocol.seeds),
    ):
        for one in asked or ():
            if one not in there:
                raise UsageError(
                    f"--{flag}={one:g}: protocol {protocol.id} has {', '.join(map(str, there))}"
                )
    entry = config.semantic["entry"]
    kept = trial.listing(ws, protocol.id, entry)
    found = []
    for value, seed in protocol.trials():
        if (values and value not in values) or (seeds and seed not in seeds):
            continue
        name = trial.asked(protocol, entry, config.digest, value, seed)
        folder = trial.directory(ws, protocol.id, entry, value, seed, name)
        state, why = "to do", ""
        steps = folder / "checkpoints" / "steps"
        if trial.finished(folder):
            state, why = "done", trial.read(folder)["status"].replace("ok", "")
        elif (folder / "failure.txt").is_file():
            state, why = "failed", (folder / "failure.txt").read_text().splitlines()[0]
        elif steps.is_dir() and (
            saved := [int(p.name) for p in steps.iterdir() if p.name.isdigit()]
        ):
            state, why = "interrupted", f"goes on from step {max(saved)}"
        else:
            others = [
                other
                for path, other in kept
                if path != folder and other["regime"]["value"] == value and other["seed"] == seed
            ]
            if others:
                why = "stale: " + "; ".join(_stale(protocol, others[-1], config))
        found.append(Job(value, seed, folder, state, why))
    return found


def _stale(protocol: Protocol, other: Mapping[str, Any], config: Config) -> list[str]:
    lines = trial.staleness(other["config"]["semantic"], config.semantic)
    if other["protocol"]["digest"] != protocol.digest:
        lines.append("the protocol file changed")
    return lines[:3] + ([f"and {len(lines) - 3} more"] if len(lines) > 3 else [])


def text(config: Config, protocol: Protocol, found: Sequence[Job]) -> str:
    """The plan of a run as a table for people."""
    width = max(len(protocol.regimes["kind"]), 6)
    lines = [
        f"{protocol.id}  {config.semantic['entry']}  (config {digest.short(config.digest, 8)})",
        f"{protocol.regimes['kind']:>{width}}  seed  state",
    ]
    lines += [
        f"{job.value!s:>{width}}  {job.seed:>4}  {job.state}{': ' + job.why if job.why else ''}"
        for job in found
    ]
    todo = sum(job.state != "done" for job in found)
    return "\n".join([*lines, f"{len(found)} trials, {todo} to do. Nothing was written."])
