"""The cloud's networks: decoder and tail for features, a small residual ANN as teacher for images."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import msgspec
import torch.nn.functional as F
from torch import Tensor, nn

from ecc_model.nets.neuron import Neuron
from ecc_model.nets.vgg import GAMMA, merge_steps


class CloudConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the cloud's networks. `code_*` describe the spikes that arrive, `split_channels` what they decode to."""

    steps: int
    channels: int
    classes: int
    code_channels: int
    code_stride: int
    split_channels: int
    tail_channels: int = 64
    teacher_channels: int = 32


class Decoder(nn.Module):
    """Transposed convolution (undoes the encoder's stride), batch norm over batch and time, LIF.

    Shape: (T, B, C', H', W') spikes that travelled -> (T, B, C, H' stride, W' stride) spikes as at the cut.
    """

    def __init__(self, config: CloudConfig, neuron: Neuron) -> None:
        super().__init__()
        stride = config.code_stride
        self.conv = nn.ConvTranspose2d(
            config.code_channels, config.split_channels, 3, stride, 1, output_padding=stride - 1, bias=False
        )
        self.norm = nn.BatchNorm2d(config.split_channels)
        nn.init.constant_(self.norm.weight, GAMMA)
        self.lif = neuron()

    def forward(self, code: Tensor) -> Tensor:
        """Spikes of all T steps."""
        return cast(Tensor, self.lif(merge_steps(self.norm, merge_steps(self.conv, code))))


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut. Shape: (B, I, H, W) -> (B, O, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """ReLU of branch plus shortcut."""
        return F.relu(self.branch(x) + self.shortcut(x))


def _residual_classifier(inputs: int, channels: int, strides: tuple[int, ...], classes: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=nn.Sequential(nn.Conv2d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
    )
    for index, stride in enumerate(strides):
        layers[f"block{index}"] = Residual(channels, channels * stride, stride)
        channels *= stride
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


class Tail(nn.Module):
    """The cloud's layers behind the decoder: all steps side by side as channels, then a residual ANN.

    Shape: (T, B, C, H, W) decoded spikes -> (B, N) logits.
    """

    def __init__(self, config: CloudConfig) -> None:
        super().__init__()
        inputs = config.steps * config.split_channels
        self.layers = _residual_classifier(inputs, config.tail_channels, (1, 2), config.classes)

    def forward(self, spikes: Tensor) -> Tensor:
        """Logits."""
        return cast(Tensor, self.layers(spikes.transpose(0, 1).flatten(1, 2)))


class Teacher(nn.Module):
    """A small residual ANN on whole images. Shape: (B, channels, H, W) in [0, 1] -> (B, N) logits."""

    def __init__(self, config: CloudConfig) -> None:
        super().__init__()
        self.layers = _residual_classifier(config.channels, config.teacher_channels, (1, 2, 2), config.classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits; frames with steps (B, T, C, H, W) are averaged over T."""
        return cast(Tensor, self.layers(frames.mean(1) if frames.ndim == 5 else frames))


class CloudNet(nn.Module):
    """Decoder, tail and teacher: what `cloud.pt` holds."""

    def __init__(self, config: CloudConfig, neuron: Neuron) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config, neuron)
        self.tail = Tail(config)
        self.teacher = Teacher(config)

    def features(self, code: Tensor) -> Tensor:
        """Logits (B, N) for the spikes (T, B, C', H', W') of a bottleneck encoder."""
        return cast(Tensor, self.tail(self.decoder(code)))
