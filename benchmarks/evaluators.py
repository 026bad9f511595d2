"""How fast the judge scores recognition, and in how much memory, beside the field's evaluators.

    python benchmarks/evaluators.py --out=benchmarks/evaluators.md [--only=pairs,ijb]
    python benchmarks/evaluators.py --quick          a hundredth of the size, nothing written

Both sides read the same generated files, each in a process of its own, one after the other, with
the same number of BLAS threads (`--threads`, 1). Ours is `facebench.score.score_files`, the judge
as `facebench score` calls it, reading included. Needs about 3 GB of disk and 8 GB of memory, which
the peers take.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import evaluator_peers as peers
import numpy as np

from facebench import files
from facebench.score import score_files

IJB = {"faces": 469_375, "gallery": 3_531, "probes": 19_593, "genuine": 19_557,
       "pairs": 15_658_489}  # fmt: skip
DIM = 512
WORKS = {
    "pairs": "ten folds, 6,000 pairs x 512 (LFW's size)",
    "ijb": "templates and 1:1, 469,375 x 512 and its flip, 23,124 templates, 15,658,489 pairs "
    "(IJB-C's size)",
    "search": "1:N open set, {p} probes, 1,000,000 gallery rows x 512",
    "distractors": "distractors, 3,530 probes of 80 people, 1,000,000 x 512 (MegaFace's size)",
}


def save(folder: Path, **arrays: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def stream(path: Path, rows: int, make: Callable[[int, int], np.ndarray]) -> None:
    """Writes (rows, DIM) float32 in blocks."""
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, DIM))
    for start in range(0, rows, 8192):
        stop = min(start + 8192, rows)
        out[start:stop] = make(start, stop)
    out.flush()


def make_pairs(folder: Path, shrink: int) -> None:
    rng, n = np.random.default_rng(0), 6000 // min(shrink, 10)
    same = np.tile(np.repeat([True, False], n // 20), 10)
    base, noise = rng.normal(size=(2, n, DIM))
    other = np.where(same[:, None], base + rng.uniform(1, 20, (n, 1)) * noise, noise)
    both = np.stack([base, other], axis=1).reshape(2 * n, DIM)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    save(folder / "p", embedding=both)
    save(folder / "t", same=same)


def make_ijb(folder: Path, shrink: int) -> None:
    rng = np.random.default_rng(1)
    n = {name: value // shrink for name, value in IJB.items()}
    gallery, templates = n["gallery"], n["gallery"] + n["probes"]
    # The person of each template: gallery templates are of different people.
    person = np.append(np.arange(gallery), rng.integers(0, gallery, n["probes"]))
    size = 1 + rng.multinomial(n["faces"] - templates, rng.dirichlet(np.full(templates, 0.3)))
    template = np.repeat(np.arange(templates), size)
    media = rng.integers(0, 6, len(template)) + 10 * template
    centre = rng.normal(size=(gallery, DIM)).astype(np.float32)

    def make(start: int, stop: int) -> np.ndarray:
        own = centre[person[template[start:stop]]]
        return 2.5 * own + 10 * rng.standard_normal((stop - start, DIM), np.float32)

    (folder / "p").mkdir(parents=True)
    for name in ("embedding", "embedding_flipped"):
        stream(folder / "p" / f"{name}.npy", len(template), make)
    save(folder / "p", detector_score=rng.uniform(0.5, 1, len(template)).astype(np.float32))
    name = rng.permutation(templates) + 1  # as IJB's numbers: no order
    genuine = gallery + rng.choice(n["probes"], n["genuine"], replace=True)
    first = np.append(person[genuine], rng.integers(0, gallery, n["pairs"] - n["genuine"]))
    second = np.append(genuine, gallery + rng.integers(0, n["probes"], len(first) - len(genuine)))
    save(
        folder / "t",
        template=name[template],
        media=media,
        pairs=np.stack([name[first], name[second]], axis=1),
        same=person[first] == person[second],
    )


def make_search(folder: Path, shrink: int, probes: int) -> None:
    rng, rows = np.random.default_rng(2), 1_000_000 // shrink
    centre = rng.standard_normal((probes, DIM), np.float32)

    def unit(array: np.ndarray) -> np.ndarray:
        return array / np.linalg.norm(array, axis=1, keepdims=True)

    def make(start: int, stop: int) -> np.ndarray:
        made = rng.standard_normal((stop - start, DIM), np.float32)
        mates = np.arange(start, min(stop, probes // 2))
        made[: len(mates)] = centre[mates] + 2 * made[: len(mates)]
        return unit(made)

    (folder / "p").mkdir(parents=True)
    stream(folder / "p" / "gallery.npy", rows, make)
    save(folder / "p", probe=unit(centre + 2 * rng.standard_normal((probes, DIM), np.float32)))
    held = np.arange(rows)
    held[probes // 2 :] += probes  # half of the probes have a mate
    save(folder / "t", probe_identity=np.arange(probes), gallery_identity=held)


def make_distractors(folder: Path, shrink: int) -> None:
    rng, rows, n = np.random.default_rng(3), 1_000_000 // shrink, max(3530 // shrink, 200)
    who = np.sort(rng.integers(0, max(80 // shrink, 8), n))
    centre = rng.standard_normal((who.max() + 1, DIM), np.float32)
    (folder / "p").mkdir(parents=True)
    stream(folder / "p" / "distractor.npy", rows,
           lambda a, b: rng.standard_normal((b - a, DIM), np.float32))  # fmt: skip
    probe = centre[who] + 1.8 * rng.standard_normal((n, DIM), np.float32)
    save(folder / "p", probe=probe)
    save(folder / "t", probe_identity=who)


def peak_mb() -> float:
    """The most memory that this process had; `ru_maxrss` would count the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(work: str, side: str, folder: Path) -> None:
    """One side of one work; prints what it took as JSON."""
    p, t = folder / "p", folder / "t"
    before, begun = resource.getrusage(resource.RUSAGE_SELF), peak_mb()
    start = time.perf_counter()
    if side == "ours":
        convention = {"pairs": "insightface-10fold", "ijb": "ijb-n1d1"}.get(work)
        result = score_files("recognition", p, t, convention)
    elif work == "pairs":
        result = peers.ten_folds(np.load(p / "embedding.npy"), np.load(t / "same.npy"))
    else:
        result = {"ijb": peers.ijb, "search": peers.search}[work](p, t)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        json.dumps(
            {
                "wall_s": wall,
                "cpu_s": cpu,
                "peak_mb": peak_mb(),
                "start_mb": begun,
                "numbers": {k: v for k, v in result.items() if not isinstance(v, list)},
            }
        )
    )


def measure(work: str, side: str, folder: Path, threads: int) -> dict:
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, __file__, f"--child={work}:{side}", f"--dir={folder}"],
        capture_output=True, text=True, check=True,
        env=os.environ | dict.fromkeys(names, str(threads)),
    )  # fmt: skip
    return json.loads(done.stdout)


def run(work: str, folder: Path, asked: argparse.Namespace) -> dict:
    shrink = 100 if asked.quick else 1
    {
        "pairs": lambda: make_pairs(folder, shrink),
        "ijb": lambda: make_ijb(folder, shrink),
        "search": lambda: make_search(folder, shrink, asked.probes),
        "distractors": lambda: make_distractors(folder, shrink),
    }[work]()
    row: dict = {"work": WORKS[work].format(p=asked.probes), "load": os.getloadavg()[0]}
    row["ours"] = measure(work, "ours", folder, asked.threads)
    if work != "distractors":
        row["peer"] = measure(work, "peer", folder, asked.threads)
        row["off"] = max(
            abs(value - row["ours"]["numbers"][name])
            for name, value in row["peer"]["numbers"].items()
        )
    return row


def table(rows: dict[str, dict], threads: int) -> str:
    lines = [
        "# Evaluators: ours and the field's",
        "",
        f"`python benchmarks/evaluators.py`, {threads} BLAS thread(s) each, NumPy "
        f"{np.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores shared with "
        "other work: of the two times that of the CPU is the one to compare. Memory is the peak of "
        "the process, interpreter included. `off` is the largest difference of a number.",
        "",
        "| work | ours, CPU s | peer, CPU s | times faster (CPU) | (wall) | ours, MB | peer, MB "
        "| of the memory | off | load |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        ours, peer = row["ours"], row.get("peer")
        cells = [row["work"], f"{ours['cpu_s']:.2f}"]
        if peer:
            cells += [
                f"{peer['cpu_s']:.2f}",
                f"{peer['cpu_s'] / ours['cpu_s']:.1f}",
                f"{peer['wall_s'] / ours['wall_s']:.1f}",
                f"{ours['peak_mb']:.0f}",
                f"{peer['peak_mb']:.0f}",
                f"{ours['peak_mb'] / peer['peak_mb']:.2f}",
                f"{row['off']:.1e}",
            ]
        else:
            cells += ["", "", "", f"{ours['peak_mb']:.0f}", "", "", ""]
        lines.append("| " + " | ".join([*cells, f"{row['load']:.1f}"]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--out", type=Path, help="FILE.md; FILE.json is written beside it")
    flags.add_argument("--only", default=",".join(WORKS))
    flags.add_argument("--quick", action="store_true")
    flags.add_argument("--threads", type=int, default=1)
    flags.add_argument("--probes", type=int, default=200, help="of the 1:N search")
    flags.add_argument("--dir", type=Path, help="where to put the generated files for the while")
    flags.add_argument("--child", help=argparse.SUPPRESS)
    asked = flags.parse_args()
    if asked.child:
        child(*asked.child.split(":"), asked.dir)
        return
    rows = {}
    if asked.out and asked.out.with_suffix(".json").is_file():
        rows = json.loads(asked.out.with_suffix(".json").read_text())["rows"]
    for work in asked.only.split(","):
        with tempfile.TemporaryDirectory(prefix="evaluators-", dir=asked.dir) as folder:
            rows[work] = run(work, Path(folder) / work, asked)
        print(json.dumps(rows[work]), flush=True)
        rows = {name: rows[name] for name in WORKS if name in rows}
        text = table(rows, asked.threads)
        if asked.out and not asked.quick:
            files.write_text(asked.out, text)
            saved = {"threads": asked.threads, "numpy": np.__version__, "rows": rows}
            files.write_text(asked.out.with_suffix(".json"), json.dumps(saved, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
