"""The dense network beside a spiking one: the layers of a program with ReLUs, in int8, one pass over a frame.

Made from a program, it has the program's weights and answers nothing: only its time is looked at. Made from a run of
`dense-vgg9`, it is the network that a device might run instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import DeviceError
from ecc_model.frames import Pixels
from ecc_model.layers import Conv, Linear, MaxPool, Readout
from ecc_model.program import Program

LEVELS = 255  # of an activation, uint8
IN_RANGE = 0.999  # share of a layer's activations that are not clipped
CALIBRATION_FRAMES = 500
Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """A convolution or, (O, I), a fully connected layer: `relu(input_scale * scale * (weight x + bias)) / output`.

    x and the result are uint8; without an output scale the result is logits, as they are.
    """

    weight: NDArray[np.int8]  # (O, I, K, K) or (O, I)
    bias: NDArray[np.int32]
    scale: Vector  # (O,), of the weights
    output: float | None
    stride: int = 1
    padding: int = 0


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
    """The program's weights with scales that are any positive numbers."""
    found: list[DenseLayer | MaxPool] = []
    for layer in plain_layers(program):
        if isinstance(layer, MaxPool):
            found.append(layer)
            continue
        place = (layer.stride, layer.padding) if isinstance(layer, Conv) else (1, 0)
        output = None if isinstance(layer, Readout) else float(layer.theta.max())
        found.append(DenseLayer(layer.weight, layer.bias, np.ones(len(layer.bias), np.float32), output, *place))
    return found


def dense_of_run(folder: Path, program: Program, labels: Sequence[str], frames: Pixels) -> DenseLayers:
    """A trained `dense-vgg9` in int8; ranges of activations are those of `frames` (N, H, W, C), best validation frames.

    `RunError`; `DeviceError` where the run's classes or layers are not those of the program.
    """
    import torch
    from torch import nn

    from ecc_model.nets.quantize import fold, quantize
    from ecc_model.nets.vgg import Pool, SpikingConv, to_unit
    from ecc_tools.networks import DENSE_VGG9
    from ecc_tools.runs import load_run

    net, record = load_run(folder)
    if record.run.network.kind != DENSE_VGG9:
        raise DeviceError(f"{folder} holds a {record.run.network.kind}; what stands beside an edge is a {DENSE_VGG9}")
    if record.provenance.labels != tuple(labels):
        raise DeviceError(f"{folder} knows other classes than the model; train it on the same ones")
    found: list[DenseLayer | MaxPool] = []
    x, scale = to_unit(torch.from_numpy(frames))[None], 1.0 / LEVELS
    modules = cast(Sequence[Any], [*cast(Any, net).head, *cast(Any, net).exit])
    for module in modules:
        with torch.inference_mode():
            x = module(x)
        if isinstance(module, Pool):
            found.append(MaxPool(2))
            continue
        last = module is modules[-1]
        linear: nn.Linear | None = None if isinstance(module, SpikingConv) else module.linear
        weight, bias = fold(module) if linear is None else (_double(linear.weight), _double(linear.bias))
        output = None if last else max(float(np.quantile(x.numpy(), IN_RANGE)), 1e-6) / LEVELS
        integer, _, weights = quantize(weight, bias * 0)
        place = (1, weight.shape[2] // 2) if linear is None else (1, 0)
        whole = np.rint(bias / (weights * scale)).astype(np.int32)
        found.append(DenseLayer(integer, whole, weights.astype(np.float32), output, *place))
        scale = output or scale
    check_shapes(folder, found, program)
    return found


def check_shapes(folder: Path, layers: DenseLayers, program: Program) -> None:
    """`DeviceError` unless the layers have the program's shapes."""
    have, want = (
        [la.weight.shape for la in some if not isinstance(la, MaxPool)] for some in (layers, plain_layers(program))
    )
    if have != want:
        raise DeviceError(
            f"{folder} has layers {have[0]} to {have[-1]}, the model {want[0]} to {want[-1]}; train it with its --width"
        )


def _double(tensor: Any) -> NDArray[np.float64]:
    return cast(NDArray[np.float64], tensor.detach().double().numpy())
