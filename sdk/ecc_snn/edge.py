"""`Edge`: a device inside a robot's own program."""

from __future__ import annotations

import math
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ecc_broker.link import Link
from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame
from ecc_device.results import Result
from ecc_device.statefolder import default_state
from ecc_model.errors import DeviceError
from ecc_model.frames import Pixels
from ecc_snn.submissions import ResultListener, Submissions

_CLOSED = "this Edge is closed; make a new one"
_NOT_OPEN = "this Edge is not open; use it as: with Edge(...) as edge"


class Edge:
    """What `ecc-device start` runs, with the frames of the program that it lives in.

    A context manager (or `open` and `close`). Any thread may call any method; frames are classified one after the
    other. Commands such as `ecc-device status` reach it through its state folder.

    model: the edge model's file, e.g. vgg9.pt. broker: mqtt://host:port or mqtts://user@host:port, None to work
    alone. state: folder of the buffer and the learnt models, default $ECC_STATE or one for each `device`.
    deadline_ms: how long an ambiguous frame waits for the cloud. filter: what is ambiguous. send: "features" or
    "frames". engine: what runs the network, default the fastest one that is installed. ca: certificates to trust
    instead of the system's. insecure: allow mqtt:// to another machine. link: used instead of one to `broker`.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        broker: str | None = None,
        *,
        state: str | os.PathLike[str] | None = None,
        site: str = "default",
        device: str = "device",
        deadline_ms: float = 100.0,
        filter: str = "entropy",
        send: str = "features",
        engine: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        insecure: bool = False,
        link: Link | None = None,
    ) -> None:
        self._config = DeviceConfig(
            model=Path(model),
            state=default_state(device) if state is None else Path(state).expanduser(),
            broker=broker,
            site=site,
            device=device,
            deadline_s=_seconds(deadline_ms),
            filter=filter,
            send=send,
            engine=engine,
            ca=None if ca is None else Path(ca),
            insecure=insecure,
        )
        self._link = link
        self._submissions = Submissions(lambda frame: self._classify(frame, self._config.deadline_s))
        self._inference = threading.Lock()  # held while a frame is classified, its wait for the cloud included
        self._lock = threading.Lock()  # guards what is below; never held for long
        self._device: Device | None = None
        self._closed = False
        self._next_id = 0

    def open(self) -> Edge:
        """Load the model, take the state folder, start connecting. Raises `EccError`, `StoreLocked` among them."""
        with self._lock:
            if self._closed:
                raise DeviceError(_CLOSED)
            if self._device is not None:
                raise DeviceError("this Edge is open already; open it once")
            device = Device(self._config, link=self._link)
            device.runtime.on_result(self._submissions.correct)
            self._device = device.start()
            self._submissions.start()
        return self

    def close(self) -> None:
        """Classify the frame that still waits, stop the learner, say goodbye, close the store; twice is fine.

        The cloud is not waited for any more.
        """
        with self._lock:
            device, already = self._device, self._closed
            self._closed = True
        if device is None or already:
            return
        device.stop()
        self._submissions.close()
        with self._inference:
            self._device = None
        device.close()

    def __enter__(self) -> Edge:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def classify(self, pixels: Pixels, deadline_ms: float | None = None) -> Result:
        """Classify one frame now: `uint8` (H, W), (H, W, C) or (T, H, W, C), RGB where C is 3.

        `deadline_ms` replaces the one of the constructor; the time that other threads' frames took counts, too.
        `FrameError`: the frame does not fit the network.
        """
        deadline_s = self._config.deadline_s if deadline_ms is None else _seconds(deadline_ms)
        with self._lock:
            frame = self._frame(pixels)
        return self._classify(frame, deadline_s)

    def submit(self, pixels: Pixels) -> int:
        """Hand over a copy of a frame and return its id at once; the result goes to the `on_result` callbacks.

        One frame waits at most: a newer one takes its place. A frame that cannot be classified is logged once. Both
        are counted in `status`.
        """
        with self._lock:
            frame = self._frame(np.array(pixels))  # a camera's buffer may change under us
            self._submissions.submit(frame)
        return frame.index

    def on_result(self, callback: ResultListener) -> None:
        """Call `callback` with every result of `submit`, and with the corrected result of any frame.

        A frame is corrected when the cloud's answer comes after its deadline; `result.frame` is its id. Callbacks run
        on one thread of the Edge. One that raises is logged once and counted.
        """
        self._submissions.on_result(callback)

    def notify(self, event: str) -> None:
        """Tell the device what happens to the robot: "charging", "undocked", "offline" or "online"."""
        with self._lock:
            self._opened().runtime.notify(event)

    def status(self) -> dict[str, Any]:
        """What `ecc-device status` shows, and under `submit` what became of submitted frames."""
        with self._lock:
            device = self._opened()
        return device.status() | {"submit": self._submissions.counts()}

    def _opened(self) -> Device:
        if self._closed:
            raise DeviceError(_CLOSED)
        if self._device is None:
            raise DeviceError(_NOT_OPEN)
        return self._device

    def _frame(self, pixels: Pixels) -> Frame:
        """The next frame, stamped now. Needs the lock."""
        frame = Frame(self._next_id, self._opened().clock.now(), pixels, None)
        self._next_id += 1
        return frame

    def _classify(self, frame: Frame, deadline_s: float) -> Result:
        arrived_s = time.monotonic()
        with self._inference:
            if self._device is None:
                raise DeviceError(_CLOSED)
            left_s = max(0.0, deadline_s - (time.monotonic() - arrived_s))
            return self._device.runtime.classify(frame, left_s)


def _seconds(deadline_ms: float) -> float:
    if not (math.isfinite(deadline_ms) and deadline_ms >= 0):
        raise DeviceError(f"a deadline of {deadline_ms} ms; give 0 (do not wait) or more")
    return deadline_ms / 1000
