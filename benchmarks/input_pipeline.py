"""How fast training batches are prepared, against a PyTorch DataLoader on the same work.

    python benchmarks/input_pipeline.py [--peer-python=PYTHON] [--out=FILE.md]
    python benchmarks/input_pipeline.py --quick              whether it runs; nothing written

The work of one sample: a JPEG of 112 x 112 pixels is decoded to RGB, turned, scaled, shifted and
mirrored at random in one bilinear warp, and laid into a batch of uint8 images with their labels.
Nothing decoded is kept. The pictures are smooth random ones made here. Ours reads them from the
records that `facebench data prepare` makes of a RecordIO pack, which keeps the JPEG bytes; the peer
holds the same bytes in memory and does the same by the same OpenCV calls: a map-style dataset, its
DataLoader's shuffling and collating, in the interpreter that --peer-python names (by default this
one; it needs torch and cv2, and is left out where they are missing).

Each side is a process of its own that stays alive and waits while another is timed; the sides take
turns, so that what else the machine does falls on all of them. CPU time is that of the side's
processes, all of them, from rest to rest (Linux); images/s per core are images per CPU second,
which a busy machine changes less than the clock. Ratios above 1 say that ours is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = 112
TURN, ZOOM, SHIFT, FLIP = 0.14, 0.08, 0.04, 0.5  # radians, factor - 1, part of the side
SIDES = {  # name -> what it takes
    "facebench": {"threads": 0, "workers": 0},
    "facebench, 2 threads": {"threads": 2, "workers": 0},
    "facebench, 2 workers": {"threads": 0, "workers": 2},
    "torch": {"workers": 0},
    "torch, four channels": {"workers": 0, "four": 1},
    "torch, 2 workers": {"workers": 2},
}
AGAINST = (
    ("facebench", "torch"),
    ("facebench", "torch, four channels"),
    ("facebench, 2 workers", "torch, 2 workers"),
    ("facebench, 2 threads", "torch, 2 workers"),
)
AHEAD = 20  # batches, more than any side keeps ready: read before the clock starts


# ----------------------------------------------------------------------------------- the pictures


def picture(rng: np.random.Generator) -> bytes:
    """A smooth random picture with a little noise, as JPEG."""
    made = np.full((SIZE, SIZE, 3), 128.0)
    for side, height in ((4, 45), (12, 25), (40, 10)):
        rough = rng.standard_normal((side, side, 3))
        made += height * cv2.resize(rough, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    made += rng.normal(0, 3, made.shape)
    pixels = np.clip(made, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def write(folder: Path, count: int, people: int) -> dict[str, Any]:
    """Writes a RecordIO pack, and the same bytes for the peer; what the pictures are."""
    rng = np.random.default_rng(0)
    label = np.sort(rng.integers(0, people, count))
    label[:people] = np.arange(people)
    label.sort()
    images = [picture(rng) for _ in range(count)]
    with (folder / "train.rec").open("wb") as file:
        for i, image in enumerate(images):
            data = struct.pack("<IfQQ", 0, float(label[i]), i, 0) + image
            file.write(struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4))
    (folder / "property").write_text(f"{people},{SIZE},{SIZE}\n")
    ends = np.cumsum([len(image) for image in images])
    np.savez(
        folder / "peer.npz",
        data=np.frombuffer(b"".join(images), np.uint8),
        ends=ends,
        label=label,
    )
    return {"pictures": count, "people": people, "bytes": round(float(ends[-1]) / count)}


def prepare(folder: Path) -> Any:
    """The pack as this suite prepares it."""
    from facebench import workspace
    from facebench.data import source

    ws = workspace.find(Path(__file__).parent, data=folder / "data")
    return source.prepare(ws, "face_recordio", source_dir=folder)


# -------------------------------------------------------------------------------------- the sides


def ours(flags: argparse.Namespace) -> tuple[Iterator[Any], str]:
    """Endless batches of this suite, and its version."""
    import grain

    from facebench.data import pipeline

    split = prepare(flags.folder).split("train")
    took = SIDES[flags.side]
    batches = pipeline.train_batches(
        split,
        np.arange(len(split)),
        ("label",),
        preprocess={"crop": "full", "size": SIZE},
        augment={"rotation": TURN, "scale": ZOOM, "shift": SHIFT, "flip": FLIP},
        batch_size=flags.batch,
        seed=0,
        threads=took["threads"],
        workers=took["workers"],
        cache_bytes=0,
    )
    version = getattr(grain, "__version__", "")
    return batches, f"grain {version}, cv2 {cv2.__version__}, NumPy {np.__version__}"


class Faces:
    """The peer's dataset: a picture is decoded and warped when it is asked for."""

    def __init__(self, path: Path, four: bool) -> None:
        with np.load(path) as arrays:
            data, ends, self.label = arrays["data"], arrays["ends"], arrays["label"].tolist()
        self.images, self.four = np.split(data, ends[:-1]), four
        cv2.setNumThreads(0)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        import torch

        image: Any = cv2.imdecode(self.images[i], cv2.IMREAD_COLOR)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        centre = (SIZE - 1) / 2
        zoom = (1 + ZOOM) ** random.uniform(-1, 1)
        turn = np.degrees(random.uniform(-TURN, TURN))
        matrix = cv2.getRotationMatrix2D((centre, centre), turn, zoom)
        matrix[0, 2] += random.uniform(-SHIFT, SHIFT) * SIZE
        matrix[1, 2] += random.uniform(-SHIFT, SHIFT) * SIZE
        if self.four:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
        image = cv2.warpAffine(
            image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        if self.four:
            image = cv2.cvtColor(image, cv2.COLOR_RGBA2RGB)
        if random.random() < FLIP:
            image = cv2.flip(image, 1)
        return torch.from_numpy(image), self.label[i]


def peer(flags: argparse.Namespace) -> tuple[Iterator[Any], str]:
    """Endless batches of PyTorch, and its version."""
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    took = SIDES[flags.side]
    faces = Faces(flags.folder / "peer.npz", bool(took.get("four")))
    loader: Any = DataLoader(
        faces,
        flags.batch,
        shuffle=True,
        drop_last=True,
        num_workers=took["workers"],
        persistent_workers=bool(took["workers"]),
    )

    def endless() -> Iterator[Any]:
        while True:
            for image, label in loader:
                yield {"image": image, "label": label}

    version = f"torch {torch.__version__}, cv2 {cv2.__version__}, NumPy {np.__version__}"
    return endless(), version


def work(flags: argparse.Namespace) -> None:
    """A side's process: warms up, then times what it is asked for, line by line."""
    batches, version = (ours if flags.side.startswith("facebench") else peer)(flags)
    seen = [np.asarray(next(batches)["image"]) for _ in range(AHEAD)]
    assert {image.shape for image in seen} == {(flags.batch, SIZE, SIZE, 3)}
    values = np.stack(seen)
    facts = {"version": version, "mean": float(values.mean()), "spread": float(values.std())}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        for _ in range(AHEAD):
            next(batches)
        start = time.perf_counter()
        for _ in range(int(line)):
            next(batches)
        print(time.perf_counter() - start, flush=True)
    if hasattr(batches, "close"):  # ends its workers, which would keep the pipes open
        batches.close()


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all below it, those that ended included."""
    parent, took = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(path.parent.name)
        parent[number], took[number] = int(words[1]), sum(map(int, words[11:15]))
    mine, total = {pid}, took.pop(pid)
    while found := {n for n in took if parent[n] in mine}:
        mine |= found
        total += sum(took.pop(n) for n in found)
    return total / os.sysconf("SC_CLK_TCK")


class Side:
    """A side's process, seen from the one that compares."""

    def __init__(self, name: str, flags: argparse.Namespace) -> None:
        python = sys.executable if name.startswith("facebench") else flags.peer_python
        process: Any = subprocess.Popen(
            [python, __file__, f"--side={name}", f"--batch={flags.batch}",
             f"--folder={flags.folder}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.name, self.process = name, process
        self.wall, self.cpu = list[float](), list[float]()  # seconds per image, of each round
        self.facts: dict[str, Any] | None = None
        if line := process.stdout.readline():
            self.facts = json.loads(line)
        else:
            words = process.stderr.read().strip().splitlines()
            print(f"{name}: left out: {words[-1] if words else 'it ended'}", flush=True)

    def time(self, batches: int, batch: int) -> None:
        """Has the side make batches, and keeps what one image took."""
        begun = self.rest()
        self.process.stdin.write(f"{batches}\n")
        self.process.stdin.flush()
        self.wall.append(float(self.process.stdout.readline()) / (batches * batch))
        self.cpu.append((self.rest() - begun) / ((batches + AHEAD) * batch))

    def rest(self) -> float:
        """Waits until what is made ahead is made; the CPU time until then."""
        before, now = -1.0, cpu_seconds(self.process.pid)
        for _ in range(40):
            if now - before < 0.03:
                break
            time.sleep(0.3)
            before, now = now, cpu_seconds(self.process.pid)
        return now

    def close(self) -> None:
        """Ends the process."""
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()


# ----------------------------------------------------------------------------------- what is said


def summary(sides: list[Side]) -> dict[str, Any]:
    """Figures of every side and, round by round, of ours against the peer."""
    rows = {
        side.name: {
            **(side.facts or {}),
            "images_per_core_second": 1 / statistics.median(side.cpu),
            "cpu_seconds_per_1000": 1000 * statistics.median(side.cpu),
            "images_per_second": 1 / statistics.median(side.wall),
            "rounds_cpu": side.cpu,
            "rounds_wall": side.wall,
        }
        for side in sides
    }
    found = {side.name: side for side in sides}
    ratios = []
    for mine, other in AGAINST:
        if mine in found and other in found:
            row: dict[str, Any] = {"ours": mine, "peer": other}
            for what in ("cpu", "wall"):
                pairs = zip(getattr(found[other], what), getattr(found[mine], what), strict=True)
                every = sorted(p / o for p, o in pairs)
                row[what] = {"median": statistics.median(every), "all": every}
            ratios.append(row)
    return {"sides": rows, "ratios": ratios}


def table(result: dict[str, Any]) -> str:
    """The result as a page."""
    w = result["work"]
    lines = [
        "# Input pipeline: ours and PyTorch's DataLoader",
        "",
        f"`python benchmarks/input_pipeline.py`: {w['pictures']:,} JPEGs of {SIZE} x {SIZE} pixels "
        f"and {w['bytes']:,} bytes on average, batches of {w['batch']}, {w['rounds']} rounds of "
        f"{w['batches'] * w['batch']:,} images in turn, {os.cpu_count()} cores shared with other "
        f"work (load {w['load'][0]:.1f} before, {w['load'][1]:.1f} after). Medians of the rounds. "
        "Images/s per core are images per CPU second of all processes of a side.",
        "",
        "| side | images/s per core | CPU s per 1,000 images | images/s by the clock |",
        "|---|---|---|---|",
    ]
    for name, row in result["sides"].items():
        lines.append(
            f"| {name} | {row['images_per_core_second']:,.0f} | {row['cpu_seconds_per_1000']:.3f} "
            f"| {row['images_per_second']:,.0f} |"
        )
    if result["ratios"]:
        lines += [
            "",
            "| ours | against | images/s per core, times (rounds) | by the clock, times (rounds) |",
            "|---|---|---|---|",
        ]
    for row in result["ratios"]:
        cells = [
            f"{row[k]['median']:.2f} ({row[k]['all'][0]:.2f} to {row[k]['all'][-1]:.2f})"
            for k in ("cpu", "wall")
        ]
        lines.append(f"| {row['ours']} | {row['peer']} | {cells[0]} | {cells[1]} |")
    versions = {row["version"] for row in result["sides"].values()}
    return "\n".join([*lines, "", "; ".join(sorted(versions)) + "."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--batches", type=int, default=50, help="per round and side")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--out", type=Path, help="FILE.md; FILE.json is written beside it")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.side:
        work(flags)
        return
    if flags.quick:
        flags.batches, flags.rounds, flags.pictures = 4, 1, 300
    with tempfile.TemporaryDirectory(prefix="input-pipeline-") as folder:
        flags.folder = Path(folder)
        about = write(flags.folder, flags.pictures, flags.people)
        prepare(flags.folder)
        load = [os.getloadavg()[0]]
        sides = [side for side in (Side(name, flags) for name in SIDES) if side.facts]
        for _ in range(flags.rounds):
            for side in sides:
                side.time(flags.batches, flags.batch)
        load.append(os.getloadavg()[0])
        for side in sides:
            side.close()
    for what in ("mean", "spread"):  # the same pictures, turned and moved as far
        values = [(side.facts or {})[what] for side in sides]
        if max(values) > 1.02 * min(values):
            raise SystemExit(f"the {what} of the sides' pixels differs, {values}: no comparison")
    asked = {k: getattr(flags, k) for k in ("batch", "batches", "rounds")}
    result = {"work": {**about, **asked, "load": load}, **summary(sides)}
    print(table(result))
    if flags.out and not flags.quick:
        flags.out.write_text(table(result))
        flags.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
