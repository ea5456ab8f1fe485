"""The queue of one for each camera: the newest frame wins, and the camera that waited longest comes first."""

from __future__ import annotations

import threading
from typing import Any

from ecc_device.clock import Clock
from ecc_device.frame import Frame


class CameraCounts:
    """What came from each camera, and what was replaced by a newer frame; for every thread of an `Edge`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._frames: dict[str, int] = {}
        self._replaced: dict[str, int] = {}
        self._newest_s: dict[str, float] = {}

    def came(self, camera: str, *, replaced: bool) -> None:
        """One frame came; `replaced`: the one before it was still waiting, and is gone."""
        with self._lock:
            self._frames[camera] = self._frames.get(camera, 0) + 1
            self._replaced[camera] = self._replaced.get(camera, 0) + replaced
            self._newest_s[camera] = self._clock.monotonic()

    def to_record(self) -> dict[str, Any]:
        """Camera -> frames, replaced ones, and how many seconds ago the newest came."""
        with self._lock:
            now_s = self._clock.monotonic()
            return {
                camera: {"frames": frames, "replaced": self._replaced[camera], "age_s": now_s - self._newest_s[camera]}
                for camera, frames in self._frames.items()
            }


class Slots:
    """At most one waiting frame a camera. Its owner's lock guards it."""

    def __init__(self, counts: CameraCounts) -> None:
        self._counts = counts
        self._waiting: dict[str, Frame] = {}  # in the order of the cameras' turns

    def put(self, frame: Frame) -> None:
        """Let a frame wait in its camera's place; a camera that waits already keeps its turn."""
        self._counts.came(frame.camera, replaced=frame.camera in self._waiting)
        self._waiting[frame.camera] = frame

    def take(self) -> Frame | None:
        """The frame of the camera whose turn it is; None where nothing waits."""
        if not self._waiting:
            return None
        return self._waiting.pop(next(iter(self._waiting)))
