"""Images of a ROS 2 recording: `sensor_msgs/Image` and `sensor_msgs/CompressedImage` in an MCAP file."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ecc_device.frame import DEFAULT_RATE_HZ, Frame
from ecc_device.mcapfile import McapFile
from ecc_device.sources.imagefolder import read_image
from ecc_model.errors import SourceError
from ecc_model.frames import MAX_SIDE, Pixels
from ecc_model.optional import require

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
# encoding -> channels in the message, and which of them are red, green and blue (or grey)
_ENCODINGS: dict[str, tuple[int, tuple[int, ...]]] = {
    "mono8": (1, (0,)),
    "8UC1": (1, (0,)),
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
}
# what the decoder raises on bytes that are not what the schema says
_DAMAGED = (struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError, RecursionError)


class RosImages:
    """The frames of one image topic, by the times at which they were recorded; read once to be counted.

    topic: None where the file has one image topic only. `MissingPackage` without the extra `mcap`. `SourceError`: no
    such topic, none with images, or (while iterating) a message that cannot be read.
    """

    live = False
    labels: tuple[str, ...] | None = None

    def __init__(self, path: Path, topic: str | None) -> None:
        self.name, self._path = f"{path}#{topic}" if topic else str(path), path
        self._file = McapFile(path)
        decoding = require("mcap_ros2.decoder", f"ROS 2 images of {path.name}")
        self._factory: Any = decoding.DecoderFactory()
        self._damaged = (*_DAMAGED, require("mcap.exceptions", f"ROS 2 images of {path.name}").McapError)
        self._topic = self._chosen(topic)
        times = [log_time for log_time, _ in self._messages()]
        if not times:
            raise SourceError(f"{path}: no whole message on {self._topic}; record again")
        self._first = min(times)
        self.length: int | None = len(times)
        self.shape: tuple[int, ...] = next(iter(self)).pixels.shape
        spread_s = (max(times) - self._first) / 1e9
        self.rate_hz = (len(times) - 1) / spread_s if spread_s > 0 else DEFAULT_RATE_HZ

    def __iter__(self) -> Iterator[Frame]:
        time_s = 0.0
        for index, (log_time, decode) in enumerate(self._messages()):
            time_s = max(time_s, (log_time - self._first) / 1e9)
            try:
                message = decode()
                compressed = hasattr(message, "format")
                pixels = self._compressed(message, index) if compressed else self._raw(message, index)
            except self._damaged as exc:
                raise SourceError(f"{self._path}: frame {index} on {self._topic} is damaged; record again") from exc
            yield Frame(index, time_s, pixels, None)

    def close(self) -> None:
        """Nothing is held open between two readings."""

    def _chosen(self, topic: str | None) -> str:
        """The topic to read: that one, or the only one with images."""
        schemas: dict[int, str] = {}
        topics: dict[str, str] = {}
        for record in self._file.records("Schema", "Channel"):
            if hasattr(record, "topic"):
                topics[record.topic] = schemas.get(record.schema_id, "")
            else:
                schemas[record.id] = record.name
        images = [name for name, schema in topics.items() if schema in (RAW, COMPRESSED)]
        if topic is not None and topic in topics and topic not in images:
            holds = topics[topic] or "no schema"
            raise SourceError(f"{self._path}: {topic:.80} holds {holds:.80}; give a topic of {RAW} or {COMPRESSED}")
        if not images:
            found = ", ".join(sorted(topics)) or "nothing"
            raise SourceError(f"{self._path}: no topic with images (it holds: {found:.200}); record {RAW} too")
        if topic is None and len(images) == 1:
            return images[0]
        if topic is None or topic not in images:
            problem = "several topics with images" if topic is None else f"no topic {topic:.80}"
            listed = ", ".join(images)
            raise SourceError(f"{self._path}: {problem}; choose one of {listed:.200}, as {self._path}#{images[0]}")
        return topic

    def _messages(self) -> Iterator[tuple[int, Callable[[], Any]]]:
        """When each message was recorded, in nanoseconds, and how to decode it."""
        schemas: dict[int, Any] = {}
        channels: dict[int, Any] = {}
        for record in self._file.records("Schema", "Channel", "Message"):
            if hasattr(record, "topic"):
                channels[record.id] = record
            elif hasattr(record, "log_time"):
                channel = channels.get(record.channel_id)
                if channel is not None and channel.topic == self._topic:
                    yield record.log_time, partial(self._decoded, record, schemas.get(channel.schema_id))
            else:
                schemas[record.id] = record

    def _decoded(self, message: Any, schema: Any) -> Any:
        decoder = self._factory.decoder_for("cdr", schema)
        if decoder is None:
            raise SourceError(f"{self._path}: {self._topic} is not described as ros2msg; convert it with: ros2 bag")
        return decoder(message.data)

    def _raw(self, message: Any, index: int) -> Pixels:
        if message.encoding not in _ENCODINGS:
            raise SourceError(
                f"{self._path}: frame {index} has the encoding '{message.encoding:.20}'; "
                f"read are {', '.join(_ENCODINGS)}: republish it so"
            )
        channels, order = _ENCODINGS[message.encoding]
        height, width, step = int(message.height), int(message.width), int(message.step)
        data = np.frombuffer(bytes(message.data), np.uint8)
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE) or step < width * channels:
            raise ValueError(f"{height} x {width} in lines of {step} bytes")
        lines = data[: height * step].reshape(height, step)[:, : width * channels]
        return np.ascontiguousarray(lines.reshape(height, width, channels)[:, :, order])

    def _compressed(self, message: Any, index: int) -> Pixels:
        return read_image(io.BytesIO(bytes(message.data)), f"{self._path}: frame {index}")
