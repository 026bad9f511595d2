"""What was run again raises the trust of a record, and what contradicts it is named."""

import json

import numpy as np
import pytest

from facebench import digest, files, leaderboard, protocol
from facebench.errors import FacebenchError
from facebench.leaderboard import attestation, board, judge, record, store, trial

FLOOR = {"exact": 1e-9, "statistical": {"agreement": 0.9, "runs": 10}}


@pytest.fixture
def of(toy):
    """A protocol of three seeds that states a floor of agreement."""
    return toy.freeze(
        toy.landmark_draft() | {"tolerance": FLOOR, "seeds": [0, 1, 2]}, toy.landmark_targets()
    )


def again(toy, of, path, key, off=0.0, device="cpu", diverged=False):
    """A trial made again: its predictions are moved by up to `off` px."""
    folder, value = next(
        (d, t)
        for d, t in trial.listing(toy.space, of.id, record.read(toy.space, path)["entry"])
        if protocol.subset_key(t["regime"]["value"], t["seed"]) == key
    )
    if diverged:
        return value | {"status": "diverged", "metrics": judge.worst(of)}, None
    arrays = protocol.dequantise(of, trial.predictions(folder, value))
    rng = np.random.default_rng(3)
    moved = {k: a + off * rng.uniform(-1, 1, a.shape) for k, a in arrays.items()}
    fresh = protocol.quantise(of, moved)
    metrics = judge.score(of, fresh, judge.load_targets(toy.space, of))
    return value | {"metrics": metrics, "environment": trial.environment(device, 1)}, fresh


def attest(toy, of, path, key, **more):
    return attestation.attest(toy.space, of, path, key, *again(toy, of, path, key, **more))


def trust(toy, of):
    return [row.trust for row in board.assemble(toy.space, of).ranked]


def problems(toy):
    leaderboard.write(toy.space)
    return leaderboard.check(toy.space).problems


def test_two_trials_run_again_make_a_record_re_run(toy, of):
    path = toy.record(of, "net", 1.0)
    assert trust(toy, of) == ["re-scored"]
    first = attest(toy, of, path, "0.1/0")
    assert json.loads(first.read_text())["rule"] == "bitwise"
    assert trust(toy, of) == ["re-scored"]
    assert attest(toy, of, path, "0.1/0") == first  # the same once more is nothing more
    assert trust(toy, of) == ["re-scored"]
    attest(toy, of, path, "1.0/2")
    assert trust(toy, of) == ["re-run"]
    assert problems(toy) == []
    page = (toy.space.leaderboards / f"boards/{of.id}.md").read_text()
    assert "| re-run " in page
    # Nothing of it is kept in the derived results: without the file the trust is gone.
    first.unlink()
    assert trust(toy, of) == ["re-scored"]


def test_another_kind_of_machine_is_independent(toy, of):
    path = toy.record(of, "net", 1.0)
    attest(toy, of, path, "0.1/0", device="NVIDIA H200")
    attest(toy, of, path, "1.0/0")
    assert trust(toy, of) == ["re-run"]
    attest(toy, of, path, "1.0/0", device="NVIDIA H200", off=0.05)
    assert trust(toy, of) == ["independent"]
    assert problems(toy) == []


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"platform": "other"}, "independent"),
        ({"python": "3.13.1", "devices": 8, "facebench": "9.0", "packages": {}}, "re-run"),
    ],
)
def test_another_version_is_no_other_machine(toy, of, other, expected):
    path = toy.record(of, "net", 1.0)
    for key in ("0.1/0", "1.0/0"):
        value, fresh = again(toy, of, path, key)
        value = value | {"environment": value["environment"] | other}
        attestation.attest(toy.space, of, path, key, value, fresh)
    assert trust(toy, of) == [expected]


def test_an_entry_is_worth_its_least_record(toy, of):
    toy.run(of, "net", 1.0, skip=("0.1/0", "1.0/0"))
    first, _ = leaderboard.submit(toy.space, of.id, "net", partial=True)
    toy.run(of, "net", 1.0)
    leaderboard.submit(toy.space, of.id, "net")
    for key in ("0.1/1", "0.1/2"):
        attest(toy, of, first, key)
    assert trust(toy, of) == ["re-scored"]


def test_gated_labels_stay_said(toy):
    of = toy.freeze(toy.recognition_draft(), toy.recognition_targets())
    path = toy.record(of, "net", 0.05)
    for key in ("1.0/0", "1.0/1"):
        attest(toy, of, path, key)
    assert trust(toy, of) == ["labels gated, re-run"]


def test_the_statistical_rule_keeps_the_predictions_it_rests_on(toy, of):
    path = toy.record(of, "net", 1.0)
    where = attest(toy, of, path, "1.0/0", off=0.05)
    value = json.loads(where.read_text())
    assert value["rule"] == "statistical"
    assert 0.9 <= value["agreement"] <= 1
    kept = store.read(toy.space, value["predictions"], "it")
    found = judge.score(of, kept, judge.load_targets(toy.space, of))
    assert found == pytest.approx(value["metrics"], abs=1e-9)
    attest(toy, of, path, "0.1/0")
    assert trust(toy, of) == ["re-run"]
    assert problems(toy) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"off": 8.0}, "agreement .* but the protocol's floor is 0.9"),
        ({"diverged": True}, "the recorded trial is ok, and it came out otherwise"),
    ],
)
def test_what_came_out_otherwise_is_not_attested(toy, of, more, message):
    path = toy.record(of, "net", 1.0)
    before = toy.snapshot()
    with pytest.raises(FacebenchError, match=f"trial 1.0/0 is not attested: {message}"):
        attest(toy, of, path, "1.0/0", **more)
    assert toy.snapshot() == before


def test_without_a_floor_only_equal_bytes_count(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    with pytest.raises(FacebenchError, match="states no floor of agreement"):
        attest(toy, landmarks, path, "1.0/0", off=0.01)
    attest(toy, landmarks, path, "1.0/0")


def test_a_diverged_trial_that_diverges_again(toy, of):
    path = toy.record(of, "net", 1.0, diverged=("0.1/0",))
    attest(toy, of, path, "0.1/0", diverged=True)
    attest(toy, of, path, "0.1/1")
    assert [r.trust for r in board.assemble(toy.space, of).ranked] == ["re-run"]
    assert problems(toy) == []


def forge(toy, where, change):
    value = json.loads(where.read_text())
    where.unlink()
    change(value)
    new = attestation.place(toy.space, value)
    files.write_json(new, value)
    return new


@pytest.mark.parametrize(
    ("off", "change", "message"),
    [
        (0, lambda v: v["metrics"].update(nme=v["metrics"]["nme"] + 1e-6), "nme: recorded"),
        (0, lambda v: v.update(predictions="sha256:" + "0" * 64), "byte for byte"),
        (
            0,
            lambda v: v.update(recorded="sha256:" + "0" * 64, predictions="sha256:" + "0" * 64),
            "digest of the recorded predictions",
        ),
        (0, lambda v: v.update(trial_id="sha256:" + "0" * 64), "another question"),
        (0, lambda v: v.update(trial="0.3/0"), "no trial 0.3/0"),
        (0, lambda v: v["metrics"].pop("nme"), "its metrics are"),
        (0, lambda v: v.update(agreement=0.5), "equal predictions that agree in 0.5"),
        (0.05, lambda v: v.update(agreement=0.999), "agreement 0.999, computed again"),
        (0.05, lambda v: v.update(agreement=0.2), "floor is 0.9"),
        (0.05, lambda v: v["metrics"].update(nme=v["metrics"]["nme"] + 1e-6), "nme: recorded"),
        (0.05, lambda v: v["metrics"].update(nme=99), "nme 99 lies outside"),
    ],
)
def test_an_attestation_in_conflict_is_named_and_counts_for_nothing(toy, of, off, change, message):
    path = toy.record(of, "net", 1.0)
    where = forge(toy, attest(toy, of, path, "1.0/0", off=off), change)
    assert any(f"{where}: contradicts its record: " in p and message in p for p in problems(toy))
    attest(toy, of, path, "0.1/0")
    counted = {"computed again", "nme: recorded", "digest of the recorded"}
    if not any(message.endswith(c) or c in message for c in counted):
        assert trust(toy, of) == ["re-scored"]


def test_a_changed_or_misplaced_attestation_is_refused(toy, of):
    path = toy.record(of, "net", 1.0)
    where = attest(toy, of, path, "1.0/0")
    value = json.loads(where.read_text())
    files.write_json(where, value | {"agreement": 0.9})
    with pytest.raises(FacebenchError, match="by its content it belongs at"):
        board.assemble(toy.space, of)
    assert any(
        "by its content it belongs at" in line for line in leaderboard.check(toy.space).problems
    )


def test_an_attestation_of_no_record(toy, of):
    path = toy.record(of, "net", 1.0)
    where = attest(toy, of, path, "1.0/0")
    forge(toy, where, lambda v: v.update(record=digest.of_bytes(b"")))
    assert any("it attests a record that is not here" in line for line in problems(toy))
    assert trust(toy, of) == ["re-scored"]
