"""The dense network beside a spiking one: the layers of a program with ReLUs, in int8, one pass over a frame.

Made from a program, it has the program's weights and answers nothing: only its time is looked at. Made from a run of
`dense-vgg9`, it is the network that a device might run instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import DeviceError
from ecc_model.frames import Pixels
from ecc_model.layers import Conv, Linear, MaxPool, Readout
from ecc_model.program import Program

if TYPE_CHECKING:
    from ecc_model.nets.vgg import SpikingVgg9

LEVELS = 255  # of an activation, uint8
STEP = 1 / LEVELS  # of all numbers in a network that answers nothing
IN_RANGE = 0.999  # share of a layer's activations that are not clipped
CALIBRATION_FRAMES = 500
Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """A convolution that keeps the map's size or, (O, I), a fully connected layer.

    `relu(scale input_scale (weight x + bias)) / output`; x and the result are 0 to 255. The last layer has no ReLU, and
    where its result is rounded, it is -128 to 127.
    """

    weight: NDArray[np.int8]  # (O, I, K, K) or (O, I)
    bias: NDArray[np.int32]
    scale: Vector  # (O,), of the weights
    output: float  # a step of the result


DenseLayers = Sequence[DenseLayer | MaxPool]


def plain_layers(program: Program) -> list[Conv | Linear | MaxPool | Readout]:
    """The layers from frame to logits; `DeviceError` where there are residual sums or average pools."""
    found: list[Conv | Linear | MaxPool | Readout] = []
    for layer in (*program.head, *program.exit):
        if not isinstance(layer, Conv | Linear | MaxPool | Readout):
            raise DeviceError("runtimes are compared on plain networks, without residual sums and average pools")
        found.append(layer)
    return found


def dense_of_program(program: Program) -> DenseLayers:
    """The program's weights, with scales that make no sense."""
    found: list[DenseLayer | MaxPool] = []
    for layer in plain_layers(program):
        if isinstance(layer, MaxPool):
            found.append(layer)
            continue
        if isinstance(layer, Conv) and (layer.stride, 2 * layer.padding + 1) != (1, layer.weight.shape[2]):
            raise DeviceError("a dense network is made of convolutions that keep a map's size; leave out --against ann")
        found.append(DenseLayer(layer.weight, layer.bias, np.full(len(layer.bias), STEP, np.float32), STEP))
    return found


def dense_of_run(folder: Path, program: Program, labels: Sequence[str], frames: Pixels) -> DenseLayers:
    """A trained `dense-vgg9` in int8; ranges of activations are those of `frames` (N, H, W, C), best validation frames.

    `RunError`; `DeviceError` where the run's classes or layers are not those of the program.
    """
    from ecc_tools.networks import DENSE_VGG9
    from ecc_tools.runs import load_run

    net, record = load_run(folder)
    if record.run.network.kind != DENSE_VGG9:
        raise DeviceError(f"{folder} holds a {record.run.network.kind}; what stands beside an edge is a {DENSE_VGG9}")
    if record.provenance.labels != tuple(labels):
        raise DeviceError(f"{folder} knows other classes than the model; train it on the same ones")
    found = _quantized(cast("SpikingVgg9", net), frames)
    have, want = (
        [la.weight.shape for la in some if not isinstance(la, MaxPool)] for some in (found, plain_layers(program))
    )
    if have != want:
        raise DeviceError(
            f"{folder} has layers {have[0]} to {have[-1]}, the model {want[0]} to {want[-1]}; train it with its --width"
        )
    return found


def _quantized(net: SpikingVgg9, frames: Pixels) -> DenseLayers:
    import torch

    from ecc_model.nets.quantize import fold, quantize
    from ecc_model.nets.vgg import Pool, SpikingConv, to_unit

    found: list[DenseLayer | MaxPool] = []
    x, scale = to_unit(torch.from_numpy(frames))[None], 1.0 / LEVELS
    modules = cast(Sequence[Any], [*net.head, *net.exit])
    for module in modules:
        with torch.inference_mode():
            x = module(x)
        if isinstance(module, Pool):
            found.append(MaxPool(2))
            continue
        weight, bias = fold(module) if isinstance(module, SpikingConv) else _numbers(module.linear)
        integer, whole, weights = quantize(weight, bias / scale)  # in units of the input
        signed = module is modules[-1]  # logits
        reach = 2 * float(x.abs().max()) if signed else float(np.quantile(x.numpy(), IN_RANGE))
        scale = max(reach, 1e-6) / LEVELS
        found.append(DenseLayer(integer, whole, weights.astype(np.float32), scale))
    return found


def _numbers(linear: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weight, bias = (tensor.detach().double().numpy() for tensor in (linear.weight, linear.bias))
    return weight, bias
