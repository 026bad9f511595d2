"""Records run again: what is the same passes, what is not is seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats as scipy_stats

from facebench import cli, reproduce

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def submitted(frozen, tmp_path_factory):
    """A workspace with one record of each task, made by whole commands."""
    import shutil

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
    assert "2 trials run again, 2 reproduced" in out
    assert "weights      the same" in out
    assert not list((submitted / "runs").glob(".reproduce-*"))


def test_another_learning_rate_is_noticed(submitted, capsys):
    assert run(submitted, "landmarks", "--with=optim.lr=2e-3") == 1
    out = capsys.readouterr().out
    assert "NOT REPRODUCED 0.5/0 by the bitwise rule" in out
    assert "weights      differ" in out


def test_another_data_is_noticed_before_anything_is_trained(submitted, tmp_path, capsys):
    """A label in a hundred is another one: the data is not what the protocol was frozen on."""
    import shutil

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
    assert "split 'train' of toyfaces/small 1.0.0: content is" in capsys.readouterr().err


def test_what_is_asked_wrongly_is_said(submitted, capsys):
    assert run(submitted, "landmarks", "--trial=0.5/9") == 2
    assert "0.5/0, 0.5/1, 1.0/0, 1.0/1" in capsys.readouterr().err
    assert run(submitted, "landmarks", "--rule=exact") == 2
    assert "bitwise" in capsys.readouterr().err
    assert run(submitted, "landmarks", "--with=optim.rate=1") == 2
    assert "optim.rate" in capsys.readouterr().err


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
    low, high = reproduce.prediction_interval(values)
    half = scipy_stats.t.ppf(0.995, 4) * np.std(values, ddof=1) * np.sqrt(1.2)
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), 1e-6)
    assert reproduce.prediction_interval([0.5]) == (-np.inf, np.inf)
    # as often as it says: 99 of 100 further draws lie within
    rng = np.random.Generator(np.random.Philox(5))
    draws = rng.normal(size=(4000, 4))
    spans = [reproduce.prediction_interval(row[:3]) for row in draws]
    inside = np.mean([a <= x <= b for (a, b), x in zip(spans, draws[:, 3])])
    assert abs(inside - 0.99) < 0.006
