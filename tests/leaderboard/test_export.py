"""CSV, JSON and LaTeX hold what the board holds."""

import csv
import io
import json
import re

import pytest

from facebench import files, leaderboard
from facebench.leaderboard import board, export, latex

from .conftest import landmark_draft, landmark_targets

NAME = "leaderboards/exports/landmarks/toy/fractions@1"


def test_the_csv_has_one_line_per_score(full):
    text = leaderboard.build(full.space)[f"{NAME}.csv"].decode()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert "\r" not in text
    assert list(lines[0]) == list(export.COLUMNS)
    expected = {}
    for path in (full.space.records / "landmarks/toy/fractions@1").rglob("*.json"):
        value = files.read_json(path)
        for t in value["trials"]:
            for name, score in t["metrics"].items():
                key = value["entry"], t["regime"]["value"], t["seed"], name
                expected[key] = score, t["trial_id"][7:19], path.stem
    found = {
        (r["entry"], float(r["value"]), int(r["seed"]), r["metric"]): (
            float(r["score"]),
            r["trial"],
            r["record"],
        )
        for r in lines
    }
    assert found == expected
    assert len(lines) == len(expected) == 3 * 4 * 3


def test_the_csv_leaves_a_score_that_is_not_there_empty(toy, landmarks):
    toy.record(landmarks, "net", 1.0, diverged=("1.0/0",))
    lines = csv.DictReader(io.StringIO(export.long(board.assemble(toy.space, landmarks))))
    (lost,) = [r for r in lines if r["outcome"] == "diverged" and r["metric"] == "nme"]
    assert lost["score"] == ""


def test_the_json_has_the_documented_keys_and_no_others(full, landmarks):
    full.record(landmarks, "lost", 1.0, diverged=("1.0/0",), draw=2)
    half = full.record(landmarks, "half", 1.0, draw=3)
    full.part(half, [0, 1])
    made = leaderboard.build(full.space)
    value = json.loads(made[f"{NAME}.json"], parse_constant=lambda name: pytest.fail(name))
    assert set(value) == set(export.TOP)
    assert value["schema"] == export.SCHEMA
    rows = value["ranked"] + value["incomplete"]
    assert len(rows) == 5
    for row in rows:
        assert set(row) == set(export.ROW)
        for score in row["scores"]:
            assert set(score) == set(export.SCORE)
        for pair in (row["first"], row["above"]):
            assert pair is None or set(pair) == set(export.PAIR)
    readme = made["leaderboards/exports/README.md"].decode()
    for keys in (export.TOP, export.ROW, export.SCORE, export.PAIR, export.COLUMNS):
        assert all(f"`{name}`" in readme for name in keys)
    index = json.loads(made["leaderboards/exports/index.json"])
    for listed in index["boards"]:
        for ending in ("json", "csv", "tex"):
            assert f"leaderboards/exports/{listed[ending]}" in made


def test_the_json_says_what_the_board_says(full, landmarks):
    value = json.loads(leaderboard.build(full.space)[f"{NAME}.json"])
    of = board.assemble(full.space, landmarks)
    for row, said in zip(of.ranked, value["ranked"], strict=True):
        assert said["entry"] == row.entry
        assert said["rank"] == list(row.rank)
        assert said["sampling"] == list(row.sampling)
        scores = {(s["metric"], s["value"]): s for s in said["scores"]}
        assert scores.keys() == row.cells.keys()
        for key, cell in row.cells.items():
            assert scores[key]["mean"] == cell.mean
            assert scores[key]["seeds"] == list(cell.values)


def latex_rows(text):
    body = text[text.index("\\midrule") : text.index("\\bottomrule")]
    return [line.strip().removesuffix(r" \\").split(" & ") for line in body.splitlines()[1:-1]]


def test_the_latex_table_marks_the_best_and_the_top_group(full):
    text = leaderboard.build(full.space)[f"{NAME}.tex"].decode()
    first, second, last = latex_rows(text)
    assert first[:2] == ["1--2", "small-net"]
    assert re.fullmatch(r"\\textbf\{\d+\.\d\d\} \$\\pm\$ \d+\.\d\d", first[3])
    assert re.fullmatch(r"\\underline\{\d+\.\d\d\} \$\\pm\$ \d+\.\d\d", second[3])
    assert re.fullmatch(r"\d+\.\d\d \$\\pm\$ \d+\.\d\d", last[3])
    assert re.fullmatch(r"\d+\.\d\d \$\\pm\$ \d+\.\d\d", first[2])  # ranked at the last column
    header = next(line for line in text.splitlines() if "rank &" in line)
    assert header.count("&") + 1 == len(first) == len(re.search(r"\{([lr]+)\}", text)[1])
    for command in ("toprule", "midrule", "bottomrule", "end{tabular}", "end{table}"):
        assert text.count(f"\\{command}") == 1
    assert text.count("{") == text.count("}")


def test_latex_prints_every_character_as_it_is():
    assert latex.escape("a_b & 5 % of $x^2$ {#1} ~ \\") == (
        r"a\_b \& 5 \% of \$x\textasciicircum{}2\$ \{\#1\} \textasciitilde{} \textbackslash{}"
    )
    assert latex.escape("1–3 ± ∞\n↓") == r"1--3 $\pm$ $\infty$ $\downarrow$"


def test_a_title_cannot_break_out_of_the_latex_table(toy):
    draft = landmark_draft() | {"title": "100 % } \\end{table} \\input{x} $ & # _ ^ ~"}
    of = toy.freeze(draft, landmark_targets())
    toy.record(of, "net_1.0", 1.0)
    text = latex.board(board.assemble(toy.space, of))
    assert text.count("\\end{table}") == 1
    assert "\\input" not in text
    assert r"net\_1.0" in text


def test_a_board_without_rows_is_still_a_table(toy, landmarks):
    of = board.assemble(toy.space, landmarks)
    assert latex_rows(latex.board(of)) == []
    assert export.long(of).count("\n") == 1
    assert json.loads(export.api(of))["ranked"] == []


def test_scores_are_normalised_by_what_the_protocol_states(full, landmarks):
    landmarks.primary.update(chance=30.0, reference=5.0)
    of = board.assemble(full.space, landmarks)
    for row, said in zip(of.ranked, json.loads(export.api(of))["ranked"], strict=True):
        mean = row.cells["nme", 1.0].mean
        assert said["normalised"] == pytest.approx((30 - mean) / 25)
        assert said["normalised_curve"] == pytest.approx((30 - row.area.mean) / 25)
    from facebench.leaderboard import render

    text = render.board(of)
    assert "| normalised | normalised curve |" in text
    assert "0 is chance (30), 1 the reference (5)" in text
