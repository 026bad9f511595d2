"""The judge's table: tasks, conventions, what every metric's name means, and what it imports."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from facebench import metrics
from facebench.errors import FacebenchError, UsageError


def samples():
    """Inputs that between them give every metric of every convention."""
    rng = np.random.default_rng(0)
    for convention in metrics.conventions("landmarks"):
        K = int(convention.split("-")[0])
        points = rng.uniform(0, 99, (3, K, 2))
        targets = {"points": points, "visible": points[..., 0] > 40}
        yield "landmarks", {"points": points + 1}, targets, convention
    embedding = rng.normal(size=(80, 4))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    targets = {
        "same": np.arange(40) % 2,
        "group": np.arange(40) // 20,
        "probe_identity": [0, 1, -1],
        "gallery_identity": [0, 1],
    }
    pooled = {
        "template": np.arange(80) // 2,
        "media": np.arange(80) % 3,
        "pairs": rng.integers(0, 40, (40, 2)),
        "probe_template": [3, 4, 5],
        "gallery_template": [0, 1],
    }
    for convention in metrics.conventions("recognition"):
        predictions = {"embedding": embedding, "similarity": rng.normal(size=(3, 2))}
        wanted = dict(targets)
        if convention.startswith(("ijb", "video")):
            predictions = {"embedding": embedding, "detector_score": rng.random(80) + 0.1}
            wanted |= pooled
        if "legacy" in convention:
            wanted["probe_identity"] = [0, 1, 1]
        yield "recognition", predictions, wanted, convention
    label = rng.integers(0, 4, 30)
    shares = rng.dirichlet(np.ones(4), (2, 30))
    targets = {"label": label, "group": label % 2, "distribution": shares[0]}
    yield "expression", {"probability": shares[1]}, targets, "pooled"
    affect = rng.uniform(-1, 1, (2, 30, 2))
    targets = {"valence_arousal": affect[0], "group": label % 2}
    yield "valence_arousal", {"valence_arousal": affect[1]}, targets, "pooled"
    there, fold = rng.integers(0, 2, (30, 3)), np.arange(30) % 3
    for convention in metrics.conventions("action_units"):
        predictions = {"probability": rng.random((30, 3)), "threshold": rng.random(3)}
        yield "action_units", predictions, {"label": there, "fold": fold}, convention
        yield (
            "action_units",
            predictions,
            {"label": there},
            convention.replace("fold-mean", "pooled"),
        )
    for convention in metrics.conventions("action_unit_intensity"):
        arrays = (
            {"intensity": rng.random((30, 3))},
            {"intensity": rng.random((30, 3)), "fold": fold},
        )
        yield "action_unit_intensity", *arrays, convention
    masks = rng.integers(0, 3, (2, 4, 5, 5))
    yield "parsing", {"parse": masks[0]}, {"parse": masks[1]}, "pooled"


@pytest.mark.parametrize("case", list(samples()), ids=lambda case: f"{case[0]}-{case[3]}")
def test_every_metric_that_is_returned_is_explained_and_in_its_range(case):
    task, predictions, targets, convention = case
    result = metrics.score(task, predictions, targets, convention)
    for name, value in result.items():
        info = metrics.metric_info(task, name)
        assert isinstance(value, list) == ("_per_" in name)
        unit = {
            "landmarks": "%",
            "action_unit_intensity": {"mae": "intensity", "mse": "intensity^2"}.get(name[:3]),
            "expression": {"conf": "count", "kl_d": "nats", "cros": "nats"}.get(name[:4]),
            "valence_arousal": "scale" if name.startswith("rmse") else None,
            "recognition": {"pairs": "count", "ratio": "ratio", "ser": "ratio"}.get(
                name.partition("@")[0].removesuffix("_per_group").rpartition("_")[2]
            ),
        }.get(task)
        assert info["unit"] == (unit or "fraction")
        assert info["higher_is_better"] in (True, False, None)
        low, high = info["range"]
        for number in np.ravel(np.array(value, object)):
            if number is None and info["unit"] == "ratio":
                continue  # the smallest is 0
            assert type(number) is float
            low = -np.inf if low is None else low
            assert low <= number <= (np.inf if high is None else high)


def test_tasks_and_conventions_are_listed():
    assert metrics.tasks() == [
        "action_unit_intensity", "action_units", "expression",
        "landmarks", "parsing", "recognition", "valence_arousal",
    ]  # fmt: skip
    folded = ["pooled", "fold-mean"]
    assert metrics.conventions("action_units") == [*folded, "legacy-best-on-test"]
    assert metrics.conventions("action_unit_intensity") == folded
    assert {"68-inter-ocular", "98-inter-pupil", "19-box", "19-diagonal"} <= set(
        metrics.conventions("landmarks")
    )
    assert {"pooled", "insightface-10fold", "facenet-lfw"} <= set(
        metrics.conventions("recognition")
    )


@pytest.mark.parametrize(
    ("task", "name", "better"),
    [
        ("landmarks", "nme", False),
        ("landmarks", "fr@7.5", False),
        ("landmarks", "auc@10", True),
        ("landmarks", "nme_per_point", False),
        ("recognition", "tar@far=1e-3", True),
        ("recognition", "tar@far=0.001", True),
        ("recognition", "eer_per_group", False),
        ("recognition", "tpir@fpir=0.01", True),
        ("recognition", "accuracy_std", None),
        ("expression", "macro_f1", True),
        ("expression", "confusion_per_class", None),
        ("action_unit_intensity", "icc_3_1_per_fold", True),
        ("action_unit_intensity", "mae_per_au", False),
        ("parsing", "iou_per_class", True),
    ],
)
def test_directions(task, name, better):
    assert metrics.metric_info(task, name)["higher_is_better"] is better


@pytest.mark.parametrize(
    ("task", "name", "hint"),
    [
        ("landmarks", "nmee", "'nme'"),
        ("landmarks", "fr", "'fr@T'"),
        ("landmarks", "nme@10", "'nme'"),
        ("landmarks", "auc@", "'auc@T'"),
        ("landmarks", "nme_per_group", "'nme'"),
        ("recognition", "tar@1e-3", "'tar@far=T'"),
        ("recognition", "rank", "'rank@T'"),
        ("recognition", "EER", "there are: .*eer"),
        ("expression", "f1_per_au", "'f1'"),
        ("action_units", "f1_per_class", "'f1'"),
        ("parsing", "mean_iou", "'miou'"),
    ],
)
def test_a_mistyped_metric_gets_the_nearest(task, name, hint):
    with pytest.raises(UsageError, match=f"{task} has no metric '{name}': .*{hint}"):
        metrics.metric_info(task, name)


def test_a_mistyped_task_gets_the_nearest():
    for call in (metrics.conventions, lambda t: metrics.score(t, {}, {})):
        with pytest.raises(UsageError, match=r"no task is named 'landmark': .*'landmarks'"):
            call("landmark")


def test_a_number_in_a_table_that_is_not_finite_is_refused(monkeypatch):
    def score(*_):
        return {"confusion_per_class": [[1.0, 0.0], [np.inf, 1.0]]}

    monkeypatch.setattr("facebench.metrics.expression.score", score)
    with pytest.raises(FacebenchError, match=r"metric 'confusion_per_class' is inf"):
        metrics.score("expression", {}, {})


def test_messages_name_the_files_they_are_told():
    with pytest.raises(Exception, match=r"g\.npz: array 'points' is missing: there are none"):
        metrics.score("landmarks", {}, {}, where=("p.npz", "g.npz"))


def test_the_judge_imports_no_accelerator_library():
    code = (
        "import sys, facebench.metrics as m, facebench.score\n"
        "assert 'facebench.metrics.landmarks' not in sys.modules\n"
        "for t in m.tasks(): m.conventions(t)\n"
        "banned = {'jax', 'flax', 'scipy', 'tensorflow_datasets', 'grain', 'cv2'}\n"
        "sys.exit(str(sorted(banned & set(sys.modules))) if banned & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
