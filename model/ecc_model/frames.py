"""Frames: what the network expects, and the one resize that every machine computes alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import FrameError

Pixels = NDArray[np.uint8]

RESIZE_BITS = 14  # fixed-point weights; 2^14 * 255 < 2^24, so float32 products below are exact integers
MAX_SIDE = 4096


@dataclass(frozen=True)
class FrameSpec:
    """What a network takes: `steps` time steps of `channels` x `height` x `width` (pixels, `uint8`)."""

    steps: int
    channels: int
    height: int
    width: int


def fit(frame: Pixels, spec: FrameSpec) -> Pixels:
    """Bring a frame to the network's size and channels.

    frame: `uint8`, (H, W), (H, W, C) for one still image, or (T, H, W, C) for T different steps.
    Returns (height, width, channels), or (steps, height, width, channels) for a frame with steps.
    Grey becomes RGB by repetition, RGB becomes grey by (77 R + 150 G + 29 B) / 256; two channels (event
    polarities) must match. `FrameError` for anything else.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        found = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise FrameError(f"frames are uint8 arrays, this one is {found}; convert it before classifying")
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.ndim not in (3, 4):
        raise FrameError(f"a frame has shape (H, W), (H, W, C) or (T, H, W, C), this one {frame.shape}")
    if frame.ndim == 4 and frame.shape[0] != spec.steps:
        raise FrameError(f"a frame with time steps needs {spec.steps} of them, this one has {frame.shape[0]}")
    height, width, channels = frame.shape[-3:]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise FrameError(f"sides of a frame are 1 to {MAX_SIDE} pixels, these are {height} x {width}")
    return resize(_convert(frame, channels, spec.channels), spec.height, spec.width)


def _convert(frame: Pixels, have: int, want: int) -> Pixels:
    if have == want:
        return frame
    if have == 1 and want == 3:
        return np.repeat(frame, 3, axis=-1)
    if have == 3 and want == 1:
        red, green, blue = (frame[..., i].astype(np.uint16) for i in range(3))
        return ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.uint8)[..., None]
    raise FrameError(f"this network takes {want} channels, the frame has {have}")


def resize(frame: Pixels, height: int, width: int) -> Pixels:
    """Resize (..., H, W, C) to (..., height, width, C) with a triangle filter (bilinear; averaging when shrinking).

    Integers only: weights in units of 2^-14, each pass rounds to the nearest `uint8`.
    """
    if frame.shape[-3:-1] == (height, width):
        return frame
    rows = np.moveaxis(frame, -3, -1)  # (..., W, C, H)
    frame = np.moveaxis(_resample(rows, height), -1, -3)
    columns = np.moveaxis(frame, -2, -1)  # (..., H, C, W)
    return np.ascontiguousarray(np.moveaxis(_resample(columns, width), -1, -2))


def _resample(lines: Pixels, size: int) -> Pixels:
    sums = np.matmul(lines.astype(np.float32), _weights(lines.shape[-1], size))
    rounded: NDArray[np.int32] = sums.astype(np.int32) + (1 << (RESIZE_BITS - 1))
    return (rounded >> RESIZE_BITS).astype(np.uint8)


@lru_cache(maxsize=16)
def _weights(source: int, target: int) -> NDArray[np.float32]:
    """(source, target) matrix whose columns are integers that sum to 2^14."""
    matrix = np.zeros((source, target), dtype=np.int64)
    reach = 2 * max(source, target)  # all distances in units of 1 / (2 target) source pixels
    positions = 2 * target * np.arange(source, dtype=np.int64)
    for column in range(target):
        centre = (2 * column + 1) * source - target
        raw = np.maximum(0, reach - np.abs(positions - centre))
        scaled = (raw << RESIZE_BITS) // raw.sum()
        scaled[np.argmax(scaled)] += (1 << RESIZE_BITS) - scaled.sum()
        matrix[:, column] = scaled
    return matrix.astype(np.float32)
