"""FER+ votes and FER2013's table: the reference's targets of real votes, and broken files."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import schemes
from facebench.errors import FacebenchError, UsageError
from facebench.formats import fer2013, votes

PARTS = ("train", "valid", "test")
PEER = {"majority": "majority", "probability": "probability", "multi-target": "multi_target"}


@pytest.fixture(scope="module")
def real(oracles):
    return {s: dict(np.load(oracles / f"metrics/ferplus_targets_{s}.npz")) for s in PARTS}


@pytest.mark.parametrize("mode", PEER)
@pytest.mark.parametrize("split", PARTS)
def test_real_votes_give_the_targets_of_the_published_code(real, split, mode):
    kept, shares = votes.targets(real[split]["in_votes"], mode)
    assert np.array_equal(kept, real[split][f"out_{PEER[mode]}_keep"])
    assert np.array_equal(shares, real[split][f"out_{PEER[mode]}_target"])
    assert shares.dtype == np.float32


@pytest.mark.parametrize("split", PARTS)
def test_cross_entropy_has_the_targets_of_probability(real, split):
    kept, shares = votes.targets(real[split]["in_votes"], "probability")
    assert np.array_equal(kept, real[split]["out_crossentropy_keep"])
    assert np.array_equal(shares, real[split]["out_crossentropy_target"])


def test_pluralities_of_real_votes_equal_a_loop(real):
    counts = real["test"]["in_votes"]
    for mode, width in (("plurality", 8), ("plurality-10", 10)):
        expected = {}
        for row, line in enumerate(counts[:, :width].tolist()):
            place = line.index(max(line))
            if max(line) and place < 8:
                expected[row] = place
        kept, shares = votes.targets(counts, mode)
        assert dict(zip(kept.tolist(), shares.argmax(axis=1).tolist())) == expected
        assert (shares.sum(axis=1) == 1).all()
        assert set(np.unique(shares)) == {0, 1}


# neutral happy surprise sad anger disgust fear contempt, unknown, no face
CASES = {
    "half is no majority": ("majority", (5, 5), None),
    "six of ten": ("majority", (6, 4), (1,)),
    "single votes do not count": ("majority", (4, 3, 1, 1, 1), (1,)),
    "all votes single": ("majority", (1,) * 10, None),
    "unknown has the majority": ("majority", (2, 0, 0, 0, 0, 0, 0, 0, 8), None),
    "two make 75 %": ("probability", (5, 3, 2), (5 / 8, 3 / 8)),
    "three at most": ("probability", (3, 3, 2, 2), None),  # the tie makes four
    "a tie of two in the end": ("probability", (6, 2, 2), (0.6, 0.2, 0.2)),
    "five ties": ("probability", (2, 2, 2, 2, 2), None),
    "unknown ends the taking": ("probability", (4, 0, 0, 3, 0, 0, 0, 0, 3), (4 / 7, 0, 0, 3 / 7)),
    "unknown in front": ("probability", (4, 0, 0, 0, 0, 0, 0, 0, 6), None),
    "30 % counts": ("multi-target", (4, 3, 3), (0.4, 0.3, 0.3)),
    "2 of 10 does not": ("multi-target", (6, 2, 2), (1,)),
    "too little is left": ("multi-target", (5, 2, 2), (1,)),
    "no one has 30 %": ("multi-target", (2, 2, 2, 2, 2), None),
    "unknown takes its share": ("multi-target", (3, 0, 3, 0, 0, 0, 0, 0, 4), None),
    "the first of equal ones": ("plurality", (0, 4, 4, 0, 0, 0, 0, 0, 2), (0, 1)),
    "no emotion has a vote": ("plurality", (0, 0, 0, 0, 0, 0, 0, 0, 9, 1), None),
    "unknown is a column": ("plurality-10", (4, 0, 0, 0, 0, 0, 0, 0, 6), None),
    "an emotion before unknown": ("plurality-10", (5, 0, 0, 0, 0, 0, 0, 0, 5), (1,)),
}


@pytest.mark.parametrize("case", CASES)
def test_rules_by_hand(case):
    mode, counts, expected = CASES[case]
    row = np.zeros((1, 10), np.uint8)
    row[0, : len(counts)] = counts
    kept, shares = votes.targets(row, mode)
    if expected is None:
        assert len(kept) == 0
        assert shares.shape == (0, 8)
    else:
        want = np.zeros(8, np.float32)
        want[: len(expected)] = expected
        assert np.array_equal(shares, [want])


def test_a_wrong_rule_gets_the_nearest():
    with pytest.raises(UsageError, match="'multi-target'"):
        votes.targets(np.zeros((1, 10)), "multi_target")


def test_columns_are_named_in_the_order_of_the_file():
    heads = votes.HEADER.split(",")[2:]
    assert len(heads) == votes.COLUMNS
    for name, head in zip(votes.EMOTIONS, heads):
        assert head[:3] == name[:3]
    assert schemes.EXPRESSION_ORDERS["ferplus"] == votes.EMOTIONS


LINE = 'fer{:07d}.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0'


def test_a_folder(tmp_path):
    path = tmp_path / "label.csv"
    path.write_text(f"{LINE.format(3)}\n{LINE.format(1)}\r\n")
    found = votes.read_folder(path)
    assert found.names == ["fer0000003.png", "fer0000001.png"]
    assert found.counts.tolist() == [[4, 0, 0, 1, 3, 2, 0, 0, 0, 0]] * 2


FOLDER_FAULTS = {
    "a path": (LINE.format(1).replace("fer", "../fer"), "line 2: found '../fer0000001.png'"),
    "another box": (LINE.format(1).replace("48, 48", "40, 48"), "line 2: .* the whole image"),
    "no box": ("fer0000001.png,4,0,0,1,3,2,0,0,0,0", "line 2: found 'fer0000001"),
    "nine counts": (LINE.format(1)[:-2], "line 2: .*10 counts"),
    "a negative count": (LINE.format(1).replace("4,0", "-4,0"), "line 2: found '-4'"),
    "half a vote": (LINE.format(1).replace("4,0", "4.5,0"), "line 2: found '4.5'"),
    "eleven votes": (LINE.format(1).replace("4,0", "5,0"), "line 2: .*1 to 10 votes in all"),
    "no vote": (
        LINE.format(1).replace("4,0,0,1,3,2", "0,0,0,0,0,0"),
        "line 2: .*1 to 10 votes in all",
    ),
    "twice": (LINE.format(0), "line 2: fer0000000.png stands in line 1 already"),
    "foreign digits": (LINE.format(1).replace("4,0", "٤,0"), "line 2"),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_a_broken_folder_is_refused_by_line(tmp_path, fault):
    line, said = FOLDER_FAULTS[fault]
    path = tmp_path / "label.csv"
    path.write_text(f"{LINE.format(0)}\n{line}\n")
    with pytest.raises(FacebenchError, match=f"label.csv: {said}"):
        votes.read_folder(path)
    path.write_text("")
    with pytest.raises(FacebenchError, match=r"label.csv: holds no votes"):
        votes.read_folder(path)


def listed(*rows):
    return "".join(f"{line}\n" for line in (votes.HEADER, *rows))


def row(name, first=10, usage="Training"):
    return f"{usage},{name},{first},{10 - first},0,0,0,0,0,0,0,0"


def test_a_list_with_rows_without_a_name(tmp_path):
    path = tmp_path / "fer2013new.csv"
    path.write_text(
        listed(row("fer0000000.png"), row("", 9), row("fer0000001.png", 8, "PublicTest"))
    )
    found = votes.read_list(path)
    assert found.names == ["fer0000000.png", "", "fer0000001.png"]
    assert found.usage == ["Training", "Training", "PublicTest"]
    assert found.counts[:, 0].tolist() == [10, 9, 8]


def test_of_a_name_that_stands_twice_the_row_in_order_counts(tmp_path):
    path = tmp_path / "fer2013new.csv"
    names = [0, 1, 7, 2, 3, 6, 7, 8, 4, 9]  # 7 and 4: out of order; only 7 stands twice
    path.write_text(listed(*(row(f"fer{n:07d}.png") for n in names)))
    found = votes.read_list(path).names
    assert found[2] == ""
    assert found[6] == "fer0000007.png"
    assert sum(map(bool, found)) == 9
    path.write_text(listed(*(row(f"fer{n:07d}.png") for n in (5, 1, 5, 2))))
    with pytest.raises(FacebenchError, match=r"fer0000005\.png stands twice, in lines 2 and 4"):
        votes.read_list(path)


LIST_FAULTS = {
    "other columns": (votes.HEADER.replace("NF", "nf") + "\n", "line 1: found 'Usage"),
    "a usage": (listed(row("fer0000000.png", usage="Test")), "line 2: found 'Test'"),
    "a name": (listed(row("fer1.png")), "line 2: found 'fer1.png'"),
    "cut off": (listed("Training"), "line 2: .*10 counts"),
    "empty": ("", "holds no votes"),
}


@pytest.mark.parametrize("fault", LIST_FAULTS)
def test_a_broken_list_is_refused_by_line(tmp_path, fault):
    content, said = LIST_FAULTS[fault]
    path = tmp_path / "fer2013new.csv"
    path.write_text(content)
    with pytest.raises(FacebenchError, match=f"fer2013new.csv: {said}"):
        votes.read_list(path)


# ------------------------------------------------------------------------------------ the table


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (48, 48), np.uint8)


def table_row(seed, emotion=3, usage="Training"):
    return f"{emotion},{' '.join(map(str, pixels(seed).ravel().tolist()))},{usage}"


def test_the_table_gives_the_pixels(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join([fer2013.HEADER, table_row(0), table_row(1, 6, "PrivateTest")]))
    found = list(fer2013.read(path))
    assert [(r.expression, r.usage) for r in found] == [(3, "Training"), (6, "PrivateTest")]
    for seed, made in enumerate(found):
        assert np.array_equal(made.pixels, pixels(seed))


TABLE_FAULTS = {
    "class": (table_row(0, 7), "found '7', expected a class from 0 to 6"),
    "usage": (table_row(0, usage="Train"), "found 'Train'"),
    "a pixel too many": (table_row(0).replace(",", ",1 ", 1), "2305 pixels up to 255"),
    "no number": (table_row(0).replace(" ", " x", 1), "whole numbers"),
    "too bright": (f"3,{'256 ' * 2303}256,Training", "2304 pixels up to 256"),
    "two columns": ("3,1 2 3", "emotion,pixels,Usage"),
    "endless": ("3," + "1 " * 40_000, "at most"),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_broken_table_is_refused_by_line(tmp_path, fault):
    line, said = TABLE_FAULTS[fault]
    path = tmp_path / "fer2013.csv"
    path.write_text(f"{fer2013.HEADER}\n{table_row(1)}\n{line}\n")
    with pytest.raises(FacebenchError, match=f"fer2013.csv: line 3: .*{said}"):
        list(fer2013.read(path))
