"""Whatever the bytes are: a valid message, or `WireError`."""

from __future__ import annotations

import random
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import EVERY, ID4, SPARSE_SPIKES, SPIKES

from ecc_broker.codec import decode_pixels, decode_spikes
from ecc_broker.messages import (
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
from ecc_broker.topics import TOPICS
from ecc_model.errors import WireError

KINDS: list[type[WireMessage]] = [row.message for row in TOPICS]
FLIPS = 10_000


def read(kind: type[WireMessage], payload: bytes) -> WireMessage | None:
    """All that a receiver does with a payload. None: it raised `WireError`. Any other error fails the test."""
    try:
        message = decode(kind, payload)
        assert encode(message)
        if isinstance(message, FeaturesRequest):
            known = SPIKES[: message.known] if message.known else None
            part = (message.known + message.steps, *SPIKES.shape[1:])
            decode_spikes(message.spikes, part if len(message.spikes) <= 17 else SPARSE_SPIKES.shape, known=known)
        if isinstance(message, FrameRequest):
            decode_pixels(message.pixels, message.shape)
        if isinstance(message, Reply) and not message.refusal:
            message.values()
    except WireError:
        return None
    return message


def test_every_message_has_a_sample() -> None:
    assert {type(message) for message in EVERY.values()} == set(KINDS)


@pytest.mark.parametrize("name", EVERY)
def test_truncated_at_every_byte(name: str) -> None:
    message = EVERY[name]
    payload = encode(message)
    assert read(type(message), payload) == message
    for length in range(len(payload)):
        assert read(type(message), payload[:length]) is None, length


@pytest.mark.parametrize("name", EVERY)
def test_a_byte_too_many(name: str) -> None:
    message = EVERY[name]
    for byte in range(256):
        assert read(type(message), encode(message) + bytes([byte])) is None


def test_single_byte_flips() -> None:
    chance = random.Random(24)
    samples = [(type(message), encode(message)) for message in EVERY.values()]
    outcomes = {True: 0, False: 0}
    for _ in range(FLIPS):
        kind, payload = chance.choice(samples)
        at = chance.randrange(len(payload))
        flipped = payload[:at] + bytes([payload[at] ^ chance.randrange(1, 256)]) + payload[at + 1 :]
        outcomes[read(kind, flipped) is None] += 1
    assert min(outcomes.values()) > FLIPS // 10  # both happen: the flips reach structure and content


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_random_bytes(kind: type[WireMessage], payload: bytes) -> None:
    read(kind, payload)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.lists(ANYTHING, max_size=8))
def test_random_fields(kind: type[WireMessage], fields: list[object]) -> None:
    read(kind, msgspec.msgpack.encode(fields))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(EVERY.values())), st.integers(0, 7), ANYTHING)
def test_one_field_replaced(message: WireMessage, index: int, value: object) -> None:
    fields = list(msgspec.structs.astuple(message))
    fields[index % len(fields)] = value
    read(type(message), msgspec.msgpack.encode(fields))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 2**63 - 1),
    st.binary(min_size=4, max_size=4),
    st.integers(1, 16),
    st.integers(0, 600_000),
    st.binary(min_size=2, max_size=300),
)
def test_valid_requests_round_trip(id_: int, features_id: bytes, steps: int, budget_ms: int, spikes: bytes) -> None:
    request = FeaturesRequest(id_, features_id, steps, budget_ms, spikes)
    assert decode(FeaturesRequest, encode(request)) == request


HUGE = [b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"]  # array, map, bytes, text, extension with 32 bits of length


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opening", HUGE)
def test_declared_sizes_that_are_not_there(kind: type[WireMessage], opening: bytes) -> None:
    assert read(kind, opening + b"\xff\xff\xff\xff") is None
    for count in range(8):
        inside = bytes([0x90 + 8]) + b"\x01" * count + opening + b"\xff\xff\xff\xff"
        assert read(kind, inside) is None


@pytest.mark.parametrize("opening", [b"\x91", b"\x81", b"\xdc\x00\x01", b"\x81\x01", b"\xd8\x05"])
@pytest.mark.parametrize("name", EVERY)
def test_depth_bombs(name: str, opening: bytes) -> None:
    message = EVERY[name]
    kind = type(message)
    room = kind.max_bytes // len(opening)
    assert read(kind, opening * room) is None
    fields = len(msgspec.structs.astuple(message))
    in_a_later_field = bytes([0x90 + fields + 1]) + encode(message)[1:]
    for depth in (10, 10_000):
        bomb = in_a_later_field + opening * min(depth, (kind.max_bytes - len(in_a_later_field)) // len(opening))
        assert read(kind, bomb) is None


@pytest.mark.parametrize("kind", KINDS)
def test_map_of_a_million_keys(kind: type[WireMessage]) -> None:
    million = b"\xdf" + (1_000_000).to_bytes(4, "big") + b"\x01\x02" * 1_000_000
    assert read(kind, million) is None
    assert read(kind, b"\x91" + million) is None


def test_map_with_the_same_key_twice_is_no_message() -> None:
    assert read(Command, b"\x82\xa5event\xa8charging\xa5event\xa7offline") is None


@pytest.mark.parametrize("kind", [Labels, Status, Command, Event, Reply])
@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
def test_text_that_is_not_utf8(kind: type[WireMessage], text: bytes) -> None:
    word = bytes([0xA0 + len(text)]) + text
    id4 = b"\xc4\x04" + ID4
    payload = {
        Labels: b"\x93" + id4 + b"\x91" + word + b"\x90",
        Status: b"\x94\xa6online" + id4 + b"\x00" + word,
        Command: b"\x91" + word,
        Event: b"\x93" + word + b"\xcb" + bytes(8) + b"\xa0",
        Reply: b"\x95\x01" + id4 + b"\xc4\x00\x03" + word,
    }[kind]
    assert read(kind, payload) is None


def test_bombs_do_not_grow_memory() -> None:
    """In a process that may take 64 MiB more than it has: one bomb that opened would end it."""
    done = subprocess.run([sys.executable, "-c", BOMBS], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "not a valid Labels: Expected `array` of length <= 4096 - at `$[1]`",
        "a zstd frame that declares 1073741824 bytes where 8192 bytes belong",
        "a zstd frame that declares no size where 8192 bytes belong",
        "a damaged zstd frame",
        "a damaged zstd frame",
    ]


BOMBS = """
import resource
import psutil
from ecc_broker.codec import decode_spikes
from ecc_broker.messages import Labels, decode
from ecc_model.errors import WireError

def frame(header, blocks):  # zstd: each block is 128 KiB of one repeated byte in 4 bytes
    block = (128 * 1024 << 3 | 2).to_bytes(3, "little") + b"\\\\0"
    last = (128 * 1024 << 3 | 3).to_bytes(3, "little") + b"\\\\0"
    return b"\\\\x01\\\\x28\\\\xb5\\\\x2f\\\\xfd" + header + block * (blocks - 1) + last

def told(size):  # frame header: content size in 4 bytes, window as large as the content
    return b"\\\\xa0" + size.to_bytes(4, "little")

bombs = [
    frame(told(1 << 30), 8192),    # honest: 32 KiB that open to 1 GiB
    frame(b"\\\\x00\\\\x58", 8192),    # the same without its size
    frame(told(8192), 8192),       # lies: tells the size that belongs there
    frame(b"\\\\x80\\\\x58" + (8192).to_bytes(4, "little"), 256),  # 1 KiB that opens to 32 MiB, in a window of 2 MiB
]
room = psutil.Process().memory_info().vms + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
array = b"\\\\x93\\\\xc4\\\\x04abcd\\\\xdd\\\\x0f\\\\xff\\\\xff\\\\xff"
for attempt in [lambda: decode(Labels, array)] + [lambda bomb=bomb: decode_spikes(bomb, (65536,)) for bomb in bombs]:
    try:
        attempt()
    except WireError as error:
        print(str(error).partition(" (")[0])
""".replace("\\\\", "\\")
