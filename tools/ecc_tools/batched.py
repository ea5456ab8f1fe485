"""The integer program on many frames at once: the bits of `ecc_device.engines`, by torch's matrix products.

Integers are computed with as floats: exactly, in float32 while no sum or membrane can reach 2^24, which `layer_bound`
proves for each layer, else in float64; a residual's sums are joined in int64. Convolutions are unrolled into matrix
products, because torch's own may go through Winograd's transform, whose fractions round.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecc_device.engines.numpy import FLOAT32_EXACT
from ecc_model.bits import Spikes
from ecc_model.frames import FrameSpec, Pixels, fit
from ecc_model.layers import (
    HALF_LEAK,
    LEAK_ONE,
    AnyLayer,
    AveragePool,
    Conv,
    Currents,
    Linear,
    Pool,
    Probe,
    Readout,
    Residual,
    Tap,
    Terminal,
)
from ecc_model.program import PIXEL_MAX, Program, layer_bound
from ecc_model.reference import join

CHUNK = 100  # frames at a time
UNROLLED = 1 << 20  # numbers of an unrolled convolution at a time: what stays near the processor

Scalar = TypeVar("Scalar", bound=np.generic)
Synapses = Conv | Linear | Terminal | Currents
Watch = Callable[[str, Synapses, Tensor, Tensor | None], None]
"""Told of each layer with weights: its place ("head.0"), itself, its inputs and its spikes (None for the readout).

A probe's inputs are its counts, one row a frame.
Of a residual it is told of the layers inside ("head.1.branch.0", "head.1.last", "head.1.shortcut"); its spikes come
with the last of its branch.

Shapes: (rows, C, H, W) or (rows, N), uint8. A row is one step of one frame, or a still frame that serves all steps.
"""


class Outputs(NamedTuple):
    """What a program makes of B frames."""

    split: Spikes  # (B, T, C, H, W), at the split point
    code: Spikes  # (B, T, C', H', W'), what would travel
    logits: NDArray[np.float32]  # (B, N)


_NONE = torch.empty(0)


class _Prepared(NamedTuple):
    place: str
    layer: AnyLayer
    weight: Tensor = _NONE  # (inputs, outputs), the inputs in the order in which they are unrolled
    bias: Tensor = _NONE  # (outputs,)
    theta: Tensor = _NONE  # (outputs,)
    branch: tuple[_Prepared, ...] = ()
    shortcut: Tensor = _NONE  # as `weight`, of a residual


def in_chunks(frames: NDArray[Scalar], size: int = CHUNK) -> Iterator[NDArray[Scalar]]:
    """Frames or codes (N, ...) in slices that fit into memory."""
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
        sections = {"head": program.head, "encoder": program.encoder, **program.exits}
        self._layers = {
            name: _prepare(name, layers, PIXEL_MAX if name == "head" else 1) for name, layers in sections.items()
        }

    @torch.inference_mode()
    def run(self, frames: Pixels, watch: Watch | None = None) -> Outputs:
        """`uint8` frames (B, H, W, C), or (B, T, H, W, C) with steps; those of another size are fitted first.

        `FrameError` for frames that the network cannot take.
        """
        split = self._split(frames, watch)
        code = self._spikes(self._layers["encoder"], split, watch)
        logits = [self._read(self._layers[name], split, watch) for name in self.program.exits]
        return Outputs(_channels_first(split), _channels_first(code), join(logits, self.program.known))

    def _split(self, frames: Pixels, watch: Watch | None) -> Tensor:
        pixels = torch.tensor(fit_all(frames, self.program.input))  # a copy: what is read from a file may be read-only
        steps = pixels if pixels.ndim == 5 else pixels[:, None]  # a still image is summed once for all steps
        return self._spikes(self._layers["head"], steps, watch)

    def _count(self, layers: Sequence[_Prepared], taps: Sequence[Tap], values: Tensor, watch: Watch | None) -> Tensor:
        """Counts (B, D) at `taps`; values: (B, T, H, W, C) spikes that enter the `layers`."""
        found, before = [], 0
        for tap in taps:
            values, before = self._spikes(layers[before : tap.after], values, watch), tap.after
            totals = values.sum(1, dtype=torch.int64)
            if totals.ndim == 4:
                batch, height, width, channels = totals.shape
                cells = totals.view(batch, tap.grid, height // tap.grid, tap.grid, width // tap.grid, channels)
                totals = cells.sum((2, 4)).permute(0, 3, 1, 2)
            found.append(totals.flatten(1))
        return torch.cat(found, 1)

    def _spikes(self, layers: Sequence[_Prepared], values: Tensor, watch: Watch | None) -> Tensor:
        """(B, T, H, W, C) integers, T 1 for a still frame -> the same, or (B, T, N), behind the last layer."""
        for prepared in layers:
            layer = prepared.layer
            batch, rows = len(values), values.flatten(0, 1)
            if isinstance(layer, Pool):
                values = _steps(_pool(rows, layer), batch)
                continue
            if isinstance(layer, Residual):
                values = self._residual(prepared, layer, values, watch)
                continue
            if isinstance(layer, Conv):
                sums = _conv(rows, layer, prepared.weight)
            else:
                rows = _flat(rows)
                sums = rows.to(prepared.weight.dtype) @ prepared.weight
            values = self._fire(prepared, _steps(sums.add_(prepared.bias), batch))
            if watch is not None:
                watch(prepared.place, cast(Conv | Linear, layer), _maps(rows), _maps(values.flatten(0, 1)))
        return values

    def _residual(self, prepared: _Prepared, layer: Residual, values: Tensor, watch: Watch | None) -> Tensor:
        rows, inside = values.flatten(0, 1), self._spikes(prepared.branch, values, watch).flatten(0, 1)
        branch = _conv(inside, layer.last, prepared.weight).to(torch.int64)
        shortcut = rows if layer.shortcut is None else _conv(rows, layer.shortcut, prepared.shortcut)
        first, second = torch.from_numpy(layer.gain.astype(np.int64))
        joined = (first * branch + second * shortcut.to(torch.int64)) >> layer.shift
        values = self._fire(prepared, _steps(joined + prepared.bias, len(values)))
        if watch is not None:
            watch(f"{prepared.place}.last", layer.last, _maps(inside), _maps(values.flatten(0, 1)))
            if layer.shortcut is not None:
                watch(f"{prepared.place}.shortcut", layer.shortcut, _maps(rows), None)
        return values

    def _fire(self, prepared: _Prepared, sums: Tensor) -> Tensor:
        layer = cast(Conv | Linear | Residual, prepared.layer)
        return _fire(sums, prepared.theta, self.program.steps, layer.leak)

    def _read(self, exit_: Sequence[_Prepared], split: Tensor, watch: Watch | None) -> NDArray[np.float32]:
        """Logits (B, N) of one exit."""
        *layers, last = exit_
        layer = cast(Terminal, last.layer)
        if isinstance(layer, Probe):
            rows = self._count(layers, layer.taps, split, watch)
            sums = (rows.to(last.weight.dtype) @ last.weight).add_(last.bias).to(torch.int64)
        else:
            spikes = self._spikes(layers, split, watch)
            rows = _flat(spikes.flatten(0, 1))
            sums = (rows.to(last.weight.dtype) @ last.weight).add_(last.bias).to(torch.int64)
            sums = _steps(sums, len(split)).sum(1)
        if watch is not None:
            watch(last.place, layer, rows, None)
        return cast(NDArray[np.float32], sums.numpy().astype(np.float32) * layer.scale)


def _prepare(section: str, layers: Sequence[AnyLayer], input_max: int) -> tuple[_Prepared, ...]:
    prepared = []
    for index, layer in enumerate(layers):
        place = f"{section}.{index}"
        if isinstance(layer, Pool):
            prepared.append(_Prepared(place, layer))
            input_max *= layer.size**2 if isinstance(layer, AveragePool) else 1
            continue
        if isinstance(layer, Residual):
            prepared.append(_prepare_residual(place, layer))
        else:
            weight = _matrix(layer, _dtype(layer, input_max))
            theta = _NONE if isinstance(layer, Terminal) else _vector(layer.theta, weight.dtype)
            prepared.append(_Prepared(place, layer, weight, _vector(layer.bias, weight.dtype), theta))
        input_max = 1
    return tuple(prepared)


def _prepare_residual(place: str, layer: Residual) -> _Prepared:
    return _Prepared(
        place,
        layer,
        _matrix(layer.last, torch.float64),
        _vector(layer.bias, torch.float64),
        _vector(layer.theta, torch.float64),
        _prepare(f"{place}.branch", layer.branch, 1),
        _NONE if layer.shortcut is None else _matrix(layer.shortcut, torch.float64),
    )


def _dtype(layer: Conv | Linear | Terminal, input_max: int) -> torch.dtype:
    """The smallest float type that holds the layer's sums and membranes exactly; for counts the largest."""
    if isinstance(layer, Probe):
        return torch.float64
    halves = isinstance(layer, Readout) or layer.leak == HALF_LEAK
    # the membrane stays within twice the largest sum (+ 1 for the floor)
    return torch.float32 if halves and 2 * layer_bound(layer, input_max) + 1 < FLOAT32_EXACT else torch.float64


def _matrix(layer: Synapses, dtype: torch.dtype) -> Tensor:
    matrix = torch.tensor(layer.weight)
    if isinstance(layer, Conv | Currents):
        matrix = matrix.permute(0, 2, 3, 1)  # channels last, as the frames come
    return matrix.flatten(1).t().to(dtype).contiguous()


def _vector(values: NDArray[np.int32], dtype: torch.dtype) -> Tensor:
    return torch.tensor(values).to(dtype)  # thresholds are rounded only beyond what a membrane can reach


def _conv(rows: Tensor, layer: Conv | Currents, weight: Tensor) -> Tensor:
    """Sums (R, H', W', O) of (R, H, W, C) integers, without bias."""
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


def _fire(sums: Tensor, theta: Tensor, steps: int, leak: int) -> Tensor:
    """Spikes (B, steps, ..., O) uint8 of LIF neurons on (B, T, ..., O), T 1 for a current that is always the same.

    `U = floor(V leak / 2^15) + X`, spike where `U >= theta`, then `V = 0`.
    """
    spikes = torch.empty(len(sums), steps, *sums.shape[2:], dtype=torch.uint8)
    potential = torch.zeros_like(sums[:, 0])
    for step in range(steps):
        potential.mul_(leak / LEAK_ONE).floor_().add_(sums[:, step if sums.shape[1] > 1 else 0])
        silent = potential < theta
        potential.mul_(silent)
        spikes[:, step] = ~silent
    return spikes


def _pool(rows: Tensor, pool: Pool) -> Tensor:
    """(R, H, W, C) -> (R, H / size, W / size, C)."""
    corners = itertools.product(range(pool.size), repeat=2)
    parts = [rows[:, y :: pool.size, x :: pool.size] for y, x in corners]
    if isinstance(pool, AveragePool):
        return functools.reduce(torch.add, [part.to(torch.int16) for part in parts])
    return functools.reduce(torch.maximum, parts)


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
