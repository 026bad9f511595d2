"""How fast faces are drawn: images a second on one core, with all labels, and where time goes.

    python benchmarks/render_speed.py [--sizes 64 112 224] [--images 200] [--numpy]

Samples of a `WorldConfig`, two images of each person, drawn one after the other. Times are CPU time
of the one thread, so that a busy machine changes them little. `--numpy` adds a peer doing part of
the same work without a compiler: OpenCV's polygon filling of the same projected triangles, sorted
by depth, with one flat colour each and no labels (painter's algorithm), which is about the least
that a picture costs.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from facebench import synth
from facebench.synth import drawing, head, mesh, raster, world

spent: dict[str, float] = defaultdict(float)


def clock(owner: Any, name: str, label: str) -> Callable[[], None]:
    """Counts the time of a function; the result undoes it."""
    inner = getattr(owner, name)

    def timed(*args: Any, **named: Any) -> Any:
        start = time.thread_time()
        out = inner(*args, **named)
        spent[label] += time.thread_time() - start
        return out

    setattr(owner, name, timed)
    return lambda: setattr(owner, name, inner)


def painter(p: synth.Parameters, size: int) -> np.ndarray:
    """The face as flat triangles, back to front."""
    import cv2

    points, person, _ = mesh.shape(p)
    seen = mesh.turned(p, points, mesh.follow())
    screen = mesh.project(p, seen, size)
    triangles = np.ascontiguousarray(head.build().triangles[:, drawing._drawn(person.style)])
    a, b, c = (seen[:, t] for t in triangles)
    n = np.cross((b - a).T, (c - a).T)
    lit = np.clip(n[:, 2] / np.maximum(np.linalg.norm(n, axis=1), 1e-9), 0, 1)
    order = np.argsort(seen[2][triangles].sum(axis=0))
    order = order[lit[order] > 0]
    corners = np.ascontiguousarray(screen[:2][:, triangles].transpose(2, 1, 0) * 16)
    corners = np.rint(corners).astype(np.int32)
    image = np.zeros((size, size, 3), np.uint8)
    for t in order:
        tone = int(220 * lit[t])
        cv2.fillConvexPoly(image, corners[t].reshape(-1, 1, 2), (tone, tone, tone), cv2.LINE_AA, 4)
    return image


def measure(draw: Callable[[int], Any], images: int) -> float:
    start = time.thread_time()
    for i in range(images):
        draw(i)
    return images / (time.thread_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 112, 224])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--numpy", action="store_true")
    options = parser.parse_args()
    start = time.thread_time()
    config = synth.WorldConfig(size=64, seed=1, identities=options.images, per_identity=2)
    synth.sample(config, 0)
    print(f"machine: {platform.processor() or platform.machine()}, one thread")
    print(
        f"first picture (compiling or loading what is compiled): {time.thread_time() - start:.1f} s"
    )
    for i in range(80):  # every hair style's shadows are known afterwards
        synth.sample(config, i)
    from facebench.synth import backdrop, film, kernels, resolve

    for size in options.sizes:
        images = max(options.images * 64 // max(size, 64), 20)
        config = synth.WorldConfig(size=size, seed=1, identities=images, per_identity=2)
        rate = max(measure(lambda i, c=config: synth.sample(c, i), images) for _ in range(3))
        print(f"{size:4d} px: {rate:7.1f} images/s, {1e3 / rate:.2f} ms each")
        spent.clear()
        undo = [
            clock(*k)
            for k in (
                (world, "parameters", "parameters"), (mesh, "shape", "shape"),
                (mesh, "turned", "turn"), (raster, "rasterise", "coverage"),
                (kernels, "normals", "normals"), (drawing, "_points", "points"),
                (resolve, "pixels", "shading"), (backdrop, "behind", "backdrop"),
                (drawing, "_finish", "tone, noise"), (film, "lenses", "lenses"),
            )
        ]  # fmt: skip
        whole = images / measure(lambda i, c=config: world.sample(c, i), images)
        for back in undo:
            back()
        rest = whole - sum(spent.values())
        shares = sorted([*spent.items(), ("other", rest)], key=lambda kv: -kv[1])
        print("        " + ", ".join(f"{k} {v / whole:.0%}" for k, v in shares))
        if options.numpy:
            drawn = [synth.parameters(config, i) for i in range(20)]
            peer = measure(lambda i, d=drawn, s=size: painter(d[i], s), 20)
            print(f"        flat triangles by OpenCV: {peer:.1f} images/s ({rate / peer:.2f}x)")


if __name__ == "__main__":
    main()
