"""VGG-9 programs of any size whose layers see spikes at a chosen rate: random weights, thresholds fitted to one frame.

They answer nothing; they cost what a trained network of that size and rate costs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ecc_model import reference
from ecc_model.frames import FrameSpec, Pixels
from ecc_model.layers import Conv, Layer, Linear, MaxPool, Readout
from ecc_model.optional import require
from ecc_model.program import Program

SIDE, CHANNELS, CLASSES = 32, 3, 10
WEIGHT_SPREAD = 40.0  # standard deviation of the int8 weights
SPLIT = 2  # stages in the head
CODE_CHANNELS = 4


def random_vgg9(steps: int, width: float, rate: float, seed: int = 0) -> tuple[Program, Pixels]:
    """A program on 32x32 frames, and the frame on which what every layer sees fires at `rate`, pools included.

    A rate of 0 means thresholds that nothing reaches. Shape of the frame: uint8 (32, 32, 3).
    """
    require("torch", "the shape of VGG-9")
    from ecc_model.nets.vgg import HIDDEN, STAGES

    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (SIDE, SIDE, CHANNELS), np.uint8)
    values: NDArray[Any] = reference.frame_input(frame, steps)
    sections: list[list[Layer]] = []
    for stage in STAGES:
        section: list[Layer] = []
        for index, channels in enumerate(stage):
            weight = _weights(rng, (round(channels * width), values.shape[1], 3, 3))
            pool = [MaxPool(2)] if index == len(stage) - 1 else []
            added, values = _fitted(Conv, weight, values, rate, pool)
            section += added
        sections.append(section)
    hidden, values = _fitted(Linear, _weights(rng, (round(HIDDEN * width), values[0].size)), values, rate, [])
    readout = Readout(
        _weights(rng, (CLASSES, values.shape[1])), np.zeros(CLASSES, np.int32), np.full(CLASSES, 0.01, np.float32)
    )
    weight = _weights(rng, (CODE_CHANNELS, round(STAGES[SPLIT - 1][-1] * width), 3, 3))
    encoder = Conv(weight, np.zeros(CODE_CHANNELS, np.int32), np.full(CODE_CHANNELS, 2000, np.int32))
    head = [layer for section in sections[:SPLIT] for layer in section]
    exit_ = [layer for section in sections[SPLIT:] for layer in section] + hidden + [readout]
    return Program(FrameSpec(steps, CHANNELS, SIDE, SIDE), tuple(head), (encoder,), tuple(exit_)), frame


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    return np.clip(rng.normal(0, WEIGHT_SPREAD, shape), -127, 127).astype(np.int8)


def _fitted(
    kind: type[Conv | Linear], weight: NDArray[np.int8], values: NDArray[Any], rate: float, pool: list[MaxPool]
) -> tuple[list[Layer], NDArray[Any]]:
    """A layer whose spikes, behind its pool, come at `rate`; and these spikes."""
    sums = _sums(weight, values)
    low, high = 0, int(4 * np.abs(sums).max()) + 2  # membranes stay below twice the largest sum
    while high - low > 1 and rate > 0:
        middle = (low + high) // 2
        found = _spikes(sums, np.full(len(weight), middle, np.int32), pool).mean()
        low, high = (middle, high) if found > rate else (low, middle)
    theta = np.full(len(weight), high, np.int32)
    return [kind(weight, np.zeros(len(weight), np.int32), theta), *pool], _spikes(sums, theta, pool)


def _sums(weight: NDArray[np.int8], values: NDArray[Any]) -> NDArray[np.int32]:
    """Sums of all steps, by float32: below 2^24, so exact."""
    if weight.ndim == 4:
        padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
        values = np.moveaxis(sliding_window_view(padded, weight.shape[2:], axis=(2, 3)), 1, 3)
        rows = values.reshape(*values.shape[:3], -1).astype(np.float32)
        return np.moveaxis((rows @ weight.reshape(len(weight), -1).T.astype(np.float32)).astype(np.int32), -1, 1)
    rows = values.reshape(len(values), -1).astype(np.float32)
    return (rows @ weight.T.astype(np.float32)).astype(np.int32)


def _spikes(sums: NDArray[np.int32], theta: NDArray[np.int32], pool: list[MaxPool]) -> NDArray[Any]:
    spikes, _ = reference.lif(sums.astype(np.int64), theta)
    return reference.run(pool, spikes)[0] if pool else spikes
