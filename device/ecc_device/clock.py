"""What time it is: the machine's clock, or a recording's."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings, because a stamp may jump and an interval must not."""

    def now(self) -> float:
        """Seconds for stamps: since 1970 on a live device, since the recording's start in a replay."""
        ...

    def monotonic(self) -> float:
        """Seconds for intervals and deadlines: never goes back, its zero means nothing."""
        ...


class SystemClock:
    """The machine's wall clock for stamps, its monotonic clock for intervals."""

    def now(self) -> float:
        """Seconds since 1970; jumps when somebody sets the clock."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed moment; a set clock does not touch it."""
        return time.monotonic()


class VirtualClock:
    """The time of a recording, moved on by whoever plays it: a slow machine changes nothing."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """Seconds since the recording's start."""
        return self._now_s

    def monotonic(self) -> float:
        """The same seconds: in a replay both readings are the recording's."""
        return self._now_s

    def advance_to(self, time_s: float) -> None:
        """Move on to `time_s`; an earlier time (or NaN) leaves the clock where it is."""
        if time_s > self._now_s:
            self._now_s = time_s
