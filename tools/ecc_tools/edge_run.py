"""A training run of an edge network as a device's model file, with images that it learnt from and was chosen by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec

from ecc_model.nets.vgg import SpikingVgg9
from ecc_model.program import Program
from ecc_tools.compiling import write_model
from ecc_tools.data.parts import DataSet, Part
from ecc_tools.networks import VGG9
from ecc_tools.runs import Record, RunError, check_images, code_version, load_run, weights_sha256
from ecc_tools.training import Progress


@dataclass(frozen=True, eq=False)
class EdgeRun:
    """A trained VGG-9, and the images of its classes."""

    net: SpikingVgg9
    learn: Part
    choose: Part  # for validation
    record: Record
    sha256: str  # of the weights


def open_edge_run(folder: Path, data: DataSet) -> EdgeRun:
    """The network of a run on `data`, and their images of its classes. `RunError`."""
    net, record = load_run(folder)
    network, names = record.run.network, record.provenance.labels
    if network.kind != VGG9 or network.bottleneck:
        raise RunError(f"{folder} holds no plain {VGG9}, and only that becomes a device's model; give such a run")
    foreign = [name for name in names if name not in data.names]
    if foreign:
        raise RunError(f"{folder} knows the class '{foreign[0]}', which {data.name} lacks; give what it learnt from")
    learn, choose = data.training()
    if record.run.data.tasks:
        classes = [data.names.index(name) for name in names]
        learn, choose = learn.of(classes), choose.of(classes)
    check_images(folder, record, learn, data.name)
    return EdgeRun(cast(SpikingVgg9, net), learn, choose, record, weights_sha256(folder))


def write_run(path: Path, run: EdgeRun, progress: Progress) -> Program:
    """The run's model file at `path`, with class statistics of its training frames. `CompileError`, `ModelError`."""
    made, config = run.record.provenance, run.record.run
    program, _ = write_model(
        path,
        run.net,
        run.choose.frames,
        run.choose.labels,
        made.labels,
        {
            "code": code_version(),
            "data_sha256": made.data_sha256,
            "edge": msgspec.json.encode(config).decode(),
            "edge_weights_sha256": run.sha256,
            "seen": msgspec.json.encode(made.seen).decode(),
        },
        augmentation=config.data.augmentation,
        learning=run.learn,
        progress=progress,
    )
    return program
