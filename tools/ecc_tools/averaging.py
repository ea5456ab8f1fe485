"""The exponential moving average of a network's weights, which answers better than the last weights do."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class Average:
    """`a = decay a + (1 - decay) w` after every step, for weights and batch statistics; `net` is the averaged network.

    The first steps count more: the decay of step n is at most (1 + n) / (10 + n).
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._source = net
        self._decay = decay
        self._steps = 0
        self.net = copy.deepcopy(net).requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Take one step of the source into the average."""
        self._steps += 1
        share = 1.0 - min(self._decay, (1 + self._steps) / (10 + self._steps))
        averaged = self.net.state_dict()
        for name, value in self._source.state_dict().items():
            if value.is_floating_point():
                averaged[name].lerp_(value, share)
            else:
                averaged[name].copy_(value)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self._steps, "net": self.net.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        self._steps = state["steps"]
        self.net.load_state_dict(state["net"])
