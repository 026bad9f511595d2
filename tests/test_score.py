"""Scoring two array files: the same numbers as the arrays, and errors that name file and array."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facebench import metrics
from facebench.errors import FacebenchError, UsageError
from facebench.score import score_files


@pytest.fixture
def saved(tmp_path):
    """Two files that numpy.savez wrote, as any framework's user would."""
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 99, (4, 68, 2)).astype(np.float32)
    predictions, targets = tmp_path / "p.npz", tmp_path / "t.npz"
    np.savez(predictions, points=true + 1)
    np.savez_compressed(targets, points=true, visible=true[..., 0] > 50, unit=np.arange(4))
    return predictions, targets


def test_files_score_as_their_arrays_do(saved):
    result = score_files("landmarks", *saved, "68-inter-pupil", [5, 8])
    arrays = [dict(np.load(path)) for path in saved]
    assert result == metrics.score("landmarks", *arrays, "68-inter-pupil", [5, 8])
    assert result["nme"] > 0
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_metric_without_a_value_is_null(tmp_path):
    np.savez(tmp_path / "p.npz", score=np.arange(3.0))
    np.savez(tmp_path / "t.npz", same=np.ones(3, bool))
    result = score_files("recognition", tmp_path / "p.npz", tmp_path / "t.npz")
    assert '"eer": null' in json.dumps(result, allow_nan=False)


def test_a_fault_names_the_file_and_the_array(saved, tmp_path):
    predictions, targets = saved
    short = tmp_path / "short.npz"
    np.savez(short, points=np.zeros((3, 68, 2)))
    with pytest.raises(FacebenchError, match=r"short\.npz: array 'points'.*\(3, 68, 2\).*t\.npz"):
        score_files("landmarks", short, targets)
    np.savez(short, landmarks=np.zeros((4, 68, 2)))
    with pytest.raises(FacebenchError, match=r"short\.npz: array 'points' is missing.*landmarks"):
        score_files("landmarks", short, targets)
    with pytest.raises(FacebenchError, match=r"none\.npz.*no such file"):
        score_files("landmarks", predictions, tmp_path / "none.npz")
    with pytest.raises(UsageError, match=r"no task is named 'landmrks'"):
        score_files("landmrks", tmp_path / "none.npz", tmp_path / "none.npz")


def test_pickles_and_damage_are_refused(saved, tmp_path):
    predictions, targets = saved
    evil = tmp_path / "evil.npz"
    np.savez(evil, points=np.array([{"run": "me"}], dtype=object))
    with pytest.raises(FacebenchError, match=r"evil\.npz"):
        score_files("landmarks", evil, targets)
    cut = tmp_path / "cut.npz"
    cut.write_bytes(predictions.read_bytes()[:-300])
    with pytest.raises(FacebenchError, match=r"cut\.npz"):
        score_files("landmarks", cut, targets)


def test_folders_score_as_their_arrays_do(tmp_path):
    rng = np.random.default_rng(0)
    predictions = {"embedding": rng.normal(size=(40, 8)).astype(np.float32)}
    targets = {
        "template": np.arange(40) // 4,
        "pairs": rng.integers(0, 10, (30, 2)),
        "same": rng.random(30) < 0.5,
    }
    for name, arrays in (("p", predictions), ("t", targets)):
        (tmp_path / name).mkdir()
        for key, array in arrays.items():
            np.save(tmp_path / name / f"{key}.npy", array)
    result = score_files("recognition", tmp_path / "p", tmp_path / "t", "ijb-n1d0")
    assert result == metrics.score("recognition", predictions, targets, "ijb-n1d0")


def test_folders_of_something_else_are_refused(saved, tmp_path):
    predictions, targets = saved
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FacebenchError, match=r"folder: holds 0 \.npy files; expected 1 to"):
        score_files("landmarks", folder, targets)
    file = folder / "points.npy"
    np.save(file, np.zeros((4, 68, 2), object), allow_pickle=True)
    with pytest.raises(FacebenchError, match=r"points\.npy: not a readable \.npy"):
        score_files("landmarks", folder, targets)
    np.save(file, np.zeros((4, 68, 2)))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(FacebenchError, match=r"points\.npy: not a readable \.npy"):
        score_files("landmarks", folder, targets)
    file.write_bytes(predictions.read_bytes())
    with pytest.raises(FacebenchError, match=r"points\.npy: not a readable \.npy"):
        score_files("landmarks", folder, targets)
    np.save(file, np.zeros((4, 68, 2), complex))
    with pytest.raises(FacebenchError, match=r"points\.npy: holds complex128"):
        score_files("landmarks", folder, targets)
    file.unlink()
    file.mkdir()
    with pytest.raises(FacebenchError, match=r"points\.npy: reading failed: it is no regular"):
        score_files("landmarks", folder, targets)
