import dataclasses

import numpy as np
import pytest

from facebench import files, protocol, workspace
from facebench.errors import FacebenchError
from facebench.leaderboard import judge


def test_landmark_scores_are_those_of_the_formula(toy, landmarks):
    targets = judge.load_targets(toy.space, landmarks)
    stored = protocol.quantise(landmarks, toy.predict(landmarks, 2.0, 0))
    scores = judge.score(landmarks, stored, targets)
    errors = []
    for true, found in zip(targets["points"], stored["points"] / 256, strict=True):
        d = np.linalg.norm(true[36] - true[45])
        errors.append(100 * np.mean([np.linalg.norm(f - t) / d for f, t in zip(found, true)]))
    assert list(scores) == ["nme", "fr@10", "auc@10"]
    assert scores["nme"] == pytest.approx(np.mean(errors), abs=1e-12)
    assert scores["fr@10"] == pytest.approx(100 * np.mean(np.array(errors) > 10))
    assert scores["auc@10"] == pytest.approx(10 * np.mean(np.maximum(0, 10 - np.array(errors))))


def test_recognition_scores_are_those_of_the_formula(toy, recognition):
    targets = judge.load_targets(toy.space, recognition)
    stored = protocol.quantise(recognition, toy.predict(recognition, 0.4, 3))
    scores = judge.score(recognition, stored, targets)
    best = targets["gallery_identity"][stored["similarity"].argmax(1)]
    assert scores["rank@1"] == np.mean(best == targets["probe_identity"])
    assert 0 < scores["eer"] < 0.5


def test_a_protocol_may_name_any_false_accept_rate(toy, recognition):
    metric = {"name": "tar@far=3e-2", "higher_is_better": True, "range": [0, 1], "primary": False}
    asks = dataclasses.replace(recognition, metrics=[*recognition.metrics, metric])
    assert judge.misfits(asks) == []
    targets = judge.load_targets(toy.space, asks)
    stored = protocol.quantise(asks, toy.predict(asks, 0.4, 3))
    scores = judge.score(asks, stored, targets)
    genuine, impostor = (stored["score"][targets["same"] == kind] for kind in (True, False))
    passing = int(0.03 * len(impostor))
    best = sorted(impostor, reverse=True)[passing]
    assert scores["tar@far=3e-2"] == np.mean(genuine > best)
    before = judge.score(recognition, stored, targets)
    assert {name: scores[name] for name in before} == before


def test_what_is_scored_is_what_is_stored(toy, landmarks):
    targets = judge.load_targets(toy.space, landmarks)
    exact = protocol.quantise(landmarks, {"points": targets["points"]})
    # The labels themselves do not score 0: they were rounded to 1/256 px.
    assert 0 < judge.score(landmarks, exact, targets)["nme"] < 100 * 0.71 / 256 / 24


def test_missing_labels_say_how_to_get_them(toy, landmarks):
    toy.space.targets(landmarks.id, True).unlink()
    with pytest.raises(judge.MissingTargetsError, match="facebench data prepare toy"):
        judge.load_targets(toy.space, landmarks)


def test_other_labels_than_the_protocol_names_are_refused(toy, landmarks):
    path = toy.space.targets(landmarks.id, True)
    targets = files.read_npz(path)
    targets["points"][0, 0, 0] += 1e-9
    files.write_npz(path, targets)
    with pytest.raises(FacebenchError, match="other labels than"):
        judge.load_targets(toy.space, landmarks)


def test_gated_labels_stand_beside_the_data(toy, recognition):
    assert toy.space.targets(recognition.id, False).is_relative_to(toy.space.data)
    assert judge.load_targets(toy.space, recognition)["same"].shape == (66,)


@pytest.mark.parametrize("rows", [11, 13])
def test_a_sample_too_few_or_too_many_is_refused(toy, landmarks, rows):
    targets = judge.load_targets(toy.space, landmarks)
    with pytest.raises(FacebenchError, match="points"):
        judge.score(landmarks, {"points": np.zeros((rows, 68, 2), np.int16)}, targets)


def test_score_file_names_the_file(toy, landmarks, tmp_path):
    path = tmp_path / "p.npz"
    files.write_npz(path, {"point": np.zeros(3, np.int16)})
    targets = judge.load_targets(toy.space, landmarks)
    with pytest.raises(FacebenchError, match=r"p\.npz: stored array 'points' is missing"):
        judge.score_file(landmarks, path, targets)


def test_metrics_that_do_not_exist_or_leave_their_range_are_refused(toy, landmarks):
    targets = judge.load_targets(toy.space, landmarks)
    stored = protocol.quantise(landmarks, toy.predict(landmarks, 1.0, 0))

    def score_with(**fields):
        metric = landmarks.metrics[0] | fields
        return judge.score(dataclasses.replace(landmarks, metrics=[metric]), stored, targets)

    with pytest.raises(FacebenchError, match=r"'nmee'.*did you mean 'nme'"):
        score_with(name="nmee")
    with pytest.raises(FacebenchError, match="'nme_per_point' is no number"):
        score_with(name="nme_per_point")
    with pytest.raises(FacebenchError, match="outside its range"):
        score_with(range=[0, 0.001])


def test_misfits_of_a_protocol_and_the_judge(landmarks, recognition):
    assert judge.misfits(landmarks) == judge.misfits(recognition) == []
    wrong = dataclasses.replace(
        landmarks,
        convention="68-interocular",
        metrics=[
            landmarks.metrics[0] | {"higher_is_better": True},
            landmarks.metrics[1] | {"range": [0, 1]},
            landmarks.metrics[2] | {"name": "acu@10"},
        ],
    )
    convention, direction, span, name = judge.misfits(wrong)
    assert "did you mean '68-inter-ocular'" in convention
    assert "nme: higher_is_better is True, expected False" in direction
    assert "fr@10: range is [0, 1], expected [0, 100]" in span
    assert "acu@10" in name


def test_a_floor_or_a_legacy_figure_ranks_nothing(repository):
    asks = protocol.load(workspace.find(repository), "action_units/synthface/subjects@1")
    assert judge.misfits(asks) == []
    floor = asks.metrics[0] | {"name": "f1_all_positive", "primary": False}
    assert judge.misfits(dataclasses.replace(asks, metrics=[*asks.metrics, floor])) == []
    for name in ("f1_all_positive", "legacy_f1_best_on_test"):
        first = floor | {"name": name, "primary": True}
        (line,) = judge.misfits(dataclasses.replace(asks, metrics=[first]))
        assert line == f"metric {name}: nothing is ranked by it; it cannot be primary"


def test_worst_is_the_bad_end_of_each_range(landmarks, recognition):
    assert judge.worst(landmarks) == {"nme": None, "fr@10": 100, "auc@10": 0}
    assert judge.worst(recognition) == {"rank@1": 0, "eer": 1}


def test_differences():
    same = judge.differences(
        {"a": 1.0, "b": None, "c": 5e9}, {"a": 1 + 9e-10, "b": None, "c": 5e9 + 1}
    )
    assert same == []
    lines = judge.differences({"a": 1.0, "b": None}, {"a": 1 + 2e-9, "b": 1.0, "c": 2.0})
    assert [line.split(":")[0] for line in lines] == ["a", "b", "c"]
