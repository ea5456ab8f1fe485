"""The definition of an integer program, in plain numpy.

LIF neuron with leak 1/2 and hard reset, in units of the channel's scale (twice the paper's potential):
`U = (V >> 1) + X`, spike where `U >= theta`, then `V = 0`, else `V = U`; `>>` is the arithmetic shift.
Written to be read and to be compared with, not to be fast: engines must emit the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecc_model.bits import Spikes
from ecc_model.frames import Pixels
from ecc_model.program import Conv, Layer, Linear, MaxPool, Readout

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Trace:
    """What one layer did: spikes (T, ...) and, for neurons, membranes V after each step (T, ...)."""

    spikes: Spikes
    membrane: Integers | None


def frame_input(frame: Pixels, steps: int) -> Integers:
    """(H, W, C) or (T, H, W, C) pixels to (T, C, H, W) integers; a still image repeats."""
    steady = frame if frame.ndim == 4 else np.broadcast_to(frame, (steps, *frame.shape))
    return np.ascontiguousarray(np.moveaxis(steady, -1, 1)).astype(np.int64)


def run(layers: Sequence[Layer], values: Integers | Spikes) -> tuple[Integers, list[Trace]]:
    """Run `layers` on (T, ...) integers: the last layer's output and a trace of every layer.

    The output is spikes (T, ...) as 0 and 1, or for a readout the sums over T, (N,).
    """
    out = values.astype(np.int64)
    traces: list[Trace] = []
    for layer in layers:
        if isinstance(layer, MaxPool):
            steps, channels, height, width = out.shape
            n = layer.size
            out = out.reshape(steps, channels, height // n, n, width // n, n).max(axis=(3, 5))
            traces.append(Trace(out.astype(np.bool_), None))
        elif isinstance(layer, Readout):
            flat = out.reshape(out.shape[0], -1)
            return (flat @ layer.weight.T.astype(np.int64) + layer.bias).sum(axis=0), traces
        else:
            sums = _conv(out, layer) if isinstance(layer, Conv) else _linear(out, layer)
            spikes, membrane = lif(sums, layer.theta)
            traces.append(Trace(spikes, membrane))
            out = spikes.astype(np.int64)
    return out, traces


def lif(sums: Integers, theta: NDArray[np.int32]) -> tuple[Spikes, Integers]:
    """LIF over (T, C, ...) sums with one threshold per channel: spikes and membranes, both (T, C, ...)."""
    limit = theta.astype(np.int64).reshape(-1, *([1] * (sums.ndim - 2)))
    potential = np.zeros(sums.shape[1:], dtype=np.int64)
    spikes = np.zeros(sums.shape, dtype=np.bool_)
    membranes = np.zeros(sums.shape, dtype=np.int64)
    for step, current in enumerate(sums):
        potential = (potential >> 1) + current
        spikes[step] = potential >= limit
        potential = np.where(spikes[step], 0, potential)
        membranes[step] = potential
    return spikes, membranes


def _conv(values: Integers, layer: Conv) -> Integers:
    p, s, kernel = layer.padding, layer.stride, layer.weight.shape[2]
    padded = np.pad(values, ((0, 0), (0, 0), (p, p), (p, p)))
    rows = (padded.shape[2] - kernel) // s + 1
    columns = (padded.shape[3] - kernel) // s + 1
    sums: Integers = np.zeros((values.shape[0], layer.weight.shape[0], rows, columns), dtype=np.int64)
    for y in range(kernel):
        for x in range(kernel):
            window = padded[:, :, y : y + s * (rows - 1) + 1 : s, x : x + s * (columns - 1) + 1 : s]
            tap = layer.weight[:, :, y, x].astype(np.int64)
            sums += np.einsum("oi,tihw->tohw", tap, window)
    sums += layer.bias[:, None, None].astype(np.int64)
    return sums


def _linear(values: Integers, layer: Linear) -> Integers:
    flat = values.reshape(values.shape[0], -1)
    sums: Integers = flat @ layer.weight.T.astype(np.int64) + layer.bias
    return sums
