"""The integer program on many frames at once: the bits of `ecc_device.engine`, by torch's matrix products.

Integers are computed with as floats: exactly, in float32 while no sum or membrane can reach 2^24, which `layer_bound`
proves for each layer, else in float64. Convolutions are unrolled into matrix products, because torch's own may go
through Winograd's transform, whose fractions round.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecc_device.engine import FLOAT32_EXACT
from ecc_model.bits import Spikes
from ecc_model.frames import FrameSpec, Pixels, fit
from ecc_model.program import PIXEL_MAX, SECTIONS, Conv, Layer, Linear, MaxPool, Program, Readout, layer_bound

CHUNK = 100  # frames at a time
UNROLLED = 1 << 20  # numbers of an unrolled convolution at a time: what stays near the processor

Synapses = Conv | Linear | Readout
Watch = Callable[[str, Synapses, Tensor, Tensor | None], None]
"""Told of each layer with weights: its place ("head.0"), itself, its inputs and its spikes (None for the readout).

Shapes: (rows, C, H, W) or (rows, N), uint8. A row is one step of one frame, or a still frame that serves all steps.
"""


class Outputs(NamedTuple):
    """What a program makes of B frames."""

    split: Spikes  # (B, T, C, H, W), at the split point
    code: Spikes  # (B, T, C', H', W'), what would travel
    logits: NDArray[np.float32]  # (B, N)


class _Prepared(NamedTuple):
    place: str
    layer: Layer
    weight: Tensor  # (inputs, outputs), the inputs in the order in which they are unrolled; empty for a pool
    bias: Tensor  # (outputs,)
    theta: Tensor  # (outputs,); empty for the readout


def in_chunks(frames: Pixels, size: int = CHUNK) -> Iterator[Pixels]:
    """Frames (N, ...) in slices that fit into memory."""
    for start in range(0, len(frames), size):
        yield frames[start : start + size]


def fit_all(frames: Pixels, spec: FrameSpec) -> Pixels:
    """`ecc_model.frames.fit` for each of the frames (N, ...). `FrameError`."""
    if frames.shape[-3:] == (spec.height, spec.width, spec.channels):
        return frames
    return np.stack([fit(frame, spec) for frame in frames])


class BatchedProgram:
    """A program for batches of frames. Bit for bit what `NumpyEngine` computes frame by frame."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._layers = {
            name: _prepare(name, getattr(program, name), PIXEL_MAX if name == "head" else 1) for name in SECTIONS
        }

    @torch.inference_mode()
    def run(self, frames: Pixels, watch: Watch | None = None) -> Outputs:
        """`uint8` frames (B, H, W, C), or (B, T, H, W, C) with steps; those of another size are fitted first.

        `FrameError` for frames that the network cannot take.
        """
        pixels = torch.tensor(fit_all(frames, self.program.input))  # a copy: what is read from a file may be read-only
        steps = pixels if pixels.ndim == 5 else pixels[:, None]  # a still image is summed once for all steps
        split = self._spikes(self._layers["head"], steps, watch)
        code = self._spikes(self._layers["encoder"], split, watch)
        *layers, last = self._layers["exit"]
        logits = self._read(last, self._spikes(layers, split, watch), watch)
        return Outputs(_channels_first(split), _channels_first(code), logits)

    def _spikes(self, layers: Sequence[_Prepared], values: Tensor, watch: Watch | None) -> Tensor:
        """(B, T, H, W, C) uint8, T 1 for a still frame -> the same, or (B, T, N), behind the last layer."""
        for place, layer, weight, bias, theta in layers:
            batch, rows = len(values), values.flatten(0, 1)
            if isinstance(layer, MaxPool):
                values = _steps(_pool(rows, layer.size), batch)
                continue
            if isinstance(layer, Conv):
                sums = _conv(rows, layer, weight)
            else:
                rows = _flat(rows)
                sums = rows.to(weight.dtype) @ weight
            values = _fire(_steps(sums.add_(bias), batch), theta, self.program.steps)
            if watch is not None:
                watch(place, layer, _maps(rows), _maps(values.flatten(0, 1)))
        return values

    def _read(self, last: _Prepared, spikes: Tensor, watch: Watch | None) -> NDArray[np.float32]:
        readout, rows = cast(Readout, last.layer), _flat(spikes.flatten(0, 1))
        if watch is not None:
            watch(last.place, readout, rows, None)
        sums = (rows.to(last.weight.dtype) @ last.weight).add_(last.bias).to(torch.int64)
        total = _steps(sums, len(spikes)).sum(1).numpy()
        return cast(NDArray[np.float32], total.astype(np.float32) * readout.scale)


def _prepare(section: str, layers: Sequence[Layer], input_max: int) -> list[_Prepared]:
    prepared = []
    for index, layer in enumerate(layers):
        weight = bias = theta = torch.empty(0)
        if not isinstance(layer, MaxPool):
            # the membrane stays within twice the largest sum (+ 1 for the floor)
            exact = 2 * layer_bound(layer, input_max) + 1 < FLOAT32_EXACT
            dtype = torch.float32 if exact else torch.float64
            matrix = torch.tensor(layer.weight)
            if isinstance(layer, Conv):
                matrix = matrix.permute(0, 2, 3, 1)  # channels last, as the frames come
            weight = matrix.flatten(1).t().to(dtype).contiguous()
            bias = torch.tensor(layer.bias).to(dtype)
            if not isinstance(layer, Readout):
                theta = torch.tensor(layer.theta).to(dtype)  # rounded only beyond what a membrane can reach
            input_max = 1
        prepared.append(_Prepared(f"{section}.{index}", layer, weight, bias, theta))
    return prepared


def _conv(rows: Tensor, layer: Conv, weight: Tensor) -> Tensor:
    """Sums (R, H', W', O) of (R, H, W, C) uint8, without bias."""
    p, kernel, stride = layer.padding, layer.weight.shape[2], layer.stride
    windows = F.pad(rows, (0, 0, p, p, p, p)).unfold(1, kernel, stride).unfold(2, kernel, stride)
    windows = windows.permute(0, 1, 2, 4, 5, 3)  # (R, H', W', K, K, C)
    inputs, outputs = weight.shape
    sums = torch.empty(*windows.shape[:3], outputs, dtype=weight.dtype)
    some = max(1, UNROLLED // windows[0].numel())
    for part, out in zip(torch.split(windows, some), torch.split(sums, some), strict=True):
        matrix = part.reshape(-1, inputs)  # as bytes still, which is four times as fast
        torch.mm(matrix.to(weight.dtype), weight, out=out.view(-1, outputs))
    return sums


def _fire(sums: Tensor, theta: Tensor, steps: int) -> Tensor:
    """Spikes (B, steps, ..., O) uint8 of LIF neurons on (B, T, ..., O), T 1 for a current that is always the same.

    `U = floor(V / 2) + X`, spike where `U >= theta`, then `V = 0`.
    """
    spikes = torch.empty(len(sums), steps, *sums.shape[2:], dtype=torch.uint8)
    potential = torch.zeros_like(sums[:, 0])
    for step in range(steps):
        potential.mul_(0.5).floor_().add_(sums[:, step if sums.shape[1] > 1 else 0])
        silent = potential < theta
        potential.mul_(silent)
        spikes[:, step] = ~silent
    return spikes


def _pool(rows: Tensor, size: int) -> Tensor:
    """(R, H, W, C) -> (R, H / size, W / size, C)."""
    corners = itertools.product(range(size), repeat=2)
    return functools.reduce(torch.maximum, [rows[:, y::size, x::size] for y, x in corners])


def _steps(rows: Tensor, batch: int) -> Tensor:
    """(B T, ...) -> (B, T, ...)."""
    return rows.view(batch, -1, *rows.shape[1:])


def _maps(rows: Tensor) -> Tensor:
    """(R, H, W, C) -> (R, C, H, W); what has no map stays."""
    return rows.permute(0, 3, 1, 2) if rows.ndim == 4 else rows


def _flat(rows: Tensor) -> Tensor:
    """(R, H, W, C) -> (R, C H W), in the order of the weights of a fully connected layer."""
    return _maps(rows).flatten(1)


def _channels_first(values: Tensor) -> Spikes:
    """(B, T, H, W, C) -> (B, T, C, H, W)."""
    return cast(Spikes, values.permute(0, 1, 4, 2, 3).contiguous().numpy().astype(np.bool_))
