import copy
import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench import digest, files, metrics, protocol, schema
from facebench.errors import FacebenchError, UsageError
from facebench.protocol import edit, rules
from facebench.workspace import Workspace

ID = "landmarks/synth/fractions@1"
SHA = digest.of_bytes(b"x")
OTHER = digest.of_bytes(b"y")
FACT = {"n": 5, "keys": SHA, "content": SHA}


def filled() -> dict:
    facts = {"n": 5, "keys": SHA, "content": SHA}
    return {
        "schema": "facebench/protocol-1",
        "id": ID,
        "title": "A toy",
        "task": "landmarks",
        "dataset": {"name": "synth", "config": None, "version": "1.0.0"},
        "splits": {"train": dict(facts), "dev": dict(facts), "test": dict(facts)},
        "regimes": {"kind": "fraction", "values": [0.1, 1.0], "by": "sample", "budget": "iso-step"},
        "seeds": [0, 1],
        "subsets": {"0.1/0": SHA, "0.1/1": SHA, "1.0/0": SHA, "1.0/1": SHA},
        "adaptation": "scratch",
        "selection": "last-step",
        "preprocess": {"crop": "box", "size": 64},
        "evaluation": {},
        "convention": "68-inter-ocular",
        "metrics": [
            {
                "name": name,
                "unit": "%",
                "higher_is_better": False,
                "range": [0, None],
                "primary": name == "nme",
                "decimals": 2,
            }
            for name in ("nme", "fr@10")
        ],
        "predictions": {"points": {"dtype": "int16", "scale": 256}},
        "targets": SHA,
        "labels": "public",
        "note": "",
    }


def draft() -> dict:
    value = filled() | {"subsets": None, "targets": None}
    for facts in value["splits"].values():
        facts.update(n=None, keys=None, content=None)
    return value


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path, data=tmp_path / "data")


def put(space: Workspace, value: dict, name: str = ID) -> Path:
    path = space.protocols / f"{name}.json"
    files.write_json(path, value)
    return path


def changed(**fields) -> dict:
    """A protocol with fields replaced; ``a__b=1`` replaces ``["a"]["b"]``."""
    value = filled()
    for name, new in fields.items():
        *outer, last = name.split("__")
        inner = value
        for part in outer:
            inner = inner[part]
        inner[last] = new
    return value


def test_load_gives_fields_trials_and_digest(space):
    path = put(space, filled())
    of = protocol.load(space, ID)
    assert (of.id, of.n, of.public, of.frozen) == (ID, 5, True, True)
    assert of.trials() == [(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]
    assert of.primary["name"] == "nme"
    assert of.metric("fr@10")["decimals"] == 2
    with pytest.raises(UsageError, match=r"no metric 'fr@1'.*fr@10"):
        of.metric("fr@1")
    # The digest is of the value: another layout, another key order, 1 for 1.0 do not matter.
    text = json.dumps(filled(), indent=7).replace("1.0,", "1,")
    path.write_text(text.replace('"values": [0.1, 1.0]', '"values": [0.1, 1]'))
    again = protocol.load(space, ID)
    assert again.digest == of.digest == digest.of_json(filled())
    assert again.trials() == of.trials()
    assert [protocol.subset_key(*t) for t in again.trials()] == sorted(filled()["subsets"])
    put(space, changed(note="other"))
    assert protocol.load(space, ID).digest != of.digest


def test_names_are_sorted_and_only_protocols(space):
    put(space, filled(), "b/z/full@1")
    put(space, filled(), "a/z/full@10")
    put(space, filled(), "a/z/notes")
    assert protocol.names(space) == ["a/z/full@10", "b/z/full@1"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("landmarks/synth/fraction@1", f"did you mean '{ID}'"),
        ("landmark/synth/fractions@1", f"did you mean '{ID}'"),
        ("nothing like it", f"there are: {ID}"),
        ("../../secret@1", "expected task/dataset/regime@version"),
        ("landmarks/../fractions@1", "expected task/dataset/regime@version"),
        ("/etc/passwd/x@1", "expected task/dataset/regime@version"),
        (f"{ID}\n", "expected task/dataset/regime@version"),
    ],
)
def test_a_wrong_id_gets_the_nearest(space, name, hint):
    put(space, filled())
    with pytest.raises(UsageError) as error:
        protocol.load(space, name)
    assert hint in str(error.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (changed(schema="facebench/protocol-2"), "install a newer facebench"),
        (changed(schema="facebench/record-1"), "not a protocol file"),
        (changed(id="landmarks/synth/full@1"), "but the path says"),
        (changed(task="landmark"), "did you mean 'landmarks'"),
        (changed(task="recognition"), "the id begins with 'landmarks'"),
        (changed(seeds=[0, 0]), r"seeds: \[0, 0\] names something twice"),
        (changed(seeds=[]), "seeds"),
        (changed(seeds=[-1]), "seeds"),
        (changed(seeds=[True]), "seeds"),
        (changed(regimes__values=[1.0, 0.1]), "must ascend"),
        (changed(regimes__values=[0.1, 2.0]), "not a fraction"),
        (changed(regimes__kind="full"), "has the one value 1.0"),
        (changed(regimes__kind="shots"), "0.1 is no whole number"),
        (changed(regimes__kind="fractions"), "did you mean 'fraction'"),
        (changed(subsets={"0.1/0": SHA}), "differs at"),
        (changed(targets="sha256:12"), "targets.*wrong form"),
        (changed(targets=SHA + "\n"), "targets.*wrong form"),
        (changed(predictions={}), "predictions"),
        (changed(predictions={"a": {"dtype": "object"}}), "dtype"),
        (changed(predictions={"a": {"dtype": "float16", "scale": 2}}), "whole-number type"),
        (changed(evaluation={"gallery": [5]}), "beyond the 5 samples"),
        (changed(labels="secret"), "labels"),
        (changed(hostname="me"), "unknown field 'hostname'"),
        (changed(preprocess={"crop": "box"}), "field 'size' is missing"),
        (changed(title="a | b"), "title"),
        ([], "not a protocol file"),
    ],
)
def test_what_contradicts_itself_is_refused(space, value, message):
    put(space, value)
    with pytest.raises(FacebenchError, match=message) as error:
        protocol.load(space, ID)
    assert f"{ID}.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_metrics_that_repeat_or_have_an_empty_range_are_refused(space):
    value = filled()
    value["metrics"][1]["name"] = "nme"
    put(space, value)
    with pytest.raises(FacebenchError, match="twice"):
        protocol.load(space, ID)
    value = filled()
    value["metrics"][0]["primary"] = False
    put(space, value)
    with pytest.raises(FacebenchError, match="exactly one must be primary, found none"):
        protocol.load(space, ID)
    value = filled()
    value["metrics"][1]["range"] = [1, 1]
    put(space, value)
    with pytest.raises(FacebenchError, match="empty range"):
        protocol.load(space, ID)


def task_of(name: str, **fields) -> protocol.Protocol:
    """The toy as a protocol of another task, unchecked."""
    toy = protocol.parse(filled(), "a toy")
    return dataclasses.replace(toy, id=f"{name}/synth/fractions@1", task=name, **fields)


STRATA = {"field": "expression", "rule": "class"}
CARVED = {"from": "train", "rule": "unit-hash", "fraction": 0.1, "digest": SHA}
SHOTS = {"kind": "shots", "values": [1], "by": "sample", "budget": "iso-step"}
WITHOUT_DEV = {name: {"n": 5, "keys": SHA, "content": SHA} for name in ("train", "test")}
FAR = {"far": FACT | {"n": 7}}


def more(**fields) -> dict:
    """The toy with optional fields; ``metric`` is added to the first metric."""
    value = filled()
    value["metrics"][0] |= fields.pop("metric", {})
    value["regimes"] |= fields.pop("regimes", {})
    return value | fields


def test_optional_fields_are_read_and_change_nothing_else(space):
    tolerance = {"exact": 1e-9, "statistical": {"agreement": 0.99, "runs": 10}}
    tuning = {"space": {"l2": "1e-6 to 1e2, log"}, "trials": 25, "select_on": "dev"}
    value = more(
        **{"splits": WITHOUT_DEV, "dev": CARVED, "head": "linear", "tuning": tuning},
        **{"cluster": "unit", "tolerance": tolerance, "licence": "CC BY 4.0"},
        preprocess={"crop": "box", "size": 64, "digest": OTHER},
        metric={"chance": 20.0, "reference": 4.5},
        reference_entry="convnet-s",
        regimes={"strata": STRATA, "steps": "min(10 k, 100 N / 64)", "repeats": 2},
    )
    put(space, value)
    of = protocol.load(space, ID)
    assert (of.dev, of.head, of.tuning, of.cluster) == (CARVED, "linear", tuning, "unit")
    assert (of.tolerance, of.licence, of.reference_entry) == (tolerance, "CC BY 4.0", "convnet-s")
    # The pipeline is handed the crop alone.
    assert (of.preprocess, of.crops) == ({"crop": "box", "size": 64}, OTHER)
    assert [protocol.draw_of(of.regimes, seed) for seed in of.seeds] == [0, 0]
    plain = protocol.parse(filled(), "a toy")
    assert (plain.dev, plain.crops, plain.cluster, plain.holes) == (None, None, None, ())
    assert plain.digest == digest.of_json(filled()) != of.digest


def test_protocols_that_have_landed_are_read_as_before(repository):
    """Their digests stand in records; no new field may be asked of them."""
    ws = Workspace(root=repository, data=repository / "data")
    cited = {
        value["protocol"]["id"]: value["protocol"]["digest"]
        for value in map(files.read_json, sorted(ws.records.glob("*/*/*/*/*.json")))
    }
    assert len(cited) >= 3
    for name, sha in cited.items():
        assert protocol.load(ws, name).digest == sha


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (more(regimes={"values": [0, 1]}), "0.0 labels are none; that is kind 'zero'"),
        (more(regimes={"kind": "zero", "values": [0, 1]}), "has the one value 0"),
        (more(regimes={"values": [-0.5, 1]}), "regimes.values"),
        (more(regimes={"frames": {"count": 3}}), "regimes.frames: kind 'fraction' by 'sample'"),
        (more(regimes={"by": "unit", "frames": {}}), "regimes.frames"),
        (more(regimes={"by": "unit", "frames": {"count": 2, "fraction": 0.5}}), "regimes.frames"),
        (more(regimes={"by": "unit", "frames": {"fraction": 1.5}}), "regimes.frames.fraction"),
        (more(regimes={"strata": {"field": "a", "rule": "clas"}}), "did you mean 'class'"),
        (more(regimes={"strata": STRATA | {"threshold": 0.5}}), "belongs to rule 'multilabel'"),
        (more(regimes={"strata": STRATA | {"columns": [0]}}), "belongs to rule 'attribute'"),
        (
            more(regimes={"kind": "full", "values": [1.0], "strata": STRATA}),
            "nothing that could be stratified",
        ),
        (
            more(regimes=SHOTS | {"by": "unit", "strata": {"field": "au", "rule": "multilabel"}}),
            "shots of every unit",
        ),
        (more(regimes={"repeats": 3}), "repeats is 3, but draw 0 has 2 seeds; .* 0 to 2"),
        (more(seeds=[0, 1, 2], regimes={"repeats": 2}), "draw 1 has 1 seeds; .* 2 to 3"),
        (more(selection="dev", splits=WITHOUT_DEV), "selection is 'dev', but there is no dev"),
        (
            more(
                tuning={"space": {"lr": "1e-3"}, "trials": 1, "select_on": "dev"},
                splits=WITHOUT_DEV,
            ),
            "tuning.select_on is 'dev', but there is no dev",
        ),
        (more(dev=CARVED), "has a split 'dev' already"),
        (more(dev=CARVED | {"fraction": 1.0}), "dev.fraction"),
        (more(dev=CARVED | {"from": "test"}), "dev.from"),
        (more(metric={"reference": 4.0}), "has a reference and no chance"),
        (more(metric={"chance": 4.0, "reference": 9.0}), "reference 9.0 is not better than chance"),
        (more(metric={"chance": 4.0, "reference": 4.0}), "not better than chance"),
        (more(metric={"chance": -1.0}), "chance -1.0 lies outside the range"),
        (more(reference_entry="net"), "the primary metric has no 'reference'"),
        (more(cluster="video"), "cluster"),
        (more(tolerance={"exact": 1}), "tolerance.exact"),
        (
            more(tolerance={"exact": 0, "statistical": {"agreement": 0.9, "runs": 1}}),
            r"tolerance\.statistical\.runs",
        ),
        (more(evaluation={"classes": ["a", "b"]}), "evaluation.classes means nothing to task"),
        (more(evaluation={"au": [1]}), "evaluation.au means nothing to task 'landmarks'"),
        (more(splits=WITHOUT_DEV | {"test": {**FACT, "used": 3}}), "every sample counts without"),
        (more(preprocess={"crop": "box", "size": 64, "digest": "x"}), "preprocess.digest"),
        (more(licence="a\nb"), "licence"),
        (more(id="landmarks/../fractions@1"), "id"),
        (more(id="landmarks/synth/..@1"), "id"),
        (more(id="landmarks/synth/" + "a" * 120 + "@1"), "id"),
        (more(seeds=list(range(1001))), "seeds"),
    ],
)
def test_optional_fields_that_do_not_fit_together_are_refused(space, value, message):
    put(space, value)
    with pytest.raises(FacebenchError, match=message) as error:
        protocol.load(space, ID)
    assert f"{ID}.json" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (task_of("action_units"), "evaluation.au is missing"),
        (task_of("action_units", evaluation={"au": [1]}), "evaluation.threshold is missing"),
        (task_of("action_units", evaluation={"au": [1], "threshold": 0.5}), None),
        (task_of("action_unit_intensity", evaluation={"au": [1]}), None),
        (task_of("expression"), None),
        (task_of("valence_arousal"), None),
        (task_of("valence_arousal", evaluation={"au": [1]}), "task 'valence_arousal': it has also"),
        (
            task_of("expression", evaluation={"classes": ["a", "b"]}),
            "splits.test.used is missing",
        ),
        (
            task_of(
                "expression",
                evaluation={"classes": ["a", "b"]},
                splits=WITHOUT_DEV | {"test": {**FACT, "used": 6}},
            ),
            "splits.test.used: 6 of 5 samples",
        ),
        (
            task_of("expression", evaluation={"cues": "emfacs"}),
            "predictions.attention is missing",
        ),
        (task_of("expression", evaluation={"pairs": "all"}), "evaluation.pairs means nothing"),
        (task_of("expression", evaluation={"also": ["test_far"]}), "no split 'test_far'"),
        (task_of("expression", evaluation={"also": ["train"]}), "'train' is no further test split"),
        (task_of("expression", evaluation={"also": ["far"]}, splits=WITHOUT_DEV | FAR), None),
        (
            task_of(
                "expression",
                evaluation={"also": ["far"], "classes": ["a", "b"]},
                splits=WITHOUT_DEV | {"test": {**FACT, "used": 3}} | FAR,
            ),
            "splits.far.used is missing",
        ),
    ],
)
def test_evaluation_fits_the_task(of, message):
    found = list(rules.faults(of))
    assert any(message in fault for fault in found) if message else found == []


def test_samples_that_are_left_out_are_not_predicted():
    splits = WITHOUT_DEV | {"test": FACT | {"used": 3}}
    of = task_of("expression", evaluation={"classes": ["a", "b"]}, splits=splits)
    assert of.n == 3
    assert dataclasses.replace(of, splits=WITHOUT_DEV | {"test": FACT | {"used": None}}).n == 5


def test_samples_of_further_test_splits_are_predicted_too():
    splits = WITHOUT_DEV | FAR
    of = task_of("expression", evaluation={"also": ["far"]}, splits=splits)
    assert (of.tested, of.n) == (("test", "far"), 5 + 7)


def test_a_draft_asks_the_data_for_the_facts_of_further_test_splits():
    made = edit.draft_of(filled(), ID.replace("@1", "@2"), ['evaluation.also=["far"]'])
    assert made["splits"]["far"] == {"n": None, "keys": None, "content": None}


def test_a_file_of_absurd_size_is_not_read(space, monkeypatch):
    path = put(space, filled())
    monkeypatch.setattr(protocol, "MAX_FILE", path.stat().st_size)
    protocol.load(space, ID)
    monkeypatch.setattr(protocol, "MAX_FILE", path.stat().st_size - 1)
    with pytest.raises(FacebenchError, match=r"bytes, a protocol has .* at most"):
        protocol.load(space, ID)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a": NaN}', '{"a": 1, "a": 1}', '{"a": 1e999}', "[" * 5000, '{"a": "\\ud800"}'],
)
def test_a_damaged_file_is_one_clear_line(space, text):
    path = put(space, filled())
    path.write_text(text)
    with pytest.raises(FacebenchError, match=r"fractions@1\.json: ") as error:
        protocol.load(space, ID)
    assert "\n" not in str(error.value)


def test_every_task_of_the_schema_can_be_scored_and_back():
    text = (schema.FOLDER / "protocol-1.json").read_text()
    assert json.loads(text)["properties"]["task"]["enum"] == metrics.tasks()


@pytest.mark.parametrize("kind", sorted(schema.VERSIONS))
def test_schemas_are_valid_and_closed(kind):
    value = json.loads((schema.FOLDER / f"{kind}-{schema.VERSIONS[kind]}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(value)

    def walk(node, name):
        if not isinstance(node, dict):
            return
        if node.get("type") in ("object", ["object", "null"]) and name != "semantic":
            assert name == "execution" or "additionalProperties" in node, name
        if "properties" in node:
            assert node["additionalProperties"] is False, name
        for group in ("properties", "$defs"):
            for key, inner in node.get(group, {}).items():
                walk(inner, key)
        walk(node.get("items"), f"{name}[]")
        walk(node.get("additionalProperties"), f"{name}.*")

    walk(value, kind)


def test_a_draft_loads_only_when_asked_for(space):
    put(space, draft())
    with pytest.raises(FacebenchError, match=r"a draft: splits.* facebench protocol freeze"):
        protocol.load(space, ID)
    of = protocol.load(space, ID, allow_draft=True)
    assert not of.frozen
    assert of.subsets == {}


@pytest.mark.parametrize(("field", "fact"), [("dev", "dev"), ("preprocess", "crops")])
def test_freeze_fills_the_digests_of_dev_and_crops(space, field, fact):
    value = draft() | {"splits": {name: dict.fromkeys(FACT) for name in WITHOUT_DEV}}
    value |= {"dev": CARVED | {"digest": None}}
    value["preprocess"] = {"crop": "box", "size": 64, "digest": None}
    path = put(space, value)
    facts = FACTS | {"dev": OTHER, "crops": OTHER}
    with pytest.raises(FacebenchError, match=rf"a draft: {field}\.digest not filled in"):
        protocol.freeze(space, path, facts | {fact: None})
    protocol.freeze(space, path, facts)
    assert files.read_json(path)[field]["digest"] == OTHER
    with pytest.raises(FacebenchError, match=rf"{field}\.digest is frozen as .*"):
        protocol.freeze(space, path, facts | {fact: SHA})


FACTS = {
    "splits": {name: {"n": 5, "keys": SHA, "content": SHA} for name in ("train", "dev", "test")},
    "subsets": dict.fromkeys(("0.1/0", "0.1/1", "1.0/0", "1.0/1"), SHA),
    "targets": SHA,
}


def test_freeze_fills_the_nulls_and_nothing_else(space, tmp_path):
    path = tmp_path / "draft.json"
    files.write_json(path, draft())
    of = protocol.freeze(space, path, FACTS)
    assert of == protocol.load(space, ID)
    assert files.read_json(space.protocols / f"{ID}.json") == filled()
    assert files.read_json(path) == draft()
    # In place, and again: nothing changes any more.
    place = put(space, draft())
    assert protocol.freeze(space, place, FACTS).digest == of.digest
    before = place.stat().st_mtime_ns
    protocol.freeze(space, place, FACTS)
    assert place.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["splits"]["test"].update(n=6), r"splits\.test\.n is frozen as 5.*says 6"),
        (lambda f: f["splits"]["dev"].update(keys=OTHER), r"splits\.dev\.keys is frozen"),
        (lambda f: f["subsets"].update({"0.1/1": OTHER}), r"subsets\.0\.1/1 is frozen"),
        (lambda f: f.update(targets=OTHER), "targets is frozen"),
        (lambda f: f["subsets"].update({"0.5/0": SHA}), "subsets: expected one for each"),
    ],
)
def test_freeze_changes_nothing_that_is_frozen(space, change, message):
    path = put(space, filled())
    facts = copy.deepcopy(FACTS)
    change(facts)
    before = path.read_bytes()
    with pytest.raises(FacebenchError, match=message):
        protocol.freeze(space, path, facts)
    assert path.read_bytes() == before


def test_freeze_wants_every_fact_and_does_not_replace_another(space, tmp_path):
    path = put(space, draft())
    before = path.read_bytes()
    with pytest.raises(FacebenchError, match=r"a draft: splits\.dev\.content"):
        protocol.freeze(
            space, path, FACTS | {"splits": {**FACTS["splits"], "dev": {"n": 5, "keys": SHA}}}
        )
    assert path.read_bytes() == before
    put(space, filled())
    other = tmp_path / "other.json"
    files.write_json(other, draft() | {"note": "changed"})
    with pytest.raises(FacebenchError, match="give the draft the next version"):
        protocol.freeze(space, other, FACTS)
    assert files.read_json(path) == filled()


def parsed(**fields):
    return protocol.parse(changed(**fields), "a toy")


@given(st.lists(st.floats(-300, 300), min_size=1, max_size=20), st.sampled_from([1, 32, 256]))
@settings(max_examples=60, deadline=None)
def test_quantise_is_rounding_and_saturation(values, scale):
    of = parsed(predictions={"points": {"dtype": "int16", "scale": scale}})
    stored = protocol.quantise(of, {"points": np.array(values)})["points"]
    expected = [max(-32768, min(32767, round(Fraction(v) * scale))) for v in values]
    assert stored.dtype == np.int16
    assert stored.tolist() == expected
    back = protocol.dequantise(of, {"points": stored})["points"]
    assert back.dtype == np.float64
    assert back.tolist() == [e / scale for e in expected]
    assert np.array_equal(protocol.quantise(of, {"points": back})["points"], stored)


def test_quantise_of_floats_and_without_scale():
    of = parsed(predictions={"a": {"dtype": "float16"}, "b": {"dtype": "uint8"}})
    stored = protocol.quantise(of, {"a": np.array([1e6, -1e6, 0.1]), "b": np.array([-3, 7.5, 300])})
    assert stored["a"].tolist() == [65504.0, -65504.0, float(np.float16(0.1))]
    assert stored["b"].tolist() == [0, 8, 255]
    assert protocol.dequantise(of, stored)["b"].tolist() == [0.0, 8.0, 255.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(4,), (4, 3, 2)])
def test_quantise_names_the_array_and_row_of_what_is_not_finite(bad, shape):
    array = np.zeros(shape)
    array[2] = bad
    with pytest.raises(FacebenchError, match=rf"'points': row 2 holds {bad}"):
        protocol.quantise(parsed(), {"points": array})


def test_arrays_must_be_those_of_the_protocol():
    of = parsed()
    good = {"points": np.zeros((5, 68, 2))}
    with pytest.raises(FacebenchError, match="'points' is missing"):
        protocol.quantise(of, {})
    with pytest.raises(FacebenchError, match=r"'point' is not one of.*did you mean 'points'"):
        protocol.quantise(of, good | {"point": np.zeros(5)})
    with pytest.raises(FacebenchError, match="expected an array of numbers"):
        protocol.quantise(of, {"points": np.array(["a"])})
    with pytest.raises(FacebenchError, match="found float64, expected int16"):
        protocol.dequantise(of, good)
    floats = parsed(predictions={"points": {"dtype": "float32"}})
    with pytest.raises(FacebenchError, match="holds NaN"):
        protocol.dequantise(floats, {"points": np.full(3, np.nan, np.float32)})


def test_subset_keys():
    assert protocol.subset_key(0.1, 0) == "0.1/0"
    assert protocol.subset_key(1.0, 12) == "1.0/12"
    assert protocol.subset_key(5, 0) == "5/0"
    of = parsed(
        regimes={"kind": "shots", "values": [1.0, 5], "by": "unit", "budget": "iso-epoch"},
        subsets={"1/0": SHA, "1/1": SHA, "5/0": SHA, "5/1": SHA},
    )
    assert of.trials() == [(1, 0), (1, 1), (5, 0), (5, 1)]
    assert {type(value) for value, _ in of.trials()} == {int}
