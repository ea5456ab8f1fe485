"""A spiking network's layers and split points, from its architecture alone: nothing is trained or computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ecc_model.nets.neuron import Lif
from ecc_model.nets.resnet import AveragePool, SpikingResidual, SpikingResnet
from ecc_model.nets.vgg import Pool, SpikingVgg9
from ecc_tools.networks import SPIKING, UnfitNetwork, build_network

Part = Literal["stem", "convolution", "shortcut", "classifier"]
"""What a layer is: the first convolution; one that the papers count; one beside a block; a fully connected one."""

Spiking = SpikingResnet | SpikingVgg9


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Which spiking network, for which frames; `width` scales all channel counts."""

    kind: str
    width: float
    steps: int  # T
    frame: tuple[int, int, int]  # height, width, channels
    classes: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer with weights, as a still frame passes it."""

    name: str  # of its torch module
    part: Part
    cuts_before: int  # how many split points lie before it: a cut behind that many blocks leaves it to the exit
    macs: int  # products of one pass, with a map's padding
    passes: int  # T; 1 for the first layer, whose current serves all steps
    spiking: bool  # only spikes enter, so it accumulates


@dataclass(frozen=True)
class Cut:
    """One split point: the module whose spikes are cut off, and their shape in one step."""

    name: str  # "RB4", "pool 2"
    module: str
    channels: int
    height: int
    width_px: int


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Layers in the order in which a frame passes them, without any encoder; cuts likewise."""

    spec: NetworkSpec
    layers: tuple[Layer, ...]
    cuts: tuple[Cut, ...]
    chain: tuple[str, ...]  # the modules that a frame passes one after the other
    code_channels: int  # of the bottleneck that the network has when nothing else is asked for
    code_stride: int


def chain(net: Spiking) -> list[tuple[str, nn.Module]]:
    """The modules that a frame passes on its way to the answer, by name."""
    sections = (("head", net.head), ("exit", net.exit))
    return [(f"{name}.{index}", module) for name, section in sections for index, module in enumerate(section)]


def cut_modules(net: Spiking) -> dict[str, tuple[str, nn.Module]]:
    """What can be cut behind: the split point's name -> the module's name and itself."""
    word = "RB" if isinstance(net, SpikingResnet) else "pool "
    ends = [(name, module) for name, module in chain(net) if isinstance(module, SpikingResidual | Pool)]
    return {f"{word}{number}": end for number, end in enumerate(ends, 1)}


def dissect(spec: NetworkSpec) -> Anatomy:
    """The anatomy of a network. `UnfitNetwork`: it does not spike, or cannot take such frames."""
    if spec.kind not in SPIKING:
        raise UnfitNetwork(f"'{spec.kind:.40}' is no spiking network with split points; choose {', '.join(SPIKING)}")
    height, width_px, channels = spec.frame
    with torch.device("meta"), torch.no_grad():  # shapes without numbers
        built = build_network(
            spec.kind, width=spec.width, steps=spec.steps, frame=spec.frame, classes=spec.classes, neuron=Lif
        )
        net = cast(Spiking, built.eval())
        shapes = _Shapes(net)
        net(torch.zeros(1, channels, height, width_px))
    cuts = {name: shapes.outputs[module] for name, (module, _) in cut_modules(net).items()}
    return Anatomy(
        spec=spec,
        layers=tuple(_layers(net, shapes)),
        cuts=tuple(Cut(name, cut_modules(net)[name][0], *shape[2:]) for name, shape in cuts.items()),
        chain=tuple(name for name, _ in chain(net)),
        code_channels=net.config.code_channels,
        code_stride=net.config.code_stride,
    )


class _Shapes:
    """The shapes of what leaves each module of a network when a frame passes."""

    def __init__(self, net: nn.Module) -> None:
        self.outputs: dict[str, tuple[int, ...]] = {}
        for name, module in net.named_modules():
            module.register_forward_hook(partial(self._note, name))

    def _note(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.outputs[name] = tuple(output.shape)


def _layers(net: Spiking, shapes: _Shapes) -> list[Layer]:
    ends = {name for name, _ in cut_modules(net).values()}
    found: list[Layer] = []
    passed, before = 0, cast(nn.Module, net.head)
    for end, module in chain(net):
        for name, weights in module.named_modules(prefix=end):
            if not isinstance(weights, nn.Conv2d | nn.Linear):
                continue
            shape, conv = shapes.outputs[name], isinstance(weights, nn.Conv2d)
            rows = shape[0] if conv else shape[0] * shape[1]  # images one after the other; steps, then images
            outputs = shape[1:] if conv else shape[2:]
            found.append(
                Layer(
                    name=name,
                    part=_part(name, conv, first=not found),
                    cuts_before=passed,
                    macs=torch.Size(outputs).numel() * weights.weight[0].numel(),
                    passes=rows,
                    spiking=bool(found) and not isinstance(before, AveragePool),
                )
            )
        passed += end in ends
        before = module
    return found


def _part(name: str, conv: bool, *, first: bool) -> Part:
    if first:
        return "stem"
    if not conv:
        return "classifier"
    return "shortcut" if ".shortcut." in name else "convolution"
