"""From a trained spiking network to the integer program: batch norm folded, int8 weights, integer thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecc_model.errors import CompileError
from ecc_model.nets.neuron import V_THRESHOLD
from ecc_model.nets.vgg import Classifier, Pool, SpikingConv, SpikingLinear, SpikingVgg9
from ecc_model.program import INT32_MAX, PIXEL_MAX, Conv, Layer, Linear, MaxPool, Program, Readout

WEIGHT_MAX = 127  # int8, symmetric
BIAS_MAX = 1 << 24  # keeps sums far from int32's end; a bias this large drowns 8-bit weights anyway
Float64 = NDArray[np.float64]


def compile_network(net: SpikingVgg9, others: Sequence[nn.Sequential] = ()) -> Program:
    """The integer program of a trained network and of `others`, further encoders of its spikes at the cut.

    `CompileError` if weights are not finite or sums could overflow.
    """
    return Program(
        net.config.frame,
        compile_section(net.head, input_scale=1.0 / PIXEL_MAX),
        compile_section(net.encoder),
        compile_section(net.exit, steps=net.config.steps),
        others=tuple(compile_section(encoder) for encoder in others),
    )


def compile_section(section: nn.Sequential, *, input_scale: float = 1.0, steps: int = 1) -> tuple[Layer, ...]:
    """Integer layers of one section. `input_scale`: the float value of an input of 1; `steps`: T of the readout."""
    layers: list[Layer] = []
    for module in section:
        if isinstance(module, SpikingConv):
            weight, bias = fold(module)
            integer, offset, scale = quantize(weight * input_scale, bias)
            stride = int(module.conv.stride[0])
            layers.append(Conv(integer, offset, thresholds(scale), stride, int(cast(int, module.conv.padding[0]))))
        elif isinstance(module, SpikingLinear):
            integer, offset, scale = quantize(*_parameters(module.linear))
            layers.append(Linear(integer, offset, thresholds(scale)))
        elif isinstance(module, Classifier):
            integer, offset, scale = quantize(*_parameters(module.linear))
            layers.append(Readout(integer, offset, (scale / steps).astype(np.float32)))
        elif isinstance(module, Pool):
            layers.append(MaxPool(int(cast(int, module.pool.kernel_size))))
        else:
            raise CompileError(f"no integer form is known for the layer {type(module).__name__}")
        input_scale = 1.0
    return tuple(layers)


def fold(layer: SpikingConv) -> tuple[Float64, Float64]:
    """Weight (O, I, K, K) and bias (O,) of convolution and batch norm in one, float64.

    `w' = w gamma / sqrt(var + eps)`, `b' = beta - mean gamma / sqrt(var + eps)`.
    """
    norm = layer.norm
    mean, var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    gain = _double(norm.weight) / np.sqrt(_double(var) + norm.eps)
    return _double(layer.conv.weight) * gain[:, None, None, None], _double(norm.bias) - _double(mean) * gain


def quantize(weight: Float64, bias: Float64) -> tuple[NDArray[np.int8], NDArray[np.int32], Float64]:
    """int8 weights, int32 bias and the scale of each output channel: `weight ~ integer * scale`.

    The scale puts the channel's largest weight at 127, or its bias at 2^24 where that asks for more.
    """
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise CompileError("weights are not finite; train again with a smaller learning rate")
    flat = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.maximum(np.maximum(flat / WEIGHT_MAX, np.abs(bias) / BIAS_MAX), 1e-12)
    integer = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
    return integer, np.rint(bias / scale).astype(np.int32), scale


def thresholds(scale: Float64) -> NDArray[np.int32]:
    """`theta = ceil(2 V_th / scale)`, clipped to [1, 2^31 - 1]; membranes count twice the potential over the scale."""
    return np.clip(np.ceil(2 * V_THRESHOLD / scale), 1, INT32_MAX).astype(np.int32)


def _parameters(layer: nn.Linear) -> tuple[Float64, Float64]:
    return _double(layer.weight), _double(layer.bias)


def _double(tensor: Tensor) -> Float64:
    return cast(Float64, tensor.detach().to(torch.float64).cpu().numpy())
