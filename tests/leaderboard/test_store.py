"""Large predictions in a content store: the record is the same, the digest decides."""

import json
import os
import sys

import numpy as np
import pytest

from facebench import cli, digest, files, leaderboard
from facebench.errors import FacebenchError
from facebench.leaderboard import board, record, store

ARRAYS = {"points": np.arange(12, dtype=np.int16).reshape(3, 4)}
CONTENT = digest.of_arrays(ARRAYS)


@pytest.fixture(params=["folder", "file://", "memory://"])
def shop(request, tmp_path, monkeypatch):
    """A store, and how to look at its bytes and change them."""
    folder = tmp_path / "store"
    folder.mkdir()
    if request.param == "memory://":
        from fsspec.implementations.memory import MemoryFileSystem

        monkeypatch.setattr(MemoryFileSystem, "store", {})
        root = "memory://bench/store"
    else:
        root = f"{request.param.replace('folder', '')}{folder}"
    monkeypatch.setenv(store.VARIABLE, root)
    monkeypatch.setattr(store, "LIMIT", 100)
    return Shop(root, folder)


class Shop:
    def __init__(self, root, folder):
        self.root, self.folder = root, folder

    def _fs(self):
        import fsspec

        return fsspec.core.url_to_fs(self.root if "://" in self.root else f"file://{self.root}")

    def names(self):
        fs, base = self._fs()
        return sorted(p.rpartition("/")[2] for p in fs.find(base))

    def put(self, change):
        fs, base = self._fs()
        (path,) = fs.find(base)
        data = change(fs.cat_file(path))
        fs.rm(path)
        if data is not None:
            fs.pipe_file(path, data)


def test_small_stays_in_git(toy, monkeypatch):
    monkeypatch.delenv(store.VARIABLE, raising=False)
    where = store.write(toy.space, CONTENT, ARRAYS, "net")
    assert where == store.place(toy.space, CONTENT)
    assert where.stat().st_size <= store.LIMIT
    assert np.array_equal(store.read(toy.space, CONTENT, "net")["points"], ARRAYS["points"])


def test_large_goes_to_the_store_and_git_keeps_a_pointer(toy, shop):
    where = store.write(toy.space, CONTENT, ARRAYS, "net")
    assert where == store.pointer(toy.space, CONTENT)
    assert json.loads(where.read_text()) == {
        "schema": "facebench/pointer-1",
        "content_digest": CONTENT,
        "bytes": len(files.npz_bytes(ARRAYS)),
    }
    assert shop.names() == [f"{digest.short(CONTENT, 64)}.npz"]
    assert np.array_equal(store.read(toy.space, CONTENT, "net")["points"], ARRAYS["points"])
    before = toy.snapshot()
    assert store.write(toy.space, CONTENT, ARRAYS, "net") == where
    assert toy.snapshot() == before


def test_the_record_is_the_same_wherever_the_bytes_are(toy, landmarks, shop, monkeypatch):
    large = toy.record(landmarks, "net", 1.0)
    text = large.read_bytes()
    assert leaderboard.rescore(toy.space, large) == []
    monkeypatch.setattr(store, "LIMIT", 5_000_000)
    large.unlink()
    store.pointer(toy.space, json.loads(text)["predictions"]["content_digest"]).unlink()
    small, _ = leaderboard.submit(toy.space, landmarks.id, "net")
    assert (small, small.read_bytes()) == (large, text)


def test_too_large_for_git_without_a_store_says_what_to_do(toy, landmarks, shop, monkeypatch):
    monkeypatch.delenv(store.VARIABLE)
    toy.run(landmarks, "net", 1.0)
    before = toy.snapshot()
    with pytest.raises(FacebenchError, match=r"git keeps 100 at most; set FACEBENCH_STORE"):
        leaderboard.submit(toy.space, landmarks.id, "net")
    assert toy.snapshot() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: None, "does not have it|FileNotFoundError"),
        (lambda data: data[:-1], "half an object"),
        (lambda data: b"", "half an object"),
        (lambda data: data + b"x", "found more"),
        (lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:], "npz: |digest"),
    ],
)
def test_what_is_not_the_object_never_counts(toy, shop, change, message):
    store.write(toy.space, CONTENT, ARRAYS, "net")
    shop.put(change)
    with pytest.raises(FacebenchError, match=message) as error:
        store.read(toy.space, CONTENT, "net")
    assert "\n" not in str(error.value)


def test_other_arrays_of_the_same_size_never_count(toy, shop):
    store.write(toy.space, CONTENT, ARRAYS, "net")
    other = {"points": ARRAYS["points"][:, ::-1].copy()}
    size = len(files.npz_bytes(other))
    shop.put(lambda data: files.npz_bytes(other))
    path = store.pointer(toy.space, CONTENT)
    files.write_json(path, json.loads(path.read_text()) | {"bytes": size})
    with pytest.raises(FacebenchError, match="not the predictions of net: digest"):
        store.read(toy.space, CONTENT, "net")


def test_nothing_in_a_store_is_overwritten(toy, shop):
    store.write(toy.space, CONTENT, ARRAYS, "net")
    store.pointer(toy.space, CONTENT).unlink()
    shop.put(lambda data: data[:20])
    with pytest.raises(FacebenchError, match="nothing in a store is overwritten"):
        store.write(toy.space, CONTENT, ARRAYS, "net")
    assert not store.pointer(toy.space, CONTENT).exists()

    def look(data):
        assert len(data) == 20
        return files.npz_bytes(ARRAYS)  # the copy that broke off is finished by hand

    shop.put(look)
    assert store.write(toy.space, CONTENT, ARRAYS, "net").is_file()


def test_a_store_that_breaks_off_leaves_no_object(toy, shop, monkeypatch):
    if "://" not in shop.root:
        monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(OSError(28, "full")))
    else:
        fs, _ = shop._fs()
        monkeypatch.setattr(type(fs), "mv", lambda *a, **k: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(FacebenchError):
        store.write(toy.space, CONTENT, ARRAYS, "net")
    assert not any(name.endswith(".npz") for name in shop.names())
    assert not store.pointer(toy.space, CONTENT).exists()


def test_the_board_names_what_cannot_be_reached(toy, landmarks, shop):
    toy.record(landmarks, "net", 1.0)
    leaderboard.write(toy.space)
    assert [r.trust for r in board.assemble(toy.space, landmarks).ranked] == ["re-scored"]
    report = leaderboard.check(toy.space)
    assert (report.problems, report.notices, report.checked) == ([], [], 1)
    shop.put(lambda data: None)
    found = board.assemble(toy.space, landmarks)
    assert found.ranked == ()
    assert [(r.trust, r.fault) for r in found.unranked] == [("-", "evidence unreachable")]
    problems = leaderboard.check(toy.space).problems
    assert any("not scored again" in line for line in problems)
    assert any("not what the records say" in line for line in problems)
    leaderboard.write(toy.space)
    page = (toy.space.leaderboards / f"boards/{landmarks.id}.md").read_text()
    assert "evidence unreachable" in page


def test_without_a_store_what_was_computed_is_believed_and_said(
    toy, landmarks, shop, monkeypatch, capsys
):
    """As with gated labels: the committed board stays the same bytes for everybody."""
    path = toy.record(landmarks, "net", 1.0)
    made = leaderboard.build(toy.space)
    leaderboard.write(toy.space)
    monkeypatch.delenv(store.VARIABLE)
    assert leaderboard.build(toy.space) == made
    report = leaderboard.check(toy.space)
    assert (report.problems, report.checked) == ([], 0)
    assert sum("evidence unreachable" in line for line in report.notices) == 2
    with pytest.raises(store.UnreachableError, match="set FACEBENCH_STORE"):
        leaderboard.rescore(toy.space, path)
    assert cli.main(["rescore", str(path), f"--workspace={toy.root}"]) == 1
    assert cli.main(["rescore", "--all", f"--workspace={toy.root}"]) == 0
    assert "1 could not be rescored: their predictions are not here" in capsys.readouterr().out


def test_a_bundle_that_is_neither_in_git_nor_pointed_to_is_a_problem(toy, landmarks, shop):
    path = toy.record(landmarks, "net", 1.0)
    record.bundle_place(toy.space, json.loads(path.read_text())).unlink()
    leaderboard.write(toy.space)
    assert any("no such file" in line for line in leaderboard.check(toy.space).problems)


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": 0},
        {"bytes": 1 << 40},
        {"bytes": True},
        {"bytes": 60.0},
        {"content_digest": "sha256:" + "0" * 64},
        {"schema": "facebench/pointer-2"},
        {"url": "http://example.org"},
    ],
)
def test_a_pointer_that_says_something_else(toy, shop, change):
    path = store.write(toy.space, CONTENT, ARRAYS, "net")
    files.write_json(path, json.loads(path.read_text()) | change)
    with pytest.raises(FacebenchError, match="not a pointer to"):
        store.read(toy.space, CONTENT, "net")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nosuch://bench", "Protocol not known|nosuch"),
        ("s3://me:secret@bench/x", "package for this kind of URL|unreachable"),
        ("/nowhere/at/all", "does not have it"),
    ],
)
def test_a_store_that_does_not_answer(toy, shop, monkeypatch, root, message):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    store.write(toy.space, CONTENT, ARRAYS, "net")
    monkeypatch.setenv(store.VARIABLE, root)
    with pytest.raises(store.UnreachableError, match=message) as error:
        store.read(toy.space, CONTENT, "net")
    assert "secret" not in str(error.value)
    assert store.gone(toy.space, CONTENT)


def test_without_fsspec_a_url_says_what_to_install(toy, shop, monkeypatch):
    store.write(toy.space, CONTENT, ARRAYS, "net")
    monkeypatch.setenv(store.VARIABLE, "memory://other")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(FacebenchError, match="pip install fsspec"):
        store.read(toy.space, CONTENT, "net")


def test_a_bomb_in_a_store(toy, shop, monkeypatch):
    store.write(toy.space, CONTENT, ARRAYS, "net")
    monkeypatch.setattr(store, "UNPACKED_LIMIT", 50)
    with pytest.raises(FacebenchError, match="unpacks to more than 50 bytes"):
        store.read(toy.space, CONTENT, "net")
