"""Whole commands, as a person gives them: what they write, say and return."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from facebench import cli


def tree(root: Path) -> dict[str, str]:
    """Every file below a folder with the digest of its bytes."""
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file() and "__pycache__" not in p.parts
    }


def trials(root: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted(root.glob("runs/**/trial.json"))]


LANDMARKS = ["run", "--config=experiments/landmarks.py"]
RECOGNITION = ["run", "--config=experiments/recognition.py"]


def test_from_an_experiment_to_a_checked_board(space, capsys):
    assert cli.main([*LANDMARKS, "--plan"]) == 0
    assert "4 trials, 4 to do" in capsys.readouterr().out
    assert cli.main(LANDMARKS) == 0
    assert cli.main(RECOGNITION) == 0
    out = capsys.readouterr().out
    assert "nme" in out
    assert "rank@1" in out
    found = trials(space)
    assert len(found) == 8
    assert {t["status"] for t in found} == {"ok"}
    assert len({t["trial_id"] for t in found}) == 8
    # again: nothing to do, nothing written
    before = tree(space)
    assert cli.main(LANDMARKS) == 0
    assert "4 trials, 0 to do" in capsys.readouterr().out
    assert tree(space) == before
    # records, boards, checks
    for task in ("landmarks", "recognition"):
        words = ["submit", f"--protocol={task}/toyfaces/few@1", "--entry=net"]
        assert cli.main(words) == 0
        assert "wrote" in capsys.readouterr().out
        assert cli.main(words) == 0
        assert "already there" in capsys.readouterr().out
    assert cli.main(["leaderboard", "check"]) == 1  # the boards are not built yet
    assert cli.main(["leaderboard", "build"]) == 0
    assert cli.main(["leaderboard", "check"]) == 0
    assert cli.main(["rescore", "--all"]) == 0
    assert "2 records, 0 differ" in capsys.readouterr().out
    board = (space / "leaderboards/boards/landmarks/toyfaces/few@1.md").read_text()
    assert "net" in board
    # nothing about the machine in what is committed
    committed = "".join(p.read_text() for p in space.glob("leaderboards/**/*.json"))
    assert str(space) not in committed


@pytest.mark.slow
def test_learning_beats_the_floor(space, capsys):
    words = [*LANDMARKS, "--seed=0", "--regime=1.0", "--config.train.steps=150"]
    assert cli.main([*words, "--config.optim.lr=1e-2"]) == 0
    (space / "experiments/floor.py").write_text(
        (space / "experiments/landmarks.py")
        .read_text()
        .replace("config.model =", 'config.probe = {"build": "mean_shape"}\n    config.model =')
    )
    assert cli.main(["run", "--config=experiments/floor.py:floor", "--seed=0", "--regime=1"]) == 0
    scores = {t["entry"]: t["metrics"]["nme"] for t in trials(space)}
    assert scores["net"] < 0.5 * scores["floor"], scores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimiser", "precision", "backbone"),
    [
        ("adamw", "bfloat16", {"build": "convnet", "widths": (8, 16), "blocks": (0, 1)}),
        ("lars", "float32", {"build": "convnet", "widths": (8, 16), "blocks": (0, 1)}),
        ("sgd", "bfloat16", {"build": "vit", "patch": 8, "dim": 16, "depth": 2, "heads": 2}),
    ],
)
def test_recipes_train_both_backbones_on_both_tasks(space, optimiser, precision, backbone):
    for task in ("landmarks", "recognition"):
        path = space / f"experiments/{task}.py"
        text = re.sub(r"config.model = .*", f"config.model = {backbone!r}", path.read_text())
        path.write_text(
            text.replace("base()\n", 'base()\n    config.task.features = "pooled"\n', 1)
        )
        words = ["run", f"--config={path}", "--seed=0", "--regime=1.0"]
        words += [f"--config.optim.name={optimiser}", f"--config.train.precision={precision}"]
        words += ["--config.optim.accumulate=2", "--config.optim.ema=0.9"]
        words += ["--config.optim.layer_decay=0.8", "--config.optim.clip_norm=1.0"]
        assert cli.main([*words, "--config.optim.schedule=steps"]) == 0
    done = trials(space)
    assert {t["status"] for t in done} == {"ok"}
    lines = [p.read_text().splitlines() for p in space.glob("runs/**/metrics.jsonl")]
    losses = [[json.loads(line)["loss"] for line in one] for one in lines]
    assert all(np.isfinite(one).all() and len(set(one)) == len(one) for one in losses)


def test_a_plan_says_what_is_stale_and_why_and_writes_nothing(space, capsys):
    assert cli.main([*LANDMARKS, "--seed=0", "--regime=0.5"]) == 0
    before = tree(space)
    capsys.readouterr()
    assert cli.main([*LANDMARKS, "--plan", "--config.optim.lr=0.01"]) == 0
    out = capsys.readouterr().out
    assert "stale: optim.lr 0.001 -> 0.01" in out
    assert "4 trials, 4 to do. Nothing was written." in out
    assert cli.main([*LANDMARKS, "--plan", "--config.execution.threads=1"]) == 0
    assert "4 trials, 3 to do" in capsys.readouterr().out
    assert tree(space) == before


def test_execution_changes_no_bit(space, capsys):
    words = [*LANDMARKS, "--seed=1", "--regime=0.5"]
    seen = []
    for extra in (
        [],
        ["--config.execution.threads=0", "--config.execution.log_every=5"],
        ["--config.execution.checkpoint_every=1", "--config.execution.predict_batch_size=8"],
    ):
        assert cli.main([*words, *extra]) == 0
        (trial,) = trials(space)
        seen.append((trial["trial_id"], trial["model"]["weights"], trial["predictions"]))
        for path in sorted(space.glob("runs/**/*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "usage: facebench VERB"),
        (["rum"], 2, "did you mean 'run'?"),
        (["run"], 2, "run needs --config=FILE"),
        (["run", "--confg=x"], 2, "no such flag: --confg; did you mean 'config'?"),
        (["run", "--config=experiments/landmark.py"], 2, "did you mean 'experiments/landmarks.py"),
        ([*LANDMARKS, "--config.optim.lrr=1"], 2, "no key 'optim.lrr': did you mean 'lr'?"),
        ([*LANDMARKS, "--config.model.widht=4"], 2, "did you mean 'width'?"),
        ([*LANDMARKS, "--config.model.build=convnett"], 2, "did you mean 'convnet'?"),
        (
            [*LANDMARKS, "--config.model.build=models/nott.py:Net"],
            1,
            "models/nott.py: no such file",
        ),
        ([*LANDMARKS, "--config.model.build=models/net.py:Nett"], 2, "did you mean 'Net'"),
        ([*LANDMARKS, "--config.protocol=landmarks/toyface/few@1"], 2, "landmarks/toyfaces/few@1"),
        ([*LANDMARKS, "--config.data.augment.shift=7"], 2, "augment.shift: found 7"),
        ([*LANDMARKS, "--config.data.batch_size=30"], 2, "does not divide over 8 devices; use 24"),
        ([*LANDMARKS, "--regime=0.3"], 2, "has 0.5, 1.0"),
        ([*LANDMARKS, "--seed=x"], 2, "--seed=x: not a list of numbers"),
        ([*LANDMARKS, "extra"], 2, "unexpected 'extra'"),
        (["data", "prepare", "toyface"], 2, "did you mean 'toyfaces'?"),
        (["data", "preprae", "toyfaces"], 2, "did you mean 'prepare'?"),
        (["list", "model"], 2, "did you mean 'models'"),
        (["submit", "--protocol=landmarks/toyfaces/few@1", "--entry=nobody"], None, "nobody"),
        (["score", "--task=landmark", "--predictions=p", "--targets=t"], None, "landmarks"),
        (["rescore"], 2, "give records, a protocol, or --all"),
        (["rescore", "landmarks/toyfaces/fex@1"], 2, "did you mean 'landmarks/toyfaces/few@1'"),
        (["rescore", "landmarks/toyfaces/few"], 2, "landmarks/toyfaces/few@1 has no record"),
        (["rescore", "0123456789ab"], 2, "no record begins with 0123456789ab"),
        (["leaderboard", "bild"], 2, "did you mean 'build'?"),
    ],
    ids=lambda x: " ".join(x)[-40:] if isinstance(x, list) else "",
)
def test_a_wrong_word_gets_one_clear_line(space, capsys, words, code, says):
    before = tree(space)
    got = cli.main(words)
    out, err = capsys.readouterr()
    assert got == code if code is not None else got in (1, 2)
    assert says in out + err
    assert "Traceback" not in out + err
    if words:
        assert len(err.strip().splitlines()) == 1
    assert tree(space) == before


def test_a_wrong_keyword_of_the_task_is_named(space, capsys):
    path = space / "experiments/landmarks.py"
    path.write_text(
        path.read_text().replace("    return", "    config.task.los = 'l1'\n    return")
    )
    assert cli.main(LANDMARKS) == 2
    assert "takes no 'los': did you mean 'loss'?" in capsys.readouterr().err


def test_outside_of_a_workspace(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["list"]) == 1
    assert "no workspace here" in capsys.readouterr().err


def test_pmap_refuses_batch_norm_that_it_could_not_synchronise(space, capsys):
    net = space / "models/normed.py"
    text = (space / "models/net.py").read_text()
    norm = "        x = nn.BatchNorm(use_running_average=not train)(x)\n        return"
    net.write_text(text.replace("        return", norm))
    words = [*LANDMARKS, "--seed=0", "--config.model.build=models/normed.py:Net"]
    assert cli.main([*words, "--config.execution.partition=pmap"]) == 2
    assert "no field 'axis_name'" in capsys.readouterr().err
    assert not list(space.glob("runs/**/*"))
    assert cli.main([*words, "--regime=1.0"]) == 0


def test_a_diverged_trial_is_kept_and_counts(space, capsys):
    assert cli.main([*LANDMARKS, "--config.optim.name=sgd", "--config.optim.lr=1e30"]) == 0
    assert "diverged" in capsys.readouterr().out
    found = trials(space)
    assert {t["status"] for t in found} == {"diverged"}
    assert cli.main(["submit", "--protocol=landmarks/toyfaces/few@1", "--entry=net"]) == 0
    assert cli.main(["leaderboard", "build"]) == 0
    board = (space / "leaderboards/boards/landmarks/toyfaces/few@1.md").read_text()
    assert "diverged" in board


def test_a_trial_that_fails_is_named_and_the_others_go_on(space, capsys):
    net = space / "models/net.py"
    good = net.read_text()
    net.write_text(
        good.replace("        x = nn", "        assert image.shape[0] != 48\n        x = nn")
    )
    words = [*LANDMARKS, "--seed=0", "--config.data.batch_size=48"]
    assert cli.main(words) == 3
    out = capsys.readouterr().out
    assert out.count("FAILED: AssertionError") == 2
    assert "2 of 2 trials failed" in out
    assert cli.main([*words, "--plan"]) == 0
    assert "failed: AssertionError" in capsys.readouterr().out
    net.write_text(good)


def test_a_checkpoint_of_a_changed_backbone_is_refused(space, capsys):
    words = [*LANDMARKS, "--seed=0", "--regime=1.0"]
    assert cli.main(words) == 0
    next(space.glob("runs/**/trial.json")).unlink()
    net = space / "models/net.py"
    net.write_text(net.read_text().replace("(3, 3)", "(5, 5)"))
    for name in [n for n in sys.modules if n.startswith("facebench_file_net")]:
        del sys.modules[name]
    assert cli.main(words) == 1
    assert "checkpoints of another model" in capsys.readouterr().err


def test_two_processes_on_one_trial(space, capsys):
    assert cli.main([*LANDMARKS, "--seed=0", "--regime=1.0"]) == 0
    done = next(space.glob("runs/**/trial.json"))
    done.unlink()
    with (done.parent / ".claim").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert cli.main([*LANDMARKS, "--seed=0", "--regime=1.0"]) == 1
    assert "another process works on this trial" in capsys.readouterr().err


def test_score_prints_json_for_anybodys_predictions(space, capsys):
    truth = np.zeros((2, 68, 2))
    truth[:, 45] = [100, 0]
    points = truth + np.array([3, 4])
    np.savez(space / "p.npz", points=points)
    np.savez(space / "t.npz", points=truth)
    words = ["score", "--task=landmarks", "--predictions=p.npz", "--targets=t.npz"]
    assert cli.main([*words, "--convention=68-inter-ocular"]) == 0
    assert json.loads(capsys.readouterr().out)["nme"] == pytest.approx(5.0)
    np.savez(space / "p.npz", score=[0.9, 0.8, 0.1])
    np.savez(space / "t.npz", same=[True, True, False])
    assert cli.main(["score", "--task=recognition", *words[2:]]) == 0
    assert json.loads(capsys.readouterr().out)["auc"] == 1.0


def test_the_list_shows_what_there_is(space, capsys):
    assert cli.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [d["name"] for d in found["datasets"]] == ["toyfaces"]
    assert found["datasets"][0]["prepared"] == {"small 1.0.0": {"dev": 8, "test": 20, "train": 48}}
    assert {m["name"] for m in found["models"]} >= {"convnet", "vit"}
    assert cli.main(["list"]) == 0
    assert "landmarks/toyfaces/few@1" in capsys.readouterr().out


def test_labels_that_may_not_be_published_stay_beside_the_data(space, capsys):
    name = "landmarks/toyfaces/gated@1"
    draft = json.loads((space / "leaderboards/protocols/landmarks/toyfaces/few@1.json").read_text())
    draft |= {"id": name, "labels": "gated", "subsets": None, "targets": None}
    (space / "leaderboards/protocols" / f"{name}.json").write_text(json.dumps(draft))
    assert cli.main(["protocol", "freeze", name]) == 0
    kept = space / "data/targets" / f"{name}.npz"
    assert kept.is_file()
    assert not (space / "leaderboards/targets" / f"{name}.npz").exists()
    assert cli.main([*LANDMARKS, f"--config.protocol={name}"]) == 0
    assert cli.main(["submit", f"--protocol={name}", "--entry=net"]) == 0
    kept.unlink()
    capsys.readouterr()
    assert cli.main(["rescore", "--all"]) == 0
    assert "1 could not be rescored: their labels are not here" in capsys.readouterr().out
    (record,) = space.glob("leaderboards/records/**/*.json")
    assert cli.main(["rescore", str(record)]) == 1
    assert "facebench data prepare toyfaces" in capsys.readouterr().err
    assert cli.main(["data", "prepare", "toyfaces"]) == 0
    assert cli.main(["rescore", "--all"]) == 0
    assert "1 records, 0 differ" in capsys.readouterr().out


def test_a_draft_whose_metric_the_judge_does_not_know_is_not_frozen(space, capsys):
    path = space / "leaderboards/protocols/landmarks/toyfaces/few@1.json"
    draft = json.loads(path.read_text()) | {"id": "landmarks/toyfaces/odd@1", "targets": None}
    draft["metrics"][0]["higher_is_better"] = True
    odd = path.with_name("odd@1.json")
    odd.write_text(json.dumps(draft))
    before = odd.read_bytes()
    assert cli.main(["protocol", "freeze", "landmarks/toyfaces/odd@1"]) == 1
    assert "nme" in capsys.readouterr().err
    assert odd.read_bytes() == before


@pytest.mark.slow
def test_the_example_of_the_workspace_page_runs_and_is_ranked(space, repository, capsys):
    """The backbone and the experiment of WORKSPACE.md, as they stand there."""
    page = (repository / "WORKSPACE.md").read_text()
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL)
    names = [name for name, _ in blocks]
    assert names == ["facebench/models/tiny.py", "experiments/landmarks/tiny.py"]
    code = {Path(name).parent.name: text for name, text in blocks}
    (space / "models/tiny.py").write_text(code["models"])
    experiment = code["landmarks"].replace("facebench.models.tiny:Tiny", "models/tiny.py:Tiny")
    (space / "experiments/tiny.py").write_text(
        experiment.replace("synthface/fractions@2", "toyfaces/few@1")
    )
    words = ["run", "--config=experiments/tiny.py", "--config.train.steps=5"]
    assert cli.main([*words, "--config.data.batch_size=16"]) == 0
    assert cli.main(["submit", "--protocol=landmarks/toyfaces/few@1", "--entry=tiny"]) == 0
    assert cli.main(["leaderboard", "build"]) == 0
    assert "tiny" in (space / "leaderboards/boards/landmarks/toyfaces/few@1.md").read_text()


def test_data_verify_finds_a_changed_file(space, capsys):
    assert cli.main(["data", "verify", "toyfaces"]) == 0
    assert "as it was built" in capsys.readouterr().out
    shard = next(space.glob("data/toyfaces/small/1.0.0/*train*array_record*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(bytes(data))
    assert cli.main(["data", "verify", "toyfaces"]) == 1
    assert "toyfaces" in "".join(capsys.readouterr())


def test_a_wrong_argument_of_an_experiment_is_told_from_a_wrong_key(space, capsys):
    file = space / "experiments/landmarks.py"
    text = file.read_text().replace('arg or "net"', '{"net": "net"}[arg]')
    file.write_text(text)
    assert cli.main(["run", "--config=experiments/landmarks.py:nett", "--plan"]) == 2
    said = capsys.readouterr().err
    assert "'nett'; is that the argument after the colon?" in said
    assert cli.main(["run", "--config=experiments/landmarks.py:net", "--plan"]) == 0
