"""Real processes, killed and stopped at random moments, and a disk that is full."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

RUN = ["-m", "facebench", "run", "--config=experiments/landmarks.py", "--seed=0", "--regime=1.0"]
SLOWLY = ["--config.train.steps=60", "--config.execution.checkpoint_every=7"]


def start(space: Path, *extra: str) -> subprocess.Popen:
    environment = dict(os.environ, JAX_NUM_CPU_DEVICES="1")
    return subprocess.Popen(
        [sys.executable, *RUN, *SLOWLY, *extra],
        cwd=space,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen, timeout: float = 240) -> tuple[int, str]:
    out, _ = process.communicate(timeout=timeout)
    return process.returncode, out


def result(space: Path) -> tuple:
    (path,) = space.glob("runs/**/trial.json")
    trial = json.loads(path.read_text())
    data = (path.parent / "predictions.npz").read_bytes()
    steps = [json.loads(line)["step"] for line in (path.parent / "metrics.jsonl").open()]
    return trial["model"]["weights"], trial["predictions"], trial["metrics"], data, steps


@pytest.fixture(scope="module")
def whole(frozen, tmp_path_factory):
    """The uninterrupted run, and how long it took."""
    space = tmp_path_factory.mktemp("whole") / "space"
    shutil.copytree(frozen, space)
    begun = time.monotonic()
    code, out = finish(start(space))
    assert code == 0, out
    return result(space), time.monotonic() - begun


def test_sigkill_at_random_moments_ends_in_the_same_bits(space, whole):
    expected, seconds = whole
    rng = random.Random()
    said, kills = [], 0
    for attempt in range(12):
        process = start(space)
        # At least one kill falls into training: the first checkpoint is waited for.
        if attempt == 0:
            deadline = time.monotonic() + 200
            while not list(space.glob("runs/**/checkpoints/steps/*")):
                assert time.monotonic() < deadline
                assert process.poll() is None, process.stdout.read()
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.2))
        elif attempt < 4:
            time.sleep(rng.uniform(0.3, 1.0) * seconds)
        else:
            assert finish(process)[0] == 0
            break
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        said.append(finish(process)[1])
        if list(space.glob("runs/**/trial.json")):
            break
    assert kills >= 1, said
    assert result(space) == expected


def test_sigterm_saves_exits_and_goes_on_to_the_same_bits(space, whole):
    process = start(space)
    deadline = time.monotonic() + 200
    while not list(space.glob("runs/**/checkpoints/steps/7")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    code, out = finish(process)
    if code == 0:  # it was done before the signal came
        pytest.skip("this machine finished 53 steps before the signal arrived")
    assert code == 128 + signal.SIGTERM, out
    assert "stopped by SIGTERM at step" in out
    assert "the same command goes on from there" in out
    assert "Traceback" not in out
    code, out = finish(start(space))
    assert code == 0, out
    assert result(space) == whole[0]


def test_pmap_on_eight_devices_scores_like_jit(space):
    """Through the command: another partition, predictions equal to float tolerance."""
    import numpy as np

    found = {}
    for kind in ("jit", "pmap"):
        environment = dict(os.environ, JAX_NUM_CPU_DEVICES="8")
        words = [*RUN, "--config.optim.name=sgd", f"--config.execution.partition={kind}"]
        done = subprocess.run(
            [sys.executable, *words], cwd=space, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        (path,) = space.glob("runs/**/predictions.npz")
        found[kind] = np.load(path)["points"].astype(float)
        shutil.rmtree(space / "runs")
    assert np.abs(found["jit"] - found["pmap"]).max() <= 1  # one 256th of a pixel


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_with_room(space, whole):
    runs = space / "runs"
    runs.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(runs)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        process = start(space)
        while not list(space.glob("runs/**/checkpoints/steps/7")):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.005)
        process.kill()
        finish(process)
        if list(space.glob("runs/**/trial.json")):
            pytest.skip("this machine finished before it could be stopped")
        kept = sorted(p.name for p in space.glob("runs/**/checkpoints/steps/*") if p.name.isdigit())
        with contextlib.suppress(OSError), (runs / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 14)):
                pass
        for more in ([], ["--config.execution.tensorboard=true"]):
            code, out = finish(start(space, *more))
            assert code == 1, out
            assert "the disk is full; free some space" in out
            assert "Traceback" not in out, out
        assert {p.name for p in space.glob("runs/**/checkpoints/steps/*")} >= set(kept)
        (runs / "filler").unlink()
        code, out = finish(start(space))
        assert code == 0, out
        assert result(space) == whole[0]
    finally:
        subprocess.run(["umount", "--lazy", str(runs)], check=True)
