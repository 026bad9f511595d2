"""Preparing, opening and verifying, and what a fault costs."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from facebench.data import contents, source
from facebench.errors import FacebenchError, UsageError


def leftovers(ws):
    return [p for p in ws.data.rglob("*") if "preparing" in p.name and p.is_dir()]


# -------------------------------------------------------------------------- what is prepared


def test_records_are_what_the_builder_gave(tiny):
    train = tiny.split("train")
    assert (tiny.name, tiny.config, tiny.version, tiny.label) == (
        "tiny",
        "five",
        "1.2.0",
        "tiny/five",
    )
    assert {name: len(split) for name, split in tiny.splits.items()} == {"train": 24, "test": 10}
    assert train.keys == [f"train/{i:03d}" for i in range(24)]
    assert train.units == [f"person {i % 6}" for i in range(24)]
    for i in (0, 7, 23):  # the builder's own recipe, once more
        rng = np.random.default_rng([False, i])
        height, width = 40 + i % 3, 48 - i % 5
        image = cv2.resize(rng.integers(0, 256, (7, 7, 3), np.uint8), (width, height))
        record = train.record(i)
        assert record["key"] == f"train/{i:03d}"
        assert isinstance(record["image"], bytes)
        assert np.array_equal(cv2.imdecode(np.frombuffer(record["image"], np.uint8), 1), image)
        assert np.array_equal(record["points"], rng.uniform(8, 32, (5, 2)).astype(np.float32))
        assert record["identity"] == i % 6
    with pytest.raises(IndexError):
        train.record(24)
    with pytest.raises(IndexError):
        train.record(-1)


def test_fields_are_stacked(tiny):
    test = tiny.split("test")
    points = source.field(test, "points")
    assert points.shape == (10, 5, 2)
    assert points.dtype == np.float32
    assert np.array_equal(points, np.stack([test.record(i)["points"] for i in range(10)]))
    assert np.array_equal(source.field(test, "points", [3, 1]), points[[3, 1]])
    assert source.field(test, "visible").dtype == bool
    assert len(source.field(test, "image", [2, 2])) == 2  # not small: read from the records
    with pytest.raises(UsageError, match="'points'"):
        source.field(test, "point")
    with pytest.raises(UsageError, match="'train'"):
        tiny.split("trian")


def test_content_is_a_digest_of_pixels_and_labels_in_order(tiny):
    facts = json.loads((tiny.folder / "facebench.json").read_text())
    assert facts["splits"]["test"]["n"] == 10
    keys = "".join(f"test/{i:03d}\n" for i in range(10)).encode()
    assert facts["splits"]["test"]["keys"] == "sha256:" + hashlib.sha256(keys).hexdigest()
    lines = []
    for i in range(10):
        record = tiny.split("test").record(i)
        record["image"] = cv2.imdecode(np.frombuffer(record["image"], np.uint8), -1)
        sha = hashlib.sha256()
        for name in sorted(record):
            value = np.asarray(record[name])
            head = json.dumps([name, value.dtype.str, list(value.shape)], separators=(",", ":"))
            sha.update(head.encode() + b"\n" + value.tobytes())
        lines.append(sha.hexdigest() + "\n")
    content = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert facts["splits"]["test"]["content"] == "sha256:" + content


def test_splits_pickle_small_and_reopen(tiny):
    train = tiny.split("train")
    train.record(0)
    assert train.samples
    pickled = pickle.dumps(train)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert again.keys == train.keys
    assert again.record(5)["image"] == train.record(5)["image"]


def test_two_preparations_agree(ws, tiny):
    again = source.prepare(ws, "tiny")
    assert again.facts["splits"] == tiny.facts["splits"]
    assert source.verify(ws, "tiny") == []


def test_preparing_again_is_opening(ws):
    first = source.prepare(ws, "tiny")
    stamp = first.folder.stat().st_mtime_ns
    assert source.prepare(ws, "tiny").folder.stat().st_mtime_ns == stamp
    assert not leftovers(ws)


def test_listing_imports_nothing_heavy(ws):
    code = (
        "import sys; from pathlib import Path; from facebench import workspace\n"
        "from facebench.data import source\n"
        f"print(source.names(workspace.find(Path({str(ws.root)!r}))))\n"
        "print(sorted({'jax', 'tensorflow_datasets', 'grain', 'cv2'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["['tiny']", "[]"]


# ---------------------------------------------------------------------------------- wrong names


def test_wrong_names_get_the_nearest(ws):
    for call in (source.open, source.prepare, source.generated, source.verify):
        with pytest.raises(UsageError, match="'tiny'"):
            call(ws, "tinny")
    with pytest.raises(UsageError, match="'five'"):
        source.prepare(ws, "tiny", "fiv")
    with pytest.raises(UsageError, match="'five'"):
        source.open(ws, "tiny", "fiv", "1.2.0")
    assert source.configs(ws, "tiny") == ["five", "torn", "twice", "fails"]
    assert source.generated(ws, "tiny")
    with pytest.raises(UsageError, match="takes no source"):
        source.prepare(ws, "tiny", source_dir=ws.root)


def test_opening_what_is_not_prepared_says_how(ws):
    assert not source.prepared(ws, "tiny")
    with pytest.raises(FacebenchError, match="run `facebench data prepare tiny/five`"):
        source.open(ws, "tiny")
    with pytest.raises(FacebenchError, match=r"version 0.9.0 .* now makes 1.2.0"):
        source.open(ws, "tiny", "five", "0.9.0")
    source.prepare(ws, "tiny")
    assert source.prepared(ws, "tiny")
    assert not source.prepared(ws, "tiny", "torn")


def test_a_file_without_its_builder_is_named(ws):
    path = ws.datasets / "other/other_dataset_builder.py"
    path.parent.mkdir()
    path.write_text("x = 1\n")
    with pytest.raises(FacebenchError, match=r"other_dataset_builder.py: .* class Other"):
        source.prepare(ws, "other")
    path = ws.datasets / "third/third_dataset_builder.py"
    path.parent.mkdir()
    path.write_text("import no_such_module\n")
    with pytest.raises(FacebenchError, match="no_such_module"):
        source.prepare(ws, "third")


# ------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("torn", "key 'train/003'.*truncated"),
        ("twice", "key 'train/000' stands twice"),
        ("fails", "sheet.csv: line 3: found 'x'"),
    ],
)
def test_a_builder_that_fails_leaves_nothing(ws, config, said):
    with pytest.raises(FacebenchError, match=said):
        source.prepare(ws, "tiny", config)
    assert not source.prepared(ws, "tiny", config)
    assert not leftovers(ws)
    assert source.prepare(ws, "tiny").split("train").keys  # and the next one works


def test_a_killed_preparation_is_no_preparation(ws, tiny):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from facebench import files, workspace\n"
        "from facebench.data import contents, source\n"
        "owner, name = sys.argv[1].split('.')\n"
        "def stop(*args, **kwargs):\n"
        "    print('now', file=sys.__stdout__, flush=True)\n"
        "    time.sleep(60)\n"
        "if name == '_fill':  # TFDS is half-way through a split\n"
        "    real, count = source.builder, [0]\n"
        "    def builder(*args):\n"
        "        cls = real(*args)\n"
        "        def examples(self, split):\n"
        "            import itertools\n"
        "            yield from itertools.islice(generate(self, split), 5)\n"
        "            stop()\n"
        "        generate, cls._generate_examples = cls._generate_examples, examples\n"
        "        source.builder = lambda *_: cls\n"
        "        return cls\n"
        "    source.builder = builder\n"
        "else:\n"
        "    setattr(globals()[owner], name, stop)\n"
        f"source.prepare(workspace.find(Path({str(ws.root)!r})), 'tiny')\n"
    )
    env = {**os.environ, "FACEBENCH_DATA": str(ws.data)}
    moments = (
        "source._fill",
        "files.write_npz",
        "contents.facts",
        "files.write_json",
        "source._sync",
    )
    for moment in moments:
        child = subprocess.Popen(
            [sys.executable, "-c", code, moment], stdout=subprocess.PIPE, text=True, env=env
        )
        assert child.stdout.readline() == "now\n", moment
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert not source.prepared(ws, "tiny")
        assert leftovers(ws)
    assert source.prepare(ws, "tiny").facts["splits"] == tiny.facts["splits"]
    assert not leftovers(ws)


def test_two_at_a_time_make_one(ws, tiny):
    code = (
        "from pathlib import Path; from facebench import workspace\n"
        "from facebench.data import source\n"
        f"d = source.prepare(workspace.find(Path({str(ws.root)!r})), 'tiny')\n"
        "print(d.facts['splits']['test']['content'])"
    )
    env = {**os.environ, "FACEBENCH_DATA": str(ws.data)}
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
        for _ in range(2)
    ]
    outputs = [child.communicate()[0].strip() for child in children]
    assert outputs == [tiny.facts["splits"]["test"]["content"]] * 2
    assert not leftovers(ws)


def test_missing_and_cut_off_files_are_named(ws):
    dataset = source.prepare(ws, "tiny")
    shard = next(dataset.folder.glob("tiny-train*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(
        FacebenchError, match=f"{shard.name} has {len(whole) - 100} of {len(whole)}"
    ):
        source.open(ws, "tiny")
    shard.unlink()
    with pytest.raises(FacebenchError, match=r"is missing; remove .* data prepare tiny"):
        source.open(ws, "tiny")
    (dataset.folder / "facebench.json").write_text("{}")
    with pytest.raises(FacebenchError, match="schema None"):
        source.open(ws, "tiny")


def test_damage_inside_a_file_is_an_error_or_found_by_verify(ws):
    dataset = source.prepare(ws, "tiny")
    shard = next(dataset.folder.glob("tiny-train*"))
    whole = shard.read_bytes()
    start = whole.index(b"\x89PNG")  # of the first record's image
    hurt = bytearray(whole)
    hurt[start + 300 : start + 400] = bytes(100)
    shard.write_bytes(bytes(hurt))
    with pytest.raises(
        FacebenchError, match=r"split 'train', sample 0 \(key 'train/000'\).*remove"
    ):
        source.open(ws, "tiny").split("train").record(0)
    with pytest.raises(FacebenchError, match="damaged"):
        source.verify(ws, "tiny")
    shard.write_bytes(whole)
    assert source.verify(ws, "tiny") == []


def test_verify_says_what_differs(ws):
    dataset = source.prepare(ws, "tiny")
    path = dataset.folder / "samples-test.npz"
    arrays = {name: array.copy() for name, array in dataset.split("test").samples.items()}
    arrays["points"][4, 0] += 1
    arrays["digest"][7] ^= 1
    np.savez(path, **arrays)
    mark = dataset.folder / "facebench.json"
    facts = json.loads(mark.read_text())
    facts["files"][path.name] = path.stat().st_size
    facts["splits"]["train"]["content"] = "sha256:" + "0" * 64
    mark.write_text(json.dumps(facts))
    lines = source.verify(ws, "tiny")
    assert len(lines) == 3
    assert any("'test', key 'test/007': the content differs" in line for line in lines)
    assert any("'test': field 'points' of samples-test.npz" in line for line in lines)
    assert any("'train': content is sha256:" in line for line in lines)


@pytest.mark.parametrize(
    ("owner", "error"),
    [
        (source, OSError(28, "No space left on device")),
        (contents, OSError(28, "No space left on device")),
        # what the ArrayRecord writer raises
        ("tfds", RuntimeError("Failed to finalize: write() failed: No space left on device; at 9")),
    ],
)
def test_a_full_disk_is_one_line(ws, monkeypatch, owner, error):
    def full(*_, **__):
        raise error

    if owner == "tfds":
        monkeypatch.setattr(source.builder(ws, "tiny"), "_generate_examples", full)
    else:
        monkeypatch.setattr(owner, "_sync" if owner is source else "samples", full)
    with pytest.raises(FacebenchError, match="the disk is full"):
        source.prepare(ws, "tiny")
    assert not source.prepared(ws, "tiny")
    assert not leftovers(ws)


def test_a_source_is_looked_for_where_it_is_said(ws, monkeypatch, tmp_path):
    path = ws.datasets / "real/real_dataset_builder.py"
    path.parent.mkdir()
    text = (ws.datasets / "tiny/tiny_dataset_builder.py").read_text()
    text = text.replace("class Tiny", "class Real").replace("generated = True", "")
    text = text.replace(
        "        return {split: self._generate_examples",
        "        print(dl_manager.manual_dir, file=__import__('sys').stderr)\n"
        "        return {split: self._generate_examples",
    )
    text = text.replace("VERSION =", 'MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask."\n    VERSION =')
    path.write_text(text)
    monkeypatch.setenv("FACEBENCH_REAL_DATA", str(tmp_path / "sets"))
    with pytest.raises(FacebenchError) as caught:
        source.prepare(ws, "real")
    for said in (
        str(tmp_path / "sets/real"),
        str(ws.data / "manual/real"),
        "Ask.",
        "--source=FOLDER",
    ):
        assert said in str(caught.value)
    with pytest.raises(FacebenchError, match="nowhere"):
        source.prepare(ws, "real", source_dir=tmp_path / "nowhere")
    assert not source.generated(ws, "real")
    with pytest.raises(FacebenchError, match="prepare real/five --source=FOLDER"):
        source.open(ws, "real")


def test_files_are_the_same_every_time(ws, tiny):
    again = source.prepare(ws, "tiny")
    for name in ("samples-train.npz", "samples-test.npz"):
        assert (again.folder / name).read_bytes() == (tiny.folder / name).read_bytes()
