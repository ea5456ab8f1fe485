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
BAND = 64  # source lines that are turned into floats together, about


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
    if not isinstance(frame, np.ndarray):
        found = f"this is no numpy array but of type {type(frame).__name__}; convert it with numpy.asarray(frame)"
        raise FrameError(f"frames are uint8 arrays, {found}")
    if frame.dtype != np.uint8:
        scale = ", from 0 to 1 by (255 * frame).astype('uint8')" if frame.dtype.kind == "f" else ""
        raise FrameError(f"frames are uint8 arrays, this one is {frame.dtype}; convert it to 0-255{scale}")
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.ndim not in (3, 4):
        raise FrameError(f"a frame has shape (H, W), (H, W, C) or (T, H, W, C), this one {frame.shape}")
    if frame.ndim == 4 and frame.shape[0] != spec.steps:
        raise FrameError(f"a frame with time steps needs {spec.steps} of them, this one has {frame.shape[0]}")
    height, width, channels = frame.shape[-3:]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        found = f"sides of a frame are 1 to {MAX_SIDE} pixels, these are {height} x {width}"
        if not height or not width:
            raise FrameError(f"{found}; this one is empty")
        step = -(-max(height, width) // MAX_SIDE)
        raise FrameError(f"{found}; thin it out first: frame[{':, ' * (frame.ndim - 3)}::{step}, ::{step}]")
    resized = resize(_convert(frame, channels, spec.channels), spec.height, spec.width)
    return resized if resized.shape[-1] == spec.channels else np.repeat(resized, spec.channels, axis=-1)


def _convert(frame: Pixels, have: int, want: int) -> Pixels:
    """The wanted channels, or one that is repeated after the resize, when there is less of it."""
    if have == want or (have, want) == (1, 3):
        return frame
    if have == 3 and want == 1:
        red, green, blue = (frame[..., i].astype(np.uint16) for i in range(3))
        return ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.uint8)[..., None]
    raise FrameError(f"this network takes {want} channels, the frame has {have}{_remedy(frame, have, want)}")


def _remedy(frame: Pixels, have: int, want: int) -> str:
    if have == 4 and want != 2:
        return "; if the fourth is alpha, leave it out: frame[..., :3]"
    if have > 4 and frame.shape[-3] <= 4:
        return f"; if its channels stand first: frame.transpose({'1, 2, 0' if frame.ndim == 3 else '0, 2, 3, 1'})"
    return ""


def resize(frame: Pixels, height: int, width: int) -> Pixels:
    """Resize (..., H, W, C) to (..., height, width, C) with a triangle filter (bilinear; averaging when shrinking).

    Integers only: weights in units of 2^-14, each pass rounds to the nearest `uint8`.
    """
    if frame.shape[-3:-1] == (height, width):
        return frame
    rows = _resample(frame, height)
    return np.ascontiguousarray(np.swapaxes(_resample(np.swapaxes(rows, -3, -2), width), -3, -2))


def _resample(frame: Pixels, size: int) -> Pixels:
    """(..., lines, M, C) to (..., size, M, C)."""
    *steps, lines, length, channels = frame.shape
    flat = frame.reshape(*steps, lines, length * channels)
    sums = np.empty((*steps, size, length * channels), np.float32)
    for made, of, weights in _bands(lines, size):
        np.matmul(weights, flat[..., of, :].astype(np.float32), out=sums[..., made, :])
    rounded: NDArray[np.int32] = sums.astype(np.int32) + (1 << (RESIZE_BITS - 1))
    return (rounded >> RESIZE_BITS).astype(np.uint8).reshape(*steps, size, length, channels)


@lru_cache(maxsize=16)
def _bands(source: int, target: int) -> tuple[tuple[slice, slice, NDArray[np.float32]], ...]:
    """New lines, the lines that they are made of, and with which weights; the others' are 0.

    Some `BAND` lines at a time: of a camera's frame most weights are 0, and floats of all of it are no cache's size.
    """
    weights, step = _weights(source, target), max(1, BAND * target // source)
    bands = []
    for first in range(0, target, step):
        made = slice(first, min(first + step, target))
        used = np.flatnonzero(weights[:, made].any(axis=1))
        of = slice(int(used[0]), int(used[-1]) + 1)
        bands.append((made, of, np.ascontiguousarray(weights[of, made].T)))
    return tuple(bands)


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
