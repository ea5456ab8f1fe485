"""Spikes, pixels and logits as bytes: one codec byte, then the data.

| codec byte | for            | what follows                                                            |
|------------|----------------|-------------------------------------------------------------------------|
| 0          | spikes, pixels | the raw bytes: packed bits or one byte for each pixel                    |
| 1          | spikes, pixels | one zstd frame of those raw bytes, its content size declared             |
| 2          | spikes         | one zstd frame of those raw bytes, without magic number and content size |
| 3          | spikes         | range coded with the rate table of the model (`ecc_model.rates`)         |

128 is added where the last two bytes are a checksum. The sender takes the codec that makes the message smallest: 0 and
1 for any receiver, 2 and 3 for one that is known to have the rate table, which programs before them cannot read.

The receiver knows the shape, so it knows the size of the raw bytes before it reads the first one: what declares or
holds any other size is refused before anything is allocated. Whatever does not fit raises `WireError`.
"""

from __future__ import annotations

import binascii
import math

import numpy as np
import zstandard
from numpy.typing import NDArray

from ecc_model import bits
from ecc_model.bits import Spikes
from ecc_model.errors import WireError
from ecc_model.rates import RateTable

RAW = 0
ZSTD = 1
BARE_ZSTD = 2
RATES = 3
CHECKED = 128  # flag: a checksum of `CHECKSUM_BYTES` ends the message
CHECKSUM_BYTES = 2

MAX_SPIKES = 1 << 21  # 256 KiB of packed bits
MAX_PIXELS = 8 * 1024 * 1024  # bytes: one full HD frame of three channels takes 6 MiB
MAX_CLASSES = 4096
LOGIT_BYTES = 4  # float32, little endian

_SPIKE_CODECS = {RAW: "raw", ZSTD: "zstd", BARE_ZSTD: "bare zstd", RATES: "rate table"}
_PIXEL_CODECS = {RAW: "raw", ZSTD: "zstd"}
_ZSTD_LEVEL = 3
_MAX_WINDOW_BYTES = 8 * 1024 * 1024  # a frame that asks its reader for a larger window is refused
_LOGIT = np.dtype("<f4")


def encode_spikes(spikes: Spikes, table: RateTable | None = None, *, known: int = 0, checksum: bool = False) -> bytes:
    """Spikes (any shape; (t, C, H, W) with a table) as codec byte and data, in whichever codec is smallest.

    table: the receiver's rate table for these spikes. known: leading steps that the receiver has, and that are left
    out. checksum: two bytes more, for links that may turn bits. Inverse of `decode_spikes`.
    """
    _checked_count(spikes.shape, MAX_SPIKES, "spikes")
    if known:
        _checked_count(spikes[known:].shape, MAX_SPIKES, "spikes")
    raw = bits.pack(spikes[known:])
    if table is None:
        data = _smallest({RAW: raw, ZSTD: _compressed(raw)})
    else:
        data = _smallest({RAW: raw, BARE_ZSTD: _bare(raw), RATES: table.encode(spikes, known)})
    return _with_checksum(data) if checksum else data


def decode_spikes(
    data: bytes, shape: tuple[int, ...], table: RateTable | None = None, *, known: Spikes | None = None
) -> Spikes:
    """Spikes of `shape` from codec byte and data.

    known: the leading steps, where only later ones were sent; `shape` counts them too. `WireError`: unknown codec,
    wrong number of bytes, padding bits set, a damaged zstd frame or one with anything behind it, a rate table that is
    needed and not given, bytes that its coder would not have made, a wrong checksum, or a shape that is not positive
    or holds more than `MAX_SPIKES`.
    """
    _checked_count(shape, MAX_SPIKES, "spikes")
    rest = shape
    if known is not None:
        if known.shape[1:] != tuple(shape[1:]) or not len(known) < shape[0]:
            raise WireError(f"known spikes of shape {known.shape} are no leading steps of shape {tuple(shape)}")
        rest = (shape[0] - len(known), *shape[1:])
    codec, body = _opened(_without_checksum(data), _SPIKE_CODECS)
    size = bits.packed_size(rest)
    if codec == RATES:
        return _decode_rates(body, size, shape, table, known)
    spikes = bits.unpack(_raw(codec, body, size), rest)
    return spikes if known is None else np.concatenate([known, spikes])


def encode_pixels(frame: NDArray[np.uint8]) -> bytes:
    """Pixels (H, W, C) or (T, H, W, C) as codec byte and data. Inverse of `decode_pixels`."""
    _checked_count(frame.shape, MAX_PIXELS, "pixels")
    raw = np.ascontiguousarray(frame, dtype=np.uint8).tobytes()
    return _smallest({RAW: raw, ZSTD: _compressed(raw)})


def decode_pixels(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Pixels of `shape` from codec byte and data; `WireError` as in `decode_spikes`. The array is read-only."""
    count = _checked_count(shape, MAX_PIXELS, "pixels")
    codec, body = _opened(data, _PIXEL_CODECS)
    return np.frombuffer(_raw(codec, body, count), dtype=np.uint8).reshape(shape)


def encode_logits(logits: NDArray[np.floating]) -> bytes:
    """Logits (classes,) as float32, little endian. Inverse of `decode_logits`."""
    data = np.asarray(logits).astype(_LOGIT).tobytes()
    decode_logits(data)
    return data


def decode_logits(data: bytes) -> NDArray[np.float32]:
    """Logits (classes,) from float32, little endian. `WireError` if none, too many, torn, NaN or infinite."""
    count, rest = divmod(len(data), LOGIT_BYTES)
    if rest or not 1 <= count <= MAX_CLASSES:
        raise WireError(f"{len(data)} bytes of logits; expected {LOGIT_BYTES} for each of 1 to {MAX_CLASSES} classes")
    logits = np.frombuffer(data, dtype=_LOGIT)
    if not np.isfinite(logits).all():
        raise WireError("logits hold NaN or infinity")
    return logits.astype(np.float32)


def _checked_count(shape: tuple[int, ...], limit: int, what: str) -> int:
    """Product of `shape`, in exact integers; `WireError` unless every side is positive and the product allowed."""
    count = math.prod(int(side) for side in shape)
    if not shape or min(shape) < 1 or count > limit:
        raise WireError(f"shape {tuple(shape)} of {what}; sides must be positive and hold at most {limit} in all")
    return count


def _smallest(bodies: dict[int, bytes]) -> bytes:
    """Codec byte and data of the smallest codec; of equal ones the first."""
    codec = min(bodies, key=lambda codec: len(bodies[codec]))
    return bytes([codec]) + bodies[codec]


def _compressed(raw: bytes) -> bytes:
    frame: bytes = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=True).compress(raw)
    return frame


def _bare(raw: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _ZSTD_LEVEL, source_size=len(raw), format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
    )
    frame: bytes = zstandard.ZstdCompressor(compression_params=parameters).compress(raw)
    return frame


def _with_checksum(data: bytes) -> bytes:
    data = bytes([data[0] | CHECKED]) + data[1:]
    return data + _checksum(data)


def _without_checksum(data: bytes) -> bytes:
    """The same data without its checksum, if there is one and it is right."""
    if not data or not data[0] & CHECKED:
        return data
    end = len(data) - CHECKSUM_BYTES
    if end < 1 or _checksum(data[:end]) != data[end:]:
        raise WireError("a wrong checksum: the message was damaged on its way")
    return bytes([data[0] - CHECKED]) + data[1:end]


def _checksum(data: bytes) -> bytes:
    """CRC-16 (CCITT, from 0xFFFF) of codec byte and data, big endian."""
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(CHECKSUM_BYTES, "big")


def _opened(data: bytes, codecs: dict[int, str]) -> tuple[int, bytes]:
    """Codec and what follows it."""
    if not data:
        raise WireError("no codec byte")
    if data[0] not in codecs:
        *some, last = (f"{codec} ({name})" for codec, name in codecs.items())
        raise WireError(f"codec {data[0]} is unknown; this version reads {', '.join(some)} and {last}")
    return data[0], data[1:]


def _decode_rates(
    body: bytes, size: int, shape: tuple[int, ...], table: RateTable | None, known: Spikes | None
) -> Spikes:
    if table is None:
        raise WireError(
            f"codec {RATES} needs the rate table of the sender's model; use the cloud.pt and vgg9.pt made together"
        )
    if len(body) >= size:
        raise WireError(f"{len(body)} range coded bytes where {size} raw ones would do")
    if tuple(shape[1:]) != tuple(table.shape[1:]):
        raise WireError(f"spikes of shape {tuple(shape)} do not fit a rate table for {tuple(table.shape)}")
    return table.decode(body, shape[0], known)


def _raw(codec: int, body: bytes, size: int) -> bytes:
    """The raw bytes, exactly `size` of them."""
    if codec == RAW:
        if len(body) != size:
            raise WireError(f"{len(body)} raw bytes where {size} belong")
        return body
    frame_format = zstandard.FORMAT_ZSTD1_MAGICLESS if codec == BARE_ZSTD else zstandard.FORMAT_ZSTD1
    declares = zstandard.CONTENTSIZE_UNKNOWN if codec == BARE_ZSTD else size
    return _decompressed(body, size, frame_format, declares)


def _decompressed(frame: bytes, size: int, frame_format: int, declares: int) -> bytes:
    """One zstd frame of exactly `size` bytes. Its declared size is compared first, so no bomb can grow."""
    try:
        declared = zstandard.get_frame_parameters(frame, frame_format).content_size
        if declared != declares:
            told = "no size" if declared == zstandard.CONTENTSIZE_UNKNOWN else f"{declared} bytes"
            wanted = "none is declared" if declares == zstandard.CONTENTSIZE_UNKNOWN else f"{size} bytes belong"
            raise WireError(f"a zstd frame that declares {told} where {wanted}")
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES, format=frame_format)
        raw: bytes = reader.decompress(frame, max_output_size=size, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise WireError(f"a damaged zstd frame ({exc})") from exc
    if len(raw) != size:
        raise WireError(f"a zstd frame of {len(raw)} bytes where {size} belong")
    return raw
