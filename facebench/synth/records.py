"""A sample as the plain fields that a dataset stores: images as PNG, labels as small arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from facebench.synth import clips, events, mesh
from facebench.synth.attributes import attributes
from facebench.synth.clips import ClipConfig
from facebench.synth.labels import Sample
from facebench.synth.numeric import Array
from facebench.synth.portrait import FILTERS, OCCLUDERS
from facebench.synth.world import WorldConfig, sample

#: Dense labels that a record may hold, as PNG.
DENSE = ("parse", "occluder", "depth")


def png(image: Array) -> bytes:
    """RGB uint8 [H, W, 3], or one channel [H, W] of uint8 or uint16, as PNG."""
    ok, data = cv2.imencode(".png", image[:, :, ::-1] if image.ndim == 3 else image)
    if not ok:
        raise RuntimeError("OpenCV could not write a PNG")
    return data.tobytes()


def occluder_share(made: Sample) -> Array:
    """The share of the face box's pixels that each of `OCCLUDERS` covers: float32 [4].

    A box without a pixel in the image has shares of 0.
    """
    size = made.occluder.shape[0]
    x0, y0 = (max(int(v), 0) for v in np.ceil(made.box[:2]))
    x1, y1 = (max(min(int(v) + 1, size), 0) for v in np.floor(made.box[2:]))
    inside = made.occluder[y0:y1, x0:x1]
    counts = np.array([np.count_nonzero(inside == k + 1) for k in range(len(OCCLUDERS))])
    return (counts / max(inside.size, 1)).astype(np.float32)


def record(made: Sample, dense: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a sample; a data card says what each means.

    Args:
        made: the sample.
        dense: which of `DENSE` to hold.
    """
    p = made.parameters
    out: dict[str, Any] = {
        "unit": f"id-{p.identity:05d}",
        "image": png(made.image),
        "points": made.points,
        "visible": made.visible,
        "hidden": made.hidden,
        "points98": made.points98,
        "visible98": made.visible98,
        "box": made.box,
        "rest_box": mesh.rest_box(p, len(made.image)),
        "identity": p.identity,
        "group": p.group,
        "age": np.float32(p.age),
        "au": made.au,
        "sides": p.sides.astype(np.float32),
        "expression": p.expression_label,
        "shown": p.expression,
        "pose": made.pose,
        "gaze": p.gaze.astype(np.float32),
        "light": made.light,
        "camera": p.camera.astype(np.float32),
        "intrinsics": made.intrinsics,
        "attributes": attributes(p),
        "makeup": p.makeup.astype(np.float32),
        "occluder_share": occluder_share(made),
        "style": FILTERS.index(p.style),
        "quality": np.array([p.blur, p.noise, p.jpeg], np.float32),
    }
    if "parse" in dense:
        out["parse"] = png(made.parse)
    if "occluder" in dense:
        out["occluder"] = png(made.occluder)
    if "depth" in dense:  # 1/10 mm; float64 holds the product of a float32 exactly
        out["depth"] = png(np.rint(made.depth.astype(np.float64) * 100.0).astype(np.uint16))
    return out


def of_sample(config: WorldConfig, dense: tuple[str, ...], i: int) -> list[dict[str, Any]]:
    """The record of sample `i`, in a list of one."""
    return [record(sample(config, i), dense)]


def of_clip(config: ClipConfig, dense: tuple[str, ...], i: int) -> list[dict[str, Any]]:
    """The records of the frames of clip `i`, with what belongs to the clip."""
    whole = clips.clip(config, i)
    out = []
    for k, p in enumerate(whole.frames):
        fields = record(clips.render(p, config.world.size), dense)
        fields |= {
            "unit": f"id-{p.identity:05d}",
            "clip": i,
            "frame": k,
            "expression": whole.expression_label,
            "emotion": whole.expression,
            "events": events.as_json(whole.events),
            "blinks": events.as_json(whole.blinks),
        }
        out.append(fields)
    return out
