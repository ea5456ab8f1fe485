"""Spiking VGG-9, cut after one of its three pools into head and exit, with the bottleneck encoder at the cut."""

from __future__ import annotations

from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from ecc_model.frames import FrameSpec
from ecc_model.nets.neuron import Neuron

STAGES = ((64, 64), (128, 128), (256, 256, 256))  # output channels at width 1; a pool ends each stage
HIDDEN = 1024
GAMMA = 2.0  # with tau 2 and input decay a normalized current seldom reaches the threshold; 2 trains far better than 1


class VggConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A spiking VGG-9. `width` scales all channel counts; `split` is the pool (1, 2, 3) after which it is cut."""

    steps: int
    channels: int
    height: int
    width_px: int
    width: float
    classes: int
    split: int = 2
    code_channels: int = 4
    code_stride: int = 1

    def __post_init__(self) -> None:
        if self.height % 8 or self.width_px % 8:
            raise ValueError(f"sides divisible by 8 are needed, not {self.height} x {self.width_px}")
        if self.split not in (1, 2, 3):
            raise ValueError(f"the cut lies after pool 1, 2 or 3, not {self.split}")

    @property
    def frame(self) -> FrameSpec:
        """What the network takes."""
        return FrameSpec(self.steps, self.channels, self.height, self.width_px)

    def stage_channels(self, stage: int) -> tuple[int, ...]:
        """Output channels of the convolutions in `stage` (0, 1, 2)."""
        return tuple(max(1, round(c * self.width)) for c in STAGES[stage])

    @property
    def split_channels(self) -> int:
        """Channels at the cut."""
        return self.stage_channels(self.split - 1)[-1]

    @property
    def split_sides(self) -> tuple[int, int]:
        """Height and width of the map at the cut."""
        return self.height >> self.split, self.width_px >> self.split


def merge_steps(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a per-image module to (T, B, ...): batch norm inside then counts batch and time together (tdBN)."""
    out = cast(Tensor, module(x.flatten(0, 1)))
    return out.view(*x.shape[:2], *out.shape[1:])


class SpikingConv(nn.Module):
    """Convolution of odd size, batch norm over batch and time (tdBN with alpha = V_th = 1), LIF.

    Shape: (T, B, I, H, W) -> (T, B, O, H / stride, W / stride).
    """

    def __init__(self, inputs: int, outputs: int, neuron: Neuron, stride: int = 1, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.norm.weight, GAMMA)
        self.lif = neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of all T steps."""
        return cast(Tensor, self.lif(merge_steps(self.norm, merge_steps(self.conv, x))))


class SpikingLinear(nn.Module):
    """Fully connected layer over the flattened map, LIF. Shape: (T, B, ...) -> (T, B, O)."""

    def __init__(self, inputs: int, outputs: int, neuron: Neuron) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.lif = neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of all T steps."""
        return cast(Tensor, self.lif(self.linear(x.flatten(2))))


class Pool(nn.Module):
    """2x2 maximum of each step. Shape: (T, B, C, H, W) -> (T, B, C, H/2, W/2)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """OR of the spikes in each block."""
        return merge_steps(self.pool, x)


class Classifier(nn.Module):
    """Logits as the mean over steps. Shape: (T, B, ...) -> (B, N)."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Mean over T of the classifier's outputs."""
        return cast(Tensor, self.linear(x.flatten(2))).mean(0)

    def after_each_step(self, x: Tensor) -> Tensor:
        """What `forward` would answer if the frame ended after 1, 2, ... T steps: (T, B, N)."""
        outputs = cast(Tensor, self.linear(x.flatten(2)))
        counts = torch.arange(1, len(outputs) + 1, device=outputs.device)
        return outputs.cumsum(0) / counts[:, None, None]


def exit_after_each_step(exit_: nn.Sequential, spikes: Tensor) -> Tensor:
    """Logits (T, B, N) after 1, 2, ... T steps of an exit that ends in a `Classifier`, for spikes at the cut."""
    return cast(Classifier, exit_[-1]).after_each_step(exit_[:-1](spikes))


def build_head(config: VggConfig, neuron: Neuron) -> nn.Sequential:
    """Layers before the cut: (T, B, channels, height, width) in [0, 1] -> spikes at the cut."""
    return nn.Sequential(*_stages(config, neuron, range(config.split), config.channels))


def build_encoder(config: VggConfig, neuron: Neuron) -> nn.Sequential:
    """Bottleneck encoder: spikes at the cut -> the few that travel."""
    return nn.Sequential(SpikingConv(config.split_channels, config.code_channels, neuron, config.code_stride))


def build_exit(config: VggConfig, neuron: Neuron) -> nn.Sequential:
    """The edge's own layers behind the cut: spikes at the cut -> logits (B, N)."""
    stages = _stages(config, neuron, range(config.split, 3), config.split_channels)
    features = config.stage_channels(2)[-1] * (config.height // 8) * (config.width_px // 8)
    hidden = max(1, round(HIDDEN * config.width))
    return nn.Sequential(*stages, SpikingLinear(features, hidden, neuron), Classifier(hidden, config.classes))


def run_head(head: nn.Sequential, frames: Tensor, steps: int) -> Tensor:
    """Spikes at the cut (T, B, C, H, W) for frames in [0, 1]: (B, C, H, W) still, or (B, T, C, H, W)."""
    if frames.ndim == 4:
        # A still image gives every step the same current: the first convolution is computed once.
        first = cast(SpikingConv, head[0])
        current = cast(Tensor, first.norm(first.conv(frames)))
        spikes = cast(Tensor, first.lif(current.expand(steps, *current.shape)))
        return cast(Tensor, head[1:](spikes))
    return cast(Tensor, head(frames.transpose(0, 1)))


def _stages(config: VggConfig, neuron: Neuron, stages: range, inputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for stage in stages:
        for outputs in config.stage_channels(stage):
            layers.append(SpikingConv(inputs, outputs, neuron))
            inputs = outputs
        layers.append(Pool())
    return layers


class SpikingVgg9(nn.Module):
    """Head, encoder and exit together, as trained at Setup."""

    def __init__(self, config: VggConfig, neuron: Neuron) -> None:
        super().__init__()
        self.config = config
        self.head = build_head(config, neuron)
        self.encoder = build_encoder(config, neuron)
        self.exit = build_exit(config, neuron)

    def split(self, frames: Tensor) -> Tensor:
        """Spikes at the cut (T, B, C, H, W) for frames in [0, 1]: (B, C, H, W) still, or (B, T, C, H, W)."""
        return run_head(self.head, frames, self.config.steps)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (B, N)."""
        return cast(Tensor, self.exit(self.split(frames)))

    def after_each_step(self, frames: Tensor) -> Tensor:
        """Logits (T, B, N) after 1, 2, ... T steps."""
        return exit_after_each_step(self.exit, self.split(frames))

    def with_features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits after each step, and the spikes after the third pool (T, B, 256 width, H/8, W/8) that eq. 9 aligns."""
        features = cast(Tensor, self.exit[:-2](self.split(frames)))  # behind the pool: the hidden layer, the classifier
        return exit_after_each_step(cast(nn.Sequential, self.exit[-2:]), features), features


def to_unit(frames: Tensor) -> Tensor:
    """`uint8` frames (..., H, W, C) to float (..., C, H, W) in [0, 1]; no mean is subtracted."""
    return frames.movedim(-1, -3).to(torch.float32) / 255.0
