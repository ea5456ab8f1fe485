"""What tests of the SDK share: frames, and callbacks that can be waited on."""

from __future__ import annotations

import threading

import numpy as np

from ecc_snn import Edge, Result

PATIENCE_S = 30.0
PATIENT_MS = 1000 * PATIENCE_S


def await_worker(edge: Edge) -> None:
    """Return when the edge has found a worker."""
    assert edge._device is not None
    assert edge._device.offload is not None
    assert edge._device.offload.wait_ready(PATIENCE_S)


def frames(count: int, seed: int = 0) -> list[np.ndarray]:
    """Frames of noise."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 1), np.uint8))


class Inbox:
    """A callback that keeps what it gets, and can be waited on."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._changed = threading.Condition()

    def __call__(self, result: Result) -> None:
        with self._changed:
            self.results.append(result)
            self._changed.notify_all()

    def wait(self, count: int) -> list[Result]:
        """All results, once there are at least `count`."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.results) >= count, PATIENCE_S), self.results
            return list(self.results)


class Gate:
    """A callback that stops the thread that calls it until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, _: Result) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE_S)
