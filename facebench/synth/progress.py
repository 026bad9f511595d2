"""How far a long job is: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import IO


def duration(seconds: float) -> str:
    """Seconds as people read them: ``42s``, ``3m05s``, ``2h10m``."""
    seconds = max(int(seconds + 0.5), 0)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


class Progress:
    """Shows done and total, the rate and the time that is left.

    Args:
        title: stands before every line.
        total: how many there are to do.
        unit: what they are.
        stream: where the lines go; standard error when left out.
        quiet: seconds before the first line; a job that is over by then says nothing.
        every: seconds between plain lines.
        clock: tells the time, seconds.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "images",
        stream: IO[str] | None = None,
        quiet: float = 2.0,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._quiet, self._every, self._clock = quiet, every, clock
        self._begun = clock()
        self._last = self._begun + quiet - every
        self._done = self._made = 0
        self._said = False

    def step(self, n: int, fresh: bool = True) -> None:
        """Counts `n` more; not `fresh` were there already and count for no rate."""
        self._done += n
        self._made += n if fresh else 0
        now = self._clock()
        wait = 0.2 if self._live else self._every
        if now - self._begun >= self._quiet and now - self._last >= wait:
            self._last = now
            self._show(now)

    def close(self) -> None:
        """Ends the line, with the whole count, if anything was said."""
        if self._said:
            self._show(self._clock(), "\n")
            self._said = False

    def _show(self, now: float, end: str = "") -> None:
        rate = self._made / max(now - self._begun, 1e-9)
        text = f"{self._title}  {self._done}/{self._total} {self._unit}"
        if self._done - self._made:
            text += f" ({self._done - self._made} found)"
        if self._made:
            text += f"  {rate:.0f}/s"
            if self._done < self._total:
                text += f"  ETA {duration((self._total - self._done) / rate)}"
        if self._done >= self._total:
            text += f"  {duration(now - self._begun)}"
        self._stream.write(f"\r\x1b[2K{text}{end}" if self._live else text + "\n")
        self._stream.flush()
        self._said = True
