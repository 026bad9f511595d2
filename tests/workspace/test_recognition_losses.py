"""Losses of recognition from an experiment file to a scored trial."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facebench import cli


@pytest.mark.parametrize(
    ("task", "images", "logged"),
    [
        ({"loss": "triplet", "features": "pooled", "dim": 8}, 4, "active"),
        pytest.param({"margin": "adaface", "s": 16.0}, 0, "accuracy", marks=pytest.mark.slow),
        pytest.param({"sample_rate": 0.5, "s": 16.0}, 0, "accuracy", marks=pytest.mark.slow),
    ],
)
def test_a_trial_is_made_and_scored(space, task, images, logged):
    path = space / "experiments/recognition.py"
    lines = "".join(f"    config.task.{name} = {value!r}\n" for name, value in task.items())
    if images:
        lines += f"    config.data.images_per_unit = {images}\n"
    path.write_text(path.read_text().replace("base()\n", "base()\n" + lines, 1))
    assert cli.main(["run", f"--config={path}", "--seed=0", "--regime=1.0"]) == 0
    (trial,) = (json.loads(p.read_text()) for p in space.glob("runs/**/trial.json"))
    assert trial["status"] == "ok"
    assert trial["config"]["semantic"]["data"].get("images_per_unit", 0) == images
    (log,) = space.glob("runs/**/metrics.jsonl")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) and 0 <= row[logged] <= 1 for row in rows)


def test_batches_that_cannot_be_drawn_are_refused(space, capsys):
    path = space / "experiments/recognition.py"
    words = ["run", f"--config={path}", "--seed=0", "--regime=1.0"]
    assert cli.main([*words, "--config.data.images_per_unit=1"]) != 0
    assert "needs 16 units, but the subset has 12" in capsys.readouterr().err
