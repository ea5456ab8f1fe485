"""What a bench of edge and cloud begins with: two models that fit each other, and labelled frames of their classes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ecc_cloud.model import CloudModel
from ecc_model.modelfile import EdgeModel, read_edge
from ecc_tools.collaborate.labelled import Labelled, check_classes, open_labelled
from ecc_tools.collaborate.observe import check_pair


class Pair(NamedTuple):
    """An edge model, the worker's, and what both are shown."""

    model: EdgeModel
    worker: CloudModel
    labelled: Labelled


def open_pair(
    edge: Path, cloud: Path, data: str, root: Path | None, part: str = "test", sends: tuple[str, ...] = ("features",)
) -> Pair:
    """Errors: `read_edge`, `CloudModel`, `open_labelled`, `check_classes`, and `check_pair` for each of `sends`."""
    pair = Pair(read_edge(edge), CloudModel(cloud), open_labelled(data, root, part))
    for send in sends:
        check_pair(pair.model, pair.worker, send)
    check_classes(pair.labelled, pair.worker.labels)
    return pair
