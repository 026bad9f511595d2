"""The published recognisers' experiment files: what they say and build, and that they run."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest

from facebench import backbones, cli, config, models, protocol, tasks, workspace
from facebench.errors import UsageError
from facebench.train import optim

FULL = {
    # arguments: side, people, parameters of the backbone, of which the embedding has, steps. An
    # iResNet's published count has 512 more, a scale that is always 1; Swin-T's a classifier of
    # 393,728 that nothing is fed to; Inception-ResNet's an embedding of 512 in the place of 128.
    ("arcface", "r50"): (112, 93_431, 43_590_848 - 512, 512, 20 * 5_058),
    ("arcface", "r100"): (112, 93_431, 65_156_160 - 512, 512, 20 * 5_058),
    ("adaface", ""): (112, 85_742, 65_150_912, 512, 26 * 11_372),
    ("partial_fc", "r50"): (112, 2_059_906, 43_590_848 - 512, 512, 20 * 41_479),
    ("partial_fc", "r100"): (112, 2_059_906, 65_156_160 - 512, 512, 20 * 41_479),
    ("swinface", ""): (112, 85_742, 28_895_226 - 393_728, 512, 40 * 11_372),
    ("facenet", ""): (160, 10_572, 23_482_624 - 384 * (1792 + 2), 128, 25_000),
}
SYSTEMS = sorted({name for name, _ in FULL})
DEGRADED = ("softmax", "cosface", "arcface", "adaface", "magface")


def load(repository, name, arg):
    spec = f"{repository}/experiments/recognition/{name}.py"
    return config.load(f"{spec}:{arg}" if arg else spec)


def built(repository, loaded, size, people):
    """Shapes of the outputs and variables of backbone and head; nothing is computed."""
    spec = tasks.Spec(size, classes=people)
    precision = loaded["train"]["precision"]
    backbone = backbones.build(loaded["model"], precision, size, None, repository)
    task = tasks.build("recognition", spec, loaded["task"], repository)
    outputs, variables = models.shapes(task.module(backbone), size)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(variables["params"]))
    return outputs, variables["params"]


@pytest.mark.parametrize(
    ("name", "arg"),
    [
        pytest.param(*one, marks=[pytest.mark.slow] if one != ("arcface", "r50") else [])
        for one in FULL
    ],
)
def test_full_scale_has_the_published_sizes(repository, name, arg):
    size, people, parameters, dim, steps = FULL[name, arg]
    loaded = load(repository, name, arg)
    assert loaded["train"]["steps"] == steps
    assert loaded["kind"] == "entry"
    outputs, params = built(repository, loaded, size, people)
    assert outputs["embedding"].shape == (2, dim)
    assert models.parameter_count(params["backbone"]) == parameters
    head = [
        leaf.shape for key in params.keys() - {"backbone"} for leaf in jax.tree.leaves(params[key])
    ]
    centres = -(-people // 256) * 256  # filled up, so that 256 devices hold as much each
    assert head == ([] if name == "facenet" else [(dim, centres)])


@pytest.mark.parametrize(("name", "arg"), FULL)
def test_full_scale_learns_at_the_published_rate(repository, name, arg):
    """The learning rate at the start, at two places of the way, and at the end."""
    recipe, steps = load(repository, name, arg)["optim"], FULL[name, arg][-1]
    places = {
        "arcface": {0: 0.1, 0.5: 0.05, 1: 0.0},
        "partial_fc": {0: 0.1, 0.75: 0.025, 1: 0.0},
        "adaface": {0: 0.1, 11.9 / 26: 0.1, 12.1 / 26: 1e-2, 20.1 / 26: 1e-3, 24.1 / 26: 1e-4},
        "swinface": {0: 0.0, 1 / 8: 5e-4, 1: 5e-6},
        "facenet": {0: 0.1, 1: 0.1},
    }[name]
    rate = optim.schedule(recipe, steps)
    for place, want in places.items():
        assert float(rate(round(place * steps))) == pytest.approx(want, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", SYSTEMS)
def test_tiny_is_of_the_same_design(repository, name):
    tiny = load(repository, name, "tiny")
    of = protocol.load(workspace.find(repository), tiny["protocol"])
    full = load(repository, name, next(arg for n, arg in FULL if n == name))
    for key in ("loss", "margin", "m", "gradient", "mining", "t_alpha"):
        assert tiny["task"].get(key) == full["task"].get(key)
    for key in ("name", "schedule", "weight_decay", "clip_norm"):
        assert tiny["optim"][key] == full["optim"][key]
    if name != "facenet":
        assert tiny["model"]["build"] == full["model"]["build"]
    outputs, params = built(repository, tiny, of.preprocess["size"], 100)
    assert outputs["embedding"].shape == (2, 128)
    assert models.parameter_count(params) < 1_500_000


def test_entries_have_names_of_their_own(repository):
    names = [load(repository, name, arg)["entry"] for name, arg in FULL]
    names += [load(repository, name, "tiny")["entry"] for name in SYSTEMS]
    names += [load(repository, "synthface_degraded", arg)["entry"] for arg in DEGRADED]
    assert len(set(names)) == len(names)


def test_the_degraded_study_differs_in_the_loss_alone(repository):
    ws = workspace.find(repository)
    found = [load(repository, "synthface_degraded", arg).semantic for arg in DEGRADED]
    for one, arg in zip(found, DEGRADED):
        assert one.pop("entry") == f"{arg}-convnet-s"
        assert one.pop("task")["margin"] == arg
        assert one == found[0]
    assert protocol.load(ws, found[0]["protocol"]).seeds == [0, 1, 2]


@pytest.mark.parametrize(
    "name", [*SYSTEMS, "synthface_degraded:adaface", "synthface_degraded:magface"]
)
@pytest.mark.slow
def test_tiny_trains_and_is_scored(space, repository, name):
    name, _, arg = name.partition(":")
    shutil.copy(repository / f"experiments/recognition/{name}.py", space / "experiments")
    words = ["run", f"--config=experiments/{name}.py:{arg or 'tiny'}", "--regime=1.0", "--seed=0"]
    words += ["--config.protocol=recognition/toyfaces/few@1", "--config.train.steps=2"]
    words += ["--config.optim.warmup=0"]
    words += ["--config.execution.log_every=1", "--config.execution.tensorboard=false"]
    assert cli.main(words) == 0
    (trial,) = (json.loads(p.read_text()) for p in space.glob("runs/**/trial.json"))
    assert trial["status"] == "ok"
    (log,) = space.glob("runs/**/metrics.jsonl")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert rows
    assert all(np.isfinite(row["loss"]) and row["update_norm"] > 0 for row in rows)


@pytest.mark.parametrize(("name", "arg"), [("arcface", "r50"), ("facenet", "")])
def test_a_protocol_that_is_not_there_is_led_to(space, repository, name, arg, capsys):
    card = space / "datasets/face_recordio/README.md"
    card.parent.mkdir()
    shutil.copy(repository / "datasets/face_recordio/README.md", card)
    shutil.copy(repository / f"experiments/recognition/{name}.py", space / "experiments")
    spec = f"--config=experiments/{name}.py{':' * bool(arg)}{arg}"
    assert cli.main(["run", "--plan", spec]) == 2
    said = capsys.readouterr().err
    wanted = load(repository, name, arg)["protocol"]
    assert f"save it as leaderboards/protocols/{wanted}.json" in said
    assert f"`facebench protocol freeze {wanted}`" in said


def test_a_mistyped_protocol_of_a_set_without_a_draft_is_named_the_nearest(space):
    with pytest.raises(UsageError, match=r"did you mean 'recognition/toyfaces/few@1'.*\?$"):
        protocol.load(workspace.find(space), "recognition/toyfaces/fev@1")


def test_an_unknown_argument_is_refused(repository):
    for name in [*SYSTEMS, "synthface_degraded"]:
        with pytest.raises((UsageError, ValueError)):
            load(repository, name, "r51")


def test_an_argument_that_a_file_refuses_is_told_without_a_traceback(repository):
    spec = f"{repository}/experiments/recognition/synthface_losses.py:arcfce"
    with pytest.raises(
        UsageError, match=r"synthface_losses.py, line \d+: .*expected one of soft"
    ) as e:
        config.load(spec)
    assert "Traceback" not in str(e.value)
