"""LIF neurons for training: spikingjelly's, and the few lines of it that a device's learner needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ecc_model.optional import require

TAU = 2.0
V_THRESHOLD = 1.0
SURROGATE_ALPHA = 2.0

Neuron = Callable[[], nn.Module]


def spikingjelly_lif() -> nn.Module:
    """spikingjelly's multi-step LIF with the papers' constants; needs Python 3.11."""
    neuron = require("spikingjelly.activation_based.neuron", "training a spiking network")
    surrogate = require("spikingjelly.activation_based.surrogate", "training a spiking network")
    # spikingjelly registers GPU kernels, and torch's CPU build warns at each that it has no Triton for them.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    node = neuron.LIFNode(
        tau=TAU,
        decay_input=True,
        v_threshold=V_THRESHOLD,
        v_reset=0.0,
        surrogate_function=surrogate.ATan(alpha=SURROGATE_ALPHA),
        detach_reset=True,
        step_mode="m",
    )
    return cast(nn.Module, StatelessNode(node))


class StatelessNode(nn.Module):
    """A spikingjelly node that starts every forward pass from rest."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.node = node

    def forward(self, current: Tensor) -> Tensor:
        """(T, ...) input currents to (T, ...) spikes."""
        cast(Any, self.node).reset()
        return cast(Tensor, self.node(current))


class Lif(nn.Module):
    """Leaky integrate-and-fire, hard reset to 0, torch only.

    `U[t] = V[t-1] + (X[t] - V[t-1]) / tau`, `S[t] = U[t] >= V_th`, `V[t] = U[t] (1 - S[t])`; the backward pass of
    the step is an arctangent's, and the reset carries no gradient.

    Shape: (T, ...) currents -> (T, ...) spikes of 0 and 1.
    """

    def forward(self, current: Tensor) -> Tensor:
        """Run all T steps from rest."""
        potential = torch.zeros_like(current[0])
        spikes = []
        for x in current:
            potential = potential + (x - potential) / TAU
            spike = step(potential - V_THRESHOLD)
            potential = potential * (1.0 - spike.detach())
            spikes.append(spike)
        return torch.stack(spikes)


def step(distance: Tensor) -> Tensor:
    """Spikes, 1 where a potential is at `distance` >= 0 from the threshold; the gradient is an arctangent's."""
    return cast(Tensor, _Step.apply(distance))  # type: ignore[no-untyped-call,unused-ignore]


class _Step(torch.autograd.Function):
    """`[x >= 0]`, with the derivative `alpha / 2 / (1 + (pi / 2 alpha x)^2)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = (SURROGATE_ALPHA / 2) / (1 + (math.pi / 2 * SURROGATE_ALPHA * x).square())
        return grads[0] * slope
