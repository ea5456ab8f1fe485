"""The thread behind `Edge.submit`: it classifies the newest frame and calls the listeners."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ecc_device.frame import Frame
from ecc_device.results import Result
from ecc_snn.containment import Contained

CLOSE_S = 10.0  # for the frame and the listeners that are being served when an `Edge` closes
MAX_CORRECTIONS = 1024  # that wait while listeners are busy

ResultListener = Callable[[Result], None]


class Submissions:
    """One frame waits at most, and a newer one takes its place; corrections wait in line.

    Listeners are called on the one thread, one after the other, a frame's result before its correction. What a
    listener or a frame raises is logged once, counted, and ends nothing.
    """

    def __init__(self, classify: Callable[[Frame], Result]) -> None:
        self._classify = classify
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ecc-submit", daemon=True)
        self._waiting: Frame | None = None
        self._corrections: deque[Result] = deque()
        self._closing = False
        self._listeners: list[tuple[ResultListener, Contained]] = []
        self._failed = Contained("a submitted frame")
        self._counts = {"frames": 0, "replaced": 0, "corrections_dropped": 0}

    def on_result(self, listener: ResultListener) -> None:
        """Call `listener` with every result from now on."""
        with self._changed:
            self._listeners.append((listener, Contained("an on_result callback")))

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def submit(self, frame: Frame) -> None:
        """Put a frame in the one place; the frame that waited there is gone, and counted."""
        with self._changed:
            self._counts["frames"] += 1
            self._counts["replaced"] += self._waiting is not None
            self._waiting = frame
            self._changed.notify()

    def correct(self, result: Result) -> None:
        """Put a corrected result in line; when too many wait, the oldest is gone, and counted."""
        with self._changed:
            if len(self._corrections) == MAX_CORRECTIONS:
                self._corrections.popleft()
                self._counts["corrections_dropped"] += 1
            self._corrections.append(result)
            self._changed.notify()

    def counts(self) -> dict[str, int]:
        """Frames submitted, replaced by a newer one, failed; errors of listeners; corrections that found no room."""
        with self._changed:
            errors = sum(contained.count for _, contained in self._listeners)
            return self._counts | {"failed": self._failed.count, "callback_errors": errors}

    def close(self) -> None:
        """Serve what waits, then end; called by a listener it returns at once. Closing before the start is fine."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            result = self._classified(job) if isinstance(job, Frame) else job
            if result is not None:
                self._tell(result)

    def _next(self) -> Frame | Result | None:
        """What to do next, waiting for it; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._corrections or self._waiting is not None or self._closing)
            if self._corrections:
                return self._corrections.popleft()
            frame, self._waiting = self._waiting, None
            return frame

    def _classified(self, frame: Frame) -> Result | None:
        with self._failed:
            return self._classify(frame)
        return None

    def _tell(self, result: Result) -> None:
        with self._changed:
            listeners = list(self._listeners)
        for listener, contained in listeners:
            with contained:
                listener(result)
