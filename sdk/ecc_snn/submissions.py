"""The thread behind `Edge.submit`: it classifies each camera's newest frame and calls the listeners."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from ecc_device.clock import Clock
from ecc_device.frame import Frame
from ecc_device.results import Result
from ecc_device.runtime import Pending
from ecc_model.errors import DeviceError
from ecc_snn.cameras import CameraCounts, Slots
from ecc_snn.containment import Contained

CLOSE_S = 10.0  # for the frame and the listeners that are being served when an `Edge` closes
MAX_CORRECTIONS = 1024  # that wait while listeners are busy

ResultListener = Callable[[Result], None]


def check_listener(listener: ResultListener) -> ResultListener:
    """`listener`, if it can be called; else `DeviceError`."""
    if not callable(listener):
        raise DeviceError(f"{listener!s:.40} cannot be called; give on_result a function that takes a result")
    return listener


class Submissions:
    """One frame a camera waits at most, and a newer one takes its place; corrections wait in line.

    While the cloud is asked about one frame, the next is classified. Listeners are called on the one thread, one after
    the other, a frame's result before its correction. What a listener or a frame raises is logged once, counted, and
    ends nothing; `failed` says what the listeners get for such a frame, None for nothing.
    """

    def __init__(
        self,
        begin: Callable[[Frame], Pending],
        finish: Callable[[Pending], Result],
        failed: Callable[[Frame, Exception], Result | None],
        clock: Clock,
        counts: CameraCounts,
    ) -> None:
        self._begin, self._finish, self._no_result, self._clock = begin, finish, failed, clock
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ecc-submit", daemon=True)
        self._slots = Slots(counts)
        self._under_way: dict[Pending, None] = {}  # the cloud is asked about them, oldest first
        self._arrived: deque[Pending] = deque()  # of those, the ones whose wait is over
        self._results: deque[Result] = deque()  # corrections, and what `close` ended
        self._closing = False
        self._listeners: list[tuple[ResultListener, Contained]] = []
        self._failed = Contained("a submitted frame")
        self._corrections_dropped = 0

    def on_result(self, listener: ResultListener) -> None:
        """Call `listener` with every result from now on."""
        with self._changed:
            self._listeners.append((listener, Contained("an on_result callback")))

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def submit(self, frame: Frame) -> None:
        """Put a frame in its camera's place; the frame that waited there is gone, and counted."""
        with self._changed:
            self._slots.put(frame)
            self._changed.notify()

    def correct(self, result: Result) -> None:
        """Put a corrected result in line; when too many wait, the oldest is gone, and counted."""
        with self._changed:
            if len(self._results) >= MAX_CORRECTIONS:
                self._results.popleft()
                self._corrections_dropped += 1
            self._results.append(result)
            self._changed.notify()

    def counts(self) -> dict[str, int]:
        """Submitted frames that failed, errors of listeners, corrections that found no room."""
        with self._changed:
            return {
                "failed": self._failed.count,
                "callback_errors": sum(contained.count for _, contained in self._listeners),
                "corrections_dropped": self._corrections_dropped,
            }

    def close(self) -> None:
        """Serve what waits, then end; closing before the start is fine.

        Called by a listener it does not wait for the end; results that are still to come are told after it.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(CLOSE_S)
        with self._changed:
            left = list(self._under_way)
            self._under_way.clear()
        ended = [self._finish(pending) for pending in left]
        with self._changed:
            self._results.extend(ended)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            job()

    def _next(self) -> Callable[[], None] | None:
        """What to do next, waiting for it; None at the end."""
        with self._changed:
            while True:
                if self._results:
                    return partial(self._tell, self._results.popleft())
                if self._arrived:
                    return partial(self._end, self._arrived.popleft())
                oldest = next(iter(self._under_way), None)
                left_s = None if oldest is None else oldest.until_s - self._clock.monotonic()
                if oldest is not None and left_s is not None and left_s <= 0:
                    return partial(self._end, oldest)
                frame = self._slots.take()
                if frame is not None:
                    return partial(self._start, frame)
                if self._closing and oldest is None:
                    return None
                self._changed.wait(left_s)

    def _start(self, frame: Frame) -> None:
        with self._contained(frame):
            pending = self._begin(frame)
            if pending.ticket is None:
                self._tell(self._finish(pending))
                return
            with self._changed:
                self._under_way[pending] = None
            pending.ticket.then(partial(self._arrive, pending))

    def _arrive(self, pending: Pending) -> None:
        """On the link's thread: the cloud has answered, or never will."""
        with self._changed:
            self._arrived.append(pending)
            self._changed.notify()

    def _end(self, pending: Pending) -> None:
        with self._changed:
            if pending not in self._under_way:  # it ended twice: answered at its deadline
                return
            del self._under_way[pending]
        with self._contained(pending.frame):
            self._tell(self._finish(pending))

    @contextlib.contextmanager
    def _contained(self, frame: Frame) -> Iterator[None]:
        """Log and count what a frame raises inside, and tell the listeners of it."""
        with self._failed:
            try:
                yield
            except Exception as error:
                result = self._no_result(frame, error)
                if result is not None:
                    self._tell(result)
                raise

    def _tell(self, result: Result) -> None:
        with self._changed:
            listeners = list(self._listeners)
        for listener, contained in listeners:
            with contained:
                listener(result)
