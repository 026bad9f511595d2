"""Pictures that a person would want to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

TRUE, PREDICTED = (80, 230, 120), (255, 80, 60)  # green, red
INK, PAPER = (40, 40, 40), (250, 250, 250)


def png(image: np.ndarray) -> bytes:
    """An RGB image [H, W, 3] uint8 as PNG."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _text(
    image: np.ndarray, text: str, x: int, y: int, scale: float, colour: Sequence[int]
) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(image, text, (x, y), font, scale, tuple(colour), 1, cv2.LINE_AA)


def _dots(
    image: np.ndarray, points: np.ndarray, zoom: float, colour: Sequence[int], r: int
) -> None:
    for x, y in (points + 0.5) * zoom - 0.5:
        centre = (round(float(x) * 16), round(float(y) * 16))
        cv2.circle(image, centre, r * 16, tuple(colour), -1, cv2.LINE_AA, 4)


def landmark_sheet(
    faces: Sequence[np.ndarray],
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    errors: Mapping[str, Sequence[float]],
    title: str,
    side: int = 192,
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
    cv2.circle(sheet, (gap + 6, 42), 5, TRUE, -1, cv2.LINE_AA)
    _text(sheet, "true", gap + 18, 47, 0.45, INK)
    cv2.circle(sheet, (gap + 76, 42), 4, PREDICTED, -1, cv2.LINE_AA)
    _text(sheet, "predicted", gap + 88, 47, 0.45, INK)
    for row, (name, points) in enumerate(predictions.items()):
        top = head + row * (label + side + gap)
        _text(sheet, name, gap, top + 15, 0.48, INK)
        for column, face in enumerate(faces):
            zoom = side / max(face.shape[:2])
            shown = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
            _dots(shown, truth[column], zoom, TRUE, 3)
            _dots(shown, points[column], zoom, PREDICTED, 2)
            note = f"{errors[name][column]:.1f} %"
            _text(shown, note, 6, side - 8, 0.45, (0, 0, 0))
            _text(shown, note, 5, side - 9, 0.45, (255, 255, 255))
            left = gap + column * (side + gap)
            sheet[top + label : top + label + side, left : left + side] = shown
    return sheet
