"""Which of a model's encoders a question goes by: the longest code that the moment allows.

Each circumstance asks by itself for a shorter code: the way between its two figures is divided evenly among the codes.
The one that asks for most decides.

| circumstance | what is looked at                                                       | from | to  |
|--------------|-------------------------------------------------------------------------|------|-----|
| late         | of the last 20 frames that asked, share without an answer in time       | 0    | 1/2 |
| slow         | median time of the answers in time, as a share of the time that is left | 1/2  | 1   |
| battery      | charge of the battery that is in use                                    | 1/2  | 1/5 |
| budget       | what is left of the reserve of an upload budget in bytes                | 3/4  | 1/4 |

Rows of earlier frames have no deadline, and a replay with a live worker has none either: the link has no say there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

_LIMITS = {"late": (0.0, 0.5), "slow": (0.5, 1.0), "battery": (0.5, 0.2), "budget": (0.75, 0.25)}
WHY = {
    "late": "answers did not come in time",
    "slow": "answers take most of the deadline",
    "battery": "the battery is low",
    "budget": "little of the upload budget is left",
    "asked for": "asked for by name",
}
"""Why a question went by an encoder that is not the first one, or (asked for) by any."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a device knows of the moment, as in the table; by default nothing asks for a shorter code."""

    late: float = 0.0
    slow: float = 0.0
    battery: float = 1.0
    budget: float = 1.0


class Choice(NamedTuple):
    """An encoder, counted from the longest code on, and a key of `WHY`; empty for the first one."""

    encoder: int
    why: str


def choose(count: int, now: Circumstances) -> Choice:
    """One of `count` encoders that stand in order, the longest code first."""
    asked = {name: _asked(getattr(now, name), *limits) for name, limits in _LIMITS.items()}
    why = max(asked, key=asked.__getitem__)
    encoder = min(count - 1, int(asked[why] * count))
    return Choice(encoder, why if encoder else "")


def _asked(value: float, longest: float, shortest: float) -> float:
    """0 for the longest code to 1 for the shortest."""
    return min(1.0, max(0.0, (value - longest) / (shortest - longest)))
