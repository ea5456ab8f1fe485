"""Spikes with a rate table, in bare zstd frames, in parts, and with a checksum."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import SPARSE_SPIKES

from ecc_broker.codec import decode_spikes, encode_spikes
from ecc_model import bits, rangecoder, rates
from ecc_model.errors import WireError
from ecc_model.rates import LINEAR, RateTable
from support.golden import Golden
from support.rate_tables import KINDS, SHAPE, rate_table, sample
from support.rules import bits_of

TABLE = rate_table("channel+step+map+up+left")
CODE = bits_of(120, 21, 20).reshape(SHAPE)  # 15 bytes, and fewer with rates
NOISE = bits_of(120, 22, 50).reshape(SHAPE)
RAW_BYTES = 15
FLIPS = 10_000


def flat_table(shape: tuple[int, ...], rate: float) -> RateTable:
    return rates.tables(shape, "channel", np.full(shape[0] * shape[1], int(65536 * rate), np.uint16))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS), st.tuples(*[st.integers(1, 5)] * 4), st.integers(0, 100), st.integers(0, 999), st.booleans()
)
def test_spikes_round_trip(kind: str, shape: tuple[int, ...], percent: int, seed: int, checksum: bool) -> None:
    table = rate_table(kind, shape, seed)
    spikes = bits_of(int(np.prod(shape)), seed, percent).reshape(shape)
    data = encode_spikes(spikes, table, checksum=checksum)
    assert len(data) <= 1 + bits.packed_size(shape) + 2 * checksum
    assert data[0] in ((128, 130, 131) if checksum else (0, 2, 3))
    np.testing.assert_array_equal(decode_spikes(data, shape, table), spikes)
    for first in range(1, shape[0]):
        rest = encode_spikes(spikes, table, known=first, checksum=checksum)
        np.testing.assert_array_equal(decode_spikes(rest, shape, table, known=spikes[:first]), spikes)


def test_the_smallest_codec_is_taken() -> None:
    assert encode_spikes(CODE, TABLE)[0] == 3
    assert len(encode_spikes(CODE, TABLE)) == 1 + len(TABLE.encode(CODE)) < 1 + RAW_BYTES
    assert encode_spikes(NOISE, TABLE) == b"\0" + bits.pack(NOISE)
    ones = np.ones((2, 64, 8, 8), np.bool_)
    assert encode_spikes(ones, flat_table(ones.shape, 0.01))[0] == 2
    assert encode_spikes(ones, flat_table(ones.shape, 0.999))[0] == 3


def test_a_bare_frame_has_neither_magic_number_nor_size() -> None:
    ones = np.ones((2, 64, 8, 8), np.bool_)
    with_table, without = encode_spikes(ones, flat_table(ones.shape, 0.01)), encode_spikes(ones)
    assert (with_table[0], without[0]) == (2, 1)
    assert len(with_table) <= len(without) - 5
    assert without[1:5] == zstandard.FRAME_HEADER
    np.testing.assert_array_equal(decode_spikes(with_table, ones.shape), ones)


def test_without_a_table_nothing_is_new() -> None:
    for spikes in (CODE, NOISE, SPARSE_SPIKES, np.ones(8192, np.bool_)):
        assert encode_spikes(spikes)[0] in (0, 1)


def test_messages_are_as_long_as_the_model_says() -> None:
    table = rate_table(LINEAR)
    codes = sample(table, 8, 2000)
    sent = np.array([8 * (len(encode_spikes(code, table)) - 1) for code in codes])
    assert sent.mean() <= 1.01 * table.code_lengths(codes).mean() + 12
    assert sent.mean() < 0.9 * codes[0].size


def test_a_message_coded_with_rates_needs_them() -> None:
    with pytest.raises(WireError) as raised:
        decode_spikes(encode_spikes(CODE, TABLE), SHAPE)
    assert str(raised.value) == (
        "codec 3 needs the rate table of the sender's model; use the cloud.pt and vgg9.pt made together"
    )


def test_bytes_of_each_codec_never_change(golden: Golden) -> None:
    for kind in KINDS:
        table, spikes = rate_table(kind), sample(rate_table(kind), 3)[0]
        golden.check(f"wire/codec-spikes-rates-{kind.replace('+', '-')}.bin", b"\x03" + table.encode(spikes))
    golden.check("wire/codec-spikes-rates-checked.bin", encode_spikes(CODE, TABLE, checksum=True))
    golden.check("wire/codec-spikes-raw-checked.bin", encode_spikes(NOISE, checksum=True))
    data = golden.stored("wire/codec-spikes-bare-zstd.bin", encode_spikes(*bare()))
    assert data[0] == 2
    np.testing.assert_array_equal(decode_spikes(data, SPARSE_SPIKES.shape), SPARSE_SPIKES)


def bare() -> tuple[np.ndarray, RateTable]:
    return SPARSE_SPIKES, flat_table(SPARSE_SPIKES.shape, 0.9)


def frame(raw: bytes, *, magic: bool = False, size: bool = False) -> bytes:
    format_ = zstandard.FORMAT_ZSTD1 if magic else zstandard.FORMAT_ZSTD1_MAGICLESS
    parameters = zstandard.ZstdCompressionParameters.from_level(3, format=format_, write_content_size=size)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(raw)


RATES = encode_spikes(CODE, TABLE)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x03", "0 range coded bytes that no sender makes of 120 spikes"),
        (RATES + b"\0", "range coded bytes that no sender makes of 120 spikes"),
        (RATES + b"\1", "range coded bytes that no sender makes of 120 spikes"),
        (RATES[:-1] + b"\0", "range coded bytes that no sender makes of 120 spikes"),
        (b"\x03" + b"\xff" * 14, "14 range coded bytes that no sender makes of 120 spikes"),
        (b"\x03" + bytes(14), "14 range coded bytes that no sender makes of 120 spikes"),
        (b"\x03" + bytes(15), "15 range coded bytes where 15 raw ones would do"),
        (b"\x03" + bytes(100_000), "100000 range coded bytes where 15 raw ones would do"),
        (b"\x02", "a damaged zstd frame ("),
        (b"\x02" + frame(bytes(15), size=True), "a zstd frame that declares 15 bytes where none is declared"),
        (b"\x02" + frame(bytes(15), magic=True), "a damaged zstd frame ("),
        (b"\x02" + frame(bytes(14)), "a zstd frame of 14 bytes where 15 belong"),
        (b"\x02" + frame(bytes(16)), "a damaged zstd frame ("),
        (b"\x02" + frame(bytes(1 << 22)), "a damaged zstd frame ("),
        (b"\x02" + frame(bytes(15)) + b"\0", "a damaged zstd frame ("),
        (b"\x02" + frame(bytes(15))[:-1], "a damaged zstd frame ("),
        (b"\x01" + frame(bytes(15), magic=True), "a zstd frame that declares no size where 15 bytes belong"),
        (b"\x80", "a wrong checksum: the message was damaged on its way"),
        (b"\x80\0", "a wrong checksum: the message was damaged on its way"),
        (b"\xff\xff", "a wrong checksum: the message was damaged on its way"),
        (b"\x80\0\0", "a wrong checksum: the message was damaged on its way"),
        (b"\x80" + bytes(17), "a wrong checksum: the message was damaged on its way"),
        (b"\xff" + bytes(17), "a wrong checksum: the message was damaged on its way"),
    ],
)
def test_spikes_that_lie(data: bytes, text: str) -> None:
    with pytest.raises(WireError) as raised:
        decode_spikes(data, SHAPE, TABLE)
    assert text in str(raised.value)
    assert len(str(raised.value)) < 100


def test_a_checksum_is_looked_at_first() -> None:
    unknown = b"\x87" + bytes(15)
    with pytest.raises(WireError, match="wrong checksum"):
        decode_spikes(unknown + b"\0\0", SHAPE, TABLE)
    with pytest.raises(WireError, match="codec 7 is unknown"):
        decode_spikes(unknown + bytes.fromhex(f"{ccitt(unknown):04x}"), SHAPE, TABLE)


def ccitt(data: bytes) -> int:
    """CRC-16 by its definition: x^16 + x^12 + x^5 + 1, highest bit first, from 0xFFFF."""
    register = 0xFFFF
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1 ^ (0x1021 if register & 0x8000 else 0)) & 0xFFFF
    return register


def test_the_checksum_is_the_published_one() -> None:
    assert ccitt(b"123456789") == 0x29B1  # the check value of CRC-16/IBM-3740
    data = encode_spikes(CODE, TABLE, checksum=True)
    assert data[-2:] == ccitt(data[:-2]).to_bytes(2, "big")
    assert data[0] == 0x83
    assert data[1:-2] == encode_spikes(CODE, TABLE)[1:]


def test_every_flip_of_up_to_three_bits_is_noticed_where_there_is_a_checksum() -> None:
    data = encode_spikes(CODE, TABLE, checksum=True)
    chance = random.Random(4)
    number = int.from_bytes(data, "big")
    for count in (1, 2, 3):
        for _ in range(2000):
            mask = sum(1 << at for at in chance.sample(range(8 * len(data) - 8), count))  # the codec byte stays
            with pytest.raises(WireError, match="wrong checksum"):
                decode_spikes((number ^ mask).to_bytes(len(data), "big"), SHAPE, TABLE)


@pytest.mark.parametrize("kind", ["channel+step+map+up+left", LINEAR])
def test_ten_thousand_random_strings(kind: str) -> None:
    """Each is refused, or is the one string of its message."""
    table, chance = rate_table(kind), random.Random(kind)
    outcomes: Counter[str] = Counter()
    for _ in range(10_000):
        data = b"\x03" + chance.randbytes(chance.randrange(0, 15))
        try:
            spikes = decode_spikes(data, SHAPE, table)
        except WireError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert b"\x03" + table.encode(spikes) == data
    assert min(outcomes.values()) > 500


def test_flips_of_bytes_are_refused_or_another_message() -> None:
    chance = random.Random(24)
    samples = [encode_spikes(CODE, TABLE), encode_spikes(*bare()), encode_spikes(NOISE, TABLE)]
    shapes = [SHAPE, SPARSE_SPIKES.shape, SHAPE]
    for _ in range(FLIPS):
        which = chance.randrange(3)
        data = bytearray(samples[which])
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        try:
            spikes = decode_spikes(bytes(data), shapes[which], TABLE if which != 1 else None)
        except WireError:
            continue
        assert spikes.shape == shapes[which]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((2, 3, 5, 4), r"spikes of shape \(2, 3, 5, 4\) do not fit a rate table for \(2, 3, 4, 5\)"),
        ((3, 3, 4, 5), r"spikes of shape \(3, 3, 4, 5\) do not fit a rate table for \(2, 3, 4, 5\)"),
        ((120,), r"spikes of shape \(120,\) do not fit a rate table for \(2, 3, 4, 5\)"),
    ],
)
def test_a_table_for_other_spikes_is_refused_on_both_sides(shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(WireError, match=text):
        encode_spikes(np.zeros(shape, np.bool_), TABLE)
    with pytest.raises(WireError, match=text):
        decode_spikes(b"\x03\x01", shape, TABLE)


@pytest.mark.parametrize("known", [(2, 3, 4, 5), (1, 3, 5, 4), (1, 3, 4), (3, 3, 4, 5)])
def test_known_steps_that_are_none_of_these_spikes_are_refused(known: tuple[int, ...]) -> None:
    with pytest.raises(WireError, match=r"known spikes of shape .* are no leading steps of shape \(2, 3, 4, 5\)"):
        decode_spikes(b"\x03\x01", SHAPE, TABLE, known=np.zeros(known, np.bool_))


def test_a_message_without_a_step_is_not_sent() -> None:
    with pytest.raises(WireError, match=r"^shape \(0, 3, 4, 5\) of spikes; sides must be positive"):
        encode_spikes(CODE, TABLE, known=2)


def test_later_steps_can_be_sent_in_every_codec() -> None:
    for spikes, table, codec in ((CODE, TABLE, 3), (NOISE, TABLE, 0), (*bare(), 2), (SPARSE_SPIKES, None, 1)):
        data = encode_spikes(spikes, table, known=1)
        assert data[0] == codec
        np.testing.assert_array_equal(decode_spikes(data, spikes.shape, table, known=spikes[:1]), spikes)


def test_both_coders_send_the_same_message(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = {kind: encode_spikes(CODE, rate_table(kind)) for kind in KINDS}
    monkeypatch.setattr(rangecoder, "library", lambda: None)
    assert {kind: encode_spikes(CODE, rate_table(kind)) for kind in KINDS} == messages


def test_hostile_messages_do_not_grow_memory() -> None:
    """The largest code there may be, in a process that may take 96 MiB more than it has."""
    done = subprocess.run([sys.executable, "-c", LARGEST], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (["65536 range coded bytes"] * 3 + ["no spike fired"], "")


LARGEST = """
import resource
import numpy as np
import psutil
from ecc_broker.codec import decode_spikes
from ecc_model import rates
from ecc_model.errors import WireError

shape = (2, 64, 128, 128)
table = rates.tables(shape, "channel", np.full(128, 3000, np.uint16))
decode_spikes(b"\\x03\\x01", shape, table)
room = psutil.Process().memory_info().vms + (96 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
for body in (b"\\xff" * 65536, bytes(65536), b"\\xaa" * 65535 + b"\\0", b"\\0"):
    try:
        fired = decode_spikes(b"\\x03" + body, shape, table).any()
        print("no spike fired" if not fired else "read")
    except WireError as error:
        print(str(error).partition(" that")[0])
"""
