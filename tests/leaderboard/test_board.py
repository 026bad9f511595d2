import dataclasses

import numpy as np
import pytest
import scipy.stats

from facebench import files
from facebench.errors import FacebenchError
from facebench.leaderboard import board

from .conftest import landmark_draft, landmark_targets, recognition_draft, recognition_targets


def assembled(toy, of):
    return {row.entry: row for row in board.assemble(toy.space, of).ranked}


def test_ranks_and_groups_come_from_the_comparisons(toy, landmarks):
    for draw, (name, noise) in enumerate((("good", 0.5), ("same", 0.5001), ("bad", 30.0))):
        toy.record(landmarks, name, noise, draw=draw)
    found = board.assemble(toy.space, landmarks)
    assert [r.entry for r in found.ranked][2] == "bad"
    by_name = assembled(toy, landmarks)
    assert by_name["bad"].rank == (3, 3)
    assert by_name["bad"].group == "b"
    assert {by_name[n].rank for n in ("good", "same")} == {(1, 2)}
    assert {by_name[n].group for n in ("good", "same")} == {"a"}
    assert [by_name[n].top for n in ("good", "same", "bad")] == [True, True, False]
    first, second, last = found.ranked
    assert first.first is None
    assert first.above is None
    assert second.first == second.above
    assert second.above.tie
    assert not last.first.tie
    key = "nme", 1.0
    assert last.first.estimate == pytest.approx(
        last.cells[key].mean - first.cells[key].mean, rel=1e-8
    )
    assert last.first.low < last.first.estimate < last.first.high


def test_the_order_is_that_of_the_metric(full, landmarks, recognition):
    for of, sign in ((landmarks, 1), (recognition, -1)):
        key = of.primary["name"], 1.0
        rows = board.assemble(full.space, of).ranked
        means = [sign * r.cells[key].mean for r in rows]
        assert means == sorted(means)


def test_one_seed_separates_nothing(toy):
    of = toy.freeze(landmark_draft() | {"seeds": [4]}, landmark_targets())
    toy.record(of, "good", 0.5)
    toy.record(of, "bad", 30.0)
    for row in board.assemble(toy.space, of).ranked:
        assert row.rank == (1, 2)
        assert row.top
    assert row.first.low is row.first.high is None
    assert row.first.p == row.first.adjusted == 1


def test_a_diverged_trial_without_a_worst_value_is_last(toy, landmarks):
    toy.record(landmarks, "bad", 30.0)
    toy.record(landmarks, "b-lost", 0.1, diverged=("1.0/0",))
    toy.record(landmarks, "a-lost", 0.1, diverged=("1.0/1",))
    found = board.assemble(toy.space, landmarks)
    assert [(r.entry, r.rank) for r in found.ranked] == [
        ("bad", (1, 1)),
        ("a-lost", (2, 3)),
        ("b-lost", (2, 3)),
    ]
    lost = found.ranked[1]
    assert lost.sampling is None
    assert lost.first.estimate is None
    assert found.ranked[0].sampling is not None
    assert found.units == 12


def test_a_diverged_trial_with_a_worst_value_counts_with_it(toy, recognition):
    toy.record(recognition, "net", 0.05)
    toy.record(recognition, "lost", 0.05, diverged=("1.0/1",))
    row = assembled(toy, recognition)["lost"]
    values = row.cells["rank@1", 1.0].values
    assert values[1] == 0
    low, high = row.sampling
    assert high <= 2 / 3 + 1e-9  # one seed of three is 0 whoever is tested
    assert low <= np.mean(values) + 1e-9


def test_the_sampling_interval_is_over_units(toy, landmarks):
    toy.record(landmarks, "net", 3.0)
    found = board.assemble(toy.space, landmarks)
    assert (found.unit, found.units, found.draws) == ("unit", 12, 10_000)
    low, high = found.ranked[0].sampling
    mean = found.ranked[0].cells["nme", 1.0].mean
    assert low < mean < high


def test_samples_of_one_unit_are_drawn_together(toy):
    targets = landmark_targets() | {"unit": np.repeat([0, 1, 2, 3], 3)}
    of = toy.freeze(landmark_draft(), targets)
    toy.record(of, "net", 3.0)
    assert board.assemble(toy.space, of).units == 4


def test_a_metric_without_parts_is_compared_over_seeds_alone(toy):
    draft = recognition_draft()
    draft["metrics"] = [m | {"primary": m["name"] == "eer"} for m in draft["metrics"]]
    of = toy.freeze(draft, recognition_targets())
    toy.record(of, "net", 0.3)
    toy.record(of, "pixels", 0.9)
    found = board.assemble(toy.space, of)
    assert found.units is found.unit is found.draws is None
    assert all(row.sampling is None for row in found.ranked)
    a, b = (row.cells["eer", 1.0].values for row in found.ranked)
    interval = scipy.stats.ttest_rel(b, a).confidence_interval(0.95)
    pair = found.ranked[1].first
    assert (pair.low, pair.high) == pytest.approx((interval.low, interval.high), rel=1e-6)


def test_the_area_is_that_of_each_seeds_curve(full, landmarks, recognition):
    row = board.assemble(full.space, landmarks).ranked[0]
    low, high = (row.cells["nme", v].values for v in (0.1, 1.0))
    assert row.area.values == pytest.approx([(a + b) / 2 for a, b in zip(low, high)])
    assert board.assemble(full.space, recognition).ranked[0].area is None


def test_rows_carry_what_the_records_say(full, landmarks):
    found = board.assemble(full.space, landmarks)
    assert [(r.entry, r.rank, r.group, r.kind) for r in found.ranked] == [
        ("small-net", (1, 2), "a", "entry"),
        ("other-net", (1, 2), "a", "entry"),
        ("mean-shape", (3, 3), "b", "floor"),
    ]
    assert found.unranked == ()
    for r in found.ranked:
        (record,) = r.records
        value = files.read_json(full.root / record)
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
    toy.part(half, [0, 1, 2])
    found = board.assemble(toy.space, landmarks)
    assert [r.entry for r in found.ranked] == ["net"]
    (row,) = found.incomplete
    assert (row.entry, row.trust, row.rank) == ("half", "re-scored", None)
    assert row.missing == ("1.0/1",)
    assert row.fault == "missing 1.0/1"


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


def test_a_record_has_no_field_for_trust(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    forged = toy.rehash(path, lambda v: v.update(trust="independent"))
    with pytest.raises(FacebenchError, match="unknown field 'trust'"):
        board.assemble(toy.space, landmarks)
    assert forged.is_file()
    assert "trust" not in {f.name for f in dataclasses.fields(type(landmarks))}
