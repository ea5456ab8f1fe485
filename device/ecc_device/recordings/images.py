"""Frames as ROS 2 images, `sensor_msgs/msg/Image` in CDR, little endian: what Foxglove and ROS tools show.

Frames that are not (H, W, 1) or (H, W, 3) are laid out as a picture that can be looked at: time steps beneath one
another, two polarities side by side. Their shape stands in the frame's decision.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from ecc_model.frames import MAX_SIDE, Pixels

SCHEMA_NAME, SCHEMA_ENCODING, ENCODING = "sensor_msgs/msg/Image", "ros2msg", "cdr"
SCHEMA = b"""std_msgs/Header header
uint32 height
uint32 width
string encoding
uint8 is_bigendian
uint32 step
uint8[] data
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
MAX_STEPS = 16
_LITTLE_ENDIAN = b"\0\1\0\0"  # plain CDR
_NAMES = {1: b"mono8", 3: b"rgb8"}
_BILLION = 1_000_000_000


def encode_image(pixels: Pixels, stamp_ns: int, camera: str) -> bytes:
    """A frame (H, W, C) or (T, H, W, C) as a message."""
    picture = layout(pixels)
    height, width, channels = picture.shape
    seconds, nanoseconds = divmod(stamp_ns, _BILLION)
    body = struct.pack("<iI", seconds % (1 << 31), nanoseconds) + _string(camera.encode() or b"camera")
    body = _aligned(body) + struct.pack("<II", height, width) + _string(_NAMES[channels]) + b"\0"
    body = _aligned(body) + struct.pack("<II", width * channels, picture.nbytes)
    return _LITTLE_ENDIAN + body + np.ascontiguousarray(picture).tobytes()


def decode_image(message: bytes, shape: tuple[int, ...]) -> Pixels:
    """The frame of this shape in a message of `encode_image`. `ValueError`: not such a message, or another shape."""
    bounds = {3: (MAX_SIDE, MAX_SIDE, 3), 4: (MAX_STEPS, MAX_SIDE, MAX_SIDE, 3)}.get(len(shape), ())
    if not bounds or not all(1 <= size <= bound for size, bound in zip(shape, bounds, strict=True)):
        raise ValueError(f"a frame of shape {shape}")
    count = math.prod(shape)
    if len(message) < count + 4 or struct.unpack_from("<I", message, len(message) - count - 4) != (count,):
        raise ValueError(f"no image of {count} bytes")
    flat = np.frombuffer(message, np.uint8, count, len(message) - count)
    *steps, height, width, channels = shape
    if channels == 2:
        flat = flat.reshape(math.prod(steps) * height, 2, width).transpose(0, 2, 1)
    return np.ascontiguousarray(flat.reshape(shape))


def layout(pixels: Pixels) -> Pixels:
    """A frame as one picture: (T H, W, C) for 1 or 3 channels, (T H, 2 W, 1) for two."""
    *steps, height, width, channels = pixels.shape
    rows = math.prod(steps) * height
    if channels == 2:
        return np.ascontiguousarray(pixels.reshape(rows, width, 2).transpose(0, 2, 1)).reshape(rows, 2 * width, 1)
    return pixels.reshape(rows, width, channels)


def _string(text: bytes) -> bytes:
    return struct.pack("<I", len(text) + 1) + text + b"\0"


def _aligned(body: bytes) -> bytes:
    """Padded to four bytes, counted from behind the first four of the message."""
    return body + bytes(-len(body) % 4)
