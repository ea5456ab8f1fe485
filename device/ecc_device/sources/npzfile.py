"""Reading .npz files one array at a time, believing nothing that a header claims.

A header's size is held against what is there before memory is asked for, and arrays of Python objects (pickles) are
refused; `verify` compares the checksums.
"""

from __future__ import annotations

import ast
import contextlib
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import SourceError

_CHUNK_BYTES = 1 << 20
_MAX_HEADER_BYTES = 4096
_LENGTH_FIELD = {1: "<H", 2: "<I"}  # by format version
_PLAIN_TYPE = re.compile(r"[<>|=][biufU][0-9]{1,6}")
# What zipfile and zlib raise on damaged files.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What an array's header says, checked against the size of the array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class NpzFile:
    """The arrays of one .npz. Use as a context manager. Raises `SourceError`, which names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._readable():
            self._zip = zipfile.ZipFile(path)
        self._members = {
            info.filename.removesuffix(".npy"): info for info in self._zip.infolist() if info.filename.endswith(".npy")
        }

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def wrong(self, problem: str) -> SourceError:
        """The error for this file with `problem`: what is wrong, then the remedy."""
        return SourceError(f"{self.path}: {problem}")

    def verify(self) -> None:
        """Read every array once and compare its checksum."""
        for name, info in self._members.items():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self.wrong(f"'{name}' is compressed in another way than numpy does; save it with numpy.savez")
            with self._readable(), self._zip.open(info) as stream:
                while stream.read(_CHUNK_BYTES):
                    pass  # the last read compares

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[tuple[ArrayHeader, IO[bytes]]]:
        """The header of array `name`, and a stream of its bytes in C order."""
        if name not in self._members:
            there = ", ".join(sorted(self._members)) or "nothing"
            raise self.wrong(f"has no array '{name}' (it holds: {there}); save it with that name")
        with self._readable(), self._zip.open(self._members[name]) as stream:
            header = self._header(name, stream)
            yield header, stream

    def read(self, name: str) -> NDArray[Any]:
        """The whole array `name`; for small ones."""
        with self.open(name) as (header, stream):
            return np.frombuffer(stream.read(), header.dtype).reshape(header.shape)

    def header(self, name: str) -> ArrayHeader:
        """Only the header of array `name`."""
        with self.open(name) as (header, _):
            return header

    def _header(self, name: str, stream: IO[bytes]) -> ArrayHeader:
        """Read the header, leaving `stream` at the array's first byte."""
        damaged = self.wrong(f"the header of '{name}' is not numpy's; save the file again with numpy.savez")
        start = stream.read(8)
        length_field = _LENGTH_FIELD.get(start[6]) if start[:6] == b"\x93NUMPY" and len(start) == 8 else None
        if length_field is None:
            raise damaged
        field = stream.read(struct.calcsize(length_field))
        length = struct.unpack(length_field, field)[0] if len(field) == struct.calcsize(length_field) else 0
        if not 0 < length <= _MAX_HEADER_BYTES:
            raise damaged
        try:
            header = ast.literal_eval(stream.read(length).decode("latin1").strip())
            descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        except (ValueError, SyntaxError, TypeError, KeyError, IndexError, MemoryError, RecursionError) as exc:
            raise damaged from exc
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise damaged
        if isinstance(descr, str) and descr.endswith("O"):
            raise self.wrong(f"'{name}' holds pickled Python objects, which are never loaded; save plain numbers")
        if not isinstance(descr, str) or not _PLAIN_TYPE.fullmatch(descr):
            raise self.wrong(f"'{name}' has type {descr!r}; save plain numbers (names as plain text)")
        if fortran and len(shape) > 1:
            raise self.wrong(f"'{name}' is in Fortran order; save it through numpy.ascontiguousarray")
        try:
            dtype = np.dtype(descr)
        except (TypeError, ValueError) as exc:
            raise damaged from exc
        claimed = math.prod(shape) * dtype.itemsize
        there = self._members[name].file_size - stream.tell()
        if claimed != there:
            raise self.wrong(f"'{name}' claims {claimed} bytes and holds {there}; copy the file again")
        return ArrayHeader(dtype, shape)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as exc:
            raise self.wrong("permission denied; check the file's owner and mode") from exc
        except _UNREADABLE as exc:
            raise self.wrong("truncated, damaged or no .npz at all; copy it again") from exc
