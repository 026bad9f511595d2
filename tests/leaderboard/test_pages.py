import os
import re
import shutil
import subprocess
import sys

import pytest

from facebench import files, leaderboard
from facebench.leaderboard import render
from facebench.leaderboard.board import Cell, Row

BOARD = "leaderboards/boards/landmarks/toy/fractions@1.md"


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown page, as rows of stripped cells, without the ruler."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("|"):
            if not inside:
                found.append([])
            found[-1].append([c.strip() for c in line.strip("|").split("|")])
            inside = True
        else:
            inside = False
    return [[t[0], *t[2:]] for t in found]


def test_a_board_shows_the_records_and_links_to_them(full, landmarks):
    made = leaderboard.build(full.space)
    text = made[BOARD].decode()
    assert text.startswith(render.GENERATED)
    main, *others = tables(text)
    assert main[0] == [
        "rank",
        "entry",
        "kind",
        "10 % of labels",
        "100 % of labels",
        "parameters",
        "trust",
        "record",
    ]
    assert [r[:3] for r in main[1:]] == [
        ["=1", "small-net", "entry"],
        ["=1", "other-net", "entry"],
        ["3", "mean-shape", "floor"],
    ]
    assert len(others) == 2  # fr@10 and auc@10
    for line in main[1:]:
        assert re.fullmatch(r"\d+\.\d\d ± +\d+\.\d\d", line[3])
        assert line[5:7] == ["1,234,567", "re-scored"]
        target = re.fullmatch(r"\[([0-9a-f]{12})\]\((.*)\)", line[7])
        path = (full.root / BOARD).parent / target[2]
        assert path.is_file()
        value = files.read_json(path)
        assert value["record_id"].startswith(f"sha256:{target[1]}")
        nme = [t["metrics"]["nme"] for t in value["trials"]]
        assert float(line[3].split("±")[0]) == pytest.approx((nme[0] + nme[1]) / 2, abs=0.005)
        assert float(line[4].split("±")[0]) == pytest.approx((nme[2] + nme[3]) / 2, abs=0.005)
        # Two values a, b: t(1) s / sqrt(2) = 12.706 |a - b| / 2.
        half = 12.7062047 * abs(nme[0] - nme[1]) / 2
        assert float(line[3].split("±")[1]) == pytest.approx(half, abs=0.005)
    for said in (
        "nme (%) ↓",
        "auc@10 (%) ↑",
        "train 40, test 12",
        "`toy` (landmarks-64) 1.0.0",
        "**Seeds**: 0, 1;",
        "Student's 95 % interval",
        "share a rank",
        "facebench leaderboard check",
        "facebench rescore leaderboards/records/landmarks/toy/fractions@1/small-net/",
        landmarks.digest,
    ):
        assert said in text, said


def test_the_links_of_every_page_lead_somewhere(full):
    for name, data in leaderboard.build(full.space).items():
        for link in re.findall(r"\]\(([^)]+)\)", data.decode()):
            assert ((full.root / name).parent / link).resolve().is_file(), (name, link)


def test_tables_are_aligned_in_the_source(full):
    for data in leaderboard.build(full.space).values():
        blocks = re.findall(r"(?:^\|.*\n)+", data.decode(), re.MULTILINE)
        assert blocks
        for block in blocks:
            lines = block.splitlines()
            bars = [[i for i, c in enumerate(line) if c == "|"] for line in lines]
            assert all(b == bars[0] for b in bars), block


def test_the_index_names_every_protocol_and_its_first_row(full):
    (index,) = tables(leaderboard.build(full.space)["leaderboards/README.md"].decode())
    assert [line[0].split("]")[0] for line in index[1:]] == [
        "[landmarks/toy/fractions@1",
        "[recognition/toy/full@1",
    ]
    assert index[1][1:4] == ["nme (%) ↓", "100 % of labels", "small-net (ties with 1)"]
    assert index[1][5:] == ["3", "0"]
    assert index[2][1:3] == ["rank@1 ↑", "all labels"]


def test_a_protocol_without_records_and_a_workspace_without_protocols(toy, landmarks):
    made = leaderboard.build(toy.space)
    assert "No record yet." in made[BOARD].decode()
    assert "no ranked record yet" in leaderboard.board_text(toy.space, landmarks.id)
    shutil.rmtree(toy.space.protocols)
    assert list(leaderboard.build(toy.space)) == ["leaderboards/README.md"]


def test_unranked_rows_stand_in_their_own_block(full):
    (path,) = (full.space.records / "landmarks/toy/fractions@1/other-net").iterdir()
    full.rehash(path, lambda v: v["trials"].pop())
    text = leaderboard.build(full.space)[BOARD].decode()
    ranked, apart, *_ = tables(text)
    assert [line[1] for line in ranked[1:]] == ["small-net", "mean-shape"]
    (line,) = apart[1:]
    assert line[0] == "other-net"
    assert line[2].endswith("(1 of 2 seeds)")
    assert line[3] == "incomplete: trial 1.0/1 is missing"
    assert text.index("## Not ranked") < text.index("other-net")
    assert "not ranked: other-net: incomplete" in leaderboard.board_text(
        full.space, "landmarks/toy/fractions@1"
    )


def test_diverged_trials_are_printed(toy, landmarks):
    toy.record(landmarks, "net", 1.0, diverged=("1.0/0",))
    main, fr, _ = tables(leaderboard.build(toy.space)[BOARD].decode())
    assert main[1][4] == "1 of 2 diverged"
    assert fr[1][2].endswith("(1 of 2 diverged)")
    assert fr[1][2].startswith("50.0 ±")


def test_writing_is_idempotent_and_takes_old_boards_away(full):
    before = full.snapshot()
    stamps = {p: p.stat().st_mtime_ns for p in full.space.leaderboards.rglob("*.md")}
    written = leaderboard.write(full.space)
    assert written == sorted(leaderboard.build(full.space))
    assert full.snapshot() == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    old = full.space.leaderboards / "boards/landmarks/gone/full@1.md"
    kept = full.space.leaderboards / "boards/notes.md"
    files.write_text(old, render.GENERATED + "\n")
    files.write_text(kept, "written by hand\n")
    leaderboard.write(full.space)
    assert not old.exists()
    assert kept.is_file()


SCRIPT = """
import hashlib, pathlib, sys, time, locale
from facebench import leaderboard
from facebench.workspace import Workspace
order = sys.argv[2]
if order == "reversed":  # folders listed the other way round
    glob, rglob = pathlib.Path.glob, pathlib.Path.rglob
    pathlib.Path.glob = lambda *a, **k: iter(sorted(glob(*a, **k), reverse=True))
    pathlib.Path.rglob = lambda *a, **k: iter(sorted(rglob(*a, **k), reverse=True))
time.time = time.time_ns = lambda: 1 / 0
root = pathlib.Path(sys.argv[1])
made = leaderboard.build(Workspace(root=root, data=root / "data"))
print(hashlib.sha256(repr(made).encode()).hexdigest())
for name in ("jax", "flax", "scipy", "tensorflow_datasets", "grain", "orbax", "pandas"):
    assert name not in sys.modules, name
"""


def test_the_bytes_do_not_depend_on_hash_seed_order_time_zone_or_locale(full, tmp_path):
    copy = tmp_path / "other" / "place"
    shutil.copytree(full.root, copy)
    shutil.rmtree(copy / "runs")  # git-ignored, so it must not matter
    shutil.rmtree(copy / "data")
    (copy / BOARD).unlink()

    def digest_of(root, order, **env):
        full_env = {**os.environ, "PYTHONUTF8": "0", **env}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(root), order],
            env=full_env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = digest_of(full.root, "plain", PYTHONHASHSEED="0", TZ="UTC", LC_ALL="C")
    assert len(first.strip()) == 64
    assert first == digest_of(
        copy, "reversed", PYTHONHASHSEED="4242", TZ="Pacific/Auckland", LC_ALL="C.UTF-8"
    )


def test_importing_the_leaderboard_loads_no_library():
    script = (
        "import sys, facebench.leaderboard\n"
        "heavy = {'numpy', 'scipy', 'jsonschema', 'jax', 'flax', 'rfc8785'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# -- the terminal ---------------------------------------------------------------------------------


def test_the_terminal_table(full, landmarks):
    text = leaderboard.board_text(full.space, landmarks.id)
    title, name, blank, header, *lines = text.splitlines()
    assert title == landmarks.title
    assert name == "landmarks/toy/fractions@1, 2 seeds"
    assert blank == ""
    assert re.split(r"  +", header) == [
        "rank",
        "entry",
        "kind",
        "nme (%) ↓ 10%",
        "nme (%) ↓ 100%",
        "fr@10 (%) ↓ 100%",
        "parameters",
        "trust",
    ]
    assert [line.split()[:3] for line in lines] == [
        ["=1", "small-net", "entry"],
        ["=1", "other-net", "entry"],
        ["3", "mean-shape", "floor"],
    ]
    # Right-aligned numbers end where their header ends.
    end = header.index("100%") + len("100%")
    assert all(re.fullmatch(r".*± +\d+\.\d\d", line[:end]) for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_the_terminal_table_fits(full, landmarks, width):
    text = leaderboard.board_text(full.space, landmarks.id, width)
    assert max(map(len, text.splitlines())) <= width
    assert "100%" in text  # what is ranked by is never dropped
    assert "small-net" in text


# -- pieces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (1.005, 2, "1.00"),  # the float64 is below 1.005
        (2.5, 0, "2"),
        (-0.001, 2, "0.00"),
        (-0.0, 1, "0.0"),
        (-1.25, 1, "-1.2"),
        (1234.5, 1, "1234.5"),
    ],
)
def test_numbers(value, decimals, text):
    assert render.number(value, decimals) == text


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("full", 1.0, "all labels"),
        ("fraction", 0.07, "7 % of labels"),
        ("fraction", 0.005, "0.5 % of labels"),
        ("shots", 1, "1 shot"),
        ("shots", 16, "16 shots"),
        ("units", 20, "20 units"),
    ],
)
def test_regimes_for_people(landmarks, kind, value, text):
    landmarks.regimes["kind"] = kind
    assert render.regime(landmarks, value) == text


def test_cells_of_a_column_are_aligned_at_the_sign(landmarks):
    metric = landmarks.primary

    def row(*values, diverged=0):
        cell = Cell(values, diverged)
        return Row("e", "entry", "r", {("nme", 1.0): cell}, 1, "-")

    rows = [row(1.0, 1.0), row(10.0, 30.0), row(7.0), Row("f", "entry", "r", {}, 1, "-")]
    assert render.column(landmarks, metric, 1.0, rows) == [
        " 1.00 ±   0.00",
        "20.00 ± 127.06",
        "7.00 (1 of 2 seeds)",
        "–",
    ]
