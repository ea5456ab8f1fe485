"""Reading MCAP files record by record, believing no length that they claim, up to where they were cut off."""

from __future__ import annotations

import dataclasses
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

from ecc_model.errors import SourceError
from ecc_model.optional import require

MAGIC = b"\x89MCAP0\r\n"
MAX_CHUNK_BYTES = 1 << 28  # unpacked
_FRAMING = struct.Struct("<BQ")  # opcode, length of what follows
# What mcap's own parsers raise on damaged bytes; its McapError is added once it is imported.
_DAMAGED = (struct.error, ValueError, KeyError, EOFError, zlib.error, zstandard.ZstdError, RuntimeError, MemoryError)


class McapFile:
    """The records of one file, in the file's order, those in chunks included; can be read again and again.

    `MissingPackage` without the mcap library. `SourceError`: cannot be opened, or no MCAP file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: Any = require("mcap.records", f"reading {path.name}")
        self._opcode: Any = require("mcap.opcode", f"reading {path.name}").Opcode
        self._stream: Any = require("mcap.data_stream", f"reading {path.name}").ReadDataStream
        self._breakup: Any = require("mcap.stream_reader", f"reading {path.name}").breakup_chunk
        error: type[Exception] = require("mcap.exceptions", f"reading {path.name}").McapError
        self._damaged = (*_DAMAGED, error)
        self.cut_off: str | None = None  # why the last reading ended before the file's own end; None: it did not
        with self._opened() as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise SourceError(f"{path}: no MCAP file, or its first bytes are damaged; copy it again")

    def records(self, *kinds: str) -> Iterator[Any]:
        """Records of `mcap.records` whose class is named in `kinds`, up to the last whole one."""
        self.cut_off = None
        with self._opened() as stream:
            left = os.fstat(stream.fileno()).st_size - len(MAGIC)
            stream.seek(len(MAGIC))
            while True:
                head = stream.read(_FRAMING.size)
                opcode, length = _FRAMING.unpack(head) if len(head) == _FRAMING.size else (0, 0)
                left -= _FRAMING.size + length
                if opcode == 0 or left < 0:  # also the zeros that a file system may leave after a power cut
                    self.cut_off = "cut off"
                    return
                if opcode == self._opcode.FOOTER:
                    return
                try:
                    found = self._parsed(opcode, stream, length, kinds)
                except self._damaged:
                    self.cut_off = f"damaged at byte {stream.tell()}"
                    return
                yield from found

    def _opened(self) -> IO[bytes]:
        try:
            return self.path.open("rb")
        except FileNotFoundError as exc:
            raise SourceError(f"{self.path}: no such file; check the path") from exc
        except OSError as exc:
            raise SourceError(f"{self.path}: cannot be read ({exc.strerror}); check its owner and mode") from exc

    def _parsed(self, opcode: int, stream: IO[bytes], length: int, kinds: tuple[str, ...]) -> list[Any]:
        name = _class_name(self._opcode, opcode)
        if name != "Chunk" and name not in kinds:
            stream.seek(length, os.SEEK_CUR)
            return []
        kind = getattr(self._records, name)
        body = stream.read(length)
        reader = self._stream(io.BytesIO(body))  # bounds whatever lengths stand inside
        record = kind.read(reader, length) if name == "Message" else kind.read(reader)
        if name != "Chunk":
            return [record]
        return [one for one in self._breakup(self._unpacked(record), validate_crc=True) if type(one).__name__ in kinds]

    def _unpacked(self, chunk: Any) -> Any:
        if chunk.uncompressed_size > MAX_CHUNK_BYTES:
            raise ValueError("a chunk that claims too much")
        data = _UNPACK[chunk.compression](chunk.data, chunk.uncompressed_size)
        if len(data) != chunk.uncompressed_size:
            raise ValueError("a chunk of another size than it says")
        return dataclasses.replace(chunk, compression="", data=data)


def _class_name(opcodes: Any, opcode: int) -> str:
    """`Opcode.METADATA_INDEX` -> "MetadataIndex"; "" for an opcode that is not known, whose record is passed over."""
    try:
        return "".join(part.capitalize() for part in opcodes(opcode).name.split("_"))
    except ValueError:
        return ""


def _unzstd(data: bytes, size: int) -> bytes:
    if zstandard.frame_content_size(data) > size:  # or memory for it would be asked for at once
        raise ValueError("a chunk of another size than it says")
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)


def _unlz4(data: bytes, size: int) -> bytes:
    unpacker = require("lz4.frame", "a chunk packed with lz4").LZ4FrameDecompressor()
    unpacked: bytes = unpacker.decompress(data, max_length=size)
    return unpacked


_UNPACK: dict[str, Callable[[bytes, int], bytes]] = {"": lambda data, _: data, "zstd": _unzstd, "lz4": _unlz4}
