"""Engines run the integer program; all of them emit the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ecc_model import reference
from ecc_model.bits import Spikes
from ecc_model.frames import Pixels, fit
from ecc_model.program import PIXEL_MAX, Conv, Layer, Linear, MaxPool, Program, Readout, layer_bound

FLOAT32_EXACT = 1 << 24  # float32 sums of integers are exact below this; float64 below 2^53 covers all of int32


class Engine(Protocol):
    """What the runtime asks of an engine. Shapes are those of `Program`."""

    program: Program

    def head(self, frame: Pixels) -> Spikes:
        """`uint8` (H, W, C) or (T, H, W, C), any size -> spikes at the split point (T, C, H, W)."""
        ...

    def encode(self, split: Spikes) -> Spikes:
        """Spikes at the split point -> spikes that travel (T, C', H', W')."""
        ...

    def exit(self, split: Spikes) -> NDArray[np.float32]:
        """Spikes at the split point -> logits (N,): int32 sums over T times the class's float32 scale."""
        ...


def logits(program: Program, sums: NDArray[np.int64]) -> NDArray[np.float32]:
    """Integer sums (N,) to logits (N,); one float32 product each, the same on every machine."""
    return sums.astype(np.float32) * program.readout.scale


class ReferenceEngine:
    """The definition itself, slowly."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def head(self, frame: Pixels) -> Spikes:
        """See `Engine.head`."""
        pixels = reference.frame_input(fit(frame, self.program.input), self.program.steps)
        return reference.run(self.program.head, pixels)[0].astype(np.bool_)

    def encode(self, split: Spikes) -> Spikes:
        """See `Engine.encode`."""
        return reference.run(self.program.encoder, split)[0].astype(np.bool_)

    def exit(self, split: Spikes) -> NDArray[np.float32]:
        """See `Engine.exit`."""
        return logits(self.program, reference.run(self.program.exit, split)[0])


class NumpyEngine:
    """The same bits by BLAS: products of integers in float32 while sums stay below 2^24, else in float64."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._head = _prepare(program.head, PIXEL_MAX)
        self._encoder = _prepare(program.encoder, 1)
        self._exit = _prepare(program.exit, 1)

    def head(self, frame: Pixels) -> Spikes:
        """See `Engine.head`."""
        pixels = fit(frame, self.program.input)
        steps = pixels if pixels.ndim == 4 else pixels[None]  # a still image is summed once for all steps
        return self._spikes(self._head, np.moveaxis(steps, -1, 1))

    def encode(self, split: Spikes) -> Spikes:
        """See `Engine.encode`."""
        return self._spikes(self._encoder, split)

    def exit(self, split: Spikes) -> NDArray[np.float32]:
        """See `Engine.exit`."""
        *layers, (readout, weight) = self._exit
        spikes = self._spikes(layers, split)
        sums = _product(spikes.reshape(len(spikes), -1), weight).astype(np.int64) + readout.bias  # type: ignore[union-attr]
        return logits(self.program, sums.sum(axis=0))

    def _spikes(self, layers: Sequence[_Prepared], values: NDArray[np.generic]) -> Spikes:
        for layer, weight in layers:
            if isinstance(layer, MaxPool):
                values = _pool(values, layer.size)
            else:
                sums = _conv(values, layer, weight) if isinstance(layer, Conv) else _linear(values, layer, weight)
                values = _fire(sums, layer, self.program.steps)
        return values.astype(np.bool_, copy=False)


Matrix = NDArray[np.floating]
_Prepared = tuple[Layer, Matrix]


def _prepare(layers: Sequence[Layer], input_max: int) -> list[_Prepared]:
    prepared: list[_Prepared] = []
    for layer in layers:
        if isinstance(layer, MaxPool):
            prepared.append((layer, np.zeros((0, 0), np.float32)))
            continue
        dtype = np.float32 if layer_bound(layer, input_max) < FLOAT32_EXACT else np.float64
        matrix = layer.weight.reshape(len(layer.weight), -1).T.astype(dtype)
        prepared.append((layer, np.ascontiguousarray(matrix)))
        input_max = 1
    return prepared


def _product(rows: NDArray[np.generic], weight: Matrix) -> Matrix:
    return cast(Matrix, np.matmul(rows.astype(weight.dtype), weight))


def _conv(values: NDArray[np.generic], layer: Conv, weight: Matrix) -> NDArray[np.int32]:
    p, kernel = layer.padding, layer.weight.shape[2]
    padded = np.pad(values, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, :: layer.stride, :: layer.stride]
    steps, _, height, width = windows.shape[:4]
    rows = np.moveaxis(windows, 1, 3).reshape(steps * height * width, -1)
    sums = _product(rows, weight).astype(np.int32) + layer.bias
    return np.moveaxis(sums.reshape(steps, height, width, -1), -1, 1)


def _linear(values: NDArray[np.generic], layer: Linear | Readout, weight: Matrix) -> NDArray[np.int32]:
    return _product(values.reshape(len(values), -1), weight).astype(np.int32) + layer.bias


def _fire(sums: NDArray[np.int32], layer: Layer, steps: int) -> Spikes:
    theta = layer.theta.reshape(-1, *[1] * (sums.ndim - 2))  # type: ignore[union-attr]
    potential = np.zeros(sums.shape[1:], np.int32)
    spikes = np.empty((steps, *sums.shape[1:]), np.bool_)
    for step in range(steps):
        potential = (potential >> 1) + sums[step if len(sums) > 1 else 0]
        spikes[step] = potential >= theta
        potential[spikes[step]] = 0
    return spikes


def _pool(values: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    steps, channels, height, width = values.shape
    blocks = values.reshape(steps, channels, height // size, size, width // size, size)
    return cast(NDArray[np.generic], blocks.max(axis=(3, 5)))
