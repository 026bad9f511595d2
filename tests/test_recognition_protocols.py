"""What a recognition protocol compares: lists, closed sets, groups, and none to train on."""

from __future__ import annotations

import copy

import pytest

from facebench import protocol
from facebench.errors import FacebenchError
from facebench.protocol import edit

LISTED = {"pairs": "list:view-2", "digest": "sha256:" + "1" * 64}


@pytest.fixture
def value(repository):
    return protocol.read(
        repository / "leaderboards/protocols/recognition/synthface/fractions@2.json"
    )


def changed(value, evaluation=None, used=None, **fields):
    made = copy.deepcopy(value) | fields
    if evaluation is not None:
        made["evaluation"] = evaluation
    if used is not None:
        made["splits"]["test"]["used"] = used
    return made


def zero(value, **rest):
    """Nothing to train on, and no training split."""
    made = changed(value, **rest)
    made["splits"] = {"test": made["splits"]["test"]}
    made["regimes"] = {"kind": "zero", "values": [0], "by": "unit", "budget": "iso-step"}
    made["subsets"] = {f"0/{seed}": "sha256:" + "2" * 64 for seed in made["seeds"]}
    return made


def test_a_list_without_training_is_a_protocol(value):
    of = protocol.parse(zero(value, evaluation=LISTED | {"flip": "sum"}, used=100), "here")
    assert of.n == 100
    assert of.frozen
    drafted = protocol.parse(
        zero(value, evaluation=LISTED | {"digest": None}, used=100), "here", allow_draft=True
    )
    assert drafted.holes == ("evaluation.digest",)


@pytest.mark.parametrize(
    ("evaluation", "used", "said"),
    [
        (LISTED, None, "splits.test.used is missing: a list of pairs"),
        (LISTED | {"gallery": [0]}, 4, "gallery: a list of pairs has none"),
        ({"pairs": "list:view-2"}, 4, "evaluation.digest is that of a list"),
        ({"pairs": "all", "digest": None}, 4, "evaluation.digest is that of a list"),
        ({"pairs": "all", "gallery": [0]}, 4, "used: every sample counts"),
        (LISTED | {"group": "group"}, 4, "evaluation.group goes with pairs 'all'"),
        ({"pairs": "all", "pooling": "n1d1"}, None, "evaluation.pooling is of the templates"),
        ({"gallery": "subset"}, None, "every subset must hold every person"),
        ({"pairs": "some"}, None, "pairs"),
        ({"gallery": "train"}, None, "gallery"),
        ({"pairs": "all", "flip": "concat"}, None, "flip"),
        (LISTED | {"pooling": "n2d1"}, 4, "pooling"),
    ],
)
def test_what_does_not_fit_is_named(value, evaluation, used, said):
    with pytest.raises(FacebenchError, match=said):
        protocol.parse(changed(value, evaluation, used), "here")


def test_a_closed_set_needs_everybody_in_every_subset(value):
    shots = changed(
        value,
        {"gallery": "subset"},
        regimes={"kind": "shots", "values": [2], "by": "unit", "budget": "iso-step"},
        subsets={f"2/{seed}": "sha256:" + "2" * 64 for seed in value["seeds"]},
    )
    protocol.parse(shots, "here")
    shots["regimes"]["by"] = "sample"
    with pytest.raises(FacebenchError, match="every subset must hold every person"):
        protocol.parse(shots, "here")


def test_only_zero_does_without_a_training_split(value):
    del value["splits"]["train"]
    with pytest.raises(FacebenchError, match=r"splits\.train is missing: kind 'fraction' draws"):
        protocol.parse(value, "here")
    made = zero(value)
    made["dev"] = {"from": "train", "rule": "unit-hash", "fraction": 0.1, "digest": None}
    made["splits"].pop("dev", None)
    with pytest.raises(FacebenchError, match="dev: kind 'zero' trains on nothing"):
        protocol.parse(made, "here", allow_draft=True)


def test_a_draft_forgets_what_the_data_says(value):
    listed = zero(value, evaluation=dict(LISTED), used=100)
    made = edit.draft_of(listed, "recognition/a/b@1", [])
    assert made["evaluation"] == {"pairs": "list:view-2", "digest": None}
    assert made["splits"]["test"]["used"] is None
    made = edit.draft_of(listed, "recognition/a/b@1", ["evaluation.pairs=all"])
    assert made["evaluation"] == {"pairs": "all"}
    assert "used" not in made["splits"]["test"]
    made = edit.draft_of(value, "recognition/a/b@1", ["evaluation.pairs=list:x"])
    assert made["evaluation"] == {"pairs": "list:x", "digest": None}
    assert made["splits"]["test"]["used"] is None
    closed = changed(value, {"gallery": "subset"})
    assert edit.draft_of(closed, "recognition/a/b@1", [])["evaluation"] == {"gallery": "subset"}


def test_the_protocols_of_images_of_each_person(repository):
    root = repository / "leaderboards/protocols/recognition"
    orl = protocol.parse(protocol.read(root / "orl/shots@1.json"), "orl")
    assert orl.evaluation == {"gallery": "subset"}
    assert orl.regimes["values"] == [1, 3, 5]
    synthface = protocol.parse(protocol.read(root / "synthface/shots@1.json"), "synthface")
    assert synthface.regimes["values"] == [2, 5, 10, 20]
    other = protocol.parse(protocol.read(root / "synthface/fractions@2.json"), "synthface")
    assert synthface.splits == other.splits  # the same test as the fractions of people
    assert synthface.evaluation == other.evaluation | {"group": "group"}
