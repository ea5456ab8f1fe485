"""SpikeBottleNet as published: a spiking network whose two halves are joined by a spiking bottleneck."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ecc_model.nets.cloud import Decoder
from ecc_model.nets.neuron import Neuron
from ecc_model.nets.resnet import SpikingResnet
from ecc_model.nets.vgg import SpikingVgg9, exit_after_each_step


class SpikeBottleNet(nn.Module):
    """Head and encoder on the device; decoder and the rest of the same spiking network at the server.

    Between encoder and decoder `T code_channels H' W'` bits of a frame travel. Trained in two steps: the network
    first, then network and bottleneck together.
    """

    def __init__(self, net: SpikingVgg9 | SpikingResnet, neuron: Neuron) -> None:
        super().__init__()
        config = net.config
        self.net = net
        self.decoder = Decoder(config.code_channels, config.split_channels, config.code_stride, neuron)

    def code(self, frames: Tensor) -> Tensor:
        """What travels (T, B, C', H', W') for frames in [0, 1]: (B, C, H, W) still, or (B, T, C, H, W)."""
        return cast(Tensor, self.net.encoder(self.net.split(frames)))

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (B, N)."""
        return cast(Tensor, self.net.exit(self.decoder(self.code(frames))))

    def after_each_step(self, frames: Tensor) -> Tensor:
        """Logits (T, B, N) after 1, 2, ... T steps."""
        return exit_after_each_step(self.net.exit, self.decoder(self.code(frames)))


def take_over(net: SpikingVgg9 | SpikingResnet, trained: SpikingVgg9 | SpikingResnet) -> None:
    """Give `net` the weights of a network of its kind, wherever either is cut; encoders stay as they are.

    `ValueError` for a network of another kind, width or number of classes.
    """
    own, others = (*net.head, *net.exit), (*trained.head, *trained.exit)
    try:
        for layer, other in zip(own, others, strict=True):
            layer.load_state_dict(other.state_dict())
    except (RuntimeError, ValueError) as exc:
        raise ValueError("the networks are not of one kind, width and number of classes") from exc
