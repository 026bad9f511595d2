"""Pictures that a person would want to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

TRUE, PREDICTED = (40, 210, 90), (255, 60, 50)  # green, red
INK, PAPER = (40, 40, 40), (250, 250, 250)


def png(image: np.ndarray) -> bytes:
    """An RGB image [H, W, 3] uint8 as PNG."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _text(
    image: np.ndarray, text: str, x: int, y: int, scale: float, colour: Sequence[int]
) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(image, text, (x, y), font, scale, tuple(colour), 1, cv2.LINE_AA)


_SHIFT = 4  # OpenCV draws at sixteenths of a pixel


def _at(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0]) * 2**_SHIFT), round(float(point[1]) * 2**_SHIFT)


def _close_up(face: np.ndarray, truth: np.ndarray, predicted: np.ndarray, side: int) -> np.ndarray:
    """The face filling a square, a ring at each true point, a dot and a line to each prediction."""
    low, high = truth.min(0), truth.max(0)
    zoom = side / (1.45 * float((high - low).max()))
    move = (side - 1) / 2 - zoom * (low + high) / 2
    matrix = np.array([[zoom, 0, move[0]], [0, zoom, move[1]]])
    shown = cv2.warpAffine(
        face, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    for true, guess in zip(truth * zoom + move, predicted * zoom + move):
        cv2.line(shown, _at(true), _at(guess), PREDICTED, 1, cv2.LINE_AA, _SHIFT)
        cv2.circle(shown, _at(true), 3 * 2**_SHIFT, TRUE, 1, cv2.LINE_AA, _SHIFT)
        cv2.circle(shown, _at(guess), 24, PREDICTED, -1, cv2.LINE_AA, _SHIFT)
    return shown


def landmark_sheet(
    faces: Sequence[np.ndarray],
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    errors: Mapping[str, Sequence[float]],
    title: str,
    side: int = 240,
) -> np.ndarray:
    """Draws faces with true and predicted landmarks: a column per face, a row per prediction.

    Args:
        faces: n RGB images, uint8.
        truth: [n, K, 2] pixels of those images.
        predictions: row label -> [n, K, 2] pixels.
        errors: row label -> n numbers to write on the faces, in percent.
        title: stands at the top.
        side: of a face on the sheet, in pixels.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    gap, head, label = 6, 58, 22
    width = gap + len(faces) * (side + gap)
    height = head + len(predictions) * (label + side + gap)
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    _text(sheet, title, gap, 22, 0.55, INK)
    cv2.circle(sheet, (gap + 6, 42), 5, TRUE, 2, cv2.LINE_AA)
    _text(sheet, "true", gap + 18, 47, 0.45, INK)
    cv2.circle(sheet, (gap + 76, 42), 4, PREDICTED, -1, cv2.LINE_AA)
    _text(sheet, "predicted", gap + 88, 47, 0.45, INK)
    for row, (name, points) in enumerate(predictions.items()):
        top = head + row * (label + side + gap)
        _text(sheet, name, gap, top + 15, 0.48, INK)
        for column, face in enumerate(faces):
            shown = _close_up(face, truth[column], points[column], side)
            note = f"{errors[name][column]:.1f} %"
            _text(shown, note, 6, side - 8, 0.45, (0, 0, 0))
            _text(shown, note, 5, side - 9, 0.45, (255, 255, 255))
            left = gap + column * (side + gap)
            sheet[top + label : top + label + side, left : left + side] = shown
    return sheet
