"""Many samples on several processors, in order.

The helpers are processes that run this file and write to a pipe: they need no guarded main module,
nothing is guessed about the caller, and a caller that reads slowly makes them wait.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import IO

from facebench.errors import FacebenchError
from facebench.synth.labels import Sample
from facebench.synth.world import WorldConfig, sample

_CHUNK = 16  # samples per message


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def samples(
    config: WorldConfig, indices: Sequence[int] | None = None, workers: int | None = None
) -> Iterator[Sample]:
    """Yields samples in the order of `indices`, made by several processes.

    Args:
        config: the world.
        indices: which samples; all when left out.
        workers: processes; as many as there are processors when left out, none (made here) for 0
            or when there is little to do.

    Raises:
        FacebenchError: a helper process failed; its last words are in the message.
    """
    wanted = list(range(len(config)) if indices is None else indices)
    n = processors() if workers is None else workers
    n = min(n, -(-len(wanted) // _CHUNK))
    if n < 2 and not (workers and n):
        for i in wanted:
            yield sample(config, i)
        return
    chunks = [wanted[k : k + _CHUNK] for k in range(0, len(wanted), _CHUNK)]
    command = [sys.executable, "-P", "-m", __name__]
    helpers: list[subprocess.Popen[bytes]] = []
    try:
        for k in range(n):
            helper = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            helpers.append(helper)
            assert helper.stdin is not None
            with helper.stdin:
                pickle.dump((config, chunks[k::n]), helper.stdin)
        for k in range(len(chunks)):
            yield from _receive(helpers[k % n])
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
            for pipe in (helper.stdout, helper.stderr):
                if pipe is not None:
                    pipe.close()


def _receive(helper: subprocess.Popen[bytes]) -> list[Sample]:
    assert helper.stdout is not None
    assert helper.stderr is not None
    try:
        made: list[Sample] = pickle.load(helper.stdout)
    except EOFError:
        words = helper.stderr.read().decode(errors="replace").strip().splitlines()
        raise FacebenchError(
            "synth.samples: a helper process ended early: " + (words[-1] if words else "no message")
        ) from None
    return made


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    config, chunks = pickle.load(requests)
    for chunk in chunks:
        pickle.dump([sample(config, i) for i in chunk], answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
