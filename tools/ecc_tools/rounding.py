"""Training with the device's weights: int8 in the forward pass, float in the backward one (a straight-through step)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ecc_model.nets.quantize import WEIGHT_MAX


class AsIntegers(nn.Module):
    """A network whose convolutions and linear layers compute with the weights that it will have as a program.

    `method` of the network is what a call runs. Its own weights stay float, and are what is trained and saved. Folding
    batch norm scales whole channels, so rounding before it gives the same integers as rounding behind it.
    """

    def __init__(self, net: nn.Module, method: str = "forward") -> None:
        super().__init__()
        self._called = _Called(net, method)

    def forward(self, frames: Tensor) -> Any:
        """What the network's method returns."""
        weights = {name: rounded(weight) for name, weight in self._called.named_parameters() if weight.ndim > 1}
        return functional_call(self._called, weights, (frames,))


class _Called(nn.Module):
    """A method of a network as a module of its own, which is what `functional_call` calls."""

    def __init__(self, net: nn.Module, method: str) -> None:
        super().__init__()
        self.net, self._method = net, method

    def forward(self, frames: Tensor) -> Any:
        return getattr(self.net, self._method)(frames)


def rounded(weight: Tensor) -> Tensor:
    """Weights (O, ...) as multiples of each output channel's step, its largest being 127; the gradient passes through.

    As `ecc_model.nets.quantize.quantize`.
    """
    largest = weight.detach().abs().flatten(1).amax(1).clamp(min=1e-12)
    step = (largest / WEIGHT_MAX).view(-1, *[1] * (weight.ndim - 1))
    return weight + (torch.round(weight.detach() / step) * step - weight.detach())
