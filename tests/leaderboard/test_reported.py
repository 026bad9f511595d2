import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from facebench import workspace
from facebench.errors import FacebenchError
from facebench.leaderboard import reported
from facebench.workspace import Workspace


def result(**changes) -> dict:
    return {
        "task": "landmarks",
        "dataset": "wflw",
        "subset": None,
        "metric": "nme",
        "value": "4.02",
        "unit": "%",
        "higher_is_better": False,
        "regime": "full",
        "convention": "98-inter-ocular",
        "selected_on": "unknown",
        "source": {"where": "someone/net: README.md, table 1", "evidence": "repository"},
        "note": "",
    } | changes


def accuracy(**changes) -> dict:
    base = {"task": "expression", "dataset": "raf-db", "metric": "accuracy", "value": "88.1"}
    return result(**base | {"higher_is_better": True, "convention": None} | changes)


def system(*results: dict, **changes) -> dict:
    return {
        "schema": "facebench/reported-1",
        "system": "net",
        "name": "Net, ResNet-50",
        "year": 2024,
        "paper": {"title": "A net", "url": "https://arxiv.org/abs/2400.00001"},
        "code": None,
        "results": list(results) or [result()],
    } | changes


@pytest.fixture
def space(tmp_path) -> Workspace:
    (tmp_path / "WORKSPACE.md").write_text("a toy\n", encoding="utf-8")
    return Workspace(root=tmp_path, data=tmp_path / "data")


def put(space: Workspace, value: dict, name: str = "") -> Path:
    path = reported.folder(space) / f"{name or value['system']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def tables(page: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells, split where a pipe is not escaped."""
    found: list[list[list[str]]] = [[]]
    for line in page.splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            found[-1].append([cell.strip() for cell in cells])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


# -- what is committed ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed(repository) -> Workspace:
    return workspace.find(repository)


@pytest.fixture(scope="module")
def numbers(committed) -> list[reported.Reported]:
    return reported.read(committed)


def test_every_committed_file_is_valid(committed, numbers):
    assert reported.faults(committed) == []
    assert {n.task for n in numbers} == set(reported.TASKS)
    assert len({n.system for n in numbers}) == len(reported.paths(committed)) >= 90
    assert len({n.key for n in numbers}) == len(numbers) >= 450


# Typed from the sources: system, dataset, subset, metric, number as printed, selected on.
SPOTS = """
arcface-r100-ms1mv2-mxnet lfw - accuracy 99.77% unknown
cosface-r100-glint360k ijb-c - tar@far=1e-4 97.55% unknown
partialfc-0.3-r200-webface42m mfr-all - tar@far=1e-6 97.70% unknown
adaface-r100-webface12m tinyface - rank@1 72.29% unknown
adaface-r100-ms1mv2 lfw - accuracy 0.9982 unknown
curricularface-r100-ms1mv2 ijb-b - tar@far=1e-4 94.86% unknown
uniface-r50-casia lfw - accuracy 99.56% unknown
vec2face-hsface300k doppelver - accuracy 90.49% unknown
lafs-part-fvit-webface4m ijb-c - tar@far=1e-4 97.58% unknown
facex-zoo-semi-siamese agedb-30 - accuracy 93.60% test_epoch
facenet ytf - accuracy 95.12% unknown
dan affectnet-8 - accuracy 62.09% test_epoch
poster-v2 raf-db - accuracy 92.21% test_epoch
apvit raf-db - accuracy 91.98% unknown
ssfer affectnet-7 - accuracy 59.08% unknown
vtff ferplus - accuracy 88.81% unknown
mae-dfer dfew - war 74.43% last
s2d-oversampled dfew - uar 65.45% unknown
s4d ferv39k - war 53.65% unknown
me-graphau-r50 disfa - f1 63.1% unknown
fmae-iat-vit-l bp4d - f1 67.1% test_epoch_and_threshold
au-net disfa - f1 66.1% unknown
star 300w challenging nme 4.32% test_epoch
hrnet-w18 wflw pose nme 7.86% test_epoch
adnet cofw - auc@10 0.5317 unknown
slpt-12 wflw - nme 4.128% unknown
farl-b-ep16 aflw-19 full nme 0.943% test_epoch
farl-b-ep16-last-epoch aflw-19 full nme 0.010004124465295293 last
frl-r50-vggface affectnet-va arousal ccc 0.629 unknown
mcf-vit-b aflw-19 full nme 0.932% unknown
"""


@pytest.mark.parametrize("line", SPOTS.split("\n")[1:-1])
def test_committed_numbers_are_those_of_the_sources(numbers, line):
    name, dataset, subset, metric, printed, selected = line.split()
    found = [
        n
        for n in numbers
        if (n.system, n.dataset, n.subset or "-", n.metric) == (name, dataset, subset, metric)
        and n.regime == ("1 %" if name == "ssfer" else n.regime)
    ]
    assert [n.label.replace(" ", "") for n in found] == [printed]
    assert [n.selected_on.replace(" ", "_") for n in found] == [selected]


# Numbers that are told without a source that could be read: they must not have come in.
UNSOURCED = [
    ("transfer", "90.91"),
    ("transfer", "66.23"),
    ("latent-ofer", "89.6"),
    ("eac", "89.64"),
    ("eac", "65.32"),
    ("eac", "88.02"),
    ("apvit", "90.86"),
    ("apvit", "66.91"),
    ("jaa", "62.4"),
    ("frl", "3.20"),
    ("frl", "4.57"),
    ("kd-loss", "8.57"),
    ("3fabrec", "1.84"),
    ("farl", "88.31"),
    ("synfer", "67.23"),
]


@pytest.mark.parametrize(("name", "value"), UNSOURCED)
def test_unsourced_numbers_are_not_there(numbers, name, value):
    assert value not in {n.value for n in numbers if n.system.startswith(name)}


def test_sources_are_public_places(numbers):
    for number in numbers:
        place = number.where
        repository = re.match(r"[\w.-]+/[\w.-]+: \S", place)
        site = re.match(r"[a-z]+\.(com|ai): \S", place)
        assert repository or site or place == "abstract of the paper", place
        assert (place == "abstract of the paper") == (number.evidence == "paper")
        assert ("/logs/" in place or ": logs/" in place) == (number.evidence == "log")


def test_the_committed_page_shows_every_number_and_mixes_nothing(committed, numbers):
    found = tables(reported.page(committed))
    cells = [cell for table in found for row in table[2:] for cell in row]
    shown = sorted(cell[5:-6] for cell in cells if cell.startswith("<sub>"))
    assert shown == sorted(n.label for n in numbers)
    assert len(found) == len({(n.task, n.dataset, n.metric, n.convention) for n in numbers})
    for table in found:
        assert table[0][0] == "reported, not ranked"
        assert len({len(row) for row in table}) == 1


# -- the schema -----------------------------------------------------------------------------------


def changed(path: str, value) -> dict:
    whole = system()
    at = whole
    *before, last = path.split(".")
    for key in before:
        at = at[int(key) if key.isdigit() else key]
    at[last] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("results.0.value", 4.02, r"results\[0\]\.value: found 4.02, expected string"),
        ("results.0.value", "4,02", r"results\[0\]\.value: '4,02' has the wrong form"),
        ("results.0.value", "1e3", r"results\[0\]\.value: '1e3' has the wrong form"),
        ("results.0.value", "NaN", r"results\[0\]\.value: 'NaN' has the wrong form"),
        ("results.0.value", "04", r"results\[0\]\.value: '04' has the wrong form"),
        ("results.0.value", "4.\n", r"results\[0\]\.value: .*has the wrong form"),
        ("results.0.unit", "percent", r"results\[0\]\.unit: 'percent' is not one of its values"),
        ("results.0.task", "landmark", r"results\[0\]\.task: .*did you mean 'landmarks'"),
        ("results.0.selected_on", "best", r"results\[0\]\.selected_on: 'best' is not one"),
        ("results.0.regime", "10 percent", r"results\[0\]\.regime: '10 percent' has the wrong"),
        ("results.0.metric", "fr@1.2.3", r"results\[0\]\.metric: 'fr@1.2.3' has the wrong form"),
        ("results.0.source.evidence", "memory", r"source\.evidence: 'memory' is not one of"),
        ("results.0.source.where", "", r"results\[0\]\.source\.where: ''"),
        ("results.0.source.where", "/tmp/notes.md", r"source\.where: .*has the wrong form"),
        ("results.0.source.where", "a/b: x | y", r"source\.where: .*has the wrong form"),
        ("results.0.extra", 1, r"results\[0\]: unknown field 'extra'"),
        ("results", [], r"results: \[\] breaks minItems"),
        ("paper.url", "http://a.org", r"paper\.url: 'http://a.org' has the wrong form"),
        ("paper.url", "https://a.org/)[x](y", r"paper\.url: .*has the wrong form"),
        ("code", "javascript:alert(1)", r"code: .*has the wrong form"),
        ("system", "Net", r"system: 'Net' has the wrong form"),
        ("year", 24, r"year: 24 breaks minimum"),
        ("schema", "facebench/reported-2", r"later than .*install a newer facebench"),
        ("schema", "facebench/record-1", r"not a reported file"),
    ],
)
def test_the_schema_refuses_by_name(space, path, value, message):
    file = put(space, changed(path, value), "net")
    with pytest.raises(FacebenchError, match=message) as caught:
        reported.read(space)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    assert reported.faults(space) == [str(caught.value)]


@pytest.mark.parametrize("field", sorted(result()))
def test_no_field_of_a_result_can_be_left_out(space, field):
    one = result()
    del one[field]
    put(space, system(one))
    with pytest.raises(FacebenchError, match=rf"results\[0\]: field '{field}' is missing"):
        reported.read(space)


@pytest.mark.parametrize("text", ["", '{"schema": ', '{"a": 1, "a": 2}', '{"a": NaN}', "[]"])
def test_damaged_files_are_refused_with_one_line(space, text):
    path = put(space, system())
    path.write_text(text, encoding="utf-8")
    (line,) = reported.faults(space)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line


# -- what a number must fit -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (result(metric="nmes"), r"results\[0\]\.metric: landmarks has no metric 'nmes': did you"),
        (result(metric="nme@8"), r"results\[0\]\.metric: landmarks has no metric 'nme@8'"),
        (result(metric="tar@far=1e-4"), r"metric: landmarks has no metric 'tar@far=1e-4'"),
        (result(higher_is_better=True), r"higher_is_better: found True, but lower nme is better"),
        (accuracy(higher_is_better=False), r"found False, but higher accuracy is better"),
        (accuracy(value="188.1"), r"value: 188.1 % is outside the range \[0, 100\] of accuracy"),
        (accuracy(value="88.1", unit=""), r"value: 88.1 is outside the range \[0, 1\] of accur"),
        (result(unit=""), r"value: 4.02 is outside the range \[0, 0.5\] of nme"),
        (result(value="-0.1"), r"value: -0.1 % is outside the range"),
        (
            accuracy(task="recognition", dataset="lfw", value="49.9"),
            r"value: 49.9 % is outside the range \[50.0, 100\] of accuracy",
        ),
        (accuracy(metric="ccc", value="0.71"), r"unit: found '%', but ccc is a plain number"),
        (accuracy(value="0.148"), r"value: 0.148 % looks like a fraction with the unit of a per"),
        (result(value="0.0402"), r"value: 0.0402 % looks like a fraction"),
        (result(convention=None), r"convention: is null, but .*68-inter-ocular"),
        (
            result(convention="98-inter-occular"),
            r"no convention '98-inter-occular': did you mean '98-inter-ocular'",
        ),
        (accuracy(convention="98-inter-ocular"), r"expression has no convention"),
    ],
)
def test_numbers_that_do_not_fit_their_metric_are_refused(space, one, message):
    put(space, system(one))
    with pytest.raises(FacebenchError, match=message):
        reported.read(space)


@pytest.mark.parametrize(
    "one",
    [
        result(value="0.0402", unit=""),
        result(metric="fr@10", value="0.20"),
        result(metric="auc@10", value="0.605", unit="", higher_is_better=True),
        accuracy(value="0.148", note="the classes were swapped"),
        accuracy(value="100"),
        accuracy(value="0.881", unit=""),
        accuracy(task="recognition", dataset="lfw", value="50", convention="insightface-10fold"),
        accuracy(metric="rmse", value="0.356", unit="", higher_is_better=False),
        accuracy(task="action_units", metric="icc_3_1", value="-0.2", unit=""),
    ],
)
def test_numbers_that_fit_are_taken_as_printed(space, one):
    put(space, system(one))
    (number,) = reported.read(space)
    assert number.value == one["value"]
    assert reported.faults(space) == []


def test_more_labels_that_do_worse_must_be_explained(space):
    # A board once kept 0.148 with all labels beside 62.06 with a thousand for years.
    few, full = accuracy(regime="10 %", value="62.06"), accuracy(value="14.8")
    put(space, system(few, full))
    with pytest.raises(FacebenchError, match=r"results\[1\]\.value: 14.8 % with full .* 62.06 %"):
        reported.read(space)
    put(space, system(few, full | {"note": "another split"}))
    assert len(reported.read(space)) == 2
    put(space, system(few, full | {"dataset": "ferplus"}))  # another data set is another matter
    assert len(reported.read(space)) == 2
    put(space, system(few, accuracy(regime="50 per class", value="14.8")))  # cannot be compared
    assert len(reported.read(space)) == 2
    put(space, system(result(value="9.0"), result(regime="1 %", value="8.0")))  # lower is better
    with pytest.raises(FacebenchError, match=r"results\[0\]\.value: 9.0 % with full"):
        reported.read(space)
    put(space, system(result(value="8.0"), result(regime="1 %", value="9.0")))
    assert len(reported.read(space)) == 2


def test_the_same_number_cannot_be_reported_twice(space):
    again = result(value="3.99", selected_on="last", note="a later table")
    put(space, system(result(), result(dataset="300w", convention="68-inter-ocular"), again))
    with pytest.raises(FacebenchError, match=r"results\[2\]: the same system.* results\[0\]"):
        reported.read(space)
    for change in (
        {"subset": "pose"},
        {"metric": "fr@10"},
        {"regime": "10 %", "value": "5.0"},
        {"convention": "98-inter-pupil"},
    ):
        put(space, system(result(), result(**change)))
        assert len(reported.read(space)) == 2


def test_a_file_stands_under_its_system_and_nothing_else_stands_there(space, tmp_path):
    put(space, system(), "other")
    (line,) = reported.faults(space)
    assert line.endswith(
        "other.json: system: found 'net', expected 'other', the name of the file; "
        "rename one of them"
    )
    (reported.folder(space) / "other.json").unlink()
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(system(system="link")), encoding="utf-8")
    put(space, system())
    (reported.folder(space) / "link.json").symlink_to(outside)
    (reported.folder(space) / "net.txt").write_text("", encoding="utf-8")
    (reported.folder(space) / "deep").mkdir()
    (reported.folder(space) / "deep" / "net.json").write_text("{}", encoding="utf-8")
    found = [line.removeprefix(f"{reported.folder(space)}/") for line in reported.faults(space)]
    assert found == [
        "deep/net.json: is not at SYSTEM.json; remove it",
        "link.json: is a link; put the file itself there",
        "net.txt: is not at SYSTEM.json; remove it",
    ]


def test_one_fault_does_not_hide_another(space):
    put(space, system(result(unit="m")))
    put(space, system(result(convention=None), system="other"))
    assert len(reported.faults(space)) == 2


# -- rows and page --------------------------------------------------------------------------------


def test_nothing_reported_is_no_page(space):
    assert reported.page(space) == ""
    assert reported.read(space) == reported.rows(space, "landmarks", "wflw") == []
    assert reported.faults(space) == []


def test_rows_of_one_dataset(space):
    put(space, system(result(), result(dataset="cofw", convention="29-inter-pupil"), accuracy()))
    (row,) = reported.rows(space, "expression", "raf-db")
    assert (row.system, row.label, row.where) == (
        "net",
        "88.1 %",
        "someone/net: README.md, table 1",
    )
    assert [n.convention for n in reported.rows(space, "landmarks", "cofw")] == ["29-inter-pupil"]
    assert reported.rows(space, "landmarks", "raf-db") == []


def test_numbers_are_compared_exactly(space):
    put(space, system(accuracy(value="96.0"), accuracy(dataset="ferplus", value="0.96", unit="")))
    first, second = reported.read(space)
    assert first.fraction == second.fraction
    assert [first.label, second.label] == ["0.96", "96.0 %"]


def test_trailing_zeros_stay(space):
    put(space, system(accuracy(value="96")))
    put(space, system(accuracy(value="96.0"), system="other"))
    page = reported.page(space)
    assert "<sub>96 %</sub>" in page
    assert "<sub>96.0 %</sub>" in page


def test_conventions_and_metrics_never_share_a_table(space):
    put(
        space,
        system(
            result(value="4.14"),
            result(value="5.81", convention="98-inter-pupil"),
            result(value="2.72", metric="fr@10"),
            result(value="6.96", subset="pose"),
            result(value="9.99", regime="10 %", note="ten per cent"),
        ),
    )
    found = tables(reported.page(space))
    numbers = [[c for row in t[2:] for c in row if c.startswith("<sub>")] for t in found]
    assert numbers == [
        ["<sub>2.72 %</sub>"],
        ["<sub>9.99 %</sub>", "<sub>4.14 %</sub>", "<sub>6.96 %</sub>"],
        ["<sub>5.81 %</sub>"],
    ]
    header, _, few, full = found[1]
    assert header == [
        *("reported, not ranked", "year", "labels", "test", "pose"),
        *("epoch chosen on", "read from", "source", "note"),
    ]
    assert few[2:5] == ["10 %", "<sub>9.99 %</sub>", "–"]
    assert full[2:5] == ["full", "<sub>4.14 %</sub>", "<sub>6.96 %</sub>"]
    assert full[-2:] == ["`someone/net: README.md, table 1`", "–"]
    page = reported.page(space)
    assert "Convention: `98-inter-pupil`." in page
    assert "# Reported numbers: not ranked" in page
    assert "none of them is ranked" in page


def test_the_order_of_rows_does_not_depend_on_the_numbers(space):
    def names(first: str, second: str) -> list[str]:
        put(space, system(accuracy(value=first), system="zeta", name="Zeta", year=2020))
        put(space, system(accuracy(value=second), system="alpha", name="Alpha", year=2021))
        return [re.sub(r"\W.*", "", row[0][1:]) for row in tables(reported.page(space))[0][2:]]

    assert names("80", "90") == names("90", "80") == ["Zeta", "Alpha"]


def test_text_is_shown_and_not_obeyed(space):
    name, note = "a|b <script>x</script> [c](d) *e* `f` _g_ \\", "1 < 2 & 3 | `code` ![i](j)"
    put(space, system(result(note=note), name=name, paper={"title": None, "url": None}))
    page = reported.page(space)
    (table,) = tables(page)
    assert {len(row) for row in table} == {7}
    assert "2 &amp; 3" in page
    for cell, text in ((table[2][0], name), (table[2][-1], note)):
        plain = re.sub(r"\\(.)", r"\1", cell).replace("&amp;", "&")
        assert plain == text
        assert not re.search(r"(?<!\\)(\\\\)*[<>\[\]*`_|]", cell)


def test_the_page_depends_on_the_files_alone(committed, tmp_path, monkeypatch):
    page = reported.page(committed)
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, what: reversed(list(glob(self, what))))
    assert reported.page(committed) == page
    monkeypatch.undo()
    copied = tmp_path / "leaderboards" / "reported"
    shutil.copytree(reported.folder(committed), copied)
    for path in copied.iterdir():  # the order of keys and results must not matter
        value = json.loads(path.read_text(encoding="utf-8"))
        value["results"] = value["results"][::-1]
        path.write_text(json.dumps(dict(reversed(value.items()))), encoding="utf-8")
    (tmp_path / "WORKSPACE.md").write_text("a copy\n", encoding="utf-8")
    script = (
        "import sys, pathlib\nfrom facebench import workspace\n"
        "from facebench.leaderboard import reported\n"
        "sys.stdout.buffer.write(reported.page(workspace.find(pathlib.Path(sys.argv[1]))).encode())"
    )
    for seed, zone in (("0", "UTC"), ("4242", "Pacific/Auckland")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"}
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], env=env, capture_output=True, check=True
        )
        assert done.stdout == page.encode()
