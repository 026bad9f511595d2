"""The verb on trials of a small workspace: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from facebench import cli, files

pytestmark = pytest.mark.slow

BUILDER = '''
import cv2
import numpy as np
import tensorflow_datasets as tfds

from facebench.schemes import EXPRESSIONS

NAMES = EXPRESSIONS[:3]
SPLITS = {"train": 48, "dev": 12, "test": 18}
FACE = np.array(FACE_POINTS, np.float32)


class Mouths(tfds.core.GeneratorBasedBuilder):
    """Noise with a mouth whose colour tells the class."""

    generated = True
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="small")]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            disable_shuffling=True,
            features=tfds.features.FeaturesDict({
                "key": tfds.features.Text(),
                "unit": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
                "expression": tfds.features.ClassLabel(names=NAMES),
                "points": tfds.features.Tensor(shape=(68, 2), dtype=np.float32),
            }),
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in SPLITS}

    def _generate_examples(self, split):
        for i in range(SPLITS[split]):
            rng = np.random.Generator(np.random.Philox(key=[len(split), i]))
            image = rng.integers(60, 196, (32, 32, 3))
            image[22:27, 11:21, i % 3] += 59
            yield i, {
                "key": f"{split}/{i}",
                "unit": f"{split}-{i}",
                "image": cv2.imencode(".png", image.astype(np.uint8))[1].tobytes(),
                "expression": i % 3,
                "points": FACE,
            }
'''

NETS = """
from flax import linen as nn


class Net(nn.Module):
    @nn.compact
    def __call__(self, image, *, train: bool):
        b, h, w, _ = image.shape
        x = image.reshape(b, h // 4, 4, w // 4, 4, 3).mean((2, 4))
        x = nn.relu(nn.Dense(8, name="patches")(x))
        return {"pooled": x.mean((1, 2)), "spatial": x}
"""

EXPERIMENT = """
from facebench.config import base


def get_config(arg="net"):
    config = base()
    config.entry = arg
    config.protocol = "expression/mouths/full@1"
    config.model = {"build": "models/net.py:Net"}
    config.task.features = "spatial" if arg == "net" else "pooled"
    config.data.batch_size = 16
    config.optim.lr = 0.05
    config.optim.warmup = 0
    config.train.steps = 10
    config.execution.tensorboard = False
    if arg == "floor":
        config.probe = {"build": "ridge", "label": "expression"}
    return config
"""

EMPTY = {"n": None, "keys": None, "content": None}
PROTOCOL = {
    "schema": "facebench/protocol-1",
    "id": "expression/mouths/full@1",
    "title": "Mouths",
    "task": "expression",
    "dataset": {"name": "mouths", "config": "small", "version": "1.0.0"},
    "splits": {"train": EMPTY, "dev": EMPTY, "test": EMPTY},
    "regimes": {"kind": "full", "values": [1.0], "by": "sample", "budget": "iso-step"},
    "seeds": [0, 1],
    "subsets": None,
    "adaptation": "scratch",
    "selection": "dev",
    "preprocess": {"crop": "full", "size": 32},
    "evaluation": {},
    "convention": None,
    "metrics": [
        {
            **{"name": "accuracy", "unit": "", "higher_is_better": True, "range": [0, 1]},
            **{"primary": True, "decimals": 3},
        }
    ],
    "predictions": {"probability": {"dtype": "uint16", "scale": 65535}},
    "targets": None,
    "labels": "public",
    "note": "",
}
RUNS = "runs/expression/mouths/full@1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, face) -> Path:
    """A workspace with three trials and a floor; not to be changed."""
    root = tmp_path_factory.mktemp("interpret")
    builder = BUILDER.replace("FACE_POINTS", repr(face.round(3).tolist()))
    for path, text in {
        "WORKSPACE.md": "# toy\n",
        "datasets/mouths/mouths_dataset_builder.py": builder,
        "models/net.py": NETS,
        "experiments/nets.py": EXPERIMENT,
        f"leaderboards/protocols/{PROTOCOL['id']}.json": json.dumps(PROTOCOL),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    where = f"--workspace={root}"
    assert cli.main(["protocol", "freeze", PROTOCOL["id"], where]) == 0
    for arg in ("net", "mean", "floor"):
        words = ["run", f"--config={root / 'experiments/nets.py'}:{arg}", where]
        assert cli.main(words if arg == "net" else [*words, "--seed=0"]) == 0
    return root


@pytest.fixture
def space(trained, monkeypatch) -> Path:
    monkeypatch.chdir(trained)
    monkeypatch.delenv("FACEBENCH_DATA", raising=False)
    monkeypatch.delenv("FACEBENCH_WORKSPACE", raising=False)
    return trained


def call(*words: str) -> int:
    return cli.main(["interpret", *words])


def test_a_report(space, capsys):
    assert call(f"--trial={RUNS}/net/1.0/0", "--curves=4", "--out=made") == 0
    shown = capsys.readouterr().out
    value = files.read_json(space / "made/interpret.json")
    assert set(value["methods"]) == {"cam", "gradcam", "gradcam++", "layercam", "attention"}
    assert set(value["baselines"]) == {"gaussian", "mean AU map"}
    assert value["layer"]["name"] == "backbone:spatial"
    assert [c["au"] for c in value["classes"]] == [[], [6, 12, 25], [1, 4, 6, 15, 17]]
    (folder,) = (space / RUNS / "net").glob("1.0-s0-*")
    trial = files.read_json(folder / "trial.json")
    assert value["trial"]["weights"] == trial["model"]["weights"]
    assert value["accuracy"] == pytest.approx(trial["metrics"]["accuracy"])
    for row in (*value["methods"].values(), *value["baselines"].values()):
        assert row["n"] == 12  # neutral has no AUs
        assert row["cosine"]["per_class"][0] is None
        both = row["cosine"]["per_class"][1:]
        if None not in both:
            assert row["cosine"]["mean"] == pytest.approx(np.mean(both))
    assert value["profile"][0]["layer"] == "backbone/patches"
    for name in ("cam", "gradcam++", "= Gaussian on the face", "= mean AU map", "insertion"):
        assert name in shown
    assert "nan" not in shown
    assert str(space) not in (space / "made/interpret.json").read_text()
    picture = cv2.imread(str(space / "made/heatmaps.png"))
    assert picture.shape[0] > 8 * 132
    assert {p.name for p in (space / "made").iterdir()} == {
        *("interpret.json", "heatmaps.png", "profile.svg", "curves.svg"),
    }
    before = (space / "made/interpret.json").read_bytes()
    assert call(f"--trial={folder}", "--curves=4", "--out=made") == 0
    assert (space / "made/interpret.json").read_bytes() == before


def test_layers_and_other_splits(space, capsys):
    assert call(f"--trial={RUNS}/mean/1.0/0", "--layers") == 0
    assert "backbone/patches  Dense  8 x 8         8  profile" in capsys.readouterr().out
    words = [f"--trial={RUNS}/mean/1.0/0", "--split=dev", "--limit=6", "--curves=0", "--json"]
    assert call(*words, "--placement=field", "--layer=*/patches", "--out=dev") == 0
    shown = capsys.readouterr().out
    value = json.loads(shown[shown.index("{") :])
    assert (value["split"], value["images"], value["curves"]) == ("dev", 6, None)
    assert "cam" not in value["methods"]  # a ReLU stands between this layer and the mean
    assert value["notes"][0].startswith("no CAM: the scores are no affine function")
    assert value == files.read_json(space / "dev/interpret.json")


def test_several_and_a_study(space, capsys):
    names = ",".join(f"{RUNS}/{name}" for name in ("net/1.0/0", "net/1.0/1", "mean/1.0/0"))
    assert call(f"--trials={names}", "--study", "--families=a,b,a", "--out=study") == 0
    shown = capsys.readouterr().out
    value = files.read_json(space / "study/study.json")
    assert np.shape(value["similarity"]) == (3, 3)
    np.testing.assert_allclose(np.diag(value["similarity"]), 1)
    assert value["permutation"]["arrangements"] == 3
    assert value["permutation"]["designs"] == 3
    assert value["permutation"]["least_p"] == pytest.approx(1 / 3)
    assert "no answer" in shown
    assert value["expert"]["networks"][0]["iou"]["per_class"][0] is None
    assert {p.name for p in (space / "study").iterdir()} == {
        *("study.json", "maps.png", "similarity.svg", "permutation.svg"),
    }
    two = ",".join(names.split(",")[:2])
    assert call(f"--trials={two}", "--curves=2", "--method=cam") == 0
    shown = capsys.readouterr().out
    assert "correlation image by image" in shown
    assert len(list((space / RUNS).glob("net/*/interpret/interpret.json"))) == 2


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "give --trial or --trials"),
        ([f"--trial={RUNS}/net/1.0/0", "--study"], 2, "--study goes with --trials"),
        ([f"--trial={RUNS}/net/1.0/7"], 2, "no such trial"),
        ([f"--trial={RUNS}/nett"], 2, "no finished trial there"),
        ([f"--trial={RUNS}/floor/1.0/0"], 1, "closed-form fit"),
        ([f"--trial={RUNS}/net/1.0/0", "--split=tset"], 2, "did you mean 'test'"),
        ([f"--trial={RUNS}/net/1.0/0", "--codebook=emfac"], 2, "did you mean 'emfacs'"),
        ([f"--trial={RUNS}/net/1.0/0", "--layer=backbone/patch"], 2, "'backbone/patches'"),
        ([f"--trial={RUNS}/net/1.0/0", "--top=2"], 2, "between 0 and 1"),
        ([f"--trials={RUNS}/net/1.0/0", "--study"], 2, "two trials or more"),
        ([f"--trials={RUNS}/net/1.0/0", "--method=gradcma"], 2, "did you mean 'gradcam'"),
    ],
)
def test_refusals(space, capsys, words, code, says):
    assert call(*words) == code
    assert says in capsys.readouterr().err


def test_a_checkpoint_that_is_gone_or_of_other_weights(space, tmp_path, capsys):
    (folder,) = (space / RUNS / "net").glob("1.0-s0-*")
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    best = files.read_npz(copy / "selected.npz")
    best["0"] = best["0"] + 1
    files.write_npz(copy / "selected.npz", best)
    assert call(f"--trial={copy}") == 1
    assert "has the digest" in capsys.readouterr().err
    shutil.rmtree(copy / "checkpoints")
    assert call(f"--trial={copy}") == 1
    assert "no checkpoint is left there" in capsys.readouterr().err
