"""The definition of an integer program, in plain numpy.

LIF neuron with hard reset, in units of the channel's scale: `U = (V leak >> 15) + X`, spike where `U >= theta`, then
`V = 0`, else `V = U`; `>>` is the arithmetic shift, which rounds down. With tau 2 the leak is 2^14, which makes
`V leak >> 15` the same as `V >> 1`, and V twice the paper's potential.
Written to be read and to be compared with, not to be fast: engines must emit the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ecc_model.bits import Spikes
from ecc_model.frames import Pixels
from ecc_model.layers import (
    HALF_LEAK,
    AnyLayer,
    AveragePool,
    Conv,
    Currents,
    Linear,
    MaxPool,
    Probe,
    Readout,
    Residual,
    Terminal,
)
from ecc_model.program import Program

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Trace:
    """What one layer did: spikes (T, ...) and, for neurons, membranes V after each step (T, ...).

    An average pool has no spikes of its own: these are then its sums, (T, C, H, W).
    """

    spikes: Spikes | Integers
    membrane: Integers | None


def frame_input(frame: Pixels, steps: int) -> Integers:
    """(H, W, C) or (T, H, W, C) pixels to (T, C, H, W) integers; a still image repeats."""
    steady = frame if frame.ndim == 4 else np.broadcast_to(frame, (steps, *frame.shape))
    return np.ascontiguousarray(np.moveaxis(steady, -1, 1)).astype(np.int64)


def run(layers: Sequence[AnyLayer], values: Integers | Spikes) -> tuple[Integers, list[Trace]]:
    """Run `layers` on (T, ...) integers: the last layer's output and a trace of every layer.

    The output is spikes (T, ...) as 0 and 1, or for a readout or a probe the sums over T, (N,).
    """
    out = values.astype(np.int64)
    traces: list[Trace] = []
    seen = [out]
    for layer in layers:
        if isinstance(layer, MaxPool):
            out = _blocks(out, layer.size).max(axis=(3, 5))
            traces.append(Trace(out.astype(np.bool_), None))
        elif isinstance(layer, AveragePool):
            out = _blocks(out, layer.size).sum(axis=(3, 5))
            traces.append(Trace(out, None))
        elif isinstance(layer, Readout):
            flat = out.reshape(out.shape[0], -1)
            return (flat @ layer.weight.T.astype(np.int64) + layer.bias).sum(axis=0), traces
        elif isinstance(layer, Probe):
            counts = np.concatenate([count(seen[tap.after], tap.grid) for tap in layer.taps])
            return layer.weight.astype(np.int64) @ counts + layer.bias, traces
        else:
            spikes, membrane = lif(_sums(out, layer), layer.theta, layer.leak)
            traces.append(Trace(spikes, membrane))
            out = spikes.astype(np.int64)
        seen.append(out)
    return out, traces


def count(spikes: Integers | Spikes, grid: int) -> Integers:
    """Spikes (T, C, H, W) in each cell of a grid, (C grid grid,); of (T, N) in each neuron, (N,)."""
    totals: Integers = spikes.sum(axis=0, dtype=np.int64)
    if totals.ndim == 1:
        return totals
    channels, height, width = totals.shape
    cells = totals.reshape(channels, grid, height // grid, grid, width // grid)
    return cast(Integers, cells.sum(axis=(2, 4)).reshape(-1))


def logits(program: Program, values: Integers | Spikes) -> NDArray[np.float32]:
    """Logits (N,) of spikes at the split point: of each exit sums times scale, rounded once; then joined."""
    exits = [(layers, cast(Terminal, layers[-1]).scale) for layers in program.exits.values()]
    return join([run(layers, values)[0].astype(np.float32) * scale for layers, scale in exits], program.known)


def join(parts: Sequence[NDArray[np.float32]], known: int) -> NDArray[np.float32]:
    """The logits (..., N) of one or two exits; every operation rounds once.

    known 0: their sum. Else the first exit, (..., known), decides among the known classes, and the second, (..., N),
    whether it is one of them: a new class has the first exit's largest logit, and as much more as its logit in the
    second exit is above the largest of a known class there.
    """
    if len(parts) == 1:
        return parts[0]
    first, second = parts
    if not known:
        return first + second
    lead = second[..., known:] - second[..., :known].max(axis=-1, keepdims=True)
    return np.concatenate([first, first.max(axis=-1, keepdims=True) + lead], axis=-1)


def _blocks(values: Integers, n: int) -> Integers:
    steps, channels, height, width = values.shape
    return values.reshape(steps, channels, height // n, n, width // n, n)


def _sums(values: Integers, layer: Conv | Linear | Residual) -> Integers:
    """Inputs X of the layer's neurons, (T, C, ...)."""
    if isinstance(layer, Linear):
        flat = values.reshape(values.shape[0], -1)
        sums: Integers = flat @ layer.weight.T.astype(np.int64) + layer.bias
        return sums
    bias = layer.bias[:, None, None].astype(np.int64)
    if isinstance(layer, Conv):
        return _conv(values, layer) + bias
    branch = _conv(run(layer.branch, values)[0], layer.last)
    shortcut = values if layer.shortcut is None else _conv(values, layer.shortcut)
    first, second = layer.gain[:, :, None, None].astype(np.int64)
    joined: Integers = (first * branch + second * shortcut) >> layer.shift
    return joined + bias


def lif(sums: Integers, theta: NDArray[np.int32], leak: int = HALF_LEAK) -> tuple[Spikes, Integers]:
    """LIF over (T, C, ...) sums with one threshold per channel: spikes and membranes, both (T, C, ...)."""
    limit = theta.astype(np.int64).reshape(-1, *([1] * (sums.ndim - 2)))
    potential = np.zeros(sums.shape[1:], dtype=np.int64)
    spikes = np.zeros(sums.shape, dtype=np.bool_)
    membranes = np.zeros(sums.shape, dtype=np.int64)
    for step, current in enumerate(sums):
        potential = (potential * leak >> 15) + current
        spikes[step] = potential >= limit
        potential = np.where(spikes[step], 0, potential)
        membranes[step] = potential
    return spikes, membranes


def _conv(values: Integers, layer: Conv | Currents) -> Integers:
    """Sums (T, O, H', W') without bias."""
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
    return sums
