"""Frozen backbones: what the probe is given, that nothing moves, and what protocols refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facebench import cli, config, files, probes
from facebench import protocol as protocols
from facebench import workspace as workspaces

MODEL = {"build": "convnet", "widths": (4, 8), "blocks": (0, 1), "stem_stride": 4}
EXPERIMENT = '''
"""A probe on the features of a frozen backbone."""

from facebench.config import base


def get_config(arg="floor"):
    config = base()
    config.entry, config.kind = "frozen", arg
    config.protocol = "{protocol}"
    config.model = {model}
    config.probe = {probe}
    config.data.batch_size = 16
    return config
'''
RIDGE = {"build": "ridge", "label": "points", "features": "both"}
COSINE = {"build": "features", "features": "pooled"}


def experiment(space: Path, protocol: str, probe: dict, model: dict = MODEL) -> str:
    path = space / "experiments/frozen.py"
    path.write_text(EXPERIMENT.format(protocol=protocol, model=model, probe=probe))
    return f"--config={path}"


def protocol(space: Path, task: str, name: str, **changes) -> str:
    """Freezes a protocol like the toy one of a task, with other fields."""
    path = space / f"leaderboards/protocols/{task}/toyfaces/few@1.json"
    value = json.loads(path.read_text()) | {"id": f"{task}/toyfaces/{name}@1", "targets": None}
    value |= {"subsets": None, **changes}
    path.with_name(f"{name}@1.json").write_text(json.dumps(value))
    assert cli.main(["protocol", "freeze", value["id"]]) == 0
    return value["id"]


ZERO = {
    "regimes": {"kind": "zero", "values": [0], "by": "unit", "budget": "iso-step"},
    "adaptation": "frozen",
}


def made(space: Path, spec: str):
    """The experiment on its data, as a run makes it."""
    from facebench.experiment import Experiment

    ws = workspaces.find(space)
    loaded = config.load(spec.removeprefix("--config="))
    return Experiment(ws, loaded, protocols.load(ws, loaded.semantic["protocol"]))


def only_trial(space: Path) -> tuple[dict, dict]:
    (path,) = space.glob("runs/**/trial.json")
    return json.loads(path.read_text()), files.read_npz(path.parent / "predictions.npz")


def by_hand(of, seed: int, images: np.ndarray, which: str):
    """Variables as Flax draws them under the name that tasks use, and features of whole images."""
    import jax
    from flax import linen as nn

    from facebench.models.convnet import ConvNet

    class Net(nn.Module):
        def setup(self):
            self.backbone = ConvNet(**{k: v for k, v in MODEL.items() if k != "build"})

        def __call__(self, image, train):
            return self.backbone(image, train=train)

    key, dropout = jax.random.split(jax.random.key(seed))
    first = np.zeros((2, 32, 32, 3), np.float32)
    variables = jax.jit(
        lambda: Net().init({"params": key, "dropout": dropout}, first, train=True)
    )()
    seen = Net().apply(variables, images.astype(np.float32) / 127.5 - 1, train=False)
    pooled, flat = np.asarray(seen["pooled"]), np.asarray(seen["spatial"]).reshape(len(images), -1)
    parts = {"pooled": [pooled], "both": [pooled, flat]}[which]
    return {name: tree["backbone"] for name, tree in variables.items()}, np.concatenate(parts, 1)


def crops(of, split: str) -> dict[str, np.ndarray]:
    from facebench.data import pipeline, source

    there = of.dataset.split(split)
    with pipeline.predict_batches(
        there, preprocess=of.protocol.preprocess, batch_size=len(there), threads=0
    ) as batches:
        batch = next(batches)
    return batch | {"points": source.field(there, "points")}


def test_the_probe_is_fitted_on_what_the_backbone_makes_of_each_image(space):
    spec = experiment(space, "landmarks/toyfaces/few@1", RIDGE)
    assert cli.main(["run", spec, "--seed=1", "--regime=1"]) == 0
    trial, stored = only_trial(space)
    of = made(space, spec)
    train, test = crops(of, "train"), crops(of, "test")
    variables, features = by_hand(of, 1, train["image"], "both")
    ridge = probes.build("ridge", {"label": "points"})
    matrix = train["to_image"].astype(np.float64)
    inside = train["points"] - matrix[:, None, :, 2]  # back into the crop
    inside = np.einsum("bij,bkj->bki", np.linalg.inv(matrix[:, :, :2]), inside)
    ridge.fit([{"features": features, "points": inside}])
    _, features = by_hand(of, 1, test["image"], "both")
    points = ridge.predict({"features": features, "to_image": test["to_image"]})["points"]
    assert np.abs(stored["points"] / 256 - points).max() <= 2 / 256
    # the trial says which backbone that was, how large, and that it still is
    import jax

    kept = of._frozen.initial(1)
    assert trial["model"]["weights"] == kept.digest
    assert jax.tree.structure(kept.variables) == jax.tree.structure(variables)
    for mine, drawn in zip(jax.tree.leaves(kept.variables), jax.tree.leaves(variables)):
        np.testing.assert_allclose(mine, drawn, rtol=1e-5, atol=1e-7)
    weights = sum(a.size for a in jax.tree.leaves(variables["params"]))
    assert trial["model"]["parameters"] == weights + (features.shape[1] + 1) * 38
    assert "optim" not in trial["config"]["semantic"]


def test_it_is_the_backbone_that_a_training_begins_with(space):
    import jax

    spec = experiment(space, "landmarks/toyfaces/few@1", RIDGE)
    frozen = made(space, spec)._frozen.initial(3)
    text = (space / "experiments/frozen.py").read_text()
    text = text.replace("config.probe =", "unused =").replace("arg)", "'baseline')")
    (space / "experiments/trained.py").write_text(text)
    trained = made(space, str(space / "experiments/trained.py:baseline"))
    subset = np.arange(48)
    *_, programs = trained._programs(trained._spec(subset, None), 5)
    start = programs.init(jax.random.key(3))
    assert jax.tree.all(
        jax.tree.map(
            lambda a, b: bool((a == b).all()),
            frozen.variables,
            {
                "params": start.params["backbone"],
                "batch_stats": start.collections["batch_stats"]["backbone"],
            },
        )
    )


def test_a_backbone_that_moves_is_no_frozen_one(space, monkeypatch, capsys):
    from facebench import backbones

    read = backbones.Frozen.read

    def moving(self, variables, batches):
        yield from read(self, variables, batches)
        variables["params"]["stem"]["kernel"] = variables["params"]["stem"]["kernel"] + 1e-6

    monkeypatch.setattr(backbones.Frozen, "read", moving)
    spec = experiment(space, "landmarks/toyfaces/few@1", RIDGE)
    assert cli.main(["run", spec, "--seed=0", "--regime=1"]) == 1
    assert "the frozen backbone changed" in capsys.readouterr().err
    assert not list(space.glob("runs/**/trial.json"))


def test_padding_and_devices_change_no_feature(space):
    spec = experiment(space, "landmarks/toyfaces/few@1", RIDGE)
    of = made(space, spec)
    images = crops(of, "train")["image"][:16]
    frozen, weights = of._frozen, of._frozen.initial(0)
    assert frozen.rows == 16

    def features(rows, **more):
        batch = {"image": images[rows], "mask": np.ones(len(rows), np.float32)} | more
        (out,) = frozen.read(weights.variables, iter([batch]))
        assert "image" not in out
        return out["features"]

    whole = features(np.arange(16))
    _, expected = by_hand(of, 0, images, "both")
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    for n in (1, 5):
        assert np.array_equal(features(np.arange(n)), whole[:n])
    assert np.array_equal(features(np.r_[:5, 9, 9, 9]), whole[np.r_[:5, 9, 9, 9]])
    one = (space / "experiments/frozen.py").read_text()
    one = one.replace("    return", "    config.execution.partition = 'pmap'\n    return")
    (space / "experiments/frozen.py").write_text(one)
    other = made(space, spec)
    batch = {"image": images, "mask": np.ones(16, np.float32)}
    (out,) = other._frozen.read(other._frozen.initial(0).variables, iter([batch]))
    np.testing.assert_allclose(out["features"], whole, atol=1e-5)


def test_without_labels_a_backbone_is_compared_as_it_is(space, capsys):
    name = protocol(space, "recognition", "zero", **ZERO)
    spec = experiment(space, name, COSINE)
    assert cli.main(["run", spec, "--seed=0"]) == 0
    trial, stored = only_trial(space)
    assert trial["regime"] == {"kind": "zero", "value": 0}
    of = made(space, spec)
    _, x = by_hand(of, 0, crops(of, "test")["image"], "pooled")
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = (x @ x.T)[np.triu_indices(len(x), 1)]
    assert np.abs(stored["score"] / 32767 - cosines).max() < 1e-4
    # a board of it
    assert cli.main(["run", f"{spec}:entry"]) == 0
    words = ["submit", f"--protocol={name}", "--entry=frozen"]
    assert cli.main([*words, "--partial"]) == 2  # trials of two kinds: of two configs
    assert cli.main(["run", f"{spec}:floor"]) == 0
    digits = trial["config"]["digest"].removeprefix("sha256:")[:12]
    assert cli.main([*words, f"--trials={digits}"]) == 0
    assert cli.main(["leaderboard", "build"]) == 0
    assert cli.main(["leaderboard", "check"]) == 0
    board = (space / f"leaderboards/boards/{name}.md").read_text()
    assert "no labels" in board
    assert "frozen" in board
    capsys.readouterr()
    assert cli.main(["rescore", name, "frozen"]) == 0
    (record,) = space.glob("leaderboards/records/recognition/toyfaces/zero@1/*/*.json")
    assert cli.main(["rescore", record.stem[:8]]) == 0
    assert capsys.readouterr().out.count("1 records, 0 differ") == 2
    assert cli.main(["reproduce", record.stem]) == 0
    assert cli.main(["explain", name, "frozen", "--regime=0"]) == 0
    assert cli.main(["protocol", "show", name]) == 0
    assert cli.main(["run", f"{spec}:floor", "--regime=0", "--plan"]) == 0
    assert "2 trials, 0 to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("probe", "says"),
    [
        (COSINE | {"centre": True}, "no training image to take the mean of"),
        ({"build": "pca", "features": "pooled", "components": 2}, "no training image to fit on"),
        ({"build": "pca", "components": 2}, "no training image to fit on"),
    ],
)
def test_what_must_learn_has_nothing_to_learn_from(space, capsys, probe, says):
    name = protocol(space, "recognition", "zero", **ZERO)
    assert cli.main(["run", experiment(space, name, probe), "--seed=0"]) == 1
    assert says in capsys.readouterr().err
    assert not list(space.glob("runs/**/trial.json"))


def test_pixels_need_no_label_either(space):
    name = protocol(space, "recognition", "zero", **ZERO)
    assert cli.main(["run", experiment(space, name, {"build": "raw_pixels"}), "--seed=0"]) == 0


@pytest.mark.parametrize(
    ("changes", "kind", "probe", "says"),
    [
        ({"adaptation": "frozen"}, "entry", None, "trains a backbone from its initialisation"),
        ({"adaptation": "frozen"}, "floor", None, "trains a backbone from its initialisation"),
        ({"adaptation": "frozen", "head": "ridge"}, "entry", RIDGE, None),
        ({"adaptation": "frozen", "head": "logistic"}, "entry", RIDGE, "puts head 'logistic'"),
        ({"adaptation": "frozen", "head": "logistic"}, "floor", RIDGE, None),
        ({}, "entry", RIDGE, "asks entry for adaptation 'scratch'; as a floor"),
        ({}, "baseline", RIDGE, "asks baseline for adaptation 'scratch'"),
        ({}, "canary", RIDGE, None),
        ({}, "entry", {"build": "mean_shape"}, None),
        ({"adaptation": "frozen"}, "entry", {"build": "mean_shape"}, "fits a probe on pixels"),
        ({"adaptation": "frozen"}, "floor", {"build": "mean_shape"}, None),
        ({"adaptation": "adapted"}, "entry", None, "asks entry for adaptation 'adapted'"),
        ({"adaptation": "adapted"}, "baseline", None, None),
        (ZERO, "floor", None, "has no label to train on"),
    ],
)
def test_a_protocol_takes_its_own_adaptation(space, capsys, changes, kind, probe, says):
    name = protocol(space, "landmarks", "other", **changes)
    spec = experiment(space, name, probe or {"build": ""}) + f":{kind}"
    before = sorted(space.rglob("*"))
    capsys.readouterr()
    code = cli.main(["run", spec, "--plan"])
    out = "".join(capsys.readouterr())
    assert code == (2 if says else 0), out
    assert says is None or says in out
    assert [p for p in sorted(space.rglob("*")) if "__pycache__" not in p.parts] == [
        p for p in before if "__pycache__" not in p.parts
    ]


def test_stored_weights_are_not_what_a_training_from_scratch_begins_with(space, capsys):
    spec = experiment(space, "landmarks/toyfaces/few@1", RIDGE, MODEL | {"weights": "w.npz"})
    assert cli.main(["run", spec]) == 2
    assert "adaptation 'scratch' starts from nothing" in capsys.readouterr().err


def test_stored_weights_are_read_as_they_are(space, capsys):
    """The file of one seed's backbone gives every seed what that seed's own backbone gives it."""
    from facebench.models import stored

    name = protocol(space, "landmarks", "other", adaptation="frozen")
    drawn = made(space, experiment(space, name, RIDGE))
    weights = drawn._frozen.initial(5)
    header = stored.describe(
        drawn._backbone(drawn._spec(np.arange(4), None)),
        *("convnet", 32, weights.variables),
        **{"source": "", "key": "", "licence": ""},
    )
    assert header["weights"] == weights.digest
    path = space / f"weights/net-{weights.digest[7:19]}.safetensors"
    path.parent.mkdir()
    stored.write(path, header, weights.variables)
    model = MODEL | {"weights": f"weights/{path.name}"}
    spec = experiment(space, name, RIDGE, model)
    assert cli.main(["run", f"{spec}:entry", "--seed=1", "--regime=1"]) == 0
    trial, _ = only_trial(space)
    assert trial["model"]["weights"] == weights.digest
    assert trial["model"]["initial_weights"] == weights.digest
    of = made(space, spec)
    (mine,) = of._frozen.read(of._frozen.initial(1).variables, iter([crops(of, "dev")]))
    (its,) = drawn._frozen.read(weights.variables, iter([crops(of, "dev")]))
    assert np.array_equal(mine["features"], its["features"])
    # a name that does not tell what is in the file
    path.rename(path.with_name("net.safetensors"))
    spec = experiment(space, name, RIDGE, model | {"weights": "weights/net.safetensors"})
    assert cli.main(["run", f"{spec}:entry", "--seed=1", "--regime=1"]) == 1
    assert f"rename it to NAME-{weights.digest[7:19]}.safetensors" in capsys.readouterr().err
    # another backbone
    path.with_name("net.safetensors").rename(path)
    spec = experiment(space, name, RIDGE, model | {"widths": (4, 6)})
    assert cli.main(["run", f"{spec}:entry", "--seed=0", "--regime=1"]) == 1
    assert "weights of another model" in capsys.readouterr().err


def test_wrong_features_are_named(space, capsys):
    spec = experiment(space, "landmarks/toyfaces/few@1", RIDGE | {"features": "poold"})
    assert cli.main(["run", spec, "--seed=0"]) == 2
    assert "did you mean 'pooled'" in capsys.readouterr().err


def test_a_frozen_floor_is_shown_as_what_it_is(space):
    spec = experiment(space, "landmarks/toyfaces/few@1", RIDGE)
    assert cli.main(["run", spec]) == 0
    assert cli.main(["submit", "--protocol=landmarks/toyfaces/few@1", "--entry=frozen"]) == 0
    assert cli.main(["leaderboard", "build"]) == 0
    board = (space / "leaderboards/boards/landmarks/toyfaces/few@1.md").read_text()
    assert "| floor, frozen |" in board
    assert "the backbone is read and not trained" in board
    exported = json.loads(
        (space / "leaderboards/exports/landmarks/toyfaces/few@1.json").read_text()
    )
    assert [row["adaptation"] for row in exported["ranked"]] == ["frozen"]
    # a record that claims to be more than its config says is found out
    (path,) = space.glob("leaderboards/records/landmarks/**/*.json")
    from facebench import digest
    from facebench.leaderboard import record as records

    value = json.loads(path.read_text()) | {"kind": "entry"}
    of = protocols.load(workspaces.find(space), "landmarks/toyfaces/few@1")
    value["record_id"] = digest.of_json({k: v for k, v in value.items() if k != "record_id"})
    assert any("asks entry for adaptation 'scratch'" in line for line in records.faults(of, value))
