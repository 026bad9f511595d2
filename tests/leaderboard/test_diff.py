"""Two entries side by side, held against brute force."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facebench import cli, diff, protocol
from facebench.explain import question, shelf
from facebench.leaderboard import derived, judge, record

from .conftest import LANDMARKS, RECOGNITION


@pytest.fixture
def of(full):
    return shelf.Shelf(full.space, LANDMARKS)


def compared(of, a, b, metric=None, value=None):
    asked = question.ask(of.protocol, metric, None)
    return diff.compare(of, of.entry(a), of.entry(b), asked, value)


def losses(of, entry):
    """(seeds, n) errors in per cent at all labels, in whole units of 1e-9 as the judge keeps."""
    said = record.read(of.ws, record.paths(of.ws, of.protocol.id, entry)[0])
    true = judge.load_targets(of.ws, of.protocol)["points"]
    length = np.linalg.norm(true[:, 36] - true[:, 45], axis=1)
    stored = record.read_bundle(of.ws, said)["points"] / 256
    rows = [i for i, t in enumerate(said["trials"]) if t["regime"]["value"] == 1.0]
    return np.linalg.norm(stored[rows] - true, axis=-1).mean(axis=-1) / length


def test_samples_won_lost_and_tied(of):
    found = compared(of, "small-net", "other-net")
    a, b = losses(of, "small-net"), losses(of, "other-net")
    for seed, row in enumerate(found["samples"]["seeds"]):
        assert row["won"] == int((a[seed] < b[seed]).sum())
        assert row["lost"] == int((a[seed] > b[seed]).sum())
        assert row["won"] + row["lost"] + row["tied"] == 12
    other = compared(of, "other-net", "small-net")
    assert [r["won"] for r in other["samples"]["seeds"]] == [
        r["lost"] for r in found["samples"]["seeds"]
    ]
    per_unit = 100 * (a - b).mean(axis=0)
    order = sorted(range(12), key=lambda u: per_unit[u])  # lower is better: A's best first
    assert [u["unit"] for u in found["units"]] == order
    assert [u["estimate"] for u in found["units"]] == pytest.approx(per_unit[order], abs=1e-6)


def test_the_comparison_is_the_boards(full):
    for name in (LANDMARKS, RECOGNITION):
        of = shelf.Shelf(full.space, name)
        kept = json.loads(derived.place(full.space, name).read_text())["entries"]
        first, last = of.board.ranked[0].entry, of.board.ranked[-1].entry
        found = compared(of, last, first)
        primary = of.protocol.primary["name"]
        row = next(
            r for r in found["metrics"] if r["metric"]["name"] == primary and r["value"] == 1
        )
        for key in ("estimate", "low", "high", "p"):
            assert row[key] == pytest.approx(kept[last]["first"][key], rel=1e-8)
        assert row["better"] in ("b", None)
        back = compared(of, first, last)["metrics"][found["metrics"].index(row)]
        assert back["estimate"] == -row["estimate"]
        assert (back["low"], back["high"]) == (-row["high"], -row["low"])


def test_an_entry_with_itself_as_another_record_tells_it(full):
    """One trial's predictions are replaced: nothing else differs."""
    of = protocol.load(full.space, LANDMARKS)
    full.run(of, "twin", 1.0)  # the same draws as small-net
    from facebench import leaderboard

    leaderboard.submit(full.space, of.id, "twin")
    made = shelf.Shelf(full.space, LANDMARKS)
    found = compared(made, "small-net", "twin")
    assert found["agreement"]["between"] == 1.0
    assert found["agreement"]["a_seeds"] < 1
    assert all(r["won"] == r["lost"] == 0 and r["tied"] == 12 for r in found["samples"]["seeds"])
    assert {row["p"] for row in found["metrics"]} == {1.0}
    assert found["config"] == []
    assert found["environment"] == []


def test_config_and_environment_lines(full, capsys):
    of = protocol.load(full.space, LANDMARKS)
    more = {"optim": {"lr": 0.5}}
    full.record(of, "faster", 1.2, config=more)
    words = ["diff", LANDMARKS, "small-net", "faster", f"--workspace={full.root}"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "optim.lr 0.001 -> 0.5" in out
    assert "the same environment" in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_metric_without_sums_is_compared_over_seeds_alone(full):
    of = shelf.Shelf(full.space, RECOGNITION)
    found = compared(of, "net", "pixels", "eer")
    assert found["samples"] is None
    assert found["units"] == []
    row = next(r for r in found["metrics"] if r["metric"]["name"] == "eer")
    assert row["unit"] is None
    assert "* paired by seed alone" in diff.text(of.protocol, found)
    searched = compared(of, "net", "pixels", "rank@1")
    targets = judge.load_targets(full.space, of.protocol)

    def right(entry, seed):
        trial = of.entry(entry).trials[f"1.0/{seed}"]
        best = of.predictions(trial)["similarity"].argmax(axis=1)
        return targets["gallery_identity"][best] == targets["probe_identity"]

    for row in searched["samples"]["seeds"]:
        a, b = right("net", row["seed"]), right("pixels", row["seed"])
        assert (row["won"], row["lost"]) == (int((a & ~b).sum()), int((b & ~a).sum()))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([LANDMARKS, "small-net", "small-net"], "twice"),
        ([LANDMARKS, "small-net", "smal-nets"], "did you mean 'small-net'"),
        ([LANDMARKS, "small-net"], "expected a record's file"),
        ([LANDMARKS], "too few arguments"),
        ([LANDMARKS, "small-net", "other-net", "--regime=0.5"], "no regime value '0.5'"),
        ([LANDMARKS, "small-net", "other-net", "--metric=nmee"], "did you mean 'nme'"),
    ],
)
def test_mistakes_are_said(full, capsys, words, says):
    assert cli.main(["diff", *words, f"--workspace={full.root}"]) == 2
    assert says in capsys.readouterr().err


def test_records_of_two_protocols_are_refused(full, capsys):
    a = record.paths(full.space, LANDMARKS, "small-net")[0]
    b = record.paths(full.space, RECOGNITION, "net")[0]
    assert cli.main(["diff", str(a), b.stem, f"--workspace={full.root}"]) == 2
    said = capsys.readouterr().err
    assert f"is of {LANDMARKS}" in said
    assert f"is of {RECOGNITION}" in said
    assert cli.main(["diff", str(a), a.stem, f"--workspace={full.root}"]) == 2
    assert "nothing to compare" in capsys.readouterr().err


def test_two_records_by_their_digits(full, capsys):
    a, b = (record.paths(full.space, LANDMARKS, e)[0] for e in ("small-net", "mean-shape"))
    words = ["diff", a.stem[:8], str(b), "--json", f"--workspace={full.root}"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["a"]["entry"], found["b"]["entry"]) == ("small-net", "mean-shape")
    assert found["units"][0]["estimate"] < 0


def test_without_labels_only_what_is_recorded_is_compared(full):
    full.space.targets(RECOGNITION, False).unlink()
    of = shelf.Shelf(full.space, RECOGNITION)
    found = compared(of, "net", "pixels")
    assert found["samples"] is None
    assert found["agreement"]["between"] is not None  # reads no label
    assert "the labels are not here" in diff.text(of.protocol, found)
    with pytest.raises(judge.MissingTargetsError):
        compared(of, "net", "pixels", "tar@far=0.2")


def test_only_seeds_that_both_have_are_compared(full):
    of = protocol.load(full.space, LANDMARKS)
    full.part(full.record(of, "in-parts", 1.1), [0, 1, 3])  # without 1.0/0
    made = shelf.Shelf(full.space, LANDMARKS)
    found = compared(made, "small-net", "in-parts")
    assert [row["seed"] for row in found["samples"]["seeds"]] == [1]
    a, b = losses(made, "small-net")[1], losses(made, "in-parts")[0]
    row = next(r for r in found["metrics"] if r["metric"]["name"] == "nme" and r["value"] == 1)
    assert row["estimate"] == pytest.approx(100 * (a - b).mean(), rel=1e-8)
    assert (row["low"], row["p"], row["better"]) == (None, 1.0, None)  # one seed separates nothing
