"""Pair lists, each written here as its release writes it."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench.errors import FacebenchError, UsageError
from facebench.formats import matlab, pairs
from facebench.formats.pairs import Pair


def put(folder, text, name="pairs.txt"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def lfw_text(folds, size, tab="\t", header=None):
    """A list of LFW's layout, and what it says."""
    rows, found = [header or f"{folds}{tab}{size}"], []
    for f in range(folds):
        for i in range(size):
            rows.append(tab.join([f"Ann_{f}_{i}", str(i + 1), "12"]))
            name = f"Ann_{f}_{i}/Ann_{f}_{i}"
            found.append(Pair(f, f"{name}_{i + 1:04d}", f"{name}_0012", True))
        for i in range(size):
            rows.append(tab.join([f"Bo_{i}", "3", f"Cy-{f}", str(i + 100)]))
            found.append(Pair(f, f"Bo_{i}/Bo_{i}_0003", f"Cy-{f}/Cy-{f}_{i + 100:04d}", False))
    return "\n".join(rows) + "\n", found


# -------------------------------------------------------------------------------------------- LFW


@pytest.mark.parametrize("tab", ["\t", " ", "   "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lfw(tmp_path, tab, end):
    text, expected = lfw_text(3, 4, tab)
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.replace("\n", end).encode())
    assert pairs.lfw(path) == expected


def test_lfw_at_its_size(tmp_path):
    text, expected = lfw_text(10, 300)
    assert text.count("\n") == 6001
    found = pairs.lfw(put(tmp_path, text))
    assert found == expected
    assert [p.fold for p in found] == [i // 600 for i in range(6000)]


def test_lfw_view_1_has_one_fold(tmp_path):
    text, expected = lfw_text(1, 5, header="5")
    assert pairs.lfw(put(tmp_path, text)) == expected


def test_names_with_spaces_need_tabs(tmp_path):
    path = put(tmp_path, "1\t1\nAnn Lee\t1\t2\nAnn Lee\t1\tBo\t2\n")
    assert pairs.lfw(path)[0].first == "Ann Lee/Ann Lee_0001"
    with pytest.raises(FacebenchError, match="line 2: found 'Ann Lee 1 2'"):
        pairs.lfw(put(tmp_path, "1 1\nAnn Lee 1 2\nBo 1 Cy 2\n"))


words = st.text("abcXYZ_-.é", min_size=1, max_size=6).filter(lambda w: w not in (".", ".."))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(words, st.integers(1, 9999), words, st.integers(1, 9999)),
        min_size=2,
        max_size=8,
    ).filter(lambda rows: len(rows) % 2 == 0 and all(a != b for a, _, b, _ in rows)),
    st.sampled_from(["\t", " "]),
)
def test_what_lfw_lists_say_comes_back(tmp_path_factory, rows, tab):
    half = len(rows) // 2
    text = f"1{tab}{half}\n"
    expected = []
    for k, (a, i, b, j) in enumerate(rows):
        same = k < half
        text += tab.join(map(str, (a, i, j) if same else (a, i, b, j))) + "\n"
        b = a if same else b
        expected.append(Pair(0, f"{a}/{a}_{i:04d}", f"{b}/{b}_{j:04d}", same))
    assert pairs.lfw(put(tmp_path_factory.mktemp("lfw"), text)) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((1, "Ann_0_0\t1\t12\t4\t5"), "line 2: found .*, expected `name i j` here"),
        ((1, "Bo\t3\tCy\t4"), "line 2: found .*, expected `name i j` here"),
        ((3, "Bo\t3\t4"), "line 4: found .*, expected `name1 i name2 j` here"),
        ((3, "Bo\t3\tBo\t4"), "line 4: found .*, expected two different people"),
        ((2, "Ann\tx\t4"), "line 3: found 'x', expected a whole number from 1 to 9999"),
        ((2, "Ann\t0\t4"), "line 3: found '0'"),
        ((2, "Ann\t1\t10000"), "line 3: found '10000'"),
        ((2, "Ann\t1\t\N{SUPERSCRIPT TWO}"), "line 3: found"),
        ((2, "../up\t1\t4"), "line 3: found '../up', expected a name without slashes"),
        ((2, "..\t1\t4"), "line 3: found '..', expected a name"),
        ((2, "a\\b\t1\t4"), r"line 3: found 'a\\\\b', expected a name"),
        ((2, ""), "line 3 is blank, but line 4 is not"),
        ((2, None), r"line 3: found .*, expected `name i j`"),
        ((8, None), r"7 pairs, expected 2 x 2 x 2 as line 1 says"),
        ((8, "Bo\t1\tCy\t2\nBo\t1\tCy\t2"), "line 10: found .*, expected the end of the file"),
        ((0, "2\t2\t2"), "line 1: found .*, expected `folds pairs` or `pairs`"),
        ((0, "two\t2"), "line 1: found 'two', expected a whole number"),
        ((0, "0\t2"), "line 1: found '0', expected a whole number from 1"),
        ((0, "2\t3"), "line 4: found .*, expected `name i j` here"),
    ],
)
def test_broken_lfw_lists_are_refused_by_line(tmp_path, change, said):
    rows = lfw_text(2, 2)[0].splitlines()
    place, line = change
    if line is None:
        del rows[place]
    else:
        rows[place] = line
    with pytest.raises(FacebenchError, match=f"pairs.txt: {said}") as error:
        pairs.lfw(put(tmp_path, "\n".join(rows) + "\n"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "line 1: found ''"),
        (b"1\t1\n\xff\xfe\t1\t2\n", "line 2 is no UTF-8 text"),
        (b"1\t1\n" + b"a" * 5000, "line 2 is longer than 4096 bytes"),
    ],
)
def test_files_that_are_no_lists(tmp_path, data, said):
    path = tmp_path / "pairs.txt"
    path.write_bytes(data)
    with pytest.raises(FacebenchError, match=f"pairs.txt: {said}"):
        pairs.lfw(path)
    with pytest.raises(FacebenchError, match="no such file"):
        pairs.lfw(tmp_path / "none.txt")


def test_people(tmp_path):
    text = "2\n2\nAnn_Lee\t3\nBo\t1\n1\nCy\t12\n"
    expected = [(0, "Ann_Lee", 3), (0, "Bo", 1), (1, "Cy", 12)]
    assert pairs.people(put(tmp_path, text)) == expected
    expected = [(0, "Ann_Lee", 3), (0, "Bo", 1)]
    assert pairs.people(put(tmp_path, "2\nAnn_Lee\t3\nBo\t1\n")) == expected
    for broken, said in [
        ("2\n2\nAnn\t3\nBo\t1\n", "1 folds begin, expected 2"),
        ("1\n2\nAnn\t3\n", "line 2 says 2 people, 1 follow"),
        ("3\nAnn\t3\n", "line 1 says 3 people, 1 follow"),
        ("1\nAnn\t3\t4\n", "line 2: found"),
        ("1\nAnn\tx\n", "line 2: found 'x'"),
        ("2\nAnn\t3\nAnn\t4\n", "'Ann' stands twice"),
        ("Ann\t3\n", "line 1: found"),
        ("x\nAnn\t3\n", "line 1: found 'x'"),
        ("", "line 1: found ''"),
    ]:
        with pytest.raises(FacebenchError, match=f"pairs.txt: {said}"):
            pairs.people(put(tmp_path, broken))


# ------------------------------------------------------------------------------- its younger kin


def test_rfw_has_no_header(tmp_path):
    rows = lfw_text(10, 2)[0].splitlines()[1:]
    found = pairs.rfw(put(tmp_path, "\n".join(rows) + "\n"))
    assert found == lfw_text(10, 2)[1]
    with pytest.raises(FacebenchError, match="39 pairs, expected a multiple of 10"):
        pairs.rfw(put(tmp_path, "\n".join(rows[:-1])))
    with pytest.raises(FacebenchError, match=r"line 1: found .*, expected 3 or 4 columns"):
        pairs.rfw(put(tmp_path, "10\t300\n" + "\n".join(rows)))


@pytest.mark.parametrize("kind", ["calfw", "cplfw"])
def test_matching_pairs_are_dealt_out_to_the_folds(tmp_path, kind):
    n = 30  # matching pairs, then as many others
    rows = []
    for i in range(2 * n):
        label = 0 if i >= n else i // 3 + 1 if kind == "calfw" else 1
        rows += [f"A_{i}_0001.jpg {label}", f"B_{i}_0002.jpg {label}"]
    found = pairs.two_lines(put(tmp_path, "\n".join(rows) + "\n"), kind)
    assert [p.fold for p in found] == [i // 6 for i in range(60)]
    assert [p.same for p in found] == [True, True, True, False, False, False] * 10
    assert sorted(p.first for p in found) == sorted(f"A_{i}_0001" for i in range(60))
    assert found[7] == Pair(1, "A_4_0001", "B_4_0002", True)
    assert found[9] == Pair(1, "A_33_0001", "B_33_0002", False)

    def refused(said, lines):
        with pytest.raises(FacebenchError, match=f"pairs.txt: {said}"):
            pairs.two_lines(put(tmp_path, "\n".join(lines)), kind)

    refused("119 lines, expected two", rows[:-1])
    refused("30 matching and 29 other pairs", rows[:-2])
    refused("30 matching and 30 other pairs, expected first the", rows[60:] + rows[:60])
    refused("line 2: found .*, expected the label 3", ["a.jpg 3", "b.jpg 0", *rows[2:]])
    refused("line 1: found 'a.jpg', expected `image label`", ["a.jpg", *rows[1:]])
    refused("line 1: found 'x/a.jpg', expected image", ["x/a.jpg 1", *rows[1:]])
    refused("line 1: found '-1', expected a whole number", ["a.jpg -1", *rows[1:]])
    refused("0 matching and 0 other pairs", [])


def test_sllfw(tmp_path):
    rows = []
    for i in range(20):
        other = "Ann" if i % 2 == 0 else "Bo"
        rows += [f"Ann/Ann_{i + 1:04d}.jpg", f"{other}/{other}_0100.jpg"]
    found = pairs.two_lines(put(tmp_path, "\n".join(rows) + "\n"), "sllfw")
    assert [p.same for p in found] == [True, False] * 10
    assert [p.fold for p in found] == [i // 2 for i in range(20)]
    assert found[3] == Pair(1, "Ann/Ann_0004", "Bo/Bo_0100", False)
    for lines, said in [
        (rows[:-2], "19 pairs, expected a multiple of 10"),
        (["Ann.jpg", *rows[1:]], "line 1: found 'Ann.jpg', expected folder/image"),
        (["../a.jpg", *rows[1:]], "line 1: found '..', expected a name"),
    ]:
        with pytest.raises(FacebenchError, match=said):
            pairs.two_lines(put(tmp_path, "\n".join(lines)), "sllfw")
    with pytest.raises(UsageError, match="did you mean 'sllfw'"):
        pairs.two_lines(tmp_path / "pairs.txt", "slfw")


def cfp_release(folder, size=2):
    people = 4
    for letter, view, count in (("F", "frontal", 10), ("P", "profile", 4)):
        rows = [
            f"{k + 1} ../Data/Images/{k // count + 1:03d}/{view}/{k % count + 1:02d}.jpg"
            for k in range(people * count)
        ]
        put(folder, "\n".join(rows) + "\n", f"Protocol/Pair_list_{letter}.txt")
    for fold in range(1, 11):
        for kind, second in (("FF", (2, 12)), ("FP", (1, 5))):
            for name, b in zip(("same", "diff"), second, strict=True):
                rows = "".join(f"1,{b}\n" for _ in range(size))
                put(folder, rows, f"Protocol/Split/{kind}/{fold:02d}/{name}.txt")


def test_cfp(tmp_path):
    cfp_release(tmp_path)
    one = "Data/Images/001/frontal/01"
    for kind, same, other in [
        ("FF", "Data/Images/001/frontal/02", "Data/Images/002/frontal/02"),
        ("FP", "Data/Images/001/profile/01", "Data/Images/002/profile/01"),
    ]:
        found = pairs.cfp(tmp_path, kind)
        assert found == [
            Pair(f, one, second, second == same)
            for f in range(10)
            for second in (same, same, other, other)
        ]
    with pytest.raises(UsageError, match="'PP'"):
        pairs.cfp(tmp_path, "PP")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("Split/FP/03/same.txt", "1,17\n1,2\n", "line 1: found '17', expected .* from 1 to 16"),
        ("Split/FP/03/same.txt", "1,1\n0,2\n", "line 2: found '0'"),
        ("Split/FP/03/same.txt", "1 1\n", "line 1: found '1 1', expected `a,b`"),
        ("Split/FP/03/same.txt", "1,1\n", "1 pairs, expected 2 as in fold 1"),
        ("Split/FP/01/same.txt", "", "0 pairs, expected 350 as in fold 1"),
        ("Pair_list_F.txt", "1 a.jpg\n3 b.jpg\n", "line 2: found '3 b.jpg', expected `2 path`"),
        ("Pair_list_F.txt", "1 ../../x.jpg\n", "line 1: found .*, expected a path within"),
        ("Pair_list_F.txt", "1 /etc/x.jpg\n", "line 1: found .*, expected a path within"),
        ("Pair_list_P.txt", "", "is empty"),
        ("Pair_list_P.txt", None, "no such file"),
    ],
)
def test_broken_cfp_is_refused_by_file_and_line(tmp_path, name, text, said):
    cfp_release(tmp_path)
    path = tmp_path / "Protocol" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(FacebenchError, match=f"{path.name}: .*{said}"):
        pairs.cfp(tmp_path, "FP")


def test_ytf(tmp_path):
    rows = [
        f"{i // 2 + 1}, {i % 2 + 1}, Ann_Lee/1, {'Ann_Lee/3' if i % 2 else 'Bo/0'}, {i % 2}"
        for i in range(20)
    ]
    found = pairs.ytf(put(tmp_path, "\n".join(rows) + "\n"))
    assert found[2] == Pair(1, "Ann_Lee/1", "Bo/0", False)
    assert found[3] == Pair(1, "Ann_Lee/1", "Ann_Lee/3", True)
    header = "split number, pair number, first name, second name, is same?"
    assert pairs.ytf(put(tmp_path, "\n".join([header, *rows]))) == found
    for lines, said in [
        ([header, header, *rows], "line 2: found 'split number', expected a whole number"),
        ([rows[0] + ", 1", *rows[1:]], "line 1: found"),
        ([rows[0][:-1] + "2", *rows[1:]], "line 1: found '2', expected a whole number from 0 to 1"),
        ([rows[0][:-1] + "1", *rows[1:]], "line 1: found .*, expected label 1 where"),
        (rows[:-1], "19 pairs"),
        (rows[2:] + rows[:2], "fold 2 where fold 1 was expected"),
    ]:
        with pytest.raises(FacebenchError, match=said):
            pairs.ytf(put(tmp_path, "\n".join(lines)))


# ------------------------------------------------------------------------------------------ AgeDB


def agedb_release(
    path, pairs_per_fold=3, folds=10, labels=None, name="splits", first=None, **options
):
    """A protocol in MATLAB's nesting: cell > struct > 2 x n cell of structs, and labels."""
    splits = np.empty((folds, 1), object)
    expected = []
    for f in range(folds):
        images = np.empty((2, pairs_per_fold), object)
        label = []
        for i in range(pairs_per_fold):
            same = (f + i) % 2 == 0
            names = [f"{f}_AnnLee_{i}_f", f"{i}_{'AnnLee' if same else 'BoRay'}_{f + 30}_m"]
            names[0] = first or names[0]
            for r in (0, 1):
                images[r, i] = {"name": names[r], "age": float(30 + r)}
            label.append(1.0 if same else -1.0)
            expected.append(Pair(f, *names, same))
        splits[f, 0] = {"pairs": images, "labels": np.array([labels or label])}
    scipy.io.savemat(path, {"other": np.arange(3), name: splits}, **options)
    return expected


@pytest.mark.parametrize("packed", [True, False])
def test_agedb(tmp_path, packed):
    path = tmp_path / "04_FINAL_protocol_30_years.mat"
    expected = agedb_release(path, do_compression=packed)
    assert pairs.agedb(path) == expected


def test_broken_agedb_is_refused_by_split(tmp_path):
    path = tmp_path / "a.mat"
    for said, options in [
        ("split 1: label 2, expected 1 or -1", {"labels": [1.0, 2.0, 1.0]}),
        ("split 1: 6 images and 2 labels", {"labels": [1.0, -1.0]}),
        ("split 1, pair 1: found '../a', expected the name", {"first": "../a"}),
        ("'splits' is no cell array of 10", {"folds": 9}),
        ("there is no variable 'splits'", {"name": "split"}),
        ("level 5", {"format": "4", "name": None}),
    ]:
        if options.get("format"):
            scipy.io.savemat(path, {"splits": np.eye(3)}, format="4")
        else:
            agedb_release(path, **options)
        with pytest.raises(FacebenchError, match=f"a.mat: .*{said}"):
            pairs.agedb(path)
    scipy.io.savemat(path, {"splits": np.eye(3)})
    with pytest.raises(FacebenchError, match="'splits' is no cell array of 10"):
        pairs.agedb(path)


def test_matlab_files_that_would_grow_or_nest_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "LARGEST", 1 << 20)

    def tag(kind, data):
        pad = b"" if kind == 15 else bytes(-len(data) % 8)
        return np.array([kind, len(data)], "<u4").tobytes() + data + pad

    def matrix(content, shape=(1, 1), name=b""):
        flags = tag(6, np.array([1, 0], "<u4").tobytes())
        return tag(14, flags + tag(5, np.array(shape, "<i4").tobytes()) + tag(1, name) + content)

    head = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    deep = b""
    for _ in range(100):
        deep = matrix(deep, name=b"")
    path = tmp_path / "a.mat"
    for data, said in [
        (head + matrix(deep, name=b"splits"), "more than 32 deep"),
        (head + tag(15, zlib.compress(bytes(1 << 24))), "unpacks to more than"),
        (head + matrix(b"", (1 << 15, 1 << 15), b"splits"), "unlike its size"),
        (head + matrix(b"", (1, -5), b"splits"), "unlike its size"),
        (head + np.array([14, 1 << 31], "<u4").tobytes(), "says 2147483648 bytes, 0 are there"),
        (head + tag(15, zlib.compress(deep)[:-5]), "is cut off"),
        (head + tag(15, b"nonsense"), "cannot be unpacked"),
        (head + b"abc", "cut off"),
        (b"MATLAB 7.3", "level 5"),
    ]:
        path.write_bytes(data)
        with pytest.raises(FacebenchError, match=f"a.mat: .*{said}"):
            pairs.agedb(path)


# ----------------------------------------------------------------------------------------- images


def test_missing_images_are_named():
    listed = [Pair(0, "a", "b", True), Pair(1, "b", "c", False), Pair(1, "d", "c", False)]
    asked = []

    def exists(name):
        asked.append(name)
        return name in ("a", "b")

    with pytest.raises(FacebenchError) as error:
        pairs.check_images(listed, exists, "pairs.txt")
    assert str(error.value) == (
        "pairs.txt: 2 of 4 images are missing, the first is 'c' of pair 2 (fold 2); unpack the "
        "official release again"
    )
    assert sorted(asked) == ["a", "b", "c", "d"]
    pairs.check_images(listed, lambda name: True)
