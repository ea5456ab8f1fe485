"""The torch engine: the program's bits by torch's convolutions, where torch is installed anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines.base import Run, Whole, WholeHead, steps_first
from ecc_device.engines.exits import Exits
from ecc_device.engines.numpy import exact_type
from ecc_model.bits import Spikes
from ecc_model.errors import MissingEngine, MissingPackage
from ecc_model.frames import Pixels
from ecc_model.layers import AveragePool, Conv, Currents, Layer, Linear, MaxPool, Readout, Residual, Shape
from ecc_model.optional import require
from ecc_model.program import PIXEL_MAX, Program

Tensor = Any  # torch is optional: its types are not to be had here


class TorchEngine(WholeHead):
    """Sums by torch in float32 while they stay below 2^24, else in float64; neurons in int64. On the processor.

    `MissingEngine` where torch is not installed.
    """

    name = "torch"

    def __init__(self, program: Program) -> None:
        try:
            self._torch = require("torch", "the engine 'torch'")
        except MissingPackage as exc:
            raise MissingEngine("torch", "PyTorch", "pip install 'ecc-snn[learn]'") from exc
        self.program = program
        self._head = self._prepare(program.head, PIXEL_MAX)
        self._encoders = [self._prepare(layers, 1) for layers in program.encoders]
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
        prepared = self._prepare(layers, 1)
        if isinstance(layers[-1], Readout):
            return Whole(lambda spikes: self._run(prepared, spikes, len(spikes)).numpy())
        return Whole(lambda spikes: self._spikes(prepared, spikes, len(spikes)))

    def _spikes(self, layers: Sequence[_Prepared], values: NDArray[Any], steps: int) -> Spikes:
        spikes: Spikes = self._run(layers, values, steps).numpy().astype(np.bool_)
        return spikes

    def _run(self, layers: Sequence[_Prepared], values: NDArray[Any], steps: int) -> Tensor:
        with self._torch.inference_mode():
            tensor = self._torch.tensor(np.ascontiguousarray(values)).to(self._torch.float32)
            return self._values(layers, tensor, steps)

    def _values(self, layers: Sequence[_Prepared], values: Tensor, steps: int) -> Tensor:
        functional = self._torch.nn.functional
        for prepared in layers:
            layer = prepared.layer
            if isinstance(layer, MaxPool):
                values = functional.max_pool2d(values, layer.size)
            elif isinstance(layer, AveragePool):
                values = functional.avg_pool2d(values, layer.size, divisor_override=1)
            elif isinstance(layer, Readout):
                return (self._sums(prepared.weight, layer, values) + prepared.bias).sum(0)
            elif isinstance(layer, Residual):
                values = self._fire(layer, prepared, self._joined(prepared, layer, values, steps), steps)
            else:
                sums = self._sums(prepared.weight, layer, values) + prepared.bias
                values = self._fire(layer, prepared, sums, steps)
        return values

    def _sums(self, weight: Tensor, layer: Conv | Linear | Readout | Currents, values: Tensor) -> Tensor:
        values = values.to(weight.dtype)
        if isinstance(layer, Conv | Currents):
            sums = self._torch.nn.functional.conv2d(values, weight, stride=layer.stride, padding=layer.padding)
        else:
            sums = self._torch.nn.functional.linear(values.flatten(1), weight)
        return sums.to(self._torch.int64)

    def _joined(self, prepared: _Prepared, layer: Residual, values: Tensor, steps: int) -> Tensor:
        branch = self._sums(prepared.weight, layer.last, self._values(prepared.branch, values, steps))
        shortcut = values.to(self._torch.int64)
        if layer.shortcut is not None:
            shortcut = self._sums(prepared.shortcut, layer.shortcut, values)
        first, second = self._torch.from_numpy(layer.gain[:, :, None, None].astype(np.int64))
        return ((first * branch + second * shortcut) >> layer.shift) + prepared.bias

    def _fire(self, layer: Conv | Linear | Residual, prepared: _Prepared, sums: Tensor, steps: int) -> Tensor:
        potential, spikes = self._torch.zeros_like(sums[0]), []
        for step in range(steps):
            potential = (potential * layer.leak >> 15) + sums[step if len(sums) > 1 else 0]
            spikes.append(potential >= prepared.theta)
            potential = potential.masked_fill(spikes[-1], 0)
        return self._torch.stack(spikes).to(self._torch.float32)

    def _prepare(self, layers: Sequence[Layer], input_max: int) -> tuple[_Prepared, ...]:
        prepared = []
        for layer in layers:
            if isinstance(layer, MaxPool | AveragePool):
                prepared.append(_Prepared(layer))
                input_max *= layer.size**2 if isinstance(layer, AveragePool) else 1
                continue
            main = layer.last if isinstance(layer, Residual) else layer
            shape = [-1] + [1, 1] * isinstance(main, Conv | Currents)
            found = _Prepared(layer, self._weight(main, input_max), self._vector(layer.bias, shape))
            if not isinstance(layer, Readout):
                found = found._replace(theta=self._vector(layer.theta, shape))
            if isinstance(layer, Residual):
                found = found._replace(branch=self._prepare(layer.branch, 1))
                if layer.shortcut is not None:
                    found = found._replace(shortcut=self._weight(layer.shortcut, 1))
            prepared.append(found)
            input_max = 1
        return tuple(prepared)

    def _weight(self, layer: Conv | Linear | Readout | Currents, input_max: int) -> Tensor:
        return self._torch.from_numpy(layer.weight.astype(exact_type(layer, input_max)))

    def _vector(self, vector: NDArray[np.int32], shape: list[int]) -> Tensor:
        return self._torch.from_numpy(vector.astype(np.int64)).reshape(shape)


class _Prepared(NamedTuple):
    """A layer and its tensors; weights are those of a residual's `last` and `shortcut`."""

    layer: Layer
    weight: Tensor = None
    bias: Tensor = None
    theta: Tensor = None
    shortcut: Tensor = None
    branch: tuple[_Prepared, ...] = ()
