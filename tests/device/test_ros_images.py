"""Images of ROS 2 recordings, written by the ROS 2 library for MCAP."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ecc_device.sources import open_source
from ecc_model.errors import MissingPackage, SourceError

pytest.importorskip("mcap_ros2")
from mcap.writer import CompressionType
from mcap.writer import Writer as PlainWriter
from mcap_ros2.writer import Writer

HEADER = """std_msgs/Header header
{fields}
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
IMAGE = HEADER.format(
    fields="uint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data"
)
COMPRESSED = HEADER.format(fields="string format\nuint8[] data")
STAMP = {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": "camera"}
Say = Callable[[str, Mapping[str, Any], float], None]


def bag(path: Path, tell: Callable[[Say], None], compression: CompressionType = CompressionType.ZSTD) -> Path:
    """A ROS 2 recording; `tell` says its messages: topic, fields, seconds."""
    with path.open("wb") as stream:
        writer = Writer(stream, compression=compression)
        kinds = {
            "format": writer.register_msgdef("sensor_msgs/msg/CompressedImage", COMPRESSED),
            "encoding": writer.register_msgdef("sensor_msgs/msg/Image", IMAGE),
            "text": writer.register_msgdef("std_msgs/msg/String", "string text"),
        }

        def say(topic: str, fields: Mapping[str, Any], time_s: float) -> None:
            kind = next(schema for name, schema in kinds.items() if name in fields)
            message = fields if "text" in fields else {"header": STAMP, **fields}
            writer.write_message(topic, kind, message, round(time_s * 1e9))

        tell(say)
        writer.finish()
    return path


def raw(pixels: np.ndarray, encoding: str, padding: int = 0) -> dict[str, Any]:
    lines = pixels.reshape(pixels.shape[0], -1)
    padded = np.pad(lines, ((0, 0), (0, padding)))
    return {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "is_bigendian": 0,
        "step": padded.shape[1],
        "data": padded.tobytes(),
    }


def picture(seed: int, channels: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (5, 4, channels), np.uint8)


def error_of(spec: object) -> str:
    with pytest.raises(SourceError) as caught:
        list(open_source(str(spec)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize(
    ("encoding", "channels", "order"),
    [
        ("mono8", 1, [0]),
        ("8UC1", 1, [0]),
        ("rgb8", 3, [0, 1, 2]),
        ("bgr8", 3, [2, 1, 0]),
        ("rgba8", 4, [0, 1, 2]),
        ("bgra8", 4, [2, 1, 0]),
    ],
)
def test_raw_images_become_rgb_or_grey(
    tmp_path: Path, encoding: str, channels: int, order: list[int], compression: CompressionType
) -> None:
    pictures = [picture(seed, channels) for seed in range(3)]

    def tell(say: Say) -> None:
        for index, pixels in enumerate(pictures):
            say("/camera/image_raw", raw(pixels, encoding, padding=index), 100 + index / 2)
            say("/chatter", {"text": "hello"}, 100 + index / 2)

    source = open_source(str(bag(tmp_path / "a.mcap", tell, compression)))
    assert (source.shape, source.length, source.rate_hz) == ((5, 4, len(order)), 3, 2.0)
    for _ in range(2):
        frames = list(source)
        assert [(frame.index, frame.time_s, frame.label) for frame in frames] == [
            (0, 0.0, None),
            (1, 0.5, None),
            (2, 1.0, None),
        ]
        for frame, pixels in zip(frames, pictures, strict=True):
            np.testing.assert_array_equal(frame.pixels, pixels[:, :, order])


def test_compressed_images_are_decoded(tmp_path: Path) -> None:
    pixels = picture(1, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")

    def tell(say: Say) -> None:
        say("/image/compressed", {"format": "png", "data": file.getvalue()}, 7)

    (frame,) = open_source(str(bag(tmp_path / "a.mcap", tell)))
    np.testing.assert_array_equal(frame.pixels, pixels)


def test_images_may_change_their_size(tmp_path: Path) -> None:
    def tell(say: Say) -> None:
        say("/image", raw(picture(0, 3), "rgb8"), 1)
        say("/image", raw(picture(0, 1)[:3], "mono8"), 2)

    assert [frame.pixels.shape for frame in open_source(str(bag(tmp_path / "a.mcap", tell)))] == [(5, 4, 3), (3, 4, 1)]


def test_a_clock_that_went_back_stands_still(tmp_path: Path) -> None:
    def tell(say: Say) -> None:
        for time_s in (50, 51, 20, 52):
            say("/image", raw(picture(0, 1), "mono8"), time_s)

    times = [frame.time_s for frame in open_source(str(bag(tmp_path / "a.mcap", tell)))]
    assert times == [30.0, 31.0, 31.0, 32.0]


def test_of_several_topics_one_is_chosen(tmp_path: Path) -> None:
    def tell(say: Say) -> None:
        say("/left", raw(picture(1, 1), "mono8"), 1)
        say("/right", raw(picture(2, 1), "mono8"), 1)
        say("/chatter", {"text": "hello"}, 1)

    path = bag(tmp_path / "a.mcap", tell)
    (frame,) = open_source(f"{path}#/right")
    np.testing.assert_array_equal(frame.pixels, picture(2, 1))
    assert error_of(path) == (f"{path}: several topics with images; choose one of /left, /right, as {path}#/left")
    assert error_of(f"{path}#/up") == f"{path}: no topic /up; choose one of /left, /right, as {path}#/left"
    assert error_of(f"{path}#/chatter") == (
        f"{path}: /chatter holds std_msgs/msg/String; "
        "give a topic of sensor_msgs/msg/Image or sensor_msgs/msg/CompressedImage"
    )


def test_topics_without_images_are_named(tmp_path: Path) -> None:
    path = bag(tmp_path / "a.mcap", lambda say: say("/chatter", {"text": "hello"}, 1))
    assert error_of(path) == f"{path}: no topic with images (it holds: /chatter); record sensor_msgs/msg/Image too"


BAD = {
    "encoding": (
        {"encoding": "bayer_rggb8"},
        "frame 1 has the encoding 'bayer_rggb8'; read are mono8, 8UC1, rgb8, bgr8, rgba8, bgra8: republish it so",
    ),
    "size": ({"height": 5000}, "frame 1 on /image is damaged; record again"),
    "step": ({"step": 3}, "frame 1 on /image is damaged; record again"),
    "data": ({"data": b"1234"}, "frame 1 on /image is damaged; record again"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_image_is_named_when_its_turn_comes(tmp_path: Path, name: str) -> None:
    change, problem = BAD[name]

    def tell(say: Say) -> None:
        say("/image", raw(picture(0, 1), "mono8"), 1)
        say("/image", raw(picture(0, 1), "mono8") | change, 2)

    path = bag(tmp_path / "a.mcap", tell)
    assert error_of(path) == f"{path}: {problem}"


def test_a_recording_that_is_cut_off_gives_its_whole_chunks(tmp_path: Path) -> None:
    def tell(say: Say) -> None:
        for index in range(100):
            say("/image", raw(np.random.default_rng(index).integers(0, 256, (150, 150, 1), np.uint8), "mono8"), index)

    path = bag(tmp_path / "a.mcap", tell)
    path.write_bytes(path.read_bytes()[:-100_000])
    source = open_source(str(path))
    assert source.length is not None
    assert 40 <= source.length < 100
    assert sum(1 for _ in source) == source.length


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_frames_or_a_typed_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.mcap"
    if not (tmp_path / "whole").exists():
        bag(tmp_path / "whole", lambda say: say("/image", raw(picture(0, 1), "mono8"), 1), CompressionType.NONE)
    damaged = bytearray((tmp_path / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        list(open_source(str(path)))
    except SourceError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("data", [b"", b"\x89MCAP", b"something else"])
def test_what_is_no_mcap_is_said(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(data)
    assert error_of(path) == f"{path}: no MCAP file, or its first bytes are damaged; copy it again"


def test_an_image_that_is_not_described_in_ros_2_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with path.open("wb") as stream:
        writer = PlainWriter(stream)
        writer.start()
        schema = writer.register_schema("sensor_msgs/msg/Image", "ros2idl", b"module sensor_msgs {}")
        channel = writer.register_channel("/image", "cdr", schema)
        writer.add_message(channel, 0, b"\0\1\0\0", 0)
        writer.finish()
    assert error_of(path) == f"{path}: /image is not described as ros2msg; convert it with: ros2 bag"


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bag(tmp_path / "a.mcap", lambda say: say("/image", raw(picture(0, 1), "mono8"), 1))
    monkeypatch.setitem(sys.modules, "mcap_ros2.decoder", None)
    with pytest.raises(MissingPackage) as caught:
        open_source(str(path))
    assert str(caught.value) == (
        "ROS 2 images of a.mcap needs the package 'mcap-ros2-support'; install it with: pip install 'ecc-snn[mcap]'"
    )
