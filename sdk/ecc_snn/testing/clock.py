"""The machine's clock, with calls that happen later: what a link double needs to run in real time."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Protocol

from ecc_device.clock import Clock, SystemClock


class SchedulingClock(Clock, Protocol):
    """A clock on which things happen: `SimulatedClock`, or `RealtimeClock`."""

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        """Have `call` run when `delay_s` seconds have gone by."""
        ...


class RealtimeClock(SystemClock):
    """The machine's time; calls run on a thread of the clock's own. A context manager, or `close`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ecc-realtime", daemon=True)
        self._thread.start()

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        """Have `call` run when `delay_s` seconds have gone by; not any more once the clock is closed."""
        with self._changed:
            heapq.heappush(self._due, (self.monotonic() + delay_s, next(self._numbers), call))
            self._changed.notify()

    def close(self) -> None:
        """Run nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> RealtimeClock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                left_s = self._due[0][0] - self.monotonic() if self._due else None
                if left_s is not None and left_s <= 0.0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(left_s)
            return None
