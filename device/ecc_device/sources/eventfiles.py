"""Files of event cameras: N-MNIST's .bin and Prophesee's EVT 2 .raw, read piece by piece.

| format       | an event                                                                                        |
|--------------|-------------------------------------------------------------------------------------------------|
| N-MNIST .bin | 40 bits, big endian: x 8, y 8, polarity 1, microseconds 23; 34 x 34 pixels                      |
| EVT 2 .raw   | 32 bits, little endian, after lines that begin with "%": type 4, microseconds 6, x 11, y 11;    |
|              | words of type 8 carry the upper 28 bits of the time, other types are passed over                |

Without a size in its header an EVT 2 file is taken for 640 x 480, the Gen 3 sensors that write none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import SourceError
from ecc_model.frames import MAX_SIDE

PIECE_BYTES = 5 * (1 << 18)  # whole events of both formats
MAX_HEADER_BYTES = 64 * 1024
_NMNIST_SIDE = 34
_GEN3 = (480, 640)
_OFF, _ON, _TIME_HIGH = 0x0, 0x1, 0x8
_TIME_LOOP_US = 1 << 34  # the 28 upper bits start again, after 4.8 hours
_SIZE = re.compile(rb"(?:geometry[ :]+(\d+)x(\d+))|(?:height=(\d+);width=(\d+))")


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """A piece of a stream: N events in the order of the file. on: the polarity, brighter."""

    time_us: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    on: NDArray[np.bool_]


class EventFile(Protocol):
    """One file of events."""

    height: int
    width: int

    def pieces(self) -> Iterator[Events]:
        """The events from the start, a bounded number at a time. `SourceError` for what cannot be events."""
        ...


def open_events(path: Path) -> EventFile:
    """The reader for a file, by its suffix. `SourceError`: it cannot be read, or is of another format."""
    return NmnistFile(path) if path.suffix.lower() == ".bin" else Evt2File(path)


class NmnistFile:
    """A recording of N-MNIST (Orchard et al. 2015)."""

    height = width = _NMNIST_SIDE

    def __init__(self, path: Path) -> None:
        self._path = path
        _opened(path).close()

    def pieces(self) -> Iterator[Events]:
        """See `EventFile`."""
        with _opened(self._path) as stream:
            while data := stream.read(PIECE_BYTES):
                if len(data) % 5:
                    raise SourceError(f"{self._path}: ends inside an event; copy it again")
                fields = np.frombuffer(data, np.uint8).reshape(-1, 5).astype(np.int64)
                x, y, high = fields[:, 0], fields[:, 1], fields[:, 2]
                if max(x.max(), y.max()) >= _NMNIST_SIDE:
                    raise SourceError(
                        f"{self._path}: an event at ({x.max()}, {y.max()}) of 34 x 34 pixels; no N-MNIST file"
                    )
                yield Events((high & 0x7F) << 16 | fields[:, 3] << 8 | fields[:, 4], x, y, high >= 0x80)


class Evt2File:
    """A recording of a Prophesee sensor in EVT 2.0."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _opened(path) as stream:
            header = self._header(stream)
            self._start = stream.tell()
        version = re.search(rb"% *(?:evt|format) +(?:EVT)?(\d)", header, re.IGNORECASE)
        if version is None or version[1] != b"2":
            found = "no header" if version is None else f"EVT {version[1].decode()}"
            raise SourceError(f"{path}: a .raw file with {found}; convert it to EVT 2, or to .npz frames")
        size = _SIZE.search(header)
        if size is None:
            self.height, self.width = _GEN3
        elif size[1] is not None:
            self.height, self.width = int(size[2]), int(size[1])
        else:
            self.height, self.width = int(size[3]), int(size[4])
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise SourceError(f"{path}: a sensor of {self.width} x {self.height} pixels; sides are 1 to {MAX_SIDE}")

    def pieces(self) -> Iterator[Events]:
        """See `EventFile`; what comes before the first time word has no time and is left out."""
        high_us: int | None = None
        with _opened(self._path) as stream:
            stream.seek(self._start)
            while data := stream.read(PIECE_BYTES):
                words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(np.int64)
                events, high_us = self._decoded(words, high_us)
                if len(events.x):
                    yield events
                if len(data) % 4:
                    raise SourceError(f"{self._path}: ends inside an event; copy it again")

    def _decoded(self, words: NDArray[np.int64], high_us: int | None) -> tuple[Events, int | None]:
        kinds = words >> 28
        heads = np.flatnonzero(kinds == _TIME_HIGH)
        highs = (words[heads] & 0xFFFFFFF) << 6
        loops = np.concatenate([[0 if high_us is None else high_us], highs])
        turns = (loops[1:] - loops[:-1] % _TIME_LOOP_US) < -_TIME_LOOP_US // 2
        highs = highs + loops[0] // _TIME_LOOP_US * _TIME_LOOP_US + np.cumsum(turns) * _TIME_LOOP_US
        bases = np.concatenate([[-1 if high_us is None else high_us], highs])
        base = bases[np.searchsorted(heads, np.arange(len(words)), side="right")]
        chosen = (kinds <= _ON) & (base >= 0)
        word = words[chosen]
        x, y = word >> 11 & 0x7FF, word & 0x7FF
        if len(word) and (x.max() >= self.width or y.max() >= self.height):
            raise SourceError(
                f"{self._path}: an event at ({x.max()}, {y.max()}) of {self.width} x {self.height} pixels; "
                "copy it again"
            )
        last = int(bases[-1])
        events = Events(base[chosen] + (word >> 22 & 0x3F), x, y, kinds[chosen] == _ON)
        return events, None if last < 0 else last

    def _header(self, stream: IO[bytes]) -> bytes:
        header = b""
        while _is_text(stream.peek(4)[:4]):  # type: ignore[attr-defined]
            header += (line := stream.readline(MAX_HEADER_BYTES))
            if len(header) >= MAX_HEADER_BYTES:
                raise SourceError(f"{self._path}: a header without end; copy it again")
            if line.strip() == b"% end":
                break
        return header


def _is_text(start: bytes) -> bool:
    """Whether a line of a header begins so, and not a word whose lowest byte is that of "%".

    The highest byte of a word, which has its type, is no printable character.
    """
    return start[:1] == b"%" and (len(start) < 4 or 0x20 <= start[3] < 0x7F)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as exc:
        raise SourceError(f"{path}: cannot be read ({exc.strerror}); check its owner and mode") from exc
