"""Golden vectors of integer programs, computed by torch in float64: a second definition, not that of `reference`.

Convolutions run on integer-valued float64 tensors, which is exact far beyond int32. A neuron is
`U = floor(V leak / 2^15) + X`, spike where `U >= theta`, then `V = 0`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecc_model.frames import FrameSpec, Pixels
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.vgg import VggConfig
from ecc_model.program import (
    AveragePool,
    Conv,
    Currents,
    Layer,
    Linear,
    MaxPool,
    Program,
    Readout,
    Residual,
)
from support.golden_vectors import Golden
from support.models import lively_network
from support.programs import PIXEL_THETA, conv, linear, readout, residual


@dataclass(frozen=True)
class Case:
    """One golden file: a network cut after `split`, a still frame or one with steps."""

    steps: int
    split: int
    still: bool

    @property
    def name(self) -> str:
        """The file's name, without its ending."""
        return f"vgg9-split{self.split}-t{self.steps}-{'still' if self.still else 'steps'}"


@dataclass(frozen=True)
class LayersCase:
    """A golden file of the layers that networks of format 1 do not have: residual sums, average pools, leaks."""

    steps: int
    still: bool

    @property
    def name(self) -> str:
        """The file's name, without its ending."""
        return f"layers-t{self.steps}-{'still' if self.still else 'steps'}"


@dataclass(frozen=True)
class EncodersCase:
    """A golden file of a network with three encoders."""

    steps: int
    still: bool

    @property
    def name(self) -> str:
        """The file's name, without its ending."""
        return f"encoders-t{self.steps}-{'still' if self.still else 'steps'}"


AnyCase = Case | LayersCase | EncodersCase
CASES: list[AnyCase] = [
    *(Case(steps, split, still) for split in (1, 2, 3) for steps in (2, 4) for still in (True, False)),
    *(LayersCase(steps, still) for steps in (3, 5) for still in (True, False)),
    *(EncodersCase(3, still) for still in (True, False)),
]


def make(case: AnyCase) -> Golden:
    """A frame of noise and a small untrained network: the first one whose every layer fires on it, not always."""
    channels = case.split if isinstance(case, Case) else 2
    shape = (8, 16, channels) if case.still else (case.steps, 8, 16, channels)
    frame = np.random.default_rng(case.steps).integers(0, 256, shape, np.uint8)
    for seed in count():
        if isinstance(case, Case):
            program = _network(case, seed)
        else:
            program = _layers(case, seed) if isinstance(case, LayersCase) else _encoders(case, seed)
        found = vectors(program, frame)
        if all(0 < vector.mean() < 1 for name, vector in found.items() if name.endswith("spikes")):
            break
    return Golden(program, frame, program.features_id, found)


def _network(case: Case, seed: int) -> Program:
    config = VggConfig(
        steps=case.steps,
        channels=case.split,
        height=8,
        width_px=16,
        width=0.06,
        classes=5,
        split=case.split,
        code_channels=3,
        code_stride=case.steps // 2,
    )
    return compile_network(lively_network(config, seed))


def _layers(case: LayersCase, seed: int) -> Program:
    rng = np.random.default_rng(seed)
    return Program(
        FrameSpec(case.steps, 2, 8, 16),
        (conv(rng, 2, 6, theta=PIXEL_THETA, leak=30_000), MaxPool(2), residual(rng, 6, 6, bare=True, leak=9_000)),
        (AveragePool(2), conv(rng, 6, 3, theta=300)),
        (
            residual(rng, 6, 20, stride=2, inner=2),
            residual(rng, 20, 20, inner=0, leak=32_768),
            AveragePool(2),
            linear(rng, 40, 7, 200, leak=0),
            readout(rng, 7, 4),
        ),
    )


def _encoders(case: EncodersCase, seed: int) -> Program:
    rng = np.random.default_rng(seed)
    return Program(
        FrameSpec(case.steps, 2, 8, 16),
        (conv(rng, 2, 6, theta=PIXEL_THETA), MaxPool(2)),
        (conv(rng, 6, 3),),
        (linear(rng, 192, 7, 200), readout(rng, 7, 4)),
        others=((conv(rng, 6, 2),), (conv(rng, 6, 4, stride=2), conv(rng, 4, 3))),
    )


def vectors(program: Program, frame: Pixels) -> dict[str, NDArray[np.generic]]:
    """Spikes (bool) and membranes (int32) of each layer as `<section>.<index>.<what>`, sums and logits of the exit."""
    steps = torch.from_numpy(frame if frame.ndim == 4 else np.stack([frame] * program.steps))
    found: dict[str, NDArray[np.generic]] = {}
    split = _section("head", program.head, steps.movedim(-1, 1).to(torch.float64), found)
    _section("encoder", program.encoder, split, found)
    for index, layers in enumerate(program.others):
        _section(f"others.{index}", layers, split, found)
    sums = _section("exit", program.exit, split, found)
    found["exit.sums"] = sums.numpy().astype(np.int64)
    found["exit.logits"] = sums.numpy().astype(np.float32) * program.readout.scale
    return found


def _section(name: str, layers: tuple[Layer, ...], x: Tensor, found: dict[str, NDArray[np.generic]]) -> Tensor:
    for index, layer in enumerate(layers):
        if isinstance(layer, MaxPool):
            x = F.max_pool2d(x, layer.size)
        elif isinstance(layer, AveragePool):
            x = F.avg_pool2d(x, layer.size, divisor_override=1)
            found[f"{name}.{index}.spikes"] = x.numpy().astype(np.int32)
            continue
        elif isinstance(layer, Readout):
            return F.linear(x.flatten(1), _double(layer.weight), _double(layer.bias)).sum(0)
        else:
            x = _neurons(_currents(layer, x), layer, f"{name}.{index}", found)
        found[f"{name}.{index}.spikes"] = x.numpy().astype(np.bool_)
    return x


def _currents(layer: Conv | Linear | Residual, x: Tensor) -> Tensor:
    """Inputs of the layer's neurons."""
    if isinstance(layer, Linear):
        return F.linear(x.flatten(1), _double(layer.weight), _double(layer.bias))
    if isinstance(layer, Conv):
        return _convolve(layer, x) + _double(layer.bias)[:, None, None]
    inside = x
    for conv_ in layer.branch:
        inside = _neurons(_currents(conv_, inside), conv_, "inside", {})
    first, second = _double(layer.gain)[:, :, None, None]
    shortcut = x if layer.shortcut is None else _convolve(layer.shortcut, x)
    joined = first * _convolve(layer.last, inside) + second * shortcut
    return torch.floor(joined / 2**layer.shift) + _double(layer.bias)[:, None, None]


def _convolve(layer: Conv | Currents, x: Tensor) -> Tensor:
    return F.conv2d(x, _double(layer.weight), None, layer.stride, layer.padding)


def _neurons(
    current: Tensor, layer: Conv | Linear | Residual, place: str, found: dict[str, NDArray[np.generic]]
) -> Tensor:
    theta = _double(layer.theta).reshape(-1, *[1] * (current.ndim - 2))
    potential = torch.zeros_like(current[0])
    spikes, membranes = [], []
    for x in current:
        potential = torch.floor(potential * layer.leak / 2**15) + x
        spikes.append((potential >= theta).to(torch.float64))
        potential = potential * (1 - spikes[-1])
        membranes.append(potential)
    found[f"{place}.membrane"] = torch.stack(membranes).numpy().astype(np.int32)
    return torch.stack(spikes)


def _double(values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(values.astype(np.float64))
