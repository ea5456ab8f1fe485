"""The messages that cross the link, as msgpack arrays.

A message is an array of its fields in the order below, nothing else: 32 bytes for a request with 16 bytes of
spikes. Messages only ever grow at the end, each new field with a default, so that older and newer programs read
each other (the numbered rules are in docs/wire.md). `decode` is the only way in: size first, then structure, then
the ranges below. Whatever fails raises `WireError`.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ecc_broker import codec
from ecc_model.errors import WireError

MAX_ID = 2**63 - 1
MAX_BUDGET_MS = 600_000
MAX_STEPS = 16

REFUSALS = {
    1: "unknown-features",
    2: "bad-request",
    3: "busy",
    4: "expired",
    5: "more-steps",  # the leading steps leave too much open
    6: "unknown-steps",  # the leading steps are not here any more
}
UNKNOWN_FEATURES, BAD_REQUEST, BUSY, EXPIRED, MORE_STEPS, UNKNOWN_STEPS = REFUSALS

RequestId = Annotated[int, Meta(ge=1, le=MAX_ID)]
Hash4 = Annotated[bytes, Meta(min_length=4, max_length=4)]
BudgetMs = Annotated[int, Meta(ge=0, le=MAX_BUDGET_MS)]
Side = Annotated[int, Meta(ge=1, le=4096)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Word = Annotated[str, Meta(min_length=1, max_length=32)]
Detail = Annotated[str, Meta(max_length=200)]
Percent = Annotated[int, Meta(ge=0, le=100)]


class WireMessage(msgspec.Struct, frozen=True, array_like=True):
    """Base of all messages. `max_bytes` is the cap on a whole encoded message, checked before decoding."""

    max_bytes: ClassVar[int]
    appended: ClassVar[tuple[Any, ...]] = ()
    """Defaults of the last fields, those that came later: they travel only where one of them says something else."""


class FeaturesRequest(WireMessage, frozen=True, array_like=True):
    """A device asks for logits of the spikes at its split point: of all time steps, or of the leading ones first."""

    max_bytes: ClassVar[int] = 256 * 1024
    appended: ClassVar[tuple[Any, ...]] = (0,)

    id: RequestId
    """Chosen by the device, never used again by it; the reply carries it back."""
    features_id: Hash4
    """First 4 bytes of the hash of the device's head and encoder."""
    steps: Annotated[int, Meta(ge=1, le=MAX_STEPS)]
    """Of the spikes in this message."""
    budget_ms: BudgetMs
    """Longer than this in the worker's own queue, and the answer is `expired`. 0: no deadline."""
    spikes: Annotated[bytes, Meta(min_length=2)]
    """Codec byte and data: `codec.decode_spikes`."""
    known: Annotated[int, Meta(ge=0, lt=MAX_STEPS)] = 0
    """Leading steps that went up before, under the same id: the spikes are those behind them."""

    def __post_init__(self) -> None:
        if self.known + self.steps > MAX_STEPS:
            raise WireError(f"{self.steps} steps of spikes behind {self.known}; at most {MAX_STEPS} are allowed in all")


class FrameRequest(WireMessage, frozen=True, array_like=True):
    """A device asks for logits of a whole frame."""

    max_bytes: ClassVar[int] = codec.MAX_PIXELS + 1024

    id: RequestId
    budget_ms: BudgetMs
    steps: Annotated[int, Meta(ge=0, le=MAX_STEPS)]
    """T frames, or 0 for one static image."""
    height: Side
    width: Side
    channels: Annotated[int, Meta(ge=1, le=3)]
    pixels: Annotated[bytes, Meta(min_length=2)]
    """Codec byte and data: `codec.decode_pixels` with `shape`."""

    def __post_init__(self) -> None:
        if math.prod(self.shape) > codec.MAX_PIXELS:
            raise WireError(f"a frame of shape {self.shape}; at most {codec.MAX_PIXELS} pixels are allowed")

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C) of a static image, (T, H, W, C) otherwise."""
        image = (self.height, self.width, self.channels)
        return (self.steps, *image) if self.steps else image


class Reply(WireMessage, frozen=True, array_like=True):
    """A worker's answer to one request: logits, or a refusal with its reason."""

    max_bytes: ClassVar[int] = 20 * 1024

    id: Annotated[int, Meta(ge=0, le=MAX_ID)]
    """The request's id; 0 only in a `bad-request` whose id could not be read."""
    labels_id: Hash4
    """Which names the logits belong to: see `Labels`."""
    logits: Annotated[bytes, Meta(max_length=codec.MAX_CLASSES * codec.LOGIT_BYTES)]
    """float32, little endian, one for each class; empty in a refusal."""
    refusal: Annotated[int, Meta(ge=0, le=255)] = 0
    """0: answered; else a key of `REFUSALS`, or one that only newer programs know."""
    detail: Detail = ""
    """Why it was refused, for people."""

    def __post_init__(self) -> None:
        if self.refusal and self.logits:
            raise WireError("a reply with both logits and a refusal")
        if not self.refusal:
            codec.decode_logits(self.logits)
        if self.id == 0 and self.refusal != BAD_REQUEST:
            raise WireError("a reply to id 0 that is no bad-request")
        _check_printable(self.detail)

    @property
    def reason(self) -> str:
        """The refusal's name, "" if there is none; a number this version does not know is named by itself."""
        return REFUSALS.get(self.refusal, f"refusal-{self.refusal}") if self.refusal else ""

    def values(self) -> NDArray[np.float32]:
        """Logits (classes,); `WireError` in a refusal."""
        return codec.decode_logits(self.logits)


class Leading(msgspec.Struct, frozen=True, array_like=True):
    """How features may come in two messages; an array inside of `Labels`."""

    steps: Annotated[int, Meta(ge=0, lt=MAX_STEPS)]
    """Leading steps that may come first, and be answered alone; 0: none."""
    more: Percent
    """Share of such messages that are answered with `more-steps`."""


class Labels(WireMessage, frozen=True, array_like=True):
    """What a site's workers answer with and which features they read. Retained."""

    max_bytes: ClassVar[int] = 256 * 1024
    appended: ClassVar[tuple[Any, ...]] = ((),)

    labels_id: Hash4
    names: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=codec.MAX_CLASSES)]
    features: Annotated[tuple[Hash4, ...], Meta(max_length=64)]
    leading: Annotated[tuple[Leading, ...], Meta(max_length=64)] = ()
    """One for each of `features`, or none at all: whole messages only."""

    def __post_init__(self) -> None:
        if self.leading and len(self.leading) != len(self.features):
            raise WireError(f"leading steps of {len(self.leading)} features where {len(self.features)} are read")
        for name in self.names:
            _check_printable(name)


class Status(WireMessage, frozen=True, array_like=True):
    """What a device runs. Retained; "offline" is its last will."""

    max_bytes: ClassVar[int] = 256

    state: Literal["online", "offline"]
    features_id: Hash4
    model_no: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    """Counts the device's updates; 0 is the model it was delivered with."""
    version: Word
    """Of ecc-snn."""

    def __post_init__(self) -> None:
        _check_printable(self.version)


class Command(WireMessage, frozen=True, array_like=True):
    """An operator tells a device what is happening to it."""

    max_bytes: ClassVar[int] = 64

    event: Literal["charging", "undocked", "offline", "online"]


class Event(WireMessage, frozen=True, array_like=True):
    """A device tells its site what happened: "update", "health"."""

    max_bytes: ClassVar[int] = 1024

    kind: Word
    time_s: float
    """Seconds since 1970, or of the recording in a replay."""
    detail: Detail

    def __post_init__(self) -> None:
        if not math.isfinite(self.time_s):
            raise WireError("an event whose time is NaN or infinite")
        _check_printable(self.kind)
        _check_printable(self.detail)


MessageT = TypeVar("MessageT", bound=WireMessage)
_encoder = msgspec.msgpack.Encoder()


def encode(message: WireMessage) -> bytes:
    """The message's bytes. `WireError` if a receiver would refuse them, so a mistake shows where it was made."""
    fields = msgspec.structs.astuple(message)
    for default in reversed(message.appended):
        if fields[-1] != default:
            break
        fields = fields[:-1]
    try:
        payload = _encoder.encode(fields)
    except (TypeError, ValueError, OverflowError) as exc:
        raise WireError(f"not a valid {type(message).__name__}: {exc}") from exc
    decode(type(message), payload)
    return payload


def decode(kind: type[MessageT], payload: bytes) -> MessageT:
    """The message of type `kind` in `payload`; `WireError` for anything else, whatever the bytes are."""
    if len(payload) > kind.max_bytes:
        raise WireError(f"a {kind.__name__} of {len(payload)} bytes; at most {kind.max_bytes} are allowed")
    try:
        message: MessageT = _decoder(kind).decode(payload)
    except WireError as exc:
        raise WireError(f"not a valid {kind.__name__}: {exc}") from exc
    # msgspec lets invalid UTF-8 and too deep nesting through as Python's own errors
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise WireError(f"not a valid {kind.__name__}: {exc}") from exc
    return message


@functools.cache
def _decoder(kind: type[MessageT]) -> msgspec.msgpack.Decoder[MessageT]:
    return msgspec.msgpack.Decoder(kind)


def _check_printable(text: str) -> None:
    """Text from the link ends on terminals: no control characters, no line breaks."""
    if not text.isprintable():
        raise WireError(f"text with characters that cannot be printed: {text[:40]!r}")
