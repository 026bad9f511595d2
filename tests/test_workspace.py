import pytest

from facebench import workspace
from facebench.errors import FacebenchError


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv("FACEBENCH_WORKSPACE", raising=False)
    monkeypatch.delenv("FACEBENCH_DATA", raising=False)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "w" / "a" / "b").mkdir(parents=True)
    (tmp_path / "w" / "WORKSPACE.md").write_text("")
    return tmp_path / "w"


def test_the_nearest_folder_above_is_found(root, monkeypatch):
    assert workspace.find(root / "a" / "b").root == root
    inner = root / "a"
    (inner / "WORKSPACE.md").write_text("")
    assert workspace.find(root / "a" / "b").root == inner
    monkeypatch.chdir(root)
    assert workspace.find().root == root


def test_none_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(FacebenchError, match=r"no workspace here.*--workspace=FOLDER"):
        workspace.find(tmp_path)


def test_environment_and_arguments(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEBENCH_WORKSPACE", str(root / "a"))
    assert workspace.find().data == root / "data"
    monkeypatch.setenv("FACEBENCH_DATA", str(tmp_path / "d"))
    assert workspace.find().data == tmp_path / "d"
    assert workspace.find(data=tmp_path / "e").data == tmp_path / "e"


def test_places(root):
    space = workspace.find(root)
    assert space.protocols == root / "leaderboards" / "protocols"
    assert space.records == root / "leaderboards" / "records"
    assert space.predictions == root / "leaderboards" / "predictions"
    assert (space.datasets, space.experiments) == (root / "datasets", root / "experiments")
    assert space.runs == root / "runs"
    public = space.targets("t/d/r@1", public=True)
    assert public == root / "leaderboards" / "targets" / "t" / "d" / "r@1.npz"
    assert space.targets("t/d/r@1", public=False) == root / "data" / "targets" / "t/d/r@1.npz"


def test_paths_are_shown_relative_to_where_one_stands(root, monkeypatch):
    space = workspace.find(root)
    monkeypatch.chdir(root)
    assert space.relative(root / "a" / "x") == "a/x"
    monkeypatch.chdir(root / "a")
    assert space.relative(root / "x") == str(root / "x")
