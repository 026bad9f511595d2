"""Some trials first, the others later; what may not be left out or picked."""

import json
import re
import shutil

import numpy as np
import pytest

from facebench import cli, digest, files, leaderboard
from facebench.errors import FacebenchError
from facebench.leaderboard import board, judge, record, submission, trial

ALL = ["0.1/0", "0.1/1", "1.0/0", "1.0/1"]


def keys(toy, path):
    rows = record.read(toy.space, path)["trials"]
    return [f"{t['regime']['value']}/{t['seed']}" for t in rows]


def partly(toy, of, entry, skip, **more):
    toy.run(of, entry, 1.0, skip=skip, **more)
    return leaderboard.submit(toy.space, of.id, entry, partial=True)


def test_a_part_is_refused_unless_it_is_asked_for(toy, landmarks):
    toy.run(landmarks, "net", 1.0, skip=("0.1/1",))
    before = toy.snapshot()
    with pytest.raises(FacebenchError, match=r"1 of the 4 trials.*0\.1/1; .*--partial"):
        leaderboard.submit(toy.space, landmarks.id, "net")
    assert toy.snapshot() == before


def test_a_part_holds_exactly_what_is_finished_and_is_not_ranked(toy, landmarks):
    path, new = partly(toy, landmarks, "net", ("0.1/1",))
    assert new
    assert keys(toy, path) == ["0.1/0", "1.0/0", "1.0/1"]
    assert leaderboard.rescore(toy.space, path) == []
    found = board.assemble(toy.space, landmarks)
    assert found.ranked == ()
    (row,) = found.incomplete
    assert row.missing == ("0.1/1",)
    leaderboard.write(toy.space)
    text = (toy.space.leaderboards / f"boards/{landmarks.id}.md").read_text()
    assert re.search(r"\| net +\| +3/4 \|", text)
    report = leaderboard.check(toy.space)
    assert report.problems == []
    assert report.notices == [
        f"{landmarks.id}: net is incomplete and not ranked: 3 of 4 trials, missing 0.1/1"
    ]


def test_the_rest_comes_in_a_second_record_and_no_trial_twice(toy, landmarks):
    first, _ = partly(toy, landmarks, "net", ("0.1/1", "1.0/1"))
    text = first.read_bytes()
    toy.run(landmarks, "net", 1.0)
    second, new = leaderboard.submit(toy.space, landmarks.id, "net")
    assert new
    assert keys(toy, second) == ["0.1/1", "1.0/1"]
    assert first.read_bytes() == text
    assert leaderboard.rescore(toy.space, second) == []
    whole = toy.record(landmarks, "whole", 1.0)
    (one, other) = sorted(board.assemble(toy.space, landmarks).ranked, key=lambda r: r.entry)
    assert len(one.records) == 2
    assert one.cells == other.cells
    values = {r: record.read(toy.space, r) for r in (first, second, whole)}
    rows = {r: record.read_bundle(toy.space, v)["points"] for r, v in values.items()}
    mixed = np.stack([rows[first][0], rows[second][0], rows[first][1], rows[second][1]])
    assert np.array_equal(mixed, rows[whole])


@pytest.mark.parametrize("partial", [False, True])
def test_submitting_again_adds_nothing(toy, landmarks, partial):
    first, _ = partly(toy, landmarks, "net", ("0.1/1",))
    toy.run(landmarks, "net", 1.0)
    leaderboard.submit(toy.space, landmarks.id, "net")
    before = toy.snapshot()
    again, new = leaderboard.submit(toy.space, landmarks.id, "net", partial=partial)
    assert (again in leaderboard.record_paths(toy.space), new) == (True, False)
    assert toy.snapshot() == before
    assert first.is_file()


def test_the_rest_may_stand_on_a_machine_without_the_first(toy, landmarks):
    partly(toy, landmarks, "net", ("0.1/1", "1.0/1"))
    shutil.rmtree(toy.space.runs)
    toy.run(landmarks, "net", 1.0, skip=("0.1/0", "1.0/0"))
    leaderboard.submit(toy.space, landmarks.id, "net")
    assert [r.entry for r in board.assemble(toy.space, landmarks).ranked] == ["net"]


def test_the_same_trial_with_other_content_names_both_files(toy, landmarks):
    first, _ = partly(toy, landmarks, "net", ("0.1/1",))
    shutil.rmtree(toy.space.runs)
    folder = toy.run(landmarks, "net", 0.9)[0]
    before = toy.snapshot()
    with pytest.raises(FacebenchError, match="already has a record") as error:
        leaderboard.submit(toy.space, landmarks.id, "net")
    assert str(first) in str(error.value)
    assert str(folder / "trial.json") in str(error.value)
    assert toy.snapshot() == before


def test_equal_scores_of_other_predictions_are_other_content(toy, recognition):
    toy.run(recognition, "net", 0.05, skip=("1.0/2",))
    leaderboard.submit(toy.space, recognition.id, "net", partial=True)
    folder, value = trial.listing(toy.space, recognition.id, "net")[0]
    stored = files.read_npz(folder / "predictions.npz")
    stored["similarity"][0, 0] += 1  # the nearest one stays the nearest
    assert judge.score(
        recognition, stored, judge.load_targets(toy.space, recognition)
    ) == pytest.approx(value["metrics"], abs=0)
    value["predictions"]["content_digest"] = digest.of_arrays(stored)
    files.write_npz(folder / "predictions.npz", stored)
    trial.write(folder, value)
    with pytest.raises(FacebenchError, match=r"with other content \(other predictions\)"):
        leaderboard.submit(toy.space, recognition.id, "net", partial=True)


def test_seeds_are_not_picked_from_two_configs(toy, landmarks):
    """The better of two learning rates for each seed would be a choice by the test score."""
    first, _ = partly(toy, landmarks, "net", ("0.1/1", "1.0/1"))
    shutil.rmtree(toy.space.runs)
    toy.run(landmarks, "net", 0.5, config={"optim": {"lr": 0.002}}, skip=("0.1/0", "1.0/0"))
    with pytest.raises(FacebenchError, match=r"already has a record .*with config") as error:
        leaderboard.submit(toy.space, landmarks.id, "net", partial=True)
    assert str(first) in str(error.value)
    # Nor by a forged record beside the first.
    hidden = first.read_bytes()
    first.unlink()
    leaderboard.submit(toy.space, landmarks.id, "net", partial=True)
    first.write_bytes(hidden)
    with pytest.raises(FacebenchError, match="trials of two configs"):
        board.assemble(toy.space, landmarks)


def test_another_kind_is_another_entry(toy, landmarks):
    partly(toy, landmarks, "net", ("0.1/1",))
    shutil.rmtree(toy.space.runs)
    toy.run(landmarks, "net", 1.0, kind="floor")
    with pytest.raises(FacebenchError, match="with kind entry, and these trials have floor"):
        leaderboard.submit(toy.space, landmarks.id, "net")


def test_a_failed_trial_is_said_and_keeps_the_row_unranked(toy, landmarks, capsys):
    toy.run(landmarks, "net", 1.0, skip=("0.1/1",))
    config = trial.listing(toy.space, landmarks.id, "net")[0][1]["config"]["digest"]
    asked = trial.asked(landmarks, "net", config, 0.1, 1)
    folder = trial.directory(toy.space, landmarks.id, "net", 0.1, 1, asked)
    files.write_text(folder / "failure.txt", "ValueError: no\n")
    with pytest.raises(FacebenchError, match=r"not finished.*: 0\.1/1 \(failed\);"):
        leaderboard.submit(toy.space, landmarks.id, "net")
    where = f"--workspace={toy.root}"
    words = ["submit", f"--protocol={landmarks.id}", "--entry=net", where]
    assert cli.main(words) == 1
    assert cli.main([*words, "--partial"]) == 0
    assert "incomplete, not ranked: no record has 0.1/1 (failed)" in capsys.readouterr().out
    assert board.assemble(toy.space, landmarks).ranked == ()


def test_a_diverged_trial_of_a_part_counts_as_the_worst(toy, landmarks):
    path, _ = partly(toy, landmarks, "net", ("1.0/1",), diverged=("0.1/0",))
    assert record.read(toy.space, path)["trials"][0]["status"] == "diverged"
    toy.run(landmarks, "net", 1.0)  # it does not diverge this time
    folder, _ = next(
        (d, t)
        for d, t in trial.listing(toy.space, landmarks.id, "net")
        if (t["regime"]["value"], t["seed"]) == (0.1, 0)
    )
    assert folder.is_dir()
    with pytest.raises(FacebenchError, match="status diverged and ok"):
        leaderboard.submit(toy.space, landmarks.id, "net")


def test_after_a_retraction_the_trials_may_be_submitted_again(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    value = json.loads(path.read_text())
    files.write_json(
        toy.space.leaderboards / f"retractions/{path.name}",
        {
            "schema": "facebench/retraction-1",
            "record": value["record_id"],
            "reason": "bug",
            "note": "one step too many",
            "by": "the authors",
        },
    )
    shutil.rmtree(toy.space.runs)
    toy.run(landmarks, "net", 0.9)
    again, new = leaderboard.submit(toy.space, landmarks.id, "net")
    assert new
    assert again != path
    found = board.assemble(toy.space, landmarks)
    assert [r.entry for r in found.ranked] == ["net"]
    assert [r.entry for r in found.retracted] == ["net"]


def test_missing_names_all_where_there_is_no_record(toy, landmarks):
    assert submission.missing(toy.space, landmarks, "net") == ALL
