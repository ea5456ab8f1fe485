"""A camera through OpenCV."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ecc_device.frame import Frame
from ecc_model.errors import SourceError
from ecc_model.optional import require

_USUAL_RATE_HZ = 30.0  # for drivers that do not tell


class Camera:
    """RGB frames of camera `number`, without end; stamps count from the opening.

    Raises `MissingPackage` without OpenCV, `SourceError` when the camera cannot be opened or ends.
    """

    live = True
    length: int | None = None
    labels: tuple[str, ...] | None = None

    def __init__(self, number: int) -> None:
        self.name = f"camera:{number}"
        self._cv2 = require("cv2", f"camera {number}")
        self._start_s = time.monotonic()
        self._index = 0
        self._capture: Any = self._cv2.VideoCapture(number)
        if not self._capture.isOpened():
            self.close()
            raise SourceError(
                f"camera {number} cannot be opened; check that it is plugged in and that no other program uses it"
            )
        try:
            self._next = self._grab()
        except SourceError:
            self.close()
            raise
        self.shape: tuple[int, ...] = self._next.pixels.shape
        told = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        self.rate_hz = told if math.isfinite(told) and told > 0 else _USUAL_RATE_HZ

    def __iter__(self) -> Iterator[Frame]:
        while True:
            yield self._next
            self._next = self._grab()

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()

    def _grab(self) -> Frame:
        good, image = self._capture.read()
        if not good:
            raise SourceError(f"{self.name}: no frame after {self._index} frames; check its cable and start again")
        pixels = np.ascontiguousarray(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), dtype=np.uint8)
        frame = Frame(self._index, time.monotonic() - self._start_s, pixels, None)
        self._index += 1
        return frame
