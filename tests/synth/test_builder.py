"""The synthface builder, loaded by path as a workspace loads it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from facebench import synth, workspace
from facebench.data import source
from facebench.synth import records, stream
from facebench.synth.attributes import attributes

FILE = Path(__file__).parents[2] / "datasets/synthface/synthface_dataset_builder.py"


@pytest.fixture(scope="module")
def module() -> Iterator[ModuleType]:
    name = "test_synthface_dataset_builder"
    spec = importlib.util.spec_from_file_location(name, FILE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    yield made
    del sys.modules[name]


def world(given: synth.WorldConfig | synth.ClipConfig) -> synth.WorldConfig:
    return given.world if isinstance(given, synth.ClipConfig) else given


def test_splits_are_of_different_people(module: ModuleType) -> None:
    sizes = {}
    for config in module.Builder.BUILDER_CONFIGS:
        numbers: list[set[int]] = []
        vectors: list[set[bytes]] = []
        task, size = config.name.rsplit("-", 1)
        for name, given in config.worlds.items():
            assert world(given).size == int(size)
            sizes.setdefault((task, name), len(given))
            assert sizes[task, name] == len(given)
            if name not in ("train", "dev", "test") or size != "64":
                continue
            people = range(world(given).first_identity, world(given).first_identity
                           + world(given).identities)  # fmt: skip
            numbers.append(set(people))
            some = people[:: max(len(people) // 50, 1)]
            vectors.append({synth.identity_vector(world(given), k).tobytes() for k in some})
        for kind in (numbers, vectors):
            assert len(set().union(*kind)) == sum(map(len, kind))
    tests = {"test_occluded": 400, "test_style": 400}
    assert sizes == {
        (task, name): n
        for task, splits in {
            "landmarks": {"train": 2000, "dev": 200, "test": 400, **tests},
            "recognition": {"train": 2000, "dev": 100, "test": 400},
            "recognition_degraded": {"train": 2000, "dev": 100, "test": 400},
            "expression": {"train": 4000, "dev": 400, "test": 800,
                           "test_occluded": 800, "test_style": 800},
            "expression_hard": {"train": 4000, "dev": 400, "test": 800, "test_occluded": 800,
                                "test_style": 800, "test_hard": 800},
            "action_units_linked": {"train": 3840, "dev": 400, "test": 800, "test_occluded": 800,
                                    "test_style": 800},
            "action_units": {"train": 3840, "dev": 400, "test": 800, "test_occluded": 800,
                             "test_style": 800, "train_linked": 3840},
            "parsing": {"train": 1000, "dev": 100, "test": 200},
            "clips": {"train": 300, "dev": 30, "test": 60},
            "unlabelled": {"train": 20000},
        }.items()
        for name, n in splits.items()
    }  # fmt: skip
    assert source.configs(workspace.find(FILE.parents[2]), "synthface")[0] == "landmarks-64"


def test_the_three_sizes_show_the_same_faces(module: ModuleType) -> None:
    worlds = {c.name: c.worlds for c in module.Builder.BUILDER_CONFIGS}
    for task in module.TASKS:
        for split, given in worlds[f"{task}-64"].items():
            for size in (112, 224):
                other = worlds[f"{task}-{size}"][split]
                for i in (0, len(given) - 1):
                    a, b = (synth.parameters(world(w), i) for w in (given, other))
                    assert a.noise_key == b.noise_key
                    assert np.array_equal(a.au, b.au)
                    assert np.array_equal(a.pose, b.pose)


def test_robust_splits_are_the_test_faces_covered_or_styled(module: ModuleType) -> None:
    worlds = module.Builder.BUILDER_CONFIGS[0].worlds
    for i in range(40):
        plain, covered, styled = (
            synth.parameters(worlds[name], i) for name in ("test", "test_occluded", "test_style")
        )
        assert {o.kind for o in covered.occluders} & {"sunglasses", "mask", "hand"}
        assert (plain.style, styled.style != "none") == ("none", True)
        for other in (covered, styled):
            for field in ("identity_vector", "au", "pose", "light", "background", "camera"):
                assert np.array_equal(getattr(plain, field), getattr(other, field))


def test_degraded_faces_are_those_of_recognition_through_another_camera(module: ModuleType) -> None:
    configs = {c.name: c.worlds for c in module.Builder.BUILDER_CONFIGS}
    plain, worse = (configs[name] for name in ("recognition-64", "recognition_degraded-64"))
    assert list(plain) == list(worse)
    for split in plain:
        faces = [[synth.parameters(w[split], i) for i in range(100)] for w in (plain, worse)]
        for one, other in zip(*faces):
            camera = {name: getattr(one, name) for name in ("blur", "noise", "jpeg")}
            assert all(getattr(other, name) >= value for name, value in camera.items())
            same = dataclasses.replace(other, **camera)
            assert pickle.dumps(same) == pickle.dumps(one)
        blur = 64 * np.array([p.blur for p in faces[1]])  # px, evenly from none to 3.2
        assert all(((low <= blur) & (blur < low + 0.8)).mean() > 0.1 for low in (0, 0.8, 1.6, 2.4))


def test_linked_training_faces_have_habits(module: ModuleType) -> None:
    configs = {c.name: c.worlds for c in module.Builder.BUILDER_CONFIGS}
    worlds = configs["action_units-64"]
    for name, least, most in (("train", 0.0, 0.35), ("train_linked", 0.6, 0.95)):
        sets = [synth.parameters(worlds[name], i).au > 0 for i in range(320)]
        of_people = [[s.tobytes() for s in sets[k : k + 64]] for k in range(0, 320, 64)]
        common = [max(map(p.count, p)) / 64 for p in of_people]  # the commonest set of each
        assert least < np.mean(common) < most


def test_hard_faces_are_the_test_faces_covered_and_turned_away(module: ModuleType) -> None:
    configs = {c.name: c.worlds for c in module.Builder.BUILDER_CONFIGS}
    plain, hard = configs["expression-64"], configs["expression_hard-64"]
    assert {name: hard[name] for name in plain} == plain
    for i in range(40):
        one, other = (synth.parameters(w, i) for w in (plain["test"], hard["test_hard"]))
        assert {o.kind for o in other.occluders} & {"sunglasses", "mask", "hand"}
        assert np.allclose(other.pose, one.pose * [5 / 3, 1, 1], atol=1e-5)
        for field in ("identity_vector", "au", "light", "background", "camera"):
            assert np.array_equal(getattr(one, field), getattr(other, field))


def test_linked_people_are_those_of_action_units(module: ModuleType) -> None:
    configs = {c.name: c.worlds for c in module.Builder.BUILDER_CONFIGS}
    plain, linked = configs["action_units-64"], configs["action_units_linked-64"]
    assert all(linked[name] == plain[name] for name in linked if name != "train")
    assert dataclasses.replace(linked["train"], identity_au=0.0) == plain["train"]
    sets = [synth.parameters(linked["train"], i).au > 0 for i in range(320)]
    of_people = [[s.tobytes() for s in sets[k : k + 64]] for k in range(0, 320, 64)]
    common = [max(map(p.count, p)) / 64 for p in of_people]  # the commonest set of each
    assert 0.75 < np.mean(common) < 1


TINY = """

def _tiny(clips=False):
    people = {"train": (3, 2), "test": (2, 1)}
    worlds = _worlds(32, 5, people, occlusion=0.6, makeup=0.5, style="any", style_rate=0.3)
    if clips:
        return {n: synth.ClipConfig(w, frames=13) for n, w in worlds.items()}
    return worlds


def _long():
    return _worlds(32, 5, {"train": (112, 4), "test": (10, 2)}, occlusion=0.3)


Builder.BUILDER_CONFIGS = [
    SynthConfig(name="tiny", description="a test", worlds=_tiny(), dense=records.DENSE),
    SynthConfig(name="moving", description="a test", worlds=_tiny(True)),
    SynthConfig(name="long", description="a test", worlds=_long()),
]
Builder.builder_configs = {c.name: c for c in Builder.BUILDER_CONFIGS}
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> workspace.Workspace:
    """A workspace with tiny configurations of the builder."""
    root = tmp_path_factory.mktemp("space")
    folder = root / "datasets/synthface"
    folder.mkdir(parents=True)
    (root / "WORKSPACE.md").write_text("a test")
    (folder / FILE.name).write_text(FILE.read_text(encoding="utf-8") + TINY)
    (folder / "CITATIONS.bib").write_text("@misc{a}")
    return workspace.find(root, root / "data")


def test_builds_and_reads_back(space: workspace.Workspace) -> None:
    dataset = source.prepare(space, "synthface", "tiny")
    made = source.builder(space, "synthface").builder_configs["tiny"]
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 2}
    seen, covers, styles = set(), 0.0, set()
    for name, split in dataset.splits.items():
        for i in range(len(split)):
            example = split.record(i)
            key = example["key"]
            seen.add(key)
            assert key == f"tiny/{name}/{i:06d}"
            s = synth.sample(made.worlds[name], i)
            p = s.parameters
            assert example["unit"] == f"id-{s.identity:05d}"
            image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR)
            assert np.array_equal(image[:, :, ::-1], s.image)
            for field in (
                *("points", "visible", "hidden", "points98", "visible98", "box", "au"),
                *("pose", "light", "intrinsics"),
            ):
                value = np.asarray(example[field])
                assert np.array_equal(value, getattr(s, field)), field
                assert value.dtype == getattr(s, field).dtype
            for field in ("gaze", "camera", "makeup", "sides"):
                assert np.array_equal(example[field], getattr(p, field).astype(np.float32))
            for field in ("parse", "occluder"):
                dense = cv2.imdecode(np.frombuffer(example[field], np.uint8), cv2.IMREAD_UNCHANGED)
                assert np.array_equal(dense, getattr(s, field))
                assert dense.dtype == np.uint8
            depth = cv2.imdecode(np.frombuffer(example["depth"], np.uint8), cv2.IMREAD_UNCHANGED)
            assert depth.dtype == np.uint16
            np.testing.assert_allclose(depth / 100.0, s.depth, atol=5.01e-3)
            assert np.array_equal(example["attributes"], attributes(p))
            assert np.array_equal(example["quality"], np.float32([p.blur, p.noise, p.jpeg]))
            assert example["identity"] == s.identity
            assert example["expression"] == example["shown"] == s.expression
            assert synth.FILTERS[example["style"]] == p.style
            assert example["age"] == np.float32(p.age)
            assert example["group"] == 0
            covers += float(example["occluder_share"].sum())
            styles.add(p.style)
    assert len(seen) == 8
    assert len(styles) > 1
    assert source.verify(space, "synthface", "tiny") == []
    assert not list(space.data.glob(".making-*"))


def test_occluder_share_counts_the_pixels_of_the_box() -> None:
    s = synth.render(synth.face(), 32)
    mask = np.zeros((32, 32), np.uint8)
    mask[10:20, :] = 3
    box = np.array([4.5, 5.0, 14.5, 24.0], np.float32)  # pixels 5..14 by 5..24
    share = records.occluder_share(synth.Sample(**{**vars(s), "occluder": mask, "box": box}))
    np.testing.assert_allclose(share, [0, 0, 0.5, 0])
    outside = np.array([-9.0, -9.0, -2.0, -2.0], np.float32)
    share = records.occluder_share(synth.Sample(**{**vars(s), "occluder": mask, "box": outside}))
    assert not share.any()


def test_clips_hold_a_frame_per_example(space: workspace.Workspace) -> None:
    dataset = source.prepare(space, "synthface", "moving")
    config = source.builder(space, "synthface").builder_configs["moving"]
    split = dataset.split("train")
    assert len(split) == 6 * 13
    for i in (0, 12, 13, 77):
        example = split.record(i)
        number, frame = divmod(i, 13)
        clip = synth.clip(config.worlds["train"], number)
        p = clip.frames[frame]
        assert example["key"] == f"moving/train/{number:06d}/{frame:03d}"
        assert (example["clip"], example["frame"]) == (number, frame)
        assert example["expression"] == clip.expression_label
        assert example["emotion"] == clip.expression
        assert example["shown"] == p.expression
        assert np.array_equal(example["au"], p.au.astype(np.float32))
        assert [e["name"] for e in json.loads(example["events"])] == [e.name for e in clip.events]
        assert len(json.loads(example["blinks"])) == len(clip.blinks)
        rendered = synth.render(p, 32).image
        image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(image[:, :, ::-1], rendered)


@pytest.mark.slow
def test_a_killed_preparation_goes_on_to_the_same_bits(
    space: workspace.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys; from pathlib import Path; from facebench import workspace\n"
        "from facebench.data import source\n"
        "root, data = map(Path, sys.argv[1:])\n"
        "source.prepare(workspace.find(root, data), 'synthface', 'long')\n"
    )
    data = tmp_path / "data"
    child = subprocess.Popen([sys.executable, "-c", code, str(space.root), str(data)])
    deadline = time.monotonic() + 120
    while len(list(data.glob(".making-*/*/*.chunk"))) < 2:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    killed = workspace.find(space.root, data)
    assert not source.prepared(killed, "synthface", "long")
    time.sleep(2.0)  # the helpers end with the chunk that they are at
    left = len(list(data.glob(".making-*/train/*.chunk")))
    assert 2 <= left < 7
    made: list[int] = []
    plain = records.of_sample
    monkeypatch.setattr(stream, "processors", lambda: 1)
    monkeypatch.setattr(records, "of_sample", lambda *a: made.append(a[-1]) or plain(*a))
    resumed = source.prepare(killed, "synthface", "long")
    assert len(made) == 448 + 20 - 64 * left
    assert not list(data.glob(".making-*"))
    whole = source.prepare(space, "synthface", "long")
    assert resumed.facts["splits"] == whole.facts["splits"]
    for name in ("samples-train.npz", "samples-test.npz"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_chunks_of_other_code_are_not_taken_over(
    space: workspace.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = workspace.find(space.root, tmp_path / "data")
    cls = source.builder(ws, "synthface")
    root = ws.data / ".preparing-synthface-tiny"
    here = cls(data_dir=str(root), config="tiny")._chunks()
    assert here.parent == ws.data
    here.mkdir(parents=True)
    monkeypatch.setattr(stream, "fingerprint", lambda *_: "other")
    there = cls(data_dir=str(root), config="tiny")._chunks()
    assert there != here
    assert not here.exists()
    plain = cls(data_dir=str(tmp_path / "tfds"), config="tiny")._chunks()
    assert plain.parent == tmp_path / "tfds"


def test_data_card(module: ModuleType) -> None:
    folder = FILE.parent
    card = (folder / "README.md").read_text(encoding="utf-8")
    for config in module.Builder.BUILDER_CONFIGS:
        assert f"`{config.name}`" in card
        for field in module._features(config):
            assert f"`{field}`" in card
        for split in config.worlds:
            assert split in card
    assert (folder / "CITATIONS.bib").read_text(encoding="utf-8").startswith("@")
    assert (folder / "TAGS.txt").read_text(encoding="utf-8").strip()
