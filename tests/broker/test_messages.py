"""Messages and their golden bytes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from samples import EVERY, FLAT_PIXELS, ID4, LOGITS, MESSAGES, PIXELS, SPARSE_SPIKES, SPIKES, ZSTD_MESSAGES

from ecc_broker.codec import decode_pixels, decode_spikes, encode_spikes
from ecc_broker.messages import (
    BAD_REQUEST,
    BUSY,
    EXPIRED,
    MORE_STEPS,
    REFUSALS,
    UNKNOWN_FEATURES,
    UNKNOWN_STEPS,
    Command,
    Event,
    FeaturesRequest,
    FrameRequest,
    Labels,
    Reply,
    Status,
    WireMessage,
    decode,
    encode,
)
from ecc_model.errors import WireError
from support.golden import Golden


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_of_a_message_never_change(golden: Golden, name: str) -> None:
    message = MESSAGES[name]
    golden.check(f"wire/{name}.bin", encode(message))
    assert decode(type(message), encode(message)) == message


@pytest.mark.parametrize("name", ZSTD_MESSAGES)
def test_message_with_zstd_stays_readable(golden: Golden, name: str) -> None:
    message = ZSTD_MESSAGES[name]
    stored = decode(type(message), golden.stored(f"wire/{name}.bin", encode(message)))
    assert _opened(stored) == _opened(message)


def test_request_with_16_bytes_of_spikes_takes_32_bytes() -> None:
    request = FeaturesRequest(65535, ID4, 2, 200, encode_spikes(SPIKES))
    payload = encode(request)
    #     array  id        features_id     steps  budget  spikes
    parts = [1, 1 + 2, 2 + len(ID4), 1, 1 + 1, 2 + 1 + 16]
    assert len(payload) == sum(parts) == 32


def test_golden_samples_hold_what_they_say() -> None:
    assert np.array_equal(decode_spikes(EVERY["features-raw"].spikes, SPIKES.shape), SPIKES)  # type: ignore[attr-defined]
    zstd = EVERY["features-zstd"].spikes  # type: ignore[attr-defined]
    assert zstd[0] == 1
    assert np.array_equal(decode_spikes(zstd, SPARSE_SPIKES.shape), SPARSE_SPIKES)
    frame = EVERY["frame-raw"]
    assert isinstance(frame, FrameRequest)
    assert frame.shape == PIXELS.shape
    assert np.array_equal(decode_pixels(frame.pixels, frame.shape), PIXELS)
    frames = EVERY["frame-zstd"]
    assert isinstance(frames, FrameRequest)
    assert frames.shape == FLAT_PIXELS.shape
    reply = EVERY["reply-logits"]
    assert isinstance(reply, Reply)
    assert np.array_equal(reply.values(), LOGITS)


@pytest.mark.parametrize("name", EVERY)
def test_fields_that_only_newer_programs_know_are_ignored(name: str) -> None:
    message = EVERY[name]
    newer = msgspec.msgpack.encode([*msgspec.structs.astuple(message), {"unit": "mJ"}, [1, [2, [3]]], None])
    assert decode(type(message), newer) == message


def test_reply_of_an_older_worker_without_refusal_fields_is_an_answer() -> None:
    older = msgspec.msgpack.encode([5, ID4, LOGITS.tobytes()])
    assert decode(Reply, older) == Reply(5, ID4, LOGITS.tobytes(), 0, "")


def test_messages_of_programs_that_know_no_leading_steps_are_read_and_sent_as_ever() -> None:
    older = msgspec.msgpack.encode([5, ID4, 2, 200, b"\0ab"])
    assert decode(FeaturesRequest, older) == FeaturesRequest(5, ID4, 2, 200, b"\0ab", 0)
    assert encode(FeaturesRequest(5, ID4, 2, 200, b"\0ab")) == older
    labels = msgspec.msgpack.encode([ID4, ["x"], [ID4]])
    assert decode(Labels, labels) == Labels(ID4, ("x",), (ID4,), ())
    assert encode(Labels(ID4, ("x",), (ID4,))) == labels


def test_the_rest_of_a_code_takes_one_byte_more() -> None:
    whole, rest = FeaturesRequest(5, ID4, 2, 200, b"\0ab"), FeaturesRequest(5, ID4, 2, 200, b"\0ab", 1)
    assert len(encode(rest)) == len(encode(whole)) + 1
    assert decode(FeaturesRequest, encode(rest)) == rest


def test_refusals_have_names_and_unknown_ones_a_number() -> None:
    assert (UNKNOWN_FEATURES, BAD_REQUEST, BUSY, EXPIRED, MORE_STEPS, UNKNOWN_STEPS) == (1, 2, 3, 4, 5, 6)
    assert [Reply(1, ID4, b"", number).reason for number in REFUSALS] == [
        "unknown-features",
        "bad-request",
        "busy",
        "expired",
        "more-steps",
        "unknown-steps",
    ]
    assert decode(Reply, encode(Reply(1, ID4, b"", 9))).reason == "refusal-9"
    assert Reply(1, ID4, LOGITS.tobytes()).reason == ""


NAN = np.float32("nan").tobytes()
INF = np.float32("inf").tobytes()


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        (FeaturesRequest, [0, ID4, 2, 200, b"ab"], "Expected `int` >= 1 - at `$[0]`"),
        (FeaturesRequest, [2**63, ID4, 2, 200, b"ab"], "Expected `int` <= 9223372036854775807 - at `$[0]`"),
        (FeaturesRequest, [True, ID4, 2, 200, b"ab"], "Expected `int`, got `bool`"),
        (FeaturesRequest, [1.0, ID4, 2, 200, b"ab"], "Expected `int`, got `float`"),
        (FeaturesRequest, [1, b"abc", 2, 200, b"ab"], "Expected `bytes` of length >= 4 - at `$[1]`"),
        (FeaturesRequest, [1, b"abcde", 2, 200, b"ab"], "Expected `bytes` of length <= 4 - at `$[1]`"),
        (FeaturesRequest, [1, "abcd", 2, 200, b"ab"], "Expected `bytes`, got `str` - at `$[1]`"),
        (FeaturesRequest, [1, ID4, 0, 200, b"ab"], "Expected `int` >= 1 - at `$[2]`"),
        (FeaturesRequest, [1, ID4, 2**31, 200, b"ab"], "Expected `int` <= 16 - at `$[2]`"),
        (FeaturesRequest, [1, ID4, 2, -1, b"ab"], "Expected `int` >= 0 - at `$[3]`"),
        (FeaturesRequest, [1, ID4, 2, 600_001, b"ab"], "Expected `int` <= 600000 - at `$[3]`"),
        (FeaturesRequest, [1, ID4, 2, 200, b"a"], "Expected `bytes` of length >= 2 - at `$[4]`"),
        (FeaturesRequest, [1, ID4, 2, 200], "Expected `array` of at least length 5, got 4"),
        (FeaturesRequest, [1, ID4, 2, 200, b"ab", 16], "Expected `int` <= 15 - at `$[5]`"),
        (FeaturesRequest, [1, ID4, 2, 200, b"ab", -1], "Expected `int` >= 0 - at `$[5]`"),
        (FeaturesRequest, [1, ID4, 2, 200, b"ab", 15], "2 steps of spikes behind 15; at most 16 are allowed in all"),
        (FrameRequest, [1, 0, 17, 4, 4, 3, b"ab"], "Expected `int` <= 16 - at `$[2]`"),
        (FrameRequest, [1, 0, 0, 0, 4, 3, b"ab"], "Expected `int` >= 1 - at `$[3]`"),
        (FrameRequest, [1, 0, 0, 4, 4097, 3, b"ab"], "Expected `int` <= 4096 - at `$[4]`"),
        (FrameRequest, [1, 0, 0, 4, 4, 4, b"ab"], "Expected `int` <= 3 - at `$[5]`"),
        (FrameRequest, [1, 0, 0, 4096, 4096, 3, b"ab"], "a frame of shape (4096, 4096, 3); at most 8388608 pixels"),
        (Reply, [0, ID4, LOGITS.tobytes()], "a reply to id 0 that is no bad-request"),
        (Reply, [0, ID4, b"", BUSY], "a reply to id 0 that is no bad-request"),
        (Reply, [1, ID4, b""], "0 bytes of logits; expected 4 for each of 1 to 4096 classes"),
        (Reply, [1, ID4, b"abcde"], "5 bytes of logits; expected 4 for each of 1 to 4096 classes"),
        (Reply, [1, ID4, bytes(4 * 4097)], "Expected `bytes` of length <= 16384 - at `$[2]`"),
        (Reply, [1, ID4, NAN], "logits hold NaN or infinity"),
        (Reply, [1, ID4, bytes(4) + INF], "logits hold NaN or infinity"),
        (Reply, [1, ID4, bytes(4), BUSY], "a reply with both logits and a refusal"),
        (Reply, [1, ID4, b"", 256], "Expected `int` <= 255 - at `$[3]`"),
        (Reply, [1, ID4, b"", BUSY, "x" * 201], "Expected `str` of length <= 200 - at `$[4]`"),
        (Reply, [1, ID4, b"", BUSY, "a\x1b[2Jb"], "text with characters that cannot be printed: 'a\\x1b[2Jb'"),
        (Labels, [ID4, [], []], "Expected `array` of length >= 1 - at `$[1]`"),
        (Labels, [ID4, ["x"] * 4097, []], "Expected `array` of length <= 4096 - at `$[1]`"),
        (Labels, [ID4, ["x" * 65], []], "Expected `str` of length <= 64 - at `$[1][0]`"),
        (Labels, [ID4, [""], []], "Expected `str` of length >= 1 - at `$[1][0]`"),
        (Labels, [ID4, ["a\nb"], []], "text with characters that cannot be printed: 'a\\nb'"),
        (Labels, [ID4, ["x"], [b"abc"]], "Expected `bytes` of length >= 4 - at `$[2][0]`"),
        (Labels, [ID4, ["x"], [ID4] * 65], "Expected `array` of length <= 64 - at `$[2]`"),
        (Labels, [ID4, ["x"], [ID4] * 2, [[1, 30]]], "leading steps of 1 features where 2 are read"),
        (Labels, [ID4, ["x"], [ID4], [[16, 30]]], "Expected `int` <= 15 - at `$[3][0][0]`"),
        (Labels, [ID4, ["x"], [ID4], [[1, 101]]], "Expected `int` <= 100 - at `$[3][0][1]`"),
        (Labels, [ID4, ["x"], [ID4], [[1]]], "Expected `array` of at least length 2, got 1"),
        (Status, ["asleep", ID4, 0, "0.1.0"], "Invalid enum value 'asleep' - at `$[0]`"),
        (Status, ["online", ID4, -1, "0.1.0"], "Expected `int` >= 0 - at `$[2]`"),
        (Status, ["online", ID4, 0, ""], "Expected `str` of length >= 1 - at `$[3]`"),
        (Command, ["reboot"], "Invalid enum value 'reboot' - at `$[0]`"),
        (Command, [], "Expected `array` of at least length 1, got 0"),
        (Event, ["update", float("nan"), ""], "an event whose time is NaN or infinite"),
        (Event, ["update", float("inf"), ""], "an event whose time is NaN or infinite"),
        (Event, ["", 1.0, ""], "Expected `str` of length >= 1 - at `$[0]`"),
        (Event, {"kind": "update"}, "Expected `array`, got `object`"),
    ],
)
def test_what_is_no_message_says_why(kind: type[WireMessage], fields: object, text: str) -> None:
    with pytest.raises(WireError) as raised:
        decode(kind, msgspec.msgpack.encode(fields))
    assert str(raised.value).startswith(f"not a valid {kind.__name__}: {text}")


@pytest.mark.parametrize("kind", [type(message) for message in EVERY.values()])
def test_size_is_checked_before_anything_is_read(kind: type[WireMessage]) -> None:
    with pytest.raises(
        WireError, match=rf"^a {kind.__name__} of {kind.max_bytes + 1} bytes; at most {kind.max_bytes} "
    ):
        decode(kind, bytes(kind.max_bytes + 1))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (FeaturesRequest(2**65, ID4, 2, 0, b"ab"), "not a valid FeaturesRequest: can't serialize ints"),
        (FeaturesRequest(1, ID4, 2, 600_001, b"ab"), "not a valid FeaturesRequest: Expected `int` <= 600000"),
        (
            FeaturesRequest(1, ID4, 2, 0, bytes(300_000)),
            "a FeaturesRequest of 300015 bytes; at most 262144 are allowed",
        ),
        (Command("reboot"), "not a valid Command: Invalid enum value 'reboot'"),  # type: ignore[arg-type]
    ],
)
def test_sender_cannot_encode_what_a_receiver_would_refuse(message: WireMessage, text: str) -> None:
    with pytest.raises(WireError) as raised:
        encode(message)
    assert str(raised.value).startswith(text)


def _opened(message: WireMessage) -> tuple[object, ...]:
    """The fields of a request, its spikes or pixels as plain bytes."""
    fields = msgspec.structs.astuple(message)
    if isinstance(message, FeaturesRequest):
        return (*fields[:4], decode_spikes(message.spikes, SPARSE_SPIKES.shape).tobytes())
    assert isinstance(message, FrameRequest)
    return (*fields[:-1], decode_pixels(message.pixels, message.shape).tobytes())
