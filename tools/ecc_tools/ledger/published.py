"""What was published, beside which the ledger puts its own figures. Nothing here enters a sum of ours.

All for a spiking ResNet-50 on CIFAR-100, behind its blocks RB1 to RB16.
"""

from __future__ import annotations

from dataclasses import dataclass

from ecc_tools.ledger.anatomy import Anatomy, Cut

PAPER, RIVAL = "SpikeBottleNet", "BottleNet++"
TABLE_1, TABLE_3 = "SpikeBottleNet, table 1", "SpikeBottleNet, table 3"


@dataclass(frozen=True)
class Code:
    """What travels: `channels` maps of the cut's size over `stride`, `bits` for a value, `steps` times."""

    channels: int
    stride: int
    steps: int
    bits: int = 1

    def shape(self, cut: Cut) -> tuple[int, int, int]:
        """c', h', w' behind a 3x3 convolution with padding 1."""
        return self.channels, -(-cut.height // self.stride), -(-cut.width_px // self.stride)

    def bytes(self, cut: Cut) -> int:
        """`T c' h' w' bits / 8`, rounded up."""
        channels, height, width_px = self.shape(cut)
        return -(-self.steps * channels * height * width_px * self.bits // 8)


@dataclass(frozen=True)
class Row:
    """One row of a published table: its values behind RB1 to RB16."""

    unit: str
    source: str
    values: tuple[float, ...]


STEPS = (4, 2, 2, 2, 2, 2, 2, 4, 2, 2, 2, 2, 4, 2, 4, 4)  # the paper's T at each split point

# The tables print bytes; these c' and strides give them. Of RB16 only the product is fixed: 128 values a step.
DESIGNS: dict[str, tuple[Code, ...]] = {
    PAPER: tuple(
        Code(channels, stride, steps)
        for (channels, stride), steps in zip([(16, 1)] * 3 + [(64, 1)] * 12 + [(32, 2)], STEPS, strict=True)
    ),
    RIVAL: tuple(
        Code(channels, stride, 1, bits=8)
        for channels, stride in [(8, 1), (16, 1), (16, 1), *[(32, 1)] * 4, *[(64, 1)] * 8, (32, 2)]
    ),
}

RIVAL_BYTES, PAPER_BYTES = f"{RIVAL} bytes", f"{PAPER} bytes"
RIVAL_MAC, PAPER_AC, PAPER_ROLLS = f"{RIVAL} MAC", f"{PAPER} AC", f"{PAPER} ROLLS"
POINTS_LOST = f"{PAPER} points lost"

ROWS: dict[str, Row] = {
    RIVAL_BYTES: Row("bytes", TABLE_1, (8192, 16384, 16384, *[8192] * 4, *[4096] * 6, 1024, 1024, 128)),
    PAPER_BYTES: Row("bytes", TABLE_1, (8192, *[4096] * 6, 2048, *[1024] * 4, 2048, 256, 512, 64)),
    POINTS_LOST: Row(
        "points",
        TABLE_1,
        (3.45, 2.33, 2.13, 1.40, 2.94, 3.70, 2.34, 3.63, 3.90, 3.13, 2.64, 2.85, 2.61, 3.76, 2.53, 2.52),
    ),
    RIVAL_MAC: Row(
        "mJ",
        TABLE_3,
        (0.27, 0.60, 0.93, 1.33, 1.66, 1.99, 2.32, 2.72, 3.05, 3.38, 3.70, 4.03, 4.36, 4.77, 5.09, 5.42),
    ),
    PAPER_AC: Row(
        "mJ",
        TABLE_3,
        (0.15, 0.10, 0.15, 0.23, 0.26, 0.29, 0.31, 0.72, 0.39, 0.42, 0.46, 0.50, 0.99, 0.57, 1.13, 1.05),
    ),
    PAPER_ROLLS: Row(
        "mJ",
        TABLE_3,
        (
            *(0.013, 0.008, 0.013, 0.020, 0.022, 0.025, 0.027, 0.062),
            *(0.034, 0.036, 0.040, 0.043, 0.084, 0.048, 0.096, 0.090),
        ),
    ),
}


def is_published(anatomy: Anatomy) -> bool:
    """Whether the tables are about this very network: ResNet-50 of full width on frames of 32 x 32 x 3."""
    spec = anatomy.spec
    return (spec.kind, spec.width, spec.frame) == ("spiking-resnet50", 1.0, (32, 32, 3))


def spike_codes(anatomy: Anatomy) -> tuple[Code, ...]:
    """What travels behind each cut in `spec.steps`: the paper's c' for ResNet-50, else the network's own bottleneck."""
    steps = anatomy.spec.steps
    if anatomy.spec.kind == "spiking-resnet50":
        return tuple(Code(code.channels, code.stride, steps) for code in DESIGNS[PAPER])
    return tuple(Code(anatomy.code_channels, anatomy.code_stride, steps) for _ in anatomy.cuts)


def dense_codes(anatomy: Anatomy) -> tuple[Code, ...]:
    """What a dense network of the same shape would send, a byte for a value: BottleNet++'s c', else the same ones."""
    if anatomy.spec.kind == "spiking-resnet50":
        return DESIGNS[RIVAL]
    return tuple(Code(code.channels, code.stride, 1, bits=8) for code in spike_codes(anatomy))
