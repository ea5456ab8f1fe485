"""The networks that can be trained, by name."""

from __future__ import annotations

from typing import Any, cast, get_args

from torch import nn

from ecc_model.errors import EccError
from ecc_model.nets.ann import AnnConfig, Kind, build_ann
from ecc_model.nets.neuron import Neuron
from ecc_model.nets.resnet import Kind as SpikingKind
from ecc_model.nets.resnet import SpikingResnet, SpikingResnetConfig
from ecc_model.nets.vgg import SpikingVgg9, VggConfig

VGG9 = "vgg9"
SPIKING = (VGG9, *get_args(SpikingKind))
DENSE = get_args(Kind)
NETWORKS = (*SPIKING, *DENSE)


class UnfitNetwork(EccError):
    """A network that is not known, or that cannot take such frames."""


def build_network(
    kind: str, *, width: float, steps: int, frame: tuple[int, int, int], classes: int, neuron: Neuron
) -> nn.Module:
    """A network of `NETWORKS` with random weights, for frames (height, width, channels).

    `steps` is the T of a spiking network. Shape: frames in [0, 1] (B, C, H, W) -> logits (B, classes).
    `UnfitNetwork` for an unknown kind, or for frames that the network cannot take.
    """
    if kind not in NETWORKS:
        raise UnfitNetwork(f"no network is called '{kind}'; known are {', '.join(NETWORKS)}")
    height, width_px, channels = frame
    if kind in DENSE:
        return build_ann(AnnConfig(kind=cast(Kind, kind), channels=channels, classes=classes, width=width))
    sizes: Any = {"steps": steps, "channels": channels, "height": height, "width_px": width_px, "classes": classes}
    try:
        if kind == VGG9:
            return SpikingVgg9(VggConfig(width=width, **sizes), neuron)
        return SpikingResnet(SpikingResnetConfig(kind=cast(SpikingKind, kind), width=width, **sizes), neuron)
    except ValueError as exc:
        raise UnfitNetwork(f"{kind} cannot take these images: {exc}; bring them to another size") from exc
