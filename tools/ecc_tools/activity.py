"""How many synaptic operations a spiking network makes in a forward pass, as something to train on."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Activity:
    """Watches the inputs of a network's convolutions and linear layers, all but the first, which sees the frame.

    A layer makes `rate * T * MACs` synaptic operations a frame (SOPs): the firing rate of its input, counted on each
    position that a weight is multiplied with.
    """

    def __init__(self, net: nn.Module) -> None:
        self._seen: list[tuple[Tensor, int]] = []
        layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for layer in layers[1:]:
            layer.register_forward_hook(self._watch)

    def _watch(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            macs = output[0].numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        else:
            macs = output.shape[-1] * inputs[0].shape[-1]
        self._seen.append((inputs[0].mean(), macs))

    def take(self) -> Tensor:
        """SOPs of the passes since the last call, as a share of the MACs of a dense pass with as many steps (0 to 1).

        Carries gradient: minimized, it makes the layers that cost most fire least.
        """
        seen, self._seen = self._seen, []
        total: Any = sum(macs for _, macs in seen)
        return torch.stack([rate * (macs / total) for rate, macs in seen]).sum()
