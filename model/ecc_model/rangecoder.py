"""Binary range coder with fixed probabilities: bits in as few bytes as their rates allow, and back.

A message is a number in [0, 1). From the whole interval on, each bit takes its part of what is left:

    one = floor(range * rate / 2^16)       a zero keeps the lower `range - one`, a one the upper `one`

with the rates of ones in units of 1/65536, 1 to 65535, so that nothing is ever impossible, and in integers, so that
every processor counts alike. `range` is a 32-bit number, shifted by bytes to stay at 2^24 or above. The message's bytes
are digits to the base 256: the shortest string whose number lies in the last interval, and of those the smallest. Zeros
at the end are left out, but one byte there always is. So a message has exactly one string, and all others are refused.

The C library does the work where it is installed, the twin below elsewhere: the same bytes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import ModelError, WireError
from ecc_model.native import library
from ecc_model.rate_rules import Bits, Rule

Cells = NDArray[np.uint8]

ONE = 1 << 16  # a rate of 1, which no table may hold
_TOP = 1 << 24
_WORD = (1 << 32) - 1
_ROOM = -2  # ECC_ROOM in native.h


class _CRule(ctypes.Structure):
    """`struct ecc_rule`."""

    _fields_ = (
        ("table", ctypes.c_void_p),
        ("table_size", ctypes.c_size_t),
        ("first", ctypes.c_size_t),
        ("last", ctypes.c_size_t),
        ("size", ctypes.c_size_t),
        ("cells", ctypes.c_size_t),
        ("contexts", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("offset_count", ctypes.c_size_t),
        ("bias", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
    )


def encode(rule: Rule, bits: Bits, first: int = 0) -> bytes:
    """The bytes of `bits[first:]` (flat, at most as many as the rule knows) for a receiver that has `bits[:first]`."""
    if bits.ndim != 1 or not 0 <= first < len(bits) <= rule.size:
        raise WireError(f"{bits.shape} spikes, {first} of them known, for a rate table of {rule.size}")
    cells = _cells(rule, bits)
    data = _encode(rule, cells, first, len(bits), 17 * len(bits) // 8 + 8)  # a bit takes 16 and rounding
    if data is None:
        raise ModelError("the range coder ran out of room")
    return data


def decode(rule: Rule, data: bytes, count: int, known: Bits | None = None) -> Bits:
    """Bits (count,), the first of them `known`; inverse of `encode`.

    Time and memory go with `count`, whatever the bytes are. `WireError` for any string but the one that `encode` makes.
    """
    known = np.zeros(0, np.bool_) if known is None else known
    first = len(known)
    if not first < count <= rule.size:
        raise WireError(f"{count} spikes, {first} of them known, for a rate table of {rule.size}")
    cells = _cells(rule, known)
    if (native := library()) is None:
        _decode_twin(rule, cells, data, first, count)
    else:
        _call(native.ecc_range_decode, rule, cells, first, count, data, len(data))
    if _encode(rule, cells, first, count, len(data)) != data:
        raise WireError(f"{len(data)} range coded bytes that no sender makes of {count - first} spikes")
    return cells[rule.places[:count]].astype(np.bool_)


def _cells(rule: Rule, bits: Bits) -> Cells:
    cells = np.zeros(rule.cells, np.uint8)
    cells[rule.places[: len(bits)]] = bits
    return cells


def _encode(rule: Rule, cells: Cells, first: int, last: int, capacity: int) -> bytes | None:
    """None if the bytes are more than `capacity`."""
    if (native := library()) is None:
        data = _encode_twin(rule, cells, first, last)
        return data if len(data) <= capacity else None
    out, length = np.empty(capacity, np.uint8), ctypes.c_size_t()
    arguments = (out.ctypes.data, capacity, ctypes.byref(length))
    return (
        out[: length.value].tobytes() if _call(native.ecc_range_encode, rule, cells, first, last, *arguments) else None
    )


def _call(function: Any, rule: Rule, cells: Cells, first: int, last: int, *arguments: Any) -> bool:
    """Whether the output had room."""
    sums = np.empty(rule.size, np.int32)
    struct = _CRule(first=first, last=last, sums=sums.ctypes.data, **rule.c_fields)
    status = function(ctypes.byref(struct), cells.ctypes.data, *arguments)
    if status not in (0, _ROOM):
        raise ModelError(f"the C library refuses a rate table ({status})")
    return bool(status == 0)


# ---- the twin ----


def _encode_twin(rule: Rule, cells: Cells, first: int, last: int) -> bytes:
    view, places = cells.data, rule.places.data
    following = rule.follow(view, first)
    out = bytearray()
    low, width = 0, _WORD
    for i in range(first, last):
        one = width * following.rate(i) >> 16
        if view[places[i]]:
            low, width = low + width - one, one
            if low > _WORD:
                low &= _WORD
                _carry(out)
            following.fired(i)
        else:
            width -= one
        while width < _TOP:
            out.append(low >> 24)
            low, width = low << 8 & _WORD, width << 8
    if low + width > _WORD + 1:
        _carry(out)
    elif low:
        out.append(-(-low >> 24))
    return bytes(out).rstrip(b"\0") or b"\0"


def _carry(out: bytearray) -> None:
    last = len(out) - 1
    while out[last] == 0xFF:
        out[last] = 0
        last -= 1
    out[last] += 1


def _decode_twin(rule: Rule, cells: Cells, data: bytes, first: int, last: int) -> None:
    view, places = cells.data, rule.places.data
    following = rule.follow(view, first)
    code, width, at = int.from_bytes(data[:4].ljust(4, b"\0"), "big"), _WORD, 4
    for i in range(first, last):
        one = width * following.rate(i) >> 16
        zero = width - one
        if code >= zero:
            code, width = code - zero, one
            view[places[i]] = 1
            following.fired(i)
        else:
            width = zero
        while width < _TOP:
            code = code << 8 & _WORD | (data[at] if at < len(data) else 0)
            width, at = width << 8, at + 1
