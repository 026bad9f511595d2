"""What a run says while it runs: a live line, ``metrics.jsonl``, TensorBoard files."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from facebench import files


def duration(seconds: float) -> str:
    """Seconds as people read them: ``42s``, ``3m05s``, ``2h10m``."""
    seconds = max(int(seconds + 0.5), 0)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def truncate(path: Path, step: int) -> None:
    """Cuts a ``metrics.jsonl`` back to the lines up to `step`, so that a resumed run follows on.

    A last line that a killed run left half written is dropped too.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    files.write_text(path, "".join(line + "\n" for line in kept))


class Log:
    """Writes the metrics of one run.

    Args:
        folder: gets ``metrics.jsonl`` and, if asked for, ``tensorboard/``.
        start: the step the run goes on from; later lines of an earlier try are dropped.
        steps: the step at which the run ends.
        images: images per step, for the rate.
        title: stands before every progress line.
        tensorboard: whether to write event files.
        stream: where progress goes; a live line on a terminal, plain lines otherwise.
    """

    def __init__(
        self,
        folder: Path,
        *,
        start: int,
        steps: int,
        images: int,
        title: str = "",
        tensorboard: bool = True,
        stream: IO[str] | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._start, self._steps, self._images, self._title = start, steps, images, title
        self._begun = self._last_line = time.monotonic()
        self._open_line = False
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        truncate(self._path, start)
        with files.explained(self._path, "writing"):
            # Unbuffered: a line is in the file or has failed, and closing writes nothing.
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 (closed in close)
        self._board: Any = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start or None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one line of metrics and shows the progress.

        Raises:
            FacebenchError: the disk is full.
        """
        line = {"step": step, **{name: float(value) for name, value in values.items()}}
        files.require_room(self._path.parent, 0, "writing metrics")
        with files.explained(self._path, "writing"):
            self._file.write(json.dumps(line).encode() + b"\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, float(value), step)
        self._show(step, values)

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        if not self._live and now - self._last_line < 5 and step < self._steps:
            return
        self._last_line = now
        rate = (step - self._start) / max(now - self._begun, 1e-9)
        text = (
            f"{self._title}step {step}/{self._steps}  loss {values.get('loss', float('nan')):.4f}  "
            f"{rate:.1f} steps/s  {rate * self._images:.0f} images/s  "
            f"ETA {duration((self._steps - step) / max(rate, 1e-9))}"
        )
        if self._live:
            self._stream.write("\r\x1b[2K" + text)
            self._open_line = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def restart_clock(self) -> None:
        """Starts the rate anew (after the first step, whose time is compilation)."""
        self._begun = time.monotonic()

    def close(self) -> None:
        """Ends the live line and closes the files."""
        if self._open_line:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._open_line = False
        self._file.close()
        if self._board is not None:
            self._board.close()
