"""Spikes, pixels and logits as bytes: one codec byte, then the data.

| codec byte | what follows                                                  |
|------------|---------------------------------------------------------------|
| 0          | the raw bytes: packed bits (spikes) or one byte each (pixels) |
| 1          | one zstd frame of those raw bytes, its content size declared  |

The receiver knows the shape, so it knows the size of the raw bytes before it reads the first one: a frame that
declares any other size is refused before anything is allocated. Whatever does not fit raises `WireError`.
"""

from __future__ import annotations

import math

import numpy as np
import zstandard
from numpy.typing import NDArray

from ecc_model import bits
from ecc_model.errors import WireError

RAW = 0
ZSTD = 1

MAX_SPIKES = 1 << 21  # 256 KiB of packed bits
MAX_PIXELS = 8 * 1024 * 1024  # bytes: one full HD frame of three channels takes 6 MiB
MAX_CLASSES = 4096
LOGIT_BYTES = 4  # float32, little endian

_ZSTD_LEVEL = 3
_MAX_WINDOW_BYTES = 8 * 1024 * 1024  # a frame that asks its reader for a larger window is refused
_LOGIT = np.dtype("<f4")


def encode_spikes(spikes: NDArray[np.bool_]) -> bytes:
    """Spikes (any shape) as codec byte and data, in whichever codec is smaller. Inverse of `decode_spikes`."""
    _checked_count(spikes.shape, MAX_SPIKES, "spikes")
    return _smallest(bits.pack(spikes))


def decode_spikes(data: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Spikes of `shape` from codec byte and data.

    `WireError`: unknown codec, wrong number of bytes, padding bits set, a damaged zstd frame or one with anything
    behind it, or a shape that is not positive or holds more than `MAX_SPIKES`.
    """
    _checked_count(shape, MAX_SPIKES, "spikes")
    return bits.unpack(_raw(data, bits.packed_size(shape)), shape)


def encode_pixels(frame: NDArray[np.uint8]) -> bytes:
    """Pixels (H, W, C) or (T, H, W, C) as codec byte and data. Inverse of `decode_pixels`."""
    _checked_count(frame.shape, MAX_PIXELS, "pixels")
    return _smallest(np.ascontiguousarray(frame, dtype=np.uint8).tobytes())


def decode_pixels(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Pixels of `shape` from codec byte and data; `WireError` as in `decode_spikes`. The array is read-only."""
    count = _checked_count(shape, MAX_PIXELS, "pixels")
    return np.frombuffer(_raw(data, count), dtype=np.uint8).reshape(shape)


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


def _smallest(raw: bytes) -> bytes:
    """Codec byte and data of the smaller codec; raw on a tie."""
    packed = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=True).compress(raw)
    return bytes([ZSTD]) + packed if len(packed) < len(raw) else bytes([RAW]) + raw


def _raw(data: bytes, size: int) -> bytes:
    """The raw bytes behind the codec byte, exactly `size` of them."""
    if not data:
        raise WireError("no codec byte")
    codec, body = data[0], data[1:]
    if codec == RAW:
        if len(body) != size:
            raise WireError(f"{len(body)} raw bytes where {size} belong")
        return body
    if codec == ZSTD:
        return _decompressed(body, size)
    raise WireError(f"codec {codec} is unknown; this version reads {RAW} (raw) and {ZSTD} (zstd)")


def _decompressed(frame: bytes, size: int) -> bytes:
    """One zstd frame of exactly `size` bytes. Its declared size is compared first, so no bomb can grow."""
    try:
        declared = zstandard.get_frame_parameters(frame).content_size
        if declared != size:
            told = "no size" if declared == zstandard.CONTENTSIZE_UNKNOWN else f"{declared} bytes"
            raise WireError(f"a zstd frame that declares {told} where {size} bytes belong")
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        raw: bytes = reader.decompress(frame, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise WireError(f"a damaged zstd frame ({exc})") from exc
    return raw
