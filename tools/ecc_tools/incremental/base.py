"""The model file that a comparison begins with: given, or made of a training run."""

from __future__ import annotations

from pathlib import Path

from ecc_model.modelfile import EdgeModel, read_edge
from ecc_tools.assembling import EDGE_FILE
from ecc_tools.data.parts import DataSet
from ecc_tools.edge_run import open_edge_run, write_run
from ecc_tools.runs import is_run, weights_sha256
from ecc_tools.training import Progress

COMPILED = "base.pt"


def open_base(path: Path, data: DataSet, out: Path, told: Progress) -> EdgeModel:
    """An edge model's file, the one in a folder of `ecc-tools assemble`, or a run of a VGG-9, compiled into `out`.

    A run's model gets class statistics of its training frames, as a device's has, and is made once.
    `ModelError`, `RunError`.
    """
    if not path.is_dir():
        return read_edge(path)
    if is_run(path):
        return _compiled(path, data, out / COMPILED, told)
    return read_edge(path / EDGE_FILE)


def _compiled(run: Path, data: DataSet, path: Path, told: Progress) -> EdgeModel:
    digest = weights_sha256(run)
    if path.exists():
        made = read_edge(path)
        if made.manifest.provenance.get("edge_weights_sha256") == digest:
            return made
    write_run(path, open_edge_run(run, data), told)
    return read_edge(path)
