"""Runs what is not done yet of an experiment, trial by trial.

A trial that is finished is skipped, one that was interrupted goes on, one that fails is named and
the others go on. `facebench.experiment` makes a trial; this room decides which, and tells.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facebench import files, plan
from facebench import protocol as protocols
from facebench.config import Config
from facebench.errors import FacebenchError
from facebench.protocol import Protocol
from facebench.workspace import Workspace


def run(
    ws: Workspace,
    config: Config,
    *,
    values: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
    plan_only: bool = False,
) -> int:
    """Runs what is not done yet of an experiment.

    Args:
        ws: the workspace.
        config: the experiment.
        values: regime values to run; None for all.
        seeds: seeds to run; None for all.
        plan_only: print what would be done, and write nothing.

    Returns:
        an exit code: 0, 3 if some trials failed, 143 or 130 if a signal stopped it.

    Raises:
        UsageError: a name or value in the config or among the arguments that is not known.
        FacebenchError: data, disk or checkpoint faults.
    """
    protocol = protocols.load(ws, config.semantic["protocol"])
    found = plan.jobs(ws, config, protocol, values, seeds)
    if plan_only:
        print(plan.text(config, protocol, found))
        return 0
    entry = config.semantic["entry"]
    todo = [job for job in found if job.state != "done"]
    print(f"{protocol.id}  {entry}: {len(found)} trials, {len(todo)} to do", flush=True)
    if not todo:
        return 0

    # Only now: a plan, and a run with nothing to do, need none of it.
    from facebench.experiment import Experiment
    from facebench.train.loop import Interrupted

    experiment = Experiment(ws, config, protocol)
    failed = []
    for i, job in enumerate(todo, 1):
        title = f"[{i}/{len(todo)}] {protocol.regimes['kind']} {job.value} seed {job.seed}  "
        try:
            experiment.check(job)
            with _claimed(job.folder):
                value = experiment.trial(job, title)
        except FacebenchError:
            raise
        except Interrupted as stop:
            print(f"{title}{stop}", flush=True)
            return stop.exit_code
        except OSError as error:  # of the disk, not of the trial: the others would meet it too
            with files.explained(Path(str(error.filename or job.folder)), "working"):
                raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            files.write_text(job.folder / "failure.txt", f"{reason}\n\n{traceback.format_exc()}")
            failed.append(job)
            print(f"{title}FAILED: {reason}", flush=True)
            continue
        print(f"{title}{_summary(protocol, value)}", flush=True)
    if failed:
        print(f"{len(failed)} of {len(todo)} trials failed; the same command tries them again")
        print(f"the first one's traceback: {ws.relative(failed[0].folder / 'failure.txt')}")
        return 3
    return 0


def _summary(protocol: Protocol, value: Mapping[str, Any]) -> str:
    if value["status"] != "ok":
        return "diverged: the loss is not finite; it counts as the worst score"
    shown = []
    for metric in protocol.metrics:
        number = value["metrics"][metric["name"]]
        text = "undefined" if number is None else f"{number:.{metric['decimals']}f}"
        shown.append(f"{metric['name']} {text}{' ' + metric['unit'] if metric['unit'] else ''}")
    seconds = sum(value["time"].values())
    return "  ".join([*shown, f"({seconds:.0f}s)"])


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Holds a trial's folder; a second process on the same trial is refused, not mixed in."""
    with files.explained(folder, "making the folder"):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".claim").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FacebenchError(
                f"{folder}: another process works on this trial; wait for it, or stop it"
            ) from error
        yield


if __name__ == "__main__":
    from facebench.cli import main

    sys.exit(main(["run", *sys.argv[1:]]))
