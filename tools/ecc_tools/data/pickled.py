"""Reading a pickled dictionary of bytes, numbers, lists and arrays of bytes, opcode by opcode.

Python's own unpickler imports and calls what a pickle names. Here a name is looked up in a short table, and every
name and opcode outside of it is refused. Reads what Python 2 and 3 write (protocols 2 to 5), with numpy 1 or 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_OPCODES = 4_000_000  # the longest official file has 200,362
_NAMES = {  # what a pickle may name -> its modules
    "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "_frombuffer": ("numpy.core.numeric", "numpy._core.numeric"),
    "ndarray": ("numpy",),
    "dtype": ("numpy",),
    "encode": ("_codecs",),  # how protocol 2 of Python 3 writes bytes
}


class PickleRefused(ValueError):
    """A pickle that is damaged, or holds what has no place in such a file."""


def read_pickle(blob: bytes) -> dict[str, Any]:
    """The dictionary in `blob`, its keys as text; values are bytes, text, numbers, lists, tuples or uint8 arrays.

    `PickleRefused` for anything else.
    """
    try:
        found = _Machine(blob).run()
    except (IndexError, KeyError, TypeError, UnicodeDecodeError) as exc:
        raise PickleRefused("damaged") from exc
    if not isinstance(found, dict):
        raise PickleRefused("it holds no dictionary")
    content = {}
    for key, value in found.items():
        name = key.decode("ascii", "replace") if isinstance(key, bytes) else key
        content[name] = value.pixels if isinstance(value, _Array) else value
    return content


class _Name(str):
    """A name of the table, as it stands on the stack."""


class _Array:
    """An array: empty at first, filled when its state comes."""

    def __init__(self) -> None:
        self.pixels: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def fill(self, data: object, dtype: object, shape: object, order: str) -> None:
        """Take over `data`, if it is as much as the shape says."""
        if dtype is not _UINT8 or not isinstance(data, bytes):
            raise PickleRefused("an array in it does not hold bytes")
        if not isinstance(shape, tuple) or not all(type(side) is int and 0 <= side <= len(data) for side in shape):
            raise PickleRefused(f"an array in it has no shape that {len(data):,} bytes fill")
        if len(shape) > 4 or math.prod(shape) != len(data):
            raise PickleRefused(f"an array of shape {shape} in it holds {len(data):,} bytes")
        self.pixels = np.frombuffer(data, np.uint8).reshape(shape, order="F" if order == "F" else "C")


_UINT8 = _Name("uint8")


def _make_dtype(name: object, *_: object) -> _Name:
    if name not in (b"u1", "u1"):
        raise PickleRefused("an array in it does not hold bytes")
    return _UINT8


def _make_filled(data: object, dtype: object, shape: object, order: str) -> _Array:
    array = _Array()
    array.fill(data, dtype, shape, order)
    return array


def _make_bytes(text: object, codec: object) -> bytes:
    if not isinstance(text, str) or codec != "latin1":
        raise PickleRefused("bytes in it are written in another code")
    return text.encode("latin-1", "replace")


_CALLS: dict[str, Callable[..., object]] = {
    "_reconstruct": lambda kind, shape, code: _Array(),
    "_frombuffer": _make_filled,
    "dtype": _make_dtype,
    "encode": _make_bytes,
}


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self._at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> object:
        for _ in range(MAX_OPCODES):
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            if code not in _ACTIONS:
                raise PickleRefused(f"its opcode {code!r} has no place in such a file")
            _ACTIONS[code](self)
        raise PickleRefused(f"it has more than {MAX_OPCODES:,} opcodes")

    def take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._blob):
            raise PickleRefused("truncated")
        return self._blob[start : self._at]

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def sized(self, size: int) -> bytes:
        """Bytes after their count, itself a number of `size` bytes."""
        return self.take(self.number(size))

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop_from(self, start: int) -> list[Any]:
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop_tuple(self, count: int) -> None:
        if count > len(self.stack):
            raise PickleRefused("damaged")
        self.push(tuple(self.pop_from(len(self.stack) - count)))

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise PickleRefused("it appends to something that is no list")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or not all(isinstance(key, (bytes, str)) for key in values[::2]):
            raise PickleRefused("a dictionary in it has keys that are no text")
        self.stack[-1].update(zip(values[::2], values[1::2], strict=False))

    def name(self, module: str, name: str) -> None:
        if module not in _NAMES.get(name, ()):
            named = f"{module}.{name}"
            raise PickleRefused(f"it names {named[:80]!r}, which has no place in such a file")
        self.push(_Name(name))

    def name_in_lines(self) -> None:
        lines = self._blob[self._at : self._at + 256].split(b"\n")[:2]
        self.take(sum(map(len, lines)) + 2)
        self.name(*(line.decode("ascii", "replace") for line in lines))

    def call(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Name or type(arguments) is not tuple:
            raise PickleRefused("it calls something that has no name")
        self.push(_CALLS[name](*arguments))

    def build(self) -> None:
        """Fill an array; what is built of a dtype of single bytes says nothing more."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Array):
            if type(state) is not tuple or len(state) != 5:
                raise PickleRefused("damaged")
            _, shape, dtype, by_columns, data = state
            target.fill(data, dtype, shape, "F" if by_columns is True else "C")
        elif target is not _UINT8:
            raise PickleRefused("it fills something that is no array")


_ACTIONS: dict[bytes, Callable[[_Machine], object]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number(1)),  # BININT1
    b"M": lambda m: m.push(m.number(2)),  # BININT2
    b"J": lambda m: m.push(m.number(4, signed=True)),  # BININT
    b"\x8a": lambda m: m.push(int.from_bytes(m.sized(1), "little", signed=True)),  # LONG1
    b"U": lambda m: m.push(m.sized(1)),  # SHORT_BINSTRING
    b"T": lambda m: m.push(m.sized(4)),  # BINSTRING
    b"C": lambda m: m.push(m.sized(1)),  # SHORT_BINBYTES
    b"B": lambda m: m.push(m.sized(4)),  # BINBYTES
    b"\x8e": lambda m: m.push(m.sized(8)),  # BINBYTES8
    b"\x96": lambda m: m.push(m.sized(8)),  # BYTEARRAY8
    b"\x8c": lambda m: m.push(m.sized(1).decode("utf-8")),  # SHORT_BINUNICODE
    b"X": lambda m: m.push(m.sized(4).decode("utf-8")),  # BINUNICODE
    b"}": lambda m: m.push({}),
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"t": lambda m: m.push(tuple(m.pop_from(m.marks.pop()))),
    b"\x85": lambda m: m.pop_tuple(1),
    b"\x86": lambda m: m.pop_tuple(2),
    b"\x87": lambda m: m.pop_tuple(3),
    b"a": lambda m: m.append([m.stack.pop()]),
    b"e": lambda m: m.append(m.pop_from(m.marks.pop())),  # APPENDS
    b"s": lambda m: m.set_items(m.pop_from(len(m.stack) - 2)),
    b"u": lambda m: m.set_items(m.pop_from(m.marks.pop())),  # SETITEMS
    b"q": lambda m: m.memo.update({m.number(1): m.stack[-1]}),  # BINPUT
    b"r": lambda m: m.memo.update({m.number(4): m.stack[-1]}),  # LONG_BINPUT
    b"\x94": lambda m: m.memo.update({len(m.memo): m.stack[-1]}),  # MEMOIZE
    b"h": lambda m: m.push(m.memo[m.number(1)]),  # BINGET
    b"j": lambda m: m.push(m.memo[m.number(4)]),  # LONG_BINGET
    b"c": lambda m: m.name_in_lines(),  # GLOBAL
    b"\x93": lambda m: m.name(*m.pop_from(len(m.stack) - 2)),  # STACK_GLOBAL
    b"R": lambda m: m.call(),  # REDUCE
    b"b": lambda m: m.build(),
}
