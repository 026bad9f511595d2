"""The faults that must turn a check red, each planted in a copy of a small workspace.

Every fault names the gate that must fail, and the same gate passes without it. Three gates are
proved elsewhere, on the real thing: the append-only gate in a git repository and the renderers
under two hash seeds, time zones, locales and folder orders (``tests/workspace/test_gates.py``), and
the digest of the first test crops, which a drifted decoder changes, where crops are made
(``tests/data/test_targets.py``, ``tests/workspace/test_protocols.py``); here only that a protocol
holds it. A page that asks for something over the network has no gate yet: there is no HTML page.
"""

import json
import re
import shutil

import numpy as np
import pytest

from facebench import digest, files, leaderboard, protocol
from facebench.errors import FacebenchError
from facebench.leaderboard import attestation, board, judge, record, trial

LANDMARKS = "landmarks/toy/fractions@1"


@pytest.fixture(scope="module")
def sound(template, workspace, tmp_path_factory):
    """The board tests' workspace, with subsets listed, a canary and an attestation."""
    root = tmp_path_factory.mktemp("sound") / "space"
    shutil.copytree(template, root)
    toy = workspace(root)
    draft = toy.landmark_draft()
    draft |= {"id": "landmarks/toy/canaries@1", "seeds": [0, 1, 2, 3]}
    draft["preprocess"]["digest"] = None
    draft["metrics"][0]["chance"] = 30.0
    of = toy.freeze_listed(draft)
    toy.record(of, "permuted", 8.0, kind="canary")
    path = toy.record(of, "net", 1.0)
    folder, again = trial.listing(toy.space, of.id, "net")[0]
    attestation.attest(toy.space, of, path, "0.1/0", again, trial.predictions(folder, again))
    leaderboard.write(toy.space)
    return root


@pytest.fixture
def space(sound, workspace, tmp_path):
    shutil.copytree(sound, tmp_path / "space")
    return workspace(tmp_path / "space")


CANARIES = "landmarks/toy/canaries@1"


def of_entry(toy, entry, protocol_id=LANDMARKS):
    (path,) = toy.space.records.glob(f"{protocol_id}/{entry}/*.json")
    return path


def metric_edited(toy):
    path = of_entry(toy, "small-net")
    value = json.loads(path.read_text())
    value["trials"][0]["metrics"]["nme"] += 1e-6
    files.write_json(path, value)
    return "small-net/.*the record was changed"


def metric_edited_and_hashed_again(toy):
    def edit(value):
        value["trials"][0]["metrics"]["nme"] += 1e-6

    toy.rehash(of_entry(toy, "small-net"), edit)
    leaderboard.write(toy.space)
    return r"small-net/.*trial 0\.1/0: nme: recorded .*, its predictions score"


def samples_swapped(toy):
    path = record.bundle_place(toy.space, json.loads(of_entry(toy, "small-net").read_text()))
    arrays = files.read_npz(path)
    arrays["points"][0, [3, 4]] = arrays["points"][0, [4, 3]]
    files.write_npz(path, arrays)
    return "not the predictions of small-net"


def samples_swapped_and_hashed_again(toy):
    def swap(arrays):
        arrays["points"][0, [3, 4]] = arrays["points"][0, [4, 3]]

    toy.rebundle(of_entry(toy, "small-net"), swap)
    leaderboard.write(toy.space)
    return r"small-net/.*trial 0\.1/0: nme: recorded"


def seed_repeated(toy):
    def repeat(value):
        value["trials"][1] = value["trials"][0]

    toy.rehash(of_entry(toy, "small-net"), repeat)
    return r"trial 0\.1/0 stands 2 times"


def seed_missing(toy):
    toy.part(of_entry(toy, "small-net"), [0, 2, 3])
    return r"fractions@1\.md:\d+: not what the records say"


def two_answers_to_one_question(toy):
    path = of_entry(toy, "small-net")
    text = path.read_text()
    toy.rehash(path, lambda v: v["trials"][0]["metrics"].update(nme=9))
    path.write_text(text)
    return r"two records of small-net hold trial 0\.1/0 with different claims"


def protocol_touched(toy):
    path = toy.space.protocols / f"{LANDMARKS}.json"
    files.write_json(path, files.read_json(path) | {"note": "easier"})
    return "a protocol with records must not change"


def labels_shuffled(toy):
    """One label in a hundred: of 816 points, 8 change places."""
    path = toy.space.targets(LANDMARKS, True)
    targets = files.read_npz(path)
    flat = targets["points"].reshape(-1, 2)
    chosen = np.random.default_rng(0).choice(len(flat), len(flat) // 100, replace=False)
    flat[chosen] = flat[np.roll(chosen, 1)]
    files.write_npz(path, targets)
    return "other labels than landmarks/toy/fractions@1"


def labels_shuffled_and_frozen_again(toy):
    labels_shuffled(toy)
    path = toy.space.protocols / f"{LANDMARKS}.json"
    found = digest.of_arrays(files.read_npz(toy.space.targets(LANDMARKS, True)))
    files.write_json(path, files.read_json(path) | {"targets": found})
    return "a protocol with records must not change"


def decoder_drifted(toy):
    path = toy.space.protocols / f"{CANARIES}.json"
    value = files.read_json(path)
    value["preprocess"]["digest"] = digest.of_bytes(b"other crops")
    files.write_json(path, value)
    return "canaries@1/net/.*a protocol with records must not change"


def subset_drawn_again(toy):
    def draw(value):
        value["trials"][2]["subset_digest"] = digest.of_bytes(b"other")

    toy.rehash(of_entry(toy, "small-net"), draw)
    return "is not the protocol's subset"


def listed_subset_drawn_again(toy):
    path = toy.space.leaderboards / f"subsets/{CANARIES}.json"
    value = files.read_json(path)
    sha = value["subsets"]["0.1/0"]
    value["keys"][sha][0] = "p39/0"
    files.write_json(path, value)
    return "keys of .* are not those of the digest"


def subsets_of_nothing(toy):
    files.write_json(toy.space.leaderboards / "subsets/landmarks/toy/full@7.json", {})
    return r"full@7\.json: belongs to no protocol"


def attestation_in_conflict(toy):
    (path,) = attestation.paths(toy.space)
    value = json.loads(path.read_text())
    path.unlink()
    value["metrics"]["nme"] -= 1e-6
    files.write_json(attestation.place(toy.space, value), value)
    return "contradicts its record: nme: recorded"


def attestation_edited(toy):
    (path,) = attestation.paths(toy.space)
    files.write_json(path, json.loads(path.read_text()) | {"agreement": 0.5})
    return "by its content it belongs at"


def canary_above_chance(toy):
    toy.run(protocol.load(toy.space, CANARIES), "constant", 0.5, kind="canary")
    leaderboard.submit(toy.space, CANARIES, "constant")
    leaderboard.write(toy.space)
    return r"canaries@1: canary constant: nme at 0\.1: .* is better than chance 30"


FAULTS = [
    metric_edited,
    metric_edited_and_hashed_again,
    samples_swapped,
    samples_swapped_and_hashed_again,
    seed_repeated,
    seed_missing,
    two_answers_to_one_question,
    protocol_touched,
    labels_shuffled,
    labels_shuffled_and_frozen_again,
    decoder_drifted,
    subset_drawn_again,
    listed_subset_drawn_again,
    subsets_of_nothing,
    attestation_in_conflict,
    attestation_edited,
    canary_above_chance,
]


def test_without_a_fault_every_gate_passes(space):
    report = leaderboard.check(space.space)
    assert (report.problems, report.notices) == ([], [])
    assert report.checked == 7


@pytest.mark.parametrize("plant", FAULTS)
def test_a_planted_fault_is_named_by_its_gate(space, plant):
    pattern = plant(space)
    before = space.snapshot()
    found = leaderboard.check(space.space).problems
    assert space.snapshot() == before
    assert any(re.search(pattern, line) for line in found), (pattern, found)
    assert all("\n" not in line for line in found)


def test_a_missing_seed_is_never_ranked_even_on_boards_built_again(space):
    seed_missing(space)
    leaderboard.write(space.space)
    found = board.assemble(space.space, protocol.load(space.space, LANDMARKS))
    assert "small-net" not in [row.entry for row in found.ranked]
    assert [(row.entry, row.missing) for row in found.incomplete] == [("small-net", ("0.1/1",))]


def test_two_answers_stop_the_build_and_name_both_files(space):
    path = of_entry(space, "small-net")
    two_answers_to_one_question(space)
    with pytest.raises(FacebenchError) as error:
        leaderboard.build(space.space)
    for file in space.space.records.glob(f"{LANDMARKS}/small-net/*.json"):
        assert file.relative_to(space.root).as_posix() in str(error.value)
    assert path.is_file()


def test_the_canary_of_the_sound_workspace_is_near_enough_to_matter(space):
    """It is at chance, not far behind it: the gate is not passed by being absurd."""
    of = protocol.load(space.space, CANARIES)
    value = json.loads(of_entry(space, "permuted", CANARIES).read_text())
    bundle = record.read_bundle(space.space, value)
    first = {name: array[0] for name, array in bundle.items()}
    score = judge.score(of, first, judge.load_targets(space.space, of))["nme"]
    assert 30 < score < 100
