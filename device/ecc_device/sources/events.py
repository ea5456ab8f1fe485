"""Events as frames: counts of T time steps and two polarities, (T, H, W, 2).

Channel 0 counts events that got darker, channel 1 those that got brighter; one event adds `GAIN`, at most 255.
What makes one frame stands behind the file's name, as in `hand.raw#steps=4,ms=50`:

| part      | meaning                                                                                     |
|-----------|---------------------------------------------------------------------------------------------|
| `steps=4` | T, 1 to 16 (default 4)                                                                      |
| `ms=50`   | a frame is 50 ms, each step an equal part of it; times without events give empty frames     |
| `count=N` | a frame is N events, each step an equal part of them; what is left at the end is dropped    |
| neither   | the whole file is one frame, its steps equal parts of its time                              |

A folder of such files gives one frame for each, as a folder of images does. N-MNIST's 34 x 34 pixels are cropped to
32 x 32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecc_device.frame import DEFAULT_RATE_HZ, Frame
from ecc_device.sources.eventfiles import EventFile, Events, NmnistFile, open_events
from ecc_device.sources.listing import ClassFolder
from ecc_model.errors import SourceError
from ecc_model.frames import Pixels

EVENT_SUFFIXES = (".bin", ".raw")
GAIN = 32
MAX_STEPS = 16
DEFAULT_STEPS = 4
_CROP = 1  # pixels at each side of N-MNIST
_BOUNDS = {"steps": (1, MAX_STEPS), "ms": (1, 3_600_000), "count": (1, 100_000_000)}


@dataclass(frozen=True, slots=True)
class Slicing:
    """What makes one frame: see the table above."""

    steps: int = DEFAULT_STEPS
    ms: int | None = None
    count: int | None = None


def parse_slicing(text: str) -> Slicing:
    """From "steps=4,ms=50"; "" is the default. `SourceError` says what is allowed."""
    values: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        low, high = _BOUNDS.get(name, (1, 0))
        number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0
        if not low <= number <= high or name in values:
            allowed = ", ".join(f"{key}={least}..{most}" for key, (least, most) in _BOUNDS.items())
            raise SourceError(f"'{part:.30}' does not say how events become frames; allowed are {allowed}, each once")
        values[name] = number
    if {"ms", "count"} <= values.keys():
        raise SourceError("events become frames by ms or by count; give one of the two")
    if "count" in values and values["count"] < values.get("steps", DEFAULT_STEPS):
        raise SourceError(f"{values['count']} events for {values.get('steps', DEFAULT_STEPS)} steps; give more events")
    return Slicing(**values)


class EventRecording:
    """One file of events as a source. Memory: one frame and one piece of the file."""

    live = False
    labels: tuple[str, ...] | None = None

    def __init__(self, path: Path, slicing: Slicing) -> None:
        self.name, self._path, self._slicing = str(path), path, slicing
        self._file = open_events(path)
        self._events = 0
        first_us, last_us = None, 0
        for piece in self._file.pieces():
            first_us = int(piece.time_us.min()) if first_us is None else min(first_us, int(piece.time_us.min()))
            last_us = max(last_us, int(piece.time_us.max()))
            self._events += len(piece.x)
        if first_us is None:
            raise SourceError(f"{path}: holds no events; record some")
        self._first_us, self._span_us = first_us, last_us - first_us + 1
        self.shape: tuple[int, ...] = (slicing.steps, *_shape(self._file), 2)
        self.length: int | None = self._count()
        self.rate_hz = self._rate_hz()

    def __iter__(self) -> Iterator[Frame]:
        counting = self._by_count() if self._slicing.count is not None else self._by_time()
        for index, (time_us, counts) in enumerate(counting):
            yield Frame(index, (time_us - self._first_us) / 1e6, _pixels(counts, self._file, self._slicing), None)

    def close(self) -> None:
        """Nothing is held open between two readings."""

    def _count(self) -> int:
        if self._slicing.count is not None:
            return self._events // self._slicing.count
        return 1 if self._slicing.ms is None else -(-self._span_us // (1000 * self._slicing.ms))

    def _rate_hz(self) -> float:
        if self._slicing.ms is not None:
            return 1000.0 / self._slicing.ms
        return max(1, self.length or 1) * 1e6 / self._span_us if self._slicing.count is not None else DEFAULT_RATE_HZ

    def _by_time(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """(start, counts) of each frame; an event that comes too late for its frame counts in the present one."""
        length_us = self._span_us if self._slicing.ms is None else 1000 * self._slicing.ms
        frame, counts = 0, _nothing(self._file, self._slicing)
        for piece in self._file.pieces():
            since_us = piece.time_us - self._first_us
            frames = np.maximum.accumulate(np.maximum(since_us // length_us, frame))
            steps = np.clip((since_us - frames * length_us) * self._slicing.steps // length_us, 0, None)
            for number in np.unique(frames).tolist():
                while frame < number:
                    yield self._first_us + frame * length_us, counts
                    frame, counts = frame + 1, _nothing(self._file, self._slicing)
                chosen = frames == number
                counts += _counted(piece, steps, chosen, self._file, self._slicing)
        yield self._first_us + frame * length_us, counts

    def _by_count(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        size, done, time_us = self._slicing.count or 1, 0, self._first_us
        counts = _nothing(self._file, self._slicing)
        for piece in self._file.pieces():
            numbers = done + np.arange(len(piece.x))
            for frame in range(done // size, (done + len(piece.x) - 1) // size + 1):
                chosen = numbers // size == frame
                steps = (numbers - frame * size) * self._slicing.steps // size
                if frame * size >= done:
                    time_us = max(time_us, int(piece.time_us[frame * size - done]))
                counts += _counted(piece, steps, chosen, self._file, self._slicing)
                if (frame + 1) * size <= done + len(piece.x):
                    yield time_us, counts
                    counts = _nothing(self._file, self._slicing)
            done += len(piece.x)


class EventFolder:
    """Files of events by name, one frame each; a sub-folder for each class gives labels."""

    live = False
    rate_hz = DEFAULT_RATE_HZ

    def __init__(self, folder: Path, slicing: Slicing) -> None:
        if slicing.ms is not None or slicing.count is not None:
            raise SourceError(f"{folder}: a folder gives one frame for each file; leave ms and count out")
        self.name, self._slicing = str(folder), slicing
        self._files = ClassFolder(folder, EVENT_SUFFIXES, "event files")
        self.labels: tuple[str, ...] | None = self._files.labels
        self.length: int | None = len(self._files.paths)
        self.shape: tuple[int, ...] = EventRecording(self._files.paths[0], slicing).shape

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self._files.paths):
            (frame,) = EventRecording(path, self._slicing)
            yield Frame(index, index / self.rate_hz, frame.pixels, self._files.label(path))

    def close(self) -> None:
        """Nothing is held open between two frames."""


def _nothing(file: EventFile, slicing: Slicing) -> NDArray[np.int64]:
    return np.zeros(slicing.steps * file.height * file.width * 2, np.int64)


def _counted(
    piece: Events, steps: NDArray[np.int64], chosen: NDArray[np.bool_], file: EventFile, slicing: Slicing
) -> NDArray[np.int64]:
    """How many of the chosen events fall on each step, pixel and polarity, flat."""
    cells = ((steps * file.height + piece.y) * file.width + piece.x) * 2 + piece.on
    return np.bincount(cells[chosen], minlength=slicing.steps * file.height * file.width * 2)


def _pixels(counts: NDArray[np.int64], file: EventFile, slicing: Slicing) -> Pixels:
    pixels = np.minimum(counts * GAIN, 255).astype(np.uint8).reshape(slicing.steps, file.height, file.width, 2)
    return np.ascontiguousarray(pixels[:, _CROP:-_CROP, _CROP:-_CROP]) if isinstance(file, NmnistFile) else pixels


def _shape(file: EventFile) -> tuple[int, int]:
    crop = 2 * _CROP if isinstance(file, NmnistFile) else 0
    return file.height - crop, file.width - crop
