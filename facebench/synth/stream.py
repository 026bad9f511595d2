"""Many samples on several processors, in order; kept on disk on the way, if one likes.

The helpers are processes that run this file and write to a pipe: they need no guarded main module,
nothing is guessed about the caller, and a caller that reads slowly makes them wait. When the caller
dies, they end with the chunk that they are at.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from facebench import files
from facebench.errors import FacebenchError
from facebench.synth.labels import Sample
from facebench.synth.portrait import check
from facebench.synth.world import WorldConfig, sample

_CHUNK = 16  # samples per message
_MAGIC = b"facebench chunk 1\n"

Make = Callable[[int], Any]


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
    make = functools.partial(sample, config)
    n = _helpers(workers, -(-len(wanted) // _CHUNK))
    if not n:
        yield from map(make, wanted)
        return
    chunks = [wanted[k : k + _CHUNK] for k in range(0, len(wanted), _CHUNK)]
    with _Crew(make, [(chunk, None) for chunk in chunks], n) as crew:
        for k in range(len(chunks)):
            yield from crew.receive(k)


def kept(
    make: Make,
    n: int,
    folder: Path,
    workers: int | None = None,
    chunk: int = 64,
    note: Callable[[int, bool], None] | None = None,
) -> Iterator[Any]:
    """Yields ``make(0) ... make(n - 1)``, and keeps them in `folder` so that a later call goes on.

    Chunks are written whole or not at all; one that is damaged is made again. Whoever names the
    folder sees to it that it holds what `make` makes; `fingerprint` helps.

    Args:
        make: a function that can be pickled by its name, such as a `functools.partial` of one.
        n: how many there are.
        folder: where the chunks stand; made if it is not there.
        workers: as in `samples`.
        chunk: how many stand in one file.
        note: is told after every chunk how many it held, and whether they were made just now.

    Raises:
        FacebenchError: a helper process failed, or the disk is full.
    """
    check("synth.kept", "chunk", chunk, 1, 10**9, True)
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / f"{chunk}-{first:09d}.chunk" for first in range(0, n, chunk)]
    spans = [list(range(first, min(first + chunk, n))) for first in range(0, n, chunk)]
    missing = [k for k, place in enumerate(places) if not place.is_file()]
    order = {k: at for at, k in enumerate(missing)}
    helpers = _helpers(workers, len(missing))
    with _Crew(make, [(spans[k], places[k]) for k in missing], helpers) as crew:
        for k, (span, place) in enumerate(zip(spans, places)):
            fresh = k in order
            if fresh and helpers:
                crew.receive(order[k])
            elif fresh:
                _write(place, [make(i) for i in span])
            found = _read(place)
            if found is None or len(found) != len(span):
                found, fresh = [make(i) for i in span], True
                _write(place, found)
            yield from found
            if note is not None:
                note(len(span), fresh)


def fingerprint(*parts: object) -> str:
    """Names a job: 16 hexadecimal digits of its parts' `repr` and of this package's source."""
    hasher = hashlib.sha256(repr(parts).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        hasher.update(path.name.encode() + path.read_bytes())
    return hasher.hexdigest()[:16]


def _helpers(workers: int | None, chunks: int) -> int:
    """How many helper processes to start; 0 to do without."""
    n = min(processors() if workers is None else workers, chunks)
    return n if n >= 2 or workers else 0


def _write(place: Path, made: list[Any]) -> None:
    data = pickle.dumps(made, pickle.HIGHEST_PROTOCOL)
    files.write_atomic(place, _MAGIC + hashlib.sha256(data).digest() + data)


def _read(place: Path) -> list[Any] | None:
    """The chunk of a file, or nothing if it is missing or damaged."""
    try:
        whole = place.read_bytes()
    except OSError:
        return None
    data = memoryview(whole)[len(_MAGIC) + 32 :]
    if whole[: len(_MAGIC)] != _MAGIC or hashlib.sha256(data).digest() != bytes(
        whole[len(_MAGIC) : len(_MAGIC) + 32]
    ):
        return None
    made: list[Any] = pickle.loads(data)
    return made


class _Crew:
    """Helper processes that share out chunks: chunk k is the (k // n)-th of helper k % n."""

    def __init__(self, make: Make, chunks: list[tuple[list[int], Path | None]], n: int) -> None:
        self._make, self._chunks, self._n = make, chunks, n
        self._helpers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> _Crew:
        if not self._n:
            return self
        # What is compiled at first use is compiled here, once, and cached for the helpers.
        self._make(self._chunks[0][0][0])
        command = [sys.executable, "-P", "-m", __name__]
        try:
            for k in range(self._n):
                helper = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
                self._helpers.append(helper)
                assert helper.stdin is not None
                with helper.stdin:
                    pickle.dump((self._make, self._chunks[k :: self._n]), helper.stdin)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for helper in self._helpers:
            helper.kill()
            helper.wait()
            for pipe in (helper.stdout, helper.stderr):
                if pipe is not None:
                    pipe.close()

    def receive(self, k: int) -> list[Any]:
        """What was made of chunk `k`; chunks are received in order."""
        helper = self._helpers[k % self._n]
        assert helper.stdout is not None
        assert helper.stderr is not None
        try:
            made: list[Any] = pickle.load(helper.stdout)
        except EOFError:
            words = helper.stderr.read().decode(errors="replace").strip().splitlines()
            raise FacebenchError(
                "synth.samples: a helper process ended early: "
                + (words[-1] if words else "no message")
            ) from None
        return made


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    make, chunks = pickle.load(requests)
    for indices, place in chunks:
        made = [make(i) for i in indices]
        if place is not None:
            _write(place, made)
            made = []
        pickle.dump(made, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
