"""Records of one entry are united trial by trial; contradictions name both files."""

import re

import pytest

from facebench import digest, files, leaderboard
from facebench.errors import FacebenchError
from facebench.leaderboard import board


def two(toy, path, first, second, change=None):
    """Splits a record in two, of the trials `first` and `second`."""
    text, value = path.read_text(), files.read_json(path)
    from facebench.leaderboard import record

    bundle = record.bundle_place(toy.space, value)
    data = bundle.read_bytes()
    a = toy.part(path, first)
    path.write_text(text)
    bundle.write_bytes(data)
    b = toy.part(path, second)
    if change:
        b = toy.rehash(b, change)
    return sorted((a, b))


def test_two_parts_make_the_same_row_as_one_record(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    toy.record(landmarks, "other", 3.0)
    whole = board.assemble(toy.space, landmarks)
    places = two(toy, path, [3, 0], [1, 2])
    united = board.assemble(toy.space, landmarks)
    a, b = whole.ranked[0], united.ranked[0]
    assert b.records == tuple(p.relative_to(toy.root).as_posix() for p in places)
    for name in ("entry", "cells", "rank", "group", "sampling", "area", "trust", "parameters"):
        assert getattr(a, name) == getattr(b, name), name
    assert [t.id for t in a.trials] == [t.id for t in b.trials]
    assert whole.ranked[1].first == united.ranked[1].first
    text = leaderboard.build(toy.space)[f"leaderboards/boards/{landmarks.id}.md"].decode()
    assert all(p.stem in text for p in places)


def test_a_trial_in_both_with_the_same_claims_counts_once(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    whole = board.assemble(toy.space, landmarks).ranked[0]
    two(toy, path, [0, 1, 2], [1, 2, 3], lambda v: v["trials"][0]["time"].update(train_s=99))
    (row,) = board.assemble(toy.space, landmarks).ranked
    assert row.cells == whole.cells
    assert row.sampling == whole.sampling


def test_a_part_alone_is_incomplete(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    toy.part(path, [1])
    (row,) = board.assemble(toy.space, landmarks).incomplete
    assert row.missing == ("0.1/0", "1.0/0", "1.0/1")
    assert row.parameters == 1234567


def claims(value):
    value["trials"][0]["metrics"]["nme"] += 1


def diverged(value):
    value["trials"][0]["status"] = "diverged"


def config(value):
    value["trials"][0]["trial_id"] = digest.of_bytes(b"other")


def kind(value):
    value["kind"] = "baseline"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (claims, "trial 0.1/1 with different claims"),
        (diverged, "trial 0.1/1 with different claims"),
        (config, "trial 0.1/1 of two configs"),
        (kind, "kind 'entry' and 'baseline'"),
    ],
)
def test_a_contradiction_names_both_files(toy, landmarks, change, what):
    path = toy.record(landmarks, "net", 1.0)
    a, b = two(toy, path, [0, 1], [1, 2, 3], change)
    with pytest.raises(FacebenchError) as error:
        board.assemble(toy.space, landmarks)
    message = str(error.value)
    assert a.relative_to(toy.root).as_posix() in message
    assert b.relative_to(toy.root).as_posix() in message
    assert what in message or (what.startswith("kind") and re.search("kind '.*' and '.*'", message))


def test_records_of_another_protocol_file_stay_apart(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    text = path.read_text()
    toy.rehash(path, lambda v: v["protocol"].update(digest=digest.of_bytes(b"older")))
    path.write_text(text)
    found = board.assemble(toy.space, landmarks)
    assert [r.entry for r in found.ranked] == ["net"]
    assert [r.fault for r in found.unranked] == ["made under another version of the protocol file"]
