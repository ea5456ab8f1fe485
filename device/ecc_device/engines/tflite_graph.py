"""A section of the integer program as a .tflite graph whose float32 numbers are the program's integers, exactly.

Maps are (T, H, W, C): a layer runs over all steps at once, its neurons step by step. Comparisons are left out, as the
runtimes' fast paths know none: `S = min(relu(U - (theta - 1)), 1)`, `V = U (1 - S)`, `U = floor(V / 2) + X`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines.numpy import FLOAT32_EXACT
from ecc_device.engines.tflite_file import Graph
from ecc_model.errors import DeviceError
from ecc_model.layers import HALF_LEAK, AveragePool, Conv, Layer, Linear, MaxPool, Readout, Residual, Shape
from ecc_model.program import PIXEL_MAX, layer_bound
from ecc_model.proof import membrane_bound

HYBRID_EXACT = 1 << 19  # below this the error of a product of int8 weights and quantized spikes is far from one half
_VALID, _NONE, _RELU = 1, 0, 1  # numbers of the schema: padding, activations

_Vector = NDArray[np.float32]


def section_file(layers: Sequence[Layer], shape: Shape, *, pixels: bool, still: bool, hybrid: bool) -> bytes:
    """The file that runs `layers` on (T, H, W, C) float32, or a still frame on (1, H, W, C).

    shape: (T, C, H, W) of the input. hybrid: int8 products, of which only some runtimes are fast. Output: spikes
    (T, H, W, C) or (T, N) as 0 and 1, or of a readout its sums (N,). `DeviceError` for what it cannot hold exactly.
    """
    return _Section(shape, pixels=pixels, still=still, hybrid=hybrid).file(layers)


class _Section:
    def __init__(self, shape: Shape, *, pixels: bool, still: bool, hybrid: bool) -> None:
        self._graph = Graph()
        self._steps, channels, height, width = shape
        self._hybrid, self._input_max = hybrid, PIXEL_MAX if pixels else 1
        self._input = self._graph.tensor((1 if still else self._steps, height, width, channels))

    def file(self, layers: Sequence[Layer]) -> bytes:
        tensor = self._input
        for index, layer in enumerate(layers):
            tensor = self._add(index, layer, tensor)
        return self._graph.write([self._input], [tensor])

    def _add(self, index: int, layer: Layer, tensor: int) -> int:
        if isinstance(layer, MaxPool):
            return self._pool("MAX_POOL_2D", layer.size, tensor)
        if isinstance(layer, AveragePool):
            self._input_max = layer.size**2
            mean = self._pool("AVERAGE_POOL_2D", layer.size, tensor)
            count = self._with("MUL", mean, np.float32(layer.size**2))
            return self._floor(self._with("ADD", count, np.float32(0.5)))
        if isinstance(layer, Residual) or (not isinstance(layer, Readout) and layer.leak != HALF_LEAK):
            raise DeviceError(
                f"layer {index} is a residual sum or has another leak than 1/2, which the engine 'tflite' does not "
                "know; choose another one with --engine event"
            )
        bound = layer_bound(layer, self._input_max)
        most = bound * self._steps if isinstance(layer, Readout) else membrane_bound(bound, layer.leak, self._steps)
        if most >= FLOAT32_EXACT:
            raise DeviceError(
                f"layer {index} has sums of up to {most}, beyond what the engine 'tflite' holds exactly; "
                "choose another one with --engine event"
            )
        sums = self._sums(layer, tensor, hybrid=self._takes_int8(layer, bound))
        self._input_max = 1
        if isinstance(layer, Readout):
            axis = self._graph.constant(np.zeros(1, np.int32))
            return self._graph.add("SUM", [sums, axis], (len(layer.weight),), options="ReducerOptions", KeepDims=0)[0]
        theta = np.minimum(layer.theta.astype(np.int64), most + 1)  # what no membrane reaches, none reaches at most + 1
        return self._fire(sums, (theta - 1).astype(np.float32))

    def _takes_int8(self, layer: Conv | Linear | Readout, bound: int) -> bool:
        """Spikes are quantized without loss, other numbers are not; and kernels may want weights from -127 on."""
        return self._hybrid and self._input_max == 1 and bound < HYBRID_EXACT and bool((layer.weight > -128).all())

    def _pool(self, name: str, size: int, tensor: int) -> int:
        steps, height, width, channels = self._graph.shape(tensor)
        shape = (steps, height // size, width // size, channels)
        sizes = {"FilterWidth": size, "FilterHeight": size, "StrideW": size, "StrideH": size}
        return self._graph.add(name, [tensor], shape, options="Pool2DOptions", Padding=_VALID, **sizes)[0]

    def _sums(self, layer: Conv | Linear | Readout, tensor: int, *, hybrid: bool) -> int:
        """Sums of all steps, bias included: (T, H', W', O) or (T, O)."""
        if isinstance(layer, Conv):
            return self._convolved(layer, tensor, hybrid=hybrid)
        graph, weight = self._graph, layer.weight
        steps, *sides = graph.shape(tensor)
        if len(sides) == 3:  # the program counts (C, H, W), the map is (H, W, C)
            height, width, channels = sides
            weight = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(weight), -1)
            flat = graph.constant(np.array([steps, weight.shape[1]], np.int32))
            tensor = graph.add("RESHAPE", [tensor, flat], (steps, weight.shape[1]))[0]
        inputs = [tensor, *self._weights(weight, layer.bias, hybrid=hybrid)]
        found = graph.add("FULLY_CONNECTED", inputs, (steps, len(weight)), options="FullyConnectedOptions")[0]
        return self._floor(found) if hybrid else found

    def _convolved(self, layer: Conv, tensor: int, *, hybrid: bool) -> int:
        weight = np.moveaxis(layer.weight, 1, 3)
        steps, *sides = self._graph.shape(tensor)
        shape = [(side + 2 * layer.padding - weight.shape[1]) // layer.stride + 1 for side in sides[:2]]
        inputs = [self._padded(tensor, layer.padding), *self._weights(weight, layer.bias, hybrid=hybrid)]
        strides = {"StrideW": layer.stride, "StrideH": layer.stride, "DilationWFactor": 1, "DilationHFactor": 1}
        out = (steps, *shape, len(weight))
        found = self._graph.add("CONV_2D", inputs, out, options="Conv2DOptions", Padding=_VALID, **strides)[0]
        return self._floor(found) if hybrid else found

    def _weights(self, weight: NDArray[np.int8], bias: NDArray[np.int32], *, hybrid: bool) -> list[int]:
        """Weights and bias of a product. Hybrid ones are off by far less than the half that is added for the floor."""
        graph, numbers = self._graph, bias.astype(np.float32)
        if hybrid:
            return [graph.constant(weight), graph.constant(numbers + np.float32(0.5))]
        return [graph.add("DEQUANTIZE", [graph.constant(weight)], weight.shape)[0], graph.constant(numbers)]

    def _padded(self, tensor: int, padding: int) -> int:
        if padding == 0:
            return tensor
        steps, height, width, channels = self._graph.shape(tensor)
        border = self._graph.constant(np.array([[0, 0], [padding] * 2, [padding] * 2, [0, 0]], np.int32))
        shape = (steps, height + 2 * padding, width + 2 * padding, channels)
        return self._graph.add("PAD", [tensor, border], shape, options="PadOptions")[0]

    def _fire(self, sums: int, limit: _Vector) -> int:
        """Spikes (T, ...) of neurons that fire above `limit`, theta - 1, on sums (T, ...) or (1, ...)."""
        graph, steps = self._graph, self._steps
        given, *rest = graph.shape(sums)
        currents = [sums] * steps
        if given > 1:
            axis = graph.constant(np.zeros((), np.int32))
            shapes = [(1, *rest)] * steps
            currents = graph.add("SPLIT", [axis, sums], *shapes, options="SplitOptions", NumSplits=steps)
        potential, spikes = currents[0], []
        for step, current in enumerate(currents):
            if step:
                potential = self._both("ADD", self._floor(self._with("MUL", potential, np.float32(0.5))), current)
            spikes.append(self._with("MINIMUM", self._with("SUB", potential, limit, _RELU), np.float32(1)))
            if step + 1 < steps:
                silent = graph.constant(np.ones(1, np.float32))
                potential = self._both("MUL", potential, self._both("SUB", silent, spikes[-1]))
        return graph.add("CONCATENATION", spikes, (steps, *rest), options="ConcatenationOptions", Axis=0)[0]

    def _floor(self, tensor: int) -> int:
        return self._graph.add("FLOOR", [tensor], self._graph.shape(tensor))[0]

    def _with(self, name: str, tensor: int, number: NDArray[np.float32] | np.float32, activation: int = _NONE) -> int:
        return self._both(name, tensor, self._graph.constant(np.atleast_1d(number)), activation)

    def _both(self, name: str, first: int, second: int, activation: int = _NONE) -> int:
        shape = max(self._graph.shape(first), self._graph.shape(second), key=len)
        if name == "MINIMUM":
            return self._graph.add(name, [first, second], shape, options="MaximumMinimumOptions")[0]
        options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}[name]
        return self._graph.add(name, [first, second], shape, options=options, FusedActivationFunction=activation)[0]
