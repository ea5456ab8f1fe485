"""Run folders: without a training (random weights that fire), and of short ones."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from ecc_model.nets.neuron import Lif
from ecc_tools.data.parts import DataSet
from ecc_tools.fitting import fit
from ecc_tools.networks import Bottleneck, build_network
from ecc_tools.runs import DataConfig, LossConfig, NetworkConfig, Provenance, Record, RunConfig, RunFolder
from ecc_tools.training import Plan

WIDTH, STEPS, FRAME, LABELS = 1 / 16, 2, (8, 8, 1), ("a", "b", "c")


def write_run(folder: Path, kind: str, *, data: str = "digits", bottleneck: Bottleneck | None = None) -> Path:
    """A run of a network of `kind` (width WIDTH, T STEPS) for FRAME and LABELS, as if trained on `data`."""
    torch.manual_seed(0)
    sizes = {"width": WIDTH, "steps": STEPS, "frame": FRAME, "classes": len(LABELS)}
    net = build_network(kind, **sizes, neuron=Lif, bottleneck=bottleneck)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 1.0, 3.0)
            torch.nn.init.uniform_(module.bias, 0.0, 1.5)
    run = RunFolder(folder)
    run.begin(
        Record(
            run=RunConfig(
                seed=0,
                data=DataConfig(name=data),
                network=NetworkConfig(kind=kind, width=WIDTH, steps=STEPS, bottleneck=bottleneck or msgspec.UNSET),
                plan=Plan(epochs=1, learning_rate=1e-3),
                loss=LossConfig(),
            ),
            provenance=Provenance(data_sha256="", code="", torch="", frame=FRAME, labels=LABELS),
        ),
        resume=False,
    )
    run.save_weights(net.state_dict())
    return folder


def train_run(folder: Path, data: DataSet, network: NetworkConfig, plan: Plan, tasks: str = "") -> Path:
    """A run of `network` that was trained on `data`."""
    where = DataConfig(name=data.name, tasks=tasks)
    config = RunConfig(seed=0, data=where, network=network, plan=plan, loss=LossConfig())
    fit(config, data, folder, progress=lambda share: None, report=lambda line: None)
    return folder
