import json
import os
import socket
import zipfile

import numpy as np
import pytest

from facebench import digest, files, leaderboard, protocol
from facebench.errors import FacebenchError, UsageError
from facebench.leaderboard import judge, record, store, trial


def test_a_record_holds_the_trials_in_order_and_scores_again(toy, landmarks):
    folders = toy.run(landmarks, "net", 1.0)
    path, new = leaderboard.submit(toy.space, landmarks.id, "net", note="a remark")
    assert new
    value = record.read(toy.space, path)
    assert value["record_id"] == digest.of_json(
        {k: v for k, v in value.items() if k != "record_id"}
    )
    assert (
        path
        == toy.space.records / landmarks.id / "net" / f"{digest.short(value['record_id'])}.json"
    )
    assert value["note"] == "a remark"
    asked = [(t["regime"]["value"], t["seed"]) for t in value["trials"]]
    assert asked == landmarks.trials()
    bundle = record.read_bundle(toy.space, value)
    for i, folder in enumerate(folders):
        made, row = trial.read(folder), value["trials"][i]
        assert row["trial_id"] == made["trial_id"]
        assert row["metrics"] == made["metrics"]
        assert row["time"] == made["time"]
        assert row["weights"] == made["model"]["weights"]
        stored = files.read_npz(folder / "predictions.npz")
        assert np.array_equal(bundle["points"][i], stored["points"])
    assert bundle["points"].dtype == np.int16
    assert leaderboard.rescore(toy.space, path) == []
    assert leaderboard.record_paths(toy.space) == [path]
    assert [len(e["packages"]) > 0 for e in value["environments"]] == [True]


def test_submitting_again_changes_nothing(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    before = toy.snapshot()
    assert leaderboard.submit(toy.space, landmarks.id, "net") == (path, False)
    assert toy.snapshot() == before
    # The same predictions, only slower: still the same claim.
    for folder, value in trial.listing(toy.space, landmarks.id, "net"):
        value["time"]["train_s"] += 1
        trial.write(folder, value)
    assert leaderboard.submit(toy.space, landmarks.id, "net") == (path, False)


def test_a_record_is_never_replaced(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    for folder, _ in trial.listing(toy.space, landmarks.id, "net"):
        for file in folder.iterdir():
            file.unlink()
    toy.run(landmarks, "net", 0.5)
    before = toy.snapshot()
    with pytest.raises(FacebenchError, match=r"already has a record.*give the new entry another"):
        leaderboard.submit(toy.space, landmarks.id, "net")
    assert toy.snapshot() == before
    assert path.is_file()


def test_a_submission_that_stopped_after_the_bundle_is_finished_by_the_next(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    before = toy.snapshot()
    path.unlink()
    assert leaderboard.submit(toy.space, landmarks.id, "net") == (path, True)
    assert toy.snapshot() == before


def test_the_bundle_is_there_before_the_record(toy, landmarks, monkeypatch):
    toy.run(landmarks, "net", 1.0)

    def full_disk(path, value):
        raise FacebenchError("the disk is full")

    monkeypatch.setattr(files, "write_json", full_disk)
    with pytest.raises(FacebenchError, match="disk is full"):
        leaderboard.submit(toy.space, landmarks.id, "net")
    assert leaderboard.record_paths(toy.space) == []
    assert len(list(toy.space.predictions.rglob("*.npz"))) == 1


@pytest.mark.parametrize("skip", [("0.1/1",), ("0.1/0", "1.0/1")])
def test_missing_trials_are_named(toy, landmarks, skip):
    toy.run(landmarks, "net", 1.0, skip=skip)
    with pytest.raises(FacebenchError, match=f"{len(skip)} of the 4 .*: {', '.join(skip)};"):
        leaderboard.submit(toy.space, landmarks.id, "net")


def test_no_trials_at_all_get_the_nearest_entry(toy, landmarks):
    toy.run(landmarks, "small-net", 1.0)
    with pytest.raises(
        FacebenchError, match=r"no finished trials under .*did you mean 'small-net'"
    ):
        leaderboard.submit(toy.space, landmarks.id, "smal-net")


def test_trials_of_two_configs_are_told_apart(toy, landmarks):
    toy.run(landmarks, "net", 1.0)
    folders = toy.run(landmarks, "net", 0.5, config={"optim": {"lr": 0.002}}, skip=("0.1/0",))
    with pytest.raises(UsageError, match="found 2") as error:
        leaderboard.submit(toy.space, landmarks.id, "net")
    assert "4 trials" in str(error.value)
    assert "3 trials" in str(error.value)
    assert "optim.lr 0.001 -> 0.002" in str(error.value) or (
        "optim.lr 0.002 -> 0.001" in str(error.value)
    )
    second = trial.read(folders[0])["config"]["digest"]
    with pytest.raises(FacebenchError, match="1 of the 4 trials"):
        leaderboard.submit(toy.space, landmarks.id, "net", config=digest.short(second, 6))
    with pytest.raises(UsageError, match="found 0 that begin with 'xyz'"):
        leaderboard.submit(toy.space, landmarks.id, "net", config="xyz")
    first = digest.of_json({"model": {"width": 8}, "optim": {"lr": 0.001}})
    path, _ = leaderboard.submit(toy.space, landmarks.id, "net", config=first)
    assert record.read(toy.space, path)["config"]["digest"] == first


def test_trials_of_another_version_of_the_protocol_do_not_count(toy, landmarks):
    toy.run(landmarks, "net", 1.0)
    path = toy.space.protocols / f"{landmarks.id}.json"
    files.write_json(path, files.read_json(path) | {"note": "touched"})
    with pytest.raises(FacebenchError, match="4 trials were made under another version"):
        leaderboard.submit(toy.space, landmarks.id, "net")


def test_a_copied_or_misplaced_trial_is_refused(toy, landmarks):
    folders = toy.run(landmarks, "net", 1.0)
    copied = folders[0].with_name("0.1-s0-copy")
    copied.mkdir()
    for file in folders[0].iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FacebenchError, match="the same trial as"):
        leaderboard.submit(toy.space, landmarks.id, "net")
    value = trial.read(copied)
    trial.write(copied, value | {"seed": 7})
    with pytest.raises(FacebenchError, match=r"does not ask for 0\.1/7"):
        leaderboard.submit(toy.space, landmarks.id, "net")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["metrics"].update(nme=v["metrics"]["nme"] + 1e-6), "nme: recorded"),
        (lambda v: v.update(trial_id=digest.of_bytes(b"")), "trial_id .* does not follow"),
        (lambda v: v.update(subset_digest=digest.of_bytes(b"")), "not the protocol's subset"),
        (lambda v: v.update(kind="floor"), "different kinds: entry, floor"),
        (lambda v: v["metrics"].pop("nme"), "metrics are"),
        (lambda v: v["metrics"].update(nme=None), "nme is None, outside"),
        (lambda v: v["regime"].update(kind="full"), "regime.kind"),
    ],
)
def test_a_trial_that_says_something_else_is_not_folded(toy, landmarks, change, message):
    (folder, *_) = toy.run(landmarks, "net", 1.0)
    value = trial.read(folder)
    change(value)
    trial.write(folder, value)
    with pytest.raises(FacebenchError, match=message):
        leaderboard.submit(toy.space, landmarks.id, "net")
    assert leaderboard.record_paths(toy.space) == []
    assert not toy.space.predictions.exists()


def test_diverged_trials_count(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0, diverged=("0.1/1",))
    value = record.read(toy.space, path)
    assert [t["status"] for t in value["trials"]] == ["ok", "diverged", "ok", "ok"]
    assert value["trials"][1]["metrics"] == {"nme": None, "fr@10": 100, "auc@10": 0}
    assert not record.read_bundle(toy.space, value)["points"][1].any()
    assert leaderboard.rescore(toy.space, path) == []
    # Neither its score nor its predictions can be made up later.
    forged = toy.rehash(path, lambda v: v["trials"][1]["metrics"].update({"fr@10": 10}))
    assert leaderboard.rescore(toy.space, forged) == [
        "trial 0.1/1: fr@10: recorded 10, its predictions score 100"
    ]

    def set_row(arrays):
        arrays["points"][1] = 5

    forged = toy.rebundle(forged, set_row)
    assert "trial 0.1/1: diverged, but its predictions are not zeros" in leaderboard.rescore(
        toy.space, forged
    )


def test_an_entry_that_always_diverged_is_a_record(toy, landmarks):
    keys = [protocol.subset_key(*t) for t in landmarks.trials()]
    path = toy.record(landmarks, "net", 1.0, diverged=keys)
    assert leaderboard.rescore(toy.space, path) == []


def test_nothing_private_reaches_a_record(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    text = path.read_text()
    assert "/home/me/logs" not in text
    assert str(toy.root) not in text
    private = [socket.gethostname(), os.path.expanduser("~"), os.getcwd(), *os.environ.values()]
    for secret in (p for p in private if len(p) > 9):
        assert secret not in text


@pytest.mark.parametrize(
    "where", ["/data/w.npz", "~/w.npz", "C:\\w.npz", "file:///w", "\\\\server\\w", "D:/w"]
)
def test_a_path_of_this_machine_in_the_config_is_refused(toy, landmarks, where):
    toy.run(landmarks, "net", 1.0, config={"init": {"from": [where]}})
    with pytest.raises(FacebenchError, match=r"config\.semantic\.init\.from\[0\] is a path"):
        leaderboard.submit(toy.space, landmarks.id, "net")
    assert leaderboard.record_paths(toy.space) == []


def test_relative_paths_and_other_strings_are_fine(toy, landmarks):
    toy.record(landmarks, "net", 1.0, config={"init": "weights/w.npz", "op": "a/b", "x": "/"})


# -- what a damaged or hostile file does: one clear line, and nothing else is touched --------------


def one_line(toy, path, message):
    before = toy.snapshot()
    with pytest.raises(FacebenchError, match=message) as error:
        leaderboard.rescore(toy.space, path)
    assert "\n" not in str(error.value)
    assert toy.snapshot() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[: len(t) // 2], "not valid JSON"),
        (lambda t: "", "not valid JSON"),
        (lambda t: t.replace('"seed": 0', '"seed": NaN', 1), "NaN is not a JSON number"),
        (lambda t: t.replace('"seed": 0', '"seed": 1e999', 1), "larger than a float64"),
        (lambda t: t.replace('"seed": 0', '"seed": 9007199254740993', 1), "2\\^53"),
        (lambda t: t.replace('"seed": 0', '"seed": 0, "seed": 0', 1), "'seed' stands twice"),
        (lambda t: t.replace("record-1", "record-2"), "install a newer facebench"),
        (lambda t: t.replace("record-1", "trial-1"), "not a record file"),
        (lambda t: t.replace('"entry": "net"', '"entry": "../net"'), "entry: '../net'"),
        (lambda t: t.replace('"note": ""', '"note": "", "host": "a"'), "unknown field 'host'"),
        (lambda t: t.replace('"note": ""', '"note": "changed"'), "the record was changed"),
        (lambda t: "[" * 100_000, "not valid JSON"),
        (lambda t: t.encode("utf-16").decode("latin-1"), "not valid JSON"),
    ],
)
def test_a_damaged_record(toy, landmarks, change, message):
    path = toy.record(landmarks, "net", 1.0)
    path.write_text(change(path.read_text()))
    one_line(toy, path, message)


def test_a_record_at_another_place(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    other = path.parent.with_name("best-net") / path.name
    other.parent.mkdir()
    path.rename(other)
    one_line(toy, other, "by its content it belongs at")
    one_line(toy, path, "no such file")


def test_a_record_that_points_out_of_the_workspace(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    value = json.loads(path.read_text())
    value["protocol"]["id"] = "../../../etc/x@1"
    value["record_id"] = digest.of_json({k: v for k, v in value.items() if k != "record_id"})
    files.write_json(path, value)
    one_line(toy, path, "protocol.id: .* wrong form")
    value["protocol"]["id"] = landmarks.id
    value["predictions"]["content_digest"] = "sha256:../../../../../../tmp/x"
    files.write_json(path, value)
    one_line(toy, path, "content_digest: .* wrong form")


def bundle_of(toy, path):
    return record.bundle_place(toy.space, json.loads(path.read_text()))


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_truncated_bundle(toy, landmarks, keep):
    path = toy.record(landmarks, "net", 1.0)
    place = bundle_of(toy, path)
    data = place.read_bytes()
    place.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    one_line(toy, path, r"\.npz: (not a readable|damaged)")


def test_a_missing_bundle(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    bundle_of(toy, path).unlink()
    one_line(toy, path, r"\.npz: reading failed: no such file")


def test_a_bundle_with_a_pickle_inside(toy, landmarks, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    path = toy.record(landmarks, "net", 1.0)
    with open(bundle_of(toy, path), "wb") as file:
        np.savez(file, points=np.array([Evil()], dtype=object))
    one_line(toy, path, "Object arrays cannot be loaded|allow_pickle")
    assert not (tmp_path / "ran").exists()


def test_a_zip_bomb(toy, landmarks, monkeypatch):
    path = toy.record(landmarks, "net", 1.0)
    monkeypatch.setattr(store, "UNPACKED_LIMIT", 1 << 20)
    with zipfile.ZipFile(bundle_of(toy, path), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", bytes(64 << 20))
    assert bundle_of(toy, path).stat().st_size < 100_000
    one_line(toy, path, "unpacks to more than 1048576 bytes")


def test_a_bundle_whose_member_leaves_its_folder(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    with zipfile.ZipFile(bundle_of(toy, path), "w") as archive:
        archive.writestr("../../points.npy", b"x")
    one_line(toy, path, "not a plain array name")


def test_a_bundle_of_another_record(toy, landmarks):
    first, second = toy.record(landmarks, "net", 1.0), toy.record(landmarks, "nets", 2.0)
    bundle_of(toy, first).write_bytes(bundle_of(toy, second).read_bytes())
    one_line(toy, first, "not the predictions of net")


# -- planted faults that only the numbers show ----------------------------------------------------


def test_an_edited_metric_breaks_the_id_and_after_that_the_score(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    value = json.loads(path.read_text())
    value["trials"][2]["metrics"]["nme"] -= 1e-6
    files.write_json(path, value)
    one_line(toy, path, "the record was changed")
    forged = toy.rehash(path, lambda v: None)
    (line,) = leaderboard.rescore(toy.space, forged)
    assert line.startswith("trial 1.0/0: nme: recorded")


def test_swapped_samples_break_the_digest_and_after_that_the_score(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    place = bundle_of(toy, path)
    arrays = files.read_npz(place)
    arrays["points"][0, [3, 4]] = arrays["points"][0, [4, 3]]
    files.write_npz(place, arrays)
    one_line(toy, path, "not the predictions of net")
    forged = toy.rebundle(path, lambda arrays: None)
    assert any(
        line.startswith("trial 0.1/0: nme") for line in leaderboard.rescore(toy.space, forged)
    )


def test_a_seed_twice_and_a_seed_missing(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)

    def repeat(value):
        value["trials"][1] = value["trials"][0]

    lines = leaderboard.rescore(toy.space, toy.rehash(path, repeat))
    assert "trial 0.1/0 stands 2 times" in lines
    assert any(line.startswith("trial 0.1/0: nme: recorded") for line in lines)


def test_a_touched_protocol_is_seen_by_every_record(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    place = toy.space.protocols / f"{landmarks.id}.json"
    files.write_json(place, files.read_json(place) | {"title": "Easier"})
    one_line(toy, path, "a protocol with records must not change")


def test_labels_that_are_not_here(toy, recognition):
    path = toy.record(recognition, "net", 0.05)
    toy.space.targets(recognition.id, False).unlink()
    with pytest.raises(judge.MissingTargetsError, match="facebench data prepare toy"):
        leaderboard.rescore(toy.space, path)
