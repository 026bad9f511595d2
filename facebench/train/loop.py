"""The loop: one function for every task, read from top to bottom.

It brings no task, model or dataset of its own. It is given a module and a task (what to compute),
batches as a function of the step (what to compute it on), a partition (where), and a plan (how
long, and how often to log and save). The order of operations is fixed; see `fit`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from facebench.errors import FacebenchError
from facebench.train import state as state_lib
from facebench.train.checkpoint import Checkpointer
from facebench.train.log import Log
from facebench.train.partition import Partition
from facebench.train.step import Task, make_predict_step, make_train_step

Batches = Callable[[int], Iterator[Mapping[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long a run is, and how often it speaks and saves.

    Attributes:
        steps: updates to make.
        batch_size: examples per update, over all devices and accumulated parts.
        accumulate: parts that a batch is cut into.
        ema: decay of the averaged weights; 0 for none.
        log_every: steps between two lines of metrics.
        checkpoint_every: steps between two checkpoints; the last step is always saved.
        tensorboard: whether to write event files.
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    ema: float = 0.0
    log_every: int = 50
    checkpoint_every: int = 500
    tensorboard: bool = False


class Diverged(Exception):  # noqa: N818 (an outcome of a run, not a fault of the program)
    """The loss became NaN or infinite; the run has an outcome, and it is this one."""

    def __init__(self, step: int, value: float):
        super().__init__(f"the loss is {value} at step {step}")
        self.step = step


class Interrupted(Exception):  # noqa: N818
    """The process was asked to stop; the state is saved and the run can go on."""

    def __init__(self, step: int, name: str):
        super().__init__(f"stopped by {name} at step {step}; the same command goes on from there")
        self.step = step
        self.exit_code = 128 + signal.Signals[name]


@dataclasses.dataclass
class Fitted:
    """What a run leaves: the last state on the devices, and where its time went."""

    state: state_lib.State
    train_s: float  # wall seconds of the steps, without the first one's compilation
    compile_s: float  # wall seconds until the first step was done
    wait_s: float  # of train_s, waiting for data


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], str | None]]:
    """Notes SIGTERM and SIGINT instead of dying of them; gives a function that names the signal."""
    noted: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {}
    for number in (signal.SIGTERM, signal.SIGINT):

        def note(received: int, _: Any) -> None:
            if noted and received == signal.SIGINT:
                raise KeyboardInterrupt  # asked twice
            noted.append(signal.Signals(received).name)

        before[number] = signal.signal(number, note)
    try:
        yield lambda: noted[0] if noted else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Programs:
    """What to compute, compiled; runs that differ in seed and data alone can share it.

    Args:
        module: takes ``(image, train=...)`` and returns a dict.
        task: its loss and what follows a step.
        optimizer: an optax transformation.
        plan: how long, how often.
        partition: where.
        image_shape: (H, W, 3) of a batch's images.

    Attributes:
        plan: as given.
        partition: as given.
        create: ``create(key, given=None)``, the state at step 0, uncompiled; variables that are
            `given` stand in the place of drawn ones, see `facebench.train.state.create`.
        init: the same, compiled.
        train_step: ``train_step(state, batch, key) -> (state, metrics)``, compiled; the old state
            is given up.
        predict_step: ``predict_step(variables, batch) -> predictions``, compiled.

    Raises:
        UsageError: the batch size does not divide over the devices.
    """

    def __init__(
        self,
        module: nn.Module,
        task: Task,
        optimizer: optax.GradientTransformation,
        plan: Plan,
        partition: Partition,
        image_shape: tuple[int, int, int],
    ):
        partition.check_batch(plan.batch_size, plan.accumulate, "config.data.batch_size")

        def create(key: jax.Array, given: Any = None) -> state_lib.State:
            image = jnp.zeros((2, *image_shape), jnp.float32)
            return state_lib.create(module, optimizer, image, key, ema=plan.ema > 0, given=given)

        self.plan, self.partition = plan, partition
        self.create = create
        self.init = partition.init(create, jax.random.key(0))
        self.train_step = partition.train_step(
            make_train_step(
                module,
                task,
                optimizer,
                accumulate=plan.accumulate,
                ema=plan.ema,
                axis_name=partition.axis_name,
            )
        )
        self.predict_step = partition.predict_step(make_predict_step(module, task))


def fit(
    programs: Programs,
    *,
    batches: Batches,
    seed: int,
    workdir: Path,
    title: str = "",
    given: Mapping[str, Any] | None = None,
    look: Callable[[int, state_lib.State], None] | None = None,
    look_at: Collection[int] = (),
) -> Fitted:
    """Trains from the latest checkpoint in `workdir`, or from the start, to the plan's last step.

    The order of operations, which is not to be changed: restore or initialise; then, for each
    step, take its batch, update, log (one interval late, so that fetching never stalls the
    device), show the state to whoever asked for this step, save, and look for a stop signal. A
    batch is a function of (seed, step) and so is all randomness: a run that was killed and started
    again ends in the same bits.

    Args:
        programs: what to compute, where, and how long.
        batches: ``batches(step)`` iterates over this process's host batches from that step on.
        seed: of parameters, dropout and everything else drawn here.
        workdir: gets ``checkpoints/`` and ``metrics.jsonl``.
        title: stands before every progress line.
        given: variables that the first step begins with instead of drawn ones; what a checkpoint
            holds has begun with them already.
        look: called as ``look(step, state)``; it changes nothing.
        look_at: at which steps. After a kill those since the last checkpoint come again.

    Raises:
        Diverged: the loss is not finite.
        Interrupted: SIGTERM or SIGINT; the state was saved.
        FacebenchError: a checkpoint of another model, a full disk.
    """
    plan, partition = programs.plan, programs.partition
    key = jax.random.key(seed)

    # -- restore or initialise ---------------------------------------------------------------
    shapes = jax.eval_shape(programs.create, key)
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        partition.state_shardings(shapes),
    )
    checkpoints = Checkpointer(workdir / "checkpoints", abstract)
    start = checkpoints.latest() or 0
    if start > plan.steps:
        raise FacebenchError(
            f"{workdir}: has a checkpoint of step {start}, beyond the {plan.steps} steps asked "
            "for; remove its folder checkpoints/ to start again"
        )
    state = checkpoints.restore(start) if start else programs.init(key, given)
    if start == plan.steps:
        checkpoints.close()
        return Fitted(state, 0.0, 0.0, 0.0)

    log = Log(
        workdir,
        start=start,
        steps=plan.steps,
        images=plan.batch_size,
        title=title,
        tensorboard=plan.tensorboard,
    )
    pending: tuple[int, Mapping[str, jax.Array]] | None = None

    def flush() -> None:
        nonlocal pending
        if pending is not None:
            step, metrics = pending
            pending = None
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            log.write(step, values)
            if not math.isfinite(values["loss"]):
                raise Diverged(step, values["loss"])

    # -- the loop ------------------------------------------------------------------------------
    begun = ready = time.monotonic()
    waited = 0.0
    data = batches(start)
    try:
        with stop_signals() as stopped:
            for step in range(start + 1, plan.steps + 1):
                # 1. the batch of this step
                asked = time.monotonic()
                batch = partition.put_batch(next(data))
                waited += time.monotonic() - asked
                # 2. the update
                state, metrics = programs.train_step(state, batch, key)
                if step == start + 1:
                    jax.block_until_ready(metrics)
                    ready, waited = time.monotonic(), 0.0
                    log.restart_clock()
                # 3. the log of one interval ago
                if step % plan.log_every == 0 or step == plan.steps:
                    flush()
                    pending = (step, metrics)
                # 4. a look at a finite state; before the checkpoint, after which it is passed
                if look is not None and step in look_at:
                    flush()
                    _require_finite(step, metrics)
                    look(step, state)
                # 5. the checkpoint, of a finite state only
                last = step == plan.steps
                stop = stopped()
                if last or stop or step % plan.checkpoint_every == 0:
                    flush()
                    _require_finite(step, metrics)
                    checkpoints.save(step, state)
                # 6. the stop signal
                if stop and not last:
                    checkpoints.wait()
                    raise Interrupted(step, stop)
    finally:
        _close(data)
        log.close()
        checkpoints.close()
    jax.block_until_ready(state)
    return Fitted(state, time.monotonic() - ready, ready - begun, waited)


def _require_finite(step: int, metrics: Mapping[str, jax.Array]) -> None:
    value = float(jax.device_get(metrics["loss"]))
    if not math.isfinite(value):
        raise Diverged(step, value)


def _close(data: Any) -> None:
    if hasattr(data, "close"):
        data.close()


def predict(
    programs: Programs, variables: Any, batches: Iterator[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Predicts a whole split, in order, the last partial batch included.

    Args:
        programs: what predicts, and where.
        variables: what the module predicts with.
        batches: batches with ``mask``; padded rows are dropped here.

    Returns:
        name -> [n, ...] arrays, rows in the order of the split.
    """
    rows: dict[str, list[np.ndarray]] = {}
    try:
        for batch in batches:
            outputs = programs.predict_step(variables, programs.partition.put_batch(batch))
            kept = np.asarray(batch["mask"]) > 0
            for name, value in jax.device_get(outputs).items():
                rows.setdefault(name, []).append(np.asarray(value)[kept])
    finally:
        _close(batches)
    return {name: np.concatenate(parts) for name, parts in rows.items()}
