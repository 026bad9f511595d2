"""Records run again: what is the same passes, what is not is seen."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats as scipy_stats

from facebench import cli, protocol, reproduce, tolerance
from facebench.data import pipeline
from facebench.leaderboard import stats
from facebench.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def submitted(frozen, tmp_path_factory):
    """A workspace with one record of each task, made by whole commands."""
    root = tmp_path_factory.mktemp("reproduce") / "space"
    shutil.copytree(frozen, root)
    for task in ("landmarks", "recognition"):
        flag = f"--workspace={root}"
        assert cli.main(["run", f"--config={root}/experiments/{task}.py", flag]) == 0
        words = ["submit", f"--protocol={task}/toyfaces/few@1", "--entry=net", flag]
        assert cli.main(words) == 0
    return root


def record(root, task):
    (path,) = (root / "leaderboards/records" / task).rglob("*.json")
    return path


def run(root, task, *words):
    return cli.main(["reproduce", str(record(root, task)), f"--workspace={root}", *words])


@pytest.mark.parametrize("task", ["landmarks", "recognition"])
def test_the_same_machine_makes_the_same_bytes(submitted, capsys, task):
    assert run(submitted, task, "--trial=0.5/1,1.0/0") == 0
    out = capsys.readouterr().out
    assert "REPRODUCED 0.5/1 bit by bit" in out
    assert "REPRODUCED 1.0/0 bit by bit" in out
    assert re.search(r"2 trials run again, 2 reproduced; \d+ s in all, \d+ s when", out)
    assert "[2/2] 1.0/0  runs again" in out
    assert "weights      the same" in out
    assert not list((submitted / "runs").glob(".reproduce-*"))


def test_another_learning_rate_is_noticed(submitted, capsys):
    assert run(submitted, "landmarks", "--with=optim.lr=2e-3") == 1
    out = capsys.readouterr().out
    assert "NOT REPRODUCED 0.5/0 by the bitwise rule" in out
    assert "weights      differ" in out


def test_another_data_is_noticed_before_anything_is_trained(submitted, tmp_path, capsys):
    """A label in a hundred is another one: the data is not what the protocol was frozen on."""
    root = tmp_path / "space"
    shutil.copytree(submitted, root)
    builder = root / "datasets/toyfaces/toyfaces_dataset_builder.py"
    text = builder.read_text()
    planted = text.replace(
        "(ring * r + [cx, cy]).astype",
        '(ring * (r if unit + str(i) != "train-030" else -r) + [cx, cy]).astype',
    )
    assert planted != text
    builder.write_text(planted)
    shutil.rmtree(root / "data")
    assert run(root, "landmarks") == 1
    said = capsys.readouterr().err
    assert "toyfaces/small 1.0.0 is not prepared here" in said
    assert "run: facebench data prepare toyfaces/small" in said
    assert cli.main(["data", "prepare", "toyfaces/small", f"--workspace={root}"]) == 0
    assert run(root, "landmarks") == 1
    assert "split 'train' of toyfaces/small 1.0.0: content is" in capsys.readouterr().err


def test_what_is_asked_wrongly_is_said(submitted, capsys):
    assert run(submitted, "landmarks", "--trial=0.5/9") == 2
    assert "0.5/0, 0.5/1, 1.0/0, 1.0/1" in capsys.readouterr().err
    assert run(submitted, "landmarks", "--rule=exact") == 2
    assert "bitwise" in capsys.readouterr().err
    assert run(submitted, "landmarks", "--with=optim.rate=1") == 2
    assert "optim.rate" in capsys.readouterr().err
    assert run(submitted, "landmarks", "--measure=1") == 2
    assert "--measure=1: expected 2 to" in capsys.readouterr().err
    assert run(submitted, "landmarks", "--measure=2", "--rule=bitwise") == 2
    assert "leave out --with and --rule" in capsys.readouterr().err


def test_a_trial_that_breaks_leaves_the_others(submitted, monkeypatch, capsys):
    from facebench.experiment import Experiment

    whole = Experiment.trial

    def breaks(self, job, title=""):
        if job.seed == 0:
            raise ValueError("no such luck")
        return whole(self, job, title)

    monkeypatch.setattr(Experiment, "trial", breaks)
    assert run(submitted, "landmarks", "--trial=0.5/0,0.5/1") == 3
    out = capsys.readouterr().out
    assert "FAILED 0.5/0: ValueError: no such luck" in out
    assert "REPRODUCED 0.5/1 bit by bit" in out
    assert "2 trials run again, 1 reproduced" in out


def test_a_builder_of_another_version_is_not_run(submitted, tmp_path, capsys):
    root = tmp_path / "space"
    shutil.copytree(submitted, root)
    shutil.rmtree(root / "data")
    builder = root / "datasets/toyfaces/toyfaces_dataset_builder.py"
    builder.write_text(builder.read_text().replace('Version("1.0.0")', 'Version("1.1.0")'))
    assert run(root, "landmarks") == 1
    assert "this release's builder makes 1.1.0" in capsys.readouterr().err
    assert not (root / "data").exists()


def test_a_record_of_other_keys_is_refused(submitted, tmp_path, capsys):
    """A config that this release reads otherwise is not run as if it meant the same."""
    from facebench import config

    semantic = json.loads(record(submitted, "landmarks").read_text())["config"]["semantic"]
    assert config.restore(semantic).semantic == semantic
    del semantic["optim"]["nesterov"]
    with pytest.raises(Exception, match="something else"):
        config.restore(semantic)


def test_the_interval_of_one_more_draw():
    values = [0.61, 0.58, 0.64, 0.6, 0.55]
    low, high = stats.prediction_interval(values, 0.99)
    half = scipy_stats.t.ppf(0.995, 4) * np.std(values, ddof=1) * np.sqrt(1.2)
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), 1e-6)
    assert stats.prediction_interval([0.5], 0.99) == (-np.inf, np.inf)
    # as often as it says: 99 of 100 further draws lie within
    rng = np.random.Generator(np.random.Philox(5))
    draws = rng.normal(size=(4000, 4))
    spans = [stats.prediction_interval(row[:3], 0.99) for row in draws]
    inside = np.mean([a <= x <= b for (a, b), x in zip(spans, draws[:, 3])])
    assert abs(inside - 0.99) < 0.006


# -- the statistical rule -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tolerant(frozen, tmp_path_factory):
    """A record under a protocol whose floor was measured on the version before."""
    root = tmp_path_factory.mktemp("tolerant") / "space"
    shutil.copytree(frozen, root)
    flag = f"--workspace={root}"
    learns = ["--config.train.steps=60", "--config.optim.lr=1e-2"]
    first = "landmarks/toyfaces/few@1"
    experiment = root / "experiments/landmarks.py"
    assert cli.main(["run", f"--config={experiment}", flag, *learns]) == 0
    assert cli.main(["submit", f"--protocol={first}", "--entry=net", flag]) == 0
    space = Workspace(root=root, data=root / "data")
    path = record(root, "landmarks")
    runs = tolerance.measure(space, path, 5, ["1.0/0"])
    shares = [r.outcome.agreement for r in runs if not r.outcome.bitwise]
    said = tolerance.text(protocol.load(space, first), runs)
    assert f"suggested floor {tolerance.floor(shares):.4f}" in said
    change = re.search(r"--set='(tolerance=.*)'", said)[1]
    assert cli.main(["protocol", "bump", first, f"--set={change}", flag]) == 0
    second = "landmarks/toyfaces/few@2"
    assert cli.main(["protocol", "freeze", second, flag]) == 0
    experiment.write_text(experiment.read_text().replace("few@1", "few@2"))
    assert cli.main(["run", f"--config={experiment}", flag, *learns]) == 0
    assert cli.main(["submit", f"--protocol={second}", "--entry=net", flag]) == 0
    (made,) = (root / "leaderboards/records" / second).rglob("*.json")
    return root, made, tolerance.floor(shares)


def again(tolerant, *words):
    root, path, _ = tolerant
    words = ["reproduce", str(path), f"--workspace={root}", "--trial=1.0/0", *words]
    return cli.main([*words, "--rule=statistical"])


def test_a_rerun_of_another_rounding_passes_by_the_measured_floor(tolerant):
    root, path, floor = tolerant
    (variant,) = [v for v in tolerance.VARIANTS if v.name == "2 devices, an older CPU's"]
    words = ["reproduce", str(path), f"--workspace={root}", "--trial=1.0/0"]
    done = subprocess.run(
        [sys.executable, "-m", "facebench", *words],
        env=tolerance.environment(variant, os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "REPRODUCED 1.0/0 by the statistical rule" in done.stdout  # other bytes
    assert f"floor {floor:.4f}" in done.stdout
    assert "environment  devices 8 -> 2" in done.stdout


def test_a_doubled_learning_rate_falls_below_the_floor(tolerant, capsys):
    assert again(tolerant, "--with=optim.lr=2e-2") == 1
    out = capsys.readouterr().out
    assert "NOT REPRODUCED 1.0/0 by the statistical rule" in out
    assert "BELOW" in out


def mislabel(monkeypatch, wrong):
    """Gives the first `wrong` of the 48 training samples the points of their neighbours.

    In the pipeline, behind the digests: the dataset on disk is what it was.
    """
    read = pipeline._Reader.__call__

    def planted(self, index):
        sample = read(self, index)
        if self.split.name != "train" or index >= wrong:
            return sample
        return {**sample, "points": read(self, (index + 1) % wrong)["points"]}

    monkeypatch.setattr(pipeline._Reader, "__call__", planted)


@pytest.mark.parametrize("wrong", [2, 8])
def test_permuted_training_labels_fall_below_the_floor(tolerant, monkeypatch, capsys, wrong):
    """Of 48 samples the least that can be permuted is two; the metric alone does not see it."""
    assert again(tolerant) == 0
    assert "REPRODUCED 1.0/0 bit by bit" in capsys.readouterr().out
    mislabel(monkeypatch, wrong)
    assert again(tolerant) == 1
    out = capsys.readouterr().out
    assert "NOT REPRODUCED 1.0/0 by the statistical rule" in out
    assert "BELOW" in out
    assert "OUTSIDE" not in out


def test_the_floor_is_where_one_more_run_is_expected():
    shares = [0.6434, 0.6238, 0.6346]
    half = scipy_stats.t.ppf(0.995, 2) * np.std(shares, ddof=1) * np.sqrt(4 / 3)
    low = np.mean(shares) - half
    assert tolerance.floor(shares) == pytest.approx(low, abs=1e-4)
    assert tolerance.floor(shares) <= low
    assert tolerance.floor([1.0, 1.0, 1.0]) == 1.0
    assert tolerance.floor([0.9, 0.1]) == 0.0


def test_variants_change_devices_and_flags_and_nothing_of_the_config(submitted):
    space = Workspace(root=submitted, data=submitted / "data")
    of = reproduce.claim(space, record(submitted, "landmarks"))
    ways = tolerance.variants(of, 4)
    for way in ways:
        other = reproduce.claim(space, of.path, way.execution)
        assert other.config.semantic == of.config.semantic
    base = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3 --xla_a=1", "HOME": "/h"}
    made = tolerance.environment(ways[0], base | {"JAX_NUM_CPU_DEVICES": "8"})
    assert made["XLA_FLAGS"] == "--xla_a=1 --xla_force_host_platform_device_count=2"
    assert made["HOME"] == "/h"
    assert "JAX_NUM_CPU_DEVICES" not in made
    assert int(made["NPROC"]) >= 4  # a thread for every device that waits
