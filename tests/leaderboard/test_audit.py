"""Each planted fault turns the check red and is named; without it the check is clean."""

import json
import re
import shutil

import pytest

from facebench import digest, files, leaderboard
from facebench.leaderboard import record

PROTOCOL = "landmarks/toy/fractions@1"


def only_record(full, entry):
    (path,) = full.space.records.glob(f"*/*/*/{entry}/*.json")
    return path


def problems(full):
    before = full.snapshot()
    report = leaderboard.check(full.space)
    assert full.snapshot() == before  # checking writes nothing
    assert all("\n" not in line for line in [*report.problems, *report.notices])
    return report.problems


def test_what_is_in_order_is_found_in_order(full):
    report = leaderboard.check(full.space)
    assert report.problems == []
    assert report.notices == []
    assert report.checked == 5


def test_nothing_at_all_is_not_in_order_until_it_is_built(toy):
    lines = problems(toy)
    assert len(lines) == 3
    assert "README.md: missing; run: facebench leaderboard build" in lines[0]
    leaderboard.write(toy.space)
    assert problems(toy) == []


def test_labels_that_are_not_here_are_a_notice_and_not_a_pass(full, recognition):
    full.space.targets(recognition.id, False).unlink()
    report = leaderboard.check(full.space)
    assert report.problems == []
    assert report.checked == 3
    assert sum("not scored again" in line for line in report.notices) == 2
    assert sum("facebench data prepare toy" in line for line in report.notices) == 1


def test_public_labels_must_be_here(full):
    full.space.targets(PROTOCOL, True).unlink()
    assert any("test labels of landmarks/toy/fractions@1 are not here" in p for p in problems(full))


def test_a_draft_is_a_notice(toy, landmarks):
    value = files.read_json(toy.space.protocols / f"{PROTOCOL}.json")
    draft = value | {"id": "landmarks/toy/fractions@2", "targets": None}
    files.write_json(toy.space.protocols / "landmarks/toy/fractions@2.json", draft)
    leaderboard.write(toy.space)
    report = leaderboard.check(toy.space)
    assert report.problems == []
    assert report.notices == ["protocol landmarks/toy/fractions@2 is a draft: it has no board yet"]


def edited_metric(full):
    path = only_record(full, "small-net")
    value = json.loads(path.read_text())
    value["trials"][0]["metrics"]["nme"] += 1e-6
    files.write_json(path, value)
    return "small-net/.*the record was changed"


def edited_metric_hashed_again(full):
    full.rehash(
        only_record(full, "small-net"),
        lambda v: v["trials"][0]["metrics"].update(nme=v["trials"][0]["metrics"]["nme"] + 1e-6),
    )
    return r"small-net/.*trial 0\.1/0: nme: recorded"


def swapped_samples(full):
    path = record.bundle_place(full.space, json.loads(only_record(full, "net").read_text()))
    arrays = files.read_npz(path)
    arrays["score"][0, [0, 9]] = arrays["score"][0, [9, 0]]
    files.write_npz(path, arrays)
    return "not the predictions of net"


def swapped_samples_hashed_again(full):
    def swap(arrays):
        arrays["points"][0, [3, 4]] = arrays["points"][0, [4, 3]]

    full.rebundle(only_record(full, "small-net"), swap)
    return r"small-net/.*trial 0\.1/0: nme: recorded"


def seed_missing(full):
    full.rehash(only_record(full, "small-net"), lambda v: v["trials"].pop(1))
    return r"trial 0\.1/1 is missing|expected one row for each of the 3 trials"


def seed_repeated(full):
    def repeat(value):
        value["trials"][1] = value["trials"][0]

    full.rehash(only_record(full, "small-net"), repeat)
    return r"trial 0\.1/0 stands 2 times"


def two_submissions_of_the_same_trials(full):
    path = only_record(full, "small-net")
    text = path.read_text()
    full.rehash(path, lambda v: v["trials"][0]["metrics"].update(nme=9))
    path.write_text(text)
    return r"two records of small-net hold trial 0\.1/0 with different claims"


def touched_protocol(full):
    path = full.space.protocols / f"{PROTOCOL}.json"
    files.write_json(path, files.read_json(path) | {"convention": "68-inter-pupil"})
    return "a protocol with records must not change"


def damaged_protocol(full):
    path = full.space.protocols / f"{PROTOCOL}.json"
    path.write_text(path.read_text()[:-9])
    return r"fractions@1\.json: not valid JSON"


def removed_protocol(full):
    (full.space.protocols / f"{PROTOCOL}.json").unlink()
    return "no protocol 'landmarks/toy/fractions@1'"


def subset_drawn_again(full):
    def draw(value):
        value["trials"][2]["subset_digest"] = digest.of_bytes(b"other")

    full.rehash(only_record(full, "small-net"), draw)
    return "is not the protocol's subset"


def edited_labels(full):
    path = full.space.targets(PROTOCOL, True)
    targets = files.read_npz(path)
    targets["points"][:1] += 0.5
    files.write_npz(path, targets)
    return "other labels than landmarks/toy/fractions@1"


def later_schema(full):
    path = only_record(full, "small-net")
    path.write_text(path.read_text().replace("facebench/record-1", "facebench/record-2"))
    return "install a newer facebench"


def renamed_record(full):
    path = only_record(full, "small-net")
    path.rename(path.with_name("000000000000.json"))
    return "by its content it belongs at"


def orphan_bundle(full):
    path = only_record(full, "small-net")
    shutil.rmtree(path.parent)
    return r"\.npz: belongs to no record"


def stray_file(full):
    (full.space.records / "notes.txt").write_text("x")
    return r"notes\.txt: is not at PROTOCOL/ENTRY/DIGEST\.json"


def stray_labels(full):
    files.write_npz(full.space.targets("landmarks/toy/full@9", True), {})
    return r"full@9\.npz: belongs to no protocol"


def edited_board(full):
    path = full.space.leaderboards / f"boards/{PROTOCOL}.md"
    lines = path.read_text().splitlines(keepends=True)
    row = next(i for i, line in enumerate(lines) if "small-net" in line)
    lines[row] = lines[row].replace("5", "4", 1)
    path.write_text("".join(lines))
    return rf"fractions@1\.md:{row + 1}: not what the records say"


def truncated_index(full):
    path = full.space.leaderboards / "README.md"
    path.write_bytes(path.read_bytes()[:-1])
    return r"README\.md:\d+: not what the records say"


def edited_interval(full):
    path = full.space.leaderboards / f"derived/{PROTOCOL}.json"
    value = json.loads(path.read_text())
    value["entries"]["small-net"]["sampling"][0] -= 0.01
    path.write_text(json.dumps(value))
    leaderboard.write(full.space)  # the build believes it, the check does not
    return r"derived/.*entries\[small-net\]\[sampling\]\[0\].*computed again"


def edited_verdict(full):
    path = only_record(full, "small-net")
    new = full.rehash(path, lambda v: v["trials"][0]["metrics"].update(nme=0.1))
    leaderboard.write(full.space)
    path = full.space.leaderboards / f"derived/{PROTOCOL}.json"
    value = json.loads(path.read_text())
    line = value["records"][new.relative_to(full.root).as_posix()]
    line.update(trust="re-scored", fault=None)
    path.write_text(json.dumps(value))
    leaderboard.write(full.space)
    return r"derived/.*\[fault\]: None, computed again: 'its predictions do not score"


def retraction_of_nothing(full):
    name = "0" * 12
    value = {
        "schema": "facebench/retraction-1",
        "record": f"sha256:{'0' * 64}",
        "reason": "bug",
        "note": "",
        "by": "",
    }
    files.write_json(full.space.leaderboards / f"retractions/{name}.json", value)
    return "retracts a record that is not here"


def board_of_nothing(full):
    (full.space.leaderboards / "boards/old.md").write_text("x")
    return r"boards/old\.md: belongs to no protocol"


FAULTS = [
    edited_metric,
    edited_metric_hashed_again,
    swapped_samples,
    swapped_samples_hashed_again,
    seed_missing,
    seed_repeated,
    two_submissions_of_the_same_trials,
    touched_protocol,
    damaged_protocol,
    removed_protocol,
    subset_drawn_again,
    edited_labels,
    later_schema,
    renamed_record,
    orphan_bundle,
    stray_file,
    stray_labels,
    edited_board,
    truncated_index,
    edited_interval,
    edited_verdict,
    retraction_of_nothing,
    board_of_nothing,
]


@pytest.mark.parametrize("plant", FAULTS)
def test_a_planted_fault_is_named(full, plant):

    pattern = plant(full)
    found = problems(full)
    assert any(re.search(pattern, line) for line in found), (pattern, found)


def test_one_fault_does_not_hide_another(full):
    edited_metric(full)
    swapped_samples(full)
    stray_file(full)
    found = "\n".join(problems(full))
    for pattern in ("the record was changed", "not the predictions of net", "notes.txt"):
        assert pattern in found
