"""What a moving face does, one thing after the other."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import numpy as np

from facebench.errors import FacebenchError
from facebench.synth import actions
from facebench.synth.numeric import Array
from facebench.synth.portrait import check


@dataclass(frozen=True)
class Event:
    """Something that a face does once.

    The level is 0 up to frame `onset`, rises to 1 at `apex_start`, stays there up to `apex_end`
    and is 0 again from `offset` on; ramps are 3t^2 - 2t^3.

    Attributes:
        name: an expression, or ``AU`` and the FACS numbers, as in ``AU1+2``.
        au: (FACS number, intensity at the apex), ascending.
        side: 0 for both sides, 1 for the subject's left alone, -1 for the right.
        onset, apex_start, apex_end, offset: frames, ascending; may lie outside the clip.
    """

    name: str
    au: tuple[tuple[int, float], ...]
    side: float
    onset: float
    apex_start: float
    apex_end: float
    offset: float

    def __post_init__(self) -> None:
        times = (self.onset, self.apex_start, self.apex_end, self.offset)
        for name, time in zip(("onset", "apex_start", "apex_end", "offset"), times):
            check("Event", name, time, -1e6, 1e6, False)
        if not times[0] < times[1] <= times[2] < times[3]:
            raise FacebenchError(
                f"Event: onset, apex_start, apex_end, offset: found {times}, expected ascending"
            )
        check("Event", "side", self.side, -1, 1, False)
        for number, level in self.au:
            if number not in actions.INDEX:
                raise FacebenchError(
                    f"Event.au: no action unit {number!r}; there are: "
                    + ", ".join(map(str, actions.ACTION_UNITS))
                )
            check("Event", f"au[{number}]", level, 0, 1, False)

    @property
    def expression(self) -> int:
        """Index into `EXPRESSIONS` of the emotion, 0 if the event shows none."""
        known = actions.EXPRESSIONS
        return known.index(self.name) if self.name in known else 0

    def level(self, frame: float) -> float:
        """How far the event has come at a frame, in [0, 1]."""
        if frame <= self.onset or frame >= self.offset:
            return 0.0
        if frame < self.apex_start:
            t = (frame - self.onset) / (self.apex_start - self.onset)
        elif frame > self.apex_end:
            t = (self.offset - frame) / (self.offset - self.apex_end)
        else:
            return 1.0
        return t * t * (3.0 - 2.0 * t)


def trajectory(events: tuple[Event, ...], frame: float) -> tuple[Array, Array]:
    """What events make of a face at a frame: au [24] and sides [24]; the strongest event wins."""
    au, sides = np.zeros(len(actions.ACTION_UNITS)), np.zeros(len(actions.ACTION_UNITS))
    for event in events:
        level = event.level(frame)
        for number, most in event.au:
            k = actions.INDEX[number]
            if level * most > au[k]:
                au[k], sides[k] = level * most, event.side
    return au, sides


def as_json(events: tuple[Event, ...]) -> str:
    """Events as JSON: objects with the fields of `Event`, `au` as [number, level] pairs."""
    return json.dumps([dataclasses.asdict(event) for event in events], separators=(",", ":"))
