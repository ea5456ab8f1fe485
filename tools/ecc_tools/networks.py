"""The networks that can be trained, by name."""

from __future__ import annotations

from typing import Any, cast, get_args

import msgspec
from torch import nn

from ecc_model.errors import EccError
from ecc_model.nets.ann import AnnConfig, Kind, build_ann
from ecc_model.nets.neuron import Neuron
from ecc_model.nets.resnet import Kind as SpikingKind
from ecc_model.nets.resnet import SpikingResnet, SpikingResnetConfig
from ecc_model.nets.spikebottlenet import SpikeBottleNet
from ecc_model.nets.vgg import SpikingVgg9, VggConfig

VGG9 = "vgg9"
SPIKING = (VGG9, *get_args(SpikingKind))
DENSE = get_args(Kind)
VIT = "vit-b16"
DENSE_VGG9 = "dense-vgg9"  # the same layers with ReLUs, one pass: what a device might run instead
NETWORKS = (*SPIKING, *DENSE, DENSE_VGG9)
POOLS = {"pool1": 1, "pool2": 2, "pool3": 3}  # VGG-9's split points


class UnfitNetwork(EccError):
    """A network that is not known, or that cannot take such frames."""


class Bottleneck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A spiking bottleneck within a spiking network: the split point's name, and the spikes that travel."""

    split: str  # "pool1" to "pool3" of VGG-9, "RB1" to "RB16" of a ResNet
    code_channels: int
    code_stride: int = 1


def build_network(
    kind: str,
    *,
    width: float,
    steps: int,
    frame: tuple[int, int, int],
    classes: int,
    neuron: Neuron,
    bottleneck: Bottleneck | None = None,
) -> nn.Module:
    """A network of `NETWORKS` with random weights, for frames (height, width, channels).

    `steps` is the T of a spiking network; with a `bottleneck` it becomes a `SpikeBottleNet`.
    Shape: frames in [0, 1] (B, C, H, W) -> logits (B, classes).
    `UnfitNetwork` for an unknown kind, for frames that the network cannot take, or a split point that it has not got.
    """
    if kind not in NETWORKS:
        raise UnfitNetwork(f"no network is called '{kind}'; known are {', '.join(NETWORKS)}")
    height, width_px, channels = frame
    if kind not in SPIKING and bottleneck is not None:
        raise UnfitNetwork(f"{kind} is not spiking: a spiking bottleneck stands in one of {', '.join(SPIKING)}")
    if kind in DENSE:
        return build_ann(AnnConfig(kind=cast(Kind, kind), channels=channels, classes=classes, width=width))
    sizes: Any = {"steps": steps, "channels": channels, "height": height, "width_px": width_px, "classes": classes}
    if bottleneck is not None:
        split: str | int = bottleneck.split
        if kind == VGG9:
            split = POOLS.get(bottleneck.split, 0)
        sizes |= {"split": split, "code_channels": bottleneck.code_channels, "code_stride": bottleneck.code_stride}
    try:
        net: SpikingVgg9 | SpikingResnet
        if kind in (VGG9, DENSE_VGG9):
            net = SpikingVgg9(VggConfig(width=width, **sizes), neuron if kind == VGG9 else nn.ReLU)
        else:
            net = SpikingResnet(SpikingResnetConfig(kind=cast(SpikingKind, kind), width=width, **sizes), neuron)
    except ValueError as exc:
        raise UnfitNetwork(f"{kind} cannot be built so: {exc}; change the images' size or the split point") from exc
    return net if bottleneck is None else SpikeBottleNet(net, neuron)
