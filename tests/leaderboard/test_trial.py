import json
import os
import socket

import numpy as np
import pytest

from facebench import digest, files
from facebench.errors import FacebenchError, UsageError
from facebench.leaderboard import trial

ASKED = {
    "protocol_digest": digest.of_bytes(b"p"),
    "entry": "net",
    "config_digest": digest.of_bytes(b"c"),
    "content_digests": {"train": digest.of_bytes(b"t"), "test": digest.of_bytes(b"e")},
    "regime": {"kind": "fraction", "value": 0.1},
    "seed": 0,
}


def test_an_id_says_all_that_was_asked_and_nothing_else():
    name = trial.trial_id(**ASKED)
    assert name == trial.trial_id(
        **ASKED | {"content_digests": dict(reversed(ASKED["content_digests"].items()))}
    )
    others = [
        trial.trial_id(**ASKED | change)
        for change in (
            {"protocol_digest": digest.of_bytes(b"q")},
            {"entry": "nets"},
            {"config_digest": digest.of_bytes(b"d")},
            {"content_digests": {"train": digest.of_bytes(b"t")}},
            {"regime": {"kind": "fraction", "value": 0.2}},
            {"regime": {"kind": "full", "value": 0.1}},
            {"seed": 1},
        )
    ]
    assert len({name, *others}) == 8


def test_a_trial_is_finished_when_it_is_written_and_reads_back(toy, landmarks):
    folders = toy.run(landmarks, "net", 1.0)
    listed = trial.listing(toy.space, landmarks.id, "net")
    assert sorted(folders) == [folder for folder, _ in listed]
    for folder, value in listed:
        assert trial.finished(folder)
        assert folder.parent == toy.space.runs / landmarks.id / "net"
        regime, seed = value["regime"]["value"], value["seed"]
        assert folder.name == f"{regime}-s{seed}-{digest.short(value['trial_id'], 8)}"
        assert value["trial_id"] == trial.asked(
            landmarks, "net", value["config"]["digest"], regime, seed
        )
        assert value["metrics"].keys() == {"nme", "fr@10", "auc@10"}
    assert trial.listing(toy.space, landmarks.id, "nets") == []
    assert not trial.finished(folders[0].parent)


def test_the_predictions_come_first(toy, landmarks):
    (folder, *_) = toy.run(landmarks, "net", 1.0)
    value = trial.read(folder)
    (folder / "trial.json").unlink()
    stored = files.read_npz(folder / "predictions.npz")
    stored["points"][3, 2, 1] += 1
    files.write_npz(folder / "predictions.npz", stored)
    with pytest.raises(FacebenchError, match="not the predictions of this trial"):
        trial.write(folder, value)
    (folder / "predictions.npz").unlink()
    with pytest.raises(FacebenchError, match="no such file"):
        trial.write(folder, value)
    assert not trial.finished(folder)


def test_a_diverged_trial_has_the_worst_scores_and_no_predictions(toy, landmarks):
    folders = toy.run(landmarks, "net", 1.0, diverged=("1.0/0",))
    value = next(v for v in map(trial.read, folders) if v["status"] == "diverged")
    assert value["metrics"] == {"nme": None, "fr@10": 100, "auc@10": 0}
    assert value["predictions"] == {"content_digest": None, "n": 12}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(hostname="me"), "unknown field 'hostname'"),
        (lambda v: v["environment"].update(user="me"), "environment: unknown field 'user'"),
        (lambda v: v["environment"].update(device="/home/me"), "environment.device"),
        (lambda v: v["environment"]["packages"].update(jax="/opt/jax"), "packages.jax"),
        (lambda v: v.update(entry="../net"), "entry: '../net' has the wrong form"),
        (lambda v: v["protocol"].update(id="../../x/y@1"), "protocol.id"),
        (lambda v: v.update(seed=-1), "seed"),
        (lambda v: v.update(kind="floors"), "did you mean 'floor'"),
        (lambda v: v["config"]["semantic"].update(width=9), "config.digest"),
        (lambda v: v["config"]["semantic"].update(width=float("nan")), "not a JSON value"),
        (lambda v: v.update(status="diverged"), "does not go with predictions"),
        (lambda v: v["metrics"].update(nme="1"), "metrics.nme: found '1'"),
        (lambda v: v.update(schema="facebench/trial-2"), "install a newer facebench"),
    ],
)
def test_what_does_not_fit_is_not_written(toy, landmarks, change, message):
    (folder, *_) = toy.run(landmarks, "net", 1.0)
    value = trial.read(folder)
    before = toy.snapshot()
    change(value)
    with pytest.raises(FacebenchError, match=message) as error:
        trial.write(folder, value)
    assert "\n" not in str(error.value)
    assert toy.snapshot() == before


def test_a_damaged_trial_is_named(toy, landmarks):
    (folder, *_) = toy.run(landmarks, "net", 1.0)
    text = (folder / "trial.json").read_text()
    (folder / "trial.json").write_text(text[:-20])
    with pytest.raises(FacebenchError, match=r"trial\.json: not valid JSON"):
        trial.listing(toy.space, landmarks.id, "net")


@pytest.mark.parametrize("entry", ["", "..", "a/b", "Net", "a b", ".hidden", "a" * 65, "net\n"])
def test_an_entry_that_is_no_folder_name_is_refused(toy, entry):
    with pytest.raises(UsageError, match="lower-case"):
        trial.folder(toy.space, "landmarks/toy/fractions@1", entry)


def test_the_environment_tells_kinds_only():
    found = trial.environment("NVIDIA H200\n/dev/x", 2)
    assert found["device"] == "NVIDIA H200--dev-x"
    assert found["devices"] == 2
    assert found["packages"]["numpy"] == np.__version__
    text = json.dumps(found)
    private = [socket.gethostname(), os.path.expanduser("~"), os.getcwd(), *os.environ.values()]
    for secret in (p for p in private if len(p) > 9):
        assert secret not in text


def test_staleness_names_what_changed():
    old = {"optim": {"lr": 1e-3, "name": "sgd"}, "widths": [8, 16], "model": {"drop": 0.1}}
    new = {"optim": {"lr": 2e-3, "name": "sgd"}, "widths": [8, 32], "model": {"ema": True}}
    assert trial.staleness(old, new) == [
        "model.drop 0.1 -> (absent)",
        "model.ema (absent) -> true",
        "optim.lr 0.001 -> 0.002",
        "widths [8,16] -> [8,32]",
    ]
    assert trial.staleness(old, old) == []
    assert trial.staleness({"a": 1}, {"a": 1.0}) == []
    assert trial.staleness({"a": {}}, {}) == ["a {} -> (absent)"]
