"""Selection on dev: which step is reported, that a kill changes nothing, nor test labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facebench import cli, files, selection
from facebench import protocol as protocols
from facebench import workspace as workspaces

EXPERIMENT = "experiments/landmarks.py"
RECIPE = [  # it learns, and then a high constant rate throws it about
    "--config.optim.schedule=constant",
    "--config.optim.lr=0.05",
    "--config.execution.checkpoint_every=5",
]


def protocol(space: Path, name: str, task: str = "landmarks", **changes) -> str:
    path = space / f"leaderboards/protocols/{task}/toyfaces/few@1.json"
    value = json.loads(path.read_text()) | {"id": f"{task}/toyfaces/{name}@1", "targets": None}
    for facts in value["splits"].values():
        facts.update(dict.fromkeys(facts))
    if "dev" in changes:
        value["splits"].pop("dev")
    path.with_name(f"{name}@1.json").write_text(json.dumps(value | {"subsets": None} | changes))
    assert cli.main(["protocol", "freeze", value["id"]]) == 0
    return value["id"]


def run(name: str, steps: int, *more: str) -> int:
    words = ["run", f"--config={EXPERIMENT}", f"--config.protocol={name}", *RECIPE, "--seed=0"]
    return cli.main([*words, "--regime=1", f"--config.train.steps={steps}", *more])


def only_trial(space: Path, name: str, steps: int) -> tuple[dict, dict, Path]:
    for path in space.glob(f"runs/{name}/*/*/trial.json"):
        trial = json.loads(path.read_text())
        if trial["config"]["semantic"]["train"]["steps"] == steps:
            return trial, files.read_npz(path.parent / "predictions.npz"), path.parent
    raise AssertionError("no such trial")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, (1,)),
        (5, (1, 2, 3, 4, 5)),
        (12, (2, 3, 4, 5, 6, 8, 9, 10, 11, 12)),
        (1000, tuple(range(100, 1001, 100))),
    ],
)
def test_ten_candidates_and_the_last_step_is_one(steps, expected):
    assert selection.candidates(steps) == expected


CARVED = {"dev": {"from": "train", "rule": "unit-hash", "fraction": 0.25, "digest": None}}


@pytest.mark.parametrize("changes", [{}, CARVED], ids=["a split", "carved from train"])
def test_the_best_step_on_dev_is_reported(space, monkeypatch, changes):
    """Against the NME of dev by hand, and against trainings that end at the chosen step."""
    name = protocol(space, "dev", selection="dev", **changes)
    seen: dict[int, dict[str, np.ndarray]] = {}
    look = selection.Choice.look

    def noting(self, step, state):
        look(self, step, state)
        seen[step] = self._predict(state.variables())

    monkeypatch.setattr(selection.Choice, "look", noting)
    assert run(name, 40) == 0
    trial, stored, folder = only_trial(space, name, 40)
    assert sorted(seen) == list(range(4, 41, 4))
    # NME by hand on the people of dev
    from facebench.data import source, subsets

    ws = workspaces.find(space)
    of = protocols.load(ws, name)
    data = source.open(ws, "toyfaces", "small")
    rows = subsets.dev(of, data) if changes else np.arange(8)
    true = source.field(data.split("train" if changes else "dev"), "points")[rows]
    diagonal = np.hypot(31, 31)  # of every box, and what this convention divides by
    errors = {
        step: float((np.linalg.norm(out["points"] - true, axis=-1) / diagonal).mean())
        for step, out in seen.items()
    }
    best = min(errors, key=lambda step: (errors[step], step))
    assert best != 40, "the recipe of this test should not end at its best"
    assert trial["model"]["step"] == best
    scores = json.loads((folder / "selection.json").read_text())
    for step, error in errors.items():
        assert scores[str(step)] == pytest.approx(100 * error, abs=0.05)  # stored in 1/256 px
    # the same training, ended there: the same weights and the same predictions of test
    last = protocol(space, "last", **changes)
    if changes:  # another name draws another dev; the subsets must be the same to compare
        return
    assert run(last, best) == 0
    ended, predictions, _ = only_trial(space, last, best)
    assert ended["model"]["weights"] == trial["model"]["weights"]
    assert np.array_equal(predictions["points"], stored["points"])
    assert "step" not in ended["model"]


def test_a_killed_choice_is_the_same_choice(space, monkeypatch, capsys):
    name = protocol(space, "dev", selection="dev")
    assert run(name, 40) == 0
    trial, stored, folder = only_trial(space, name, 40)
    scores = (folder / "selection.json").read_bytes()
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    look = selection.Choice.look

    def dying(self, step, state):
        look(self, step, state)
        if step >= 28:
            raise RuntimeError("killed")

    monkeypatch.setattr(selection.Choice, "look", dying)
    assert run(name, 40) == 3  # between the look at 28 and the checkpoint of 30
    monkeypatch.setattr(selection.Choice, "look", look)
    assert run(name, 40) == 0
    again, predictions, _ = only_trial(space, name, 40)
    assert (folder / "selection.json").read_bytes() == scores
    assert again["model"] == trial["model"]
    assert np.array_equal(predictions["points"], stored["points"])


def test_test_labels_are_opened_after_the_choice(space, monkeypatch):
    from facebench.leaderboard import judge

    name = protocol(space, "dev", selection="dev")
    looks, load = [], judge.load_targets
    look = selection.Choice.look

    def looking(self, step, state):
        looks.append(step)
        look(self, step, state)

    def loading(*args):
        assert looks == list(range(2, 21, 2)), "test labels were opened before the choice"
        return load(*args)

    monkeypatch.setattr(selection.Choice, "look", looking)
    monkeypatch.setattr(judge, "load_targets", loading)
    assert run(name, 20) == 0


def test_of_equals_the_earlier_step_counts(tmp_path):
    of = protocols.load(workspaces.find(Path(__file__)), "landmarks/synthface/fractions@2")
    choice = selection.Choice(tmp_path, of, {}, 40, lambda _: {})
    choice.scores = {4: 7.0, 8: 5.0, 12: 5.0, 16: 6.0}
    assert choice.step == 8
    up = protocols.load(workspaces.find(Path(__file__)), "expression/synthface/fractions@1")
    other = selection.Choice(tmp_path / "other", up, {}, 40, lambda _: {})
    other.scores = {4: 0.5, 8: 0.7, 12: 0.7, 16: 0.6}
    assert other.step == 8
    files.write_npz(tmp_path / "selected.npz", {"step": np.asarray(12)})
    with pytest.raises(Exception, match="holds step 12, but selection"):
        choice.variables({})


def test_a_record_keeps_the_step_and_is_reproduced(space, capsys):
    name = protocol(space, "dev", selection="dev", seeds=[0])
    assert run(name, 20) == 0
    assert cli.main(["submit", f"--protocol={name}", "--entry=net", "--partial"]) == 0
    (path,) = space.glob("leaderboards/records/landmarks/toyfaces/dev@1/net/*.json")
    step = json.loads(path.read_text())["trials"][0]["step"]
    assert 2 <= step <= 20
    assert cli.main(["reproduce", path.stem]) == 0
    assert "weights      the same" in capsys.readouterr().out


def test_recognition_has_no_dev_to_choose_on(space, capsys):
    name = protocol(space, "dev", "recognition", selection="dev")
    words = ["run", "--config=experiments/recognition.py", f"--config.protocol={name}"]
    assert cli.main(words) == 1
    assert "a run cannot score dev" in capsys.readouterr().err
