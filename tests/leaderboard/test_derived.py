"""What the build believes and what it computes again."""

import json

import pytest

from facebench import files, leaderboard, metrics, protocol
from facebench.leaderboard import board, derived, judge, record

PROTOCOL = "landmarks/toy/fractions@1"


def place(toy):
    return toy.space.leaderboards / f"derived/{PROTOCOL}.json"


@pytest.fixture
def count(monkeypatch):
    """Counts how often predictions are scored and taken apart."""
    calls = {"score": 0, "parts": 0}
    score, parts = judge.score, metrics.parts

    def counted_score(*args, **kwargs):
        calls["score"] += 1
        return score(*args, **kwargs)

    def counted_parts(*args, **kwargs):
        calls["parts"] += 1
        return parts(*args, **kwargs)

    monkeypatch.setattr(judge, "score", counted_score)
    monkeypatch.setattr(metrics, "parts", counted_parts)
    return calls


def test_nothing_is_computed_while_nothing_changed(full, count):
    before = leaderboard.build(full.space)
    assert count == {"score": 0, "parts": 0}
    place(full).unlink()
    assert leaderboard.build(full.space) == before
    assert count == {"score": 3 * 4, "parts": 3 * 2}  # three records of four trials, two at 100 %


def test_a_new_record_is_scored_alone_and_compared_with_all(full, landmarks, count):
    full.run(landmarks, "new-net", 2.0)
    leaderboard.submit(full.space, landmarks.id, "new-net")
    count.update(score=0)
    leaderboard.build(full.space)
    assert count == {"score": 4, "parts": 4 * 2}


def test_the_results_are_those_of_a_build_from_nothing(full, landmarks):
    full.record(landmarks, "new-net", 2.0)
    grown = leaderboard.build(full.space)
    for path in (full.space.leaderboards / "derived").rglob("*.json"):
        path.unlink()
    assert leaderboard.build(full.space) == grown


def other_bundle(full):
    path = full.space.records / PROTOCOL / "small-net"
    (path,) = path.iterdir()
    bundle = record.bundle_place(full.space, files.read_json(path))
    arrays = files.read_npz(bundle)
    arrays["points"][0, 0] += 1
    files.write_npz(bundle, arrays)
    return "its predictions are missing or damaged"


def no_bundle(full):
    (path,) = (full.space.records / PROTOCOL / "small-net").iterdir()
    record.bundle_place(full.space, files.read_json(path)).unlink()
    return "its predictions are missing or damaged"


def no_labels(full):
    full.space.targets(PROTOCOL, True).unlink()
    return "the test labels are missing"


@pytest.mark.parametrize("change", [other_bundle, no_bundle, no_labels])
def test_a_changed_file_is_never_shown_with_old_results(full, landmarks, change):
    fault = change(full)
    found = board.assemble(full.space, landmarks)
    assert {r.entry: r.fault for r in found.unranked}["small-net"] == fault


def test_another_version_of_the_code_believes_nothing(full, landmarks, count, monkeypatch):
    monkeypatch.setattr(derived, "VERSION", derived.VERSION + 1)
    board.assemble(full.space, landmarks)
    assert count["score"] == 12


def spoil(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("entries"),
        lambda v: v["entries"]["small-net"].pop("rank"),
        lambda v: v["entries"]["small-net"].update(sampling="[1, 2]"),
        lambda v: v["entries"]["small-net"].update(rank=[1]),
        lambda v: v["entries"]["other-net"]["first"].update(p="0"),
        lambda v: v["statistics"].update(units="12"),
        lambda v: next(iter(v["records"].values())).update(extra=1),
        lambda v: v.update(records=[]),
    ],
)
def test_a_file_of_another_form_counts_as_missing(full, change):
    before = leaderboard.build(full.space)
    spoil(place(full), change)
    assert leaderboard.build(full.space) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_a_file_that_cannot_be_read_counts_as_missing(full, text):
    before = leaderboard.build(full.space)
    place(full).write_bytes(text.encode("latin-1"))
    assert leaderboard.build(full.space) == before


def test_gated_results_are_believed_where_the_labels_are_not(full, recognition):
    with_labels = board.assemble(full.space, recognition)
    assert with_labels.units == 3
    full.space.targets(recognition.id, False).unlink()
    assert board.assemble(full.space, recognition) == with_labels
    # Without them and without results the comparison is over seeds alone, and says so.
    (full.space.leaderboards / f"derived/{recognition.id}.json").unlink()
    bare = board.assemble(full.space, recognition)
    assert bare.units is None
    assert {r.trust for r in bare.ranked} == {"labels gated"}


def test_results_without_labels_are_made_anew_where_the_labels_are(full, recognition):
    targets = full.space.targets(recognition.id, False)
    data = targets.read_bytes()
    whole = leaderboard.build(full.space)
    targets.unlink()
    (full.space.leaderboards / f"derived/{recognition.id}.json").unlink()
    leaderboard.write(full.space)
    targets.write_bytes(data)
    assert leaderboard.build(full.space) == whole


def test_differences_name_the_field_and_forgive_the_last_digits():
    a = {"x": [1.0, {"y": 2.5}], "z": "t", "n": None, "b": True}
    assert (
        derived.differences(a, {"x": [1.0 + 1e-8, {"y": 2.5}], "z": "t", "n": None, "b": True})
        == []
    )
    assert derived.differences(a, {"x": [1.0, {"y": 2.6}], "z": "u", "m": 1, "b": True}) == [
        "m: missing",
        "n: superfluous",
        "x[1][y]: 2.5, computed again: 2.6",
        "z: 't', computed again: 'u'",
    ]
    assert derived.differences({"x": [1]}, {"x": [1, 2]}) == ["x: [1], computed again: [1, 2]"]


def test_numbers_are_kept_with_nine_digits():
    assert derived._rounded(1 / 3) == 0.333333333
    assert derived._rounded(float("inf")) is None


def test_the_protocol_is_part_of_the_key(full, landmarks, count):
    path = full.space.protocols / f"{PROTOCOL}.json"
    files.write_json(path, files.read_json(path) | {"note": "touched"})
    found = board.assemble(full.space, protocol.load(full.space, PROTOCOL))
    assert {r.fault for r in found.unranked} == {"made under another version of the protocol file"}
