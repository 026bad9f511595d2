"""A thousand faces at all poses: every label against every other one, by other arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facebench import synth
from facebench.synth import head
from facebench.synth.labels import OCCLUDER_HIDDEN, SELF_HIDDEN

WORLD = synth.WorldConfig(
    size=96, seed=77, identities=1000, per_identity=1, yaw=math.pi / 2, pitch=0.6, roll=0.6,
    classes=8, occlusion=0.3, glasses=0.2, noise=0.0,
)  # fmt: skip


def seen(s: synth.Sample, points: np.ndarray) -> np.ndarray:
    """Where a pinhole camera of the sample's intrinsics sees points [N, 3]: x, y, distance."""
    focal, cx, cy = s.intrinsics.astype(float)
    x, y, z = points.astype(float).T
    return np.stack([cx + focal * x / -z, cy - focal * y / -z, -z], 1)


@pytest.mark.slow
def test_labels_agree_on_a_thousand_faces() -> None:
    near, hidden_right, inside_all, boxes = 0, 0, 0, 0
    hidden_all = occluded = 0
    worst = 0.0
    vertices, weights = head.build().landmarks
    for i in range(1000):
        s = synth.sample(WORLD, i)
        mesh = (s.vertices[vertices] * weights[..., None]).sum(1)
        q = seen(s, mesh)
        worst = max(worst, float(np.abs(q[:, :2] - s.points).max()))
        boxes += np.allclose(s.box, [*s.points.min(0), *s.points.max(0)], atol=1e-4)
        at = np.rint(s.points).astype(int)
        inside = ((at >= 1) & (at <= 94)).all(1)
        for k in np.flatnonzero(inside):
            x, y = at[k]
            around = s.depth[y - 1 : y + 2, x - 1 : x + 2]
            drawn = around[around > 0]
            # at the outline the surface falls away within a pixel: the point lies between
            low, high = drawn.min(initial=np.inf), drawn.max(initial=0.0)
            before = q[k, 2] - low
            if s.hidden[k] == 0:
                inside_all += 1
                near += low - 0.2 < q[k, 2] < high + 0.2
            elif s.hidden[k] & (SELF_HIDDEN | OCCLUDER_HIDDEN):
                hidden_all += 1
                hidden_right += before > 0.05
                if s.hidden[k] & OCCLUDER_HIDDEN:
                    occluded += s.occluder[y - 1 : y + 2, x - 1 : x + 2].any()
    assert worst < 1e-3  # px: labels are rounded to 2^-12 px, vertices to float32
    assert boxes == 1000
    assert inside_all > 30_000
    # Pixel centres beside a point on the outline see another depth; along the very ray of each
    # point, test_drawing finds all of them.
    assert near / inside_all > 0.96
    assert hidden_all > 10_000
    assert hidden_right / hidden_all > 0.97
    assert occluded > 3_000
