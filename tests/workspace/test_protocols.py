"""The protocol commands: from a draft to a frozen file, its next version, and its page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from facebench import cli, digest, files, protocol, workspace
from facebench.data import source, subsets
from facebench.protocol import manifest

FEW = "landmarks/toyfaces/few@1"
PEOPLE = "landmarks/toyfaces/people@1"


def tree(root: Path) -> dict[str, bytes]:
    found = sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(p.relative_to(root)): p.read_bytes() for p in found}


def place(space: Path, name: str) -> Path:
    return space / "leaderboards/protocols" / f"{name}.json"


def cite(space: Path, repository: Path, name: str, sha: str) -> Path:
    """A record of another protocol, made to cite this one."""
    taken = sorted((repository / "leaderboards/records/landmarks").glob("**/*.json"))[0]
    value = files.read_json(taken)
    value["protocol"] = {"id": name, "digest": sha}
    where = space / "leaderboards/records" / name / "net" / "0123456789ab.json"
    files.write_json(where, value)
    return where


def test_a_draft_is_filled_in_frozen_shown_and_run(space, capsys):
    words = ["protocol", "new", f"--from={FEW}", f"--id={PEOPLE}", "--set=title=Two people"]
    words += ["--set=regimes.kind=units", "--set=regimes.values=[2, 4]", "--set=seeds=[0, 3]"]
    words += ["--set=regimes.frames.count=3", "--set=metrics.0.chance=60"]
    words += ['--set=dev={"from": "train", "rule": "unit-hash", "fraction": 0.2}']
    words += ["--set=cluster=unit", "--set=selection=last-step"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "to be filled in: subsets, targets, dev.digest, preprocess.digest" in out
    assert f"next: look it over, then facebench protocol freeze {PEOPLE}" in out
    drafted = files.read_json(place(space, PEOPLE))
    old = files.read_json(place(space, FEW))
    # The data says the splits; dev is carved, so the dataset's own is left out.
    assert drafted["splits"] == {name: old["splits"][name] for name in ("train", "test")}
    assert drafted["title"] == "Two people"
    assert drafted["metrics"] == [old["metrics"][0] | {"chance": 60}]

    assert cli.main(["protocol", "show", PEOPLE]) == 0
    out = capsys.readouterr().out
    assert "A DRAFT, not filled in: subsets, targets, dev.digest, preprocess.digest" in out
    assert cli.main(["protocol", "freeze", PEOPLE]) == 0
    capsys.readouterr()

    ws = workspace.find(space)
    of = protocol.load(ws, PEOPLE)
    train = source.open(ws, **of.dataset).split("train")
    dataset = source.open(ws, **of.dataset)
    held = {train.units[i] for i in subsets.dev(of, dataset)}
    assert len(held) == 3  # a fifth of 12 people, rounded up
    listed = manifest.read(ws, of)
    assert listed is not None
    for value, seed in of.trials():
        rows, sha = subsets.of_protocol(of, dataset, value, seed)
        people = {train.units[i] for i in rows}
        assert len(people) == value
        assert not people & held
        assert len(rows) == 3 * value
        assert listed["keys"][sha] == sorted(train.keys[i] for i in rows)
        assert listed["counts"][sha] == {"samples": 3 * value, "units": value, "classes": {}}

    assert cli.main(["protocol", "show", PEOPLE]) == 0
    out = capsys.readouterr().out
    assert "units 2, 4 by unit, frames: count 3" in out
    assert "carved out of train: 0.2 of its units" in out
    assert "* nme %: lower is better, chance 60" in out
    sha = digest.short(of.subsets["4/3"])
    assert f"{4:>8}  {3:>4}  {12:>8}  {4:>6}  {sha}" in out
    assert "records      none cite it" in out

    run = ["run", "--config=experiments/landmarks.py", f"--config.protocol={PEOPLE}"]
    run += ["--seed=0", "--regime=2"]
    assert cli.main(run) == 0
    # Crops that are not the frozen ones: another decoder, say.
    value = files.read_json(place(space, PEOPLE))
    value["preprocess"]["digest"] = digest.of_bytes(b"other crops")
    files.write_json(place(space, PEOPLE), value)
    capsys.readouterr()
    assert cli.main(run) == 1
    assert "decoding or warping drifted" in capsys.readouterr().err


def test_the_page_as_json(space, capsys):
    assert cli.main(["protocol", "show", FEW, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"] == files.read_json(place(space, FEW))
    assert found["digest"] == digest.of_json(found["protocol"])
    assert found["missing"] == found["records"] == []
    counts = [
        (s["value"], s["seed"], s["draw"], s["samples"], s["units"]) for s in found["subsets"]
    ]
    assert counts == [
        (0.5, 0, 0, 24, 6),
        (0.5, 1, 1, 24, 6),
        (1.0, 0, 0, 48, 12),
        (1.0, 1, 1, 48, 12),
    ]
    assert found["manifest"] == f"leaderboards/subsets/{FEW}.json"


def test_shots_of_each_class_are_counted(space, capsys):
    name = "landmarks/toyfaces/each@1"
    strata = '--set=regimes.strata={"field": "unit", "rule": "class"}'
    words = ["protocol", "new", f"--from={FEW}", f"--id={name}", strata]
    words += ["--set=regimes.kind=shots", "--set=regimes.by=sample", "--set=regimes.values=[1, 2]"]
    assert cli.main([*words, "--set=seeds=[0]"]) == 0
    assert cli.main(["protocol", "freeze", name]) == 0
    capsys.readouterr()
    assert cli.main(["protocol", "show", name]) == 0
    out = capsys.readouterr().out
    assert "class strata of unit" in out
    assert ", ".join(f"train-{i:02d} 2" for i in range(12)) in out


def test_the_next_version_leaves_a_cited_one_alone(space, repository, capsys):
    sha = digest.of_json(files.read_json(place(space, FEW)))
    record = cite(space, repository, FEW, sha)
    before = tree(space)
    assert cli.main(["protocol", "freeze", FEW]) == 0  # nothing to fill in, nothing written
    assert tree(space) == before
    capsys.readouterr()
    assert cli.main(["protocol", "bump", FEW, "--set=seeds=[0,1,2]", "--set=note=More seeds."]) == 0
    out = capsys.readouterr().out
    assert 'id: "landmarks/toyfaces/few@1" -> "landmarks/toyfaces/few@2"' in out
    assert "seeds: [0, 1] -> [0, 1, 2]" in out
    assert 'note: "" -> "More seeds."' in out
    assert f"targets: {digest.short(files.read_json(place(space, FEW))['targets'])} -> null" in out
    assert {p for p in tree(space) if p not in before} == {
        "leaderboards/protocols/landmarks/toyfaces/few@2.json"
    }
    assert all(tree(space)[p] == data for p, data in before.items())
    assert cli.main(["protocol", "freeze", "landmarks/toyfaces/few@2"]) == 0
    one, two = (files.read_json(place(space, n)) for n in (FEW, "landmarks/toyfaces/few@2"))
    assert one["targets"] == two["targets"]
    assert one["subsets"]["0.5/0"] != two["subsets"]["0.5/0"]  # another version draws anew
    assert one["subsets"]["1.0/0"] == two["subsets"]["1.0/0"]
    capsys.readouterr()
    assert cli.main(["protocol", "show", FEW]) == 0
    out = capsys.readouterr().out
    assert f"records      1\n  {record.relative_to(space)}" in out

    # The cited file is changed and its digests are taken out: freezing does not make it good.
    value = files.read_json(place(space, FEW)) | {"subsets": None, "seeds": [0, 1, 2]}
    files.write_json(place(space, FEW), value)
    before = tree(space)
    assert cli.main(["protocol", "freeze", FEW]) == 1
    err = capsys.readouterr().err
    assert "1 records cite this protocol" in err
    assert f"facebench protocol bump {FEW}" in err
    assert tree(space) == before


def test_gated_labels_are_counted_and_not_listed(space):
    name = "landmarks/toyfaces/gated@1"
    words = ["protocol", "new", f"--from={FEW}", f"--id={name}", "--set=labels=gated"]
    assert cli.main([*words, "--set=licence=on request"]) == 0
    assert cli.main(["protocol", "freeze", name]) == 0
    listed = files.read_json(space / f"leaderboards/subsets/{name}.json")
    assert listed["keys"] is None
    assert "train-" not in json.dumps(listed)
    assert sorted(c["samples"] for c in listed["counts"].values()) == [24, 24, 48]


def test_a_version_that_the_builder_does_not_make_is_not_filled_in(space, capsys):
    words = ["protocol", "new", f"--from={FEW}", f"--id={PEOPLE}", "--set=dataset.version=0.9.0"]
    assert cli.main(words) == 0
    before = tree(space)
    capsys.readouterr()
    assert cli.main(["protocol", "freeze", PEOPLE]) == 1
    err = capsys.readouterr().err
    assert "dataset.version is '0.9.0', but the builder of toyfaces makes '1.0.0'" in err
    assert tree(space) == before


def test_the_data_need_not_be_here_to_draft(space, capsys):
    for folder in sorted((space / "data").rglob("*"), reverse=True):
        folder.unlink() if folder.is_file() else folder.rmdir()
    assert cli.main(["protocol", "new", f"--from={FEW}", f"--id={PEOPLE}"]) == 0
    assert "splits.dev.content" in capsys.readouterr().out
    of = files.read_json(place(space, PEOPLE))
    assert of["splits"]["test"] == {"n": None, "keys": None, "content": None}


NEW = ["protocol", "new", f"--from={FEW}", f"--id={PEOPLE}"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["protocol"], 2, "too few arguments"),
        (["protocol", "shwo", FEW], 2, "did you mean 'show'?"),
        (["protocol", "show"], 2, "protocol show needs a protocol's id"),
        (["protocol", "show", "landmarks/toyfaces/fwe@1"], 2, f"did you mean '{FEW}'"),
        (["protocol", "show", "../../../etc/passwd@1"], 2, "expected task/dataset/regime@version"),
        (["protocol", "show", FEW, "--set=a=b"], 2, "--set belongs to protocol new and bump"),
        (["protocol", "new", f"--id={PEOPLE}"], 2, "protocol new needs --from"),
        (["protocol", "new", f"--from={FEW}"], 2, "protocol new needs --id"),
        ([*NEW, "more"], 2, "unexpected 'more'"),
        ([*NEW[:3], f"--id={FEW}"], 2, f"is there already; .* facebench protocol bump {FEW}"),
        ([*NEW[:3], "--id=../x/y@1"], 2, "expected task/dataset/regime@version"),
        ([*NEW[:3], "--id=landmarks/../y@1"], 2, "expected task/dataset/regime@version"),
        ([*NEW[:3], "--id=/tmp/x/y@1"], 2, "expected task/dataset/regime@version"),
        ([*NEW[:3], "--id=landmark/toyfaces/y@1"], 1, "did you mean 'landmarks'"),
        ([*NEW[:3], "--id=recognition/toyfaces/y@1"], 1, "no convention '19-diagonal'|nme"),
        ([*NEW, "--set=seeds"], 2, "expected FIELD=VALUE"),
        ([*NEW, "--set==3"], 2, "expected FIELD=VALUE"),
        ([*NEW, "--set=sedes=[1]"], 1, "unknown field 'sedes': did you mean 'seeds'"),
        ([*NEW, "--set=regimes.budgt=iso-step"], 1, "unknown field 'budgt'"),
        ([*NEW, "--set=regimes.kind=shots"], 1, "0.5 is no whole number"),
        ([*NEW, "--set=metrics.7.chance=1"], 2, "metrics has items 0 to 0, not '7'"),
        ([*NEW, "--set=metrics.nme.chance=1"], 2, "metrics has items 0 to 0, not 'nme'"),
        ([*NEW, "--set=title.x=1"], 2, "title is 'Blobs: landmarks', it has no parts"),
        ([*NEW, "--set=title.x.y=1"], 2, "title is 'Blobs: landmarks', it has no parts"),
        ([*NEW, "--set=cluster="], 2, "there is no 'cluster'"),
        ([*NEW, "--set=id=landmarks/toyfaces/other@1"], 2, "cannot change the id"),
        ([*NEW, "--set=splits=3"], 1, "splits: found 3, expected object"),
        ([*NEW, "--set=splits.test=3"], 1, "splits.test: found 3, expected object"),
        ([*NEW, "--set=metrics=NaN"], 1, "not a JSON value"),
        ([*NEW, "--set=dataset.name=toyface"], 2, "did you mean 'toyfaces'?"),
        (["protocol", "bump", "landmarks/toyfaces/few@2"], 2, f"did you mean '{FEW}'"),
    ],
    ids=lambda x: " ".join(x)[-40:] if isinstance(x, list) else "",
)
def test_a_wrong_word_gets_one_clear_line_and_nothing_is_written(space, capsys, words, code, says):
    before = tree(space)
    got = cli.main(words)
    err = capsys.readouterr().err
    if "recognition/toyfaces/y@1" in words[-1]:  # the draft is one; freezing it is refused
        assert got == 0
        assert cli.main(["protocol", "freeze", "recognition/toyfaces/y@1"]) == 1
        assert re.search(says, capsys.readouterr().err)
        return
    assert got == code, err
    assert re.search(says, err)
    assert len(err.strip().splitlines()) == 1
    assert tree(space) == before


def test_versions_are_numbers_and_drafts_are_edited(space, capsys):
    assert cli.main(["protocol", "bump", FEW]) == 0
    two = "landmarks/toyfaces/few@2"
    capsys.readouterr()
    assert cli.main(["protocol", "bump", two]) == 2
    assert "is a draft that nothing was made under: edit" in capsys.readouterr().err
    assert cli.main(["protocol", "bump", FEW]) == 2
    assert f"is not the latest version; bump {two}" in capsys.readouterr().err
    ten = place(space, "landmarks/toyfaces/few@10")
    files.write_json(ten, files.read_json(place(space, FEW)) | {"id": "landmarks/toyfaces/few@10"})
    assert cli.main(["protocol", "bump", two]) == 2
    assert "bump landmarks/toyfaces/few@10" in capsys.readouterr().err


@pytest.mark.slow
def test_the_budget_is_what_the_protocol_says(space):
    """Twice the samples: the same steps under iso-step, twice as many under iso-epoch."""
    for budget, expected in (("iso-step", [12, 12]), ("iso-epoch", [6, 12])):
        name = f"landmarks/toyfaces/{budget}@1"
        words = ["protocol", "new", f"--from={FEW}", f"--id={name}"]
        assert cli.main([*words, f"--set=regimes.budget={budget}", "--set=seeds=[0]"]) == 0
        assert cli.main(["protocol", "freeze", name]) == 0
        run = ["run", "--config=experiments/landmarks.py", f"--config.protocol={name}"]
        assert cli.main([*run, "--config.execution.log_every=1"]) == 0
        logs = sorted((space / "runs" / name).rglob("metrics.jsonl"))
        assert [len(log.read_text().splitlines()) for log in logs] == expected


def test_the_page_of_a_recognition_protocol_counts_its_gallery(space, capsys):
    assert cli.main(["protocol", "show", "recognition/toyfaces/few@1"]) == 0
    assert "gallery of 5 samples" in capsys.readouterr().out


# ------------------------------------------------------------------------------ unpleasant files


def damage(space: Path, change) -> None:
    path = space / f"leaderboards/subsets/{FEW}.json"
    value = files.read_json(path)
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.update(schema="facebench/subsets-2"), "install a newer facebench"),
        (lambda v: v.update(schema="facebench/record-1"), "not a manifest"),
        (lambda v: v.update(host="me"), "its fields are"),
        (lambda v: v.pop("counts"), "its fields are"),
        (lambda v: v.update(protocol="landmarks/toyfaces/../../x@1"), "not the subsets that"),
        (lambda v: v["subsets"].update({"0.5/0": v["subsets"]["0.5/1"]}), "not the subsets that"),
        (lambda v: next(iter(v["keys"].values())).pop(), "are not those of the digest"),
        (lambda v: next(iter(v["keys"].values())).append("train-00/0"), "are not those of"),
        (lambda v: v["keys"].update({k: [1] for k in v["keys"]}), "no list of texts"),
        (lambda v: v["keys"].update(dict.fromkeys(v["keys"])), "no list of texts"),
        (lambda v: v["keys"].popitem(), "keys: expected one for each subset"),
        (lambda v: v.update(keys=None), "are public: keys missing"),
        (lambda v: v.update(counts=[]), "counts: expected one for each subset"),
        (lambda v: next(iter(v["counts"].values())).update(samples=3), "counts of .* keys"),
        (lambda v: next(iter(v["counts"].values())).update(units=-1), "expected whole numbers"),
        (lambda v: next(iter(v["counts"].values())).update(units=True), "expected whole numbers"),
        (lambda v: next(iter(v["counts"].values())).update(classes=[]), "expected whole numbers"),
        (lambda v: next(iter(v["counts"].values())).update(more=1), "expected whole numbers"),
    ],
)
def test_a_manifest_that_is_not_the_protocols_is_refused(space, capsys, change, says):
    damage(space, change)
    assert cli.main(["protocol", "show", FEW]) == 1
    err = capsys.readouterr().err
    assert re.search(says, err)
    assert len(err.strip().splitlines()) == 1
    assert f"subsets/{FEW}.json" in err


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"schema"', '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 9999, "\xff"]
)
@pytest.mark.parametrize("kind", ["subsets", "protocols"])
def test_a_damaged_file_is_one_clear_line(space, capsys, kind, text):
    (space / f"leaderboards/{kind}/{FEW}.json").write_bytes(text.encode("latin-1"))
    assert cli.main(["protocol", "show", FEW]) == 1
    err = capsys.readouterr().err
    assert f"{FEW}.json: " in err
    assert len(err.strip().splitlines()) == 1


def test_a_damaged_record_stops_a_freeze_by_name(space, repository, capsys):
    record = cite(space, repository, FEW, digest.of_bytes(b"x"))
    record.write_text(record.read_text()[:-40])
    assert cli.main(["protocol", "freeze", FEW]) == 1
    assert "0123456789ab.json: not valid JSON" in capsys.readouterr().err


def test_freezing_again_makes_a_lost_manifest_again(space):
    path = space / f"leaderboards/subsets/{FEW}.json"
    before = path.read_bytes()
    path.unlink()
    assert cli.main(["protocol", "freeze", FEW]) == 0
    assert path.read_bytes() == before
