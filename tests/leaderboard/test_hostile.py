"""Files made to mislead, fill the memory or run something: one clear line, nothing touched."""

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from facebench import cli, digest, files, leaderboard, protocol
from facebench.errors import FacebenchError
from facebench.leaderboard import attestation, record, store, trial

ID = "landmarks/toy/fractions@1"


@pytest.fixture(scope="module")
def sound(template, workspace, repository, tmp_path_factory):
    """Every kind of committed file once."""
    root = tmp_path_factory.mktemp("sound") / "space"
    shutil.copytree(template, root)
    toy = workspace(root)
    path = next(toy.space.records.glob(f"{ID}/small-net/*.json"))
    folder, again = trial.listing(toy.space, ID, "small-net")[0]
    of = protocol.load(toy.space, ID)
    attestation.attest(toy.space, of, path, "0.1/0", again, trial.predictions(folder, again))
    old = next(toy.space.records.glob(f"{ID}/other-net/*.json"))
    retraction = {
        "schema": "facebench/retraction-1",
        "record": json.loads(old.read_text())["record_id"],
        "reason": "bug",
        "note": "",
        "by": "us",
    }
    base = toy.space.leaderboards
    files.write_json(base / f"retractions/{old.name}", retraction)
    toy.freeze_listed(toy.landmark_draft() | {"id": "landmarks/toy/other@1"})
    (base / "reported").mkdir()
    shutil.copy(repository / "leaderboards/reported/adnet.json", base / "reported")
    leaderboard.write(toy.space)
    return root


@pytest.fixture
def space(sound, workspace, tmp_path):
    shutil.copytree(sound, tmp_path / "space")
    return workspace(tmp_path / "space")


def test_before_anything_is_planted_all_is_in_order(space):
    assert leaderboard.check(space.space).problems == []


def place(toy, kind):
    base = toy.space.leaderboards
    return {
        "record": lambda: next(toy.space.records.glob(f"{ID}/small-net/*.json")),
        "protocol": lambda: toy.space.protocols / f"{ID}.json",
        "manifest": lambda: base / "subsets/landmarks/toy/other@1.json",
        "reported": lambda: base / "reported/adnet.json",
        "attestation": lambda: attestation.paths(toy.space)[0],
        "retraction": lambda: next((base / "retractions").glob("*.json")),
        "trial": lambda: next(toy.space.runs.glob(f"{ID}/small-net/*/trial.json")),
        "bundle": lambda: record.bundle_place(
            toy.space, json.loads(place(toy, "record").read_text())
        ),
    }[kind]()


def refused(toy, capsys, path, words=("leaderboard", "check")):
    """The lines of a command that name the file; it fails and changes nothing."""
    before = state(toy)
    code = cli.main([*words, f"--workspace={toy.root}"])
    assert state(toy) == before
    printed = capsys.readouterr()
    assert code == 1, printed
    assert "Traceback" not in printed.out + printed.err
    lines = (printed.out + printed.err).splitlines()
    mine = [line for line in lines if str(path) in line or path.name in line]
    assert mine, lines
    assert all(len(line) < 1500 for line in mine)
    return mine


def state(toy):
    """Names, kinds and bytes of all that is in the workspace; a pipe has no bytes to read."""
    found = {}
    for path in sorted(toy.root.parent.rglob("*")):
        if path.is_symlink():
            found[path] = os.readlink(path)
        elif path.is_file():
            found[path] = path.read_bytes()
        else:
            found[path] = path.stat().st_mode
    return found


def words_for(kind):
    if kind == "trial":
        return ("submit", f"--protocol={ID}", "--entry=small-net")
    return ("leaderboard", "check")


def nested(text):
    return text.replace(
        '"schema"', '"a": ' + '{"a": ' * 5_000 + "1" + "}" * 5_000 + ', "schema"', 1
    )


JSON = {
    "truncated": (lambda t: t[: len(t) // 2], "not valid JSON"),
    "empty": (lambda t: "", "not valid JSON"),
    "no object": (lambda t: "[]", "schema"),
    "NaN": (lambda t: t.replace('"schema"', '"a": NaN, "schema"', 1), "NaN is not a JSON number"),
    "infinity": (lambda t: t.replace('"schema"', '"a": -Infinity, "schema"', 1), "-Infinity"),
    "overflow": (lambda t: t.replace('"schema"', '"a": 1e999, "schema"', 1), "float64"),
    "huge number": (lambda t: t.replace('"schema"', f'"a": {"9" * 9000}, "schema"', 1), r"2\^53"),
    "twice": (lambda t: t.replace('"schema"', '"schema": "x", "schema"', 1), "stands twice"),
    "brackets": (lambda t: "[" * 100_000, "not valid JSON"),
    "nested": (nested, "not valid JSON|nested|unknown field|recursion|fields are"),
    "other encoding": (lambda t: t.encode("utf-16").decode("latin-1"), "not valid JSON"),
    "surrogate": (lambda t: t.replace('"schema"', r'"a\ud800": 1, "schema"', 1), "."),
    "later": (lambda t: t.replace('-1"', '-9"', 1), "newer facebench|expected 'facebench"),
}
KINDS = ["record", "protocol", "manifest", "reported", "attestation", "retraction", "trial"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", JSON)
def test_a_hostile_json_file(space, capsys, kind, how):
    change, message = JSON[how]
    path = place(space, kind)
    text = path.read_text()
    if how == "later":
        head, _, tail = text.partition('"schema": "facebench/')
        text = head + '"schema": "facebench/' + re.sub(r'-1"', '-9"', tail, count=1)
        path.write_text(text)
    else:
        path.write_text(change(text))
    mine = refused(space, capsys, path, words_for(kind))
    assert any(re.search(message, line) for line in mine), mine


@pytest.mark.parametrize("kind", [*KINDS, "bundle"])
@pytest.mark.parametrize("what", ["pipe", "folder", "loop", "device", "outside"])
def test_what_is_no_file(space, capsys, tmp_path, kind, what):
    """A pipe would keep a reader waiting for ever, a device has no end, a link leads away."""
    path = place(space, kind)
    data = path.read_bytes()
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        (tmp_path / "outside").write_bytes(data)
        path.symlink_to(tmp_path / "outside")
        if kind in ("trial", "reported"):
            return  # not evidence: a trial is a working file, a reported number ranks nobody
    before = state(space)
    code = cli.main([*words_for(kind), f"--workspace={space.root}"])
    printed = capsys.readouterr()
    assert state(space) == before
    assert "Traceback" not in printed.out + printed.err
    # A record has that trial already: without its file there is nothing to submit.
    assert code == 1 or (kind, what, code) == ("trial", "loop", 0), printed


def test_what_is_no_regular_file_is_said_to_be_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        for read in (files.read_json, files.read_npz):
            with pytest.raises(FacebenchError, match="it is no regular file"):
                read(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["protocol"].update(id="../../../etc/x@1"),
        lambda v: v["protocol"].update(id="/etc/passwd/x@1"),
        lambda v: v["predictions"].update(content_digest="sha256:../../../../../../tmp/x"),
        lambda v: v.update(entry="../net"),
        lambda v: v.update(entry="/net"),
        lambda v: v.update(entry="a\nb"),
    ],
)
def test_a_record_whose_names_are_paths(space, capsys, change):
    path = place(space, "record")
    value = json.loads(path.read_text())
    change(value)
    value["record_id"] = digest.of_json({k: v for k, v in value.items() if k != "record_id"})
    files.write_json(path, value)
    assert any("wrong form" in line for line in refused(space, capsys, path))


def test_an_attestation_and_a_retraction_whose_names_are_paths(space, capsys):
    for kind in ("attestation", "retraction"):
        path = place(space, kind)
        text = path.read_text()
        path.write_text(text.replace(json.loads(text)["record"], "sha256:../../../../tmp/x"))
        refused(space, capsys, path)
        path.write_text(text)


def test_a_file_name_that_would_move_the_cursor(space, capsys):
    path = space.space.records / "a\x1b[2J\nWRONG.json"
    path.write_text("{}")
    code = cli.main(["leaderboard", "check", f"--workspace={space.root}"])
    out = capsys.readouterr().out
    assert code == 1
    assert "\x1b" not in out
    assert "a\\x1b[2J\\nWRONG.json: is not at" in out


def array_file(array=None, header=None, body=b""):
    """The bytes of one ``.npy``, or of one whose header says something else."""
    out = io.BytesIO()
    if array is not None:
        npy.write_array(out, array)
    else:
        npy.write_array_header_1_0(out, header)
        out.write(body)
    return out.getvalue()


def packed(members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that stand twice
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, data in members:
                archive.writestr(name, data)
    return out.getvalue()


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


def said(descr, shape, body=b"x" * 64):
    return array_file(header={"descr": descr, "fortran_order": False, "shape": shape}, body=body)


PLAIN = array_file(np.zeros((4, 12, 68, 2), np.int16))
PICKLED = io.BytesIO()
npy.write_array(PICKLED, np.array([Evil()], dtype=object), allow_pickle=True)

BUNDLES = {
    "no zip": (b"x" * 100, "not a readable .npz"),
    "nothing": (b"", "not a readable .npz"),
    "truncated": (packed([("points.npy", PLAIN)])[:-30], "not a readable .npz"),
    "bomb": (packed([("points.npy", bytes(80 << 20))]), "unpacks to more than 67108864 bytes"),
    "many": (packed([(f"a{i}.npy", b"") for i in range(10_001)]), "holds 10001 members"),
    "twice": (packed([("points.npy", PLAIN)] * 2), "stands twice"),
    "escaping": (packed([("../points.npy", PLAIN)]), "not a plain array name"),
    "absolute": (packed([("/etc/points.npy", PLAIN)]), "not a plain array name"),
    "windows": (packed([("..\\points.npy", PLAIN)]), "not a plain array name"),
    "drive": (packed([("C:points.npy", PLAIN)]), "not a plain array name"),
    "control": (packed([("a\x1b[2J.npy", PLAIN)]), "not a plain array name"),
    "no name": (packed([(".npy", PLAIN)]), "not a plain array name"),
    "no array": (packed([("points.txt", b"hi")]), "not a plain array name"),
    "lzma": (packed([("points.npy", PLAIN)], zipfile.ZIP_LZMA), "neither stored nor deflated"),
    "bzip2": (packed([("points.npy", PLAIN)], zipfile.ZIP_BZIP2), "neither stored nor deflated"),
    "pickle": (packed([("points.npy", PICKLED.getvalue())]), "Python objects"),
    "bare pickle": (packed([("points.npy", pickle.dumps(Evil()))]), "magic string"),
    "petabytes": (packed([("points.npy", said("<f8", (1 << 50,)))]), "is not as long as"),
    "negative": (packed([("points.npy", said("<f8", (-1, 8)))]), "is not as long as"),
    "wrapped": (packed([("points.npy", said("<f8", (1 << 62, 4)))]), "is not as long as"),
    "true": (packed([("points.npy", said("|V0", (1 << 40,)))]), "expected numbers or text"),
    "record": (packed([("points.npy", said([("a", "<f8")], (8,)))]), "expected numbers or text"),
    "complex": (packed([("points.npy", said("<c16", (4,)))]), "expected numbers or text"),
    "time": (packed([("points.npy", said("<M8[s]", (8,)))]), "expected numbers or text"),
    "code": (
        packed(
            [("points.npy", b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').system('x')    ")]
        ),
        "npz: ",
    ),
    "version": (packed([("points.npy", b"\x93NUMPY\x09\x00" + PLAIN[8:])]), "version|magic"),
    "other shape": (packed([("points.npy", array_file(np.zeros((4, 3), np.int16)))]), "digest"),
    "NaN": (packed([("points.npy", array_file(np.full((4, 12, 68, 2), np.nan)))]), "digest"),
}


@pytest.mark.parametrize("how", BUNDLES)
def test_a_hostile_bundle(space, capsys, monkeypatch, how):
    monkeypatch.setattr(store, "UNPACKED_LIMIT", 64 << 20)
    monkeypatch.chdir(space.root)
    data, message = BUNDLES[how]
    path = place(space, "bundle")
    path.write_bytes(data)
    mine = refused(space, capsys, path)
    assert any(re.search(message, line) for line in mine), mine
    assert not (space.root / "ran").exists()


def test_a_hostile_bundle_that_is_hashed_again(space, capsys):
    """NaN and infinities among predictions do not become a score."""

    def poison(arrays):
        arrays["points"] = arrays["points"].astype(np.float64)
        arrays["points"][0, 0, 0] = [np.nan, np.inf]

    path = space.rebundle(place(space, "record"), poison)
    refused(space, capsys, path)


def test_any_changed_bit_of_a_bundle_is_refused_or_changes_nothing():
    arrays = {"points": np.arange(24, dtype=np.int16).reshape(2, 3, 4)}
    data, expected = files.npz_bytes(arrays), digest.of_arrays(arrays)
    for at in range(len(data)):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[at] ^= bit
            with contextlib.suppress(FacebenchError):
                found = files.unpack(bytes(changed), "b.npz")
                same = all(np.array_equal(found.get(k), arrays[k]) for k in arrays)
                assert (digest.of_arrays(found) == expected) == same
