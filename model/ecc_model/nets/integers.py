"""A section as its integer program computes it, in torch: what a device will answer is what is trained.

Weights, biases, thresholds and potentials are those of `ecc_model.nets.quantize` and `ecc_model.reference`, as whole
numbers in float32, which holds those below 2^24; gradients pass through each rounding as if it were not there.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecc_model.nets.neuron import V_THRESHOLD, step
from ecc_model.nets.quantize import BIAS_MAX, WEIGHT_MAX
from ecc_model.nets.vgg import Classifier, SpikingConv, SpikingLinear
from ecc_model.program import INT32_MAX


def answer(section: nn.Sequential, spikes: Tensor) -> Tensor:
    """What the program of an exit or encoder answers to (T, B, ...) spikes: logits (B, N), or spikes (T, B, ...).

    Batch norm is folded with its stored statistics, which stay as they are.
    """
    out = spikes
    for module in section:
        if isinstance(module, SpikingConv):
            conv, found = module.conv, _integers(*_fold(module))
            currents = F.conv2d(out.flatten(0, 1), found.weight, found.bias, conv.stride, conv.padding)
            out = _fire(currents.view(*out.shape[:2], *currents.shape[1:]), found.scale.view(-1, 1, 1))
        elif isinstance(module, SpikingLinear):
            found = _integers(module.linear.weight.double(), module.linear.bias.double())
            out = _fire(F.linear(out.flatten(2), found.weight, found.bias), found.scale)
        elif isinstance(module, Classifier):
            found = _integers(module.linear.weight.double(), module.linear.bias.double())
            out = F.linear(out.flatten(2), found.weight, found.bias).sum(0) * (found.scale / len(out)).float()
        else:
            out = module(out)
    return out


class _Integers(NamedTuple):
    """float32 weights and bias that are whole numbers, and what one is worth, float64 (O,)."""

    weight: Tensor
    bias: Tensor
    scale: Tensor


def _integers(weight: Tensor, bias: Tensor) -> _Integers:
    """As `ecc_model.nets.quantize.quantize`."""
    with torch.no_grad():
        largest = weight.abs().flatten(1).amax(1)
        scale = torch.maximum(largest / WEIGHT_MAX, bias.abs() / BIAS_MAX).clamp(min=1e-12)
    column = scale.view(-1, *[1] * (weight.ndim - 1))
    return _Integers(_round(weight / column).float(), _round(bias / scale).float(), scale)


def _fold(layer: SpikingConv) -> tuple[Tensor, Tensor]:
    """As `ecc_model.nets.quantize.fold`."""
    norm = layer.norm
    mean, var = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    gain = norm.weight.double() / torch.sqrt(var + norm.eps)
    return layer.conv.weight.double() * gain[:, None, None, None], norm.bias.double() - mean * gain


def _fire(currents: Tensor, scale: Tensor) -> Tensor:
    """Spikes (T, B, ...) of neurons with whole currents; `scale` broadcasts to one step of one image."""
    theta = torch.ceil(2 * V_THRESHOLD / scale).clamp(1, INT32_MAX).float()
    unit = (scale / 2).float()  # of a potential, as the float network counts it
    potential, spikes = torch.zeros_like(currents[0]), []
    for current in currents:
        potential = _halve(potential) + current
        spike = step((potential - theta) * unit)
        potential = potential * (1.0 - spike.detach())
        spikes.append(spike)
    return torch.stack(spikes)


def _round(x: Tensor) -> Tensor:
    return cast(Tensor, _Round.apply(x))  # type: ignore[no-untyped-call,unused-ignore]


def _halve(x: Tensor) -> Tensor:
    return cast(Tensor, _Halve.apply(x))  # type: ignore[no-untyped-call,unused-ignore]


class _Round(torch.autograd.Function):
    """The nearest whole number, halves to even; the derivative is 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Halve(torch.autograd.Function):
    """The leak: half, rounded down; the derivative is 1/2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.floor(x / 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] / 2
