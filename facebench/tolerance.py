"""How far a run may differ from itself: a trial run again in ways that change only rounding.

The sum of a batch is rounded otherwise on two devices than on one, by another CPU's vectors, or in
one thread. Training magnifies that. So a trial is run again under several such variants, each in a
process of its own, and the share of predictions that still agree with the recorded ones tells what
a protocol may ask of whoever reproduces it: ``tolerance.statistical``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facebench import files, reproduce
from facebench.errors import FacebenchError, UsageError
from facebench.leaderboard import stats, trial
from facebench.metrics import agreement
from facebench.protocol import Protocol
from facebench.workspace import Workspace

DIGITS = 10_000  # a floor is rounded down to a multiple of 1 / DIGITS


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to run the same arithmetic in another order.

    Attributes:
        name: for people.
        devices: how many virtual devices the CPU shows.
        execution: changes of ``config.execution``.
        flags: of the compiler.
    """

    name: str
    devices: int = 1
    execution: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


_PMAP = ("execution.partition=pmap",)
_AVX = ("--xla_cpu_max_isa=AVX",)  # no fused multiply-add: as on an older CPU

#: In the order in which they are used.
VARIANTS = (
    Variant("2 devices", 2),
    Variant("2 devices, pmap", 2, _PMAP),
    Variant("an older CPU's instructions", flags=_AVX),
    Variant("4 devices", 4),
    Variant("4 devices, pmap", 4, _PMAP),
    Variant("8 devices", 8),
    Variant("2 devices, an older CPU's", 2, flags=_AVX),
    Variant("8 devices, pmap", 8, _PMAP),
    Variant("4 devices, an older CPU's", 4, flags=_AVX),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A trial under a variant: its key, the outcome, or why it could not be run so."""

    key: str
    variant: Variant
    outcome: reproduce.Outcome | None
    reason: str = ""


def variants(of: reproduce.Claim, n: int) -> list[Variant]:
    """The first `n` variants that the record's batches fit.

    Raises:
        UsageError: there are not as many, or fewer than two are asked for.
    """
    batch = of.config.semantic["data"]["batch_size"]
    parts = of.config.semantic.get("optim", {}).get("accumulate", 1)
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    fit = [
        variant
        for variant in VARIANTS
        if batch % (variant.devices * parts) == 0 and (x86 or not variant.flags)
    ]
    if not 2 <= n <= len(fit):
        raise UsageError(
            f"--measure={n}: expected 2 to {len(fit)}: so many ways to run {of.path.name} (batches "
            f"of {batch}) change its rounding and nothing else"
        )
    return fit[:n]


def measure(ws: Workspace, path: Path, n: int, keys: Sequence[str] = ()) -> list[Run]:
    """Runs trials of a record again, `n` times each, on the CPU, every time another way.

    Args:
        ws: the workspace of the record.
        path: the record.
        n: how many runs of each trial.
        keys: which trials, as ``VALUE/SEED``; the first one when left out.

    Raises:
        UsageError: no such trial, or a wrong `n`.
        FacebenchError: the record, its protocol or data is damaged or not what it was.
    """
    of = reproduce.claim(ws, path)
    chosen, ways = of.chosen(keys), variants(of, n)
    for key in chosen:
        if of.rows[key]["status"] != "ok":
            raise UsageError(f"--trial={key}: it diverged: there is nothing to agree with")
    reproduce.require_data(ws, of.protocol)
    reproduce.require_weights(ws, of, chosen)
    runs: list[Run] = []
    with files.explained(ws.runs, "running again"):
        ws.runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".measure-", dir=ws.runs) as folder:
            for key in chosen:
                for variant in ways:
                    title = f"[{len(runs) + 1}/{len(chosen) * n}] {key}  {variant.name}"
                    print(f"{title} ...", flush=True)
                    place = Path(folder) / str(len(runs))
                    run = _run(ws, of, key, variant, place)
                    shown = f"not possible: {run.reason}"
                    if run.outcome:
                        shown = f"agreement {run.outcome.agreement or 0:.4f}"
                        shown += f" ({run.outcome.seconds[1]:.0f} s)"
                    print(f"{title}: {shown}", flush=True)
                    runs.append(run)
    return runs


def _run(ws: Workspace, of: reproduce.Claim, key: str, variant: Variant, folder: Path) -> Run:
    """One trial in a process of its own: devices and compiler flags are chosen when JAX starts."""
    asked = {
        "root": str(ws.root),
        "data": str(ws.data),
        "record": str(of.path.resolve()),
        "key": key,
        "folder": str(folder),
        "execution": list(variant.execution),
    }
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "facebench.tolerance", json.dumps(asked)],
        env=environment(variant, os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return Run(key, variant, None, _reason(done.stderr) or f"exit code {done.returncode}")
    again = trial.read(folder)
    fresh = trial.predictions(folder, again) if again["status"] == "ok" else None
    seconds = time.monotonic() - begun
    return Run(key, variant, reproduce.compare(of, key, again, fresh, "statistical", seconds))


def _reason(errors: str) -> str:
    """The line of a process's complaints that says most: a failed check of XLA, or the last."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = [line for line in lines if re.match(r"F[0-9]{4} ", line)] or lines[-1:]
    return said[0][:300] if said else ""


def environment(variant: Variant, base: Any) -> dict[str, str]:
    """The environment variables of a variant: `base` with devices, flags and threads replaced."""
    flags = [f"--xla_force_host_platform_device_count={variant.devices}", *variant.flags]
    names = {flag.partition("=")[0] for flag in flags}
    kept = [f for f in base.get("XLA_FLAGS", "").split() if f.partition("=")[0] not in names]
    changed = {k: v for k, v in base.items() if k != "JAX_NUM_CPU_DEVICES"}
    changed |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join([*kept, *flags])}
    # A compiled program that is kept may be of other flags.
    changed.pop("JAX_COMPILATION_CACHE_DIR", None)
    # Devices that wait for one another each hold a thread of XLA's pool, which has one per core.
    if variant.devices > 1:
        changed["NPROC"] = str(max(2 * variant.devices, os.cpu_count() or 1))
    return changed


def floor(shares: Sequence[float]) -> float:
    """The agreement that one more run is expected to reach, in [0, 1], rounded down.

    The lower end of `stats.prediction_interval` over the runs' shares, and never above the
    smallest share that was seen.
    """
    low, _ = stats.prediction_interval(shares, reproduce.LEVEL)
    return max(0.0, math.floor(min(low, min(shares)) * DIGITS + 1e-4) / DIGITS)


def text(protocol: Protocol, runs: Sequence[Run]) -> str:
    """What was measured, and what a protocol may ask, as lines for a person."""
    name, decimals = protocol.primary["name"], protocol.primary["decimals"] + 2
    lines: list[str] = []
    floors: list[float] = []
    smallest: list[float] = []
    for key in dict.fromkeys(run.key for run in runs):
        lines.append(f"{key}, run again: agreement with what is recorded")
        shares = []
        for run in (run for run in runs if run.key == key):
            if run.outcome is None:
                lines.append(f"  {run.variant.name:<28} not possible: {run.reason}")
                continue
            share = 0.0 if run.outcome.agreement is None else run.outcome.agreement
            metric = next(m for m in run.outcome.metrics if m.name == name)
            score = "undefined" if metric.again is None else f"{metric.again:.{decimals}f}"
            what = "  the same bytes: not counted" if run.outcome.bitwise else ""
            lines.append(f"  {run.variant.name:<28} {share:.4f}   {name} {score}{what}")
            if not run.outcome.bitwise:
                shares.append(share)
        if len(shares) >= 2:
            floors.append(floor(shares))
            smallest.append(min(shares))
    lines.append(f"agreement: {agreement.RULES[protocol.task][1]}")
    if not floors:
        lines.append("fewer than two runs of a trial came out otherwise: no floor can be suggested")
        return "\n".join(lines)
    lines.append(f"smallest seen {min(smallest):.4f}, suggested floor {min(floors):.4f}")
    if not min(floors):
        lines.append("the runs differ too much for a floor: measure more of them")
        return "\n".join(lines)
    count = sum(run.outcome is not None and not run.outcome.bitwise for run in runs)
    exact = (protocol.tolerance or {}).get("exact", 1e-9)
    asked = {"exact": exact, "statistical": {"agreement": min(floors), "runs": count}}
    lines.append("ask for it in the protocol's next version:")
    lines.append(f"facebench protocol bump {protocol.id} --set='tolerance={json.dumps(asked)}'")
    return "\n".join(lines)


def _main(asked: dict[str, Any]) -> None:
    """The child: one trial of a record, left in a folder."""
    from facebench.experiment import Experiment

    ws = Workspace(root=Path(asked["root"]), data=Path(asked["data"]))
    of = reproduce.claim(ws, Path(asked["record"]), asked["execution"])
    experiment = Experiment(ws, of.config, of.protocol)
    job = of.job(asked["key"], Path(asked["folder"]))
    experiment.check(job)
    experiment.trial(job)


if __name__ == "__main__":
    try:
        _main(json.loads(sys.argv[1]))
    except FacebenchError as error:
        sys.exit(re.sub(r"\s+", " ", str(error)))
