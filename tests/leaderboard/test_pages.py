import os
import re
import shutil
import subprocess
import sys

import pytest

from facebench import files, leaderboard
from facebench.leaderboard import pieces
from facebench.leaderboard.board import Cell, Row

from .conftest import landmark_draft, landmark_targets

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
    assert text.startswith(pieces.GENERATED)
    main, compared, *others = tables(text)
    assert main[0] == [
        "rank",
        "group",
        "entry",
        "kind",
        "10 % of labels",
        "100 % of labels",
        "test sampling",
        "curve",
        "parameters",
        "trust",
        "record",
    ]
    assert [r[:4] for r in main[1:]] == [
        ["1–2", "a", "**small-net**", "entry"],
        ["1–2", "a", "**other-net**", "entry"],
        ["3", "b", "mean-shape", "floor"],
    ]
    assert [line[0] for line in compared[1:]] == ["other-net", "mean-shape"]
    assert [line[4] for line in compared[1:]] == ["tie", "differs"]
    assert len(others) == 2  # fr@10 and auc@10
    for line in main[1:]:
        assert re.fullmatch(r"\d+\.\d\d ± +\d+\.\d\d", line[4])
        low, high = map(float, re.fullmatch(r"\[(.*), (.*)\]", line[6]).groups())
        assert low < float(line[5].split("±")[0]) < high
        assert line[8:10] == ["1,234,567", "re-scored"]
        target = re.fullmatch(r"\[([0-9a-f]{12})\]\((.*)\)", line[10])
        path = (full.root / BOARD).parent / target[2]
        assert path.is_file()
        value = files.read_json(path)
        assert value["record_id"].startswith(f"sha256:{target[1]}")
        nme = [t["metrics"]["nme"] for t in value["trials"]]
        assert float(line[4].split("±")[0]) == pytest.approx((nme[0] + nme[1]) / 2, abs=0.005)
        assert float(line[5].split("±")[0]) == pytest.approx((nme[2] + nme[3]) / 2, abs=0.005)
        # Two values a, b: t(1) s / sqrt(2) = 12.706 |a - b| / 2.
        half = 12.7062047 * abs(nme[0] - nme[1]) / 2
        assert float(line[4].split("±")[1]) == pytest.approx(half, abs=0.005)
    for said in (
        "nme (%) ↓",
        "auc@10 (%) ↑",
        "train 40, test 12",
        "`toy` (landmarks-64) 1.0.0",
        "**Seeds**: 0, 1;",
        "Student's 95 % interval",
        "entries that share a letter are not told apart",
        "bootstrap over the 12 test units (10,000 draws",
        "12 are few",
        "corrected by Holm over the 3 pairs of this board",
        "paired by seed and by test unit",
        "facebench leaderboard check",
        "facebench rescore leaderboards/records/landmarks/toy/fractions@1/small-net/",
        landmarks.digest,
    ):
        assert said in text, said


def test_the_links_of_every_page_lead_somewhere(full):
    for name, data in leaderboard.build(full.space).items():
        if not name.endswith(".md"):
            continue
        for link in re.findall(r"\]\(([^)]+)\)", data.decode()):
            assert ((full.root / name).parent / link).resolve().is_file(), (name, link)


def test_tables_are_aligned_in_the_source(full):
    for name, data in leaderboard.build(full.space).items():
        if not name.endswith(".md"):
            continue
        blocks = re.findall(r"(?:^\|.*\n)+", data.decode(), re.MULTILINE)
        assert blocks
        for block in blocks:
            lines = block.splitlines()
            bars = [[i for i, c in enumerate(line) if c == "|"] for line in lines]
            assert all(b == bars[0] for b in bars), block


def test_the_front_page_names_every_protocol_and_its_first_row(full):
    (index,) = tables(leaderboard.build(full.space)["leaderboards/README.md"].decode())
    assert [line[0].split("]")[0] for line in index[1:]] == [
        "[landmarks/toy/fractions@1",
        "[recognition/toy/full@1",
    ]
    assert index[1][1:4] == ["nme (%) ↓", "100 % of labels", "small-net (top group with 1 more)"]
    assert index[1][5:] == ["3", "0"]
    assert index[2][1:3] == ["rank@1 ↑", "all labels"]


def test_what_is_never_compared_stands_apart_on_the_front_page(toy):
    for name, adaptation in (("a", "adapted"), ("f", "frozen"), ("s", "scratch"), ("g", "frozen")):
        draft = landmark_draft() | {"id": f"landmarks/toy/{name}@1", "adaptation": adaptation}
        toy.freeze(draft, landmark_targets())
    text = leaderboard.build(toy.space)["leaderboards/README.md"].decode()
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == ["Frozen", "Adapted", "From scratch", "What is believed when"]
    found = [re.findall(r"toy/(.)@1\]", "".join(line[0] for line in t[1:])) for t in tables(text)]
    assert found == [["f", "g"], ["a"], ["s"]]


def test_superseded_versions_stand_at_the_end_and_say_so(full):
    for version in (2, 10):
        draft = landmark_draft() | {"id": f"landmarks/toy/fractions@{version}"}
        full.freeze(draft, landmark_targets())
    made = leaderboard.build(full.space)
    text = made["leaderboards/README.md"].decode()
    current, old = tables(text)
    assert "fractions@10" in current[1][0]
    assert [line[0].split("]")[0][1:] for line in old[1:]] == [
        "landmarks/toy/fractions@1",
        "landmarks/toy/fractions@2",
    ]
    assert all("fractions@10" in line[1] for line in old[1:])
    assert text.index("## From scratch") < text.index("## Superseded")
    link = "**Superseded** by [landmarks/toy/fractions@10](fractions@10.md)"
    assert link in made[BOARD].decode()
    assert "Superseded" not in made[BOARD.replace("@1", "@10")].decode()
    assert "superseded by landmarks/toy/fractions@10" in leaderboard.board_text(
        full.space, "landmarks/toy/fractions@1"
    )


def test_a_protocol_without_records_and_a_workspace_without_protocols(toy, landmarks):
    made = leaderboard.build(toy.space)
    assert "No record yet." in made[BOARD].decode()
    assert "no ranked record yet" in leaderboard.board_text(toy.space, landmarks.id)
    shutil.rmtree(toy.space.protocols)
    assert list(leaderboard.build(toy.space)) == [
        "leaderboards/README.md",
        "leaderboards/exports/README.md",
        "leaderboards/exports/index.json",
    ]


def test_incomplete_rows_stand_in_their_own_block(full):
    (path,) = (full.space.records / "landmarks/toy/fractions@1/other-net").iterdir()
    full.part(path, [0, 1, 2])
    text = leaderboard.build(full.space)[BOARD].decode()
    ranked, _, apart, *_ = tables(text)
    assert [line[2].strip("*") for line in ranked[1:]] == ["small-net", "mean-shape"]
    (line,) = apart[1:]
    assert line[:2] == ["other-net", "3/4"]
    assert line[3].endswith("(1 of 2 seeds)")
    assert line[4] == "1.0/1"
    assert text.index("## Incomplete") < text.index("other-net")
    assert "incomplete: other-net: missing 1.0/1" in leaderboard.board_text(
        full.space, "landmarks/toy/fractions@1"
    )


def test_rows_without_evidence_stand_in_another_block(full):
    (path,) = (full.space.records / "landmarks/toy/fractions@1/other-net").iterdir()
    full.rehash(path, lambda v: v["trials"][0]["metrics"].update(nme=0.5))
    text = leaderboard.build(full.space)[BOARD].decode()
    ranked, _, apart, *_ = tables(text)
    assert [line[2].strip("*") for line in ranked[1:]] == ["small-net", "mean-shape"]
    assert apart[1][0] == "other-net"
    assert apart[1][3] == "its predictions do not score what it says"
    assert text.index("## Not ranked") < text.index("other-net")


def test_diverged_trials_are_printed(toy, landmarks):
    toy.record(landmarks, "net", 1.0, diverged=("1.0/0",))
    main, fr, _ = tables(leaderboard.build(toy.space)[BOARD].decode())
    assert main[1][5] == "1 of 2 diverged"
    assert fr[1][2].endswith("(1 of 2 diverged)")
    assert fr[1][2].startswith("50.0 ±")


def test_writing_is_idempotent_and_takes_old_boards_away(full):
    before = full.snapshot()
    stamps = {p: p.stat().st_mtime_ns for p in full.space.leaderboards.rglob("*") if p.is_file()}
    written = leaderboard.write(full.space)
    assert written == sorted(leaderboard.build(full.space))
    assert full.snapshot() == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    old = full.space.leaderboards / "boards/landmarks/gone/full@1.md"
    kept = full.space.leaderboards / "boards/notes.md"
    files.write_text(old, pieces.GENERATED + "\n")
    files.write_text(kept, "written by hand\n")
    gone = [
        full.space.leaderboards / f"{folder}/landmarks/gone/full@1.{ending}"
        for folder, ending in (
            ("exports", "csv"),
            ("exports", "tex"),
            ("exports", "json"),
            ("derived", "json"),
        )
    ]
    for path in gone:
        path.parent.mkdir(parents=True, exist_ok=True)
        like = path.parents[2] / f"landmarks/toy/fractions@1{path.suffix}"
        shutil.copy(like, path)
    leaderboard.write(full.space)
    assert not old.exists()
    assert not any(path.exists() for path in gone)
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
if order == "cold":  # no result is believed
    import shutil
    shutil.rmtree(root / "leaderboards/derived")
made = leaderboard.build(Workspace(root=root, data=root / "data"))
assert made == leaderboard.build(Workspace(root=root, data=root / "data"))
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
        copy, "reversed", PYTHONHASHSEED="1", TZ="Pacific/Auckland", LANG="tr_TR.UTF-8"
    )
    # Computed anew, where the labels are: the same again.
    assert first == digest_of(full.root, "cold", PYTHONHASHSEED="4242", LC_ALL="C.UTF-8")


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
        "group",
        "entry",
        "kind",
        "nme (%) ↓ 10%",
        "nme (%) ↓ 100%",
        "test sampling",
        "parameters",
        "trust",
    ]
    *lines, blank, legend = lines
    assert (blank, legend) == ("", "entries that share a letter are not told apart")
    assert [line.split()[:4] for line in lines] == [
        ["1–2", "a", "small-net", "entry"],
        ["1–2", "a", "other-net", "entry"],
        ["3", "b", "mean-shape", "floor"],
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
    assert pieces.number(value, decimals) == text


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
    assert pieces.regime(landmarks, value) == text


def test_cells_of_a_column_are_aligned_at_the_sign(landmarks):
    metric = landmarks.primary

    def row(*values, diverged=0):
        cell = Cell(values, diverged)
        return Row("e", "entry", ("r",), {("nme", 1.0): cell}, 1, "-")

    rows = [row(1.0, 1.0), row(10.0, 30.0), row(7.0), Row("f", "entry", ("r",), {}, 1, "-")]
    assert pieces.column(landmarks, metric, 1.0, rows) == [
        " 1.00 ±   0.00",
        "20.00 ± 127.06",
        "7.00 (1 of 2 seeds)",
        "–",
    ]


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "1.00"), (0.0501, "0.051"), (0.31, "0.31"), (0.00995, "0.0100"), (1e-5, "< 0.0001")],
)
def test_p_values_are_rounded_up(p, text):
    assert pieces.p_value(p) == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((1.234, 5.678), "[1.23, 5.68]"),
        ((None, 1.0), "–"),
        (None, "–"),
        ((-0.001, 0), "[0.00, 0.00]"),
    ],
)
def test_intervals(ends, text):
    assert pieces.interval(ends, 2) == text
