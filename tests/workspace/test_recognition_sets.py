"""Recognition sets end to end: the protocol of each data card, on a tiny release, with a floor."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from facebench import cli, files, metrics, protocol, workspace
from facebench.data import lists, pipeline, source, subsets, transforms
from facebench.errors import FacebenchError
from facebench.experiment import Experiment

TEMPLATE = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655),
            (70.7299, 92.2041)]  # fmt: skip
EXPERIMENT = '''
"""A floor."""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry, config.kind = "pixels", "floor"
    config.protocol = "{}"
    config.probe.build = "raw_pixels"
    config.data.batch_size = 16
    return config
'''


def face(person, i, size=112):
    """A smooth picture of a person, with noise of its own, as PNG."""
    small = np.random.default_rng(person).normal(128, 40, (4, 4, 3))
    own = np.random.default_rng([person, i]).normal(0, 25, (4, 4, 3))
    image = cv2.resize((small + own).clip(0, 255).astype(np.uint8), (size, size))
    return cv2.imencode(".png", image)[1].tobytes()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def lfw(root):
    text = "10\t3\n"
    for k in range(10):
        names = [f"Person_{chr(65 + k)}{chr(97 + j)}" for j in range(4)]
        for j, name in enumerate(names):
            for i in (1, 2):
                put(root / f"lfw/{name}/{name}_{i:04d}.jpg", face(4 * k + j, i))
        text += "".join(f"{name}\t1\t2\n" for name in names[:3])
        text += "".join(f"{names[j]}\t1\t{names[j + 1]}\t2\n" for j in range(3))
    put(root / "pairs.txt", text)


def verification_bin(root, name="agedb_30"):
    images, same = [], []
    for k in range(60):
        same.append(k % 2 == 0)
        images += [face(k, 1), face(k if same[-1] else k + 1, 2)]
    put(root / f"{name}.bin", pickle.dumps((images, same)))


def face_recordio(root):
    rec = b""
    for i in range(12):
        data = struct.pack("<IfQQ", 0, i // 3, i, 0) + face(900 + i // 3, i)
        rec += struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4)
    put(root / "train.rec", rec)
    put(root / "property", "4,112,112\n")
    verification_bin(root)
    verification_bin(root, "zz_other")


def _points(shift):
    return " ".join(f"{v + shift:.4f}" for point in TEMPLATE for v in point)


def rfw(root):
    for g, group in enumerate(("African", "Asian", "Caucasian", "Indian")):
        pairs, points = "", ""
        for k in range(20):
            person = f"m.{k:03d}"
            for i in (1, 2):
                put(root / f"test/data/{group}/{person}/{person}_{i:04d}.jpg",
                    face(100 * g + k, i, 130))  # fmt: skip
                points += f"x/{person}/{person}_{i:04d}.jpg {k} {_points(3)}\n"
            pairs += f"{person}\t1\t2\n{person}\t1\tm.{(k + 1) % 20:03d}\t1\n"
        put(root / f"test/txts/{group}/{group}_pairs.txt", pairs)
        put(root / f"test/txts/{group}/{group}_lmk.txt", points)


def ijb(root):
    faces, points = "", ""
    for n in range(40):  # templates 0 to 19, of persons 0 to 9
        template = n // 2
        put(root / f"loose_crop/{n}.jpg", face(template // 2, n, 130))
        faces += f"{n}.jpg {template} {template if template % 3 else n + 100}\n"
        points += f"{n}.jpg {_points(3)} {0.3 + n / 60:.4f}\n"
    pairs = [(2 * p, 2 * q + 1, int(p == q)) for p in range(10) for q in range(10)]
    put(root / "meta/ijbc_face_tid_mid.txt", faces)
    put(root / "meta/ijbc_name_5pts_score.txt", points)
    put(root / "meta/ijbc_template_pair_label.txt", "".join(f"{a} {b} {s}\n" for a, b, s in pairs))


def face_folder(root):
    for person in range(30):
        for i in range(4):
            put(root / f"{person}/{i}.png", face(person, i))


RELEASES = {
    "lfw": (lfw, {}),
    "verification_bin": (verification_bin, {}),
    "face_recordio": (face_recordio, None),
    "rfw": (rfw, 40),
    "ijb": (ijb, {}),
    "face_folder": (face_folder, None),
}


def make(space, repository, name, monkeypatch):
    """A workspace with a dataset, its release, the protocol of its card and a floor."""
    write, official = RELEASES[name]
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "datasets" / name, space / "datasets" / name, ignore=ignore)
    (space / "WORKSPACE.md").write_text("# sets\n")
    write(space / "data/manual" / name)
    ws = workspace.find(space)
    if official is not None:
        monkeypatch.setattr(source.builder(ws, name), "OFFICIAL", official)
    card = (space / "datasets" / name / "README.md").read_text()
    value = json.loads(re.search(r"```json\n(.*?)```", card, re.S)[1])
    place = protocol.path(ws, value["id"])
    assert f"`leaderboards/protocols/{value['id']}.json`" in card
    put(place, json.dumps(value))
    put(space / "experiments/floor.py", EXPERIMENT.format(value["id"]))
    return ws, value["id"]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    root = tmp_path / "space"
    root.mkdir()
    monkeypatch.chdir(root)
    for name in ("FACEBENCH_DATA", "FACEBENCH_WORKSPACE", "FACEBENCH_REAL_DATA"):
        monkeypatch.delenv(name, raising=False)
    return root


def pixels(split, rows, mirrored):
    """The floor once more: standardised grey pixels of length 1."""
    made = []
    for row in rows:
        image = transforms.decode(split.record(int(row))["image"])
        image = image[:, ::-1] if mirrored else image
        grey = (image.astype(float) @ [0.299, 0.587, 0.114]).ravel()
        grey -= grey.mean()
        made.append(grey / np.linalg.norm(grey))
    return np.array(made)


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASES)
def test_the_protocol_of_a_data_card_runs(alone, repository, monkeypatch, name):
    ws, protocol_id = make(alone, repository, name, monkeypatch)
    assert cli.main(["protocol", "freeze", protocol_id]) == 0
    assert cli.main(["protocol", "show", protocol_id]) == 0
    of = protocol.load(ws, protocol_id)
    seed = f"--seed={of.seeds[0]}"
    assert cli.main(["run", "--config=experiments/floor.py", seed]) == 0
    trial = files.read_json(next(ws.runs.rglob("trial.json")))
    stored = files.read_npz(next(ws.runs.rglob("predictions.npz")))
    targets = files.read_npz(ws.targets(of.id, of.public))
    test = source.open(ws, **of.dataset).split("test")
    asked = lists.asked(of)
    if asked is None:
        rows = np.arange(len(test))
        pairs = np.stack(np.triu_indices(len(test), 1), 1)
        assert "similarity" in stored
    else:
        rows, pairs = lists.used(test, asked), lists.pairs(test, asked)
        assert of.n == len(rows)
        assert set(stored) == {"score"}
        assert stored["score"].dtype == np.float32
    embedding = pixels(test, rows, False)
    if of.evaluation.get("flip") == "sum":
        embedding = embedding + pixels(test, rows, True)
    if name == "ijb":
        parts = lists.templates(test, asked)
        weighed, templates = embedding * parts["weight"][:, None], []
        for t in range(20):
            of_t = parts["template"] == t
            media = sorted(set(parts["media"][of_t]))
            means = [weighed[of_t & (parts["media"] == m)].mean(0) for m in media]
            templates.append(np.sum(means, axis=0))
        embedding = np.array(templates)
    score = cosines(embedding[pairs[:, 0]], embedding[pairs[:, 1]])
    scale = 32767 if asked is None else 1
    np.testing.assert_allclose(stored["score"] / scale, score, atol=2e-5)
    found = metrics.score("recognition", {"score": score}, {"same": targets["same"]} | {
        n: targets[n] for n in ("fold", "group") if n in targets}, of.convention)  # fmt: skip
    for metric in of.metrics:
        if metric["name"] in found:
            assert trial["metrics"][metric["name"]] == pytest.approx(
                found[metric["name"]], abs=0.03
            )
    best = found["accuracy"] if "accuracy" in found else found["auc"]
    assert best > 0.8  # the pictures of a person are alike
    text = "".join(p.read_text() for p in ws.leaderboards.rglob("*.json"))
    assert not re.search(r"Person_|m\.0[01]|\.(png|jpg)", text)
    if name == "rfw":
        assert set(targets["group"]) == {"African", "Asian", "Caucasian", "Indian"}
        assert len(found["accuracy_per_group"]) == 4


def experiment(evaluation, n, probe=False):
    """As much of an experiment as turning embeddings into scores needs."""
    made = object.__new__(Experiment)
    made.protocol = SimpleNamespace(id="recognition/x/y@1", evaluation=evaluation, n=n)
    made.config = SimpleNamespace(semantic={"probe": {}} if probe else {})
    test = source.Split(None, "x/y", "test", n)
    made.dataset = SimpleNamespace(split=lambda name: test)
    return made


def test_mirror_images_are_added_before_anything_is_normalised():
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(8, 3))  # 4 images, then their mirror images
    norm = np.linalg.norm(raw, axis=1)
    outputs = {"embedding": raw / norm[:, None], "norm": norm}
    flipped = experiment({"pairs": "all", "flip": "sum"}, 4)
    found = flipped._comparisons(outputs, np.arange(0))
    both = raw[:4] + raw[4:]
    i, j = np.triu_indices(4, 1)
    np.testing.assert_allclose(found["score"], cosines(both[i], both[j]))
    assert set(found) == {"score"}
    with pytest.raises(FacebenchError, match="must predict 'norm'"):
        flipped._comparisons({"embedding": raw}, np.arange(0))
    # what a probe gives is its embedding as it is
    floor = experiment({"pairs": "all", "flip": "sum"}, 4, probe=True)
    found = floor._comparisons({"embedding": raw}, np.arange(0))
    np.testing.assert_allclose(found["score"], cosines(both[i], both[j]))


CLOSED = {
    "evaluation": {"gallery": "subset"},
    "regimes": {"kind": "shots", "values": [1, 2], "by": "unit", "budget": "iso-step"},
    "predictions": {"similarity": {"dtype": "float32"}},
    "cluster": "unit",
}


@pytest.mark.slow
def test_a_closed_set_enrols_what_was_trained_on(alone, repository, monkeypatch):
    shutil.copytree(repository / "datasets/orl", alone / "datasets/orl")
    (alone / "WORKSPACE.md").write_text("# sets\n")
    for n in range(1, 41):
        for m in range(1, 11):
            image = cv2.resize(cv2.imdecode(np.frombuffer(face(n, m), np.uint8), 0), (92, 112))
            put(alone / f"data/manual/orl/s{n}/{m}.pgm", b"P5\n92 112\n255\n" + image.tobytes())
    ws = workspace.find(alone)
    card = (repository / "datasets/face_folder/README.md").read_text()
    value = json.loads(re.search(r"```json\n(.*?)```", card, re.S)[1]) | CLOSED
    value |= {
        "id": "recognition/orl/closed@1",
        "dataset": {"name": "orl", "config": "closed-set", "version": "1.0.0"},
        "metrics": value["metrics"][:1],
        "seeds": [0],
    }
    put(protocol.path(ws, value["id"]), json.dumps(value))
    put(alone / "experiments/floor.py", EXPERIMENT.format(value["id"]))
    assert cli.main(["protocol", "freeze", value["id"]]) == 0
    assert cli.main(["run", "--config=experiments/floor.py"]) == 0
    of = protocol.load(ws, value["id"])
    dataset = source.open(ws, **of.dataset)

    def crops(split, rows):
        with pipeline.predict_batches(
            split, preprocess=of.preprocess, batch_size=len(rows), indices=rows, threads=0
        ) as batches:
            grey = next(batches)["image"].astype(float) @ [0.299, 0.587, 0.114]
        grey = grey.reshape(len(rows), -1)
        grey -= grey.mean(1, keepdims=True)
        return grey / np.linalg.norm(grey, axis=1, keepdims=True)

    test, train = dataset.split("test"), dataset.split("train")
    probes = crops(test, np.arange(200))
    people = sorted(set(train.units))
    scores = {}
    for path in ws.runs.rglob("trial.json"):
        trial = files.read_json(path)
        k = trial["regime"]["value"]
        rows, _ = subsets.of_protocol(of, dataset, k, 0)
        known = crops(train, rows)
        units = np.array([train.units[i] for i in rows])
        assert sorted(units) == sorted(people * k)
        best = np.stack([(probes @ known[units == who].T).max(1) for who in people], axis=1)
        stored = files.read_npz(path.parent / "predictions.npz")["similarity"]
        np.testing.assert_allclose(stored, best, atol=1e-5)
        right = [people[j] == unit for j, unit in zip(best.argmax(1), test.units)]
        assert trial["metrics"]["rank@1"] == np.mean(right)
        scores[k] = np.mean(right)
    assert 0.1 < scores[1] < scores[2]
