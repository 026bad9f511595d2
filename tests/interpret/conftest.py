"""A face of 68 points."""

from __future__ import annotations

import numpy as np
import pytest


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float, n: int):
    angle = np.radians(np.linspace(start, end, n))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], -1)


def face68(size: float) -> np.ndarray:
    """68 points of a plain face that fills most of a crop."""
    eyes = [
        np.concatenate([_arc(x, 0.40, 0.08, 0.03, a, a, 1) for a in (180, 240, 300, 0, 60, 120)])
        for x in (0.33, 0.67)
    ]
    nose = np.stack([np.full(4, 0.5), np.linspace(0.4, 0.55, 4)], -1)
    parts = [
        _arc(0.5, 0.42, 0.40, 0.50, 180, 0, 17),
        _arc(0.33, 0.33, 0.11, 0.05, 200, 340, 5),
        _arc(0.67, 0.33, 0.11, 0.05, 200, 340, 5),
        nose,
        np.stack([np.linspace(0.44, 0.56, 5), np.full(5, 0.6)], -1),
        *eyes,
        np.concatenate(
            [_arc(0.5, 0.75, 0.15, 0.06, 180, 360, 7), _arc(0.5, 0.75, 0.15, 0.06, 30, 150, 5)]
        ),
        np.concatenate(
            [_arc(0.5, 0.75, 0.11, 0.02, 180, 360, 5), _arc(0.5, 0.75, 0.11, 0.02, 45, 135, 3)]
        ),
    ]
    points = np.concatenate(parts) * size - 0.5
    assert points.shape == (68, 2)
    return points


@pytest.fixture(scope="session")
def face() -> np.ndarray:
    return face68(32)
