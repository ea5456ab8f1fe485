"""The dense network as a .tflite file: int8 throughout, scales of weights by output channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines.tflite_file import Graph, Quantized
from ecc_model.frames import FrameSpec
from ecc_model.layers import MaxPool
from ecc_tools.bench.dense import LEVELS, DenseLayer, DenseLayers

LOWEST = -128  # int8 for an activation of 0
_SAME, _VALID, _RELU = 0, 1, 1  # numbers of the schema: padding, activation


def dense_file(layers: DenseLayers, frame: FrameSpec) -> bytes:
    """The file that takes a frame less 128, int8 (1, H, W, C), to logits, int8 (1, N)."""
    made = _File(frame)
    for layer in layers[:-1]:
        if isinstance(layer, MaxPool):
            made.pool(layer.size)
        else:
            made.product(layer, _activations(layer.output), FusedActivationFunction=_RELU)
    last = layers[-1]
    if not isinstance(last, DenseLayer):
        raise TypeError("the last layer gives logits")
    made.product(last, Quantized(np.array([last.output], np.float32)))
    return made.write()


class _File:
    """Layers so far; `meaning` is that of the last one's integers."""

    def __init__(self, frame: FrameSpec) -> None:
        self._graph, self._meaning = Graph(), _activations(1.0 / LEVELS)
        self._given = self._tensor = self._graph.tensor((1, frame.height, frame.width, frame.channels), self._meaning)

    def pool(self, size: int) -> None:
        _, height, width, channels = self._graph.shape(self._tensor)
        out = self._graph.tensor((1, height // size, width // size, channels), self._meaning)
        sizes = {"FilterWidth": size, "FilterHeight": size, "StrideW": size, "StrideH": size}
        self._graph.put("MAX_POOL_2D", [self._tensor], [out], "Pool2DOptions", Padding=_VALID, **sizes)
        self._tensor = out

    def product(self, layer: DenseLayer, meaning: Quantized, **activation: int) -> None:
        graph, shape = self._graph, self._graph.shape(self._tensor)
        bias = graph.constant(layer.bias, Quantized(layer.scale * self._meaning.scale))
        if layer.weight.ndim == 4:
            weight = graph.constant(np.moveaxis(layer.weight, 1, 3), Quantized(layer.scale))
            out = graph.tensor((*shape[:3], len(layer.weight)), meaning)
            strides = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
            inputs = [self._tensor, weight, bias]
            graph.put("CONV_2D", inputs, [out], "Conv2DOptions", Padding=_SAME, **strides, **activation)
        else:
            if len(shape) == 4:
                self._flatten()
            weight = graph.constant(_as_maps_lie(layer.weight, shape), Quantized(layer.scale))
            out = graph.tensor((1, len(layer.weight)), meaning)
            inputs = [self._tensor, weight, bias]
            graph.put("FULLY_CONNECTED", inputs, [out], "FullyConnectedOptions", **activation)
        self._tensor, self._meaning = out, meaning

    def _flatten(self) -> None:
        length = int(np.prod(self._graph.shape(self._tensor)))
        flat = self._graph.tensor((1, length), self._meaning)
        self._graph.put("RESHAPE", [self._tensor, self._graph.constant(np.array([1, length], np.int32))], [flat])
        self._tensor = flat

    def write(self) -> bytes:
        return self._graph.write([self._given], [self._tensor])


def _as_maps_lie(weight: NDArray[np.int8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Weights (O, I) for inputs that lie (H, W, C), not (C, H, W)."""
    if len(shape) != 4:
        return weight
    _, height, width, channels = shape
    return weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(weight), -1)


def _activations(step: float) -> Quantized:
    """0 to 255 steps in an int8."""
    return Quantized(np.array([step], np.float32), LOWEST)
