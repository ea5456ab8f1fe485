"""Replaying a recording: its time, one frame after the other, the same results on every machine."""

from __future__ import annotations

import json
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecc_device.clock import VirtualClock
from ecc_device.device import Device
from ecc_device.frame import Frame
from ecc_device.recordings.part import WHOLE, Part
from ecc_device.recordings.recording import Step
from ecc_device.results import Result
from ecc_device.sources import Source
from ecc_model.errors import DeviceError, EccError, FrameError, LinkError, SourceError

KEPT_LATENCIES = 10_000  # the newest; a device runs for weeks
POLL_S = 0.2  # how soon `stop` is seen while a source waits for its hardware
CLOSE_S = 1.0  # for a source to close; one that hangs is left to the end of the process


def _latencies() -> deque[float]:
    return deque(maxlen=KEPT_LATENCIES)


@dataclass
class Tally:
    """Counts over one stream, and the newest latencies, which are measured and not repeatable."""

    frames: int = 0
    uploads: int = 0
    labelled: int = 0
    edge_right: int = 0
    right: int = 0
    bytes_sent: int = 0
    latencies_s: deque[float] = field(default_factory=_latencies)
    upload_latencies_s: deque[float] = field(default_factory=_latencies)

    def add(self, result: Result, truth: str | None) -> None:
        """Count one result; `truth` is the frame's label, where the source has one."""
        self.frames += 1
        self.latencies_s.append(result.latency_s)
        if result.bytes_sent:
            self.uploads += 1
            self.bytes_sent += result.bytes_sent
            self.upload_latencies_s.append(result.latency_s)
        if truth is not None:
            self.labelled += 1
            self.edge_right += result.edge.label == truth
            self.right += result.label == truth

    def summary(self) -> dict[str, Any]:
        """For JSON; accuracies are None for a source without labels."""
        return {
            "frames": self.frames,
            "uploads": self.uploads,
            "upload_rate": self.uploads / self.frames if self.frames else 0.0,
            "edge_accuracy": self.edge_right / self.labelled if self.labelled else None,
            "collab_accuracy": self.right / self.labelled if self.labelled else None,
            "bytes_per_upload": self.bytes_sent / self.uploads if self.uploads else 0.0,
            "latency_ms": percentiles_ms(self.latencies_s),
            "upload_latency_ms": percentiles_ms(self.upload_latencies_s),
        }


def percentiles_ms(seconds: Iterable[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds (nearest rank); empty for no values."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {f"p{p}": round(1000 * ordered[min(len(ordered) - 1, p * len(ordered) // 100)], 3) for p in (50, 95, 99)}


def play(
    source: Source,
    device: Device,
    clock: VirtualClock,
    part: Part = WHOLE,
    before: Callable[[Step], None] = lambda step: None,
) -> Iterator[tuple[Result, str | None]]:
    """Classify every frame of a recording at the recording's time; yields results with the frames' own labels.

    before: called with each frame's step, when the clock stands at it.
    """
    if source.live:
        raise SourceError(f"{source.name} is live and cannot be replayed; run it with: ecc-device start --source")
    patience_s = device.config.patience_s
    if device.offload is not None and patience_s is not None and not device.offload.wait_ready(patience_s):
        raise LinkError(
            device.offload.problem
            or f"{device.config.broker}: no worker announced itself in {patience_s:g} s; "
            "start one with: ecc-cloud start --model cloud.pt"
        )
    for step in part.steps(source):
        clock.advance_to(step.frame.time_s)
        before(step)
        yield classify(device, step.frame, source.name), step.frame.label


def read_live(source: Source, stop: threading.Event) -> Iterator[Frame]:
    """Frames of a live source until `stop`, each read when it is asked for, on a thread that can be left behind."""
    wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
    given: queue.SimpleQueue[Frame | EccError | None] = queue.SimpleQueue()

    def read() -> None:
        frames = iter(source)
        try:
            while wanted.get():
                given.put(next(frames, None))
        except EccError as error:
            given.put(error)
        finally:
            given.put(None)
            source.close()

    reader = threading.Thread(target=read, name="ecc-source", daemon=True)
    reader.start()
    try:
        while (frame := _next(wanted, given, stop)) is not None:
            yield frame
    finally:
        wanted.put(False)
        reader.join(CLOSE_S)


def _next(
    wanted: queue.SimpleQueue[bool], given: queue.SimpleQueue[Frame | EccError | None], stop: threading.Event
) -> Frame | None:
    wanted.put(True)
    while not stop.is_set():
        try:
            found = given.get(timeout=POLL_S)
        except queue.Empty:
            continue
        if isinstance(found, EccError):
            raise found
        return found
    return None


def classify(device: Device, frame: Frame, name: str) -> Result:
    """One frame of the source `name`; `SourceError`: it does not fit the network."""
    try:
        return device.runtime.classify(frame)
    except FrameError as exc:
        raise SourceError(f"{name}: frame {frame.index}: {exc}") from exc


def write_results(path: Path | None, results: Iterator[tuple[Result, str | None]], told: Callable[[], None]) -> Tally:
    """Write one JSON line per result (to `path`, if given) and count them; `told` is called after each.

    `DeviceError`: the file cannot be written.
    """
    tally = Tally()
    if path == Path("-"):
        raise DeviceError("-: results are written to a file; name one, /dev/stdout for example")
    try:
        with nullcontext() if path is None else path.open("w", encoding="utf-8") as stream:
            for result, truth in results:
                tally.add(result, truth)
                if stream is not None:
                    stream.write(json.dumps(result.to_record() | {"truth": truth}, ensure_ascii=False) + "\n")
                told()
    except OSError as exc:
        raise DeviceError(f"{path}: results cannot be written ({exc.strerror}); choose another file") from exc
    return tally
