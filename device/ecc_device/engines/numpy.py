"""The numpy engine: the program's bits by BLAS, on integers that floats hold exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ecc_device.engines.base import Run, Whole, WholeHead, steps_first
from ecc_device.engines.exits import Exits
from ecc_model.bits import Spikes
from ecc_model.frames import Pixels
from ecc_model.layers import HALF_LEAK, AveragePool, Conv, Currents, Layer, Linear, Pool, Readout, Residual, Shape
from ecc_model.program import PIXEL_MAX, Program, layer_bound

FLOAT32_EXACT = 1 << 24  # float32 sums of integers are exact below this; float64 below 2^53 covers all of int32

Values = NDArray[Any]
Sums = NDArray[np.int32]


class NumpyEngine(WholeHead):
    """Matrix products in float32 while the sums of a layer stay below 2^24, else in float64."""

    name = "numpy"

    def __init__(self, program: Program) -> None:
        self.program = program
        self._head = prepare(program.head, PIXEL_MAX)
        self._encoders = [prepare(layers, 1) for layers in program.encoders]
        self._exits = Exits(program, self.segment)

    def _whole(self, frame: Pixels) -> Spikes:
        return self._spikes(self._head, steps_first(frame, self.program.input), self.program.steps)

    def encode(self, split: Spikes, encoder: int = 0) -> Spikes:
        """See `Engine.encode`."""
        return self._spikes(self._encoders[encoder], split, len(split))

    def exit(self, split: Spikes, start: int = 0) -> NDArray[np.float32]:
        """See `Engine.exit`."""
        return self._exits.logits(split, start)

    def segment(self, layers: Sequence[Layer], shape: Shape) -> Run:
        """See `Engine.segment`."""
        prepared, last = prepare(layers, 1), layers[-1]
        if not isinstance(last, Readout):
            return Whole(lambda spikes: self._spikes(prepared, spikes, len(spikes)))

        def run(spikes: Spikes) -> NDArray[np.int64]:
            values = self._values(prepared[:-1], spikes, len(spikes))
            sums = _product(values.reshape(len(values), -1), prepared[-1].matrix).astype(np.int64)
            return cast(NDArray[np.int64], (sums + last.bias).sum(axis=0))

        return Whole(run)

    def _spikes(self, layers: Sequence[Prepared], values: Values, steps: int) -> Spikes:
        return self._values(layers, values, steps).astype(np.bool_, copy=False)

    def _values(self, layers: Sequence[Prepared], values: Values, steps: int) -> Values:
        for prepared in layers:
            layer = prepared.layer
            if isinstance(layer, Pool):
                values = _pool(values, layer)
            elif isinstance(layer, Residual):
                values = _fire(self._joined(prepared, layer, values, steps), layer, steps)
            elif isinstance(layer, Conv):
                sums = _conv(values, layer, prepared.matrix) + layer.bias[:, None, None]
                values = _fire(sums, layer, steps)
            elif isinstance(layer, Linear):
                sums = _product(values.reshape(len(values), -1), prepared.matrix).astype(np.int32) + layer.bias
                values = _fire(sums, layer, steps)
        return values

    def _joined(self, prepared: Prepared, layer: Residual, values: Values, steps: int) -> Sums:
        branch = _conv(self._values(prepared.branch, values, steps), layer.last, prepared.matrix)
        shortcut = values if layer.shortcut is None else _conv(values, layer.shortcut, prepared.shortcut)
        first, second = layer.gain[:, :, None, None].astype(np.int64)
        joined: NDArray[np.int64] = (first * branch + second * shortcut) >> layer.shift
        return (joined + layer.bias[:, None, None]).astype(np.int32)


Matrix = NDArray[np.floating]
_NONE: Matrix = np.zeros((0, 0), np.float32)


class Prepared(NamedTuple):
    """A layer and its weights as matrices (inputs, outputs); a residual's are those of `last` and `shortcut`."""

    layer: Layer
    matrix: Matrix = _NONE
    shortcut: Matrix = _NONE
    branch: tuple[Prepared, ...] = ()


def prepare(layers: Sequence[Layer], input_max: int) -> tuple[Prepared, ...]:
    """The layers with their matrices, each in the smallest float type that is exact for inputs up to `input_max`."""
    prepared = []
    for layer in layers:
        if isinstance(layer, Pool):
            prepared.append(Prepared(layer))
            input_max *= layer.size**2 if isinstance(layer, AveragePool) else 1
            continue
        if isinstance(layer, Residual):
            shortcut = _NONE if layer.shortcut is None else _matrix(layer.shortcut, 1)
            prepared.append(Prepared(layer, _matrix(layer.last, 1), shortcut, prepare(layer.branch, 1)))
        else:
            prepared.append(Prepared(layer, _matrix(layer, input_max)))
        input_max = 1
    return tuple(prepared)


def _matrix(layer: Conv | Linear | Readout | Currents, input_max: int) -> Matrix:
    return np.ascontiguousarray(layer.weight.reshape(len(layer.weight), -1).T.astype(exact_type(layer, input_max)))


def exact_type(layer: Conv | Linear | Readout | Currents, input_max: int) -> type[np.floating]:
    """The smallest float type that holds a layer's sums exactly, for inputs up to `input_max`."""
    return np.float32 if layer_bound(layer, input_max) < FLOAT32_EXACT else np.float64


def _product(rows: Values, weight: Matrix) -> Matrix:
    # on Arm, BLAS reports what happens in lanes that it throws away
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return cast(Matrix, np.matmul(rows.astype(weight.dtype), weight))


def _conv(values: Values, layer: Conv | Currents, weight: Matrix) -> Sums:
    """Sums (T, O, H', W') without bias."""
    p, kernel = layer.padding, layer.weight.shape[2]
    padded = np.pad(values, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, :: layer.stride, :: layer.stride]
    steps, _, height, width = windows.shape[:4]
    rows = np.moveaxis(windows, 1, 3).reshape(steps * height * width, -1)
    return np.moveaxis(_product(rows, weight).astype(np.int32).reshape(steps, height, width, -1), -1, 1)


def _fire(sums: Sums, layer: Conv | Linear | Residual, steps: int) -> Spikes:
    """Spikes (steps, ...) of neurons on (T, ...), T 1 for sums that are the same in each step."""
    theta = layer.theta.reshape(-1, *[1] * (sums.ndim - 2))
    potential = np.zeros(sums.shape[1:], np.int32)
    spikes = np.empty((steps, *sums.shape[1:]), np.bool_)
    for step in range(steps):
        potential = _leak(potential, layer.leak) + sums[step if len(sums) > 1 else 0]
        spikes[step] = potential >= theta
        potential[spikes[step]] = 0
    return spikes


def _leak(potential: Sums, leak: int) -> Sums:
    if leak == HALF_LEAK:
        return potential >> 1
    return ((potential.astype(np.int64) * leak) >> 15).astype(np.int32)


def _pool(values: Values, pool: Pool) -> Values:
    steps, channels, height, width = values.shape
    blocks = values.reshape(steps, channels, height // pool.size, pool.size, width // pool.size, pool.size)
    if isinstance(pool, AveragePool):
        return cast(Values, blocks.sum(axis=(3, 5), dtype=np.int32))
    return cast(Values, blocks.max(axis=(3, 5)))
