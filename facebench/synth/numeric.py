"""Numbers that come out the same on every machine.

Only `+ - * /`, square roots and comparisons of float64 are used on the way to a pixel: IEEE 754
fixes their last bit. Sine, cosine and the exponential are built from them here, because a
library's may differ in the last bit between processors and versions. Random numbers are the raw
words of the Philox counter generator (Salmon et al., "Parallel random numbers: as easy as 1, 2,
3", 2011), whose stream NumPy freezes, turned into numbers by our own rules.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

Array = np.ndarray[Any, np.dtype[Any]]

PI = 3.141592653589793


class _Key(ISeedSequence):
    """Hands a hashed name to Philox as its key, unchanged."""

    def __init__(self, key: Array) -> None:
        self._key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> Array:
        """The key, as the `n_words` numbers that Philox asks for."""
        return self._key.view(dtype)[:n_words]


class Draws:
    """A stream of random numbers that depends on its name alone.

    Args:
        parts: what the stream is for, such as a version, a seed and an index; they are joined
            and hashed with SHA-256 into the 128-bit key of a Philox generator.
    """

    def __init__(self, *parts: str | int) -> None:
        name = "/".join([str(part) for part in parts]).encode()
        key = np.frombuffer(hashlib.sha256(name).digest()[:16], "<u8").astype(np.uint64)
        # as Philox(key=key), which would ask the system for entropy first and not use it
        self._bits = np.random.Philox(_Key(key))  # type: ignore[arg-type]

    def words(self, n: int) -> Array:
        """`n` raw words, uint64."""
        return np.asarray(self._bits.random_raw(n), np.uint64)

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0) -> Array:
        """`n` numbers, uniform in [low, high), float64 on a grid of 2^-53."""
        unit = (self.words(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * unit

    def bell(self, n: int) -> Array:
        """`n` bell-shaped numbers of mean 0 and variance 1, within +-3 (a sum of 3 uniforms)."""
        u = self.uniform(3 * n).reshape(3, n)
        return (u[0] + u[1] + u[2] - 1.5) * 2.0

    def noise(self, n: int) -> Array:
        """`n` bell-shaped numbers of mean 0 and variance 1, four from each word (coarser)."""
        words = self.words((n + 1) // 2)
        half = words.astype("<u8").view("<u4")[:n]
        low, high = half & np.uint32(0xFFFF), half >> np.uint32(16)
        a = (low & np.uint32(0xFF)) + (low >> np.uint32(8))
        b = (high & np.uint32(0xFF)) + (high >> np.uint32(8))
        return ((a + b).astype(np.float64) - 510.0) * (1.0 / 147.8)

    def one(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number, uniform in [low, high)."""
        return float(self.uniform(1, low, high)[0])

    def pick(self, weights: Array) -> int:
        """One index, with probability in proportion to `weights`."""
        edges = np.cumsum(weights)
        k = int(np.searchsorted(edges, self.one(0.0, float(edges[-1])), "right"))
        return min(k, len(edges) - 1)


def quantise(x: Array, bits: int = 20) -> Array:
    """Rounds to multiples of 2^-bits, so that last-bit differences of tables do not survive."""
    scale = float(1 << bits)
    return np.rint(np.asarray(x, np.float64) * scale) / scale


def sin_cos(x: float) -> tuple[float, float]:
    """Sine and cosine of an angle in radians, |x| <= 2 pi, by their series (error < 1e-12)."""
    y = x / 8.0
    y2 = y * y
    s, c, term_s, term_c = 0.0, 0.0, y, 1.0
    for k in range(9):
        s += term_s
        c += term_c
        term_c = -term_c * y2 / ((2 * k + 1) * (2 * k + 2))
        term_s = -term_s * y2 / ((2 * k + 2) * (2 * k + 3))
    for _ in range(3):
        s, c = 2.0 * s * c, c * c - s * s
    return s, c


def smooth(x: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, and 3t^2 - 2t^3 between."""
    t = np.minimum(np.maximum((x - low) * (1.0 / (high - low)), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """R = Rz(roll) Rx(pitch) Ry(yaw), [3, 3], for axes x right, y up, z to the camera.

    Positive yaw turns the nose to the image's right, positive pitch lifts it, positive roll
    turns the face counter-clockwise in the image.
    """
    sy, cy = sin_cos(yaw)
    sp, cp = sin_cos(-pitch)
    sr, cr = sin_cos(roll)
    ry = [[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]]
    rx = [[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]]
    rz = [[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]]

    def times(a: list[list[float]], b: list[list[float]]) -> list[list[float]]:
        return [
            [a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j] for j in range(3)]
            for i in range(3)
        ]

    return np.array(times(rz, times(rx, ry)))


def turn(matrix: Array, points: Array) -> Array:
    """Applies a [3, 3] matrix to points stored as [3, ...], without a matrix library."""
    x, y, z = points[0], points[1], points[2]
    return np.stack([matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] * z for i in range(3)])
