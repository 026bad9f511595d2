"""The rules of the house, read from the imports: which room may know which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import facebench

PACKAGE = Path(facebench.__file__).parent
GROUND = {
    "action_maps",
    "errors",
    "digest",
    "files",
    "plugins",
    "schemes",
    "tensors",
    "unpickle",
    "workspace",
}

# What each room may import of the project, beside itself and the ground floor.
MAY = {
    **{room: set() for room in ("models", "losses", "probes", "train", "synth", "schema")},
    "formats": set(),
    "config": set(),
    "metrics": set(),
    "protocol": {"schema"},
    "tasks": {"models", "losses"},
    "data": {"protocol"},
    "leaderboard": {"metrics", "protocol", "schema"},
    "score": {"metrics"},
    "pictures": set(),
    "backbones": {"models", "train"},
    "selection": {"data", "leaderboard", "protocol", "train"},
    "experiment": {
        *("backbones", "config", "data", "leaderboard", "models", "plan", "probes", "protocol"),
        *("selection", "tasks", "train"),
    },
    "run": {"config", "experiment", "plan", "protocol", "train"},
    "explain": {"config", "leaderboard", "metrics", "protocol"},
    "diff": {"explain", "leaderboard", "metrics", "protocol"},
    "reproduce": {
        *("config", "data", "experiment", "leaderboard", "metrics", "models", "plan", "protocol"),
        "train",
    },
    "tolerance": {"experiment", "leaderboard", "metrics", "protocol", "reproduce"},
    "interpret": {
        *("config", "convert", "data", "experiment", "leaderboard", "pictures", "plan", "protocol"),
        *("selection", "train", "verb"),
    },
    "plan": {"config", "leaderboard", "protocol"},
    "catalogue": {"data", "leaderboard", "metrics", "models", "probes", "protocol", "tasks"},
    "quickstart": {"data", "leaderboard", "metrics", "pictures", "protocol"},
    "verb": set(),
    "convert": {"leaderboard", "models", "protocol", "train", "verb"},
    "follow": {
        *("diff", "explain", "leaderboard", "protocol", "reproduce", "tolerance", "train", "verb"),
    },
    "cli": {
        *("catalogue", "config", "convert", "follow", "interpret", "leaderboard", "protocol"),
        *("quickstart", "run", "score", "verb"),
    },
    "__main__": {"cli"},
    "__init__": set(),
}
JUDGING = ("digest", "files", "leaderboard", "metrics", "protocol", "schema", "schemes", "score")
HEAVY = {"jax", "jaxlib", "flax", "optax", "orbax", "grain", "tensorflow_datasets", "tensorflow"}

# Foreign libraries of the edge: each is imported in one file.
EDGES = {
    "orbax": {"train/checkpoint.py"},
    "grain": {"data/pipeline.py"},
    "tensorflow_datasets": {"data/source.py"},
    "tensorboardX": {"train/log.py"},
    "ml_collections": {"config.py"},
    "jsonschema": {"schema/__init__.py"},
    "rfc8785": {"digest.py"},
    "safetensors": {"tensors.py"},
    "fsspec": {"leaderboard/store.py"},
}


def room(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports; what stands under `if __name__ == ...` is left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and ("__name__" in ast.unparse(node.test) or "TYPE_CHECKING" in ast.unparse(node.test))
        for child in node.body
        for inner in ast.walk(child)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_what_lies_below_it(path):
    here = room(path)
    assert here in MAY or here in GROUND, f"{here}: a new room: give it a place in MAY"
    for name in imports(path):
        if not name.startswith("facebench."):
            continue
        there = name.split(".")[1]
        if there in ("__version__", here):
            continue
        allowed = GROUND | MAY.get(here, set())
        assert there in allowed, f"{here} must not import {there}"


def test_the_rule_sees_a_forbidden_import(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from facebench.train import loop\n")
    assert list(imports(file)) == ["facebench.train.loop"]


@pytest.mark.parametrize("library", EDGES)
def test_an_edge_library_is_imported_in_one_file(library):
    found = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert found == EDGES[library]


def loaded(code: str) -> set[str]:
    """Top-level modules that are loaded once `code` has run in a fresh process."""
    script = f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", JUDGING)
def test_the_judging_wing_loads_no_jax(module):
    assert not loaded(f"import facebench.{module}") & HEAVY


def test_explaining_loads_no_jax(repository):
    words = ["explain", "landmarks/synthface/fractions@1", "convnet-s", f"--workspace={repository}"]
    code = "import facebench.diff\nfrom facebench.cli import main\n"
    assert not loaded(f"{code}assert main({words!r}) == 0") & HEAVY


def test_the_data_wing_loads_no_jax():
    code = "import facebench.data.pipeline, facebench.data.source, facebench.data.targets"
    assert not loaded(code) & {"jax", "flax"}


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["leaderboard", "build"]])
def test_help_and_boards_load_no_jax(words, tmp_path):
    (tmp_path / "WORKSPACE.md").write_text("# test\n")
    where = [f"--workspace={tmp_path}"] if words[0] == "leaderboard" else []
    code = f"from facebench.cli import main\nassert main({[*words, *where]!r}) == 0"
    assert not loaded(code) & HEAVY


def test_a_plan_loads_no_jax(repository):
    words = ["run", "--config=experiments/landmarks/synthface_convnet.py", "--plan"]
    where = [f"--workspace={repository}"]
    code = f"import os\nos.chdir({str(repository)!r})\n"
    code += f"from facebench.cli import main\nassert main({[*words, *where]!r}) == 0"
    assert not loaded(code) & HEAVY


def test_files_stay_readable():
    long = {str(p.relative_to(PACKAGE)): n for p in FILES if (n := p.read_text().count("\n")) > 500}
    assert not long
