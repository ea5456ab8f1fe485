"""What time it is: the machine's clock, a recording's, or a simulation's."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Two readings, because a stamp may jump and an interval must not."""

    def now(self) -> float:
        """Seconds for stamps: since 1970 on a live device, since the recording's start in a replay."""
        ...

    def monotonic(self) -> float:
        """Seconds for intervals and deadlines: never goes back, its zero means nothing."""
        ...

    def wait(self, done: threading.Event, timeout_s: float) -> bool:
        """Wait until `done` is set, for `timeout_s` at most; whether it is set."""
        ...


class SystemClock:
    """The machine's wall clock for stamps, its monotonic clock for intervals."""

    def now(self) -> float:
        """Seconds since 1970; jumps when somebody sets the clock."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed moment; a set clock does not touch it."""
        return time.monotonic()

    def wait(self, done: threading.Event, timeout_s: float) -> bool:
        """Wait until `done` is set, for `timeout_s` at most; whether it is set."""
        return done.wait(timeout_s)


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

    def wait(self, done: threading.Event, timeout_s: float) -> bool:
        """Wait as long as the machine takes: what a replay waits for, a live worker, goes by no recording."""
        return done.wait(timeout_s)


class SimulatedClock(VirtualClock):
    """A virtual clock on which things happen: calls that are due run, in order, as the time moves on.

    They run on the thread that moves it, so that one thread makes the same run each time.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__(start_s)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._lock = threading.RLock()

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        """Have `call` run when `delay_s` seconds (0 or more) have gone by; equal times keep their order."""
        with self._lock:
            heapq.heappush(self._due, (self._now_s + max(0.0, delay_s), next(self._numbers), call))

    def advance_to(self, time_s: float) -> None:
        """Move on to `time_s`, running what is due until then; an earlier time (or NaN) changes nothing."""
        with self._lock:
            while self._step(time_s):
                pass
            super().advance_to(time_s)

    def wait(self, done: threading.Event, timeout_s: float) -> bool:
        """Move on from call to call until `done` is set, or by `timeout_s`; whether it is set."""
        with self._lock:
            until_s = self._now_s + timeout_s
            while not done.is_set() and self._step(until_s):
                pass
            if not done.is_set():
                super().advance_to(until_s)
            return done.is_set()

    def _step(self, until_s: float) -> bool:
        """Run the next call that is due by `until_s`; False when there is none."""
        if not self._due or not self._due[0][0] <= until_s:
            return False
        time_s, _, call = heapq.heappop(self._due)
        super().advance_to(time_s)
        call()
        return True
