"""IJB's meta files and columns of numbers, against NumPy's own reader and by their lines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench.errors import FacebenchError, UsageError
from facebench.formats import ijb, text


def release(folder, kind="ijbc", faces=6):
    """Six faces in three templates, all in the official columns."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 200, (faces, 10)).round(3)
    score = rng.uniform(0.1, 1, faces).round(6)
    tid, mid = np.arange(faces) // 2 + 1, np.arange(faces) + 70
    names = [f"{i + 1}.jpg" for i in range(faces)]
    pairs = [(1, 2, 0), (1, 3, 1), (3, 2, 0)]
    files = {
        "face_tid_mid": [f"{n} {t} {m}" for n, t, m in zip(names, tid, mid, strict=True)],
        "name_5pts_score": [
            " ".join([n, *map(str, p), str(s)])
            for n, p, s in zip(names, points, score, strict=True)
        ],
        "template_pair_label": [f"{a} {b} {c}" for a, b, c in pairs],
    }
    for name, rows in files.items():
        (folder / f"{kind}_{name}.txt").write_text("\n".join(rows) + "\n")
    return files, names, tid, mid, points, score, pairs


@pytest.mark.parametrize("kind", ["ijbb", "ijbc"])
def test_verification(tmp_path, kind):
    _, names, tid, mid, points, score, pairs = release(tmp_path, kind)
    found = ijb.read(tmp_path, kind)
    assert found.names == names
    assert np.array_equal(found.template, tid)
    assert np.array_equal(found.media, mid)
    assert np.array_equal(found.points, points.reshape(6, 5, 2))
    assert np.array_equal(found.score, score)
    assert found.pairs.tolist() == [[a, b] for a, b, _ in pairs]
    assert found.same.tolist() == [bool(c) for _, _, c in pairs]
    assert found.same.dtype == bool
    with pytest.raises(UsageError, match="did you mean"):
        ijb.read(tmp_path, "ijba")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("face_tid_mid", (2, "3.jpg 2"), "line 3: found '3.jpg 2', expected `file template media`"),
        ("face_tid_mid", (2, "3.jpg 2 x"), "line 3: found 'x', expected a whole number"),
        ("face_tid_mid", (2, "3.jpg 2 1234567890"), "line 3: found '1234567890'"),
        ("face_tid_mid", (2, "../3.jpg 2 72"), "line 3: found '../3.jpg', expected a file of"),
        ("face_tid_mid", (2, ""), "line 3 is blank"),
        ("name_5pts_score", (1, "1.jpg" + " 1" * 11), "line 2: found '1.jpg', expected '2.jpg' as"),
        ("name_5pts_score", (1, "2.jpg" + " 1" * 10), "line 2: .*, 12 columns"),
        ("name_5pts_score", (1, "2.jpg" + " 1" * 10 + " z"), "line 2: .*, expected 11 numbers"),
        ("name_5pts_score", (1, "2.jpg" + " 1" * 10 + " nan"), "line 2: .*, expected finite"),
        ("name_5pts_score", (1, "2.jpg" + " inf" + " 1" * 10), "line 2: .*, expected finite"),
        ("name_5pts_score", (5, None), "5 lines, ijbc_face_tid_mid.txt has 6"),
        ("face_tid_mid", (5, None), "more lines than the 5 of"),
        ("template_pair_label", (1, "1 3 2"), "line 2: found '1 3 2', expected two templates"),
        ("template_pair_label", (1, "1 4294967297 1"), "line 2: found '1 4294967297 1'"),
        ("template_pair_label", (1, "1 4 1"), "line 2: found '4', expected a template of"),
        ("template_pair_label", (0, "0 1 1"), "line 1: found '0', expected a template of"),
        ("template_pair_label", (1, "1 3"), "line 2: found '1 3', expected 3 whole numbers"),
        ("template_pair_label", (1, "1 3 1 1"), "line 2: found '1 3 1 1', expected 3 whole"),
        ("template_pair_label", (1, "1 -3 1"), "line 2: found '-3', expected 3 whole"),
        ("template_pair_label", (1, "1 3.0 1"), "line 2: found '3.0', expected 3 whole"),
        ("template_pair_label", (1, ""), "line 2: found '', expected 3 whole"),
    ],
)
def test_broken_files_are_refused_by_line(tmp_path, name, change, said):
    rows = release(tmp_path)[0][name]
    place, line = change
    rows[place : place + 1] = [] if line is None else [line]
    (tmp_path / f"ijbc_{name}.txt").write_text("\n".join(rows) + "\n")
    with pytest.raises(FacebenchError, match=rf"ijbc_.*\.txt: {said}") as error:
        ijb.read(tmp_path, "ijbc")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["face_tid_mid", "name_5pts_score", "template_pair_label"])
def test_missing_and_empty_files_are_named(tmp_path, name):
    release(tmp_path)
    path = tmp_path / f"ijbc_{name}.txt"
    path.write_text("")
    with pytest.raises(FacebenchError, match=name):
        ijb.read(tmp_path, "ijbc")
    path.unlink()
    with pytest.raises(FacebenchError, match=f"{name}.txt: reading failed: no such file"):
        ijb.read(tmp_path, "ijbc")


HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,FACE_X,FACE_Y\n"


def test_search(tmp_path):
    path = tmp_path / "ijbc_1N_gallery_G1.csv"
    path.write_text(HEADER + '3,11,img/10.png,1,2\n3,11,"frames/7.png",,\n5,2,img/1.jpg,4,5\n')
    found = ijb.search(path)
    assert found.template.tolist() == [3, 3, 5]
    assert found.subject.tolist() == [11, 11, 2]
    assert found.names == ["img/10.png", "frames/7.png", "img/1.jpg"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no line below"),
        (HEADER, "has no line below"),
        ("3,11,img/1.png\n", "line 1: found .*, expected columns TEMPLATE_ID"),
        (HEADER + "3,11\n", "line 2: found '3,11', expected template, subject, file"),
        (HEADER + "3,x,a.png\n", "line 2: found 'x', expected a whole number"),
        (HEADER + "3,1,../a.png\n", "line 2: found '../a.png', expected a file of the release"),
        (HEADER + "3,1,/a.png\n", "line 2: found '/a.png', expected a file of the release"),
        (HEADER + "3,1,a.png\n4,1,a.png\n3,2,a.png\n", "line 4: found '2', expected subject 1"),
    ],
)
def test_broken_search_files(tmp_path, content, said):
    path = tmp_path / "probe.csv"
    path.write_text(content)
    with pytest.raises(FacebenchError, match=f"probe.csv: {said}"):
        ijb.search(path)


# ------------------------------------------------------------------------------ columns of numbers


def numbers(path, columns):
    blocks = list(text.whole_numbers(path, columns))
    return np.concatenate(blocks) if blocks else np.empty((0, columns), np.int64)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda c: st.lists(st.lists(st.integers(0, 10**18 - 1), min_size=c, max_size=c), min_size=1)
    ),
    st.sampled_from([" ", "\t", "  \t"]),
    st.sampled_from(["\n", "\r\n", " \n"]),
    st.booleans(),
    st.integers(60, 300),
)
def test_numbers_are_those_that_were_written(tmp_path_factory, rows, gap, end, ended, chunk):
    path = tmp_path_factory.mktemp("n") / "a.txt"
    body = end.join(gap.join(map(str, row)) for row in rows) + (end if ended else "")
    path.write_bytes(body.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "CHUNK", chunk)  # so that blocks end within lines and numbers
        assert numbers(path, len(rows[0])).tolist() == rows
        assert text.count_lines(path) == len(rows)


def test_many_lines_equal_numpys_reader(tmp_path):
    rng = np.random.default_rng(1)
    rows = np.column_stack([rng.integers(0, 10**6, (60_000, 2)), rng.integers(0, 2, 60_000)])
    path = tmp_path / "a.txt"
    np.savetxt(path, rows, "%d")
    assert path.stat().st_size > 3 * text.CHUNK
    pairs, same = ijb.read_pairs(path)
    expected = np.loadtxt(path, np.int64)
    assert np.array_equal(pairs, expected[:, :2])
    assert np.array_equal(same, expected[:, 2] == 1)


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789 \t\r\n-+.,ex\0", max_size=60), st.integers(1, 3))
def test_what_is_no_table_is_refused_by_its_line(tmp_path_factory, content, columns):
    """Against a line-by-line reading that cannot be wrong."""
    path = tmp_path_factory.mktemp("n") / "a.txt"
    path.write_bytes(content.encode())
    rows, wrong = [], None
    lines = content.split("\n")
    for k, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        tokens = line.removesuffix("\r").replace("\t", " ").split(" ")
        tokens = [t for t in tokens if t]
        if len(tokens) != columns or not all(t.isdigit() and len(t) <= 18 for t in tokens):
            wrong = k
            break
        rows.append([int(t) for t in tokens])
    if wrong is None:
        assert numbers(path, columns).tolist() == rows
    else:
        with pytest.raises(FacebenchError, match=f"a.txt: line {wrong}: found"):
            numbers(path, columns)


def test_the_line_is_counted_over_blocks(tmp_path):
    path = tmp_path / "a.txt"
    for bad in ("7 x", "7 7 7", "7" * 19 + " 1"):
        path.write_text("12 345\n" * 100_000 + bad + "\n" + "1 2\n" * 100_000)
        with pytest.raises(FacebenchError, match="line 100001: found"):
            numbers(path, 2)
    path.write_text("12 345\n" * 100_000 + "1" * 10**6)
    with pytest.raises(FacebenchError, match="line 100001 is longer than 4096 bytes"):
        numbers(path, 2)
