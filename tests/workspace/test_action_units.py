"""Action units from the command line: weights, an adversary, thresholds of dev, who is seen."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from facebench import cli, config, files, models, selection, tasks, workspace
from facebench import protocol as protocols

AU = (1, 4, 12)
EXPERIMENT = '''
"""The smallest backbone on action units."""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = arg or "net"
    config.protocol = "action_units/toyfaces/chosen@1"
    config.model = {"build": "models/net.py:Net", "width": 8}
    if arg == "floor":
        config.kind = "floor"
        config.probe = {"build": "all_positive"}
    else:
        config.task = {"loss": "asymmetric", "weights": "inverse", "adversary": 1.0}
    config.data.batch_size = 16
    config.train.steps = 6
    config.execution.log_every = 2
    config.execution.tensorboard = False
    return config
'''


@pytest.fixture(scope="module")
def labelled(frozen, tmp_path_factory) -> Path:
    """The workspace of toy faces, with action units: where a face is, and how large."""
    root = tmp_path_factory.mktemp("units")
    builder = (frozen / "datasets/toyfaces/toyfaces_dataset_builder.py").read_text()
    builder = builder.replace(
        '"box": tfds.features.Tensor(shape=(4,), dtype=np.float32),',
        '"box": tfds.features.Tensor(shape=(4,), dtype=np.float32),\n'
        '"au": tfds.features.Tensor(shape=(3,), dtype=np.float32),',
    ).replace(
        '"visible": np.ones(19, bool),',
        '"visible": np.ones(19, bool),\n'
        '"au": np.array([(cx - 12) / 8, (cy - 12) / 8, (r - 5) / 4 if i else -1], np.float32),',
    )
    protocol = json.loads(
        (frozen / "leaderboards/protocols/landmarks/toyfaces/few@1.json").read_text()
    )
    for facts in protocol["splits"].values():
        facts.update(dict.fromkeys(facts))
    stored = {"dtype": "uint16", "scale": 65535}
    protocol |= {
        "id": "action_units/toyfaces/chosen@1",
        "task": "action_units",
        "convention": "pooled",
        "subsets": None,
        "targets": None,
        "seeds": [0],
        "evaluation": {"au": list(AU), "threshold": 0.7},
        "metrics": [protocol["metrics"][0] | {"name": "f1", "unit": "", "higher_is_better": True}],
        "predictions": {"probability": stored, "threshold": stored},
    }
    protocol["metrics"][0]["range"] = [0, 1]
    protocol["preprocess"].pop("digest", None)
    for path, text in {
        "WORKSPACE.md": "# toy\n",
        "datasets/toyfaces/toyfaces_dataset_builder.py": builder,
        "models/net.py": (frozen / "models/net.py").read_text(),
        "experiments/units.py": EXPERIMENT,
        f"leaderboards/protocols/{protocol['id']}.json": json.dumps(protocol),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    assert cli.main(["protocol", "freeze", protocol["id"], f"--workspace={root}"]) == 0
    return root


def by_hand(probability, label):
    """The thresholds of stored probabilities, one candidate after the other."""
    chosen = []
    for p, y in zip(probability.T, label.T):
        p, y = p[y >= 0], y[y >= 0] == 1
        found = {}
        for t in [*p, round(0.5 * 65535) / 65535]:
            hits = sum((p >= t) & y)
            found[t] = 2 * hits / (sum(p >= t) + sum(y)) if any(y) else 0
        best = max(found.values())
        near = (
            [t for t in found if found[t] >= best - 1e-12]
            if any(y)
            else [round(0.5 * 65535) / 65535]
        )
        chosen.append(min(near, key=lambda t: (abs(t - 0.5), t)))
    return np.array(chosen)


@pytest.mark.slow
def test_thresholds_are_of_dev_and_chosen_before_test_labels_are_opened(
    labelled, monkeypatch, capsys
):
    from facebench.data import source, subsets
    from facebench.leaderboard import judge

    monkeypatch.chdir(labelled)
    calls, choose, load = [], selection.thresholds, judge.load_targets

    def choosing(protocol, probability, label):
        calls.append((probability, label))
        return choose(protocol, probability, label)

    def loading(*args):
        assert len(calls) == 1, "test labels were opened before the thresholds were chosen"
        return load(*args)

    monkeypatch.setattr(selection, "thresholds", choosing)
    monkeypatch.setattr(judge, "load_targets", loading)
    ws = workspace.find(labelled)
    data = source.open(ws, "toyfaces", "small")
    dev = source.field(data.split("dev"), "au")
    for arg in ("net", "floor"):
        calls.clear()
        words = ["run", f"--config=experiments/units.py:{arg}", "--seed=0", "--regime=1"]
        assert cli.main(words) == 0, capsys.readouterr().err
        probability, label = calls[-1]
        np.testing.assert_array_equal(label, np.where(dev >= 0, dev >= np.float32(0.7), -1))
        (path,) = labelled.glob(f"runs/action_units/toyfaces/chosen@1/{arg}/*/predictions.npz")
        stored = files.read_npz(path)
        assert stored["probability"].shape == (20, 3)
        wanted = by_hand(np.rint(probability.astype(float) * 65535) / 65535, label)
        np.testing.assert_allclose(stored["threshold"] / 65535, wanted, atol=1e-9)
        if arg == "floor":
            np.testing.assert_array_equal(stored["threshold"], round(0.5 * 65535))
    # what the network was trained with: every person of the subset, and the log of its adversary
    (folder,) = labelled.glob("runs/action_units/toyfaces/chosen@1/net/*/")
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "accuracy", "identity_loss", "identity_accuracy"} <= logged[-1].keys()
    layout = json.loads((folder / "checkpoints/layout.json").read_text())
    people = len({data.split("train").units[i] for i in range(len(data.split("train")))})
    (kernel,) = (shape for name, shape in layout.items() if "params/identity/kernel" in name[:40])
    assert f", {people})" in kernel
    of = protocols.load(ws, "action_units/toyfaces/chosen@1")
    subset, _ = subsets.of_protocol(of, data, 1.0, 0)
    assert len(subset) == 48
    # who is seen in the features of the finished trial
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    try:
        import identity_probe
    finally:
        sys.path.pop(0)
    capsys.readouterr()
    assert identity_probe.main([str(folder), "--untrained"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[0] == "{"]
    assert [line["weights"] for line in lines] == ["trained", "untrained"]
    for line in lines:
        assert (line["people"], line["images"]) == (12, 24)
        assert line["chance"] == pytest.approx(1 / 12)
        assert line["accuracy"] >= line["chance"]  # people differ in colour
    assert identity_probe.main([str(next(labelled.glob("runs/*/*/*/floor/*")))]) == 1


def example(probability, label, **how):
    protocol = protocols.load(workspace.find(Path(__file__)), "action_units/synthface/subjects@1")
    protocol.predictions["threshold"] = how or {"dtype": "uint16", "scale": 65535}
    return selection.thresholds(protocol, np.array(probability), np.array(label))


def test_the_threshold_with_the_largest_f1_and_of_equals_the_nearest_to_a_half():
    p = np.array([[0.1], [0.2], [0.3], [0.4]])
    assert example(p, [[0], [0], [1], [1]]) == pytest.approx(0.3)
    assert example(p, [[0], [1], [0], [1]]) == pytest.approx(0.2)
    assert example(p, [[1], [-1], [9], [1]]) == pytest.approx(0.1)  # what is unknown is not no
    assert example(1 - p, [[1], [1], [0], [0]]) == pytest.approx(0.8)
    assert example(2 * p, [[0], [0], [1], [1]]) == pytest.approx(0.5)  # between .4 and .6
    assert example(p, [[0], [0], [0], [0]]) == 0.5  # nothing to find
    assert example(p, [[-1], [9], [-1], [-1]]) == 0.5
    # as much from .1 on (all of them) as from .9 on, and so from .5 on
    assert example([[0.1], [0.9], [0.1], [0.1]], [[1], [1], [0], [0]]) == pytest.approx(0.5)


@pytest.mark.parametrize("how", [{"dtype": "uint8", "scale": 255}, {"dtype": "float32"}, {}])
def test_it_is_the_best_as_it_is_stored(how):
    """Against every candidate, after both were rounded for the file."""
    rng = np.random.default_rng(0)
    probability = rng.random((60, 5))
    label = (rng.random((60, 5)) < probability).astype(int)
    label[rng.random((60, 5)) < 0.1] = -1
    chosen = example(probability, label, **how)

    def rounded(t):
        if how.get("dtype") == "float32":
            return np.float32(t).astype(float)
        return np.rint(t * how.get("scale", 65535)) / how.get("scale", 65535)

    stored = np.rint(probability * 65535) / 65535

    def f1(a, t):
        known, said = label[:, a] >= 0, stored[:, a] >= t
        there = label[:, a] == 1
        return 2 * (said & there)[known].sum() / (said[known].sum() + there[known].sum())

    for a in range(5):
        best = max(f1(a, rounded(t)) for t in [*probability[:, a], 0.5])
        assert f1(a, rounded(chosen[a])) == pytest.approx(best, abs=1e-12)


def test_a_protocol_that_stores_thresholds_needs_a_dev(repository):
    path = repository / "leaderboards/protocols/action_units/synthface/subjects@1.json"
    value = json.loads(path.read_text())
    value["predictions"]["threshold"] = value["predictions"]["probability"]
    protocols.parse(value, "x.json")
    value["splits"].pop("dev")
    with pytest.raises(Exception, match=r"predictions.threshold is chosen on dev, but there is no"):
        protocols.parse(value, "x.json")


FULL = {  # arguments: side, features, parameters of the backbone and of the heads, steps
    ("fmae_iat", ""): (224, 303_301_632, 12 * 1025 + 27 * 1025, 30 * 1503),
    ("fmae_iat", "b"): (224, 85_798_656, 12 * 769 + 27 * 769, 30 * 1503),
    ("fmae_iat", "plain"): (224, 303_301_632, 12 * 1025, 20 * 1503),
    ("me_graph_au", ""): (
        224,
        27_519_354,
        768 * 384 + 2 * 384 + 12 * (384 * 384 + 2 * 384) + 2 * 385 * 384 + 2 * 12 + 12 * 384,
        20 * 1503,
    ),
}


@pytest.mark.parametrize(("name", "arg"), FULL)
def test_full_scale_has_the_published_sizes(repository, name, arg):
    from facebench import backbones

    size, backbone, heads, steps = FULL[name, arg]
    file = f"{repository}/experiments/action_units/{name}.py"
    loaded = config.load(f"{file}:{arg}" if arg else file)
    assert loaded["train"]["steps"] == steps
    spec = tasks.Spec(size, action_units=(1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24), identities=27)
    net = backbones.build(loaded["model"], loaded["train"]["precision"], size, None, repository)
    task = tasks.build("action_units", spec, loaded["task"], repository)
    outputs, variables = models.shapes(task.module(net), size)
    counts = {k: models.parameter_count(v) for k, v in variables["params"].items()}
    assert counts.pop("backbone") == backbone
    assert sum(counts.values()) == heads
    assert next(v for k, v in outputs.items() if k != "identity").shape == (2, 12)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("fmae_iat", ("tiny", "tiny-iat", "tiny-multi")),
        ("me_graph_au", ("tiny", "tiny-linear")),
    ],
)
def test_tiny_ones_differ_in_what_they_are_about(repository, name, args):
    file = f"{repository}/experiments/action_units/{name}.py"
    loaded = [config.load(f"{file}:{arg}").semantic for arg in args]
    assert len({one["entry"] for one in loaded}) == len(args)
    for one in loaded[1:]:
        changed = {key for key in one if one[key] != loaded[0][key]}
        assert changed == {"entry", "task"}
    with pytest.raises(Exception, match=rf"{name}.py:tyni: expected"):
        config.load(f"{file}:tyni")


def test_rates_are_of_known_labels():
    from facebench.data import targets

    au = np.array([[0.4, -1, 0.0], [0.39, 9, 0.0], [np.nan, 999, 1.0], [1.0, np.nan, 0.0]], "f4")
    np.testing.assert_allclose(targets.positive_rate(au, 0.4), [2 / 3, 0, 1 / 4], rtol=1e-6)
    assert targets.positive_rate(np.float32([[0.7]]), 0.7) == 1  # in the type of the field
