"""Writes a recording while a device runs; a recording that cannot be written ends, the device goes on."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from ecc_device.clock import Clock
from ecc_device.frame import Frame
from ecc_device.recordings.channels import (
    CONTENTS,
    FORMAT,
    METADATA,
    PROFILE,
    SCHEMAS,
    Event,
    ModelInUse,
    SplitSpikes,
    Update,
    Upload,
)
from ecc_device.recordings.images import ENCODING, SCHEMA, SCHEMA_ENCODING, SCHEMA_NAME, encode_image
from ecc_device.results import Result
from ecc_device.store import Store
from ecc_model import bits
from ecc_model.bits import Spikes
from ecc_model.errors import DeviceError, StoreError
from ecc_model.modelfile import EdgeModel
from ecc_model.optional import require

CHUNK_BYTES = 256 * 1024  # before packing; what a killed process loses at most, and SECONDS_OPEN
SECONDS_OPEN = 1.0  # a chunk is written out when it is older, at the next message
_BILLION = 1_000_000_000
_LAST = (1 << 64) - 1
T = TypeVar("T")


class Recorder:
    """Takes a device's frames, results and events, in the order of the calls; any thread may call.

    content: what is kept of a frame, "frames" (its pixels, lossless) or "spikes" (at the split point: no picture).
    about: what stands in the file's metadata. failed: told once, in one line, when nothing can be written any more.
    `DeviceError`: the file exists already, or cannot be made. `MissingPackage` without the mcap library.
    """

    def __init__(
        self,
        path: Path,
        content: str,
        clock: Clock,
        store: Store,
        about: Mapping[str, str],
        failed: Callable[[str], object],
    ) -> None:
        self.path, self._content, self._clock, self._store, self._failed = path, content, clock, store, failed
        self._lock = threading.Lock()
        self._models: dict[int, EdgeModel] = {}
        self._attached: set[str] = set()
        self._model_no: int | None = None
        self._empty = True
        self._row = 0  # the newest that is written
        self._early: list[Result] = []  # corrections of frames that are not written yet
        self._chunk_s = clock.monotonic()
        writer = require("mcap.writer", f"recording {path.name}")
        self._file: IO[bytes] | None = _created(path)
        self._writer = writer.Writer(self._file, chunk_size=CHUNK_BYTES)
        self._channels: dict[str, int] = {}
        self._try(lambda: self._begin({"format": FORMAT, "content": content, **about}))

    def frame(self, frame: Frame, split: Spikes, result: Result) -> None:
        """One classified frame and its result; split: its spikes at the split point, (T, C, H, W)."""

        def write() -> None:
            self._model(result.model_no)
            stamp = _nanoseconds(result.time_s)
            shape = frame.pixels.shape if frame.pixels.ndim > 2 else (*frame.pixels.shape, 1)
            if self._content == "frames":
                self._write("/frames", encode_image(frame.pixels.reshape(shape), stamp, frame.camera), stamp)
            else:
                self._add("/spikes", _spikes(frame, split, self._models[result.model_no]), stamp)
            if result.bytes_sent:
                self._add("/uploads", self._upload(result), stamp)
            seen = {"truth": frame.label, "shape": shape}
            self._add("/decisions", result.explain().facts | seen, stamp)
            self._row = max(self._row, result.row or 0)
            early, self._early = self._early, []
            for corrected in early:
                self._correction(corrected)
            self._empty = False

        self._try(write)

    def correction(self, result: Result) -> None:
        """The corrected result of an earlier frame: the cloud's answer came late."""
        self._try(lambda: self._correction(result))

    def model(self, model: EdgeModel, no: int) -> None:
        """A model that may answer from now on; its file is attached. It is noted with the first frame it answers."""

        def write() -> None:
            self._models[no] = model
            if model.sha256 not in self._attached:
                self._attached.add(model.sha256)
                stamp = _nanoseconds(self._clock.now())
                name = f"{model.sha256}.pt"
                self._writer.add_attachment(stamp, stamp, name, "application/octet-stream", model.path.read_bytes())

        self._try(write)

    def update(self, accepted: bool, reason: str) -> None:
        """The end of an update."""
        self._try(lambda: self._add("/updates", Update(accepted=accepted, reason=reason)))

    def event(self, kind: str, detail: str) -> None:
        """What happened to the link ("link"), to the device's health ("health") or to the robot ("robot")."""
        self._try(lambda: self._add("/events", Event(kind=kind, detail=detail)))

    def close(self) -> None:
        """Write the rest and the index; a recording without a frame is removed. Closing twice is fine."""
        self._try(self._writer.finish)
        with self._lock:
            self._end()
            if self._empty:
                self.path.unlink(missing_ok=True)

    def _begin(self, about: Mapping[str, str]) -> None:
        self._writer.start(profile=PROFILE, library="ecc-snn")
        self._writer.add_metadata(METADATA, dict(about))
        if self._content == "frames":
            schema_id = self._writer.register_schema(SCHEMA_NAME, SCHEMA_ENCODING, SCHEMA)
            self._channels["/frames"] = self._writer.register_channel("/frames", ENCODING, schema_id)
        for topic, schema in SCHEMAS.items():
            if (topic, self._content) != ("/spikes", "frames"):
                schema_id = self._writer.register_schema(schema["title"], "jsonschema", msgspec.json.encode(schema))
                self._channels[topic] = self._writer.register_channel(topic, "json", schema_id)

    def _model(self, no: int) -> None:
        if no == self._model_no:
            return
        self._model_no, model = no, self._models[no]
        said = ModelInUse(
            no=no,
            sha256=model.sha256,
            features_id=model.program.features_id,
            labels=model.labels,
            temperature=model.temperature,
            threshold=model.threshold,
        )
        self._add("/models", said)

    def _add(self, topic: str, message: Any, stamp: int | None = None) -> None:
        self._write(topic, msgspec.json.encode(message), stamp)

    def _write(self, topic: str, data: bytes, stamp: int | None) -> None:
        log_time = _nanoseconds(self._clock.now())
        self._writer.add_message(self._channels[topic], log_time, data, log_time if stamp is None else stamp)

    def _correction(self, result: Result) -> None:
        if (result.row or 0) > self._row:  # its frame waits for an older one
            self._early.append(result)
            return
        stamp = _nanoseconds(result.time_s)
        self._add("/uploads", self._upload(result), stamp)
        self._add("/corrections", result.explain().facts, stamp)

    def _upload(self, result: Result) -> Upload:
        """What crossed the link for a result; its logits from the buffer, where the disk took them."""
        logits = b""
        if result.cloud is not None and result.row is not None:
            try:
                row = self._store.row(result.row)
            except StoreError:
                row = None
            logits = (row.logits if row is not None else None) or b""
        return Upload(
            frame=result.frame,
            row=result.row,
            bytes_sent=result.bytes_sent,
            bytes_received=result.bytes_received,
            labels=() if result.cloud is None else result.cloud.labels,
            logits=logits,
            bytes_later=result.bytes_later,
            encoder=result.encoder,
            encoder_why=result.encoder_why,
        )

    def _try(self, write: Callable[[], object]) -> None:
        with self._lock:
            if self._file is None:
                return
            try:
                write()
                self._file.flush()  # a chunk that is done reaches the system at once
                now = self._clock.monotonic()
                if now - self._chunk_s >= SECONDS_OPEN:
                    self._chunk_s = now
                    self._writer.flush()
            except OSError as exc:
                self._end()
                problem = f"{self.path}: nothing more is recorded ({exc.strerror}); free some space and start again"
            else:
                return
        self._failed(problem)

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what is still in its buffer may find no room either
                file.close()


def check_content(name: str) -> str:
    """The name; `DeviceError` for one that is not in `CONTENTS`."""
    if name not in CONTENTS:
        raise DeviceError(f"nothing is recorded as '{name:.20}'; choose one of: {', '.join(CONTENTS)}")
    return name


def _created(path: Path) -> IO[bytes]:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError as exc:
        raise DeviceError(f"{path}: exists already, and recordings are not written over; choose another name") from exc
    except OSError as exc:
        raise DeviceError(f"{path}: cannot be recorded to ({exc.strerror}); choose another place") from exc


def _nanoseconds(seconds: float) -> int:
    """As MCAP holds them: none before its zero, and none that is not a number."""
    return min(max(0, round(seconds * _BILLION)), _LAST) if math.isfinite(seconds) else 0


def _spikes(frame: Frame, split: Spikes, model: EdgeModel) -> SplitSpikes:
    return SplitSpikes(
        frame=frame.index,
        features_id=model.program.features_id,
        shape=split.shape,
        data=bits.pack(split),
    )
