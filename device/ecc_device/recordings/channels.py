"""What a recording holds: one channel for each kind of message, times in nanoseconds.

| topic        | schema                | one message for each                                                        |
|--------------|-----------------------|-----------------------------------------------------------------------------|
| /frames      | sensor_msgs/msg/Image | frame: its pixels; with `record_as="frames"`                                |
| /spikes      | ecc.Spikes            | frame: its spikes at the split point, packed; with `record_as="spikes"`     |
| /uploads     | ecc.Upload            | frame that was asked about, late answer: bytes, the cloud's logits, labels  |
| /decisions   | ecc.Decision          | frame: the result, and why; the pixels' shape, the true label               |
| /corrections | ecc.Decision          | late answer of the cloud: the corrected result                              |
| /models      | ecc.Model             | model that answers from the next frame on                                   |
| /updates     | ecc.Update            | end of an update                                                            |
| /events      | ecc.Event             | change of the link, cause of ill health, event of the robot                 |

Images are ROS 2 messages (CDR, see `ecc_device.recordings.images`), the rest is JSON with a JSON schema.
A frame's messages follow one another, its decision last. Model files are attachments, named `<sha256>.pt`. One
metadata record, `ecc-snn`, comes first: format, software, device, site, what is recorded, and the device's options.

"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

FORMAT = "1"
PROFILE = METADATA = "ecc-snn"
CONTENTS = ("frames", "spikes")  # what is recorded of a frame


class SplitSpikes(msgspec.Struct, frozen=True, kw_only=True):
    """A message of /spikes: those of one frame, (T, C, H, W), packed."""

    frame: int
    features_id: str
    shape: tuple[int, int, int, int]
    data: bytes


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A message of /uploads. labels and logits (float32 little endian): the cloud's answer, empty without one.

    bytes_later: of `bytes_sent`, in a second request. encoder, encoder_why: of a model with several, by which one.
    """

    frame: int
    row: int | None
    bytes_sent: int
    bytes_received: int
    labels: tuple[str, ...] = ()
    logits: bytes = b""
    bytes_later: int = 0
    encoder: str = ""
    encoder_why: str = ""


class DecidedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One side's answer in a decision."""

    label: str
    entropy: float
    probabilities: tuple[float, ...]


class DecidedBudget(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload budget allowed; see `ecc_device.budget.Spending`."""

    limit: str
    threshold: float | None
    used: float
    room: float
    backlog: tuple[int, ...]


class DecidedForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What was expected of the link."""

    asked: int
    late: int
    answer_s: float | None


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What a message of /decisions or /corrections says at least; the rest is `Result.explain`'s."""

    frame: int
    time_s: float
    label: str
    stands: str
    why: str
    score: float
    threshold: float
    edge: DecidedAnswer
    cloud: DecidedAnswer | None
    uploaded: bool
    bytes_sent: int
    bytes_received: int
    latency_s: float
    model_no: int
    row: int | None
    camera: str
    filter: str
    reason: str
    steps: int
    budget: DecidedBudget | None
    forecast: DecidedForecast | None
    truth: str | None = None
    shape: tuple[int, ...] = ()  # of the pixels; corrections do not say it again


class ModelInUse(msgspec.Struct, frozen=True, kw_only=True):
    """A message of /models."""

    no: int
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]  # becomes a file's name
    features_id: str
    labels: tuple[str, ...]
    temperature: float
    threshold: float


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A message of /updates."""

    accepted: bool
    reason: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A message of /events. kind: link, health or robot."""

    kind: str
    detail: str


INTEGER, NUMBER, TEXT, FLAG = ({"type": name} for name in ("integer", "number", "string", "boolean"))
BYTES = {"type": "string", "contentEncoding": "base64"}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _object(title: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "type": "object", "properties": properties}


_ANSWER = _object("answer", label=TEXT, entropy=NUMBER, probabilities=_list(NUMBER))
_SPIKES = _object("ecc.Spikes", frame=INTEGER, features_id=TEXT, shape=_list(INTEGER), data=BYTES)
_UPLOAD = _object(
    "ecc.Upload",
    frame=INTEGER,
    row=INTEGER,
    bytes_sent=INTEGER,
    bytes_received=INTEGER,
    bytes_later=INTEGER,
    encoder=TEXT,
    encoder_why=TEXT,
    labels=_list(TEXT),
    logits=BYTES,
)
_DECISION = _object(
    "ecc.Decision",
    frame=INTEGER,
    camera=TEXT,
    time_s=NUMBER,
    label=TEXT,
    stands=TEXT,
    why=TEXT,
    score=NUMBER,
    threshold=NUMBER,
    edge=_ANSWER,
    cloud=_ANSWER,
    truth=TEXT,
    shape=_list(INTEGER),
    uploaded=FLAG,
    bytes_sent=INTEGER,
    bytes_received=INTEGER,
    bytes_later=INTEGER,
    encoder=TEXT,
    encoder_why=TEXT,
    latency_s=NUMBER,
    model_no=INTEGER,
)
_MODEL = _object(
    "ecc.Model",
    no=INTEGER,
    sha256=TEXT,
    features_id=TEXT,
    labels=_list(TEXT),
    temperature=NUMBER,
    threshold=NUMBER,
)

SCHEMAS: dict[str, dict[str, Any]] = {
    "/spikes": _SPIKES,
    "/uploads": _UPLOAD,
    "/decisions": _DECISION,
    "/corrections": _DECISION,
    "/models": _MODEL,
    "/updates": _object("ecc.Update", accepted=FLAG, reason=TEXT),
    "/events": _object("ecc.Event", kind=TEXT, detail=TEXT),
}
"""Topic -> the JSON schema of its messages, but those of /frames; the title is the schema's name."""
