"""How fast a training step of an iResNet with ArcFace is, against PyTorch on the same work.

    python benchmarks/recognition_step.py [--variant=50] [--batch=8] [--classes=1000] [--rounds=5]
        [--steps=1] [--dtype=float32] [--peer-python=PYTHON] [--out=FILE.json]

One step is: the net, cosines with the class centres, the margin, the loss, all gradients, an update
by SGD with momentum and weight decay. Both sides get batches that are already on the device. The
peer is a PyTorch net with the same layers, written here, in the interpreter that --peer-python
names (by default this one); it is left out where PyTorch cannot be imported. It runs as it is,
channels-last, and compiled, and is compared at its fastest.

Each side is a process of its own that stays alive and waits while another is timed; the sides
take turns, so that what else the machine does falls on all of them. Ratios above 1 say that ours
is faster. Times alone are of this machine on this day.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDES = ("facebench", "torch", "torch channels-last", "torch compiled")
MARGIN, SCALE, LR, MOMENTUM, DECAY = 0.5, 64.0, 0.1, 0.9, 5e-4


def ours(flags: argparse.Namespace) -> tuple[Callable[[int], None], dict[str, Any]]:
    """(run so many steps, facts) of this suite's step."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    from facebench import models
    from facebench.losses import margin
    from facebench.tasks.recognition import CosineClassifier, normalise
    from facebench.train import state, step

    class Net(nn.Module):
        @nn.compact
        def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
            fields = {"variant": flags.variant, "dtype": jnp.dtype(flags.dtype)}
            e = models.build("iresnet", fields)(image, train=train)["embedding"]
            return {"cosine": CosineClassifier(flags.classes)(normalise(e))}

    class Task:
        def loss(self, outputs: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
            logits = margin.margin_logits(
                outputs["cosine"], batch["label"], margin="arcface", m=MARGIN, s=SCALE
            )
            return margin.cross_entropy(logits, batch["label"]), {}

        def after_step(self, state: Any) -> Any:
            return state

    optimizer = optax.chain(
        optax.add_decayed_weights(DECAY), optax.trace(MOMENTUM), optax.scale_by_learning_rate(LR)
    )
    net, key = Net(), jax.random.key(0)
    batch = {
        "image": jax.random.randint(key, (flags.batch, flags.size, flags.size, 3), 0, 256).astype(
            jnp.uint8
        ),
        "label": jax.random.randint(key, (flags.batch,), 0, flags.classes),
        "mask": jnp.ones(flags.batch),
    }
    shape = jnp.zeros((2, flags.size, flags.size, 3))
    now = jax.jit(lambda k: state.create(net, optimizer, shape, k))(key)
    train = jax.jit(step.make_train_step(net, Task(), optimizer), donate_argnums=0)  # type: ignore[arg-type]
    facts = {
        "version": f"jax {jax.__version__}",
        "device": jax.devices()[0].device_kind,
        # The fixed scale of the embedding's norm is a parameter in PyTorch's count.
        "parameters": models.parameter_count(now.params) + 512,
    }

    def run(steps: int) -> None:
        nonlocal now
        for _ in range(steps):
            now, metrics = train(now, batch, key)
        metrics["loss"].block_until_ready()

    return run, facts


def peer(flags: argparse.Namespace) -> tuple[Callable[[int], None], dict[str, Any]]:
    """(run so many steps, facts) of the same step in PyTorch."""
    import contextlib

    import torch
    import torch.nn.functional as fn
    from torch import nn

    blocks = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 14, 3), "100": (3, 13, 30, 3)}
    device = "cuda" if torch.cuda.is_available() else "cpu"

    class Block(nn.Module):
        def __init__(self, before: int, width: int, stride: int) -> None:
            super().__init__()
            self.path = nn.Sequential(
                nn.BatchNorm2d(before),
                nn.Conv2d(before, width, 3, 1, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.PReLU(width),
                nn.Conv2d(width, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
            )
            self.shortcut = nn.Identity()
            if stride > 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
                )

        def forward(self, x: Any) -> Any:
            return self.path(x) + self.shortcut(x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)]
            before = 64
            for stage, count in enumerate(blocks[flags.variant]):
                width = 64 * 2**stage
                for i in range(count):
                    parts.append(Block(before, width, 1 if i else 2))
                    before = width
            side = -(-flags.size // 16)
            self.body = nn.Sequential(*parts, nn.BatchNorm2d(512), nn.Flatten())
            self.fc = nn.Linear(512 * side * side, 512)
            self.norm = nn.BatchNorm1d(512)
            self.norm.weight.requires_grad = False
            self.centres = nn.Parameter(0.01 * torch.randn(flags.classes, 512))

        def forward(self, image: Any, label: Any) -> Any:
            half = flags.dtype != "float32"
            mixed = (
                torch.autocast(device, getattr(torch, flags.dtype))
                if half
                else contextlib.nullcontext()
            )
            with mixed:
                x = self.body(image.float() / 127.5 - 1)
            e = self.norm(self.fc(x.float()))
            cosine = fn.normalize(e) @ fn.normalize(self.centres).T
            angle = torch.acos(cosine.clamp(-1 + 1e-7, 1 - 1e-7))
            target = fn.one_hot(label, flags.classes).bool()
            logits = SCALE * torch.where(target, torch.cos(angle + MARGIN), cosine)
            return fn.cross_entropy(logits, label)

    torch.manual_seed(0)
    net = Net().to(device).train()
    image = torch.randint(0, 256, (flags.batch, 3, flags.size, flags.size), dtype=torch.uint8)
    image, label = image.to(device), torch.randint(0, flags.classes, (flags.batch,)).to(device)
    if flags.side != "torch":
        net = net.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
    count = sum(p.numel() for p in net.parameters())
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, LR, momentum=MOMENTUM, weight_decay=DECAY)
    forward = torch.compile(net) if flags.side == "torch compiled" else net

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            forward(image, label).backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return run, {"version": f"torch {torch.__version__}", "device": name, "parameters": count}


def work(flags: argparse.Namespace) -> None:
    """A side's process: warms up, then times what it is asked for, line by line."""
    run, facts = (ours if flags.side == "facebench" else peer)(flags)
    run(2)
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        run(int(line))
        print(time.perf_counter() - start, time.process_time() - cpu, flush=True)


class Side:
    """A side's process, seen from the one that compares."""

    def __init__(self, name: str, flags: argparse.Namespace) -> None:
        python = sys.executable if name == "facebench" else flags.peer_python
        words = [
            f"--{k}={getattr(flags, k)}" for k in ("variant", "batch", "classes", "size", "dtype")
        ]
        self.process = subprocess.Popen(
            [python, __file__, f"--side={name}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.name, self.seconds, self.cpu = name, list[float](), list[float]()
        self.facts: dict[str, Any] | None = None
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if line:
            self.facts = json.loads(line)
        else:
            words = self.process.stderr.read().strip().splitlines()  # type: ignore[union-attr]
            print(f"{name}: left out: {words[-1] if words else 'it ended'}", flush=True)

    def time(self, steps: int) -> None:
        """Has the side make steps, and keeps how long one took."""
        self.process.stdin.write(f"{steps}\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        wall, cpu = self.process.stdout.readline().split()  # type: ignore[union-attr]
        self.seconds.append(float(wall) / steps)
        self.cpu.append(float(cpu) / steps)

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()


def median(values: list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="50", choices=("18", "34", "50", "100"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="per round and side")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.side:
        work(flags)
        return
    sides = [side for side in (Side(name, flags) for name in SIDES) if side.facts]
    for _ in range(flags.rounds):
        for side in sides:
            side.time(flags.steps)
    for side in sides:
        side.close()
    rows = {
        side.name: {
            **(side.facts or {}),
            "seconds": side.seconds,
            "cpu_seconds": side.cpu,
            "images_per_second": flags.batch / median(side.seconds),
        }
        for side in sides
    }
    for name, row in rows.items():
        print(
            f"{name:20} {row['images_per_second']:8.2f} images/s, "
            f"{median(row['cpu_seconds']):7.2f} s of CPU a step, {row['parameters']:,} numbers"
        )
    peers = [side for side in sides if side.name != "facebench"]
    result: dict[str, Any] = {
        "work": {
            k: getattr(flags, k) for k in ("variant", "batch", "size", "classes", "dtype", "steps")
        },
        "sides": rows,
    }
    if peers and sides[0].name == "facebench":
        if len({row["parameters"] for row in rows.values()}) > 1:
            raise SystemExit("the sides have nets of different sizes: no comparison")
        best = min(peers, key=lambda side: median(side.seconds))
        ratios = sorted(p / o for p, o in zip(best.seconds, sides[0].seconds))
        result["ratio"] = {"to": best.name, "median": median(ratios), "all": ratios}
        print(
            f"ours against {best.name}: {median(ratios):.2f} x images/s "
            f"(rounds {ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    if flags.out:
        flags.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
