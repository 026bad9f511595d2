"""Sheets: what stands where, and the command that draws them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from facebench import synth
from facebench.errors import FacebenchError
from facebench.synth import __main__ as command
from facebench.synth import layout, sheet


def test_contact_sheet_without_titles() -> None:
    whole = synth.contact_sheet(2, ("neutral", "AU27", "yaw -30"), size=32, gap=2, titles=False)
    assert whole.shape == (66, 100, 3)
    assert (whole[32:34] == 255).all()
    assert (whole[:, 32:34] == 255).all()
    alone = synth.contact_sheet(1, ("neutral",), size=32, titles=False)
    assert np.array_equal(whole[:32, :32], alone)
    for wrong, said in (("suprise", "surprise"), ("yaw x", "no number"), ("yew 30", "yaw")):
        with pytest.raises(FacebenchError, match=said):
            synth.contact_sheet(1, (wrong,))


def test_titles_have_a_margin_and_stand_over_their_column() -> None:
    bare = synth.contact_sheet(1, ("neutral", "sad"), size=64, titles=False)
    whole = synth.contact_sheet(1, ("neutral", "sad"), size=64)
    y, x = (whole.shape[0] - 64 - 8, 8)
    assert np.array_equal(whole[y : y + 64, x : x + 64], bare[:, :64])
    assert (whole[:8] == 255).all()
    assert (whole[:, :8] == 255).all()
    assert (whole[-8:] == 255).all()
    words = whole[8:y]
    assert (words[:, 8:72] < 128).any()
    assert (words[:, 74:] < 128).any()


def test_arrange_puts_tiles_in_rows() -> None:
    tile = np.full((20, 20, 3), 7, np.uint8)
    out = layout.arrange([layout.Row("one", [tile, tile]), layout.Row("", [tile])], 3)
    ys, xs = np.nonzero((out == 7).all(axis=2))
    assert len(ys) == 3 * 400
    assert np.ptp(ys) + 1 == 43
    assert np.ptp(xs) + 1 == 43
    assert xs.min() > 8 + layout.text_width("one", 7)


def test_difference_is_white_where_nothing_differs() -> None:
    a = np.full((4, 4, 3), 100, np.uint8)
    b = a.copy()
    b[1, 2, 1] = 110
    b[3, 3] = 0
    out = layout.difference(a, b, 3.0)
    assert (out[0] == 255).all()
    assert out[1, 2].tolist() == [225] * 3
    assert out[3, 3].tolist() == [0] * 3


def test_normals_show_the_face_to_the_camera() -> None:
    made = synth.render(synth.face(), 64)
    out = sheet.normals(made, 2)
    assert out.shape == (128, 128, 3)
    x, y = np.rint((made.points[[2, 14, 30]] + 0.5) * 2 - 0.5).astype(int).T
    left, right, tip = out[y, x].astype(int)
    assert tip[2] > 200  # blue: towards the camera
    assert left[0] < 90 < 165 < right[0]  # red grows to the right
    assert (out[0, 0] == 255).all()


@pytest.mark.parametrize("name", ["faces", "actions", "labels", "knobs"])
def test_commands_write_a_picture(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sheet.png"
    extra = ["--identities=1"] if name == "faces" else []
    assert command.main([name, str(path), "--size=24", *extra]) == 0
    assert capsys.readouterr().out.split() == [str(path)]
    drawn = cv2.imread(str(path))
    assert drawn is not None
    assert min(drawn.shape[:2]) > 40
    assert (drawn[0] == 255).all()


def test_digest_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["digest", "--n=2"]) == 0
    assert capsys.readouterr().out.strip() == synth.manifest_digest(2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND"),
        (["face", "a.png"], "faces"),
        (["faces"], "FILE.png"),
        (["faces", "a.jpg"], "a.png"),
        (["faces", "a.png", "--size=8"], "--size"),
        (["faces", "a.png", "--size=x"], "invalid int"),
        (["knobs", "a.png", "--seed=-1"], "--seed"),
        (["digest", "--n=0"], "--n"),
    ],
)
def test_misuse_exits_with_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(words)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_a_file_that_cannot_be_written_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").mkdir()
    assert command.main(["faces", str(tmp_path / "a.png"), "--size=16", "--identities=1"]) == 1
    assert "error:" in capsys.readouterr().err
