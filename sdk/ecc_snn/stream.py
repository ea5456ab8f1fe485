"""Iterating over the results of one or several sources."""

from __future__ import annotations

import heapq
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from ecc_device.frame import Frame, Source
from ecc_device.results import Result
from ecc_device.sources import open_source
from ecc_model.errors import SourceError
from ecc_model.frames import Pixels
from ecc_snn.cameras import CameraCounts, Slots

AnySource = str | os.PathLike[str] | Source
Stamp = Callable[[Pixels, str], Frame]  # (pixels, camera) -> the device's next frame


class Stream:
    """The results of a source's frames, in order; an iterator, and a context manager that closes it.

    A recording gives every frame. A live source is read by a thread of its own: while a frame is classified, the newest
    one waits, and those in between are gone and counted. Several cameras take turns. It ends with its sources;
    `close`, from any thread, ends it sooner.
    """

    def __init__(
        self,
        sources: Mapping[str, AnySource],
        stamp: Stamp,
        classify: Callable[[Frame], Result],
        failed: Callable[[Exception], bool],
        counts: CameraCounts,
    ) -> None:
        self._stamp, self._classify, self._failed = stamp, classify, failed
        self._changed = threading.Condition()
        self._slots = Slots(counts)
        self._errors: deque[Exception] = deque()
        self._closed = False
        self._own: list[Source] = []
        self._recorded: Iterator[tuple[float, str, Frame]] | None = None
        self._readers: list[_Reader] = []
        try:
            opened = {name: self._open(source) for name, source in sources.items()}
            live = {source.live for source in opened.values()}
            if len(live) > 1:
                raise SourceError("cameras and recordings do not mix in one stream; open a stream for each")
        except BaseException:
            self._release()
            raise
        if live == {True}:
            self._readers = [_Reader(self, name, source, own=source in self._own) for name, source in opened.items()]
        else:
            self._recorded = heapq.merge(*(_timed(name, source) for name, source in opened.items()), key=_time)
        for reader in self._readers:
            reader.start()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Result:
        frame = self._next_live() if self._recorded is None else self._next_recorded(self._recorded)
        if frame is None:
            raise StopIteration
        return self._classify(frame)

    def close(self) -> None:
        """End: whoever waits for a result gets none. Sources that were opened here are closed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if not self._readers:
            self._release()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_recorded(self, recorded: Iterator[tuple[float, str, Frame]]) -> Frame | None:
        try:
            found = None if self._closed else next(recorded, None)
            if found is not None:
                return self._stamp(found[2].pixels, found[1])
        except Exception as error:
            self.close()
            if self._failed(error):
                return None
            raise
        self.close()
        return None

    def _next_live(self) -> Frame | None:
        """The frame whose turn it is; a camera that failed is left out from then on, or its error raised."""
        while True:
            with self._changed:
                while not (frame := self._slots.take()) and not self._errors and not self._closed:
                    if not any(reader.reading for reader in self._readers):
                        break
                    self._changed.wait()
                error = None if frame is not None or not self._errors else self._errors.popleft()
                if self._closed:
                    return None
            if frame is not None:
                return frame
            if error is None:
                self.close()
                return None
            if not self._failed(error):
                self.close()
                raise error

    def _open(self, source: AnySource) -> Source:
        if isinstance(source, (str, os.PathLike)):
            opened = open_source(os.fspath(source))
            self._own.append(opened)
            return opened
        if not hasattr(source, "live"):
            raise SourceError(
                "a stream reads what ecc-device start takes as --source, or a Source, and this is of type "
                f"{type(source).__name__}; of frames that you hold, call classify for each"
            )
        return source

    def _release(self) -> None:
        while self._own:
            self._own.pop().close()

    # ---- on a reader's thread ----

    def _came(self, pixels: Pixels, camera: str) -> bool:
        """A frame came; False when the stream has ended."""
        frame = self._stamp(pixels.copy(), camera)  # a camera may use its buffer again
        with self._changed:
            if not self._closed:
                self._slots.put(frame)
                self._changed.notify_all()
            return not self._closed

    def _ended(self, reader: _Reader, error: Exception | None) -> None:
        """A source has no more frames, or failed."""
        with self._changed:
            reader.reading = False
            if error is not None:
                self._errors.append(error)
            self._changed.notify_all()


class _Reader:
    """One live source on a thread of its own; what it raises goes to whoever iterates.

    It does not keep the stream alive: one that nobody holds any more ends at the source's next frame.
    """

    def __init__(self, stream: Stream, camera: str, source: Source, *, own: bool) -> None:
        self.source, self.reading = source, True
        self._stream, self._camera, self._own = weakref.ref(stream), camera, own
        self._thread = threading.Thread(target=self._run, name=f"ecc-camera-{camera}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        with self:
            for frame in self.source:
                if not self._hand_over(frame.pixels):
                    break

    def _hand_over(self, pixels: Pixels) -> bool:
        stream = self._stream()
        return stream is not None and stream._came(pixels, self._camera)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._own:
            self.source.close()
        stream = self._stream()
        if stream is not None:
            stream._ended(self, error if isinstance(error, Exception) else None)
        return isinstance(error, Exception)


def _timed(camera: str, source: Source) -> Iterator[tuple[float, str, Frame]]:
    return ((frame.time_s, camera, frame) for frame in source)


def _time(timed: tuple[float, str, Frame]) -> tuple[float, str]:
    return timed[:2]
