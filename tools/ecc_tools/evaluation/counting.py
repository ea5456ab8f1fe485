"""What a network costs a frame: firing rates, synaptic operations, and MACs and ACs as NeuroBench defines them.

**SOP**, the papers' figure: `firing rate of the layer's input * T * MACs`, for layers that spikes enter. It takes every
input for equally connected and counts the products with a map's padding.

**SOP, counted**: every spike times the weights that it reaches.

**NeuroBench** (metric "synaptic operations"), over convolutions and fully connected layers, biases, pools and
normalization left out: `Dense` is one operation for each pair of activation and weight, zeros included;
`Effective_MACs` and `Effective_ACs` leave out zero activations and zero weights. A layer whose activations are all
-1, 0 or 1 makes accumulates (ACs), any other multiply-accumulates (MACs). Products between activations, as in a
transformer's attention, are no layer of weights and are not counted.

A still frame enters a spiking network's first layer once for all steps, and is counted so.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecc_model.layers import Conv, Currents
from ecc_model.nets.neuron import Lif, StatelessNode
from ecc_tools.batched import Synapses

_OWN_NAMES = ("conv", "linear", "lif")  # what a spiking layer calls its parts


class LayerOperations(msgspec.Struct, frozen=True, kw_only=True):
    """One layer: its neurons' firing rate, and what its weights cost a frame. None where it has no such part."""

    place: str
    firing_rate: float | None = None  # spikes per neuron and step
    input_rate: float | None = None  # share of the inputs that are not zero
    passes: float = 0.0  # how often a frame runs through it: T, or 1
    macs: int = 0  # products of one pass, with a map's padding
    spiking: bool = False  # only spikes enter: it accumulates
    sops: float | None = None
    sops_counted: float | None = None
    dense: float = 0.0
    effective: float = 0.0


class Operations(msgspec.Struct, frozen=True, kw_only=True):
    """A network's cost, per frame; firing is per neuron and step, over all neurons."""

    mean_firing: float | None  # None: no neuron spikes
    sops: float
    sops_counted: float
    dense: float
    effective_macs: float
    effective_acs: float
    layers: list[LayerOperations]


@dataclass(frozen=True)
class _Weights:
    """How one layer connects: `spread(map, weight)` multiplies one input map (C, H, W) or (N,) with its weights."""

    weight: Tensor
    spread: Callable[[Tensor, Tensor], Tensor]

    def sum(self, inputs: Tensor, *, zeros: bool) -> float:
        """The sum of the outputs for weights of 1; `zeros`: for weights that are zero, too."""
        weight = torch.ones_like(self.weight) if zeros else self.weight != 0
        return float(self.spread(inputs, weight.to(torch.float64)).sum())

    def macs(self, shape: torch.Size) -> int:
        """Products of one pass; at a map's edge those with its padding as well."""
        outputs = self.spread(torch.zeros(shape, dtype=torch.float64), self.weight.to(torch.float64))
        return outputs.numel() * math.prod(self.weight.shape[1:])


@dataclass
class _Seen:
    """What has passed through one layer."""

    weights: _Weights | None = None
    active: Tensor | None = None  # float64 (C, H, W) or (N,): how often each input was not zero
    rows: int = 0
    binary: bool = True
    spikes: int = 0
    chances: int = 0  # neurons times steps


class Tally:
    """Counts what runs past it: an integer program by `watch`, a torch network within `attached`.

    Only where each input is active is kept, not when: operations are linear in it.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def watch(self, place: str, layer: Synapses, inputs: Tensor, spikes: Tensor | None) -> None:
        """A layer of a program, see `ecc_tools.batched.Watch`."""
        weight = torch.tensor(layer.weight)
        spread: Callable[[Tensor, Tensor], Tensor] = F.linear
        if isinstance(layer, Conv | Currents):
            spread = partial(_convolve, stride=layer.stride, padding=layer.padding)
        self._inputs(place, _Weights(weight, spread), inputs)
        if spikes is not None:
            self._neurons(place, spikes)

    @contextlib.contextmanager
    def attached(self, net: nn.Module) -> Iterator[None]:
        """Counts the passes of `net` while the context lasts."""
        handles = [
            module.register_forward_hook(partial(self._pass, _place(name)))
            for name, module in net.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear | Lif | StatelessNode)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _pass(self, place: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            spread = partial(
                _convolve,
                stride=module.stride,
                padding=module.padding,
                dilation=module.dilation,
                groups=module.groups,
            )
            self._inputs(place, _Weights(module.weight.detach(), spread), inputs[0])
        elif isinstance(module, nn.Linear):
            self._inputs(place, _Weights(module.weight.detach(), F.linear), inputs[0].flatten(0, -2))
        else:
            self._neurons(place, output)

    def _inputs(self, place: str, weights: _Weights, rows: Tensor) -> None:
        seen = self._seen.setdefault(place, _Seen())
        active = _active(rows)
        seen.weights, seen.active = weights, active if seen.active is None else seen.active + active
        seen.rows += len(rows)
        seen.binary = seen.binary and torch.equal(rows.sign(), rows)

    def _neurons(self, place: str, spikes: Tensor) -> None:
        seen = self._seen.setdefault(place, _Seen())
        seen.spikes += int(torch.count_nonzero(spikes))
        seen.chances += spikes.numel()

    def operations(self, frames: int) -> Operations:
        """The cost of each of the `frames` that have passed."""
        layers = [_layer(place, seen, frames) for place, seen in self._seen.items()]
        spikes, chances = (sum(getattr(seen, name) for seen in self._seen.values()) for name in ("spikes", "chances"))
        return Operations(
            mean_firing=spikes / chances if chances else None,
            sops=math.fsum(layer.sops or 0.0 for layer in layers),
            sops_counted=math.fsum(layer.sops_counted or 0.0 for layer in layers),
            dense=math.fsum(layer.dense for layer in layers),
            effective_macs=math.fsum(layer.effective for layer in layers if not layer.spiking),
            effective_acs=math.fsum(layer.effective for layer in layers if layer.spiking),
            layers=layers,
        )


def _layer(place: str, seen: _Seen, frames: int) -> LayerOperations:
    firing = seen.spikes / seen.chances if seen.chances else None
    weights, active = seen.weights, seen.active
    if weights is None or active is None:
        return LayerOperations(place=place, firing_rate=firing)
    rate = float(active.sum()) / (seen.rows * active.numel())
    passes, macs = seen.rows / frames, weights.macs(active.shape)
    return LayerOperations(
        place=place,
        firing_rate=firing,
        input_rate=rate,
        passes=passes,
        macs=macs,
        spiking=seen.binary,
        sops=rate * passes * macs if seen.binary else None,
        sops_counted=weights.sum(active, zeros=True) / frames if seen.binary else None,
        dense=weights.sum(torch.ones_like(active), zeros=True) * passes,
        effective=weights.sum(active, zeros=False) / frames,
    )


def _active(rows: Tensor) -> Tensor:
    """How often each input of (rows, C, H, W) or (rows, N) is not zero, float64 (C, H, W) or (N,).

    As a matrix product on maps as they lie in memory, channels last: a sum over rows takes ten times as long.
    """
    nonzero = (rows.permute(0, 2, 3, 1) if rows.ndim == 4 else rows) != 0
    counts = (torch.ones(len(rows)) @ nonzero.flatten(1).to(torch.float32)).view(nonzero.shape[1:])
    return (counts.permute(2, 0, 1) if rows.ndim == 4 else counts).to(torch.float64)


def _convolve(inputs: Tensor, weight: Tensor, **how: Any) -> Tensor:
    """`F.conv2d` of one map (C, H, W)."""
    return F.conv2d(inputs[None], weight, **how)


def _place(name: str) -> str:
    """A module's path, without what a spiking layer calls its own parts: "head.0" for "head.0.conv"."""
    head, _, last = name.rpartition(".")
    return head if last in _OWN_NAMES and head else name
