"""Checkpoints through Orbax: the state alone, since a batch is a function of (seed, step)."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from facebench import digest, files
from facebench.errors import FacebenchError
from facebench.train import partition

STEPS = "steps"  # a folder below a run's checkpoints


def layout(state: Any) -> dict[str, str]:
    """Every array's name, shape and type: what makes a checkpoint fit a model."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {partition.leaf_name(path): f"{tuple(x.shape)} {x.dtype}" for path, x in leaves}


@contextlib.contextmanager
def _explained(folder: Path, doing: str) -> Iterator[None]:
    """Turns what Orbax raises into one line that says the remedy."""
    try:
        yield
    except FacebenchError:
        raise
    except Exception as error:
        text = str(error)
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or "No space left" in text or "RESOURCE_EXHAUSTED" in text:
            raise FacebenchError(
                f"{folder}: {doing} failed: the disk is full; free some space and run the same "
                "command again: it goes on from the last whole checkpoint"
            ) from error
        raise FacebenchError(
            f"{folder}: {doing} failed: {text.splitlines()[0] if text else error!r}; "
            "if the files are damaged, remove that step's folder and run again"
        ) from error


class Checkpointer:
    """Saves a run's state and brings back the latest.

    Args:
        folder: this run's checkpoints.
        abstract: the state as shapes with shardings (``jax.ShapeDtypeStruct``).
        keep: how many to keep; older ones are removed once a newer one stands.

    Raises:
        FacebenchError: the folder holds checkpoints of another model.
    """

    def __init__(self, folder: Path, abstract: Any, keep: int = 2) -> None:
        self.folder = folder
        self._abstract = abstract
        self._size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract))
        _quiet()
        found, mine = folder / "layout.json", layout(abstract)
        if found.exists():
            self._compare(files.read_json(found), mine)
        else:
            files.write_json(found, mine)
        with _explained(self.folder, "opening checkpoints"):
            self._manager = ocp.CheckpointManager(
                folder.resolve() / STEPS,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep, create=True, enable_async_checkpointing=True
                ),
            )

    def _compare(self, theirs: dict[str, str], mine: dict[str, str]) -> None:
        if theirs == mine:
            return
        for name in sorted(theirs.keys() | mine.keys()):
            have, want = theirs.get(name, "nothing"), mine.get(name, "nothing")
            if have != want:
                raise FacebenchError(
                    f"{self.folder}: these are checkpoints of another model: {name} is {have} "
                    f"there and {want} in this model; remove the folder, or give the run another "
                    "config.entry"
                )

    def latest(self) -> int | None:
        """The step of the latest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts to save; returns once the arrays are copied from the devices."""
        doing = f"saving step {step}"
        with _explained(self.folder, doing):
            if self._manager.latest_step() != step:
                # Asked before, since writes that fail half-way end in tracebacks of other threads.
                files.require_room(self.folder, self._size, doing)
                self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, step: int) -> Any:
        """Reads a step's state onto the devices that the abstract state names."""
        with _explained(self.folder, f"restoring step {step}"):
            return self._manager.restore(step, args=ocp.args.StandardRestore(self._abstract))

    def wait(self) -> None:
        """Waits until what was saved stands on disk."""
        with _explained(self.folder, "saving"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self.wait()
        self._manager.close()


def read(folder: Path) -> tuple[int, dict[str, Any]]:
    """The latest checkpoint as NumPy arrays, whatever devices it was saved from.

    Args:
        folder: a run's checkpoints.

    Returns:
        Its step, and the state as nested dicts (and lists, in the optimiser's part).

    Raises:
        FacebenchError: there is none, or it is damaged.
    """
    _quiet()
    steps = folder / STEPS
    saved = [int(p.name) for p in steps.iterdir() if p.name.isdigit()] if steps.is_dir() else []
    if not saved:
        raise FacebenchError(f"{folder}: no checkpoint is left there; run the trial again")
    step = max(saved)
    with _explained(folder, f"reading step {step}"):
        item = (steps / str(step) / "default").resolve()
        with ocp.PyTreeCheckpointer() as reader:
            tree = reader.metadata(item).item_metadata.tree
            whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            return step, reader.restore(item, restore_args=whole)


def _quiet() -> None:
    logging.set_verbosity(logging.FATAL)  # Orbax tells of every step; what fails is raised


def params_digest(tree: Any) -> str:
    """The digest of a tree of arrays by name, shape and value."""
    leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))[0]
    return digest.of_arrays({partition.leaf_name(path): leaf for path, leaf in leaves})
