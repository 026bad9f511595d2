"""The committed leaderboards, followed by the commands that docs/judging.md gives."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facebench import cli, config, protocol
from facebench.leaderboard import judge, record
from facebench.workspace import Workspace

RECORD = "feab51e7b76b"
PROTOCOL = "landmarks/synthface/fractions@1"


def blocks(repository: Path) -> list[str]:
    return re.findall(
        r"^```sh\n(.*?)^```", (repository / "docs/judging.md").read_text(), re.M | re.S
    )


@pytest.fixture(scope="module")
def checkout(repository, tmp_path_factory) -> Path:
    """A copy of what is committed, without data; `facebench` and `python` are commands there."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("leaderboards", "experiments", "datasets"):
        shutil.copytree(repository / name, root / name)
    shutil.copy(repository / "WORKSPACE.md", root)
    (root / "bin").mkdir()
    for name, words in (("facebench", "-m facebench "), ("python", "")):
        script = root / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        script.chmod(0o755)
    return root


def shell(root: Path, text: str, **more: str) -> subprocess.CompletedProcess:
    keep = {k: v for k, v in os.environ.items() if not k.startswith("FACEBENCH_")}
    path = f"{root / 'bin'}{os.pathsep}{keep['PATH']}"
    search = str(Path(cli.__file__).parents[1])
    return subprocess.run(
        ["bash", "-e", "-c", text],
        cwd=root,
        env=keep | {"PATH": path, "PYTHONPATH": search} | more,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_block_of_the_page_runs(repository, checkout):
    found = blocks(repository)
    assert len(found) >= 9
    said = []
    for block in found:
        done = shell(checkout, block)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    text = "\n".join(said)
    assert f"sha256:{RECORD}" in text
    n = len(list((repository / "leaderboards/records").rglob("*.json")))
    assert f"{n} records, 0 differ" in text
    assert f"{n} records checked, 0 problems" in text
    assert "Nothing was written" in text  # the plan of the record's experiment
    # the formula's four numbers are those of the record
    value = json.loads(
        (checkout / f"leaderboards/records/{PROTOCOL}/convnet-s/{RECORD}.json").read_text()
    )
    printed = re.search(r"\[\s*([\d.]+(?:\s+[\d.]+){3})\s*\]", text)[1].split()
    claimed = [t["metrics"]["nme"] for t in value["trials"]]
    assert [float(x) for x in printed] == pytest.approx(claimed, rel=1e-7)


def test_the_page_names_only_what_is_committed(repository):
    text = (repository / "docs/judging.md").read_text()
    for digits in set(re.findall(r"\b[0-9a-f]{12}\b", text)):
        assert list((repository / "leaderboards").rglob(f"{digits}.*")), digits
    usage = set(re.findall(r"(?:^|`)facebench ([a-z]+)", text, re.M))
    assert usage <= set(cli.VERBS)


def test_the_experiment_of_every_record_is_that_record(repository, tmp_path, capsys):
    ws = Workspace(root=repository, data=repository / "data")
    for path in record.paths(ws):
        said = json.loads(path.read_text())
        words = ["explain", path.stem, "--experiment", f"--workspace={repository}"]
        assert cli.main(words) == 0
        file = tmp_path / f"{path.stem}.py"
        file.write_text(capsys.readouterr().out)
        assert config.load(str(file)).digest == said["config"]["digest"]


@pytest.mark.slow
def test_the_cells_of_the_committed_boards_are_explained(repository, capsys):
    """Of every board each entry's first cell, and of its first entry all of them."""
    ws = Workspace(root=repository, data=repository / "data")
    for name in protocol.names(ws):
        of = protocol.load(ws, name)
        cells = [(value, m["name"]) for value in of.regimes["values"] for m in of.metrics]
        for i, folder in enumerate(sorted((ws.records / name).glob("*"))):
            paths = sorted(folder.glob("*.json"))
            trials = [t for path in paths for t in json.loads(path.read_text())["trials"]]
            for value, metric in cells if i == 0 else cells[:1]:
                words = ["explain", name, folder.name, metric, str(value), "--json"]
                assert cli.main([*words, f"--workspace={repository}"]) == 0
                found = json.loads(capsys.readouterr().out)
                claimed = [t["metrics"][metric] for t in trials if t["regime"]["value"] == value]
                assert found["score"]["seeds"] == pytest.approx(claimed, abs=1e-9)


def test_the_same_bytes_in_two_processes(checkout):
    words = f"facebench explain {PROTOCOL} convnet-s --group=visible --json"
    words += f"; facebench diff {PROTOCOL} convnet-s mean-shape; facebench explain {PROTOCOL}"
    settings = (
        {"PYTHONHASHSEED": "1", "TZ": "Asia/Kolkata", "LC_ALL": "C", "COLUMNS": "40"},
        {"PYTHONHASHSEED": "2", "TZ": "UTC", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"},
    )
    first, second = (shell(checkout, words, PYTHONIOENCODING="utf-8", **more) for more in settings)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert "\x1b" not in first.stdout


def test_reproduce_says_what_to_prepare(checkout, capsys):
    for digits, name in ((RECORD, "synthface"), ("d51a1184f312", "orl")):
        assert cli.main(["reproduce", digits, f"--workspace={checkout}"]) == 1
        said = capsys.readouterr().err
        assert f"dataset {name}/" in said
        assert "1.0.0 is not prepared here" in said
        assert "facebench data prepare" in said or "this release's builder makes" in said
    assert not (checkout / "data").exists()


def test_a_subgroup_of_the_committed_record_by_the_formula(repository, tmp_path, capsys):
    ws = Workspace(root=repository, data=repository / "data")
    of = protocol.load(ws, PROTOCOL)
    true = judge.load_targets(ws, of)["points"].astype(np.float64)
    by = np.arange(len(true)) % 3
    np.save(tmp_path / "third.npy", by)
    words = ["explain", RECORD, f"--group={tmp_path / 'third.npy'}", "--json"]
    assert cli.main([*words, f"--workspace={repository}"]) == 0
    found = json.loads(capsys.readouterr().out)["groups"]["parts"]
    (path,) = (p for p in record.paths(ws) if p.stem == RECORD)
    points = record.read_bundle(ws, record.read(ws, path))["points"][2:] / 256
    errors = np.linalg.norm(points - true, axis=-1).mean(-1)
    errors = 100 * errors / np.linalg.norm(true[:, 36] - true[:, 45], axis=-1)
    for value, part in enumerate(found):
        wanted = errors[:, by == value].mean(axis=1)
        assert part["entries"][0]["seeds"] == pytest.approx(wanted.tolist(), abs=1e-9)
