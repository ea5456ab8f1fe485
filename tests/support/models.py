"""Small models for tests: untrained, but with weights large enough that every layer fires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from ecc_device.learning.lesson import count_rows
from ecc_model import bits
from ecc_model.frames import Pixels
from ecc_model.layers import Tap
from ecc_model.modelfile import EarlyInfo, GuardSet, LeadingInfo
from ecc_model.nets.ann import AnnConfig
from ecc_model.nets.checkpoint import encoder_infos, save_cloud, save_edge
from ecc_model.nets.cloud import CloudConfig, CloudNet, CodeConfig
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.vgg import SpikingVgg9, VggConfig
from ecc_model.program import Program
from ecc_model.statistics import Statistics, add, begin
from ecc_tools.frame_by_frame import encode
from ecc_tools.rate_fitting import fit_kind

DIGITS = tuple("0123456789")
TAPS = (Tap(0, 2), Tap(4))
CONFIG = VggConfig(steps=2, channels=1, height=16, width_px=16, width=0.06, classes=6, split=2, code_channels=4)


@dataclass(frozen=True)
class TinyModels:
    """Files of one edge model (labels 0-5) and the cloud model (labels 0-9) that reads its features."""

    edge: Path
    cloud: Path
    program: Program


def lively_network(config: VggConfig, seed: int) -> SpikingVgg9:
    """A network with random weights, batch norm statistics moved off their start, in eval mode."""
    torch.manual_seed(seed)
    net = SpikingVgg9(config, Lif)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 1.0, 5.0)
            torch.nn.init.uniform_(module.bias, -0.2, 1.0)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.05, 0.3)
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0.1, 0.5)
    return net.eval()


def train_exit(net: SpikingVgg9, program: Program, classes: int) -> None:
    """Teach the exit the patterns of `class_rows`; about a second."""
    labels = [index % classes for index in range(240)]
    rows = [bits.unpack(row, program.split_shape) for row in class_rows(program, labels, seed=99)]
    spikes, targets = torch.from_numpy(np.stack(rows)).transpose(0, 1).float(), torch.tensor(labels)
    optimizer = torch.optim.Adam(net.exit.parameters(), lr=5e-3)
    net.exit.train()
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net.exit(spikes), targets).backward()
        optimizer.step()
    net.eval()


def class_statistics(program: Program) -> Statistics:
    """Statistics of 40 rows of `class_rows` for each class, at the cut and behind the last pool."""
    labels = [index % program.classes for index in range(40 * program.classes)]
    rows = np.stack([np.frombuffer(row, np.uint8) for row in class_rows(program, labels, seed=98)])
    begun = begin(program, TAPS, 1.0, program.classes)
    return add(begun, count_rows(program, begun, rows), np.array(labels))


def class_rows(program: Program, labels: list[int], seed: int) -> list[bytes]:
    """Packed split-point rows that can be learnt: each class has a pattern of its own, 5 % of the bits flipped."""
    rows = []
    for index, label in enumerate(labels):
        pattern = np.random.default_rng(1000 + label).random(program.split_shape) < 0.3
        flips = np.random.default_rng((seed, index)).random(program.split_shape) < 0.05
        rows.append(bits.pack(pattern ^ flips))
    return rows


def noise(program: Program) -> Pixels:
    """Frames of noise (40, H, W, C) for a rate table."""
    spec = program.input
    return np.random.default_rng(5).integers(0, 256, (40, spec.height, spec.width, spec.channels), np.uint8)


def tiny_guard(program: Program, classes: int, rows: int, seed: int) -> GuardSet:
    """Rows of `class_rows` for every class in turn; the first quarter is replayed, the rest judges."""
    labels = [index % classes for index in range(rows)]
    packed = [np.frombuffer(row, np.uint8) for row in class_rows(program, labels, seed)]
    judge = (np.arange(rows) >= rows // 4).astype(np.uint8)
    return GuardSet(np.stack(packed), np.array(labels, np.int32), judge)


def write_tiny_models(
    folder: Path,
    *,
    seed: int = 0,
    threshold: float = 0.5,
    config: VggConfig = CONFIG,
    learnable: bool = False,
    statistics: bool | None = None,
    rates: str = "",
    leading: LeadingInfo | None = None,
    early: EarlyInfo | None = None,
    others: Sequence[CodeConfig] = (),
) -> TinyModels:
    """`vgg9.pt` and `cloud.pt` in `folder`. threshold 0 sends everything up, 1 nothing.

    learnable: the exit knows the patterns of `class_rows`, and the guard set is large enough for the gate.
    statistics: of these patterns in the file; default: as `learnable`. rates: the kind of the rate table in both files;
    "" for none. leading: how the worker answers leading steps; its decoder fires then. others: codes of further
    encoders.
    """
    net = lively_network(config, seed)
    sizes = [{"code_channels": code.channels, "code_stride": code.stride} for code in others]
    encoders = [lively_network(msgspec.structs.replace(config, **size), seed).encoder for size in sizes]
    program = compile_network(net, encoders)
    if learnable:
        train_exit(net, program, config.classes)
        program = compile_network(net, encoders)
    guard_rows = 288 if learnable else 24
    edge, cloud = folder / "vgg9.pt", folder / "cloud.pt"
    guard = tiny_guard(program, config.classes, guard_rows, seed)
    tables = []
    if rates:
        tables = [fit_kind(encode(program, noise(program), index), rates) for index in range(1 + len(others))]
    save_edge(
        edge,
        net,
        program,
        guard,
        labels=DIGITS[: config.classes],
        temperature=1.0,
        threshold=threshold,
        accepted=0.8,
        provenance={"made-by": "tests"},
        rates=tables,
        statistics=class_statistics(program) if (learnable if statistics is None else statistics) else None,
        early=early,
    )
    torch.manual_seed(seed + 1)
    cloud_net = CloudNet(
        CloudConfig(
            steps=config.steps,
            channels=config.channels,
            classes=len(DIGITS),
            code_channels=config.code_channels,
            code_stride=config.code_stride,
            split_channels=config.split_channels,
            tail_channels=8,
            teacher=AnnConfig(kind="resnet8", channels=config.channels, classes=len(DIGITS), width=0.125),
            others=tuple(others),
        ),
        Lif,
    ).eval()
    if leading is not None or others:
        for decoder in cloud_net.decoders:
            torch.nn.init.constant_(decoder.norm.weight, 8.0)  # that it fires, so that codes are told apart
    frame = program.input
    infos = encoder_infos(program)
    save_cloud(
        cloud,
        cloud_net,
        labels=DIGITS,
        temperature=1.0,
        encoders=[msgspec.structs.replace(info, leading=leading, decoder=i) for i, info in enumerate(infos)],
        frame=[frame.steps, frame.channels, frame.height, frame.width],
        provenance={"made-by": "tests"},
        rates=dict(zip((info.name for info in infos), tables, strict=False)),
    )
    return TinyModels(edge, cloud, program)
