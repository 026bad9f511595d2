import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from facebench import files
from facebench.errors import FacebenchError
from facebench.leaderboard import board
from facebench.leaderboard.board import Cell, Row


def row(protocol, entry, values, diverged=0):
    """A row whose primary metric at the largest regime value has the given values."""
    key = protocol.primary["name"], protocol.regimes["values"][-1]
    cell = Cell(tuple(map(float, values)), diverged)
    return Row(entry, "entry", f"leaderboards/records/{entry}.json", {key: cell}, 1, "re-scored")


def ranks(protocol, **entries):
    rows = board._rank(protocol, [row(protocol, name, v) for name, v in entries.items()])
    return [(r.entry, r.rank, r.tied) for r in rows]


def test_entries_that_the_seeds_separate_have_their_own_rank(landmarks, recognition):
    entries = {"b": [5.0, 5.1, 5.2], "a": [9.0, 9.1, 9.2], "c": [1.0, 1.1, 1.2]}
    expected = [("c", 1, False), ("b", 2, False), ("a", 3, False)]
    assert ranks(landmarks, **entries) == expected  # lower is better
    assert ranks(recognition, **entries) == [
        (entry, 4 - rank, tied) for entry, rank, tied in reversed(expected)
    ]


def test_ties_share_the_rank_of_their_leader_and_the_next_rank_is_skipped(landmarks):
    entries = {
        "a": [1.00, 1.10, 1.05],
        "b": [1.02, 1.12, 1.07],
        "c": [3.00, 3.01, 3.02],
        "d": [3.00, 3.02, 3.01],
        "e": [3.90, 3.91, 3.92],
    }
    assert ranks(landmarks, **entries) == [
        ("a", 1, True),
        ("b", 1, True),
        ("c", 3, True),
        ("d", 3, True),
        ("e", 5, False),
    ]


def test_groups_are_those_of_welchs_interval(landmarks):
    rng = np.random.default_rng(11)
    entries = {f"e{i:02}": (rng.uniform(1, 4) + 0.3 * rng.normal(size=4)) for i in range(12)}
    found = ranks(landmarks, **entries)
    order = sorted(entries, key=lambda name: np.mean(entries[name]))
    assert [name for name, _, _ in found] == order
    leader, expected = 0, []
    for i, name in enumerate(order):
        test = scipy.stats.ttest_ind(entries[order[leader]], entries[name], equal_var=False)
        interval = test.confidence_interval(0.95)
        if i and not interval.low <= 0 <= interval.high:
            leader = i
        expected.append(leader + 1)
    assert [rank for _, rank, _ in found] == expected
    assert len(set(expected)) > 2  # the example has groups to tell apart


def test_equal_entries_are_ordered_by_name_and_one_seed_separates_nothing(landmarks):
    assert ranks(landmarks, b=[2.0, 2.0], a=[2.0, 2.0]) == [("a", 1, True), ("b", 1, True)]
    assert ranks(landmarks, b=[1.0], a=[50.0]) == [("b", 1, True), ("a", 1, True)]


def test_a_diverged_trial_without_a_worst_value_is_last(landmarks):
    found = ranks(landmarks, a=[math.inf, 1.0], b=[90.0, 90.1], c=[1.0, math.inf])
    assert found == [("b", 1, False), ("a", 2, True), ("c", 2, True)]


def test_a_rank_does_not_depend_on_the_order_of_the_records(landmarks):
    entries = {"a": [1.0, 1.1], "b": [1.0, 1.3], "c": [7.0, 7.1], "d": [7.0, 7.2]}
    assert ranks(landmarks, **entries) == ranks(landmarks, **dict(reversed(entries.items())))


def test_rows_carry_what_the_records_say(full, landmarks):
    found = board.assemble(full.space, landmarks)
    assert [(r.entry, r.rank, r.tied, r.kind) for r in found.ranked] == [
        ("small-net", 1, True, "entry"),
        ("other-net", 1, True, "entry"),
        ("mean-shape", 3, False, "floor"),
    ]
    assert found.unranked == ()
    for r in found.ranked:
        value = files.read_json(full.root / r.record)
        assert r.trust == "re-scored"
        assert r.parameters == 1234567
        for (name, regime), cell in r.cells.items():
            expected = [
                t["metrics"][name] for t in value["trials"] if t["regime"]["value"] == regime
            ]
            assert list(cell.values) == expected
            assert cell.mean == pytest.approx(np.mean(expected))
            error = scipy.stats.sem(expected)
            half = error and scipy.stats.t.interval(0.95, 1, 0, error)[1]
            assert cell.half_width == pytest.approx(half)


def test_gated_rows_say_so_whether_or_not_the_labels_are_here(full, recognition):
    before = board.assemble(full.space, recognition)
    assert {r.trust for r in before.ranked} == {"labels gated"}
    full.space.targets(recognition.id, False).unlink()
    assert board.assemble(full.space, recognition) == before


def unranked(toy, protocol):
    return [(r.entry, r.trust, r.fault) for r in board.assemble(toy.space, protocol).unranked]


def test_an_incomplete_row_is_shown_and_not_ranked(toy, landmarks):
    toy.record(landmarks, "net", 1.0)
    half = toy.record(landmarks, "half", 0.1)
    toy.rehash(half, lambda v: v["trials"].pop())
    found = board.assemble(toy.space, landmarks)
    assert [r.entry for r in found.ranked] == ["net"]
    assert unranked(toy, landmarks) == [("half", "-", "incomplete: trial 1.0/1 is missing")]


def test_a_row_of_an_older_protocol_file_is_shown_and_not_ranked(toy, landmarks):
    toy.record(landmarks, "net", 1.0)
    place = toy.space.protocols / f"{landmarks.id}.json"
    value = files.read_json(place)
    value["metrics"][0]["name"] = "nme_visible"
    files.write_json(place, value)
    from facebench import protocol

    changed = protocol.load(toy.space, landmarks.id)
    assert unranked(toy, changed) == [
        ("net", "-", "made under another version of the protocol file")
    ]
    (row,) = board.assemble(toy.space, changed).unranked
    assert ("nme_visible", 1.0) not in row.cells
    assert ("fr@10", 1.0) in row.cells


def test_rows_without_evidence_are_not_ranked(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    toy.rehash(path, lambda v: v["trials"][0]["metrics"].update(nme=0.5))
    assert unranked(toy, landmarks)[0][2] == "its predictions do not score what it says"
    (bundle,) = toy.space.predictions.rglob("*.npz")
    bundle.unlink()
    assert unranked(toy, landmarks)[0][2] == "its predictions are missing or damaged"


def test_rows_without_labels_are_not_ranked(toy, landmarks):
    toy.record(landmarks, "net", 1.0)
    toy.space.targets(landmarks.id, True).unlink()
    assert unranked(toy, landmarks) == [("net", "-", "the test labels are missing")]


def test_two_records_of_one_entry_are_a_conflict(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    text = path.read_text()
    toy.rehash(path, lambda v: v.update(note="again"))
    path.write_text(text)
    with pytest.raises(FacebenchError, match="net has another record under the same protocol"):
        board.assemble(toy.space, landmarks)


def test_a_record_has_no_field_for_trust(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    forged = toy.rehash(path, lambda v: v.update(trust="independent"))
    with pytest.raises(FacebenchError, match="unknown field 'trust'"):
        board.assemble(toy.space, landmarks)
    assert forged.is_file()
    assert "trust" not in {f.name for f in dataclasses.fields(type(landmarks))}
