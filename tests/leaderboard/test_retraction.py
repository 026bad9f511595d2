import re

import pytest

from facebench import files, leaderboard
from facebench.errors import FacebenchError
from facebench.leaderboard import board, retraction

PROTOCOL = "landmarks/toy/fractions@1"


def retract(toy, path, **changes):
    value = {
        "schema": "facebench/retraction-1",
        "record": files.read_json(path)["record_id"],
        "reason": "leakage",
        "note": "12 test | images\nwere <trained> on",
        "by": "the authors",
    } | changes
    value = {k: v for k, v in value.items() if v is not None}
    place = retraction.folder(toy.space) / path.name
    files.write_json(place, value)
    return place


def only(toy, entry):
    (path,) = toy.space.records.glob(f"{PROTOCOL}/{entry}/*.json")
    return path


def test_a_retracted_record_is_shown_struck_out_with_its_reason_and_not_ranked(full, landmarks):
    retract(full, only(full, "small-net"))
    found = board.assemble(full.space, landmarks)
    assert [r.entry for r in found.ranked] == ["other-net", "mean-shape"]
    (row,) = found.retracted
    assert (row.entry, row.reason, row.by) == ("small-net", "leakage", "the authors")
    text = leaderboard.build(full.space)[f"leaderboards/boards/{PROTOCOL}.md"].decode()
    block = text[text.index("## Retracted") :]
    assert "~~small-net~~" in block
    assert re.search(r"~~[0-9.]+ ± +[0-9.]+~~ at 100 % of labels", block)
    assert "12 test \\| images were &lt;trained> on" in block
    assert "small-net" not in text[: text.index("## Retracted")]
    terminal = leaderboard.board_text(full.space, PROTOCOL)
    assert "retracted: small-net: leakage: 12 test | images were <trained> on" in terminal


def test_the_check_is_clean_after_a_retraction_even_without_the_predictions(full):
    path = only(full, "small-net")
    retract(full, path)
    from facebench.leaderboard import record

    record.bundle_place(full.space, files.read_json(path)).unlink()
    leaderboard.write(full.space)
    report = leaderboard.check(full.space)
    assert report.problems == []
    assert any("it is retracted" in line for line in report.notices)


def test_one_of_two_records_may_be_retracted(toy, landmarks):
    path = toy.record(landmarks, "net", 1.0)
    text = path.read_text()
    other = toy.rehash(path, lambda v: v.update(note="a wrong copy"))
    path.write_text(text)
    retract(toy, other)
    found = board.assemble(toy.space, landmarks)
    assert [r.records for r in found.ranked] == [(path.relative_to(toy.root).as_posix(),)]


def test_taking_a_retraction_back_brings_the_row_back(full):
    before = leaderboard.build(full.space)
    place = retract(full, only(full, "small-net"))
    leaderboard.write(full.space)
    assert leaderboard.build(full.space) != before
    place.unlink()
    assert leaderboard.build(full.space) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "facebench/retraction-2"}, "expected 'facebench/retraction-1'"),
        ({"reason": "bugs"}, "did you mean 'bug'"),
        ({"note": None}, "note: found None, expected text"),
        ({"by": 3}, "by: found 3, expected text"),
        ({"bye": "x"}, "unknown field 'bye': did you mean 'by'"),
        ({"record": "sha256:12"}, "expected the record_id of a record"),
        ({"record": "sha256:" + "1" * 64}, "rename it"),
        ({"note": "x" * 2001}, "note: 2001 characters, at most 2000"),
    ],
)
def test_a_damaged_retraction_is_refused_in_one_line(full, changes, message):
    place = retract(full, only(full, "small-net"), **changes)
    with pytest.raises(FacebenchError, match=re.escape(message)) as error:
        leaderboard.build(full.space)
    assert str(error.value).startswith(str(place))
    assert "\n" not in str(error.value)


def test_a_retraction_that_is_no_object_is_refused(full):
    place = retract(full, only(full, "small-net"))
    place.write_text("[]")
    with pytest.raises(FacebenchError, match="schema is None"):
        leaderboard.build(full.space)
