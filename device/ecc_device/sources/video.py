"""Video files through PyAV (FFmpeg)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecc_device.frame import DEFAULT_RATE_HZ, Frame
from ecc_model.errors import SourceError
from ecc_model.frames import MAX_SIDE
from ecc_model.optional import require

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")


class VideoFile:
    """The RGB frames of the first video stream of a file, at the times that the file gives.

    `MissingPackage` without PyAV. `SourceError`: no video, a codec that is not there, or (while iterating) a frame
    that cannot be decoded.
    """

    live = False
    labels: tuple[str, ...] | None = None

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path
        self._av = require("av", f"the video {path.name}")
        with self._opened() as container:
            stream = self._stream(container)
            if not (1 <= stream.width <= MAX_SIDE and 1 <= stream.height <= MAX_SIDE):
                raise SourceError(f"{path}: {stream.width} x {stream.height} pixels; sides are 1 to {MAX_SIDE}")
            self.shape: tuple[int, ...] = (stream.height, stream.width, 3)
            self.length: int | None = stream.frames or None
            self.rate_hz = float(stream.average_rate or DEFAULT_RATE_HZ)

    def __iter__(self) -> Iterator[Frame]:
        with self._opened() as container:
            index, first_s, time_s = 0, None, 0.0
            pictures = container.decode(self._stream(container))
            while (picture := self._next(pictures, index)) is not None:
                told_s = index / self.rate_hz if picture.time is None else picture.time
                first_s = told_s if first_s is None else first_s
                time_s = max(time_s, told_s - first_s)
                yield Frame(index, time_s, picture.to_ndarray(format="rgb24"), None)
                index += 1

    def close(self) -> None:
        """Nothing is held open between two iterations."""

    def _opened(self) -> Any:
        try:
            return self._av.open(str(self._path))
        except PermissionError as exc:
            raise SourceError(f"{self._path}: permission denied; check the file's owner and mode") from exc
        except (self._av.error.FFmpegError, OSError) as exc:
            raise SourceError(f"{self._path}: truncated, damaged or no video at all; copy it again") from exc

    def _stream(self, container: Any) -> Any:
        if not container.streams.video:
            raise SourceError(f"{self._path}: holds no video stream; choose another file")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise SourceError(f"{self._path}: its video codec is not known here; convert it to H.264")
        return stream

    def _next(self, pictures: Iterator[Any], index: int) -> Any:
        try:
            picture = next(pictures, None)
        except (self._av.error.FFmpegError, OSError) as exc:
            raise SourceError(f"{self._path}: frame {index} cannot be decoded; copy the file again") from exc
        if picture is not None and max(picture.width, picture.height) > MAX_SIDE:
            raise SourceError(f"{self._path}: frame {index} is larger than {MAX_SIDE} pixels a side; convert the file")
        return picture
