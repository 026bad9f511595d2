"""The append-only gate, in real repositories: what was committed as evidence is only added to."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from facebench import cli, digest, files, leaderboard
from facebench.leaderboard import attestation, gate, record, trial

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")


def _boards():
    """The small workspaces of the board tests."""
    path = Path(__file__).parents[1] / "leaderboard/conftest.py"
    spec = importlib.util.spec_from_file_location("small_boards", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LANDMARKS, Toy = _boards().LANDMARKS, _boards().Toy


def git(root, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        ["git", *who, "-C", str(root), *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(root, message="more"):
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)


def retract(space, path, reason):
    value = {
        "schema": "facebench/retraction-1",
        "record": json.loads(path.read_text())["record_id"],
        "reason": reason,
        "note": "",
        "by": "us",
    }
    files.write_json(space.leaderboards / f"retractions/{path.name}", value)


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A repository with a protocol, its labels, a record, a retracted one and a manifest."""
    toy = Toy(tmp_path_factory.mktemp("gate") / "space")
    of = toy.freeze(toy.landmark_draft(), toy.landmark_targets())
    toy.freeze(toy.landmark_draft() | {"id": "landmarks/toy/fractions@2"}, toy.landmark_targets())
    path = toy.record(of, "net", 1.0)
    old = toy.record(of, "old-net", 2.0)
    retract(toy.space, old, "bug")
    files.write_text(toy.space.leaderboards / f"subsets/{of.id}.json", "{}\n")
    folder, again = trial.listing(toy.space, of.id, "net")[0]
    fresh = trial.predictions(folder, again)
    attestation.attest(toy.space, of, path, "0.1/0", again, fresh)
    shutil.rmtree(toy.space.runs)
    leaderboard.write(toy.space)
    git(toy.root, "init", "-q", "-b", "main")
    commit(toy.root)
    return toy.root


@pytest.fixture
def toy(committed, tmp_path):
    shutil.copytree(committed, tmp_path / "space")
    return Toy(tmp_path / "space")


def one(toy, folder, pattern="*"):
    return next(p for p in sorted((toy.space.leaderboards / folder).rglob(pattern)) if p.is_file())


def lines(toy, revision="main"):
    before = toy.snapshot()
    found = gate.against(toy.space, revision)
    assert toy.snapshot() == before
    return found


EVIDENCE = [
    ("records", "*.json"),
    ("predictions", "*.npz"),
    ("attestations", "*.json"),
    ("retractions", "*.json"),
    ("protocols", "*@1.json"),
    ("targets", "*@1.npz"),
    ("subsets", "*@1.json"),
]


def test_nothing_changed_and_things_added_are_fine(toy):
    assert lines(toy) == []
    from facebench import protocol

    toy.record(protocol.load(toy.space, LANDMARKS), "third-net", 3.0)
    retract(toy.space, one(toy, "records", "*.json"), "bug")
    assert lines(toy) == []
    commit(toy.root)
    assert lines(toy, "main~1") == []


@pytest.mark.parametrize(("folder", "pattern"), EVIDENCE)
@pytest.mark.parametrize("how", ["changed", "deleted", "renamed", "linked", "folded"])
def test_what_is_committed_is_not_touched(toy, folder, pattern, how):
    path = one(toy, folder, pattern)
    data = path.read_bytes()
    if how == "changed":
        path.write_bytes(data + b"\n")
    elif how == "deleted":
        path.unlink()
    elif how == "renamed":
        path.rename(path.with_name(f"x{path.name}"))
    elif how == "linked":
        path.rename(toy.root / "elsewhere")
        path.symlink_to(toy.root / "elsewhere")
    else:
        path.parent.rename(toy.root / "elsewhere")
        path.parent.symlink_to(toy.root / "elsewhere")
    found = lines(toy)
    assert any(line.startswith(f"{path}: ") and "since main" in line for line in found), found
    # Committed or not makes no difference.
    commit(toy.root)
    assert any(line.startswith(f"{path}: ") for line in lines(toy, "HEAD~1"))


def test_boards_drafts_and_uncited_protocols_may_change(toy):
    (toy.space.leaderboards / "README.md").write_text("other")
    one(toy, "protocols", "*@2.json").write_text("{}")
    one(toy, "targets", "*@2.npz").unlink()
    assert lines(toy) == []


def test_a_takedown_removes_predictions_and_nothing_else(toy):
    path = next(toy.space.records.glob("*/*/*/old-net/*.json"))
    bundle = record.bundle_place(toy.space, json.loads(path.read_text()))
    data = bundle.read_bytes()
    bundle.unlink()
    assert len(lines(toy)) == 1  # it was retracted for a bug
    for reason, allowed in (("consent", True), ("fabricated", False)):
        other = one(toy, "retractions")
        other.unlink()
        retract(toy.space, path, reason)
        assert any("predictions" in line for line in lines(toy)) != allowed
    retract(toy.space, path, "licence")
    bundle.write_bytes(data[:-1])
    assert any("was changed" in line and "predictions" in line for line in lines(toy))


def test_the_command_says_it(toy, capsys, monkeypatch):
    words = ["leaderboard", "check", f"--workspace={toy.root}"]
    one(toy, "subsets").unlink()  # a stand-in that is no manifest
    commit(toy.root)
    assert cli.main([*words, "--against=main"]) == 0
    one(toy, "records", "*.json").unlink()
    assert cli.main([*words, "--against=main"]) == 1
    assert "was deleted or renamed since main" in capsys.readouterr().out
    assert cli.main([*words, "--against=nosuch"]) == 1
    assert "no such revision" in capsys.readouterr().err
    assert cli.main([*words, "--against=--output=x"]) == 1
    assert cli.main(["leaderboard", "build", f"--workspace={toy.root}", "--against=main"]) == 2
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main([*words, "--against=main"]) == 1
    assert "git cannot be run" in capsys.readouterr().err


def test_outside_a_repository(toy, capsys):
    shutil.rmtree(toy.root / ".git")
    assert cli.main(["leaderboard", "check", f"--workspace={toy.root}", "--against=main"]) == 1
    error = capsys.readouterr().err
    assert "git says: fatal: not a git repository" in error
    assert error.count("\n") == 1


def test_a_workspace_inside_another_repository(toy, tmp_path):
    outer = tmp_path / "outer"
    shutil.copytree(toy.root, outer / "lab", ignore=shutil.ignore_patterns(".git"))
    git(outer, "init", "-q", "-b", "main")
    commit(outer)
    inner = Toy(outer / "lab")
    assert lines(inner) == []
    path = one(inner, "records", "*.json")
    path.unlink()
    assert [line.partition(":")[0] for line in lines(inner)] == [str(path)]


@pytest.mark.slow
def test_boards_do_not_depend_on_hash_seed_time_zone_locale_or_folder_order(toy, tmp_path):
    """Real processes: the built bytes are the same, whatever the machine's habits."""
    shutil.copytree(toy.root, tmp_path / "other")
    other = tmp_path / "other"
    for folder in ("records", "predictions"):  # the same files, created in the other order
        base = other / "leaderboards" / folder
        kept = {p: p.read_bytes() for p in sorted(base.rglob("*")) if p.is_file()}
        shutil.rmtree(base)
        for path in sorted(kept, reverse=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(kept[path])
    shutil.rmtree(other / "leaderboards/derived")
    made = []
    for root, habits in (
        (toy.root, {"PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati", "LANG": "C"}),
        (other, {"PYTHONHASHSEED": "2", "TZ": "America/Lima", "LC_ALL": "tr_TR.UTF-8"}),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "facebench", "leaderboard", "build", f"--workspace={root}"],
            env=os.environ | habits,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        base = root / "leaderboards"
        made.append(
            {
                p.relative_to(base).as_posix(): digest.of_file(p)
                for folder in ("boards", "derived", "exports")
                for p in sorted((base / folder).rglob("*"))
                if p.is_file()
            }
            | {"README.md": digest.of_file(base / "README.md")}
        )
    assert made[0] == made[1]
    assert len(made[0]) > 5
