"""Reading a recording: as a source of frames, and step by step with what was decided."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from ecc_device.frame import DEFAULT_RATE_HZ, Frame
from ecc_device.mcapfile import McapFile
from ecc_device.recordings.channels import (
    CONTENTS,
    FORMAT,
    METADATA,
    PROFILE,
    Decided,
    Event,
    ModelInUse,
    SplitSpikes,
    Update,
    Upload,
)
from ecc_device.recordings.images import decode_image
from ecc_model import bits
from ecc_model.errors import DeviceError, SourceError, WireError

MAX_ROW_BYTES = 1 << 20  # of packed spikes
_TYPES: dict[str, Any] = {
    "/frames": None,  # an image, as bytes
    "/spikes": SplitSpikes,
    "/uploads": Upload,
    "/decisions": Decided,
    "/corrections": Decided,
    "/models": ModelInUse,
    "/updates": Update,
    "/events": Event,
}
NO_PIXELS = np.empty((0, 0, 1), np.uint8)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Late:
    """A late answer of the cloud: what crossed the link, and the corrected result."""

    upload: Upload
    correction: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One frame of a source; of a recording with its decision, what crossed the link for it, and what happened since
    the frame before, in its order.
    """

    frame: Frame
    decision: dict[str, Any] = field(default_factory=dict)
    upload: Upload | None = None
    before: tuple[ModelInUse | Late, ...] = ()
    offset: int = 0  # of the frame's number, where a recording is played again and again


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a recording: when, by the device's clock, on which topic, what."""

    time_s: float
    topic: str
    message: Any


@dataclass
class _Census:
    frames: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    labels: set[str] = field(default_factory=set)
    shape: tuple[int, ...] = ()
    models: list[ModelInUse] = field(default_factory=list)


class Recording:
    """One recording, as a `Source` and more; read once from end to end when it is opened.

    A file that ends early is a recording up to its last whole chunk; `cut_off` says so in words.
    `SourceError`: no recording, one of another version, or without a single frame.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path
        self._file = McapFile(path)
        about = self._metadata()
        if about.get("format") != FORMAT:
            raise SourceError(
                f"{path}: a recording in format {about.get('format', '?'):.20}, this version of ecc-snn reads format "
                f"{FORMAT}; replay it with the version that made it ({about.get('software', 'unknown'):.20})"
            )
        self.device, self.site = about.get("device", ""), about.get("site", "")
        self.content = about.get("content", "")
        self.options = self._options(about.get("options", "{}"))
        census = self._census()
        self.cut_off: str | None = self._file.cut_off
        self.models: tuple[ModelInUse, ...] = tuple(census.models)
        self.shape = census.shape
        self.length: int | None = census.frames
        self.labels: tuple[str, ...] | None = tuple(sorted(census.labels)) or None
        self.first_s, self.last_s = census.first_s, census.last_s
        spread_s = census.last_s - census.first_s
        self.rate_hz = (census.frames - 1) / spread_s if census.frames > 1 and spread_s > 0 else DEFAULT_RATE_HZ

    def __iter__(self) -> Iterator[Frame]:
        return (step.frame for step in self.steps())

    def close(self) -> None:
        """Nothing is held open between two readings."""

    def steps(self) -> Iterator[Step]:
        """Every frame that has its decision, in the order in which they were classified."""
        seen: bytes | SplitSpikes | None = None
        before: list[ModelInUse | Late] = []
        upload: Upload | None = None
        for said in self.said("/frames", "/spikes", "/uploads", "/decisions", "/corrections", "/models"):
            match said.topic, said.message:
                case "/models", model:
                    before.append(model)
                case "/uploads", crossed:
                    upload = crossed  # of what the next message is about
                case "/corrections", correction:
                    if upload is not None and upload.frame == correction["frame"]:
                        before.append(Late(upload, correction))
                    upload = None
                case "/decisions", decision:
                    if seen is not None:
                        crossed = upload if upload is not None and upload.frame == decision["frame"] else None
                        yield Step(self._frame(seen, decision), decision, crossed, tuple(before))
                        before = []
                    seen = upload = None
                case _, picture:
                    seen = picture

    def decisions(self) -> Iterator[dict[str, Any]]:
        """The decisions alone, in their order."""
        return (said.message for said in self.said("/decisions"))

    def said(self, *topics: str) -> Iterator[Said]:
        """The messages of some topics, in the file's order. `SourceError` for one that is not what its topic holds."""
        channels: dict[int, str] = {}
        decoders = {topic: msgspec.json.Decoder(_TYPES[topic]) for topic in topics if topic != "/frames"}
        for record in self._file.records("Channel", "Message"):
            topic = getattr(record, "topic", None)
            if topic is not None:
                channels[record.id] = topic
            elif (topic := channels.get(record.channel_id, "")) in topics:
                message = record.data if topic == "/frames" else self._decoded(topic, decoders[topic], record.data)
                if isinstance(message, Decided):
                    message = msgspec.json.decode(record.data)  # with all that newer versions say
                yield Said(record.log_time / 1e9, topic, message)

    def write_models(self, folder: Path) -> None:
        """Write the attached model files to `folder`, as `<sha256>.pt`; those that are what their names say."""
        for attachment in self._file.records("Attachment"):
            name = f"{hashlib.sha256(attachment.data).hexdigest()}.pt"
            if attachment.name == name and any(name == f"{model.sha256}.pt" for model in self.models):
                (folder / attachment.name).write_bytes(attachment.data)

    def _metadata(self) -> dict[str, str]:
        for record in self._file.records("Metadata"):
            if record.name == METADATA:
                return dict(record.metadata)
        if self._file.cut_off is not None:
            raise SourceError(f"{self.path}: {self._file.cut_off} before its first frame; record again")
        raise SourceError(
            f"{self.path}: an MCAP file, but no recording of ecc-snn; as a source of images name its topic: "
            f"{self.path}#/camera/image_raw"
        )

    def _options(self, text: str) -> dict[str, Any]:
        try:
            options = json.loads(text)
        except ValueError:
            options = None
        if not isinstance(options, dict):
            raise SourceError(f"{self.path}: its metadata is damaged; copy it again")
        return options

    def _census(self) -> _Census:
        """What the frames with a decision are like; their pixels are not looked at."""
        census, seen = _Census(), False
        for said in self.said("/frames", "/spikes", "/decisions", "/models"):
            if said.topic == "/models":
                census.models.append(said.message)
            elif said.topic != "/decisions":
                seen = True
            elif seen:
                decision, seen = said.message, False
                if not census.frames:
                    census.first_s, census.shape = decision["time_s"], tuple(decision.get("shape", ()))
                census.frames += 1
                census.last_s = decision["time_s"]
                if decision.get("truth") is not None:
                    census.labels.add(decision["truth"])
        if not census.frames or not census.models or self.content not in CONTENTS:
            raise SourceError(f"{self.path}: a recording without a whole frame; record again")
        return census

    def _decoded(self, topic: str, decoder: msgspec.json.Decoder[T], data: bytes) -> T:
        with self._typed(topic):
            return decoder.decode(data)

    @contextlib.contextmanager
    def _typed(self, topic: str) -> Iterator[None]:
        try:
            yield
        except (msgspec.MsgspecError, WireError, ValueError, KeyError, TypeError) as exc:
            raise SourceError(f"{self.path}: a message on {topic} is not one of ours ({exc}); record again") from exc

    def _frame(self, seen: bytes | SplitSpikes, decision: dict[str, Any]) -> Frame:
        with self._typed("/frames" if isinstance(seen, bytes) else "/spikes"):
            if isinstance(seen, bytes):
                pixels, spikes = decode_image(seen, tuple(decision.get("shape", ()))), None
            elif len(seen.data) > MAX_ROW_BYTES:
                raise ValueError(f"{len(seen.data)} bytes of spikes")
            else:
                pixels, spikes = NO_PIXELS, bits.unpack(seen.data, seen.shape)
        return Frame(decision["frame"], decision["time_s"], pixels, decision.get("truth"), decision["camera"], spikes)


def explained(recording: Recording, frame: int) -> dict[str, Any]:
    """The facts of one frame's decision, as corrected by a late answer; `DeviceError` for a frame that is not there."""
    found: dict[str, Any] | None = None
    for said in recording.said("/decisions", "/corrections"):
        if said.message["frame"] == frame:
            found = said.message
    if found is None:
        raise DeviceError(f"{recording.name}: has no frame {frame}; it holds {recording.length} frames")
    return found


def is_recording(path: Path) -> bool:
    """Whether an MCAP file is one of ours, cut off or not; `SourceError` if it is no MCAP file at all."""
    return any(record.profile == PROFILE for record in McapFile(path).records("Header"))
