"""Many samples: in order, from several processes, and going on after a kill."""

from __future__ import annotations

import dataclasses
import functools
import io
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facebench import synth
from facebench.errors import FacebenchError
from facebench.synth import records, stream
from facebench.synth.progress import Progress, duration

CONFIG = synth.WorldConfig(size=24, seed=3, identities=40, per_identity=1, occlusion=0.3)


def equal(a: synth.Sample, b: synth.Sample) -> bool:
    return all(
        np.array_equal(getattr(a, f.name), getattr(b, f.name))
        for f in dataclasses.fields(a)
        if f.name != "parameters"
    )


def same(a: Any, b: Any) -> bool:
    """Equality of lists of records."""
    return len(a) == len(b) and all(
        len(x) == len(y)
        and all(p.keys() == q.keys() for p, q in zip(x, y))
        and all(np.array_equal(p[k], q[k]) for p, q in zip(x, y) for k in p)
        for x, y in zip(a, b)
    )


def make(n: int = 40) -> functools.partial:
    config = dataclasses.replace(CONFIG, identities=n)
    return functools.partial(records.of_sample, config, records.DENSE)


@pytest.mark.slow
def test_helper_processes_make_the_same_samples_in_order() -> None:
    made = list(synth.samples(CONFIG, workers=2))
    assert [s.identity for s in made] == list(range(40))
    assert all(equal(made[i], synth.sample(CONFIG, i)) for i in (0, 15, 16, 17, 39))
    wanted = [s.identity for s in synth.samples(CONFIG, [7, 3], workers=0)]
    assert wanted == [7, 3]


def test_a_caller_may_stop_early() -> None:
    stopped = synth.samples(CONFIG, workers=2)
    assert next(stopped).identity == 0
    stopped.close()


def test_a_fault_in_a_helper_says_what_it_was(tmp_path: Path) -> None:
    broken = functools.partial(_fails, 20)
    with pytest.raises(FacebenchError, match="sample 20"):
        list(stream.kept(broken, 40, tmp_path, workers=0, chunk=4))
    asked = functools.partial(synth.identity_vector, CONFIG)
    with stream._Crew(asked, [([1], None), ([-3], None)], 2) as crew:
        assert np.array_equal(crew.receive(0)[0], synth.identity_vector(CONFIG, 1))
        with pytest.raises(FacebenchError, match=r"identity.*-3"):
            crew.receive(1)


def _fails(at: int, i: int) -> int:
    if i == at:
        raise FacebenchError(f"sample {i} fails")
    return i


def test_kept_gives_what_was_made_and_then_what_was_kept(tmp_path: Path) -> None:
    whole = [make()(i) for i in range(10)]
    noted: list[tuple[int, bool]] = []
    first = list(stream.kept(make(), 10, tmp_path, 0, 4, lambda *a: noted.append(a)))
    assert same(first, whole)
    assert noted == [(4, True), (4, True), (2, True)]
    noted.clear()
    again = list(stream.kept(_never, 10, tmp_path, 0, 4, lambda *a: noted.append(a)))
    assert same(again, whole)
    assert noted == [(4, False), (4, False), (2, False)]


def _never(i: int) -> Any:
    raise AssertionError(f"{i} was there already")


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_and_missing_chunks_are_made_again(tmp_path: Path, workers: int) -> None:
    whole = list(stream.kept(make(), 20, tmp_path, 0, 4))
    places = sorted(tmp_path.glob("*.chunk"))
    assert len(places) == 5
    places[0].write_bytes(places[0].read_bytes()[:-1])
    data = bytearray(places[1].read_bytes())
    data[len(data) // 2] ^= 1
    places[1].write_bytes(bytes(data))
    places[2].write_bytes(b"")
    places[3].unlink()
    noted: list[bool] = []
    again = list(stream.kept(make(), 20, tmp_path, workers, 4, lambda _, new: noted.append(new)))
    assert same(again, whole)
    assert noted == [True, True, True, True, False]
    assert same(list(stream.kept(_never, 20, tmp_path, 0, 4)), whole)


def test_another_chunk_size_takes_nothing_over(tmp_path: Path) -> None:
    whole = list(stream.kept(make(), 9, tmp_path, 0, 4))
    assert same(list(stream.kept(make(), 9, tmp_path, 0, 3)), whole)


@pytest.mark.parametrize("moment", [1, 9])
def test_a_killed_process_goes_on_to_the_same_bits(tmp_path: Path, moment: int) -> None:
    code = (
        "import functools, sys; from pathlib import Path\n"
        "from facebench import synth; from facebench.synth import records, stream\n"
        "config = synth.WorldConfig(size=24, seed=3, identities=4000, per_identity=1, "
        "occlusion=0.3)\n"
        "make = functools.partial(records.of_sample, config, records.DENSE)\n"
        "for made in stream.kept(make, 4000, Path(sys.argv[1]), 2, 4):\n"
        "    print('made', flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(moment):
        assert child.stdout.readline() == "made\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    left = len(list(tmp_path.glob("*.chunk")))
    assert 1 <= left < 1000
    noted: list[bool] = []
    n = 4 * left + 10  # as if the job were that long: what is there is found, the rest is made
    found = list(stream.kept(make(4000), n, tmp_path, 0, 4, lambda _, new: noted.append(new)))
    assert same(found, [make(4000)(i) for i in range(n)])
    assert noted.count(False) >= left - 4  # helpers run on for a chunk after the kill
    assert noted[-1]


def test_the_helpers_of_a_killed_process_end(tmp_path: Path) -> None:
    test_a_killed_process_goes_on_to_the_same_bits(tmp_path, 1)
    deadline, before = time.monotonic() + 20, -1
    while time.monotonic() < deadline:
        now = len(list(tmp_path.glob("*.chunk")))
        if now == before:
            break
        before = now
        time.sleep(1.0)
    assert now == before < 1000


def test_fingerprint_tells_jobs_apart() -> None:
    a = stream.fingerprint("2.0.0", CONFIG)
    assert a == stream.fingerprint("2.0.0", dataclasses.replace(CONFIG))
    assert a != stream.fingerprint("2.0.1", CONFIG)
    assert a != stream.fingerprint("2.0.0", dataclasses.replace(CONFIG, seed=4))
    assert len(a) == 16


# ---------------------------------------------------------------------------------- progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_now_and_then() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress("faces", 100, stream=out, clock=clock)
    progress.step(10, fresh=False)
    for _ in range(9):
        clock.now += 3
        progress.step(10)
    progress.close()
    lines = out.getvalue().splitlines()
    assert lines == [
        "faces  20/100 images (10 found)  3/s  ETA 24s",
        "faces  60/100 images (10 found)  3/s  ETA 12s",
        "faces  100/100 images (10 found)  3/s  27s",
        "faces  100/100 images (10 found)  3/s  27s",
    ]


def test_a_live_line_on_a_terminal() -> None:
    out, clock = Terminal(), Clock()
    progress = Progress("faces", 40, "clips", out, clock=clock)
    for _ in range(4):
        clock.now += 1.5
        progress.step(10)
    progress.close()
    said = out.getvalue()
    assert said.count("\n") == 1
    assert said.endswith("faces  40/40 clips  7/s  6s\n")
    assert said.count("\r\x1b[2K") == 4


def test_small_jobs_are_quiet() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress("faces", 30, stream=out, clock=clock)
    for _ in range(3):
        clock.now += 0.5
        progress.step(10)
    progress.close()
    assert out.getvalue() == ""


def test_durations() -> None:
    assert [duration(s) for s in (0.2, 59.4, 61, 7260)] == ["0s", "59s", "1m01s", "2h01m"]
