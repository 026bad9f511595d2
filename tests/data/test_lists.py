"""Lists of comparisons: what is refused, what is stored, and the targets that they give."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from facebench import digest, files
from facebench.data import lists, source, subsets, targets
from facebench.errors import FacebenchError, UsageError

PAIRS = [[9, 2], [2, 4], [4, 9], [7, 2]]
SAME = [True, False, True, False]


def given(**changed):
    one = {"pairs": np.array(PAIRS), "same": np.array(SAME)} | changed
    return {"view": {name: value for name, value in one.items() if value is not None}}


@pytest.fixture
def listed(tiny, tmp_path):
    """The tiny dataset with a list of images and one of templates."""
    folder = tmp_path / "listed"
    shutil.copytree(tiny.folder, folder)
    group = np.array(["b", "a", "b", "a"])
    found = given(fold=np.array([0, 0, 1, 1], np.int8), group=group) | {
        "templates": {
            "pairs": np.array([[40, 10], [30, 40]]),
            "same": np.array([False, True]),
            "template": np.array([40, 10, 30, 40, 20, 20, 10, 30, 40, 10]),
            "media": np.arange(10) // 2,
            "weight": np.linspace(0, 1, 10, dtype=np.float32),
        }
    }
    facts = files.read_json(folder / "facebench.json")
    facts["lists"] = lists.write(folder, "tiny/five", found, {"train": 24, "test": 10})
    files.write_json(folder / "facebench.json", facts)
    splits = {s: source.Split(folder, "tiny/five", s, f["n"]) for s, f in facts["splits"].items()}
    return source.Dataset("tiny", "five", "1.2.0", folder, facts, splits)


def draft(**evaluation):
    return SimpleNamespace(
        id="recognition/tiny/list@1",
        task="recognition",
        dataset={"name": "tiny", "config": "five", "version": "1.2.0"},
        splits={"test": {"used": None}},
        regimes={"kind": "zero", "values": [0], "by": "unit"},
        seeds=[0],
        subsets={},
        evaluation=evaluation,
        targets=None,
        preprocess={"crop": "full", "size": 16},
        crops=None,
        dev=None,
        tested=("test",),
        cluster=None,
        public=True,
    )


def test_what_is_stored_is_read_again(listed):
    test = listed.split("test")
    found = lists.read(test, "view")
    assert found["pairs"].tolist() == PAIRS
    assert found["same"].tolist() == SAME
    assert listed.facts["lists"]["view"] == {
        "split": "test",
        "n": 4,
        "digest": digest.of_arrays(found),
    }
    assert lists.used(test, "view").tolist() == [2, 4, 7, 9]
    # places among those: 9 is the fourth
    assert lists.pairs(test, "view").tolist() == [[3, 0], [0, 1], [1, 3], [2, 0]]
    assert lists.templates(test, "view") is None


def test_templates_are_places_among_those_that_are_compared(listed):
    test = listed.split("test")
    assert lists.used(test, "templates").tolist() == [0, 1, 2, 3, 6, 7, 8, 9]  # not template 20
    assert lists.pairs(test, "templates").tolist() == [[2, 0], [1, 2]]
    found = lists.templates(test, "templates")
    assert found["template"].tolist() == [2, 0, 1, 2, 0, 1, 2, 0]
    assert found["media"].tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    assert np.allclose(found["weight"], np.array([0, 1, 2, 3, 6, 7, 8, 9]) / 9)


WHOLE = np.arange(10)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pairs": None}, "array 'pairs' is missing"),
        ({"same": np.array([1, 0, 1, 0])}, "'same' holds int64"),
        ({"same": np.array(SAME[:3])}, r"'pairs' has shape \[4, 2\], expected \[3, 2\]"),
        ({"pairs": np.array([*PAIRS[:3], [7, 10]])}, "row 10 of 10"),
        ({"pairs": np.array([*PAIRS[:3], [7, -1]])}, "of 10 samples"),
        ({"pairs": np.array([*PAIRS[:3], [7, 7]])}, "pair 3 compares one with itself"),
        ({"folds": WHOLE[:4]}, "unknown array 'folds': did you mean 'fold'"),
        ({"fold": WHOLE[:4] / 2}, "'fold' holds float64"),
        ({"group": WHOLE[:3]}, r"'group' has shape \[3\]"),
        ({"split": "tset"}, "no split 'tset': did you mean 'test'"),
        ({"template": WHOLE}, "'media' is missing"),
        ({"template": WHOLE // 4, "media": WHOLE}, "pair 0 is of templates .9, 2., of which 9 has"),
        ({"template": WHOLE, "media": WHOLE, "weight": WHOLE - 1.0}, "negative"),
        ({"same": np.zeros(0, bool), "pairs": np.zeros((0, 2), int)}, "'pairs' has shape"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, changed, said):
    with pytest.raises(FacebenchError, match=f"tiny/five: list 'view': .*{said}"):
        lists.write(tmp_path, "tiny/five", given(**changed), {"train": 24, "test": 10})
    assert not list(tmp_path.iterdir())


def test_a_bad_name_is_refused(tmp_path):
    with pytest.raises(FacebenchError, match="list 'View 2': expected a name"):
        lists.write(tmp_path, "tiny/five", {"View 2": given()["view"]}, {"test": 10})


def test_unknown_and_damaged_lists_are_named(listed):
    with pytest.raises(UsageError, match="no list 'veiw': did you mean 'view'"):
        lists.read(listed.split("test"), "veiw")
    with pytest.raises(FacebenchError, match="'view' is of split 'test', not 'train'"):
        lists.read(listed.split("train"), "view")
    files.write_npz(listed.folder / "list-view.npz", given()["view"])
    with pytest.raises(FacebenchError, match=r"list-view\.npz: its digest is .* prepare tiny/five"):
        lists.read(listed.split("test"), "view")


def test_targets_and_facts_of_a_list(listed):
    asked = draft(pairs="list:view", digest=None)
    made = targets.build(asked, listed.split("test"))
    assert made.keys() == {"same", "fold", "group"}
    assert made["same"].tolist() == SAME
    assert made["group"].tolist() == ["b", "a", "b", "a"]
    asked.cluster = "unit"  # of the samples that count
    assert targets.build(asked, listed.split("test"))["unit"].tolist() == [2, 1, 1, 0]
    assert subsets.used(asked, listed.split("test")).tolist() == [2, 4, 7, 9]
    asked.cluster = None
    facts = targets.facts(asked, listed)
    assert facts["list"] == listed.facts["lists"]["view"]["digest"]
    assert facts["splits"]["test"]["used"] == 4
    assert facts["subsets"] == {"0/0": digest.of_lines([])}
    assert facts["counts"] == {"0/0": {"samples": 0, "units": 0, "classes": {}}}
    assert subsets.of_protocol(asked, listed, 0, 0)[0].tolist() == []


def test_another_list_than_the_frozen_one_is_refused(listed):
    asked = draft(pairs="list:view", digest=listed.facts["lists"]["view"]["digest"])
    asked.splits = {}
    targets.check_dataset(asked, listed)
    asked.evaluation["digest"] = "sha256:" + "0" * 64
    with pytest.raises(FacebenchError, match=r"list 'view' of tiny/five .*froze 000000000000"):
        targets.check_dataset(asked, listed)


def test_pairs_alone_and_pairs_by_group(tiny):
    test = tiny.split("test")
    assert targets.build(draft(pairs="all"), test).keys() == {"same"}
    # `identity` is i % 3: pairs of one identity are of its group, the others of none
    made = targets.build(draft(pairs="all", group="identity"), test)
    assert made["group"].dtype == np.int16
    expected = [i % 3 if i % 3 == j % 3 else -1 for i in range(10) for j in range(i + 1, 10)]
    assert made["group"].tolist() == expected
    with pytest.raises(FacebenchError, match=r"evaluation\.group: field 'box'"):
        targets.build(draft(pairs="all", group="box"), test)
    with pytest.raises(UsageError, match="'identity'"):
        targets.build(draft(pairs="all", group="identty"), test)


def test_a_closed_set_has_a_column_for_each_person(tiny):
    made = targets.build(draft(gallery="subset"), tiny.split("test"))
    assert made.keys() == {"probe_identity", "gallery_identity"}
    # train has persons 0 to 5, test 0 to 2
    assert made["gallery_identity"].tolist() == list(range(6))
    assert made["probe_identity"].tolist() == [i % 3 for i in range(10)]


def test_a_stranger_in_a_closed_set_is_named(tiny, tmp_path):
    folder = tmp_path / "strangers"
    shutil.copytree(tiny.folder, folder)
    train = files.read_npz(folder / "samples-train.npz")
    train["unit"] = np.where(train["unit"] == "person 1", "person 7", train["unit"])
    files.write_npz(folder / "samples-train.npz", train)
    with pytest.raises(FacebenchError, match="test unit 'person 1' of tiny/five is not in its"):
        targets.build(draft(gallery="subset"), source.Split(folder, "tiny/five", "test", 10))


BUILDER = """
import cv2
import numpy as np
import tensorflow_datasets as tfds


class Listed(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="one")]
    generated = True

    def _info(self):
        features = tfds.features.FeaturesDict({
            "key": tfds.features.Text(), "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
        })
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for i in range(6):
            image = cv2.imencode(".png", np.full((8, 8, 3), i, np.uint8))[1].tobytes()
            yield i, {"key": f"{i}", "unit": f"{i // 2}", "image": image}

    def lists(self, folder):
        assert folder is None
        return {"two": {"pairs": np.array([[0, 1], [2, 4]]), "same": np.array([True, False])}}
"""


def test_a_builder_gives_its_lists_when_it_is_prepared(ws):
    place = ws.datasets / "listed/listed_dataset_builder.py"
    place.parent.mkdir()
    place.write_text(BUILDER)
    dataset = source.prepare(ws, "listed")
    kept = json.loads((dataset.folder / "facebench.json").read_text())
    assert kept["lists"]["two"]["n"] == 2
    assert "list-two.npz" in kept["files"]
    assert lists.pairs(dataset.split("test"), "two").tolist() == [[0, 1], [2, 3]]
    assert source.verify(ws, "listed") == []
    files.write_npz(dataset.folder / "list-two.npz", {"same": np.array([True])})
    with pytest.raises(FacebenchError, match=r"damaged: list-two\.npz has"):
        source.open(ws, "listed")
