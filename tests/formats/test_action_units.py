"""Files of action unit codes and lists of frames, by their lines."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io

from facebench.errors import FacebenchError
from facebench.formats import action_units, matlab

HEAD = "0,1,2,3,4"


def file(folder, lines, name="F001_T1.csv"):
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_occurrence_goes_by_the_names_of_columns(tmp_path):
    # BP4D names the column of frames 0, BP4D+ names it 1 as well as action unit 1
    for head, row in (("0,1,2,3,4", "12,1,0,9,9"), ("1,1,2,4,99", "12,1,0,9,1")):
        path = file(tmp_path, [head, "7,0,0,0,0", row])
        found = action_units.occurrence(path, "F001/T1", (4, 1))
        assert found.frames.tolist() == [7, 12]
        assert found.codes.tolist() == [[0, 0], [-1, 1]]
        assert (found.codes.dtype, found.subject) == (np.int8, "F001")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["0,1,2,3", "1,0,0,0"], "line 1: 0 columns of action unit 4, expected one"),
        (["0,1,4,4,2", "1,0,0,0,0"], "line 1: 2 columns of action unit 4"),
        ([HEAD, "1,0,0,0"], "line 2: found '1,0,0,0', expected 5 cells, as line 1 has"),
        ([HEAD, "1,0,0,0,2"], "line 2: found '2', expected a code of action unit 4: 0, 1, 9"),
        ([HEAD, "1,0,0,0,1.0"], "line 2: found '1.0', expected a code"),
        ([HEAD, "0,0,0,0,1"], "line 2: found '0', expected the number of a frame, counted from 1"),
        ([HEAD, "x,0,0,0,1"], "line 2: found 'x', expected the number of a frame"),
        ([HEAD, "5,0,0,0,1", "5,0,0,0,1"], "line 3: found '5', expected a frame after 5"),
        ([HEAD, "5,0,0,0,1", "4,0,0,0,1"], "line 3: found '4', expected a frame after 5"),
        ([HEAD], "no frame is coded"),
        ([], "no frame is coded"),
        ([HEAD, "", "1,0,0,0,1"], "line 2 is blank"),
    ],
)
def test_a_broken_file_of_occurrence_is_refused_by_line(tmp_path, lines, said):
    path = file(tmp_path, lines)
    with pytest.raises(FacebenchError, match=rf"F001_T1\.csv: {said}") as error:
        action_units.occurrence(path, "F001/T1", (1, 4))
    assert "\n" not in str(error.value)


def graded(tmp_path, first, second):
    return {6: file(tmp_path, first, "six.csv"), 10: file(tmp_path, second, "ten.csv")}


def test_grades_of_two_files_stand_side_by_side(tmp_path):
    paths = graded(tmp_path, ["1,0", "2,5"], ["1,9", "2,3"])
    found = action_units.grades(paths, "F001/T1", unknown=True)
    assert found.frames.tolist() == [1, 2]
    assert found.codes.tolist() == [[0, -1], [5, 3]]
    for head in ("0,6", "frame,AU06"):  # a line of names says no grade
        paths = graded(tmp_path, [head, "1,4"], ["1,2"])
        assert action_units.grades(paths, "F001/T1", unknown=True).codes.tolist() == [[4, 2]]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (["1,0"], ["1,9"], "ten.csv: line 1: found '9', expected a code of action unit 10: 0, 1,"),
        (["1,0"], ["1,6"], "ten.csv: line 1: found '6'"),
        (["1,0"], ["1"], "ten.csv: line 1: found '1', expected `frame,grade`"),
        (["1,0", "2,0"], ["1,0"], "ten.csv: 1 frames, and lacks frame 2, which six.csv codes"),
        (["1,0"], ["1,0", "3,0"], "ten.csv: 2 frames, and codes frame 3, which six.csv does not"),
    ],
)
def test_broken_grades_are_refused_by_file(tmp_path, first, second, said):
    with pytest.raises(FacebenchError, match=said):
        action_units.grades(graded(tmp_path, first, second), "SN001", unknown=False)


def test_a_table_of_frames(tmp_path):
    head = "session,frame,x0,y0"
    path = file(tmp_path, [head, "F001/T1,7,1.5,-2", "SN001, 1, 3, 4"])
    found = action_units.table(path, ("x0", "y0"))
    assert found.row("F001/T1", 7).tolist() == [1.5, -2]
    assert found.row("SN001", 1).tolist() == [3, 4]
    assert found.row("SN001", 2) is None
    assert action_units.frames_of(file(tmp_path, ["session,frame", "SN001,8"])) == {("SN001", 8)}
    for lines, said in (
        (["session,frame,x0", "SN001,1,2"], "line 1: .*expected the columns `session,frame,x0,y0`"),
        ([head, "SN001,1,2"], "line 2: .*expected 4 cells"),
        ([head, "SN001,1,2,nan"], "line 2: .*expected 2 numbers, in pixels"),
        ([head, "SN001,1,2,x"], "line 2: .*expected 2 numbers"),
        ([head, "SN001,0,2,2"], "line 2: found '0', expected the number of a frame"),
        ([head, "SN001,1,2,2", "SN001,1,2,2"], "line 3: frame 1 of SN001 again"),
    ):
        with pytest.raises(FacebenchError, match=said):
            action_units.table(file(tmp_path, lines), ("x0", "y0"))


@pytest.mark.parametrize("packed", [False, True])
def test_points_of_a_matlab_file(tmp_path, packed):
    points = np.random.default_rng(0).normal(size=(66, 2))
    scipy.io.savemat(tmp_path / "a.mat", {"other": 1, "pts": points}, do_compression=packed)
    assert np.array_equal(matlab.points(tmp_path / "a.mat", "pts", 66), points)
    with pytest.raises(FacebenchError, match=r"'pts' has 132 numbers; expected 49 points \(x, y\)"):
        matlab.points(tmp_path / "a.mat", "pts", 49)
    with pytest.raises(FacebenchError, match="there is no variable 'p'; expected"):
        matlab.points(tmp_path / "a.mat", "p", 66)
    points[3, 1] = np.inf
    scipy.io.savemat(tmp_path / "a.mat", {"pts": points})
    with pytest.raises(FacebenchError, match="no finite number"):
        matlab.points(tmp_path / "a.mat", "pts", 66)
