"""The model file that a comparison begins with: given, or made of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ecc_model.modelfile import EdgeModel, read_edge
from ecc_model.nets.vgg import SpikingVgg9
from ecc_tools.assembling import EDGE_FILE
from ecc_tools.compiling import write_model
from ecc_tools.data.parts import DataSet
from ecc_tools.incremental.errors import IncrementalError
from ecc_tools.networks import VGG9
from ecc_tools.runs import CONFIG, code_version, load_run, weights_sha256
from ecc_tools.training import Progress

COMPILED = "base.pt"


def open_base(path: Path, data: DataSet, out: Path, told: Progress) -> EdgeModel:
    """An edge model's file, the one in a folder of `ecc-tools assemble`, or a run of a VGG-9, compiled into `out`.

    A run's model gets class statistics of its training frames, as a device's has, and is made once.
    `ModelError`, `RunError`, `IncrementalError`.
    """
    if not path.is_dir():
        return read_edge(path)
    if (path / CONFIG).exists():
        return _compiled(path, data, out / COMPILED, told)
    return read_edge(path / EDGE_FILE)


def _compiled(run: Path, data: DataSet, path: Path, told: Progress) -> EdgeModel:
    digest = weights_sha256(run)
    if path.exists():
        made = read_edge(path)
        if made.manifest.provenance.get("edge_weights_sha256") == digest:
            return made
    net, record = load_run(run)
    network, names = record.run.network, record.provenance.labels
    if network.kind != VGG9 or network.bottleneck:
        raise IncrementalError(f"{run} holds no plain {VGG9}, and only that becomes a device's model; give such a run")
    foreign = [name for name in names if name not in data.names]
    if foreign:
        raise IncrementalError(
            f"{run} knows the class '{foreign[0]}', which {data.name} lacks; give what it learnt from"
        )
    learn, choose = (part.of([data.names.index(name) for name in names]) for part in data.training())
    provenance = {"code": code_version(), "edge_weights_sha256": digest}
    write_model(
        path,
        cast(SpikingVgg9, net),
        choose.frames,
        choose.labels,
        names,
        provenance,
        augmentation=record.run.data.augmentation,
        learning=learn,
        progress=told,
    )
    return read_edge(path)
