"""Spikes, pixels and logits as bytes."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from samples import FLAT_PIXELS, LOGITS, PIXELS, SPARSE_SPIKES, SPIKES

from ecc_broker.codec import (
    MAX_PIXELS,
    MAX_SPIKES,
    decode_logits,
    decode_pixels,
    decode_spikes,
    encode_logits,
    encode_pixels,
    encode_spikes,
)
from ecc_model.errors import WireError
from support.golden import Golden

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=9)


@settings(max_examples=200, deadline=None)
@given(arrays.arrays(np.bool_, SHAPES))
def test_spikes_round_trip(spikes: np.ndarray) -> None:
    data = encode_spikes(spikes)
    decoded = decode_spikes(data, spikes.shape)
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, spikes)
    assert len(data) <= 1 + (spikes.size + 7) // 8


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.uint8, SHAPES))
def test_pixels_round_trip(pixels: np.ndarray) -> None:
    data = encode_pixels(pixels)
    assert np.array_equal(decode_pixels(data, pixels.shape), pixels)
    assert len(data) <= 1 + pixels.size


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), SHAPES)
def test_random_bytes_are_spikes_or_wire_error(data: bytes, shape: tuple[int, ...]) -> None:
    try:
        spikes = decode_spikes(data, shape)
    except WireError:
        return
    assert spikes.shape == shape


def test_codec_is_chosen_by_size() -> None:
    assert encode_spikes(SPIKES) == b"\x00" + np.packbits(SPIKES).tobytes()
    sparse = encode_spikes(SPARSE_SPIKES)
    assert sparse[0] == 1
    assert len(sparse) < 30
    assert encode_pixels(PIXELS)[0] == 0
    assert encode_pixels(FLAT_PIXELS)[0] == 1


def test_bytes_of_each_codec_never_change(golden: Golden) -> None:
    golden.check("wire/codec-spikes-raw.bin", encode_spikes(SPIKES))
    golden.check("wire/codec-pixels-raw.bin", encode_pixels(PIXELS))
    golden.check("wire/codec-logits.bin", encode_logits(LOGITS))
    spikes = golden.stored("wire/codec-spikes-zstd.bin", encode_spikes(SPARSE_SPIKES))
    assert np.array_equal(decode_spikes(spikes, SPARSE_SPIKES.shape), SPARSE_SPIKES)
    pixels = golden.stored("wire/codec-pixels-zstd.bin", encode_pixels(FLAT_PIXELS))
    assert np.array_equal(decode_pixels(pixels, FLAT_PIXELS.shape), FLAT_PIXELS)


READS = "this version reads 0 (raw), 1 (zstd), 2 (bare zstd) and 3 (rate table)"


def zstd(raw: bytes) -> bytes:
    return b"\x01" + zstandard.ZstdCompressor().compress(raw)


@pytest.mark.parametrize(
    ("data", "shape", "text"),
    [
        (b"", (8,), "no codec byte"),
        (b"\x04ab", (8,), f"codec 4 is unknown; {READS}"),
        (b"\x7fab", (8,), f"codec 127 is unknown; {READS}"),
        (b"\x00", (8,), "0 raw bytes where 1 belong"),
        (b"\x00ab", (8,), "2 raw bytes where 1 belong"),
        (b"\x00\x01", (7,), "padding bits are set after the 7 spikes of shape (7,)"),
        (zstd(b"\x01"), (7,), "padding bits are set after the 7 spikes of shape (7,)"),
        (zstd(bytes(63)), (512,), "a zstd frame that declares 63 bytes where 64 bytes belong"),
        (zstd(bytes(65)), (512,), "a zstd frame that declares 65 bytes where 64 bytes belong"),
        (zstd(bytes(64)) + b"\x00", (512,), "a damaged zstd frame ("),
        (zstd(bytes(64)) + zstd(b"")[1:], (512,), "a damaged zstd frame ("),
        (zstd(bytes(64))[:-1], (512,), "a damaged zstd frame ("),
        (b"\x01not a zstd frame", (512,), "a damaged zstd frame ("),
        (b"\x01", (512,), "a damaged zstd frame ("),
        (zstd(zstd(bytes(64))), (512,), "a zstd frame that declares"),
        (b"\x00a", (), "shape () of spikes; sides must be positive"),
        (b"\x00a", (0, 8), "shape (0, 8) of spikes; sides must be positive"),
        (b"\x00a", (-2, -4), "shape (-2, -4) of spikes; sides must be positive"),
        (b"\x00a", (2**31, 8), "shape (2147483648, 8) of spikes; sides must be positive and hold at most 2097152"),
        (b"\x00a", (2**32, 2**32), "shape (4294967296, 4294967296) of spikes; sides must be positive"),
        (b"\x00a", (MAX_SPIKES + 1,), "shape (2097153,) of spikes; sides must be positive"),
    ],
)
def test_spikes_that_lie(data: bytes, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(WireError) as raised:
        decode_spikes(data, shape)
    assert str(raised.value).startswith(text)


def test_shape_of_numpy_integers_cannot_overflow() -> None:
    shape = tuple(np.array([2**32, 2**32], dtype=np.int64))
    with pytest.raises(WireError, match="sides must be positive and hold at most 2097152 in all"):
        decode_spikes(b"\x00a", shape)


def test_frame_of_too_many_pixels_is_refused_on_both_sides() -> None:
    with pytest.raises(WireError, match=f"sides must be positive and hold at most {MAX_PIXELS} in all"):
        encode_pixels(np.zeros((MAX_PIXELS + 1, 1, 1), dtype=np.uint8))
    with pytest.raises(WireError, match=f"sides must be positive and hold at most {MAX_PIXELS} in all"):
        decode_pixels(b"\x00", (16, 4096, 4096, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_logits_that_are_no_numbers_are_refused_on_both_sides(value: float) -> None:
    with pytest.raises(WireError, match="logits hold NaN or infinity"), np.errstate(over="ignore"):
        encode_logits(np.array([1.0, value]))
    with pytest.raises(WireError, match="logits hold NaN or infinity"):
        decode_logits(np.array([1.0, np.nan], dtype="<f4").tobytes())


@pytest.mark.parametrize("codec", [2, 3, 128, 129, 255])
def test_codecs_of_spikes_are_none_of_pixels(codec: int) -> None:
    with pytest.raises(WireError, match=rf"^codec {codec} is unknown; this version reads 0 \(raw\) and 1 \(zstd\)$"):
        decode_pixels(bytes([codec]) + bytes(16), (4, 4, 1))


def test_logits_are_little_endian_everywhere() -> None:
    assert encode_logits(np.array([1.0, -2.0], dtype=">f8")) == bytes.fromhex("0000803f000000c0")
    assert decode_logits(bytes.fromhex("0000803f000000c0")).tolist() == [1.0, -2.0]
    assert decode_logits(bytes.fromhex("0000803f")).dtype == np.float32
