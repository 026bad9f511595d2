"""A small fixed world in which every factor turns up, and its digest."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from facebench.synth.attributes import attributes
from facebench.synth.drawing import render
from facebench.synth.portrait import FILTERS, Parameters, check
from facebench.synth.world import VERSION, WorldConfig, parameters


def manifest(n: int) -> Iterator[tuple[Parameters, int]]:
    """The faces that the digest covers, with their sizes: every factor of a world turns up.

    Every eighth face is of one kind: plain, profile, covered by each occluder, drawn in each
    style, compressed and blurred, made up and old, dim and one-sided, of 8 groups and 8 classes.
    """
    for i in range(n):
        turn = i // 8
        kinds: tuple[dict[str, Any], ...] = (
            {},
            {"yaw": math.pi / 2, "pitch": 0.6, "roll": 1.5},
            {"occlusion": 1.0, "occluders": tuple(float(k == turn % 4) for k in range(4))},
            {"style": FILTERS[1 + turn % 3], "style_strength": 0.7},
            {"jpeg": 1.0, "blur": 0.02, "noise": 12.0},
            {"makeup": 1.0, "age": (60.0, 90.0), "age_span": 20.0, "yaw": 1.3},
            {"asymmetry": 1.0, "extras": 3.0, "identity_au": 0.5, "pose": "frontal"},
            {"groups": 8, "group_imbalance": 0.2, "classes": 8, "label_noise": 0.5,
             "occlusion": 0.5, "expressive": 0.9},
        )  # fmt: skip
        config = WorldConfig(
            size=48 + 8 * (i % 3), seed=20240229, identities=n, per_identity=1, **kinds[i % 8]
        )
        yield parameters(config, i), config.size


def manifest_digest(n: int = 64) -> str:
    """The digest of the pixels and all labels of the first `n` faces of a fixed small world."""
    check("synth.manifest_digest", "n", n, 1, 10**6, True)
    hasher = hashlib.sha256(f"facebench.synth {VERSION} {n}\n".encode())
    for p, size in manifest(n):
        made = render(p, size)
        for owner in (made, p):
            for name in sorted(f.name for f in dataclasses.fields(owner)):
                value = getattr(owner, name)
                if isinstance(value, np.ndarray):
                    hasher.update(value.astype(value.dtype.newbyteorder("<")).tobytes())
                elif isinstance(value, (int, float, str)):
                    hasher.update(f"{name}={value!r}\n".encode())
        for thing in p.occluders:
            hasher.update(thing.kind.encode() + thing.form.tobytes() + thing.colour.tobytes())
        hasher.update(np.packbits(attributes(p)).tobytes())
    return "sha256:" + hasher.hexdigest()
