"""A camera whose end, standstill and pictures a test decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from ecc_device.frame import Frame
from ecc_model.errors import SourceError
from ecc_model.frames import Pixels


class SimulatedCamera:
    """A live `Source` that shows `pictures`, each `uint8` (H, W, C), and ends with the last one.

    freezes_at: from this frame on the picture before it comes again and again, as from a driver that hangs. stalls_at:
    no frame comes from there on, until `resume` or `close`. vanishes_at: `SourceError` there, as of a cable that was
    pulled. paced: a frame comes only when the test calls `show`.
    """

    live = True
    length: int | None = None
    labels: tuple[str, ...] | None = None

    def __init__(
        self,
        pictures: Sequence[Pixels],
        *,
        name: str = "camera",
        freezes_at: int | None = None,
        stalls_at: int | None = None,
        vanishes_at: int | None = None,
        paced: bool = False,
        rate_hz: float = 30.0,
    ) -> None:
        if not len(pictures):
            raise SourceError(f"{name}: no pictures; give at least one")
        self.name, self.rate_hz = name, rate_hz
        self.shape: tuple[int, ...] = np.shape(pictures[0])
        self._pictures = pictures
        self._freezes_at, self._stalls_at, self._vanishes_at = freezes_at, stalls_at, vanishes_at
        self._shown = threading.Semaphore(0) if paced else None
        self._resumed, self._closed = threading.Event(), threading.Event()
        self.stalled = threading.Event()
        self._start_s = time.monotonic()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(len(self._pictures)):
            if self._shown is not None:
                self._shown.acquire()
            if index == self._stalls_at:
                self.stalled.set()
                self._resumed.wait()
            if self._closed.is_set():
                return
            if index == self._vanishes_at:
                raise SourceError(f"{self.name}: no frame after {index} frames; check its cable and start again")
            frozen = self._freezes_at is not None and index >= self._freezes_at
            picture = self._pictures[max(0, (self._freezes_at or 0) - 1) if frozen else index]
            yield Frame(index, time.monotonic() - self._start_s, picture, None)

    def show(self, frames: int = 1) -> None:
        """Let so many more frames come from a paced camera."""
        if self._shown is not None:
            self._shown.release(frames)

    def resume(self) -> None:
        """End the standstill."""
        self._resumed.set()

    def close(self) -> None:
        """End; a standstill, too."""
        self._closed.set()
        self._resumed.set()
        self.show()
