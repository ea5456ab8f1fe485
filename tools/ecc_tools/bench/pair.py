"""What a bench of edge and cloud begins with: two models that fit each other, and labelled frames of their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ecc_cloud.model import CloudModel
from ecc_model.bits import Spikes
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel, read_edge
from ecc_model.rates import RateTable, agreed
from ecc_tools.batched import in_chunks
from ecc_tools.bench.encoders import encoder_index
from ecc_tools.collaborate.labelled import Labelled, check_classes, open_labelled
from ecc_tools.collaborate.observe import check_pair
from ecc_tools.frame_by_frame import encode


class Pair(NamedTuple):
    """An edge model and the worker's, one of the edge's encoders, and what both are shown."""

    model: EdgeModel
    worker: CloudModel
    labelled: Labelled
    encoder: int

    @property
    def name(self) -> bytes:
        """What a request of this encoder is called."""
        return self._agreed()[0]

    @property
    def table(self) -> RateTable | None:
        """The rate table that both have."""
        return self._agreed()[1]

    def codes(self, frames: Pixels) -> Spikes:
        """What the encoder makes of frames (N, H, W, C): (N, T, C', H', W')."""
        return encode(self.model.program, frames, self.encoder)

    def answers(self, codes: Spikes) -> list[Any]:
        """The worker's logits for each of the codes (N, t, C', H', W')."""
        decoder = self.worker.encoders[self.name].decoder
        return [row for chunk in in_chunks(codes) for row in self.worker.features(list(chunk), decoder)]

    def _agreed(self) -> tuple[bytes, RateTable | None]:
        features_id = self.model.program.features_ids[self.encoder]
        return agreed(features_id, self.model.tables[self.encoder], self.worker.encoders)


def open_pair(
    edge: Path,
    cloud: Path,
    data: str,
    root: Path | None,
    part: str = "test",
    *,
    encoder: str | None = None,
    sends: tuple[str, ...] = ("features",),
) -> Pair:
    """Errors: `read_edge`, `CloudModel`, `open_labelled`, `encoder_index`, `check_classes`, `check_pair` of `sends`.

    encoder: its name; None is the first one.
    """
    model = read_edge(edge)
    pair = Pair(model, CloudModel(cloud), open_labelled(data, root, part), encoder_index(model, encoder))
    for send in sends:
        check_pair(pair.model, pair.worker, send, pair.encoder)
    check_classes(pair.labelled, pair.worker.labels)
    return pair
