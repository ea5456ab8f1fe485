"""`Edge`: a device inside a robot's own program."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ecc_broker.link import Link
from ecc_device.clock import Clock, SystemClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame
from ecc_device.learning.recipes import DEFAULT
from ecc_device.learning.shadow import SHADOW_FRAMES
from ecc_device.results import Answer, Result
from ecc_device.runtime import Pending, Runtime
from ecc_device.statefolder import default_state
from ecc_model.errors import DeviceError
from ecc_model.frames import Pixels
from ecc_snn.cameras import CameraCounts
from ecc_snn.failures import Failures
from ecc_snn.stream import AnySource, Stream
from ecc_snn.submissions import ResultListener, Submissions, check_listener

_CLOSED = "this Edge is closed; make a new one"
_NOT_OPEN = "this Edge is not open; use it as: with Edge(...) as edge"


class Edge:
    """What `ecc-device start` runs, with the frames of the program that it lives in.

    A context manager (or `open` and `close`). Any thread may call any method; networks run on one frame after the
    other, and a frame that waits for the cloud holds no other up. Commands such as `ecc-device status` reach it through
    its state folder.

    model: the edge model's file, e.g. vgg9.pt. broker: mqtt://host:port or mqtts://user@host:port, None to work
    alone. state: folder of the buffer and the learnt models, default $ECC_STATE or one for each `device`.
    deadline_ms: how long an ambiguous frame waits for the cloud. filter: what is ambiguous. budget: what may go up at
    most, "5%" of the frames or "2MB/h". send: "features" or "frames". encoder: of a model with several, the name of
    the one to send by, default the one that the moment allows. learner: how it learns; "none": never. shadow: frames
    that a learnt model answers silently before it takes over; 0: none. engine: what runs the network, default the
    fastest one that is installed; threads: how many work on one frame. strict: False for a loop that must go on:
    nothing that it calls raises, see `classify`. record: a new .mcap to write all of it to; record_as: "frames", or
    "spikes" without pictures. ca: certificates to trust instead of the system's. insecure: allow mqtt:// to another
    machine. link: used instead of one to `broker`. clock: used instead of the machine's.
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
        budget: str | None = None,
        send: str = "features",
        encoder: str | None = None,
        learner: str = DEFAULT,
        shadow: int = SHADOW_FRAMES,
        engine: str | None = None,
        threads: int = 1,
        strict: bool = True,
        record: str | os.PathLike[str] | None = None,
        record_as: str = "frames",
        ca: str | os.PathLike[str] | None = None,
        insecure: bool = False,
        link: Link | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._config = DeviceConfig(
            model=Path(model),
            state=default_state(device) if state is None else Path(state).expanduser(),
            broker=broker,
            site=site,
            device=device,
            deadline_s=_seconds(deadline_ms),
            filter=filter,
            budget=budget,
            send=send,
            encoder=encoder,
            learner=learner,
            shadow=shadow,
            engine=engine,
            threads=threads,
            ca=None if ca is None else Path(ca),
            insecure=insecure,
            record=None if record is None else Path(record),
            record_as=record_as,
        )
        self._link = link
        self._clock = SystemClock() if clock is None else clock
        self._watch = clock is None  # a virtual clock's time is nobody's to watch
        self._strict = strict
        self._failures = Failures()
        self._cameras = CameraCounts(self._clock)
        self._submissions = Submissions(
            lambda frame: self._begin(frame, self._until(None)),
            self._finish,
            self._submission_failed,
            self._clock,
            self._cameras,
        )
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._changed = threading.Condition()  # guards what is below; never held for long
        self._device: Device | None = None
        self._closed = False
        self._next_id = 0
        self._under_way = 0  # frames that are begun and not finished

    def open(self) -> Edge:
        """Load the model, take the state folder, start connecting. Raises `EccError`, `StoreLocked` among them."""
        with self._changed:
            if self._closed:
                raise DeviceError(_CLOSED)
            if self._device is not None:
                raise DeviceError("this Edge is open already; open it once")
            device = Device(self._config, link=self._link, clock=self._clock, around=self._around)
            device.runtime.on_result(self._submissions.correct)
            self._device = device.start(watch=self._watch)
            self._submissions.start()
        return self

    def close(self) -> None:
        """Classify the frames that still wait, stop the learner, say goodbye, close the store; twice is fine.

        The cloud is not waited for any more, and streams end.
        """
        with self._changed:
            device, already = self._device, self._closed
            self._closed = True
            streams = list(self._streams)
        if device is None or already:
            return
        for stream in streams:
            stream.close()
        device.stop()
        self._submissions.close()
        with self._changed:
            self._changed.wait_for(lambda: self._under_way == 0)
            self._device = None
        device.close()

    def __enter__(self) -> Edge:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def classify(self, pixels: Pixels, deadline_ms: float | None = None, *, camera: str = "") -> Result:
        """Classify one frame now: `uint8` (H, W), (H, W, C) or (T, H, W, C), RGB where C is 3.

        `deadline_ms` replaces the one of the constructor; the time that other threads' frames took counts, too.
        `FrameError`: the frame does not fit the network. With `strict=False` nothing is raised: the result's `why` is
        "failed" then, its label empty and its entropy 1, as of an edge that has no idea; the caller's line is warned
        once (`EccWarning`), and `status` counts.
        """
        try:
            until_s = self._until(deadline_ms)
            frame = self._frame(pixels, camera)
        except Exception as error:
            if not self._strict:
                return self._no_answer(error, camera)
            raise
        return self._answer(frame, until_s)

    def submit(self, pixels: Pixels, *, camera: str = "") -> int:
        """Hand over a copy of a frame and return its id at once; the result goes to the `on_result` callbacks.

        One frame a camera waits at most: a newer one takes its place, and cameras take turns. A frame that cannot be
        classified is logged once. Both are counted in `status`. The callbacks hear of one that cannot be classified
        with `strict=False` only, by the result that `classify` would give; then nothing is raised here either, and the
        id is -1 where the frame was not taken.
        """
        try:
            frame = self._frame(np.array(pixels), camera)  # a camera's buffer may change under us
        except Exception as error:
            if not self._strict:
                self._failures.add(error)
                return -1
            raise
        self._submissions.submit(frame)
        return frame.index

    def stream(self, source: AnySource | Mapping[str, AnySource], *, deadline_ms: float | None = None) -> Stream:
        """The results of a source, or of several by the names of their cameras, as an iterator; see `Stream`.

        A source is what `ecc-device start --source` takes, a path, or any `Source`. With `strict=False` a source that
        fails ends, and the others go on. `SourceError`: it cannot be opened.
        """
        deadline_s = self._config.deadline_s if deadline_ms is None else _seconds(deadline_ms)
        with self._changed:
            self._opened()
        stream = Stream(
            source if isinstance(source, Mapping) else {"": source},
            self._frame,
            lambda frame: self._answer(frame, self._clock.monotonic() + deadline_s),
            self._tolerated,
            self._cameras,
        )
        self._streams.add(stream)
        return stream

    def on_result(self, callback: ResultListener) -> None:
        """Call `callback` with every result of `submit`, and with the corrected result of any frame.

        A frame is corrected when the cloud's answer comes after its deadline; `result.frame` is its id. Callbacks run
        on one thread of the Edge. One that raises is logged once and counted.
        """
        self._submissions.on_result(check_listener(callback))

    def notify(self, event: str) -> None:
        """Tell the device what happens to the robot: "charging", "undocked", "offline" or "online"."""
        try:
            with self._changed:
                self._opened().runtime.notify(event)
        except Exception as error:
            if not self._strict:
                self._failures.add(error)
                return
            raise

    def status(self) -> dict[str, Any]:
        """What `ecc-device status` shows; `submit`, `cameras` and `failures` say what became of this program's frames.

        With `strict=False` an Edge that is not open has the last two alone.
        """
        try:
            with self._changed:
                device = self._opened()
            return device.status()
        except Exception as error:
            if not self._strict:
                self._failures.add(error)
                return self._own_status()
            raise

    def _around(self) -> dict[str, Any]:
        return {"submit": self._submissions.counts()} | self._own_status()

    def _own_status(self) -> dict[str, Any]:
        return {"cameras": self._cameras.to_record(), "failures": self._failures.to_record()}

    def _opened(self) -> Device:
        if self._closed:
            raise DeviceError(_CLOSED)
        if self._device is None:
            raise DeviceError(_NOT_OPEN)
        return self._device

    @property
    def _runtime(self) -> Runtime:
        if self._device is None:
            raise DeviceError(_CLOSED)
        return self._device.runtime

    def _until(self, deadline_ms: float | None) -> float:
        """The deadline of a frame that comes now, by the device's clock."""
        deadline_s = self._config.deadline_s if deadline_ms is None else _seconds(deadline_ms)
        return self._clock.monotonic() + deadline_s

    def _frame(self, pixels: Pixels, camera: str) -> Frame:
        """The next frame, stamped now."""
        with self._changed:
            self._opened()
            return Frame(self._take_id(), self._clock.now(), pixels, None, camera)

    def _take_id(self) -> int:
        number = self._next_id
        self._next_id += 1
        return number

    def _begin(self, frame: Frame, until_s: float) -> Pending:
        """A frame's edge answer; what this returns goes to `_finish`."""
        with self._changed:
            runtime = self._runtime
            self._under_way += 1
        try:
            return runtime.begin(frame, until_s)
        except BaseException:
            self._leave()
            raise

    def _finish(self, pending: Pending) -> Result:
        try:
            return self._runtime.finish(pending)
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def _answer(self, frame: Frame, until_s: float) -> Result:
        """A frame's result, by its deadline."""
        try:
            pending = self._begin(frame, until_s)
            try:
                self._runtime.wait(pending)
            except BaseException:
                self._runtime.abandon(pending)
                self._leave()
                raise
            return self._finish(pending)
        except Exception as error:
            if not self._strict:
                return self._no_answer(error, frame.camera, frame.index)
            raise

    def _no_answer(self, error: Exception, camera: str, number: int | None = None) -> Result:
        """What a frame that failed gets with `strict=False`; it has an id of its own."""
        self._failures.add(error)
        return self._failed(camera, number)

    def _submission_failed(self, frame: Frame, error: Exception) -> Result | None:
        """What the callbacks get for a submitted frame that failed."""
        if self._strict:
            return None
        self._failures.count(error)  # on a thread of ours: there is no line to warn at, and it was logged
        return self._failed(frame.camera, frame.index)

    def _failed(self, camera: str, number: int | None) -> Result:
        with self._changed:
            number = self._take_id() if number is None else number
        return Result(
            frame=number,
            time_s=self._clock.now(),
            edge=Answer("", (), (), 1.0),
            cloud=None,
            stands="edge",
            why="failed",
            score=1.0,
            threshold=0.0,
            row=None,
            bytes_sent=0,
            bytes_received=0,
            model_no=0,
            latency_s=0.0,
            camera=camera,
            filter=self._config.filter,
        )

    def _tolerated(self, error: Exception) -> bool:
        if self._strict:
            return False
        self._failures.add(error)
        return True


def _seconds(deadline_ms: float) -> float:
    try:
        good = math.isfinite(deadline_ms) and deadline_ms >= 0
    except TypeError as exc:
        found = f"{deadline_ms!s:.20} is of type {type(deadline_ms).__name__}"
        raise DeviceError(f"a deadline of {found}; give a number of milliseconds") from exc
    if not good:
        raise DeviceError(f"a deadline of {deadline_ms} ms; give 0 (do not wait) or more")
    return deadline_ms / 1000
