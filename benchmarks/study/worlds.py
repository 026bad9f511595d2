"""Generated faces with all their labels, as arrays in memory."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Sequence

import numpy as np

from facebench import synth
from facebench.data import transforms
from facebench.schemes import SCHEMES

#: What becomes of a class of the parse mask in the mirror.
MIRRORED = np.array(
    [
        synth.PARSE.index(
            {"left": "right", "right": "left"}.get(name.split()[0], name.split()[0])
            + name[len(name.split()[0]) :]
        )
        for name in synth.PARSE
    ],
    np.uint8,
)


#: Where the eyes, the tip of the nose and the corners of the mouth come to lie in an aligned
#: picture (parts of its side), and the points of 68 that they are the means of.
TEMPLATE = np.array([0.34 + 0.42j, 0.66 + 0.42j, 0.5 + 0.6j, 0.37 + 0.78j, 0.63 + 0.78j])
ANCHORS = (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,))


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Faces:
    """n pictures of S px with their labels; see `facebench.synth.Sample` for units.

    Attributes:
        image: uint8 [n, S, S, 3].
        points: float32 [n, 68, 2].
        hidden: uint8 [n, 68].
        parse: uint8 [n, S, S].
        au: float32 [n, 24].
        expression: int32 [n], what the label says.
        shown: int32 [n], the expression that is shown.
        identity: int64 [n].
        identity_vector: float64 [n, d].
        group: int32 [n].
    """

    image: np.ndarray
    points: np.ndarray
    hidden: np.ndarray
    parse: np.ndarray
    au: np.ndarray
    expression: np.ndarray
    shown: np.ndarray
    identity: np.ndarray
    identity_vector: np.ndarray
    group: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def only(self, rows: np.ndarray) -> Faces:
        """The faces that a mask or a list of rows keeps."""
        return Faces(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})

    @functools.cached_property
    def aligned(self) -> np.ndarray:
        """uint8 [n, S, S, 3]: the pictures turned, scaled and shifted by the true points.

        The similarity with the least squared distance of five points to their template, as the
        releases of recognition and expression sets are aligned. Only a shape's place goes in, but
        it is the true one: a detector would do this worse.
        """
        size, out = self.image.shape[1], np.empty_like(self.image)
        wanted = TEMPLATE * (size - 1)
        for k, points in enumerate(self.points.astype(np.float64)):
            p = np.array([points[list(rows)].mean(axis=0) @ (1, 1j) for rows in ANCHORS])
            away = p - p.mean()
            turn = (away.conj() @ (wanted - wanted.mean())) / (away.conj() @ away)
            shift = wanted.mean() - turn * p.mean()
            matrix = np.array(
                [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]]
            )
            out[k] = transforms.warp(self.image[k], None, matrix, size)[0]
        return out

    def people(self) -> np.ndarray:
        """[n] int32: each face's place in the sorted list of identities."""
        return np.unique(self.identity, return_inverse=True)[1].astype(np.int32)


def draw(title: str, indices: Sequence[int] | None = None, **knobs: object) -> Faces:
    """Draws a world, or some of its samples.

    Args:
        title: what progress lines call it.
        indices: which samples; all when left out.
        **knobs: of `facebench.synth.WorldConfig`.

    Raises:
        FacebenchError: the world has no such knob, or a value is out of range.
    """
    config = synth.WorldConfig.of(**knobs)
    n, begun, rows = len(config) if indices is None else len(indices), time.monotonic(), []
    for sample in synth.samples(config, indices):
        p = sample.parameters
        rows.append(
            (
                sample.image, sample.points, sample.hidden, sample.parse, sample.au,
                np.int32(p.expression_label), np.int32(p.expression), np.int64(p.identity),
                p.identity_vector, np.int32(p.group),
            )
        )  # fmt: skip
    seconds = time.monotonic() - begun
    say(f"world {title}: {n} faces of {config.size} px, {n / seconds:.0f} images/s")
    return Faces(*(np.stack(column) for column in zip(*rows, strict=True)))


def mirrored(arrays: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """A batch whose `rows` (a mask) are mirrored: pictures, and the labels that have a place."""
    out = dict(arrays)
    size = arrays["image"].shape[2]
    for name, value in arrays.items():
        if name not in ("image", "points", "visible", "parse"):
            continue
        value, part = value.copy(), value[rows]
        if name in ("image", "parse"):
            part = part[:, :, ::-1]
        if name == "parse":
            part = MIRRORED[part]
        if name in ("points", "visible"):
            part = part[:, list(SCHEMES[part.shape[1]].flip)]
        if name == "points":
            part = np.stack([size - 1 - part[..., 0], part[..., 1]], axis=-1)
        value[rows] = part
        out[name] = value
    return out
