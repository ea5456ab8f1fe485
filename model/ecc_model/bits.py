"""Spike tensors as packed bits: what is stored and what travels."""

from __future__ import annotations

import math

import numpy as np
from bitarray import bitarray
from numpy.typing import NDArray

from ecc_model.errors import WireError

Spikes = NDArray[np.bool_]


def packed_size(shape: tuple[int, ...]) -> int:
    """Bytes that a spike tensor of `shape` takes when packed: `ceil(T * C * H * W / 8)`."""
    return (math.prod(shape) + 7) // 8


def pack(spikes: Spikes) -> bytes:
    """Spikes, any shape, C order, first spike in the highest bit; the last byte is padded with zeros."""
    bits = bitarray(endian="big")
    bits.pack(np.ascontiguousarray(spikes, dtype=np.bool_).tobytes())
    return bits.tobytes()


def unpack(data: bytes, shape: tuple[int, ...]) -> Spikes:
    """Inverse of `pack`. `WireError` if the length does not fit `shape` or a padding bit is set."""
    count = math.prod(shape)
    if len(data) != packed_size(shape):
        raise WireError(f"{len(data)} bytes of spikes where shape {shape} takes {packed_size(shape)}")
    bits = bitarray(endian="big")
    bits.frombytes(data)
    if bits[count:].any():
        raise WireError(f"padding bits are set after the {count} spikes of shape {shape}")
    return np.frombuffer(bits[:count].unpack(), dtype=np.bool_).reshape(shape)
