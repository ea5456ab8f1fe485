"""The cloud's networks: decoder and tail for features, a dense network as teacher for images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import msgspec
import torch.nn.functional as F
from torch import Tensor, nn

from ecc_model.nets.ann import AnnConfig, build_ann, residual_classifier
from ecc_model.nets.neuron import Neuron
from ecc_model.nets.vgg import GAMMA, merge_steps
from ecc_model.program import MAX_ENCODERS

TAIL_BLOCKS = (1, 1)  # residual blocks of each stage


class CodeConfig(msgspec.Struct, frozen=True):
    """A code: its channels, and how much smaller its sides are than those at the cut."""

    channels: int
    stride: int


class CloudConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the cloud's networks. `code_*` describe the spikes that arrive, `split_channels` what they decode to.

    others: of further encoders, each with a decoder of its own, all in front of one tail. Without a teacher the cloud
    reads features alone. `ValueError` for too many codes, and for a teacher of other images or classes.
    """

    steps: int
    channels: int
    classes: int
    code_channels: int
    code_stride: int
    split_channels: int
    tail_channels: int = 64
    teacher: AnnConfig | None
    others: tuple[CodeConfig, ...] = ()

    @property
    def codes(self) -> tuple[CodeConfig, ...]:
        """All codes, in the order of their decoders."""
        return (CodeConfig(self.code_channels, self.code_stride), *self.others)

    def __post_init__(self) -> None:
        if len(self.codes) > MAX_ENCODERS:
            raise ValueError(f"{len(self.codes)} codes; a model reads 1 to {MAX_ENCODERS}")
        teacher = self.teacher
        if teacher is not None and (teacher.channels, teacher.classes) != (self.channels, self.classes):
            raise ValueError(
                f"a teacher of {self.channels} channels and {self.classes} classes is needed, "
                f"not of {teacher.channels} and {teacher.classes}"
            )


class Decoder(nn.Module):
    """Transposed convolution (undoes the encoder's stride), batch norm over batch and time, LIF.

    Shape: (T, B, C', H', W') spikes that travelled -> (T, B, C, H' stride, W' stride) spikes as at the cut.
    """

    def __init__(self, code_channels: int, split_channels: int, stride: int, neuron: Neuron) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            code_channels, split_channels, 3, stride, 1, output_padding=stride - 1, bias=False
        )
        self.norm = nn.BatchNorm2d(split_channels)
        nn.init.constant_(self.norm.weight, GAMMA)
        self.lif = neuron()

    def forward(self, code: Tensor) -> Tensor:
        """Spikes of all T steps."""
        return cast(Tensor, self.lif(merge_steps(self.norm, merge_steps(self.conv, code))))


class Tail(nn.Module):
    """The cloud's layers behind the decoder: all steps side by side as channels, then a residual ANN.

    Shape: (t, B, C, H, W) decoded spikes, t <= T -> (B, N) logits. Steps that have not come are silent, which decoded
    ones hardly ever are: so the tail knows how many it sees.
    """

    def __init__(self, config: CloudConfig) -> None:
        super().__init__()
        self.inputs = config.steps * config.split_channels
        self.layers = residual_classifier(self.inputs, config.tail_channels, TAIL_BLOCKS, config.classes)

    def forward(self, spikes: Tensor) -> Tensor:
        """Logits."""
        sides = spikes.transpose(0, 1).flatten(1, 2)
        return cast(Tensor, self.layers(F.pad(sides, (0, 0, 0, 0, 0, self.inputs - sides.shape[1]))))


class CloudNet(nn.Module):
    """Decoders, tail and, unless the configuration has none, teacher: what `cloud.pt` holds."""

    def __init__(self, config: CloudConfig, neuron: Neuron) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config.code_channels, config.split_channels, config.code_stride, neuron)
        self.others = nn.ModuleList(
            Decoder(code.channels, config.split_channels, code.stride, neuron) for code in config.others
        )
        self.tail = Tail(config)
        self.teacher = None if config.teacher is None else build_ann(config.teacher)

    @property
    def decoders(self) -> tuple[Decoder, ...]:
        """All decoders."""
        return (self.decoder, *cast(Iterable[Decoder], self.others))

    def features(self, code: Tensor, decoder: int = 0) -> Tensor:
        """Logits (B, N) for the spikes (t, B, C', H', W') of a bottleneck encoder: of all T steps, or leading ones."""
        return cast(Tensor, self.tail(self.decoders[decoder](code)))

    def frames(self, frames: Tensor) -> Tensor:
        """The teacher's logits (B, N) for frames in [0, 1]: (B, C, H, W), or (B, T, C, H, W), averaged over T.

        `ValueError` without a teacher.
        """
        if self.teacher is None:
            raise ValueError("this network has no teacher; give it one, or features")
        return cast(Tensor, self.teacher(frames.mean(1) if frames.ndim == 5 else frames))
