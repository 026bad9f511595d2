"""From a cell to what is behind it: the board's own numbers, and others by brute force."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facebench import cli, config, explain, protocol
from facebench.errors import FacebenchError, UsageError
from facebench.explain import group, question, recipe, shelf, text
from facebench.leaderboard import derived, judge, record
from facebench.metrics import landmarks as points_metrics
from facebench.schemes import SCHEMES

from .conftest import LANDMARKS, RECOGNITION


@pytest.fixture
def of(full):
    return shelf.Shelf(full.space, LANDMARKS)


def cell(of, entry, metric=None, value=1.0, convention=None, field=None):
    asked = question.ask(of.protocol, metric, convention)
    return explain.cell(of, of.entry(entry), asked, value, field)


def errors(of, entry, value, convention="68-inter-ocular"):
    """(seeds, n) errors of each image in per cent, from the stored arrays by the formula."""
    path = record.paths(of.ws, of.protocol.id, entry)[0]
    said = record.read(of.ws, path)
    true = judge.load_targets(of.ws, of.protocol)["points"]
    lengths = {
        "68-inter-ocular": np.linalg.norm(true[:, 36] - true[:, 45], axis=1),
        "68-inter-pupil": np.linalg.norm(
            true[:, 36:42].mean(axis=1) - true[:, 42:48].mean(axis=1), axis=1
        ),
    }
    stored = record.read_bundle(of.ws, said)["points"] / 256
    rows = [i for i, t in enumerate(said["trials"]) if t["regime"]["value"] == value]
    apart = np.linalg.norm(stored[rows] - true, axis=-1).mean(axis=-1)
    return 100 * apart / lengths[convention]


@pytest.mark.parametrize("name", [LANDMARKS, RECOGNITION])
def test_the_cell_is_the_boards(full, name):
    of = shelf.Shelf(full.space, name)
    kept = json.loads(derived.place(full.space, name).read_text())["entries"]
    first = of.board.ranked[0].entry
    for row in of.board.ranked:
        found = cell(of, row.entry)
        shown = row.cells[of.protocol.primary["name"], 1.0]
        assert found["score"]["mean"] == shown.mean
        assert found["score"]["half_width"] == shown.half_width
        assert found["score"]["seeds"] == list(shown.values)
        ends = kept[row.entry]["sampling"]
        assert [found["sampling"]["low"], found["sampling"]["high"]] == ends
        assert found["board"]["rank"] == kept[row.entry]["rank"]
        if row.entry == first:
            assert len(found["compared"]) == len(of.board.ranked) - 1
            continue
        pair = next(c for c in found["compared"] if c["entry"] == first)
        for key in ("estimate", "low", "high", "p", "adjusted"):
            assert pair[key] == pytest.approx(kept[row.entry]["first"][key], rel=1e-8)
        assert pair["verdict"] == ("tie" if kept[row.entry]["first"]["tie"] else "worse")
        back = next(c for c in cell(of, first)["compared"] if c["entry"] == row.entry)
        assert back["verdict"] == ("tie" if kept[row.entry]["first"]["tie"] else "better")


def test_trials_and_what_they_were_made_of(of):
    found = cell(of, "small-net", value=0.1)
    assert [t["seed"] for t in found["trials"]] == [0, 1]
    assert all(t["recorded"] == pytest.approx(t["score"], abs=1e-9) for t in found["trials"])
    said = record.read(of.ws, record.paths(of.ws, LANDMARKS, "small-net")[0])
    rows = [t for t in said["trials"] if t["regime"]["value"] == 0.1]
    for trial, row in zip(found["trials"], rows, strict=True):
        for key in ("trial_id", "subset_digest", "weights", "parameters", "time"):
            assert trial[key] == row[key]
        assert row["subset_digest"] == of.protocol.subsets[f"0.1/{trial['seed']}"]
    assert found["cost"]["seconds"]["train_s"] == pytest.approx(2.0)  # 1.5 and 2.5
    assert found["digests"]["records"] == [said["record_id"]]
    assert all((of.ws.root / p).is_file() for p in found["files"]["records"])
    assert all((of.ws.root / p).is_file() for p in found["files"]["predictions"])
    assert (of.ws.root / found["files"]["targets"]).is_file()


@pytest.mark.parametrize("convention", ["68-inter-ocular", "68-inter-pupil"])
@pytest.mark.parametrize("metric", ["nme", "fr@8", "fr@6.5", "auc@8"])
def test_any_metric_of_old_records(of, metric, convention):
    known = errors(of, "small-net", 1.0, convention)
    stem, _, level = metric.partition("@")
    wanted = {
        "nme": lambda e: e.mean(axis=1),
        "fr": lambda e: 100 * (e > float(level)).mean(axis=1),
        "auc": lambda e: 100 * np.maximum(0, 1 - e / float(level)).mean(axis=1),
    }[stem](known)
    found = cell(of, "small-net", metric, convention=convention)
    assert found["score"]["seeds"] == pytest.approx(wanted.tolist(), abs=1e-9)
    assert found["recorded"] == (metric == "nme" and convention == "68-inter-ocular")
    asked = question.ask(of.protocol, metric, convention)
    table = explain.table(of, asked, None)
    mine = next(row for row in table["rows"] if row["entry"] == "small-net")
    assert mine["scores"][-1]["mean"] == found["score"]["mean"]
    ten = errors(of, "small-net", 0.1, convention)
    if metric == "nme":
        assert mine["scores"][0]["mean"] == pytest.approx(ten.mean(), abs=1e-9)
    means = [row["scores"][-1]["mean"] for row in table["rows"]]
    assert means == sorted(means, reverse=stem == "auc")
    if metric == "fr@6.5":  # the judge keeps sums at the usual thresholds only
        assert mine["sampling"] is None
        assert table["unit"] is None
    else:
        low, high = mine["sampling"]
        assert low <= mine["scores"][-1]["mean"] <= high


def test_worst_units_and_regions(of):
    known = errors(of, "small-net", 1.0).mean(axis=0)
    found = cell(of, "small-net")["worst"]
    order = sorted(range(12), key=lambda u: -known[u])
    assert [u["unit"] for u in found["units"]] == order
    assert [u["score"] for u in found["units"]] == pytest.approx(known[order].tolist(), abs=1e-6)
    (regions,) = found["lists"].values()
    assert [r["name"] for r in regions] == list(SCHEMES[68].regions)
    sizes = [len(points) for points in SCHEMES[68].regions.values()]
    whole = sum(r["score"] * n for r, n in zip(regions, sizes, strict=True)) / 68
    assert whole == pytest.approx(known.mean(), abs=1e-9)


def test_groups_by_a_file_and_by_an_array(of, tmp_path):
    known = errors(of, "small-net", 1.0)
    by = np.array(list("aabbccaabbcc"))
    np.save(tmp_path / "lighting.npy", by)
    found = cell(of, "small-net", field=str(tmp_path / "lighting.npy"))["groups"]
    assert found["field"] == "lighting"
    assert [p["part"] for p in found["parts"]] == [f"lighting = {x}" for x in "abc"]
    for part, name in zip(found["parts"], "abc", strict=True):
        assert part["samples"] == 4
        (entry,) = part["entries"]
        assert entry["seeds"] == pytest.approx(known[:, by == name].mean(axis=1), abs=1e-9)
        assert entry["sampling"][0] <= entry["mean"] <= entry["sampling"][1]
    by_unit = cell(of, "small-net", field="unit")["groups"]["parts"]
    assert [p["entries"][0]["mean"] for p in by_unit] == pytest.approx(known.mean(axis=0).tolist())
    assert by_unit[0]["entries"][0]["sampling"] is None  # of one unit
    (whole,) = cell(of, "small-net", field="visible")["groups"]["parts"]
    assert (whole["part"], whole["samples"]) == ("visible = all", 12)


def test_fractions_are_cut_into_quarters(of, tmp_path):
    yaw = np.random.default_rng(3).permutation(np.linspace(-1, 1, 12))
    many = np.repeat(yaw, 2)[::2] + 1e-3 * np.arange(12)
    many = np.concatenate([many, many + 0.01])
    names, of_row = group._labelled(many)
    assert len(names) == 4
    assert np.bincount(of_row).tolist() == [6, 6, 6, 6]
    assert all(many[of_row == i].max() < many[of_row == i + 1].min() for i in range(3))
    names, of_row = group._labelled(yaw)  # twelve values: each its own
    assert len(names) == 12


def test_recognition_by_group_is_the_metric_of_its_people_alone(full, tmp_path):
    of = shelf.Shelf(full.space, RECOGNITION)
    by = np.repeat([0, 0, 1], 4)  # two people and one, of twelve samples
    np.save(tmp_path / "who.npy", by)
    parts = cell(of, "pixels", field=str(tmp_path / "who.npy"))["groups"]["parts"]
    targets = judge.load_targets(full.space, of.protocol)
    trial = next(iter(of.entry("pixels").trials.values()))
    similarity = of.predictions(trial)["similarity"]
    right = targets["gallery_identity"][similarity.argmax(axis=1)] == targets["probe_identity"]
    probes = np.setdiff1d(np.arange(12), [0, 4, 8])
    for value, part in enumerate(parts):
        assert part["entries"][0]["seeds"][0] == right[by[probes] == value].mean()
    # pairs within the two people alone
    eer = cell(of, "pixels", "eer", field=str(tmp_path / "who.npy"))["groups"]["parts"]
    i, j = np.triu_indices(12, 1)
    kept = (by[i] == 0) & (by[j] == 0)
    score = of.predictions(trial)["score"]
    alone = judge.metrics.score(
        "recognition", {"score": score[kept]}, {"same": targets["same"][kept]}
    )
    assert eer[0]["entries"][0]["seeds"][0] == pytest.approx(alone["eer"])
    # of one person there is no pair of two
    assert "no value" in eer[1]["fault"]


def test_the_experiment_asks_the_same(full, tmp_path):
    semantic = config.load(str(write(tmp_path, "config.optim.milestones = (0.3, 0.6)"))).semantic
    source = recipe.experiment(semantic, "sha256:" + "ab" * 32)
    (tmp_path / "again.py").write_text(source)
    again = config.load(str(tmp_path / "again.py"))
    assert again.semantic == semantic
    paths = [path for path, _ in recipe.overrides(semantic)]
    assert paths[:3] == ["entry", "protocol", "model.widths"]
    assert "optim.momentum" not in paths  # a default
    probe = dict(semantic, probe={"build": "pca", "components": 7})
    for key in ("model", "optim", "train"):
        probe.pop(key)
    probe["data"] = {"batch_size": 64}
    (tmp_path / "probe.py").write_text(recipe.experiment(probe, "sha256:" + "ab" * 32))
    assert config.load(str(tmp_path / "probe.py")).semantic == probe
    lines = recipe.differences(semantic, probe)
    assert "probe.components (absent) -> 7" in lines
    assert not any("momentum" in line for line in lines)


def write(folder, line):
    file = folder / "made.py"
    file.write_text(
        "from facebench.config import base\n\n\ndef get_config(arg=''):\n    config = base()\n"
        "    config.entry = 'some-net'\n    config.protocol = 'landmarks/toy/fractions@1'\n"
        f"    config.model.widths = [8, 16]\n    {line}\n    return config\n"
    )
    return file


def test_names_are_found_as_people_write_them(full):
    ws = full.space
    assert shelf.find_protocol(ws, "landmarks/toy/fractions") == LANDMARKS
    with pytest.raises(UsageError, match="did you mean 'landmarks/toy/fractions@1'"):
        shelf.find_protocol(ws, "landmarks/toy/fraction@1")
    of = protocol.load(ws, LANDMARKS)
    for word in ("0.1", "10%", ".1", "10.0%"):
        assert shelf.find_value(of, word) == 0.1
    for word in ("1", "1.0", "100%", "full"):
        assert shelf.find_value(of, word) == 1.0
    with pytest.raises(UsageError, match=r"no regime value '0.2': there are 0.1, 1.0"):
        shelf.find_value(of, "0.2")
    path = record.paths(ws, LANDMARKS, "small-net")[0]
    assert shelf.find_record(ws, path.stem[:7]) == path
    assert shelf.find_record(ws, f"sha256:{path.stem}") == path
    assert shelf.find_record(ws, LANDMARKS) is None
    with pytest.raises(UsageError, match="no record begins with"):
        shelf.find_record(ws, "abcdef012345")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["landmark/toy/fractions@1"], 2, "did you mean 'landmarks/toy/fractions@1'"),
        ([LANDMARKS, "smal-net"], 2, "did you mean 'small-net'"),
        ([LANDMARKS, "small-net", "nm"], 2, "did you mean 'nme'"),
        ([LANDMARKS, "small-net", "0.3"], 2, "no regime value '0.3'"),
        ([LANDMARKS, "small-net", "nme", "--metric=fr@8"], 2, "two of the same"),
        ([LANDMARKS, "--convention=68-interocular"], 2, "did you mean '68-inter-ocular'"),
        ([LANDMARKS, "small-net", "--group=vissible"], 2, "did you mean 'visible'"),
        ([LANDMARKS, "small-net", "--group=no.npy"], 1, "no such file"),
        ([LANDMARKS, "small-net", "nme_per_point"], 2, "a list or a spread"),
        ([LANDMARKS, "--experiment"], 2, "needs an entry"),
        ([], 2, "too few arguments"),
    ],
)
def test_mistakes_are_said(full, capsys, words, code, says):
    assert cli.main(["explain", *words, f"--workspace={full.root}"]) == code
    assert says in capsys.readouterr().err


def test_group_files_that_do_not_fit(of, tmp_path):
    np.save(tmp_path / "short.npy", np.arange(5))
    np.save(tmp_path / "nan.npy", np.full(12, np.nan))
    np.save(tmp_path / "deep.npy", np.zeros((12, 3)))
    np.save(tmp_path / "evil.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:40])
    for name, says in {
        "short": "5 values; expected one for each of 12 test samples",
        "nan": "NaN or infinity, first in row 0",
        "deep": "expected one number or text",
        "evil": "not a readable .npy",
        "cut": "not a readable .npy",
    }.items():
        with pytest.raises(FacebenchError, match=says):
            cell(of, "small-net", field=str(tmp_path / f"{name}.npy"))


def test_a_diverged_seed_and_a_missing_one(full):
    of = protocol.load(full.space, LANDMARKS)
    full.record(of, "fragile", 1.0, diverged=("1.0/1",))
    made = shelf.Shelf(full.space, LANDMARKS)
    found = cell(made, "fragile")
    assert found["score"]["mean"] is None
    assert found["sampling"] is None
    assert [t["status"] for t in found["trials"]] == ["ok", "diverged"]
    assert "1 of 2 diverged" in text.cell(made.protocol, found)
    rates = cell(made, "fragile", "fr@8")  # its worst value is 100 %
    assert rates["score"]["seeds"][1] == 100
    json.dumps(found, allow_nan=False)


def test_a_part_of_the_trials_is_explained_and_not_ranked(full, capsys):
    of = protocol.load(full.space, LANDMARKS)
    whole = full.record(of, "in-parts", 1.1)
    full.part(whole, [0, 1, 2])  # 0.1/0, 0.1/1, 1.0/0
    made = shelf.Shelf(full.space, LANDMARKS)
    found = cell(made, "in-parts")
    assert found["board"]["rank"] is None
    assert found["board"]["fault"] == "missing 1.0/1"
    assert found["compared"] is None
    assert found["score"]["half_width"] is None
    out = text.cell(made.protocol, found)
    assert "not ranked: missing 1.0/1" in out
    assert "one seed says nothing of others" in out
    table = explain.table(made, question.ask(of, None, None), None)
    assert table["left_out"] == {"in-parts": "missing 1.0/1"}
    with pytest.raises(FacebenchError, match="no trial at"):
        cell(made, "in-parts", value=0.5)


def test_two_records_of_one_entry_are_one_cell(full):
    whole = cell(shelf.Shelf(full.space, LANDMARKS), "small-net")
    path = record.paths(full.space, LANDMARKS, "small-net")[0]
    said = path.read_bytes()
    bundle = record.bundle_place(full.space, json.loads(said))
    evidence = bundle.read_bytes()
    full.part(path, [0, 1])  # 0.1
    first = record.paths(full.space, LANDMARKS, "small-net")[0]
    held = first.read_bytes()
    path.write_bytes(said)
    bundle.write_bytes(evidence)
    full.part(path, [2, 3])  # 1.0
    first.write_bytes(held)
    made = shelf.Shelf(full.space, LANDMARKS)
    found = cell(made, "small-net")
    assert len(found["files"]["records"]) == 2
    assert found["score"] == whole["score"]
    assert found["sampling"] == whole["sampling"]
    assert found["worst"] == whole["worst"]
    other = cell(made, "small-net", value=0.1)
    assert other["trials"][0]["record"] != found["trials"][0]["record"]
    assert other["trials"][0]["record"].rpartition("/")[2] in other["commands"][0]["command"]


def test_a_retracted_record_is_named_with_its_reason(full, capsys):
    path = record.paths(full.space, LANDMARKS, "other-net")[0]
    said = json.loads(path.read_text())
    value = {
        "schema": "facebench/retraction-1",
        "record": said["record_id"],
        "reason": "bug",
        "note": "trained on test images",
        "by": "the authors",
    }
    folder = full.space.leaderboards / "retractions"
    folder.mkdir()
    (folder / f"{path.stem}.json").write_text(json.dumps(value))
    flag = f"--workspace={full.root}"
    assert cli.main(["explain", LANDMARKS, "other-net", flag]) == 1
    assert "retracted (bug): trained on test images" in capsys.readouterr().err
    assert cli.main(["explain", path.stem, flag]) == 0  # what it claimed can still be looked at
    assert "not ranked: retracted" in capsys.readouterr().out


def test_without_labels_what_is_recorded_is_shown_and_nothing_else(full):
    full.space.targets(RECOGNITION, False).unlink()
    of = shelf.Shelf(full.space, RECOGNITION)
    found = cell(of, "net")
    assert found["score"]["mean"] is not None
    assert found["worst"] is None
    assert "labels are not here" in text.cell(of.protocol, found)
    with pytest.raises(judge.MissingTargetsError, match="facebench data prepare"):
        cell(of, "net", "tar@far=0.2")


def test_a_damaged_bundle_is_not_explained(full):
    of = shelf.Shelf(full.space, LANDMARKS)
    said = record.read(full.space, record.paths(full.space, LANDMARKS, "small-net")[0])
    place = record.bundle_place(full.space, said)
    place.write_bytes(place.read_bytes()[:-40])
    with pytest.raises(FacebenchError, match=place.name):
        cell(of, "small-net")


def test_the_text_fits_and_is_the_same_for_a_pipe(full, capsys):
    for name in (LANDMARKS, RECOGNITION):
        for words in (
            [],
            ["--group=unit"],
            ["net" if name == RECOGNITION else "small-net", "--group=unit"],
        ):
            if name == RECOGNITION:  # its labels have no units
                words = [word for word in words if word != "--group=unit"]
            assert cli.main(["explain", name, *words, f"--workspace={full.root}"]) == 0
            out = capsys.readouterr().out
            assert "\x1b" not in out
            long = [x for x in out.splitlines() if len(x) > 100 and str(full.root) not in x]
            assert not long


def test_of_many_parts_the_worst_are_shown(of, monkeypatch):
    monkeypatch.setattr(text, "MOST", 3)
    found = cell(of, "small-net", field="unit")
    lines = text._groups(found["groups"], found["metric"])
    known = errors(of, "small-net", 1.0).mean(axis=0)
    worst = sorted(range(12), key=lambda u: -known[u])[:3]
    assert [line.split()[2] for line in lines[1:4]] == [str(u) for u in worst]
    assert lines[4:] == ["  the worst 3 of 12 parts; --json has all"]


def test_json_is_strict_and_holds_every_unit(full, capsys):
    words = ["explain", LANDMARKS, "small-net", "--json", f"--workspace={full.root}"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "facebench/explain-1"
    assert len(found["worst"]["units"]) == 12
    assert str(full.root) not in json.dumps({k: v for k, v in found.items() if k != "commands"})
    assert points_metrics.AXES == ("point",)
