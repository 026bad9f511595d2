import collections
import json

import pytest

from facebench import plugins
from facebench.errors import FacebenchError, UsageError

SHORT = {"ordered": "collections:OrderedDict", "decoder": "json:JSONDecoder"}


def test_short_names_import_paths_and_files(tmp_path):
    (tmp_path / "net.py").write_text("class Net:\n    size = 3\n")
    assert plugins.resolve("ordered", "model", SHORT) is collections.OrderedDict
    assert plugins.resolve("json:JSONEncoder", "model", SHORT) is json.JSONEncoder
    net = plugins.resolve("net.py:Net", "model", SHORT, tmp_path)
    assert net.size == 3
    # A file is imported once, whatever name leads to it.
    assert plugins.resolve(f"{tmp_path}/net.py:Net", "model", SHORT) is net


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("orderd", r"no model is named 'orderd': did you mean 'ordered'"),
        ("json:JSONDecode", "json has no 'JSONDecode'; did you mean 'JSONDecoder'"),
        ("jsonn.x:Y", "no module 'jsonn.x' can be imported"),
        ("json.nowhere:Y", "no module 'json.nowhere' can be imported"),
        (":Y", "'' names no module"),
        (".x:Y", "names no module"),
        ("a b:Y", "names no module"),
    ],
)
def test_wrong_names_get_the_nearest(what, message):
    with pytest.raises(UsageError, match=message):
        plugins.resolve(what, "model", SHORT)


def test_a_module_that_misses_another_says_which(tmp_path, monkeypatch):
    # The missing name begins like the module's own, but is not one of its parents.
    (tmp_path / "needy_module.py").write_text("import needy\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'needy'"):
        plugins.resolve("needy_module:Net", "model", SHORT)


def test_files_that_are_missing_or_fail(tmp_path):
    with pytest.raises(FacebenchError, match="no such file"):
        plugins.load_file(tmp_path / "gone.py")
    bad = tmp_path / "bad.py"
    bad.write_text("1 / 0\n")
    with pytest.raises(FacebenchError, match=r"bad\.py: ZeroDivisionError on import"):
        plugins.load_file(bad)
    bad.write_text("value = 2\n")  # mended: it can be imported now
    assert plugins.load_file(bad).value == 2


def test_two_files_of_one_name_are_two_modules(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(f"name = {folder!r}\n")
    assert plugins.load_file(tmp_path / "a" / "net.py").name == "a"
    assert plugins.load_file(tmp_path / "b" / "net.py").name == "b"


def test_build_knows_the_keywords():
    def make(spec, width=1, *, depth=2, name=None, parent=None):
        return spec, width, depth

    assert plugins.parameters(make) == ["spec", "width", "depth"]
    assert plugins.build(make, "model", {"depth": 5}, "s") == ("s", 1, 5)
    with pytest.raises(UsageError, match=r"model make takes no 'widht': did you mean 'width'\?"):
        plugins.build(make, "model", {"widht": 5}, "s")
