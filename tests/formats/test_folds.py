"""Subject lists: disjoint, complete, and those of the publications."""

from __future__ import annotations

import pytest

from facebench.errors import UsageError
from facebench.formats import folds

# how the publications number the people of each set
BP4D = {f"F{i:03d}" for i in range(1, 24)} | {f"M{i:03d}" for i in range(1, 19)}
BP4D_PLUS = {f"F{i:03d}" for i in range(1, 83)} | {f"M{i:03d}" for i in range(1, 59)}
DISFA = {f"SN{i:03d}" for i in (*range(1, 14), *range(16, 19), 21, *range(23, 33))}
PEOPLE = {"bp4d": BP4D, "bp4d_plus": BP4D_PLUS, "disfa": DISFA}
SIZES = {"bp4d": [14, 14, 13], "bp4d_plus": [35, 35, 35, 35], "disfa": [9, 9, 9]}


@pytest.mark.parametrize("dataset", PEOPLE)
def test_parts_are_disjoint_and_everybody_is_in_one(dataset):
    parts = folds.PARTS[dataset]
    assert [len(part) for part in parts.values()] == SIZES[dataset]
    everybody = [subject for part in parts.values() for subject in part]
    assert len(everybody) == len(set(everybody))
    assert set(everybody) == PEOPLE[dataset]
    assert set(folds.part_of(dataset)) == PEOPLE[dataset]


@pytest.mark.parametrize(
    ("dataset", "name"), [(d, name) for d in folds.PARTS for name in folds.names(d)]
)
def test_splits_share_nobody_and_leave_nobody_out(dataset, name):
    splits = folds.divided(dataset, name)
    everybody = [subject for people in splits.values() for subject in people]
    assert sorted(everybody) == sorted(PEOPLE[dataset])
    if name in folds.PARTS[dataset]:
        assert splits["test"] == folds.PARTS[dataset][name]
        assert set(splits) == {"train", "test"}


# the parts in the order in which ME-GraphAU's tool writes them down
ME_GRAPHAU = {
    "bp4d": [
        "F001 M007 F018 F008 F002 M004 F010 F009 M012 M001 F016 M014 F023 M008",
        "M011 F003 M010 M002 F005 F022 M018 M017 F013 M016 F020 F011 M013 M005",
        "F007 F015 F006 F019 M006 M009 F012 M003 F004 F021 F017 M015 F014",
    ],
    "disfa": [
        "SN002 SN010 SN001 SN026 SN027 SN032 SN030 SN009 SN016",
        "SN013 SN018 SN011 SN028 SN012 SN006 SN031 SN021 SN024",
        "SN003 SN029 SN023 SN025 SN008 SN005 SN007 SN017 SN004",
    ],
}


@pytest.mark.parametrize("dataset", ME_GRAPHAU)
def test_parts_are_the_published_ones(dataset):
    published = [set(part.split()) for part in ME_GRAPHAU[dataset]]
    assert [set(part) for part in folds.PARTS[dataset].values()] == published


def test_a_part_is_named_by_who_is_tested():
    # ME-GraphAU's first test list begins with these, FG-Net's and FMAE-IAT's with F001 and SN001
    assert "F007" in folds.divided("bp4d", "p3")["test"]
    assert "SN003" in folds.divided("disfa", "p3")["test"]
    assert "F001" in folds.divided("bp4d", "p1")["test"]
    assert "SN001" in folds.divided("disfa", "p1")["test"]
    assert folds.divided("bp4d_plus", "f4")["test"] == folds.PARTS["bp4d_plus"]["f4"]
    numbers = folds.part_of("bp4d")
    assert (numbers["F001"], numbers["F003"], numbers["M015"]) == (1, 2, 3)


def test_opengraphau_has_a_dev_part():
    for dataset, sizes in (("bp4d", (22, 6, 13)), ("disfa", (14, 4, 9))):
        splits = folds.divided(dataset, "opengraphau")
        assert list(splits) == ["train", "dev", "test"]
        assert tuple(map(len, splits.values())) == sizes
    # its test people of BP4D are the third part, but for one exchanged
    found, part = folds.divided("bp4d", "opengraphau")["test"], folds.PARTS["bp4d"]["p3"]
    assert set(found) ^ set(part) == {"F010", "F014"}


def test_wrong_names_are_told():
    with pytest.raises(UsageError, match="did you mean 'bp4d' or 'bp4d_plus'"):
        folds.divided("bp4d+", "f1")
    with pytest.raises(UsageError, match="bp4d_plus has no part 'opengraphau'"):
        folds.divided("bp4d_plus", "opengraphau")
