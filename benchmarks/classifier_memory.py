"""Do ten million identities fit: memory and traffic of a training step, by its compiled program.

    python benchmarks/classifier_memory.py --out=benchmarks/classifier_memory.md    the whole table
    python benchmarks/classifier_memory.py --classes=1000000 --devices=8 --rates=1  one line of it
    python benchmarks/classifier_memory.py --model=vit --batch=512                  another backbone

Compiles the suite's own training step (backbone, embedding, CosFace over all classes or a drawn
share, SGD with momentum and decay) for virtual CPU devices, from shapes alone: nothing of that size
is ever allocated. Prints what XLA says of each device's memory, sums what its collectives move, and
fails if one of them moves anything as large as a device's part of the centres. Writes Markdown to
``--out`` and the same numbers as JSON beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # Before JAX starts.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from facebench import config, files, models
from facebench.losses import partial_fc, sharded
from facebench.train import optim, partition, state, step

MOVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8}


class Net(nn.Module):
    """A backbone, an embedding layer and the centres."""

    backbone: nn.Module
    classes: int
    dim: int
    rate: float

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """What the loss needs."""
        x = models.features(self.backbone(image, train=train), "pooled")
        outputs = {"embedding": nn.Dense(self.dim, use_bias=False, name="embedding")(x)}
        return outputs | partial_fc.Centres(self.classes, self.rate, name="classifier")(self.dim)


class CosFace:
    """The loss of `Net`."""

    def __init__(self, net: Net, block: int | None):
        self.net, self.block = net, block

    def loss(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Per example, with the accuracy."""
        found = partial_fc.softmax(
            outputs, batch["label"], lambda own: own - 0.35, s=64.0, block=self.block,
            classes=self.net.classes, rate=self.net.rate,
        )  # fmt: skip
        return found.loss, {"accuracy": (found.own > found.rival).astype(jnp.float32)}

    def after_step(self, value: Any) -> Any:
        """Nothing more."""
        return value


def collectives(text: str) -> list[tuple[str, int]]:
    """The collectives of a compiled program: (operation, bytes of its result on one device).

    Every one stands outside of loops here, so it runs once a step.
    """
    found = []
    for line in text.splitlines():
        moved = re.search(rf"= (.*?) ({'|'.join(MOVES)})(?:-start)?\(", line)
        if moved:
            shapes = re.findall(r"(\w+)\[([\d,]*)\]", moved[1])
            sizes = [BYTES[kind] * _product(numbers) for kind, numbers in shapes if kind in BYTES]
            found.append((moved[2], sum(sizes)))
    return found


def _product(numbers: str) -> int:
    result = 1
    for number in filter(None, numbers.split(",")):
        result *= int(number)
    return result


def measure(
    *,
    classes: int,
    devices: int,
    rate: float = 1.0,
    batch: int = 1024,
    dim: int = 512,
    size: int = 112,
    model: str = "convnet",
    block: int | None = None,
) -> dict[str, Any]:
    """Compiles initialisation and step on the first `devices` devices.

    Returns:
        sizes in bytes on one device: ``arguments``, ``outputs`` (all but the metrics overlay the
        arguments: ``overlaid``), ``temporary``, ``peak`` (arguments + outputs - overlaid +
        temporary), ``centres`` (its part of the kernel), ``moved`` (sum over collectives),
        ``largest_move``, ``initialising`` (outputs + temporary); and ``drawn``, the columns that
        take part in a step on it.
    """
    mesh = partition.make_mesh({"data": -1, "fsdp": 1, "model": 1}, jax.devices()[:devices])
    place = partition.Partition(mesh)
    net = Net(models.build(model), classes, dim, rate)
    recipe = config.base().optim.to_dict()
    recipe |= {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    optimizer = optim.make(recipe, 1000)

    def create(key: jax.Array) -> state.State:
        return state.create(net, optimizer, jnp.zeros((2, size, size, 3)), key)

    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(create, key)
    abstract = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        shapes,
        place.state_shardings(shapes),
    )
    rows = NamedSharding(mesh, P(("data", "fsdp")))
    arrays = {
        "image": ((batch, size, size, 3), jnp.uint8),
        "mask": ((batch,), jnp.float32),
        "label": ((batch,), jnp.int32),
    }
    given = {n: jax.ShapeDtypeStruct(s, t, sharding=rows) for n, (s, t) in arrays.items()}
    train = place.train_step(step.make_train_step(net, CosFace(net, block), optimizer))
    compiled = train.lower(abstract, given, key).compile()
    memory, moves = compiled.memory_analysis(), collectives(compiled.as_text())
    started = place.init(create, key).lower(key).compile().memory_analysis()

    width = sharded.columns(classes, 8 if rate < 1 else 1)
    drawn = width // devices
    if rate < 1:
        each = width // 8
        drawn = 8 // devices * min(each, max(int(rate * each), batch))
    return {
        "classes": classes,
        "columns": width,
        "devices": devices,
        "rate": rate,
        "batch": batch,
        "dim": dim,
        "block": block,
        "drawn": drawn,
        "centres": 4 * dim * width // devices,
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "overlaid": memory.alias_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "peak": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        "moved": sum(bytes_ for _, bytes_ in moves),
        "largest_move": max((bytes_ for _, bytes_ in moves), default=0),
        "initialising": started.output_size_in_bytes + started.temp_size_in_bytes,
    }


def gigabytes(value: int) -> str:
    return f"{value / 1e9:.2f}"


def megabytes(value: int) -> str:
    return f"{value / 1e6:.1f}"


COLUMNS = (
    ("classes", "classes", str),
    ("devices", "devices", str),
    ("rate", "rate", str),
    ("cosines at a time", "block", lambda value: "blocks" if value is None else "all"),
    ("classes in a step", "drawn", str),
    ("arguments", "arguments", gigabytes),
    ("temporary", "temporary", gigabytes),
    ("peak", "peak", gigabytes),
    ("starting", "initialising", gigabytes),
    ("moved (MB)", "moved", megabytes),
    ("largest (MB)", "largest_move", megabytes),
)


def table(rows: list[dict[str, Any]]) -> str:
    cells = [[say(row[name]) for _, name, say in COLUMNS] for row in rows]
    heads = [head for head, _, _ in COLUMNS]
    widths = [max(map(len, column)) for column in zip(heads, *cells)]

    def line(row: list[str]) -> str:
        return "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths)) + " |"

    return "\n".join([line(heads), "|" + "|".join("-" * (w + 1) + ":" for w in widths) + "|"]
                     + [line(row) for row in cells])  # fmt: skip


def main(words: list[str]) -> int:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--classes", type=int, default=10_000_000)
    flags.add_argument("--devices", default="1,2,4,8")
    flags.add_argument("--rates", default="1,0.1")
    flags.add_argument("--batch", type=int, default=1024)
    flags.add_argument("--dim", type=int, default=512)
    flags.add_argument("--size", type=int, default=112, help="side of the images")
    flags.add_argument("--model", default="convnet", help="a backbone's name")
    flags.add_argument("--out", type=Path, default=Path("runs/classifier_memory.md"))
    asked = flags.parse_args(words)
    fixed = {"batch": asked.batch, "dim": asked.dim, "size": asked.size, "model": asked.model}
    counts = [int(n) for n in asked.devices.split(",")]
    rates = [float(r) for r in asked.rates.split(",")]
    runs: list[dict[str, Any]] = [{"classes": 1024, "devices": max(counts)}]
    runs += [
        {"classes": asked.classes, "devices": n, "rate": rate} for rate in rates for n in counts
    ]
    runs += [
        {"classes": asked.classes, "devices": max(counts), "rate": rate, "block": asked.classes}
        for rate in rates
    ]
    rows = []
    for run in runs:
        rows.append(measure(**run, **fixed))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    bad = [r for r in rows[1:] if r["devices"] > 1 and r["largest_move"] >= r["centres"]]
    command = shlex.join(["python", "benchmarks/classifier_memory.py", *words])
    facts = (
        f"`{command}`: compiled on {platform.machine()}, jax {jax.__version__}, XLA for virtual "
        f"CPU devices; backbone {asked.model} at {asked.size} px, embeddings of {asked.dim}, a "
        f"global batch of {asked.batch}, float32, SGD with momentum. Sizes in GB (1e9 bytes) on "
        "one device; its arguments are its centres, their momentum, the rest of the network and "
        "its part of the batch. Peak: arguments, outputs that do not overlay them, and temporary. "
        "Starting: initialisation. Moved: results of all collectives of a step. First line: the "
        "same step with hardly a classifier. Cosines at a time: `all` holds [batch, classes in a "
        "step] arrays, `blocks` is what the suite does."
    )
    text = f"# Memory of a classifier of {asked.classes:,} identities\n\n{facts}\n\n{table(rows)}\n"
    print(text)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(asked.out, text)
    value = {"command": command, "jax": jax.__version__, "rows": rows}
    files.write_text(asked.out.with_suffix(".json"), json.dumps(value, indent=1) + "\n")
    if bad:
        print(f"a collective moves as much as a device's centres: {bad}", file=sys.stderr)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
