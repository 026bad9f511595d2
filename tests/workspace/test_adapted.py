"""Training that starts from stored weights, and a trial's backbone that becomes such a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from facebench import cli, config, files
from facebench import protocol as protocols
from facebench import workspace as workspaces
from facebench.models import stored

MODEL = {"build": "convnet", "widths": (4, 8), "blocks": (0, 1), "stem_stride": 4}
EXPERIMENT = '''
"""A small convolutional network on blobs."""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = "{entry}"
    config.protocol = "{protocol}"
    config.model = {model}
    config.data.batch_size = 16
    config.train.steps = 6
    config.optim.ema = 0.5
    config.execution.log_every = 1
    config.execution.checkpoint_every = 2
    config.execution.tensorboard = False
    return config
'''


def experiment(root: Path, entry: str, protocol: str, **model) -> str:
    path = root / f"experiments/{entry}.py"
    text = EXPERIMENT.format(entry=entry, protocol=protocol, model=MODEL | model)
    path.write_text(text)
    return f"--config={path}"


def protocol(root: Path, name: str, **changes) -> str:
    """Freezes a protocol like the toy one of landmarks, with other fields."""
    path = root / "leaderboards/protocols/landmarks/toyfaces/few@1.json"
    value = json.loads(path.read_text()) | {"id": f"landmarks/toyfaces/{name}@1", "targets": None}
    path.with_name(f"{name}@1.json").write_text(json.dumps(value | {"subsets": None, **changes}))
    assert cli.main(["protocol", "freeze", value["id"], f"--workspace={root}"]) == 0
    return value["id"]


def trials(root: Path, entry: str) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"runs/**/{entry}/*/trial.json"))


def made(root: Path, name: str):
    """The experiment on its data, as a run makes it."""
    from facebench.experiment import Experiment

    ws = workspaces.find(root)
    loaded = config.load(str(root / f"experiments/{name}.py"))
    return Experiment(ws, loaded, protocols.load(ws, loaded.semantic["protocol"]))


@pytest.fixture(scope="module")
def pretrained(frozen, tmp_path_factory) -> Path:
    """A workspace with two protocols more, a trial with its step chosen on dev, and its weights."""
    root = tmp_path_factory.mktemp("adapted") / "space"
    shutil.copytree(frozen, root)
    flag = f"--workspace={root}"
    chosen = protocol(root, "chosen", selection="dev", licence="of the blobs")
    protocol(root, "adapted", adaptation="adapted")
    spec = experiment(root, "source", chosen)
    assert cli.main(["run", spec, "--regime=1", "--seed=1", flag]) == 0
    (folder,) = trials(root, "source")
    words = ["convert", f"--trial={folder}", f"--output={root}/weights", flag]
    assert cli.main(words) == 0
    return root


@pytest.fixture
def copy(pretrained, tmp_path, monkeypatch) -> Path:
    root = tmp_path / "space"
    shutil.copytree(pretrained, root)
    monkeypatch.chdir(root)
    return root


def weights(root: Path) -> Path:
    (path,) = root.glob("weights/*.safetensors")
    return path


def adapted(root: Path, name: str = "") -> str:
    path = name or f"weights/{weights(root).name}"
    return experiment(root, "tuned", "landmarks/toyfaces/adapted@1", weights=path)


# -- a trial's backbone ---------------------------------------------------------------------------


def test_a_trials_backbone_is_stored_as_it_predicted(pretrained):
    """The features of the file are, bit by bit, those of the step that was chosen on dev."""
    import jax

    from facebench import selection
    from facebench.models.convnet import ConvNet
    from facebench.train import checkpoint

    (folder,) = trials(pretrained, "source")
    said = json.loads((folder / "trial.json").read_text())
    net = ConvNet(**{k: v for k, v in MODEL.items() if k != "build"})
    found = stored.load(weights(pretrained), net, 32)
    header = found.header
    assert weights(pretrained).name == f"source-landmarks-{header['weights'][7:19]}.safetensors"
    assert header["trial"] == {
        **{"protocol": "landmarks/toyfaces/chosen@1", "entry": "source", "value": 1.0, "seed": 1},
        "weights": said["model"]["weights"],
    }
    assert (header["source"], header["licence"]) == (said["trial_id"], "of the blobs")
    assert header["size"] == 32
    assert "/" not in json.dumps({**header, "trial": None})  # no path of any machine
    # by another way: the experiment's own state, and the arrays that its choice kept
    of = made(pretrained, "source")
    *_, programs = of._programs(of._spec(np.arange(48), None), 6)
    like = programs.init(jax.random.key(1)).variables()
    choice = selection.Choice(folder, of.protocol, {}, 6, lambda variables: {})
    variables = choice.variables(like)
    assert checkpoint.params_digest(variables) == said["model"]["weights"]
    inside = {name: tree["backbone"] for name, tree in variables.items()}
    image = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    look = jax.jit(lambda v: net.apply(v, image, train=False))
    mine, its = look(found.variables), look(inside)
    for name in ("pooled", "spatial"):
        assert np.array_equal(mine[name], its[name])


def test_the_averaged_weights_are_stored_and_the_file_is_the_same_again(copy, capsys):
    spec = experiment(copy, "plain", "landmarks/toyfaces/few@1")
    assert cli.main(["run", spec, "--regime=1", "--seed=0"]) == 0
    (folder,) = trials(copy, "plain")
    words = ["convert", f"--trial={folder}"]
    assert cli.main([*words, "--output=a.safetensors", "--licence=mine"]) == 0
    said = capsys.readouterr().out
    assert 'a run begins with it by: config.model.weights = "a.safetensors"' in said
    assert cli.main([*words, "--output=b.safetensors", "--licence=mine"]) == 0
    assert (copy / "a.safetensors").read_bytes() == (copy / "b.safetensors").read_bytes()
    from facebench.train import checkpoint

    _, state = checkpoint.read(folder / "checkpoints")
    kept = stored.read(copy / "a.safetensors").variables["params"]
    assert np.array_equal(kept["stem"]["kernel"], state["ema"]["backbone"]["stem"]["kernel"])
    assert not np.array_equal(kept["stem"]["kernel"], state["params"]["backbone"]["stem"]["kernel"])
    assert stored.read(copy / "a.safetensors").header["licence"] == "mine"
    # what is not there, or is not what the trial says
    assert cli.main([*words, "--output=c.safetensors", "--size=64"]) == 2
    assert "--size is of a checkpoint" in capsys.readouterr().err
    assert cli.main([*words, "x.pth", "--output=c.safetensors"]) == 2
    assert cli.main(words) == 2
    assert "convert needs --output" in capsys.readouterr().err
    assert cli.main(["convert", f"--trial={folder.parent}", "--output=c"]) == 1
    assert "no finished trial" in capsys.readouterr().err
    shutil.rmtree(folder / "checkpoints/steps/6")
    assert cli.main([*words, "--output=c"]) == 1
    assert "what is kept of step 4 has the digest" in capsys.readouterr().err
    shutil.rmtree(folder / "checkpoints/steps")
    assert cli.main([*words, "--output=c"]) == 1
    assert "no checkpoint is left there" in capsys.readouterr().err
    text = EXPERIMENT.format(entry="floor", protocol="landmarks/toyfaces/few@1", model=MODEL)
    text = text.replace("    return", "    config.probe.build = 'mean_shape'\n    return")
    (copy / "experiments/floor.py").write_text(text)
    assert cli.main(["run", "--config=experiments/floor.py", "--regime=1", "--seed=0"]) == 0
    (folder,) = trials(copy, "floor")
    assert cli.main(["convert", f"--trial={folder}", "--output=c"]) == 1
    assert "trained no backbone" in capsys.readouterr().err
    assert not (copy / "c").exists()


# -- a training that starts from it ---------------------------------------------------------------


def test_a_training_starts_from_the_stored_backbone(copy):
    """Its first step is that of a state which is put together by hand, and its end is another.

    The new head begins at zero, so the first loss says nothing of the backbone; its slope does.
    """
    import jax
    import optax

    assert cli.main(["run", adapted(copy), "--regime=1", "--seed=0"]) == 0
    (folder,) = trials(copy, "tuned")
    said = json.loads((folder / "trial.json").read_text())
    found = stored.read(weights(copy))
    assert said["model"]["initial_weights"] == found.header["weights"]
    assert said["model"]["weights"] != found.header["weights"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    of = made(copy, "tuned")
    job = of_job(said, folder)
    subset = np.arange(48)
    spec = of._spec(subset, None)
    task, module, programs = of._programs(spec, 6)
    state = jax.device_get(programs.init(jax.random.key(0)))
    params = {**state.params, "backbone": found.variables["params"]}
    stats = {"batch_stats": {"backbone": found.variables["batch_stats"]}}
    batches = of._batches(subset, job, 0, 16, task, of.config.semantic["data"]["augment"])
    batch = next(batches)
    batches.close()

    @jax.jit
    def first(params, collections):
        def loss(params):
            image = batch["image"].astype(np.float32) / 127.5 - 1
            outputs, _ = module.apply(
                {"params": params, **collections}, image, train=True, mutable=["batch_stats"]
            )
            return task.loss(outputs, batch)[0].mean()

        value, slope = jax.value_and_grad(loss)(params)
        return value, optax.tree.norm(slope), optax.tree.norm(params)

    value, slope, size = map(float, first(params, stats))
    assert lines[0]["step"] == 1
    assert lines[0]["loss"] == pytest.approx(value, rel=1e-4)
    assert lines[0]["grad_norm"] == pytest.approx(slope, rel=1e-4)
    assert lines[0]["param_norm"] == pytest.approx(size, rel=1e-2)
    _, drawn, _ = map(float, first(state.params, state.collections))
    assert abs(drawn - slope) > 1e-2 * slope


def of_job(said, folder):
    from facebench import plan

    return plan.Job(said["regime"]["value"], said["seed"], folder, "to do")


@pytest.mark.slow
def test_a_run_that_was_killed_ends_in_the_same_bits(copy, monkeypatch):
    from facebench.experiment import Experiment

    spec = adapted(copy)
    assert cli.main(["run", spec, "--regime=1", "--seed=0"]) == 0
    (folder,) = trials(copy, "tuned")
    whole = json.loads((folder / "trial.json").read_text())["model"]
    shutil.rmtree(folder)
    batches = Experiment._batches

    def dies(self, subset, job, start, *rest):
        for step, batch in enumerate(batches(self, subset, job, start, *rest), start):
            if step == 5:
                raise RuntimeError("killed")
            yield batch

    monkeypatch.setattr(Experiment, "_batches", dies)
    assert cli.main(["run", spec, "--regime=1", "--seed=0"]) == 3
    monkeypatch.setattr(Experiment, "_batches", batches)
    assert cli.main(["run", spec, "--regime=1", "--seed=0"]) == 0
    again = json.loads((folder / "trial.json").read_text())["model"]
    assert again == whole


def test_files_that_do_not_fit_are_named_before_anything_is_written(copy, capsys):
    path = weights(copy)
    name = f"weights/{path.name}"
    for model, said in (
        ({"weights": "weights/none-0123456789ab.safetensors"}, "no such file"),
        ({"weights": name, "widths": (4, 6)}, "weights of another model"),
        ({"weights": f"/{name}"}, "the path of a file in the workspace"),
        ({"weights": f"../space/{name}"}, "the path of a file in the workspace"),
        ({"weights": 3}, "the path of a file in the workspace"),
    ):
        spec = experiment(copy, "tuned", "landmarks/toyfaces/adapted@1", **model)
        assert cli.main(["run", spec, "--regime=1", "--seed=0"]) in (1, 2)
        assert said in capsys.readouterr().err
    renamed = path.rename(path.with_name("net.safetensors"))
    assert cli.main(["run", adapted(copy), "--regime=1", "--seed=0"]) == 1
    assert "its name must end in the digest" in capsys.readouterr().err
    damaged = bytearray(renamed.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert cli.main(["run", adapted(copy, name), "--regime=1", "--seed=0"]) == 1
    assert "the file was changed" in capsys.readouterr().err
    assert not list(copy.glob("runs/landmarks/toyfaces/adapted@1/**/metrics.jsonl"))


def test_a_record_says_what_it_began_with_and_is_run_again_from_nothing_else(copy, capsys):
    spec = adapted(copy)
    assert cli.main(["run", spec, "--regime=1", "--seed=0"]) == 0
    words = ["submit", "--protocol=landmarks/toyfaces/adapted@1", "--entry=tuned", "--partial"]
    assert cli.main(words) == 0
    (record,) = copy.glob("leaderboards/records/landmarks/toyfaces/adapted@1/tuned/*.json")
    value, path = json.loads(record.read_text()), weights(copy)
    began = stored.read(path).header["weights"]
    assert [row["initial_weights"] for row in value["trials"]] == [began]
    assert cli.main(["leaderboard", "build"]) == 0
    assert cli.main(["leaderboard", "check"]) == 0
    again = ["reproduce", str(record), "--trial=1.0/0", "--rule=bitwise"]
    assert cli.main(again) == 0
    assert "weights      the same" in capsys.readouterr().out
    # other weights under the same name, and none
    there = stored.read(path)
    there.variables["params"]["stem"]["kernel"][0] += 1
    of = made(copy, "tuned")
    header = stored.describe(
        of._backbone(of._spec(np.arange(4), None)),
        *("convnet", 32, there.variables),
        **{"source": "", "key": "", "licence": ""},
    )
    stored.write(path, header, there.variables)
    assert cli.main(again) == 1
    said = capsys.readouterr().err
    assert f"the record begins with {began}" in said
    assert header["weights"] in said
    path.unlink()
    assert cli.main(again) == 1
    assert f"no such file, and the record begins with its weights ({began})" in (
        capsys.readouterr().err
    )
    assert cli.main(["rescore", record.stem]) == 0  # which needs none
    # a trial whose digest is not the one that its config names
    (folder,) = trials(copy, "tuned")
    trial = files.read_json(folder / "trial.json")
    for other, said in (
        ("sha256:" + "0" * 64, "whose name must end in that"),
        (None, "initial_weights is None, but config.model.weights is"),
    ):
        trial["model"]["initial_weights"] = other
        kept = {k: v for k, v in trial["model"].items() if v is not None}
        files.write_json(folder / "trial.json", trial | {"model": kept})
        assert cli.main(words) == 1
        assert said in capsys.readouterr().err
