"""Named arrays in the safetensors format: 8 bytes of header length, a JSON header, the data.

Read from bytes that nobody vouches for: the header's length, entry count, shapes, types and offsets are checked
before anything is made, and the data must be covered exactly, without gaps or overlaps.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import ModelError

MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
_DTYPES: dict[str, np.dtype[Any]] = {
    "I8": np.dtype("<i1"),
    "U8": np.dtype("<u1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def dump(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialize little-endian int8, uint8, int16, int32, int64 and float32 arrays, in name order."""
    header: dict[str, Any] = {}
    chunks: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        dtype = tensor.dtype.newbyteorder("<")
        data = tensor.astype(dtype, copy=False).tobytes()
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        chunks.append(data)
        offset += len(data)
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *chunks])


def load(data: bytes | memoryview) -> dict[str, NDArray[Any]]:
    """Read-only arrays over `data`, copied only where they lie askew in it.

    `ModelError` for anything that `dump` would not have written.
    """
    if len(data) < 8:
        raise ModelError("tensors are cut off")
    (length,) = struct.unpack_from("<Q", data)
    if length > MAX_HEADER_BYTES or 8 + length > len(data):
        raise ModelError(f"a tensor header of {length} bytes in {len(data)} bytes")
    try:
        header = msgspec.json.decode(data[8 : 8 + length], type=dict[str, _Entry])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ModelError("the tensor header is not valid") from exc
    if len(header) > MAX_TENSORS:
        raise ModelError(f"{len(header)} tensors, at most {MAX_TENSORS} are read")
    body = memoryview(data)[8 + length :]
    end = 0
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1].data_offsets):
        start, end = _check(name, entry, end)
        if end > len(body):
            raise ModelError(f"tensor {name[:60]!r} lies outside of the data")
        tensor = np.frombuffer(body[start:end], dtype=_DTYPES[entry.dtype]).reshape(entry.shape)
        tensors[name] = tensor if tensor.flags.aligned else _aligned(tensor)
    if end != len(body):
        raise ModelError(f"{len(body) - end} bytes that belong to no tensor")
    return tensors


def _aligned(tensor: NDArray[Any]) -> NDArray[Any]:
    copied = tensor.copy()
    copied.flags.writeable = False
    return copied


def _check(name: str, entry: _Entry, previous_end: int) -> tuple[int, int]:
    if entry.dtype not in _DTYPES:
        raise ModelError(f"tensor {name[:60]!r} has the unknown type {entry.dtype[:20]!r}")
    if len(entry.shape) > MAX_DIMENSIONS or any(n < 1 or n > 2**31 for n in entry.shape):
        raise ModelError(f"tensor {name[:60]!r} has the shape {entry.shape[:MAX_DIMENSIONS]}")
    start, end = entry.data_offsets
    if start != previous_end or end - start != math.prod(entry.shape) * _DTYPES[entry.dtype].itemsize:
        raise ModelError(f"tensor {name[:60]!r}: its offsets do not fit its shape or its neighbours")
    return start, end
