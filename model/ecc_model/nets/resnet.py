"""Spiking ResNet-18, 34 and 50 for small images, cut behind any of their residual blocks (RB1, RB2, ...)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import msgspec
from torch import Tensor, nn

from ecc_model.frames import FrameSpec
from ecc_model.nets.ann import scaled
from ecc_model.nets.neuron import Neuron
from ecc_model.nets.vgg import GAMMA, Classifier, SpikingConv, exit_after_each_step, merge_steps, run_head

Kind = Literal["spiking-resnet18", "spiking-resnet34", "spiking-resnet50"]
BLOCKS = {"spiking-resnet18": (2, 2, 2, 2), "spiking-resnet34": (3, 4, 6, 3), "spiking-resnet50": (3, 4, 6, 3)}
BOTTLENECKS = ("spiking-resnet50",)  # kinds whose blocks are 1x1, 3x3, 1x1; the others' are 3x3, 3x3
CHANNELS = (64, 128, 256, 512)  # of each stage at width 1; all stages but the first halve the map
EXPANSION = 4  # channels of a bottleneck block's output for one inside
ALPHA = 1 / math.sqrt(2)  # of tdBN in a branch that is added to another one
# Where their gamma starts: blocks that at first hand their input on let 50 layers learn. With the block's own spikes
# weighted so, a neuron that must fire is near its threshold, where the surrogate gradient is large: 13 times more of it
# reaches the first block than from 1.
BRANCH_START, SAME_START, FITTED_START = 0.2, 0.85, math.sqrt(2)

ConvPlan = tuple[int, int, int]  # output channels, kernel size, stride


@dataclass(frozen=True)
class BlockPlan:
    """One residual block: the name of the split point behind it, its convolutions, the size of the map it emits."""

    name: str
    inputs: int
    convs: tuple[ConvPlan, ...]
    height: int
    width_px: int

    @property
    def outputs(self) -> int:
        """Channels that the block emits."""
        return self.convs[-1][0]

    @property
    def stride(self) -> int:
        """By how much the block shrinks the map."""
        return math.prod(stride for _, _, stride in self.convs)


class SpikingResnetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A spiking ResNet. `width` scales all channel counts; `split` names the block behind which it is cut."""

    kind: Kind
    steps: int
    channels: int
    height: int
    width_px: int
    width: float
    classes: int
    split: str = "RB4"
    code_channels: int = 64
    code_stride: int = 1

    def __post_init__(self) -> None:
        if self.height % 8 or self.width_px % 8:
            raise ValueError(f"sides divisible by 8 are needed, not {self.height} x {self.width_px}")
        count = sum(BLOCKS[self.kind])
        if self.split not in [f"RB{number}" for number in range(1, count + 1)]:
            raise ValueError(f"the cut lies behind RB1 to RB{count}, not {self.split}")

    @property
    def frame(self) -> FrameSpec:
        """What the network takes."""
        return FrameSpec(self.steps, self.channels, self.height, self.width_px)

    @property
    def stem_channels(self) -> int:
        """Channels of the first convolution."""
        return scaled(CHANNELS[0], self.width)

    @property
    def blocks(self) -> tuple[BlockPlan, ...]:
        """All residual blocks in order: every one is a split point."""
        plans: list[BlockPlan] = []
        inputs = self.stem_channels
        for stage, count in enumerate(BLOCKS[self.kind]):
            inner = scaled(CHANNELS[stage], self.width)
            for index in range(count):
                stride = 2 if stage and not index else 1
                if self.kind in BOTTLENECKS:
                    convs: tuple[ConvPlan, ...] = ((inner, 1, 1), (inner, 3, stride), (EXPANSION * inner, 1, 1))
                else:
                    convs = ((inner, 3, stride), (inner, 3, 1))
                name = f"RB{len(plans) + 1}"
                plans.append(BlockPlan(name, inputs, convs, self.height >> stage, self.width_px >> stage))
                inputs = plans[-1].outputs
        return tuple(plans)

    @property
    def split_block(self) -> int:
        """How many blocks lie before the cut."""
        return int(self.split.removeprefix("RB"))

    @property
    def split_channels(self) -> int:
        """Channels at the cut."""
        return self.blocks[self.split_block - 1].outputs

    @property
    def split_sides(self) -> tuple[int, int]:
        """Height and width of the map at the cut."""
        block = self.blocks[self.split_block - 1]
        return block.height, block.width_px


class Added(nn.Module):
    """tdBN of a branch that is added to another one, behind the branch's last convolution where it has one.

    `norm.weight` is `gamma alpha V_th`, where the neuron's decayed input makes V_th GAMMA.
    Shape: (T, B, I, H, W) -> (T, B, O, H / stride, W / stride), currents.
    """

    def __init__(self, channels: int, gamma: float, conv: nn.Conv2d | None = None) -> None:
        super().__init__()
        self.conv = nn.Identity() if conv is None else conv
        self.norm = nn.BatchNorm2d(channels)
        nn.init.constant_(self.norm.weight, gamma * ALPHA * GAMMA)

    def forward(self, x: Tensor) -> Tensor:
        """Currents of all T steps."""
        return merge_steps(self.norm, merge_steps(self.conv, x))


class SpikingResidual(nn.Module):
    """A residual block with spikes in and out: `LIF(branch(x) + shortcut(x))`.

    Where the shape stays the shortcut is the block's own input, with tdBN as well: bare spikes are too weak beside a
    normalized branch to be handed on.

    Shape: (T, B, I, H, W) -> (T, B, O, H / stride, W / stride).
    """

    def __init__(self, plan: BlockPlan, neuron: Neuron) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = plan.inputs
        for outputs, kernel, stride in plan.convs[:-1]:
            layers.append(SpikingConv(inputs, outputs, neuron, stride, kernel))
            inputs = outputs
        outputs, kernel, stride = plan.convs[-1]
        last = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.branch = nn.Sequential(*layers, Added(outputs, BRANCH_START, last))
        same = plan.stride == 1 and plan.inputs == plan.outputs
        fitting = nn.Conv2d(plan.inputs, outputs, 1, plan.stride, bias=False)
        self.shortcut = Added(outputs, SAME_START) if same else Added(outputs, FITTED_START, fitting)
        self.lif = neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of all T steps."""
        return cast(Tensor, self.lif(self.branch(x) + self.shortcut(x)))


class AveragePool(nn.Module):
    """Mean of each map. Shape: (T, B, C, H, W) -> (T, B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Firing rates of the channels in each step."""
        return x.mean((3, 4))


class SpikingResnet(nn.Module):
    """Head, encoder and exit together, as trained at Setup."""

    def __init__(self, config: SpikingResnetConfig, neuron: Neuron) -> None:
        super().__init__()
        self.config = config
        before, behind = config.blocks[: config.split_block], config.blocks[config.split_block :]
        stem = SpikingConv(config.channels, config.stem_channels, neuron)
        self.head = nn.Sequential(stem, *_residuals(before, neuron))
        self.encoder = nn.Sequential(
            SpikingConv(config.split_channels, config.code_channels, neuron, config.code_stride)
        )
        classifier = Classifier(config.blocks[-1].outputs, config.classes)
        self.exit = nn.Sequential(*_residuals(behind, neuron), AveragePool(), classifier)

    def split(self, frames: Tensor) -> Tensor:
        """Spikes at the cut (T, B, C, H, W) for frames in [0, 1]: (B, C, H, W) still, or (B, T, C, H, W)."""
        return run_head(self.head, frames, self.config.steps)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (B, N)."""
        return cast(Tensor, self.exit(self.split(frames)))

    def after_each_step(self, frames: Tensor) -> Tensor:
        """Logits (T, B, N) after 1, 2, ... T steps."""
        return exit_after_each_step(self.exit, self.split(frames))


def _residuals(plans: Sequence[BlockPlan], neuron: Neuron) -> list[nn.Module]:
    return [SpikingResidual(plan, neuron) for plan in plans]
