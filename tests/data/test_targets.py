"""Targets, the facts that freeze a protocol, and the checks against them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from facebench import digest, experiment, files, metrics, protocol, workspace
from facebench.data import comparisons, source, subsets, targets, transforms
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
        "preprocess": {"crop": "box", "size": 16, "margin": 0.0},
        "crops": None,
        "dev": None,
        "cluster": None,
        "tested": ("test",),
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
    probes, gallery = comparisons.gallery(draft("recognition"), 10)
    assert probes.tolist() == [1, 3, 5, 6, 7, 8, 9]
    assert gallery.tolist() == GALLERY
    four = source.Split(tiny.folder, tiny.label, "test", 4)
    pairs = comparisons.pairs(draft("recognition"), four)
    assert pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


def test_probes_without_a_mate_are_marked(tiny):
    one = draft("recognition", evaluation={"pairs": "all", "gallery": [0]})
    made = targets.build(one, tiny.split("test"))
    assert made["probe_identity"].tolist() == [0 if i % 3 == 0 else -1 for i in range(1, 10)]


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"pairs": "some", "gallery": [0]}, "pairs 'some'"),
        ({}, "gallery is missing"),
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


# ------------------------------------------- expressions, action units, masks, and a carved dev

FACES = """
import numpy as np
import tensorflow_datasets as tfds

NAMES = ["neutral", "happy", "sad", "fear"]
AU = [1, 4, 12]


class Faces(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=n) for n in ("named", "nameless")]
    generated = True

    def _info(self):
        named = self.builder_config.name == "named"
        features = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(12, 12, 3), encoding_format="png"),
            "expression": tfds.features.ClassLabel(names=NAMES),
            "au": tfds.features.Tensor(shape=(3,), dtype=np.float32),
            "parse": tfds.features.Tensor(shape=(12, 12), dtype=np.uint8),
        }
        if named:
            features["group"] = tfds.features.Text()
            features["points"] = tfds.features.Tensor(shape=(68, 2), dtype=np.float32)
            features["parse"] = tfds.features.Image(shape=(12, 12, 1), encoding_format="png")
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True,
            metadata=tfds.core.MetadataDict(au=AU) if named else None,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(40, "t"), "test": self._generate_examples(12, "e")}

    def _generate_examples(self, n, letter):
        import cv2

        for i in range(n):
            rng = np.random.default_rng([n, i])
            mask = rng.integers(0, 11, (12, 12), np.uint8)
            image = rng.integers(0, 256, (12, 12, 3), np.uint8)
            made = {
                "key": f"{letter}{i:02d}",
                "unit": f"{letter}-person {(7 * i) % 10}",
                "image": cv2.imencode(".png", image)[1].tobytes(),
                "expression": i % 4,
                "au": np.float32([0.7, i / n, -1 if i == 1 else 0.2]),
                "parse": mask,
            }
            if self.builder_config.name == "named":
                made |= {"group": "old" if i % 3 else "new"}
                made |= {"points": np.float32(np.random.default_rng(i).uniform(0, 11, (68, 2)))}
                if i == 6:
                    made["points"][0] = np.nan
                made |= {"parse": cv2.imencode(".png", mask)[1].tobytes()}
            yield i, made
"""


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """Both configs of a dataset with labels of every kind, prepared; not to be changed."""
    root = tmp_path_factory.mktemp("faces")
    (root / "WORKSPACE.md").write_text("a workspace of a test\n")
    (root / "datasets/faces").mkdir(parents=True)
    (root / "datasets/faces/faces_dataset_builder.py").write_text(FACES)
    ws = workspace.find(root, data=root / "data")
    return {name: source.prepare(ws, "faces", name) for name in ("named", "nameless")}


def test_expressions_that_count(faces):
    test = faces["named"].split("test")
    every = draft("expression")
    made = targets.build(every, test)
    assert made.keys() == {"label", "unit", "group"}
    assert made["label"].tolist() == [i % 4 for i in range(12)]
    assert made["unit"].tolist() == [(7 * i) % 10 for i in range(12)]
    assert made["group"].tolist() == [int(i % 3 > 0) for i in range(12)]  # new, old
    assert subsets.classes(every, test)[0] == ["neutral", "happy", "sad", "fear"]

    two = draft("expression", evaluation={"classes": ["fear", "happy"]})
    kept = [i for i in range(12) if i % 4 in (1, 3)]
    assert subsets.used(two, test).tolist() == kept
    made = targets.build(two, test)
    assert made["label"].tolist() == [{3: 0, 1: 1}[i % 4] for i in kept]  # in the protocol's order
    assert made["group"].tolist() == [int(i % 3 > 0) for i in kept]
    people = sorted({(7 * i) % 10 for i in kept})
    assert made["unit"].tolist() == [people.index((7 * i) % 10) for i in kept]
    assert "group" not in targets.build(every, faces["nameless"].split("test"))

    wrong = draft("expression", evaluation={"classes": ["fear", "hapy"]})
    with pytest.raises(UsageError, match=r"no class 'hapy': did you mean 'happy'"):
        targets.build(wrong, test)


def test_further_test_splits_follow_with_units_of_their_own_numbers(faces):
    """Units of both splits are numbered together: the same person has one number."""
    one = draft("expression", evaluation={"classes": ["fear", "happy"]}, tested=("test", "train"))
    test, train = (faces["named"].split(name) for name in ("test", "train"))
    made = targets.of_dataset(one, faces["named"])
    rows = [(s, i) for s in (test, train) for i in range(len(s)) if i % 4 in (1, 3)]
    assert made["split_names"].tolist() == ["test", "train"]
    assert made["split"].tolist() == [int(s is train) for s, _ in rows]
    assert made["label"].tolist() == [{3: 0, 1: 1}[i % 4] for _, i in rows]
    names = sorted({s.units[i] for s, i in rows})
    assert made["unit"].tolist() == [names.index(s.units[i]) for s, i in rows]
    assert len(made["group"]) == len(rows)


def test_cues_are_points_in_the_crop_and_the_units_of_the_classes(faces):
    test = faces["named"].split("test")
    asked = draft(
        "expression",
        evaluation={"classes": ["fear", "neutral", "happy"], "cues": "emfacs"},
        preprocess={"crop": "full", "size": 30},
    )
    made = targets.build(asked, test)
    kept = [i for i in range(12) if i % 4 in (0, 1, 3)]
    assert made["size"] == 30
    assert made["size"].shape == ()
    assert made["cues"].tolist() == [[1, 2, 4, 5, 20, 26], [0] * 6, [6, 12, 0, 0, 0, 0]]
    assert made["points"].dtype == np.float32
    for row, i in enumerate(kept):  # 12 px become 30, edges go to edges
        want = (np.random.default_rng(i).uniform(0, 11, (68, 2)) + 0.5) * 2.5 - 0.5
        if i == 6:
            assert np.isnan(made["points"][row, 0]).all()
            want[0] = np.nan
        np.testing.assert_allclose(made["points"][row], want, atol=1 / 32 + 1e-4)
    shares = np.full((len(kept), 3), 1 / 3)
    predictions = {"probability": shares, "attention": np.random.rand(len(kept), 5, 5)}
    each = metrics.score("expression", predictions, made)["attention_cosine_per_class"]
    assert each[1] is None
    assert each[0] > 0
    assert each[2] > 0

    for evaluation, name, said in (
        ({"cues": "emfac"}, "named", "evaluation.cues: no codebook is named 'emfac'"),
        ({"cues": "emfacs"}, "nameless", "no field 'points'"),
    ):
        wrong = draft("expression", evaluation=evaluation, preprocess=asked.preprocess)
        with pytest.raises(UsageError, match=said):
            targets.build(wrong, faces[name].split("test"))


def test_a_task_with_cues_is_told_of_points_and_the_names_of_the_classes(faces):
    of = SimpleNamespace(
        dataset=faces["named"],
        protocol=draft("expression", evaluation={"classes": ["fear", "happy"]}),
        ws=SimpleNamespace(root=None),
        config=SimpleNamespace(semantic={"task": {"cue": 1.0}}),
    )
    spec = experiment.Experiment._spec(of, np.arange(8), None)
    assert (spec.points, spec.classes, spec.class_names) == (68, 2, ("fear", "happy"))
    of.config.semantic["task"] = {}
    assert experiment.Experiment._spec(of, np.arange(8), None).points == 0


def test_subsets_and_counts_are_of_the_classes_that_count(faces):
    regimes = {
        **{"kind": "shots", "values": [2, 5], "by": "sample"},
        "strata": {"field": "expression", "rule": "class"},
    }
    asked = draft(
        "expression",
        dataset={"name": "faces", "config": "named", "version": "1.0.0"},
        evaluation={"classes": ["fear", "happy"]},
        regimes=regimes,
        preprocess={"crop": "full", "size": 8},
        splits={"train": {}, "test": {"used": None}},
    )
    facts = targets.facts(asked, faces["named"])
    assert facts["splits"]["test"] == faces["named"].facts["splits"]["test"] | {"used": 6}
    assert facts["splits"]["train"] == faces["named"].facts["splits"]["train"]
    for name, keys in facts["keys"].items():
        k = int(name.split("/")[0])
        labels = [int(key[1:]) % 4 for key in keys]
        assert sorted(labels) == [1] * k + [3] * k
        assert facts["counts"][name]["classes"] == {"fear": k, "happy": k}
        assert facts["counts"][name]["samples"] == 2 * k == len(keys)
        assert facts["counts"][name]["units"] == len({7 * int(key[1:]) % 10 for key in keys})
    # Other classes change nothing: the same draw from their samples alone.
    train = faces["named"].split("train")
    rows = [i for i in range(40) if i % 4 in (1, 3)]
    alone = subsets.draw(
        asked.id, regimes, 2, 1, [train.keys[i] for i in rows], ["u"] * 20, [i % 4 for i in rows]
    )
    assert sorted(train.keys[rows[i]] for i in alone) == sorted(facts["keys"]["2/1"])


def test_action_units_by_their_numbers(faces):
    test = faces["named"].split("test")
    asked = draft("action_units", evaluation={"au": [12, 1], "threshold": 0.7})
    made = targets.build(asked, test)
    assert made["label"].dtype == np.int8
    # 0.7 of a float32 is not below a threshold of 0.7; a negative intensity is unknown
    assert made["label"].tolist() == [[-1 if i == 1 else 0, 1] for i in range(12)]
    assert made["unit"].tolist() == [(7 * i) % 10 for i in range(12)]
    half = targets.build(draft("action_units", evaluation={"au": [4], "threshold": 0.5}), test)
    assert half["label"].tolist() == [[int(i / 12 >= 0.5)] for i in range(12)]
    with pytest.raises(UsageError, match=r"evaluation\.au: no 5"):
        targets.build(draft("action_units", evaluation={"au": [5], "threshold": 0.5}), test)


def test_action_units_of_a_dataset_that_does_not_name_them(faces):
    test = faces["nameless"].split("test")
    all_three = draft("action_units", evaluation={"au": [9, 7, 5], "threshold": 0.5})
    assert targets.build(all_three, test)["label"][0].tolist() == [1, 0, 0]
    with pytest.raises(FacebenchError, match=r"names 1 action units.*3 columns.*MetadataDict"):
        targets.build(draft("action_units", evaluation={"au": [1], "threshold": 0.5}), test)


def test_intensities(faces):
    test = faces["named"].split("test")
    made = targets.build(draft("action_unit_intensity", evaluation={"au": [4, 1]}), test)
    assert made["intensity"].dtype == np.float32
    assert np.array_equal(made["intensity"], source.field(test, "au")[:, [1, 0]])
    partly = targets.build(draft("action_unit_intensity", evaluation={"au": [12, 1]}), test)
    known = source.field(test, "au")[:, [2, 0]]
    assert known[1, 0] < 0
    assert partly["intensity"][1].tolist() == [-1, known[1, 1]]
    assert np.array_equal(np.delete(partly["intensity"], 1, 0), np.delete(known, 1, 0))
    scored = metrics.score("action_unit_intensity", {"intensity": np.abs(known)}, partly)
    assert scored["mae"] == 0


def test_valence_and_arousal(monkeypatch, faces):
    test = faces["named"].split("test")
    values = np.random.default_rng(0).uniform(-1, 1, (12, 2)).astype(np.float32)
    values[3], values[4, 1] = np.nan, -2

    def made(array):
        monkeypatch.setattr(targets, "field", lambda split, name: array)
        return targets.build(draft("valence_arousal"), test)

    found = made(values)
    assert found["valence_arousal"].dtype == np.float32
    assert found["valence_arousal"][3].tolist() == [-2, -2]
    rest = [i for i in range(12) if i != 3]
    assert np.array_equal(found["valence_arousal"][rest], values[rest])
    assert found["unit"].tolist() == [(7 * i) % 10 for i in range(12)]
    scored = metrics.score("valence_arousal", {"valence_arousal": np.zeros((12, 2))}, found)
    assert scored["rmse_valence"] == pytest.approx(np.sqrt(np.square(values[rest, 0]).mean()))
    with pytest.raises(FacebenchError, match=r"key 'e05': 1.5, expected a number from -1 to 1"):
        made(np.where(np.arange(12)[:, None] == 5, np.float32(1.5), values))
    with pytest.raises(FacebenchError, match=r"expected \(valence, arousal\) per sample"):
        made(values[:, :1])


@pytest.mark.parametrize("config", ["named", "nameless"])
def test_masks_encoded_or_plain(faces, config):
    made = targets.build(draft("parsing"), faces[config].split("test"))
    expected = [
        np.random.default_rng([12, i]).integers(0, 11, (12, 12), np.uint8) for i in range(12)
    ]
    assert made["parse"].dtype == np.uint8
    assert np.array_equal(made["parse"], expected)
    assert made["unit"].tolist() == [(7 * i) % 10 for i in range(12)]


def test_recognition_has_units_where_the_protocol_clusters(tiny):
    made = targets.build(draft("recognition", cluster="unit"), tiny.split("test"))
    assert made["unit"].tolist() == [i % 3 for i in range(10)]
    scores = np.random.default_rng(0)
    predictions = {"score": scores.normal(size=45), "similarity": scores.normal(size=(7, 3))}
    plain = {name: array for name, array in made.items() if name != "unit"}
    assert metrics.score("recognition", predictions, made) == metrics.score(
        "recognition", predictions, plain
    )


def test_dev_is_whole_units_that_nothing_is_drawn_from(faces):
    carved = {"from": "train", "rule": "unit-hash", "fraction": 0.2, "digest": None}
    asked = draft(
        "expression",
        dev=carved,
        dataset={"name": "faces", "config": "named", "version": "1.0.0"},
        preprocess={"crop": "full", "size": 8},
    )
    train = faces["named"].split("train")
    people = sorted(
        set(train.units),
        key=lambda unit: hashlib.sha256(f"{asked.id}\ndev\n{unit}".encode()).hexdigest(),
    )
    expected = [i for i in range(40) if train.units[i] in people[:2]]
    rest, held = subsets.carve(asked, train)
    assert held.tolist() == expected
    assert rest.tolist() == [i for i in range(40) if i not in expected]
    facts = targets.facts(asked, faces["named"])
    assert facts["dev"] == subsets.digest([train.keys[i] for i in expected])
    assert not set(facts["keys"]["1.0/0"]) & {train.keys[i] for i in expected}
    assert len(facts["keys"]["1.0/0"]) == 40 - len(expected)

    frozen = draft("expression", dev=carved | {"digest": facts["dev"]})
    assert subsets.dev(frozen, faces["named"]).tolist() == expected
    frozen.dev["digest"] = "sha256:" + "0" * 64
    with pytest.raises(FacebenchError, match=r"dev is .*the protocol froze 000000000000"):
        subsets.dev(frozen, faces["named"])
    asked.dev["fraction"] = 0.99
    with pytest.raises(FacebenchError, match="takes all 10 units"):
        subsets.carve(asked, train)
    asked.dev = None
    assert len(subsets.dev(asked, faces["named"])) == 0


def test_repeats_share_a_draw(faces):
    regimes = {"kind": "fraction", "values": [0.2], "by": "sample", "repeats": 2}
    facts = targets.facts(
        draft(
            "expression",
            **{"regimes": regimes, "seeds": [0, 1, 2, 3]},
            preprocess={"crop": "full", "size": 8},
        ),
        faces["named"],
    )
    shas = facts["subsets"]
    assert shas["0.2/0"] == shas["0.2/1"] != shas["0.2/2"] == shas["0.2/3"]


def test_crops_that_drifted_are_named(tiny, monkeypatch):
    facts = targets.facts(draft("landmarks"), tiny)
    split, crops = tiny.split("test"), []
    for i in range(10):
        image = transforms.decode(split.record(i)["image"])
        matrix = transforms.crop_matrix(
            {"crop": "box", "size": 16}, *image.shape[:2], split.record(i)["box"]
        )
        crops.append(transforms.warp(image, None, matrix, 16)[0])
    assert facts["crops"] == digest.of_arrays({"image": np.stack(crops)})

    kept = {name: facts[name] for name in ("splits", "subsets", "targets", "crops")}
    frozen = draft("landmarks", **kept)
    targets.check_dataset(frozen, tiny)
    decode = transforms.decode
    monkeypatch.setattr(transforms, "decode", lambda data, colour=True: decode(data) // 2)
    with pytest.raises(FacebenchError, match=r"the first 64 test crops .*drifted \(OpenCV"):
        targets.check_dataset(frozen, tiny)
