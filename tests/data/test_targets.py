"""Targets, the facts that freeze a protocol, and the checks against them."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from facebench import digest, files, protocol
from facebench.data import source, subsets, targets
from facebench.errors import FacebenchError, UsageError

GALLERY = [4, 0, 2]


def draft(task, **changed):
    """A protocol on the tiny dataset that nothing has frozen."""
    fields = {
        "id": f"{task}/tiny/fractions@1",
        "task": task,
        "dataset": {"name": "tiny", "config": "five", "version": "1.2.0"},
        "splits": {},
        "regimes": {"kind": "fraction", "values": [0.1, 1.0], "by": "sample"},
        "seeds": [0, 1],
        "subsets": {},
        "evaluation": {"pairs": "all", "gallery": GALLERY} if task == "recognition" else {},
        "targets": None,
        "public": True,
    }
    return SimpleNamespace(**(fields | changed))


def test_landmarks(tiny):
    split = tiny.split("test")
    made = targets.build(draft("landmarks"), split)
    assert made.keys() == {"points", "visible", "box", "unit"}
    for i in range(10):
        record = split.record(i)
        for name in ("points", "visible", "box"):
            assert np.array_equal(made[name][i], record[name])
    assert made["visible"].dtype == bool
    assert made["unit"].tolist() == [i % 3 for i in range(10)]


def test_recognition(tiny):
    split = tiny.split("test")
    made = targets.build(draft("recognition"), split)
    assert made.keys() == {"same", "probe_identity", "gallery_identity"}
    same = [split.units[i] == split.units[j] for i in range(10) for j in range(i + 1, 10)]
    assert made["same"].tolist() == same
    # samples 4, 0, 2 are persons 1, 0, 2; the probes are the others, ascending
    assert made["gallery_identity"].tolist() == [1, 0, 2]
    assert made["probe_identity"].tolist() == [i % 3 for i in (1, 3, 5, 6, 7, 8, 9)]
    probes, gallery = targets.gallery(draft("recognition"), 10)
    assert probes.tolist() == [1, 3, 5, 6, 7, 8, 9]
    assert gallery.tolist() == GALLERY
    pairs = targets.pairs(draft("recognition"), 4)
    assert pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


def test_probes_without_a_mate_are_marked(tiny):
    one = draft("recognition", evaluation={"pairs": "all", "gallery": [0]})
    made = targets.build(one, tiny.split("test"))
    assert made["probe_identity"].tolist() == [0 if i % 3 == 0 else -1 for i in range(1, 10)]


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"pairs": "some", "gallery": [0]}, "pairs 'some'"),
        ({"pairs": "all"}, "gallery is missing"),
        ({"pairs": "all", "gallery": [10]}, "10 is no index into 10"),
        ({"pairs": "all", "gallery": [-1, 2]}, "-1 is no index"),
        ({"pairs": "all", "gallery": [1, 1]}, "twice"),
        ({"pairs": "all", "gallery": list(range(10))}, "no probe"),
    ],
)
def test_bad_evaluations_are_named(tiny, evaluation, said):
    with pytest.raises(FacebenchError, match=said):
        targets.build(draft("recognition", evaluation=evaluation), tiny.split("test"))


def test_unknown_task_is_named(tiny):
    with pytest.raises(UsageError, match="'landmarks'"):
        targets.build(draft("landmark"), tiny.split("test"))


@pytest.mark.parametrize("public", [True, False])
def test_written_where_the_judge_looks(ws, tiny, public):
    open_or_gated = draft("landmarks", public=public)
    found = targets.write(ws, open_or_gated, tiny)
    path = (ws.leaderboards if public else ws.data) / "targets/landmarks/tiny/fractions@1.npz"
    stored = files.read_npz(path)
    assert digest.of_arrays(stored) == found
    assert np.array_equal(stored["points"], source.field(tiny.split("test"), "points"))


def test_other_targets_than_the_frozen_ones_are_refused(ws, tiny):
    frozen = draft("landmarks", targets="sha256:" + "0" * 64)
    with pytest.raises(FacebenchError, match="the protocol froze 000000000000"):
        targets.write(ws, frozen, tiny)
    assert not (ws.leaderboards / "targets").exists()


def test_facts(tiny):
    asked = draft("landmarks")
    facts = targets.facts(asked, tiny)
    kept = json.loads((tiny.folder / "facebench.json").read_text())["splits"]
    assert facts["splits"] == kept
    assert set(facts["subsets"]) == {"0.1/0", "0.1/1", "1.0/0", "1.0/1"}
    train = tiny.split("train")
    chosen = subsets.draw(asked.id, asked.regimes, 0.1, 1, train.keys, train.units)
    assert len(chosen) == 3
    assert facts["subsets"]["0.1/1"] == digest.of_lines(sorted(train.keys[i] for i in chosen))
    assert facts["subsets"]["1.0/0"] == facts["subsets"]["1.0/1"] == kept["train"]["keys"]
    assert facts["targets"] == digest.of_arrays(targets.build(asked, tiny.split("test")))


def test_the_frozen_dataset_passes_and_others_are_named(tiny):
    facts = targets.facts(draft("landmarks"), tiny)
    frozen = draft("landmarks", **facts)
    targets.check_dataset(frozen, tiny)
    indices, found = subsets.of_protocol(frozen, tiny, 0.1, 0)
    assert len(indices) == 3
    assert found == facts["subsets"]["0.1/0"]

    for fact, split in (("n", "train"), ("keys", "test"), ("content", "train")):
        splits = json.loads(json.dumps(facts["splits"]))
        splits[split][fact] = 3 if fact == "n" else "sha256:" + "1" * 64
        with pytest.raises(FacebenchError, match=f"split '{split}' .* {fact} is .*prepare tiny"):
            targets.check_dataset(draft("landmarks", splits=splits), tiny)
    with pytest.raises(FacebenchError, match="split 'dev'"):
        targets.check_dataset(
            draft("landmarks", splits=facts["splits"] | {"dev": facts["splits"]["test"]}), tiny
        )
    other = dataclasses.replace(tiny, version="2.0.0")
    with pytest.raises(FacebenchError, match=r"dataset.version is '1.2.0', but '2.0.0'"):
        targets.check_dataset(frozen, other)


def test_another_subset_than_the_frozen_one_is_refused(tiny):
    facts = targets.facts(draft("landmarks"), tiny)
    moved = draft("landmarks", **facts)
    moved.subsets["0.1/0"] = facts["subsets"]["0.1/1"]
    with pytest.raises(FacebenchError, match=r"subset 0\.1/0 is"):
        subsets.of_protocol(moved, tiny, 0.1, 0)


def test_names_of_subsets_are_the_protocols(tiny):
    asked = draft("landmarks", regimes={"kind": "shots", "values": [1, 2], "by": "unit"})
    expected = {protocol.subset_key(v, s) for v in (1, 2) for s in (0, 1)}
    assert set(targets.facts(asked, tiny)["subsets"]) == expected
