"""Firing rates of what enters each layer and each bottleneck: measured on real frames, or assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ecc_model.errors import EccError
from ecc_model.frames import FrameSpec
from ecc_model.nets.spikebottlenet import SpikeBottleNet
from ecc_model.nets.vgg import to_unit
from ecc_tools.batched import fit_all, in_chunks
from ecc_tools.collaborate.labelled import Labelled, check_classes
from ecc_tools.evaluation.counting import Tally
from ecc_tools.ledger.anatomy import Anatomy, NetworkSpec, Spiking, chain, cut_modules
from ecc_tools.runs import Record, load_run

CHUNK = 10  # frames at a time: a wide network's maps are large
Kind = Literal["measured", "borrowed", "assumed"]
"""Measured on this network; on one of the same kind but other width, steps or frames; on none."""


class UnfitRates(EccError):
    """A run whose firing rates say nothing about the network that is asked about."""


@dataclass(frozen=True)
class Rates:
    """Spikes per input and step, by the names that `Anatomy` uses."""

    kind: Kind
    about: str  # one line: where they come from
    layers: Mapping[str, float]
    cuts: Mapping[str, float]


def assume_rates(anatomy: Anatomy, rate: float) -> Rates:
    """The same rate everywhere."""
    about = f"assumed: {rate:g} everywhere"
    layers = {layer.name: rate for layer in anatomy.layers if layer.spiking}
    return Rates("assumed", about, layers, {cut.name: rate for cut in anatomy.cuts})


def spec_of(record: Record) -> NetworkSpec:
    """The network that a run has trained."""
    network, provenance = record.run.network, record.provenance
    return NetworkSpec(
        kind=network.kind,
        width=network.width,
        steps=network.steps,
        frame=provenance.frame,
        classes=len(provenance.labels),
    )


def measure_rates(
    anatomy: Anatomy, folder: Path, data: Labelled, frames: int, progress: Callable[[float], None]
) -> Rates:
    """The rates of a run's network on up to `frames` of the frames whose classes it knows, spread evenly over them.

    `RunError`, `SourceError`, `FrameError`; `UnfitRates` where the run has trained another kind of network.
    """
    whole, record = load_run(folder)
    net = cast(Spiking, whole.net if isinstance(whole, SpikeBottleNet) else whole)
    own = spec_of(record)
    if own.kind != anatomy.spec.kind:
        raise UnfitRates(f"{folder} has trained {own.kind}, not {anatomy.spec.kind}; give a run of that network")
    check_classes(data, record.provenance.labels)
    known = np.flatnonzero([label in record.provenance.labels for label in data.truth])
    rows = known[np.linspace(0, len(known) - 1, min(frames, len(known))).astype(np.int64)]
    height, width_px, channels = own.frame
    spec = FrameSpec(own.steps, channels, height, width_px)
    tally, spikes, done = Tally(), _CutSpikes(net), 0
    with torch.inference_mode(), tally.attached(net):
        for chunk in in_chunks(data.frames[rows], CHUNK):
            whole(to_unit(torch.tensor(fit_all(chunk, spec))))
            done += len(chunk)
            progress(done / len(rows))
    names = _names(net, anatomy)
    inputs = {layer.place: layer.input_rate for layer in tally.operations(len(rows)).layers if layer.macs}
    where = f"{len(rows)} {data.part or 'recorded'} frames of {data.name}"
    borrowed = own != anatomy.spec
    about = f"measured on {own.kind} of width {own.width:g}, T {own.steps}, on {where}"
    return Rates(
        "borrowed" if borrowed else "measured",
        f"borrowed: {about}" if borrowed else about,
        {layer.name: _input_rate(inputs, names[layer.name]) for layer in anatomy.layers if layer.spiking},
        spikes.rates(),
    )


def _names(net: Spiking, anatomy: Anatomy) -> dict[str, str]:
    """The layers' names in `anatomy` -> in `net`, which may be cut elsewhere."""
    ends = dict(zip(anatomy.chain, (name for name, _ in chain(net)), strict=True))
    found = {}
    for layer in anatomy.layers:
        section, index, *rest = layer.name.split(".")
        found[layer.name] = ".".join((ends[f"{section}.{index}"], *rest))
    return found


def _input_rate(inputs: Mapping[str, float | None], name: str) -> float:
    """A tally names a spiking layer, not the convolution inside it."""
    found = inputs.get(name, inputs.get(name.rpartition(".")[0]))
    return 0.0 if found is None else found


@dataclass
class _CutSpikes:
    """Counts the spikes that leave each split point of a network."""

    net: Spiking
    active: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (_, module) in cut_modules(self.net).items():
            module.register_forward_hook(partial(self._count, name))

    def _count(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
        self.active[name] = self.active.get(name, 0) + int(torch.count_nonzero(spikes))
        self.places[name] = self.places.get(name, 0) + spikes.numel()

    def rates(self) -> dict[str, float]:
        """Spikes per place and step."""
        return {name: count / self.places[name] for name, count in self.active.items()}
